"""Writing to the simulated C4C tenant as one user: what C4C accepts, what it assigns, and undoing it.

Enforces the metadata (creatable, updatable, mandatory, length, type), code lists, party IDs, record locks and ETags, assigns
what the server assigns, and keeps a journal: `commit()` publishes the World's events, `rollback()` undoes everything since the
last commit. What may be seen is decided by `simulator.c4c.records`; the caller holds the World's lock.
"""

from __future__ import annotations

import base64
import binascii
import re
import urllib.parse
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from simulator.c4c.query import ODataError, guid, moment
from simulator.c4c.records import (
    CHANGED,
    CHANGED_BY,
    CREATED,
    CREATED_BY,
    FIRST_NUMBERS,
    MIRROR,
    REGION,
    RELATIONS,
    Records,
    display_name,
    etag,
)
from simulator.c4c.schema import BTD_SETS, EntityType, Navigation, Property, codes, contextual_codes, schema
from simulator.world import Row, World

MAX_ATTACHMENT_BYTES = 30_000_000  # C4C's own limit is not published
LOCKED_STATUS = 400  # C4C's status for a locked record is not known; KBA 3577788 gives only the sentence

_CREATED_AS = {
    "EMail": {"DocumentType": "0006", "Status": "1"},
    "Lead": {"UserStatusCode": "01"},
    "Opportunity": {"LifeCycleStatusCode": "1"},
    "ServiceRequest": {"ServiceRequestUserLifeCycleStatusCode": "1"},
    "Contact": {"StatusCode": "2"},
    "CorporateAccount": {"LifeCycleStatusCode": "2"},
    "IndividualCustomer": {"LifeCycleStatusCode": "2"},
}
_NO_ACCOUNT: Row = {"AccountFormattedName": None, "AccountUUID": None}
_SHOWN_NAMES = {"Contact": "Name", "IndividualCustomer": "FormattedName", "CorporateAccount": "BusinessPartnerFormattedName"}
_WORKPLACE = ("Email", "Phone", "Mobile", "Fax", "JobTitle", "Department", "DepartmentCode", "FunctionCode")


