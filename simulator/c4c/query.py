"""The system query options of a C4C read, parsed as strictly as C4C parses them, and what they mean for rows.

`parse()` turns the decoded options into a Query; `Query.matches` and `Query.ordered` apply $filter, $search and $orderby to
rows through a Reader. What C4C refuses raises ODataError with C4C's status.

The limits are those of c4c-odata.md section 1: comparisons have the property on the left; `or` joins conditions on one
property only; strings know startswith, endswith and, inside eq, the wildcard `*`; nothing else. Paging and rendering are not
done here.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from simulator.c4c.schema import EntityType, Property, Schema
from simulator.world import Row

Reader = Callable[[Property], Callable[[Row], Any]]
"""Gives the function that reads a property of a row: "" for a missing string, False for a missing boolean, else None."""

Predicate = Callable[[Row], bool]
Tree = dict[str, "Tree"]
"""Paths of $select or $expand: name -> what was asked for below it."""


class ODataError(Exception):
    """C4C refuses the request; `headers` go along with the answer."""

    def __init__(self, message: str, status: int = 400, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.headers = headers or {}


@dataclass(slots=True)
class Query:
    """What the system query options ask for."""

    condition: Condition | None = None
    order: list[tuple[Property, bool]] = field(default_factory=list)  # (property, descending)
    top: int | None = None
    skip: int = 0
    skip_token: int = 1  # 1-based position in the window of top and skip
    count: bool = False
    words: list[re.Pattern[str]] = field(default_factory=list)
    select: Tree | None = None
    expand: Tree = field(default_factory=dict)

    @property
    def has_or(self) -> bool:
        return self.condition is not None and self.condition.has_or()

    def matches(self, reader: Reader) -> Predicate:
        """Return a test for $filter and $search."""
        accepts = self.condition.compile(reader) if self.condition else None

        def found(row: Row) -> bool:
            return (accepts is None or accepts(row)) and all(_contains(row, word) for word in self.words)

        return found

    def ordered(self, rows: list[Row], reader: Reader) -> list[Row]:
        """Sort by $orderby; missing values come first."""
        for prop, descending in reversed(self.order):
            read = reader(prop)
            keyed = sorted(((_sortable(read(row)), i) for i, row in enumerate(rows)), key=lambda k: k[0], reverse=descending)
            rows = [rows[i] for _, i in keyed]
        return rows


def parse(options: Iterable[tuple[str, str]], entity_type: EntityType, schema: Schema, *, in_batch: bool = False) -> Query:
    """Read the options of a request for rows of `entity_type`.

    Raises: ODataError for an option, a name, an operator or a value that C4C does not know.
    """
    query = Query()
    seen: set[str] = set()
    for name, text in options:
        if name in seen:
            raise ODataError(f"System query option '{name}' is given more than once")
        seen.add(name)
        match name:
            case "$format" if text not in ("json", "atom", "xml"):
                raise ODataError(f"Format '{text}' is not supported")
            case "$filter":
                query.condition = _Parser(text, entity_type).condition()
            case "$orderby":
                query.order = _order(text, entity_type)
            case "$top":
                query.top = _number(name, text)
            case "$skip":
                query.skip = _number(name, text)
            case "$skiptoken":
                query.skip_token = max(1, _number(name, text))
            case "$inlinecount":
                if text not in ("allpages", "none"):
                    raise ODataError(f"Invalid value '{text}' for $inlinecount")
                query.count = text == "allpages"
            case "$select":
                query.select = _paths(text)
                _check_select(query.select, entity_type, schema)
            case "$expand":
                query.expand = _paths(text)
                _check_expand(query.expand, entity_type, schema)
            case "$search":
                if in_batch:
                    raise ODataError("$search is not allowed in a batch request")
                query.words = [_word(word) for word in text.split()]
            case "$format":
                pass
            case _ if not name.startswith("sap-"):
                raise ODataError(f"'{name}' is not a valid system query option")
    return query


@dataclass(frozen=True, slots=True)
class Condition:
    """A node of $filter: a comparison of a property with a literal, or `and`/`or` over others."""

    op: str
    prop: Property | None = None
    literal: Any = None
    parts: tuple[Condition, ...] = ()

    def has_or(self) -> bool:
        return self.op == "or" or any(part.has_or() for part in self.parts)

    def properties(self) -> set[str]:
        if self.prop is not None:
            return {self.prop.name}
        return set().union(*(part.properties() for part in self.parts))

    def is_plain_eq(self) -> bool:
        return self.op == "eq" and not (isinstance(self.literal, str) and "*" in self.literal)

    def compile(self, reader: Reader) -> Predicate:
        if self.prop is None:
            return self._compile_parts(reader)
        read, literal = reader(self.prop), self.literal
        match self.op:
            case "eq" if not self.is_plain_eq():
                pattern = re.compile(".*".join(map(re.escape, literal.split("*"))), re.DOTALL)
                return lambda row: pattern.fullmatch(read(row)) is not None
            case "eq":
                return lambda row: bool(read(row) == literal)
            case "ne":
                return lambda row: bool(read(row) != literal)
            case "startswith":
                return lambda row: bool(read(row).startswith(literal))
            case "endswith":
                return lambda row: bool(read(row).endswith(literal))
        order = {"lt": (-1,), "le": (-1, 0), "gt": (1,), "ge": (0, 1)}[self.op]
        return lambda row: _compared(read(row), literal) in order

    def _compile_parts(self, reader: Reader) -> Predicate:
        if self.op == "or" and all(part.is_plain_eq() for part in self.parts):
            prop = self.parts[0].prop
            assert prop is not None
            read, literals = reader(prop), frozenset(part.literal for part in self.parts)
            return lambda row: read(row) in literals
        tests = [part.compile(reader) for part in self.parts]
        if self.op == "or":
            return lambda row: any(test(row) for test in tests)
        return lambda row: all(test(row) for test in tests)


_TOKEN = re.compile(
    r"""\s*(?:
      (?P<typed>(?:datetimeoffset|datetime|guid|time)'[^']*')
    | (?P<string>'(?:[^']|'')*')
    | (?P<number>-?\d+(?:\.\d+)?[mMdDfFlL]?(?![\w.]))
    | (?P<name>[A-Za-z_]\w*(?:/\w+)*)
    | (?P<mark>[(),])
    | (?P<end>\Z)
    )""",
    re.VERBOSE,
)
_TYPED = {
    "datetime": "Edm.DateTime",
    "datetimeoffset": "Edm.DateTimeOffset",
    "guid": "Edm.Guid",
    "time": "Edm.Time",
}
_COMPARISONS = ("eq", "ne", "gt", "ge", "lt", "le")
_DATE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,7}))?(Z|[+-]\d\d:\d\d)?")


class _Parser:
    """Recursive descent over one $filter."""

    def __init__(self, text: str, entity_type: EntityType) -> None:
        self._type = entity_type
        self._tokens = self._split(text)
        self._at = 0

    def condition(self) -> Condition:
        found = self._either()
        self._take("end")
        return found

    def _split(self, text: str) -> list[tuple[str, str, int]]:
        tokens: list[tuple[str, str, int]] = []
        at = 0
        while not tokens or tokens[-1][0] != "end":
            match = _TOKEN.match(text, at)
            if match is None or match.lastgroup is None:
                raise ODataError(f"Invalid token found at position {at}")
            tokens.append((match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
            at = match.end()
        return tokens

    def _peek(self) -> str:
        kind, text, _ = self._tokens[self._at]
        return text if kind in ("name", "mark") else kind

    def _take(self, *kinds: str) -> tuple[str, str]:
        kind, text, position = self._tokens[self._at]
        if kind not in kinds and text not in kinds:
            raise ODataError(f"Invalid token found at position {position}")
        self._at += 1
        return kind, text

    def _either(self) -> Condition:
        parts = [self._all()]
        while self._peek() == "or":
            self._take("or")
            parts.append(self._all())
        if len(parts) == 1:
            return parts[0]
        found = Condition("or", parts=tuple(parts))
        if len(found.properties()) > 1:
            raise ODataError("Operator 'or' is only supported for conditions on the same property")
        return found

    def _all(self) -> Condition:
        parts = [self._one()]
        while self._peek() == "and":
            self._take("and")
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else Condition("and", parts=tuple(parts))

    def _one(self) -> Condition:
        if self._peek() == "(":
            self._take("(")
            found = self._either()
            self._take(")")
            return found
        _, name = self._take("name")
        if self._peek() == "(":
            return self._call(name)
        prop = self._property(name)
        _, op = self._take(*_COMPARISONS)
        return Condition(op, prop, self._literal(prop))

    def _call(self, function: str) -> Condition:
        if function not in ("startswith", "endswith"):
            raise ODataError(f"Function '{function}' is not supported")
        self._take("(")
        prop = self._property(self._take("name")[1])
        self._take(",")
        if prop.type != "Edm.String":
            raise ODataError(f"Function '{function}' needs a property of type Edm.String")
        literal = self._literal(prop)
        self._take(")")
        if self._peek() == "eq":
            self._take("eq")
            self._take("true")
        return Condition(function, prop, literal)

    def _property(self, name: str) -> Property:
        if "/" in name:
            raise ODataError(f"Navigation properties are not supported in $filter: '{name}'")
        return _filterable(name, self._type)

    def _literal(self, prop: Property) -> Any:
        kind, text = self._take("typed", "string", "number", "true", "false")
        value = literal(kind, text, prop)
        if value is None:
            raise ODataError(f"Invalid value {text} for property '{prop.name}' of type {prop.type}")
        return value


def literal(kind: str, text: str, prop: Property) -> Any:
    """The value of a literal for this property; None when it is not one of the property's type."""
    if kind == "string":
        return text[1:-1].replace("''", "'") if prop.type == "Edm.String" else None
    if kind == "number":
        number = Decimal(text.rstrip("mMdDfFlL"))
        if prop.type in ("Edm.Int16", "Edm.Int32"):
            return int(number) if number == int(number) else None
        return number if prop.type == "Edm.Decimal" else None
    if kind == "name":
        return text == "true" if prop.type == "Edm.Boolean" else None
    prefix, _, inner = text[:-1].partition("'")
    if _TYPED[prefix] != prop.type:
        return None
    if prefix == "guid":
        return guid(inner)
    return inner if prefix == "time" else moment(inner, needs_zone=prefix == "datetimeoffset")


