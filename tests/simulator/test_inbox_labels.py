"""The mail client of a mailbox at Google: what its owner does with labels, and that Gmail's API tells the same story."""

import re
from typing import Any

import pytest
from flask.testing import FlaskClient

from simulator import demo
from simulator.google.discovery import Description
from simulator.google.mail import Call, Gmail
from simulator.inbox import create_app
from simulator.inbox.labels import COLORS
from simulator.world import MailboxState, World
from tests.simulator.inbox_page import box_of, path, stored

CASE = "own_category"  # carries Follow-up and Offer


@pytest.fixture
def world() -> World:
    world = demo.small()
    demo.rehome(world, world.people[0], "google")
    return world


@pytest.fixture
def gmail() -> Gmail:
    return Gmail(Description("gmail.v1").palette)


@pytest.fixture
def client(world: World, gmail: Gmail) -> FlaskClient:
    app = create_app(lambda: world, sidebar_url=lambda: "", mint_token=lambda person: person.email, gmail=gmail)
    return app.test_client()


@pytest.fixture
def box(world: World) -> MailboxState:
    return box_of(world, CASE)


@pytest.fixture
def labels_url(box: MailboxState) -> str:
    return f"/api/mailboxes/{box.owner.email}/categories"


def shown(client: FlaskClient, box: MailboxState, place: str) -> set[str]:
    """The ids of the messages that the client lists in a place."""
    view = client.get(f"/api/mailboxes/{box.owner.email}?folder={place}").get_json()
    return {row["id"] for row in view["messages"]}


def told(world: World, gmail: Gmail, box: MailboxState, method: str, ref: str = "", **more: Any) -> Any:
    """What Gmail's API answers the mailbox's owner."""
    call = Call(f"gmail.users.{method}", {"userId": "me", "id": ref}, {"format": "minimal", **more}, {}, "GET /", box.owner)
    return gmail.answer(world, call)


def test_places_are_gmails_labels_and_a_message_is_in_each_one_that_it_carries(
    world: World, client: FlaskClient, box: MailboxState
) -> None:
    view = client.get(f"/api/mailboxes/{box.owner.email}").get_json()
    assert [place["name"] for place in view["folders"]] == [
        *("Inbox", "Sent", "Drafts", "Trash", "All Mail"),
        *(label.name for label in box.categories.values()),
    ]
    ids = {place["name"]: place["id"] for place in view["folders"]}
    ref = stored(world, CASE).immutable_id
    assert [name for name, place in ids.items() if ref in shown(client, box, place)] == [
        "Inbox",
        "All Mail",
        "Follow-up",
        "Offer",
    ]
    assert client.get(f"/api/mailboxes/{box.owner.email}?folder=Label_99").status_code == 404


def test_a_name_that_is_no_label_is_not_on_a_message(world: World, client: FlaskClient) -> None:
    stored(world, CASE).categories.append("Of no list")
    assert client.get(path(world, CASE)).get_json()["categories"] == ["Follow-up", "Offer"]


def test_what_the_owner_does_with_labels_is_what_gmails_api_tells(
    world: World, client: FlaskClient, gmail: Gmail, box: MailboxState
) -> None:
    message = stored(world, CASE)
    start = int(told(world, gmail, box, "getProfile")["historyId"])
    offer, private = (next(c.id for c in box.categories.values() if c.name == name) for name in ("Offer", "Private"))
    answer = client.post(path(world, CASE, "/categories"), json={"add": ["PRIVATE"], "remove": ["offer"]}).get_json()
    assert answer["categories"] == ["Follow-up", "Private"]
    assert private in told(world, gmail, box, "messages.get", message.immutable_id)["labelIds"]
    history = told(world, gmail, box, "history.list", startHistoryId=start, maxResults=100)["history"]
    assert [record["labelsAdded"][0]["labelIds"] for record in history if "labelsAdded" in record] == [[private]]
    assert [record["labelsRemoved"][0]["labelIds"] for record in history if "labelsRemoved" in record] == [[offer]]
    refused = client.post(path(world, CASE, "/categories"), json={"add": ["Nowhere"]})
    assert (refused.status_code, message.categories) == (422, ["Follow-up", "Private"])


def test_labels_are_made_by_gmails_rules(client: FlaskClient, labels_url: str) -> None:
    made = client.post(labels_url, json={"name": "Customers/Pumps", "color": "#0b804b #ffffff"})
    assert (made.status_code, made.get_json()["color"]) == (201, "#0b804b #ffffff")
    for wish, status, text in [
        ({"name": "customers/PUMPS"}, 409, "Label name exists or conflicts"),
        ({"name": "Inbox"}, 400, "Invalid label name"),
        ({"name": "Loud", "color": "#ff0000 #ffffff"}, 400, "Label color #ff0000 is not on the allowed color palette"),
    ]:
        answer = client.post(labels_url, json=wish)
        assert (answer.status_code, answer.get_json()["error"]) == (status, text)


