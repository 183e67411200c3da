"""What a save promises: one activity that holds the message, marks that tell the truth, a reason for everything refused."""

import base64
from collections.abc import Callable
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from simulator.mime import read
from simulator.world import Category, World
from tests.api import (
    HOSTS,
    Api,
    activities,
    children,
    everywhere,
    file_names,
    key_of,
    link,
    links_of,
    numbers,
    only_activity,
    row_of,
)

SAVED = HOSTS["office365"].saved


# What an activity holds


@everywhere
def test_a_save_makes_one_activity_that_holds_the_message(me: Api, world: World) -> None:
    item = me.item("with_attachment_known_contact")
    saved = me.linked_save(item)
    assert (saved.status_code, saved.json["state"], saved.json["marks"]) == (201, "saved", ["saved"])
    activity = only_activity(world, item)
    assert saved.json["activity"]["id"] == activity["ObjectID"]
    assert activity["ID"] in saved.json["activity"]["url"]
    assert activity["Subject"] == item["subject"]
    sent = parsedate_to_datetime(read(me.message(item).mime).text_of("Date"))
    assert activity["DateTime"] == sent
    assert [note["Text"].split() for note in children(world, activity, "notes")] == [
        ["Hello,", "the", "signed", "offer", "is", "attached."]
    ]
    assert file_names(world, activity) == ["Offer 2026-118.pdf"]
    assert me.categories(item) == [me.host.saved]


@everywhere
def test_a_save_names_who_wrote_who_received_and_whose_it_is(me: Api, world: World) -> None:
    item = me.item("ten_recipients")
    assert me.linked_save(item).status_code == 201
    activity = only_activity(world, item)
    contact = row_of(world, "ContactCollection", Email=item["from"]["address"])
    assert (activity["MessageFromEmailURI"], activity["MessageFromPartyID"]) == (item["from"]["address"], contact["ContactID"])
    assert activity["OwnerPartyID"] == me.person.employee_id
    assert {row["EMailID"] for row in children(world, activity, "to")} == {one["address"] for one in item["to"]}
    assert {row["EMailID"] for row in children(world, activity, "cc")} == {one["address"] for one in item["cc"]}


@everywhere
def test_received_mail_is_inbound_and_sent_mail_outbound(me: Api, world: World) -> None:
    received, sent = me.item("known_contact"), me.item("thread_sent") if "thread_sent" in world.cases else me.item("undelivered")
    assert {me.save(received).status_code, me.save(sent).status_code} == {201}
    assert only_activity(world, received)["Direction"] == "3"
    assert only_activity(world, sent)["Direction"] == "4"


def test_all_chosen_records_are_linked_as_parties_or_references(me: Api, world: World) -> None:
    item = me.item("known_contact")
    contact = row_of(world, "ContactCollection", Email=item["from"]["address"])
    account = row_of(world, "CorporateAccountCollection", AccountID=contact["AccountID"])
    opportunity = row_of(world, "OpportunityCollection", Name="Second production line")
    ticket = row_of(world, "ServiceRequestCollection", Name="Seal of pump 7 leaks")
    links = [
        link("contact", contact),
        link("account", account),
        link("opportunity", opportunity),
        link("ticket", ticket),
    ]
    assert me.save(item, links).status_code == 201
    activity = only_activity(world, item)
    assert {contact["ContactID"], account["AccountID"]} <= numbers(world, activity)
    assert {(r["ID"], r["TypeCode"]) for r in children(world, activity, "references")} == {
        (opportunity["ID"], "72"),
        (ticket["ID"], "118"),
    }
    assert (activity["MainContactPartyID"], activity["MainAccountPartyID"]) == (contact["ContactID"], account["AccountID"])


