"""Sign-in by authorisation code at Entra, at Google and at an OpenID provider: one list of promises, kept by each of them."""

import base64
import hashlib
import json
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jwt
import pytest
from authlib.oauth2 import client as authlib_client
from cryptography.hazmat.primitives.asymmetric import rsa

from server.auth.flow import SignInRefused
from server.auth.oauth import PERSONAL_TENANT
from server.auth.oidc import Oidc
from server.errors import InvalidInput, NeedsReauth, RateLimited, Rejected, SsiError, Transient
from server.transport import Gateway
from simulator.world import CONSUMERS, Fault, Person
from tests.auth.code_flows import KINDS, REDIRECT, Kind, kind
from tests.auth.sign_in import MAIL_SCOPES, Line, SignIn
from tests.figures import Count

OTHER_TENANT = "c0ffee00-1111-4222-8333-444455556666"


@pytest.fixture(params=KINDS)
def at(request: pytest.FixtureRequest, sign_in: SignIn) -> Kind:
    return kind(request.param, sign_in)


@pytest.fixture
def entra(sign_in: SignIn) -> Kind:
    return kind("entra", sign_in)


@pytest.fixture
def google(sign_in: SignIn) -> Kind:
    return kind("google", sign_in)


@pytest.fixture
def oidc(sign_in: SignIn) -> Kind:
    return kind("oidc", sign_in)


def query(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


def refused(at: Kind, kept: str, answer: dict[str, str]) -> SignInRefused:
    with pytest.raises(SignInRefused) as error:
        at.flow.finish(kept, answer)
    return error.value


def refused_sign_in(at: Kind, **more: Any) -> SignInRefused:
    begun = at.begin(**more)
    return refused(at, begun.kept, at.visit(begun))


def now(at: Kind, seconds: float = 0) -> int:
    return int(at.sign_in.world.now().timestamp() + seconds)


# The good way


def test_a_person_signs_in_and_is_known_by_tenant_and_subject(at: Kind) -> None:
    for person in (at.sign_in.person, at.sign_in.other_person):
        granted = at.signed_in(person)
        assert (granted.person.tenant, granted.person.subject) == at.identity(person)
        assert (granted.person.address, granted.person.name) == (person.email, person.name)
        assert granted.person.claims["aud"] == at.sign_in.world.client_id
        assert granted.tokens.refresh_token
        assert timedelta(minutes=59) < granted.tokens.expires_at - at.sign_in.now() <= timedelta(hours=1)


def test_the_tokens_open_the_mailbox_and_are_refreshed_later(entra: Kind, google: Kind) -> None:
    sign_in = entra.sign_in
    microsoft, gmail = entra.signed_in().tokens, google.signed_in().tokens
    assert microsoft.scopes >= set(entra.scopes)
    assert sign_in.provider.verify_graph_token(microsoft.access_token) == sign_in.person
    given = sign_in.google_provider.grant(gmail.access_token)
    assert given is not None
    assert given.scopes >= {"gmail.modify", "contacts"}
    assert microsoft.refresh_token
    assert gmail.refresh_token
    assert sign_in.entra().refresh(microsoft.refresh_token, sign_in.world.entra_tenant, MAIL_SCOPES).access_token
    assert sign_in.google().refresh(gmail.refresh_token, "example.com", google.scopes).access_token


def test_another_process_can_finish_what_one_began(at: Kind) -> None:
    begun = at.begin()
    answer = at.visit(begun)
    assert kind(at.name, at.sign_in).flow.finish(begun.kept, answer).person.subject == at.identity(at.sign_in.person)[1]


def test_the_address_holds_a_challenge_and_never_the_verifier(at: Kind) -> None:
    one, two = at.begin(login_hint=at.sign_in.person.email), at.begin()
    asked, kept = query(one.url), json.loads(one.kept)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(kept["verifier"].encode()).digest()).rstrip(b"=").decode()
    assert (asked["code_challenge_method"], asked["code_challenge"]) == ("S256", challenge)
    assert (asked["state"], asked["nonce"], asked["redirect_uri"]) == (one.state, kept["nonce"], REDIRECT)
    assert (asked["response_type"], asked["login_hint"]) == ("code", at.sign_in.person.email)
    assert "openid" in asked["scope"].split()
    assert kept["verifier"] not in one.url
    assert min(len(one.state), len(kept["verifier"]), len(kept["nonce"])) >= 22  # 128 bits
    other = json.loads(two.kept)
    assert not {other[name] for name in ("state", "verifier", "nonce")} & {kept[name] for name in ("state", "verifier", "nonce")}


