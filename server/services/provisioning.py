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
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from datetime import timedelta
from typing import Any, get_args
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from server.auth import ExchangeLogin, TokenVault
from server.c4c import Codes, DeepLinks
from server.domain.hosts import is_exchange_online, server_url
from server.domain.profile import Profile
from server.errors import Forbidden, InvalidInput, NotFound, SsiError
from server.services import Deps, Principal
from server.services.connecting import BY_ADMINISTRATOR, CHOICES, domain_of, end, fit, impersonate, keep
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


def describe_tenant(deps: Deps, tenant: Tenant) -> dict[str, Any]:
    """Return what an administrator may see of a tenant; it holds no secret."""
    with deps.store.transaction(reading=True) as tx:
        admitted = tx.identity_tenants(tenant.id)
    return {"id": tenant.id, "name": tenant.name, "c4c": asdict(tenant.c4c), "identity_tenants": admitted}


def record_origins(deps: Deps) -> list[str]:
    """Return the origins at which people open records of C4C, those of all tenants."""
    with deps.store.transaction(reading=True) as tx:
        tenants = tx.tenants()
    links = [urlsplit(deps.links(tenant)("account", "1")) for tenant in tenants]
    return sorted({f"{link.scheme}://{link.netloc}" for link in links})


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
    access_type: str | None = None,
    admin_contact: str | None = None,
    profile: Mapping[str, Any] | None = None,
    service_account: Mapping[str, Any] | None = None,
    ews_url: str | None = None,
) -> Organization:
    """Create an organization or change it, and return it. What is None stays as it is; a new one needs the first two.

    A service account whose login has no address is one of the server at `ews_url`, and moves there when that changes.

    Raises: NotFound for an unknown tenant; InvalidInput.
    """
    with deps.store.transaction(reading=True) as tx:
        tenant = tx.tenant(tenant_name)
        old = next((one for one in tx.organizations(tenant.id) if one.name == name), None)
    if old is not None:
        access_type, admin_contact = access_type or old.access_type, admin_contact or old.admin_contact
    if access_type is None or access_type not in get_args(AccessType):
        raise InvalidInput("access_type", "must be one of " + ", ".join(get_args(AccessType)))
    if admin_contact is None or "@" not in admin_contact:
        raise InvalidInput("admin_contact", "must be an e-mail address")
    ews_url = _exchange_url(ews_url, "ews_url") if ews_url else ews_url
    login = _service_account(deps, old, service_account, ews_url)
    if access_type == IMPERSONATION and login is None and (old is None or old.service_account is None):
        raise InvalidInput("service_account", f"must be given for {IMPERSONATION}: it is what opens the mailboxes")
    settings = old.profile if old is not None and profile is None else Profile.from_json(profile or {})
    with deps.store.transaction() as tx:
        organization_id = tx.put_organization(tenant.id, name, access_type, admin_contact, settings, ews_url)
        tx.record("organization.put", deps.now(), tenant_id=tenant.id, user_id=None)
    sealed = None if login is None else deps.vault.seal_service_account(tenant.id, organization_id, login)
    with deps.store.transaction() as tx:
        if sealed is not None:
            tx.put_service_account(organization_id, sealed, deps.now())
        made = next(one for one in tx.organizations(tenant.id) if one.id == organization_id)
    fit(deps, made)
    return made


