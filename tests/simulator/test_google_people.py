"""The simulated People API keeps the promises a client may rely on, and is as strict as Google where a client could go wrong."""

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from typing import Any

import httpx
import pytest
from flask import Flask
from google.oauth2.credentials import Credentials
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError

from simulator import demo
from simulator.google import people as google_people
from simulator.google.book import AddressBook
from simulator.google.contacts import MOST_BYTES
from simulator.google.discovery import Description
from simulator.google.identity import subject
from simulator.google.people import PeopleService, people_of
from simulator.serving import Port
from simulator.world import Fault, Person, World
from tests.simulator.holder import Holder


@pytest.fixture(scope="module")
def app(holder: Holder) -> Flask:
    return google_people.create_app(lambda: holder.world, holder.grant)


@pytest.fixture
def world(holder: Holder) -> World:
    holder.world, holder.scopes = demo.small(), frozenset({"contacts"})
    holder.world.people[0].access_type = "google"
    return holder.world


@pytest.fixture
def service(app: Flask, world: World) -> Iterator[PeopleService]:
    service = people_of(app)
    yield service
    service.write_s = 0.0


@pytest.fixture
def book(service: PeopleService, me: Person) -> AddressBook:
    return service.book(me)


@pytest.fixture
def client(port: Port, me: Person) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {me.email}"}
    with closing(httpx.Client(base_url=port.url + "/v1", headers=headers, timeout=5)) as client:
        yield client


@pytest.fixture
def make(client: httpx.Client) -> Callable[..., dict[str, Any]]:
    def make(name: str = "Ada", **fields: Any) -> dict[str, Any]:
        answer = client.post("/people:createContact", json={"names": [{"givenName": name}], **fields})
        assert answer.status_code == 200
        return dict(answer.json())

    return make


@pytest.fixture
def group(client: httpx.Client) -> Callable[[str], str]:
    def group(name: str) -> str:
        return str(client.post("contactGroups", json={"contactGroup": {"name": name}}).json()["resourceName"])

    return group


def refused(answer: httpx.Response) -> tuple[int, str]:
    error = answer.json()["error"]
    assert error["code"] == answer.status_code
    return answer.status_code, error["status"]


def update(client: httpx.Client, contact: dict[str, Any], fields: str, **content: Any) -> httpx.Response:
    body = {"etag": contact["etag"], **content}
    return client.patch(f"{contact['resourceName']}:updateContact", params={"updatePersonFields": fields}, json=body)


def in_group(*names: str) -> dict[str, Any]:
    return {"memberships": [{"contactGroupMembership": {"contactGroupResourceName": name}} for name in names]}


def test_googles_client_keeps_contacts_in_a_group(port: Port, world: World, me: Person, book: AddressBook) -> None:
    service = build(
        "people", "v1", credentials=Credentials(token=me.email), static_discovery=True, client_options={"api_endpoint": port.url}
    )
    with closing(service):
        named = service.contactGroups().create(body={"contactGroup": {"name": "SAP Contacts"}}).execute()["resourceName"]
        made = service.people().createContact(body={"names": [{"givenName": "Ada"}], **in_group(named)}).execute()
        people = service.people().connections().list(resourceName="people/me", personFields="names,memberships").execute()
        assert [person["resourceName"] for person in people["connections"]] == [made["resourceName"]]
        assert [member.name for member in book.members(named)] == [made["resourceName"]]
        with pytest.raises(HttpError, match="already exists"):
            service.contactGroups().create(body={"contactGroup": {"name": "SAP Contacts"}}).execute()


