"""All vendors of one World on loopback ports, and what somebody needs to know to use them.

What a browser opens (the inbox, the pages to sign in) is plain http on 127.0.0.1; what servers call is https under an authority
of its own, since the vendors' SDKs refuse http. With a state directory the authority and the keys survive a restart.
"""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from simulator import c4c, demo, ews, google, graph, identity, inbox, smtp
from simulator.ews import autodiscover as ews_autodiscover, identity as ews_identity
from simulator.google import identity as google_identity, people as google_people
from simulator.google.push import Pushes
from simulator.graph.subscriptions import Courier, Subscriptions, post_by_http
from simulator.inbox import add_on
from simulator.serving import Port, joined
from simulator.world import AccessType, Person, World

TENANT = "demo"
ORGANIZATIONS: Mapping[AccessType, str] = {
    "office365": "Sales",
    "exchange_direct": "Sales, Exchange Direct Logon",
    "exchange_impersonation": "Sales, Exchange Impersonation",
    "google": "Sales, Google",
}
NEWCOMERS = "Newcomers"
"""The organization whose people choose their mailbox themselves."""
SERVICE_ACCOUNT = ews.ServiceAccount("ssi-service", "Impersonate-1!")
"""May impersonate everybody at the simulated Exchange."""
HOOKS = "https://hooks.example.com"
"""Where the vendors reach the product, by way of a reverse proxy, since Graph calls nothing but https."""
PORTS = 8  # inbox, C4C, Graph, identity, Exchange, Google, mail server, pages to sign in
BEARER_LIFETIME_S = 12 * 3600.0  # long enough for a day of trying things out
_PARTY_ROLES = {"contact": "1015", "account": "1001", "individual_customer": "1020"}
_REFERENCE_TYPES = {
    "lead": "64",
    "opportunity": "72",
    "ticket": "118",
    "quote": "30",
    "order": "114",
    "appointment": "12",
    "visit": "1607",
    "phone_call": "86",
    "task": "542",
}
CODES: dict[str, Any] = {
    "direction_incoming": "3",
    "direction_outgoing": "4",
    "note_type": "10002",
    "party_role": _PARTY_ROLES,
    "reference": {record_type: [code, "6"] for record_type, code in _REFERENCE_TYPES.items()},
}
"""What an administrator of this tenant reads from its code lists (simulator.c4c.schema)."""


