"""Every payload in every text that the pane shows, in a real Chromium with traps: nothing runs, and each stands there as it is.

First with answers that the test writes, so that no place is left out: sender, subject, cards of every type with every field,
people who are not found, notices, reasons, the save's state, the sheet, toasts, and the sentences of Problems. Then through the
whole product, from C4C's records and the mail itself to the screen. Counts are printed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from server.domain.records import CARD_FIELDS, CARD_ORDER
from simulator.c4c.records import seed
from simulator.world import Fault, World
from tests.api import Api
from tests.figures import Count
from tests.payloads import ALL
from tests.static.conftest import MESSAGE, ORIGIN, Pane
from tests.static.test_pane import card, context, problem
from tests.test_hostile_input import delivered

pytestmark = pytest.mark.browser

TRAPS = """
window.caught = [];
window.__pwned = (...said) => { caught.push(`ran ${said}`); };
for (const name of ["alert", "confirm", "prompt", "open", "print"]) window[name] = () => { caught.push(name); };
window.answers = {};  // to questions, by the item's id: no round trip through the test, which would take minutes in all
const ask = window.fetch;
window.fetch = async (url, init) => {
  const answer = url === "/api/context" && answers[JSON.parse(init.body).item.id];
  return answer ? new Response(JSON.stringify(answer[1]), { status: answer[0] }) : ask(url, init);
};
addEventListener("securitypolicyviolation", ({ violatedDirective: what, blockedURI }) => caught.push(`${what} ${blockedURI}`));
"""
CANARY = """async () => {
  document.body.insertAdjacentHTML("beforeend", "<img src=/x onerror=__pwned(1)>");
  for (let turn = 0; turn < 400 && caught.length === 0; turn++) await new Promise((resolve) => setTimeout(resolve, 5));
  return caught;
}"""
HOSTILE_ELEMENTS = (
    "script:not([src]), img, iframe, object, embed, link:not([rel]), style, base, form, audio, video, [onerror], [onload]"
)
FIELDS = sorted({name for names in CARD_FIELDS.values() for name in names})


def seen(payload: str) -> str:
    """What a person sees of it: controls and direction overrides cannot act, so they are shown as what they are."""
    return re.sub(r"(?![\t\n])[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", "\ufffd", payload)


@pytest.fixture
def open_trapped(open_pane: Callable[..., Pane]) -> Iterator[Callable[..., Pane]]:
    """Open a pane with traps, and see at the end that they caught nothing, and that they can."""
    opened: list[tuple[Pane, list[str]]] = []

    def open_trapped(answers: dict[str, Any], **how: Any) -> Pane:
        pane = open_pane(answers, item=None, before=TRAPS, **how)
        expect(pane.page.get_by_text("No message selected")).to_be_visible()
        pane.page.evaluate("message => { window.message = message; }", MESSAGE)
        requests: list[str] = []
        pane.page.on("request", lambda request: requests.append(request.url))
        pane.page.on("popup", lambda page: requests.append(f"popup {page.url}"))
        opened.append((pane, requests))
        return pane

    yield open_trapped
    for pane, requests in opened:
        assert pane.page.evaluate("caught") == []
        assert [url for url in requests if not re.fullmatch(rf"{ORIGIN}/(api/[a-z/]+|static/[\w./-]+)", url)] == []
        assert pane.page.evaluate("pwned => document.querySelectorAll(pwned).length", HOSTILE_ELEMENTS) == 0
        assert pane.page.url == f"{ORIGIN}/sidebar"
        assert pane.faults == []
        assert pane.page.evaluate(CANARY) == ["script-src-attr inline"]
        assert f"{ORIGIN}/x" in requests
        assert "Content Security" in pane.faults[0]
        pane.faults.clear()


# The pane alone


def everywhere(number: int) -> tuple[int, dict[str, Any]]:
    """An answer whose every text is the payload: as many cards as it takes to show every field."""
    payload = ALL[number]
    cards = []
    for place in range(0, len(FIELDS), 4):
        record_type = CARD_ORDER[(number + place) % len(CARD_ORDER)] if place else payload
        one = card("contact", place + 1, payload, payload, **dict.fromkeys(FIELDS[place : place + 4], payload))
        cards.append({**one, "type": record_type, "url": payload, "matched": [payload, f"{place}"]})
    return context(
        *cards,
        {**card("ticket", 99, payload, "", **{payload: payload}), "linked": True},  # a field of a name that we have no word for
        unknown=[{"name": payload, "address": f"{payload}@x.example", "verified": True}],
        notice=payload or "x",
        automatic={"kind": payload, "reason": payload},
        save={"state": "failed", "id": "s1", "reason": payload, "by": payload},
        failed=[payload],
    )


def refusal(number: int) -> tuple[int, dict[str, Any]]:
    return problem(403, ALL[number], ALL[number], request_id=ALL[number])


SHOW_ALL = """async ({ payloads, made, place }) => {
  const texts = (selector) => Array.from(document.querySelectorAll(selector), (node) => node.textContent);
  const shown = [];
  for (const [number, payload] of payloads.entries()) {
    const person = { displayName: payload, emailAddress: payload };
    const itemId = `${place} ${number}`;
    answers[itemId] = made[number];
    host.select({ ...window.message, itemId, subject: payload, from: person, to: [person], cc: [person] });
    for (let turn = 0; turn < 1000 && !document.querySelector(place); turn++) await new Promise((go) => setTimeout(go, 2));
    for (const head of document.querySelectorAll(".card-head[aria-expanded=false]")) head.click();
    shown.push({
      headline: texts("#headline p")[0],
      names: texts(".card-head .name"),
      terms: texts(".card-body dt"),
      values: texts(".card-body dd"),
      unknown: texts(".unknown .who > span"),
      banners: texts("#banner .title"),
      state: texts("#bar .state")[0],
      notice: texts("#main .empty p, #main .empty dd"),
      protocols: Array.from(document.querySelectorAll("a[href]"), (a) => a.protocol),
    });
  }
  return shown;
}"""


@pytest.mark.soak
def test_every_payload_in_every_text_of_the_pane_is_only_text(open_trapped: Callable[..., Pane], count: Count) -> None:
    made = [everywhere(number) for number in range(len(ALL))]
    shown = open_trapped({}).page.evaluate(SHOW_ALL, {"payloads": ALL, "made": made, "place": ".card-head"})
    texts = 0
    for payload, pane in zip(ALL, shown, strict=True):
        text = seen(payload)
        assert pane["headline"] == f"{sender_of(payload)} {text or '(no subject)'}", payload
        assert pane["names"] == [text] * len(made[0][1]["cards"]), payload
        assert pane["values"].count(text) >= len(FIELDS), payload
        assert text in pane["terms"], payload
        assert pane["unknown"] in ([text, f"{text}@x.example"], [f"{text}@x.example"]), payload
        assert text in pane["banners"] or not payload, payload
        assert pane["state"] == f"Not saved: {text}" or not payload, payload
        assert set(pane["protocols"]) <= {"mailto:", "tel:", "https:"}, payload
        texts += sum(len(value) for value in pane.values() if isinstance(value, list))
    count("hostile text in Chromium: payloads", len(shown))
    count("hostile text in Chromium: texts shown", texts)
    assert len(shown) >= 300


def sender_of(payload: str) -> str:
    """A name that cannot be seen is none: then the address stands for the person, which is the payload here, too."""
    return seen(payload) or "(no sender)"


def test_every_payload_in_the_sentences_of_problems_is_only_text(open_trapped: Callable[..., Pane]) -> None:
    made = [refusal(number) for number in range(len(ALL))]
    shown = open_trapped({}).page.evaluate(SHOW_ALL, {"payloads": ALL, "made": made, "place": "#main .empty"})
    for payload, pane in zip(ALL, shown, strict=True):
        text = seen(payload)
        title, sentence, code, request_id = pane["notice"]
        assert title in ("You may not see this", "You are not set up yet", "Open this page from Outlook"), payload
        assert (sentence, request_id) == (text or "Contact your administrator.", text), payload
        assert code.endswith(" 403"), payload
        assert code.startswith(text), payload
    print(f"hostile Problems: {len(shown)} payloads in 3 members each, 0 ran")


FILES_AT_ONCE = 75


def test_every_payload_in_the_sheet_and_what_is_said_of_a_save_is_only_text(open_trapped: Callable[..., Pane]) -> None:
    shown = 0
    chosen: list[str] = []

    def files(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return 200, {
            "attachments": [
                {"ref": f"{n}", "name": payload, "size_bytes": 1, "allowed": n % 2 == 0, "inline": False, "reason": payload}
                for n, payload in enumerate(chosen)
            ]
        }

    def people(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return context(*(card("contact", n + 1, payload, f"p{n}@x.example") for n, payload in enumerate(chosen)))

    answers = {"context": people, "saves/preview": files}
    pane = open_trapped(answers)
    page = pane.page
    for start in range(0, len(ALL), FILES_AT_ONCE):
        chosen[:] = ALL[start : start + FILES_AT_ONCE]
        subject = chosen[0]
        page.evaluate("message => host.select(message)", {**MESSAGE, "itemId": f"m{start}", "subject": subject})
        page.get_by_role("button", name="Choose what to save").click()
        expect(page.locator("#sheet fieldset").nth(1).get_by_role("listitem")).to_have_count(len(chosen) + 1)
        records, attachments = (page.locator("#sheet fieldset").nth(n) for n in (0, 1))
        names = "all => all.map((one) => one.textContent)"
        assert records.locator(".who > span:first-child").evaluate_all(names) == [seen(p) for p in chosen]
        shown_files = attachments.locator(".who > span:first-child").evaluate_all(names)
        assert shown_files[:-1] == [seen(p) for p in chosen]
        hints = attachments.locator(".who > .meta").evaluate_all(names)[:-1]
        assert hints == [seen(p) or "Cannot be saved" for p in chosen[1::2]]
        attachments.locator(".icon-button").evaluate_all("all => all.forEach((one) => one.click())")
        typed = attachments.locator("input[type=text]").evaluate_all("all => all.map((one) => one.value)")
        assert typed == [re.sub(r"[\r\n]", "", p) for p in chosen[::2]]  # a field holds one line
        shown += len(chosen)
        answers["saves"] = problem(422, "rejected", chosen[-1])
        page.locator("[data-focus=confirm]").click()
        alert = page.get_by_role("alert").locator(".state")
        assert chosen[-1].strip() == "" or alert.evaluate("one => one.textContent") == seen(chosen[-1])
        answers["saves"] = problem(409, "save_failed", chosen[1], save_id="s1")
        page.locator("[data-focus=confirm]").click()
        expect(page.locator("#sheet")).to_be_hidden()
        assert page.locator("#bar .state").evaluate("one => one.textContent") == f"Not saved: {seen(chosen[1])}"
    print(f"hostile sheet: {shown} payloads as records, files, names of files and reasons, 0 ran")
    assert shown == len(ALL)


# Through the whole product


PEOPLE_AT_ONCE = 48
SETS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "ContactCollection": ("Name", "Email", ("AccountFormattedName", "JobTitle", "Phone", "Mobile")),
    "IndividualCustomerCollection": ("FormattedName", "Email", ("Phone", "Mobile", "City")),
    "CorporateAccountCollection": ("BusinessPartnerFormattedName", "Email", ("City", "Phone")),
    "LeadCollection": ("Name", "ContactEMail", ("Company", "ContactPhone", "OwnerPartyName")),
}


def fill(world: World, numbers: range) -> None:
    """Have a record for each of these payloads, which is its every text; the types take turns."""
    for entity_set in SETS:
        world.crm.rows(entity_set).clear()
    for turn, number in enumerate(numbers):
        entity_set, (title, address, fields) = list(SETS.items())[turn % len(SETS)]
        texts = dict.fromkeys((title, *fields), ALL[number])
        seed(world, entity_set, **{**texts, address: f"p{number}@p.example"})


def said(payload: str) -> str:
    """What the product makes of a text of C4C's: as it is, without blanks around it."""
    return seen(payload.strip())


