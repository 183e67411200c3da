"""The pages of the simulated sign-in services refuse, ask and remember as the real ones do."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, get_args

import pytest

from simulator.openid import Said
from simulator.world import CONSUMERS, Person, World
from tests.simulator import issuers
from tests.simulator.issuers import BACK, MAIL, MARA, OKI, URL, Service, brought_back, get, metadata_url, read, refusal

app_and_worlds, c4c, entra, service, world = (
    issuers.app_and_worlds,
    issuers.c4c,
    issuers.entra,
    issuers.service,
    issuers.world,
)

VERA = Person(
    "Vera Holm", "vera@outlook.example", "77f0c3de-0a54-4a8e-8a5e-9f1b2c3d4e33", "VHOLM", "1003", "pw-3", tenant=CONSUMERS
)

ELSEWHERE = "c0ffee00-1111-4222-8333-444455556666"
NOOR = Person(
    "Noor Vane", "noor@elsewhere.example", "9c1e5f70-3b2d-4f6a-b0c4-0d8e7a6f5b44", "NV", "1004", "pw-4", tenant=ELSEWHERE
)


@pytest.fixture
def rogue(entra: Service) -> Service:
    return Service(entra.client, entra.provider, entra.world, "/rogue/oauth2", "openid profile email offline_access")


def at(entra: Service, place: str) -> Service:
    """The page under another tenant's path, or under one that stands for many."""
    entra.world.people += [person for person in (VERA, NOOR) if person not in entra.world.people]
    return replace(entra, root=f"/{place}/oauth2/v2.0")


def identity(service: Service, back: dict[str, str]) -> dict[str, Any]:
    """The claims of the ID token that a code gives; the signature is a published key's."""
    answer = service.redeem(back["code"])
    assert answer.status_code == 200, answer.get_json()
    return read(service, answer.get_json()["id_token"], metadata_url(service))


# Choosing, and going back without a code


def test_choosing_on_the_page_brings_a_code_back(service: Service) -> None:
    back = brought_back(service.press(service.page(), "person", OKI.object_id))
    assert back["state"] == "s&t=1"
    assert service.redeem(back["code"]).status_code == 200


def test_microsofts_cancel_says_that_consent_was_declined(entra: Service) -> None:
    back = brought_back(entra.press(entra.page(), "person", ""))
    assert (back["error"], back["error_subcode"], back["state"]) == ("access_denied", "cancel", "s&t=1")
    assert back["error_description"].startswith("AADSTS65004: ")


def test_c4cs_cancel_names_its_issuer_and_no_number(c4c: Service) -> None:
    back = brought_back(c4c.press(c4c.page(), "person", ""))
    assert (back["error"], back["iss"]) == ("access_denied", URL + "/c4c")
    assert "AADSTS" not in back["error_description"]


@pytest.mark.parametrize(
    "changes", [{"prompt": "sing"}, {"prompt": "none login"}, {"max_age": "soon"}, {"max_age": "-1"}], ids=lambda c: str(c)
)
def test_a_prompt_or_age_that_nobody_knows_is_refused(service: Service, changes: dict[str, str]) -> None:
    assert service.choose(**changes)["error"] == "invalid_request"


# When somebody signed in


def test_the_id_token_tells_when_somebody_signed_in_only_if_asked(service: Service) -> None:
    began = int(service.world.now().timestamp())
    assert "auth_time" not in identity(service, service.choose())
    told = identity(service, service.choose(max_age="60"))["auth_time"]
    assert began <= told <= service.world.now().timestamp()


def test_a_browser_is_remembered_until_a_new_sign_in_is_asked_for(service: Service) -> None:
    first = identity(service, service.choose(max_age="9999"))["auth_time"]
    service.world.clock_skew = timedelta(minutes=10)
    assert identity(service, service.choose(max_age="9999"))["auth_time"] == first
    assert identity(service, service.choose(max_age="9999", prompt="login"))["auth_time"] >= first + 600
    service.world.clock_skew = timedelta(minutes=20)
    assert identity(service, service.choose(max_age="300"))["auth_time"] >= first + 1200
    service.world.clock_skew = timedelta(minutes=30)
    assert identity(service, service.choose(max_age="0"))["auth_time"] >= first + 1800


