"""What all sign-ins by authorisation code share: what goes in and out of them, and the rules for what a provider answers.

A flow begins with an address to which the browser goes, and ends with what the browser brings back to our redirect address and
the code in it buys. Of what the browser brings nothing is believed but what matches: `state` is ours, `iss` is the provider's
(RFC 9207), the code is good only together with a verifier that no browser saw (PKCE, RFC 7636), and who signed in says the ID
token alone (identity.IdTokens). No I/O and no clock. Sources: RFC 6749 sections 4.1 and 5; OpenID Connect Core 3.1; Entra
"OAuth 2.0 authorization code flow" and "reference-error-codes"; Google "OAuth 2.0 for web server applications".
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from server import logs
from server.errors import Rejected, SsiError, Transient
from server.transport import Reply, raise_for_busy

MAX_BYTES = 1024 * 1024  # of an answer; tokens and metadata have a few kB
OUR_CREDENTIALS = frozenset({"invalid_client", "unauthorized_client"})
LATER = frozenset({"temporarily_unavailable", "server_error"})
GUID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

_TEXTS = ("access_token", "refresh_token", "id_token", "scope", "token_type", "error")

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Tokens:
    """What the token endpoint gave."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)  # None: the one used stays good, or there is none
    expires_at: datetime  # of the access token
    scopes: frozenset[str]  # as granted


@dataclass(frozen=True, slots=True)
class Begun:
    """A flow that waits for the browser."""

    url: str  # where the browser goes; holds nothing secret
    state: str  # comes back with the answer
    kept: str = field(repr=False)  # JSON for `finish`, to be sealed until then: it holds the verifier


@dataclass(frozen=True, slots=True)
class Person:
    """Who signed in, from the verified ID token. The identity is `tenant` and `subject`; nothing else of it proves anything."""

    tenant: str  # Entra's `tid`, Google's `hd` ("" for an account without Workspace), or the OpenID provider's issuer
    subject: str  # Entra's `oid`, else `sub`
    address: str = field(repr=False)  # "" if the provider does not tell it, or has not verified it
    name: str = field(repr=False)
    claims: Mapping[str, Any] = field(repr=False)  # all claims of the ID token


@dataclass(frozen=True, slots=True)
class Granted:
    person: Person
    tokens: Tokens


RefusalCode = Literal[
    "consent_denied",  # the person said no
    "consent_needed_admin",  # only an administrator of the organization may say yes
    "scopes_missing",  # the person said yes to less than is needed; facts: missing, short names with commas
    "code_used",  # the code was redeemed before, is too old, or was given for another flow
    "issuer_mismatch",  # somebody else than the provider answered, or it calls itself otherwise
    "nonce_mismatch",  # the ID token belongs to another flow
    "token_refused",  # the ID token is not good: signature, audience, times ...
    "account_unusable",  # disabled, blocked, a guest, of another organization ...
    "failed",  # facts: error
]

_SAYS: Mapping[RefusalCode, str] = {
    "consent_denied": "The permission was not given at {whose}.",
    "consent_needed_admin": "An administrator has to allow this product at {whose} first.",
    "code_used": "The answer of {whose} was used before or is too old.",
    "account_unusable": "{whose} does not let this account use this product.",
    "failed": "{whose} refused the sign-in ({error}).",
}
_BY_ERROR: Mapping[str, RefusalCode] = {
    "access_denied": "consent_denied",
    "consent_required": "consent_needed_admin",
    "admin_policy_enforced": "consent_needed_admin",  # Google: the Workspace's administrator restricts these scopes
    "org_internal": "account_unusable",  # Google: our client is for the accounts of one Workspace only
}
# AADSTS numbers (Entra reference-error-codes page, which warns that they may change: an unknown one falls back on `error`).
_BY_NUMBER: Mapping[int, RefusalCode] = {
    65004: "consent_denied",
    **dict.fromkeys((65001, 650052, 650056, 90008, 90093, 90094, 90095, 90099), "consent_needed_admin"),
    **dict.fromkeys((50057, 50053, 53003, 530032, 50105), "account_unusable"),  # disabled, locked, blocked, not assigned
    **dict.fromkeys((16000, 16003, 50014, 50020, 500208, 50034, 51004, 90072), "account_unusable"),  # not of this tenant
    **dict.fromkeys((50002, 500021, 500022, 500212, 500213), "account_unusable"),  # kept out by tenant restrictions
}


