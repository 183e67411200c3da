"""The sidebar for every eye and hand: by keyboard, by screen reader, narrow, zoomed, dark, in the system's colours."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import ROOT, WAIT_MS, Desk, Product

pytestmark = pytest.mark.browser

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
FOCUSED = "document.activeElement.ariaLabel ?? document.activeElement.innerText"


# -- By keyboard and by ear -----------------------------------------------------------------------------------------------


def test_the_whole_way_to_a_saved_message_goes_by_keyboard_and_is_spoken(pinned: Desk, product: Product) -> None:
    message = pinned.open("plus_tag")
    status = pinned.pane.get_by_role("status")
    expect(status).to_contain_text("2 records found")
    keyboard = pinned.page.keyboard

    def tab_to(name: str) -> None:
        for _ in range(20):
            keyboard.press("Tab")
            if pinned.frame.evaluate(FOCUSED).startswith(name):
                return
        raise AssertionError(f"{name} is not reached")

    pinned.page.locator("#pane").get_by_role("button", name="Close").focus()  # the last stop before the pane
    tab_to("Refresh")
    tab_to("Menu")
    keyboard.press("Tab")
    expect(pinned.cards.first.get_by_role("button", expanded=True)).to_be_focused()
    keyboard.press("Enter")
    expect(pinned.cards.first.get_by_role("button", expanded=False)).to_be_focused()
    keyboard.press("Space")
    expect(pinned.cards.first.get_by_role("button", expanded=True)).to_be_focused()
    tab_to("Choose what to save")
    keyboard.press("Enter")
    expect(pinned.sheet.get_by_role("heading")).to_be_focused()
    expect(pinned.sheet.get_by_role("checkbox", name=re.compile("Original e-mail"))).to_be_visible(timeout=WAIT_MS)
    tab_to("Save this e-mail")
    keyboard.press("Enter")
    expect(status).to_contain_text("Saved in SAP Cloud for Customer", timeout=WAIT_MS)
    expect(pinned.bar.get_by_text(re.compile("^Saved .* by you"))).to_be_visible()
    tab_to("Change links")  # the focus was not lost with the button that had it
    assert len(product.saved(message)) == 1


def test_what_a_screen_reader_finds_has_a_role_a_name_and_a_state(pinned: Desk) -> None:
    pinned.open("lead")
    expect(pinned.pane.locator("body")).to_match_aria_snapshot("""
      - banner:
        - heading "SSI Sidebar" [level=1]
        - text: Connected
        - button "Refresh"
        - button "Menu"
        - paragraph: /Georgia Tucker Your stand at the fair/
      - main:
        - list:
          - listitem:
            - article:
              - 'heading "Willow Timber Ltd: first contact Lead" [level=2]':
                - 'button "Willow Timber Ltd: first contact Lead" [expanded]'
              - term: From
              - definition:
                - link "first.contact@willow-timber.example"
              - 'link "Open in C4C: Willow Timber Ltd: first contact, new tab"'
      - contentinfo:
        - button "Save this e-mail 1 link"
        - button "Choose what to save"
      - status:
        - paragraph: 1 record found
    """)
    pinned.bar.get_by_role("button", name="Choose what to save").click()
    expect(pinned.sheet.get_by_role("checkbox", name=re.compile("Original"))).to_be_visible(timeout=WAIT_MS)
    expect(pinned.sheet).to_match_aria_snapshot("""
      - dialog "Save this e-mail":
        - banner:
          - button "Back"
          - heading "Save this e-mail" [level=2]
        - textbox "Subject": Your stand at the fair
        - group "Linked records":
          - list:
            - listitem:
              - 'checkbox "Willow Timber Ltd: first contact Lead" [checked]'
        - group "Attachments":
          - list:
            - listitem:
              - checkbox /Original e-mail/
        - contentinfo:
          - button "Save this e-mail"
          - button "Cancel"
    """)


# -- In every size and colour ---------------------------------------------------------------------------------------------

OVERLAPS = Path(__file__).with_name("overlaps.js").read_text()


def faults(desk: Desk) -> list[str]:
    """Return what is cut, overlaps, or is out of reach."""
    frame = desk.frame
    found: list[str] = frame.evaluate(OVERLAPS)
    if frame.evaluate(
        "[document.documentElement, ...document.querySelectorAll('#main, #sheet')].some((e) => e.scrollWidth > e.clientWidth)"
    ):
        found.append("it scrolls sideways")
    return found


@contextmanager
def sized(desk: Desk, width: int, height: int = 860) -> Iterator[None]:
    place = desk.page.locator("#pane")
    before = place.evaluate("e => e.style.width")
    desk.page.set_viewport_size({"width": 1400, "height": height})
    place.evaluate("(e, width) => { e.style.width = `${width}px`; }", width)
    try:
        yield
    finally:
        place.evaluate("(e, width) => { e.style.width = width; }", before)
        desk.page.set_viewport_size({"width": 1400, "height": 860})


def unfold_all(desk: Desk) -> None:
    desk.cards.get_by_role("button", expanded=False).evaluate_all("heads => heads.forEach((head) => head.click())")


def choose(desk: Desk) -> None:
    desk.bar.get_by_role("button", name="Choose what to save").click()
    expect(desk.sheet.get_by_role("checkbox", name=re.compile("Original"))).to_be_visible(timeout=WAIT_MS)


def rename(desk: Desk) -> None:
    choose(desk)
    desk.sheet.get_by_role("button", name=re.compile("^Rename")).first.click()


VIEWS: dict[str, tuple[str, Callable[[Desk], None] | None]] = {
    "cards": ("ten_recipients", None),
    "every card open": ("several_records", unfold_all),
    "hostile": ("hostile", unfold_all),
    "not found": ("unknown_sender", None),
    "nothing to save": ("colleagues_only", None),
    "automatic": ("newsletter", None),
    "sheet": ("attachments", rename),
    "sheet of what is too large": ("too_large", choose),
}


def view(desk: Desk, name: str) -> None:
    """Open one of VIEWS. Only an unsaved message has the sheet, so a sheet's message is one that no other test saves."""
    case, act = VIEWS[name]
    desk.open(case if act not in (choose, rename) else desk.product.forward(case, to=3, cc=desk.product.known))
    if act:
        act(desk)


