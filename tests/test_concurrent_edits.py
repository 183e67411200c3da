"""Four processes and a colleague change one record of C4C at once: no change is lost, and who came too late is told.

Each edit reads the number that stands in a field and writes the next one. C4C's own history says how many changes there were; the
number is that high only if each of them was based on the one before it.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Literal

from server.c4c.people import People, Ref
from server.domain.contact import Contact
from server.domain.people import Person
from server.errors import Conflict
from server.services import Deps
from server.services.connections import identify
from simulator.c4c.changes import Changes
from simulator.c4c.records import Records, User
from simulator.ports import Simulator
from simulator.world import Person as Colleague, Row, World
from tests.figures import Count

PROCESSES = 4
EDITS = 200
CONTACTS = "ContactCollection"
TEXTS = "ContactTextCollectionCollection"

Part = Literal["job_title", "notes"]
PROPERTY: dict[Part, str] = {"job_title": "JobTitle", "notes": "Text"}
"""A property of the record itself, and one of a child of it, which C4C keeps under an ETag of its own."""


class Record:
    """A contact in C4C that everybody may change, and what C4C knows of its history since it was made."""

    def __init__(self, world: World, people: People, owner: Colleague) -> None:
        self._world = world
        begin = Contact(surname="Counted", display_name="Counted", job_title="0", notes="0")
        self.id = people.create("contact", begin, key="0" * 32, owner_id=owner.employee_id, role="").id
        self._made = len(world.log)

    @property
    def ref(self) -> Ref:
        return "contact", self.id

    def changed_by(self, who: Colleague, part: Part, has_been_read: threading.Barrier) -> None:
        """Let somebody in front of C4C itself add to a number, when all others have read it: they see what they change."""
        has_been_read.wait(10)
        with self._world.lock:
            changes = Changes(self._world, Records(self._world, User(who.user_id, who.name)))
            entity_set, name = (CONTACTS if part == "job_title" else TEXTS), PROPERTY[part]
            (row,) = (row for row in self._world.crm.rows(entity_set).values() if self.id in _ids(row))
            changes.update(entity_set, {"ObjectID": row["ObjectID"]}, {name: str(int(row[name]) + 1)}, None, replace=False)
            changes.commit()
            for held in changes.held:
                del self._world.crm.record_locks[held]

    def history(self) -> Counter[tuple[str, str]]:
        """How often each person changed what, by UserID and property; whatever else happened to the record is there, too."""
        found: Counter[tuple[str, str]] = Counter()
        for event in self._world.log[self._made :]:
            if event.vendor == "c4c" and self.id in (event.detail.get("id"), event.detail.get("parent")):
                found[event.actor, ", ".join(event.detail.get("properties", [event.kind]))] += 1
        return found


def _ids(row: Row) -> tuple[str, str]:
    return row["ObjectID"], row.get("ParentObjectID", "")


def edit(people: People, record: Record, part: Part, has_been_read: threading.Barrier) -> bool:
    """Read the record as a session does, and when everybody has, add to a number; return whether C4C took it."""
    person: Person = people.read([record.ref])[record.ref]
    number = str(int(getattr(person.contact, part)) + 1)
    has_been_read.wait(10)
    try:
        people.change(person, replace(person.contact, **{part: number}))
    except Conflict:
        return False
    return True


def test_no_edit_of_a_record_that_many_change_at_once_is_lost(
    process: Callable[[], Deps], simulator: Simulator, world: World, count: Count
) -> None:
    chance = random.Random(EDITS)
    writers, colleague = world.people[:2], world.people[2]
    desks: list[tuple[Colleague, People]] = []
    for number in range(PROCESSES):
        deps, writer = process(), writers[number % len(writers)]
        desks.append((writer, deps.c4c(identify(deps, simulator.bearer(writer)).principal).people))
    record = Record(world, desks[0][1], writers[0])
    said: Counter[tuple[str, str]] = Counter()
    with ThreadPoolExecutor(PROCESSES + 1) as pool:
        for _ in range(EDITS // PROCESSES):
            part, is_joined = chance.choice(list(PROPERTY)), chance.random() < 0.5
            has_been_read = threading.Barrier(PROCESSES + is_joined)
            edits = [(who, pool.submit(edit, people, record, part, has_been_read)) for who, people in desks]
            if is_joined:
                pool.submit(record.changed_by, colleague, part, has_been_read).result(30)
                said[colleague.user_id, PROPERTY[part]] += 1
            taken = [who for who, edited in edits if edited.result(30)]
            assert len(taken) <= 1, "two were told that they changed the same version"
            assert taken or is_joined, "nobody was first"
            said.update((who.user_id, PROPERTY[part]) for who in taken)
    assert record.history() == said
    last = desks[0][1].read([record.ref])[record.ref].contact
    for part, name in PROPERTY.items():
        assert int(getattr(last, part)) == sum(number for (_, changed), number in said.items() if changed == name) > 0
    of_ours = sum(number for (who, _), number in said.items() if who != colleague.user_id)
    count("concurrent edits: tried by four processes", EDITS)
    count("concurrent edits: taken", of_ours)
    count("concurrent edits: refused with a conflict", EDITS - of_ours)
    count("concurrent edits: of a colleague in C4C", said.total() - of_ours)
