"""A session that stands still until another one has done its work goes on with nothing of it, and doubles nothing."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import requests

from server import sync
from server.services import Deps
from server.store import LeaseLost
from tests.sync.house import House
from tests.sync.test_deaths import REQUESTS, check, let_people_be_busy

FIRST_REQUESTS = 14  # of the longest, about
EVERYWHERE = pytest.mark.parametrize("access_type", ["office365", "exchange_direct", "google"], indirect=True)


@dataclass
class Stall:
    """Stops its thread at the n-th request while `meanwhile` runs: just before it goes out, or once it was answered."""

    left: int
    is_late: bool
    meanwhile: Callable[[], object]
    sleeper: int = 0  # ident of the thread

    def over(self, send: Callable[..., Any]) -> Callable[..., Any]:
        def sent(client: Any, *args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != self.sleeper:
                return send(client, *args, **kwargs)
            self.left -= 1
            if self.left == 0 and not self.is_late:
                self._stand()
            answer = send(client, *args, **kwargs)
            if self.left == 0 and self.is_late:
                self._stand()
            return answer

        return sent

    def _stand(self) -> None:
        other = threading.Thread(target=self.meanwhile)
        other.start()
        other.join()


def run_with_stall(house: House, another: Deps, number: int, is_late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a session that stands still at its n-th request for as long as another process needs for one."""

    def meanwhile() -> None:
        house.forward(minutes=5)
        house.done(deps=another)
        house.mark_events()

    stall = Stall(number, is_late, meanwhile, threading.get_ident())
    taken = house.take()
    with monkeypatch.context() as patch:
        patch.setattr(httpx.Client, "send", stall.over(httpx.Client.send))
        patch.setattr(requests.Session, "send", stall.over(requests.Session.send))
        try:
            sync.run_session(house.deps, taken)
        except LeaseLost:
            assert not is_late or house.happened() == []


@EVERYWHERE
@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=() if n in (5, 6) else pytest.mark.soak) for n in range(1, REQUESTS + 1)]
)
@pytest.mark.parametrize("is_late", [False, True], ids=["before", "after"])
def test_a_session_that_stood_still_at_a_request_doubles_nothing(
    house: House, process: Callable[..., Deps], number: int, is_late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = let_people_be_busy(house)
    run_with_stall(house, process(), number, is_late, monkeypatch)
    check(house, old)


@EVERYWHERE
@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=() if n == 7 else pytest.mark.soak) for n in range(1, FIRST_REQUESTS + 1)]
)
@pytest.mark.parametrize("is_late", [False, True], ids=["before", "after"])
def test_a_first_session_that_stood_still_at_a_request_doubles_nothing(
    house: House, process: Callable[..., Deps], number: int, is_late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for surname in ("Ada", "Bea", "Cleo"):
        house.add_record(LastName=surname)
    run_with_stall(house, process(), number, is_late, monkeypatch)
    house.done()
    mailbox, c4c = house.people()
    assert mailbox == c4c
    assert [one[1] for one in c4c] == ["Ada", "Bea", "Cleo"]
    names = list(house.remote.folders.values())
    assert len(names) == len(set(names))
    house.mark_events()
    house.later()
    assert house.happened() == []


def doubled(house: House, *surnames: str) -> list[str]:
    """Let contacts be there twice, as if a session that was taken for dead had created them, too; return the doubles' refs."""
    refs = []
    for surname in surnames:
        ref, contact = house.item(surname)
        link_id, _, session = house.remote.link_of(ref).partition("-")
        refs.append(house.remote.put_contact(house.folder(), contact, link=f"{link_id}-{int(session) + 1}"))
    return refs


@EVERYWHERE
def test_a_double_of_ours_is_removed_and_one_that_its_owner_changed_is_somebody_new(house: House) -> None:
    for surname in ("Old", "Taken"):
        house.add_record(LastName=surname)
    house.done()
    _, taken = doubled(house, "Old", "Taken")
    house.remote.change_contact(taken, job_title="Countess")
    house.later()
    assert sorted(contact.surname for contact in house.items().values()) == ["Old", "Taken", "Taken"]
    assert len(house.own()) == 3
    house.mark_events()
    house.later()
    assert house.happened() == []


def test_so_many_doubles_that_the_guard_would_ask_stay_where_they_are_and_are_told(house: House) -> None:
    house.set_profile(guard_items=2, guard_share=20)
    surnames = ("Ada", "Bea", "Cleo")
    for surname in surnames:
        house.add_record(LastName=surname)
    house.done()
    doubles = doubled(house, *surnames)
    house.later()
    assert (len(house.items()), len(house.own())) == (6, 3)
    assert "doubles" in house.issues
    house.remote.change_contact(doubles[0], job_title="Countess")
    house.later()
    assert len(house.own()) == 3
