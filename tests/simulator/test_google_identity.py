"""The simulated Google sign-in gives and takes tokens as Google does; Google's own library refreshes by it."""

import base64
import hashlib
import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import parse_qs, urlsplit

import google.auth.transport.requests
import httpx
import jwt
import pytest
from flask import Flask
from google.auth.exceptions import RefreshError
from google.oauth2.credentials import Credentials

from simulator import demo
from simulator.google import identity as google_identity
from simulator.google.identity import (
    ADD_ON,
    ADD_ON_ACCOUNT,
    MAIL_SCOPES,
    SCOPE,
    GoogleIdentity,
    MessageGrant,
    identity_of,
    subject,
)
from simulator.serving import Port
from simulator.world import CONSUMERS, Person, World

MODIFY, LABELS, CONTACTS = (SCOPE + name for name in MAIL_SCOPES)
SCOPES = f"openid email {MODIFY}"
BACK = "http://127.0.0.1:9/back"
VERIFIER = "v" * 50


class Holder:
    world: World
    url = ""


@pytest.fixture(scope="module")
def holder() -> Holder:
    return Holder()


@pytest.fixture(scope="module")
def app(holder: Holder) -> Flask:
    return google_identity.create_app(lambda: holder.world, public_url=lambda: holder.url)


@pytest.fixture(scope="module")
def port(app: Flask, holder: Holder) -> Iterator[Port]:
    with Port(app) as port:
        holder.url = port.url
        yield port


@pytest.fixture
def world(holder: Holder) -> World:
    holder.world = demo.small()
    return holder.world


@pytest.fixture
def me(world: World) -> Person:
    return world.people[0]


@pytest.fixture
def identity(app: Flask) -> GoogleIdentity:
    return identity_of(app)


@pytest.fixture
def client(port: Port, world: World) -> Iterator[httpx.Client]:
    with closing(httpx.Client(base_url=port.url, timeout=5)) as client:
        yield client


def asked(world: World, **more: str) -> dict[str, str]:
    challenge = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
    request = {"client_id": world.client_id, "redirect_uri": BACK, "response_type": "code", "scope": SCOPES, "nonce": "n"}
    return request | {"code_challenge": challenge, "code_challenge_method": "S256"} | more


def brought_back(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 302, answer.text
    return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["Location"]).query).items()}


def redeem(client: httpx.Client, world: World, code: str) -> dict[str, Any]:
    answer = token(client, world, grant_type="authorization_code", code=code, redirect_uri=BACK, code_verifier=VERIFIER)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def sign_in(client: httpx.Client, world: World, me: Person, **more: str) -> dict[str, Any]:
    """Choose a person, agree to everything and redeem the code."""
    back = brought_back(client.post("/o/oauth2/v2/auth", data=asked(world, **more) | {"person": me.email}))
    return redeem(client, world, back["code"])


def token(client: httpx.Client, world: World, **form: str) -> httpx.Response:
    return client.post("/token", data={"client_id": world.client_id, "client_secret": world.client_secret, **form})


def test_a_refresh_token_comes_with_offline_access_and_a_fresh_consent_only(
    client: httpx.Client, world: World, me: Person, identity: GoogleIdentity
) -> None:
    assert "refresh_token" not in sign_in(client, world, me)
    assert "refresh_token" not in sign_in(client, world, me, access_type="offline")
    given = sign_in(client, world, me, access_type="offline", prompt="consent")
    assert {"access_token", "refresh_token", "id_token", "expires_in", "scope", "token_type"} == given.keys()
    grant = identity.grant(given["access_token"])
    assert grant is not None
    assert (grant.person, "gmail.modify" in grant.scopes) == (me, True)


def test_the_id_token_is_signed_with_a_published_key(client: httpx.Client, world: World, me: Person, port: Port) -> None:
    given = sign_in(client, world, me)["id_token"]
    keys = {key["kid"]: jwt.PyJWK(key) for key in client.get("/oauth2/v3/certs").json()["keys"]}
    key = keys[jwt.get_unverified_header(given)["kid"]]
    claims = jwt.decode(given, key.key, algorithms=["RS256"], audience=world.client_id, issuer=port.url)
    assert (claims["sub"], claims["email"], claims["email_verified"], claims["nonce"]) == (subject(me), me.email, True, "n")
    assert claims["hd"] == me.email.partition("@")[2]


