"""Sign-in services on the wire: one shaped like Microsoft Entra (any tenant path), one like the identity service before C4C.

Both give OpenID discovery, keys, the authorisation code flow with PKCE (S256 only) behind a page on which one picks a person,
and refresh tokens. The Entra shape adds on-behalf-of, its error bodies with AADSTS numbers, and access tokens for our own API
and for Graph. `IdentityProvider` is the back door: mint a token, rotate the keys, revoke, disable, withdraw consent.

What was handed out lies in the tokens themselves (refresh tokens are signed, so they survive a restart when `state_dir` keeps
the keys); what was used up or revoked is remembered per World. Not simulated: passwords, MFA, app-only tokens, v1 tokens for us.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import uuid
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, cast
from urllib.parse import urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from flask import Flask, Response, g, jsonify, redirect, render_template_string, request
from jwt.algorithms import RSAAlgorithm
from werkzeug.wrappers import Response as AnyResponse

from simulator.serving import watch
from simulator.world import GetWorld, Person, World

GRAPH = "https://graph.microsoft.com"
GRAPH_SCOPES = ("Mail.ReadWrite", "MailboxSettings.ReadWrite", "Contacts.ReadWrite", "User.Read")
API_SCOPE = "access_as_user"
CODE_LIFE = timedelta(minutes=10)
REFRESH_LIFE = timedelta(days=90)
ON_BEHALF_OF = "urn:ietf:params:oauth:grant-type:jwt-bearer"

_GRAPH_KNOWN = frozenset(GRAPH_SCOPES) | {"Mail.Read", "MailboxSettings.Read", "Contacts.Read", "Calendars.ReadWrite"}
_OIDC = frozenset({"openid", "profile", "email", "offline_access"})
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_ANY_TENANT = frozenset({"common", "organizations"})


class OAuthError(Exception):
    """An answer of the token or authorisation endpoint that is not a token. `number` is Entra's AADSTS number, else 0."""

    def __init__(
        self, error: str, text: str, *, number: int = 0, status: int = 400, suberror: str = "", claims: str = ""
    ) -> None:
        super().__init__(text)
        self.error, self.text, self.number, self.status = error, text, number, status
        self.suberror, self.claims = suberror, claims

    def body(self, world: World) -> dict[str, Any]:
        """The JSON body; for Entra with the members of its error reference (reference-error-codes)."""
        if not self.number:
            return {"error": self.error, "error_description": self.text}
        stamp, trace, correlation = world.now().strftime("%Y-%m-%d %H:%M:%SZ"), str(uuid.uuid4()), str(uuid.uuid4())
        text = f"AADSTS{self.number}: {self.text} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {stamp}"
        body: dict[str, Any] = {"error": self.error, "error_description": text, "error_codes": [self.number]}
        body |= {"timestamp": stamp, "trace_id": trace, "correlation_id": correlation}
        body |= {"error_uri": f"https://login.microsoftonline.com/error?code={self.number}"}
        body |= {"suberror": self.suberror} if self.suberror else {}
        return body | ({"claims": self.claims} if self.claims else {})


