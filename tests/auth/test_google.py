"""Google's side of signing in: ID tokens for our API, good and forged ones, and access tokens for a mailbox."""

import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from server.auth.identity import Verifier
from server.auth.oauth import Google
from server.errors import NeedsReauth, RateLimited, Rejected, Transient
from simulator.google.identity import ADD_ON, SCOPE, subject
from simulator.openid import b64url
from simulator.world import Fault
from tests.auth.sign_in import SignIn
from tests.figures import Count

MAIL = (f"{SCOPE}gmail.modify", f"{SCOPE}contacts")


@cache
def attacker() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def token(s: SignIn, **changes: Any) -> str:
    """Signed by the real key; None removes a claim."""
    return s.google_provider.mint_id_token(s.world, s.person, **changes)


def claims(s: SignIn, **changes: Any) -> dict[str, Any]:
    return s.google_provider.issuer.id_claims(s.person) | {"aud": ADD_ON} | changes


def headed(s: SignIn, **header: Any) -> str:
    return s.google_provider.issuer.ring.sign(claims(s), header)


def kid(s: SignIn) -> str:
    return str(jwt.get_unverified_header(token(s))["kid"])


def by_attacker(s: SignIn, **header: Any) -> str:
    return jwt.encode(claims(s), attacker(), algorithm="RS256", headers={"kid": kid(s)} | header)


def later(s: SignIn, seconds: float) -> int:
    return int(s.now().timestamp() + seconds)


def mac_with_public_key(s: SignIn) -> str:
    """The HMAC that a library would accept which takes the published key for a secret."""
    public = s.google_provider.issuer.ring._keys[-1][1].public_key()
    secret = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    head = b64url(json.dumps({"alg": "HS256", "kid": kid(s)}).encode())
    text = f"{head}.{b64url(json.dumps(claims(s)).encode())}"
    return f"{text}.{b64url(hmac.digest(secret, text.encode(), hashlib.sha256))}"


def with_odd_claim(s: SignIn, **changes: Any) -> str:
    """Signed by the real key, without the library's look at the claims."""
    key = s.google_provider.issuer.ring._keys[-1][1]
    return jwt.PyJWS().encode(json.dumps(claims(s, **changes)).encode(), key, algorithm="RS256", headers={"kid": kid(s)})


