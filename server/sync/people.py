"""Mirror people: read what changed on both sides, plan, and have it written.

Order: all changes of the mailbox first, because what is new there may be the very person that is new in C4C; then C4C's, page by
page. What C4C has new is created at once, so that a first session of any size holds one page in memory; everything that
overwrites or deletes waits until its number is known, for the guard. Cursors are handed to the session, which keeps them last: a
session that dies before reads the same again, and finds by the links what is done.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeVar

from server import logs
from server.c4c import PeoplePage
from server.domain.people import PERSON_TYPES, Person, PersonType, Scope
from server.domain.sentences import because
from server.errors import Forbidden
from server.mail import ContactItem, MessageChange
from server.services import issues
from server.services.connections import asking_c4c
from server.store import Link, new_id
from server.sync.applying import GUARD_KEY, apply, remove_doubles, spoken
from server.sync.items import UNPAIRED, Items, Told
from server.sync.mapping import Base, base, fields, read_base, values
from server.sync.plan import GONE, Policy, Seen, View, plan
from server.sync.run import OVERLAP, Run
from server.sync.unsettled import Unsettled
from server.sync.writing import Task, Writer, shown

SETTLED = timedelta(minutes=15)  # no row that is so old gets a younger neighbour before it
SWEEP_EVERY = timedelta(hours=24)
WAITING = ("again", "guard")
"""Codes of links that the next session has to look at again."""
FAILED = ("failed",)
ADOPTABLE = ("first_upload", "not_wanted", "record_gone")
"""Codes of contacts without a record that are paired with one that turns up."""
_MANY = 100  # links to read one by one; for more, the mailbox is listed anew

T = TypeVar("T")
log = logs.get(__name__)


@dataclass(slots=True)
class Cursors:
    """Up to where both sides were read, to be kept when all of it is done."""

    records: dict[str, datetime] = field(default_factory=dict)
    swept_at: datetime | None = None


class Mirror:
    """What one session learns about people and does about it."""

    def __init__(self, run: Run, *, dry: bool = False) -> None:
        self._run = run
        self._dry = dry
        self.writer = Writer(run)
        self.cursors = Cursors(dict(run.sync.crm_cursors))
        uploads = run.sync.uploads if run.is_first else "yes"
        self._policies = {type: Policy.of(run.profile, type, uploads=uploads) for type in PERSON_TYPES}
        if not run.employee_id:  # nothing is theirs
            nothing = {type: replace(one, filter="none") for type, one in self._policies.items() if one.filter == "mine"}
            self._policies |= nothing
        before = {type for type, one in self._policies.items() if one.is_on and _hidden_key(type) in run.sync.crm_cursors}
        self._hidden: set[PersonType] = set() if self._is_sweeping else before  # that C4C does not show the person
        self.items = Items(run, None if self._wants_whole_list() else run.sync.cursor, dry=dry)
        self._dormant: dict[tuple[PersonType, str], list[Link]] | None = None
        self._tasks: list[Task] = []
        self._planned: dict[str, ContactItem | View] = {}  # link's id -> its contact, as far as it was told
        self._unsettled = Unsettled(
            run,
            self.items,
            self.writer,
            plan=self._plan,
            read=self._read,
            base_of=lambda one: self._seen_person(one).now,
            dry=dry,
        )
        self._counted: Counter[PersonType] | None = None
        self._left_out: Counter[PersonType] = Counter()
        self.listed: set[PersonType] = set()  # types that C4C told from the beginning
        self.planned: list[tuple[str, PersonType, str]] = []  # of a dry run: what, type, who

    def _wants_whole_list(self) -> bool:
        """Say whether values that were not mirrored before, or links that wait, need every contact read."""
        sync = self._run.sync
        on = [policy for policy in self._policies.values() if policy.is_on and policy.type not in self._hidden]
        new_scopes = {_scope_key(policy) for policy in on} - set(sync.crm_cursors)
        waiting = sync.counts.get("waiting", 0)
        is_allowed = sync.allowed_at is not None and waiting > _MANY
        is_released = sync.uploads != "ask" and sync.counts.get("held", 0) > _MANY
        return bool(new_scopes and not self._run.is_first) or is_allowed or is_released

    # --- what an earlier session left open ---

    def settle(self) -> None:
        """Find out what became of creates whose outcome is not known, and read again what waits."""
        run, sync = self._run, self._run.sync
        is_quiet = sync.state == "done" and not sync.counts.get("waiting")
        if self._dry or (is_quiet and not run.is_forced and sync.allowed_at is None):
            return
        with run.deps.store.transaction(reading=True) as tx:
            sent = tx.links_in_state(sync.connection_id, "creating_item", "creating_record")
            again = tx.links_with_code(sync.connection_id, *WAITING, *(FAILED if run.is_forced else ()))
            refused = tx.links_with_code(sync.connection_id, "refused") if run.is_forced else []
        self.writer.waiting += sum(link.type in self._hidden for link in (*sent, *again))
        sent, again, refused = ([link for link in links if link.type not in self._hidden] for links in (sent, again, refused))
        self._leave_hidden()
        self._ask_again([link for link in again if link.code == "guard"])
        self._unsettled.settle_items([link for link in sent if link.state == "creating_item" and link.sent_at is not None])
        self._unsettled.settle_records([link for link in sent if link.state == "creating_record"])
        self._reread([link for link in again if link.state == "linked"])
        self._retry(refused)

    def _reread(self, links: Sequence[Link]) -> None:
        """Plan links again of which it is not known what they hold by now."""
        is_allowed = self._run.sync.allowed_at is not None
        wanted = [link for link in links if is_allowed or link.code != "guard"]
        held = [link for link in links if not is_allowed and link.code == "guard"]
        self.writer.waiting += sum(self.items.told_of(link) is None for link in held)
        people = self._read(wanted)
        for link in wanted:
            told = self.items.told_of(link)
            if told is not None:
                del self.items.told[told.item.ref]
                link = told.link or link
            is_gone = self.items.gone.pop(str(link.item_ref), None) is not None
            item = told.item if told is not None else None if is_gone else self.items.read(str(link.item_ref))
            person = people.get((link.type, str(link.record_id)))
            self._plan(link, item or GONE, person or GONE)

    def _ask_again(self, held: Sequence[Link]) -> None:
        """Ask once more, once a day or when somebody wants a session, for a yes to what the guard holds back."""
        run = self._run
        if not held or run.sync.allowed_at is not None or not self._is_sweeping:
            return
        with run.deps.store.transaction(reading=True) as tx:
            is_asked = GUARD_KEY in tx.issues_on(run.connection.id, [GUARD_KEY])
        if not is_asked:
            cause = because("guard_waits", number=len(held))
            run.tell(issues.Finding("mailbox", GUARD_KEY, "guard", cause, choices=issues.GUARD))

    def _retry(self, refused: Sequence[Link]) -> None:
        """Try creates again that one side refused, since somebody asks for it."""
        people = self._read([link for link in refused if not link.item_ref])
        to_create: dict[PersonType, list[tuple[Link, Person]]] = defaultdict(list)
        for link in refused:
            person = people.get((link.type, str(link.record_id)))
            if person is not None and not person.is_obsolete:
                to_create[link.type].append((link, person))
            elif link.item_ref and (item := self.items.read(link.item_ref)) is not None:
                self.items.told[item.ref] = Told(item, link.type, replace(link, item_base=""))
        for new in to_create.values():
            self.writer.create_items(new)

    def _read(self, links: Sequence[Link]) -> dict[tuple[PersonType, str], Person]:
        """Read the records of these links, with their private address where that is mirrored."""
        wanted = [(link.type, link.record_id) for link in links if link.record_id]
        with asking_c4c(self._run.principal):
            return self._run.people.read(wanted, home=self._run.profile.contacts_home) if wanted else {}

    # --- C4C ---

    def pull_records(self) -> None:
        """Read what changed in C4C; create what is new, and plan the rest."""
        run, began = self._run, self._run.sync.began_at or self._run.deps.now()
        on = [policy for policy in self._policies.values() if policy.is_on and policy.type not in self._hidden]
        asks = [(self._scope(policy), self.cursors.records.get(_scope_key(policy))) for policy in on]
        if asks:
            with asking_c4c(run.principal):
                pages = _shown(run.people.changed(asks))
            self._hidden |= {policy.type for policy, page in zip(on, pages, strict=True) if page is None}
            self.writer.total = sum(page.total or 0 for page in pages if page is not None)
            for policy, (scope, since), page in zip(on, asks, pages, strict=True):
                if page is not None:
                    self.cursors.records[_scope_key(policy)] = self._pull_type(policy, scope, since, page, began)
        kept = {_scope_key(policy) for policy in on if policy.type not in self._hidden}
        self.cursors.records = {key: at for key, at in self.cursors.records.items() if key in kept}
        self.cursors.records |= {_hidden_key(type): began for type in self._hidden}
        self._tell_hidden({policy.type for policy in on})

    def _leave_hidden(self) -> None:
        """Let everything of the types be that C4C does not show the person, since nobody knows what is there.

        Should it show them again, both sides are read from the beginning.
        """
        self.items.leave(self._hidden)
        self._tasks = [task for task in self._tasks if task.link.type not in self._hidden]
        self._unsettled.leave(self._hidden)

    def _tell_hidden(self, asked: Set[PersonType]) -> None:
        run = self._run
        for type in PERSON_TYPES:
            key = issues.key_of("mailbox", f"no_rights:{type}")
            if type in self._hidden & asked:
                cause = because("no_rights")
                run.tell(issues.Finding("mailbox", key, "no_rights", cause, name=type, choices=(issues.DISMISS,)))
            elif type not in self._hidden and _hidden_key(type) in run.sync.crm_cursors:
                run.mend(key)

    def _pull_type(self, policy: Policy, scope: Scope, since: datetime | None, page: PeoplePage, began: datetime) -> datetime:
        run, newest, told = self._run, since, set[str]()
        while True:
            self._take_people(policy, page.people)
            told |= {person.id for person in page.people} if since is None else set()
            changed = [person.changed_at for person in page.people if person.changed_at is not None]
            newest = max([*changed, *([newest] if newest else [])], default=None)
            if page.is_last:
                break
            with asking_c4c(run.principal):
                page = run.people.next(scope, page.after)
        if since is None:
            self.listed.add(policy.type)
            self._take_absent(policy, told)
        return _cursor(since, newest, began)

    def _scope(self, policy: Policy) -> Scope:
        owner = self._run.employee_id if policy.filter == "mine" else None
        return Scope(policy.type, owner, home=policy.home)

    def _take_people(self, policy: Policy, people: Sequence[Person]) -> None:
        run = self._run
        latest = {person.id: person for person in people}
        if not latest:
            return
        with run.deps.store.transaction(reading=True) as tx:
            known = tx.links_by_record(run.connection.id, policy.type, latest)
        known |= {str(task.link.record_id): task.link for task in self._tasks if task.link.type == policy.type}
        new = []
        to_fill: list[tuple[Link, Person]] = []  # a folder that was made anew
        for person in latest.values():
            link = known.get(person.id)
            if link is not None and link.state == "creating_item":
                to_fill += [(link, person)] if link.sent_at is None and not person.is_obsolete else []
            elif link is not None:
                self._take_person(link, person)
            elif not self._unsettled.claims(person) and not person.is_obsolete and not self._adopted(person, policy):
                new.append(person)
        if not self._dry:
            self.writer.create_items(to_fill)
        self._create_items(policy, new)

    def _take_person(self, link: Link, person: Person) -> None:
        item: View | ContactItem = GONE if link.item_ref in self.items.gone else None
        if link.id in self._planned:  # it changed while we read: the newest counts
            item = self._planned.pop(link.id)
            self._tasks = [task for task in self._tasks if task.link.id != link.id]
        told = self.items.told_of(link)
        if told is not None:
            item, link = told.item, told.link or link
        is_same = read_base(link.record_base) == self._seen_person(person).now
        if item is None and not link.code and is_same and not person.is_obsolete:
            return
        if item is None and link.code in (*WAITING, *FAILED):
            item = self.items.read(str(link.item_ref)) or GONE
        if told is not None:
            del self.items.told[told.item.ref]
        self.items.gone.pop(str(link.item_ref), None)
        self._plan(link, item, person)

    def _adopted(self, person: Person, policy: Policy) -> bool:
        """Pair a new record with the one contact that is taken for the same person, if there is one."""
        now = self._seen_person(person).now
        like = now.likeness
        if not now.is_like_somebody:
            return False
        told = _fitting(self.items.alike(policy.type, now), now, lambda one: self.items.seen(one.item, one.type).now)
        if told is not None:
            del self.items.told[told.item.ref]
            link = self._run.new_link(policy.type, new_id(), state="linked", origin="mailbox", record_id=person.id)
            self._plan(replace(link, item_ref=told.item.ref, folder=told.item.folder), told.item, person)
            return True
        sleeping = [link for link in self._sleeping().get((policy.type, like), []) if link.item_ref and not link.record_id]
        could = [link for link in sleeping if link.code in ADOPTABLE and link.item_ref not in self.items.gone]
        held = _fitting(could, now, lambda one: read_base(one.item_base))
        if held is not None:
            told_held = self.items.told.pop(str(held.item_ref), None)
            own = told_held.item if told_held else self.items.read(str(held.item_ref))
            if own is not None:
                self._sleeping()[policy.type, like].remove(held)
                link = replace(held, state="linked", code="", record_id=person.id, item_base="", record_base="")
                self._plan(link, own, person)
                return True
        return False

    def _sleeping(self) -> dict[tuple[PersonType, str], list[Link]]:
        """Return the links that are not mirrored, by the likeness of the side that is there."""
        if self._dormant is None:
            self._dormant = defaultdict(list)
            with self._run.deps.store.transaction(reading=True) as tx:
                for link in tx.links_in_state(self._run.connection.id, "held", "ignored"):
                    likeness = read_base(link.item_base if link.item_ref else link.record_base).likeness
                    self._dormant[link.type, likeness].append(link)
        return self._dormant

    def _create_items(self, policy: Policy, people: Sequence[Person]) -> None:
        if not people:
            return
        room = max(0, self._run.profile.max_people - self._linked[policy.type])
        self._left_out[policy.type] += max(0, len(people) - room)
        wanted = people[:room]
        self._linked[policy.type] += len(wanted)
        if self._dry:
            self.planned += [("create in the mailbox", policy.type, shown(person.contact)) for person in wanted]
            return
        run = self._run
        new = [(run.new_link(policy.type, new_id(), state="creating_item", origin="c4c"), person) for person in wanted]
        self.writer.create_items(new)

    @property
    def _linked(self) -> Counter[PersonType]:
        """How many of each type are mirrored."""
        if self._counted is None:
            self._counted = Counter()
            with self._run.deps.store.transaction(reading=True) as tx:
                for (type, state), number in tx.count_links(self._run.connection.id).items():
                    self._counted[type] += number if state in ("linked", "creating_item", "creating_record") else 0
        return self._counted

    def _take_absent(self, policy: Policy, told: set[str]) -> None:
        """Look at the linked records that are not in a scope that was told from the beginning."""
        run = self._run
        with run.deps.store.transaction(reading=True) as tx:
            absent = [
                link
                for link in tx.links(run.connection.id, policy.type)
                if link.record_id
                and link.record_id not in told
                and link.code != "guard"  # it waits for a yes
                and (link.state in ("linked", "creating_item") or (link.code == "filtered" and link.item_ref))
            ]
        self._take_lost(policy, absent)

    def sweep(self) -> None:
        """Once a day look for linked records that C4C no longer has there, and for others that no change told of."""
        run, now = self._run, self._run.deps.now()
        if not self._is_sweeping:
            return
        for policy in self._policies.values():
            if not policy.is_on or policy.type in self.listed | self._hidden or self._filled_up(policy):
                continue
            there, after, scope = set[str](), None, self._scope(policy)
            with asking_c4c(run.principal):
                while True:
                    some, after = run.people.ids(scope, after)
                    there |= some
                    if after is None:
                        break
            self._take_absent(policy, there)
            self._take_untold(policy, there)
        self.cursors.swept_at = now

    def _take_untold(self, policy: Policy, there: set[str]) -> None:
        """Bring down who can be seen without having changed since, as by a right that was given, as far as there is room."""
        run = self._run
        with run.deps.store.transaction(reading=True) as tx:
            known = {link.record_id for link in tx.links(run.connection.id, policy.type)}
        known |= {task.link.record_id for task in self._tasks}
        untold = sorted(there - known)[: max(0, run.profile.max_people - self._linked[policy.type])]
        for start in range(0, len(untold), _MANY):
            refs = [(policy.type, record_id) for record_id in untold[start : start + _MANY]]
            with asking_c4c(run.principal):
                people = run.people.read(refs, home=policy.home)
            self._take_people(policy, list(people.values()))

    @property
    def _is_sweeping(self) -> bool:
        run, swept_at = self._run, self._run.sync.swept_at
        return swept_at is None or run.deps.now() - swept_at >= SWEEP_EVERY or run.is_forced

    def _filled_up(self, policy: Policy) -> bool:
        """Bring down who was left out, if there is room for some by now; say whether there was."""
        run, key = self._run, issues.key_of("mailbox", f"too_many:{policy.type}")
        with run.deps.store.transaction(reading=True) as tx:
            has_left_out = key in tx.issues_on(run.connection.id, [key])
        if not has_left_out or self._linked[policy.type] >= run.profile.max_people:
            return False
        scope = self._scope(policy)
        with asking_c4c(run.principal):
            (page,) = run.people.changed([(scope, None)])
        if isinstance(page, Forbidden):  # though it was shown a moment ago
            raise page
        self._left_out[policy.type] = 0
        self._pull_type(policy, scope, None, page, run.sync.began_at or run.deps.now())
        return True

    def _take_lost(self, policy: Policy, links: Sequence[Link]) -> None:
        """Read records that are not where they were expected: who is another's now, or gone, leaves; others stay."""
        people, unmade = self._read(links), list[str]()
        to_fill: list[tuple[Link, Person]] = []  # a folder that was made anew
        for link in links:
            person = people.get((link.type, str(link.record_id)))
            is_there = person is not None and not person.is_obsolete
            is_ours = person is not None and policy.filter == "mine" and person.owner_id == self._run.employee_id
            stays = is_there and (policy.filter == "all" or is_ours or link.origin == "mailbox")
            if link.state == "creating_item":
                if person is None:
                    unmade.append(link.id)
                elif stays and link.sent_at is None:
                    to_fill.append((link, person))
                continue
            if stays or link.id in self._planned:
                continue
            told = self.items.told_of(link)
            if told is not None:
                del self.items.told[told.item.ref]
                link = told.link or link
            item = told.item if told is not None else GONE if self.items.gone.pop(str(link.item_ref), None) else None
            self._plan(link, item, GONE)
        if not self._dry:
            if unmade:
                self._run.keep(drop=unmade)
            self.writer.create_items(to_fill)

    # --- planning ---

    def finish_items(self) -> None:
        """Plan what changed in the mailbox alone."""
        self._leave_hidden()
        self._plan_gone()
        linked = [told for told in self.items.told.values() if told.link is not None and told.link.record_id]
        people = self._read([told.link for told in linked if told.link is not None])
        for told in linked:
            if told.link is not None:
                self._plan(told.link, told.item, people.get((told.type, str(told.link.record_id)), GONE))
        new: list[tuple[Link, ContactItem]] = []
        quiet: list[Link] = []
        for told in self.items.told.values():
            if told.link is None or not told.link.record_id:
                self._plan_new(told, new, quiet)
        self.items.told.clear()
        if not self._dry:
            self.writer.create_records([*self._unsettled.take(), *new])
            if quiet:
                self._run.keep(quiet)

    def _plan_gone(self) -> None:
        gone, self.items.gone = self.items.gone, {}
        needed = [
            link for link in gone.values() if self._policies[link.type].read_only or self._run.profile.deleting == "obsolete"
        ]
        people = self._read([link for link in needed if link.state == "linked"])
        for link in gone.values():
            person = people.get((link.type, str(link.record_id)))
            missing = link in needed and link.state == "linked" and person is None
            self._plan(link, GONE, GONE if missing else person)

    def _plan_new(self, told: Told, new: list[tuple[Link, ContactItem]], quiet: list[Link]) -> None:
        """Decide about a contact without a record."""
        run, seen = self._run, self.items.seen(told.item, told.type)
        link = told.link
        if (link is None or link.code == "double") and (known := self._unlinked_record(told, seen)) is not None:
            if link is not None and not self._dry:
                run.keep(drop=[link.id])
            self._sleeping()[told.type, seen.now.likeness].clear()
            self._plan(known, told.item, self._read([known]).get((told.type, str(known.record_id)), GONE))
            return
        policy = self._policies[told.type]
        is_held = link is not None and link.state == "held"
        action = plan(link, seen, None, replace(policy, uploads=run.sync.uploads) if is_held else policy)
        fresh = link or run.new_link(told.type, new_id(), state="held", origin="mailbox")
        if action.do == "create_record":
            self.planned.append(("create in C4C", told.type, shown(told.item.contact)))
            new.append((fresh, told.item))
        elif self._dry:
            self.planned.append((action.do, told.type, shown(told.item.contact)))
        elif action.do == "hold":
            quiet.append(self.writer.with_item(replace(fresh, state="held", code=action.code), told.item))
        elif action.do == "refuse":
            quiet.append(self._refused(fresh, told.item, action.code))
        elif link is not None:
            present = self.writer.with_item(link, told.item)
            quiet.append(replace(present, item_base=link.item_base) if link.code == "refused" else present)  # till it goes up

    def _unlinked_record(self, told: Told, seen: Seen) -> Link | None:
        """Return the link of the record that a new contact is taken for, whose own contact was deleted."""
        policy = self._policies[told.type]
        found = [
            link for link in self._sleeping().get((told.type, seen.now.likeness), []) if link.record_id and not link.item_ref
        ]
        found = [link for link in found if link.id not in self._planned]
        if len(found) != 1 or not policy.is_on or found[0].code not in UNPAIRED:
            return None
        return replace(found[0], state="linked", code="", item_ref=told.item.ref, folder=told.item.folder, item_base="")

    def _refused(self, link: Link, item: ContactItem, code: str) -> Link:
        """A contact may not go to C4C: say so, and take the share mark from it."""
        run = self._run
        link = self.writer.with_item(replace(link, state="ignored", code=code), item)
        if code == "may_not_upload":
            run.counts["refused"] += 1
            run.tell(
                issues.Finding(
                    link.type,
                    issues.key_of(link.type, link.id),
                    code,
                    name=shown(item.contact),
                    item_ref=item.ref,
                    choices=(issues.DISMISS,),
                )
            )
            if self.items.is_asked_for(item):
                self.writer.mark(link, None)
        return link

    def _plan(self, link: Link, item: ContactItem | View, person: Person | View) -> None:
        """Plan a link, and keep what is to be done until the guard has counted it."""
        policy = self._policies[link.type]
        here = self.items.seen(item, link.type) if isinstance(item, ContactItem) else item
        there: View = person if not isinstance(person, Person) else GONE if person.is_obsolete else self._seen_person(person)
        action = plan(link, here, there, policy)
        if action.do == "nothing":
            return
        self._planned[link.id] = item
        read_item = item if isinstance(item, ContactItem) else None
        self._tasks.append(Task(action, link, read_item, person if isinstance(person, Person) else None))

    def _seen_person(self, person: Person) -> Seen:
        present = values(person.contact, fields(person.type, home=self._run.profile.contacts_home))
        return Seen(present, base(person.type, present, self._run.hasher), person.changed_at)

    # --- doing it ---

    def apply(self) -> None:
        """Do what is planned."""
        doubles, self.items.doubles = self.items.doubles, []
        if self._dry:
            self.planned += map(spoken, self._tasks)
            self.planned += [("delete double", told.type, shown(told.item.contact)) for told in doubles]
            return
        if self._run.sync.counts.get("waiting") and not self.writer.waiting:
            self._run.mend(GUARD_KEY)  # nothing is left of what it asks about
        tasks, self._tasks = self._tasks, []
        if tasks:
            apply(self._run, self.writer, tasks, linked=sum(self._linked.values()))
        if doubles:
            remove_doubles(self._run, self.writer, doubles, linked=sum(self._linked.values()))
        self._tell_left_out()

    def catch_up(self) -> list[MessageChange]:
        """Read the mailbox once more if contacts were created or moved there; return the messages of it.

        Exchange tells nothing of what came and went between two cursors: were the cursor kept from before, a contact that its
        owner deletes before the next session would be missed.
        """
        if not (self._run.counts["created_in_mailbox"] or self.items.has_moved):
            return []
        messages = self.items.pull()
        self._planned.clear()
        self.finish_items()
        self.apply()
        return messages

    def _tell_left_out(self) -> None:
        run = self._run
        for type, number in self._left_out.items():
            key = issues.key_of("mailbox", f"too_many:{type}")
            if number:
                cause = because("too_many", number=number, limit=run.profile.max_people)
                run.tell(issues.Finding("mailbox", key, "too_many", cause, name=type, choices=(issues.DISMISS,)))
            elif type in self.listed:
                run.mend(key)

    def stop_mirroring(self) -> None:
        """Leave the contacts alone, and their records, of types that are no longer mirrored."""
        run = self._run
        off = {type for type, policy in self._policies.items() if not policy.is_on}
        for type in off & {key.partition("/")[0] for key in run.sync.crm_cursors}:
            with run.deps.store.transaction(reading=True) as tx:
                linked = [link for link in tx.links(run.connection.id, type) if link.state == "linked"]
            self._run.keep([replace(link, state="ignored", code="filtered") for link in linked])

    def ask_about_uploads(self) -> None:
        """Ask once whether the contacts that were in our folders before us may go to C4C."""
        run, key = self._run, issues.key_of("mailbox", "first_upload")
        with run.deps.store.transaction(reading=True) as tx:
            held = tx.links_in_state(run.connection.id, "held")
        if not held:
            return
        run.counts["held"] = len(held)
        cause = because("first_upload", number=len(held))
        run.tell(issues.Finding("mailbox", key, "first_upload", cause, choices=issues.FIRST_UPLOAD))

    def release_held(self) -> None:
        """Do with the contacts that waited what their owner answered."""
        run = self._run
        if run.sync.uploads == "ask" or not (run.sync.counts.get("held") or run.sync.state != "done"):
            return
        with run.deps.store.transaction(reading=True) as tx:
            held = tx.links_in_state(run.connection.id, "held")
        for link in held:
            told = self.items.told.get(str(link.item_ref))
            item = told.item if told is not None else self.items.read(str(link.item_ref))
            if item is not None:
                self.items.told[item.ref] = Told(item, link.type, link)
            else:
                self.items.gone[str(link.item_ref)] = link


