"""Mailboxes away from Microsoft 365, as their owners see it: how one is connected, what they are told when it is no longer, and
what the product may call."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server import wiring
from server.config import Settings
from server.errors import InvalidInput
from server.services import Deps, provisioning
from simulator.ews.identity import mailbox_guid
from simulator.google.identity import subject
from simulator.ports import SERVICE_ACCOUNT
from simulator.world import AccessType, Fault, World
from tests.api import Api, activities, everywhere

ADMIN = "it@aldermill.example"
BATCH = "$batch"


def next_step(me: Api) -> str:
    """Who can mend a connection: its owner, but for one that a service account opens."""
    by_admin = me.person.access_type == "exchange_impersonation"
    return f"Ask your administrator, {ADMIN}." if by_admin else "Connect it in User Settings."


Forward = Callable[..., None]
Work = Callable[[], None]


def at(*access_types: AccessType) -> Any:
    return pytest.mark.parametrize("access_type", access_types, indirect=True)


def keys_of(me: Api) -> dict[str, Any]:
    """What an administrator enters for this person's mailbox, as the provider takes it by now."""
    entry = next(user for user in me.simulator.provisioning()["users"] if user["email"] == me.person.email)
    mailbox: dict[str, Any] = entry["mailbox"]
    return mailbox


def mailbox(me: Api) -> tuple[str, str]:
    shown = me.get("/me").json["mailbox"]
    return shown["state"], shown["reason"]


def shut(me: Api) -> str:
    """Let the provider refuse what we hold, and return what it says of it."""
    match me.person.access_type:
        case "google":
            me.simulator.google_identity.withdraw_consent(me.person)
            return "The permission to use the Google mailbox has ended."
        case "exchange_direct":
            me.person.password = "changed-in-the-house"
            me.fail("drop")  # a connection that is signed in stays so until it ends
        case _:
            me.fail("status", status=401, times=None)
    return "Exchange no longer accepts the user name and password."


def mend(me: Api, deps: Deps) -> None:
    """Do what the administrator is asked to do."""
    me.world.faults.clear()
    if me.person.access_type == "exchange_impersonation":
        (entry,) = [o for o in me.simulator.provisioning()["organizations"] if o["access_type"] == me.person.access_type]
        put_organization(deps, entry)
    else:
        provisioning.connect_mailbox(deps, "demo", me.person.email, keys_of(me))


def put_organization(deps: Deps, entry: dict[str, Any]) -> None:
    settled = [entry[name] for name in ("name", "access_type", "admin_contact", "profile", "service_account")]
    provisioning.put_organization(deps, "demo", *settled)


# Connected


@everywhere
def test_the_owner_sees_which_mailbox_it_is_and_what_it_can_do(me: Api) -> None:
    assert me.save("known_contact").status_code == 201
    shown = me.get("/me").json
    provider = {"office365": "graph", "google": "google"}.get(me.person.access_type, "exchange")
    assert shown["mailbox"] == {"address": me.person.email, "provider": provider, "state": "active", "reason": ""}
    assert ("labels" in shown["capabilities"], "categories" in shown["capabilities"]) == (
        provider == "google",
        provider != "google",
    )


@at("google")
def test_a_persons_access_goes_on_for_weeks_without_them(me: Api, forward: Forward) -> None:
    for case in ("known_contact", "account_only", "own_category"):
        assert me.save(case).status_code == 201
        forward(days=20)
    grants = [event.detail["grant"] for event in me.world.events("identity", "token") if event.detail["issuer"] == "google"]
    assert grants == ["refresh_token"] * 3


@at("exchange_direct", "exchange_impersonation")
def test_a_connection_to_exchange_stays_signed_in(me: Api, world: World) -> None:
    assert me.save("known_contact").status_code == 201
    shaken = sum(call.status == 401 for call in world.requests("exchange"))
    assert me.save("account_only").status_code == 201
    assert sum(call.status == 401 for call in world.requests("exchange")) == shaken == 2  # NTLM: asked, challenged