class KeyRing:
    """The RSA keys of one issuer: the last one signs, the one before it is still published."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._keys: list[tuple[str, rsa.RSAPrivateKey]] = []
        self._only_for: dict[str, str] = {}  # kid -> issuer
        self.secret = secrets.token_bytes(32)  # signs refresh tokens, which nobody else reads
        if file is not None and file.exists():
            kept = json.loads(file.read_text())
            self.secret = base64.b64decode(kept["secret"])
            self._keys = [(_kid(key), key) for key in map(_read_key, kept["keys"])]
        else:
            self.rotate()

    def rotate(self, only_for: str | None = None) -> str:
        """Sign with a new key from now on; returns its `kid`. With `only_for` it is published as good for that issuer alone."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._keys = [*self._keys[-1:], (_kid(key), key)]
        self._only_for = {_kid(key): only_for} if only_for else {}
        if self._file is not None:
            kept = {"secret": base64.b64encode(self.secret).decode(), "keys": [_write_key(key) for _, key in self._keys]}
            handle = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "w") as file:
                json.dump(kept, file)
        return self._keys[-1][0]

    def sign(self, claims: dict[str, Any], headers: dict[str, Any] | None = None) -> str:
        kid, key = self._keys[-1]
        return jwt.encode(claims, key, algorithm="RS256", headers={"kid": kid} | (headers or {}))

    def read(self, token: str) -> dict[str, Any] | None:
        """The claims of a token that one of the published keys signed; times are not looked at. None for any other."""
        for _, key in reversed(self._keys):
            try:
                return jwt.decode(token, key.public_key(), algorithms=["RS256"], options=_SIGNATURE_ONLY)
            except jwt.PyJWTError:
                continue
        return None

    def jwks(self, issuer: str | None = None) -> dict[str, Any]:
        """The public keys; Entra's carry the `issuer` they are good for, which may hold {tenantid} (access-tokens page)."""
        keys = []
        for kid, key in self._keys:
            good_for = self._only_for.get(kid, issuer)
            own = {"use": "sig", "kid": kid} | ({"issuer": good_for} if good_for else {})
            keys.append(RSAAlgorithm.to_jwk(key.public_key(), as_dict=True) | own)
        return {"keys": keys}


_SIGNATURE_ONLY: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False, "require": []}


@dataclass(slots=True)
class _Code:
    person: Person
    redirect_uri: str
    challenge: str
    scopes: tuple[str, ...]
    nonce: str
    expires_at: float  # seconds since the epoch
    family: str  # of the refresh tokens that come from this code
    used: bool = False