class Changes:
    """What one request changes."""

    def __init__(self, world: World, records: Records) -> None:
        self._world = world
        self._crm = world.crm
        self._records = records
        self._user = records.user
        self._schema = schema()
        self._events: list[tuple[str, dict[str, Any]]] = []
        self._undo: list[Callable[[], None]] = []
        self.held: list[str] = []  # ObjectIDs of the record locks that this request took

    def create(self, entity_set: str, body: Mapping[str, Any], parent: Row | None = None) -> Row:
        """Create a row and the children inside `body`. Raises: ODataError if C4C would refuse any of it."""
        entity_type = self._schema.sets[entity_set]
        if not entity_type.creatable:
            raise ODataError(f"Entity set '{entity_set}' does not allow creation", 405)
        self._authorize(entity_type)
        if entity_set == MIRROR:
            return self._create_mirrored(body, parent)
        values, children = self._new_values(entity_type, body)
        if entity_type.parent:
            parent = parent or self._parent_of(entity_type, values)
            self._lock(parent["ObjectID"])
            values["ParentObjectID"] = parent["ObjectID"]
        row: Row = {"ObjectID": self._object_id(entity_type, values), **_CREATED_AS.get(entity_type.name, {}), **values}
        self._number(entity_type, row)
        _keep_region(row, values)
        self._check_row(entity_type, row, set(values))
        self._stamp(entity_type, row, created=True)
        self._insert(entity_set, row)
        self._happened("create", entity_type, row)
        for navigation, sent in children:
            for child in sent:
                self.create(self._schema.types[navigation.target].entity_set, child, row)
        if parent is not None:
            self._touch_header(entity_type, row)
        self._relate(entity_set, row)
        return row

    def update(
        self, entity_set: str, key: Mapping[str, str], body: Mapping[str, Any], if_match: str | None, *, replace: bool
    ) -> None:
        """Merge `body` into a row, or replace what is updatable. Raises: ODataError, 412 if the ETag is another."""
        entity_type = self._schema.sets[entity_set]
        if not entity_type.updatable:
            raise ODataError(f"Entity set '{entity_set}' does not allow changes", 405)
        self._authorize(entity_type)
        row = self._records.get(entity_set, key)
        main: Row = {}
        if entity_set == MIRROR:
            entity_type, row = self._schema.sets[RELATIONS], self._crm.rows(RELATIONS)[row["ObjectID"]]
            main = {name: bool(sent) for name, sent in body.items() if name == "MainIndicator"}
            body = {name: sent for name, sent in body.items() if name not in main}
        _match(row, if_match)
        self._lock(row.get("ParentObjectID") or row["ObjectID"])
        values = self._changed_values(entity_type, row, body)
        if replace:
            values = {p.name: values.get(p.name) for p in entity_type.properties.values() if p.updatable}
        changed = {**row, **values, **main, **_renamed(entity_type, row, values)}
        _keep_region(changed, values)
        self._check_mandatory(entity_type, changed)
        self._check_row(entity_type, changed, set(values))
        self._stamp(entity_type, changed, created=False)
        self._replace(row, changed)
        self._happened("update", entity_type, row, properties=sorted(values))
        if entity_type.parent:
            self._touch_header(entity_type, row)
        self._relate(entity_set, row)

    def delete(self, entity_set: str, key: Mapping[str, str], if_match: str | None) -> None:
        """Remove a row and its children. Raises: ODataError, 412 if the ETag is another."""
        entity_type = self._schema.sets[entity_set]
        if not entity_type.deletable:
            raise ODataError(f"Entity set '{entity_set}' does not allow deletion", 405)
        row = self._records.get(entity_set, key)
        if entity_set == MIRROR:
            entity_set, entity_type = RELATIONS, self._schema.sets[RELATIONS]
            row = self._crm.rows(RELATIONS)[row["ObjectID"]]
        _match(row, if_match)
        self._lock(row.get("ParentObjectID") or row["ObjectID"])
        for child in self._schema.children(entity_type):
            for below in self._crm.children(child.entity_set, row["ObjectID"]):
                self._remove(child.entity_set, below)
        self._remove(entity_set, row)
        self._happened("delete", entity_type, row)
        if entity_type.parent:
            self._touch_header(entity_type, row)

    def touch(self, entity_type: EntityType, row: Row) -> None:
        """Change a row's times as if somebody else had changed it right now."""
        changed = dict(row)
        self._stamp(entity_type, changed, created=False)
        self._replace(row, changed)

    def commit(self) -> None:
        """Make what was written since the last commit final and tell the World's log."""
        for kind, detail in self._events:
            self._world.happened("c4c", kind, self._user.user_id, **detail)
        self._events.clear()
        self._undo.clear()

    def rollback(self) -> None:
        """Undo what was written since the last commit."""
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()
        self._events.clear()
        self._records.forget()

    def _authorize(self, entity_type: EntityType) -> None:
        if entity_type.name in ("Employee", "BusinessUser") and not self._user.is_admin:
            raise ODataError("You are not authorized to change this record", 403)

    def _new_values(self, entity_type: EntityType, body: Mapping[str, Any]) -> tuple[Row, list[tuple[Navigation, list[Any]]]]:
        values: Row = {}
        children = []
        for name, sent in body.items():
            navigation = entity_type.navigations.get(name)
            if navigation is not None:
                children.append((navigation, _children(navigation, sent, self._schema.types[navigation.target], entity_type)))
                continue
            if name == "__metadata":
                continue
            prop = _known(entity_type, name)
            if not prop.creatable:
                if prop.nullable:
                    raise ODataError(f"Property '{name}' of entity type '{entity_type.name}' is not creatable")
                continue
            value = edm_value(prop, sent)
            if name == "MimeType" and not value:
                raise ODataError("Property 'MimeType' must not be empty")
            if value is not None:
                values[name] = value
        self._check_mandatory(entity_type, values)
        return values, children

    def _changed_values(self, entity_type: EntityType, row: Row, body: Mapping[str, Any]) -> Row:
        values: Row = {}
        for name, sent in body.items():
            if name == "__metadata" or name == "ETag":
                continue
            if name in entity_type.navigations:
                raise ODataError(f"Navigation property '{name}' cannot be changed together with its parent")
            prop = _known(entity_type, name)
            if prop.text_of:
                continue
            value = edm_value(prop, sent)
            if prop.updatable:
                values[name] = value
            elif value != self._records.value(entity_type, prop)(row):
                raise ODataError(f"Property '{name}' of entity type '{entity_type.name}' is not updatable")
        return values

    def _check_mandatory(self, entity_type: EntityType, values: Row) -> None:
        for prop in entity_type.properties.values():
            if prop.creatable and not prop.nullable and values.get(prop.name) in (None, ""):
                raise ODataError(f"Property '{prop.name}' of entity type '{entity_type.name}' is mandatory")

    def _check_row(self, entity_type: EntityType, row: Row, sent: set[str]) -> None:
        """Check codes, parties and references among the values that were sent."""
        for name in sent - {"ObjectID"}:
            prop, value = entity_type.properties[name], row.get(name)
            if not value or not isinstance(value, str):
                continue
            if prop.code_list:
                _check_code(prop, value, row)
            if _names_party(entity_type, name) and self._records.party(value) is None:
                raise ODataError(f"Party {value} in property '{name}' does not exist")
        if "PartyID" in sent and "PartyTypeCode" in entity_type.properties and "PartyTypeCode" not in sent:
            found = self._records.party(row.get("PartyID") or "")
            row["PartyTypeCode"] = found[1] if found else ""
        if sent & {"ID", "TypeCode"}:
            self._check_reference(entity_type, row)

    def _check_reference(self, entity_type: EntityType, values: Row) -> None:
        target = BTD_SETS.get(values.get("TypeCode") or "")
        if "Reference" not in entity_type.name or target is None or not values.get("ID"):
            return
        number = values["ID"].lstrip("0")
        if not any(str(row.get("ID", "")).lstrip("0") == number for row in self._records.all(target)):
            raise ODataError(f"Business document {values['ID']} of type {values['TypeCode']} does not exist")

    def _parent_of(self, entity_type: EntityType, values: Row) -> Row:
        parent = self._schema.types[entity_type.parent]
        if values.get("ParentObjectID"):
            return self._records.get(parent.entity_set, {"ObjectID": values["ParentObjectID"]})
        for prop in entity_type.properties.values():
            number = values.get(prop.name)
            if number and self._records.is_parent_number(entity_type, prop):
                for row in self._records.all(parent.entity_set):
                    if str(row.get(parent.human_id, "")).lstrip("0") == number.lstrip("0"):
                        return row
                raise ODataError(f"{parent.name} {number} does not exist", 404)
        raise ODataError(f"Property 'ParentObjectID' of entity type '{entity_type.name}' is mandatory")

    def _object_id(self, entity_type: EntityType, values: Row) -> str:
        """The ObjectID of a new row: the digits of the UUID, where the caller gave one."""
        given = str(values.get("UUID") or "").replace("-", "") if "UUID" in entity_type.properties else ""
        if given and any(given in (row["ObjectID"], _digits(row)) for row in self._crm.rows(entity_type.entity_set).values()):
            raise ODataError(f"{entity_type.name} with UUID {values['UUID']} already exists")
        return given or self._crm.new_object_id()

    def _number(self, entity_type: EntityType, row: Row) -> None:
        name = entity_type.human_id
        if not name:
            return
        if not row.get(name):
            row[name] = self._crm.new_number(entity_type.entity_set, name, FIRST_NUMBERS.get(entity_type.name, 1000))
        elif any(other.get(name) == row[name] for other in self._crm.rows(entity_type.entity_set).values()):
            raise ODataError(f"{entity_type.name} {row[name]} already exists")

    def _lock(self, header: str) -> None:
        holder = self._crm.record_locks.get(header)
        if holder not in (None, self._user.user_id):
            raise ODataError(f"Record is locked by user {holder}", LOCKED_STATUS)
        if holder is None:
            self._crm.record_locks[header] = self._user.user_id
            self.held.append(header)

    def _stamp(self, entity_type: EntityType, row: Row, *, created: bool) -> None:
        now = self._world.now()
        if row.get("ETag") is not None:
            now = max(now, row["ETag"] + timedelta(microseconds=1))
        times = CHANGED | CREATED if created else CHANGED
        names = CHANGED_BY | CREATED_BY if created else CHANGED_BY
        row.update(dict.fromkeys(times & set(entity_type.properties), now))
        row.update(dict.fromkeys(names & set(entity_type.properties), self._user.name))

    def _touch_header(self, entity_type: EntityType, row: Row) -> None:
        """A change of a child is a change of the business object (KBA 2789959: ChangedOn is meant for the whole object)."""
        header = self._schema.header(entity_type)
        found = self._crm.rows(header.entity_set).get(row.get("ParentObjectID") or "")
        if found is not None:
            changed = dict(found)
            self._stamp(header, changed, created=False)
            self._replace(found, changed)

    def _create_mirrored(self, body: Mapping[str, Any], parent: Row | None) -> Row:
        mirror = self._schema.sets[MIRROR]
        values, _ = self._new_values(mirror, body)
        account = parent or self._parent_of(mirror, values)
        found = self._records.party(values["ContactID"])
        if found is None or found[0] != "ContactCollection":
            raise ODataError(f"Contact {values['ContactID']} does not exist")
        kept = set(self._schema.sets[RELATIONS].properties) - {"ParentObjectID", "ContactID"}
        relation = {name: sent for name, sent in body.items() if name in kept} | {"AccountID": account["AccountID"]}
        row = self.create(RELATIONS, relation, found[2])
        row["MainIndicator"] = values.get("MainIndicator", False)
        return self._records.get(MIRROR, {"ObjectID": row["ObjectID"]})

    def _relate(self, entity_set: str, row: Row) -> None:
        """Keep a contact's main account and its relation to it the same fact."""
        relations, contacts = self._crm.rows(RELATIONS), self._crm.rows("ContactCollection")
        if entity_set == "ContactCollection" and not row.get("AccountID"):
            for relation in self._crm.children(RELATIONS, row["ObjectID"]):
                if relation.get("ReverseMainIndicator"):
                    self._replace(relation, {**relation, "ReverseMainIndicator": False})
        elif entity_set == "ContactCollection":
            mine = self._crm.children(RELATIONS, row["ObjectID"])
            main = next((r for r in mine if r.get("AccountID") == row["AccountID"]), None)
            if main is None:
                main = {"ObjectID": self._crm.new_object_id(), "ParentObjectID": row["ObjectID"], "AccountID": row["AccountID"]}
                self._stamp(self._schema.sets[RELATIONS], main, created=True)
                self._insert(RELATIONS, main)
                self._happened("create", self._schema.sets[RELATIONS], main)
            workplace = {name: row[name] for name in _WORKPLACE if row.get(name)}
            self._replace(main, {**main, **workplace, "ReverseMainIndicator": True})
            for other in mine:
                if other is not main and other.get("ReverseMainIndicator"):
                    self._replace(other, {**other, "ReverseMainIndicator": False})
        elif entity_set == RELATIONS and row["ObjectID"] in relations and row.get("ReverseMainIndicator"):
            contact = contacts.get(row.get("ParentObjectID") or "")
            if contact is not None and contact.get("AccountID") != row.get("AccountID"):
                self._replace(contact, {**contact, "AccountID": row.get("AccountID"), **_NO_ACCOUNT})

    def _insert(self, entity_set: str, row: Row) -> None:
        rows = self._crm.rows(entity_set)
        rows[row["ObjectID"]] = row
        self._undo.append(lambda: rows.__delitem__(row["ObjectID"]))
        self._records.forget()

    def _replace(self, row: Row, changed: Row) -> None:
        before = dict(row)

        def restore() -> None:
            row.clear()
            row.update(before)

        self._undo.append(restore)
        row.update(changed)
        self._records.forget()

    def _remove(self, entity_set: str, row: Row) -> None:
        rows = self._crm.rows(entity_set)
        del rows[row["ObjectID"]]
        self._undo.append(lambda: rows.update({row["ObjectID"]: row}))
        self._records.forget()

    def _happened(self, kind: str, entity_type: EntityType, row: Row, **more: Any) -> None:
        detail: dict[str, Any] = {"set": entity_type.entity_set, "id": row["ObjectID"], **more}
        if entity_type.parent:
            detail["parent"] = row.get("ParentObjectID", "")
        if "Binary" in entity_type.properties:
            detail["name"] = row.get("Name", "")
        if "GroupwareItemID" in entity_type.properties:
            detail["groupware_item_id"] = row.get("GroupwareItemID", "")
        self._events.append((kind, detail))