def test_answers_fit_googles_description(
    client: httpx.Client, make: Callable[..., dict[str, Any]], group: Callable[[str], str]
) -> None:
    description = Description("people.v1")
    contact, named = make(clientData=[{"key": "ssi", "value": "1"}]), group("SAP Contacts")
    members = client.post(f"{named}/members:modify", json={"resourceNamesToAdd": [contact["resourceName"], "people/c9"]})
    answers = [
        ("Person", contact),
        ("Person", client.get(contact["resourceName"], params={"personFields": "names,metadata,clientData"}).json()),
        ("ListConnectionsResponse", client.get("people/me/connections?personFields=names&requestSyncToken=true").json()),
        ("ContactGroup", client.get(named, params={"maxMembers": 5}).json()),
        ("ListContactGroupsResponse", client.get("contactGroups").json()),
        ("ModifyContactGroupMembersResponse", members.json()),
    ]
    for schema, answer in answers:
        description.check(answer, {"$ref": schema})
    assert members.json() == {"notFoundResourceNames": ["people/c9"]}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/people:createContact", {"emailAddress": "ada@example.com"}),
        ("POST", "/people:createContact", {"names": [{"givenName": "A"}, {"givenName": "B"}]}),
        ("POST", "contactGroups", {"contactGroup": {"title": "x"}}),
        ("POST", "contactGroups", {"contactGroup": {"name": " "}}),
        ("GET", "people/me/connections", None),
        ("GET", "people/me/connections?personFields=shoes", None),
        ("GET", "people/me/connections?personFields=names&pageSize=1001", None),
        ("GET", "people/me/connections?personFields=names&syncToken=x", None),
        ("GET", "people/c1/connections?personFields=names", None),
    ],
)
def test_what_google_does_not_take_is_refused(client: httpx.Client, world: World, method: str, path: str, body: object) -> None:
    assert refused(client.request(method, path, json=body)) == (400, "INVALID_ARGUMENT")
    assert world.events("google") == []


def test_who_may_not_is_told_so(client: httpx.Client, world: World) -> None:
    assert refused(client.get("contactGroups", headers={"Authorization": "Bearer x"})) == (401, "UNAUTHENTICATED")
    other = {"Authorization": f"Bearer {world.people[1].email}"}
    assert refused(client.get("contactGroups", headers=other)) == (400, "FAILED_PRECONDITION")
    assert refused(client.get("/people:searchContacts?query=a")) == (501, "UNIMPLEMENTED")


def test_an_update_replaces_the_fields_it_names_and_needs_the_present_etag(
    client: httpx.Client, make: Callable[..., dict[str, Any]], book: AddressBook
) -> None:
    contact = make(phoneNumbers=[{"value": "1"}], emailAddresses=[{"value": "ada@example.com"}])
    changed = update(client, contact, "phoneNumbers,names", phoneNumbers=[{"value": "2"}])
    assert changed.status_code == 200
    assert book.contacts[contact["resourceName"]].content.keys() == {"phoneNumbers", "emailAddresses", "memberships"}
    assert changed.json()["etag"] != contact["etag"]
    assert refused(update(client, contact, "phoneNumbers")) == (400, "FAILED_PRECONDITION")
    assert refused(update(client, contact | {"etag": ""}, "phoneNumbers")) == (400, "INVALID_ARGUMENT")
    assert refused(update(client, changed.json(), "")) == (400, "INVALID_ARGUMENT")
    assert refused(update(client, changed.json(), "metadata")) == (400, "INVALID_ARGUMENT")
    by_source = {"metadata": {"sources": [{"type": "CONTACT", "etag": changed.json()["etag"]}]}, "nicknames": [{"value": "A"}]}
    path = f"{contact['resourceName']}:updateContact?updatePersonFields=nicknames"
    assert client.patch(path, json=by_source).status_code == 200


def test_another_client_may_be_faster(client: httpx.Client, world: World, make: Callable[..., dict[str, Any]]) -> None:
    contact = make()
    world.faults.append(Fault("google", "etag_race"))
    assert refused(update(client, contact, "names", names=[{"givenName": "Bea"}])) == (400, "FAILED_PRECONDITION")
    fresh = client.get(contact["resourceName"], params={"personFields": "names,nicknames"}).json()
    assert (fresh["names"][0]["givenName"], len(fresh["nicknames"])) == ("Ada", 1)
    assert update(client, fresh, "names", names=[{"givenName": "Bea"}]).status_code == 200


