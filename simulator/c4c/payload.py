"""Records as they travel: C4C's JSON in its two shapes, Atom, $metadata and the service document.

C4C wraps a single entity in `results` and sends an expanded list as a plain array; the request header
`odata-v2-strict-json-format: true` gives the standard OData V2 shapes instead (c4c-odata.md, S1, S6, S16). Atom is well formed
and complete but not polished: JSON is what clients use. Nothing is decided here; rows come from `simulator.c4c.records`.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from lxml import etree

from simulator.c4c.query import Tree
from simulator.c4c.records import Records, etag as etag_of
from simulator.c4c.schema import NAMESPACE, EntityType, Navigation, Property, Schema, schema
from simulator.world import Row

_ATOM = "http://www.w3.org/2005/Atom"
_APP = "http://www.w3.org/2007/app"
_D = "http://schemas.microsoft.com/ado/2007/08/dataservices"
_M = "http://schemas.microsoft.com/ado/2007/08/dataservices/metadata"
_EDM = "http://schemas.microsoft.com/ado/2008/09/edm"
_EDMX = "http://schemas.microsoft.com/ado/2007/06/edmx"
_SAP = "http://www.sap.com/Protocols/SAPData"
_C4C = "http://www.sap.com/Protocols/C4CData"
_XML = "http://www.w3.org/XML/1998/namespace"


@dataclass(frozen=True, slots=True)
class Shape:
    """How an answer is to look."""

    root: str  # URL of the service, with a slash at the end
    atom: bool = False
    strict: bool = False  # standard V2 JSON
    texts: bool = True  # descriptions of codes

    @property
    def content_type(self) -> str:
        return "application/atom+xml;charset=utf-8" if self.atom else "application/json"


class Renderer:
    """Writes rows for one request."""

    def __init__(self, records: Records, shape: Shape, select: Tree | None, expand: Tree) -> None:
        self._records = records
        self._shape = shape
        self._select = select
        self._expand = expand
        self._schema = schema()

    def entity(self, entity_set: str, row: Row) -> bytes:
        entity_type = self._schema.sets[entity_set]
        if self._shape.atom:
            entry = self._entry(entity_type, entity_set, row, self._select, self._expand)
            return etree.tostring(entry, xml_declaration=True, encoding="utf-8")
        body = self._json(entity_type, entity_set, row, self._select, self._expand)
        return dump({"d": body if self._shape.strict else {"results": body}})

    def collection(self, entity_set: str, rows: Sequence[Row], *, count: int | None, next_url: str | None) -> bytes:
        entity_type = self._schema.sets[entity_set]
        if self._shape.atom:
            return self._feed(entity_type, entity_set, rows, count, next_url)
        envelope: dict[str, Any] = {} if count is None else {"__count": str(count)}
        envelope["results"] = [self._json(entity_type, entity_set, row, self._select, self._expand) for row in rows]
        if next_url is not None:
            envelope["__next"] = next_url
        return dump({"d": envelope})

    def _json(self, entity_type: EntityType, entity_set: str, row: Row, select: Tree | None, expand: Tree) -> dict[str, Any]:
        metadata = {"uri": self._uri(entity_type, entity_set, row), "type": f"{NAMESPACE}.{entity_type.name}"}
        if (tag := etag_of(row)) is not None:
            metadata["etag"] = tag
        body: dict[str, Any] = {"__metadata": metadata}
        for prop in self._chosen(entity_type, select):
            body[prop.name] = json_value(prop, self._value(entity_type, prop, row))
        for navigation in entity_type.navigations.values():
            if select is not None and navigation.name not in select:
                continue
            if navigation.name not in expand:
                body[navigation.name] = {"__deferred": {"uri": f"{metadata['uri']}/{navigation.name}"}}
                continue
            body[navigation.name] = self._expanded(entity_type, row, navigation, select, expand)
        return body

    def _expanded(self, entity_type: EntityType, row: Row, navigation: Navigation, select: Tree | None, expand: Tree) -> Any:
        target = self._schema.types[navigation.target]
        below = select[navigation.name] if select else None
        rows = self._records.related(entity_type, row, navigation)
        found = [self._json(target, target.entity_set, r, below or None, expand[navigation.name]) for r in rows]
        if not navigation.many:
            return found[0] if found else None
        return {"results": found} if self._shape.strict else found

    def _chosen(self, entity_type: EntityType, select: Tree | None) -> list[Property]:
        return [
            prop
            for prop in entity_type.properties.values()
            if (select is None or prop.name in select) and (self._shape.texts or not prop.text_of)
        ]

    def _value(self, entity_type: EntityType, prop: Property, row: Row) -> Any:
        value = self._records.value(entity_type, prop)(row)
        if prop.name == "DocumentLink" and value and "://" not in value:
            return self._shape.root + value
        return value

    def _uri(self, entity_type: EntityType, entity_set: str, row: Row) -> str:
        keys = entity_type.keys
        if len(keys) == 1:
            return f"{self._shape.root}{entity_set}('{row[keys[0]]}')"
        key = ",".join(f"{name}='{row[name]}'" for name in keys)
        return f"{self._shape.root}{entity_set}({key})"

    def _feed(
        self, entity_type: EntityType, entity_set: str, rows: Sequence[Row], count: int | None, next_url: str | None
    ) -> bytes:
        feed = etree.Element(f"{{{_ATOM}}}feed", nsmap={None: _ATOM, "d": _D, "m": _M})
        feed.set(f"{{{_XML}}}base", self._shape.root)
        _sub(feed, _ATOM, "id", self._shape.root + entity_set)
        _sub(feed, _ATOM, "title", entity_set)
        _sub(feed, _ATOM, "updated", "1970-01-01T00:00:00Z")
        if count is not None:
            _sub(feed, _M, "count", str(count))
        for row in rows:
            feed.append(self._entry(entity_type, entity_set, row, self._select, self._expand))
        if next_url is not None:
            _sub(feed, _ATOM, "link", None, rel="next", href=next_url)
        return etree.tostring(feed, xml_declaration=True, encoding="utf-8")

    def _entry(self, entity_type: EntityType, entity_set: str, row: Row, select: Tree | None, expand: Tree) -> etree._Element:
        entry = etree.Element(f"{{{_ATOM}}}entry", nsmap={None: _ATOM, "d": _D, "m": _M})
        if (tag := etag_of(row)) is not None:
            entry.set(f"{{{_M}}}etag", tag)
        uri = self._uri(entity_type, entity_set, row)
        _sub(entry, _ATOM, "id", uri)
        _sub(entry, _ATOM, "title", entity_set)
        changed = row.get("EntityLastChangedOn") or row.get("ETag")
        _sub(entry, _ATOM, "updated", changed.strftime("%Y-%m-%dT%H:%M:%SZ") if changed else "1970-01-01T00:00:00Z")
        _sub(entry, _ATOM, "category", None, term=f"{NAMESPACE}.{entity_type.name}", scheme=f"{_D}/scheme")
        _sub(entry, _ATOM, "link", None, rel="edit", title=entity_type.name, href=uri.removeprefix(self._shape.root))
        for navigation in entity_type.navigations.values():
            if select is None or navigation.name in select:
                self._link(entry, uri, entity_type, row, navigation, select, expand)
        content = _sub(entry, _ATOM, "content", None, type="application/xml")
        properties = _sub(content, _M, "properties")
        for prop in self._chosen(entity_type, select):
            text = xml_value(prop, self._value(entity_type, prop, row))
            element = _sub(properties, _D, prop.name, text)
            if prop.type != "Edm.String":
                element.set(f"{{{_M}}}type", prop.type)
            if text is None:
                element.set(f"{{{_M}}}null", "true")
        return entry

    def _link(
        self,
        entry: etree._Element,
        uri: str,
        entity_type: EntityType,
        row: Row,
        navigation: Navigation,
        select: Tree | None,
        expand: Tree,
    ) -> None:
        kind = "feed" if navigation.many else "entry"
        href = f"{uri.removeprefix(self._shape.root)}/{navigation.name}"
        link = _sub(entry, _ATOM, "link", None, rel=f"{_D}/related/{navigation.name}", href=href)
        link.set("type", f"application/atom+xml;type={kind}")
        if navigation.name not in expand:
            return
        target = self._schema.types[navigation.target]
        inline = _sub(link, _M, "inline")
        holder = _sub(inline, _ATOM, "feed") if navigation.many else inline
        below = (select[navigation.name] if select else None) or None
        for found in self._records.related(entity_type, row, navigation):
            holder.append(self._entry(target, target.entity_set, found, below, expand[navigation.name]))


def _sub(parent: etree._Element, namespace: str, tag: str, text: str | None = None, **attributes: str) -> etree._Element:
    element = etree.SubElement(parent, f"{{{namespace}}}{tag}", attributes)
    element.text = None if text is None else re.sub(r"[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)
    return element


def dump(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def json_value(prop: Property, value: Any) -> Any:
    """A row's value in C4C's JSON: dates as /Date(ms)/ in UTC, decimals as strings, binaries as base64."""
    match value:
        case None | bool():
            return value
        case datetime():
            return f"/Date({int(value.timestamp() * 1000)})/"
        case bytes():
            return base64.b64encode(value).decode("ascii")
        case int() if prop.type != "Edm.Decimal":
            return value
        case int() | Decimal():
            return f"{value:.{prop.scale or 0}f}"
    return value


def xml_value(prop: Property, value: Any) -> str | None:
    match value:
        case None:
            return None
        case bool():
            return str(value).lower()
        case datetime():
            text = value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0")
            return text + "Z" if prop.type == "Edm.DateTimeOffset" else text
    return str(json_value(prop, value))


def primitive(shape: Shape, name: str, value: bool) -> bytes:
    """The answer of a function import that returns a boolean."""
    if shape.atom:
        element = etree.Element(f"{{{_D}}}{name}", nsmap={"d": _D, "m": _M})
        element.set(f"{{{_M}}}type", "Edm.Boolean")
        element.text = str(value).lower()
        return etree.tostring(element, xml_declaration=True, encoding="utf-8")
    return dump({"d": {name: value} if shape.strict else {"results": {name: value}}})


def error(message: str, *, atom: bool) -> bytes:
    """C4C's error body; the code is often empty, and so it is here (captured reply of S6)."""
    if not atom:
        return dump({"error": {"code": "", "message": {"lang": "en", "value": message}}})
    root = etree.Element(f"{{{_M}}}error", nsmap={None: _M})
    _sub(root, _M, "code", "")
    _sub(root, _M, "message", message).set(f"{{{_XML}}}lang", "en")
    return etree.tostring(root, xml_declaration=True, encoding="utf-8")


