"""What the simulated C4C tenant's OData service consists of: entity types, sets, code lists and function imports.

`schema()` reads the notation of `simulator.c4c.types` once. Code lists are tenant data: their values below are plausible, but
except where a source is named they are our own, chosen so that a client which guesses instead of reading the lists is
refused. A list without values accepts every code. It holds no records and speaks no protocol.

Sources are those of c4c-odata.md: S1 developer guide, S4 and S5 running applications, S22 published code.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from simulator.c4c.types import ENTITY_TYPES

NAMESPACE = "c4codata"

_KINDS = {
    "S": "Edm.String",
    "s": "Edm.String",
    "D": "Edm.DateTimeOffset",
    "T": "Edm.DateTime",
    "d": "Edm.DateTime",
    "G": "Edm.Guid",
    "B": "Edm.Boolean",
    "N": "Edm.Decimal",
    "I": "Edm.Int32",
    "H": "Edm.Int16",
    "M": "Edm.Time",
    "X": "Edm.Binary",
}
_HUMAN_IDS = {
    "Contact": "ContactID",
    "CorporateAccount": "AccountID",
    "IndividualCustomer": "CustomerID",
    "Employee": "EmployeeID",
    "EmployeeBasicData": "EmployeeID",
    "BusinessUser": "UserID",
}


@dataclass(frozen=True, slots=True)
class Property:
    """A property of an entity type; the flags are the `sap:` annotations of $metadata."""

    name: str
    type: str  # "Edm.String", ...
    max_length: int | None = None  # characters
    fixed_length: bool = False
    precision: int | None = None
    scale: int | None = None
    date_only: bool = False
    creatable: bool = False
    updatable: bool = False
    filterable: bool = False
    nullable: bool = True
    parent_key: bool = False  # may stand for ParentObjectID on create
    code_list: str = ""  # entity set of the codes
    contextual: bool = False  # the codes depend on another property ...
    context: str = ""  # ... this one; "" when the metadata does not name it
    text: str = ""  # property with the code's description
    text_of: str = ""  # on such a property: the code's


@dataclass(frozen=True, slots=True)
class Navigation:
    """A way from a record to others: `target` rows whose `theirs` equals this row's `own`."""

    name: str
    target: str  # entity type
    many: bool
    own: str
    theirs: str


@dataclass(slots=True)
class EntityType:
    name: str
    entity_set: str  # "" for code lists, which have one set per list
    creatable: bool
    updatable: bool
    deletable: bool
    parent: str = ""  # entity type whose rows this one's belong to
    properties: dict[str, Property] = field(default_factory=dict)
    navigations: dict[str, Navigation] = field(default_factory=dict)

    @property
    def human_id(self) -> str:
        """The property with the number people use; "" for children and code lists."""
        if self.parent or not self.entity_set:
            return ""
        return _HUMAN_IDS.get(self.name, "ID" if "ID" in self.properties else "")

    @property
    def keys(self) -> tuple[str, ...]:
        return {"CodeList": ("Code",), "ContextualCodeList": ("Context", "Code")}.get(self.name, ("ObjectID",))


@dataclass(frozen=True, slots=True)
class FunctionImport:
    name: str
    method: Literal["GET", "POST"]
    returns: str  # "Edm.Boolean", or an entity type when `many`
    many: bool
    entity_set: str
    parameters: tuple[str, ...]  # all of them Edm.String


@dataclass(slots=True)
class Schema:
    types: dict[str, EntityType]
    sets: dict[str, EntityType]  # entity set -> its type
    functions: dict[str, FunctionImport]

    def header(self, entity_type: EntityType) -> EntityType:
        """The type that this one's rows finally belong to; itself when it is no child."""
        return self.header(self.types[entity_type.parent]) if entity_type.parent else entity_type

    def children(self, entity_type: EntityType) -> list[EntityType]:
        return [t for t in self.types.values() if t.parent == entity_type.name]


