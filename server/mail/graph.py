"""A mailbox at Microsoft 365 or Outlook.com, over Microsoft Graph v1.0.

Every request asks for immutable ids, so that a ref survives a move (outlook.md section 3). Graph replaces `categories` as a
whole: `set_mark` reads, merges our own names only, and writes with the etag; the merge makes a repeated write harmless, so an
answer that was lost is settled by reading again. Throttling is waited out for a few seconds, then it is the caller's to wait.
At most four requests may run at once for a mailbox (outlook.md section 3, "Throttling"); as that holds for the whole process, the
caller hands in what counts them. Tokens come from `get_token` for each request and are never kept.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import Any, NoReturn, TypedDict, cast
from urllib.parse import quote

from server.domain.marks import MARKS, MarkId, merged
from server.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    InvalidInput,
    NeedsReauth,
    NotFound,
    Rejected,
    Transient,
    Unknown,
)
from server.mail import Capability, IdForm, Marked, MessageHead
from server.transport import Gateway, Reply, raise_for_busy

PEER = "Microsoft 365"
ATTEMPTS = 4  # of one request while the service is busy
PATIENCE_S = 5.0  # how long one request waits in all because the service asked for a pause
TRIES = 3  # of read, merge and write, when others change the same thing
MAX_PAGES = 20
MAX_JSON = 4 * 1024 * 1024  # bytes of an answer that is no message

_ITEM_CLASS = "String 0x001A"  # PidTagMessageClass; Graph's message has no such property (outlook.md 1.6)
_SIZE = "Integer 0x0E08"  # PidTagMessageSize (MS-OXPROPS); Graph's message has no such property either
_HEAD_FIELDS = "id,internetMessageId,subject,receivedDateTime,categories,hasAttachments,conversationId"
_EXPAND_HEAD = f"singleValueExtendedProperties($filter=id eq '{_ITEM_CLASS}' or id eq '{_SIZE}')"
_ID = re.compile(r"[A-Za-z0-9_=+/-]{1,1024}\Z")
_MIME_TYPES = frozenset({"text/plain", "message/rfc822", "application/octet-stream"})
_FIELD = re.compile(rb"[A-Za-z][A-Za-z0-9._-]*[ \t]*:")  # what a message begins with


class _Property(TypedDict):
    id: str
    value: str


_Message = TypedDict(
    "_Message",
    {
        "@odata.etag": str,
        "id": str,
        "internetMessageId": str | None,
        "subject": str | None,
        "receivedDateTime": str | None,
        "categories": list[str],
        "hasAttachments": bool | None,
        "conversationId": str | None,
        "singleValueExtendedProperties": list[_Property],
    },
    total=False,
)


class _Category(TypedDict):
    id: str
    displayName: str
    color: str


class GraphMailbox:
    """Implements `server.mail.Mailbox`. Thread-safe if `get_token` is.

    `url` is Graph's address including the version; `base` the mailbox below it: "/me", or "/users/{id}" for one that the
    caller has delegated rights to. `in_flight` is entered for each request, e.g. a semaphore of 4 per mailbox.
    """

    capabilities: frozenset[Capability] = frozenset({"categories", "colors"})

    def __init__(
        self,
        gateway: Gateway,
        *,
        url: str,
        get_token: Callable[[], str],
        base: str = "/me",
        in_flight: AbstractContextManager[object] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._gateway = gateway
        self._root = url.rstrip("/")
        self._mailbox = self._root + base
        self._get_token = get_token
        self._in_flight = in_flight if in_flight is not None else nullcontext()
        self._sleep = sleep

    def head(self, item_id: str, id_form: IdForm = "rest") -> MessageHead:
        return _head(self._message(_rest_id(item_id, id_form), _HEAD_FIELDS, _EXPAND_HEAD))

    def mime(self, ref: str, *, max_bytes: int) -> bytes:
        try:
            reply = self._send("GET", self._path_of(ref) + "/$value", max_bytes=max_bytes, may_be_packed=False)
        except Rejected as error:
            if isinstance(error.__cause__, _Refusal):
                raise
            raise Rejected(f"The message is larger than {max_bytes // (1024 * 1024)} MB.") from error
        media_type = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
        # The service says text/plain (outlook.md section 3); a maintenance page or an error in JSON must not become a message.
        if media_type not in _MIME_TYPES or not _FIELD.match(reply.content):
            raise Transient(f"{PEER} did not answer in its own language.")
        return reply.content

    def find(self, message_id: str) -> list[MessageHead]:
        bracketed = "<" + message_id.strip().strip("<>") + ">"
        condition = "internetMessageId eq '{}'".format(bracketed.replace("'", "''"))
        found = self._list("/messages", {"$filter": condition, "$select": _HEAD_FIELDS, "$expand": _EXPAND_HEAD, "$top": "50"})
        heads = [_head(cast(_Message, item)) for item in found]
        return sorted(heads, key=lambda head: head.received_at or datetime.min.replace(tzinfo=UTC), reverse=True)

    def ensure_marks(self, names: Mapping[MarkId, str]) -> Mapping[MarkId, str]:
        for _ in range(TRIES):
            existing = {c["displayName"].casefold(): c for c in map(_as_category, self._list("/outlook/masterCategories"))}
            spelled: dict[MarkId, str] = {}
            for mark, name in names.items():
                try:
                    spelled[mark] = self._ensure_mark(mark, name, existing)
                except (AlreadyExists, NotFound, Unknown) as error:  # another client was faster, or the answer was lost
                    last: Exception = error
            if len(spelled) == len(names):
                return spelled
        raise Transient(f"The categories could not be created in {PEER}.") from last

    def _ensure_mark(self, mark: MarkId, name: str, existing: Mapping[str, _Category]) -> str:
        """Create or recolour one category; return its name as the mailbox spells it."""
        known = (name, MARKS[mark].name, *MARKS[mark].aliases)
        found = next((existing[n.casefold()] for n in known if n.casefold() in existing), None)
        color = MARKS[mark].color
        path = f"{self._mailbox}/outlook/masterCategories"
        if found is None:
            _object(self._send("POST", path, body={"displayName": name, "color": color}), changes=True)
            return name
        if found["color"] != color:
            _object(self._send("PATCH", f"{path}/{quote(found['id'], safe='')}", body={"color": color}), changes=True)
        return found["displayName"]

    def set_mark(self, ref: str, mark: MarkId | None, *, reason: str | None = None, names: Mapping[MarkId, str]) -> Marked:
        error: Exception | None = None
        for _ in range(TRIES):
            message = self._message(ref, "id,categories")
            current = message.get("categories", [])
            wanted = merged(current, mark, reason, names)
            if _same_names(current, wanted):
                return Marked(message.get("@odata.etag", ""), tuple(current))
            try:
                written = self._write_categories(ref, wanted, message.get("@odata.etag", ""))
            except (Conflict, Unknown) as caught:
                error = caught
                continue
            if _same_names(written.get("categories", []), wanted):
                return Marked(written.get("@odata.etag", ""), tuple(written.get("categories", [])))
        if isinstance(error, Unknown):
            raise Transient(f"{PEER} did not confirm the category.") from error
        raise Conflict("Others kept changing the message while its category was set.") from error

    def _write_categories(self, ref: str, names: list[str], etag: str) -> _Message:
        # If-Match on a message is not documented, but the service answers 412 on a clash (outlook.md section 3).
        reply = self._send("PATCH", self._path_of(ref), body={"categories": names}, if_match=etag)
        return cast(_Message, _object(reply, changes=True))

    def _message(self, ref: str, fields: str, expand: str = "") -> _Message:
        query = {"$select": fields} | ({"$expand": expand} if expand else {})
        return cast(_Message, _object(self._send("GET", self._path_of(ref), query), changes=False))

    def _path_of(self, ref: str) -> str:
        """Raises: NotFound for what cannot be an id, so that it never becomes another path."""
        if not _ID.match(ref):
            raise NotFound("The mailbox holds no such message.")
        return f"{self._mailbox}/messages/{quote(ref, safe='')}"

    def _list(self, path: str, query: Mapping[str, str] | None = None) -> list[Mapping[str, Any]]:
        """Read a collection to its end."""
        items: list[Mapping[str, Any]] = []
        reply = self._send("GET", self._mailbox + path, query)
        for _ in range(MAX_PAGES):
            page = _object(reply, changes=False)
            items += page.get("value") or []
            following = page.get("@odata.nextLink")
            if following is None:
                return items
            if not str(following).startswith(self._root + "/"):  # the token goes nowhere else
                raise Rejected(f"{PEER} sent a link to somewhere else.")
            reply = self._send("GET", str(following))
        return items

    def _send(
        self,
        method: str,
        url: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Mapping[str, Any] | None = None,
        if_match: str = "",
        max_bytes: int = MAX_JSON,
        may_be_packed: bool = True,
    ) -> Reply:
        """Send a request, again while the service is busy for a short time; return a 2xx.

        Raises: what `_refuse` and `raise_for_busy` raise; Rejected if the answer is larger than `max_bytes`.
        """
        if query:
            url += "?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
        changes = method != "GET"
        waited = 0.0
        for attempt in range(1, ATTEMPTS + 1):
            with self._in_flight:
                reply = self._gateway.send(
                    method,
                    url,
                    headers=self._headers(if_match) | ({} if may_be_packed else {"Accept-Encoding": "identity"}),
                    json=body,
                    max_bytes=max_bytes,
                    is_write=changes,
                    may_repeat=not changes,
                )
            if reply.is_success:
                return reply
            pause = reply.retry_after_s if reply.retry_after_s is not None else 0.25 * 2**attempt
            if not _is_busy(reply, changes) or attempt == ATTEMPTS or waited + pause > PATIENCE_S:
                break
            self._sleep(pause)
            waited += pause
        raise_for_busy(reply, PEER, changes=changes)
        _refuse(reply)

    def _headers(self, if_match: str) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {self._get_token()}", "Prefer": 'IdType="ImmutableId"'}
        return headers | ({"If-Match": if_match} if if_match else {})


class _Refusal(Exception):
    """Status and code of Graph's error, to be chained: `str()` holds no content."""