def test_two_records_with_the_same_number_are_both_linked(me: Api, world: World) -> None:
    """Numbers of business documents are unique within their type only."""
    item = me.item("known_contact")
    opportunity = row_of(world, "OpportunityCollection", Name="Second production line")
    ticket = row_of(world, "ServiceRequestCollection", Name="Seal of pump 7 leaks")
    ticket["ID"] = opportunity["ID"]
    assert me.save(item, [link("opportunity", opportunity)]).status_code == 201
    assert [c["type"] for c in me.context(item, complete=True)["cards"] if c["linked"]] == ["opportunity"]
    assert me.save(item, [link("opportunity", opportunity), link("ticket", ticket)]).status_code == 200
    activity = only_activity(world, item)
    assert sorted(r["TypeCode"] for r in children(world, activity, "references")) == ["118", "72"]


def test_no_links_and_no_attachments_is_a_choice(me: Api, world: World) -> None:
    item = me.item("with_attachment_known_contact")
    assert me.save(item, [], attachments=[]).status_code == 201
    assert file_names(world, only_activity(world, item)) == []


def test_a_save_without_attachments_can_be_made_up_for(me: Api, world: World) -> None:
    item = me.item("with_attachment_known_contact")
    assert me.save(item, attachments=[]).status_code == 201
    assert me.save(item).status_code == 200
    assert file_names(world, only_activity(world, item)) == ["Offer 2026-118.pdf"]


@everywhere
def test_chosen_attachments_may_be_renamed_and_the_message_itself_may_go_along(me: Api, world: World) -> None:
    item = me.item("attachments")
    first = next(a for a in me.preview(item)["attachments"] if a["name"] == "Offer 2026-118.pdf")
    chosen = [{"ref": first["ref"], "name": "Angebot.pdf"}]
    assert me.save(item, attachments=chosen, include_eml=True).status_code == 201
    activity = only_activity(world, item)
    assert file_names(world, activity) == ["Angebot.pdf", "Everything you asked for.eml"]
    eml = row_of(world, "EMailAttachmentsCollection", Name="Everything you asked for.eml")
    assert eml["Binary"] == me.message(item).mime


@everywhere
def test_files_of_the_same_name_are_told_apart(me: Api, world: World) -> None:
    item = me.item("attachments")
    assert me.save(item).status_code == 201
    assert file_names(world, only_activity(world, item)) == [
        "Offer 2026-118 (2).pdf",
        "Offer 2026-118.pdf",
        "Preisübersicht – März.csv",
        "pixel.gif",
    ]
    contents = {row["Name"]: row["Binary"] for row in children(world, only_activity(world, item), "files")}
    assert contents["Offer 2026-118 (2).pdf"] != contents["Offer 2026-118.pdf"]


@everywhere
def test_large_files_follow_the_activity_one_by_one(me: Api, world: World) -> None:
    item = me.item("with_attachment_known_contact")
    message = me.message(item)
    message.mime = with_files(message.mime, {"one.zip": 2_000_000, "two.zip": 2_000_000, "three.csv": 100})
    assert me.save(item).status_code == 201
    activity = only_activity(world, item)
    assert {r["Name"]: len(r["Binary"]) for r in children(world, activity, "files")} == {
        "one.zip": 2_000_000,
        "two.zip": 2_000_000,
        "three.csv": 100,
    }


def with_files(mime: bytes, sizes: dict[str, int]) -> bytes:
    """The message with a plain text and zero-filled files in place of its body."""
    head = mime.partition(b"\r\n\r\n")[0]
    kept = b"\r\n".join(line for line in unfolded(head) if not line.lower().startswith((b"content-", b"mime-")))
    parts = [b"Content-Type: text/plain\r\n\r\nFiles attached.\r\n"]
    for name, size in sizes.items():
        body = base64.encodebytes(bytes(size)).replace(b"\n", b"\r\n")
        disposition = f'Content-Disposition: attachment; filename="{name}"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
        parts.append(b"Content-Type: application/octet-stream\r\n" + disposition.encode() + body)
    body = b"".join(b"--limit\r\n" + part + b"\r\n" for part in parts) + b"--limit--\r\n"
    return kept + b'\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="limit"\r\n\r\n' + body


