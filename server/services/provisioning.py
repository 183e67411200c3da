"""Setting up tenants, organizations and users: what an administrator does.

A provisioning document holds all of it, for `ssi provision`:

    {"tenant": {"name", "identity_tenants": [...], "c4c": {...C4CSettings}, "secrets": {...TenantSecrets}},
     "organizations": [{"name", "access_type", "admin_contact", "ews_url", "profile": {...}, "service_account": {...}}],
     "users": [{"organization", "email", "name", "c4c_user_id", "other_mailbox", "identity": {...}, "mailbox": {...}}]}

C4CSettings' "oidc" is {"issuer", "client_id", "user_claim", "scopes"}: where people sign in and which claim holds their C4C
UserID ("sub" if not said); its secret is `oidc_client_secret`. Without it they sign in with their C4C password.
An identity is {"tenant", "subject"}: Entra's tenant id and the object id, or a Google Workspace's domain and the account id.
A login is {"url", "user", "password", "scheme"}; an organization under Exchange Impersonation needs one as `service_account`.
A `mailbox` is {"provider": "exchange", ...login} for Exchange Direct Logon or {"provider": "google", "refresh_token"}. Without,
people connect theirs in User Settings; at Microsoft 365, if their identity is known, by their first use of the sidebar; and
whom a service account impersonates does nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from datetime import timedelta
from typing import Any, get_args

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from server.auth import ExchangeLogin, TokenVault
from server.c4c import Codes, DeepLinks
from server.domain.hosts import is_exchange_online, server_url
from server.domain.profile import Profile
from server.errors import Forbidden, InvalidInput, NotFound, SsiError
from server.services import Deps
from server.services.connecting import impersonate
from server.services.connections import IMPERSONATION
from server.services.context import INDEXED
from server.store import AccessType, C4CSettings, Organization, Provider, Tenant, Transaction, User

_OIDC = frozenset({"issuer", "client_id", "user_claim", "scopes"})


@dataclass(frozen=True, slots=True)
class TenantSecrets:
    """What must be known to reach a tenant and nobody else may know."""

    saml_key: str = field(default="", repr=False)  # PEM; can act as anyone in C4C
    oauth_client_secret: str = field(default="", repr=False)
    oidc_client_secret: str = field(default="", repr=False)

    def sealed(self, vault: TokenVault, tenant_id: str) -> bytes:
        return vault.seal(tenant_id, "tenant", "c4c_secrets", json.dumps(asdict(self)).encode())

    @classmethod
    def opened(cls, vault: TokenVault, tenant: Tenant) -> TenantSecrets:
        if tenant.c4c_secrets is None:
            return cls()
        return cls(**json.loads(vault.open(tenant.id, "tenant", "c4c_secrets", tenant.c4c_secrets)))


def add_tenant(
    deps: Deps, name: str, c4c: Mapping[str, Any], identity_tenants: Iterable[str], secrets: Mapping[str, Any]
) -> Tenant:
    """Create a tenant and return it. Without a signing key of its own it gets a new one.

    Raises: InvalidInput for settings that cannot be meant; Conflict if the name or an identity tenant is taken.
    """
    settings = dict(c4c)
    known = dict(secrets)
    if not known.get("saml_key") and settings.get("auth", "saml") == "saml":
        known["saml_key"], settings["saml_certificate"] = new_signing_key(name, deps)
    c4c_settings = _settings(settings)
    tenant_secrets = _of(TenantSecrets, known, "secrets")
    with deps.store.transaction() as tx:
        admitted = [issuer_tenant.lower() for issuer_tenant in identity_tenants]
        tenant_id = tx.add_tenant(name, deps.vault.new_data_key(), c4c_settings, admitted, deps.now())
        tx.record("tenant.add", deps.now(), tenant_id=tenant_id, user_id=None)
    sealed = tenant_secrets.sealed(deps.vault, tenant_id)
    with deps.store.transaction() as tx:
        tx.set_c4c(tenant_id, c4c_settings, sealed)
        return tx.tenant(tenant_id)


def change_tenant(
    deps: Deps, name: str, c4c: Mapping[str, Any] | None, identity_tenants: Iterable[str], secrets: Mapping[str, Any]
) -> Tenant:
    """Replace a tenant's C4C settings (None: leave them), admit more identity tenants, change some secrets; return it.

    The certificate of the signing key stays where no other one is given.

    Raises: NotFound; InvalidInput; Conflict if an identity tenant is taken.
    """
    with deps.store.transaction(reading=True) as tx:
        tenant = tx.tenant(name)
    kept = {"saml_certificate": tenant.c4c.saml_certificate}
    settings = tenant.c4c if c4c is None else _settings({**kept, **c4c})
    known = _of(TenantSecrets, {**asdict(TenantSecrets.opened(deps.vault, tenant)), **secrets}, "secrets")
    sealed = known.sealed(deps.vault, tenant.id)
    with deps.store.transaction() as tx:
        tx.set_c4c(tenant.id, settings, sealed)
        tx.admit(tenant.id, [issuer_tenant.lower() for issuer_tenant in identity_tenants])
        tx.record("tenant.set", deps.now(), tenant_id=tenant.id, user_id=None)
        return tx.tenant(tenant.id)


def describe_tenant(tenant: Tenant) -> dict[str, Any]:
    """Return what an administrator may see of a tenant; it holds no secret."""
    return {"name": tenant.name, "c4c": asdict(tenant.c4c)}


def describe_organization(organization: Organization) -> dict[str, Any]:
    """The same of an organization; of a service account, that there is one."""
    return {
        "name": organization.name,
        "access_type": organization.access_type,
        "admin_contact": organization.admin_contact,
        "ews_url": organization.ews_url,
        "has_service_account": organization.service_account is not None,
        "profile": organization.profile.to_json(),
    }


def put_organization(
    deps: Deps,
    tenant_name: str,
    name: str,
    access_type: str,
    admin_contact: str,
    profile: Mapping[str, Any],
    service_account: Mapping[str, Any] | None = None,
    ews_url: str | None = None,
) -> Organization:
    """Create an organization or change it, and return it; without a `service_account` or `ews_url` it keeps what it has.

    Raises: NotFound for an unknown tenant; InvalidInput.
    """
    if ews_url:
        ews_url = server_url(ews_url, "ews_url").geturl()
    login = None if service_account is None else _login(service_account, "service_account")
    if access_type not in get_args(AccessType):
        raise InvalidInput("access_type", "must be one of " + ", ".join(get_args(AccessType)))
    if "@" not in admin_contact:
        raise InvalidInput("admin_contact", "must be an e-mail address")
    with deps.store.transaction() as tx:
        tenant = tx.tenant(tenant_name)
        settings = Profile.from_json(profile)
        organization_id = tx.put_organization(tenant.id, name, access_type, admin_contact, settings, ews_url)
        tx.record("organization.put", deps.now(), tenant_id=tenant.id, user_id=None)
    sealed = None if login is None else deps.vault.seal_service_account(tenant.id, organization_id, login)
    with deps.store.transaction() as tx:
        if sealed is not None:
            tx.put_service_account(organization_id, sealed, deps.now())
        return next(one for one in tx.organizations(tenant.id) if one.id == organization_id)


def add_user(
    deps: Deps,
    tenant_name: str,
    organization: str,
    *,
    email: str,
    name: str,
    c4c_user_id: str,
    identity: tuple[str, str] | None,
    other_mailbox: str = "",
    check: bool = False,
) -> str:
    """Provision a person and return their user id. `identity` is (tenant, subject), see above.

    `other_mailbox` is an address whose mailbox they may connect though it is not their own. Where a service account opens the
    mailboxes, theirs is connected. With `check` C4C has to confirm the UserID and the mailbox has to open, or nobody is added.

    Raises: NotFound for an unknown tenant or organization; Conflict if address, UserID or identity is taken; InvalidInput.
    """
    for field_name, address in (("email", email), ("other_mailbox", other_mailbox or email)):
        if "@" not in address:
            raise InvalidInput(field_name, "must be an e-mail address")
    with deps.store.transaction() as tx:
        tenant = tx.tenant(tenant_name)
        found = next((o for o in tx.organizations(tenant.id) if o.name == organization), None)
        if found is None:
            raise NotFound(f"There is no organization {organization!r}.")
        user_id = tx.add_user(tenant.id, found.id, email=email, name=name, c4c_user_id=c4c_user_id.upper(), now=deps.now())
        tx.allow_mailbox(user_id, other_mailbox)
        if identity is not None:
            tx.bind_identity(tenant.id, user_id, identity[0].lower(), identity[1].lower())
        tx.record("user.add", deps.now(), tenant_id=tenant.id, user_id=user_id)
        principal = tx.principal_of(user_id)
        if principal is not None:
            tx.want_scans(principal.user, INDEXED, deps.now())
    try:
        if check:
            confirm_user(deps, user_id)
        _open_by_service_account(deps, user_id, check=check)
    except SsiError:
        with deps.store.transaction() as tx:
            tx.remove_user(user_id)
        raise
    return user_id


def connect_mailbox(deps: Deps, tenant_name: str, email: str, mailbox: Mapping[str, Any]) -> None:
    """Keep what opens a person's mailbox, in place of what there was. Raises: NotFound; InvalidInput; Transient."""
    provider: Provider
    secret: ExchangeLogin | str
    match mailbox:
        case {"provider": "exchange", **login}:
            provider, secret = "exchange", _login(login, "mailbox")
        case {"provider": "google", "refresh_token": str(token)} if token:
            provider, secret = "google", token
        case _:
            raise InvalidInput("mailbox", "must be a login at Exchange or a refresh token of Google")
    with deps.store.transaction() as tx:
        user = _user(tx, tenant_name, email)
        domain = user.email.rpartition("@")[2].lower()
        connection = tx.put_connection(user, provider, user.email, domain, deps.now(), state="disconnected")

    def also(tx: Transaction) -> None:
        tx.claim_mailbox(connection, user.email, None)
        tx.renew_connection(connection.id, domain, deps.now())
        tx.queue_session(connection, deps.now())
        tx.record("mailbox.connect", deps.now(), tenant_id=user.tenant_id, user_id=user.id, connection=connection.id)

    deps.vault.connect(connection.id, secret, also=also)


