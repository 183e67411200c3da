"""What a person asks C4C for by hand: records by a text, one record with what belongs to it, a new record.

Reached as `C4C.directory`. C4C's own $search cannot be part of a $batch (c4c-odata.md section 1, $batch), so a search is one
batch of comparisons with wildcards, one for each property and spelling: `or` works over one property only and may silently find
nothing [S1, S5]. C4C compares letter by letter and knows no tolower; whatever comes back is compared again, without case.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice

from server.c4c.edm import UNASKABLE, Row, as_text, can_ask_for, child, equals, guid, like, moment
from server.c4c.mapping import (
    EMPLOYEE_SELECT,
    EMPLOYEES,
    SHAPES,
    Employee,
    RecordUrl,
    employee,
    human_id,
    one_line,
    record,
    units,
)
from server.c4c.odata import PEER, Answers, ODataClient, Read, Result
from server.c4c.pages import object_id
from server.c4c.people import NamedAccount, People, account_reads, accounts_in
from server.c4c.person_rows import SHAPES as PERSON_SHAPES, Places, header, same, split_name
from server.c4c.questions import by_id, employees_by, read_of, records_in
from server.domain.contact import Contact
from server.domain.people import PERSON_TYPES, Person, PersonType
from server.domain.records import Record, RecordRef, RecordType
from server.errors import Forbidden, NotFound, Rejected, Unknown

MAX_RELATED = 20
_MAX_OPEN = 5  # of each status
_MAX_WORDS = 6  # that C4C is asked for; all are compared
_OPEN = ("1", "2")
"""Codes of an opportunity that is open or in process. SAP's statuses are fixed (blog ba-p/13536162); their codes [inferred]."""

