"""People and companies of C4C as they are mirrored, whatever their type."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from server.domain.contact import Contact

PersonType = Literal["contact", "account", "individual_customer"]
CUSTOMER = "CRM000"
"""Role code of a customer in C4C, which accounts and individual customers are created with (c4c-odata.md section 2)."""
PERSON_TYPES: tuple[PersonType, ...] = get_args(PersonType)


@dataclass(frozen=True, slots=True)
class Person:
    """A record of C4C with what a mailbox can hold of it."""

    type: PersonType
    id: str  # ObjectID, 32 hex digits, upper case
    human_id: str  # ContactID, AccountID, CustomerID; without leading zeros
    etag: str  # changes whenever the record does; "" if not known
    changed_at: datetime | None  # aware UTC: EntityLastChangedOn
    is_obsolete: bool  # blocked or obsolete: as good as deleted, which C4C does not do to people (c4c-odata.md section 2)
    owner_id: str  # employee id of who is responsible, "" if nobody
    contact: Contact
    account_id: str = ""  # human id of a contact's main account
    created_at: datetime | None = None  # aware UTC: CreationOn


@dataclass(frozen=True, slots=True)
class Scope:
    """Which records of a type are mirrored, and how much of each."""

    type: PersonType
    owner_id: str | None = None  # only this employee's; None: all that the user may see
    home: bool = False  # with home telephone and address
    notes: bool = True
