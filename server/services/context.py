"""Lookup: who are the people on this message in C4C, and is the message saved.

    envelope -> participants -> minus own, colleagues, blocklist -> spellings -> cache or one C4C $batch -> cards

`look_up` costs one request to C4C, a repeated one none. What would need a second request (an answer that proves nothing, a
further page, names of linked records that no address matched) is left open and said so (`incomplete`); asked with
`complete`, the same call follows up. When C4C does not answer, what our own database knows of the message is still told.
Addresses come from the header only; the mailbox is not read.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import CancelledError, TimeoutError as FutureTimeout
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal, TypeVar, cast

from server.c4c import Answer, Question
from server.domain import message as mail
from server.domain.marks import SaveState
from server.domain.message import Address, Automatic
from server.domain.profile import Profile
from server.domain.records import CARD_ORDER, PARTY_TYPES, Activity, Record, RecordRef, RecordType
from server.errors import NotFound, Transient
from server.services import Deps, Principal
from server.services.connections import asking_c4c
from server.services.wishes import reason_of
from server.store import AddressScan, Save, SaveRequest

NOTHING_TO_SAVE = "Nothing to save in SAP Cloud for Customer"
T = TypeVar("T")
Role = Literal["From", "To", "Cc", "Bcc"]
INDEXED: tuple[RecordType, ...] = ("contact", "individual_customer", "account")
"""Record types whose addresses the spelling index knows."""
SCAN_EVERY = timedelta(hours=6)
SCAN_OVERLAP = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Item:
    """A message as the mail client describes it. Nothing in it is trusted for writing."""

    id: str
    id_form: Literal["rest", "ews", "gmail"]
    mailbox: str
    internet_message_id: str
    conversation_id: str
    subject: str
    sender: Address | None
    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    bcc: tuple[Address, ...] = ()
    headers: str = ""
    item_class: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    record: Record
    matched: tuple[str, ...]  # addresses as in the header
    linked: bool
    shown: tuple[str, ...] = ()  # names of the fields to show, in this order

    def fields(self) -> list[tuple[str, str]]:
        """Name and value of what is shown and has a value."""
        values = self.record.values
        return [(name, values[name]) for name in self.shown if values.get(name)]


@dataclass(frozen=True, slots=True)
class Unmatched:
    """An address without a record. Not `verified`: C4C's answer proves nothing yet."""

    name: str
    address: str
    verified: bool


@dataclass(frozen=True, slots=True)
class SaveStatus:
    state: SaveState
    id: str | None = None
    reason: str | None = None
    by: Literal["you", "colleague"] | None = None
    at: str | None = None  # ISO 8601, UTC: when it was saved, or asked for as long as it is not
    activity: Activity | None = None


@dataclass(frozen=True, slots=True)
class Context:
    cards: tuple[Card, ...] = ()
    unknown: tuple[Unmatched, ...] = ()
    notice: str | None = None
    automatic: Automatic | None = None
    save: SaveStatus = SaveStatus("none")
    incomplete: bool = False
    c4c_ms: float = 0.0
    cached: bool = False
    failed: tuple[str, ...] = ()  # record types that C4C would not answer for
    trouble: Transient | None = None  # why nothing is known of C4C: the rest is what our database holds


@dataclass(frozen=True, slots=True)
class _Participant:
    name: str
    address: str  # as in the header
    role: Role
    spellings: tuple[str, ...]
    keys: frozenset[str] = field(default_factory=frozenset)  # normalised forms that a stored address may have


def look_up(
    deps: Deps,
    principal: Principal,
    item: Item,
    *,
    mode: Literal["read", "compose"] = "read",
    complete: bool = False,
    refresh: bool = False,
    anyway: bool = False,
    waited_s: float = 0.0,
) -> Context:
    """Return what the sidebar shows for this message.

    `refresh` asks C4C anew; `anyway` looks up the people on automatic mail too, which otherwise gets a quiet state;
    `waited_s` is what of the deadline has passed already.

    Raises: Transient when C4C does not answer in time and nothing is known; Forbidden when C4C refuses the user.
    """
    automatic = mail.classify(item.headers, item.item_class, sender=item.sender.address if item.sender else "")
    if refresh:
        principal = _refreshed(deps, principal)
    people, dropped = _participants(principal, item, with_bcc=mode == "compose")
    quiet = automatic is not None and not anyway
    too_many = len(people) > deps.limits.max_lookup_addresses
    asked = [] if quiet else people[: deps.limits.max_lookup_addresses]
    has_key = mode == "read" and bool(item.internet_message_id.strip())
    key = mail.message_key(item.internet_message_id, mailbox="", immutable_id="") if has_key else None
    try:
        known = _ask(deps, principal, asked, key, complete=complete, waited_s=waited_s) if asked else None
    except Transient as trouble:
        status = _status(deps, principal, item, key, None)
        if status.state == "none":
            raise
        return Context(automatic=automatic, save=status, trouble=trouble)
    status = _status(deps, principal, item, key, known.answer if known else None)
    if known is None:
        notice = NOTHING_TO_SAVE if dropped and not quiet else None
        return Context(notice=notice, automatic=automatic, save=status)
    context = _arrange(asked, known, status, principal.profile)
    if too_many:
        context = replace(context, notice=f"Only the first {deps.limits.max_lookup_addresses} addresses were looked up.")
    return replace(context, automatic=automatic)


