"""ExchangeMailbox keeps the contract of a mailbox, and what only concerns Exchange on-premises."""

import base64
from concurrent.futures import ThreadPoolExecutor
from threading import Semaphore

import pytest
from lxml import etree

from server.domain.marks import MARKS, MarkId
from server.errors import (
    Conflict,
    Forbidden,
    NotFound,
    Rejected,
)
from server.mail import Mailbox
from server.mail.exchange import ExchangeMailbox, Login
from simulator import ews
from simulator.ews.categories import CATEGORY_NAMESPACE
from simulator.ews.operations import SECOND_WRITERS_CATEGORY
from simulator.serving import Port
from simulator.world import Gate, Latency
from tests.ews_contract import Recorder
from tests.mail.contract import NAMES, MailboxContract, mime as mime_of, names_in
from tests.mail.exchange.remote import LIMITED, PATH, SERVICE, ExchangeRemote, Open
from tests.mail.remote import Remote


class TestDirectLogon(MailboxContract):
    """By NTLM over TLS; Basic is what most tests below use."""

    foreign_id_form = "gmail"
    tells_marked_contacts = True

    @pytest.fixture
    def mailbox(self, open_mailbox: Open, remote: Remote, secure_port: Port) -> Mailbox:
        remote.revoke = lambda: remote.fail("status", status=401, times=None)  # connections that are signed in, too
        return open_mailbox(Login(remote.person.email, remote.person.password), secure_port.url + PATH)


@pytest.mark.soak
class TestImpersonation(MailboxContract):
    """The same by a service account. What differs, the tests of the wire below and tests/test_mailboxes.py show every time."""

    foreign_id_form = "gmail"
    tells_marked_contacts = True

    @pytest.fixture
    def mailbox(self, open_mailbox: Open, remote: Remote) -> Mailbox:
        remote.person.access_type = "exchange_impersonation"
        remote.revoke = lambda: remote.fail("status", status=401, times=None)
        return open_mailbox(Login(f"{ews.DOMAIN}\\{SERVICE.user}", SERVICE.password, "basic"), impersonate=True)


# The wire


def test_all_that_is_said_is_what_the_schema_describes(open_mailbox: Open, remote: ExchangeRemote, recorder: Recorder) -> None:
    mailbox = open_mailbox(Login(SERVICE.user, SERVICE.password, "basic"), impersonate=True)
    remote.add_category(NAMES["error"], "none")
    mailbox.ensure_marks(NAMES)
    head = mailbox.head(remote.case("attachments").ews_id, "ews")
    mailbox.set_mark(head.ref, "error", reason="Why", names=NAMES)
    mailbox.set_mark(remote.case("meeting_answer").immutable_id, None, names=NAMES)
    mailbox.set_mark(head.ref, None, names=NAMES)
    mailbox.mime(head.ref, max_bytes=10**6)
    assert [found.ref for found in mailbox.find(head.message_id or "")] == [head.ref]
    with pytest.raises(NotFound):
        mailbox.head("AAMkNobody=")
    remote.state.categories.clear()
    mailbox.ensure_marks(NAMES)
    said = {"FindFolder", "FindItem", "GetItem", "UpdateItem"}
    said |= {"GetUserConfiguration", "UpdateUserConfiguration", "CreateUserConfiguration"}
    assert set(remote.operations()) == said
    recorder.check()


def test_a_message_costs_one_request_to_read_and_two_to_mark(mailbox: ExchangeMailbox, remote: ExchangeRemote) -> None:
    head = mailbox.head(remote.case("known_contact").rest_id)
    assert remote.operations() == ["GetItem"]
    mailbox.set_mark(head.ref, "saved", names=NAMES)
    assert remote.operations() == ["GetItem", "GetItem", "UpdateItem"]


def test_another_process_looks_a_message_up_before_it_marks_it(open_mailbox: Open, remote: ExchangeRemote) -> None:
    open_mailbox().set_mark(remote.case("known_contact").immutable_id, "saved", names=NAMES)
    assert remote.operations() == ["FindFolder", "FindItem", "UpdateItem"]


