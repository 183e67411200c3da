"""What really is in a mailbox, and what others do there: the back door that the contract's tests look through.

`Remote` knows the mailboxes of the World, which Graph and Exchange Web Services share. A provider that keeps something in its own
way overrides it. Refs are those that the provider's adapter uses.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any

from server.domain.contact import LINK_PROPERTY, MAX_EMAILS, Contact, PostalAddress
from server.domain.marks import FolderId
from server.mail import IdForm
from simulator.world import Category, Event, Fault, Folder, MailboxState, Person, StoredContact, StoredMessage, World

LINK = f"String {{{LINK_PROPERTY[0]}}} Name {LINK_PROPERTY[1]}"
FAX = "String 0x3A24"
BIRTHDAY = "1979-05-04T11:59:00Z"

_TEXTS = {  # ours -> Graph's
    "display_name": "displayName",
    "given_name": "givenName",
    "surname": "surname",
    "company": "companyName",
    "department": "department",
    "job_title": "jobTitle",
    "mobile_phone": "mobilePhone",
    "web_page": "businessHomePage",
    "notes": "personalNotes",
}
_LISTS = {"business_phone": "businessPhones", "home_phone": "homePhones"}
_PLACES = {"business_address": "businessAddress", "home_address": "homeAddress"}
_PARTS = {"street": "street", "city": "city", "region": "state", "postal_code": "postalCode", "country": "countryOrRegion"}

REFUSED = Contact(
    display_name="Refused", surname="Refused", emails=tuple(f"refused{n}@example.com" for n in range(MAX_EMAILS + 1))
)


@dataclass
class Remote:
    """The World's back door to one person's mailbox."""

    world: World
    vendor: str
    person: Person
    revoke: Callable[[], None]  # makes the provider refuse the token from now on
    # What a fault matches to hit the request that ...
    marking: str = "PATCH"  # marks a message
    creating: str = "POST"  # creates a category
    creating_folder: str = "POST"
    creating_contact: str = "POST"
    creating_and_looking: str = ""  # creates a contact, or looks for it afterwards
    updating_contact: str = "PATCH"
    moving_contact: str = "PATCH"
    deleting_contact: str = "DELETE"
    creating_contacts: str = "POST"  # creates many contacts at once
    updating_contacts: str = "POST"  # changes many contacts at once
    requests_to_create: int = 3  # the most that 45 contacts may take
    requests_to_update: int = 6
    refused: Contact = REFUSED  # what the provider does not take

    @property
    def state(self) -> MailboxState:
        return self.world.mailbox(self.person.email)

    # Messages

    def case(self, name: str) -> StoredMessage:
        mailbox, identifier = self.world.cases[name]
        return self.world.mailbox(mailbox).messages[identifier]

    def ids(self, message: StoredMessage) -> dict[IdForm, str]:
        """Every id by which the mail client may name the message."""
        return {"rest": message.rest_id, "ews": message.ews_id}

    def ref(self, message: StoredMessage) -> str:
        """The ref by which the adapter knows the message."""
        return message.immutable_id

    def receive(self, mime: bytes, *, hours_ago: float = 0, place: str = "inbox") -> StoredMessage:
        """Let a message arrive, or, with the place "sentitems", be sent."""
        message = StoredMessage(mime, self.state.folder(place).id, self.world.now() - timedelta(hours=hours_ago))
        message.conversation_id = f"AAQkAD{message.immutable_id[6:]}AA="
        self.state.messages[message.immutable_id] = message
        self.state.touch(message, self.world.now())
        return message

    def move(self, message: StoredMessage, folder: str) -> None:
        """Move a message to a well-known folder or to one of ours, by its ref."""
        target = next(f for f in self.state.folders.values() if folder in (f.id, f.well_known))
        self.state.left(message)
        message.folder = target.id
        message.ews_id = message.ews_id[:-1] + "+moved="
        self.state.touch(message, self.world.now())

    def place_of(self, message: StoredMessage) -> str:
        """Return the well-known name of the folder the message is in, or the ref if it is one of ours."""
        folder = self.state.folders[message.folder]
        return folder.well_known or folder.id

    def delete(self, message: StoredMessage) -> None:
        self.state.left(message)
        del self.state.messages[message.immutable_id]

    def categorize(self, message: StoredMessage, *names: str) -> None:
        message.categories = list(names)
        self.state.touch(message, self.world.now())

    # Categories and folders

    @property
    def master(self) -> dict[str, str]:
        """The categories that the mailbox knows: name -> colour."""
        return {category.name: category.color for category in self.state.categories.values()}

    def add_category(self, name: str, color: str) -> Category:
        category = Category(f"made-for-test-{len(self.state.categories)}", name, color)
        self.state.categories[category.id] = category
        return category

    def rename_category(self, name: str, new: str) -> None:
        next(category for category in self.state.categories.values() if category.name == name).name = new

    def delete_category(self, name: str) -> None:
        del self.state.categories[next(c.id for c in self.state.categories.values() if c.name == name)]

    def add_folder(self, folder: FolderId, name: str) -> str:
        """Let the owner make a folder for such items; return its ref."""
        made = Folder(f"AQMkADmade{len(self.state.folders)}AAAA=", name, kind="mail" if folder == "emails" else "contacts")
        self.state.folders[made.id] = made
        return made.id

    @property
    def folders(self) -> dict[str, str]:
        """All folders that are no well-known ones: ref -> name."""
        return {f.id: f.name for f in self.state.folders.values() if f.well_known is None}

    def rename_folder(self, ref: str, name: str) -> None:
        self.state.folders[ref].name = name

    def delete_folder(self, ref: str) -> None:
        """Let the owner delete a folder and all that is in it."""
        for contact in [c for c in self.state.contacts.values() if c.folder == ref]:
            self.state.left(contact)
            del self.state.contacts[contact.immutable_id]
        for message in [m for m in self.state.messages.values() if m.folder == ref]:
            self.delete(message)
        del self.state.folders[ref]

    # Contacts

    @property
    def own_contacts(self) -> str:
        """The ref of the owner's own folder of contacts."""
        return self.state.folder("contacts").id

    def contact_ref(self, stored: StoredContact) -> str:
        return stored.immutable_id

    def _stored(self, ref: str) -> StoredContact:
        return next(c for c in self.state.contacts.values() if self.contact_ref(c) == ref)

    def put_contact(self, folder: str, contact: Contact, *, link: str = "") -> str:
        """Let another client create a contact; return its ref."""
        properties, extended = stored_form(contact)
        stored = StoredContact(folder, properties, extended | ({LINK: link} if link else {}))
        self.state.contacts[stored.immutable_id] = stored
        self.state.touch(stored, self.world.now())
        return self.contact_ref(stored)

    def contacts(self, folder: str) -> dict[str, Contact]:
        """Everything in a folder: ref -> contact."""
        return {self.contact_ref(c): as_contact(c) for c in self.state.contacts.values() if c.folder == folder}

    def link_of(self, ref: str) -> str:
        return self._stored(ref).extended.get(LINK, "")

    def change_contact(self, ref: str, **values: Any) -> None:
        """Let the owner change a contact."""
        stored = self._stored(ref)
        properties, extended = stored_form(replace(as_contact(stored), **values))
        stored.properties |= properties
        stored.extended |= extended
        self.state.touch(stored, self.world.now())

    def categorize_contact(self, ref: str, *names: str) -> None:
        self._stored(ref).categories = list(names)
        self.state.touch(self._stored(ref), self.world.now())

    def categories_of(self, ref: str) -> list[str]:
        return self._stored(ref).categories

    def adorn(self, ref: str) -> None:
        """Let the owner keep on a contact what `Contact` has no place for."""
        self._stored(ref).properties |= {"birthday": BIRTHDAY, "imAddresses": ["ada@chat.example"], "nickName": "Countess"}
        self.state.touch(self._stored(ref), self.world.now())

    def is_adorned(self, ref: str) -> bool:
        properties = self._stored(ref).properties
        return [properties.get(name) for name in ("birthday", "imAddresses", "nickName")] == [
            BIRTHDAY,
            ["ada@chat.example"],
            "Countess",
        ]

    def drop_contact(self, ref: str) -> None:
        """Let the owner delete a contact."""
        stored = self._stored(ref)
        self.state.left(stored)
        stored.folder = self.state.folder("deleteditems").id
        stored.ews_id = stored.ews_id[:-1] + "+deleted="

    def is_trashed(self, contact: Contact) -> bool:
        """Say whether such a contact was deleted and its owner can get it back."""
        trash = self.state.folder("deleteditems").id
        return any(c.folder == trash and as_contact(c) == contact for c in self.state.contacts.values())

    def drag_contact(self, ref: str, folder: str) -> None:
        """Let the owner move a contact to another folder."""
        stored = self._stored(ref)
        self.state.left(stored)
        stored.folder = folder
        stored.ews_id = stored.ews_id[:-1] + "+moved="
        self.state.touch(stored, self.world.now())

    # The provider

    def fail(self, kind: str, **fault: Any) -> None:
        self.world.faults.append(Fault(self.vendor, kind, **fault))

    def heal(self) -> None:
        self.world.faults.clear()

    def leave_provider(self) -> None:
        self.person.access_type = "exchange_impersonation"

    def forget_changes(self) -> None:
        """Let the provider lose what its cursors stand for."""
        raise NotImplementedError

    def end_subscriptions(self) -> None:
        """Let the provider end what was subscribed to."""
        raise NotImplementedError

    def requests(self) -> int:
        """How many HTTP requests the provider has had."""
        return len(self.world.requests(self.vendor))

    @contextmanager
    def changes(self) -> Iterator[list[Event]]:
        """Collect what really happened to the mailbox within the block."""
        before = len(self.world.log)
        happened: list[Event] = []
        yield happened
        happened += [event for event in self.world.log[before:] if event.vendor == self.vendor]


