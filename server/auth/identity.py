"""Who is calling: judge the tokens by which people of Microsoft Entra, of Google and of Exchange servers call our API.

Which service made a token, the token says; from then on only that service's rules (`EntraIssuer`, `GoogleIssuer`, and in
`exchange_identity` one `ExchangeIssuer` for each server) and its own keys count. The keys are cached; a key's name that we do
not know makes us look again, at most once a minute, so that forged ones cause no storm. Everything is checked against exact
values: RS256 only, issuer, audience, purpose, times. Header members that point to keys are refused. Sources: Entra "access
tokens", "access token claims reference" (domain page outlook.md 2.3); Google "OpenID Connect", "Authenticate with a backend
server" (gmail.md 1.4).

A token that was judged good is known again by its SHA-256 and not judged anew, which saves a millisecond of every request. That
weakens nothing: the digest is of the whole token, so another signature or another claim is another token; nothing is kept of
refused ones; what depends on the time is compared with the clock each time; and a token is known only as long as the very key
that signed it is, so that withdrawing a key, and each fetching of the keys (hourly), forgets it. What is kept is bounded, holds
no token, and says only what the token says: whether the person may come in is asked of the database each time.

It does not decide whether the tenant or the person is known to us; that is services.provisioning. The address in the claims is
for display only: an identity is (tenant, subject). A tenant of Entra is a GUID, one of Google a domain, and one of an Exchange
server begins with "exchange:", so none can pass for the other.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, Literal, Protocol, TypeVar

import jwt
from jwt.algorithms import RSAAlgorithm

from server import logs
from server.auth.flow import SignInRefused, is_issuer
from server.errors import NeedsReauth, SsiError, Transient
from server.transport import Gateway, raise_for_busy

OFFICE_CLIENTS = frozenset(
    {
        "ea5a67f6-b6f3-4338-b240-c655ddc3cc8e",  # all Office hosts, for Office.auth.getAccessToken
        "d3590ed6-52b3-4102-aeff-aad2292ab01c",  # Office and Outlook on the desktop
        "bc59ab01-8403-45c6-8796-ac3ef710b3e3",  # Outlook on the web
        "27922004-5251-4030-b22d-91ecd9a37ea4",  # Outlook for phones
    }
)
"""Microsoft's own clients that an admin pre-authorises for an add-in (D:docs/develop/register-sso-add-in-aad-v2.md; the list for
Outlook is in the Teams documentation on extending apps to Outlook)."""

_LEEWAY_S = 60
_ID_TOKEN_LEEWAY_S = 300  # nobody can sign in on a server whose clock is further off
_REFETCH_S = 60.0  # at most one look at the authority in this time, whatever is asked for
_FRESH = timedelta(hours=1)  # a key that Entra withdrew is refused after this
_STALE = timedelta(hours=24)  # keys serve so long when the authority cannot be reached
_MAX_TOKEN = 16 * 1024
MIN_KEY_BITS = 2048
_REMEMBERED = 5_000  # tokens judged good, the least recently used goes first
_HEADER = frozenset({"alg", "typ", "kid", "x5t"})
_GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_DOMAIN = re.compile(r"(?=.{4,80}\Z)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]*[a-z0-9]")
_GOOGLE_ACCOUNT = re.compile(r"[0-9]{1,40}")  # Google promises ASCII of up to 255 characters, and gives 21 digits
_OURS = ("verify_exp", "verify_nbf", "verify_iat", "verify_aud", "verify_iss", "verify_sub", "verify_jti")
_ONLY_SIGNATURE: Any = dict.fromkeys(_OURS, False)  # the rest is checked here, by our clock and exactly

log = logs.get(__name__)


Service = Literal["entra", "google", "exchange", "ssi"]
"""Whose token somebody calls with. "ssi" are our own pane tokens, which the database knows; no `Verifier` is asked about them."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a good token says. The identity is `tenant` and `subject`; nothing else of it may decide what somebody may do."""

    service: Service  # whose token it is: only Entra's can be exchanged for access to a mailbox
    issuer: str
    tenant: str  # Entra's tenant id (`tid`), a lower-case GUID; Google's (`hd`), a Workspace's domain; "exchange:<host[:port]>"
    subject: str  # Entra's object id (`oid`), a lower-case GUID; Google's account (`sub`); Exchange's `msexchuid`
    email: str = field(repr=False)  # may change, may be empty, proves nothing
    name: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Key:
    public: Any
    issuer: str | None  # the issuer it is good for, may hold {tenantid}; None: any
    lifetime: tuple[datetime, datetime] | None = None  # of the certificate that it came in; outside of it, it signs nothing


