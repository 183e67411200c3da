"""What works once works once: codes, states, nonces and the tokens we give, whoever brings them again, where and when."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from apiflask import APIFlask

from server import wiring
from server.config import Settings
from server.services import Deps
from server.web import create_app
from server.web.auth import BROWSER, SESSION
from tests.figures import Count
from tests.web.browser import ORIGIN, SAME_SITE, SETTINGS, Browser

CHANGE = f"{SETTINGS}/change"
CONTINUE = "Continue to your company's sign-in"
BUTTONS = {"office365": "Continue to Microsoft", "google": "Continue to Google"}
GONE = "This sign-in is no longer valid"
CODE_SERVICES = pytest.mark.parametrize("access_type", ["office365", "google"], indirect=True)
FIGURE = "web: replays refused"

Processes = Callable[[], APIFlask]
Visitor = Callable[..., Browser]
Forward = Callable[..., None]


@pytest.fixture
def another(process: Callable[..., Deps], settings: Settings) -> Processes:
    """Start the product once more on the same database: beside the first, or after it was stopped."""
    return lambda: create_app(process(), wiring.face(settings))


def left(browser: Browser, path: str, button: str) -> str:
    """Open a page, press what leads to a provider, and agree there; return the address that leads back, not followed yet."""
    at, fields = browser.open(path).filled(button)
    browser.answer = browser.client.post(at, data=fields, headers=SAME_SITE)
    return browser.at_provider(browser.leaving())


def moved(browser: Browser, app: APIFlask) -> Browser:
    """Return the same browser, cookies and all, as another process meets it."""
    other = Browser(app, browser.simulator, browser.person)
    for name in (SESSION, BROWSER):
        if value := browser.cookie(name):
            other.client.set_cookie(name, value)
    return other


def connected_since(deps: Deps) -> list[Any]:
    with deps.store._engine.connect() as connection:
        return list(connection.exec_driver_sql("SELECT state, since, credentials FROM connection ORDER BY id"))


def sessions(deps: Deps) -> int:
    with deps.store._engine.connect() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM page_session").scalar_one())


# Codes and states


@CODE_SERVICES
def test_an_answer_that_was_used_connects_nothing_more_in_any_browser_or_process(
    anna: Browser, browsers: Visitor, another: Processes, deps: Deps, count: Count
) -> None:
    back = left(anna, CHANGE, BUTTONS[anna.person.access_type])
    thief, colleague = Browser(another(), anna.simulator, anna.person), browsers(1)
    for early in (thief, colleague):
        early.return_by(back)
        assert early.path == "/sign-in" or early.refusal == GONE
    assert anna.return_by(back).path == f"{SETTINGS}/done", anna.text
    before = connected_since(deps)
    for late in (anna, moved(anna, another()), colleague, moved(colleague, another())):
        assert late.return_by(back).refusal == GONE
    assert connected_since(deps) == before
    count(FIGURE, 6)


@CODE_SERVICES
def test_a_code_that_was_used_is_worth_nothing_in_a_sign_in_of_ones_own(
    anna: Browser, another: Processes, deps: Deps, count: Count
) -> None:
    used = left(anna, CHANGE, BUTTONS[anna.person.access_type])
    anna.return_by(used)
    before = connected_since(deps)
    for one in (anna, moved(anna, another())):
        fresh = left(one, CHANGE, BUTTONS[one.person.access_type])
        assert one.return_by(_with(fresh, code=_of(used, "code"))).refusal == "This sign-in was used already"
    assert connected_since(deps) == before
    count(FIGURE, 2)


def test_a_sign_in_begun_before_a_restart_ends_after_it_once(
    visitor: Visitor, another: Processes, deps: Deps, count: Count
) -> None:
    browser = visitor()
    back = left(browser, SETTINGS, CONTINUE)
    after = moved(browser, another())
    assert after.return_by(back).path == SETTINGS
    for late in (browser, after, moved(browser, another())):
        late.client.delete_cookie(SESSION)
        assert late.return_by(back).refusal == GONE
    assert sessions(deps) == 1
    count(FIGURE, 3)


def race(browser: Browser, processes: tuple[APIFlask, APIFlask], path: str, button: str) -> list[str]:
    """Bring one answer to two processes at once; return where each sent the browser, "" for a refusal."""
    back = left(browser, path, button)
    query = back.removeprefix(ORIGIN)

    def bring(one: Browser) -> str:
        return str(one.client.get(query).headers.get("Location", ""))

    with ThreadPoolExecutor(2) as pool:
        return sorted(pool.map(bring, [moved(browser, app) for app in processes]))


@pytest.mark.parametrize("rounds", [5, pytest.param(50, marks=pytest.mark.soak)])
@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgres", marks=pytest.mark.soak)], indirect=True)
def test_of_two_processes_that_get_an_answer_at_once_one_takes_it(
    app: APIFlask, anna: Browser, visitor: Visitor, another: Processes, rounds: int, count: Count
) -> None:
    processes = (app, another())
    for _ in range(rounds):
        assert race(visitor(), processes, SETTINGS, CONTINUE) == ["", SETTINGS]
        assert race(anna, processes, CHANGE, BUTTONS["office365"]) == ["", f"{SETTINGS}/done"]
    count(FIGURE, 2 * rounds)


def test_states_and_nonces_are_never_the_same_twice(visitor: Visitor, anna: Browser) -> None:
    seen: list[str] = []
    for _ in range(5):
        for browser, path, button in ((visitor(), SETTINGS, CONTINUE), (anna, CHANGE, BUTTONS["office365"])):
            at, fields = browser.open(path).filled(button)
            browser.answer = browser.client.post(at, data=fields, headers=SAME_SITE)
            seen += [_of(browser.leaving(), name) for name in ("state", "nonce", "code_challenge")]
    assert len(set(seen)) == len(seen) == 30
    assert min(map(len, seen)) >= 22  # 128 bits


# Sessions, tokens of the pane


def test_a_cookie_is_worth_nothing_after_signing_out_in_any_process(
    app: APIFlask, anna: Browser, another: Processes, count: Count
) -> None:
    stolen = [moved(anna, app), moved(anna, another())]
    assert all(one.open(SETTINGS).path == SETTINGS for one in stolen)
    anna.open(SETTINGS).press("Sign out")
    assert all(one.open(SETTINGS).path == "/sign-in" for one in stolen)
    count(FIGURE, 2)


def test_a_cookie_from_before_the_sign_in_is_never_a_session(visitor: Visitor, count: Count) -> None:
    """Nobody can plant a session into somebody's browser and use it once they have signed in."""
    victim, attacker = visitor(), visitor()
    planted = secrets.token_urlsafe(32)
    victim.client.set_cookie(SESSION, planted)
    victim.open(SETTINGS).press(CONTINUE)
    assert victim.path == SETTINGS
    assert victim.cookie(SESSION) != planted
    attacker.client.set_cookie(SESSION, planted)
    assert attacker.open(SETTINGS).path == "/sign-in"
    count(FIGURE, 1)


