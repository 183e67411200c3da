"""The TokenVault: the only holder of refresh tokens and passwords, and the one who seals other secrets of tenants and users.

A connection's credentials are one sealed JSON value in its row. At Microsoft 365 and Google it is the refresh token and the
access tokens that are still good, so that another process, or the next one, need not ask the sign-in service again; at Exchange
it is the owner's login, unless the organization's service account impersonates everybody: then its login is sealed with the
organization. Credentials change only under the connection's lease, with its fencing token; of many callers in threads and
processes one refreshes and the others read what it stored. In memory an access token is trusted for a minute, then the row
decides again: a connection that was forgotten is closed everywhere by then.

What is not here: whose connection it is (services), and how tokens are exchanged (oauth).
"""

from __future__ import annotations

import json
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal, TypeVar

from server import logs
from server.auth.flow import Tokens
from server.auth.oauth import Entra, SignIn
from server.auth.secrets import CannotOpen, Secrets
from server.errors import NeedsReauth, Rejected, Transient
from server.store import Connection, Organization, Store, Transaction

_MARGIN = timedelta(seconds=60)  # a token handed out is good for at least so long
_TRUST = timedelta(seconds=60)  # then memory asks the row again
_KEY_TRUST = timedelta(minutes=5)
_POLL_S = 0.1
_REMEMBERED = 10_000
_KEPT_TOKENS = 4  # access tokens per connection, one for each set of scopes

T = TypeVar("T")

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class _AccessToken:
    scopes: frozenset[str]  # as asked for
    token: str = field(repr=False)
    expires_at: datetime

    def is_good(self, now: datetime) -> bool:
        return self.expires_at - _MARGIN > now


@dataclass(frozen=True, slots=True)
class _Credentials:
    """What a connection's sealed column holds."""

    refresh_token: str = field(repr=False)
    tokens: tuple[_AccessToken, ...]

    def usable(self, scopes: frozenset[str], now: datetime) -> _AccessToken | None:
        return next((t for t in self.tokens if t.scopes == scopes and t.is_good(now)), None)

    def to_json(self) -> bytes:
        tokens = [[sorted(t.scopes), t.token, t.expires_at.isoformat()] for t in self.tokens]
        return json.dumps({"refresh_token": self.refresh_token, "tokens": tokens}).encode()

    @classmethod
    def from_json(cls, text: bytes) -> _Credentials:
        body = json.loads(text)
        tokens = (_AccessToken(frozenset(s), token, datetime.fromisoformat(at)) for s, token, at in body["tokens"])
        return cls(body["refresh_token"], tuple(tokens))


@dataclass(frozen=True, slots=True)
class ExchangeLogin:
    """Where and as whom to sign in to an Exchange server."""

    url: str  # of Exchange Web Services
    user: str
    password: str = field(repr=False)
    scheme: Literal["ntlm", "basic"] = "ntlm"
    impersonates: bool = False  # a service account's, which acts for the owner of the mailbox

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> ExchangeLogin:
        return cls(**json.loads(text))


def _plain(secret: ExchangeLogin | Tokens | str, scopes: frozenset[str]) -> bytes:
    """Raises: NeedsReauth for tokens that do not last."""
    match secret:
        case ExchangeLogin():
            return secret.to_json()
        case Tokens(refresh_token=None):
            raise NeedsReauth("The sign-in gave no lasting access to the mailbox.")
        case Tokens():
            fresh = _AccessToken(scopes, secret.access_token, secret.expires_at)
            return _Credentials(secret.refresh_token or "", (fresh,)).to_json()
    return _Credentials(secret, ()).to_json()