def links_found(context: Context) -> tuple[RecordRef, ...]:
    """Return what a save of this message links to unless the user chooses otherwise: every record that was found."""
    return tuple(card.record.ref for card in context.cards)


def scan_addresses(deps: Deps, scan: AddressScan) -> None:
    """Read the addresses that changed since the scan's cursor, as its user, and learn the spellings; then give it back.

    Only identifiers and keyed hashes are kept. The cursor moves back a little, since C4C shows milliseconds of a finer time
    (c4c-odata.md, "Changes and deletes").

    Raises: whatever C4C does; the scan's lease then runs out and it is tried again.
    """
    with deps.store.transaction(reading=True) as tx:
        principal = tx.principal_of(scan.user_id)
    now = deps.now()
    if principal is None:
        with deps.store.transaction() as tx:
            tx.finish_scan(scan, scan.changed_at, now + SCAN_EVERY)
        return
    newest, after = scan.changed_at, cast(str | None, None)
    c4c = deps.c4c(principal)
    while (page := c4c.addresses(scan.type, since=scan.changed_at, after=after)).rows:
        learn_addresses(deps, principal, scan.type, ((address, object_id) for object_id, address, _ in page.rows))
        after = page.after
        newest = max((at for *_, at in page.rows if at is not None), default=newest)
        with deps.store.transaction() as tx:
            tx.keep_scan(scan, newest - SCAN_OVERLAP if newest else None, deps.now(), deps.limits.scan_lease_s)
    with deps.store.transaction() as tx:
        tx.finish_scan(scan, newest - SCAN_OVERLAP if newest else None, now + SCAN_EVERY)


def _refreshed(deps: Deps, principal: Principal) -> Principal:
    with deps.store.transaction() as tx:
        generation = tx.bump_generation(principal.user.id)
    return replace(principal, user=replace(principal.user, generation=generation))


# Participants


def _participants(principal: Principal, item: Item, *, with_bcc: bool) -> tuple[list[_Participant], bool]:
    """Return whom to look up, in header order and once each, and whether somebody was left out by rule."""
    own = {mail.normalised(principal.user.email), mail.normalised(item.mailbox)}
    profile = principal.profile
    found: dict[str, _Participant] = {}
    dropped = False
    for role, address in _addresses(item, with_bcc):
        if "@" not in address.address:
            continue
        normal = mail.normalised(address.address)
        if normal in own or profile.is_blocklisted(normal):
            dropped = True
        elif normal not in found:
            spellings = mail.spellings(address.address)
            keys = frozenset(mail.normalised(s) for s in spellings)
            found[normal] = _Participant(address.name, address.address, role, spellings, keys)
    return list(found.values()), dropped


def _addresses(item: Item, with_bcc: bool) -> Iterable[tuple[Role, Address]]:
    if item.sender is not None:
        yield "From", item.sender
    yield from (("To", a) for a in item.to)
    yield from (("Cc", a) for a in item.cc)
    if with_bcc:
        yield from (("Bcc", a) for a in item.bcc)


# Asking C4C


@dataclass(frozen=True, slots=True)
class _Known:
    """C4C's answer, and how far it can be taken at its word."""

    answer: Answer
    is_complete: bool = False
    cached: bool = False


def _ask(
    deps: Deps, principal: Principal, people: Sequence[_Participant], key: str | None, *, complete: bool, waited_s: float
) -> _Known:
    addresses = tuple(dict.fromkeys(s for p in people for s in p.spellings))
    leads = principal.profile.leads_enabled
    cache_key = (principal.user.id, principal.user.generation, addresses, key, leads)

    def kept() -> _Known | None:
        found = deps.cache.get(cache_key)
        return replace(found.value, cached=True) if found is not None else None

    first = kept()
    if first is not None and (first.is_complete or not complete):
        return first
    with deps.store.transaction(reading=True) as tx:
        spelled = tx.spellings(principal.tenant.id, [h for p in people for h in _hashes(deps, principal, p)])
    question = Question(addresses=addresses, known=spelled, message_key=key, leads=leads)

    def ask() -> _Known:
        later = kept()  # who asked before us may have been answered since we looked
        if later is not None and (later.is_complete or not complete):
            return later
        with asking_c4c(principal):
            known = first or _Known(deps.c4c(principal).look_up(question))
            deps.cache.put(cache_key, known)
            if complete:
                known = _Known(_follow_up(deps, principal, people, question, known.answer), is_complete=True)
                deps.cache.put(cache_key, known)
        remember_numbers(deps, principal, known.answer.records)
        for record in known.answer.records:
            if record.id not in spelled.get(record.type, ()):
                learn_addresses(deps, principal, record.type, ((address, record.id) for address in record.addresses))
        return known

    return in_time(deps, principal, (cache_key, complete), ask, waited_s)


