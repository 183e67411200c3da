"""Saves when something goes wrong: what was accepted ends as one activity or as a failure with its reason, and never twice."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from server.services import Deps
from simulator.c4c.odata import SERVICE
from simulator.world import Fault, Gate, World
from tests.api import HOSTS, Api, activities, children, everywhere, file_names, links_of, numbers, only_activity
from tests.test_saves import with_files

SAVED = HOSTS["office365"].saved
CREATE = "POST " + SERVICE + "EMailCollection"
ATTACH = "POST " + SERVICE + "EMailAttachmentsCollection"
BATCH = "$batch"

Forward = Callable[..., None]
Work = Callable[[], None]


def state(api: Api, save_id: str) -> str:
    return str(api.get("/saves/" + save_id).json["state"])


# C4C is away, slow or unclear


@everywhere
def test_a_save_is_accepted_while_c4c_is_down_and_finished_when_it_is_back(
    me: Api, world: World, work: Work, forward: Forward
) -> None:
    item = me.item("with_attachment_known_contact")
    links = links_of(me.context(item))
    down = Fault("c4c", "drop", times=None)
    world.faults.append(down)
    accepted = me.save(item, links)
    assert (accepted.status_code, accepted.json["state"], accepted.json["activity"]) == (202, "pending", None)
    assert me.categories(item) == [me.host.pending]
    forward(minutes=2)
    work()
    assert state(me, accepted.json["id"]) == "pending"
    world.faults.remove(down)
    forward(minutes=10)
    work()
    assert state(me, accepted.json["id"]) == "saved"
    assert me.categories(item) == [me.host.saved]
    assert file_names(world, only_activity(world, item)) == ["Offer 2026-118.pdf"]


def test_a_long_outage_is_waited_out_for_a_day_and_then_told(me: Api, world: World, work: Work, forward: Forward) -> None:
    item = me.item("known_contact")
    world.faults.append(Fault("c4c", "drop", times=None))
    save_id = me.save(item).json["id"]
    for _ in range(23):
        forward(hours=1)
        work()
    assert state(me, save_id) == "pending"
    forward(hours=2)
    work()
    assert state(me, save_id) == "failed"
    assert "Given up after a day." in me.get("/saves/" + save_id).json["reason"]
    world.faults.clear()
    assert me.post(f"/saves/{save_id}/retry").json["state"] == "saved"
    assert len(activities(world, item)) == 1


def test_a_pause_that_c4c_asks_for_is_kept(me: Api, world: World, work: Work, forward: Forward) -> None:
    item = me.item("known_contact")
    world.faults.append(Fault("c4c", "status", CREATE, status=429, retry_after_s=120))
    assert me.save(item).status_code == 202
    forward(seconds=110)
    work()
    assert len([call for call in world.requests("c4c") if call.path.endswith("EMailCollection")]) == 1
    forward(seconds=11)
    work()
    assert len(activities(world, item)) == 1


@pytest.mark.parametrize("kind", ["acted_drop", "html_after"])
@everywhere
def test_a_create_whose_answer_was_lost_is_looked_up_and_not_repeated(
    me: Api, world: World, work: Work, forward: Forward, kind: str
) -> None:
    item = me.item("with_attachment_known_contact")
    links = links_of(me.context(item))
    gate = Gate(match="c4c " + CREATE, acted=True)
    if kind == "acted_drop":
        world.faults.append(Fault("c4c", "acted_drop", CREATE))
    else:
        world.gate = gate
        gate.open(lost=True)
    unclear = me.save(item, links)
    assert (unclear.status_code, unclear.json["state"]) == (202, "unknown")
    assert me.context(item)["save"]["state"] == "unknown"
    assert me.categories(item) == [me.host.pending]
    forward(seconds=5)
    work()
    assert state(me, unclear.json["id"]) == "saved"
    assert len(activities(world, item)) == 1
    assert me.categories(item) == [me.host.saved]


def test_an_activity_that_c4c_lists_late_is_not_created_again(me: Api, world: World, work: Work, forward: Forward) -> None:
    item = me.item("known_contact")
    world.faults += [Fault("c4c", "index_delay", seconds=25), Fault("c4c", "acted_drop", CREATE)]
    save_id = me.save(item).json["id"]
    for _ in range(4):
        forward(seconds=4)
        work()
        assert state(me, save_id) == "unknown"
        assert me.save(item).json["state"] == "unknown"
    forward(seconds=16)
    work()
    assert state(me, save_id) == "saved"
    assert len(activities(world, item)) == 1


def test_a_create_that_never_arrived_is_sent_again_once_that_is_clear(
    me: Api, world: World, work: Work, forward: Forward
) -> None:
    item = me.item("known_contact")
    world.faults.append(Fault("c4c", "drop", CREATE))
    save_id = me.save(item).json["id"]
    assert state(me, save_id) == "unknown"
    forward(seconds=20)
    work()
    assert activities(world, item) == []
    forward(seconds=20)
    work()
    assert state(me, save_id) == "saved"
    assert len(activities(world, item)) == 1


def test_an_outcome_stays_unknown_while_c4c_cannot_be_asked(me: Api, world: World, work: Work, forward: Forward) -> None:
    item = me.item("known_contact")
    world.faults += [Fault("c4c", "acted_drop", CREATE)]
    save_id = me.save(item).json["id"]
    down = Fault("c4c", "drop", times=None)
    world.faults.append(down)
    for _ in range(12):
        forward(minutes=1)
        work()
    assert state(me, save_id) == "unknown"
    world.faults.remove(down)
    forward(seconds=15)
    work()
    assert state(me, save_id) == "saved"
    assert len(activities(world, item)) == 1


def test_a_lost_answer_is_settled_also_when_the_message_is_gone_meanwhile(
    me: Api, world: World, work: Work, forward: Forward
) -> None:
    item = me.item("known_contact")
    world.faults.append(Fault("c4c", "acted_drop", CREATE))
    save_id = me.save(item).json["id"]
    del world.mailbox(me.person.email).messages[me.message(item).immutable_id]
    forward(seconds=5)
    work()
    settled = me.get("/saves/" + save_id).json
    assert settled["state"] == "saved"
    assert "left the mailbox" in settled["reason"]
    assert len(activities(world, item)) == 1


def test_files_whose_answer_was_lost_are_there_once(me: Api, world: World, work: Work, forward: Forward) -> None:
    item = me.item("known_contact")
    me.message(item).mime = with_files(
        me.message(item).mime, {"one.zip": 2_000_000, "two.zip": 2_000_000, "three.zip": 2_000_000}
    )
    world.faults.append(Fault("c4c", "acted_drop", ATTACH))
    save_id = me.save(item).json["id"]
    assert state(me, save_id) == "unknown"
    for _ in range(4):
        forward(seconds=11)
        work()
    assert state(me, save_id) == "saved"
    assert file_names(world, only_activity(world, item)) == ["one.zip", "three.zip", "two.zip"]


def test_links_whose_answer_was_lost_are_there_once(me: Api, world: World, work: Work, forward: Forward) -> None:
    item = me.item("known_contact")
    contact, account = links_of(me.context(item))
    assert me.save(item, [contact]).status_code == 201
    before = len(children(world, only_activity(world, item), "parties"))
    # The second request of the save that follows is the changeset; the first asks what is there.
    world.gate = Gate(2, match="c4c POST " + SERVICE + "$batch", acted=True)
    world.gate.open(lost=True)
    assert me.save(item, [contact, account]).json["state"] == "unknown"
    for _ in range(4):
        forward(seconds=11)
        work()
    assert me.save(item, [contact, account]).json["state"] == "saved"
    activity = only_activity(world, item)
    assert len(children(world, activity, "parties")) == before + 1
    assert len(numbers(world, activity)) == before + 1


@everywhere
def test_a_write_that_c4c_refuses_fails_with_its_reason_and_can_be_retried(me: Api, world: World) -> None:
    item = me.item("known_contact")
    world.faults.append(Fault("c4c", "part_status", CREATE, status=400, times=None))
    failed = me.save(item)
    assert (failed.status_code, failed.json["code"]) == (409, "save_failed")
    assert failed.json["detail"] == "The request could not be processed"
    assert me.categories(item) == [me.host.error, "SSI: The request could not be processed"]
    assert me.context(item)["save"] | {"at": None} == {
        "state": "failed",
        "id": failed.json["save_id"],
        "reason": "The request could not be processed",
        "by": None,
        "at": None,
        "activity": None,
    }
    again = me.post(f"/saves/{failed.json['save_id']}/retry")
    assert (again.status_code, again.json.get("code")) == (409, "save_failed")
    world.faults.clear()
    mended = me.post(f"/saves/{failed.json['save_id']}/retry")
    assert (mended.status_code, mended.json["state"], mended.json["reason"]) == (200, "saved", None)
    assert me.categories(item) == [me.host.saved]
    assert len(activities(world, item)) == 1


def test_a_failed_save_may_also_be_saved_anew(me: Api, world: World) -> None:
    item = me.item("known_contact")
    world.faults.append(Fault("c4c", "part_status", CREATE, status=400))
    failed = me.save(item)
    saved = me.save(item)
    assert (failed.status_code, saved.status_code, saved.json["id"]) == (409, 201, failed.json["save_id"])
    assert me.categories(item) == [me.host.saved]


@everywhere
def test_a_refused_change_leaves_a_saved_message_saved(me: Api, world: World) -> None:
    item = me.item("known_contact")
    saved = me.save(item)
    refused = me.save(item, links=[{"type": "opportunity", "id": "0" * 32}])
    assert (saved.status_code, refused.status_code) == (201, 409)
    assert "no longer in SAP Cloud for Customer" in refused.get_json()["detail"]
    assert me.categories(item) == [me.host.saved]
    assert me.context(item)["save"]["state"] == "saved"
    again = me.save(item)
    assert (again.status_code, again.get_json()["reason"]) == (200, None)


def test_a_record_that_is_gone_cannot_be_linked(me: Api, world: World) -> None:
    item = me.item("known_contact")
    failed = me.save(item, [{"type": "contact", "id": "F" * 32}])
    assert (failed.status_code, failed.json["code"]) == (409, "save_failed")
    assert "no longer in SAP Cloud for Customer" in failed.json["detail"]
    assert activities(world, item) == []


def test_a_record_that_somebody_else_is_changing_is_waited_for(me: Api, world: World, work: Work, forward: Forward) -> None:
    item = me.item("known_contact")
    contact, account = links_of(me.context(item))
    assert me.save(item, [contact]).status_code == 201
    world.faults.append(Fault("c4c", "locked"))
    waiting = me.save(item, [contact, account])
    assert (waiting.status_code, waiting.json["state"]) == (202, "pending")
    assert "Somebody else" in waiting.json["reason"]
    forward(seconds=30)
    work()
    assert state(me, waiting.json["id"]) == "saved"


def test_a_user_whom_c4c_has_locked_is_sent_to_the_administrator(me: Api, world: World, forward: Forward) -> None:
    item = me.item("known_contact")
    world.c4c.locked_users.add(me.person.user_id)
    failed = me.save(item)
    assert failed.status_code == 409
    assert "it@aldermill.example" in failed.json["detail"]
    refused = me.post("/context", {"item": item})
    assert (refused.status_code, refused.json["code"]) == (403, "c4c_user")
    assert "it@aldermill.example" in refused.json["detail"]
    world.c4c.locked_users.clear()
    forward(minutes=5)
    assert me.post(f"/saves/{failed.json['save_id']}/retry").json["state"] == "saved"


# The mailbox is away


@everywhere
def test_nothing_is_promised_when_the_message_cannot_be_read(me: Api, world: World) -> None:
    item = me.item("known_contact")
    me.fail("status", "read", retry_after_s=60, times=None)
    refused = me.save(item)
    assert (refused.status_code, refused.json["code"], refused.headers["Retry-After"]) == (503, "unavailable", "60")
    world.faults.clear()
    assert me.context(item)["save"]["state"] == "none"


@everywhere
def test_a_mark_that_cannot_be_set_is_set_later(me: Api, world: World, work: Work, forward: Forward) -> None:
    item = me.item("known_contact")
    down = me.fail("status", "mark", retry_after_s=60, times=None)
    saved = me.save(item)
    assert (saved.status_code, saved.json["state"], saved.json["marks"]) == (201, "saved", [])
    assert me.categories(item) == []
    for _ in range(15):
        forward(minutes=5)
        work()
    world.faults.remove(down)
    forward(minutes=15)
    work()
    assert me.categories(item) == [me.host.saved]
    assert me.get("/saves/" + saved.json["id"]).json["marks"] == ["saved"]
    assert len(activities(world, item)) == 1


@everywhere
def test_a_mailbox_that_refuses_the_mark_does_not_make_the_save_fail(me: Api, world: World) -> None:
    item = me.item("known_contact")
    me.fail("status", "mark", status=403, times=None)
    saved = me.save(item)
    assert (saved.status_code, saved.json["state"], saved.json["marks"]) == (201, "saved", [])
    assert len(activities(world, item)) == 1


@everywhere
def test_a_mark_whose_answer_was_lost_is_there_once(me: Api, world: World) -> None:
    item = me.item("own_category")
    me.fail("acted_drop", "mark")
    assert me.save(item).json["marks"] == ["saved"]
    assert me.categories(item) == ["Follow-up", "Offer", me.host.saved]


@everywhere
def test_a_message_that_is_deleted_before_c4c_has_it_fails_with_that_reason(
    me: Api, world: World, work: Work, process: Callable[..., Deps], api: Callable[..., Api], forward: Forward
) -> None:
    item = me.item("known_contact")
    world.faults.append(Fault("c4c", "drop", BATCH, times=None))
    save_id = me.save(item).json["id"]
    del world.mailbox(me.person.email).messages[me.message(item).immutable_id]
    world.faults.clear()
    forward(minutes=1)
    work()
    failed = me.get("/saves/" + save_id).json
    assert (failed["state"], failed["reason"]) == ("failed", "The message is no longer in the mailbox.")
    assert activities(world, item) == []


# Sign-in


def test_a_save_that_lost_its_sign_in_waits_for_the_person(me: Api, world: World, work: Work, forward: Forward) -> None:
    item = me.item("known_contact")
    world.faults.append(Fault("c4c", "drop", BATCH, times=None))
    save_id = me.save(item).json["id"]
    world.faults.clear()
    me.simulator.provider.revoke(me.person)
    forward(hours=2)
    work()
    failed = me.get("/saves/" + save_id).json
    assert (failed["state"], failed["reason"]) == ("failed", "Sign in again, then try again.")
    assert me.get("/me").json["mailbox"]["state"] == "needs_reauth"
    mended = me.post(f"/saves/{save_id}/retry")
    assert mended.json["state"] == "saved"
    assert len(activities(world, item)) == 1
    assert me.categories(item) == [me.host.saved]
    assert me.get("/me").json["mailbox"]["state"] == "active"


def test_a_person_who_is_there_does_not_notice_that_the_stored_sign_in_ended(me: Api, forward: Forward) -> None:
    assert me.save("known_contact").status_code == 201
    me.simulator.provider.revoke(me.person)
    forward(hours=2)
    assert me.save("account_only").status_code == 201


def test_a_token_that_the_mailbox_no_longer_takes_is_replaced_by_the_persons_own(me: Api, world: World) -> None:
    assert me.save("known_contact").status_code == 201
    me.fail("status", "read", status=401)
    assert me.save("account_only").status_code == 201


def test_without_consent_the_person_is_asked(me: Api) -> None:
    me.simulator.provider.withdraw_consent(me.person)
    refused = me.save("known_contact")
    assert (refused.status_code, refused.json["code"]) == (401, "needs_sign_in")
    assert "consent" in refused.json["detail"]
    me.simulator.provider.give_consent(me.person)
    assert me.save("known_contact").status_code == 201


def test_a_person_who_was_switched_off_saves_nothing_any_more(
    me: Api, world: World, work: Work, deps: Deps, forward: Forward
) -> None:
    item = me.item("known_contact")
    world.faults.append(Fault("c4c", "drop", BATCH, times=None))
    save_id = me.save(item).json["id"]
    world.faults.clear()
    with deps.store.transaction() as tx:
        (user,) = [u for t in tx.tenants() for u in tx.users(t.id) if u.email == me.person.email]
        tx.set_user_enabled(user.id, False)
    forward(minutes=1)
    work()
    assert activities(world, item) == []
    refused = me.get("/saves/" + save_id)
    assert (refused.status_code, refused.json["code"]) == (403, "not_provisioned")


# Many at once


@pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)
def test_twenty_clicks_of_two_people_in_two_processes_make_one_activity(
    me: Api, colleague: Api, api: Callable[..., Api], process: Callable[..., Deps], world: World, work: Work
) -> None:
    other = process()
    people = [me, colleague, api(0, at=other), api(1, at=other)]
    items = [person.item("shared_message_id") for person in people]
    links = links_of(me.context(items[0]))
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda n: people[n % 4].save(items[n % 4], links[: 1 + n % 2]), range(20)))
    assert {answer.status_code for answer in answers} <= {200, 201, 202}
    work()
    activity = only_activity(world, items[0])
    assert {answer.json["id"] for answer in answers} == {people[n].save(items[n], links).json["id"] for n in (0, 1)}
    assert {c["id"] for c in me.context(items[0], refresh=True)["cards"] if c["linked"]} == {one["id"] for one in links}
    assert len(children(world, activity, "parties")) == len(numbers(world, activity))
    assert me.categories(items[0]) == colleague.categories(items[1]) == [SAVED]
    creates = [e for e in world.events("c4c", "create") if e.detail.get("entity_set", e.detail.get("set")) == "EMailCollection"]
    assert len(creates) <= 1


def test_a_wish_that_comes_while_an_older_one_is_carried_out_is_not_lost(
    api: Callable[..., Api], process: Callable[..., Deps], world: World
) -> None:
    """The second click's own process dies before it can do anything; the first takes its wish up."""
    first, second = api(at=process()), api(at=process(save_deadline_s=0.0))
    item = first.item("known_contact")
    contact, account = links_of(first.context(item))
    world.gate = gate = Gate(match="c4c " + CREATE, acted=True)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(first.save, item, [contact])
        assert gate.reached.wait(10)
        assert second.save(item, [contact, account]).status_code == 202
        gate.open()
        assert slow.result().status_code == 201
    linked = {c["id"] for c in first.context(item, refresh=True)["cards"] if c["linked"]}
    assert linked == {contact["id"], account["id"]}
    assert len(activities(world, item)) == 1


