"""Sign-in services on the wire: one shaped like Microsoft Entra (any tenant path), one like the identity service before C4C.

Both give OpenID discovery, keys, the authorisation code flow with PKCE (S256 only) behind a page on which one picks a person,
and refresh tokens. The Entra shape adds on-behalf-of, its error bodies with AADSTS numbers, and access tokens for our own API
and for Graph. `IdentityProvider` is the back door: mint a token, rotate the keys, revoke, disable, withdraw consent, let an
administrator be needed. A third issuer, under /rogue, has keys of its own and is registered nowhere: it takes every client and
keeps what it is told, for tests of mixed-up issuers.

Not simulated: passwords, multi-factor sign-in (but its claims challenge), app-only tokens, v1 tokens for our API.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlencode

import jwt
from flask import Blueprint, Flask, Response, jsonify, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from simulator.openid import OIDC_SCOPES, Issuer, KeyRing, Memory, OAuthError, b64url
from simulator.serving import watch
from simulator.sign_in import authorize, forget, may_return
from simulator.world import CONSUMERS, GetWorld, Person, World

GRAPH = "https://graph.microsoft.com"
GRAPH_SCOPES = ("Mail.ReadWrite", "MailboxSettings.ReadWrite", "Contacts.ReadWrite", "User.Read")
API_SCOPE = "access_as_user"
ON_BEHALF_OF = "urn:ietf:params:oauth:grant-type:jwt-bearer"

_GRAPH_KNOWN = frozenset(GRAPH_SCOPES) | {"Mail.Read", "MailboxSettings.Read", "Contacts.Read", "Calendars.ReadWrite"}
_ANY_TENANT = frozenset({"common", "organizations"})
_PERSONAL = frozenset({"consumers", CONSUMERS})


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token for Graph allows."""

    person: Person
    scopes: frozenset[str]  # short names, "Mail.ReadWrite"


