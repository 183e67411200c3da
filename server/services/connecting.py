"""Connecting a mailbox: what User Settings > Sync Settings > E-Mail Configuration does.

The organization decides what is offered. Whatever the service, a new key is tried before anything of the old connection is
touched: the mailbox says whose it is, that has to be the person's own address or one that the administrator allows, nobody else
may have it connected, and a connection that is still there is renewed by the same account only. Then key, owner, identity,
the end of another connection, the first session and the audit are one transaction.

Under Exchange Impersonation there is nothing to do for anybody but the administrator (`impersonate`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from server import logs
from server.auth import ExchangeLogin
from server.auth.flow import Granted, Tokens
from server.domain.hosts import is_exchange_online, server_url
from server.errors import AlreadyExists, Conflict, Forbidden, InvalidInput, NeedsReauth, NotFound, Rejected, SsiError, Transient
from server.mail import Mailbox, Owner
from server.services import Deps, Principal, subscriptions
from server.services.connections import IMPERSONATION, PROVIDERS, identity_of, own_connection
from server.services.signing_in import ConnectRefused, keep_flow, opened, take_flow, unknown_flow
from server.store import Connection, Organization, Provider, Transaction, User, account_key

OAuthService = Literal["microsoft365", "google"]
Service = Literal["microsoft365", "google", "exchange", "impersonation"]

CHOICES: Mapping[str, tuple[Service, ...]] = {
    "office365": ("microsoft365",),
    "google": ("google",),
    "exchange_direct": ("exchange",),
    IMPERSONATION: (),
    "user_choice": ("microsoft365", "google", "exchange"),
}
"""Access type -> what its people may connect."""
_SERVICES: Mapping[Provider, Service] = {"graph": "microsoft365", "google": "google", "exchange": "exchange"}
_PROVIDER_OF: Mapping[Service, Provider] = {service: provider for provider, service in _SERVICES.items()}
_WORK, _CONSUMERS = "organizations", "consumers"  # Microsoft's sign-in for accounts of organizations, and of everybody
REPLACED = "Another mailbox was connected instead."
BY_ADMINISTRATOR = "Your administrator changed where mailboxes are."
BY_OWNER = "You disconnected this mailbox."

Identity = tuple[str, str]  # issuer's tenant, subject

log = logs.get(__name__)


def domain_of(address: str) -> str:
    return address.rpartition("@")[2].lower()


class Progress(NamedTuple):
    """How far the mailbox's session is."""

    state: str  # queued, running, done, failed
    phase: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Overview:
    """What the settings show of a person's mailbox."""

    service: Service | None  # None: nothing was chosen yet
    address: str
    state: str  # not_connected, active, needs_reauth, suspended, disconnected
    reason: str
    since: datetime | None
    choices: tuple[Service, ...]
    is_fixed: bool  # the organization leaves no choice
    admin_contact: str
    progress: Progress | None
    sidebar_seen: bool
    ews_url: str  # what the organization says; may be empty


def overview(deps: Deps, principal: Principal) -> Overview:
    organization, connection = principal.organization, own_connection(deps, principal)
    choices = CHOICES[organization.access_type]
    service: Service | None = choices[0] if len(choices) == 1 else None
    if organization.access_type == IMPERSONATION:
        service = "impersonation"
    elif connection is not None:
        service = _SERVICES[connection.provider]
    return Overview(
        service=service,
        address=connection.mailbox if connection else principal.user.email,
        state=connection.state if connection else "not_connected",
        reason=connection.reason if connection else "",
        since=connection.since if connection else None,
        choices=choices,
        is_fixed=len(choices) < 2,
        admin_contact=organization.admin_contact,
        progress=None if connection is None else _progress(deps, connection),
        sidebar_seen=principal.user.sidebar_seen_at is not None,
        ews_url=organization.ews_url,
    )


def _progress(deps: Deps, connection: Connection) -> Progress | None:
    with deps.store.transaction(reading=True) as tx:
        sync = tx.session_of(connection.id)
    return None if sync is None else Progress(sync.state, sync.phase, sync.done, sync.total)


