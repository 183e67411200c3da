"""Parts of the questions that go to C4C in one request: a read, and what it asked for, to check what came back.

C4C's filter is not always to be believed [S5], so nothing counts that was not asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from server.c4c.edm import any_of, can_ask_for, equals
from server.c4c.mapping import (
    ACTIVITY_EXPAND,
    ACTIVITY_SELECT,
    EMPLOYEE_SELECT,
    EMPLOYEES,
    SHAPES,
    RecordUrl,
    Shape,
    groupware_item_id,
    human_id,
    record,
)
from server.c4c.odata import Read, Result
from server.domain.records import Record, RecordRef, RecordType
from server.errors import Forbidden, NotFound

Asked = RecordType | Literal["employee", "activity"]
"""What a part of a question was about."""


@dataclass(frozen=True, slots=True)
class Part:
    """A read; `values` are what it asked for, folded, to check what came back."""

    about: Asked
    read: Read
    values: frozenset[str]
    by_id: bool = False


def only_askable(addresses: Iterable[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    given = dict.fromkeys(address.strip() for address in addresses if address.strip())
    return tuple(a for a in given if can_ask_for(a)), frozenset(a for a in given if not can_ask_for(a))


def read_of(type: RecordType, filter: str, shape: Shape | None = None) -> Read:
    shape = shape or SHAPES[type]
    return Read(shape.entity_set, filter=filter, select=shape.select, expand=shape.expand, texts=shape.wants_texts)


def by_address(type: RecordType, addresses: tuple[str, ...]) -> Part:
    return Part(type, read_of(type, any_of(SHAPES[type].address, addresses)), frozenset(map(str.casefold, addresses)))


def by_id(type: RecordType, ids: Iterable[str]) -> Part:
    wanted = tuple(dict.fromkeys(id.upper() for id in ids))
    return Part(type, read_of(type, any_of("ObjectID", wanted)), frozenset(wanted), by_id=True)


def by_number(type: RecordType, number: str) -> Part:
    return Part(type, read_of(type, equals(SHAPES[type].human_id, number)), frozenset({human_id(number)}))


def by_key(message_key: str) -> Part:
    stored = groupware_item_id(message_key)
    condition = equals("GroupwareItemID", stored)
    read = Read("EMailCollection", filter=condition, select=ACTIVITY_SELECT, expand=ACTIVITY_EXPAND, orderby="ID")
    return Part("activity", read, frozenset({stored}))


def by_refs(refs: Iterable[RecordRef]) -> list[Part]:
    grouped: dict[RecordType, list[str]] = {}
    for ref in refs:
        grouped.setdefault(ref.type, []).append(ref.id)
    return [by_id(type, ids) for type, ids in grouped.items()]


def employees_by(addresses: tuple[str, ...]) -> Part:
    read = Read(EMPLOYEES, filter=any_of("Email", addresses), select=EMPLOYEE_SELECT)
    return Part("employee", read, frozenset(map(str.casefold, addresses)))


def was_asked(one: Record, part: Part) -> bool:
    if part.by_id:
        return one.id in part.values
    return one.human_id in part.values or any(address.casefold() in part.values for address in one.addresses)


def records_in(
    parts: Sequence[Part], results: Sequence[Result], url: RecordUrl, *, strict: bool = True
) -> dict[RecordRef, Record]:
    """Return what the rows hold that was really asked for: C4C's filter is not always to be believed [S5].

    Raises: with `strict` the first error that does not just mean that the user cannot have the record.
    """
    found: dict[RecordRef, Record] = {}
    for part, result in zip(parts, results, strict=True):
        if strict and result.error is not None and not isinstance(result.error, NotFound | Forbidden):
            raise result.error
        if part.about == "employee" or part.about == "activity":
            continue
        for row in result.rows:
            one = record(part.about, row, url)
            if one.id and was_asked(one, part):
                found.setdefault(one.ref, one)
    return found
