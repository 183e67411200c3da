"""Connecting a mailbox as a person does it: User Settings, the service's own pages, and the sidebar that works from then on.

The newcomers of `./run dev` have each one kind of mailbox. The tests share them: whoever needs a mailbox connected, or not, sees
to it first, and whoever breaks something mends it.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.browser import settings
from tests.browser.conftest import WAIT_MS, Desk, Message, Product
from tests.browser.settings import ENABLED, STAYS, Settings

pytestmark = pytest.mark.browser

shown_without_a_browser = pytest.mark.soak
"""What tests/web shows in every run by the same pages, if not to the eye."""

SAVED = re.compile("^Saved .* by you")
ADMIN = "it@aldermill.example"
MICROSOFT, EXCHANGE, GOOGLE, OUTLOOK = range(4)  # the newcomers


def newcomer(desk: Desk, number: int) -> Settings:
    return settings.of(desk.page.context, desk.product, desk.product.facts["newcomers"][number])


def letter(mine: Settings, subject: str) -> Message:
    """A message to this person that no other test has, with somebody on it who is in C4C."""
    return mine.product.write_to(mine.email, subject)


def select(desk: Desk, message: Message, host: str = "") -> None:
    """Select a message beside the sidebar, whose language is English, and wait until something is to be read there."""
    desk.go(message, host=",".join(filter(None, ("language-en", host))))
    expect(desk.pane.locator("#headline")).to_contain_text(message.subject, timeout=WAIT_MS)
    expect(desk.pane.locator("#main[aria-busy=false]")).to_be_visible(timeout=WAIT_MS)


def step(desk: Desk, name: str) -> Locator:
    """What the sidebar offers instead of records."""
    return desk.pane.locator("#main").get_by_role("button", name=name, exact=True)


def dialog_of(desk: Desk, mine: Settings, name: str = "Sign in") -> Settings:
    """Press what opens the sidebar's own sign-in, allow it, and return its window."""
    step(desk, name).click()
    with desk.page.expect_popup() as popup:
        desk.page.get_by_role("button", name="Allow").click()
    return Settings(popup.value, mine.product, mine.who)


def save(desk: Desk, message: Message, mark: str) -> None:
    desk.save_button.click()
    expect(desk.bar.get_by_text(SAVED)).to_be_visible(timeout=WAIT_MS)
    expect(desk.row(message)).to_contain_text(mark, timeout=WAIT_MS)
    assert len(desk.product.saved(message)) == 1


# -- From sign-in to a working sidebar ------------------------------------------------------------------------------------


def test_a_mailbox_at_microsoft_365_is_connected_and_the_sidebar_works(desk: Desk) -> None:
    mine = newcomer(desk, MICROSOFT)
    mine.have_disconnected()
    mine.product.happens(mine.email, "consent")  # so that Microsoft asks
    mine.open()
    mine.choose("MS Office 365")
    mine.to_service()
    mine.choose_account()
    mine.consent()
    works(desk, mine, "Open Outlook", "Saved in SAP Cloud for Customer")


def test_a_mailbox_at_google_is_connected_and_the_sidebar_works(desk: Desk) -> None:
    mine = newcomer(desk, GOOGLE)
    mine.have_disconnected()
    mine.open()
    mine.choose("Google")
    mine.agree_at_google()
    works(desk, mine, "Open Gmail", "SAP E-Mails/Saved")


def test_a_personal_mailbox_at_outlook_com_is_connected_on_microsofts_page_without_a_password(desk: Desk) -> None:
    mine = newcomer(desk, OUTLOOK)
    mine.have_disconnected()
    mine.open()
    mine.choose("MS Exchange/Outlook.com")
    expect(mine.page.get_by_label("E-mail address")).to_have_value(mine.email)
    mine.button("Connect").click()
    mine.choose_account()
    works(desk, mine, "Open Outlook", "Saved in SAP Cloud for Customer")


