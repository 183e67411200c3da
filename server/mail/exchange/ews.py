"""The wire below `ExchangeMailbox`: exchangelib's SOAP upon guarded HTTP, and a client that asks again where that may help.

exchangelib signs in, wraps an operation in its envelope, agrees upon the version and reads the outcome. All else it would do is
switched off or replaced here: its adapters (ours are guarded, `server.mail.hosts`), its process-wide cache of protocols and
passwords, its waiting and retrying (`_Judge` raises at once; the client waits, for seconds), the shrinking of its session pool,
its autodiscover (`server.mail.exchange.autodiscover`) and its models of items: operations go out and come back as XML, since an
update by its models deletes the telephone numbers and addresses that they were not given. Its log lines of failures hold whole
requests; they are only written for exceptions that do not get there, since `Session` turns all into those of requests.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NoReturn

import requests
from exchangelib import UTC as EWS_UTC
from exchangelib.account import Account, Identity
from exchangelib.configuration import Configuration
from exchangelib.credentials import DELEGATE, IMPERSONATION
from exchangelib.errors import ErrorBatchProcessingStopped, ErrorServerBusy, EWSError, SessionPoolMinSizeReached
from exchangelib.protocol import FailFast, Protocol
from exchangelib.services.common import EWSAccountService
from exchangelib.transport import NOAUTH
from exchangelib.version import EXCHANGE_2013_SP1, EXCHANGE_2016, Version
from lxml import etree
from requests.auth import HTTPBasicAuth
from requests_ntlm import HttpNtlmAuth
from requests_ntlm.requests_ntlm import _get_certificate_hash

from server.errors import NotFound, RateLimited, Rejected, SsiError, Transient, Unknown
from server.mail import hosts
from server.mail.exchange.failures import (
    FAILURES,
    PEER,
    Answered,
    Unread,
    is_busy,
    not_known,
    translated,
    unintelligible,
    was_cut,
    was_unread,
)
from server.mail.hosts import Guard
from server.transport import ask_first, retry_after_s

ATTEMPTS = 4  # of one request while the server is busy
PATIENCE_S = 5.0  # how long one request waits in all because the server asked for a pause
CONNECTIONS = 4  # per mailbox; Exchange's own limit for a user is 27 (X:ews-throttling-in-exchange.md)
ANSWER_BYTES = 8 * 1024 * 1024  # of any answer but a message's MIME
REQUEST_CHARS = 4_000_000  # of text in a request that writes; its limit is the server's setting (web.config), which nobody tells
PAGE = 100  # items or folders of one folder in an answer to a search
WRITTEN_AT_ONCE = 100
"""Items in one request. No page names a limit, but a request may take the server no longer than a minute, within which it also
slows down whoever is over budget (X:ews-throttling-in-exchange.md, "Throttling implications for EWS batch requests")."""
ONLINE_BUILD = (15, 20)  # the version that Exchange Online reports; on-premises is 15.0, 15.1 or 15.2

Raw = Any  # an lxml element; lxml's own type forbids what every lookup by name may give

M, T = (f"{{http://schemas.microsoft.com/exchange/services/2006/{name}}}" for name in ("messages", "types"))


def xml(name: str, *content: Raw | str, **attributes: str) -> Raw:
    """Make an element of the schema, e.g. `xml("t:ItemId", Id="AAMk")`; text becomes its content.

    Raises: Rejected for text that XML cannot hold.
    """
    space, _, local = name.partition(":")
    try:
        made = etree.Element({"m": M, "t": T}[space] + local, attributes)
        for part in content:
            if isinstance(part, str):
                made.text = part
            else:
                made.append(part)
    except ValueError as error:
        raise Rejected(f"{PEER} does not take a text with control characters.") from error
    return made


def shape(*paths: Raw | str, of: str = "m:ItemShape", text_body: bool = False) -> Raw:
    """Ask for ids and these properties: by the schema's names, or as elements."""
    asked = [xml("t:FieldURI", FieldURI=path) if isinstance(path, str) else path for path in paths]
    made = xml(of, xml("t:BaseShape", "IdOnly"))
    if text_body:
        made.append(xml("t:BodyType", "Text"))
    if asked:
        made.append(xml("t:AdditionalProperties", *asked))
    return made


