"""Messages are read as they come in the real world: every shape below is built by hand from the RFC that allows it, or that
the world breaks."""

import base64
import time
import tracemalloc
import unicodedata
from datetime import UTC, datetime
from email import policy
from email.headerregistry import Address as WrittenAddress
from email.message import EmailMessage

import pytest
from hypothesis import given, settings, strategies as st

from server.domain import mime
from server.domain.message import (
    Address,
    Attachment,
    Message,
    Parsed,
    classify,
    fingerprint,
    is_outgoing,
    message_file_name,
    message_key,
    parse,
    safe_name,
    text_for_activity,
)
from server.errors import InvalidInput

PDF = b"%PDF-1.7 \x00\xff" * 40
PNG = b"\x89PNG\r\n\x1a\n" * 9


def mail(*lines: str | bytes, end: bytes = b"\r\n") -> bytes:
    return end.join(line if isinstance(line, bytes) else line.encode() for line in lines)


def part(*lines: str | bytes) -> bytes:
    return mail(*lines)


def multipart(kind: str, *parts: bytes, boundary: str = "b1", top: tuple[str, ...] = ("From: a@example.com",)) -> bytes:
    """A multipart with its header; as a part of another one, with `top=()`."""
    pieces = [b"\r\n".join([f"--{boundary}".encode(), piece]) for piece in parts]
    head = mail(*top, f'Content-Type: multipart/{kind}; boundary="{boundary}"', "", "A preamble that nobody reads.")
    return b"\r\n".join([head, *pieces, f"--{boundary}--".encode(), b"An epilogue."])


def text(content: str = "Hello.", kind: str = "plain", *more: str) -> bytes:
    return part(f"Content-Type: text/{kind}; charset=utf-8", *more, "", content)


def file(
    content: bytes = PDF, kind: str = "application/pdf", disposition: str = 'attachment; filename="a.pdf"', *more: str
) -> bytes:
    lines = [f"Content-Type: {kind}", "Content-Transfer-Encoding: base64"]
    lines += [f"Content-Disposition: {disposition}"] if disposition else []
    return part(*lines, *more, "", base64.encodebytes(content).replace(b"\n", b"\r\n"))


def one(*lines: str | bytes) -> Message:
    return parse(mail(*lines)).message


def names(parsed: Parsed) -> list[str]:
    return [attachment.name for attachment in parsed.message.attachments]


def with_file(*header: str) -> Parsed:
    return parse(multipart("mixed", text(), part(*header, "", "content")))


# Header fields


def test_a_plain_message_has_all_its_fields() -> None:
    message = one(
        "Return-Path: <ada@example.com>",
        "From: Ada Lovelace <ada@example.com>",
        "To: Grace <grace@example.org>, bob@example.net",
        "Cc: Team <team@example.org>",
        "Bcc: secret@example.org",
        "Reply-To: office@example.com",
        "Subject: Engines",
        "Message-ID: <1@example.com>",
        "References: <a@example.com> <b@example.com>",
        "In-Reply-To: <b@example.com>",
        "Date: Fri, 20 Nov 2026 10:00:00 +0100",
        "",
        "Hello Grace,",
        "see you.",
        "",
    )
    assert message == Message(
        message_id="<1@example.com>",
        subject="Engines",
        sender=Address("Ada Lovelace", "ada@example.com"),
        to=(Address("Grace", "grace@example.org"), Address("", "bob@example.net")),
        cc=(Address("Team", "team@example.org"),),
        bcc=(Address("", "secret@example.org"),),
        reply_to=(Address("", "office@example.com"),),
        date=datetime(2026, 11, 20, 9, 0, tzinfo=UTC),
        text="Hello Grace,\nsee you.",
        attachments=(),
        automatic=None,
        references=("a@example.com", "b@example.com"),
    )
    assert [person.address.partition("@")[0] for person in message.participants] == ["ada", "grace", "bob", "team", "secret"]


