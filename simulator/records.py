"""The demo company's records in C4C: rows with the property names and code values of SAP's own metadata.

`Tenant` adds one record at a time and fills what C4C itself would fill (ids, names, dates, the relationship rows behind a
contact); `Names` draws its pools from Faker once per process. Texts and codes follow the EDMX; a property that is not set is
absent, and the OData face gives it its empty value.
"""

from __future__ import annotations

import itertools
import random
import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache

from faker import Faker

from simulator.world import Crm, Person, Row


@dataclass(frozen=True, slots=True)
class Names:
    """Pools to combine; the first half of each is English, the second German."""

    first: tuple[str, ...]
    last: tuple[str, ...]
    cities: tuple[str, ...]
    streets: tuple[str, ...]
    trades: tuple[str, ...] = (
        "Logistics",
        "Foods",
        "Optics",
        "Textiles",
        "Pumps",
        "Timber",
        "Werkzeuge",
        "Technik",
        "Bau",
        "Papier",
    )
    forms: tuple[str, ...] = ("Ltd", "plc", "& Sons", "GmbH", "AG", "KG")
    jobs: tuple[str, ...] = ("Head of Purchasing", "Plant Manager", "Buyer", "Geschäftsführerin", "Einkaufsleiter", "Controller")
    departments: tuple[str, ...] = ("Purchasing", "Operations", "Finance", "Einkauf", "Produktion", "Vertrieb")


@cache
def names(seed: int) -> Names:
    """Draw the pools; Faker is slow to load, so this happens once."""
    first: list[str] = []
    last: list[str] = []
    cities: list[str] = []
    streets: list[str] = []
    for locale in ("en_GB", "de_DE"):
        fake = Faker(locale)
        fake.seed_instance(seed)
        first += [fake.first_name() for _ in range(150)]
        last += [fake.last_name() for _ in range(150)]
        cities += [fake.city() for _ in range(40)]
        streets += [fake.street_name() for _ in range(60)]
    return Names(tuple(first), tuple(last), tuple(cities), tuple(streets))


def ascii_word(text: str) -> str:
    """Spell a name as it stands in addresses: "Müller-Lüdenscheid" -> "mueller-luedenscheid"."""
    low = text.lower().replace(" ", "-").replace("'", "")
    for letter, spelled in (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("ß", "ss")):
        low = low.replace(letter, spelled)
    return unicodedata.normalize("NFKD", low).encode("ascii", "ignore").decode()


def guid(object_id: str) -> str:
    """The UUID of an ObjectID: the same 32 digits with dashes (domain notes on C4C, Types)."""
    o = object_id
    return f"{o[:8]}-{o[8:12]}-{o[12:16]}-{o[16:20]}-{o[20:]}"


