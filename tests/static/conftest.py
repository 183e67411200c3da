"""The pane in a real browser, with a mail client and a server that the test writes itself.

Page, files and security headers come from the product; Office.js and /api are scripted here, so that a test can show any state
at once. No port is opened: the browser's requests are answered in the test.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask.testing import FlaskClient
from playwright.sync_api import Browser, Page, Route

ROOT = Path(__file__).resolve().parents[2]
ORIGIN = "https://sidebar.example.com"
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"

# As much of Office.js as the pane uses. What the test wants of it stands in window.name before the page's scripts run.
OFFICE_JS = """
(() => {
  const wanted = JSON.parse(window.name);
  const handlers = {};
  const reaches = (have, want) => have !== undefined && Number(have.split(".")[1]) >= Number(want.split(".")[1]);
  const later = (value, callback) => setTimeout(() => callback({ status: "succeeded", value }));
  const property = (value) => ({ getAsync: (callback) => later(value, callback) });
  const made = (item) => item && (item.compose
    ? { subject: property(item.subject), to: property(item.to), cc: property([]), bcc: property([]), addHandlerAsync() {} }
    : { ...item, getAllInternetHeadersAsync: (callback) => later("", callback) });
  let item = made(wanted.item);
  const sets = { Mailbox: "1.14", IdentityAPI: "1.3", DialogApi: "1.2", ...wanted.sets };
  const officeTheme = { bodyBackgroundColor: wanted.theme };
  const mailbox = {
    get item() { return item; },
    userProfile: { emailAddress: "me@example.com", displayName: "Me", accountType: wanted.accountType ?? "office365" },
    getUserIdentityTokenAsync: (callback) => setTimeout(() => callback(
      wanted.accountType ? { status: "succeeded", value: "identity token" } : { status: "failed", error: { code: 9018 } })),
    convertToRestId: (id) => id,
    addHandlerAsync: (type, handler) => { handlers[type] = handler; },
  };
  const heardBy = (handlers, dialog) => ({
    say: (message, origin = location.origin) => handlers.DialogMessageReceived({ message, origin }),
    end: (error) => { dialog.isOpen = false; handlers.DialogEventReceived({ error }); },
  });
  window.host = {
    select: (next) => { item = made(next); handlers.ItemChanged(); },
    dialogs: [],
    opened: [],
    paint: (color) => { officeTheme.bodyBackgroundColor = color; handlers.OfficeThemeChanged(); },
  };
  window.Office = {
    onReady: () => wanted.ready === false ? new Promise(() => {}) : Promise.resolve({ host: "Outlook" }),
    context: {
      mailbox: wanted.outside ? undefined : mailbox,
      requirements: { isSetSupported: (set, version) => reaches(sets[set], version) },
      ui: {
        displayDialogAsync: (url, options, callback) => {
          const heard = {};
          const dialog = { isOpen: false, close: () => { dialog.isOpen = false; },
            addEventHandler: (type, handler) => { heard[type] = handler; dialog.isOpen = true; } };
          const { dialogError } = wanted;
          if (!dialogError) host.dialogs.push({ url, options, dialog, ...heardBy(heard, dialog) });
          setTimeout(() => callback(dialogError
            ? { status: "failed", error: { code: dialogError } } : { status: "succeeded", value: dialog }));
        },
        openBrowserWindow: (url) => host.opened.push(url),
      },
      displayLanguage: wanted.language ?? "en-GB",
      officeTheme,
    },
    auth: {
      getAccessToken: async () => {
        if (wanted.tokenHangs && wanted.tokenHangs--) await new Promise(() => {});
        if (wanted.tokenError) throw { code: wanted.tokenError };
        return "token";
      },
    },
    EventType: { ItemChanged: "ItemChanged", OfficeThemeChanged: "OfficeThemeChanged", RecipientsChanged: "RecipientsChanged",
      DialogMessageReceived: "DialogMessageReceived", DialogEventReceived: "DialogEventReceived" },
    MailboxEnums: { RestVersion: { v2_0: "v2.0" } },
  };
})();
"""

MESSAGE = {
    "itemId": "AAMk1",
    "itemClass": "IPM.Note",
    "subject": "Quotation for forty pallets, delivery in week 12",
    "from": {"displayName": "Jana Novak", "emailAddress": "jana.novak@northwind.example"},
    "to": [{"displayName": "Tom Becker", "emailAddress": "tom.becker@northwind.example"}],
    "cc": [{"displayName": "", "emailAddress": "nobody@elsewhere.example"}],
    "internetMessageId": "<1@northwind.example>",
    "conversationId": "c1",
}

Answer = tuple[int, Any]
"""Status, and what becomes JSON; a text is sent as it is, and status 0 means that the connection breaks."""


class Held:
    """An answer that comes when the test gives it."""

    def __init__(self) -> None:
        self._routes: list[Route] = []

    def hold(self, route: Route) -> None:
        self._routes.append(route)

    def give(self, answer: Answer) -> None:
        _fulfill(self._routes.pop(0), answer)


@dataclass
class Pane:
    """The sidebar in a browser; `answers` holds what /api says, by path, or a function of the request's body."""

    page: Page
    answers: dict[str, Answer | Callable[[Any], Answer | Held | None]]
    faults: list[str] = field(default_factory=list)

    def axe(self, *, only: str | None = None) -> list[str]:
        """Return what axe-core finds wrong, by all rules or by one."""
        self.page.evaluate(AXE.read_text())
        options = {"runOnly": [only]} if only else {}
        found = self.page.evaluate("options => axe.run(document, options)", options)
        return [f"{v['id']}: {node['html'][:120]}" for v in found["violations"] for node in v["nodes"]]

    def is_cut(self) -> bool:
        return bool(self.page.evaluate("document.documentElement.scrollWidth > innerWidth"))


