"""Fixtures for the tests of mailboxes at Microsoft 365: the service on a port, and a mailbox as the product opens it."""

from collections.abc import Callable, Iterator

import pytest

from server.mail.graph import GraphMailbox
from server.transport import Gateway
from simulator.serving import Port
from simulator.world import World
from tests.mail.graph.remote import GraphRemote, Tenant, opener


@pytest.fixture(scope="module")
def tenant() -> Tenant:
    return Tenant()


@pytest.fixture(scope="module")
def port(tenant: Tenant) -> Iterator[Port]:
    with Port(tenant.app()) as port:
        yield port


@pytest.fixture
def remote(tenant: Tenant, world: World) -> GraphRemote:
    return tenant.enter(world)


@pytest.fixture
def open_mailbox(gateway: Gateway, port: Port, remote: GraphRemote, sleeps: list[float]) -> Callable[..., GraphMailbox]:
    return opener(gateway, f"{port.url}/v1.0", remote, sleeps)


@pytest.fixture
def mailbox(open_mailbox: Callable[..., GraphMailbox]) -> GraphMailbox:
    return open_mailbox()
