"""The simulated Graph keeps the promises that a client may rely on, and breaks those that it may not."""

import base64
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from email import message_from_bytes, policy

import httpx
import pytest
from flask import Flask

from simulator import demo, graph
from simulator.graph.calls import SECOND_WRITERS_CATEGORY
from simulator.graph.resources import ATTACHMENT, CATEGORY, FOLDER, MESSAGE, ON_REQUEST
from simulator.serving import Port
from simulator.world import Fault, Person, StoredMessage, World
from tests.contracts import GraphContract, graph_contract
from tests.simulator.holder import Holder

IMMUTABLE = {"Prefer": 'IdType="ImmutableId"'}


@pytest.fixture(scope="module")
def app(holder: Holder) -> Flask:
    return graph.create_app(lambda: holder.world, holder.person_of)


@pytest.fixture
def client(port: Port, me: Person) -> Iterator[httpx.Client]:
    with closing(client_of(port, me)) as client:
        yield client


def client_of(port: Port, person: Person) -> httpx.Client:
    """A client whose token is the person's address."""
    return httpx.Client(base_url=f"{port.url}/v1.0/me/", headers={"Authorization": f"Bearer {person.email}"}, timeout=5)


def case(world: World, name: str) -> StoredMessage:
    mailbox, identifier = world.cases[name]
    return world.mailbox(mailbox).messages[identifier]


def code(response: httpx.Response) -> str:
    return str(response.json()["error"]["code"])


@pytest.fixture(scope="session")
def contract() -> GraphContract:
    return graph_contract()


# Contract


def test_answers_match_the_published_description(contract: GraphContract, port: Port, world: World, me: Person) -> None:
    def check(response: httpx.Response) -> None:
        response.read()
        contract.check(response.request, response)

    meeting, files = case(world, "meeting_answer").rest_id, case(world, "attachments").rest_id
    with closing(client_of(port, me)) as client:
        client.event_hooks = {"response": [check]}
        attachment = client.get(f"messages/{files}/attachments").json()["value"][1]["id"]
        category = client.post("outlook/masterCategories", json={"displayName": "New", "color": "preset3"}).json()["id"]
        answers = [
            client.get("../me"),
            client.get("messages", params={"$top": 50, "$select": "subject,internetMessageHeaders,from"}),
            client.get("messages", params={"$filter": "isRead eq false", "$count": "true"}),
            client.get(f"messages/{meeting}"),
            client.get(f"messages/{files}", params={"$expand": "attachments"}),
            client.get(f"messages/{files}/$value"),
            client.get(f"messages/{files}/attachments/{attachment}"),
            client.get(f"messages/{files}/attachments/{attachment}/$value"),
            client.patch(f"messages/{files}", json={"categories": ["A"], "isRead": True}, headers={"If-Match": "*"}),
            client.post(f"messages/{files}/move", json={"destinationId": "deleteditems"}),
            client.get("mailFolders"),
            client.get("mailFolders/inbox"),
            client.get("mailFolders/inbox/messages"),
            client.get("mailFolders/inbox/messages/delta", headers={"Prefer": "odata.maxpagesize=3"}),
            client.get("outlook/masterCategories"),
            client.patch(f"outlook/masterCategories/{category}", json={"color": "none"}),
            client.delete(f"outlook/masterCategories/{category}"),
            client.post("../$batch", json={"requests": [{"id": "1", "method": "GET", "url": "/me/messages?$top=1"}]}),
        ]
        assert [a.status_code for a in answers if not a.is_success] == []
        client.get("messages/AAMkNobody")  # errors are checked as well
        client.post("outlook/masterCategories", json={"displayName": "Offer"})


@pytest.mark.parametrize(
    ("schemas", "properties"),
    [
        (["message"], {**MESSAGE, **ON_REQUEST}),
        (["attachment", "fileAttachment"], ATTACHMENT),
        (["mailFolder"], FOLDER),
        (["outlookCategory"], CATEGORY),
    ],
)
def test_property_names_are_those_of_the_metadata(
    contract: GraphContract, schemas: list[str], properties: dict[str, object]
) -> None:
    known = {name for schema in schemas for name in contract.schemas[schema]["properties"]}
    assert set(properties) <= known


# Who may


