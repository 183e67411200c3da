"""A mailbox is asked at most so often at once, and by nobody while its provider wants a pause."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from server.errors import RateLimited
from server.mail.pace import Pace


class Clock:
    """Time that passes only while somebody sleeps."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(clock: Clock) -> Pace:
    return Pace(2, clock=clock, sleep=clock.sleep)


def test_no_more_than_the_places_are_taken_at_once(pace: Pace) -> None:
    inside, most = 0, 0
    lock, full = threading.Lock(), threading.Barrier(2)

    def ask(_: int) -> None:
        nonlocal inside, most
        with pace:
            with lock:
                inside += 1
                most = max(most, inside)
            full.wait(10)  # both places are taken now, and whoever else comes has to wait
            with lock:
                inside -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(8)))
    assert most == 2


def test_a_short_pause_is_waited_out(pace: Pace, clock: Clock) -> None:
    pace.pause(3)
    with pace:
        assert clock.now == 1003


def test_during_a_long_pause_nobody_gets_through_and_afterwards_everybody(pace: Pace, clock: Clock) -> None:
    pace.pause(60)
    pace.pause(1)  # of two pauses the longer one counts
    for waited in (0, 30, 24):
        clock.now += waited
        with pytest.raises(RateLimited) as caught, pace:
            pass
        assert caught.value.retry_after_s == 1060 - clock.now
    clock.now += 6
    for _ in range(3):  # no place was lost meanwhile
        with pace:
            assert clock.now == 1060


def test_a_pause_that_grows_while_somebody_waits_is_waited_out_whole(clock: Clock) -> None:
    def sleep(seconds: float) -> None:
        if clock.now == 1000:
            pace.pause(4)  # another answer says so
        clock.sleep(seconds)

    pace = Pace(clock=clock, sleep=sleep)
    pace.pause(2)
    with pace:
        assert clock.now == 1004


def test_no_pause_lasts_longer_than_an_hour(pace: Pace, clock: Clock) -> None:
    pace.pause(float("inf"))
    clock.now += 3599
    with pace:  # waits out the last second
        assert clock.now == 1000 + 3600
