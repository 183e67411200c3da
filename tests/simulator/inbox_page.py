"""What tests of the simulator's mail client share: the page in a browser tab, an add-in in its pane, and the way to a message."""

from __future__ import annotations

import time
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

from flask import Response, jsonify, request
from playwright.sync_api import Frame, Locator, Page

from simulator.world import MailboxState, StoredMessage, World

CHROMIUM = "/usr/bin/chromium"
AXE = Path(__file__).parents[2] / "node_modules/axe-core/axe.min.js"

Answer = dict[str, Any] | Response | Callable[[], dict[str, Any] | Response]

MSAL = Path(__file__).parents[2] / "node_modules/@azure/msal-browser/lib/msal-browser.min.js"


def box_of(world: World, case: str) -> MailboxState:
    return world.mailbox(world.cases[case][0])


def stored(world: World, case: str) -> StoredMessage:
    return box_of(world, case).messages[world.cases[case][1]]


def path(world: World, case: str, rest: str = "") -> str:
    address, ref = world.cases[case]
    return f"/api/mailboxes/{address}/messages/{ref}{rest}"


_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABh6FO1AAAAABJRU5ErkJggg=="
PICTURES = {
    "a.png": Response(b64decode(_PIXEL), content_type="image/png"),
    "a.svg": Response('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', content_type="image/svg+xml"),
}


@dataclass(frozen=True, slots=True)
class Call:
    """A request that the add-on's endpoint got."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class Endpoint:
    """The product's `/gmail/...` as a test wants it: the answers to come, the last one for ever, and what was asked."""

    def __init__(self) -> None:
        self.url = ""  # of the product
        self.answers: dict[str, list[Answer]] = {}
        self.calls: list[Call] = []

    def answer(self, what: str) -> Response:
        headers = {name: value for name, value in request.headers.items() if name in ("Authorization", "User-Agent")}
        self.calls.append(Call(request.path, headers, request.get_json()))
        waiting = self.answers[what]
        answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        if not isinstance(answer, dict | Response):
            answer = answer()
        return answer if isinstance(answer, Response) else jsonify(answer)


class Client:
    """The mail client in a browser tab, the page of an add-in in its pane, and the endpoint of an add-on."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.endpoint = Endpoint()
        self.world = World()
        self.errors: list[str] = []
        page.set_default_timeout(8_000)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("dialog", lambda dialog: self.errors.append(f"a script ran: {dialog.message}"))

    def open(self, case: str, host: str = "", **query: str) -> Frame:
        """Open the case's message with the pane beside it; return the pane's frame once Office is ready."""
        self.go(case, host, **query)
        self.row(case).wait_for(state="attached")  # a narrow page shows the message, not the list
        return self.pane()

    def go(self, case: str = "", host: str = "", **query: str) -> None:
        """Open the case's message, or the mailbox without one, with the pane beside it."""
        address, ref = self.world.cases[case] if case else (self.world.people[0].email, "")
        more = "".join(f"&{key}={value}" for key, value in query.items())
        self.page.goto(f"{self.url}/?pane=1&host={host}{more}#/mailbox/{address}/inbox/{ref}")

    def pane(self) -> Frame:
        self.page.locator("#pane iframe").wait_for()
        frame = self.page.frame_locator("#pane iframe")
        frame.locator("body[data-ready]").wait_for()
        return next(f for f in self.page.frames if "/sidebar" in f.url)

    def row(self, case: str) -> Locator:
        return self.page.locator(f"[data-id='{self.world.cases[case][1]}']")

    def select(self, case: str) -> None:
        self.row(case).click()
        self.page.get_by_role("main").get_by_role("heading", name=self.subject(case)).wait_for()

    def subject(self, case: str) -> str:
        letter = message_from_bytes(stored(self.world, case).mime, policy=policy.default)
        return str(letter["Subject"])


ADD_IN = """<!doctype html><html lang="en"><title>Add-in</title><script src="%s/office.js"></script><body><p>Add-in</p>
<script type="module">
window.events = [];
/** Call an Office.js method and return its AsyncResult. */
window.result = (method, ...args) => new Promise((resolve) => { method(...args, (r) => resolve({...r})); });
window.subject = () => Office.context.mailbox?.item?.subject ?? null;
const info = await Office.onReady();
const mailbox = Office.context.mailbox;
mailbox?.addHandlerAsync(Office.EventType.ItemChanged, () => window.events.push(subject()));
document.body.dataset.ready = JSON.stringify(info);
</script></body></html>"""

DIALOG = """<!doctype html><html lang="en"><title>Dialog</title><script src="%s/office.js"></script><body><p>Add-in</p>
<script type="module">
await Office.onReady();
const ui = Office.context.ui;
ui.addHandlerAsync(Office.EventType.DialogParentMessageReceived, (event) => ui.messageParent("echo " + event.message));
ui.messageParent("signed in");
</script></body></html>"""

SIGN_IN_SCRIPT = Path(__file__).parents[2] / "static/pages/pane-sign-in.js"
SIGNED_IN = """<!doctype html><html lang="en"><title>Sign in</title>
<meta name="ssi-token" content="a.b.c" data-expires-in-s="900">
<script src="%s/office.js"></script><script defer src="/pane-sign-in.js"></script><body><p>You are signed in.</p></html>"""


def eventually(holds: Callable[[], bool], page: Page, within_s: float = 3.0) -> bool:
    """Wait in the browser's loop until `holds`."""
    deadline = time.monotonic() + within_s
    while not holds() and time.monotonic() < deadline:
        page.wait_for_timeout(20)
    return holds()