def moment(text: str, *, needs_zone: bool = False) -> datetime | None:
    """Read ISO 8601 with up to 7 digits of fraction as aware UTC; without a zone it is UTC. None if it is no date."""
    match = _DATE.fullmatch(text)
    if match is None or (needs_zone and not match[3]):
        return None
    try:
        read = datetime.fromisoformat(f"{match[1]}{(match[3] or 'Z').replace('Z', '+00:00')}")
    except ValueError:
        return None
    return read.replace(microsecond=int((match[2] or "0").ljust(7, "0")[:6])).astimezone(UTC)


def guid(text: str) -> str | None:
    """Return a GUID, with or without dashes, as C4C shows it: upper case with dashes. None if it is none."""
    try:
        return str(uuid.UUID(text)).upper()
    except ValueError:
        return None


def _filterable(name: str, entity_type: EntityType) -> Property:
    if name in entity_type.navigations:
        raise ODataError(f"Navigation properties are not supported in $filter: '{name}'")
    prop = entity_type.properties.get(name)
    if prop is None:
        raise ODataError(f"Property '{name}' does not exist in entity type '{entity_type.name}'")
    if not prop.filterable:
        raise ODataError(f"Property '{name}' of entity type '{entity_type.name}' is not filterable")
    return prop


def _order(text: str, entity_type: EntityType) -> list[tuple[Property, bool]]:
    order = []
    for item in text.split(","):
        name, direction = [*item.split(), "asc"][:2] if 0 < len(item.split()) < 3 else ("", "")
        prop = entity_type.properties.get(name)
        if prop is None or direction not in ("asc", "desc"):
            raise ODataError(f"Invalid expression '{item.strip()}' in $orderby")
        order.append((prop, direction == "desc"))
    return order


