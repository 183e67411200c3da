"""Measure the product as it runs: real server, real ports, the simulator with a set latency.

Each figure's name says what it is and in which unit. Requests to C4C are counted in the simulator's access log, never by our
own client. Prints a table, or with --json one JSON object.
"""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 40
LATENCY_MS = 300


class Product:
    """A running `./run dev`, and one keep-alive connection to it as one of its users."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts
        self.user = max(facts["users"], key=lambda user: len(user["messages"]))
        self._server = http.client.HTTPConnection(urlsplit(facts["server"]).netloc)
        self._inbox = http.client.HTTPConnection(urlsplit(facts["inbox"]).netloc)

    def post(self, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], float]:
        """Return the answer and how long it took, in milliseconds."""
        headers = {"Authorization": f"Bearer {self.user['bearer']}", "Content-Type": "application/json"}
        payload = json.dumps(body)
        started = time.perf_counter()
        self._server.request("POST", path, payload, headers)
        response = self._server.getresponse()
        answer = json.loads(response.read())
        took = (time.perf_counter() - started) * 1000
        if response.status >= 400:
            raise SystemExit(f"{path} answered {response.status}: {answer.get('detail')}")
        return answer, took

    def world(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        payload = None if body is None else json.dumps(body)
        self._inbox.request(method, f"/world/{path}", payload, {"Content-Type": "application/json"})
        content = self._inbox.getresponse().read()
        return json.loads(content) if content else None

    def settle(self) -> None:
        """Wait until the background reading of addresses is through, so that only lookups are counted and timed."""
        seen, quiet_since = -1, time.monotonic()
        while time.monotonic() - quiet_since < 3:
            count = self.c4c_requests()
            if count != seen:
                seen, quiet_since = count, time.monotonic()
            time.sleep(0.2)

    def c4c_requests(self) -> int:
        return len(self.world("GET", "access?vendor=c4c&limit=100000"))


@contextmanager
def running() -> Iterator[Product]:
    port = _free_ports()
    command = [str(ROOT / "run"), "dev", "--json", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                raise SystemExit("The product did not start.")
            yield Product(json.loads(line))
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(20)


def _free_ports() -> int:
    """Return the first of a few ports that nobody uses."""
    for first in range(8700, 9700, 10):
        if all(_is_free(port) for port in range(first, first + 5)):
            return first
    raise SystemExit("No free ports.")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def cold_lookup(product: Product) -> dict[str, float]:
    """Look up messages nobody asked about before, tokens warm, C4C at a set latency."""
    ordinary = [item for item in product.user["messages"] if item["internet_message_id"]]
    warm_up, rest = ordinary[:3], ordinary[3:]
    for item in warm_up:
        product.post("/api/context", {"mode": "read", "item": item})
    product.world("POST", "latency", {"vendor": "c4c", "base_ms": LATENCY_MS})
    times: list[float] = []
    requests: list[int] = []
    for item in rest:
        before = product.c4c_requests()
        answer, took = product.post("/api/context", {"mode": "read", "item": item})
        asked = product.c4c_requests() - before
        if answer["timing"]["cached"] or not asked:  # own, colleagues', blocklisted or automatic mail asks nothing
            continue
        times.append(took)
        requests.append(asked)
        if len(times) == ROUNDS:
            break
    product.world("POST", "latency", {"vendor": "c4c"})
    return {
        "lookup_cold_300ms_p50_ms": round(statistics.median(times), 1),
        "lookup_cold_300ms_max_ms": round(max(times), 1),
        "lookup_cold_c4c_requests": max(requests),
        "lookup_cold_rounds": len(times),
    }


def warm_lookup(product: Product) -> dict[str, float]:
    """Look the same message up again and again."""
    item = next(item for item in product.user["messages"] if item["internet_message_id"])
    product.post("/api/context", {"mode": "read", "item": item})
    before = product.c4c_requests()
    times = sorted(product.post("/api/context", {"mode": "read", "item": item})[1] for _ in range(ROUNDS * 5))
    return {
        "lookup_warm_p50_ms": round(statistics.median(times), 1),
        "lookup_warm_p95_ms": round(times[int(len(times) * 0.95)], 1),
        "lookup_warm_c4c_requests": product.c4c_requests() - before,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="./run bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with running() as product:
        product.settle()
        figures = {**cold_lookup(product), **warm_lookup(product)}
    if options.json:
        print(json.dumps(figures))
        return
    width = max(map(len, figures))
    for name, figure in figures.items():
        sys.stdout.write(f"{name:<{width}}  {figure:>10}\n")


if __name__ == "__main__":
    main()
