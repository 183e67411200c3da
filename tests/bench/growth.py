"""Whether a cold lookup costs more when C4C has more contacts: what is sent, asked, read from C4C and read here.

The product runs in this process, for each size of C4C with a database of its own whose spelling index knows every tenth contact,
as it would after the background reading of addresses. Counted are the bytes and the parts of the
request to C4C (access log), the rows of C4C's answer (at our OData client), and the steps that SQLite takes for our statements
(its progress handler, which counts virtual machine instructions: a statement that reads a whole table would show).

How C4C finds the rows of an e-mail address is C4C's own affair and not measured.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from server import wiring
from server.c4c import C4C, Codes, DeepLinks, ODataClient
from server.c4c.odata import Answers, Read, basic
from server.config import Settings
from server.domain.message import Address
from server.domain.records import RecordType
from server.services import Caller, Deps
from server.services.connections import identify
from server.services.context import Item, look_up
from server.transport import Gateway, ssl_context
from simulator import demo
from simulator.ports import CODES, Simulator
from simulator.world import Row, World
from tests.bench.figures import CannotMeasure, Figure
from tests.bench.product import simulated
from tests.processes import Installed

SMALL, LARGE = 2_000, 200_000
LOOKUPS = 5


@dataclass(frozen=True)
class Cost:
    """What one cold lookup costs, on average of a few."""

    request_bytes: float
    parts: float
    rows: float
    steps: float


def measure() -> Iterator[Figure]:
    small, large = cost(SMALL), cost(LARGE)
    ratios = {name: round(getattr(large, name) / getattr(small, name), 3) for name in Cost.__annotations__}
    told = ", ".join(f"{name.replace('_', ' ')} {getattr(large, name):g}" for name in ratios)
    yield Figure("lookup_growth_ratio", max(ratios.values()), f"{LARGE:,} contacts to {SMALL:,}, the worst of: {told}", limit=1.0)


def cost(contacts: int) -> Cost:
    world = demo.small()
    wanted = _fill(world, contacts)
    with simulated(world) as (simulator, folder):
        installed = Installed(simulator, folder)
        deps, counter = _counting(simulator, Settings.from_environment(installed.environment))
        steps = _Steps(deps)
        bearer = simulator.bearer(world.people[0])
        _index(deps, identify(deps, bearer), world)
        for number in range(-1, LOOKUPS):  # the first is not counted: it warms the sign-in
            if number == 0:
                before, counter.rows, steps.count = len(world.access), 0, 0
            _ask(deps, identify(deps, bearer), wanted[number], number)
        calls = world.access[before:]
        deps.background.shutdown()
        deps.store.close()
    return Cost(
        sum(call.request_bytes for call in calls) / LOOKUPS,
        sum(len(call.parts) for call in calls) / LOOKUPS,
        counter.rows / LOOKUPS,
        steps.count / LOOKUPS,
    )


def _ask(deps: Deps, caller: Caller, address: str, number: int) -> None:
    sender, copied = Address("A contact", address), Address("A stranger", "nobody@elsewhere.example")
    item = Item(
        id=f"AAMkGrowth{number:+03d}=",
        id_form="rest",
        mailbox=caller.principal.user.email,
        internet_message_id=f"<growth{number:+03d}@bench.example>",
        conversation_id="",
        subject="",
        sender=sender,
        cc=(copied,),
    )
    answer = look_up(deps, caller.principal, item)
    if len(answer.cards) != 1 or answer.cached:
        raise CannotMeasure(f"The lookup of {address} found {len(answer.cards)} records instead of one.")


def _fill(world: World, contacts: int) -> list[str]:
    """Add contacts like one of the demo's, every tenth with an address in mixed case; return addresses to look up."""
    rows = world.crm.rows("ContactCollection")
    like: Row = {name: value for name, value in next(iter(rows.values())).items() if not name.startswith("Account")}
    addresses = []
    for number in range(contacts - len(rows)):
        # As wide for a small C4C as for a large one, so that requests are of the same length.
        address = f"{'Person' if number % 10 == 7 else 'person'}{number:06d}@company{number % 5_000:04d}.example"
        object_id = world.crm.new_object_id()
        rows[object_id] = {**like, "ObjectID": object_id, "ContactID": str(2_000_000 + number), "Email": address}
        if len(addresses) <= LOOKUPS and number % 10 in (3, 7):
            addresses.append(address.lower())
    return addresses


def _index(deps: Deps, caller: Caller, world: World) -> None:
    """Put into the spelling index what the background reading would have found: each address that is not in lower case."""
    tenant_id = caller.principal.tenant.id
    entries: list[tuple[bytes, RecordType, str]] = [
        (deps.vault.keyed_hash(tenant_id, row["Email"].lower()), "contact", object_id)
        for object_id, row in world.crm.rows("ContactCollection").items()
        if row["Email"] != row["Email"].lower()
    ]
    # Hashes are new with each run's key. One that sorts after all others would be looked for off the end of the index, which
    # takes SQLite an instruction less: this entry is the end.
    entries.append((b"\xff" * 32, "contact", "last"))
    with deps.store.transaction() as tx:
        tx.learn_spellings(tenant_id, entries)


class _Steps:
    """Counts SQLite's instructions on every connection of the store."""

    def __init__(self, deps: Deps) -> None:
        self.count = 0
        self._lock = threading.Lock()  # connections of several threads step at the same time
        sa.event.listen(deps.store._engine, "checkout", self._watch)

    def _watch(self, connection: Any, _record: Any, _proxy: Any) -> None:
        connection.set_progress_handler(None, 1)
        connection.execute("SELECT id FROM tenant").fetchone()  # a new connection reads the schema first, once
        connection.set_progress_handler(self._step, 1)

    def _step(self) -> int:
        with self._lock:
            self.count += 1
        return 0


class _Counting(ODataClient):
    """Counts the rows that C4C answers with."""

    rows = 0

    def batch(self, reads: Sequence[Read]) -> Answers:
        answers = super().batch(reads)
        self.rows += sum(len(result.rows) for result in answers.results)
        return answers


def _counting(simulator: Simulator, settings: Settings) -> tuple[Deps, _Counting]:
    """Compose the product with a C4C client that counts, signed in by the first person's password."""
    deps = wiring.build(settings, now=simulator.world.now)
    person = simulator.world.people[0]
    gateway = Gateway("C4C", timeout_s=60, ssl_context=ssl_context(Path(simulator.ca_file)))
    client = _Counting(
        gateway,
        simulator.c4c.url + "/sap/c4c/odata/v1/c4codataapi/",
        authorize=basic(person.user_id, person.password),
        slots=threading.Semaphore(8),
        needs_csrf=True,
        sleep=deps.sleep,
    )
    c4c = C4C(client, codes=Codes.from_json(CODES), record_url=DeepLinks(origin="https://crm.example"))
    patient = replace(deps.limits, context_deadline_s=60.0)
    return replace(deps, c4c=lambda principal: c4c, limits=patient), client