# Microsoft 365, Outlook.com, Google


def begin(deps: Deps, principal: Principal, service: OAuthService, *, browser: str, redirect_uri: str, address: str = "") -> str:
    """Return where the browser goes to sign in to the mailbox. Raises: ConnectRefused; Transient."""
    _check_offered(principal.organization, service)
    hint = address or principal.user.email
    at_microsoft = _CONSUMERS if _is_consumer(deps, hint) else _WORK
    begun = deps.doors.flows[service].begin(
        redirect_uri=redirect_uri,
        scopes=deps.doors.flow_scopes[service],
        tenant=at_microsoft if service == "microsoft365" else "",
        login_hint=hint,
    )
    tenant_id, user_id = principal.tenant.id, principal.user.id
    keep_flow(deps, begun, tenant_id=tenant_id, user_id=user_id, service=service, browser=browser, next_path="")
    return begun.url


def finish(deps: Deps, principal: Principal, service: OAuthService, *, browser: str, answer: Mapping[str, str]) -> None:
    """Take the answer that came to the service's redirect address, and connect the mailbox.

    Raises: ConnectRefused; SignInRefused; Forbidden; Transient.
    """
    flow = take_flow(deps, browser, answer.get("state", ""), user_id=principal.user.id)
    if flow.service != service:
        raise unknown_flow()
    granted = deps.doors.flows[service].finish(opened(deps, flow), answer)
    try:
        _check_offered(principal.organization, service)
        _connect_account(deps, principal, service, granted)
    except SsiError:
        _give_back(deps, service, granted)
        raise


def _connect_account(deps: Deps, principal: Principal, service: OAuthService, granted: Granted) -> None:
    provider, person = _PROVIDER_OF[service], granted.person
    with deps.store.transaction(reading=True) as tx:
        admitted = tx.admits(principal.tenant.id, person.tenant)
        holder = tx.identity_owner(person.tenant, person.subject)
    if not admitted:
        raise ConnectRefused(
            "domain_not_admitted",
            f"The sign-in's directory {person.tenant or '(none)'} is not admitted.",
            signed_in=person.address,
        )
    if holder not in (None, principal.user.id):
        raise ConnectRefused("identity_taken", "The account belongs to another user.", signed_in=person.address)
    owner = _owner(deps.doors.try_mailbox(provider, person.address, granted.tokens.access_token), "provider_away")
    binding = (person.tenant, person.subject)
    _commit(deps, principal, service, owner, person.tenant, granted.tokens, deps.doors.mailbox_scopes[provider], binding)


def _give_back(deps: Deps, service: OAuthService, granted: Granted) -> None:
    """End a grant that we do not use, unless a connection lives on it: at Google all tokens of an account end together."""
    with deps.store.transaction(reading=True) as tx:
        is_bound = tx.identity_owner(granted.person.tenant, granted.person.subject) is not None
        is_used = is_bound or tx.is_claimed(account_key(_PROVIDER_OF[service], granted.person.subject))
    if granted.tokens.refresh_token is None or is_used:
        return
    try:
        deps.doors.flows[service].revoke(granted.tokens.refresh_token)
    except (Transient, Rejected) as error:
        log.warning("an unused grant could not be revoked", service=service, reason=type(error).__name__)


# Exchange of the house


def exchange_or_outlook(deps: Deps, principal: Principal, address: str) -> Literal["exchange", "microsoft365"]:
    """Return where people with this address sign in who chose MS Exchange/Outlook.com."""
    offers_both = "microsoft365" in CHOICES[principal.organization.access_type]
    return "microsoft365" if offers_both and _is_consumer(deps, address) else "exchange"