_CLOCKS_DIFFER = timedelta(minutes=5)
_INVISIBLE = re.compile("[\u061c\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_NUMBER = re.compile(r"\+?[\d\s()/.-]+")
_FEWEST_DIGITS = 4

_CONTACTS = "CorporateAccountHasContactPersonCollection"
_BUYS: Mapping[RecordType, str] = {
    "account": "ProspectPartyID",
    "individual_customer": "ProspectPartyID",
    "contact": "PrimaryContactPartyID",
}
"""Type -> the property of an opportunity that holds its number."""


@dataclass(frozen=True, slots=True)
class Matches:
    """What a search found, in no order."""

    records: tuple[Record, ...]
    is_cut: bool  # there are more of some type
    failed: tuple[RecordType, ...] = ()  # types that could not be asked for, or not for everything


@dataclass(frozen=True, slots=True)
class Entry:
    """One record with all its fields in `record.values`, and what belongs to it."""

    record: Record
    related: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A record that is to be created; `key` is an id of ours, 32 hex digits. A lead's `subject` is its name."""

    type: RecordType
    contact: Contact
    key: str
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Ready:
    """What must be known before a record is created."""

    owner: Employee | None  # the user
    is_colleague: bool  # the address is an employee's
    exact: tuple[NamedAccount, ...]  # accounts that the company names, the oldest first
    like: tuple[NamedAccount, ...]  # accounts whose name holds it
    earlier: Record | None  # what an earlier try made


class Directory:
    """One user's view. `ask` carries out reads, in one request if it can.

    Any method may raise NeedsReauth, Forbidden and Transient; the rest is listed per method.
    """

    def __init__(
        self, odata: ODataClient, people: People, *, ask: Callable[[Sequence[Read]], Answers], record_url: RecordUrl
    ) -> None:
        self._odata = odata
        self._people = people
        self._ask = ask
        self._url = record_url

    # --- finding ---

    def search(
        self, text: str, types: Collection[RecordType], limit: int, known: Mapping[RecordType, tuple[str, ...]] | None = None
    ) -> Matches:
        """Return records of these types whose name, address or number holds the text; `limit` of each type or a few more.

        `known` are ObjectIDs that the spelling index has for the text. One request. Raises: the first error, if every part
        failed.
        """
        asked = [one for type in types for one in _questions(type, text, limit)]
        parts = [by_id(type, ids) for type, ids in (known or {}).items() if ids and type in types]
        if not asked:
            return Matches((), False)
        answers, known_ones = self._in_groups([one.read for one in asked], [part.read for part in parts])
        results = (*answers, *known_ones)
        if all(result.error is not None for result in results):
            results[0].or_raise()
        found = records_in(parts, known_ones, self._url, strict=False)
        for one, result in zip(asked, answers, strict=True):
            for row in filter(one.accepts, result.rows):
                match = record(one.type, row, self._url, SHAPES[one.type].slim())
                if match.id:
                    found.setdefault(match.ref, match)
        is_cut = any(len(result.rows) > limit or result.next is not None for result in results)
        failed = {one.type for one, result in zip(asked, answers, strict=True) if result.error}
        return Matches(tuple(found.values()), is_cut, tuple(type for type in types if type in failed))

    # --- looking ---

    def look_at(self, ref: RecordRef, number: str = "") -> Entry:
        """Return a record with what belongs to it. One request if `number` is its human id, else one more for opportunities.

        Of what belongs to it, that is left out which the user may not see. Raises: NotFound.
        """
        id = ref.id.upper()
        shape = SHAPES[ref.type].detailed()
        (main,), relations, opportunities = self._in_groups(
            [read_of(ref.type, equals("ObjectID", id), shape)],
            [_contacts_of(id)] if ref.type == "account" else [],
            _open_opportunities(ref.type, number),
        )
        row = next((row for row in main.or_raise().rows if object_id(row) == id), None)
        if row is None:
            raise NotFound(f"{PEER} does not have this record.")
        found = record(ref.type, row, self._url, shape)
        if number != found.human_id:
            (opportunities,) = self._in_groups(_open_opportunities(ref.type, found.human_id))
        contacts = (child(relation, "Contact") for relation in _visible(relations))
        people = [record("contact", row, self._url, SHAPES["contact"].slim()) for row in contacts if row is not None]
        open_ones = [record("opportunity", row, self._url) for row in _visible(opportunities)]
        return Entry(found, tuple(one for one in (*found.accounts, *people, *open_ones) if one.id))

    def _in_groups(self, *groups: Sequence[Read]) -> list[tuple[Result, ...]]:
        """Ask for everything in one request, or none if there is nothing to ask; return the results of each group."""
        results = iter(self._ask([read for group in groups for read in group]).results)
        return [tuple(islice(results, len(group))) for group in groups]

    # --- creating ---

    def before_create(self, wanted: Candidate, addresses: Iterable[str], user_id: str, since: datetime) -> Ready:
        """Return what must be known before `create`. One request.

        `addresses` are the spellings of the person's address; what was created at `since` or later counts as an earlier try.
        Raises: the first error.
        """
        company = wanted.contact.company if wanted.type == "contact" else ""
        user = Read(EMPLOYEES, filter=equals("UserID", user_id), select=EMPLOYEE_SELECT)
        asked = [employees_by((address,)) for address in addresses if can_ask_for(address)]
        (mine, earlier), exact, alike, colleagues = self._in_groups(
            [user, _earlier(wanted, since)],
            account_reads(company, exactly=True),
            account_reads(company, exactly=False),
            [part.read for part in asked],
        )
        people = (employee(row) for row in mine.or_raise().rows)
        owner = next((one for one in people if one.user_id.casefold() == user_id.casefold()), None)
        found = [(part, row) for part, one in zip(asked, colleagues, strict=True) for row in one.or_raise().rows]
        return Ready(
            owner=owner,
            is_colleague=any(as_text(row.get("Email")).casefold() in part.values for part, row in found),
            exact=tuple(accounts_in(company, exact, exactly=True)),
            like=tuple(accounts_in(company, alike, exactly=False)),
            earlier=self._same(wanted, owner.party_id if owner else "", earlier),
        )

    def created(self, wanted: Candidate, owner_id: str, since: datetime) -> Record | None:
        """Return what a `create` made whose answer was lost, None if nothing is to be seen (yet). One request."""
        return self._same(wanted, owner_id, self._odata.ask(_earlier(wanted, since)))

    def create(self, wanted: Candidate, *, owner_id: str, role: str, account_id: str = "") -> Record:
        """Create the record and return it. Arguments as of People.create.

        Raises: InvalidInput, Rejected with C4C's reason or ours; Unknown if it may have been created.
        """
        if wanted.type == "lead":
            body = _lead(wanted, owner_id)
            row = self._odata.create(SHAPES["lead"].entity_set, body)
            if not object_id(row):
                raise Unknown(f"{PEER} did not name what it created.")
            return record("lead", row, self._url)
        person = self._people.create(
            _person_type(wanted.type), wanted.contact, key=wanted.key, owner_id=owner_id, role=role, account_id=account_id
        )
        return _of_person(person, self._url)

    def _same(self, wanted: Candidate, owner_id: str, result: Result) -> Record | None:
        """Return the first record that is as the one wanted, and of this owner ("": any)."""
        numbered = _is_ours_to_number(wanted.type)
        sent = {} if numbered else _sent(wanted)
        for row in result.or_raise().rows:
            owner = human_id(row.get(_OWNERS[wanted.type]))
            if numbered or (same(sent, row) and (not owner_id or owner == human_id(owner_id))):
                return record(wanted.type, row, self._url, SHAPES[wanted.type].slim())
        return None


# --- searching ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Question:
    """A read of a search: the property in which it looks, and what must be there."""

    type: RecordType
    read: Read
    prop: str
    words: tuple[str, ...]  # folded; for a telephone number its digits

    def accepts(self, row: Row) -> bool:
        value = as_text(row.get(self.prop))
        held = re.sub(r"\D", "", value) if self.prop in SHAPES[self.type].phones else folded(value)
        return all(word in held for word in self.words)


def words_of(text: str) -> list[str]:
    """Return the words of a search as C4C can be asked for them: its wildcard parts words, what nobody sees is left out."""
    plain = _INVISIBLE.sub("", UNASKABLE.sub(" ", text.replace("*", " ")))
    return unicodedata.normalize("NFC", plain).split()


def folded(text: str) -> str:
    """Return text so that what differs in case or in the form of its accents is equal."""
    return unicodedata.normalize("NFC", _INVISIBLE.sub("", text)).casefold()


def _questions(type: RecordType, text: str, limit: int) -> list[_Question]:
    shape, words = SHAPES[type], words_of(text)
    if not words:
        return []
    needles = tuple(map(folded, words))
    asked: list[_Question] = []
    is_address = any("@" in word for word in words)
    if is_address or (len(words) == 1 and "." in words[0]):  # a domain, perhaps
        conditions = dict.fromkeys(like(shape.address, f"*{'*'.join(one)}*") for one in (words, map(str.lower, words)))
        asked += [_question(type, shape.address, condition, needles, limit) for condition in conditions]
    if not is_address:
        for prop in shape.names:
            asked += [_question(type, prop, condition, needles, limit) for condition in _named_so(prop, words)]
    groups = _digits(" ".join(words))
    for prop in shape.phones if groups else ():
        between = "" if prop.startswith("Normalised") else "*"
        asked.append(_question(type, prop, like(prop, f"*{between.join(groups)}*"), ("".join(groups),), limit))
    return asked


def _question(type: RecordType, prop: str, condition: str, words: tuple[str, ...], limit: int) -> _Question:
    shape = SHAPES[type].slim()
    select = tuple(dict.fromkeys((*shape.select, prop)))
    read = replace(read_of(type, condition, shape), select=select, orderby=f"{prop},ObjectID", top=limit + 1)
    return _Question(type, read, prop, words)


def _named_so(prop: str, words: Sequence[str]) -> list[str]:
    """Return the conditions that together find what has all these words in the property, in any order and nearly any case.

    The longest is asked for as it was typed, with a Capital and in CAPITALS; of the others the first letter is left open. What
    begins so has a question of its own, since of many matches C4C gives those that come first in the alphabet.
    """
    pieces = re.findall(r"\w+", " ".join(words)) or list(words)  # "O'Brien" has two capitals
    typed = [piece.lower() if piece.isupper() else piece for piece in pieces[:_MAX_WORDS]]
    longest = max(typed, key=len)
    others = [piece for piece in typed if piece != longest]
    beginning = "*".join(piece.title() if piece.islower() else piece for piece in typed)
    conditions = [like(prop, f"{beginning}*")]
    for head in (longest, longest.title(), longest.upper()):
        rest = (_open(piece.upper() if head.isupper() else piece) for piece in others)
        conditions.append(" and ".join(like(prop, f"*{piece}*") for piece in (head, *rest) if piece))
    return list(dict.fromkeys(conditions))


def _open(word: str) -> str:
    """Return a word without its first letter, where that has two cases."""
    return word[1:] if word[0].lower() != word[0].upper() else word


def _digits(text: str) -> list[str]:
    """Return the groups of digits of what looks like a telephone number, without what only dials: "0049 (0)69 1" is 49, 69, 1."""
    groups = re.findall(r"\d+", text.replace("(0)", " ")) if _NUMBER.fullmatch(text) else []
    groups = [groups[0].lstrip("0"), *groups[1:]] if groups else []
    return [group for group in groups if group] if sum(map(len, groups)) >= _FEWEST_DIGITS else []


# --- looking --------------------------------------------------------------------------------------------------------------


def _contacts_of(account: str) -> Read:
    """One equality of a parent's id: several in an `or` are what C4C fails at [S5]."""
    shape = SHAPES["contact"].slim()
    return Read(
        _CONTACTS,
        filter=equals("ParentObjectID", account),
        select=("ObjectID", *(f"Contact/{name}" for name in shape.select)),
        expand=("Contact",),
        orderby="ContactFormattedName,ObjectID",
        top=MAX_RELATED,
    )


def _open_opportunities(type: RecordType, number: str) -> list[Read]:
    """Return how to ask for a party's open opportunities, of which C4C knows no id but its number."""
    if type not in _BUYS or not number:
        return []
    party = equals(_BUYS[type], number)
    return [
        replace(
            read_of("opportunity", f"{party} and {equals('LifeCycleStatusCode', status)}"),
            orderby="LastChangeDateTime desc",
            top=_MAX_OPEN,
        )
        for status in _OPEN
    ]


def _visible(results: Iterable[Result]) -> list[Row]:
    """Return the rows of all. Raises: the first error that does not just mean that the user cannot have them."""
    allowed = (result for result in results if not isinstance(result.error, NotFound | Forbidden))
    return [row for result in allowed for row in result.or_raise().rows]


# --- creating -------------------------------------------------------------------------------------------------------------

_OWNERS: Mapping[RecordType, str] = {**{type: shape.owner for type, shape in PERSON_SHAPES.items()}, "lead": "OwnerPartyID"}
_COMPANY = ("Company", "CompanySecondName", "CompanyThirdName", "CompanyFourthName")
_LEAD_LENGTHS = {"Name": 255, "ContactEMail": 255}
_LEAD_LENGTH = 40  # of every other text


def _is_ours_to_number(type: RecordType) -> bool:
    return any(one == type and shape.is_ours_to_number for one, shape in PERSON_SHAPES.items())


def _person_type(type: RecordType) -> PersonType:
    return next(one for one in PERSON_TYPES if one == type)


def _earlier(wanted: Candidate, since: datetime) -> Read:
    """Return how to ask for what an earlier create made: by its id or, where C4C takes none of ours, by what it holds."""
    shape = SHAPES[wanted.type].slim()
    if _is_ours_to_number(wanted.type):
        select = (*shape.select, _OWNERS[wanted.type])
        return replace(read_of(wanted.type, f"UUID eq guid'{guid(wanted.key)}'", shape), select=select)
    created = "CreationDateTime" if wanted.type == "lead" else "CreationOn"
    sent = _sent(wanted)
    conditions = [equals(name, sent[name]) for name in _ANCHORS if can_ask_for(sent.get(name, "*"))][:1]
    conditions.append(f"{created} ge {moment(since - _CLOCKS_DIFFER)}")
    select = tuple(dict.fromkeys((*shape.select, *sent, _OWNERS[wanted.type])))
    return replace(read_of(wanted.type, " and ".join(conditions), shape), select=select, orderby=f"{created},ObjectID")


_ANCHORS = ("Email", "ContactEMail", "LastName", "Name")


def _sent(wanted: Candidate) -> dict[str, str]:
    """Return the properties that an earlier create set."""
    body = _lead(wanted, "") if wanted.type == "lead" else header(_person_type(wanted.type), wanted.contact, Places())
    return {name: value for name, value in body.items() if value}


def _lead(wanted: Candidate, owner_id: str) -> dict[str, str]:
    """Return the body of a lead. Raises: Rejected for what C4C cannot hold."""
    contact = wanted.contact
    body = {
        "Name": wanted.subject,
        "ContactFirstName": contact.given_name,
        "ContactLastName": contact.surname,
        "ContactEMail": contact.emails[0] if contact.emails else "",
        "ContactPhone": contact.business_phone,
        **dict(zip(_COMPANY, split_name(contact.company), strict=True)),
        "OwnerPartyID": owner_id,
    }
    body = {name: one_line(value) for name, value in body.items()}
    for name, value in body.items():
        limit = _LEAD_LENGTHS.get(name, _LEAD_LENGTH)
        if units(value) > limit:
            raise Rejected(f"The {_CALLED[name]} is longer than the {limit} characters that {PEER} takes.")
    return {name: value for name, value in body.items() if value}


_CALLED = {
    "Name": "subject",
    "ContactFirstName": "given name",
    "ContactLastName": "surname",
    "ContactEMail": "e-mail address",
    "ContactPhone": "phone",
    **dict.fromkeys(_COMPANY, "company"),
}


def _of_person(person: Person, url: RecordUrl) -> Record:
    contact = person.contact
    values = {
        "account": contact.company if person.type == "contact" else "",
        "job_title": contact.job_title,
        "phone": contact.business_phone,
        "mobile": contact.mobile_phone,
        "city": contact.business_address.city,
    }
    return Record(
        type=person.type,
        id=person.id,
        human_id=person.human_id,
        title=contact.display_name or person.human_id,
        addresses=contact.emails,
        values={name: value for name, value in values.items() if value and name in SHAPES[person.type].fields},
        url=url(person.type, person.human_id),
    )