def _number(name: str, text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text):
        raise ODataError(f"Invalid value '{text}' for {name}")
    return int(text)


def _paths(text: str) -> Tree:
    tree: Tree = {}
    for path in text.split(","):
        level = tree
        for name in path.strip().split("/"):
            level = level.setdefault(name, {})
    return tree


def _check_select(tree: Tree, entity_type: EntityType, schema: Schema) -> None:
    for name, below in tree.items():
        navigation = entity_type.navigations.get(name)
        if navigation is not None:
            _check_select(below, schema.types[navigation.target], schema)
        elif name not in entity_type.properties or below:
            raise ODataError(f"Property '{name}' does not exist in entity type '{entity_type.name}'")


def _check_expand(tree: Tree, entity_type: EntityType, schema: Schema) -> None:
    for name, below in tree.items():
        navigation = entity_type.navigations.get(name)
        if navigation is None:
            raise ODataError(f"Navigation property '{name}' does not exist in entity type '{entity_type.name}'")
        _check_expand(below, schema.types[navigation.target], schema)


def _word(text: str) -> re.Pattern[str]:
    return re.compile(r"(?<!\w)" + r"\S*".join(map(re.escape, text.split("*"))) + r"(?!\w)", re.IGNORECASE)


def _contains(row: Row, word: re.Pattern[str]) -> bool:
    return any(isinstance(value, str) and word.search(value) for value in row.values())


def _compared(left: Any, right: Any) -> int | None:
    """-1, 0 or 1; None when the left side is missing."""
    if left is None or left == "":
        return None
    return int(left > right) - int(left < right)


def _sortable(value: Any) -> tuple[bool, Any]:
    return (value is not None, value if value is not None else 0)


def quoted(text: str) -> str | None:
    """The content of a quoted string literal, e.g. of a function's parameter; None if it is not one."""
    return text[1:-1].replace("''", "'") if re.fullmatch(r"'(?:[^']|'')*'", text, re.DOTALL) else None


def key_values(text: str, names: Sequence[str]) -> dict[str, str] | None:
    """Read what stands between the parentheses of a key: 'x' or Name='x',...; None if it fits not to the names."""
    alone = quoted(text)
    if alone is not None and len(names) == 1:
        return {names[0]: alone}
    found = {}
    for name, value in re.findall(r"(\w+)=('(?:[^']|'')*')", text):
        found[name] = quoted(value) or ""
    whole = ",".join(f"{name}='{value.replace(chr(39), chr(39) * 2)}'" for name, value in found.items())
    return found if set(found) == set(names) and whole == text else None
