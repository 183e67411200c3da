"""What a person finds, looks at and creates: in one request, as that person, and nothing twice."""

import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
from werkzeug.test import TestResponse

from server.services import Deps, connections, records
from simulator.c4c.odata import SERVICE
from simulator.c4c.records import seed
from simulator.mail_cases import BLOCKLISTED_DOMAIN
from simulator.world import Fault, Latency, Row, World
from tests.api import Api, c4c_calls, row_of

Forward = Callable[..., None]
Values = dict[str, str]

BATCH = "POST " + SERVICE + "$batch"
CONTACTS, ACCOUNTS = "ContactCollection", "CorporateAccountCollection"
SETS = {"contact": CONTACTS, "account": ACCOUNTS, "individual_customer": "IndividualCustomerCollection", "lead": "LeadCollection"}
ROSA: Values = {"given_name": "Rosa", "surname": "Quandt", "email": "rosa@quandt-dock.example", "phone": "+49 431 555-10"}
FORMS: dict[str, Values] = {
    "contact": {**ROSA, "job_title": "Dockmaster", "mobile": "+49 151 555"},
    "individual_customer": {**ROSA, "mobile": "+49 151 555"},
    "account": {"company": "Quandt Dock GmbH", "email": "info@quandt-dock.example", "city": "Kiel", "country": "Germany"},
    "lead": {**ROSA, "subject": "A dock for Rosa", "company": "Quandt Dock GmbH"},
}


def search(person: Api, text: str) -> dict[str, Any]:
    response = person.get(f"/search?q={quote(text)}")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json
    return found


def titles(found: dict[str, Any]) -> list[str]:
    return [record["title"] for record in found["records"]]


def look(person: Api, kind: str, row: Row | str) -> dict[str, Any]:
    object_id = row if isinstance(row, str) else row["ObjectID"]
    response = person.get(f"/records/{kind}/{object_id}")
    assert response.status_code == 200, response.text
    seen: dict[str, Any] = response.json
    return seen


def create(person: Api, kind: str, values: Values, key: str | None = None) -> TestResponse:
    return person.post(f"/records/{kind}", {"key": key or secrets.token_hex(16), "values": values})


def person_row(world: World, first: str, last: str, **more: Any) -> Row:
    return seed(world, CONTACTS, FirstName=first, LastName=last, StatusCode="2", **more)


def made(world: World) -> list[tuple[str, str]]:
    """What was created in C4C, children left out: (entity set, ObjectID)."""
    return [(e.detail["set"], e.detail["id"]) for e in world.events("c4c", "create") if e.detail["set"] in SETS.values()]


def set_profile(deps: Deps, person: Api, **values: Any) -> None:
    organization = connections.identify(deps, person.simulator.bearer(person.person)).principal.organization
    profile = replace(organization.profile, **values)
    with deps.store.transaction() as tx:
        tx.put_organization(
            organization.tenant_id, organization.name, organization.access_type, organization.admin_contact, profile
        )


# Finding


@pytest.mark.parametrize(
    "text",
    [
        "Özgür",
        "özgür",
        "ÖZGÜR",
        "o\u0308zgu\u0308r",
        "de vries",
        "Özgür de Vries",
        "vries özgür",
        "  özg*vries ",
        "\u200fÖzgür\u200e",
    ],
)
def test_a_name_is_found_however_it_is_typed(me: Api, world: World, text: str) -> None:
    row = person_row(world, "Özgür", "de Vries")
    person_row(world, "Ozgur", "Anderson")
    found = search(me, text)
    assert [record["id"] for record in found["records"]] == [row["ObjectID"]]
    assert (found["more"], found["failed"]) == (False, [])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SAP SE", "sap"),
        ("SAP SE", "sap se"),
        ("eBay", "eBay"),
        ("Wolkenreisser", "REISSER"),
        ("O'Brien & D'Angelo", "o'brien & d'angelo"),
        ("Müller-Lüdenscheid", "müller-lüdenscheid"),
        ("AT&T", "at&t"),
        ("3M", "3m"),
        ("4711 Wasser", "4711"),
        ("von der Au", "VON DER AU"),
    ],
)
def test_a_company_is_found_however_it_is_typed(me: Api, world: World, name: str, text: str) -> None:
    row = seed(world, ACCOUNTS, Name=name, RoleCode="CRM000")
    assert [record["id"] for record in search(me, text)["records"]] == [row["ObjectID"]]


