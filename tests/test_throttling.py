"""A mailbox that answers nothing but 429 for ten minutes, while sessions, notifications and its owner's clicks want it.

How often it was asked, and when, is what the mail service's own access log says.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import accumulate, pairwise
from typing import Any

import pytest

from server import wiring
from server.config import Settings
from server.services import Deps
from server.services.connections import identify, mailbox_connection
from server.web import create_app
from server.worker import Dispatcher
from simulator.google import push
from simulator.ports import HOOKS, Simulator
from simulator.serving import Port
from simulator.world import Access, Fault, Latency, World
from tests.api import Api, everywhere
from tests.figures import Count

TOPIC = "projects/ssi/topics/mail"
PUSHER = "pusher@ssi.iam.example.com"
MINUTES = 10
LONGEST_REST_S = 121  # rounded up
CLICKS = 12


@dataclass
class Desk:
    """A person at the sidebar, whose mailbox has a session now and then and sends notifications."""

    deps: Deps
    me: Api
    simulator: Simulator
    forward: Callable[..., None]

    @property
    def world(self) -> World:
        return self.me.world

    def requests(self, since: int = 0) -> list[Access]:
        """What the mailbox was asked."""
        return [one for one in self.world.access[since:] if one.vendor == self.me.host.vendor]

    def work(self) -> None:
        Dispatcher(self.deps, threads=0, poll_s=1).run_once()

    def click(self) -> None:
        """Press Save; while the mailbox rests its owner is told for how long."""
        refused = self.me.save("known_contact")
        assert (refused.status_code, refused.json["code"]) == (503, "busy"), refused.text
        assert 0 < int(refused.headers["Retry-After"]) <= LONGEST_REST_S

    def notified(self) -> None:
        """Let something happen in the mailbox that its service tells of, where it tells of anything."""
        mailbox = self.world.mailbox(self.me.person.email)
        with self.world.lock:
            inbox = mailbox.folder("inbox").id
            mailbox.touch(next(one for one in mailbox.messages.values() if one.folder == inbox), self.world.now())
        self.simulator.subscriptions.deliver(self.world)
        if self.me.person.access_type == "google":
            claims = {"aud": f"{HOOKS}/hooks/google", "email": PUSHER, "email_verified": True, "hd": None}
            token = self.simulator.google_identity.mint_id_token(self.world, self.me.person, **claims)
            data, headers = push.payload(self.me.person.email, mailbox.change), {"Authorization": f"Bearer {token}"}
            assert self.me.app.test_client().post("/hooks/google", data=data, headers=headers).status_code == 202


@pytest.fixture
def desk(settings: Settings, simulator: Simulator, world: World, forward: Callable[..., None]) -> Iterator[Desk]:
    """The first session is over, and notifications are ordered."""
    settings = replace(settings, hooks_url=HOOKS, google_topic=TOPIC, google_push_account=PUSHER)
    simulator.gmail_pushes.topics[TOPIC] = True
    deps = wiring.build(settings, now=world.now, sleep=lambda seconds: forward(seconds=seconds))
    app = create_app(deps, wiring.face(settings))
    me = Api(app, simulator, world.people[0])
    connection = mailbox_connection(deps, identify(deps, simulator.bearer(me.person)))
    with Port(app) as port:
        simulator.server_url = port.url
        desk = Desk(deps, me, simulator, forward)
        with deps.store.transaction() as tx:
            tx.queue_session(connection, deps.now())
        for _ in range(3):
            desk.work()
        assert desk.me.save("account_only").status_code == 201
        yield desk
    simulator.server_url = ""
    deps.background.shutdown()
    deps.store.close()


def moments(calls: list[Access]) -> list[tuple[datetime, int]]:
    """Return when each call began, as +1, and when it ended, as -1, in the order of time."""
    begun = [(call.at - timedelta(milliseconds=call.duration_ms), 1) for call in calls]
    return sorted(begun + [(call.at, -1) for call in calls])


@everywhere
@pytest.mark.parametrize("wanted_s", [None, *(pytest.param(s, marks=pytest.mark.soak) for s in (1, 30, 120))])
def test_in_ten_minutes_of_refusals_a_mailbox_is_asked_ten_times_and_for_its_owners_clicks_first(
    desk: Desk, wanted_s: int | None, count: Count
) -> None:
    chance = random.Random(17)
    desk.me.fail("status", status=429, retry_after_s=wanted_s, times=None)
    begun, since, tries = desk.world.now(), len(desk.world.access), []
    while (desk.world.now() - begun).total_seconds() < MINUTES * 60:
        desk.notified()
        for what, act in (("session", desk.work), ("click", desk.click)):
            asked = len(desk.requests(since))
            act()
            tries += [what] * (len(desk.requests(since)) > asked)
        desk.forward(seconds=chance.randrange(1, 40))
    calls = desk.requests(since)
    assert {call.status for call in calls} == {429}
    between = [(later.at - earlier.at).total_seconds() for earlier, later in pairwise(calls)]
    assert min(between) >= (wanted_s or 0)
    assert 3 <= len(calls) <= MINUTES
    assert tries.count("click") > tries.count("session") > 0
    desk.world.faults.clear()
    desk.forward(seconds=LONGEST_REST_S)
    assert desk.me.save("known_contact").status_code == 201
    count(f"throttling: requests in ten minutes of 429 ({desk.me.person.access_type}, Retry-After {wanted_s})", len(calls))


@pytest.mark.parametrize(
    ("access_type", "refusal"),
    [
        ("office365", {"kind": "status", "status": 429, "match": "Folders"}),  # of each part of a $batch that is answered 200
        ("google", {"kind": "rateLimitExceeded"}),  # which is 403
        ("exchange_direct", {"kind": "server_busy"}),  # in an envelope, without a time
    ],
    indirect=["access_type"],
)
def test_a_refusal_in_a_services_own_words_is_one_too(desk: Desk, refusal: dict[str, Any]) -> None:
    desk.world.faults.append(Fault(desk.me.host.vendor, **refusal, times=None))
    desk.forward(minutes=33)
    desk.work()
    asked = len(desk.requests())
    desk.world.faults.clear()
    desk.click()
    assert len(desk.requests()) == asked
    desk.forward(seconds=LONGEST_REST_S)
    assert desk.me.save("known_contact").status_code == 201


@pytest.mark.parametrize(
    "access_type",
    ["office365", *(pytest.param(one, marks=pytest.mark.soak) for one in ("exchange_direct", "google"))],
    indirect=True,
)
def test_no_more_than_four_requests_to_a_mailbox_are_under_way_however_many_want_it(desk: Desk) -> None:
    items = [desk.me.item(case) for case in ("known_contact", "account_only", "own_category")]
    desk.world.latency[desk.me.host.vendor] = Latency(base_ms=40)
    desk.notified()
    since = len(desk.world.access)
    with ThreadPoolExecutor(CLICKS) as pool:
        session = pool.submit(desk.work)
        for preview in [pool.submit(desk.me.preview, items[number % len(items)]) for number in range(2 * CLICKS)]:
            preview.result(30)
        session.result(30)
    assert max(accumulate(step for _, step in moments(desk.requests(since)))) == 4
