"""What sessions promise about messages: what is marked is saved, once; what nobody marked only by rule; every message tells."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any, get_args

import pytest

from server.domain.marks import reason_category
from server.errors import Transient
from server.services import Deps, issues, saving, threads
from server.store import LeaseLost
from simulator.c4c.odata import SERVICE
from simulator.mime import read
from simulator.world import AccessType, Fault, Gate, World
from tests.api import Api, children, everywhere, file_names, link, numbers, row_of
from tests.sync.mailroom import Mailroom, mailroom

CREATE = "POST " + SERVICE + "EMailCollection"
UNKNOWN = "somebody@unknown.example"

soaked_elsewhere = pytest.mark.parametrize(
    "access_type",
    ["office365", *(pytest.param(t, marks=pytest.mark.soak) for t in get_args(AccessType) if t != "office365")],
    indirect=True,
)
"""The ordinary run has the other providers in the test of the whole way, and where they differ."""

Forward = Callable[..., None]
Work = Callable[[], None]


@pytest.fixture
def new(deps: Deps, me: Api) -> Mailroom:
    """The first person's mailbox, before its first session."""
    return mailroom(deps, me)


@pytest.fixture
def room(new: Mailroom, forward: Forward) -> Mailroom:
    """The same after its first session."""
    new.session()
    forward(minutes=30)
    return new


@pytest.fixture
def known(me: Api) -> str:
    """Address of a contact."""
    return str(me.item("known_contact")["from"]["address"])


# Marked messages


@everywhere
def test_a_marked_message_is_saved_once_with_its_files_linked_to_its_contact(
    room: Mailroom, world: World, known: str, forward: Forward
) -> None:
    message = room.receive(known)
    room.mark(message, "Follow-up", *share(room))
    assert room.session()["emails_saved"] == 1
    activity = room.only_activity(message)
    assert row_of(world, "ContactCollection", Email=known)["ContactID"] in numbers(world, activity)
    assert (activity["Subject"], file_names(world, activity)) == (subject(message), ["offer.pdf"])
    assert message.categories == ["Follow-up", room.me.host.saved]
    forward(minutes=30)
    assert room.session() == {}
    assert len(room.activities(message)) == 1
    assert room.issues == []


@soaked_elsewhere
def test_a_message_in_sap_emails_is_saved_and_put_back_to_where_it_came_from(room: Mailroom, known: str) -> None:
    received, sent = room.receive(known), room.receive(room.person.email, known, place="sentitems")
    for message in (received, sent):
        room.lay_in_emails(message)
    assert room.session()["emails_saved"] == 2
    assert [len(room.activities(message)) for message in (received, sent)] == [1, 1]
    assert [room.remote.place_of(message) for message in (received, sent)] == ["inbox", "sentitems"]
    assert [message.categories for message in (received, sent)] == [[room.me.host.saved]] * 2


def test_a_message_that_is_marked_and_lies_in_the_folder_is_one_activity(room: Mailroom, known: str) -> None:
    message = room.receive(known)
    room.mark(message)
    room.lay_in_emails(message)
    room.session()
    room.only_activity(message)
    assert (room.remote.place_of(message), message.categories) == ("inbox", [room.me.host.saved])


@soaked_elsewhere
def test_two_copies_of_a_message_are_one_activity_and_both_say_so(room: Mailroom, known: str) -> None:
    first = room.receive(known, message_id="<twice@letters.example>")
    second = room.receive(known, message_id="<twice@letters.example>")
    second.mime = first.mime
    for copy in (first, second):
        room.mark(copy)
    room.session()
    room.only_activity(first)
    assert [copy.categories for copy in (first, second)] == [[room.me.host.saved]] * 2


def test_a_message_that_was_saved_by_hand_only_gets_its_mark_and_keeps_what_was_chosen(
    room: Mailroom, me: Api, world: World, known: str
) -> None:
    message = room.receive(known)
    assert me.save(me.named(message.rest_id), attachments=[]).json["state"] == "saved"
    room.mark(message)
    assert "emails_saved" not in room.session()
    assert children(world, room.only_activity(message), "files") == []
    assert numbers(world, room.only_activity(message)).isdisjoint({row_of(world, "ContactCollection", Email=known)["ContactID"]})
    assert message.categories == [me.host.saved]


