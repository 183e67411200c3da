"""The sign-in simulator is as strict as what it stands for. Tokens are read with joserfc, which it does not use itself."""

from datetime import timedelta
from pathlib import Path
from urllib.parse import urlencode

import pytest
from flask import Flask

from simulator.identity import create_app, provider_of
from simulator.world import World
from tests.simulator import issuers
from tests.simulator.issuers import (
    BACK,
    CHALLENGE,
    MAIL,
    MARA,
    OKI,
    ON_BEHALF_OF,
    URL,
    VERIFIER,
    Service,
    get,
    metadata_url,
    read,
    refusal,
)  # fmt: skip

app_and_worlds, c4c, entra, service, world = (
    issuers.app_and_worlds,
    issuers.c4c,
    issuers.entra,
    issuers.service,
    issuers.world,
)


def test_the_metadata_names_endpoints_that_exist(service: Service) -> None:
    metadata = get(service, metadata_url(service))
    assert metadata["issuer"] == URL + metadata_url(service).removesuffix("/.well-known/openid-configuration")
    assert get(service, metadata["jwks_uri"])["keys"]
    assert metadata["token_endpoint"] == f"{URL}{service.root}/token"
    assert metadata["authorization_endpoint"] == f"{URL}{service.root}/authorize"
    assert service.client.post(f"{service.root}/token").status_code == 400


def test_the_common_metadata_leaves_the_tenant_open_and_foreign_tenants_are_unknown(entra: Service) -> None:
    metadata = get(entra, "/common/v2.0/.well-known/openid-configuration")
    assert metadata["issuer"] == URL + "/{tenantid}/v2.0"
    assert {key["issuer"] for key in get(entra, "/common/discovery/v2.0/keys")["keys"]} == {metadata["issuer"]}
    answer = entra.client.get("/c0ffee00-1111-4222-8333-444455556666/v2.0/.well-known/openid-configuration")
    assert refusal(answer) == (400, "invalid_tenant", 90002)


def test_signing_in_gives_tokens_for_the_person_chosen(service: Service) -> None:
    back = service.choose(OKI.object_id)
    assert back["state"] == "s&t=1"
    assert back.get("iss") == (URL + "/c4c" if service.root.startswith("/c4c") else None)
    answer = service.redeem(back["code"])
    assert answer.headers["Cache-Control"] == "no-store"
    claims = read(service, answer.get_json()["id_token"], metadata_url(service))
    assert claims["nonce"] == "n-1"
    assert claims["aud"] == service.world.client_id
    assert OKI.object_id == claims.get("oid") or OKI.user_id == claims["sub"]
    assert [(event.kind, event.actor) for event in service.world.events("identity")] == [("token", OKI.email)]
    assert service.world.requests("identity")[-3].actor == OKI.email


def test_the_sign_in_page_lets_one_choose_and_escapes_what_it_shows(service: Service) -> None:
    hostile = '"><script>alert(1)</script>'
    seen = service.page(state=hostile, login_hint=OKI.email)
    assert seen.status == 200
    assert seen.tags.isdisjoint({"script", "b"})
    assert seen.hidden["state"] == hostile
    assert seen.hidden["code_challenge"] == CHALLENGE
    assert seen.buttons == [MARA.object_id, OKI.object_id, ""]
    assert seen.focused == OKI.object_id


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None, "code_challenge": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"prompt": "none"}, "login_required"),
        ({"scope": "openid Everything.All"}, "invalid_scope"),
    ],
)
def test_a_wrong_request_goes_back_with_its_error_and_state(service: Service, changes: dict[str, str], error: str) -> None:
    back = service.choose(**changes)
    assert (back["error"], back["state"]) == (error, "s&t=1")
    assert "code" not in back


def test_cancelling_goes_back_without_a_code(service: Service) -> None:
    assert service.choose("")["error"] == "access_denied"