def test_a_token_that_is_not_good_is_refused_with_a_challenge(client: httpx.Client) -> None:
    answer = client.get("messages", headers={"Authorization": "Bearer expired"})
    assert (answer.status_code, code(answer)) == (401, "InvalidAuthenticationToken")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert {"date", "request-id", "client-request-id"} <= set(answer.json()["error"]["innerError"])


def test_nobody_reads_another_mailbox(client: httpx.Client, world: World) -> None:
    other = world.people[1].email
    assert client.get(f"../users/{other}/messages").status_code == 403
    assert client.get(f"../users/{world.people[0].email}/messages").status_code == 200
    shared = world.mailbox(other)
    assert client.get(f"messages/{next(iter(shared.messages))}").status_code == 404


def test_who_has_no_mailbox_here_is_told_so(port: Port, world: World) -> None:
    with closing(client_of(port, world.people[-1])) as client:
        answer = client.get("messages")
        assert client.get("../me").json()["displayName"] == world.people[-1].name
    assert (answer.status_code, code(answer)) == (404, "MailboxNotEnabledForRESTAPI")


# Reading


def test_ids_are_immutable_only_when_asked_for(client: httpx.Client, world: World) -> None:
    message = case(world, "known_contact")
    for any_form in (message.immutable_id, message.rest_id, message.ews_id.replace("/", "%2F").replace("+", "%2B")):
        assert client.get(f"messages/{any_form}").json()["id"] == message.rest_id
        assert client.get(f"messages/{any_form}", headers=IMMUTABLE).json()["id"] == message.immutable_id


def test_a_move_changes_the_rest_id_and_keeps_the_immutable_one(client: httpx.Client, world: World) -> None:
    message = case(world, "known_contact")
    before = message.rest_id
    moved = client.post(f"messages/{before}/move", json={"destinationId": "deleteditems"})
    assert (moved.status_code, moved.json()["id"]) == (201, message.rest_id)
    assert message.rest_id != before
    assert client.get(f"messages/{before}").status_code == 404
    assert client.get(f"messages/{message.immutable_id}").json()["parentFolderId"] == message.folder
    assert [e.detail["id"] for e in world.events("graph", "move")] == [message.immutable_id]


def test_select_brings_what_is_named_with_id_and_etag(client: httpx.Client, world: World) -> None:
    message = case(world, "newsletter")
    answer = client.get(f"messages/{message.rest_id}", params={"$select": "subject,internetMessageHeaders"}).json()
    assert set(answer) == {"@odata.etag", "id", "subject", "internetMessageHeaders"}
    assert {"name": "Precedence", "value": "bulk"} in answer["internetMessageHeaders"]
    assert "internetMessageHeaders" not in client.get(f"messages/{message.rest_id}").json()
    refused = client.get(f"messages/{message.rest_id}", params={"$select": "itemClass"})
    assert (refused.status_code, code(refused)) == (400, "RequestBroker--ParseUri")


def test_headers_of_a_sent_message_are_in_its_mime_only(client: httpx.Client, world: World) -> None:
    message = case(world, "thread_sent")
    answer = client.get(f"messages/{message.rest_id}", params={"$select": "internetMessageHeaders,internetMessageId"}).json()
    assert "internetMessageHeaders" not in answer
    parsed = message_from_bytes(client.get(f"messages/{message.rest_id}/$value").content, policy=policy.default)
    assert parsed["Message-ID"] == answer["internetMessageId"]


def test_the_item_class_comes_as_an_extended_property(client: httpx.Client, world: World) -> None:
    message = case(world, "bounce")
    expand = "singleValueExtendedProperties($filter=id eq 'String 0x001A' or id eq 'String 0x9999')"
    answer = client.get(f"messages/{message.rest_id}", params={"$select": "id", "$expand": expand}).json()
    assert answer["singleValueExtendedProperties"] == [{"id": "String 0x1a", "value": "REPORT.IPM.Note.NDR"}]


