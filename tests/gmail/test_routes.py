"""What a person does in Gmail, card by card, and what of it is in C4C and in the mailbox afterwards."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from server import wiring
from server.config import Settings
from server.services import Deps, issues
from server.web import create_app
from server.web.actions import Buttons
from simulator.c4c.odata import SERVICE
from simulator.c4c.records import seed
from simulator.world import Fault, Latency, World
from tests.api import c4c_calls, children, file_names, row_of
from tests.figures import Count
from tests.gmail.pane import ORIGIN, Pane, buttons, inputs, items, words

Work = Callable[[], None]

CREATE = "POST " + SERVICE + "EMailCollection"
CONTACTS = "ContactCollection"


def labels(pane: Pane, case: str) -> list[str]:
    return pane.message(case).categories


# Opening a message


def test_a_known_sender_is_shown_with_one_request_to_c4c_and_then_with_none(either: Pane, world: World) -> None:
    either.open("known_contact")
    assert "<b>Tracey Pearson</b>" in either.words
    assert "Connected as shirley.ellis@aldermill.example" in either.words
    assert {"Save this e-mail", "Choose…", "Open in C4C", "User Settings"} <= set(either.labels)
    assert len(c4c_calls(world)) == 1
    either.open("known_contact")
    assert len(c4c_calls(world)) == 1
    either.click("Refresh")
    assert len(c4c_calls(world)) == 2
    assert len(either.stack) == 1


def test_both_runtimes_show_the_same_card(pane: Pane) -> None:
    for case in ("known_contact", "several_records", "comma_name", "idn", "unknown_sender", "ten_recipients", "group_named"):
        pane.runtime = "apps_script"
        pane.open(case)
        by_script = pane.words
        pane.runtime = "http"
        pane.open(case)
        assert pane.words == by_script, case


def test_the_script_needs_no_request_to_the_mailbox_and_google_itself_one(pane: Pane, world: World) -> None:
    pane.open("known_contact")
    assert world.requests("google") == []
    pane.runtime = "http"
    pane.open("several_records")
    assert len({call.path for call in world.requests("google")}) == 1


def test_without_a_connected_mailbox_google_lets_the_open_message_be_read(neighbour: Pane, world: World) -> None:
    neighbour.runtime = "http"
    neighbour.person.access_type = "google"
    message = next(iter(world.mailbox(world.people[0].email).messages.values()))
    world.mailbox(neighbour.person.email).messages[message.rest_id] = message
    neighbour.open_message(message)
    assert neighbour.reply is not None
    (read,) = world.requests("google")
    assert (read.method, read.path.partition("?")[0]) == ("GET", f"/gmail/v1/users/me/messages/{message.rest_id}")
    assert "Save this e-mail" not in neighbour.labels


def test_google_is_asked_for_the_right_to_see_the_message_where_it_is_missing(neighbour: Pane, world: World) -> None:
    neighbour.runtime = "http"
    scope = "https://www.googleapis.com/auth/gmail.addons.current.message.metadata"
    wanted = {"requesting_google_scopes": {"scopes": [scope]}}
    opened = {"gmail": {"messageId": "1f", "threadId": "1f", "accessToken": "message-token"}}
    assert neighbour.call("message", {**opened, "authorizationEventObject": {"userIdToken": neighbour.id_token()}}).json == wanted
    useless = neighbour.simulator.google_identity.mint_access_token(world, neighbour.person, scopes=("contacts",))
    authorization = {"userIdToken": neighbour.id_token(), "userOAuthToken": useless}
    assert neighbour.call("message", {**opened, "authorizationEventObject": authorization}).json == wanted


def test_a_refusal_that_no_consent_mends_asks_for_none(neighbour: Pane, world: World) -> None:
    """An API that is not enabled in the add-on's project, for one: Google would ask the person again and again."""
    neighbour.runtime = "http"
    world.faults.append(Fault("google", "status", "GET /gmail", status=403, times=None))
    opened = {"gmail": {"messageId": "1f", "threadId": "1f", "accessToken": "message-token"}}
    reply = neighbour.call("message", opened)
    assert reply.status_code == 200
    assert "requesting_google_scopes" not in reply.text
    assert "You may not do this" in reply.text


