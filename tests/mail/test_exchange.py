"""ExchangeMailbox keeps the contract of a mailbox, and what only concerns Exchange on-premises."""

import base64
import gc
import logging
import re
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Semaphore
from typing import Any

import pytest
import trustme
from exchangelib.protocol import CachingProtocol
from lxml import etree

from server.domain.hosts import AllowList
from server.domain.marks import MARKS, MarkId
from server.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    NeedsReauth,
    NotFound,
    RateLimited,
    Rejected,
    SsiError,
    Transient,
)
from server.mail import Mailbox
from server.mail import ews as wire
from server.mail.exchange import ExchangeMailbox, Login
from server.mail.hosts import Guard
from simulator import ews, ews_soap
from simulator.ews_operations import CATEGORY_NAMESPACE, SECOND_WRITERS_CATEGORY
from simulator.serving import Port
from simulator.world import Gate, Latency, World
from tests.contracts import contract
from tests.ews_contract import Recorder
from tests.mail.contract import NAMES, MailboxContract, Remote
from tests.mail.contract import mime as mime_of

SERVICE = ews.ServiceAccount("ssi-service", "Impersonate-1!")
LIMITED = ews.ServiceAccount("ssi-limited", "Impersonate-2!", frozenset({"nobody@aldermill.example"}))
PATH = "/EWS/Exchange.asmx"


class ExchangeRemote(Remote):
    """The back door to a mailbox on-premises; what other providers write by HTTP method are operations here."""

    def fail(self, kind: str, **fault: Any) -> None:
        operation = {"POST": "/UpdateUserConfiguration", "PATCH": "/UpdateItem"}
        match = fault.pop("match", "")
        super().fail(kind, **fault, match=operation.get(match, match))

    def leave_provider(self) -> None:
        self.person.access_type = "office365"

    def operations(self) -> list[str]:
        """What the server was asked to do, without the steps of a handshake."""
        return [a.path.rpartition("/")[2] for a in self.world.requests("exchange") if a.status != 401]


class House:
    """Stands between the port, which lives long, and the World, which is new for each test."""

    world: World


@pytest.fixture(scope="module")
def house() -> House:
    return House()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def recorder(house: House) -> Recorder:
    return Recorder(ews.create_app(lambda: house.world, services=[SERVICE, LIMITED]))


@pytest.fixture(scope="module")
def port(recorder: Recorder) -> Iterator[Port]:
    with Port(recorder) as port:
        yield port


@pytest.fixture(scope="module")
def secure_port(recorder: Recorder, authority: trustme.CA) -> Iterator[Port]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with Port(recorder, tls=context) as port:
        yield port


@pytest.fixture
def remote(house: House, recorder: Recorder, world: World) -> ExchangeRemote:
    house.world = world
    recorder.asked.clear()
    recorder.answered.clear()
    person = world.people[0]
    person.access_type = "exchange_direct"
    return ExchangeRemote(world, "exchange", person, revoke=lambda: setattr(person, "password", "another"))


@pytest.fixture(scope="module")
def guard(port: Port, secure_port: Port, authority: trustme.CA) -> Guard:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return Guard(AllowList.of([f"127.0.0.1:{port.port}", f"127.0.0.1:{secure_port.port}"]), ssl_context=context)


Open = Callable[..., ExchangeMailbox]


@pytest.fixture
def open_mailbox(guard: Guard, port: Port, remote: ExchangeRemote, sleeps: list[float]) -> Open:
    """Open the person's mailbox by Direct Logon with Basic, or as the keyword arguments say."""
    own = Login(remote.person.email, remote.person.password, "basic")

    def open_mailbox(
        login: Login = own, url: str = port.url + PATH, guard: Guard = guard, address: str = remote.person.email, **options: Any
    ) -> ExchangeMailbox:
        return ExchangeMailbox(guard, url=url, address=address, get_login=lambda: login, sleep=sleeps.append, **options)

    return open_mailbox


class TestDirectLogon(MailboxContract):
    """By NTLM over TLS; Basic is what most tests below use."""

    foreign_id_form = "gmail"

    @pytest.fixture
    def mailbox(self, open_mailbox: Open, remote: Remote, secure_port: Port) -> Mailbox:
        return open_mailbox(Login(remote.person.email, remote.person.password), secure_port.url + PATH)


