"""The pages in a real browser: for every eye and hand, at every width, with scripts and without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from apiflask import APIFlask
from playwright.sync_api import Browser as Chromium, Page, Route, expect

from server.web.auth import SESSION
from tests.web.browser import ORIGIN, SETTINGS, Browser

pytestmark = pytest.mark.browser

AXE = (Path(__file__).resolve().parents[2] / "node_modules" / "axe-core" / "axe.min.js").read_text()
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
VIOLATIONS = (
    "rules => axe.run(document, {runOnly: rules}).then(found => found.violations.map(one => [one.id, one.nodes[0].html]))"
)
LOOKS: dict[str, dict[str, Any]] = {
    "wide": {"viewport": {"width": 1280, "height": 800}},
    "phone": {"viewport": {"width": 320, "height": 568}},
    "dark": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"},
    "forced": {"viewport": {"width": 800, "height": 600}, "forced_colors": "active"},
    "german": {"viewport": {"width": 320, "height": 568}, "locale": "de-DE"},
}
STRANGERS = ["/", "/privacy", "/sign-in", "/sign-in?tenant=nobody", f"/sign-in/callback/{'0' * 32}?state=x"]
PATHS = [SETTINGS, f"{SETTINGS}/change/microsoft365", "/settings/nowhere", "/connect/google?state=x", "/pane/sign-in"]


@contextmanager
def window(browser: Chromium, app: APIFlask, session: str = "", **look: Any) -> Iterator[Page]:
    """Open a window whose requests to us are answered by the application; nothing else is reached."""
    client = app.test_client(use_cookies=False)

    def answer(route: Route) -> None:
        asked = route.request
        if not asked.url.startswith(ORIGIN + "/"):
            return route.abort()
        headers = {name: value for name, value in asked.all_headers().items() if not name.startswith(":")}
        path = asked.url.removeprefix(ORIGIN)
        given = client.open(path, method=asked.method, headers=headers, data=asked.post_data_buffer, buffered=True)
        return route.fulfill(status=given.status_code, headers=dict(given.headers), body=given.data)

    context = browser.new_context(**look)
    try:
        context.route("**/*", answer)
        if session:
            context.add_cookies([{"name": SESSION, "value": session, "url": ORIGIN, "secure": True, "httpOnly": True}])
        yield context.new_page()
    finally:
        context.close()


@pytest.mark.parametrize(
    "look", ["german", "dark", *(pytest.param(look, marks=pytest.mark.soak) for look in ("wide", "phone", "forced"))]
)
def test_every_page_is_for_everybody_at_every_width(browser: Chromium, app: APIFlask, anna: Browser, look: str) -> None:
    """In the ordinary run as narrow as can be, in the language with the longer words, and in the dark; in the soak all LOOKS."""
    for session, paths in (("", STRANGERS), (anna.cookie(SESSION), PATHS)):
        with window(browser, app, session, **LOOKS[look]) as page:
            for path in paths:
                page.goto(ORIGIN + path)
                page.evaluate(AXE)
                assert page.evaluate(VIOLATIONS, RULES) == [], path
                assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), path
                assert page.evaluate("document.querySelectorAll('h1').length") == 1, path


def test_a_refusal_takes_the_focus_without_a_script(browser: Chromium, app: APIFlask, anna: Browser) -> None:
    with window(browser, app, anna.cookie(SESSION), java_script_enabled=False) as page:
        page.goto(f"{ORIGIN}/connect/google?state=x")
        expect(page.get_by_role("alert")).to_be_focused()
        page.keyboard.press("Tab")
        expect(page.get_by_text("Details")).to_be_focused()


def test_the_way_to_the_pages_content_begins_with_a_link_that_skips_the_rest(
    browser: Chromium, app: APIFlask, anna: Browser
) -> None:
    with window(browser, app, anna.cookie(SESSION)) as page:
        page.goto(ORIGIN + SETTINGS)
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("document.querySelector('main').contains(document.activeElement)")