@pytest.mark.parametrize(
    "changes",
    [
        {"redirect_uri": "https://evil.example.net/"},
        {"redirect_uri": "https://127.0.0.1.example.net/"},
        {"redirect_uri": "javascript:alert(1)"},
        {"redirect_uri": BACK + "#x"},
        {"redirect_uri": None},
        {"client_id": "another"},
    ],
)
def test_the_browser_is_never_sent_to_an_unregistered_address(service: Service, changes: dict[str, str | None]) -> None:
    for answer in (
        service.client.get(f"{service.root}/authorize?{urlencode(service.asked(**changes))}"),
        service.client.post(f"{service.root}/authorize", data=service.asked(**changes) | {"person": MARA.object_id}),
    ):
        assert (answer.status_code, answer.location) == (400, None)


def test_a_registered_address_elsewhere_is_allowed(service: Service) -> None:
    service.provider.redirect_uris.add("https://sidebar.example.com/back")
    asked = service.asked(redirect_uri="https://sidebar.example.com/back") | {"person": MARA.object_id}
    assert service.client.post(f"{service.root}/authorize", data=asked).location.startswith("https://sidebar.example.com/back?")


def test_a_code_works_once_and_its_second_use_ends_what_the_first_gave(service: Service) -> None:
    code = service.choose()["code"]
    first = service.redeem(code).get_json()
    assert service.refresh(first["refresh_token"]).status_code == 200
    assert refusal(service.redeem(code))[:2] == (400, "invalid_grant")
    assert refusal(service.refresh(first["refresh_token"]))[:2] == (400, "invalid_grant")


def test_a_code_is_bound_to_its_verifier_address_and_time(service: Service) -> None:
    code = service.choose()["code"]
    for changes in ({"code_verifier": VERIFIER + "x"}, {"code_verifier": ""}, {"redirect_uri": BACK + "/"}):
        assert refusal(service.redeem(code, **changes))[:2] == (400, "invalid_grant")
    assert refusal(service.redeem("1.other"))[:2] == (400, "invalid_grant")
    service.world.clock_skew = timedelta(minutes=11)
    assert refusal(service.redeem(code))[:2] == (400, "invalid_grant")
    service.world.clock_skew = timedelta()
    assert service.redeem(code).status_code == 200


def test_a_client_must_prove_itself(service: Service) -> None:
    code = service.choose()["code"]
    assert refusal(service.redeem(code, client_secret="wrong"))[:2] == (401, "invalid_client")
    assert refusal(service.redeem(code, client_secret=""))[:2] == (401, "invalid_client")
    assert refusal(service.redeem(code, client_id="another"))[:2] == (400, "unauthorized_client")
    assert refusal(service.token(grant_type="password", username=MARA.email))[:2] == (400, "unsupported_grant_type")
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": VERIFIER}
    basic = (service.world.client_id, service.world.client_secret)
    assert service.client.post(f"{service.root}/token", data=form, auth=basic).status_code == 200


def test_a_refresh_token_gives_a_new_one(service: Service) -> None:
    first = service.tokens()["refresh_token"]
    second = service.refresh(first).get_json()["refresh_token"]
    assert second != first
    assert service.refresh(second).status_code == 200


def test_microsofts_old_refresh_token_stays_good(entra: Service) -> None:
    first = entra.tokens()["refresh_token"]
    assert entra.refresh(first).status_code == 200
    assert entra.refresh(first).status_code == 200


def test_c4cs_refresh_token_used_twice_ends_its_family(c4c: Service) -> None:
    first = c4c.tokens()["refresh_token"]
    second = c4c.refresh(first).get_json()["refresh_token"]
    assert refusal(c4c.refresh(first)) == (400, "invalid_grant", 0)
    assert refusal(c4c.refresh(second)) == (400, "invalid_grant", 0)
    assert c4c.refresh(c4c.tokens()["refresh_token"]).status_code == 200


def test_c4cs_refresh_token_gives_no_more_than_the_sign_in_did(c4c: Service) -> None:
    code = c4c.choose(scope="openid offline_access")["code"]
    refresh_token = c4c.redeem(code).get_json()["refresh_token"]
    assert refusal(c4c.refresh(refresh_token, scope="openid email"))[:2] == (400, "invalid_scope")
    assert c4c.refresh(refresh_token).get_json()["scope"] == "openid"