def unfolded(head: bytes) -> list[bytes]:
    return head.replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ").split(b"\r\n")


def test_the_subject_may_be_edited(me: Api, world: World) -> None:
    item = me.item("known_contact")
    assert me.save(item, subject="Lieferung März").status_code == 201
    assert only_activity(world, item)["Subject"] == "Lieferung März"


@everywhere
def test_hostile_text_passes_through_as_data(me: Api, world: World) -> None:
    item = me.item("hostile")
    context = me.context(item)
    assert any("<img src=x" in card["title"] for card in context["cards"])
    assert me.save(item, links_of(context)).status_code == 201
    activity = only_activity(world, item)
    assert activity["Subject"] == "</title><script>alert('subject')</script>${7*7}"
    assert "<script>alert('text')</script>" in children(world, activity, "notes")[0]["Text"]
    (name,) = file_names(world, activity)
    assert "/" not in name


@everywhere
def test_automatic_mail_can_be_saved_all_the_same(me: Api, world: World) -> None:
    item = me.item("newsletter")
    assert me.save(item).status_code == 201
    assert only_activity(world, item)["Subject"] == item["subject"]


# Preview and what is refused


@everywhere
def test_the_preview_says_what_a_save_would_hold_and_why_files_are_refused(me: Api, world: World) -> None:
    item = me.item("attachments")
    preview = me.preview(item)
    assert preview["subject"] == item["subject"]
    assert [(one["type"], one["id"]) for one in preview["links"]] == [
        (card["type"], card["id"]) for card in me.context(item)["cards"]
    ]
    reasons = {(a["name"], a["allowed"]): a["reason"] for a in preview["attachments"]}
    assert reasons == {
        ("logo.png", False): "Small pictures inside the text are not saved.",
        ("Offer 2026-118.pdf", True): None,
        ("Offer 2026-118 (2).pdf", True): None,
        ("Preisübersicht – März.csv", True): None,
        ("setup.exe", False): "Files of type .exe may not be saved.",
        ("pixel.gif", True): None,
    }
    assert activities(world, item) == []


def test_a_file_over_25_mb_is_refused_and_the_others_are_saved(me: Api, world: World) -> None:
    item = me.item("too_large")
    allowed = {a["name"]: (a["allowed"], a["reason"]) for a in me.preview(item)["attachments"]}
    assert allowed == {"drawings.zip": (False, "The file is larger than 25 MB."), "list.csv": (True, None)}
    refused = me.save(item, include_eml=True)
    assert (refused.status_code, refused.json["field"]) == (422, "include_eml")
    assert activities(world, item) == []
    assert me.save(item).status_code == 201
    assert file_names(world, only_activity(world, item)) == ["list.csv"]


@pytest.mark.parametrize(
    ("name", "rename", "words"),
    [
        ("setup.exe", None, ".exe may not be saved"),
        ("logo.png", None, "Small pictures"),
        ("Offer 2026-118.pdf", "offer.exe", ".exe may not be saved"),
        ("Offer 2026-118.pdf", "offer", "without an extension"),
        ("setup.exe", "setup.pdf", ".exe may not be saved"),
    ],
)
def test_a_refused_file_that_is_chosen_refuses_the_save(me: Api, world: World, name: str, rename: str | None, words: str) -> None:
    item = me.item("attachments")
    ref = next(a["ref"] for a in me.preview(item)["attachments"] if a["name"] == name)
    chosen = {"ref": ref, **({"name": rename} if rename else {})}
    refused = me.save(item, attachments=[chosen])
    assert (refused.status_code, refused.json["code"], refused.json["field"]) == (422, "invalid", "attachments")
    assert words in refused.json["detail"]
    assert activities(world, item) == []
    assert me.context(item)["save"]["state"] == "none"