@pytest.mark.parametrize(
    ("field", "subject"),
    [
        (b"Subject: =?utf-8?B?R3LDvMOfZQ==?=", "Grüße"),
        (b"Subject: =?iso-8859-1?Q?Gr=FC=DFe?=", "Grüße"),
        (b"Subject: =?UTF-8?q?Gr=C3=BC?=\r\n =?UTF-8?q?=C3=9Fe_an_alle?=", "Grüße an alle"),  # white space between words goes
        (b"Subject: =?utf-8?B?R3LD?= =?utf-8?B?vMOfZQ==?=", "Grüße"),  # cut inside a character, as many programs do
        (b"Subject: =?utf-8*de?Q?Gr=C3=BC=C3=9Fe?=", "Grüße"),  # RFC 2231 5: with a language
        (b"Subject: Re: =?iso-2022-jp?B?GyRCRnxLXDhsGyhC?= (1)", "Re: 日本語 (1)"),
        (b"Subject: =?gb2312?B?xOO6ww==?=", "你好"),
        (b"Subject: =?ks_c_5601-1987?B?vsiz5w==?=", "안녕"),
        (b"Subject: Gr\xc3\xbc\xc3\x9fe", "Grüße"),  # 8 bit, UTF-8
        (b"Subject: Gr\xfc\xdfe", "Grüße"),  # 8 bit, Windows-1252
        (b"Subject: a long\r\n subject\r\n\tfolded", "a long subject folded"),
        (b"Subject: bell \x07 and NUL \x00 inside", "bell and NUL inside"),
        (b"Subject: =?no-such-charset?Q?Gr=FC?=", "Grü"),
        (b"Subject: =?utf-8?X?abc?=", "=?utf-8?X?abc?="),
        (b"Subject: =?utf-8?B?***?= text", "text"),
        (b"Subject: =?unicode_escape?Q?=5Cx41=5Cz?=", "\\x41\\z"),  # a codec of Python, but no charset
        (b"Subject: =?utf-7?Q?+2AA-x?=", "\ufffdx"),  # half a character
        (b"subject : lower case and a space before the colon", "lower case and a space before the colon"),
        (b"Subject: first\r\nSubject: second", "first"),
        (b"X-Other: 1", ""),
    ],
)
def test_subjects_are_decoded(field: bytes, subject: str) -> None:
    assert parse(mail("From: a@example.com", field, "", "x")).message.subject == subject


@pytest.mark.parametrize(
    ("value", "date"),
    [
        ("Fri, 20 Nov 2026 10:00:00 -0500 (EST)", datetime(2026, 11, 20, 15, 0, tzinfo=UTC)),
        ("20 Nov 2026 10:00 GMT", datetime(2026, 11, 20, 10, 0, tzinfo=UTC)),
        ("Fri, 20 Nov 2026 10:00:00 -0000", datetime(2026, 11, 20, 10, 0, tzinfo=UTC)),
        ("Fri, 20 Nov 2026 10:00:00", datetime(2026, 11, 20, 10, 0, tzinfo=UTC)),
        ("Fri, 31 Dec 9999 23:00:00 -1200", None),
        ("yesterday", None),
        ("Fri, 99 Nov 2026 10:00:00 +0100", None),
        ("", None),
    ],
)
def test_dates_are_aware_utc_or_absent(value: str, date: datetime | None) -> None:
    assert one("From: a@example.com", f"Date: {value}", "", "x").date == date


@pytest.mark.parametrize(
    ("lines", "sender"),
    [
        (["From: a@example.com, b@example.com"], "a@example.com"),
        (["From: a@example.com, b@example.com", "Sender: B <B@example.com>"], "b@example.com"),
        (["From: a@example.com", "Sender: secretary@example.com"], "a@example.com"),
        (["From: ", "Sender: list@example.com"], "list@example.com"),
        (["From: undisclosed", "To: x@example.com"], None),
        (["To: x@example.com"], None),
    ],
)
def test_the_sender_is_one_address_or_none(lines: list[str], sender: str | None) -> None:
    found = one(*lines, "", "x").sender
    assert (found.address if found else None) == sender


def test_lines_may_end_in_lf_and_an_mbox_line_may_come_first() -> None:
    raw = mail("From ada@example.com Fri Nov 20 10:00:00 2026", "From: ada@example.com", "Subject: S", "", "a", "b", end=b"\n")
    message = parse(raw).message
    assert (message.sender, message.subject, message.text) == (Address("", "ada@example.com"), "S", "a\nb")


@pytest.mark.parametrize("raw", [b"", b"\r\n\r\n", b"no header at all", b"\r\nFrom: a@example.com\r\n\r\nafter an empty line"])
def test_what_is_no_message_raises_invalid_input(raw: bytes) -> None:
    with pytest.raises(InvalidInput, match="no e-mail"):
        parse(raw)


def test_a_message_without_body_has_no_text() -> None:
    assert one("From: a@example.com", "Subject: s").text == one("From: a@example.com", "", "").text == ""


