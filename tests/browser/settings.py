"""User Settings as a person uses them, and the sign-in pages of the services beside them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from playwright.sync_api import BrowserContext, Locator, Page, expect

from simulator.ews import PATH as EWS_PATH
from tests.browser.conftest import ROOT, WAIT_MS, Product

HOME = "/settings/sync/email"
SESSION = "__Host-ssi"
ENABLED = "Synchronization was enabled"
STAYS = "Your present connection stays as it was."

_SESSIONS: dict[str, list[Any]] = {}
"""Who signed in before -> the cookie, for the next browser: signing in again for each test would take the longest of all."""

Service = Literal["MS Office 365", "Google", "MS Exchange/Outlook.com"]

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
RUN_AXE = """async () => (await axe.run(document, { resultTypes: ["violations"] })).violations
  .flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html.slice(0, 120)}`))"""
TOO_WIDE = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


@dataclass(frozen=True)
class Settings:
    """One person's User Settings in a tab of a browser."""

    page: Page
    product: Product
    who: dict[str, Any]
    """One of `users` or `newcomers` of what `./run dev` printed."""

    @property
    def email(self) -> str:
        return str(self.who["email"])

    @property
    def heading(self) -> Locator:
        return self.page.get_by_role("heading", level=1)

    @property
    def main(self) -> Locator:
        return self.page.get_by_role("main")

    @property
    def alert(self) -> Locator:
        """Why something did not happen."""
        return self.page.get_by_role("alert")

    @property
    def progress(self) -> Locator:
        return self.page.locator("[data-text=progress]")

    @property
    def sidebar_seen(self) -> Locator:
        return self.page.locator("[data-text=sidebar]")

    def another_tab(self) -> Settings:
        return Settings(self.page.context.new_page(), self.product, self.who)

    def link(self, name: str) -> Locator:
        return self.main.get_by_role("link", name=name, exact=True)

    def button(self, name: str | re.Pattern[str]) -> Locator:
        return self.page.get_by_role("button", name=name)

    # -- Signing in -------------------------------------------------------------------------------------------------------

    def open(self, place: str = "") -> None:
        """Open a page of the settings, and sign in to C4C if that is asked for."""
        server = self.product.facts["server"]
        if not self.page.context.cookies(server):
            self.page.context.add_cookies(_SESSIONS.get(self.email, []))
        self.page.goto(f"{server}{HOME}{place}")
        if "/sign-in" in self.page.url:
            self.sign_in()

    def sign_in(self) -> None:
        """Go from our sign-in page through that of the company, and come back."""
        server = self.product.facts["server"]
        self.to_company()
        self.page.wait_for_url(re.compile(re.escape(server) + "/(settings|pane)"))
        kept = ("name", "value", "domain", "path", "expires", "httpOnly", "secure", "sameSite")
        cookies = [{name: cookie.get(name) for name in kept} for cookie in self.page.context.cookies(server)]
        _SESSIONS[self.email] = [cookie for cookie in cookies if cookie["name"] == SESSION]

    def to_company(self, email: str = "") -> None:
        self.button("Continue to your company's sign-in").click()
        self.choose_account(email)

    def continue_as(self) -> None:
        """In the sidebar's window, say that one is who is signed in there; then it closes by itself."""
        self.button(re.compile("^Continue as ")).click()

    def choose_account(self, email: str = "") -> None:
        """On a service's page, say who is signing in."""
        expect(self.heading).to_have_text("Who is signing in?", timeout=WAIT_MS)
        self.page.locator("button", has=self.page.get_by_text(email or self.email, exact=False)).click()

    # -- The wizard -------------------------------------------------------------------------------------------------------

    def choose(self, service: Service) -> None:
        """From the settings, press Change (or what is there for the first time) and choose the service."""
        self.main.get_by_role("link", name=re.compile("^(Change|Connect a mailbox)$")).click()
        self.link(service).click()

    def to_service(self) -> None:
        self.button(re.compile("^Continue to (Microsoft|Google)$")).click()

    def consent(self, *, all_boxes: bool = True) -> None:
        """Agree to what the service says that we want, where it has to be ticked to all of it or to all but the last."""
        expect(self.heading).to_have_text("Permissions requested", timeout=WAIT_MS)
        boxes = self.page.get_by_role("checkbox")
        for number in range(count := boxes.count()):
            boxes.nth(number).set_checked(all_boxes or number < count - 1)
        self.button("Continue").click()

    def agree_at_google(self) -> None:
        self.to_service()
        self.choose_account()
        self.consent()

    def enter(self, **entries: str) -> None:
        """Fill in the form for Exchange, in all of its fields, and send it."""
        known = {"address": self.email, "password": self.who["mailbox"].get("password", ""), "user": "", "url": self.ews_url}
        if not self.page.locator("#url").is_visible():
            self.main.locator("summary").first.click()
        for name, text in (known | entries).items():
            self.page.locator(f"#{name}").fill(text)
        self.button("Connect").click()

    @property
    def ews_url(self) -> str:
        return str(self.product.facts["ews"]) + EWS_PATH

    def have_connected(self) -> None:
        """See to it that this newcomer's mailbox (not one at Outlook.com) is connected, however it was before."""
        self.open()
        if not self.main.get_by_text("Connected", exact=True).is_visible():
            self.connect()
            expect(self.heading).to_have_text(ENABLED, timeout=WAIT_MS)

    def connect(self) -> None:
        self.open("/change")
        match self.who["access_type"]:
            case "google":
                self.link("Google").click()
                self.agree_at_google()
            case "office365":  # agreed to before
                self.link("MS Office 365").click()
                self.to_service()
                self.choose_account()
            case _:
                self.link("MS Exchange/Outlook.com").click()
                self.enter()

    def have_disconnected(self) -> None:
        self.open("/disconnect")
        if "/disconnect" in self.page.url:
            self.button("Disconnect").click()

    # -- How it looks -----------------------------------------------------------------------------------------------------

    def faults(self) -> list[str]:
        return faults(self.page)

    def refused(self, title: str, next_step: str) -> None:
        """Expect a refusal, in words that help, on a page without a fault."""
        expect(self.alert.get_by_role("heading")).to_have_text(title, timeout=WAIT_MS)
        expect(self.alert).to_contain_text(next_step)
        expect(self.alert).to_be_focused()
        assert self.faults() == []


def faults(page: Page) -> list[str]:
    """Return what axe-core finds wrong in the page as it is, and what makes it scroll sideways."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text())
    found: list[str] = page.evaluate(RUN_AXE)
    return found + (["wider than the window"] if page.evaluate(TOO_WIDE) else [])


def of(context: BrowserContext, product: Product, who: dict[str, Any]) -> Settings:
    return Settings(context.new_page(), product, who)