def test_a_failure_of_an_older_wish_does_not_hide_the_newer_one(
    api: Callable[..., Api], process: Callable[..., Deps], world: World
) -> None:
    first, second = api(at=process()), api(at=process(save_deadline_s=0.0))
    item = first.item("known_contact")
    links = links_of(first.context(item))
    world.gate = gate = Gate(match="c4c POST " + SERVICE + BATCH, acted=True)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(first.save, item, [{"type": "contact", "id": "F" * 32}])
        assert gate.reached.wait(10)
        assert second.save(item, links).status_code == 202
        gate.open()
        assert slow.result().status_code == 201
    assert len(activities(world, item)) == 1


def test_a_holder_that_was_taken_for_dead_takes_back_what_it_created(
    api: Callable[..., Api], process: Callable[..., Deps], world: World, work: Work, forward: Forward
) -> None:
    """It slept between saying that it will create and creating; meanwhile another found nothing and created."""
    sleeper = api(at=process())
    item = sleeper.item("known_contact")
    world.gate = gate = Gate(match="c4c " + CREATE)
    with ThreadPoolExecutor(1) as pool:
        slept = pool.submit(sleeper.save, item)
        assert gate.reached.wait(10)
        forward(seconds=60)
        work()
        assert len(activities(world, item)) == 1
        kept = only_activity(world, item)["ObjectID"]
        gate.open()
        assert slept.result().json["state"] == "saved"
    assert only_activity(world, item)["ObjectID"] == kept
    assert slept.result().json["activity"]["id"] == kept
    assert sleeper.categories(item) == [SAVED]