def search_key_path() -> Raw:
    """Name PidTagSearchKey (MS-OXCPRPT 2.2.1.9), which stays when an item moves."""
    return xml("t:ExtendedFieldURI", PropertyTag="0x300b", PropertyType="Binary")


def is_equal(path: Raw, value: str) -> Raw:
    """A condition: the property has this value. Exchange may not mind upper and lower case."""
    return xml("t:IsEqualTo", path, xml("t:FieldURIOrConstant", xml("t:Constant", Value=value)))


def moment(item: Raw, name: str) -> datetime | None:
    """Read a time of an item; Exchange tells it in seconds."""
    text = item.findtext(f"{T}{name}")
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


@dataclass(frozen=True, slots=True)
class Login:
    """Who signs in: the owner of the mailbox (Direct Logon), or the service account (Impersonation)."""

    user: str  # "DOMAIN\\user" or an address
    password: str = field(repr=False)
    scheme: Literal["ntlm", "basic"] = "ntlm"

    def auth(self) -> requests.auth.AuthBase:
        if self.scheme == "basic":
            return HTTPBasicAuth(self.user.encode(), self.password.encode())
        # An address without a domain in front of it is sent as the user's whole name, as Outlook does.
        return _Ntlm(self.user if "\\" in self.user else f"\\{self.user}", self.password)


class _Ntlm(HttpNtlmAuth):
    """Takes the certificate for the channel binding from where our adapter left it: the connection's answer is read by then."""

    def _get_server_cert(self, response: requests.Response) -> bytes | None:
        certificate = getattr(response, "peer_certificate", None)
        return _get_certificate_hash(certificate) if certificate else None


class _Judge(FailFast):  # type: ignore[misc]  # exchangelib has no types
    """Decides by the HTTP answer whether there is SOAP to be read, instead of exchangelib's guesses. Never waits."""

    def raise_response_errors(self, response: requests.Response) -> None:
        body = response.content
        # recover=True in exchangelib's parser would read a cut or foreign document as far as it goes.
        is_soap = body.rstrip().endswith(b"Envelope>") and b"<!DOCTYPE" not in body[: body.find(b"Envelope")]
        if response.status_code in (200, 500) and is_soap:
            return
        raise Answered(
            response.status_code,
            retry_after=retry_after_s(response.headers.get("Retry-After"), response.headers.get("Date")),
            is_locked=b"is currently locked out" in body[:4096],
        )


class _Protocol(Protocol):  # type: ignore[misc]  # exchangelib has no types
    """One mailbox's connections. Its metaclass would keep it for the whole process, so it is made past that."""

    TIMEOUT = 0.0  # the adapter's own deadline counts
    RETRY_WAIT = 0  # seconds; what exchangelib takes a busy server to wish that names no time

    def __init__(self, config: Configuration, guard: Guard, get_login: Callable[[], Login], deadline_s: float) -> None:
        super().__init__(config=config)
        self._guard = guard
        self._get_login = get_login
        self._deadline_s = deadline_s
        self._limit = threading.local()

    def create_session(self) -> requests.Session:
        session: Any = hosts.session(
            self._guard,
            deadline_s=self._deadline_s,
            max_bytes=lambda: getattr(self._limit, "max_bytes", ANSWER_BYTES),
            headers={"Content-Type": "text/xml; charset=utf-8", "Accept-Encoding": "gzip, deflate"},
        )
        session.auth = self._get_login().auth()
        session.session_id = 0
        session.usage_count = 0
        return session  # type: ignore[no-any-return]  # exchangelib keeps its own two attributes on it

    def decrease_poolsize(self) -> NoReturn:
        raise SessionPoolMinSizeReached("The pool is as small as it gets.")

    @property
    def session_pool_size(self) -> int:
        """What exchangelib asks before it tries again by itself after a time-out; with one session it does not."""
        return 1

    @contextmanager
    def reading(self, max_bytes: int) -> Iterator[None]:
        """Let this thread's next answer be larger."""
        self._limit.max_bytes = max_bytes
        try:
            yield
        finally:
            del self._limit.max_bytes