def connect_exchange(deps: Deps, principal: Principal, *, address: str, password: str, user: str = "", url: str = "") -> None:
    """Connect the mailbox of this address by its owner's login. `user` and `url` are found by themselves where possible.

    Raises: ConnectRefused; Forbidden for who is no longer set up; Transient if our own side cannot do it now.
    """
    organization, address = principal.organization, address.strip()
    _check_offered(organization, "exchange")
    if address.lower() not in principal.user.mailboxes:  # before a password goes anywhere
        raise _wrong_account(principal, address)
    if not password:
        raise ConnectRefused("invalid_entry", "The password is missing.", field="password", reason="required")
    with _one_try(deps, principal):
        login = _login(deps, organization, address, password, user.strip() or address, url.strip())
        owner = _owner(deps.doors.try_mailbox("exchange", address, login), "server_unreachable")
    at_server = replace(owner, account=f"{urlsplit(login.url).hostname}/{owner.account}")  # which the server alone vouches for
    _commit(deps, principal, "exchange", at_server, domain_of(address), login)


@contextmanager
def _one_try(deps: Deps, principal: Principal) -> Iterator[None]:
    """A try may take as long as somebody's server pleases: one for each person at a time, and of all people's only a few.

    Raises: ConnectRefused.
    """
    if not deps.tries.begin(principal.user.id):
        raise ConnectRefused("too_many_tries", "Another try is under way.")
    try:
        yield
    finally:
        deps.tries.end(principal.user.id)


def _login(deps: Deps, organization: Organization, address: str, password: str, user: str, typed: str) -> ExchangeLogin:
    """Return how to sign in: at the server's address if it is known, else where autodiscover finds it. Raises: ConnectRefused."""
    known = organization.ews_url
    url = _checked_url(typed or known) if typed or known else ""
    draft = ExchangeLogin(url=url, user=user, password=password)
    try:
        found = url or deps.doors.exchange.discover(address, draft)
        login = replace(draft, url=found, scheme=deps.doors.exchange.scheme(found))
    except InvalidInput as error:
        is_online = is_exchange_online(domain_of(address)) or "Exchange Online" in error.reason
        raise ConnectRefused("exchange_online" if is_online else "server_not_found", error.reason) from error
    except NeedsReauth as error:
        raise ConnectRefused("password_refused", str(error)) from error
    except Rejected as error:
        raise ConnectRefused("server_not_found", str(error)) from error
    except Transient as error:
        raise _unreachable(error, "server_unreachable" if url else "server_not_found") from error
    if typed and not _is_confirmed(deps, login, known, domain_of(address)):
        raise ConnectRefused(
            "not_confirmed", "The server is not known to belong to the address.", contact=organization.admin_contact
        )
    return login


def _is_confirmed(deps: Deps, login: ExchangeLogin, known: str, domain: str) -> bool:
    """Say whether a typed server may get the password: with Basic it would read it, so it must be known to be the company's.

    Where the administrator named the server, it is that one.
    """
    host = urlsplit(login.url).hostname or ""
    if known:
        return host == urlsplit(known).hostname
    return login.scheme == "ntlm" or host == domain or host.endswith(f".{domain}") or deps.doors.exchange.is_listed(host)


def _checked_url(url: str) -> str:
    """Raises: ConnectRefused for what is no address of an Exchange server."""
    try:
        checked = server_url(url, "url")
    except InvalidInput as error:
        raise ConnectRefused("invalid_entry", error.reason, field="url", reason=error.reason) from error
    if checked.scheme != "https":
        raise ConnectRefused("invalid_entry", "The address is not encrypted.", field="url", reason="must begin with https")
    if is_exchange_online(checked.hostname or ""):
        raise ConnectRefused("exchange_online", "The address is one of Exchange Online.")
    return checked.geturl()


# Impersonation


def impersonate(deps: Deps, principal: Principal, *, check: bool = True) -> None:
    """Connect a person's mailbox by their organization's service account, and queue its first session.

    Raises: ConnectRefused if the service account does not open it, or if it is somebody else's; Forbidden; Transient.
    """
    address, account = principal.user.other_mailbox or principal.user.email, None
    if check:
        login = deps.vault.service_account(principal.organization)
        account = _owner(deps.doors.try_mailbox("exchange", address, login), "server_unreachable").account
    keep(deps, principal, "exchange", address, account=account, issuer_tenant=domain_of(address), secret=None)


