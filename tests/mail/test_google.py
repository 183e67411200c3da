"""GoogleMailbox keeps the contract of a mailbox, and what only concerns Google."""

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import httpx
import pytest
from flask import Flask

from server.domain.marks import MARKS, MarkId, reason_category
from server.domain.message import parse
from server.domain.mime import clean
from server.errors import Forbidden, NeedsReauth, RateLimited, Rejected, Transient
from server.mail import IdForm
from server.mail.google import COLORS, LABELS, GoogleMailbox
from server.mail.google_calls import Budget, Calls, describe
from server.transport import Gateway, Reply
from simulator import google
from simulator.google import GoogleService, service_of
from simulator.google_discovery import Description
from simulator.google_identity import Grant
from simulator.google_mail import adopt, gmail_id
from simulator.serving import Port
from simulator.world import Category, StoredMessage, World
from tests.mail.contract import NAMES, MailboxContract, Remote, mime

PRESETS = {f"{background} {text}": preset for preset, (background, text) in COLORS.items()}


INLINE_IMAGE = (
    'Content-Type: image/png; name="logo.png"\r\nContent-Disposition: inline; filename="logo.png"\r\n'
    "Content-ID: <logo>\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo="
)


def multipart(*parts: str) -> bytes:
    body = "".join(f"--b\r\n{part}\r\n" for part in parts)
    head = mime().decode().partition("Content-Type")[0]
    return f"{head}MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n{body}--b--\r\n".encode()


class Tenant:
    """Stands between the port, which lives long, and the World, which is new for each test. A token is an address."""

    world: World
    revoked: bool = False
    scopes: frozenset[str] = frozenset({"gmail.modify"})

    def grant(self, token: str) -> Grant | None:
        person = self.world.person(token)
        return None if self.revoked or person is None else Grant(person, self.scopes)


class GoogleRemote(Remote):
    """The back door in Gmail's terms: categories are labels, which exist before a message can carry them.

    Colours are told as the presets that stand for them.
    """

    @property
    def master(self) -> dict[str, str]:
        return {label.name: PRESETS.get(label.color, label.color) for label in self.state.categories.values()}

    def label(self, name: str) -> Category:
        return next(label for label in self.state.categories.values() if label.name == name)

    def rename(self, name: str, new: str) -> None:
        self.label(name).name = new
        for message in self.state.messages.values():
            message.categories = [new if own == name else own for own in message.categories]

    def delete(self, name: str) -> None:
        del self.state.categories[self.label(name).id]
        for message in self.state.messages.values():
            message.categories = [own for own in message.categories if own != name]

    def receive(self, mime: bytes, *, hours_ago: float = 0) -> StoredMessage:
        message = StoredMessage(mime, self.state.folder("inbox").id, self.world.now() - timedelta(hours=hours_ago))
        message.immutable_id = message.ews_id = message.conversation_id = gmail_id(message.immutable_id)
        self.state.messages[message.immutable_id] = message
        return message

    def add_category(self, name: str, color: str) -> Category:
        pair = COLORS.get(color)
        number = max((int(i.removeprefix("Label_")) for i in self.state.categories), default=0) + 1
        label = Category(f"Label_{number}", name, " ".join(pair) if pair else "none")
        self.state.categories[label.id] = label
        return label

    def move(self, message: StoredMessage, well_known: str) -> None:
        message.folder = self.state.folder(well_known).id

    def categorize(self, message: StoredMessage, *names: str) -> None:
        for name in names:
            if name not in self.master:
                self.add_category(name, "none")
        super().categorize(message, *names)

    def ids(self, message: StoredMessage) -> dict[IdForm, str]:
        return {"rest": message.immutable_id, "gmail": f"msg-f:{int(message.immutable_id, 16)}"}


@pytest.fixture(scope="module")
def tenant() -> Tenant:
    return Tenant()


@pytest.fixture(scope="module")
def app(tenant: Tenant) -> Flask:
    return google.create_app(lambda: tenant.world, tenant.grant)


@pytest.fixture(scope="module")
def service(app: Flask) -> GoogleService:
    return service_of(app)


@pytest.fixture(scope="module")
def port(app: Flask) -> Iterator[Port]:
    with Port(app) as port:
        yield port


@pytest.fixture
def remote(tenant: Tenant, world: World) -> GoogleRemote:
    tenant.world, tenant.revoked, tenant.scopes = world, False, Tenant.scopes
    adopt(world, world.people[0])
    revoke, labels = (lambda: setattr(tenant, "revoked", True)), "POST /gmail/v1/users/me/labels"
    return GoogleRemote(world, "google", world.people[0], revoke, marking="/modify", creating=labels)


@pytest.fixture
def open_mailbox(gateway: Gateway, port: Port, remote: GoogleRemote, sleeps: list[float]) -> Callable[..., GoogleMailbox]:
    service = describe(port.url)

    def open_mailbox(
        known_labels: Mapping[MarkId, str] | None = None, gateway: Gateway = gateway, **options: Any
    ) -> GoogleMailbox:
        given = {"url": port.url, "service": service, "get_token": lambda: remote.person.email, "sleep": sleeps.append}
        return GoogleMailbox(Calls(gateway, **given | options), known_labels=known_labels)

    return open_mailbox


@pytest.fixture
def mailbox(open_mailbox: Callable[..., GoogleMailbox]) -> GoogleMailbox:
    return open_mailbox()


@pytest.fixture
def spent(port: Port, service: GoogleService, remote: GoogleRemote) -> Callable[[], tuple[int, int]]:
    """Tell how many requests and quota units were spent since it was last asked."""
    seen = [0, 0]

    def spent() -> tuple[int, int]:
        before = tuple(seen)
        seen[:] = len(remote.world.requests("google")), service.units(remote.person)
        return seen[0] - before[0], seen[1] - before[1]

    return spent


