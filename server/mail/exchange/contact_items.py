"""The contacts of a mailbox at Exchange: read, found, created, changed, marked, moved and deleted.

A contact is known by its item id, which does not stay when it moves: then it is another contact in another folder.

Many are written by one request for each `WRITTEN_AT_ONCE`. Its answer has one message for each, in their order, and one that is
refused stops no other, but where all that follow would fail, too (`Client.write`). No answer to a write tells a LastModifiedTime,
and it is not read for that alone (page "CreateItem operation": the item id is all there is).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from lxml import etree

from server.domain.contact import Contact
from server.errors import Conflict, Forbidden, NeedsReauth, NotFound, Rejected, SsiError, Transient, Unknown
from server.mail import ContactEdit, ContactItem, Marked, NewContact
from server.mail.exchange.contacts import Found, contact_shape, ews_id_of, link_path, new_contact, read, ref_of, updates
from server.mail.exchange.ews import WRITTEN_AT_ONCE, Client, M, Raw, T, is_equal, search_key_path, shape, xml
from server.mail.exchange.failures import may_still_act, not_known, unintelligible
from server.mail.exchange.messages import (
    LOOKED_UP_AT_ONCE,
    TRIES,
    categories_update,
    final,
    given,
    not_confirmed,
    same_names,
)
from server.mail.hosts import TooLarge

SETTLING_S = 1.0  # after which a contact that was not seen at once is looked for again

_REF = re.compile(r"[A-Za-z0-9_=-]{1,1024}\Z")


class ContactItems:
    """Reads and writes contacts by `client`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.created = 0  # contacts, as far as is known

    # Read

    def contact(self, ref: str) -> ContactItem:
        """Raises: NotFound."""
        return self._found(ref).item

    def find(self, folder: str, link: str) -> ContactItem | None:
        """Raises: NotFound for the folder."""
        return self._linked(folder, [link]).get(link)

    def read(self, ews_ids: list[str]) -> list[Found | SsiError]:
        """Read contacts, in several requests if they are too large for one; what is none is NotFound."""
        if not ews_ids:
            return []
        ids = xml("m:ItemIds", *(xml("t:ItemId", Id=ews_id) for ews_id in ews_ids))
        try:
            answers = self._client.ask_each(xml("m:GetItem", contact_shape(), ids))
        except Rejected as error:
            if len(ews_ids) == 1 or not isinstance(error.__cause__, TooLarge):
                raise
            half = len(ews_ids) // 2
            return self.read(ews_ids[:half]) + self.read(ews_ids[half:])
        if len(answers) != len(ews_ids):
            raise unintelligible(changes=False)
        return [_read(answer) for answer in answers]

    def _found(self, ref: str) -> Found:
        """Raises: NotFound."""
        return given(self._by_ref([ref])[ref])

    def _by_ref(self, refs: Iterable[str]) -> dict[str, Found | SsiError]:
        every = list(refs)
        asked = [ref for ref in every if _REF.match(ref)]
        found = dict(zip(asked, self.read([ews_id_of(ref) for ref in asked]), strict=True))
        return {ref: found.get(ref, NotFound("The mailbox holds no such contact.")) for ref in every}

    def _linked(self, folder: str, links: Sequence[str]) -> dict[str, ContactItem]:
        """Return the contacts of a folder that keep one of these links, by it. Raises: NotFound for the folder."""
        there: dict[str, ContactItem] = {}
        for start in range(0, len(links), LOOKED_UP_AT_ONCE):
            some = links[start : start + LOOKED_UP_AT_ONCE]
            for found in self._search(folder, [is_equal(link_path(), link) for link in some]):
                if found.item.link in some:  # Exchange may not mind upper and lower case
                    there.setdefault(found.item.link, found.item)
        return there

    def _search(self, folder: str, conditions: list[Raw]) -> list[Found]:
        """Return the contacts of a folder that fit one of the conditions. Raises: NotFound for the folder."""
        place, either = xml("t:FolderId", Id=folder), conditions[0] if len(conditions) == 1 else xml("t:Or", *conditions)
        listed = self._client.search("FindItem", shape(), folders=[place], restriction=either)
        ids = [item.find(f"{T}ItemId").get("Id") for item in listed if etree.QName(item).localname == "Contact"]
        return [found for found in self.read(ids) if not isinstance(found, SsiError)]

    # Create

    def create(self, folder: str, new: Sequence[NewContact]) -> list[ContactItem | SsiError]:
        """As `server.mail.Mailbox.create_contacts`; one alone may be without a link, and is then tried once."""
        outcome: dict[str, ContactItem | SsiError] = {}
        for start in range(0, len(new), WRITTEN_AT_ONCE):
            waiting = new[start : start + WRITTEN_AT_ONCE]
            for attempt in range(TRIES):
                outcome |= self._created(folder, waiting, is_again=attempt > 0)
                waiting = [one for one in waiting if one.link and _was_unread(outcome[one.link])]
                if not waiting:
                    break
        self.created += len(new)
        return [outcome[one.link] for one in new]

    def _created(self, folder: str, new: Sequence[NewContact], *, is_again: bool) -> dict[str, ContactItem | SsiError]:
        """Try once, and look for what was not confirmed. With `is_again` they were not confirmed before."""
        outcome: dict[str, ContactItem | SsiError] = {}
        elements: dict[str, Raw] = {}
        for one in new:
            try:
                elements[one.link] = new_contact(one.contact, one.link)
            except Rejected as error:
                outcome[one.link] = error
        contacts = {one.link: one.contact for one in new if one.link in elements}
        try:
            answers = self._client.write(list(elements.values()), lambda parts: _creation(folder, parts))
            _raise_what_concerns_all(answers, NotFound)
        except SsiError as error:
            if not is_again:
                raise
            return {one.link: not_known(error) for one in new}
        for (link, contact), answer in zip(contacts.items(), answers, strict=True):
            outcome[link] = answer if isinstance(answer, SsiError) else _made(answer, folder, contact, link)
        return outcome | self._looked_for(folder, {link: e for link, e in outcome.items() if isinstance(e, Unknown)})

    def _looked_for(self, folder: str, lost: Mapping[str, Unknown]) -> dict[str, ContactItem | SsiError]:
        """Look for contacts whose creation was not confirmed, and once more after a pause; others stay Unknown."""
        there: dict[str, ContactItem] = {}
        missing = [link for link in lost if link]
        try:
            for is_again in (False, True):
                if missing and is_again:
                    self._client.pause(SETTLING_S)
                there |= self._linked(folder, missing)
                missing = [link for link in missing if link not in there]
        except SsiError as error:  # any other would say that nothing was created
            return {**lost, **there, **{link: not_known(error) for link in missing}}
        return {**lost, **there}

    # Change

    def update(self, edits: Sequence[ContactEdit]) -> list[ContactItem | SsiError]:
        """As `server.mail.Mailbox.update_contacts`."""
        outcome: dict[str, ContactItem | SsiError] = {}
        for start in range(0, len(edits), WRITTEN_AT_ONCE):
            waiting, wanted = edits[start : start + WRITTEN_AT_ONCE], dict[str, Contact]()
            for _ in range(TRIES):
                outcome |= self._updated(waiting, wanted)
                waiting = [edit for edit in waiting if isinstance(outcome[edit.ref], Unknown)]
                if not waiting:
                    break
        every = (outcome[edit.ref] for edit in edits)
        return [not_confirmed() if isinstance(one, Unknown) else one for one in every]

    def _updated(self, edits: Sequence[ContactEdit], wanted: dict[str, Contact]) -> dict[str, ContactItem | SsiError]:
        """Read and write once. `wanted` keeps what the edits make of the contacts, since each is asked only once."""
        outcome: dict[str, ContactItem | SsiError] = {}
        writes: dict[str, tuple[Found, list[Raw], str | None]] = {}
        found = self._by_ref(edit.ref for edit in edits)
        for edit in edits:
            try:
                one = given(found[edit.ref])
                if edit.ref not in wanted:
                    _check_etag(one, edit.etag)
                    wanted[edit.ref] = edit.edit(one.item.contact)
                changes = updates(one, wanted[edit.ref], edit.link)
                if changes:  # else it is so already, perhaps by our last try
                    _check_etag(one, edit.etag)
                    writes[edit.ref] = one, changes, edit.link
                else:
                    outcome[edit.ref] = one.item
            except SsiError as error:
                outcome[edit.ref] = error
        answers = self._client.update([(_identifier(one), changes) for one, changes, _ in writes.values()])
        _raise_what_concerns_all(answers)
        for (ref, (one, _, link)), answer in zip(writes.items(), answers, strict=True):
            kept = one.item.link if link is None else link
            outcome[ref] = answer if isinstance(answer, SsiError) else _written(one.item, answer, wanted[ref], kept)
        return outcome

    def mark(self, ref: str, wanted: Callable[[Iterable[str]], list[str]]) -> Marked:
        """Give a contact the categories that are wanted instead of those it has. Raises: NotFound; Conflict."""
        failure: SsiError = not_confirmed()
        for _ in range(TRIES):
            found = self._found(ref)
            names = wanted(found.item.categories)
            if same_names(found.item.categories, names):
                return Marked(found.item.etag, found.item.categories)
            (answer,) = self._client.update([(_identifier(found), [categories_update("t:Contact", names)])])
            if not isinstance(answer, Conflict | Unknown):
                return Marked(given(answer), tuple(names))
            failure = answer
        raise final(failure)

    # Move and delete

    def move(self, ref: str, folder: str, *, etag: str) -> ContactItem:
        """Raises: NotFound; Conflict."""
        search_key = ""
        for _ in range(TRIES):
            try:
                found = self._found(ref)
            except NotFound:
                there = self._search(folder, [is_equal(search_key_path(), search_key)]) if search_key else []
                if not there:
                    raise
                return there[0].item  # our own move, whose answer was lost
            _check_etag(found, etag)
            if found.item.folder == folder:
                return found.item
            try:
                identifier = self._client.move(_identifier(found), folder)
            except Unknown:
                search_key = found.search_key
            else:
                new = {"ref": ref_of(identifier.get("Id")), "etag": identifier.get("ChangeKey", "")}
                return replace(found.item, **new, folder=folder, changed_at=None)
        raise not_confirmed()

    def delete(self, ref: str, *, etag: str) -> None:
        """Raises: Conflict."""
        for _ in range(TRIES):
            try:
                found = self._found(ref)
                _check_etag(found, etag)
                ids = xml("m:ItemIds", _identifier(found))
                self._client.ask(xml("m:DeleteItem", ids, DeleteType="MoveToDeletedItems"), changes=True)
                return
            except NotFound:
                return
            except Unknown:
                continue  # it is seen at the next try
        raise not_confirmed()