class _Entra(Issuer):
    """Microsoft's shape: `{url}/{tid}/v2.0`. A used refresh token stays good, as it does at Microsoft (refresh-tokens page)."""

    name = "microsoft"
    has_numbers = True
    single_use_refresh = False
    may_widen = True

    def issuer(self, tid: str) -> str:
        tenant = CONSUMERS if tid in _PERSONAL else "{tenantid}" if tid in _ANY_TENANT else tid
        return f"{self.url()}/{tenant}/v2.0"

    def check_tenant(self, tid: str) -> None:
        own = {self.world.entra_tenant, *map(self.world.tenant_of, self.world.people)}
        if tid not in _ANY_TENANT | _PERSONAL | own:
            raise self.refuse(90002, "invalid_tenant", f"Tenant '{tid}' not found.")

    def check_account(self, person: Person, place: str) -> None:
        """By the kind of account (500208) or, in a company's tenant, by the tenant (50020; reference-error-codes page)."""
        tenant = self.world.tenant_of(person)
        if (place == "organizations" and tenant == CONSUMERS) or (place in _PERSONAL and tenant != CONSUMERS):
            raise self.refuse(500208, "access_denied", "The domain is not a valid login domain for the account type.")
        if place not in _ANY_TENANT | _PERSONAL and place != tenant:
            text = f"User account '{person.email}' does not exist in tenant '{place}' and cannot access the application in it."
            raise self.refuse(50020, "access_denied", text)

    def needs_consent(self, person: Person, asked: dict[str, str]) -> bool:
        number = self._admin_needed(person, "authorize")
        if number:
            text = "The application needs permissions that only an administrator of the organization can grant."
            raise self.refuse(number, "access_denied", text)
        return "consent" in asked.get("prompt", "").split() or person.object_id in self.memory.without_consent

    def agree(self, person: Person, asked: dict[str, str], ticked: set[str] | None) -> tuple[str, ...]:
        """All or nothing: there is nothing to tick at Microsoft."""
        scopes = super().agree(person, asked, ticked)
        if self.needs_consent(person, asked):
            self.memory.without_consent.discard(person.object_id)
            self.world.happened("identity", "consent", person.email, issuer=self.name, scopes=scopes)
        return scopes

    def declined(self) -> OAuthError:
        """As it comes from the page's Cancel, and from its way back when an administrator is needed."""
        return self.refuse(65004, "access_denied", "User declined to consent to access the app.", subcode="cancel")

    def _admin_needed(self, person: Person, at: str) -> int:
        needed = self.memory.admin_needed
        number, where = needed.get(person.object_id) or needed.get("") or (0, "")
        return number if where == at else 0

    def discovery(self, tid: str) -> dict[str, Any]:
        here = f"{self.url()}/{tid}"
        return self.told("metadata", self._metadata(tid, here))

    def _metadata(self, tid: str, here: str) -> dict[str, Any]:
        return {
            "issuer": self.issuer(tid),
            "authorization_endpoint": f"{self.pages_url()}/{tid}/oauth2/v2.0/authorize",
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
            if resource.rpartition("/")[2] == self.world.client_id and short in (API_SCOPE, ".default"):
                wanted.setdefault(self.world.client_id, []).append(API_SCOPE)
            elif resource in ("", GRAPH) and (short in _GRAPH_KNOWN or short == ".default"):
                wanted.setdefault(GRAPH, []).extend(GRAPH_SCOPES if short == ".default" else [short])
            elif scope not in OIDC_SCOPES:
                raise self.refuse(70011, "invalid_scope", f"The provided value for scope '{scope}' is not valid.")
        if len(wanted) > 1:
            raise self.refuse(28000, "invalid_scope", "The scopes belong to more than one resource.")
        audience, names = next(iter(wanted.items()), (GRAPH, ["User.Read"]))
        return audience, tuple(dict.fromkeys(names))

    def tokens(self, person: Person, scopes: tuple[str, ...], said: dict[str, Any]) -> dict[str, Any]:
        audience, names = self.resource(scopes)
        self._check_policy(person, audience)
        body: dict[str, Any] = {"ext_expires_in": 3600}
        if audience == GRAPH:
            body["access_token"] = self.ring.sign(self.graph_claims(person, names, 3600))
        else:
            body["access_token"] = self.ring.sign(self.api_claims(person, 3600))
        if "openid" in scopes:
            body["id_token"] = self.id_token(self.id_claims(person, said))
        client_info = {"uid": person.object_id, "utid": self.world.tenant_of(person)}
        return body | {"client_info": b64url(json.dumps(client_info).encode())}

    def _check_policy(self, person: Person, audience: str) -> None:
        if audience == GRAPH and person.object_id in self.memory.without_consent:
            text = f"The user or administrator has not consented to use the application with ID '{self.world.client_id}'."
            raise self.refuse(65001, "invalid_grant", text, suberror="consent_required")
        number = self._admin_needed(person, "token")
        if number:
            text = "The application needs permissions that only an administrator of the organization can grant."
            raise self.refuse(number, "invalid_grant", text, suberror="consent_required")
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
        claims |= {"sub": b64url(pairwise), "tid": self.world.tenant_of(person), "sid": self.session(person)}
        return claims | {"uti": secrets.token_urlsafe(16)}

    def api_claims(self, person: Person, lifetime_s: float) -> dict[str, Any]:
        """Claims of a v2 access token for our API (access-token-claims-reference page)."""
        own = {"aud": self.world.client_id, "iss": self.issuer(self.world.tenant_of(person)), "ver": "2.0", "azpacr": "0"}
        own |= {"azp": self.world.client_id, "scp": API_SCOPE, "preferred_username": person.email}
        return self._claims(person, lifetime_s) | own

    def graph_claims(self, person: Person, names: Iterable[str], lifetime_s: float) -> dict[str, Any]:
        """Graph's own tokens are of version 1.0 and name Microsoft's older issuer; nobody but Graph may read them."""
        own = {"aud": GRAPH, "iss": f"https://sts.windows.net/{self.world.tenant_of(person)}/", "ver": "1.0", "upn": person.email}
        return self._claims(person, lifetime_s) | own | {"appid": self.world.client_id, "scp": " ".join(names)}

    def id_claims(self, person: Person, said: dict[str, Any]) -> dict[str, Any]:
        """Claims of a v2 ID token (id-token-claims-reference page)."""
        own = {"aud": self.world.client_id, "iss": self.issuer(self.world.tenant_of(person)), "ver": "2.0"}
        own |= {"preferred_username": person.email, "email": person.email}
        return self._claims(person, 3600) | own | said


class _C4CSignIn(Issuer):
    """The service at which people sign in to C4C's pages; subject is the C4C UserID. Refresh tokens work once (RFC 9700)."""

    name = "c4c"
    has_numbers = False
    single_use_refresh = True
    may_widen = False

    @property
    def issuer(self) -> str:
        return f"{self.url()}/{self.name}"

    def answer_members(self, scopes: tuple[str, ...]) -> dict[str, str]:
        """Its issuer, by RFC 9207."""
        return {"iss": self.issuer}

    def discovery(self) -> dict[str, Any]:
        return self.told("metadata", self._metadata())

    def _metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.pages_url()}/{self.name}/oauth2/authorize",
            "token_endpoint": f"{self.issuer}/oauth2/token",
            "jwks_uri": f"{self.issuer}/oauth2/certs",
            "revocation_endpoint": f"{self.issuer}/oauth2/revoke",
            "end_session_endpoint": f"{self.issuer}/oauth2/logout",
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "scopes_supported": sorted(OIDC_SCOPES),
            "prompt_values_supported": ["none", "login", "select_account", "consent"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        }

    def check_scopes(self, scopes: tuple[str, ...]) -> None:
        if "openid" not in scopes or not OIDC_SCOPES.issuperset(scopes):
            raise self.refuse(70011, "invalid_scope", "Ask for openid, and at most profile, email and offline_access besides.")

    def tokens(self, person: Person, scopes: tuple[str, ...], said: dict[str, Any]) -> dict[str, Any]:
        now = int(self.world.now().timestamp())
        claims: dict[str, Any] = {"iss": self.issuer, "sub": person.user_id, "aud": self.world.client_id}
        claims |= {"iat": now, "exp": now + 3600, "jti": secrets.token_hex(8)}
        identity = claims | ({"name": person.name} if "profile" in scopes else {})
        identity |= ({"email": person.email} if "email" in scopes else {}) | said
        return {
            "access_token": self.ring.sign(claims | {"scope": " ".join(scopes)}, {"typ": "at+jwt"}),
            "id_token": self.id_token(identity),
        }

    def revoke(self, form: dict[str, str]) -> None:
        """End what a refresh token began (RFC 7009); a token that is not ours or has ended is no error. Hold the lock."""
        self.check_client(form)
        kept = self.read_refresh_token(form.get("token", ""))
        person = self.world.person(kept["oid"]) if kept else None
        if kept and person and kept["family"] not in self.memory.dead_families:
            self.memory.dead_families.add(kept["family"])
            self.world.happened("identity", "revoke", person.email, issuer=self.name)


