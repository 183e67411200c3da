"""The mail client gives an add-in each way to sign in that real ones have: by the real MSAL.js, by Exchange, by a dialog."""

import json

import pytest
from playwright.sync_api import Frame, Route, expect

from simulator import demo
from simulator.world import AccessType, World
from tests.simulator.inbox_page import Client, box_of, eventually

pytestmark = pytest.mark.browser

CLIENT_ID = "00000000-0000-4000-8000-000000000001"
CONFIG = {
    "auth": {"clientId": CLIENT_ID, "authority": "https://login.example/common"},
    "cache": {"cacheLocation": "memoryStorage"},
}
OF_ITS_API = {"scopes": [f"api://sidebar.example/{CLIENT_ID}/access_as_user"], "forceRefresh": True}
SUPPORTS = "([set, version]) => Office.context.requirements.isSetSupported(set, version)"


@pytest.fixture
def world() -> World:
    return demo.small()


def acquire(pane: Frame, how: str, request: dict[str, object] = OF_ITS_API) -> list[str]:
    """Return the token and the signed-in name, or the names of what MSAL.js says is wrong."""
    script = """async ([how, request, config]) => {
        if (!window.msal) await import("/msal.js");
        window.app ??= await msal.createNestablePublicClientApplication(config);
        return app[how](request).then((r) => [r.accessToken, r.account.username], (error) => [error.name, error.errorCode]);
    }"""
    answer: list[str] = pane.evaluate(script, [how, request, CONFIG])
    return answer


def owner_of(inbox: Client, case: str) -> str:
    return box_of(inbox.world, case).owner.email


def test_msal_gets_a_token_for_the_mailboxs_owner_from_the_host(inbox: Client) -> None:
    pane = inbox.open("known_contact")
    assert pane.evaluate(SUPPORTS, ["NestedAppAuth", "1.1"])
    owner = owner_of(inbox, "known_contact")
    assert acquire(pane, "acquireTokenSilent") == [f"token of {owner}", owner]
    stored = pane.evaluate("[Object.keys(localStorage), Object.keys(sessionStorage), document.cookie]")
    assert stored == [[], [], ""]


def test_msal_gets_no_token_without_a_scope_of_the_add_ins_own_api(inbox: Client) -> None:
    pane = inbox.open("known_contact")
    for scopes in (["openid", "profile"], ["api://sidebar.example/another/access_as_user"]):
        assert acquire(pane, "acquireTokenSilent", {"scopes": scopes}) == ["ServerError", "invalid_scope"]


def test_a_person_who_has_not_agreed_yet_is_asked_by_the_host_and_may_refuse(inbox: Client) -> None:
    pane = inbox.open("known_contact", "naa-interaction")
    assert acquire(pane, "acquireTokenSilent") == ["InteractionRequiredAuthError", "interaction_required"]
    popup = "app.acquireTokenPopup(request).then((r) => r.accessToken, (error) => error.errorCode)"
    for button, outcome in [("Cancel", "user_canceled"), ("Accept", f"token of {owner_of(inbox, 'known_contact')}")]:
        pane.evaluate(f"request => {{ window.outcome = {popup}; }}", OF_ITS_API)
        inbox.page.get_by_role("button", name=button, exact=True).click()
        assert pane.evaluate("outcome") == outcome
    assert acquire(pane, "acquireTokenSilent")[0] == outcome


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        ("account", ["ClientAuthError", "no_account_found"]),
        ("network", ["ClientAuthError", "no_network_connectivity"]),
        ("disabled", ["ClientAuthError", "nested_app_auth_bridge_disabled"]),
        ("transient", ["ServerError", "transient"]),
        ("persistent", ["ServerError", "persistent"]),
        ("bridgeless", ["BrowserAuthError", "no_account_error"]),
    ],
)
def test_nested_app_authentication_fails_as_asked(inbox: Client, failure: str, said: list[str]) -> None:
    assert acquire(inbox.open("known_contact", f"naa-{failure}"), "acquireTokenSilent") == said


@pytest.mark.parametrize(
    ("kind", "host", "supported"),
    [
        ("office365", "", [True, True]),
        ("office365", "no-naa", [False, True]),
        ("office365", "on-premises-sign-in", [False, False]),
        ("exchange_direct", "", [False, True]),
        ("exchange_direct", "on-premises-sign-in", [False, False]),
        ("google", "", [False, True]),
    ],
)
def test_only_microsoft_365_nests_apps_and_only_where_it_is_not_switched_off(
    inbox: Client, kind: AccessType, host: str, supported: list[bool]
) -> None:
    demo.rehome(inbox.world, inbox.world.people[0], kind)
    pane = inbox.open("known_contact", host)
    assert [pane.evaluate(SUPPORTS, each) for each in (["NestedAppAuth", "1.1"], ["IdentityAPI", "1.3"])] == supported
    assert pane.evaluate("'nestedAppAuthBridge' in window") is supported[0]


