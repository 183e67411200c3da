"""Who comes in, by which way, how many guesses they have, and to whom the dialog of the pane gives its token."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient

from server import wiring
from server.config import Settings
from server.services import Deps
from server.web import create_app
from server.web.throttle import Charge, Throttle, network
from simulator.ports import Simulator
from simulator.world import Fault, World
from tests.web.browser import PANE, SAME_SITE, SETTINGS, Browser

ENTER = "Continue to your company's sign-in"
NEXT = "This sign-in is no longer valid"

Forward = Callable[..., None]
Visitor = Callable[..., Browser]


@pytest.fixture
def deps(process: Callable[..., Deps]) -> Deps:
    return process(failed_sign_ins_per_minute=8, user_calls_per_minute=20)


@pytest.fixture
def passwords(deps: Deps) -> str:
    """Have people sign in by their C4C password; return the tenant's name."""
    with deps.store.transaction() as tx:
        (tenant,) = tx.tenants()
        tx.set_c4c(tenant.id, replace(tenant.c4c, oidc={}), None)
    return tenant.name


def token_of(browser: Browser) -> str:
    """Return the token that the page holds for the pane, "" if none."""
    return "".join(browser.page.xpath("//meta[@name='ssi-token']/@content"))


def status(browser: Browser, token: str) -> int:
    return browser.client.get("/api/me", headers={"Authorization": f"Bearer {token}"}).status_code


def allowed(browser: Browser, name: str) -> str:
    """Return what the page's policy says of something."""
    return dict(part.strip().partition(" ")[::2] for part in browser.answer.headers["Content-Security-Policy"].split(";"))[name]


# The dialog of the pane


def test_a_look_at_the_dialogs_page_gives_no_token_away_and_a_click_does(anna: Browser) -> None:
    name = anna.person.name
    anna.open(PANE)
    assert (anna.path, token_of(anna)) == (PANE, "")
    assert f"You are signed in as {name}, {anna.person.email}." in anna.text
    anna.press(f"Continue as {name}")
    assert status(anna, token_of(anna)) == 200
    assert anna.open(PANE).text.startswith("Use the sidebar")


def test_whoever_signed_in_a_while_ago_proves_it_anew_before_the_pane_gets_a_token(anna: Browser, forward: Forward) -> None:
    form = anna.open(PANE).filled(f"Continue as {anna.person.name}")
    forward(minutes=16)
    for ask in (lambda: anna.open(PANE), lambda: anna.send(*form)):
        ask()
        assert (anna.path, token_of(anna)) == ("/sign-in", "")
        assert "To use the sidebar, sign in again." in anna.text
    assert anna.press(ENTER).path == PANE


def test_somebody_else_signs_in_for_the_pane_and_is_not_whom_the_provider_still_knows(anna: Browser, visitor: Visitor) -> None:
    before = anna.cookie("__Host-ssi")
    anna.open(PANE).press("Somebody else")
    assert (anna.path, anna.cookie("__Host-ssi")) == ("/sign-in", "")
    assert anna.page.xpath("//input[@name='fresh']/@value") == ["1"]
    other = visitor(1)
    anna.person, anna.chooses = other.person, other.chooses
    assert anna.press(ENTER).path == PANE
    assert f"signed in as {other.person.name}" in anna.text
    anna.client.set_cookie("__Host-ssi", before, domain="localhost", secure=True)
    assert anna.open(SETTINGS).path == "/sign-in"


def test_signing_out_ends_the_panes_token_too(anna: Browser) -> None:
    token = anna.token_for_pane()
    assert status(anna, token) == 200
    anna.open(SETTINGS).press("Sign out")
    assert status(anna, token) == 401


def test_nobody_frames_the_dialogs_pages_even_where_the_settings_are_framed(
    deps: Deps, settings: Settings, visitor: Visitor, simulator: Simulator
) -> None:
    face = replace(wiring.face(settings), pages_frame_ancestors=("https://my1.c4c.example",))
    browser = Browser(create_app(deps, face), simulator, visitor().person)
    browser.open(PANE)
    assert browser.press(ENTER).path == PANE
    assert allowed(browser, "frame-ancestors") == "'none'"
    browser.press(f"Continue as {browser.person.name}")
    assert token_of(browser)
    assert allowed(browser, "frame-ancestors") == "'none'"
    assert "/office.js" in browser.answer.text
    assert "https://" in allowed(browser, "script-src")
    browser.open(SETTINGS)
    assert allowed(browser, "frame-ancestors") == "https://my1.c4c.example"


