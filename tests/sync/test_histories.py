"""Whatever people do on both sides while vendors fail and sessions die: both sides come to agree, nothing is lost or doubled.

A history is a row of random doings, sessions, faults and deaths. The oracle keeps its own account of who wrote what since both
sides last agreed, and looks at the World; it knows nothing of plans, links or bases.
"""

import random
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from server.domain.contact import Contact
from server.services import Deps
from simulator.world import Fault, Row
from tests.sync.house import House
from tests.sync.test_deaths import die

ROUNDS = 7
PROPERTY = {"given_name": "FirstName", "business_phone": "Phone", "job_title": "JobTitle", "email": "Email"}
KINDS: dict[str, dict[str, Any]] = {
    "drop": {},
    "acted_drop": {},
    "status": {"status": 503},
    "garbage": {},
}


class History:
    """One person's doings by a seed. Everybody has a surname of their own, which never changes."""

    def __init__(self, house: House, seed: int, process: Callable[..., Deps], monkeypatch: pytest.MonkeyPatch) -> None:
        self.house, self.random, self.process, self.monkeypatch = house, random.Random(seed), process, monkeypatch
        self.written: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)  # (who, field) -> side -> last value
        self.everybody: set[str] = set()
        self.only_in_c4c: set[str] = set()  # deleted in the mailbox
        self.gone: dict[str, bool] = {}  # obsolete in C4C -> whether the contact is its owner's own
        self.mine: set[str] = set()  # began in the mailbox
        self.known: set[str] = set()  # were on both sides when a session ended
        self.number = 0

    def text(self) -> str:
        self.number += 1
        return f"value {self.number}"

    def value(self, field: str) -> str:
        return f"mail{self.text()[6:]}@e.example" if field == "email" else self.text()

    # What people do

    def add_item(self) -> None:
        name = f"Item{len(self.everybody)}"
        values = {field: self.value(field) for field in PROPERTY}
        contact = Contact(surname=name, emails=(values.pop("email"),), **values)  # type: ignore[arg-type]
        self.house.remote.put_contact(self.house.folder(), contact)
        self.everybody.add(name)
        self.mine.add(name)
        self.note(name, "mailbox", {**values, "email": contact.emails[0]})

    def add_record(self) -> None:
        name = f"Record{len(self.everybody)}"
        values = {field: self.value(field) for field in PROPERTY}
        self.house.add_record(LastName=name, **{PROPERTY[field]: value for field, value in values.items()})
        self.everybody.add(name)
        self.note(name, "c4c", values)

    def edit_item(self) -> None:
        found = [(ref, c) for ref, c in self.house.items().items() if c.surname in self.living]
        if found:
            ref, contact = self.random.choice(found)
            field = self.random.choice(list(PROPERTY))
            value = self.value(field)
            self.house.remote.change_contact(ref, **({"emails": (value,)} if field == "email" else {field: value}))
            self.note(contact.surname, "mailbox", {field: value})

    def edit_record(self) -> None:
        rows = [row for row in self.house.own().values() if row["LastName"] in self.living]
        if rows:
            row, field = self.random.choice(rows), self.random.choice(list(PROPERTY))
            value = self.value(field)
            self.house.change_record(row, **{PROPERTY[field]: value})
            self.note(row["LastName"], "c4c", {field: value})

    def drop_item(self) -> None:
        both = [name for name in self.on_both_sides() if name in self.known]  # else it may be a lost create
        if both:
            name = self.random.choice(both)
            self.house.remote.drop_contact(self.house.item(name)[0])
            self.only_in_c4c.add(name)

    def retire_record(self) -> None:
        both = self.on_both_sides()
        if both:
            name = self.random.choice(both)
            self.house.change_record(self.record(name), StatusCode="4")
            self.gone[name] = name in self.mine

    @property
    def living(self) -> set[str]:
        return self.everybody - self.only_in_c4c - set(self.gone)

    def on_both_sides(self) -> list[str]:
        in_c4c = {row["LastName"] for row in self.house.own().values()}
        return sorted(self.living & in_c4c & {c.surname for c in self.house.items().values()})

    def record(self, name: str) -> Row:
        (row,) = [row for row in self.house.own().values() if row["LastName"] == name]
        return row

    def note(self, name: str, side: str, values: dict[str, str]) -> None:
        for field, value in values.items():
            self.written[name, field].pop("both", None)
            self.written[name, field][side] = value

    # What vendors do

    def sicken(self) -> None:
        vendor = self.random.choice([self.house.remote.vendor, "c4c"])
        kind = self.random.choice(list(KINDS))
        remote = self.house.remote
        matches = ["", "", remote.creating_contacts, remote.updating_contacts, "$batch", "ContactCollection"]
        self.house.world.faults.append(Fault(vendor, kind, match=self.random.choice(matches), **KINDS[kind]))

    # Sessions

    def round(self) -> None:
        doings = [self.add_item, self.add_record, self.edit_item, self.edit_record, self.edit_item, self.edit_record]
        for _ in range(self.random.randrange(6)):
            self.random.choice([*doings, self.drop_item, self.retire_record])()
            self.house.forward(seconds=self.random.choice([1, 20, 120]))
        for _ in range(self.random.choice([0, 0, 1, 2])):
            self.sicken()
        if self.random.random() < 0.3:
            die(self.house, self.random.randrange(2, 14), self.random.random() < 0.5, self.monkeypatch)
            self.house.deps = self.process()
        else:
            self.house.session()
            self.known |= set(self.on_both_sides())
        self.house.forward(minutes=self.random.choice([1, 6, 40]))

    def settle(self) -> None:
        """Let everybody be well and nobody do anything, until sessions write nothing more."""
        self.house.world.faults.clear()
        for _ in range(6):
            self.house.forward(minutes=20)
            self.house.mark_events()
            self.house.done()
            if not self.house.happened():
                break
        self.known |= set(self.on_both_sides())
        self.check()
        self.house.forward(minutes=20)
        self.house.mark_events()
        self.house.done()
        assert self.house.happened() == []

    # What must be true

    def check(self) -> None:
        items = sorted(c.surname for c in self.house.items().values())
        records = sorted(row["LastName"] for row in self.house.own().values())
        stays = {name for name, is_own in self.gone.items() if is_own}
        assert items == sorted(self.living | stays)
        assert records == sorted(self.living | self.only_in_c4c)
        for name in self.living:
            _, contact = self.house.item(name)
            row = self.record(name)
            for field, prop in PROPERTY.items():
                here = contact.emails[0] if field == "email" else getattr(contact, field)
                assert here == row.get(prop), f"{name}: {field} differs"
                assert here in self.written[name, field].values(), f"{name}: {field} is neither side's last"
                self.written[name, field] = {"both": here}


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.soak) for n in range(1, 60))])
@pytest.mark.parametrize("access_type", ["office365", "exchange_direct", "google"], indirect=True)
def test_both_sides_come_to_agree_and_nothing_is_lost_or_doubled(
    house: House, seed: int, process: Callable[..., Deps], monkeypatch: pytest.MonkeyPatch
) -> None:
    house.done()
    history = History(house, seed, process, monkeypatch)
    for _ in range(3):
        for _ in range(ROUNDS // 3 + 1):
            history.round()
        history.settle()
