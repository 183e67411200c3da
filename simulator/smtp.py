"""The operator's mail server: takes the product's own e-mails and keeps them in the World instead of delivering them.

Speaks as Postfix does for submission, and is as strict: no mail before TLS and login, none from another's address, none to a
domain that it does not know (here: any that is not the demo's), no bare line feed, no header missing or doubled that RFC 5322
wants once. Answers, where Postfix has one, are Postfix's (https://www.postfix.org/postconf.5.html, smtpd_*).

For World's faults and access log each command is a request: "MAIL ada@example.com", and "MESSAGE" for the content after DATA;
"CONNECT" is the greeting. Beside "status", "hang", "drop" and "acted_drop" there are faults of its own: "drip" (a greeting that
never ends, a line each 20 ms) and "no_starttls", "no_auth", "no_smtputf8" (the extension is not offered; match "EHLO").
"""

from __future__ import annotations

import base64
import binascii
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from socketserver import StreamRequestHandler, ThreadingTCPServer
from types import TracebackType

from simulator.serving import GATE_S
from simulator.world import Fault, GetWorld, World

MAX_BYTES = 10_240_000  # Postfix's message_size_limit
MAX_LINE = 998  # octets without CRLF, RFC 5321 4.5.3.1.6
HOST = "mx.aldermill.example"
_PATH = re.compile(r"(?P<word>FROM|TO):\s?<(?P<address>[^<>\s]*)>(?P<parameters>(?: [^ ]+)*)", re.IGNORECASE)
_ONCE = ("from", "to", "subject", "date", "message-id")
_COMMON = frozenset({"status", "hang", "drop", "drip"})
_TEXTS = {
    421: "4.3.2 Service currently unavailable",
    450: "4.2.0 Recipient address rejected: Greylisted",
    451: "4.3.0 Error: queue file write error",
    452: "4.3.1 Insufficient system storage",
    454: "4.7.0 Temporary authentication failure: generic failure",
    535: "5.7.8 Error: authentication failed: authentication failure",
    550: "5.1.1 Recipient address rejected: User unknown in local recipient table",
    552: "5.3.4 Message size exceeds fixed limit",
    554: "5.7.1 Spam message rejected",
}


@dataclass(frozen=True, slots=True)
class Account:
    """Who may send, and the only address they may send from."""

    user: str
    password: str


ACCOUNT = Account("sidebar@aldermill.example", "Send-mails-1!")


class _Ended(Exception):
    """The connection is to be closed, without another word."""


class _Refused(Exception):
    """The command is answered with this instead."""


class SmtpPort:
    """A running mail server on 127.0.0.1; with `is_tls_at_once` there is TLS from the first byte and no STARTTLS."""

    def __init__(self, get_world: GetWorld, *, tls: ssl.SSLContext, port: int = 0, is_tls_at_once: bool = False) -> None:
        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):  # the client may go first
                    _Conversation(self.request, get_world(), tls, is_tls_at_once=is_tls_at_once).hold()

        self._server = _Server(("127.0.0.1", port), Handler)
        self.port: int = self._server.server_address[1]
        self.url = f"{'smtps' if is_tls_at_once else 'smtp'}://localhost:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> SmtpPort:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class _Server(ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True