# Many contacts at once


def create_many(client: httpx.Client, *people: dict[str, Any], mask: str = "names,metadata") -> httpx.Response:
    body = {"contacts": [{"contactPerson": person} for person in people], "readMask": mask}
    return client.post("/people:batchCreateContacts", json=body)


def update_many(client: httpx.Client, mask: str, people: dict[str, dict[str, Any]]) -> httpx.Response:
    body = {"contacts": people, "updateMask": mask, "readMask": "names,metadata", "sources": ["READ_SOURCE_TYPE_CONTACT"]}
    return client.post("/people:batchUpdateContacts", json=body)


def errors_of(answer: httpx.Response) -> dict[str, int]:
    """Return the codes of the contacts that an error names."""
    (told,) = answer.json()["error"]["details"]
    return {name: error["code"] for name, error in told["contactErrors"].items()}


def named(*names: str) -> list[dict[str, Any]]:
    return [{"names": [{"givenName": name}]} for name in names]


def test_googles_client_creates_reads_and_updates_many_contacts(port: Port, me: Person, book: AddressBook) -> None:
    credentials = Credentials(token=me.email)
    options = {"api_endpoint": port.url}
    description = Description("people.v1")
    with closing(build("people", "v1", credentials=credentials, static_discovery=True, client_options=options)) as service:
        people = service.people()
        body = {"contacts": [{"contactPerson": one} for one in named("Ada", "Bea")], "readMask": "names,metadata"}
        made = people.batchCreateContacts(body=body).execute()
        description.check(made, {"$ref": "BatchCreateContactsResponse"})
        names = {one["person"]["names"][0]["givenName"]: one["person"]["resourceName"] for one in made["createdPeople"]}
        read = people.getBatchGet(resourceNames=[*names.values(), "people/c9"], personFields="names,metadata").execute()
        description.check(read, {"$ref": "GetPeopleResponse"})
        codes = {one["requestedResourceName"]: one.get("status", {}).get("code") for one in read["responses"]}
        assert codes == {names["Ada"]: None, names["Bea"]: None, "people/c9": 5}
        etags = {one["person"]["resourceName"]: one["person"]["etag"] for one in read["responses"][:2]}
        contacts = {name: {"etag": etag, "nicknames": [{"value": "N"}]} for name, etag in etags.items()}
        changes = {"contacts": contacts, "updateMask": "nicknames,names", "readMask": "names,metadata"}
        changed = people.batchUpdateContacts(body=changes).execute()
    description.check(changed, {"$ref": "BatchUpdateContactsResponse"})
    assert changed["updateResult"].keys() == set(names.values())
    assert [item.content.keys() for item in book.contacts.values()] == [{"nicknames", "memberships"}] * 2


def test_of_many_contacts_all_are_written_or_none(
    client: httpx.Client, make: Callable[..., dict[str, Any]], book: AddressBook, world: World
) -> None:
    two_names = {"names": [{"givenName": "A"}, {"givenName": "B"}]}
    too_large = {"biographies": [{"value": "x" * MOST_BYTES}]}
    refusal = create_many(client, *named("Ada"), two_names, *named("Bea"), too_large)
    assert (refused(refusal), errors_of(refusal)) == ((400, "INVALID_ARGUMENT"), {"1": 3, "3": 3})
    assert book.contacts == {}
    kept, changed, gone = (make(name) for name in ("Ada", "Bea", "Cyd"))
    update(client, changed, "nicknames", nicknames=[{"value": "B"}])
    client.delete(f"{gone['resourceName']}:deleteContact")
    people = {one["resourceName"]: {"etag": one["etag"], "names": [{"givenName": "New"}]} for one in (kept, changed, gone)}
    before = len(world.events("google"))
    refusal = update_many(client, "names", people)
    assert refused(refusal) == (400, "FAILED_PRECONDITION")
    assert errors_of(refusal) == {changed["resourceName"]: 9, gone["resourceName"]: 5}
    world.faults.append(Fault("google", "unnamed"))
    assert "details" not in update_many(client, "names", people).json()["error"]
    assert len(world.events("google")) == before
    assert update_many(client, "names", {kept["resourceName"]: people[kept["resourceName"]]}).status_code == 200