def service_document(shape: Shape) -> bytes:
    names = list(schema().sets)
    if not shape.atom:
        return dump({"d": {"EntitySets": names}})
    root = etree.Element(f"{{{_APP}}}service", nsmap={None: _APP, "atom": _ATOM})
    root.set(f"{{{_XML}}}base", shape.root)
    workspace = _sub(root, _APP, "workspace")
    _sub(workspace, _ATOM, "title", "Default")
    for name in names:
        _sub(_sub(workspace, _APP, "collection", None, href=name), _ATOM, "title", name)
    return etree.tostring(root, xml_declaration=True, encoding="utf-8")


def edmx(service: Schema, *, labels: bool = False, only: frozenset[str] | None = None) -> bytes:
    """$metadata in the form of C4C's; `only` cuts it to these types and what they navigate to."""
    types = [t for t in service.types.values() if only is None or t.name in _reachable(service, only)]
    root = etree.Element(f"{{{_EDMX}}}Edmx", Version="1.0", nsmap={"edmx": _EDMX})
    data = _sub(root, _EDMX, "DataServices")
    data.set(f"{{{_M}}}DataServiceVersion", "2.0")
    nsmap: dict[Any, str] = {None: _EDM, "sap": _SAP, "c4c": _C4C, "m": _M}
    holder = etree.SubElement(data, f"{{{_EDM}}}Schema", {"Namespace": NAMESPACE}, nsmap=nsmap)
    for entity_type in types:
        _describe_type(holder, service, entity_type, labels)
    names = {t.name for t in types}
    pairs = [(t, n) for t in types for n in t.navigations.values() if n.target in names]
    for entity_type, navigation in pairs:
        _describe_association(holder, service, entity_type, navigation)
    container = _sub(holder, _EDM, "EntityContainer", None, Name=NAMESPACE)
    container.set(f"{{{_M}}}IsDefaultEntityContainer", "true")
    for name, entity_type in service.sets.items():
        if entity_type.name in names:
            _describe_set(container, name, entity_type)
    for entity_type, navigation in pairs:
        _describe_association_set(container, service, entity_type, navigation)
    _describe_functions(container, service, names)
    return etree.tostring(root, xml_declaration=True, encoding="utf-8", pretty_print=True)


