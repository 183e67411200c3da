"""The composition root: Settings become Deps. The only place that knows which class stands behind which face."""

from __future__ import annotations

import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from server.auth import ExchangeLogin, TokenVault
from server.auth.exchange_identity import ExchangeIssuer
from server.auth.identity import EntraIssuer, GoogleIssuer, HostIssuer, Issuer, PushIssuer, Verifier
from server.auth.oauth import Entra, Google
from server.auth.oidc import Oidc
from server.auth.secrets import FileKeys, Kek, Secrets
from server.c4c import C4C, Codes, DeepLinks, ODataClient
from server.c4c.odata import PEER, basic
from server.c4c.saml import Minted, Minter, TokenSource
from server.config import Settings
from server.domain.hosts import AllowList
from server.errors import InvalidInput
from server.mail import Capability, Mailbox, MessageHead
from server.mail.exchange import ExchangeMailbox, Login
from server.mail.exchange.autodiscover import discover, scheme
from server.mail.google import GoogleMailbox
from server.mail.google.calls import Budget, Calls, describe
from server.mail.google.opened import head_of_open
from server.mail.graph import GraphMailbox
from server.mail.hosts import Guard
from server.mail.pace import Pace
from server.mail.smtp import Letter, Smtp
from server.services import Background, Deps, Doors, Limits, Principal, Tenant
from server.services.keys import check_keys
from server.services.lookup_cache import LookupCache
from server.services.provisioning import TenantSecrets
from server.store import Connection, Provider, Store
from server.transport import Breaker, Gateway, ssl_context

K = TypeVar("K")
V = TypeVar("V")

MAIL_SCOPES = tuple(
    f"https://graph.microsoft.com/{scope}"
    for scope in ("User.Read", "Mail.ReadWrite", "MailboxSettings.ReadWrite", "Contacts.ReadWrite")
)
GOOGLE_SCOPES = tuple(f"https://www.googleapis.com/auth/{scope}" for scope in ("gmail.modify", "contacts"))
_SCOPES: Mapping[Provider, tuple[str, ...]] = {"graph": MAIL_SCOPES, "google": GOOGLE_SCOPES}
C4C_SLOTS = 8  # parallel calls per tenant and process; SAP asks for fewer than 10 (c4c-odata.md, S10)
SHARE = 2  # of the threads beside requests, what one tenant may have for each thread of requests
CROWD = 4  # tenants that may have all of their share, so that others still find a thread
PARALLEL_READS = 4  # of one lookup, where a tenant is set to parallel reads instead of a batch
_KEPT_TENANTS = 1_000
_KEPT_CLIENTS = 20_000
_KEPT_MAILBOXES = 200  # each may hold connections of its own, as many as may ask it at once
_MAILBOXES: Mapping[Provider, type[Mailbox]] = {"graph": GraphMailbox, "exchange": ExchangeMailbox, "google": GoogleMailbox}


@dataclass(frozen=True, slots=True)
class Face:
    """What the web pages need to know of the installation."""

    public_url: str
    client_id: str
    entra_authority: str  # without tenant
    office_js_url: str
    frame_ancestors: tuple[str, ...]
    cors_origins: tuple[str, ...]
    cache_s: int
    proxies: int
    key_place: Literal["file", "vault"]  # where the key-encryption key lies, for the pages that say it
    pages_frame_ancestors: tuple[str, ...] = ()


def face(settings: Settings) -> Face:
    return Face(
        public_url=settings.public_url,
        client_id=settings.client_id,
        entra_authority=settings.entra_authority,
        office_js_url=settings.office_js_url,
        frame_ancestors=settings.frame_ancestors,
        cors_origins=settings.cors_origins,
        cache_s=settings.cache_s,
        proxies=settings.proxies,
        key_place="vault" if settings.key_vault else "file",
        pages_frame_ancestors=settings.pages_frame_ancestors,
    )