class TestImpersonation(MailboxContract):
    foreign_id_form = "gmail"

    @pytest.fixture
    def mailbox(self, open_mailbox: Open, remote: Remote) -> Mailbox:
        remote.person.access_type = "exchange_impersonation"
        remote.revoke = lambda: remote.fail("status", status=401, times=None)
        return open_mailbox(Login(f"{ews.DOMAIN}\\{SERVICE.user}", SERVICE.password, "basic"), impersonate=True)


@pytest.fixture
def mailbox(open_mailbox: Open) -> ExchangeMailbox:
    return open_mailbox()


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
    assert remote.operations() == ["FindFolder", "FindItem", "GetItem", "UpdateItem"]


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
    assert mailbox.ensure_marks(NAMES) == NAMES
    assert remote.master == {mark.name: mark.color for mark in MARKS.values()}
    assert remote.operations() == ["GetUserConfiguration", "CreateUserConfiguration", "GetUserConfiguration"]


# Bad input and faults


def test_a_server_that_is_busy_for_a_moment_is_not_noticed(
    mailbox: ExchangeMailbox, remote: ExchangeRemote, sleeps: list[float]
) -> None:
    remote.fail("server_busy", retry_after_s=1, times=2)
    mailbox.head(remote.case("known_contact").rest_id)
    assert sleeps == [1, 1]


def test_a_server_that_is_busy_for_long_raises_rate_limited_with_its_wish(
    mailbox: ExchangeMailbox, remote: ExchangeRemote, sleeps: list[float]
) -> None:
    remote.fail("server_busy", retry_after_s=300, times=None)
    with pytest.raises(RateLimited) as caught:
        mailbox.set_mark(remote.case("known_contact").immutable_id, "saved", names=NAMES)
    assert (caught.value.retry_after_s, sleeps) == (300, [])
    assert len(remote.operations()) == 1


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("locked", NeedsReauth),
        ("ErrorMailboxMoveInProgress", Transient),
        ("ErrorMailboxStoreUnavailable", Transient),
        ("ErrorExceededConnectionCount", Transient),
        ("ErrorInternalServerError", Transient),
        ("ErrorTimeoutExpired", Transient),
        ("ErrorAccessDenied", Forbidden),
        ("ErrorQuotaExceeded", Rejected),
    ],
)
@pytest.mark.parametrize("method", ["head", "set_mark", "ensure_marks"])
def test_what_the_server_complains_of_becomes_the_error_of_the_contract(
    mailbox: ExchangeMailbox, remote: ExchangeRemote, sleeps: list[float], method: str, fault: str, error: type[SsiError]
) -> None:
    remote.fail(fault, times=None)
    calls: dict[str, Callable[[], object]] = {
        "head": lambda: mailbox.head(remote.case("known_contact").rest_id),
        "set_mark": lambda: mailbox.set_mark(remote.case("known_contact").immutable_id, "saved", names=NAMES),
        "ensure_marks": lambda: mailbox.ensure_marks(NAMES),
    }
    with pytest.raises(error):
        calls[method]()
    assert sum(sleeps) <= 5
    assert len(remote.world.requests("exchange")) <= 4


@pytest.mark.parametrize("status", [200, 301, 302, 307, 400, 404, 405])
def test_the_address_of_another_product_is_told_as_such(
    open_mailbox: Open, remote: ExchangeRemote, guard: Guard, authority: trustme.CA, status: int
) -> None:
    asked: list[str] = []

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        asked.append(environ["PATH_INFO"])
        start(f"{status} Whatever", [("Content-Type", "text/html"), ("Location", "http://169.254.169.254/latest/meta-data")])
        return [b"<html>Some other product</html>"]

    with Port(app) as other:
        own = Guard(AllowList.of([f"127.0.0.1:{other.port}"]), ssl_context=guard.ssl_context)
        with pytest.raises((Rejected, Transient)):
            open_mailbox(url=other.url + PATH, guard=own).head("AAMkx=")
    assert set(asked) == {PATH}  # no redirect was followed


