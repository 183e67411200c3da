"""Who is calling: good tokens pass, forged ones do not, and the sign-in service is not pestered."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from flask import Flask
from jwt.algorithms import RSAAlgorithm

from server.auth import identity
from server.auth.identity import EntraIssuer, Verifier
from server.errors import NeedsReauth, Transient
from simulator.serving import Port
from simulator.world import Fault
from tests.auth.sign_in import SignIn
from tests.figures import Count

FOREIGN_TENANT = "c0ffee00-1111-4222-8333-444455556666"


@cache
def attacker() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def b64(data: bytes | dict[str, Any]) -> str:
    raw = json.dumps(data).encode() if isinstance(data, dict) else data
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def claims(s: SignIn, **changes: Any) -> dict[str, Any]:
    changed = s.provider.entra.api_claims(s.person, 3600) | changes
    return {name: value for name, value in changed.items() if value is not None}


def signed(s: SignIn, **changes: Any) -> str:
    """Signed by the real key; None removes a claim."""
    return s.provider.entra.ring.sign(claims(s, **changes))


def headed(s: SignIn, **header: Any) -> str:
    return s.provider.entra.ring.sign(claims(s), header)


def kid(s: SignIn) -> str:
    return str(jwt.get_unverified_header(signed(s))["kid"])


def by(s: SignIn, key: Any, algorithm: str, **header: Any) -> str:
    return jwt.encode(claims(s), key, algorithm=algorithm, headers={"kid": kid(s)} | header)


def own_key(s: SignIn, algorithm: str) -> str:
    return by(s, s.provider.entra.ring._keys[-1][1], algorithm)


def unsigned(s: SignIn, algorithm: str, signature: bytes = b"") -> str:
    return f"{b64({'alg': algorithm, 'typ': 'JWT', 'kid': kid(s)})}.{b64(claims(s))}.{b64(signature)}"


def mac_with_public_key(s: SignIn, encoding: serialization.Encoding) -> str:
    public = s.provider.entra.ring._keys[-1][1].public_key()
    secret = public.public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    text = f"{b64({'alg': 'HS256', 'typ': 'JWT', 'kid': kid(s)})}.{b64(claims(s))}"
    return f"{text}.{b64(hmac.digest(secret, text.encode(), hashlib.sha256))}"


def changed_after_signing(s: SignIn) -> str:
    head, _, signature = signed(s).split(".")
    return f"{head}.{b64(claims(s, oid=s.other_person.object_id))}.{signature}"


def signed_twice(s: SignIn) -> str:
    inner = signed(s)
    return jwt.encode({"jwt": inner}, attacker(), algorithm="RS256", headers={"kid": kid(s), "cty": "JWT"})


def issuer(s: SignIn, tenant: str) -> str:
    return f"{s.url}/{tenant}/v2.0"


def later(s: SignIn, seconds: float) -> int:
    return int(s.now().timestamp() + seconds)


FORGERIES: dict[str, Callable[[SignIn], str]] = {
    # the algorithm
    "alg none": lambda s: unsigned(s, "none"),
    "alg nOnE": lambda s: unsigned(s, "nOnE"),
    "alg none with some signature": lambda s: unsigned(s, "none", b"x" * 256),
    "alg empty": lambda s: unsigned(s, ""),
    "HS256 by the public key as PEM": lambda s: mac_with_public_key(s, serialization.Encoding.PEM),
    "HS256 by the public key as DER": lambda s: mac_with_public_key(s, serialization.Encoding.DER),
    "HS256 by another secret": lambda s: by(s, b"0123456789abcdef0123456789abcdef", "HS256"),
    "RS512 by the real key": lambda s: own_key(s, "RS512"),
    "PS256 by the real key": lambda s: own_key(s, "PS256"),
    "ES256": lambda s: by(s, ec.generate_private_key(ec.SECP256R1()), "ES256"),
    "EdDSA": lambda s: by(s, ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
    # the key
    "another key under the real kid": lambda s: by(s, attacker(), "RS256"),
    "kid unknown": lambda s: by(s, attacker(), "RS256", kid="unknown"),
    "kid missing": lambda s: jwt.encode(claims(s), attacker(), algorithm="RS256"),
    "kid empty": lambda s: headed(s, kid=""),
    "kid a path": lambda s: by(s, attacker(), "RS256", kid="../../../../dev/null"),
    "kid SQL": lambda s: by(s, attacker(), "RS256", kid="' UNION SELECT 'key' --"),
    "kid a number": lambda s: f"{b64({'alg': 'RS256', 'kid': 7})}.{b64(claims(s))}.{b64(b'x' * 256)}",
    "jwk embedded": lambda s: by(s, attacker(), "RS256", jwk=RSAAlgorithm.to_jwk(attacker().public_key(), as_dict=True)),
    "x5c embedded": lambda s: by(s, attacker(), "RS256", x5c=["MIIB"]),
    "crit that nobody knows": lambda s: headed(s, crit=["exp"]),
    "jku beside a good signature": lambda s: headed(s, jku="https://login.example.net/keys"),
    "typ of a logout token": lambda s: headed(s, typ="logout+jwt"),
    "b64 false": lambda s: headed(s, b64=False),
    "key of the C4C issuer": lambda s: s.provider.c4c.ring.sign(claims(s)),
    "key of the C4C issuer under the real kid": lambda s: s.provider.c4c.ring.sign(claims(s), {"kid": kid(s)}),
    # the form
    "empty": lambda s: "",
    "not a token": lambda s: "Bearer",
    "signature left out": lambda s: signed(s).rsplit(".", 1)[0] + ".",
    "signature cut": lambda s: signed(s)[:-20],
    "two parts": lambda s: signed(s).rsplit(".", 1)[0],
    "encrypted form": lambda s: signed(s) + ".AAAA.AAAA",
    "claims changed after signing": changed_after_signing,
    "token in a token": signed_twice,
    "claims not an object": lambda s: f"{b64({'alg': 'RS256', 'kid': kid(s)})}.{b64(b'[]')}.{b64(b'x' * 256)}",
    "endless": lambda s: headed(s, typ="J" * 20_000),
    "surrogates": lambda s: signed(s) + "\ud800",
    # the issuer and its tenant
    "iss of another tenant": lambda s: signed(s, iss=issuer(s, FOREIGN_TENANT)),
    "tid of another tenant": lambda s: signed(s, tid=FOREIGN_TENANT),
    "iss elsewhere": lambda s: signed(s, iss=f"https://login.example.net/{s.world.entra_tenant}/v2.0"),
    "iss with our host as a path": lambda s: signed(s, iss=f"https://login.example.net/{issuer(s, s.world.entra_tenant)}"),
    "iss with a slash more": lambda s: signed(s, iss=issuer(s, s.world.entra_tenant) + "/"),
    "iss of version 1": lambda s: signed(s, iss=f"https://sts.windows.net/{s.world.entra_tenant}/"),
    "iss the template": lambda s: signed(s, iss=issuer(s, "{tenantid}"), tid="{tenantid}"),
    "iss common": lambda s: signed(s, iss=issuer(s, "common"), tid="common"),
    "iss missing": lambda s: signed(s, iss=None),
    "tid missing": lambda s: signed(s, tid=None),
    "tid in capitals": lambda s: signed(s, tid=FOREIGN_TENANT.upper(), iss=issuer(s, FOREIGN_TENANT.upper())),
    "tid with a line break": lambda s: signed(s, tid=FOREIGN_TENANT + "\n", iss=issuer(s, FOREIGN_TENANT + "\n")),
    "tid a path": lambda s: signed(s, tid=f"x/../{FOREIGN_TENANT}", iss=issuer(s, f"x/../{FOREIGN_TENANT}")),
    "oid missing": lambda s: signed(s, oid=None),
    "oid an address": lambda s: signed(s, oid=s.other_person.email),
    "oid a list": lambda s: signed(s, oid=[s.other_person.object_id]),
    # the purpose
    "aud of another application": lambda s: signed(s, aud=FOREIGN_TENANT),
    "aud Graph": lambda s: signed(s, aud="https://graph.microsoft.com"),
    "aud a list with ours": lambda s: signed(s, aud=[s.world.client_id, "https://graph.microsoft.com"]),
    "aud longer": lambda s: signed(s, aud=s.world.client_id + "0"),
    "aud missing": lambda s: signed(s, aud=None),
    "azp of another application": lambda s: signed(s, azp=FOREIGN_TENANT),
    "azp missing": lambda s: signed(s, azp=None),
    "scp missing": lambda s: signed(s, scp=None),
    "scp for a daemon": lambda s: signed(s, scp=None, roles=["access_as_user"]),
    "scp longer": lambda s: signed(s, scp="access_as_user_admin User.Read"),
    "scp with a prefix": lambda s: signed(s, scp="not.access_as_user"),
    "scp a list": lambda s: signed(s, scp=["access_as_user"]),
    "ver 1.0": lambda s: signed(s, ver="1.0"),
    "ver missing": lambda s: signed(s, ver=None),
    "an id token": lambda s: s.provider.mint_id_token(s.world, s.person),
    "a Graph token": lambda s: s.provider.mint_graph_token(s.world, s.person),
    # the times
    "exp missing": lambda s: signed(s, exp=None),
    "exp past": lambda s: signed(s, exp=later(s, -61)),
    "exp a text": lambda s: signed(s, exp=str(later(s, 3600))),
    "exp true": lambda s: signed(s, exp=True),
    "exp without end": lambda s: signed(s, exp=float("inf")),
    "exp beyond all calendars": lambda s: signed(s, exp=10**18),
    "exp negative": lambda s: signed(s, exp=-1),
    "iat missing": lambda s: signed(s, iat=None),
    "iat in the future": lambda s: signed(s, iat=later(s, 120)),
    "nbf in the future": lambda s: signed(s, nbf=later(s, 120)),
    "nbf a text": lambda s: signed(s, nbf="0"),
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES.keys())
def test_a_forged_or_foreign_token_is_refused(sign_in: SignIn, forge: Callable[[SignIn], str], count: Count) -> None:
    verifier = sign_in.verifier()
    assert verifier.verify(sign_in.token()).subject == sign_in.person.object_id
    forged = forge(sign_in)
    with pytest.raises(NeedsReauth, match="sign-in is not valid here") as refused:
        verifier.verify(forged)
    assert not forged or forged[:100] not in repr([refused.value, refused.value.__cause__, refused.value.__context__])
    count("hostile input: forged tokens", 1)


@pytest.mark.parametrize("member", ["jku", "x5u"])
def test_keys_that_a_token_points_to_are_never_fetched(sign_in: SignIn, member: str) -> None:
    trap, visits = Flask("trap"), []

    @trap.route("/<path:path>")
    def visited(path: str) -> dict[str, Any]:
        visits.append(path)
        return {"keys": [RSAAlgorithm.to_jwk(attacker().public_key(), as_dict=True) | {"kid": "trap"}]}

    with Port(trap) as port:
        token = by(sign_in, attacker(), "RS256", kid="trap", **{member: f"{port.url}/keys"})
        with pytest.raises(NeedsReauth):
            sign_in.verifier().verify(token)
    assert visits == []


def test_without_a_client_id_nobody_gets_in(sign_in: SignIn) -> None:
    verifier = Verifier([EntraIssuer(sign_in.gateway, authority=sign_in.url, audience=frozenset({""}))], sign_in.now)
    office = "ea5a67f6-b6f3-4338-b240-c655ddc3cc8e"
    for token in (signed(sign_in, aud=None, azp=office), signed(sign_in, aud="", azp=office), sign_in.token()):
        with pytest.raises(NeedsReauth):
            verifier.verify(token)


GOOD: dict[str, Callable[[SignIn], str]] = {
    "as issued": lambda s: s.token(),
    "for our URI": lambda s: signed(s, aud=f"api://sidebar.example.com/{s.world.client_id}"),
    "held by Office": lambda s: signed(s, azp="ea5a67f6-b6f3-4338-b240-c655ddc3cc8e"),
    "with more scopes": lambda s: signed(s, scp="User.Read access_as_user"),
    "expired within the leeway": lambda s: signed(s, exp=later(s, -50)),
    "from a clock that is ahead": lambda s: signed(s, iat=later(s, 50), nbf=later(s, 50)),
    "without nbf": lambda s: signed(s, nbf=None),
    "without address and name": lambda s: signed(s, preferred_username=None, name=None),
}


@pytest.mark.parametrize("issue", GOOD.values(), ids=GOOD.keys())
def test_a_good_token_is_accepted(sign_in: SignIn, issue: Callable[[SignIn], str]) -> None:
    found = sign_in.verifier().verify(issue(sign_in))
    assert (found.tenant, found.subject) == (sign_in.world.entra_tenant, sign_in.person.object_id)


def test_the_claims_tell_who_it_is(sign_in: SignIn) -> None:
    found = sign_in.verifier().verify(sign_in.token())
    assert found.issuer == f"{sign_in.url}/{sign_in.world.entra_tenant}/v2.0"
    assert (found.email, found.name) == (sign_in.person.email, sign_in.person.name)
    assert found.expires_at > sign_in.now() + timedelta(minutes=59)
    assert sign_in.person.email not in repr(found)


def test_someone_elses_address_in_the_token_changes_nothing(sign_in: SignIn) -> None:
    victim = sign_in.other_person
    token = sign_in.token(preferred_username=victim.email, email=victim.email, upn=victim.email)
    foreign = sign_in.token(tid=FOREIGN_TENANT, iss=issuer(sign_in, FOREIGN_TENANT), preferred_username=victim.email)
    assert sign_in.verifier().verify(token).subject == sign_in.person.object_id
    assert sign_in.verifier().verify(foreign).tenant == FOREIGN_TENANT


def test_a_key_of_one_tenant_makes_no_tokens_for_another(sign_in: SignIn) -> None:
    sign_in.provider.rotate(only_tenant=FOREIGN_TENANT)
    try:
        own = signed(sign_in, tid=FOREIGN_TENANT, iss=issuer(sign_in, FOREIGN_TENANT))
        assert sign_in.verifier().verify(own).tenant == FOREIGN_TENANT
        with pytest.raises(NeedsReauth):
            sign_in.verifier().verify(sign_in.token())
    finally:
        sign_in.provider.rotate()


def test_keys_are_fetched_once_and_serve_many(sign_in: SignIn) -> None:
    verifier = sign_in.verifier()
    for _ in range(20):
        verifier.verify(sign_in.token())
    assert len(sign_in.world.requests("identity")) == 2  # metadata, keys


def test_a_new_key_is_found_and_the_old_one_goes_on_for_a_while(sign_in: SignIn) -> None:
    verifier = sign_in.verifier()
    before = sign_in.token(lifetime_s=7 * 3600)
    verifier.verify(before)
    sign_in.provider.rotate()
    sign_in.server_lag = timedelta(seconds=61)
    verifier.verify(sign_in.token())
    verifier.verify(before)
    sign_in.provider.rotate()
    sign_in.server_lag = timedelta(hours=2)
    with pytest.raises(NeedsReauth):
        verifier.verify(before)


def test_a_flood_of_unknown_keys_makes_no_storm(sign_in: SignIn) -> None:
    verifier = sign_in.verifier()
    verifier.verify(sign_in.token())
    for number in range(50):
        with pytest.raises(NeedsReauth):
            verifier.verify(by(sign_in, attacker(), "RS256", kid=f"forged-{number}"))
    assert len(sign_in.world.requests("identity")) == 2
    sign_in.server_lag = timedelta(seconds=61)
    for number in range(50):
        with pytest.raises(NeedsReauth):
            verifier.verify(by(sign_in, attacker(), "RS256", kid=f"forged-{number}"))
    assert len(sign_in.world.requests("identity")) == 4


@pytest.mark.parametrize("kind", ["status", "drop", "html", "garbage"])
def test_without_the_sign_in_service_nobody_is_refused_for_good(sign_in: SignIn, kind: str) -> None:
    verifier = sign_in.verifier()
    sign_in.world.faults.append(Fault("identity", kind, times=None))
    for _ in range(5):
        with pytest.raises(Transient):
            verifier.verify(sign_in.token())
    assert len(sign_in.world.requests("identity")) <= 1
    sign_in.world.faults.clear()
    sign_in.server_lag = timedelta(seconds=61)
    token = sign_in.token(lifetime_s=7200)
    assert verifier.verify(token).subject == sign_in.person.object_id


def test_known_keys_outlast_an_outage_of_a_day(sign_in: SignIn) -> None:
    verifier = sign_in.verifier()
    token = sign_in.token(lifetime_s=48 * 3600)
    verifier.verify(token)
    sign_in.world.faults.append(Fault("identity", "status", times=None))
    sign_in.server_lag = timedelta(hours=23)
    verifier.verify(token)
    with pytest.raises(Transient):
        verifier.verify(by(sign_in, attacker(), "RS256", kid="perhaps-new"))
    sign_in.server_lag = timedelta(hours=25)
    with pytest.raises(Transient):
        verifier.verify(token)


def test_a_token_that_is_known_expires_like_any_other(sign_in: SignIn) -> None:
    verifier, token = sign_in.verifier(), sign_in.token(lifetime_s=600)
    first, again = verifier.verify(token), verifier.verify(token)
    assert first == again
    sign_in.server_lag = timedelta(seconds=655)
    verifier.verify(token)
    sign_in.server_lag = timedelta(seconds=665)
    with pytest.raises(NeedsReauth, match="expired"):
        verifier.verify(token)


def test_a_known_token_helps_no_other_one(sign_in: SignIn) -> None:
    verifier, token = sign_in.verifier(), sign_in.token()
    verifier.verify(token)
    head, body, signature = token.split(".")
    other_body = b64(claims(sign_in, oid=sign_in.other_person.object_id))
    wrong = [f"{head}.{other_body}.{signature}", f"{head}.{body}.", f"{head}.{body}", token + "A", token.upper()]
    for at in range(0, len(signature) - 1, 40):  # the last character has bits that mean nothing
        wrong.append(f"{head}.{body}.{signature[:at]}{'A' if signature[at] != 'A' else 'B'}{signature[at + 1 :]}")
    for one in wrong:
        with pytest.raises(NeedsReauth):
            verifier.verify(one)
    assert verifier.verify(token).subject == sign_in.person.object_id


def test_only_good_tokens_are_remembered_and_no_more_than_a_bound(sign_in: SignIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_REMEMBERED", 3)
    verifier = sign_in.verifier()
    for forge in FORGERIES.values():
        with pytest.raises(NeedsReauth):
            verifier.verify(forge(sign_in))
    assert len(verifier._judged) == 0
    tokens = [sign_in.token(lifetime_s=3600 + number) for number in range(5)]
    for token in [*tokens, *tokens]:
        assert verifier.verify(token).subject == sign_in.person.object_id
    assert len(verifier._judged) == 3
    assert not any(token in repr(verifier._judged) for token in tokens)


@contextmanager
def another_service(sign_in: SignIn, issuer: str, jwks_uri: str) -> Iterator[None]:
    """Stand in for the authority; `{url}` is its own origin. Its keys are the real ones, without naming an issuer."""
    app = Flask("another")

    @app.get("/common/v2.0/.well-known/openid-configuration")
    def metadata() -> dict[str, str]:
        return {"issuer": issuer.replace("{url}", port.url), "jwks_uri": jwks_uri.replace("{url}", port.url)}

    @app.get("/keys")
    def keys() -> dict[str, Any]:
        return sign_in.provider.entra.ring.jwks()

    with Port(app) as port:
        sign_in.url = port.url
        yield


@pytest.mark.parametrize(
    ("named", "keys"),
    [
        ("https://login.example.net/{tenantid}/v2.0", "{url}/keys"),
        ("{url}/common/v2.0", "{url}/keys"),
        ("{url}/{tenantid}/v2.0", "{url}.example.net/keys"),
        ("{url}/{tenantid}/v2.0", ""),
    ],
)
def test_a_service_that_describes_itself_otherwise_is_not_believed(sign_in: SignIn, named: str, keys: str) -> None:
    with another_service(sign_in, named, keys):
        token = signed(sign_in, iss=issuer(sign_in, sign_in.world.entra_tenant))
        with pytest.raises(Transient):
            sign_in.verifier().verify(token)


def test_keys_that_name_no_issuer_do_not_loosen_the_rule(sign_in: SignIn) -> None:
    with another_service(sign_in, "{url}/{tenantid}/v2.0", "{url}/keys"):
        verifier, tenant = sign_in.verifier(), sign_in.world.entra_tenant
        assert verifier.verify(signed(sign_in, iss=issuer(sign_in, tenant))).tenant == tenant
        for changes in ({}, {"iss": issuer(sign_in, FOREIGN_TENANT)}, {"iss": issuer(sign_in, tenant), "tid": FOREIGN_TENANT}):
            with pytest.raises(NeedsReauth, match="issuer"):
                verifier.verify(signed(sign_in, **changes))


def test_a_known_token_is_forgotten_when_its_key_is_replaced_under_the_same_name(sign_in: SignIn) -> None:
    published = sign_in.provider.entra.ring.jwks()
    app = Flask("replaced")

    @app.get("/common/v2.0/.well-known/openid-configuration")
    def metadata() -> dict[str, str]:
        return {"issuer": f"{port.url}/{{tenantid}}/v2.0", "jwks_uri": f"{port.url}/keys"}

    @app.get("/keys")
    def keys() -> dict[str, Any]:
        return published

    with Port(app) as port:
        sign_in.url = port.url
        verifier, token = (
            sign_in.verifier(),
            signed(sign_in, iss=issuer(sign_in, sign_in.world.entra_tenant), exp=later(sign_in, 9999)),
        )
        verifier.verify(token)
        other = RSAAlgorithm.to_jwk(attacker().public_key(), as_dict=True) | {"use": "sig"}
        published = {"keys": [other | {"kid": key["kid"]} for key in published["keys"]]}
        sign_in.server_lag = timedelta(minutes=59)
        verifier.verify(token)
        sign_in.server_lag = timedelta(minutes=61)
        with pytest.raises(NeedsReauth, match="signature"):
            verifier.verify(token)
