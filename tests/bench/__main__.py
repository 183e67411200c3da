"""Measure the product: real server processes, real ports, the simulator behind them.

Prints one line per figure: value, limit, whether it is met, and how it was measured; with --json one object of names and
values. With names of parts (lookup, save, mailbox, memory, growth, pane, gmail, sessions, sessions-growth, schedule,
neighbours, hooks) only those are measured; the last four, which take long, only when they are named. The exit code is 0 either
way.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator

from simulator import demo
from tests.bench import gmail, growth, hooks, lookup, mailbox, memory, neighbours, pane, save, schedule, sessions
from tests.bench.figures import CannotMeasure, Figure, table
from tests.bench.product import running, simulated


def _lookup() -> Iterator[Figure]:
    with simulated(demo.build()) as (simulator, folder):
        with running(simulator, folder) as product:
            yield from lookup.one_at_a_time(product)
            yield from lookup.many_cold(product)
        with running(simulator, folder, processes=2) as product:
            yield from lookup.many_warm(product)


def _save() -> Iterator[Figure]:
    with simulated(demo.build()) as (simulator, folder), running(simulator, folder) as product:
        yield from save.measure(product)


def _mailbox() -> Iterator[Figure]:
    with simulated(demo.build()) as (simulator, folder), running(simulator, folder) as product:
        yield from mailbox.measure(product)


def _memory() -> Iterator[Figure]:
    with simulated(demo.build()) as (simulator, folder), running(simulator, folder) as product:
        yield from memory.measure(product)


def _pane() -> Iterator[Figure]:
    with simulated(demo.build()) as (simulator, folder), running(simulator, folder) as product:
        yield from pane.measure(product)


def _gmail() -> Iterator[Figure]:
    with simulated(demo.build()) as (simulator, folder), running(simulator, folder) as product:
        yield from gmail.measure(product)


LOADED = "Times count only where nothing else was running: about 0 before, at most 2 after."

PARTS: dict[str, Callable[[], Iterator[Figure]]] = {
    "lookup": _lookup,
    "save": _save,
    "mailbox": _mailbox,
    "memory": _memory,
    "growth": growth.measure,
    "pane": _pane,
    "gmail": _gmail,
    "sessions": sessions.measure,
}
NAMED_PARTS: dict[str, Callable[[], Iterator[Figure]]] = {
    "sessions-growth": sessions.measure_growth,
    "schedule": schedule.measure,
    "neighbours": neighbours.measure,
    "hooks": hooks.measure,
}
"""Measured only when they are named."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="./run bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    named = ", ".join(NAMED_PARTS)
    parts = f"one of {', '.join(PARTS)}, {named}; all but {named} if none is named"
    parser.add_argument("parts", nargs="*", metavar="part", help=parts)
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS | NAMED_PARTS):
        parser.error(f"there is no part {min(unknown)!r}")
    load = os.getloadavg()[0]
    figures: list[Figure] = []
    for name in options.parts or PARTS:
        print(f"Measuring: {name} ...", file=sys.stderr, flush=True)
        try:
            figures += (PARTS | NAMED_PARTS)[name]()
        except CannotMeasure as error:
            print(f"Not measured: {name}: {error}", file=sys.stderr, flush=True)
    if options.json:
        print(json.dumps({figure.name: figure.value for figure in figures}))
        return
    print(table(figures) if figures else "Nothing was measured.")
    missed = [figure.name for figure in figures if not figure.is_met]
    print(f"\nOn {os.cpu_count()} cores; load average {load:.1f} before, {os.getloadavg()[0]:.1f} after. {LOADED}")
    print(f"{len(missed)} of {sum(f.limit is not None for f in figures)} limits missed: {', '.join(missed) or 'none'}")


if __name__ == "__main__":
    main()
