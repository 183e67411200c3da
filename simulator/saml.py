"""Judge a SAML 2.0 bearer assertion the way C4C's token endpoint does.

`verify()` takes the assertion's bytes and what must hold, and gives the subject. It trusts one certificate, reads only the
element that the signature covers, and asks that this element is the assertion itself, so that wrapped or partly signed
documents are refused. It does not remember assertions and knows no users: replay and the user are the caller's business.

Rules: c4c-odata.md section 1 (S1, S15) and RFC 7522 section 3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lxml import etree
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.exceptions import SignXMLException
from signxml.verifier import SignatureConfiguration, XMLVerifier

SKEW = timedelta(minutes=5)
_SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
_DS = "http://www.w3.org/2000/09/xmldsig#"
_BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
_TRANSFORMS = {
    "http://www.w3.org/2000/09/xmldsig#enveloped-signature",
    "http://www.w3.org/2001/10/xml-exc-c14n#",
}
UNSPECIFIED = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified"
EMAIL = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress"


class Refused(Exception):
    """The assertion does not hold; the text says why."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a good assertion speaks of."""

    name: str
    name_format: str  # UNSPECIFIED or EMAIL
    assertion_id: str
    expires_at: datetime  # aware UTC
    client_id: str  # the attribute, "" when the assertion has none


def verify(document: bytes, *, certificate_pem: str, issuer: str, audience: str, recipient: str, now: datetime) -> Subject:
    """Return the subject of a signed assertion. Raises: Refused."""
    assertion = _signed(_parsed(document), certificate_pem, now)
    if assertion.get("Version") != "2.0":
        raise Refused("the assertion is not of version 2.0")
    if _only(assertion, "Issuer").text != issuer:
        raise Refused("the issuer is not registered")
    conditions = _only(assertion, "Conditions")
    _check_window(conditions, now)
    audiences = {element.text for element in conditions.iterfind(f"{{{_SAML}}}AudienceRestriction/{{{_SAML}}}Audience")}
    if audience not in audiences:
        raise Refused("the audience is another service provider")
    name = _only(_only(assertion, "Subject"), "NameID")
    name_format = name.get("Format", UNSPECIFIED)
    if not name.text or name_format not in (UNSPECIFIED, EMAIL):
        raise Refused("the name identifier is missing or of a format that is not accepted")
    return Subject(
        name=name.text.strip(),
        name_format=name_format,
        assertion_id=assertion.get("ID", ""),
        expires_at=_confirmed_until(assertion, recipient, now),
        client_id=_client_id(assertion),
    )


def _parsed(document: bytes) -> etree._Element:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True)
    try:
        root = etree.fromstring(document, parser)
    except etree.XMLSyntaxError:
        raise Refused("the assertion is not well-formed XML") from None
    if root.getroottree().docinfo.doctype:
        raise Refused("the assertion has a document type")
    if root.tag != f"{{{_SAML}}}Assertion":
        raise Refused("the document is not an assertion")
    return root


def _signed(root: etree._Element, certificate_pem: str, now: datetime) -> etree._Element:
    """Check the signature and return what it covers, which must be the root."""
    if not certificate_pem:
        raise Refused("no identity provider is trusted")
    signatures = list(root.iter(f"{{{_DS}}}Signature"))
    if len(signatures) != 1 or signatures[0].getparent() is not root:
        raise Refused("the assertion must carry exactly one signature of its own")
    if len(list(root.iter(f"{{{_SAML}}}Assertion"))) != 1:
        raise Refused("the assertion contains another one")
    references = list(root.iter(f"{{{_DS}}}Reference"))
    if len(references) != 1 or references[0].get("URI") != f"#{root.get('ID')}":
        raise Refused("the signature does not refer to the assertion")
    if {element.get("Algorithm") for element in root.iter(f"{{{_DS}}}Transform")} != _TRANSFORMS:
        raise Refused("the signature is not enveloped with exclusive canonicalization")
    expected = SignatureConfiguration(
        location="./",
        expect_references=1,
        signature_methods=frozenset({SignatureMethod.RSA_SHA256}),
        digest_algorithms=frozenset({DigestAlgorithm.SHA256}),
        verification_time=now,
    )
    try:
        result = XMLVerifier().verify(root, x509_cert=certificate_pem, id_attribute="ID", expect_config=expected)
    except (SignXMLException, etree.Error, ValueError):
        raise Refused("the signature is not valid") from None
    signed = None if isinstance(result, list) else result.signed_xml
    if signed is None or signed.tag != root.tag or signed.get("ID") != root.get("ID"):
        raise Refused("the signature covers something else")
    return signed


def _only(parent: etree._Element, tag: str) -> etree._Element:
    found = parent.findall(f"{{{_SAML}}}{tag}")
    if len(found) != 1:
        raise Refused(f"the assertion must have exactly one {tag}")
    return found[0]


def _check_window(element: etree._Element, now: datetime) -> datetime:
    """Check NotBefore and NotOnOrAfter with the allowed skew; return the end."""
    end = element.get("NotOnOrAfter")
    if end is None:
        raise Refused("the assertion does not say until when it holds")
    if now >= _moment(end) + SKEW:
        raise Refused("the assertion has expired")
    start = element.get("NotBefore")
    if start is not None and now < _moment(start) - SKEW:
        raise Refused("the assertion is not valid yet")
    return _moment(end)


def _confirmed_until(assertion: etree._Element, recipient: str, now: datetime) -> datetime:
    for confirmation in _only(assertion, "Subject").findall(f"{{{_SAML}}}SubjectConfirmation"):
        if confirmation.get("Method") == _BEARER:
            data = _only(confirmation, "SubjectConfirmationData")
            if data.get("Recipient") != recipient:
                raise Refused("the recipient is another endpoint")
            return _check_window(data, now)
    raise Refused("the assertion is not a bearer assertion")


def _client_id(assertion: etree._Element) -> str:
    path = f"{{{_SAML}}}AttributeStatement/{{{_SAML}}}Attribute[@Name='client_id']/{{{_SAML}}}AttributeValue"
    return assertion.findtext(path) or ""


def _moment(text: str) -> datetime:
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", text):
        raise Refused("a time of the assertion is not in UTC")
    try:
        return datetime.fromisoformat(text[:19]).replace(tzinfo=UTC)
    except ValueError:
        raise Refused("a time of the assertion is no time") from None