def test_an_unknown_sender_can_be_searched_for_and_created(either: Pane) -> None:
    either.open("unknown_sender")
    assert "Not found in SAP" in either.words
    assert {"Create", "Search"} <= set(either.labels)


def test_an_address_that_two_hundred_records_have_still_gives_a_card_that_google_draws(either: Pane, world: World) -> None:
    address = row_of(world, CONTACTS, FirstName="Tracey", LastName="Pearson")["Email"]
    for number in range(200):
        seed(world, CONTACTS, FirstName="Tracey", LastName=f"<i>{number}</i>", Email=address, ContactID=str(70_000 + number))
    either.open("known_contact")
    assert re.search("and [0-9]+ more: refine the search", either.words)
    assert "Look more closely" in either.labels
    either.click("Choose…")
    assert len(items(either.card, "links")) <= 100
    either.click("Save this e-mail")
    assert "Saved in SAP Cloud for Customer" in either.words
    assert len(either.saved("known_contact")) == 1


def test_a_message_of_somebody_whom_many_records_are_is_saved_by_one_click(pane: Pane, world: World) -> None:
    address = row_of(world, CONTACTS, FirstName="Tracey", LastName="Pearson")["Email"]
    for number in range(200):
        seed(world, CONTACTS, FirstName="Tracey", LastName=f"N{number}", Email=address, ContactID=str(70_000 + number))
    pane.open("known_contact")
    pane.click("Save this e-mail")
    assert "Saved in SAP Cloud for Customer" in pane.words
    assert len(pane.saved("known_contact")) == 1


def test_colleagues_alone_leave_nothing_to_save(either: Pane) -> None:
    either.open("colleagues_only")
    assert "Nothing to save in SAP Cloud for Customer" in either.words
    assert "Save this e-mail" not in either.labels


def test_automatic_mail_is_looked_up_when_somebody_asks(either: Pane, world: World) -> None:
    either.open("newsletter")
    assert "This is a bulk message. It is not saved by itself." in either.words
    assert c4c_calls(world) == []
    assert "Save anyway" in either.labels
    either.click("Look up anyway")
    assert len(c4c_calls(world)) == 1


def test_recipients_of_a_draft_are_shown_and_nothing_is_saved(either: Pane, world: World) -> None:
    either.write()
    assert "Add a recipient, then refresh" in either.words
    email = row_of(world, CONTACTS, FirstName="Tracey", LastName="Pearson")["Email"]
    either.write(f'"Somebody" <{email}>')
    assert "Details" in either.labels
    assert not {"Save this e-mail", "Choose…"} & set(either.labels)
    either.click("Refresh")
    assert len(either.stack) == 1


def test_cards_speak_the_readers_language_and_know_their_clock(pane: Pane, world: World) -> None:
    pane.locale = "de-AT"
    pane.open("known_contact")
    assert "Verbunden als shirley.ellis@aldermill.example" in pane.words
    pane.click("Diese E-Mail sichern")
    pane.open("known_contact")
    at = world.now()
    assert f"{(at.hour + 1) % 24:02}:" in pane.words
    pane.locale = "../../etc"
    pane.open("known_contact")
    assert "Connected as" in pane.words


# Saving


def test_a_message_is_saved_by_one_click_and_shown_so(either: Pane, world: World) -> None:
    either.open("known_contact")
    either.click("Save this e-mail")
    (activity,) = either.saved("known_contact")
    assert "Saved in SAP Cloud for Customer" in either.words
    assert either.told == "Saved in SAP Cloud for Customer"
    assert len(children(world, activity, "parties")) >= 2
    assert "SAP E-Mails/Saved" in labels(either, "known_contact")
    assert either.reply is not None
    assert either.reply.json["stateChanged"] is True
    assert "by you" in either.stack[0]["sections"][-1]["widgets"][0]["decoratedText"]["text"]
    assert "Save this e-mail" not in [button["text"] for button in buttons(either.stack[0])]


def test_pressing_twice_saves_once(pane: Pane) -> None:
    pane.open("known_contact")
    token = pane.token("Save this e-mail")
    for _ in range(3):
        pane.act(token)
        assert "Saved in SAP Cloud for Customer" in pane.words
    assert len(pane.saved("known_contact")) == 1


