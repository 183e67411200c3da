"""Sign-in by authorisation code at Entra, at Google and at an OpenID provider: one list of promises, kept by each of them."""

import base64
import hashlib
import json
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from authlib.oauth2 import client as authlib_client

from server.auth.flow import SignInRefused
from server.auth.oidc import Oidc
from server.errors import InvalidInput, NeedsReauth, RateLimited, Rejected, SsiError, Transient
from server.transport import Gateway
from simulator.world import Fault
from tests.auth.code_flows import OTHER_TENANT, REDIRECT, Kind, kind, query, refused, refused_sign_in
from tests.auth.sign_in import MAIL_SCOPES, Line, SignIn

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


@pytest.mark.parametrize("tenant", ["../../rogue", "example.com", "common?x=", "COMMON", OTHER_TENANT])
def test_a_place_that_is_no_tenant_of_entra_is_told(entra: Kind, tenant: str) -> None:
    with pytest.raises(SignInRefused, match="does not know") as error:
        entra.begin(tenant=tenant)
    assert error.value.facts == {"error": "invalid_tenant"}


@pytest.mark.parametrize("member", ["authorization_endpoint", "token_endpoint"])
def test_entras_endpoints_stay_with_its_authority(entra: Kind, member: str) -> None:
    for url in ("https://login.example.net/token", None):
        entra.issuer.spoil("metadata", **{member: url})
        with pytest.raises(SignInRefused):
            entra.begin()


@pytest.mark.parametrize("member", ["authorization_endpoint", "token_endpoint", "jwks_uri", "revocation_endpoint"])
def test_endpoints_are_taken_over_https_only_save_for_a_browser_on_its_own_machine(oidc: Kind, member: str) -> None:
    for url in (
        "http://login.example.net/token" if member == "authorization_endpoint" else "http://localhost/token",
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
    "methods", [["client_secret_basic"], ["client_secret_post"], None, ["private_key_jwt", "client_secret_basic"], 7]
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
