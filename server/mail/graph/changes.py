"""What changed at Microsoft 365: rounds of Graph's delta queries over several folders at once.

Each place and folder has a link of its own, in the middle of a round (nextLink) or at its end (deltaLink); a page asks for all
that are not at their end, as one $batch. The service keeps what a link stands for; a link holds the options of the first call.
The cursor is those links.

The documentation of contacts' delta query names $select only (page contact-delta); with $expand, clients of other delta
queries were answered 500 years ago (microsoft-graph-docs issues 1993, 2270). We ask to have extended properties expanded
nevertheless, because to read the links of thousands of contacts apart takes a request for each 20. Where the service refuses
or ignores that, we do.

The owner's own folder of contacts is the one that ours are in (page user-post-contactfolders); of what changed there only ids
and categories are asked for, and the contact itself only if it carries one of the marks.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal, cast

from server.domain.marks import FolderId
from server.errors import CursorExpired, NotFound, Rejected, Transient
from server.mail import Changes, ContactItem, Gone, Known, MessageChange, Place
from server.mail.graph.calls import PEER, Answer, Call, Calls, get, moment, object_of, segment
from server.mail.graph.contacts import EXPAND, FIELDS, is_expanded, item_of

PAGE = 1000  # items of a folder; as many as $top allows
SMALL_PAGE = 50  # where a page would be larger than MAX_BYTES
MAX_BYTES = 16 * 1024 * 1024  # of a page over all folders

_OWN_FIELDS = "id,categories"
_MESSAGE_FIELDS = "id,categories,conversationId,receivedDateTime,lastModifiedDateTime"
_SKEW = timedelta(minutes=5)  # between our clock and the service's
_VERSION = 3  # grows when the first calls ask for more: a link tells what its first call asked for


@dataclass(frozen=True, slots=True)
class Scope:
    """One folder in a round."""

    name: Place | FolderId | Literal["own"]  # the last is the owner's folder of contacts
    folder: str  # ref, or well-known name; "" of the owner's own while it is not known
    path: str = ""  # what to ask for next; "" to begin
    is_first: bool = True  # this round tells the folder from the beginning
    is_done: bool = False  # this round is at its end here
    is_fresh: bool = True  # `path` begins a round of the service's: it is no nextLink
    began_at: str = ""  # when the folder was begun, ISO 8601 and UTC

    @property
    def is_mail(self) -> bool:
        return self.name in ("inbox", "sent", "emails")

    @property
    def is_own(self) -> bool:
        return self.name == "own"

    @property
    def is_ours(self) -> bool:
        """Say whether this is one of our folders of contacts, which are told whole and of which is told what is gone."""
        return not (self.is_mail or self.is_own)

    def call(self, base: str, page_size: int, *, expand: bool = True) -> Call:
        """Return the call for the next page; with `expand` false a first one does without extended properties."""
        if self.path:
            return get(self.path, page_size=page_size)
        if self.is_mail:
            path = f"{base}/mailFolders/{segment(self.folder)}/messages/delta"
            return get(path, {"$select": _MESSAGE_FIELDS}, page_size=page_size)
        path = f"{base}/contactFolders/{segment(self.folder)}/contacts/delta"
        if self.is_own:
            return get(path, {"$select": _OWN_FIELDS}, page_size=page_size)
        return get(path, {"$select": FIELDS} | ({"$expand": EXPAND} if expand else {}), page_size=page_size)

    def after(self, page: Mapping[str, Any], path: str) -> Scope:
        """Return the scope behind a page.

        A contact that changes while a first round's pages are read may be left to the next one, but whoever was not told of it
        takes it for gone: such a round ends when the service had one page to tell.
        """
        is_at_end = "@odata.deltaLink" in page
        is_done = is_at_end and (self.is_fresh or not self.is_ours or not self.is_first)
        return replace(self, path=path, is_done=is_done, is_fresh=is_at_end)


def page(
    calls: Calls,
    base: str,
    cursor: str | None,
    folders: Mapping[FolderId, str],
    marks: Collection[str],
    known: Known,
    now: datetime,
) -> Changes:
    """Do as `Mailbox.changes`; `base` is the mailbox's path, `marks` are the names."""
    scopes = _scopes(cursor, folders, now, with_own=bool(marks) and not folders.keys() <= {"emails"})
    asked = [scope for scope in scopes if scope.folder and not scope.is_done]
    begins = all(scope.is_fresh and not scope.is_done for scope in scopes) or not all(scope.folder for scope in scopes)
    also = _whereabouts(base, folders) if begins and folders else []
    found, places = _pages(calls, base, asked, also)
    _check_places(places)
    pages = dict(zip(asked, found, strict=True))
    following = [scope.after(pages[scope], _link(calls, pages[scope])) if scope in pages else scope for scope in scopes]
    messages = [m for scope, items in pages.items() if scope.is_mail for m in _messages(scope, items["value"])]
    ours = {scope: items["value"] for scope, items in pages.items() if scope.is_ours}
    unchanged = {ref for scope, items in ours.items() for ref in _unchanged(scope, items, known)}
    contacts = [
        contact
        for scope, items in ours.items()
        for contact in _contacts(calls, base, scope, [item for item in items if item["id"] not in unchanged])
    ]
    contacts += [c for s, items in pages.items() if s.is_own for c in _marked(calls, base, s, items["value"], marks)]
    return Changes(
        messages=tuple(messages),
        contacts=tuple(contacts),
        gone=tuple(g for scope, items in ours.items() for g in _gone(scope, items)),
        cursor=_cursor(_with_own_folder(following, folders, places)),
        is_complete=all(scope.is_done for scope in following),
        whole=frozenset(cast(FolderId, s.name) for s in scopes if s.is_first and s.is_ours),
        unchanged=frozenset(unchanged),
    )