def test_a_meeting_answer_is_of_a_derived_type(client: httpx.Client, world: World) -> None:
    answer = client.get(f"messages/{case(world, 'meeting_answer').rest_id}").json()
    assert (answer["@odata.type"], answer["meetingMessageType"]) == ("#microsoft.graph.eventMessageResponse", "meetingAccepted")
    cast = {"$select": "microsoft.graph.eventMessage/meetingMessageType"}
    found = [client.get(f"messages/{case(world, name).rest_id}", params=cast).json() for name in ("meeting_answer", "lead")]
    assert ["meetingMessageType" in message for message in found] == [True, False]


def test_a_message_is_found_by_its_internet_message_id(client: httpx.Client, world: World, port: Port) -> None:
    wanted = client.get(f"messages/{case(world, 'shared_message_id').rest_id}").json()["internetMessageId"]
    with closing(client_of(port, world.people[1])) as other:
        found = [
            c.get("messages", params={"$filter": f"internetMessageId eq '{wanted}'"}).json()["value"] for c in (client, other)
        ]
    assert [[m["internetMessageId"] for m in messages] for messages in found] == [[wanted], [wanted]]
    assert found[0][0]["id"] != found[1][0]["id"]


def test_filters_combine_and_others_are_refused(client: httpx.Client, world: World) -> None:
    text = "receivedDateTime ge 2020-01-01T00:00:00Z and categories/any(c:c eq 'Follow-up') and isRead eq true"
    found = client.get("messages", params={"$filter": text, "$orderby": "receivedDateTime desc"}).json()["value"]
    assert [m["subject"] for m in found] == ["Following up"]
    assert client.get("messages", params={"$filter": "subjekt eq 'x'"}).status_code == 400
    assert client.get("messages", params={"$filter": "subject eq 'a' or subject eq 'b'"}).status_code == 400
    hard = client.get("messages", params={"$filter": "isRead eq true", "$orderby": "receivedDateTime"})
    assert (hard.status_code, code(hard)) == (400, "InefficientFilter")


def test_a_quote_in_a_filter_is_doubled(client: httpx.Client, world: World) -> None:
    case(world, "known_contact").categories.append("Ann's and Ben's")
    found = client.get("messages", params={"$filter": "categories/any(c:c eq 'Ann''s and Ben''s')"}).json()["value"]
    assert [m["subject"] for m in found] == ["Delivery dates for the second lot"]


def test_pages_hold_every_message_once(client: httpx.Client, world: World, me: Person) -> None:
    seen: list[str] = []
    url = "messages?$top=7&$select=id"
    while url:
        answer = client.get(url).json()
        seen += [m["id"] for m in answer["value"]]
        url = answer.get("@odata.nextLink", "")
    assert sorted(seen) == sorted(m.rest_id for m in world.mailbox(me.email).messages.values())


def test_attachments_come_with_their_bytes(client: httpx.Client, world: World) -> None:
    message = f"messages/{case(world, 'attachments').rest_id}"
    files = client.get(f"{message}/attachments").json()["value"]
    assert [f["name"] for f in files].count("Offer 2026-118.pdf") == 2
    assert "Preisübersicht – März.csv" in [f["name"] for f in files]
    inline = [f for f in files if f["isInline"]]
    assert [f["contentId"] for f in inline] == ["logo@demo.example"]
    for file in files:
        content = base64.b64decode(file["contentBytes"])
        assert len(content) == file["size"]
        assert client.get(f"{message}/attachments/{file['id']}/$value").content == content
        assert client.get(f"{message}/attachments/{file['id']}", params={"$select": "name"}).json()["name"] == file["name"]
    assert client.get(f"{message}/attachments/AAMkNothing").status_code == 404


def test_a_plain_message_has_an_html_body_unless_text_is_preferred(client: httpx.Client, world: World) -> None:
    url = f"messages/{case(world, 'idn').rest_id}?$select=body"
    assert client.get(url).json()["body"]["contentType"] == "html"
    text = client.get(url, headers={"Prefer": 'outlook.body-content-type="text"'}).json()["body"]
    assert (text["contentType"], text["content"].splitlines()[0]) == ("text", "Schöne Grüße!")


def test_names_and_addresses_are_decoded(client: httpx.Client, world: World) -> None:
    answer = client.get(f"messages/{case(world, 'comma_name').rest_id}").json()
    assert answer["from"]["emailAddress"]["name"] == "Ashdown, Clara (Purchasing)"
    assert client.get(f"messages/{case(world, 'group_syntax').rest_id}").json()["toRecipients"] == []
    assert client.get(f"messages/{case(world, 'no_message_id').rest_id}").json()["internetMessageId"] is None