class KeySource(Protocol):
    """Who publishes keys."""

    @property
    def service(self) -> str:
        """Its name in the log."""

    def published(self) -> dict[str, Key]:
        """Return the keys that the service publishes and that are fit, by their names. Raises: Transient, Rejected."""


class Issuer(Protocol):
    """A sign-in service whose tokens are taken. The claims it is given are unpacked JSON, of which nothing is sure."""

    service: Service
    key_member: Literal["kid", "x5t"]  # where the header of its tokens names their key

    def made(self, claims: Mapping[str, Any]) -> bool:
        """Say whether a token that says this has to be judged by this service's rules."""

    def published(self) -> dict[str, Key]:
        """Return the keys that the service publishes and that are fit, by their names. Raises: Transient, Rejected."""

    def times(self, claims: Mapping[str, Any]) -> dict[str, int]:
        """Return "exp", and "iat" and "nbf" if there are any, in seconds. Raises: NeedsReauth unless they are as they must be."""

    def judge(self, claims: Mapping[str, Any], key: Key) -> tuple[str, str, str]:
        """Return tenant, subject and address. Raises: NeedsReauth unless the claims are those of a token for us."""


class EntraIssuer:
    """Access tokens of version 2.0 for our API, of any tenant, delegated by a person to a client that may hold them.

    `authority` is the sign-in origin without tenant; `audience` holds our client id and, if used, our api:// URI. Clients other
    than ourselves (by the client ids in `audience`) and `clients` may not hold tokens for us.
    """

    service: Service = "entra"
    key_member: Literal["kid", "x5t"] = "kid"

    def __init__(
        self,
        gateway: Gateway,
        *,
        authority: str,
        audience: frozenset[str],
        required_scope: str = "access_as_user",
        clients: frozenset[str] = OFFICE_CLIENTS,
    ) -> None:
        self._gateway = gateway
        self._authority = authority.rstrip("/")
        self._audience = audience - {""}  # an installation without a client id must not accept tokens without an audience
        self._scope = required_scope
        self._clients = clients | {name for name in audience if _GUID.fullmatch(name)}

    def made(self, claims: Mapping[str, Any]) -> bool:
        return text_of(claims, "iss").startswith(self._authority + "/")

    def published(self) -> dict[str, Key]:
        metadata = fetch_json(self._gateway, f"{self._authority}/common/v2.0/.well-known/openid-configuration")
        if metadata.get("issuer") != f"{self._authority}/{{tenantid}}/v2.0":
            raise Transient("The sign-in service describes itself by another issuer.")
        jwks_uri = text_of(metadata, "jwks_uri")
        if not jwks_uri.startswith(self._authority + "/"):
            raise Transient("The sign-in service keeps its keys elsewhere.")
        return _read_keys(fetch_json(self._gateway, jwks_uri))

    def times(self, claims: Mapping[str, Any]) -> dict[str, int]:
        return read_times(claims, "exp", "iat")

    def judge(self, claims: Mapping[str, Any], key: Key) -> tuple[str, str, str]:
        tenant = self._origin(claims, key)
        self._check_purpose(claims)
        return tenant, text_of(claims, "oid"), text_of(claims, "preferred_username")

    def _origin(self, claims: Mapping[str, Any], key: Key) -> str:
        """The issuer must be that of the token's own tenant, and the key must be good for that issuer."""
        tenant, issuer = text_of(claims, "tid"), text_of(claims, "iss")
        if not _GUID.fullmatch(tenant) or not _GUID.fullmatch(text_of(claims, "oid")):
            raise refused("it names no tenant or person")
        if issuer != f"{self._authority}/{tenant}/v2.0":
            raise refused("another issuer made it")
        if key.issuer is not None and key.issuer.replace("{tenantid}", tenant) != issuer:
            raise refused("its key belongs to another issuer")
        return tenant

    def _check_purpose(self, claims: Mapping[str, Any]) -> None:
        """An access token for our API, for a person, held by a client that may: no id token, no Graph token, no daemon's."""
        if text_of(claims, "aud") not in self._audience:
            raise refused("it was issued for another service")
        if claims.get("ver") != "2.0":
            raise refused("it is not of version 2.0")
        if self._scope not in text_of(claims, "scp").split(" "):
            raise refused("it does not allow to act as the person here")
        if text_of(claims, "azp") not in self._clients:
            raise refused("another application holds it")