class SignInRefused(Rejected):
    """Nobody is signed in by this flow; only another one, begun anew, can help.

    `facts` are for the text about `code`: names and numbers, never a secret.
    """

    def __init__(self, code: RefusalCode, reason: str, **facts: str) -> None:
        super().__init__(reason)
        self.code = code
        self.facts: Mapping[str, str] = facts


class CodeFlow(Protocol):
    """A service at which people sign in by authorisation code with PKCE (S256), `state` and `nonce`."""

    def begin(
        self, *, redirect_uri: str, scopes: Iterable[str], tenant: str = "", login_hint: str = "", fresh: bool = False
    ) -> Begun:
        """Return where to send the browser.

        `scopes` are what is asked for beside the sign-in itself; `fresh`: the person must authenticate anew, whoever is signed
        in there. What `tenant` means, the implementation says.

        Raises: Transient; SignInRefused if the provider describes itself by another name.
        """

    def finish(self, kept: str, answer: Mapping[str, str]) -> Granted:
        """Redeem the code in `answer`, the query with which the browser came back. A code works once.

        Raises: SignInRefused; Transient, after which the code must be taken for used.
        """

    def revoke(self, refresh_token: str) -> None:
        """End the grant that this token belongs to, if it has not ended; where the provider has no such call, do nothing.

        Raises: Transient; Rejected.
        """


@dataclass(frozen=True, slots=True)
class Kept:
    """What has to be known again when the answer comes."""

    state: str = field(repr=False)
    verifier: str = field(repr=False)
    nonce: str = field(repr=False)
    redirect_uri: str
    scopes: tuple[str, ...]  # asked for beside those of the sign-in itself
    tenant: str
    fresh_since: float | None  # seconds since the epoch; the person must have authenticated since

    @classmethod
    def new(cls, redirect_uri: str, scopes: Iterable[str], *, tenant: str, fresh: bool, now: datetime) -> Kept:
        """Draw state, verifier and nonce of 256 bits each."""
        state, verifier, nonce = (secrets.token_urlsafe(32) for _ in range(3))
        return cls(state, verifier, nonce, redirect_uri, tuple(scopes), tenant, now.timestamp() if fresh else None)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Kept:
        body = json.loads(text)
        return cls(**body | {"scopes": tuple(body["scopes"])})

    @property
    def must_be_since(self) -> datetime | None:
        return None if self.fresh_since is None else datetime.fromtimestamp(self.fresh_since, UTC)


def code_in(
    answer: Mapping[str, str], kept: Kept, *, whose: str, issuers: Collection[str], always_names_itself: bool = False
) -> str:
    """Return the code that a good answer of the authorisation endpoint holds.

    `issuers` as in `is_issuer`; with `always_names_itself` the answer must say whose it is.

    Raises: SignInRefused; Transient if the provider cannot do it now.
    """
    if not hmac.compare_digest(answer.get("state", "").encode(), kept.state.encode()):
        raise SignInRefused("failed", "The answer belongs to another sign-in.", error="state")
    if ("iss" in answer or always_names_itself) and not is_issuer(answer.get("iss", ""), issuers):
        raise SignInRefused("issuer_mismatch", f"The answer does not come from {whose}.")
    if "error" in answer:
        raise refusal(answer, whose)
    if not answer.get("code"):
        raise SignInRefused("failed", f"{whose} answered without a code.", error="no_code")
    return answer["code"]


def leads_browsers(url: object) -> bool:
    """Say whether a browser may be sent there: by https, or to the very machine that it runs on (RFC 8252 section 8.3)."""
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
    except ValueError:
        return False
    is_own = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1")
    return (parts.scheme == "https" or is_own) and bool(parts.hostname) and "@" not in parts.netloc