class EwsAccount(Account):  # type: ignore[misc]  # exchangelib has no types
    """exchangelib's account upon our protocol. Its own constructor would make a protocol that is cached by its password."""

    def __init__(
        self, address: str, *, url: str, guard: Guard, get_login: Callable[[], Login], impersonate: bool, deadline_s: float
    ) -> None:
        self.fullname = None
        self.access_type = IMPERSONATION if impersonate else DELEGATE
        self.locale = None
        self.default_timezone = EWS_UTC
        self.ad_response = None
        self.affinity_cookie = None
        self._version = None
        self._version_lock = threading.Lock()
        self.identity = Identity(primary_smtp_address=address)
        version = Version(build=EXCHANGE_2016)  # the form of our requests; a server that knows less is asked in its own
        config = Configuration(
            service_endpoint=url, auth_type=NOAUTH, version=version, retry_policy=_Judge(), max_connections=CONNECTIONS
        )
        self.protocol = type.__call__(_Protocol, config, guard, get_login, deadline_s)  # not by its caching metaclass

    @property
    def is_online(self) -> bool:
        """Say whether the last answer came from Exchange Online, where this product does not use EWS."""
        build = self.version.build
        return (build.major_version, build.minor_version) == ONLINE_BUILD


class _Operation(EWSAccountService):  # type: ignore[misc]  # exchangelib has no types
    """Any operation; gives each response message as it came, or the error that is in it."""

    ERRORS_TO_CATCH_IN_RESPONSE = EWSError
    WARNINGS_TO_CATCH_IN_RESPONSE = EWSError

    def __init__(self, account: EwsAccount, name: str) -> None:
        super().__init__(account=account)
        self.SERVICE_NAME = name

    def messages(self, payload: Raw) -> Iterator[Raw]:
        given: Iterator[Raw] = self._get_elements(payload=payload)
        return given

    def _response_tag(self) -> str:
        return f"{M}{self.SERVICE_NAME}Response"

    def _response_message_tag(self) -> str:
        return f"{M}{self.SERVICE_NAME}ResponseMessage"

    @classmethod
    def _get_elements_in_container(cls, container: Raw) -> list[Raw]:
        return [container]


