"""A mailbox is asked at most so often at once, and by nobody while its provider wants a pause."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

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


def refuse(pace: Pace, *, asked_s: float | None = None) -> float:
    """Let the provider refuse one request; return for how long nobody asks then."""
    with pytest.raises(RateLimited) as caught, pace:
        raise RateLimited("Too many requests.", retry_after_s=asked_s)
    assert caught.value.retry_after_s is not None
    return caught.value.retry_after_s


def test_who_is_refused_again_and_again_asks_ever_more_rarely_until_there_is_an_answer(pace: Pace, clock: Clock) -> None:
    rests = []
    for _ in range(8):
        rests.append(refuse(pace))
        clock.now += rests[-1]
    assert rests == [0.5, 1, 2, 30, 60, 120, 120, 120]
    with pace:
        pass
    assert refuse(pace) == 0.5


def test_a_provider_that_names_a_longer_pause_gets_it(pace: Pace, clock: Clock) -> None:
    assert refuse(pace, asked_s=300) == 300
    with pytest.raises(RateLimited), pace:
        pass
    clock.now += 300
    assert refuse(pace, asked_s=0.1) == 1


def test_requests_that_were_refused_together_count_once(clock: Clock) -> None:
    pace, both_sent = Pace(2, clock=clock, sleep=clock.sleep), threading.Barrier(2)

    def ask(_: int) -> None:
        with suppress(RateLimited), pace:
            both_sent.wait(10)
            raise RateLimited("Too many requests.")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(ask, range(2)))
    clock.now += 0.5
    assert refuse(pace) == 1


def test_after_a_refusal_one_asks_at_a_time_until_there_is_an_answer(pace: Pace, clock: Clock) -> None:
    refuse(pace)
    clock.now += 1
    asks, may_answer, inside = threading.Event(), threading.Event(), []

    def find_out() -> None:
        with pace:
            inside.append("first")
            asks.set()
            may_answer.wait(10)
            inside.append("answered")

    def ask() -> None:
        with pace:
            inside.append("second")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(find_out)
        assert asks.wait(10)
        second = pool.submit(ask)
        with pytest.raises(TimeoutError):
            second.result(0.2)
        may_answer.set()
        first.result(10)
        second.result(10)
    assert inside == ["first", "answered", "second"]