@pytest.fixture
def open_pane(browser: Browser, client: FlaskClient) -> Iterator[Callable[..., Pane]]:
    """Open the pane: open_pane(answers, item=..., size=..., and what else the mail client should be like).

    `before` is a script that runs first; `routes` answers what else the page asks for, by pattern.
    """
    panes: list[Pane] = []

    def open_pane(
        answers: dict[str, Any],
        *,
        item: Any = MESSAGE,
        size: tuple[int, int] = (320, 640),
        media: dict[str, Any] | None = None,
        before: str = "",
        routes: dict[str, Callable[[Route], None]] | None = None,
        **host: Any,
    ) -> Pane:
        viewport = {"width": size[0], "height": size[1]}
        page = browser.new_page(viewport=viewport, locale="en-GB", timezone_id="Europe/Berlin", **(media or {}))  # type: ignore[arg-type]
        pane = Pane(page, answers)
        panes.append(pane)
        page.on("pageerror", lambda error: pane.faults.append(str(error)))
        page.on("dialog", lambda dialog: (pane.faults.append("a script ran"), dialog.dismiss()))
        page.on("console", lambda said: pane.faults.append(said.text) if "Content Security" in said.text else None)
        page.route("**/*", lambda route: _reply(route, pane, client))
        for pattern, answer in (routes or {}).items():
            page.route(pattern, answer)
        page.add_init_script(f"window.name = {json.dumps(json.dumps({'item': item, **host}))}; {before}")
        page.goto(f"{ORIGIN}/sidebar")
        return pane

    yield open_pane
    for pane in panes:
        pane.page.close()
        assert pane.faults == []


def _reply(route: Route, pane: Pane, client: FlaskClient) -> None:
    path = urlsplit(route.request.url).path
    if path == "/office.js":
        route.fulfill(body=OFFICE_JS, content_type="text/javascript")
    elif path.startswith("/api/"):
        _answer(route, pane.answers.get(path.removeprefix("/api/")))
    else:
        with client.get(path) as found:
            route.fulfill(status=found.status_code, headers=dict(found.headers), body=found.data)


def _answer(route: Route, answer: Any) -> None:
    """None: no answer comes, ever."""
    if callable(answer):
        answer = answer(json.loads(route.request.post_data or "null"))
    if isinstance(answer, Held):
        answer.hold(route)
    elif answer is not None:
        _fulfill(route, answer)


def _fulfill(route: Route, answer: Answer) -> None:
    status, body = answer
    if status == 0:
        return route.abort("connectionreset")
    text = body if isinstance(body, str) else json.dumps(body)
    route.fulfill(status=status, body=text, content_type="application/json", headers={"X-Request-Id": "r1", "Location": "/x"})


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    # No name is looked up: a page that asked for anything beside the routes would fail at once.
    return {
        **browser_type_launch_args,
        "executable_path": "/usr/bin/chromium",
        "args": ["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"],
    }