@pytest.mark.parametrize("text", ["anna.lead@fjord.example", "Anna.Lead@Fjord.example", "@fjord.example", "fjord.example"])
def test_an_address_or_a_part_of_it_finds_everybody_behind_it(me: Api, world: World, text: str) -> None:
    seed(world, ACCOUNTS, Name="Nord", RoleCode="CRM000", Email="anna.lead@fjord.example")
    seed(world, "IndividualCustomerCollection", LastName="Berg", RoleCode="CRM000", Email="anna.lead@fjord.example")
    seed(world, "LeadCollection", Name="Boats", ContactEMail="anna.lead@fjord.example")
    person_row(world, "Anna", "Lead", Email="anna.lead@fjord.example")
    assert {record["type"] for record in search(me, text)["records"]} == set(SETS)


def test_an_address_that_c4c_spells_in_its_own_way_is_found_once_it_was_seen(me: Api, world: World) -> None:
    row = person_row(world, "Mia", "Case", Email="Mia.Case@Fjord.example")
    item = {**me.item("known_contact"), "from": {"name": "", "address": "Mia.Case@Fjord.example"}}
    assert search(me, "mia.case@fjord.example")["records"] == []
    assert [card["id"] for card in me.context(item)["cards"]] == [row["ObjectID"]]
    assert titles(search(me, "MIA.CASE@fjord.example")) == ["Mia Case"]


@pytest.mark.parametrize("text", ["+49 69 1234-567", "069 1234567", "0049 (0)69/1234567", "1234 567", "+496912345"])
def test_a_telephone_number_is_found_however_it_is_written(me: Api, world: World, text: str) -> None:
    row = person_row(world, "Paul", "Phone", Phone="+49 69 1234-567")
    customer = seed(world, "IndividualCustomerCollection", LastName="Mobil", RoleCode="CRM000", Mobile="+49 (69) 1234567")
    person_row(world, "Other", "Phone", Phone="+49 69 7654-321")
    assert {record["id"] for record in search(me, text)["records"]} == {row["ObjectID"], customer["ObjectID"]}


def test_a_search_is_one_request_and_soon_again_none(me: Api, world: World) -> None:
    before = len(c4c_calls(world))
    first = search(me, "harrow")
    (call,) = c4c_calls(world, before)
    assert (call.method, call.path) == ("POST", SERVICE + "$batch")
    assert len(call.parts) <= 25  # half of what SAP advises for one batch
    assert search(me, " harrow ") == first
    assert len(c4c_calls(world, before)) == 1
    assert titles(first) == ["Harrowgate Pumps Ltd"]


def test_what_is_called_so_comes_first_then_what_begins_so(me: Api, world: World) -> None:
    for first, last in (("Eva", "Grimm"), ("Grim", "Reaper"), ("Agrim", "Singh")):
        person_row(world, first, last)
    seed(world, ACCOUNTS, Name="Grim", RoleCode="CRM000")
    assert titles(search(me, "grim")) == ["Grim", "Grim Reaper", "Eva Grimm", "Agrim Singh"]


def test_what_is_called_so_is_found_among_two_hundred_that_come_before_it(me: Api, world: World) -> None:
    for number in range(200):
        person_row(world, "Anna", f"Grimm {number:03d}")
    person_row(world, "Grimm", "Zacharias")
    found = search(me, "grimm")
    assert (titles(found)[0], len(found["records"]), found["more"]) == ("Grimm Zacharias", 50, True)


def test_of_two_hundred_matches_fifty_are_shown_and_no_type_crowds_out_another(me: Api, world: World) -> None:
    for number in range(200):
        person_row(world, "Dora", f"Double {number:03d}")
    for number in range(3):
        seed(world, ACCOUNTS, Name=f"Double {number} AG", RoleCode="CRM000")
    found = search(me, "double")
    kinds = [record["type"] for record in found["records"]]
    assert (len(kinds), kinds.count("account"), found["more"]) == (50, 3, True)
    assert titles(found)[:3] == ["Double 0 AG", "Double 1 AG", "Double 2 AG"]
    assert titles(found)[3:] == [f"Dora Double {number:03d}" for number in range(47)]
    assert search(me, "double 19")["more"] is False


