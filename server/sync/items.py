"""What the mailbox tells of people: contacts that are new, changed or gone since its cursor, each with its link.

What only echoes our own writes is left out. A contact that its owner marked as another type, or moved to another of our folders,
is new there, and its record is left alone. One that is marked in the owner's own folder of contacts is moved to ours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

from server import logs
from server.domain.marks import MarkId, mark_of
from server.domain.people import PersonType
from server.domain.sentences import cause_of
from server.errors import Conflict, CursorExpired, NotFound, Rejected
from server.mail import Changes, ContactItem, Gone, MessageChange
from server.services import issues
from server.store import Link
from server.sync.mapping import Base, base, fields, read_base, values
from server.sync.plan import Seen
from server.sync.run import FOLDER_OF, NAME_SEPARATOR, Run
from server.sync.writing import shown

ASKING: tuple[MarkId, ...] = ("share", "account", "individual_customer")
"""Marks with which a contact of the owner's own folder asks to be mirrored."""

UNPAIRED = ("deleted", "moved")
"""Codes of links whose contact left its folder, and whose record is mirrored again should it come back."""
UNTENDED = ("guard", "filtered")
"""Codes of links whose contact may be gone since long: that waits for a yes, or until their type is mirrored again."""

log = logs.get(__name__)


@dataclass(slots=True)
class Told:
    """A contact that is new or changed."""

    item: ContactItem
    type: PersonType
    link: Link | None


def link_id(item: ContactItem) -> str:
    """Return the id of the link that a contact names, "" if it names none."""
    return item.link.partition(NAME_SEPARATOR)[0]


def made_by(item: ContactItem) -> int:
    """Return the number of the session that a contact's name is from, 0 if it tells none."""
    number = item.link.partition(NAME_SEPARATOR)[2]
    return int(number) if number.isdecimal() and number.isascii() else 0


def was_created(name: str) -> bool:
    """Say whether a name is one that a contact got when we created it; one of its owner's own has the link's id alone."""
    return NAME_SEPARATOR in name