def test_pressing_again_while_c4c_does_not_answer_takes_no_link_away(
    pane: Pane, process: Callable[..., Deps], settings: Settings, world: World, work: Work, forward: Callable[..., None]
) -> None:
    """The second click, or the script's own repetition of a call that was dropped, may reach a process that knows nobody yet."""
    pane.open("known_contact")
    token = pane.token("Save this e-mail")
    world.faults.append(Fault("c4c", "status", CREATE.partition(" ")[0], status=503, times=None))
    pane.act(token)
    assert "Accepted, being saved" in pane.words
    world.faults.append(Fault("c4c", "status", status=503, times=None))
    pane.app = create_app(process(), wiring.face(settings))
    pane.act(token)
    assert "Accepted, being saved" in pane.words
    world.faults.clear()
    forward(minutes=5)
    work()
    (activity,) = pane.saved("known_contact")
    assert len(children(world, activity, "parties")) >= 2


def test_nothing_is_chosen_from_while_c4c_does_not_answer(
    pane: Pane, process: Callable[..., Deps], settings: Settings, world: World
) -> None:
    pane.open("known_contact")
    pane.click("Save this e-mail")
    pane.open("known_contact")
    world.faults.append(Fault("c4c", "status", status=503, times=None))
    pane.app = create_app(process(), wiring.face(settings))
    pane.click("Change links")
    assert "A service does not answer right now" in pane.words
    world.faults.clear()
    pane.click("Try again")
    assert items(pane.card, "links")


def test_what_is_saved_can_be_chosen(either: Pane, world: World) -> None:
    either.open("with_attachment_known_contact")
    either.click("Choose…")
    files = items(either.card, "attachments")
    links = items(either.card, "links")
    assert files
    assert links
    chosen = {"subject": "By another name", "attachments": list(files.values())[:1], "links": [], "also": ["eml"]}
    either.click("Save this e-mail", **chosen)
    (activity,) = either.saved("with_attachment_known_contact")
    assert activity["Subject"] == "By another name"
    assert len(file_names(world, activity)) == 2
    assert any(name.endswith(".eml") for name in file_names(world, activity))


def test_a_file_that_cannot_be_saved_says_why_and_cannot_be_ticked(pane: Pane) -> None:
    pane.open("attachments")
    pane.click("Choose…")
    assert "Cannot be saved" in pane.words
    offered = items(pane.card, "attachments")
    assert not [name for name in offered if ".exe" in name]
    pane.click("Save this e-mail", attachments=["1.99"])
    assert "Something in it is not right" in pane.words
    assert pane.saved("attachments") == []


def test_a_save_that_waits_is_shown_as_such_until_it_is_done(
    pane: Pane, world: World, work: Work, forward: Callable[..., None]
) -> None:
    pane.open("known_contact")
    world.faults.append(Fault("c4c", "status", "POST", status=503, times=None))
    pane.click("Save this e-mail")
    assert "Accepted, being saved" in pane.words
    assert "Refresh" in pane.labels
    world.faults.clear()
    forward(minutes=5)
    work()
    pane.click("Refresh")
    assert "Saved in SAP Cloud for Customer" in pane.words
    assert "by you" in words(pane.stack[0])
    assert len(pane.saved("known_contact")) == 1


def test_a_save_that_failed_says_why_and_is_tried_again(either: Pane, world: World) -> None:
    either.open("known_contact")
    world.faults.append(Fault("c4c", "part_status", CREATE, status=400, times=None))
    either.click("Save this e-mail")
    assert "Not saved<br>The request could not be processed" in either.words
    assert "SAP E-Mails/Sync Error" in labels(either, "known_contact")
    assert "Not saved<br>The request could not be processed" in words(either.stack[0])
    world.faults.clear()
    either.click("Try again")
    assert "Saved in SAP Cloud for Customer" in either.words
    assert len(either.saved("known_contact")) == 1
    assert "SAP E-Mails/Saved" in labels(either, "known_contact")


