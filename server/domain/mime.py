"""Read e-mail as it comes, broken or hostile: header fields, encoded words, parameters, parts, HTML.

Nothing is copied or decoded before somebody asks: a Part is a range of the one bytes object it was found in. Every loop is
linear in its input and every count is bounded, so that no message can stall or exhaust us. That is why the reader is ours:
`email.message_from_bytes` takes a large message apart line by line and keeps copies, `email.policy.default` raises on some
broken address fields, and `html.parser` needs quadratic time for an unclosed tag and raises on "<![<![" (tried, Python
3.11.7). What a message means to the product is in `message`.

Shapes: RFC 5322 (fields), RFC 2045 and 2046 (parts), RFC 2047 (encoded words), RFC 2231 (parameters). No S/MIME, no TNEF, no
uuencode: such parts are files.
"""

from __future__ import annotations

import binascii
import codecs
import html
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from server.errors import InvalidInput

HeaderSource = str | bytes | Mapping[str, str] | Iterable[tuple[str, str]]
"""A header block (folded lines, fields may repeat), or the fields as a mapping or as pairs."""

MAX_HEADER_BYTES = 1024 * 1024  # a larger block is taken for body
MAX_PARTS = 1000  # of a message, at all depths
MAX_DEPTH = 30  # of multiparts in multiparts
MAX_HTML = 4 * 1024 * 1024  # characters that are read of an HTML body
SHORTENED = "[shortened]"  # the last line of a text that was cut

_FIELD_NAME = re.compile(r"[!-9;-~]+\Z")
_WORD = re.compile(r"=\?([^?\s*]{1,60})(?:\*[^?\s]{0,30})?\?([bBqQ])\?([^?]*)\?=")
_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*("(?:[^"\\]|\\.)*"?|[^;]*)', re.S)
_SECTION = re.compile(r"([^*]+)\*(?:([0-9]{1,4})(\*)?)?\Z")
# Of each plane's two noncharacters those that XML, and with it C4C, cannot hold.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]+")
_CONTROL_IN_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_HEAD_END = re.compile(rb"\n\r?\n")
_SLICE = 1024 * 1024
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

_CHARSETS = {
    # Labels of the web and of mail programs; as browsers do, the wider code page is taken for the narrower name.
    "iso-8859-1": "cp1252",
    "latin1": "cp1252",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "ks_c_5601-1987": "cp949",
    "euc-kr": "cp949",
    "shift_jis": "cp932",
    "x-sjis": "cp932",
    "iso-8859-8-i": "iso-8859-8",
    "windows-874": "cp874",
    "unicode-1-1-utf-7": "utf-7",
}
_NOT_FOR_TEXT = frozenset({"idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined", "mbcs", "oem"})


def clean(text: str) -> str:
    """Return text for one line: control characters and runs of white space become one space, halves of a character U+FFFD."""
    return " ".join(_CONTROL.sub(" ", _SURROGATE.sub("\ufffd", text)).split())


def decode_text(data: bytes, charset: str) -> str:
    """Decode by the declared charset; without one, or if it is us-ascii or unknown, by UTF-8, else Windows-1252. Never raises."""
    name = _codec(charset)
    if name is None:
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            name = "cp1252"
    return _SURROGATE.sub("\ufffd", data.decode(name, "replace"))


def _codec(charset: str) -> str | None:
    label = charset.strip().strip("'\"").lower()
    label = _CHARSETS.get(label, label)
    if label in ("us-ascii", "ascii") or not re.fullmatch(r"[a-z0-9_.:+-]{1,40}", label):
        return None
    try:
        info = codecs.lookup(label)
    except LookupError:
        return None
    # Python also knows codecs that are no charsets (hex, zip, rot13) or are dangerous for hostile text (quadratic, warnings).
    is_text: bool = info._is_text_encoding
    return None if info.name.replace("_", "-") in _NOT_FOR_TEXT or not is_text else info.name


