"""The simulator's mail client: what its JSON promises, whoever hosts the mailbox, and what the World's back door does."""

from email import message_from_bytes, policy
from html import escape

import pytest
from flask.testing import FlaskClient

from simulator import demo
from simulator.inbox import create_app
from simulator.world import World
from tests.simulator.inbox_page import box_of, path, stored


@pytest.fixture
def world() -> World:
    return demo.small()


# -- The mail client's JSON -----------------------------------------------------------------------------------------------


def test_a_folder_lists_its_messages_newest_first_and_says_nothing_until_something_changes(
    world: World, client: FlaskClient
) -> None:
    box = box_of(world, "known_contact")
    url = f"/api/mailboxes/{box.owner.email}"
    view = client.get(url).get_json()
    times = [row["received_at"] for row in view["messages"]]
    assert times == sorted(times, reverse=True)
    assert len(times) == sum(m.folder == box.folder("inbox").id for m in box.messages.values())
    assert client.get(f"{url}?seen={view['revision']}").status_code == 204

    category = next(iter(box.categories.values()))
    category.color = "preset9"
    assert client.get(f"{url}?seen={view['revision']}").status_code == 200


def test_every_message_of_the_demo_can_be_opened(world: World, client: FlaskClient) -> None:
    for case in world.cases:
        detail = client.get(path(world, case)).get_json()
        assert detail["item_id"] == stored(world, case).ews_id
        assert detail["headers"].splitlines()[0].split(":")[0].isascii()
        assert client.get(path(world, case, "/mime")).data == stored(world, case).mime


def test_an_html_body_is_served_where_nothing_can_run_or_be_fetched(world: World, client: FlaskClient) -> None:
    answer = client.get(path(world, "hostile", "/html"))
    rules = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in rules
    assert "allow-scripts" not in rules
    assert client.get(path(world, "known_contact", "/html")).status_code == 404


def test_attachments_come_as_files_and_inline_images_are_shown_in_the_body(world: World, client: FlaskClient) -> None:
    detail = client.get(path(world, "attachments")).get_json()
    file = next(a for a in detail["attachments"] if not a["inline"])
    got = client.get(path(world, "attachments", f"/attachments/{file['path']}"))
    assert len(got.data) == file["size"]
    assert got.headers["Content-Disposition"].startswith("attachment")
    assert "cid:" not in client.get(path(world, "attachments", "/html")).text


def test_categories_are_added_and_removed_by_name_and_others_stay(world: World, client: FlaskClient) -> None:
    url = path(world, "own_category", "/categories")
    before = list(stored(world, "own_category").categories)
    change = stored(world, "own_category").change
    answer = client.post(url, json={"add": ["Private", before[0].upper()]}).get_json()
    assert answer["categories"] == [*before, "Private"]
    client.post(url, json={"remove": ["PRIVATE"]})
    assert stored(world, "own_category").categories == before
    assert stored(world, "own_category").change > change
    assert [e.detail["after"] for e in world.events("inbox", "categories")] == [[*before, "Private"], before]


def test_a_user_makes_recolors_and_deletes_a_category_and_messages_keep_its_name(world: World, client: FlaskClient) -> None:
    box = box_of(world, "own_category")
    url = f"/api/mailboxes/{box.owner.email}/categories"
    made = client.post(url, json={"name": "Fair", "color": "preset2"}).get_json()
    assert client.post(url, json={"name": "FAIR"}).status_code == 409
    assert client.patch(f"{url}/{made['id']}", json={"color": "magenta"}).status_code == 422
    assert client.patch(f"{url}/{made['id']}", json={"color": "preset4"}).get_json()["color"] == "preset4"
    client.post(path(world, "own_category", "/categories"), json={"add": ["Fair"]})
    assert client.delete(f"{url}/{made['id']}").status_code == 204
    assert made["id"] not in box.categories
    assert "Fair" in stored(world, "own_category").categories