def in_time(deps: Deps, principal: Principal, key: Hashable, ask: Callable[[], T], waited_s: float) -> T:
    """Ask C4C, but let the caller go after the deadline; the answer, which `ask` puts into the cache, waits for the next call.

    Raises: as `ask`; Transient.
    """
    future = deps.cache.join(key, lambda: deps.background.submit(principal.tenant.id, ask))
    try:
        known: T = future.result(timeout=max(0.0, deps.limits.context_deadline_s - waited_s))
    except (FutureTimeout, CancelledError):
        future.cancel()  # if it has not even begun: nobody will want the answer when its turn comes
        raise Transient("SAP Cloud for Customer is slow right now. Try again in a moment.", retry_after_s=1) from None
    return known


def _follow_up(deps: Deps, principal: Principal, people: Sequence[_Participant], question: Question, answer: Answer) -> Answer:
    """Ask what the first answer left open: addresses it proves nothing about, and names of linked records."""
    c4c = deps.c4c(principal)
    records, employees = list(answer.records), answer.employees
    doubtful = answer.unproven | answer.truncated
    if doubtful:
        asked = people if answer.truncated else _unmatched(people, answer)
        more = c4c.verify(tuple(dict.fromkeys(s for p in asked for s in p.spellings)), sorted(doubtful), question.known)
        records += more.records
        employees = employees | more.employees
    named = {r.human_id for r in records if r.type in PARTY_TYPES} | {a.human_id for r in records for a in r.accounts}
    parties = {p for activity in answer.activities for p in activity.parties} - named
    documents = {d for activity in answer.activities for d in activity.documents} - {(r.type, r.human_id) for r in records}
    if parties or documents:
        records += c4c.named(parties, documents)
    unique = {record.ref: record for record in records}
    return replace(answer, records=tuple(unique.values()), employees=employees, unproven=frozenset(), truncated=frozenset())


def _unmatched(people: Sequence[_Participant], answer: Answer) -> list[_Participant]:
    matched = {mail.normalised(a) for a in (*answer.employees, *(a for r in answer.records for a in r.addresses))}
    return [p for p in people if not p.keys & matched]


def remember_numbers(deps: Deps, principal: Principal, records: Iterable[Record]) -> None:
    """Keep the human ids of records that were shown, for who looks at one of them next: `known_number`."""
    for record in records:
        for one in (record, *record.accounts):
            deps.cache.put(("number", principal.user.id, one.ref), one.human_id)


def known_number(deps: Deps, principal: Principal, ref: RecordRef) -> str:
    kept = deps.cache.get(("number", principal.user.id, ref))
    return str(kept.value) if kept else ""


def learn_addresses(deps: Deps, principal: Principal, record_type: RecordType, spelled: Iterable[tuple[str, str]]) -> None:
    """Remember which records have an address that a lower-case question would miss."""
    if record_type not in INDEXED:
        return
    tenant_id = principal.tenant.id
    entries = [
        (deps.vault.keyed_hash(tenant_id, address.lower()), record_type, object_id)
        for address, object_id in spelled
        if address != address.lower()
    ]
    if entries:
        with deps.store.transaction() as tx:
            tx.learn_spellings(tenant_id, entries)


def _hashes(deps: Deps, principal: Principal, person: _Participant) -> list[bytes]:
    return [deps.vault.keyed_hash(principal.tenant.id, key) for key in sorted({s.lower() for s in person.spellings})]


# Arranging the answer