class GoogleIssuer:
    """ID tokens that an add-on of ours got for a person of a Google Workspace; accounts without one (gmail.com) are refused.

    `issuer` is Google's origin, with which a token may name it or without the "https://"; `audience` holds the OAuth client ids
    of our add-ons.
    """

    service: Service = "google"
    key_member: Literal["kid", "x5t"] = "kid"

    def __init__(self, gateway: Gateway, *, issuer: str, keys_url: str, audience: frozenset[str]) -> None:
        self._gateway = gateway
        self._issuers = frozenset({issuer.rstrip("/"), issuer.rstrip("/").removeprefix("https://")})
        self._keys_url = keys_url
        self._audience = audience - {""}

    def made(self, claims: Mapping[str, Any]) -> bool:
        return text_of(claims, "iss") in self._issuers

    def published(self) -> dict[str, Key]:
        return _read_keys(fetch_json(self._gateway, self._keys_url))

    def times(self, claims: Mapping[str, Any]) -> dict[str, int]:
        return read_times(claims, "exp", "iat")

    def judge(self, claims: Mapping[str, Any], key: Key) -> tuple[str, str, str]:
        tenant, subject = text_of(claims, "hd"), text_of(claims, "sub")
        if text_of(claims, "aud") not in self._audience:
            raise refused("it was issued for another service")
        if not _DOMAIN.fullmatch(tenant) or not _GOOGLE_ACCOUNT.fullmatch(subject):
            raise refused("it names no organization or person")
        if claims.get("email_verified") is not True:
            raise refused("Google has not verified its address")
        return tenant, subject, text_of(claims, "email")


class PushIssuer(GoogleIssuer):
    """Tokens by which Google's Pub/Sub proves a push: made for exactly our address, for the service account of our operator.

    Sources: "Authentication for push subscriptions" of Cloud Pub/Sub (gmail.md [R18]): `aud` is the audience that the
    subscription names, `email` its service account, `email_verified` true.
    """

    def __init__(self, gateway: Gateway, *, issuer: str, keys_url: str, audience: str, account: str) -> None:
        super().__init__(gateway, issuer=issuer, keys_url=keys_url, audience=frozenset({audience}))
        self._account = account

    def judge(self, claims: Mapping[str, Any], key: Key) -> tuple[str, str, str]:
        email = text_of(claims, "email")
        if text_of(claims, "aud") not in self._audience:
            raise refused("it was issued for another service")
        if email != self._account or claims.get("email_verified") is not True:
            raise refused("another account made it")
        return "pubsub", text_of(claims, "sub"), email


class HostIssuer(GoogleIssuer):
    """Tokens by which Google proves that it runs an add-on of ours when it calls us: made for the address that it calls.

    `addresses` are all that it may call, `account` the service account of our operator's project for add-ons. The claims'
    `tenant` is the address: whoever serves it compares. Source: systemIdToken, gmail.md 1.4.
    """

    def __init__(self, gateway: Gateway, *, issuer: str, keys_url: str, addresses: frozenset[str], account: str) -> None:
        super().__init__(gateway, issuer=issuer, keys_url=keys_url, audience=addresses)
        self._account = account

    def made(self, claims: Mapping[str, Any]) -> bool:
        return super().made(claims) and text_of(claims, "aud") in self._audience

    def judge(self, claims: Mapping[str, Any], key: Key) -> tuple[str, str, str]:
        email = text_of(claims, "email")
        if email != self._account or claims.get("email_verified") is not True:
            raise refused("another account made it")
        return text_of(claims, "aud"), text_of(claims, "sub"), email


@dataclass(frozen=True, slots=True)
class _Judged:
    """What is kept of a token that was good: what it says, its times, and the key that signed it."""

    keys: _KeyRing[Issuer]
    kid: str
    key: Key
    times: Mapping[str, int]
    claims: Claims


