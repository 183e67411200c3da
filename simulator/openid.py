"""The core of an OpenID provider, for the sign-in services of `simulator.identity`: keys, codes with PKCE, consent, refresh.

An Issuer is one provider; what differs between vendors (claims, scopes, error numbers) its subclass gives. Refresh tokens are
signed texts, so they survive a restart when the key file does; what was used up or revoked is remembered per World. The pages
are `simulator.sign_in`'s. `Issuer.spoil` makes an honest provider lie, as no back door of the vendors' could.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import uuid
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, Literal

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from flask import g, request
from jwt.algorithms import RSAAlgorithm

from simulator.world import GetWorld, Person, World

OIDC_SCOPES = frozenset({"openid", "profile", "email", "offline_access"})
CODE_LIFE = timedelta(minutes=10)
REFRESH_LIFE = timedelta(days=90)

Said = Literal["metadata", "answer", "tokens", "claims"]
"""What a provider says: its metadata, the query with which the browser comes back, a token answer, an ID token."""

_PROMPTS = frozenset({"none", "login", "select_account", "consent"})
_SIGNATURE_ONLY: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False}


class OAuthError(Exception):
    """An answer of the token or authorisation endpoint that is not a token. `number` is Entra's AADSTS number, else 0."""

    def __init__(
        self,
        error: str,
        text: str,
        *,
        number: int = 0,
        status: int = 400,
        suberror: str = "",
        claims: str = "",
        subcode: str = "",
    ) -> None:
        super().__init__(text)
        self.error, self.text, self.number, self.status = error, text, number, status
        self.suberror, self.claims = suberror, claims
        self.subcode = subcode  # only in what the browser brings back

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


@dataclass(slots=True)
class _Code:
    person: Person
    redirect_uri: str
    challenge: str
    scopes: tuple[str, ...]
    said: dict[str, Any]  # claims that the ID token has because of the request: nonce, auth_time
    expires_at: float  # seconds since the epoch
    family: str  # of the refresh tokens that come from this code
    used: bool = False


@dataclass(slots=True)
class Memory:
    """What a World's sign-in service remembers. Keys are `oid`s unless told."""

    codes: dict[str, _Code] = field(default_factory=dict)
    sessions: dict[str, int] = field(default_factory=dict)  # how often the person's sessions were revoked
    disabled: set[str] = field(default_factory=set)
    without_consent: set[str] = field(default_factory=set)
    challenges: dict[str, str] = field(default_factory=dict)  # claims that a policy asks of the person
    used_refresh: set[str] = field(default_factory=set)  # jti
    dead_families: set[str] = field(default_factory=set)
    browsers: dict[str, dict[str, float]] = field(default_factory=dict)  # cookie -> oid -> when they signed in there
    consents: dict[str, set[str]] = field(default_factory=dict)  # oid -> scopes, where they are ticked one by one
    admin_needed: dict[str, tuple[int, str]] = field(default_factory=dict)  # oid, "" for all -> AADSTS number and where it shows
    spoiled: dict[Said, dict[str, Any]] = field(default_factory=dict)


