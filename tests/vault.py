"""Azure Key Vault for tests: the simulator's behind TLS, and a network in which its names lead there."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme
from azure.core.credentials import AccessToken

from server.auth.key_vault import VaultKey
from server.auth.secrets import FileKeys, Secrets
from server.transport import Gateway, Reply, ssl_context
from simulator.keyvault import KeyVault, create_app
from simulator.serving import Port
from simulator.world import World

HOSTS = (
    "https://ssi.vault.example.com",
    "https://other.vault.example.com",
    "https://vault.stranger.example",
    "https://login.microsoftonline.com",
)


class Routed(Gateway):
    """A Gateway in whose network the names of the vault and of its sign-in service lead to the simulator."""

    port_url = ""

    def send(self, method: str, url: str, **options: Any) -> Reply:
        for host in HOSTS:
            url = url.replace(host, self.port_url, 1) if url.startswith(host + "/") else url
        return super().send(method, url, **options)


@dataclass
class Cloud:
    world: World
    vault: KeyVault
    gateway: Gateway
    tokens_asked: list[tuple[str, ...]] = field(default_factory=list)

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        """Be the credential of a server that the vault admits."""
        self.tokens_asked.append(scopes)
        now = self.now()
        return AccessToken(self.vault.mint_token(now, audience=scopes[0].removesuffix("/.default")), int(now + 3600))

    def now(self) -> float:
        return self.world.now().timestamp()

    def key(self, address: str = "") -> VaultKey:
        return VaultKey(address or self.vault.address, self.gateway, credential=self, clock=self.now)

    def secrets(self, *former: FileKeys) -> Secrets:
        """As another process would have them."""
        return Secrets(self.key(), *former, clock=self.now)

    def asked(self) -> list[str]:
        """What reached the vault with a token, as "METHOD operation"."""
        answered = [one for one in self.world.requests("keyvault") if one.status != 401]
        return [f"{one.method} {one.path.rpartition('/')[2] if one.method == 'POST' else 'key'}" for one in answered]


@contextmanager
def opened(world: World, folder: Path) -> Iterator[Cloud]:
    """Open a vault with one version of its key; its certificate's authority is kept in `folder`."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(folder / "vault-ca.pem"))
    vault = KeyVault()
    vault.rotate(world.now().timestamp())
    gateway = Routed("Azure Key Vault", timeout_s=2, ssl_context=ssl_context(folder / "vault-ca.pem"))
    with Port(create_app(lambda: world, vault), tls=context) as port:
        gateway.port_url = port.url
        yield Cloud(world, vault, gateway)
