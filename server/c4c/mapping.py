"""C4C's entities in our terms and back: which property and code stands for what. Pure.

Rows become Records and Activities, an ActivityDraft becomes the body of a deep insert. Property names and lengths are those of
the real $metadata (c4c-odata.md section 2, source S2); codes are tenant data and come in as `Codes`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal
from urllib.parse import unquote

from server.c4c.codes import Codes
from server.c4c.edm import Binary, Row, as_text, as_time, child, children, json_time
from server.c4c.links import LinkType
from server.domain.records import PARTY_TYPES, Activity, Record, RecordType
from server.errors import InvalidInput, Rejected

RecordUrl = Callable[[LinkType, str], str]
"""(type, human id) -> link into C4C, "" if there is none."""


# --- records --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shape:
    """How one record type looks in OData. Paths lead through expanded to-one navigations: "Owner.../FormattedName"."""

    entity_set: str
    human_id: str
    titles: tuple[str, ...]  # the first that is not empty; "A+B" joins two properties
    fields: Mapping[str, str]  # our field -> path
    address: str = ""  # the filterable e-mail property, if there is one
    expand: tuple[str, ...] = ()
    more: tuple[str, ...] = ()  # further paths to select
    names: tuple[str, ...] = ()  # filterable properties in which a search looks for a name
    phones: tuple[str, ...] = ()  # and for a telephone number
    details: Mapping[str, str] = field(default_factory=dict)  # further fields that only a look at the record shows
    details_expand: tuple[str, ...] = ()

    @property
    def select(self) -> tuple[str, ...]:
        titles = (name for title in self.titles for name in title.split("+"))
        names = ("ObjectID", self.human_id, *titles, self.address, *self.fields.values(), *self.more)
        return tuple(dict.fromkeys(name for name in names if name))

    def slim(self) -> Shape:
        """Return the same without what has to be expanded, which is slow on many rows (c4c-odata.md section 1, $expand)."""
        fields = {name: path for name, path in self.fields.items() if "/" not in path}
        return replace(self, fields=fields, expand=(), more=tuple(path for path in self.more if "/" not in path))

    def detailed(self) -> Shape:
        return replace(self, fields={**self.fields, **self.details}, expand=(*self.expand, *self.details_expand))

    @property
    def wants_texts(self) -> bool:
        return any(path.endswith("Text") for path in self.select)


_OWNER = "OwnerEmployeeBasicData/FormattedName"
_RELATION = "ContactIsContactPersonFor"
_ACCOUNT_FIELDS = {"city": "City", "phone": "Phone", "role": "RoleCodeText"}
_NORMALISED = ("NormalisedPhone", "NormalisedMobile")
_REACHED = {"email": "Email", "fax": "Fax", "address": "FormattedPostalAddressDescription"}
_VIA_CONTACT = f"{_RELATION}/CorporateAccount"
_ACCOUNT_OF_CONTACT = ("ObjectID", "AccountID", "BusinessPartnerFormattedName", "Name", "Email", *_ACCOUNT_FIELDS.values())

SHAPES: Mapping[RecordType, Shape] = {
    "contact": Shape(
        "ContactCollection",
        "ContactID",
        ("Name", "FirstName+LastName"),
        {"account": "AccountFormattedName", "job_title": "JobTitle", "phone": "Phone", "mobile": "Mobile"},
        address="Email",
        expand=(_RELATION, _VIA_CONTACT),
        more=(
            "AccountID",
            *(f"{_RELATION}/{name}" for name in ("AccountID", "Email", "ReverseMainIndicator")),
            *(f"{_VIA_CONTACT}/{name}" for name in _ACCOUNT_OF_CONTACT),
        ),
        names=("Name",),
        phones=_NORMALISED,
        details={**_REACHED, "department": "Department", "owner": "ContactOwnerEmployeeBasicData/FormattedName"},
        details_expand=("ContactOwnerEmployeeBasicData",),
    ),
    "individual_customer": Shape(
        "IndividualCustomerCollection",
        "CustomerID",
        ("FormattedName", "FirstName+LastName"),
        {"phone": "Phone", "mobile": "Mobile", "city": "City", "owner": _OWNER},
        address="Email",
        expand=("OwnerEmployeeBasicData",),
        names=("FormattedName",),
        phones=_NORMALISED,
        details={**_REACHED, "web_page": "WebSite"},
    ),
    "account": Shape(
        "CorporateAccountCollection",
        "AccountID",
        ("BusinessPartnerFormattedName", "Name"),
        {**_ACCOUNT_FIELDS, "owner": _OWNER},
        address="Email",
        expand=("OwnerEmployeeBasicData",),
        names=("BusinessPartnerFormattedName",),
        phones=_NORMALISED,
        details={**_REACHED, "web_page": "WebSite"},
    ),
    "lead": Shape(
        "LeadCollection",
        "ID",
        ("Name",),
        {"company": "Company", "status": "UserStatusCodeText", "phone": "ContactPhone", "owner": "OwnerPartyName"},
        address="ContactEMail",  # AccountEMail and IndividualCustomerEMail cannot be filtered
        names=("Name", "Company", "ContactLastName"),
        phones=("ContactPhone", "ContactMobile"),
        details={"email": "ContactEMail", "mobile": "ContactMobile", "account": "AccountPartyName", "contact": "ContactName"},
    ),
    "opportunity": Shape(
        "OpportunityCollection",
        "ID",
        ("Name",),
        {
            "status": "LifeCycleStatusCodeText",
            "account": "ProspectPartyName",
            "close_date": "ExpectedProcessingEndDate",
            "owner": "MainEmployeeResponsiblePartyName",
        },
    ),
    "ticket": Shape(
        "ServiceRequestCollection",
        "ID",
        ("Name",),
        {
            "status": "ServiceRequestUserLifeCycleStatusCodeText",
            "account": "BuyerPartyName",
            "priority": "ServicePriorityCodeText",
            "owner": "ProcessorPartyName",
        },
    ),
    "quote": Shape(
        "SalesQuoteCollection",
        "ID",
        ("Name",),
        {
            "status": "LifeCycleStatusCodeText",
            "account": "BuyerPartyName",
            "valid_to_date": "ValidToDate",
            "owner": "EmployeeResponsiblePartyName",
        },
    ),
    "order": Shape(
        "CustomerOrderCollection",
        "ID",
        ("Name",),
        {
            "status": "OrderExternalLifeCycleStatusCodeText",
            "account": "BuyerPartyName",
            "date": "DateTime",
            "owner": "EmployeeResponsiblePartyName",
        },
    ),
    "appointment": Shape(
        "AppointmentCollection",
        "ID",
        ("Subject",),
        {"start": "StartDate", "status": "LifeCycleStatusCodeText", "account": "AccountName", "owner": "OwnerName"},
    ),
    "visit": Shape(
        "VisitCollection",
        "ID",
        ("Subject",),
        {"start": "StartDateTime", "status": "StatusText", "account": "AccountPartyName", "owner": "OwnerPartyName"},
    ),
    "phone_call": Shape(
        "PhoneCallCollection",
        "ID",
        ("Subject",),
        {"start": "StartDateTime", "status": "StatusText", "account": "AccountFormattedName", "owner": "OwnerFormattedName"},
    ),
    "task": Shape(
        "TasksCollection",
        "ID",
        ("Subject",),
        {"due": "DueDateTime", "status": "StatusText", "priority": "PriorityCodeText", "owner": "ProcessorPartyName"},
    ),
}


def human_id(value: object) -> str:
    """Return a human ID without padding and leading zeros, which C4C adds or not depending on the place [S5, S7]."""
    known = as_text(value)
    return known.lstrip("0") or known[:1]


def record(type: RecordType, row: Mapping[str, Any], url: RecordUrl, shape: Shape | None = None) -> Record:
    """Return the record of a row that was selected as its Shape says, or as this one."""
    shape = shape or SHAPES[type]
    number = human_id(row.get(shape.human_id))
    accounts = _accounts(row, url) if type == "contact" else ()
    relations = (as_text(relation.get("Email")) for relation in children(row, _RELATION))
    addresses = dict.fromkeys(a for a in (as_text(row.get(shape.address)), *relations) if a)
    values = {name: _shown(name, row, path) for name, path in shape.fields.items()}
    if accounts and not values.get("account"):
        values["account"] = accounts[0].title
    return Record(
        type=type,
        id=as_text(row.get("ObjectID")).upper(),
        human_id=number,
        title=_title(shape, row) or number,
        addresses=tuple(addresses),
        values={name: value for name, value in values.items() if value and name in shape.fields},
        accounts=accounts,
        url=url(type, number),
    )


def _title(shape: Shape, row: Mapping[str, Any]) -> str:
    for title in shape.titles:
        text = " ".join(filter(None, (as_text(row.get(name)) for name in title.split("+"))))
        if text:
            return text
    return ""


def _shown(name: str, row: Mapping[str, Any], path: str) -> str:
    """Return a value as text; dates as ISO 8601 (a day, or an instant in UTC), for the front end to put into words."""
    *navigation, prop = path.split("/")
    at: Mapping[str, Any] | None = row
    for step in navigation:
        at = child(at, step) if at is not None else None
    value = as_text(at.get(prop)) if at is not None else ""
    if not value.startswith("/Date("):
        return value
    moment = as_time(value)
    if moment is None:
        return ""
    return moment.date().isoformat() if name.endswith("date") else json_time(moment)


def _accounts(row: Mapping[str, Any], url: RecordUrl) -> tuple[Record, ...]:
    main = human_id(row.get("AccountID"))
    found: dict[str, tuple[bool, Record]] = {}
    for relation in children(row, _RELATION):
        account = child(relation, "CorporateAccount")
        if account is not None and account.get("ObjectID"):
            one = record("account", account, url)
            is_main = one.human_id == main if main else relation.get("ReverseMainIndicator") is True
            found.setdefault(one.id, (is_main, one))
    return tuple(one for _, one in sorted(found.values(), key=lambda pair: not pair[0]))


# --- employees ------------------------------------------------------------------------------------------------------------

EMPLOYEES = "EmployeeBasicDataCollection"
EMPLOYEE_SELECT = ("ObjectID", "EmployeeID", "BusinessPartnerID", "UserID", "FormattedName", "Email")


@dataclass(frozen=True, slots=True)
class Employee:
    """A colleague. `party_id` is what owner and sender fields take."""

    id: str  # ObjectID
    user_id: str
    employee_id: str
    business_partner_id: str
    name: str
    email: str

    @property
    def party_id(self) -> str:
        """EmployeeID, or the business partner's number where the tenant keeps no employee numbers [inferred]."""
        return self.employee_id or self.business_partner_id


