"""The records of the simulated C4C tenant, as one user may see them.

Applies visibility and fills what C4C derives: descriptions of codes, names behind party IDs, the parent's number on a child.
Changes are made by `simulator.c4c.changes`. Nothing here knows HTTP; the caller holds the World's lock.

Two facts have one row and two faces: an employee is a World's person (rows of Employee, EmployeeBasicData and BusinessUser are
made for each who has none), and a contact's relation to an account is a row of ContactIsContactPersonFor, which
CorporateAccountHasContactPerson shows from the account's side.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from simulator.c4c.query import ODataError, guid
from simulator.c4c.schema import EntityType, Navigation, Property, codes, contextual_codes, schema
from simulator.world import Person, Row, World

RELATIONS = "ContactIsContactPersonForCollection"
REGION = "BusinessAddressStateCodeTextUpdatable"
MIRROR = "CorporateAccountHasContactPersonCollection"
FIRST_NUMBERS = {"CorporateAccount": 1_000_000, "Contact": 1_100_000, "IndividualCustomer": 1_200_000}
"""Business partners of all kinds share one range of numbers."""

_NAME_PARTS = ("Name", "AdditionalName", "AdditionalName2", "AdditionalName3")
CREATED = {"CreationDateTime", "CreatedOn", "CreationOn", "CreationDate", "ReportedDate", "ReportedDateTime"}
CHANGED = {"ChangedOn", "EntityLastChangedOn", "LastChangeDateTime", "LastUpdatedOn", "UpdatedOn", "UserChangedOn", "ETag"}
CREATED_BY = {"CreatedBy", "CreatedByFormattedName", "UserCreatedBy"}
CHANGED_BY = {"ChangedBy", "LastChangedBy", "LastUpdatedBy", "UserChangedBy"}
_PARTY_SETS = (  # entity set, its numbers, the code of its party type
    ("CorporateAccountCollection", ("AccountID",), "147"),
    ("ContactCollection", ("ContactID",), "166"),
    ("IndividualCustomerCollection", ("CustomerID",), "159"),
    ("EmployeeCollection", ("EmployeeID", "BusinessPartnerID"), "167"),
)
_NAMED_BY = {  # a derived name or UUID -> the property that holds the party's number
    "Account": "MainAccountPartyID",
    "AccountFormattedName": "AccountID",
    "AccountName": "MainAccountPartyID",
    "AccountPartyName": "MainAccountPartyID",
    "AccountUUID": "AccountID",
    "ContactFormattedName": "ContactID",
    "ContactName": "ContactID",
    "ContactOwnerUUID": "ContactOwnerID",
    "ContactUUID": "ContactID",
    "Owner": "OwnerPartyID",
    "OwnerFormattedName": "OwnerPartyID",
    "OwnerName": "OwnerPartyID",
    "OwnerUUID": "OwnerPartyID",
    "PartyName": "PartyID",
    "PartyUUID": "PartyID",
    "PrimaryContact": "MainContactPartyID",
    "PrimaryContactFormattedName": "MainContactPartyID",
    "PrimaryContactName": "MainContactPartyID",
    "PrimaryContactUUID": "MainContactPartyID",
}


@dataclass(frozen=True, slots=True)
class User:
    """Who calls. The administrator sees and may do everything."""

    user_id: str
    name: str
    is_admin: bool = False


def seed(world: World, entity_set: str, *, parent: Row | None = None, at: datetime | None = None, **values: Any) -> Row:
    """Put a row into the tenant as if C4C had created it at `at`: ObjectID, number, times and ETag are filled in.

    For demo data and tests: unknown properties are refused, but codes, parties and mandatory fields are not checked and
    nothing is logged. A relation of a contact to an account goes to ContactIsContactPersonForCollection only.
    """
    entity_type = schema().sets[entity_set]
    unknown = set(values) - set(entity_type.properties) - {"MainIndicator"}
    if unknown or entity_set == MIRROR:
        raise ValueError(f"{entity_set} does not hold {sorted(unknown)}")
    moment_ = at or world.now()
    row: Row = {"ObjectID": world.crm.new_object_id(), **values}
    if parent is not None:
        row["ParentObjectID"] = parent["ObjectID"]
    number = entity_type.human_id
    if number and number not in row:
        row[number] = world.crm.new_number(entity_set, number, FIRST_NUMBERS.get(entity_type.name, 1000))
    for name in (CREATED | CHANGED) & set(entity_type.properties):
        row.setdefault(name, moment_)
    for name in (CREATED_BY | CHANGED_BY) & set(entity_type.properties):
        row.setdefault(name, "Data Migration")
    world.crm.rows(entity_set)[row["ObjectID"]] = row
    return row


def etag(row: Row) -> str | None:
    """The weak ETag of a row as C4C writes it: seven digits of fraction, colons percent-encoded."""
    changed = row.get("ETag") or row.get("EntityLastChangedOn") or row.get("ChangedOn")
    if changed is None:
        return None
    text = changed.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").replace(":", "%3A")
    return f"W/\"datetimeoffset'{text}0Z'\""


class Records:
    """One user's view of the tenant for the length of one request."""

    def __init__(self, world: World, user: User) -> None:
        self._world = world
        self._crm = world.crm
        self.user = user
        self._schema = schema()
        self._parties: dict[str, tuple[str, str, Row]] | None = None
        self._indexes: dict[tuple[str, str], dict[Any, list[Row]]] = {}
        self._getters: dict[tuple[str, str], Callable[[Row], Any]] = {}
        self.lists: dict[tuple[str, ...], list[Row]] = {}  # what was asked for -> the rows in order, for other parts of a batch
        self._staff()

    def all(self, entity_set: str) -> list[Row]:
        """Every row of a set that the user may see, in the order of creation."""
        entity_type = self._schema.sets[entity_set]
        if not entity_type.entity_set:
            return _code_rows(entity_type, entity_set)
        rows: Iterable[Row] = self._mirrored() if entity_set == MIRROR else self._crm.rows(entity_set).values()
        if self.user.is_admin or not self._crm.visible_to:
            return list(rows)
        return [row for row in rows if self._sees(entity_type, row)]

    def indexed(self, entity_set: str) -> list[Row]:
        """The same without what C4C's index does not know yet."""
        now, unindexed = self._world.now(), self._crm.unindexed
        rows = self.all(entity_set)
        return [row for row in rows if unindexed.get(row["ObjectID"], now) <= now] if unindexed else rows

    def get(self, entity_set: str, key: Mapping[str, str]) -> Row:
        """Raises: ODataError 404 if there is no such row for this user."""
        entity_type = self._schema.sets[entity_set]
        if "ObjectID" in key and entity_set != MIRROR:
            found = self._crm.rows(entity_set).get(key["ObjectID"])
            if found is not None and self._sees(entity_type, found):
                return found
        else:
            for row in self.all(entity_set):
                if all(row.get(name) == wanted for name, wanted in key.items()):
                    return row
        raise ODataError(f"Resource not found for key {', '.join(key.values())} in {entity_set}", 404)

    def related(self, entity_type: EntityType, row: Row, navigation: Navigation) -> list[Row]:
        """The rows that a navigation leads to; at most one when it is not `many`."""
        wanted = self.value(entity_type, entity_type.properties[navigation.own])(row)
        target = self._schema.types[navigation.target]
        if not wanted:
            return []
        if navigation.theirs == "ObjectID":
            found = self._crm.rows(target.entity_set).get(wanted)
            return [found] if found is not None and self._sees(target, found) else []
        rows = self._by(target, navigation.theirs).get(wanted, [])
        return list(rows) if navigation.many else rows[:1]

    def value(self, entity_type: EntityType, prop: Property) -> Callable[[Row], Any]:
        """A function that gives a row's value of the property, derived if it must be; see c4c_query.Value."""
        known = self._getters.get((entity_type.name, prop.name))
        if known is None:
            known = self._getters[entity_type.name, prop.name] = self._getter(entity_type, prop)
        return known

    def party(self, number: str) -> tuple[str, str, Row] | None:
        """Find an account, contact, individual customer or employee: (entity set, party type code, row)."""
        if self._parties is None:
            self._parties = {}
            for entity_set, numbers, code in _PARTY_SETS:
                for row in self._crm.rows(entity_set).values():
                    for name in numbers:
                        self._parties.setdefault(str(row.get(name, "")).lstrip("0"), (entity_set, code, row))
        return self._parties.get(number.lstrip("0")) if number.lstrip("0") else None

    def forget(self) -> None:
        """Call it when rows change: lookups are remembered for the length of a request."""
        self._parties = None
        self._indexes.clear()
        self.lists.clear()

    def is_parent_number(self, entity_type: EntityType, prop: Property) -> bool:
        """Whether a child's property holds its parent's number."""
        return prop.parent_key or prop.name == self._schema.types[entity_type.parent].human_id

    def _by(self, entity_type: EntityType, name: str) -> dict[Any, list[Row]]:
        """The rows of a type by their values of a property."""
        index = self._indexes.get((entity_type.name, name))
        if index is None:
            index = self._indexes[entity_type.name, name] = {}
            read = self.value(entity_type, entity_type.properties[name])
            for row in self.all(entity_type.entity_set):
                index.setdefault(read(row), []).append(row)
        return index

    def _getter(self, entity_type: EntityType, prop: Property) -> Callable[[Row], Any]:
        name = prop.name
        if name == "UserLockedIndicator":
            locked = self._world.c4c.locked_users
            return lambda row: row.get("UserID") in locked
        if name == "PasswordLockedIndicator":
            passwords = self._world.c4c.locked_passwords
            return lambda row: row.get("UserID") in passwords
        derive = self._derivation(entity_type, prop)
        empty: Any = {"Edm.String": "", "Edm.Boolean": False}.get(prop.type)

        def read(row: Row) -> Any:
            found = row.get(name)
            if (found is None or found == "") and derive is not None:
                found = derive(row)
            if found is None:
                return empty
            return guid(found) if prop.type == "Edm.Guid" else found

        return read

    def _derivation(self, entity_type: EntityType, prop: Property) -> Callable[[Row], Any] | None:
        name, properties = prop.name, entity_type.properties
        if prop.text_of:
            return self._described(entity_type, properties[prop.text_of])
        if name == REGION:
            return self._described(entity_type, properties[name.removesuffix("TextUpdatable")])
        if entity_type.parent and prop.max_length and self.is_parent_number(entity_type, prop):
            return lambda row: self._parent_number(entity_type, row)
        if name in ("UUID", f"{entity_type.name}UUID") or (name == "EmployeeUUID" and entity_type.name != "BusinessUser"):
            return lambda row: row["ObjectID"]
        if name.startswith("Normalised"):
            return lambda row: re.sub(r"[^+\d]", "", str(row.get(name.removeprefix("Normalised")) or ""))
        if name == "DocumentLink":
            return lambda row: f"{entity_type.entity_set}('{row['ObjectID']}')/Binary/$value" if row.get("Binary") else ""
        if name == "SizeInkB":
            return lambda row: (Decimal(len(row.get("Binary") or b"")) / 1024).quantize(Decimal("1." + "0" * 14))
        if name == "EMailValue":
            return lambda row: self._of_party(row.get("PartyID"), "Email")
        if name in ("BusinessPartnerFormattedName", "FormattedName", "Name") and not prop.creatable:
            return display_name
        source = _NAMED_BY.get(name, "")
        if source not in properties:
            source = re.sub(r"Party(Name|UUID)$", "PartyID", name)
        if source in properties and source != name and not prop.parent_key:
            what = "ObjectID" if prop.type == "Edm.Guid" else "name"
            return lambda row: self._of_party(row.get(source), what)
        return None

    def _described(self, entity_type: EntityType, code: Property) -> Callable[[Row], str]:
        read = self.value(entity_type, code)
        if not code.contextual:
            listed = codes(code.code_list)
            return lambda row: listed.get(read(row), "")
        return lambda row: contextual_codes(code.code_list).get(row.get(code.context) or "", {}).get(read(row), "")

    def _of_party(self, number: Any, what: str) -> Any:
        found = self.party(str(number)) if number else None
        if found is None:
            return None
        return display_name(found[2]) if what == "name" else found[2].get(what)

    def _parent_number(self, entity_type: EntityType, row: Row) -> str:
        parent = self._schema.types[entity_type.parent]
        found = self._crm.rows(parent.entity_set).get(row.get("ParentObjectID") or "")
        return str(found.get(parent.human_id, "")) if found else ""

    def _sees(self, entity_type: EntityType, row: Row) -> bool:
        header = row.get("ParentObjectID") if entity_type.parent else row.get("ObjectID")
        allowed = self._crm.visible_to.get(header or "")
        return allowed is None or self.user.is_admin or self.user.user_id in allowed

    def _mirrored(self) -> list[Row]:
        accounts = {row.get("AccountID"): row["ObjectID"] for row in self._crm.rows("CorporateAccountCollection").values()}
        contacts = self._crm.rows("ContactCollection")
        rows = []
        for row in self._crm.rows(RELATIONS).values():
            contact = contacts.get(row.get("ParentObjectID") or "", {})
            ours = {"ContactID": contact.get("ContactID", ""), "ParentObjectID": accounts.get(row.get("AccountID"), "")}
            rows.append({**row, **ours})
        return rows

    def _staff(self) -> None:
        for index, person in enumerate(self._world.people, 1):
            if person.employee_id not in self._crm.staffed:
                self._crm.staffed.add(person.employee_id)
                _employ(self._world, person, f"8{index:09d}")