def test_without_a_page_only_the_one_who_is_signed_in_gets_a_code(service: Service) -> None:
    def silently(**changes: str) -> dict[str, str]:
        return brought_back(service.client.get(f"{service.root}/authorize", query_string=service.asked(prompt="none", **changes)))

    assert silently()["error"] == "login_required"
    service.choose()
    assert identity(service, silently())["nonce"] == "n-1"
    assert silently(login_hint=OKI.email)["error"] == "login_required"
    assert silently(max_age="0")["error"] == "login_required"
    service.choose(OKI.object_id)
    assert silently()["error"] == "login_required"
    assert service.redeem(silently(login_hint=OKI.email)["code"]).status_code == 200


def test_a_person_whom_the_browser_does_not_know_cannot_consent(entra: Service) -> None:
    form = entra.asked(prompt="consent") | {"step": "consent", "person": MARA.object_id, "answer": "continue"}
    assert brought_back(entra.client.post(f"{entra.root}/authorize", data=form))["error"] == "login_required"


# Microsoft: whose account, and who may allow it


@pytest.mark.parametrize(
    ("place", "person", "number"),
    [
        ("common", MARA, 0),
        ("common", VERA, 0),
        ("common", NOOR, 0),
        ("organizations", NOOR, 0),
        (ELSEWHERE, NOOR, 0),
        (ELSEWHERE, MARA, 50020),
        ("organizations", MARA, 0),
        ("organizations", VERA, 500208),
        ("consumers", VERA, 0),
        ("consumers", MARA, 500208),
        (CONSUMERS, VERA, 0),
        (CONSUMERS, MARA, 500208),
        ("3f2c9a1e-6a57-4b1c-9a51-0d6f8f3f7a10", MARA, 0),
        ("3f2c9a1e-6a57-4b1c-9a51-0d6f8f3f7a10", VERA, 50020),
    ],
)
def test_a_path_takes_the_accounts_it_is_for(entra: Service, place: str, person: Person, number: int) -> None:
    here = at(entra, place)
    answer = here.press(here.page(), "person", person.object_id)
    if number:
        again = issuers.Page(answer)
        assert answer.status_code == 400
        assert again.alert.startswith(f"AADSTS{number}: ")
        assert person.object_id in again.buttons
    else:
        claims = identity(entra, brought_back(answer))
        tenant = entra.world.tenant_of(person)
        assert (claims["tid"], claims["iss"], claims["oid"]) == (tenant, f"{URL}/{tenant}/v2.0", person.object_id)
        assert claims["preferred_username"] == person.email


def test_the_metadata_for_personal_accounts_names_their_tenant(entra: Service) -> None:
    assert get(entra, "/consumers/v2.0/.well-known/openid-configuration")["issuer"] == f"{URL}/{CONSUMERS}/v2.0"


def test_consent_is_asked_for_when_it_is_missing_or_wanted_anew(entra: Service) -> None:
    entra.provider.withdraw_consent(MARA)
    page = issuers.Page(entra.press(entra.page(), "person", MARA.object_id))
    assert (page.buttons, MAIL in page.text) == (["continue", "cancel"], True)
    assert brought_back(entra.press(page, "answer", "cancel"))["error_description"].startswith("AADSTS65004: ")
    assert entra.world.events("identity", "consent") == []
    assert "code" in brought_back(entra.press(page, "answer", "continue"))
    assert [(e.actor, MAIL in e.detail["scopes"]) for e in entra.world.events("identity", "consent")] == [(MARA.email, True)]
    assert "code" in brought_back(entra.press(entra.page(), "person", MARA.object_id))
    assert "continue" in issuers.Page(entra.press(entra.page(prompt="consent"), "person", MARA.object_id)).buttons


def test_a_person_who_needs_an_administrator_comes_back_with_the_number_that_says_so(entra: Service) -> None:
    entra.provider.require_admin(MARA)
    page = issuers.Page(entra.press(entra.page(), "person", MARA.object_id))
    assert page.buttons == ["cancel"]
    assert "administrator" in page.alert
    for back in (brought_back(entra.press(page, "answer", "cancel")), entra.choose()):
        assert (back["error"], back["state"]) == ("access_denied", "s&t=1")
        assert back["error_description"].startswith("AADSTS90094: ")
    assert "code" in entra.choose(OKI.object_id)
    entra.provider.require_admin(MARA, number=0)
    assert "code" in entra.choose()


def test_the_token_endpoint_can_tell_that_an_administrator_is_needed(entra: Service) -> None:
    code = entra.choose()["code"]
    entra.provider.require_admin(number=65001, at="token")
    answer = entra.redeem(code)
    assert refusal(answer) == (400, "invalid_grant", 65001)
    assert answer.get_json()["suberror"] == "consent_required"