def test_many_messages_that_were_saved_cost_few_requests_to_mark_anew(room: Mailroom, me: Api, world: World, known: str) -> None:
    messages = [room.receive(known) for _ in range(12)]
    for message in messages:
        room.mark(message)
    room.session()
    for message in messages:
        room.mark(message)
    before = len(world.requests())
    room.session()
    assert {tuple(message.categories) for message in messages} == {(me.host.saved,)}
    assert len(world.requests()) - before <= 12


def test_marking_a_message_whose_activity_was_deleted_saves_it_anew(room: Mailroom, world: World, known: str) -> None:
    message = room.receive(known)
    room.mark(message)
    room.session()
    del world.crm.rows("EMailCollection")[room.only_activity(message)["ObjectID"]]
    room.mark(message)
    assert room.session()["emails_saved"] == 1
    room.only_activity(message)


def test_automatic_mail_is_saved_when_its_owner_marks_it(room: Mailroom, known: str) -> None:
    message = room.receive(known, Auto_Submitted="auto-replied")
    room.mark(message)
    room.session()
    room.only_activity(message)


@pytest.mark.parametrize("link_all", [False, True])
def test_a_message_is_linked_to_the_first_of_the_best_kind_or_to_all_as_the_profile_says(
    link_all: bool, room: Mailroom, me: Api, world: World, known: str
) -> None:
    customer = me.item("individual_customer")["from"]["address"]
    room.set(link_all=link_all)
    message = room.receive(customer, cc=known)
    room.mark(message)
    room.session()
    contact = row_of(world, "ContactCollection", Email=known)
    private = row_of(world, "IndividualCustomerCollection", Email=customer)["CustomerID"]
    linked = numbers(world, room.only_activity(message)) & {contact["ContactID"], contact["AccountID"], private}
    assert linked == ({contact["ContactID"], contact["AccountID"], private} if link_all else {contact["ContactID"]})


def test_files_stay_out_where_the_profile_says_so(room: Mailroom, world: World, known: str) -> None:
    room.set(save_attachments=False)
    message = room.receive(known)
    room.mark(message)
    room.session()
    assert file_names(world, room.only_activity(message)) == []


def test_where_marked_messages_are_not_saved_the_mark_goes_and_an_issue_says_why(
    room: Mailroom, known: str, forward: Forward
) -> None:
    room.set(save_marked=False)
    message = room.receive(known)
    room.mark(message, "Follow-up", *share(room))
    room.session()
    assert (room.activities(message), message.categories) == ([], ["Follow-up"])
    (told,) = room.issues
    assert (told.code, told.can_retry) == ("saving_off", False)
    room.set(save_marked=True)
    room.mark(message)
    room.session()
    room.only_activity(message)
    assert room.issues == []


# What fails


@soaked_elsewhere
def test_a_message_of_strangers_carries_the_error_and_its_reason_until_they_are_known(
    room: Mailroom, world: World, known: str, forward: Forward
) -> None:
    message = room.receive(UNKNOWN)
    room.mark(message)
    assert room.session()["emails_failed"] == 1
    (told,) = room.issues
    assert (told.kind, told.code, told.name) == ("email", "nobody_known", subject(message))
    assert told.remedy == "Create a contact, then mark it again."
    assert message.categories == [room.me.host.error, reason_category(told.cause)]
    row_of(world, "ContactCollection", Email=known)["Email"] = UNKNOWN
    forward(minutes=30)
    room.mark(message)
    assert room.session()["emails_saved"] == 1
    assert (message.categories, room.issues) == ([room.me.host.saved], [])


def test_what_only_a_person_can_mend_is_not_tried_again_by_itself_but_when_asked(
    room: Mailroom, world: World, known: str, forward: Forward
) -> None:
    message, other = room.receive(UNKNOWN), room.receive(UNKNOWN)
    for one in (message, other):
        room.mark(one)
    room.session()
    row_of(world, "ContactCollection", Email=known)["Email"] = UNKNOWN
    forward(minutes=30)
    assert room.session() == {}
    assert room.activities(message) == []
    asked = next(told for told in room.issues if told.name == subject(message))
    issues.retry(room.deps, room.principal, asked.id)
    assert room.session() == {"emails_saved": 1}
    room.only_activity(message)
    assert [told.name for told in room.issues] == [subject(other)]
    with room.deps.store.transaction() as tx:
        tx.wake_session(room.connection.id, room.deps.now(), forced=True)
    assert room.session() == {"emails_saved": 1}
    assert room.issues == []


