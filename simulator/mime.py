"""Write messages as MIME and read them back, quickly enough for a mailbox of hundreds and a file of 26 MB.

`Mail` says what a message holds; `Mail.written()` gives its bytes. `Later` is a stored message that is written when somebody
first reads it. `read()` gives what a mail server keeps beside the bytes: header fields, addresses, body, parts. The writer is
ours because demo messages must be able to be unusual (no Message-ID, a raw address field, a name twice); it writes plain
MIME only: no signatures, no encryption.
"""

from __future__ import annotations

import binascii
import quopri
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from email.header import Header
from email.headerregistry import AddressHeader
from email.message import Message
from email.parser import BytesHeaderParser
from email.policy import default as default_policy
from email.utils import encode_rfc2231, format_datetime, formataddr, getaddresses
from typing import Any

from simulator.world import StoredMessage

Mailto = tuple[str, str]
"""A display name (may be empty, may hold any character) and an address (ASCII: domains as A-labels)."""


@dataclass(frozen=True, slots=True)
class File:
    """An attachment; its content is `data` repeated `times`, so that a huge one costs nothing until it is written."""

    name: str
    content_type: str
    data: bytes
    times: int = 1
    content_id: str | None = None  # set: an inline image


@dataclass(frozen=True, slots=True)
class Part:
    """A MIME part as it is to be written: text in CRLF lines, bytes (sent as base64), or parts."""

    content_type: str
    body: str | bytes | tuple[Part, ...]
    headers: tuple[tuple[str, str], ...] = ()
    times: int = 1  # of bytes


@dataclass(frozen=True, slots=True)
class Mail:
    """A message before it is written. `raw` fields are written as they are and replace a field of the same name."""

    date: datetime
    subject: str
    sender: Mailto
    to: tuple[Mailto, ...] = ()
    cc: tuple[Mailto, ...] = ()
    bcc: tuple[Mailto, ...] = ()
    message_id: str | None = None  # with angle brackets
    references: tuple[str, ...] = ()  # oldest first; the last one is what this message answers
    text: str = ""
    html: str | None = None
    files: tuple[File, ...] = ()
    raw: tuple[tuple[str, str], ...] = ()
    root: Part | None = None  # instead of text, html and files

    def written(self) -> bytes:
        seed = zlib.crc32(f"{self.message_id} {self.subject}".encode())
        chunks = [*self._fields(), b"MIME-Version: 1.0\r\n"]
        chunks.extend(_write(self.root or _body(self), f"{seed:08x}"))
        return b"".join(chunks)

    def _fields(self) -> Iterator[bytes]:
        raw = {name.lower() for name, _ in self.raw}
        fields = [
            ("From", _addresses((self.sender,))),
            ("To", _addresses(self.to)),
            ("Cc", _addresses(self.cc)),
            ("Bcc", _addresses(self.bcc)),
            ("Subject", _unstructured(self.subject)),
            ("Date", format_datetime(self.date)),
            ("Message-ID", self.message_id or ""),
            ("In-Reply-To", self.references[-1] if self.references else ""),
            ("References", "\r\n ".join(self.references)),
        ]
        for name, value in [*self.raw, *(f for f in fields if f[1] and f[0].lower() not in raw)]:
            yield f"{name}: {value}\r\n".encode()


def _addresses(pairs: tuple[Mailto, ...]) -> str:
    return ",\r\n ".join(formataddr(pair) for pair in pairs)


def _unstructured(text: str) -> str:
    if text.isascii() and len(text) < 70:
        return text
    return Header(text, "us-ascii" if text.isascii() else "utf-8", header_name="Subject").encode(linesep="\r\n")


def _body(mail: Mail) -> Part:
    """Nest as mail clients do: mixed(related(alternative(text, html), images), files), leaving out what has one child."""
    inline = tuple(_file(f) for f in mail.files if f.content_id)
    attached = tuple(_file(f) for f in mail.files if not f.content_id)
    body = Part("text/plain; charset=utf-8", mail.text)
    if mail.html is not None:
        body = Part("multipart/alternative", (body, Part("text/html; charset=utf-8", mail.html)))
    if inline:
        body = Part("multipart/related", (body, *inline))
    return Part("multipart/mixed", (body, *attached)) if attached else body