def stored_form(contact: Contact) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a contact as the World keeps it: properties by Graph's names, and extended ones."""
    properties: dict[str, Any] = {theirs: getattr(contact, ours) for ours, theirs in _TEXTS.items()}
    properties |= {theirs: [getattr(contact, ours)] if getattr(contact, ours) else [] for ours, theirs in _LISTS.items()}
    for ours, theirs in _PLACES.items():
        parts = asdict(getattr(contact, ours))
        properties[theirs] = {_PARTS[part]: text for part, text in parts.items() if text}
    properties["emailAddresses"] = [{"name": email, "address": email} for email in contact.emails]
    return properties, {FAX: contact.fax}


def as_contact(stored: StoredContact) -> Contact:
    """Return what the World keeps of a contact in our terms."""
    properties = stored.properties
    values: dict[str, Any] = {ours: properties.get(theirs) or "" for ours, theirs in _TEXTS.items()}
    values |= {ours: next(iter(properties.get(theirs) or []), "") for ours, theirs in _LISTS.items()}
    for ours, theirs in _PLACES.items():
        place = properties.get(theirs) or {}
        values[ours] = PostalAddress(**{part: place.get(name) or "" for part, name in _PARTS.items()})
    emails = tuple(email["address"] for email in properties.get("emailAddresses") or [])
    return Contact(**values, emails=emails, fax=stored.extended.get(FAX, ""))