_CONTACT_QUERY = (
    "RelationshipBusinessPartnerUUID RelationshipRoleCode NumberOfRows StartRow ContactID ContactUUID LastName FirstName "
    "SortingFormattedName City StreetPostalCode CountryCode LifeCycleStatusCode AccountID AccountUUID AccountName "
    "AccountLifeCycleStatusCode DepartmentCode FunctionCode EMailURI CreatedSince LastChangeSince CreationIdentityID "
    "LastChangeIdentityID ResponsibleAgentUUID SearchText AccountFormattedName ConsiderAccountChangesIndicator"
)
FUNCTIONS = (
    *(
        FunctionImport(f"Check{thing}ByGroupwareID", "POST", "Edm.Boolean", False, entity_set, ("GroupwareItemID",))
        for thing, entity_set in (
            ("Appointment", "AppointmentCollection"),
            ("Email", "EMailCollection"),
            ("PhoneCall", "PhoneCallCollection"),
            ("Visit", "VisitCollection"),
        )
    ),
    FunctionImport("ContactQueryByElements", "GET", "Contact", True, "ContactCollection", tuple(_CONTACT_QUERY.split())),
    FunctionImport("IdentityGetLoggedInUserInfo", "GET", "LoggedInUserInfo", True, "LoggedInUserInfoCollection", ()),
)

_ACTIVITY_STATUS = {"1": "Open", "2": "In Process", "3": "Completed", "4": "Canceled"}
_BTD_TYPES = {
    "12": "Appointment",
    "30": "Sales Quote",
    "39": "E-Mail",
    "64": "Lead",
    "72": "Opportunity",  # S4
    "86": "Phone Call",
    "114": "Sales Order",
    "118": "Ticket",
    "542": "Task",
    "1607": "Visit",
    "2574": "Memo",  # S5
}
BTD_SETS: Mapping[str, str] = {
    "12": "AppointmentCollection",
    "30": "SalesQuoteCollection",
    "39": "EMailCollection",
    "64": "LeadCollection",
    "72": "OpportunityCollection",
    "86": "PhoneCallCollection",
    "114": "CustomerOrderCollection",
    "118": "ServiceRequestCollection",
    "542": "TasksCollection",
    "1607": "VisitCollection",
    "2574": "ActivityCollection",
}
"""Type code of a business document reference -> the entity set where its ID must exist."""

_PARTY_ROLES = {
    "35": "Organizer",  # S22
    "1001": "Account",
    "1015": "Contact",
    "1020": "Individual Customer",
    "1033": "Sender",
    "1039": "Employee Responsible",
    "1042": "Owner",
    "1060": "Activity Party",
}
_PARTY_TYPES = {"147": "Account", "159": "Individual Customer", "166": "Contact", "167": "Employee"}  # 167: S22
_NOTE_TYPES = {"10002": "Body Text", "10011": "Internal Comment", "10024": "Notes"}

