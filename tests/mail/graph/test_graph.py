"""GraphMailbox keeps the contract of a mailbox, and what only concerns Microsoft 365 of messages; see also test_graph_sync."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Semaphore
from typing import Any

import httpx
import pytest

from server.domain.marks import FOLDERS, MarkId
from server.errors import Conflict, Forbidden, NotFound, Rejected, Transient
from server.mail import ContactEdit, Mailbox, Marked
from server.mail.graph import GraphMailbox
from server.transport import Gateway, Reply
from simulator.serving import Port
from simulator.world import Gate, Latency, StoredMessage
from tests.contracts import GraphContract, graph_contract
from tests.mail.contract import NAMES, MailboxContract, mime
from tests.mail.contract_changes import HOOK
from tests.mail.contract_contacts import ADA, items_of, louder, people
from tests.mail.graph.remote import between
from tests.mail.remote import Remote


class TestGraph(MailboxContract):
    foreign_id_form = "gmail"
    tells_marked_contacts = True


@pytest.fixture(scope="session")
def contract() -> GraphContract:
    return graph_contract()


class CheckedGateway(Gateway):
    """A gateway that compares what it sends and gets with the vendor's description."""

    contract: GraphContract

    def send(self, method: str, url: str, **options: Any) -> Reply:
        reply = super().send(method, url, **options)
        request = httpx.Request(method, url, headers=options.get("headers"), json=options.get("json"))
        self.contract.check(request, httpx.Response(reply.status, headers=reply.headers, content=reply.content))
        return reply


def test_what_is_sent_is_what_microsoft_describes(
    contract: GraphContract, gateway: Gateway, open_mailbox: Callable[..., GraphMailbox], remote: Remote
) -> None:
    checked = CheckedGateway("Graph", timeout_s=10, ssl_context=gateway._ssl)
    checked.contract = contract
    mailbox = open_mailbox(checked)
    remote.add_category(NAMES["error"], "none")
    mailbox.check()
    mailbox.ensure_marks(NAMES)
    refs = {name: folder.ref for name, folder in mailbox.ensure_folders(FOLDERS).items()}
    head = mailbox.head(remote.case("attachments").ews_id, "ews")
    mailbox.set_mark(head.ref, "error", reason="Why", names=NAMES)
    mailbox.set_marks([head.ref], "saved", names=NAMES)
    mailbox.mime(head.ref, max_bytes=10**6)
    assert [found.ref for found in mailbox.find(head.message_id or "")] == [head.ref]
    mailbox.move(head.ref, refs["emails"])
    made = mailbox.create_contact(refs["contacts"], ADA, link="a link")
    assert mailbox.find_contact(refs["contacts"], "a link") == made
    changed = mailbox.update_contact(made.ref, replace(ADA, fax="", department="Sums"), etag=made.etag, link="")
    (bob,) = items_of(mailbox.create_contacts(refs["accounts"], people(1)))
    items_of(mailbox.update_contacts([ContactEdit(bob.ref, bob.etag, louder)]))
    moved = mailbox.move_contact(made.ref, refs["accounts"], etag=changed.etag)
    mailbox.delete_contact(moved.ref, etag=mailbox.set_contact_mark(moved.ref, "saved", names=NAMES).etag)
    mailbox.changes(mailbox.changes(None, folders={}).cursor, folders={})
    mailbox.unsubscribe(mailbox.renew(mailbox.subscribe(HOOK, folders=refs)))
    assert {access.status for access in remote.world.requests("graph")} == {200, 201, 204}


@pytest.mark.parametrize(
    ("path", "permission"),
    [("messages", "Mail.ReadWrite"), ("outlook", "MailboxSettings.ReadWrite"), ("contacts", "Contacts.ReadWrite")],
)
def test_check_names_the_permission_that_is_missing(mailbox: Mailbox, remote: Remote, path: str, permission: str) -> None:
    remote.fail("status", status=403, match=f"PATCH /v1.0/me/{path}")
    with pytest.raises(Forbidden, match=permission):
        mailbox.check()
    assert remote.requests() == 1


def test_a_semaphore_of_four_keeps_the_mailbox_under_its_limit(
    open_mailbox: Callable[..., GraphMailbox], remote: Remote, sleeps: list[float]
) -> None:
    mailbox = open_mailbox(in_flight=Semaphore(4))
    remote.world.latency["graph"] = Latency(base_ms=20)
    rest_id = remote.case("known_contact").rest_id
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: mailbox.head(rest_id), range(16)))
    assert {access.status for access in remote.world.requests("graph")} == {200}
    assert sleeps == []


def test_a_shared_mailbox_is_reached_by_its_base_path(open_mailbox: Callable[..., GraphMailbox], remote: Remote) -> None:
    stored = remote.case("known_contact")
    own = open_mailbox(base=f"/users/{remote.person.object_id}")
    assert own.head(stored.rest_id).ref == stored.immutable_id
    other = open_mailbox(base=f"/users/{remote.world.people[1].email}")
    with pytest.raises(Forbidden) as caught:
        other.head(stored.rest_id)
    assert caught.value.code == "mailbox_forbidden"


def test_errors_chain_what_graph_said_without_content(mailbox: Mailbox, remote: Remote) -> None:
    remote.leave_provider()
    with pytest.raises(Rejected) as caught:
        mailbox.head(remote.case("known_contact").rest_id)
    assert str(caught.value.__cause__) == "404 MailboxNotEnabledForRESTAPI"


@pytest.fixture
def foreign_link() -> Iterator[tuple[str, list[str]]]:
    """A service whose next page is at another host's address; collects the paths it was asked for."""
    asked: list[str] = []

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        asked.append(environ["PATH_INFO"])
        elsewhere = f"http://localhost:{environ['SERVER_PORT']}/elsewhere"
        start("200 OK", [("Content-Type", "application/json")])
        return [json.dumps({"value": [], "@odata.nextLink": elsewhere}).encode()]

    with Port(app) as port:
        yield port.url, asked