def test_two_hundred_contacts_are_the_most_at_once(client: httpx.Client, book: AddressBook) -> None:
    people = named(*map(str, range(201)))
    assert refused(create_many(client, *people)) == (400, "INVALID_ARGUMENT")
    assert refused(create_many(client)) == (400, "INVALID_ARGUMENT")
    made = create_many(client, *people[:200]).json()["createdPeople"]
    assert len({one["requestedResourceName"] for one in made}) == 200
    first = [item.content["names"][0]["givenName"] for item in book.contacts.values()]
    assert first == [str(number) for number in range(200)]
    contacts = {f"people/c{number}": {} for number in range(201)}
    assert refused(update_many(client, "names", contacts)) == (400, "INVALID_ARGUMENT")
    assert refused(update_many(client, "names", {})) == (400, "INVALID_ARGUMENT")
    query = {"resourceNames": list(contacts), "personFields": "names"}
    assert refused(client.get("/people:batchGet", params=query)) == (400, "INVALID_ARGUMENT")
    assert refused(client.get("/people:batchGet", params={"personFields": "names"})) == (400, "INVALID_ARGUMENT")


def test_what_is_written_at_once_is_shown_as_far_as_asked_for(
    client: httpx.Client, make: Callable[..., dict[str, Any]], world: World
) -> None:
    contact = make()
    assert create_many(client, *named("Bea"), mask="").json() == {}
    assert refused(create_many(client, *named("Cyd"), mask="shoes")) == (400, "INVALID_ARGUMENT")
    people = {contact["resourceName"]: {"etag": contact["etag"]}}
    assert refused(update_many(client, "", people)) == (400, "INVALID_ARGUMENT")
    assert refused(update_many(client, "metadata", people)) == (400, "INVALID_ARGUMENT")
    assert refused(update_many(client, "names", {contact["resourceName"]: {"shoes": []}})) == (400, "INVALID_ARGUMENT")
    bad = {"contacts": [{"contactPerson": {}}], "readMask": "names", "sources": ["CONTACT"]}
    assert refused(client.post("/people:batchCreateContacts", json=bad)) == (400, "INVALID_ARGUMENT")
    query = {"resourceNames": contact["resourceName"]}
    assert refused(client.get("/people:batchGet", params=query)) == (400, "INVALID_ARGUMENT")
    query |= {"resourceNames": "c1", "personFields": "names"}
    assert refused(client.get("/people:batchGet", params=query)) == (400, "INVALID_ARGUMENT")
    world.faults.append(Fault("google", "unshown"))
    (told,) = create_many(client, *named("Dee")).json()["createdPeople"]
    assert (told["status"]["code"], "person" in told) == (13, False)
    world.faults.append(Fault("google", "rateLimitExceeded", match=":batchCreateContacts"))
    assert refused(create_many(client, *named("Eve"))) == (429, "RESOURCE_EXHAUSTED")


def test_a_contact_is_always_in_a_group(
    client: httpx.Client, make: Callable[..., dict[str, Any]], group: Callable[[str], str]
) -> None:
    first, second, contact = group("SAP Contacts"), group("SAP Accounts"), make()
    assert refused(update(client, contact, "memberships", memberships=[])) == (400, "INVALID_ARGUMENT")
    assert refused(update(client, contact, "memberships", **in_group("contactGroups/none"))) == (404, "NOT_FOUND")
    moved = update(client, contact, "memberships", **in_group(first))
    assert moved.json()["memberships"][0]["contactGroupMembership"]["contactGroupResourceName"] == first
    last = client.post(f"{first}/members:modify", json={"resourceNamesToRemove": [contact["resourceName"]]})
    assert last.json() == {"canNotRemoveLastContactGroupResourceNames": [contact["resourceName"]]}
    client.post(f"{second}/members:modify", json={"resourceNamesToAdd": [contact["resourceName"]]})
    assert client.get(second).json()["memberCount"] == 1
    too_many = {"resourceNamesToAdd": [f"people/c{n}" for n in range(1001)]}
    assert refused(client.post(f"{second}/members:modify", json=too_many)) == (400, "INVALID_ARGUMENT")


