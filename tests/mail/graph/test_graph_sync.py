"""What only concerns Microsoft 365 of contacts, changes and notifications; the rest is the contract's, see test_graph."""

import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from urllib.parse import unquote

import httpx
import pytest

from server.domain.contact import Contact
from server.domain.marks import FOLDERS, FolderId
from server.errors import Conflict, Forbidden, NotFound, RateLimited, Rejected, SsiError, Transient, Unknown
from server.mail import ContactEdit, ContactItem, Mailbox, NewContact, Notice, Subscription
from server.mail.graph import GraphMailbox
from simulator.graph.subscriptions import Lifecycle
from simulator.serving import Port
from simulator.world import Gate
from tests.mail.contract import mime
from tests.mail.contract_changes import HOOK, MANY, NAMES, Reader
from tests.mail.contract_contacts import ADA, after_reading, items_of, louder, people
from tests.mail.graph.remote import GraphRemote, Tenant, between
from tests.mail.remote import Remote

# Contacts


@pytest.fixture
def folders(mailbox: Mailbox) -> dict[FolderId, str]:
    return {name: folder.ref for name, folder in mailbox.ensure_folders(FOLDERS).items()}


@pytest.mark.parametrize("honoured", [True, False], ids=["if-match honoured", "if-match ignored"])
def test_two_writers_of_a_contacts_fields_lose_nothing(
    mailbox: Mailbox, open_mailbox: Callable[..., GraphMailbox], remote: Remote, folders: dict[FolderId, str], honoured: bool
) -> None:
    made = mailbox.create_contact(folders["contacts"], ADA, link="a link")
    if not honoured:
        remote.fail("if_match_ignored", times=None)

    def keep_writing(field: str, own: Mailbox) -> None:
        item = own.contact(made.ref)
        for number in range(100):
            text = f"{field} {number}"
            while getattr(item.contact, field) != text:
                try:
                    item = own.update_contact(made.ref, replace(item.contact, **{field: text}), etag=item.etag)
                except Conflict:
                    item = own.contact(made.ref)

    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(keep_writing, field, open_mailbox()) for field in ("department", "job_title")]
        for writer in writers:
            writer.result()
    assert remote.contacts(folders["contacts"]) == {made.ref: replace(ADA, department="department 99", job_title="job_title 99")}


def test_a_contact_that_is_deleted_between_reading_and_writing_raises_not_found(
    mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str]
) -> None:
    made = mailbox.create_contact(folders["contacts"], ADA, link="a link")
    with pytest.raises(NotFound):
        between(
            remote,
            lambda: mailbox.update_contact(made.ref, replace(ADA, notes=""), etag=made.etag),
            lambda: remote.drop_contact(made.ref),
        )


def test_a_request_that_acts_after_its_connection_broke_makes_no_second_contact(
    open_mailbox: Callable[..., GraphMailbox], remote: Remote, folders: dict[FolderId, str]
) -> None:
    def act_late(seconds: float) -> None:
        if seconds > 1:
            remote.put_contact(folders["contacts"], ADA, link="a link")

    remote.fail("drop", match="POST")
    made = open_mailbox(sleep=act_late).create_contact(folders["contacts"], ADA, link="a link")
    assert remote.contacts(folders["contacts"]) == {made.ref: ADA}


@pytest.mark.parametrize("status", [401, 404, 429, 503])
def test_a_contact_whose_creation_was_lost_and_cannot_be_looked_for_is_unknown(
    mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str], status: int
) -> None:
    remote.fail("acted_drop", match="POST")
    remote.fail("status", status=status, match="GET", times=None)
    with pytest.raises(Unknown):
        mailbox.create_contact(folders["contacts"], ADA, link="a link")
    assert list(remote.contacts(folders["contacts"]).values()) == [ADA]


@pytest.mark.parametrize("status", [400, 401, 404, 503])
def test_a_creation_that_was_lost_stays_unknown_whatever_the_next_try_meets(
    mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str], status: int
) -> None:
    remote.fail("drop", match="POST")
    gate = remote.world.gate = Gate(match="GET")
    with ThreadPoolExecutor(1) as pool:
        creating = pool.submit(mailbox.create_contact, folders["contacts"], ADA, link="a link")
        assert gate.reached.wait(10)
        remote.fail("status", status=status, match="POST", times=None)
        gate.open()
        with pytest.raises(Unknown):
            creating.result()


