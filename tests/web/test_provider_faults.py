"""What a person reads when a sign-in service lies, is wrong or is away: at our own sign-in, and when a mailbox is connected.

That each lie is refused, and how, tests/auth shows; here each is met once through the pages. Nothing changes by any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from server.services import Deps
from server.web.auth import SESSION
from simulator.openid import Issuer
from simulator.world import Fault
from tests.web.browser import SETTINGS, Browser

CHANGE = f"{SETTINGS}/change"
CONTINUE = "Continue to your company's sign-in"
BUTTONS = {"office365": "Continue to Microsoft", "google": "Continue to Google"}

Visitor = Callable[..., Browser]
Lie = Callable[[Browser, Issuer], None]


def now(browser: Browser, seconds: float) -> int:
    return int((browser.simulator.world.now() + timedelta(seconds=seconds)).timestamp())


def says(what: Any, **instead: Any) -> Lie:
    return lambda _browser, issuer: issuer.spoil(what, **instead)


def fails(kind: str, **more: Any) -> Lie:
    def fail(browser: Browser, issuer: Issuer) -> None:
        vendor = "google_identity" if issuer.name == "google" else "identity"
        browser.simulator.world.faults.append(Fault(vendor, kind, "/token", times=None, **more))

    return fail


def wrong_clock(minutes: int) -> Lie:
    """Let the provider's clock be behind ours, so that its tokens have expired when they come."""
    return lambda browser, issuer: issuer.spoil("claims", iat=now(browser, -3600 - 60 * minutes), exp=now(browser, -60 * minutes))


LIES: dict[str, tuple[Lie, str]] = {
    "state": (says("answer", state="x" * 43), "This sign-in is no longer valid"),
    "no state": (says("answer", state=None), "This sign-in is no longer valid"),
    "nonce": (says("claims", nonce="another"), "The answer belongs to another sign-in"),
    "another issuer answers": (says("answer", iss="https://login.example.net"), "The answer came from another service"),
    "another issuer's token": (says("claims", iss="https://login.example.net"), "The answer came from another service"),
    "for another client": (says("claims", aud="another"), "The sign-in could not be verified"),
    "a clock 7 minutes slow": (wrong_clock(7), "The sign-in could not be verified"),
    "no ID token": (says("tokens", id_token=None), "The sign-in could not be verified"),
    "an invented code": (says("answer", code="1.invented"), "This sign-in was used already"),
    "an error of its own": (says("answer", code=None, error="server_error"), "The service does not answer"),
    "our request refused": (says("answer", code=None, error="invalid_request"), "Signing in did not succeed"),
    "an administrator is needed": (
        says("answer", code=None, error="access_denied", error_description="AADSTS90094: no"),
        "Your administrator has to allow this first",
    ),
    "away": (fails("drop"), "The service does not answer"),
    "slow": (fails("status", status=429, retry_after_s=30), "The service does not answer"),
    "broken": (fails("garbage"), "The service does not answer"),
}


def test_who_signs_in_to_the_pages_reads_what_is_wrong(visitor: Visitor) -> None:
    for name, (spoil, title) in LIES.items():
        browser = visitor().open(SETTINGS)
        with spoilt(browser, browser.simulator.provider.c4c, spoil):
            assert browser.press(CONTINUE).refusal == title, (name, browser.text)
        assert browser.answer.status_code in (422, 503)
        assert not browser.cookie(SESSION)


@pytest.mark.parametrize("access_type", ["office365", "google"], indirect=True)
def test_who_connects_a_mailbox_reads_what_is_wrong(anna: Browser, deps: Deps, access_type: str) -> None:
    issuer = anna.simulator.google_identity.issuer if access_type == "google" else anna.simulator.provider.entra
    assert anna.open(CHANGE).press(BUTTONS[access_type]).path == f"{SETTINGS}/done"
    before = connections(deps)
    for name, (spoil, title) in LIES.items():
        with spoilt(anna, issuer, spoil):
            assert anna.open(CHANGE).press(BUTTONS[access_type]).refusal == title, (name, anna.text)
        assert "Your present connection stays as it was." in anna.text
        assert connections(deps) == before


@contextmanager
def spoilt(browser: Browser, issuer: Issuer, spoil: Lie) -> Iterator[None]:
    spoil(browser, issuer)
    yield
    for what in ("answer", "tokens", "claims"):
        issuer.spoil(what)
    browser.simulator.world.faults.clear()


def connections(deps: Deps) -> list[Any]:
    with deps.store._engine.connect() as connection:
        return list(connection.exec_driver_sql("SELECT id, state, since, credentials FROM connection ORDER BY id"))


@pytest.mark.parametrize("access_type", ["google"], indirect=True)
def test_what_was_left_unticked_is_named(anna: Browser) -> None:
    anna.ticks = False
    anna.open(CHANGE).press(BUTTONS["google"])
    assert anna.refusal == "Something was left unticked"
    assert "contacts" in anna.text


def test_somebody_whose_account_was_disabled_on_the_way_reads_so(anna: Browser) -> None:
    anna.open(CHANGE)
    anna.simulator.provider.entra.spoil(
        "answer", code=None, error="access_denied", error_description="AADSTS50057: The user account is disabled."
    )
    assert anna.press(BUTTONS["office365"]).refusal == "This account cannot be used"


@pytest.mark.parametrize("minutes", [-4, 4])
def test_a_clock_that_is_four_minutes_off_keeps_nobody_out(visitor: Visitor, minutes: int) -> None:
    browser = visitor()
    browser.open(SETTINGS)
    claims = {"iat": now(browser, 60 * minutes), "exp": now(browser, 60 * minutes + (1 if minutes < 0 else 3600))}
    browser.simulator.provider.c4c.spoil("claims", **claims)
    assert browser.press(CONTINUE).path == SETTINGS, browser.text
