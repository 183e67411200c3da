"""GoogleMailbox keeps the contract of a mailbox, and what only concerns Google."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from server.domain.marks import FOLDERS, MARKS, names_for, reason_category
from server.domain.message import parse
from server.domain.mime import clean
from server.errors import Forbidden, NeedsReauth, NotFound, RateLimited, Rejected, Transient
from server.mail import Marked
from server.mail.google import GoogleMailbox
from server.mail.google.calls import Budget, Calls, describe
from server.mail.google.labels import COLORS
from server.transport import Gateway
from simulator.google.discovery import Description
from simulator.google.identity import subject
from simulator.serving import Port
from tests.mail.contract import NAMES, MailboxContract, mime, names_in
from tests.mail.google.remote import GoogleRemote, Tenant

LABELS = names_for({"labels"})
INLINE_IMAGE = (
    'Content-Type: image/png; name="logo.png"\r\nContent-Disposition: inline; filename="logo.png"\r\n'
    "Content-ID: <logo>\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo="
)


def multipart(*parts: str) -> bytes:
    body = "".join(f"--b\r\n{part}\r\n" for part in parts)
    head = mime().decode().partition("Content-Type")[0]
    return f"{head}MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n{body}--b--\r\n".encode()


class TestGoogle(MailboxContract):
    foreign_id_form = "ews"
    has_item_class = False
    replaces_marks = False
    idle_requests = 2  # Gmail and the People API are two services


# What a call costs


def test_each_question_takes_few_requests_and_units(
    mailbox: GoogleMailbox, remote: GoogleRemote, port: Port, spent: Callable[[], tuple[int, int]]
) -> None:
    names = names_in(mailbox.ensure_marks(LABELS))
    copies = [remote.receive(mime("<copied@example.com>")) for _ in range(3)]
    spent()
    mailbox.head(copies[0].immutable_id)
    assert spent() == (1, 21)
    mailbox.set_mark(copies[0].immutable_id, "saved", names=names)
    assert spent() == (2, 26)
    mailbox.set_mark(copies[0].immutable_id, "saved", names=names)
    assert spent() == (1, 21)
    mailbox.find("<copied@example.com>")
    assert spent() == (2, 66)
    mailbox.mime(copies[0].immutable_id, max_bytes=10**6)
    assert spent() == (1, 20)
    mailbox.ensure_marks(LABELS)
    assert spent() == (2, 5)


def test_a_hundred_messages_are_marked_in_three_requests(
    mailbox: GoogleMailbox, remote: GoogleRemote, spent: Callable[[], tuple[int, int]]
) -> None:
    names = names_in(mailbox.ensure_marks(LABELS))
    refs = [remote.receive(mime()).immutable_id for _ in range(100)]
    spent()
    mailbox.set_marks(refs, "saved", names=names)
    assert spent() == (3, 1 + 100 * 5)  # the labels, and a modify for each in two batches; to read each would be 2,000 units
    assert mailbox.set_marks(refs[:1], None, names=names)[refs[0]] == Marked(mailbox.head(refs[0]).etag, ())


def test_a_mailbox_that_spent_its_budget_waits_or_says_when(
    open_mailbox: Callable[..., GoogleMailbox], remote: GoogleRemote, sleeps: list[float]
) -> None:
    now = [0.0]
    mailbox = open_mailbox(budget=Budget(per_second=10, burst=42, clock=lambda: now[0]))
    message = remote.case("known_contact").immutable_id
    mailbox.head(message)
    mailbox.head(message)
    assert sleeps == []
    mailbox.head(message)
    assert sleeps == [pytest.approx(2.1)]
    with pytest.raises(RateLimited) as caught:
        [mailbox.head(message) for _ in range(2)]
    assert caught.value.retry_after_s == pytest.approx(6.3)
    assert len(remote.world.requests("google")) == 4
    now[0] = 60
    mailbox.head(message)
    assert len(remote.world.requests("google")) == 5


def test_the_budget_stays_below_googles_quota_for_a_minute() -> None:
    now = [0.0]
    budget = Budget(clock=lambda: now[0])
    spent = 0
    while now[0] < 60:
        now[0] += budget.reserve(21, 5)
        spent += 21
    assert spent < 5000


# Quota answers


@pytest.mark.parametrize("kind", ["rateLimitExceeded", "userRateLimitExceeded", "throttled"])
def test_going_too_fast_is_waited_out_and_then_the_callers_to_wait(
    mailbox: GoogleMailbox, remote: GoogleRemote, sleeps: list[float], kind: str
) -> None:
    message = remote.case("known_contact").immutable_id
    remote.fail(kind, match="GET /gmail/v1/users/me/messages", times=2)
    mailbox.head(message)
    parts = [access.parts or (access.path,) for access in remote.world.requests("google")]
    assert [len(p) for p in parts] == [2, 1, 1]  # only the part that was refused is asked again
    remote.fail(kind, times=None)
    for call in (lambda: mailbox.head(message), lambda: mailbox.set_mark(message, "saved", names=NAMES)):
        sleeps.clear()
        with pytest.raises(RateLimited):
            call()
        assert 0 < sum(sleeps) <= 5


def test_a_days_quota_is_not_asked_for_again_at_once(mailbox: GoogleMailbox, remote: GoogleRemote, sleeps: list[float]) -> None:
    remote.fail("dailyLimitExceeded", times=None)
    with pytest.raises(RateLimited) as caught:
        mailbox.find("<a@example.com>")
    assert (caught.value.retry_after_s, sleeps) == (3600, [])


def test_a_scope_that_was_not_granted_is_forbidden_at_once(
    mailbox: GoogleMailbox, tenant: Tenant, remote: GoogleRemote, sleeps: list[float]
) -> None:
    tenant.scopes = frozenset({"gmail.readonly"})
    message = remote.case("known_contact").immutable_id
    assert mailbox.head(message).ref == message
    with pytest.raises(Forbidden) as caught:
        mailbox.set_mark(message, "saved", names=NAMES)
    assert (caught.value.code, str(caught.value.__cause__), sleeps) == ("mailbox_forbidden", "403 insufficientPermissions", [])


def test_check_names_the_permission_that_is_missing(
    open_mailbox: Callable[..., GoogleMailbox], tenant: Tenant, remote: GoogleRemote, spent: Callable[[], tuple[int, int]]
) -> None:
    mailbox = open_mailbox()
    spent()
    assert mailbox.check().account == subject(remote.person)
    assert spent()[0] == 2
    tenant.scopes = frozenset({"gmail.readonly", "contacts"})
    with pytest.raises(Forbidden, match=r"Gmail was not given the permission .*gmail\.modify"):
        mailbox.check()
    for granted in ("contacts.readonly", "openid"):
        tenant.scopes = frozenset({"gmail.modify", granted})
        with pytest.raises(Forbidden, match=r"Google Contacts was not given the permission .*contacts"):
            mailbox.check()


# Many at once


def test_a_message_that_is_busy_for_a_moment_is_marked_with_the_others(
    mailbox: GoogleMailbox, remote: GoogleRemote, sleeps: list[float]
) -> None:
    names = names_in(mailbox.ensure_marks(LABELS))
    refs = [remote.receive(mime()).immutable_id for _ in range(3)]
    remote.fail("throttled", match=f"{refs[1]}/modify", retry_after_s=1)
    outcome = mailbox.set_marks(refs, "saved", names=names)
    assert {ref: getattr(marked, "categories", None) for ref, marked in outcome.items()} == dict.fromkeys(refs, (names["saved"],))
    assert len(sleeps) == 1
    remote.fail("rateLimitExceeded", match=f"{refs[1]}/modify", times=None)
    with pytest.raises(RateLimited):
        mailbox.set_marks(refs, "pending", names=names)


def test_a_label_deleted_in_the_middle_of_marking_many_is_made_anew(
    meddling: Callable[..., GoogleMailbox], remote: GoogleRemote
) -> None:
    names = names_in(meddling("nothing", lambda: None).ensure_marks(LABELS))
    messages = [remote.receive(mime()) for _ in range(3)]
    mailbox = meddling("/batch/", lambda: remote.delete_category(names["saved"]))
    outcome = mailbox.set_marks([m.immutable_id for m in messages], "saved", names=names)
    assert {type(marked) for marked in outcome.values()} == {Marked}
    assert [m.categories for m in messages] == [[names["saved"]]] * 3


def test_reasons_of_years_are_taken_off_all_the_same(mailbox: GoogleMailbox, remote: GoogleRemote) -> None:
    for number in range(101):
        remote.add_category(reason_category(f"Reason {number}"), "none")
    messages = [remote.receive(mime()) for _ in range(2)]
    remote.categorize(messages[0], LABELS["error"], reason_category("Reason 100"))
    outcome = mailbox.set_marks([*(m.immutable_id for m in messages), "123"], "saved", names=LABELS)
    assert [type(one) for one in outcome.values()] == [Marked, Marked, NotFound]
    assert [m.categories for m in messages] == [[LABELS["saved"]]] * 2


@pytest.mark.parametrize("kind", ["acted_drop", "garbage"])
def test_an_answer_lost_while_marking_many_is_settled_by_doing_it_again(
    mailbox: GoogleMailbox, remote: GoogleRemote, kind: str
) -> None:
    refs = [remote.receive(mime()).immutable_id for _ in range(3)]
    names = names_in(mailbox.ensure_marks(LABELS))
    for match, asked in (("/batch/", refs), ("/modify", refs[:1])):
        mailbox.set_marks(refs, None, names=names)
        remote.fail(kind, match=match)
        marked = mailbox.set_marks(asked, "saved", names=names)
        assert [getattr(one, "categories", None) for one in marked.values()] == [(names["saved"],)] * len(asked)


# Places


def test_what_was_sent_stays_so_and_nothing_else_becomes_it(mailbox: GoogleMailbox, remote: GoogleRemote) -> None:
    emails = mailbox.ensure_folders({"emails": FOLDERS["emails"]})["emails"].ref
    sent, received = remote.receive(mime(), place="sentitems"), remote.receive(mime())
    remote.categorize(sent, FOLDERS["emails"])
    mailbox.move(sent.immutable_id, "sent")
    assert (sent.categories, remote.place_of(sent)) == ([], "sentitems")
    mailbox.move(sent.immutable_id, emails)
    assert (sent.categories, remote.place_of(sent)) == ([FOLDERS["emails"]], "sentitems")
    with pytest.raises(Rejected, match="only what was sent"):
        mailbox.move(received.immutable_id, "sent")


def test_the_label_of_our_folder_deleted_in_the_middle_of_moving_raises_not_found(
    meddling: Callable[..., GoogleMailbox], remote: GoogleRemote
) -> None:
    message = remote.receive(mime())
    mailbox = meddling("/modify", lambda: remote.delete_category(FOLDERS["emails"]))
    emails = mailbox.ensure_folders({"emails": FOLDERS["emails"]})["emails"].ref
    with pytest.raises(NotFound):
        mailbox.move(message.immutable_id, emails)
    assert remote.place_of(message) == "inbox"


@pytest.mark.parametrize("kind", ["acted_drop", "garbage"])
def test_an_answer_lost_while_moving_a_message_is_settled_by_reading_again(
    mailbox: GoogleMailbox, remote: GoogleRemote, kind: str
) -> None:
    message = remote.receive(mime())
    emails = mailbox.ensure_folders({"emails": FOLDERS["emails"]})["emails"].ref
    remote.fail(kind, match="/modify")
    mailbox.move(message.immutable_id, emails)
    assert remote.place_of(message) == emails
    remote.fail("garbage", match="/modify", times=None)
    with pytest.raises(Transient):
        mailbox.move(message.immutable_id, "inbox")


# Labels


def test_colours_are_of_gmails_palette() -> None:
    palette = Description("gmail.v1").palette
    assert {mark.color for mark in MARKS.values()} <= COLORS.keys()
    assert {color for pair in COLORS.values() for color in pair} <= palette


def test_labels_make_a_tree_whose_parents_come_first(mailbox: GoogleMailbox, remote: GoogleRemote) -> None:
    assert names_in(mailbox.ensure_marks({"error": "Mein SAP/Mails/Fehler"})) == {"error": "Mein SAP/Mails/Fehler"}
    assert names_in(mailbox.ensure_marks({"saved": LABELS["saved"], "share": LABELS["share"]})).keys() == {"saved", "share"}
    made = [event.detail["name"] for event in remote.world.events("google", "master_create")]
    assert made == ["Mein SAP", "Mein SAP/Mails", "Mein SAP/Mails/Fehler", "SAP E-Mails", "SAP E-Mails/Saved"]
    assert (remote.master["Mein SAP"], remote.master["Mein SAP/Mails/Fehler"]) == ("none", MARKS["error"].color)


def test_another_language_renames_the_labels_and_keeps_them_on_messages(mailbox: GoogleMailbox, remote: GoogleRemote) -> None:
    message = remote.case("known_contact")
    mailbox.set_mark(message.immutable_id, "saved", names=names_in(mailbox.ensure_marks(LABELS)))
    german = {mark: name.replace("SAP E-Mails/", "SAP-Mails/") for mark, name in LABELS.items()} | {"saved": "SAP-Mails/Sicher"}
    assert names_in(mailbox.ensure_marks(german))["saved"] == "SAP E-Mails/Saved"  # the English name is ours, too: used as it is
    remote.rename_category("SAP E-Mails/Saved", "Archive")
    assert names_in(mailbox.ensure_marks(german))["saved"] == "SAP-Mails/Sicher"
    assert message.categories == ["SAP-Mails/Sicher"]
    assert "SAP-Mails" in remote.master


def test_a_renamed_or_deleted_label_is_restored_by_its_id(
    open_mailbox: Callable[..., GoogleMailbox], remote: GoogleRemote
) -> None:
    message = remote.case("known_contact")
    first = open_mailbox()
    made = first.ensure_marks(LABELS)
    refs = {mark: category.ref for mark, category in made.items()}
    first.set_mark(message.immutable_id, "saved", names=names_in(made))
    remote.rename_category("SAP E-Mails/Saved", "Archive")
    remote.delete_category("SAP E-Mails/Pending")
    assert first.set_mark(message.immutable_id, "error", names=names_in(made)).categories == ("SAP E-Mails/Sync Error",)
    later = open_mailbox().ensure_marks(LABELS, known=refs)
    assert names_in(later) == LABELS
    assert remote.label("SAP E-Mails/Saved").id == later["saved"].ref == refs["saved"]
    assert remote.label("SAP E-Mails/Pending").id == later["pending"].ref != refs["pending"]
    assert "Archive" not in remote.master


def test_a_label_that_took_the_name_of_a_renamed_one_is_used(
    open_mailbox: Callable[..., GoogleMailbox], remote: GoogleRemote
) -> None:
    refs = {mark: category.ref for mark, category in open_mailbox().ensure_marks(LABELS).items()}
    remote.rename_category("SAP E-Mails/Saved", "Archive")
    other = remote.add_category("SAP E-Mails/Saved", "none")
    later = open_mailbox().ensure_marks(LABELS, known=refs)
    assert names_in(later) == LABELS
    assert later["saved"].ref == other.id
    assert "Archive" in remote.master


def test_a_label_deleted_in_the_middle_of_marking_is_made_anew(
    meddling: Callable[..., GoogleMailbox], remote: GoogleRemote
) -> None:
    message = remote.case("known_contact")
    mailbox = meddling("/modify", lambda: remote.delete_category("SAP E-Mails/Saved"))
    names = names_in(mailbox.ensure_marks(LABELS))
    marked = mailbox.set_mark(message.immutable_id, "saved", names=names)
    assert marked.categories == tuple(message.categories) == ("SAP E-Mails/Saved",)
    assert remote.master["SAP E-Mails/Saved"] == MARKS["saved"].color


def test_a_message_deleted_in_the_middle_of_finding_is_left_out(
    meddling: Callable[..., GoogleMailbox], remote: GoogleRemote
) -> None:
    first, second = (remote.receive(mime("<copied@example.com>")) for _ in range(2))
    mailbox = meddling("/batch/", lambda: remote.state.messages.pop(first.immutable_id))
    assert [head.ref for head in mailbox.find("<copied@example.com>")] == [second.immutable_id]


def test_the_label_of_a_reason_does_not_fill_the_list_of_labels(
    mailbox: GoogleMailbox, remote: GoogleRemote, shown: Callable[[str], str]
) -> None:
    message = remote.case("known_contact")
    mailbox.set_mark(message.immutable_id, "error", reason="C4C is locked / read only", names=LABELS)
    assert message.categories == ["SAP E-Mails/Sync Error", reason_category("C4C is locked / read only")]
    assert "SSI: C4C is locked " not in remote.master  # no parent for a slash in a sentence
    assert shown(reason_category("C4C is locked / read only")) == "labelHide"
    assert shown("SAP E-Mails/Sync Error") == "labelShow"


def test_a_name_that_gmail_reserves_is_rejected(mailbox: GoogleMailbox) -> None:
    with pytest.raises(Rejected, match="400 invalidArgument"):
        mailbox.ensure_marks({"saved": "Inbox"})


def test_marking_leaves_the_systems_labels_alone(mailbox: GoogleMailbox, remote: GoogleRemote) -> None:
    message = remote.case("known_contact")
    message.is_read = False
    mailbox.set_mark(message.immutable_id, "saved", names=LABELS)
    assert (message.is_read, remote.state.folders[message.folder].well_known) == (False, "inbox")
    assert mailbox.head(message.immutable_id).categories == ("SAP E-Mails/Saved",)


# Reading


@pytest.mark.parametrize("message_id", ["x OR in:anywhere", "<a b@example.com>", "", "<>"])
def test_a_message_id_never_becomes_another_search(mailbox: GoogleMailbox, remote: GoogleRemote, message_id: str) -> None:
    assert mailbox.find(message_id) == []
    assert remote.world.requests("google") == []


def test_an_encoded_subject_is_read(mailbox: GoogleMailbox, remote: GoogleRemote) -> None:
    stored = remote.receive(mime(subject="=?utf-8?B?UHJlaXPDvGJlcnNpY2h0?="))
    assert mailbox.head(stored.immutable_id).subject == "Preisübersicht"


def test_a_plain_message_has_no_attachments(mailbox: GoogleMailbox, remote: GoogleRemote) -> None:
    assert not mailbox.head(remote.receive(mime()).immutable_id).has_attachments


def test_an_image_within_the_text_is_no_attachment(mailbox: GoogleMailbox, remote: GoogleRemote) -> None:
    parts = ["Content-Type: text/html\r\n\r\n<img src=cid:logo>", INLINE_IMAGE]
    assert not mailbox.head(remote.receive(multipart(*parts)).immutable_id).has_attachments
    parts.append("Content-Type: message/rfc822\r\n\r\nSubject: Within\r\n\r\nText")
    assert mailbox.head(remote.receive(multipart(*parts)).immutable_id).has_attachments


@pytest.mark.soak
def test_every_message_of_the_demo_is_read(mailbox: GoogleMailbox, remote: GoogleRemote) -> None:
    for stored in remote.state.messages.values():
        head = mailbox.head(stored.immutable_id)
        parsed = parse(stored.mime).message
        assert (clean(head.subject), head.size_bytes) == (parsed.subject, len(stored.mime))
        if len(stored.mime) < 10**6:
            assert mailbox.mime(head.ref, max_bytes=10**6) == stored.mime


@pytest.fixture
def answered(gateway: Gateway) -> Iterator[Callable[[str, str], GoogleMailbox]]:
    """A mailbox at a service that gives one and the same answer, of this media type, to everything."""
    told = ["", ""]

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        start("200 OK", [("Content-Type", told[0])])
        return [told[1].encode()]

    with Port(app) as port:
        services = describe(port.url), describe(port.url, "people")

        def answered(media_type: str, body: str) -> GoogleMailbox:
            told[:] = media_type, body
            mail, people = services
            given: dict[str, Any] = {"url": port.url, "get_token": lambda: "token"}
            return GoogleMailbox(Calls(gateway, service=mail, **given), Calls(gateway, service=people, **given))

        yield answered


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [(0, "HTTP/1.1 200 OK\r\n\r\n{}")],
        [(0, "HTTP/1.1 200 OK\r\n\r\n{}"), (7, "HTTP/1.1 200 OK\r\n\r\n{}")],
        [(0, "HTTP/1.1 200 OK\r\n\r\n{}"), (1, "nothing")],
        [(0, "HTTP/1.1 200 OK\r\n\r\n{}"), (1, 'HTTP/1.1 200 OK\r\n\r\n{"id": ')],
    ],
)
def test_a_batch_that_does_not_answer_every_part_raises_transient(
    answered: Callable[[str, str], GoogleMailbox], parts: list[tuple[int, str]]
) -> None:
    body = "".join(f"--b\r\nContent-Type: application/http\r\nContent-ID: <response-{n}>\r\n\r\n{p}\r\n" for n, p in parts)
    with pytest.raises(Transient):
        answered("multipart/mixed; boundary=b", body + "--b--").head("18c")


@pytest.mark.parametrize("body", ["{}", '{"raw": null}', '{"raw": ""}', '{"raw": "?!"}', '{"raw": "QUI*"}', '{"raw": 7}', "[]"])
def test_mime_that_is_not_base64url_raises_transient(answered: Callable[[str, str], GoogleMailbox], body: str) -> None:
    with pytest.raises(Transient):
        answered("application/json", body).mime("18c", max_bytes=1000)


@pytest.mark.parametrize("body", ['{"raw": "QUI="}', '{"raw": "QUI"}'])
def test_mime_is_read_with_and_without_padding(answered: Callable[[str, str], GoogleMailbox], body: str) -> None:
    assert answered("application/json", body).mime("18c", max_bytes=1000) == b"AB"


def test_a_message_of_the_largest_size_is_read_whole(mailbox: GoogleMailbox, remote: GoogleRemote) -> None:
    stored = remote.case("too_large")
    assert len(mailbox.mime(stored.immutable_id, max_bytes=40 * 1024 * 1024)) == len(stored.mime)
    with pytest.raises(Rejected, match="larger than 1 MB"):
        mailbox.mime(stored.immutable_id, max_bytes=1024 * 1024)


def test_a_token_refused_within_a_batch_raises_needs_reauth(
    open_mailbox: Callable[..., GoogleMailbox], remote: GoogleRemote
) -> None:
    mailbox = open_mailbox(get_token=lambda: "expired")
    with pytest.raises(NeedsReauth):
        mailbox.head(remote.case("known_contact").immutable_id)
    assert [access.status for access in remote.world.requests("google")] == [200]  # Google judges each part


def test_errors_chain_what_google_said_without_content(mailbox: GoogleMailbox, remote: GoogleRemote) -> None:
    remote.leave_provider()
    with pytest.raises(Rejected) as caught:
        mailbox.head(remote.case("known_contact").immutable_id)
    assert str(caught.value.__cause__) == "400 failedPrecondition"
