"""What tests of GraphMailbox stand on: the back door to a mailbox at Microsoft 365, and a hook that takes notifications."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

from flask import Flask

from server.mail.graph import GraphMailbox
from server.transport import Gateway
from simulator import graph
from simulator.graph.subscriptions import Subscriptions
from simulator.world import Gate, Person, World
from tests.mail.remote import Remote


class Receiver:
    """Where notifications go: says that they are wanted, and keeps them."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.is_welcome = True

    def __call__(self, url: str, body: bytes) -> tuple[int, str, bytes]:
        if not body:
            (token,) = parse_qs(urlsplit(url).query)["validationToken"]
            return (200, "text/plain", token.encode()) if self.is_welcome else (404, "text/html", b"")
        self.bodies.append(body)
        return 202, "", b""


@dataclass
class GraphRemote(Remote):
    """The back door to a mailbox at Microsoft 365."""

    creating_folder: str = "POST /v1.0/me/contactFolders"
    subscriptions: Subscriptions = field(default_factory=Subscriptions)

    def forget_changes(self) -> None:
        self.world.clock_skew += timedelta(days=8)

    def end_subscriptions(self) -> None:
        self.subscriptions.lifecycle(self.world, "subscriptionRemoved")


class Tenant:
    """Stands between the port, which lives long, and the World, which is new for each test. A token is an address."""

    world: World
    revoked: bool = False

    def __init__(self) -> None:
        self.receiver = Receiver()
        self.subscriptions = Subscriptions(lambda url, body: self.receiver(url, body))

    def person_of(self, token: str) -> Person | None:
        return None if self.revoked else self.world.person(token)

    def app(self) -> Flask:
        return graph.create_app(lambda: self.world, self.person_of, self.subscriptions)

    def enter(self, world: World) -> GraphRemote:
        """Serve this World from now on; return the back door to its first person's mailbox."""
        self.world, self.revoked, self.receiver = world, False, Receiver()
        revoke = partial(setattr, self, "revoked", True)
        return GraphRemote(world, "graph", world.people[0], revoke, subscriptions=self.subscriptions)


def opener(gateway: Gateway, url: str, remote: Remote, sleeps: list[float]) -> Callable[..., GraphMailbox]:
    """Return what opens the person's mailbox as a process would; options replace what the product gives it."""

    def opened(gateway: Gateway = gateway, **options: Any) -> GraphMailbox:
        given = {"url": url, "sleep": sleeps.append, "now": remote.world.now, **options}
        return GraphMailbox(gateway, get_token=lambda: remote.person.email, **given)

    return opened


def between(remote: Remote, write: Callable[[], object], meanwhile: Callable[[], object], *, method: str = "PATCH") -> object:
    """Let something happen between our reading of an item and our writing to it."""
    gate = remote.world.gate = Gate(match=method)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        assert gate.reached.wait(10)
        meanwhile()
        gate.open()
        return writing.result()
