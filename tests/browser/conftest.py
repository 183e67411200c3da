"""A running product for the journeys: `./run dev` as a newcomer starts it, and a browser in front of it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pytest
from playwright.sync_api import Browser, Frame, FrameLocator, Locator, Page, expect

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = "/usr/bin/chromium"
WAIT_MS = 15_000  # for what the server does; a loaded machine is slow


CATEGORIES = ("Saved in SAP Cloud for Customer", "Error in SAP Cloud for Customer")
MARKS = {
    "office365": CATEGORIES,
    "exchange_direct": CATEGORIES,
    "exchange_impersonation": CATEGORIES,
    "google": ("SAP E-Mails/Saved", "SAP E-Mails/Sync Error"),
}
"""Where a mailbox may be -> what the mail client shows there on a message that is saved, and on one that could not be."""


@dataclass(frozen=True)
class Person:
    """One of the demo's people. A test that takes `person` holds wherever the mailbox is."""

    user: int  # number in what `./run dev` printed
    saved: str
    failed: str
    host: str  # how the mail client is to be, so that the pane speaks English


@dataclass(frozen=True)
class Product:
    """What `./run dev --json` printed, and the World's back door."""

    facts: dict[str, Any]
    file: Path  # the same as a file

    def world(self, path: str) -> Any:
        return httpx.get(f"{self.facts['inbox']}/world/{path}").raise_for_status().json()

    def tell(self, path: str, body: dict[str, Any]) -> None:
        httpx.post(f"{self.facts['inbox']}/world/{path}", json=body).raise_for_status()

    def fault(self, vendor: str, kind: str, **how: Any) -> None:
        """Let a vendor misbehave, once if not said otherwise; see `Fault` of simulator/world.py."""
        self.tell("faults", {"vendor": vendor, "kind": kind, **how})

    def slow(self, vendor: str, ms: int) -> None:
        self.tell("latency", {"vendor": vendor, "base_ms": ms})

    def heal(self) -> None:
        """Let all vendors behave again."""
        httpx.delete(f"{self.facts['inbox']}/world/faults").raise_for_status()
        for vendor in ("c4c", "exchange", "google", "google_identity", "graph", "identity", "smtp"):
            self.slow(vendor, 0)

    def happens(self, to: str, turn: str, value: str = "") -> None:
        """Let something happen to a person at their provider; see `simulator.inbox.backdoor`."""
        self.tell(f"people/{to}/{turn}", {"value": value})

    def mails_to(self, address: str) -> list[dict[str, Any]]:
        """What the operator's mail server took for this address, oldest first."""
        return [mail for mail in self.world("mails") if address in mail["recipients"]]

    def person(self, access_type: str) -> Person:
        """Return the first person whose mailbox is there."""
        types = [user["access_type"] for user in self.facts["users"]]
        speaks_german = access_type == "exchange_impersonation"
        return Person(types.index(access_type), *MARKS[access_type], host="language-en" if speaks_german else "")

    @property
    def known(self) -> str:
        """The address of a contact who works for an account."""
        return str(self.item("with_attachment_known_contact")["from"]["address"])

    def message(self, case: str) -> Message:
        """Return a named message of the demo."""
        place = self.world("cases")[case]
        return self._message(place["mailbox"], place["id"])

    def ordinary(self, user: int, number: int = 0) -> Message:
        """Return a message that this person got from somebody outside who is in C4C; numbers count from 0."""
        own = self.facts["users"][user]
        strangers = re.compile(r"@(aldermill|unheard-of|trade-letter)\.example$")
        messages = [m for m in own["messages"] if not strangers.search(m["from"]["address"])]
        return self._message(own["email"], messages[number]["id"])

    def newsletter(self, user: int) -> Message:
        own = self.facts["users"][user]
        return self._message(own["email"], next(m["id"] for m in own["messages"] if "List-Id" in m["headers"]))

    def stranger(self, user: int) -> Message:
        """Return a message that this person got from somebody who is not in C4C."""
        own = self.facts["users"][user]
        return self._message(
            own["email"], next(m["id"] for m in own["messages"] if m["from"]["address"].endswith("@unheard-of.example"))
        )

    def send(self, subject: str, *, to: int, cc: str) -> Message:
        """Let a colleague write a message to this person, with others in copy."""
        colleague, person = (self.facts["users"][n]["email"] for n in (2 if to != 2 else 3, to))
        return self._send(colleague, person, subject, cc=cc)

    def write_to(self, address: str, subject: str) -> Message:
        """Let a colleague write to somebody who need not be one of the users, with somebody of C4C in copy."""
        return self._send(self.facts["users"][2]["email"], address, subject, cc=self.known)

    def forward(self, case: str, *, to: int, cc: str) -> Message:
        """Let the owner of a named message forward its files to this person, as a message that is nobody else's."""
        message = self.message(case)
        return self._send(message.mailbox, self.facts["users"][to]["email"], message.subject, cc=cc, forward=message.id)

    def copy(self, message: Message, *, of: int) -> Message:
        """Return another recipient's copy of a message."""
        address = self.facts["users"][of]["email"]
        rows = httpx.get(f"{self.facts['inbox']}/api/mailboxes/{address}").raise_for_status().json()["messages"]
        copies = (self._message(address, row["id"]) for row in rows if row["subject"] == message.subject)
        return next(copy for copy in copies if copy.message_id == message.message_id)

    def _send(self, sender: str, person: str, subject: str, **more: str) -> Message:
        letter = {"to": person, "subject": subject, "text": "Please see below.", "send": True, **more}
        url = f"{self.facts['inbox']}/api/mailboxes/{sender}/messages"
        httpx.post(url, json=letter, timeout=WAIT_MS / 1000).raise_for_status()
        rows = httpx.get(f"{self.facts['inbox']}/api/mailboxes/{person}").raise_for_status().json()["messages"]
        return self._message(person, next(row["id"] for row in rows if row["subject"] == subject))

    def _message(self, mailbox: str, ref: str) -> Message:
        url = f"{self.facts['inbox']}/api/mailboxes/{mailbox}/messages/{quote(ref, safe='')}"
        found = httpx.get(url).raise_for_status().json()
        return Message(mailbox, found["id"], found["subject"], found["internet_message_id"] or "")

    def saved(self, message: Message) -> list[dict[str, Any]]:
        """Return the e-mail activities that C4C has for a message."""
        return self.activities(message.message_id)

    def activities(self, message_id: str) -> list[dict[str, Any]]:
        """Ask C4C itself, as its administrator, which activities it has for a message."""
        return self.c4c("EMailCollection", f"GroupwareItemID eq '{message_id.strip('<>')}'")

    def children(self, entity_set: str, parent: str) -> list[dict[str, Any]]:
        return self.c4c(entity_set, f"ParentObjectID eq '{parent}'")

    def c4c(self, entity_set: str, condition: str) -> list[dict[str, Any]]:
        with self._c4c() as client:
            answer = client.get(entity_set, params={"$filter": condition, "$format": "json"})
        rows: list[dict[str, Any]] = answer.raise_for_status().json()["d"]["results"]
        return rows

    def change_in_c4c(self, entity_set: str, object_id: str, **properties: Any) -> None:
        """Change a record as C4C's administrator does."""
        with self._c4c() as client:
            token = client.get("", headers={"x-csrf-token": "fetch", "accept": "application/json"}).headers["x-csrf-token"]
            address = f"{entity_set}('{object_id}')"
            client.patch(address, json=properties, headers={"x-csrf-token": token}).raise_for_status()

    def _c4c(self) -> httpx.Client:
        admin = self.facts["c4c_admin"]
        return httpx.Client(
            base_url=f"{self.facts['c4c']}/sap/c4c/odata/v1/c4codataapi/",
            auth=(admin["user"], admin["password"]),
            verify=ssl.create_default_context(cafile=self.facts["ca_file"]),
        )

    def item(self, case: str, user: int = 0) -> dict[str, Any]:
        """The item object of a named message, as the pane would send it."""
        subject = SUBJECTS[case]
        found: dict[str, Any] = next(m for m in self.facts["users"][user]["messages"] if m["subject"] == subject)
        return found


