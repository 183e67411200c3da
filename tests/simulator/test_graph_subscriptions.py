"""The simulated Graph validates where notifications go, tells of changes there, and ends subscriptions in time."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from simulator import graph
from simulator.graph.subscriptions import Courier, Subscriptions, post_by_http
from simulator.serving import Port
from simulator.world import Fault, World
from tests.contracts import GraphContract, graph_contract
from tests.simulator.holder import Holder
from tests.simulator.test_graph import IMMUTABLE, case, client_of, code

URL = "https://sidebar.example.com/hooks/mail/7"


class Receiver:
    """What answers at the hook's address; `validation` makes the answer to a validation token."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.status = 202
        self.content_type = "text/plain; charset=utf-8"
        self.garbles = False
        self.told = threading.Event()

    def __call__(self, url: str, body: bytes) -> tuple[int, str, bytes]:
        if not body:
            self.asked.append(url.partition("?")[0])
            token = parse_qs(urlsplit(url).query)["validationToken"][0]
            return (
                (200 if self.status == 202 else self.status),
                self.content_type,
                (token[1:] if self.garbles else token).encode(),
            )
        if self.status == 202:
            self.bodies.append(json.loads(body))
            self.told.set()
        return self.status, "", b""

    @property
    def told_of(self) -> list[dict[str, Any]]:
        return [one for body in self.bodies for one in body["value"]]


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def subscriptions(receiver: Receiver) -> Subscriptions:
    return Subscriptions(receiver)


@pytest.fixture
def port(holder: Holder, subscriptions: Subscriptions) -> Iterator[Port]:
    with Port(graph.create_app(lambda: holder.world, holder.person_of, subscriptions)) as port:
        yield port


@pytest.fixture
def client(port: Port, world: World) -> Iterator[httpx.Client]:
    with closing(client_of(port, world.people[0])) as client:
        client.headers.update(IMMUTABLE)
        yield client


@pytest.fixture(scope="session")
def contract() -> GraphContract:
    return graph_contract()


def order(world: World, **values: Any) -> dict[str, Any]:
    return {
        "changeType": "created,updated,deleted",
        "notificationUrl": URL,
        "lifecycleNotificationUrl": URL + "/life",
        "resource": "me/mailFolders('Inbox')/messages",
        "expirationDateTime": (world.now() + timedelta(minutes=4200)).isoformat(),
        "clientState": "a secret",
    } | values


def test_answers_match_the_published_description(contract: GraphContract, client: httpx.Client, world: World) -> None:
    def check(response: httpx.Response) -> None:
        response.read()
        contract.check(response.request, response)

    client.event_hooks = {"response": [check]}
    made = client.post("../subscriptions", json=order(world)).json()
    later = {"expirationDateTime": order(world)["expirationDateTime"]}
    answers = [
        client.get("../subscriptions"),
        client.get(f"../subscriptions/{made['id']}"),
        client.patch(f"../subscriptions/{made['id']}", json=later),
        client.post(f"../subscriptions/{made['id']}/reauthorize"),
        client.delete(f"../subscriptions/{made['id']}"),
    ]
    assert [a.status_code for a in answers] == [200, 200, 200, 204, 204]
    client.post("../subscriptions", json=order(world, resource="me/everything"))  # errors are checked as well


def test_both_addresses_are_validated_before_anything_is_ordered(
    client: httpx.Client, world: World, receiver: Receiver, subscriptions: Subscriptions
) -> None:
    made = client.post("../subscriptions", json=order(world))
    assert (made.status_code, made.json()["clientState"]) == (201, "a secret")
    assert receiver.asked == [URL, URL + "/life"]
    assert [one.id for one in subscriptions.orders(world)] == [made.json()["id"]]


