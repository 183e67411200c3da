"""A page that shows one C4C record: what a link "Open in C4C" leads to. A stub of C4C's own UI, text only.

The record is named by its ObjectID, or by its human id together with its type; the parameter names of C4C's deep links
(`param.InternalID`, `OBJECT_ID`) are understood too.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from flask import Blueprint, abort, render_template, request

from simulator.world import Crm, GetWorld, Row

TYPES: dict[str, tuple[str, str, str]] = {
    # the product's type -> entity set, title, property that holds the human id
    "email": ("EMailCollection", "E-mail", "ID"),
    "contact": ("ContactCollection", "Contact", "ContactID"),
    "individual_customer": ("IndividualCustomerCollection", "Individual Customer", "CustomerID"),
    "account": ("CorporateAccountCollection", "Account", "AccountID"),
    "lead": ("LeadCollection", "Lead", "ID"),
    "opportunity": ("OpportunityCollection", "Opportunity", "ID"),
    "ticket": ("ServiceRequestCollection", "Ticket", "ID"),
    "quote": ("SalesQuoteCollection", "Sales Quote", "ID"),
    "order": ("CustomerOrderCollection", "Sales Order", "ID"),
    "appointment": ("AppointmentCollection", "Appointment", "ID"),
    "visit": ("VisitCollection", "Visit", "ID"),
    "phone_call": ("PhoneCallCollection", "Phone Call", "ID"),
    "task": ("TasksCollection", "Task", "ID"),
    "employee": ("EmployeeCollection", "Employee", "EmployeeID"),
}
EMAIL_PARTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Parties", "EMailInvolvedPartiesCollection", ("PartyID", "RoleCode", "MainIndicator")),
    ("Sender", "EMailSenderPartyCollection", ("PartyID", "PartyName", "EMailValue")),
    ("To", "EMailToRecipientsCollection", ("Name", "EMailID", "PartyID")),
    ("Cc", "EMailCcRecipientsCollection", ("Name", "EMailID", "PartyID")),
    ("Related documents", "EMailBTDReferenceCollection", ("ID", "TypeCode", "RoleCode")),
    ("Attachments", "EMailAttachmentsCollection", ("Name", "MimeType", "Binary")),
    ("Text", "EMailNotesCollection", ("Text", "TypeCode")),
)
IDS = ("id", "object_id", "OBJECT_ID", "param.InternalID")


def blueprint(get_world: GetWorld) -> Blueprint:
    """Return the route /c4c/record."""
    pages = Blueprint("records", __name__, url_prefix="/c4c", template_folder="templates")

    @pages.get("/record")
    def record() -> str:
        world = get_world()
        wanted = next((request.args[name] for name in IDS if request.args.get(name)), "")
        with world.lock:
            kind, row = _found(world.crm, wanted, request.args.get("type")) or abort(404, "There is no such record in C4C")
            fields = [(k, _shown(k, v)) for k, v in row.items() if v not in (None, "") and not k.endswith("UUID")]
            parts = _email_parts(world.crm, row) if kind == "email" else []
        return render_template("record.html", type=TYPES[kind][1], name=_name(row), fields=fields, parts=parts)

    return pages


def _found(crm: Crm, wanted: str, kind: str | None) -> tuple[str, Row] | None:
    kinds = [kind] if kind in TYPES else list(TYPES)
    for name in kinds:
        rows = crm.rows(TYPES[name][0])
        if wanted in rows:
            return name, rows[wanted]
    for name in kinds:
        entity_set, _, human_id = TYPES[name]
        row = next((r for r in crm.rows(entity_set).values() if wanted and str(r.get(human_id)) == wanted), None)
        if row is not None:
            return name, row
    return None


def _name(row: Row) -> str:
    names = ("Subject", "Name", "FormattedName", "BusinessPartnerFormattedName", "LastName")
    return next((str(row[n]) for n in names if row.get(n)), "(no name)")


def _email_parts(crm: Crm, row: Row) -> list[tuple[str, tuple[str, ...], list[list[str]]]]:
    """Titles, column names and rows of the activity's children; those without rows are left out."""
    parts = []
    for title, entity_set, columns in EMAIL_PARTS:
        rows = [[_shown(c, child.get(c)) for c in columns] for child in crm.children(entity_set, row["ObjectID"])]
        if rows:
            parts.append((title, columns, rows))
    return parts


def _shown(name: str, value: Any) -> str:
    if name == "Binary":
        return f"{len(value or b''):,} bytes"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M} UTC"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)
