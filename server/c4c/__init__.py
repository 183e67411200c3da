"""Our questions to SAP Cloud for Customer, in the product's terms: who is behind an address, is a message saved, save it.

C4C is one user's view of one tenant. Its methods say how many round trips they take; the protocol is `odata`, the names are in
`mapping`. It stores nothing, caches nothing and decides nothing about what should be shown or saved.

Any method may raise NeedsReauth (the user's sign-in is no longer good), Forbidden (C4C does not let this user ask) and
Transient; the rest is listed per method.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

from server.c4c.codes import CODE_LISTS, Codes
from server.c4c.directory import Candidate, Directory, Entry, Matches, Ready, folded, words_of
from server.c4c.edm import Row, as_text, as_time, can_ask_for, equals, moment
from server.c4c.links import DeepLinks, LinkType
from server.c4c.mapping import (
    ACTIVITY_EXPAND,
    ACTIVITY_SELECT,
    EMPLOYEE_SELECT,
    EMPLOYEES,
    SHAPES,
    ActivityDraft,
    Addressee,
    Employee,
    File,
    RecordUrl,
    activity,
    attachment_body,
    email_body,
    employee,
    link_bodies,
)
from server.c4c.odata import Answers, ODataClient, Read, Result, Write, entity
from server.c4c.pages import ORDER, Position, object_id
from server.c4c.people import People, PeoplePage
from server.c4c.questions import (
    Asked,
    Part,
    by_address,
    by_id,
    by_key,
    by_number,
    by_refs,
    employees_by,
    only_askable,
    records_in,
)
from server.domain.records import PARTY_TYPES, Activity, Record, RecordRef, RecordType
from server.errors import InvalidInput, NotFound, Transient, Unknown

__all__ = [
    "C4C",
    "ActivityDraft",
    "AddressPage",
    "Addressee",
    "Answer",
    "Asked",
    "Candidate",
    "Codes",
    "DeepLinks",
    "Directory",
    "Employee",
    "Entry",
    "File",
    "Known",
    "LinkType",
    "Matches",
    "Me",
    "ODataClient",
    "People",
    "PeoplePage",
    "Question",
    "Ready",
    "folded",
    "words_of",
]


_ADDRESSED: tuple[RecordType, ...] = ("contact", "individual_customer", "account", "lead")
T = TypeVar("T")

_BATCH_SIZE = 50  # SAP's advice for reads in one batch (c4c-odata.md, S14)
_LONGEST_URL = 1500  # characters; C4C has a limit and does not name it (S1), so longer questions go into a batch


@dataclass(frozen=True, slots=True)
class Question:
    """What the sidebar wants to know about one message.

    `addresses` are all spellings to ask for, `known` are ObjectIDs that the spelling index has for them.
    """

    addresses: tuple[str, ...]
    known: Mapping[RecordType, tuple[str, ...]] = field(default_factory=dict)
    message_key: str | None = None
    leads: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What C4C said. Every record's spelling of an address is C4C's; compare without case.

    An empty answer to a question with several values proves nothing, because C4C's `or` may silently find nothing: those
    types are `unproven` until `verify` has asked one by one. What has a next page is `truncated`.
    """

    records: tuple[Record, ...] = ()
    employees: frozenset[str] = frozenset()  # addresses of colleagues
    activities: tuple[Activity, ...] = ()  # oldest first
    unproven: frozenset[Asked] = frozenset()
    truncated: frozenset[Asked] = frozenset()
    failed: Mapping[Asked, str] = field(default_factory=dict)  # parts that failed by themselves -> a sentence
    not_asked: frozenset[str] = frozenset()  # addresses that no filter can ask for (`*`, control characters)
    server_ms: float = 0.0
    requests: int = 0


@dataclass(frozen=True, slots=True)
class Known:
    """What a save must know before it writes."""

    activities: tuple[Activity, ...]  # those of the message key, oldest first; more than one is a double to be removed
    records: tuple[Record, ...]  # the links that exist and that the user may see
    employee: Employee | None  # the user


@dataclass(frozen=True, slots=True)
class Me:
    """Who C4C says the user is."""

    user_id: str
    employee_id: str
    business_partner_id: str
    name: str
    email: str
    is_locked: bool


@dataclass(frozen=True, slots=True)
class AddressPage:
    """Addresses for the spelling index: (ObjectID, address as stored, changed at or None). An empty page is the end."""

    rows: tuple[tuple[str, str, datetime | None], ...]
    after: str  # cursor of the next page