def _open_by_service_account(deps: Deps, user_id: str, *, check: bool) -> None:
    """Connect the mailbox of a person whose organization has a service account for it; of anybody else, nothing."""
    with deps.store.transaction(reading=True) as tx:
        principal = tx.principal_of(user_id)
    if principal is None:
        raise NotFound("There is no such user.")
    if principal.organization.access_type == IMPERSONATION:
        impersonate(deps, principal, check=check)


def confirm_user(deps: Deps, user_id: str) -> None:
    """Ask C4C whether the stored UserID is who it says when it acts. Raises: Forbidden if not, and what C4C raises."""
    with deps.store.transaction(reading=True) as tx:
        principal = tx.principal_of(user_id)
    if principal is None:
        raise NotFound("There is no such user.")
    me = deps.c4c(principal).who_am_i()
    if me.user_id.upper() != principal.user.c4c_user_id or me.is_locked:
        raise Forbidden("SAP Cloud for Customer does not confirm this user.", code="c4c_user")


def set_user_enabled(deps: Deps, tenant_name: str, email: str, enabled: bool) -> None:
    """Switch a person on or off. Who is off is refused everywhere from then on, and what opened their mailbox is ended.

    Raises: NotFound; Transient.
    """
    with deps.store.transaction() as tx:
        user = _user(tx, tenant_name, email)
        tx.set_user_enabled(user.id, enabled)
        tx.record("user.enable" if enabled else "user.disable", deps.now(), tenant_id=user.tenant_id, user_id=user.id)
        if not enabled:
            tx.end_page_sessions(user.id)
        connections = [] if enabled else tx.connections_of(user.id)
    for connection in connections:
        deps.vault.forget(connection.id)