@pytest.mark.parametrize("wrong", [{"status": 404}, {"status": 500}, {"content_type": "text/html"}, {"garbles": True}])
def test_an_address_that_does_not_answer_with_the_token_is_refused(
    client: httpx.Client, world: World, receiver: Receiver, subscriptions: Subscriptions, wrong: dict[str, Any]
) -> None:
    for name, value in wrong.items():
        setattr(receiver, name, value)
    refused = client.post("../subscriptions", json=order(world))
    assert (refused.status_code, code(refused)) == (400, "ValidationError")
    assert subscriptions.orders(world) == []


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ({"notificationUrl": "http://sidebar.example.com/hooks"}, 400),
        ({"lifecycleNotificationUrl": "http://sidebar.example.com/hooks"}, 400),
        ({"changeType": "created,moved"}, 400),
        ({"clientState": "x" * 129}, 400),
        ({"resource": None}, 400),
        ({"resource": "me/mailFolders('inbox')/contacts"}, 400),
        ({"resource": "me/mailFolders('AAMkNoFolder')/messages"}, 404),
        ({"resource": "users/nobody@example.com/mailFolders('inbox')/messages"}, 403),
        ({"expirationDateTime": "soon"}, 400),
        ({"resourceUrl": "me/messages"}, 400),
    ],
)
def test_what_cannot_be_ordered_is_refused(
    client: httpx.Client, world: World, receiver: Receiver, values: dict[str, Any], status: int
) -> None:
    assert client.post("../subscriptions", json=order(world, **values)).status_code == status
    assert receiver.asked == []


@pytest.mark.parametrize(("minutes", "status"), [(-1, 400), (4229, 201), (4231, 400)])
def test_a_subscription_lives_for_4230_minutes_at_most(client: httpx.Client, world: World, minutes: int, status: int) -> None:
    until = (world.now() + timedelta(minutes=minutes)).isoformat()
    assert client.post("../subscriptions", json=order(world, expirationDateTime=until)).status_code == status


def test_a_subscription_ends_when_its_time_is_over_unless_it_is_renewed(client: httpx.Client, world: World) -> None:
    first, second = (client.post("../subscriptions", json=order(world)).json()["id"] for _ in range(2))
    world.clock_skew = timedelta(days=2)
    renewal = {"expirationDateTime": order(world)["expirationDateTime"]}
    assert client.patch(f"../subscriptions/{second}", json=renewal).status_code == 200
    world.clock_skew = timedelta(days=3)
    assert [client.get(f"../subscriptions/{one}").status_code for one in (first, second)] == [404, 200]
    assert [one["id"] for one in client.get("../subscriptions").json()["value"]] == [second]


def test_nobody_sees_another_persons_subscription(client: httpx.Client, world: World, port: Port) -> None:
    mine = client.post("../subscriptions", json=order(world)).json()["id"]
    with closing(client_of(port, world.people[1])) as other:
        assert other.get("../subscriptions").json()["value"] == []
        assert [m(f"../subscriptions/{mine}").status_code for m in (other.get, other.delete)] == [404, 404]


def test_changes_are_told_with_the_secret_and_the_ids_that_were_asked_for(
    client: httpx.Client, world: World, receiver: Receiver, subscriptions: Subscriptions, contract: GraphContract
) -> None:
    made = client.post("../subscriptions", json=order(world)).json()["id"]
    changed, moved, arrived = (case(world, name) for name in ("lead", "newsletter", "thread_sent"))
    client.patch(f"messages/{changed.immutable_id}", json={"categories": ["A"]})
    client.post(f"messages/{moved.immutable_id}/move", json={"destinationId": "deleteditems"})
    client.post(f"messages/{arrived.immutable_id}/move", json={"destinationId": "inbox"})
    assert subscriptions.deliver(world) == 3
    told = {one["resourceData"]["id"]: one["changeType"] for one in receiver.told_of}
    assert told == {changed.immutable_id: "updated", moved.immutable_id: "deleted", arrived.immutable_id: "created"}
    assert {(one["subscriptionId"], one["clientState"]) for one in receiver.told_of} == {(made, "a secret")}
    names = set(contract.schemas["changeNotification"]["properties"])
    assert all(set(one) <= names for one in receiver.told_of)
    assert subscriptions.deliver(world) == 0