def fit(deps: Deps, organization: Organization) -> None:
    """End the connections that an organization's access type does not offer, and open those that it opens by itself.

    Raises: Transient. Doing it again goes on where it stopped.
    """
    with deps.store.transaction(reading=True) as tx:
        connections = tx.connections_in(organization.id)
        people = [tx.principal_of(user.id) for user in tx.users_in(organization.id)]
    for connection in connections:
        if not _fits(connection, organization.access_type):
            subscriptions.end(deps, connection)
            deps.vault.disconnect(connection.id, BY_ADMINISTRATOR)
    opened = {c.user_id for c in connections if c.provider == "exchange" and c.credentials is None and c.state != "disconnected"}
    if organization.access_type == IMPERSONATION:
        for principal in people:
            if principal is not None and principal.user.id not in opened:
                _impersonate_if_free(deps, principal)


def _fits(connection: Connection, access_type: str) -> bool:
    wanted = PROVIDERS.get(access_type)
    if connection.state == "disconnected" or connection.provider not in _SERVICES:
        return True
    if connection.provider == "exchange" and access_type == IMPERSONATION:
        return connection.credentials is None  # one that holds the owner's own login is another way to sign in
    has_key = connection.provider == "graph" or connection.credentials is not None or connection.state == "needs_reauth"
    return has_key and wanted in (None, connection.provider)


def _impersonate_if_free(deps: Deps, principal: Principal) -> None:
    try:
        impersonate(deps, principal, check=False)
    except ConnectRefused as error:  # of one person, which must not keep the others from their mailboxes
        log.warning("a mailbox is not opened by the service account", user=principal.user.id, reason=error.code)


# Disconnecting


def disconnect(deps: Deps, principal: Principal) -> bool:
    """Forget what opens the person's mailbox; return False if its service could not be told.

    Raises: NotFound if none is connected, or if that is the administrator's business; Transient.
    """
    connection = own_connection(deps, principal)
    if connection is None or connection.state == "disconnected" or principal.organization.access_type == IMPERSONATION:
        raise NotFound("No mailbox is connected.")
    return end(deps, principal.user, connection, BY_OWNER)


def end(deps: Deps, user: User, connection: Connection, reason: str) -> bool:
    """Disconnect a mailbox; if it is not the person's own, its account no longer stands for them either.

    Returns False if its service could not be told. Raises: NotFound; Transient.
    """

    def also(tx: Transaction) -> None:
        identity = identity_of(connection)
        if identity is not None and connection.mailbox.lower() != user.email.lower():
            tx.unbind_identity(user.id, *identity)
        tx.record("mailbox.disconnect", deps.now(), tenant_id=user.tenant_id, user_id=user.id, connection=connection.id)

    subscriptions.end(deps, connection)
    return deps.vault.disconnect(connection.id, reason, also=also)


# What all have in common


def _check_offered(organization: Organization, service: Service) -> None:
    if service not in CHOICES[organization.access_type]:
        raise ConnectRefused("not_offered", f"The organization's access type is {organization.access_type}.")


def _is_consumer(deps: Deps, address: str) -> bool:
    return domain_of(address) in deps.doors.consumer_domains


def _owner(mailbox: Mailbox, away: str) -> Owner:
    """Have the mailbox say whose it is. Raises: ConnectRefused."""
    try:
        return mailbox.check()
    except NeedsReauth as error:
        raise ConnectRefused("account_locked" if error.code == "locked" else "password_refused", str(error)) from error
    except Forbidden as error:
        raise ConnectRefused("no_rights", str(error)) from error
    except (Rejected, NotFound, Conflict, InvalidInput) as error:
        raise ConnectRefused("not_a_mailbox", str(error)) from error
    except Transient as error:
        raise _unreachable(error, away) from error


def _unreachable(error: Transient, away: str) -> ConnectRefused:
    return ConnectRefused("certificate" if error.code == "certificate" else away, str(error))


def _wrong_account(principal: Principal, signed_in: str) -> ConnectRefused:
    return ConnectRefused("wrong_account", "The mailbox is not the person's.", signed_in=signed_in, expected=principal.user.email)


