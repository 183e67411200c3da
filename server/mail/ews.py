"""The wire below `ExchangeMailbox`: exchangelib's SOAP services upon guarded HTTP, and what their failures mean.

exchangelib builds and reads the XML of an operation. All else it would do is switched off or replaced here: its adapters (ours
are guarded, `server.mail.hosts`), its process-wide cache of protocols and passwords, its waiting and retrying (`_Judge` raises at
once; the mailbox waits, for seconds), the shrinking of its session pool, its autodiscover (`server.mail.autodiscover`) and
its parsing of items (services below give the XML element as it came). Its log lines of failures hold whole requests; they are
only written for exceptions that do not get there, since `Session` turns all into those of requests.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

import requests
from exchangelib import UTC
from exchangelib.account import Account, Identity
from exchangelib.configuration import Configuration
from exchangelib.credentials import DELEGATE, IMPERSONATION
from exchangelib.errors import ErrorServerBusy, EWSError, SessionPoolMinSizeReached
from exchangelib.extended_properties import ExtendedProperty
from exchangelib.fields import ExtendedPropertyField, FieldPath
from exchangelib.folders import Folder
from exchangelib.items import Message
from exchangelib.properties import DistinguishedFolderId, ExtendedFieldURI, FieldURI, Mailbox
from exchangelib.protocol import FailFast, Protocol
from exchangelib.services import FindFolder, FindItem, GetItem
from exchangelib.transport import NOAUTH
from exchangelib.util import create_element
from exchangelib.version import EXCHANGE_2016, Version
from requests.auth import HTTPBasicAuth
from requests_ntlm import HttpNtlmAuth
from requests_ntlm.requests_ntlm import _get_certificate_hash

from server.errors import Conflict, Forbidden, NeedsReauth, NotFound, RateLimited, Rejected, SsiError, Transient, Unknown
from server.mail import hosts
from server.mail.hosts import Guard, TooLarge, never_sent
from server.transport import retry_after_s

PEER = "Exchange"
CONNECTIONS = 4  # per mailbox; Exchange's own limit for a user is 27 (X:ews-throttling-in-exchange.md)
ANSWER_BYTES = 8 * 1024 * 1024  # of any answer but a message's MIME
ONLINE_BUILD = (15, 20)  # the version that Exchange Online reports; on-premises is 15.0, 15.1 or 15.2

Raw = Any  # an lxml element of exchangelib, which has no types


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


class Answered(Exception):
    """The server answered with something that is no SOAP: its status, and what its headers tell."""

    def __init__(self, status: int, *, retry_after: float | None = None, is_locked: bool = False) -> None:
        super().__init__(str(status))
        self.status = status
        self.retry_after_s = retry_after
        self.is_locked = is_locked


class Refusal(Exception):
    """Status and code of an error, to be chained: `str()` holds no content."""


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
        self.default_timezone = UTC
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

    def folder(self, name: str) -> Raw:
        """Return the id of a folder by its name in EWS, e.g. "calendar"."""
        return DistinguishedFolderId(id=name, mailbox=Mailbox(email_address=self.primary_smtp_address))

    @property
    def is_online(self) -> bool:
        """Say whether the last answer came from Exchange Online, where this product does not use EWS."""
        build = self.version.build
        return (build.major_version, build.minor_version) == ONLINE_BUILD


class _SearchKey(ExtendedProperty):  # type: ignore[misc]  # exchangelib has no types
    property_tag = 0x300B
    property_type = "Binary"


def field_paths(*names: str, search_key: bool = False) -> list[Raw]:
    """Return what to ask of messages, by exchangelib's names."""
    paths = [FieldPath(field=Message.get_field_by_fieldname(name)) for name in names]
    return [*paths, FieldPath(field=ExtendedPropertyField("search_key", value_cls=_SearchKey))] if search_key else paths


class GetItems(GetItem):  # type: ignore[misc]  # exchangelib has no types
    """GetItem that gives items as they came."""

    def _elem_to_obj(self, elem: Raw) -> Raw:
        return elem


