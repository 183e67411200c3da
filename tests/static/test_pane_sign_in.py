"""How the pane signs in where nothing works by itself: what it opens, what it believes, what it says."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, Request, Route, expect

from server.config import Settings
from tests.static.conftest import ORIGIN, Pane
from tests.static.test_pane import FOUND, NOT_CONNECTED, assert_fits_every_theme, problem

pytestmark = pytest.mark.browser

ONLY_DIALOG = {"sets": {"IdentityAPI": "1.0"}}
ON_PREMISES = {**ONLY_DIALOG, "accountType": "enterprise"}
TOKEN = '{"token": "pane token", "expires_in_s": 3600}'
CLOSED, NOT_LOADED, IGNORED, BLOCKED = 12006, 12002, 12009, 12011


def tokens(pane: Pane) -> list[str]:
    """Listen to /api; return the list that fills with calls and their bearer tokens, but for looks at the engine."""
    seen: list[str] = []

    def note(asked: Request) -> None:
        if "/api/" in asked.url and not asked.url.endswith("/sync"):
            seen.append(f"{asked.url.rpartition('/')[2]}: {asked.headers['authorization']}")

    pane.page.on("request", note)
    return seen


def click(page: Page, name: str = "Sign in") -> None:
    page.locator("#main").get_by_role("button", name=name).click()


def in_dialog(page: Page, does: str) -> None:
    opened = "while (!host.dialogs.at(-1)?.dialog.isOpen) await new Promise((resolve) => setTimeout(resolve, 10));"
    page.evaluate(f"async () => {{ {opened} host.dialogs.at(-1).{does}; }}")


def test_the_dialog_is_opened_by_a_click_and_its_token_is_used(open_pane):
    pane = open_pane({"context": FOUND}, **ONLY_DIALOG)
    seen = tokens(pane)
    expect(pane.page.get_by_text("Sign in to see your customers")).to_be_visible()
    assert pane.page.evaluate("host.dialogs") == []
    click(pane.page)
    in_dialog(pane.page, f"say({TOKEN!r})")
    expect(pane.page.get_by_text("Tom Becker")).to_be_visible()
    assert set(seen) == {"context: Bearer pane token"}
    dialog = pane.page.evaluate(
        "host.dialogs.map(({url, options, dialog}) => [url, options.displayInIframe ?? false, dialog.isOpen])"
    )
    assert dialog == [[f"{ORIGIN}/pane/sign-in", False, False]]
    assert pane.page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]


def test_a_token_from_another_origin_is_not_believed(open_pane):
    pane = open_pane({"context": FOUND}, **ONLY_DIALOG)
    seen = tokens(pane)
    click(pane.page)
    in_dialog(pane.page, "say('{\"token\": \"forged\"}', 'https://elsewhere.example')")
    in_dialog(pane.page, f"say({TOKEN!r})")
    expect(pane.page.get_by_text("Tom Becker")).to_be_visible()
    assert set(seen) == {"context: Bearer pane token"}


@pytest.mark.parametrize(
    ("event", "words"),
    [(CLOSED, "Signing in was not finished"), (NOT_LOADED, "The sign-in window cannot be shown")],
)
def test_a_dialog_that_ends_without_a_token_is_said_to_and_can_be_opened_again(open_pane, event, words):
    pane = open_pane({"context": FOUND}, size=(300, 560), **ONLY_DIALOG)
    click(pane.page)
    in_dialog(pane.page, f"end({event})")
    expect(pane.page.locator("#main .title")).to_have_text(words)
    expect(pane.page.get_by_role("status")).to_contain_text("You are still not signed in")
    assert_fits_every_theme(pane)
    click(pane.page)
    in_dialog(pane.page, f"say({TOKEN!r})")
    expect(pane.page.get_by_text("Tom Becker")).to_be_visible()


@pytest.mark.parametrize("code", [IGNORED, BLOCKED])
def test_a_dialog_that_may_not_open_is_said_to(open_pane, code):
    page = open_pane({}, dialogError=code, **ONLY_DIALOG).page
    click(page)
    expect(page.locator("#main .title")).to_have_text("The sign-in window cannot be shown")
    expect(page.locator("#main").get_by_role("button", name="Sign in")).to_be_visible()


def test_an_exchange_account_that_nobody_knows_is_linked_once_by_the_dialog(open_pane):
    linked: list[Any] = []
    answers = {
        "context": lambda _: FOUND if linked else problem(403, "not_linked", ""),
        "link": lambda body: linked.append(body) or (200, {"state": "linked"}),
    }
    pane = open_pane(answers, **ON_PREMISES)
    seen = tokens(pane)
    expect(pane.page.get_by_text("Your Exchange account is not known here yet")).to_be_visible()
    click(pane.page)
    in_dialog(pane.page, f"say({TOKEN!r})")
    expect(pane.page.get_by_text("Tom Becker")).to_be_visible()
    assert linked == [{"token": "identity token"}]
    assert set(seen) == {"context: Bearer identity token", "link: Bearer pane token"}


def test_a_link_that_is_refused_tells_the_cause_beside_the_button(open_pane):
    refusal = problem(409, "identity_taken", "This Exchange account is somebody else's.")
    page = open_pane({"context": problem(403, "not_linked", ""), "link": refusal}, **ON_PREMISES).page
    click(page)
    in_dialog(page, f"say({TOKEN!r})")
    expect(page.locator("#main .title")).to_have_text("Your Exchange account could not be linked")
    expect(page.locator("#main")).to_contain_text("This Exchange account is somebody else's.")
    expect(page.locator("#main").get_by_role("button", name="Sign in")).to_be_visible()


@pytest.mark.parametrize("has_window_api", [False, True])
def test_a_mailbox_that_is_not_connected_has_one_button_to_the_settings_and_a_look_on_return(open_pane, has_window_api):
    answers = {"context": NOT_CONNECTED}
    page = open_pane(answers, sets={"OpenBrowserWindowApi": "1.1"} if has_window_api else {}).page
    expect(page.locator("#main")).to_contain_text("The mailbox refused the password.")
    buttons = page.locator("#main").get_by_role("button")
    expect(buttons).to_have_text(["Connect your mailbox"])
    if has_window_api:
        buttons.click()
        assert page.evaluate("host.opened") == [f"{ORIGIN}/settings/sync/email"]
    else:
        page.context.route("**/settings/sync/email", lambda route: route.fulfill(body="Settings"))
        with page.context.expect_page() as opened:
            buttons.click()
        opened.value.wait_for_url(f"{ORIGIN}/settings/sync/email")
        assert opened.value.evaluate("window.opener") is None
        opened.value.close()
    answers["context"] = FOUND
    page.evaluate("dispatchEvent(new Event('focus'))")
    expect(page.get_by_text("Tom Becker")).to_be_visible()


def test_the_cause_is_told_in_other_languages_among_the_details(open_pane):
    page = open_pane({"context": NOT_CONNECTED}, language="de-DE").page
    expect(page.locator("#main .title")).to_have_text("Ihr Postfach ist nicht verbunden")
    page.get_by_text("Details").click()
    expect(page.locator("#main dl")).to_contain_text("The mailbox refused the password.")
    expect(page.get_by_role("button", name="Postfach verbinden")).to_be_visible()


def test_msal_is_loaded_only_where_apps_are_nested_and_its_absence_leads_to_the_next_way(open_pane):
    fetched: list[str] = []

    def lose(route: Route) -> None:
        fetched.append(route.request.url)
        route.fulfill(status=404)

    pane = open_pane({"context": FOUND})
    expect(pane.page.get_by_text("Tom Becker")).to_be_visible()
    assert pane.page.evaluate("'msal' in window") is False

    nesting = open_pane({"context": FOUND}, sets={"NestedAppAuth": "1.1"}, routes={"**/vendor/*": lose})
    expect(nesting.page.get_by_text("Tom Becker")).to_be_visible()
    assert len(fetched) == 1


BRIDGE = """
const id = ["{}", JSON.stringify({ oid: "o", tid: "t" })].map(btoa).join(".") + ".";
const listeners = [];
window.asked = [];
window.nestedAppAuthBridge = {
  addEventListener: (_, listener) => listeners.push(listener),
  removeEventListener() {},
  postMessage(message) {
    const { method, requestId, tokenParams } = JSON.parse(message);
    asked.push([method, tokenParams?.scope]);
    const answer = method === "GetInitContext"
      ? { initContext: { sdkName: "test", sdkVersion: "1" } }
      : { token: { access_token: "nested token", id_token: id, expires_in: 3600 }, account: { environment: "e" } };
    const text = JSON.stringify({ messageType: "NestedAppAuthResponse", requestId, success: true, ...answer });
    setTimeout(() => listeners.forEach((listener) => listener(text)));
  },
};
"""


def test_the_real_msal_gets_the_token_from_the_mail_client_under_our_content_security_policy(open_pane, settings: Settings):
    pane = open_pane({"context": FOUND}, sets={"NestedAppAuth": "1.1"}, before=BRIDGE)
    expect(pane.page.get_by_text("Tom Becker")).to_be_visible()
    seen = tokens(pane)
    with pane.page.expect_response("**/api/context"):
        pane.page.get_by_role("button", name="Refresh").click()
    assert [method for method, _ in pane.page.evaluate("asked")] == ["GetInitContext", "GetToken"]
    scope = pane.page.evaluate("asked[1][1]")
    assert scope == f"api://sidebar.example.com/{settings.client_id}/access_as_user"
    assert set(seen) == {"context: Bearer nested token"}
    assert pane.page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
