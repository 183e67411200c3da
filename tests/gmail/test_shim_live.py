"""The shim before the real server on 127.0.0.1: what a person with the script gets in Gmail of a message, and a save."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
from apiflask import APIFlask

from simulator.serving import Port
from simulator.world import StoredMessage
from tests.gmail.apps_script import ACCESS, Called, Shim, deployed, node
from tests.gmail.pane import HEADERS, ORIGIN as PUBLIC, Pane, buttons, check, inputs

COMMON = {"hostApp": "GMAIL", "platform": "WEB", "userLocale": "en", "timeZone": {"id": "Europe/Berlin", "offset": 3_600_000}}


@dataclass(frozen=True)
class Gmail:
    """The person's Gmail with the script in it; `pane` is the same person without."""

    shim: Shim
    pane: Pane

    def open(self, case: str) -> Called:
        return self._call("onMessage", self.pane.message(case), {})

    def click(self, card: dict[str, Any], text: str, case: str) -> Called:
        click = next(button["onClick"]["action"] for button in buttons(card) if button["text"] == text)
        form = {name: {"stringInputs": {"value": value}} for name, value in inputs(card).items()}
        given = {"parameters": {one["key"]: one["value"] for one in click["parameters"]}, "formInputs": form}
        return self._call(click["function"], self.pane.message(case), given)

    def _call(self, function: str, message: StoredMessage, given: dict[str, Any]) -> Called:
        header = message_from_bytes(message.mime)
        read = {name: str(header[said] or "") for name, said in HEADERS.items() if name != "messageId"}
        messages = {
            message.rest_id: {
                "accessToken": ACCESS,
                "message": {**read, "headers": {name: str(value) for name, value in header.items()}},
            }
        }
        gmail = {"messageId": message.rest_id, "threadId": message.conversation_id, "accessToken": ACCESS}
        event = {"commonEventObject": {**COMMON, **given}, "gmail": gmail}
        return self.shim(function, event, token=self.pane.id_token(), messages=messages)


@pytest.fixture
def gmail(app: APIFlask, pane: Pane, tmp_path: Path) -> Iterator[Gmail]:
    with Port(app) as port, node() as process:
        yield Gmail(Shim(deployed(tmp_path / "addon"), port.url, process), pane)


def masked(card: dict[str, Any]) -> str:
    """A card without the tokens of its buttons, which are new each time."""
    return re.sub(r'"value": "[\w.-]{80,}"', '"value": "token"', json.dumps(card, sort_keys=True))


@pytest.mark.parametrize("case", ["known_contact", "several_records", "unknown_sender", "comma_name", "newsletter"])
def test_the_script_draws_what_the_server_answers(gmail: Gmail, case: str) -> None:
    shown = gmail.open(case)
    assert masked(shown.card) == masked(gmail.pane.open(case))
    assert len(shown.calls) == 1
    check(shown.card, links=(PUBLIC, gmail.pane.simulator.inbox.url))


def test_a_message_is_saved_by_a_click(gmail: Gmail) -> None:
    shown = gmail.open("known_contact")
    done = gmail.click(shown.card, "Save this e-mail", "known_contact")
    assert len(done.calls) == 1
    assert len(gmail.pane.saved("known_contact")) == 1
    assert "Saved in SAP Cloud for Customer" in json.dumps(done.answer)


def test_a_token_that_is_not_googles_gets_no_card(gmail: Gmail) -> None:
    refused = gmail.shim("onHomepage", {"commonEventObject": COMMON}, token="no.such.token")
    assert "Google did not confirm who you are" in refused.text