def test_google_is_asked_for_lasting_access_in_addition_to_what_was_granted_before(google: Kind) -> None:
    asked = query(google.begin(tenant="example.com").url)
    assert (asked["access_type"], asked["include_granted_scopes"], asked["hd"]) == ("offline", "true", "example.com")
    assert "consent" in asked["prompt"].split()
    assert set(asked["scope"].split()) == {"openid", "email", "profile", *google.scopes}


# Answers that belong to something else


def test_a_code_works_once(at: Kind) -> None:
    begun = at.begin()
    answer = at.visit(begun)
    assert at.flow.finish(begun.kept, answer)
    assert refused(at, begun.kept, answer).code == "code_used"


def test_a_code_is_good_only_with_the_verifier_and_the_redirect_address_of_its_own_flow(at: Kind) -> None:
    mine, theirs = at.begin(), at.begin()
    code = at.visit(theirs)["code"]
    stolen = at.visit(mine) | {"code": code}
    assert refused(at, mine.kept, stolen).code == "code_used"
    elsewhere = json.dumps(json.loads(theirs.kept) | {"redirect_uri": "https://localhost/elsewhere"})
    assert refused(at, elsewhere, at.visit(theirs)).code == "code_used"


@pytest.mark.parametrize("state", [None, "", "x", "ü"])
def test_an_answer_with_another_state_is_refused_before_anything_is_sent(at: Kind, state: str | None) -> None:
    begun = at.begin()
    answer = {name: value for name, value in (at.visit(begun) | {"state": state}).items() if value is not None}
    assert refused(at, begun.kept, answer).facts == {"error": "state"}
    assert at.exchanges() == 0


def test_an_answer_without_a_code_is_refused(at: Kind) -> None:
    begun = at.begin()
    answer = at.visit(begun)
    del answer["code"]
    assert refused(at, begun.kept, answer).facts == {"error": "no_code"}


def test_an_answer_of_another_provider_is_refused_before_anything_is_sent(at: Kind) -> None:
    for name in ("https://login.example.net", "", f"{at.sign_in.url}/rogue", f"{at.sign_in.url}/c4c/"):
        begun = at.begin()
        assert refused(at, begun.kept, at.visit(begun) | {"iss": name}).code == "issuer_mismatch"
    assert at.exchanges() == 0


def test_a_provider_that_promises_to_name_itself_has_to(oidc: Kind) -> None:
    oidc.issuer.spoil("answer", iss=None)
    assert refused_sign_in(oidc).code == "issuer_mismatch"
    assert oidc.exchanges() == 0


def test_an_error_of_another_provider_is_not_believed_either(oidc: Kind) -> None:
    begun = oidc.begin()
    answer = {"error": "access_denied", "state": begun.state, "iss": f"{oidc.sign_in.url}/rogue"}
    assert refused(oidc, begun.kept, answer).code == "issuer_mismatch"


def test_a_code_of_the_right_provider_is_never_told_to_the_wrong_one(oidc: Kind, sign_in: SignIn) -> None:
    world = sign_in.world
    rogue = Kind(
        "oidc",
        sign_in,
        Oidc(f"{sign_in.url}/rogue", world.client_id, "secret", sign_in.gateway, sign_in.now),
        sign_in.provider.rogue,
    )
    attacked = rogue.begin(scopes=oidc.scopes)
    honest = oidc.begin()
    answer = oidc.visit(honest) | {"state": attacked.state}
    assert refused(rogue, attacked.kept, answer).code == "issuer_mismatch"
    assert world.events("identity", "caught") == []


# The ID token


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
    "a key beside the signature": lambda at: lambda claims: at.issuer.ring.sign(claims, {"jku": "https://keys.example.net"}),
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
    entra.issuer.spoil("claims", tid=".*")
    assert refused_sign_in(entra, tenant="common").code == "issuer_mismatch"


def test_a_key_of_one_tenant_of_entra_signs_nobody_in_at_another(entra: Kind) -> None:
    entra.sign_in.provider.rotate(only_tenant=OTHER_TENANT)
    assert refused_sign_in(entra).code == "token_refused"
    entra.sign_in.provider.rotate(only_tenant=entra.sign_in.world.entra_tenant)
    entra.sign_in.world.clock_skew = timedelta(minutes=2)  # keys that are not known are looked for once a minute
    assert entra.signed_in()


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
    entra.issuer.spoil("claims", oid="me")
    assert refused_sign_in(entra).code == "token_refused"


