"""The simulated Gmail API keeps the promises that a client may rely on, and is as strict as Google where a client could go wrong.

Where it matters that nobody but Google's own client understands the wire, the tests use that client, httplib2 and all.
"""

import base64
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from flask import Flask
from google.oauth2.credentials import Credentials
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError
from googleapiclient.http import BatchHttpRequest

from simulator import demo, google
from simulator.google import UNITS_PER_MINUTE, service_of
from simulator.google.discovery import Description
from simulator.google.mail import NAME_LENGTH, SECOND_WRITERS_LABEL, adopt
from simulator.serving import Port
from simulator.world import Fault, Person, StoredMessage, World
from tests.simulator.holder import Holder

ME = "/gmail/v1/users/me"


@pytest.fixture(scope="module")
def app(holder: Holder) -> Flask:
    return google.create_app(lambda: holder.world, holder.grant, holder.message_grant)


@pytest.fixture
def world(holder: Holder) -> World:
    holder.world, holder.scopes = demo.small(), frozenset({"gmail.modify"})
    adopt(holder.world, holder.world.people[0])
    return holder.world


@pytest.fixture
def client(port: Port, me: Person) -> Iterator[httpx.Client]:
    with closing(httpx.Client(base_url=port.url + ME, headers={"Authorization": f"Bearer {me.email}"}, timeout=5)) as client:
        yield client


@pytest.fixture
def users(port: Port, me: Person) -> Iterator[Any]:
    """`users()` of Google's own client, over httplib2."""
    service = build(
        "gmail",
        "v1",
        credentials=Credentials(token=me.email),
        static_discovery=True,
        client_options={"api_endpoint": port.url},
    )
    with closing(service):
        yield service.users()


@pytest.fixture(scope="session")
def description() -> Description:
    return Description("gmail.v1")


def case(world: World, name: str) -> StoredMessage:
    mailbox, identifier = world.cases[name]
    return world.mailbox(mailbox).messages[identifier]


def refused(answer: httpx.Response) -> tuple[int, str]:
    """Status and reason of an error, whose shape is Google's."""
    error = answer.json()["error"]
    assert error["code"] == answer.status_code
    assert {"message", "domain", "reason"} <= set(error["errors"][0])
    return answer.status_code, error["errors"][0]["reason"]


# Google's own description and client


def test_answers_fit_googles_description(client: httpx.Client, world: World, description: Description) -> None:
    files = case(world, "attachments").immutable_id
    label = client.post("labels", json={"name": "New", "color": {"backgroundColor": "#16a766", "textColor": "#ffffff"}})
    modified = client.post(f"messages/{files}/modify", json={"addLabelIds": [label.json()["id"]]})
    answers = {
        "Profile": [client.get("profile")],
        "ListMessagesResponse": [client.get("messages", params={"maxResults": 3}), client.get("messages?q=rfc822msgid:x@y")],
        "Message": [
            modified,
            *(client.get(f"messages/{files}", params={"format": form}) for form in ("minimal", "metadata", "full", "raw")),
        ],
        "ListLabelsResponse": [client.get("labels")],
        "Label": [label, client.get("labels/INBOX"), client.patch(f"labels/{label.json()['id']}", json={"name": "Newer"})],
        "ListHistoryResponse": [client.get("history", params={"startHistoryId": 1})],
    }
    for schema, given in answers.items():
        for answer in given:
            assert answer.status_code == 200
            description.check(answer.json(), {"$ref": schema})


def test_googles_client_reads_and_marks(users: Any, world: World, me: Person) -> None:
    message = case(world, "known_contact")
    label = users.labels().create(userId="me", body={"name": "SAP E-Mails"}).execute()
    listed = users.messages().list(userId="me", maxResults=100).execute()["messages"]
    assert message.immutable_id in [one["id"] for one in listed]
    raw = users.messages().get(userId=me.email, id=message.immutable_id, format="raw").execute()["raw"]
    assert base64.urlsafe_b64decode(raw) == message.mime
    body = {"addLabelIds": [label["id"], "UNREAD"], "removeLabelIds": []}
    answer = users.messages().modify(userId="me", id=message.immutable_id, body=body).execute()
    assert answer["labelIds"] == ["UNREAD", "INBOX", label["id"]]
    assert (message.categories, message.is_read) == (["SAP E-Mails"], False)
    with pytest.raises(HttpError, match="Label name exists or conflicts"):
        users.labels().create(userId="me", body={"name": "sap e-mails"}).execute()


