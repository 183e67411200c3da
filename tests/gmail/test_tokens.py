"""Only Gmail's own calls for the person are answered, and a button does what was drawn, for whom it was drawn, for a while."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from server import wiring
from server.config import Settings
from server.services import Deps, Principal
from server.services.add_on import use_once
from server.web import create_app
from server.web.actions import ACTIONS, ButtonRefused, Buttons
from simulator.world import World
from tests.figures import Count
from tests.gmail.pane import ORIGIN, Pane, buttons

OUT_OF_DATE = "This card is out of date"


def refused(pane: Pane) -> bool:
    return OUT_OF_DATE in pane.words


# Who calls


def test_a_person_of_the_workspace_is_known_in_either_runtime(either: Pane) -> None:
    either.home()
    assert "Connected as shirley.ellis@aldermill.example" in either.words


STRANGERS: dict[str, Callable[[Pane], str]] = {
    "no token": lambda p: "",
    "no JWT": lambda p: "nonsense",
    "of another add-on": lambda p: p.id_token(aud="another.apps.example.com"),
    "expired": lambda p: p.id_token(exp=int(p.simulator.world.now().timestamp()) - 120),
    "of gmail.com": lambda p: p.id_token(hd=None),
    "address not verified": lambda p: p.id_token(email_verified=False),
    "of Entra": lambda p: p.simulator.provider.mint_api_token(p.simulator.world, p.simulator.world.people[1], 3600),
    "an access token": lambda p: p.simulator.google_identity.mint_access_token(p.simulator.world, p.person),
    "another signature": lambda p: p.id_token()[:-8] + "AAAAAAAA",
}


@pytest.mark.parametrize("mint", STRANGERS.values(), ids=STRANGERS.keys())
def test_nobody_unproven_gets_a_card(pane: Pane, mint: Callable[[Pane], str], count: Count) -> None:
    for what in ("message", "homepage", "compose", "action"):
        reply = pane.call(what, {}, bearer=mint(pane))
        assert (reply.status_code, reply.content_type) == (401, "application/problem+json")
        count("hostile input: forged tokens", 1)


HOSTS: dict[str, Callable[[Pane], str]] = {
    "of another service account": lambda p: p.system_token("message", email="another@gcp-sa-gsuiteaddons.example.com"),
    "of an account whose address is not verified": lambda p: p.system_token("message", email_verified=False),
    "for another of our addresses": lambda p: p.system_token("action"),
    "for an address like ours": lambda p: p.system_token("message", aud=f"{ORIGIN}/gmail/message/"),
    "for another server": lambda p: p.system_token("message", aud="https://other.example.com/gmail/message"),
    "for two addresses": lambda p: p.system_token("message", aud=[f"{ORIGIN}/gmail/message"]),
    "expired": lambda p: p.system_token("message", exp=int(p.simulator.world.now().timestamp()) - 120),
    "of another issuer": lambda p: p.system_token("message", iss="https://accounts.example.net"),
    "another signature": lambda p: p.system_token("message")[:-8] + "AAAAAAAA",
    "the person's own in its place, and a forged one in the body": lambda p: p.id_token(aud=f"{ORIGIN}/gmail/message"),
}


@pytest.mark.parametrize("mint", HOSTS.values(), ids=HOSTS.keys())
def test_a_call_that_google_did_not_make_proves_nobody(pane: Pane, mint: Callable[[Pane], str], count: Count) -> None:
    pane.runtime = "http"
    assert pane.call("message", {}, bearer=pane.system_token("message")).status_code == 200
    assert pane.call("message", {}, bearer=mint(pane)).status_code == 401
    count("hostile input: forged tokens", 1)


def test_googles_own_token_proves_no_person(pane: Pane) -> None:
    pane.runtime = "http"
    for token in ("nonsense", pane.system_token("message"), pane.id_token(aud="another.apps.example.com")):
        event = {"authorizationEventObject": {"userIdToken": token}}
        assert pane.call("message", event).status_code == 401, token


def test_google_asks_a_person_who_has_not_said_who_they_are(pane: Pane) -> None:
    pane.runtime = "http"
    for authorization in ({}, {"userIdToken": None}, {"userIdToken": ["x"]}, []):
        reply = pane.call("message", {"authorizationEventObject": authorization})
        assert reply.json == {
            "requesting_google_scopes": {"scopes": ["openid", "https://www.googleapis.com/auth/userinfo.email"]}
        }


def test_without_a_service_account_google_may_not_run_the_add_on(deps: Deps, pane: Pane, settings: Settings) -> None:
    pane.app = create_app(replace(deps, host_verifier=None), wiring.face(settings))
    pane.runtime = "http"
    assert pane.call("message", {}).status_code == 401
    pane.runtime = "apps_script"
    assert pane.call("message", {}).status_code == 200


def test_who_is_not_set_up_is_told_whom_to_ask_and_finds_no_button_that_acts(either: Pane, world: World) -> None:
    message, either.person = either.message("known_contact"), world.people[3]
    either.open_message(message)
    assert "You are not set up yet" in either.words
    assert "it@aldermill.example" in either.words
    assert either.labels == []


def test_who_is_expected_is_led_to_connect_a_mailbox(either: Pane, world: World) -> None:
    message, either.person = either.message("known_contact"), world.people[2]
    either.open_message(message)
    assert "Your mailbox is not connected" in either.words
    (button,) = buttons(either.card)
    link = {"url": f"{ORIGIN}/settings/sync/email", "openAs": "OVERLAY", "onClose": "RELOAD"}
    assert button == {"text": "Connect your mailbox", "onClick": {"openLink": link}}


# What a button carries


def tampered(token: str, **changes: Any) -> str:
    text, _, signature = token.partition(".")
    said = json.loads(base64.urlsafe_b64decode(text + "==")) | changes
    return base64.urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip("=") + "." + signature


FORGERIES: dict[str, Callable[[str], str]] = {
    "nothing": lambda token: "",
    "no token": lambda token: "nonsense",
    "not ASCII": lambda token: token + "ü",
    "without its signature": lambda token: token.partition(".")[0] + ".",
    "with another signature": lambda token: token[:-6] + "AAAAAA",
    "another action": lambda token: tampered(token, action="create", parameters={"type": "contact"}),
    "another user": lambda token: tampered(token, user="0" * 32),
    "a later end": lambda token: tampered(token, expires_at=2**40),
    "very long": lambda token: token + "A" * 9_000,
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES.keys())
def test_a_forged_button_does_nothing(pane: Pane, world: World, forge: Callable[[str], str], count: Count) -> None:
    pane.open("known_contact")
    pane.act(forge(pane.token("Save this e-mail")))
    assert refused(pane)
    assert pane.saved("known_contact") == []
    count("hostile input: forged tokens", 1)


def test_a_button_is_out_of_date_after_an_hour(pane: Pane, world: World, forward: Callable[..., None]) -> None:
    pane.open("known_contact")
    token = pane.token("Save this e-mail")
    forward(minutes=61)
    pane.act(token)
    assert refused(pane)
    assert pane.saved("known_contact") == []
    pane.open("known_contact")
    late = pane.token("Save this e-mail")
    forward(minutes=59)
    pane.act(late)
    assert len(pane.saved("known_contact")) == 1


def test_a_button_of_one_person_does_nothing_for_another(pane: Pane, neighbour: Pane, world: World) -> None:
    pane.open("known_contact")
    token = pane.token("Save this e-mail")
    neighbour.opened = pane.opened
    neighbour.home()
    neighbour.opened = pane.opened
    neighbour.act(token)
    assert refused(neighbour)
    assert pane.saved("known_contact") == []


def test_a_button_of_one_message_does_nothing_on_another(pane: Pane, world: World) -> None:
    pane.open("known_contact")
    token = pane.token("Save this e-mail")
    pane.open("several_records")
    pane.act(token)
    assert refused(pane)
    pane.opened = {}
    pane.act(token)
    assert refused(pane)
    assert pane.saved("known_contact") == []


def test_a_button_of_one_runtime_does_nothing_in_the_other(pane: Pane, world: World) -> None:
    pane.open("known_contact")
    token = pane.token("Save this e-mail")
    pane.runtime = "http"
    pane.act(token)
    assert refused(pane)
    assert pane.saved("known_contact") == []


@pytest.fixture
def principal(deps: Deps, world: World) -> Principal:
    with deps.store.transaction(reading=True) as tx:
        (tenant,) = tx.tenants()
        user = tx.user_by_email(tenant.id, world.people[0].email)
        assert user is not None
        found = tx.principal_of(user.id)
    assert found is not None
    return found


def test_a_button_of_one_tenant_is_forged_in_another(deps: Deps, principal: Principal) -> None:
    with deps.store.transaction() as tx:
        other = tx.add_tenant("south", deps.vault.new_data_key(), principal.tenant.c4c, [], deps.now())
    there = replace(principal, tenant=replace(principal.tenant, id=other))
    token = Buttons(deps.vault.signature, deps.now, there, "http").token("homepage", "", {})
    with pytest.raises(ButtonRefused) as told:
        Buttons(deps.vault.signature, deps.now, principal, "http").read(token, "")
    assert told.value.why == "forged"


MISFITS: list[tuple[str, str, dict[str, str]]] = [
    ("save", "", {}),  # without a message
    ("record", "1f", {"type": "contact"}),
    ("record", "1f", {"type": "secret", "id": "0" * 32}),
    ("record", "1f", {"type": "contact", "id": "../EMailCollection"}),
    ("record", "1f", {"type": "contact", "id": "0" * 32, "more": "1"}),
    ("create_form", "1f", {"type": "ticket"}),
    ("search", "1f", {"text": "line\nbreak"}),
    ("search", "1f", {"text": "a" * 401}),
]


@pytest.mark.parametrize(("name", "message_id", "parameters"), MISFITS)
def test_no_button_is_drawn_that_does_not_fit_its_action(
    deps: Deps, principal: Principal, name: str, message_id: str, parameters: dict[str, str]
) -> None:
    buttons = Buttons(deps.vault.signature, deps.now, principal, "http")
    with pytest.raises(ValueError, match="do not fit"):
        buttons.token(name, message_id, parameters)
    with pytest.raises(KeyError):
        buttons.token("delete", message_id, parameters)


def test_what_is_signed_but_does_not_fit_is_refused(deps: Deps, principal: Principal, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an update of the product that no longer knows an action, or that wants more of it."""
    buttons = Buttons(deps.vault.signature, deps.now, principal, "http")
    token = buttons.token("record", "1f", {"type": "contact", "id": "0" * 32})
    assert buttons.read(token, "1f").parameters == {"type": "contact", "id": "0" * 32}
    monkeypatch.setitem(ACTIONS, "record", ACTIONS["homepage"])  # type: ignore[arg-type]
    with pytest.raises(ButtonRefused) as told:
        buttons.read(token, "1f")
    assert told.value.why == "parameters do not fit"
    monkeypatch.delitem(ACTIONS, "record")  # type: ignore[arg-type]
    with pytest.raises(ButtonRefused) as told:
        buttons.read(token, "1f")
    assert told.value.why == "unknown action"


def test_a_used_button_is_remembered_for_as_long_as_it_would_count(deps: Deps) -> None:
    nonce, until = "ab" * 16, deps.now() + timedelta(minutes=60)
    assert [use_once(deps, nonce, until) for _ in range(3)] == [True, False, False]
    with deps.store.transaction() as tx:
        tx.forget_expired(deps.now() + timedelta(minutes=59))
    assert not use_once(deps, nonce, until)
    with deps.store.transaction() as tx:
        tx.forget_expired(until)
    assert use_once(deps, nonce, until)