def test_without_offline_access_there_is_no_refresh_token(service: Service) -> None:
    scope = service.scope.replace("offline_access", "")
    assert "refresh_token" not in service.redeem(service.choose(scope=scope)["code"]).get_json()


def test_an_issuer_takes_no_refresh_token_of_the_other(entra: Service, c4c: Service) -> None:
    assert refusal(c4c.refresh(entra.tokens()["refresh_token"]))[:2] == (400, "invalid_grant")
    assert refusal(entra.refresh(c4c.tokens()["refresh_token"]))[:2] == (400, "invalid_grant")


def test_an_access_token_for_our_api_has_the_claims_of_version_2(entra: Service) -> None:
    scope = f"openid api://sidebar.example.com/{entra.world.client_id}/access_as_user"
    body = entra.redeem(entra.choose(scope=scope)["code"]).get_json()
    claims = read(entra, body["access_token"], metadata_url(entra))
    tid, client_id = entra.world.entra_tenant, entra.world.client_id
    assert (claims["aud"], claims["azp"], claims["ver"], claims["scp"]) == (client_id, client_id, "2.0", "access_as_user")
    assert (claims["iss"], claims["tid"], claims["oid"]) == (f"{URL}/{tid}/v2.0", tid, MARA.object_id)
    assert (claims["preferred_username"], claims["name"]) == (MARA.email, MARA.name)
    assert claims["exp"] - claims["iat"] == 3600
    assert claims["nbf"] == claims["iat"]
    assert MARA.object_id not in claims["sub"]


def test_an_exchange_gives_a_graph_token_for_the_same_person(entra: Service) -> None:
    assertion = entra.provider.mint_api_token(entra.world, MARA)
    body = entra.token(**ON_BEHALF_OF, assertion=assertion, scope=f"{MAIL} offline_access").get_json()
    assert read(entra, body["access_token"], metadata_url(entra))["aud"] == "https://graph.microsoft.com"
    assert entra.provider.verify_graph_token(body["access_token"]) == MARA
    assert body["refresh_token"]
    event = entra.world.events("identity", "token")[-1]
    assert (event.actor, event.detail["grant"], MAIL in event.detail["scopes"]) == (MARA.email, "on_behalf_of", True)


def exchange(entra: Service, assertion: str, **form: str) -> tuple[int, str, int]:
    return refusal(entra.token(**(ON_BEHALF_OF | {"assertion": assertion, "scope": MAIL} | form)))


def test_exchanges_are_refused_as_microsoft_refuses_them(entra: Service) -> None:
    world, provider = entra.world, entra.provider
    good = provider.mint_api_token(world, MARA)
    graph = provider.mint_graph_token(world, MARA)
    foreign_audience = provider.mint_api_token(world, MARA, aud="another")
    assert exchange(entra, foreign_audience) == (400, "invalid_grant", 500131)
    assert exchange(entra, provider.mint_id_token(world, MARA)) == (400, "invalid_grant", 500131)
    assert exchange(entra, graph) == (400, "invalid_grant", 50013)
    assert exchange(entra, good[:-5]) == (400, "invalid_grant", 50013)
    assert exchange(entra, provider.mint_api_token(world, MARA, lifetime_s=-1)) == (400, "invalid_grant", 500133)
    assert exchange(entra, good, requested_token_use="") == (400, "invalid_request", 900144)
    assert exchange(entra, good, scope="https://graph.microsoft.com/Mail.Everything") == (400, "invalid_scope", 70011)
    assert exchange(entra, good, scope=f"{MAIL} {world.client_id}/access_as_user") == (400, "invalid_scope", 28000)
    assert world.events("identity", "token") == []


