"""The steps of a save as they can be seen from outside: requests to the vendors and commits in PostgreSQL, in their order.

Whoever lets a step happen (the simulator's gate, the relay before PostgreSQL) reports it here, before and after it acts. A test
names one step of a person; that person's save then stands still there until it is let go, and meanwhile its process can be
killed. Nothing in the product knows of this.
"""

import base64
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import jwt
from flask import g, request

from simulator.c4c.odata import SERVICE
from simulator.world import Gate, Person, World

LOOPBACK = "127.0.0.1"
PATIENCE_S = 60.0
EVERYBODY = ""  # whose steps those are that serve no one in particular, as fetching keys

Moment = Literal["before", "after", "late", "lost"]
"""Where a save stands: before the step acts, and then it never does; after it acted, unanswered; before, and it acts late; after
it acted, and then the connection is cut."""


@dataclass
class Stand:
    """One save's place to stand."""

    moment: Moment
    reached: threading.Event = field(default_factory=threading.Event)
    let_go: threading.Event = field(default_factory=threading.Event)


class Steps:
    """Who did what, step by step. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, list[str]] = {}
        self._stands: dict[tuple[str, int], Stand] = {}

    def begin(self, person: str) -> None:
        """Forget the person's steps."""
        with self._lock:
            self._seen[person] = []

    def seen(self, person: str) -> list[str]:
        with self._lock:
            return list(self._seen.get(person, []))

    def stand_at(self, person: str, number: int, moment: Moment) -> Stand:
        stand = Stand(moment)
        with self._lock:
            self._stands[person, number] = stand
        return stand

    def clear(self) -> None:
        with self._lock:
            self._stands.clear()

    def comes(self, person: str, name: str) -> tuple[int, bool]:
        """A step is about to act; return its number and whether it may, after standing there if it was told to."""
        with self._lock:
            seen = self._seen.setdefault(person, [])
            seen.append(name)
            number = len(seen) - 1
            stand = self._stands.get((person, number))
        if stand is None or stand.moment in ("after", "lost"):
            return number, True
        stand.reached.set()
        return number, stand.let_go.wait(PATIENCE_S) and stand.moment == "late"

    def acted(self, person: str, number: int) -> bool:
        """The step acted; return whether its answer may go back, after standing there if it was told to."""
        with self._lock:
            stand = self._stands.get((person, number))
        if stand is None or stand.moment not in ("after", "lost"):
            return True
        stand.reached.set()
        stand.let_go.wait(PATIENCE_S)
        return stand.moment != "lost"


class CallGate(Gate):
    """Reports each request to a vendor as a step of the person in whose name it is sent, or of EVERYBODY."""

    def __init__(self, world: World, steps: Steps) -> None:
        super().__init__()
        self._world = world
        self._steps = steps

    def counts(self, line: str, *, acted: bool) -> bool:
        if not acted:
            sender = _sender(self._world)
            g.sender = sender.email if sender else EVERYBODY
            g.step = None
            g.line = re.sub(r"/AA[\w-]+=?|\('\w{32}'\)", "/...", line.replace(SERVICE, ""))
        return True

    def stand(self, timeout_s: float) -> bool:
        if g.step is None:
            g.step, goes_on = self._steps.comes(g.sender, g.line)
            return goes_on
        return self._steps.acted(g.sender, g.step)


def _sender(world: World) -> Person | None:
    """Return the person in whose name the request of this moment is sent."""
    token = request.headers.get("Authorization", "").rpartition(" ")[2]
    if token in world.c4c.tokens:
        return world.person(world.c4c.tokens[token][0])
    if request.path.endswith("/token"):
        token = request.form.get("assertion") or request.form.get("refresh_token") or ""
    with suppress(jwt.PyJWTError):
        return world.person(jwt.decode(token, options={"verify_signature": False})["oid"])
    with suppress(ValueError):
        named = re.search(rb"<saml:NameID[^>]*>([^<]+)<", base64.urlsafe_b64decode(token + "=="))
        return world.person(named[1].decode()) if named else None
    return None