@at("exchange_impersonation")
def test_under_impersonation_the_service_account_acts_for_the_person(me: Api, world: World) -> None:
    me.person.password = "nobody told us"
    assert me.save("known_contact").status_code == 201
    assert {call.actor for call in world.requests("exchange") if call.status == 200} == {me.person.email}


@at("exchange_impersonation")
def test_a_service_account_without_the_right_is_told_with_whom_to_ask(me: Api, deps: Deps, colleague: Api) -> None:
    (entry,) = [o for o in me.simulator.provisioning()["organizations"] if "service_account" in o]
    entry["service_account"] |= {"user": colleague.person.email, "password": colleague.person.password}
    put_organization(deps, entry)
    refused = me.save("known_contact")
    assert (refused.status_code, refused.json["code"]) == (403, "mailbox_forbidden")
    assert ADMIN in refused.json["detail"]


# No longer connected


@at("exchange_direct", "exchange_impersonation", "google")
def test_a_mailbox_that_no_longer_takes_what_we_hold_is_told_with_the_next_step(me: Api, deps: Deps) -> None:
    item = me.item("known_contact")
    assert me.save("account_only").status_code == 201
    reason = shut(me)
    refused = me.save(item)
    assert (refused.status_code, refused.json["code"]) == (403, "mailbox_not_connected")
    assert refused.json["detail"] == f"{reason} {next_step(me)}"
    assert mailbox(me) == ("needs_reauth", reason)
    assert me.context(item)["cards"]  # who is on the message does not depend on the mailbox
    mend(me, deps)
    assert mailbox(me) == ("active", "")
    assert me.save(item).status_code == 201


@at("exchange_direct", "exchange_impersonation")
def test_a_password_that_was_refused_once_is_not_tried_again(me: Api, world: World) -> None:
    """Each try would count towards the account's lock."""
    assert me.save("account_only").status_code == 201
    shut(me)
    me.save("known_contact")
    before = len(world.requests("exchange"))
    for case in ("known_contact", "own_category"):
        assert me.save(case).json["code"] == "mailbox_not_connected"
        assert me.post("/saves/preview", {"item": me.item(case)}).status_code == 403
    assert len(world.requests("exchange")) == before


@at("exchange_impersonation")
def test_a_service_account_that_was_refused_for_one_is_tried_for_nobody(
    me: Api, deps: Deps, colleague: Api, world: World
) -> None:
    """However many people there are, each try would count towards the lock of the account that serves all of them."""
    colleague.person.access_type = "exchange_impersonation"
    with deps.store._engine.begin() as connection:
        connection.exec_driver_sql(
            'UPDATE "user" SET organization_id = (SELECT id FROM organization WHERE service_account IS NOT NULL)'
        )
    theirs = colleague.named(next(iter(world.mailbox(colleague.person.email).messages.values())).rest_id)
    assert me.save("account_only").status_code == 201
    shut(me)
    me.save("known_contact")
    asked = len(world.requests("exchange"))
    refused = colleague.save(theirs)
    assert (refused.status_code, refused.json["code"]) == (403, "mailbox_not_connected")
    assert len(world.requests("exchange")) == asked
    mend(me, deps)
    assert me.save("known_contact").status_code == 201
    assert colleague.save(theirs).status_code == 201


@at("exchange_direct")
def test_a_locked_account_is_told_as_such(me: Api, deps: Deps) -> None:
    provisioning.connect_mailbox(deps, "demo", me.person.email, {**keys_of(me), "scheme": "basic"})
    me.fail("locked", times=None)
    refused = me.save("known_contact")
    assert (refused.status_code, refused.json["code"]) == (403, "mailbox_not_connected")
    assert refused.json["detail"] == f"The account is locked out of Exchange. {next_step(me)}"
    assert mailbox(me) == ("needs_reauth", "The account is locked out of Exchange.")
    mend(me, deps)
    assert me.save("known_contact").status_code == 201


