"""The contacts of an account at Google, over the People API v1; our folders are contact groups, and so are marks on contacts.

A contact may be in several groups. Of our folders it counts as in the first, in the order of `CONTACT_FOLDERS`; which groups
these are is known from `ensure_folders` and `page`, else by their English names. Its other groups, save the system's, are its
categories. Groups that Google has by itself are never touched, but that a contact that is in no other stays in "My contacts".

An update names the etag that it was made from, and Google refuses it when somebody was faster. There is no such thing for
deleting: a change between our reading and deleting, some milliseconds, is lost to the trash. Google shows writes late to those
who follow changes, "several minutes" (description of people.connections.list), so a contact whose creation was not confirmed
and that is not to be seen is Unknown.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, cast

from server.domain.contact import Contact
from server.domain.marks import FOLDERS, FolderId, MarkId, merged
from server.errors import AlreadyExists, Conflict, CursorExpired, NotFound, SsiError, Transient, Unknown
from server.mail import ContactEdit, ContactItem, Folder, Gone, Marked, NewContact
from server.mail.google import bulk
from server.mail.google.calls import PEERS, Call, Calls, object_of, tried, unconfirmed
from server.mail.google.contacts import (
    MY_CONTACTS,
    PERSON_FIELDS,
    SOURCE,
    Entry,
    Person,
    changed_fields,
    contact_of,
    etag_of,
    groups_of,
    in_groups,
    item_of,
    link_of,
    linked,
    source_of,
)
from server.mail.google.labels import same_names

PEER = PEERS["people"]
TRIES = 3  # of read and write, when others change the same thing
PAGE = 1000  # contacts, or groups; the most there are on a page
_IN_A_ROW_S = 15.0

CONTACT_FOLDERS: tuple[FolderId, ...] = ("contacts", "accounts", "individual_customers")

_REF = re.compile(r"people/(?!me\Z)[A-Za-z0-9_-]{1,128}\Z")
_NOBODY = "people/c0"
_ASKED = {"personFields": PERSON_FIELDS, "sources": SOURCE}

Groups = Mapping[str, str]  # the owner's own, resource name -> name


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the contacts, or of what changed of them. `place` is where the next one, or the next round, begins."""

    contacts: tuple[ContactItem, ...]
    gone: tuple[Gone, ...]
    place: dict[str, str]
    is_last: bool