def test_the_token_does_not_follow_a_link_to_another_host(
    open_mailbox: Callable[..., GraphMailbox], foreign_link: tuple[str, list[str]]
) -> None:
    url, asked = foreign_link
    with pytest.raises(Rejected):
        open_mailbox(url=url).find("<a@example.com>")
    assert asked == ["/me/messages"]


def test_a_message_of_the_largest_size_is_read_whole(mailbox: Mailbox, remote: Remote) -> None:
    stored: StoredMessage = remote.case("too_large")
    assert len(mailbox.mime(stored.immutable_id, max_bytes=40 * 1024 * 1024)) == len(stored.mime)


# Marks


def test_parts_of_a_batch_that_were_throttled_are_asked_again(mailbox: Mailbox, remote: Remote, sleeps: list[float]) -> None:
    messages = [remote.receive(mime(f"<m{n}@example.com>")) for n in range(30)]
    remote.fail("throttled", match="GET", retry_after_s=1, times=2)
    remote.fail("throttled", match="PATCH", retry_after_s=2, times=3)
    outcome = mailbox.set_marks([m.immutable_id for m in messages], "saved", names=NAMES)
    assert {type(one) for one in outcome.values()} == {Marked}
    assert {tuple(m.categories) for m in messages} == {(NAMES["saved"],)}
    assert sum(sleeps) >= 3


@pytest.mark.parametrize(("kind", "expected"), [("status", Transient), ("second_writer", Conflict)])
def test_a_message_that_cannot_be_marked_now_does_not_keep_the_others(
    mailbox: Mailbox, remote: Remote, kind: str, expected: type[Exception]
) -> None:
    good, bad = (remote.receive(mime(f"<m{n}@example.com>")) for n in range(2))
    remote.fail(kind, match=f"PATCH /v1.0/me/messages/{bad.immutable_id}", times=None)
    outcome = mailbox.set_marks([good.immutable_id, bad.immutable_id], "saved", names=NAMES)
    assert isinstance(outcome[good.immutable_id], Marked)
    assert isinstance(outcome[bad.immutable_id], expected)
    assert (good.categories, NAMES["saved"] in bad.categories) == ([NAMES["saved"]], False)


@pytest.mark.parametrize("kind", ["acted_drop", "garbage", "cut"])
def test_a_batch_of_marks_whose_answer_is_lost_is_settled_by_reading_again(mailbox: Mailbox, remote: Remote, kind: str) -> None:
    messages = [remote.receive(mime(f"<m{n}@example.com>")) for n in range(3)]
    mailbox.set_marks([messages[0].immutable_id], "pending", names=NAMES)
    gate = remote.world.gate = Gate(2, acted=False, match="$batch")  # the one that writes
    with ThreadPoolExecutor(1) as pool:
        marking = pool.submit(mailbox.set_marks, [m.immutable_id for m in messages], "saved", names=NAMES)
        assert gate.reached.wait(10)
        remote.fail(kind, match="$batch")
        gate.open()
        assert {type(one) for one in marking.result().values()} == {Marked}
    assert {tuple(m.categories) for m in messages} == {(NAMES["saved"],)}


def test_a_message_that_is_deleted_between_reading_and_writing_raises_not_found(mailbox: Mailbox, remote: Remote) -> None:
    message = remote.receive(mime())
    with pytest.raises(NotFound):
        between(remote, lambda: mailbox.set_mark(message.immutable_id, "saved", names=NAMES), lambda: remote.delete(message))


def test_a_category_that_its_owner_deletes_meanwhile_marks_nevertheless_and_comes_back(mailbox: Mailbox, remote: Remote) -> None:
    message = remote.receive(mime())
    mailbox.ensure_marks(NAMES)
    between(
        remote,
        lambda: mailbox.set_mark(message.immutable_id, "saved", names=NAMES),
        lambda: remote.delete_category(NAMES["saved"]),
    )
    assert message.categories == [NAMES["saved"]]
    mailbox.ensure_marks(NAMES)
    assert NAMES["saved"] in remote.master


@pytest.mark.parametrize("honoured", [True, False], ids=["if-match honoured", "if-match ignored"])
def test_two_writers_of_a_messages_categories_lose_something_only_where_the_service_ignores_the_etag(
    mailbox: Mailbox, remote: Remote, honoured: bool
) -> None:
    message = remote.receive(mime())
    if not honoured:
        remote.fail("if_match_ignored", times=None)
    for number in range(100):
        mark: MarkId = "saved" if number % 2 else "pending"
        remote.categorize(message, "before")
        between(
            remote,
            lambda mark=mark: mailbox.set_mark(message.immutable_id, mark, names=NAMES),
            lambda: remote.categorize(message, *message.categories, "between"),
        )
        remote.categorize(message, *message.categories, "after")
        theirs = {"before", "between", "after"} if honoured else {"before", "after"}
        assert set(message.categories) == theirs | {NAMES[mark]}


def test_between_reading_and_writing_there_is_one_round_trip(mailbox: Mailbox, remote: Remote) -> None:
    messages = [remote.receive(mime(f"<m{n}@example.com>")) for n in range(40)]
    mailbox.set_mark(messages[0].immutable_id, "saved", names=NAMES)
    assert [access.method for access in remote.world.requests("graph")] == ["GET", "PATCH"]
    mailbox.set_marks([m.immutable_id for m in messages], "pending", names=NAMES)
    batches = [{part.split()[0] for part in access.parts} for access in remote.world.requests("graph")[2:]]
    assert batches == [{"GET"}, {"PATCH"}] * 2
