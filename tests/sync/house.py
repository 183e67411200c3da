"""A mailbox and a C4C tenant with a session between them: what others do on both sides, and what is really there afterwards."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from server import sync
from server.domain.contact import Contact
from server.domain.marks import FOLDERS, FolderId
from server.domain.people import PersonType
from server.domain.profile import Profile
from server.services import Deps, issues, syncing
from server.services.connections import own_connection
from server.services.issues import Told
from server.store import Connection, Issue, Link, MailboxSync, Principal
from simulator.c4c.records import seed
from simulator.world import Access, Person, Row, World
from tests.mail.remote import Remote

SETS: dict[PersonType, str] = {
    "contact": "ContactCollection",
    "account": "CorporateAccountCollection",
    "individual_customer": "IndividualCustomerCollection",
}
OWNERS: dict[PersonType, str] = {"contact": "ContactOwnerID", "account": "OwnerID", "individual_customer": "OwnerID"}
FOLDER: dict[PersonType, FolderId] = {
    "contact": "contacts",
    "account": "accounts",
    "individual_customer": "individual_customers",
}
WRITES = ("POST", "PATCH", "PUT", "DELETE")
NAMES = {"FirstName": "given_name", "LastName": "surname", "Email": "email", "Phone": "business_phone", "JobTitle": "job_title"}
"""Properties of a contact in C4C that tests look at -> our fields."""


@dataclass
class House:
    """One person's sessions in front of the simulator. Nothing here reuses what the engine decides."""

    deps: Deps
    world: World
    person: Person
    remote: Remote
    forward: Callable[..., None]
    _seen: int = 0  # requests
    _events: int = 0

    # The product

    @property
    def principal(self) -> Principal:
        with self.deps.store.transaction(reading=True) as tx:
            user = next(u for u in tx.users(tx.tenants()[0].id) if u.email == self.person.email)
            principal = tx.principal_of(user.id)
        assert principal is not None
        return principal

    @property
    def connection(self) -> Connection:
        connection = own_connection(self.deps, self.principal)
        assert connection is not None
        return connection

    @property
    def row(self) -> MailboxSync:
        with self.deps.store.transaction(reading=True) as tx:
            found = tx.session_of(self.connection.id)
        assert found is not None
        return found

    def session(self, *, forced: bool = False, deps: Deps | None = None) -> MailboxSync:
        """Run a session as a worker does; return its row afterwards."""
        deps = deps or self.deps
        sync.run_session(deps, self.take(forced=forced))
        return self.row

    def take(self, *, forced: bool = False) -> MailboxSync:
        """Claim the session that is due now."""
        mine, now = self.connection.id, self.deps.now()
        with self.deps.store.transaction() as tx:
            assert tx.wake_session(mine, now, forced=forced)
            (taken,) = [one for one in tx.take_sessions(now, 45, limit=100) if one.connection_id == mine]
        return taken

    def done(self, **how: Any) -> MailboxSync:
        """Run a session that has to go well."""
        row = self.session(**how)
        assert (row.state, row.reason) == ("done", "")
        return row

    def later(self) -> MailboxSync:
        """Run a session half an hour later."""
        self.forward(minutes=30)
        return self.done()

    def set_profile(self, **values: Any) -> None:
        principal = self.principal
        organization, profile = principal.organization, replace(principal.organization.profile, **values)
        assert isinstance(profile, Profile)
        with self.deps.store.transaction() as tx:
            tx.put_organization(
                organization.tenant_id, organization.name, organization.access_type, organization.admin_contact, profile
            )

    @property
    def links(self) -> list[Link]:
        with self.deps.store.transaction(reading=True) as tx:
            return list(tx.links(self.connection.id))

    @property
    def issues(self) -> dict[str, Issue]:
        """The mailbox's issues, by their codes."""
        with self.deps.store.transaction(reading=True) as tx:
            return {issue.code: issue for issue in tx.issues_of(self.principal.user.id)}

    @property
    def told(self) -> dict[str, Told]:
        """The same as their owner reads them."""
        return {issue.code: issue for issue in issues.told(self.deps, self.principal)}

    @property
    def why(self) -> str:
        """Why the last session failed, as the mailbox's owner reads it."""
        return syncing.why(self.deps, self.principal, self.row)

    # C4C

    def own(self, type: PersonType = "contact") -> dict[str, Row]:
        """The records of the person that are in use, by ObjectID."""
        owner, status = OWNERS[type], "StatusCode" if type == "contact" else "LifeCycleStatusCode"
        rows = self.world.crm.rows(SETS[type])
        return {key: row for key, row in rows.items() if row.get(owner) == self.person.employee_id and row.get(status) != "4"}

    def clear(self) -> None:
        """Take away the demo's records of this person."""
        for type in SETS:
            for key in self.own(type):
                del self.world.crm.rows(SETS[type])[key]

    def add_record(self, type: PersonType = "contact", **values: Any) -> Row:
        """Let a colleague create a record for the person in C4C."""
        given = {"RoleCode": "CRM000", "LifeCycleStatusCode": "2"} if type != "contact" else {"StatusCode": "2"}
        row = seed(self.world, SETS[type], **{OWNERS[type]: self.person.employee_id, **given, **values})
        if type == "contact":
            row["Name"] = f"{values.get('FirstName', '')} {values.get('LastName', '')}".strip()
        return row

    def change_record(self, row: Row, **values: Any) -> None:
        row |= values
        if "Name" in row and "LastName" in row:
            row["Name"] = f"{row.get('FirstName', '')} {row['LastName']}".strip()
        row["EntityLastChangedOn"] = self.world.now()
        if "ETag" in row:
            row["ETag"] = self.world.now()

    # The mailbox

    def folder(self, type: PersonType = "contact") -> str:
        """The ref of the folder of a type."""
        names = {name: ref for ref, name in self.remote.folders.items()}
        return names[FOLDERS[FOLDER[type]]]

    def items(self, type: PersonType = "contact") -> dict[str, Contact]:
        return self.remote.contacts(self.folder(type))

    def item(self, surname: str) -> tuple[str, Contact]:
        ((ref, contact),) = [(ref, contact) for ref, contact in self.items().items() if contact.surname == surname]
        return ref, contact

    def people(self) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
        """What both sides have of contacts, in the same terms and order: the mailbox's and C4C's."""
        mailbox = [
            (c.given_name, c.surname, c.emails[0] if c.emails else "", c.business_phone, c.job_title)
            for c in self.items().values()
        ]
        c4c = [tuple(str(row.get(name) or "") for name in NAMES) for row in self.own().values()]
        return sorted(mailbox), sorted(c4c)

    # Requests

    def mark(self) -> None:
        self._seen = len(self.world.access)

    def requests(self, vendor: str) -> list[Access]:
        """What the vendor was asked since `mark`."""
        return [one for one in self.world.access[self._seen :] if one.vendor == vendor]

    def happened(self) -> list[str]:
        """What really changed on both sides since `mark_events`."""
        vendors = (self.remote.vendor, "c4c")
        return [f"{e.vendor} {e.kind}" for e in self.world.log[self._events :] if e.vendor in vendors and e.kind != "token"]

    def mark_events(self) -> None:
        self._events = len(self.world.log)
