"""The sign-in services of Microsoft and of C4C for tests: two people, a browser, and a client that redeems what it brings.

Test modules take the fixtures by name, e.g. `entra = issuers.entra`. Tokens are read with joserfc, which they do not use.
"""

import base64
import hashlib
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from joserfc import jwt
from joserfc.jwk import KeySet
from werkzeug.test import TestResponse

from simulator.identity import IdentityProvider, create_app, provider_of
from simulator.world import Person, World

URL = "https://localhost:8443"
BACK = "http://127.0.0.1:8400/settings/signed-in"
VERIFIER = "a-verifier-of-at-least-forty-three-characters-0123456789"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
MARA = Person("Mara <b>Lind</b>", "mara.lind@example.com", "0b8e3f6a-2f5c-4c39-9d0e-6a1f0c2b7d11", "MLIND", "1001", "pw-1")
OKI = Person("Oki Tan", "oki.tan@example.com", "5d2c1a90-77aa-4b0e-8e61-3c9b5f4e2a22", "OTAN", "1002", "pw-2")
ON_BEHALF_OF = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "requested_token_use": "on_behalf_of"}
MAIL = "https://graph.microsoft.com/Mail.ReadWrite"


class Page:
    """What a person finds on a page: its text, its buttons, its boxes."""

    def __init__(self, answer: TestResponse) -> None:
        self.status, self.text = answer.status_code, answer.get_data(as_text=True)
        self._parser = _Parser()
        self._parser.feed(self.text)
        self.tags, self.hidden, self.focused = self._parser.tags, self._parser.hidden, self._parser.focused
        self.buttons, self.boxes, self.action = self._parser.buttons, self._parser.boxes, self._parser.action
        self.alert = " ".join(self._parser.alert.split())


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.hidden: dict[str, str] = {}
        self.buttons: list[str] = []
        self.boxes: dict[str, bool] = {}
        self.focused = self.action = self.alert = ""
        self._in_alert = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        values = {name: value or "" for name, value in attrs}
        self._in_alert = values.get("role") == "alert"
        match tag, values.get("type"):
            case "form", _:
                self.action = values["action"]
            case "input", "hidden":
                self.hidden[values["name"]] = values["value"]
            case "input", "checkbox":
                self.boxes[values["value"]] = "checked" in values
            case "button", _:
                self.buttons.append(values["value"])
                self.focused = values["value"] if "autofocus" in values else self.focused

    def handle_data(self, data: str) -> None:
        self.alert += data if self._in_alert else ""

    def handle_endtag(self, tag: str) -> None:
        self._in_alert = False


def brought_back(answer: TestResponse) -> dict[str, str]:
    """What a browser brings back to the product."""
    assert answer.status_code == 302
    assert answer.location.startswith(BACK + "?")
    return {name: values[0] for name, values in parse_qs(urlsplit(answer.location).query).items()}


@dataclass
class Service:
    """One of the issuers, as a browser and a client see it."""

    client: FlaskClient
    provider: IdentityProvider
    world: World
    root: str  # path of the OAuth endpoints
    scope: str

    def asked(self, **changes: str | None) -> dict[str, str]:
        asked: dict[str, str | None] = {"client_id": self.world.client_id, "response_type": "code", "redirect_uri": BACK}
        asked |= {"scope": self.scope, "state": "s&t=1", "nonce": "n-1"}
        asked |= {"code_challenge": CHALLENGE, "code_challenge_method": "S256"} | changes
        return {name: value for name, value in asked.items() if value is not None}

    def choose(self, person: str = MARA.object_id, **changes: str | None) -> dict[str, str]:
        """Choose somebody on the page; return what the browser brings back."""
        return brought_back(self.client.post(f"{self.root}/authorize", data=self.asked(**changes) | {"person": person}))

    def page(self, **changes: str | None) -> Page:
        """Open the page in the browser that the client is."""
        return Page(self.client.get(f"{self.root}/authorize?{urlencode(self.asked(**changes))}"))

    def press(self, page: Page, name: str, value: str, ticked: list[str] | None = None) -> TestResponse:
        """Press a button of a page."""
        return self.client.post(page.action, data=page.hidden | {name: value, "ticked": ticked or []})

    def token(self, **form: str) -> TestResponse:
        own = {"client_id": self.world.client_id, "client_secret": self.world.client_secret}
        return self.client.post(f"{self.root}/token", data=own | form)

    def redeem(self, code: str, **changes: str) -> TestResponse:
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": VERIFIER}
        return self.token(**(form | changes))

    def tokens(self) -> dict[str, Any]:
        answer = self.redeem(self.choose()["code"])
        assert answer.status_code == 200
        return dict(answer.get_json())

    def refresh(self, refresh_token: str, **form: str) -> TestResponse:
        return self.token(grant_type="refresh_token", refresh_token=refresh_token, **form)


@pytest.fixture
def world() -> World:
    world = World()
    world.people += [MARA, OKI]
    return world


@pytest.fixture(scope="session")
def app_and_worlds() -> tuple[Flask, list[World]]:
    worlds: list[World] = []
    return create_app(lambda: worlds[-1], public_url=lambda: URL), worlds


@pytest.fixture
def entra(app_and_worlds: tuple[Flask, list[World]], world: World) -> Service:
    app, worlds = app_and_worlds
    worlds.append(world)
    scope = f"openid profile offline_access {MAIL}"
    return Service(app.test_client(), provider_of(app), world, f"/{world.entra_tenant}/oauth2/v2.0", scope)


@pytest.fixture
def c4c(entra: Service) -> Service:
    return Service(entra.client, entra.provider, entra.world, "/c4c/oauth2", "openid profile email offline_access")


@pytest.fixture(params=["entra", "c4c"])
def service(request: pytest.FixtureRequest) -> Service:
    return request.getfixturevalue(str(request.param))  # type: ignore[no-any-return]


def get(service: Service, url: str) -> dict[str, Any]:
    answer = service.client.get(url.removeprefix(URL))
    assert answer.status_code == 200
    return dict(answer.get_json())


def read(service: Service, token: str, metadata_url: str) -> dict[str, Any]:
    keys = KeySet.import_key_set(get(service, get(service, metadata_url)["jwks_uri"]))  # type: ignore[arg-type]
    return dict(jwt.decode(token, keys, algorithms=["RS256"]).claims)


def metadata_url(service: Service) -> str:
    base = "/c4c" if service.root.startswith("/c4c") else f"/{service.world.entra_tenant}/v2.0"
    return f"{base}/.well-known/openid-configuration"


def refusal(answer: TestResponse) -> tuple[int, str, int]:
    """Status, error and AADSTS number (0 if it has none)."""
    body = answer.get_json()
    return answer.status_code, body["error"], body.get("error_codes", [0])[0]