def _file(file: File) -> Part:
    disposition = "inline" if file.content_id else "attachment"
    headers = [("Content-Disposition", f"{disposition}; {_parameter('filename', file.name)}")]
    if file.content_id:
        headers.append(("Content-ID", f"<{file.content_id}>"))
    return Part(f"{file.content_type}; {_parameter('name', file.name)}", file.data, tuple(headers), file.times)


def _parameter(key: str, value: str) -> str:
    if value.isascii():
        return '{}="{}"'.format(key, value.replace("\\", "\\\\").replace('"', '\\"'))
    return f"{key}*={encode_rfc2231(value, 'utf-8')}"


def _write(part: Part, seed: str) -> Iterator[bytes]:
    """Yield header fields, an empty line and the body; `seed` makes boundaries unique within a message and repeatable."""
    fields = "".join(f"{name}: {value}\r\n" for name, value in part.headers)
    if isinstance(part.body, tuple):
        boundary = f"----=_{seed}"
        yield f'{fields}Content-Type: {part.content_type};\r\n boundary="{boundary}"\r\n\r\n'.encode()
        for number, child in enumerate(part.body):
            yield f"--{boundary}\r\n".encode()
            yield from _write(child, f"{seed}_{number}")
            yield b"\r\n"
        yield f"--{boundary}--\r\n".encode()
        return
    encoding, body = _encoded(part)
    yield f"{fields}Content-Type: {part.content_type}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode()
    yield body