def test_each_sign_in_ends_the_session_before_it(anna: Browser, another: Processes, forward: Forward, count: Count) -> None:
    before = moved(anna, another())
    forward(minutes=16)
    assert anna.open(CHANGE).path == "/sign-in"
    assert anna.press(CONTINUE).path.startswith(CHANGE)
    assert anna.cookie(SESSION) != before.cookie(SESSION)
    assert before.open(SETTINGS).path == "/sign-in"
    count(FIGURE, 1)


def test_a_token_of_the_pane_is_no_cookie_and_a_cookie_is_no_token(anna: Browser, app: APIFlask, count: Count) -> None:
    token = anna.token_for_pane()
    stranger = Browser(app, anna.simulator, anna.person)
    stranger.client.set_cookie(SESSION, token)
    assert stranger.open(SETTINGS).path == "/sign-in"
    for bearer in (anna.cookie(SESSION), anna.cookie(BROWSER), "ssi_" + anna.cookie(SESSION), token.removeprefix("ssi_")):
        answer = app.test_client().get("/api/me", headers={"Authorization": f"Bearer {bearer}"})
        assert answer.status_code == 401
    assert app.test_client().get("/api/me", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    assert anna.client.get("/api/me").status_code == 401  # which takes no cookies
    count(FIGURE, 6)


# Addresses


def _with(address: str, **changes: str) -> str:
    parts = urlsplit(address)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()} | changes
    return parts._replace(query=urlencode(query)).geturl()


def _of(address: str, name: str) -> str:
    return parse_qs(urlsplit(address).query)[name][0]