class Tenant:
    """Fills one Crm. Every method returns the row it added; `start` is when the World begins, aware UTC."""

    def __init__(self, crm: Crm, pool: Names, rng: random.Random, start: datetime) -> None:
        self.crm = crm
        self._pool = pool
        self._rng = rng
        self._start = start
        self._owners: list[tuple[str, str, str]] = []  # EmployeeID, UUID, name
        self._numbers = {
            kind: itertools.count(first)
            for kind, first in (
                ("account", 1000001), ("contact", 1100001), ("customer", 1200001), ("lead", 50001),
                ("opportunity", 70001), ("ticket", 80001), ("activity", 900001), ("employee", 7000001),
            )
        }  # fmt: skip

    def employee(self, person: Person) -> Row:
        """Add the employee and the business user of a person."""
        first, _, last = person.name.partition(" ")
        number = str(next(self._numbers["employee"]))
        dates = self._dates("CreatedOn")
        shared: Row = {
            "EmployeeID": person.employee_id, "UserID": person.user_id, "BusinessPartnerID": number,
            "FirstName": first, "LastName": last, "Email": person.email, "LanguageCode": person.language.upper(),
            "UserLockedIndicator": False, "CountryCode": "DE" if person.language == "de" else "GB", **dates,
        }  # fmt: skip
        employee = self._add("EmployeeCollection", {**shared, "BusinessPartnerFormattedName": person.name})
        employee["UUID"] = guid(employee["ObjectID"])
        basic = {
            **shared, "ObjectID": employee["ObjectID"], "EmployeeUUID": employee["UUID"], "FormattedName": person.name,
            "CurrentInternalEmployeeIndicator": True, "TimeZoneCode": "CET" if person.language == "de" else "GMTUK",
        }  # fmt: skip
        self.crm.rows("EmployeeBasicDataCollection")[employee["ObjectID"]] = basic
        user: Row = {
            "EmployeeID": person.employee_id, "EmployeeUUID": employee["UUID"], "UserID": person.user_id,
            "BusinessPartnerID": number, "BusinessPartnerFormattedName": person.name, "EmailURI": person.email,
            "LogonLanguageCode": person.language.upper(), "UserLockedIndicator": False, "PasswordLockedIndicator": False,
            "UserAccountTypeCode": "1", "CreatedOn": dates["CreatedOn"], "UserChangedOn": dates["ChangedOn"],
            "EntityLastChangedOn": dates["EntityLastChangedOn"],
        }  # fmt: skip
        identity = self._add("BusinessUserCollection", user)
        for row in (identity, employee, basic):
            row["IdentityUUID"] = guid(identity["ObjectID"])
        self._owners.append((person.employee_id, employee["UUID"], person.name))
        return employee

    def account(self, name: str, email: str = "") -> Row:
        owner_id, owner_uuid, _ = self._owner()
        row = self._add(
            "CorporateAccountCollection",
            {
                "AccountID": str(next(self._numbers["account"])), "RoleCode": "CRM000", "LifeCycleStatusCode": "2",
                "Name": name[:40], "BusinessPartnerFormattedName": name, "Email": email,
                "WebSite": f"https://www.{email.partition('@')[2]}" if email else "", "Phone": self._phone(),
                "CustomerABCClassificationCode": self._rng.choice("ABC"), "OwnerID": owner_id, "OwnerUUID": owner_uuid,
                "LanguageCode": "EN", **self._address("CountryCode", "City", "Street", "HouseNumber", "StreetPostalCode"),
                **self._dates(),
            },
        )  # fmt: skip
        row["UUID"] = guid(row["ObjectID"])
        return row

    def contact(self, first: str, last: str, email: str, *accounts: Row) -> Row:
        """Add a contact; the first of its accounts is the main one."""
        owner_id, owner_uuid, _ = self._owner()
        main = accounts[0] if accounts else None
        row = self._add(
            "ContactCollection",
            {
                "ContactID": str(next(self._numbers["contact"])), "StatusCode": "2", "FirstName": first, "LastName": last[:40],
                "Name": f"{first} {last}".strip(), "Email": email, "EmailInvalidIndicator": False, "LanguageCode": "EN",
                "JobTitle": self._rng.choice(self._pool.jobs), "Department": self._rng.choice(self._pool.departments),
                "Phone": self._phone(), "Mobile": self._phone(), "ContactOwnerID": owner_id, "ContactOwnerUUID": owner_uuid,
                **self._address(
                    "BusinessAddressCountryCode", "BusinessAddressCity", "BusinessAddressStreet",
                    "BusinessAddressHouseNumber", "BusinessAddressStreetPostalCode",
                ),
                **self._dates(),
            },
        )  # fmt: skip
        row["ContactUUID"] = guid(row["ObjectID"])
        if main is not None:
            row |= {"AccountID": main["AccountID"], "AccountUUID": main["UUID"], "AccountFormattedName": main["Name"]}
        for account in accounts:
            self._relate(row, account, is_main=account is main)
        return row

    def _relate(self, contact: Row, account: Row, *, is_main: bool) -> None:
        self._add(
            "ContactIsContactPersonForCollection",
            {
                "ParentObjectID": contact["ObjectID"], "ContactID": contact["ContactID"], "AccountID": account["AccountID"],
                "AccountFormattedName": account["Name"], "ReverseMainIndicator": is_main, "JobTitle": contact["JobTitle"],
                "Department": contact["Department"], "Email": contact["Email"], "Phone": contact["Phone"],
                "EntityLastChangedOn": contact["EntityLastChangedOn"],
            },
        )  # fmt: skip

    def individual_customer(self, first: str, last: str, email: str) -> Row:
        owner_id, owner_uuid, _ = self._owner()
        row = self._add(
            "IndividualCustomerCollection",
            {
                "CustomerID": str(next(self._numbers["customer"])), "RoleCode": "CRM000", "LifeCycleStatusCode": "2",
                "FirstName": first, "LastName": last, "FormattedName": f"{first} {last}", "Email": email, "Phone": self._phone(),
                "Mobile": self._phone(), "EmailInvalidIndicator": False, "OwnerID": owner_id, "OwnerUUID": owner_uuid,
                **self._address("CountryCode", "City", "Street", "HouseNumber", "StreetPostalCode"), **self._dates(),
            },
        )  # fmt: skip
        row["UUID"] = guid(row["ObjectID"])
        return row

    def lead(self, first: str, last: str, email: str, company: str) -> Row:
        owner_id, owner_uuid, owner = self._owner()
        return self._add(
            "LeadCollection",
            {
                "ID": str(next(self._numbers["lead"])), "Name": f"{company}: first contact", "Company": company,
                "ContactFirstName": first, "ContactLastName": last, "ContactName": f"{first} {last}", "ContactEMail": email,
                "ContactPhone": self._phone(), "UserStatusCode": "01", "QualificationLevelCode": "02", "PriorityCode": "3",
                "OriginTypeCode": "002", "OwnerPartyID": owner_id, "OwnerPartyUUID": owner_uuid, "OwnerPartyName": owner,
                "AccountCity": self._rng.choice(self._pool.cities), "AccountCountry": "GB",
                **self._dates("CreationDateTime", "LastChangeDateTime"),
            },
        )  # fmt: skip

    def opportunity(self, name: str, account: Row, contact: Row) -> Row:
        owner_id, _, owner = self._owner()
        dates = self._dates("CreationDateTime", "LastChangeDateTime")
        row = self._add(
            "OpportunityCollection",
            {
                "ID": str(next(self._numbers["opportunity"])), "ProcessingTypeCode": "OPPT", "Name": name,
                "ProspectPartyID": account["AccountID"], "ProspectPartyName": account["Name"],
                "PrimaryContactPartyID": contact["ContactID"], "PrimaryContactPartyName": contact["Name"],
                "LifeCycleStatusCode": self._rng.choice(("1", "2")), "PriorityCode": "3", "SalesCyclePhaseCode": "001",
                "ProbabilityPercent": Decimal(self._rng.randrange(10, 100, 10)),
                "ExpectedRevenueAmount": Decimal(self._rng.randrange(5, 500) * 1000),
                "ExpectedRevenueAmountCurrencyCode": "EUR", "MainEmployeeResponsiblePartyID": owner_id,
                "MainEmployeeResponsiblePartyName": owner, "CreationDate": dates["CreationDateTime"],
                "LastChangeDate": dates["LastChangeDateTime"], **dates,
            },
        )  # fmt: skip
        row["UUID"] = guid(row["ObjectID"])
        return row

    def ticket(self, name: str, account: Row, contact: Row) -> Row:
        owner_id, _, owner = self._owner()
        row = self._add(
            "ServiceRequestCollection",
            {
                "ID": str(next(self._numbers["ticket"])), "ProcessingTypeCode": "SRRQ", "Name": name,
                "ServicePriorityCode": "3", "ServiceRequestUserLifeCycleStatusCode": self._rng.choice(("1", "2", "5")),
                "BuyerPartyID": account["AccountID"], "BuyerPartyName": account["Name"],
                "BuyerMainContactPartyID": contact["ContactID"], "BuyerMainContactPartyName": contact["Name"],
                "ProcessorPartyID": owner_id, "ProcessorPartyName": owner, "DataOriginTypeCode": "1",
                **self._dates("CreationDateTime", "LastChangeDateTime"),
            },
        )  # fmt: skip
        row["UUID"] = guid(row["ObjectID"])
        return row

    def email(self, subject: str, account: Row, contact: Row, message_id: str) -> Row:
        """Add an e-mail activity as an earlier save would have left it."""
        owner_id, owner_uuid, owner = self._owner()
        dates = self._dates("DateTime", "LastChangeDateTime")
        row = self._add(
            "EMailCollection",
            {
                "ID": str(next(self._numbers["activity"])), "Subject": subject, "Status": "3", "PriorityCode": "3",
                "DocumentType": "0006", "Direction": "3",
                "OwnerPartyID": owner_id, "OwnerUUID": owner_uuid, "OwnerName": owner, "Account": account["UUID"],
                "MainAccountPartyID": account["AccountID"], "AccountName": account["Name"],
                "PrimaryContact": contact["ContactUUID"],
                "MainContactPartyID": contact["ContactID"], "PrimaryContactName": contact["Name"],
                "MessageFromEmailURI": contact["Email"], "MessageFromName": contact["Name"],
                "GroupwareItemID": message_id, **dates,
            },
        )  # fmt: skip
        row["UUID"] = guid(row["ObjectID"])
        return row

    def appointment(self, subject: str, account: Row, contact: Row) -> Row:
        owner_id, owner_uuid, owner = self._owner()
        begins = self._start + timedelta(hours=self._rng.randrange(-2000, 500))
        dates = self._dates("CreatedOn", "LastChangeDateTime")
        row = self._add(
            "AppointmentCollection",
            {
                "ID": str(next(self._numbers["activity"])), "Subject": subject, "DocumentType": "0001",
                "LifeCycleStatusCode": "1", "StartDate": begins, "EndDate": begins + timedelta(hours=1),
                "StartDatetimeZoneCode": "UTC", "EnddatetimeZoneCode": "UTC", "FullDayIndicator": False,
                "Owner": owner_uuid, "OwnerPartyID": owner_id, "OwnerName": owner, "Account": account["UUID"],
                "MainAccountPartyID": account["AccountID"], "AccountName": account["Name"],
                "PrimaryContact": contact["ContactUUID"],
                "MainContactPartyID": contact["ContactID"], "PrimaryContactName": contact["Name"],
                "Location": account["City"], **dates,
            },
        )  # fmt: skip
        row["UUID"] = guid(row["ObjectID"])
        return row

    def _add(self, entity_set: str, row: Row) -> Row:
        row["ObjectID"] = self.crm.new_object_id()
        self.crm.rows(entity_set)[row["ObjectID"]] = row
        return row

    def _owner(self) -> tuple[str, str, str]:
        return self._rng.choice(self._owners)

    def _phone(self) -> str:
        """A number of the range that Ofcom keeps free for stories (01632 960000-960999)."""
        return f"+44 1632 960{self._rng.randrange(1000):03d}"

    def _address(self, country: str, city: str, street: str, number: str, code: str) -> Row:
        at = self._rng.randrange(len(self._pool.cities))
        german = at >= len(self._pool.cities) // 2
        return {
            country: "DE" if german else "GB", city: self._pool.cities[at][:40],
            street: self._rng.choice(self._pool.streets)[:60], number: str(self._rng.randrange(1, 200)),
            code: f"{self._rng.randrange(10000, 99999)}" if german else f"ZZ{self._rng.randrange(1, 99)} 9ZZ",
        }  # fmt: skip

    def _dates(self, created: str = "CreationOn", changed: str = "ChangedOn") -> Row:
        days = self._rng.randrange(30, 1800)
        then = self._start - timedelta(days=days, seconds=self._rng.randrange(86400))
        since = then + timedelta(days=self._rng.randrange(days), microseconds=self._rng.randrange(10**6))
        return {created: then, changed: since, "EntityLastChangedOn": since}
