"""Contacts read and written many at a time: 200 are the most that one call of the People API takes.

When Google does not take one of many it takes none, and names those that it refused (BatchCreateContactsErrorDetails,
BatchUpdateContactsErrorDetails). They are left out of the next try; if none is named, each half is tried by itself. What is
answered is matched by link or resource name, since no page promises an order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from server.errors import Conflict, NotFound, Rejected, SsiError, Transient, Unknown
from server.mail.google.calls import PEERS, Call, Calls, Refusal, unconfirmed
from server.mail.google.contacts import PERSON_FIELDS, SOURCE, Entry, Person, filled, link_of, source_of

PEER = PEERS["people"]
MOST = 200  # contacts of one call (descriptions of people.batchCreateContacts, batchUpdateContacts and getBatchGet)

_NAMES = 40  # of one call: its address stays below the 2,048 characters up to which Google's own client sends a GET
_SHOWN = {"readMask": PERSON_FIELDS, "sources": [SOURCE]}
_NOT_FOUND, _OUTDATED = 5, (9, 10)  # google.rpc.Code: NOT_FOUND; FAILED_PRECONDITION, ABORTED

Outcome = Person | SsiError


def reading(calls: Calls, refs: Sequence[str]) -> list[Call]:
    """Return the calls that read contacts, to be made as one batch."""
    read = calls.service.people().getBatchGet
    return [
        cast(Call, read(resourceNames=list(refs[n : n + _NAMES]), personFields=PERSON_FIELDS, sources=SOURCE))
        for n in range(0, len(refs), _NAMES)
    ]


def read(refs: Sequence[str], answers: Sequence[Mapping[str, Any]]) -> dict[str, Outcome]:
    """Return what the calls of `reading` told of each: the contact, NotFound, or Transient."""
    responses = [response for answer in answers for response in answer.get("responses", [])]
    told = {response.get("requestedResourceName"): response for response in responses}
    return {ref: _read(told.get(ref, {})) for ref in refs}


def _read(response: Mapping[str, Any]) -> Outcome:
    person: Person = response.get("person", {})
    if "resourceName" in person:
        return person
    if response.get("status", {}).get("code") == _NOT_FOUND or response.get("httpStatusCode") == 404:
        return NotFound("The mailbox holds no such contact.")
    return Transient(f"{PEER} did not show the contact.")


def created(calls: Calls, people: Mapping[str, Entry]) -> dict[str, Outcome]:
    """Create contacts, each of which keeps the link it is given by; return for each what was made of it.

    One is Rejected, or Unknown if the answer was lost. Raises: NotFound for a group; what concerns the whole account.
    """

    def write(links: Sequence[str]) -> dict[str, Person]:
        body = {"contacts": [{"contactPerson": people[link]} for link in links], **_SHOWN}
        answer = calls.written(calls.service.people().batchCreateContacts(body=body))
        return {link_of(person): person for person in _people(answer.get("createdPeople", []))}

    return _written(list(people), write, (Rejected,), lambda number, link: str(number))


def updated(calls: Calls, changes: Mapping[str, tuple[Person, Mapping[str, list[Entry]]]]) -> dict[str, Outcome]:
    """Give contacts, as they were read, the fields that are to change; return for each, by its ref, how it is now.

    One is NotFound, a Conflict if it was changed since it was read, Rejected, or Unknown if the answer was lost. One mask holds
    for all of a call, so a field that changes in one is written to each. Raises: what concerns the whole account.
    """
    names = {ref: str(person["resourceName"]) for ref, (person, _) in changes.items()}  # Google may have renamed one

    def write(refs: Sequence[str]) -> dict[str, Person]:
        mask = sorted({field for ref in refs for field in changes[ref][1]})
        contacts = {}
        for ref in refs:
            person, fields = changes[ref]
            contacts[names[ref]] = {"metadata": {"sources": [source_of(person)]}, **filled(person, fields, mask)}
        body = {"contacts": contacts, "updateMask": ",".join(mask), **_SHOWN}
        answer = calls.written(calls.service.people().batchUpdateContacts(body=body))
        told = {name: _people([response]) for name, response in answer.get("updateResult", {}).items()}
        return {ref: told[names[ref]][0] for ref in refs if told.get(names[ref])}

    return _written(list(changes), write, (Rejected, NotFound, Conflict), lambda number, ref: names[ref])


def _people(responses: Sequence[Mapping[str, Any]]) -> list[Person]:
    """Return the people of PersonResponses; one that was written but could not be shown has none."""
    people: list[Person] = [response.get("person", {}) for response in responses]
    return [person for person in people if "resourceName" in person]


def _written(
    keys: Sequence[str],
    write: Callable[[Sequence[str]], dict[str, Person]],
    refusals: tuple[type[SsiError], ...],
    name_of: Callable[[int, str], str],
) -> dict[str, Outcome]:
    """Write the contacts of `keys`; `name_of` says, of number and key, by what Google names one that it refused."""
    outcome: dict[str, Outcome] = {}
    waiting = [keys[n : n + MOST] for n in range(0, len(keys), MOST)]
    while waiting:
        some = waiting.pop(0)
        try:
            people = write(some)
        except Unknown as error:
            outcome |= dict.fromkeys(some, error)
        except refusals as error:
            refused = _refused({name_of(number, key): key for number, key in enumerate(some)}, error)
            rest = [key for key in some if key not in refused]
            middle = 0 if refused else len(rest) // 2
            waiting[:0] = [part for part in (rest[:middle], rest[middle:]) if part]
            outcome |= refused
        else:
            outcome |= {key: people.get(key) or unconfirmed(PEER) for key in some}
    return outcome


def _refused(keys: Mapping[str, str], error: SsiError) -> dict[str, SsiError]:
    """Return the errors of those that Google names, by their names; of the only one its own; {} if nobody knows whose it is."""
    named = error.__cause__.contacts if isinstance(error.__cause__, Refusal) else {}
    refused = {keys[name]: _refusal(code, error) for name, code in named.items() if name in keys}
    return refused or (dict.fromkeys(keys.values(), error) if len(keys) == 1 else {})


def _refusal(code: int, error: SsiError) -> SsiError:
    told: SsiError = Rejected(f"{PEER} refused the contact.")
    if code == _NOT_FOUND:
        told = NotFound("The mailbox holds no such contact or group.")
    elif code in _OUTDATED:
        told = Conflict("The contact was changed by somebody else.")
    told.__cause__ = error
    return told
