"""The way from signing in to "Synchronization was enabled", page by page, at each service; and what is said when it fails."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from server.services import Deps
from simulator.ews import PATH as EWS_PATH
from simulator.ports import Simulator
from simulator.world import Fault, World
from tests.processes import eventually
from tests.web.browser import SAME_SITE, SETTINGS, Browser

CHANGE = f"{SETTINGS}/change"
ENABLED = "Synchronization was enabled"
BUTTONS = {"office365": "Continue to Microsoft", "google": "Continue to Google"}

Forward = Callable[..., None]
Visitor = Callable[..., Browser]


def connect(browser: Browser) -> Browser:
    """Go from the settings through the wizard of somebody whose organization has chosen the service."""
    browser.open(CHANGE)
    kind = browser.person.access_type
    if kind in BUTTONS:
        return browser.press(BUTTONS[kind])
    return browser.press("Connect", **login(browser))


def login(browser: Browser) -> dict[str, str]:
    """What somebody enters whose server is not found by their address."""
    return {"address": browser.person.email, "password": browser.person.password, "url": browser.simulator.ews.url + EWS_PATH}


@pytest.mark.parametrize("access_type", ["office365", "google", "exchange_direct"], indirect=True)
def test_each_service_leads_from_sign_in_to_synchronization_was_enabled(anna: Browser, work: Callable[[], None]) -> None:
    assert connect(anna).path == f"{SETTINGS}/done", anna.text
    assert anna.heading == ENABLED
    assert anna.person.email in anna.text
    assert ("Open Gmail" if anna.person.access_type == "google" else "Open Outlook") in anna.text
    assert "Waiting to begin." in anna.text
    assert "Waiting for the sidebar" in anna.text
    work()
    assert "Your mailbox is set up." in anna.follow("Check again").text
    assert "Connected" in anna.open(SETTINGS).text


@pytest.mark.parametrize("access_type", ["exchange_impersonation"], indirect=True)
def test_under_impersonation_there_is_nothing_to_do_and_nothing_to_press(anna: Browser) -> None:
    assert "There is nothing for you to do" in anna.text
    assert "Disconnect" not in anna.text
    assert not [link for link in anna.page.xpath("//main//a/@href") if link.startswith(CHANGE)]
    assert anna.open(f"{CHANGE}/exchange").answer.status_code == 404


def test_the_success_page_turns_green_when_the_sidebar_first_calls(anna: Browser, me: object) -> None:
    connect(anna)
    assert anna.client.get(f"{SETTINGS}/progress").json["is_seen"] is False
    me.post("/context", {"item": me.item("known_contact")})  # type: ignore[attr-defined]
    assert eventually(lambda: anna.client.get(f"{SETTINGS}/progress").json["is_seen"])
    assert "The sidebar has called for this mailbox" in anna.open(f"{SETTINGS}/done").text


def test_disconnecting_asks_first_and_can_be_undone(anna: Browser) -> None:
    connect(anna)
    anna.open(SETTINGS).follow("Disconnect")
    assert anna.heading == "Disconnect the mailbox"
    assert "The mailbox is disconnected" in anna.press("Disconnect").text
    assert connect(anna).heading == ENABLED


@pytest.mark.parametrize("access_type", ["google"], indirect=True)
@pytest.mark.parametrize(
    ("language", "said"), [("en", "Google could not be told"), ("de", "Google ließ sich nicht benachrichtigen")]
)
def test_a_service_that_could_not_be_told_of_the_end_is_named_with_the_way_to_end_it(
    anna: Browser, world: World, language: str, said: str
) -> None:
    connect(anna)
    path, fields = anna.open(f"{SETTINGS}/disconnect").filled("Disconnect")
    assert said not in anna.open(f"{SETTINGS}?untold=1").text, "as long as the mailbox is connected"
    world.faults.append(Fault("google_identity", "status", match="/revoke", times=None))
    anna.language = language
    anna.send(path, fields)
    assert said in anna.text
    (link,) = anna.page.xpath("//main//a[starts-with(@href, 'https:')]")
    assert (link.get("href"), link.text) == ("https://myaccount.google.com/permissions", "myaccount.google.com/permissions")
    assert said not in anna.open(SETTINGS).text


def test_a_service_that_was_told_needs_no_more_of_the_person(anna: Browser) -> None:
    connect(anna)
    assert "could not be told" not in anna.open(f"{SETTINGS}/disconnect").press("Disconnect").text


# Refusals


@pytest.mark.parametrize(
    ("chooses", "titles"),
    [
        ("", {"The permission was not given"}),
        ("another", {"This account belongs to another user", "There is no mailbox at this account"}),
    ],
    ids=["cancel", "another"],
)
@pytest.mark.parametrize("access_type", ["office365", "google"], indirect=True)
def test_a_refused_sign_in_says_why_and_leaves_the_old_connection(
    anna: Browser, simulator: Simulator, chooses: str, titles: set[str]
) -> None:
    assert connect(anna).heading == ENABLED
    newcomer = simulator.world.people[1].object_id
    anna.chooses = newcomer if chooses else ""
    connect(anna)
    assert anna.refusal in titles
    assert "Your present connection stays as it was." in anna.text
    assert "Connected" in anna.open(SETTINGS).text


@pytest.mark.parametrize("access_type", ["exchange_direct"], indirect=True)
def test_a_wrong_password_opens_the_extended_login_and_is_never_shown_again(anna: Browser) -> None:
    anna.open(CHANGE).press("Connect", **{**login(anna), "password": "hunter2 & <b>'\"é"})
    assert anna.refusal == "The user name or the password is not accepted"
    assert "hunter2" not in anna.answer.text
    assert anna.page.xpath("//input[@name='address']/@value") == [anna.person.email]
    assert anna.page.xpath("//input[@name='password']/@aria-invalid") == ["true"]
    assert anna.page.xpath("//details[@open]//input[@name='user']")
    assert anna.press("Connect", password=anna.person.password).heading == ENABLED


@pytest.mark.parametrize("access_type", ["exchange_direct"], indirect=True)
@pytest.mark.parametrize(
    ("fields", "title"),
    [
        ({"address": "nonsense"}, "Please check what you entered"),
        ({"address": ""}, "Please check what you entered"),
        ({"password": ""}, "Please check what you entered"),
        ({"password": "x" * 1025}, "Please check what you entered"),
        ({"address": "somebody@elsewhere.example"}, "This is another person's mailbox"),
        ({"url": "https://169.254.169.254/EWS/Exchange.asmx"}, "The Exchange server cannot be reached"),
        ({"url": "https://outlook.office365.com/EWS/Exchange.asmx"}, "This mailbox is at Microsoft 365"),
        ({"url": "javascript:alert(1)"}, "Please check what you entered"),
    ],
    ids=lambda given: next(iter(given.values()))[:30] if isinstance(given, dict) else "",
)
def test_what_is_entered_wrong_is_told_at_its_field(anna: Browser, fields: dict[str, str], title: str) -> None:
    anna.open(CHANGE).press("Connect", **{**login(anna), **fields})
    assert anna.answer.status_code == 422
    assert anna.refusal == title
    (wrong,) = anna.page.xpath("//input[@aria-invalid='true']/@name") or [""]
    assert wrong == next(iter(fields))
    assert anna.page.xpath(f"//*[@role='alert']//a[@href='#{wrong}']")


@pytest.mark.parametrize("access_type", ["google"], indirect=True)
@pytest.mark.parametrize(
    ("language", "said"), [("en", "read and change your contacts"), ("de", "Ihre Kontakte lesen und ändern")]
)
def test_what_was_left_unticked_is_said_in_words(anna: Browser, language: str, said: str) -> None:
    anna.open(CHANGE)
    button = {"en": BUTTONS["google"], "de": "Weiter zu Google"}[language]
    anna.ticks, anna.language = False, language
    anna.open(CHANGE).press(button)
    (summary,) = anna.page.xpath("//*[@role='alert']")
    assert f": {said}." in summary.text_content()


@pytest.mark.parametrize("access_type", ["exchange_direct"], indirect=True)
def test_a_server_that_is_not_the_administrators_gets_no_password_and_the_contact_is_named(anna: Browser, deps: Deps) -> None:
    with deps.store._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE organization SET ews_url = 'https://mail.example.com/EWS/Exchange.asmx'")
    anna.open(CHANGE).press("Connect", **login(anna))
    assert anna.refusal == "The Exchange server is not known to be your company's"
    assert anna.page.xpath("//input[@name='url']/@aria-invalid") == ["true"]
    (summary,) = anna.page.xpath("//*[@role='alert']")
    with deps.store.transaction(reading=True) as tx:
        (contact,) = {organization.admin_contact for organization in tx.organizations(tx.tenants()[0].id)}
    assert contact in summary.xpath("string(*[@class='contact'])")


@pytest.mark.parametrize("access_type", ["exchange_direct"], indirect=True)
def test_a_second_try_beside_the_first_is_told_to_wait(anna: Browser, deps: Deps) -> None:
    with deps.store.transaction(reading=True) as tx:
        (tenant,) = tx.tenants()
        user = tx.user_by_c4c_id(tenant.id, anna.person.user_id)
    assert user is not None
    anna.open(CHANGE)
    assert deps.tries.begin(user.id)
    assert anna.press("Connect", **login(anna)).refusal == "Another try is under way"
    deps.tries.end(user.id)
    assert anna.press("Connect", password=anna.person.password).heading == ENABLED


def test_a_sign_in_can_come_back_once_and_to_its_own_browser(visitor: Visitor) -> None:
    thief, owner = visitor(), visitor()
    owner.open(SETTINGS)
    path, fields = owner.filled("Continue to your company's sign-in")
    owner.answer = owner.client.post(path, data=fields, headers=SAME_SITE)
    back = owner.at_provider(owner.leaving())
    assert thief.return_by(back).refusal == "This sign-in is no longer valid"
    assert owner.return_by(back).path == SETTINGS
    assert owner.return_by(back).refusal == "This sign-in is no longer valid"


def test_before_the_connection_is_changed_an_old_sign_in_is_renewed(anna: Browser, forward: Forward) -> None:
    forward(minutes=16)
    assert anna.open(SETTINGS).path == SETTINGS
    assert anna.open(CHANGE).path == "/sign-in"
    assert "Before your mailbox connection is changed, sign in again." in anna.text
    before = anna.cookie("__Host-ssi")
    anna.press("Continue to your company's sign-in")
    assert anna.path.startswith(CHANGE)
    assert anna.cookie("__Host-ssi") != before


def test_a_person_who_was_taken_away_is_out_at_once_and_told_whom_to_ask(anna: Browser, deps: Deps) -> None:
    with deps.store._engine.begin() as connection:
        connection.exec_driver_sql('UPDATE "user" SET enabled = false')
    assert anna.open(CHANGE).path == "/sign-in"
    anna.press("Continue to your company's sign-in")
    assert anna.refusal == "You are not set up yet"


def test_a_service_that_is_away_is_told_so(anna: Browser, world: World) -> None:
    world.faults.append(Fault("identity", "drop", times=None))
    anna.open(CHANGE).press(BUTTONS["office365"])
    assert anna.refusal == "The service does not answer"


def test_pages_speak_german_to_who_wants_it(browsers: Visitor) -> None:
    browser = browsers(0)
    browser.language = "de-AT,de;q=0.9,en;q=0.5"
    assert browser.open(SETTINGS).heading == "E-Mail-Konfiguration"
    assert browser.answer.headers["Content-Language"] == "de"


def test_the_dialogs_page_holds_a_token_for_the_pane_that_works(visitor: Visitor) -> None:
    browser = visitor()
    browser.open("/pane/sign-in")
    assert browser.path == "/sign-in"
    browser.press("Continue to your company's sign-in")
    assert browser.path == "/pane/sign-in"
    browser.press(f"Continue as {browser.person.name}")
    (meta,) = browser.page.xpath("//meta[@name='ssi-token']")
    assert int(meta.get("data-expires-in-s")) > 0
    me = browser.client.get("/api/me", headers={"Authorization": f"Bearer {meta.get('content')}"})
    assert me.json["user"]["email"] == browser.person.email
    assert browser.answer.headers["Cache-Control"] == "no-store"
    assert browser.page.xpath("//script/@src")[0].endswith("/office.js")
