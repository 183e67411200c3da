"""One installation for the tests of the vault: a database, two tenants, people with connections."""

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from server.auth import TokenVault
from server.auth.oauth import Entra
from server.auth.secrets import FileKeys, Secrets
from server.store import Connection, Provider, Store
from simulator.world import Person
from tests.auth.sign_in import MAIL_SCOPES, Database, SignIn, add_connection, add_tenant

KEK = bytes(range(32))


def never() -> None:
    raise AssertionError("a lease was waited for")


@dataclass
class House:
    """One installation: a database, two tenants, a connection for each person."""

    sign_in: SignIn
    database: Database
    store: Store = field(init=False)
    tenants: list[str] = field(init=False)
    mine: Connection = field(init=False)
    theirs: Connection = field(init=False)

    def __post_init__(self) -> None:
        self.key_file.touch(mode=0o600)
        self.key_file.write_bytes(base64.urlsafe_b64encode(KEK))
        self.store, secrets = self.database.open(), Secrets(FileKeys(self.key_file))
        self.tenants = [add_tenant(self.store, self.sign_in, name, secrets.new_data_key()) for name in ("north", "south")]
        self.mine = add_connection(self.store, self.sign_in, self.tenants[0], self.sign_in.person)
        self.theirs = add_connection(self.store, self.sign_in, self.tenants[0], self.sign_in.other_person)

    @property
    def key_file(self) -> Path:
        return self.database.file.with_name("key")

    def vault(self, *, entra: Entra | None = None, sleep: Callable[[float], None] = lambda _seconds: never()) -> TokenVault:
        """A vault as another process would have it: own memory, own connection to the database."""
        return TokenVault(
            self.database.open(),
            Secrets(FileKeys(self.key_file)),
            self.sign_in.now,
            entra=entra or self.sign_in.entra(),
            google=self.sign_in.google(),
            sleep=sleep,
        )

    def read(self, connection: Connection) -> Connection:
        with self.store.transaction(reading=True) as tx:
            return tx.connection(connection.id)

    def adopted(self) -> TokenVault:
        vault = self.vault()
        vault.adopt(self.mine, self.sign_in.token(), MAIL_SCOPES)
        return vault

    def put_credentials(self, connection: Connection, sealed: bytes | None) -> None:
        with self.store.transaction() as tx:
            fence = tx.lease_connection(connection.id, self.sign_in.now(), 1)
            assert fence is not None
            assert tx.save_credentials(connection.id, fence, sealed, self.sign_in.now())
            tx.release_connection(connection.id, fence)

    def connection(self, access_type: str, provider: Provider, person: Person | None = None) -> Connection:
        """Make a connection of somebody in the southern tenant, in an organization of this access type."""
        somebody = person or self.sign_in.person
        return add_connection(self.store, self.sign_in, self.tenants[1], somebody, access_type=access_type, provider=provider)

    def owner(self, token: str) -> Person | None:
        return self.sign_in.provider.verify_graph_token(token)
