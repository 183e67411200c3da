"""Creates whose outcome is not known: their answer was lost, or the session that sent them died.

What such a create made is looked for before it is sent again, and may have been changed by others since. In the mailbox it is
known by the name that it was given. Of C4C's types some take a number of ours; of the others, which do not, it is known by what
it holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from server.domain.people import Person, PersonType
from server.mail import ContactItem
from server.services import issues
from server.store import Link
from server.sync.items import Items, link_id
from server.sync.mapping import Base, as_made, as_written, is_akin, read_base
from server.sync.plan import View
from server.sync.run import FOLDER_OF, OVERLAP, Run
from server.sync.writing import Writer


class Unsettled:
    """The creates of one mailbox that a session has to find out about."""

    def __init__(
        self,
        run: Run,
        items: Items,
        writer: Writer,
        *,
        plan: Callable[[Link, ContactItem | View, Person | View], None],
        read: Callable[[Sequence[Link]], Mapping[tuple[PersonType, str], Person]],
        base_of: Callable[[Person], Base],
        dry: bool = False,
    ) -> None:
        """`plan` a link with what was read of both sides; `read` the records of links. `dry`: change nothing."""
        self._run, self._items, self._writer = run, items, writer
        self._plan, self._read, self._base_of = plan, read, base_of
        self._dry = dry
        self._unsure: dict[str, tuple[Link, ContactItem]] = {}  # creates in C4C that are not found, by the link's id
        self._known_bereft: dict[str, Link] | None = None

    def settle_items(self, sent: Sequence[Link]) -> None:
        """Find the contacts that creates in the mailbox made; create those anew that are not there."""
        run = self._run
        by_link: dict[str, list[ContactItem]] = defaultdict(list)
        for told in self._items.told.values():
            by_link[link_id(told.item)].append(told.item)
        found, people = list[Link](), self._read(sent)
        to_create: dict[PersonType, list[tuple[Link, Person]]] = defaultdict(list)
        gone: list[str] = []
        for link in sent:
            folder, person = run.folders[FOLDER_OF[link.type]], people.get((link.type, str(link.record_id)))
            several = sorted(by_link.get(link.id, []), key=lambda one: one.link != link.item_name)
            item = several.pop(0) if several else run.mailbox.find_contact(folder, link.item_name)
            if item is not None:
                self._items.told.pop(item.ref, None)
                linked = self._writer.with_item(replace(link, state="linked", code="", sent_at=None), item)
                for other in several:
                    self._items.take_besides(other, linked)
                here = read_base(linked.item_base)
                written = as_written(read_base(link.record_base), here)
                linked = replace(linked, item_base=written.text)
                if person is None:
                    found.append(replace(linked, code="again"))
                elif written != here:
                    self._plan(linked, item, person)
                else:
                    found.append(linked)
            elif link.sent_at is not None and run.deps.now() - link.sent_at < self._patience:
                self._writer.unsettled += 1
            elif person is None or person.is_obsolete:
                gone.append(link.id)
            else:
                to_create[link.type].append((link, person))
        if found or gone:
            run.keep(found, drop=gone)
        for new in to_create.values():
            self._writer.create_items(new)

    def settle_records(self, sent: Sequence[Link]) -> None:
        """Find the records that creates in C4C made; those that are not there are left to `claims` and `take`."""
        run = self._run
        adopted: list[tuple[Link, ContactItem, Person]] = []
        besides = self._linked_records() if sent else set()
        for link in sent:
            told = self._items.told.pop(str(link.item_ref), None)
            item = told.item if told is not None else self._items.read(str(link.item_ref))
            if item is None:  # deleted before we knew what became of its record: should there be one, it is not brought back
                run.mend(issues.key_of(link.type, link.id))
                run.keep(
                    [replace(link, state="ignored", code="deleted", item_ref=None, item_etag="", record_base=link.item_base)]
                )
                continue
            person = self._writer.find_record(link, item, besides)
            if person is not None:
                adopted.append((link, item, person))
                besides.add(person.id)  # of two equal contacts, each has its own
            elif link.sent_at is not None and run.deps.now() - link.sent_at < self._patience:
                self._writer.unsettled += 1
            else:  # it is created unless C4C tells of it yet: a contact that was changed since is not found
                self._unsure[link.id] = (link, item)
        self._writer.adopt_records(adopted)

    def _linked_records(self) -> set[str]:
        with self._run.deps.store.transaction(reading=True) as tx:
            return {link.record_id for link in tx.links(self._run.connection.id) if link.record_id}

    def claims(self, person: Person) -> bool:
        """Give a new record to the link whose create made it, if there is one; say whether there is."""
        if not self._unsure and not self._bereft:
            return False
        now = self._base_of(person)
        made = self._made_by(person, now) if now.is_like_somebody else None
        if made is None:
            return False
        link = replace(made, record_id=person.id, sent_at=None)
        if link.id in self._unsure:
            _, item = self._unsure.pop(link.id)
            made_of = as_made(link.type, read_base(link.item_base), now).text
            self._plan(replace(link, state="linked", record_base=made_of), item, person)
            return True
        del self._bereft[link.id]
        if not self._dry:
            self._run.keep([link])
        return True

    def take(self) -> list[tuple[Link, ContactItem]]:
        """Return the creates in C4C that made nothing, and forget them: they are to be sent again."""
        unsure, self._unsure = self._unsure, {}
        return list(unsure.values())

    def leave(self, types: Collection[PersonType]) -> None:
        """Find out nothing more about these types."""
        self._unsure = {id: (link, item) for id, (link, item) in self._unsure.items() if link.type not in types}

    def _made_by(self, person: Person, now: Base) -> Link | None:
        unsure = [(link, read_base(link.item_base)) for link, _ in self._unsure.values()]
        bereft = [(link, read_base(link.record_base)) for link in self._bereft.values()]
        could = [(link, sent) for link, sent in (*unsure, *bereft) if link.type == person.type]
        alike = [link for link, sent in could if sent.likeness == now.likeness]
        akin = [link for link, sent in could if is_akin(sent, now) and self._is_of_its_time(person, link)]
        found = alike[:1] or akin
        return found[0] if len(found) == 1 else None  # of several akin nobody can say whose it is

    @property
    def _bereft(self) -> dict[str, Link]:
        """The links whose contact was deleted before anybody knew of its record, by their ids."""
        if self._known_bereft is None:
            with self._run.deps.store.transaction(reading=True) as tx:
                deleted = tx.links_with_code(self._run.connection.id, "deleted")
            self._known_bereft = {link.id: link for link in deleted if not link.item_ref and not link.record_id}
        return self._known_bereft

    def _is_of_its_time(self, person: Person, link: Link) -> bool:
        if person.created_at is None or link.sent_at is None:
            return False
        return -OVERLAP <= person.created_at - link.sent_at <= self._patience + OVERLAP

    @property
    def _patience(self) -> timedelta:
        return timedelta(seconds=self._run.deps.limits.unknown_settle_s)