class Client:
    """Asks for one mailbox. Thread-safe if `get_login` of the account is; `in_flight` is entered for each request."""

    def __init__(self, account: EwsAccount, *, in_flight: AbstractContextManager[object], sleep: Callable[[float], None]) -> None:
        self.address: str = account.primary_smtp_address
        self._account = account
        self._in_flight = in_flight
        self._sleep = sleep

    def reading(self, max_bytes: int) -> AbstractContextManager[None]:
        """Let this thread's next answer be larger."""
        allowed: AbstractContextManager[None] = self._account.protocol.reading(max_bytes)
        return allowed

    def folder(self, name: str) -> Raw:
        """Name a folder of the mailbox by its name in EWS, e.g. "calendar"."""
        return xml("t:DistinguishedFolderId", xml("t:Mailbox", xml("t:EmailAddress", self.address)), Id=name)

    def ask(self, operation: Raw, *, changes: bool = False) -> list[Raw]:
        """Return the response messages, one for each thing asked for.

        `changes` says whether the operation writes. Raises: what the first failure means, of the whole or of one thing.
        """
        return self._ask(operation, changes, _first_error)

    def ask_each(self, operation: Raw, *, changes: bool = False) -> list[Raw | SsiError]:
        """Return for each thing asked for the response message, or what its failure means.

        Raises: a failure of the whole; a busy server is one, unless it has written a part.
        """
        found = self._ask(operation, changes, lambda found: _too_busy(found, changes=changes))
        return [translated(part, changes=changes) if isinstance(part, Exception) else part for part in found]

    def search(
        self,
        name: Literal["FindItem", "FindFolder"],
        asked: Raw,
        *,
        folders: Iterable[Raw],
        restriction: Raw | None = None,
        traversal: str = "Shallow",
    ) -> list[Raw]:
        """Return all items or folders in some folders; a folder that is not there is left out, if others are."""
        found: list[Raw] = []
        view = {"FindItem": "m:IndexedPageItemView", "FindFolder": "m:IndexedPageFolderView"}[name]
        waiting, offset = list(folders), 0
        is_only = len(waiting) == 1
        while waiting:
            operation = xml(f"m:{name}", deepcopy(asked), Traversal=traversal)
            operation.append(xml(view, MaxEntriesReturned=str(PAGE), Offset=str(offset), BasePoint="Beginning"))
            if restriction is not None:
                operation.append(xml("m:Restriction", deepcopy(restriction)))
            operation.append(xml("m:ParentFolderIds", *map(deepcopy, waiting)))
            unfinished, offsets = [], []
            answers = self.ask_each(operation)
            if len(answers) != len(waiting):
                raise unintelligible(changes=False)
            for folder, message in zip(waiting, answers, strict=True):
                if isinstance(message, NotFound) and not is_only:
                    continue
                if isinstance(message, SsiError):
                    raise message
                root = message.find(f"{M}RootFolder")
                found += [element for listing in root for element in listing]
                if root.get("IncludesLastItemInRange") != "true":
                    unfinished.append(folder)
                    offsets.append(int(root.get("IndexedPagingOffset", offset + PAGE)))
            waiting, offset = unfinished, min(offsets, default=0)
        return found

    def update(self, changes: list[tuple[Raw, list[Raw]]]) -> list[str | SsiError]:
        """Write to items, each given by its ItemId with its change key, unless they are no longer the ones of it.

        Returns for each its new change key, or why it was not written; Unknown if that is not known. Raises: a failure of all.
        """
        if not changes:
            return []
        options = {"ConflictResolution": "NeverOverwrite", "MessageDisposition": "SaveOnly"}
        options |= {"SendMeetingInvitationsOrCancellations": "SendToNone"}
        if self._account.version.build >= EXCHANGE_2013_SP1:
            options["SuppressReadReceipts"] = "true"
        listed = [xml("t:ItemChange", identifier, xml("t:Updates", *updates)) for identifier, updates in changes]
        answers = self.write(listed, lambda parts: xml("m:UpdateItem", xml("m:ItemChanges", *parts), **options))
        return [a if isinstance(a, SsiError) else a.find(f".//{T}ItemId").get("ChangeKey", "") for a in answers]

    def write(self, parts: Sequence[Raw], operation: Callable[[list[Raw]], Raw]) -> list[Raw | SsiError]:
        """Write parts by an operation that is made of them; return for each its response message, or why it was not written.

        The server works on one after the other, and one that it refuses stops no other, unless the rest would fail, too: those
        for which it was too busy are asked for again, and nothing else is. Unknown: perhaps it was written. Raises: a failure of
        the whole, of which some may have been written.
        """
        outcome: dict[int, Raw | SsiError] = {}
        waiting, waited = list(range(len(parts))), 0.0
        for attempt in range(1, ATTEMPTS + 1):
            for portion in _portions(parts, waiting):
                try:
                    answers = self.ask_each(operation([parts[n] for n in portion]), changes=True)
                except Unknown as error:
                    answers = [error] * len(portion)
                answers += [not_known()] * (len(portion) - len(answers))
                outcome |= zip(portion, answers, strict=True)
            waiting = [n for n in waiting if isinstance(outcome[n], Transient)]
            if not waiting:
                break
            pause = _pause(outcome[waiting[0]], attempt)
            if attempt == ATTEMPTS or waited + pause > PATIENCE_S:
                break
            self._sleep(pause)
            waited += pause
        return [outcome[n] for n in range(len(parts))]

    def move(self, identifier: Raw, folder: str) -> Raw:
        """Move an item to a folder; return its new ItemId. Raises: NotFound for the item or the folder; Unknown."""
        asked = xml("m:MoveItem", xml("m:ToFolderId", xml("t:FolderId", Id=folder)), xml("m:ItemIds", identifier))
        (answer,) = self.ask(asked, changes=True)
        return answer.find(f".//{T}ItemId")

    def pause(self, seconds: float) -> None:
        self._sleep(seconds)

    def _ask(self, operation: Raw, changes: bool, failure_of: Callable[[list[Raw]], Exception | None]) -> list[Raw]:
        """Send a request, again while the server is busy for a short time or once if a read broke off."""
        name = etree.QName(operation).localname
        waited, was_repeated = 0.0, False
        for attempt in range(1, ATTEMPTS + 1):
            failure: SsiError
            begun = 0.0
            try:
                with self._in_flight, _refusals_told(changes=changes):
                    if changes:
                        ask_first()
                    begun = time.monotonic()
                    found = list(_with_reasons(_Operation(self._account, name).messages(operation)))
                    fatal = failure_of(found)
                    if isinstance(fatal, ErrorServerBusy):
                        raise fatal
                if fatal is not None:
                    raise fatal
                break
            except RateLimited as error:  # or nothing was sent, since the pause after an earlier answer is not over
                failure, repeats, waits = error, False, True
            except FAILURES as error:
                failure = translated(error, changes=changes)
                if changes and was_unread(error, time.monotonic() - begun):
                    failure.__cause__ = Unread(str(failure.__cause__))
                repeats = was_cut(error) and not changes and not was_repeated
                waits = is_busy(error, changes=changes)
            pause = 0.0 if repeats else _pause(failure, attempt)
            if not (repeats or waits) or attempt == ATTEMPTS or waited + pause > PATIENCE_S:
                raise failure
            if waits:
                self._sleep(pause)
                waited += pause
            was_repeated = was_repeated or repeats
        if self._account.is_online:
            raise Rejected("The mailbox is in Exchange Online and has to be connected as Microsoft 365.")
        if not found:
            raise unintelligible(changes=changes)
        return found


