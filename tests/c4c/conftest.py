"""The simulated C4C on a port of its own with TLS, and our client in front of it, signed in as one of the World's people."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from server.c4c import C4C, Codes, DeepLinks
from server.c4c.odata import ODataClient, basic
from server.c4c.saml import Minted, Minter, TokenSource
from server.transport import Gateway
from simulator import c4c as simulated, demo
from simulator.serving import Port
from simulator.world import Access, Person, World

SERVICE = "/sap/c4c/odata/v1/c4codataapi"
CODES = Codes(
    direction_incoming="3",
    direction_outgoing="4",
    note_type="10002",
    party_role={"contact": "1015", "account": "1001", "individual_customer": "1020"},
    reference={"lead": ("64", "6"), "opportunity": ("72", "1"), "ticket": ("118", "6")},
)


class Tenant:
    """One tenant's door: makes clients for people, whatever World stands behind it at the moment."""

    def __init__(self) -> None:
        self.world = World()
        self.url = ""
        self.pauses: list[float] = []
        self.minted: list[Minted] = []
        authority = trustme.CA()
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(self.tls)
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        self.gateway = Gateway("SAP Cloud for Customer", timeout_s=5, ssl_context=trusting)
        self.pool = ThreadPoolExecutor(4)
        self.key_pem, self.certificate_pem = signing_pair()
        self.slots = threading.BoundedSemaphore(4)

    def begin(self, world: World) -> None:
        self.world = world
        self.pauses.clear()
        self.minted.clear()
        simulated.trust(world, self.certificate_pem.decode())

    def minter(self) -> Minter:
        return Minter(
            issuer=self.world.c4c.saml_issuer,
            audience=self.world.c4c.audience,
            token_url=self.url + simulated.TOKEN_PATH,
            client_id=self.world.c4c.oauth_client_id,
            key_pem=self.key_pem,
            certificate_pem=self.certificate_pem,
            now=self.world.now,
            on_mint=self.minted.append,
        )

    def tokens(self) -> TokenSource:
        return TokenSource(self.gateway, self.minter(), client_secret=self.world.c4c.oauth_client_secret, now=self.world.now)

    def by_token(self, person: Person, tokens: TokenSource | None = None) -> ODataClient:
        source = tokens or self.tokens()
        return ODataClient(
            self.gateway,
            self.url + SERVICE,
            authorize=source.authorize(person.user_id),
            renew=lambda: source.forget(person.user_id),
            slots=self.slots,
            needs_csrf=False,
            sleep=self.pauses.append,
            pool=self.pool,
        )

    def by_password(self, person: Person, password: str | None = None) -> ODataClient:
        return ODataClient(
            self.gateway,
            self.url + SERVICE,
            authorize=basic(person.user_id, password or person.password),
            slots=self.slots,
            needs_csrf=True,
            sleep=self.pauses.append,
        )

    def c4c(self, person: Person, *, parallel: bool = False) -> C4C:
        """A C4C whose token is warm."""
        tokens = self.tokens()
        tokens.token(person.user_id)
        return C4C(
            self.by_token(person, tokens),
            codes=CODES,
            record_url=DeepLinks(self.url, thing_types={"email": "E", "contact": "COD_CONTACT_TT"}),
            parallel=parallel,
        )

    def calls(self) -> list[Access]:
        """What reached the OData service, without the sign-ins."""
        return [a for a in self.world.requests("c4c") if a.path.startswith(SERVICE)]


def signing_pair() -> tuple[bytes, bytes]:
    """A new RSA key and a certificate for it, both PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ssi.example.com")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=365))
    ).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private, certificate.public_bytes(pem)


@pytest.fixture(scope="session")
def _tenant() -> Iterator[Tenant]:
    tenant = Tenant()
    app = simulated.create_app(lambda: tenant.world, public_url=lambda: tenant.url)
    with Port(app, tls=tenant.tls) as port:
        tenant.url = port.url
        yield tenant


@pytest.fixture
def world(_tenant: Tenant) -> World:
    world = demo.small()
    _tenant.begin(world)
    return world


@pytest.fixture
def tenant(_tenant: Tenant, world: World) -> Tenant:
    """The tenant with a World of this test's own."""
    return _tenant


@pytest.fixture
def me(world: World) -> Person:
    return world.people[0]


@pytest.fixture
def c4c(tenant: Tenant, me: Person) -> C4C:
    return tenant.c4c(me)
