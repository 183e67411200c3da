"""A person at the sidebar asks for records: finds them by a text, looks at one, creates one.

All of it runs as that person, so that C4C decides what they may see and do. A search costs one request to C4C, a look at a
record one, and a second where its open opportunities must be asked for by a number that this process has not seen; repeated
soon they cost none, like a lookup.

A create is a click, never a guess: nothing here runs by itself. It is named by a key of the caller's. The same key again gives
the same record: at once in the process that knows it, else as far as C4C can tell (`C4C.directory`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import CancelledError, Future, TimeoutError as FutureTimeout
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from server.c4c import Candidate, Directory, Ready, folded, words_of
from server.domain import message as mail
from server.domain.contact import Contact, PostalAddress
from server.domain.mime import clean
from server.domain.people import CUSTOMER
from server.domain.records import CARD_FIELDS, CARD_ORDER, DETAIL_FIELDS, Record, RecordRef, RecordType
from server.errors import Forbidden, InvalidInput, NotFound, SsiError, Transient, Unknown
from server.services import Deps, Principal
from server.services.connections import asking_c4c
from server.services.context import in_time, known_number, learn_addresses, remember_numbers

MAX_FOUND = 50
MAX_TEXT = 200  # characters of a search
SAME_CREATE = timedelta(hours=1)
"""A record that C4C cannot name by our key, and that holds the same, is taken for an earlier try for so long."""

FORMS: Mapping[RecordType, tuple[str, ...]] = {
    "contact": ("given_name", "surname", "email", "company", "job_title", "phone", "mobile"),
    "individual_customer": ("given_name", "surname", "email", "phone", "mobile"),
    "account": ("company", "email", "phone", "web_page", "city", "country"),
    "lead": ("subject", "given_name", "surname", "email", "company", "phone"),
}
"""Type -> the values that a record is created from, in the order of a form. What NEEDED names must be given."""

NEEDED: Mapping[RecordType, tuple[str, ...]] = {
    "contact": ("surname",),
    "individual_customer": ("surname",),
    "account": ("company",),
    "lead": ("subject",),
}


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found, the best first."""

    records: tuple[Record, ...]  # at most MAX_FOUND
    more: bool  # there are others: a longer text finds less
    failed: tuple[RecordType, ...] = ()  # types that C4C would not answer for


@dataclass(frozen=True, slots=True)
class Detail:
    """One record, all that is shown of it, and what it belongs to."""

    record: Record
    fields: tuple[tuple[str, str], ...]  # name and value, in order; those without a value are left out
    related: tuple[Record, ...]  # accounts of a contact, contacts of an account, open opportunities


def search(deps: Deps, principal: Principal, text: str, *, waited_s: float = 0.0) -> Found:
    """Return the records whose name, e-mail address or telephone number holds the text.

    `waited_s` is what of the deadline of a lookup has passed already. Raises: InvalidInput at "q" for a text that is too short
    or too long; Forbidden; Transient, also when the deadline has passed: the answer is then there for the next call.
    """
    words = _words(text)
    types = tuple(type for type in CARD_ORDER if type != "lead" or principal.profile.leads_enabled)
    key = ("search", principal.user.id, principal.user.generation, tuple(words), types)

    def ask() -> Found:
        known = _spelled(deps, principal, words[0]) if len(words) == 1 and "@" in words[0] else {}
        with asking_c4c(principal):
            matches = deps.c4c(principal).directory.search(" ".join(words), types, MAX_FOUND, known)
        chosen = _best(matches.records, words)
        remember_numbers(deps, principal, chosen)
        found = Found(tuple(chosen), matches.is_cut or len(matches.records) > MAX_FOUND, matches.failed)
        if not found.failed:
            deps.cache.put(key, found)
        return found

    kept = deps.cache.get(key)
    return kept.value if kept is not None else in_time(deps, principal, key, ask, waited_s)


def _words(text: str) -> list[str]:
    """Raises: InvalidInput."""
    if len(text) > MAX_TEXT:
        raise InvalidInput("q", f"Search for {MAX_TEXT} characters at most.")
    words = words_of(text)
    letters = [letter for letter in "".join(words) if letter.isalnum() or not letter.isascii()]
    if not letters or (len(letters) < 2 and letters[0].isascii()):  # one sign may be a whole name elsewhere
        raise InvalidInput("q", "Type at least two letters or digits.")
    return words


