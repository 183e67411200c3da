"""What left and comes back: deleted and restored, moved and moved back, held back and allowed. It is never there twice."""

import pytest

from server.domain.contact import Contact
from server.domain.marks import FOLDERS
from server.services import issues
from tests.sync.house import House
from tests.sync.test_adversity import ADA, EVERYWHERE, SHARE, quiet
from tests.sync.test_stalls import doubled


def bring_back(house: House, kept: dict[str, tuple[Contact, str]]) -> list[str]:
    """Restore contacts as mailboxes do: with what we keep on them, under refs of their own."""
    return [house.remote.put_contact(house.folder(), contact, link=name) for contact, name in kept.values()]


def drop_all(house: House) -> dict[str, tuple[Contact, str]]:
    """Delete all contacts; return what they were, by ref."""
    kept = {ref: (contact, house.remote.link_of(ref)) for ref, contact in house.items().items()}
    for ref in kept:
        house.remote.drop_contact(ref)
    return kept


@EVERYWHERE
@pytest.mark.parametrize("answer", ["", "apply", "not_now"])
def test_contacts_that_were_deleted_by_mistake_and_restored_before_the_yes_are_what_they_were(house: House, answer: str) -> None:
    house.set_profile(guard_items=2, guard_share=20)
    for number in range(4):
        house.add_record(FirstName="Ada", LastName=f"Byron{number}")
    house.done()
    kept = drop_all(house)
    house.later()
    question = house.issues["guard"]
    if answer:
        issues.answer(house.deps, house.principal, question.id, answer)
    bring_back(house, kept)
    house.later()
    house.later()
    assert (len(house.items()), len(house.own())) == (4, 4)
    assert {(link.state, link.code) for link in house.links} == {("linked", "")}
    assert house.issues == {}
    quiet(house)


@EVERYWHERE
def test_contacts_that_were_deleted_and_restored_at_once_take_what_c4c_changed_meanwhile(house: House) -> None:
    rows = [house.add_record(FirstName="Ada", LastName=f"Byron{number}") for number in range(2)]
    house.done()
    house.forward(minutes=10)
    refs = bring_back(house, drop_all(house))
    for row in rows:
        house.change_record(row, JobTitle="Countess")
    house.later()
    assert {contact.job_title for contact in house.items().values()} == {"Countess"}
    assert {link.item_ref for link in house.links} == set(house.items()) == set(refs)
    quiet(house)


@EVERYWHERE
def test_a_contact_that_is_restored_and_copied_at_once_is_two(house: House) -> None:
    house.add_record(FirstName="Ada", LastName="Byron", Email="ada@e.example")
    house.done()
    kept = drop_all(house)
    house.later()
    refs = {*bring_back(house, kept), *bring_back(house, kept)}
    house.later()
    assert {link.item_ref for link in house.links if link.state == "linked"} == refs
    assert len(house.own()) == 2
    quiet(house)


@EVERYWHERE
def test_contacts_that_come_and_go_while_their_type_is_off_are_found_so_when_it_is_on(house: House) -> None:
    for number in range(3):
        house.add_record(FirstName="Ada", LastName=f"Byron{number}")
    house.done()
    house.set_profile(contacts_filter="none")
    house.later()
    house.remote.drop_contact(house.item("Byron0")[0])
    ref, contact = house.item("Byron1")
    name = house.remote.link_of(ref)
    house.remote.drop_contact(ref)
    house.later()
    bring_back(house, {ref: (contact, name)})
    house.later()
    house.set_profile(contacts_filter="mine")
    house.later()
    assert (len(house.items()), len(house.own())) == (2, 3)
    assert sorted(link.state for link in house.links) == ["ignored", "linked", "linked"]
    quiet(house)


@pytest.mark.parametrize("access_type", ["office365", "exchange_direct"], indirect=True)
@pytest.mark.parametrize("read_only", [True, False])
def test_a_contact_that_is_moved_to_another_type_and_back_is_paired_with_its_record_again(house: House, read_only: bool) -> None:
    house.set_profile(individual_customers_read_only=read_only)
    house.add_record(FirstName="Ada", LastName="Byron", Email="ada@e.example")
    house.done()
    mailbox = house.deps.mailbox(house.connection)
    for type, there in (("contact", "individual_customer"), ("individual_customer", "contact")):
        (ref,) = house.items(type)
        mailbox.move_contact(ref, house.folder(there), etag=mailbox.contact(ref).etag)
        house.later()
    (ref,) = house.items()
    assert [link.item_ref for link in house.links if link.state == "linked"] == [ref]
    assert (len(house.own()), len(house.own("individual_customer"))) == (1, 0 if read_only else 1)
    quiet(house)