FORGERIES: dict[str, Callable[[SignIn], str]] = {
    # the signature
    "alg none": lambda s: jwt.encode(claims(s), None, algorithm="none", headers={"kid": kid(s)}),
    "HS256 by the public key": mac_with_public_key,
    "RS512 by the real key": lambda s: jwt.encode(
        claims(s), s.google_provider.issuer.ring._keys[-1][1], algorithm="RS512", headers={"kid": kid(s)}
    ),
    "another key under the real kid": by_attacker,
    "kid unknown": lambda s: by_attacker(s, kid="unknown"),
    "key of Entra": lambda s: s.provider.entra.ring.sign(claims(s)),
    "key of Entra under Google's kid": lambda s: s.provider.entra.ring.sign(claims(s), {"kid": kid(s)}),
    "jku beside a good signature": lambda s: headed(s, jku="https://keys.example.net/certs"),
    "x5c embedded": lambda s: by_attacker(s, x5c=["MIIB"]),
    "signature left out": lambda s: token(s).rsplit(".", 1)[0] + ".",
    "claims of another person under the signature": lambda s: ".".join(
        (token(s).split(".")[0], s.google_provider.mint_id_token(s.world, s.other_person).split(".")[1], token(s).split(".")[2])
    ),
    # the issuer
    "iss elsewhere": lambda s: token(s, iss="https://accounts.example.net"),
    "iss Google's own, which is not ours": lambda s: token(s, iss="https://accounts.google.com"),
    "iss with a path": lambda s: token(s, iss=f"{s.google_url}/"),
    "iss over http": lambda s: token(s, iss=s.google_url.replace("https://", "http://")),
    "iss of Entra": lambda s: token(s, iss=f"{s.url}/{s.world.entra_tenant}/v2.0"),
    "iss missing": lambda s: token(s, iss=None),
    "iss a list": lambda s: with_odd_claim(s, iss=[s.google_url]),
    # the purpose
    "aud of another application": lambda s: token(s, aud="another.apps.example.com"),
    "aud a list with ours": lambda s: token(s, aud=[ADD_ON, "another.apps.example.com"]),
    "aud longer": lambda s: token(s, aud=ADD_ON + "0"),
    "aud empty": lambda s: token(s, aud=""),
    "aud missing": lambda s: token(s, aud=None),
    "an access token": lambda s: s.google_provider.mint_access_token(s.world, s.person),
    "a refresh token": lambda s: s.google_provider.mint_refresh_token(s.world, s.person),
    "an Entra token that claims to be of Google": lambda s: s.token(iss=s.google_url),
    # the organization and the person
    "hd missing, as for an account at gmail.com": lambda s: token(s, hd=None),
    "hd no domain": lambda s: token(s, hd="localhost"),
    "hd in capitals": lambda s: token(s, hd="EXAMPLE.COM"),
    "hd with a line break": lambda s: token(s, hd="example.com\n"),
    "hd an Entra tenant": lambda s: token(s, hd=s.world.entra_tenant),
    "hd a list": lambda s: token(s, hd=["example.com"]),
    "sub missing": lambda s: token(s, sub=None),
    "sub an address": lambda s: token(s, sub=s.other_person.email),
    "sub a number": lambda s: with_odd_claim(s, sub=int(subject(s.person))),
    "sub empty": lambda s: token(s, sub=""),
    "address not verified": lambda s: token(s, email_verified=False),
    "address verified by a text": lambda s: token(s, email_verified="true"),
    "verification missing": lambda s: token(s, email_verified=None),
    # the times
    "exp past": lambda s: token(s, exp=later(s, -61)),
    "exp missing": lambda s: token(s, exp=None),
    "exp a text": lambda s: token(s, exp=str(later(s, 3600))),
    "iat missing": lambda s: token(s, iat=None),
    "iat in the future": lambda s: token(s, iat=later(s, 120)),
    "nbf in the future": lambda s: token(s, nbf=later(s, 120)),
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES.keys())
def test_a_forged_or_foreign_token_is_refused(sign_in: SignIn, forge: Callable[[SignIn], str], count: Count) -> None:
    verifier = sign_in.verifier()
    assert verifier.verify(token(sign_in)).subject == subject(sign_in.person)
    forged = forge(sign_in)
    with pytest.raises(NeedsReauth, match="sign-in is not valid here") as refused:
        verifier.verify(forged)
    assert forged[:100] not in repr([refused.value, refused.value.__cause__, refused.value.__context__])
    count("hostile input: forged tokens", 1)


GOOD: dict[str, Callable[[SignIn], str]] = {
    "as issued": token,
    "issuer without https://": lambda s: token(s, iss=s.google_url.removeprefix("https://")),
    "for our other add-on": lambda s: token(s, aud="second-addon.apps.example.com"),
    "expired within the leeway": lambda s: token(s, exp=later(s, -50)),
    "without address and name": lambda s: token(s, email=None, name=None),
    "of a domain with many parts": lambda s: token(s, hd="example.com"),
}


@pytest.mark.parametrize("issue", GOOD.values(), ids=GOOD.keys())
def test_a_good_token_is_accepted(sign_in: SignIn, issue: Callable[[SignIn], str]) -> None:
    found = sign_in.verifier().verify(issue(sign_in))
    assert (found.service, found.tenant, found.subject) == ("google", "example.com", subject(sign_in.person))


def test_both_services_are_judged_side_by_side_each_by_its_own_keys(sign_in: SignIn) -> None:
    verifier = sign_in.verifier()
    for _ in range(3):
        assert verifier.verify(sign_in.token()).service == "entra"
        assert verifier.verify(token(sign_in)).service == "google"
    assert len(sign_in.world.requests("google_identity")) == 1
    sign_in.world.faults.append(Fault("google_identity", "status", times=None))
    fresh = sign_in.verifier()
    with pytest.raises(Transient):
        fresh.verify(token(sign_in))
    assert fresh.verify(sign_in.token()).service == "entra"