def decode_words(value: str) -> str:
    """Decode the encoded words of a field value; what is none stays as it is.

    Neighbours of one charset are joined before they are decoded, since many programs cut inside a character.
    """
    if "=?" not in value:
        return value
    out: list[str] = []
    run: list[tuple[str, bytes]] = []
    at = 0
    for match in _WORD.finditer(value):
        gap = value[at : match.start()]
        if gap.strip() or not run:
            out += [*_joined(run), gap]
            run = []
        charset, encoding, text = match.groups()
        raw = text.encode("utf-8", "replace")
        data = binascii.a2b_qp(raw, header=True) if encoding in "qQ" else _from_base64(raw, 0, len(raw))
        run.append((charset.lower(), data))
        at = match.end()
    return "".join([*out, *_joined(run), value[at:]])


def _joined(run: list[tuple[str, bytes]]) -> Iterator[str]:
    pending: list[bytes] = []
    for number, (charset, data) in enumerate(run):
        pending.append(data)
        if number + 1 == len(run) or run[number + 1][0] != charset:
            yield decode_text(b"".join(pending), charset)
            pending = []


class Headers:
    """Header fields by name, in any case; those of one name in their order. Values are unfolded but not decoded."""

    __slots__ = ("_fields",)

    def __init__(self, source: HeaderSource = ()) -> None:
        """Lines of a block that are no field, e.g. an mbox "From " line, are left out."""
        pairs: Iterable[tuple[str, str]]
        if isinstance(source, bytes):
            pairs = ((name, _eight_bit(value)) for name, value in _fields(source.decode("latin-1")))
        elif isinstance(source, str):
            pairs = _fields(source)
        else:
            given = source.items() if isinstance(source, Mapping) else source
            pairs = ((name.lower(), _unfolded(value)) for name, value in given)
        self._fields: dict[str, list[str]] = {}
        for name, value in pairs:
            self._fields.setdefault(name, []).append(value)

    def __len__(self) -> int:
        return len(self._fields)

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._fields

    def all(self, name: str) -> Sequence[str]:
        return self._fields.get(name.lower(), ())

    def get(self, name: str) -> str:
        """Return the first field of this name, "" if there is none."""
        return next(iter(self.all(name)), "")

    def text(self, name: str) -> str:
        """Return the first field of this name as people read it."""
        return clean(decode_words(self.get(name)))


def _fields(block: str) -> Iterator[tuple[str, str]]:
    for line in _unfolded(block.lstrip("\r\n")).split("\n"):
        name, colon, value = line.partition(":")
        name = name.rstrip(" \t")
        if colon and _FIELD_NAME.match(name):
            yield name.lower(), value.strip()


def _unfolded(value: str) -> str:
    return re.sub(r"\n(?=[ \t])", "", value.replace("\r\n", "\n").replace("\r", " "))


def _eight_bit(value: str) -> str:
    """Read bytes beyond ASCII, which no RFC allowed for long and all programs send, as UTF-8 or Windows-1252."""
    return value if value.isascii() else decode_text(value.encode("latin-1"), "")


def parameters(value: str) -> tuple[str, dict[str, str]]:
    """Split a Content-Type or Content-Disposition into its lower-case value and its parameters by lower-case name."""
    plain: dict[str, str] = {}
    sections: dict[str, dict[int, tuple[str, bool]]] = {}
    for match in _PARAMETER.finditer(value):
        name, text = match[1].lower(), _unquoted(match[2].strip())
        section = _SECTION.match(name)
        if section is None:
            plain.setdefault(name, decode_words(text))
        else:
            extended = section[2] is None or section[3] is not None
            sections.setdefault(section[1], {}).setdefault(int(section[2] or 0), (text, extended))
    for name, numbered in sections.items():
        plain[name] = _continued(numbered)
    return value.partition(";")[0].strip().lower(), plain


