"""Who signed in by authorisation code, the ID token alone says: forged, foreign and stale ones are refused at each provider."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from server.auth.flow import SignInRefused
from server.auth.oauth import PERSONAL_TENANT
from simulator.world import CONSUMERS, Person
from tests.auth.code_flows import OTHER_TENANT, Kind, kind, now, query, refused, refused_sign_in
from tests.auth.sign_in import MAIL_SCOPES, SignIn
from tests.figures import Count


@pytest.mark.parametrize("nonce", ["another", "", None])
def test_an_id_token_with_another_nonce_or_none_is_refused(at: Kind, nonce: str | None) -> None:
    at.issuer.spoil("claims", nonce=nonce)
    assert refused_sign_in(at).code == "nonce_mismatch"


def signed_by(at: Kind, key: Any, algorithm: str) -> Callable[[dict[str, Any]], str]:
    """Sign as another would, under the name of the provider's own key."""
    kid = jwt.get_unverified_header(at.issuer.ring.sign({}))["kid"]
    return lambda claims: jwt.encode(claims, key, algorithm=algorithm, headers={"kid": kid})


def forged(at: Kind, sign: Callable[[dict[str, Any]], str]) -> SignInRefused:
    """Sign in where the token endpoint gives the right claims under a signature of this kind."""
    begun = at.begin()
    answer, nonce = at.visit(begun), json.loads(begun.kept)["nonce"]
    good = kind(at.name, at.sign_in).signed_in().person.claims
    at.issuer.spoil("tokens", id_token=sign({**good, "nonce": nonce}))
    return refused(at, begun.kept, answer)


FORGERIES: dict[str, Callable[[Kind], Callable[[dict[str, Any]], str]]] = {
    "alg none": lambda at: signed_by(at, None, "none"),
    "another key under the real kid": lambda at: signed_by(at, rsa.generate_private_key(65537, 2048), "RS256"),
    "HS256 by our client secret": lambda at: signed_by(at, at.sign_in.world.client_secret.ljust(32, "."), "HS256"),
    "the key of another issuer": lambda at: at.sign_in.provider.rogue.ring.sign,
    "RS512 by the real key": lambda at: signed_by(at, at.issuer.ring._keys[-1][1], "RS512"),
    "signature left out": lambda at: lambda claims: at.issuer.ring.sign(claims).rpartition(".")[0] + ".",
    "a header to be understood whole": lambda at: lambda claims: at.issuer.ring.sign(claims, {"crit": ["exp"], "exp": 1}),
    "no kid": lambda at: lambda claims: at.issuer.ring.sign(claims, {"kid": ""}),
    "no token": lambda _at: lambda _claims: "nonsense",
    "two parts": lambda _at: lambda _claims: "e30.e30",
    "claims that are a list": lambda at: (
        lambda _claims: jwt.PyJWS().encode(b"[]", at.issuer.ring._keys[-1][1], algorithm="RS256")
    ),
    "not ASCII": lambda _at: lambda _claims: "é.é.é",
    "too long": lambda at: lambda claims: at.issuer.ring.sign(claims | {"pad": "x" * 20_000}),
    "empty": lambda _at: lambda _claims: "",
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES.keys())
def test_an_id_token_under_another_signature_is_refused(
    at: Kind, forge: Callable[[Kind], Callable[[dict[str, Any]], str]], count: Count
) -> None:
    assert forged(at, forge(at)).code == "token_refused"
    count("hostile input: forged tokens", 1)


def test_without_an_id_token_nobody_signed_in(at: Kind) -> None:
    at.issuer.spoil("tokens", id_token=None)
    assert refused_sign_in(at).code == "token_refused"


CLAIMS: dict[str, tuple[str, Callable[[Kind], dict[str, Any]]]] = {
    "iss elsewhere": ("issuer_mismatch", lambda _at: {"iss": "https://login.example.net"}),
    "iss longer": ("issuer_mismatch", lambda at: {"iss": at.sign_in.url + "/c4c/"}),
    "iss missing": ("issuer_mismatch", lambda _at: {"iss": None}),
    "aud of another": ("token_refused", lambda _at: {"aud": "another"}),
    "aud of many": ("token_refused", lambda at: {"aud": [at.sign_in.world.client_id, "another"]}),
    "aud missing": ("token_refused", lambda _at: {"aud": None}),
    "azp of another": ("token_refused", lambda _at: {"azp": "another"}),
    "exp past": ("token_refused", lambda at: {"exp": now(at, -301)}),
    "exp missing": ("token_refused", lambda _at: {"exp": None}),
    "exp a text": ("token_refused", lambda at: {"exp": str(now(at, 3600))}),
    "iat missing": ("token_refused", lambda _at: {"iat": None}),
    "iat to come": ("token_refused", lambda at: {"iat": now(at, 330)}),
    "nbf to come": ("token_refused", lambda at: {"nbf": now(at, 330)}),
    "sub missing": ("token_refused", lambda _at: {"sub": None}),
    "sub endless": ("token_refused", lambda _at: {"sub": "1" * 256}),
}