@pytest.mark.parametrize(
    ("contact", "filed"),
    [
        (Contact(company="Engines Ltd", emails=("info@engines.example",)), "Engines Ltd"),
        (Contact(emails=("info@engines.example",)), "info@engines.example"),
        (Contact(display_name="Engines"), "Engines"),
        (Contact(display_name="Ada", surname="Byron"), "Byron"),
    ],
)
def test_a_contact_without_a_name_is_filed_under_what_else_it_has(
    mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str], contact: Contact, filed: str
) -> None:
    made = mailbox.create_contact(folders["contacts"], contact, link="a link")
    assert remote.state.contacts[made.ref].properties["fileAs"] == filed


def test_second_phones_and_the_names_of_addresses_stay(mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str]) -> None:
    made = mailbox.create_contact(folders["contacts"], ADA, link="a link")
    kept = remote.state.contacts[made.ref].properties
    kept["businessPhones"] = ["+44 20 7946 0001", "+44 20 7946 0009"]
    kept["emailAddresses"] = [{"name": "Office", "address": ADA.emails[0]}]
    mailbox.update_contact(
        made.ref, replace(ADA, business_phone="+44 1", emails=("new@example.com", ADA.emails[0])), etag=made.etag
    )
    assert kept["businessPhones"] == ["+44 1", "+44 20 7946 0009"]
    assert [email["name"] for email in kept["emailAddresses"]] == [ADA.display_name, "Office"]


# Many contacts at once


def parts_of(remote: Remote, since: int) -> list[Counter[str]]:
    """The requests that came since so many had come: the methods of each one's parts."""
    return [Counter(part.split()[0] for part in access.parts) for access in remote.world.requests("graph")[since:]]


def test_twenty_contacts_are_created_by_a_request_and_updated_by_two(
    mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str]
) -> None:
    before = remote.requests()
    made = items_of(mailbox.create_contacts(folders["contacts"], people(45)))
    assert parts_of(remote, before) == [Counter(POST=20), Counter(POST=20), Counter(POST=5)]
    before = remote.requests()
    changed = items_of(mailbox.update_contacts([ContactEdit(item.ref, item.etag, louder) for item in made[:40]]))
    assert None not in {item.changed_at for item in (*made, *changed)}
    # Among the first to be read is where Deleted Items are.
    assert parts_of(remote, before)[:4] == [Counter(GET=20), Counter(PATCH=19), Counter(GET=20), Counter(PATCH=20)]


def test_contacts_with_much_text_go_in_smaller_requests(mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str]) -> None:
    notes = "n" * 900_000
    new = [NewContact(replace(one.contact, notes=notes), one.link) for one in people(5)]
    made = items_of(mailbox.create_contacts(folders["contacts"], new))
    assert max(access.request_bytes for access in remote.world.requests("graph")) < 2 * 1024 * 1024
    changed = items_of(mailbox.update_contacts([ContactEdit(item.ref, item.etag, louder) for item in made]))
    assert {item.contact.notes for item in changed} == {notes + "!"}


def test_a_long_pause_in_the_middle_is_told_of_those_that_are_left_and_nothing_more_is_asked(
    mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str]
) -> None:
    made = items_of(mailbox.create_contacts(folders["contacts"], people(3)))
    remote.fail("throttled", match=f"PATCH /v1.0/me/contacts/{made[1].ref}", retry_after_s=60, times=None)
    outcome = mailbox.update_contacts([ContactEdit(item.ref, item.etag, louder) for item in made])
    assert [type(one) for one in outcome] == [ContactItem, RateLimited, ContactItem]
    remote.heal()
    remote.fail("throttled", match="POST /v1.0/me/contactFolders", retry_after_s=60, times=1)
    before = remote.requests()
    outcome = mailbox.create_contacts(folders["accounts"], people(45))
    assert parts_of(remote, before) == [Counter(POST=20)]
    created = [one for one in outcome if isinstance(one, ContactItem)]
    assert {type(one) for one in outcome} == {ContactItem, RateLimited}
    assert remote.contacts(folders["accounts"]) == {item.ref: item.contact for item in created}
    assert len(created) == 19


