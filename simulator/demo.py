"""The World that `./run dev` shows and the tests use: one company, its records in C4C and its people's mailboxes.

`build()` gives the whole of it, `small()` the same named cases with hardly anything around them. Both are deterministic: ids,
names and texts depend on the seed only; times count back from the moment of building. `world.cases` finds the message for a
case by its name; `items()` hands a mailbox over as Outlook would hand it to an add-in.

People, companies and addresses are generated and live at reserved domains (RFC 2606).
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, replace
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

from simulator import mime
from simulator.google import mail as google_mail
from simulator.mail_cases import BLOCKLISTED_DOMAIN, Cast, Letter, bulk, cases
from simulator.mime import Later, Mail
from simulator.records import Names, Tenant, ascii_word, names
from simulator.world import CONSUMERS, AccessType, Category, Folder, MailboxState, Person, Row, StoredMessage, World

__all__ = ["BLOCKLISTED_DOMAIN", "CONSUMER_DOMAIN", "OWN_DOMAIN", "build", "item", "items", "rehome", "small"]

OWN_DOMAIN = "aldermill.example"
"""The demo company's mail domain."""
CONSUMER_DOMAIN = "outlook.example"
"""Stands for outlook.com: addresses here belong to personal accounts at Microsoft."""

FOLDERS = (("Inbox", "inbox"), ("Sent Items", "sentitems"), ("Drafts", "drafts"), ("Deleted Items", "deleteditems"))
ELSEWHERE: tuple[AccessType, ...] = ("exchange_direct", "exchange_impersonation", "google")
"""Where the mailboxes of the last three of the nine people of `build()` are."""
NEWCOMERS: tuple[AccessType, ...] = ("office365", "exchange_direct", "google", "office365")
"""Where the mailboxes of those are who have connected none yet. The last one's is a personal account at Microsoft."""
OWN_CATEGORIES = (("Follow-up", "preset1"), ("Private", "preset8"), ("Offer", "none"))
"""What each user keeps in the master list; the product must leave these alone."""

NAMED = 14  # people with names and addresses of their own; whoever comes after them has a number


@dataclass(frozen=True, slots=True)
class _Size:
    people: int  # provisioned ones; two more are only colleagues
    accounts: int
    contacts: int
    customers: int
    leads: int
    opportunities: int
    tickets: int
    activities: int
    messages: tuple[int, ...]  # per provisioned person, beside the cases
    newcomers: bool
    newcomer_messages: int = 20


def build(seed: int = 20261122) -> World:
    """Return the full demo World: about 3,000 records behind the mailboxes of nine people, six of them at Microsoft 365.

    Four newcomers, last in `people`, have a mailbox that the product does not know yet.
    """
    world = _build(seed, _Size(9, 500, 2000, 300, 200, 400, 300, 250, (60, 90, 85, 85, 85, 85, 85, 85, 85), newcomers=True))
    for person, access_type in zip(world.people[6:], ELSEWHERE, strict=False):
        rehome(world, person, access_type)
    return world


def small(seed: int = 20261122, *, people: int = 3, newcomers: bool = False) -> World:
    """Return a World with every case of `build()` and little else, cheap enough to make for each test.

    `people` are those with a mailbox and the product, 3 or more; with `newcomers` the four of `build()` come after them.
    """
    return _build(seed, _Size(people, 3, 6, 2, 2, 3, 3, 4, (0, 4, 2), newcomers))


def rehome(world: World, person: Person, access_type: AccessType) -> None:
    """Let another provider host a person's mailbox, with all that is in it. There is no way back from Google."""
    person.access_type = access_type
    if access_type == "google":
        google_mail.adopt(world, person)


def items(world: World, person: Person) -> list[dict[str, Any]]:
    """Return the messages of a person's mailbox, newest first, as item objects for `/api/context` (architecture, section 8)."""
    mailbox = world.mailbox(person.email)
    messages = sorted(mailbox.messages.values(), key=lambda m: m.received_at, reverse=True)
    return [item(mailbox, message) for message in messages]