def test_marks_cost_one_request_to_see_that_they_are_there(mailbox: ExchangeMailbox, remote: ExchangeRemote) -> None:
    mailbox.ensure_marks(NAMES)
    assert remote.operations() == ["GetUserConfiguration", "UpdateUserConfiguration", "GetUserConfiguration"]
    mailbox.ensure_marks(NAMES)
    assert remote.operations()[3:] == ["GetUserConfiguration"]


def test_ntlm_shakes_hands_once_for_a_connection(open_mailbox: Open, remote: ExchangeRemote, secure_port: Port) -> None:
    mailbox = open_mailbox(Login(remote.person.email, remote.person.password), secure_port.url + PATH)
    for _ in range(3):
        mailbox.head(remote.case("known_contact").rest_id)
    assert [a.status for a in remote.world.requests("exchange")] == [401, 401, 200, 200, 200]


def test_threads_do_not_share_a_connection_that_is_signed_in(open_mailbox: Open, remote: ExchangeRemote) -> None:
    mailbox = open_mailbox(Login(remote.person.email, remote.person.password), in_flight=Semaphore(4))
    remote.world.latency["exchange"] = Latency(base_ms=10)
    ids = [message.rest_id for message in list(remote.state.messages.values())[:16]]
    with ThreadPoolExecutor(8) as pool:
        heads = list(pool.map(mailbox.head, ids))
    assert [head.ref for head in heads] == [message.immutable_id for message in list(remote.state.messages.values())[:16]]
    assert sum(a.status == 401 for a in remote.world.requests("exchange")) <= 8  # at most four connections shook hands


def test_a_service_account_acts_for_the_owner_only_within_its_rights(open_mailbox: Open, remote: ExchangeRemote) -> None:
    rest_id = remote.case("known_contact").rest_id
    for login in (Login(LIMITED.user, LIMITED.password, "basic"), Login(remote.person.email, remote.person.password, "basic")):
        with pytest.raises(Forbidden) as caught:
            open_mailbox(login, impersonate=True).head(rest_id)
        assert caught.value.code == "mailbox_forbidden"
    with pytest.raises(Rejected):  # it has no mailbox of its own
        open_mailbox(Login(SERVICE.user, SERVICE.password, "basic")).head(rest_id)
    with pytest.raises(Rejected, match="mailbox"):
        open_mailbox(Login(SERVICE.user, SERVICE.password, "basic"), impersonate=True, address="nobody@aldermill.example").head(
            "AAMkx="
        )


def test_a_message_of_the_largest_size_is_read_whole(mailbox: ExchangeMailbox, remote: ExchangeRemote) -> None:
    stored = remote.case("too_large")
    assert len(mailbox.mime(stored.immutable_id, max_bytes=40 * 1024 * 1024)) == len(stored.mime)


def test_a_message_that_is_too_large_is_not_even_transferred_whole(mailbox: ExchangeMailbox, remote: ExchangeRemote) -> None:
    with pytest.raises(Rejected, match="larger than 1 MB"):
        mailbox.mime(remote.case("too_large").immutable_id, max_bytes=1024 * 1024)


# What on-premises means


def test_a_moved_message_is_found_again_by_another_process(open_mailbox: Open, remote: ExchangeRemote) -> None:
    stored = remote.case("known_contact")
    ref = open_mailbox().head(stored.rest_id).ref
    remote.move(stored, "deleteditems")
    marked = open_mailbox().set_mark(ref, "saved", names=NAMES)
    assert NAMES["saved"] in marked.categories
    assert NAMES["saved"] in stored.categories


def test_a_message_that_is_moved_between_reading_and_writing_is_marked(mailbox: ExchangeMailbox, remote: ExchangeRemote) -> None:
    stored = remote.case("known_contact")
    ref = mailbox.head(stored.rest_id).ref
    remote.world.gate = gate = Gate(match="UpdateItem")
    with ThreadPoolExecutor(1) as pool:
        marked = pool.submit(mailbox.set_mark, ref, "saved", names=NAMES)
        assert gate.reached.wait(10)
        remote.move(stored, "deleteditems")
        gate.open()
        assert NAMES["saved"] in marked.result().categories
    assert NAMES["saved"] in stored.categories