def test_a_save_of_somebody_else_is_neither_shown_nor_driven_on(pane: Pane, neighbour: Pane, deps: Deps, world: World) -> None:
    world.faults.append(Fault("c4c", "part_status", CREATE, status=400, times=None))
    pane.open("known_contact")
    pane.click("Save this e-mail")
    with deps.store.transaction(reading=True) as tx:
        (tenant,) = tx.tenants()
        mine, theirs = (tx.user_by_email(tenant.id, one.person.email) for one in (pane, neighbour))
        assert mine
        assert theirs
        request = tx.request_for_item(mine.id, pane.message("known_contact").rest_id)
        principal = tx.principal_of(theirs.id)
    assert request
    assert principal
    world.faults.clear()
    neighbour.open_message(pane.message("known_contact"))
    buttons_of = Buttons(deps.vault.signature, deps.now, principal, "apps_script")
    neighbour.act(buttons_of.token("save_state", neighbour.opened["gmail"]["messageId"], {"id": request.id}))
    assert "It is not there any more" in neighbour.words
    neighbour.act(buttons_of.token("save_again", neighbour.opened["gmail"]["messageId"], {"id": request.id}))
    assert "Another mailbox is connected" in neighbour.words
    assert pane.saved("known_contact") == []


def test_a_message_of_another_mailbox_than_the_connected_one_is_not_saved(pane: Pane, neighbour: Pane, world: World) -> None:
    neighbour.open_message(pane.message("known_contact"))
    assert "<b>Tracey Pearson</b>" in neighbour.words
    assert "You are in Gmail as elke.misicher@aldermill.example" in neighbour.words
    assert "Connected as elke.misicher@aldermill.example" in neighbour.words
    assert not {"Save this e-mail", "Choose…"} & set(neighbour.labels)
    assert "Connect your mailbox" in neighbour.labels


def test_a_mailbox_that_was_connected_with_another_account_is_not_written_to(pane: Pane, deps: Deps) -> None:
    pane.open("known_contact")
    pressed = [pane.token("Save this e-mail"), pane.token("Choose…")]
    with deps.store._engine.begin() as connection:
        other = ("google:117000000000000000000", "other@aldermill.example", pane.person.email)
        connection.exec_driver_sql("UPDATE connection SET account_key = ?, mailbox = ? WHERE mailbox = ?", other)
    for token in pressed:
        pane.act(token)
        assert "Another mailbox is connected" in pane.words
        assert "the connected mailbox is other@aldermill.example" in pane.words
        assert "Connect your mailbox" in pane.labels
    assert pane.saved("known_contact") == []
    pane.open("known_contact")
    assert "Connected as other@aldermill.example" in pane.words
    assert "Save this e-mail" not in pane.labels


def test_who_has_connected_no_mailbox_sees_people_and_is_led_to_connect_it(newcomer: Pane, pane: Pane) -> None:
    newcomer.open_message(pane.message("known_contact"))
    assert "Signed in as elke.misicher@aldermill.example" in newcomer.words
    assert "<b>Tracey Pearson</b>" in newcomer.words
    assert "Connect your mailbox" in newcomer.labels
    assert "Save this e-mail" not in newcomer.labels


# Trouble


def test_c4c_away_is_said_and_trying_again_helps(either: Pane, world: World) -> None:
    world.faults.append(Fault("c4c", "status", status=503, times=None))
    either.open("known_contact")
    assert "A service does not answer right now" in either.words
    world.faults.clear()
    either.click("Try again")
    assert "<b>Tracey Pearson</b>" in either.words


def test_a_mailbox_that_is_away_is_said_and_nothing_is_saved(pane: Pane, world: World) -> None:
    pane.open("known_contact")
    world.faults.append(Fault("google", "status", status=503, times=None))
    for button in ("Save this e-mail", "Choose…"):
        pane.click(button)
        assert "A service does not answer right now" in pane.words
        assert "Try again" in pane.labels
        pane.stack.pop()
    world.faults.clear()
    assert pane.saved("known_contact") == []


def test_a_message_that_is_gone_is_said_so(pane: Pane, world: World) -> None:
    pane.open("known_contact")
    world.mailbox(pane.person.email).messages.clear()
    pane.click("Save this e-mail")
    assert "It is not there any more" in pane.words