@dataclass(frozen=True)
class Message:
    """A message in somebody's mailbox, as the mail client knows it."""

    mailbox: str
    id: str
    subject: str
    message_id: str


SUBJECTS = {
    "with_attachment_known_contact": "Signed offer",
    "unknown_sender": "Request",
    "attachments": "Everything you asked for",
}


UNLIMITED = {"SSI_USER_CALLS_PER_MINUTE": "0", "SSI_FAILED_SIGN_INS_PER_MINUTE": "0"}


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    command = [str(ROOT / "run"), "dev", "--json", "--port", str(_free_ports())]
    # A test clicks faster than a person may.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | UNLIMITED
    ) as process:
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
    """Return the first of nine ports that nobody uses; where to look depends on the process, so that two runs do not meet."""
    for first in range(9800 + os.getpid() % 1000 * 10, 30_000, 10):
        if all(_is_free(port) for port in range(first, first + 9)):
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
    problems: list[str] = field(default_factory=list)
    """Exceptions that nothing in the page caught."""

    @property
    def pane(self) -> FrameLocator:
        return self.page.frame_locator("#pane iframe")

    @property
    def frame(self) -> Frame:
        """The pane's own page, to run scripts in."""
        frame = self.page.locator("#pane iframe").element_handle().content_frame()
        assert frame
        return frame

    @property
    def bar(self) -> Locator:
        return self.pane.locator("#bar")

    @property
    def save_button(self) -> Locator:
        return self.bar.get_by_role("button", name=re.compile("^Save this e-mail"))

    @property
    def sheet(self) -> Locator:
        return self.pane.get_by_role("dialog")

    @property
    def cards(self) -> Locator:
        return self.pane.get_by_role("article")

    @property
    def toast(self) -> Locator:
        return self.pane.locator("#toasts")

    @property
    def selected(self) -> Locator:
        """The selected row of the mail client's list."""
        return self.page.locator("#messages").get_by_role("option", selected=True)

    def open_mailbox(self, user: int, **query: str) -> None:
        query["mailbox"] = self.product.facts["users"][user]["email"]
        self.page.goto(f"{self.product.facts['inbox']}/?{urlencode(query)}")

    def select(self, message: Message) -> None:
        """Select a message, as a person finds it in the list."""
        self.row(message).click()

    def row(self, message: Message) -> Locator:
        return self.page.locator("#messages").locator(f"[data-id='{message.id}']")

    def open_sidebar(self) -> None:
        self.page.get_by_role("button", name="View context of SAP Cloud for Customer").click()
        expect(self.pane.locator("#main")).to_be_visible(timeout=WAIT_MS)

    def go(self, message: Message, **query: str) -> None:
        """Select a message by its address, which opens the pane at first. `host`: how the mail client misbehaves; `theme`."""
        places = "/".join(quote(place, safe="") for place in (message.mailbox, "inbox", message.id))
        url = f"{self.product.facts['inbox']}/?{urlencode({'pane': 1, **query})}#/mailbox/{places}"
        self.page.goto(url)

    def open(self, message: Message | str, **query: str) -> Message:
        """Select a message and wait until the pane has an answer for it."""
        message = self.product.message(message) if isinstance(message, str) else message
        self.go(message, **query)
        expect(self.pane.locator("#headline")).to_contain_text(message.subject, timeout=WAIT_MS)
        expect(self.pane.locator("#main[aria-busy=false]")).to_be_visible(timeout=WAIT_MS)
        return message

    def behave(self, *behaviours: str) -> None:
        """Change how the mail client misbehaves, in its developer bar, without reloading anything."""
        toggle = self.page.get_by_role("button", name="Developer")
        toggle.click()
        for box in self.page.locator("#developer").get_by_role("checkbox").all():
            box.set_checked(False)
        self.page.get_by_role("combobox", name="getAccessToken").select_option("")
        for label in behaviours:
            self.page.get_by_label(label).set_checked(True)
        toggle.click()


