"""The whole way, as a person goes it: select a message, see who it is, save it, see that it is saved."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import ROOT, WAIT_MS, Desk, Message, Person, Product, opened

pytestmark = pytest.mark.browser
SAVED = re.compile("^Saved .* by you")
PICTURES = os.environ.get("PICTURES")
"""Where to put the README's picture: `PICTURES=docs ./run test tests/browser/test_journey.py` makes it anew."""


def test_one_click_saves_the_selected_message_exactly_once(desk: Desk, product: Product, person: Person) -> None:
    message = signed_offer(product, person)
    desk.open_mailbox(person.user, host=person.host)
    desk.select(message)
    desk.open_sidebar()
    contact = desk.cards.filter(has_text="Contact").first
    expect(contact).to_be_visible(timeout=WAIT_MS)
    expect(contact).to_contain_text(product.known)
    expect(contact.get_by_role("button", expanded=True)).to_be_visible()
    expect(desk.cards).to_have_count(2)  # the contact and the account

    desk.save_button.click()
    expect(desk.bar.get_by_text(SAVED)).to_be_visible(timeout=WAIT_MS)
    expect(desk.row(message)).to_contain_text(person.saved, timeout=WAIT_MS)
    if PICTURES and person.user == 0:
        desk.page.screenshot(path=Path(PICTURES, "sidebar.png"))

    activity, *others = product.saved(message)
    assert others == []
    assert [a["Name"] for a in product.children("EMailAttachmentsCollection", activity["ObjectID"])] == ["Offer 2026-118.pdf"]
    assert len(product.children("EMailInvolvedPartiesCollection", activity["ObjectID"])) == 2

    desk.page.reload()  # the pane is pinned and comes back by itself
    desk.select(message)
    expect(desk.bar.get_by_text(SAVED)).to_be_visible(timeout=WAIT_MS)
    expect(desk.save_button).to_have_count(0)
    assert len(product.saved(message)) == 1


def signed_offer(product: Product, person: Person) -> Message:
    """A message with a file from, or with a copy to, somebody who is in C4C."""
    if person.user == 0:
        return product.message("with_attachment_known_contact")
    return product.forward("with_attachment_known_contact", to=person.user, cc=product.known)


def test_saving_again_from_a_page_that_does_not_know_yet_saves_nothing_twice(
    desk: Desk, product: Product, browser: Browser, person: Person
) -> None:
    message = desk.open(product.send("Saved in two windows", to=person.user, cc=product.known), host=person.host)
    with opened(browser, product) as other:
        other.open(message, host=person.host)
        desk.save_button.click()
        expect(desk.bar.get_by_text(SAVED)).to_be_visible(timeout=WAIT_MS)
        other.save_button.click()
        expect(other.bar.get_by_text(SAVED)).to_be_visible(timeout=WAIT_MS)
        expect(other.row(message)).to_contain_text(person.saved, timeout=WAIT_MS)
    assert len(product.saved(message)) == 1


@pytest.mark.parametrize("person", ["office365", "google"], indirect=True)
def test_a_colleague_sees_that_the_message_is_saved(desk: Desk, product: Product, browser: Browser, person: Person) -> None:
    other = product.facts["users"][1]["email"]
    message = desk.open(product.send("For both of you", to=person.user, cc=f"{product.known}, {other}"), host=person.host)
    desk.save_button.click()
    expect(desk.bar.get_by_text(SAVED)).to_be_visible(timeout=WAIT_MS)

    with opened(browser, product) as colleague:
        colleague.open_mailbox(1)
        colleague.select(product.copy(message, of=1))
        colleague.open_sidebar()
        # The colleague's Outlook speaks German, and so does the pane.
        expect(colleague.pane.get_by_text(re.compile("^Gesichert .* von einer anderen Person"))).to_be_visible(timeout=WAIT_MS)
    assert len(product.saved(message)) == 1


def test_what_the_readme_shows_without_a_browser_works(product: Product, tmp_path: Path) -> None:
    (tmp_path / "dev.json").write_text(product.file.read_text())
    block = next(b for b in re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL) if "dev.env" in b)
    script = block.partition("dev.json; do sleep 0.2; done\n")[2] or block.partition("done\n")[2]
    script = script.replace("Signed offer", product.message("group_named").subject)  # that one is saved by hand above
    done = subprocess.run(["bash", "-eu", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"state":"saved"') >= 2
    assert done.stdout.rstrip().endswith("1")