# Text


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["Content-Type: text/plain; charset=iso-8859-1", "", b"Gr\xfc\xdfe \x80"], "Grüße €"),  # as browsers read the label
        (['Content-Type: text/plain; charset="UTF-8"', "", "Grüße"], "Grüße"),
        (["Content-Type: text/plain; charset=us-ascii", "", b"Gr\xfc\xdfe"], "Grüße"),
        (["Content-Type: text/plain; charset=bogus", "", "Grüße"], "Grüße"),
        (["Content-Type: text/plain; charset=utf-8", "", b"Gr\xfc"], "Gr\ufffd"),
        (
            ["Content-Type: text/plain", "Content-Transfer-Encoding: quoted-printable", "", "Gr=C3=BC=C3=9Fe =", "an alle"],
            "Grüße an alle",
        ),
        (["Content-Transfer-Encoding: BASE64", "", "R3LDvMOfZQ=="], "Grüße"),
        (["Content-Transfer-Encoding: base64", "", "R3LDvM!OfZQ"], "Grüße"),  # noise inside, no padding
        (["Content-Type: text", "", "no subtype"], "no subtype"),
        (["Content-Type: ", "", "no type"], "no type"),
        (["Content-Type: multipart/mixed", "", "no boundary"], "no boundary"),
        (["Content-Type: multipart/mixed; boundary=x", "", "not there"], "not there"),
        (["Content-Type: text/plain; name=body.txt", "", "a named body"], "a named body"),
        (["", "a\0b\r\nc\x1b[31m"], "a b\nc [31m"),
    ],
)
def test_text_is_decoded(lines: list[str | bytes], expected: str) -> None:
    assert one("From: a@example.com", *lines).text == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (multipart("alternative", text("plain"), text("<b>html</b>", "html")), "plain"),
        (multipart("alternative", text("<b>html</b>", "html"), text("plain")), "plain"),
        (multipart("alternative", text(" \r\n"), text("<b>html</b>", "html")), "html"),
        (multipart("alternative", text("plain"), text("BEGIN:VCALENDAR", "calendar")), "plain"),
        (multipart("mixed", text("one"), file(), text("two")), "one\n\ntwo"),  # Apple Mail: text around a picture
        (multipart("mixed", text("one"), text("<p>footer</p>", "html")), "one\n\nfooter"),
        (multipart("signed", text("signed"), file(kind="application/pkcs7-signature")), "signed"),
        (multipart("report", text("Failed."), text("Action: failed", "x-status"), text("To: x", "rfc822-headers")), "Failed."),
        (multipart("encrypted", part("Content-Type: application/pgp-encrypted", "", "Version: 1"), file()), ""),
        (multipart("mixed", part("Content-Type: text/plain", "Content-Disposition: attachment", "", "a file")), ""),
        (multipart("mixed", part("", "no header, as RFC 2046 allows")), "no header, as RFC 2046 allows"),
        (
            multipart("mixed", multipart("alternative", text("deep"), text("<p>x", "html"), boundary="b2", top=()), file()),
            "deep",
        ),
        (
            multipart("related", file(PNG, "image/png", "inline"), text("<p>root", "html", "Content-ID: <r>")).replace(
                b'boundary="b1"', b'boundary="b1"; start="<r>"'
            ),
            "root",
        ),
    ],
)  # fmt: skip
def test_the_text_to_read_is_found_in_any_nesting(raw: bytes, expected: str) -> None:
    assert parse(raw).message.text == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("<p>Dear <b>Ada</b>,</p><p>yes.<br>Bob</p>", "Dear Ada,\n\nyes.\nBob"),
        ("<div>a</div><div>b</div>", "a\nb"),
        ("a&nbsp;&amp;&#8364;&lt;b&gt; &unknown;", "a &€<b> &unknown;"),
        ('<a href="https://example.com/x?a=1&amp;b=2">our page</a>', "our page <https://example.com/x?a=1&b=2>"),
        ("<a href=https://example.com/>https://example.com/</a>", "https://example.com/"),
        ('<a href="mailto:a@example.com">a@example.com</a>', "a@example.com"),
        ('<a href="javascript:alert(1)">click</a> <a name="top">here</a>', "click here"),
        ("<style>p {color: red}</style><script>if (a < b) alert(1)</script>text", "text"),
        ("<title>no</title>yes<!-- <p>hidden</p> --><![if !x]>&copy;<![endif]>", "yes©"),
        ("<ul><li>one<li>two</ul>", "- one\n- two"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc"),
        ("<pre>a\n  b</pre>", "a\nb"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("seen <!-- never closed <p>hidden", "seen"),
        ("seen <b never closed", "seen"),
        ("seen <script>never closed", "seen"),
        ("<O:P></O:P><P CLASS=MsoNormal>Word</P>", "Word"),
        ("", ""),
    ],
)
def test_html_becomes_what_a_reader_sees(source: str, expected: str) -> None:
    assert one("From: a@example.com", "Content-Type: text/html; charset=utf-8", "", source).text == expected


def test_text_for_an_activity_is_whole_or_says_that_it_was_shortened() -> None:
    message = one("From: a@example.com", "", "one two three four")
    assert text_for_activity(message, 18) == "one two three four"
    assert text_for_activity(message, 10**6) == "one two three four"
    short = one("From: a@example.com", "", "word " * 100)
    assert text_for_activity(short, 40) == "word word word word word\n[shortened]"
    assert text_for_activity(one("From: a@example.com", "", "x" * 99), 40) == "x" * 28 + "\n[shortened]"


@given(st.text(), st.integers(12, 60))
def test_text_for_an_activity_never_exceeds_its_limit(content: str, limit: int) -> None:
    message = parse(
        mail("From: a@example.com", "Content-Type: text/plain; charset=utf-8", "", content.encode("utf-8", "replace"))
    ).message
    shown = text_for_activity(message, limit)
    assert len(shown) <= limit
    assert shown == message.text or shown.endswith("\n[shortened]")