class AddressBook:
    """One account's contacts. Thread-safe as `Calls` is."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._people = calls.service.people()
        self._groups = calls.service.contactGroups()
        self._folders: dict[FolderId, str] = {}
        self._filled: tuple[str, dict[str, str], float] | None = None  # where many were created last: folder, groups, when

    def owner(self) -> tuple[str, str]:
        """Return the account's id and its owner's name, having tried to read and, in vain, to write."""
        me = self._people.get(resourceName="people/me", personFields="metadata,names")
        listing = self._people.connections().list(resourceName="people/me", personFields="metadata", pageSize=1)
        attempt = self._people.updateContact(resourceName=_NOBODY, body={})  # changes nothing: it names no field of nobody
        known, listed, refused = self._calls.exchange([me, listing, attempt])
        person = object_of(known, me)
        object_of(listed, listing)
        tried(refused, attempt)
        names = [str(name.get("displayName", "")) for name in person.get("names", [])]
        return str(person.get("resourceName", "")).removeprefix("people/"), next(iter(names), "")

    # Folders

    def ensure_folders(self, names: Mapping[FolderId, str], known: Mapping[FolderId, str]) -> dict[FolderId, Folder]:
        """Raises: what `Mailbox.ensure_folders` does."""
        last: Exception | None = None
        for _ in range(TRIES):
            groups, _answers = self._with_groups()
            try:
                made = {folder: self._ensure_folder(folder, name, known.get(folder), groups) for folder, name in names.items()}
            except (AlreadyExists, NotFound, Unknown) as error:  # another client was faster, or the answer was lost
                last = error
                continue
            self._folders |= {folder: one.ref for folder, one in made.items()}
            return made
        raise Transient(f"The groups could not be created in {PEER}.") from last

    def _ensure_folder(self, folder: FolderId, name: str, known: str | None, groups: Groups) -> Folder:
        by_name = {spelled.casefold(): ref for ref, spelled in groups.items()}
        same = by_name.get(name.casefold()) or by_name.get(FOLDERS[folder].casefold())
        if same is not None:
            return Folder(same, groups[same])
        if known is None or known not in groups:
            return Folder(self._create_group(name), name)
        body = {"contactGroup": {"name": name}, "updateGroupFields": "name"}
        self._calls.written(self._groups.update(resourceName=known, body=body))
        return Folder(known, name)

    def _create_group(self, name: str) -> str:
        """Raises: AlreadyExists, Unknown, Rejected."""
        made = str(self._calls.written(self._groups.create(body={"contactGroup": {"name": name}})).get("resourceName", ""))
        if not made:
            raise unconfirmed(PEER)
        return made

    def _with_groups(self, *calls: Call) -> tuple[dict[str, str], list[dict[str, Any]]]:
        """Make calls that read, and in the same request list the owner's groups."""
        options = {"pageSize": PAGE, "groupFields": "groupType,name"}
        page, *answers = self._calls.asked(self._groups.list(**options), *calls)
        groups = _own_groups(page)
        while "nextPageToken" in page:
            (page,) = self._calls.asked(self._groups.list(**options, pageToken=page["nextPageToken"]))
            groups |= _own_groups(page)
        return groups, answers

    def _ours(self, groups: Groups) -> list[str]:
        """Return the groups that are our folders, in their order."""
        by_name = {name.casefold(): ref for ref, name in groups.items()}
        remembered = {folder: ref for folder, ref in self._folders.items() if ref in groups}
        named = (remembered.get(folder) or by_name.get(FOLDERS[folder].casefold()) for folder in CONTACT_FOLDERS)
        return [ref for ref in named if ref is not None]

    # Reading

    def contact(self, ref: str) -> ContactItem:
        """Raises: NotFound."""
        groups, person = self._read(ref)
        return self._item(person, groups)

    def _read(self, ref: str) -> tuple[dict[str, str], Person]:
        """Raises: NotFound, also for what cannot be a ref, so that it never becomes another path."""
        if not _REF.match(ref):
            raise NotFound("The mailbox holds no such contact.")
        groups, (person,) = self._with_groups(self._people.get(resourceName=ref, **_ASKED))
        return groups, person

    def _item(self, person: Person, groups: Groups) -> ContactItem:
        return item_of(person, folders=self._ours(groups), groups=groups)

    def find(self, folder: str, link: str) -> ContactItem | None:
        """Raises: NotFound for the folder."""
        return self._found(folder, {link}).get(link)

    def _found(self, folder: str, links: Set[str]) -> dict[str, ContactItem]:
        """Look through the contacts, those changed last first: of what was created just now the first page tells."""
        found: dict[str, ContactItem] = {}
        token: str | None = None
        while True:
            groups, (page,) = self._with_groups(self._listing(pageToken=token, sortOrder="LAST_MODIFIED_DESCENDING"))
            _check_folders([folder], groups)
            for person in page.get("connections", []):
                link = link_of(person)
                if link in links and link not in found and folder in groups_of(person):
                    found[link] = item_of(person, folders=[folder, *self._ours(groups)], groups=groups)
            token = page.get("nextPageToken")
            if token is None or found.keys() == links:
                return found

    def _listing(self, **options: Any) -> Call:
        given = {name: value for name, value in options.items() if value is not None}
        return cast(Call, self._people.connections().list(resourceName="people/me", pageSize=PAGE, **_ASKED, **given))

    # Writing

    def create(self, folder: str, contact: Contact, link: str) -> ContactItem:
        """Raises: what `Mailbox.create_contact` does."""
        groups, _answers = self._with_groups()
        _check_folders([folder], groups)
        try:
            person = self._confirmed(self._people.createContact(body=_new(folder, contact, link), **_ASKED))
        except Unknown as error:
            told = self._made_in_the_dark(folder, {link: error})[link]
            if isinstance(told, Unknown):
                raise told from told.__cause__
            return told
        return item_of(person, folders=[folder, *self._ours(groups)], groups=groups)

    def create_many(self, folder: str, new: Sequence[NewContact]) -> list[ContactItem | SsiError]:
        """Raises: what `Mailbox.create_contacts` does."""
        if not new:
            return []
        groups = self._groups_for_many(folder)
        outcome = bulk.created(self._calls, {one.link: _new(folder, one.contact, one.link) for one in new})
        self._filled = folder, groups, time.monotonic()
        lost = {link: told for link, told in outcome.items() if isinstance(told, Unknown)}
        found = self._made_in_the_dark(folder, lost) if lost else {}
        folders = [folder, *self._ours(groups)]
        made = {
            link: told if isinstance(told, SsiError) else item_of(told, folders=folders, groups=groups)
            for link, told in outcome.items()
        }
        return [(made | found)[one.link] for one in new]

    def _groups_for_many(self, folder: str) -> dict[str, str]:
        """Return the groups. Of those who fill a folder, one call after another, only the first has them read.

        That Google refuses a group that was deleted since is enough; but who begins finds out by the reading, too, whether a
        connection that was kept is still good, which a create must not. Raises: NotFound for the folder.
        """
        filled, self._filled = self._filled, None
        if filled is not None and filled[0] == folder and time.monotonic() - filled[2] < _IN_A_ROW_S:
            return filled[1]
        groups, _answers = self._with_groups()
        _check_folders([folder], groups)
        return groups

    def _made_in_the_dark(self, folder: str, lost: Mapping[str, Unknown]) -> dict[str, ContactItem | Unknown]:
        """Return, by link, those that were made although nobody said so; of the others, that nobody knows."""
        try:
            return {**lost, **self._found(folder, lost.keys())}
        except SsiError as cause:  # whatever it is, what counts is that the contact may have been made
            error = unconfirmed(PEER)
            error.__cause__ = cause
            return dict.fromkeys(lost, error)

    def update(self, ref: str, contact: Contact, etag: str, link: str | None) -> ContactItem:
        """Raises: what `Mailbox.update_contact` does."""
        return self._write(ref, etag, lambda person, groups: _changes(person, contact, link))

    def update_many(self, edits: Sequence[ContactEdit]) -> list[ContactItem | SsiError]:
        """Raises: what `Mailbox.update_contacts` does."""
        return [told for n in range(0, len(edits), bulk.MOST) for told in self._update_some(edits[n : n + bulk.MOST])]

    def _update_some(self, edits: Sequence[ContactEdit]) -> list[ContactItem | SsiError]:
        """Do so with as many as one call takes; those of which the answer was lost are read again, and written if need be."""
        outcome: dict[str, ContactItem | SsiError] = {}
        wanted: dict[str, Contact] = {}
        waiting = list(edits)
        for _ in range(TRIES):
            outcome |= self._update_once(waiting, wanted)
            waiting = [edit for edit in waiting if isinstance(outcome[edit.ref], Unknown)]
            if not waiting:
                break
        return [_settled(outcome[edit.ref]) for edit in edits]

    def _update_once(self, edits: Sequence[ContactEdit], wanted: dict[str, Contact]) -> dict[str, ContactItem | SsiError]:
        """Read contacts, and write what differs; `wanted` is what the edits made of those that were read before."""
        outcome: dict[str, ContactItem | SsiError] = {}
        changes: dict[str, tuple[Person, dict[str, list[Entry]]]] = {}
        refs = [edit.ref for edit in edits if _REF.match(edit.ref)]
        groups, answers = self._with_groups(*bulk.reading(self._calls, refs))
        present = bulk.read(refs, answers)
        for edit in edits:
            person = present.get(edit.ref) or NotFound("The mailbox holds no such contact.")
            if isinstance(person, SsiError):
                outcome[edit.ref] = person
                continue
            is_unchanged = etag_of(person) == edit.etag
            if is_unchanged and edit.ref not in wanted:
                wanted[edit.ref] = edit.edit(contact_of(person))
            fields = _changes(person, wanted[edit.ref], edit.link) if edit.ref in wanted else None
            if fields == {}:
                outcome[edit.ref] = self._item(person, groups)
            elif fields is None or not is_unchanged:
                outcome[edit.ref] = Conflict("The contact was changed by somebody else.")
            else:
                changes[edit.ref] = (person, fields)
        for ref, told in bulk.updated(self._calls, changes).items():
            outcome[ref] = told if isinstance(told, SsiError) else self._item(told, groups)
        return outcome

    def move(self, ref: str, folder: str, etag: str) -> ContactItem:
        """Raises: what `Mailbox.move_contact` does."""

        def wish(person: Person, groups: Groups) -> dict[str, Any]:
            own, ours = groups_of(person), self._ours(groups)
            wanted = [name for name in own if name == folder or name not in ours]
            wanted += [] if folder in wanted else [folder]
            return {} if wanted == own else in_groups(wanted)

        return self._write(ref, etag, wish, folder)

    def _write(
        self, ref: str, etag: str, wish: Callable[[Person, Groups], dict[str, Any]], folder: str | None = None
    ) -> ContactItem:
        """Write the fields that `wish` finds to differ, if the contact is still the one of `etag`.

        Raises: NotFound; Conflict; Rejected; Transient if the answers are always lost.
        """
        lost: Unknown | None = None
        for _ in range(TRIES):
            groups, person = self._read(ref)
            _check_folders([folder] if folder is not None else [], groups)
            fields = wish(person, groups)
            if etag_of(person) != etag and (fields or lost is None):
                raise Conflict("The contact was changed by somebody else.")
            if not fields:
                return self._item(person, groups)
            try:
                return self._item(self._updated(person, fields), groups)
            except Unknown as error:
                lost = error
        raise Transient(f"{PEER} did not confirm the contact.") from lost

    def _updated(self, person: Person, fields: Mapping[str, Any]) -> Person:
        """Raises: Conflict if the person was changed since it was read; Unknown."""
        body = {"metadata": {"sources": [source_of(person)]}, **fields}
        return self._confirmed(
            self._people.updateContact(
                resourceName=person["resourceName"], updatePersonFields=",".join(sorted(fields)), body=body, **_ASKED
            )
        )

    def _confirmed(self, call: Call) -> Person:
        person = self._calls.written(call)
        if "resourceName" not in person:
            raise unconfirmed(PEER)
        return person

    def set_mark(self, ref: str, mark: MarkId | None, reason: str | None, names: Mapping[MarkId, str]) -> Marked:
        """Raises: what `Mailbox.set_mark` does."""
        last: SsiError | None = None
        for _ in range(TRIES):
            groups, person = self._read(ref)
            item = self._item(person, groups)
            wanted = merged(item.categories, mark, reason, names)
            if same_names(item.categories, wanted):
                return Marked(item.etag, item.categories)
            try:
                updated = self._updated(person, self._remarked(person, item.categories, wanted, groups))
            except (Conflict, NotFound, Unknown) as error:  # not found is the contact, or a group that was deleted just now
                last = error
                continue
            item = self._item(updated, groups)
            return Marked(item.etag, item.categories)
        if isinstance(last, Unknown):
            raise Transient(f"{PEER} did not confirm the group.") from last
        raise Conflict("Others kept changing the contact while it was marked.") from last

    def _remarked(self, person: Person, current: Sequence[str], wanted: Sequence[str], groups: dict[str, str]) -> dict[str, Any]:
        """Return the memberships that make `wanted` of the categories `current`; a group that is missing is created.

        Raises: AlreadyExists, Unknown, Rejected.
        """
        before, after = {name.casefold() for name in current}, {name.casefold() for name in wanted}
        by_name = {name.casefold(): ref for ref, name in groups.items()}
        kept = [ref for ref in groups_of(person) if groups.get(ref, "").casefold() not in before - after]
        for name in (name for name in wanted if name.casefold() not in before):
            added = by_name.get(name.casefold()) or self._create_group(name)
            groups[added] = groups.get(added, name)
            kept.append(added)
        return in_groups(kept)

    def delete(self, ref: str, etag: str) -> None:
        """Raises: what `Mailbox.delete_contact` does."""
        lost: Unknown | None = None
        for _ in range(TRIES):
            try:
                _, person = self._read(ref)
                if etag_of(person) != etag:
                    raise Conflict("The contact was changed by somebody else.")
                self._calls.written(self._people.deleteContact(resourceName=ref))
            except NotFound:
                return
            except Unknown as error:
                lost = error
                continue
            return
        raise Transient(f"{PEER} did not confirm that the contact is deleted.") from lost

    # Changes

    def page(self, place: Mapping[str, str], folders: Mapping[FolderId, str]) -> Page:
        """Return a page of what changed since `place`, {} for all there is. `folders` are those of contacts.

        Of a contact that changed nobody says where it was before, so it is told as gone from each folder it is not in now, as
        is one that was deleted; who does not know it passes that over. Google may rename one; the old name is gone, too.

        Raises: CursorExpired; NotFound for a folder.
        """
        self._folders |= folders
        tokens = {"pageToken": place.get("page"), "syncToken": place.get("sync")}
        groups, (answer,) = self._with_groups(self._listing(requestSyncToken=True, **tokens))
        _check_folders(folders.values(), groups)
        ours = [folders[folder] for folder in CONTACT_FOLDERS if folder in folders]
        contacts: list[ContactItem] = []
        gone: list[Gone] = []
        for person in answer.get("connections", []):
            metadata = person.get("metadata", {})
            item = None if metadata.get("deleted") else item_of(person, folders=ours, groups=groups)
            present = item.folder if item is not None and item.folder in ours else None
            contacts += [item] if item is not None and present else []
            if "sync" in place:
                gone += [Gone(person["resourceName"], folder) for folder in ours if folder != present]
                gone += [Gone(name, folder) for name in metadata.get("previousResourceNames", []) for folder in ours]
        return Page(tuple(contacts), tuple(gone), *_following(place, answer))