def test_a_name_that_leads_elsewhere_loses_its_path(me: Api, world: World) -> None:
    item = me.item("with_attachment_known_contact")
    ref = me.preview(item)["attachments"][0]["ref"]
    assert me.save(item, attachments=[{"ref": ref, "name": "../../etc/passwd\u202efdp.pdf"}]).status_code == 201
    assert file_names(world, only_activity(world, item)) == ["passwdfdp.pdf"]
    assert me.save(item, attachments=[{"ref": ref, "name": "/"}]).status_code == 422


def test_an_attachment_that_the_message_does_not_have_is_refused(me: Api, world: World) -> None:
    refused = me.save("known_contact", attachments=[{"ref": "7.7"}])
    assert (refused.status_code, refused.json["detail"]) == (422, "The message has no such attachment.")


@everywhere
def test_a_message_that_is_not_in_the_mailbox_cannot_be_saved(me: Api, colleague: Api, world: World) -> None:
    foreign = me.item("known_contact")
    theirs = {**colleague.item("shared_message_id"), "id": foreign["id"]}
    for person, item in (
        (colleague, theirs),
        (me, {**foreign, "id": colleague.item("shared_message_id")["id"]}),
        (me, {**foreign, "id": "no/such?id"}),
        (me, {**foreign, "id": "../../users"}),
    ):
        refused = person.post("/saves", {"item": item, "links": []})
        assert (refused.status_code, refused.json["code"]) == (404, "not_found"), item["id"]
    assert list(world.saved_activities(key_of(foreign))) == []


@everywhere
def test_the_message_decides_and_not_what_the_caller_says_of_it(me: Api, world: World) -> None:
    item = me.item("known_contact")
    liar = {**item, "internet_message_id": "<forged@example.com>", "subject": "Forged", "from": None}
    assert me.save(liar).status_code == 201
    assert only_activity(world, item)["Subject"] == item["subject"]
    assert list(world.saved_activities("forged@example.com")) == []


# The same message again


@everywhere
def test_the_same_message_again_is_the_same_save(me: Api, world: World) -> None:
    item = me.item("known_contact")
    first, again = me.linked_save(item), me.linked_save(item)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json["id"] == again.json["id"]
    assert first.json["activity"] == again.json["activity"]
    assert len(activities(world, item)) == 1
    assert me.get("/saves/" + first.json["id"]).json == again.json


@everywhere
def test_a_later_save_adds_links_and_files_to_the_same_activity(me: Api, world: World) -> None:
    item = me.item("attachments")
    contact, account = links_of(me.context(item))
    offers = {a["name"]: a["ref"] for a in me.preview(item)["attachments"]}
    assert me.save(item, [contact], attachments=[{"ref": offers["Offer 2026-118.pdf"]}]).status_code == 201
    assert me.save(item, [contact, account], attachments=[{"ref": offers["pixel.gif"]}]).status_code == 200
    activity = only_activity(world, item)
    assert file_names(world, activity) == ["Offer 2026-118.pdf", "pixel.gif"]
    linked = {card["id"] for card in me.context(item)["cards"] if card["linked"]}
    assert linked == {contact["id"], account["id"]}


@everywhere
def test_the_same_message_in_another_folder_is_the_same_message(me: Api, world: World) -> None:
    item = me.item("known_contact")
    assert me.save(item).status_code == 201
    message = me.message(item)
    message.folder = world.mailbox(me.person.email).folder("deleteditems").id
    if me.person.access_type != "google":  # there an id stays
        message.ews_id = "AAMkNEW/place+AAA="
    moved = me.named(message.rest_id)
    assert me.context(moved)["save"]["state"] == "saved"
    assert me.save(moved).status_code == 200
    assert len(activities(world, item)) == 1


@everywhere
def test_a_message_without_message_id_is_saved_once(me: Api, world: World) -> None:
    item = me.item("no_message_id")
    before = len(list(world.saved_activities()))
    assert [me.save(item).status_code for _ in range(2)] == [201, 200]
    assert len(list(world.saved_activities())) == before + 1
    assert me.context(item)["save"]["state"] == "saved"


