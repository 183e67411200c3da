"""What the simulator understands of Gmail's search: `rfc822msgid:`, `in:inbox`, `in:sent`, `has:userlabels`, {a b} for a or b.

Anything else answers 501, loudly. Source: Gmail's help on search operators; that the API searches message by message, not
whole threads, says Gmail's guide to filtering.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from simulator.google.discovery import GoogleError

_GROUP = re.compile(r"\{([^{}]*)\}|(\S+)")
_PLACES = {"in:inbox": "INBOX", "in:sent": "SENT"}


def matches(query: str, labels: Collection[str], message_id: Callable[[], str]) -> bool:
    """Say whether a message with these label ids and this Message-ID is found. Raises: GoogleError."""
    groups = [(any_of or one).split() for any_of, one in _GROUP.findall(query)]
    return all(any(_is(term, labels, message_id) for term in group) for group in groups)


def _is(term: str, labels: Collection[str], message_id: Callable[[], str]) -> bool:
    word, _, value = term.partition(":")
    if term in _PLACES:
        return _PLACES[term] in labels
    if term == "has:userlabels":
        return any(label.startswith("Label_") for label in labels)
    if word == "rfc822msgid" and value:
        own = message_id()
        return bool(own) and own.strip().strip("<>") == value.strip("<>")
    raise GoogleError(501, "notImplemented", f"The simulator does not search by '{term}'.")