def _fitting(found: Sequence[T], now: Base, now_of: Callable[[T], Base]) -> T | None:
    """Return whom a record is paired with: of several that are taken for the same person, one that contradicts it in nothing."""
    if len(found) < 2:
        return next(iter(found), None)
    return next((one for one in found if now_of(one).fits(now)), None)


def _cursor(since: datetime | None, newest: datetime | None, began: datetime) -> datetime:
    """Return from when on C4C is asked the next time. What is settled is not asked for again."""
    if newest is None:
        return began - OVERLAP
    is_settled = newest < began - SETTLED
    cursor = newest + timedelta(milliseconds=1) if is_settled else newest - OVERLAP
    return max(cursor, since) if since is not None else cursor


def _shown(pages: Sequence[PeoplePage | Forbidden]) -> list[PeoplePage | None]:
    """Return None for what C4C does not show the person. Raises: Forbidden if it shows nothing at all."""
    refused = [page for page in pages if isinstance(page, Forbidden)]
    if len(refused) == len(pages):
        raise refused[0]
    return [None if isinstance(page, Forbidden) else page for page in pages]


def _hidden_key(type: PersonType) -> str:
    """Name, beside the cursors, that C4C does not show the person a type."""
    return f"{type}/hidden"


def _scope_key(policy: Policy) -> str:
    """Name what is mirrored of a type, and how; where that is another one, both sides are read anew."""
    return f"{policy.type}/{policy.filter}{'/home' if policy.home else ''}{'/down' if policy.read_only else ''}"
