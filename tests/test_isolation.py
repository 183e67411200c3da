"""What belongs to somebody else does not exist: not for a colleague, not in another tenant, whatever id is tried.

Ten thousand seeded tries over every route, of which the ordinary run makes 2,500 and --soak the others, with ids that exist (of
saves, messages, records, users, tenants), ids near them and ids that never were. A foreign id must be answered like one that
never was: status, body, length, and time, of which the medians are compared, since a shared machine proves nothing about a
single one. Afterwards nothing may have happened anywhere. The colleague of the same tenant and the namesake of another tenant
(the same address and object id there) are the two who come closest.
"""

import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from apiflask import APIFlask
from werkzeug.test import TestResponse

from server.config import Settings
from server.services import Deps, provisioning
from simulator import demo
from simulator.ports import Simulator
from simulator.world import Fault, Person, World
from tests.api import Api, Item, row_of
from tests.figures import Count

SEEDS = [1, 2, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(3, 9))]
TRIES = 1_250  # with each seed
SURE = 100  # tries from which on a median says something
OTHER_TENANT = "aaaaaaaa-1111-4222-8333-bbbbbbbbbbbb"
SHARES = {"state": 0.54, "retry": 0.34, "context": 0.06, "preview": 0.02, "save": 0.02, "me": 0.02}


@pytest.fixture
def elsewhere(simulator: Simulator, deps: Deps) -> Iterator[Simulator]:
    """Another tenant of the same installation, with a C4C of its own in which the same ObjectIDs exist."""
    with Simulator(demo.small(), simulator.ca_file.parent.parent) as other:
        other.world.entra_tenant = OTHER_TENANT
        document = other.provisioning()
        document["tenant"]["name"] = "elsewhere"
        provisioning.provision(deps, document)
        yield other


@dataclass(frozen=True)
class Caller:
    """Somebody with a token (or none), who tries."""

    name: str
    app: APIFlask
    token: str
    item: Item  # of their own

    def send(self, method: str, path: str, body: Any = None) -> TestResponse:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return self.app.test_client().open("/api" + path, method=method, headers=headers, json=body)


@dataclass(frozen=True)
class Prey:
    """What the victim has, and what must not be seen of it."""

    saves: list[str]
    items: list[Item]
    others: list[str]  # ids of other things: rows, records, people, tenants
    secrets: list[str]


def token_of(simulator: Simulator, person: Person, tenant: str) -> str:
    issuer = f"{simulator.identity.url}/{tenant}/v2.0"
    return simulator.provider.mint_api_token(simulator.world, person, tid=tenant, iss=issuer)