def test_a_message_that_fails_in_sap_emails_stays_there_with_its_error(room: Mailroom) -> None:
    message = room.receive(UNKNOWN)
    room.lay_in_emails(message)
    room.session()
    assert room.remote.place_of(message) == room.refs["emails"]
    assert room.me.host.error in message.categories
    assert room.session() == {}


def test_an_issue_ends_when_its_owner_takes_the_error_off(room: Mailroom) -> None:
    message = room.receive(UNKNOWN)
    room.mark(message)
    room.session()
    room.remote.categorize(message)
    room.session()
    assert (room.issues, room.activities(message)) == ([], [])


def test_an_issue_ends_when_the_message_is_saved_by_hand(room: Mailroom, me: Api, known: str) -> None:
    message = room.receive(UNKNOWN)
    room.mark(message)
    room.session()
    assert me.save(me.named(message.rest_id)).json["state"] == "saved"
    assert (room.issues, message.categories) == ([], [me.host.saved])


def test_a_refused_save_is_an_issue_and_what_mends_it_is_a_retry(room: Mailroom, world: World, known: str, work: Work) -> None:
    world.faults.append(Fault("c4c", "part_status", CREATE, status=400))
    message = room.receive(known)
    room.mark(message)
    assert room.session() == {"emails_failed": 1}
    (told,) = room.issues
    assert (told.code, told.name) == ("rejected", subject(message))
    assert told.cause == "It was refused. Details: “The request could not be processed”"
    assert message.categories == [room.me.host.error, reason_category("The request could not be processed")]
    issues.retry(room.deps, room.principal, told.id)
    work()
    room.only_activity(message)
    assert (room.issues, message.categories) == ([], [room.me.host.saved])


def test_while_c4c_is_away_the_same_is_told_again_and_nothing_is_lost_or_doubled(
    room: Mailroom, world: World, known: str, forward: Forward
) -> None:
    message = room.receive(known)
    room.lay_in_emails(message)
    down = Fault("c4c", "drop", times=None)
    world.faults.append(down)
    for _ in range(2):
        with pytest.raises(Transient):
            room.session()
        forward(minutes=1)
    world.faults.remove(down)
    assert room.session() == {"emails_saved": 1, "emails_returned": 1}
    room.only_activity(message)


@pytest.mark.soak
def test_one_message_that_cannot_be_read_does_not_hold_up_the_mailbox_for_ever(
    room: Mailroom, world: World, known: str, forward: Forward
) -> None:
    message, other = room.receive(known), room.receive(known)
    for one in (message, other):
        room.mark(one)
    sick = Fault("graph", "status", message.immutable_id, status=503, times=None)
    world.faults.append(sick)
    for _ in range(3):
        with pytest.raises(Transient):
            room.session()
        forward(minutes=5)
    room.only_activity(other)
    assert room.session() == {"emails_waiting": 1}
    assert [told.code for told in room.issues] == ["waiting"]
    world.faults.remove(sick)
    forward(minutes=30)
    assert room.session() == {"emails_saved": 1}
    room.only_activity(message)
    assert room.issues == []


def test_a_create_whose_answer_was_lost_is_settled_by_the_worker_and_the_message_goes_home(
    room: Mailroom, world: World, known: str, work: Work, forward: Forward
) -> None:
    world.faults.append(Fault("c4c", "acted_drop", CREATE))
    message = room.receive(known)
    room.lay_in_emails(message)
    assert room.session() == {"emails_waiting": 1}
    assert message.categories == [room.me.host.pending]
    forward(minutes=5)
    work()  # and the session that follows a save
    room.only_activity(message)
    assert (room.remote.place_of(message), message.categories) == ("inbox", [room.me.host.saved])


# By rule


@soaked_elsewhere
def test_new_mail_with_somebody_known_is_saved_where_the_profile_says_so(room: Mailroom, known: str, forward: Forward) -> None:
    before = room.receive(known)
    room.session()
    room.set(auto_save=True)
    forward(minutes=30)
    received, sent = room.receive(known), room.receive(room.person.email, known, place="sentitems")
    assert room.session() == {"emails_saved": 2}
    assert [len(room.activities(one)) for one in (before, received, sent)] == [0, 1, 1]
    assert received.categories == [room.me.host.saved]