@dataclass(slots=True)
class _Memory:
    """What a World's sign-in service remembers. Keys are `oid`s unless told."""

    codes: dict[str, _Code] = field(default_factory=dict)
    sessions: dict[str, int] = field(default_factory=dict)  # how often the person's sessions were revoked
    disabled: set[str] = field(default_factory=set)
    without_consent: set[str] = field(default_factory=set)
    challenges: dict[str, str] = field(default_factory=dict)  # claims that a policy asks of the person
    used_refresh: set[str] = field(default_factory=set)  # jti
    dead_families: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token for Graph allows."""

    person: Person
    scopes: frozenset[str]  # short names, "Mail.ReadWrite"


class _Issuer:
    """What both shapes share: code, PKCE, client authentication, refresh. A shape gives claims, scopes and error numbers."""

    name: ClassVar[str]
    single_use_refresh: bool  # a used refresh token, presented again, ends its family
    has_numbers: ClassVar[bool]  # whether refusals carry AADSTS numbers

    def __init__(self, get_world: GetWorld, url: Callable[[], str], ring: KeyRing) -> None:
        self.get_world, self.url, self.ring = get_world, url, ring
        self._memories: weakref.WeakKeyDictionary[World, _Memory] = weakref.WeakKeyDictionary()

    def tokens(self, person: Person, scopes: tuple[str, ...], nonce: str) -> dict[str, Any]:
        """The members of a token answer that depend on the shape."""
        raise NotImplementedError

    def check_scopes(self, scopes: tuple[str, ...]) -> None:
        raise NotImplementedError

    @property
    def world(self) -> World:
        return self.get_world()

    @property
    def memory(self) -> _Memory:
        return self._memories.setdefault(self.world, _Memory())

    def refuse(self, number: int, error: str, text: str, *, status: int = 400, **more: str) -> OAuthError:
        """An error with its AADSTS number (reference-error-codes page), which only the Entra shape shows."""
        return OAuthError(error, text, number=number if self.has_numbers else 0, status=status, **more)

    def session(self, person: Person) -> str:
        """The `sid` of the person's present session; revoking gives a new one, which makes older tokens worthless."""
        count = self.memory.sessions.get(person.object_id, 0)
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.name}:{person.object_id}:{count}"))

    def check_person(self, person: Person | None, session: str) -> Person:
        if person is None or person.object_id in self.memory.disabled:
            raise self.refuse(50057, "invalid_grant", "The user account is disabled.")
        if session != self.session(person):
            raise self.refuse(50173, "invalid_grant", "The grant was revoked; a fresh sign-in is needed.", suberror="bad_token")
        return person

    def new_code(self, person: Person, asked: dict[str, str]) -> str:
        self.check_person(person, self.session(person))
        code = "1." + secrets.token_urlsafe(32)
        until = (self.world.now() + CODE_LIFE).timestamp()
        scopes, family = tuple(asked["scope"].split()), secrets.token_hex(8)
        self.memory.codes[code] = _Code(
            person, asked["redirect_uri"], asked["code_challenge"], scopes, asked.get("nonce", ""), until, family
        )
        return code

    def check_request(self, asked: dict[str, str]) -> None:
        """Judge an authorisation request whose redirect address is good already."""
        if asked.get("response_type") != "code":
            raise self.refuse(700054, "unsupported_response_type", "Only response_type=code is supported.")
        if asked.get("code_challenge_method") != "S256" or len(asked.get("code_challenge", "")) != 43:
            raise self.refuse(9002325, "invalid_request", "A code_challenge by method S256 is required.")
        if asked.get("prompt") == "none":
            raise self.refuse(50058, "login_required", "Nobody is signed in.")
        self.check_scopes(tuple(asked.get("scope", "").split()))

    def check_client(self, form: dict[str, str]) -> None:
        given, secret = form.get("client_id", ""), form.get("client_secret", "")
        if request.authorization is not None and request.authorization.type == "basic":
            given, secret = request.authorization.username or "", request.authorization.password or ""
        if given != self.world.client_id:
            raise self.refuse(700016, "unauthorized_client", f"Application with identifier '{given}' was not found.")
        if not secrets.compare_digest(secret.encode(), self.world.client_secret.encode()):
            raise self.refuse(7000215, "invalid_client", "Invalid client secret provided.", status=401)

    def redeem(self, form: dict[str, str]) -> dict[str, Any]:
        """Answer a token request. Hold the World's lock."""
        self.check_client(form)
        grant_type = form.get("grant_type", "")
        if grant_type == "authorization_code":
            return self._redeem_code(form)
        if grant_type == "refresh_token":
            return self._redeem_refresh(form)
        raise self.refuse(70003, "unsupported_grant_type", "The grant type is not supported over this endpoint.")

    def answer(self, person: Person, scopes: tuple[str, ...], *, grant: str, family: str, nonce: str = "") -> dict[str, Any]:
        g.actor = person.email
        body = {"token_type": "Bearer", "scope": " ".join(s for s in scopes if s != "offline_access"), "expires_in": 3600}
        body |= self.tokens(person, scopes, nonce)
        if "offline_access" in scopes:
            body["refresh_token"] = self._refresh_token(person, family)
        self.world.happened("identity", "token", person.email, issuer=self.name, grant=grant, scopes=scopes)
        return body

    def _redeem_code(self, form: dict[str, str]) -> dict[str, Any]:
        code = self.memory.codes.get(form.get("code", ""))
        if code is None or code.expires_at < self.world.now().timestamp():
            raise self.refuse(70008, "invalid_grant", "The provided authorization code has expired or is invalid.")
        if code.used:
            self.memory.dead_families.add(code.family)
            raise self.refuse(54005, "invalid_grant", "The authorization code was already redeemed.")
        if form.get("redirect_uri") != code.redirect_uri:
            raise self.refuse(500112, "invalid_grant", "The redirect address is not the one of the authorization request.")
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if not secrets.compare_digest(_b64(digest).encode(), code.challenge.encode()):
            raise self.refuse(501481, "invalid_grant", "The code_verifier does not match the code_challenge.")
        code.used = True
        person = self.check_person(code.person, self.session(code.person))
        return self.answer(person, code.scopes, grant="authorization_code", family=code.family, nonce=code.nonce)

    def _redeem_refresh(self, form: dict[str, str]) -> dict[str, Any]:
        try:
            kept = jwt.decode(form.get("refresh_token", ""), self.ring.secret, algorithms=["HS256"], options=_SIGNATURE_ONLY)
        except jwt.PyJWTError:
            raise self.refuse(9002313, "invalid_grant", "The refresh token is malformed or not ours.") from None
        memory = self.memory
        if self.single_use_refresh and kept["jti"] in memory.used_refresh:
            memory.dead_families.add(kept["family"])
        if kept["family"] in memory.dead_families or kept["jti"] in memory.dead_families:
            raise self.refuse(50173, "invalid_grant", "The grant was revoked; a fresh sign-in is needed.", suberror="bad_token")
        if kept["exp"] < self.world.now().timestamp():
            raise self.refuse(700082, "invalid_grant", "The refresh token has expired due to inactivity.")
        person = self.check_person(self.world.person(kept["oid"]), kept["sid"])
        scopes = tuple(form.get("scope", "").split()) or tuple(kept.get("scopes", ("openid", "offline_access")))
        self.check_scopes(scopes)
        memory.used_refresh.add(kept["jti"])
        return self.answer(person, scopes, grant="refresh_token", family=kept["family"])

    def _refresh_token(self, person: Person, family: str) -> str:
        until = int((self.world.now() + REFRESH_LIFE).timestamp())
        claims = {
            "jti": secrets.token_hex(8),
            "family": family,
            "oid": person.object_id,
            "sid": self.session(person),
            "exp": until,
        }
        return jwt.encode(claims, self.ring.secret, algorithm="HS256")