@pytest.mark.parametrize("status", [429, 503])
def test_a_mailbox_that_takes_none_of_many_says_so_at_once(
    mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str], status: int
) -> None:
    (made,) = items_of(mailbox.create_contacts(folders["contacts"], people(1)))
    remote.fail("status", status=status, retry_after_s=60, match="/v1.0/me/contact", times=None)
    with pytest.raises(Transient):
        mailbox.create_contacts(folders["contacts"], people(45))
    with pytest.raises(Transient):
        mailbox.update_contacts([ContactEdit(made.ref, made.etag, louder)])


def test_what_others_change_or_delete_between_reading_and_writing_keeps_no_other(
    mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str]
) -> None:
    made = items_of(mailbox.create_contacts(folders["contacts"], people(4)))

    def meanwhile() -> None:
        remote.change_contact(made[1].ref, notes="Theirs")
        remote.drop_contact(made[2].ref)

    edits = [ContactEdit(item.ref, item.etag, after_reading(meanwhile) if n == 3 else louder) for n, item in enumerate(made)]
    outcome = mailbox.update_contacts(edits)
    assert [type(one) for one in outcome] == [ContactItem, Conflict, NotFound, ContactItem]
    assert [contact.notes for contact in remote.contacts(folders["contacts"]).values()] == ["!", "Theirs", "!"]


@pytest.mark.parametrize("kind", ["acted_drop", "garbage", "cut"])
def test_of_many_only_those_of_the_lost_answer_are_looked_for(
    mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str], kind: str
) -> None:
    new = people(45)
    gate = remote.world.gate = Gate(2, match="$batch")
    with ThreadPoolExecutor(1) as pool:
        creating = pool.submit(mailbox.create_contacts, folders["contacts"], new)
        assert gate.reached.wait(10)
        remote.fail(kind, match="$batch")
        gate.open()
        made = items_of(creating.result())
    assert [item.link for item in made] == [one.link for one in new]
    assert remote.contacts(folders["contacts"]) == {item.ref: item.contact for item in made}
    looked_for = sum(parts["GET"] for parts in parts_of(remote, 0) if not parts["POST"])
    assert looked_for <= 2 * 20 + 3


@pytest.mark.parametrize("status", [401, 404, 429, 503])
def test_many_whose_creation_was_lost_and_that_cannot_be_looked_for_are_unknown(
    mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str], status: int
) -> None:
    remote.fail("acted_drop", match="$batch")
    remote.fail("status", status=status, match="GET", times=None)
    outcome = mailbox.create_contacts(folders["contacts"], people(3))
    assert [type(one) for one in outcome] == [Unknown] * 3
    assert all(isinstance(one, SsiError) and one.__cause__ is not None for one in outcome)
    assert len(remote.contacts(folders["contacts"])) == 3