def test_what_was_there_before_the_first_session_ended_is_never_saved_unasked(
    new: Mailroom, known: str, forward: Forward
) -> None:
    new.set(auto_save=True)
    old = new.receive(known)
    new.session()
    forward(minutes=1)
    new.mark(old, "Follow-up")
    new.session()
    assert new.activities(old) == []


def test_mail_that_is_not_new_is_not_saved_because_its_owner_touches_it(room: Mailroom, known: str, forward: Forward) -> None:
    old = room.receive(known)
    room.session()
    forward(minutes=30)
    room.session()
    room.set(auto_save=True)
    room.mark(old, "Follow-up")
    room.session()
    assert room.activities(old) == []


NEVER: dict[str, Callable[[Mailroom, str], Any]] = {
    "automatic": lambda room, known: room.receive(known, Auto_Submitted="auto-replied"),
    "bulk": lambda room, known: room.receive(known, Precedence="bulk"),
    "stranger": lambda room, known: room.receive(UNKNOWN),
    "colleague": lambda room, known: room.receive(room.world.people[1].email),
    "blocklisted": lambda room, known: room.receive("sale@bargains.example", cc=known),
    "other_folder": lambda room, known: in_projects(room, known),
}


@pytest.mark.parametrize("kind", NEVER)
def test_of_new_mail_this_is_never_saved_unasked(kind: str, room: Mailroom, me: Api, world: World, known: str) -> None:
    room.set(auto_save=True, blocklisted_domains=("bargains.example",))
    message = NEVER[kind](room, known)
    other = room.receive(known)
    assert room.session() == {"emails_saved": 1}
    assert room.activities(message) == []
    room.only_activity(other)
    assert room.issues == []


def test_an_account_alone_does_not_have_new_mail_saved(room: Mailroom, me: Api) -> None:
    room.set(auto_save=True)
    message = room.receive(me.item("account_only")["from"]["address"])
    assert room.session() == {}
    assert room.activities(message) == []


# Threads


@soaked_elsewhere
def test_the_further_messages_of_a_followed_thread_are_saved_until_it_is_ended(
    room: Mailroom, me: Api, known: str, forward: Forward
) -> None:
    first = room.receive(known)
    item = me.named(first.rest_id)
    assert me.preview(item)["follow_thread"] is True
    assert me.linked_save(item, follow_thread=True).json["state"] == "saved"
    forward(minutes=10)
    answer = room.receive(room.person.email, known, place="sentitems", thread=first)
    elsewhere = room.receive(known)
    assert room.session() == {"emails_saved": 1}
    assert [len(room.activities(one)) for one in (first, answer, elsewhere)] == [1, 1, 0]
    (followed,) = threads.followed(room.deps, room.principal)
    assert followed.name == subject(first)
    threads.end(room.deps, room.principal, followed.id)
    assert threads.followed(room.deps, room.principal) == []
    forward(minutes=10)
    last = room.receive(known, thread=first)
    room.session()
    assert room.activities(last) == []


def test_a_thread_can_be_followed_after_its_message_was_saved(room: Mailroom, me: Api, known: str) -> None:
    item = me.named(room.receive(known).rest_id)
    assert me.linked_save(item).status_code == 201
    assert me.linked_save(item, follow_thread=True).status_code == 200
    assert len(threads.followed(room.deps, room.principal)) == 1


def test_a_message_of_a_followed_thread_with_nobody_known_is_linked_as_its_first_save(
    room: Mailroom, me: Api, world: World, known: str, forward: Forward
) -> None:
    first = room.receive(known)
    opportunity = row_of(world, "OpportunityCollection", Name="Second production line")
    assert me.save(me.named(first.rest_id), [link("opportunity", opportunity)], follow_thread=True).status_code == 201
    forward(minutes=10)
    answer = room.receive(UNKNOWN, thread=first)
    room.session()
    assert [row["ID"] for row in children(world, room.only_activity(answer), "references")] == [opportunity["ID"]]


@pytest.mark.parametrize("kind", ["automatic", "colleague"])
def test_a_followed_thread_takes_nothing_that_is_automatic_or_between_colleagues(
    kind: str, room: Mailroom, me: Api, known: str, forward: Forward
) -> None:
    first = room.receive(known)
    assert me.linked_save(me.named(first.rest_id), follow_thread=True).status_code == 201
    forward(minutes=10)
    message = NEVER[kind](room, known)
    message.conversation_id = first.conversation_id
    room.session()
    assert room.activities(message) == []


