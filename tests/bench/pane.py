"""How soon the pane shows something, and what it fetches for that.

Debian's Chromium opens the mail client of the simulator with the pane in its frame, as Outlook on the web would, each time with
an empty cache. The first paint is the frame's own "first-contentful-paint", counted from the frame's navigation: the skeleton,
since everything else comes later. Requests and bytes (headers and body, as they came over the wire) are those that had ended in
the frame before that paint, also those that it did not wait for: how many those are depends on the machine's load. What it did
wait for, by the browser's renderBlockingStatus, and what the pane fetches in all, until it is quiet, are told beside them.
Office.js is counted as a request; its bytes, which a browser does not tell of another origin, and which are Microsoft's, are not.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from playwright.sync_api import Frame, sync_playwright

from tests.bench.figures import Figure, median
from tests.bench.product import Product
from tests.browser.conftest import CHROMIUM

ROUNDS = 9
_LOADS = """() => {
    const page = performance.getEntriesByType("navigation")[0];
    const files = [page, ...performance.getEntriesByType("resource")];
    const paint = performance.getEntriesByName("first-contentful-paint")[0];
    return {
        paint: paint ? paint.startTime : null,
        loads: files.map((f) => ({name: f.name, begun: f.startTime, ended: f.responseEnd, bytes: f.transferSize,
            blocks: f === page || f.renderBlockingStatus === "blocking"})),
    };
}"""


@dataclass(frozen=True)
class Opening:
    """One opening of the pane."""

    paint_ms: float
    requests: int  # until the paint
    bytes: int
    blocking: int  # requests that the paint waited for
    all_requests: int
    all_bytes: int


def measure(product: Product) -> list[Figure]:
    product.simulator.sidebar_url = product.installed.url("/sidebar")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"]
        )
        openings = [_open(browser, product) for _ in range(ROUNDS + 1)][1:]
        browser.close()
    how = f"Chromium, empty cache, median of {ROUNDS}"
    return [
        Figure("pane_first_paint_ms", median([o.paint_ms for o in openings]), f"skeleton; {how}", limit=200),
        Figure("pane_bytes", statistics.median(o.bytes for o in openings), f"until the skeleton; {how}", limit=60 * 1024),
        Figure("pane_requests", statistics.median(o.requests for o in openings), f"until the skeleton; {how}", limit=10),
        Figure("pane_blocking_requests", statistics.median(o.blocking for o in openings), f"that the skeleton waits for; {how}"),
        Figure("pane_all_bytes", statistics.median(o.all_bytes for o in openings), f"until the pane is quiet; {how}"),
        Figure("pane_all_requests", statistics.median(o.all_requests for o in openings), f"until the pane is quiet; {how}"),
    ]


def _open(browser: Any, product: Product) -> Opening:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    address, ref = product.world.cases["known_contact"]
    page.goto(f"{product.simulator.inbox.url}/?pane=1#/mailbox/{quote(address)}/inbox/{quote(ref, safe='')}")
    frame: Frame = page.wait_for_selector("#pane iframe").content_frame()
    frame.wait_for_selector("#main[aria-busy=false]")
    page.wait_for_load_state("networkidle")
    seen = frame.evaluate(_LOADS)
    context.close()
    before = [load for load in seen["loads"] if load["ended"] <= seen["paint"]]
    return Opening(
        seen["paint"],
        len(before),
        sum(load["bytes"] for load in before),
        sum(load["blocks"] for load in seen["loads"]),
        len(seen["loads"]),
        sum(load["bytes"] for load in seen["loads"]),
    )