def test_only_the_folder_and_the_kinds_of_change_that_were_ordered_are_told(
    client: httpx.Client, world: World, receiver: Receiver, subscriptions: Subscriptions
) -> None:
    folder = client.post("contactFolders", json={"displayName": "Partners"}).json()["id"]
    resource = f"me/contactFolders/{folder}/contacts"
    client.post("../subscriptions", json=order(world, resource=resource, changeType="created"))
    client.patch(f"messages/{case(world, 'lead').immutable_id}", json={"categories": ["A"]})
    made = client.post(f"contactFolders/{folder}/contacts", json={"displayName": "Ada"}).json()["id"]
    subscriptions.deliver(world)
    client.patch(f"contacts/{made}", json={"jobTitle": "Countess"})
    subscriptions.deliver(world)
    assert [(one["changeType"], one["resourceData"]["id"]) for one in receiver.told_of] == [("created", made)]


def test_a_notification_that_is_not_taken_is_sent_again_for_four_hours(
    client: httpx.Client, world: World, receiver: Receiver, subscriptions: Subscriptions
) -> None:
    client.post("../subscriptions", json=order(world))
    client.patch(f"messages/{case(world, 'lead').immutable_id}", json={"categories": ["A"]})
    receiver.status = 503
    assert subscriptions.deliver(world) == 0
    receiver.status = 202
    assert subscriptions.deliver(world) == 1
    client.patch(f"messages/{case(world, 'lead').immutable_id}", json={"categories": ["B"]})
    receiver.status = 503
    subscriptions.deliver(world)
    world.clock_skew = timedelta(hours=5)
    subscriptions.deliver(world)
    receiver.status = 202
    assert subscriptions.deliver(world) == 0


@pytest.mark.parametrize("event", ["missed", "subscriptionRemoved", "reauthorizationRequired"])
def test_events_of_its_life_are_told_to_the_other_address(
    client: httpx.Client, world: World, receiver: Receiver, subscriptions: Subscriptions, contract: GraphContract, event: Any
) -> None:
    made = client.post("../subscriptions", json=order(world)).json()["id"]
    assert subscriptions.lifecycle(world, event) == 1
    (told,) = receiver.told_of
    assert (told["subscriptionId"], told["lifecycleEvent"], told["clientState"]) == (made, event, "a secret")
    assert event in contract.schemas["lifecycleEventType"]["enum"]
    ended = event == "subscriptionRemoved"
    assert (client.get(f"../subscriptions/{made}").status_code == 404) == ended


def test_a_change_can_be_missed_and_that_is_told(
    client: httpx.Client, world: World, receiver: Receiver, subscriptions: Subscriptions
) -> None:
    client.post("../subscriptions", json=order(world))
    client.patch(f"messages/{case(world, 'lead').immutable_id}", json={"categories": ["A"]})
    world.faults.append(Fault("graph", "missed"))
    subscriptions.deliver(world)
    assert [one.get("lifecycleEvent") for one in receiver.told_of] == ["missed"]


def test_what_is_sent_by_http_arrives_and_nobody_at_the_address_is_no_error() -> None:
    def app(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        start("200 OK", [("Content-Type", "text/plain")])
        return [environ["QUERY_STRING"].encode(), environ["CONTENT_TYPE"].encode(), environ["wsgi.input"].read()]

    with Port(app) as port:
        url = port.url
        assert post_by_http(f"{url}/hook?a=b", b"{}") == (200, "text/plain", b"a=bapplication/json{}")
    assert post_by_http(url, b"") == (0, "", b"")


def test_a_courier_delivers_by_itself(
    client: httpx.Client, world: World, receiver: Receiver, subscriptions: Subscriptions
) -> None:
    client.post("../subscriptions", json=order(world))
    with Courier(subscriptions, lambda: world, every_s=0.01):
        client.patch(f"messages/{case(world, 'lead').immutable_id}", json={"categories": ["A"]})
        assert receiver.told.wait(10)