def test_a_mailbox_at_exchange_is_connected_by_the_extended_login_and_its_account_linked_once(desk: Desk) -> None:
    mine = newcomer(desk, EXCHANGE)
    mine.have_disconnected()
    mine.open()
    mine.choose("MS Exchange/Outlook.com")
    mine.page.get_by_label("Password").fill(mine.who["mailbox"]["password"])
    mine.button("Connect").click()  # by the address alone no server is found here
    mine.refused("Your Exchange server was not found", "Enter the address of the server below.")
    mine.page.get_by_label("Address of the Exchange server").fill(mine.ews_url)
    mine.page.get_by_label("Password").fill(mine.who["mailbox"]["password"])
    mine.button("Connect").click()
    expect(mine.heading).to_have_text(ENABLED, timeout=WAIT_MS)

    message = letter(mine, "For the companys own server")
    select(desk, message)
    expect(desk.pane.get_by_text("Your Exchange account is not known here yet")).to_be_visible()
    dialog_of(desk, mine).continue_as()
    expect(desk.cards.first).to_be_visible(timeout=WAIT_MS)
    # from now on the account itself is enough
    works(desk, mine, "Open Outlook", "Saved in SAP Cloud for Customer")


def works(desk: Desk, mine: Settings, find: str, mark: str) -> None:
    """Expect the page of success to become green while the first message is saved by the sidebar."""
    expect(mine.heading).to_have_text(ENABLED, timeout=WAIT_MS)
    expect(mine.main).to_contain_text(mine.email)
    expect(mine.main).to_contain_text(find)
    message = letter(mine, f"The first one for {mine.email}")
    select(desk, message)
    expect(desk.cards.first).to_be_visible(timeout=WAIT_MS)
    save(desk, message, mark)
    expect(mine.progress).to_have_text("Your mailbox is set up.", timeout=WAIT_MS)
    expect(mine.sidebar_seen).to_have_text("The sidebar has called for this mailbox. All is ready.", timeout=WAIT_MS)
    expect(mine.sidebar_seen).to_have_attribute("data-seen", "yes")
    assert mine.faults() == []


def test_under_impersonation_the_person_does_nothing_and_has_nothing_to_press(desk: Desk, product: Product) -> None:
    user = product.person("exchange_impersonation").user
    mine = settings.of(desk.page.context, product, product.facts["users"][user])
    mine.open()
    expect(mine.main).to_contain_text("Your administrator has set this up for you. There is nothing for you to do.")
    expect(mine.main.get_by_role("button")).to_have_count(0)
    expect(mine.main.get_by_role("link", name=re.compile("Change|Connect|Disconnect"))).to_have_count(0)
    assert mine.faults() == []
    select(desk, mine.product.write_to(mine.email, "Nothing to do"))
    expect(desk.cards.first).to_be_visible(timeout=WAIT_MS)


@pytest.mark.parametrize(
    ("access_type", "title"),
    [
        ("exchange_direct", "Sign in to Exchange or Outlook.com"),
        pytest.param("office365", "Sign in at Microsoft", marks=pytest.mark.soak),
        pytest.param("google", "Sign in at Google", marks=pytest.mark.soak),
    ],
)
def test_where_the_organization_has_chosen_the_service_nobody_is_asked(
    desk: Desk, product: Product, access_type: str, title: str
) -> None:
    mine = settings.of(desk.page.context, product, product.facts["users"][product.person(access_type).user])
    mine.open("/change")
    expect(mine.heading).to_have_text(title)
    mine.link("Back").click()
    expect(mine.heading).to_have_text("E-Mail Configuration")


# -- Disconnected, broken, and mended by one click ------------------------------------------------------------------------


def test_a_disconnected_mailbox_is_said_in_the_sidebar_and_one_click_there_leads_to_mend_it(desk: Desk) -> None:
    mine = newcomer(desk, GOOGLE)
    mine.have_connected()
    mine.open()
    mine.link("Disconnect").click()
    expect(mine.main).to_contain_text(f"The mailbox {mine.email} is no longer synchronized")
    assert mine.faults() == []
    mine.button("Disconnect").click()
    expect(mine.main).to_contain_text("The mailbox is disconnected")
    mine.page.close()

    select(desk, letter(mine, "While disconnected"))
    expect(desk.pane.locator("#banner").get_by_role("button", name="Connect your mailbox")).to_be_visible(timeout=WAIT_MS)
    expect(desk.pane.locator("#header")).to_contain_text("Not connected")
    desk.save_button.click()
    expect(desk.pane.locator("#main")).to_contain_text("Your mailbox is not connected", timeout=WAIT_MS)
    again = by_the_sidebars_button(desk, mine)
    again.choose("Google")
    again.agree_at_google()
    expect(again.heading).to_have_text(ENABLED, timeout=WAIT_MS)
    come_back(desk, again)