def build(settings: Settings, *, now: Callable[[], datetime] | None = None, sleep: Callable[[float], None] = time.sleep) -> Deps:
    """Return everything use cases need. Call it after any fork, since it starts threads as they are needed.

    `sleep` is how to wait for a mailbox that asks for a short pause, by the clock `now`.

    Raises: InvalidInput when the keys or the client secret cannot be used.
    """
    clock = now or (lambda: datetime.now(UTC))
    tls = ssl_context(settings.ca_file)
    gateway = partial(Gateway, ssl_context=tls, proxy_url=settings.proxy_url)
    store = Store(settings.database_url)
    identity = gateway("The sign-in service", timeout_s=settings.identity_timeout_s, keeps_alive=False)
    entra = Entra(settings.entra_authority, settings.client_id, _secret(settings, "client_secret_file"), identity, clock)
    google = _google(settings, identity, clock)
    secrets = _secrets(settings, clock)
    vault = TokenVault(store, secrets, clock, entra=entra, google=google, lease_s=3 * settings.identity_timeout_s)
    clients = _Clients(store, vault, gateway(PEER, timeout_s=settings.c4c_timeout_s), clock)
    guard = Guard(AllowList.of(settings.allowed_hosts), ssl_context=tls)
    mailboxes = _Mailboxes(
        vault,
        settings,
        clock,
        sleep,
        graph=gateway("Microsoft 365", timeout_s=settings.graph_timeout_s),
        google=gateway("Gmail", timeout_s=settings.google_timeout_s),
        guard=guard,
    )
    providers = _IdentityProviders(vault, identity, clock)
    return Deps(
        store=store,
        vault=vault,
        verifier=Verifier(_issuers(settings, identity), clock),
        c4c=clients.open,
        mailbox=mailboxes.open,
        pause_mailbox=mailboxes.pause,
        capabilities=partial(_capabilities, has_topic=bool(settings.google_topic)),
        links=lambda tenant: DeepLinks.from_json(tenant.c4c.links),
        now=clock,
        sleep=time.sleep,
        limits=Limits(
            context_deadline_s=settings.context_deadline_s,
            save_deadline_s=settings.save_deadline_s,
            lease_s=settings.lease_s,
            unknown_settle_s=settings.unknown_settle_s,
            user_calls_per_minute=settings.user_calls_per_minute,
            tenant_calls_per_minute=settings.tenant_calls_per_minute,
            failed_sign_ins_per_minute=settings.failed_sign_ins_per_minute,
        ),
        cache=LookupCache(max_age_s=settings.cache_s, now=clock),
        background=Background(
            ThreadPoolExecutor(settings.threads * SHARE * CROWD, thread_name_prefix="background"), settings.threads * SHARE
        ),
        mail_scopes=MAIL_SCOPES,
        doors=Doors(
            identity_provider=providers.of,
            c4c_by_password=clients.by_password,
            flows={"microsoft365": entra, "google": google},
            flow_scopes={"microsoft365": MAIL_SCOPES, "google": GOOGLE_SCOPES},
            mailbox_scopes=_SCOPES,
            try_mailbox=mailboxes.tried,
            exchange=_Exchange(guard),
            consumer_domains=frozenset(domain.lower() for domain in settings.consumer_domains),
        ),
        read_open=mailboxes.read_open,
        public_url=settings.public_url,
        hooks_url=_hooks_url(settings),
        push_verifier=_push_verifier(settings, identity, clock),
        host_verifier=_host_verifier(settings, identity, clock),
        send_mail=_mail_sender(settings, tls, clock),
    )


def _google(settings: Settings, gateway: Gateway, clock: Callable[[], datetime]) -> Google:
    return Google(
        settings.google_token_url,
        settings.google_client_id,
        _secret(settings, "google_client_secret_file"),
        gateway,
        clock,
        issuer=settings.google_issuer,
        keys_url=settings.google_keys_url,
        auth_url=settings.google_auth_url,
        revoke_url=settings.google_revoke_url,
    )


def _mail_sender(settings: Settings, tls: ssl.SSLContext, clock: Callable[[], datetime]) -> Callable[[Letter], None] | None:
    """Raises: InvalidInput."""
    if not settings.smtp_url:
        return None
    password = _secret(settings, "smtp_password_file")
    return Smtp(settings.smtp_url, password, settings.mail_from, tls, settings.smtp_timeout_s, now=clock).send


def redis_password(settings: Settings) -> str:
    """Raises: InvalidInput."""
    return _secret(settings, "redis_password_file")


def _secret(settings: Settings, name: str) -> str:
    file: Path | None = getattr(settings, name)
    if file is None:
        return ""
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InvalidInput("SSI_" + name.upper(), "cannot be read") from error


def check(settings: Settings) -> None:
    """Make sure that what is stored can be opened, as far as there is a database yet. For before any fork.

    Raises: InvalidInput when the keys cannot be used, or are not those of this database; Transient.
    """
    secrets = _secrets(settings, lambda: datetime.now(UTC))
    store = Store(settings.database_url)
    try:
        if store.is_ready():  # without, the server says by /readyz what is missing
            check_keys(store, secrets)
    finally:
        store.close()