def test_payloads_in_every_field_of_c4c_and_of_the_mail_come_through_as_text(
    open_trapped: Callable[..., Pane], me: Api, world: World, count: Count
) -> None:
    def live(path: str) -> Callable[[Any], tuple[int, Any]]:
        def ask(body: Any) -> tuple[int, Any]:
            response = me.post(path, body)
            return response.status_code, response.json

        return ask

    pane = open_trapped({"context": live("/context"), "saves/preview": live("/saves/preview"), "saves": live("/saves")})
    page = pane.page
    cards = files = 0
    for start in range(0, len(ALL), PEOPLE_AT_ONCE):
        numbers = range(start, min(start + PEOPLE_AT_ONCE, len(ALL)))
        fill(world, numbers)
        payload = ALL[start]
        item = delivered(me, start)
        people = [{"displayName": ALL[n], "emailAddress": f"p{n}@p.example"} for n in numbers]
        sender = {"displayName": payload, "emailAddress": item["from"]["address"]}
        message = {**MESSAGE, "itemId": item["id"], "internetMessageId": "", "subject": payload, "from": sender}
        page.evaluate("message => host.select(message)", {**message, "to": people, "cc": []})
        shown = page.locator(".card-head .name")
        expect(shown).to_have_count(len(numbers))
        titles = set(shown.evaluate_all("all => all.map((one) => one.textContent)"))
        expected = {said(ALL[n]) for n in numbers}
        assert {t for t in expected if t.strip()} <= titles | {""}, expected - titles
        page.locator(".card-head[aria-expanded=false]").evaluate_all("all => all.forEach((one) => one.click())")
        values = set(page.locator(".card-body dd").evaluate_all("all => all.map((one) => one.textContent)"))
        assert {t for t in expected if t.strip()} <= values, expected - values
        cards += shown.count()
        page.get_by_role("button", name="Choose what to save").click()
        attachments = page.locator("#sheet fieldset").nth(1).get_by_role("listitem")
        expect(attachments).to_have_count(3)  # two of the message's, and the message itself
        files += 2
        page.keyboard.press("Escape")
    refused(page, world)
    count("hostile text in Chromium: cards and files through the whole product", cards + files)
    assert cards >= 300


def refused(page: Page, world: World) -> None:
    """C4C's own error text is shown as the reason, and is text, too."""
    world.faults.append(Fault("c4c", "part_status", "EMailCollection", status=400))
    page.get_by_role("button", name="Save this e-mail").click()
    expect(page.locator("#bar")).to_contain_text("Not saved: ")
