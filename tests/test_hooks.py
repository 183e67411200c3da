"""Notifications of mail services lead to a session at once; what does not prove to come from them leads to nothing."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from server import wiring
from server.config import Settings
from server.services import Deps, connecting, operations
from server.services.connections import identify, mailbox_connection, own_connection
from server.store import Connection, HookSubscription, Store
from server.web import create_app
from server.worker import Dispatcher
from server.worker.kinds import SUBSCRIPTION
from simulator.google import push
from simulator.graph.subscriptions import Order
from simulator.ports import HOOKS, Simulator
from simulator.serving import Port
from simulator.world import Fault, World
from tests.processes import eventually

TOPIC = "projects/ssi/topics/mail"
PUSHER = "pusher@ssi.iam.example.com"


@dataclass
class Exchange:
    """The product behind its reverse proxy, and a person whose mailbox sends notifications there."""

    deps: Deps
    settings: Settings
    simulator: Simulator
    client: FlaskClient
    connection: Connection
    forward: Callable[..., None]

    @property
    def world(self) -> World:
        return self.simulator.world

    @property
    def row(self) -> HookSubscription:
        with self.deps.store.transaction(reading=True) as tx:
            found = tx.subscription_of(self.connection.id)
        assert found is not None
        return found

    @property
    def orders(self) -> list[Order]:
        return self.simulator.subscriptions.orders(self.world)

    def work(self) -> None:
        while Dispatcher(self.deps, threads=0, poll_s=1).run_once():
            pass

    def renew(self) -> None:
        dispatcher = Dispatcher(self.deps, threads=0, poll_s=1)
        for job in dispatcher.taken(SUBSCRIPTION, 10):
            dispatcher.perform(job)

    def due(self) -> datetime | None:
        """When the mailbox's next session begins."""
        with self.deps.store.transaction(reading=True) as tx:
            session = tx.session_of(self.connection.id)
        assert session is not None
        return session.next_due_at

    def is_awake(self) -> bool:
        due = self.due()
        return due is not None and due <= self.deps.now()

    def tell(self, body: Any, *, to: str = "", **arguments: Any) -> int:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        path = f"/hooks/graph/{to or self.row.id}"
        return self.client.post(path, data=data, content_type="application/json", **arguments).status_code

    def notification(self, **changes: Any) -> dict[str, Any]:
        order = self.orders[0]
        return {"subscriptionId": order.id, "clientState": order.client_state, "changeType": "updated", **changes}

    def mark(self) -> None:
        mailbox = self.world.mailbox(self.world.people[0].email)
        with self.world.lock:
            inbox = mailbox.folder("inbox").id
            message = next(one for one in mailbox.messages.values() if one.folder == inbox)
            message.categories = [*message.categories, "Something new"]
            mailbox.touch(message, self.world.now())


@pytest.fixture
def office(
    deps: Deps, settings: Settings, simulator: Simulator, world: World, forward: Callable[..., None]
) -> Iterator[Exchange]:
    """The first session is over, and notifications are ordered."""
    deps = replace(deps, hooks_url=HOOKS)
    connection = mailbox_connection(deps, identify(deps, simulator.bearer(world.people[0])))
    app = create_app(deps, wiring.face(settings))
    with Port(app) as port:
        simulator.server_url = port.url
        office = Exchange(deps, settings, simulator, app.test_client(), connection, forward)
        with deps.store.transaction() as tx:
            tx.queue_session(connection, deps.now())
        office.work()
        yield office
    simulator.server_url = ""


# From a change to a session


def test_after_the_first_session_a_change_in_the_mailbox_leads_to_a_session(office: Exchange) -> None:
    assert len(office.orders) >= 3
    assert not office.is_awake()
    office.mark()
    eventually(office.is_awake)
    office.work()
    assert not office.is_awake()


def test_an_order_is_renewed_before_half_of_its_life_is_over(office: Exchange) -> None:
    row = office.row
    assert row.expires_at is not None
    assert row.next_due_at is not None
    life = row.expires_at - office.deps.now()
    assert timedelta(0) < row.next_due_at - office.deps.now() < life / 2
    office.forward(seconds=(row.next_due_at - office.deps.now()).total_seconds() + 1)
    office.renew()
    assert office.row.ref == row.ref
    assert office.row.expires_at is not None
    assert office.row.expires_at > row.expires_at


@pytest.mark.soak  # the adapter's own short retries wait in real time
def test_no_order_lapses_in_thirty_days_with_failures_of_up_to_six_hours(office: Exchange) -> None:
    chance = random.Random(7)
    away = 0
    for _ in range(30 * 12):
        office.forward(hours=2)
        if away:
            away -= 1
            if not away:
                office.world.faults.clear()
        elif chance.random() < 0.08:
            away = chance.randint(1, 3)
            office.world.faults.append(Fault("graph", "status", match="/$batch", status=503, times=None))
        office.renew()
        assert office.orders
    office.world.faults.clear()
    office.mark()
    eventually(office.is_awake)


