"""What really is in a mailbox at Google, and ways to make Google sick: the back door of its tests."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import Any

from server.domain.contact import Contact, PostalAddress
from server.domain.marks import FOLDERS, FolderId
from server.mail import IdForm
from server.mail.google.labels import COLORS
from server.transport import Gateway, Reply
from simulator.google.book import MY_CONTACTS, SYSTEM_GROUPS, AddressBook, groups_of, memberships
from simulator.google.contacts import MOST_BYTES
from simulator.google.identity import Grant
from simulator.google.mail import gmail_id
from simulator.world import Category, StoredMessage, World
from tests.mail.remote import Remote

PRESETS = {f"{background} {text}": preset for preset, (background, text) in COLORS.items()}
PHONES = {"business_phone": "work", "mobile_phone": "mobile", "home_phone": "home", "fax": "workFax"}
PLACES = {"business_address": "work", "home_address": "home"}
PARTS = {"street": "streetAddress", "city": "city", "region": "region", "postal_code": "postalCode", "country": "country"}
JOB = {"company": "name", "department": "department", "job_title": "title"}


def as_person(contact: Contact) -> dict[str, Any]:
    """Return the fields that Google keeps of such a contact, as its owner's client would have made it."""
    name = {"unstructuredName": contact.display_name, "givenName": contact.given_name, "familyName": contact.surname}
    job = {theirs: getattr(contact, ours) for ours, theirs in JOB.items()}
    places = {kind: getattr(contact, ours) for ours, kind in PLACES.items()}
    fields: dict[str, list[dict[str, str]]] = {
        "names": [name],
        "organizations": [job],
        "emailAddresses": [{"value": email} for email in contact.emails],
        "phoneNumbers": [{"type": kind, "value": getattr(contact, ours)} for ours, kind in PHONES.items()],
        "addresses": [{"type": k, **{PARTS[part]: v for part, v in asdict(p).items()}} for k, p in places.items()],
        "urls": [{"type": "work", "value": contact.web_page}],
        "biographies": [{"value": contact.notes}],
    }
    filled = {field: [{k: v for k, v in entry.items() if v} for entry in entries] for field, entries in fields.items()}
    said = {field: [entry for entry in entries if entry.keys() - {"type"}] for field, entries in filled.items()}
    return {field: entries for field, entries in said.items() if entries}


def as_contact(content: dict[str, Any]) -> Contact:
    """Return what Google keeps of a contact in our terms."""

    def entry(field: str, kind: str | None = None) -> dict[str, Any]:
        return next((e for e in content.get(field, []) if kind in (None, e.get("type"))), {})

    places = {ours: {p: entry("addresses", kind).get(theirs, "") for p, theirs in PARTS.items()} for ours, kind in PLACES.items()}
    return Contact(
        display_name=entry("names").get("unstructuredName", ""),
        given_name=entry("names").get("givenName", ""),
        surname=entry("names").get("familyName", ""),
        emails=tuple(email["value"] for email in content.get("emailAddresses", [])),
        web_page=entry("urls", "work").get("value", ""),
        notes=entry("biographies").get("value", ""),
        **{ours: entry("phoneNumbers", kind).get("value", "") for ours, kind in PHONES.items()},
        **{ours: entry("organizations").get(theirs, "") for ours, theirs in JOB.items()},
        **{ours: PostalAddress(**place) for ours, place in places.items()},
    )


TOO_LARGE = Contact(display_name="Refused", surname="Refused", notes="x" * MOST_BYTES)
ADORNED = {"birthdays": [{"date": {"year": 1979, "month": 5, "day": 4}}], "nicknames": [{"value": "Countess"}]}
PAGER = {"type": "pager", "value": "+44 20 7946 0099"}