@everywhere
def test_another_message_under_the_same_message_id_is_another_message(me: Api, world: World) -> None:
    item, other = me.item("known_contact"), me.item("account_only")
    message = me.message(other)
    message.mime = message.mime.replace(other["internet_message_id"].encode(), item["internet_message_id"].encode())
    twin = me.named(other["id"])
    assert twin["internet_message_id"] == item["internet_message_id"]
    before = len(list(world.saved_activities()))
    assert (me.save(item).status_code, me.save(twin).status_code) == (201, 201)
    subjects = {row["Subject"] for row in world.saved_activities()}
    assert {item["subject"], other["subject"]} <= subjects
    assert len(list(world.saved_activities())) == before + 2
    assert (me.save(item).status_code, me.save(twin).status_code) == (200, 200)
    assert len(list(world.saved_activities())) == before + 2


def test_an_activity_that_was_deleted_in_c4c_can_be_saved_again(me: Api, world: World, forward: Callable[..., None]) -> None:
    item = me.item("known_contact")
    first = me.save(item)
    delete(world, only_activity(world, item))
    forward(minutes=5)
    status = me.context(item, refresh=True)["save"]
    assert (status["state"], status["reason"]) == ("none", "The activity was deleted in SAP Cloud for Customer.")
    again = me.save(item)
    assert (again.status_code, again.json["id"]) == (201, first.json["id"])
    assert only_activity(world, item)["ObjectID"] == again.json["activity"]["id"] != first.json["activity"]["id"]
    assert me.context(item)["save"]["state"] == "saved"


def delete(world: World, activity: dict[str, Any]) -> None:
    del world.crm.rows("EMailCollection")[activity["ObjectID"]]


@everywhere
def test_an_activity_that_c4c_has_already_is_found_and_not_doubled(me: Api, world: World) -> None:
    """The database was lost, or another installation saved it."""
    item = me.item("known_contact")
    assert me.save(item).status_code == 201
    other = me.item("account_only")
    message = me.message(other)
    activity = only_activity(world, item)
    activity["GroupwareItemID"] = key_of(other)
    assert me.context(other)["save"] == {
        "state": "saved",
        "by": "colleague",
        "id": None,
        "at": None,
        "reason": None,
        "activity": {"id": activity["ObjectID"], "url": me.context(other)["save"]["activity"]["url"]},
    }
    assert me.save(other).json["activity"]["id"] == activity["ObjectID"]
    assert len(activities(world, other)) == 1
    assert me.host.saved in message.categories


# A colleague


@everywhere
def test_a_colleagues_save_adds_their_links_to_the_same_activity(me: Api, colleague: Api, world: World) -> None:
    item, copy = me.item("shared_message_id"), colleague.item("shared_message_id")
    contact, account = links_of(me.context(item))
    assert me.save(item, [contact]).status_code == 201
    seen = colleague.context(copy)["save"]
    assert (seen["state"], seen["by"]) == ("saved", "colleague")
    assert colleague.categories(copy) == []
    saved = colleague.save(copy, [account])
    assert saved.status_code in (200, 201)
    activity = only_activity(world, item)
    assert saved.json["activity"]["id"] == activity["ObjectID"]
    linked = {card["id"] for card in me.context(item, refresh=True)["cards"] if card["linked"]}
    assert linked == {contact["id"], account["id"]}
    assert (me.categories(item), colleague.categories(copy)) == ([me.host.saved], [SAVED])
    assert colleague.context(copy)["save"]["by"] == "colleague"
    assert me.context(item)["save"]["by"] == "you"


