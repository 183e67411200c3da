"""Haste of one is nobody else's wait: calls of a user, of a tenant and failed sign-ins are limited, and say when to come back."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from flask.testing import FlaskClient
from hypothesis import given, strategies as st

from server import wiring
from server.config import Settings
from server.services import Deps
from server.web import create_app
from server.web.throttle import Throttle
from tests.api import Api

Forward = Callable[..., None]
LIMITS = {"user_calls_per_minute": 6, "tenant_calls_per_minute": 9, "failed_sign_ins_per_minute": 3}


@pytest.fixture
def deps(process: Callable[..., Deps]) -> Deps:
    return process(**LIMITS)


def lookups(person: Api, times: int) -> list[int]:
    item = person.item("shared_message_id")
    return [person.post("/context", {"item": item}).status_code for _ in range(times)]


def test_a_user_who_calls_too_often_is_told_when_to_come_back(me: Api, forward: Forward) -> None:
    assert lookups(me, 6) == [200] * 6
    refused = me.post("/context", {"item": me.item("known_contact")})
    assert (refused.status_code, refused.headers["Retry-After"], refused.json["retry_after_s"]) == (429, "10", 10)
    assert (refused.json["code"], refused.json["detail"]) == ("too_often", "That was very quick. Try again in 10 seconds.")
    assert refused.content_type == "application/problem+json"
    forward(seconds=10)
    assert lookups(me, 2) == [200, 429]
    forward(seconds=3600)
    assert lookups(me, 7) == [*[200] * 6, 429]


def test_looking_at_a_save_that_is_under_way_costs_little(me: Api) -> None:
    save = me.save("known_contact").json["id"]
    assert {me.get(f"/saves/{save}").status_code for _ in range(40)} == {200}


@pytest.mark.parametrize("path", ["/search?q=harrow", "/records/account/" + "0" * 32])
def test_a_search_and_a_look_cost_as_much_as_a_lookup(me: Api, path: str) -> None:
    statuses = [me.get(path).status_code for _ in range(8)]
    assert statuses[5] in (200, 404)
    assert statuses[6:] == [429, 429]


def test_colleagues_share_what_the_tenant_may(me: Api, colleague: Api) -> None:
    assert lookups(me, 6) == [200] * 6
    assert lookups(colleague, 4) == [200, 200, 200, 429]


def test_failed_sign_ins_are_limited_and_shut_nobody_else_out(client: FlaskClient, me: Api, forward: Forward) -> None:
    forged = {"Authorization": "Bearer nonsense"}
    assert [client.get("/api/me", headers=forged).status_code for _ in range(5)] == [401, 401, 401, 429, 429]
    assert me.get("/me").status_code == 200  # from the same address
    elsewhere = {"REMOTE_ADDR": "192.0.2.7"}
    assert client.get("/api/me", headers=forged, environ_overrides=elsewhere).status_code == 401
    forward(seconds=20)
    assert client.get("/api/me", headers=forged).status_code == 401


def test_behind_a_proxy_the_address_is_the_one_that_the_proxy_names(deps: Deps, settings: Settings) -> None:
    client = create_app(deps, replace(wiring.face(settings), proxies=1)).test_client()
    addresses = ["192.0.2.1"] * 4 + ["198.51.100.9, 192.0.2.1", "192.0.2.2"]  # whoever is behind a proxy may invent the first
    answers = [client.get("/api/me", headers={"X-Forwarded-For": address}).status_code for address in addresses]
    assert answers == [401, 401, 401, 429, 429, 401]


@given(st.lists(st.tuples(st.floats(0, 90), st.integers(1, 5)), max_size=40), st.integers(1, 120))
def test_no_minute_has_more_than_twice_the_rate(pauses: list[tuple[float, int]], rate: int) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    throttle = Throttle(rate, lambda: now)
    taken: list[datetime] = []
    for pause, calls in pauses:
        now += timedelta(seconds=pause)
        for _ in range(calls):
            wait_s = throttle.take("somebody")
            if wait_s == 0:
                taken.append(now)
            else:
                assert 0 < wait_s <= 60 / rate
    for start in taken:
        assert sum(start <= at < start + timedelta(seconds=60) for at in taken) <= 2 * rate


def test_forgotten_buckets_are_full_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.web.throttle._KEPT", 3)
    throttle = Throttle(1, lambda: datetime(2026, 1, 1, tzinfo=UTC))
    assert [throttle.take(key) for key in ("a", "b", "c")] == [0, 0, 0]
    assert throttle.take("c") > 0
    assert throttle.take("d") == 0
    assert throttle.take("a") == 0  # used longest ago