def test_what_the_guard_holds_of_a_type_that_was_off_is_done_after_a_yes(house: House) -> None:
    house.set_profile(guard_items=2, guard_share=20)
    rows = [house.add_record(FirstName="Ada", LastName=f"Byron{number}") for number in range(4)]
    house.done()
    house.set_profile(contacts_filter="none")
    house.later()
    for row in rows:
        house.change_record(row, JobTitle="Countess")
    house.set_profile(contacts_filter="mine")
    house.later()
    issues.answer(house.deps, house.principal, house.issues["guard"].id, "apply")
    house.later()
    assert {contact.job_title for contact in house.items().values()} == {"Countess"}
    quiet(house)


def test_the_guards_question_goes_when_nothing_is_left_of_what_it_asks_about(house: House) -> None:
    house.set_profile(guard_items=2, guard_share=20)
    rows = [house.add_record(FirstName="Ada", LastName=f"Byron{number}") for number in range(4)]
    house.done()
    for status in ("4", "2"):
        for row in rows:
            house.change_record(row, StatusCode=status)
        house.later()
    assert "guard" in house.issues
    house.later()
    assert house.issues == {}
    assert {(link.state, link.code) for link in house.links} == {("linked", "")}


def test_a_yes_to_some_is_none_to_others(house: House) -> None:
    house.set_profile(guard_items=3, guard_share=1)
    rows = [house.add_record(FirstName="Ada", LastName=f"Byron{number}") for number in range(10)]
    house.done()
    for row in rows[:5]:
        house.change_record(row, StatusCode="4")
    house.later()
    issues.answer(house.deps, house.principal, house.issues["guard"].id, "apply")
    for row in rows[5:]:
        house.remote.drop_contact(house.item(row["LastName"])[0])
    house.later()
    assert sorted((link.state, link.code) for link in house.links) == [("linked", "guard")] * 5
    assert house.items() == {}
    assert house.told["guard"].cause.startswith("0 contacts in the mailbox and 5 records ")


def test_doubles_that_stayed_are_shared_once_the_others_were_deleted(house: House) -> None:
    house.set_profile(guard_items=1, guard_share=20)
    for surname in ("Ada", "Bea"):
        house.add_record(LastName=surname)
    house.done()
    originals = list(house.items())
    doubles = doubled(house, "Ada", "Bea")
    house.later()
    assert "doubles" in house.issues
    house.set_profile(guard_items=10)
    for ref in originals:
        house.remote.drop_contact(ref)
    house.later()
    for ref in doubles:
        house.remote.categorize_contact(ref, SHARE)
    house.later()
    assert (set(house.items()), len(house.own())) == (set(doubles), 2)
    quiet(house)


@EVERYWHERE
def test_a_contact_that_waits_for_an_answer_is_paired_by_the_name_that_it_has_by_now(house: House) -> None:
    house.deps.mailbox(house.connection).ensure_folders(FOLDERS)
    ref = house.remote.put_contact(house.folder(), ADA)
    house.done()
    house.remote.change_contact(ref, surname="Lovelace")
    house.later()
    house.add_record(FirstName="Ada", LastName="Lovelace", Email="ada@e.example")
    house.later()
    assert (len(house.items()), len(house.own())) == (1, 1)
    quiet(house)


def pass_by(house: House, sessions: int) -> None:
    """Let the mailbox's row be taken so often as if there had been so many sessions."""
    for _ in range(sessions):
        with house.deps.store.transaction() as tx:
            tx.suspend_session(house.connection.id, house.deps.now())
            tx.resume_session(house.connection.id, house.deps.now())


@EVERYWHERE
def test_contacts_that_are_restored_after_their_folder_was_filled_again_are_neither_deleted_nor_uploaded(house: House) -> None:
    house.add_record(FirstName="Ada", LastName="Byron")
    house.done()
    pass_by(house, 30)
    ((ref, contact),) = house.items().items()
    name = house.remote.link_of(ref)
    house.remote.delete_folder(house.folder())
    house.later()
    ((filled, _),) = house.items().items()
    (restored,) = bring_back(house, {ref: (contact, name)})
    house.later()
    assert (set(house.items()), len(house.own())) == ({filled, restored}, 1)
    assert "doubles" in house.issues
    quiet(house)


@pytest.mark.parametrize("access_type", ["office365", "exchange_direct"], indirect=True)
def test_a_contact_that_its_owner_shares_is_no_double_of_ours_whatever_it_was_copied_from(house: House) -> None:
    house.add_record(FirstName="Ada", LastName="Byron")
    house.done()
    ref, contact = house.item("Byron")
    link_id, _, session = house.remote.link_of(ref).partition("-")
    own = house.remote.put_contact(house.remote.own_contacts, contact, link=f"{link_id}-{int(session) + 1}")
    house.remote.categorize_contact(own, SHARE)
    house.later()
    assert len(house.items()) == 2
    quiet(house)
    assert len(house.items()) == 2
