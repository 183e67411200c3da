"""What a failure of Exchange Web Services means: of the wire, of HTTP, and of the codes in its answers."""

from __future__ import annotations

import ssl
from http.client import RemoteDisconnected

import requests
from exchangelib.errors import ErrorServerBusy, EWSError

from server.domain.sentences import rejected
from server.errors import (
    AlreadyExists,
    Conflict,
    CursorExpired,
    Forbidden,
    NeedsReauth,
    NotFound,
    RateLimited,
    Rejected,
    SsiError,
    Transient,
    Unknown,
)
from server.mail.hosts import TooLarge, never_sent
from server.transport import LONGEST_PAUSE_S

PEER = "Exchange"
AT_ONCE_S = 2.0  # timers that end a connection while the server works are longer


class Answered(Exception):
    """The server answered with something that is no SOAP: its status, and what its headers tell."""

    def __init__(self, status: int, *, retry_after: float | None = None, is_locked: bool = False) -> None:
        super().__init__(str(status))
        self.status = status
        self.retry_after_s = retry_after
        self.is_locked = is_locked


class Refusal(Exception):
    """Status and code of an error, to be chained: `str()` holds no content."""


class Unread(Refusal):
    """The connection was closed at once and without a byte, as the server does to one that was idle for too long."""


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
_IMPERSONATION = frozenset({"ErrorImpersonateUserDenied", "ErrorImpersonationDenied", "ErrorImpersonationFailed"})
_FORBIDDEN = frozenset(
    {"ErrorAccessDenied", "ErrorCreateSubfolderAccessDenied"}
    | {"ErrorNotDelegate", "ErrorAccountDisabled", "ErrorUserNotAllowedByPolicy", "ErrorCreateItemAccessDenied"}
)
_SIGN_IN = frozenset({"ErrorPasswordExpired", "ErrorPasswordChangeRequired", "ErrorInvalidUserPrincipalName"})
_NOT_THERE = frozenset(
    {"ErrorItemNotFound", "ErrorFolderNotFound", "ErrorInvalidIdMalformed", "ErrorInvalidId", "ErrorInvalidIdEmpty"}
    | {"ErrorInvalidIdMalformedEwsLegacyIdFormat", "ErrorInvalidIdNotAnItemAttachmentId", "ErrorInvalidIdXml"}
    | {"ErrorInvalidIdStoreObjectIdTooLong", "ErrorInvalidIdTooManyAttachmentLevels", "ErrorInvalidAttachmentId"}
    | {"ErrorInvalidPropertyRequest"}  # the item is none that has what was asked for
    | {"ErrorNameResolutionNoResults", "ErrorNameResolutionMultipleResults"}
    | {"ErrorToFolderNotFound", "ErrorSyncFolderNotFound", "ErrorParentFolderNotFound"}
    # X:handling-notification-related-errors-in-ews-in-exchange.md: all of them are answered by a new subscription.
    | {"ErrorSubscriptionNotFound", "ErrorExpiredSubscription", "ErrorInvalidSubscription", "ErrorSubscriptionUnsubscribed"}
    | {"ErrorInvalidWatermark", "ErrorReadEventsFailed", "ErrorMissedNotificationEvents", "ErrorEventNotFound"}
    | {"ErrorSubscriptionAccessDenied"}  # another account signed in when it was made
)
_CHANGED = frozenset({"ErrorIrresolvableConflict", "ErrorStaleObject", "ErrorInvalidChangeKey", "ErrorChangeKeyRequired"})
_NOT_NOW = frozenset(
    {"ErrorMailboxMoveInProgress", "ErrorMailboxStoreUnavailable", "ErrorInternalServerTransientError", "ErrorADUnavailable"}
    | {"ErrorTooManyObjectsOpened", "ErrorExceededConnectionCount", "ErrorConnectionFailed", "ErrorADOperation"}
    | {"ErrorExceededSubscriptionCount"}  # until those that nobody asks about have expired
    | {"ErrorInsufficientResources", "ErrorMailboxFailover", "ErrorServiceUnavailable", "ErrorClientDisconnected"}
    | {"ErrorBatchProcessingStopped"}  # it was not even begun: an error before it stopped the rest (X:responsecode.md)
)
_PERHAPS_DONE = frozenset({"ErrorInternalServerError", "ErrorTimeoutExpired"})