def come_back(desk: Desk, tab: Settings) -> None:
    """From a tab to the sidebar, where the records come by themselves."""
    tab.page.close()
    desk.page.bring_to_front()
    # Headless windows neither lose nor get it. A frame that is replaced just now has a successor, for which the locator waits.
    desk.frame.locator("html").evaluate("() => dispatchEvent(new Event('focus'))", timeout=WAIT_MS)
    expect(desk.cards.first).to_be_visible(timeout=WAIT_MS)


def by_the_sidebars_button(desk: Desk, mine: Settings) -> Settings:
    with desk.page.context.expect_page() as opening:
        step(desk, "Connect your mailbox").click()
    page = Settings(opening.value, mine.product, mine.who)
    expect(page.heading).to_be_visible(timeout=WAIT_MS)
    if "/sign-in" in page.page.url:
        page.sign_in()
    return page


def test_a_withdrawn_permission_is_told_in_the_sidebar_in_the_settings_and_by_mail_and_mended_by_one_click(
    desk: Desk, product: Product
) -> None:
    mine = newcomer(desk, GOOGLE)
    mine.have_connected()
    message = letter(mine, "After the permission was withdrawn")
    select(desk, message)
    mails = len(product.mails_to(mine.email))
    product.happens(mine.email, "consent")
    desk.save_button.click()
    expect(desk.pane.locator("#main")).to_contain_text("Your mailbox is not connected", timeout=WAIT_MS)

    again = by_the_sidebars_button(desk, mine)
    expect(again.main).to_contain_text("The mailbox has to be connected again")
    expect(again.main).to_contain_text("Needs a new sign-in")
    assert again.faults() == []
    again.link("Connect again").click()
    again.agree_at_google()
    expect(again.heading).to_have_text(ENABLED, timeout=WAIT_MS)
    come_back(desk, again)
    save(desk, message, "SAP E-Mails/Saved")
    (told,) = product.mails_to(mine.email)[mails:]
    assert told["headers"]["subject"].startswith("SSI Sidebar")
    assert f"{product.facts['server']}{settings.HOME}" in told["text"]


# -- Refusals at the services ---------------------------------------------------------------------------------------------


@pytest.fixture
def mine(desk: Desk, request: pytest.FixtureRequest) -> Iterator[Settings]:
    """A newcomer whose mailbox is connected, and stays so whatever the test tries."""
    mine = newcomer(desk, getattr(request, "param", MICROSOFT))
    mine.have_connected()
    mine.open("/change")
    yield mine
    mine.open()
    expect(mine.main.get_by_text("Connected", exact=True)).to_be_visible()
    expect(mine.main).to_contain_text(mine.email)


def at_microsoft(mine: Settings) -> None:
    mine.link("MS Office 365").click()
    mine.to_service()


@shown_without_a_browser
def test_a_declined_request_is_told_and_the_old_connection_stays(mine: Settings) -> None:
    at_microsoft(mine)
    mine.button("Cancel").click()
    mine.refused("The permission was not given", "Try again, and accept what is asked there.")
    expect(mine.alert).to_contain_text(STAYS)
    mine.to_service()  # the next step is on the same page
    mine.choose_account()
    expect(mine.heading).to_have_text(ENABLED, timeout=WAIT_MS)


@shown_without_a_browser
@pytest.mark.parametrize("mine", [GOOGLE], indirect=True)
def test_a_box_left_unticked_at_google_is_named(mine: Settings) -> None:
    mine.link("Google").click()
    mine.to_service()
    mine.choose_account()
    mine.consent(all_boxes=False)
    mine.refused("Something was left unticked", "Try again, and tick all of them.")
    expect(mine.alert).to_contain_text("contacts")