def _unquoted(text: str) -> str:
    if not text.startswith('"'):
        return text
    inner = text[1:-1] if text.endswith('"') and len(text) > 1 else text[1:]
    # Only what must be escaped is: programs that send C:\dir\file forget the rule.
    return re.sub(r'\\(["\\])', r"\1", inner)


def _continued(numbered: Mapping[int, tuple[str, bool]]) -> str:
    """Join the sections of an RFC 2231 parameter; the first extended one may begin with charset'language'."""
    charset = ""
    data: list[bytes] = []
    for number in range(len(numbered)):
        if number not in numbered:
            break
        text, extended = numbered[number]
        if number == 0 and extended and text.count("'") >= 2:
            charset, _, text = text.split("'", 2)
        raw = text.encode("utf-8", "replace")
        data.append(unquote_to_bytes(raw) if extended else raw)
    return decode_text(b"".join(data), charset)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a message: the message itself, a multipart, or a leaf with content. Parts of an attached message are not seen."""

    path: str  # IMAP numbering: "1", "2", "1.2"; "" for a multipart message itself
    headers: Headers
    content_type: str  # lower case, without parameters
    parameters: Mapping[str, str]  # of the content type
    disposition: str  # "inline", "attachment", another word or ""
    name: str  # file name as sent, decoded, may hold any character; "" if there is none
    encoding: str  # content transfer encoding, lower case
    parts: tuple[Part, ...]  # of a multipart
    data: bytes = field(repr=False)  # the whole message; the body is data[start:end]
    start: int
    end: int

    @property
    def content_id(self) -> str:
        return self.headers.get("Content-ID").strip().strip("<>")

    @property
    def is_blank(self) -> bool:
        return re.compile(rb"\S").search(self.data, self.start, self.end) is None

    @property
    def size_bytes(self) -> int:
        """Size of the decoded content. Base64 is counted, not decoded."""
        if self.encoding == "base64":
            letters = _letters(self.data, self.start, self.end)[0]
            return letters // 4 * 3 + max(0, letters % 4 - 1)
        return len(self.content()) if self.encoding == "quoted-printable" else self.end - self.start

    def content(self) -> bytes:
        """Decode the body; broken base64 gives what can be read of it."""
        if self.encoding == "base64":
            return _from_base64(self.data, self.start, self.end)
        raw = self.data[self.start : self.end]
        return binascii.a2b_qp(raw) if self.encoding == "quoted-printable" else raw

    def text(self) -> str:
        """Decode the body to text with LF lines; control characters other than tab and LF become spaces."""
        text = decode_text(self.content(), (self.parameters.get("charset") or " ").split(" ")[0])
        return _CONTROL_IN_TEXT.sub(" ", text.replace("\r\n", "\n").replace("\r", "\n"))

    def leaves(self) -> Iterator[Part]:
        if not self.parts:
            yield self
        for part in self.parts:
            yield from part.leaves()


def _letters(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Return how many base64 characters there are before the first "=", and where those end."""
    stop = data.find(b"=", start, end)
    stop = end if stop < 0 else stop
    noise = sum(len(data[at : min(at + _SLICE, stop)].translate(None, _BASE64)) for at in range(start, stop, _SLICE))
    return stop - start - noise, stop


def _from_base64(data: bytes, start: int, end: int) -> bytes:
    """Decode up to the first padding; a last character that stands alone is dropped."""
    try:
        decoded = binascii.a2b_base64(memoryview(data)[start:end])
    except binascii.Error:
        decoded = b""
    letters, stop = _letters(data, start, end)
    if len(decoded) == letters // 4 * 3 + max(0, letters % 4 - 1):
        return decoded
    noise = data[start:stop].translate(None, _BASE64)
    pure = data[start:stop].translate(None, noise)
    return binascii.a2b_base64(pure[: letters - (letters % 4 == 1)] + b"==")


def read_parts(mime: bytes) -> Part:
    """Take a message apart without decoding its content.

    Raises: InvalidInput if it has no header field, too many parts, or multiparts nested too deep.
    """
    reader = _Reader(mime)
    root = reader.part(0, len(mime), "", 0, "text/plain")
    if len(root.headers) == 0:
        raise InvalidInput("mime", "This is no e-mail message: it has no header field.")
    return root


