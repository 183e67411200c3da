"""The shim on Apps Script: one call for one card, drawn as the server has it; and whatever goes wrong, a card that says so."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
from google.apps import card_v1
from google.protobuf.json_format import ParseDict

from tests.gmail.apps_script import ACCESS, HEADERS, MESSAGE_ID, ORIGIN, TOKEN, Scripted, Shim, deployed, listening, node

ROOT = Path(__file__).resolve().parents[2]
TYPES = ROOT / "node_modules/@types/google-apps-script/google-apps-script.card-service.d.ts"

COMMON = {"hostApp": "GMAIL", "platform": "WEB", "userLocale": "en", "timeZone": {"id": "Europe/Berlin", "offset": "3600000"}}
HOME = {"commonEventObject": COMMON}
OPEN = {"commonEventObject": COMMON, "gmail": {"messageId": "m1", "threadId": "t1", "accessToken": ACCESS}}
WRITING = {"commonEventObject": COMMON, "gmail": {"toRecipients": ["jo@north.example"], "ccRecipients": []}}
TRIGGERS = [("onHomepage", HOME, "homepage"), ("onMessage", OPEN, "message"), ("onCompose", WRITING, "compose")]

ACTION = {"action": {"function": "onAction", "parameters": [{"key": "token", "value": "abc.def"}], "loadIndicator": "SPINNER"}}
LINK = {"openLink": {"url": f"{ORIGIN}/settings/", "openAs": "OVERLAY", "onClose": "RELOAD"}}
PLAIN = {"sections": [{"widgets": [{"textParagraph": {"text": "Jo Ba"}}]}]}
WHOLE = {
    "header": {"title": "Jo Ba", "subtitle": "North", "imageUrl": f"{ORIGIN}/static/icons/icon-64.png"},
    "sections": [
        {
            "header": "Contact",
            "collapsible": True,
            "uncollapsibleWidgetsCount": 2,
            "widgets": [
                {
                    "decoratedText": {
                        "startIcon": {"knownIcon": "PERSON"},
                        "topLabel": "Function",
                        "text": "Buyer &lt;b&gt;",
                        "bottomLabel": "since 2020",
                        "wrapText": True,
                        "button": {"text": "Open", "onClick": LINK},
                        "onClick": ACTION,
                    }
                },
                {"textParagraph": {"text": "<b>A &amp; B</b><script>alert(1)</script>"}},
                {"divider": {}},
                {"buttonList": {"buttons": [{"text": "Save", "onClick": ACTION}, {"text": "Settings", "onClick": LINK}]}},
            ],
        },
        {
            "widgets": [
                {"textInput": {"name": "subject", "label": "Subject", "hintText": "As in C4C", "value": "Offer"}},
                *(
                    {
                        "selectionInput": {
                            "name": kind,
                            "label": "Link to",
                            "type": kind,
                            "items": [
                                {"text": "A", "value": "1", "selected": True},
                                {"text": "B", "value": "2", "selected": False},
                            ],
                        }
                    }
                    for kind in ("CHECK_BOX", "DROPDOWN", "RADIO_BUTTON")
                ),
            ]
        },
    ],
    "fixedFooter": {
        "primaryButton": {"text": "Save", "onClick": ACTION},
        "secondaryButton": {"text": "Cancel", "onClick": ACTION},
    },
    "cardActions": [{"actionLabel": "Settings", "onClick": LINK}, {"actionLabel": "Search", "onClick": ACTION}],
}


@pytest.fixture(scope="module")
def _listening() -> Iterator[Scripted]:
    with listening() as scripted:
        yield scripted


@pytest.fixture(scope="module")
def _node() -> Iterator[Popen[str]]:
    with node() as process:
        yield process


@pytest.fixture
def scripted(_listening: Scripted) -> Scripted:
    _listening.answers, _listening.bodies = [], []
    return _listening


@pytest.fixture
def shim(tmp_path: Path, scripted: Scripted, _node: Popen[str]) -> Shim:
    return Shim(deployed(tmp_path / "addon"), scripted.url, _node)


def pushed(card: dict[str, Any]) -> dict[str, Any]:
    return {"action": {"navigations": [{"pushCard": card}]}}


def rendered(**action: Any) -> dict[str, Any]:
    return {"renderActions": {"action": action}}


def paragraphs(count: int) -> dict[str, Any]:
    return {"sections": [{"widgets": [{"textParagraph": {"text": str(n)}} for n in range(count)]}]}


@pytest.mark.parametrize(("function", "event", "path"), TRIGGERS)
def test_a_card_costs_one_call_that_proves_the_person(
    shim: Shim, scripted: Scripted, function: str, event: dict[str, Any], path: str
) -> None:
    scripted.says(pushed(PLAIN))
    called = shim(function, event)
    assert called.card == PLAIN
    (call,) = called.calls
    assert (call["method"], call["url"]) == ("POST", f"{ORIGIN}/gmail/{path}")
    assert call["headers"] == {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}


def test_the_server_gets_ids_and_headers_of_a_message_and_no_key_to_it(shim: Shim, scripted: Scripted) -> None:
    scripted.says(pushed(PLAIN))
    shim("onMessage", {**OPEN, "userCountry": "DE", "clientPlatform": "web", "messageMetadata": {"accessToken": ACCESS}})
    assert scripted.bodies == [
        {
            "commonEventObject": COMMON,
            "gmail": {"messageId": "m1", "threadId": "t1"},
            "message": {**HEADERS, "messageId": MESSAGE_ID, "others": {}},
        }
    ]


def test_what_a_program_says_of_itself_goes_along_and_nothing_else_of_the_header(shim: Shim, scripted: Scripted) -> None:
    scripted.says(pushed(PLAIN))
    telling = {"List-Id": "<news.north.example>", "Precedence": "bulk"}
    headers = {"Message-ID": MESSAGE_ID, **telling, "Received": "from a", "X-Secret": "b"}
    messages = {"m1": {"accessToken": ACCESS, "message": {**HEADERS, "headers": headers}}}
    shim("onMessage", OPEN, messages=messages)
    assert scripted.bodies[0]["message"] == {**HEADERS, "messageId": MESSAGE_ID, "others": telling}


def test_a_draft_tells_its_recipients_alone(shim: Shim, scripted: Scripted) -> None:
    scripted.says(pushed(PLAIN))
    shim("onCompose", WRITING)
    assert scripted.bodies == [WRITING]


def test_a_click_brings_its_token_and_what_was_entered(shim: Shim, scripted: Scripted) -> None:
    common = {**COMMON, "parameters": {"token": "abc.def"}, "formInputs": {"subject": {"stringInputs": {"value": ["Offer"]}}}}
    scripted.says(rendered(navigations=[{"updateCard": PLAIN}]))
    shim("onAction", {**OPEN, "commonEventObject": common})
    shim("onAction", {"commonEventObject": common})
    opened, home = scripted.bodies
    assert opened["commonEventObject"] == home["commonEventObject"] == common
    assert opened["message"] == {**HEADERS, "messageId": MESSAGE_ID, "others": {}}
    assert home.keys() == {"commonEventObject"}


def test_every_widget_is_drawn_as_the_server_has_it(shim: Shim, scripted: Scripted) -> None:
    scripted.says(pushed(WHOLE))
    drawn = shim("onMessage", OPEN).card
    assert drawn == WHOLE
    ParseDict(drawn, card_v1.Card.pb(card_v1.Card()))  # else it would not be the whole


@pytest.mark.parametrize(
    "answer",
    [
        rendered(navigations=[{"pushCard": WHOLE}]),
        rendered(navigations=[{"pop": True}, {"updateCard": PLAIN}], notification={"text": "Saved"}),
        rendered(navigations=[{"popToRoot": True}, {"updateCard": PLAIN}]),
        rendered(link={"url": f"{ORIGIN}/settings/", "openAs": "FULL_SIZE", "onClose": "NOTHING"}),
        {**rendered(notification={"text": "Saved"}), "stateChanged": True},
    ],
)
def test_a_click_does_what_the_server_answers(shim: Shim, scripted: Scripted, answer: dict[str, Any]) -> None:
    scripted.says(answer)
    called = shim("onAction", OPEN)
    assert called.answer == answer
    assert len(called.calls) == 1


def test_a_dropped_call_is_made_once_more(shim: Shim, scripted: Scripted) -> None:
    scripted.says(None, pushed(PLAIN))
    called = shim("onMessage", OPEN)
    assert called.card == PLAIN
    first, second = called.calls
    assert first == second


def test_a_server_that_is_away_is_called_twice_and_then_said_to_be(shim: Shim, scripted: Scripted) -> None:
    scripted.says(None)
    called = shim("onMessage", OPEN)
    assert len(called.calls) == 2
    assert "The server cannot be reached" in called.text


def test_a_call_that_timed_out_is_not_repeated(shim: Shim, scripted: Scripted) -> None:
    scripted.says(None)
    called = shim("onMessage", OPEN, drops_after_ms=25_000)
    assert len(called.calls) == 1
    assert "The server takes too long to answer" in called.text


@pytest.mark.parametrize("how", ["for one day: urlfetch.", "in a short time: urlfetch. Try Utilities.sleep(1000) between calls."])
def test_a_quota_of_google_is_said_so_and_not_tried_again(shim: Shim, scripted: Scripted, how: str) -> None:
    scripted.says(None)
    called = shim("onMessage", OPEN, dropped=f"Exception: Service invoked too many times {how}")
    assert len(called.calls) == 1
    assert "There are too many requests at the moment" in called.text


STATUSES = {
    302: "This add-on does not fit its server",
    401: "Google did not confirm who you are",
    403: "You may not see this",
    404: "This add-on does not fit its server",
    429: "There are too many requests at the moment",
    500: "Something went wrong on the server",
    503: "The server cannot be reached",
}


@pytest.mark.parametrize("status", STATUSES)
def test_each_refusal_is_a_card_with_a_way_on(shim: Shim, scripted: Scripted, status: int) -> None:
    scripted.says((status, json.dumps({"detail": "<b>token eyJ</b>", "action": pushed(PLAIN)})))
    called = shim("onMessage", OPEN)
    assert len(called.calls) == 1
    assert STATUSES[status] in called.text
    assert "token" not in called.text
    button = called.card["sections"][0]["widgets"][-1]["buttonList"]["buttons"][0]
    assert button["onClick"]["action"]["function"] == "onRetry"
    ParseDict(called.card, card_v1.Card.pb(card_v1.Card()))


def with_member(**members: Any) -> dict[str, Any]:
    return {"sections": [{"widgets": [{"decoratedText": {"text": "Jo", **members}}]}]}


UNREADABLE: dict[str, Any] = {
    "a page of HTML": (200, "<!doctype html><title>Sign in to the hotel's network</title>"),
    "nothing": (200, ""),
    "null": (200, "null"),
    "another shape": {"cards": [PLAIN]},
    "an unknown widget": pushed({"sections": [{"widgets": [{"carousel": {}}]}]}),
    "a widget of every object": pushed({"sections": [{"widgets": [{"toString": {}}]}]}),
    "two widgets in one": pushed({"sections": [{"widgets": [{"divider": {}, "textParagraph": {"text": "a"}}]}]}),
    "an unknown member": pushed(with_member(switchControl={"name": "a"})),
    "an unknown icon": pushed(with_member(startIcon={"knownIcon": "UNICORN"})),
    "an unknown click": pushed(with_member(onClick={"overflowMenu": {}})),
    "a number for a text": pushed({"sections": [{"widgets": [{"textParagraph": {"text": 7}}]}]}),
    "an unknown step": {"action": {"navigations": [{"endNavigation": "CLOSE_DIALOG"}]}},
    "a step of a click": {"action": {"navigations": [{"popToRoot": True}]}},
    "200 widgets": pushed(paragraphs(200)),
}


@pytest.mark.parametrize("answer", UNREADABLE.values(), ids=UNREADABLE)
def test_an_answer_that_cannot_be_drawn_whole_is_not_drawn_in_part(shim: Shim, scripted: Scripted, answer: object) -> None:
    scripted.says(answer)
    called = shim("onMessage", OPEN)
    assert "The server's answer cannot be shown" in called.text
    assert len(called.calls) == 1


def test_a_card_holds_a_hundred_widgets(shim: Shim, scripted: Scripted) -> None:
    scripted.says(pushed(paragraphs(100)))
    assert shim("onHomepage", HOME).card == paragraphs(100)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (None, "cannot be reached"),
        ((401, ""), "did not confirm"),
        ((500, ""), "went wrong"),
        (rendered(navigations=[{"endNavigation": "CLOSE_DIALOG"}]), "cannot be shown"),
        (rendered(navigations=[{"updateCard": paragraphs(101)}]), "cannot be shown"),
    ],
)
def test_what_goes_wrong_after_a_click_stands_above_the_form_and_leaves_it(
    shim: Shim, scripted: Scripted, answer: object, sentence: str
) -> None:
    scripted.says(answer)
    called = shim("onAction", OPEN)
    (step,) = called.answer["renderActions"]["action"]["navigations"]
    assert step.keys() == {"pushCard"}
    assert sentence in called.text
    assert "onRetry" not in called.text


def test_trying_again_puts_the_card_in_the_place_of_the_failure(shim: Shim, scripted: Scripted) -> None:
    scripted.says((500, ""), pushed(PLAIN))
    failed = shim("onMessage", OPEN).card
    (place,) = failed["sections"][0]["widgets"][-1]["buttonList"]["buttons"][0]["onClick"]["action"]["parameters"]
    again = shim("onRetry", {**OPEN, "commonEventObject": {**COMMON, "parameters": {place["key"]: place["value"]}}})
    assert again.answer == rendered(navigations=[{"updateCard": PLAIN}])
    assert [call["url"] for call in again.calls] == [f"{ORIGIN}/gmail/message"]


def test_a_message_that_gmail_does_not_hand_over_is_not_asked_about(shim: Shim, scripted: Scripted) -> None:
    called = shim("onMessage", {**OPEN, "gmail": {**OPEN["gmail"], "accessToken": "of another message"}})
    assert called.calls == []
    assert "Gmail did not hand over this message" in called.text


def test_nobody_calls_without_proof_of_who_they_are(shim: Shim, scripted: Scripted) -> None:
    called = shim("onHomepage", HOME, token=None)
    assert called.calls == []
    assert "Google did not confirm who you are" in called.text


@pytest.mark.parametrize("locale", ["de", "de-AT"])
def test_failures_speak_german_to_germans(shim: Shim, scripted: Scripted, locale: str) -> None:
    scripted.says((429, ""))
    called = shim("onHomepage", {"commonEventObject": {**COMMON, "userLocale": locale}})
    assert "Im Moment gibt es zu viele Anfragen" in called.text
    assert "Erneut versuchen" in called.text


def test_failures_have_the_sidebars_words(shim: Shim, scripted: Scripted) -> None:
    strings = {one: json.loads((ROOT / f"static/js/strings/{one}.json").read_text()) for one in ("en", "de")}
    source = (ROOT / "appsscript/main.js").read_text()
    for key in ("unreachable", "timeout", "busy", "fault", "no_access", "busy_next", "retry"):
        assert all(f'"{strings[one][key]}' in source for one in strings), key


def test_the_stand_in_has_the_methods_of_google_and_no_others() -> None:
    """Both the simulator's add-on pane and these tests stand on it."""
    module = ROOT / "simulator/inbox/static/addon/apps_script.js"
    script = f'import {{ SIGNATURES }} from "{module.as_uri()}"; console.log(JSON.stringify(SIGNATURES));'
    shown = subprocess.run(["node", "--input-type=module", "-e", script], capture_output=True, text=True, check=True)
    ours = {(part, method): types for part, methods in json.loads(shown.stdout).items() for method, types in methods.items()}
    google = {}
    for part, body in re.findall(r"^ {8}interface (\w+) \{(.*?)^ {8}\}", TYPES.read_text(), re.S | re.M):
        for method, parameters in re.findall(r"^ {12}(\w+)\(([^)]*)\)", body, re.M):
            google[part, method] = re.findall(r"\w+: (\{[^}]*\}|[\w\[\]]+)", parameters)
    assert len(ours) > 50
    assert {each: google.get(each) for each in ours} == ours


def test_the_shim_stays_thin() -> None:
    lines = [line for path in (ROOT / "appsscript").glob("*.js") for line in path.read_text().splitlines() if line.strip()]
    assert len(lines) <= 250