def _reachable(service: Schema, names: frozenset[str]) -> set[str]:
    reached: set[str] = {"CodeList", "ContextualCodeList"}
    todo = [name for name in names if name in service.types]
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo += [n.target for n in service.types[name].navigations.values()]
    return reached


def _describe_type(holder: etree._Element, service: Schema, entity_type: EntityType, labels: bool) -> None:
    element = _sub(holder, _EDM, "EntityType", None, Name=entity_type.name)
    if entity_type.parent:
        element.set(f"{{{_C4C}}}parent-entity-type", entity_type.parent)
    key = _sub(element, _EDM, "Key")
    for name in entity_type.keys:
        _sub(key, _EDM, "PropertyRef", None, Name=name)
    for prop in entity_type.properties.values():
        _describe_property(element, prop, labels)
    for navigation in entity_type.navigations.values():
        name, near, far = _association(service, entity_type, navigation)
        relationship = f"{NAMESPACE}.{name}"
        _sub(
            element, _EDM, "NavigationProperty", None, Name=navigation.name, Relationship=relationship, FromRole=near, ToRole=far
        )


def _describe_property(element: etree._Element, prop: Property, labels: bool) -> None:
    attributes = {"Name": prop.name, "Type": prop.type, "Nullable": str(prop.nullable).lower()}
    if prop.max_length is not None:
        attributes["MaxLength"] = str(prop.max_length)
    if prop.type == "Edm.String":
        attributes["FixedLength"] = str(prop.fixed_length).lower()
    if prop.precision is not None:
        attributes |= {"Precision": str(prop.precision), "Scale": str(prop.scale)}
    if prop.name == "ETag":
        attributes["ConcurrencyMode"] = "Fixed"
    described = _sub(element, _EDM, "Property", None, **attributes)
    for name in ("creatable", "updatable", "filterable"):
        described.set(f"{{{_SAP}}}{name}", str(getattr(prop, name)).lower())
    more = {
        f"{{{_SAP}}}display-format": "Date" if prop.date_only else "",
        f"{{{_SAP}}}text": prop.text,
        f"{{{_C4C}}}value-help": prop.code_list,
        f"{{{_C4C}}}context-property": prop.context,
        f"{{{_C4C}}}is-parent-internal-key": "true" if prop.parent_key else "",
        f"{{{_SAP}}}label": re.sub(r"(?<=[a-z])(?=[A-Z])", " ", prop.name) if labels else "",
    }
    for name, text in more.items():
        if text:
            described.set(name, text)