def _whereabouts(base: str, folders: Mapping[FolderId, str]) -> list[Call]:
    """Return the calls that tell which folder is Deleted Items and in which one each of ours is."""
    kinds = {name: "mailFolders" if name == "emails" else "contactFolders" for name in folders}
    asked = [get(f"{base}/{kinds[name]}/{segment(ref)}", {"$select": "id,parentFolderId"}) for name, ref in folders.items()]
    return [get(f"{base}/mailFolders/deleteditems", {"$select": "id"}), *asked]


def _with_own_folder(scopes: list[Scope], folders: Mapping[FolderId, str], places: list[dict[str, Any]]) -> list[Scope]:
    """Return the scopes with the owner's folder of contacts, if it was not known: the one that ours are in."""
    if all(scope.folder for scope in scopes):
        return scopes
    own = next(place.get("parentFolderId") for name, place in zip(folders, places[1:], strict=True) if name != "emails")
    if not own:
        raise Transient(f"{PEER} did not answer in its own language.")
    return [replace(scope, folder=scope.folder or str(own)) for scope in scopes]


def _check_places(places: list[dict[str, Any]]) -> None:
    """Look at the answers to `_whereabouts`: a folder in Deleted Items still answers as if nothing had happened.

    Raises: NotFound.
    """
    if any(folder.get("parentFolderId") == places[0]["id"] for folder in places[1:]):
        raise NotFound("One of the folders was deleted.")


