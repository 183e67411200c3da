"""Who is behind these addresses: one round trip, nobody forgotten, nothing believed that C4C cannot prove."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from server.c4c import C4C, AddressPage, Question
from server.domain.records import CARD_FIELDS, RECORD_TYPES, Record, RecordRef, RecordType
from server.errors import Forbidden, InvalidInput, NeedsReauth, Rejected, Transient
from simulator.c4c.records import seed
from simulator.world import Fault, Person, Row, World
from tests.c4c.conftest import CODES, SERVICE, Tenant

SHARED = "purchasing@harrowgate-pumps.example"


def row_of(world: World, entity_set: str, **values: Any) -> Row:
    """The first row with these values."""
    return next(r for r in world.crm.rows(entity_set).values() if all(r.get(n) == v for n, v in values.items()))


def contact_of(world: World, **values: Any) -> Row:
    return row_of(world, "ContactCollection", **values)


def visible_contacts(world: World) -> list[Row]:
    """The contacts that everybody may see; the demo data hide one."""
    return [row for id, row in world.crm.rows("ContactCollection").items() if id not in world.crm.visible_to]


def found(records: tuple[Record, ...] | list[Record]) -> set[tuple[str, str]]:
    return {(record.type, record.id) for record in records}


@pytest.mark.parametrize("people", [1, 10, 50])
def test_lookup_is_one_request_whatever_the_number_of_addresses(c4c: C4C, tenant: Tenant, world: World, people: int) -> None:
    known = [row["Email"] for row in visible_contacts(world) if row["Email"]][:people]
    addresses = [*known, *(f"Nobody.{n}@Somewhere-Rather-Long.example.org" for n in range(people - len(known)))]
    spellings = tuple(spelling for address in addresses for spelling in (address, address.lower(), address.upper()))
    answer = c4c.look_up(Question(spellings, message_key="<none@example.com>", leads=True))
    assert {a for record in answer.records for a in record.addresses} >= set(known)
    assert answer.failed == {}
    (call,) = tenant.calls()
    assert (call.method, call.status, answer.requests) == ("POST", 202, 1)
    assert call.parts == (
        "GET ContactCollection",
        "GET IndividualCustomerCollection",
        "GET CorporateAccountCollection",
        "GET LeadCollection",
        "GET EmployeeBasicDataCollection",
        "GET EMailCollection",
    )
    assert answer.server_ms > 0


def test_all_records_behind_one_address_are_found(c4c: C4C, world: World) -> None:
    answer = c4c.look_up(Question((SHARED,)))
    expected = {("contact", r["ObjectID"]) for r in world.crm.rows("ContactCollection").values() if r["Email"] == SHARED}
    expected |= {
        ("individual_customer", r["ObjectID"])
        for r in world.crm.rows("IndividualCustomerCollection").values()
        if r["Email"] == SHARED
    }
    assert len(expected) == 3
    assert found(answer.records) == expected


def test_contact_brings_its_accounts_the_main_one_first(c4c: C4C, world: World) -> None:
    other, main, *_ = world.crm.rows("CorporateAccountCollection").values()
    row = seed(world, "ContactCollection", LastName="Two", Email="two@example.org", AccountID=main["AccountID"])
    for account in (other, main):
        ids = {"ContactID": row["ContactID"], "AccountID": account["AccountID"]}
        seed(world, "ContactIsContactPersonForCollection", parent=row, ReverseMainIndicator=account is main, **ids)
    (contact,) = c4c.look_up(Question(("two@example.org",))).records
    assert [(account.id, account.human_id) for account in contact.accounts] == [
        (main["ObjectID"], main["AccountID"]),
        (other["ObjectID"], other["AccountID"]),
    ]
    assert contact.values["account"] == main["Name"]


def test_cards_show_names_and_texts_instead_of_codes(c4c: C4C, world: World) -> None:
    account = next(iter(world.crm.rows("CorporateAccountCollection").values()))
    account["RoleCode"] = "BUP002"
    lead = next(iter(world.crm.rows("LeadCollection").values()))
    answer = c4c.look_up(Question((account["Email"], lead["ContactEMail"]), leads=True))
    shown = {record.type: record for record in answer.records}
    owner = row_of(world, "EmployeeCollection", EmployeeID=account["OwnerID"])
    assert shown["account"].values == {
        "city": account["City"],
        "phone": account["Phone"],
        "role": "Prospect",
        "owner": f"{owner['FirstName']} {owner['LastName']}",
    }
    assert shown["lead"].values["status"] == "Open"
    assert set(shown["lead"].values) == set(CARD_FIELDS["lead"])
    assert shown["lead"].title == lead["Name"]


def test_leads_are_asked_for_only_when_enabled(c4c: C4C, tenant: Tenant, world: World) -> None:
    address = next(iter(world.crm.rows("LeadCollection").values()))["ContactEMail"]
    assert [r.type for r in c4c.look_up(Question((address,), leads=True)).records] == ["lead"]
    assert c4c.look_up(Question((address,))).records == ()
    assert "GET LeadCollection" not in tenant.calls()[-1].parts


def test_colleagues_are_told_apart(c4c: C4C, world: World) -> None:
    answer = c4c.look_up(Question((world.people[1].email, "stranger@example.org")))
    assert answer.employees == {world.people[1].email}
    assert answer.records == ()


def test_spelling_must_be_asked_for_or_known_by_id(c4c: C4C, world: World) -> None:
    row = contact_of(world, Email="Mixed.Case@Harrowgate-Pumps.Example")
    low = row["Email"].lower()
    assert c4c.look_up(Question((low,))).records == ()
    assert found(c4c.look_up(Question((low, row["Email"]))).records) == {("contact", row["ObjectID"])}
    known = Question((low,), known={"contact": (row["ObjectID"].lower(), "0" * 32)})
    (record,) = c4c.look_up(known).records
    assert (record.id, record.addresses) == (row["ObjectID"], (row["Email"],))


def test_record_found_twice_is_listed_once(c4c: C4C, world: World) -> None:
    row = contact_of(world, Email="Mixed.Case@Harrowgate-Pumps.Example")
    answer = c4c.look_up(Question((row["Email"],), known={"contact": (row["ObjectID"],)}))
    assert found(answer.records) == {("contact", row["ObjectID"])}


def test_wildcards_and_control_characters_list_nobody(c4c: C4C, tenant: Tenant) -> None:
    hostile = ("*", "*@*", "a\x00@example.com", "x@example.com\r\nDELETE EMailCollection HTTP/1.1")
    answer = c4c.look_up(Question(hostile))
    assert (answer.records, answer.not_asked, answer.requests) == ((), frozenset(hostile), 0)
    assert tenant.calls() == []


def test_quotes_in_an_address_do_not_widen_the_question(c4c: C4C) -> None:
    answer = c4c.look_up(Question(("x' or Email ne '", "x') or (Email ne '")))
    assert (answer.records, answer.failed) == ((), {})


def test_save_state_comes_with_the_lookup(c4c: C4C, world: World) -> None:
    opportunity = next(iter(world.crm.rows("OpportunityCollection").values()))
    contact = next(iter(world.crm.rows("ContactCollection").values()))
    older = seed(world, "EMailCollection", GroupwareItemID="<twice@example.com>", ID="99", MainAccountPartyID="1000001")
    newer = seed(world, "EMailCollection", GroupwareItemID="<twice@example.com>", ID="100")
    seed(world, "EMailInvolvedPartiesCollection", parent=older, PartyID=contact["ContactID"], RoleCode="1015")
    seed(world, "EMailBTDReferenceCollection", parent=older, ID=opportunity["ID"], TypeCode="72", RoleCode="1")
    first, second = c4c.look_up(Question((), message_key="<twice@example.com>")).activities
    assert (first.id, second.id) == (older["ObjectID"], newer["ObjectID"])
    assert first.message_key == "<twice@example.com>"
    assert first.parties == {contact["ContactID"], "1000001"}
    assert first.references == {opportunity["ID"]}
    assert first.documents == {("opportunity", opportunity["ID"])}
    assert (second.parties, second.references) == (frozenset(), frozenset())


def test_empty_answer_to_many_addresses_is_unproven_until_verified(c4c: C4C, tenant: Tenant, world: World) -> None:
    row = contact_of(world, Email=SHARED)
    world.faults.append(Fault("c4c", "silent_empty", "ContactCollection", times=1))
    addresses = (SHARED, "stranger@example.org")
    answer = c4c.look_up(Question(addresses))
    assert "contact" not in {r.type for r in answer.records}
    assert "contact" in answer.unproven
    verified = c4c.verify(addresses, answer.unproven)
    assert ("contact", row["ObjectID"]) in found(verified.records)
    assert verified.unproven == frozenset()
    assert [a.path.rpartition("/")[2] for a in tenant.calls()] == ["$batch", "$batch"]


def test_known_id_that_was_lost_in_an_or_is_verified_too(c4c: C4C, world: World) -> None:
    row = contact_of(world, Email="Mixed.Case@Harrowgate-Pumps.Example")
    known: dict[RecordType, tuple[str, ...]] = {"contact": (row["ObjectID"], "0" * 32)}
    world.faults.append(Fault("c4c", "silent_empty", "ContactCollection", times=1))
    answer = c4c.look_up(Question(("stranger@example.org",), known=known))
    assert answer.unproven == {"contact"}
    assert found(c4c.verify((), answer.unproven, known).records) == {("contact", row["ObjectID"])}


def test_single_equality_is_proof(c4c: C4C) -> None:
    assert c4c.look_up(Question(("stranger@example.org",), leads=True)).unproven == frozenset()


def test_part_that_fails_alone_is_reported_and_harms_no_other(c4c: C4C, world: World) -> None:
    world.faults.append(Fault("c4c", "part_status", "LeadCollection", status=403))
    answer = c4c.look_up(Question((SHARED, "stranger@example.org"), leads=True))
    assert set(answer.failed) == {"lead"}
    assert SHARED not in answer.failed["lead"]
    assert "lead" not in answer.unproven
    assert len(answer.records) == 3


@pytest.mark.parametrize(("status", "error"), [(401, NeedsReauth), (403, Forbidden), (400, Rejected), (503, Transient)])
def test_lookup_fails_when_every_part_does(c4c: C4C, world: World, status: int, error: type[Exception]) -> None:
    world.faults.append(Fault("c4c", "part_status", SERVICE, status=status, times=None))
    with pytest.raises(error):
        c4c.look_up(Question((SHARED,), leads=True, message_key="<x@example.com>"))


def test_locked_user_must_sign_in_again(c4c: C4C, world: World, me: Person) -> None:
    world.c4c.locked_users.add(me.user_id)
    with pytest.raises(NeedsReauth):
        c4c.look_up(Question((SHARED,)))


def test_more_than_a_page_is_said_to_be_truncated(c4c: C4C, world: World) -> None:
    for number in range(120):
        seed(world, "ContactCollection", LastName=f"Crowd {number}", Email="crowd@example.org")
    answer = c4c.look_up(Question(("crowd@example.org",)))
    assert answer.truncated == {"contact"}
    assert len(answer.records) == 100


def test_records_of_others_stay_hidden(c4c: C4C, tenant: Tenant, world: World) -> None:
    row = contact_of(world, ContactID=next(r for r in world.crm.rows("ContactCollection").values())["ContactID"])
    world.crm.visible_to[row["ObjectID"]] = frozenset({world.people[1].user_id})
    assert c4c.look_up(Question((row["Email"],), known={"contact": (row["ObjectID"],)})).records == ()
    assert found(tenant.c4c(world.people[1]).look_up(Question((row["Email"],))).records) == {("contact", row["ObjectID"])}


def test_parallel_reads_answer_the_same(tenant: Tenant, world: World, me: Person) -> None:
    question = Question((SHARED, world.people[1].email), message_key="<x@example.com>", leads=True)
    batched = tenant.c4c(me).look_up(question)
    before = len(tenant.calls())
    parallel = tenant.c4c(me, parallel=True).look_up(question)
    calls = tenant.calls()[before:]
    assert {call.method for call in calls} == {"GET"}
    assert len(calls) == parallel.requests == 6
    assert found(parallel.records) == found(batched.records)
    assert (parallel.employees, parallel.unproven) == (batched.employees, batched.unproven)


def test_parallel_questions_that_are_too_long_for_a_url_go_into_one_batch(tenant: Tenant, me: Person) -> None:
    many = tuple(f"nobody.{number}@somewhere-rather-long.example.org" for number in range(60))
    tenant.c4c(me, parallel=True).look_up(Question((*many, SHARED)))
    (call,) = tenant.calls()
    assert call.path.endswith("/$batch")


def test_parallel_part_that_fails_alone_harms_no_other(tenant: Tenant, world: World, me: Person) -> None:
    world.faults.append(Fault("c4c", "part_status", "LeadCollection", status=403))
    answer = tenant.c4c(me, parallel=True).look_up(Question((SHARED,), leads=True))
    assert (set(answer.failed), len(answer.records)) == ({"lead"}, 3)


# Records by id and by number


def every_type(world: World) -> list[RecordRef]:
    account = next(iter(world.crm.rows("CorporateAccountCollection").values()))["AccountID"]
    seed(world, "SalesQuoteCollection", Name="Quote", BuyerPartyID=account)
    seed(world, "CustomerOrderCollection", Name="Order", BuyerPartyID=account)
    at = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)
    seed(world, "VisitCollection", Subject="Visit", StartDateTime=at)
    seed(world, "PhoneCallCollection", Subject="Call", StartDateTime=at, Status="1")
    seed(world, "TasksCollection", Subject="Task", DueDateTime=at)
    sets: dict[RecordType, str] = {
        "contact": "ContactCollection",
        "individual_customer": "IndividualCustomerCollection",
        "account": "CorporateAccountCollection",
        "lead": "LeadCollection",
        "opportunity": "OpportunityCollection",
        "ticket": "ServiceRequestCollection",
        "quote": "SalesQuoteCollection",
        "order": "CustomerOrderCollection",
        "appointment": "AppointmentCollection",
        "visit": "VisitCollection",
        "phone_call": "PhoneCallCollection",
        "task": "TasksCollection",
    }
    return [RecordRef(type, next(iter(world.crm.rows(name)))) for type, name in sets.items()]


def test_records_of_every_type_come_in_one_batch_and_in_order(c4c: C4C, tenant: Tenant, world: World) -> None:
    refs = every_type(world)
    records = c4c.records(refs)
    assert [record.ref for record in records] == refs
    assert {record.type for record in records} == set(RECORD_TYPES)
    assert all(record.title and record.human_id for record in records)
    assert all(set(record.values) <= set(CARD_FIELDS[record.type]) for record in records)
    assert len(tenant.calls()) == 1
    call = next(record for record in records if record.type == "phone_call")
    assert (call.values["start"], call.values["status"]) == ("2026-11-22T08:30:00Z", "Open")


def test_missing_and_hidden_records_are_left_out(c4c: C4C, world: World) -> None:
    refs = every_type(world)
    world.crm.visible_to[refs[0].id] = frozenset({"SOMEBODY"})
    gone = [RecordRef("contact", "0" * 32), RecordRef("ticket", "F" * 32)]
    assert [record.ref for record in c4c.records([*gone, *refs])] == refs[1:]
    assert c4c.records([]) == []


def test_records_lost_by_an_or_are_asked_one_by_one(c4c: C4C, tenant: Tenant, world: World) -> None:
    refs = [RecordRef("contact", id) for id in list(world.crm.rows("ContactCollection"))[:3]]
    world.faults.append(Fault("c4c", "silent_empty", "ContactCollection", times=1))
    assert [record.ref for record in c4c.records(refs)] == refs
    assert [len(call.parts) for call in tenant.calls()] == [1, 3]


def test_names_of_links_that_no_address_matched(c4c: C4C, tenant: Tenant, world: World) -> None:
    contact = next(iter(world.crm.rows("ContactCollection").values()))
    customer = next(iter(world.crm.rows("IndividualCustomerCollection").values()))
    ticket = next(iter(world.crm.rows("ServiceRequestCollection").values()))
    named = c4c.named([contact["ContactID"], customer["CustomerID"], "404"], [("ticket", ticket["ID"]), ("lead", "404")])
    assert {(r.type, r.title) for r in named} == {
        ("contact", contact["Name"]),
        ("individual_customer", customer["FormattedName"]),
        ("ticket", ticket["Name"]),
    }
    assert len(tenant.calls()) == 1
    assert c4c.named([], []) == []


# The tenant


def test_the_user_is_who_signed_in(c4c: C4C, me: Person) -> None:
    mine = c4c.who_am_i()
    assert (mine.user_id, mine.employee_id, mine.email, mine.is_locked) == (me.user_id, me.employee_id, me.email, False)


def test_code_lists_tell_wrong_codes(c4c: C4C, tenant: Tenant) -> None:
    lists = c4c.code_lists()
    assert lists["EMailDirectionCollection"]["3"] == "Inbound"
    assert CODES.unknown(lists) == []
    wrong = type(CODES)(direction_incoming="1", direction_outgoing="4", note_type="10002", reference={"lead": ("99", "6")})
    assert wrong.unknown(lists) == ["direction_incoming: 1", "reference lead: 99"]
    assert len(tenant.calls()) == 1


def all_addresses(c4c: C4C, since: datetime | None = None, *, page: int = 7) -> list[tuple[str, str, datetime | None]]:
    rows: list[tuple[str, str, datetime | None]] = []
    got: AddressPage = c4c.addresses("contact", since, page=page)
    while got.rows:
        rows += got.rows
        got = c4c.addresses("contact", after=got.after, page=page)
    return rows


@pytest.mark.parametrize("page", [1, 7, 1000])
def test_every_address_is_listed_once_even_when_all_changed_at_once(c4c: C4C, world: World, page: int) -> None:
    contacts = visible_contacts(world)
    at = contacts[0]["EntityLastChangedOn"].replace(microsecond=123000)
    for contact in contacts[3:15]:
        contact["EntityLastChangedOn"] = at
    rows = all_addresses(c4c, page=page)
    assert sorted((id, address) for id, address, _ in rows) == sorted((c["ObjectID"], c["Email"]) for c in contacts)
    moments = [moment for *_, moment in rows if moment]
    assert moments == sorted(moments)


def test_only_what_changed_since_is_listed(c4c: C4C, world: World) -> None:
    contacts = visible_contacts(world)
    now = world.now()
    contacts[4]["EntityLastChangedOn"] = now + timedelta(seconds=5)
    assert [id for id, *_ in all_addresses(c4c, now)] == [contacts[4]["ObjectID"]]


def test_record_that_changes_meanwhile_hides_no_other(c4c: C4C, world: World) -> None:
    contacts = sorted(visible_contacts(world), key=lambda c: (c["EntityLastChangedOn"], c["ObjectID"]))
    first = c4c.addresses("contact", page=5)
    contacts[0]["EntityLastChangedOn"] = world.now() + timedelta(minutes=1)
    seen = [id for id, *_ in first.rows]
    while first.rows:
        first = c4c.addresses("contact", after=first.after, page=5)
        seen += [id for id, *_ in first.rows]
    assert set(seen) == {contact["ObjectID"] for contact in contacts}


def test_foreign_cursors_and_types_without_addresses_are_refused(c4c: C4C) -> None:
    for after in ("", "x", "yesterday|1", "|x"):
        with pytest.raises(InvalidInput):
            c4c.addresses("contact", after=after)
    with pytest.raises(InvalidInput):
        c4c.addresses("ticket")
