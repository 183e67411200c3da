"""What an Exchange server complains of, what is no Exchange server, and what must not leave traces."""

import gc
import logging
import re
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import pytest
import trustme
from exchangelib.protocol import CachingProtocol

from server.domain.hosts import AllowList
from server.errors import (
    Forbidden,
    InvalidInput,
    NeedsReauth,
    RateLimited,
    Rejected,
    SsiError,
    Transient,
    Unknown,
)
from server.mail.exchange import ExchangeMailbox, Login, failures as wire
from server.mail.hosts import Guard
from simulator import ews
from simulator.ews import soap as ews_soap
from simulator.serving import Port
from simulator.world import Gate
from tests.contracts import contract
from tests.mail.contract import NAMES, mime as mime_of
from tests.mail.contract_contacts import ADA, LINK
from tests.mail.exchange.remote import LIMITED, PATH, SERVICE, ExchangeRemote, Open

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


def test_a_server_that_is_busy_without_saying_for_how_long_is_asked_again_soon(
    mailbox: ExchangeMailbox, remote: ExchangeRemote, sleeps: list[float]
) -> None:
    remote.fail("server_busy", retry_after_s=0, times=2)
    mailbox.head(remote.case("known_contact").rest_id)
    assert sleeps == [0.5, 1.0]
    remote.fail("server_busy", retry_after_s=0, times=None)
    with pytest.raises(RateLimited) as caught:
        mailbox.head(remote.case("known_contact").rest_id)
    assert caught.value.retry_after_s is None


@pytest.mark.parametrize("scheme", ["ntlm", "basic"])
@pytest.mark.parametrize("user", ["{0.email}", "ALDERMILL\\{0.user_id}", "nobody@aldermill.example"])
def test_a_wrong_user_or_password_raises_needs_reauth_at_once(
    open_mailbox: Open, remote: ExchangeRemote, secure_port: Port, scheme: Literal["ntlm", "basic"], user: str
) -> None:
    wrong = Login(user.format(remote.person), "wrong", scheme)
    with pytest.raises(NeedsReauth, match="user name and password"):
        open_mailbox(wrong, secure_port.url + PATH).check()
    assert len(remote.world.requests("exchange")) <= 3  # or the account would soon be locked


# The check


def test_the_check_costs_two_requests(mailbox: ExchangeMailbox, remote: ExchangeRemote) -> None:
    mailbox.check()
    assert remote.operations() == ["GetFolder", "ResolveNames"]


def test_the_check_says_what_the_account_may_not_do(mailbox: ExchangeMailbox, remote: ExchangeRemote) -> None:
    remote.fail("read_only")
    with pytest.raises(Forbidden, match="CreateHierarchy") as caught:
        mailbox.check()
    assert caught.value.code == "mailbox_forbidden"


def test_the_check_says_that_an_administrator_has_to_allow_impersonation(open_mailbox: Open) -> None:
    with pytest.raises(Forbidden, match="administrator"):
        open_mailbox(Login(LIMITED.user, LIMITED.password, "basic"), impersonate=True).check()


def test_an_owner_who_is_hidden_from_address_lists_has_no_name(mailbox: ExchangeMailbox, remote: ExchangeRemote) -> None:
    remote.fail("ErrorNameResolutionNoResults", match="/ResolveNames")
    owner = mailbox.check()
    assert (owner.address, owner.name) == (remote.person.email, "")


def test_no_two_mailboxes_are_the_same_account(open_mailbox: Open, remote: ExchangeRemote) -> None:
    login, accounts = Login(SERVICE.user, SERVICE.password, "basic"), set[str]()
    for person in remote.world.people[:2]:
        person.access_type = "exchange_impersonation"
        accounts.add(open_mailbox(login, impersonate=True, address=person.email).check().account)
    assert len(accounts) == 2


# What is in the way