def test_groups_are_renamed_and_deleted_with_or_without_their_contacts(
    client: httpx.Client, make: Callable[..., dict[str, Any]], group: Callable[[str], str], book: AddressBook
) -> None:
    first, second = group("SAP Contacts"), group("SAP Accounts")
    kept, gone = make(**in_group(first)), make(**in_group(second))
    body = {"contactGroup": {"name": "sap accounts"}, "updateGroupFields": "name"}
    assert refused(client.put(first, json=body)) == (409, "ALREADY_EXISTS")
    assert client.put(second, json=body).json()["name"] == "sap accounts"
    assert refused(client.delete("contactGroups/myContacts")) == (400, "INVALID_ARGUMENT")
    client.delete(first)
    client.delete(second, params={"deleteContacts": "true"})
    assert not book.contacts[kept["resourceName"]].is_deleted
    assert book.contacts[gone["resourceName"]].is_deleted
    assert refused(client.get(first)) == (404, "NOT_FOUND")


def test_a_sync_tells_what_changed_and_what_was_deleted(
    client: httpx.Client, make: Callable[..., dict[str, Any]], world: World
) -> None:
    kept, gone = make("Ada"), make("Bea")
    query = {"personFields": "names", "requestSyncToken": "true"}
    full = client.get("people/me/connections", params=query).json()
    assert len(full["connections"]) == 2
    query["syncToken"] = full["nextSyncToken"]
    assert "connections" not in client.get("people/me/connections", params=query).json()
    update(client, kept, "nicknames", nicknames=[{"value": "A"}])
    client.delete(f"{gone['resourceName']}:deleteContact")
    changed = client.get("people/me/connections", params=query).json()
    assert [(c["resourceName"], c.get("metadata", {}).get("deleted", False)) for c in changed["connections"]] == [
        (kept["resourceName"], False),
        (gone["resourceName"], True),
    ]
    other = query | {"personFields": "names,nicknames"}
    assert refused(client.get("people/me/connections", params=other)) == (400, "INVALID_ARGUMENT")
    world.clock_skew += timedelta(days=8)
    expired = client.get("people/me/connections", params=query)
    assert refused(expired) == (400, "FAILED_PRECONDITION")
    assert expired.json()["error"]["details"][0]["reason"] == "EXPIRED_SYNC_TOKEN"


def test_what_changes_while_pages_are_read_belongs_to_the_next_sync(
    client: httpx.Client, make: Callable[..., dict[str, Any]]
) -> None:
    made = [make(str(number)) for number in range(5)]
    query = {"personFields": "names", "requestSyncToken": "true", "pageSize": "2"}
    first = client.get("people/me/connections", params=query).json()
    late = make("late")
    seen, page = [c["resourceName"] for c in first["connections"]], first
    while "nextPageToken" in page:
        page = client.get("people/me/connections", params=query | {"pageToken": page["nextPageToken"]}).json()
        seen += [c["resourceName"] for c in page["connections"]]
    assert seen == [contact["resourceName"] for contact in made]
    following = client.get("people/me/connections", params=query | {"syncToken": page["nextSyncToken"]}).json()
    assert [c["resourceName"] for c in following["connections"]] == [late["resourceName"]]