@contextmanager
def opened(browser: Browser, product: Product) -> Iterator[Desk]:
    context = browser.new_context(viewport={"width": 1400, "height": 860}, locale="en-GB", timezone_id="Europe/Berlin")
    context.set_default_timeout(WAIT_MS)
    desk = Desk(context.new_page(), product)
    desk.page.on("pageerror", lambda error: desk.problems.append(str(error)))
    try:
        yield desk
    finally:
        context.close()


@pytest.fixture
def desk(browser: Browser, product: Product) -> Iterator[Desk]:
    with opened(browser, product) as desk:
        yield desk
    assert desk.problems == []


@pytest.fixture(scope="session")
def _window(browser: Browser, product: Product) -> Iterator[Desk]:
    with opened(browser, product) as desk:
        yield desk


@pytest.fixture
def pinned(_window: Desk) -> Iterator[Desk]:
    """A desk at which the sidebar stays open from message to message (and test to test), as it does all day."""
    yield _window
    _window.page.evaluate("location.hash = ''")  # nothing is selected: whatever was open is closed
    problems = list(_window.problems)
    _window.problems.clear()
    assert problems == []


# Who signs in to Exchange makes no difference here, so one of the two is for the long run.
@pytest.fixture(params=[pytest.param(k, marks=pytest.mark.soak if k == "exchange_impersonation" else ()) for k in MARKS])
def person(request: pytest.FixtureRequest, product: Product) -> Person:
    return product.person(request.param)


@pytest.fixture(autouse=True)
def _healthy(product: Product) -> Iterator[None]:
    """Whatever a test did to the vendors ends with it."""
    yield
    product.heal()