def _arrange(people: Sequence[_Participant], known: _Known, status: SaveStatus, profile: Profile) -> Context:
    answer = known.answer
    employees = {mail.normalised(a) for a in answer.employees}
    externals = [p for p in people if not p.keys & employees]
    is_proven = not (answer.unproven or answer.truncated or set(answer.failed) - {"activity"})
    cards: dict[RecordRef, Card] = {}
    unknown: list[Unmatched] = []
    for person in externals:
        own = [r for r in answer.records if person.keys & {mail.normalised(a) for a in r.addresses}]
        for record in (*_in_card_order(own), *(a for r in own for a in r.accounts)):
            _add_card(cards, record, person.address, answer.activities)
        if not own:
            was_asked = not answer.not_asked.issuperset(person.spellings)
            unknown.append(Unmatched(person.name, person.address, verified=is_proven and was_asked))
    for record in answer.records:  # linked in C4C although no address matched
        if record.ref not in cards and _is_linked(record, answer.activities):
            cards[record.ref] = Card(record, (), linked=True)
    has_more = bool(answer.truncated) or (bool(answer.unproven) and bool(unknown))
    incomplete = not known.is_complete and (has_more or _has_unnamed(answer.activities, [c.record for c in cards.values()]))
    return Context(
        cards=tuple(replace(card, shown=profile.fields_of(card.record.type)) for card in cards.values()),
        unknown=tuple(unknown),
        notice=None if externals or cards else NOTHING_TO_SAVE,
        save=status,
        incomplete=incomplete,
        c4c_ms=0.0 if known.cached else answer.server_ms,
        cached=known.cached,
        failed=tuple(sorted(answer.failed)),
    )


def _in_card_order(records: Iterable[Record]) -> list[Record]:
    order = {record_type: position for position, record_type in enumerate(CARD_ORDER)}
    return sorted(records, key=lambda r: (order.get(r.type, len(order)), r.title.casefold(), r.id))


def _add_card(cards: dict[RecordRef, Card], record: Record, address: str, activities: Sequence[Activity]) -> None:
    present = cards.get(record.ref)
    if present is None:
        cards[record.ref] = Card(record, (address,), linked=_is_linked(record, activities))
    elif address not in present.matched:
        cards[record.ref] = replace(present, matched=(*present.matched, address))


def _is_linked(record: Record, activities: Sequence[Activity]) -> bool:
    return any(is_linked(activity, record) for activity in activities)


def is_linked(activity: Activity, record: Record) -> bool:
    """Say whether the activity is linked to the record: a number alone does not name a document, it needs the type."""
    if record.type in PARTY_TYPES:
        return record.human_id in activity.parties
    return (record.type, record.human_id) in activity.documents


def _has_unnamed(activities: Sequence[Activity], shown: Sequence[Record]) -> bool:
    """Say whether an activity is linked to a record that is not shown."""
    parties = {r.human_id for r in shown if r.type in PARTY_TYPES}
    documents = {(r.type, r.human_id) for r in shown}
    return any(activity.parties - parties or activity.documents - documents for activity in activities)


# Save state


def _status(deps: Deps, principal: Principal, item: Item, key: str | None, answer: Answer | None) -> SaveStatus:
    with deps.store.transaction(reading=True) as tx:
        request = tx.request_for_item(principal.user.id, item.id)
        try:
            save = tx.save(request.save_id) if request else None
        except NotFound:
            save = None
        if save is None and key is not None:
            save = tx.save_by_key(principal.tenant.id, key)
            request = tx.request_on(save.id, principal.user.id) if save else None
    activity = answer.activities[0] if answer and answer.activities else None
    if request is not None and save is not None:
        if activity is None and save.message_key == key and _was_deleted(deps, principal, request, save, answer):
            return SaveStatus("none", request.id, "The activity was deleted in SAP Cloud for Customer.")
        return _own_status(principal, replace(request, reason=reason_of(deps, request)), save, activity)
    if save is not None and save.activity_id:
        return SaveStatus("saved", by="colleague", at=_iso(save.saved_at), activity=activity)
    if activity is not None:
        return SaveStatus("saved", by="colleague", activity=activity)
    return SaveStatus("none")


def _was_deleted(deps: Deps, principal: Principal, request: SaveRequest, save: Save, answer: Answer | None) -> bool:
    """Say whether C4C, asked for what this user saved, does not have it any more; a fresh one it may not list yet."""
    if answer is None or "activity" in answer.failed or request.state != "saved" or save.saved_by != principal.user.id:
        return False
    return save.saved_at is not None and deps.now() - save.saved_at > timedelta(seconds=deps.limits.unknown_settle_s)


def _own_status(principal: Principal, request: SaveRequest, save: Save, activity: Activity | None) -> SaveStatus:
    by: Literal["you", "colleague"] | None = None
    if save.activity_id:
        by = "you" if save.saved_by == principal.user.id else "colleague"
    at = request.wished_at if request.state != "saved" else save.saved_at
    return SaveStatus(request.state, request.id, request.reason or None, by, _iso(at), activity)


def _iso(at: datetime | None) -> str | None:
    return at.isoformat().replace("+00:00", "Z") if at else None