class _Entra(_Issuer):
    """Microsoft's shape: `{url}/{tid}/v2.0`. A used refresh token stays good, as it does at Microsoft (refresh-tokens page)."""

    name = "microsoft"
    has_numbers = True
    single_use_refresh = False

    def issuer(self, tid: str) -> str:
        return f"{self.url()}/{'{tenantid}' if tid in _ANY_TENANT else tid}/v2.0"

    def check_tenant(self, tid: str) -> None:
        if tid not in _ANY_TENANT | {self.world.entra_tenant}:
            raise self.refuse(90002, "invalid_tenant", f"Tenant '{tid}' not found.")

    def discovery(self, tid: str) -> dict[str, Any]:
        here = f"{self.url()}/{tid}"
        return {
            "issuer": self.issuer(tid),
            "authorization_endpoint": f"{here}/oauth2/v2.0/authorize",
            "token_endpoint": f"{here}/oauth2/v2.0/token",
            "jwks_uri": f"{here}/discovery/v2.0/keys",
            "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
            "claims_supported": ["sub", "iss", "aud", "exp", "iat", "nonce", "preferred_username", "name", "tid", "ver"],
            "request_uri_parameter_supported": False,
        }

    def check_scopes(self, scopes: tuple[str, ...]) -> None:
        self.resource(scopes)

    def resource(self, scopes: Iterable[str]) -> tuple[str, tuple[str, ...]]:
        """The audience and the short scope names of what is asked for; only sign-in scopes mean Graph's User.Read."""
        wanted: dict[str, list[str]] = {}
        for scope in scopes:
            resource, _, short = scope.rpartition("/")
            if resource.endswith(self.world.client_id) and short in (API_SCOPE, ".default"):
                wanted.setdefault(self.world.client_id, []).append(API_SCOPE)
            elif resource in ("", GRAPH) and (short in _GRAPH_KNOWN or short == ".default"):
                wanted.setdefault(GRAPH, []).extend(GRAPH_SCOPES if short == ".default" else [short])
            elif scope not in _OIDC:
                raise self.refuse(70011, "invalid_scope", f"The provided value for scope '{scope}' is not valid.")
        if len(wanted) > 1:
            raise self.refuse(28000, "invalid_scope", "The scopes belong to more than one resource.")
        audience, names = next(iter(wanted.items()), (GRAPH, ["User.Read"]))
        return audience, tuple(dict.fromkeys(names))

    def tokens(self, person: Person, scopes: tuple[str, ...], nonce: str) -> dict[str, Any]:
        audience, names = self.resource(scopes)
        self._check_policy(person, audience)
        body: dict[str, Any] = {"ext_expires_in": 3600}
        if audience == GRAPH:
            body["access_token"] = self.ring.sign(self.graph_claims(person, names, 3600))
        else:
            body["access_token"] = self.ring.sign(self.api_claims(person, 3600))
        if "openid" in scopes:
            body["id_token"] = self.ring.sign(self.id_claims(person, nonce))
        client_info = {"uid": person.object_id, "utid": self.world.entra_tenant}
        return body | {"client_info": _b64(json.dumps(client_info).encode())}

    def _check_policy(self, person: Person, audience: str) -> None:
        if audience == GRAPH and person.object_id in self.memory.without_consent:
            text = f"The user or administrator has not consented to use the application with ID '{self.world.client_id}'."
            raise self.refuse(65001, "invalid_grant", text, suberror="consent_required")
        claims = self.memory.challenges.get(person.object_id)
        if claims:
            text = "Due to a policy of the administrator, multi-factor authentication is needed."
            raise self.refuse(50076, "interaction_required", text, suberror="basic_action", claims=claims)

    def redeem_at(self, tid: str, form: dict[str, str]) -> dict[str, Any]:
        self.check_tenant(tid)
        if form.get("grant_type") != ON_BEHALF_OF:
            return self.redeem(form)
        self.check_client(form)
        if form.get("requested_token_use") != "on_behalf_of" or not form.get("scope"):
            raise self.refuse(900144, "invalid_request", "The body must contain 'requested_token_use' and 'scope'.")
        scopes = tuple(form["scope"].split())
        self.check_scopes(scopes)
        person = self._asserted(form.get("assertion", ""), tid)
        return self.answer(person, scopes, grant="on_behalf_of", family=secrets.token_hex(8))

    def _asserted(self, assertion: str, tid: str) -> Person:
        """The person for whom one of our own access tokens was given, as long as it may be exchanged."""
        claims = self.ring.read(assertion)
        if claims is None or (tid not in _ANY_TENANT and claims.get("iss") != self.issuer(tid)):
            raise self.refuse(50013, "invalid_grant", "The assertion failed signature validation.")
        if claims.get("aud") != self.world.client_id or "scp" not in claims:
            raise self.refuse(500131, "invalid_grant", "Assertion audience does not match the app presenting the assertion.")
        if not claims["nbf"] - 300 <= self.world.now().timestamp() < claims["exp"]:
            raise self.refuse(500133, "invalid_grant", "Assertion is not within its valid time range.")
        return self.check_person(self.world.person(claims["oid"]), claims.get("sid", ""))

    def _claims(self, person: Person, lifetime_s: float) -> dict[str, Any]:
        now = int(self.world.now().timestamp())
        claims = {"iat": now, "nbf": now, "exp": int(now + lifetime_s), "name": person.name, "oid": person.object_id}
        pairwise = hashlib.sha256(f"{self.world.client_id}:{person.object_id}".encode()).digest()
        claims |= {"sub": _b64(pairwise), "tid": self.world.entra_tenant, "sid": self.session(person)}
        return claims | {"uti": secrets.token_urlsafe(16)}

    def api_claims(self, person: Person, lifetime_s: float) -> dict[str, Any]:
        """Claims of a v2 access token for our API (access-token-claims-reference page)."""
        own = {"aud": self.world.client_id, "iss": self.issuer(self.world.entra_tenant), "ver": "2.0", "azpacr": "0"}
        own |= {"azp": self.world.client_id, "scp": API_SCOPE, "preferred_username": person.email}
        return self._claims(person, lifetime_s) | own

    def graph_claims(self, person: Person, names: Iterable[str], lifetime_s: float) -> dict[str, Any]:
        """Graph's own tokens are of version 1.0 and name Microsoft's older issuer; nobody but Graph may read them."""
        own = {"aud": GRAPH, "iss": f"https://sts.windows.net/{self.world.entra_tenant}/", "ver": "1.0", "upn": person.email}
        return self._claims(person, lifetime_s) | own | {"appid": self.world.client_id, "scp": " ".join(names)}

    def id_claims(self, person: Person, nonce: str) -> dict[str, Any]:
        own = {"aud": self.world.client_id, "iss": self.issuer(self.world.entra_tenant), "ver": "2.0"}
        own |= {"preferred_username": person.email, "email": person.email} | ({"nonce": nonce} if nonce else {})
        return self._claims(person, 3600) | own