def test_googles_client_reads_a_batch_whose_parts_are_judged_alone(users: Any, port: Port, world: World) -> None:
    known, answers = case(world, "known_contact").immutable_id, {}
    batch = BatchHttpRequest(
        callback=lambda identifier, answer, error: answers.update({identifier: answer or error.resp.status}),
        batch_uri=port.url + "/batch/gmail/v1",
    )
    batch.add(users.messages().get(userId="me", id=known, format="minimal"), request_id="known")
    batch.add(users.messages().get(userId="me", id="123", format="minimal"), request_id="unknown")
    batch.add(users.labels().create(userId="me", body={"name": "Über uns"}), request_id="made")
    world.faults.append(Fault("google", "userRateLimitExceeded", match="GET /gmail/v1/users/me/profile"))
    batch.add(users.getProfile(userId="me"), request_id="busy")
    batch.execute()
    assert (answers["known"]["id"], answers["made"]["name"]) == (known, "Über uns")
    assert (answers["unknown"], answers["busy"]) == (404, 403)
    access = world.requests("google")[-1]
    assert access.parts[0] == f"GET /gmail/v1/users/me/messages/{known}"
    assert len(access.parts) == 4


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "messages?maxresults=3", None),
        ("GET", "messages?maxResults=many", None),
        ("GET", "messages?includeSpamTrash=perhaps", None),
        ("GET", "messages/{id}?format=eml", None),
        ("GET", "messages/{id}?fields=id,payload(headers", None),
        ("GET", "history?startHistoryId=x", None),
        ("GET", "history", None),
        ("POST", "labels", {"nam": "x"}),
        ("POST", "labels", {"name": 7}),
        ("POST", "labels", {"name": "x", "labelListVisibility": "labelGone"}),
        ("POST", "labels", {"name": "x", "color": {"background": "#000000"}}),
        ("POST", "messages/{id}/modify", {"addLabelIds": "Label_1"}),
        ("POST", "messages/{id}/modify", {"addLabels": ["Label_1"]}),
        ("POST", "messages/{id}/modify", ["Label_1"]),
    ],
)
def test_what_google_does_not_describe_is_refused(
    client: httpx.Client, world: World, method: str, path: str, body: object
) -> None:
    path = path.format(id=case(world, "known_contact").immutable_id)
    assert client.request(method, path, json=body).status_code == 400
    assert world.events("google") == []


def test_what_is_not_there_or_not_simulated_says_so(client: httpx.Client, world: World) -> None:
    assert refused(client.get("mails")) == (404, "notFound")
    assert refused(client.put("messages/12", json={})) == (404, "notFound")
    assert refused(client.get("drafts")) == (501, "notImplemented")
    assert refused(client.get("messages?q=from:somebody")) == (501, "notImplemented")
    assert client.post("labels", content=b"{").json()["error"]["status"] == "INVALID_ARGUMENT"


# Who may


def test_a_token_that_is_not_good_is_refused_with_a_challenge(client: httpx.Client) -> None:
    answer = client.get("profile", headers={"Authorization": "Bearer expired"})
    assert refused(answer) == (401, "authError")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_token_opens_what_its_scopes_allow(client: httpx.Client, holder: Holder, world: World) -> None:
    holder.scopes = frozenset({"gmail.labels"})
    assert client.get("labels").status_code == 200
    assert refused(client.get("messages")) == (403, "insufficientPermissions")


ADD_ON = "gmail.addons.current.message."