@pytest.fixture
def prey(colleague: Api, world: World, deps: Deps, settings: Settings) -> Prey:
    """Saves of every state: done, failed, waiting, unknown; and everything else that has an id."""
    items = [demo.item(mailbox, m) for mailbox in [world.mailbox(colleague.person.email)] for m in mailbox.messages.values()]
    colleague.save(items[0])
    world.faults.append(Fault("c4c", "part_status", "POST", status=400))
    colleague.save(items[1])
    world.faults.append(Fault("c4c", "drop", times=None))
    colleague.save(items[2])
    world.faults.clear()
    world.faults.append(Fault("c4c", "acted_drop", "EMailCollection"))
    colleague.save(items[3])
    world.faults.clear()
    engine = sa.create_engine(settings.database_url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        saves = list(connection.scalars(sa.text("SELECT id FROM save_request")))
        states = set(connection.scalars(sa.text("SELECT state FROM save_request")))
        tables = ("save", "tenant", "connection", "user", "organization")
        others = [id for table in tables for id in connection.scalars(sa.text(f'SELECT id FROM "{table}"'))]
    assert len(saves) == 4
    assert states >= {"saved", "failed"}
    records = [object_id.lower() for rows in world.crm.sets.values() for object_id in rows]
    activities = [row["ObjectID"] for row in world.saved_activities() if row["ObjectID"]]
    secrets = [*saves, *activities, colleague.person.email, colleague.person.name, colleague.person.user_id]
    secrets += [item["id"] for item in items] + [item["subject"] for item in items[:4]]
    return Prey(saves, items, [*others, *records], secrets)


def near(rng: random.Random, value: str) -> str:
    """The id itself, or one that differs a little."""
    place = rng.randrange(len(value))
    changed = value[:place] + rng.choice("0123456789abcdef") + value[place + 1 :]
    return rng.choice([value, value, value, value.upper(), value[::-1], changed])


def never_was(rng: random.Random) -> str:
    return f"{rng.getrandbits(128):032x}"


def request_for(rng: random.Random, route: str, caller: Caller, prey: Prey) -> tuple[str, str, Any, bool]:
    """Method, path, body, and whether the id in it is one of the victim's."""
    exists = rng.random() < 0.5
    save_id = near(rng, rng.choice(prey.saves) if rng.random() < 0.7 else rng.choice(prey.others)) if exists else never_was(rng)
    foreign = rng.choice(prey.items)
    item_id = foreign["id"] if exists else "AAMkAD" + never_was(rng)
    item = {**caller.item, "id": item_id, "mailbox": rng.choice([foreign["mailbox"], caller.item["mailbox"], ""])}
    if caller.name == "namesake" and exists:  # in another tenant the Message-ID tells nothing either
        item["internet_message_id"] = foreign["internet_message_id"]
    if route == "state":
        return "GET", f"/saves/{save_id}", None, exists
    if route == "retry":
        return "POST", f"/saves/{save_id}/retry", None, exists
    if route == "context":
        return "POST", "/context", {"item": item, "complete": rng.random() < 0.2}, exists
    if route == "preview":
        return "POST", "/saves/preview", {"item": item}, exists
    if route == "save":
        links = [{"type": "contact", "id": rng.choice(prey.others)[:32].rjust(32, "0")}] if rng.random() < 0.5 else []
        return (
            "POST",
            "/saves",
            {"item": item, "links": [one for one in links if set(one["id"]) <= set("0123456789abcdef")]},
            exists,
        )
    return "GET", "/me", None, exists


def shape(response: TestResponse) -> str:
    """The answer without what may differ between two tries of the same: request id and times."""
    body = response.json
    for name in ("request_id", "timing"):
        body.pop(name, None)
    return f"{response.status_code} {body}"


@pytest.fixture
def callers(me: Api, elsewhere: Simulator) -> list[Caller]:
    own = me.item("known_contact")
    theirs = elsewhere.world.people[1]  # the victim's namesake: the same name, address and object id
    third = elsewhere.world.people[2]
    callers = [
        Caller("colleague", me.app, me.simulator.bearer(me.person), own),
        Caller("namesake", me.app, token_of(me.simulator, theirs, OTHER_TENANT), {**own, "mailbox": theirs.email}),
        Caller("outsider", me.app, token_of(me.simulator, third, OTHER_TENANT), {**own, "mailbox": third.email}),
        Caller("nobody", me.app, "", own),
        Caller("forger", me.app, forged(me.simulator.bearer(me.person)), own),
    ]
    for caller in callers:  # the first use connects the mailbox, which /me then shows
        caller.send("POST", "/saves/preview", {"item": caller.item})
    return callers


def forged(token: str) -> str:
    head, claims, signature = token.split(".")
    return f"{head}.{claims}.{signature[:-8]}AAAAAAAA"


@pytest.mark.parametrize("seed", SEEDS)
def test_ten_thousand_tries_on_foreign_ids_find_nothing_and_do_nothing(
    seed: int, callers: list[Caller], world: World, prey: Prey, elsewhere: Simulator, settings: Settings, count: Count
) -> None:
    before = happened(world, elsewhere.world), rows_of(settings)
    rng = random.Random(seed)
    statuses: Counter[tuple[str, int]] = Counter()
    shapes: dict[tuple[str, str], set[str]] = defaultdict(set)
    times: dict[tuple[str, bool], list[float]] = defaultdict(list)
    routes = rng.choices(list(SHARES), list(SHARES.values()), k=TRIES)
    for route in routes:
        caller = rng.choices(callers, (4, 3, 2, 0.5, 0.5))[0]
        method, path, body, exists = request_for(rng, route, caller, prey)
        started = time.perf_counter()
        response = caller.send(method, path, body)
        times[f"{route} by {caller.name}", exists].append(time.perf_counter() - started)
        statuses[route, response.status_code] += 1
        shapes[route, caller.name].add(shape(response))
        if caller.name in ("nobody", "forger"):
            assert response.status_code == 401, (route, path)
        elif route in ("state", "retry") or (caller.name == "colleague" and route in ("preview", "save")):
            assert response.status_code == 404, (caller.name, route, path, response.text)
        elif route in ("preview", "save"):  # the simulated sign-in service has no other tenant, hence no mailboxes there
            assert response.status_code == 422, (caller.name, route, path, response.text)
        if caller.name != "namesake":
            assert not [secret for secret in prey.secrets if secret in response.text], (caller.name, route, path)
        else:
            assert not [save for save in prey.saves if save in response.text], (caller.name, route, path)
    report(seed, statuses, times)
    for what, exists in times:
        if exists and min(len(times[what, True]), len(times[what, False])) >= SURE:
            there, nowhere = (median(times[what, is_there]) for is_there in (True, False))
            assert abs(there - nowhere) < 0.002 + 0.3 * max(there, nowhere), what
    for (route, name), seen in shapes.items():
        assert len(seen) == 1, (route, name, list(seen)[:3])
    assert (happened(world, elsewhere.world), rows_of(settings)) == before
    assert sum(statuses.values()) == TRIES
    count("hostile input: tries with foreign ids", TRIES)


def happened(*worlds: World) -> list[tuple[str, str, str]]:
    """Everything that changed at a vendor, sign-ins left out."""
    return [
        (e.vendor, e.kind, e.actor) for world in worlds for e in world.events() if e.vendor != "identity" and e.kind != "token"
    ]


def rows_of(settings: Settings) -> list[Any]:
    """Everybody's saves as the database has them."""
    engine = sa.create_engine(settings.database_url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT * FROM save_request ORDER BY id")).all()
        return [*map(tuple, rows), *map(tuple, connection.execute(sa.text("SELECT * FROM save ORDER BY id")).all())]


def report(seed: int, statuses: Counter[tuple[str, int]], times: dict[tuple[str, bool], list[float]]) -> None:
    print(f"isolation: seed {seed}, {sum(statuses.values())} tries, {dict(sorted(statuses.items()))}")
    for what in sorted({what for what, _ in times}):
        medians = [f"{'exists' if exists else 'never was'} {median(times[what, exists]) * 1000:.2f} ms"
                   for exists in (True, False) if times[what, exists]]  # fmt: skip
        print(f"  {what}: median {', '.join(medians)}")


def test_a_record_that_one_may_not_see_is_refused_like_one_that_never_was(me: Api, world: World) -> None:
    """The demo hides a contact from everybody but the colleague."""
    (hidden,) = [id for id, users in world.crm.visible_to.items() if me.person.user_id not in users]
    answers = []
    for case, object_id in (("known_contact", hidden), ("account_only", "00163E" + "0" * 26)):
        response = me.save(case, [{"type": "contact", "id": object_id}])
        body = response.json
        for name in ("request_id", "save_id"):
            body.pop(name)
        answers.append((response.status_code, body))
    assert answers[0] == answers[1]
    assert answers[0][0] == 409
    assert list(world.events("c4c", "create")) == []


def test_an_answer_that_was_kept_is_kept_for_its_user_only(
    me: Api, colleague: Api, api: Callable[..., Api], world: World
) -> None:
    item = colleague.item("restricted_contact")
    assert colleague.context(item)["cards"]
    mine = me.context(me.item("restricted_contact"))
    assert mine["timing"]["cached"] is False
    assert mine["cards"] == []
    assert me.context(me.item("restricted_contact"))["cards"] == []


def test_records_are_found_looked_at_and_created_in_ones_own_tenant_only(
    me: Api, callers: list[Caller], world: World, elsewhere: Simulator
) -> None:
    """The namesake of another tenant has the same address and object id; neither an id nor a key of a create opens anything."""
    key, values = "ab" * 16, {"surname": "Confidential", "email": "only@here.example"}
    made = me.post("/records/contact", {"key": key, "values": values})
    assert made.status_code == 201
    assert [one["id"] for one in me.get("/search?q=confidential").json["records"]] == [made.json["id"]]
    for caller in callers[1:3]:
        for text in ("confidential", "only@here.example"):
            assert caller.send("GET", f"/search?q={text}").json == {"records": [], "more": False, "failed": []}
        foreign, nowhere = (caller.send("GET", f"/records/contact/{id}") for id in (made.json["id"], "00163E" + "0" * 26))
        assert foreign.status_code == 404
        assert shape(foreign) == shape(nowhere)
    for caller in callers[3:]:
        for method, path in (("GET", "/search?q=confidential"), ("GET", f"/records/contact/{made.json['id']}")):
            assert caller.send(method, path).status_code == 401
        assert caller.send("POST", "/records/contact", {"key": key, "values": values}).status_code == 401
    before = happened(world)
    theirs = callers[1].send("POST", "/records/contact", {"key": key, "values": values})
    assert theirs.status_code == 201
    assert happened(world) == before
    assert [event.detail["id"] for event in elsewhere.world.events("c4c", "create")] == [theirs.json["id"]]


def test_what_one_person_found_and_looked_at_stays_theirs(me: Api, colleague: Api, world: World) -> None:
    """The demo shows a contact to the colleague alone."""
    (hidden,) = [id for id, users in world.crm.visible_to.items() if me.person.user_id not in users]
    row = world.crm.rows("ContactCollection")[hidden]
    for text in (row["LastName"], row["Email"], row["Phone"]):
        path = f"/search?q={quote(text)}"
        assert hidden in [one["id"] for one in colleague.get(path).json["records"]]
        assert hidden not in [one["id"] for one in me.get(path).json["records"]]
    assert colleague.get(f"/records/contact/{hidden}").status_code == 200
    nowhere = me.get(f"/records/contact/{'00163E' + '0' * 26}")
    assert nowhere.status_code == 404
    assert shape(me.get(f"/records/contact/{hidden}")) == shape(nowhere)
    related = me.get(f"/records/account/{row_of(world, 'CorporateAccountCollection', AccountID=row['AccountID'])['ObjectID']}")
    assert hidden not in related.text
