"""What every answer of the web carries, one shape of error, the API's description, and who gets in."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient
from openapi_spec_validator import OpenAPIV31SpecValidator
from werkzeug.test import TestResponse

from server import wiring
from server.config import Settings
from server.services import Deps
from server.store import Store
from server.web import MAX_BODY_BYTES, create_app
from simulator.world import Fault, World
from tests.api import Api

PROBLEM = {"type", "title", "status", "code", "detail", "request_id"}
Forward = Callable[..., None]


@pytest.fixture
def specification(client: FlaskClient) -> dict[str, Any]:
    answer: dict[str, Any] = client.get("/api/openapi.json").json
    return answer


def is_problem(response: TestResponse, status: int, code: str) -> bool:
    """Assert the one shape of an error; always true, so that it reads well after `assert`."""
    assert response.status_code == status, response.text
    assert response.content_type == "application/problem+json"
    body = response.json
    assert set(body) >= PROBLEM
    assert set(body) <= PROBLEM | {"field", "retry_after_s", "save_id"}
    assert (body["status"], body["code"], body["type"]) == (status, code, f"urn:ssi:problem:{code}")
    assert body["request_id"] == response.headers["X-Request-Id"]
    assert body["detail"]
    return True


# Headers


def every_kind_of_answer(client: FlaskClient, me: Api, world: World) -> Iterator[TestResponse]:
    """One answer of each route and of each status that the product gives."""
    for path in ("/", "/sidebar", "/privacy", "/manifest.xml", "/healthz", "/readyz", "/static/js/main.js"):
        yield client.get(path, buffered=True)
    yield client.get("/api/openapi.json")
    yield client.get("/nowhere")
    yield client.get("/static/../../server/config.py")
    yield client.get("/static/nothing.js")
    yield client.delete("/sidebar")
    yield client.get("/api/nowhere")
    yield client.get("/api/me")
    yield client.get("/api/context")
    yield client.options("/api/context")
    yield me.get("/me")
    yield me.get("/saves/" + "0" * 32)
    yield me.post("/context", {})
    yield me.send("POST", "/context", data="{", content_type="application/json")
    yield me.send("POST", "/context", data=b" " * (MAX_BODY_BYTES + 1), content_type="application/json")
    yield me.post("/context", {"item": me.item("known_contact")})
    yield me.save("known_contact")
    yield me.save("known_contact")
    world.faults.append(Fault("c4c", "part_status", "POST", status=400))
    yield me.save("account_only")
    world.faults.append(Fault("c4c", "drop", times=None))
    yield me.save("individual_customer")
    yield me.post("/context", {"item": me.item("lead")})


def test_every_answer_carries_the_security_headers(client: FlaskClient, me: Api, world: World, settings: Settings) -> None:
    statuses = set()
    for response in every_kind_of_answer(client, me, world):
        statuses.add(response.status_code)
        headers = response.headers
        policy = dict(part.strip().partition(" ")[::2] for part in headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == policy["object-src"] == policy["base-uri"] == "'none'"
        is_page = response.request.path in ("/", "/privacy")  # for people, and not the pane
        assert policy["frame-ancestors"].split() == (["'none'"] if is_page else ["'self'", *settings.frame_ancestors])
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert "*" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert int(re.findall(r"max-age=(\d+)", headers["Strict-Transport-Security"])[0]) >= 31_536_000
        assert re.fullmatch(r"[0-9a-f]{16}", headers["X-Request-Id"])
        assert "Set-Cookie" not in headers
        assert "Access-Control-Allow-Origin" not in headers
        if response.status_code >= 400:
            assert response.content_type == "application/problem+json"
    assert statuses >= {200, 201, 202, 401, 404, 405, 409, 413, 422, 503}


def test_answers_of_the_api_are_never_kept(me: Api) -> None:
    assert me.get("/me").headers["Cache-Control"] == "no-store"
    assert me.get("/nowhere").headers["Cache-Control"] == "no-store"


def test_the_policy_of_the_demo_lets_only_outlook_frame_the_pane(settings: Settings, deps: Deps) -> None:
    default = replace(settings, frame_ancestors=Settings("", settings.key_file, "").frame_ancestors)
    app = create_app(deps, wiring.face(default))
    policy = app.test_client().get("/sidebar").headers["Content-Security-Policy"]
    assert "frame-ancestors 'self' https://outlook.office.com https://outlook.office365.com" in policy


ORIGIN = "https://static.example.com"
HOST = ORIGIN.removeprefix("https://")
SCHEMES = ["http://", "HTTPS://", "ftp://", "ws://", "wss://", "file://", "//", "", "https:", "https:/"]
STARTS = ["evil", "evil-", "evil.", "www.", "x@", "user:pass@", "evil.example/", "%00", ".", "-", "_", "xn--", "*.", "[::1]"]
ENDS = [".evil.example", ".evil", "x", "/", "/x", "?", "#", "@evil.example", "%00", "%2e", ".", ",", ";", ":", ":0", ":80"]
ENDS += [":443", ":8443", ":65536", " https://evil.example", ",https://evil.example", "\\evil.example", "\u3002evil"]
LOOK_ALIKES = [("a", "\u0430"), ("e", "\u0435"), ("c", "\u0441"), ("p", "\u0440"), ("x", "\u0445"), ("s", "\u0455")]
OTHERS = ["null", "*", "https://*", "https://*.example.com", "https://example.com", "https://evil.example", "https://127.0.0.1"]
OTHERS += ["https://[::1]", "https://localhost", "https://sidebar.example.com.evil.example", "chrome-extension://abc", "data:,x"]
HOSTILE = sorted(
    {
        *(scheme + HOST for scheme in SCHEMES),
        *(f"https://{start}{HOST}" for start in STARTS),
        *(ORIGIN + end for end in ENDS),
        *(f"https://{HOST.replace(letter, other, 1)}" for letter, other in LOOK_ALIKES),
        *(f"https://{HOST[:n]}{HOST[n].upper()}{HOST[n + 1 :]}" for n in range(len(HOST))),
        *(f"https://{HOST[:n]}{HOST[n + 1 :]}" for n in range(len(HOST))),
        *(f"https://{HOST[:n]}{HOST[n]}{HOST[n:]}" for n in range(len(HOST))),
        *(f"https://{HOST[:n]}.{HOST[n:]}" for n in range(len(HOST))),
        *(f"https://{HOST[:n]}-{HOST[n:]}" for n in range(len(HOST))),
        *(f"https://{HOST[:n]}%{ord(HOST[n]):02x}{HOST[n + 1 :]}" for n in range(len(HOST))),
        *(f"https://{HOST[:n]}/{HOST[n:]}" for n in range(len(HOST))),
        *(f"https://{HOST[:n]}@{HOST[n:]}" for n in range(len(HOST))),
        *(f"https://{HOST[:n]}_{HOST[n + 1 :]}" for n in range(len(HOST))),
        *(ORIGIN[:n] for n in range(1, len(ORIGIN))),
        *OTHERS,
    }
    - {ORIGIN}
)


def test_other_origins_are_shut_out_unless_named_exactly(client: FlaskClient, settings: Settings, deps: Deps) -> None:
    open_to_one = create_app(deps, replace(wiring.face(settings), cors_origins=(ORIGIN,))).test_client()
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    assert len(HOSTILE) >= 200
    for origin in (ORIGIN, *HOSTILE):
        for which in (client, open_to_one):
            for response in (
                which.options("/api/context", headers={"Origin": origin, **preflight}),
                which.get("/api/me", headers={"Origin": origin}),
                which.get("/sidebar", headers={"Origin": origin}),
            ):
                allowed = response.headers.get("Access-Control-Allow-Origin")
                is_ours = which is open_to_one and origin == ORIGIN and response.request.path.startswith("/api/")
                assert allowed == (ORIGIN if is_ours else None), (origin, response.request.path)
                assert "Access-Control-Allow-Credentials" not in response.headers


# Errors


def test_every_family_of_routes_errs_in_one_shape(client: FlaskClient, me: Api) -> None:
    assert is_problem(client.get("/nowhere"), 404, "not_found")
    assert is_problem(client.get("/api/nowhere"), 404, "not_found")
    assert is_problem(client.get("/static/nothing.js"), 404, "not_found")
    assert is_problem(client.post("/sidebar"), 405, "method_not_allowed")
    assert is_problem(client.get("/api/saves"), 405, "method_not_allowed")
    assert is_problem(client.get("/api/me"), 401, "needs_sign_in")
    assert is_problem(me.get("/saves/" + "0" * 32), 404, "not_found")
    assert is_problem(me.get("/saves/short"), 404, "not_found")
    assert is_problem(me.post("/context", {}), 422, "invalid")
    assert client.post("/sidebar").headers["Allow"]


def test_a_fault_of_ours_says_nothing_but_the_request_id(app: APIFlask, capsys: pytest.CaptureFixture[str]) -> None:
    @app.get("/broken")
    def broken() -> str:
        raise ZeroDivisionError("CANARY-trace")

    response = app.test_client().get("/broken")
    assert is_problem(response, 500, "internal")
    assert "CANARY" not in response.text
    assert response.json["request_id"] in capsys.readouterr().err


DEEP = '{"item": ' + '{"a": ' * 50_000 + "1" + "}" * 50_000 + "}"


@pytest.mark.parametrize(
    ("body", "content_type", "statuses"),
    [
        ("", "application/json", {400, 422}),
        ("{", "application/json", {400}),
        ("[]", "application/json", {422}),
        ("null", "application/json", {422}),
        ('"text"', "application/json", {422}),
        (DEEP, "application/json", {400, 422}),
        ("NaN", "application/json", {400, 422}),
        ("\xff\xfe", "application/json", {400}),
        ("item=1", "application/x-www-form-urlencoded", {415}),
        ("{}", "text/plain", {415}),
    ],
)
@pytest.mark.parametrize("path", ["/context", "/saves", "/saves/preview"])
def test_a_body_that_is_no_request_is_refused(me: Api, path: str, body: str, content_type: str, statuses: set[int]) -> None:
    response = me.send("POST", path, data=body.encode("latin-1"), content_type=content_type)
    assert response.status_code in statuses, response.text
    assert response.content_type == "application/problem+json"


def test_a_body_that_is_too_large_is_refused_unread(me: Api) -> None:
    body = b'{"item": "' + b"x" * MAX_BODY_BYTES + b'"}'
    assert is_problem(me.send("POST", "/context", data=body, content_type="application/json"), 413, "request_entity_too_large")


CANARY = "CANARY-value-5e1f"


@pytest.mark.parametrize(
    ("path", "change", "field"),
    [
        ("/context", {"mode": CANARY}, "mode"),
        ("/context", {"complete": CANARY}, "complete"),
        ("/context", {"tenant_id": CANARY}, "tenant_id"),
        ("/context", {"item": {"id": ""}}, "item.id"),
        ("/context", {"item": {"id": 7}}, "item.id"),
        ("/context", {"item": {"id_form": CANARY}}, "item.id_form"),
        ("/context", {"item": {"owner": CANARY}}, "item.owner"),
        ("/context", {"item": {"from": {"address": CANARY, "role": "x"}}}, "item.from.role"),
        ("/context", {"item": {"to": [{"address": "x" * 1001}]}}, "item.to.0.address"),
        ("/context", {"item": {"to": [{"address": "a@b.example"}] * 2001}}, "item.to"),
        ("/context", {"item": {"headers": "x" * 400_001}}, "item.headers"),
        ("/saves", {"links": [{"type": CANARY, "id": "0" * 32}]}, "links.0.type"),
        ("/saves", {"links": [{"type": "contact", "id": CANARY}]}, "links.0.id"),
        ("/saves", {"links": [{"type": "contact", "id": "0" * 32}] * 101}, "links"),
        ("/saves", {"links": CANARY}, "links"),
        ("/saves", {"user_id": CANARY}, "user_id"),
        ("/saves", {"attachments": [{"ref": "1", "content": CANARY}]}, "attachments.0.content"),
        ("/saves", {"attachments": [{"ref": "1"}] * 501}, "attachments"),
        ("/saves", {"subject": "x" * 2001}, "subject"),
        ("/saves", {"include_eml": CANARY}, "include_eml"),
        ("/saves/preview", {"links": []}, "links"),
    ],
)
def test_a_wrong_member_is_named_and_its_value_not_repeated(me: Api, path: str, change: dict[str, Any], field: str) -> None:
    body: dict[str, Any] = {"item": me.item("known_contact"), **({"links": []} if path == "/saves" else {})}
    for name, value in change.items():
        body[name] = {**body["item"], **value} if name == "item" else value
    response = me.post(path, body)
    assert is_problem(response, 422, "invalid")
    assert response.json["field"] == field
    assert "CANARY-value" not in response.text.replace(field, "")


@pytest.mark.parametrize(
    "text", ["\x00", "\ud800", "a\x00b@example.com", "a\ud800b@example.com", "\u202e", "a" * 900 + "@example.com"]
)
@pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)
def test_no_text_makes_the_server_stumble(me: Api, text: str) -> None:
    item = me.item("known_contact")
    person = {"name": text, "address": text}
    changes: list[dict[str, Any]] = [
        {"id": text[:400]},
        {"mailbox": text},
        {"internet_message_id": text},
        {"conversation_id": text},
        {"subject": text},
        {"from": person},
        {"to": [person]},
        {"headers": text},
        {"item_class": text},
    ]
    for change in changes:
        body = json.dumps({"item": {**item, **change}})
        response = me.send("POST", "/context", data=body, content_type="application/json")
        assert response.status_code in (200, 422), (change, response.text)
    wishes: list[dict[str, Any]] = [
        {"subject": text},
        {"attachments": [{"ref": text[:100]}]},
        {"item": {**item, "id": text[:400]}},
        {"item": {**item, "internet_message_id": text}},
    ]
    for wish in wishes:
        body = json.dumps({"item": item, "links": [], **wish})
        response = me.send("POST", "/saves", data=body, content_type="application/json")
        assert response.status_code in (200, 201, 404, 422), (wish, response.text)


# The description of the API


def test_the_description_is_openapi_3_1_and_names_every_call(specification: dict[str, Any], app: APIFlask) -> None:
    OpenAPIV31SpecValidator(specification).validate()
    assert specification["openapi"].startswith("3.1")
    described = {(path, method.upper()) for path, calls in specification["paths"].items() for method in calls}
    served = {
        (re.sub(r"<(?:[^:<>]+:)?(\w+)>", r"{\1}", str(rule)), method)
        for rule in app.url_map.iter_rules()
        if str(rule).startswith("/api/") and str(rule) != "/api/openapi.json"
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert described == served
    for path, calls in specification["paths"].items():
        for method, call in calls.items():
            assert call["security"] == [{"bearer": []}], (path, method)
            assert "401" in call["responses"]
            assert "403" in call["responses"]


def test_answers_are_what_the_description_says(specification: dict[str, Any], client: FlaskClient, me: Api, world: World) -> None:
    seen = set()
    for response in every_kind_of_answer(client, me, world):
        path = re.sub(r"[0-9a-f]{32}", "{save_id}", response.request.path)
        call = specification["paths"].get(path, {}).get(response.request.method.lower())
        if call is None or response.status_code in (400, 405, 413):
            continue
        described = call["responses"][str(response.status_code)]
        media_type = "application/problem+json" if response.status_code >= 400 else "application/json"
        schema = described["content"][media_type]["schema"]
        jsonschema.Draft202012Validator({**schema, "components": specification["components"]}).validate(response.json)
        seen.add((path, response.status_code))
    assert {("/api/saves", status) for status in (200, 201, 202, 409)} <= seen
    assert {("/api/context", status) for status in (200, 422, 503)} <= seen


def test_answers_hold_nothing_undeclared(specification: dict[str, Any]) -> None:
    schemas = specification["components"]["schemas"]
    for name in ("ContextOut", "SaveOut", "PreviewOut", "MeOut"):
        assert schemas[name]["additionalProperties"] is False


# Who gets in


def test_me_says_who_and_where(me: Api) -> None:
    before = me.get("/me").json
    assert before["user"] == {"name": me.person.name, "email": me.person.email}
    assert (before["mailbox"]["state"], before["admin_contact"]) == ("not_connected", "it@aldermill.example")
    assert me.save("known_contact").status_code == 201
    assert me.get("/me").json["mailbox"]["state"] == "active"


def test_somebody_who_is_not_set_up_is_told_whom_to_ask(api: Callable[..., Api], world: World) -> None:
    number = next(n for n, person in enumerate(world.people) if not person.provisioned)
    stranger = api(number)
    for response in (stranger.get("/me"), stranger.post("/context", {"item": api().item("known_contact")})):
        assert is_problem(response, 403, "not_provisioned")
        assert "it@aldermill.example" in response.json["detail"]


def test_a_foreign_tenant_is_not_told_our_administrators_address(client: FlaskClient, me: Api, world: World) -> None:
    tid = "11111111-2222-4333-8444-555555555555"
    issuer = f"{me.simulator.identity.url}/{tid}/v2.0"
    token = me.simulator.provider.mint_api_token(world, me.person, tid=tid, iss=issuer)
    response = client.get("/api/me", headers={"Authorization": "Bearer " + token})
    assert is_problem(response, 403, "not_provisioned")
    assert "aldermill" not in response.text


def test_an_identity_is_the_object_id_and_never_the_address(client: FlaskClient, me: Api, world: World) -> None:
    token = me.simulator.provider.mint_api_token(
        world, me.person, oid="99999999-2222-4333-8444-555555555555", preferred_username=me.person.email
    )
    assert is_problem(client.get("/api/me", headers={"Authorization": "Bearer " + token}), 403, "not_provisioned")


def test_somebody_who_was_switched_off_is_out_at_once(me: Api, deps: Deps) -> None:
    assert me.get("/me").status_code == 200
    with deps.store.transaction() as tx:
        (user,) = [u for t in tx.tenants() for u in tx.users(t.id) if u.email == me.person.email]
        tx.set_user_enabled(user.id, False)
    assert is_problem(me.get("/me"), 403, "not_provisioned")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Bearer a.b.c",
        "Basic dXNlcjpwYXNz",
        "Bearer " + "x" * 60_000,
        "bearer\tx",
        "Bearer \xe9",
    ],
)
def test_without_a_good_token_nobody_gets_in(client: FlaskClient, header: str) -> None:
    response = client.get("/api/me", headers={"Authorization": header} if header else {})
    assert is_problem(response, 401, "needs_sign_in")
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_token_that_expired_is_refused(client: FlaskClient, me: Api, forward: Forward) -> None:
    headers = {"Authorization": "Bearer " + me.simulator.bearer(me.person)}
    assert client.get("/api/me", headers=headers).status_code == 200
    forward(hours=13)
    assert is_problem(client.get("/api/me", headers=headers), 401, "needs_sign_in")


def test_while_keys_cannot_be_fetched_nobody_is_let_in_and_nobody_sent_away(me: Api, world: World) -> None:
    world.faults.append(Fault("identity", "drop", times=None))
    assert is_problem(me.get("/me"), 503, "unavailable")


# Pages


def test_pages_are_there(client: FlaskClient) -> None:
    for path, media_type in (
        ("/", "text/html"),
        ("/sidebar", "text/html"),
        ("/privacy", "text/html"),
        ("/manifest.xml", "application/xml"),
        ("/healthz", "text/plain"),
        ("/readyz", "text/plain"),
    ):
        response = client.get(path)
        assert (response.status_code, response.mimetype) == (200, media_type), path


def test_the_pane_loads_nothing_that_its_policy_forbids(client: FlaskClient, settings: Settings) -> None:
    page = client.get("/sidebar").text
    assert settings.office_js_url in page
    for url in re.findall(r"""(?:src|href)="([^"#]+)\"""", page):
        if url.startswith("/"):
            assert client.get(url, buffered=True).status_code == 200, url
        else:
            assert url == settings.office_js_url
    assert not re.search(r"<script(?![^>]*\b(?:src|type=\"importmap\"))", page) or "nonce" in page
    assert "style=" not in page
    assert not re.search(r"\son\w+=", page)


