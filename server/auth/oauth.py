"""Our clients at the sign-in services of mailboxes: Microsoft Entra's, through msal, and Google's.

Both sign people in by authorisation code (flow) and refresh what that gave; Entra also exchanges a token for our API (on behalf
of). msal keeps refresh tokens to itself, in its token cache; each call here gets a fresh application with a stand-in for that
cache, so nothing is shared between users. msal's transport is our Gateway: proxy, authorities and errors are the same as
everywhere. ID tokens it does not get to see: it would believe them, and we do not. Keeping and sharing of tokens is the
TokenVault's business.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NoReturn, Protocol

import msal

from server import logs
from server.auth.flow import (
    GUID,
    LATER,
    MAX_BYTES,
    OUR_CREDENTIALS,
    Begun,
    Granted,
    Kept,
    Person,
    SignInRefused,
    Tokens,
    check_granted,
    code_in,
    leads_browsers,
    readable,
    refusal,
    tokens_in,
)
from server.auth.identity import IdTokens
from server.auth.oidc import CodeClient, person_in
from server.errors import NeedsReauth, Rejected, Transient
from server.transport import Gateway, Reply

PERSONAL_TENANT = "9188040d-6c67-4c5b-b112-36a304b66dad"
"""The tenant of all personal Microsoft accounts, those of Outlook.com among them (Entra access-tokens page; outlook.md 2.3)."""

_METADATA_LIFE = timedelta(hours=24)
_CACHED_TENANTS = 1000
_ANY_TENANT = frozenset({"common", "organizations"})
_OF_EVERY_SIGN_IN = frozenset({"openid", "profile", "offline_access"})  # msal adds them, and wants to be the one who does
_ID_TOKEN = "unjudged_id_token"  # noqa: S105  # what an ID token is called where msal does not look for one

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


class SignIn(Protocol):
    """A service at which a refresh token buys access tokens."""

    def refresh(self, refresh_token: str, tenant: str, scopes: Iterable[str]) -> Tokens:
        """Get a new access token for all of `scopes`, and perhaps a new refresh token, which then replaces the old one.

        `tenant` is the connection's.

        Raises: NeedsReauth if the person must sign in or consent; Transient; Rejected if the service finds our request wrong.
        """

    def revoke(self, refresh_token: str) -> None:
        """Implements CodeFlow."""


class Entra:
    """Our application at Microsoft's sign-in service. Implements SignIn and CodeFlow. Thread-safe.

    `authority` is the sign-in origin without tenant.
    """

    def __init__(self, authority: str, client_id: str, client_secret: str, gateway: Gateway, now: Callable[[], datetime]) -> None:
        self._authority = authority.rstrip("/")
        self._client_id = client_id
        self._client_secret = client_secret
        self._now = now
        self._http = _MsalHttp(gateway, now, self._check_described)
        self._client = CodeClient(client_id, client_secret, gateway, whose="Microsoft")
        keys_url = f"{self._authority}/common/discovery/v2.0/keys"  # those of every tenant
        self._id_tokens = IdTokens(gateway, keys_url=keys_url, client_id=client_id, now=now)

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

    def begin(
        self, *, redirect_uri: str, scopes: Iterable[str], tenant: str = "", login_hint: str = "", fresh: bool = False
    ) -> Begun:
        """Implements CodeFlow. `tenant` is a tenant id (lower case), or "organizations", "consumers" (personal accounts, those of
        Outlook.com among them) or "common" (the default: both). For `fresh` the application's registration has to ask for the
        optional claim `auth_time` (optional-claims-reference page).
        """
        place = tenant or "common"
        if place not in _ANY_TENANT | {"consumers"} and not GUID.fullmatch(place):
            raise _unknown_tenant()
        kept = Kept.new(redirect_uri, sorted({*scopes} - _OF_EVERY_SIGN_IN), tenant=place, fresh=fresh, now=self._now())
        # msal's own way to make the address warns unless the answer comes as a POST, which a cookie of ours would not go with.
        url = self._client.url(
            self._application(place, _Given()).authority.authorization_endpoint,
            kept,
            " ".join(sorted({*kept.scopes} | _OF_EVERY_SIGN_IN)),
            response_mode="query",
            prompt="login" if fresh else "select_account",  # or whoever is signed in already would be taken
            login_hint=login_hint,
            max_age="0" if fresh else "",
        )
        return Begun(url, kept.state, kept.to_json())

    def finish(self, kept: str, answer: Mapping[str, str]) -> Granted:
        """Implements CodeFlow. Guests, who have no mailbox where they are guests, are refused."""
        ours = Kept.from_json(kept)
        issuers = self._issuers(ours.tenant)
        code = code_in(answer, ours, whose="Microsoft", issuers=issuers)
        flow = {"state": ours.state, "redirect_uri": ours.redirect_uri, "scope": [*ours.scopes, *_OF_EVERY_SIGN_IN]}
        flow |= {"code_verifier": ours.verifier}
        cache, asked_at = _Given(), self._now()
        app = self._application(ours.tenant, cache)
        given = app.acquire_token_by_auth_code_flow(flow, {"state": ours.state, "code": code})
        if "error" in given:
            raise refusal(given, "Microsoft", redeeming=True)
        claims = self._id_tokens.verify(given.get(_ID_TOKEN, ""), issuers=issuers, nonce=ours.nonce, since=ours.must_be_since)
        person = self._person(claims, ours.tenant)
        tokens = replace(tokens_in(given, asked_at, whose="Microsoft", scopes=ours.scopes), refresh_token=cache.refresh_token)
        check_granted(tokens.scopes, ours.scopes, "Microsoft")
        return Granted(person, tokens)

    def _person(self, claims: Mapping[str, Any], place: str) -> Person:
        tenant, subject = claims.get("tid"), claims.get("oid")
        if claims["iss"] != f"{self._authority}/{tenant}/v2.0" or not GUID.fullmatch(str(subject)):
            raise SignInRefused("token_refused", "The ID token of Microsoft names no tenant or person.")
        # `idp` is there when somebody else than the tenant vouches for the account (id-token-claims-reference page).
        is_guest = str(tenant) not in str(claims.get("idp", tenant))
        if is_guest or (tenant == PERSONAL_TENANT and place == "organizations"):
            raise SignInRefused("account_unusable", "The account belongs to another organization, or to none.")
        return person_in(claims, tenant=str(tenant), subject=str(subject), address="preferred_username")

    def revoke(self, refresh_token: str) -> None:
        """Implements CodeFlow. Entra has no such call for one token: Graph's revokeSignInSessions ends all of a person's."""

    def _ask(self, tenant: str, question: Callable[[Any], dict[str, Any]]) -> Tokens:
        cache, asked_at = _Given(), self._now()
        answer = question(self._application(tenant, cache))
        if "error" in answer:
            _raise_for(answer)
        return replace(tokens_in(answer, asked_at, whose="Microsoft", scopes=()), refresh_token=cache.refresh_token)

    def _application(self, tenant: str, cache: _Given) -> Any:
        return msal.ConfidentialClientApplication(
            self._client_id,
            client_credential=self._client_secret,
            authority=f"{self._authority}/{tenant}",
            instance_discovery=False,  # it would ask login.microsoftonline.com whether it knows our authority
            http_client=self._http,
            token_cache=cache,
        )

    def _issuers(self, tenant: str) -> Collection[str]:
        """Return what the service calls itself at a tenant's endpoints; {tenantid} where accounts of many sign in."""
        name = "{tenantid}" if tenant in _ANY_TENANT else PERSONAL_TENANT if tenant == "consumers" else tenant
        return (f"{self._authority}/{name}/v2.0",)

    def _check_described(self, url: str, metadata: Mapping[str, Any]) -> None:
        """Raises: SignInRefused unless the metadata at this address name the issuer asked for, and stay with our authority."""
        tenant = url.removeprefix(f"{self._authority}/").partition("/")[0]
        pages, tokens = (str(metadata.get(name)) for name in ("authorization_endpoint", "token_endpoint"))
        is_own_machine = pages.startswith("http:") and leads_browsers(pages)
        is_ours = tokens.startswith(f"{self._authority}/") and (is_own_machine or pages.startswith(f"{self._authority}/"))
        if metadata.get("issuer") not in self._issuers(tenant) or not is_ours:
            raise SignInRefused("issuer_mismatch", "Microsoft's sign-in service describes itself by another issuer.")


