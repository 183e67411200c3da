"""What we ask for and send exists in C4C's own $metadata, with the flag that the use needs."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache

import pytest
from lxml import etree

from server.c4c import ActivityDraft, Addressee, File
from server.c4c.codes import CODE_LISTS
from server.c4c.mapping import ACTIVITY_EXPAND, ACTIVITY_SELECT, EMPLOYEE_SELECT, EMPLOYEES, SHAPES, attachment_body, email_body
from server.domain.records import CARD_FIELDS, CARD_ORDER, DETAIL_FIELDS, RECORD_TYPES, Record, RecordType
from tests.c4c.conftest import CODES
from tests.contracts import contract

EDM = "{http://schemas.microsoft.com/ado/2008/09/edm}"
SAP = "{http://www.sap.com/Protocols/SAPData}"


@dataclass(frozen=True)
class Metadata:
    properties: dict[str, dict[str, dict[str, str]]]  # entity type -> property -> attributes
    navigations: dict[str, dict[str, str]]  # entity type -> navigation -> entity type
    sets: dict[str, str]  # entity set -> entity type

    def property_at(self, entity_type: str, path: str) -> dict[str, str]:
        *steps, name = path.split("/")
        for step in steps:
            entity_type = self.navigations[entity_type][step]
        return self.properties[entity_type][name]


@cache
def metadata() -> Metadata:
    root = etree.parse(contract("c4c/c4codataapi_subset.edmx")).getroot()
    everything = [element for element in root.iter() if isinstance(element.tag, str)]

    def all_of(tag: str) -> list[etree._Element]:
        return [e for e in everything if etree.QName(e).localname == tag]

    def local(name: str | None) -> str:
        return (name or "").rpartition(".")[2]

    ends: dict[str, dict[str, str]] = {}
    for association in all_of("Association"):
        ends[association.get("Name", "")] = {
            e.get("Role", ""): local(e.get("Type")) for e in association if etree.QName(e).localname == "End"
        }
    properties: dict[str, dict[str, dict[str, str]]] = {}
    navigations: dict[str, dict[str, str]] = {}
    for entity_type in all_of("EntityType"):
        name = entity_type.get("Name", "")
        tags = [(etree.QName(e).localname, e) for e in entity_type]
        properties[name] = {
            e.get("Name", ""): {str(k).rpartition("}")[2]: str(v) for k, v in e.attrib.items()}
            for t, e in tags
            if t == "Property"
        }
        navigations[name] = {
            e.get("Name", ""): ends[local(e.get("Relationship"))][e.get("ToRole", "")]
            for t, e in tags
            if t == "NavigationProperty" and local(e.get("Relationship")) in ends
        }
    return Metadata(properties, navigations, {s.get("Name", ""): local(s.get("EntityType")) for s in all_of("EntitySet")})


@pytest.mark.parametrize("type", RECORD_TYPES)
def test_every_property_of_a_card_exists(type: RecordType) -> None:
    shape, known = SHAPES[type], metadata()
    entity_type = known.sets[shape.entity_set]
    for path in shape.select:
        assert known.property_at(entity_type, path)
    for path in shape.expand:
        assert known.property_at(entity_type, f"{path}/ObjectID")
    for name in filter(None, ("ObjectID", shape.human_id, shape.address)):
        assert known.properties[entity_type][name].get("filterable") == "true"
    assert tuple(shape.fields) == CARD_FIELDS[type]
    assert bool(shape.address) == (type in CARD_ORDER)


@pytest.mark.parametrize("type", RECORD_TYPES)
def test_every_property_of_a_search_and_of_a_look_exists(type: RecordType) -> None:
    shape, known = SHAPES[type], metadata()
    entity_type = known.sets[shape.entity_set]
    detailed = shape.detailed()
    for path in (*detailed.select, *(f"{step}/ObjectID" for step in detailed.expand)):
        assert known.property_at(entity_type, path)
    for name in (*shape.names, *shape.phones):
        assert known.properties[entity_type][name].get("filterable") == "true"
    assert bool(shape.names) == bool(shape.phones) == (type in CARD_ORDER)
    assert set(DETAIL_FIELDS.get(type, ())) <= set(detailed.fields)
    assert not any("/" in path for path in shape.slim().select)


def test_every_property_of_activities_and_employees_exists() -> None:
    known = metadata()
    for path in (*ACTIVITY_SELECT, *(f"{name}/ObjectID" for name in ACTIVITY_EXPAND)):
        assert known.property_at("EMail", path)
    assert known.properties["EMail"]["GroupwareItemID"].get("filterable") == "true"
    for name in EMPLOYEE_SELECT:
        assert known.properties[known.sets[EMPLOYEES]][name].get("filterable") == "true"
    assert set(CODE_LISTS) <= set(known.sets)


def test_everything_that_is_sent_can_be_created_and_fits() -> None:
    known = metadata()
    person = Addressee("N" * 1000, "a" * 1000, "1")
    links = tuple(Record(type, "0" * 32, type, "x") for type in ("contact", "account", "lead"))  # type: ignore[arg-type]
    draft = ActivityDraft("<k@example.com>", "S" * 2000, "incoming", datetime(2026, 11, 22, tzinfo=UTC), person)
    draft = replace(draft, to=(person,), cc=(person,), owner_party="1", main_contact="1", main_account="1", links=links)
    body = email_body(replace(draft, text="text", files=(File("n", "text/plain", b"x"),)), CODES)
    rows = [("EMail", {name: value for name, value in body.items() if not isinstance(value, list)})]
    for name, value in body.items():
        if isinstance(value, list):
            rows += [(known.navigations["EMail"][name], one) for one in value]
    assert len(rows) == 9
    for entity_type, row in rows:
        for name, value in row.items():
            attributes = known.properties[entity_type][name]
            assert attributes.get("creatable") == "true", f"{entity_type}.{name}"
            longest = attributes.get("MaxLength", "Max")
            assert longest == "Max" or len(value) <= int(longest), f"{entity_type}.{name}"
    for name in ("EMailAttachments", "EMailInvolvedParties", "EMailBTDReference"):
        assert known.sets[name + "Collection"] == name
        assert known.properties[name]["ParentObjectID"].get("creatable") == "true"
    assert set(attachment_body(File("n", "t/p", b"x"), CODES)) <= set(known.properties["EMailAttachments"])