@dataclass
class GoogleRemote(Remote):
    """The back door in Google's terms: categories are labels, which exist before a message can carry them; contacts are apart.

    Colours are told as the presets that stand for them.
    """

    book: AddressBook = field(default_factory=AddressBook)

    # Labels and messages

    @property
    def master(self) -> dict[str, str]:
        return {label.name: PRESETS.get(label.color, label.color) for label in self.state.categories.values()}

    def label(self, name: str) -> Category:
        return next(label for label in self.state.categories.values() if label.name == name)

    def rename_category(self, name: str, new: str) -> None:
        self.label(name).name = new
        for message in self.state.messages.values():
            message.categories = [new if own == name else own for own in message.categories]

    def delete_category(self, name: str) -> None:
        del self.state.categories[self.label(name).id]
        for message in self.state.messages.values():
            message.categories = [own for own in message.categories if own != name]

    def receive(self, mime: bytes, *, hours_ago: float = 0, place: str = "inbox") -> StoredMessage:
        message = super().receive(mime, hours_ago=hours_ago, place=place)
        del self.state.messages[message.immutable_id]
        message.immutable_id = message.ews_id = message.conversation_id = gmail_id(message.immutable_id)
        self.state.messages[message.immutable_id] = message
        return message

    def add_category(self, name: str, color: str) -> Category:
        pair = COLORS.get(color)
        number = max((int(i.removeprefix("Label_")) for i in self.state.categories), default=0) + 1
        label = Category(f"Label_{number}", name, " ".join(pair) if pair else "none")
        self.state.categories[label.id] = label
        return label

    def move(self, message: StoredMessage, folder: str) -> None:
        label = self.state.categories.get(folder)
        if label is None:
            message.folder = self.state.folder(folder).id
            return
        message.folder = next(f.id for f in self.state.mail_folders if f.well_known is None)
        message.categories = [*message.categories, label.name]

    def place_of(self, message: StoredMessage) -> str:
        emails = next((label for label in self.state.categories.values() if label.name == "SAP E-Mails"), None)
        well_known = self.state.folders[message.folder].well_known
        return well_known or (emails.id if emails is not None and emails.name in message.categories else "")

    def categorize(self, message: StoredMessage, *names: str) -> None:
        for name in names:
            if name not in self.master:
                self.add_category(name, "none")
        super().categorize(message, *names)

    def ids(self, message: StoredMessage) -> dict[IdForm, str]:
        return {"rest": message.immutable_id, "gmail": f"msg-f:{int(message.immutable_id, 16)}"}

    # Folders: a label, and groups

    @property
    def groups(self) -> dict[str, str]:
        """The groups of the owner's: ref -> name."""
        groups = (group for group in self.book.groups.values() if group.name not in SYSTEM_GROUPS and not group.is_deleted)
        return {group.name: group.content["name"] for group in groups}

    @property
    def folders(self) -> dict[str, str]:
        return {label.id: label.name for label in self.state.categories.values()} | self.groups

    def add_folder(self, folder: FolderId, name: str) -> str:
        if folder == "emails":
            return self.add_category(name, "none").id
        return self.book.put(self.book.groups, {"name": name}, self.world.now()).name

    def rename_folder(self, ref: str, name: str) -> None:
        if ref in self.state.categories:
            self.rename_category(self.state.categories[ref].name, name)
        else:
            self.book.put(self.book.groups, {"name": name}, self.world.now(), ref)

    def delete_folder(self, ref: str) -> None:
        if ref in self.state.categories:
            self.delete_category(self.state.categories[ref].name)
            return
        for member in self.book.members(ref):
            self.drop_contact(member.name)
        self.book.remove(self.book.groups[ref], self.world.now())

    # Contacts

    def put(self, ref: str, **fields: Any) -> str:
        """Let another client write fields of a contact, or, without a ref, make one."""
        content = self.book.contacts[ref].content if ref else {}
        kept = {name: value for name, value in (content | fields).items() if value}
        return self.book.put(self.book.contacts, kept, self.world.now(), ref).name

    def put_contact(self, folder: str, contact: Contact, *, link: str = "") -> str:
        own = {"clientData": [{"key": "ssi-link", "value": link}]} if link else {}
        return self.put("", **as_person(contact), **own, memberships=memberships([MY_CONTACTS, folder]))

    def contacts(self, folder: str) -> dict[str, Contact]:
        return {item.name: as_contact(item.content) for item in self.book.members(folder)}

    def link_of(self, ref: str) -> str:
        kept = self.book.contacts[ref].content.get("clientData", [])
        return next((entry["value"] for entry in kept if entry["key"] == "ssi-link"), "")

    def change_contact(self, ref: str, **values: Any) -> None:
        wanted = as_person(replace(as_contact(self.book.contacts[ref].content), **values))
        self.put(ref, **{field: wanted.get(field, []) for field in as_person(FULL)} | wanted)

    def categorize_contact(self, ref: str, *names: str) -> None:
        refs = {name: group for group, name in self.groups.items()}
        ours = [group for group in groups_of(self.book.contacts[ref].content) if self.groups.get(group) in FOLDERS.values()]
        added = [refs.get(name) or self.add_folder("contacts", name) for name in names]
        self.put(ref, memberships=memberships([MY_CONTACTS, *ours, *added]))

    def categories_of(self, ref: str) -> list[str]:
        own = groups_of(self.book.contacts[ref].content)
        return [self.groups[group] for group in own if self.groups.get(group, "SAP Contacts") not in FOLDERS.values()]

    def adorn(self, ref: str) -> None:
        content = self.book.contacts[ref].content
        others = [*content.get("clientData", []), {"key": "another-client", "value": "7"}]
        self.put(ref, **ADORNED, phoneNumbers=[*content.get("phoneNumbers", []), PAGER], clientData=others)

    def is_adorned(self, ref: str) -> bool:
        content = self.book.contacts[ref].content
        others = {"key": "another-client", "value": "7"} in content["clientData"] and PAGER in content["phoneNumbers"]
        return others and {name: content.get(name) for name in ADORNED} == ADORNED

    def drop_contact(self, ref: str) -> None:
        self.book.remove(self.book.contacts[ref], self.world.now())

    def is_trashed(self, contact: Contact) -> bool:
        return any(item.is_deleted and as_contact(item.content) == contact for item in self.book.contacts.values())

    def drag_contact(self, ref: str, folder: str) -> None:
        self.put(ref, memberships=memberships([MY_CONTACTS, folder]))

    # The provider

    def forget_changes(self) -> None:
        self.world.clock_skew += timedelta(days=8)


FULL = Contact(
    *("x",) * 6,
    emails=("x",),
    business_phone="x",
    business_address=PostalAddress(city="x"),
    web_page="x",
    notes="x",
)


class Tenant:
    """Stands between the ports, which live long, and the World, which is new for each test. A token is an address."""

    world: World
    revoked: bool = False
    scopes: frozenset[str] = frozenset({"gmail.modify", "contacts"})

    def grant(self, token: str) -> Grant | None:
        person = self.world.person(token)
        return None if self.revoked or person is None else Grant(person, self.scopes)


class MeddlingGateway(Gateway):
    """Lets somebody else act just before a request whose address holds `match`, once `after` others like it have passed."""

    match = ""
    after = 0
    act: Callable[[], object] | None = None

    def send(self, method: str, url: str, **options: Any) -> Reply:
        if self.act is not None and self.match in url:
            self.after -= 1
            if self.after < 0:
                self.act, act = None, self.act
                act()
        return super().send(method, url, **options)