# Attachments


def test_attachments_are_named_sized_and_decoded_by_their_part_path() -> None:
    logo = file(PNG, "image/png; name=logo.png", "inline", "Content-ID: <i>")
    page = multipart("related", text("<p>Hi", "html"), logo, boundary="b2", top=())
    raw = multipart("mixed", page, file(PDF, "application/pdf", 'attachment; filename="Offer.pdf"'))
    parsed = parse(raw)
    assert parsed.message.attachments == (
        Attachment("1.2", "logo.png", len(PNG), "image/png", inline=True),
        Attachment("2", "Offer.pdf", len(PDF), "application/pdf", inline=False),
    )
    assert (parsed.content("1.2"), parsed.content("2")) == (PNG, PDF)


@pytest.mark.parametrize("ref", ["1", "3", "", "2.1", "../2"])
def test_content_of_what_is_no_attachment_raises_invalid_input(ref: str) -> None:
    with pytest.raises(InvalidInput):
        parse(multipart("mixed", text(), file())).content(ref)


def test_a_message_that_is_nothing_but_a_file_has_it_as_part_1() -> None:
    parsed = parse(b"From: a@example.com\r\n" + file())
    assert parsed.message.attachments == (Attachment("1", "a.pdf", len(PDF), "application/pdf", inline=False),)
    assert (parsed.content("1"), parsed.message.text) == (PDF, "")


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ('Content-Disposition: attachment; filename="a b.pdf"', "a b.pdf"),
        ("Content-Disposition: attachment; filename=a b (1).pdf", "a b (1).pdf"),  # unquoted, as some programs send it
        ("Content-Disposition: attachment; filename*=utf-8''Gr%C3%BC%C3%9Fe.pdf", "Grüße.pdf"),  # RFC 2231 4
        ("Content-Disposition: attachment; filename*=iso-8859-1'de'Gr%FC%DFe.pdf; filename=old.pdf", "Grüße.pdf"),
        ("Content-Disposition: attachment; filename*0=long; filename*1=name.pdf", "longname.pdf"),  # RFC 2231 3
        ("Content-Disposition: attachment;\r\n filename*1*=%C3%9Fe.pdf;\r\n filename*0*=utf-8''Gr%C3%BC", "Grüße.pdf"),
        ("Content-Disposition: attachment; filename*0*=utf-8''%C3; filename*1*=%9F.pdf", "ß.pdf"),
        ('Content-Disposition: attachment; filename="=?utf-8?B?R3LDvMOfZS5wZGY=?="', "Grüße.pdf"),  # not allowed, but usual
        ('Content-Type: application/pdf; name="from type.pdf"', "from type.pdf"),
        ('Content-Disposition: attachment; filename="a\\"b\\\\c.pdf"', "c.pdf"),
        ('Content-Disposition: attachment; filename="C:\\Users\\ada\\a.pdf"', "a.pdf"),
        ('Content-Disposition: attachment; filename="../../etc/passwd"', "passwd"),
        ('Content-Disposition: attachment; filename=".."', "attachment-1.bin"),
        ('Content-Disposition: attachment; filename="a\tb\x07.pdf"', "a b .pdf"),
        ('Content-Disposition: attachment; filename="annual\u202efdp.exe"', "annualfdp.exe"),
        ('Content-Disposition: attachment; filename="never closed.pdf', "never closed.pdf"),
        ('Content-Disposition: attachment; filename="a.pdf. . "', "a.pdf"),
        ("Content-Disposition: attachment; filename=", "attachment-1.bin"),
        ("Content-Type: application/pdf", "attachment-1.pdf"),
        ("Content-Type: IMAGE/JPEG; x=y", "attachment-1.jpg"),
        ("Content-Type: application/x-unheard-of", "attachment-1.bin"),
        ("Content-Type: garbage; name=x.dat", "x.dat"),
        ("Content-Type: application/ms-tnef; name=winmail.dat", "winmail.dat"),
        ("Content-Type: application/pkcs7-mime; name=smime.p7m", "smime.p7m"),
        (f"Content-Disposition: attachment; filename={'x' * 300}.pdf", "x" * 196 + ".pdf"),
    ],
)
def test_file_names(header: str, name: str) -> None:
    assert names(with_file(header)) == [name]


def test_names_are_unique_within_a_message_in_any_case() -> None:
    def named(name: str) -> bytes:
        return file(disposition=f'attachment; filename="{name}"')

    raw = multipart("mixed", *map(named, ["report.pdf", "Report.pdf", "report (2).pdf", "report.pdf", "README", "readme"]))
    assert names(parse(raw)) == ["report.pdf", "Report (2).pdf", "report (2) (2).pdf", "report (3).pdf", "README", "readme (2)"]


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Offer 3/2026", "Offer 3-2026.eml"),
        ("notes.eml", "notes.eml"),
        ("  \x00 ", "message.eml"),
        ("..", "message.eml"),
        ("x" * 300, "x" * 196 + ".eml"),
    ],
)
def test_a_message_kept_as_a_file_is_named_after_its_subject(title: str, name: str) -> None:
    assert message_file_name(title, "message.eml") == name