def item(mailbox: MailboxState, message: StoredMessage) -> dict[str, Any]:
    """Return one message as an item object. If its owner sent it the headers are empty, as Outlook leaves them (office-js
    issue 6796); an item of Gmail has no item class."""
    parsed = mime.read(message.mime)
    is_gmail = mailbox.owner.access_type == "google"
    own = mailbox.folders[message.folder].well_known in ("sentitems", "drafts") and not is_gmail
    sender = parsed.addresses("From") or [("", "")]
    return {
        "id": message.rest_id,
        "id_form": "gmail" if is_gmail else "rest",
        "mailbox": mailbox.owner.email,
        "internet_message_id": parsed.text_of("Message-ID"),
        "conversation_id": message.conversation_id,
        "subject": parsed.text_of("Subject"),
        "from": {"name": sender[0][0], "address": sender[0][1]},
        **{
            field: [{"name": name, "address": address} for name, address in parsed.addresses(field)]
            for field in ("to", "cc", "bcc")
        },
        "headers": "" if own else parsed.head,
        "item_class": "" if is_gmail else message.item_class,
    }


def _build(seed: int, size: _Size) -> World:
    world = World()
    start = world.now().replace(microsecond=0)
    pool = names(seed)
    world.people = _people(pool, size.people)
    tenant = Tenant(world.crm, pool, random.Random(seed), start)
    for person in world.people:
        tenant.employee(person)
    post = _Post(world, random.Random(seed + 1))
    for person in world.people[:-1]:
        post.open_mailbox(person)
    cast = Cast(tenant, world.people, pool, start)
    for letter in cases(cast):
        post.deliver(letter)
    records = _bulk_records(tenant, pool, size, random.Random(seed + 2), world.people)
    rng = random.Random(seed + 3)
    for person, count in zip(world.people, size.messages, strict=False):
        for letter in bulk(cast, person, records, count, rng):
            post.deliver(letter)
    if size.newcomers:
        _welcome(world, pool, cast, post, records, random.Random(seed + 4), size.newcomer_messages)
    post.number_changes()
    return world


def _welcome(
    world: World, pool: Names, cast: Cast, post: _Post, contacts: list[tuple[Row, Row]], rng: random.Random, letters: int
) -> None:
    """Add the newcomers with their mailboxes. It comes last, so that all others are the same with and without them."""
    newcomers = _newcomers(pool, {person.email for person in world.people})
    world.people += newcomers
    for person in newcomers:
        cast.tenant.employee(person)
        post.open_mailbox(person)
        for letter in bulk(cast, person, contacts, letters, rng):
            post.deliver(letter)
    for person, access_type in zip(newcomers, NEWCOMERS, strict=True):
        rehome(world, person, access_type)


def _people(pool: Names, provisioned: int) -> list[Person]:
    """The sales team, then two colleagues whom nobody set up: the first has a mailbox, the last has none."""
    people = []
    for number in range(provisioned + 2):
        german = number % 3 == 1
        half = len(pool.first) // 2 if german else 0
        first = pool.first[(half + number * 7) % len(pool.first)]
        last = pool.last[(half + number * 11) % len(pool.last)]
        person = _person(first, last, number, german=german)
        if number >= NAMED:  # names come again
            person.email, person.user_id = f"person.{number}@{OWN_DOMAIN}", f"PERSON{number}"
        person.provisioned = number < provisioned
        people.append(person)
    return people


def _newcomers(pool: Names, taken: set[str]) -> list[Person]:
    """People who were set up today. Their names are those at the end of the pools that give an address nobody has."""
    people: list[Person] = []
    for number, (first, last) in enumerate(zip(reversed(pool.first), reversed(pool.last), strict=True), start=50):
        person = _person(first, last, number, german=True)
        if person.email not in taken:
            taken.add(person.email)
            person.connected = False
            people.append(person)
        if len(people) == len(NEWCOMERS):
            break
    people[-1].tenant = CONSUMERS
    people[-1].email = people[-1].email.replace(OWN_DOMAIN, CONSUMER_DOMAIN)
    return people


