"""The token endpoint gives a token for exactly the assertions that C4C would take, and the token works like a password."""

from __future__ import annotations

import base64
import copy
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from lxml import etree
from signxml.algorithms import CanonicalizationMethod, DigestAlgorithm, SignatureMethod
from signxml.signer import XMLSigner

from simulator.c4c import GRANT, SCOPE, TOKEN_PATH, create_app, trust
from simulator.c4c.odata import SERVICE
from simulator.world import Person, World

ORIGIN = "https://c4c.example.com"
IDP = "idp"
SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
UNSPECIFIED = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified"
EMAIL = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress"


@cache
def identity_provider(name: str) -> tuple[str, str]:
    """A private key and its self-signed certificate, both PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name}.example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private.decode(), certificate.public_bytes(serialization.Encoding.PEM).decode()


@pytest.fixture
def world() -> World:
    world = World()
    for number, name in enumerate(("Ada Byron", "Cy Locke"), 1):
        first = name.split()[0]
        person = Person(name, f"{first}@own.example", f"00000000-0000-4000-8000-{number:012d}", first.upper(), f"E{number}", "pw")
        person.provisioned = number == 1
        world.people.append(person)
    trust(world, identity_provider(IDP)[1])
    return world


@pytest.fixture
def http(world: World) -> httpx.Client:
    app = create_app(lambda: world, public_url=ORIGIN)
    return httpx.Client(transport=httpx.WSGITransport(app=app), base_url=ORIGIN, trust_env=False)


class Assertion:
    """An assertion that C4C takes, to be spoiled attribute by attribute before it is signed."""

    def __init__(self, world: World) -> None:
        now = world.now()
        self.id = f"_{secrets.token_hex(8)}"
        self.version = "2.0"
        self.issuer = world.c4c.saml_issuer
        self.name = "ADA"
        self.name_format = UNSPECIFIED
        self.method = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
        self.recipient = ORIGIN + TOKEN_PATH
        self.audience = world.c4c.audience
        self.client_id = world.c4c.oauth_client_id
        self.not_before = now - timedelta(minutes=1)
        self.not_after = now + timedelta(minutes=5)
        self.confirmed_until = self.not_after

    def document(self) -> etree._Element:
        def when(moment: datetime) -> str:
            return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

        now = self.not_before
        return etree.fromstring(
            f"""<saml2:Assertion xmlns:saml2="{SAML}" ID="{self.id}" Version="{self.version}" IssueInstant="{when(now)}">
<saml2:Issuer>{self.issuer}</saml2:Issuer>
<saml2:Subject><saml2:NameID Format="{self.name_format}">{self.name}</saml2:NameID>
<saml2:SubjectConfirmation Method="{self.method}"><saml2:SubjectConfirmationData
 NotOnOrAfter="{when(self.confirmed_until)}" Recipient="{self.recipient}"/></saml2:SubjectConfirmation></saml2:Subject>