class _Rogue(_C4CSignIn):
    """An issuer that an attacker runs. Its keys are its own; codes, secrets and verifiers it is given it keeps as events."""

    name = "rogue"

    def check_client_id(self, client_id: str) -> None:
        pass

    def check_client(self, form: dict[str, str]) -> None:
        basic = request.authorization
        given = {"client_id": basic.username, "client_secret": basic.password} if basic and basic.type == "basic" else {}
        self.world.happened("identity", "caught", "", issuer=self.name, form=form | given)


class IdentityProvider:
    """Both issuers and their back door. Everything is about the World of the moment."""

    def __init__(self, get_world: GetWorld, *, public_url: Callable[[], str], state_dir: Path | None = None) -> None:
        def ring(name: str) -> KeyRing:
            return KeyRing(state_dir / f"identity-{name}.json" if state_dir else None)

        self._get_world = get_world
        self.redirect_uris: set[str] = set()  # registered besides every address on this machine
        self.entra = _Entra(get_world, public_url, ring("microsoft"))
        self.c4c = _C4CSignIn(get_world, public_url, ring("c4c"))
        self.rogue = _Rogue(get_world, public_url, ring("rogue"))

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
            return self.entra.ring.sign(self.entra.id_claims(person, {}))

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

    def require_admin(
        self, person: Person | None = None, *, number: int = 90094, at: Literal["authorize", "token"] = "authorize"
    ) -> None:
        """Let a person, or everybody, need an administrator's consent, as the sign-in page or the token endpoint tells.

        `number` is what stands after AADSTS, e.g. 90094 or 65001; 0 ends it.
        """
        world = self._get_world()
        with world.lock:
            self.entra.memory.admin_needed[person.object_id if person else ""] = (number, at)
            world.happened("identity", "require_admin", person.email if person else "", number=number)

    def require_claims(self, person: Person, claims: str) -> None:
        """Let every exchange answer AADSTS50076 with this claims challenge; an empty one ends that."""
        self._change("require_claims", person, lambda memory: memory.challenges.update({person.object_id: claims}))

    def revoke_refresh_token(self, token: str) -> None:
        """Make one refresh token worthless."""
        kept = jwt.decode(token, options={"verify_signature": False})
        person = self._get_world().person(kept["oid"])
        if person is not None:
            self._change("revoke_refresh_token", person, lambda memory: memory.dead_families.add(kept["jti"]))

    def _change(self, kind: str, person: Person, change: Callable[[Memory], object]) -> None:
        world = self._get_world()
        with world.lock:
            for issuer in (self.entra, self.c4c):
                change(issuer.memory)
            world.happened("identity", kind, person.email)


