"""The simulated Graph keeps contacts and their folders as the service does, and is as strict about what is written."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import httpx
import pytest
from flask import Flask

from simulator import graph
from simulator.graph.calls import SECOND_WRITERS_CATEGORY
from simulator.graph.contacts import CONTACT, CONTACT_FOLDER
from simulator.serving import Port
from simulator.world import Fault, MailboxState, Person, StoredContact, World
from tests.contracts import GraphContract, graph_contract
from tests.simulator.holder import Holder
from tests.simulator.test_graph import IMMUTABLE, client_of, code, drain

GUID = "{9d1c6a0e-5b0f-4c3e-8f57-2a4be0c71d36}"
LINK = f"String {GUID} Name SsiLink"
ADA: dict[str, Any] = {
    "givenName": "Ada",
    "surname": "Byron",
    "emailAddresses": [{"name": "Ada", "address": "ada@example.com"}],
    "businessPhones": ["+44 20 7946 0001"],
    "homeAddress": {"city": "Bath"},
    "singleValueExtendedProperties": [{"id": LINK.upper().replace("NAME SSILINK", "Name SsiLink"), "value": "AB-12"}],
}


@pytest.fixture(scope="module")
def app(holder: Holder) -> Flask:
    return graph.create_app(lambda: holder.world, holder.person_of)


@pytest.fixture
def mailbox(world: World, me: Person) -> MailboxState:
    return world.mailbox(me.email)


@pytest.fixture
def client(port: Port, me: Person) -> Iterator[httpx.Client]:
    with closing(client_of(port, me)) as client:
        client.headers.update(IMMUTABLE)
        yield client


@pytest.fixture(scope="session")
def contract() -> GraphContract:
    return graph_contract()


@pytest.fixture
def folder(client: httpx.Client) -> str:
    return str(client.post("contactFolders", json={"displayName": "Partners"}).json()["id"])


@pytest.fixture
def contact(client: httpx.Client, folder: str, mailbox: MailboxState) -> StoredContact:
    return mailbox.contacts[client.post(f"contactFolders/{folder}/contacts", json=ADA).json()["id"]]


def expand(*identifiers: str) -> dict[str, str]:
    wanted = " or ".join(f"id eq '{identifier}'" for identifier in identifiers)
    return {"$expand": f"singleValueExtendedProperties($filter={wanted})"}


# Contract


def test_answers_match_the_published_description(contract: GraphContract, client: httpx.Client, folder: str) -> None:
    def check(response: httpx.Response) -> None:
        response.read()
        contract.check(response.request, response)

    client.event_hooks = {"response": [check]}
    contacts = f"contactFolders/{folder}/contacts"
    made = client.post(contacts, json=ADA).json()
    other = client.post("mailFolders", json={"displayName": "Archive"}).json()["id"]
    answers = [
        client.get("contactFolders", params={"$count": "true"}),
        client.get(f"contactFolders/{folder}"),
        client.get(f"contactFolders/{folder}/childFolders"),
        client.patch(f"contactFolders/{folder}", json={"displayName": "Friends"}),
        client.get(contacts, params={"$select": "displayName", **expand(LINK)}),
        client.get(f"{contacts}/delta", headers={"Prefer": "odata.maxpagesize=2"}),
        client.get(f"contacts/{made['id']}", params=expand(LINK, "String 0x001A")),
        client.patch(f"contacts/{made['id']}", json={"jobTitle": "Countess"}, headers={"If-Match": made["@odata.etag"]}),
        client.delete(f"{contacts}/{made['id']}"),
        client.get("contacts"),
        client.delete(f"contactFolders/{folder}"),
        client.patch(f"mailFolders/{other}", json={"displayName": "Old"}),
        client.delete(f"mailFolders/{other}"),
    ]
    assert [a.status_code for a in answers if not a.is_success] == []


def test_property_names_are_those_of_the_metadata(contract: GraphContract) -> None:
    assert set(CONTACT) <= set(contract.schemas["contact"]["properties"])
    assert set(CONTACT_FOLDER) <= set(contract.schemas["contactFolder"]["properties"])


# Folders


@pytest.mark.parametrize(("kind", "status"), [("mailFolders", 409), ("contactFolders", 400)])
def test_a_folder_has_a_name_that_no_other_of_its_kind_has(client: httpx.Client, world: World, kind: str, status: int) -> None:
    made = client.post(kind, json={"displayName": "Partners"})
    assert (made.status_code, made.json()["displayName"]) == (201, "Partners")
    again = client.post(kind, json={"displayName": "PARTNERS"})
    assert (again.status_code, code(again)) == (status, "ErrorFolderExists")
    other = client.post(kind, json={"displayName": "Others"}).json()["id"]
    assert code(client.patch(f"{kind}/{other}", json={"displayName": "partners"})) == "ErrorFolderExists"
    assert client.patch(f"{kind}/{other}", json={"displayName": "OTHERS"}).json()["displayName"] == "OTHERS"
    assert [event.kind for event in world.events("graph")] == ["folder_create", "folder_create", "folder_rename"]


@pytest.mark.parametrize("body", [{}, {"displayName": ""}, {"displayName": "x" * 256}, {"displayName": "a", "colour": "red"}])
def test_what_is_no_folder_is_refused(client: httpx.Client, mailbox: MailboxState, body: dict[str, str]) -> None:
    before = set(mailbox.folders)
    assert {client.post(kind, json=body).status_code for kind in ("mailFolders", "contactFolders")} == {400}
    assert set(mailbox.folders) == before


def test_a_deleted_folder_takes_its_contacts_with_it_and_those_of_the_mailbox_stay(
    client: httpx.Client, folder: str, contact: StoredContact
) -> None:
    assert client.delete(f"contactFolders/{folder}").status_code == 204
    assert client.get(f"contacts/{contact.immutable_id}").status_code == 404
    assert client.get(f"contactFolders/{folder}/contacts").status_code == 404
    assert client.delete("contactFolders/contacts").status_code == 400
    assert client.delete("mailFolders/inbox").status_code == 400


# Contacts


def test_a_contact_lies_in_its_folder_and_is_known_by_both_ids(
    client: httpx.Client, folder: str, contact: StoredContact, port: Port, me: Person
) -> None:
    (listed,) = client.get(f"contactFolders/{folder}/contacts").json()["value"]
    assert (listed["id"], listed["parentFolderId"]) == (contact.immutable_id, folder)
    assert (listed["displayName"], listed["fileAs"]) == ("Ada Byron", "Byron, Ada")  # made up by the service
    assert client.get("contacts").json()["value"] == []
    with closing(client_of(port, me)) as plain:
        rest_id = plain.get(f"contacts/{contact.immutable_id}").json()["id"]
    assert rest_id != contact.immutable_id
    assert client.get(f"contactFolders/{folder}/contacts/{rest_id}").json()["id"] == contact.immutable_id
    assert client.get(f"contactFolders/contacts/contacts/{rest_id}").status_code == 404
    assert code(client.get("contacts/x")) == "ErrorInvalidIdMalformed"


def test_pages_hold_every_contact_once(client: httpx.Client, folder: str, mailbox: MailboxState) -> None:
    for number in range(25):
        client.post(f"contactFolders/{folder}/contacts", json={"displayName": f"Person {number}"})
    seen: list[str] = []
    url = f"contactFolders/{folder}/contacts?$select=displayName"
    while url:
        answer = client.get(url).json()
        assert len(answer["value"]) <= 10
        seen += [one["id"] for one in answer["value"]]
        url = answer.get("@odata.nextLink", "")
    assert sorted(seen) == sorted(mailbox.contacts)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"displayname": "Ada"}, "RequestBodyRead"),
        ({"displayName": 7}, "RequestBodyRead"),
        ({"businessPhones": "+44"}, "RequestBodyRead"),
        ({"homeAddress": {"town": "Bath"}}, "RequestBodyRead"),
        ({"emailAddresses": ["ada@example.com"]}, "RequestBodyRead"),
        ({"emailAddresses": [{"address": f"{n}@example.com"} for n in range(4)]}, "ErrorInvalidRequest"),
        ({"birthday": "in May"}, "RequestBodyRead"),
        ({"id": "AAMkA"}, "ErrorInvalidPropertySet"),
        ({"singleValueExtendedProperties": [{"id": "SsiLink", "value": "x"}]}, "ErrorInvalidArgument"),
        ({"singleValueExtendedProperties": [{"id": LINK}]}, "RequestBodyRead"),
    ],
)
def test_what_a_contact_does_not_have_is_refused(
    client: httpx.Client, folder: str, contact: StoredContact, mailbox: MailboxState, body: dict[str, Any], expected: str
) -> None:
    before = (contact.change, dict(contact.properties), len(mailbox.contacts))
    answers = [
        client.post(f"contactFolders/{folder}/contacts", json=body),
        client.patch(f"contacts/{contact.immutable_id}", json=body),
    ]
    assert [(a.status_code, code(a)) for a in answers] == [(400, expected)] * 2
    assert (contact.change, contact.properties, len(mailbox.contacts)) == before


def test_extended_properties_come_when_they_are_asked_for_in_graphs_own_spelling(
    client: httpx.Client, contact: StoredContact
) -> None:
    url = f"contacts/{contact.immutable_id}"
    assert "singleValueExtendedProperties" not in client.get(url).json()
    found = client.get(url, params=expand(LINK, "String 0x001A", "String 0x3A24")).json()["singleValueExtendedProperties"]
    assert found == [{"id": LINK, "value": "AB-12"}, {"id": "String 0x1a", "value": "IPM.Contact"}]


@pytest.mark.parametrize(("value", "count"), [("AB-12", 1), ("ab-12", 1), ("AB-1", 0), ("it''s", 0)])
def test_contacts_are_found_by_an_extended_property(
    client: httpx.Client, folder: str, contact: StoredContact, value: str, count: int
) -> None:
    condition = f"singleValueExtendedProperties/Any(ep: ep/id eq '{LINK}' and ep/value eq '{value}')"
    assert len(client.get(f"contactFolders/{folder}/contacts", params={"$filter": condition}).json()["value"]) == count


# Writing


def test_an_old_etag_is_refused_unless_the_service_does_not_look_at_it(
    client: httpx.Client, world: World, contact: StoredContact
) -> None:
    url = f"contacts/{contact.immutable_id}"
    old = {"If-Match": client.get(url).json()["@odata.etag"]}
    assert client.patch(url, json={"jobTitle": "Countess"}, headers=old).status_code == 200
    refused = [client.patch(url, json={"jobTitle": "Lady"}, headers=old), client.delete(url, headers=old)]
    assert [(a.status_code, code(a)) for a in refused] == [(412, "ErrorIrresolvableConflict")] * 2
    assert contact.properties["jobTitle"] == "Countess"
    world.faults.append(Fault("graph", "if_match_ignored", times=None))
    assert client.patch(url, json={"jobTitle": "Lady"}, headers=old).json()["jobTitle"] == "Lady"


def test_a_second_writer_comes_first(client: httpx.Client, world: World, contact: StoredContact) -> None:
    url = f"contacts/{contact.immutable_id}"
    etag = client.get(url).json()["@odata.etag"]
    world.faults.append(Fault("graph", "second_writer", match="PATCH"))
    assert client.patch(url, json={"categories": ["Mine"]}, headers={"If-Match": etag}).status_code == 412
    assert contact.categories == [SECOND_WRITERS_CATEGORY]


def test_the_display_name_is_made_anew_when_a_name_changes_without_it(client: httpx.Client, contact: StoredContact) -> None:
    url = f"contacts/{contact.immutable_id}"
    assert client.patch(url, json={"surname": "King", "displayName": "Ada"}).json()["displayName"] == "Ada"
    assert client.patch(url, json={"surname": "Lovelace"}).json()["displayName"] == "Ada Lovelace"


@pytest.mark.parametrize(
    ("fault", "status", "moves"), [("", 200, True), ("parent_ignored", 200, False), ("parent_refused", 400, False)]
)
def test_a_contact_moves_with_its_parent_folder_unless_the_service_does_not_do_that(
    client: httpx.Client, world: World, folder: str, contact: StoredContact, fault: str, status: int, moves: bool
) -> None:
    other = client.post("contactFolders", json={"displayName": "Others"}).json()["id"]
    if fault:
        world.faults.append(Fault("graph", fault))
    before = contact.ews_id
    answer = client.patch(f"contacts/{contact.immutable_id}", json={"parentFolderId": other})
    assert answer.status_code == status
    assert (contact.folder == other, contact.ews_id != before) == (moves, moves)
    assert client.patch(f"contacts/{contact.immutable_id}", json={"parentFolderId": "AAMkNoFolder"}).status_code == 404


def test_a_deleted_contact_goes_to_deleted_items_and_from_there_for_good(
    client: httpx.Client, folder: str, contact: StoredContact, mailbox: MailboxState
) -> None:
    url = f"contacts/{contact.immutable_id}"
    assert client.delete(url).status_code == 204
    assert client.get(f"contactFolders/{folder}/contacts").json()["value"] == []
    assert client.get(url).json()["parentFolderId"] == mailbox.folder("deleteditems").id
    assert [client.delete(url).status_code for _ in range(2)] == [204, 404]


# Delta


def test_rounds_tell_what_was_made_changed_moved_and_deleted(client: httpx.Client, folder: str, contact: StoredContact) -> None:
    url = f"contactFolders/{folder}/contacts"
    other = client.post("contactFolders", json={"displayName": "Others"}).json()["id"]
    held, link = drain(client, f"{url}/delta?$select=displayName")
    assert [set(one) for one in held] == [{"@odata.etag", "id", "displayName"}]
    moved, deleted, made = (client.post(url, json={"displayName": name}).json()["id"] for name in "abc")
    _, link = drain(client, link)
    client.patch(f"contacts/{contact.immutable_id}", json={"categories": ["Key account"]})
    client.patch(f"contacts/{moved}", json={"parentFolderId": other})
    client.delete(f"contacts/{deleted}")
    client.patch(f"contacts/{made}", json={"notes": ""})  # refused: nothing changed
    held, link = drain(client, link)
    removed = {"reason": "deleted"}
    assert {one["id"]: one.get("@removed") for one in held} == {contact.immutable_id: None, moved: removed, deleted: removed}
    assert drain(client, link)[0] == []


def test_options_belong_to_the_first_call_of_a_delta_query_and_few_are_known(client: httpx.Client, folder: str) -> None:
    url = f"contactFolders/{folder}/contacts/delta"
    assert client.get(url, params={"$filter": "displayName eq 'x'"}).status_code == 400
    link = client.get(url).json()["@odata.deltaLink"]
    assert client.get(link).status_code == 200
    assert client.get(link + "&$select=id").status_code == 400


def test_a_delta_token_expires(client: httpx.Client, world: World, folder: str) -> None:
    link = client.get(f"contactFolders/{folder}/contacts/delta").json()["@odata.deltaLink"]
    world.clock_skew = timedelta(days=8)
    assert code(client.get(link)) == "SyncStateNotFound"


@pytest.mark.parametrize(
    ("fault", "expected"), [("", (200, True)), ("expand_ignored", (200, False)), ("expand_refused", (500, False))]
)
def test_a_delta_query_expands_extended_properties_unless_the_service_does_not_do_that(
    client: httpx.Client, world: World, folder: str, contact: StoredContact, fault: str, expected: tuple[int, bool]
) -> None:
    if fault:
        world.faults.append(Fault("graph", fault, times=None))
    answer = client.get(f"contactFolders/{folder}/contacts/delta", params=expand(LINK))
    assert (answer.status_code, "AB-12" in answer.text) == expected