@pytest.mark.parametrize("tenant", ["../../rogue", "example.com", "common?x=", "COMMON", OTHER_TENANT])
def test_a_place_that_is_no_tenant_of_entra_is_told(entra: Kind, tenant: str) -> None:
    with pytest.raises(Rejected):
        entra.begin(tenant=tenant)


def test_an_address_that_is_not_verified_is_none(google: Kind) -> None:
    google.issuer.spoil("claims", email_verified=False, hd=None)
    person = google.signed_in().person
    assert (person.tenant, person.address) == ("", "")


# Clocks


@pytest.mark.parametrize(("minutes", "is_good"), [(-5, True), (5, True), (-6, False), (6, False)])
def test_clocks_may_differ_by_five_minutes(at: Kind, minutes: int, is_good: bool) -> None:
    at.sign_in.server_lag = timedelta(minutes=minutes, seconds=-2 if minutes > 0 else 2)  # the test takes time itself
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


# What people allow


def test_who_says_no_is_not_signed_in(at: Kind) -> None:
    begun = at.begin()
    error = refused(at, begun.kept, at.cancel(begun))
    assert (error.code, error.facts["error"]) == ("consent_denied", "access_denied")
    assert at.exchanges() == 0


def test_what_was_left_unticked_at_google_is_told_by_name(google: Kind) -> None:
    begun = google.begin()
    google.visit(begun)  # who signs in for the second time has been seen by the browser
    answer = google.visit(begun, step="consent", answer="continue", ticked=[google.scopes[0]])
    error = refused(google, begun.kept, answer)
    assert (error.code, error.facts) == ("scopes_missing", {"missing": "contacts"})
    answer = google.visit(begun, step="consent", answer="continue", ticked=list(google.scopes))
    assert google.flow.finish(begun.kept, answer)


def test_what_microsoft_did_not_grant_is_told_by_name_however_it_writes_the_names(entra: Kind) -> None:
    entra.issuer.spoil("tokens", scope="openid mail.readwrite")
    assert refused_sign_in(entra).facts == {"missing": "MailboxSettings.ReadWrite"}
    entra.issuer.spoil("tokens", scope="openid mail.readwrite MailboxSettings.ReadWrite")
    assert entra.signed_in()
    entra.issuer.spoil("tokens", scope=None)  # then it is what was asked for (RFC 6749 section 5.1)
    assert entra.signed_in()


@pytest.mark.parametrize("number", [90094, 90093, 65001, 650056, 90095, 90008])
def test_where_an_administrator_has_to_agree_first_that_is_told(entra: Kind, number: int) -> None:
    begun = entra.begin()
    text = f"AADSTS{number}: The grant requires admin permission.\r\nTrace ID: 1"
    answer = {"error": "access_denied", "error_description": text, "state": begun.state}
    error = refused(entra, begun.kept, answer)
    assert (error.code, error.facts) == ("consent_needed_admin", {"error": "access_denied", "number": f"AADSTS{number}"})
    entra.sign_in.provider.require_admin(number=number, at="token")
    assert refused_sign_in(entra).code == "consent_needed_admin"
    entra.sign_in.provider.require_admin(number=0)
    assert entra.signed_in()


ANSWERS: dict[str, tuple[dict[str, str], str]] = {
    "declined at Entra": ({"error": "access_denied", "error_description": "AADSTS65004: User declined."}, "consent_denied"),
    "consent required": ({"error": "consent_required"}, "consent_needed_admin"),
    "restricted by a Workspace": ({"error": "admin_policy_enforced"}, "consent_needed_admin"),
    "a client of one Workspace": ({"error": "org_internal"}, "account_unusable"),
    "disabled": ({"error": "access_denied", "error_description": "AADSTS50057: disabled"}, "account_unusable"),
    "not of the tenant": ({"error": "access_denied", "error_description": "AADSTS50020: no"}, "account_unusable"),
    "blocked by a policy": ({"error": "access_denied", "error_description": "AADSTS53003: no"}, "account_unusable"),
    "a number nobody knows": ({"error": "access_denied", "error_description": "AADSTS99999999: no"}, "consent_denied"),
    "a number within a text": ({"error": "access_denied", "error_description": "not AADSTS50057"}, "consent_denied"),
    "login required": ({"error": "login_required"}, "failed"),
    "our request": ({"error": "invalid_request"}, "failed"),
    "a code beside it": ({"error": "access_denied", "code": "1.abc"}, "consent_denied"),
}