def display_name(row: Row) -> str:
    """How C4C names a person or an organisation in other records."""
    if row.get("BusinessPartnerFormattedName"):
        return str(row["BusinessPartnerFormattedName"])
    person = " ".join(part for part in (row.get("FirstName"), row.get("LastName")) if part)
    return person or " ".join(str(row[name]) for name in _NAME_PARTS if row.get(name))


def _employ(world: World, person: Person, partner: str) -> None:
    first, _, last = person.name.rpartition(" ")
    known: Row = {
        "EmployeeID": person.employee_id,
        "UserID": person.user_id if person.provisioned else "",
        "BusinessPartnerID": partner,
        "BusinessPartnerFormattedName": person.name,
        "FormattedName": person.name,
        "FirstName": first,
        "LastName": last,
        "Email": person.email,
        "EmailURI": person.email,
        "LanguageCode": person.language.upper(),
        "CurrentInternalEmployeeIndicator": True,
    }
    for entity_set in ("EmployeeCollection", "EmployeeBasicDataCollection", "BusinessUserCollection"):
        if entity_set == "BusinessUserCollection" and not person.provisioned:
            continue
        rows = world.crm.rows(entity_set)
        if any(row.get("EmployeeID") == person.employee_id for row in rows.values()):
            continue
        digest = hashlib.sha256(f"{entity_set} {person.object_id}".encode()).hexdigest().upper()
        values = {name: value for name, value in known.items() if name in schema().sets[entity_set].properties}
        created = datetime(2020, 1, 1, tzinfo=UTC)
        seed(world, entity_set, at=created, **values, ObjectID="00163E" + digest[:26])


def _code_rows(entity_type: EntityType, entity_set: str) -> list[Row]:
    if entity_type.name == "CodeList":
        return [{"Code": code, "Description": text} for code, text in codes(entity_set).items()]
    listed = contextual_codes(entity_set).items()
    return [{"Context": context, "Code": code, "Description": text} for context, below in listed for code, text in below.items()]