def test_an_ended_mailbox_gets_no_notifications_any_more(office: Exchange) -> None:
    with office.deps.store.transaction(reading=True) as tx:
        principal = tx.principal_of(office.connection.user_id)
    assert principal is not None
    known_as = office.row.id
    connecting.disconnect(office.deps, principal)
    assert office.orders == []
    assert office.tell({"value": []}, to=known_as) == 404


def test_an_address_that_the_service_cannot_reach_is_told_after_eight_tries(office: Exchange) -> None:
    office.simulator.subscriptions.lifecycle(office.world, "subscriptionRemoved")
    office.simulator.server_url = ""
    with office.deps.store.transaction() as tx:
        tx.renew_soon(office.row.id, office.deps.now())
    for tries in range(8):
        assert office.row.attempts == tries
        office.renew()
        office.forward(hours=1)
    (job,) = operations.jobs(office.deps, dead_only=True)
    assert job["kind"] == "subscription"
    office.simulator.server_url = "http://127.0.0.1:9"
    assert operations.retry_job(office.deps, job["id"]) == "subscription"


# What the service says of an order


@pytest.mark.parametrize("event", ["missed", "subscriptionRemoved", "reauthorizationRequired"])
def test_what_happens_to_an_order_is_seen_to_within_minutes(office: Exchange, event: Any) -> None:
    before = office.row
    office.forward(minutes=1)
    assert office.simulator.subscriptions.lifecycle(office.world, event) > 0
    assert office.is_awake()
    if event == "missed":
        assert office.row.next_due_at == before.next_due_at
        return
    office.renew()
    assert office.orders
    assert office.row.expires_at is not None
    assert before.expires_at is not None
    assert office.row.expires_at > before.expires_at
    office.work()
    office.mark()
    eventually(office.is_awake)


def test_notifications_that_come_twice_or_together_are_one_session(office: Exchange) -> None:
    both = {"value": [office.notification(), office.notification(changeType="deleted")]}
    assert [office.tell(both) for _ in range(3)] == [202, 202, 202]
    seen = len(office.world.access)
    Dispatcher(office.deps, threads=0, poll_s=1).run_once()
    assert not office.is_awake()
    assert len(office.world.access) > seen


def test_a_service_that_asked_for_rest_is_not_asked_earlier_because_it_notifies(office: Exchange) -> None:
    office.world.faults.append(Fault("graph", "status", status=429, retry_after_s=300, times=None))
    office.mark()
    eventually(office.is_awake)
    office.work()
    due = office.due()
    assert due is not None
    assert due - office.deps.now() > timedelta(seconds=250)
    assert office.tell({"value": [office.notification()]}) == 202
    assert office.due() == due


# What is refused


def test_what_does_not_prove_its_origin_is_refused_and_does_nothing(office: Exchange) -> None:
    good = office.notification()
    state = good["clientState"]
    flipped = [state[:n] + chr(ord(state[n]) ^ 1) + state[n + 1 :] for n in range(len(state))]
    for forged in (*flipped, "", None, state[:-1], state + "x", "ä" * 64, 7, {}):
        assert office.tell({"value": [good | {"clientState": forged}]}) == 403
    assert office.tell({"value": [good, good | {"clientState": "x"}]}) == 403
    assert office.tell({"value": [good | {"subscriptionId": "another"}]}) == 403
    for body in (b"", b"[", b"[" * 5000, b"null", b'{"value": 7}', b'{"value": [1]}', {"value": []}):
        assert office.tell(body) == 403
    assert office.tell({"value": [good]}, to="0" * 32) == 404
    assert office.tell(b"x" * (1024 * 1024 + 1)) == 413
    assert not office.is_awake()


def test_a_validation_token_comes_back_as_plain_text_and_only_where_notifications_are_awaited(office: Exchange) -> None:
    token = "<script>alert(1)</script> & more"
    answer = office.client.post(f"/hooks/graph/{office.row.id}", query_string={"validationToken": token})
    assert (answer.status_code, answer.get_data(as_text=True)) == (200, token)
    assert answer.content_type == "text/plain; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    long = office.client.post(f"/hooks/graph/{office.row.id}", query_string={"validationToken": "x" * 1025})
    unknown = office.client.post("/hooks/graph/" + "0" * 32, query_string={"validationToken": token})
    for refused in (long, unknown):
        assert refused.status_code == 404
        assert b"alert" not in refused.data
    assert office.client.get(f"/hooks/graph/{office.row.id}").status_code == 405


@pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)
def test_whatever_an_address_names_that_is_no_subscription_is_not_there(client: FlaskClient) -> None:
    for name in ("%00", "0" * 31 + "%00", "%ff%fe", "%ED%A0%80", "%F0%9F%98%80", "x" * 10_000):
        assert client.post(f"/hooks/graph/{name}", data=b"{}").status_code == 404
        assert client.post(f"/hooks/graph/{name}", query_string={"validationToken": "t"}).status_code == 404


def test_who_proves_nothing_is_soon_not_listened_to_while_proven_mailboxes_and_other_networks_are(office: Exchange) -> None:
    office = bounded(office, refused_per_minute=3)
    good, elsewhere = {"value": [office.notification()]}, {"REMOTE_ADDR": "198.51.100.7"}
    forged = {"value": [office.notification(clientState="x")]}
    assert office.tell(good) == 202
    assert [office.tell(good, to=f"{number:032x}") for number in range(4)] == [404, 404, 404, 429]
    refused = office.client.post("/hooks/google", data=b"{}")
    assert (refused.status_code, refused.json["code"]) == (429, "too_often")
    assert 0 < int(refused.headers["Retry-After"]) <= 20
    assert [office.tell(good) for _ in range(20)] == [202] * 20
    assert office.tell(forged) == 403
    assert office.tell(good) == 429, "what proved itself has to again, once it was refused"
    assert office.tell(good, environ_base=elsewhere) == 202
    assert [office.tell(forged, environ_base=elsewhere) for _ in range(5)] == [403, 403, 403, 403, 429]
    office.forward(minutes=1)
    assert office.tell(good) == 202


def test_a_burst_for_many_mailboxes_from_one_address_is_taken_whole(office: Exchange) -> None:
    with office.deps.store.transaction(reading=True) as tx:
        users = {user.email for tenant in tx.tenants() for user in tx.users(tenant.id)}
    colleagues = [one for one in office.world.people[1:] if one.email in users and one.access_type == "office365"][:3]
    for person in colleagues:
        connection = mailbox_connection(office.deps, identify(office.deps, office.simulator.bearer(person)))
        with office.deps.store.transaction() as tx:
            tx.queue_session(connection, office.deps.now())
    office.work()
    told = {order.url.rpartition("/")[2]: order for order in office.orders}
    assert len(told) == 1 + len(colleagues) > 2
    office = bounded(office, refused_per_minute=1)
    for _ in range(10):
        for place, order in told.items():
            value = office.notification() | {"subscriptionId": order.id, "clientState": order.client_state}
            assert office.tell({"value": [value]}, to=place) == 202
    with office.deps.store.transaction() as tx:
        assert len(tx.take_sessions(office.deps.now(), 60, 10)) == len(told)


def test_a_mailbox_that_is_awake_is_not_written_again_until_its_session_has_begun(office: Exchange) -> None:
    good = {"value": [office.notification()]}
    due = []
    for _ in range(3):
        assert office.tell(good) == 202
        due.append(office.due())
        office.forward(seconds=1)
    assert due == due[:1] * 3
    with office.deps.store.transaction() as tx:
        (session,) = tx.take_sessions(office.deps.now(), 60, 1)
    office.forward(seconds=1)
    assert office.tell(good) == 202
    assert (office.due() or due[0]) > due[0], "what happens during a session is seen by the next one"
    with office.deps.store.transaction() as tx:
        tx.give_back("mailbox_sync", session.id, session.fence)


def bounded(office: Exchange, *, refused_per_minute: int) -> Exchange:
    """The same, where so many calls of one network address may be refused in a minute."""
    limits = replace(office.deps.limits, failed_sign_ins_per_minute=refused_per_minute)
    app = create_app(replace(office.deps, limits=limits), wiring.face(office.settings))
    return replace(office, client=app.test_client())


@pytest.mark.soak
def test_ten_thousand_forgeries_do_nothing_ask_nobody_and_are_told_once_each(
    office: Exchange, capsys: pytest.CaptureFixture[str]
) -> None:
    good, row = office.notification(), office.row
    capsys.readouterr()
    seen = len(office.world.access)
    for number in range(5_000):
        assert office.tell({"value": [good | {"clientState": f"{number}"}]}) == 403
        assert office.tell({"value": [good]}, to=f"{number:032x}") == 404
    said = capsys.readouterr().err
    assert said.count("notification refused") == 5_000
    assert said.count("\n") <= 10_000
    assert good["clientState"] not in said
    assert len(office.world.access) == seen
    assert office.row == row
    assert not office.is_awake()