# C4C: the end of a sign-in


def test_c4cs_revocation_ends_what_the_sign_in_began(c4c: Service) -> None:
    first, other = c4c.tokens()["refresh_token"], c4c.tokens()["refresh_token"]
    login = {"client_id": c4c.world.client_id, "client_secret": c4c.world.client_secret}
    endpoint = get(c4c, metadata_url(c4c))["revocation_endpoint"].removeprefix(URL)
    assert refusal(c4c.client.post(endpoint, data=login | {"token": first, "client_secret": "x"}))[:2] == (401, "invalid_client")
    for token in (first, first, "made-up"):
        assert c4c.client.post(endpoint, data=login | {"token": token}).status_code == 200
    assert refusal(c4c.refresh(first))[:2] == (400, "invalid_grant")
    assert c4c.refresh(other).status_code == 200
    assert [event.actor for event in c4c.world.events("identity", "revoke")] == [MARA.email]


def test_signing_out_at_c4c_forgets_the_browser_and_goes_back(c4c: Service) -> None:
    c4c.choose()
    endpoint = get(c4c, metadata_url(c4c))["end_session_endpoint"].removeprefix(URL)
    gone = c4c.client.get(endpoint, query_string={"post_logout_redirect_uri": BACK, "state": "s"})
    assert (gone.status_code, gone.location) == (302, BACK + "?state=s")
    silent = c4c.client.get(f"{c4c.root}/authorize", query_string=c4c.asked(prompt="none"))
    assert brought_back(silent)["error"] == "login_required"
    away = c4c.client.get(endpoint, query_string={"post_logout_redirect_uri": "https://evil.example.net/"})
    assert (away.status_code, away.location) == (400, None)


# Providers that lie


def test_an_issuer_lies_as_a_test_tells_it_and_is_honest_again(c4c: Service) -> None:
    issuer = c4c.provider.c4c
    issuer.spoil("metadata", issuer="https://other.example", end_session_endpoint=None)
    told = get(c4c, metadata_url(c4c))
    assert (told["issuer"], "end_session_endpoint" in told) == ("https://other.example", False)
    issuer.spoil("answer", iss="https://other.example", state="another")
    back = c4c.choose()
    assert (back["iss"], back["state"]) == ("https://other.example", "another")
    issuer.spoil("claims", nonce="another", exp=None)
    claims = identity(c4c, back)
    assert (claims["nonce"], "exp" in claims) == ("another", False)
    issuer.spoil("tokens", refresh_token=None)
    assert "refresh_token" not in c4c.redeem(c4c.choose()["code"]).get_json()
    for what in get_args(Said):
        issuer.spoil(what)
    assert get(c4c, metadata_url(c4c))["issuer"] == URL + "/c4c"
    assert c4c.choose()["iss"] == URL + "/c4c"
    assert c4c.tokens()["refresh_token"]


def test_a_lie_ends_with_its_world(c4c: Service, app_and_worlds: Any) -> None:
    c4c.provider.c4c.spoil("metadata", issuer="https://other.example")
    app_and_worlds[1].append(World())
    assert get(c4c, metadata_url(c4c))["issuer"] == URL + "/c4c"


def test_the_rogue_issuer_has_keys_of_its_own_and_keeps_what_it_is_given(rogue: Service, c4c: Service) -> None:
    metadata = get(rogue, "/rogue/.well-known/openid-configuration")
    assert metadata["issuer"] == URL + "/rogue"
    keys = {key["kid"] for key in get(rogue, metadata["jwks_uri"])["keys"]}
    assert keys.isdisjoint(key["kid"] for key in get(c4c, "/c4c/oauth2/certs")["keys"])
    back = rogue.choose(client_id="anybody")
    assert back["iss"] == URL + "/rogue"
    assert rogue.redeem(back["code"], client_id="anybody", client_secret="s3").status_code == 200
    assert refusal(rogue.redeem(c4c.choose()["code"]))[:2] == (400, "invalid_grant")
    first, second = rogue.world.events("identity", "caught")
    assert (first.detail["form"]["client_id"], first.detail["form"]["client_secret"]) == ("anybody", "s3")
    assert second.detail["form"]["code_verifier"] == issuers.VERIFIER


def test_a_code_of_the_rogue_is_worth_nothing_at_c4c(rogue: Service, c4c: Service) -> None:
    assert refusal(c4c.redeem(rogue.choose()["code"]))[:2] == (400, "invalid_grant")
