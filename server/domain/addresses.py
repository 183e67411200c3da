"""Addresses: reading address fields, and telling whether two spellings mean the same person.

Reading is lenient and linear, since these fields are typed by people and hostile programs: encoded words, quoted names with
commas, comments, groups, 8-bit text and semicolons between addresses are understood; what was encoded is never read as an
address. An entry that is not local@domain is left out: nobody can be looked up or answered there. Whether somebody is a
colleague or a customer is not decided here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from server.domain.mime import Headers, HeaderSource, clean, decode_words

MAX_ADDRESS_LENGTH = 320  # characters; RFC 5321 allows 64 + 1 + 255


@dataclass(frozen=True, slots=True)
class Address:
    """Somebody in an address field. Compare with `same_address`."""

    name: str  # decoded; "" if there is none, or if it only repeats the address
    address: str  # local@domain as written


_WORD_ATOM = r"=\?[^?\s]{1,60}\?[bBqQ]\?[^?]*\?="
_QUOTED = r"""| "(?P<quoted>(?:[^"\\]|\\.)*)" """
_TOKEN = re.compile(
    rf"""(?P<word>{_WORD_ATOM})
    {_QUOTED}
    | <(?P<angle>[^<>]*)> | <(?P<open>[^<>,;]*)
    | (?P<comment>\([^()]*\))
    | (?P<end>[,;]) | (?P<group>:) | (?P<space>\s+)
    | (?P<atom>[^\s",;:<>()=]+|.)""",
    re.X | re.S,
)
_TOKEN_UNQUOTED = re.compile(_TOKEN.pattern.replace(_QUOTED, ""), re.X | re.S)
_MAILBOX = re.compile(r"""(?:"[^"]*"|[^\s@<>,;:"]+(?:@[^\s@<>,;:"]+)*?)@(?:[^\s@<>()\[\],;:"\\]+|\[[^\[\]@<>]*\])\Z""")


def addresses_of(headers: HeaderSource | Headers, *names: str) -> tuple[Address, ...]:
    """Return everybody in these address fields (default: From, To, Cc), as often as they are there."""
    fields = headers if isinstance(headers, Headers) else Headers(headers)
    return tuple(person for name in names or ("From", "To", "Cc") for value in fields.all(name) for person in _people(value))


class _Entry:
    """One entry of an address list while it is read."""

    def __init__(self) -> None:
        self.name: list[str] = []  # the display name, encoded words not yet decoded
        self.written: list[str] = []  # the same as it was written: holds an address without angle brackets
        self.has_at = False
        self.angle = ""
        self.comment = ""

    def add(self, name: str, written: str) -> None:
        self.name.append(name)
        self.written.append(written)
        self.has_at = self.has_at or "@" in written

    def address(self) -> Address | None:
        """Return the address with its name; None if there is no local@domain."""
        address, name = "".join(self.angle.split()), "".join(self.name)
        if address.startswith("@") or address.lower().startswith("mailto:"):
            address = address.rpartition(":")[2]  # RFC 5322 4.4: a route before the address
        if not address and self.has_at:
            address, name = self._bare()
        if len(address) > MAX_ADDRESS_LENGTH or not _MAILBOX.match(address):
            return None
        name = clean(decode_words(name)) or clean(decode_words(self.comment))
        if len(name) > 1 and name[0] == name[-1] == "'":
            name = name[1:-1].strip()
        return Address("" if name.casefold() == address.casefold() else name, address)

    def _bare(self) -> tuple[str, str]:
        """Split "Ada ada@example.com" into address and the rest."""
        text = " ".join("".join(self.written).split()).replace(" @", "@").replace("@ ", "@")
        at = text.index("@")
        begin = text.rfind('"', 0, at - 1) if text[max(0, at - 1)] == '"' else text.rfind(" ", 0, at) + 1
        end = text.find(" ", at)
        end = len(text) if end < 0 else end
        return text[max(0, begin) : end], (text[: max(0, begin)] + text[end:]).replace('"', "")


def _people(value: str) -> Iterator[Address]:
    entry = _Entry()
    for kind, text, written in _tokens(value):
        if kind == "end":
            if person := entry.address():
                yield person
            entry = _Entry()
        elif kind == "group" and not entry.angle and not entry.has_at:
            entry = _Entry()
        elif kind in ("angle", "open"):
            entry.angle = text if "@" in text or not entry.angle else entry.angle
        elif kind == "comment":
            entry.comment = entry.comment or text[1:-1]
        else:
            entry.add(re.sub(r"\\(.)", r"\1", text) if kind == "quoted" else text, written)
    if person := entry.address():
        yield person


def _tokens(value: str) -> Iterator[tuple[str, str, str]]:
    """Yield (kind, text, as written). After a quotation mark without a partner none is looked for, which keeps this linear."""
    pattern = _TOKEN
    at = 0
    while match := pattern.match(value, at):
        kind = match.lastgroup or ""
        if kind == "atom" and match[0] == '"':
            pattern = _TOKEN_UNQUOTED
        if match[0] not in ("(", ")", ">", '"'):
            yield kind, match[kind], match[0]
        at = match.end()


def normalised(address: str) -> str:
    """Return the form by which addresses are compared: lower case, the domain in its ASCII (xn--) form."""
    local, at, domain = unicodedata.normalize("NFC", address.strip()).lower().rpartition("@")
    return local + at + ".".join(_ascii_label(label) for label in re.split("[.\u3002\uff0e\uff61]", domain))


def same_address(a: str, b: str) -> bool:
    return normalised(a) == normalised(b)


def without_plus_tag(address: str) -> str:
    """Return the address without "+tag" of its local part; a quoted local part and one that begins with "+" stay."""
    local, at, domain = address.rpartition("@")
    kept = local.partition("+")[0]
    return address if not kept or local.startswith('"') else kept + at + domain


def spellings(address: str) -> tuple[str, ...]:
    """Return the forms under which somebody may be known, the likeliest first, none twice.

    As written, lower case, both without plus tag, and for an international domain its ASCII and Unicode forms.
    """
    written = address.strip()
    lower = written.lower()
    forms = [written, lower, without_plus_tag(written), without_plus_tag(lower)]
    if not written.isascii() or "xn--" in lower:
        for form in (lower, without_plus_tag(lower)):
            forms += [normalised(form), _unicode_domain(form)]
    return tuple(dict.fromkeys(forms))


def _unicode_domain(address: str) -> str:
    local, at, domain = normalised(address).rpartition("@")
    return local + at + ".".join(_unicode_label(label) for label in domain.split("."))


# Labels are converted by Python's punycode alone: its "idna" codec is IDNA 2003, which makes another domain of "ß".
def _ascii_label(label: str) -> str:
    folded = unicodedata.normalize("NFKC", label).lower()
    if folded.isascii() and not label.isascii() and not re.fullmatch(r"[\w-]*", folded):
        return label  # compatibility forms of "." and "@" must not make another domain
    if folded.isascii() or len(folded) > 63:
        return folded
    return "xn--" + folded.encode("punycode", "replace").decode("ascii")


def _unicode_label(label: str) -> str:
    if not label.startswith("xn--") or not label.isascii() or len(label) > 63:
        return label
    try:
        text = label[4:].encode("ascii").decode("punycode")
    except UnicodeError:
        return label
    return text if _ascii_label(text) == label else label