@shown_without_a_browser
def test_what_only_an_administrator_may_allow_names_whom_to_ask(mine: Settings) -> None:
    mine.product.happens(mine.email, "admin", "90094")
    at_microsoft(mine)
    mine.choose_account()
    expect(mine.heading).to_have_text("Need admin approval")
    mine.button("Return to the application").click()
    mine.product.happens(mine.email, "admin", "0")
    mine.refused("Your administrator has to allow this first", "Ask your administrator to grant consent for SSI Sidebar")
    expect(mine.alert.get_by_role("link", name=ADMIN)).to_be_visible()


@shown_without_a_browser
def test_a_colleagues_account_is_refused_by_name(mine: Settings) -> None:
    colleague = mine.product.message("not_set_up").mailbox  # nobody set them up, so that the account is nobody else's here
    at_microsoft(mine)
    mine.choose_account(colleague)
    mine.refused("This is another person's mailbox", f"Try again and sign in as {mine.email}")
    expect(mine.alert).to_contain_text(f"You signed in as {colleague}")
    expect(mine.alert).to_contain_text(STAYS)


@shown_without_a_browser
def test_the_account_of_another_user_is_refused(mine: Settings) -> None:
    at_microsoft(mine)
    mine.choose_account(mine.product.facts["users"][0]["email"])
    mine.refused("This account belongs to another user", "Try again with your own account")
    expect(mine.alert.get_by_role("link", name=ADMIN)).to_be_visible()


@shown_without_a_browser
def test_an_answer_that_was_used_or_never_asked_for_changes_nothing(mine: Settings) -> None:
    answers: list[str] = []
    mine.page.on("request", lambda request: answers.append(request.url) if "/connect/" in request.url else None)
    at_microsoft(mine)
    mine.choose_account()
    expect(mine.heading).to_have_text(ENABLED, timeout=WAIT_MS)
    mine.page.goto(answers[-1])
    mine.refused("This sign-in is no longer valid", "Start again from here.")
    mine.page.goto(f"{mine.product.facts['server']}/connect/microsoft?code=made-up&state=made-up")
    mine.refused("This sign-in is no longer valid", "Start again from here.")


@shown_without_a_browser
def test_going_back_after_success_and_forth_again_says_that_it_was_used(mine: Settings) -> None:
    at_microsoft(mine)
    mine.choose_account()
    expect(mine.heading).to_have_text(ENABLED, timeout=WAIT_MS)
    mine.page.reload()
    expect(mine.heading).to_have_text(ENABLED)
    mine.page.go_back()
    mine.choose_account()
    mine.refused("This sign-in is no longer valid", "Start again from here.")


@shown_without_a_browser
def test_two_tabs_in_the_wizard_do_not_disturb_each_other(mine: Settings) -> None:
    other = mine.another_tab()
    other.open("/change")
    at_microsoft(mine)
    at_microsoft(other)
    mine.choose_account()
    expect(mine.heading).to_have_text(ENABLED, timeout=WAIT_MS)
    other.choose_account()
    expect(other.heading).to_have_text(ENABLED, timeout=WAIT_MS)


@shown_without_a_browser
def test_signed_out_in_another_tab_the_wizard_asks_to_sign_in_and_goes_on_where_it_was(mine: Settings) -> None:
    other = mine.another_tab()
    mine.link("MS Office 365").click()
    other.open()
    other.button("Sign out").click()
    expect(other.main).to_contain_text("You are signed out.")
    mine.to_service()
    mine.sign_in()
    expect(mine.heading).to_have_text("Sign in at Microsoft")


@shown_without_a_browser
def test_a_session_that_ends_at_the_service_is_asked_for_again_and_nothing_was_connected(mine: Settings) -> None:
    at_microsoft(mine)
    expect(mine.heading).to_have_text("Who is signing in?", timeout=WAIT_MS)
    mine.page.context.clear_cookies(name="__Host-ssi")
    mine.choose_account()
    expect(mine.heading).to_have_text("Sign in")
    assert mine.faults() == []
    mine.sign_in()
    expect(mine.heading).to_have_text("E-Mail Configuration")