class FindItems(FindItem):  # type: ignore[misc]  # exchangelib has no types
    """FindItem that gives items as they came, of several folders with one request per page."""

    def _elem_to_obj(self, elem: Raw) -> Raw:
        return elem

    def where(self, restriction: Raw, *, folders: list[Raw], fields: list[Raw]) -> Iterator[Raw]:
        found: Iterator[Raw] = self.call(
            folders=folders,
            additional_fields=fields,
            restriction=restriction,
            order_fields=None,
            shape="IdOnly",
            query_string=None,
            depth="Shallow",
            calendar_view=None,
            max_items=None,
            offset=0,
        )
        return found


class FindFolders(FindFolder):  # type: ignore[misc]  # exchangelib has no types
    """FindFolder that gives folders as they came."""

    def _elem_to_obj(self, elem: Raw) -> Raw:
        return elem

    def below(self, folder: Raw) -> Iterator[Raw]:
        folder_class = FieldPath(field=Folder.get_field_by_fieldname("folder_class"))
        asked = {"additional_fields": [folder_class], "restriction": None, "shape": "IdOnly", "depth": "Deep"}
        pages = self._paged_call(
            payload_func=self.get_payload, max_items=None, folders=[folder], page_size=self.page_size, offset=0, **asked
        )
        found: Iterator[Raw] = self._elems_to_objs(pages)
        return found


class IsEqualTo:
    """A restriction to items whose property has this value."""

    def __init__(self, path: Raw, value: str) -> None:
        self._path = path
        self._value = value

    @classmethod
    def message_id(cls, value: str) -> IsEqualTo:
        return cls(FieldURI(field_uri="message:InternetMessageId"), value)

    @classmethod
    def search_key(cls, value: str) -> IsEqualTo:
        return cls(ExtendedFieldURI(property_tag="0x300b", property_type="Binary"), value)

    def to_xml(self, version: Raw) -> Raw:
        restriction, equal = create_element("m:Restriction"), create_element("t:IsEqualTo")
        constant = create_element("t:FieldURIOrConstant")
        constant.append(create_element("t:Constant", attrs={"Value": self._value}))
        equal.append(self._path.to_xml(version=version))
        equal.append(constant)
        restriction.append(equal)
        return restriction


FAILURES = (EWSError, Answered, requests.exceptions.RequestException)
"""What exchangelib, our judge and our session raise; everything else is a fault of ours."""

_ELSEWHERE = frozenset(
    {"ErrorNonExistentMailbox", "ErrorMissingEmailAddress", "ErrorNoPublicFolderReplicaAvailable"}
    | {
        "ErrorNoRespondingCASInDestinationSite",
        "ErrorNoDestinationCASDueToVersionMismatch",
        "ErrorNoApplicableProxyCASServersAvailable",
    }
    | {"ErrorProxyRequestNotAllowed"}
)
_FORBIDDEN = frozenset(
    {"ErrorAccessDenied", "ErrorImpersonateUserDenied", "ErrorImpersonationDenied", "ErrorImpersonationFailed"}
    | {"ErrorNotDelegate", "ErrorAccountDisabled", "ErrorUserNotAllowedByPolicy", "ErrorCreateItemAccessDenied"}
)
_SIGN_IN = frozenset({"ErrorPasswordExpired", "ErrorPasswordChangeRequired", "ErrorInvalidUserPrincipalName"})
_NOT_THERE = frozenset(
    {"ErrorItemNotFound", "ErrorFolderNotFound", "ErrorInvalidIdMalformed", "ErrorInvalidId", "ErrorInvalidIdEmpty"}
    | {"ErrorInvalidIdMalformedEwsLegacyIdFormat", "ErrorInvalidIdNotAnItemAttachmentId", "ErrorInvalidIdXml"}
    | {"ErrorInvalidIdStoreObjectIdTooLong", "ErrorInvalidIdTooManyAttachmentLevels", "ErrorInvalidAttachmentId"}
    | {"ErrorInvalidPropertyRequest"}  # the item is none that has a Message-ID
)
_CHANGED = frozenset({"ErrorIrresolvableConflict", "ErrorStaleObject", "ErrorInvalidChangeKey", "ErrorChangeKeyRequired"})
_NOT_NOW = frozenset(
    {"ErrorMailboxMoveInProgress", "ErrorMailboxStoreUnavailable", "ErrorInternalServerTransientError", "ErrorADUnavailable"}
    | {"ErrorTooManyObjectsOpened", "ErrorExceededConnectionCount", "ErrorConnectionFailed", "ErrorADOperation"}
    | {"ErrorInsufficientResources", "ErrorMailboxFailover", "ErrorServiceUnavailable", "ErrorClientDisconnected"}
)
_PERHAPS_DONE = frozenset({"ErrorInternalServerError", "ErrorTimeoutExpired", "ErrorBatchProcessingStopped"})