def test_a_mailbox_that_has_to_be_connected_again_shows_people_and_the_way(either: Pane) -> None:
    either.simulator.google_identity.withdraw_consent(either.person)
    either.open("known_contact")
    if either.runtime == "apps_script":  # which does not ask the mailbox before
        either.click("Save this e-mail")
        assert "Your mailbox is not connected" in either.words
        either.open("known_contact")
    assert "<b>Tracey Pearson</b>" in either.words
    assert "Save this e-mail" not in either.labels
    links = [b["onClick"]["openLink"] for b in buttons(either.card) if b["text"] == "Connect your mailbox"]
    assert links == [{"url": f"{ORIGIN}/settings/sync/email", "openAs": "OVERLAY", "onClose": "RELOAD"}]


def test_a_mailbox_that_an_administrator_suspended_is_not_for_its_owner_to_connect(either: Pane, deps: Deps) -> None:
    with deps.store.transaction() as tx:
        (tenant,) = tx.tenants()
        user = tx.user_by_email(tenant.id, either.person.email)
        assert user is not None
        (connection,) = tx.connections_of(user.id)
        tx.set_connection_state(connection.id, "suspended", "", deps.now())
    either.open("known_contact")
    assert "Synchronization of this mailbox is suspended" in either.words
    assert "Ask your administrator to resume it." in either.words
    assert not {"Connect your mailbox", "Save this e-mail", "Choose…"} & set(either.labels)


def test_the_page_that_a_reload_waits_for_keeps_its_tie_to_gmail(pane: Pane) -> None:
    """Gmail does not see that a page was closed which cut itself off by this header (gmail.md 1.3)."""
    reply = pane.app.test_client().get("/settings/sync/email")
    assert reply.status_code < 400
    assert "Cross-Origin-Opener-Policy" not in reply.headers


def test_who_hurries_is_told_so_by_a_card(deps: Deps, pane: Pane, settings: Settings) -> None:
    slow = replace(deps, limits=replace(deps.limits, user_calls_per_minute=2))
    pane.app = create_app(slow, wiring.face(settings))
    for _ in range(2):
        pane.open("known_contact")
        assert "<b>Tracey Pearson</b>" in pane.words
    pane.open("known_contact")
    assert "There are too many requests at the moment" in pane.words


def test_who_tries_keys_is_shut_out_and_others_are_not(deps: Deps, pane: Pane, settings: Settings) -> None:
    guarded = replace(deps, limits=replace(deps.limits, failed_sign_ins_per_minute=2))
    pane.app = create_app(guarded, wiring.face(settings))
    assert [pane.call("message", {}, bearer="guess").status_code for _ in range(3)] == [401, 401, 429]
    pane.open("known_contact")
    assert "<b>Tracey Pearson</b>" in pane.words


def test_one_who_is_not_set_up_takes_nobodys_place_at_googles_machines(deps: Deps, pane: Pane, settings: Settings) -> None:
    guarded = replace(deps, limits=replace(deps.limits, failed_sign_ins_per_minute=2))
    app = create_app(guarded, wiring.face(settings))
    first, second = (Pane(app, pane.simulator, pane.simulator.world.people[number]) for number in (3, 4))
    token = first.id_token()
    said = [first.call("homepage", {}, bearer=token).text for _ in range(3)]
    assert ["You are not set up yet" in one for one in said] == [True, True, False]
    assert "There are too many requests at the moment" in said[2]
    assert "You are not set up yet" in second.call("homepage", {}).text


def test_c4c_that_is_slow_does_not_hold_gmail_up(
    process: Callable[..., Deps], pane: Pane, settings: Settings, world: World
) -> None:
    pane.app = create_app(process(context_deadline_s=0.2), wiring.face(settings))
    world.latency["c4c"] = Latency(base_ms=3_000)
    pane.open("known_contact")
    assert "A service does not answer right now" in pane.words
    world.latency.clear()


def test_a_mailbox_that_is_slow_lets_nobody_wait_longer_than_gmail_does(
    process: Callable[..., Deps], pane: Pane, settings: Settings, world: World
) -> None:
    in_time, pane.app = pane.app, create_app(process(card_deadline_s=0.2), wiring.face(settings))
    pane.open("known_contact")
    world.latency["google"] = Latency(base_ms=1_000)
    pane.click("Save this e-mail")
    assert "This takes longer than usual" in pane.words
    world.latency.clear()
    pane.app = in_time
    pane.click("Try again")
    assert len(pane.saved("known_contact")) == 1


