"""What is remembered of a caller for speed never outlives what an administrator, or the caller, decided since."""

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from server.services import Deps
from server.store import Store
from simulator.world import World
from tests.api import Api, c4c_calls

Ask = Callable[[], TestResponse]


@pytest.fixture
def ask(client: FlaskClient, me: Api) -> Ask:
    """Ask for one message again and again with one and the same token, which is good for ten minutes."""
    headers = {"Authorization": "Bearer " + me.simulator.provider.mint_api_token(me.world, me.person, 600)}
    body = {"item": me.item("known_contact")}
    return lambda: client.post("/api/context", json=body, headers=headers)


def switch(database: str, me: Api, *, on: bool) -> None:
    """Do it as the command line does, in another process."""
    store = Store(database)
    with store.transaction() as tx:
        (user,) = [u for t in tx.tenants() for u in tx.users(t.id) if u.email == me.person.email]
        tx.set_user_enabled(user.id, on)
    store.close()


def test_who_is_switched_off_is_out_at_once_though_token_and_answer_are_known(ask: Ask, database: str, me: Api) -> None:
    assert ask().status_code == 200
    assert ask().json["timing"]["cached"]
    switch(database, me, on=False)
    refused = ask()
    assert (refused.status_code, refused.json["code"]) == (403, "not_provisioned")
    switch(database, me, on=True)
    assert ask().status_code == 200


def test_a_known_token_is_worth_nothing_once_it_has_expired(ask: Ask, forward: Callable[..., None]) -> None:
    assert ask().status_code == 200
    forward(minutes=12)
    assert ask().status_code == 401


def test_a_blocklist_counts_at_once_for_what_was_looked_up_before(ask: Ask, deps: Deps, me: Api, world: World) -> None:
    assert ask().json["cards"]
    with deps.store.transaction() as tx:
        (tenant,) = tx.tenants()
        (organization,) = tx.organizations(tenant.id)
        sender = me.item("known_contact")["from"]["address"]
        profile = type(organization.profile)(blocklisted_addresses=(sender,))
        tx.put_organization(tenant.id, organization.name, organization.access_type, organization.admin_contact, profile)
    before = len(c4c_calls(world))
    answer = ask().json
    assert (answer["cards"], answer["notice"]) == ([], "Nothing to save in SAP Cloud for Customer")
    assert len(c4c_calls(world)) == before
