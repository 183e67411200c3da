"""Whatever is drawn, Google draws all of it, and nothing on it but our own words is more than text."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from datetime import timedelta, timezone
from typing import Any

import pytest
from werkzeug.datastructures import LanguageAccept

from server.domain.records import CARD_FIELDS, RECORD_TYPES
from server.web import models as m
from server.web.actions import ACTIONS
from server.web.cards import Account, Card, Cards, Form, Trouble
from server.web.catalogue import Catalogue
from server.web.html import visible
from tests.figures import Count
from tests.gmail.pane import ORIGIN, buttons, check, items, words
from tests.payloads import ALL

C4C = "https://c4c.example.com"
BERLIN = timezone(timedelta(hours=1))
ID = "0123456789ABCDEF0123456789ABCDEF"
SAVE_ID = ID.lower()


def press(name: str, /, **parameters: str) -> dict[str, Any]:
    """Refuse what no button may carry."""
    forms = {**ACTIONS[name].needs, **ACTIONS[name].takes}
    assert ACTIONS[name].needs.keys() <= parameters.keys()
    assert all(forms[key].fullmatch(value) for key, value in parameters.items()), (name, parameters)
    token = {"key": "token", "value": f"{name} {sorted(parameters.items())}"}
    return {"action": {"function": "onAction", "parameters": [token], "loadIndicator": "SPINNER"}}


CONNECTED = Account("anna@aldermill.example", is_connected=True)


def drawer(language: str = "en", account: Account = CONNECTED) -> Cards:
    text = Catalogue.load().text(LanguageAccept([(language, 1)]))
    types = ("contact", "individual_customer", "account", "lead")
    return Cards(text, ORIGIN, BERLIN, account, press, types)


def card_out(number: int = 0, said: str = "Tracey Pearson", record_type: Any = "contact", **more: Any) -> m.CardOut:
    fields = [m.FieldOut(name=name, label=name, value=said) for name in CARD_FIELDS[record_type]]
    found = {"type": record_type, "id": f"{number:032X}", "title": said, "fields": fields, "url": f"{C4C}/{number}"}
    return m.CardOut(**{**found, "matched": [said], "linked": False, **more})


def context_out(**members: Any) -> m.ContextOut:
    nothing: dict[str, Any] = {"cards": [], "unknown": [], "notice": None, "automatic": None, "incomplete": False, "failed": []}
    nothing |= {"save": m.StateOut(state="none"), "timing": m.Timing(c4c_ms=0, total_ms=0, cached=False), "trouble": None}
    return m.ContextOut(**{**nothing, **members})


def attachment(number: int = 0, said: str = "offer.pdf", *, allowed: bool = True) -> m.AttachmentOut:
    reason = None if allowed else said
    return m.AttachmentOut(ref=f"1.{number}", name=said, size_bytes=2_000, inline=False, allowed=allowed, reason=reason)


def sync_out(said: str = "", issues: int = 0, **members: Any) -> m.SyncOut:
    told = [
        m.IssueOut(
            id=f"{n:032x}", kind="email", code="rejected", name=said, cause=said, remedy=said, is_question=False, since=None,
            url=f"{C4C}/{n}",
        )
        for n in range(min(issues, 50))
    ]  # fmt: skip
    members = {"state": "done", "last": None, "reason": said or None, **members}
    return m.SyncOut(
        is_first=False, phase="", done=0, total=0, left_s=None, next_at=None, suspended=False, failures=0, issues=issues,
        first_issues=told, **members,
    )  # fmt: skip


def record_out(number: int, said: str, record_type: Any = "account") -> m.RecordOut:
    fields = [m.FieldOut(name=name, label=name, value=said) for name in CARD_FIELDS[record_type]]
    return m.RecordOut(type=record_type, id=f"{number:032X}", title=said, fields=fields, url=f"{C4C}/{number}")


def every_card(cards: Cards, said: str, many: int) -> list[Card]:
    """Every card there is, with this text wherever somebody else's stands, and so many of each thing."""
    unknown = [m.UnknownOut(name=said, address=said, verified=n % 2 == 0) for n in range(many)]
    found = [card_out(n, said, RECORD_TYPES[n % len(RECORD_TYPES)], linked=n % 3 == 0) for n in range(many)]
    trouble = m.TroubleOut(code="busy", detail=said, retry_after_s=1.0)
    files = [attachment(n, said, allowed=n % 2 == 0) for n in range(many)]
    links = [m.LinkedOut(type="contact", id=f"{n:032X}", title=said) for n in range(many)]
    preview = m.PreviewOut(
        subject=said, links=links, attachments=files, eml=m.EmlOut(allowed=False, reason=said), follow_thread=True
    )
    activity = m.ActivityOut(id=ID, url=f"{C4C}/activity")
    states: list[Any] = ["pending", "unknown", "saved", "failed"]
    saves = [m.SaveOut(id=SAVE_ID, state=one, activity=activity, marks=[], reason=said) for one in states]
    results = [record_out(n, said, RECORD_TYPES[n % len(RECORD_TYPES)]) for n in range(many)]
    form = Form("contact", {"surname": said, "email": said}, ("surname",), {"name": said[:50], "address": ""})
    drawn = [
        cards.context(context_out(cards=found, unknown=unknown, notice=said)),
        cards.context(context_out(trouble=trouble, automatic=m.AutomaticOut(kind=said, reason=said))),
        cards.context(context_out(cards=found, incomplete=True, failed=["lead"]), is_draft=True),
        *(
            cards.context(context_out(save=m.StateOut(state=one, id=SAVE_ID, reason=said, by="you", at="2026-11-22T23:30:00Z")))
            for one in states
        ),
        cards.choose(preview),
        *(cards.result(save) for save in saves),
        cards.homepage(sync_out(said, many)),
        cards.issues(sync_out(said, many)),
        cards.search(said, m.SearchOut(records=results, more=True, failed=["lead"])),
        cards.record(m.DetailOut(record=record_out(0, said), related=results)),
        cards.create_form(form, wrong=Trouble("rejected", said, field="surname")),
        cards.trouble(Trouble("away", said, press("homepage"))),
        cards.gone(),
        cards.used(),
    ]
    for card in drawn:
        check(card, links=(ORIGIN, C4C))
    return drawn