@pytest.mark.parametrize("name", ["", "/", "a/..", "\u202e", "\\"])
def test_a_name_of_which_nothing_is_safe_is_empty(name: str) -> None:
    assert safe_name(name) == ""


@pytest.mark.parametrize(
    ("kind", "disposition", "content_id", "inline"),
    [
        ("image/png", "inline", "Content-ID: <i>", True),
        ("image/png", "", "Content-ID: <i>", True),
        ("image/png", "attachment; filename=photo.png", "Content-ID: <i>", True),  # inside multipart/related
        ("application/pdf", "inline; filename=a.pdf", "X: y", False),  # Apple Mail shows any file inline
        ("application/pdf", "attachment; filename=a.pdf", "Content-ID: <i>", False),  # Exchange gives each file an id
        ("text/css", "inline; filename=a.css", "Content-ID: <i>", True),
    ],
)
def test_inline_means_seen_inside_the_text(kind: str, disposition: str, content_id: str, inline: bool) -> None:
    raw = multipart("related", text("<p>Hi", "html"), file(PNG, kind, disposition, content_id))
    assert [attachment.inline for attachment in parse(raw).message.attachments] == [inline]


def test_an_attached_image_is_not_inline() -> None:
    raw = multipart("mixed", text(), file(PNG, "image/png", "attachment; filename=photo.png", "Content-ID: <i>"))
    assert not parse(raw).message.attachments[0].inline


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ([], "The inner one.eml"),
        (['Content-Disposition: attachment; filename="Fwd: x"'], "Fwd: x.eml"),
        (["Content-Disposition: attachment; filename=x.EML"], "x.EML"),
    ],
)
def test_an_attached_message_is_one_file_with_its_own_bytes(header: list[str], name: str) -> None:
    inner = multipart("mixed", text("inner"), file(), boundary="inside", top=("From: x@example.com", "Subject: The inner one"))
    parsed = parse(multipart("mixed", text("outer"), part("Content-Type: message/rfc822", *header, "", inner)))
    assert parsed.message.text == "outer"
    assert [(a.ref, a.name, a.content_type) for a in parsed.message.attachments] == [("2", name, "message/rfc822")]
    assert parsed.content("2") == inner
    assert parse(parsed.content("2")).message.text == "inner"


def test_a_digest_holds_messages_by_default() -> None:
    inner = mail("From: x@example.com", "Subject: Part/one", "", "x")
    assert names(parse(multipart("digest", part("", inner)))) == ["Part-one.eml"]


@pytest.mark.parametrize(
    ("header", "expected"), [([], []), (["Content-Disposition: attachment; filename=invite.ics"], ["invite.ics"])]
)
def test_a_calendar_part_is_an_attachment_only_with_a_name(header: list[str], expected: list[str]) -> None:
    calendar = part("Content-Type: text/calendar; method=REQUEST", *header, "", "BEGIN:VCALENDAR")
    assert names(parse(multipart("mixed", text(), calendar))) == expected


@pytest.mark.parametrize(
    ("encoding", "raw", "content"),
    [
        ("base64", b"", b""),
        ("base64", b"QUJD\r\nREVG", b"ABCDEF"),
        ("base64", b"QUI=\r\n", b"AB"),
        ("base64", b"QUI", b"AB"),  # no padding
        ("base64", b"QUJDR", b"ABC"),  # a character too many
        ("base64", b"Q U\tJ-D_", b"ABC"),  # noise
        ("base64", b"QUI=\r\n-- \r\nA footer of a mailing list", b"AB"),
        ("base64", b"\xff\xfe", b""),
        ("quoted-printable", b"=89PNG=0D=0A=1A=\r\n=0A\r\n", b"\x89PNG\r\n\x1a\n\r\n"),
        ("quoted-printable", b"a=ZZ=", b"a=ZZ"),
        ("8bit", b"\xff\x00 raw", b"\xff\x00 raw"),
        ("x-unknown", b"as it is", b"as it is"),
    ],
)
def test_content_is_decoded_as_far_as_it_can_be_read(encoding: str, raw: bytes, content: bytes) -> None:
    header = ["Content-Type: application/x-y", f"Content-Transfer-Encoding: {encoding}"]
    parsed = parse(multipart("mixed", text(), part(*header, "", raw)))
    assert parsed.content("2") == content
    assert parsed.message.attachments[0].size_bytes == len(content)


