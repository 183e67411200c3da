"""Google's sign-in on the wire: authorisation code with PKCE, refresh, revocation, keys.

What differs from the other shapes of `simulator.openid`: access tokens are opaque, a refresh token comes only when offline access
and consent are asked for, a refresh answers without a new one, and everything that ended (revoked, disabled, withdrawn) is one
`invalid_grant`. Scopes are full addresses; a person ticks those beyond sign-in one by one, so an answer may hold fewer than were
asked for. `GoogleIdentity` is the back door. Source: domain notes on Gmail, section 5, and Google's page on granular permissions.

Not simulated: service accounts, the age of refresh tokens.
"""

from __future__ import annotations

import secrets
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from flask import Flask, Response, g, jsonify, request
from werkzeug.wrappers import Response as AnyResponse

from simulator.openid import Issuer, KeyRing, OAuthError
from simulator.serving import watch
from simulator.sign_in import authorize
from simulator.world import CONSUMERS, GetWorld, Person, World

SCOPE = "https://www.googleapis.com/auth/"
MAIL_SCOPES = ("gmail.modify", "gmail.labels", "contacts")  # short names

ADD_ON_PROJECT = "314159265358"  # its number
ADD_ON = f"{ADD_ON_PROJECT}-ssi-sidebar.apps.googleusercontent.com"
"""OAuth client of the add-on's Cloud project: the audience of the ID tokens that its script and its endpoint get."""
ADD_ON_ACCOUNT = f"service-{ADD_ON_PROJECT}@gcp-sa-gsuiteaddons.iam.gserviceaccount.com"
"""Google's service account that calls the add-on's endpoint."""
ADD_ON_SCOPES = ("gmail.addons.execute", "gmail.addons.current.message.metadata", "openid", "userinfo.email")

_LONG = {"email": f"{SCOPE}userinfo.email", "profile": f"{SCOPE}userinfo.profile"}
_SIGN_IN = frozenset({"openid", *_LONG, *_LONG.values()})
_KNOWN = _SIGN_IN | {"https://mail.google.com/"}


@dataclass(frozen=True, slots=True)
class Grant:
    """What an access token allows."""

    person: Person
    scopes: frozenset[str]  # short names, "gmail.modify"


@dataclass(frozen=True, slots=True)
class MessageGrant:
    """What the token of an add-on's event allows, to whoever has an access token of that person too."""

    person: Person
    message: str  # Gmail's id of the one message


@dataclass(frozen=True, slots=True)
class _Access:
    person: Person
    session: str
    scopes: frozenset[str]
    until: float  # seconds since the epoch


