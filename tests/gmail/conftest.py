"""The first person's mailbox is at Google, and the product lets Google run the add-on, too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from apiflask import APIFlask

from server.config import Settings
from server.services import Deps
from simulator.google.identity import subject
from simulator.ports import Simulator
from simulator.world import AccessType, World
from tests.api import Api
from tests.conftest import Installation, settings_of
from tests.gmail.pane import ACCOUNT, Pane, Runtime


@pytest.fixture
def access_type() -> AccessType:
    return "google"


@pytest.fixture
def settings(_installation: Installation, database: str, world: World, simulator: Simulator) -> Settings:
    found = settings_of(database, _installation.key, simulator.provisioning()["environment"])
    return replace(found, gmail_service_account=ACCOUNT)


@pytest.fixture
def pane(app: APIFlask, simulator: Simulator, world: World) -> Pane:
    """The first person's add-on, run as a script."""
    return Pane(app, simulator, world.people[0])


@pytest.fixture(params=["apps_script", "http"])
def either(request: pytest.FixtureRequest, pane: Pane) -> Pane:
    """The same, run in each of the two ways."""
    runtime: Runtime = request.param
    pane.runtime = runtime
    return pane


@pytest.fixture
def newcomer(deps: Deps, app: APIFlask, simulator: Simulator, world: World) -> Pane:
    """The second person's add-on: somebody of the same company who has connected no mailbox yet."""
    person = world.people[1]
    with deps.store.transaction() as tx:
        (tenant,) = tx.tenants()
        user = tx.user_by_email(tenant.id, person.email)
        assert user is not None
        tx.bind_identity(tenant.id, user.id, person.email.partition("@")[2], subject(person))
    return Pane(app, simulator, person)


@pytest.fixture
def neighbour(newcomer: Pane, api: Callable[..., Api]) -> Pane:
    """The same, once the person's mailbox at Microsoft 365 is connected by using the sidebar there."""
    colleague = api(1)
    colleague.preview(colleague.item("shared_message_id"))
    return newcomer