def _association(service: Schema, entity_type: EntityType, navigation: Navigation) -> tuple[str, str, str]:
    """Name and roles of the association behind a navigation; both directions of parent and child share one."""
    if entity_type.parent == navigation.target and navigation.theirs == "ObjectID":
        parent = service.types[navigation.target]
        down = next(n for n in parent.navigations.values() if n.target == entity_type.name and n.many)
        name, near, far = _association(service, parent, down)
        return name, far, near
    near, far = entity_type.name, navigation.name if navigation.name != entity_type.name else navigation.name + "2"
    return f"{near}_{far}", near, far


def _describe_association(holder: etree._Element, service: Schema, entity_type: EntityType, navigation: Navigation) -> None:
    if entity_type.parent == navigation.target and navigation.theirs == "ObjectID":
        return
    name, near, far = _association(service, entity_type, navigation)
    element = _sub(holder, _EDM, "Association", None, Name=name)
    _sub(element, _EDM, "End", None, Type=f"{NAMESPACE}.{entity_type.name}", Multiplicity="1", Role=near)
    many = "*" if navigation.many else "1"
    _sub(element, _EDM, "End", None, Type=f"{NAMESPACE}.{navigation.target}", Multiplicity=many, Role=far)


def _describe_association_set(
    container: etree._Element, service: Schema, entity_type: EntityType, navigation: Navigation
) -> None:
    if entity_type.parent == navigation.target and navigation.theirs == "ObjectID":
        return
    name, near, far = _association(service, entity_type, navigation)
    element = _sub(container, _EDM, "AssociationSet", None, Name=f"{name}Set", Association=f"{NAMESPACE}.{name}")
    _sub(element, _EDM, "End", None, EntitySet=entity_type.entity_set, Role=near)
    _sub(element, _EDM, "End", None, EntitySet=service.types[navigation.target].entity_set, Role=far)


def _describe_set(container: etree._Element, name: str, entity_type: EntityType) -> None:
    element = _sub(container, _EDM, "EntitySet", None, Name=name, EntityType=f"{NAMESPACE}.{entity_type.name}")
    for flag in ("creatable", "updatable", "deletable"):
        element.set(f"{{{_SAP}}}{flag}", str(getattr(entity_type, flag)).lower())
    if not entity_type.entity_set:
        element.set(f"{{{_SAP}}}semantics", "fixed-values")


def _describe_functions(container: etree._Element, service: Schema, names: set[str]) -> None:
    for function in service.functions.values():
        if service.sets[function.entity_set].name not in names:
            continue
        returns = f"Collection({NAMESPACE}.{function.returns})" if function.many else function.returns
        attributes = {"Name": function.name, "ReturnType": returns, "EntitySet": function.entity_set}
        element = _sub(container, _EDM, "FunctionImport", None, **attributes)
        element.set(f"{{{_M}}}HttpMethod", function.method)
        for parameter in function.parameters:
            _sub(element, _EDM, "Parameter", None, Name=parameter, Type="Edm.String", Mode="In")