def _secrets(settings: Settings, clock: Callable[[], datetime]) -> Secrets:
    """Raises: InvalidInput when the keys cannot be used."""
    keks: list[Kek] = []
    if settings.key_vault:
        keks.append(_vault_key(settings, lambda: clock().timestamp()))
    if settings.key_file is not None:
        keks.append(FileKeys(settings.key_file))
    return Secrets(*keks, clock=lambda: clock().timestamp())


def _vault_key(settings: Settings, clock: Callable[[], float]) -> Kek:
    try:
        from server.auth.key_vault import VaultKey
    except ModuleNotFoundError as error:
        raise InvalidInput("key_vault", f"needs the package's extra “azure” ({error.name} is not installed)") from error
    gateway = Gateway(
        "Azure Key Vault",
        timeout_s=settings.key_vault_timeout_s,
        ssl_context=ssl_context(settings.ca_file),
        proxy_url=settings.proxy_url,
    )
    return VaultKey(settings.key_vault, gateway, clock=clock)


def _issuers(settings: Settings, gateway: Gateway) -> list[Issuer]:
    audience = frozenset({settings.client_id, f"api://{settings.client_id}", _application_uri(settings)})
    issuers: list[Issuer] = [EntraIssuer(gateway, authority=settings.entra_authority, audience=audience)]
    if settings.google_audience:  # or a stranger's token could make us wait for Google's keys
        google = frozenset(settings.google_audience)
        issuers += [GoogleIssuer(gateway, issuer=settings.google_issuer, keys_url=settings.google_keys_url, audience=google)]
    pane = frozenset({f"{settings.public_url}/sidebar"})  # the manifest's SourceLocation
    return issuers + [ExchangeIssuer(gateway, host=host, audience=pane) for host in settings.exchange_metadata_hosts]


def _capabilities(provider: Provider, *, has_topic: bool) -> frozenset[Capability]:
    pushes: frozenset[Capability] = frozenset({"push"} if provider == "google" and has_topic else ())
    return _MAILBOXES[provider].capabilities | pushes


def _hooks_url(settings: Settings) -> str:
    """Raises: InvalidInput. (Graph calls nothing but https, and so does Pub/Sub.)"""
    if settings.hooks_url in ("", "off"):
        return settings.public_url if not settings.hooks_url and settings.public_url.startswith("https://") else ""
    if not settings.hooks_url.startswith("https://"):
        raise InvalidInput("SSI_HOOKS_URL", "must be https://host[:port], or off")
    return settings.hooks_url.rstrip("/")


def _push_verifier(settings: Settings, gateway: Gateway, clock: Callable[[], datetime]) -> Verifier | None:
    """Without a service account that signs them, no push can be told from a stranger's call."""
    if not (settings.google_push_account and _hooks_url(settings)):
        return None
    issuer = PushIssuer(
        gateway,
        issuer=settings.google_issuer,
        keys_url=settings.google_keys_url,
        audience=f"{_hooks_url(settings)}/hooks/google",
        account=settings.google_push_account,
    )
    return Verifier([issuer], clock)


def _host_verifier(settings: Settings, gateway: Gateway, clock: Callable[[], datetime]) -> Verifier | None:
    """Without the service account as which Google calls, it cannot be told from a stranger."""
    if not settings.gmail_service_account:
        return None
    issuer = HostIssuer(
        gateway,
        issuer=settings.google_issuer,
        keys_url=settings.google_keys_url,
        addresses=frozenset(f"{settings.public_url}/gmail/{call}" for call in ("homepage", "message", "compose", "action")),
        account=settings.gmail_service_account,
    )
    return Verifier([issuer], clock)


def _application_uri(settings: Settings) -> str:
    """The form Office needs for single sign-on: api://<host of the pane>/<client id> (outlook.md 1.4)."""
    return f"api://{settings.public_url.split('://', 1)[1]}/{settings.client_id}"


class _Exchange:
    """Implements ExchangeDoor."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def discover(self, address: str, login: ExchangeLogin) -> str:
        return discover(self._guard, address, get_login=lambda: Login(login.user, login.password, login.scheme))

    def scheme(self, url: str) -> Literal["ntlm", "basic"]:
        return scheme(self._guard, url)

    def is_listed(self, host: str) -> bool:
        return any(name == host for name, _ in self._guard.allowed.names)


class _IdentityProviders:
    """The tenants' own providers, kept since what they say of themselves is in them. Thread-safe."""

    def __init__(self, vault: TokenVault, gateway: Gateway, now: Callable[[], datetime]) -> None:
        self._vault, self._gateway, self._now = vault, gateway, now
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], Oidc] = OrderedDict()

    def of(self, tenant: Tenant) -> Oidc:
        """Raises: InvalidInput for settings that cannot be meant."""
        oidc = tenant.c4c.oidc
        key = (tenant.id, f"{oidc!r} {tenant.c4c_secrets!r}")
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                secret = TenantSecrets.opened(self._vault, tenant).oidc_client_secret
                found = Oidc(oidc["issuer"], oidc["client_id"], secret, self._gateway, self._now)
            _keep(self._kept, key, found, _KEPT_TENANTS)
        return found


