"""Structured logs: facts about change, with ids, never content.

One line per event, JSON or text. A redacting processor is the second wall behind the rule that nobody logs addresses,
subjects, bodies or tokens: what looks like one is replaced, in every value and in exception texts. Control characters are
escaped, so that no input can forge a line.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Literal

import structlog

_SECRET_KEYS = re.compile(r"(token|secret|password|authorization|cookie|assertion|credential|key$)", re.IGNORECASE)
_PATTERNS = (
    (re.compile(r"[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})*", re.UNICODE), "[address]"),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?"), "[token]"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), r"\1 [secret]"),
)


def configure(fmt: Literal["json", "text"] | str = "json") -> None:
    """Set up logging for the process; call it once, from an entry point."""
    renderer: Any = structlog.processors.JSONRenderer() if fmt == "json" else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redact,
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, force=True)


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
    for name, value in event.items():
        if _SECRET_KEYS.search(name):
            event[name] = "[secret]"
        elif isinstance(value, str):
            event[name] = _clean(value)
    return event


def _clean(text: str) -> str:
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)
