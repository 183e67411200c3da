"""The part of $filter and $orderby that Outlook clients use, upon messages and contacts. What real Graph knows is more."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from simulator.graph.resources import MESSAGE, GraphError, Options, extended

Predicate = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Kind:
    """What can be filtered and ordered: views that have these properties, and a `stored` item."""

    name: str  # the type's, in errors
    properties: Mapping[str, Callable[[Any], Any]]
    extended: Callable[[Any, str], tuple[str, str | None]]
    order: str = ""  # $orderby when there is none


MESSAGES = Kind("microsoft.graph.message", MESSAGE, extended, "receivedDateTime desc")

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda a, b: bool(a == b),
    "ne": lambda a, b: bool(a != b),
    "ge": lambda a, b: a is not None and bool(a >= b),
    "gt": lambda a, b: a is not None and bool(a > b),
    "le": lambda a, b: a is not None and bool(a <= b),
    "lt": lambda a, b: a is not None and bool(a < b),
}
_CLAUSES = re.compile(r"((?:[^' ()]|'(?:[^']|'')*'|\((?:[^'()]|'(?:[^']|'')*')*\)| (?!and ))+)(?: and |$)")
_COMPARISON = re.compile(r"([\w/]+) (eq|ne|ge|gt|le|lt) ('(?:[^']|'')*'|true|false|null|[\d:.TZ+-]+)")
_CATEGORY = re.compile(r"categories/any\((\w+):\s*\1 eq '((?:[^']|'')*)'\)")
_EXTENDED = re.compile(r"singleValueExtendedProperties/[Aa]ny\((\w+):\s*\1/id eq '([^']+)' and \1/value eq '((?:[^']|'')*)'\)")


def condition(text: str, kind: Kind = MESSAGES) -> Predicate:
    """Understand `a eq 'x' and b ge 2026-01-01T00:00:00Z`, `categories/any(c:c eq 'x')` and extended properties.

    Raises: GraphError for anything else (`or`, functions), which real Graph may allow.
    """
    position, parts = 0, []
    while position < len(text):
        clause = _CLAUSES.match(text, position)
        if clause is None:
            raise _bad_filter(text)
        parts.append(_clause(clause[1].strip(), kind))
        position = clause.end()
    return lambda view: all(part(view) for part in parts)


def _clause(text: str, kind: Kind) -> Predicate:
    if found := _CATEGORY.fullmatch(text):
        wanted = found[2].replace("''", "'")
        return lambda view: wanted in view.stored.categories
    if found := _EXTENDED.fullmatch(text):
        identifier, value = found[2], found[3].replace("''", "'").casefold()  # case does not count (singlevalue...-get page)
        return lambda view: (kind.extended(view, identifier)[1] or "").casefold() == value
    found = _COMPARISON.fullmatch(text)
    if found is None:
        raise _bad_filter(text)
    path, compare, literal = found[1], _COMPARE[found[2]], _literal(found[3])
    _check_path(path, kind)
    return lambda view: compare(_at(view, path, kind), literal)


def _literal(text: str) -> str | bool | None:
    if text in ("true", "false", "null"):
        return {"true": True, "false": False, "null": None}[text]
    return text[1:-1].replace("''", "'") if text.startswith("'") else text


def _check_path(path: str, kind: Kind) -> None:
    if path.split("/")[0] not in kind.properties:
        text = f"Could not find a property named '{path}' on type '{kind.name}'."
        raise GraphError(400, "RequestBroker--ParseUri", text)


def _at(view: Any, path: str, kind: Kind) -> Any:
    first, *rest = path.split("/")
    value = kind.properties[first](view)
    for name in rest:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _bad_filter(text: str) -> GraphError:
    return GraphError(400, "BadRequest", f"Invalid filter clause: {text}")


def ordered(views: list[Any], options: Options, kind: Kind = MESSAGES) -> list[Any]:
    """Sort by $orderby; without it, messages the newest first.

    Raises: GraphError InefficientFilter when $filter does not name the properties of $orderby first and in their order
    (page user-list-messages).
    """
    keys = [key.split() for key in (options.orderby or kind.order).split(",") if key.strip()]
    for path, *_ in keys:
        _check_path(path, kind)
    if options.filter and options.orderby:
        named = list(dict.fromkeys(re.findall(r"([\w/]+) (?:eq|ne|ge|gt|le|lt) ", options.filter)))
        if named[: len(keys)] != [path for path, *_ in keys]:
            text = "The restriction or sort order is too complex for this operation."
            raise GraphError(400, "InefficientFilter", text)
    for path, *direction in reversed(keys):
        views = sorted(views, key=partial(_sortable, path, kind), reverse=direction == ["desc"])
    return views


def _sortable(path: str, kind: Kind, view: Any) -> str:
    return str(_at(view, path, kind))
