"""What is mirrored of a person or a company between a mailbox and C4C.

Mailboxes keep more of a contact than this; adapters leave alone what is not here.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_EMAILS = 3
"""As many addresses as a contact at Microsoft can have (Graph, "contact resource type": emailAddresses)."""

LINK_PROPERTY = ("9d1c6a0e-5b0f-4c3e-8f57-2a4be0c71d36", "SsiLink")
"""Property set and name under which a link lies on an item at Microsoft, where Graph and Exchange both find it."""


@dataclass(frozen=True, slots=True)
class PostalAddress:
    """A place. What is not known is ""; `street` may have several lines, separated by "\\n"."""

    street: str = ""
    city: str = ""
    region: str = ""
    postal_code: str = ""
    country: str = ""


@dataclass(frozen=True, slots=True)
class Contact:
    """A person or a company, as an address book has it. What is not known is ""; `notes` may have several lines."""

    display_name: str = ""
    given_name: str = ""
    surname: str = ""
    company: str = ""
    department: str = ""
    job_title: str = ""
    emails: tuple[str, ...] = ()  # the first is the main one
    business_phone: str = ""
    mobile_phone: str = ""
    home_phone: str = ""
    fax: str = ""  # at work
    business_address: PostalAddress = PostalAddress()
    home_address: PostalAddress = PostalAddress()
    web_page: str = ""
    notes: str = ""