@at("exchange_direct", "exchange_impersonation", "google")
def test_a_save_that_lost_its_mailbox_on_the_way_waits_for_a_new_key(
    me: Api, deps: Deps, world: World, work: Work, forward: Forward
) -> None:
    item = me.item("known_contact")
    world.faults.append(Fault("c4c", "drop", BATCH, times=None))
    save_id = me.save(item).json["id"]
    world.faults.clear()
    reason = shut(me)
    forward(minutes=1)
    work()
    failed = me.get("/saves/" + save_id).json
    assert (failed["state"], failed["reason"]) == ("failed", f"{reason} Connect the mailbox in User Settings, then try again.")
    refused = me.post(f"/saves/{save_id}/retry")
    assert (refused.status_code, refused.json["code"]) == (403, "mailbox_not_connected")
    mend(me, deps)
    assert me.post(f"/saves/{save_id}/retry").json["state"] == "saved"
    assert (me.categories(item), len(activities(world, item))) == ([me.host.saved], 1)


@at("google")
def test_a_token_that_gmail_no_longer_takes_is_renewed_without_the_person(me: Api, world: World) -> None:
    assert me.save("account_only").status_code == 201
    world.faults.append(Fault("google", "status", status=401))
    again = me.save("known_contact")
    assert (again.status_code, again.headers["Retry-After"]) == (503, "1")
    assert mailbox(me) == ("active", "")
    assert me.save("known_contact").status_code == 201


@at("exchange_direct", "google")
def test_who_has_no_mailbox_connected_is_told_so(me: Api, deps: Deps) -> None:
    with deps.store._engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM connection")
    assert mailbox(me) == ("not_connected", "")
    refused = me.save("known_contact")
    assert (refused.status_code, refused.json["code"]) == (403, "mailbox_not_connected")
    assert refused.json["detail"] == "Your mailbox is not connected. Connect it in User Settings."


# Whom we call, and how often


@everywhere
def test_while_a_mailbox_wants_a_pause_nobody_asks_it(me: Api, world: World, forward: Forward) -> None:
    assert me.save("account_only").status_code == 201
    me.fail("status", status=429, retry_after_s=60)
    assert me.save("known_contact").headers["Retry-After"] == "60"
    asked = len(world.requests(me.host.vendor))
    forward(seconds=50)
    for refused in (me.save("known_contact"), me.post("/saves/preview", {"item": me.item("own_category")})):
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "10")
    assert len(world.requests(me.host.vendor)) == asked
    forward(seconds=11)
    assert me.save("known_contact").status_code == 201


@at("exchange_direct")
def test_an_exchange_server_at_a_private_address_is_called_only_if_the_operator_lists_it(
    settings: Settings, world: World, api: Callable[..., Api]
) -> None:
    for listed in ((), ("10.0.0.0/8",), (f"127.0.0.1:{api().simulator.ews.port + 1}",)):
        deps = wiring.build(replace(settings, allowed_hosts=listed), now=world.now)
        refused = api(at=deps).save("known_contact")
        assert (refused.status_code, refused.json["code"]) == (503, "unavailable")
        assert refused.json["detail"] == "Exchange cannot be reached at this address."
        deps.background.shutdown()
        deps.store.close()
    assert world.requests("exchange") == []
    assert api().save("known_contact").status_code == 201


@at("google")
def test_a_google_token_never_reaches_microsoft(me: Api, deps: Deps, world: World) -> None:
    """Somebody who signs in with Google while their organization has its mailboxes at Microsoft 365."""
    with deps.store.transaction() as tx:
        (tenant,) = tx.tenants()
        (organization,) = [o for o in tx.organizations(tenant.id) if o.access_type == "google"]
        tx.put_organization(tenant.id, organization.name, "office365", organization.admin_contact, organization.profile)
    refused = me.save("known_contact")
    assert (refused.status_code, refused.json["code"]) == (403, "mailbox_not_connected")
    assert world.requests("identity") == world.requests("graph") == []


# Who it is