def test_a_moved_message_keeps_its_immutable_id_only_and_leaves_a_tombstone(world: World, client: FlaskClient) -> None:
    box, message = box_of(world, "known_contact"), stored(world, "known_contact")
    ews_id, source = message.ews_id, message.folder
    assert client.post(path(world, "known_contact", "/move"), json={"folder": "deleteditems"}).status_code == 200
    assert message.folder == box.folder("deleteditems").id
    assert message.ews_id != ews_id
    assert (source, message.immutable_id) in [(gone.folder, gone.immutable_id) for gone in box.tombstones]
    assert client.post(path(world, "known_contact", "/move"), json={"folder": "nowhere"}).status_code == 404


def test_what_is_sent_reaches_colleagues_with_the_same_message_id_and_without_bcc(world: World, client: FlaskClient) -> None:
    sender, to, hidden = list(world.mailboxes.values())[:3]
    url = f"/api/mailboxes/{sender.owner.email}/messages"
    form = {"to": f'"Last, First" <{to.owner.email}>', "bcc": hidden.owner.email, "subject": "Lunch", "text": "At one?"}
    draft = client.post(url, json=form).get_json()
    assert sender.messages[draft["id"]].is_draft
    sent = client.post(url, json={**form, "id": draft["id"], "send": True}).get_json()
    assert sent["id"] == draft["id"]
    assert sender.messages[sent["id"]].folder == sender.folder("sentitems").id

    original = message_from_bytes(sender.messages[sent["id"]].mime, policy=policy.default)
    for box in (to, hidden):
        copy = max(box.messages.values(), key=lambda m: m.received_at)
        letter = message_from_bytes(copy.mime, policy=policy.default)
        assert letter["Message-ID"] == original["Message-ID"]
        assert letter["Bcc"] is None
        assert not copy.is_read
    before = len(sender.messages)
    assert client.post(url, json={"subject": "To nobody", "send": True}).status_code == 422
    assert len(sender.messages) == before


def test_a_draft_that_is_saved_again_keeps_its_files(world: World, client: FlaskClient) -> None:
    box = box_of(world, "with_attachment_known_contact")
    draft = stored(world, "with_attachment_known_contact")
    draft.is_draft, draft.folder = True, box.folder("drafts").id
    names = [a["name"] for a in client.get(path(world, "with_attachment_known_contact")).get_json()["attachments"]]
    client.post(
        f"/api/mailboxes/{box.owner.email}/messages", json={"id": draft.immutable_id, "subject": "Again", "to": "a@b.example"}
    )
    detail = client.get(path(world, "with_attachment_known_contact")).get_json()
    assert (detail["subject"], [a["name"] for a in detail["attachments"]]) == ("Again", names)


def test_what_is_forwarded_takes_the_files_along(world: World, client: FlaskClient) -> None:
    url = f"/api/mailboxes/{box_of(world, 'attachments').owner.email}/messages"
    form = {"forward": stored(world, "attachments").immutable_id, "subject": "Fwd", "to": "a@b.example", "send": True}
    sent = client.get(f"{url}/{client.post(url, json=form).get_json()['id']}").get_json()
    original = client.get(path(world, "attachments")).get_json()
    assert [(a["name"], a["inline"]) for a in sent["attachments"]] == [(a["name"], a["inline"]) for a in original["attachments"]]
    assert sent["internet_message_id"] != original["internet_message_id"]


def test_what_does_not_exist_is_refused_in_a_sentence(client: FlaskClient) -> None:
    answer = client.get("/api/mailboxes/nobody@example.org")
    assert (answer.status_code, answer.get_json()) == (404, {"error": "There is no such mailbox"})


def test_the_page_may_frame_its_own_messages_and_the_sidebar_and_nothing_else(world: World, client: FlaskClient) -> None:
    def framed(client: FlaskClient) -> str:
        with client.get("/") as page:
            rules = page.headers["Content-Security-Policy"].split("; ")
        return next(rule for rule in rules if rule.startswith("frame-src"))

    assert framed(client) == "frame-src 'self' http://127.0.0.1:1"
    alone = create_app(lambda: world, sidebar_url=lambda: "", mint_token=lambda person: person.email)
    assert framed(alone.test_client()) == "frame-src 'self'"