def test_a_thread_cannot_be_followed_where_the_profile_forbids_it(room: Mailroom, me: Api, known: str) -> None:
    room.set(follow_threads=False)
    message = room.receive(known)
    item = me.named(message.rest_id)
    assert me.preview(item)["follow_thread"] is False
    assert me.save(item, follow_thread=True).status_code == 422
    assert room.activities(message) == []


def test_nobody_sees_or_ends_another_persons_thread(room: Mailroom, me: Api, colleague: Api, known: str) -> None:
    assert me.linked_save(me.named(room.receive(known).rest_id), follow_thread=True).status_code == 201
    colleague.context("shared_message_id")
    other = replace(room, me=colleague).principal
    (followed,) = threads.followed(room.deps, room.principal)
    assert threads.followed(room.deps, other) == []
    threads.end(room.deps, other, followed.id)
    assert threads.followed(room.deps, room.principal) == [followed]


# Together with people and other processes


@pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)
def test_a_message_that_is_marked_and_saved_at_once_in_two_processes_is_one_activity(
    room: Mailroom, me: Api, api: Callable[..., Api], process: Callable[..., Deps], known: str, world: World
) -> None:
    for _ in range(4):
        message = room.receive(known)
        room.mark(message)
        item = me.named(message.rest_id)
        with ThreadPoolExecutor(2) as pool:
            by_hand = pool.submit(api(at=process()).save, item, [], attachments=[])
            by_mark = pool.submit(room.session)
            by_mark.result()
            assert by_hand.result().json["state"] in ("saved", "pending")
        room.only_activity(message)
        assert message.categories == [me.host.saved]


@soaked_elsewhere
def test_a_message_whose_mark_cannot_be_set_is_saved_and_marked_and_sent_home_later(
    room: Mailroom, known: str, work: Work, forward: Forward
) -> None:
    message = room.receive(known)
    room.lay_in_emails(message)
    room.me.fail("drop", at="mark", times=None)
    with suppress(Transient):  # where moving is the same kind of request
        room.session()
    room.world.faults.clear()
    forward(minutes=10)
    work()
    room.session()
    room.only_activity(message)
    assert (room.remote.place_of(message), message.categories) == ("inbox", [room.me.host.saved])
    assert room.issues == []


def test_a_worker_that_stands_still_between_the_activity_and_the_mark_leaves_one_activity_and_the_right_mark(
    room: Mailroom, process: Callable[..., Deps], world: World, known: str, forward: Forward
) -> None:
    message = room.receive(known)
    room.lay_in_emails(message)
    world.gate = gate = Gate(match="graph PATCH")
    with ThreadPoolExecutor(1) as pool:
        dead = pool.submit(room.session, at=process())
        assert gate.reached.wait(10)
        forward(minutes=15)
        world.gate = None
        other = process()
        for due in saving.take_due(other, 10):
            saving.perform(other, due.id, due.fence)
        replace(room).session(at=other)
        assert (room.remote.place_of(message), message.categories) == ("inbox", [room.me.host.saved])
        gate.open()
        with pytest.raises(LeaseLost):
            dead.result()
    room.session()
    room.only_activity(message)
    assert (room.remote.place_of(message), message.categories) == ("inbox", [room.me.host.saved])


def test_marks_are_set_under_the_names_that_the_mailbox_has(room: Mailroom, me: Api, known: str) -> None:
    with room.deps.store.transaction() as tx:
        tx.set_language(room.principal.user.id, "de")
    for category in room.remote.state.categories.values():
        category.name = {me.host.saved: "Gespeichert in SAP Cloud for Customer SSI"}.get(category.name, category.name)
    room.begin(room.deps)
    message = room.receive(known)
    assert me.linked_save(me.named(message.rest_id)).json["marks"] == ["saved"]
    assert message.categories == ["Gespeichert in SAP Cloud for Customer SSI"]


def share(room: Mailroom) -> tuple[str, ...]:
    return ("SAP E-Mails",) if room.person.access_type == "google" else ("SAP Cloud for Customer SSI",)


def subject(message: Any) -> str:
    return read(message.mime).text_of("Subject")


def in_projects(room: Mailroom, sender: str) -> Any:
    message = room.receive(sender)
    message.folder = next(folder.id for folder in room.remote.state.folders.values() if folder.name == "Projects")
    return message