def test_broken_boundaries_lose_nothing_that_was_closed() -> None:
    whole = multipart("mixed", text("one"), file())
    cut = whole[: whole.rindex(b"--b1--")]
    assert names(parse(cut)) == ["a.pdf"]
    assert parse(cut).content("2") == PDF
    similar = multipart("mixed", text("--b1x is no delimiter\r\n--b1-\r\nnor this"), file())
    assert parse(similar).message.text == "--b1x is no delimiter\n--b1-\nnor this"
    spaced = whole.replace(b"--b1\r\n", b"--b1  \t\r\n")
    assert names(parse(spaced)) == ["a.pdf"]
    assert parse(multipart("mixed", text("one"), text("two")).replace(b"\r\n", b"\n")).message.text == "one\n\ntwo"
    assert (
        parse(mail("From: a@example.com", "Content-Type: multipart/mixed; boundary=b", "", "--b", "--b", "--b--")).message.text
        == ""
    )


def test_too_many_parts_and_too_deep_nesting_are_refused() -> None:
    with pytest.raises(InvalidInput, match="parts"):
        parse(multipart("mixed", *[text()] * (mime.MAX_PARTS + 1)))
    deep = text()
    for level in range(mime.MAX_DEPTH + 2):
        deep = multipart("mixed", deep, boundary=f"deep{level}x", top=())
    with pytest.raises(InvalidInput, match="nested"):
        parse(b"From: a@example.com\r\n" + deep)


# Sent by a program?


@pytest.mark.parametrize(
    ("item_class", "kind"),
    [
        ("REPORT.IPM.Note.NDR", "bounce"),
        ("REPORT.IPM.Note.DR", "receipt"),
        ("REPORT.IPM.Note.IPNRN", "receipt"),
        ("report.ipm.note.ipnnrn", "receipt"),
        ("REPORT.IPM.Schedule.Meeting.Request.NDR", "bounce"),
        ("IPM.Report.Whatever", "bounce"),
        ("IPM.Schedule.Meeting.Request", "meeting"),
        ("IPM.Schedule.Meeting.Canceled", "meeting"),
        ("IPM.Schedule.Meeting.Resp.Tent", "meeting"),
        ("IPM.Schedule.Meeting.Notification.Forward", "meeting"),
        ("IPM.Note.Rules.OofTemplate.Microsoft", "auto_reply"),
        ("IPM.Note.Rules.ReplyTemplate.Microsoft", "auto_reply"),
        ("IPM.Note", None),
        ("IPM.Note.SMIME.MultipartSigned", None),
        ("IPM.Notebook.Report", None),
        ("", None),
    ],
)
def test_classes_tell_without_any_header(item_class: str, kind: str | None) -> None:
    automatic = classify("", item_class)
    assert (automatic.kind if automatic else None) == kind


@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        ("Content-Type: multipart/report; report-type=delivery-status; boundary=x", "bounce"),
        ("Auto-Submitted: auto-replied\r\nContent-Type: multipart/report;\r\n\treport-type=delivery-status", "bounce"),
        ("Content-Type: multipart/report; report-type=disposition-notification", "receipt"),
        ("Content-Type: multipart/report; report-type=feedback-report", "bulk"),
        ("From: Mail Delivery <MAILER-DAEMON@example.com>", "bounce"),
        ("From: postmaster@example.com\r\nReturn-Path: <>", "bounce"),
        ("From: postmaster@example.com", None),
        ("Auto-Submitted: auto-replied", "auto_reply"),
        ("auto-submitted: Auto-Replied (vacation); owner=x", "auto_reply"),
        ("Auto-Submitted: auto-generated\r\nIn-Reply-To: <a@example.com>", "auto_reply"),
        ("Auto-Submitted: auto-generated", "bulk"),
        ("Auto-Submitted: auto-notified", "bulk"),
        ("Auto-Submitted: no", None),
        ("Auto-Submitted:\r\n no (a person)", None),
        ("Return-Path: <>", "auto_reply"),
        ("Return-Path: < >\r\nFrom: ada@example.com", "auto_reply"),
        ("Return-Path: <ada@example.com>", None),
        ("Precedence: bulk", "bulk"),
        ("Precedence: List", "bulk"),
        ("Precedence: junk", "bulk"),
        ("Precedence: first-class", None),
        ("List-Id: Pumps <pumps.example.com>", "bulk"),
        ("LIST-UNSUBSCRIBE: <https://example.com/off>", "bulk"),
        ("Subject: List-Id: not a field", None),
        ("Content-Type: text/calendar; method=REQUEST", "meeting"),
        ("Content-Type: text/calendar; method=publish", "meeting"),
        ("Content-Type: text/calendar", None),
        ("X-Auto-Response-Suppress: All", None),  # asks others not to answer and proves nothing
        ("\r\nReceived: x\r\nReceived: y\r\nList-Post: NO", "bulk"),
        ("", None),
        ("what Outlook gave is no header block", None),
    ],
)
def test_headers_tell(headers: str, kind: str | None) -> None:
    automatic = classify(headers)
    assert (automatic.kind if automatic else None) == kind
    if automatic:
        assert automatic.reason.startswith("This ")
        assert automatic.reason.endswith(".")