def _encoded(part: Part) -> tuple[str, bytes]:
    if isinstance(part.body, bytes):
        return "base64", _base64(part.body, part.times)
    assert isinstance(part.body, str)
    lines = part.body.replace("\r\n", "\n").replace("\n", "\r\n").encode()
    if lines.isascii() and all(len(line) < 900 for line in lines.splitlines()):
        return "7bit", lines
    return "quoted-printable", quopri.encodestring(lines.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")


def _base64(data: bytes, times: int) -> bytes:
    """Encode `data` repeated `times` in lines of 76 characters; a block of whole lines is encoded once and repeated."""
    if times > 1 and len(data) % 57 == 0:
        return _base64(data, 1) * times
    whole = data * times
    return b"".join(binascii.b2a_base64(whole[i : i + 57], newline=False) + b"\r\n" for i in range(0, max(len(whole), 1), 57))


class Later(StoredMessage):
    """A stored message whose bytes are written when they are first read: a mailbox of hundreds costs milliseconds.

    `write` must give the same bytes whenever it is called.
    """

    __slots__ = ("_bytes", "_write")

    def __init__(self, write: Callable[[], bytes], **fields: Any) -> None:
        self._write = write
        self._bytes: bytes | None = None
        super().__init__(mime=None, **fields)  # type: ignore[arg-type]  # the setter below takes None as "not yet"

    def __repr__(self) -> str:
        return f"Later({self.immutable_id})"  # showing it must not write it

    @property
    def mime(self) -> bytes:
        if self._bytes is None:
            self._bytes = self._write()
        return self._bytes

    @mime.setter
    def mime(self, value: bytes | None) -> None:
        self._bytes = value


@dataclass(frozen=True, slots=True)
class Leaf:
    """A part without parts, found in a message. `path` is the IMAP way to number parts: "1.2", "" for a simple message."""

    path: str
    content_type: str  # lower case, without parameters
    name: str
    content_id: str | None
    inline: bool
    attached: bool  # not the body: has a name, a Content-ID, or says attachment
    encoding: str
    charset: str
    raw: memoryview = field(repr=False)

    @property
    def size_bytes(self) -> int:
        """Size when decoded; for base64 computed, so that a huge file is not decoded only to be listed."""
        if self.encoding != "base64":
            return len(self.content())
        raw = bytes(self.raw)
        return (len(raw) - raw.count(b"\r") - raw.count(b"\n")) // 4 * 3 - raw.count(b"=", -6)

    def content(self) -> bytes:
        raw = bytes(self.raw)
        if self.encoding == "base64":
            return binascii.a2b_base64(raw)
        return quopri.decodestring(raw) if self.encoding == "quoted-printable" else raw

    def text(self) -> str:
        try:
            text = self.content().decode(self.charset, "replace")
        except LookupError:  # mail names charsets that nobody knows
            text = self.content().decode("utf-8", "replace")
        return text.replace("\r\n", "\n")


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a mail server knows of a message without keeping its content."""

    head: str  # the header block as it was received, CRLF lines
    fields: Message
    leaves: tuple[Leaf, ...]

    def text_of(self, name: str) -> str:
        """The decoded value of a header field, "" when it is missing."""
        return str(self.fields.get(name) or "")

    def addresses(self, name: str) -> list[Mailto]:
        """Decoded names and addresses of all fields of this name, groups flattened; a missing name is the address."""
        found = []
        for value in self.fields.get_all(name) or []:
            assert isinstance(value, AddressHeader)
            pairs = [(a.display_name, a.addr_spec) for a in value.addresses] or getaddresses([str(value)])
            found += [(name or address, address) for name, address in pairs if address]
        return found

    def body(self, content_type: str) -> str | None:
        """The first body part of this type as text with LF lines."""
        return next((leaf.text() for leaf in self.leaves if leaf.content_type == content_type and not leaf.attached), None)

    @property
    def attachments(self) -> list[Leaf]:
        return [leaf for leaf in self.leaves if leaf.attached]


def read(mime: bytes) -> Parsed:
    """Take a message apart without decoding its parts."""
    fields, body = _opened(mime, 0, len(mime))
    return Parsed(
        mime[:body].decode("utf-8", "replace").removesuffix("\r\n"), fields, tuple(_leaves(mime, fields, body, len(mime), ""))
    )


def _opened(mime: bytes, start: int, end: int) -> tuple[Message, int]:
    """Return the header fields of the part between two offsets, and where its body starts."""
    if mime.startswith(b"\r\n", start, end):
        return Message(policy=default_policy), start + 2
    found = mime.find(b"\r\n\r\n", start, end)
    body = end if found < 0 else found + 4
    return BytesHeaderParser(policy=default_policy).parsebytes(mime[start:body]), body


def _leaves(mime: bytes, fields: Message, start: int, end: int, path: str) -> Iterator[Leaf]:
    boundary = fields.get_boundary()
    if fields.get_content_maintype() == "multipart" and boundary:
        for number, (first, last) in enumerate(_pieces(mime, boundary.encode(), start, end), start=1):
            child, body = _opened(mime, first, last)
            yield from _leaves(mime, child, body, last, f"{path}.{number}" if path else str(number))
        return
    disposition = fields.get_content_disposition()
    content_id = str(fields["Content-ID"] or "").strip().strip("<>") or None
    name = fields.get_filename() or ""
    yield Leaf(
        path=path,
        content_type=fields.get_content_type(),
        name=name,
        content_id=content_id,
        inline=disposition == "inline" or (content_id is not None and disposition is None),
        attached=bool(name or content_id or disposition == "attachment" or fields.get_content_maintype() != "text"),
        encoding=str(fields["Content-Transfer-Encoding"] or "7bit").strip().lower(),
        charset=fields.get_content_charset("utf-8"),
        raw=memoryview(mime)[start:end],
    )


def _pieces(mime: bytes, boundary: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield where the parts of a multipart lie; the line end before a delimiter belongs to the delimiter."""
    delimiter = b"--" + boundary
    first: int | None = None
    at = mime.find(delimiter, start, end)
    while at >= 0:
        line_end = mime.find(b"\r\n", at, end)
        line = mime[at : end if line_end < 0 else line_end].rstrip()
        if line in (delimiter, delimiter + b"--") and (at == start or mime[at - 2 : at] == b"\r\n"):
            if first is not None:
                yield first, max(first, at - 2)
            if line != delimiter or line_end < 0:
                return
            first = line_end + 2
        at = mime.find(delimiter, at + len(delimiter), end)
