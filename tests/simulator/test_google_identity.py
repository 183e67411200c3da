"""The simulated Google sign-in gives and takes tokens as Google does; Google's own library refreshes by it."""

import base64
import hashlib
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
from simulator.google.identity import GoogleIdentity, identity_of, subject
from simulator.serving import Port
from simulator.world import Person, World

SCOPES = "openid email https://www.googleapis.com/auth/gmail.modify"
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


def sign_in(client: httpx.Client, world: World, me: Person, **more: str) -> dict[str, Any]:
    """Go through the sign-in page and redeem the code."""
    challenge = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
    asked = {
        "client_id": world.client_id,
        "redirect_uri": BACK,
        "response_type": "code",
        "scope": SCOPES,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        "nonce": "n",
        "person": me.email,
        **more,
    }
    back = client.post("/o/oauth2/v2/auth", data=asked).headers["Location"]
    code = parse_qs(urlsplit(back).query)["code"][0]
    return token(client, world, grant_type="authorization_code", code=code, redirect_uri=BACK, code_verifier=VERIFIER).json()


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


def test_an_access_token_is_good_for_its_lifetime_only(world: World, me: Person, identity: GoogleIdentity) -> None:
    token = identity.mint_access_token(world, me, lifetime_s=-1)
    assert identity.grant(token) is None
    assert identity.grant("ya29.unknown") is None