def test_every_color_that_is_offered_is_one_of_gmails(client: FlaskClient) -> None:
    palette = Description("gmail.v1").palette
    assert {part for _, color in COLORS for part in color.split()} <= palette
    assert [c["color"] for c in client.get("/api/config").get_json()["label_colors"]] == [color for _, color in COLORS]


def test_a_label_is_renamed_and_recolored_wherever_it_is_and_deleted_with_all_its_traces(
    world: World, client: FlaskClient, box: MailboxState, labels_url: str
) -> None:
    message = stored(world, CASE)
    ref = next(label.id for label in box.categories.values() if label.name == "Offer")
    assert client.patch(f"{labels_url}/{ref}", json={"name": "Quote", "color": "#cc3a21 #ffffff"}).status_code == 200
    assert (message.categories, box.categories[ref].color) == (["Follow-up", "Quote"], "#cc3a21 #ffffff")
    assert client.patch(f"{labels_url}/{ref}", json={"color": "none"}).get_json()["name"] == "Quote"
    assert box.categories[ref].color == "none"
    assert client.delete(f"{labels_url}/{ref}").status_code == 204
    assert message.categories == ["Follow-up"]
    assert client.delete(f"{labels_url}/{ref}").status_code == 404
    again = client.post(labels_url, json={"name": "Offer"}).get_json()
    assert again["id"] != ref


def test_a_label_that_the_list_hides_is_still_shown_on_its_messages(
    world: World, client: FlaskClient, gmail: Gmail, box: MailboxState
) -> None:
    body = {"name": "SSI: refused", "labelListVisibility": "labelHide"}
    gmail.answer(world, Call("gmail.users.labels.create", {"userId": "me"}, {}, body, "POST /", box.owner))
    client.post(path(world, CASE, "/categories"), json={"add": ["SSI: refused"]})
    view = client.get(f"/api/mailboxes/{box.owner.email}").get_json()
    assert "SSI: refused" not in {place["name"] for place in view["folders"]}
    assert "SSI: refused" in next(row for row in view["messages"] if row["id"] == stored(world, CASE).immutable_id)["categories"]


def test_archiving_moving_and_throwing_away_change_labels_and_never_the_id(
    world: World, client: FlaskClient, gmail: Gmail, box: MailboxState
) -> None:
    message = stored(world, CASE)
    ref = message.immutable_id

    def after(place: str) -> tuple[str, list[str]]:
        now = client.post(path(world, CASE, "/move"), json={"folder": place}).get_json()
        assert now["item_id"] == ref
        return now["folder"], told(world, gmail, box, "messages.get", ref).get("labelIds", [])

    follow_up, private, offer = (label.id for label in box.categories.values())
    assert after("ALL_MAIL") == ("ALL_MAIL", [follow_up, offer])
    assert after(private) == ("ALL_MAIL", [follow_up, offer, private])
    assert after("inbox") == ("INBOX", ["INBOX", follow_up, offer, private])
    assert after("deleteditems") == ("TRASH", ["TRASH", follow_up, offer, private])
    assert ref not in shown(client, box, private) | shown(client, box, "ALL_MAIL")
    assert client.post(path(world, CASE, "/move"), json={"folder": "SENT"}).status_code == 409


def test_what_was_sent_stays_so_whatever_is_done_with_it(world: World, client: FlaskClient, box: MailboxState) -> None:
    message = stored(world, "thread_sent")
    sent = message.folder
    private = next(label.id for label in box.categories.values() if label.name == "Private")
    moved = client.post(path(world, "thread_sent", "/move"), json={"folder": private}).get_json()
    assert (moved["folder"], message.categories, message.folder) == ("SENT", ["Private"], sent)
    assert client.post(path(world, "thread_sent", "/move"), json={"folder": "INBOX"}).status_code == 409


def test_mail_that_is_written_or_arrives_has_gmails_ids_and_an_answer_is_in_the_thread(
    world: World, client: FlaskClient, gmail: Gmail, box: MailboxState
) -> None:
    message, colleague = stored(world, CASE), list(world.mailboxes.values())[1]
    url = f"/api/mailboxes/{box.owner.email}/messages"
    form = {"to": colleague.owner.email, "subject": "Re: news", "text": "None.", "conversation_id": message.conversation_id}
    sent = client.post(url, json={**form, "send": True}).get_json()
    assert sent["id"] == sent["item_id"]
    assert re.fullmatch("[0-9a-f]{16}", sent["id"])
    known = told(world, gmail, box, "messages.get", sent["id"])
    assert (known["threadId"], known["labelIds"]) == (message.conversation_id, ["SENT"])

    back = {"to": box.owner.email, "subject": "News", "text": "Some.", "send": True}
    client.post(f"/api/mailboxes/{colleague.owner.email}/messages", json=back)
    arrived = max(box.messages.values(), key=lambda m: m.received_at)
    assert set(told(world, gmail, box, "messages.get", arrived.immutable_id)["labelIds"]) == {"INBOX", "UNREAD"}
    assert client.get(f"{url}/{arrived.immutable_id}").get_json()["item_class"] == ""
