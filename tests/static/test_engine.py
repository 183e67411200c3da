"""The menu and the engine's line: how far the mailbox is set up, Force Sync, and what could not be synchronized."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.static.conftest import Held
from tests.static.test_pane import FOUND, SHEET, assert_fits_every_theme, problem

pytestmark = pytest.mark.browser

IDLE: dict[str, Any] = {
    "state": "done",
    "is_first": False,
    "phase": "",
    "done": 0,
    "total": 0,
    "left_s": None,
    "last": {"at": "2026-11-20T13:02:00Z", "counts": {}},
    "next_at": None,
    "suspended": False,
    "failures": 0,
    "reason": None,
    "issues": 0,
    "first_issues": [],
}
HOSTILE = "<img src=x onerror=alert(1)> \u202egro.elpmaxe\u202c " + "x" * 300


def issue(name: str, **more: str) -> dict[str, Any]:
    base = {
        "id": "0" * 32,
        "kind": "contact",
        "code": "rejected",
        "cause": "The country is not known.",
        "remedy": "Choose another.",
    }
    return {**base, "name": name, "is_question": False, "since": None, "url": "", **more}


def engine(**more: Any) -> tuple[int, dict[str, Any]]:
    return 200, {**IDLE, **more}


def menu_of(page: Page) -> None:
    page.get_by_role("button", name="Menu").click()


def test_nothing_of_it_is_loaded_before_the_first_card(open_pane):
    answer, loaded = Held(), "performance.getEntriesByType('resource').map(({ name }) => name.match(/engine.*|api.sync/)?.[0])"
    page = open_pane({"context": lambda _: answer, "sync": engine()}).page
    expect(page.get_by_text("This takes longer than usual")).to_be_visible()
    assert {*page.evaluate(loaded)} == {None}
    answer.give(FOUND)
    expect(page.get_by_role("button", name="Menu")).to_be_visible()
    page.wait_for_function("performance.getEntriesByType('resource').some(({ name }) => name.endsWith('/api/sync'))")
    assert {*page.evaluate(loaded)} == {None, "engine.js", "engine.css", "api/sync"}


def test_force_sync_is_in_the_menu_by_mouse_and_by_keyboard(open_pane):
    asked: list[Any] = []
    answers = {"context": FOUND, "sync": lambda body: asked.append(body) or engine()}
    page = open_pane(answers).page
    expect(page.get_by_role("button", name="Menu")).to_have_attribute("aria-expanded", "false")
    page.get_by_role("button", name="Refresh").focus()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Menu")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_text("Synchronized 20 Nov 2026, 14:02")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_text("Synchronized 20 Nov 2026, 14:02")).to_be_hidden()
    expect(page.get_by_role("button", name="Menu")).to_be_focused()
    page.keyboard.press("Enter")
    answers["sync"] = lambda body: asked.append(body) or (202 if body else 200, {**IDLE, "state": "queued"})
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#engine")).to_have_text("Synchronizing…")
    assert [body for body in asked if body is not None] == [{}]
    answers["sync"] = engine()
    expect(page.locator("#engine").get_by_role("status")).to_have_text("Synchronized 20 Nov 2026, 14:02")
    expect(page.get_by_role("button", name="Menu")).to_be_focused()


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        (problem(409, "sync_suspended", "x"), "Not synchronized, because it is suspended."),
        (problem(409, "mailbox_not_connected", "x"), "Not synchronized, because that is not set up for this mailbox."),
        (
            problem(429, "too_often", "That was very quick. Try again in 2 seconds."),
            "That was very quick. Try again in 2 seconds.",
        ),
    ],
    ids=["suspended", "not connected", "too often"],
)
def test_why_no_session_begins_is_said_and_stays(open_pane, refusal, said):
    page = open_pane({"context": FOUND, "sync": lambda body: engine() if body is None else refusal}).page
    menu_of(page)
    page.get_by_role("button", name="Force Sync").click()
    expect(page.locator("#engine").get_by_role("status")).to_have_text(said)


def test_while_the_mailbox_is_set_up_a_quiet_line_says_how_far_it_is_and_moves_no_card(open_pane):
    answer = Held()
    page = open_pane({"context": FOUND, "sync": lambda _: answer}).page
    expect(page.get_by_role("button", name="Menu")).to_be_visible()
    before = page.get_by_role("article").first.bounding_box()
    answer.give(engine(state="running", is_first=True, done=1200, total=4500, left_s=330))
    expect(page.locator("#engine")).to_have_text("Your mailbox is being set up. 1,200 of 4,500. About 6 minutes left.")
    assert page.get_by_role("article").first.bounding_box() == before
    expect(page.locator("#engine [role=status]")).to_have_count(0)  # which would say every number aloud


def test_issues_are_counted_listed_and_lead_to_user_settings(open_pane):
    known = issue("Ada Lang", url="https://c4c.example/9")
    answers = {"context": FOUND, "sync": engine(issues=2, first_issues=[known, issue(HOSTILE)])}
    pane = open_pane(answers, size=(300, 560), sets={"OpenBrowserWindowApi": "1.1"})
    page = pane.page
    opener = page.get_by_role("button", name="2 issues")
    expect(opener).to_have_attribute("aria-expanded", "false")
    opener.click()
    expect(opener).to_be_focused()
    expect(page.get_by_text("The country is not known.")).to_have_count(2)
    expect(page.get_by_role("link", name="Open in C4C: Ada Lang, new tab")).to_have_attribute("href", "https://c4c.example/9")
    assert "\u202e" not in page.locator("#engine").inner_text()
    assert_fits_every_theme(pane)
    page.get_by_role("button", name="Mend or answer in User Settings").click()
    assert page.evaluate("host.opened") == ["https://sidebar.example.com/settings/issues"]


def test_that_it_is_suspended_is_said_with_the_way_out(open_pane):
    pane = open_pane({"context": FOUND, "sync": engine(state="suspended", suspended=True)}, size=(300, 560))
    expect(pane.page.locator("#engine")).to_contain_text("Synchronization is suspended.")
    expect(pane.page.locator("#engine").get_by_role("button", name="User Settings")).to_be_visible()
    menu_of(pane.page)
    expect(pane.page.get_by_role("button", name="Force Sync")).to_be_visible()
    assert_fits_every_theme(pane)


def test_what_passes_does_not_lie_on_its_line(open_pane):
    answers = {
        "context": FOUND,
        "sync": engine(state="suspended", suspended=True),
        "saves": (201, {"id": "s1", "state": "saved", "activity": None, "marks": []}),
    }
    page = open_pane(answers, size=(300, 560)).page
    line, toast = page.locator("#engine"), page.locator(".toast")
    expect(line).to_contain_text("Synchronization is suspended.")
    page.get_by_role("button", name="Save this e-mail").click()
    expect(toast).to_be_visible()
    above, below = toast.bounding_box(), line.bounding_box()
    assert above["y"] + above["height"] <= below["y"]


def test_a_mailbox_without_synchronization_has_one_button_to_set_it_up(open_pane):
    answers = {"context": FOUND, "sync": engine(state="off", last=None)}
    page = open_pane(answers, sets={"OpenBrowserWindowApi": "1.1"}).page
    menu_of(page)
    expect(page.get_by_text("Synchronization is not set up for this mailbox.")).to_be_visible()
    expect(page.get_by_role("button", name="Force Sync")).to_have_count(0)
    page.get_by_role("button", name="Set it up").click()
    assert page.evaluate("host.opened") == ["https://sidebar.example.com/settings/sync/email"]


def test_a_server_that_says_nothing_of_the_engine_disturbs_nobody(open_pane):
    page = open_pane({**SHEET, "sync": problem(503, "unavailable", "x")}).page
    menu_of(page)
    expect(page.get_by_text("Nothing is known of the last session.")).to_be_visible()
    expect(page.locator("#engine")).to_be_empty()
    expect(page.get_by_text("Tom Becker")).to_be_visible()
