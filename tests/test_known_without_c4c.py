"""While C4C does not answer, a lookup still tells what our own database knows of the message: the state of its save."""

import time
from collections.abc import Callable

import pytest

from server.services import Deps
from simulator.world import Fault, Gate, World
from tests.api import Api, only_activity

LOOKUP = "$batch"


@pytest.mark.parametrize("kind", ["drop", "html", "garbage", "status"])
def test_a_save_is_shown_with_its_age_whatever_c4c_does(me: Api, world: World, kind: str) -> None:
    item = me.item("known_contact")
    before = me.context(item)
    assert me.save(item).status_code == 201
    world.faults.append(Fault("c4c", kind, LOOKUP, retry_after_s=30, times=None))
    away = me.context(item)
    assert (away["cards"], away["unknown"], away["notice"], away["incomplete"]) == ([], [], None, False)
    assert (away["save"]["state"], away["save"]["by"]) == ("saved", "you")
    assert away["save"]["at"].endswith("Z")
    assert away["trouble"]["code"] in ("unavailable", "busy")
    assert away["trouble"]["detail"].endswith(".")
    world.faults.clear()
    known = me.context(item)
    assert (known["trouble"], len(known["cards"])) == (None, len(before["cards"]))
    assert known["save"]["activity"]["id"] == only_activity(world, item)["ObjectID"]


def test_a_save_that_failed_or_waits_says_why_and_since_when(me: Api, world: World) -> None:
    item = me.item("known_contact")
    world.faults.append(Fault("c4c", "part_status", "EMailCollection", status=400))
    failed = me.save(item).json
    world.faults.append(Fault("c4c", "drop", times=None))
    away = me.context(item)["save"]
    assert (away["state"], away["id"], away["reason"]) == ("failed", failed["save_id"], "The request could not be processed")
    asked = world.now().isoformat()[:16]
    assert away["at"].startswith(asked[:13])
    waiting = me.save("account_only").json
    away = me.context("account_only")["save"]
    assert (away["state"], away["id"]) == (waiting["state"], waiting["id"])
    assert away["state"] in ("pending", "unknown")
    assert away["at"].startswith(asked[:13])


def test_a_colleagues_save_is_known_too_without_what_c4c_may_hide(me: Api, colleague: Api, world: World) -> None:
    assert me.save("shared_message_id").status_code == 201
    world.faults.append(Fault("c4c", "drop", LOOKUP, times=None))
    away = colleague.context("shared_message_id")["save"]
    assert (away["state"], away["by"], away["id"], away["activity"]) == ("saved", "colleague", None, None)


def test_a_message_of_which_nothing_is_known_is_a_problem_as_before(me: Api, world: World) -> None:
    world.faults.append(Fault("c4c", "drop", LOOKUP, times=None))
    response = me.post("/context", {"item": me.item("known_contact")})
    assert (response.status_code, response.json["code"]) == (503, "unavailable")


def test_what_is_known_comes_within_the_deadline_while_c4c_hangs(
    api: Callable[..., Api], process: Callable[..., Deps], world: World
) -> None:
    deps = process(context_deadline_s=0.4)
    me = api(at=deps)
    item = me.item("known_contact")
    assert me.save(item).status_code == 201
    world.gate = gate = Gate(match="c4c POST")
    started = time.monotonic()
    away = me.context(item, refresh=True)
    assert time.monotonic() - started < 2
    assert (away["save"]["state"], away["trouble"]["code"], away["trouble"]["retry_after_s"]) == ("saved", "unavailable", 1)
    gate.open()
    deps.background.shutdown()
    assert me.context(item)["cards"]


def test_the_time_that_signing_in_took_is_part_of_the_deadline(
    me: Api, deps: Deps, world: World, forward: Callable[..., None]
) -> None:
    """Else the answer of the lookup, with what is known, would come after the pane was told that nothing came."""
    item = me.item("known_contact")
    assert me.save(item).status_code == 201
    forward(hours=2)  # the process has to ask for keys again
    world.faults.append(Fault("identity", "hang", match="/keys", seconds=0.6 * deps.limits.context_deadline_s))
    world.gate = gate = Gate(match="c4c POST")
    away = me.context(item, refresh=True)
    assert away["save"]["state"] == "saved"
    assert world.faults == []  # they were
    gate.open()
