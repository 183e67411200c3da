"""Who has to go is out everywhere: within a minute of the World's clock, on every process, here and at the provider."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from apiflask import APIFlask

from server import wiring
from server.config import Settings
from server.services import Deps, provisioning
from server.web import create_app
from server.web.auth import SESSION
from simulator.ports import TENANT
from tests.api import Api
from tests.figures import Count
from tests.web.browser import SETTINGS, Browser

PROCESSES = 4
FIGURE = "web: replays refused"
BUTTONS = {"office365": "Continue to Microsoft", "google": "Continue to Google"}
ALL_SERVICES = pytest.mark.parametrize("access_type", ["office365", "google", "exchange_direct"], indirect=True)


@pytest.fixture
def processes(app: APIFlask, process: Callable[..., Deps], settings: Settings) -> list[APIFlask]:
    return [app, *(create_app(process(), wiring.face(settings)) for _ in range(PROCESSES - 1))]


class Keys:
    """Everything by which a person is let in, and that each process has let them in by already."""

    def __init__(self, anna: Browser, me: Api, processes: list[APIFlask]) -> None:
        self._anna, self._me, self._processes = anna, me, processes
        self.cookie = anna.cookie(SESSION)
        self.pane = anna.token_for_pane()
        self.bearer = me.simulator.bearer(me.person)

    def answers(self, path: str = "/api/me", body: Any = None) -> list[list[int]]:
        """What each process answers to the cookie, the pane's token and the mail client's token."""
        return [
            [self._page(app), *(self._api(app, token, path, body) for token in (self.pane, self.bearer))]
            for app in self._processes
        ]

    def _page(self, app: APIFlask) -> int:
        client = app.test_client()
        client.set_cookie(SESSION, self.cookie)
        return client.get(SETTINGS).status_code

    def _api(self, app: APIFlask, token: str, path: str, body: Any) -> int:
        client, headers = app.test_client(), {"Authorization": f"Bearer {token}"}
        return (client.get(path, headers=headers) if body is None else client.post(path, json=body, headers=headers)).status_code


@pytest.fixture
def keys(anna: Browser, me: Api, deps: Deps, processes: list[APIFlask]) -> Keys:
    """Of somebody who has connected a mailbox, and whom all processes know."""
    anna.open(f"{SETTINGS}/change")
    if anna.person.access_type in BUTTONS:
        anna.press(BUTTONS[anna.person.access_type])
    else:
        url = anna.simulator.ews.url + "/EWS/Exchange.asmx"
        anna.press("Connect", address=anna.person.email, password=anna.person.password, url=url)
        with deps.store.transaction() as tx:
            (user,) = [user for user in tx.users(tx.tenant(TENANT).id) if user.email == anna.person.email]
            if tx.identity_owner(me.world.entra_tenant, anna.person.object_id) is None:
                tx.bind_identity(user.tenant_id, user.id, me.world.entra_tenant, anna.person.object_id)
    assert anna.path == f"{SETTINGS}/done", anna.text
    keys = Keys(anna, me, processes)
    assert keys.answers() == [[200, 200, 200]] * PROCESSES
    assert keys.answers("/api/context", {"item": me.item("known_contact")}) == [[200, 200, 200]] * PROCESSES
    return keys


def google_token(deps: Deps) -> str:
    with deps.store._engine.connect() as connection:
        query = "SELECT id, tenant_id, credentials FROM connection WHERE provider = 'google' AND credentials IS NOT NULL"
        row = connection.execute(sa.text(query)).one()
    return str(json.loads(deps.vault.open(row.tenant_id, row.id, "credentials", row.credentials))["refresh_token"])


def is_good(me: Api, token: str) -> bool:
    trust, world = ssl.create_default_context(cafile=me.simulator.ca_file), me.world
    form = {"grant_type": "refresh_token", "refresh_token": token}
    form |= {"client_id": world.client_id, "client_secret": world.client_secret}
    return httpx.post(me.simulator.google.url + "/token", data=form, verify=trust).is_success


@ALL_SERVICES
@pytest.mark.parametrize("how", ["disabled", "removed"])
def test_who_is_switched_off_or_removed_is_refused_everywhere_and_nothing_of_theirs_is_kept(
    keys: Keys, anna: Browser, me: Api, deps: Deps, forward: Callable[..., None], how: str, count: Count
) -> None:
    token = google_token(deps) if anna.person.access_type == "google" else ""
    if how == "disabled":
        provisioning.set_user_enabled(deps, TENANT, anna.person.email, False)
    else:
        provisioning.remove_user(deps, TENANT, anna.person.email)
    forward(seconds=60)
    for page, *api in keys.answers():
        assert page == 303
        assert set(api) <= {401, 403}
    for page, *api in keys.answers("/api/context", {"item": me.item("known_contact")}):
        assert page == 303
        assert set(api) <= {401, 403}
    with deps.store._engine.connect() as connection:
        query = (
            'SELECT count(*) FROM connection JOIN "user" u ON u.id = user_id WHERE u.email = :email AND credentials IS NOT NULL'
        )
        assert connection.execute(sa.text(query), {"email": anna.person.email}).scalar_one() == 0
        assert connection.exec_driver_sql("SELECT count(*) FROM page_session").scalar_one() == 0
    assert not token or not is_good(me, token)
    count(FIGURE, 6 * PROCESSES)


@pytest.mark.parametrize("access_type", ["google"], indirect=True)
def test_where_the_consent_was_withdrawn_no_process_opens_the_mailbox_any_more(
    keys: Keys, anna: Browser, me: Api, deps: Deps, forward: Callable[..., None], count: Count
) -> None:
    me.simulator.google_identity.withdraw_consent(anna.person)
    forward(seconds=60)
    wish = {"item": me.item("known_contact"), "links": []}
    for _page, *api in keys.answers("/api/saves", wish):
        assert set(api) <= {401, 403}
    assert "Connected" not in anna.open(SETTINGS).text
    count(FIGURE, 2 * PROCESSES)


def test_who_signed_out_is_out_on_every_process(keys: Keys, anna: Browser, count: Count) -> None:
    anna.open(SETTINGS).press("Sign out")
    assert [page for page, *_ in keys.answers()] == [303] * PROCESSES
    count(FIGURE, PROCESSES)


@pytest.mark.parametrize("access_type", ["google"], indirect=True)
def test_disconnecting_holds_on_every_process(
    keys: Keys, anna: Browser, me: Api, deps: Deps, forward: Callable[..., None], count: Count
) -> None:
    token = google_token(deps)
    anna.open(f"{SETTINGS}/disconnect").press("Disconnect")
    forward(seconds=60)
    for _page, *api in keys.answers("/api/saves", {"item": me.item("known_contact"), "links": []}):
        assert api == [403, 403]
    assert not is_good(me, token)
    count(FIGURE, 2 * PROCESSES)