def _service_account(
    deps: Deps, old: Organization | None, entered: Mapping[str, Any] | None, ews_url: str | None
) -> ExchangeLogin | None:
    """Return the login to keep; None if the one there is stays. Raises: InvalidInput."""
    if entered is not None:
        known = ews_url or (old.ews_url if old else "")
        return _login({"url": known, **entered} if known else entered, "service_account")
    if not ews_url or old is None or old.service_account is None:
        return None
    return replace(deps.vault.service_account(old), url=ews_url, impersonates=False)


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
    """Keep what opens a person's mailbox, in place of what there was; it is tried when it is used first.

    Raises: NotFound; InvalidInput, also where the organization does not offer such a mailbox; AlreadyExists; Transient.
    """
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
        access_type = tx.organization_of(user.id).access_type
        if provider not in CHOICES[access_type]:
            raise InvalidInput("mailbox", f"people of this organization do not connect such a mailbox ({access_type})")
        principal = tx.principal_of(user.id)
    if principal is None:
        raise NotFound(f"{email} is not enabled.")
    keep(deps, principal, provider, user.email, account=None, issuer_tenant=domain_of(user.email), secret=secret)


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

    Where a service account opens the mailboxes, who is switched on has theirs again; if it does not open, they stay off.

    Raises: NotFound; Transient; ConnectRefused.
    """
    with deps.store.transaction() as tx:
        user = _user(tx, tenant_name, email)
        tx.set_user_enabled(user.id, enabled)
        tx.record("user.enable" if enabled else "user.disable", deps.now(), tenant_id=user.tenant_id, user_id=user.id)
        if not enabled:
            tx.end_page_sessions(user.id)
        connections = [] if enabled else tx.connections_of(user.id)
    for connection in connections:
        if connection.credentials is not None:  # what a service account opens, it opens for nobody who is off
            deps.vault.forget(connection.id)
    if enabled:
        try:
            _open_by_service_account(deps, user.id, check=True)
        except SsiError:
            with deps.store.transaction() as tx:
                tx.set_user_enabled(user.id, user.enabled)
            raise


def allow_mailbox(deps: Deps, tenant_name: str, email: str, address: str) -> None:
    """Let a person connect the mailbox of another address, too; "" takes it back. A service account then opens that one.

    Raises: NotFound; InvalidInput; ConnectRefused if it does not open, after which all is as it was.
    """
    if address and "@" not in address:
        raise InvalidInput("mailbox", "must be an e-mail address")
    with deps.store.transaction() as tx:
        user = _user(tx, tenant_name, email)
        tx.allow_mailbox(user.id, address)
        tx.record("user.allow_mailbox", deps.now(), tenant_id=user.tenant_id, user_id=user.id)
        connections = tx.connections_of(user.id)
    for connection in connections:
        is_theirs = connection.mailbox.lower() in {user.email.lower(), address.lower()}
        if connection.state != "disconnected" and connection.credentials is not None and not is_theirs:
            end(deps, user, connection, BY_ADMINISTRATOR)
    if not user.enabled:
        return
    try:
        _open_by_service_account(deps, user.id, check=True)
    except SsiError:
        with deps.store.transaction() as tx:
            tx.allow_mailbox(user.id, user.other_mailbox)
        raise


def unlink(deps: Deps, tenant_name: str, email: str, issuer_tenant: str) -> None:
    """Let a person's accounts of one identity tenant no longer stand for them. Raises: NotFound if there is none."""
    with deps.store.transaction() as tx:
        user = _user(tx, tenant_name, email)
        theirs = [subject for issuer, subject in tx.identities_of(user.id) if issuer == issuer_tenant.lower()]
        if not theirs:
            raise NotFound(f"{email} has no account of {issuer_tenant}.")
        for subject in theirs:
            tx.unbind_identity(user.id, issuer_tenant.lower(), subject)
        tx.end_page_sessions(user.id)
        tx.record("user.unlink", deps.now(), tenant_id=user.tenant_id, user_id=user.id, issuer_tenant=issuer_tenant.lower())


def remove_user(deps: Deps, tenant_name: str, email: str) -> None:
    """Remove a person and everything that is theirs here; what opened their mailbox is ended. Raises: NotFound; Transient."""
    set_user_enabled(deps, tenant_name, email, False)
    with deps.store.transaction() as tx:
        user = _user(tx, tenant_name, email)
        tx.remove_user(user.id)
        tx.record("user.remove", deps.now(), tenant_id=user.tenant_id, user_id=user.id)


def principal_by_address(deps: Deps, email: str) -> Principal:
    """Return the enabled person with this address. Raises: NotFound; InvalidInput if several tenants have one."""
    with deps.store.transaction(reading=True) as tx:
        users = [user for tenant in tx.tenants() if (user := tx.user_by_email(tenant.id, email)) is not None]
        principal = tx.principal_of(users[0].id) if len(users) == 1 else None
    if len(users) > 1:
        raise InvalidInput("user", "is set up in several tenants")
    if principal is None:
        raise NotFound(f"There is nobody with the address {email} who may use this.")
    return principal


