"""How long the server takes for the card beside a message in Gmail, cold and warm, called as the add-on's script calls.

Cold and warm mean what they mean in `lookup`. The script reads the header itself, so that nothing but C4C is asked; what the
script and Google's own machines take comes on top, and is nothing that we can measure.
"""

from __future__ import annotations

import itertools
from typing import Any

from tests.bench.figures import CannotMeasure, Figure, median, percentile
from tests.bench.product import Caller, Item, Product, never_seen

COLD_ROUNDS = 40
OVERHEAD_ROUNDS = 120
WARM_ROUNDS = 400
LATENCY_MS = 300
MESSAGES = 20


def measure(product: Product) -> list[Figure]:
    person = next(person for person in product.people if person.access_type == "google")
    caller = product.caller(person)
    items = [item for item in product.items(person) if _is_known(product, caller, item)][:MESSAGES]
    if not items:
        raise CannotMeasure("The demo has no message from a known sender at Google.")
    mix = itertools.cycle(items)
    product.slow(LATENCY_MS)
    slow = [_card(caller, _unseen(next(mix)))[1] for _ in range(COLD_ROUNDS)]
    product.slow(0)
    own: list[float] = []
    asked = others = 0
    for _ in range(OVERHEAD_ROUNDS):
        before = product.marker
        took = _card(caller, _unseen(next(mix)))[1]
        calls = product.seen("c4c", since=before)
        asked, others = max(asked, len(calls)), others + len(product.seen("google", since=before))
        own.append(took - sum(call.duration_ms for call in calls))
    for item in items:
        _card(caller, item)
    before = product.marker
    warm = [_card(caller, next(mix))[1] for _ in range(WARM_ROUNDS)]
    one = f"1 client, {len(items)} known senders in turn"
    repeated = len(product.seen("c4c", since=before))
    return [
        Figure("card_cold_300ms_p50_ms", median(slow), f"{one}, C4C takes {LATENCY_MS} ms", limit=LATENCY_MS + 30),
        Figure("card_overhead_p50_ms", median(own), f"{one}, {OVERHEAD_ROUNDS} cold cards less the simulator's time", limit=30),
        Figure("card_cold_c4c_requests", asked, "C4C's access log, at most per card", limit=1),
        Figure("card_cold_google_requests", others, "Gmail's access log, all cold cards", limit=0),
        Figure("card_warm_p50_ms", median(warm), f"{one}, {WARM_ROUNDS} repeats", limit=10),
        Figure("card_warm_p95_ms", percentile(warm, 95), f"{one}, {WARM_ROUNDS} repeats"),
        Figure("card_warm_c4c_requests", repeated, "C4C's access log, all repeats", limit=0),
    ]


def _card(caller: Caller, item: Item) -> tuple[dict[str, Any], float]:
    """Open a message; return the card and how long it took, in milliseconds."""
    answer, took = caller.send("POST", "/gmail/message", _event(item))
    (navigation,) = answer["action"]["navigations"]
    card: dict[str, Any] = navigation["pushCard"]
    return card, took


def _event(item: Item) -> dict[str, Any]:
    """What the script forwards."""
    written = {name: ", ".join(f'"{a["name"]}" <{a["address"]}>' for a in item[name]) for name in ("to", "cc")}
    sender = f'"{item["from"]["name"]}" <{item["from"]["address"]}>'
    common = {"hostApp": "GMAIL", "platform": "WEB", "userLocale": "en", "timeZone": {"id": "Europe/Berlin", "offset": 3_600_000}}
    return {
        "commonEventObject": common,
        "gmail": {"messageId": item["id"], "threadId": item["conversation_id"]},
        "message": {"from": sender, **written, "subject": item["subject"], "messageId": item["internet_message_id"]},
    }


def _unseen(item: Item) -> Item:
    return {**never_seen(item), "id": item["id"]}


def _is_known(product: Product, caller: Caller, item: Item) -> bool:
    before = product.marker
    card, _ = _card(caller, item)
    return bool(product.seen("c4c", since=before)) and "Open in C4C" in str(card)
