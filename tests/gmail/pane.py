"""A person at the add-on, as Gmail has it: events go out, cards come back and are stacked, and each is judged as Google would."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from email import message_from_bytes
from typing import Any, Literal

from apiflask import APIFlask
from google.apps import card_v1
from google.protobuf.json_format import ParseDict
from werkzeug.test import TestResponse

from simulator.google.identity import subject
from simulator.ports import Simulator
from simulator.world import Person, Row, StoredMessage

Card = dict[str, Any]
Runtime = Literal["apps_script", "http"]

ORIGIN = "https://sidebar.example.com"
ACCOUNT = "service-1234567890@gcp-sa-gsuiteaddons.example.com"
"""As which Google calls where it runs the add-on itself."""

HEADERS = {"from": "From", "to": "To", "cc": "Cc", "subject": "Subject", "messageId": "Message-ID"}
TELLING = ("Auto-Submitted", "Precedence", "List-Id", "List-Unsubscribe", "X-Autoreply", "Return-Path", "Content-Type")
OUR_TAGS = {"<b>", "</b>", "<br>"}
WIDGETS = {
    "textParagraph": {"text"},
    "decoratedText": {"topLabel", "text", "wrapText", "startIcon", "button", "onClick"},
    "buttonList": {"buttons"},
    "textInput": {"name", "label", "value", "hintText"},
    "selectionInput": {"name", "label", "type", "items"},
    "divider": set[str](),
}


def check(card: Card, *, links: tuple[str, ...]) -> None:
    """Refuse what Google would ignore or refuse, what the script cannot draw, and markup that is not ours."""
    ParseDict(card, card_v1.Card.pb()(), ignore_unknown_fields=False)
    assert card.keys() <= {"header", "sections", "fixedFooter", "cardActions"}
    assert card["header"].keys() <= {"title", "subtitle", "imageUrl"}
    assert card["header"].get("imageUrl", ORIGIN).startswith("https://")
    assert len(card.get("cardActions", [])) <= 10
    found = [widget for section in card["sections"] for widget in section["widgets"]]
    assert 1 <= len(found) <= 100
    for section in card["sections"]:
        assert section["widgets"]
        assert section.keys() <= {"widgets", "header", "collapsible", "uncollapsibleWidgetsCount"}
    for widget in found:
        ((kind, body),) = widget.items()
        assert body.keys() <= WIDGETS[kind], widget
        if kind in ("textParagraph", "decoratedText"):
            assert set(re.findall("<[^>]*>?", body["text"])) <= OUR_TAGS, body["text"]
            assert "<" not in body.get("topLabel", "")
        if kind == "selectionInput":
            assert 1 <= len(body["items"]) <= 100
            assert body["type"] in ("CHECK_BOX", "DROPDOWN", "RADIO_BUTTON")
    for button in buttons(card):
        assert button["text"]
        if "openLink" in button["onClick"]:
            assert button["onClick"]["openLink"]["url"].startswith(tuple(f"{origin}/" for origin in links)), button


def buttons(card: Card) -> list[dict[str, Any]]:
    """Every button of a card: those in lists, beside lines, in the footer and in the menu."""
    found = [{"text": one["actionLabel"], "onClick": one["onClick"]} for one in card.get("cardActions", [])]
    for widget in (widget for section in card["sections"] for widget in section["widgets"]):
        found += widget.get("buttonList", {}).get("buttons", [])
        found += [widget["decoratedText"]["button"]] if "button" in widget.get("decoratedText", {}) else []
    return [*card.get("fixedFooter", {}).values(), *found]


def inputs(card: Card) -> dict[str, list[str]]:
    """What is typed and ticked on a card as it is shown; what is empty is not sent."""
    values: dict[str, list[str]] = {}
    for widget in (widget for section in card["sections"] for widget in section["widgets"]):
        if "textInput" in widget:
            values[widget["textInput"]["name"]] = [widget["textInput"]["value"]]
        if "selectionInput" in widget:
            ticked = [item["value"] for item in widget["selectionInput"]["items"] if item["selected"]]
            values[widget["selectionInput"]["name"]] = ticked
    return {name: found for name, found in values.items() if any(found)}


def items(card: Card, name: str) -> dict[str, str]:
    """Text and value of what can be ticked in a field."""
    every = (widget.get("selectionInput", {}) for section in card["sections"] for widget in section["widgets"])
    return {item["text"]: item["value"] for one in every if one.get("name") == name for item in one["items"]}


def words(card: Card) -> str:
    """Everything that a card says, as it is written in it."""
    found = [*card["header"].values()]
    for widget in (widget for section in card["sections"] for widget in section["widgets"]):
        for body in widget.values():
            found += [body[name] for name in ("topLabel", "text", "label") if name in body]
            found += [item["text"] for item in body.get("items", [])]
    return "\n".join([*found, *(button["text"] for button in buttons(card))])


@dataclass
class Pane:
    """One person's add-on. `sent` is the event of the last call, `reply` what came of it."""

    app: APIFlask
    simulator: Simulator
    person: Person
    runtime: Runtime = "apps_script"
    locale: str = "en"
    stack: list[Card] = field(default_factory=list)
    told: str = ""  # the last notification
    reply: TestResponse | None = None
    opened: dict[str, Any] = field(default_factory=dict)  # what an event says of what is open

    @property
    def card(self) -> Card:
        return self.stack[-1]

    @property
    def words(self) -> str:
        return words(self.card)

    @property
    def labels(self) -> list[str]:
        return [button["text"] for button in buttons(self.card)]

    # What the person does

    def open(self, case: str) -> Card:
        """Open the message of a demo case."""
        return self.open_message(self.message(case))

    def open_message(self, message: StoredMessage) -> Card:
        self.opened = {"gmail": {"messageId": message.rest_id, "threadId": message.conversation_id}}
        header = message_from_bytes(message.mime)
        if self.runtime == "apps_script":
            others = {name: str(header[name]) for name in TELLING if header[name]}
            said = {name: str(header[said]) for name, said in HEADERS.items() if header[said] is not None}
            self.opened["message"] = {**said, "others": others}
        else:
            self.opened["gmail"]["accessToken"] = "message-token"
        return self._triggered("message")

    def write(self, *to: str) -> Card:
        """Begin a message to these people."""
        self.opened = {"gmail": {"toRecipients": list(to)}}
        return self._triggered("compose")

    def home(self) -> Card:
        self.opened = {}
        return self._triggered("homepage")

    def click(self, text: str, number: int = 0, /, **typed: Any) -> Card:
        """Press the button with this text (the first, or the one of that number), the form filled in as it stands, or so."""
        found = [button["onClick"] for button in buttons(self.card) if button["text"] == text]
        assert found, f"{text!r} is not among {self.labels}"
        form = {**inputs(self.card), **{name: value if isinstance(value, list) else [value] for name, value in typed.items()}}
        return self.act(self.token_of(found[number]), form)

    # What Gmail makes of it

    def act(self, token: str, form: dict[str, list[str]] | None = None) -> Card:
        given = {name: {"stringInputs": {"value": value}} for name, value in (form or {}).items() if value}
        common = self._common() | {"parameters": {"token": token}} | ({"formInputs": given} if given else {})
        self.call("action", {**self.opened, "commonEventObject": common})
        self._take(self._body()["renderActions"]["action"])
        return self.card

    def token_of(self, click: dict[str, Any]) -> str:
        function = "onAction" if self.runtime == "apps_script" else f"{ORIGIN}/gmail/action"
        assert (click["action"]["function"], click["action"]["loadIndicator"]) == (function, "SPINNER")
        ((name, token),) = ((one["key"], one["value"]) for one in click["action"]["parameters"])
        assert name == "token"
        return str(token)

    def token(self, text: str) -> str:
        """Return what the button with this text carries."""
        return self.token_of(next(button["onClick"] for button in buttons(self.card) if button["text"] == text))

    def call(self, what: str, body: Any, *, bearer: str | None = None) -> TestResponse:
        """Send an event as the runtime would; `bearer` replaces the token that goes along."""
        if self.runtime == "http" and isinstance(body, dict):
            body = {"authorizationEventObject": self.authorization(), **body}
        token = bearer if bearer is not None else self.bearer(what)
        headers = {"Authorization": f"Bearer {token}"}
        self.reply = self.app.test_client().post(f"/gmail/{what}", json=body, headers=headers)
        return self.reply

    def bearer(self, what: str) -> str:
        return self.id_token() if self.runtime == "apps_script" else self.system_token(what)

    def id_token(self, **claims: Any) -> str:
        return self.simulator.google_identity.mint_id_token(self.simulator.world, self.person, **claims)

    def system_token(self, what: str, **claims: Any) -> str:
        said = {"aud": f"{ORIGIN}/gmail/{what}", "azp": "117", "sub": "117", "email": ACCOUNT, "hd": None, "name": None}
        return self.id_token(**{**said, **claims})

    def authorization(self) -> dict[str, Any]:
        google = self.simulator.google_identity
        oauth = google.mint_access_token(self.simulator.world, self.person, scopes=("gmail.metadata",))
        return {"userIdToken": self.id_token(), "userOAuthToken": oauth, "systemIdToken": self.system_token("message")}

    def message(self, case: str) -> StoredMessage:
        owner, ref = self.simulator.world.cases[case]
        found = self.simulator.world.mailbox(owner).messages[ref]
        if owner != self.person.email:
            wanted = message_from_bytes(found.mime)["Message-ID"]
            mine = self.simulator.world.mailbox(self.person.email).messages.values()
            found = next(one for one in mine if message_from_bytes(one.mime)["Message-ID"] == wanted)
        return found

    def saved(self, case: str) -> list[Row]:
        """The activities in C4C that are of this message."""
        key = str(message_from_bytes(self.message(case).mime)["Message-ID"]).strip("<>")
        return list(self.simulator.world.saved_activities(key))

    @property
    def subject(self) -> str:
        """The `sub` of the person's account."""
        return subject(self.person)

    def _triggered(self, what: str) -> Card:
        self.call(what, {**self.opened, "commonEventObject": self._common()})
        action = self._body()["action"]
        assert [list(one) for one in action["navigations"]] == [["pushCard"]]
        self.stack = []
        self._take(action)
        return self.card

    def _common(self) -> dict[str, Any]:
        offset = "3600000" if self.runtime == "apps_script" else 3_600_000  # as either was seen to come
        zone = {"id": "Europe/Berlin", "offset": offset}
        return {"hostApp": "GMAIL", "platform": "WEB", "userLocale": self.locale, "timeZone": zone}

    def _body(self) -> Any:
        assert self.reply is not None
        assert self.reply.status_code == 200, self.reply.text
        assert self.reply.headers["Cache-Control"] == "no-store"
        return self.reply.json

    def _take(self, action: dict[str, Any]) -> None:
        self.told = action.get("notification", {}).get("text", "")
        assert action.keys() <= {"navigations", "notification", "link"}
        for navigation in action["navigations"]:
            ((kind, card),) = navigation.items()
            if kind in ("pushCard", "updateCard"):
                check(card, links=(ORIGIN, self.simulator.inbox.url))
            match kind:
                case "pushCard":
                    self.stack.append(card)
                case "updateCard":
                    self.stack[-1] = card
                case "pop":
                    self.stack.pop()
                case "popToRoot":
                    del self.stack[1:]
                case _:
                    raise AssertionError(kind)