@pytest.mark.parametrize(("answer", "code"), ANSWERS.values(), ids=ANSWERS.keys())
def test_what_the_provider_answers_instead_of_a_code_is_told(at: Kind, answer: dict[str, str], code: str) -> None:
    begun = at.begin()
    own = {"iss": f"{at.sign_in.url}/c4c"} if at.name == "oidc" else {}
    error = refused(at, begun.kept, answer | own | {"state": begun.state})
    assert (error.code, error.facts["error"]) == (code, answer["error"])
    assert at.exchanges() == 0


def test_of_an_error_that_came_through_the_browser_nothing_strange_is_repeated(google: Kind) -> None:
    begun = google.begin()
    error = refused(google, begun.kept, {"error": "<b>\n call 0800", "error_description": "<script>", "state": begun.state})
    assert error.facts == {"error": "unknown"}
    assert "<" not in str(error)


def test_somebody_who_was_disabled_meanwhile_is_not_signed_in(entra: Kind) -> None:
    begun = entra.begin()
    answer = entra.visit(begun)
    entra.sign_in.provider.disable(entra.sign_in.person)
    assert refused(entra, begun.kept, answer).code == "account_unusable"


def test_another_step_that_is_needed_after_all_is_no_used_code(entra: Kind) -> None:
    begun = entra.begin()
    answer = entra.visit(begun)
    entra.sign_in.provider.require_claims(entra.sign_in.person, "{}")
    assert refused(entra, begun.kept, answer).facts == {"error": "interaction_required", "number": "AADSTS50076"}


# Providers that describe themselves


@pytest.mark.parametrize("name", ["entra", "oidc"])
@pytest.mark.parametrize("issuer", ["https://login.example.net", None, ["https://login.example.net"]])
def test_a_provider_that_calls_itself_otherwise_is_not_asked(name: str, issuer: Any, sign_in: SignIn) -> None:
    at = kind(name, sign_in)
    at.issuer.spoil("metadata", issuer=issuer)
    with pytest.raises(SignInRefused, match="another issuer") as error:
        at.begin()
    assert error.value.code == "issuer_mismatch"
    at.issuer.spoil("metadata")
    assert at.signed_in()


@pytest.mark.parametrize("member", ["authorization_endpoint", "token_endpoint"])
def test_entras_endpoints_stay_with_its_authority(entra: Kind, member: str) -> None:
    for url in ("https://login.example.net/token", None):
        entra.issuer.spoil("metadata", **{member: url})
        with pytest.raises(SignInRefused):
            entra.begin()


@pytest.mark.parametrize("member", ["authorization_endpoint", "token_endpoint", "jwks_uri", "revocation_endpoint"])
def test_endpoints_are_taken_over_https_only_and_loopback_is_no_exception(oidc: Kind, member: str) -> None:
    for url in (
        "http://localhost/token",
        "https://me:pw@localhost/",
        "https://[",
        "/token",
        7,
        *(() if "revo" in member else (None,)),
    ):
        oidc.issuer.spoil("metadata", **{member: url})
        with pytest.raises(SignInRefused) as error:
            oidc.begin()
        assert error.value.facts == {"error": "endpoints"}


@pytest.mark.parametrize(
    "issuer", ["http://localhost/c4c", "", "c4c", "https://", "https://a@login.example/", "https://x.example/?a"]
)
def test_an_issuer_is_an_https_address(issuer: str, sign_in: SignIn) -> None:
    with pytest.raises(InvalidInput):
        Oidc(issuer, "client", "secret", sign_in.gateway, sign_in.now)


def test_metadata_and_keys_are_fetched_once_a_day(oidc: Kind) -> None:
    def fetched() -> list[str]:
        paths = [request.path for request in oidc.sign_in.world.requests("identity") if request.method == "GET"]
        oidc.sign_in.world.access.clear()
        return paths

    for _ in range(3):
        assert oidc.signed_in()
    assert fetched() == ["/c4c/.well-known/openid-configuration", "/c4c/oauth2/certs"]
    oidc.sign_in.world.clock_skew = timedelta(hours=25)
    assert oidc.signed_in()
    assert fetched() == ["/c4c/.well-known/openid-configuration", "/c4c/oauth2/certs"]


@pytest.mark.parametrize(
    "methods", [["client_secret_basic"], ["client_secret_post"], None, ["private_key_jwt", "client_secret_basic"]]
)
def test_the_client_shows_its_secret_as_the_provider_wants_it(oidc: Kind, methods: list[str] | None) -> None:
    oidc.issuer.spoil("metadata", token_endpoint_auth_methods_supported=methods)
    assert oidc.signed_in()
    assert "Authorization" not in authlib_client.DEFAULT_HEADERS  # shared by all clients of the process


