"""Saving: one activity with all that belongs to it, nothing refused by surprise, and never a lie about what happened."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, strategies as st

from server.c4c import C4C, ActivityDraft, Addressee, Codes, DeepLinks, File
from server.c4c.mapping import email_body, groupware_item_id, human_id, one_line, shortened
from server.domain.records import Activity, Record, RecordRef
from server.errors import InvalidInput, NotFound, Rejected, Transient, Unknown
from simulator.c4c.records import seed
from simulator.world import Fault, Person, Row, World
from tests.c4c.conftest import CODES, SERVICE, Tenant

KEY = "<saved@example.com>"
DRAFT = ActivityDraft(
    message_key=KEY,
    subject="Quote for pumps",
    direction="incoming",
    at=datetime(2026, 11, 20, 9, 15, tzinfo=UTC),
    sender=Addressee("Tracey Pearson", "tracey@example.com"),
)


def first(world: World, entity_set: str) -> Row:
    return next(iter(world.crm.rows(entity_set).values()))


def children(world: World, entity_set: str, activity: Activity, *names: str) -> list[tuple[Any, ...]]:
    return sorted(tuple(row.get(name) for name in names) for row in world.crm.children(entity_set, activity.id))


def links(c4c: C4C, world: World) -> list[Record]:
    refs = [
        RecordRef("contact", first(world, "ContactCollection")["ObjectID"]),
        RecordRef("account", first(world, "CorporateAccountCollection")["ObjectID"]),
        RecordRef("opportunity", first(world, "OpportunityCollection")["ObjectID"]),
        RecordRef("ticket", first(world, "ServiceRequestCollection")["ObjectID"]),
    ]
    return c4c.records(refs)


def full_draft(c4c: C4C, world: World, me: Person) -> ActivityDraft:
    contact, account, *_ = linked = links(c4c, world)
    return replace(
        DRAFT,
        sender=Addressee("Tracey Pearson", "tracey@example.com", contact.human_id),
        to=(Addressee(me.name, me.email, me.employee_id), Addressee("", "stranger@example.org")),
        cc=(Addressee("Somebody Else", "else@example.org"),),
        owner_party=me.employee_id,
        links=tuple(linked),
        main_contact=contact.human_id,
        main_account=account.human_id,
        text="Dear Sir,\n\nplease find our quote.\n",
        files=(File("quote.pdf", "application/pdf", b"%PDF-1.7"), File("a b.txt", "text/plain", b"text")),
    )


def test_activity_is_created_whole_in_one_call(c4c: C4C, tenant: Tenant, world: World, me: Person) -> None:
    draft = full_draft(c4c, world, me)
    before = len(tenant.calls())
    activity = c4c.create_activity(draft)
    (call,) = tenant.calls()[before:]
    assert (call.method, call.path) == ("POST", SERVICE + "/EMailCollection")
    (row,) = world.saved_activities(KEY)
    assert (row["ObjectID"], row["ID"]) == (activity.id, activity.human_id)
    contact, account, opportunity, ticket = draft.links
    expected = {
        "Subject": "Quote for pumps",
        "Direction": "3",
        "DateTime": draft.at,
        "MessageFromEmailURI": "tracey@example.com",
        "MessageFromName": "Tracey Pearson",
        "MainAccountPartyID": account.human_id,
        "MainContactPartyID": contact.human_id,
        "OwnerPartyID": me.employee_id,
    }
    assert {name: row[name] for name in expected} == expected
    assert children(world, "EMailToRecipientsCollection", activity, "EMailID", "PartyID") == [
        (me.email, me.employee_id),
        ("stranger@example.org", None),
    ]
    assert children(world, "EMailCcRecipientsCollection", activity, "EMailID", "Name") == [("else@example.org", "Somebody Else")]
    assert children(world, "EMailSenderPartyCollection", activity, "PartyID") == [(contact.human_id,)]
    assert (contact.human_id, "1015") in children(world, "EMailInvolvedPartiesCollection", activity, "PartyID", "RoleCode")
    assert children(world, "EMailBTDReferenceCollection", activity, "ID", "TypeCode", "RoleCode") == sorted(
        [(opportunity.human_id, "72", "1"), (ticket.human_id, "118", "6")]
    )
    assert children(world, "EMailNotesCollection", activity, "Text", "TypeCode") == [(draft.text, "10002")]
    attachments = children(
        world, "EMailAttachmentsCollection", activity, "Name", "MimeType", "Binary", "TypeCode", "CategoryCode"
    )
    assert attachments == [
        ("a b.txt", "text/plain", b"text", "10001", "2"),
        ("quote.pdf", "application/pdf", b"%PDF-1.7", "10001", "2"),
    ]


def test_created_activity_tells_what_a_later_read_tells(c4c: C4C, world: World, me: Person) -> None:
    made = c4c.create_activity(full_draft(c4c, world, me))
    (read,) = c4c.activities(KEY)
    assert made.attachment_names == c4c.attachment_names(made.id) == {"quote.pdf", "a b.txt"}
    assert replace(made, attachment_names=frozenset(), parties=read.parties) == read
    assert made.parties <= read.parties
    assert c4c.activity(made.id) == read


def test_bare_message_is_saved_too(c4c: C4C, world: World) -> None:
    bare = replace(DRAFT, subject="", sender=Addressee("", ""), direction="outgoing")
    c4c.create_activity(bare)
    (row,) = world.saved_activities(KEY)
    assert row["Direction"] == "4"


def test_nothing_empty_is_sent() -> None:
    body = email_body(replace(DRAFT, subject=" ", to=(Addressee("", "a@example.com"),), text=" \n"), CODES)
    assert set(body) == {
        "Direction",
        "DateTime",
        "GroupwareItemID",
        "MessageFromEmailURI",
        "MessageFromName",
        "EMailToRecipients",
    }
    assert body["EMailToRecipients"] == [{"EMailID": "a@example.com", "MessageToEmailID": "a@example.com"}]


def test_long_and_strange_texts_are_stored_with_a_visible_cut(c4c: C4C, world: World, me: Person) -> None:
    long = Addressee("N" * 2000, "a" * 300 + "@example.com")
    strange = "Täxt 𝄞 漢字 \x00\x0b\ufffe <script>alert(1)</script> \r\n" + "𝄞" * 900
    draft = replace(DRAFT, subject=strange, sender=long, to=(long,), cc=(long,), text=strange * 20)
    activity = c4c.create_activity(replace(draft, files=(File("𝄞" * 200 + "\n.txt", "", b"x"),)))
    (row,) = world.saved_activities(KEY)
    assert row["Subject"].startswith("Täxt 𝄞 漢字 <script>")
    assert row["Subject"].endswith("…")
    assert len(row["Subject"].encode("utf-16-le")) // 2 <= 765
    assert row["MessageFromName"].endswith("…")
    ((text,),) = children(world, "EMailNotesCollection", activity, "Text")
    assert "\x00" not in text
    assert text.count("𝄞") == 901 * 20
    assert c4c.attachment_names(activity.id) == {"𝄞" * 200 + " .txt"}


@given(st.text(max_size=40), st.integers(2, 20))
def test_cut_text_fits_and_shows_it(text: str, limit: int) -> None:
    line = one_line(text)
    cut = shortened(line, limit)
    assert len(cut.encode("utf-16-le")) // 2 <= limit
    assert cut == line or (cut.endswith("…") and line.startswith(cut[:-1]))
    json.dumps(cut).encode()


@pytest.mark.parametrize(
    ("kind", "error", "exists"),
    [("acted_drop", Unknown, 1), ("garbage", Unknown, 0), ("html", Unknown, 0), ("drop", Unknown, 0), ("status", Transient, 0)],
)
def test_lost_answer_is_unknown_and_looking_tells(c4c: C4C, world: World, kind: str, error: type[Exception], exists: int) -> None:
    world.faults.append(Fault("c4c", kind, "EMailCollection"))
    with pytest.raises(error):
        c4c.create_activity(DRAFT)
    assert len(c4c.activities(KEY)) == len(list(world.saved_activities(KEY))) == exists


def test_refused_activity_is_rejected_with_c4cs_reason_and_leaves_nothing(c4c: C4C, world: World) -> None:
    with pytest.raises(Rejected):
        c4c.create_activity(replace(DRAFT, main_account="404404"))
    assert list(world.saved_activities(KEY)) == []


def test_link_without_a_code_is_rejected_before_anything_is_sent(c4c: C4C, tenant: Tenant) -> None:
    quote = Record("quote", "0" * 32, "1", "Quote")
    assert "quote" not in CODES.linkable
    with pytest.raises(Rejected, match="quote"):
        c4c.create_activity(replace(DRAFT, links=(quote,)))
    assert tenant.calls() == []


def test_large_file_is_attached_in_a_request_of_its_own(c4c: C4C, tenant: Tenant, world: World) -> None:
    activity = c4c.create_activity(DRAFT)
    content = bytes(range(256)) * 4096
    c4c.attach(activity.id, File("large.bin", "application/octet-stream", content))
    assert children(world, "EMailAttachmentsCollection", activity, "Name", "Binary") == [("large.bin", content)]
    assert tenant.calls()[-1].path == SERVICE + "/EMailAttachmentsCollection"
    assert c4c.attachment_names(activity.id) == {"large.bin"}


def test_lost_answer_to_an_attachment_is_unknown_and_listing_tells(c4c: C4C, world: World) -> None:
    activity = c4c.create_activity(DRAFT)
    world.faults.append(Fault("c4c", "acted_drop", "EMailAttachmentsCollection"))
    with pytest.raises(Unknown):
        c4c.attach(activity.id, File("a.txt", "text/plain", b"a"))
    world.faults.append(Fault("c4c", "html", "EMailAttachmentsCollection"))
    with pytest.raises(Unknown):
        c4c.attach(activity.id, File("b.txt", "text/plain", b"b"))
    assert c4c.attachment_names(activity.id) == {"a.txt"}


def test_only_missing_links_are_added_and_none_twice(c4c: C4C, tenant: Tenant, world: World) -> None:
    contact, account, opportunity, ticket = wanted = links(c4c, world)
    activity = c4c.create_activity(replace(DRAFT, links=(contact, opportunity)))
    c4c.add_links(activity, wanted)
    assert tenant.calls()[-1].parts == ("POST EMailInvolvedPartiesCollection", "POST EMailBTDReferenceCollection")
    linked = c4c.activity(activity.id)
    assert linked.parties >= {contact.human_id, account.human_id}
    assert linked.documents == {("opportunity", opportunity.human_id), ("ticket", ticket.human_id)}
    before = len(tenant.calls())
    c4c.add_links(linked, wanted)
    assert len(tenant.calls()) == before


def test_links_are_added_all_or_none(c4c: C4C, world: World) -> None:
    contact, *_ = links(c4c, world)
    activity = c4c.create_activity(DRAFT)
    before = children(world, "EMailInvolvedPartiesCollection", activity, "PartyID")
    with pytest.raises(Rejected):
        c4c.add_links(activity, [contact, Record("ticket", "0" * 32, "404404", "Gone")])
    assert children(world, "EMailInvolvedPartiesCollection", activity, "PartyID") == before


def test_same_number_of_another_type_is_another_link(c4c: C4C, world: World) -> None:
    ticket = first(world, "ServiceRequestCollection")
    opportunity = first(world, "OpportunityCollection")
    opportunity["ID"] = ticket["ID"]
    refs = [RecordRef("opportunity", opportunity["ObjectID"]), RecordRef("ticket", ticket["ObjectID"])]
    one, two = c4c.records(refs)
    activity = c4c.create_activity(replace(DRAFT, links=(one,)))
    c4c.add_links(activity, [one, two])
    assert c4c.activity(activity.id).documents == {("opportunity", ticket["ID"]), ("ticket", ticket["ID"])}


def test_record_that_somebody_is_changing_is_tried_later(c4c: C4C, world: World) -> None:
    contact, *_ = links(c4c, world)
    activity = c4c.create_activity(DRAFT)
    world.faults.append(Fault("c4c", "locked", "EMailInvolvedParties"))
    with pytest.raises(Transient):
        c4c.add_links(activity, [contact])
    c4c.add_links(activity, [contact])
    assert contact.human_id in c4c.activity(activity.id).parties


def test_double_is_deleted_once_and_deleting_it_again_is_success(c4c: C4C, world: World) -> None:
    activity = c4c.create_activity(DRAFT)
    c4c.delete_activity(activity.id)
    c4c.delete_activity(activity.id)
    assert list(world.saved_activities(KEY)) == []
    with pytest.raises(NotFound):
        c4c.activity(activity.id)


def test_everything_a_save_must_know_comes_in_one_batch(c4c: C4C, tenant: Tenant, world: World, me: Person) -> None:
    wanted = [record.ref for record in links(c4c, world)]
    c4c.create_activity(DRAFT)
    c4c.create_activity(DRAFT)
    before = len(tenant.calls())
    known = c4c.before_save(KEY, wanted, me.user_id)
    assert len(tenant.calls()) == before + 1
    assert [int(a.human_id) for a in known.activities] == sorted(int(row["ID"]) for row in world.saved_activities(KEY))
    assert [record.ref for record in known.records] == wanted
    assert known.employee is not None
    assert (known.employee.party_id, known.employee.email) == (me.employee_id, me.email)


def test_save_of_an_unknown_user_or_hidden_record_is_told(c4c: C4C, world: World) -> None:
    contact = first(world, "ContactCollection")
    world.crm.visible_to[contact["ObjectID"]] = frozenset({"SOMEBODY"})
    known = c4c.before_save(KEY, [RecordRef("contact", contact["ObjectID"])], "NOBODY")
    assert (known.activities, known.records, known.employee) == ((), (), None)


def test_save_goes_on_without_what_the_user_may_not_ask_for(c4c: C4C, world: World, me: Person) -> None:
    refs = [RecordRef("lead", first(world, "LeadCollection")["ObjectID"]), *(r.ref for r in links(c4c, world)[:1])]
    world.faults.append(Fault("c4c", "part_status", "LeadCollection", status=403))
    assert [record.type for record in c4c.before_save(KEY, refs, me.user_id).records] == ["contact"]
    world.faults.append(Fault("c4c", "part_status", "EMailCollection", status=503))
    with pytest.raises(Transient):
        c4c.before_save(KEY, refs, me.user_id)


def test_oldest_activity_comes_first_by_number_not_by_text(c4c: C4C, world: World) -> None:
    for number in ("1000", "99", "100"):
        seed(world, "EMailCollection", GroupwareItemID=KEY, ID=number)
    assert [activity.human_id for activity in c4c.activities(KEY)] == ["99", "100", "1000"]


@pytest.mark.parametrize(
    "key", ["<*@example.com>", "<a*@example.com>", "<a%2A@example.com>", "<a'b@example.com>", "<ä\x01@example.com>"]
)
def test_strange_message_keys_name_one_message_only(c4c: C4C, world: World, key: str) -> None:
    c4c.create_activity(replace(DRAFT, message_key="<abc@example.com>"))
    c4c.create_activity(replace(DRAFT, message_key="<a%252A@example.com>"))
    assert c4c.activities(key) == []
    made = c4c.create_activity(replace(DRAFT, message_key=key))
    assert [(activity.id, activity.message_key) for activity in c4c.activities(key)] == [(made.id, key)]


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20), st.text(max_size=20))
def test_different_keys_are_stored_differently(one: str, other: str) -> None:
    try:
        stored = groupware_item_id(one), groupware_item_id(other)
    except InvalidInput:
        return
    assert (stored[0] == stored[1]) == (one == other)


@pytest.mark.parametrize("key", ["", "  ", "x" * 766])
def test_key_that_cannot_be_stored_is_refused(c4c: C4C, tenant: Tenant, key: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: c4c.activities(key),
        lambda: c4c.create_activity(replace(DRAFT, message_key=key)),
        lambda: c4c.before_save(key, [], "X"),
    ]
    for call in calls:
        with pytest.raises(InvalidInput):
            call()
    assert tenant.calls() == []


def test_colleague_does_not_see_a_hidden_activity(c4c: C4C, tenant: Tenant, world: World, me: Person) -> None:
    made = c4c.create_activity(DRAFT)
    world.crm.visible_to[made.id] = frozenset({me.user_id})
    assert tenant.c4c(world.people[1]).activities(KEY) == []
    assert [activity.id for activity in c4c.activities(KEY)] == [made.id]


# Settings of a tenant


def test_codes_survive_json() -> None:
    assert Codes.from_json(json.loads(json.dumps(CODES.to_json()))) == CODES


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"direction_incoming": "1", "direction_outgoing": "2"},
        {"direction_incoming": "1", "direction_outgoing": "2", "note_type": ""},
        {"direction_incoming": "1", "direction_outgoing": "2", "note_type": "3", "colour": "red"},
        {"direction_incoming": "1", "direction_outgoing": "2", "note_type": "3", "party_role": {"horse": "1"}},
    ],
)
def test_incomplete_or_unknown_codes_are_refused(data: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Codes.from_json(data)


def test_header_codes_of_a_tenant_are_set_on_every_activity(tenant: Tenant, world: World, me: Person) -> None:
    codes = replace(CODES, header={"Status": "3"})
    c4c = C4C(tenant.by_token(me), codes=codes, record_url=DeepLinks(tenant.url))
    c4c.create_activity(DRAFT)
    assert [row["Status"] for row in world.saved_activities(KEY)] == ["3"]


def test_link_opens_the_record_by_its_number_and_type() -> None:
    links = DeepLinks("https://my000001.crm.example.com/", thing_types={"contact": "COD_CONTACT_TT"})
    link = links("contact", "10/00&x")
    assert link.startswith("https://my000001.crm.example.com/sap/public/byd/runtime?")
    assert "param.InternalID=10%2F00%26x&param.Type=COD_CONTACT_TT" in link
    assert (links("visit", "1"), links("contact", "")) == ("", "")


def test_links_of_a_tenant_survive_json_and_add_to_the_known_ones() -> None:
    links = DeepLinks.from_json({"origin": "https://my000001.crm.example.com", "thing_types": {"email": "COD_X"}})
    assert (links("email", "7"), links("account", "7")) != ("", "")
    assert DeepLinks.from_json(json.loads(json.dumps(links.to_json()))) == links
    for wrong in ({"origin": "javascript:x"}, {"origin": "https://x", "template": "{id}"}, {"orgin": "https://x"}):
        with pytest.raises(InvalidInput):
            DeepLinks.from_json(wrong)
    with pytest.raises(InvalidInput):
        DeepLinks.from_json({"origin": "https://x", "thing_types": {"horse": "X"}})


def test_numbers_are_compared_without_zeros_and_padding() -> None:
    assert [human_id(v) for v in ("0000001001", " 1001  ", "0", "", None, "A01")] == ["1001", "1001", "0", "", "", "A01"]