def translated(error: Exception, *, changes: bool) -> SsiError:
    """Return our error for one of `FAILURES`; `changes` says whether the request was to write."""
    wire = _first(error, requests.exceptions.RequestException)
    if wire is not None:
        return _of_the_wire(wire, changes)
    if isinstance(error, Answered):
        return _of_the_answer(error, changes)
    if isinstance(error, ErrorServerBusy):
        return RateLimited(f"{PEER} asked for a pause.", retry_after_s=min(error.back_off, LONGEST_PAUSE_S) or None)
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


def unintelligible(*, changes: bool) -> SsiError:
    """Return our error for an answer that lacks what an answer has."""
    return _perhaps(changes, f"{PEER} did not answer in its own language.")


def not_known(cause: SsiError | None = None) -> Unknown:
    """Return that it is not known whether the server acted; `cause` is how a later look or try failed."""
    unknown = Unknown(f"{PEER} did not confirm; whether it acted is not known yet.")
    unknown.__cause__ = cause
    return unknown


def may_still_act(error: SsiError) -> bool:
    """Say whether what was not confirmed may yet come: behind a proxy's page or time-out the server may go on with its work."""
    return not isinstance(error.__cause__, Unread)


def was_unread(error: Exception, after_s: float) -> bool:
    """Say whether the server closed the connection without a byte, and so soon that no timer for a slow answer can have."""
    wire = _first(error, requests.exceptions.RequestException)
    if not isinstance(wire, requests.exceptions.ConnectionError) or not was_cut(error) or after_s > AT_ONCE_S:
        return False
    return any(_first(wire, kind) for kind in (RemoteDisconnected, ConnectionResetError, BrokenPipeError))


def _of_the_wire(error: BaseException, changes: bool) -> SsiError:
    if isinstance(error, TooLarge):
        refused = Rejected(f"{PEER} sent an answer that is too large.")
        refused.__cause__ = error
        return refused
    if _first(error, ssl.SSLCertVerificationError):
        return _caused(Transient(f"The certificate of the {PEER} server is not trusted.", code="certificate"), "certificate")
    if never_sent(error):
        return _caused(Transient(f"{PEER} cannot be reached at this address."), "no connection")
    return _caused(_perhaps(changes, f"{PEER} did not answer in time."), type(error).__name__)


def _of_the_answer(error: Answered, changes: bool) -> SsiError:
    status, pause = error.status, error.retry_after_s
    made: SsiError
    if error.is_locked:
        made = NeedsReauth(f"The account is locked out of {PEER}.", code="locked")
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
    if code in _IMPERSONATION:
        text = f"{PEER} does not let the service account act for this mailbox; an administrator has to allow it to impersonate."
        return Forbidden(text, code="mailbox_forbidden")
    if code in _FORBIDDEN:
        return Forbidden(f"{PEER} does not allow this account to do that in the mailbox.", code="mailbox_forbidden")
    if code in _SIGN_IN:
        return NeedsReauth(f"{PEER} asks for a new password.")
    if code in _NOT_THERE:
        return NotFound("The mailbox holds no such item.")
    if code in _CHANGED:
        return Conflict("The item was changed by somebody else.")
    if code == "ErrorFolderExists":
        return AlreadyExists("The folder is there already.")
    if code == "ErrorInvalidSyncStateData":
        return CursorExpired(f"{PEER} no longer knows what was told.")
    if code == "ErrorQuotaExceeded":
        return rejected("mailbox_full")
    if code in _NOT_NOW:
        return Transient(f"{PEER} is not available right now.")
    if code in _PERHAPS_DONE or code in ("SOAPError", "MalformedResponseError", "TransportError"):
        return _perhaps(changes, f"{PEER} reported a fault.")
    return Rejected(f"{PEER} refused the request ({code}).")


def _perhaps(changes: bool, text: str) -> SsiError:
    return not_known() if changes else Transient(text)


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