class Google:
    """Our OAuth client at Google. Implements SignIn and CodeFlow. Thread-safe.

    A refresh has no new refresh token in its answer; a grant that ended for whatever reason (revoked, unused for six months,
    password changed, ended by the organization) is one `invalid_grant` (gmail.md 5).
    """

    def __init__(
        self,
        token_url: str,
        client_id: str,
        client_secret: str,
        gateway: Gateway,
        now: Callable[[], datetime],
        *,
        auth_url: str = "https://accounts.google.com/o/oauth2/v2/auth",
        revoke_url: str = "https://oauth2.googleapis.com/revoke",
        keys_url: str = "https://www.googleapis.com/oauth2/v3/certs",
        issuer: str = "https://accounts.google.com",
    ) -> None:
        self._token_url = token_url
        self._client_id = client_id
        self._client_secret = client_secret
        self._gateway = gateway
        self._now = now
        self._auth_url = auth_url
        self._revoke_url = revoke_url
        self._issuers = (issuer, issuer.removeprefix("https://"))  # a token may have either (OpenID Connect page)
        self._client = CodeClient(client_id, client_secret, gateway, whose="Google")
        self._id_tokens = IdTokens(gateway, keys_url=keys_url, client_id=client_id, now=now)

    def __repr__(self) -> str:
        return f"<Google {self._client_id} at {self._token_url}>"

    def refresh(self, refresh_token: str, tenant: str, scopes: Iterable[str]) -> Tokens:
        """Implements SignIn. People choose on Google's page what they allow: a grant that lacks one of `scopes` is none."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        form |= {"client_id": self._client_id, "client_secret": self._client_secret}
        asked_at = self._now()
        # Not a write in the Gateway's sense: the refresh token stays good, so an exchange whose answer was lost may be repeated.
        reply = self._gateway.send("POST", self._token_url, data=form, max_bytes=MAX_BYTES, is_write=False)
        answer = readable(reply, self._gateway.peer, "Google")
        if "error" in answer:
            self._refuse(answer)
        token, life = answer.get("access_token"), answer.get("expires_in")
        granted = frozenset(str(answer.get("scope", "")).split())
        if not isinstance(token, str) or type(life) is not int:
            raise Transient("Google's sign-in service sent an answer that cannot be read.")
        if not granted.issuperset(scopes):
            raise NeedsReauth("Google was not allowed to give this product all that it needs of the mailbox.")
        return Tokens(token, None, asked_at + timedelta(seconds=life), granted)

    def begin(
        self, *, redirect_uri: str, scopes: Iterable[str], tenant: str = "", login_hint: str = "", fresh: bool = False
    ) -> Begun:
        """Implements CodeFlow. `tenant` is the domain of a Workspace whose accounts are offered; any may be chosen.

        Lasting access comes only with a fresh consent, which the page asks for each time. Google does not say when somebody
        authenticated, so that `finish` refuses everybody who was to do it `fresh`.
        """
        kept = Kept.new(redirect_uri, scopes, tenant=tenant, fresh=fresh, now=self._now())
        url = self._client.url(
            self._auth_url,
            kept,
            " ".join(dict.fromkeys(("openid", "email", "profile", *kept.scopes))),
            access_type="offline",
            prompt="select_account consent",  # it knows no "login"
            include_granted_scopes="true",
            login_hint=login_hint,
            hd=tenant,
            max_age="0" if fresh else "",
        )
        return Begun(url, kept.state, kept.to_json())

    def finish(self, kept: str, answer: Mapping[str, str]) -> Granted:
        """Implements CodeFlow. People choose on Google's page what they allow: a grant that lacks a scope is refused."""
        ours = Kept.from_json(kept)
        code = code_in(answer, ours, whose="Google", issuers=self._issuers)
        asked_at = self._now()
        given = self._client.redeem(self._token_url, code, ours)
        claims = self._id_tokens.verify(
            given.get("id_token", ""), issuers=self._issuers, nonce=ours.nonce, since=ours.must_be_since
        )
        tokens = tokens_in(given, asked_at, whose="Google", scopes=ours.scopes)
        check_granted(tokens.scopes, ours.scopes, "Google")
        return Granted(person_in(claims, tenant=str(claims.get("hd", "")), subject=claims["sub"]), tokens)

    def revoke(self, refresh_token: str) -> None:
        """Implements CodeFlow. It ends all that the person ever granted to this client."""
        reply = self._client.revoke(self._revoke_url, refresh_token)
        if not reply.is_success and readable(reply, self._gateway.peer, "Google").get("error") != "invalid_token":
            raise Rejected("Google's sign-in service does not revoke the token.")

    def _refuse(self, answer: Mapping[str, Any]) -> NoReturn:
        """Translate an error answer (RFC 6749 section 5.2)."""
        error = str(answer["error"])[:40]
        if error in _ASK_PERSON:
            raise NeedsReauth("The permission to use the Google mailbox has ended.")
        if error in LATER:
            raise Transient("Google's sign-in service is not available right now.")
        log.error("sign-in service refuses us", error=error)
        if error in OUR_CREDENTIALS:
            raise Transient("Google's sign-in service does not accept this server; its administrator must renew its secret.")
        raise Rejected("Google's sign-in service refuses the request.")


