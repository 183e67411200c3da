"""Google's batches on the wire: many requests to one API in a multipart body, judged one by one and answered in another order."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from typing import Any

from simulator.google.discovery import GoogleError, Json, invalid

MOST_PARTS = 100
JSON = "application/json; charset=UTF-8"
MESSAGE_TOKEN = "X-Goog-Gmail-Access-Token"
_BOUNDARY = "batch_simulated_answer"
MIXED = f"multipart/mixed; boundary={_BOUNDARY}"

STATUSES = {
    400: ("invalidArgument", "Request contains an invalid argument."),
    401: ("authError", "Request had invalid authentication credentials."),
    403: ("forbidden", "The caller does not have permission"),
    404: ("notFound", "Requested entity was not found."),
    429: ("rateLimitExceeded", "Too many concurrent requests for user"),
    503: ("backendError", "Service temporarily unavailable."),
}
"""Reason and text of an error that no method of its own gives."""


def plain_error(status: int) -> GoogleError:
    return GoogleError(status, *STATUSES.get(status, ("backendError", "Internal error encountered.")))


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came, alone or as part of a batch."""

    method: str
    path: str
    query: str
    token: str
    content_type: str
    body: bytes
    message_token: str = ""  # of X-Goog-Gmail-Access-Token: an add-on's, for the one message that is open


def bearer(authorization: str) -> str:
    """Return the token of an Authorization header, "" if it holds none."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def parts_of(content_type: str, body: bytes, token: str) -> list[tuple[str, Asked]]:
    """Return the requests of a batch by their Content-ID. Raises: GoogleError."""
    whole = message_from_bytes(b"Content-Type: " + content_type.encode("latin-1") + b"\r\n\r\n" + body)
    payload: Any = whole.get_payload()
    if not whole.is_multipart() or whole.get_content_type() != "multipart/mixed":
        raise invalid("Failed to parse batch request, error: no multipart body.", reason="badRequest")
    parts: list[Message] = list(payload)
    if len(parts) > MOST_PARTS:
        raise invalid(f"The batch request contains too many calls, at most {MOST_PARTS}.", reason="badRequest")
    return [(str(part.get("Content-ID", "")), _inner(part, token)) for part in parts]


def answered(asked: list[tuple[str, Asked]], answer: Callable[[Asked], tuple[int, Json | None]]) -> bytes:
    """Answer each part for itself, the last one first, as no order is promised."""
    written = [_part(identifier, *answer(one)) for identifier, one in reversed(asked)]
    return b"".join(written) + f"--{_BOUNDARY}--\r\n".encode()


def _inner(part: Message, token: str) -> Asked:
    """Read the request that a part holds; its own Authorization wins over the batch's. Raises: GoogleError."""
    payload = part.get_payload(decode=True)
    if part.get_content_type() != "application/http" or not isinstance(payload, bytes):
        raise invalid("Failed to parse batch request, error: a part is not application/http.", reason="badRequest")
    line, _, rest = payload.lstrip().partition(b"\n")
    words = line.decode("latin-1").split()
    if len(words) not in (2, 3):
        raise invalid("Failed to parse batch request, error: no request line.", reason="badRequest")
    inner = message_from_bytes(rest)
    path, _, query = words[1].partition("?")
    content = inner.get_payload(decode=True)
    return Asked(
        method=words[0].upper(),
        path=path,
        query=query,
        token=bearer(str(inner.get("Authorization", ""))) or token,
        content_type=str(inner.get("Content-Type", "")),
        body=content.strip() if isinstance(content, bytes) else b"",
        message_token=str(inner.get(MESSAGE_TOKEN, "")),
    )


def _part(identifier: str, status: int, body: Json | None) -> bytes:
    text = "" if body is None else json.dumps(body)
    named = f"Content-ID: <response-{identifier.strip('<>')}>\r\n" if identifier else ""
    return (
        f"--{_BOUNDARY}\r\nContent-Type: application/http\r\n{named}\r\n"
        f"HTTP/1.1 {status} {'OK' if status < 300 else 'Error'}\r\nContent-Type: {JSON}\r\nVary: Origin\r\n"
        f"Content-Length: {len(text.encode())}\r\n\r\n{text}\r\n"
    ).encode()