def _is_busy(reply: Reply, changes: bool) -> bool:
    return reply.status in (429, 503) or (not changes and reply.status in (500, 502, 504))


def _refuse(reply: Reply) -> NoReturn:
    """Translate a status that is no success and not "busy"; the error codes are Graph's own words (its errors page)."""
    code = _error_code(reply)
    cause = _Refusal(f"{reply.status} {code}")
    if reply.status == 401:
        raise NeedsReauth(f"{PEER} no longer accepts the sign-in.") from cause
    if reply.status == 403:
        raise Forbidden(f"{PEER} does not allow this account to do that in the mailbox.", code="mailbox_forbidden") from cause
    if code in ("MailboxNotEnabledForRESTAPI", "MailboxNotSupportedForRESTAPI"):
        raise Rejected(f"The mailbox is not at {PEER}.") from cause
    if reply.status in (404, 410) or code == "ErrorInvalidIdMalformed":
        raise NotFound("The mailbox holds no such message.") from cause
    if reply.status == 412 or code == "ErrorIrresolvableConflict":
        raise Conflict("The message was changed by somebody else.") from cause
    if reply.status == 409:
        raise AlreadyExists("It is there already.") from cause
    raise Rejected(f"{PEER} refused the request ({reply.status} {code}).") from cause


