"""Contacts, accounts and individual customers of C4C, to be mirrored: what changed, one by one, and writing.

Reached as `C4C.people`. Fields and their properties are in `person_rows`, paging in `pages`. Nothing is decided here: whom to
mirror, what wins and when to ask is the engine's business.

C4C gives a page of 1000 rows, but of only 100 when children are expanded, as notes and private addresses have to be
(c4c-odata.md section 1, $expand). So that a thousand people cost one request all the same, such lists are read by $batch, ten
parts of a hundred each. A part begins with the last row of the one before it: if that is another row by then, the list moved
in between, and what follows is read again in the next request.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice

from server.c4c.edm import Row, as_text, as_time, can_ask_for, equals, etag, guid, like, moment
from server.c4c.mapping import human_id, one_line, without_empty
from server.c4c.odata import PEER, ODataClient, Read, Result, Write, entity
from server.c4c.pages import ORDER, Position, object_id
from server.c4c.person_rows import (
    HOME,
    HOME_SELECT,
    OBSOLETE,
    SHAPES,
    TEXT_SELECT,
    Places,
    account_name,
    at_home,
    echoed,
    header,
    home_row,
    is_gone,
    note_row,
    notes,
    person as person_of,
    place,
    same,
    split_name,
)
from server.domain.contact import Contact
from server.domain.people import Person, PersonType, Scope
from server.errors import Conflict, Forbidden, InvalidInput, NotFound, Rejected, Transient, Unknown

_PAGE = 1000
_PAGE_EXPANDED = 100
_PARTS = 10
_BATCH_SIZE = 50  # SAP's advice for reads in one batch (c4c-odata.md, S14)
_CLOCKS_DIFFER = timedelta(minutes=5)
_COUNTRIES = "CorporateAccountCountryCodeCollection"
_REGIONS = "CorporateAccountStateCodeCollection"

Ref = tuple[PersonType, str]
"""Type and ObjectID."""

NamedAccount = tuple[str, str, datetime | None]
"""An account that is neither blocked nor obsolete: human id, name, when it was created."""


@dataclass(frozen=True, slots=True)
class PeoplePage:
    """People in the order in which they changed. Whoever changes while pages are read may come twice, the newest last."""

    people: tuple[Person, ...]
    after: str  # opaque: where the next page begins
    is_last: bool  # C4C proved that there is no more for now
    total: int | None = None  # of all pages, where it was counted


class People:
    """One user's view of the people in C4C. Stores nothing but C4C's lists of countries and regions.

    Any method may raise NeedsReauth, Forbidden and Transient; the rest is listed per method.
    """

    def __init__(self, odata: ODataClient) -> None:
        self._odata = odata
        self._places = Places()

    # --- reading ---

    def changed(self, asks: Sequence[tuple[Scope, datetime | None]]) -> list[PeoplePage | Forbidden]:
        """Return for each scope the first page of what changed at that time or later, of everything for None. One request.

        Of a type that C4C does not show this user at all it is Forbidden. What is asked for from the beginning is counted.
        Obsolete people are told; those who leave the scope, because they get another owner or are hidden from the user, are not:
        see `ids`. Raises: the first error; InvalidInput for an owner "".
        """
        windows = [
            _window(scope, Position(since), parts=_PARTS if since is None else 1, count=since is None) for scope, since in asks
        ]
        results = iter(self._batch([read for window in windows for read in window]))
        pages: list[PeoplePage | Forbidden] = []
        for (scope, since), window in zip(asks, windows, strict=True):
            some = list(islice(results, len(window)))
            refused = next((result.error for result in some if isinstance(result.error, Forbidden)), None)
            pages.append(refused or _page(scope, Position(since), window, some))
        return pages

    def next(self, scope: Scope, after: str) -> PeoplePage:
        """Return the page behind a cursor, of about a thousand people. One request.

        It may be empty without being the last, when the list moved. Raises: InvalidInput for a cursor that is not ours, or for
        an owner "".
        """
        at = Position.read(after)
        window = _window(scope, at, parts=_PARTS)
        return _page(scope, at, window, self._batch(window))

    def ids(self, scope: Scope, after: str | None = None) -> tuple[frozenset[str], str | None]:
        """Return up to a thousand ObjectIDs of the scope and the cursor of more, None at the end. One request.

        Obsolete people are left out. All others that are in the scope from the first page to the last are told. When the list
        moves meanwhile it begins again. Raises: InvalidInput as `next`.
        """
        at = Position() if after is None else Position.read(after)
        read = Read(
            SHAPES[scope.type].entity_set,
            filter=_condition(scope, None),
            select=("ObjectID", SHAPES[scope.type].status),
            orderby="ObjectID",
            skip=max(at.seen - 1, 0),
        )
        result = self._odata.ask(read)
        found = [object_id(row) for row in result.rows]
        if at.last and found[:1] != [at.last]:
            return frozenset(), Position().cursor
        more = Position(None, max(at.seen - 1, 0) + len(found), found[-1]).cursor if found and result.next is not None else None
        return frozenset(id for id, row in zip(found, result.rows, strict=True) if not is_gone(scope.type, row)), more

    def read(self, refs: Sequence[Ref], *, home: bool = False) -> dict[Ref, Person]:
        """Return those that are there and that the user may see, with their notes; one request for each fifty.

        `home`: with the private telephone and address of contacts.
        """
        wanted = list(dict.fromkeys((type, id.upper()) for type, id in refs))
        found: dict[Ref, Person] = {}
        results = self._batch([replace(_read(Scope(type, home=home)), key=id) for type, id in wanted])
        for (type, id), result in zip(wanted, results, strict=True):
            if isinstance(result.error, NotFound | Forbidden):
                continue
            for row in result.or_raise().rows:
                if object_id(row) == id:
                    found[type, id] = person_of(type, row)
        return found

    # --- writing ---

    def create(self, type: PersonType, contact: Contact, *, key: str, owner_id: str, role: str, account_id: str = "") -> Person:
        """Create a record with its notes and, for a contact, its private address, and return it.

        `key` is an id of ours, 32 hex digits, by which `created` finds it. `owner_id` is an employee's id, `role` the role code
        of accounts and individual customers, `account_id` the human id of a contact's main account.

        An account or individual customer that this key made before is returned instead of a second one.

        Raises: InvalidInput at "surname" or "company" where there is no name at all; Rejected with C4C's reason or ours; Unknown
        if it may have been created.
        """
        shape = SHAPES[type]
        places = self._places_for(type, contact, home=True)
        body: Row = {**header(type, contact, places), shape.owner: owner_id}
        body |= {"AccountID": account_id} if type == "contact" else {"RoleCode": role, "UUID": guid(key)}
        text, private = notes(contact), without_empty(at_home(contact, places)) if type == "contact" else {}
        body[shape.texts] = [{"Text": text}] if text else []
        body[HOME] = [{**private, "MainPersonalAddress": True}] if private else []
        body = without_empty(body)
        try:
            row = self._odata.create(shape.entity_set, body)
        except (Rejected, Conflict):  # with which status C4C refuses a UUID that it has is not known
            found = self._numbered(type, key) if shape.is_ours_to_number else None
            if found is None:
                raise
            return found
        if not object_id(row):
            raise Unknown(f"{PEER} did not name what it created.")
        return person_of(type, echoed(type, row, body, places))

    def created(
        self,
        type: PersonType,
        contact: Contact,
        *,
        key: str,
        since: datetime,
        owner_id: str = "",
        besides: Collection[str] = frozenset(),
    ) -> Person | None:
        """Return what an earlier `create` with this key made, None if nothing is to be seen (yet). One request, mostly.

        C4C takes no UUID of ours for contacts. There it is the first that was created at about `since` or later, for this
        owner ("": any), whose mirrored fields are all equal, and that is not one of `besides` (ObjectIDs).
        """
        if SHAPES[type].is_ours_to_number:
            return self._numbered(type, key)
        places = self._places_for(type, contact, home=True)
        wanted, private = header(type, contact, places), at_home(contact, places)
        conditions = [equals(SHAPES[type].owner, owner_id)] if owner_id else []
        conditions.append(f"CreationOn ge {moment(since - _CLOCKS_DIFFER)}")
        read = _read(Scope(type, home=True))
        for row in self._odata.rows(replace(read, filter=" and ".join(conditions), orderby="CreationOn,ObjectID")):
            found = person_of(type, row)
            alike = same(wanted, row) and same(private, home_row(row) or {}) and found.contact.notes == notes(contact)
            if alike and found.id not in besides:
                return found
        return None

    def change(self, person: Person, contact: Contact, *, account_id: str | None = None, home: bool = False) -> None:
        """Make a record hold what `contact` has, where that differs from `person.contact`; nothing else is written.

        `account_id`: give a contact this main account ("": none). `home`: also its private telephone and address. One request,
        and one before it where notes or the private address differ; none if nothing does. Of several notes only the oldest is
        changed, or deleted.

        Raises: Conflict, having written nothing, if the record is no longer that of `person.etag`, or somebody else is
        changing it; NotFound; InvalidInput and Rejected as `create`; Unknown.
        """
        before, home = person.contact, home and person.type == "contact"
        places = self._places_for(person.type, contact, since=before, home=home)
        body = header(person.type, contact, places, since=before)
        if account_id is not None and person.type == "contact" and human_id(account_id) != person.account_id:
            body["AccountID"] = account_id
        writes = [_patch(person, body)] if body else []
        private = at_home(contact, places, since=before) if home else {}
        text = notes(contact) if notes(contact) != before.notes else None
        below = self._below(person, private, text) if private or text is not None else []
        try:
            self._write(writes + below)
        except NotFound as gone:
            if not below:
                raise
            raise Conflict(f"The record was changed in {PEER} in the meantime.") from gone  # a child: the record was just read

    def set_obsolete(self, person: Person) -> None:
        """Make a record obsolete; C4C deletes no people. Raises: as `change`."""
        self._write([_patch(person, {SHAPES[person.type].status: OBSOLETE})])

    # --- accounts by name ---

    def accounts_by_name(self, company: str) -> list[NamedAccount]:
        """Return the accounts of exactly this name, the one that was created first in front. One request."""
        return self._named(company, exactly=True)

    def accounts_like(self, company: str) -> list[NamedAccount]:
        """Return accounts whose name holds this text, case and all: of many only some, but never one if there are more."""
        return self._named(company, exactly=False)

    # --- inside ---

    def _batch(self, reads: Sequence[Read]) -> list[Result]:
        results: list[Result] = []
        for start in range(0, len(reads), _BATCH_SIZE):
            results += self._odata.batch(reads[start : start + _BATCH_SIZE]).results
        return results

    def _numbered(self, type: PersonType, key: str) -> Person | None:
        read = _read(Scope(type))
        result = self._odata.ask(replace(read, filter=f"UUID eq guid'{guid(key)}'"))
        return next((person_of(type, row) for row in result.rows), None)

    def _below(self, person: Person, private: Mapping[str, str], text: str | None) -> list[Write]:
        """Return the writes to the children, which only C4C knows by their ids. Raises: Conflict, NotFound."""
        shape = SHAPES[person.type]
        rows = self._odata.ask(replace(_read(Scope(person.type, home=bool(private))), key=person.id)).rows
        if len(rows) != 1:
            raise NotFound(f"{PEER} does not have this record.")
        if person.etag and etag(rows[0]) not in (None, person.etag):
            raise Conflict(f"The record was changed in {PEER} in the meantime.")
        writes = []
        if text is not None:
            writes += _child(shape.texts, person, note_row(person.type, rows[0]), {"Text": text}, stays=bool(text))
        if private:
            writes += _child(HOME, person, home_row(rows[0]), private, stays=True)
        return writes

    def _write(self, writes: Sequence[Write]) -> None:
        try:
            if len(writes) == 1 and writes[0].method != "POST":
                self._odata.change(writes[0])
            elif writes:
                self._odata.changeset(writes)
        except Transient as busy:
            if busy.code == "locked":
                raise Conflict(str(busy)) from busy
            raise

    def _places_for(self, type: PersonType, contact: Contact, *, since: Contact | None = None, home: bool) -> Places:
        """Return the lists that the codes of what is to be written need; each is read once. Raises: Rejected."""
        old = since or Contact()
        asked = [("business_address", contact.business_address, old.business_address, type != "contact")]
        if home and type == "contact":
            asked.append(("home_address", contact.home_address, old.home_address, True))
        for where, address, before, codes in asked:
            if place(address) == place(before):
                continue
            if address.country and not self._places.countries:
                self._places = replace(self._places, countries=self._listed(Read(_COUNTRIES)))
            country = self._places.country(address.country, where)
            if codes and address.region and country and country not in self._places.regions:
                listed = self._listed(Read(_REGIONS, filter=equals("Context", country)))
                self._places = replace(self._places, regions={**self._places.regions, country: listed})
        return self._places

    def _listed(self, read: Read) -> dict[str, str]:
        return {as_text(row.get("Code")): as_text(row.get("Description")) for row in self._odata.rows(read)}

    def _named(self, company: str, *, exactly: bool) -> list[NamedAccount]:
        return accounts_in(company, self._batch(account_reads(company, exactly=exactly)), exactly=exactly)


# --- requests -------------------------------------------------------------------------------------------------------------


def _read(scope: Scope) -> Read:
    shape = SHAPES[scope.type]
    expand = (shape.texts,) if scope.notes else ()
    select = (*shape.select, *(f"{one}/{name}" for one in expand for name in TEXT_SELECT))
    if scope.home and scope.type == "contact":
        expand, select = (*expand, HOME), (*select, *HOME_SELECT)
    return Read(shape.entity_set, select=select, expand=expand, texts=True)


def account_reads(company: str, *, exactly: bool) -> list[Read]:
    """Return how to ask for the accounts that are called so, or whose name holds this text; none if it cannot be asked for.

    The whole name is in BusinessPartnerFormattedName, and the first part of it in Name, where C4C makes the other by a format
    of its own.
    """
    name = one_line(company)
    if not name.strip("* ") or not can_ask_for(name.replace("*", "")):
        return []
    asked = {"BusinessPartnerFormattedName": name, "Name": split_name(name)[0] if exactly else name}
    shape, pattern = SHAPES["account"], "{}" if exactly else "*{}*"
    select = ("ObjectID", shape.human_id, shape.status, "BusinessPartnerFormattedName", "CreationOn", *shape.more)
    return [
        Read(shape.entity_set, filter=like(prop, pattern.format(text)), select=select, orderby="CreationOn,ObjectID")
        for prop, text in asked.items()
    ]


def accounts_in(company: str, results: Sequence[Result], *, exactly: bool) -> list[NamedAccount]:
    """Return what came back for `account_reads`, compared again because the name may hold a wildcard; the oldest first.

    Of many that only hold the text some, but never one if there are more. Raises: the first error.
    """
    name = one_line(company)
    found: dict[str, NamedAccount] = {}
    for row in (row for result in results for row in result.or_raise().rows):
        names = (as_text(row.get("BusinessPartnerFormattedName")), account_name(row))
        if not is_gone("account", row) and (name in names if exactly else any(name in one for one in names)):
            called = (human_id(row.get(SHAPES["account"].human_id)), account_name(row), as_time(row.get("CreationOn")))
            found[object_id(row)] = called
    if not exactly and len(found) < 2 and any(result.next for result in results):
        return []
    return sorted(found.values(), key=lambda one: (str(one[2] or ""), one[0]))


def _condition(scope: Scope, start: datetime | None) -> str:
    if scope.owner_id == "":  # C4C would list the people that have no owner at all
        raise InvalidInput("owner_id", "is empty: the user is no employee")
    conditions = [] if scope.owner_id is None else [equals(SHAPES[scope.type].owner, scope.owner_id)]
    if start is not None:
        conditions.append(f"EntityLastChangedOn ge {moment(start)}")
    return " and ".join(conditions)


def _patch(person: Person, body: Mapping[str, str]) -> Write:
    return Write("PATCH", entity(SHAPES[person.type].entity_set, person.id), body, person.etag or None)


def _child(navigation: str, person: Person, row: Row | None, body: Mapping[str, str], *, stays: bool) -> list[Write]:
    entity_set = navigation + "Collection"
    if row is not None:
        path, match = entity(entity_set, object_id(row)), etag(row)
        return [Write("PATCH", path, body, match) if stays else Write("DELETE", path, if_match=match)]
    new = without_empty(body)
    return [Write("POST", entity(entity_set), {"ParentObjectID": person.id, **new})] if new else []


# --- pages ----------------------------------------------------------------------------------------------------------------


def _window(scope: Scope, at: Position, *, parts: int, count: bool = False) -> list[Read]:
    """Return the parts of a page. The last has no $top, so that C4C says whether there is more: with $top it does not."""
    read = replace(_read(scope), filter=_condition(scope, at.start), orderby=ORDER)
    size = _PAGE_EXPANDED if read.expand else _PAGE
    begin = max(at.seen - 1, 0) if at.last else at.seen
    window = [replace(read, skip=begin + n * (size - 1), top=size) for n in range(parts if read.expand else 1)]
    window[0] = replace(window[0], count=count)
    window[-1] = replace(window[-1], top=None)
    return window


def _page(scope: Scope, at: Position, window: Sequence[Read], results: Sequence[Result]) -> PeoplePage:
    """Put the parts together, as far as each begins with the row that the one before ended with."""
    rows: list[Row] = []
    expected, is_open = at.last, True
    for read, result in zip(window, results, strict=True):
        found = result.or_raise().rows
        if not found:
            is_open = is_open and bool(expected)
            break
        if expected and object_id(found[0]) != expected:
            is_open = True
            break
        rows += found[1:] if expected else found
        expected = object_id(found[-1])
        is_open = result.next is not None or (read.top is not None and len(found) >= read.top)
    after = at.behind(rows) if rows or not is_open else Position(at.start)
    return PeoplePage(tuple(person_of(scope.type, row) for row in rows), after.cursor, not is_open, results[0].count)
