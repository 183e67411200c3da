"""What a lookup promises: who is on the message, in one request to C4C, as the person who asks and for nobody else."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from server.services import Deps
from simulator.c4c.odata import SERVICE
from simulator.mail_cases import BLOCKLISTED_DOMAIN
from simulator.world import Fault, Gate, Latency, World
from tests.api import Api, Item, c4c_calls, everywhere, link, links_of, only_activity, row_of
from tests.processes import eventually

NOTHING = "Nothing to save in SAP Cloud for Customer"
BATCH = "POST " + SERVICE + "$batch"

Forward = Callable[..., None]
Work = Callable[[], None]


def types(context: dict[str, Any]) -> list[str]:
    return [card["type"] for card in context["cards"]]


def matched(context: dict[str, Any]) -> dict[str, list[str]]:
    """Title of each card -> addresses that matched."""
    return {card["title"]: card["matched"] for card in context["cards"]}


def from_(address: str, item: Item, name: str = "") -> Item:
    """The same message from somebody else, as the header would say it."""
    return {**item, "from": {"name": name, "address": address}, "headers": ""}


# Who it is


@everywhere
def test_a_known_contact_has_a_card_and_so_has_the_account(me: Api, world: World) -> None:
    item = me.item("known_contact")
    context = me.context(item)
    contact = row_of(world, "ContactCollection", Email=item["from"]["address"])
    person, account = context["cards"]
    assert (person["type"], person["id"], person["title"]) == ("contact", contact["ObjectID"], contact["Name"])
    assert {f["name"]: f["value"] for f in person["fields"]} == {
        "account": contact["AccountFormattedName"],
        "job_title": contact["JobTitle"],
        "phone": contact["Phone"],
        "mobile": contact["Mobile"],
    }
    assert (account["type"], account["title"]) == ("account", contact["AccountFormattedName"])
    assert person["matched"] == account["matched"] == [item["from"]["address"]]
    assert contact["ContactID"] in person["url"]
    assert (context["unknown"], context["notice"], context["automatic"], context["incomplete"]) == ([], None, None, False)
    assert context["save"]["state"] == "none"


def test_every_record_behind_one_address_is_shown(me: Api) -> None:
    context = me.context("several_records")
    assert sorted(types(context)) == ["account", "account", "contact", "contact", "individual_customer"]
    assert types(context)[0] == "contact"


@pytest.mark.parametrize("case", ["individual_customer", "lead"])
def test_a_person_without_a_company_is_found(me: Api, case: str) -> None:
    context = me.context(case)
    assert types(context) == [case]
    assert len(context["cards"][0]["fields"]) <= 4


def test_an_account_is_found_by_its_own_address(me: Api) -> None:
    assert types(me.context("account_only")) == ["account"]


@everywhere
def test_somebody_new_is_said_to_be_not_found_and_that_is_certain(me: Api) -> None:
    item = me.item("unknown_sender")
    context = me.context(item, complete=True)
    assert context["cards"] == []
    assert context["unknown"] == [{**item["from"], "verified": True}]
    assert (context["incomplete"], context["notice"]) == (False, None)


def test_hostile_text_in_header_and_record_is_data(me: Api, world: World) -> None:
    item = me.item("hostile")
    contact = row_of(world, "ContactCollection", Email=item["from"]["address"])
    assert "<img" in contact["Name"]
    assert contact["Name"] in [card["title"] for card in me.context(item)["cards"]]
    inject = from_("x' or Email ne 'y@z.example", me.item("known_contact"))
    assert me.context(inject)["cards"] == []
    wild = me.context(from_("*@harrowgate-pumps.example", me.item("known_contact")))
    assert (wild["cards"], wild["unknown"][0]["verified"]) == ([], False)


# How it is addressed


@pytest.mark.parametrize("case", ["mixed_case_header", "plus_tag", "idn", "comma_name", "group_syntax", "group_named"])
def test_an_address_is_recognised_however_it_is_written(me: Api, case: str) -> None:
    item = me.item(case)
    context = me.context(item)
    assert types(context)[0] == "contact"
    assert context["cards"][0]["matched"][0] == item["from"]["address"]
    assert [one["address"] for one in context["unknown"]] == []


def test_an_address_in_mixed_case_is_found_once_the_addresses_were_read(me: Api, scans: None, work: Work) -> None:
    item = me.item("mixed_case")
    assert item["from"]["address"].islower()
    work()
    context = me.context(item)
    assert types(context) == ["contact", "account"]
    assert context["cards"][0]["matched"] == [item["from"]["address"]]


def test_reading_the_addresses_again_asks_only_for_changes(
    me: Api, world: World, scans: None, work: Work, forward: Forward
) -> None:
    work()
    forward(hours=7)
    contact = row_of(world, "ContactCollection", Email=me.item("known_contact")["from"]["address"])
    contact["Email"], contact["EntityLastChangedOn"] = "New.Address@Elsewhere.example", world.now()
    before = len(c4c_calls(world))
    work()
    pages = [call for call in c4c_calls(world, before) if "ContactCollection" in call.path]
    assert pages
    assert all("EntityLastChangedOn%20ge" in call.query or "EntityLastChangedOn+ge" in call.query for call in pages)
    assert types(me.context(from_("new.address@elsewhere.example", me.item("known_contact")))) == ["contact", "account"]


def test_a_spelling_that_one_person_saw_serves_the_colleagues(me: Api, colleague: Api) -> None:
    item = me.item("mixed_case")
    spelled = from_("Mixed.Case@Harrowgate-Pumps.Example", item)
    assert me.context(item)["cards"] == []
    assert types(me.context(spelled)) == ["contact", "account"]
    other = {**colleague.item("shared_message_id"), "from": item["from"]}
    assert types(colleague.context(other)) == ["contact", "account"]


# One request


def test_ten_recipients_cost_one_request_to_c4c(me: Api, world: World) -> None:
    me.context("known_contact")
    before = len(world.requests("c4c"))
    context = me.context("ten_recipients")
    assert len(world.requests("c4c")) == before + 1
    assert types(context).count("contact") == 5
    assert "individual_customer" in types(context)
    assert sorted(one["address"] for one in context["unknown"]) == ["guest0@unheard-of.example", "guest1@unheard-of.example"]
    assert me.person.email not in str(context)


def test_fifty_addresses_cost_one_request_and_more_are_left_out_with_a_word(me: Api, world: World) -> None:
    item = me.item("known_contact")
    people = [{"name": "", "address": f"Person.{n}+tag@unheard-of.example"} for n in range(49)]
    me.context("account_only")
    before = len(world.requests("c4c"))
    fifty = me.context({**item, "to": people})
    assert len(world.requests("c4c")) == before + 1
    assert (len(fifty["unknown"]), fifty["notice"]) == (49, None)
    more = [{"name": "", "address": f"more{n}@unheard-of.example"} for n in range(55)]
    many = me.context({**item, "to": more})
    assert len(world.requests("c4c")) == before + 2
    assert len(many["unknown"]) == 49
    assert many["notice"] == "Only the first 50 addresses were looked up."


def test_a_repeated_lookup_costs_nothing_until_the_answer_is_old(me: Api, world: World, forward: Forward) -> None:
    first = me.context("known_contact")
    before = len(world.requests())
    again = me.context("known_contact")
    assert len(world.requests()) == before
    assert again["cards"] == first["cards"]
    assert (first["timing"]["cached"], again["timing"]["cached"]) == (False, True)
    forward(seconds=61)
    assert me.context("known_contact")["timing"]["cached"] is False


def test_refresh_asks_anew(me: Api, world: World) -> None:
    item = me.item("known_contact")
    me.context(item)
    row_of(world, "ContactCollection", Email=item["from"]["address"])["JobTitle"] = "Director"
    assert "Director" not in str(me.context(item))
    assert "Director" in str(me.context(item, refresh=True))
    assert "Director" in str(me.context(item))


def test_two_clicks_at_once_ask_c4c_once(me: Api, world: World) -> None:
    me.context("account_only")
    item = me.item("known_contact")
    world.latency["c4c"] = Latency(base_ms=100)
    before = len(world.requests("c4c"))
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: types(me.context(item)), range(4)))
    assert answers == [["contact", "account"]] * 4
    assert len(world.requests("c4c")) == before + 1


@everywhere
def test_an_own_save_is_seen_at_once_also_by_other_processes(
    me: Api, api: Callable[..., Api], process: Callable[..., Deps], world: World
) -> None:
    elsewhere = api(at=process())
    item = me.item("known_contact")
    links = links_of(me.context(item))
    assert elsewhere.context(item)["save"]["state"] == "none"
    assert me.save(item, links[:1]).status_code == 201
    for person in (me, elsewhere):
        context = person.context(item)
        assert (context["save"]["state"], context["save"]["by"]) == ("saved", "you")
        assert [card["linked"] for card in context["cards"]] == [True, False]


# Who may see it


@everywhere
def test_what_one_person_may_see_is_never_shown_to_another(me: Api, colleague: Api) -> None:
    item, copy = ({**person.item("restricted_contact"), "to": []} for person in (me, colleague))
    assert me.context(item)["cards"] == []
    assert types(colleague.context(copy)) == ["contact", "account"]
    for options in ({}, {"refresh": True}, {"complete": True}):
        context = me.context(item, **options)
        assert context["cards"] == []
        assert [one["address"] for one in context["unknown"]] == [item["from"]["address"]]


def test_a_known_spelling_opens_no_door(me: Api, colleague: Api, world: World, scans: None, work: Work) -> None:
    item, copy = me.item("restricted_contact"), colleague.item("restricted_contact")
    hidden = row_of(world, "ContactCollection", Email=item["from"]["address"])
    hidden["Email"] = item["from"]["address"].title()
    work()
    assert types(colleague.context(copy)) == ["contact", "account"]
    assert me.context(item, complete=True)["cards"] == []


def test_links_to_hidden_records_are_not_named(me: Api, colleague: Api, world: World) -> None:
    item, copy = me.item("restricted_contact"), colleague.item("restricted_contact")
    assert colleague.linked_save(copy).status_code == 201
    hidden = row_of(world, "ContactCollection", Email=item["from"]["address"])
    context = me.context(item, complete=True)
    assert hidden["Name"] not in [card["title"] for card in context["cards"]]


# Nothing to save, and automatic mail


@everywhere
def test_colleagues_only_is_nothing_to_save(me: Api) -> None:
    context = me.context("colleagues_only")
    assert (context["notice"], context["cards"], context["unknown"]) == (NOTHING, [], [])


def test_the_blocklist_is_not_looked_up(me: Api, world: World) -> None:
    context = me.context("blocklisted")
    assert (context["notice"], context["cards"], context["unknown"]) == (NOTHING, [], [])
    assert world.requests("c4c") == []
    sub = me.context(from_(f"x@news.{BLOCKLISTED_DOMAIN.title()}", me.item("blocklisted")))
    assert sub["notice"] == NOTHING
    assert me.context(from_(f"x@not{BLOCKLISTED_DOMAIN}", me.item("blocklisted")))["unknown"] != []


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        ("bounce", "bounce"),
        ("receipt", "receipt"),
        ("out_of_office", "auto_reply"),
        ("newsletter", "bulk"),
    ],
)
@everywhere
def test_automatic_mail_is_quiet_until_asked(me: Api, world: World, case: str, kind: str) -> None:
    quiet = me.context(case)
    assert quiet["automatic"]["kind"] == kind
    assert quiet["automatic"]["reason"].endswith(".")
    assert (quiet["cards"], quiet["unknown"], quiet["notice"]) == ([], [], None)
    assert world.requests("c4c") == []
    asked = me.context(case, anyway=True)
    assert asked["automatic"] == quiet["automatic"]
    assert asked["cards"] or asked["unknown"]


def test_automatic_mail_is_told_by_class_alone_and_no_headers_prove_nothing(me: Api) -> None:
    for headers in (me.item("meeting_answer")["headers"], ""):
        context = me.context({**me.item("meeting_answer"), "headers": headers})
        assert (context["automatic"]["kind"], context["cards"], context["unknown"]) == ("meeting", [], [])
    assert me.context({**me.item("newsletter"), "headers": ""})["automatic"] is None


def test_a_draft_looks_up_its_blind_copies_and_a_received_mail_has_none(me: Api) -> None:
    item = me.item("known_contact")
    bcc = [{"name": "", "address": "private.customer@example.net"}]
    draft = {
        **item,
        "internet_message_id": None,
        "from": {"name": me.person.name, "address": me.person.email},
        "to": [],
        "bcc": bcc,
    }
    assert types(me.context(draft, mode="compose")) == ["individual_customer"]
    assert me.context(draft, mode="read")["cards"] == []


def test_a_draft_without_recipients_shows_nothing(me: Api, world: World) -> None:
    empty = {**me.item("known_contact"), "from": None, "to": [], "cc": [], "bcc": []}
    context = me.context(empty, mode="compose")
    assert (context["cards"], context["unknown"], context["notice"]) == ([], [], None)
    assert world.requests("c4c") == []


# When C4C is unclear, slow or away


def test_an_empty_answer_to_many_addresses_proves_nothing_until_asked_one_by_one(me: Api, world: World) -> None:
    item = {**me.item("known_contact"), "to": [{"name": "", "address": "other@unheard-of.example"}]}
    world.faults.append(Fault("c4c", "silent_empty", "ContactCollection"))
    first = me.context(item)
    assert types(first) == []
    assert first["incomplete"] is True
    assert [one["verified"] for one in first["unknown"]] == [False, False]
    complete = me.context(item, complete=True)
    assert types(complete) == ["contact", "account"]
    assert [(one["address"], one["verified"]) for one in complete["unknown"]] == [("other@unheard-of.example", True)]
    assert complete["incomplete"] is False
    before = len(world.requests("c4c"))
    assert me.context(item)["cards"] == complete["cards"]
    assert len(world.requests("c4c")) == before


def test_an_empty_answer_to_known_spellings_is_followed_up_too(me: Api, world: World, scans: None, work: Work) -> None:
    item = me.item("mixed_case")
    twin = row_of(world, "ContactCollection", Email=me.item("known_contact")["from"]["address"])
    twin["Email"] = "Mixed.case@harrowgate-pumps.example"
    work()
    world.faults += [Fault("c4c", "silent_empty", "ContactCollection", times=2)]
    assert me.context(item)["cards"] == []
    assert types(me.context(item, complete=True)).count("contact") == 2


def test_a_part_that_fails_alone_is_named_and_nobody_is_called_unknown_for_certain(me: Api, world: World) -> None:
    world.faults.append(Fault("c4c", "part_status", "ContactCollection", status=500))
    context = me.context({**me.item("known_contact"), "to": []})
    assert context["failed"] == ["contact"]
    assert [one["verified"] for one in context["unknown"]] == [False]


def test_c4c_slower_than_a_person_waits_is_told_and_the_answer_is_there_next_time(
    api: Callable[..., Api], process: Callable[..., Deps], world: World
) -> None:
    deps = process(context_deadline_s=0.05)
    me = api(at=deps)
    item = me.item("known_contact")
    world.gate = gate = Gate(match="c4c " + BATCH)
    started = time.monotonic()
    slow = me.post("/context", {"item": item})
    assert time.monotonic() - started < 2
    assert (slow.status_code, slow.json["code"], slow.headers["Retry-After"]) == (503, "unavailable", "1")
    assert me.post("/context", {"item": item}).status_code == 503
    gate.open()
    late = eventually(lambda: me.post("/context", {"item": item}).json.get("cards") and me.context(item))
    assert len(c4c_calls(world)) == 1
    assert (types(late), late["timing"]["cached"]) == (["contact", "account"], True)


def test_the_follow_up_keeps_the_deadline_too(me: Api, api: Callable[..., Api], deps: Deps, world: World) -> None:
    item = {**me.item("unknown_sender"), "to": [{"name": "", "address": "other@unheard-of.example"}]}
    assert me.context(item)["incomplete"] is True
    world.gate = gate = Gate(match="c4c " + BATCH)
    hasty = api(at=replace(deps, limits=replace(deps.limits, context_deadline_s=0.5)))
    assert hasty.post("/context", {"item": item, "complete": True}).status_code == 503
    gate.open()


@pytest.mark.parametrize("kind", ["drop", "html", "garbage", "status"])
def test_c4c_away_is_a_clear_answer(me: Api, world: World, kind: str) -> None:
    world.faults.append(Fault("c4c", kind, "$batch", retry_after_s=30, times=None))
    away = me.post("/context", {"item": me.item("known_contact")})
    assert (away.status_code, away.json["code"]) == (503, "unavailable")
    assert int(away.headers["Retry-After"]) >= 1
    world.faults.clear()
    assert types(me.context("known_contact")) == ["contact", "account"]


def test_a_token_that_c4c_no_longer_takes_is_replaced_without_a_word(me: Api, world: World) -> None:
    me.context("account_only")
    world.c4c.tokens.clear()
    assert types(me.context("known_contact")) == ["contact", "account"]


# Save state


@everywhere
def test_a_message_without_message_id_is_looked_up_and_recognised(me: Api) -> None:
    item = me.item("no_message_id")
    assert item["internet_message_id"] == ""
    assert types(me.context(item)) == ["contact", "account"]
    assert me.save(item).status_code == 201
    assert me.context(item)["save"]["state"] == "saved"


def test_linked_records_that_no_address_matched_are_named_by_the_follow_up(me: Api, world: World) -> None:
    item = me.item("known_contact")
    opportunity = row_of(world, "OpportunityCollection", Name="Second production line")
    stranger = row_of(world, "IndividualCustomerCollection", Email="private.customer@example.net")
    links = [link("opportunity", opportunity), link("individual_customer", stranger)]
    assert me.save(item, links).status_code == 201
    first = me.context(item)
    assert (types(first), first["incomplete"]) == (["contact", "account"], True)
    complete = me.context(item, complete=True)
    linked = {card["id"]: card["matched"] for card in complete["cards"] if card["linked"]}
    assert linked == {opportunity["ObjectID"]: [], stranger["ObjectID"]: []}
    assert complete["incomplete"] is False


@everywhere
def test_the_state_of_a_save_comes_with_the_lookup(me: Api, colleague: Api, world: World, work: Work, forward: Forward) -> None:
    item, copy = me.item("shared_message_id"), colleague.item("shared_message_id")
    assert me.context(item)["save"]["state"] == "none"
    world.faults.append(Fault("c4c", "drop", "EMailCollection"))
    save_id = me.save(item).json["id"]
    assert me.context(item)["save"]["state"] == "unknown"
    assert colleague.context(copy)["save"]["state"] == "none"
    forward(minutes=1)
    work()
    saved = me.context(item)["save"]
    assert (saved["state"], saved["by"], saved["id"]) == ("saved", "you", save_id)
    assert saved["activity"]["id"] == only_activity(world, item)["ObjectID"]
    assert saved["at"].endswith("Z")
    seen = colleague.context(copy, refresh=True)["save"]
    assert (seen["state"], seen["by"], seen["id"]) == ("saved", "colleague", None)
    assert seen["activity"] == saved["activity"]


@everywhere
def test_the_save_state_is_known_without_c4c_on_automatic_mail(me: Api, world: World) -> None:
    assert me.save("newsletter").status_code == 201
    before = len(world.requests("c4c"))
    assert me.context("newsletter")["save"]["state"] == "saved"
    assert len(world.requests("c4c")) == before
