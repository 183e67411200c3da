"""Sign-in at any OpenID provider, and what is the same at each: the requests of the authorisation code flow, through Authlib.

A tenant names its provider by the issuer alone; where its endpoints and keys are, the provider publishes (OpenID Connect
Discovery 1.0), which is kept for a day. The document must name the very issuer it was asked of, letter by letter, and lead to
https only. Authlib sends through our Gateway: proxy, authorities, deadlines and errors are the same as everywhere. Its client
for httpx is not used, since that one wants another httpx than ours.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NoReturn
from urllib.parse import urlencode, urlsplit

from authlib.oauth2 import OAuth2Client

from server.auth.flow import (
    MAX_BYTES,
    Begun,
    Granted,
    Kept,
    Person,
    SignInRefused,
    code_in,
    leads_browsers,
    readable,
    refusal,
    tokens_in,
)
from server.auth.identity import IdTokens, fetch_json
from server.errors import InvalidInput, Rejected
from server.transport import Gateway, Reply, raise_for_busy

_METADATA_LIFE = timedelta(hours=24)
_AUTH_METHODS = ("client_secret_post", "client_secret_basic")  # best first: how Basic encodes odd characters, servers disagree on


class CodeClient:
    """Our client at one provider's endpoints. Thread-safe. `whose` names the provider to people."""

    def __init__(
        self, client_id: str, client_secret: str, gateway: Gateway, *, whose: str, auth_method: str = "client_secret_post"
    ) -> None:
        self._client_id = client_id
        self._secret = client_secret
        self._gateway = gateway
        self._whose = whose
        self._auth_method = auth_method

    def url(self, authorization_url: str, kept: Kept, scope: str, **more: str) -> str:
        """Return where to send the browser; of `more`, what is empty is left out."""
        url, _ = self._client().create_authorization_url(
            authorization_url,
            state=kept.state,
            redirect_uri=kept.redirect_uri,
            scope=scope,
            nonce=kept.nonce,
            code_verifier=kept.verifier,  # of which it writes the challenge
            **{name: value for name, value in more.items() if value},
        )
        return str(url)

    def redeem(self, token_url: str, code: str, kept: Kept) -> Mapping[str, Any]:
        """Return what the code buys, as `readable` does. Raises: SignInRefused, Transient."""
        answer: Mapping[str, Any] = self._client().fetch_token(
            token_url, grant_type="authorization_code", code=code, redirect_uri=kept.redirect_uri, code_verifier=kept.verifier
        )
        return answer

    def revoke(self, revocation_url: str, token: str) -> Reply:
        """Return what the provider says to it (RFC 7009). Raises: Transient."""
        answer: _Answer = self._client().revoke_token(revocation_url, token=token, token_type_hint="refresh_token")  # noqa: S106  # no secret
        raise_for_busy(answer.reply, answer.peer, changes=False)
        return answer.reply

    def _client(self) -> Any:
        """A fresh one for each call, since it keeps the tokens that it sees."""
        methods = dict.fromkeys(("token_endpoint_auth_method", "revocation_endpoint_auth_method"), self._auth_method)
        session = _Session(self._gateway, self._whose)
        return OAuth2Client(session, self._client_id, self._secret, code_challenge_method="S256", **methods)