def is_issuer(name: str, issuers: Collection[str], tenant: str = GUID.pattern) -> bool:
    """Say whether `name` is one of `issuers`, exactly; {tenantid} in one stands for `tenant`, by default for any GUID."""
    patterns = (re.escape(issuer).replace(re.escape("{tenantid}"), tenant) for issuer in issuers)
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def refusal(answer: Mapping[str, Any], whose: str, *, redeeming: bool = False) -> SsiError:
    """Return what an error answer means, of the authorisation endpoint or, `redeeming` a code, of the token endpoint.

    Of the provider's own words only its error code is passed on: the text beside it may hold anything.
    """
    error = str(answer["error"])
    error = error if re.fullmatch(r"[a-z0-9_.]{1,40}", error) else "unknown"  # it may have come through the browser
    number = _number(answer)
    if error in LATER:
        return Transient(f"{whose}'s sign-in service is not available right now.")
    if redeeming and error in OUR_CREDENTIALS:
        log.error("sign-in service refuses us", service=whose, error=error, number=number)
        return Transient(f"{whose}'s sign-in service does not accept this server; its administrator must renew its secret.")
    fallback: RefusalCode = "code_used" if redeeming and error == "invalid_grant" else "failed"
    code = _BY_NUMBER.get(number) or _BY_ERROR.get(error, fallback)
    if code == "failed":
        log.error("sign-in service refuses us", service=whose, error=error, number=number)
    facts = {"error": error} | ({"number": f"AADSTS{number}"} if number else {})
    return SignInRefused(code, _SAYS[code].format(whose=whose, error=error), **facts)


def _number(answer: Mapping[str, Any]) -> int:
    """Return the AADSTS number of an answer of Entra; 0 if there is none. Only the token endpoint gives it apart."""
    listed = answer.get("error_codes")
    numbers = [n for n in listed if type(n) is int] if isinstance(listed, list) else []
    found = re.match(r"AADSTS(\d{4,8})\b", str(answer.get("error_description", "")))
    numbers += [int(found[1])] if found else []
    return next((n for n in numbers if n in _BY_NUMBER), numbers[0] if numbers else 0)


def readable(reply: Reply, peer: str, whose: str) -> dict[str, Any]:
    """Return the JSON object that a sign-in service answered with, be it an error; what belongs to tokens has its types.

    Raises: Transient if it is none.
    """
    raise_for_busy(reply, peer, changes=False)
    try:
        answer = json.loads(reply.content.decode())
    except (ValueError, RecursionError):
        answer = None
    if reply.status >= 500 or not isinstance(answer, dict) or not _has_types(answer):
        raise Transient(f"{whose}'s sign-in service sent an answer that cannot be read.")
    return answer


def _has_types(answer: Mapping[str, Any]) -> bool:
    life = str(answer.get("expires_in", 0))  # some write the number as a text
    return all(isinstance(answer.get(name, ""), str) for name in _TEXTS) and life.isdecimal() and len(life) < 10


def tokens_in(answer: Mapping[str, Any], asked_at: datetime, *, whose: str, scopes: Iterable[str]) -> Tokens:
    """Return what a good answer of the token endpoint gave; without a word of `scopes` it is what was asked for.

    Raises: Transient if it lacks the access token.
    """
    if not answer.get("access_token"):
        raise Transient(f"{whose}'s sign-in service sent an answer that cannot be read.")
    granted = frozenset(answer["scope"].split() if "scope" in answer else scopes)
    until = asked_at + timedelta(seconds=int(answer.get("expires_in", 0)))
    return Tokens(answer["access_token"], answer.get("refresh_token") or None, until, granted)


def check_granted(granted: Collection[str], wanted: Iterable[str], whose: str) -> None:
    """Raises: SignInRefused unless all that is wanted was granted; Entra may write "Mail.ReadWrite" without what is before it."""
    have = {_short(scope) for scope in granted}
    missing = sorted({scope.rpartition("/")[2] for scope in wanted if _short(scope) not in have})
    if missing:
        raise SignInRefused("scopes_missing", f"{whose} was not allowed to give all that is needed.", missing=",".join(missing))


def _short(scope: str) -> str:
    return scope.rpartition("/")[2].lower()