def test_headers_may_come_as_pairs_or_as_a_mapping() -> None:
    expected = classify("Precedence: bulk")
    assert classify([("Received", "x"), ("Precedence", "bulk")]) == classify({"precedence": "bulk"}) == expected is not None


def test_the_class_outweighs_the_headers_and_the_sender_helps_when_there_are_none() -> None:
    meeting = classify("Precedence: bulk", "IPM.Schedule.Meeting.Request")
    assert meeting is not None
    assert (meeting.kind, meeting.reason) == ("meeting", "This is a meeting invitation.")
    bounce = classify("", sender="mailer-daemon@example.com")
    assert bounce is not None
    assert bounce.kind == "bounce"


def test_a_parsed_message_is_classified_by_class_headers_and_calendar_part() -> None:
    assert parse(mail("From: a@example.com", "", "x")).message.automatic is None
    by_class = parse(mail("From: a@example.com", "", "x"), item_class="REPORT.IPM.Note.NDR").message.automatic
    assert by_class is not None
    assert by_class.kind == "bounce"
    calendar = part("Content-Type: text/calendar; method=REPLY", "", "BEGIN:VCALENDAR")
    answer = parse(multipart("alternative", text("Accepted"), calendar)).message.automatic
    assert answer is not None
    assert answer.reason == "This is an answer to a meeting invitation."


# Identity


def key(message_id: str | None, mailbox: str = "me@example.org", immutable_id: str = "AA1") -> str:
    return message_key(message_id, mailbox=mailbox, immutable_id=immutable_id)


@pytest.mark.parametrize(
    "written",
    [
        "<Ab+c.1@Example.com>",
        " <Ab+c.1@Example.com> ",
        "<Ab+c.1@\r\n Example.com>",
        "Ab+c.1@Example.com",
        "(x) <Ab+c.1@Example.com> (y)",
    ],
)
def test_the_key_of_a_message_does_not_depend_on_how_its_id_is_written(written: str) -> None:
    assert key(written) == "Ab+c.1@Example.com"


def test_case_makes_another_key() -> None:
    assert key("<A@example.com>") != key("<a@example.com>")


@pytest.mark.parametrize("message_id", [None, "", "<>", " < > ", "(only a comment)", "\u200b"])
def test_without_an_id_the_key_holds_for_one_message_of_one_mailbox(message_id: str | None) -> None:
    own = key(message_id)
    assert own.startswith("ssi-")
    assert own == key(message_id, mailbox="ME@example.org")
    assert len({own, key(message_id, mailbox="you@example.org"), key(message_id, immutable_id="AA2")}) == 3


@pytest.mark.parametrize("message_id", ["<" + "x" * 800 + "@example.com>", "<grüße@example.com>"])
def test_an_id_that_c4c_could_not_hold_is_hashed(message_id: str) -> None:
    assert key(message_id).startswith("sha256-")
    assert key(message_id) == key(message_id, mailbox="you@example.org") != key(message_id + "x", immutable_id="AA2")[:-1]
    assert key("<" + "x" * 753 + "@example.com>").startswith("xxx")


@given(st.text())
def test_every_key_fits_c4c(message_id: str) -> None:
    assert 0 < len(key(message_id)) <= 765
    assert key(message_id).isascii()
    assert key(message_id).isprintable()


def test_the_fingerprint_tells_another_message_under_the_same_id() -> None:
    lines = ["From: Ada <ada@example.com>", "Date: Fri, 20 Nov 2026 10:00:00 +0100", "", "One line,", "another."]
    same = fingerprint(one(*lines))
    assert fingerprint(one("Received: by another way", "From: ADA@example.com", *lines[1:3], "One  line, another. ")) == same
    others = [
        one("From: bob@example.com", *lines[1:]),
        one(lines[0], "Date: Fri, 20 Nov 2026 10:00:01 +0100", *lines[2:]),
        one(*lines[:-1], "something else."),
    ]
    assert len({same, *map(fingerprint, others)}) == 4


@pytest.mark.parametrize(
    ("sender", "outgoing"),
    [("Me <ME@Example.org>", True), ("alias@example.org", True), ("ada@example.com", False), ("", False)],
)
def test_a_message_is_outgoing_if_the_owner_sent_it(sender: str, outgoing: bool) -> None:
    message = one(f"From: {sender}", "To: me@example.org", "", "x")
    assert is_outgoing(message, ["me@example.org", "Alias@example.org"]) is outgoing


# Another writer

_line = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="\"\\'<>@/()[],;:=?"), min_size=1, max_size=30)