def test_an_add_on_reads_the_message_of_its_event_and_no_other(
    client: httpx.Client, holder: Holder, world: World, me: Person
) -> None:
    opened, other = (case(world, name).immutable_id for name in ("known_contact", "attachments"))

    def read(message: str, token: str | None, form: str = "metadata") -> int:
        headers = {"X-Goog-Gmail-Access-Token": token} if token is not None else {}
        return client.get(f"messages/{message}", params={"format": form}, headers=headers).status_code

    holder.scopes = frozenset({f"{ADD_ON}metadata"})
    assert read(opened, f"{me.email} {opened}") == 200
    for token in (None, "", "of nobody", f"{world.people[1].email} {opened}", f"{me.email} {other}"):
        assert read(opened, token) == 403
    assert read(opened, f"{me.email} {opened}", "full") == 403
    assert client.get("messages", headers={"X-Goog-Gmail-Access-Token": f"{me.email} {opened}"}).status_code == 403
    holder.scopes = frozenset({f"{ADD_ON}readonly"})
    assert read(opened, f"{me.email} {opened}", "full") == 200
    holder.scopes = frozenset({"gmail.modify", f"{ADD_ON}metadata"})
    assert read(other, None, "raw") == 200  # who may read the whole mailbox needs no event


def test_nobody_reads_another_mailbox(client: httpx.Client, port: Port, world: World) -> None:
    other = world.people[1].email
    assert refused(client.get(f"{port.url}/gmail/v1/users/{other}/messages")) == (403, "forbidden")
    assert client.get(f"{port.url}/gmail/v1/users/{world.people[0].email}/messages").status_code == 200


def test_who_has_no_mailbox_here_is_told_so(client: httpx.Client, world: World) -> None:
    elsewhere = {"Authorization": f"Bearer {world.people[1].email}"}
    assert refused(client.get("messages", headers=elsewhere)) == (400, "failedPrecondition")


# Reading


def test_each_format_tells_its_part(client: httpx.Client, world: World) -> None:
    message = f"messages/{case(world, 'attachments').immutable_id}"
    forms = {form: client.get(message, params={"format": form}).json() for form in ("minimal", "metadata", "full", "raw")}
    always = {"id", "threadId", "labelIds", "snippet", "historyId", "internalDate", "sizeEstimate"}
    assert [set(forms[form]) - always for form in forms] == [set(), {"payload"}, {"payload"}, {"raw"}]
    assert "parts" not in forms["metadata"]["payload"]
    files = [part["filename"] for part in forms["full"]["payload"]["parts"] if part["filename"]]
    assert "Preisübersicht – März.csv" in files
    wanted = client.get(message, params={"format": "metadata", "metadataHeaders": ["from", "DATE"]}).json()
    assert {h["name"] for h in wanted["payload"]["headers"]} == {"From", "Date"}
    masked = client.get(message, params={"fields": "id,payload(headers/name,parts/filename)"}).json()
    assert set(masked) == {"id", "payload"}
    assert {frozenset(part) for part in masked["payload"]["parts"]} == {frozenset({"filename"})}


def test_a_message_without_labels_has_no_label_ids(client: httpx.Client, world: World, me: Person) -> None:
    message = case(world, "known_contact")
    message.folder = next(f.id for f in world.mailbox(me.email).folders.values() if f.well_known is None)
    message.is_read, message.categories = True, []
    assert "labelIds" not in client.get(f"messages/{message.immutable_id}").json()


def test_an_id_that_cannot_be_and_one_that_is_not_are_told_apart(client: httpx.Client) -> None:
    assert refused(client.get("messages/AAMkAD")) == (400, "invalidArgument")
    assert refused(client.get("messages/18c0ffee")) == (404, "notFound")


def test_a_message_is_found_by_its_message_id_also_in_trash_if_asked(client: httpx.Client, world: World, me: Person) -> None:
    message = case(world, "known_contact")
    headers = client.get(f"messages/{message.immutable_id}", params={"format": "metadata"}).json()["payload"]["headers"]
    wanted = next(h["value"] for h in headers if h["name"] == "Message-ID")
    for term in (wanted, wanted.strip("<>")):
        found = client.get("messages", params={"q": f"rfc822msgid:{term}"}).json()
        assert [one["id"] for one in found["messages"]] == [message.immutable_id]
    message.folder = world.mailbox(me.email).folder("deleteditems").id
    query = {"q": f"rfc822msgid:{wanted}"}
    assert "messages" not in client.get("messages", params=query).json()
    assert len(client.get("messages", params=query | {"includeSpamTrash": "true"}).json()["messages"]) == 1