def _pages(calls: Calls, base: str, scopes: list[Scope], also: list[Call]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Ask for the next page of each, and for something `also`. Raises: CursorExpired, NotFound."""
    try:
        asked, answers = _exchanged(calls, base, scopes, PAGE, also)
    except Rejected:  # the answer is too large
        asked, answers = _exchanged(calls, base, scopes, SMALL_PAGE, also)
    others = answers[len(scopes) :]
    asked, answers = asked[: len(scopes)], answers[: len(scopes)]
    for scope, answer in zip(scopes, answers, strict=True):
        if _is_forgotten(scope, answer):
            raise CursorExpired(f"{PEER} no longer knows what changed since then.")
    pages = [{"value": [], **object_of(answer, call)} for answer, call in zip(answers, asked, strict=True)]
    return pages, [object_of(answer, call) for answer, call in zip(others, also, strict=True)]


def _exchanged(calls: Calls, base: str, scopes: list[Scope], size: int, also: list[Call]) -> tuple[list[Call], list[Answer]]:
    """Ask for a page of each, and for something `also`; without extended properties where the service refuses to expand them."""
    asked = [*(scope.call(base, size) for scope in scopes), *also]
    answers = calls.exchange(asked, max_bytes=MAX_BYTES)
    plain = [n for n, scope in enumerate(scopes) if _refuses_to_expand(scope, answers[n])]
    again = [scopes[n].call(base, size, expand=False) for n in plain]
    for n, answer in zip(plain, calls.exchange(again, max_bytes=MAX_BYTES), strict=True):
        answers[n] = answer
    return asked, answers


def _link(calls: Calls, items: Mapping[str, Any]) -> str:
    link = items.get("@odata.nextLink") or items.get("@odata.deltaLink")
    if not link:
        raise Transient(f"{PEER} did not answer in its own language.")
    return calls.path_of(str(link))


def _refuses_to_expand(scope: Scope, answer: Answer) -> bool:
    return scope.is_ours and not scope.path and answer.status in (400, 500)


def _unchanged(scope: Scope, items: list[Mapping[str, Any]], known: Known) -> set[str]:
    """Return which of the contacts that would have to be read once more are as the caller knows them."""
    told = {str(item["id"]): item.get("@odata.etag") for item in items if "@removed" not in item and not is_expanded(item)}
    etags = known(scope.folder, told.keys()) if told else {}
    return {ref for ref, etag in told.items() if etag is not None and etags.get(ref) == etag}


def _contacts(calls: Calls, base: str, scope: Scope, items: list[Mapping[str, Any]]) -> list[ContactItem]:
    """Read what a page tells of contacts; those that came without extended properties are read once more."""
    told = [item for item in items if "@removed" not in item]
    more = _read_apart(calls, base, [str(item["id"]) for item in told if not is_expanded(item)], "id")
    shown = [item for item in told if is_expanded(item) or item["id"] in more]
    return [item_of(item, folder=scope.folder, more=more.get(item["id"])) for item in shown]


def _marked(calls: Calls, base: str, scope: Scope, items: list[Mapping[str, Any]], marks: Collection[str]) -> list[ContactItem]:
    """Read the contacts of a page that carry one of the marks; who lost it, or was moved, meanwhile is of no interest."""
    wanted = {mark.casefold() for mark in marks}

    def is_marked(item: Mapping[str, Any]) -> bool:
        return bool(wanted & {name.casefold() for name in item.get("categories") or ()})

    found = _read_apart(calls, base, [str(item["id"]) for item in items if is_marked(item)], FIELDS).values()
    return [item_of(item) for item in found if is_marked(item) and item.get("parentFolderId") == scope.folder]


def _read_apart(calls: Calls, base: str, refs: list[str], fields: str) -> dict[str, dict[str, Any]]:
    """Return such fields and the extended properties of contacts, but of those that were deleted since: the next round tells."""
    reads = [get(f"{base}/contacts/{segment(ref)}", {"$select": fields, "$expand": EXPAND}) for ref in refs]
    found: dict[str, dict[str, Any]] = {}
    for ref, read, answer in zip(refs, reads, calls.exchange(reads), strict=True):
        try:
            found[ref] = object_of(answer, read)
        except NotFound:
            continue
    return found


def _scopes(cursor: str | None, folders: Mapping[FolderId, str], now: datetime, *, with_own: bool) -> list[Scope]:
    """Return where each place and folder is. Raises: CursorExpired when the cursor is none of ours."""
    wanted: dict[Place | FolderId, str] = {"inbox": "inbox", "sent": "sentitems"}
    wanted.update(folders.items())
    known = {} if cursor is None else _read(cursor)
    scopes = []
    for name, folder in wanted.items():
        scope = known.get(name)
        scopes.append(scope if scope and scope.folder == folder else Scope(name, folder, began_at=now.isoformat()))
    if with_own:
        scopes.append(known.get("own") or Scope("own", "", began_at=now.isoformat()))
    if all(scope.is_done for scope in scopes):  # what was left of the round is no longer asked for
        return _rewound(scopes)
    return scopes


def _rewound(scopes: list[Scope]) -> list[Scope]:
    """Return the scopes as they are when the next round begins."""
    return [replace(scope, is_first=False, is_done=False) for scope in scopes]


def _cursor(scopes: list[Scope]) -> str:
    left = _rewound(scopes) if all(scope.is_done for scope in scopes) else scopes
    rows = [[s.name, s.folder, s.path, s.is_first, s.is_done, s.is_fresh, s.began_at] for s in left]
    packed = json.dumps([_VERSION, rows], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def _read(cursor: str) -> dict[str, Scope]:
    try:
        version, rows = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if version != _VERSION:
            raise ValueError(f"version {version}")
        return {scope.name: scope for scope in map(_scope, rows)}
    except (ValueError, TypeError) as error:
        raise CursorExpired("The cursor is not one of ours.") from error


def _scope(row: Any) -> Scope:
    """Raises: ValueError, TypeError."""
    name, folder, path, *flags, began_at = row
    is_first, is_done, is_fresh = map(bool, flags)
    if not all(isinstance(text, str) for text in (name, folder, path)) or path[:1] not in ("", "/"):
        raise ValueError("no folder and path")
    if datetime.fromisoformat(began_at).tzinfo is None:
        raise ValueError("no moment")
    return Scope(name, folder, path, is_first, is_done, is_fresh, began_at)


def _is_forgotten(scope: Scope, answer: Answer) -> bool:
    """Say whether the service no longer knows the link: 410, or 400, since nothing else of ours is in the request."""
    return bool(scope.path) and answer.status in (400, 410)


def _messages(scope: Scope, items: list[Mapping[str, Any]]) -> list[MessageChange]:
    """Return what a page tells of messages.

    An entry without categories tells only of a read flag (Exchange's synchronisation has such changes: ReadFlagChange).
    """
    told = [item for item in items if "@removed" not in item and "categories" in item]
    if scope.is_first and scope.name != "emails":
        told = [item for item in told if item["categories"] or _is_news(scope, item)]
    place = cast(Place, scope.name)
    return [
        MessageChange(
            ref=str(item["id"]),
            place=place,
            categories=tuple(item["categories"]),
            received_at=moment(item.get("receivedDateTime")),
            conversation=str(item.get("conversationId") or ""),
        )
        for item in told
    ]


def _is_news(scope: Scope, item: Mapping[str, Any]) -> bool:
    """Say whether a message may have come or lost its categories since the first page, which may have told them.

    No later round tells it: the service tells a change in the round that is under way, if that has pages left.
    """
    changed_at = moment(item.get("lastModifiedDateTime"))
    return bool(scope.path) and (changed_at is None or changed_at >= datetime.fromisoformat(scope.began_at) - _SKEW)


def _gone(scope: Scope, items: list[Mapping[str, Any]]) -> list[Gone]:
    return [Gone(str(item["id"]), scope.folder) for item in items if "@removed" in item]