class _Conversation:
    """One client's connection."""

    def __init__(self, sock: socket.socket, world: World, tls: ssl.SSLContext, *, is_tls_at_once: bool) -> None:
        self._world = world
        self._tls = tls
        self._sock = tls.wrap_socket(sock, server_side=True) if is_tls_at_once else sock
        self._lines = self._sock.makefile("rb")
        self._is_secure = is_tls_at_once
        self._is_greeted = False
        self._user = ""
        self._forget()

    def _forget(self) -> None:
        """Begin a new mail."""
        self._sender: str | None = None
        self._recipients: list[str] = []
        self._has_utf8 = False

    def hold(self) -> None:
        """Answer commands until one side ends it."""
        acts: dict[str, Callable[[str], str]] = {
            "EHLO": self._ehlo,
            "HELO": self._helo,
            "STARTTLS": self._starttls,
            "AUTH": self._auth,
            "MAIL": self._mail,
            "RCPT": self._rcpt,
            "DATA": self._data,
            "RSET": self._rset,
            "NOOP": lambda _: "250 2.0.0 Ok",
            "QUIT": self._quit,
        }
        try:
            self._answer("CONNECT", "", lambda _: f"220 {HOST} ESMTP Postfix")
            while True:
                verb, _, argument = self._line().decode("utf-8", "replace").partition(" ")
                self._answer(verb.upper(), argument.strip(), acts.get(verb.upper(), _not_recognized))
        except _Ended:
            pass
        finally:
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
            self._lines.close()
            self._sock.close()

    def _answer(self, verb: str, argument: str, act: Callable[[str], str]) -> None:
        """Let the command act, with the World's faults, its gate and its log. Raises: _Ended."""
        started = time.perf_counter()
        target = _address_in(argument) if verb in ("MAIL", "RCPT") else ""  # never what a login says
        self._pass_gate(verb, target, acted=False)
        fault = self._world.take_fault("smtp", verb, target, _COMMON)
        reply = self._failing(fault) if fault else ""
        if not reply:
            try:
                reply = act(argument)
            except _Refused as refused:
                reply = str(refused)
        status = int(reply[:3])
        took = (time.perf_counter() - started) * 1000
        self._world.accessed(vendor="smtp", method=verb, path=target, query="", status=status, duration_ms=took, actor=self._user)
        self._pass_gate(verb, target, acted=True)
        if self._world.take_fault("smtp", verb, target, frozenset({"acted_drop"})):
            raise _Ended
        self._say(reply)
        if verb == "STARTTLS" and status == 220:
            self._secure()
        if verb == "DATA" and status == 354:
            content = self._content()
            self._answer("MESSAGE", "", lambda _: self._take(content))
        if verb == "QUIT" or status in (421, 521):
            raise _Ended

    def _failing(self, fault: Fault) -> str:
        """Return the answer instead, or "" to go on. Raises: _Ended."""
        if fault.kind == "hang":
            time.sleep(fault.seconds)
            return ""
        if fault.kind == "drip":
            until = time.monotonic() + (fault.seconds or 10)
            while time.monotonic() < until:
                self._say(f"220-{HOST}")
                time.sleep(0.02)
        if fault.kind in ("drop", "drip"):
            raise _Ended
        return f"{fault.status} {_TEXTS.get(fault.status, f'{fault.status // 100}.0.0 Error')}"

    def _pass_gate(self, verb: str, target: str, *, acted: bool) -> None:
        gate = self._world.gate
        if gate and gate.counts(f"smtp {verb} {target}", acted=acted) and not gate.stand(GATE_S):
            raise _Ended

    # -- The wire ---------------------------------------------------------------------------------------------------------

    def _say(self, reply: str) -> None:
        self._sock.sendall(f"{reply}\r\n".encode())

    def _line(self) -> bytes:
        """Return the next line without its end. Raises: _Ended when there is none, or it is not one as it should be."""
        line = self._lines.readline(MAX_BYTES)
        if not line.endswith(b"\n"):
            raise _Ended
        if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
            self._say(f"521 5.5.2 {HOST} Error: bare <LF> received")
            raise _Ended
        if len(line) > MAX_LINE + 2:
            self._say("500 5.5.6 Error: line too long")
            raise _Ended
        return line[:-2]

    def _secure(self) -> None:
        """Begin TLS. What came before it, or together with STARTTLS, does not count (RFC 3207 4.2)."""
        self._lines.close()
        self._sock = self._tls.wrap_socket(self._sock, server_side=True)
        self._lines = self._sock.makefile("rb")
        self._is_secure, self._is_greeted = True, False

    def _content(self) -> bytes:
        """Return what follows DATA, dots unquoted."""
        lines: list[bytes] = []
        while (line := self._line()) != b".":
            lines.append(line.removeprefix(b"."))
        return b"\r\n".join([*lines, b""])

    # -- Commands ---------------------------------------------------------------------------------------------------------

    def _ehlo(self, name: str) -> str:
        self._greet(name)
        offers = [HOST, "PIPELINING", f"SIZE {MAX_BYTES}", "ENHANCEDSTATUSCODES", "8BITMIME"]
        wanted = {"SMTPUTF8": True, "STARTTLS": not self._is_secure, "AUTH": self._is_secure}
        for extension, is_offered in wanted.items():
            if is_offered and not self._world.take_fault("smtp", "EHLO", "", frozenset({f"no_{extension.lower()}"})):
                offers.append("AUTH PLAIN" if extension == "AUTH" else extension)
        return "\r\n".join([*(f"250-{offer}" for offer in offers[:-1]), f"250 {offers[-1]}"])

    def _helo(self, name: str) -> str:
        self._greet(name)
        return f"250 {HOST}"

    def _greet(self, name: str) -> None:
        if not name:
            raise _Refused("501 Syntax: EHLO hostname")
        self._is_greeted = True
        self._forget()

    def _starttls(self, argument: str) -> str:
        if argument:
            raise _Refused("501 5.5.4 Syntax: STARTTLS")
        if self._is_secure:
            raise _Refused("554 5.5.1 Error: TLS already active")
        return "220 2.0.0 Ready to start TLS"

    def _auth(self, argument: str) -> str:
        if not self._is_secure:
            raise _Refused("530 5.7.0 Must issue a STARTTLS command first")
        if self._user:
            raise _Refused("503 5.5.1 Error: already authenticated")
        mechanism, _, said = argument.partition(" ")
        if mechanism.upper() != "PLAIN":
            raise _Refused("535 5.7.8 Error: authentication failed: Invalid authentication mechanism")
        if not said:
            self._say("334 ")
            said = self._line().decode("ascii", "replace")
        try:
            _, user, password = base64.b64decode(said, validate=True).decode().split("\0")
        except (binascii.Error, ValueError):
            raise _Refused("535 5.7.8 Error: authentication failed: malformed response") from None
        if (user, password) != (ACCOUNT.user, ACCOUNT.password):
            raise _Refused(f"{535} {_TEXTS[535]}")
        self._user = ACCOUNT.user
        return "235 2.7.0 Authentication successful"

    def _mail(self, argument: str) -> str:
        if not self._is_secure:
            raise _Refused("530 5.7.0 Must issue a STARTTLS command first")
        if not self._is_greeted:
            raise _Refused("503 5.5.1 Error: send HELO/EHLO first")
        if not self._user:
            raise _Refused("530 5.7.0 Authentication required")
        if self._sender is not None:
            raise _Refused("503 5.5.1 Error: nested MAIL command")
        address, parameters = self._path("FROM", argument)
        for parameter in parameters:
            name, _, value = parameter.upper().partition("=")
            if name == "SIZE" and value.isdecimal() and int(value) > MAX_BYTES:
                raise _Refused(f"552 {_TEXTS[552]}")
        if address.lower() != ACCOUNT.user:
            raise _Refused(f"553 5.7.1 <{address}>: Sender address rejected: not owned by user {self._user}")
        self._sender = address
        return "250 2.1.0 Ok"

    def _rcpt(self, argument: str) -> str:
        if self._sender is None:
            raise _Refused("503 5.5.1 Error: need MAIL command")
        address, _ = self._path("TO", argument)
        domains = {person.email.rpartition("@")[2].lower() for person in self._world.people}
        if address.rpartition("@")[2].lower() not in domains:
            raise _Refused(f"550 5.1.2 <{address}>: Recipient address rejected: Domain not found")
        self._recipients.append(address)
        return "250 2.1.5 Ok"

    def _path(self, word: str, argument: str) -> tuple[str, list[str]]:
        """Return address and parameters of MAIL or RCPT. Raises: _Refused."""
        found = _PATH.fullmatch(argument)
        if not found or found["word"].upper() != word:
            raise _Refused(f"501 5.5.4 Syntax: {'MAIL' if word == 'FROM' else 'RCPT'} {word}:<address>")
        parameters = found["parameters"].split()
        self._has_utf8 = self._has_utf8 or (word == "FROM" and "SMTPUTF8" in map(str.upper, parameters))
        if not found["address"].isascii() and not self._has_utf8:
            raise _Refused(f"553 5.6.7 <{found['address']}>: Must use SMTPUTF8 for such an address")
        return found["address"], parameters

    def _data(self, argument: str) -> str:
        if argument:
            raise _Refused("501 5.5.4 Syntax: DATA")
        if not self._recipients:
            raise _Refused("503 5.5.1 Error: need RCPT command" if self._sender else "503 5.5.1 Error: need MAIL command")
        return "354 End data with <CR><LF>.<CR><LF>"

    def _rset(self, _argument: str) -> str:
        self._forget()
        return "250 2.0.0 Ok"

    def _quit(self, _argument: str) -> str:
        return "221 2.0.0 Bye"

    def _take(self, content: bytes) -> str:
        sender, recipients = self._sender or "", tuple(self._recipients)
        has_utf8 = self._has_utf8
        self._forget()
        if len(content) > MAX_BYTES:
            raise _Refused("552 5.3.4 Error: message file too big")
        head = content.partition(b"\r\n\r\n")[0]
        if not head.isascii() and not has_utf8:
            raise _Refused("554 5.6.7 Headers beyond ASCII need SMTPUTF8")
        message = message_from_bytes(content, policy=policy.default)
        missing = [name for name in _ONCE if len(message.get_all(name, [])) != 1]
        if missing or message.defects:
            raise _Refused(f"550 5.7.1 Message is not RFC 5322 compliant: {', '.join(missing) or 'defects'}")
        self._world.sleep_as("smtp")
        headers = {name.lower(): str(value) for name, value in message.items()}
        with self._world.lock:
            self._world.caught(sender=sender, recipients=recipients, headers=headers, text=_text(message), mime=content)
            told = {"message_id": headers["message-id"], "to": list(recipients), "subject": headers["subject"]}
            self._world.happened("smtp", "mail", sender, **told)
        return f"250 2.0.0 Ok: queued as {len(self._world.mails):010X}"


def _not_recognized(_argument: str) -> str:
    return "502 5.5.2 Error: command not recognized"


def _address_in(argument: str) -> str:
    found = _PATH.fullmatch(argument)
    return found["address"] if found else ""


def _text(message: EmailMessage) -> str:
    part = message.get_body(("plain",))
    return str(part.get_content()).replace("\r\n", "\n") if part else ""