def allow_mailbox(deps: Deps, tenant_name: str, email: str, address: str) -> None:
    """Let a person connect the mailbox of another address, too; "" takes it back. Raises: NotFound; InvalidInput."""
    if address and "@" not in address:
        raise InvalidInput("mailbox", "must be an e-mail address")
    with deps.store.transaction() as tx:
        user = _user(tx, tenant_name, email)
        tx.allow_mailbox(user.id, address)
        tx.record("user.allow_mailbox", deps.now(), tenant_id=user.tenant_id, user_id=user.id)


def remove_user(deps: Deps, tenant_name: str, email: str) -> None:
    """Remove a person and everything that is theirs here; what opened their mailbox is ended. Raises: NotFound; Transient."""
    set_user_enabled(deps, tenant_name, email, False)
    with deps.store.transaction() as tx:
        user = _user(tx, tenant_name, email)
        tx.remove_user(user.id)
        tx.record("user.remove", deps.now(), tenant_id=user.tenant_id, user_id=user.id)


def describe_user(deps: Deps, tenant_name: str, email: str) -> dict[str, Any]:
    """Return what an administrator may see of a person. Raises: NotFound."""
    with deps.store.transaction(reading=True) as tx:
        user = _user(tx, tenant_name, email)
        organization = tx.organization_of(user.id)
        found = [(c, tx.session_of(c.id)) for c in tx.connections_of(user.id)]
    return {
        "email": user.email,
        "name": user.name,
        "c4c_user": user.c4c_user_id,
        "organization": organization.name,
        "access_type": organization.access_type,
        "enabled": user.enabled,
        "other_mailbox": user.other_mailbox,
        "connections": [
            {
                "provider": connection.provider,
                "mailbox": connection.mailbox,
                "state": connection.state,
                "reason": connection.reason,
                "since": connection.since.isoformat(),
                "session": None if sync is None else {"state": sync.state, "phase": sync.phase, "reason": sync.reason},
            }
            for connection, sync in found
        ],
    }


