"""Seeds and counts: what these tests chose at random can be chosen again, and what they covered is told at the end."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.exactly_one.checker import Tally
from tests.figures import Count, counter


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> object:
    """The session's seed, which pytest prints first; --randomly-seed=N sets it."""
    return request.config.getoption("randomly_seed")


@pytest.fixture
def rng(seed: object, request: pytest.FixtureRequest) -> random.Random:
    return random.Random(f"{seed} {request.node.name}")


@pytest.fixture
def count(record_property: Callable[[str, Any], None]) -> Count:
    """Add to a figure that is told at the end of the run."""
    return counter(record_property, "exactly one")


@pytest.fixture
def tell(count: Count) -> Iterator[Callable[[Tally], None]]:
    """Tell at the end of the run what a Checker tallied in this test, also if the test fails."""
    tallies: list[Tally] = []
    yield tallies.append
    for tally in tallies:
        for name, number in tally.taken():
            count(name, number)