class Items:
    """The contacts of one session that something has to be decided about."""

    def __init__(self, run: Run, cursor: str | None, *, dry: bool = False) -> None:
        """Begin at a cursor; None: every contact is told. `dry`: change nothing."""
        self._run = run
        self._dry = dry
        self._type_of = {ref: type for type, name in FOLDER_OF.items() if (ref := run.folders.get(name))}
        self.cursor = cursor
        self.told: dict[str, Told] = {}  # by ref
        self.gone: dict[str, Link] = {}  # by ref
        self.doubles: list[Told] = []  # that we created although there was one
        self._takers: dict[str, str] = {}  # id of a link that was named -> ref of the contact that got it
        self.has_moved = False  # some of them, to another folder
        self._alike: dict[tuple[PersonType, str], dict[str, None]] = defaultdict(dict)  # likeness -> refs, in their order

    def pull(self) -> list[MessageChange]:
        """Read what changed in the mailbox; return the messages of it. Raises: NotFound if a folder is gone."""
        messages: list[MessageChange] = []
        met = set[str]()  # refs
        while True:
            page = self._changes()
            self.cursor = page.cursor
            messages += page.messages
            met |= {item.ref for item in page.contacts if item.folder in self._type_of} | page.unchanged
            for ref in page.unchanged:
                self.gone.pop(ref, None)
            if page.contacts or page.gone:
                self._take_items(page)
            if page.is_complete:
                break
        for folder in page.whole - {"emails"}:
            self._take_missing(next(type for type, name in FOLDER_OF.items() if name == folder), met | self.told.keys())
        return messages

    def _changes(self) -> Changes:
        run = self._run
        marks = {mark: run.names[mark] for mark in ASKING if mark in run.names}
        try:
            return run.mailbox.changes(self.cursor, folders=run.folders, marks=marks, known=self._known)
        except CursorExpired:
            log.info("the mailbox no longer knows our cursor", connection=run.connection.id)
            return run.mailbox.changes(None, folders=run.folders, marks=marks, known=self._known)

    def _known(self, folder: str, refs: Collection[str]) -> dict[str, str]:
        """Return the etags of contacts whose every field is known, and of which nothing has to be decided."""
        with self._run.deps.store.transaction(reading=True) as tx:
            links = tx.links_by_item(self._run.connection.id, refs)
        return {
            ref: link.item_etag
            for ref, link in links.items()
            if ref not in self.told and link.folder == folder and link.state == "linked" and not link.code and self._is_read(link)
        }

    def _is_read(self, link: Link) -> bool:
        """Say whether each field that is mirrored by now was, too, when the contact was read."""
        return read_base(link.item_base).hashes.keys() >= set(fields(link.type, home=self._run.profile.contacts_home))

    def _take_items(self, page: Changes) -> None:
        run, here = self._run, self._run.connection.id
        with run.deps.store.transaction(reading=True) as tx:
            known = tx.links_by_item(here, {item.ref for item in page.contacts} | {gone.ref for gone in page.gone})
            named = tx.links_by_id(here, {link_id(item) for item in page.contacts if item.ref not in known and item.link})
        for gone in page.gone:
            self._take_gone(gone, known.get(gone.ref))
        touched = [link for item in page.contacts if (link := self._take_item(item, known.get(item.ref), named))]
        if touched and not self._dry:
            run.keep(touched, phase="contacts")

    def _take_gone(self, gone: Gone, link: Link | None) -> None:
        told = self.told.get(gone.ref)
        if told is not None and told.item.folder == gone.folder:
            del self.told[gone.ref]
        if link is not None and link.folder == gone.folder and link.state not in ("creating_item", "creating_record"):
            self.gone[gone.ref] = link

    def _take_item(self, item: ContactItem, link: Link | None, named: Mapping[str, Link]) -> Link | None:
        """Note a contact that changed; return its link if only something changed that is not mirrored."""
        lies_in = self._type_of.get(item.folder)
        type = self._marked_as(item) or lies_in or ("contact" if self.is_asked_for(item) else None)
        if type is None:
            return None
        if type != lies_in and not self._dry and (lies_in is not None or self._may_upload(type)):
            moved = self._moved(item, type)
            item, type = (moved, type) if moved is not None else (item, lies_in)
            if type is None or item.folder not in self._type_of:
                return None
        self.gone.pop(item.ref, None)
        if link is None:
            link = self._named(item, named)
            if link is None and self._is_double(item, type, named.get(link_id(item))):
                self.doubles.append(Told(item, type, None))
                return None
        if link is not None and link.type != type:
            link = self._retyped(link)
        if link is not None and link.state == "linked" and not link.code and link.item_ref == item.ref:
            known = read_base(link.item_base)
            if link.item_etag == item.etag and self._is_read(link):
                return None
            if known == self.seen(item, type).now:
                return replace(link, item_etag=item.etag)
        self.told[item.ref] = Told(item, type, link)
        if link is None:
            self._alike[type, self.seen(item, type).now.likeness][item.ref] = None
        return None

    def take_besides(self, item: ContactItem, link: Link) -> None:
        """Note that a contact names a link, too, that has got another one by now."""
        told = Told(item, link.type, None)
        if self._is_double(item, link.type, link):
            del self.told[item.ref]
            self.doubles.append(told)
        else:
            self.told[item.ref] = told
            self._alike[link.type, self.seen(item, link.type).now.likeness][item.ref] = None

    def leave(self, types: Set[PersonType]) -> None:
        """Decide nothing about contacts of these types."""
        self.told = {ref: told for ref, told in self.told.items() if told.type not in types}
        self.gone = {ref: link for ref, link in self.gone.items() if link.type not in types}
        self.doubles = [told for told in self.doubles if told.type not in types]

    def alike(self, type: PersonType, now: Base) -> list[Told]:
        """Return the contacts without a link that are taken for the same person as the record with these hashes."""
        found = [told for ref in self._alike.get((type, now.likeness), ()) if (told := self.told.get(ref)) and told.link is None]
        return [told for told in found if self.seen(told.item, type).now.likeness == now.likeness]

    def _may_upload(self, type: PersonType) -> bool:
        direction = self._run.profile.direction(type)
        return direction.filter != "none" and not direction.read_only

    def _named(self, item: ContactItem, named: Mapping[str, Link]) -> Link | None:
        """Return the link that a contact names, unless that has another contact, of which this one is a copy."""
        link = named.get(link_id(item))
        if link is None or self._has_another(link, item):
            return None
        self._takers[link.id] = item.ref
        if link.item_ref is not None:
            self.gone.pop(link.item_ref, None)
        state = "linked" if link.record_id and link.state == "ignored" and link.code in UNPAIRED else link.state
        code = "again" if state == "linked" else link.code
        return replace(
            link, item_ref=item.ref, item_name=item.link, item_etag=item.etag, folder=item.folder, state=state, code=code
        )

    def told_of(self, link: Link) -> Told | None:
        """Return what was told of a link's contact, which may be another one than is kept with it."""
        told = self.told.get(self._takers.get(link.id, str(link.item_ref)))
        return told if told is not None and told.link is not None and told.link.id == link.id else None

    def _has_another(self, link: Link, item: ContactItem) -> bool:
        """Say whether a link that a contact names has another contact, which is still there."""
        taker = self._takers.get(link.id, item.ref)
        if taker != item.ref and taker in self.told:
            return True
        if link.item_ref is None or link.item_ref == item.ref or link.item_ref in self.gone:
            return False
        return link.code not in UNTENDED or self.read(link.item_ref) is not None

    def _is_double(self, item: ContactItem, type: PersonType, link: Link | None) -> bool:
        """Say whether a contact is one that we created twice, and that nobody has touched since.

        A copy that its owner makes has the name of the contact that it was made of. What we create has no category.
        """
        if link is None or item.categories or item.link == link.item_name:
            return False
        if not (was_created(item.link) and was_created(link.item_name)):
            return False
        return link.type == type and read_base(link.item_base) == self.seen(item, type).now

    def _retyped(self, link: Link) -> Link | None:
        """A contact went to the folder of another type: it is a new one there, and its record is left as it is."""
        if self._dry:
            return None
        if link.record_id is None:
            self._run.keep(drop=[link.id])
        else:
            self._run.keep([replace(link, state="ignored", code="moved", item_ref=None, item_etag="", sent_at=None)])
        return None

    def _marked_as(self, item: ContactItem) -> PersonType | None:
        carried = {name.casefold() for name in item.categories} - {""}
        asked: tuple[Literal["account", "individual_customer"], ...] = ("account", "individual_customer")
        return next((type for type in asked if self._run.names.get(type, "").casefold() in carried), None)

    def _moved(self, item: ContactItem, type: PersonType) -> ContactItem | None:
        """Return a contact as it is in the folder of a type; None if it may not go there, which is told."""
        run, key = self._run, issues.key_of(type, f"move:{item.ref}")
        try:
            moved = run.mailbox.move_contact(item.ref, run.folders[FOLDER_OF[type]], etag=item.etag)
        except (Conflict, NotFound):  # it comes again, as it is then
            return item
        except Rejected as error:
            cause = cause_of(error)
            run.tell(
                issues.Finding(
                    type, key, "rejected", cause, name=shown(item.contact), item_ref=item.ref, choices=(issues.DISMISS,)
                )
            )
            with suppress(NotFound, Conflict, Rejected):
                run.mailbox.set_contact_mark(item.ref, "error", reason=run.say(cause), names=run.names)
            return None
        run.mend(key)
        self.has_moved = True
        return moved

    def _take_missing(self, type: PersonType, met: Set[str]) -> None:
        """Of a folder that was told from the beginning, what was not told is gone."""
        run, folder = self._run, self._run.folders[FOLDER_OF[type]]
        with run.deps.store.transaction(reading=True) as tx:
            for link in tx.links(run.connection.id, type):
                waits = link.state in ("creating_item", "creating_record")
                is_elsewhere = link.id in self._takers
                if link.item_ref and not waits and link.folder == folder and link.item_ref not in met and not is_elsewhere:
                    self.gone[link.item_ref] = link

    # --- one contact ---

    def read(self, ref: str) -> ContactItem | None:
        """Return the contact as it is now, None if it is gone."""
        try:
            return self._run.mailbox.contact(ref)
        except NotFound:
            return None

    def seen(self, item: ContactItem, type: PersonType) -> Seen:
        """Return what of it is mirrored."""
        present = values(item.contact, fields(type, home=self._run.profile.contacts_home))
        return Seen(present, base(type, present, self._run.hasher), item.changed_at, self.is_asked_for(item))

    def is_asked_for(self, item: ContactItem) -> bool:
        """Say whether it carries the share mark."""
        return any(mark_of(name, self._run.names) == "share" for name in item.categories)