def provision(deps: Deps, document: Mapping[str, Any]) -> None:
    """Set up everything in a provisioning document. Raises: as the functions above."""
    tenant = document["tenant"]
    add_tenant(deps, tenant["name"], tenant["c4c"], tenant["identity_tenants"], tenant.get("secrets", {}))
    for entry in document["organizations"]:
        put_organization(
            deps,
            tenant["name"],
            entry["name"],
            entry["access_type"],
            entry["admin_contact"],
            entry.get("profile", {}),
            entry.get("service_account"),
            entry.get("ews_url"),
        )
    for entry in document["users"]:
        identity = entry.get("identity")
        add_user(
            deps,
            tenant["name"],
            entry["organization"],
            email=entry["email"],
            name=entry["name"],
            c4c_user_id=entry["c4c_user_id"],
            identity=(identity["tenant"], identity["subject"]) if identity else None,
            other_mailbox=entry.get("other_mailbox", ""),
        )
        if "mailbox" in entry:
            connect_mailbox(deps, tenant["name"], entry["email"], entry["mailbox"])


def examine(deps: Deps, tenant_name: str, email: str) -> dict[str, Any]:
    """Return what `ssi doctor` finds out as this user. Raises: NotFound for an unknown tenant or user, and what C4C raises."""
    with deps.store.transaction(reading=True) as tx:
        tenant = tx.tenant(tenant_name)
        user = next((u for u in tx.users(tenant.id) if u.email.lower() == email.lower()), None)
        principal = tx.principal_of(user.id) if user else None
    if principal is None:
        raise NotFound(f"There is no enabled user {email!r}.")
    c4c = deps.c4c(principal)
    me = c4c.who_am_i()
    problems = [] if me.user_id.upper() == principal.user.c4c_user_id else [f"C4C says the user is {me.user_id}"]
    problems += [f"unknown code {code}" for code in Codes.from_json(tenant.c4c.codes).unknown(c4c.code_lists())]
    return {"user_id": me.user_id, "locked": me.is_locked, "problems": problems}


def _user(tx: Transaction, tenant_name: str, email: str) -> User:
    """Raises: NotFound."""
    found = next((u for u in tx.users(tx.tenant(tenant_name).id) if u.email.lower() == email.lower()), None)
    if found is None:
        raise NotFound(f"There is no user {email!r}.")
    return found


def new_signing_key(name: str, deps: Deps) -> tuple[str, str]:
    """Return a fresh RSA key and its self-signed certificate, both PEM; the certificate is what C4C's admin uploads."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"SSI Sidebar {name}"[:64])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(deps.now() - timedelta(days=1))
        .not_valid_after(deps.now() + timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
    return pem, certificate.public_bytes(serialization.Encoding.PEM).decode()


def _login(data: Mapping[str, Any], place: str) -> ExchangeLogin:
    login: ExchangeLogin = _of(ExchangeLogin, data, place)
    url = server_url(login.url, f"{place}.url")
    if is_exchange_online(url.hostname or ""):
        raise InvalidInput(f"{place}.url", "This is Exchange Online, whose mailboxes are connected as Microsoft 365.")
    if login.scheme not in ("ntlm", "basic") or login.impersonates or not (login.user and login.password):
        raise InvalidInput(place, "must have a user, a password, and as scheme ntlm or basic")
    return login


def _settings(data: Mapping[str, Any]) -> C4CSettings:
    settings: C4CSettings = _of(C4CSettings, data, "c4c")
    if settings.auth != "saml":
        raise InvalidInput("c4c.auth", "only SAML bearer is offered yet")
    if settings.oidc and not {"issuer", "client_id"} <= settings.oidc.keys() <= _OIDC:
        raise InvalidInput("c4c.oidc", f"must have issuer and client_id, and only {', '.join(sorted(_OIDC))}")
    Codes.from_json(settings.codes)
    DeepLinks.from_json(settings.links)
    return settings


def _of(kind: type[Any], data: Mapping[str, Any], place: str) -> Any:
    known = {f.name: f for f in fields(kind)}
    for key in data:
        if key not in known:
            raise InvalidInput(f"{place}.{key}", "no such setting")
    for name, one in known.items():
        if name not in data and one.default is MISSING and one.default_factory is MISSING:
            raise InvalidInput(f"{place}.{name}", "must be set")
    return kind(**data)