def _error_code(reply: Reply) -> str:
    try:
        code = json.loads(reply.content)["error"]["code"]
    except (ValueError, KeyError, TypeError):
        return ""
    return re.sub(r"[^A-Za-z0-9_.-]", "", str(code))[:60]


def _object(reply: Reply, *, changes: bool) -> dict[str, Any]:
    """Raises: Unknown after a write, else Transient, if the answer is no JSON object, e.g. a maintenance page."""
    try:
        value = json.loads(reply.content)
    except ValueError as error:
        _not_graph(changes, error)
    if not isinstance(value, dict):
        _not_graph(changes, None)
    return value


def _not_graph(changes: bool, error: Exception | None) -> NoReturn:
    if changes:
        raise Unknown(f"{PEER} did not confirm; whether it acted is not known yet.") from error
    raise Transient(f"{PEER} did not answer in its own language.") from error


def _rest_id(item_id: str, id_form: IdForm) -> str:
    """Return the id as Graph takes it: an EWS id with "/" as "-" and "+" as "_", as Office.js's convertToRestId does."""
    if id_form == "gmail":
        raise InvalidInput("id_form", "This mailbox is not at Google.")
    return item_id.replace("/", "-").replace("+", "_") if id_form == "ews" else item_id


def _head(message: _Message) -> MessageHead:
    received = message.get("receivedDateTime")
    extended = {p["id"].split()[0].lower(): p["value"] for p in message.get("singleValueExtendedProperties") or []}
    size = extended.get("integer", "")
    return MessageHead(
        ref=message["id"],
        etag=message.get("@odata.etag", ""),
        message_id=message.get("internetMessageId"),
        subject=message.get("subject") or "",
        item_class=extended.get("string", ""),  # the ids come back in another spelling, but we asked for one of each type
        size_bytes=int(size) if size.isdecimal() else None,
        received_at=datetime.fromisoformat(received).astimezone(UTC) if received else None,
        categories=tuple(message.get("categories", [])),
        has_attachments=bool(message.get("hasAttachments")),
        conversation=message.get("conversationId") or "",
    )


def _as_category(item: Mapping[str, Any]) -> _Category:
    return {"id": str(item["id"]), "displayName": item.get("displayName") or "", "color": item.get("color") or "none"}


def _same_names(a: list[str], b: list[str]) -> bool:
    return {name.casefold() for name in a} == {name.casefold() for name in b}