def test_a_provider_that_wants_what_we_cannot_is_told(oidc: Kind) -> None:
    oidc.issuer.spoil("metadata", token_endpoint_auth_methods_supported=["private_key_jwt"])
    with pytest.raises(SignInRefused, match="cannot be used"):
        oidc.begin()


# Trouble


@pytest.mark.parametrize("trouble", ["status", "drop", "acted_drop", "html", "garbage"])
def test_trouble_at_the_token_endpoint_is_transient_and_a_new_sign_in_succeeds(at: Kind, trouble: str) -> None:
    begun = at.begin()
    answer = at.visit(begun)
    at.sign_in.world.faults.append(Fault(at.vendor, trouble, match="/token"))
    with pytest.raises(Transient):
        at.flow.finish(begun.kept, answer)
    assert at.signed_in()


@pytest.mark.parametrize("trouble", ["status", "drop", "html", "garbage"])
def test_trouble_with_metadata_or_keys_is_transient_and_a_new_sign_in_succeeds(at: Kind, trouble: str) -> None:
    world = at.sign_in.world
    if at.name != "google":  # whose endpoints are settings
        world.faults.append(Fault(at.vendor, trouble, match=".well-known"))
        with pytest.raises(Transient):
            at.begin()
    world.faults.append(Fault(at.vendor, trouble, match="/keys" if at.name == "entra" else "/certs"))
    begun = at.begin()
    with pytest.raises(Transient):
        at.flow.finish(begun.kept, at.visit(begun))
    world.clock_skew = timedelta(minutes=2)  # keys are looked for once a minute
    assert at.signed_in()


@pytest.mark.parametrize("place", [".well-known", "/token"])
def test_a_slow_provider_is_not_waited_for(at: Kind, place: str, line: Line) -> None:
    hasty = kind(at.name, at.sign_in, Gateway("The sign-in service", timeout_s=0.4, ssl_context=line.gateway._ssl))
    begun = at.begin()
    answer = at.visit(begun)
    at.sign_in.world.faults.append(Fault(at.vendor, "hang", match=place, seconds=1.5, times=None))
    if at.name == "google" and place == ".well-known":
        assert hasty.begin()  # it asks nobody
        return
    with pytest.raises(Transient, match="did not answer in time"):
        hasty.flow.finish(begun.kept, answer)


def test_nobody_listening_is_transient(sign_in: SignIn) -> None:
    nobody = Oidc("https://localhost:9/c4c", "client", "secret", sign_in.gateway, sign_in.now)
    with pytest.raises(Transient, match="cannot be reached"):
        nobody.begin(redirect_uri=REDIRECT, scopes=())


def test_a_pause_is_told_with_its_length(at: Kind) -> None:
    begun = at.begin()
    answer = at.visit(begun)
    at.sign_in.world.faults.append(Fault(at.vendor, "status", match="/token", status=429, retry_after_s=17))
    with pytest.raises(RateLimited) as told:
        at.flow.finish(begun.kept, answer)
    assert told.value.retry_after_s == 17


ODD: dict[str, dict[str, Any]] = {
    "no access token": {"access_token": None},
    "an empty access token": {"access_token": ""},
    "an access token that is a number": {"access_token": 7},
    "a refresh token that is a list": {"refresh_token": ["x"]},
    "an ID token that is an object": {"id_token": {}},
    "scopes that are a list": {"scope": ["openid"]},
    "a life that is a word": {"expires_in": "soon"},
    "a life below nothing": {"expires_in": -1},
    "a life without end": {"expires_in": 10**12},
}


@pytest.mark.parametrize("instead", ODD.values(), ids=ODD.keys())
def test_an_answer_that_cannot_be_meant_is_transient(at: Kind, instead: dict[str, Any]) -> None:
    at.issuer.spoil("tokens", **instead)
    begun = at.begin()
    answer = at.visit(begun)
    with pytest.raises(Transient, match="cannot be read"):
        at.flow.finish(begun.kept, answer)


def test_what_msal_would_stumble_over_does_not_matter(entra: Kind) -> None:
    entra.issuer.spoil("tokens", client_info="%%%", expires_in="3600", refresh_token=None)
    assert entra.signed_in().tokens.refresh_token is None