@given(_line, _line, st.text(st.characters(exclude_categories=["C"]), max_size=200), _line, st.binary(max_size=300))
def test_what_pythons_email_package_writes_is_read_back(subject: str, name: str, body: str, stem: str, content: bytes) -> None:
    written = EmailMessage(policy=policy.SMTP)
    written["From"] = WrittenAddress(name, addr_spec="ada@example.com")
    written["Subject"] = subject
    written.set_content(body)
    written.add_attachment(content, "application", "pdf", filename=f"x{stem}x.pdf")
    parsed = parse(written.as_bytes())
    message = parsed.message
    assert message.sender == Address(name, "ada@example.com")
    assert message.subject == subject
    assert message.text.split() == body.split()
    assert message.attachments[0].name == unicodedata.normalize("NFC", f"x{stem}x.pdf")
    assert parsed.content("2") == content


# Hostile input

_WORDS = st.sampled_from(
    [
        *(
            b"From: ",
            b"Content-Type: ",
            b"multipart/mixed; boundary=b",
            b"text/html",
            b"message/rfc822",
            b"text/calendar;method=x",
        ),
        *(
            b"\r\n",
            b"\n",
            b"\r\n\r\n",
            b"--b",
            b"--b--",
            b" ",
            b"\t",
            b'"',
            b"<",
            b">",
            b";",
            b"(",
            b"\\",
            b"@",
            b",",
            b"\0",
            b"\xff",
        ),
        *(b"Content-Transfer-Encoding: base64\r\n", b"QQ=", b"=?utf-8?B?", b"?=", b"=?utf-7?Q?+2AA-", b"charset=utf-16"),
        *(b"Content-Disposition: attachment; ", b"filename*0*=utf-8''%", b"charset=punycode", b"<!--", b"<![", b"&#xD800;"),
        *(b"Date: ", b"Fri, 20 Nov 2026 10:00:00 +9999", b"Message-ID: ", b"Subject: "),
    ]
)
_HOSTILE = st.one_of(st.binary(), st.lists(st.one_of(_WORDS, st.binary(max_size=4)), max_size=60).map(b"".join))


@given(_HOSTILE, st.booleans())
@settings(max_examples=400)
def test_whatever_comes_is_a_message_or_invalid_input(data: bytes, with_header: bool) -> None:
    try:
        parsed = parse((b"From: a@example.com\r\n" if with_header else b"") + data)
    except InvalidInput:
        return
    message = parsed.message
    repr(message).encode()  # no halves of characters anywhere
    (message.subject + message.text).encode()
    for attachment in message.attachments:
        attachment.name.encode()
        assert attachment.name
        assert "/" not in attachment.name
        assert len(parsed.content(attachment.ref)) == attachment.size_bytes
    assert len({attachment.name.casefold() for attachment in message.attachments}) == len(message.attachments)


@given(st.text(), st.text(max_size=20))
def test_whatever_outlook_hands_over_is_classified(headers: str, item_class: str) -> None:
    assert classify(headers, item_class) is None or item_class or headers


def _field(name: str, unit: bytes, before: bytes = b"") -> bytes:
    return f"{name}: ".encode() + before + unit * (200_000 // len(unit)) + b"\r\n\r\nx"


def _page(unit: bytes) -> bytes:
    return b"Content-Type: text/html\r\n\r\n" + unit * 50_000


@pytest.mark.parametrize(
    "data",
    [
        *map(_page, (b"<a", b"<!--", b"<![", b'<a "', b"<a href=x>", b"<p", b"&#", b"<p>", b"<pre>", b"<title>")),
        *(_field("To", unit) for unit in (b"(", b'"\\', b"<", b"a,", b"@ ", b"=?a?q?x", b": a@", b"a =", b"x ", b"()", b'"')),
        *(_field("Subject", unit) for unit in (b"=?utf-8?B?QQ==?= ", b"=?a?q?", b"=?=?", b"?", b" \x00")),
        *(_field("Content-Type", unit, b"a/b") for unit in (b"; x", b";", b'; a="', b"; a*1=x", b"; \\", b"x ", b"/")),
        *(_field("References", unit) for unit in (b"<", b"<a> ", b"(")),
        b"From: a@example.com\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" + b"\r\n--b x" * 100_000,
        b"From: a@example.com\r\n" + b" folded\r\n" * 100_000,
        b"A: b\r\n" * 100_000 + b"\r\nx",
    ],
    ids=lambda data: repr(data[:40] + b"..." + data[-9:]),
)
def test_input_made_to_hang_us_does_not(data: bytes) -> None:
    started = time.process_time()
    parse(data)
    assert time.process_time() - started < 3  # quadratic reading would take minutes


def test_a_large_message_is_listed_without_being_copied_or_decoded(large: bytes) -> None:
    tracemalloc.start()
    parsed = parse(large)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 1024 * 1024
    assert [a.size_bytes for a in parsed.message.attachments] == [25 * 1024 * 1024]
    assert parsed.content("2").endswith(b"\xff" * 5)


@pytest.fixture(scope="module")
def large() -> bytes:
    return multipart("mixed", text(), file(b"\xff" * (25 * 1024 * 1024)))