def test_files_outside_static_are_not_served(client: FlaskClient) -> None:
    for path in ("/static/../server/config.py", "/static/%2e%2e/pyproject.toml", "/static//etc/passwd", "/static/js/../../run"):
        assert client.get(path).status_code == 404, path


def test_ready_means_that_the_database_is(client: FlaskClient, settings: Settings, deps: Deps, tmp_path: Any) -> None:
    assert client.get("/readyz").status_code == 200
    empty = Store(f"sqlite:///{tmp_path / 'empty.sqlite'}")
    unready = create_app(replace(deps, store=empty), wiring.face(settings)).test_client()
    assert is_problem(unready.get("/readyz"), 503, "unavailable")
    assert unready.get("/healthz").status_code == 200
    empty.close()
    gone = Store("postgresql+psycopg://nobody@127.0.0.1:9/nothing")
    assert is_problem(
        create_app(replace(deps, store=gone), wiring.face(settings)).test_client().get("/readyz"), 503, "unavailable"
    )
    gone.close()


def test_being_ready_does_not_wait_for_somebody_who_writes(client: FlaskClient, deps: Deps) -> None:
    with deps.store.transaction() as tx:
        tx.record("test", deps.now(), tenant_id=None, user_id=None)
        assert client.get("/readyz").status_code == 200
