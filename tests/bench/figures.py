"""A measured figure, and how figures are shown: one line of a table each, or one JSON object."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


class CannotMeasure(Exception):
    """The product did not do what was to be measured."""


@dataclass(frozen=True)
class Figure:
    """`name` says what it is and in which unit; `limit` is None for what is only told."""

    name: str
    value: float
    how: str  # how it was measured, in a few words
    limit: float | None = None
    at_least: bool = False  # the limit is a lower one

    @property
    def is_met(self) -> bool:
        if self.limit is None:
            return True
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def line(self, width: int) -> str:
        bound = "" if self.limit is None else f"{'>=' if self.at_least else '<='} {self.limit:g}"
        verdict = "" if self.limit is None else "ok" if self.is_met else "MISS"
        return f"{self.name:<{width}}  {self.value:>9g}  {bound:>8}  {verdict:<4}  {self.how}"


def table(figures: Sequence[Figure]) -> str:
    width = max(len(figure.name) for figure in figures)
    return "\n".join(figure.line(width) for figure in figures)


def median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 1)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that `percent` of the values do not exceed."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))], 1)
