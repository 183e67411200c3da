"""A running product for the journeys: `./run dev` as a newcomer starts it, and a browser in front of it."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, FrameLocator, Page, expect

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = "/usr/bin/chromium"
WAIT_MS = 15_000  # for what the server does; a loaded machine is slow


@dataclass(frozen=True)
class Product:
    """What `./run dev --json` printed, and the World's back door."""

    facts: dict[str, Any]
    file: Path  # the same as a file

    def world(self, path: str) -> Any:
        return httpx.get(f"{self.facts['inbox']}/world/{path}").raise_for_status().json()

    def tell(self, path: str, body: dict[str, Any]) -> None:
        httpx.post(f"{self.facts['inbox']}/world/{path}", json=body).raise_for_status()

    def activities(self, message_id: str) -> list[dict[str, Any]]:
        """Ask C4C itself, as its administrator, which activities it has for a message."""
        return self.c4c("EMailCollection", f"GroupwareItemID eq '{message_id.strip('<>')}'")

    def children(self, entity_set: str, parent: str) -> list[dict[str, Any]]:
        return self.c4c(entity_set, f"ParentObjectID eq '{parent}'")

    def c4c(self, entity_set: str, condition: str) -> list[dict[str, Any]]:
        admin = self.facts["c4c_admin"]
        url = f"{self.facts['c4c']}/sap/c4c/odata/v1/c4codataapi/{entity_set}"
        query = {"$filter": condition, "$format": "json"}
        trust = ssl.create_default_context(cafile=self.facts["ca_file"])
        answer = httpx.get(url, params=query, auth=(admin["user"], admin["password"]), verify=trust)
        rows: list[dict[str, Any]] = answer.raise_for_status().json()["d"]["results"]
        return rows

    def item(self, case: str, user: int = 0) -> dict[str, Any]:
        """The item object of a named message, as the pane would send it."""
        subject = SUBJECTS[case]
        found: dict[str, Any] = next(m for m in self.facts["users"][user]["messages"] if m["subject"] == subject)
        return found


SUBJECTS = {
    "with_attachment_known_contact": "Signed offer",
    "shared_message_id": "For both of you",
    "unknown_sender": "Request",
    "newsletter": "Pump World Weekly 47",
    "colleagues_only": "Canteen",
    "attachments": "Everything you asked for",
}


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    command = [str(ROOT / "run"), "dev", "--json", "--port", str(_free_ports())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stderr
            line = process.stdout.readline()
            assert line, process.stderr.read()
            file = tmp_path_factory.mktemp("product") / "dev.json"
            file.write_text(line)
            yield Product(json.loads(line), file)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def _free_ports() -> int:
    """Return the first of six ports that nobody uses."""
    for first in range(9800, 12_000, 10):
        if all(_is_free(port) for port in range(first, first + 6)):
            return first
    raise AssertionError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    # Names beside loopback are not looked up, so that a page that tried to reach one would fail at once.
    return {
        **browser_type_launch_args,
        "executable_path": CHROMIUM,
        "args": ["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"],
    }


@dataclass(frozen=True)
class Desk:
    """One person's mail client with the sidebar open beside the selected message."""

    page: Page
    product: Product

    @property
    def pane(self) -> FrameLocator:
        return self.page.frame_locator("#pane iframe")

    def open_mailbox(self, user: int = 0) -> None:
        self.page.goto(f"{self.product.facts['inbox']}/?mailbox={self.product.facts['users'][user]['email']}")

    def select(self, case: str) -> None:
        """Select a named message, as a person finds it in the list."""
        self.row(case).click()

    def row(self, case: str) -> Any:
        return self.page.get_by_role("option").filter(has=self.page.get_by_text(SUBJECTS[case], exact=True))

    def open_sidebar(self) -> None:
        self.page.get_by_role("button", name="View context of SAP Cloud for Customer").click()
        expect(self.pane.locator("#main")).to_be_visible(timeout=WAIT_MS)


@pytest.fixture
def desk(browser: Browser, product: Product) -> Iterator[Desk]:
    context = browser.new_context(viewport={"width": 1400, "height": 860}, locale="en-GB", timezone_id="Europe/Berlin")
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield Desk(page, product)
    context.close()
    assert problems == []