def test_pages_hold_every_message_once(client: httpx.Client, world: World, me: Person) -> None:
    seen: list[str] = []
    query = {"maxResults": "7", "includeSpamTrash": "true"}
    while True:
        page = client.get("messages", params=query).json()
        seen += [one["id"] for one in page["messages"]]
        if "nextPageToken" not in page:
            break
        query["pageToken"] = page["nextPageToken"]
    assert sorted(seen) == sorted(world.mailbox(me.email).messages)
    assert refused(client.get("messages?pageToken=x")) == (400, "invalidArgument")


def test_a_search_tells_what_carries_a_label_of_the_owners_in_some_places(client: httpx.Client, world: World, me: Person) -> None:
    mailbox, message = world.mailbox(me.email), case(world, "own_category")
    for other in mailbox.messages.values():
        other.categories = []
    query = {"q": "has:userlabels {in:inbox in:sent}", "maxResults": 500}
    assert "messages" not in client.get("messages", params=query).json()
    message.categories = [next(iter(mailbox.categories.values())).name]
    for place in ("inbox", "sentitems"):
        message.folder = mailbox.folder(place).id
        found = client.get("messages", params=query).json()["messages"]
        assert [one["id"] for one in found] == [message.immutable_id]
    message.folder = next(f.id for f in mailbox.mail_folders if f.well_known is None)
    assert "messages" not in client.get("messages", params=query).json()
    assert refused(client.get("messages?q=larger:5M")) == (501, "notImplemented")


# Labels


@pytest.fixture
def make(client: httpx.Client) -> Callable[..., httpx.Response]:
    def make(name: object = "New", **body: object) -> httpx.Response:
        return client.post("labels", json={"name": name, **body})

    return make


def test_the_list_of_labels_holds_no_colours(client: httpx.Client, make: Callable[..., httpx.Response]) -> None:
    color = {"backgroundColor": "#cc3a21", "textColor": "#ffffff"}
    made = make(color=color, labelListVisibility="labelHide").json()
    assert made["color"] == client.get(f"labels/{made['id']}").json()["color"] == color
    listed = {label["id"]: label for label in client.get("labels").json()["labels"]}
    assert listed[made["id"]] == {"id": made["id"], "name": "New", "type": "user", "labelListVisibility": "labelHide"}
    assert listed["INBOX"]["type"] == "system"


@pytest.mark.parametrize(
    "color",
    [
        {"backgroundColor": "#123456", "textColor": "#ffffff"},
        {"backgroundColor": "#ffffff", "textColor": "white"},
        {"backgroundColor": "#ffffff"},
    ],
)
def test_a_colour_beyond_the_palette_is_refused(make: Callable[..., httpx.Response], color: dict[str, str]) -> None:
    assert refused(make(color=color)) == (400, "invalidArgument")


@pytest.mark.parametrize("name", ["INBOX", "inbox", "Sent", "unread", "CATEGORY_UPDATES", "", " ", None, "x" * (NAME_LENGTH + 1)])
def test_a_name_that_is_reserved_or_none_is_refused(make: Callable[..., httpx.Response], name: str | None) -> None:
    assert refused(make(name)) == (400, "invalidArgument")


def test_a_name_is_given_once_whatever_its_case(client: httpx.Client, make: Callable[..., httpx.Response]) -> None:
    first = make("SAP E-Mails/Saved").json()
    assert refused(make("sap e-mails/SAVED")) == (409, "aborted")
    second = make("Other").json()
    assert refused(client.patch(f"labels/{second['id']}", json={"name": "SAP E-mails/Saved"})) == (409, "aborted")
    assert client.patch(f"labels/{first['id']}", json={"name": "sap e-mails/saved"}).json()["name"] == "sap e-mails/saved"
    assert refused(client.patch("labels/INBOX", json={"name": "Mine"})) == (400, "invalidArgument")
    assert refused(client.get("labels/Label_999")) == (404, "notFound")


