"""People with their browsers in front of the pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from apiflask import APIFlask

from server.services import Deps
from simulator.ports import Simulator
from tests.web.browser import ORIGIN, SETTINGS, Browser


@pytest.fixture
def tenant(deps: Deps) -> str:
    """Id of the tenant that the World's people are of."""
    with deps.store.transaction(reading=True) as tx:
        (found,) = tx.tenants()
    return found.id


@pytest.fixture
def visitor(app: APIFlask, simulator: Simulator, tenant: str) -> Callable[..., Browser]:
    """Give one of the World's people a browser: visitor() is the first, visitor(1) the second."""
    for provider in (simulator.provider, simulator.google_identity):
        paths = (f"sign-in/callback/{tenant}", "connect/microsoft", "connect/google")
        provider.redirect_uris |= {f"{ORIGIN}/{path}" for path in paths}

    def visitor(number: int = 0, **more: str) -> Browser:
        return Browser(app, simulator, simulator.world.people[number], **more)

    return visitor


@pytest.fixture
def browsers(visitor: Callable[..., Browser]) -> Callable[..., Browser]:
    """Give one of the World's people a browser in which they have signed in."""

    def signed_in(number: int = 0, **more: str) -> Browser:
        browser = visitor(number, **more)
        browser.open(SETTINGS)
        button = "Continue to your company's sign-in"
        browser.press(button) if button in browser.text else browser.press(
            "Sign in", user=browser.person.user_id, password=browser.person.password
        )
        assert browser.path == SETTINGS, browser.text
        return browser

    return signed_in


@pytest.fixture
def anna(browsers: Callable[..., Browser]) -> Browser:
    """The first person, signed in, at her settings."""
    return browsers()


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    # No name is looked up: a page that asked for anything but what the test answers would fail at once.
    return {
        **browser_type_launch_args,
        "executable_path": "/usr/bin/chromium",
        "args": ["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"],
    }