def _spelled(deps: Deps, principal: Principal, address: str) -> dict[RecordType, tuple[str, ...]]:
    """Return the records that are known to have this address in a spelling of their own."""
    tenant_id = principal.tenant.id
    hashes = [deps.vault.keyed_hash(tenant_id, key) for key in sorted({form.lower() for form in mail.spellings(address)})]
    with deps.store.transaction(reading=True) as tx:
        return dict(tx.spellings(tenant_id, hashes))


def _best(records: Iterable[Record], words: list[str]) -> list[Record]:
    """Return at most MAX_FOUND, the best match first; where there are too many, no type crowds out another."""
    wanted = folded(" ".join(words))
    by_type: dict[RecordType, list[tuple[int, str, Record]]] = defaultdict(list)
    for record in records:
        by_type[record.type].append((_rank(record, wanted), folded(record.title), record))
    placed = [
        (place, CARD_ORDER.index(type), rank, record)
        for type, matches in by_type.items()
        for place, (rank, _, record) in enumerate(sorted(matches, key=lambda one: (one[0], one[1], one[2].id)))
    ]
    kept = sorted(placed, key=lambda one: one[:2])[:MAX_FOUND]
    return [record for *_, record in sorted(kept, key=lambda one: (one[2], one[1], one[0]))]


def _rank(record: Record, wanted: str) -> int:
    """0 for what is called so or has this address, 1 for what begins so, 2 where a word does, 3 for the rest."""
    title = folded(record.title)
    if wanted == title or wanted in map(folded, record.addresses):
        return 0
    return 1 if title.startswith(wanted) else 2 if f" {wanted}" in title else 3


def detail(deps: Deps, principal: Principal, ref: RecordRef, *, waited_s: float = 0.0) -> Detail:
    """Return a record with what belongs to it.

    `waited_s` as of `search`. Raises: NotFound, also where C4C does not show it; Forbidden; Transient as `search`.
    """
    if not re.fullmatch("[0-9A-Fa-f]{32}", ref.id):
        raise NotFound("SAP Cloud for Customer does not have this record.")
    ref = replace(ref, id=ref.id.upper())
    key = ("detail", principal.user.id, principal.user.generation, ref)

    def ask() -> Detail:
        with asking_c4c(principal):
            entry = deps.c4c(principal).directory.look_at(ref, known_number(deps, principal, ref))
        remember_numbers(deps, principal, (entry.record, *entry.related))
        values = entry.record.values
        names = DETAIL_FIELDS.get(ref.type, CARD_FIELDS[ref.type])
        seen = Detail(entry.record, tuple((name, values[name]) for name in names if name in values), entry.related)
        deps.cache.put(key, seen)
        return seen

    kept = deps.cache.get(key)
    return kept.value if kept is not None else in_time(deps, principal, key, ask, waited_s)


# Creating


def proposed(type: RecordType, name: str, address: str) -> dict[str, str]:
    """Return what of a form can be filled in for somebody on a message, as the header names them."""
    name = clean(name)
    surname, comma, given = (part.strip() for part in name.partition(","))
    if not comma:
        given, _, surname = name.rpartition(" ")
    values = {"given_name": given, "surname": surname, "company": name, "subject": name or address, "email": address}
    if type != "account":
        del values["company"]
    return {field: values[field] for field in FORMS.get(type, ()) if values.get(field)}


def create(deps: Deps, principal: Principal, type: RecordType, values: Mapping[str, str], *, key: str) -> Record:
    """Create a record, as its FORM has it, and return it. `key` is 32 hex digits; the same key makes no second record.

    Raises: InvalidInput at the value that is wrong, or for an address that belongs to a colleague or is never looked up;
    Rejected with C4C's reason; Forbidden, also for a type that is not enabled; Transient if nothing was created; Unknown if
    something may have been: look before you try again.
    """
    wanted = _candidate(principal, type, values, key)
    own_key = deps.vault.keyed_hash(principal.tenant.id, f"create\0{principal.user.id}\0{key}").hex()
    wanted = replace(wanted, key=own_key)  # nobody gets at another's create by its key
    kept_as = ("created", principal.user.id, key)
    kept = deps.cache.get(kept_as)
    if kept is not None:
        record: Record = kept.value
        return record

    def make() -> Record:
        made = _make(deps, principal, wanted)
        learn_addresses(deps, principal, made.type, ((address, made.id) for address in made.addresses))
        with deps.store.transaction() as tx:
            tx.bump_generation(principal.user.id)  # every process forgets that it did not know the person
        deps.cache.put(kept_as, made)
        remember_numbers(deps, principal, (made,))
        return made

    future: Future[Record] = deps.cache.join(kept_as, lambda: deps.background.submit(principal.tenant.id, make))
    try:
        return future.result(timeout=deps.limits.save_deadline_s)
    except (FutureTimeout, CancelledError):
        if future.cancel():
            raise Transient("SAP Cloud for Customer is slow right now. Try again in a moment.", retry_after_s=1) from None
        raise Unknown(_LOOK_FIRST) from None


