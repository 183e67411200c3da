"""The contacts of a mailbox at Microsoft 365.

Contacts are written field by field (`graph.contacts`), so that only what differs can meet another writer, and with the etag.
If-Match on a contact is not documented; where the service should ignore it, what another writer does to the same field between
our reading and our writing, one round trip, is overwritten. Many are written in batches: the service judges each part alone
and in any order, four at a time (page throttling-limits, "Outlook service limits"). One contact is a batch of one.

Contacts have no action to move them. By the documentation their parentFolderId can be changed (page contact-update), which
does not say that this moves them; where the service does not, the contact is created anew in the other folder and the old one
is deleted. Its photo, attachments, and what other programs keep in open extensions and extended properties do not come along
then; the old one, in Deleted Items, still has them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from server.domain.contact import Contact
from server.errors import Conflict, NotFound, RateLimited, Rejected, SsiError, Transient, Unknown
from server.mail import ContactEdit, ContactItem, Marked, NewContact
from server.mail.graph import marks as marking
from server.mail.graph.calls import (
    BATCH_PARTS,
    PEER,
    TRIES,
    Call,
    Calls,
    Elsewhere,
    done,
    get,
    raise_if_none_went,
    segment,
    write,
)
from server.mail.graph.contacts import EXPAND, FIELDS, changed, copied, created, has_link, item_of

SETTLING_S = (0.5, 2.0)  # pauses after which we look what a request did whose answer was lost
MAX_WRITTEN = 2 * 1024 * 1024  # bytes of contacts in a request, half of what Graph takes in all (page use-the-api)
MAX_READ = 16 * 1024 * 1024  # bytes of contacts in an answer
FOUND_PAGE = "250"  # contacts with the same link

_READ = {"$select": FIELDS, "$expand": EXPAND}
_TRASH = -1  # numbers the question for Deleted Items among those for contacts

Outcome = ContactItem | SsiError
Told = dict[str, Any] | SsiError
"""What the service said of one contact."""


class AddressBook:
    """One mailbox's contacts; `base` is the mailbox's path. Thread-safe as `Calls` is."""

    def __init__(self, calls: Calls, base: str) -> None:
        self._calls = calls
        self._base = base
        self._trash = ""  # ref of Deleted Items, once it is known; it never changes

    def contact(self, ref: str) -> ContactItem:
        return item_of(self._found(ref))

    def _found(self, ref: str, *also: Call, fields: str = FIELDS) -> dict[str, Any]:
        """Return what Graph has of a contact; what is `also` asked for has to be there, too.

        An immutable id finds a contact in Deleted Items as well, where it is not there any more for us.

        Raises: NotFound.
        """
        options = {"$expand": EXPAND} | ({"$select": fields} if fields else {})
        calls = [get(self._contact(ref), options), *also]
        if not self._trash:
            calls.append(self._asking_for_trash())
        found, *others = self._calls.asked(*calls)
        self._trash = self._trash or str(others[-1]["id"])
        if self._is_deleted(found):
            raise _deleted()
        return found

    def _asking_for_trash(self) -> Call:
        return get(self._base + "/mailFolders/deleteditems", {"$select": "id"})

    def _is_deleted(self, found: Mapping[str, Any]) -> bool:
        return bool(found.get("parentFolderId") == self._trash)

    # Find and create

    def find(self, folder: str, link: str) -> ContactItem | None:
        return self._with_link(self._calls.asked(self._looking(folder, link))[0], folder, link)

    def _looking(self, folder: str, link: str) -> Call:
        return get(self._folder(folder) + "/contacts", {"$filter": has_link(link), **_READ, "$top": FOUND_PAGE})

    def _with_link(self, page: Mapping[str, Any], folder: str, link: str) -> ContactItem | None:
        """Return the contact with the link from what answers `_looking`."""
        inside = [one for one in self._calls.rest_of(page) if one.get("parentFolderId") in (folder, None)]
        items = [item_of(one, folder=folder) for one in inside]
        return next((item for item in items if item.link == link), None)

    def create(self, folder: str, contact: Contact, link: str) -> ContactItem:
        return _only(self._create(folder, [(created(contact, link), link)]))

    def create_many(self, folder: str, new: Sequence[NewContact]) -> list[Outcome]:
        return self._create(folder, [(created(one.contact, one.link), one.link) for one in new])

    def _create(self, folder: str, bodies: Sequence[tuple[Mapping[str, Any], str]]) -> list[Outcome]:
        """Create contacts of bodies and links; when an answer is lost, the link says whether the contact is there.

        It is created again only if it is not to be seen for a while: a request that breaks off has acted by then, or never will.
        Whatever we meet then, it stays Unknown until it is seen. Without a link it is not looked for.

        Raises: NotFound for the folder; what concerns the whole mailbox.
        """
        calls = {n: write("POST", self._folder(folder) + "/contacts", body) for n, (body, _) in enumerate(bodies)}
        outcome = self._created(folder, calls)
        for one in outcome.values():
            if isinstance(one, NotFound):
                raise one
        raise_if_none_went(list(outcome.values()))
        for left in reversed(range(TRIES)):
            lost = {n: bodies[n][1] for n, one in outcome.items() if isinstance(one, Unknown) and bodies[n][1]}
            if not lost or _pause_in(outcome):
                break
            try:
                outcome |= self._settled(folder, lost)
                again = {n: calls[n] for n in lost if isinstance(outcome[n], Unknown)} if left else {}
                outcome |= {n: one for n, one in self._created(folder, again).items() if isinstance(one, ContactItem)}
            except SsiError as error:  # whether they are there is still open
                for n in lost:
                    _explain(outcome[n], error)
                break
        return [outcome[n] for n in calls]

    def _created(self, folder: str, calls: Mapping[int, Call]) -> dict[int, Outcome]:
        told = self._told(calls)
        return {
            n: one if isinstance(one, SsiError) else item_of(one, folder=folder, more=calls[n].body) for n, one in told.items()
        }

    def _told(self, calls: Mapping[int, Call]) -> dict[int, Told]:
        """Make calls, a batch at a time; when the service asks for a longer pause than we wait, the rest are not made."""
        told: dict[int, Told] = {}
        for portion in _portions(calls):
            told |= self._calls.each(portion, max_bytes=MAX_READ)
            if pause := _pause_in(told):
                return {n: told.get(n, pause) for n in calls}
        return told

    def _settled(self, folder: str, lost: Mapping[int, str]) -> dict[int, Outcome]:
        """Look for a while which of the links are there. Raises: SsiError where we cannot look."""
        there: dict[int, Outcome] = {}
        for pause in SETTLING_S:
            self._calls.pause(pause)
            missing = {n: link for n, link in lost.items() if n not in there}
            for n, page in self._told({n: self._looking(folder, link) for n, link in missing.items()}).items():
                if isinstance(page, SsiError):
                    raise page
                found = self._with_link(page, folder, lost[n])
                there |= {} if found is None else {n: found}
            if len(there) == len(lost):
                break
        return there

    # Update

    def update(self, ref: str, contact: Contact, etag: str, link: str | None) -> ContactItem:
        return _only(self.update_many([ContactEdit(ref, etag, lambda _: contact, link)]))

    def update_many(self, edits: Sequence[ContactEdit]) -> list[Outcome]:
        outcome: dict[int, Outcome] = {}
        wishes: dict[int, Contact] = {}
        pending = dict(enumerate(edits))
        for _ in range(TRIES):
            outcome |= self._update(pending, wishes)
            pending = {n: edits[n] for n, one in outcome.items() if isinstance(one, Unknown)}
            if not pending or _pause_in(outcome):
                break
        for n in pending:
            unconfirmed = Transient(f"{PEER} did not confirm the contact.")
            _explain(unconfirmed, outcome[n])
            outcome[n] = unconfirmed
        raise_if_none_went(list(outcome.values()))
        return [outcome[n] for n in range(len(edits))]

    def _update(self, edits: Mapping[int, ContactEdit], wishes: dict[int, Contact]) -> dict[int, Outcome]:
        """Try once to update contacts, a batch at a time, so that little time passes between reading and writing each."""
        outcome: dict[int, Outcome] = {}
        left = list(edits)
        while left:
            size = BATCH_PARTS if self._trash else BATCH_PARTS - 1
            some, left = left[:size], left[size:]
            outcome |= self._update_some({n: edits[n] for n in some}, wishes)
            if pause := _pause_in(outcome):
                outcome |= dict.fromkeys(left, pause)
                break
        return outcome

    def _update_some(self, edits: Mapping[int, ContactEdit], wishes: dict[int, Contact]) -> dict[int, Outcome]:
        """Read contacts of one batch and write those that are not yet as they shall be, which `wishes` keeps.

        For one that has a wish already, a write was lost: if it is as wished for, that one did it.
        """
        found, failed = self._read(edits)
        outcome: dict[int, Outcome] = dict(failed)
        writes: dict[int, Call] = {}
        for n, one in found.items():
            edit, is_current = edits[n], one.get("@odata.etag") == edits[n].etag
            if is_current and n not in wishes:
                wishes[n] = edit.edit(item_of(one).contact)
            body = changed(one, wishes[n], edit.link) if n in wishes else {}
            if n in wishes and not body:
                outcome[n] = item_of(one)
            elif is_current:
                writes[n] = write("PATCH", self._contact(edit.ref), body, if_match=edit.etag)
            else:
                outcome[n] = _changed_meanwhile()
        for n, answer in self._told(writes).items():
            outcome[n] = answer if isinstance(answer, SsiError) else self._updated(found[n], answer, writes[n])
        return outcome

    def _read(self, edits: Mapping[int, ContactEdit]) -> tuple[dict[int, dict[str, Any]], dict[int, SsiError]]:
        """Return what Graph has of each contact, or why it cannot be had."""
        failed: dict[int, SsiError] = {}
        asked: dict[int, Call] = {} if self._trash else {_TRASH: self._asking_for_trash()}
        for n, edit in edits.items():
            try:
                asked[n] = get(self._contact(edit.ref), _READ)
            except NotFound as error:
                failed[n] = error
        told = self._calls.each(asked, max_bytes=MAX_READ)
        trash = told.pop(_TRASH, {"id": self._trash})
        if isinstance(trash, SsiError):
            raise trash
        self._trash = str(trash["id"])
        found: dict[int, dict[str, Any]] = {}
        for n, one in told.items():
            if isinstance(one, SsiError):
                failed[n] = one
            elif self._is_deleted(one):
                failed[n] = _deleted()
            else:
                found[n] = one
        return found, failed

    def _updated(self, before: Mapping[str, Any], written: Mapping[str, Any], call: Call) -> Outcome:
        """Return what became of a contact; `written` is the answer to the call."""
        if self._is_deleted(written):
            return _deleted()
        return item_of(written, more=_extended_after(before, call.body or {}))

    def set_mark(self, ref: str, wish: marking.Wish) -> Marked:
        def read() -> Mapping[str, Any]:
            return self._found(ref, fields="id,parentFolderId,categories")

        return marking.mark(self._calls, self._contact(ref), read, wish)

    # Move and delete

    def move(self, ref: str, folder: str, etag: str) -> ContactItem:
        target = get(self._folder(folder), {"$select": "id"})
        lost: Unknown | None = None
        for _ in range(TRIES):
            try:
                found = self._found(ref, target, fields="")
            except NotFound:
                copy = self.find(folder, _moving(ref))
                if copy is None:
                    raise
                return self._unlinked(copy)  # an earlier try broke off behind the delete
            if found.get("parentFolderId") == folder and (lost or found.get("@odata.etag") == etag):
                return item_of(found)
            _check(found, etag)
            try:
                moved = self._calls.written(write("PATCH", self._contact(ref), {"parentFolderId": folder}, if_match=etag))
            except Unknown as error:
                lost = error
                continue
            except Rejected as error:
                if isinstance(error, Elsewhere):
                    raise
                return self._move_by_copy(found, folder)
            if moved.get("parentFolderId") == folder:
                return item_of(moved, more=found)
            return self._move_by_copy(moved | _extended_of(found), folder)
        raise Transient(f"{PEER} did not confirm the move.") from lost

    def _move_by_copy(self, found: Mapping[str, Any], folder: str) -> ContactItem:
        """Create the contact in the other folder and delete this one; a copy that an earlier try left there is taken."""
        original = item_of(found)
        link = original.link or _moving(original.ref)  # without any, the next try would copy once more
        copy = self.find(folder, link)
        if copy is None:
            try:
                copy = _only(self._create(folder, [(copied(found, link), link)]))
            except Unknown as error:  # the next try looks for it
                raise Transient(f"{PEER} did not confirm the move.") from error
        else:
            copy = self.update(copy.ref, original.contact, copy.etag, None)
        try:
            self.delete(original.ref, original.etag)
        except Conflict:  # it is not the one that was copied: both, or nothing moved
            self.delete(copy.ref, copy.etag)
            raise
        return copy if original.link else self._unlinked(copy)

    def _unlinked(self, copy: ContactItem) -> ContactItem:
        """Take the link from a copy that had it only while it was made."""
        for _ in range(TRIES):
            try:
                return self.update(copy.ref, copy.contact, copy.etag, "")
            except Conflict as error:
                last = error
            copy = self.contact(copy.ref)
        raise Transient(f"{PEER} did not confirm the move.") from last

    def delete(self, ref: str, etag: str) -> None:
        lost: Unknown | None = None
        for _ in range(TRIES):
            try:
                _check(self._found(ref, fields="id,parentFolderId"), etag)
                call = write("DELETE", self._contact(ref), if_match=etag)
                done(self._calls.exchange([call])[0], call)
            except Unknown as error:
                lost = error
            except NotFound:
                return
            else:
                return
        raise Transient(f"{PEER} did not confirm that the contact is deleted.") from lost

    def _contact(self, ref: str) -> str:
        return f"{self._base}/contacts/{segment(ref)}"

    def _folder(self, ref: str) -> str:
        return f"{self._base}/contactFolders/{segment(ref)}"


def _only(outcome: Sequence[Outcome]) -> ContactItem:
    """Return the only one of an outcome. Raises: its error."""
    (one,) = outcome
    if isinstance(one, SsiError):
        raise one
    return one


def _portions(calls: Mapping[int, Call]) -> Iterator[dict[int, Call]]:
    """Cut calls into what one request may hold."""
    portion: dict[int, Call] = {}
    size = 0
    for n, call in calls.items():
        weight = len(json.dumps(call.body))
        if portion and (len(portion) == BATCH_PARTS or size + weight > MAX_WRITTEN):
            yield portion
            portion, size = {}, 0
        portion[n] = call
        size += weight
    if portion:
        yield portion


def _pause_in(outcome: Mapping[int, object]) -> RateLimited | None:
    """Return what says that the service asked for a longer pause than we wait, if it did."""
    return next((one for one in outcome.values() if isinstance(one, RateLimited)), None)


def _explain(error: Outcome, cause: Outcome) -> None:
    if isinstance(error, SsiError) and isinstance(cause, SsiError):
        error.__cause__ = cause


def _moving(ref: str) -> str:
    """Return the link of a copy that is made to move a contact without one."""
    return "move:" + hashlib.sha256(ref.encode()).hexdigest()[:32]


def _check(found: Mapping[str, Any], etag: str) -> None:
    if found.get("@odata.etag") != etag:
        raise _changed_meanwhile()


def _changed_meanwhile() -> Conflict:
    return Conflict("The contact was changed by somebody else.")


def _deleted() -> NotFound:
    return NotFound("The contact was deleted.")


def _extended_of(found: Mapping[str, Any]) -> dict[str, Any]:
    return {"singleValueExtendedProperties": found.get("singleValueExtendedProperties") or []}


def _extended_after(found: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the extended properties that a contact has after the body was written to it; the later one of two counts."""
    both = (*_extended_of(found)["singleValueExtendedProperties"], *_extended_of(body)["singleValueExtendedProperties"])
    return {"singleValueExtendedProperties": list(both)}