class Verifier:
    """Judges bearer tokens of these services. Thread-safe; one per process, since it holds the keys."""

    def __init__(self, issuers: Sequence[Issuer], now: Callable[[], datetime]) -> None:
        self._rings = [_KeyRing(issuer, now) for issuer in issuers]
        self._now = now
        self._lock = threading.Lock()
        self._judged: OrderedDict[bytes, _Judged] = OrderedDict()  # by SHA-256 of the token

    def verify(self, bearer: str) -> Claims:
        """Return what the token says of its holder.

        Raises: NeedsReauth if it is not good (any more); Transient if its service's keys cannot be fetched.
        """
        if len(bearer) > _MAX_TOKEN or not bearer.isascii():  # an encoding error would carry the token into the log
            raise refused("it is not a token")
        digest = hashlib.sha256(bearer.encode("ascii")).digest()
        judged = self._recall(digest)
        if judged is None or judged.keys.key(judged.kid) is not judged.key:
            judged = self._judge(bearer)
            self._remember(digest, judged)
        else:
            self._check_times(judged.times)
        return judged.claims

    def is_meant(self, bearer: str) -> bool:
        """Say whether a token names itself one of these services', of which nothing is proven."""
        if len(bearer) > _MAX_TOKEN or not bearer.isascii():
            return False
        try:
            self._ring_of(bearer)
        except NeedsReauth:
            return False
        return True

    def _judge(self, bearer: str) -> _Judged:
        header = _header(bearer)
        ring = self._ring_of(bearer)
        kid = text_of(header, ring.issuer.key_member)
        if not kid:
            raise refused("it names no key")
        key = ring.key(kid)
        try:
            claims = jwt.decode(bearer, key.public, algorithms=["RS256"], options=_ONLY_SIGNATURE)
        except (jwt.PyJWTError, ValueError) as error:
            raise refused("its signature is not good") from error
        times = ring.issuer.times(claims)
        self._check_times(times)
        tenant, subject, email = ring.issuer.judge(claims, key)
        said = Claims(
            service=ring.issuer.service,
            issuer=claims["iss"],
            tenant=tenant,
            subject=subject,
            email=email,
            name=text_of(claims, "name"),
            expires_at=datetime.fromtimestamp(times["exp"], UTC),
        )
        return _Judged(ring, kid, key, times, said)

    def _ring_of(self, bearer: str) -> _KeyRing[Issuer]:
        """Choose by what the token says of itself, of which nothing is trusted but the choice among our own services."""
        claimed = _unverified(bearer)
        ring = next((ring for ring in self._rings if ring.issuer.made(claimed)), None)
        if ring is None:
            raise refused("another issuer made it")
        return ring

    def _recall(self, digest: bytes) -> _Judged | None:
        with self._lock:
            judged = self._judged.get(digest)
            if judged is not None:
                self._judged.move_to_end(digest)
            return judged

    def _remember(self, digest: bytes, judged: _Judged) -> None:
        with self._lock:
            self._judged[digest] = judged
            while len(self._judged) > _REMEMBERED:
                self._judged.popitem(last=False)

    def _check_times(self, times: Mapping[str, int]) -> None:
        now = self._now().timestamp()
        if times["exp"] <= now - _LEEWAY_S:
            raise refused("it has expired")
        if max(times.get("iat", 0), times.get("nbf", 0)) > now + _LEEWAY_S:
            raise refused("it is not valid yet")


