"""What a session decides, as a table, and what a merge may never do."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, strategies as st

from server.domain.contact import Contact
from server.store import Link
from server.sync.mapping import DOWN, base, fields, values, with_values
from server.sync.plan import GONE, Action, Guard, Merge, Policy, Seen, View, merge, plan

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ADA = Contact(display_name="Ada Byron", given_name="Ada", surname="Byron", emails=("ada@e.example",), business_phone="1")
EVE = replace(ADA, surname="Eve", display_name="Ada Eve")
BOTH = Policy("contact")
READ_ONLY = Policy("contact", read_only=True)
OFF = Policy("contact", filter="none")


def hasher(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:16]


def seen(contact: Contact, *, minutes: int = 0, asked: bool = False) -> Seen:
    present = values(contact, fields("contact"))
    return Seen(present, base("contact", present, hasher), NOW + timedelta(minutes=minutes), asked)


def link(item: Contact = ADA, record: Contact = ADA, **values: Any) -> Link:
    bases = {"item_base": seen(item).now.text, "record_base": seen(record).now.text}
    made = Link("1" * 32, "t", "u", "c", "contact", "linked", "c4c", record_id="R", item_ref="I", **bases)
    return replace(made, **values)


def ignored(code: str, **values: Any) -> Link:
    return link(state="ignored", code=code, **values)


@pytest.mark.parametrize(
    ("known", "item", "record", "policy", "then"),
    [
        (None, None, seen(ADA), BOTH, "create_item"),
        (None, None, seen(ADA), READ_ONLY, "create_item"),
        (None, None, seen(ADA), OFF, "nothing"),
        (None, seen(ADA), None, BOTH, "create_record"),
        (None, seen(ADA), None, READ_ONLY, "refuse may_not_upload"),
        (None, seen(ADA), None, OFF, "refuse may_not_upload"),
        (None, seen(ADA), None, replace(BOTH, uploads="ask"), "hold first_upload"),
        (None, seen(ADA), None, replace(BOTH, uploads="no"), "refuse not_wanted"),
        (None, seen(ADA, asked=True), None, replace(BOTH, uploads="ask"), "create_record"),
        (link(), None, None, BOTH, "nothing"),
        (link(), seen(EVE), None, BOTH, "merge"),
        (link(), None, seen(EVE), BOTH, "merge"),
        (link(), GONE, None, BOTH, "unlink deleted"),
        (link(), GONE, None, replace(BOTH, deleting="obsolete"), "obsolete"),
        (link(), GONE, None, READ_ONLY, "create_item"),
        (link(), GONE, GONE, BOTH, "forget"),
        (link(), None, GONE, BOTH, "delete_item"),
        (link(), seen(EVE), GONE, BOTH, "delete_item"),
        (link(origin="mailbox"), None, GONE, BOTH, "release_item record_gone"),
        (link(), seen(EVE), None, OFF, "unlink filtered"),
        (ignored("deleted", item_ref=None), None, seen(EVE), BOTH, "nothing"),
        (ignored("deleted", item_ref=None), None, GONE, BOTH, "nothing"),
        (ignored("filtered"), seen(ADA), seen(EVE), BOTH, "merge"),
        (ignored("record_gone", record_id=None), seen(ADA), None, BOTH, "nothing"),
        (ignored("record_gone", record_id=None), seen(ADA, asked=True), None, BOTH, "create_record"),
        (ignored("record_gone", record_id=None), GONE, None, BOTH, "forget"),
        (ignored("refused", record_id=None), seen(ADA), None, BOTH, "nothing"),
        (ignored("refused", record_id=None), seen(EVE), None, BOTH, "create_record"),
        (ignored("may_not_upload", record_id=None), seen(ADA, asked=True), None, READ_ONLY, "refuse may_not_upload"),
        (link(state="held", record_id=None), seen(ADA), None, replace(BOTH, uploads="ask"), "nothing"),
        (link(state="held", record_id=None), seen(ADA), None, BOTH, "create_record"),
        (link(state="held", record_id=None), seen(ADA), None, replace(BOTH, uploads="no"), "refuse not_wanted"),
    ],
)
def test_the_plan(known: Link | None, item: View, record: View, policy: Policy, then: str) -> None:
    action = plan(known, item, record, policy)
    assert f"{action.do} {action.code}".strip() == then


def changes(of: Merge) -> tuple[dict[str, str], dict[str, str]]:
    return dict(of.to_item), dict(of.to_record)


def test_what_only_one_side_changed_goes_to_the_other() -> None:
    item, record = replace(ADA, business_phone="2"), replace(ADA, job_title="Countess")
    found = merge(link(), seen(item), seen(record), BOTH)
    assert changes(found) == ({"job_title": "Countess"}, {"business_phone": "2"})
    assert not found.lost


def test_the_newer_change_of_a_field_wins_and_the_other_is_told() -> None:
    item, record = seen(replace(ADA, job_title="A")), seen(replace(ADA, job_title="B"), minutes=1)
    found = merge(link(), item, record, BOTH)
    assert changes(found) == ({"job_title": "B"}, {})
    assert [(one.field, one.side, one.value) for one in found.lost] == [("job_title", "mailbox", "A")]


def test_the_mailbox_wins_ties_and_what_is_not_known() -> None:
    item, record = seen(replace(ADA, job_title="A")), seen(replace(ADA, job_title="B"))
    for one in (item, replace(item, changed_at=None)):
        assert changes(merge(link(), one, record, BOTH)) == ({}, {"job_title": "A"})


def test_a_profile_can_say_who_wins() -> None:
    item, record = seen(replace(ADA, job_title="A"), minutes=1), seen(replace(ADA, job_title="B"))
    assert changes(merge(link(), item, record, replace(BOTH, winner="c4c"))) == ({"job_title": "B"}, {})


def test_without_a_link_empty_values_are_filled() -> None:
    item, record = replace(ADA, job_title="A", department=""), replace(ADA, job_title="", department="D")
    assert changes(merge(None, seen(item), seen(record), BOTH)) == ({"department": "D"}, {"job_title": "A"})


def test_read_only_restores_the_contact() -> None:
    found = merge(link(), seen(replace(ADA, surname="Lovelace", job_title="A")), seen(ADA), READ_ONLY)
    assert changes(found) == ({"surname": "Byron", "job_title": ""}, {})
    assert found.restored == ("surname", "job_title")


def test_a_name_that_c4c_makes_of_others_only_comes_from_there() -> None:
    assert changes(merge(link(), seen(replace(ADA, display_name="Byron, Ada")), seen(ADA), BOTH)) == ({}, {})
    assert changes(merge(link(), None, seen(replace(ADA, display_name="A. Byron")), BOTH)) == ({"display_name": "A. Byron"}, {})


def test_a_side_keeps_its_own_spelling() -> None:
    known = link(item=replace(ADA, business_phone="+1 2"), record=replace(ADA, business_phone="+12"))
    item = replace(ADA, business_phone="+1 2", job_title="A")
    assert changes(merge(known, seen(item), seen(replace(ADA, business_phone="+12")), BOTH)) == ({}, {"job_title": "A"})


TEXTS = st.sampled_from(["", "a", "b", "c"])
BY_NAME = st.fixed_dictionaries(dict.fromkeys(fields("contact"), TEXTS))


def contact(given: dict[str, str]) -> Contact:
    return with_values(Contact(), given)


@given(
    before=BY_NAME, item=BY_NAME, record=BY_NAME, later=st.integers(-1, 1), winner=st.sampled_from(["newest", "mailbox", "c4c"])
)
def test_after_a_merge_both_sides_agree_and_nothing_that_one_side_changed_is_lost(
    before: dict[str, str], item: dict[str, str], record: dict[str, str], later: int, winner: Any
) -> None:
    known, policy = link(contact(before), contact(before)), replace(BOTH, winner=winner)
    found = merge(known, seen(contact(item)), seen(contact(record), minutes=later), policy)
    item_then, record_then = {**item, **found.to_item}, {**record, **found.to_record}
    told = {one.field: one.value for one in found.lost}
    for name in set(fields("contact")) - DOWN:
        assert item_then[name] == record_then[name]
        for side in (item, record):
            other = record if side is item else item
            if side[name] == before[name] or not side[name]:
                continue
            is_kept = side[name] in (item_then[name], told.get(name))
            assert is_kept, "what a side changed is in both, or told"
            if other[name] == before[name]:
                assert item_then[name] == side[name]
    again = link(contact(item_then), contact(record_then))
    assert changes(merge(again, seen(contact(item_then)), seen(contact(record_then)), policy)) == ({}, {})


@given(before=BY_NAME, item=BY_NAME, record=BY_NAME)
def test_it_does_not_matter_whether_both_changes_come_at_once(
    before: dict[str, str], item: dict[str, str], record: dict[str, str]
) -> None:
    apart = {name: before[name] if item[name] != before[name] else record[name] for name in record}
    known = link(contact(before), contact(before))
    at_once = merge(known, seen(contact(item)), seen(contact(apart)), BOTH)
    first = merge(known, seen(contact(item)), seen(contact(before)), BOTH)
    middle = {**before, **first.to_record}
    second = merge(link(contact(item), contact(middle)), None, seen(contact({**apart, **first.to_record})), BOTH)
    assert {**item, **at_once.to_item} == {**item, **first.to_item, **second.to_item}


@pytest.mark.parametrize(
    ("linked", "number", "held"), [(10, 50, False), (10, 51, True), (1000, 200, False), (1000, 201, True), (0, 51, True)]
)
def test_the_guard(linked: int, number: int, held: bool) -> None:
    assert Guard(items=50, share=20, linked=linked).holds(number) is held


def test_nothing_is_an_action_that_changes_nothing() -> None:
    assert plan(link(), None, None, BOTH) == Action("nothing")
