"""Mail clients as they really are, and remotes that do not answer, as the person at the sidebar sees them.

What a browser can show of the mail clients' known oddities, and where it is shown (S: tests/browser/test_sidebar.py,
A: test_accessibility.py, P: tests/static/test_pane.py, B: tests/static/test_budget.py, N: tests/static/*.test.js, else here);
"..." stands for the rest of a name:

    Office.js first in the head, modules deferred         B test_the_shell_announces_every_module
    skeleton before the client is ready                   P test_the_skeleton_is_there..., S test_a_mail_client_that_starts...
    calls of the client take seconds                      test_a_client_whose_calls_are_slow...
    ItemChanged late, missing or too early; late item id  S test_the_selection_is_followed_however_badly...
    the pane is loaded anew for each message              S the same ("reload-pane"); the state outlives it: test_in_an_iframe...
    the item is frozen: the old message stays selected    S test_what_a_frozen_mail_client_still_names...
    no event on reports                                   test_a_report_that_the_client_does_not_tell_of...
    no item at all (encrypted, system mail)               S test_nothing_selected_is_a_state_of_its_own...
    sender and subject beside all data                    S test_answers_that_come_too_late..., P every state
    late answers are dropped                              N sidebar.test.js, S the same
    item looked at on focus, visibility, every 1.5 s      test_coming_back_to_the_pane_is_enough...
    a write carries the item it was made for              S test_a_save_is_refused_once_the_mail_client_shows...
    theme of the client, followed, told late or never     P test_the_theme_is_the..., test_a_theme_that_is_not_told...
    no theme of the client: the browser's preference      test_without_a_theme_of_the_client...
    forced colours, contrast themes, 4.5:1                A test_axe..., test_nothing_overlaps..., P every state
    keyboard, roles, names, live regions                  A test_the_whole_way..., test_what_a_screen_reader_finds...
    focus is not moved by the client                      P test_another_message_does_not_move_the_focus
    300 to 600 px, zoom 200 %                             A test_nothing_overlaps..., P test_at_double_zoom...
    storage blocked                                       test_with_storage_blocked...
    an iframe of another site, no cookies, no storage     test_in_an_iframe_of_another_site..., P test_nothing_is_stored
    window.name belongs to the host                       test_in_an_iframe_of_another_site...
    offline and back                                      S test_being_offline_is_said..., test_a_save_without_a_connection...

Not shown by a browser: the platforms' own limits on a blocked pane, the broker of nested sign-in, Microsoft's script itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Route, expect

from tests.browser.conftest import WAIT_MS, Desk, Message, Product, opened

pytestmark = pytest.mark.browser

RETRY = "Try again"
PERSON, NEWCOMER = 3, 2  # of the demo; the second saves nothing elsewhere


def letter(product: Product, subject: str) -> Message:
    """A message of this test's own, with somebody on it who is in C4C."""
    return product.send(subject, to=PERSON, cc=product.known)


STORED = "(() => { try { return localStorage.length + sessionStorage.length; } catch (error) { return error.name; } })()"


# -- Odd hosts ------------------------------------------------------------------------------------------------------------


def test_a_client_whose_calls_are_slow_is_waited_for_beside_the_name_of_the_message(desk: Desk) -> None:
    desk.go(desk.product.message("individual_customer"), host="slow-calls")
    expect(desk.pane.locator(".skeleton")).to_be_visible(timeout=WAIT_MS)
    expect(desk.pane.locator("#headline")).to_contain_text(desk.product.message("individual_customer").subject)
    expect(desk.cards.locator(".name")).to_have_text(["Geraldine Ellis"], timeout=WAIT_MS)


def test_a_report_that_the_client_does_not_tell_of_leaves_the_old_message_named(pinned: Desk) -> None:
    message = pinned.open("lead", host="skip-reports")
    pinned.go(pinned.product.message("bounce"), host="skip-reports")
    expect(pinned.selected).to_contain_text(pinned.product.message("bounce").subject)
    expect(pinned.pane.locator("#headline")).to_contain_text(message.subject)
    expect(pinned.cards).to_have_count(1)


def test_coming_back_to_the_pane_is_enough_to_notice_another_message(desk: Desk, product: Product) -> None:
    desk.page.clock.install()
    desk.open("lead", host="no-item-changed")
    desk.page.clock.pause_at(desk.page.evaluate("Date.now() + 1000"))  # no timer tells
    desk.go(product.message("individual_customer"), host="no-item-changed")
    expect(desk.selected).to_contain_text(product.message("individual_customer").subject)
    expect(desk.pane.locator("#headline")).to_contain_text("Your stand at the fair")
    desk.frame.evaluate("dispatchEvent(new Event('focus'))")
    expect(desk.pane.locator("#headline")).to_contain_text(product.message("individual_customer").subject)
    desk.page.clock.resume()
    expect(desk.cards.locator(".name")).to_have_text(["Geraldine Ellis"], timeout=WAIT_MS)