_CODES: tuple[tuple[str, Mapping[str, str]], ...] = (
    # The first pattern that matches a code list's whole name gives its codes.
    ("EMailDirectionCollection", {"3": "Inbound", "4": "Outbound"}),
    ("EMailNotesTypeCodeCollection", _NOTE_TYPES),
    ("PhoneCallNotesTypeCodeCollection", _NOTE_TYPES),
    ("EMailTransmissionStatusCodeCollection", {"1": "Not Started", "2": "In Process", "3": "Finished", "4": "Failed"}),
    (
        "ServiceRequestTextCollectionTypeCodeCollection",  # S1
        {
            "10004": "Description",
            "10007": "Reply to Customer",
            "10008": "Reply from Customer",
            "10011": "Internal Comment",
        },
    ),
    (".*Text(Collection)?TypeCodeCollection", {"10001": "Description", "10002": "Body Text", "10011": "Internal Comment"}),
    (".*Attach.*CategoryCodeCollection", {"1": "Folder", "2": "Document", "3": "Link"}),  # 2: S1, 3: S5
    (".*Attach.*TypeCodeCollection", {"10001": "Standard Attachment", "10011": "Picture"}),  # 10001: S1
    (".*(BTDReference|Reference|DocumentReference)TypeCodeCollection", _BTD_TYPES),
    (".*Reference(BTD)?RoleCodeCollection", {"1": "Predecessor", "2": "Successor", "6": "Reference"}),  # 1: S4
    (".*RelationshipRoleCodeCollection", {"1": "Predecessor", "2": "Successor", "6": "Reference"}),
    (".*(Party|Parties)PartyTypeCodeCollection", _PARTY_TYPES),
    (".*(Party|Parties)RoleCodeCollection", _PARTY_ROLES),
    ("(CorporateAccount|IndividualCustomer)RoleCodeCollection", {"BUP002": "Prospect", "CRM000": "Customer"}),  # CRM000: S4
    ("CorporateAccountTeamPartyRoleCodeCollection", {"39": "Employee Responsible", "46": "Sales Representative"}),
    (
        "(Contact|CorporateAccount|IndividualCustomer|LeadAccount|LeadMainContact)(LifeCycle)?StatusCodeCollection",
        {"1": "In Preparation", "2": "Active", "3": "Blocked", "4": "Obsolete"},  # 2: S4
    ),
    ("LeadUserStatusCodeCollection", {"01": "Open", "02": "Qualified", "03": "Converted", "04": "Declined"}),
    ("LeadQualificationLevelCodeCollection", {"01": "Cold", "02": "Warm", "03": "Hot"}),
    ("LeadLifeCycleStatusCodeCollection", {"1": "Open", "2": "In Process", "4": "Canceled", "5": "Accepted"}),
    (
        "OpportunityLifeCycleStatusCodeCollection",
        {"1": "Open", "2": "In Process", "3": "Stopped", "4": "Won", "5": "Lost"},
    ),
    (
        "OpportunitySalesCyclePhaseCodeCollection",
        {"001": "Identify", "002": "Qualify", "003": "Value Proposition", "004": "Quotation"},
    ),
    (
        "ServiceRequestServiceRequestUserLifeCycleStatusCodeCollection",
        {"1": "Open", "2": "In Process", "4": "Customer Action", "5": "Completed", "6": "Closed"},
    ),
    (
        "ServiceRequestServiceRequestLifeCycleStatusCodeCollection",
        {"1": "Open", "2": "In Process", "3": "Completed", "4": "Closed"},
    ),
    ("ServiceRequestServicePriorityCodeCollection", {"1": "Immediate", "2": "Urgent", "3": "Normal", "7": "Low"}),
    ("(EMail|PhoneCall|Tasks|Visit)StatusCollection", _ACTIVITY_STATUS),
    ("(Appointment|Activity|SalesQuote|CustomerOrder).*LifeCycleStatusCodeCollection", _ACTIVITY_STATUS),
    (".*Priority(Code)?Collection", {"1": "Immediate", "2": "Urgent", "3": "Normal", "7": "Low"}),
    (".*DataOriginTypeCodeCollection", {"1": "Manual Data Entry", "4": "E-Mail", "7": "Groupware", "8": "Internet"}),
    (".*DocumentTypeCollection", {"0001": "Appointment", "0002": "Phone Call", "0005": "Task", "0006": "E-Mail"}),
    (".*GenderCodeCollection", {"0": "Not Known", "1": "Male", "2": "Female", "9": "Nonspecified"}),
    (".*(Title|FormOfAddress)CodeCollection(?<!AcademicTitleCodeCollection)", {"0001": "Ms.", "0002": "Mr."}),
    (".*AcademicTitleCodeCollection", {"0001": "Dr.", "0002": "Prof.", "0003": "Prof. Dr."}),
    (".*FunctionCodeCollection", {"0001": "Purchasing Manager", "0002": "Sales Manager", "0007": "Head of Department"}),
    (".*DepartmentCodeCollection", {"0001": "Purchasing", "0002": "Sales", "0003": "Administration"}),
    (".*CustomerABCClassificationCodeCollection", {"A": "A-Account", "B": "B-Account", "C": "C-Account"}),
    (
        ".*[lL]anguage(Code)?Collection",
        {"DE": "German", "EN": "English", "ES": "Spanish", "FR": "French", "IT": "Italian", "JA": "Japanese", "NL": "Dutch",
         "PL": "Polish", "PT": "Portuguese", "ZH": "Chinese"},
    ),
    (
        ".*Country(Code)?Collection",
        {"AT": "Austria", "BE": "Belgium", "CH": "Switzerland", "CN": "China", "DE": "Germany", "ES": "Spain", "FR": "France",
         "GB": "United Kingdom", "IN": "India", "IT": "Italy", "JP": "Japan", "NL": "Netherlands", "PL": "Poland",
         "SE": "Sweden", "US": "United States"},
    ),
    (".*CurrencyCodeCollection", {"CHF": "Swiss Franc", "EUR": "Euro", "GBP": "Pound Sterling", "USD": "US Dollar"}),
    (".*[tT]imeZoneCodeCollection", {"CET": "Central Europe", "GMTUK": "United Kingdom", "JAPAN": "Japan", "UTC": "UTC+0"}),
)  # fmt: skip