def _person(first: str, last: str, number: int, *, german: bool) -> Person:
    object_id = hashlib.md5(f"{first} {last} {number}".encode(), usedforsecurity=False).hexdigest()
    return Person(
        name=f"{first} {last}",
        email=f"{ascii_word(first)}.{ascii_word(last)}@{OWN_DOMAIN}",
        object_id=f"{object_id[:8]}-{object_id[8:12]}-4{object_id[13:16]}-a{object_id[17:20]}-{object_id[20:]}",
        user_id=(ascii_word(first)[0] + ascii_word(last).replace("-", "")).upper()[:12],
        employee_id=f"80000{number + 10:05d}",
        password=f"Welcome-{number + 1}!",
        language="de" if german else "en",
    )


def _bulk_records(tenant: Tenant, pool: Names, size: _Size, rng: random.Random, people: list[Person]) -> list[tuple[Row, Row]]:
    """Fill the tenant; returns contacts with their main accounts, for correspondence."""
    taken: dict[str, int] = {}
    accounts = []
    for number in range(size.accounts):
        name = f"{rng.choice(pool.last)} {rng.choice(pool.trades)}"
        domain = f"{ascii_word(name)}{number if number % 5 == 0 else ''}.example"
        accounts.append(tenant.account(f"{name} {rng.choice(pool.forms)}", f"info@{domain}"))
    contacts = _bulk_contacts(tenant, pool, size.contacts, rng, accounts, taken)
    for number, (contact, _) in enumerate(contacts):
        if number % 40 == 39:
            tenant.crm.visible_to[contact["ObjectID"]] = frozenset(p.user_id for p in rng.sample(people, 2))
    for number in range(size.customers):
        first, last = rng.choice(pool.first), rng.choice(pool.last)
        tenant.individual_customer(first, last, _address(first, last, "example.net", number, taken))
    for number in range(size.leads):
        first, last = rng.choice(pool.first), rng.choice(pool.last)
        company = f"{rng.choice(pool.last)} {rng.choice(pool.trades)}"
        tenant.lead(first, last, _address(first, last, f"{ascii_word(company)}.example", number, taken), company)
    _bulk_business(tenant, size, rng, contacts)
    return contacts


def _bulk_contacts(
    tenant: Tenant, pool: Names, size: int, rng: random.Random, accounts: list[Row], taken: dict[str, int]
) -> list[tuple[Row, Row]]:
    """Add contacts: every fiftieth shares the address of the one before, every twentieth works for a second account."""
    contacts: list[tuple[Row, Row]] = []
    for number in range(size):
        first, last, account = rng.choice(pool.first), rng.choice(pool.last), rng.choice(accounts)
        email = _address(first, last, account["Email"].partition("@")[2], number, taken)
        if number % 50 == 49:
            email = contacts[-1][0]["Email"]
        others = [a for a in (rng.choice(accounts),) if number % 20 == 0 and a is not account]
        contacts.append((tenant.contact(first, last, email, account, *others), account))
    return contacts


def _bulk_business(tenant: Tenant, size: _Size, rng: random.Random, contacts: list[tuple[Row, Row]]) -> None:
    wishes = ("Framework contract", "Spare parts", "Line upgrade", "Jahresbedarf", "Wartungsvertrag", "Pilot order")
    faults = ("Late delivery", "Wrong quantity", "Damaged packaging", "Rechnung unklar", "Ersatzteil fehlt")
    for _ in range(size.opportunities):
        contact, account = rng.choice(contacts)
        tenant.opportunity(f"{rng.choice(wishes)} {account['Name']}", account, contact)
    for _ in range(size.tickets):
        contact, account = rng.choice(contacts)
        tenant.ticket(f"{rng.choice(faults)} ({account['Name']})", account, contact)
    for number in range(size.activities):
        contact, account = rng.choice(contacts)
        if number % 2:
            tenant.appointment(f"Visit {account['Name']}", account, contact)
        else:
            tenant.email(rng.choice(wishes), account, contact, f"<earlier-{number}@{OWN_DOMAIN}>")