def test_exactly_fifty_matches_are_all(me: Api, world: World) -> None:
    for number in range(50):
        person_row(world, "Fay", f"Fifty {number}")
    found = search(me, "fifty")
    assert (len(found["records"]), found["more"]) == (50, False)


def test_leads_are_searched_only_where_they_are_enabled(me: Api, deps: Deps, world: World) -> None:
    seed(world, "LeadCollection", Name="Zephyr: a first talk", Company="Zephyr", ContactLastName="Zephyr")
    assert [record["type"] for record in search(me, "zephyr")["records"]] == ["lead"]
    set_profile(deps, me, leads_enabled=False)
    assert search(me, "zephyr")["records"] == []


@pytest.mark.parametrize(
    "text",
    [
        "x' or Email ne 'y@z.example",
        "'') or startswith(Name,'A",
        "O'Brien & Sons; $top=1000 #%27",
        "%25' eq '%",
        "eq ne and or not null",
        "مرحبا \u202eabc\u202c שלום",
        "👩‍🚀🚀",
        "<img src=x onerror=alert(1)>",
        "a\x00b\nc\td\u2028e",
        "\ufffe\uffff\ud7ff aa",
        "--boundary\r\n\r\nGET EMailCollection",
        "w " * 100,
    ],
)
def test_hostile_text_is_only_text(me: Api, world: World, text: str) -> None:
    person_row(world, "Plain", "Person")
    before = len(c4c_calls(world))
    found = search(me, text)
    assert (found["more"], found["failed"]) == (False, [])
    assert "Plain Person" not in titles(found)
    assert all(call.status == 202 for call in c4c_calls(world, before))


@pytest.mark.parametrize("name", ['O\'Brien & "Sons" %27', "שרה כהן", "陳", "🚀 Rocket", "A*B eq 'C'"])
def test_a_hostile_name_is_found_by_itself(me: Api, world: World, name: str) -> None:
    row = person_row(world, "", name)
    assert [record["id"] for record in search(me, name)["records"]] == [row["ObjectID"]]


@pytest.mark.parametrize("text", ["", "a", "*", "***", "%", " \u200b\u200f ", "()", "x" * 201, "ü" * 4_000])
def test_a_text_that_finds_everything_or_nothing_is_refused_before_c4c_is_asked(me: Api, world: World, text: str) -> None:
    response = me.get(f"/search?q={quote(text)}")
    assert (response.status_code, response.json["code"], response.json["field"]) == (422, "invalid", "q")
    assert c4c_calls(world) == []


# Looking


def test_a_contact_is_shown_with_labels_and_its_accounts_in_one_request(me: Api, world: World) -> None:
    row = row_of(world, CONTACTS, Email=me.item("known_contact")["from"]["address"])
    account = row_of(world, ACCOUNTS, AccountID=row["AccountID"])
    owner = row_of(world, "EmployeeCollection", EmployeeID=row["ContactOwnerID"])
    opportunities = [
        r for r in world.crm.rows("OpportunityCollection").values() if r["PrimaryContactPartyID"] == row["ContactID"]
    ]
    search(me, row["Name"])
    before = len(c4c_calls(world))
    seen = look(me, "contact", row["ObjectID"].lower())
    assert len(c4c_calls(world, before)) == 1
    assert {field["label"]: field["value"] for field in seen["record"]["fields"]} == {
        "Account": account["Name"],
        "Job title": row["JobTitle"],
        "Department": row["Department"],
        "E-mail": row["Email"],
        "Phone": row["Phone"],
        "Mobile": row["Mobile"],
        "Owner": f"{owner['FirstName']} {owner['LastName']}",
    }
    assert (seen["record"]["title"], row["ContactID"] in seen["record"]["url"]) == (row["Name"], True)
    first, *others = seen["related"]
    assert (first["type"], first["id"]) == ("account", account["ObjectID"])
    assert {one["id"] for one in others} == {one["ObjectID"] for one in opportunities}


