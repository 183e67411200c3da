"""The add-on beside a message in Gmail, as its script and as its endpoint: from a message that is opened to one that is saved."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, expect

from tests.browser import settings
from tests.browser.conftest import ROOT, WAIT_MS, Desk, Message, Product

pytestmark = pytest.mark.browser

GOOGLE = 2  # of the newcomers
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
RUN_AXE = """async () => (await axe.run("#pane", { resultTypes: ["violations"] })).violations
  .flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html.slice(0, 120)}`))"""


@pytest.fixture(params=["apps-script", "http"])
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def card(desk: Desk) -> Locator:
    return desk.page.locator("#pane").get_by_role("article")


def opened(desk: Desk, message: Message, runtime: str, **query: str) -> Locator:
    """Open a message with the add-on beside it; return the card that is shown."""
    desk.go(message, host=f"addon-{runtime},language-en", **query)
    expect(card(desk)).to_be_visible(timeout=WAIT_MS)
    return card(desk)


def press(shown: Locator, name: str) -> None:
    shown.get_by_role("button", name=name, exact=True).click()


def sender(product: Product, message: Message) -> dict[str, str]:
    (user,) = (user for user in product.facts["users"] if user["email"] == message.mailbox)
    found: dict[str, str] = next(item["from"] for item in user["messages"] if item["id"] == message.id)
    return found


def test_one_click_saves_the_message_of_a_known_sender_and_its_label_says_so(desk: Desk, product: Product, runtime: str) -> None:
    person = product.person("google")
    message = product.ordinary(person.user, {"apps-script": 4, "http": 5}[runtime])
    shown = opened(desk, message, runtime)
    expect(shown).to_contain_text(sender(product, message)["address"])
    press(shown, "Save this e-mail")
    expect(shown.get_by_text("Saved in SAP Cloud for Customer").first).to_be_visible(timeout=WAIT_MS)
    expect(desk.row(message)).to_contain_text(person.saved, timeout=WAIT_MS)
    assert len(product.saved(message)) == 1

    desk.page.reload()
    expect(shown).to_contain_text("Saved", timeout=WAIT_MS)
    expect(shown.get_by_role("button", name="Save this e-mail", exact=True)).to_have_count(0)
    assert len(product.saved(message)) == 1


def test_what_is_chosen_in_the_dialog_is_what_is_saved(desk: Desk, product: Product, runtime: str) -> None:
    person = product.person("google")
    message = product.forward("with_attachment_known_contact", to=person.user, cc=product.known)
    shown = opened(desk, message, runtime)
    press(shown, "Choose…")
    subject = f"Chosen in Gmail, {runtime}"
    shown.get_by_label("Subject").fill(subject)
    shown.get_by_role("checkbox", name=re.compile("^Account")).uncheck()
    press(shown, "Save this e-mail")
    expect(shown.get_by_text("Saved in SAP Cloud for Customer").first).to_be_visible(timeout=WAIT_MS)
    (activity,) = product.saved(message)
    assert activity["Subject"] == subject
    assert len(product.children("EMailInvolvedPartiesCollection", activity["ObjectID"])) == 1


def test_who_is_not_found_becomes_a_contact_once_and_is_known_from_then_on(desk: Desk, product: Product) -> None:
    message = product.stranger(product.person("google").user)
    who = sender(product, message)
    shown = opened(desk, message, "apps-script")
    expect(shown).to_contain_text("Not found in SAP")
    press(shown, "Create")
    shown.get_by_label("Job title").fill("<b>Buyer</b> & more")
    press(shown, "Create")
    expect(shown.get_by_label("Job title")).to_have_count(0, timeout=WAIT_MS)
    (contact,) = product.c4c("ContactCollection", f"Email eq '{who['address']}'")
    assert contact["JobTitle"] == "<b>Buyer</b> & more"
    desk.page.reload()
    expect(shown).to_contain_text(who["name"], timeout=WAIT_MS)
    expect(shown.get_by_role("button", name="Create")).to_have_count(0)
    expect(shown).to_contain_text("<b>Buyer</b> & more")


def test_a_record_is_searched_for_opened_and_left_again(desk: Desk, product: Product, runtime: str) -> None:
    address = product.facts["users"][product.person("google").user]["email"]
    desk.page.goto(f"{product.facts['inbox']}/?pane=1&host=addon-{runtime},language-en#/mailbox/{address}/inbox")
    shown = card(desk)
    shown.get_by_label("Search SAP Cloud for Customer").fill(product.known)
    press(shown, "Search")
    heading = shown.get_by_role("heading", level=2)
    expect(heading).to_have_text("Search", timeout=WAIT_MS)
    shown.get_by_role("button", name="Details").first.click()
    expect(shown.get_by_role("link", name="Open in C4C")).to_be_visible(timeout=WAIT_MS)
    expect(shown).to_contain_text(product.known)
    press(shown, "Back")
    expect(heading).to_have_text("Search")
    expect(shown.get_by_label("Search SAP Cloud for Customer")).to_have_value(product.known)
    press(shown, "Back")
    expect(shown.get_by_role("button", name="Back")).to_have_count(0)


def test_who_is_not_connected_is_led_to_the_settings_and_finds_the_card_when_that_is_done(desk: Desk, product: Product) -> None:
    mine = settings.of(desk.page.context, product, product.facts["newcomers"][GOOGLE])
    mine.have_disconnected()
    mine.page.close()
    address = mine.email
    desk.page.goto(f"{product.facts['inbox']}/?pane=1&host=addon-apps-script,language-en#/mailbox/{address}/inbox")
    desk.page.locator("#messages").get_by_role("option").first.click()
    shown = card(desk)
    expect(shown).to_contain_text("not connected", timeout=WAIT_MS)
    with desk.page.context.expect_page() as tab:
        shown.get_by_text("Connect your mailbox").click()
    there = settings.Settings(tab.value, product, mine.who)
    there.page.wait_for_load_state()
    assert there.page.url.startswith(f"{product.facts['server']}/settings")
    there.connect()
    expect(there.heading).to_have_text(settings.ENABLED, timeout=WAIT_MS)
    expect(shown).to_contain_text("not connected")
    there.page.close()
    expect(shown).to_contain_text(f"Connected as {address}", timeout=WAIT_MS)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_fault_and_nothing_is_cut_in_the_products_own_cards(desk: Desk, product: Product, theme: str) -> None:
    person = product.person("google")
    message = product.forward("attachments", to=person.user, cc=product.known)
    shown = opened(desk, message, "http", theme=theme)
    desk.page.evaluate(AXE.read_text())
    found = {"message": faults(desk)}
    press(shown, "Choose…")
    expect(shown.get_by_label("Subject")).to_be_visible(timeout=WAIT_MS)
    found["save dialog"] = faults(desk)
    desk.page.evaluate("location.hash = location.hash.split('/').slice(0, 4).join('/')")
    expect(shown.get_by_role("textbox")).to_be_visible(timeout=WAIT_MS)
    found["homepage"] = faults(desk)
    assert {where: wrong for where, wrong in found.items() if wrong} == {}


def faults(desk: Desk) -> list[str]:
    found: list[str] = desk.page.evaluate(RUN_AXE)
    sideways = "[...document.querySelectorAll('#pane, #pane .sections')].some((e) => e.scrollWidth > e.clientWidth)"
    return found + (["it scrolls sideways"] if desk.page.evaluate(sideways) else [])
