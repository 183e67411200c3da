"""Sends our own e-mails through the operator's mail server, as a mail program would (message submission, RFC 6409).

Always under TLS: from the first byte (smtps://, RFC 8314) or by STARTTLS, without which nothing is sent (smtp://). Each letter
has a connection of its own, since they are rare, and one deadline for all of it. What the server says is never repeated to
anybody, since its texts name addresses; of it only the numbers are kept (RFC 5321 4.2, RFC 3463).

A caller that sends a letter again, because it is not known whether the first was taken, keeps its `message_id`: mail programs and
servers recognise the second by it.
"""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
import threading
import time
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from server.domain.addresses import normalised
from server.errors import InvalidInput, Rejected, SsiError, Transient, Unknown

PEER = "The mail server"
_PORTS = {"smtps": 465, "smtp": 587}  # RFC 8314 3.3
_LOCAL = re.compile(r"""[^\s@<>()\[\],;:"\\]+""")
_DOMAIN = re.compile(r"(?!-)[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63})*", re.IGNORECASE)
_HOST = re.compile(r"(?:[a-z0-9_-]{1,63}\.?)+|[0-9a-f:.]*:[0-9a-f:.]*")
_MESSAGE_ID = re.compile(r"[A-Za-z0-9._-]{1,100}@[A-Za-z0-9.-]{1,100}")
_ENHANCED = re.compile(rb"[245]\.\d{1,3}\.\d{1,3}(?=\s|$)")
_CONTROLS = frozenset({"Cc", "Cs", "Zl", "Zp"})  # Unicode categories of what ends a line, or is no text


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail to one person. `message_id` is local@domain without brackets; `text` has lines that end with a line feed."""

    message_id: str
    to: str = field(repr=False)
    subject: str = field(repr=False)
    text: str = field(repr=False)


class Smtp:
    """Sends letters. Thread-safe.

    `url` is smtps:// or smtp://[user@]host[:port], a user's "@" written as %40; without a user there is no login. `sender` is an
    address, or "Name <address>". `timeout_s` is the deadline of a whole sending, save that looking up the server's name takes
    what it takes. A proxy is not used: mail servers are not asked by HTTP.
    """

    def __init__(
        self,
        url: str,
        password: str,
        sender: str,
        ssl_context: ssl.SSLContext,
        timeout_s: float,
        *,
        now: Callable[[], datetime],
    ) -> None:
        """Raises: InvalidInput naming the setting that cannot be used."""
        self._server = _server(url, password)
        self._password = password
        self._sender = _sender(sender)
        self._ssl = ssl_context
        self._timeout_s = timeout_s
        self._now = now

    def send(self, letter: Letter) -> None:
        """Hand the letter over; when this returns, the server has taken it.

        Raises: InvalidInput for a letter that cannot be written; Rejected when the server refuses this address or letter for
        good; Transient when it did not take it and may later, the operator's settings mended perhaps; Unknown when it may have.
        """
        to, needs_utf8 = _recipient(letter.to)
        content = self._written(letter, to, utf8=needs_utf8)
        try:
            line = _Line(self._server, self._sender.domain, self._ssl, self._timeout_s)
        except OSError as error:
            raise _not_sent(error) from error
        try:
            self._introduce(line)
            self._name_parties(line, to.addr_spec, needs_utf8=needs_utf8)
            self._hand_over(line, content)
        finally:
            line.close()

    def _written(self, letter: Letter, to: Address, *, utf8: bool) -> bytes:
        """Return the letter as it travels, all but the quoting of dots."""
        if not _MESSAGE_ID.fullmatch(letter.message_id):
            raise InvalidInput("message_id", "must be local@domain")
        if any(unicodedata.category(c) in _CONTROLS for c in letter.subject):
            raise InvalidInput("subject", "must be one line of text")
        message = EmailMessage(policy.SMTP.clone(utf8=utf8))
        message["From"] = self._sender
        message["To"] = to
        message["Subject"] = letter.subject
        message["Date"] = format_datetime(self._now())
        message["Message-ID"] = f"<{letter.message_id}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834 5: no out-of-office replies, please
        message["X-Auto-Response-Suppress"] = "All"  # the same in Exchange's words (MS-OXCMAIL)
        message.set_content(letter.text, cte="quoted-printable")  # passes servers without 8BITMIME too
        return message.as_bytes()

    def _introduce(self, line: _Line) -> None:
        """Secure the line and log in. Raises: Transient."""
        try:
            line.ehlo_or_helo_if_needed()
            if not self._server.is_tls_at_once:
                if not line.has_extn("starttls"):
                    raise Transient(f"{PEER} does not offer TLS.")
                line.starttls(context=self._ssl)
                line.ehlo_or_helo_if_needed()
            if self._server.user:
                if not line.has_extn("auth"):
                    raise Transient(f"{PEER} does not offer to log in.")
                line.login(self._server.user, self._password)
        except OSError as error:
            raise _not_sent(error) from error

    def _name_parties(self, line: _Line, to: str, *, needs_utf8: bool) -> None:
        """Name sender and recipient. Raises: Transient, Rejected."""
        if needs_utf8 and not line.has_extn("smtputf8"):
            raise Rejected(f"{PEER} cannot send to an address with letters beyond ASCII.")
        try:
            options = ["SMTPUTF8"] if needs_utf8 else []  # RFC 6531 3.4
            code, text = line.mail(self._sender.addr_spec, options)
            if code != 250:  # whatever it is, it is not about this recipient
                raise Transient(f"{PEER} does not take mails from our address {_numbers(code, text)}.")
            code, text = line.rcpt(to)
        except OSError as error:
            raise _not_sent(error) from error
        if code not in (250, 251):
            raise _refused(code, text)

    def _hand_over(self, line: _Line, content: bytes) -> None:
        """Send the letter itself. Raises: Transient, Rejected, Unknown."""
        try:
            code, text = line.docmd("DATA")
        except OSError as error:
            raise _not_sent(error) from error
        if code != 354:
            raise _refused(code, text)
        try:
            line.send(re.sub(rb"(?m)^\.", b"..", content) + b".\r\n")
            code, text = line.getreply()
        except OSError as error:
            raise Unknown(f"{PEER} did not confirm; whether it took the mail is not known.") from error
        if code == -1:
            raise Unknown(f"{PEER} did not answer in its own language.")
        if code != 250:
            raise _refused(code, text)
        with suppress(OSError):  # it has the mail; how it takes leave is of no interest
            line.putcmd("QUIT")


class _Server(NamedTuple):
    is_tls_at_once: bool
    host: str
    port: int
    user: str  # "": no login


class _Line(smtplib.SMTP):
    """A connection that ends when its time is up, at whatever pace the server sends; smtplib's own time begins anew each wait."""

    _alarm: threading.Timer | None = None
    _cuts: socket.socket | None = None

    def __init__(self, server: _Server, own_name: str, tls: ssl.SSLContext, timeout_s: float) -> None:
        """Connect and read the greeting. Raises: OSError."""
        self._until = time.monotonic() + timeout_s
        self._tls = tls if server.is_tls_at_once else None
        try:
            super().__init__(server.host, server.port, own_name, timeout_s)
        except OSError:
            self.close()
            raise

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        sock = _connected(host, port, self._until)
        self._cuts = sock.dup()  # of the same connection, whatever becomes of `sock` when TLS begins
        self._alarm = threading.Timer(self._until - time.monotonic(), _cut, (self._cuts,))
        self._alarm.daemon = True
        self._alarm.start()
        return self._tls.wrap_socket(sock, server_hostname=host) if self._tls else sock

    def close(self) -> None:
        super().close()
        if self._alarm and self._cuts:
            self._alarm.cancel()
            self._alarm.join()
            self._cuts.close()


