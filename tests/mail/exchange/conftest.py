"""Fixtures for the tests of mailboxes on-premises: a server on loopback, plain and by TLS, and how to open a mailbox there."""

import ssl
from collections.abc import Iterator
from typing import Any

import pytest
import trustme

from server.domain.hosts import AllowList
from server.mail.exchange import ExchangeMailbox, Login
from server.mail.hosts import Guard
from simulator import ews
from simulator.serving import Port
from simulator.world import World
from tests.ews_contract import Recorder
from tests.mail.exchange.remote import LIMITED, PATH, SERVICE, ExchangeRemote, House, Open


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


@pytest.fixture
def open_mailbox(guard: Guard, port: Port, remote: ExchangeRemote, sleeps: list[float]) -> Open:
    """Open the person's mailbox by Direct Logon with Basic, or as the keyword arguments say."""
    own = Login(remote.person.email, remote.person.password, "basic")

    def open_mailbox(
        login: Login = own, url: str = port.url + PATH, guard: Guard = guard, address: str = remote.person.email, **options: Any
    ) -> ExchangeMailbox:
        options = {"sleep": sleeps.append, "now": remote.world.now} | options
        return ExchangeMailbox(guard, url=url, address=address, get_login=lambda: login, **options)

    return open_mailbox


@pytest.fixture
def mailbox(open_mailbox: Open) -> ExchangeMailbox:
    return open_mailbox()