def test_a_colleague_who_may_not_see_the_activity_is_told_so_and_makes_no_double(me: Api, colleague: Api, world: World) -> None:
    item, copy = me.item("shared_message_id"), colleague.item("shared_message_id")
    assert me.linked_save(item).status_code == 201
    activity = only_activity(world, item)
    world.crm.visible_to[activity["ObjectID"]] = frozenset({me.person.user_id})
    seen = colleague.context(copy)
    assert (seen["save"]["state"], seen["save"]["by"], seen["save"]["activity"]) == ("saved", "colleague", None)
    saved = colleague.save(copy, links_of(seen))
    assert saved.status_code in (200, 201)
    assert (saved.json["state"], saved.json["activity"]) == ("saved", None)
    assert "colleague" in saved.json["reason"]
    assert me.person.name not in saved.text
    assert len(activities(world, item)) == 1
    assert colleague.categories(copy) == [SAVED]
    assert colleague.get("/saves/" + saved.json["id"]).json == saved.json
    assert colleague.context(copy)["save"]["activity"] is None


# Whose save it is


def test_a_save_of_another_user_does_not_exist(me: Api, colleague: Api) -> None:
    mine = me.save("known_contact").json["id"]
    for method, path in (("GET", "/saves/{}"), ("POST", "/saves/{}/retry")):
        foreign = colleague.send(method, path.format(mine))
        unknown = colleague.send(method, path.format("0" * 32))
        assert (foreign.status_code, unknown.status_code) == (404, 404)
        assert without_request_id(foreign.json) == without_request_id(unknown.json)
    assert me.get("/saves/" + mine).status_code == 200


def without_request_id(problem: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in problem.items() if name != "request_id"}


# Marks


@everywhere
def test_other_peoples_categories_survive(me: Api, world: World) -> None:
    item = me.item("own_category")
    assert me.save(item).status_code == 201
    assert me.categories(item) == ["Follow-up", "Offer", me.host.saved]


@everywhere
def test_a_category_that_is_added_while_ours_is_written_survives(me: Api, world: World) -> None:
    me.fail("second_writer")
    item = me.item("own_category")
    assert me.save(item).status_code == 201
    assert set(me.categories(item)) == {"Follow-up", "Offer", me.host.saved, "Team review"}


@everywhere
def test_the_wish_category_gives_way_to_saved(me: Api, world: World) -> None:
    item = me.item("known_contact")
    me.categorize(item, "Private", "SAP Cloud for Customer", "SSI: an old reason")
    assert me.save(item).status_code == 201
    assert me.categories(item) == ["Private", me.host.saved]


def test_our_categories_get_their_colours_in_the_master_list(me: Api, world: World) -> None:
    mailbox = world.mailbox(me.person.email)
    own = {c.name: c.color for c in mailbox.categories.values()}
    mailbox.categories["x"] = Category("x", SAVED, "preset7")
    assert me.save("known_contact").status_code == 201
    colours = {c.name: c.color for c in mailbox.categories.values()}
    assert colours[SAVED] == "preset19"
    assert colours["Pending in SAP Cloud for Customer SSI"] == "preset3"
    assert own.items() <= colours.items()


@everywhere
def test_a_new_save_of_a_message_that_lost_its_mark_sets_it_again(me: Api, world: World, forward: Callable[..., None]) -> None:
    item = me.item("known_contact")
    assert me.save(item).status_code == 201
    me.categorize(item)
    forward(seconds=1)
    assert me.save(item).status_code == 200
    assert me.categories(item) == [me.host.saved]


@everywhere
def test_a_saved_mail_keeps_the_time_of_its_date_header_or_of_its_arrival(me: Api, world: World) -> None:
    item = me.item("known_contact")
    message = me.message(item)
    lines = [line for line in unfolded(message.mime.partition(b"\r\n\r\n")[0]) if not line.lower().startswith(b"date:")]
    message.mime = b"\r\n".join(lines) + b"\r\n\r\nNo date.\r\n"
    assert me.save(item).status_code == 201
    assert abs(only_activity(world, item)["DateTime"] - message.received_at) < timedelta(seconds=1)