def test_an_account_and_an_individual_customer_are_shown_with_all_that_c4c_has(me: Api, world: World) -> None:
    reached = {"Email": "a@b.example", "Phone": "+49 1", "Fax": "+49 2", "WebSite": "https://b.example", "City": "Kiel"}
    reached |= {"FormattedPostalAddressDescription": "Quay 1 / 24103 Kiel / DE", "RoleCode": "CRM000"}
    account = seed(world, ACCOUNTS, Name="Quay", **reached)
    customer = seed(world, SETS["individual_customer"], LastName="Quay", Mobile="+49 3", **reached)
    shared = ["E-mail", "Phone", "Fax", "Web site", "City", "Address"]
    for kind, row, labels in (("account", account, ["Role", *shared]), ("individual_customer", customer, [*shared, "Mobile"])):
        fields = {field["label"]: field["value"] for field in look(me, kind, row)["record"]["fields"]}
        assert sorted(fields) == sorted(labels)
        assert (fields["Address"], fields["Web site"]) == ("Quay 1 / 24103 Kiel / DE", "https://b.example")


@pytest.fixture
def dockyard(world: World) -> Row:
    """An account with two contacts, two open opportunities and one that was won."""
    account = seed(world, ACCOUNTS, Name="Dockyard", RoleCode="CRM000")
    for name in ("Bob", "Ann"):
        row = person_row(world, name, "Docker", AccountID=account["AccountID"])
        seed(world, "ContactIsContactPersonForCollection", parent=row, AccountID=account["AccountID"], ReverseMainIndicator=True)
    for name, status in (("A crane", "1"), ("A dock", "2"), ("A boat, sold", "4")):
        seed(world, "OpportunityCollection", Name=name, LifeCycleStatusCode=status, ProspectPartyID=account["AccountID"])
    return account


def test_an_account_is_shown_with_its_contacts_and_open_opportunities(me: Api, dockyard: Row, world: World) -> None:
    assert titles(search(me, "dockyard")) == ["Dockyard"]
    before = len(c4c_calls(world))
    seen = look(me, "account", dockyard)
    assert len(c4c_calls(world, before)) == 1
    assert [(one["type"], one["title"]) for one in seen["related"]] == [
        ("contact", "Ann Docker"),
        ("contact", "Bob Docker"),
        ("opportunity", "A crane"),
        ("opportunity", "A dock"),
    ]
    assert look(me, "account", dockyard) == seen
    assert len(c4c_calls(world, before)) == 1


def test_what_was_not_seen_before_costs_a_second_request_for_its_opportunities(me: Api, dockyard: Row, world: World) -> None:
    before = len(c4c_calls(world))
    seen = look(me, "account", dockyard)
    assert len(c4c_calls(world, before)) == 2
    assert [one["title"] for one in seen["related"]] == ["Ann Docker", "Bob Docker", "A crane", "A dock"]


def test_what_belongs_to_a_record_is_shown_only_to_who_may_see_it(me: Api, colleague: Api, dockyard: Row, world: World) -> None:
    for entity_set, name, value in ((CONTACTS, "FirstName", "Bob"), ("OpportunityCollection", "Name", "A crane")):
        hidden = row_of(world, entity_set, **{name: value})
        world.crm.visible_to[hidden["ObjectID"]] = frozenset({colleague.person.user_id})
    assert [one["title"] for one in look(me, "account", dockyard)["related"]] == ["Ann Docker", "A dock"]
    assert len(look(colleague, "account", dockyard)["related"]) == 4


def test_every_type_of_record_can_be_looked_at(me: Api, world: World) -> None:
    for kind, entity_set in {
        "lead": "LeadCollection",
        "opportunity": "OpportunityCollection",
        "ticket": "ServiceRequestCollection",
    }.items():
        row = next(iter(world.crm.rows(entity_set).values()))
        seen = look(me, kind, row)
        assert (seen["record"]["title"], seen["related"]) == (row["Name"], [])
        assert seen["record"]["fields"]