class _Tenancy:
    """What the users of one tenant share: settings, the way to sign in, the places for parallel calls."""

    def __init__(self, tenant: Tenant, store: Store, vault: TokenVault, gateway: Gateway, now: Callable[[], datetime]) -> None:
        secrets = TenantSecrets.opened(vault, tenant)
        c4c = tenant.c4c
        self.codes = Codes.from_json(c4c.codes)
        self.links = DeepLinks.from_json(c4c.links)
        self.slots = threading.BoundedSemaphore(C4C_SLOTS)
        self.breaker = Breaker(PEER)
        # Its threads keep their connections, therefore one for all of the tenant's users.
        self.pool = ThreadPoolExecutor(PARALLEL_READS, thread_name_prefix="c4c") if c4c.parallel else None

        def audited(minted: Minted) -> None:
            with store.transaction() as tx:
                tx.record("saml.mint", minted.at, tenant_id=tenant.id, user_id=None, c4c_user=minted.user_id, assertion=minted.id)

        minter = Minter(
            issuer=c4c.saml_issuer,
            audience=c4c.saml_audience,
            token_url=c4c.token_url,
            client_id=c4c.oauth_client_id,
            key_pem=secrets.saml_key.encode(),
            certificate_pem=c4c.saml_certificate.encode(),
            now=now,
            on_mint=audited,
        )
        self.tokens = TokenSource(gateway, minter, client_secret=secrets.oauth_client_secret, now=now)


class _Clients:
    """Opens C4C as a user, and keeps what is opened, since tokens and connections stay warm in it. Thread-safe."""

    def __init__(self, store: Store, vault: TokenVault, gateway: Gateway, now: Callable[[], datetime]) -> None:
        self._store, self._vault, self._gateway, self._now = store, vault, gateway, now
        self._lock = threading.Lock()
        self._tenancies: OrderedDict[tuple[str, str], _Tenancy] = OrderedDict()
        self._clients: OrderedDict[tuple[str, str, str], C4C] = OrderedDict()

    def open(self, principal: Principal) -> C4C:
        tenant, user = principal.tenant, principal.user
        version = f"{tenant.c4c!r} {tenant.c4c_secrets!r}"  # changed settings make a new client
        key = (user.id, user.c4c_user_id, version)
        with self._lock:
            client = self._clients.get(key)
            if client is None:
                client = self._opened(principal, self._tenancy(tenant, version))
                _keep(self._clients, key, client, _KEPT_CLIENTS)
            return client

    def by_password(self, tenant: Tenant, user: str, password: str) -> C4C:
        """Return C4C as somebody who says to be this user; nothing of it is kept."""
        odata = ODataClient(
            self._gateway,
            tenant.c4c.url,
            authorize=basic(user, password),
            slots=threading.BoundedSemaphore(1),
            needs_csrf=True,
            sleep=time.sleep,
        )
        return C4C(odata, codes=Codes.from_json(tenant.c4c.codes), record_url=DeepLinks.from_json(tenant.c4c.links))

    def _tenancy(self, tenant: Tenant, version: str) -> _Tenancy:
        key = (tenant.id, version)
        found = self._tenancies.get(key)
        if found is None:
            found = _Tenancy(tenant, self._store, self._vault, self._gateway, self._now)
            _keep(self._tenancies, key, found, _KEPT_TENANTS)
        return found

    def _opened(self, principal: Principal, tenancy: _Tenancy) -> C4C:
        user_id = principal.user.c4c_user_id
        odata = ODataClient(
            self._gateway,
            principal.tenant.c4c.url,
            authorize=tenancy.tokens.authorize(user_id),
            renew=partial(tenancy.tokens.forget, user_id),
            slots=tenancy.slots,
            breaker=tenancy.breaker,
            needs_csrf=False,
            sleep=time.sleep,
            pool=tenancy.pool,
        )
        return C4C(odata, codes=tenancy.codes, record_url=tenancy.links, parallel=principal.tenant.c4c.parallel)