def translated(error: Exception, *, changes: bool) -> SsiError:
    """Return our error for one of `FAILURES`; `changes` says whether the request was to write."""
    wire = _first(error, requests.exceptions.RequestException)
    if wire is not None:
        return _of_the_wire(wire, changes)
    if isinstance(error, Answered):
        return _of_the_answer(error, changes)
    if isinstance(error, ErrorServerBusy):
        return RateLimited(f"{PEER} asked for a pause.", retry_after_s=error.back_off)
    code = type(error).__name__
    return _caused(_of_the_code(code, changes), code)


def is_busy(error: Exception, *, changes: bool) -> bool:
    """Say whether the server itself answered that it cannot now, so that waiting may help."""
    if _first(error, requests.exceptions.RequestException) or (isinstance(error, Answered) and error.status == 200):
        return False
    return isinstance(translated(error, changes=changes), Transient)


def was_cut(error: Exception) -> bool:
    """Say whether an exchange broke off, as it does when the server closes a connection that was kept alive."""
    wire = _first(error, requests.exceptions.RequestException)
    return wire is not None and not (never_sent(wire) or isinstance(wire, TooLarge | requests.exceptions.Timeout))


def _of_the_wire(error: BaseException, changes: bool) -> SsiError:
    if isinstance(error, TooLarge):
        refused = Rejected(f"{PEER} sent an answer that is too large.")
        refused.__cause__ = error
        return refused
    if _first(error, ssl.SSLCertVerificationError):
        return _caused(Transient(f"The certificate of the {PEER} server is not trusted."), "certificate")
    if never_sent(error):
        return _caused(Transient(f"{PEER} cannot be reached at this address."), "no connection")
    return _caused(_perhaps(changes, f"{PEER} did not answer in time."), type(error).__name__)


def _of_the_answer(error: Answered, changes: bool) -> SsiError:
    status, pause = error.status, error.retry_after_s
    made: SsiError
    if error.is_locked:
        made = NeedsReauth(f"The account is locked out of {PEER}.")
    elif status == 401:
        made = NeedsReauth(f"{PEER} no longer accepts the user name and password.")
    elif status == 403:
        made = Forbidden(f"{PEER} does not allow this account to do that in the mailbox.", code="mailbox_forbidden")
    elif status == 429:
        made = RateLimited(f"{PEER} asked for a pause.", retry_after_s=pause)
    elif status == 503:
        made = Transient(f"{PEER} is not available right now.", retry_after_s=pause)
    elif 300 <= status < 400:
        made = Rejected(f"The {PEER} server sends elsewhere: its address has changed.")
    elif status == 200 or status >= 500:
        made = _perhaps(changes, f"{PEER} did not answer in its own language.")
    else:
        made = Rejected(f"There is no {PEER} at this address ({status}).")
    return _caused(made, str(status))


def _of_the_code(code: str, changes: bool) -> SsiError:
    if code in _ELSEWHERE:
        return Rejected(f"The mailbox is not at this {PEER} server.")
    if code in _FORBIDDEN:
        return Forbidden(f"{PEER} does not allow this account to do that in the mailbox.", code="mailbox_forbidden")
    if code in _SIGN_IN:
        return NeedsReauth(f"{PEER} asks for a new password.")
    if code in _NOT_THERE:
        return NotFound("The mailbox holds no such message.")
    if code in _CHANGED:
        return Conflict("The message was changed by somebody else.")
    if code in _NOT_NOW:
        return Transient(f"{PEER} is not available right now.")
    if code in _PERHAPS_DONE or code in ("SOAPError", "MalformedResponseError", "TransportError"):
        return _perhaps(changes, f"{PEER} reported a fault.")
    return Rejected(f"{PEER} refused the request ({code}).")


def _perhaps(changes: bool, text: str) -> SsiError:
    return Unknown(f"{PEER} did not confirm; whether it acted is not known yet.") if changes else Transient(text)


def _caused(error: SsiError, what: str) -> SsiError:
    error.__cause__ = Refusal(what)
    return error


def _first(error: BaseException, kind: type[BaseException]) -> BaseException | None:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, kind):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None