def test_a_slow_save_goes_on_after_its_answer(api: Callable[..., Api], process: Callable[..., Deps], world: World) -> None:
    deps = process(save_deadline_s=0.05)
    me = api(at=deps)
    item = me.item("known_contact")
    world.gate = gate = Gate(match="c4c " + CREATE)
    accepted = me.save(item)
    assert (accepted.status_code, accepted.json["state"], accepted.json["marks"]) == (202, "pending", [])
    gate.open()
    deps.background.shutdown()  # waits for what it does
    assert me.get("/saves/" + accepted.json["id"]).json["state"] == "saved"
    assert len(activities(world, item)) == 1


def test_a_fault_of_ours_in_one_save_does_not_keep_others_from_being_done(
    me: Api, colleague: Api, world: World, deps: Deps, work: Work, forward: Forward
) -> None:
    poisoned, fine = me.item("known_contact"), colleague.item("shared_message_id")
    world.faults.append(Fault("c4c", "drop", BATCH, times=None))
    first, second = me.save(poisoned).json["id"], colleague.save(fine).json["id"]
    world.faults.clear()
    with deps.store._engine.begin() as connection:
        connection.execute(sa.text("UPDATE save_request SET payload = x'00' WHERE id = :id"), {"id": first})
    forward(minutes=1)
    work()
    work()
    assert state(colleague, second) == "saved"
    assert state(me, first) == "pending"


