"""Both sides of the sign-in line for the tests: the simulator behind TLS, and what the product builds upon it."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import trustme

from server.auth.identity import EntraIssuer, GoogleIssuer, Verifier
from server.auth.oauth import Entra, Google
from server.domain.profile import Profile
from server.store import C4CSettings, Connection, Provider, Store
from server.transport import Gateway, ssl_context
from simulator.google import identity as google_identity
from simulator.google.identity import ADD_ON, GoogleIdentity
from simulator.identity import IdentityProvider, create_app, provider_of
from simulator.serving import Port
from simulator.world import Person, World

GRAPH = "https://graph.microsoft.com"
MAIL_SCOPES = (f"{GRAPH}/Mail.ReadWrite", f"{GRAPH}/MailboxSettings.ReadWrite")
READ_SCOPES = (f"{GRAPH}/User.Read",)


@dataclass
class SignIn:
    """The simulator and the product's side of the line to it. The server's clock runs apart from the World's by `server_lag`."""

    world: World
    provider: IdentityProvider
    url: str
    google_provider: GoogleIdentity
    google_url: str
    gateway: Gateway
    server_lag: timedelta = timedelta()

    @property
    def person(self) -> Person:
        return self.world.people[0]

    @property
    def other_person(self) -> Person:
        return self.world.people[1]

    def now(self) -> datetime:
        return self.world.now() + self.server_lag

    def token(self, person: Person | None = None, lifetime_s: float = 3600, **claims: object) -> str:
        return self.provider.mint_api_token(self.world, person or self.person, lifetime_s, **claims)

    def entra(self, now: Callable[[], datetime] | None = None, *, gateway: Gateway | None = None, secret: str = "") -> Entra:
        secret = secret or self.world.client_secret
        return Entra(self.url, self.world.client_id, secret, gateway or self.gateway, now or self.now)

    def google(self) -> Google:
        return Google(f"{self.google_url}/token", self.world.client_id, self.world.client_secret, self.gateway, self.now)

    def verifier(self) -> Verifier:
        audience = frozenset({self.world.client_id, f"api://sidebar.example.com/{self.world.client_id}"})
        return Verifier([EntraIssuer(self.gateway, authority=self.url, audience=audience), self.google_issuer()], self.now)

    def google_issuer(self, *audience: str) -> GoogleIssuer:
        addons = frozenset(audience or (ADD_ON, "second-addon.apps.example.com"))
        keys_url = f"{self.google_url}/oauth2/v3/certs"
        return GoogleIssuer(self.gateway, issuer=self.google_url, keys_url=keys_url, audience=addons)

    def exchanges(self, vendor: str = "identity") -> int:
        """How many requests reached the token endpoint, whatever the answer."""
        return sum(request.path.endswith("/token") for request in self.world.requests(vendor))


class Line:
    """What stays the same for the whole run: keys, port, certificate."""

    world: World

    def __init__(self, directory: Path) -> None:
        authority = trustme.CA()
        self.tls = context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
        authority.cert_pem.write_to_path(str(directory / "ca.pem"))
        app = create_app(lambda: self.world, public_url=lambda: self.port.url)
        google_app = google_identity.create_app(lambda: self.world, public_url=lambda: self.google_port.url)
        self.port, self.google_port = Port(app, tls=context), Port(google_app, tls=context)
        self.provider, self.google = provider_of(app), google_identity.identity_of(google_app)
        self.gateway = Gateway("Microsoft's sign-in service", timeout_s=5, ssl_context=ssl_context(directory / "ca.pem"))


@dataclass
class Database:
    """An SQLite file; each `open` is another process's view of it."""

    file: Path
    stores: list[Store] = field(default_factory=list)

    def open(self) -> Store:
        self.stores.append(Store(f"sqlite:///{self.file}"))
        return self.stores[-1]

    def close(self) -> None:
        for store in self.stores:
            store.close()


def add_tenant(store: Store, sign_in: SignIn, name: str, wrapped_key: bytes) -> str:
    with store.transaction() as tx:
        entra_tenants = [sign_in.world.entra_tenant] if not tx.tenants() else []
        return tx.add_tenant(name, wrapped_key, C4CSettings(url="https://c4c.example.com/"), entra_tenants, sign_in.now())


def add_connection(
    store: Store, sign_in: SignIn, tenant_id: str, person: Person, *, access_type: str = "office365", provider: Provider = "graph"
) -> Connection:
    with store.transaction() as tx:
        organization = tx.put_organization(tenant_id, access_type, access_type, "admin@example.com", Profile())
        user_id = tx.add_user(
            tenant_id, organization, email=person.email, name=person.name, c4c_user_id=person.user_id, now=sign_in.now()
        )
        user = next(user for user in tx.users(tenant_id) if user.id == user_id)
        return tx.put_connection(user, provider, person.email, sign_in.world.entra_tenant, sign_in.now())