<saml2:Conditions NotBefore="{when(self.not_before)}" NotOnOrAfter="{when(self.not_after)}">
<saml2:AudienceRestriction><saml2:Audience>{self.audience}</saml2:Audience></saml2:AudienceRestriction></saml2:Conditions>
<saml2:AuthnStatement AuthnInstant="{when(self.not_before)}"><saml2:AuthnContext>
<saml2:AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:PreviousSession</saml2:AuthnContextClassRef>
</saml2:AuthnContext></saml2:AuthnStatement>
<saml2:AttributeStatement><saml2:Attribute Name="client_id"><saml2:AttributeValue>{self.client_id}</saml2:AttributeValue>
</saml2:Attribute></saml2:AttributeStatement></saml2:Assertion>"""
        )

    def signed(self, idp: str = IDP, **options: Any) -> etree._Element:
        key, certificate = identity_provider(idp)
        signer = XMLSigner(
            **{
                "signature_algorithm": SignatureMethod.RSA_SHA256,
                "digest_algorithm": DigestAlgorithm.SHA256,
                "c14n_algorithm": CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0,
                **options,
            }
        )
        return signer.sign(self.document(), key=key, cert=certificate, reference_uri=self.id, id_attribute="ID")


def exchange(http: httpx.Client, world: World, signed: etree._Element | bytes, **form: str) -> httpx.Response:
    document = signed if isinstance(signed, bytes) else etree.tostring(signed)
    tenant = world.c4c
    fields = {
        "client_id": tenant.oauth_client_id,
        "grant_type": GRANT,
        "scope": SCOPE,
        "assertion": base64.b64encode(document).decode(),
        **form,
    }
    return http.post(TOKEN_PATH, data=fields, auth=(tenant.oauth_client_id, tenant.oauth_client_secret))


def refused(response: httpx.Response, code: str = "invalid_grant", status: int = 400) -> bool:
    return (response.status_code, response.json()["error"]) == (status, code)


def test_a_good_assertion_gives_a_token_that_needs_no_csrf(http: httpx.Client, world: World) -> None:
    reply = exchange(http, world, Assertion(world).signed())
    assert reply.status_code == 200, reply.text
    token = reply.json()
    assert token == {"access_token": token["access_token"], "token_type": "Bearer", "expires_in": "3600", "scope": SCOPE}
    headers = {"Authorization": f"Bearer {token['access_token']}", "Accept": "application/json"}
    assert http.post(f"{SERVICE}EMailCollection", json={"Subject": "x"}, headers=headers).status_code == 201
    assert world.events("c4c", "create")[0].actor == "ADA"
    assert [event.actor for event in world.events("c4c", "token")] == ["ADA"]


def test_a_token_ends_with_its_lifetime_or_when_the_user_is_locked(http: httpx.Client, world: World) -> None:
    token = exchange(http, world, Assertion(world).signed()).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    assert http.get(SERVICE, headers=headers).status_code == 200
    world.c4c.locked_users.add("ADA")
    assert http.get(SERVICE, headers=headers).status_code == 401
    world.c4c.locked_users.clear()
    world.clock_skew = timedelta(seconds=3601)
    assert http.get(SERVICE, headers=headers).status_code == 401
    assert http.get(SERVICE, headers={"Authorization": "Bearer made-up"}).status_code == 401


def test_a_locked_password_does_not_end_single_sign_on(http: httpx.Client, world: World) -> None:
    token = exchange(http, world, Assertion(world).signed()).json()["access_token"]
    world.c4c.locked_passwords.add("ADA")
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    (me,) = http.get(f"{SERVICE}IdentityGetLoggedInUserInfo", headers=headers).json()["d"]["results"]
    assert (me["UserID"], me["PasswordLockedIndicator"]) == ("ADA", True)


def test_the_name_may_be_an_address(http: httpx.Client, world: World) -> None:
    assertion = Assertion(world)
    assertion.name, assertion.name_format = "ada@own.example", EMAIL
    assert exchange(http, world, assertion.signed()).status_code == 200


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("issuer", "https://other.example.com/saml"),
        ("audience", "HTTPS://my000002-sso.crm.example.com"),
        ("recipient", "https://other.example.com/sap/bc/sec/oauth2/token"),
        ("method", "urn:oasis:names:tc:SAML:2.0:cm:holder-of-key"),
        ("version", "1.1"),
        ("name", "NOBODY"),
        ("name", "CY"),  # a colleague who is no business user
        ("name", "ada@own.example"),  # an address that is called a user
        ("name_format", "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"),
        ("client_id", "OTHER"),
    ],
)
def test_an_assertion_about_something_else_is_refused(http: httpx.Client, world: World, attribute: str, value: str) -> None:
    assertion = Assertion(world)
    setattr(assertion, attribute, value)
    assert refused(exchange(http, world, assertion.signed()))
    assert world.c4c.tokens == {}


@pytest.mark.parametrize(
    ("attribute", "minutes", "status"),
    [
        ("not_before", 4, 200),
        ("not_before", 6, 400),
        ("not_after", -4, 200),
        ("not_after", -6, 400),
        ("confirmed_until", -4, 200),
        ("confirmed_until", -6, 400),
    ],
)
def test_the_clock_may_be_five_minutes_off(http: httpx.Client, world: World, attribute: str, minutes: int, status: int) -> None:
    assertion = Assertion(world)
    setattr(assertion, attribute, world.now() + timedelta(minutes=minutes))
    assert exchange(http, world, assertion.signed()).status_code == status


def test_an_assertion_works_once(http: httpx.Client, world: World) -> None:
    signed = Assertion(world).signed()
    assert exchange(http, world, signed).status_code == 200
    assert refused(exchange(http, world, signed))


def test_only_the_trusted_certificate_counts(http: httpx.Client, world: World) -> None:
    assert refused(exchange(http, world, Assertion(world).signed("impostor")))
    world.c4c.saml_certificate_pem = ""
    assert refused(exchange(http, world, Assertion(world).signed()))
    trust(world, identity_provider("impostor")[1])
    assert exchange(http, world, Assertion(world).signed("impostor")).status_code == 200


def test_other_algorithms_and_no_signature_at_all_are_refused(http: httpx.Client, world: World) -> None:
    assert refused(exchange(http, world, Assertion(world).document()))
    for options in (
        {"signature_algorithm": SignatureMethod.RSA_SHA512},
        {"digest_algorithm": DigestAlgorithm.SHA512},
        {"c14n_algorithm": CanonicalizationMethod.CANONICAL_XML_1_0},
    ):
        assert refused(exchange(http, world, Assertion(world).signed(**options)))


def change_the_name(signed: etree._Element) -> etree._Element:
    name = signed.find(f".//{{{SAML}}}NameID")
    assert name is not None
    name.text = "OTHER"
    return signed


def wrap_as_child(signed: etree._Element) -> etree._Element:
    """An unsigned assertion about somebody else, with the signed one inside."""
    evil = copy.deepcopy(signed)
    for signature in evil.findall("{*}Signature"):
        evil.remove(signature)
    evil.set("ID", "_evil")
    change_the_name(evil)
    evil.append(signed)
    return evil


def wrap_in_the_signature(signed: etree._Element) -> etree._Element:
    """The evil assertion carries the signature, and the signed one hides inside the signature's Object."""
    evil = copy.deepcopy(signed)
    original = copy.deepcopy(signed)
    for signature in original.findall("{*}Signature"):
        original.remove(signature)
    evil.set("ID", "_evil")
    change_the_name(evil)
    signature = evil.find("{*}Signature")
    assert signature is not None
    etree.SubElement(signature, "{http://www.w3.org/2000/09/xmldsig#}Object").append(original)
    return evil