def test_googles_library_refreshes_and_learns_that_consent_was_withdrawn(
    client: httpx.Client, world: World, me: Person, port: Port, identity: GoogleIdentity
) -> None:
    given = sign_in(client, world, me, access_type="offline", prompt="consent")
    credentials = Credentials(
        token=None,
        refresh_token=given["refresh_token"],
        token_uri=port.url + "/token",
        client_id=world.client_id,
        client_secret=world.client_secret,
    )
    with closing(google.auth.transport.requests.requests.Session()) as session:
        transport = google.auth.transport.requests.Request(session)
        credentials.refresh(transport)
        assert credentials.refresh_token == given["refresh_token"]
        assert identity.grant(credentials.token) is not None
        identity.withdraw_consent(me)
        with pytest.raises(RefreshError, match="Token has been expired or revoked"):
            credentials.refresh(transport)
    assert identity.grant(credentials.token) is None


def test_a_refresh_answers_without_a_new_refresh_token(client: httpx.Client, world: World, me: Person) -> None:
    kept = sign_in(client, world, me, access_type="offline", prompt="consent")["refresh_token"]
    for _ in range(2):
        answer = token(client, world, grant_type="refresh_token", refresh_token=kept)
        assert (answer.status_code, "refresh_token" in answer.json()) == (200, False)
    assert token(client, world, grant_type="refresh_token", refresh_token="x").json()["error"] == "invalid_grant"
    assert token(client, world, grant_type="refresh_token", refresh_token=kept, client_secret="x").status_code == 401


@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
def test_revoking_either_token_ends_the_grant(
    client: httpx.Client, world: World, me: Person, identity: GoogleIdentity, which: str
) -> None:
    given = sign_in(client, world, me, access_type="offline", prompt="consent")
    assert client.post("/revoke", data={"token": given[which]}).status_code == 200
    assert identity.grant(given["access_token"]) is None
    answer = token(client, world, grant_type="refresh_token", refresh_token=given["refresh_token"])
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    again = client.post("/revoke", data={"token": given[which]})
    assert (again.status_code, again.json()["error"]) == (400, "invalid_token")


# The pages


def consent(
    client: httpx.Client, world: World, me: Person, ticked: list[str], answer: str = "continue", **more: str
) -> httpx.Response:
    """Go over both pages: choose the person, tick boxes, press a button."""
    request = asked(world, scope=f"openid email {MODIFY} {LABELS} {CONTACTS}", **more)
    page = client.post("/o/oauth2/v2/auth", data=request | {"step": "account", "person": me.object_id})
    if page.status_code == 302:
        return page
    boxes = re.findall(r'type="checkbox" name="ticked" value="([^"]+)"', page.text)
    assert boxes == [MODIFY, LABELS, CONTACTS]
    pressed = {"step": "consent", "person": me.object_id, "ticked": ticked, "answer": answer}
    return client.post("/o/oauth2/v2/auth", data=request | pressed)


def test_a_box_that_was_not_ticked_is_missing_from_the_answers_scope(
    client: httpx.Client, world: World, me: Person, identity: GoogleIdentity
) -> None:
    back = brought_back(consent(client, world, me, [MODIFY, CONTACTS], access_type="offline", prompt="consent"))
    given = redeem(client, world, back["code"])
    assert set(given["scope"].split()) == {"openid", f"{SCOPE}userinfo.email", MODIFY, CONTACTS}
    assert back["scope"] == given["scope"]
    grant = identity.grant(given["access_token"])
    assert grant is not None
    assert "gmail.labels" not in grant.scopes
    assert given["refresh_token"]
    (event,) = world.events("google_identity", "consent")
    assert (event.actor, LABELS in event.detail["scopes"]) == (me.email, False)


def test_what_was_granted_before_is_ticked_and_can_be_included(client: httpx.Client, world: World, me: Person) -> None:
    brought_back(consent(client, world, me, [MODIFY], prompt="consent"))
    page = client.post("/o/oauth2/v2/auth", data=asked(world, prompt="consent") | {"step": "account", "person": me.object_id})
    assert re.search(rf'value="{re.escape(MODIFY)}" checked', page.text)
    more = sign_in(client, world, me, scope=f"openid {LABELS}", include_granted_scopes="true")
    assert {MODIFY, LABELS} <= set(more["scope"].split())
    assert MODIFY not in sign_in(client, world, me, scope=f"openid {LABELS}")["scope"]


