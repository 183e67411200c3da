"""Fixtures for the tests of mailboxes at Google: its two services, on ports, and a mailbox as the product opens it."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from flask import Flask

from server.mail.google import GoogleMailbox
from server.mail.google.calls import Budget, Calls, describe
from server.transport import Gateway
from simulator import google
from simulator.google import GoogleService, people as google_people, service_of
from simulator.google.mail import adopt
from simulator.google.people import PeopleService, people_of
from simulator.serving import Port
from simulator.world import World
from tests.mail.google.remote import TOO_LARGE, GoogleRemote, MeddlingGateway, Tenant


@pytest.fixture(scope="module")
def tenant() -> Tenant:
    return Tenant()


@pytest.fixture(scope="module")
def app(tenant: Tenant) -> Flask:
    return google.create_app(lambda: tenant.world, tenant.grant)


@pytest.fixture(scope="module")
def people_app(tenant: Tenant) -> Flask:
    return google_people.create_app(lambda: tenant.world, tenant.grant)


@pytest.fixture(scope="module")
def service(app: Flask) -> GoogleService:
    return service_of(app)


@pytest.fixture(scope="module")
def people(people_app: Flask) -> PeopleService:
    return people_of(people_app)


@pytest.fixture(scope="module")
def port(app: Flask) -> Iterator[Port]:
    with Port(app) as port:
        yield port


@pytest.fixture(scope="module")
def people_port(people_app: Flask) -> Iterator[Port]:
    with Port(people_app) as port:
        yield port


@pytest.fixture
def remote(tenant: Tenant, people: PeopleService, world: World) -> GoogleRemote:
    tenant.world, tenant.revoked, tenant.scopes = world, False, Tenant.scopes
    people.write_s = 0.0
    adopt(world, world.people[0])
    return GoogleRemote(
        world,
        "google",
        world.people[0],
        lambda: setattr(tenant, "revoked", True),
        marking="/modify",
        creating="POST /gmail/v1/users/me/labels",
        creating_folder="POST /v1/contactGroups",
        creating_contact=":createContact",
        creating_and_looking="POST",  # not the groups, which are read before
        updating_contact=":updateContact",
        moving_contact=":updateContact",
        deleting_contact=":deleteContact",
        creating_contacts=":batchCreateContacts",
        updating_contacts=":batchUpdateContacts",
        requests_to_create=2,
        requests_to_update=2,
        refused=TOO_LARGE,
        book=people.book(world.people[0]),
    )


@pytest.fixture(scope="module")
def services(port: Port, people_port: Port) -> tuple[Any, Any]:
    return describe(port.url), describe(people_port.url, "people")


@pytest.fixture
def open_mailbox(
    gateway: Gateway, port: Port, people_port: Port, services: tuple[Any, Any], remote: GoogleRemote, sleeps: list[float]
) -> Callable[..., GoogleMailbox]:
    def open_mailbox(gateway: Gateway = gateway, topic: str = "", **options: Any) -> GoogleMailbox:
        given = {"get_token": lambda: remote.person.email, "sleep": sleeps.append} | options
        mail, people = services
        contacts = Calls(gateway, url=people_port.url, service=people, **given | {"budget": ample()})
        return GoogleMailbox(Calls(gateway, url=port.url, service=mail, **{"budget": ample()} | given), contacts, topic=topic)

    return open_mailbox


def ample() -> Budget:
    """A budget that no test uses up: the tests' sleeps do not fill it again."""
    return Budget(burst=1_000_000)


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


@pytest.fixture
def meddling(gateway: Gateway, open_mailbox: Callable[..., GoogleMailbox]) -> Callable[..., GoogleMailbox]:
    def meddling(match: str, act: Callable[[], object], after: int = 0) -> GoogleMailbox:
        meddler = MeddlingGateway("Gmail", timeout_s=10, ssl_context=gateway._ssl)
        meddler.match, meddler.act, meddler.after = match, act, after
        return open_mailbox(gateway=meddler)

    return meddling