class _C4CSignIn(_Issuer):
    """The service at which people sign in to C4C's pages; subject is the C4C UserID. Refresh tokens work once (RFC 9700)."""

    name = "c4c"
    has_numbers = False
    single_use_refresh = True

    @property
    def issuer(self) -> str:
        return f"{self.url()}/c4c"

    def discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/oauth2/authorize",
            "token_endpoint": f"{self.issuer}/oauth2/token",
            "jwks_uri": f"{self.issuer}/oauth2/certs",
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "scopes_supported": sorted(_OIDC),
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        }

    def check_scopes(self, scopes: tuple[str, ...]) -> None:
        if "openid" not in scopes or not _OIDC.issuperset(scopes):
            raise self.refuse(70011, "invalid_scope", "Ask for openid, and at most profile, email and offline_access besides.")

    def tokens(self, person: Person, scopes: tuple[str, ...], nonce: str) -> dict[str, Any]:
        now = int(self.world.now().timestamp())
        claims: dict[str, Any] = {"iss": self.issuer, "sub": person.user_id, "aud": self.world.client_id}
        claims |= {"iat": now, "exp": now + 3600, "jti": secrets.token_hex(8)}
        identity = claims | ({"name": person.name} if "profile" in scopes else {})
        identity |= ({"email": person.email} if "email" in scopes else {}) | ({"nonce": nonce} if nonce else {})
        return {
            "access_token": self.ring.sign(claims | {"scope": " ".join(scopes)}, {"typ": "at+jwt"}),
            "id_token": self.ring.sign(identity),
        }