def test_nobody_is_asked_twice_for_the_same_unless_that_is_wanted_or_consent_was_withdrawn(
    client: httpx.Client, world: World, me: Person, identity: GoogleIdentity
) -> None:
    brought_back(consent(client, world, me, [MODIFY, LABELS, CONTACTS]))
    again = client.post("/o/oauth2/v2/auth", data=asked(world) | {"step": "account", "person": me.object_id})
    assert "code" in brought_back(again)
    for change in ({"prompt": "consent"}, {"scope": "openid https://mail.google.com/"}):
        page = client.post("/o/oauth2/v2/auth", data=asked(world, **change) | {"step": "account", "person": me.object_id})
        assert (page.status_code, 'type="checkbox"' in page.text) == (200, True)
    identity.withdraw_consent(me)
    page = client.post("/o/oauth2/v2/auth", data=asked(world) | {"step": "account", "person": me.object_id})
    assert 'type="checkbox"' in page.text


def test_cancelling_on_either_page_is_access_denied_and_nothing_more(client: httpx.Client, world: World, me: Person) -> None:
    first = client.post("/o/oauth2/v2/auth", data=asked(world, state="s") | {"step": "account", "person": ""})
    assert brought_back(first) == {"error": "access_denied", "state": "s"}
    assert brought_back(consent(client, world, me, [MODIFY], answer="cancel", state="s")) == {
        "error": "access_denied",
        "state": "s",
    }
    assert world.events("google_identity", "consent") == []


def test_the_hinted_person_is_preselected(client: httpx.Client, world: World) -> None:
    page = client.get("/o/oauth2/v2/auth", params=asked(world, login_hint=world.people[1].email.upper()))
    assert re.findall(r'value="([^"]*)" autofocus', page.text) == [world.people[1].object_id]


def test_an_account_without_workspace_has_no_hd(client: httpx.Client, world: World, me: Person) -> None:
    me.tenant = CONSUMERS
    claims = jwt.decode(sign_in(client, world, me)["id_token"], options={"verify_signature": False})
    assert (claims["email"], "hd" in claims) == (me.email, False)


def test_an_add_on_is_told_who_its_person_is_and_its_endpoint_that_google_calls(
    client: httpx.Client, world: World, me: Person, identity: GoogleIdentity
) -> None:
    keys = {key["kid"]: jwt.PyJWK(key) for key in client.get("/oauth2/v3/certs").json()["keys"]}

    def read(token: str, audience: str) -> dict[str, Any]:
        key = keys[jwt.get_unverified_header(token)["kid"]]
        return dict(jwt.decode(token, key.key, algorithms=["RS256"], audience=audience))

    person = read(identity.mint_id_token(world, me), ADD_ON)
    assert (person["sub"], person["email_verified"], person["hd"]) == (subject(me), True, demo.OWN_DOMAIN)
    endpoint = "https://sidebar.example.com/gmail/message"
    google_itself = read(identity.mint_system_token(world, endpoint), endpoint)
    assert (google_itself["email"], google_itself["email_verified"]) == (ADD_ON_ACCOUNT, True)
    assert google_itself["sub"] != person["sub"]
    assert google_itself["iss"] == person["iss"]


def test_the_token_of_an_event_is_good_for_its_message_and_an_hour_only(
    world: World, me: Person, identity: GoogleIdentity
) -> None:
    token = identity.mint_message_token(world, me, "17dc95e9aba0547c")
    assert identity.message_grant(token) == MessageGrant(me, "17dc95e9aba0547c")
    assert identity.grant(token) is None  # it opens nothing by itself
    assert identity.message_grant(identity.mint_access_token(world, me)) is None
    assert identity.message_grant(identity.mint_message_token(world, me, "17dc95e9aba0547c", lifetime_s=-1)) is None


def test_google_lies_as_a_test_tells_it(client: httpx.Client, world: World, me: Person, identity: GoogleIdentity) -> None:
    identity.issuer.spoil("claims", hd="elsewhere.example", iss="https://other.example")
    claims = jwt.decode(sign_in(client, world, me)["id_token"], options={"verify_signature": False})
    assert (claims["hd"], claims["iss"]) == ("elsewhere.example", "https://other.example")


def test_an_access_token_is_good_for_its_lifetime_only(world: World, me: Person, identity: GoogleIdentity) -> None:
    token = identity.mint_access_token(world, me, lifetime_s=-1)
    assert identity.grant(token) is None
    assert identity.grant("ya29.unknown") is None