@dataclass(frozen=True, slots=True)
class _Opened:
    mailbox: Mailbox
    made_from: tuple[str, datetime, ExchangeLogin | None]  # its address, since when, and the login where one is needed at first


class _Mailboxes:
    """Opens mailboxes and keeps what is opened, since signed-in connections are in it, and for longer its pace. Thread-safe."""

    def __init__(
        self,
        vault: TokenVault,
        settings: Settings,
        now: Callable[[], datetime],
        sleep: Callable[[float], None],
        *,
        graph: Gateway,
        google: Gateway,
        guard: Guard,
    ) -> None:
        self._vault, self._settings, self._now, self._sleep = vault, settings, now, sleep
        self._graph, self._google, self._guard = graph, google, guard
        self._lock = threading.Lock()
        self._opened: OrderedDict[str, _Opened] = OrderedDict()
        self._paces: OrderedDict[str, tuple[Pace, Budget]] = OrderedDict()

    def open(self, connection: Connection) -> Mailbox:
        """Raises: NeedsReauth, Transient; InvalidInput for an Exchange server that cannot be one."""
        login = self._vault.exchange_login(connection.id) if connection.provider == "exchange" else None
        made_from = (connection.mailbox, connection.since, login)
        with self._lock:
            kept = self._opened.get(connection.id)
            if kept is None or kept.made_from != made_from:
                kept = _Opened(self._made(connection, login, *self._pace(connection)), made_from)
            _keep(self._opened, connection.id, kept, _KEPT_MAILBOXES)
        return kept.mailbox

    def pause(self, connection: Connection, seconds: float) -> None:
        """Let nobody of this process ask the mailbox for so long."""
        with self._lock:
            pace, _ = self._pace(connection)
        pace.pause(seconds)

    def _pace(self, connection: Connection) -> tuple[Pace, Budget]:
        kept = self._paces.get(connection.id) or (self._new_pace(), Budget())
        _keep(self._paces, connection.id, kept, _KEPT_CLIENTS)
        return kept

    def _new_pace(self) -> Pace:
        return Pace(clock=lambda: self._now().timestamp(), sleep=self._sleep)

    def tried(self, provider: Provider, address: str, key: str | ExchangeLogin) -> Mailbox:
        """Return a mailbox that is opened by an access token or a login which nobody keeps. Raises: InvalidInput."""
        pace, budget = self._new_pace(), Budget()
        if isinstance(key, ExchangeLogin):
            return self._at_exchange(address, key, pace)
        return self._by_token(provider, lambda: key, pace, budget)

    def read_open(self, message_id: str, user_token: str, message_token: str) -> MessageHead:
        """Raises: as head_of_open."""
        gmail, _ = self._google_services
        return head_of_open(self._google, gmail, message_id=message_id, user_token=user_token, message_token=message_token)

    def _made(self, connection: Connection, login: ExchangeLogin | None, pace: Pace, budget: Budget) -> Mailbox:
        if login is not None:
            return self._at_exchange(connection.mailbox, login, pace)
        token = partial(self._vault.access_token, connection.id, _SCOPES[connection.provider], connection.since)
        return self._by_token(connection.provider, token, pace, budget)

    def _at_exchange(self, address: str, login: ExchangeLogin, pace: Pace) -> Mailbox:
        return ExchangeMailbox(
            self._guard,
            url=login.url,
            address=address,
            get_login=partial(Login, login.user, login.password, login.scheme),
            impersonate=login.impersonates,
            in_flight=pace,
            now=self._now,
            sleep=self._sleep,
            deadline_s=self._settings.exchange_timeout_s,
        )

    def _by_token(self, provider: Provider, token: Callable[[], str], pace: Pace, budget: Budget) -> Mailbox:
        settings = self._settings
        if provider == "google":
            gmail, people = self._google_services
            calls = partial(Calls, self._google, get_token=token, in_flight=pace, sleep=self._sleep)
            return GoogleMailbox(
                calls(url=settings.gmail_url, service=gmail, budget=budget),
                calls(url=settings.google_people_url, service=people),
                topic=settings.google_topic,
            )
        return GraphMailbox(
            self._graph, url=settings.graph_url, get_token=token, in_flight=pace, now=self._now, sleep=self._sleep
        )

    @cached_property
    def _google_services(self) -> tuple[Any, Any]:
        return describe(self._settings.gmail_url), describe(self._settings.google_people_url, "people")


def _keep(kept: OrderedDict[K, V], key: K, value: V, limit: int) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > limit:
        kept.popitem(last=False)