def describe_user(deps: Deps, tenant_name: str, email: str) -> dict[str, Any]:
    """Return what an administrator may see of a person. Raises: NotFound."""
    with deps.store.transaction(reading=True) as tx:
        user = _user(tx, tenant_name, email)
        organization = tx.organization_of(user.id)
        found = [(c, tx.session_of(c.id)) for c in tx.connections_of(user.id)]
        identities = tx.identities_of(user.id)
    return {
        "email": user.email,
        "name": user.name,
        "c4c_user": user.c4c_user_id,
        "organization": organization.name,
        "access_type": organization.access_type,
        "enabled": user.enabled,
        "other_mailbox": user.other_mailbox,
        "identities": [{"tenant": issuer_tenant, "subject": subject} for issuer_tenant, subject in identities],
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
    """Return what `ssi doctor` finds out as this user, and under "problems" what has to be mended, in sentences.

    Of the mailbox it tells what is known, without opening it. Raises: NotFound for an unknown tenant or user.
    """
    with deps.store.transaction(reading=True) as tx:
        tenant = tx.tenant(tenant_name)
        principal = tx.principal_of(_user(tx, tenant_name, email).id)
    if principal is None:
        raise NotFound(f"{email} is not an enabled user.")
    problems: list[str] = []
    found = {"c4c": _c4c_findings(deps, principal, problems), "sign_in": _sign_in_findings(deps, tenant, problems)}
    person = describe_user(deps, tenant_name, email)
    for one in person["connections"]:
        if one["state"] in ("needs_reauth", "suspended"):
            problems.append(f"The mailbox {one['mailbox']} is not usable: {one['reason']}")
        if one["session"] is not None and one["session"]["state"] == "failed":
            problems.append(f"The session of the mailbox {one['mailbox']} failed: {one['session']['reason']}")
    return {**found, "connections": person["connections"], "sends_mails": deps.send_mail is not None, "problems": problems}


def _c4c_findings(deps: Deps, principal: Principal, problems: list[str]) -> dict[str, Any]:
    c4c, codes = deps.c4c(principal), Codes.from_json(principal.tenant.c4c.codes)
    try:
        me, lists = c4c.who_am_i(), c4c.code_lists()
    except SsiError as error:
        problems.append(str(error))
        return {"user": None, "locked": None}
    if me.user_id.upper() != principal.user.c4c_user_id:
        problems.append(f"SAP Cloud for Customer says that the user is {me.user_id}.")
    if me.is_locked:
        problems.append("The user is locked in SAP Cloud for Customer.")
    problems += [f"SAP Cloud for Customer lacks a code that saving uses: {code}" for code in codes.unknown(lists)]
    return {"user": me.user_id, "locked": me.is_locked}


def _sign_in_findings(deps: Deps, tenant: Tenant, problems: list[str]) -> dict[str, Any]:
    """How people sign in to the pages; a provider has to describe itself."""
    if not tenant.c4c.oidc:
        return {"by": "password", "issuer": None}
    try:
        deps.doors.identity_provider(tenant).begin(redirect_uri=f"{deps.public_url}/sign-in/callback", scopes=())
    except SsiError as error:
        problems.append(f"The identity provider cannot be used: {error}")
    return {"by": "oidc", "issuer": tenant.c4c.oidc["issuer"]}


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
    _exchange_url(login.url, f"{place}.url")
    if login.scheme not in ("ntlm", "basic") or login.impersonates or not (login.user and login.password):
        raise InvalidInput(place, "must have a user, a password, and as scheme ntlm or basic")
    return login


def _exchange_url(url: str, place: str) -> str:
    """Raises: InvalidInput for what is no address of an Exchange server of one's own."""
    checked = server_url(url, place)
    if is_exchange_online(checked.hostname or ""):
        raise InvalidInput(place, "This is Exchange Online, whose mailboxes are connected as Microsoft 365.")
    return checked.geturl()


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