def test_a_record_that_one_may_not_see_looks_like_one_that_never_was(me: Api, colleague: Api, world: World) -> None:
    row = person_row(world, "Secret", "Person", Email="secret@person.example")
    account = next(iter(world.crm.rows(ACCOUNTS).values()))
    assert look(me, "contact", row)["record"]["title"] == "Secret Person"
    world.crm.visible_to[row["ObjectID"]] = frozenset({me.person.user_id})
    assert look(me, "contact", row)["record"]["title"] == "Secret Person"
    answers = []
    for kind, object_id in (
        ("contact", row["ObjectID"]),
        ("contact", "00163E" + "0" * 26),
        ("contact", "'" * 32),
        ("contact", "*" * 32),
        ("contact", account["ObjectID"]),
        ("account", row["ObjectID"]),
    ):
        response = colleague.get(f"/records/{kind}/{quote(object_id)}")
        body = {name: value for name, value in response.json.items() if name != "request_id"}
        answers.append((response.status_code, body))
    assert answers[0][0] == 404
    assert all(answer == answers[0] for answer in answers)
    for text in ("secret", "secret@person.example"):
        assert titles(search(me, text)) == ["Secret Person"]
        assert search(colleague, text)["records"] == []
    assert colleague.get(f"/records/employee/{row['ObjectID']}").status_code == 404


# When C4C is slow, away or refuses


@pytest.mark.parametrize("path", ["/search?q=harrow", "/records/account/00163E0000000000000000000000000B"])
@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ({"kind": "status", "status": 503}, 503, "unavailable"),
        ({"kind": "status", "status": 429, "retry_after_s": 60}, 503, "busy"),
        ({"kind": "status", "status": 403}, 403, "c4c_forbidden"),
        ({"kind": "drop"}, 503, "unavailable"),
        ({"kind": "garbage"}, 503, "unavailable"),
        ({"kind": "html"}, 503, "unavailable"),
    ],
)
def test_what_c4c_does_not_answer_is_said_and_asked_again(
    me: Api, world: World, path: str, fault: dict[str, Any], status: int, code: str
) -> None:
    world.faults.append(Fault("c4c", match=BATCH, times=None, **fault))
    response = me.get(path)
    assert (response.status_code, response.json["code"]) == (status, code), response.text
    world.faults.clear()
    assert me.get(path).status_code == 200


def test_the_answer_of_a_slow_c4c_is_there_for_the_next_call(
    api: Callable[..., Api], process: Callable[..., Deps], world: World
) -> None:
    me = api(at=process(context_deadline_s=0.2))
    me.get("/me")
    world.latency["c4c"] = Latency(base_ms=600)
    started = time.perf_counter()
    slow = me.get("/search?q=harrow")
    assert time.perf_counter() - started < 0.5
    assert (slow.status_code, slow.json["code"], slow.json["retry_after_s"]) == (503, "unavailable", 1)
    found = [me.get("/search?q=harrow") for _ in range(20)]
    assert [record["title"] for record in found[-1].json["records"]] == ["Harrowgate Pumps Ltd"]
    assert len([call for call in c4c_calls(world) if call.path.endswith("$batch")]) == 1


def test_a_type_that_c4c_does_not_answer_for_is_named_and_not_kept(me: Api, world: World) -> None:
    person_row(world, "Har", "Row")
    world.faults.append(Fault("c4c", "part_status", "GET " + SERVICE + ACCOUNTS, status=500, times=None))
    found = search(me, "har")
    assert (found["failed"], "Har Row" in titles(found)) == (["account"], True)
    world.faults.clear()
    found = search(me, "har")
    assert (found["failed"], "Harrowgate Pumps Ltd" in titles(found)) == ([], True)


# Creating


@pytest.mark.parametrize("kind", FORMS)
def test_a_record_is_created_from_its_form_for_who_clicked(me: Api, world: World, kind: str) -> None:
    response = create(me, kind, FORMS[kind])
    assert response.status_code == 201, response.text
    ((entity_set, object_id),) = made(world)
    row = world.crm.rows(entity_set)[object_id]
    assert (entity_set, response.json["type"], response.json["id"]) == (SETS[kind], kind, object_id)
    expected = {
        "contact": {
            "FirstName": "Rosa",
            "LastName": "Quandt",
            "Email": ROSA["email"],
            "Phone": ROSA["phone"],
            "Mobile": "+49 151 555",
        }
        | {"JobTitle": "Dockmaster", "ContactOwnerID": me.person.employee_id},
        "individual_customer": {
            "FirstName": "Rosa",
            "LastName": "Quandt",
            "RoleCode": "CRM000",
            "OwnerID": me.person.employee_id,
        },
        "account": {"Name": "Quandt Dock GmbH", "City": "Kiel", "CountryCode": "DE", "OwnerID": me.person.employee_id},
        "lead": {
            "Name": "A dock for Rosa",
            "ContactLastName": "Quandt",
            "ContactEMail": ROSA["email"],
            "Company": "Quandt Dock GmbH",
        }
        | {"OwnerPartyID": me.person.employee_id},
    }[kind]
    assert {name: row[name] for name in expected} == expected
    shown = look(me, kind, object_id)["record"]
    assert (shown["title"], shown["url"]) == (response.json["title"], response.json["url"])
    values = {field["name"]: field["value"] for field in shown["fields"]}
    assert {field["name"]: field["value"] for field in response.json["fields"]}.items() <= values.items()


