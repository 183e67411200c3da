"""The token endpoints of sign-in services: Microsoft Entra's, through msal (on-behalf-of and refresh), and Google's (refresh).

msal keeps refresh tokens to itself, in its token cache; each call here gets a fresh application with a fresh cache, from which
the refresh token is read, so nothing is shared between users. msal's transport is our Gateway: proxy, authorities and errors
are the same as everywhere. Google needs one form and one answer, so no library. Keeping and sharing of tokens is the
TokenVault's business.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NoReturn, Protocol

import msal

from server import logs
from server.errors import NeedsReauth, Rejected, Transient
from server.transport import Gateway, Reply, raise_for_busy

_METADATA_LIFE = timedelta(hours=24)
_CACHED_TENANTS = 1000
_MAX_BYTES = 1024 * 1024  # of an answer; tokens and metadata have a few kB

log = logs.get(__name__)

# AADSTS numbers a person can do something about (Entra reference-error-codes page) -> what to tell them.
_REASONS = {
    65001: "Microsoft 365 has no consent for this product to use the mailbox.",
    50057: "The Microsoft 365 account is disabled.",
    50076: "Microsoft 365 asks for another step of the sign-in.",
    50079: "Microsoft 365 asks for another step of the sign-in.",
    50173: "The sign-in to Microsoft 365 was revoked.",
    700082: "The sign-in to Microsoft 365 was not used for too long.",
}
_ASK_PERSON = frozenset({"invalid_grant", "interaction_required", "consent_required", "login_required"})
_OUR_CREDENTIALS = frozenset({"invalid_client", "unauthorized_client"})
_LATER = frozenset({"temporarily_unavailable", "server_error"})


@dataclass(frozen=True, slots=True)
class Tokens:
    """What the token endpoint gave."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)  # None: the one used stays good
    expires_at: datetime  # of the access token
    scopes: frozenset[str]  # as granted


class SignIn(Protocol):
    """A service at which a refresh token buys access tokens."""

    def refresh(self, refresh_token: str, tenant: str, scopes: Iterable[str]) -> Tokens:
        """Get a new access token for all of `scopes`, and perhaps a new refresh token, which then replaces the old one.

        `tenant` is the connection's.

        Raises: NeedsReauth if the person must sign in or consent; Transient; Rejected if the service finds our request wrong.
        """


class Entra:
    """Our application at Microsoft's sign-in service. Thread-safe.

    `authority` is the sign-in origin without tenant.
    """

    def __init__(self, authority: str, client_id: str, client_secret: str, gateway: Gateway, now: Callable[[], datetime]) -> None:
        self._authority = authority.rstrip("/")
        self._client_id = client_id
        self._client_secret = client_secret
        self._now = now
        self._http = _MsalHttp(gateway, now)

    def __repr__(self) -> str:
        return f"<Entra {self._client_id} at {self._authority}>"

    def on_behalf_of(self, assertion: str, tenant: str, scopes: Iterable[str]) -> Tokens:
        """Exchange a person's access token for our API for one to a service behind it, with offline access.

        `scopes` belong to one resource, e.g. "https://graph.microsoft.com/Mail.ReadWrite"; `tenant` is the token's `tid`.

        Raises: NeedsReauth if the person must sign in or consent; Transient; Rejected if Entra finds our
        request wrong.
        """
        return self._ask(tenant, lambda app: app.acquire_token_on_behalf_of(assertion, list(scopes)))

    def refresh(self, refresh_token: str, tenant: str, scopes: Iterable[str]) -> Tokens:
        """Implements SignIn; mostly there is a new refresh token."""
        return self._ask(tenant, lambda app: app.acquire_token_by_refresh_token(refresh_token, list(scopes)))

    def _ask(self, tenant: str, question: Callable[[Any], dict[str, Any]]) -> Tokens:
        cache, asked_at = msal.TokenCache(), self._now()
        app = msal.ConfidentialClientApplication(
            self._client_id,
            client_credential=self._client_secret,
            authority=f"{self._authority}/{tenant}",
            instance_discovery=False,  # it would ask login.microsoftonline.com whether it knows our authority
            http_client=self._http,
            token_cache=cache,
        )
        answer = question(app)
        if "error" in answer:
            _raise_for(answer)
        refresh_tokens = list(cache.search(msal.TokenCache.CredentialType.REFRESH_TOKEN))
        return Tokens(
            access_token=answer["access_token"],
            refresh_token=refresh_tokens[0]["secret"] if refresh_tokens else None,
            expires_at=asked_at + timedelta(seconds=int(answer["expires_in"])),
            scopes=frozenset(answer.get("scope", "").split()),
        )


