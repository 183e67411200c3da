"""The house: one for all tests of this folder in a process, since each takes a message of its own.

The proxies' addresses are the vendors' public ones, so whatever the vendors say about themselves leads through them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.api import Item, key_of
from tests.faults.house import SHORT, House, Process, Trap, behind_proxies
from tests.faults.table import Case
from tests.figures import Count, counter


@pytest.fixture(scope="package")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with behind_proxies(tmp_path_factory.mktemp("house")) as (simulator, proxies, settings), Trap() as trap:
        house = House(simulator, settings, proxies, trap)
        yield house
        house.close()


@pytest.fixture(autouse=True)
def _well(house: House) -> Iterator[None]:
    """Leave the house as it was found; nobody may ever have gone where a remote sent us."""
    running = [*house.running]
    yield
    house.lift()
    house.end([process for process in house.running if process not in running])
    assert house.trap.caught == []


@pytest.fixture(scope="package")
def patient(house: House) -> Process:
    """A process with the usual deadlines that has done all this before: signed in, categories made, connections warm."""
    return warm(house.process())


@pytest.fixture(scope="package")
def hasty(house: House) -> Process:
    """The same with short deadlines."""
    return warm(house.process(**SHORT))


def warm(process: Process) -> Process:
    for _ in range(3):  # short deadlines may pass on a busy machine
        if process.api.save(process.house.message()).status_code == 201:
            break
    return process


@dataclass(frozen=True)
class Tally:
    """Notes what a test did and what came of it, for the table that is told at the end of the run."""

    house: House
    count: Count

    def fault(self, remote: str, case: Case) -> None:
        self.count(f"{case.name}/{remote}/{case.when}", 1)

    def lookup(self) -> None:
        self.count("lookups", 1)

    def save(self, item: Item) -> None:
        """Judge by what C4C itself has noted: this message came into it once, and never a second time, not even for a moment."""
        made = [e for e in list(self.house.world.log) if e.detail.get("groupware_item_id") == key_of(item) and e.kind == "create"]
        self.count("saves", 1)
        self.count("losses", int(not made))
        self.count("doubles", max(0, len(made) - 1))
        assert len(made) == 1


@pytest.fixture
def tally(house: House, record_property: Callable[[str, Any], None]) -> Tally:
    return Tally(house, counter(record_property, "faults"))