class _Reader:
    """Reads the parts of one message and counts them."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.count = 0

    def part(self, start: int, end: int, path: str, depth: int, default_type: str) -> Part:
        self.count += 1
        if self.count > MAX_PARTS:
            raise InvalidInput("mime", f"The message has more than {MAX_PARTS} parts.")
        if depth > MAX_DEPTH:
            raise InvalidInput("mime", f"The parts of the message are nested more than {MAX_DEPTH} deep.")
        headers, start = self._head(start, end)
        declared, values = parameters(headers.get("Content-Type"))
        disposition, named = parameters(headers.get("Content-Disposition"))
        name = clean(named.get("filename") or values.get("name") or "")
        content_type = declared if re.fullmatch(r"[!-.0-~]+/[!-.0-~]+", declared) else default_type
        if content_type != declared and (name or disposition == "attachment"):
            content_type = "application/octet-stream"
        parts: tuple[Part, ...] = ()
        if content_type.startswith("multipart/"):
            parts = self._children(start, end, path, depth, content_type, values.get("boundary", "").rstrip())
            content_type = content_type if parts else "text/plain"
        encoding = headers.get("Content-Transfer-Encoding").strip().strip('"').lower()
        return Part(path if parts or path else "1", headers, content_type, values, disposition, name, encoding, parts,
                    self.data, start, end)  # fmt: skip

    def _head(self, start: int, end: int) -> tuple[Headers, int]:
        """Return the header fields and where the body begins; a block without any field is body."""
        for line_end in (b"\r\n", b"\n"):
            if self.data.startswith(line_end, start, end):
                return Headers(), start + len(line_end)
        found = _HEAD_END.search(self.data, start, end)
        stop, body = (found.start(), found.end()) if found else (end, end)
        headers = Headers(self.data[start:stop]) if stop - start <= MAX_HEADER_BYTES else Headers()
        return headers, body if len(headers) else start

    def _children(self, start: int, end: int, path: str, depth: int, kind: str, boundary: str) -> tuple[Part, ...]:
        if not boundary:
            return ()
        default_type = "message/rfc822" if kind == "multipart/digest" else "text/plain"
        ranges = self._ranges(start, end, b"\n--" + boundary.encode("utf-8", "replace"))
        return tuple(
            self.part(first, last, f"{path}.{number}" if path else str(number), depth + 1, default_type)
            for number, (first, last) in enumerate(ranges, start=1)
        )

    def _ranges(self, start: int, end: int, delimiter: bytes) -> list[tuple[int, int]]:
        """Find what stands between delimiter lines; the line break before a delimiter belongs to it."""
        ranges: list[tuple[int, int]] = []
        opened: int | None = None
        position = max(0, start - 1)
        while (at := self.data.find(delimiter, position, end)) >= 0:
            after = at + len(delimiter)
            line_end = self.data.find(b"\n", after, end)
            line_end = end if line_end < 0 else line_end
            rest = self.data[after:line_end].strip(b" \t\r")
            position = after
            if rest not in (b"", b"--"):
                continue
            if opened is not None:
                ranges.append((opened, max(opened, at - (self.data[at - 1 : at] == b"\r"))))
            if rest == b"--":
                return ranges
            if len(ranges) > MAX_PARTS:
                raise InvalidInput("mime", f"The message has more than {MAX_PARTS} parts.")
            opened, position = min(line_end + 1, end), line_end
        return ranges if opened is None else [*ranges, (opened, end)]


_BREAK = frozenset(
    {"address", "article", "aside", "center", "dd", "div", "dl", "dt", "fieldset", "figure", "footer", "form", "header", "hr"}
    | {"li", "main", "nav", "section", "table", "tr"}
)
_PARAGRAPH = frozenset({"blockquote", "h1", "h2", "h3", "h4", "h5", "h6", "ol", "p", "pre", "ul"})
_UNSEEN = {name: re.compile(f"</{name}", re.I) for name in ("script", "style", "template", "title")}
_TAG = re.compile(r"(/?)([a-zA-Z][a-zA-Z0-9]*)")
_HREF = re.compile(r"""\bhref\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>"']+))""", re.I)