def _raise_for(answer: Mapping[str, Any]) -> NoReturn:
    """Translate an error answer of Entra's token endpoint (RFC 6749 section 5.2, with Entra's AADSTS numbers)."""
    error, numbers = answer["error"], answer.get("error_codes") or [0]
    if error in _ASK_PERSON:
        reason = next((_REASONS[n] for n in numbers if n in _REASONS), "The sign-in to Microsoft 365 is no longer good.")
        raise NeedsReauth(f"{reason} Please sign in again.", claims=answer.get("claims"))
    if error in LATER:
        raise Transient("Microsoft's sign-in service is not available right now.")
    log.error("sign-in service refuses us", error=error, number=numbers[0], trace=answer.get("trace_id"))
    if error in OUR_CREDENTIALS:
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

    def __init__(
        self, gateway: Gateway, now: Callable[[], datetime], check_described: Callable[[str, Mapping[str, Any]], None]
    ) -> None:
        self._gateway = gateway
        self._now = now
        self._check_described = check_described  # raises for metadata that are not good
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
        # used (refresh-tokens page), so an exchange whose answer was lost may simply be repeated; a code works once anyway.
        reply = self._gateway.send("POST", url, params=params, data=data, headers=headers, max_bytes=MAX_BYTES, is_write=False)
        return self._judged(reply)

    def get(
        self, url: str, params: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None, **_ignored: Any
    ) -> _Response:
        """Fetch a tenant's metadata, kept for a day: each exchange has its own msal application, which asks anew."""
        with self._lock:
            kept = self._metadata.get(url)
        if kept is not None and kept[0] > self._now():
            return kept[1]
        response = self._judged(self._gateway.send("GET", url, params=params, headers=headers, max_bytes=MAX_BYTES))
        if response.status_code != 200:
            raise _unknown_tenant()
        self._check_described(url, json.loads(response.text))
        with self._lock:
            if len(self._metadata) >= _CACHED_TENANTS:
                self._metadata.clear()
            self._metadata[url] = (self._now() + _METADATA_LIFE, response)
        return response

    def close(self) -> None:
        """Nothing to close; the Gateway is shared."""

    def _judged(self, reply: Reply) -> _Response:
        answer = readable(reply, self._gateway.peer, "Microsoft")
        if "id_token" in answer:
            answer[_ID_TOKEN] = answer.pop("id_token")
        return _Response(reply.status, json.dumps(answer), dict(reply.headers))


def _unknown_tenant() -> SignInRefused:
    return SignInRefused("failed", "Microsoft's sign-in service does not know the organization.", error="invalid_tenant")


class _Given(msal.TokenCache):  # type: ignore[misc]  # msal has no types
    """Stands where msal has its token cache, and keeps of what comes only the refresh token, which msal shows nowhere else.

    The cache itself logs what it adds, code and verifier included.
    """

    def __init__(self) -> None:
        super().__init__()
        self.refresh_token: str | None = None

    def add(self, event: Mapping[str, Any], now: float | None = None) -> None:
        self.refresh_token = event["response"].get("refresh_token") or None
