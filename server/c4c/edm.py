"""How OData v2 writes values into filters and bodies, and how C4C's JSON is read back: literals, times, envelopes. Pure.

Facts and their source keys: c4c-odata.md section 1. What a value means is `mapping`'s business, sending it is `odata`'s.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from server.errors import InvalidInput

Row = dict[str, Any]
"""One entity as JSON gave it; expanded navigations are lists or objects, read them with `children` and `child`."""


@dataclass(frozen=True, slots=True)
class Binary:
    """A value of Edm.Binary: base64 in JSON, made piece by piece while it is sent, since files are large."""

    content: bytes = field(repr=False)


UNASKABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_JSON_DATE = re.compile(r"/Date\((-?\d+)(?:[+-]\d+)?\)/")


# --- literals -------------------------------------------------------------------------------------------------------------


def can_ask_for(value: str) -> bool:
    """Say whether `eq` can mean exactly this text.

    `*` is a wildcard inside eq and nothing escapes it [S1]: asking for it could list half a tenant. Control characters cannot
    be in C4C's texts.
    """
    return "*" not in value and not UNASKABLE.search(value)


def text(value: str) -> str:
    """Return a string literal. Raises: InvalidInput if `can_ask_for` says no."""
    if not can_ask_for(value):
        raise InvalidInput("filter", "this text cannot be asked for")
    return "'" + value.replace("'", "''") + "'"


def moment(value: datetime) -> str:
    """Return a datetimeoffset literal in UTC; the fraction is written only if there is one."""
    if value.tzinfo is None:
        raise ValueError("a time without a zone")
    value = value.astimezone(UTC)
    fraction = f".{value.microsecond:06d}0" if value.microsecond else ""
    return f"datetimeoffset'{value:%Y-%m-%dT%H:%M:%S}{fraction}Z'"


def equals(name: str, value: str) -> str:
    return f"{name} eq {text(value)}"


def like(name: str, pattern: str) -> str:
    """Return a comparison in which `*` stands for any text, also where it was meant as itself: look at what comes back.

    Raises: InvalidInput for control characters.
    """
    return f"{name} eq " + "*".join(text(part)[1:-1] for part in pattern.split("*")).join("''")


def guid(digits: str) -> str:
    """Return 32 hex digits as Edm.Guid is written, upper case with dashes [S1]. Raises: ValueError."""
    return str(uuid.UUID(digits)).upper()


def any_of(name: str, values: Iterable[str]) -> str:
    """Return `name eq a or name eq b ...`: `or` works over one property only [S1], and may silently find nothing [S5]."""
    return " or ".join(equals(name, value) for value in values)


def json_time(value: datetime) -> str:
    """Return a time for a JSON body, in UTC to the second."""
    if value.tzinfo is None:
        raise ValueError("a time without a zone")
    return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def as_time(value: object) -> datetime | None:
    """Read Edm.DateTime or Edm.DateTimeOffset: `/Date(1422997623532)/`, milliseconds of UTC [S1], or ISO text; else None."""
    if not isinstance(value, str):
        return None
    found = _JSON_DATE.fullmatch(value)
    try:
        if found:
            return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=int(found[1]))
        read = datetime.fromisoformat(value)
    except (ValueError, OverflowError):
        return None
    return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)


def as_text(value: object) -> str:
    """Return a text without padding; null, numbers and objects become ''."""
    return value.strip() if isinstance(value, str) else ""


# --- envelopes ------------------------------------------------------------------------------------------------------------


def children(row: Mapping[str, Any], name: str) -> list[Row]:
    """Return an expanded to-many navigation, in either of C4C's shapes [S4, S6]; [] if it was not expanded."""
    value = row.get(name)
    if isinstance(value, Mapping):
        value = value.get("results", [])
    if isinstance(value, list):
        return [one for one in value if isinstance(one, dict)]
    return [value] if isinstance(value, dict) else []


def child(row: Mapping[str, Any], name: str) -> Row | None:
    """Return an expanded to-one navigation, or None if it is empty or was not expanded."""
    value = row.get(name)
    if isinstance(value, dict) and isinstance(value.get("results"), dict):
        value = value["results"]
    return value if isinstance(value, dict) and "__deferred" not in value else None


def etag(row: Mapping[str, Any]) -> str | None:
    """Return the etag to send as If-Match, as C4C wrote it; it cannot be rebuilt from the ETag property [S1]."""
    metadata = row.get("__metadata")
    value = metadata.get("etag") if isinstance(metadata, Mapping) else None
    return value if isinstance(value, str) else None