@shown_without_a_browser
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 503, "times": None},
        pytest.param({"kind": "hang", "seconds": 30, "times": 1}, marks=pytest.mark.soak),
        pytest.param({"kind": "garbage", "times": None}, marks=pytest.mark.soak),
    ],
    ids=lambda fault: fault["kind"],
)
def test_a_service_that_is_away_is_told_and_trying_again_is_enough(mine: Settings, fault: dict[str, Any]) -> None:
    at_microsoft(mine)
    mine.product.fault("identity", match="oauth2/v2.0/token", **fault)
    mine.choose_account()
    expect(mine.alert.get_by_role("heading")).to_have_text("The service does not answer", timeout=3 * WAIT_MS)
    mine.refused("The service does not answer", "Try again in a moment.")
    mine.product.heal()
    mine.to_service()
    mine.choose_account()
    expect(mine.heading).to_have_text(ENABLED, timeout=WAIT_MS)


# -- Refusals of the company's own Exchange -------------------------------------------------------------------------------

PRIVATE = "https://10.0.0.1/EWS/Exchange.asmx"
ONLINE = "https://outlook.office365.com/EWS/Exchange.asmx"


@shown_without_a_browser
@pytest.mark.parametrize("mine", [EXCHANGE], indirect=True)
def test_every_login_that_exchange_does_not_take_is_told_at_its_field_and_the_password_is_never_shown(mine: Settings) -> None:
    mine.link("MS Exchange/Outlook.com").click()
    refused, unreachable = "The user name or the password is not accepted", "The Exchange server cannot be reached"
    refusals: list[tuple[dict[str, str], dict[str, Any], str, str, str]] = [
        ({"password": "wrong & <b>'\""}, {}, refused, "Enter the password again.", "password"),
        ({}, {"kind": "locked", "times": None}, "The account is locked", "ask your administrator to unlock it", ""),
        ({}, {"kind": "drop", "times": None}, unreachable, "Check the address of the server.", "url"),
        ({"url": PRIVATE}, {}, unreachable, "Check the address of the server.", "url"),
        ({"url": mine.ews_url.replace("https", "http")}, {}, "Please check what you entered", "Mend it", "url"),
        ({"url": ONLINE}, {}, "This mailbox is at Microsoft 365", "Choose MS Office 365 instead.", "url"),
        ({"address": "nonsense"}, {}, "Please check what you entered", "Mend it", "address"),
        ({"password": ""}, {}, "Please check what you entered", "Mend it", "password"),
        ({"address": "somebody@elsewhere.example"}, {}, "This is another person's mailbox", "sign in as", "address"),
    ]
    for entries, fault, title, next_step, field in refusals:
        if fault:
            mine.product.fault("exchange", **fault)
        mine.enter(**entries)
        mine.refused(title, next_step)
        mine.product.heal()
        expect(mine.alert).to_contain_text(STAYS)
        wrong = mine.page.locator("[aria-invalid=true]")
        assert [element.get_attribute("name") for element in wrong.all()] == ([field] if field else []), title
        expect(mine.page.locator("#password")).to_have_value("")
        assert "wrong &" not in html.unescape(mine.page.content())
    mine.enter()  # and what is right is taken at last
    expect(mine.heading).to_have_text(ENABLED, timeout=WAIT_MS)


# -- Signing in to C4C ----------------------------------------------------------------------------------------------------


@shown_without_a_browser
def test_who_was_not_set_up_reads_it_after_signing_in(desk: Desk, product: Product) -> None:
    stranger = {"email": product.message("not_set_up").mailbox}
    theirs = settings.of(desk.page.context, product, stranger)
    theirs.page.goto(f"{product.facts['server']}{settings.HOME}")
    theirs.to_company()
    theirs.refused("You are not set up yet", "Ask your administrator to add you, then sign in again.")


@shown_without_a_browser
def test_a_company_sign_in_that_is_away_or_declined_is_told(desk: Desk, product: Product) -> None:
    mine = newcomer(desk, MICROSOFT)
    mine.page.goto(f"{product.facts['server']}{settings.HOME}")
    product.fault("identity", "status", match="c4c/oauth2/token", times=None)
    mine.to_company()
    mine.refused("The service does not answer", "Try again in a moment.")
    product.heal()
    mine.link("Try again").click()
    mine.button("Continue to your company's sign-in").click()
    mine.button("Cancel").click()
    mine.refused("The permission was not given", "Try again")
    mine.link("Try again").click()
    mine.sign_in()
    expect(mine.heading).to_have_text("E-Mail Configuration")