def provider_of(app: Flask) -> IdentityProvider:
    """The back door of an app that `create_app` made."""
    return cast(IdentityProvider, app.extensions["identity"])


def create_app(
    get_world: GetWorld,
    *,
    public_url: Callable[[], str],
    pages_url: Callable[[], str] | None = None,
    state_dir: Path | None = None,
) -> Flask:
    """Make the WSGI app of both issuers. `public_url` tells, without a trailing slash, where it is reached; `pages_url` the same
    for browsers, if they go elsewhere.

    With `state_dir` (an existing directory) the keys are kept there, so that tokens outlive a restart.
    """
    app = Flask("simulator.identity")
    provider = app.extensions["identity"] = IdentityProvider(get_world, public_url=public_url, state_dir=state_dir)
    for issuer in (provider.entra, provider.c4c, provider.rogue):
        issuer.pages_url = pages_url or public_url
    watch(app, "identity", get_world)
    _serve_entra(app, provider)
    for issuer in (provider.c4c, provider.rogue):
        _serve_plain(app, provider, issuer)

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
        return authorize(entra, provider.redirect_uris, place=tid)

    @app.post("/<tid>/oauth2/v2.0/token")
    def entra_token(tid: str) -> Response:
        with entra.world.lock:
            return jsonify(entra.redeem_at(tid, request.form.to_dict()))


def _serve_plain(app: Flask, provider: IdentityProvider, issuer: _C4CSignIn) -> None:
    """Add an issuer that has no tenants, under its name."""
    pages = Blueprint(issuer.name, __name__, url_prefix=f"/{issuer.name}")

    @pages.get("/.well-known/openid-configuration")
    def discovery() -> Response:
        return jsonify(issuer.discovery())

    @pages.get("/oauth2/certs")
    def keys() -> Response:
        return jsonify(issuer.ring.jwks())

    @pages.route("/oauth2/authorize", methods=["GET", "POST"])
    def page() -> AnyResponse:
        return authorize(issuer, provider.redirect_uris)

    @pages.post("/oauth2/token")
    def token() -> Response:
        with issuer.world.lock:
            return jsonify(issuer.redeem(request.form.to_dict()))

    @pages.post("/oauth2/revoke")
    def revoke() -> Response:
        with issuer.world.lock:
            issuer.revoke(request.form.to_dict())
        return Response()

    @pages.get("/oauth2/logout")
    def log_out() -> AnyResponse:
        """OpenID Connect RP-Initiated Logout 1.0."""
        target = request.args.get("post_logout_redirect_uri", "")
        if target and not may_return(target, provider.redirect_uris):
            raise issuer.refuse(500112, "invalid_request", "The address to return to is not registered.")
        with issuer.world.lock:
            forget(issuer)
        if not target:
            return Response("You are signed out.", content_type="text/plain")
        state = {"state": request.args["state"]} if "state" in request.args else {}
        return redirect(f"{target}{'&' if '?' in target else '?'}{urlencode(state)}" if state else target)

    app.register_blueprint(pages)