@pytest.fixture
def shown(port: Port, remote: GoogleRemote) -> Callable[[str], str]:
    """Tell how Gmail's list of labels shows a label."""

    def shown(name: str) -> str:
        answer = httpx.get(f"{port.url}/gmail/v1/users/me/labels", headers={"Authorization": f"Bearer {remote.person.email}"})
        return next(str(label["labelListVisibility"]) for label in answer.json()["labels"] if label["name"] == name)

    return shown


class MeddlingGateway(Gateway):
    """Lets somebody else act just before the first request whose address holds `match`."""

    match = ""
    act: Callable[[], object] | None = None

    def send(self, method: str, url: str, **options: Any) -> Reply:
        if self.act is not None and self.match in url:
            self.act, act = None, self.act
            act()
        return super().send(method, url, **options)


@pytest.fixture
def meddling(gateway: Gateway, open_mailbox: Callable[..., GoogleMailbox]) -> Callable[..., GoogleMailbox]:
    def meddling(match: str, act: Callable[[], object]) -> GoogleMailbox:
        meddler = MeddlingGateway("Gmail", timeout_s=10, ssl_context=gateway._ssl)
        meddler.match, meddler.act = match, act
        return open_mailbox(gateway=meddler)

    return meddling


class TestGoogle(MailboxContract):
    foreign_id_form = "ews"
    has_item_class = False
    replaces_marks = False


# What a call costs


def test_each_question_takes_few_requests_and_units(
    mailbox: GoogleMailbox, remote: GoogleRemote, port: Port, spent: Callable[[], tuple[int, int]]
) -> None:
    names = mailbox.ensure_marks(LABELS)
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


# Labels


def test_colours_are_of_gmails_palette() -> None:
    palette = Description("gmail.v1").palette
    assert {mark.color for mark in MARKS.values()} <= COLORS.keys()
    assert {color for pair in COLORS.values() for color in pair} <= palette


def test_labels_make_a_tree_whose_parents_come_first(mailbox: GoogleMailbox, remote: GoogleRemote) -> None:
    assert mailbox.ensure_marks({"error": "Mein SAP/Mails/Fehler"}) == {"error": "Mein SAP/Mails/Fehler"}
    assert mailbox.ensure_marks({"saved": LABELS["saved"], "share": LABELS["share"]}).keys() == {"saved", "share"}
    made = [event.detail["name"] for event in remote.world.events("google", "master_create")]
    assert made == ["Mein SAP", "Mein SAP/Mails", "Mein SAP/Mails/Fehler", "SAP E-Mails", "SAP E-Mails/Saved"]
    assert (remote.master["Mein SAP"], remote.master["Mein SAP/Mails/Fehler"]) == ("none", MARKS["error"].color)


def test_another_language_renames_the_labels_and_keeps_them_on_messages(mailbox: GoogleMailbox, remote: GoogleRemote) -> None:
    message = remote.case("known_contact")
    mailbox.set_mark(message.immutable_id, "saved", names=mailbox.ensure_marks(LABELS))
    german = {mark: name.replace("SAP E-Mails/", "SAP-Mails/") for mark, name in LABELS.items()} | {"saved": "SAP-Mails/Sicher"}
    assert mailbox.ensure_marks(german)["saved"] == "SAP E-Mails/Saved"  # the English name is ours, too: used as it is
    remote.rename("SAP E-Mails/Saved", "Archive")
    assert mailbox.ensure_marks(german)["saved"] == "SAP-Mails/Sicher"
    assert message.categories == ["SAP-Mails/Sicher"]
    assert "SAP-Mails" in remote.master


def test_a_renamed_or_deleted_label_is_restored_by_its_id(
    open_mailbox: Callable[..., GoogleMailbox], remote: GoogleRemote
) -> None:
    message = remote.case("known_contact")
    first = open_mailbox()
    names = first.ensure_marks(LABELS)
    first.set_mark(message.immutable_id, "saved", names=names)
    remote.rename("SAP E-Mails/Saved", "Archive")
    remote.delete("SAP E-Mails/Pending")
    later = open_mailbox(known_labels=first.label_ids)
    assert later.set_mark(message.immutable_id, "error", names=names).categories == ("SAP E-Mails/Sync Error",)
    assert later.ensure_marks(LABELS) == LABELS
    assert remote.label("SAP E-Mails/Saved").id == first.label_ids["saved"] == later.label_ids["saved"]
    assert remote.label("SAP E-Mails/Pending").id == later.label_ids["pending"] != first.label_ids["pending"]
    assert "Archive" not in remote.master


def test_a_label_that_took_the_name_of_a_renamed_one_is_used(
    open_mailbox: Callable[..., GoogleMailbox], remote: GoogleRemote
) -> None:
    first = open_mailbox()
    first.ensure_marks(LABELS)
    remote.rename("SAP E-Mails/Saved", "Archive")
    other = remote.add_category("SAP E-Mails/Saved", "none")
    later = open_mailbox(known_labels=first.label_ids)
    assert later.ensure_marks(LABELS) == LABELS
    assert later.label_ids["saved"] == other.id
    assert "Archive" in remote.master


def test_a_label_deleted_in_the_middle_of_marking_is_made_anew(
    meddling: Callable[..., GoogleMailbox], remote: GoogleRemote
) -> None:
    message = remote.case("known_contact")
    mailbox = meddling("/modify", lambda: remote.delete("SAP E-Mails/Saved"))
    names = mailbox.ensure_marks(LABELS)
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

        def answered(media_type: str, body: str) -> GoogleMailbox:
            told[:] = media_type, body
            return GoogleMailbox(Calls(gateway, url=port.url, service=describe(port.url), get_token=lambda: "token"))

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