class Simulator:
    """The vendors, serving. `world` may be replaced at any time, e.g. by each test; the ports stay.

    `first_port` 0 takes free ones. `sidebar_url` is where the product's pane is; set it before the inbox is opened. `server_url`
    is the product's origin on this machine if it shall get notifications: what the vendors send to HOOKS is let through to there.
    """

    def __init__(self, world: World, state_dir: Path, *, first_port: int = 0, sidebar_url: str = "") -> None:
        self.world = world
        self.sidebar_url = sidebar_url
        self.server_url = ""
        self.subscriptions = Subscriptions(self._notify)
        self._courier = Courier(self.subscriptions, lambda: self.world, every_s=0.1)
        self._state = state_dir
        self._authority = _authority(state_dir / "ca")
        self.ca_file = state_dir / "ca" / "ca.pem"
        self._saml_key, self._saml_certificate = _signing_key(state_dir / "keys" / "saml.pem")
        keys = state_dir / "keys"
        tls = self._tls(state_dir / "ca" / "server.pem")

        def world_now() -> World:
            return self.world

        identity_app = identity.create_app(
            world_now, public_url=lambda: self.identity.url, pages_url=lambda: self.sign_in.url, state_dir=keys
        )
        self.provider = identity.provider_of(identity_app)
        graph_app = graph.create_app(world_now, self.provider.verify_graph_token, self.subscriptions)
        c4c_app = c4c.create_app(world_now, public_url=lambda: self.c4c.url)
        self.exchange_identity = ews_identity.ExchangeIdentity(world_now, public_url=lambda: self.ews.url, state_dir=keys)
        ews_app = ews.create_app(
            world_now, services=[SERVICE_ACCOUNT], autodiscover=self._autodiscover, identity=self.exchange_identity
        )
        google_app = google_identity.create_app(world_now, public_url=lambda: self.google.url, state_dir=keys)
        self.google_identity = google_identity.identity_of(google_app)
        gmail_app = google.create_app(world_now, self.google_identity.grant, self.google_identity.message_grant)
        self._gmail = google.service_of(gmail_app)
        shared = self._gmail.gmail
        inbox_app = inbox.create_app(
            world_now,
            sidebar_url=lambda: self.sidebar_url,
            mint_token=self.bearer,
            mint_identity_token=lambda person, url: self.exchange_identity.mint_identity_token(self.world, person, url),
            gmail=shared,
            book_of=lambda person: self.books.of(self.world, person),
            add_on=add_on.AddOn(self.google_identity, lambda: ssl.create_default_context(cafile=str(self.ca_file))),
            turns={"password": self._change_password, "consent": self._change_consent, "admin": self._need_admin},
        )
        people_app = google_people.create_app(world_now, self.google_identity.grant)
        self.books = google_people.books_of(people_app)
        google_apps = {"/gmail/": gmail_app, "/batch/gmail/": gmail_app, "/batch": people_app, "/v1/": people_app}
        google_apps["/"] = google_app
        ports = [first_port + n if first_port else 0 for n in range(PORTS)]
        self.inbox = Port(inbox_app, port=ports[0])
        self.c4c = Port(c4c_app, port=ports[1], tls=tls)
        self.graph = Port(graph_app, port=ports[2], tls=tls)
        self.identity = Port(identity_app, port=ports[3], tls=tls)
        self.ews = Port(ews_app, port=ports[4], tls=tls)
        self.google = Port(joined(google_apps), port=ports[5], tls=tls)
        self.smtp = smtp.SmtpPort(world_now, port=ports[6], tls=tls)
        self.sign_in = Port(joined({"/o/": google_app, "/": identity_app}), port=ports[7])
        self._open = ExitStack()

    def __enter__(self) -> Simulator:
        for port in (self.inbox, self.c4c, self.graph, self.identity, self.ews, self.google, self.smtp, self.sign_in):
            self._open.enter_context(port)
        self._open.enter_context(self._courier)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()

    @property
    def gmail_pushes(self) -> Pushes:
        """The Pub/Sub topics that exist, and which mailboxes are watched."""
        return self._gmail.pushes

    def _notify(self, url: str, body: bytes) -> tuple[int, str, bytes]:
        """Do as `graph.subscriptions.Post`, the product's reverse proxy being in between."""
        if not (self.server_url and url.startswith(HOOKS)):
            return 0, "", b""
        trusted = ssl.create_default_context(cafile=str(self.ca_file))
        return post_by_http(self.server_url + url.removeprefix(HOOKS), body, verify=trusted)

    def bearer(self, person: Person) -> str:
        """Return a token for the product's API: Google's for who has the mailbox there, else Entra's."""
        if person.access_type == "google":
            until = int(self.world.now().timestamp() + BEARER_LIFETIME_S)
            return self.google_identity.mint_id_token(self.world, person, exp=until)
        return self.provider.mint_api_token(self.world, person, BEARER_LIFETIME_S)

    def _change_password(self, person: Person, password: str) -> None:
        with self.world.lock:
            person.password = password

    def _change_consent(self, person: Person, given: str) -> None:
        """Withdraw it, or at Microsoft give it again; at Google that is done on the sign-in page."""
        if person.access_type == "google":
            self.google_identity.withdraw_consent(person)
        elif given:
            self.provider.give_consent(person)
        else:
            self.provider.withdraw_consent(person)
            self.provider.revoke(person)

    def _need_admin(self, person: Person, number: str) -> None:
        self.provider.require_admin(person, number=int(number))

    def facts(self) -> dict[str, Any]:
        """Return what `./run dev --json` prints, without `server` (architecture, section 9)."""
        return {
            "inbox": self.inbox.url,
            "c4c": self.c4c.url,
            "graph": self.graph.url,
            "ews": self.ews.url,
            "google": self.google.url,
            "smtp": self.smtp.url,
            "identity": self.identity.url,
            "ca_file": str(self.ca_file),
            "c4c_admin": {"user": c4c.ADMIN[0], "password": c4c.ADMIN[1]},
            "users": [
                {
                    "email": person.email,
                    "access_type": person.access_type,
                    "bearer": self.bearer(person),
                    "mailbox": self._key_of(person),
                    "c4c": _c4c_login(person),
                    "messages": demo.items(self.world, person),
                }
                for person in self._connected
            ],
            "newcomers": [
                {
                    "email": person.email,
                    "access_type": person.access_type,
                    "c4c": _c4c_login(person),
                    "mailbox": self._key_of(person),
                }
                for person in self._newcomers
            ],
        }

    def _key_of(self, person: Person) -> dict[str, str]:
        """Return what opens a person's mailbox at its provider."""
        match person.access_type:
            case "office365":
                return {"bearer": self.provider.mint_graph_token(self.world, person, lifetime_s=BEARER_LIFETIME_S)}
            case "google":
                return {"bearer": self.google_identity.mint_access_token(self.world, person, BEARER_LIFETIME_S)}
        return {"user": person.email, "password": person.password}

    def provisioning(self) -> dict[str, Any]:
        """Return the document for `ssi provision`, and under `environment` the SSI_* variables that fit these ports.

        Trusts the product's signing certificate in the C4C tenant, as its administrator would.
        """
        world = self.world
        c4c.trust(world, self._saml_certificate)
        secret_file = self._state / "keys" / "client.secret"
        _write_private(secret_file, world.client_secret)
        mail_password_file = self._state / "keys" / "mail.secret"
        _write_private(mail_password_file, smtp.ACCOUNT.password)
        return {
            "tenant": {
                "name": TENANT,
                "identity_tenants": self._identity_tenants(),
                "c4c": {
                    "url": self.c4c.url + "/sap/c4c/odata/v1/c4codataapi/",
                    "token_url": self.c4c.url + c4c.TOKEN_PATH,
                    "auth": "saml",
                    "saml_issuer": world.c4c.saml_issuer,
                    "saml_audience": world.c4c.audience,
                    "saml_certificate": self._saml_certificate,
                    "oauth_client_id": world.c4c.oauth_client_id,
                    "oidc": {"issuer": self.provider.c4c.issuer, "client_id": world.client_id, "user_claim": "sub"},
                    "codes": CODES,
                    "links": {
                        "origin": self.inbox.url,
                        "template": "{origin}/c4c/record?type={type}&id={id}",
                        "thing_types": {name: name for name in (*_PARTY_ROLES, *_REFERENCE_TYPES, "email")},
                    },
                },
                "secrets": {
                    "saml_key": self._saml_key,
                    "oauth_client_secret": world.c4c.oauth_client_secret,
                    "oidc_client_secret": world.client_secret,
                },
            },
            "organizations": self._organizations(),
            "users": [self._user(person) for person in world.people if person.provisioned],
            "environment": {
                "SSI_CA_FILE": str(self.ca_file),
                **({"SSI_HOOKS_URL": HOOKS} if self.server_url else {}),
                "SSI_OFFICE_JS_URL": self.inbox.url + "/office.js",
                "SSI_FRAME_ANCESTORS": self.inbox.url,
                "SSI_ENTRA_AUTHORITY": self.identity.url,
                "SSI_GRAPH_URL": self.graph.url + "/v1.0",
                "SSI_CLIENT_ID": world.client_id,
                "SSI_CLIENT_SECRET_FILE": str(secret_file),
                "SSI_ALLOWED_HOSTS": f"127.0.0.1:{self.ews.port}",
                "SSI_EXCHANGE_METADATA_HOSTS": self._exchange_host,
                "SSI_GOOGLE_CLIENT_ID": world.client_id,
                "SSI_GOOGLE_CLIENT_SECRET_FILE": str(secret_file),
                "SSI_GOOGLE_AUDIENCE": google_identity.ADD_ON,
                "SSI_GMAIL_SERVICE_ACCOUNT": google_identity.ADD_ON_ACCOUNT,
                "SSI_GOOGLE_ISSUER": self.google.url,
                "SSI_GOOGLE_KEYS_URL": self.google.url + "/oauth2/v3/certs",
                "SSI_GOOGLE_TOKEN_URL": self.google.url + "/token",
                "SSI_GOOGLE_AUTH_URL": self.sign_in.url + "/o/oauth2/v2/auth",
                "SSI_GOOGLE_REVOKE_URL": self.google.url + "/revoke",
                "SSI_CONSUMER_DOMAINS": "outlook.example",
                "SSI_GMAIL_URL": self.google.url,
                "SSI_GOOGLE_PEOPLE_URL": self.google.url,
                "SSI_SMTP_URL": f"smtp://{quote(smtp.ACCOUNT.user, safe='')}@localhost:{self.smtp.port}",
                "SSI_SMTP_PASSWORD_FILE": str(mail_password_file),
                "SSI_MAIL_FROM": f"SSI Sidebar <{smtp.ACCOUNT.user}>",
            },
        }

    @property
    def _exchange_host(self) -> str:
        return self.ews.url.removeprefix("https://")

    def _identity_tenants(self) -> list[str]:
        """Return where people may come from: Entra tenants, by id, a Google Workspace, by domain, and an Exchange server."""
        people = [*self._connected, *self._newcomers]
        entra = {self.world.tenant_of(person) for person in people} | {self.world.entra_tenant}
        google = [demo.OWN_DOMAIN] if any(person.access_type == "google" for person in people) else []
        exchange = [f"exchange:{self._exchange_host}"] if any(p.access_type in ews.ON_PREMISES for p in people) else []
        return [*sorted(entra), *google, *exchange]

    def _organizations(self) -> list[dict[str, Any]]:
        """One for each access type that somebody has, and the newcomers'."""
        user = f"{ews.DOMAIN}\\{SERVICE_ACCOUNT.user}"
        login = {"url": self.ews.url + ews.PATH, "user": user, "password": SERVICE_ACCOUNT.password}
        names: dict[str, str] = {kind: name for kind, name in ORGANIZATIONS.items() if kind in self._used}
        names |= {"user_choice": NEWCOMERS} if self._newcomers else {}
        return [
            {
                "name": name,
                "access_type": access_type,
                "admin_contact": f"it@{demo.OWN_DOMAIN}",
                "profile": {"leads_enabled": True, "blocklisted_domains": [demo.BLOCKLISTED_DOMAIN]},
                **({"service_account": login} if access_type == "exchange_impersonation" else {}),
            }
            for access_type, name in names.items()
        ]

    @property
    def _connected(self) -> list[Person]:
        return [person for person in self.world.people if person.provisioned and person.connected]

    @property
    def _newcomers(self) -> list[Person]:
        return [person for person in self.world.people if person.provisioned and not person.connected]

    @property
    def _used(self) -> set[AccessType]:
        return {person.access_type for person in self._connected}

    def _user(self, person: Person) -> dict[str, Any]:
        user: dict[str, Any] = {"email": person.email, "name": person.name, "c4c_user_id": person.user_id}
        if not person.connected:
            return user | {"organization": NEWCOMERS}
        user |= {"organization": ORGANIZATIONS[person.access_type]}
        user |= {"identity": {"tenant": self.world.tenant_of(person), "subject": person.object_id}}
        if person.access_type == "exchange_direct":
            login = {"url": self.ews.url + ews.PATH, "user": person.email, "password": person.password}
            user["mailbox"] = {"provider": "exchange", **login}
        if person.access_type == "google":
            user["identity"] = {"tenant": demo.OWN_DOMAIN, "subject": google_identity.subject(person)}
            token = self.google_identity.mint_refresh_token(self.world, person)
            user["mailbox"] = {"provider": "google", "refresh_token": token}
        return user

    def _autodiscover(self, address: str) -> ews_autodiscover.Reply:
        person = self.world.person(address)
        if person is None or person.access_type not in ews.ON_PREMISES:
            return ews_autodiscover.Unknown()
        return ews_autodiscover.Settings(self.ews.url + ews.PATH)

    def _tls(self, server_pem: Path) -> ssl.SSLContext:
        certificate = self._authority.issue_cert("localhost", "127.0.0.1")
        _write_private(server_pem, certificate.private_key_and_cert_chain_pem.bytes().decode())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        return context


def _c4c_login(person: Person) -> dict[str, str]:
    """Return what a person types to sign in to C4C."""
    return {"user": person.user_id, "password": person.password}


def _authority(folder: Path) -> trustme.CA:
    """Return this state's certificate authority; its certificate is ca.pem."""
    certificate, key = folder / "ca.pem", folder / "ca.key"
    if certificate.exists() and key.exists():
        return trustme.CA.from_pem(certificate.read_bytes(), key.read_bytes())
    authority = trustme.CA(organization_name="SSI Sidebar development")
    _write_private(key, authority.private_key_pem.bytes().decode())
    certificate.write_bytes(authority.cert_pem.bytes())
    return authority


def _signing_key(file: Path) -> tuple[str, str]:
    """Return the key with which the product signs SAML assertions, and its certificate; both PEM."""
    if file.exists():
        key_pem, certificate_pem = json.loads(file.read_text())
        return key_pem, certificate_pem
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "SSI Sidebar demo")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=3650))
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
    certificate_pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    _write_private(file, json.dumps([pem, certificate_pem]))
    return pem, certificate_pem


def _write_private(file: Path, text: str) -> None:
    """Replace the file at once, readable by its owner only."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(f".{os.getpid()}.new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(text)
    fresh.replace(file)
