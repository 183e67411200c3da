"""Connecting a mailbox: what User Settings > Sync Settings > E-Mail Configuration does.

The organization decides what is offered. Whatever the service, a new key is tried before anything of the old connection is
touched: the mailbox says whose it is, that has to be the person's own address or one that the administrator allows, nobody else
may have it connected, and a connection that is still there is renewed by the same account only. Then key, owner, identity,
the end of another connection, the first session and the audit are one transaction.

Under Exchange Impersonation there is nothing to do for anybody but the administrator (`impersonate`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, NamedTuple

from server import logs
from server.auth import ExchangeLogin
from server.auth.flow import Granted, Tokens
from server.domain.hosts import is_exchange_online, server_url
from server.errors import AlreadyExists, Conflict, Forbidden, InvalidInput, NeedsReauth, NotFound, Rejected, SsiError, Transient
from server.mail import Mailbox, Owner
from server.services import Deps, Principal
from server.services.connections import IMPERSONATION, own_connection
from server.services.signing_in import ConnectRefused, keep_flow, opened, take_flow
from server.store import Connection, Organization, Provider, Transaction, account_key

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
_PROVIDERS: Mapping[Service, Provider] = {service: provider for provider, service in _SERVICES.items()}
_WORK, _CONSUMERS = "organizations", "consumers"  # Microsoft's sign-in for accounts of organizations, and of everybody
REPLACED = "Another mailbox was connected instead."
BY_OWNER = "You disconnected this mailbox."

log = logs.get(__name__)


class Progress(NamedTuple):
    """How far the mailbox's session is."""

    state: str  # queued, running, done, failed
    phase: str
    done: int
    total: int
    reason: str


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
    return None if sync is None else Progress(sync.state, sync.phase, sync.done, sync.total, sync.reason)


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


def finish(deps: Deps, principal: Principal, *, browser: str, answer: Mapping[str, str]) -> None:
    """Take the service's answer and connect the mailbox. Raises: ConnectRefused; SignInRefused; Forbidden; Transient."""
    flow = take_flow(deps, browser, answer.get("state", ""), user_id=principal.user.id)
    service: OAuthService = "google" if flow.service == "google" else "microsoft365"
    granted = deps.doors.flows[service].finish(opened(deps, flow), answer)
    try:
        _check_offered(principal.organization, service)
        _connect_account(deps, principal, service, granted)
    except SsiError:
        _give_back(deps, service, granted)
        raise


def _connect_account(deps: Deps, principal: Principal, service: OAuthService, granted: Granted) -> None:
    provider, person = _PROVIDERS[service], granted.person
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
        is_used = is_bound or tx.is_claimed(account_key(_PROVIDERS[service], granted.person.subject))
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
    login = _login(deps, address, password, user.strip() or address, url.strip() or organization.ews_url)
    owner = _owner(deps.doors.try_mailbox("exchange", address, login), "server_unreachable")
    issuer = address.rpartition("@")[2].lower()
    _commit(deps, principal, "exchange", owner, issuer, login, (), None)