def _digits(row: Row) -> str:
    return str(row.get("UUID") or "").replace("-", "")


def _renamed(entity_type: EntityType, row: Row, values: Row) -> Row:
    """What C4C derives and the demo data keep beside it, where what it is derived from changes."""
    renamed: Row = {}
    shown = _SHOWN_NAMES.get(entity_type.name, "")
    if row.get(shown):
        renamed[shown] = display_name({**row, **values, shown: ""})
    if entity_type.name == "Contact" and values.get("AccountID", row.get("AccountID")) != row.get("AccountID"):
        renamed |= {name: None for name in _NO_ACCOUNT if name not in values}
    return renamed


def edm_value(prop: Property, sent: Any) -> Any:
    """Turn a JSON value into a row's; None for null. Raises: ODataError if it is not of the property's type."""
    if sent is None:
        return None
    match prop.type:
        case "Edm.String" if isinstance(sent, str):
            if prop.max_length is not None and len(sent) > prop.max_length:
                raise ODataError(f"Value of property '{prop.name}' exceeds the maximum length of {prop.max_length}")
            return sent
        case "Edm.Boolean" if isinstance(sent, bool):
            return sent
        case "Edm.Int16" | "Edm.Int32" if isinstance(sent, int) and not isinstance(sent, bool):
            return sent
        case "Edm.Decimal" if isinstance(sent, (str, int, float)) and not isinstance(sent, bool):
            try:
                return Decimal(str(sent))
            except InvalidOperation:
                pass
        case "Edm.DateTime" | "Edm.DateTimeOffset" if isinstance(sent, str):
            ticks = re.fullmatch(r"/Date\((-?\d{1,14})(?:[+-]\d{4})?\)/", sent)
            read = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=int(ticks[1])) if ticks else moment(sent)
            if read is not None:
                return read
        case "Edm.Guid" if isinstance(sent, str) and guid(sent):
            return guid(sent)
        case "Edm.Time" if isinstance(sent, str) and re.fullmatch(r"PT(\d+H)?(\d+M)?(\d+S)?", sent):
            return sent
        case "Edm.Binary" if isinstance(sent, str):
            return _decoded(prop, sent)
    raise ODataError(f"Invalid value for property '{prop.name}' of type {prop.type}")