class TokenVault:
    """Access tokens and logins for connections, sealed secrets for everybody. Thread-safe; one per process.

    `lease_s` is how long an exchange may hold a connection: longer than two calls of the sign-in service take at most.
    """

    def __init__(
        self,
        store: Store,
        secrets: Secrets,
        now: Callable[[], datetime],
        *,
        entra: Entra,
        google: SignIn,
        lease_s: float = 30.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self.secrets = self._secrets = secrets
        self._entra = entra
        self._sign_ins: Mapping[str, SignIn] = {"graph": entra, "google": google}
        self._now = now
        self._lease_s = lease_s
        self._sleep = sleep
        self._lock = threading.Lock()
        self._remembered: OrderedDict[tuple[str, frozenset[str]], tuple[_AccessToken, datetime, datetime]] = OrderedDict()
        self._wrapped_keys: dict[str, tuple[bytes, datetime]] = {}
        self._busy: weakref.WeakValueDictionary[str, threading.Lock] = weakref.WeakValueDictionary()

    def adopt(self, connection: Connection, assertion: str, scopes: Iterable[str]) -> None:
        """Exchange a person's access token for our API, just verified to be theirs, for lasting access to their mailbox.

        Does nothing if somebody else did it since `connection` was read.

        Raises: NeedsReauth if the person must consent or sign in, which is also noted on the connection; Transient; Rejected
        if Entra finds our request wrong.
        """
        wanted = frozenset(scopes)
        with self._held(connection.id) as fence:
            current = self._read(connection.id)
            if current.state == "active" and current.credentials != connection.credentials:
                return
            self._check_wanted(current)
            try:
                tokens = self._entra.on_behalf_of(assertion, current.issuer_tenant, wanted)
            except NeedsReauth as error:
                raise self._give_up(current, fence, error) from error
            if tokens.refresh_token is None:
                refused = NeedsReauth("Microsoft 365 gave no lasting access to the mailbox. Please sign in again.")
                raise self._give_up(current, fence, refused)
            self._keep(current, fence, _Credentials(tokens.refresh_token, ()), wanted, tokens)

    def _check_wanted(self, connection: Connection) -> None:
        """Raises: NeedsReauth if the mailbox was disconnected or its owner switched off, perhaps while we waited for our turn."""
        with self._store.transaction(reading=True) as tx:
            is_enabled = tx.principal_of(connection.user_id) is not None
        if connection.state in ("disconnected", "suspended") or not is_enabled:
            raise NeedsReauth(connection.reason or "The mailbox is not connected.", connection=connection.id)

    def connect(
        self,
        connection_id: str,
        secret: ExchangeLogin | Tokens | str | None,
        *,
        scopes: Iterable[str] = (),
        also: Callable[[Transaction], None] = lambda tx: None,
    ) -> None:
        """Keep what opens a mailbox in place of what there was: the owner's login, a refresh token, or fresh tokens for `scopes`.

        None keeps nothing: somebody else's login opens it. `also` is done in the same transaction: what it raises leaves all
        as it was.

        Raises: Transient; NotFound if there is no such connection; what `also` raises.
        """
        connection = self._read(connection_id)
        plain = None if secret is None else _plain(secret, frozenset(scopes))
        with self._held(connection_id) as fence:
            sealed = None if plain is None else self.seal(connection.tenant_id, connection_id, "credentials", plain)
            with self._store.transaction() as tx:
                if not tx.save_credentials(connection_id, fence, sealed, self._now(), reopens=True):
                    raise Transient("Another process is renewing the sign-in.", retry_after_s=1)
                also(tx)
        self._no_longer_remember(connection_id)

    def disconnect(self, connection_id: str, reason: str, *, also: Callable[[Transaction], None] = lambda tx: None) -> bool:
        """Have the provider end what opens a mailbox, and erase it, for good; return False if the provider could not be told.

        `also` is done in the same transaction as the erasing.

        Raises: Transient if somebody is renewing it right now; NotFound if there is no such connection.
        """
        self._read(connection_id)
        with self._held(connection_id):
            was_told = self.revoke(self._read(connection_id))
            with self._store.transaction() as tx:
                tx.disconnect(connection_id, reason, self._now())
                also(tx)
        self._no_longer_remember(connection_id)
        return was_told

    def revoke(self, connection: Connection) -> bool:
        """Have the provider end what this connection held when it was read; return False if it could not be told."""
        if connection.provider not in self._sign_ins or connection.credentials is None:
            return True
        plain = self.open(connection.tenant_id, connection.id, "credentials", connection.credentials)
        try:
            self._sign_ins[connection.provider].revoke(_Credentials.from_json(plain).refresh_token)
        except (Transient, Rejected) as error:
            log.warning("a grant could not be revoked", connection=connection.id, reason=type(error).__name__)
            return False
        return True

    def seal_service_account(self, tenant_id: str, organization_id: str, login: ExchangeLogin) -> bytes:
        """Seal the login that impersonates the people of an organization, to be kept with it. Raises: as seal."""
        return self.seal(tenant_id, organization_id, "service_account", login.to_json())

    def exchange_login(self, connection_id: str) -> ExchangeLogin:
        """Return how to sign in for this mailbox.

        Raises: NeedsReauth if it is not connected, or no longer; Transient; NotFound if there is no such connection.
        """
        with self._store.transaction(reading=True) as tx:
            connection = tx.connection(connection_id)
            organization = tx.organization_of(connection.user_id)
            refused = tx.refusal_of_service_account(organization.id)
        if organization.access_type != "exchange_impersonation":
            return ExchangeLogin.from_json(self._opened(connection))
        if connection.state != "active" or refused is not None:
            raise NeedsReauth(connection.reason or refused or "The mailbox is not connected.", connection=connection_id)
        return self.service_account(organization)

    def service_account(self, organization: Organization) -> ExchangeLogin:
        """Return the login that impersonates the organization's people. Raises: NeedsReauth if there is none."""
        if organization.service_account is None:
            raise NeedsReauth("The service account for Exchange is not set up.")
        plain = self.open(organization.tenant_id, organization.id, "service_account", organization.service_account)
        return replace(ExchangeLogin.from_json(plain), impersonates=True)

    def refused(self, connection: Connection, error: NeedsReauth) -> None:
        """Act on the word of a mailbox (`error`) that it no longer takes what was handed out since `connection` was read.

        Tokens are renewed; returns when there is a new one, or somebody else renewed them. A password is not handed out again,
        since trying on would lock the account; one of a service account to nobody in the organization.

        Raises: NeedsReauth, noted on the connection, if a person is needed; Transient; Rejected as access_token.
        """
        self._no_longer_remember(connection.id)
        with self._held(connection.id) as fence:
            current = self._read(connection.id)
            if (current.credentials, current.since) != (connection.credentials, connection.since):
                return
            if current.provider not in self._sign_ins:
                raise self._give_up(current, fence, error)
            credentials = self._credentials(current)
            if credentials.tokens:
                self._renew(current, fence, replace(credentials, tokens=()), credentials.tokens[0].scopes)

    def access_token(self, connection_id: str, scopes: Iterable[str], since: datetime | None = None) -> str:
        """Return a token valid for at least 60 s, refreshed under the connection's lease if needed.

        `since` is that of the connection as the caller knows it: one that was connected anew meanwhile, perhaps with another
        account, has no token for such a caller, who gets Transient.

        Raises: NeedsReauth if a person must sign in, which is also noted on the connection; Transient; NotFound if there is no
        such connection; Rejected if the sign-in service finds our request wrong.
        """
        wanted = frozenset(scopes)
        found = self._recall(connection_id, wanted, since)
        if found is None:
            found = self._stored(self._known(connection_id, since), wanted)
        if found is None:
            with self._one_thread(connection_id):
                found = self._recall(connection_id, wanted, since) or self._refreshed(connection_id, wanted, since)
        return found.token

    def forget(self, connection_id: str) -> None:
        """Erase a connection's tokens, have its provider end them, and ask for a new sign-in before it is used again.

        Raises: Transient; NotFound if there is no such connection.
        """
        self._read(connection_id)
        with self._held(connection_id) as fence:
            connection = self._read(connection_id)
            with self._store.transaction() as tx:
                if tx.save_credentials(connection_id, fence, None, self._now()):
                    tx.set_connection_state(connection_id, "needs_reauth", "The mailbox is not connected.", self._now())
        self._no_longer_remember(connection_id)
        self.revoke(connection)

    def new_data_key(self) -> bytes:
        """Return a fresh data key for a tenant that is being made, wrapped."""
        return self._secrets.new_data_key()

    def seal(self, tenant_id: str, row: str, column: str, plaintext: bytes) -> bytes:
        """Seal a secret for one column of one row of a tenant.

        Raises: CannotOpen if the tenant's key belongs to another installation; NotFound if there is no such tenant.
        """
        return self._by_key(tenant_id, lambda key: self._secrets.seal(key, plaintext, context=f"{tenant_id}:{row}:{column}"))

    def open(self, tenant_id: str, row: str, column: str, sealed: bytes) -> bytes:
        """Open what was sealed for this very place.

        Raises: CannotOpen if it was sealed for another place or changed since; NotFound if there is no such tenant.
        """
        return self._by_key(tenant_id, lambda key: self._secrets.open(key, sealed, context=f"{tenant_id}:{row}:{column}"))

    def keyed_hash(self, tenant_id: str, text: str) -> bytes:
        """Return 16 bytes by which `text` is found again within the tenant, and which do not show it.

        Raises: CannotOpen, NotFound, as seal.
        """
        return self._by_key(tenant_id, lambda key: self._secrets.keyed_hash(key, text))

    def hasher(self, tenant_id: str) -> Callable[[str], bytes]:
        """Return `keyed_hash` of the tenant, for the many texts of one job: the data key is opened once. Raises: as seal."""
        return self._by_key(tenant_id, self._secrets.hasher)

    def signature(self, tenant_id: str, text: bytes) -> bytes:
        """Return 32 bytes that prove later that it was us who handed out `text` in this tenant. Raises: as seal."""
        return self._by_key(tenant_id, lambda key: self._secrets.signature(key, text))

    # Reading

    def _read(self, connection_id: str) -> Connection:
        with self._store.transaction(reading=True) as tx:
            return tx.connection(connection_id)

    def _credentials(self, connection: Connection) -> _Credentials:
        """Raises: NeedsReauth if the connection is not open."""
        return _Credentials.from_json(self._opened(connection))

    def _opened(self, connection: Connection) -> bytes:
        """Raises: NeedsReauth if the connection is not open."""
        if connection.state != "active" or connection.credentials is None:
            reason = connection.reason or "The mailbox is not connected. Please sign in again."
            raise NeedsReauth(reason, connection=connection.id)
        return self.open(connection.tenant_id, connection.id, "credentials", connection.credentials)

    def _known(self, connection_id: str, since: datetime | None) -> Connection:
        """Raises: Transient if it is no longer the connection that the caller knows."""
        connection = self._read(connection_id)
        if since not in (None, connection.since) and connection.state == "active":
            raise Transient("The mailbox was connected anew. Try again.", retry_after_s=1)
        return connection

    def _stored(self, connection: Connection, scopes: frozenset[str]) -> _AccessToken | None:
        found = self._credentials(connection).usable(scopes, self._now())
        if found is not None:
            self._remember(connection.id, found, connection.since)
        return found

    def _recall(self, connection_id: str, scopes: frozenset[str], since: datetime | None) -> _AccessToken | None:
        now = self._now()
        with self._lock:
            token, until, begun = self._remembered.get((connection_id, scopes), (None, now, now))
            if token is None or until <= now or since not in (None, begun) or not token.is_good(now):
                return None
            self._remembered.move_to_end((connection_id, scopes))
            return token

    def _remember(self, connection_id: str, token: _AccessToken, since: datetime) -> None:
        with self._lock:
            self._remembered[connection_id, token.scopes] = (token, self._now() + _TRUST, since)
            if len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)

    def _no_longer_remember(self, connection_id: str) -> None:
        with self._lock:
            for key in [key for key in self._remembered if key[0] == connection_id]:
                del self._remembered[key]

    def _by_key(self, tenant_id: str, use: Callable[[bytes], T]) -> T:
        """Raises: CannotOpen, which a key that we remember from before a rotation does not cause."""
        wrapped = self._wrapped_key(tenant_id)
        try:
            return use(wrapped)
        except CannotOpen:
            with self._lock:
                self._wrapped_keys.pop(tenant_id, None)
            if self._wrapped_key(tenant_id) == wrapped:
                raise
            return use(self._wrapped_key(tenant_id))

    def _wrapped_key(self, tenant_id: str) -> bytes:
        now = self._now()
        with self._lock:
            wrapped, until = self._wrapped_keys.get(tenant_id, (None, now))
        if wrapped is None or until <= now:
            with self._store.transaction(reading=True) as tx:
                wrapped = tx.wrapped_key(tenant_id)
            with self._lock:
                self._wrapped_keys[tenant_id] = (wrapped, now + _KEY_TRUST)
        return wrapped

    # Changing

    def _refreshed(self, connection_id: str, scopes: frozenset[str], since: datetime | None) -> _AccessToken:
        with self._leased(connection_id) as fence:
            connection = self._known(connection_id, since)
            found = self._stored(connection, scopes)
            if found is not None:
                return found
            return self._renew(connection, fence, self._credentials(connection), scopes)

    def _renew(self, connection: Connection, fence: int, credentials: _Credentials, scopes: frozenset[str]) -> _AccessToken:
        sign_in = self._sign_ins[connection.provider]
        try:
            tokens = sign_in.refresh(credentials.refresh_token, connection.issuer_tenant, scopes)
        except NeedsReauth as error:
            raise self._give_up(connection, fence, error) from error
        return self._keep(connection, fence, credentials, scopes, tokens)

    def _keep(
        self, connection: Connection, fence: int, old: _Credentials, scopes: frozenset[str], tokens: Tokens
    ) -> _AccessToken:
        now = self._now()
        fresh = _AccessToken(scopes, tokens.access_token, tokens.expires_at)
        others = tuple(t for t in old.tokens if t.scopes != scopes and t.is_good(now))
        credentials = _Credentials(tokens.refresh_token or old.refresh_token, (fresh, *others)[:_KEPT_TOKENS])
        sealed = self.seal(connection.tenant_id, connection.id, "credentials", credentials.to_json())
        with self._store.transaction() as tx:
            kept = tx.save_credentials(connection.id, fence, sealed, now)
        if not kept:
            # Whoever took over has stored newer tokens; using ours as well would keep two lines of them alive.
            raise Transient("Another process is renewing the sign-in.", retry_after_s=1)
        self._remember(connection.id, fresh, now if connection.state == "needs_reauth" else connection.since)
        return fresh

    def _give_up(self, connection: Connection, fence: int, error: NeedsReauth) -> NeedsReauth:
        """Note on the connection that a person is needed, unless somebody took over meanwhile; return what to raise."""
        with self._store.transaction() as tx:
            tx.give_up(connection.id, fence, str(error), self._now())
        log.info("connection needs reauth", connection=connection.id, provider=connection.provider, reason=str(error))
        return NeedsReauth(str(error), claims=error.claims, connection=connection.id)

    # Taking turns

    @contextmanager
    def _held(self, connection_id: str) -> Iterator[int]:
        with self._one_thread(connection_id), self._leased(connection_id) as fence:
            yield fence

    @contextmanager
    def _one_thread(self, connection_id: str) -> Iterator[None]:
        """Let the threads of this process through one by one, so that only one of them polls for the lease."""
        with self._lock:
            busy = self._busy.setdefault(connection_id, threading.Lock())
        with busy:
            yield

    @contextmanager
    def _leased(self, connection_id: str) -> Iterator[int]:
        """Hold the connection's lease, waiting for another process if need be. Raises: Transient if that takes too long."""
        waited = 0.0
        while (fence := self._lease(connection_id)) is None:
            if waited > self._lease_s + _POLL_S:  # outlasts a holder that died
                raise Transient("Another process is renewing the sign-in.", retry_after_s=1)
            self._sleep(_POLL_S)
            waited += _POLL_S
        try:
            yield fence
        finally:
            with self._store.transaction() as tx:
                tx.release_connection(connection_id, fence)

    def _lease(self, connection_id: str) -> int | None:
        with self._store.transaction() as tx:
            return tx.lease_connection(connection_id, self._now(), self._lease_s)