# -- The back door ----------------------------------------------------------------------------------------------------------


def test_faults_and_latency_are_set_and_removed_over_http(world: World, client: FlaskClient) -> None:
    first = client.post("/world/faults", json={"vendor": "c4c", "kind": "status", "status": 429, "times": None}).get_json()
    client.post("/world/faults", json={"vendor": "graph", "kind": "hang", "seconds": 2})
    assert [(f.vendor, f.status, f.times) for f in world.faults] == [("c4c", 429, None), ("graph", 503, 1)]
    assert client.post("/world/faults", json={"vendor": "c4c", "kynd": "status"}).status_code == 422
    client.delete(f"/world/faults/{first['id']}")
    assert [f["vendor"] for f in client.get("/world/faults").get_json()] == ["graph"]
    client.delete("/world/faults")
    assert world.faults == []

    client.post("/world/latency", json={"vendor": "c4c", "base_ms": 300})
    assert client.get("/world/latency").get_json()["c4c"] == {"base_ms": 300, "per_part_ms": 0}


def test_the_log_and_the_requests_are_read_from_where_one_left_off(world: World, client: FlaskClient) -> None:
    first = world.happened("c4c", "create", "ANNA", entity="EMail")
    world.happened("graph", "categories", "anna@example.org")
    assert [e["kind"] for e in client.get(f"/world/log?since={first.seq}").get_json()] == ["categories"]
    assert client.get("/world/log?vendor=c4c").get_json()[0]["detail"] == {"entity": "EMail"}
    world.accessed(vendor="c4c", method="POST", path="/x", query="", status=202, duration_ms=1.0, actor="ANNA", parts=("GET A",))
    assert client.get("/world/access").get_json()[0]["parts"] == ["GET A"]
    client.post("/world/reset-log")
    assert client.get("/world/access").get_json() == []
    assert len(client.get("/world/log").get_json()) == len(world.log)


def test_the_named_messages_of_the_demo_can_be_found(world: World, client: FlaskClient) -> None:
    found = client.get("/world/cases").get_json()["known_contact"]
    assert (found["mailbox"], found["id"]) == world.cases["known_contact"]


def test_the_record_page_shows_an_activity_with_its_children_as_text(world: World, client: FlaskClient) -> None:
    hostile = "<script>alert(1)</script>"
    email = {"ObjectID": "E1", "ID": "77", "Subject": hostile, "GroupwareItemID": "<1@example.org>"}
    world.crm.rows("EMailCollection")["E1"] = email
    file = {"ObjectID": "A1", "ParentObjectID": "E1", "Name": "offer.pdf", "MimeType": "application/pdf", "Binary": b"12345"}
    world.crm.rows("EMailAttachmentsCollection")["A1"] = file
    world.crm.rows("EMailInvolvedPartiesCollection")["P1"] = {"ObjectID": "P1", "ParentObjectID": "E1", "PartyID": "4711"}
    for query in ("id=E1", "type=email&id=77", "param.InternalID=E1"):
        page = client.get(f"/c4c/record?{query}").text
        assert escape(hostile) in page
        assert hostile not in page
        assert all(text in page for text in ("E-mail", "offer.pdf", "5 bytes", "4711"))
    assert client.get("/c4c/record?id=nothing").status_code == 404
    assert client.get("/c4c/record").status_code == 404


def test_a_contact_is_shown_by_its_object_id_or_its_number(world: World, client: FlaskClient) -> None:
    contact = next(iter(world.crm.rows("ContactCollection").values()))
    for query in (f"id={contact['ObjectID']}", f"type=contact&id={contact['ContactID']}"):
        page = client.get(f"/c4c/record?{query}").text
        assert "Contact" in page
        assert escape(contact["Email"]) in page
