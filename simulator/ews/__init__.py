"""Microsoft Exchange on-premises: Exchange Web Services and autodiscover over HTTP, upon the World's mailboxes.

As strict as the server where a client could go wrong: Basic and NTLM, whose handshake holds for its TCP connection and no
other; impersonation only by service accounts and within their scope; the order of the schema; change keys. The mailboxes are
those of people whose access type is Exchange; everybody signs in with the password of their Person.

Faults of its own, beside those of `simulator.serving`: "server_busy" (back off for `retry_after_s`, 0: without saying for how
long), "locked" (the account is locked out), "forgets" (sync states and subscriptions are lost), those of `ews.operations`, and
any name in `FAULT_CODES`, which is then the SOAP fault's code. In the access log the operation is part of the path,
"/EWS/Exchange.asmx/UpdateItem", which is also what a fault's `match` sees.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from flask import Flask, Response, g, jsonify, request

from simulator.ews import autodiscover as ews_autodiscover, identity as ews_identity, ntlm
from simulator.ews.desk import Desk, Memory
from simulator.ews.operations import perform
from simulator.ews.soap import SoapFault, SoapRequest, answer, read, server_busy
from simulator.graph.resources import Library
from simulator.serving import watch
from simulator.world import GetWorld, Person, World

PATH = "/EWS/Exchange.asmx"
DOMAIN, COMPUTER = "ALDERMILL", "EX01"
ON_PREMISES = ("exchange_direct", "exchange_impersonation")
LOCKED = b"The referenced account is currently locked out and may not be logged on to."
FAULT_CODES = frozenset(
    {"ErrorMailboxMoveInProgress", "ErrorMailboxStoreUnavailable", "ErrorAccessDenied", "ErrorInternalServerError"}
    | {"ErrorInternalServerTransientError", "ErrorExceededConnectionCount", "ErrorTimeoutExpired", "ErrorQuotaExceeded"}
    | {"ErrorExceededSubscriptionCount"}
    | {"ErrorNameResolutionNoResults"}  # as for somebody who is hidden from address lists
)

_NEGOTIATE = base64.b64encode(ntlm.SIGNATURE + b"\1").decode()  # how a first message of NTLM begins: 9 bytes, so no padding
_OPERATION = re.compile(rb"<(?:\w+:)?Body[^>]*>\s*<(?:\w+:)?(\w+)")


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """An account with the role ApplicationImpersonation; `scope` limits whom it may impersonate, None: everybody."""

    user: str
    password: str = field(repr=False)
    scope: frozenset[str] | None = None  # lower-case addresses

    def may_be(self, address: str) -> bool:
        return self.scope is None or address.lower() in self.scope


Caller = Person | ServiceAccount


def create_app(
    get_world: GetWorld,
    *,
    services: Sequence[ServiceAccount] = (),
    schemes: Sequence[str] = ("Negotiate", "NTLM", "Basic"),
    autodiscover: Callable[[str], ews_autodiscover.Reply] | None = None,
    identity: ews_identity.ExchangeIdentity | None = None,
) -> Flask:
    """Return the server as a WSGI application.

    `autodiscover` answers for an address, `identity` publishes what checks identity tokens; without them there is neither.
    """
    app = Flask("simulator.ews")
    app.wsgi_app = _naming_operations(app.wsgi_app)  # type: ignore[method-assign]  # Flask's own way to wrap an app
    watch(app, "exchange", get_world)
    door = _Door(get_world, services, schemes)
    office = _Office(get_world)

    @app.post(f"{PATH}/<operation>")
    def _ews(operation: str) -> Response:
        caller = door.admit()
        if not isinstance(caller, Person | ServiceAccount):
            return caller
        try:
            return _xml(office.answer(caller, operation))
        except SoapFault as fault:
            return _xml(fault.envelope(), 500)

    @app.get(PATH)
    def _looked_at() -> Response:
        caller = door.admit()
        return Response(status=200) if isinstance(caller, Person | ServiceAccount) else caller

    @app.post("/autodiscover/autodiscover.xml")
    def _autodiscover() -> Response:
        caller = door.admit()
        if not isinstance(caller, Person | ServiceAccount):
            return caller
        return ews_autodiscover.answer(request.get_data(), autodiscover) if autodiscover else Response(status=404)

    @app.get(ews_identity.PATH)
    def _metadata() -> Response:
        return jsonify(identity.metadata()) if identity else Response(status=404)

    return app


def _xml(body: bytes, status: int = 200) -> Response:
    return Response(body, status, content_type="text/xml; charset=utf-8")


def _naming_operations(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """Append the operation to the path before anything else sees the request; ASP.NET's paths have no case."""

    def wrapped(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path.lower() == PATH.lower() and environ.get("REQUEST_METHOD") == "POST":
            body = environ["wsgi.input"].read()
            environ["wsgi.input"] = BytesIO(body)
            found = _OPERATION.search(body)
            environ["PATH_INFO"] = f"{PATH}/{found[1].decode() if found else 'none'}"
        elif path.lower() == "/autodiscover/autodiscover.xml":
            environ["PATH_INFO"] = path.lower()
        return app(environ, start)

    return wrapped


class _Door:
    """Tells who calls: Basic for each request, NTLM for each connection."""

    def __init__(self, get_world: GetWorld, services: Sequence[ServiceAccount], schemes: Sequence[str]) -> None:
        self._get_world = get_world
        self._services = {service.user.lower(): service for service in services}
        self._schemes = schemes
        self._challenges: weakref.WeakKeyDictionary[Any, bytes] = weakref.WeakKeyDictionary()  # connection -> challenge
        self._known: weakref.WeakKeyDictionary[Any, Caller] = weakref.WeakKeyDictionary()  # connection -> who shook hands

    def admit(self) -> Caller | Response:
        world, connection = self._get_world(), request.environ["werkzeug.socket"]
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        begins = scheme in ("NTLM", "Negotiate") and value.startswith(_NEGOTIATE)  # who it is comes with the next message
        if not begins and world.take_fault("exchange", request.method, request.path, frozenset({"locked"})):
            return Response(LOCKED, 401, [("WWW-Authenticate", scheme) for scheme in self._schemes])
        if not scheme:
            caller = self._known.get(connection)
            if caller is None:
                return self._refused()
        elif scheme == "Basic" and "Basic" in self._schemes:
            caller = self._basic(world, value)
        elif scheme in ("NTLM", "Negotiate") and scheme in self._schemes:
            step = self._ntlm(world, connection, scheme, value)
            if isinstance(step, Response):
                return step
            caller = step
        else:
            caller = None
        if caller is None:
            return self._refused()
        g.actor = caller.email if isinstance(caller, Person) else caller.user
        return caller

    def _refused(self) -> Response:
        offers = [("WWW-Authenticate", 'Basic realm="ex01.example"' if s == "Basic" else s) for s in self._schemes]
        return Response(b"", 401, offers)

    def _account(self, world: World, user: str) -> tuple[Caller, str] | None:
        """Find an account by "address", "DOMAIN\\user" or "user"; returns it with its password."""
        name = user.rpartition("\\")[2]
        service = self._services.get(name.lower())
        if service is not None:
            return service, service.password
        person = world.person(name) if name else None
        return (person, person.password) if person else None

    def _basic(self, world: World, value: str) -> Caller | None:
        try:
            user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        account = self._account(world, user)
        return account[0] if account and account[1] == password else None

    def _ntlm(self, world: World, connection: Any, scheme: str, value: str) -> Caller | Response | None:
        try:
            message = base64.b64decode(value, validate=True)
        except binascii.Error:
            return None
        self._known.pop(connection, None)
        if ntlm.kind_of(message) == 1:
            challenge = self._challenges[connection] = os.urandom(8)
            token = base64.b64encode(ntlm.challenge_message(challenge, DOMAIN, COMPUTER)).decode()
            return Response(b"", 401, [("WWW-Authenticate", f"{scheme} {token}")])
        expected = self._challenges.pop(connection, None)  # made for this connection; of another one there is none
        if ntlm.kind_of(message) != 3 or expected is None:
            return None
        try:
            proof = ntlm.read_authenticate(message)
        except ValueError:
            return None
        account = self._account(world, proof.user)
        if account is None or not proof.proves(account[1], expected):
            return None
        self._known[connection] = account[0]
        return account[0]


class _Office:
    """Answers operations; every answer is made while the World is locked."""

    def __init__(self, get_world: GetWorld) -> None:
        self._get_world = get_world
        self._library = Library()
        self._memories: weakref.WeakKeyDictionary[World, dict[str, Memory]] = weakref.WeakKeyDictionary()

    def answer(self, caller: Caller, operation: str) -> bytes:
        """Raises: SoapFault."""
        world = self._get_world()
        if fault := world.take_fault("exchange", "POST", f"{PATH}/{operation}", frozenset({"server_busy"})):
            raise server_busy(1 if fault.retry_after_s is None else fault.retry_after_s)
        if fault := world.take_fault("exchange", "POST", f"{PATH}/{operation}", FAULT_CODES):
            raise SoapFault(fault.kind, "The simulator was told to answer so.")
        asked = read(request.get_data())
        with world.lock:
            person = self._owner(world, caller, asked)
            mailbox = world.mailboxes.get(person.email.lower())
            if mailbox is None or person.access_type not in ON_PREMISES:
                raise SoapFault("ErrorNonExistentMailbox", "No mailbox with such guid.")
            g.actor = person.email
            memory = self._memories.setdefault(world, {}).setdefault(person.email, Memory())
            if world.take_fault("exchange", "POST", f"{PATH}/{operation}", frozenset({"forgets"})):
                memory.forget()
            account = caller.email if isinstance(caller, Person) else caller.user
            return answer(perform(Desk(world, mailbox, self._library, memory, person.email, account), asked.operation))

    def _owner(self, world: World, caller: Caller, asked: SoapRequest) -> Person:
        if asked.impersonated is None:
            if isinstance(caller, ServiceAccount):
                raise SoapFault("ErrorMissingEmailAddress", "The account has no mailbox of its own.")
            return caller
        text = "The account does not have permission to impersonate the requested user."
        if not isinstance(caller, ServiceAccount) or not caller.may_be(asked.impersonated):
            raise SoapFault("ErrorImpersonateUserDenied", text)
        person = world.person(asked.impersonated)
        if person is None:
            raise SoapFault("ErrorNonExistentMailbox", "The SMTP address has no mailbox associated with it.")
        return person