class _Google(Issuer):
    name = "google"
    has_numbers = False
    single_use_refresh = False
    may_widen = False

    def __init__(self, get_world: GetWorld, url: Callable[[], str], ring: KeyRing) -> None:
        super().__init__(get_world, url, ring)
        self._given: weakref.WeakKeyDictionary[World, dict[str, _Access]] = weakref.WeakKeyDictionary()
        self._opened: weakref.WeakKeyDictionary[World, dict[str, tuple[MessageGrant, float]]] = weakref.WeakKeyDictionary()

    @property
    def given(self) -> dict[str, _Access]:
        return self._given.setdefault(self.world, {})

    @property
    def opened(self) -> dict[str, tuple[MessageGrant, float]]:
        """Tokens of events -> what they allow and until when, in seconds since the epoch."""
        return self._opened.setdefault(self.world, {})

    def discovery(self) -> dict[str, Any]:
        here = self.url()
        truth = {
            "issuer": here,
            "authorization_endpoint": f"{here}/o/oauth2/v2/auth",
            "token_endpoint": f"{here}/token",
            "revocation_endpoint": f"{here}/revoke",
            "jwks_uri": f"{here}/oauth2/v3/certs",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "scopes_supported": ["openid", "email", "profile"],
            "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
            "code_challenge_methods_supported": ["plain", "S256"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
        }
        return self.told("metadata", truth)

    def check_scopes(self, scopes: tuple[str, ...]) -> None:
        wrong = [scope for scope in scopes if scope not in _KNOWN and not scope.startswith(SCOPE) and scope != "offline_access"]
        if wrong or not scopes:
            raise OAuthError("invalid_scope", "Some requested scopes were invalid.")

    def needs_consent(self, person: Person, asked: dict[str, str]) -> bool:
        wanted = set(asked["scope"].split()) - _SIGN_IN
        return "consent" in asked.get("prompt", "").split() or not wanted <= self._granted(person)

    def boxes(self, person: Person, asked: dict[str, str]) -> dict[str, bool]:
        """All scopes beyond those of sign-in, which need no ticks; nothing is ticked that was not granted before."""
        granted = self._granted(person)
        return {scope: scope in granted for scope in asked["scope"].split() if scope not in _SIGN_IN}

    def agree(self, person: Person, asked: dict[str, str], ticked: set[str] | None) -> tuple[str, ...]:
        """A refresh token is asked for by access_type, not by a scope; without a fresh consent there is none."""
        wanted = [scope for scope in asked["scope"].split() if scope != "offline_access"]
        scopes = [scope for scope in wanted if scope in _SIGN_IN or ticked is None or scope in ticked]
        before = self._granted(person)
        if self.needs_consent(person, asked):
            self.world.happened("google_identity", "consent", person.email, scopes=tuple(scopes))
        if asked.get("include_granted_scopes") == "true":
            scopes += sorted(before - set(wanted))
        before.update(scopes)
        if asked.get("access_type") == "offline" and "consent" in asked.get("prompt", "").split():
            scopes.append("offline_access")
        return tuple(dict.fromkeys(_LONG.get(scope, scope) for scope in scopes))

    def answer_members(self, scopes: tuple[str, ...]) -> dict[str, str]:
        return {"scope": " ".join(scope for scope in scopes if scope != "offline_access")} if scopes else {}

    def declined(self) -> OAuthError:
        return OAuthError("access_denied", "")

    def _granted(self, person: Person) -> set[str]:
        return self.memory.consents.setdefault(person.object_id, set())

    def refuse(self, number: int, error: str, text: str, *, status: int = 400, **more: str) -> OAuthError:
        """Google's own words: one for everything that ended a grant (page on using OAuth 2.0, "Refresh token expiration")."""
        if error == "invalid_grant":
            return OAuthError(error, "Token has been expired or revoked.")
        if error in ("unauthorized_client", "invalid_client"):
            return OAuthError("invalid_client", "The OAuth client was not found.", status=401)
        return OAuthError(error, text, status=status)

    def tokens(self, person: Person, scopes: tuple[str, ...], said: dict[str, Any]) -> dict[str, Any]:
        body: dict[str, Any] = {"access_token": self.access_token(person, scopes, 3599), "expires_in": 3599}
        if "openid" in scopes:
            body["id_token"] = self.id_token(self.id_claims(person) | {name: said[name] for name in said if name == "nonce"})
        return body

    def answer(
        self, person: Person, scopes: tuple[str, ...], *, grant: str, family: str, said: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        body = super().answer(person, scopes, grant=grant, family=family, said=said)
        if grant == "refresh_token":
            body.pop("refresh_token", None)  # the old one stays good, no new one comes
        return body

    def access_token(self, person: Person, scopes: Iterable[str], lifetime_s: float) -> str:
        token = "ya29." + secrets.token_urlsafe(48)
        short = frozenset(scope.removeprefix(SCOPE) for scope in scopes)
        until = self.world.now().timestamp() + lifetime_s
        self.given[token] = _Access(person, self.session(person), short, until)
        return token

    def new_refresh_token(self, person: Person, scopes: tuple[str, ...]) -> str:
        return self._refresh_token(person, secrets.token_hex(8), (*scopes, "offline_access"))

    def id_claims(self, person: Person) -> dict[str, Any]:
        """`hd` is there only for an account of a Workspace."""
        now = int(self.world.now().timestamp())
        claims: dict[str, Any] = {"iss": self.url(), "azp": self.world.client_id, "aud": self.world.client_id}
        claims |= {"sub": subject(person), "email": person.email, "email_verified": True}
        claims |= {} if person.tenant == CONSUMERS else {"hd": person.email.rpartition("@")[2]}
        return claims | {"name": person.name, "iat": now, "exp": now + 3600}

    def revoke(self, token: str) -> None:
        """End the grant that a refresh or access token belongs to. Raises: OAuthError."""
        access = self.given.get(token)
        person = access.person if access else self._owner(token)
        if person is None or (access and access.session != self.session(person)):
            raise OAuthError("invalid_token", "Token expired or revoked")
        self.end(person, "revoke")

    def _owner(self, refresh_token: str) -> Person | None:
        kept = self.read_refresh_token(refresh_token)
        person = self.world.person(kept["oid"]) if kept else None
        return person if person and kept and kept["sid"] == self.session(person) else None

    def end(self, person: Person, kind: str) -> None:
        sessions = self.memory.sessions
        sessions[person.object_id] = sessions.get(person.object_id, 0) + 1
        self.memory.consents.pop(person.object_id, None)
        self.world.happened("google_identity", kind, person.email)


def subject(person: Person) -> str:
    """The `sub` of a Google account: 21 digits that never change."""
    return f"1{int(person.object_id.replace('-', ''), 16) % 10**20:020d}"


class GoogleIdentity:
    """The issuer's back door. Everything is about the World of the moment."""

    def __init__(self, get_world: GetWorld, *, public_url: Callable[[], str], state_dir: Path | None = None) -> None:
        ring = KeyRing(state_dir / "identity-google.json" if state_dir else None)
        self.redirect_uris: set[str] = set()  # registered besides every address on this machine
        self.issuer = _Google(get_world, public_url, ring)

    def grant(self, token: str) -> Grant | None:
        """Whose data an access token opens and how far; None if it is not good (any more)."""
        world = self.issuer.world
        with world.lock:
            access = self.issuer.given.get(token)
            if access is None or access.until <= world.now().timestamp():
                return None
            try:
                self.issuer.check_person(access.person, access.session)
            except OAuthError:
                return None
        return Grant(access.person, access.scopes)

    def mint_access_token(
        self, world: World, person: Person, lifetime_s: float = 3599, *, scopes: Iterable[str] = MAIL_SCOPES
    ) -> str:
        with world.lock:
            return self.issuer.access_token(person, scopes, lifetime_s)

    def mint_refresh_token(self, world: World, person: Person, *, scopes: Iterable[str] = MAIL_SCOPES) -> str:
        """Return what a person's consent would have given."""
        with world.lock:
            return self.issuer.new_refresh_token(person, tuple(SCOPE + scope for scope in scopes))

    def mint_id_token(self, world: World, person: Person, **overrides: Any) -> str:
        """Return the ID token by which the add-on tells who its user is: ScriptApp.getIdentityToken(), or an event's userIdToken.

        `overrides` replaces claims, None removes one.
        """
        with world.lock:
            claims = self.issuer.id_claims(person) | {"azp": ADD_ON, "aud": ADD_ON} | overrides
        return self.issuer.ring.sign({name: value for name, value in claims.items() if value is not None})

    def mint_system_token(self, world: World, endpoint: str, **overrides: Any) -> str:
        """Return the token by which Google proves a call of the add-on's `endpoint`, a whole address; `overrides` as above."""
        now = int(world.now().timestamp())
        claims: dict[str, Any] = {
            "iss": self.issuer.url(),
            "azp": ADD_ON_ACCOUNT,
            "aud": endpoint,
            "sub": f"1{ADD_ON_PROJECT:0>20}",
        }
        claims |= {"email": ADD_ON_ACCOUNT, "email_verified": True, "iat": now, "exp": now + 3600} | overrides
        return self.issuer.ring.sign({name: value for name, value in claims.items() if value is not None})

    def mint_message_token(self, world: World, person: Person, message: str, lifetime_s: float = 3599) -> str:
        """Return the token of an event about the message with this Gmail id."""
        with world.lock:
            token = "ya29.m." + secrets.token_urlsafe(32)
            self.issuer.opened[token] = MessageGrant(person, message), world.now().timestamp() + lifetime_s
        return token

    def message_grant(self, token: str) -> MessageGrant | None:
        """What the token of an event allows; None if it is not good (any more)."""
        world = self.issuer.world
        with world.lock:
            found = self.issuer.opened.get(token)
        return found[0] if found and found[1] > world.now().timestamp() else None

    def withdraw_consent(self, person: Person) -> None:
        """Let every token given so far be refused; the person may consent again."""
        with self.issuer.world.lock:
            self.issuer.end(person, "withdraw_consent")


def identity_of(app: Flask) -> GoogleIdentity:
    """The back door of an app that `create_app` made."""
    return cast(GoogleIdentity, app.extensions["google_identity"])


def create_app(get_world: GetWorld, *, public_url: Callable[[], str], state_dir: Path | None = None) -> Flask:
    """Make the WSGI app. `public_url` tells, without a trailing slash, where it is reached: it is the issuer, too."""
    app = Flask("simulator.google.identity")
    identity = app.extensions["google_identity"] = GoogleIdentity(get_world, public_url=public_url, state_dir=state_dir)
    issuer = identity.issuer
    watch(app, "google_identity", get_world)

    @app.get("/.well-known/openid-configuration")
    def discovery() -> Response:
        return jsonify(issuer.discovery())

    @app.get("/oauth2/v3/certs")
    def certs() -> Response:
        return jsonify(issuer.ring.jwks())

    @app.route("/o/oauth2/v2/auth", methods=["GET", "POST"])
    def authorization() -> AnyResponse:
        return authorize(issuer, identity.redirect_uris)

    @app.post("/token")
    def token() -> Response:
        with issuer.world.lock:
            return jsonify(issuer.redeem(request.form.to_dict()))

    @app.post("/revoke")
    def revoke() -> Response:
        with issuer.world.lock:
            issuer.revoke(request.values.get("token", ""))
        g.actor = ""
        return jsonify({})

    @app.errorhandler(OAuthError)
    def refused(error: OAuthError) -> tuple[Response, int]:
        return jsonify(error.body(get_world())), error.status

    return app