def test_who_was_not_found_is_known_as_soon_as_created_in_every_process(
    me: Api, api: Callable[..., Api], process: Callable[..., Deps], world: World
) -> None:
    elsewhere = api(at=process())
    item = {**me.item("unknown_sender"), "from": {"name": "Rosa", "address": "Rosa@Quandt-Dock.example"}}
    twin = {**item, "from": {"name": "Rosa", "address": "rosa@quandt-dock.example"}}
    for person in (me, elsewhere):
        assert [one["address"] for one in person.context(item)["unknown"]] == ["Rosa@Quandt-Dock.example"]
        assert search(person, "quandt")["records"] == []
    assert create(me, "contact", {**ROSA, "email": "Rosa@Quandt-Dock.example"}).status_code == 201
    for person in (me, elsewhere):
        for asked in (item, twin):
            context = person.context(asked)
            assert ([card["title"] for card in context["cards"]], context["unknown"]) == (["Rosa Quandt"], [])
        assert titles(search(person, "quandt")) == ["Rosa Quandt"]


@pytest.mark.parametrize("kind", FORMS)
def test_the_same_key_makes_no_second_record(
    me: Api, api: Callable[..., Api], process: Callable[..., Deps], forward: Forward, world: World, kind: str
) -> None:
    key = secrets.token_hex(16)
    first = create(me, kind, FORMS[kind], key)
    again = create(me, kind, FORMS[kind], key)
    elsewhere = create(api(at=process()), kind, FORMS[kind], key)
    forward(minutes=50)
    later = create(me, kind, FORMS[kind], key)
    answers = [first, again, elsewhere, later]
    assert [answer.status_code for answer in answers] == [201] * 4
    assert {answer.json["id"] for answer in answers} == {first.json["id"]}
    assert len(made(world)) == 1


def test_two_clicks_at_the_same_time_make_one_record(me: Api, world: World) -> None:
    key = secrets.token_hex(16)
    world.latency["c4c"] = Latency(base_ms=50)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: create(me, "contact", ROSA, key), range(4)))
    assert [answer.status_code for answer in answers] == [201] * 4
    assert len({answer.json["id"] for answer in answers}) == len(made(world)) == 1


def test_a_key_is_its_owners_only(me: Api, colleague: Api, world: World) -> None:
    key = secrets.token_hex(16)
    mine, theirs = (create(person, "account", FORMS["account"], key) for person in (me, colleague))
    assert (mine.status_code, theirs.status_code) == (201, 201)
    assert mine.json["id"] != theirs.json["id"]
    assert [row["OwnerID"] for row in (world.crm.rows(ACCOUNTS)[a.json["id"]] for a in (mine, theirs))] == [
        me.person.employee_id,
        colleague.person.employee_id,
    ]


def test_another_person_of_the_same_name_is_another_record(me: Api, world: World) -> None:
    first = create(me, "contact", ROSA)
    other = create(me, "contact", {**ROSA, "email": "rosa.quandt@elsewhere.example"})
    assert first.json["id"] != other.json["id"]
    assert len(made(world)) == 2


@pytest.mark.parametrize("kind", FORMS)
def test_a_create_whose_answer_is_lost_is_looked_for(me: Api, world: World, kind: str) -> None:
    world.faults.append(Fault("c4c", "acted_drop", "POST " + SERVICE + SETS[kind]))
    response = create(me, kind, FORMS[kind])
    assert response.status_code == 201, response.text
    assert made(world) == [(SETS[kind], response.json["id"])]