_LOOK_FIRST = "SAP Cloud for Customer may have created this record. Look for it before you try again."


def _candidate(principal: Principal, type: RecordType, values: Mapping[str, str], key: str) -> Candidate:
    """Raises: InvalidInput; Forbidden for a type that is not enabled."""
    if type not in FORMS:
        raise InvalidInput("type", "Records of this type are not created here.")
    if type == "lead" and not principal.profile.leads_enabled:
        raise Forbidden("Leads are not enabled.", code="leads_not_enabled")
    if not re.fullmatch("[0-9a-f]{32}", key):
        raise InvalidInput("key", "A create is named by 32 hexadecimal digits.")
    given = {name: clean(value) for name, value in values.items() if clean(value)}
    for name in given:
        if name not in FORMS[type]:
            raise InvalidInput(name, "This type of record has no such field.")
    for name in NEEDED[type]:
        if name not in given:
            raise InvalidInput(name, "This is needed.")
    address = given.get("email", "")
    if address:
        _check_address(principal, address)
    contact = Contact(
        given_name=given.get("given_name", ""),
        surname=given.get("surname", ""),
        company=given.get("company", ""),
        job_title=given.get("job_title", ""),
        emails=(address,) if address else (),
        business_phone=given.get("phone", ""),
        mobile_phone=given.get("mobile", ""),
        web_page=given.get("web_page", ""),
        business_address=PostalAddress(city=given.get("city", ""), country=_country(principal, type, given)),
    )
    return Candidate(type, contact, key, given.get("subject", ""))


def _country(principal: Principal, type: RecordType, given: Mapping[str, str]) -> str:
    return given.get("country", "") or (principal.profile.default_country if type == "account" else "")


def _check_address(principal: Principal, address: str) -> None:
    """Raises: InvalidInput for what is no address, or one that a lookup never asks for."""
    if [one.address for one in mail.addresses_of({"To": address}, "To")] != [address]:
        raise InvalidInput("email", "This is not an e-mail address.")
    normal = mail.normalised(address)
    if normal == mail.normalised(principal.user.email):
        raise InvalidInput("email", "This is your own address.")
    if principal.profile.is_blocklisted(normal):
        raise InvalidInput("email", "This address is on your blocklist.")


def _make(deps: Deps, principal: Principal, wanted: Candidate) -> Record:
    """Create unless an earlier try did. Raises: as `create`."""
    now = deps.now()
    with asking_c4c(principal):
        directory = deps.c4c(principal).directory
        spellings = tuple(form for address in wanted.contact.emails for form in mail.spellings(address))
        ready = directory.before_create(wanted, spellings, principal.user.c4c_user_id, now - SAME_CREATE)
        if ready.earlier is not None:
            return ready.earlier
        if ready.is_colleague:
            raise InvalidInput("email", "This address belongs to a colleague.")
        owner = ready.owner.party_id if ready.owner else ""
        account = _account(deps, principal, directory, wanted, ready, owner)
        return _created(directory, wanted, owner, account, now)


def _created(directory: Directory, wanted: Candidate, owner: str, account: str, now: datetime) -> Record:
    """Create and, where the answer is lost, look what came of it. Raises: as Directory.create."""
    try:
        return directory.create(wanted, owner_id=owner, role=CUSTOMER, account_id=account)
    except Unknown as lost:
        try:
            found = directory.created(wanted, owner, now)
        except SsiError:
            found = None  # nor does C4C say what it has: as unknown as before
        if found is None:
            raise Unknown(_LOOK_FIRST) from lost
        return found


def _account(deps: Deps, principal: Principal, directory: Directory, wanted: Candidate, ready: Ready, owner: str) -> str:
    """Return the human id of the account that the company names, "" if it is not clear which; new if the profile says so."""
    company, profile = wanted.contact.company, principal.profile
    if ready.exact:
        return ready.exact[0][0]
    if len(ready.like) == 1:
        return ready.like[0][0]
    if wanted.type != "contact" or not company or ready.like or not profile.create_accounts or profile.accounts_read_only:
        return ""
    address = PostalAddress(country=profile.default_country)
    key = deps.vault.keyed_hash(principal.tenant.id, f"account of\0{company.casefold()}").hex()
    account = Candidate("account", Contact(company=company, display_name=company, business_address=address), key)
    return _created(directory, account, owner, "", deps.now()).human_id