class Issuer:
    """What both shapes share: code, PKCE, client authentication, refresh. A shape gives claims, scopes and error numbers."""

    name: ClassVar[str]
    single_use_refresh: bool  # a used refresh token, presented again, ends its family
    may_widen: ClassVar[bool]  # whether a refresh may ask for scopes beyond those of the sign-in
    has_numbers: ClassVar[bool]  # whether refusals carry AADSTS numbers

    def __init__(self, get_world: GetWorld, url: Callable[[], str], ring: KeyRing) -> None:
        self.get_world, self.url, self.ring = get_world, url, ring
        self.pages_url = url  # where browsers come to sign in
        self._memories: weakref.WeakKeyDictionary[World, Memory] = weakref.WeakKeyDictionary()

    def tokens(self, person: Person, scopes: tuple[str, ...], said: dict[str, Any]) -> dict[str, Any]:
        """The members of a token answer that depend on the shape. `said` are claims for the ID token."""
        raise NotImplementedError

    def check_scopes(self, scopes: tuple[str, ...]) -> None:
        raise NotImplementedError

    def check_account(self, person: Person, place: str) -> None:
        """Refuse somebody who has no account at this place, the path under which the page was opened."""

    def needs_consent(self, person: Person, asked: dict[str, str]) -> bool:
        """Whether the person is asked before a code is given. Raises: OAuthError if they may not decide."""
        return False

    def boxes(self, person: Person, asked: dict[str, str]) -> dict[str, bool]:
        """The scopes that a person ticks one by one, and which are ticked already."""
        return {}

    def agree(self, person: Person, asked: dict[str, str], ticked: set[str] | None) -> tuple[str, ...]:
        """Remember the consent, to all (None) or to what was ticked; returns the scopes of the code."""
        return tuple(asked["scope"].split())

    def answer_members(self, scopes: tuple[str, ...]) -> dict[str, str]:
        """What the browser brings back beside code and state."""
        return {}

    def declined(self) -> OAuthError:
        return self.refuse(0, "access_denied", "The sign-in was cancelled.")

    @property
    def world(self) -> World:
        return self.get_world()

    @property
    def memory(self) -> Memory:
        return self._memories.setdefault(self.world, Memory())

    def spoil(self, what: Said, **instead: Any) -> None:
        """Say this instead of the truth from now on; None leaves a member out. With nothing given, tell the truth again."""
        with self.world.lock:
            self.memory.spoiled[what] = instead

    def told(self, what: Said, truth: dict[str, Any]) -> dict[str, Any]:
        """The truth, or what a test put in its place."""
        said = truth | self.memory.spoiled.get(what, {})
        return {name: value for name, value in said.items() if value is not None}

    def id_token(self, claims: dict[str, Any]) -> str:
        return self.ring.sign(self.told("claims", claims))

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

    def new_code(self, person: Person, asked: dict[str, str], scopes: tuple[str, ...], signed_in_at: float) -> str:
        """Give a code to somebody who signed in then. ID tokens tell when, if the request set a `max_age` (OIDC Core, 2)."""
        self.check_person(person, self.session(person))
        said: dict[str, Any] = {"nonce": asked["nonce"]} if asked.get("nonce") else {}
        said |= {"auth_time": int(signed_in_at)} if "max_age" in asked else {}
        code = "1." + secrets.token_urlsafe(32)
        until = (self.world.now() + CODE_LIFE).timestamp()
        self.memory.codes[code] = _Code(
            person, asked["redirect_uri"], asked["code_challenge"], scopes, said, until, family=secrets.token_hex(8)
        )
        return code

    def check_request(self, asked: dict[str, str]) -> None:
        """Judge an authorisation request whose redirect address is good already."""
        if asked.get("response_type") != "code":
            raise self.refuse(700054, "unsupported_response_type", "Only response_type=code is supported.")
        if asked.get("code_challenge_method") != "S256" or len(asked.get("code_challenge", "")) != 43:
            raise self.refuse(9002325, "invalid_request", "A code_challenge by method S256 is required.")
        prompts = set(asked.get("prompt", "").split())
        if not prompts <= _PROMPTS or ("none" in prompts and len(prompts) > 1) or not asked.get("max_age", "0").isdecimal():
            raise self.refuse(90023, "invalid_request", "The request has a prompt or max_age that is not supported.")
        self.check_scopes(tuple(asked.get("scope", "").split()))

    def check_client_id(self, client_id: str) -> None:
        if client_id != self.world.client_id:
            raise self.refuse(700016, "unauthorized_client", f"Application with identifier '{client_id}' was not found.")

    def check_client(self, form: dict[str, str]) -> None:
        given, secret = form.get("client_id", ""), form.get("client_secret", "")
        if request.authorization is not None and request.authorization.type == "basic":
            given, secret = request.authorization.username or "", request.authorization.password or ""
        self.check_client_id(given)
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

    def answer(
        self, person: Person, scopes: tuple[str, ...], *, grant: str, family: str, said: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        g.actor = person.email
        body = {"token_type": "Bearer", "scope": " ".join(s for s in scopes if s != "offline_access"), "expires_in": 3600}
        body |= self.tokens(person, scopes, said or {})
        if "offline_access" in scopes:
            body["refresh_token"] = self._refresh_token(person, family, scopes)
        self.world.happened("identity", "token", person.email, issuer=self.name, grant=grant, scopes=scopes)
        return self.told("tokens", body)

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
        if not secrets.compare_digest(b64url(digest).encode(), code.challenge.encode()):
            raise self.refuse(501481, "invalid_grant", "The code_verifier does not match the code_challenge.")
        code.used = True
        person = self.check_person(code.person, self.session(code.person))
        return self.answer(person, code.scopes, grant="authorization_code", family=code.family, said=code.said)

    def _redeem_refresh(self, form: dict[str, str]) -> dict[str, Any]:
        kept = self.read_refresh_token(form.get("refresh_token", ""))
        if kept is None:
            raise self.refuse(9002313, "invalid_grant", "The refresh token is malformed or not ours.")
        memory = self.memory
        if self.single_use_refresh and kept["jti"] in memory.used_refresh:
            memory.dead_families.add(kept["family"])
        if kept["family"] in memory.dead_families or kept["jti"] in memory.dead_families:
            raise self.refuse(50173, "invalid_grant", "The grant was revoked; a fresh sign-in is needed.", suberror="bad_token")
        if kept["exp"] < self.world.now().timestamp():
            raise self.refuse(700082, "invalid_grant", "The refresh token has expired due to inactivity.")
        person = self.check_person(self.world.person(kept["oid"]), kept["sid"])
        scopes = tuple(form.get("scope", "").split()) or tuple(kept["scopes"])
        self.check_scopes(scopes)
        if not self.may_widen and not set(scopes) <= set(kept["scopes"]):
            raise self.refuse(70011, "invalid_scope", "The scopes go beyond those of the sign-in.")
        memory.used_refresh.add(kept["jti"])
        return self.answer(person, scopes, grant="refresh_token", family=kept["family"])

    def read_refresh_token(self, token: str) -> dict[str, Any] | None:
        """What a refresh token of ours says, ended or not; None for any other."""
        try:
            return jwt.decode(token, self.ring.secret, algorithms=["HS256"], options=_SIGNATURE_ONLY)
        except jwt.PyJWTError:
            return None

    def _refresh_token(self, person: Person, family: str, scopes: tuple[str, ...]) -> str:
        until = int((self.world.now() + REFRESH_LIFE).timestamp())
        claims = {
            "jti": secrets.token_hex(8),
            "family": family,
            "oid": person.object_id,
            "sid": self.session(person),
            "scopes": scopes,
            "exp": until,
        }
        return jwt.encode(claims, self.ring.secret, algorithm="HS256")


def b64url(data: bytes) -> str:
    """Base64url without padding, as in JOSE."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _kid(key: rsa.RSAPrivateKey) -> str:
    der = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return b64url(hashlib.sha256(der).digest())


def _write_key(key: rsa.RSAPrivateKey) -> str:
    kind, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, kind, plain).decode()


def _read_key(text: str) -> rsa.RSAPrivateKey:
    key = serialization.load_pem_private_key(text.encode(), password=None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key