class IdentityProvider:
    """Both issuers and their back door. Everything is about the World of the moment."""

    def __init__(self, get_world: GetWorld, *, public_url: Callable[[], str], state_dir: Path | None = None) -> None:
        def ring(name: str) -> KeyRing:
            return KeyRing(state_dir / f"identity-{name}.json" if state_dir else None)

        self._get_world = get_world
        self.redirect_uris: set[str] = set()  # registered besides every address on this machine
        self.entra = _Entra(get_world, public_url, ring("microsoft"))
        self.c4c = _C4CSignIn(get_world, public_url, ring("c4c"))

    def mint_api_token(self, world: World, person: Person, lifetime_s: float = 3600, **overrides: Any) -> str:
        """Return an access token for our API; `overrides` replaces claims, None removes one."""
        with world.lock:
            claims = self.entra.api_claims(person, lifetime_s) | overrides
        return self.entra.ring.sign({name: value for name, value in claims.items() if value is not None})

    def mint_graph_token(
        self, world: World, person: Person, lifetime_s: float = 3600, *, scopes: Iterable[str] = GRAPH_SCOPES
    ) -> str:
        with world.lock:
            return self.entra.ring.sign(self.entra.graph_claims(person, scopes, lifetime_s))

    def mint_id_token(self, world: World, person: Person) -> str:
        with world.lock:
            return self.entra.ring.sign(self.entra.id_claims(person, ""))

    def graph_grant(self, token: str) -> Grant | None:
        """Whose mailbox a token for Graph opens and how far; None if it is not good (any more)."""
        world = self._get_world()
        claims = self.entra.ring.read(token)
        if claims is None or claims.get("aud") != GRAPH:
            return None
        if not claims["nbf"] - 300 <= world.now().timestamp() < claims["exp"]:
            return None
        with world.lock:
            try:
                person = self.entra.check_person(world.person(claims["oid"]), claims["sid"])
            except OAuthError:
                return None
        return Grant(person, frozenset(claims["scp"].split()))

    def verify_graph_token(self, token: str) -> Person | None:
        grant = self.graph_grant(token)
        return grant.person if grant else None

    def rotate(self, *, only_tenant: str = "") -> str:
        """Let Microsoft's issuer sign with a new key; the old one stays published until the next time. Returns the `kid`.

        With `only_tenant` the key is published as that tenant's own, as Entra does for personal accounts.
        """
        return self.entra.ring.rotate(self.entra.issuer(only_tenant) if only_tenant else None)

    def revoke(self, person: Person) -> None:
        """End all sessions: tokens given so far buy nothing new and Graph refuses them; the person may sign in again."""
        key = person.object_id
        self._change("revoke", person, lambda memory: memory.sessions.update({key: memory.sessions.get(key, 0) + 1}))

    def disable(self, person: Person) -> None:
        """Block the account until `enable`."""
        self._change("disable", person, lambda memory: memory.disabled.add(person.object_id))

    def enable(self, person: Person) -> None:
        self._change("enable", person, lambda memory: memory.disabled.discard(person.object_id))

    def withdraw_consent(self, person: Person) -> None:
        """Let exchanges for Graph answer AADSTS65001 until `give_consent`."""
        self._change("withdraw_consent", person, lambda memory: memory.without_consent.add(person.object_id))

    def give_consent(self, person: Person) -> None:
        self._change("give_consent", person, lambda memory: memory.without_consent.discard(person.object_id))

    def require_claims(self, person: Person, claims: str) -> None:
        """Let every exchange answer AADSTS50076 with this claims challenge; an empty one ends that."""
        self._change("require_claims", person, lambda memory: memory.challenges.update({person.object_id: claims}))

    def revoke_refresh_token(self, token: str) -> None:
        """Make one refresh token worthless."""
        kept = jwt.decode(token, options={"verify_signature": False})
        person = self._get_world().person(kept["oid"])
        if person is not None:
            self._change("revoke_refresh_token", person, lambda memory: memory.dead_families.add(kept["jti"]))

    def _change(self, kind: str, person: Person, change: Callable[[_Memory], object]) -> None:
        world = self._get_world()
        with world.lock:
            for issuer in (self.entra, self.c4c):
                change(issuer.memory)
            world.happened("identity", kind, person.email)