def test_our_own_wrong_secret_is_not_blamed_on_the_person(at: Kind) -> None:
    wrong = kind(at.name, at.sign_in, secret="old secret")
    begun = wrong.begin()
    with pytest.raises(Transient, match="administrator"):
        wrong.flow.finish(begun.kept, wrong.visit(begun))


# The end of a grant


def test_a_grant_that_is_revoked_at_google_opens_nothing_more(google: Kind) -> None:
    tokens = google.signed_in().tokens
    assert tokens.refresh_token
    google.flow.revoke(tokens.refresh_token)
    assert google.sign_in.google_provider.grant(tokens.access_token) is None
    with pytest.raises(NeedsReauth):
        google.sign_in.google().refresh(tokens.refresh_token, "", google.scopes)
    google.flow.revoke(tokens.refresh_token)
    assert google.signed_in()


def test_a_grant_is_revoked_at_an_openid_provider_that_can(oidc: Kind) -> None:
    token = oidc.signed_in().tokens.refresh_token
    assert token
    for _ in range(2):
        oidc.flow.revoke(token)
    assert len(oidc.sign_in.world.events("identity", "revoke")) == 1
    other = kind("oidc", oidc.sign_in)
    other.issuer.spoil("metadata", revocation_endpoint=None)
    token = other.signed_in().tokens.refresh_token
    assert token
    other.flow.revoke(token)
    assert len(oidc.sign_in.world.events("identity", "revoke")) == 1


def test_entra_has_no_call_that_ends_one_grant_and_none_that_ends_them_all_is_made(entra: Kind) -> None:
    token = entra.signed_in().tokens.refresh_token
    assert token
    before = len(entra.sign_in.world.requests())
    entra.flow.revoke(token)
    assert len(entra.sign_in.world.requests()) == before
    assert entra.sign_in.entra().refresh(token, entra.sign_in.world.entra_tenant, MAIL_SCOPES)


@pytest.mark.parametrize("name", ["google", "oidc"])
@pytest.mark.parametrize(("trouble", "status"), [("status", 503), ("drop", 0), ("acted_drop", 0)])
def test_trouble_with_revoking_is_transient_and_a_repetition_succeeds(
    name: str, trouble: str, status: int, sign_in: SignIn
) -> None:
    at = kind(name, sign_in)
    token = at.signed_in().tokens.refresh_token
    assert token
    sign_in.world.faults.append(Fault(at.vendor, trouble, match="/revoke", status=status))
    with pytest.raises(Transient):
        at.flow.revoke(token)
    at.flow.revoke(token)
    sign_in.world.faults.append(Fault(at.vendor, "status", match="/revoke", status=403))
    with pytest.raises((Rejected, Transient)):
        at.flow.revoke(token)


# Secrets


def test_nothing_secret_is_shown_or_logged(at: Kind, everything_logged: Callable[[], str]) -> None:
    logging.getLogger("msal.token_cache").debug("planted-canary")
    begun = at.begin()
    answer, kept = at.visit(begun), json.loads(begun.kept)
    granted = at.flow.finish(begun.kept, answer)
    shown = [repr(at.flow), repr(granted), repr(begun)]
    failures = [failed(at, begun.kept, answer)]
    for spoiled in ({"nonce": "another"}, {"aud": "another"}, {"iss": "https://login.example.net"}):
        at.issuer.spoil("claims", **spoiled)
        other = at.begin()
        failures.append(failed(at, other.kept, at.visit(other)))
    at.issuer.spoil("tokens", id_token="nonsense." + granted.tokens.access_token)
    other = at.begin()
    failures.append(failed(at, other.kept, at.visit(other)))
    secrets = {"code": answer["code"], "verifier": kept["verifier"], "nonce": kept["nonce"]}
    secrets |= {"access token": granted.tokens.access_token, "refresh token": granted.tokens.refresh_token or ""}
    secrets |= {"client secret": at.sign_in.world.client_secret, "address": granted.person.address}
    logged = everything_logged()
    assert "planted-canary" in logged
    for name, secret in secrets.items():
        assert secret
        assert secret not in logged, name
        assert secret not in "".join(shown).replace(begun.url, ""), name
        assert secret not in "".join(failures), name


def failed(at: Kind, kept: str, answer: dict[str, str]) -> str:
    """What the whole chain of a refusal would show."""
    with pytest.raises(SsiError) as error:
        at.flow.finish(kept, answer)
    return str(error.getrepr(style="long", showlocals=False, chain=True)) + repr(error.value) + str(vars(error.value))