def _commit(
    deps: Deps,
    principal: Principal,
    service: Service,
    owner: Owner,
    issuer_tenant: str,
    secret: ExchangeLogin | Tokens,
    scopes: Iterable[str] = (),
    identity: Identity | None = None,
) -> None:
    """Make the tried key the person's connection. Raises: ConnectRefused; Forbidden; Transient."""
    if owner.address.lower() not in principal.user.mailboxes:
        raise _wrong_account(principal, owner.address)
    keep(
        deps,
        principal,
        _PROVIDER_OF[service],
        owner.address,
        account=owner.account,
        issuer_tenant=issuer_tenant,
        secret=secret,
        scopes=scopes,
        identity=identity,
    )


def keep(
    deps: Deps,
    principal: Principal,
    provider: Provider,
    address: str,
    *,
    account: str | None,
    issuer_tenant: str,
    secret: ExchangeLogin | Tokens | str | None,
    scopes: Iterable[str] = (),
    identity: Identity | None = None,
) -> None:
    """Make a key, None being the service account's, the person's only connection, and queue the mailbox's first session.

    `account` is the service's id of the mailbox, None if it was not asked. All of it is one transaction.

    Raises: ConnectRefused if the mailbox or its account is somebody else's, or another one is connected; Forbidden; Transient.
    """
    user, ended = principal.user, list[Connection]()
    with deps.store.transaction() as tx:
        connection = tx.put_connection(user, provider, address, issuer_tenant, deps.now(), state="disconnected")

    def also(tx: Transaction) -> None:
        now, fresh = deps.now(), tx.principal_of(user.id)
        if fresh is None:
            raise Forbidden(f"You are no longer set up. Ask {principal.organization.admin_contact}.", code="not_provisioned")
        if secret is not None:
            _check_offered(fresh.organization, _SERVICES[provider])
        if account is not None:
            _check_same(tx.connection(connection.id), address, account)
        others = [one for one in tx.connections_of(user.id) if one.id != connection.id and one.provider in _SERVICES]
        ended[:] = [other for other in others if other.state != "disconnected"]
        for other in ended:
            tx.disconnect(other.id, REPLACED, now)
        if identity is not None:
            _bind(tx, user, address, identity)
        tx.claim_mailbox(connection, address, account)
        tx.renew_connection(connection.id, issuer_tenant, now)
        tx.queue_session(connection, now)
        tx.record("mailbox.connect", now, tenant_id=user.tenant_id, user_id=user.id, connection=connection.id)
        tx.after_commit(deps.wake)

    try:
        deps.vault.connect(connection.id, secret, scopes=scopes, also=also)
    except AlreadyExists as error:
        raise ConnectRefused("already_connected", str(error), address=address) from error
    except Conflict as error:  # the identity was bound to somebody else meanwhile
        raise ConnectRefused("identity_taken", str(error), signed_in=address) from error
    for other in ended:
        deps.vault.revoke(other)
    log.info("mailbox connected", connection=connection.id, provider=provider)


def _bind(tx: Transaction, user: User, address: str, identity: Identity) -> None:
    """Let the sidebar know the person by the account of their mailbox. A colleague's account stays the colleague's.

    Raises: ConnectRefused.
    """
    holder = tx.identity_owner(*identity)
    if holder not in (None, user.id):
        raise ConnectRefused("identity_taken", "The account belongs to another user.", signed_in=address)
    if holder is None and not tx.is_somebody_elses(user, address):
        tx.bind_identity(user.tenant_id, user.id, *identity)


def _check_same(connection: Connection, address: str, account: str) -> None:
    """A connection that is there is renewed by the same account. Raises: ConnectRefused."""
    if connection.state == "suspended":
        raise ConnectRefused("suspended", connection.reason or "An administrator suspended it.")
    if connection.account_key not in (None, account_key(connection.provider, account)):
        raise ConnectRefused("other_account", "Another account is connected.", signed_in=address, expected=connection.mailbox)