def test_an_exchange_server_gives_identity_tokens_for_the_add_ins_address_and_exchange_online_none(inbox: Client) -> None:
    asked = []

    def answer(route: Route) -> None:
        asked.append(json.loads(route.request.post_data or ""))
        route.fulfill(json={"token": "header.payload.signature"})

    identity = "new Promise((resolve) => Office.context.mailbox.getUserIdentityTokenAsync((r) => resolve({...r}), 'mine'))"
    online = inbox.open("known_contact").evaluate(identity)
    assert (online["status"], online["error"]["name"], online["asyncContext"]) == ("failed", "GenericTokenError", "mine")

    demo.rehome(inbox.world, box_of(inbox.world, "known_contact").owner, "exchange_direct")
    inbox.page.route("**/api/identity-token", answer)
    pane = inbox.open("known_contact", "on-premises-sign-in")
    assert pane.evaluate(identity)["value"] == "header.payload.signature"
    inbox.page.unroute("**/api/identity-token")
    assert asked == [{"mailbox": owner_of(inbox, "known_contact"), "url": pane.url.partition("?")[0]}]


OPEN_DIALOG = """new Promise((resolve) =>
    Office.context.ui.displayDialogAsync(`${location.origin}/dialog`, {promptBeforeOpen: false}, (r) => {
    r.value?.addEventHandler(Office.EventType.DialogMessageReceived, (e) => events.push(e.message));
    r.value?.addEventHandler(Office.EventType.DialogEventReceived, (e) => events.push(e.error));
    resolve(r.error?.code ?? r.status); }))"""


def test_the_products_dialog_page_hands_its_token_to_the_pane_and_keeps_no_copy(inbox: Client) -> None:
    pane = inbox.open("known_contact")
    with inbox.page.expect_popup() as popup:
        assert pane.evaluate(OPEN_DIALOG.replace("/dialog`", "/pane/sign-in`")) == "succeeded"
    assert eventually(lambda: pane.evaluate("events") == ['{"token":"a.b.c","expires_in_s":900}'], inbox.page)
    assert popup.value.evaluate("document.documentElement.outerHTML.includes('a.b.c')") is False
    popup.value.close()


def test_a_dialog_can_be_refused_blocked_and_broken(inbox: Client) -> None:
    assert inbox.open("known_contact", "no-popups").evaluate(OPEN_DIALOG) == 12009
    assert inbox.open("known_contact", "blocked-popups").evaluate(OPEN_DIALOG) == 12011
    pane = inbox.open("known_contact", "broken-dialogs")
    assert pane.evaluate(OPEN_DIALOG) == "succeeded"
    assert eventually(lambda: 12002 in pane.evaluate("events"), inbox.page)


def test_a_message_for_another_origin_does_not_reach_the_pane(inbox: Client) -> None:
    pane = inbox.open("known_contact")
    with inbox.page.expect_popup() as popup:
        assert pane.evaluate(OPEN_DIALOG) == "succeeded"
    assert eventually(lambda: pane.evaluate("events") == ["signed in"], inbox.page)
    say = "target => Office.context.ui.messageParent(target, {targetOrigin: target})"
    for target in ("https://elsewhere.example", pane.evaluate("location.origin"), "*"):
        popup.value.evaluate(say, target)
    assert eventually(lambda: len(pane.evaluate("events")) == 3, inbox.page)
    assert pane.evaluate("events[1]") == pane.evaluate("location.origin")
    popup.value.close()


def test_a_window_of_the_browser_opens_only_where_the_host_can(inbox: Client) -> None:
    window = "Office.context.ui.openBrowserWindow(location.origin + '/dialog')"
    opens = f"(() => {{ try {{ {window}; }} catch (error) {{ return error.message; }} }})()"
    assert "not supported" in inbox.open("known_contact").evaluate(opens)
    pane = inbox.open("known_contact", "browser-window")
    assert pane.evaluate(SUPPORTS, ["OpenBrowserWindowApi", "1.1"])
    with inbox.page.context.expect_page() as opened:
        pane.evaluate(opens)
    expect(opened.value.get_by_text("Add-in")).to_be_visible()
    assert opened.value.evaluate("window.opener") is None
    opened.value.close()