def _connected(host: str, port: int, until: float) -> socket.socket:
    """Connect to the first of the host's addresses that answers, before it is `until`. Raises: OSError."""
    failure: OSError = TimeoutError("no time was left to connect")
    for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        left = until - time.monotonic()
        if left <= 0:
            break
        try:
            return socket.create_connection((str(address[0]), port), left)
        except OSError as error:
            failure = error
    raise failure


def _cut(sock: socket.socket) -> None:
    with suppress(OSError):  # the server may have gone first
        sock.shutdown(socket.SHUT_RDWR)


def _server(url: str, password: str) -> _Server:
    """Raises: InvalidInput."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        raise InvalidInput("SSI_SMTP_URL", "is not a URL") from None
    host, user = parts.hostname or "", unquote(parts.username or "")
    if parts.scheme not in _PORTS or parts.path.strip("/") or parts.query or parts.fragment:
        raise InvalidInput("SSI_SMTP_URL", "must be smtps://[user@]host[:port], or smtp:// with STARTTLS")
    if not _HOST.fullmatch(host):
        raise InvalidInput("SSI_SMTP_URL", "must name a host")
    if parts.password is not None:
        raise InvalidInput("SSI_SMTP_URL", "must not hold a password; that belongs into SSI_SMTP_PASSWORD_FILE")
    if bool(user) != bool(password):
        raise InvalidInput("SSI_SMTP_PASSWORD_FILE", "must be set if and only if SSI_SMTP_URL names a user")
    if not (user + password).isascii() or not (user + password).isprintable():
        raise InvalidInput("SSI_SMTP_PASSWORD_FILE", "user name and password must be ASCII without control characters")
    return _Server(parts.scheme == "smtps", host, port, user)


def _sender(text: str) -> Address:
    """Raises: InvalidInput."""
    name, address = parseaddr(text)
    found = _address(address)
    if found is None or not found.username.isascii() or any(unicodedata.category(c) in _CONTROLS for c in text):
        raise InvalidInput("SSI_MAIL_FROM", "must be an ASCII address, or Name <address>")
    return Address(name, found.username, found.domain)


def _recipient(text: str) -> tuple[Address, bool]:
    """Return the address, its domain in ASCII, and whether sending to it needs SMTPUTF8. Raises: InvalidInput."""
    found = _address(text)
    if found is None:
        raise InvalidInput("to", "is no address that mail can be sent to")
    return found, not found.username.isascii()


def _address(text: str) -> Address | None:
    local, _, domain = text.rpartition("@")
    ascii_domain = normalised("@" + domain)[1:]
    is_good = _LOCAL.fullmatch(local) and local.isprintable() and not re.search(r"^\.|\.\.|\.$", local)
    if not is_good or not _DOMAIN.fullmatch(ascii_domain) or len(local.encode()) > 64 or len(ascii_domain) > 255:
        return None
    return Address(username=local, domain=ascii_domain)


def _refused(code: int, text: bytes) -> SsiError:
    """Return our error for an answer about this recipient or letter that is not yes."""
    if 500 <= code < 600 and code not in (500, 502, 503, 530):  # those are about the conversation
        return Rejected(f"{PEER} refuses to send to this address {_numbers(code, text)}.")
    return Transient(f"{PEER} does not take the mail now {_numbers(code, text)}.")


def _not_sent(error: OSError) -> Transient:
    """Return our error for what went wrong before the letter itself was sent."""
    match error:
        case ssl.SSLCertVerificationError():
            return Transient(f"The certificate of {PEER.lower()} is not trusted.")
        case smtplib.SMTPAuthenticationError(smtp_code=code, smtp_error=text):
            return Transient(f"{PEER} does not accept our user name and password {_numbers(code, text)}.")
        case smtplib.SMTPResponseException(smtp_code=code, smtp_error=text):
            return Transient(f"{PEER} does not take mails now {_numbers(code, text)}.")
        case smtplib.SMTPServerDisconnected() | TimeoutError():
            return Transient(f"{PEER} did not answer in time.")
        case smtplib.SMTPException():
            return Transient(f"{PEER} offers no way to log in that we know.")
        case ssl.SSLError():
            return Transient(f"{PEER} does not speak TLS as it should.")
    return Transient(f"{PEER} cannot be reached.")


def _numbers(code: int, text: bytes | str) -> str:
    found = _ENHANCED.match(text.encode("ascii", "replace") if isinstance(text, str) else text)
    return f"({code} {found[0].decode()})" if found else f"({code})"
