"""Mailboxes on-premises for tests: a server on loopback in front of each test's World, and the way to open a mailbox there.

Test modules take the fixtures by name, e.g. `remote = on_premises.remote`.
"""

import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import trustme

from server.domain.hosts import AllowList
from server.mail.exchange import ExchangeMailbox, Login
from server.mail.hosts import Guard
from simulator import ews
from simulator.serving import Port
from simulator.world import StoredContact, World
from tests.ews_contract import Recorder
from tests.mail.remote import Remote

SERVICE = ews.ServiceAccount("ssi-service", "Impersonate-1!")
LIMITED = ews.ServiceAccount("ssi-limited", "Impersonate-2!", frozenset({"nobody@aldermill.example"}))
PATH = "/EWS/Exchange.asmx"


@dataclass
class ExchangeRemote(Remote):
    """The back door to a mailbox on-premises; what other providers write by HTTP method are operations here."""

    marking: str = "/UpdateItem"
    creating: str = "/UpdateUserConfiguration"
    creating_folder: str = "/CreateFolder"
    creating_contact: str = "/CreateItem"
    updating_contact: str = "/UpdateItem"
    moving_contact: str = "/MoveItem"
    deleting_contact: str = "/DeleteItem"

    def contact_ref(self, stored: StoredContact) -> str:
        return stored.ews_id.replace("/", "-").replace("+", "_")

    def forget_changes(self) -> None:
        self.fail("forgets")

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
        options = {"sleep": sleeps.append, "now": remote.world.now} | options
        return ExchangeMailbox(guard, url=url, address=address, get_login=lambda: login, **options)

    return open_mailbox


@pytest.fixture
def mailbox(open_mailbox: Open) -> ExchangeMailbox:
    return open_mailbox()
