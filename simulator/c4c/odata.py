"""Answer one OData request, alone or inside a batch: path, method, options, headers in; status, headers, body out.

Authentication, CSRF and HTTP belong to `simulator.c4c`; what may be read and written to `simulator.c4c.records`. The vendor's
own faults that concern a single request are taken here, so that they also reach the parts of a batch.
"""

from __future__ import annotations

import json
import re
import urllib.parse
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from simulator.c4c.batch import Reply, Request
from simulator.c4c.changes import LOCKED_STATUS, Changes
from simulator.c4c.payload import Renderer, Shape, dump, edmx, error, json_value, primitive, service_document
from simulator.c4c.query import ODataError, Query, key_values, parse, quoted
from simulator.c4c.records import RELATIONS, Records, User, display_name, etag
from simulator.c4c.schema import EntityType, FunctionImport, Property, schema
from simulator.world import Row, World

SERVICE = "/sap/c4c/odata/v1/c4codataapi/"
PAGE = 1000
PAGE_EXPANDED = 100
_COMMON = (("dataserviceversion", "2.0"), ("cache-control", "no-cache, no-store"))
_SEGMENT = re.compile(r"(\$?\w+)(?:\((.*)\))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Target:
    """What a path leads to: rows of a set, one row, or what lies behind a row."""

    entity_set: str
    row: Row | None = None  # None: the collection
    rows: tuple[Row, ...] | None = None  # the collection, when it is a row's children
    parent: Row | None = None
    tail: str = ""  # "$count", or "Property/$value"

    @property
    def entity_type(self) -> EntityType:
        return schema().sets[self.entity_set]


def resource(path: str) -> str:
    """A path without keys, as the access log names parts of a batch: "EMailCollection/EMailNotes"."""
    return re.sub(r"\('[^)]*'\)|\([^)]*\)", "", urllib.parse.unquote(path))


class Service:
    """The service for one caller and one HTTP request; the caller holds the World's lock."""

    def __init__(self, world: World, user: User, root: str) -> None:
        self._world = world
        self._user = user
        self._root = root
        self._schema = schema()
        self.records = Records(world, user)
        self.changes = Changes(world, self.records)

    def answer(self, request: Request, *, in_batch: bool = False) -> Reply:
        """Perform the request; a refusal is an answer too. What it wrote is not committed yet."""
        path, _, query = request.target.partition("?")
        options = urllib.parse.parse_qsl(query, keep_blank_values=True)
        atom = _wants_atom(dict(options).get("$format"), request.headers)
        try:
            shape = Shape(
                self._root,
                atom=atom,
                strict=request.headers.get("odata-v2-strict-json-format") == "true",
                texts=request.headers.get("odata-no-codedescs") != "true",
            )
            return self._dispatch(request, urllib.parse.unquote(path), options, shape, in_batch)
        except ODataError as refused:
            content_type = "application/xml;charset=utf-8" if atom else "application/json"
            headers = (("Content-Type", content_type), *_COMMON, *refused.headers.items())
            return Reply(refused.status, headers, error(refused.message, atom=atom))

    def _dispatch(self, request: Request, path: str, options: list[tuple[str, str]], shape: Shape, in_batch: bool) -> Reply:
        self._own_fault(request.method, path)
        function = self._schema.functions.get(path)
        if function is not None:
            return self._call(function, request.method, options, shape)
        if request.method == "GET":
            return self._get(path, options, shape, in_batch)
        if options and {name for name, _ in options} - {"$format"}:
            raise ODataError(f"'{options[0][0]}' is not a valid query option for {request.method}")
        target = self._resolve(path)
        if request.method == "POST":
            return self._post(target, request, shape)
        if target.row is None or target.tail:
            raise ODataError(f"Method {request.method} is not allowed on '{path}'", 405)
        key = {"ObjectID": target.row.get("ObjectID", "")}
        if_match = request.headers.get("if-match")
        if request.method == "DELETE":
            self.changes.delete(target.entity_set, key, if_match)
        elif request.method in ("PATCH", "PUT"):
            replace = request.method == "PUT"
            self.changes.update(target.entity_set, key, _body(request), if_match, replace=replace)
        else:
            raise ODataError(f"Method {request.method} is not supported", 405)
        return Reply(204, (("Content-Type", "text/html"), *_COMMON))

    def _own_fault(self, method: str, path: str) -> None:
        line = SERVICE + path
        if self._world.faults and method != "GET" and self._world.take_fault("c4c", method, line, frozenset({"locked"})):
            raise ODataError("Record is locked by user ANOTHER", LOCKED_STATUS)
        fault = self._world.take_fault("c4c", method, line, frozenset({"part_status"})) if self._world.faults else None
        if fault is not None:
            after = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
            raise ODataError(fault.says or "The request could not be processed", fault.status, after)

    # -- reading

    def _get(self, path: str, options: list[tuple[str, str]], shape: Shape, in_batch: bool) -> Reply:
        if path == "":
            parse(options, self._schema.types["CodeList"], self._schema)
            content_type = "application/atomsvc+xml;charset=utf-8" if shape.atom else shape.content_type
            return _ok(content_type, service_document(shape))
        if path == "$metadata":
            return self._metadata(options)
        target = self._resolve(path)
        if target.tail == "$count":
            query = parse(options, target.entity_type, self._schema, in_batch=in_batch)
            found = self._found(target, query, path)
            return _ok("text/plain;charset=utf-8", str(len(found[query.skip :][: query.top])).encode())
        if target.tail:
            return self._property(target)
        query = parse(options, target.entity_type, self._schema, in_batch=in_batch)
        renderer = Renderer(self.records, shape, query.select, query.expand)
        if target.row is not None:
            tag = etag(target.row)
            return _ok(shape.content_type, renderer.entity(target.entity_set, target.row), etag=tag)
        return self._collection(target, query, options, path, shape)

    def _collection(self, target: _Target, query: Query, options: list[tuple[str, str]], path: str, shape: Shape) -> Reply:
        asked = (path, *(text for name, text in options if name in ("$filter", "$orderby", "$search")))
        found = self.records.lists.get(asked)
        if found is None:
            found = self._found(target, query, path)
        if query.order and not query.has_or:
            self.records.lists[asked] = found
        window = found[query.skip :] if query.top is None else found[query.skip : query.skip + query.top]
        size = PAGE_EXPANDED if query.expand else PAGE
        start = query.skip_token - 1
        page = window[start : start + size]
        next_url = None
        if len(window) > start + size:
            kept = [(name, text) for name, text in options if name != "$skiptoken"]
            kept.append(("$skiptoken", str(start + size + 1)))
            next_url = f"{self._root}{path}?{urllib.parse.urlencode(kept, safe='$', quote_via=urllib.parse.quote)}"
        renderer = Renderer(self.records, shape, query.select, query.expand)
        count = len(found) if query.count else None
        body = renderer.collection(target.entity_set, page, count=count, next_url=next_url)
        if page and self._world.faults and self._world.take_fault("c4c", "GET", SERVICE + path, frozenset({"moved"})):
            self.changes.touch(target.entity_type, page[0])
        return _ok(shape.content_type, body)

    def _found(self, target: _Target, query: Query, path: str) -> list[Row]:
        """The rows that match, ordered as asked; without $orderby in an order that changes with every read."""
        if target.row is not None:
            raise ODataError("$count is only possible on a collection")
        if query.has_or and self._world.faults:
            fault = self._world.take_fault("c4c", "GET", SERVICE + path, frozenset({"silent_empty"}))
            if fault is not None:
                return []
        entity_type = target.entity_type

        def reader(prop: Property) -> Callable[[Row], Any]:
            return self.records.value(entity_type, prop)

        accepts = query.matches(reader)
        rows = list(target.rows) if target.rows is not None else self.records.indexed(target.entity_set)
        rows = [row for row in rows if accepts(row)]
        if query.order:
            return query.ordered(rows, reader)
        if entity_type.entity_set:
            salt = self._world.crm.new_salt()
            rows.sort(key=lambda row: zlib.crc32(f"{salt} {row['ObjectID']}".encode()))
        return rows

    def _property(self, target: _Target) -> Reply:
        name, _, value_only = target.tail.partition("/")
        prop = target.entity_type.properties[name]
        assert target.row is not None
        value = self.records.value(target.entity_type, prop)(target.row)
        if not value_only:
            return _ok("application/json", dump({"d": {name: json_value(prop, value)}}))
        if value is None:
            raise ODataError(f"Property '{name}' has no value", 404)
        if isinstance(value, bytes):
            return _ok(target.row.get("MimeType") or "application/octet-stream", value)
        return _ok("text/plain;charset=utf-8", str(json_value(prop, value)).encode())

    def _metadata(self, options: list[tuple[str, str]]) -> Reply:
        given = dict(options)
        if set(given) - {"sap-label", "$filter", "sap-language"}:
            raise ODataError(f"'{options[0][0]}' is not a valid query option for $metadata")
        only = frozenset(name.strip() for name in given["$filter"].split(",")) if "$filter" in given else None
        if only is not None and only - set(self._schema.types):
            raise ODataError("$filter of $metadata names an unknown entity type")
        return _ok("application/xml;charset=utf-8", edmx(self._schema, labels=given.get("sap-label") == "true", only=only))

    def _resolve(self, path: str) -> _Target:
        """Walk from the entity set along keys and navigations."""
        first, *rest = _segments(path)
        entity_set, key = first
        if entity_set not in self._schema.sets:
            raise ODataError(f"Resource not found for the segment '{entity_set}'", 404)
        target = _Target(entity_set)
        if key is not None:
            keys = key_values(key, self._schema.sets[entity_set].keys)
            if keys is None:
                raise ODataError(f"Malformed key in the URI for '{entity_set}'")
            target = _Target(entity_set, self.records.get(entity_set, keys))
        for index, (name, below) in enumerate(rest):
            last = index == len(rest) - 1
            if last and name == "$count" and below is None and target.row is None:
                return _Target(entity_set=target.entity_set, rows=target.rows, tail="$count")
            if target.row is not None and name in target.entity_type.properties and below is None:
                tail = "/".join(segment for segment, _ in rest[index:])
                if tail in (name, f"{name}/$value"):
                    return _Target(target.entity_set, target.row, tail=tail)
            target = self._follow(target, name, below)
        return target

    def _follow(self, target: _Target, name: str, key: str | None) -> _Target:
        navigation = target.entity_type.navigations.get(name)
        if navigation is None or target.row is None:
            raise ODataError(f"Resource not found for the segment '{name}'", 404)
        reached = self._schema.types[navigation.target]
        rows = self.records.related(target.entity_type, target.row, navigation)
        if not navigation.many:
            if not rows:
                raise ODataError(f"Resource not found for the segment '{name}'", 404)
            return _Target(reached.entity_set, rows[0])
        if key is None:
            return _Target(reached.entity_set, rows=tuple(rows), parent=target.row)
        keys = key_values(key, reached.keys)
        found = next((row for row in rows if keys and row["ObjectID"] == keys["ObjectID"]), None)
        if found is None:
            raise ODataError(f"Resource not found for the segment '{name}'", 404)
        return _Target(reached.entity_set, found)

    # -- writing

    def _post(self, target: _Target, request: Request, shape: Shape) -> Reply:
        if target.row is not None or target.tail:
            raise ODataError("Method POST is only allowed on a collection", 405)
        row = self.changes.create(target.entity_set, _body(request), target.parent)
        if target.entity_set == "EMailCollection":
            self._delay_index(row)
        location = f"{self._root}{target.entity_set}('{row['ObjectID']}')"
        tag = etag(row)
        headers = (("location", location), *_COMMON, *((("etag", tag),) if tag else ()))
        if request.headers.get("odata-no-response-payload") == "true":
            return Reply(201, (("Content-Type", "text/html"), *headers))
        body = Renderer(self.records, shape, None, {}).entity(target.entity_set, row)
        return Reply(201, (("Content-Type", shape.content_type), *headers), body)

    def _delay_index(self, row: Row) -> None:
        fault = self._world.take_fault("c4c", "POST", SERVICE + "EMailCollection", frozenset({"index_delay"}))
        if fault is not None:
            self._world.crm.unindexed[row["ObjectID"]] = self._world.now() + timedelta(seconds=fault.seconds)

    # -- function imports

    def _call(self, function: FunctionImport, method: str, options: list[tuple[str, str]], shape: Shape) -> Reply:
        if method != function.method:
            raise ODataError(f"Function import '{function.name}' must be called with {function.method}", 405)
        given: dict[str, str] = {}
        for name, text in options:
            if name not in function.parameters:
                continue
            value = quoted(text)
            if value is None:
                raise ODataError(f"Invalid value for parameter '{name}' of function import '{function.name}'")
            given[name] = value
        rest = [(name, text) for name, text in options if name not in function.parameters]
        if function.returns == "Edm.Boolean":
            if rest and {name for name, _ in rest} - {"$format"}:
                raise ODataError(f"'{rest[0][0]}' is not a valid query option")
            return self._known_groupware_id(function, given, shape)
        entity_type = self._schema.sets[function.entity_set]
        query = parse(rest, entity_type, self._schema)
        rows = self._contacts(given) if function.name == "ContactQueryByElements" else [self._me()]
        page = rows[query.skip :] if query.top is None else rows[query.skip : query.skip + query.top]
        renderer = Renderer(self.records, shape, query.select, query.expand)
        count = len(rows) if query.count else None
        return _ok(shape.content_type, renderer.collection(function.entity_set, page, count=count, next_url=None))

    def _known_groupware_id(self, function: FunctionImport, given: Mapping[str, str], shape: Shape) -> Reply:
        wanted = given.get("GroupwareItemID")
        if not wanted:
            raise ODataError("Parameter 'GroupwareItemID' is missing")
        known = any(row.get("GroupwareItemID") == wanted for row in self.records.indexed(function.entity_set))
        content_type = "application/xml;charset=utf-8" if shape.atom else "application/json"
        return _ok(content_type, primitive(shape, function.name, known))

    def _contacts(self, given: Mapping[str, str]) -> list[Row]:
        """ContactQueryByElements: one row per contact and account; an empty address gives the first row there is (S5)."""
        simulated = {"EMailURI", "SearchText", "LastName", "FirstName", "ContactID", "NumberOfRows", "StartRow"}
        if set(given) - simulated:
            raise ODataError(f"Parameter '{min(set(given) - simulated)}' is not simulated")
        rows = []
        for contact in self.records.all("ContactCollection"):
            relations = self._world.crm.children(RELATIONS, contact["ObjectID"]) or [{}]
            for relation in relations:
                row = {**contact, **{name: relation[name] for name in ("AccountID", "Email", "Phone") if relation.get(name)}}
                if _fits(row, given):
                    rows.append(row)
        if given.get("EMailURI") == "":
            return rows[:1]
        start = int(given.get("StartRow") or 0)
        return rows[start : start + int(given.get("NumberOfRows") or PAGE)]

    def _me(self) -> Row:
        staff = self._world.crm.rows("EmployeeBasicDataCollection").values()
        me = next((row for row in staff if row.get("UserID") == self._user.user_id), {})
        names = ("ObjectID", "EmployeeID", "BusinessPartnerID", "Email", "CreatedOn", "ChangedOn", "EntityLastChangedOn")
        row: Row = {name: me[name] for name in names if name in me}
        row.setdefault("ObjectID", "00163E" + "F" * 26)
        row |= {"UserID": self._user.user_id, "UserAccountID": self._user.user_id, "LogonLanguageCode": "EN"}
        row |= {"UserName": display_name(me) or self._user.name, "EmployeeUUID": me.get("ObjectID")}
        return row | {"UUID": row["ObjectID"], "TechnicalUserIndicator": self._user.is_admin}


def _fits(row: Row, given: Mapping[str, str]) -> bool:
    fields = {"EMailURI": "Email", "LastName": "LastName", "FirstName": "FirstName", "ContactID": "ContactID"}
    for parameter, field in fields.items():
        if given.get(parameter) and row.get(field) != given[parameter]:
            return False
    words = given.get("SearchText", "").lower().split()
    text = f"{display_name(row)} {row.get('Email', '')}".lower()
    return all(word.strip("*") in text for word in words)


def _segments(path: str) -> list[tuple[str, str | None]]:
    """Split a decoded path at the slashes outside of keys: [(name, what stands in its parentheses)]."""
    segments = []
    for part in re.findall(r"(?:\((?:'(?:[^']|'')*'|[^)'])*\)|[^/(])+", path.removesuffix("/")):
        match = _SEGMENT.fullmatch(part)
        if match is None:
            raise ODataError(f"Resource not found for the segment '{part}'", 404)
        segments.append((match[1], match[2]))
    if not segments:
        raise ODataError("Resource not found", 404)
    return segments


def _wants_atom(asked: str | None, headers: Mapping[str, str]) -> bool:
    """Atom is the default; JSON comes by $format, by Accept, or in answer to JSON."""
    if asked is not None:
        return asked != "json"
    accepted = headers.get("accept", "")
    if "application/json" in accepted:
        return False
    sends_json = headers.get("content-type", "").startswith("application/json")
    return not (sends_json and accepted in ("", "*/*"))


def _body(request: Request) -> dict[str, Any]:
    if not request.headers.get("content-type", "").lower().startswith("application/json"):
        raise ODataError("The simulated service reads application/json only", 415)
    try:
        body = json.loads(request.body)
    except (UnicodeDecodeError, json.JSONDecodeError):
        raise ODataError("Malformed request body") from None
    if not isinstance(body, dict):
        raise ODataError("The request body must be one JSON object")
    return body


def _ok(content_type: str, body: bytes, *, etag: str | None = None) -> Reply:
    headers = (("Content-Type", content_type), ("cache-control", "no-cache, no-store"), ("dataserviceversion", "2.0"))
    return Reply(200, (*headers, ("etag", etag)) if etag else headers, body)
