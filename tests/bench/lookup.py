"""How long a lookup takes, cold and warm, for one and for many.

Cold means that C4C is asked: a message nobody asked about before, with the user's sign-in at C4C warm. Warm means the same
message again within the cache's time. C4C's requests are counted in the simulator's access log.
"""

from __future__ import annotations

import itertools
import json
import selectors
import socket
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from tests.bench.figures import CannotMeasure, Figure, median, percentile
from tests.bench.product import Item, Product, never_seen

COLD_ROUNDS = 40
OVERHEAD_ROUNDS = 120
WARM_ROUNDS = 400
LATENCY_MS = 300
MESSAGES = 20
CLIENTS = 8
LOOKUPS_EACH = 25
WINDOWS, WINDOW_S = 5, 2.0


def one_at_a_time(product: Product) -> list[Figure]:
    person = product.people[1]
    caller = product.caller(person)
    items = _asking(product)
    mix = itertools.cycle(items)
    product.slow(LATENCY_MS)
    slow: list[float] = []
    asked = 0
    for _ in range(COLD_ROUNDS):
        before = product.marker
        slow.append(caller.look_up(never_seen(next(mix)))[1])
        asked = max(asked, len(product.seen("c4c", since=before)))
    product.slow(0)
    own: list[float] = []
    for _ in range(OVERHEAD_ROUNDS):
        before = product.marker
        took = caller.look_up(never_seen(next(mix)))[1]
        own.append(took - sum(call.duration_ms for call in product.seen(since=before)))
    before = product.marker
    warm = [caller.look_up(next(mix))[1] for _ in range(WARM_ROUNDS)]
    one = f"1 client, {len(items)} messages in turn"
    return [
        Figure("lookup_cold_300ms_p50_ms", median(slow), f"{one}, C4C takes {LATENCY_MS} ms, {COLD_ROUNDS} lookups"),
        Figure("lookup_cold_c4c_requests", asked, "C4C's access log, at most per lookup", limit=1),
        Figure(
            "lookup_overhead_p50_ms",
            median(own),
            f"{one}, {OVERHEAD_ROUNDS} cold lookups less the simulator's own time",
            limit=12,
        ),
        Figure("lookup_warm_p50_ms", median(warm), f"{one}, {WARM_ROUNDS} repeats"),
        Figure("lookup_warm_p95_ms", percentile(warm, 95), f"{one}, {WARM_ROUNDS} repeats", limit=10),
        Figure("lookup_warm_c4c_requests", len(product.seen("c4c", since=before)), "C4C's access log, all repeats", limit=0),
    ]


def many_cold(product: Product) -> list[Figure]:
    """Eight people at once, C4C slow: whoever waits longer than the others waits for the product and not for C4C."""
    items = _asking(product)
    people = product.people
    callers = [product.caller(people[number % len(people)]) for number in range(CLIENTS)]
    for caller in callers:
        caller.look_up(never_seen(items[0]))
    product.slow(LATENCY_MS)

    def work(number: int) -> list[float]:
        asked = (never_seen(items[(number + turn) % len(items)]) for turn in range(LOOKUPS_EACH))
        return [callers[number].look_up(item)[1] for item in asked]

    with ThreadPoolExecutor(CLIENTS) as pool:
        times = [took for each in pool.map(work, range(CLIENTS)) for took in each]
    product.slow(0)
    p50 = median(times)
    how = f"{CLIENTS} clients, 1 process, C4C takes {LATENCY_MS} ms, {len(times)} lookups"
    return [
        Figure("lookup_cold_p50_ms_8_clients", p50, how),
        Figure("lookup_cold_p99_ms_8_clients", percentile(times, 99), f"{how}; limit is 3 x p50", limit=round(3 * p50, 1)),
    ]


def many_warm(product: Product) -> list[Figure]:
    """Eight clients that ask again as soon as they are answered. One thread without an HTTP library drives all of them."""
    items = _asking(product)
    before = product.marker
    clients = [_Client(product.installed.port, _requests(product, number, items)) for number in range(CLIENTS)]
    _drive(clients, 2 * WINDOW_S)  # until each process knows each answer for each user
    asked = len(product.seen("c4c", since=before))
    before = product.marker
    rates, times = [], list[float]()
    for _ in range(WINDOWS):
        took = _drive(clients, WINDOW_S)
        rates.append(len(took) / WINDOW_S)
        times += took
    for client in clients:
        client.close()
    how = f"{CLIENTS} clients, gunicorn 2 workers, median of {WINDOWS} x {WINDOW_S:g} s; the client shares the cores"
    repeated = len(product.seen("c4c", since=before))
    return [
        Figure("lookup_warm_rps", round(statistics.median(rates)), how, limit=400, at_least=True),
        Figure("lookup_warm_p99_ms_8_clients", percentile(times, 99), f"{len(times)} of these answers"),
        Figure("lookup_warm_rps_c4c_requests", repeated, f"C4C's access log, while measuring ({asked} before)", limit=0),
    ]


def _asking(product: Product) -> list[Item]:
    """Some messages of one person, newest first, for which C4C is asked; they are warm then."""
    person = product.people[1]
    caller = product.caller(person)
    found: list[Item] = []
    for item in product.items(person):
        before = product.marker
        caller.look_up(item)
        if product.seen("c4c", since=before):
            found.append(item)
        if len(found) == MESSAGES:
            return found
    raise CannotMeasure("The demo has too few messages to look up.")


# --- many clients in one thread -------------------------------------------------------------------------------------------


def _requests(product: Product, number: int, items: list[Item]) -> Iterator[bytes]:
    """Ask for one message after the other, for ever, as one of the people."""
    person = product.people[number % len(product.people)]
    written = []
    for item in items:
        body = json.dumps({"item": {**item, "mailbox": person.email}}).encode()
        head = (
            f"POST /api/context HTTP/1.1\r\nHost: 127.0.0.1:{product.installed.port}\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {product.simulator.bearer(person)}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        written.append(head.encode() + body)
    return itertools.cycle(written)


class _Client:
    """Sends one request after the other over one connection."""

    def __init__(self, port: int, requests: Iterator[bytes]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._requests = requests
        self._read = b""
        self._missing: int | None = None
        self.started = 0.0

    def ask(self) -> None:
        self._read, self._missing = b"", None
        self.started = time.perf_counter()
        self.socket.sendall(next(self._requests))

    def is_answered(self) -> bool:
        """Read what is there; say whether the answer is whole."""
        chunk = self.socket.recv(65536)
        if not chunk:
            raise CannotMeasure("The server closed a connection.")
        self._read += chunk
        if self._missing is None and (end := self._read.find(b"\r\n\r\n")) >= 0:
            head = self._read[:end].lower()
            if not head.startswith(b"http/1.1 200 "):
                raise CannotMeasure(f"A lookup was answered {head[:40]!r}")
            length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
            self._missing = end + 4 + length
        return self._missing is not None and len(self._read) >= self._missing

    def close(self) -> None:
        self.socket.close()


def _drive(clients: list[_Client], seconds: float) -> list[float]:
    """Let all clients ask until time is up; return how long each answer took, in milliseconds."""
    times: list[float] = []
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
            client.ask()
        until, waiting = time.perf_counter() + seconds, len(clients)
        while waiting:
            for client in (key.data for key, _ in itertools.chain(selector.select(30))):
                if client.is_answered():
                    now = time.perf_counter()
                    times.append((now - client.started) * 1000)
                    if now < until:
                        client.ask()
                    else:
                        waiting -= 1
    return times