class Oidc:
    """The OpenID provider of one tenant, at which its people sign in to our pages. Implements CodeFlow. Thread-safe.

    Keep it for as long as the settings are the same: it holds what the provider says of itself. `begin` asks for "openid" and
    `scopes`; `tenant` means nothing here. Which scopes are granted is not compared: it is the ID token that counts.

    Raises: InvalidInput if `issuer` cannot be one.
    """

    def __init__(self, issuer: str, client_id: str, client_secret: str, gateway: Gateway, now: Callable[[], datetime]) -> None:
        if not _is_https(issuer) or "?" in issuer or "#" in issuer:
            raise InvalidInput("issuer", "must be an https address without query")
        self._issuer = issuer
        self._whose = urlsplit(issuer).hostname or issuer
        self._client_id = client_id
        self._client_secret = client_secret
        self._gateway = gateway
        self._now = now
        self._lock = threading.Lock()
        self._described: tuple[datetime, _Provider] | None = None

    def __repr__(self) -> str:
        return f"<Oidc {self._client_id} at {self._issuer}>"

    def begin(
        self, *, redirect_uri: str, scopes: Iterable[str], tenant: str = "", login_hint: str = "", fresh: bool = False
    ) -> Begun:
        provider = self._provider()
        kept = Kept.new(redirect_uri, scopes, tenant=tenant, fresh=fresh, now=self._now())
        scope = " ".join(dict.fromkeys(("openid", *kept.scopes)))
        anew = {"prompt": "login", "max_age": "0"} if fresh else {}
        url = provider.client.url(provider.authorization_url, kept, scope, login_hint=login_hint, **anew)
        return Begun(url, kept.state, kept.to_json())

    def finish(self, kept: str, answer: Mapping[str, str]) -> Granted:
        ours, provider = Kept.from_json(kept), self._provider()
        issuers = (self._issuer,)
        code = code_in(answer, ours, whose=self._whose, issuers=issuers, always_names_itself=provider.names_itself)
        asked_at = self._now()
        given = provider.client.redeem(provider.token_url, code, ours)
        claims = provider.id_tokens.verify(given.get("id_token", ""), issuers=issuers, nonce=ours.nonce, since=ours.must_be_since)
        tokens = tokens_in(given, asked_at, whose=self._whose, scopes=ours.scopes)
        return Granted(person_in(claims, tenant=self._issuer, subject=claims["sub"]), tokens)

    def revoke(self, refresh_token: str) -> None:
        provider = self._provider()
        if provider.revocation_url and not provider.client.revoke(provider.revocation_url, refresh_token).is_success:
            raise Rejected(f"{self._whose} does not revoke the token.")

    def _provider(self) -> _Provider:
        """Raises: SignInRefused, Transient. A document that is older than a day serves no longer."""
        with self._lock:  # one fetch serves all who wait
            if self._described is None or self._described[0] <= self._now():
                metadata = fetch_json(self._gateway, f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
                provider = self._read(metadata)
                self._described = (self._now() + _METADATA_LIFE, provider)
            return self._described[1]

    def _read(self, metadata: Mapping[str, Any]) -> _Provider:
        if metadata.get("issuer") != self._issuer:
            raise SignInRefused("issuer_mismatch", f"{self._whose} describes itself by another issuer.")
        urls = [metadata.get(name) for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")]
        revocation_url = metadata.get("revocation_endpoint")
        if not leads_browsers(urls[0]) or not all(_is_https(url) for url in (*urls[1:], revocation_url or self._issuer)):
            self._undescribed("endpoints")
        # Without a word of it a server takes Basic (Discovery 1.0 section 3).
        listed = metadata.get("token_endpoint_auth_methods_supported")
        offered = listed if isinstance(listed, list) and listed else ["client_secret_basic"]
        method = next((name for name in _AUTH_METHODS if name in offered), None)
        if method is None:
            self._undescribed("auth_methods")
        authorization_url, token_url, keys_url = map(str, urls)
        return _Provider(
            authorization_url=authorization_url,
            token_url=token_url,
            revocation_url=revocation_url,
            names_itself=metadata.get("authorization_response_iss_parameter_supported") is True,
            client=CodeClient(self._client_id, self._client_secret, self._gateway, whose=self._whose, auth_method=method),
            id_tokens=IdTokens(self._gateway, keys_url=keys_url, client_id=self._client_id, now=self._now),
        )

    def _undescribed(self, what: str) -> NoReturn:
        raise SignInRefused("failed", f"{self._whose} describes itself in a way that cannot be used ({what}).", error=what)


def person_in(claims: Mapping[str, Any], *, tenant: str, subject: str, address: str = "email") -> Person:
    """Return the person that verified claims tell of; an address that is said not to be verified is none."""
    said = {name: value for name in (address, "name") if isinstance(value := claims.get(name), str)}
    verified = claims.get("email_verified", True) in (True, "true")
    return Person(tenant, subject, said.get(address, "") if verified else "", said.get("name", ""), claims)


@dataclass(frozen=True, slots=True)
class _Provider:
    """What a provider says of itself, and what is made from that."""

    authorization_url: str
    token_url: str
    revocation_url: str | None
    names_itself: bool  # in each answer of its authorisation endpoint (RFC 9207)
    client: CodeClient
    id_tokens: IdTokens


@dataclass(frozen=True, slots=True)
class _Answer:
    """What Authlib reads of an answer. One that is an error, or cannot be read, is raised for here."""

    reply: Reply
    peer: str
    whose: str

    @property
    def status_code(self) -> int:
        return self.reply.status

    def json(self) -> dict[str, Any]:
        answer = readable(self.reply, self.peer, self.whose)
        if "error" in answer or not self.reply.is_success:
            raise refusal({"error": "unknown"} | answer, self.whose, redeeming=True)
        return answer

    def raise_for_status(self) -> None:
        """Raise for what is no answer at all; `json` does for the others."""
        readable(self.reply, self.peer, self.whose)


@dataclass(frozen=True, slots=True)
class _Session:
    """Authlib's session over our Gateway."""

    gateway: Gateway
    whose: str

    def post(
        self, url: str, data: Mapping[str, str], headers: Mapping[str, str] | None = None, auth: Any = None, **_none: Any
    ) -> _Answer:
        # The headers are Authlib's own, for all clients, and `prepare` writes the secret into them.
        url, all_headers, body = auth.prepare("POST", url, dict(headers or {}), urlencode(data))
        # Not a write in the Gateway's sense: what was lost on the way is begun anew, and a code works once in any case.
        reply = self.gateway.send("POST", url, headers=all_headers, content=body.encode(), max_bytes=MAX_BYTES, is_write=False)
        return _Answer(reply, self.gateway.peer, self.whose)


def _is_https(url: Any) -> bool:
    """Say whether we may ask there: by https, without a login in the address. Loopback is no exception."""
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
    except ValueError:
        return False
    return parts.scheme == "https" and bool(parts.hostname) and "@" not in parts.netloc
