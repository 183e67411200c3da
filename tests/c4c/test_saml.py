"""Assertions that C4C accepts, and only those; tokens that are kept, replaced in time and told to nobody."""

import shutil
import subprocess
import threading
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from lxml import etree

from server.c4c.saml import BEARER_GRANT, DSIG, SAML, Minted, Minter, TokenSource
from server.errors import Forbidden, InvalidInput, NeedsReauth, RateLimited, Transient
from simulator.c4c import TOKEN_PATH
from simulator.world import Fault, Person, World
from tests.c4c.conftest import Tenant, signing_pair


def exchanges(world: World) -> int:
    return sum(access.path == TOKEN_PATH for access in world.requests("c4c"))


def offered(tenant: Tenant, document: bytes) -> tuple[int, str]:
    """Offer an assertion to the token endpoint; return its status and error code."""
    c4c = tenant.world.c4c
    client = f"{c4c.oauth_client_id}:{c4c.oauth_client_secret}".encode()
    reply = tenant.gateway.send(
        "POST",
        tenant.url + TOKEN_PATH,
        headers={"Authorization": "Basic " + b64encode(client).decode()},
        data={"grant_type": BEARER_GRANT, "scope": "UIWC:CC_HOME", "assertion": b64encode(document).decode()},
    )
    return reply.status, reply.content.decode()


def test_minted_assertion_is_accepted_once(tenant: Tenant, me: Person) -> None:
    document = tenant.minter().mint(me.user_id)
    assert offered(tenant, document)[0] == 200
    status, body = offered(tenant, document)
    assert status == 400
    assert "used before" in body


@pytest.mark.skipif(shutil.which("xmlsec1") is None, reason="Debian's xmlsec1 is not installed")
def test_xmlsec_verifies_the_signature_and_misses_no_change(tenant: Tenant, me: Person, tmp_path: Path) -> None:
    document = tenant.minter().mint(me.user_id)
    certificate = tmp_path / "certificate.pem"
    certificate.write_bytes(tenant.certificate_pem)

    def verdict(content: bytes) -> int:
        file = tmp_path / "assertion.xml"
        file.write_bytes(content)
        command = ["xmlsec1", "--verify", "--id-attr:ID", f"{SAML}:Assertion", "--pubkey-cert-pem", certificate, file]
        return subprocess.run(command, capture_output=True, timeout=10).returncode

    assert verdict(document) == 0
    assert verdict(document.replace(me.user_id.encode(), b"SOMEBODY")) != 0


def test_assertion_is_short_and_for_one_tenant_only(tenant: Tenant, me: Person) -> None:
    assertion = etree.fromstring(tenant.minter().mint(me.user_id))
    names = {"s": SAML, "d": DSIG}
    assert assertion.findtext("s:Subject/s:NameID", namespaces=names) == me.user_id
    assert assertion.findtext(".//s:Audience", namespaces=names) == tenant.world.c4c.audience
    (confirmation,) = assertion.iterfind(".//s:SubjectConfirmationData", names)
    assert confirmation.get("Recipient") == tenant.url + TOKEN_PATH
    methods = [assertion.find(f".//d:{name}", names) for name in ("SignatureMethod", "DigestMethod")]
    assert [m.get("Algorithm", "").rpartition("#")[2] for m in methods if m is not None] == ["rsa-sha256", "sha256"]
    (minted,) = tenant.minted
    assert minted.user_id == me.user_id
    assert minted.expires_at - minted.at <= timedelta(minutes=5)


def wrapped(document: bytes) -> bytes:
    """The signed assertion moved inside an unsigned one that names somebody else."""
    evil = etree.fromstring(document)
    evil.set("ID", "_evil")
    for name in evil.iter(f"{{{SAML}}}NameID"):
        name.text = "ADMIN"
    for signature in evil.findall(f"{{{DSIG}}}Signature"):
        evil.remove(signature)
    evil.insert(1, etree.fromstring(document))
    return etree.tostring(evil)


def wrapped_with_signature_outside(document: bytes) -> bytes:
    """An unsigned assertion that carries the signature, whose reference leads to the signed one in an extension."""
    inner = etree.fromstring(document)
    signature = inner.find(f"{{{DSIG}}}Signature")
    assert signature is not None
    evil = etree.fromstring(document)
    evil.set("ID", "_evil")
    for name in evil.iter(f"{{{SAML}}}NameID"):
        name.text = "ADMIN"
    holder = etree.SubElement(evil, f"{{{SAML}}}Advice")
    inner.remove(signature)
    holder.append(inner)
    return etree.tostring(evil)


def without_signature(document: bytes) -> bytes:
    root = etree.fromstring(document)
    for signature in root.findall(f"{{{DSIG}}}Signature"):
        root.remove(signature)
    return etree.tostring(root)


def for_somebody_else(document: bytes) -> bytes:
    root = etree.fromstring(document)
    for name in root.iter(f"{{{SAML}}}NameID"):
        name.text = "ADMIN"
    return etree.tostring(root)


def signature_for_another_id(document: bytes) -> bytes:
    root = etree.fromstring(document)
    for reference in root.iter(f"{{{DSIG}}}Reference"):
        reference.set("URI", "#_other")
    return etree.tostring(root)