class PostgresRelay:
    """Passes bytes between the product and PostgreSQL, and reports each commit of a transaction that wrote something.

    Whose it is follows from the ids among its parameters: `owners` knows a person's own, and what is made in a transaction of a
    known owner belongs to the same one. Connect with sslmode=disable and gssencmode=disable: the bytes must be readable.
    """

    def __init__(self, target_port: int, steps: Steps) -> None:
        self._target = target_port
        self._steps = steps
        self._owners: dict[bytes, str] = {}
        self._of_all: frozenset[bytes] = frozenset()
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> "PostgresRelay":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def know(self, owners: Mapping[str, str], of_all: Iterable[str] = ()) -> None:
        """`owners`: id -> person; `of_all`: ids that tell nothing."""
        self._owners |= {one.encode(): person for one, person in owners.items()}
        self._of_all |= {one.encode() for one in of_all}

    def owner_of(self, data: bytes) -> str | None:
        person = next((p for one, p in list(self._owners.items()) if one in data), None)
        if person is not None:
            news = set(re.findall(rb"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])", data)) - self._of_all - self._owners.keys()
            self._owners |= dict.fromkeys(news, person)
        return person

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection((LOOPBACK, self._target))
                for one in (client, server):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                line = _Line(self, self._steps, client, server)
                for pump in (line.carry_questions, line.carry_answers):
                    threading.Thread(target=_until_it_ends, args=(pump, client, server), daemon=True).start()


def _until_it_ends(pump: Callable[[], Any], *both: socket.socket) -> None:
    with suppress(OSError, EOFError):
        pump()
    for one in both:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()


class _Line:
    """One connection, read message by message (PostgreSQL documentation, "Message Formats")."""

    def __init__(self, relay: PostgresRelay, steps: Steps, client: socket.socket, server: socket.socket) -> None:
        self._relay = relay
        self._steps = steps
        self._client = client
        self._server = server
        self._parameters = bytearray()  # of the transaction's statements
        self._wrote = False
        self._committing: tuple[str, int] | None = None

    def carry_questions(self) -> None:
        with self._client.makefile("rb") as incoming:
            (size,) = struct.unpack("!i", _exactly(incoming, 4))
            self._server.sendall(struct.pack("!i", size) + _exactly(incoming, size - 4))  # the start-up has no type
            while True:
                kind, message = _message(incoming)
                if kind == b"Q" and message[5:].startswith(b"BEGIN"):
                    self._parameters.clear()
                if kind == b"B":
                    self._parameters += message
                if kind == b"Q" and message[5:].startswith(b"COMMIT") and not self._may_commit():
                    raise EOFError
                self._server.sendall(message)

    def carry_answers(self) -> None:
        with self._server.makefile("rb") as incoming:
            while True:
                kind, message = _message(incoming)
                if kind == b"C" and re.match(rb"(INSERT 0|UPDATE|DELETE) [1-9]", message[5:]):
                    self._wrote = True
                if kind == b"C" and self._committing is not None:
                    committing, self._committing = self._committing, None
                    if not self._steps.acted(*committing):
                        raise EOFError
                if kind == b"Z" and message[5:] == b"I":  # no transaction is open
                    self._parameters.clear()
                    self._wrote = False
                self._client.sendall(message)

    def _may_commit(self) -> bool:
        person = self._relay.owner_of(bytes(self._parameters)) if self._wrote else None
        if person is None:
            return True
        number, goes_on = self._steps.comes(person, "commit")
        self._committing = (person, number)
        return goes_on


def _message(incoming: Any) -> tuple[bytes, bytes]:
    """Return a message's type and its bytes."""
    head = _exactly(incoming, 5)
    (size,) = struct.unpack("!i", head[1:])
    return head[:1], head + _exactly(incoming, size - 4)


def _exactly(incoming: Any, size: int) -> bytes:
    data: bytes = incoming.read(size)
    if len(data) < size:
        raise EOFError
    return data