def test_a_message_that_is_deleted_between_reading_and_writing_raises_not_found(
    mailbox: ExchangeMailbox, remote: ExchangeRemote
) -> None:
    stored = remote.receive(mime_of("<short@example.com>"))
    ref = mailbox.head(stored.rest_id).ref
    del remote.state.messages[stored.immutable_id]
    for call in (lambda: mailbox.set_mark(ref, "saved", names=NAMES), lambda: mailbox.mime(ref, max_bytes=1000)):
        with pytest.raises(NotFound):
            call()


def test_find_does_not_take_another_spelling_for_the_same_message_id(mailbox: ExchangeMailbox, remote: ExchangeRemote) -> None:
    remote.receive(mime_of("<Case@example.com>"))
    wanted = remote.receive(mime_of("<case@example.com>"))
    assert [head.ref for head in mailbox.find("<case@example.com>")] == [wanted.immutable_id]


def test_a_hundred_races_of_two_writers_lose_nothing(open_mailbox: Open, remote: ExchangeRemote) -> None:
    """Two mailboxes mark the same message while a user files it: each round all that was set is there."""
    stored = remote.case("known_contact")
    ours, theirs = open_mailbox(), open_mailbox()
    ref = ours.head(stored.rest_id).ref
    theirs.head(stored.rest_id)

    def insist(mailbox: ExchangeMailbox, mark: MarkId) -> None:
        while True:
            try:
                mailbox.set_mark(ref, mark, names=NAMES)
                return
            except Conflict:
                continue

    with ThreadPoolExecutor(2) as pool:
        for number in range(100):
            remote.categorize(stored, "Follow-up")
            if number % 2:
                remote.fail("second_writer", times=1)
            list(pool.map(insist, (ours, theirs), ("saved", "pending")))
            expected = {"Follow-up", *([SECOND_WRITERS_CATEGORY] if number % 2 else [])}
            marks = set(stored.categories) - expected
            assert expected <= set(stored.categories)
            assert len(marks) == 1
            assert marks <= {NAMES["saved"], NAMES["pending"]}


def test_what_else_is_in_the_category_list_survives(mailbox: ExchangeMailbox, remote: ExchangeRemote, recorder: Recorder) -> None:
    mailbox.ensure_marks(NAMES)
    before = written_list(recorder)
    theirs = {row.get("name"): dict(row.attrib) for row in before if row.get("name") not in NAMES.values()}
    assert all({"keyboardShortcut", "usageCount", "lastTimeUsed", "guid"} <= row.keys() for row in theirs.values())
    assert theirs.keys() == {"Follow-up", "Private", "Offer"}
    category = next(c for c in remote.state.categories.values() if c.name == NAMES["saved"])
    category.color = "preset14"
    mailbox.ensure_marks(NAMES)
    after = {row.get("name"): dict(row.attrib) for row in written_list(recorder)}
    assert {name: after[name] for name in theirs} == theirs
    assert after[NAMES["saved"]]["color"] == MARKS["saved"].color.removeprefix("preset")


def written_list(recorder: Recorder) -> etree._Element:
    """The category list as it was last sent."""
    sent = [etree.fromstring(document) for document in recorder.asked if b"UpdateUserConfiguration" in document]
    data = sent[-1].findtext(".//{*}XmlData")
    assert data is not None
    listing = etree.fromstring(base64.b64decode(data))
    assert listing.tag == f"{{{CATEGORY_NAMESPACE}}}categories"
    return listing


def test_a_mailbox_without_a_category_list_gets_one(mailbox: ExchangeMailbox, remote: ExchangeRemote) -> None:
    remote.state.categories.clear()
    assert names_in(mailbox.ensure_marks(NAMES)) == NAMES
    assert remote.master == {mark.name: mark.color for mark in MARKS.values()}
    assert remote.operations() == ["GetUserConfiguration", "CreateUserConfiguration", "GetUserConfiguration"]
