"""GraphMailbox keeps the contract of a mailbox, and what only concerns Microsoft 365."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Semaphore
from typing import Any

import httpx
import pytest

from server.errors import Forbidden, Rejected
from server.mail import Mailbox
from server.mail.graph import GraphMailbox
from server.transport import Gateway, Reply
from simulator import graph
from simulator.serving import Port
from simulator.world import Latency, Person, StoredMessage, World
from tests.contracts import GraphContract, graph_contract
from tests.mail.contract import NAMES, MailboxContract, Remote


class Tenant:
    """Stands between the port, which lives long, and the World, which is new for each test. A token is an address."""

    world: World
    revoked: bool = False

    def person_of(self, token: str) -> Person | None:
        return None if self.revoked else self.world.person(token)


@pytest.fixture(scope="module")
def tenant() -> Tenant:
    return Tenant()


@pytest.fixture(scope="module")
def port(tenant: Tenant) -> Iterator[Port]:
    with Port(graph.create_app(lambda: tenant.world, tenant.person_of)) as port:
        yield port


@pytest.fixture
def remote(tenant: Tenant, world: World) -> Remote:
    tenant.world, tenant.revoked = world, False
    return Remote(world, "graph", world.people[0], revoke=lambda: setattr(tenant, "revoked", True))


@pytest.fixture
def open_mailbox(gateway: Gateway, port: Port, remote: Remote, sleeps: list[float]) -> Callable[..., GraphMailbox]:
    def open_mailbox(gateway: Gateway = gateway, url: str = f"{port.url}/v1.0", **options: Any) -> GraphMailbox:
        return GraphMailbox(gateway, url=url, get_token=lambda: remote.person.email, sleep=sleeps.append, **options)

    return open_mailbox


@pytest.fixture
def mailbox(open_mailbox: Callable[..., GraphMailbox]) -> Mailbox:
    return open_mailbox()


class TestGraph(MailboxContract):
    foreign_id_form = "gmail"


@pytest.fixture(scope="session")
def contract() -> GraphContract:
    return graph_contract()


class CheckedGateway(Gateway):
    """A gateway that compares what it sends and gets with the vendor's description."""

    contract: GraphContract

    def send(self, method: str, url: str, **options: Any) -> Reply:
        reply = super().send(method, url, **options)
        request = httpx.Request(method, url, headers=options.get("headers"), json=options.get("json"))
        self.contract.check(request, httpx.Response(reply.status, headers=reply.headers, content=reply.content))
        return reply


def test_what_is_sent_is_what_microsoft_describes(
    contract: GraphContract, gateway: Gateway, open_mailbox: Callable[..., GraphMailbox], remote: Remote
) -> None:
    checked = CheckedGateway("Graph", timeout_s=10, ssl_context=gateway._ssl)
    checked.contract = contract
    mailbox = open_mailbox(checked)
    remote.add_category(NAMES["error"], "none")
    mailbox.ensure_marks(NAMES)
    head = mailbox.head(remote.case("attachments").ews_id, "ews")
    mailbox.set_mark(head.ref, "error", reason="Why", names=NAMES)
    mailbox.mime(head.ref, max_bytes=10**6)
    assert [found.ref for found in mailbox.find(head.message_id or "")] == [head.ref]
    assert {access.status for access in remote.world.requests("graph")} == {200, 201}


def test_a_semaphore_of_four_keeps_the_mailbox_under_its_limit(
    open_mailbox: Callable[..., GraphMailbox], remote: Remote, sleeps: list[float]
) -> None:
    mailbox = open_mailbox(in_flight=Semaphore(4))
    remote.world.latency["graph"] = Latency(base_ms=20)
    rest_id = remote.case("known_contact").rest_id
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: mailbox.head(rest_id), range(16)))
    assert {access.status for access in remote.world.requests("graph")} == {200}
    assert sleeps == []


def test_a_shared_mailbox_is_reached_by_its_base_path(open_mailbox: Callable[..., GraphMailbox], remote: Remote) -> None:
    stored = remote.case("known_contact")
    own = open_mailbox(base=f"/users/{remote.person.object_id}")
    assert own.head(stored.rest_id).ref == stored.immutable_id
    other = open_mailbox(base=f"/users/{remote.world.people[1].email}")
    with pytest.raises(Forbidden) as caught:
        other.head(stored.rest_id)
    assert caught.value.code == "mailbox_forbidden"


def test_errors_chain_what_graph_said_without_content(mailbox: Mailbox, remote: Remote) -> None:
    remote.leave_provider()
    with pytest.raises(Rejected) as caught:
        mailbox.head(remote.case("known_contact").rest_id)
    assert str(caught.value.__cause__) == "404 MailboxNotEnabledForRESTAPI"


@pytest.fixture
def foreign_link() -> Iterator[tuple[str, list[str]]]:
    """A service whose next page is at another host's address; collects the paths it was asked for."""
    asked: list[str] = []

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        asked.append(environ["PATH_INFO"])
        elsewhere = f"http://localhost:{environ['SERVER_PORT']}/elsewhere"
        start("200 OK", [("Content-Type", "application/json")])
        return [json.dumps({"value": [], "@odata.nextLink": elsewhere}).encode()]

    with Port(app) as port:
        yield port.url, asked


def test_the_token_does_not_follow_a_link_to_another_host(
    open_mailbox: Callable[..., GraphMailbox], foreign_link: tuple[str, list[str]]
) -> None:
    url, asked = foreign_link
    with pytest.raises(Rejected):
        open_mailbox(url=url).find("<a@example.com>")
    assert asked == ["/me/messages"]


def test_a_message_of_the_largest_size_is_read_whole(mailbox: Mailbox, remote: Remote) -> None:
    stored: StoredMessage = remote.case("too_large")
    assert len(mailbox.mime(stored.immutable_id, max_bytes=40 * 1024 * 1024)) == len(stored.mime)
