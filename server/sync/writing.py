"""Carry out what was planned for people: write to the mailbox and to C4C, many at a time, and keep each link.

A create is kept as `creating_...` before it goes out, so that after a crash or a lost answer it is looked for before it is
tried again. A merge needs no such note: done twice, it changes nothing. Where both sides of a link are written, C4C comes first:
what it refuses leaves the contact as it was, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from server import logs
from server.domain.contact import Contact, PostalAddress
from server.domain.marks import MarkId, mark_of
from server.domain.people import CUSTOMER, Person
from server.domain.records import RecordRef
from server.domain.sentences import cause_of
from server.errors import Conflict, Forbidden, InvalidInput, NotFound, RateLimited, Rejected, SsiError, Transient, Unknown
from server.mail import ContactEdit, ContactItem, NewContact
from server.services import issues
from server.services.connections import C4C_USER, asking_c4c
from server.store import LeaseLost, Link
from server.sync.mapping import DOWN, NOTHING, Base, Values, as_made, base, fields, read_base, values, with_values
from server.sync.plan import Action, Merge
from server.sync.run import FOLDER_OF, Run
from server.transport import asking_first, unasked

ITEMS_AT_ONCE = 200  # as many as the most that one request of a provider takes
RECORDS_AT_ONCE = 20

T = TypeVar("T")
log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Task:
    """An action about a link, with what was read of both sides."""

    action: Action
    link: Link
    item: ContactItem | None = None
    person: Person | None = None


class Writer:
    """Writes for one session."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.done = 0  # of `total`, for who watches
        self.total = 0
        self.waiting = 0  # links that the next session has to look at again
        self.unsettled = 0  # creates whose outcome is not known
        self._accounts: dict[str, str] = {}  # company -> human id, "" if there is none

    # --- creating ---

    def create_items(self, new: Sequence[tuple[Link, Person]], *, phase: str = "people") -> None:
        """Create the contacts of these records, of one type."""
        run = self._run
        for chunk in _chunks(new, ITEMS_AT_ONCE):
            folder = run.folders[FOLDER_OF[chunk[0][1].type]]
            begun: dict[str, Any] = {"state": "creating_item", "folder": folder, "sent_at": run.deps.now(), "item_ref": None}
            sent = [replace(self._of_record(link, person), item_name=run.name_of(link), **begun) for link, person in chunk]
            run.keep(sent)
            wanted = [NewContact(person.contact, link.item_name) for link, (_, person) in zip(sent, chunk, strict=True)]
            results = run.mailbox.create_contacts(folder, wanted)
            tried = [link.sent_at is not None for link, _ in chunk]
            made = [
                self._item_made(link, person, result, was_tried)
                for link, (_, person), result, was_tried in zip(sent, chunk, results, tried, strict=True)
            ]
            self.done += len(chunk)
            run.keep(made, phase=phase, done=self.done, total=max(self.done, self.total))

    def _item_made(self, link: Link, person: Person, result: ContactItem | SsiError, was_tried: bool) -> Link:
        if isinstance(result, ContactItem):
            self._run.counts["created_in_mailbox"] += 1
            if link.code or was_tried:
                self._run.mend(issues.key_of(link.type, link.id))
            return self.with_item(replace(link, state="linked", sent_at=None, code=""), result)
        if isinstance(result, Unknown | Transient):
            self.unsettled += 1
            if was_tried and not isinstance(result, RateLimited):
                self._tell(link, result, person.contact, item_ref=None)
            return link
        self._tell(link, result, person.contact, item_ref=None)
        return replace(link, state="ignored", sent_at=None, code="refused")

    def create_records(self, new: Sequence[tuple[Link, ContactItem]]) -> None:
        """Create the records of these contacts, each under its link's id, and let the contacts keep that id."""
        for chunk in _chunks(new, RECORDS_AT_ONCE):
            begun: dict[str, Any] = {"state": "creating_record", "sent_at": self._run.deps.now(), "record_id": None, "code": ""}
            sent = [(replace(self.with_item(link, item), **begun), item) for link, item in chunk]
            self._run.keep([link for link, _ in sent])
            made: list[tuple[Link, ContactItem, Person | SsiError]] = []
            stopped: SsiError | None = None
            for link, item in sent:
                try:
                    made.append((link, item, self._create_record(link, item)))
                except SsiError as error:
                    stopped = error
                    break
            try:
                self._settle_records(made, tried={link.id for link, _ in chunk if link.sent_at is not None})
            except LeaseLost:
                self._take_back({link.id: person for link, _, person in made if isinstance(person, Person)})
                raise
            if stopped is not None:
                raise stopped

    def find_record(self, link: Link, item: ContactItem, besides: Set[str]) -> Person | None:
        """Return what a create made whose outcome is not known; none of `besides`, which are others'."""
        run = self._run
        with asking_c4c(run.principal):
            contact = self._sent(link, item.contact)
            since = link.sent_at or run.deps.now()
            return run.people.created(link.type, contact, key=link.id, since=since, owner_id=run.employee_id, besides=besides)

    def _take_back(self, made: Mapping[str, Person]) -> None:
        """Another session took this one for dead: set obsolete what this one created, by link, and that one, too."""
        run = self._run
        with run.deps.store.transaction(reading=True) as tx:
            kept = tx.links_by_id(run.connection.id, made)
        for link_id, person in made.items():
            link = kept.get(link_id)
            if link is not None and link.record_id not in (None, person.id):
                log.warning("removing a double of our own", record=person.id)
                try:
                    with asking_first(unasked):
                        run.people.set_obsolete(person)
                except SsiError as error:
                    log.warning("a double of our own stays", record=person.id, reason=type(error).__name__)

    def adopt_records(self, found: Sequence[tuple[Link, ContactItem, Person]]) -> None:
        """Link what creates made whose outcome was not known; what changed on either side since waits for the next session."""
        self._settle_records(found, sent={link.id: read_base(link.item_base) for link, _, _ in found})

    def _since(self, link: Link, sent: Base) -> Link:
        """Return the link of a create that is found, so that what differs counts as changed since it was sent."""
        here, there = read_base(link.item_base), read_base(link.record_base)
        made = as_made(link.type, sent, there)
        changed = {name for name in sent.hashes if here.get(name) != sent.get(name) or there.get(name) != made.get(name)}
        if all(here.get(name) == there.get(name) for name in changed - DOWN):
            return link
        return self._again(replace(link, item_base=sent.text, record_base=made.text))

    def _settle_records(
        self,
        made: Sequence[tuple[Link, ContactItem, Person | SsiError]],
        *,
        tried: Set[str] = frozenset(),
        sent: Mapping[str, Base] = {},
    ) -> None:
        """Keep what became of creates in C4C; what the contact lacks and C4C made of the rest is filled in.

        `tried` are links of which an earlier create was not confirmed either: that is told. `sent`: of creates that were found
        later, what the contact held then.
        """
        links: list[Link] = []
        edits: list[tuple[Link, ContactItem, ContactEdit]] = []
        for link, item, result in made:
            if isinstance(result, Person):
                self._run.counts["created_in_c4c"] += 1
                self._run.mend(issues.key_of(link.type, link.id))
                linked = replace(self._of_record(link, result), state="linked", origin="mailbox", sent_at=None, code="")
                edits.append((linked, item, self._filling(linked, item, result, sent.get(link.id, NOTHING))))
            elif isinstance(result, Unknown | Conflict | Transient):
                self.unsettled += 1
                links.append(link)
                if link.id in tried:
                    self._tell(link, result, item.contact, item.ref)
            else:
                links.append(self._refused(link, item, result))
        if edits:
            try:
                answers = self._run.mailbox.update_contacts([edit for _, _, edit in edits])
            except SsiError:  # the records are there all the same
                self._run.keep([*links, *(self.with_item(link, item) for link, item, _ in edits)])
                raise
            for (link, item, _), answer in zip(edits, answers, strict=True):
                kept = self.with_item(link, answer if isinstance(answer, ContactItem) else item)
                was_refused = any(mark_of(name, self._run.names) == "error" for name in item.categories)
                if was_refused:
                    self.mark(kept, "share")
                links.append(self._since(kept, sent[link.id]) if link.id in sent else kept)
        self._run.keep(links)

    def _filling(self, link: Link, item: ContactItem, person: Person, sent: Base) -> ContactEdit:
        """Return what gives a contact what it lacks, but for what it was `sent` with: that was emptied since."""
        here, there = self._values(link, item.contact), self._values(link, person.contact)
        lacking = {name: value for name, value in there.items() if value and not here[name] and not sent.has(name)}
        return ContactEdit(item.ref, item.etag, partial(_given, lacking), link=link.id)

    def _create_record(self, link: Link, item: ContactItem) -> Person | SsiError:
        run = self._run
        try:
            with asking_c4c(run.principal):
                account = self._account(item.contact) if link.type == "contact" else ""
                return run.people.create(
                    link.type,
                    self._sent(link, item.contact),
                    key=link.id,
                    owner_id=run.employee_id,
                    role=CUSTOMER,
                    account_id=account or "",
                )
        except SsiError as error:
            if _stops(error):
                raise
            return error

    def _sent(self, link: Link, contact: Contact) -> Contact:
        """Return of a contact what goes to C4C; its names stand in for each other there, so all of them do."""
        return with_values(Contact(), values(contact, (*self._fields(link), "display_name", "company")))

    def _refused(self, link: Link, item: ContactItem, error: SsiError) -> Link:
        link = replace(link, state="ignored", record_id=None, sent_at=None, code="refused")
        self._tell(link, error, item.contact, item.ref)
        self.mark(link, "error", self._run.say(cause_of(error)))
        return link

    # --- accounts ---

    def _account(self, contact: Contact) -> str | None:
        """Return the human id of the account that the contact's company names, None if C4C has none or it is not clear which."""
        company = contact.company.strip()
        if company and company not in self._accounts:
            try:
                self._accounts[company] = self._find_account(company)
            except Forbidden as error:
                if _stops(error):
                    raise
                self._accounts[company] = ""  # who may see no accounts has none to name
        return self._accounts.get(company) or None

    def _find_account(self, company: str) -> str:
        run, profile = self._run, self._run.profile
        exact = run.people.accounts_by_name(company)
        if exact:
            return exact[0][0]
        like = run.people.accounts_like(company)
        if len(like) == 1:
            return like[0][0]
        if like or not profile.create_accounts or profile.accounts_read_only:
            return ""
        address = PostalAddress(country=profile.default_country)
        key = run.hasher(f"account of\0{company.casefold()}").hex()
        made = run.people.create(
            "account",
            Contact(company=company, display_name=company, business_address=address),
            key=key,
            owner_id=run.employee_id,
            role=CUSTOMER,
        )
        run.counts["created_in_c4c"] += 1
        return made.human_id

    # --- what is there on both sides ---

    def merge(self, tasks: Sequence[Task]) -> None:
        """Give both sides of each link what the other has newer."""
        for chunk in _chunks(tasks, RECORDS_AT_ONCE if any(task.action.merge.to_record for task in tasks) else ITEMS_AT_ONCE):
            written: list[tuple[Task, Link]] = []
            stopped: SsiError | None = None
            for task in chunk:
                try:
                    written.append((task, self._changed_record(task)))
                except SsiError as error:  # what is done by then is kept: before the next session people may change it back
                    stopped = error
                    break
            to_edit = [(task, link) for task, link in written if not link.code and task.action.merge.to_item]
            rest = [link for task, link in written if link.code or not task.action.merge.to_item]
            self.done += len(written)
            if rest and to_edit:  # the mailbox may be away
                self._run.keep(rest)
                rest = []
            self._run.keep([*rest, *self._edited_items(to_edit)], done=self.done, total=max(self.done, self.total))
            if stopped is not None:
                raise stopped

    def _changed_record(self, task: Task) -> Link:
        """Write to the record; return the link as it is then, the contact being as it was read. A code says that it failed."""
        run, link, merge = self._run, task.link, task.action.merge
        given = dict(merge.to_record)
        try:
            with asking_c4c(run.principal):
                account = None
                if link.type == "contact" and "company" in given:
                    account = self._account(Contact(company=given["company"])) if given["company"] else ""
                    if account is None:
                        del given["company"]
                if given and task.person is not None:
                    wanted = with_values(task.person.contact, given)
                    run.people.change(task.person, wanted, account_id=account, home="home_phone" in self._fields(link))
                    run.counts["changed_in_c4c"] += 1
        except (Conflict, NotFound, Unknown):
            return self._again(link)
        except SsiError as error:
            if _stops(error):
                raise
            return self._failed(task, error)
        self._tell_losses(task)
        return self._agreed(task, given)

    def _agreed(self, task: Task, given: Values) -> Link:
        link = replace(task.link, state="linked", code="", sent_at=None)
        if task.person is not None:
            link = self._of_record(link, replace(task.person, contact=with_values(task.person.contact, given)))
        if task.item is not None:
            link = self.with_item(link, task.item)
        if task.link.code and not task.action.merge.to_item:
            link = self._mended(task.link, link)
        return link

    def _edited_items(self, tasks: Sequence[tuple[Task, Link]]) -> list[Link]:
        if not tasks:
            return []
        edits = []
        for task, link in tasks:
            etag = task.item.etag if task.item is not None else task.link.item_etag
            edits.append(ContactEdit(str(link.item_ref), etag, partial(_given, task.action.merge.to_item)))
        links = []
        for (task, link), answer in zip(tasks, self._run.mailbox.update_contacts(edits), strict=True):
            if isinstance(answer, ContactItem):
                self._run.counts["changed_in_mailbox"] += 1
                links.append(self._mended(task.link, self.with_item(link, answer)))
            elif isinstance(answer, Conflict | NotFound | Unknown | Transient):
                links.append(self._again(task.link))
            else:
                links.append(self._failed(task, answer))
        return links

    def _again(self, link: Link) -> Link:
        """Somebody else was faster, or nobody knows: the next session reads both sides again."""
        self.waiting += 1
        return replace(link, code="again")

    def _failed(self, task: Task, error: SsiError) -> Link:
        link = task.link
        contact = task.item.contact if task.item is not None else task.person.contact if task.person is not None else Contact()
        self._tell(link, error, contact, link.item_ref)
        self.mark(link, "error", self._run.say(cause_of(error)))
        return replace(link, code="failed")

    def _mended(self, before: Link, link: Link) -> Link:
        if before.code:
            self._run.mend(issues.key_of(link.type, link.id))
        if before.code == "failed":
            self.mark(link, "share" if link.origin == "mailbox" else None)
        return link

    # --- what is gone on one side ---

    def remove_items(self, tasks: Sequence[Task]) -> None:
        """Delete the contacts whose record is gone, or let those that are their owner's be."""
        run = self._run
        for task in tasks:
            link, etag = task.link, task.item.etag if task.item is not None else task.link.item_etag
            if task.action.do == "release_item":
                run.counts["unlinked"] += 1
                released = replace(link, state="ignored", record_id=None, record_base="", code=task.action.code)
                self.mark(released, None)
                run.keep([released])
                continue
            try:
                run.mailbox.delete_contact(str(link.item_ref), etag=etag)
            except Conflict:
                run.keep([self._again(link)])
                continue
            except Rejected as error:
                run.keep([self._failed(task, error)])
                continue
            run.counts["deleted_in_mailbox"] += 1
            run.mend(issues.key_of(link.type, link.id))
            run.keep(drop=[link.id])

    def remove_doubles(self, items: Iterable[ContactItem]) -> None:
        """Delete contacts that we created although there was one; whoever touched one meanwhile keeps it as a new contact."""
        for item in items:
            try:
                self._run.mailbox.delete_contact(item.ref, etag=item.etag)
            except (Conflict, Rejected):
                continue
            log.warning("removed a double of our own", connection=self._run.connection.id)
            self._run.counts["doubles_removed"] += 1

    def retire_records(self, tasks: Sequence[Task]) -> None:
        """Set the records obsolete whose contacts were deleted, as the profile says."""
        run = self._run
        for task in tasks:
            if task.person is None:
                run.keep(drop=[task.link.id])
                continue
            try:
                with asking_c4c(run.principal):
                    run.people.set_obsolete(task.person)
            except (Conflict, Unknown):
                run.keep([self._again(task.link)])
            except (NotFound, InvalidInput):
                run.keep(drop=[task.link.id])
            except SsiError as error:
                if _stops(error):
                    raise
                self._tell(task.link, error, task.person.contact, None)
                run.keep([_unlinked(task.link, "deleted")])
            else:
                run.counts["set_obsolete"] += 1
                run.keep([_unlinked(task.link, "deleted")])

    def unlink(self, tasks: Sequence[Task]) -> None:
        """Mirror these no longer; both sides keep what they have."""
        for chunk in _chunks(tasks, ITEMS_AT_ONCE):
            self._run.counts["unlinked"] += len(chunk)
            self._run.mend(*(issues.key_of(task.link.type, task.link.id) for task in chunk))
            self._run.keep([_unlinked(task.link, task.action.code) for task in chunk])

    # --- marks and issues ---

    def mark(self, link: Link, mark: MarkId | None, reason: str | None = None) -> None:
        """Have a contact carry a mark. Its link keeps the etag that it has, since others may have changed the contact, too."""
        if link.item_ref is not None:
            with suppress(NotFound, Conflict, Rejected):
                self._run.mailbox.set_contact_mark(link.item_ref, mark, reason=reason, names=self._run.names)

    def _tell(self, link: Link, error: SsiError, contact: Contact, item_ref: str | None) -> None:
        run = self._run
        run.counts["failed"] += 1
        code = f"no_{error.field}" if isinstance(error, InvalidInput) else "rejected"
        record = RecordRef(link.type, link.record_id) if link.record_id else None
        run.tell(
            issues.Finding(
                link.type,
                issues.key_of(link.type, link.id),
                code,
                cause_of(error),
                name=shown(contact),
                item_ref=item_ref,
                record=record,
            )
        )

    def _tell_losses(self, task: Task) -> None:
        merge, link = task.action.merge, task.link
        contact = task.item.contact if task.item is not None else task.person.contact if task.person is not None else Contact()
        for code, lost in (("conflict", {one.field: one.value for one in merge.lost}), ("restored", _restored(task, merge))):
            if not lost:
                continue
            self._run.counts[code] += 1
            finding = issues.Finding(
                link.type,
                issues.key_of(link.type, f"{code}:{link.id}"),
                code,
                name=shown(contact),
                values=lost,
                item_ref=link.item_ref,
                record=RecordRef(link.type, link.record_id) if link.record_id else None,
                choices=(issues.DISMISS,),
            )
            self._run.tell(finding)

    # --- links ---

    def with_item(self, link: Link, item: ContactItem) -> Link:
        """Return the link with a contact as what both sides agreed on."""
        text = base(link.type, self._values(link, item.contact), self._run.hasher).text
        return replace(link, item_ref=item.ref, item_name=item.link[:60], folder=item.folder, item_etag=item.etag, item_base=text)

    def _of_record(self, link: Link, person: Person) -> Link:
        text = base(link.type, self._values(link, person.contact), self._run.hasher).text
        return replace(link, record_id=person.id, record_etag=person.etag[:200], record_base=text)

    def _fields(self, link: Link) -> tuple[str, ...]:
        return fields(link.type, home=self._run.profile.contacts_home)

    def _values(self, link: Link, contact: Contact) -> dict[str, str]:
        return values(contact, self._fields(link))


def _stops(error: SsiError) -> bool:
    """Say whether an error is about everything that would be written to C4C, not about one record."""
    return isinstance(error, Transient) or (isinstance(error, Forbidden) and error.code == C4C_USER)


def _restored(task: Task, merge: Merge) -> dict[str, str]:
    if task.item is None:
        return {}
    here = values(task.item.contact, merge.restored)
    return {name: here[name] for name in merge.restored}


def _given(wanted: Values, contact: Contact) -> Contact:
    return with_values(contact, wanted)


def _unlinked(link: Link, code: str) -> Link:
    """Return the link of a pair that is no longer mirrored; what was deleted is no longer known."""
    kept = replace(link, state="ignored", code=code, sent_at=None)
    return kept if code == "filtered" else replace(kept, item_ref=None, item_etag="", item_base="")


def shown(contact: Contact) -> str:
    """Return what a person knows a contact by."""
    name = " ".join(filter(None, (contact.given_name, contact.surname)))
    return contact.display_name or name or contact.company or next(iter(contact.emails), "")


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
