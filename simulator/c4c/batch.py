"""Multipart bodies of $batch, read strictly and written byte for byte as C4C writes them.

`read()` gives the requests of a body, single ones and changesets; `write()` joins the answers. The form of the answer is that
of the captured replies (c4c-odata.md, S6): boundaries ejjeeffe0 and ejjeeffe1, no Content-ID, blanks before a changeset's
Content-Length. Nothing is executed here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from simulator.c4c.query import ODataError

OUTER = "ejjeeffe0"
INNER = "ejjeeffe1"


@dataclass(frozen=True, slots=True)
class Request:
    """One request inside a batch; header names are lower case."""

    method: str
    target: str  # as sent, relative to the service or absolute
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to one OData request, inside a batch or alone."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


def read(content_type: str, body: bytes) -> list[Request | list[Request]]:
    """Return the operations in order; a list is a changeset. Raises: ODataError 400 if the body is malformed."""
    operations: list[Request | list[Request]] = []
    for headers, content in _parts(content_type, body):
        if headers.get("content-type", "").lower().startswith("multipart/mixed"):
            changes = [_request(*part) for part in _parts(headers["content-type"], content)]
            if any(change.method == "GET" for change in changes):
                raise ODataError("A changeset must not contain a GET request")
            operations.append(changes)
        else:
            operations.append(_request(headers, content))
    return operations


def write(replies: Sequence[Reply | list[Reply]]) -> tuple[str, bytes]:
    """Return content type and body; a list holds the answers of a changeset."""
    chunks = []
    for reply in replies:
        if isinstance(reply, Reply):
            chunks.append(_part(OUTER, reply))
            continue
        inner = b"".join(_part(INNER, change) for change in reply) + f"--{INNER}--\r\n".encode()
        head = f"--{OUTER}\r\nContent-Type: multipart/mixed; boundary={INNER}\r\nContent-Length:{len(inner):10d}\r\n\r\n"
        chunks.append(head.encode() + inner + b"\r\n")
    return f"multipart/mixed; boundary={OUTER}", b"".join(chunks) + f"--{OUTER}--\r\n".encode()


def _part(boundary: str, reply: Reply) -> bytes:
    lines = [f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}"]
    lines.append(f"Content-Type: {reply.header('Content-Type') or 'text/html'}")
    lines.append(f"Content-Length: {len(reply.body)}")
    created = reply.status == 201
    order = ("location", "dataserviceversion", "cache-control") if created else ("cache-control", "dataserviceversion")
    lines += [f"{name}: {reply.header(name)}" for name in (*order, "etag") if reply.header(name)]
    embedded = "\r\n".join([*lines, "", ""]).encode("latin-1") + reply.body
    head = f"--{boundary}\r\nContent-Type: application/http\r\nContent-Length: {len(embedded)}\r\n"
    return head.encode() + b"Content-Transfer-Encoding: binary\r\n\r\n" + embedded + b"\r\n"


def _parts(content_type: str, body: bytes) -> list[tuple[dict[str, str], bytes]]:
    """Split a multipart body into (headers, content)."""
    match = re.fullmatch(r'multipart/mixed\s*;\s*boundary=("?)([^";\s]{1,70})\1', content_type.strip(), re.IGNORECASE)
    if match is None:
        raise ODataError("A batch request needs Content-Type multipart/mixed with a boundary")
    delimiter = f"--{match[2]}".encode()
    chunks = (b"\r\n" + body).split(b"\r\n" + delimiter)
    if len(chunks) < 3 or not chunks[-1].startswith(b"--") or chunks[-1][2:].strip():
        raise ODataError("Malformed batch request: the closing boundary is missing")
    parts = []
    for chunk in chunks[1:-1]:
        if not chunk.startswith(b"\r\n") or b"\r\n\r\n" not in chunk:
            raise ODataError("Malformed batch request: a part has no header")
        head, _, content = chunk.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        parts.append((_headers(head), content))
    return parts


def _headers(head: bytes) -> dict[str, str]:
    headers = {}
    for line in head.decode("latin-1").split("\r\n"):
        name, colon, value = line.partition(":")
        if not colon or not re.fullmatch(r"[\w-]+", name):
            raise ODataError("Malformed batch request: invalid header")
        headers[name.lower()] = value.strip()
    return headers


def _request(headers: dict[str, str], content: bytes) -> Request:
    """Read an embedded request: request line, headers, an empty line and, unless it is a GET, a body."""
    if headers.get("content-type", "").lower() != "application/http":
        raise ODataError("Malformed batch request: a part is not application/http")
    if headers.get("content-transfer-encoding", "").lower() != "binary":
        raise ODataError("Malformed batch request: Content-Transfer-Encoding must be binary")
    head, blank, body = content.lstrip(b"\r\n").partition(b"\r\n\r\n")
    first, _, rest = head.partition(b"\r\n")
    line = re.fullmatch(rb"([A-Z]+) ([!-~]+) HTTP/1\.1", first)
    if not blank or line is None:
        raise ODataError("Malformed batch request: invalid request line, or no empty line after the request")
    inner = _headers(rest) if rest else {}
    length = inner.get("content-length", "")
    if length.isdecimal():
        body = body[: int(length)]  # one that is too large is tolerated, as in SAP's own samples
    return Request(line[1].decode(), line[2].decode(), inner, body)