def test_pages_about_a_person_are_read_by_no_other_site(anna: Browser, client: FlaskClient) -> None:
    def policy(path: str) -> str:
        return anna.client.get(path, buffered=True).headers["Cross-Origin-Resource-Policy"]

    assert {policy(path) for path in (SETTINGS, PANE, "/sign-in", f"{SETTINGS}/progress", "/api/me")} == {"same-origin"}
    anna.open(PANE).press(f"Continue as {anna.person.name}")
    assert anna.answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert {policy(path) for path in ("/sidebar", "/static/icons/icon-32.png")} == {"cross-origin"}


# Answers of another provider


def test_an_answer_that_comes_to_another_tenants_address_is_refused(visitor: Visitor, tenant: str) -> None:
    browser = visitor()
    browser.open(SETTINGS)
    path, fields = browser.filled(ENTER)
    browser.answer = browser.client.post(path, data=fields, headers=SAME_SITE)
    (uri,) = parse_qs(urlsplit(browser.leaving()).query)["redirect_uri"]
    assert uri.endswith(f"/sign-in/callback/{tenant}")
    back = browser.at_provider(browser.leaving())
    assert browser.return_by(back.replace(tenant, "f" * 32)).refusal == NEXT
    assert browser.open(SETTINGS).path == "/sign-in"


def test_an_answer_that_comes_to_another_services_address_is_refused(anna: Browser) -> None:
    anna.open(f"{SETTINGS}/change")
    path, fields = anna.filled("Continue to Microsoft")
    anna.answer = anna.client.post(path, data=fields, headers=SAME_SITE)
    back = anna.at_provider(anna.leaving())
    assert anna.return_by(back.replace("/connect/microsoft", "/connect/google")).refusal == NEXT
    assert "Synchronization was enabled" not in anna.return_by(back).text


# Guesses


def guess(browser: Browser, user: str, password: str = "wrong") -> int:
    return browser.open("/sign-in").press("Sign in", user=user, password=password).answer.status_code


def test_a_user_has_five_guesses_a_minute_from_wherever_and_however_written(
    visitor: Visitor, passwords: str, world: World, forward: Forward
) -> None:
    browser, user = visitor(), visitor().person.user_id
    for number, written in enumerate((user, user.lower(), user.upper(), f" {user}", user)):
        browser.client.environ_base["REMOTE_ADDR"] = f"192.0.2.{number}"
        assert guess(browser, written) == 401
    asked = len(world.requests("c4c"))
    assert guess(browser, user, browser.person.password) == 429
    assert browser.refusal == "That was very often"
    wait_s = int(browser.answer.headers["Retry-After"])
    assert 1 <= wait_s <= 12
    assert f"Wait {wait_s} s" in browser.text
    assert len(world.requests("c4c")) == asked, "C4C is not asked, which counts guesses of its own"
    assert guess(browser, "SOMEBODY") == 401, "another user's guesses are another's"
    forward(seconds=12)
    assert guess(browser, user, browser.person.password) == 200
    assert browser.path == SETTINGS


def test_who_signs_in_rightly_is_never_told_to_wait(visitor: Visitor, passwords: str) -> None:
    for _ in range(12):
        assert guess(visitor(), visitor().person.user_id, visitor().person.password) == 200


def test_a_network_has_its_guesses_whatever_address_of_it_is_used(visitor: Visitor, passwords: str) -> None:
    browser = visitor()
    answers = []
    for number in range(10):
        browser.client.environ_base["REMOTE_ADDR"] = f"2001:db8:0:7::{number + 1}"
        answers.append(guess(browser, f"USER{number}"))
    assert answers == [401] * 8 + [429] * 2
    browser.client.environ_base["REMOTE_ADDR"] = "2001:db8:0:8::1"
    assert guess(browser, "USER0") == 401
    assert {network(address) for address in ("192.0.2.1", "::ffff:192.0.2.1")} == {"192.0.2.1"}
    assert network("fe80::1%eth0") == network("fe80::2")
    assert (network(None), network("@")) == ("", "@")