@pytest.mark.parametrize("order", ["LAST_MODIFIED_ASCENDING", "LAST_MODIFIED_DESCENDING"])
def test_no_contact_is_lost_when_others_change_while_pages_are_read(
    client: httpx.Client, make: Callable[..., dict[str, Any]], order: str
) -> None:
    made = [make(str(number)) for number in range(6)]
    query = {"personFields": "names", "sortOrder": order, "pageSize": "3"}
    page = client.get("people/me/connections", params=query).json()
    told = [c["resourceName"] for c in page["connections"]]
    changed, deleted = (next(one for one in made if one["resourceName"] == name) for name in told[:2])
    assert update(client, changed, "nicknames", nicknames=[{"value": "New"}]).status_code == 200
    client.delete(f"{deleted['resourceName']}:deleteContact")
    rest = client.get("people/me/connections", params=query | {"pageToken": page["nextPageToken"]}).json()
    assert {*told, *(c["resourceName"] for c in rest["connections"])} == {one["resourceName"] for one in made}


def test_a_scope_that_was_not_granted_is_named_by_its_reason(client: httpx.Client, holder: Holder) -> None:
    holder.scopes = frozenset({"contacts.readonly"})
    assert client.get("contactGroups").status_code == 200
    answer = client.post("contactGroups", json={"contactGroup": {"name": "SAP Contacts"}})
    assert refused(answer) == (403, "PERMISSION_DENIED")
    assert answer.json()["error"]["details"][0]["reason"] == "ACCESS_TOKEN_SCOPE_INSUFFICIENT"


def test_faults_of_all_vendors_have_googles_shape(client: httpx.Client, world: World) -> None:
    world.faults.append(Fault("google", "status", status=503, retry_after_s=2))
    answer = client.get("contactGroups")
    assert (*refused(answer), answer.headers["Retry-After"]) == (503, "UNAVAILABLE", "2")
    world.faults.append(Fault("google", "rateLimitExceeded"))
    answer = client.get("contactGroups")
    assert refused(answer) == (429, "RESOURCE_EXHAUSTED")
    assert answer.json()["error"]["details"][0]["reason"] == "RATE_LIMIT_EXCEEDED"


def test_the_owner_is_told_of_by_the_accounts_id(client: httpx.Client, me: Person) -> None:
    answer = client.get("people/me", params={"personFields": "names,metadata"}).json()
    Description("people.v1").check(answer, {"$ref": "Person"})
    assert answer["resourceName"] == f"people/{subject(me)}"
    assert (answer["names"][0]["displayName"], answer["metadata"]["sources"][0]["type"]) == (me.name, "PROFILE")


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ({"givenName": "Ada", "familyName": "Byron"}, ("Ada Byron", "Ada", "Byron")),
        ({"unstructuredName": "Ada King Byron"}, ("Ada King Byron", "Ada King", "Byron")),
        ({"unstructuredName": "Countess", "givenName": "Ada"}, ("Countess", "Ada", None)),
        ({"unstructuredName": "Engines"}, ("Engines", "Engines", None)),
    ],
)
def test_a_name_is_completed_in_both_forms(
    make: Callable[..., dict[str, Any]], written: dict[str, str], shown: tuple[str | None, ...]
) -> None:
    (name,) = make(names=[written])["names"]
    assert (name["displayName"], name.get("givenName"), name.get("familyName")) == shown
    assert name["unstructuredName"] == name["displayName"]


def test_values_are_shown_with_what_google_adds(make: Callable[..., dict[str, Any]]) -> None:
    first, second = make(phoneNumbers=[{"type": "work", "value": "1"}, {"value": "2"}])["phoneNumbers"]
    assert (first["formattedType"], first["metadata"]["primary"]) == ("Work", True)
    assert first["metadata"]["source"]["type"] == "CONTACT"
    assert ("formattedType" in second, "primary" in second["metadata"]) == (False, False)


def test_a_group_is_shown_as_far_as_asked_for(client: httpx.Client, group: Callable[[str], str]) -> None:
    name = group("SAP Contacts")
    assert client.get(name, params={"groupFields": "groupType"}).json().keys() == {"resourceName", "etag", "groupType"}
    assert refused(client.get(name, params={"groupFields": "colour"})) == (400, "INVALID_ARGUMENT")