_CONTEXTUAL_CODES: tuple[tuple[str, Mapping[str, Mapping[str, str]]], ...] = (
    (
        ".*(State|Region)(Code)?Collection",
        {
            "DE": {"BE": "Berlin", "BW": "Baden-Wuerttemberg", "BY": "Bavaria", "HE": "Hesse", "HH": "Hamburg"},
            "US": {"CA": "California", "IL": "Illinois", "NY": "New York", "TX": "Texas", "WA": "Washington"},
        },
    ),
)


@functools.cache
def codes(code_list: str) -> Mapping[str, str]:
    """Code -> description of a code list; empty when any code is good."""
    return next((values for pattern, values in _CODES if re.fullmatch(pattern, code_list)), {})


@functools.cache
def contextual_codes(code_list: str) -> Mapping[str, Mapping[str, str]]:
    """Context -> code -> description of a code list that depends on another property."""
    return next((values for pattern, values in _CONTEXTUAL_CODES if re.fullmatch(pattern, code_list)), {})


@functools.cache
def schema() -> Schema:
    """The whole service. Shared: do not change it."""
    types: dict[str, EntityType] = {}
    navigations: list[tuple[str, Navigation]] = []
    for block in ENTITY_TYPES.strip().split("\n\n"):
        entity_type, found = _block(block)
        types[entity_type.name] = entity_type
        navigations += found
    for owner, navigation in navigations:
        types[owner].navigations[navigation.name] = navigation
    sets = {t.entity_set: t for t in types.values() if t.entity_set}
    for entity_type in types.values():
        for prop in entity_type.properties.values():
            if prop.code_list:
                sets[prop.code_list] = types["ContextualCodeList" if prop.contextual else "CodeList"]
    return Schema(types, dict(sorted(sets.items())), {f.name: f for f in FUNCTIONS})


def _block(block: str) -> tuple[EntityType, list[tuple[str, Navigation]]]:
    head, body = re.fullmatch(r"((?:#[^\n]*\n)+)(.*)", block, re.DOTALL).groups()  # type: ignore[union-attr]  # it always fits
    name, flags, *rest = head.replace("#", " ").split()
    options = dict(option.split("=") for option in rest)
    entity_set = "" if name.endswith("CodeList") else options.get("set", name + "Collection")
    parent = options.get("parent", "")
    entity_type = EntityType(name, entity_set, "c" in flags, "u" in flags, "d" in flags, parent)
    navigations = []
    if parent:
        down = options.get("as", name)
        navigations.append((parent, Navigation(down, name, True, "ObjectID", "ParentObjectID")))
    if "back" in options:
        navigations.append((name, Navigation(options["back"], parent, False, "ParentObjectID", "ObjectID")))
    for line in body.split("\n"):
        if line.startswith("-> "):
            _, called, target, own, _, theirs = line.split()
            navigations.append((name, Navigation(called, target, False, own, theirs)))
            continue
        for token in line.split():
            for prop in _properties(name, token):
                entity_type.properties[prop.name] = prop
    return entity_type, navigations


def _properties(entity_type: str, token: str) -> list[Property]:
    """The property that a token declares, and the one with its description if it is a code."""
    name, kind, flags = [*token.split(":"), ""][:3]
    flags, contextual, context = flags.partition("%")
    flags, _, code_list = flags.partition("@")
    if not code_list and any(mark in flags for mark in "+~="):
        code_list = f"{entity_type}{name}Collection"
    precision, _, scale = kind[1:].partition(".") if kind[0] == "N" else ("", "", "")
    prop = Property(
        name,
        _KINDS[kind[0]],
        max_length=int(kind[1:]) if kind[0] in "Ss" and kind[1:] else None,
        fixed_length=kind[0] == "S",
        precision=int(precision) if precision else None,
        scale=int(scale) if scale else None,
        date_only=kind[0] == "d",
        creatable="c" in flags,
        updatable="u" in flags,
        filterable="f" in flags,
        nullable="!" not in flags,
        parent_key="^" in flags,
        code_list=code_list,
        contextual=bool(contextual),
        context=context,
    )
    if "+" not in flags and "~" not in flags:
        return [prop]
    text = Property(name + "Text", "Edm.String", filterable="+" in flags, text_of=name)
    return [replace(prop, text=text.name), text]
