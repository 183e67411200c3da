"""Setting up tenants, organizations and users: what an administrator does.

A provisioning document holds all of it, for `ssi provision`:

    {"tenant": {"name", "identity_tenants": [...], "c4c": {...C4CSettings}, "secrets": {...TenantSecrets}},
     "organizations": [{"name", "access_type", "admin_contact", "profile": {...Profile}, "service_account": {...login}}],
     "users": [{"organization", "email", "name", "c4c_user_id", "identity": {"tenant", "subject"}, "mailbox": {...}}]}

An identity's tenant is Entra's tenant id or the domain of a Google Workspace, its subject the object id or Google's account id.
A login is {"url", "user", "password", "scheme"}; an organization under Exchange Impersonation needs one as `service_account`.
A `mailbox` is {"provider": "exchange", ...login} for Exchange Direct Logon or {"provider": "google", "refresh_token"}; people at
Microsoft 365, and those whom a service account impersonates, connect theirs by their first use.
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
from server.errors import Forbidden, InvalidInput, NotFound
from server.services import Deps
from server.services.context import INDEXED
from server.store import AccessType, C4CSettings, Provider, Tenant, Transaction, User


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


def put_organization(
    deps: Deps,
    tenant_name: str,
    name: str,
    access_type: str,
    admin_contact: str,
    profile: Mapping[str, Any],
    service_account: Mapping[str, Any] | None = None,
) -> None:
    """Create an organization or change it; without a `service_account` it keeps the one that it has.

    Raises: NotFound for an unknown tenant; InvalidInput.
    """
    login = None if service_account is None else _login(service_account, "service_account")
    if access_type not in get_args(AccessType):
        raise InvalidInput("access_type", "must be one of " + ", ".join(get_args(AccessType)))
    if "@" not in admin_contact:
        raise InvalidInput("admin_contact", "must be an e-mail address")
    with deps.store.transaction() as tx:
        tenant = tx.tenant(tenant_name)
        organization_id = tx.put_organization(tenant.id, name, access_type, admin_contact, Profile.from_json(profile))
        tx.record("organization.put", deps.now(), tenant_id=tenant.id, user_id=None)
    if login is not None:
        sealed = deps.vault.seal_service_account(tenant.id, organization_id, login)
        with deps.store.transaction() as tx:
            tx.put_service_account(organization_id, sealed, deps.now())


def add_user(
    deps: Deps,
    tenant_name: str,
    organization: str,
    *,
    email: str,
    name: str,
    c4c_user_id: str,
    identity: tuple[str, str] | None,
) -> str:
    """Provision a person and return their user id. `identity` is (tenant, subject), see above.

    Raises: NotFound for an unknown tenant or organization; Conflict if address, UserID or identity is taken; InvalidInput.
    """
    if "@" not in email:
        raise InvalidInput("email", "must be an e-mail address")
    with deps.store.transaction() as tx:
        tenant = tx.tenant(tenant_name)
        found = next((o for o in tx.organizations(tenant.id) if o.name == organization), None)
        if found is None:
            raise NotFound(f"There is no organization {organization!r}.")
        user_id = tx.add_user(tenant.id, found.id, email=email, name=name, c4c_user_id=c4c_user_id.upper(), now=deps.now())
        if identity is not None:
            tx.bind_identity(tenant.id, user_id, identity[0].lower(), identity[1].lower())
        tx.record("user.add", deps.now(), tenant_id=tenant.id, user_id=user_id)
        principal = tx.principal_of(user_id)
        if principal is not None:
            tx.want_scans(principal.user, INDEXED, deps.now())
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
        connection = tx.put_connection(user, provider, user.email, domain, deps.now())
        tx.record("mailbox.connect", deps.now(), tenant_id=user.tenant_id, user_id=user.id, connection=connection.id)
    deps.vault.connect(connection.id, secret)


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
    """Switch a person on or off; sessions of a person who is off are refused from then on. Raises: NotFound."""
    with deps.store.transaction() as tx:
        user = _user(tx, tenant_name, email)
        tx.set_user_enabled(user.id, enabled)
        tx.record("user.enable" if enabled else "user.disable", deps.now(), tenant_id=user.tenant_id, user_id=user.id)


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
        raise InvalidInput("c4c.auth", "only SAML bearer is offered yet; passwords come with the users' own sign-in")
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