def test_the_newest_change_comes_first_if_asked_for(client: httpx.Client, make: Callable[..., dict[str, Any]]) -> None:
    made = [make(name)["resourceName"] for name in ("Ada", "Bea", "Cyd")]
    query = {"personFields": "names", "sortOrder": "LAST_MODIFIED_DESCENDING", "pageSize": "2"}
    first = client.get("people/me/connections", params=query).json()
    rest = client.get("people/me/connections", params=query | {"pageToken": first["nextPageToken"]}).json()
    assert [c["resourceName"] for c in (*first["connections"], *rest["connections"])] == made[::-1]
    by_name = client.get("people/me/connections", params=query | {"sortOrder": "FIRST_NAME_ASCENDING"})
    assert refused(by_name) == (501, "UNIMPLEMENTED")


def test_lists_show_what_was_written_only_later(
    client: httpx.Client, make: Callable[..., dict[str, Any]], book: AddressBook, world: World
) -> None:
    query = {"personFields": "names", "requestSyncToken": "true"}
    token = client.get("people/me/connections", params=query).json()["nextSyncToken"]
    book.delay = timedelta(minutes=5)
    made = make()["resourceName"]
    assert client.get(made, params={"personFields": "names"}).status_code == 200
    early = client.get("people/me/connections", params=query | {"syncToken": token}).json()
    assert "connections" not in early
    assert "connections" not in client.get("people/me/connections", params=query).json()
    world.clock_skew += timedelta(minutes=6)
    late = client.get("people/me/connections", params=query | {"syncToken": early["nextSyncToken"]}).json()
    assert [c["resourceName"] for c in late["connections"]] == [made]


def test_a_contact_that_google_renames_says_what_it_was_called(
    client: httpx.Client, make: Callable[..., dict[str, Any]], book: AddressBook, world: World
) -> None:
    made = make()["resourceName"]
    query = {"personFields": "names,metadata", "requestSyncToken": "true"}
    query["syncToken"] = client.get("people/me/connections", params=query).json()["nextSyncToken"]
    renamed = book.rename(book.contacts[made], world.now()).name
    (told,) = client.get("people/me/connections", params=query).json()["connections"]
    assert (told["resourceName"], told["metadata"]["previousResourceNames"]) == (renamed, [made])
    assert client.get(made, params={"personFields": "names"}).status_code == 404


def test_two_writes_of_a_person_at_once_are_refused(
    client: httpx.Client, service: PeopleService, make: Callable[..., dict[str, Any]]
) -> None:
    service.write_s = 0.3
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda name: client.post("contactGroups", json={"contactGroup": {"name": name}}), ("A", "B")))
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    assert refused(max(answers, key=lambda answer: answer.status_code)) == (409, "ABORTED")
    assert client.get("contactGroups").status_code == 200


def test_the_parts_of_a_batch_are_judged_alone(
    client: httpx.Client, port: Port, world: World, make: Callable[..., dict[str, Any]]
) -> None:
    made = make()
    head = "--b\r\nContent-Type: application/http\r\nContent-ID: <{}>\r\n\r\n{}\r\n"
    lines = ["GET /v1/contactGroups\r\n", "GET /v1/people/c9?personFields=names\r\n"]
    body = json.dumps({"etag": made["etag"], "nicknames": [{"value": "A"}]})
    write = f"PATCH /v1/{made['resourceName']}:updateContact?updatePersonFields=nicknames\r\nContent-Type: application/json\r\n"
    content = "".join(head.format(n, line) for n, line in enumerate([*lines, f"{write}\r\n{body}"])) + "--b--"
    answer = client.post(port.url + "/batch", content=content, headers={"Content-Type": "multipart/mixed; boundary=b"})
    statuses = re.findall(r"<response-(\d)>\s+HTTP/1.1 (\d+)", answer.text)
    assert sorted(statuses) == [("0", "200"), ("1", "404"), ("2", "200")]
    assert world.requests("google")[-1].parts[0] == "GET /v1/contactGroups"
    assert refused(client.post(port.url + "/batch", json={})) == (400, "INVALID_ARGUMENT")