class Google:
    """Our OAuth client at Google. Thread-safe.

    A refresh has no new refresh token in its answer; a grant that ended for whatever reason (revoked, unused for six months,
    password changed, ended by the organization) is one `invalid_grant` (gmail.md 5).
    """

    def __init__(self, token_url: str, client_id: str, client_secret: str, gateway: Gateway, now: Callable[[], datetime]) -> None:
        self._token_url = token_url
        self._client_id = client_id
        self._client_secret = client_secret
        self._gateway = gateway
        self._now = now

    def __repr__(self) -> str:
        return f"<Google {self._client_id} at {self._token_url}>"

    def refresh(self, refresh_token: str, tenant: str, scopes: Iterable[str]) -> Tokens:
        """Implements SignIn. People choose on Google's page what they allow: a grant that lacks one of `scopes` is none."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        form |= {"client_id": self._client_id, "client_secret": self._client_secret}
        asked_at = self._now()
        # Not a write in the Gateway's sense: the refresh token stays good, so an exchange whose answer was lost may be repeated.
        reply = self._gateway.send("POST", self._token_url, data=form, max_bytes=_MAX_BYTES, is_write=False)
        answer = _readable(reply, self._gateway.peer, "Google")
        if "error" in answer:
            self._refuse(answer)
        token, life = answer.get("access_token"), answer.get("expires_in")
        granted = frozenset(str(answer.get("scope", "")).split())
        if not isinstance(token, str) or type(life) is not int:
            raise Transient("Google's sign-in service sent an answer that cannot be read.")
        if not granted.issuperset(scopes):
            raise NeedsReauth("Google was not allowed to give this product all that it needs of the mailbox.")
        return Tokens(token, None, asked_at + timedelta(seconds=life), granted)

    def _refuse(self, answer: Mapping[str, Any]) -> NoReturn:
        """Translate an error answer (RFC 6749 section 5.2)."""
        error = str(answer["error"])[:40]
        if error in _ASK_PERSON:
            raise NeedsReauth("The permission to use the Google mailbox has ended.")
        if error in _LATER:
            raise Transient("Google's sign-in service is not available right now.")
        log.error("sign-in service refuses us", error=error)
        if error in _OUR_CREDENTIALS:
            raise Transient("Google's sign-in service does not accept this server; its administrator must renew its secret.")
        raise Rejected("Google's sign-in service refuses the request.")


def _raise_for(answer: Mapping[str, Any]) -> NoReturn:
    """Translate an error answer of Entra's token endpoint (RFC 6749 section 5.2, with Entra's AADSTS numbers)."""
    error, numbers = answer["error"], answer.get("error_codes") or [0]
    if error in _ASK_PERSON:
        reason = next((_REASONS[n] for n in numbers if n in _REASONS), "The sign-in to Microsoft 365 is no longer good.")
        raise NeedsReauth(f"{reason} Please sign in again.", claims=answer.get("claims"))
    if error in _LATER:
        raise Transient("Microsoft's sign-in service is not available right now.")
    log.error("sign-in service refuses us", error=error, number=numbers[0], trace=answer.get("trace_id"))
    if error in _OUR_CREDENTIALS:
        raise Transient("Microsoft's sign-in service does not accept this server; its administrator must renew its secret.")
    raise Rejected(f"Microsoft's sign-in service refuses the request ({error}, {numbers[0]}).")


@dataclass(frozen=True, slots=True)
class _Response:
    """What msal reads of an answer."""

    status_code: int
    text: str = field(repr=False)
    headers: Mapping[str, str]

    def raise_for_status(self) -> None:
        """Nothing to do: answers that msal would raise for do not get past the adapter."""


class _MsalHttp:
    """msal's http_client over our Gateway. An answer that is not JSON never reaches msal, which would log its text."""

    def __init__(self, gateway: Gateway, now: Callable[[], datetime]) -> None:
        self._gateway = gateway
        self._now = now
        self._lock = threading.Lock()
        self._metadata: dict[str, tuple[datetime, _Response]] = {}

    def post(
        self,
        url: str,
        params: Mapping[str, str] | None = None,
        data: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        **_ignored: Any,
    ) -> _Response:
        # Not a write in the Gateway's sense: on-behalf-of changes nothing, and Entra leaves a refresh token good when it is
        # used (refresh-tokens page), so an exchange whose answer was lost may simply be repeated.
        reply = self._gateway.send("POST", url, params=params, data=data, headers=headers, max_bytes=_MAX_BYTES, is_write=False)
        return self._judged(reply)

    def get(
        self, url: str, params: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None, **_ignored: Any
    ) -> _Response:
        """Fetch a tenant's metadata, kept for a day: each exchange has its own msal application, which asks anew."""
        with self._lock:
            kept = self._metadata.get(url)
        if kept is not None and kept[0] > self._now():
            return kept[1]
        response = self._judged(self._gateway.send("GET", url, params=params, headers=headers, max_bytes=_MAX_BYTES))
        if response.status_code != 200:
            raise Rejected("Microsoft's sign-in service does not know the organization.")
        with self._lock:
            if len(self._metadata) >= _CACHED_TENANTS:
                self._metadata.clear()
            self._metadata[url] = (self._now() + _METADATA_LIFE, response)
        return response

    def close(self) -> None:
        """Nothing to close; the Gateway is shared."""

    def _judged(self, reply: Reply) -> _Response:
        _readable(reply, self._gateway.peer, "Microsoft")
        return _Response(reply.status, reply.content.decode(), dict(reply.headers))


def _readable(reply: Reply, peer: str, whose: str) -> dict[str, Any]:
    """Return the JSON object that a sign-in service answered with, be it an error. Raises: Transient if it is none."""
    raise_for_busy(reply, peer, changes=False)
    try:
        answer = json.loads(reply.content.decode())
    except ValueError:
        answer = None
    if reply.status >= 500 or not isinstance(answer, dict):
        raise Transient(f"{whose}'s sign-in service sent an answer that cannot be read.")
    return answer