def plain(card: Card) -> str:
    """What a reader sees: our tags taken away, what was escaped put back."""
    return html.unescape(re.sub("</?b>", "", words(card)).replace("<br>", "\n"))


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize("account", [
    Account("anna@aldermill.example", is_connected=True),
    Account("anna@aldermill.example", is_connected=False),
    Account("anna@aldermill.example", is_connected=True, other="<b>b@aldermill.example"),
])  # fmt: skip
@pytest.mark.parametrize("many", [0, 1, 7, 200])
def test_google_draws_all_of_every_card(language: str, account: Account, many: int) -> None:
    assert len(every_card(drawer(language, account), "Anna", many)) > 15


def test_whose_text_it_is_it_stays_text(count: Count) -> None:
    cards = drawer()
    for payload in ALL:
        for card in every_card(cards, payload, 1):
            count("hostile input: texts on cards", 1)
            assert "\x1b" not in words(card)
        shown = " ".join(visible(payload[:3_000]).split())
        title = plain(cards.context(context_out(cards=[card_out(said=payload)])))
        assert (shown if len(shown) <= 300 else shown[:299]) in title


def test_two_hundred_records_are_not_all_shown_and_the_rest_is_counted() -> None:
    cards = drawer()
    context = cards.context(context_out(cards=[card_out(n) for n in range(200)]))
    assert "and 170 more: refine the search" in words(context)
    preview = m.PreviewOut(
        subject="", links=[m.LinkedOut(type="contact", id=f"{n:032X}", title=f"P{n}") for n in range(200)],
        attachments=[], eml=m.EmlOut(allowed=True, reason=None), follow_thread=False,
    )  # fmt: skip
    choose = cards.choose(preview)
    assert len(items(choose, "links")) == 100
    assert "and 100 more: refine the search" in words(choose)
    results = m.SearchOut(records=[record_out(n, f"R{n}") for n in range(50)], more=True, failed=[])
    search = cards.search("r", results)
    assert "There are more: refine the search" in words(search)


def test_the_first_record_is_open_and_the_others_are_folded() -> None:
    sections = drawer().context(context_out(cards=[card_out(n) for n in range(3)]))["sections"]
    assert [section.get("uncollapsibleWidgetsCount") for section in sections] == [None, 1, 1]


def test_days_and_moments_are_told_in_words_and_in_the_readers_zone() -> None:
    fields = [m.FieldOut(name=n, label=n, value=v) for n, v in {
        "close_date": "2026-11-22", "start": "2026-11-22T23:30:00Z", "due": "soon", "valid_to_date": "2026-13-45",
    }.items()]  # fmt: skip
    record = m.RecordOut(type="visit", id=ID, title="Visit", fields=fields, url="")
    shown = words(drawer("de").record(m.DetailOut(record=record, related=[])))
    for said in ("22. November 2026", "23. November 2026, 00:30", "soon", "2026-13-45"):
        assert f"\n{said}\n" in shown


@pytest.mark.parametrize("end", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00"])
def test_the_end_of_time_which_no_zone_moves_is_shown_as_c4c_has_it(end: str) -> None:
    fields = [m.FieldOut(name="due", label="Due", value=end)]
    record = m.RecordOut(type="task", id=ID, title="Task", fields=fields, url="")
    assert end in words(drawer().record(m.DetailOut(record=record, related=[])))


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x", "ftp://c4c.example.com/", "", "//c4c.example.com"])
def test_only_web_addresses_become_links(url: str) -> None:
    card = drawer().context(context_out(cards=[card_out(url=url)]))
    assert "Open in C4C" not in [button["text"] for button in buttons(card)]


def test_nothing_is_saved_by_a_card_of_a_mailbox_that_is_not_connected() -> None:
    saved = m.StateOut(state="failed", id=SAVE_ID, reason="why")
    draw: dict[str, Callable[[Cards], Card]] = {
        "context": lambda cards: cards.context(context_out(cards=[card_out()])),
        "failed": lambda cards: cards.context(context_out(save=saved)),
    }
    able = {"Save this e-mail", "Choose…", "Try again"}
    for make in draw.values():
        assert able & {button["text"] for button in buttons(make(drawer()))}
        for account in (Account("a@aldermill.example", False), Account("a@aldermill.example", True, "b@aldermill.example")):
            shown = {button["text"] for button in buttons(make(drawer(account=account)))}
            assert not able & shown
            assert "Connect your mailbox" in shown


def test_a_picture_is_shown_only_where_google_can_fetch_it() -> None:
    text = Catalogue.load().text(LanguageAccept([("en", 1)]))
    card = Cards(text, "http://127.0.0.1:8400", BERLIN, None, press).gone()
    assert "imageUrl" not in card["header"]
    assert drawer().gone()["header"]["imageUrl"] == f"{ORIGIN}/static/icons/icon-128.png"