def test_a_category_that_its_owner_deletes_in_the_middle_is_made_anew_and_stays_on_the_message(
    mailbox: ExchangeMailbox, remote: ExchangeRemote
) -> None:
    stored = remote.case("known_contact")
    mailbox.ensure_marks(NAMES)
    remote.world.gate = gate = Gate(match="UpdateItem")
    with ThreadPoolExecutor(1) as pool:
        marked = pool.submit(mailbox.set_mark, stored.immutable_id, "saved", names=NAMES)
        assert gate.reached.wait(10)
        remote.delete_category(NAMES["saved"])
        gate.open()
        assert NAMES["saved"] in marked.result().categories
    assert NAMES["saved"] in stored.categories
    mailbox.ensure_marks(NAMES)
    assert NAMES["saved"] in remote.master


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("locked", NeedsReauth),
        ("ErrorMailboxMoveInProgress", Transient),
        ("ErrorMailboxStoreUnavailable", Transient),
        ("ErrorExceededConnectionCount", Transient),
        ("ErrorExceededSubscriptionCount", Transient),
        ("ErrorInternalServerError", Transient),
        ("ErrorTimeoutExpired", Transient),
        ("ErrorAccessDenied", Forbidden),
        ("ErrorQuotaExceeded", Rejected),
    ],
)
@pytest.mark.parametrize("method", ["head", "set_mark", "ensure_marks", "check", "changes", "create_contact"])
def test_what_the_server_complains_of_becomes_the_error_of_the_contract(
    mailbox: ExchangeMailbox, remote: ExchangeRemote, sleeps: list[float], method: str, fault: str, error: type[SsiError]
) -> None:
    remote.fail(fault, times=None)
    calls: dict[str, Callable[[], object]] = {
        "head": lambda: mailbox.head(remote.case("known_contact").rest_id),
        "set_mark": lambda: mailbox.set_mark(remote.case("known_contact").immutable_id, "saved", names=NAMES),
        "ensure_marks": lambda: mailbox.ensure_marks(NAMES),
        "check": mailbox.check,
        "changes": lambda: mailbox.changes(None, folders={}),
        "create_contact": lambda: mailbox.create_contact("AQMkADcontacts=", ADA, link=LINK),
    }
    is_unsure = method == "create_contact" and fault in ("ErrorInternalServerError", "ErrorTimeoutExpired")
    with pytest.raises(Unknown if is_unsure else error):
        calls[method]()
    assert sum(sleeps) <= 5
    assert len(remote.world.requests("exchange")) <= 5  # four tries, and a look whether a contact was made


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
        # A page with status 200 may also be a proxy's that says that the server is down.
        with pytest.raises(Transient if status == 200 else Rejected):
            open_mailbox(url=other.url + PATH, guard=own).check()
    assert set(asked) == {PATH}  # no redirect was followed


def test_an_answer_without_any_message_is_none(open_mailbox: Open, remote: ExchangeRemote, guard: Guard) -> None:
    def app(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        operation = re.findall(rb"Body><\w+:(\w+)", environ["wsgi.input"].read())[0].decode()
        start("200 OK", [("Content-Type", "text/xml")])
        return [ews_soap.answer(ews_soap.m(f"{operation}Response", ews_soap.m("ResponseMessages")))]

    with Port(app) as empty:
        own = Guard(AllowList.of([f"127.0.0.1:{empty.port}"]), ssl_context=guard.ssl_context)
        mailbox = open_mailbox(url=empty.url + PATH, guard=own)
        for call in (mailbox.check, mailbox.categories, lambda: mailbox.find("<a@example.com>")):
            with pytest.raises(Transient):
                call()


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
    tables = (
        wire._ELSEWHERE,
        wire._IMPERSONATION,
        wire._FORBIDDEN,
        wire._SIGN_IN,
        wire._NOT_THERE,
        wire._CHANGED,
        wire._NOT_NOW,
        wire._PERHAPS_DONE,
    )
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