# Hostile events

EVENTS: dict[str, Any] = {
    "no object": [],
    "nested without end": {"a": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]},
    "form inputs a list": {"commonEventObject": {"formInputs": []}},
    "form inputs of texts": {"commonEventObject": {"formInputs": {"subject": "x"}}},
    "form input without values": {"commonEventObject": {"formInputs": {"subject": {"stringInputs": "x"}}}},
    "form input of numbers": {"commonEventObject": {"formInputs": {"subject": {"stringInputs": {"value": [1]}}}}},
    "a thousand ticks": {"commonEventObject": {"formInputs": {"links": {"stringInputs": {"value": ["x"] * 1_000}}}}},
    "a very long text": {"commonEventObject": {"formInputs": {"subject": {"stringInputs": {"value": ["x" * 5_000]}}}}},
    "an id with a path in it": {"gmail": {"messageId": "1f/../../x y", "threadId": "1f"}},
    "an id that is a number": {"gmail": {"messageId": 17}},
    "a zone beyond the day": {"commonEventObject": {"timeZone": {"offset": 10**12}}},
    "a header that is two": {"message": {"others": {"Content-Type\r\nPrecedence": "bulk"}}},
    "headers that are lists": {"message": {"from": ["a@example.com"]}},
    "parameters that are objects": {"commonEventObject": {"parameters": {"token": {}}}},
}


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS.keys())
def test_what_gmail_would_not_send_is_told_by_a_card(pane: Pane, event: Any, count: Count) -> None:
    for what in ("message", "action", "compose", "homepage"):
        reply = pane.call(what, event)
        assert reply.status_code == 200
        assert "Something in it is not right" in reply.text
        count("hostile input: events", 1)


def test_a_message_without_an_id_is_told_by_a_card(either: Pane) -> None:
    reply = either.call("message", {"message": {"from": "a@harrowgate-pumps.example"}})
    assert reply.status_code == 200
    assert "Gmail did not say which message is open." in reply.text


@pytest.mark.parametrize("what", ["message", "compose"])
def test_a_message_to_thousands_is_looked_up_for_the_first_of_them(pane: Pane, what: str, world: World) -> None:
    address = row_of(world, CONTACTS, FirstName="Tracey", LastName="Pearson")["Email"]
    others = [f'"Ms. Number {number}, \u4e2d\U0001f600\ud800" <n{number}@harrowgate-pumps.example>' for number in range(3_000)]
    everybody = [f"Tracey <{address}>", *others]
    gmail = {"messageId": "1f", "threadId": "1f"}
    told: dict[str, Any] = {"gmail": gmail, "message": {"from": address, "to": ", ".join(everybody), "cc": ", ".join(others)}}
    if what == "compose":
        told = {"gmail": {"toRecipients": everybody[:2_000]}}
    reply = pane.call(what, told)
    assert reply.status_code == 200
    assert "<b>Tracey Pearson</b>" in reply.text
    assert "Only the first 50 addresses were looked up." in reply.text


def test_a_field_cannot_tell_what_another_one_would(pane: Pane) -> None:
    sender = "somebody@harrowgate-pumps.example"
    others = {"Content-Type": "text/plain\r\nPrecedence: bulk"}
    reply = pane.call("message", {"gmail": {"messageId": "1f"}, "message": {"from": sender, "others": others}})
    assert "bulk message" not in reply.text


def test_what_an_event_lacks_is_no_mistake(pane: Pane) -> None:
    nothing = {"commonEventObject": {"userLocale": None, "timeZone": None, "formInputs": None, "parameters": None}}
    opened = {"gmail": {"messageId": "1f", "threadId": None}, "message": {"from": None, "to": "", "cc": None, "subject": None}}
    reply = pane.call("message", {**nothing, **opened, "somethingNew": {"of": ["Google's"]}})
    assert "Nobody in this e-mail is in SAP Cloud for Customer" in reply.text