def employee(row: Mapping[str, Any]) -> Employee:
    """Return the employee of a row that was selected with EMPLOYEE_SELECT."""
    return Employee(
        id=as_text(row.get("ObjectID")).upper(),
        user_id=as_text(row.get("UserID")),
        employee_id=as_text(row.get("EmployeeID")),
        business_partner_id=as_text(row.get("BusinessPartnerID")),
        name=as_text(row.get("FormattedName")),
        email=as_text(row.get("Email")),
    )


# --- activities -----------------------------------------------------------------------------------------------------------

_KEY_LENGTH = 765
_NOT_IN_KEY = re.compile(r"[%*\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
ACTIVITY_EXPAND = ("EMailInvolvedParties", "EMailBTDReference")
ACTIVITY_SELECT = (
    "ObjectID",
    "ID",
    "GroupwareItemID",
    "MainAccountPartyID",
    "MainContactPartyID",
    "EMailInvolvedParties/PartyID",
    "EMailBTDReference/ID",
    "EMailBTDReference/TypeCode",
)


def groupware_item_id(message_key: str) -> str:
    """Return how a message key is stored: itself, with what a filter could not ask for percent-encoded.

    `*` is legal in a Message-ID, but a wildcard in C4C's eq; one hostile id must not match other people's activities.

    Raises: InvalidInput if the key is empty or does not fit: shorten by hash where keys are made, so that it stays one key.
    """
    stored = _NOT_IN_KEY.sub(lambda found: "".join(f"%{b:02X}" for b in found[0].encode("utf-8", "surrogatepass")), message_key)
    if not stored.strip() or len(stored) > _KEY_LENGTH:
        raise InvalidInput("message_key", f"must have 1 to {_KEY_LENGTH} characters")
    return stored


def activity(row: Mapping[str, Any], codes: Codes, url: RecordUrl) -> Activity:
    """Return the activity of an EMail row that was selected with ACTIVITY_SELECT and ACTIVITY_EXPAND."""
    number = human_id(row.get("ID"))
    parties = [party.get("PartyID") for party in children(row, "EMailInvolvedParties")]
    parties += [row.get("MainAccountPartyID"), row.get("MainContactPartyID")]
    references = children(row, "EMailBTDReference")
    type_of = {kind: type for type, (kind, _) in codes.reference.items()}
    documents = ((type_of.get(as_text(r.get("TypeCode"))), human_id(r.get("ID"))) for r in references)
    return Activity(
        id=as_text(row.get("ObjectID")).upper(),
        human_id=number,
        message_key=unquote(as_text(row.get("GroupwareItemID"))),
        url=url("email", number),
        parties=frozenset(filter(None, map(human_id, parties))),
        references=frozenset(filter(None, (human_id(r.get("ID")) for r in references))),
        documents=frozenset((type, number) for type, number in documents if type and number),
        created_at=creation_order(number),
    )


def creation_order(number: str) -> str:
    """Return a text that sorts as C4C numbered the activities: EMail has no creation time, but the server assigns ID."""
    return number.rjust(35, "0")


@dataclass(frozen=True, slots=True)
class Addressee:
    """Sender or recipient as the message names them; `party_id` is the human id of the C4C party, if it is known."""

    name: str
    address: str
    party_id: str = ""


@dataclass(frozen=True, slots=True)
class File:
    """A file to attach; `name` is unique within the activity."""

    name: str
    content_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ActivityDraft:
    """An e-mail activity to be created in one call; `at` is aware, ids of parties are human ids."""

    message_key: str
    subject: str
    direction: Literal["incoming", "outgoing"]
    at: datetime
    sender: Addressee
    to: tuple[Addressee, ...] = ()
    cc: tuple[Addressee, ...] = ()
    owner_party: str = ""
    links: tuple[Record, ...] = ()
    main_contact: str = ""
    main_account: str = ""
    text: str = ""
    files: tuple[File, ...] = ()


def email_body(draft: ActivityDraft, codes: Codes) -> dict[str, Any]:
    """Return the body of a deep insert. Values are cut to C4C's lengths; empty ones are left out, for C4C refuses some [S5].

    Raises: Rejected if the tenant has no code for one of the links (see `Codes.linkable`).
    """
    parties, references = link_bodies(draft.links, codes)
    incoming = draft.direction == "incoming"
    body = {
        **codes.header,
        "Subject": shortened(one_line(draft.subject), 765),
        "Direction": codes.direction_incoming if incoming else codes.direction_outgoing,
        "DateTime": json_time(draft.at),
        "GroupwareItemID": groupware_item_id(draft.message_key),
        "MessageFromEmailURI": shortened(one_line(draft.sender.address), 254),
        "MessageFromName": shortened(one_line(draft.sender.name), 255),
        "MessageFromPartyID": draft.sender.party_id,
        "MainAccountPartyID": draft.main_account,
        "MainContactPartyID": draft.main_contact,
        "OwnerPartyID": draft.owner_party,
        "EMailSenderParty": [{"PartyID": draft.sender.party_id}] if draft.sender.party_id else [],
        "EMailToRecipients": [_recipient(one, "MessageToEmailID", "MessageToName") for one in draft.to],
        "EMailCcRecipients": [_recipient(one, "MessageCCEMailID", "MessageCCName") for one in draft.cc],
        "EMailInvolvedParties": parties,
        "EMailBTDReference": references,
        "EMailNotes": [{"Text": storable(draft.text), "TypeCode": codes.note_type}] if draft.text.strip() else [],
        "EMailAttachments": [attachment_body(file, codes) for file in draft.files],
    }
    return without_empty(body)


def _recipient(one: Addressee, address: str, name: str) -> dict[str, Any]:
    """EMailID is the address here, though it is the parent's ID in the other children (c4c-odata.md, name traps).

    Message...ID is spelled MessageToEmailID and MessageCCEMailID in $metadata.
    """
    written, called = one_line(one.address), one_line(one.name)
    return without_empty(
        {
            "PartyID": one.party_id,
            "EMailID": shortened(written, 255),
            "Name": shortened(called, 480),
            address: shortened(written, 254),
            name: shortened(called, 255),
        }
    )


def link_bodies(links: Iterable[Record], codes: Codes) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the bodies of involved parties and of business document references. Raises: Rejected as `email_body`."""
    parties: dict[str, dict[str, Any]] = {}
    references: dict[tuple[str, str], dict[str, Any]] = {}
    for link in links:
        if link.type in PARTY_TYPES:
            parties.setdefault(
                link.human_id, without_empty({"PartyID": link.human_id, "RoleCode": codes.party_role.get(link.type, "")})
            )
        elif link.type in codes.reference:
            kind, role = codes.reference[link.type]
            references.setdefault(
                (link.type, link.human_id), without_empty({"ID": link.human_id, "TypeCode": kind, "RoleCode": role})
            )
        else:
            raise Rejected(f"This tenant has no code for a link to a record of type {link.type}.")
    return list(parties.values()), list(references.values())


def attachment_body(file: File, codes: Codes) -> dict[str, Any]:
    return without_empty(
        {
            "Name": one_line(file.name),
            "MimeType": one_line(file.content_type),
            "TypeCode": codes.attachment_type,
            "CategoryCode": codes.attachment_category,
            "Binary": Binary(file.content) if file.content else "",
        }
    )


# --- text -----------------------------------------------------------------------------------------------------------------

# What XML 1.0 cannot carry: C4C serves the same texts as Atom.
_NOT_IN_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def storable(text: str) -> str:
    """Return the text without characters that C4C cannot store."""
    return _NOT_IN_XML.sub("", text)


def one_line(text: str) -> str:
    return " ".join(storable(text).split())


def shortened(text: str, limit: int) -> str:
    """Cut to `limit` UTF-16 units, C4C's measure [inferred], ending in an ellipsis so that the cut can be seen."""
    if units(text) <= limit:
        return text
    kept = text[: limit - 1]
    while units(kept) > limit - 1:
        kept = kept[:-1]
    return kept.rstrip() + "…"


def units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def without_empty(body: Mapping[str, Any]) -> Row:
    return {name: value for name, value in body.items() if value not in ("", None, [])}