def same_id_twice(signed: etree._Element) -> etree._Element:
    evil = wrap_in_the_signature(signed)
    evil.set("ID", signed.get("ID", ""))
    return evil


def put_into_a_response(signed: etree._Element) -> etree._Element:
    response = etree.Element("{urn:oasis:names:tc:SAML:2.0:protocol}Response")
    response.append(signed)
    return response


def sign_only_the_subject(signed: etree._Element) -> etree._Element:
    reference = signed.find(".//{*}Reference")
    subject = signed.find(f"{{{SAML}}}Subject")
    assert reference is not None
    assert subject is not None
    subject.set("ID", "_subject")
    reference.set("URI", "#_subject")
    return signed


@pytest.mark.parametrize(
    "attack",
    [
        change_the_name,
        wrap_as_child,
        wrap_in_the_signature,
        same_id_twice,
        put_into_a_response,
        sign_only_the_subject,
    ],
)
def test_attacks_on_the_signature_are_refused(
    http: httpx.Client, world: World, attack: Callable[[etree._Element], etree._Element]
) -> None:
    assert refused(exchange(http, world, attack(Assertion(world).signed())))
    assert world.c4c.tokens == {}


def test_a_comment_does_not_cut_the_name(http: httpx.Client, world: World) -> None:
    """Comments are outside of the signature; who reads only the text before one takes ADA.evil for ADA."""
    assertion = Assertion(world)
    assertion.name = "ADA.evil"
    commented = etree.tostring(assertion.signed()).replace(b">ADA.evil<", b">ADA<!-- -->.evil<")
    assert refused(exchange(http, world, commented))
    harmless = etree.tostring(Assertion(world).signed()).replace(b">ADA<", b">A<!-- -->DA<")
    assert exchange(http, world, harmless).status_code == 200


def test_documents_that_are_no_assertion_are_refused(http: httpx.Client, world: World) -> None:
    entity = b'<!DOCTYPE a [<!ENTITY x "ADA">]>' + etree.tostring(Assertion(world).signed())
    for document in (b"", b"<a", b"<a/>", entity):
        assert refused(exchange(http, world, document))
    assert refused(exchange(http, world, b"", assertion="%%%"), "invalid_request")


def test_the_client_and_the_form_must_be_right(http: httpx.Client, world: World) -> None:
    signed = etree.tostring(Assertion(world).signed())
    assert refused(exchange(http, world, signed, grant_type="password"), "unsupported_grant_type")
    assert refused(exchange(http, world, signed, scope="OTHER"), "invalid_scope")
    assert refused(exchange(http, world, signed, client_id="OTHER"), "invalid_request")
    assert http.post(TOKEN_PATH, data={}).status_code == 401
    world.c4c.oauth_client_secret, secret = "changed", world.c4c.oauth_client_secret
    wrong = http.post(TOKEN_PATH, data={}, auth=(world.c4c.oauth_client_id, secret))
    assert refused(wrong, "invalid_client", 401)
    assert http.get(TOKEN_PATH).status_code == 405


def test_secrets_of_the_tenant_are_not_in_its_repr(http: httpx.Client, world: World) -> None:
    token = exchange(http, world, Assertion(world).signed()).json()["access_token"]
    shown = repr(world.c4c)
    assert token not in shown
    assert world.c4c.oauth_client_secret not in shown
