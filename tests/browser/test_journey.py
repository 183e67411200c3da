"""The whole way, as a person goes it: select a message, see who it is, save it, see that it is saved."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import ROOT, WAIT_MS, Desk, Product

pytestmark = pytest.mark.browser
PICTURES = os.environ.get("PICTURES")
"""Where to put the README's picture: `PICTURES=docs ./run test tests/browser/test_journey.py` makes it anew."""


def test_one_click_saves_the_selected_message_exactly_once(desk: Desk, product: Product) -> None:
    desk.open_mailbox()
    desk.select("with_attachment_known_contact")
    desk.open_sidebar()
    contact = desk.pane.get_by_role("article").filter(has_text="Contact").first
    expect(contact).to_be_visible(timeout=WAIT_MS)
    expect(contact.get_by_role("button", expanded=True)).to_be_visible()
    expect(desk.pane.get_by_role("article")).to_have_count(2)  # the contact and the account

    desk.pane.get_by_role("button", name=re.compile("^Save this e-mail")).click()
    expect(desk.pane.get_by_text(re.compile("^Saved .* by you"))).to_be_visible(timeout=WAIT_MS)
    expect(desk.row("with_attachment_known_contact")).to_contain_text("Saved in SAP Cloud for Customer", timeout=WAIT_MS)
    if PICTURES:
        desk.page.screenshot(path=Path(PICTURES, "sidebar.png"))

    item = product.item("with_attachment_known_contact")
    activity, *others = product.activities(item["internet_message_id"])
    assert others == []
    assert [a["Name"] for a in product.children("EMailAttachmentsCollection", activity["ObjectID"])] == ["Offer 2026-118.pdf"]
    assert len(product.children("EMailInvolvedPartiesCollection", activity["ObjectID"])) == 2

    desk.page.reload()  # the pane is pinned and comes back by itself
    desk.select("with_attachment_known_contact")
    expect(desk.pane.get_by_text(re.compile("^Saved .* by you"))).to_be_visible(timeout=WAIT_MS)
    expect(desk.pane.get_by_role("button", name=re.compile("^Save this e-mail"))).to_have_count(0)
    assert len(product.activities(item["internet_message_id"])) == 1


def test_a_colleague_sees_that_the_message_is_saved(desk: Desk, product: Product, browser: Browser) -> None:
    desk.open_mailbox()
    desk.select("shared_message_id")
    desk.open_sidebar()
    desk.pane.get_by_role("button", name=re.compile("^Save this e-mail")).click()
    expect(desk.pane.get_by_text(re.compile("^Saved .* by you"))).to_be_visible(timeout=WAIT_MS)

    page = browser.new_page(viewport={"width": 1400, "height": 860})
    colleague = Desk(page, product)
    colleague.open_mailbox(1)
    colleague.select("shared_message_id")
    colleague.open_sidebar()
    # The colleague's Outlook speaks German, and so does the pane.
    expect(colleague.pane.get_by_text(re.compile("^Gesichert .* von einer anderen Person"))).to_be_visible(timeout=WAIT_MS)
    page.close()
    assert len(product.activities(product.item("shared_message_id")["internet_message_id"])) == 1


def test_what_the_readme_shows_without_a_browser_works(product: Product, tmp_path: Path) -> None:
    (tmp_path / "dev.json").write_text(product.file.read_text())
    block = next(b for b in re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL) if "dev.env" in b)
    script = block.partition("dev.json; do sleep 0.2; done\n")[2] or block.partition("done\n")[2]
    script = script.replace("Signed offer", product.message("group_named").subject)  # that one is saved by hand above
    done = subprocess.run(["bash", "-eu", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"state":"saved"') >= 2
    assert done.stdout.rstrip().endswith("1")
