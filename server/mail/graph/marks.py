"""Marking at Microsoft 365: Graph replaces `categories` as a whole, so we read, merge our own names, and write with the etag.

The merge makes a repeated write harmless: an answer that was lost is settled by reading again. If-Match on a message or
contact is not documented, though the service was seen to answer 412 (outlook.md section 3). Where it should ignore it, a
window remains between our reading and our writing in which another writer's categories are overwritten: one round trip for one
item, since nothing else happens in it, and for many at once one round trip of a batch of 20. Whatever is written before or
after it survives, with If-Match or without.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from server.errors import Conflict, NotFound, SsiError, Transient, Unknown
from server.mail import Marked
from server.mail.graph.calls import BATCH_PARTS, PEER, TRIES, Call, Calls, get, raise_if_none_went, segment, write

Wish = Callable[[list[str]], list[str]]
"""What categories an item is to have, by those it has."""


def mark(calls: Calls, path: str, read: Callable[[], Mapping[str, Any]], wish: Wish) -> Marked:
    """Give an item the categories that are wished for. Raises: NotFound, Conflict."""
    error: Exception | None = None
    for _ in range(TRIES):
        found = read()
        call = _write(path, found, wish)
        if call is None:
            return _marked(found)
        try:
            return _marked(_agreed(calls.written(call), call))
        except (Conflict, Unknown) as caught:
            error = caught
    raise _unsettled(error)


def mark_many(calls: Calls, collection: str, refs: Iterable[str], wish: Wish) -> dict[str, Marked | SsiError]:
    """Do the same for many items of a collection, 20 at a time, so that little time passes between reading and writing each.

    Raises: errors that concern the whole mailbox; Transient also if there is no item that it does not concern.
    """
    outcome: dict[str, Marked | SsiError] = {}
    pending = list(dict.fromkeys(refs))
    for _ in range(TRIES):
        for start in range(0, len(pending), BATCH_PARTS):
            outcome |= _once(calls, collection, pending[start : start + BATCH_PARTS], wish)
        pending = [ref for ref in pending if isinstance(outcome[ref], (Conflict, Unknown))]
    outcome |= {ref: _unsettled(error) for ref in pending if isinstance(error := outcome[ref], SsiError)}
    raise_if_none_went(list(outcome.values()))
    return outcome


def _once(calls: Calls, collection: str, refs: list[str], wish: Wish) -> dict[str, Marked | SsiError]:
    """Read up to 20 items and write those that need it."""
    outcome: dict[str, Marked | SsiError] = {}
    reads: dict[str, Call] = {}
    for ref in refs:
        try:
            reads[ref] = get(f"{collection}/{segment(ref)}", {"$select": "id,categories"})
        except NotFound as error:
            outcome[ref] = error
    writes: dict[str, Call] = {}
    for ref, found in calls.each(reads).items():
        if isinstance(found, SsiError):
            outcome[ref] = found
        elif call := _write(f"{collection}/{segment(ref)}", found, wish):
            writes[ref] = call
        else:
            outcome[ref] = _marked(found)
    for ref, written in calls.each(writes).items():
        try:
            outcome[ref] = written if isinstance(written, SsiError) else _marked(_agreed(written, writes[ref]))
        except Conflict as error:
            outcome[ref] = error
    return outcome


def _write(path: str, found: Mapping[str, Any], wish: Wish) -> Call | None:
    """Return the call that gives an item the categories that are wished for; None if it has them."""
    current = list(found.get("categories") or [])
    wanted = wish(current)
    if _same_names(current, wanted):
        return None
    return write("PATCH", path, {"categories": wanted}, if_match=str(found.get("@odata.etag", "")))


def _agreed(written: Mapping[str, Any], call: Call) -> Mapping[str, Any]:
    """Raises: Conflict if the item has other categories than those that were just written."""
    if not _same_names(written.get("categories") or [], (call.body or {})["categories"]):
        raise Conflict("The item was changed by somebody else.")
    return written


def _marked(found: Mapping[str, Any]) -> Marked:
    return Marked(str(found.get("@odata.etag", "")), tuple(found.get("categories") or ()))


def _unsettled(error: Exception | None) -> SsiError:
    settled: SsiError = Conflict("Others kept changing the item while its category was set.")
    if isinstance(error, Unknown):
        settled = Transient(f"{PEER} did not confirm the category.")
    settled.__cause__ = error
    return settled


def _same_names(a: Collection[str], b: Collection[str]) -> bool:
    return {name.casefold() for name in a} == {name.casefold() for name in b}
