"""A process that dies in the middle of a session loses nothing and doubles nothing."""

import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
import requests

from server import sync
from server.domain.contact import Contact
from server.store import Store, Transaction
from simulator.world import Row
from tests.sync.house import House

EVERYWHERE = pytest.mark.parametrize("access_type", ["office365", "exchange_direct", "google"], indirect=True)
COMMITS = 9  # of the session below, about
REQUESTS = 16  # of the longest, about


class Died(BaseException):
    """The process is gone."""


@dataclass
class Mortal:
    """A store whose process dies at its n-th transaction that writes: just before it commits, or right after."""

    store: Store
    left: int
    is_late: bool

    @contextmanager
    def transaction(self, *, reading: bool = False) -> Iterator[Transaction]:
        self.left -= not reading
        dies = not reading and self.left == 0
        with self.store.transaction(reading=reading) as tx:
            yield tx
            if dies and not self.is_late:
                raise Died
        if dies:
            raise Died


@dataclass
class Reaper:
    """Ends the process at its n-th request to the outside: just before it goes out, or when its answer has come."""

    left: int
    is_late: bool

    def over(self, send: Callable[..., Any]) -> Callable[..., Any]:
        def sent(client: Any, *args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            answer = send(client, *args, **kwargs) if self.left or self.is_late else None
            if self.left:
                return answer
            if answer is not None:
                answer.close()
            if isinstance(client, requests.Session):  # of one session's own; what a process held goes with it
                client.close()
            raise Died

        return sent


def die(house: House, number: int, is_late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a session that dies at its n-th request, if it makes so many."""
    reaper, taken = Reaper(number, is_late), house.take()
    with monkeypatch.context() as patch:
        patch.setattr(httpx.Client, "send", reaper.over(httpx.Client.send))
        patch.setattr(requests.Session, "send", reaper.over(requests.Session.send))
        try:
            sync.run_session(house.deps, taken)
        except Died:
            house.forward(minutes=5)
    with warnings.catch_warnings():  # the connections of a dead process go with it; here they would go amid another test
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def let_people_be_busy(house: House) -> Row:
    """Let something of each kind happen on both sides; return the record whose contact is edited."""
    old, edited = house.add_record(LastName="Old"), house.add_record(LastName="Edited")
    house.done()
    house.remote.change_contact(house.item("Old")[0], job_title="by mailbox")
    house.change_record(edited, JobTitle="by c4c")
    for name in ("New1", "New2", "New3"):
        house.remote.put_contact(house.folder(), Contact(given_name="A", surname=name, emails=(f"{name}@e.example",)))
        house.add_record(LastName=f"{name}there")
    house.forward(minutes=30)
    return old


def check(house: House, old: Row) -> None:
    """The sessions that follow bring both sides to agree, and then write nothing more."""
    house.done()
    house.later()
    mailbox, c4c = house.people()
    assert mailbox == c4c
    assert sorted(one[1] for one in c4c) == sorted(
        ["Old", "Edited", *(f"New{n}" for n in (1, 2, 3)), *(f"New{n}there" for n in (1, 2, 3))]
    )
    assert (old["JobTitle"], house.item("Edited")[1].job_title) == ("by mailbox", "by c4c")
    house.mark_events()
    house.later()
    assert house.happened() == []


@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=() if n in (4, 5) else pytest.mark.soak) for n in range(1, COMMITS + 1)]
)
@pytest.mark.parametrize("is_late", [False, True], ids=["before", "after"])
def test_a_session_that_dies_at_a_commit_is_taken_up_by_the_next(house: House, number: int, is_late: bool) -> None:
    old = let_people_be_busy(house)
    mortal = replace(house.deps, store=Mortal(house.deps.store, number, is_late))  # type: ignore[arg-type]
    taken = house.take()
    try:
        sync.run_session(mortal, taken)
    except Died:
        house.forward(minutes=5)
    check(house, old)


@EVERYWHERE
@pytest.mark.parametrize("number", [pytest.param(n, marks=() if n == 8 else pytest.mark.soak) for n in range(1, REQUESTS + 1)])
@pytest.mark.parametrize("is_late", [False, True], ids=["before", "after"])
def test_a_session_that_dies_at_a_request_is_taken_up_by_the_next(
    house: House, number: int, is_late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = let_people_be_busy(house)
    die(house, number, is_late, monkeypatch)
    check(house, old)


@EVERYWHERE
@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=() if n in (4, 7) else pytest.mark.soak) for n in range(1, REQUESTS + 1)]
)
@pytest.mark.parametrize("is_late", [False, True], ids=["before", "after"])
def test_what_people_change_after_a_death_and_before_the_next_session_reaches_the_other_side(
    house: House, number: int, is_late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then nobody knows yet of what was just created."""
    let_people_be_busy(house)
    die(house, number, is_late, monkeypatch)
    phones, titles = dict[str, str](), dict[str, str]()
    for ref, contact in house.items().items():
        phones[contact.surname] = f"+44 20 555 {len(phones):04}"
        house.remote.change_contact(ref, business_phone=phones[contact.surname])
    house.forward(minutes=1)
    for row in house.own().values():
        titles[row["LastName"]] = f"title of {row['LastName']}"
        house.change_record(row, JobTitle=titles[row["LastName"]])
    house.forward(minutes=5)
    house.session()
    house.later()
    mailbox, c4c = house.people()
    assert mailbox == c4c
    assert len(c4c) == 8
    for _, surname, _, phone, title in c4c:
        assert phone == phones.get(surname, phone)
        assert title == titles.get(surname, title)
    house.mark_events()
    house.later()
    assert house.happened() == []
