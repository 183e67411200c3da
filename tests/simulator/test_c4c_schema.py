"""The simulated C4C has no name, type or flag of its own: everything it declares is in the real tenant's $metadata."""

from __future__ import annotations

from functools import cache

import pytest
from lxml import etree

from simulator import demo
from simulator.c4c.payload import edmx
from simulator.c4c.schema import NAMESPACE, EntityType, Property, codes, schema
from tests.contracts import contract

_EDM = "{http://schemas.microsoft.com/ado/2008/09/edm}"
_SAP = "{http://www.sap.com/Protocols/SAPData}"
_C4C = "{http://www.sap.com/Protocols/C4CData}"
_M = "{http://schemas.microsoft.com/ado/2007/08/dataservices/metadata}"

COMPLETE = {
    "Contact", "ContactIsContactPersonFor", "CorporateAccount", "CorporateAccountHasContactPerson", "EMail", "EMailAttachments",
    "EMailBTDReference", "EMailCcRecipients", "EMailInvolvedParties", "EMailNotes", "EMailSenderParty", "EMailToRecipients",
    "EmployeeBasicData", "IndividualCustomer", "Lead", "LoggedInUserInfo",
}  # fmt: skip
"""Types of which no property may be missing, except a tenant's own (`_KUT`)."""

TYPES = sorted(schema().types)


@cache
def real() -> etree._Element:
    return etree.parse(str(contract("c4c/c4codataapi.edmx"))).getroot()


@cache
def simulated() -> etree._Element:
    return etree.fromstring(edmx(schema()))


def found(root: etree._Element, tag: str, name: str) -> etree._Element:
    elements = [element for element in root.iter(_EDM + tag) if element.get("Name") == name]
    assert len(elements) == 1, f"{tag} {name}"
    return elements[0]


def flags(element: etree._Element, *names: str) -> dict[str, str | None]:
    return {name: element.get(_SAP + name) for name in names}


@pytest.mark.parametrize("name", TYPES)
def test_every_property_agrees_with_the_real_metadata(name: str) -> None:
    theirs = {element.get("Name"): element for element in found(real(), "EntityType", name).iter(_EDM + "Property")}
    for prop in schema().types[name].properties.values():
        assert prop.name in theirs
        assert described(prop) == read(theirs[prop.name]), f"{name}.{prop.name}"


@pytest.mark.parametrize("name", sorted(COMPLETE))
def test_no_property_is_missing_where_it_matters(name: str) -> None:
    theirs = {element.get("Name", "") for element in found(real(), "EntityType", name).iter(_EDM + "Property")}
    assert {prop for prop in theirs if not prop.endswith("_KUT")} == set(schema().types[name].properties)


@pytest.mark.parametrize("name", TYPES)
def test_keys_and_navigations_agree_with_the_real_metadata(name: str) -> None:
    entity_type, theirs = schema().types[name], found(real(), "EntityType", name)
    assert [ref.get("Name") for ref in theirs.iter(_EDM + "PropertyRef")] == list(entity_type.keys)
    navigations = {element.get("Name", ""): element for element in theirs.iter(_EDM + "NavigationProperty")}
    for navigation in entity_type.navigations.values():
        target, multiplicity = end(navigations[navigation.name])
        assert target == navigation.target
        if navigation.many:
            assert multiplicity == "*"


def test_entity_sets_and_what_they_allow_agree_with_the_real_metadata() -> None:
    theirs = {element.get("Name"): element for element in real().iter(_EDM + "EntitySet")}
    for name, entity_type in schema().sets.items():
        assert theirs[name].get("EntityType") == f"{NAMESPACE}.{entity_type.name}"
        ours = {flag: str(getattr(entity_type, flag)).lower() for flag in ("creatable", "updatable", "deletable")}
        assert flags(theirs[name], *ours) == ours, name


def test_function_imports_agree_with_the_real_metadata() -> None:
    for function in schema().functions.values():
        theirs = found(real(), "FunctionImport", function.name)
        returns = f"Collection({NAMESPACE}.{function.returns})" if function.many else function.returns
        assert (theirs.get("ReturnType"), theirs.get("EntitySet")) == (returns, function.entity_set)
        assert theirs.get(_M + "HttpMethod") == function.method
        parameters = [element.get("Name") for element in theirs.iter(_EDM + "Parameter")]
        assert tuple(parameters) == function.parameters
        assert {element.get("Type") for element in theirs.iter(_EDM + "Parameter")} <= {"Edm.String"}


