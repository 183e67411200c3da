"""What tests of ExchangeMailbox stand on: the back door to a mailbox on-premises, and the accounts that open it."""

from collections.abc import Callable
from dataclasses import dataclass

from server.mail.exchange import ExchangeMailbox
from simulator import ews
from simulator.world import StoredContact, World
from tests.mail.remote import Remote

SERVICE = ews.ServiceAccount("ssi-service", "Impersonate-1!")
LIMITED = ews.ServiceAccount("ssi-limited", "Impersonate-2!", frozenset({"nobody@aldermill.example"}))
PATH = "/EWS/Exchange.asmx"

Open = Callable[..., ExchangeMailbox]


@dataclass
class ExchangeRemote(Remote):
    """The back door to a mailbox on-premises; what other providers write by HTTP method are operations here."""

    marking: str = "/UpdateItem"
    creating: str = "/UpdateUserConfiguration"
    creating_folder: str = "/CreateFolder"
    creating_contact: str = "/CreateItem"
    creating_contacts: str = "/CreateItem"
    updating_contact: str = "/UpdateItem"
    updating_contacts: str = "/UpdateItem"
    moving_contact: str = "/MoveItem"
    deleting_contact: str = "/DeleteItem"

    def contact_ref(self, stored: StoredContact) -> str:
        return stored.ews_id.replace("/", "-").replace("+", "_")

    def forget_changes(self) -> None:
        self.fail("forgets")

    def leave_provider(self) -> None:
        self.person.access_type = "office365"

    def operations(self) -> list[str]:
        """What the server was asked to do, without the steps of a handshake."""
        return [a.path.rpartition("/")[2] for a in self.world.requests("exchange") if a.status != 401]


class House:
    """Stands between the port, which lives long, and the World, which is new for each test."""

    world: World