# Writing


def test_categories_are_replaced_as_a_whole_and_logged(client: httpx.Client, world: World, me: Person) -> None:
    message = case(world, "own_category")
    url = f"messages/{message.rest_id}"
    before = client.get(url).json()
    answer = client.patch(url, json={"categories": ["Saved"]}, headers={"If-Match": before["@odata.etag"]})
    assert (answer.status_code, answer.json()["categories"], message.categories) == (200, ["Saved"], ["Saved"])
    assert answer.json()["@odata.etag"] != before["@odata.etag"]
    event = world.events("graph", "categories")[-1]
    assert (event.actor, event.detail["before"], event.detail["after"]) == (me.email, ["Follow-up", "Offer"], ["Saved"])


def test_an_old_etag_is_refused_and_nothing_changes(client: httpx.Client, world: World) -> None:
    message = case(world, "own_category")
    url = f"messages/{message.rest_id}"
    old = client.get(url).json()["@odata.etag"]
    assert client.patch(url, json={"isRead": False}).status_code == 200
    answer = client.patch(url, json={"categories": []}, headers={"If-Match": old})
    assert (answer.status_code, code(answer)) == (412, "ErrorIrresolvableConflict")
    assert message.categories == ["Follow-up", "Offer"]


def test_a_second_writer_comes_first(client: httpx.Client, world: World) -> None:
    message = case(world, "known_contact")
    url = f"messages/{message.rest_id}"
    etag = client.get(url).json()["@odata.etag"]
    world.faults.append(Fault("graph", "second_writer", match="PATCH"))
    assert client.patch(url, json={"categories": ["Mine"]}, headers={"If-Match": etag}).status_code == 412
    assert message.categories == [SECOND_WRITERS_CATEGORY]
    fresh = client.get(url).json()
    merged = [*fresh["categories"], "Mine"]
    assert client.patch(url, json={"categories": merged}, headers={"If-Match": fresh["@odata.etag"]}).status_code == 200
    assert message.categories == [SECOND_WRITERS_CATEGORY, "Mine"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"categoryes": ["x"]}, "RequestBodyRead"),
        ({"categories": "x"}, "RequestBodyRead"),
        ({"isRead": "yes"}, "RequestBodyRead"),
        ({"receivedDateTime": "2026-01-01T00:00:00Z"}, "ErrorInvalidPropertySet"),
    ],
)
def test_what_cannot_be_changed_is_refused(client: httpx.Client, world: World, body: dict[str, object], expected: str) -> None:
    message = case(world, "known_contact")
    answer = client.patch(f"messages/{message.rest_id}", json=body)
    assert (answer.status_code, code(answer), message.change) == (400, expected, case(demo.small(), "known_contact").change)


def test_master_categories_have_unique_names_and_changing_colours(client: httpx.Client, world: World) -> None:
    url = "outlook/masterCategories"
    made = client.post(url, json={"displayName": "Saved", "color": "preset19"})
    assert made.status_code == 201
    assert client.post(url, json={"displayName": "SAVED", "color": "preset1"}).status_code == 409
    assert client.post(url, json={"displayName": "Other", "color": "preset25"}).status_code == 400
    one = f"{url}/{made.json()['id']}"
    assert client.patch(one, json={"color": "preset0"}).json()["color"] == "preset0"
    assert client.patch(one, json={"displayName": "Renamed"}).status_code == 400
    assert client.delete(one).status_code == 204
    assert client.get(one).status_code == 404
    assert "Saved" not in [c["displayName"] for c in client.get(url).json()["value"]]


# Batches


def batch(client: httpx.Client, *requests: dict[str, object]) -> dict[str, dict[str, object]]:
    answer = client.post("../$batch", json={"requests": list(requests)})
    assert answer.status_code == 200
    return {part["id"]: part for part in answer.json()["responses"]}