@pytest.mark.parametrize("host", ["stale-theme", pytest.param("no-theme-event", marks=pytest.mark.soak)])
def test_a_theme_that_is_not_told_leaves_a_pane_that_can_be_read(desk: Desk, host: str) -> None:
    desk.open("lead", host=host, theme="light")
    expect(desk.pane.locator("html")).to_have_css("color-scheme", "light")
    desk.page.get_by_role("combobox", name="Theme", exact=True).select_option("dark")
    expect(desk.page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(desk.pane.locator("body")).to_have_css("background-color", "rgb(255, 255, 255)")
    assert desk.frame.evaluate("getComputedStyle(document.querySelector('.name')).color") == "rgb(29, 45, 62)"
    desk.page.reload()  # opened anew, it is told what is true
    expect(desk.pane.locator("body")).to_have_css("background-color", "rgb(31, 31, 31)", timeout=WAIT_MS)


@pytest.mark.parametrize(("scheme", "shown"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(31, 31, 31)")])
def test_without_a_theme_of_the_client_the_browsers_counts(desk: Desk, scheme: Any, shown: str) -> None:
    desk.page.emulate_media(color_scheme=scheme)
    desk.open("lead", host="mailbox-1.13")
    expect(desk.pane.locator("body")).to_have_css("background-color", shown)


def test_with_storage_blocked_the_whole_way_works(desk: Desk, product: Product) -> None:
    message = desk.open(letter(product, "Storage is blocked"), host="no-storage")
    assert desk.frame.evaluate(STORED) == "SecurityError"
    desk.save_button.click()
    expect(desk.bar.get_by_text(re.compile("^Saved .* by you"))).to_be_visible(timeout=WAIT_MS)
    assert len(product.saved(message)) == 1


@pytest.fixture
def abroad(browser: Browser, product: Product) -> Iterator[Desk]:
    """A desk whose pane is of another site than the mail client, as in Outlook on the web: localhost within 127.0.0.1."""
    server = product.facts["server"]
    elsewhere = server.replace("127.0.0.1", "localhost")

    def forward(route: Route) -> None:
        route.fulfill(response=route.fetch(url=route.request.url.replace(elsewhere, server), max_redirects=0))

    def moved(route: Route) -> None:
        answer = route.fetch()
        headers = {name: value.replace(server, elsewhere) for name, value in answer.headers.items()}
        route.fulfill(response=answer, headers=headers, body=answer.text().replace(server, elsewhere))

    with opened(browser, product) as desk:
        inbox = product.facts["inbox"]
        desk.page.route(f"{elsewhere}/**", forward)
        desk.page.route(re.compile(rf"^{re.escape(inbox)}/(api/config|office\.js)?(\?|$)"), moved)
        yield desk
    assert desk.problems == []


def test_in_an_iframe_of_another_site_the_whole_way_works_and_nothing_is_left_behind(abroad: Desk, product: Product) -> None:
    message = abroad.open(letter(product, "From another site"))
    frame = abroad.frame
    assert urlsplit(frame.url).hostname == "localhost"
    assert urlsplit(abroad.page.url).hostname == "127.0.0.1"
    name = frame.evaluate("window.name")
    assert name  # the host keeps something there
    abroad.save_button.click()
    expect(abroad.bar.get_by_text(re.compile("^Saved .* by you"))).to_be_visible(timeout=WAIT_MS)
    assert len(product.saved(message)) == 1
    abroad.page.reload()  # what the pane knows outlives the page on the server, not in the browser
    expect(abroad.bar.get_by_text(re.compile("^Saved .* by you"))).to_be_visible(timeout=WAIT_MS)
    assert abroad.page.context.cookies() == []
    assert abroad.frame.evaluate(STORED) in ("SecurityError", 0)  # a browser may forbid it there altogether
    assert abroad.frame.evaluate("[document.cookie, window.name]") == ["", name]


# -- Remotes that do not answer -------------------------------------------------------------------------------------------

FAULTS: dict[str, dict[str, Any]] = {
    "down": {"kind": "status", "status": 503, "times": None},
    "hanging": {"kind": "hang", "seconds": 3},
    "garbage": {"kind": "garbage", "times": None},
    "gone": {"kind": "drop", "times": None},
    "HTML": {"kind": "html", "times": None},
}


def faults(*usual: str) -> pytest.MarkDecorator:
    """Of each remote two faults are for every run, all are for --soak."""
    marks = {fault: () if fault in usual else pytest.mark.soak for fault in FAULTS}
    return pytest.mark.parametrize("fault", [pytest.param(fault, marks=mark) for fault, mark in marks.items()])


STEPS = """() => {
  window.moments = {};
  const look = () => {
    if (document.querySelector("#main .skeleton")) moments.asked ??= performance.now();
    if (document.querySelector("#main .empty button, #banner button")) moments.nextStep ??= performance.now();
  };
  new MutationObserver(look).observe(document.body, { subtree: true, childList: true });
}"""
IN_TIME_MS = 3_000  # promised are 2 seconds; the rest is for a busy machine


def waited_ms(desk: Desk) -> float:
    """How long there was nothing to do but wait."""
    moments = desk.frame.evaluate("moments")
    return float(moments["nextStep"] - moments["asked"])


def forget(product: Product) -> None:
    """Have the product forget what C4C told it of this person's messages."""
    user = product.facts["users"][PERSON]
    item = {"id": "AAMk=", "internet_message_id": "<x@example.org>", "subject": "x"}  # nobody is on it: C4C is not asked
    headers = {"Authorization": f"Bearer {user['bearer']}"}
    httpx.post(f"{product.facts['server']}/api/context", json={"item": item, "refresh": True}, headers=headers).raise_for_status()


@faults("down", "hanging")
def test_while_c4c_is_away_what_is_known_of_the_save_is_shown_in_time_and_the_rest_later(
    pinned: Desk, product: Product, fault: str
) -> None:
    other = pinned.open(letter(product, f"Before C4C is {fault}"))
    message = pinned.open(letter(product, f"While C4C is {fault}"))
    product.fault("c4c", "part_status", status=400, match="EMailCollection")
    pinned.save_button.click()
    expect(pinned.bar).to_contain_text("Not saved:", timeout=WAIT_MS)
    pinned.open(other)
    forget(product)
    product.fault("c4c", **FAULTS[fault])
    pinned.frame.evaluate(STEPS)
    pinned.go(message)
    failed = pinned.bar.get_by_text(re.compile(r"^Not saved: .*could not be processed.* \(today .*\d\d:\d\d.*\)"))
    expect(failed).to_be_visible(timeout=WAIT_MS)
    expect(pinned.bar.get_by_role("button", name=RETRY)).to_be_visible()
    expect(pinned.pane.locator("#main").get_by_role("button", name=RETRY)).to_be_visible()
    expect(pinned.pane.locator("#headline")).to_contain_text(message.subject)
    assert waited_ms(pinned) < IN_TIME_MS
    product.heal()
    if fault != "hanging":  # then the answer comes by itself
        pinned.pane.locator("#main").get_by_role("button", name=RETRY).click()
    expect(pinned.cards.first).to_be_visible(timeout=WAIT_MS)
    pinned.bar.get_by_role("button", name=RETRY).click()
    expect(pinned.bar.get_by_text(re.compile("^Saved .* by you"))).to_be_visible(timeout=WAIT_MS)
    assert len(product.saved(message)) == 1


@faults("gone", "hanging")
def test_a_mailbox_that_does_not_answer_accepts_nothing_and_trying_again_saves_once(
    pinned: Desk, product: Product, fault: str
) -> None:
    message = pinned.open(letter(product, f"While the mailbox is {fault}"))
    product.fault("graph", **FAULTS[fault])
    pinned.save_button.click()
    if fault == "hanging":  # the mailbox answers in the end, and until then nothing is said to be done
        expect(pinned.bar.get_by_text("Saving…")).to_be_visible()
    else:
        expect(pinned.bar.get_by_text(re.compile("^Not saved: "))).to_be_visible(timeout=WAIT_MS)
        expect(pinned.pane.get_by_role("status")).not_to_contain_text(re.compile("Saved|Accepted"))
        assert product.saved(message) == []
        product.heal()
        pinned.bar.get_by_role("button", name=RETRY).click()
    expect(pinned.bar.get_by_text(re.compile("^Saved .* by you"))).to_be_visible(timeout=WAIT_MS)
    assert len(product.saved(message)) == 1


def test_a_sign_in_service_that_is_down_is_said_to_be_and_then_the_save_goes_through(desk: Desk, product: Product) -> None:
    """Of somebody whose mailbox the product has not opened yet, so that it has to ask."""
    message = desk.open(product.send("The first one", to=NEWCOMER, cc=product.item("unknown_sender")["from"]["address"]))
    product.fault("identity", "status", status=503, times=None, match="token")
    desk.save_button.click()
    expect(desk.bar.get_by_text(re.compile("^Not saved: "))).to_be_visible(timeout=WAIT_MS)
    assert product.saved(message) == []
    product.heal()
    desk.bar.get_by_role("button", name=RETRY).click()
    expect(desk.bar.get_by_text(re.compile("^Saved .* by you"))).to_be_visible(timeout=WAIT_MS)


def test_our_own_server_being_away_leaves_a_way_on_and_the_pane_comes_back_by_it(desk: Desk, product: Product) -> None:
    desk.open("lead")
    hung: list[Route] = []
    ways: dict[str, Callable[[Route], Any]] = {
        "hangs": hung.append,
        "is gone": lambda route: route.abort(),
        "is a proxy's page": html,
    }
    broken: list[Callable[[Route], Any]] = []
    desk.page.route("**/api/context", lambda route: broken[0](route) if broken else route.continue_())
    for how, way in ways.items():
        broken[:] = [way]
        desk.frame.evaluate(STEPS)
        desk.go(product.message("individual_customer" if how == "is gone" else "account_only"))
        step = desk.pane.locator("#main .empty, #banner").get_by_role("button", name=RETRY)
        expect(step).to_be_visible(timeout=WAIT_MS)
        assert waited_ms(desk) < IN_TIME_MS, how
        broken.clear()
        step.click()
        expect(desk.save_button).to_be_visible(timeout=WAIT_MS)


def html(route: Route) -> None:
    route.fulfill(status=200, content_type="text/html", body="<h1>Maintenance</h1>")
