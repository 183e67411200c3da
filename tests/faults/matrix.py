"""The faults, one table for all tests."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.faults.proxy import Fault, When

BIG = 100 * 1024 * 1024
HTML = b"<html><body><h1>Maintenance</h1></body></html>"
LATE_S = 1.0  # longer than every deadline of conftest.SHORT


@dataclass(frozen=True)
class Case:
    """One fault, by name."""

    name: str
    kind: str
    when: When
    seconds: float = 0.0
    share: float = 0.5
    answer: Callable[[bytes], Iterable[bytes]] | None = None
    is_quick: bool = True  # nothing waits for a deadline
    heals: bool = False  # the remote answers well in the end

    def fault(self, match: str = "", *, trap_url: str, times: int | None = None) -> Fault:
        answer = reply("302 Found", Location=trap_url) if self.name == "elsewhere" else self.answer
        return Fault(self.kind, self.when, match, self.seconds, self.share, answer or nothing, times)

    def __str__(self) -> str:
        return f"{self.name}-{self.when}"


def nothing(own: bytes) -> Iterable[bytes]:
    return ()


def reply(status: str, body: bytes = b"", **headers: str) -> Callable[[bytes], Iterable[bytes]]:
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *lines, "", ""]).encode()
    return lambda _: (head + body,)


def endless(own: bytes) -> Iterable[bytes]:
    """100 MB of blanks, which any reader of JSON would take."""
    yield f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {BIG}\r\n\r\n".encode()
    blanks = b" " * 65536
    for _ in range(BIG // len(blanks)):
        yield blanks


def half_json(own: bytes) -> Iterable[bytes]:
    """A whole HTTP answer that holds half of what was meant."""
    head, _, body = own.partition(b"\r\n\r\n")
    body = body[: len(body) // 2] or b'{"d": {"results": ['
    kind = next((line for line in head.split(b"\r\n") if line.lower().startswith(b"content-type:")), b"Content-Type: application/json")
    yield b"HTTP/1.1 200 OK\r\n%s\r\nContent-Length: %d\r\n\r\n" % (kind, len(body)) + body


def both(name: str, answer: Callable[[bytes], Iterable[bytes]]) -> list[Case]:
    return [Case(name, "answer", when, answer=answer) for when in ("before", "after")]


_TIMES: tuple[When, ...] = ("before", "after", "mid")
CASES = [
    *(Case("latency-0.3", "latency", when, 0.3, heals=True) for when in _TIMES),
    *(Case("late", "latency", when, LATE_S, is_quick=False) for when in _TIMES),
    Case("down", "down", "before"),
    Case("down", "down", "after"),
    *(Case("reset", "reset", when) for when in _TIMES),
    *(Case("hang", "hang", when, is_quick=False) for when in _TIMES),
    Case("sliced", "slice", "after", heals=True),
    *(Case("cut", "cut", when) for when in _TIMES),
    Case("cut-in-head", "cut", "mid", share=0.02),
    Case("cut-at-end", "cut", "mid", share=0.999),
    Case("401", "answer", "before", answer=reply("401 Unauthorized")),
    Case("403-csrf", "answer", "before", answer=reply("403 Forbidden", b"CSRF token validation failed", x_csrf_token="Required")),
    Case("429", "answer", "before", answer=reply("429 Too Many Requests")),
    Case("429-pause", "answer", "before", answer=reply("429 Too Many Requests", Retry_After="20")),
    *both("503", reply("503 Service Unavailable")),
    *both("503-pause", reply("503 Service Unavailable", Retry_After="20")),
    *both("500", reply("500 Internal Server Error")),
    *both("html", reply("200 OK", HTML, Content_Type="text/html")),
    *both("garbage", half_json),
    *both("100-mb", endless),
    *both("elsewhere", nothing),
]
