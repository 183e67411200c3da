"""The API keeps to its own description: what schemathesis makes of /api/openapi.json, sent through the whole product in process.

Its phases: the boundaries of every member, valid and not (coverage), generated requests (fuzzing), and calls that follow from
each other's answers (stateful). All its checks run, save one that its WSGI transport breaks (4.32) and that is asserted here
by itself: nothing works without a token. The demo user's mailbox holds a message with the id that the generator likes best, so
that saves really happen. The same seed gives the same requests.
"""

from collections import Counter
from typing import Any

import pytest
import schemathesis
from apiflask import APIFlask
from flask.testing import FlaskClient
from schemathesis.engine import events, from_schema

from simulator.world import World
from tests.api import Api

SEED = 20261122
EXAMPLES = 20  # of each call in a phase; the boundaries are counted by the description itself
LIKELY_ID = "0"


@pytest.fixture
def configuration(me: Api) -> dict[str, Any]:
    return {
        "seed": SEED,
        "headers": {"Authorization": "Bearer " + me.simulator.bearer(me.person)},
        "generation": {"deterministic": True, "max-examples": EXAMPLES, "no-shrink": True, "database": "none"},
        "checks": {
            "ignored_auth": {"enabled": False},
            # A body too large is refused before it is looked at.
            "negative_data_rejection": {"expected-statuses": [400, 401, 403, 404, 405, 413, 415, 422]},
            # A message that does not exist, or an id of another mail system, is a valid question.
            "positive_data_acceptance": {"expected-statuses": ["2xx", 404, 409, 422]},
        },
        "cache": {"enabled": False},
        "continue-on-failure": True,
    }


def test_the_api_keeps_to_its_description(app: APIFlask, me: Api, world: World, configuration: dict[str, Any]) -> None:
    me.message(me.item("with_attachment_known_contact")).ews_id = LIKELY_ID
    schema = schemathesis.openapi.from_wsgi("/api/openapi.json", app, config=schemathesis.Config.from_dict(configuration))
    requests: Counter[str] = Counter()
    statuses: Counter[int] = Counter()
    faults: dict[tuple[str, str], str] = {}
    for event in from_schema(schema).execute():
        if isinstance(event, events.NonFatalError):
            faults[event.label, type(event.value).__name__] = str(event.value)
        elif isinstance(event, events.FatalError):
            raise event.exception
        elif isinstance(event, events.ScenarioFinished):
            requests[event.phase.value] += len(event.recorder.cases)
            statuses.update(i.response.status_code for i in event.recorder.interactions.values() if i.response is not None)
            for check in (check for checks in event.recorder.checks.values() for check in checks):
                if (info := check.failure_info) is not None:
                    faults.setdefault(
                        (event.recorder.label, info.failure.message[:80]), f"{check.name}\n{info.code_sample[:800]}"
                    )
    print(f"schemathesis: seed {SEED}, requests {dict(requests)}, statuses {dict(sorted(statuses.items()))}")
    assert not faults, "\n\n".join(f"{label}: {message}\n{what}" for (label, message), what in faults.items())
    assert (requests["coverage"] > 500, requests["fuzzing"] > 100, requests["stateful"] > 20) == (True, True, True)
    assert list(world.saved_activities()), "no request was good enough to be a save"
    assert {200, 201, 404, 422} <= statuses.keys()


def test_no_call_works_without_a_token(client: FlaskClient) -> None:
    for path, calls in client.get("/api/openapi.json").json["paths"].items():
        for method in calls:
            url = path.replace("{save_id}", "0" * 32).replace("{record_id}", "0" * 32).replace("{type}", "contact")
            for header in ({}, {"Authorization": "Bearer x.y.z"}, {"Authorization": ""}):
                response = client.open(url, method=method.upper(), headers=header, json={} if method == "post" else None)
                assert response.status_code == 401, (method, path)  # also where the body is wrong: nobody may learn what is right


def test_every_error_is_described_as_a_problem(client: FlaskClient) -> None:
    for path, calls in client.get("/api/openapi.json").json["paths"].items():
        for method, call in calls.items():
            described = {status: list(answer.get("content", {})) for status, answer in call["responses"].items()}
            errors = {status: kinds for status, kinds in described.items() if int(status) >= 400}
            assert errors, (method, path)
            assert all(kinds == ["application/problem+json"] for kinds in errors.values()), (method, path, errors)
            if method == "post":
                assert {"400", "413", "415"} <= described.keys() or "requestBody" not in call, (method, path)
                assert call.get("requestBody", {"required": True}).get("required") is True, (method, path)