@pytest.mark.parametrize(("code", "claims"), CLAIMS.values(), ids=CLAIMS.keys())
def test_an_id_token_that_says_something_else_is_refused(
    at: Kind, code: str, claims: Callable[[Kind], dict[str, Any]], count: Count
) -> None:
    at.issuer.spoil("claims", **claims(at))
    assert refused_sign_in(at).code == code
    at.issuer.spoil("claims")
    assert at.signed_in()
    count("hostile input: forged tokens", 1)


def test_entras_tokens_are_those_of_the_tenant_asked(entra: Kind) -> None:
    issuer = f"{entra.sign_in.url}/{OTHER_TENANT}/v2.0"
    entra.issuer.spoil("claims", tid=OTHER_TENANT, iss=issuer)
    assert refused_sign_in(entra).code == "issuer_mismatch"
    assert entra.signed_in(tenant="organizations").person.tenant == OTHER_TENANT
    entra.issuer.spoil("claims", tid=OTHER_TENANT)
    assert refused_sign_in(entra, tenant="organizations").code == "issuer_mismatch"
    for tenant in (OTHER_TENANT, None, 7):
        entra.issuer.spoil("claims", tid=tenant)
        assert refused_sign_in(entra).code == "token_refused"
    entra.issuer.spoil("claims", tid=".*")
    assert refused_sign_in(entra, tenant="common").code == "issuer_mismatch"


def test_a_key_of_one_tenant_of_entra_signs_nobody_in_at_another(entra: Kind) -> None:
    provider, own = entra.sign_in.provider, entra.sign_in.world.entra_tenant
    try:
        provider.rotate(only_tenant=OTHER_TENANT)
        assert refused_sign_in(entra).code == "token_refused"
        provider.rotate(only_tenant=own)
        entra.sign_in.world.clock_skew = timedelta(minutes=2)  # keys that are not known are looked for once a minute
        assert entra.signed_in().person.tenant == own
    finally:
        provider.rotate()


def test_a_personal_account_signs_in_where_personal_accounts_do(entra: Kind) -> None:
    person = Person("Ida Holm", "ida.holm@outlook.example", "00000000-0000-0000-7a1b-3c9b5f4e2a33", "", "", "", tenant=CONSUMERS)
    entra.sign_in.world.people.append(person)
    for tenant in ("consumers", "common", PERSONAL_TENANT):
        granted = entra.signed_in(person, tenant=tenant)
        assert (granted.person.tenant, granted.person.subject) == (PERSONAL_TENANT, person.object_id)
    refreshed = entra.sign_in.entra().refresh(granted.tokens.refresh_token or "", granted.person.tenant, MAIL_SCOPES)
    assert entra.sign_in.provider.verify_graph_token(refreshed.access_token) == person


def test_accounts_that_have_no_mailbox_there_are_refused(entra: Kind) -> None:
    entra.issuer.spoil("claims", idp=f"https://sts.windows.net/{OTHER_TENANT}/")
    assert refused_sign_in(entra).code == "account_unusable"
    entra.issuer.spoil("claims", tid=PERSONAL_TENANT, iss=f"{entra.sign_in.url}/{PERSONAL_TENANT}/v2.0")
    assert refused_sign_in(entra, tenant="organizations").code == "account_unusable"
    for subject in ("me", "common", None):
        entra.issuer.spoil("claims", oid=subject)
        assert refused_sign_in(entra).code == "token_refused"


def test_an_address_that_is_not_verified_is_none(google: Kind) -> None:
    google.issuer.spoil("claims", email_verified=False, hd=None)
    person = google.signed_in().person
    assert (person.tenant, person.address) == ("", "")


# Clocks


@pytest.mark.parametrize(("minutes", "is_good"), [(-5, True), (5, True), (-6, False), (6, False)])
def test_clocks_may_differ_by_five_minutes(at: Kind, minutes: int, is_good: bool) -> None:
    at.sign_in.server_lag = timedelta(minutes=minutes, seconds=-10 if minutes > 0 else 10)  # the test takes time itself
    at.issuer.spoil("claims", exp=now(at))
    if minutes < 0:
        at.issuer.spoil("claims", iat=now(at), nbf=now(at))
    if is_good:
        assert at.signed_in()
    else:
        assert refused_sign_in(at).code == "token_refused"


@pytest.mark.parametrize("name", ["entra", "oidc"])
def test_who_must_authenticate_anew_has_to(name: str, sign_in: SignIn) -> None:
    at = kind(name, sign_in)
    asked = query(at.begin(fresh=True).url)
    assert (asked["prompt"], asked["max_age"]) == ("login", "0")
    assert at.signed_in(fresh=True).person.claims["auth_time"] <= now(at)
    for claimed in (now(at, -330), None, str(now(at)), True):
        at.issuer.spoil("claims", auth_time=claimed)
        assert refused_sign_in(at, fresh=True).code == "token_refused"
        assert at.signed_in(fresh=False)
    at.issuer.spoil("claims", auth_time=now(at, -290))
    assert at.signed_in(fresh=True)


def test_google_cannot_tell_that_somebody_authenticated_anew(google: Kind) -> None:
    assert refused_sign_in(google, fresh=True).code == "token_refused"