def test_renaming_a_label_keeps_it_on_messages_and_deleting_takes_it_off(
    client: httpx.Client, world: World, make: Callable[..., httpx.Response]
) -> None:
    message, label = case(world, "known_contact"), make().json()["id"]
    client.post(f"messages/{message.immutable_id}/modify", json={"addLabelIds": [label]})
    client.patch(f"labels/{label}", json={"name": "Renamed"})
    assert message.categories == ["Renamed"]
    assert label in client.get(f"messages/{message.immutable_id}").json()["labelIds"]
    assert client.get(f"labels/{label}").json()["messagesTotal"] == 1
    assert client.delete(f"labels/{label}").status_code == 204
    assert message.categories == []
    assert make("Again").json()["id"] != label  # ids are never given again
    assert [event.kind for event in world.events("google")] == [
        *("master_create", "categories", "master_update", "master_delete", "master_create")
    ]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"addLabelIds": ["Label_999"]},
        {"addLabelIds": ["SENT"]},
        {"addLabelIds": ["Label_1"], "removeLabelIds": ["Label_1"]},
        {"addLabelIds": ["Label_1"] * 101},
    ],
)
def test_a_modify_that_makes_no_sense_is_refused_and_changes_nothing(client: httpx.Client, world: World, body: object) -> None:
    answer = client.post(f"messages/{case(world, 'known_contact').immutable_id}/modify", json=body)
    assert refused(answer) == (400, "invalidArgument")
    assert world.events("google") == []


def test_a_modify_that_changes_nothing_did_not_happen(client: httpx.Client, world: World) -> None:
    message = case(world, "own_category")
    before = client.get(f"messages/{message.immutable_id}").json()
    answer = client.post(f"messages/{message.immutable_id}/modify", json={"addLabelIds": before["labelIds"][-1:]})
    assert answer.status_code == 200
    assert client.get(f"messages/{message.immutable_id}").json() == before
    assert world.events("google") == []


def test_a_message_is_archived_and_put_back(client: httpx.Client, world: World, me: Person) -> None:
    message = case(world, "known_contact")
    start = client.get("profile").json()["historyId"]
    for body in ({"removeLabelIds": ["INBOX"]}, {"removeLabelIds": ["INBOX"]}, {"addLabelIds": ["INBOX"]}):
        answer = client.post(f"messages/{message.immutable_id}/modify", json=body)
        assert ("INBOX" in answer.json().get("labelIds", [])) == ("addLabelIds" in body)
    assert [event.detail["to"] for event in world.events("google", "move")] == ["archive", "inbox"]
    told = client.get("history", params={"startHistoryId": start}).json()["history"]
    assert [next(iter(set(record) - {"id", "messages"})) for record in told] == ["labelsRemoved", "labelsAdded"]
    message.folder = world.mailbox(me.email).folder("sentitems").id
    assert refused(client.post(f"messages/{message.immutable_id}/modify", json={"addLabelIds": ["INBOX"]}))[0] == 501


def test_batch_modify_says_nothing_of_single_messages(
    client: httpx.Client, world: World, make: Callable[..., httpx.Response]
) -> None:
    message, label = case(world, "known_contact"), make().json()["id"]
    answer = client.post("messages/batchModify", json={"ids": [message.immutable_id, "123"], "addLabelIds": [label]})
    assert (answer.status_code, answer.content, message.categories) == (204, b"", ["New"])
    for ids in ([], [f"{n:x}" for n in range(1001)]):
        assert refused(client.post("messages/batchModify", json={"ids": ids, "addLabelIds": [label]})) == (400, "invalidArgument")


def test_a_second_writer_comes_first(client: httpx.Client, world: World) -> None:
    message = case(world, "own_category")
    world.faults.append(Fault("google", "second_writer"))
    client.post(f"messages/{message.immutable_id}/modify", json={"addLabelIds": ["Label_2"]})
    assert message.categories == ["Follow-up", "Offer", SECOND_WRITERS_LABEL, "Private"]


# History


@pytest.fixture
def since(client: httpx.Client) -> Callable[..., list[dict[str, Any]]]:
    def since(start: str, **query: Any) -> list[dict[str, Any]]:
        answer = client.get("history", params={"startHistoryId": start, **query})
        assert answer.status_code == 200
        return list(answer.json().get("history", []))

    return since