@shown_without_a_browser
@pytest.mark.parametrize("look", ["narrow", "dark"])
def test_the_wizard_works_on_a_phone_and_in_the_dark(desk: Desk, look: str) -> None:
    mine = newcomer(desk, MICROSOFT)
    if look == "narrow":
        mine.page.set_viewport_size({"width": 320, "height": 640})
    else:
        mine.page.emulate_media(color_scheme="dark")
    mine.have_connected()
    wrong = {"settings": mine.faults()}
    mine.open("/change")
    wrong["choice"] = mine.faults()
    at_microsoft(mine)
    mine.button("Cancel").click()
    mine.refused("The permission was not given", "Try again")
    mine.open("/done")
    wrong["done"] = mine.faults()
    assert {place: found for place, found in wrong.items() if found} == {}


# -- The sidebar's own ways to sign in ------------------------------------------------------------------------------------

ALONE = "no-naa,no-identity-api"
"""A mail client that cannot vouch for anybody."""


def test_where_the_mail_client_cannot_sign_in_the_dialog_does_even_if_it_was_closed_half_way_before(desk: Desk) -> None:
    mine = newcomer(desk, MICROSOFT)
    select(desk, letter(mine, "By the dialog"), ALONE)
    dialog = dialog_of(desk, mine)
    dialog.button("Continue to your company's sign-in").click()
    expect(dialog.heading).to_have_text("Who is signing in?", timeout=WAIT_MS)
    dialog.page.close()
    expect(desk.pane.locator("#main")).to_contain_text("stay in it until it closes by itself", timeout=WAIT_MS)
    dialog = dialog_of(desk, mine)
    dialog.to_company()
    dialog.continue_as()
    expect(desk.cards.first).to_be_visible(timeout=WAIT_MS)
    expect(desk.save_button).to_be_visible()
    if not dialog.page.is_closed():
        dialog.page.wait_for_event("close", timeout=WAIT_MS)


def test_who_signs_in_beside_somebody_elses_mailbox_can_save_nothing_of_it(desk: Desk, product: Product) -> None:
    mine = newcomer(desk, MICROSOFT)
    message = letter(mine, "Somebody else")
    select(desk, message, ALONE)
    dialog = dialog_of(desk, mine)
    dialog.to_company(product.facts["users"][product.person("exchange_direct").user]["email"])
    dialog.continue_as()
    desk.save_button.click()
    expect(desk.bar).to_contain_text("Not saved: The mailbox holds no such message.", timeout=WAIT_MS)
    assert product.saved(message) == []


def test_a_sign_in_that_needs_the_person_can_be_declined_and_accepted_later(desk: Desk) -> None:
    mine = newcomer(desk, MICROSOFT)
    mine.have_connected()
    select(desk, letter(mine, "Declined, then accepted"), "naa-interaction")
    expect(desk.pane.get_by_text("Sign in to see your customers")).to_be_visible()
    step(desk, "Sign in").click()
    desk.page.get_by_role("button", name="Cancel").click()
    expect(desk.toast).to_contain_text("You are still not signed in")
    step(desk, "Sign in").click()
    desk.page.get_by_role("button", name="Accept").click()
    expect(desk.cards.first).to_be_visible(timeout=WAIT_MS)


def test_from_the_sidebar_to_the_wizard_and_back_the_records_come_by_themselves(desk: Desk) -> None:
    mine = newcomer(desk, OUTLOOK)
    mine.have_disconnected()
    mine.page.close()
    select(desk, letter(mine, "To the wizard and back"), ALONE)
    dialog_of(desk, mine).continue_as()
    desk.save_button.click()
    wizard = by_the_sidebars_button(desk, mine)
    wizard.choose("MS Exchange/Outlook.com")
    wizard.button("Connect").click()
    wizard.choose_account()
    expect(wizard.heading).to_have_text(ENABLED, timeout=WAIT_MS)
    come_back(desk, wizard)