SIZES = {"wide": (600, 860), "usual": (320, 860), "narrow": (300, 700), "zoomed": (160, 430)}


@pytest.mark.soak
def test_nothing_overlaps_or_is_cut_in_any_size_or_colours(pinned: Desk) -> None:
    wrong = {}
    for name in VIEWS:
        view(pinned, name)
        for size, (width, height) in SIZES.items():
            with sized(pinned, width, height):
                wrong[name, size] = faults(pinned)
                if name in ("cards", "sheet") and size != "zoomed":
                    expect(pinned.pane.locator(".primary:visible").last).to_be_in_viewport()
                pinned.page.emulate_media(forced_colors="active")
                wrong[name, size, "forced colours"] = faults(pinned)
                pinned.page.emulate_media(forced_colors="none")
    assert {where: found for where, found in wrong.items() if found} == {}


def test_what_passes_never_lies_on_what_can_be_done(pinned: Desk, product: Product) -> None:
    message = product.ordinary(5, 0)
    pinned.open(message)
    with sized(pinned, 300):
        product.fault("c4c", "part_status", status=400, match="EMailCollection")
        pinned.save_button.click()
        expect(pinned.bar).to_contain_text("Not saved:", timeout=WAIT_MS)
        product.fault("c4c", "status", status=503, times=None)
        pinned.pane.get_by_role("button", name="Refresh").click()
        expect(pinned.toast).to_contain_text("Not refreshed", timeout=WAIT_MS)
        assert faults(pinned) == []
        product.heal()
        pinned.bar.get_by_role("button", name="Try again").click()
        expect(pinned.toast).to_contain_text("Saved in SAP Cloud for Customer", timeout=WAIT_MS)
        expect(pinned.bar.get_by_role("link", name=re.compile("Open in C4C"))).to_be_visible(timeout=WAIT_MS)
        assert faults(pinned) == []
    pinned.open("lead")
    expect(pinned.toast).to_be_empty()  # it was about the other message


def test_nothing_moves_for_those_who_do_not_want_it(pinned: Desk) -> None:
    pinned.page.emulate_media(reduced_motion="reduce")
    pinned.open("lead")
    choose(pinned)
    assert pinned.frame.evaluate("document.getAnimations().length") == 0
    pinned.page.emulate_media(reduced_motion="no-preference")


# -- What axe-core finds --------------------------------------------------------------------------------------------------

RUN_AXE = """async (rules) => {
  const { violations } = await axe.run(document, { resultTypes: ["violations"], ...(rules && { runOnly: rules }) });
  return violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html.slice(0, 120)}`));
}"""


def axe(desk: Desk) -> list[str]:
    """Return what axe-core finds wrong in the pane as it is, and in the colours of the mail client's other theme, which stays."""
    frame = desk.frame
    if not frame.evaluate("'axe' in window"):
        frame.evaluate(AXE.read_text())
    found: list[str] = frame.evaluate(RUN_AXE)
    other = "light" if frame.evaluate("document.documentElement.style.colorScheme") == "dark" else "dark"
    desk.page.get_by_role("combobox", name="Theme", exact=True).select_option(other)
    expect(desk.pane.locator("html")).to_have_css("color-scheme", other)
    colours: list[str] = frame.evaluate(RUN_AXE, ["color-contrast"])
    return found + [f"{other}: {fault}" for fault in colours]


def test_axe_finds_no_fault_in_any_state_in_light_and_dark(desk: Desk, product: Product) -> None:
    product.fault("c4c", "status", status=503, times=None)
    desk.open(product.ordinary(5, 1))
    found = {"C4C is down": axe(desk)}
    product.heal()
    desk.pane.get_by_role("button", name="Try again").click()
    expect(desk.save_button).to_be_visible(timeout=WAIT_MS)
    product.fault("c4c", "part_status", status=400, match="EMailCollection")
    desk.save_button.click()
    expect(desk.bar).to_contain_text("Not saved:", timeout=WAIT_MS)
    desk.bar.locator("summary").click()
    found["not saved"] = axe(desk)
    desk.bar.get_by_role("button", name="Try again").click()
    expect(desk.toast).to_contain_text("Saved", timeout=WAIT_MS)
    found["saved"] = axe(desk)
    for name in VIEWS:
        view(desk, name)
        found[name] = axe(desk)
    desk.page.route("**/api/context", lambda route: None)  # no answer comes
    desk.go(product.message("lead"))
    expect(desk.pane.locator(".skeleton")).to_be_visible()
    found["loading"] = axe(desk)
    assert {state: faults for state, faults in found.items() if faults} == {}