def _address(first: str, last: str, domain: str, number: int, taken: dict[str, int]) -> str:
    """Make an address nobody has; every tenth is kept in mixed case, as people type it into C4C."""
    local = f"{ascii_word(first)}.{ascii_word(last)}"
    address = f"{local}@{domain}"
    taken[address] = taken.get(address, 0) + 1
    if taken[address] > 1:
        address = f"{local}{taken[address]}@{domain}"
    if number % 10 == 7:
        local, _, host = address.partition("@")
        address = f"{local.title()}@{host}"
    return address


class _Post:
    """Opens mailboxes and delivers letters into them; ids come from `rng`, so they repeat."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self._world = world
        self._rng = rng

    def open_mailbox(self, owner: Person) -> None:
        mailbox = MailboxState(owner)
        for name, well_known in (*FOLDERS, ("Projects", None)):
            folder = Folder(id="AQMkAD" + self._hex(40) + "AAAA=", name=name, well_known=well_known)
            mailbox.folders[folder.id] = folder
        digest = hashlib.sha256(owner.email.encode()).hexdigest()
        contacts = Folder(f"AQMkADC{digest[:39]}AAAA=", "Contacts", "contacts", "contacts")
        mailbox.folders[contacts.id] = contacts
        for name, color in OWN_CATEGORIES:
            identifier = f"{self._hex(8)}-{self._hex(4)}-4{self._hex(3)}-a{self._hex(3)}-{self._hex(12)}"
            mailbox.categories[identifier] = Category(identifier, name, color)
        self._world.mailboxes[owner.email.lower()] = mailbox

    def deliver(self, letter: Letter) -> None:
        """Put a letter into each of its mailboxes: the same bytes but for the transport headers of each copy."""
        for person in letter.mailboxes:
            mailbox = self._world.mailbox(person.email)
            folder = next(f for f in mailbox.folders.values() if letter.folder in (f.well_known, f.name))
            own = folder.well_known in ("sentitems", "drafts")
            mail = letter.mail if own else _received(letter.mail, person.email, letter.return_path)
            message = Later(
                mail.written,
                folder=folder.id,
                received_at=letter.mail.date + timedelta(seconds=0 if own else 3),
                item_class=letter.item_class,
                categories=list(letter.categories),
                is_read=letter.is_read,
                is_draft=folder.well_known == "drafts",
                conversation_id=_conversation(person, letter.mail),
                immutable_id="AAkALgAA" + self._hex(60),
                ews_id=f"AAMkAD{self._hex(30)}/{self._hex(20)}+{self._hex(12)}AAA=",
                changed_at=letter.mail.date,
            )
            mailbox.messages[message.immutable_id] = message
            if letter.case and person is letter.mailboxes[0]:
                self._world.cases[letter.case] = (person.email, message.immutable_id)

    def number_changes(self) -> None:
        """Give each message its place in its mailbox's history, oldest first."""
        for mailbox in self._world.mailboxes.values():
            for message in sorted(mailbox.messages.values(), key=lambda m: m.received_at):
                mailbox.touch(message, message.received_at)

    def _hex(self, digits: int) -> str:
        return f"{self._rng.getrandbits(digits * 4):0{digits}x}"


def _received(mail: Mail, mailbox: str, return_path: str | None) -> Mail:
    """Add what the way to the mailbox adds: Return-Path and Received (RFC 5321 section 4.4)."""
    sender = mail.sender[1]
    stamp = format_datetime(mail.date + timedelta(seconds=2))
    trace = (
        ("Return-Path", f"<{sender if return_path is None else return_path}>"),
        ("Received", f"from mx.{sender.partition('@')[2]} (192.0.2.25) by mx.{OWN_DOMAIN}\r\n for <{mailbox}>; {stamp}"),
    )
    return replace(mail, raw=(*trace, *mail.raw))


def _conversation(person: Person, mail: Mail) -> str:
    """One id per thread and mailbox: messages belong together by the first id of their References."""
    root = mail.references[0] if mail.references else mail.message_id or mail.subject
    return "AAQkAD" + hashlib.sha1(f"{person.object_id}{root}".encode(), usedforsecurity=False).hexdigest() + "="