def test_parts_of_a_batch_are_judged_alone(client: httpx.Client, world: World) -> None:
    good, bad = case(world, "known_contact").rest_id, "AAMkNobody"
    world.faults.append(Fault("graph", "status", match="mailFolders", status=429, retry_after_s=7))
    parts = batch(
        client,
        {"id": "1", "method": "GET", "url": f"/me/messages/{good}?$select=subject"},
        {"id": "2", "method": "GET", "url": f"/me/messages/{bad}"},
        {"id": "3", "method": "GET", "url": "/me/mailFolders"},
        {"id": "4", "method": "GET", "url": "/me/mailFolders", "dependsOn": ["2"]},
        {"id": "5", "method": "GET", "url": f"/me/messages/{good}/$value", "dependsOn": ["1"]},
    )
    assert {i: p["status"] for i, p in parts.items()} == {"1": 200, "2": 404, "3": 429, "4": 424, "5": 200}
    assert parts["3"]["headers"]["Retry-After"] == "7"
    assert base64.b64decode(str(parts["5"]["body"])) == case(world, "known_contact").mime


def test_answers_of_a_batch_come_in_another_order_and_are_counted_as_one_request(client: httpx.Client, world: World) -> None:
    parts = [{"id": str(n), "method": "GET", "url": f"/me/messages?$skip={n}"} for n in range(3)]
    answer = client.post("../$batch", json={"requests": parts})
    assert [part["id"] for part in answer.json()["responses"]] != ["0", "1", "2"]
    assert [a.parts for a in world.requests("graph")] == [tuple(f"GET /me/messages?$skip={n}" for n in range(3))]


def test_parts_that_do_not_wait_for_others_are_done_in_any_order(client: httpx.Client, world: World) -> None:
    body = {"headers": {"Content-Type": "application/json"}, "method": "POST", "url": "/me/contactFolders"}
    parts = [{"id": str(n), **body, "body": {"displayName": f"Folder {n}"}} for n in range(6)]
    parts[5]["dependsOn"] = ["0"]
    assert {part["status"] for part in batch(client, *parts).values()} == {201}
    made = [folder.name for folder in world.mailbox(world.people[0].email).folders.values() if folder.name.startswith("Folder")]
    assert sorted(made) == [f"Folder {n}" for n in range(6)] != made
    assert made[-1] == "Folder 5"


def test_a_batch_of_more_than_twenty_is_refused(client: httpx.Client) -> None:
    parts = [{"id": str(n), "method": "GET", "url": "/me"} for n in range(21)]
    assert client.post("../$batch", json={"requests": parts}).status_code == 400
    assert client.post("../$batch", json={"requests": parts[:20]}).status_code == 200


def test_a_part_writes_with_its_own_headers(client: httpx.Client, world: World) -> None:
    message = case(world, "known_contact")
    url = f"/me/messages/{message.rest_id}"
    write = {"method": "PATCH", "url": url, "body": {"categories": ["A"]}}
    parts = batch(
        client,
        {"id": "no type", **write},
        {"id": "old", **write, "headers": {"Content-Type": "application/json", "If-Match": 'W/"old"'}},
        {"id": "good", **write, "headers": {"Content-Type": "application/json"}},
    )
    assert {i: p["status"] for i, p in parts.items()} == {"no type": 400, "old": 412, "good": 200}


# Too much


def test_throttling_says_when_to_come_back(client: httpx.Client, world: World) -> None:
    world.faults.append(Fault("graph", "throttled", retry_after_s=3))
    world.faults.append(Fault("graph", "status", match="mailFolders", status=503))
    answer = client.get("messages")
    assert (answer.status_code, answer.headers["Retry-After"], code(answer)) == (429, "3", "TooManyRequests")
    assert code(client.get("mailFolders")) == "ServiceUnavailable"
    assert client.get("messages").status_code == 200


class HeldUp:
    """A latency that keeps the first four answers back until they may leave."""

    per_part_ms = 0.0

    def __init__(self) -> None:
        self.arrived = threading.Semaphore(0)
        self.may_leave = threading.Event()
        self._places = iter(range(4))

    @property
    def base_ms(self) -> float:
        if next(self._places, None) is not None:
            self.arrived.release()
            self.may_leave.wait(10)
        return 0.0