def test_while_the_database_is_away_the_service_has_to_send_it_again(office: Exchange) -> None:
    away = replace(office.deps, store=Store("postgresql+psycopg://x@127.0.0.1:9/x"))
    client = create_app(away, wiring.face(office.settings)).test_client()
    data = json.dumps({"value": [office.notification()]})
    assert client.post(f"/hooks/graph/{office.row.id}", data=data).status_code == 503
    assert client.post("/hooks/graph/x", query_string={"validationToken": "t"}).status_code == 503


def test_before_the_service_confirmed_an_order_it_has_to_send_it_again(office: Exchange) -> None:
    body = {"value": [office.notification()]}
    with office.deps.store._engine.begin() as connection:
        connection.execute(sa.text("UPDATE subscription SET ref = ''"))
    assert office.tell(body) == 503


# Google


@pytest.fixture
def pushes(settings: Settings, simulator: Simulator, world: World, forward: Callable[..., None]) -> Iterator[Exchange]:
    """A mailbox at Gmail, whose operator made a topic."""
    settings = replace(settings, hooks_url=HOOKS, google_topic=TOPIC, google_push_account=PUSHER)
    simulator.gmail_pushes.topics[TOPIC] = True
    deps = wiring.build(settings, now=world.now)
    with deps.store.transaction(reading=True) as tx:
        email = world.people[0].email
        user = next(user for tenant in tx.tenants() for user in tx.users(tenant.id) if user.email == email)
        principal = tx.principal_of(user.id)
    assert principal is not None
    connection = own_connection(deps, principal)
    assert connection is not None
    exchange = Exchange(deps, settings, simulator, create_app(deps, wiring.face(settings)).test_client(), connection, forward)
    with deps.store.transaction() as tx:
        tx.queue_session(connection, deps.now())
    exchange.work()
    yield exchange
    deps.background.shutdown()
    deps.store.close()


def pushed(pushes: Exchange, address: str, **claims: Any) -> int:
    given = {"aud": f"{HOOKS}/hooks/google", "email": PUSHER, "email_verified": True, "hd": None, **claims}
    token = pushes.simulator.google_identity.mint_id_token(pushes.world, pushes.world.people[0], **given)
    headers = {"Authorization": f"Bearer {token}"}
    return pushes.client.post("/hooks/google", data=push.payload(address, 7), headers=headers).status_code


@pytest.mark.parametrize("access_type", ["google"], indirect=True)
def test_a_push_of_pub_sub_leads_to_a_session_if_its_token_is_the_push_accounts(pushes: Exchange) -> None:
    address = pushes.connection.mailbox
    past = int(pushes.world.now().timestamp()) - 3600
    for wrong in ({"aud": f"{HOOKS}/hooks"}, {"email": "x@example.com"}, {"email_verified": False}, {"exp": past}, {"aud": None}):
        assert pushed(pushes, address, **wrong) == 403
    person = pushes.simulator.bearer(pushes.world.people[0])
    forged = pushes.client.post("/hooks/google", data=push.payload(address, 7), headers={"Authorization": f"Bearer {person}"})
    assert forged.status_code == 403
    assert pushes.client.post("/hooks/google", data=push.payload(address, 7)).status_code == 403
    assert not pushes.is_awake()
    assert pushed(pushes, "nobody@example.com") == 202
    assert not pushes.is_awake()
    assert pushed(pushes, address.upper()) == 202
    assert pushes.is_awake()


def pushed_body(pushes: Exchange, told: Any) -> int:
    claims = {"aud": f"{HOOKS}/hooks/google", "email": PUSHER, "email_verified": True, "hd": None}
    token = pushes.simulator.google_identity.mint_id_token(pushes.world, pushes.world.people[0], **claims)
    data = json.dumps({"message": {"data": base64.urlsafe_b64encode(json.dumps(told).encode()).decode()}})
    return pushes.client.post("/hooks/google", data=data, headers={"Authorization": f"Bearer {token}"}).status_code


@pytest.mark.parametrize("access_type", ["google"], indirect=True)
def test_a_push_about_no_mailbox_is_refused_and_one_about_a_mailbox_that_is_not_connected_any_more_is_done_with(
    pushes: Exchange,
) -> None:
    for told in (7, [], {}, "x", {"emailAddress": "\ud800"}):
        assert pushed_body(pushes, told) == 403
    with pushes.deps.store.transaction() as tx:
        tx.set_connection_state(pushes.connection.id, "needs_reauth", "Google does not let us in any more.", pushes.deps.now())
    assert pushed(pushes, pushes.connection.mailbox) == 202
    assert not pushes.is_awake()


@pytest.mark.parametrize("access_type", ["google"], indirect=True)
def test_without_a_topic_gmail_is_asked_at_intervals_and_no_push_is_taken(
    deps: Deps, settings: Settings, world: World, client: FlaskClient
) -> None:
    assert "push" not in deps.capabilities("google")
    assert client.post("/hooks/google", data=push.payload(world.people[0].email, 7)).status_code == 404
