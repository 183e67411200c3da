"""What can go wrong with one request: one table for lookups and saves."""

import gzip
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from tests.faults.proxy import Answer, Fault, When

BIG = 100 * 1024 * 1024
LATE_S = 1.0  # longer than each deadline of house.SHORT


@dataclass(frozen=True)
class Case:
    """One fault at one moment. `heals`: the remote's own answer arrives whole, and in time for the usual deadlines."""

    name: str
    kind: str
    when: When
    seconds: float = 0.0
    share: float = 0.5
    answer: Answer | None = None
    heals: bool = False

    @property
    def takes_time(self) -> bool:
        """Say whether somebody's deadline has to pass."""
        return not self.heals and (self.kind in ("hang", "slice") or self.seconds >= LATE_S)

    def fault(self, match: str, trap_url: str, *, times: int | None = None) -> Fault:
        answer = status("302 Found", location=trap_url) if self.name == "elsewhere" else self.answer
        return Fault(self.kind, self.when, match, self.seconds, self.share, answer, times)

    def __str__(self) -> str:
        return f"{self.name}-{self.when}"


def status(line: str, body: bytes = b"", **headers: str) -> Answer:
    fields = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([f"HTTP/1.1 {line}", f"content-length: {len(body)}", *fields, "", ""])
    return lambda _: (head.encode() + body,)


def endless(own: bytes) -> Iterable[bytes]:
    """100 MB of blanks, of which no reader of JSON can say early that they are wrong."""
    yield f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {BIG}\r\n\r\n".encode()
    blanks = b" " * 65536
    for _ in range(BIG // len(blanks)):
        yield blanks


def half(own: bytes) -> Iterable[bytes]:
    """A flawless HTTP answer that holds half of what it should."""
    head, _, body = own.partition(b"\r\n\r\n")
    kind = next(
        (one for one in head.split(b"\r\n") if one.lower().startswith(b"content-type")), b"content-type: application/json"
    )
    body = body[: len(body) // 2] or b'{"d": {"results": ['
    yield b"HTTP/1.1 200 OK\r\n%b\r\ncontent-length: %d\r\n\r\n%b" % (kind, len(body), body)


def unpackable(own: bytes) -> Iterable[bytes]:
    """Packed and cut, though the length is right: only who unpacks it to its end sees that something is missing."""
    _, _, body = own.partition(b"\r\n\r\n")
    packed = gzip.compress(body or b'{"d": {"results": []}}')[:-12]
    kind = b"content-type: application/json\r\ncontent-encoding: gzip"
    yield b"HTTP/1.1 200 OK\r\n%b\r\ncontent-length: %d\r\n\r\n%b" % (kind, len(packed), packed)


def refusal(code: str, message: str) -> Answer:
    """PostgreSQL's ErrorResponse, after which it closes the connection (its manual, "Message Formats")."""
    fields = b"".join(part.encode() + b"\0" for part in ("SFATAL", "VFATAL", "C" + code, "M" + message)) + b"\0"
    return lambda _: (b"E" + struct.pack("!i", len(fields) + 4) + fields,)


def answers(name: str, answer: Answer | None, *moments: When) -> list[Case]:
    return [Case(name, "answer", when, answer=answer) for when in moments]


EACH: tuple[When, ...] = ("before", "after", "mid")
REMOTES = ("c4c", "graph", "identity", "database")
CASES = [
    *(Case("latency-0.3", "latency", when, 0.3, heals=True) for when in EACH),
    *(Case("late", "latency", when, LATE_S) for when in EACH),  # "before": it acts after nobody waits any more
    *(Case("down", "down", when) for when in EACH),
    *(Case("reset", "reset", when) for when in EACH),
    *(Case("hang", "hang", when) for when in EACH),
    Case("sliced", "slice", "after", heals=True),
    *(Case("cut", "cut", when) for when in EACH),
    Case("cut-in-head", "cut", "mid", share=0.02),
    Case("cut-at-end", "cut", "mid", share=0.999),
    # These say that the request was not looked at, so the remote has not acted.
    *answers("401", status("401 Unauthorized"), "before"),
    *answers("403-csrf", status("403 Forbidden", b"CSRF token validation failed", x_csrf_token="Required"), "before"),
    *answers("429", status("429 Too Many Requests"), "before"),
    *answers("429-pause", status("429 Too Many Requests", retry_after="20"), "before"),
    # These may come from something in between, whatever the remote did.
    *answers("503", status("503 Service Unavailable"), "before", "after"),
    *answers("503-pause", status("503 Service Unavailable", retry_after="20"), "before", "after"),
    *answers("500", status("500 Internal Server Error"), "before", "after"),
    *answers("html", status("200 OK", b"<html><h1>Maintenance</h1></html>", content_type="text/html"), "before", "after"),
    *answers("garbage", half, "before", "after"),
    *answers("unpackable", unpackable, "before", "after"),
    *answers("100-mb", endless, "before", "after"),
    *answers("elsewhere", None, "before", "after"),
]
SLOW = [
    *(Case("latency-1.5", "latency", when, 1.5, heals=True) for when in EACH),
    Case("dripping", "slice", "after", 0.05),  # no byte is late, the whole is
]
"""For whoever has time; each costs seconds."""

SQL_CASES = [
    *(case for case in CASES if case.answer is None and case.name not in ("elsewhere", "cut-in-head")),
    *answers("401", refusal("28P01", "password authentication failed"), "before"),
    *answers("429", refusal("53300", "sorry, too many clients already"), "before"),
    *answers("503", refusal("57P03", "the database system is starting up"), "before"),
    *answers("500", refusal("57P01", "terminating connection due to administrator command"), "after"),
    *answers("read-only", refusal("25006", "cannot execute INSERT in a read-only transaction"), "before"),
    *answers("garbage", lambda _: (b"HTTP/1.1 200 OK\r\n\r\n<html>",), "before", "after"),
]
"""The same for PostgreSQL, whose answers have codes of their own; the rest of the faults is HTTP's alone."""


def slow(turn: int | None = None) -> list[Case]:
    """Return those that cost seconds, one moment of each, or all of them."""
    return SLOW if turn is None else [case for case in SLOW if str(case) in some(SLOW, turn)]


def some(cases: Iterable[Case], turn: int, share: int = 0, shares: int = 1) -> set[str]:
    """Return one moment of each fault, another one for each `turn`: what is tried when not all can be. Or a share of these."""
    moments: dict[str, list[Case]] = {}
    for case in cases:
        moments.setdefault(case.name, []).append(case)
    chosen = [str(each[(turn + place) % len(each)]) for place, each in enumerate(moments.values())]
    return set(chosen[share::shares])
