"""The Outlook manifest: valid by Microsoft's schemas, sound where those do not look, and every address in it answers."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from flask.testing import FlaskClient
from lxml import etree

from tests.contracts import contract

ROOT = Path(__file__).resolve().parents[1]
COMMITTED = (ROOT / "manifest.xml").read_bytes()
ORIGIN = "https://localhost:8400"

OFFICE = "http://schemas.microsoft.com/office/appforoffice/1.1"
V1_0 = "http://schemas.microsoft.com/office/mailappversionoverrides"
V1_1 = V1_0 + "/1.1"
BASIC = "http://schemas.microsoft.com/office/officeappbasictypes/1.0"
XSI_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
NAMES = {"o": OFFICE, "v0": V1_0, "v1": V1_1, "bt": BASIC}

REQUIRED_ICONS = {16, 32, 80}  # of a button (icon.md); 64 and 128 are those of the add-in itself


@pytest.fixture(params=["committed", "served"])
def manifest(request: pytest.FixtureRequest) -> etree._Element:
    if request.param == "committed":
        return etree.fromstring(COMMITTED)
    return etree.fromstring(request.getfixturevalue("client").get("/manifest.xml").data)


def schema() -> etree.XMLSchema:
    """Microsoft's schemas as one: the manifest's own leaves what stands in VersionOverrides to those of its namespaces."""
    folder = contract("outlook-manifest/OfficeAppManifestV1_1.xsd").parent
    files = {
        OFFICE: "OfficeAppManifestV1_1.xsd",
        V1_0: "MailAppVersionOverridesV1_0.xsd",
        V1_1: "MailAppVersionOverridesV1_1.xsd",
    }
    imports = "".join(f'<xs:import namespace="{n}" schemaLocation="{(folder / f).as_uri()}"/>' for n, f in files.items())
    text = f'<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">{imports}</xs:schema>'
    return etree.XMLSchema(etree.fromstring(text))


def faults(manifest: etree._Element) -> list[str]:
    """Say what Outlook refuses or ignores in silence and the schemas do not see."""
    return [*_references(manifest), *_icons(manifest), *_addresses(manifest), *_identity(manifest)]


def _references(manifest: etree._Element) -> Iterator[str]:
    """Each VersionOverrides has its own resources; nothing is inherited (versionoverrides.md)."""
    for overrides in manifest.iter(f"{{{V1_0}}}VersionOverrides", f"{{{V1_1}}}VersionOverrides"):
        own = overrides.nsmap[None]
        ids = [e.get("id", "") for e in overrides.findall(f"{{{own}}}Resources/*/*")]
        used = {e.get("resid", "") for e in overrides.iter() if e.get("resid") and _overrides_of(e) is overrides}
        yield from (f"{i} is defined twice" for i in set(ids) if ids.count(i) > 1)
        yield from (f"{i} is longer than 32 characters" for i in ids if len(i) > 32)
        yield from (f"{i} is not defined" for i in used - set(ids))
        yield from (f"{i} is not used" for i in set(ids) - used)


def _overrides_of(element: etree._Element) -> etree._Element:
    return next(e for e in element.iterancestors() if etree.QName(e).localname == "VersionOverrides")


def _icons(manifest: etree._Element) -> Iterator[str]:
    for icon in manifest.iter(f"{{{V1_0}}}Icon", f"{{{V1_1}}}Icon"):
        sizes = {int(image.get("size", "0")) for image in icon}
        yield from (f"a button has no icon of {size} pixels" for size in REQUIRED_ICONS - sizes)
    for image in manifest.iter(f"{{{BASIC}}}Image"):
        size = image.get("size")
        if size and not (image.get("resid") or "").endswith(size):
            yield f"{image.get('resid')} stands for {size} pixels"


def _addresses(manifest: etree._Element) -> Iterator[str]:
    for domain in manifest.findall("o:AppDomains/o:AppDomain", NAMES):
        if not re.fullmatch(r"https://[^/*]+", domain.text or ""):
            yield f"AppDomain {domain.text} has a path, a slash or a wildcard"
    for url in urls(manifest):
        if not url.startswith("https://"):
            yield f"{url} is not https"


def _identity(manifest: etree._Element) -> Iterator[str]:
    info = manifest.find(".//v1:WebApplicationInfo", NAMES)
    if info is None:
        yield "no WebApplicationInfo"
        return
    application, resource = info.findtext("v1:Id", "", NAMES), info.findtext("v1:Resource", "", NAMES)
    pane = next(u for u in urls(manifest) if u.endswith("/sidebar"))
    if resource != f"api://{urlsplit(pane).netloc}/{application}":
        yield f"{resource} does not name the pane's host and the application"


def urls(manifest: etree._Element) -> list[str]:
    values = [e.get(name, "") for e in manifest.iter(etree.Element) for name in ("DefaultValue", "Value")]
    return list(dict.fromkeys(v for v in values if "://" in v))


def test_manifest_is_valid_by_the_schemas(manifest):
    xsd = schema()
    assert xsd.validate(manifest), xsd.error_log


def test_schemas_look_into_both_version_overrides():
    xsd = schema()
    for name in ("v0", "v1"):
        manifest = etree.fromstring(COMMITTED)
        (group,) = manifest.findall(f".//{name}:ExtensionPoint[1]/{name}:OfficeTab/{name}:Group", NAMES)[:1]
        group.append(group[0])  # the label after its button
        assert not xsd.validate(manifest)


def test_manifest_has_no_fault_that_the_schemas_miss(manifest):
    assert faults(manifest) == []


@pytest.mark.parametrize(
    ("good", "bad", "fault"),
    [
        (b'<Label resid="group.label"/>', b'<Label resid="group.labl"/>', "group.labl is not defined"),
        (b'<bt:Image size="80" resid="icon.80"/>', b"", "a button has no icon of 80 pixels"),
        (b'<bt:Image size="80" resid="icon.80"/>', b'<bt:Image size="80" resid="icon.32"/>', "icon.32 stands for 80 pixels"),
        (b"8400</AppDomain>", b"8400/</AppDomain>", "AppDomain https://localhost:8400/ has a path, a slash or a wildcard"),
        (b'SupportUrl DefaultValue="https', b'SupportUrl DefaultValue="http', "http://localhost:8400/ is not https"),
        (b'"open.tip"', b'"open.tip.that.is.far.too.long.for.it"', "open.tip.that.is.far.too.long.for.it is longer than 32"),
        (b"<Resource>api://localhost", b"<Resource>api://elsewhere", "does not name the pane's host and the application"),
    ],
)
def test_linter_finds(good, bad, fault):
    assert good in COMMITTED
    assert any(fault in found for found in faults(etree.fromstring(COMMITTED.replace(good, bad))))


def test_manifest_asks_for_no_more_than_the_product_needs(manifest):
    assert manifest.findtext("o:Permissions", "", NAMES) == "ReadWriteItem"
    base = manifest.find("o:Requirements/o:Sets/o:Set", NAMES)
    assert base is not None
    assert base.get("MinVersion") == "1.3"  # Exchange on premises stops at 1.5 and would hide the add-in above that


def test_the_pane_opens_beside_read_and_composed_messages_and_can_be_pinned(manifest):
    for name in ("v0", "v1"):
        points = manifest.findall(f".//{name}:ExtensionPoint", NAMES)
        assert [p.get(XSI_TYPE) for p in points] == ["MessageReadCommandSurface", "MessageComposeCommandSurface"]
        for point in points:
            label = point.find(f".//{name}:Control/{name}:Label", NAMES)
            assert label is not None
            assert label.get("resid") == "open.label"
    pinning = manifest.findall(".//v1:SupportsPinning", NAMES)
    assert [element.text for element in pinning] == ["true", "true"]


def test_every_address_answers(client: FlaskClient):
    manifest = etree.fromstring(client.get("/manifest.xml").data)
    found = {urlsplit(url) for url in urls(manifest)}
    assert len({(url.scheme, url.netloc) for url in found}) == 1
    for url in found:
        with client.get(url.path) as answer:
            assert answer.status_code == 200, url.path
            if url.path.endswith(".png"):
                assert _pixels(answer.data) == (_size_in(url.path), _size_in(url.path))
                # The host of images must not forbid caching (add-in-manifests.md).
                assert not answer.cache_control.no_store
                assert not answer.cache_control.no_cache


def test_served_manifest_is_the_committed_one_with_the_public_origin(client: FlaskClient):
    served = client.get("/manifest.xml")
    assert served.mimetype in ("application/xml", "text/xml")
    assert b"localhost" not in served.data
    elements = [e.tag for e in etree.fromstring(served.data).iter()]
    assert elements == [e.tag for e in etree.fromstring(COMMITTED).iter()]


def test_committed_addresses_are_of_one_origin():
    assert {f"{urlsplit(u).scheme}://{urlsplit(u).netloc}" for u in urls(etree.fromstring(COMMITTED))} == {ORIGIN}


def _pixels(png: bytes) -> tuple[int, int]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def _size_in(path: str) -> int:
    (size,) = re.findall(r"(\d+)\.png$", path)
    return int(size)
