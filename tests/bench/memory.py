"""How much memory a web process takes: at rest, and at most while it saves files of 25 MB.

Read from /proc of the process that answers requests: VmRSS is what it has now, VmHWM the most it ever had, which is set back
before each save by writing 5 to clear_refs (proc(5)). Both count pages that are shared with the parent process.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from simulator.mime import File
from tests.bench.figures import CannotMeasure, Figure
from tests.bench.product import Caller, Item, Product, never_seen

FILE_BYTES = 25 * 1000 * 1000
AT_ONCE = 3  # saves, of which at most two may hold their message in memory
PATIENCE_S = 120.0


def measure(product: Product) -> list[Figure]:
    (pid,) = product.workers()
    people = product.people
    sender = next(item for item in product.items(people[1]) if product.caller(people[1]).look_up(item)[0]["cards"])
    small = product.deliver(people[1], sender, File("small.pdf", "application/pdf", bytes(1000)))
    _save(product.caller(people[1]), small)
    for person in people:
        product.caller(person).look_up(never_seen(sender))
    time.sleep(1)
    idle = _megabytes(pid, "VmRSS")
    one = _peak(product, pid, [product.deliver(people[1], sender, _large())])
    time.sleep(1)
    after = _megabytes(pid, "VmRSS")
    several = _peak(product, pid, [product.deliver(people[1], sender, _large()) for _ in range(AT_ONCE)])
    size = f"{FILE_BYTES / 1e6:g} MB"
    return [
        Figure("worker_rss_mb", round(idle), "VmRSS of the web process, idle after lookups and a save", limit=140),
        Figure("worker_rss_25mb_save_mb", round(one), f"VmHWM while saving a file of {size}, above idle", limit=120),
        Figure("worker_rss_after_save_mb", round(after), "VmRSS a second later"),
        Figure(
            f"worker_rss_{AT_ONCE}_saves_mb",
            round(several),
            f"VmHWM while {AT_ONCE} such saves are asked for at once, above the line before; two may run",
            limit=240,
        ),
    ]


def _large() -> File:
    block = bytes(range(57))
    return File("drawings.zip", "application/zip", block, times=FILE_BYTES // len(block))


def _peak(product: Product, pid: int, items: list[Item]) -> float:
    """Return the most memory above the present while all of these are saved at once."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    before = _megabytes(pid, "VmRSS")
    with ThreadPoolExecutor(len(items)) as pool:
        list(pool.map(lambda item: _save(product.caller(product.people[1]), item), items))
    return _megabytes(pid, "VmHWM") - before


def _save(caller: Caller, item: Item) -> None:
    """Save the message and see it through: asked again while there is no place for it, waited for while it is under way."""
    deadline = time.monotonic() + PATIENCE_S
    answer: dict[str, Any] = {}
    while answer.get("state") != "saved":
        if time.monotonic() > deadline or answer.get("state") == "failed":
            raise CannotMeasure(f"A save did not come to its end: {answer}")
        if answer.get("id"):
            time.sleep(0.3)
            answer, _ = caller.send("GET", f"/api/saves/{answer['id']}")
        else:
            answer, _ = caller.send("POST", "/api/saves", {"item": item, "links": []}, busy_is_an_answer=True)
            if not answer.get("id"):
                time.sleep(0.3)


def _megabytes(pid: int, name: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    raise CannotMeasure(f"/proc does not tell {name}.")
