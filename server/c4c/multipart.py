"""The bytes of an OData v2 $batch: write requests, read replies. Pure; knows nothing of C4C's entities or of HTTP clients.

Requests: GETs stand alone, a list of writes becomes a changeset. Replies are matched by order, because C4C does not echo
Content-ID (c4c-odata.md section 1, $batch). The reader takes CRLF and LF, learns every boundary from a header, and believes
the Content-Length of an embedded reply only where a delimiter really follows, so that a body that looks like a boundary
cannot pass for a part, and a wrong length (C4C's own samples have some) does no harm. What it cannot read it refuses whole:
a reply that is attributed to the wrong request is worse than none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

_PRINTABLE = re.compile(r"[\x21-\x7e]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")
_STATUS_LINE = re.compile(rb"HTTP/\d\.\d (\d{3})(?: [^\r\n]*)?\r?\n")
_BOUNDARY = re.compile(r'boundary=(?:"([^"]+)"|([^\s;"]+))', re.IGNORECASE)


class UnreadableBatch(ValueError):
    """The reply is not the multipart it claims to be, or is cut."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request inside a batch. `target` is relative to the service root and already URL-encoded."""

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One reply inside a batch. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Changeset = list[Request]


def written(requests: Sequence[Request | Changeset], boundary: str) -> bytes:
    """Return the body of a batch. `boundary` is unique; each changeset's is derived so that neither begins with the other.

    Raises: ValueError if a target or header could end its line, which URL encoding by the caller makes impossible.
    """
    lines: list[bytes] = []
    for number, request in enumerate(requests):
        lines.append(b"--" + boundary.encode())
        if isinstance(request, Request):
            lines.append(_embedded(request))
            continue
        inner = f"changeset{number}-{boundary}"
        parts = b"".join(b"--" + inner.encode() + b"\r\n" + _embedded(one) + b"\r\n" for one in request)
        parts += b"--" + inner.encode() + b"--\r\n"
        lines.append(f"Content-Type: multipart/mixed; boundary={inner}\r\nContent-Length: {len(parts)}\r\n\r\n".encode() + parts)
    lines.append(b"--" + boundary.encode() + b"--\r\n")
    return b"\r\n".join(lines)


def _embedded(request: Request) -> bytes:
    if not _PRINTABLE.fullmatch(request.method + request.target):
        raise ValueError("a batch target must be URL-encoded")
    headers = dict(request.headers)
    if request.body is not None:
        headers["Content-Length"] = str(len(request.body))
    for name, value in headers.items():
        if not _PRINTABLE.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"header {name!r} of a batch part holds a control character")
    head = f"{request.method} {request.target} HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in headers.items())
    # An empty line ends the headers; C4C wants a second one behind a request without a body (c4c-odata.md, $batch).
    message = head.encode("ascii") + b"\r\n" + (request.body if request.body is not None else b"\r\n")
    mime = f"Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\nContent-Length: {len(message)}\r\n\r\n"
    return mime.encode("ascii") + message


def read(content_type: str, body: bytes) -> list[Part | list[Part]]:
    """Return the replies in order; a changeset's replies come as a list.

    A changeset that was refused comes as one plain Part in its place.

    Raises: UnreadableBatch if the body is not a complete multipart of HTTP replies.
    """
    replies: list[Part | list[Part]] = []
    for headers, start, end in _sections(body, _boundary(content_type)):
        kind = headers.get("content-type", "").lower()
        if kind.startswith("multipart/"):
            inner = body[start:end]
            replies.append(
                [_part(inner, s, e) for _, s, e in _sections(inner, _boundary(headers["content-type"]))],
            )
        else:
            replies.append(_part(body, start, end))
    return replies


def _boundary(content_type: str) -> bytes:
    found = _BOUNDARY.search(content_type)
    if not content_type.lower().startswith("multipart/") or found is None:
        raise UnreadableBatch("not a multipart reply")
    return (found[1] or found[2]).encode("latin-1", "replace")


def _sections(body: bytes, boundary: bytes) -> Iterator[tuple[dict[str, str], int, int]]:
    """Yield headers, start and end of each section; the end is behind an embedded reply's Content-Length if that fits."""
    delimiter = re.compile(rb"^--" + re.escape(boundary) + rb"(--)?[ \t]*\r?$", re.MULTILINE)
    found = delimiter.search(body)
    while found is not None and not found[1]:
        headers, start = _headers(body, body.find(b"\n", found.end() - 1) + 1)
        following = _after_declared_length(body, start, delimiter) or delimiter.search(body, start)
        if following is None:
            raise UnreadableBatch("the reply is cut")
        yield headers, start, following.start()
        found = following
    if found is None:
        raise UnreadableBatch("the reply is cut")


def _after_declared_length(body: bytes, start: int, delimiter: re.Pattern[bytes]) -> re.Match[bytes] | None:
    status = _STATUS_LINE.match(body, start)
    if status is None:
        return None
    headers, content = _headers(body, status.end())
    length = headers.get("content-length", "").strip()
    if not length.isdecimal():
        return None
    position = content + int(length)
    line_end = re.compile(rb"(?:\r?\n)*").match(body, position)
    return delimiter.match(body, line_end.end()) if line_end is not None and position <= len(body) else None


def _headers(body: bytes, start: int) -> tuple[dict[str, str], int]:
    """Read header lines from `start`; return them and where the content begins."""
    headers: dict[str, str] = {}
    position = start
    while True:
        end = body.find(b"\n", position)
        if end < 0:
            raise UnreadableBatch("a part has no end of headers")
        line = body[position:end].rstrip(b"\r").decode("latin-1")
        position = end + 1
        if not line:
            return headers, position
        name, colon, value = line.partition(":")
        if not colon:
            raise UnreadableBatch("a part has a line that is no header")
        headers[name.strip().lower()] = value.strip()


def _part(body: bytes, start: int, end: int) -> Part:
    status = _STATUS_LINE.match(body, start, end)
    if status is None:
        raise UnreadableBatch("a part is not an HTTP reply")
    headers, content_start = _headers(body, status.end())
    if content_start > end:
        raise UnreadableBatch("a part has no end of headers")
    length = headers.get("content-length", "").strip()
    content = body[content_start:end]
    if length.isdecimal() and int(length) <= len(content) and not content[int(length) :].strip(b"\r\n"):
        content = content[: int(length)]
    else:
        content = content[:-2] if content.endswith(b"\r\n") else content.removesuffix(b"\n")
    return Part(int(status[1]), headers, content)