@contextmanager
def _refusals_told(*, changes: bool) -> Iterator[None]:
    """Raises: RateLimited where the server asked for a pause, so that whoever counts the requests in flight hears of it."""
    try:
        yield
    except FAILURES as error:
        failure = translated(error, changes=changes)
        if isinstance(failure, RateLimited):
            raise failure from error
        raise


def _portions(parts: Sequence[Raw], numbers: list[int]) -> Iterator[list[int]]:
    """Share parts out among requests that are not too large, in their order."""
    portion: list[int] = []
    size = 0
    for number in numbers:
        length = sum(map(len, parts[number].itertext()))
        if portion and size + length > REQUEST_CHARS:
            yield portion
            portion, size = [], 0
        portion.append(number)
        size += length
    if portion:
        yield portion


def _pause(failure: SsiError, attempt: int) -> float:
    """Return for how many seconds to wait: as long as the server wishes, else longer with each attempt."""
    wished = failure.retry_after_s if isinstance(failure, Transient) else None
    return 0.25 * 2**attempt if wished is None else wished


def _with_reasons(found: Iterable[Raw]) -> Iterator[Raw]:
    """Give what was not even begun the error that stopped the server, which is the one before."""
    reason: Exception | None = None
    for part in found:
        if isinstance(part, ErrorBatchProcessingStopped) and reason is not None:
            yield reason
        else:
            reason = part if isinstance(part, Exception) else None
            yield part


def _first_error(found: list[Raw]) -> Exception | None:
    return next((part for part in found if isinstance(part, Exception)), None)


def _too_busy(found: list[Raw], *, changes: bool) -> Exception | None:
    """Return why the server could do nothing now. What it wrote in part must not be asked for again as a whole."""
    if changes and not all(isinstance(part, Exception) for part in found):
        return None
    return next((part for part in found if isinstance(part, Exception) and is_busy(part, changes=changes)), None)
