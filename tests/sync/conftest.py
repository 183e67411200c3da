"""Sessions of one person, in process, in front of the simulator."""

from collections.abc import Callable

import pytest

from server.services import Deps
from server.services.connections import identify, mailbox_connection
from simulator.ports import Simulator
from simulator.world import AccessType, Person, World
from tests.mail.exchange.remote import ExchangeRemote
from tests.mail.google.remote import GoogleRemote
from tests.mail.graph.remote import GraphRemote
from tests.mail.remote import Remote
from tests.sync.house import House


def remote_of(world: World, simulator: Simulator, access_type: AccessType, person: Person | None = None) -> Remote:
    """Return the back door to a person's mailbox, the first one's if nobody is named."""
    person = person or world.people[0]
    if access_type == "office365":
        return GraphRemote(world, "graph", person, lambda: None)
    if access_type == "google":
        return GoogleRemote(world, "google", person, lambda: None, book=simulator.books.of(world, person))
    return ExchangeRemote(world, "exchange", person, lambda: None)


@pytest.fixture
def house(deps: Deps, world: World, simulator: Simulator, access_type: AccessType, forward: Callable[..., None]) -> House:
    """A person whose mailbox is connected and whose C4C is empty of people of theirs; no session was run yet."""
    person = world.people[0]
    mailbox_connection(deps, identify(deps, simulator.bearer(person)))
    house = House(deps, world, person, remote_of(world, simulator, access_type), forward)
    house.clear()
    with deps.store.transaction() as tx:
        tx.queue_session(house.connection, deps.now())
    return house