class C4C:
    """One user's C4C.

    `record_url` builds links (see DeepLinks). With `parallel` lookups ask in up to as many GETs at a time as the client's
    pool has threads, instead of one $batch; which is faster is not known (c4c-odata.md section 5).

    `people` is what mirroring reads and writes, `directory` what a person finds, looks at and creates.
    """

    def __init__(self, odata: ODataClient, *, codes: Codes, record_url: RecordUrl, parallel: bool = False) -> None:
        self._odata = odata
        self._codes = codes
        self._url = record_url
        self._parallel = parallel
        self.people = People(odata)
        self.directory = Directory(odata, self.people, ask=self._ask, record_url=record_url)

    # --- lookup ---

    def look_up(self, question: Question) -> Answer:
        """Ask everything about one message in one round trip.

        Raises: the first error, if every part failed.
        """
        addresses, not_asked = only_askable(question.addresses)
        types = [type for type in _ADDRESSED if question.leads or type != "lead"]
        parts = [by_address(type, addresses) for type in types] + [employees_by(addresses)] if addresses else []
        parts += [by_id(type, ids) for type, ids in question.known.items() if ids and (question.leads or type != "lead")]
        if question.message_key is not None:
            parts.append(by_key(question.message_key))
        return self._answer(parts, not_asked)

    def verify(
        self, addresses: Iterable[str], types: Iterable[Asked], known: Mapping[RecordType, tuple[str, ...]] | None = None
    ) -> Answer:
        """Ask again with one equality each, whose empty answer can be believed; one batch for each 50 questions."""
        askable, not_asked = only_askable(addresses)
        parts: list[Part] = []
        for type in dict.fromkeys(types):
            if type == "employee":
                parts += [employees_by((address,)) for address in askable]
            elif type != "activity" and SHAPES[type].address:
                parts += [by_address(type, (address,)) for address in askable]
                parts += [by_id(type, (id,)) for id in (known or {}).get(type, ())]
        return self._answer(parts, not_asked)

    def records(self, refs: Sequence[RecordRef]) -> list[Record]:
        """Return the records that exist and are visible, in the order of `refs`.

        One batch; a second one if an answer about several records of a type is not complete.
        """
        parts = by_refs(refs)
        found = records_in(parts, self._ask([part.read for part in parts]).results, self._url)
        return self._completed(refs, found)

    def named(self, parties: Iterable[str], documents: Iterable[tuple[RecordType, str]]) -> list[Record]:
        """Return the records with these human ids: what links that no address matched are called. One batch.

        A party may be a contact, an individual customer or an account; a document's type must be known.
        """
        numbers_of_parties = list(parties)
        wanted: dict[RecordType, list[str]] = {type: list(numbers_of_parties) for type in sorted(PARTY_TYPES)}
        for type, number in documents:
            wanted.setdefault(type, []).append(number)
        parts = [by_number(type, number) for type, numbers in wanted.items() for number in dict.fromkeys(numbers)]
        parts = [part for part in parts if all(map(can_ask_for, part.values))]
        return list(records_in(parts, self._ask([part.read for part in parts]).results, self._url).values())

    # --- saving ---

    def before_save(self, message_key: str, refs: Sequence[RecordRef], user_id: str) -> Known:
        """Return the activities of this message, the records to link and the user's employee. One batch (see `records`).

        Raises: Rejected or NotFound if one of the questions is refused.
        """
        parts = [by_key(message_key), *by_refs(refs)]
        person = Read(EMPLOYEES, filter=equals("UserID", user_id), select=EMPLOYEE_SELECT)
        answers = self._ask([*(part.read for part in parts), person])
        found = records_in(parts[1:], answers.results[1:-1], self._url)
        people = [employee(row) for row in answers.results[-1].or_raise().rows]
        mine = (person for person in people if person.user_id.casefold() == user_id.casefold())
        activities = self._activities(parts[0], answers.results[0].or_raise().rows)
        return Known(activities, tuple(self._completed(refs, found)), next(mine, None))

    def create_activity(self, draft: ActivityDraft) -> Activity:
        """Create the activity with all its children in one call.

        Raises: Unknown if C4C may have created it; Rejected with C4C's reason; InvalidInput for a key that cannot be stored.
        """
        body = email_body(draft, self._codes)
        row = self._odata.create("EMailCollection", body)
        if not as_text(row.get("ObjectID")):
            raise Unknown("SAP Cloud for Customer did not name what it created.")
        # C4C does not echo the children (c4c-odata.md section 1), so what was sent stands for them.
        sent = {**body, **{name: row.get(name) for name in ("ObjectID", "ID")}}
        names = frozenset(one["Name"] for one in body.get("EMailAttachments", ()))
        return replace(activity(sent, self._codes, self._url), attachment_names=names)

    def activities(self, message_key: str) -> list[Activity]:
        """Return the activities of this message that the user may see, oldest first. One GET."""
        part = by_key(message_key)
        return list(self._activities(part, self._odata.rows(part.read)))

    def activity(self, activity_id: str) -> Activity:
        """Return one activity, without attachment names. One GET. Raises: NotFound."""
        read = Read("EMailCollection", key=activity_id, select=ACTIVITY_SELECT, expand=ACTIVITY_EXPAND)
        rows = self._odata.ask(read).rows
        if len(rows) != 1:
            raise NotFound("SAP Cloud for Customer does not have this activity.")
        return activity(rows[0], self._codes, self._url)

    def gone(self, activity_ids: Collection[str]) -> set[str]:
        """Return those of the activities that C4C says it does not have, or not for this user. A batch for each few."""
        missing: set[str] = set()
        for some in _chunks(list(activity_ids), _BATCH_SIZE):
            answers = self._ask([Read("EMailCollection", key=one, select=("ObjectID",)) for one in some])
            missing |= {one for one, result in zip(some, answers.results, strict=True) if isinstance(result.error, NotFound)}
        return missing

    def attachment_names(self, activity_id: str) -> set[str]:
        """Return the names of the files that the activity has. Their content is left out by $select [S5]."""
        read = Read(
            "EMailAttachmentsCollection",
            filter=equals("ParentObjectID", activity_id),
            select=("ObjectID", "ParentObjectID", "Name"),
            orderby="ObjectID",
        )
        rows = (row for row in self._odata.rows(read) if as_text(row.get("ParentObjectID")) in ("", activity_id))
        return {name for row in rows if (name := as_text(row.get("Name")))}

    def attach(self, activity_id: str, file: File) -> None:
        """Add one file, in a request of its own. Raises: Unknown, Rejected, NotFound."""
        body = {"ParentObjectID": activity_id, **attachment_body(file, self._codes)}
        self._odata.create("EMailAttachmentsCollection", body, wants_row=False)

    def add_links(self, activity: Activity, links: Sequence[Record]) -> None:
        """Link what the activity is not yet linked to: one changeset, all or nothing; no request if nothing is missing.

        Raises: Unknown, Rejected.
        """
        missing = [link for link in links if not self._is_linked(activity, link)]
        parties, references = link_bodies(missing, self._codes)
        parent = {"ParentObjectID": activity.id}
        writes = [Write("POST", entity("EMailInvolvedPartiesCollection"), {**parent, **body}) for body in parties]
        writes += [Write("POST", entity("EMailBTDReferenceCollection"), {**parent, **body}) for body in references]
        if writes:
            self._odata.changeset(writes)

    def delete_activity(self, activity_id: str) -> None:
        """Delete an activity, for a proven double of our own; one that is gone already is success. Raises: Unknown, Rejected."""
        try:
            self._odata.change(Write("DELETE", entity("EMailCollection", activity_id)))
        except NotFound:
            return

    # --- the tenant ---

    def who_am_i(self) -> Me:
        """Return the signed-in user. Raises: Rejected."""
        rows = self._odata.ask(Read("IdentityGetLoggedInUserInfo")).rows
        if not rows:
            raise Transient("SAP Cloud for Customer did not say who the user is.")
        row = rows[0]
        return Me(
            user_id=as_text(row.get("UserID")),
            employee_id=as_text(row.get("EmployeeID")),
            business_partner_id=as_text(row.get("BusinessPartnerID")),
            name=as_text(row.get("UserName")),
            email=as_text(row.get("Email")),
            is_locked=any(row.get(name) is True for name in ("InactiveIndicator", "PasswordLockedIndicator")),
        )

    def code_lists(self) -> dict[str, dict[str, str]]:
        """Return the tenant's value lists that saving depends on: entity set -> code -> description. One batch."""
        answers = self._odata.batch([Read(name) for name in CODE_LISTS])
        return {
            name: {as_text(row.get("Code")): as_text(row.get("Description")) for row in result.or_raise().rows}
            for name, result in zip(CODE_LISTS, answers.results, strict=True)
        }

    def addresses(
        self, type: RecordType, since: datetime | None = None, after: str | None = None, *, page: int = 1000
    ) -> AddressPage:
        """Return a page of records in the order in which they changed, from `since` (inclusive) or from the cursor `after`.

        Only an empty page proves the end. Records that change while the pages are read may come twice.
        Raises: InvalidInput for a type without addresses or a cursor that is not ours.
        """
        shape = SHAPES[type]
        if not shape.address:
            raise InvalidInput("type", "has no e-mail address")
        at = Position(since) if after is None else Position.read(after)
        read = Read(
            shape.entity_set,
            filter="" if at.start is None else f"EntityLastChangedOn ge {moment(at.start)}",
            select=("ObjectID", shape.address, "EntityLastChangedOn"),
            orderby=ORDER,
            top=page,
            skip=at.seen,
        )
        rows = self._odata.ask(read).rows
        found = ((object_id(row), as_text(row.get(shape.address)), as_time(row.get("EntityLastChangedOn"))) for row in rows)
        return AddressPage(tuple(found), at.behind(rows).cursor)

    # --- inside ---

    def _ask(self, reads: Sequence[Read]) -> Answers:
        if not reads:
            return Answers((), 0.0, 0)
        if self._parallel and all(len(read.target) <= _LONGEST_URL for read in reads):
            return self._odata.parallel(reads)
        return self._odata.batch(reads)

    def _answer(self, parts: Sequence[Part], not_asked: frozenset[str]) -> Answer:
        results: list[Result] = []
        server_ms, requests = 0.0, 0
        for some in _chunks(parts, _BATCH_SIZE):
            answers = self._ask([part.read for part in some])
            results += answers.results
            server_ms, requests = server_ms + answers.server_ms, requests + answers.requests
        errors = {part.about: result.error for part, result in zip(parts, results, strict=True) if result.error}
        if parts and all(result.error for result in results):
            raise next(iter(errors.values()))
        return self._read_answer(parts, results, not_asked, {a: str(e) for a, e in errors.items()}, server_ms, requests)

    def _read_answer(
        self,
        parts: Sequence[Part],
        results: Sequence[Result],
        not_asked: frozenset[str],
        failed: Mapping[Asked, str],
        server_ms: float,
        requests: int,
    ) -> Answer:
        employees: set[str] = set()
        activities: tuple[Activity, ...] = ()
        unproven: set[Asked] = set()
        truncated: set[Asked] = set()
        for part, result in zip(parts, results, strict=True):
            if result.next is not None:
                truncated.add(part.about)
            if len(part.values) > 1 and not result.rows and result.error is None:
                unproven.add(part.about)
            if part.about == "employee":
                employees.update(a for row in result.rows if (a := as_text(row.get("Email"))).casefold() in part.values)
            elif part.about == "activity":
                activities = self._activities(part, result.rows)
        found = records_in(parts, results, self._url, strict=False)
        return Answer(
            records=tuple(found.values()),
            employees=frozenset(employees),
            activities=activities,
            unproven=frozenset(unproven),
            truncated=frozenset(truncated),
            failed=failed,
            not_asked=not_asked,
            server_ms=server_ms,
            requests=requests,
        )

    def _completed(self, refs: Sequence[RecordRef], found: dict[RecordRef, Record]) -> list[Record]:
        """Ask one by one for what an `or` did not give, and put all into the order of `refs`."""
        wanted = list(dict.fromkeys(_normal(ref) for ref in refs))
        missing = [ref for ref in wanted if ref not in found]
        several = {type for type in {ref.type for ref in missing} if sum(ref.type == type for ref in wanted) > 1}
        parts = [by_id(ref.type, (ref.id,)) for ref in missing if ref.type in several]
        for some in _chunks(parts, _BATCH_SIZE):
            found |= records_in(some, self._ask([part.read for part in some]).results, self._url)
        return [found[ref] for ref in wanted if ref in found]

    def _activities(self, part: Part, rows: Iterable[Row]) -> tuple[Activity, ...]:
        mine = (row for row in rows if as_text(row.get("GroupwareItemID")) in part.values)
        return tuple(sorted((activity(row, self._codes, self._url) for row in mine), key=lambda a: (a.created_at, a.id)))

    def _is_linked(self, to: Activity, link: Record) -> bool:
        if link.type in PARTY_TYPES:
            return link.human_id in to.parties
        return (link.type, link.human_id) in to.documents


def _normal(ref: RecordRef) -> RecordRef:
    return RecordRef(ref.type, ref.id.upper())


def _chunks(parts: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(parts), size):
        yield parts[start : start + size]