@everywhere
def test_a_colleague_waits_too_while_the_outcome_of_a_create_is_unknown(
    me: Api, colleague: Api, world: World, work: Work, forward: Forward
) -> None:
    item, copy = me.item("shared_message_id"), colleague.item("shared_message_id")
    contact, account = links_of(me.context(item))
    world.faults += [Fault("c4c", "index_delay", seconds=20), Fault("c4c", "acted_drop", CREATE)]
    first = me.save(item, [contact]).json["id"]
    second = colleague.save(copy, [account])
    assert (second.status_code, second.json["state"]) == (202, "unknown")
    for _ in range(4):
        forward(seconds=14)
        work()
    assert (state(me, first), state(colleague, second.json["id"])) == ("saved", "saved")
    assert len(activities(world, item)) == 1
    assert {c["id"] for c in me.context(item, refresh=True)["cards"] if c["linked"]} == {contact["id"], account["id"]}
    assert (me.categories(item), colleague.categories(copy)) == ([me.host.saved], [SAVED])


# What is kept, and how long


def payloads(deps: Deps) -> list[Any]:
    with deps.store._engine.connect() as connection:
        return [row[0] for row in connection.execute(sa.text("SELECT payload FROM save_request"))]


def test_the_wish_is_erased_once_it_is_fulfilled(me: Api, world: World, deps: Deps) -> None:
    item = me.item("known_contact")
    world.faults.append(Fault("c4c", "part_status", CREATE, status=400))
    save_id = me.save(item).json["save_id"]
    assert payloads(deps) != [None]
    me.post(f"/saves/{save_id}/retry")
    assert payloads(deps) == [None]