def text_of_html(source: str) -> str:
    """Return what a reader would see: blocks as lines, links as "text <url>", no scripts, styles or tags.

    A source of more than MAX_HTML characters is cut and says so in its last line. Never raises.
    """
    stripper = _Stripper()
    stripper.feed(source[:MAX_HTML])
    text = re.sub(r"\n{3,}", "\n\n", stripper.text()).strip()
    return f"{text}\n{SHORTENED}" if len(source) > MAX_HTML else text


class _Stripper:
    """Collects the text of HTML in one pass."""

    def __init__(self) -> None:
        self._out: list[str] = []
        self._pre = 0
        self._link: tuple[str, int] | None = None  # address, and where its text begins in _out

    def text(self) -> str:
        self._end_link()
        return re.sub(r" *\n *", "\n", re.sub(r"[ \t]+", " ", "".join(self._out)))

    def feed(self, source: str) -> None:
        at = 0
        while (opening := source.find("<", at)) >= 0:
            self._data(source[at:opening])
            at = self._markup(source, opening)
        self._data(source[at:])

    def _markup(self, source: str, at: int) -> int:
        """Read what begins with "<" at `at`; return where to go on. What is never closed hides the rest."""
        if source.startswith("<!--", at):
            end = source.find("-->", at + 4)
            return len(source) if end < 0 else end + 3
        tag = _TAG.match(source, at + 1)
        if tag is None and source[at + 1 : at + 2] not in ("!", "?", "/"):
            self._out.append("<")
            return at + 1
        end = source.find(">", at + 1)
        if end < 0:
            return len(source)
        if tag is not None:
            self._tag(tag[2].lower(), bool(tag[1]), source[tag.end() : end])
            if not tag[1] and tag[2].lower() in _UNSEEN:
                closed = _UNSEEN[tag[2].lower()].search(source, end)
                return closed.start() if closed else len(source)
        return end + 1

    def _data(self, text: str) -> None:
        if not text:
            return
        text = _CONTROL_IN_TEXT.sub(" ", _SURROGATE.sub("\ufffd", html.unescape(text))).replace("\xa0", " ")
        self._out.append(text if self._pre else re.sub(r"\s+", " ", text))

    def _tag(self, name: str, closes: bool, attributes: str) -> None:
        if name == "a":
            self._end_link()
            found = None if closes else _HREF.search(attributes)
            if found:
                self._link = (html.unescape(found[1] or found[2] or found[3] or "").strip(), len(self._out))
        elif name == "pre":
            self._pre = max(0, self._pre + (-1 if closes else 1))
        if name == "br":
            self._out.append("\n")
        elif name in ("td", "th"):
            self._out.append(" ")
        elif name in _PARAGRAPH:
            self._out.append("\n\n")
        elif name in _BREAK:
            self._break()
            if name == "li" and not closes:
                self._out.append("- ")

    def _break(self) -> None:
        """Begin a new line, unless we are at the beginning of one."""
        last = next((piece for piece in reversed(self._out[-3:]) if piece.strip(" ")), "\n" if len(self._out) < 4 else "")
        if not last.rstrip(" ").endswith("\n"):
            self._out.append("\n")

    def _end_link(self) -> None:
        if self._link is None:
            return
        address, begin = self._link
        self._link = None
        shown = "".join(self._out[begin:]).strip()
        scheme, _, rest = address.partition(":")
        if scheme.lower() in ("http", "https", "mailto", "tel") and shown not in (address, rest, rest.lstrip("/")):
            self._out.append(f" <{clean(address)}>")
