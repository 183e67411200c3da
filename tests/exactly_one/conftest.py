"""Seeds and counts: what these tests chose at random can be chosen again, and what they covered is told at the end."""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

_COUNTED = "counted: "


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> object:
    """The session's seed, which pytest prints first; --randomly-seed=N sets it."""
    return request.config.getoption("randomly_seed")


@pytest.fixture
def rng(seed: object, request: pytest.FixtureRequest) -> random.Random:
    return random.Random(f"{seed} {request.node.name}")


@pytest.fixture
def count(record_property: Callable[[str, Any], None]) -> Callable[[str, int], None]:
    """Add to a figure that is told at the end of the run."""
    return lambda name, number: record_property(_COUNTED + name, number)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    figures: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, number in getattr(report, "user_properties", ()) if getattr(report, "when", "") == "call" else ():
                if name.startswith(_COUNTED):
                    figures[name.removeprefix(_COUNTED)] += number
    if figures:
        terminalreporter.section("exactly one")
        for name, number in sorted(figures.items()):
            terminalreporter.write_line(f"{name}: {number}")
