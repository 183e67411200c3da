"""How often each provider is asked for one operation of a mailbox: HTTP requests, beside the fewest its protocol allows.

Why these are the fewest:

- To mark a message one reads what it carries and writes with its etag: two. At Google the read is a batch, since labels have ids
  whose names must be read, too.
- Graph takes 20 requests in a $batch (outlook.md section 3): 100 messages are five to read and five to write. Exchange takes all
  in one GetItem and one UpdateItem. Google advises against more than 50 in a batch (gmail.md 3.5): one to read the labels, two
  batches of changes, each of which adds and removes single labels and answers with what the message carries then.
- A first round of 4,500 contacts, and of 101 messages that are marked. Graph gives a thousand in a page, and its other folders
  come in the same requests: five. (We ask once more at the end: a contact that changed while the pages were read would seem
  gone.) A page of SyncFolderItems has at most 512 and no notes: nine, as many GetItem, one for each of five other folders, and
  the subscription. Google gives a thousand people in a page, and lists messages without what they carry: five, one for the
  lists, three to read the messages. (We read fewer at a time, for the quota of a minute.)
- Nothing changed: one $batch of all delta links; one GetEvents of one pull subscription instead of one call per folder; at
  Google one for the messages and one for the contacts, which are two services.
- A save reads the message's head and its MIME, and marks it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from server import wiring
from server.config import Settings
from server.domain.contact import Contact
from server.domain.marks import FOLDERS, names_for
from server.errors import RateLimited
from server.mail import Changes, Mailbox
from simulator.google.book import MY_CONTACTS, memberships
from simulator.world import Person
from tests.bench.figures import CannotMeasure, Figure
from tests.bench.product import Product
from tests.mail.remote import Remote

CONTACTS = 4_500
MARKED = 100
VENDORS = {
    "graph": ("office365", frozenset({"graph"})),
    "exchange": ("exchange_direct", frozenset({"exchange"})),
    "google": ("google", frozenset({"google"})),
}
FEWEST = {
    "mark_1": {"graph": 2, "exchange": 2, "google": 2},
    "mark_100": {"graph": 10, "exchange": 2, "google": 3},
    "first_4500_contacts": {"graph": 5, "exchange": 24, "google": 9},
    "idle_check": {"graph": 1, "exchange": 1, "google": 2},
    "save_1": {"graph": 4, "exchange": 4, "google": 4},
}


def measure(product: Product) -> Iterator[Figure]:
    for provider, (access_type, _) in VENDORS.items():
        person = next(one for one in product.people if one.access_type == access_type)
        for operation, count in _Counter(product, person, provider).all():
            fewest = FEWEST[operation][provider]
            how = f"HTTP requests in the access log; the protocol's fewest: {fewest}"
            yield Figure(f"requests_{operation}_{provider}", count, how)


class _Counter:
    """Counts what one person's mailbox is asked."""

    def __init__(self, product: Product, person: Person, provider: str) -> None:
        self._product, self._person, self._provider = product, person, provider

    def all(self) -> Iterator[tuple[str, int]]:
        caller = self._product.caller(self._person)
        letters = [item for item in self._product.items(self._person) if "aldermill.example" not in item["from"]["address"]]
        cards = next((item, found) for item in letters if (found := caller.look_up(item)[0]["cards"]))
        links = [{"type": cards[1][0]["type"], "id": cards[1][0]["id"]}]
        caller.save(self._product.deliver(self._person, cards[0]), links)  # signs in, and finds the marks
        yield "save_1", self._count(lambda: caller.save(self._product.deliver(self._person, cards[0]), links))

        deps = wiring.build(Settings.from_environment(self._product.installed.environment))
        with deps.store.transaction(reading=True) as tx:
            user = next(u for tenant in tx.tenants() for u in tx.users(tenant.id) if u.email == self._person.email)
            connection = tx.connections_of(user.id)[0]
        mailbox = deps.mailbox(connection)
        names = {mark: category.name for mark, category in mailbox.ensure_marks(names_for(mailbox.capabilities)).items()}
        letters = [self._product.deliver(self._person, cards[0]) for _ in range(MARKED + 1)]
        first, *refs = [mailbox.head(item["id"], item["id_form"]).ref for item in letters]
        yield "mark_1", self._count(lambda: mailbox.set_mark(first, "pending", names=names))
        yield "mark_100", self._count(lambda: mailbox.set_marks(refs, "pending", names=names))
        yield from self._changes(mailbox)
        deps.store.close()

    def _changes(self, mailbox: Mailbox) -> Iterator[tuple[str, int]]:
        folders = {identifier: folder.ref for identifier, folder in mailbox.ensure_folders(FOLDERS).items()}
        self._fill(folders["contacts"])
        pages: list[Changes] = []

        def read() -> None:
            while not pages or not pages[-1].is_complete:
                try:
                    pages.append(mailbox.changes(pages[-1].cursor if pages else None, folders=folders))
                except RateLimited as pause:  # by our own budget of Google's quota
                    time.sleep(pause.retry_after_s or 1)

        yield "first_4500_contacts", self._count(read)
        told = sum(len(page.contacts) for page in pages)
        if told != CONTACTS:
            raise CannotMeasure(f"{self._provider} told {told} contacts instead of {CONTACTS}.")
        cursor = mailbox.changes(pages[-1].cursor, folders=folders).cursor
        yield "idle_check", self._count(lambda: mailbox.changes(cursor, folders=folders))

    def _fill(self, folder: str) -> None:
        world = self._product.world
        with world.lock:
            for number in range(CONTACTS):
                name, email = f"Person {number}", f"person-{number}@bench.example"
                if self._provider != "google":
                    remote = Remote(world, self._provider, self._person, lambda: None)
                    remote.put_contact(folder, Contact(display_name=name, emails=(email,)))
                    continue
                book = self._product.simulator.books.of(world, self._person)
                content = {"names": [{"displayName": name, "givenName": name}], "emailAddresses": [{"value": email}]}
                book.put(book.contacts, content | {"memberships": memberships([folder, MY_CONTACTS])}, world.now())

    def _count(self, act: Callable[[], object]) -> int:
        before = self._product.marker
        act()
        _, vendors = VENDORS[self._provider]
        return sum(call.vendor in vendors and call.status != 401 for call in list(self._product.world.access[before:]))