@pytest.mark.parametrize("kind", FORMS)
def test_where_nobody_can_tell_the_person_is_told_to_look_first_and_the_key_still_makes_one(
    me: Api, world: World, kind: str
) -> None:
    key = secrets.token_hex(16)
    world.faults.append(Fault("c4c", "acted_drop", "POST " + SERVICE + SETS[kind]))
    world.faults.append(Fault("c4c", "status", "GET " + SERVICE + SETS[kind], times=None))
    lost = create(me, kind, FORMS[kind], key)
    assert (lost.status_code, lost.json["code"]) == (503, "unknown_outcome")
    assert "Look for it before you try again" in lost.json["detail"]
    world.faults.clear()
    again = create(me, kind, FORMS[kind], key)
    assert (again.status_code, made(world)) == (201, [(SETS[kind], again.json["id"])])


def test_a_create_that_takes_too_long_goes_on_and_is_found_by_its_key(
    api: Callable[..., Api], process: Callable[..., Deps], world: World
) -> None:
    me, key = api(at=process(save_deadline_s=0.1)), secrets.token_hex(16)
    me.get("/me")
    world.latency["c4c"] = Latency(base_ms=150)
    slow = create(me, "contact", ROSA, key)
    assert (slow.status_code, slow.json["code"]) == (503, "unknown_outcome")
    answers = [create(me, "contact", ROSA, key).status_code for _ in range(20)]
    assert answers[-1] == 201
    assert len(made(world)) == 1


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ({"kind": "part_status", "status": 400}, 422, "rejected"),
        ({"kind": "part_status", "status": 403}, 422, "rejected"),
        ({"kind": "status", "status": 429, "retry_after_s": 7}, 503, "busy"),
        ({"kind": "drop"}, 503, "unknown_outcome"),
    ],
)
def test_what_c4c_refuses_is_told_and_can_be_tried_again(
    me: Api, world: World, fault: dict[str, Any], status: int, code: str
) -> None:
    key = secrets.token_hex(16)
    world.faults.append(Fault("c4c", match="POST " + SERVICE + CONTACTS, times=None, **fault))
    refused = create(me, "contact", ROSA, key)
    assert (refused.status_code, refused.json["code"]) == (status, code), refused.text
    assert made(world) == []
    world.faults.clear()
    assert create(me, "contact", ROSA, key).status_code == 201
    assert len(made(world)) == 1