@pytest.mark.parametrize(
    "tampered", [wrapped, wrapped_with_signature_outside, without_signature, for_somebody_else, signature_for_another_id]
)
def test_tampered_assertion_is_refused(tenant: Tenant, me: Person, tampered: Callable[[bytes], bytes]) -> None:
    status, body = offered(tenant, tampered(tenant.minter().mint(me.user_id)))
    assert (status, "invalid_grant" in body) == (400, True)
    assert not tenant.world.events("c4c", "token")


def minter_with(tenant: Tenant, **other: object) -> Minter:
    c4c = tenant.world.c4c
    given = {
        "issuer": c4c.saml_issuer,
        "audience": c4c.audience,
        "token_url": tenant.url + TOKEN_PATH,
        "client_id": c4c.oauth_client_id,
        "key_pem": tenant.key_pem,
        "certificate_pem": tenant.certificate_pem,
        "now": tenant.world.now,
        "on_mint": tenant.minted.append,
    }
    return Minter(**{**given, **other})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "other",
    [
        {"issuer": "https://other.example.com"},
        {"audience": "HTTPS://my000002-sso.crm.example.com"},
        {"client_id": "ANOTHER"},
        dict(zip(("key_pem", "certificate_pem"), signing_pair(), strict=True)),
    ],
)
def test_assertion_of_another_issuer_audience_client_or_key_is_refused(
    tenant: Tenant, me: Person, other: dict[str, object]
) -> None:
    assert offered(tenant, minter_with(tenant, **other).mint(me.user_id))[0] == 400


def test_expired_assertion_is_refused(tenant: Tenant, me: Person) -> None:
    document = tenant.minter().mint(me.user_id)
    tenant.world.clock_skew = timedelta(minutes=30)
    assert offered(tenant, document)[0] == 400


@pytest.mark.parametrize("user_id", ["", "  ", "A\nB", "A\x00B"])
def test_what_is_no_user_id_gets_no_assertion(tenant: Tenant, user_id: str) -> None:
    with pytest.raises(InvalidInput):
        tenant.minter().mint(user_id)
    assert tenant.minted == []


def test_user_id_with_markup_stays_text(tenant: Tenant) -> None:
    assertion = etree.fromstring(tenant.minter().mint("A<b>&'\""))
    assert assertion.findtext(f"{{{SAML}}}Subject/{{{SAML}}}NameID") == "A<b>&'\""


def test_no_assertion_leaves_without_audit(tenant: Tenant, me: Person) -> None:
    def refuse(minted: Minted) -> None:
        raise Transient("The audit cannot be written.")

    with pytest.raises(Transient):
        minter_with(tenant, on_mint=refuse).mint(me.user_id)


def test_key_that_is_not_rsa_is_refused(tenant: Tenant) -> None:
    pem, format = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(pem, format, serialization.NoEncryption())
    with pytest.raises(InvalidInput):
        minter_with(tenant, key_pem=key)


# Tokens


def test_token_is_kept_until_a_minute_before_it_expires(tenant: Tenant, world: World, me: Person) -> None:
    tokens = tenant.tokens()
    first = tokens.token(me.user_id)
    assert tokens.token(me.user_id) == first
    world.clock_skew = timedelta(minutes=58)
    assert tokens.token(me.user_id) == first
    world.clock_skew = timedelta(minutes=59, seconds=1)
    assert tokens.token(me.user_id) != first
    assert exchanges(world) == 2


def test_one_exchange_at_a_time_and_one_token_per_user(tenant: Tenant, world: World) -> None:
    tokens, people = tenant.tokens(), [p.user_id for p in world.people if p.provisioned][:2]
    start = threading.Barrier(8)

    def ask(number: int) -> str:
        start.wait(5)
        return tokens.token(people[number % 2])

    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(ask, range(8)))
    assert len(set(got)) == 2
    assert exchanges(world) == 2


def test_locked_user_needs_reauth_and_wrong_client_needs_an_admin(tenant: Tenant, world: World, me: Person) -> None:
    world.c4c.locked_users.add(me.user_id)
    with pytest.raises(NeedsReauth):
        tenant.tokens().token(me.user_id)
    with pytest.raises(NeedsReauth):
        tenant.tokens().token("NOBODY")
    wrong = TokenSource(tenant.gateway, tenant.minter(), client_secret="wrong", now=world.now)
    with pytest.raises(Forbidden) as refused:
        wrong.token(world.people[1].user_id)
    assert refused.value.code == "c4c_setup"


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault("c4c", "garbage", "oauth2"), Transient),
        (Fault("c4c", "html", "oauth2"), Transient),
        (Fault("c4c", "drop", "oauth2"), Transient),
        (Fault("c4c", "acted_drop", "oauth2"), Transient),
        (Fault("c4c", "status", "oauth2", status=503), Transient),
        (Fault("c4c", "status", "oauth2", status=429, retry_after_s=7), RateLimited),
    ],
)
def test_sick_token_endpoint_is_transient(tenant: Tenant, world: World, me: Person, fault: Fault, error: type[Transient]) -> None:
    world.faults.append(fault)
    tokens = tenant.tokens()
    with pytest.raises(error):
        tokens.token(me.user_id)
    assert tokens.token(me.user_id)


def test_secrets_are_not_shown(tenant: Tenant, me: Person) -> None:
    tokens = tenant.tokens()
    token = tokens.token(me.user_id)
    shown = f"{tokens!r} {tokens.authorize(me.user_id)!r} {tenant.minter()!r} {tenant.minted!r}"
    assert token not in shown
    assert tenant.world.c4c.oauth_client_secret not in shown