def test_history_tells_what_anybody_changed(
    client: httpx.Client, world: World, me: Person, since: Callable[..., list[dict[str, Any]]]
) -> None:
    mailbox, message = world.mailbox(me.email), case(world, "own_category")
    gone = case(world, "known_contact")
    start = client.get("profile").json()["historyId"]
    assert since(start) == []
    message.categories = ["Offer", "Private"]  # by another client
    del mailbox.messages[gone.immutable_id]
    new = StoredMessage(gone.mime, gone.folder, world.now(), immutable_id="1abc", conversation_id="1abd")
    mailbox.messages["1abc"] = new
    kinds = [next(iter(set(record) - {"id", "messages"})) for record in since(start)]
    assert sorted(kinds) == ["labelsAdded", "labelsRemoved", "messagesAdded", "messagesDeleted"]
    added = since(start, historyTypes="labelAdded")
    assert [one["labelsAdded"][0]["labelIds"] for one in added] == [["Label_2"]]
    assert added[0]["messages"][0]["id"] == message.immutable_id
    assert [one["messagesAdded"][0]["message"]["id"] for one in since(start, historyTypes="messageAdded")] == ["1abc"]
    ids = [int(record["id"]) for record in since(start)]
    assert ids == sorted(set(ids))
    assert len(since(str(ids[1]))) == len(ids) - 2
    assert (
        since(start, historyTypes="labelRemoved")[0]["id"] == client.get(f"messages/{message.immutable_id}").json()["historyId"]
    )
    assert {len(since(start, labelId="Label_2")), len(since(start, labelId="Label_77"))} == {2, 0}


def test_history_comes_in_pages(client: httpx.Client, world: World, since: Callable[..., list[dict[str, Any]]]) -> None:
    start = client.get("profile").json()["historyId"]
    message = case(world, "known_contact").immutable_id
    for name in ("addLabelIds", "removeLabelIds", "addLabelIds"):
        client.post(f"messages/{message}/modify", json={name: ["Label_1"]})
    first = client.get("history", params={"startHistoryId": start, "maxResults": 2}).json()
    rest = since(start, maxResults=2, pageToken=first["nextPageToken"])
    assert [*first["history"], *rest] == since(start)
    assert (len(first["history"]), len(rest)) == (2, 1)


def test_history_that_is_too_old_is_not_found(client: httpx.Client, world: World) -> None:
    start = client.get("profile").json()["historyId"]
    message = case(world, "known_contact").immutable_id
    client.post(f"messages/{message}/modify", json={"addLabelIds": ["Label_1"]})
    world.clock_skew += timedelta(days=8)
    assert refused(client.get(f"history?startHistoryId={start}")) == (404, "notFound")
    now = client.get("profile").json()["historyId"]
    assert client.get(f"history?startHistoryId={now}").json() == {"historyId": now}
    assert refused(client.get(f"history?startHistoryId={int(now) + 1}")) == (404, "notFound")
    world.faults.append(Fault("google", "history_expired"))
    assert refused(client.get(f"history?startHistoryId={now}")) == (404, "notFound")


# Quota and faults


def test_a_minutes_units_are_counted_per_user(client: httpx.Client, app: Flask, world: World, me: Person) -> None:
    message = case(world, "known_contact").immutable_id
    client.get("labels")
    client.post(f"messages/{message}/modify", json={"addLabelIds": ["Label_1"]})
    service = service_of(app)
    assert service.units(me) == 6
    service._meter(me).spend(UNITS_PER_MINUTE - 6 - 20, world.now().timestamp())
    assert client.get(f"messages/{message}").status_code == 200
    assert refused(client.get("labels")) == (403, "rateLimitExceeded")
    world.clock_skew += timedelta(seconds=61)
    assert client.get("labels").status_code == 200