def _read(answer: Raw | SsiError) -> Found | SsiError:
    if isinstance(answer, SsiError):
        return answer
    item = answer.find(f"{M}Items")[0]
    return read(item) if etree.QName(item).localname == "Contact" else NotFound("It is no contact.")


def _creation(folder: str, contacts: list[Raw]) -> Raw:
    return xml("m:CreateItem", xml("m:SavedItemFolderId", xml("t:FolderId", Id=folder)), xml("m:Items", *contacts))


def _made(answer: Raw, folder: str, contact: Contact, link: str) -> ContactItem:
    identifier = answer.find(f".//{T}ItemId")
    return ContactItem(ref_of(identifier.get("Id")), identifier.get("ChangeKey", ""), folder, contact, (), link)


def _written(item: ContactItem, etag: str, contact: Contact, link: str) -> ContactItem:
    return replace(item, etag=etag, contact=contact, link=link, changed_at=None)


def _was_unread(outcome: ContactItem | SsiError) -> bool:
    return isinstance(outcome, Unknown) and not may_still_act(outcome)


def _raise_what_concerns_all(answers: Iterable[object], *others: type[SsiError]) -> None:
    """Raises: the first error that any other contact would meet, too."""
    for answer in answers:
        if isinstance(answer, SsiError) and isinstance(answer, (Transient, NeedsReauth, Forbidden, *others)):
            raise answer


def _identifier(found: Found) -> Raw:
    return xml("t:ItemId", Id=found.ews_id, ChangeKey=found.item.etag)


def _check_etag(found: Found, etag: str) -> None:
    if found.item.etag != etag:
        raise Conflict("The contact was changed by somebody else.")