@pytest.mark.parametrize(
    ("kind", "values", "field"),
    [
        ("contact", {"given_name": "Rosa"}, "surname"),
        ("contact", {"surname": " \n "}, "surname"),
        ("account", {"email": "a@b.example"}, "company"),
        ("lead", {"surname": "Quandt"}, "subject"),
        ("contact", {**ROSA, "subject": "A dock"}, "subject"),
        ("individual_customer", {**ROSA, "company": "Quandt"}, "company"),
        ("contact", {**ROSA, "email": "rosa"}, "email"),
        ("contact", {**ROSA, "email": "a@b.example, c@d.example"}, "email"),
        ("contact", {**ROSA, "email": "Rosa <rosa@quandt.example>"}, "email"),
        ("contact", {**ROSA, "email": f"x@News.{BLOCKLISTED_DOMAIN}"}, "email"),
        ("opportunity", {"subject": "A dock"}, "type"),
        ("contact", {**ROSA, "surname": "x" * 1_300}, "values.surname"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_c4c_is_asked(
    me: Api, world: World, kind: str, values: Values, field: str
) -> None:
    response = create(me, kind, values)
    assert (response.status_code, response.json["code"], response.json["field"]) == (422, "invalid", field), response.text
    assert c4c_calls(world) == []


def test_nobody_creates_oneself_or_a_colleague(me: Api, colleague: Api, world: World) -> None:
    for address in (me.person.email.title(), colleague.person.email, colleague.person.email.replace("@", "+x@")):
        response = create(me, "contact", {**ROSA, "email": address})
        assert (response.status_code, response.json["field"]) == (422, "email")
    assert made(world) == []


@pytest.mark.parametrize("name", ["given_name", "surname", "phone", "job_title"])
def test_what_is_too_long_for_c4c_is_refused_and_never_cut(me: Api, world: World, name: str) -> None:
    response = create(me, "contact", {**ROSA, name: "x" * 41})
    assert (response.status_code, response.json["code"]) == (422, "rejected")
    assert "40 characters" in response.json["detail"]
    assert made(world) == []


@pytest.mark.parametrize("surname", ["O'Brien' or 1 eq 1", "כהן \u202eabc", "🚀", "<b>Quandt</b>", '"}],"x":["', "*"])
def test_a_hostile_name_is_stored_as_it_is(me: Api, world: World, surname: str) -> None:
    key = secrets.token_hex(16)
    world.faults.append(Fault("c4c", "acted_drop", "POST " + SERVICE + CONTACTS))
    response = create(me, "contact", {"surname": surname}, key)
    assert response.status_code == 201, response.text
    ((_, object_id),) = made(world)
    assert world.crm.rows(CONTACTS)[object_id]["LastName"] == surname
    assert (response.json["id"], response.json["title"]) == (object_id, surname)


def test_leads_are_created_only_where_they_are_enabled(me: Api, deps: Deps, world: World) -> None:
    set_profile(deps, me, leads_enabled=False)
    response = create(me, "lead", FORMS["lead"])
    assert (response.status_code, response.json["code"]) == (403, "leads_not_enabled")
    assert made(world) == []


def test_a_contact_joins_the_account_that_its_company_names(me: Api, world: World) -> None:
    exact = seed(world, ACCOUNTS, Name="Quandt Dock", RoleCode="CRM000")
    seed(world, ACCOUNTS, Name="Quandt Dock Holding", RoleCode="CRM000")
    unique = seed(world, ACCOUNTS, Name="Zephyr Sails International", RoleCode="CRM000")
    for company, account in (("Quandt Dock", exact), ("Zephyr Sails", unique), ("Quandt", None), ("Unheard Of", None)):
        response = create(me, "contact", {**ROSA, "email": f"rosa@{company.replace(' ', '-')}.example", "company": company})
        row = world.crm.rows(CONTACTS)[response.json["id"]]
        assert row.get("AccountID") == (account["AccountID"] if account else None), company
    assert {entity_set for entity_set, _ in made(world)} == {CONTACTS}


def test_an_account_that_is_missing_is_made_once_where_the_profile_says_so(me: Api, deps: Deps, world: World) -> None:
    set_profile(deps, me, create_accounts=True, default_country="DE")
    world.faults.append(Fault("c4c", "acted_drop", "POST " + SERVICE + ACCOUNTS))
    for name in ("Rosa", "Rolf"):
        values = {**ROSA, "given_name": name, "email": f"{name}@unheard-of.example", "company": "Unheard Of"}
        assert create(me, "contact", values).status_code == 201
    ((_, account_id),) = [one for one in made(world) if one[0] == ACCOUNTS]
    account = world.crm.rows(ACCOUNTS)[account_id]
    assert (account["Name"], account["CountryCode"], account["OwnerID"]) == ("Unheard Of", "DE", me.person.employee_id)
    contacts = [world.crm.rows(CONTACTS)[id] for entity_set, id in made(world) if entity_set == CONTACTS]
    assert [row["AccountID"] for row in contacts] == [account["AccountID"]] * 2


def test_a_create_is_two_requests(me: Api, world: World) -> None:
    before = len(c4c_calls(world))
    create(me, "contact", {**ROSA, "company": "Harrowgate Pumps Ltd"})
    assert [call.path.removeprefix(SERVICE) for call in c4c_calls(world, before)] == ["$batch", CONTACTS]


def test_nothing_is_created_without_a_click(me: Api, world: World) -> None:
    before = {name: len(rows) for name, rows in world.crm.sets.items()}
    me.context("unknown_sender", complete=True)
    me.context("unknown_sender", refresh=True)
    for record in search(me, "harrow")["records"]:
        look(me, record["type"], record["id"])
    assert list(world.events("c4c", "create")) == []
    assert {name: len(rows) for name, rows in world.crm.sets.items() if name in before} == before


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Rosa Maria Quandt", {"given_name": "Rosa Maria", "surname": "Quandt"}),
        ("Quandt, Rosa", {"given_name": "Rosa", "surname": "Quandt"}),
        ("Quandt", {"surname": "Quandt"}),
        ("", {}),
    ],
)
def test_a_form_is_filled_in_from_the_header(name: str, expected: Values) -> None:
    address = {"email": "rosa@quandt.example"}
    assert records.proposed("contact", name, "rosa@quandt.example") == expected | address
    assert records.proposed("lead", name, "rosa@quandt.example") == {"subject": name or address["email"]} | expected | address