@pytest.mark.parametrize(
    ("data", "kind", "status"),
    [
        (b"{" + b" " * 1024 * 1024 + b"}", "application/json", 413),
        (b"{", "application/json", 400),
        (b'{"a": 1, "a": 2}', "application/json", 400),
        (b"{}", "text/plain", 415),
        (b"", "application/json", 400),
    ],
)
def test_what_is_no_event_at_all_is_refused(pane: Pane, data: bytes, kind: str, status: int) -> None:
    headers = {"Authorization": f"Bearer {pane.id_token()}"}
    reply = pane.app.test_client().post("/gmail/message", data=data, content_type=kind, headers=headers)
    assert (reply.status_code, reply.content_type) == (status, "application/problem+json")


def test_links_that_nobody_offered_are_refused(pane: Pane) -> None:
    pane.open("known_contact")
    pane.click("Choose…")
    for wrong in ("contact", "contact:1", "secret:" + "0" * 32, "contact:" + "0" * 33, "::"):
        pane.click("Save this e-mail", links=[wrong])
        assert "Something in it is not right" in pane.words
        pane.stack.pop()
    assert pane.saved("known_contact") == []


def test_nothing_secret_is_logged(either: Pane, capfd: pytest.CaptureFixture[str]) -> None:
    either.open("known_contact")
    button = either.token("Save this e-mail")
    either.act(button)
    either.act(button[:-4] + "AAAA")
    assert either.reply is not None
    sent = either.reply.request.headers["Authorization"].removeprefix("Bearer ")
    logged = capfd.readouterr().err
    assert "a button was refused" in logged
    for secret in (button, button[:-4], sent, "Tracey", "message-token"):
        assert secret not in logged


# Beside messages


def test_the_homepage_searches_and_shows_how_far_the_engine_is(either: Pane) -> None:
    either.home()
    assert "Synchronization" in either.words
    either.click("Search", 1, text="harrowgate")
    assert "Harrowgate Pumps Ltd" in either.words
    assert len(either.stack) == 2


def test_force_sync_asks_for_a_session(pane: Pane, deps: Deps) -> None:
    pane.home()
    pane.click("Force Sync")
    assert pane.told == "A session is asked for."
    assert len(pane.stack) == 1


def test_issues_are_told_with_what_mends_them(pane: Pane, deps: Deps, world: World) -> None:
    name = "<b onclick=alert(1)>Offer</b> & more"
    with deps.store.transaction(reading=True) as tx:
        (tenant,) = tx.tenants()
        user = tx.user_by_email(tenant.id, pane.person.email)
        assert user is not None
        (connection,) = tx.connections_of(user.id)
    found = issues.Finding("email", "email:1f", "message_gone", name=name)
    issues.report(deps, connection, [found])
    pane.home()
    pane.click("Issues: 1")
    assert "&lt;b onclick=alert(1)&gt;Offer&lt;/b&gt; &amp; more" in pane.words
    assert "Mend or answer in User Settings" in pane.labels
    assert len(pane.stack) == 2


# Records


def test_a_record_is_shown_with_what_belongs_to_it(either: Pane) -> None:
    either.open("known_contact")
    either.click("Details")
    assert either.card["header"]["title"] == "Tracey Pearson"
    assert "Harrowgate Pumps Ltd" in either.words
    assert "Open in C4C" in either.labels
    assert len(either.stack) == 2


def test_a_record_that_is_gone_is_said_so(pane: Pane, world: World) -> None:
    pane.open("known_contact")
    world.crm.rows(CONTACTS).clear()
    pane.click("Details")
    assert "This record is not there any more" in pane.words


def test_a_search_finds_and_an_empty_one_says_what_is_missing(pane: Pane) -> None:
    pane.open("known_contact")
    pane.click("Search")
    pane.click("Search", 1, text="Pearson")
    assert "Tracey Pearson" in pane.words
    pane.click("Search", 1, text="x")
    assert pane.told == "Type at least two letters or digits."
    pane.click("Search", 1, text="no such name anywhere")
    assert "Nothing was found." in pane.words