def provider_of(app: Flask) -> IdentityProvider:
    """The back door of an app that `create_app` made."""
    return cast(IdentityProvider, app.extensions["identity"])


def create_app(get_world: GetWorld, *, public_url: Callable[[], str], state_dir: Path | None = None) -> Flask:
    """Make the WSGI app of both issuers. `public_url` tells, without a trailing slash, where it is reached.

    With `state_dir` (an existing directory) the keys are kept there, so that tokens outlive a restart.
    """
    app = Flask("simulator.identity")
    provider = app.extensions["identity"] = IdentityProvider(get_world, public_url=public_url, state_dir=state_dir)
    watch(app, "identity", get_world)
    _serve_entra(app, provider)
    _serve_c4c(app, provider)

    @app.errorhandler(OAuthError)
    def _refused(error: OAuthError) -> tuple[Response, int]:
        return jsonify(error.body(get_world())), error.status

    @app.after_request
    def _never_keep(response: Response) -> Response:
        if request.method == "POST":
            response.headers["Cache-Control"] = "no-store"
        return response

    return app


def _serve_entra(app: Flask, provider: IdentityProvider) -> None:
    entra = provider.entra

    @app.get("/<tid>/v2.0/.well-known/openid-configuration")
    def entra_discovery(tid: str) -> Response:
        entra.check_tenant(tid)
        return jsonify(entra.discovery(tid))

    @app.get("/<tid>/discovery/v2.0/keys")
    def entra_keys(tid: str) -> Response:
        entra.check_tenant(tid)
        return jsonify(entra.ring.jwks(entra.issuer(tid)))

    @app.route("/<tid>/oauth2/v2.0/authorize", methods=["GET", "POST"])
    def entra_authorize(tid: str) -> AnyResponse:
        entra.check_tenant(tid)
        return _authorize(entra, provider.redirect_uris, {})

    @app.post("/<tid>/oauth2/v2.0/token")
    def entra_token(tid: str) -> Response:
        with entra.world.lock:
            return jsonify(entra.redeem_at(tid, request.form.to_dict()))