class IdTokens:
    """Judges the ID tokens that our client `client_id` got from one provider's token endpoint. Thread-safe; it holds the keys.

    An ID token says who signed in, once, to the very flow that asked (OpenID Connect Core 3.1.3.7). It opens nothing here: a
    Verifier takes none of Entra's, and those of Google only from the add-on's client.
    """

    def __init__(self, gateway: Gateway, *, keys_url: str, client_id: str, now: Callable[[], datetime]) -> None:
        self._gateway = gateway
        self._keys_url = keys_url
        self._client_id = client_id
        self._now = now
        self._ring = _KeyRing(self, now)

    @property
    def service(self) -> str:
        return self._keys_url

    def published(self) -> dict[str, Key]:
        return _read_keys(fetch_json(self._gateway, self._keys_url))

    def verify(self, token: str, *, issuers: Collection[str], nonce: str, since: datetime | None = None) -> Mapping[str, Any]:
        """Return the claims, of which `iss`, `aud`, `exp`, `iat`, `nonce` and `sub` are sure to be there and to be good.

        `issuers` are the names that the provider may call itself, of which {tenantid} stands for the token's `tid`; `since`:
        the person must have authenticated after that. Clocks may differ by five minutes.

        Raises: SignInRefused; Transient if the keys cannot be fetched.
        """
        try:
            if len(token) > _MAX_TOKEN or not token.isascii():
                raise refused("it is not a token")
            self._check_issuer(_unverified(token), issuers)  # first, so that another provider's key is not looked for
            claims, key = self._opened(token)
            tenant = text_of(claims, "tid")
            if key.issuer is not None and key.issuer.replace("{tenantid}", tenant) != claims["iss"]:
                raise refused("its key belongs to another issuer")
            self._check_audience(claims)
            self._check_times(claims, since)
        except NeedsReauth as error:
            raise SignInRefused("token_refused", str(error)) from error
        if not hmac.compare_digest(text_of(claims, "nonce").encode(), nonce.encode()):
            raise SignInRefused("nonce_mismatch", "The ID token belongs to another sign-in.")
        return claims

    def _check_issuer(self, claims: Mapping[str, Any], issuers: Collection[str]) -> None:
        tenant = text_of(claims, "tid")
        if not is_issuer(text_of(claims, "iss"), issuers, tenant=tenant if _GUID.fullmatch(tenant) else "(?!)"):
            raise SignInRefused("issuer_mismatch", "Another issuer made the ID token.")

    def _opened(self, token: str) -> tuple[Mapping[str, Any], Key]:
        # SAP's services name their keys' address ("jku") in the header: what is beside the id is not looked at (RFC 7515, 4).
        key = self._ring.key(text_of(_header(token, is_ours=False), "kid"))
        try:
            return jwt.decode(token, key.public, algorithms=["RS256"], options=_ONLY_SIGNATURE), key
        except (jwt.PyJWTError, ValueError) as error:
            raise refused("its signature is not good") from error

    def _check_audience(self, claims: Mapping[str, Any]) -> None:
        if claims.get("aud") not in (self._client_id, [self._client_id]) or not self._client_id:
            raise refused("it was issued for another service")
        if claims.get("azp", self._client_id) != self._client_id:
            raise refused("another application holds it")
        if not 0 < len(text_of(claims, "sub")) <= 255:
            raise refused("it names no person")

    def _check_times(self, claims: Mapping[str, Any], since: datetime | None) -> None:
        times, now = read_times(claims, "exp", "iat"), self._now().timestamp()
        if times["exp"] <= now - _ID_TOKEN_LEEWAY_S:
            raise refused("it has expired")
        if times["iat"] > now + _ID_TOKEN_LEEWAY_S or times.get("nbf", 0) > now + _ID_TOKEN_LEEWAY_S:
            raise refused("it is not valid yet")
        authenticated = claims.get("auth_time")
        if since is not None and (type(authenticated) is not int or authenticated < since.timestamp() - _ID_TOKEN_LEEWAY_S):
            raise refused("the person did not authenticate anew")


@dataclass(frozen=True, slots=True)
class _Keys:
    by_id: Mapping[str, Key]
    fetched_at: datetime


S = TypeVar("S", bound=KeySource)


