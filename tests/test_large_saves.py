"""Large messages cost memory, so only a few are in a process at once; whoever comes too late is told so and loses nothing."""

from collections.abc import Callable

import pytest

from server.services import LARGE_AT_ONCE, Deps
from simulator.world import Fault, World
from tests.api import Api, Item, activities, file_names, only_activity
from tests.test_saves import with_files

LARGE = {"drawings.zip": 2_000_000}


@pytest.fixture
def deps(process: Callable[..., Deps]) -> Deps:
    return process(large_message_bytes=1_000_000, context_deadline_s=0.2)


@pytest.fixture
def large(me: Api) -> Item:
    item = me.item("with_attachment_known_contact")
    message = me.message(item)
    message.mime = with_files(message.mime, LARGE)
    return item


def free_places(deps: Deps) -> int:
    taken = 0
    while deps.large.acquire(blocking=False):
        taken += 1
    deps.large.release(taken)
    return taken


@pytest.fixture
def full(deps: Deps) -> None:
    for _ in range(LARGE_AT_ONCE):
        deps.large.acquire()


def test_a_large_message_waits_its_turn_and_the_person_is_told(
    me: Api, world: World, deps: Deps, full: None, large: Item
) -> None:
    answer = me.save(large)
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert answer.json["detail"] == "Other large messages are being saved right now. Try again in a moment."
    assert activities(world, large) == []
    assert me.save(me.item("known_contact")).status_code == 201  # what is small goes on
    deps.large.release(1)
    assert me.save(large).status_code == 201
    assert file_names(world, only_activity(world, large)) == ["drawings.zip"]
    assert free_places(deps) == 1


def test_a_promised_save_of_a_large_message_waits_for_a_place_and_is_then_done(
    me: Api, world: World, deps: Deps, large: Item, work: Callable[[], None], forward: Callable[..., None]
) -> None:
    world.faults.append(Fault("c4c", "status", status=503, times=None))
    assert me.save(large).status_code == 202
    world.faults.clear()
    deps.large.acquire()
    deps.large.acquire()
    forward(seconds=60)
    work()
    assert activities(world, large) == []
    deps.large.release(LARGE_AT_ONCE)
    forward(seconds=60)
    work()
    assert file_names(world, only_activity(world, large)) == ["drawings.zip"]
    assert free_places(deps) == LARGE_AT_ONCE


def test_a_save_that_fails_gives_its_place_up(me: Api, world: World, deps: Deps, large: Item) -> None:
    assert me.save(large, attachments=[{"ref": "99", "name": None}]).status_code == 422
    assert free_places(deps) == LARGE_AT_ONCE
    world.faults.append(Fault("graph", "status", match="/$value", status=404))
    assert me.save(large).status_code == 404
    assert free_places(deps) == LARGE_AT_ONCE


def test_a_preview_of_a_large_message_gives_its_place_up(me: Api, deps: Deps, large: Item) -> None:
    assert [file["name"] for file in me.preview(large)["attachments"]] == ["drawings.zip"]
    assert free_places(deps) == LARGE_AT_ONCE