def test_a_fifth_request_at_once_is_refused(port: Port, world: World, me: Person, client: httpx.Client) -> None:
    def ask(_: int) -> int:
        with closing(client_of(port, me)) as own:
            return own.get("mailFolders", timeout=20).status_code

    held = world.latency["graph"] = HeldUp()  # type: ignore[assignment]  # a stand-in with the two fields
    with ThreadPoolExecutor(4) as pool:
        waiting = pool.map(ask, range(4))
        assert all(held.arrived.acquire(timeout=10) for _ in range(4))
        refused = client.get("mailFolders")
        with closing(client_of(port, world.people[1])) as other:
            assert other.get("mailFolders").status_code == 200
        held.may_leave.set()
    assert (refused.status_code, code(refused)) == (429, "ApplicationThrottled")
    assert "Retry-After" in refused.headers
    assert list(waiting) == [200] * 4
    assert client.get("mailFolders").status_code == 200


# Delta


def drain(client: httpx.Client, url: str, **headers: str) -> tuple[list[dict[str, object]], str]:
    """Follow a round to its end; returns what it held and the link for the next one."""
    held: list[dict[str, object]] = []
    while True:
        answer = client.get(url, headers={"Prefer": 'IdType="ImmutableId", odata.maxpagesize=5', **headers}).json()
        held += answer["value"]
        if "@odata.deltaLink" in answer:
            return held, answer["@odata.deltaLink"]
        url = answer["@odata.nextLink"]


DELTA = "mailFolders/inbox/messages/delta?$select=subject"


def test_a_first_round_lists_the_folder_once(client: httpx.Client, world: World, me: Person) -> None:
    mailbox = world.mailbox(me.email)
    held, link = drain(client, DELTA)
    inbox = [m.immutable_id for m in mailbox.messages.values() if m.folder == mailbox.folder("inbox").id]
    assert sorted(str(m["id"]) for m in held) == sorted(inbox)
    assert set(held[0]) == {"@odata.etag", "id", "subject"}
    assert drain(client, link)[0] == []


def test_a_later_round_tells_changes_arrivals_and_removals(client: httpx.Client, world: World) -> None:
    _, link = drain(client, DELTA)
    changed, moved, sent = (case(world, name) for name in ("lead", "newsletter", "thread_sent"))
    client.patch(f"messages/{changed.rest_id}", json={"categories": ["A"]})
    client.post(f"messages/{moved.rest_id}/move", json={"destinationId": "deleteditems"})
    client.post(f"messages/{sent.rest_id}/move", json={"destinationId": "inbox"})
    held, link = drain(client, link)
    told = {m["id"]: m.get("@removed") for m in held}
    assert told == {changed.immutable_id: None, sent.immutable_id: None, moved.immutable_id: {"reason": "deleted"}}
    client.post(f"messages/{moved.immutable_id}/move", json={"destinationId": "inbox"})
    assert [(m["id"], "@removed" in m) for m in drain(client, link)[0]] == [(moved.immutable_id, False)]


def test_what_changes_while_pages_are_read_is_not_lost(client: httpx.Client, world: World) -> None:
    first = client.get(DELTA, headers={"Prefer": 'IdType="ImmutableId", odata.maxpagesize=5'}).json()
    waiting = case(world, "known_contact")
    assert waiting.immutable_id not in [m["id"] for m in first["value"]]
    client.patch(f"messages/{waiting.rest_id}", json={"categories": ["A"]})
    rest, link = drain(client, first["@odata.nextLink"])
    later, _ = drain(client, link)
    assert waiting.immutable_id not in [m["id"] for m in rest]
    assert [m["id"] for m in later] == [waiting.immutable_id]


def test_a_delta_token_expires_and_can_be_lost(client: httpx.Client, world: World) -> None:
    _, link = drain(client, DELTA)
    world.faults.append(Fault("graph", "sync_state_lost"))
    lost = client.get(link)
    assert (lost.status_code, code(lost)) == (410, "SyncStateNotFound")
    assert client.get(link).status_code == 200
    world.clock_skew = timedelta(days=8)
    assert client.get(link).status_code == 410
    broken = client.get("mailFolders/inbox/messages/delta?$deltatoken=nonsense")
    assert (broken.status_code, code(broken)) == (400, "BadRequest")


def test_what_is_not_simulated_says_so(client: httpx.Client) -> None:
    assert client.get("events").status_code == 501