@pytest.mark.parametrize("behaviour", ["parent_ignored", "parent_refused"])
class TestWhereTheServiceDoesNotMoveContacts:
    def test_the_contact_is_made_anew_with_all_that_graph_tells_of_it(
        self, mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str], behaviour: str
    ) -> None:
        made = mailbox.create_contact(folders["contacts"], ADA, link="a link")
        remote.adorn(made.ref)
        remote.categorize_contact(made.ref, "Follow-up")
        remote.fail(behaviour, times=None)
        moved = mailbox.move_contact(made.ref, folders["accounts"], etag=mailbox.contact(made.ref).etag)
        assert moved == mailbox.contact(moved.ref)
        assert (moved.contact, moved.link, moved.categories) == (ADA, "a link", ("Follow-up",))
        assert remote.is_adorned(moved.ref)
        assert (remote.contacts(folders["contacts"]), remote.is_trashed(ADA)) == ({}, True)

    def test_a_move_that_broke_off_goes_on_and_makes_no_second_copy(
        self, mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str], behaviour: str
    ) -> None:
        made = mailbox.create_contact(folders["contacts"], ADA, link="a link")
        remote.fail(behaviour, times=None)
        remote.fail("status", status=503, match="DELETE", times=4)
        with pytest.raises(Transient):
            mailbox.move_contact(made.ref, folders["accounts"], etag=made.etag)
        remote.change_contact(made.ref, notes="changed since")
        moved = mailbox.move_contact(made.ref, folders["accounts"], etag=mailbox.contact(made.ref).etag)
        assert remote.contacts(folders["contacts"]) == {}
        assert remote.contacts(folders["accounts"]) == {moved.ref: replace(ADA, notes="changed since")}

    @pytest.mark.parametrize("link", ["a link", ""])
    @pytest.mark.parametrize("broken", ["POST", "DELETE", "PATCH"])
    def test_a_move_of_which_an_answer_is_lost_goes_on_whether_the_contact_has_a_link_or_not(
        self, mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str], behaviour: str, broken: str, link: str
    ) -> None:
        ref = remote.put_contact(folders["contacts"], ADA, link=link)
        etag = mailbox.contact(ref).etag
        remote.fail(behaviour, times=None)
        gate = remote.world.gate = Gate(match="POST /v1.0/me/contactFolders")
        with ThreadPoolExecutor(1) as pool:
            moving = pool.submit(mailbox.move_contact, ref, folders["accounts"], etag=etag)
            assert gate.reached.wait(10)
            remote.fail("acted_drop", match=broken)
            remote.fail("status", status=503, match="GET" if broken == "POST" else broken, times=4)
            gate.open()
            try:
                moved = moving.result()
            except Transient:
                current = remote.contacts(folders["contacts"])
                etag = mailbox.contact(ref).etag if current else etag
                moved = mailbox.move_contact(ref, folders["accounts"], etag=etag)
        assert remote.contacts(folders["contacts"]) == {}
        assert remote.contacts(folders["accounts"]) == {moved.ref: ADA}
        assert (moved.link, remote.link_of(moved.ref)) == (link, link)

    def test_a_contact_that_others_change_meanwhile_stays_where_it_is(
        self, mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str], behaviour: str
    ) -> None:
        made = mailbox.create_contact(folders["contacts"], ADA, link="a link")
        remote.fail(behaviour, times=None)
        with pytest.raises(Conflict):
            between(
                remote,
                lambda: mailbox.move_contact(made.ref, folders["accounts"], etag=made.etag),
                lambda: remote.change_contact(made.ref, notes="Theirs"),
                method="DELETE",
            )
        assert remote.contacts(folders["contacts"]) == {made.ref: replace(ADA, notes="Theirs")}
        assert remote.contacts(folders["accounts"]) == {}


# Changes


@pytest.mark.parametrize("behaviour", ["expand_ignored", "expand_refused"])
def test_links_are_told_where_the_service_does_not_expand_them(
    mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str], behaviour: str
) -> None:
    refs = [remote.put_contact(folders["contacts"], replace(ADA, notes=str(n)), link=f"link {n}") for n in range(25)]
    remote.fail(behaviour, times=None)
    reader = Reader(mailbox, folders)
    before = remote.requests()
    told = reader.round()
    assert {c.ref: (c.link, c.contact) for c in told.contacts} == {
        ref: (f"link {n}", replace(ADA, notes=str(n))) for n, ref in enumerate(refs)
    }
    assert remote.requests() - before <= 8
    remote.change_contact(refs[7], fax="+44 7")
    assert [(c.link, c.contact.fax) for c in reader.round().contacts] == [("link 7", "+44 7")]


def test_a_contact_that_changes_while_a_first_round_is_read_is_told_before_its_end(
    mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str]
) -> None:
    refs = [remote.put_contact(folders["contacts"], Contact(display_name=f"Person {n}")) for n in range(MANY)]
    reader = Reader(mailbox, folders)
    first = {contact.ref for contact in reader.page().contacts}
    early, late, deleted = next(ref for ref in refs if ref in first), refs[-1], refs[0]
    assert late not in first
    for ref in (early, late):
        remote.change_contact(ref, notes="changed meanwhile")
    remote.drop_contact(deleted)
    rest = reader.round()
    assert {c.ref for c in rest.contacts if c.contact.notes} >= {late}
    assert first | {c.ref for c in rest.contacts} == set(refs)
    assert [gone.ref for gone in rest.gone] == [deleted]
    assert "contacts" in rest.whole


@pytest.mark.parametrize("joined", [True, False], ids=["told in this round", "told in the next"])
def test_what_happens_to_messages_while_a_first_round_is_read_is_told(
    mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str], joined: bool
) -> None:
    marked = remote.receive(mime("<marked@example.com>"))
    remote.categorize(marked, "Follow-up")
    for number in range(MANY):
        remote.receive(mime(f"<m{number}@example.com>")).changed_at -= timedelta(days=1)
    if joined:
        remote.fail("round_joined", times=None)
    reader = Reader(mailbox, folders)
    # The mark is the oldest change but for those of the demo's own mails, so it is on the first page.
    assert marked.immutable_id in {message.ref for message in reader.page().messages}
    remote.categorize(marked)
    new = remote.receive(mime("<new@example.com>"))
    told = (*reader.round().messages, *reader.round().messages)
    assert {(m.ref, m.categories) for m in told} >= {(marked.immutable_id, ()), (new.immutable_id, ())}
    assert len(told) == 2  # and none of the many that nobody touched


