"""A message carries at most one of our marks, and what others wrote on it stays."""

import pytest
from hypothesis import given, strategies as st

from server.domain.marks import (
    FOLDERS,
    MARKS,
    REASON_LENGTH,
    REASON_PREFIX,
    STATE_MARKS,
    MarkId,
    SaveState,
    folder_names,
    is_reason_category,
    mark_for,
    mark_of,
    marks_of,
    merged,
    names_for,
    reason_category,
)

NAMES: dict[MarkId, str] = {mark.id: mark.name for mark in MARKS.values()}
GERMAN = dict(names_for({"categories"}, "de"))
SPELLED: dict[MarkId, str] = {**NAMES, "saved": "Gesichert", "pending": "In Arbeit"}  # as a mailbox has them already

_names = st.sampled_from([NAMES, GERMAN, SPELLED])
_marks = st.none() | st.sampled_from(STATE_MARKS)
_ours = [*NAMES.values(), *GERMAN.values(), *SPELLED.values(), "sap cloud FOR customer", reason_category("Why")]
_categories = st.lists(st.sampled_from(_ours) | st.text(min_size=1, max_size=12), max_size=8)


def is_ours(name: str, names: dict[MarkId, str]) -> bool:
    """Written anew, to check `merged` against: exactly the four state names in any language, the alias, and reasons."""
    known = {spoken[mark].casefold() for mark in ("share", "pending", "saved", "error") for spoken in (names, NAMES, GERMAN)}
    return name.casefold() in known | {"sap cloud for customer"} or name.startswith("SSI: ")


@given(_categories, _marks, st.none() | st.text(min_size=1), _names)
def test_others_categories_survive_in_their_order(
    current: list[str], mark: MarkId | None, reason: str | None, names: dict[MarkId, str]
) -> None:
    kept = [name for name in current if not is_ours(name, names)]
    assert merged(current, mark, reason, names)[: len(kept)] == kept


@given(_categories, _marks, st.none() | st.text(min_size=1), _names)
def test_only_the_wanted_mark_is_carried_with_a_reason_beside_an_error(
    current: list[str], mark: MarkId | None, reason: str | None, names: dict[MarkId, str]
) -> None:
    ours = [name for name in merged(current, mark, reason, names) if is_ours(name, names)]
    wanted = [] if mark is None else [names[mark]]
    assert ours == wanted + ([reason_category(reason)] if mark == "error" and reason else [])


@given(_categories, _marks, st.none() | st.text(min_size=1), _names)
def test_merging_again_changes_nothing(
    current: list[str], mark: MarkId | None, reason: str | None, names: dict[MarkId, str]
) -> None:
    once = merged(current, mark, reason, names)
    assert merged(once, mark, reason, names) == once


@pytest.mark.parametrize("mark", ["account", "individual_customer", "visit"])
def test_marks_that_are_no_state_are_left_to_the_user(mark: MarkId) -> None:
    assert merged([NAMES[mark], NAMES["pending"]], "saved", None, NAMES) == [NAMES[mark], NAMES["saved"]]


@pytest.mark.parametrize(
    ("name", "mark"),
    [
        ("Saved in SAP Cloud for Customer SSI", "saved"),
        ("SAVED IN SAP CLOUD FOR CUSTOMER SSI", "saved"),
        ("SAP Cloud for Customer", "share"),
        ("SAP Cloud for Customer SSI", "share"),
        ("SAP Cloud for Customers", None),
        ("Account", None),
        ("", None),
    ],
)
def test_names_are_recognised_in_any_case_and_by_alias(name: str, mark: MarkId | None) -> None:
    assert mark_of(name, NAMES) == mark


def test_a_mailbox_knows_its_own_names_and_ours_in_every_language() -> None:
    assert mark_of("gesichert", SPELLED) == "saved"
    assert mark_of(NAMES["saved"], SPELLED) == "saved"
    assert mark_of(NAMES["error"], GERMAN) == "error"
    assert mark_of(GERMAN["error"], NAMES) == "error"
    assert mark_of("Gesichert", NAMES) is None


def test_marks_that_a_person_put_beside_others_are_all_found() -> None:
    assert marks_of([NAMES["share"], "Urgent", GERMAN["saved"], NAMES["account"]], NAMES) == {"share", "saved"}


@pytest.mark.parametrize("capabilities", [{"labels", "colors"}, {"categories", "colors"}])
def test_every_language_names_the_same_marks_apart_from_each_other(capabilities: set[str]) -> None:
    english, german = names_for(capabilities), names_for(capabilities, "de")
    assert german.keys() == english.keys()
    assert len({name.casefold() for name in german.values()}) == len(german)
    assert names_for(capabilities, "fr") == names_for(capabilities, "") == english


def test_folders_have_names_in_every_language_and_the_label_of_marked_messages_is_that_of_their_folder() -> None:
    assert folder_names("en") == folder_names("fr") == FOLDERS
    assert folder_names("de").keys() == FOLDERS.keys()
    for language in ("en", "de"):
        assert len(set(folder_names(language).values())) == len(FOLDERS)
        assert names_for({"labels"}, language)["share"] == folder_names(language)["emails"]


@pytest.mark.parametrize(
    ("state", "mark"),
    [("none", None), ("pending", "pending"), ("unknown", "pending"), ("saved", "saved"), ("failed", "error")],
)
def test_each_state_of_a_save_has_its_mark(state: SaveState, mark: MarkId | None) -> None:
    assert mark_for(state) == mark


@given(st.text())
def test_a_reason_is_one_short_category(reason: str) -> None:
    name = reason_category(reason)
    assert is_reason_category(name)
    assert len(name) <= len(REASON_PREFIX) + REASON_LENGTH
    assert not set(name) & set(",;\r\n")


def test_colours_are_those_of_the_product_and_names_differ() -> None:
    assert {mark.id: mark.color for mark in MARKS.values()} == {
        "share": "preset4",
        "pending": "preset3",
        "saved": "preset19",
        "error": "preset0",
        "account": "preset5",
        "individual_customer": "preset7",
        "visit": "preset8",
    }
    assert len({name.casefold() for name in NAMES.values()}) == len(MARKS)


def test_marks_are_a_tree_of_labels_where_a_mailbox_has_labels_and_categories_elsewhere() -> None:
    assert names_for({"categories", "colors"}) == NAMES
    for language in ("en", "de"):
        labels = names_for({"labels", "colors"}, language)
        assert labels.keys() == set(STATE_MARKS)
        assert {name.partition("/")[0] for name in labels.values()} == {labels["share"]}