@pytest.mark.parametrize("name", TYPES)
def test_the_metadata_we_serve_says_of_properties_what_the_real_one_says(name: str) -> None:
    theirs = {element.get("Name"): element for element in found(real(), "EntityType", name).iter(_EDM + "Property")}
    for element in found(simulated(), "EntityType", name).iter(_EDM + "Property"):
        original = theirs[element.get("Name")]
        assert read(element) == read(original), f"{name}.{element.get('Name')}"
        assert element.get("ConcurrencyMode") == original.get("ConcurrencyMode")


def test_the_metadata_we_serve_is_whole() -> None:
    listed = list(simulated().iter(_EDM + "Association"))
    associations = {element.get("Name"): element for element in listed}
    assert len(associations) == len(listed)
    types = {element.get("Name") for element in simulated().iter(_EDM + "EntityType")}
    assert types == set(schema().types)
    for navigation in simulated().iter(_EDM + "NavigationProperty"):
        association = associations[navigation.get("Relationship", "").removeprefix(f"{NAMESPACE}.")]
        roles = {element.get("Role"): element.get("Type") for element in association}
        assert {navigation.get("FromRole"), navigation.get("ToRole")} == set(roles)
        assert roles[navigation.get("FromRole")] == f"{NAMESPACE}.{navigation.getparent().get('Name')}"  # type: ignore[union-attr]


def test_the_codes_that_are_known_from_sources_are_there() -> None:
    assert codes("EMailBTDReferenceTypeCodeCollection")["72"] == "Opportunity"
    assert codes("EMailAttachmentsCategoryCodeCollection")["2"] == "Document"
    assert "10001" in codes("EMailAttachmentsTypeCodeCollection")
    assert "CRM000" in codes("CorporateAccountRoleCodeCollection")


def test_codes_fit_the_properties_that_hold_them() -> None:
    for entity_type in schema().types.values():
        for prop in entity_type.properties.values():
            for code in () if prop.contextual else codes(prop.code_list):
                assert len(code) <= (prop.max_length or 99), f"{entity_type.name}.{prop.name}: {code}"


def test_demo_records_hold_what_the_tenant_would_accept() -> None:
    misfits = set()
    for entity_set, rows in demo.small().crm.sets.items():
        entity_type = schema().sets[entity_set]
        for row in rows.values():
            misfits |= {f"{entity_type.name}.{name}" for name in set(row) - set(entity_type.properties)}
            misfits |= {f"{entity_type.name}.{name}={value!r}" for name, value in wrong_values(entity_type, row).items()}
    assert not misfits


def wrong_values(entity_type: EntityType, row: dict[str, object]) -> dict[str, object]:
    wrong = {}
    for name, value in row.items():
        prop = entity_type.properties.get(name)
        if prop is None or not isinstance(value, str) or not value:
            continue
        listed = codes(prop.code_list) if prop.code_list and not prop.contextual else {}
        if (listed and value not in listed) or (prop.max_length and len(value) > prop.max_length):
            wrong[name] = value
    return wrong


def described(prop: Property) -> dict[str, object]:
    return {
        "type": prop.type,
        "length": prop.max_length,
        "fixed": prop.fixed_length if prop.type == "Edm.String" else None,
        "decimal": (prop.precision, prop.scale) if prop.type == "Edm.Decimal" else None,
        "date": prop.date_only,
        "nullable": prop.nullable,
        "flags": (prop.creatable, prop.updatable, prop.filterable),
        "parent": prop.parent_key,
        "codes": (prop.code_list, prop.context, prop.text),
    }


def read(element: etree._Element) -> dict[str, object]:
    edm_type, length = element.get("Type"), element.get("MaxLength")
    decimal = (int(element.get("Precision", "0")), int(element.get("Scale", "0"))) if edm_type == "Edm.Decimal" else None
    context = element.get(_SAP + "context-property") or element.get(_C4C + "context-property") or ""
    return {
        "type": edm_type,
        "length": int(length) if length and length != "Max" else None,
        "fixed": element.get("FixedLength") == "true" if edm_type == "Edm.String" else None,
        "decimal": decimal,
        "date": element.get(_SAP + "display-format") == "Date",
        "nullable": element.get("Nullable") == "true",
        "flags": tuple(element.get(_SAP + flag) == "true" for flag in ("creatable", "updatable", "filterable")),
        "parent": element.get(_C4C + "is-parent-internal-key") == "true",
        "codes": (element.get(_C4C + "value-help", ""), context, element.get(_SAP + "text", "")),
    }


def end(navigation: etree._Element) -> tuple[str, str]:
    """Type and multiplicity that a real navigation leads to."""
    association = found(real(), "Association", navigation.get("Relationship", "").removeprefix(f"{NAMESPACE}."))
    far = next(element for element in association if element.get("Role") == navigation.get("ToRole"))
    return far.get("Type", "").removeprefix(f"{NAMESPACE}."), far.get("Multiplicity", "")