@pytest.mark.parametrize("kind", ["rateLimitExceeded", "userRateLimitExceeded", "dailyLimitExceeded"])
def test_quota_answers_carry_their_reason(client: httpx.Client, world: World, kind: str) -> None:
    world.faults.append(Fault("google", kind))
    assert refused(client.get("labels")) == (403, kind)
    assert client.get("labels").status_code == 200


def test_faults_of_all_vendors_have_googles_shape(client: httpx.Client, world: World) -> None:
    world.faults.append(Fault("google", "status", status=503, retry_after_s=2))
    answer = client.get("labels")
    assert (*refused(answer), answer.headers["Retry-After"]) == (503, "backendError", "2")
    world.faults.append(Fault("google", "throttled", retry_after_s=3))
    answer = client.get("labels")
    assert (*refused(answer), answer.headers["Retry-After"]) == (429, "rateLimitExceeded", "3")


def test_a_batch_that_is_none_or_too_long_is_refused(client: httpx.Client, port: Port) -> None:
    url = port.url + "/batch/gmail/v1"
    part = "--b\r\nContent-Type: application/http\r\n\r\nGET /gmail/v1/users/me/labels\r\n\r\n"
    mixed = {"Content-Type": "multipart/mixed; boundary=b"}
    assert client.post(url, content=part + "--b--", headers=mixed).status_code == 200
    assert refused(client.post(url, content=part * 101 + "--b--", headers=mixed)) == (400, "badRequest")
    assert refused(client.post(url, json={})) == (400, "badRequest")
    plain = part.replace("application/http", "text/plain")
    assert refused(client.post(url, content=plain + "--b--", headers=mixed)) == (400, "badRequest")


def test_every_request_is_in_the_access_log(client: httpx.Client, world: World, me: Person) -> None:
    client.get("labels?fields=labels/id")
    access = world.requests("google")[-1]
    assert (access.method, access.path, access.query, access.actor) == ("GET", f"{ME}/labels", "fields=labels/id", me.email)


# Push


TOPIC = "projects/ssi/topics/mail"


def test_a_mailbox_is_watched_for_seven_days_and_again(client: httpx.Client, app: Flask, world: World, me: Person) -> None:
    pushes = service_of(app).pushes
    pushes.topics[TOPIC] = True
    answer = client.post("watch", json={"topicName": TOPIC, "labelIds": ["INBOX"], "labelFilterBehavior": "include"}).json()
    Description("gmail.v1").check(answer, {"$ref": "WatchResponse"})
    until = datetime.fromtimestamp(int(answer["expiration"]) / 1000, UTC)
    assert timedelta(days=6, hours=23) < until - world.now() <= timedelta(days=7)
    assert pushes.watched[me.email][:2] == (TOPIC, frozenset({"INBOX"}))
    world.clock_skew += timedelta(days=1)
    again = client.post("watch", json={"topicName": TOPIC}).json()
    assert int(again["expiration"]) > int(answer["expiration"])
    assert client.post("stop").status_code == 204
    assert pushes.watched == {}
    assert service_of(app).units(me) == 250


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("", (400, "invalidArgument")),
        ("mail", (400, "invalidArgument")),
        ("projects/ssi/topics/none", (404, "notFound")),
        ("projects/ssi/topics/not-granted", (403, "forbidden")),
    ],
)
def test_a_topic_that_gmail_cannot_publish_to_is_refused(
    client: httpx.Client, app: Flask, world: World, topic: str, expected: tuple[int, str]
) -> None:
    service_of(app).pushes.topics["projects/ssi/topics/not-granted"] = False
    assert refused(client.post("watch", json={"topicName": topic})) == expected


def test_a_mailbox_has_one_watch(client: httpx.Client, app: Flask, world: World) -> None:
    service_of(app).pushes.topics |= {TOPIC: True, "projects/ssi/topics/other": True}
    assert client.post("watch", json={"topicName": TOPIC}).status_code == 200
    assert refused(client.post("watch", json={"topicName": "projects/ssi/topics/other"})) == (400, "invalidArgument")
    assert refused(client.post("watch", json={"topicName": TOPIC, "labelIds": ["Label_999"]})) == (400, "invalidArgument")
    client.post("stop")
    assert client.post("watch", json={"topicName": "projects/ssi/topics/other"}).status_code == 200