@everywhere
def test_a_wish_that_waits_for_seven_days_is_erased_and_the_save_says_so(
    me: Api, world: World, deps: Deps, work: Work, forward: Forward
) -> None:
    item = me.item("known_contact")
    world.faults.append(Fault("c4c", "part_status", CREATE, status=400, times=None))
    save_id = me.save(item).json["save_id"]
    forward(days=6)
    work()
    assert payloads(deps) != [None]
    forward(days=1, seconds=1)
    work()
    work()
    assert payloads(deps) == [None]
    expired = me.get("/saves/" + save_id).json
    assert (expired["state"], expired["reason"]) == ("failed", "It could not be saved within 7 days. Save it again.")
    assert me.categories(item) == [me.host.error, "SSI: It could not be saved within 7 days. Save it again."]
    assert me.post(f"/saves/{save_id}/retry").status_code == 422
    world.faults.clear()
    assert me.save(item).status_code == 201
    assert me.categories(item) == [me.host.saved]


def test_a_new_wish_on_an_old_save_is_kept_for_its_own_seven_days(
    me: Api, world: World, deps: Deps, work: Work, forward: Forward
) -> None:
    item = me.item("known_contact")
    assert me.save(item).status_code == 201
    forward(days=8)
    world.faults.append(Fault("c4c", "drop", BATCH, times=None))
    assert me.save(item, subject="Another").json["state"] == "pending"
    work()
    assert payloads(deps) != [None]