def test_somebody_unknown_is_created_once_and_then_known(either: Pane, world: World) -> None:
    either.open("unknown_sender")
    before = len(world.crm.rows(CONTACTS))
    either.click("Create")
    form = inputs(either.card)
    assert "@" in form["email"][0]
    token = either.token("Create")
    either.click("Create", surname="Newman", given_name="Nell")
    assert either.told == "Created in SAP Cloud for Customer"
    assert either.card["header"]["title"] == "Nell Newman"
    assert len(either.stack) == 2
    assert len(world.crm.rows(CONTACTS)) == before + 1
    row = row_of(world, CONTACTS, LastName="Newman")
    assert row["Email"] == form["email"][0]
    either.act(token, {**form, "surname": ["Newman"]})
    assert "This was done before." in either.words
    assert len(world.crm.rows(CONTACTS)) == before + 1
    either.stack.pop()
    either.stack.pop()
    assert "Nell Newman" in either.words


def test_a_form_that_is_not_taken_comes_back_with_what_was_typed_and_why(pane: Pane, world: World) -> None:
    pane.open("unknown_sender")
    before = len(world.crm.rows(CONTACTS))
    pane.click("Create")
    pane.click("Create", surname="", company="Kept Ltd")
    assert "Last name: This is needed." in pane.words
    assert inputs(pane.card)["company"] == ["Kept Ltd"]
    pane.click("Create", surname="y" * 2_000)
    assert "Last name: This is too long." in pane.words
    assert len(world.crm.rows(CONTACTS)) == before
    pane.click("Create", surname="Second")
    assert len(world.crm.rows(CONTACTS)) == before + 1


def test_an_account_can_be_created_instead(pane: Pane, world: World) -> None:
    pane.open("unknown_sender")
    pane.click("Create")
    pane.click("Account instead")
    pane.click("Create", company="Brand New Works")
    assert row_of(world, "CorporateAccountCollection", Name="Brand New Works")


def test_whether_a_lost_answer_created_somebody_is_not_known_and_the_button_does_it_no_second_time(
    pane: Pane, world: World
) -> None:
    pane.open("unknown_sender")
    pane.click("Create")
    token, form = pane.token("Create"), {**inputs(pane.card), "surname": ["Lost"]}
    world.faults.append(Fault("c4c", "acted_drop", "POST " + SERVICE + CONTACTS))
    world.faults.append(Fault("c4c", "status", "GET " + SERVICE + CONTACTS, times=None))
    pane.act(token, form)
    assert "It is not known whether it was done" in pane.words
    assert "Look before you try again." in pane.words
    assert "Try again" not in pane.labels
    world.faults.clear()
    pane.act(token, form)
    assert "This was done before." in pane.words
    assert len([row for row in world.crm.rows(CONTACTS).values() if row["LastName"] == "Lost"]) == 1


def test_a_button_pressed_many_times_at_once_creates_once(pane: Pane, world: World) -> None:
    pane.open("unknown_sender")
    pane.click("Create")
    token, form = pane.token("Create"), {**inputs(pane.card), "surname": ["Eager"]}

    def press(_: int) -> str:
        again = replace(pane, stack=[pane.card])
        again.act(token, form)
        return again.words

    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(press, range(4)))
    assert sum("This was done before." in said for said in told) == 3
    assert len([row for row in world.crm.rows(CONTACTS).values() if row["LastName"] == "Eager"]) == 1


def test_c4c_away_leaves_the_form_as_it_was_typed(pane: Pane, world: World) -> None:
    pane.open("unknown_sender")
    pane.click("Create")
    world.faults.append(Fault("c4c", "status", status=503, times=None))
    pane.click("Create", surname="Patient")
    assert "Not created" in pane.words
    assert inputs(pane.card)["surname"] == ["Patient"]
    world.faults.clear()
    pane.click("Create")
    assert row_of(world, CONTACTS, LastName="Patient")


def test_a_type_that_the_profile_does_not_have_is_not_created(pane: Pane, deps: Deps, world: World) -> None:
    pane.open("unknown_sender")
    pane.click("Create")
    pane.click("Lead instead")
    token, before = pane.token("Create"), len(world.crm.rows("LeadCollection"))
    with deps.store._engine.begin() as connection:
        with_leads, without = '"leads_enabled": true', '"leads_enabled": false'
        connection.exec_driver_sql("UPDATE organization SET profile = replace(profile, ?, ?)", (with_leads, without))
    pane.act(token, {"subject": ["A lead"]})
    assert "You may not do this" in pane.words
    assert len(world.crm.rows("LeadCollection")) == before
    pane.open("unknown_sender")
    pane.click("Create")
    assert "Lead instead" not in pane.labels