def test_missing_consent_and_policies_are_told_in_microsofts_words(entra: Service) -> None:
    assertion = entra.provider.mint_api_token(entra.world, MARA)
    entra.provider.withdraw_consent(MARA)
    body = entra.token(**ON_BEHALF_OF, assertion=assertion, scope=MAIL).get_json()
    assert (body["error"], body["suberror"], body["error_codes"]) == ("invalid_grant", "consent_required", [65001])
    assert body["error_description"].startswith("AADSTS65001: ")
    assert {"timestamp", "trace_id", "correlation_id"} <= body.keys()
    entra.provider.give_consent(MARA)
    entra.provider.require_claims(MARA, '{"access_token":{}}')
    body = entra.token(**ON_BEHALF_OF, assertion=assertion, scope=MAIL).get_json()
    assert (body["error"], body["error_codes"], body["claims"]) == ("interaction_required", [50076], '{"access_token":{}}')
    assert exchange(entra, entra.provider.mint_api_token(entra.world, OKI), scope="nonsense")[2] == 70011


def test_revoking_a_person_ends_their_sessions_and_nobody_elses(service: Service) -> None:
    mine = service.tokens()["refresh_token"]
    theirs = service.redeem(service.choose(OKI.object_id)["code"]).get_json()["refresh_token"]
    service.provider.revoke(MARA)
    assert refusal(service.refresh(mine))[:2] == (400, "invalid_grant")
    assert service.refresh(theirs).status_code == 200
    assert service.refresh(service.tokens()["refresh_token"]).status_code == 200


def test_a_disabled_person_cannot_sign_in_until_enabled(service: Service) -> None:
    service.provider.disable(MARA)
    assert service.choose()["error"] == "invalid_grant"
    service.provider.enable(MARA)
    assert service.tokens()["access_token"]


def test_graph_believes_its_own_tokens_only(entra: Service) -> None:
    world, provider = entra.world, entra.provider
    token = provider.mint_graph_token(world, MARA, scopes=["Mail.Read"])
    grant = provider.graph_grant(token)
    assert grant is not None
    assert (grant.person, grant.scopes) == (MARA, {"Mail.Read"})
    for other in (provider.mint_api_token(world, MARA), provider.mint_graph_token(world, MARA, -1), token[:-4], "", "x.y.z"):
        assert provider.verify_graph_token(other) is None
    provider.revoke(MARA)
    assert provider.verify_graph_token(token) is None
    assert provider.verify_graph_token(provider.mint_graph_token(world, MARA)) == MARA


def test_rotation_publishes_the_new_key_beside_the_old_one(entra: Service) -> None:
    before = {key["kid"] for key in get(entra, "/common/discovery/v2.0/keys")["keys"]}
    old = entra.provider.mint_api_token(entra.world, MARA)
    kid = entra.provider.rotate()
    keys = [key["kid"] for key in get(entra, "/common/discovery/v2.0/keys")["keys"]]
    assert kid not in before
    assert keys[-1] == kid
    assert len(keys) == 2
    assert read(entra, old, metadata_url(entra))["oid"] == MARA.object_id
    assert read(entra, entra.provider.mint_api_token(entra.world, MARA), metadata_url(entra))["oid"] == MARA.object_id
    entra.provider.rotate()
    assert set(keys[:1]).isdisjoint(key["kid"] for key in get(entra, "/common/discovery/v2.0/keys")["keys"])


def test_a_new_world_remembers_nothing_of_the_last_one(app_and_worlds: tuple[Flask, list[World]], entra: Service) -> None:
    code = entra.choose()["code"]
    entra.provider.disable(MARA)
    fresh = World()
    fresh.people.append(MARA)
    app_and_worlds[1].append(fresh)
    assert refusal(entra.redeem(code))[1:] == ("invalid_grant", 70008)
    assert entra.choose()["code"]


def test_keys_in_a_directory_outlive_the_process(tmp_path: Path, world: World) -> None:
    def start() -> Service:
        app = create_app(lambda: world, public_url=lambda: URL, state_dir=tmp_path)
        root = f"/{world.entra_tenant}/oauth2/v2.0"
        return Service(app.test_client(), provider_of(app), world, root, f"openid offline_access {MAIL}")

    before = start()
    tokens, bearer = before.tokens(), before.provider.mint_api_token(world, MARA)
    after = start()
    assert read(after, bearer, metadata_url(after))["oid"] == MARA.object_id
    assert after.provider.verify_graph_token(tokens["access_token"]) == MARA
    assert after.refresh(tokens["refresh_token"]).status_code == 200
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
