"""The contacts of the simulator's mail client: what a person does there is what the vendors tell of them."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from simulator import demo
from simulator.google.book import AddressBook, Books
from simulator.inbox import create_app
from simulator.world import AccessType, Folder, Person, World

ADA = {"given_name": "Ada", "surname": "Byron", "email": "ada@e.example", "business_phone": "+44 1", "notes": "Likes numbers."}


@pytest.fixture(params=["office365", "google"])
def owner(request: pytest.FixtureRequest, world: World) -> Person:
    """Somebody with two folders of contacts, or groups, beside the first, and nothing in them."""
    access_type: AccessType = request.param
    person = next(person for person in world.people if person.provisioned and person.access_type == "office365")
    person.access_type = access_type
    box = world.mailbox(person.email)
    for name in ("Partners", "Friends"):
        box.folders[name] = Folder(name, name, kind="contacts")
        book(world, person).put(book(world, person).groups, {"name": name}, world.now(), f"contactGroups/{name}")
    return person


BOOKS = Books()


def book(world: World, person: Person) -> AddressBook:
    return BOOKS.of(world, person)


@pytest.fixture
def world() -> World:
    return demo.small()


@pytest.fixture
def client(world: World) -> FlaskClient:
    app = create_app(
        lambda: world, sidebar_url=lambda: "", mint_token=lambda person: "", book_of=lambda person: book(world, person)
    )
    return app.test_client()


@pytest.fixture
def address(owner: Person) -> str:
    return f"/api/mailboxes/{owner.email}/contacts"


def place(client: FlaskClient, address: str, name: str) -> str:
    return next(found["id"] for found in client.get(address).get_json()["places"] if found["name"] == name)


def inside(client: FlaskClient, address: str, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(address, query_string={"place": place(client, address, name)}).get_json()["contacts"]
    return found


def test_a_contact_is_created_edited_and_deleted(client: FlaskClient, address: str) -> None:
    ref = client.post(address, json={"place": place(client, address, "Partners"), **ADA}).get_json()["id"]
    (card,) = inside(client, address, "Partners")
    assert {name: card[name] for name in ADA} == ADA
    assert client.patch(f"{address}/{ref}", json={"email": "", "job_title": "Countess"}).status_code == 204
    (card,) = inside(client, address, "Partners")
    assert (card["surname"], card["email"], card["job_title"], card["business_phone"]) == ("Byron", "", "Countess", "+44 1")
    assert client.delete(f"{address}/{ref}").status_code == 204
    assert inside(client, address, "Partners") == []


def test_a_contact_goes_to_another_folder_or_group_and_back(client: FlaskClient, address: str, owner: Person) -> None:
    ref = client.post(address, json={"place": place(client, address, "Partners"), **ADA}).get_json()["id"]
    to = {"categories": ["Friends"]} if owner.access_type == "google" else {"place": "Friends"}
    assert client.patch(f"{address}/{ref}", json=to).status_code == 204
    assert inside(client, address, "Partners") == []
    (card,) = inside(client, address, "Friends")
    assert {name: card[name] for name in ADA} == ADA


def test_a_contact_at_microsoft_carries_categories(client: FlaskClient, world: World) -> None:
    person = next(person for person in world.people if person.access_type == "office365")
    address = f"/api/mailboxes/{person.email}/contacts"
    ref = client.post(address, json={"place": place(client, address, "Contacts"), **ADA}).get_json()["id"]
    client.patch(f"{address}/{ref}", json={"categories": ["Account"]})
    assert world.mailbox(person.email).contacts[ref].categories == ["Account"]
    assert next(card for card in inside(client, address, "Contacts") if card["id"] == ref)["categories"] == ["Account"]


@pytest.mark.parametrize("method", ["patch", "delete"])
def test_what_is_not_there_is_told(client: FlaskClient, address: str, method: str) -> None:
    answer = client.open(f"{address}/people/c1", method=method.upper(), json={})
    assert (answer.status_code, answer.get_json()) == (404, {"error": "There is no such contact"})