@pytest.mark.parametrize("number", [2_500, pytest.param(50_000, marks=pytest.mark.soak)])
def test_a_large_folder_is_told_whole_in_few_requests_and_with_a_small_cursor(
    mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str], number: int
) -> None:
    refs = [remote.put_contact(folders["contacts"], Contact(display_name=f"Person {n}"), link=str(n)) for n in range(number)]
    reader = Reader(mailbox, folders)
    before = remote.requests()
    links = {contact.ref: contact.link for contact in reader.round().contacts}
    assert links == {ref: str(n) for n, ref in enumerate(refs)}
    assert remote.requests() - before == -(-number // 1000) + 1  # the last asks what changed meanwhile
    assert len(reader.cursor or "") < 8 * 1024


def test_pages_that_would_be_too_large_are_asked_for_in_pieces(
    mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str]
) -> None:
    notes = "n" * 100_000
    refs = {remote.put_contact(folders["contacts"], Contact(display_name=str(n), notes=notes)) for n in range(200)}
    assert {contact.ref for contact in Reader(mailbox, folders).round().contacts} == refs


def test_half_a_page_and_then_a_dropped_connection_loses_nothing(
    mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str]
) -> None:
    ref = remote.put_contact(folders["contacts"], ADA)
    reader = Reader(mailbox, folders)
    remote.fail("cut")
    assert [contact.ref for contact in reader.round().contacts] == [ref]
    remote.change_contact(ref, notes="new")
    remote.fail("cut", times=None)
    with pytest.raises(Transient):
        reader.round()
    remote.heal()
    assert [contact.contact.notes for contact in reader.round().contacts] == ["new"]


def test_of_the_owners_own_contacts_only_the_marked_ones_are_read(
    mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str]
) -> None:
    own = [remote.put_contact(remote.own_contacts, Contact(display_name=f"Person {n}", notes="private")) for n in range(MANY)]
    remote.categorize_contact(own[7], NAMES["share"])
    reader = Reader(mailbox, folders, {"share": NAMES["share"]})
    before = remote.requests()
    assert [contact.ref for contact in reader.round().contacts] == [own[7]]
    accesses = remote.world.requests("graph")[before:]
    asked = [part for access in accesses for part in (*access.parts, f"{access.method} {access.path}?{access.query}")]
    assert sum("/me/contacts/" in part for part in asked) == 1
    listed = [part for part in asked if f"/{remote.own_contacts}/contacts/delta?$select" in unquote(part)]
    assert [unquote(part).partition("?")[2] for part in listed] == ["$select=id,categories"]
    assert len(accesses) == 4  # a page of ours, two of the owner's, and the one contact


def test_marks_that_are_asked_for_later_are_told_from_the_beginning(
    mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str]
) -> None:
    ref = remote.put_contact(remote.own_contacts, ADA)
    remote.categorize_contact(ref, NAMES["share"])
    reader = Reader(mailbox, folders)
    assert reader.round().contacts == ()
    reader.marks = {"share": NAMES["share"]}
    assert [contact.contact for contact in reader.round().contacts] == [ADA]
    reader.folders = {}  # without ours it is not known which one is the owner's
    remote.change_contact(ref, notes="new")
    assert reader.round().contacts == ()


@pytest.mark.parametrize("name", ["emails", "accounts"])
def test_a_folder_that_its_owner_puts_into_deleted_items_is_not_there_any_more(
    mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str], name: FolderId
) -> None:
    reader = Reader(mailbox, folders)
    reader.round()
    remote.state.folders[folders[name]].parent = remote.state.folder("deleteditems").id
    for cursor in (reader.cursor, None):
        with pytest.raises(NotFound):
            mailbox.changes(cursor, folders=folders)
    anew = mailbox.ensure_folders(FOLDERS, known=folders)
    assert [n for n, folder in anew.items() if folder.ref != folders[n]] == [name]


# Notifications


@pytest.fixture
def subscription(mailbox: Mailbox, folders: dict[FolderId, str]) -> Subscription:
    return mailbox.subscribe(HOOK, folders=folders)