def test_without_an_audience_nobody_of_google_gets_in(sign_in: SignIn) -> None:
    verifier = Verifier([sign_in.google_issuer("")], sign_in.now)
    for one in (token(sign_in), token(sign_in, aud=""), token(sign_in, aud=None)):
        with pytest.raises(NeedsReauth):
            verifier.verify(one)


# Access to the mailbox


def grant(sign_in: SignIn, *scopes: str) -> str:
    given = scopes or ("gmail.modify", "gmail.labels", "contacts")
    return sign_in.google_provider.mint_refresh_token(sign_in.world, sign_in.person, scopes=given)


def refresh(sign_in: SignIn, token: str) -> str:
    return sign_in.google().refresh(token, "example.com", MAIL).access_token


def test_a_refresh_token_buys_access_tokens_again_and_again(sign_in: SignIn) -> None:
    kept = grant(sign_in)
    tokens = sign_in.google().refresh(kept, "example.com", MAIL)
    given = sign_in.google_provider.grant(tokens.access_token)
    assert given is not None
    assert (given.person, given.scopes >= {"gmail.modify", "contacts"}) == (sign_in.person, True)
    assert tokens.refresh_token is None
    assert timedelta(minutes=59) < tokens.expires_at - sign_in.now() <= timedelta(hours=1)
    assert refresh(sign_in, kept) != tokens.access_token


def test_a_grant_that_ended_is_a_matter_for_the_person(sign_in: SignIn) -> None:
    kept = grant(sign_in)
    sign_in.google_provider.withdraw_consent(sign_in.person)
    for token in (kept, "nonsense", ""):
        with pytest.raises(NeedsReauth, match="has ended"):
            refresh(sign_in, token)
    assert refresh(sign_in, grant(sign_in))


def test_a_grant_that_lacks_what_is_needed_is_none(sign_in: SignIn) -> None:
    with pytest.raises(NeedsReauth, match="all that it needs"):
        refresh(sign_in, grant(sign_in, "gmail.modify"))


@pytest.mark.parametrize("kind", ["status", "drop", "acted_drop", "html", "garbage"])
def test_trouble_on_the_way_is_transient_and_a_repetition_succeeds(sign_in: SignIn, kind: str) -> None:
    kept = grant(sign_in)
    sign_in.world.faults.append(Fault("google_identity", kind, match="/token"))
    with pytest.raises(Transient):
        refresh(sign_in, kept)
    assert refresh(sign_in, kept)


def test_a_pause_is_told_with_its_length(sign_in: SignIn) -> None:
    sign_in.world.faults.append(Fault("google_identity", "status", match="/token", status=429, retry_after_s=17))
    with pytest.raises(RateLimited) as told:
        refresh(sign_in, grant(sign_in))
    assert told.value.retry_after_s == 17


def test_our_own_wrong_secret_is_not_blamed_on_the_person(sign_in: SignIn) -> None:
    wrong = Google(f"{sign_in.google_url}/token", sign_in.world.client_id, "old secret", sign_in.gateway, sign_in.now)
    with pytest.raises(Transient, match="administrator"):
        wrong.refresh(grant(sign_in), "example.com", MAIL)


def test_an_address_that_is_no_token_endpoint_is_told(sign_in: SignIn) -> None:
    elsewhere = Google(f"{sign_in.google_url}/revoke", sign_in.world.client_id, "secret", sign_in.gateway, sign_in.now)
    with pytest.raises(Rejected):
        elsewhere.refresh(grant(sign_in), "example.com", MAIL)


def test_nothing_shows_a_secret(sign_in: SignIn) -> None:
    google = sign_in.google()
    tokens = google.refresh(grant(sign_in), "example.com", MAIL)
    shown = repr(google) + repr(tokens)
    assert tokens.access_token not in shown
    assert sign_in.world.client_secret not in shown