def _decoded(prop: Property, sent: str) -> bytes:
    try:
        content = base64.b64decode(sent, validate=True)
    except binascii.Error:
        raise ODataError(f"Value of property '{prop.name}' is not valid base64") from None
    if len(content) > MAX_ATTACHMENT_BYTES:
        raise ODataError(f"The attachment is larger than {MAX_ATTACHMENT_BYTES} bytes")
    return content


def _children(navigation: Navigation, sent: Any, target: EntityType, entity_type: EntityType) -> list[Any]:
    """The children inside a deep insert; C4C takes a plain list and {"results": [...]}."""
    if isinstance(sent, dict) and "__deferred" in sent:
        return []
    if isinstance(sent, dict) and set(sent) == {"results"}:
        sent = sent["results"]
    if target.parent != entity_type.name or not isinstance(sent, list) or not all(isinstance(one, dict) for one in sent):
        raise ODataError(f"Invalid content for navigation property '{navigation.name}'")
    return sent


def _known(entity_type: EntityType, name: str) -> Property:
    prop = entity_type.properties.get(name)
    if prop is None:
        raise ODataError(f"Property '{name}' does not exist in entity type '{entity_type.name}'")
    return prop


def _check_code(prop: Property, value: str, values: Row) -> None:
    if prop.contextual:
        listed = contextual_codes(prop.code_list).get(values.get(prop.context) or "", {})
    else:
        listed = codes(prop.code_list)
    if listed and value not in listed:
        raise ODataError(f"Code {value} is not valid for property '{prop.name}'")


def _keep_region(row: Row, sent: Row) -> None:
    """Keep a contact's region one fact: a code of the country's list, or a text that none of them has [inferred]."""
    code = REGION.removesuffix("TextUpdatable")
    if REGION in sent:
        listed = contextual_codes(f"Contact{code}Collection").get(row.get("BusinessAddressCountryCode") or "", {})
        wanted = str(sent[REGION] or "").casefold()
        row[code] = next((one for one, text in listed.items() if text.casefold() == wanted), "")
        if row[code]:
            row[REGION] = ""
    elif code in sent:
        row[REGION] = ""


def _names_party(entity_type: EntityType, name: str) -> bool:
    if name.endswith("PartyID"):
        return not re.search(r"(Unit|Team|Organisation|Performer)PartyID$", name)
    return f"{entity_type.name}.{name}" in ("Contact.AccountID", "ContactIsContactPersonFor.AccountID", "Lead.ContactID")


def _match(row: Row, if_match: str | None) -> None:
    if if_match is None or if_match.strip() == "*":
        return
    if urllib.parse.unquote(if_match.strip()) != urllib.parse.unquote(etag(row) or ""):
        raise ODataError("The record was changed in the meantime", 412)