def test_while_c4c_is_away_nobody_uses_up_their_guesses(visitor: Visitor, passwords: str, world: World) -> None:
    browser = visitor()
    world.faults.append(Fault("c4c", "status", status=503, retry_after_s=60, times=None))
    assert {guess(browser, browser.person.user_id, browser.person.password) for _ in range(9)} == {503}
    world.faults.clear()
    assert guess(browser, browser.person.user_id, browser.person.password) == 200


def test_a_refused_password_is_logged_once_and_names_nobody(
    visitor: Visitor, passwords: str, tenant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    guess(visitor(), "CANARY-USER", "CANARY-word")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "sign-in refused" in line]
    assert f"tenant={tenant}" in line
    assert "CANARY" not in line


def test_who_waits_for_one_bucket_takes_from_none() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    wide, narrow = Throttle(2, lambda: now), Throttle(1, lambda: now)
    assert Charge((wide, "a"), (narrow, "b")).take() == 0
    assert Charge((wide, "a"), (narrow, "b")).take() == 60
    assert (wide.take("a"), wide.take("a")) == (0, 30)
    wide.give_back("a", 5)
    assert [wide.take("a") for _ in range(3)] == [0, 0, 30], "never more than a minute's"


def test_names_of_tenants_are_not_guessed_by_the_thousand(client: FlaskClient) -> None:
    assert [client.get("/sign-in?tenant=nobody").status_code for _ in range(10)] == [404] * 8 + [429] * 2
    assert client.get("/sign-in").status_code == 200


def test_sign_ins_elsewhere_are_not_begun_by_the_thousand(visitor: Visitor) -> None:
    browser = visitor()
    path, fields = browser.open(SETTINGS).filled(ENTER)
    begun = [browser.client.post(path, data=fields, headers=SAME_SITE).status_code for _ in range(10)]
    assert begun == [200] * 8 + [429] * 2
    unknown = browser.client.post(path, data={**fields, "tenant": "nobody"}, headers=SAME_SITE)
    assert unknown.status_code == 429


def test_ones_own_pages_are_not_read_by_the_thousand(browsers: Visitor) -> None:
    client = browsers().client
    answers = [client.get("/settings/progress").status_code for _ in range(220)]
    assert (answers[0], answers[150], answers[-1]) == (200, 200, 429)


# A tenant whose way to sign in changes


def test_a_form_of_before_the_provider_was_taken_away_leads_to_the_way_there_is_now(
    visitor: Visitor, request: pytest.FixtureRequest
) -> None:
    browser = visitor()
    browser.open(SETTINGS)
    path, fields = browser.filled(ENTER)
    answer = browser.client.post(path, data=fields, headers=SAME_SITE)
    under_way = Browser.leaving(_at(browser, answer))
    request.getfixturevalue("passwords")
    browser.send(path, fields)
    assert (browser.answer.status_code, browser.refusal) == (409, "The way to sign in has changed")
    assert browser.return_by(browser.at_provider(under_way)).refusal == NEXT
    assert guess(browser, browser.person.user_id, browser.person.password) == 200
    assert browser.path == SETTINGS


def test_a_password_form_of_before_there_was_a_provider_leads_to_the_provider(
    visitor: Visitor, passwords: str, deps: Deps, app: APIFlask
) -> None:
    browser = visitor()
    path, fields = browser.open(SETTINGS).filled("Sign in", user="X", password="x")
    with deps.store.transaction() as tx:
        (tenant,) = tx.tenants()
        tx.set_c4c(tenant.id, replace(tenant.c4c, oidc={"issuer": "https://id.example", "client_id": "c"}), None)
    assert browser.send(path, fields).refusal == "The way to sign in has changed"
    assert ENTER in browser.text


def test_who_is_not_set_up_is_told_whom_to_ask(visitor: Visitor, passwords: str, deps: Deps) -> None:
    with deps.store._engine.begin() as connection:
        connection.exec_driver_sql('UPDATE "user" SET enabled = false')
    with deps.store.transaction(reading=True) as tx:
        (tenant,) = tx.tenants()
        contact = tx.organizations(tenant.id)[0].admin_contact
    browser = visitor()
    browser.language = "de"
    browser.open(SETTINGS).press("Anmelden", user=browser.person.user_id, password=browser.person.password)
    assert browser.refusal == "Sie sind noch nicht eingerichtet"
    assert contact in re.sub(r"Details.*", "", browser.text)


def _at(browser: Browser, answer: object) -> Browser:
    browser.answer = answer  # type: ignore[assignment]
    return browser
