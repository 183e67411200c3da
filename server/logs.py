"""Structured logs: facts about change, with ids, never content.

One line per event, JSON or text. A redacting processor is the second wall behind the rule that nobody logs addresses,
subjects, bodies or tokens: what looks like one is replaced, in every value. Of an exception its class and its place are
logged, never its text, which may hold what was worked on. Control characters are escaped, so that no input can forge a line.
"""

from __future__ import annotations

import io
import logging
import re
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal, TextIO, cast

import structlog

_SECRET_KEYS = re.compile(r"(token|secret|password|authorization|cookie|assertion|credential|key$)", re.IGNORECASE)
_PATTERNS = (
    (re.compile(r"[\w.+%-]{1,64}(?:@|%40)[\w-]{1,63}(?:\.[\w-]{1,63})*", re.UNICODE), "[address]"),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?"), "[token]"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), r"\1 [secret]"),
)


_MAX_TRACE_LINES = 400


class _Stderr(io.TextIOBase):
    """Standard error as it is at the moment of writing."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


_STDERR = cast(TextIO, _Stderr())


def configure(fmt: Literal["json", "text"] | str = "json") -> None:
    """Set up logging for the process; call it once, from an entry point."""
    renderer: Any = structlog.processors.JSONRenderer() if fmt == "json" else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(_trace),
            redact,
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(_STDERR),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[logging.StreamHandler(_STDERR)], force=True)


def get(name: str) -> Any:
    """Return the logger of a module."""
    return structlog.get_logger(source=name)


def bind(**ids: str) -> None:
    """Add ids to every line of this request or job."""
    structlog.contextvars.bind_contextvars(**ids)


def clear() -> None:
    """Forget the bound ids; call it when a request or job begins."""
    structlog.contextvars.clear_contextvars()


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace what must not be in a log by its kind."""
    return {name: value if name == "exception" else _redacted(name, value) for name, value in event.items()}


def _redacted(name: str, value: Any) -> Any:
    if _SECRET_KEYS.search(name):
        return "[secret]"
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, Mapping):
        return {_clean(str(key)): _redacted(str(key), one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted("", one) for one in value]
    return value if value is None or isinstance(value, bool | int | float) else _clean(str(value))


def _clean(text: str) -> str:
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _trace(exc_info: Any) -> str:
    """Return classes and places of an exception and of what caused it."""
    lines: list[str] = []
    error: BaseException | None = exc_info[1]
    while error is not None and len(lines) < _MAX_TRACE_LINES:
        lines.append(f"{type(error).__module__}.{type(error).__qualname__}")
        lines += [f"  {f.filename}:{f.lineno} in {f.name}" for f in traceback.extract_tb(error.__traceback__)]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(lines)