def test_a_certificate_that_nobody_trusts_is_told_as_such(open_mailbox: Open, guard: Guard, secure_port: Port) -> None:
    strict = Guard(guard.allowed, ssl_context=ssl.create_default_context())
    with pytest.raises(Transient, match="certificate"):
        open_mailbox(url=secure_port.url + PATH, guard=strict).head("AAMkx=")


def test_closed_filtered_and_unknown_servers_look_the_same(open_mailbox: Open, guard: Guard) -> None:
    with Port(lambda environ, start: [b""]) as closed:
        pass
    told = set()
    for url in (
        closed.url,
        "https://10.0.0.1",
        "https://169.254.169.254",
        "https://localhost:1",
        "http://127.0.0.1:1",
        "https://a..b",
    ):
        listening = Guard(AllowList.of([f"127.0.0.1:{closed.port}"]), ssl_context=guard.ssl_context)
        with pytest.raises(Transient) as caught:
            open_mailbox(url=url + PATH, guard=listening).head("AAMkx=")
        told.add((type(caught.value), str(caught.value), str(caught.value.__cause__)))
    assert len(told) == 1


@pytest.mark.parametrize("host", ["outlook.office365.com", "outlook.office.com", "autodiscover-s.outlook.com"])
def test_exchange_online_is_refused(open_mailbox: Open, host: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        open_mailbox(url=f"https://{host}{PATH}")
    assert caught.value.field == "ews_url"


def test_a_mailbox_that_turns_out_to_be_online_is_refused(
    mailbox: ExchangeMailbox, remote: ExchangeRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ews_soap.BUILD, "MinorVersion", "20")
    with pytest.raises(Rejected, match="Exchange Online"):
        mailbox.head(remote.case("known_contact").rest_id)


def test_difficult_user_names_and_passwords_sign_in(open_mailbox: Open, remote: ExchangeRemote, secure_port: Port) -> None:
    remote.person.password = 'Pässwörd: "quoted" 日本 €'
    for user in (remote.person.email, f"{ews.DOMAIN}\\{remote.person.user_id}"):
        for login in (Login(user, remote.person.password), Login(user, remote.person.password, "basic")):
            assert open_mailbox(login, secure_port.url + PATH).head(remote.case("known_contact").rest_id).etag


def test_every_code_that_is_translated_is_one_of_the_vendors() -> None:
    schema = contract("ews/messages.xsd").read_text(encoding="utf-8-sig")
    known = set(re.findall(r'enumeration value="(Error\w+)"', schema))
    tables = (wire._ELSEWHERE, wire._FORBIDDEN, wire._SIGN_IN, wire._NOT_THERE, wire._CHANGED, wire._NOT_NOW, wire._PERHAPS_DONE)
    assert {code for table in tables for code in table} <= known
    assert sum(len(table) for table in tables) == len({code for table in tables for code in table})


# Secrets and traces


def test_neither_password_nor_content_is_logged_or_kept(
    open_mailbox: Open, remote: ExchangeRemote, caplog: pytest.LogCaptureFixture
) -> None:
    login = Login(remote.person.email, "CANARY-password", "basic")
    remote.person.password = login.password
    stored = remote.receive(mime_of("<canary@example.com>", subject="CANARY-subject"))
    with caplog.at_level(logging.INFO):
        mailbox = open_mailbox(login)
        mailbox.set_mark(mailbox.head(stored.rest_id).ref, "error", reason="CANARY-reason", names=NAMES)
        for kind in ("drop", "html", "garbage"):
            remote.fail(kind, times=None)
            with pytest.raises(SsiError) as caught:
                mailbox.set_mark(stored.immutable_id, "saved", names=NAMES)
            assert "CANARY" not in f"{caught.value} {caught.value.__cause__} {mailbox!r} {login!r}"
            remote.world.faults.clear()
    assert "CANARY" not in caplog.text
    assert CachingProtocol._protocol_cache == {}


def test_a_mailbox_that_is_no_longer_used_closes_its_connections(open_mailbox: Open, remote: ExchangeRemote) -> None:
    mailbox = open_mailbox()
    mailbox.head(remote.case("known_contact").rest_id)
    del mailbox
    gc.collect()  # a socket that is left open would warn here, and warnings are errors
