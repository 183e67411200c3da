"""Notifications that come twice, late, in any order or not at all: what they are about arrives all the same.

A post office stands between Microsoft 365 and the product's address for notifications: it takes what the service sends, loses
some of it, and brings the rest in its own way. The oracle is what the mailbox's owner did, and the World.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug import Request, Response

from server import wiring
from server.config import Settings
from server.domain.contact import Contact
from server.services import Deps
from server.services.connections import identify, mailbox_connection
from server.web import create_app
from server.worker import Dispatcher
from server.worker.kinds import SESSION, SUBSCRIPTION
from simulator.ports import HOOKS, Simulator
from simulator.serving import Port
from simulator.world import World
from tests.figures import Count
from tests.sync.conftest import remote_of
from tests.sync.house import House

LOST, DOUBLED, LATE = 0.1, 0.3, 0.2
FIELDS = ("given_name", "business_phone", "job_title", "email")
FEWEST, MOST = 40, 80  # people in the mailbox
INTERVAL_S = 33 * 60  # the longest that an ordinary session is away: 30 minutes and a tenth


@dataclass
class PostOffice:
    """Brings notifications to the product, though not as they were sent."""

    client: FlaskClient
    chance: random.Random
    waiting: list[tuple[str, dict[str, Any]]] = field(default_factory=list)  # path -> one notification
    tally: Counter[str] = field(default_factory=Counter)

    @Request.application
    def take(self, request: Request) -> Response:
        """Answer Microsoft 365 in the product's place; what it asks before it sends any is the product's to answer."""
        if "validationToken" in request.args:
            answer = self.client.post(request.path, query_string=request.args)
            return Response(answer.data, answer.status_code, content_type=answer.content_type)
        value = json.loads(request.data)["value"]
        self.tally["sent"] += len(value)
        if self.chance.random() < LOST:  # all that a request holds
            self.tally["lost"] += len(value)
        else:
            self.waiting += [(request.path, one) for one in value]
        return Response(status=202)

    def bring(self) -> None:
        """Bring most of what is waiting: some twice, some later, all in any order and together as it happens."""
        taken, self.waiting = self.waiting, []
        twice = [one for one in taken if self.chance.random() < DOUBLED]
        self.tally["doubled"] += len(twice)
        brought = taken + twice
        self.chance.shuffle(brought)
        late = int(len(brought) * LATE)
        self.waiting += brought[:late]
        joined: dict[tuple[str, int], list[dict[str, Any]]] = {}
        for path, notification in brought[late:]:
            joined.setdefault((path, self.chance.randrange(3)), []).append(notification)
        for (path, _), value in joined.items():
            assert self.client.post(path, json={"value": value}).status_code == 202
            self.tally["brought"] += len(value)

    def lose(self) -> None:
        """Let nothing of what is waiting, or was not told yet, ever arrive."""
        self.tally["lost"] += len(self.waiting)
        self.waiting.clear()


@dataclass
class Owner:
    """Somebody who works on the contacts in their mailbox, and remembers what has to be there."""

    house: House
    chance: random.Random
    written: dict[str, Contact] = field(default_factory=dict)  # by surname: nobody changes theirs
    number: int = 0

    def do_something(self) -> None:
        known = {contact.surname: ref for ref, contact in self.house.items().items()}
        name = self.chance.choice(sorted(self.written)) if self.written else ""
        if len(self.written) < FEWEST or (len(self.written) < MOST and self.chance.random() < 0.1):
            self.number += 1
            contact = Contact(given_name="Kim", surname=f"Number{self.number}", job_title=f"title {self.number}")
            self.house.remote.put_contact(self.house.folder(), contact)
            self.written[contact.surname] = contact
        elif self.chance.random() < 0.1:
            self.house.remote.drop_contact(known[name])
            del self.written[name]
        else:
            self.number += 1
            part = self.chance.choice(FIELDS)
            text = f"value {self.number}"
            values: dict[str, Any] = {"emails": (f"mail{self.number}@e.example",)} if part == "email" else {part: text}
            self.house.remote.change_contact(known[name], **values)
            self.written[name] = replace(self.written[name], **values)

    def expected(self) -> list[tuple[str, ...]]:
        """What both sides have to have, as `House.people` tells it."""
        return sorted(
            (c.given_name, c.surname, c.emails[0] if c.emails else "", c.business_phone, c.job_title)
            for c in self.written.values()
        )


@dataclass
class Office:
    """The product, a mailbox with an owner, and the post office."""

    house: House
    simulator: Simulator
    post: PostOffice
    owner: Owner
    bursts: int = 0
    sessions: int = 0

    def work(self) -> None:
        """Do what a worker finds due: sessions, and orders to be renewed."""
        dispatcher = Dispatcher(self.house.deps, threads=0, poll_s=1)
        for job in dispatcher.taken(SUBSCRIPTION, 10):
            dispatcher.perform(job)
        for job in dispatcher.taken(SESSION, 10):
            self.sessions += 1
            dispatcher.perform(job)
            assert (self.house.row.state, self.house.row.reason) == ("done", "")

    def told(self) -> None:
        """Let Microsoft 365 send what there is to tell."""
        self.simulator.subscriptions.deliver(self.house.world)

    def busy(self, changes: int, chance: random.Random) -> None:
        """Let the owner do so much, in bursts, while the post office and a worker do their part."""
        while changes > 0:
            burst = min(changes, chance.choice((1, 1, 2, 5, 10, 20)))
            changes -= burst
            self.bursts += 1
            for _ in range(burst):
                with self.house.world.lock:
                    self.owner.do_something()
                self.told()
                self.house.forward(seconds=chance.choice((1, 5, 20)))
            self.post.bring()
            self.work()

    def wait_for_the_ordinary_session(self) -> None:
        """Let no notification arrive any more, and time pass until the mailbox is looked at anyway."""
        self.told()
        self.post.lose()
        wait_s = (self.house.row.next_due_at - self.house.deps.now()).total_seconds()  # type: ignore[operator]  # there is one
        assert wait_s <= INTERVAL_S
        self.house.forward(seconds=max(0.0, wait_s) + 1)
        self.work()

    def check(self) -> None:
        mailbox, c4c = self.house.people()
        assert mailbox == self.owner.expected(), "what the owner wrote is not there any more"
        assert c4c == mailbox
        records = Counter(row["LastName"] for row in self.house.world.crm.rows("ContactCollection").values())
        assert [name for name, number in records.items() if number > 1 and name.startswith("Number")] == []


@pytest.fixture
def office(deps: Deps, settings: Settings, simulator: Simulator, world: World, forward: Callable[..., None]) -> Iterator[Office]:
    """The first session is over, and notifications are ordered."""
    deps, chance, person = replace(deps, hooks_url=HOOKS), random.Random(11), world.people[0]
    post = PostOffice(create_app(deps, wiring.face(settings)).test_client(), chance)
    mailbox_connection(deps, identify(deps, simulator.bearer(person)))
    house = House(deps, world, person, remote_of(world, simulator, "office365"), forward)
    house.clear()
    house.set_profile(deleting="obsolete")
    with deps.store.transaction() as tx:
        tx.queue_session(house.connection, deps.now())
    office = Office(house, simulator, post, Owner(house, chance))
    with Port(post.take) as port:
        simulator.server_url = port.url
        for _ in range(3):  # the first session, the order, and what follows from it
            office.work()
        assert simulator.subscriptions.orders(world)
        office.sessions = 0
        yield office
    simulator.server_url = ""


@pytest.mark.parametrize("changes", [100, pytest.param(10_000, marks=pytest.mark.soak)])
def test_whatever_becomes_of_notifications_both_sides_agree_after_the_next_ordinary_session(
    office: Office, changes: int, count: Count
) -> None:
    chance, step = random.Random(changes), min(changes // 2, 1_000)
    for _ in range(0, changes, step):
        office.busy(step, chance)
        office.wait_for_the_ordinary_session()
        office.check()
    tally = office.post.tally
    assert tally["lost"] > 0 < tally["doubled"]
    assert office.bursts / 2 < office.sessions < tally["brought"] / 3, "they say when to look, and together once"
    count("notified changes: changes", changes)
    count("notified changes: sessions", office.sessions)
    for name, number in tally.items():
        count(f"notified changes: notifications {name}", number)