@at("google")
def test_a_google_identity_is_the_account_and_never_the_address(me: Api, colleague: Api, world: World) -> None:
    def status(**claims: Any) -> tuple[int, str]:
        bearer = me.simulator.google_identity.mint_id_token(world, me.person, **claims)
        answer = me.app.test_client().get("/api/me", headers={"Authorization": f"Bearer {bearer}"})
        return answer.status_code, answer.json.get("code") or answer.json["user"]["email"]

    assert status() == status(email=colleague.person.email) == (200, me.person.email)
    assert status(sub=subject(colleague.person)) == (403, "not_provisioned")
    assert status(hd="elsewhere.example") == (403, "not_provisioned")
    assert status(hd=None) == (401, "needs_sign_in")


@at("exchange_direct")
def test_an_exchange_identity_is_a_persons_at_a_listed_server_alone(
    me: Api, deps: Deps, world: World, settings: Settings
) -> None:
    exchange, host = me.simulator.exchange_identity, settings.exchange_metadata_hosts[0]

    def status(audience: str = f"{settings.public_url}/sidebar", **claims: Any) -> tuple[int, str]:
        bearer = exchange.mint_identity_token(world, me.person, audience, **claims)
        answer = me.app.test_client().get("/api/me", headers={"Authorization": f"Bearer {bearer}"})
        return answer.status_code, answer.json.get("code") or answer.json["user"]["email"]

    assert status() == (403, "not_linked")
    with deps.store.transaction() as tx:
        (tenant,) = tx.tenants()
        (user,) = [user for user in tx.users(tenant.id) if user.email == me.person.email]
        tx.bind_identity(tenant.id, user.id, f"exchange:{host}", mailbox_guid(me.person))
    assert status() == (200, me.person.email)
    assert status(msexchuid="53e925fa-76ba-45e1-be0f-4ef08b59d389") == (403, "not_linked")
    assert status(audience="https://other.example.com/sidebar") == (401, "needs_sign_in")
    assert status(amurl="https://mail.elsewhere.example/autodiscover/metadata/json/1") == (401, "needs_sign_in")


# What an administrator may enter, and where it goes

LOGIN = {"url": "https://mail.example.com/EWS/Exchange.asmx", "user": "mara", "password": "secret"}


@pytest.mark.parametrize(
    "entered",
    [
        {},
        {"provider": "graph", "refresh_token": "x"},
        {"provider": "google"},
        {"provider": "google", "refresh_token": ""},
        {"provider": "google", "refresh_token": None},
        {"provider": "exchange"},
        {"provider": "exchange", **LOGIN, "url": "mail.example.com"},
        {"provider": "exchange", **LOGIN, "url": "https://user:pw@mail.example.com/"},
        {"provider": "exchange", **LOGIN, "url": "https://outlook.office365.com/EWS/Exchange.asmx"},
        {"provider": "exchange", **LOGIN, "user": ""},
        {"provider": "exchange", **LOGIN, "password": ""},
        {"provider": "exchange", **LOGIN, "scheme": "digest"},
        {"provider": "exchange", **LOGIN, "impersonates": True},
        {"provider": "exchange", **LOGIN, "port": 443},
    ],
)
def test_what_opens_no_mailbox_is_refused_when_it_is_entered(deps: Deps, me: Api, entered: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        provisioning.connect_mailbox(deps, "demo", me.person.email, entered)
    assert mailbox(me) == ("not_connected", "")


@at("exchange_direct", "exchange_impersonation", "google")
def test_what_opens_mailboxes_lies_sealed_and_is_not_logged(
    me: Api, deps: Deps, database: str, capfd: pytest.CaptureFixture[str]
) -> None:
    secrets = [me.person.password, SERVICE_ACCOUNT.password]
    if me.person.access_type != "exchange_impersonation":
        keys = keys_of(me)
        provisioning.connect_mailbox(deps, "demo", me.person.email, keys)
        secrets += [keys["refresh_token"]] if "refresh_token" in keys else []
    assert me.save("known_contact").status_code == 201
    secrets += me.simulator.google_identity.issuer.given
    told = "".join(capfd.readouterr())
    kept = b"".join(file.read_bytes() for file in Path(database.removeprefix("sqlite:///")).parent.glob("ssi.sqlite*"))
    assert "request" in told
    for secret in secrets:
        assert secret not in told
        assert secret.encode() not in kept