def test_a_subscription_is_an_order_for_each_place_and_folder_in_one_request(
    mailbox: Mailbox, remote: GraphRemote, folders: dict[FolderId, str]
) -> None:
    before = remote.requests()
    subscription = mailbox.subscribe(HOOK, folders=folders)
    assert remote.requests() - before == 1
    orders = remote.subscriptions.orders(remote.world)
    places = {remote.state.folder("inbox").id, remote.state.folder("sentitems").id}
    assert {order.folder for order in orders} == places | set(folders.values())
    assert all(order.immutable_ids and order.lifecycle_url == HOOK.url for order in orders)
    assert subscription.expires_at == min(order.expires_at for order in orders)
    mailbox.unsubscribe(subscription)
    assert remote.subscriptions.orders(remote.world) == []


def test_what_happens_in_the_mailbox_is_told_to_the_hook(
    mailbox: Mailbox, remote: GraphRemote, tenant: Tenant, folders: dict[FolderId, str], subscription: Subscription
) -> None:
    steps: list[Callable[[], object]] = [
        lambda: remote.receive(mime()),
        lambda: remote.receive(mime(), place="sentitems"),
        lambda: remote.put_contact(folders["accounts"], ADA),
        lambda: remote.drop_contact(next(iter(remote.contacts(folders["accounts"])))),
    ]
    for step in steps:
        step()
        remote.subscriptions.deliver(remote.world)
        assert mailbox.verify(subscription, HOOK, tenant.receiver.bodies.pop()) == {"changed"}


@pytest.mark.parametrize(
    ("event", "notice"), [("missed", "missed"), ("subscriptionRemoved", "ended"), ("reauthorizationRequired", "reauthorize")]
)
def test_what_happens_to_the_subscription_is_told_to_the_hook(
    mailbox: Mailbox, remote: GraphRemote, tenant: Tenant, subscription: Subscription, event: Lifecycle, notice: Notice
) -> None:
    remote.subscriptions.lifecycle(remote.world, event)
    (body,) = tenant.receiver.bodies
    assert mailbox.verify(subscription, HOOK, body) == {notice}


@pytest.mark.parametrize("spoil", ["secret", "one of many", "subscription", "size", "depth"])
def test_a_notification_from_somebody_else_is_refused(
    mailbox: Mailbox, remote: GraphRemote, tenant: Tenant, subscription: Subscription, spoil: str
) -> None:
    remote.receive(mime())
    remote.subscriptions.deliver(remote.world)
    (body,) = tenant.receiver.bodies
    (told,) = json.loads(body)["value"]
    bodies = {
        "secret": json.dumps({"value": [{**told, "clientState": HOOK.secret + " "}]}).encode(),
        "one of many": json.dumps({"value": [told, {**told, "clientState": "guessed"}]}).encode(),
        "subscription": json.dumps({"value": [{**told, "subscriptionId": "another"}]}).encode(),
        "size": body + b" " * 1024 * 1024,
        "depth": b"[" * 100_000,
    }
    assert mailbox.verify(subscription, HOOK, body) == {"changed"}
    with pytest.raises(Forbidden):
        mailbox.verify(subscription, HOOK, bodies[spoil])


def test_a_hook_that_does_not_answer_is_rejected_and_nothing_stays_ordered(
    mailbox: Mailbox, remote: GraphRemote, tenant: Tenant, folders: dict[FolderId, str]
) -> None:
    tenant.receiver.is_welcome = False
    with pytest.raises(Rejected):
        mailbox.subscribe(HOOK, folders=folders)
    tenant.receiver.is_welcome = True
    remote.delete_folder(folders["accounts"])
    with pytest.raises(NotFound):
        mailbox.subscribe(HOOK, folders=folders)
    assert remote.subscriptions.orders(remote.world) == []


def test_a_subscription_of_which_a_part_was_ended_is_ended_as_a_whole(
    mailbox: Mailbox, remote: GraphRemote, subscription: Subscription, port: Port
) -> None:
    first = subscription.ref.split(",")[0]
    headers = {"Authorization": f"Bearer {remote.person.email}"}
    assert httpx.delete(f"{port.url}/v1.0/subscriptions/{first}", headers=headers).status_code == 204
    with pytest.raises(NotFound):
        mailbox.renew(subscription)
    assert remote.subscriptions.orders(remote.world) == []