def _serve_c4c(app: Flask, provider: IdentityProvider) -> None:
    c4c = provider.c4c

    @app.get("/c4c/.well-known/openid-configuration")
    def c4c_discovery() -> Response:
        return jsonify(c4c.discovery())

    @app.get("/c4c/oauth2/certs")
    def c4c_keys() -> Response:
        return jsonify(c4c.ring.jwks())

    @app.route("/c4c/oauth2/authorize", methods=["GET", "POST"])
    def c4c_authorize() -> AnyResponse:
        return _authorize(c4c, provider.redirect_uris, {"iss": c4c.issuer})

    @app.post("/c4c/oauth2/token")
    def c4c_token() -> Response:
        with c4c.world.lock:
            return jsonify(c4c.redeem(request.form.to_dict()))


def _authorize(issuer: _Issuer, redirect_uris: set[str], own: dict[str, str]) -> AnyResponse:
    """Show the sign-in page (GET), or send the browser back with a code for the person chosen on it (POST)."""
    asked = (request.form if request.method == "POST" else request.args).to_dict()
    chosen, world = asked.pop("person", ""), issuer.world
    if asked.get("client_id") != world.client_id:
        raise issuer.refuse(700016, "unauthorized_client", "The application was not found.")
    target = asked.get("redirect_uri", "")
    parts = urlsplit(target)
    if (
        (parts.hostname not in _LOOPBACK and target not in redirect_uris)
        or parts.fragment
        or parts.scheme not in ("http", "https")
    ):
        raise issuer.refuse(500112, "invalid_request", "The redirect address is not registered.")
    back = own | ({"state": asked["state"]} if "state" in asked else {})
    try:
        issuer.check_request(asked)
        if request.method == "GET":
            hint = asked.get("login_hint", "").lower()
            page = render_template_string(_PAGE, people=world.people, asked=asked, hint=hint, action=request.path)
            return Response(page, headers={"Cache-Control": "no-store", "Content-Security-Policy": "frame-ancestors 'none'"})
        with world.lock:
            person = world.person(chosen) if chosen else None
            if person is None:
                raise issuer.refuse(0, "access_denied", "The sign-in was cancelled.")
            back["code"] = issuer.new_code(person, asked)
            g.actor = person.email
    except OAuthError as error:
        back |= {"error": error.error, "error_description": error.body(world)["error_description"]}
    return redirect(f"{target}{'&' if parts.query else '?'}{urlencode(back)}")


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Sign in (simulated)</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; max-width: 26rem; margin: 2rem auto; padding: 0 1rem; color-scheme: light dark }
  button { display: block; width: 100%; margin: .4rem 0; padding: .5rem .8rem; font: inherit; text-align: start }
  small { display: block; opacity: .75 }
</style>
<h1>Who is signing in?</h1>
<form method="post" action="{{ action }}">
  {% for name, value in asked.items() %}<input type="hidden" name="{{ name }}" value="{{ value }}">{% endfor %}
  {% for person in people %}
  <button name="person" value="{{ person.object_id }}"{% if person.email.lower() == hint %} autofocus{% endif %}>{{ person.name }}
    <small>{{ person.email }}</small></button>
  {% endfor %}
  <button name="person" value="">Cancel</button>
</form>
</html>
"""


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _kid(key: rsa.RSAPrivateKey) -> str:
    der = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return _b64(hashlib.sha256(der).digest())


def _write_key(key: rsa.RSAPrivateKey) -> str:
    kind, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, kind, plain).decode()


def _read_key(text: str) -> rsa.RSAPrivateKey:
    key = serialization.load_pem_private_key(text.encode(), password=None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key
