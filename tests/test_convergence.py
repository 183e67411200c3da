"""A save ends as one activity with the right mark, wherever the product is killed.

The simulator holds a request of the save at its door, before it acts or after; the product is killed there and starts again.
What counts is the World: its activities and the message's categories. If nothing had been promised yet, the person saves again.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any

import httpx
import pytest

from server.config import Settings
from simulator import demo
from simulator.c4c.odata import SERVICE
from simulator.ports import Simulator
from simulator.world import Gate, World
from tests.api import activities, children, file_names, numbers
from tests.processes import SHORT, Installed, eventually
from tests.test_saves import with_files

SAVED = "Saved in SAP Cloud for Customer SSI"
FILES = {"one.zip": 2_000_000, "two.zip": 2_000_000, "three.csv": 100}


@dataclass(frozen=True)
class Point:
    """Where a save is killed: at the `number`-th request that matches, before the vendor acted or after."""

    match: str
    acted: bool
    number: int = 1

    def __str__(self) -> str:
        return f"{'after' if self.acted else 'before'} {self.match.removesuffix(SERVICE).replace(SERVICE, '')} {self.number}"


POINTS = [
    Point("graph GET /v1.0/me/messages/", acted=True),
    Point(f"c4c POST {SERVICE}$batch", acted=True, number=2),  # the first is the lookup
    Point(f"c4c POST {SERVICE}EMailCollection", acted=False),
    Point(f"c4c POST {SERVICE}EMailCollection", acted=True),
    Point(f"c4c POST {SERVICE}EMailAttachmentsCollection", acted=False),
    Point(f"c4c POST {SERVICE}EMailAttachmentsCollection", acted=True),
    Point("graph PATCH /v1.0/me/messages/", acted=False),
    Point("graph PATCH /v1.0/me/messages/", acted=True),
]
"""A message of its own in the demo for each."""
MESSAGES = (
    "known_contact",
    "several_records",
    "individual_customer",
    "account_only",
    "lead",
    "unknown_sender",
    "with_attachment_known_contact",
    "plus_tag",
    "comma_name",
    "idn",
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """An installation with its own simulator, since it lives as long as this module's tests."""
    with (
        Simulator(demo.small(), tmp_path_factory.mktemp("vendors")) as simulator,
        Installed(simulator, tmp_path_factory.mktemp("installed")) as installed,
    ):
        installed.serve()
        yield installed


def item_of(world: World, case: str) -> dict[str, Any]:
    """The demo message of this case, with files that make it need several requests."""
    owner, ref = world.cases[case]
    mailbox = world.mailbox(owner)
    mailbox.messages[ref].mime = with_files(mailbox.messages[ref].mime, FILES)
    return demo.item(mailbox, mailbox.messages[ref])


def save(installed: Installed, item: dict[str, Any]) -> httpx.Response:
    """Look the message up and save it with links to all that was found, as the pane does."""
    person = installed.simulator.world.people[0]
    context = installed.send(person, "POST", "/context", {"item": item}).json()
    links = [{"type": card["type"], "id": card["id"]} for card in context["cards"]]
    return installed.send(person, "POST", "/saves", {"item": item, "links": links})


def state(installed: Installed, item: dict[str, Any]) -> str:
    answer = installed.send(installed.simulator.world.people[0], "POST", "/context", {"item": item})
    return str(answer.json()["save"]["state"]) if answer.status_code == 200 else "unavailable"


def kill_at(installed: Installed, item: dict[str, Any], point: Point, *, everything: bool) -> None:
    world = installed.simulator.world
    world.gate = gate = Gate(point.number, acted=point.acted, match=point.match)
    with ThreadPoolExecutor(1) as pool:
        interrupted = pool.submit(save, installed, item)
        assert gate.reached.wait(20), "the save does not come by here"
        if everything:
            installed.kill()
        else:
            installed.kill_web_worker()
        assert isinstance(interrupted.exception(20), httpx.TransportError)
    world.gate = None
    gate.open(lost=not point.acted)


def ends_well(installed: Installed, item: dict[str, Any], case: str) -> None:
    """Assert that there is one activity with everything once, and the mark of a saved message."""
    world = installed.simulator.world
    if eventually(lambda: (found := state(installed, item)) != "unavailable" and found) == "none":
        assert save(installed, item).status_code in (200, 201)  # nothing had been promised
    eventually(lambda: state(installed, item) == "saved")
    owner, ref = world.cases[case]
    eventually(lambda: world.mailbox(owner).messages[ref].categories == [SAVED])
    (activity,) = activities(world, item)
    assert file_names(world, activity) == sorted(FILES)
    assert len(children(world, activity, "parties")) == len(numbers(world, activity))
    assert save(installed, item).status_code == 200
    assert len(activities(world, item)) == 1


@pytest.mark.parametrize(("point", "case"), list(zip(POINTS, MESSAGES, strict=False)), ids=str)
def test_a_killed_save_converges(installed: Installed, point: Point, case: str) -> None:
    item = item_of(installed.simulator.world, case)
    kill_at(installed, item, point, everything=False)
    ends_well(installed, item, case)


def test_it_converges_also_when_everything_dies_and_only_a_worker_comes_back_at_first(installed: Installed) -> None:
    item = item_of(installed.simulator.world, "comma_name")
    kill_at(installed, item, Point(f"c4c POST {SERVICE}EMailCollection", acted=True), everything=True)
    installed.work()
    eventually(lambda: file_names(installed.simulator.world, activities(installed.simulator.world, item)[0]) == sorted(FILES))
    installed.kill()
    installed.serve()
    ends_well(installed, item, "comma_name")


@pytest.mark.soak
def test_with_the_settings_of_a_real_installation_it_takes_less_than_a_minute(installed: Installed) -> None:
    defaults = {field.name: field.default for field in fields(Settings)}
    real = {name: str(defaults[name.removeprefix("SSI_").lower()]) for name in SHORT if "CALLS" not in name}
    world, item = installed.simulator.world, item_of(installed.simulator.world, "idn")
    installed.kill()
    installed.serve(**real)
    kill_at(installed, item, Point(f"c4c POST {SERVICE}EMailCollection", acted=True), everything=True)
    installed.serve(**real)
    owner, ref = world.cases["idn"]
    eventually(lambda: world.mailbox(owner).messages[ref].categories == [SAVED], 60)
    ends_well(installed, item, "idn")
    installed.kill()
    installed.serve()
