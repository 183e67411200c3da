"""What comes by Redis is a hint: one that is none of ours does no harm."""

import base64
import json
import uuid
from collections.abc import Iterator
from functools import partial

import pytest
import redis

from server.worker.celery import QUEUE, CeleryBroker
from tests import services
from tests.processes import eventually

GOOD = json.dumps([["session", "a" * 32, 1], {}, {}])


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with services.redis() as url:
        yield url


def envelope(body: str, *, task: str = "ssi.job", kind: str = "application/json") -> str:
    """Return a message as it lies in Redis."""
    identity = str(uuid.uuid4())
    properties = {
        "correlation_id": identity,
        "delivery_mode": 2,
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": identity,
    }
    return json.dumps(
        {
            "body": base64.b64encode(body.encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": kind,
            "headers": {"lang": "py", "task": task, "id": identity, "root_id": identity},
            "properties": {**properties, "delivery_info": {"exchange": "", "routing_key": QUEUE}},
        }
    )


STRANGE = {
    "no JSON": "garbage",
    "no object": "[]",
    "nothing of a message": "{}",
    "a number for a body": envelope("7"),
    "half a body": envelope("{"),
    "too few arguments": envelope('[["session"], {}, {}]'),
    "arguments of other types": envelope('[["session", {"a": 1}, "x"], {}, {}]'),
    "another task": envelope(GOOD, task="nobody"),
    "YAML": envelope("!!python/object/apply:os.getpid []", kind="application/x-yaml"),
    "a pickle": envelope("cos\ngetpid\n(tR.", kind="application/x-python-serialize"),
}


def test_a_message_that_is_none_of_ours_does_not_keep_the_others_from_being_done(url: str) -> None:
    performed: list[tuple[str, str, int]] = []
    client = redis.Redis.from_url(url)
    broker = CeleryBroker(url, threads=2, rest_s=0.2)
    broker.start(lambda *job: performed.append(job))
    try:
        for number, (name, message) in enumerate(STRANGE.items(), start=1):
            client.lpush(QUEUE, message)
            # What is sent just before the worker ends is dropped with the rest: its row would be taken again.
            assert eventually(partial(_is_done, client, performed, number)), name
    finally:
        broker.stop()
    assert {job[0] for job in performed} == {"session"}


def _is_done(client: "redis.Redis", performed: list[tuple[str, str, int]], number: int) -> bool:  # type: ignore[type-arg]
    client.lpush(QUEUE, envelope(json.dumps([["session", "a" * 32, number], {}, {}])))
    return any(job[2] == number for job in performed)