def _new(folder: str, contact: Contact, link: str) -> dict[str, list[Entry]]:
    """Return the body of a contact that is to be made."""
    return changed_fields({}, contact) | linked({}, link) | in_groups([MY_CONTACTS, folder])


def _changes(person: Person, contact: Contact, link: str | None) -> dict[str, list[Entry]]:
    """Return the fields to write so that the person is as `contact`, and keeps this link if it is not None."""
    changed = changed_fields(person, contact)
    return changed | ({} if link is None else linked({**person, **changed}, link))


def _settled(told: ContactItem | SsiError) -> ContactItem | SsiError:
    """Return an outcome, of an update that was lost each time one that invites to try again."""
    if not isinstance(told, Unknown):
        return told
    error = Transient(f"{PEER} did not confirm the contact.")
    error.__cause__ = told
    return error


def _following(place: Mapping[str, str], answer: Mapping[str, Any]) -> tuple[dict[str, str], bool]:
    """Return where the next page or round begins, and whether the round is over. Raises: CursorExpired without any token."""
    since = {"sync": place["sync"]} if "sync" in place else {}
    if "nextPageToken" in answer:
        return {**since, "page": str(answer["nextPageToken"])}, False
    if "nextSyncToken" not in answer:
        raise CursorExpired(f"{PEER} did not say from where changes go on.")
    return {"sync": str(answer["nextSyncToken"])}, True


def _own_groups(answer: Mapping[str, Any]) -> dict[str, str]:
    groups = answer.get("contactGroups", [])
    return {str(g["resourceName"]): str(g.get("name", "")) for g in groups if g.get("groupType") == "USER_CONTACT_GROUP"}


def _check_folders(folders: Iterable[str], groups: Groups) -> None:
    """Raises: NotFound."""
    if not groups.keys() >= set(folders):
        raise NotFound("The folder of contacts is no longer there.")