class _KeyRing(Generic[S]):
    """The keys of one issuer, fetched when they are needed and kept for a while. Thread-safe."""

    def __init__(self, issuer: S, now: Callable[[], datetime]) -> None:
        self.issuer = issuer
        self._now = now
        self._lock = threading.Lock()
        self._keys: _Keys | None = None
        self._tried_at: datetime | None = None
        self._failure: SsiError | None = None

    def key(self, kid: str) -> Key:
        """Raises: NeedsReauth if the service has no such key; Transient if that cannot be told."""
        with self._lock:
            keys = self._keys
            if keys is None or self._now() - keys.fetched_at > _FRESH or kid not in keys.by_id:
                keys = self._look_again(keys)
        if keys is not None and kid in keys.by_id:
            key = keys.by_id[kid]
            if key.lifetime and not key.lifetime[0] <= self._now() <= key.lifetime[1]:
                raise refused("its certificate is not valid now")
            return key
        if self._failure is not None or keys is None:
            raise Transient("The keys of the sign-in service cannot be fetched.", retry_after_s=_REFETCH_S) from self._failure
        raise refused("no key of the sign-in service made it")

    def _look_again(self, keys: _Keys | None) -> _Keys | None:
        """Fetch the keys unless that was just tried; return the usable ones. Hold the lock: one fetch serves all who wait."""
        now = self._now()
        if self._tried_at is None or not 0 <= (now - self._tried_at).total_seconds() < _REFETCH_S:
            self._tried_at = now
            try:
                self._keys = keys = _Keys(self._fetch(), now)
                self._failure = None
            except SsiError as error:
                if self._failure is None:
                    log.warning("signing keys cannot be fetched", service=self.issuer.service, kept=keys is not None)
                self._failure = error
        if keys is not None and now - keys.fetched_at > _STALE:
            return None
        return keys

    def _fetch(self) -> dict[str, Key]:
        found = self.issuer.published()
        if not found:
            raise Transient("The sign-in service publishes no keys.")
        return found


def fetch_json(gateway: Gateway, url: str) -> dict[str, Any]:
    """Return what a sign-in service tells of itself. Raises: Transient; Rejected if it is larger than that can be."""
    reply = gateway.send("GET", url, max_bytes=1024 * 1024)
    raise_for_busy(reply, gateway.peer, changes=False)
    try:
        body = json.loads(reply.content)
    except (ValueError, RecursionError):
        body = None
    if reply.status != 200 or not isinstance(body, dict):
        raise Transient("The sign-in service did not describe itself.")
    return body


def _unverified(bearer: str) -> Mapping[str, Any]:
    """Read what a token says of itself, of which nothing is trusted but the choice among our own services."""
    try:
        return jwt.decode(bearer, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise refused("it is not a token") from error


def _header(bearer: str, *, is_ours: bool = True) -> dict[str, Any]:
    """Read the header of a token, of which nothing is trusted but the choice among our own keys.

    What was made for our API holds nothing else; one that must be understood whole ("crit") is refused anyway.
    """
    try:
        header = jwt.get_unverified_header(bearer)
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise refused("it is not a token") from error
    is_odd = not header.keys() <= _HEADER if is_ours else "crit" in header
    if header.get("alg") != "RS256" or is_odd or header.get("typ", "JWT") != "JWT":
        raise refused("its header is not one of the sign-in service")
    return header


def read_times(claims: Mapping[str, Any], *needed: str) -> dict[str, int]:
    """Raises: NeedsReauth unless all that are needed are there, and each is a number of seconds that can be meant."""
    times = {name: claims[name] for name in ("exp", "iat", "nbf") if name in claims}
    if not times.keys() >= set(needed) or not all(type(value) is int and 0 < value < 2**40 for value in times.values()):
        raise refused("its times are missing or malformed")
    return times


def _read_keys(document: Mapping[str, Any]) -> dict[str, Key]:
    """Return the keys of a JWK set (RFC 7517)."""
    entries = document.get("keys")
    return dict(filter(None, map(_read_key, entries if isinstance(entries, list) else [])))


def _read_key(entry: Any) -> tuple[str, Key] | None:
    """Return a published key by its id; None for one that is not meant, or not fit, for RS256 signatures."""
    if not isinstance(entry, dict) or entry.get("kty") != "RSA" or not isinstance(entry.get("kid"), str):
        return None
    if entry.get("use", "sig") != "sig" or entry.get("alg", "RS256") != "RS256":
        return None
    try:
        public = RSAAlgorithm.from_jwk({name: entry[name] for name in ("kty", "n", "e")})
    except (jwt.PyJWTError, ValueError, KeyError):
        return None
    issuer = entry.get("issuer")
    if public.key_size < MIN_KEY_BITS or not (issuer is None or isinstance(issuer, str)):
        return None
    return entry["kid"], Key(public, issuer)


def text_of(claims: Mapping[str, Any], name: str) -> str:
    """Return a member that is a text, "" for any other and for none."""
    value = claims.get(name)
    return value if isinstance(value, str) else ""


def refused(why: str) -> NeedsReauth:
    """Return the refusal of a token; `why` goes on after a colon and tells nothing that the token holds."""
    return NeedsReauth(f"The sign-in is not valid here: {why}. Please sign in again.")