def _login(deps: Deps, address: str, password: str, user: str, url: str) -> ExchangeLogin:
    """Return how to sign in: at the server's address if it is known, else where autodiscover finds it. Raises: ConnectRefused."""
    draft = ExchangeLogin(url=_checked_url(url) if url else "", user=user, password=password)
    try:
        found = draft.url or deps.doors.exchange.discover(address, draft)
        return replace(draft, url=found, scheme=deps.doors.exchange.scheme(found))
    except InvalidInput as error:
        is_online = is_exchange_online(address.rpartition("@")[2]) or "Exchange Online" in error.reason
        raise ConnectRefused("exchange_online" if is_online else "server_not_found", error.reason) from error
    except NeedsReauth as error:
        raise ConnectRefused("password_refused", str(error)) from error
    except Rejected as error:
        raise ConnectRefused("server_not_found", str(error)) from error
    except Transient as error:
        raise _unreachable(error, "server_unreachable" if url else "server_not_found") from error


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

    Raises: ConnectRefused if the service account does not open it; Transient.
    """
    user, organization = principal.user, principal.organization
    address, account = user.other_mailbox or user.email, None
    if check:
        login = deps.vault.service_account(organization)
        account = _owner(deps.doors.try_mailbox("exchange", address, login), "server_unreachable").account
    with deps.store.transaction() as tx:
        domain = address.rpartition("@")[2].lower()
        connection = tx.put_connection(user, "exchange", address, domain, deps.now(), state="disconnected")

    def also(tx: Transaction) -> None:
        _begin_anew(deps, tx, principal, connection, address, account, connection.issuer_tenant)

    _connected(deps, connection, None, (), also, address)
    log.info("mailbox connected", connection=connection.id, provider="exchange", organization=organization.id)


# Disconnecting


def disconnect(deps: Deps, principal: Principal) -> bool:
    """Forget what opens the person's mailbox; return False if its service could not be told.

    Raises: NotFound if none is connected, or if that is the administrator's business; Transient.
    """
    connection = own_connection(deps, principal)
    if connection is None or connection.state == "disconnected" or principal.organization.access_type == IMPERSONATION:
        raise NotFound("No mailbox is connected.")
    was_told = deps.vault.disconnect(connection.id, BY_OWNER)
    with deps.store.transaction() as tx:
        user = principal.user
        tx.record("mailbox.disconnect", deps.now(), tenant_id=user.tenant_id, user_id=user.id, connection=connection.id)
    return was_told


# What all have in common


def _check_offered(organization: Organization, service: Service) -> None:
    if service not in CHOICES[organization.access_type]:
        raise ConnectRefused("not_offered", f"The organization's access type is {organization.access_type}.")


def _is_consumer(deps: Deps, address: str) -> bool:
    return address.rpartition("@")[2].lower() in deps.doors.consumer_domains


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
    scopes: Iterable[str],
    identity: tuple[str, str] | None,
) -> None:
    """Make the tried key the person's connection. Raises: ConnectRefused; Forbidden; Transient."""
    user, provider = principal.user, _PROVIDERS[service]
    if owner.address.lower() not in user.mailboxes:
        raise _wrong_account(principal, owner.address)
    with deps.store.transaction() as tx:
        connection = tx.put_connection(user, provider, owner.address, issuer_tenant, deps.now(), state="disconnected")
        others = [c for c in tx.connections_of(user.id) if c.id != connection.id and c.provider in _SERVICES]

    def also(tx: Transaction) -> None:
        _check_same(tx.connection(connection.id), owner)
        fresh = tx.principal_of(user.id)
        if fresh is None:
            raise Forbidden(f"You are no longer set up. Ask {principal.organization.admin_contact}.", code="not_provisioned")
        _check_offered(fresh.organization, service)
        for other in others:
            if other.state != "disconnected":
                tx.disconnect(other.id, REPLACED, deps.now())
        if identity is not None and tx.identity_owner(*identity) is None:
            tx.bind_identity(user.tenant_id, user.id, *identity)
        _begin_anew(deps, tx, fresh, connection, owner.address, owner.account, issuer_tenant)

    _connected(deps, connection, secret, scopes, also, owner.address)
    for other in others:
        deps.vault.revoke(other)
    log.info("mailbox connected", connection=connection.id, provider=provider)


def _check_same(connection: Connection, owner: Owner) -> None:
    """A connection that is there is renewed by the same account. Raises: ConnectRefused."""
    if connection.state == "suspended":
        raise ConnectRefused("suspended", connection.reason or "An administrator suspended it.")
    if connection.account_key not in (None, account_key(connection.provider, owner.account)):
        facts = {"signed_in": owner.address, "expected": connection.mailbox}
        raise ConnectRefused("other_account", "Another account is connected.", **facts)


def _begin_anew(
    deps: Deps, tx: Transaction, principal: Principal, connection: Connection, address: str, account: str | None, issuer: str
) -> None:
    """What follows from a connected mailbox, in its transaction. Raises: AlreadyExists if it is somebody else's."""
    now, user = deps.now(), principal.user
    tx.claim_mailbox(connection, address, account)
    tx.renew_connection(connection.id, issuer, now)
    tx.queue_session(connection, now)
    tx.record("mailbox.connect", now, tenant_id=user.tenant_id, user_id=user.id, connection=connection.id)
    tx.after_commit(deps.wake)


def _connected(
    deps: Deps,
    connection: Connection,
    secret: ExchangeLogin | Tokens | None,
    scopes: Iterable[str],
    also: Callable[[Transaction], None],
    address: str,
) -> None:
    try:
        deps.vault.connect(connection.id, secret, scopes=scopes, also=also)
    except AlreadyExists as error:
        raise ConnectRefused("already_connected", str(error), address=address) from error
    except Conflict as error:  # the identity was bound to somebody else meanwhile
        raise ConnectRefused("identity_taken", str(error), signed_in=address) from error
