"""The sync engine as its first user sees it: a mailbox is connected, is filled, and stays in step with C4C."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, expect

from tests.browser import settings
from tests.browser.conftest import WAIT_MS, Desk, Product
from tests.browser.settings import ENABLED, Settings

pytestmark = pytest.mark.browser

DONE = re.compile("^All is up to date")
SHARE, SAVED = "SAP Cloud for Customer SSI", "Saved in SAP Cloud for Customer"
MICROSOFT = 0  # of the newcomers


@pytest.fixture
def mine(desk: Desk) -> Iterator[Settings]:
    """A newcomer who is responsible for one contact, and whose mailbox is not connected."""
    mine = settings.of(desk.page.context, desk.product, desk.product.facts["newcomers"][MICROSOFT])
    mine.have_disconnected()
    yield mine
    mine.have_disconnected()


def contact_of(product: Product, who: Settings) -> dict[str, str]:
    """Return a contact of C4C that this person, and nobody else, is responsible for from now on."""
    (user,) = product.c4c("BusinessUserCollection", f"UserID eq '{who.who['c4c']['user']}'")
    contact = product.c4c("ContactCollection", "LastName eq 'Adams'")[0]
    product.change_in_c4c("ContactCollection", contact["ObjectID"], ContactOwnerID=user["EmployeeID"])
    return contact


def state(mine: Settings) -> Locator:
    return mine.page.locator(".engine")


def force(mine: Settings) -> None:
    """Press Force Sync, and wait until that session is done."""
    mine.page.bring_to_front()
    mine.button("Force Sync").click()
    expect(state(mine)).to_have_text(DONE, timeout=WAIT_MS)


def contacts(desk: Desk, mine: Settings) -> Locator:
    """Open the mail client's contacts, at our folder."""
    desk.page.bring_to_front()  # a page behind another draws once a second
    desk.page.goto(f"{desk.product.facts['inbox']}/?mailbox={mine.email}")
    desk.page.get_by_role("button", name="Contacts").click()
    dialog = desk.page.get_by_role("dialog", name="Contacts")
    dialog.get_by_role("combobox", name="Folder").first.select_option(label="SAP Contacts")
    return dialog


def test_from_connecting_to_a_mailbox_in_step_with_c4c(desk: Desk, product: Product, mine: Settings) -> None:
    contact = contact_of(product, mine)
    mine.connect()
    expect(mine.heading).to_have_text(ENABLED, timeout=WAIT_MS)
    mine.page.goto(f"{product.facts['server']}/settings/")
    expect(state(mine)).to_have_text(DONE, timeout=WAIT_MS)
    expect(mine.main).to_contain_text("1 added to the mailbox")
    shown = contacts(desk, mine)
    shown.get_by_role("button", name=f"{contact['FirstName']} {contact['LastName']}").click()
    assert settings.faults(desk.page) == []

    shown.get_by_label("Mobile").fill("+44 1632 960321")
    shown.get_by_role("button", name="Save").click()
    expect(desk.page.get_by_role("status")).to_have_text("Contact saved")
    shown.get_by_role("button", name="Close").click()
    product.change_in_c4c("ContactCollection", contact["ObjectID"], JobTitle="Head of Engines")
    message = product.write_to(mine.email, "To be saved by its mark")
    desk.select(message)
    desk.page.get_by_role("button", name="Categorize").click()
    desk.page.get_by_role("menuitemcheckbox", name=SHARE, exact=True).click()
    force(mine)
    expect(desk.row(message)).to_contain_text(SAVED, timeout=WAIT_MS)
    assert len(product.saved(message)) == 1

    contacts(desk, mine).get_by_role("button", name=str(contact["LastName"])).click()
    expect(desk.page.get_by_label("Job title")).to_have_value("Head of Engines", timeout=WAIT_MS)
    (row,) = product.c4c("ContactCollection", f"ObjectID eq '{contact['ObjectID']}'")
    assert row["Mobile"] == "+44 1632 960321"
