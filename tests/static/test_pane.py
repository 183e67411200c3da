"""The pane in every state: readable, reachable by keyboard and screen reader, and never moved by others' texts."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.static.conftest import MESSAGE, Held, Pane

pytestmark = pytest.mark.browser

JANA = "jana.novak@northwind.example"
TOM = "tom.becker@northwind.example"


def card(record_type: str, number: int, title: str, matched: str, **values: str) -> dict[str, Any]:
    fields = [{"name": name, "label": name, "value": value} for name, value in values.items()]
    url = f"https://c4c.example/{number}"
    base = {"type": record_type, "id": f"{number:032X}", "title": title, "fields": fields, "url": url, "linked": False}
    return {**base, "matched": [matched] if matched else []}


def context(*cards: dict[str, Any], **more: Any) -> tuple[int, dict[str, Any]]:
    base = {"cards": cards, "unknown": [], "notice": None, "automatic": None, "save": {"state": "none"}, "incomplete": False}
    return 200, {**base, **more}


def problem(status: int, code: str, detail: str, **more: str) -> tuple[int, dict[str, Any]]:
    return status, {"type": "urn:x", "title": "x", "status": status, "code": code, "detail": detail, "request_id": "r1", **more}


CONTACT = card(
    "contact",
    1,
    "Jana Novak",
    JANA,
    account="Northwind GmbH",
    job_title="Buyer",
    phone="+49 30 901820-14",
    mobile="+49 171 5550142",
)
ACCOUNT = card("account", 2, "Northwind GmbH", JANA, city="Berlin", owner="Ada Lang")
COLLEAGUE = card("contact", 3, "Tom Becker", TOM, account="Northwind GmbH")
NOBODY = {"name": "", "address": "nobody@elsewhere.example", "verified": True}
FOUND = context(CONTACT, ACCOUNT, COLLEAGUE, unknown=[NOBODY])
SAVED = {
    "state": "saved",
    "id": "s1",
    "by": "you",
    "at": "2026-11-22T13:02:00Z",
    "activity": {"id": "a", "url": "https://c4c.example/a"},
}
FILES = {
    "attachments": [
        {"ref": "2", "name": "quotation.pdf", "size_bytes": 482_133, "inline": False, "allowed": True, "reason": None},
        {"ref": "3", "name": "tool.exe", "size_bytes": 9_120, "inline": False, "allowed": False, "reason": "Not allowed."},
    ]
}
SHEET = {"context": FOUND, "saves/preview": (200, FILES)}

STATES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "loading": ({"context": lambda _: None}, {}, "Quotation for forty pallets"),
    "cards": ({"context": FOUND}, {}, "Jana Novak"),
    "checking": (
        {
            "context": lambda body: (
                None if body.get("complete") else context(CONTACT, unknown=[{**NOBODY, "verified": False}], incomplete=True)
            )
        },
        {},
        "Checking…",
    ),
    "nobody found": ({"context": context(unknown=[NOBODY])}, {}, "Not found in SAP"),
    "saved": ({"context": context({**CONTACT, "linked": True}, save=SAVED)}, {}, "by you"),
    "saved by a colleague": (
        {"context": context(CONTACT, save={**SAVED, "by": "colleague", "activity": None})},
        {},
        "by a colleague",
    ),
    "pending": (
        {"context": context(CONTACT, save={"state": "pending", "id": "s1"}), "saves/s1": lambda _: None},
        {},
        "being saved",
    ),
    "failed": (
        {"context": context(CONTACT, save={"state": "failed", "id": "s1", "reason": "It is locked."})},
        {},
        "Not saved: It is locked.",
    ),
    "automatic": ({"context": context(automatic={"kind": "auto_reply", "reason": "x"})}, {}, "This is an automatic reply."),
    "colleagues only": (
        {"context": context(notice="Nothing to save in SAP Cloud for Customer")},
        {},
        "Nothing to save in SAP Cloud for Customer",
    ),
    "not provisioned": ({"context": problem(403, "not_provisioned", "Ask ada@example.com.")}, {}, "Ask ada@example.com."),
    "no token": ({}, {"tokenError": 13001}, "Sign in"),
    "no single sign-on": ({}, {"sets": {"IdentityAPI": "1.0"}}, "cannot sign you in"),
    "C4C away": (
        {"context": problem(503, "unavailable", "SAP Cloud for Customer is slow.")},
        {},
        "SAP Cloud for Customer is slow.",
    ),
    "fault": ({"context": problem(500, "internal", "x")}, {}, "Something went wrong"),
    "no item": ({}, {"item": None}, "No message selected"),
    "outside of Outlook": ({}, {"outside": True}, "Open this page from Outlook"),
    "composing": (
        {"context": context(card("contact", 1, "Jana Novak", JANA))},
        {"item": {"compose": True, "subject": "Offer", "to": MESSAGE["to"]}},
        "once it is sent",
    ),
}


@pytest.mark.parametrize("state", STATES)
def test_every_state_is_accessible_and_fits_300_pixels_in_every_theme(open_pane, state):
    answers, host, words = STATES[state]
    pane = open_pane(answers, size=(300, 560), **host)
    expect(pane.page.get_by_text(words).first).to_be_visible()
    assert_fits_every_theme(pane)


def assert_fits_every_theme(pane: Pane) -> None:
    assert not pane.is_cut()
    assert pane.axe() == []
    pane.page.emulate_media(color_scheme="dark")
    assert pane.axe(only="color-contrast") == []
    pane.page.emulate_media(forced_colors="active")
    assert not pane.is_cut()


def choose(page: Page) -> None:
    page.get_by_role("button", name="Choose what to save").click()
    expect(page.get_by_role("checkbox", name="quotation.pdf")).to_be_visible()


def test_the_save_sheet_is_accessible_and_fits_300_pixels_in_every_theme(open_pane):
    pane = open_pane(SHEET, size=(300, 560))
    choose(pane.page)
    expect(pane.page.get_by_role("checkbox", name="tool.exe")).to_be_disabled()
    expect(pane.page.get_by_role("dialog", name="Save this e-mail")).to_contain_text("Not allowed.")
    assert_fits_every_theme(pane)


def test_at_double_zoom_everything_is_still_reachable(open_pane):
    pane = open_pane({"context": FOUND}, size=(160, 320))
    save = pane.page.get_by_role("button", name="Save this e-mail")
    save.scroll_into_view_if_needed()
    expect(save).to_be_in_viewport()
    assert not pane.is_cut()


def test_the_skeleton_is_there_before_the_mail_client_is_ready(open_pane):
    pane = open_pane({}, ready=False)
    expect(pane.page.locator(".bone").first).to_be_visible()
    expect(pane.page.get_by_role("main")).to_have_attribute("aria-busy", "true")


def test_the_theme_is_the_mail_clients_and_follows_it(open_pane):
    pane = open_pane({"context": FOUND}, theme="#1f1f1f", media={"color_scheme": "light"})
    body = pane.page.locator("body")
    expect(body).to_have_css("background-color", "rgb(31, 31, 31)")
    pane.page.evaluate("host.paint('#ffffff')")
    expect(body).to_have_css("background-color", "rgb(255, 255, 255)")


def test_the_language_is_the_mail_clients(open_pane):
    pane = open_pane({"context": FOUND}, language="de-DE")
    expect(pane.page.get_by_role("button", name="E-Mail sichern 3 Links")).to_be_visible()
    expect(pane.page.locator("html")).to_have_attribute("lang", "de")


def test_one_click_saves_and_the_bar_becomes_the_state(open_pane):
    answers = {
        "context": FOUND,
        "saves": (201, {"id": "s1", "state": "saved", "activity": SAVED["activity"], "marks": ["saved"]}),
    }
    pane = open_pane(answers)
    save = pane.page.get_by_role("button", name="Save this e-mail 3 links")
    expect(save).to_be_visible()
    answers["context"] = context({**CONTACT, "linked": True}, ACCOUNT, COLLEAGUE, save=SAVED)
    save.click()
    expect(pane.page.locator("#bar").get_by_text("by you")).to_be_visible()
    expect(pane.page.get_by_role("status")).to_contain_text("Saved in SAP Cloud for Customer")
    expect(pane.page.locator("#bar").get_by_role("link", name="Open in C4C")).to_have_attribute("rel", "noopener noreferrer")
    expect(save).to_have_count(0)


def test_the_sheet_takes_the_focus_keeps_it_and_gives_it_back(open_pane):
    page = open_pane(SHEET).page
    opener = page.get_by_role("button", name="Choose what to save")
    opener.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Save this e-mail")).to_be_focused()
    expect(page.get_by_role("checkbox", name="quotation.pdf")).to_be_visible()
    for _ in range(14):
        page.keyboard.press("Tab")
        assert page.evaluate("!document.getElementById('pane').contains(document.activeElement)")
    page.get_by_label("Subject").fill("Kept")
    page.keyboard.press("Escape")
    expect(opener).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Subject")).to_have_value("Kept")


def test_a_file_is_renamed_in_place(open_pane):
    asked: list[Any] = []
    answers = {**SHEET, "saves": lambda body: asked.append(body)}
    page = open_pane(answers).page
    choose(page)
    page.get_by_role("button", name="Rename quotation.pdf").click()
    page.keyboard.type("offer")  # the name is selected, its extension is not
    page.get_by_role("dialog").get_by_role("button", name="Save this e-mail").click()
    expect(page.get_by_role("dialog").get_by_role("button", name="Saving…")).to_be_visible()
    assert asked[0]["attachments"] == [{"ref": "2", "name": "offer.pdf"}]


def test_another_message_does_not_move_the_focus(open_pane):
    page = open_pane({"context": FOUND}).page
    refresh = page.get_by_role("button", name="Refresh")
    refresh.focus()
    expect(page.get_by_text("Tom Becker")).to_be_visible()
    page.evaluate("item => host.select(item)", {**MESSAGE, "itemId": "AAMk2", "subject": "Another one"})
    expect(page.get_by_text("Another one")).to_be_visible()
    expect(page.get_by_text("Tom Becker")).to_be_visible()
    expect(page.get_by_role("button", name="Refresh")).to_be_focused()


def test_a_second_answer_moves_nothing_and_keeps_what_was_opened(open_pane):
    unproven = {"name": "", "address": "x@else.example", "verified": False}
    first = context(CONTACT, ACCOUNT, COLLEAGUE, unknown=[unproven, {**NOBODY, "verified": False}], incomplete=True)
    second = Held()
    page = open_pane({"context": lambda body: second if body.get("complete") else first}).page
    expect(page.get_by_text("Checking…")).to_have_count(2)
    page.get_by_role("button", name="Tom Becker").click()
    articles = page.get_by_role("article")
    before = [articles.nth(number).bounding_box() for number in range(3)]
    second.give(context(card("lead", 9, "New lead", "x@else.example"), CONTACT, ACCOUNT, COLLEAGUE, unknown=[NOBODY]))
    expect(page.get_by_text("Not found in SAP")).to_be_visible()
    assert [articles.nth(number).bounding_box() for number in range(3)] == before
    expect(page.get_by_role("button", name="Tom Becker")).to_be_focused()
    expect(articles.nth(3)).to_contain_text("New lead")
    expect(articles.nth(2).get_by_role("button")).to_have_attribute("aria-expanded", "true")


HOSTILE = "</title><script>alert('x')</script><img src=x onerror=alert(1)>\"'{{7*7}}${7*7}\u202egnp.exe"


def test_hostile_text_in_every_field_is_only_text(open_pane):
    person = {"displayName": HOSTILE, "emailAddress": "evil@example.org"}
    evil = {
        **card(
            "contact", 1, HOSTILE, "evil@example.org", phone="javascript:alert(1)", job_title=HOSTILE, account="evil@x?cc=a@b"
        ),
        "url": "javascript:alert(1)",
        "linked": True,
    }
    found = context(
        evil,
        {**card("account", 2, HOSTILE, HOSTILE), "type": HOSTILE, "url": "data:text/html,<script>alert(1)</script>"},
        unknown=[{"name": HOSTILE, "address": HOSTILE, "verified": True}],
        notice=HOSTILE,
        save={"state": "failed", "id": "s1", "reason": HOSTILE},
    )
    files = {
        "attachments": [
            {**FILES["attachments"][0], "name": HOSTILE},
            {**FILES["attachments"][1], "name": HOSTILE, "reason": HOSTILE},
        ]
    }
    answers = {"context": found, "saves/preview": (200, files)}
    pane = open_pane(answers, item={**MESSAGE, "subject": HOSTILE, "from": person})
    page = pane.page
    expect(page.get_by_role("heading").filter(has_text="<script>alert('x')</script>").first).to_be_visible()
    page.get_by_role("button", name="Choose what to save").click()
    expect(page.get_by_role("dialog").get_by_text("{{7*7}}").first).to_be_visible()
    assert page.locator("script, img, iframe").evaluate_all("all => all.filter((one) => !one.src).length") == 0
    schemes = page.locator("a[href]").evaluate_all("all => all.map((one) => one.protocol)")
    assert set(schemes) <= {"mailto:", "https:"}
    assert "\u202e" not in page.locator("body").inner_text()
    assert not pane.is_cut()


def test_nothing_is_stored(open_pane):
    page = open_pane({"context": FOUND}).page
    expect(page.get_by_text("Tom Becker")).to_be_visible()
    assert page.evaluate("localStorage.length + sessionStorage.length") == 0
    assert page.context.cookies() == []
