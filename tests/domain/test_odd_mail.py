"""Whole messages of the kinds that real mail programs write: each has the right people, the right class, the right files.

Every message is written by hand after its RFC and its program's habits. Single fields, encodings and broken syntax are in
test_message.py and test_addresses.py (there also: every form of an address, file names, subjects, dates); here are the
combinations. `pane` is what the header fields alone tell, which is all that the sidebar has: where it differs from `kind`, the
answer is in the body, and the sidebar has only the item class to know.
"""

import re
from dataclasses import dataclass

import pytest
from hypothesis import given, strategies as st

from server.c4c.mapping import groupware_item_id, one_line
from server.domain.message import Address, Message, classify, message_key, parse, safe_name, unique_name
from tests.payloads import ALL

ADA = "Ada Ashdown <ada@harrowgate.example>"
ME = "me@aldermill.example"

PDF = "JVBERi0xLjcK"  # 9 bytes
PNG = "iVBORw0KGgo="  # 8
TNEF = "eJ8+IgE="  # 5
DER = "MIIBAg=="  # 4

ENVELOPE = (
    f"From: {ADA}\nTo: {ME}\nMessage-ID: <1@harrowgate.example>\nDate: Fri, 20 Nov 2026 10:00:00 +0100\nMIME-Version: 1.0\n"
)


@dataclass(frozen=True)
class Odd:
    """A message and what it is. The envelope above stands before `raw` unless that begins with a From or a Return-Path."""

    id: str
    raw: str | bytes
    sender: str | None = ADA
    others: tuple[str, ...] = (ME,)  # To and Cc, in this order
    kind: str | None = None
    files: tuple[tuple[str, int] | tuple[str, int, str], ...] = ()  # name, size, "inline" if it is
    subject: str = ""
    text: str = ""
    item_class: str = ""
    pane: str | None = "as kind"

    @property
    def mime(self) -> bytes:
        raw = self.raw.encode() if isinstance(self.raw, str) else self.raw
        raw = raw.lstrip(b"\n")
        whole = raw if re.match(rb"(?i)(From|Return-Path|To|Received):", raw) else ENVELOPE.encode() + raw
        return whole.replace(b"\n", b"\r\n")


def written(person: Address) -> str:
    return f"{person.name} <{person.address}>" if person.name else person.address


def listed(message: Message) -> tuple[tuple[str, int] | tuple[str, int, str], ...]:
    return tuple((a.name, a.size_bytes, "inline") if a.inline else (a.name, a.size_bytes) for a in message.attachments)


def size(text: str) -> int:
    """Of a part's body as it travels."""
    return len(text.replace("\n", "\r\n").encode())


def leaf(content_type: str, *lines: str) -> str:
    """A part: type, then header lines up to an empty one, then the body."""
    return "\n".join([f"Content-Type: {content_type}", *lines])


def file(content_type: str, content: str, disposition: str = "", *more: str) -> str:
    head = [f"Content-Disposition: {disposition}"] if disposition else []
    return leaf(content_type, "Content-Transfer-Encoding: base64", *head, *more, "", content)


def joined(kind: str, *parts: str) -> str:
    """A multipart; its boundary is in none of the parts."""
    boundary = f"b{max([0, *(int(n) for part in parts for n in re.findall(r'boundary=.b([0-9]+)', part))]) + 1}"
    lines = [f'Content-Type: multipart/{kind}; boundary="{boundary}"', ""]
    for part in parts:
        lines += [f"--{boundary}", part]
    return "\n".join([*lines, f"--{boundary}--", ""])


PLAIN = leaf("text/plain; charset=utf-8", "", "Hello.")
HTML = leaf("text/html; charset=utf-8", "", "<p>Hello.</p>")
EMPTY = leaf("text/plain", "", "")
FORWARDED = "From: bo@example.org\nSubject: =?utf-8?Q?F=C3=BCr_Ada?=\n" + joined(
    "mixed", PLAIN, leaf("message/rfc822", "", "Subject: x\n\nx")
)
BOUNCED = "From: MAILER-DAEMON@example.org\nAuto-Submitted: auto-replied\nSubject: Undeliverable\n" + joined(
    "report; report-type=delivery-status", PLAIN, PLAIN
)
GLOBAL = "From: käthe@bücher.example\nSubject: Grüße\n\nx"
FOOTER = leaf('text/plain; charset="us-ascii"', "Content-Disposition: inline", "", "_____", "Pumps mailing list")

PEOPLE = [
    Odd(
        "encoded words of two charsets side by side, one cut inside a character",
        "From: =?utf-8?B?SsO=?= =?utf-8?B?vHJnZW4=?= =?iso-8859-1?Q?_Gr=F6=DFe?= <juergen@lindenhof.example>\n"
        f"To: =?windows-1250?Q?Ji=F8=ED_Nov=E1k?= <{ME}>\n"
        "Subject: =?utf-8?Q?Angebot_f=C3=BCr?= =?iso-8859-1?Q?_=DCbermorgen?=\n =?utf-8?Q?_?= =?utf-8?B?8J+Tpg==?=\n\nHello.",
        sender="Jürgen Größe <juergen@lindenhof.example>",
        others=(f"Jiří Novák <{ME}>",),
        subject="Angebot für Übermorgen 📦",
        text="Hello.",
    ),
    Odd(
        "encoded words as programs break them: spaces inside, no space between, never closed, inside quotes",
        'From: "=?iso-8859-1?Q?Gr=F6=DFe, J=FCrgen?=" <juergen@lindenhof.example>\n'
        f"To: =?utf-8?Q?a?==?utf-8?Q?b?= <{ME}>, =?utf-8?Q?never closed <c@example.org>\n"
        "Subject: =?utf-8?Q?=C3=9C ber?= =?utf-8?Q?never\n\nHello.",
        sender="Größe, Jürgen <juergen@lindenhof.example>",
        others=(f"ab <{ME}>", "=?utf-8?Q?never closed <c@example.org>"),
        subject="Ü ber =?utf-8?Q?never",
        text="Hello.",
    ),
    Odd(
        "a name that pretends to be another address",
        "From: =?utf-8?Q?ceo=40harrowgate.example=2C_=3Cceo=40harrowgate.example=3E?= <mallory@example.net>\n"
        f'To: "me@aldermill.example" <{ME}>\n\nHello.',
        sender="ceo@harrowgate.example, <ceo@harrowgate.example> <mallory@example.net>",
        text="Hello.",
    ),
    Odd(
        "international addresses, spelled out (RFC 6532) and as xn--",
        f"From: Käthe <käthe@bücher.example>\nTo: {ME}\n"
        "Cc: Info <info@xn--bcher-kva.example>, 用户 <用户@例え.example>\nSubject: Grüße\n\nHello.",
        sender="Käthe <käthe@bücher.example>",
        others=(ME, "Info <info@xn--bcher-kva.example>", "用户 <用户@例え.example>"),
        subject="Grüße",
        text="Hello.",
    ),
    Odd(
        "groups: hidden, named, with quoted commas inside, and people around them",
        f'From: {ADA}\nTo: undisclosed-recipients:;, "Board, all": "Low, Bo" <bo@example.org>, ci@example.org;, {ME}\n'
        "Cc: Empty:;\nSubject: Kick-off\n\nHello.",
        others=("Low, Bo <bo@example.org>", "ci@example.org", ME),
        subject="Kick-off",
        text="Hello.",
    ),
    Odd(
        "commas in names, quoted and (wrongly) not, semicolons and comments between addresses",
        'From: "Ashdown, Ada (Purchasing)" <ada@harrowgate.example>\n'
        f"To: Low, Bo <bo@example.org>; {ME} (that is (really) me), =?utf-8?Q?Low=2C_Ci?= <ci@example.org>;\n\nHello.",
        sender="Ashdown, Ada (Purchasing) <ada@harrowgate.example>",
        others=("Bo <bo@example.org>", f"that is me <{ME}>", "Low, Ci <ci@example.org>"),
        text="Hello.",
    ),
    Odd(
        "a list of recipients folded within names and addresses",
        f'From:\n {ADA}\nTo: "Low,\n  Bo"\n\t<bo@example.org>\n ,\n {ME}\nSubject:\n \n folded\n\nHello.',
        others=("Low, Bo <bo@example.org>", ME),
        subject="folded",
        text="Hello.",
    ),
    Odd(
        "eight-bit header fields in Windows-1252, as old programs send them",
        b"From: J\xfcrgen Gr\xf6\xdfe <juergen@lindenhof.example>\nTo: me@aldermill.example\n"
        b"Subject: Gr\xfc\xdfe \x96 bis bald\nContent-Type: text/plain; charset=windows-1252\n\nSch\xf6n \x80",
        sender="Jürgen Größe <juergen@lindenhof.example>",
        subject="Grüße – bis bald",
        text="Schön €",
    ),
    Odd(
        "eight-bit header fields in UTF-8 beside encoded ones",
        "From: Jürgen =?utf-8?Q?Gr=C3=B6=C3=9Fe?= <juergen@lindenhof.example>\n"
        f"To: {ME}\nSubject: Re: Grüße =?utf-8?Q?=E2=80=93?=\n\nx",
        sender="Jürgen Größe <juergen@lindenhof.example>",
        subject="Re: Grüße –",
        text="x",
    ),
    Odd(
        "two From fields, which no program should accept: the first counts",
        f"From: {ADA}\nFrom: Mallory <mallory@example.net>\nTo: {ME}\n\nHello.",
        text="Hello.",
    ),
    Odd(
        "several authors and the one who sent it (RFC 5322 3.6.2)",
        f"From: Bo <bo@example.org>, {ADA}\nSender: ada@harrowgate.example\nTo: {ME}\n\nHello.",
        text="Hello.",
    ),
    Odd(
        "an assistant writes on behalf of somebody: the author counts",
        f"From: {ADA}\nSender: Bo <bo@harrowgate.example>\nTo: {ME}\n\nHello.",
        text="Hello.",
    ),
    Odd("an empty From", f"From: <>\nTo: {ME}\nSubject: x\n\nHello.", sender=None, subject="x", text="Hello."),
    Odd(
        "an empty From, and a Sender",
        f"From:\nSender: Scanner <scanner@harrowgate.example>\nTo: {ME}\n\nHello.",
        sender="Scanner <scanner@harrowgate.example>",
        text="Hello.",
    ),
    Odd("no From at all", f"Received: by example.org\nTo: {ME}\n\nHello.", sender=None, text="Hello."),
    Odd(
        "names of a legacy Exchange, and addresses that wrap them",
        "From: Ada Ashdown </o=Harrowgate/ou=First/cn=Recipients/cn=ada>\n"
        f"Sender: Ada Ashdown <IMCEAEX-_o=Harrowgate_cn=ada@harrowgate.example>\nTo: {ME}\n\nHello.",
        sender="Ada Ashdown <IMCEAEX-_o=Harrowgate_cn=ada@harrowgate.example>",
        text="Hello.",
    ),
    Odd(
        "an address that its provider allows and RFC 5322 does not",
        f"From: Kei <.k..ei.@docomo.example>\nTo: {ME}\n\nHello.",
        sender="Kei <.k..ei.@docomo.example>",
        text="Hello.",
    ),
    Odd(
        "ISO-2022-JP, which returns to ASCII at the end of each word",
        f"From: =?ISO-2022-JP?B?GyRCOzNFRBsoQg==?= <yamada@example.org>\nTo: {ME}\n"
        "Subject: =?ISO-2022-JP?B?GyRCRnxLXBsoQg==?=\n =?ISO-2022-JP?B?GyRCOGwbKEI=?=\n"
        "Content-Type: text/plain; charset=ISO-2022-JP\n\n\x1b$B$3$s\x1b(B",
        sender="山田 <yamada@example.org>",
        subject="日本語",
        text="こん",
    ),
]

FILES = [
    Odd(
        "Outlook Rich Text: everything but the text is in winmail.dat",
        "Subject: Offer\nX-MS-Has-Attach: yes\nX-MS-TNEF-Correlator: <1@harrowgate.example>\n"
        + joined("mixed", PLAIN, file('application/ms-tnef; name="winmail.dat"', TNEF, 'attachment; filename="winmail.dat"')),
        subject="Offer",
        text="Hello.",
        files=(("winmail.dat", 5),),
    ),
    Odd(
        "TNEF and nothing else, between two Exchange servers",
        file("application/ms-tnef; name=winmail.dat", TNEF),
        files=(("winmail.dat", 5),),
    ),
    Odd(
        "TNEF that a gateway relabelled",
        joined("mixed", PLAIN, file("application/octet-stream", TNEF, "attachment; filename=WINMAIL.DAT")),
        text="Hello.",
        files=(("WINMAIL.DAT", 5),),
    ),
    Odd(
        "S/MIME, encrypted (RFC 8551)",
        file("application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m", DER, "attachment; filename=smime.p7m"),
        item_class="IPM.Note.SMIME",
        files=(("smime.p7m", 4),),
    ),
    Odd(
        "S/MIME, signed and opaque, by Outlook's older name and without a file name",
        file("application/x-pkcs7-mime; smime-type=signed-data", DER),
        item_class="IPM.Note.SMIME",
        files=(("attachment-1.p7m", 4),),
    ),
    Odd(
        "S/MIME, clear signed, with a file inside what is signed",
        joined(
            'signed; protocol="application/pkcs7-signature"; micalg=sha-256',
            joined("mixed", joined("alternative", PLAIN, HTML), file("application/pdf; name=Offer.pdf", PDF, "attachment")),
            file("application/pkcs7-signature; name=smime.p7s", DER, "attachment; filename=smime.p7s"),
        ),
        item_class="IPM.Note.SMIME.MultipartSigned",
        text="Hello.",
        files=(("Offer.pdf", 9), ("smime.p7s", 4)),
    ),
    Odd(
        "PGP/MIME, encrypted (RFC 3156)",
        joined(
            'encrypted; protocol="application/pgp-encrypted"',
            leaf("application/pgp-encrypted", "Content-Description: version", "", "Version: 1"),
            leaf("application/octet-stream; name=encrypted.asc", "", "-----BEGIN PGP MESSAGE-----"),
        ),
        files=(("attachment-1.bin", 10), ("encrypted.asc", 27)),
    ),
    Odd(
        "PGP/MIME, signed, through a list that adds its footer",
        "List-Id: <pumps.lists.example.org>\n"
        + joined(
            "mixed",
            joined('signed; protocol="application/pgp-signature"', PLAIN, leaf("application/pgp-signature", "", "-----BEGIN")),
            FOOTER,
        ),
        kind="bulk",
        text="Hello.\n\n_____\nPumps mailing list",
        files=(("attachment-1.asc", 10),),
    ),
    Odd(
        "a message forwarded as a file, which holds one in turn",
        joined("mixed", PLAIN, leaf("message/rfc822", "", FORWARDED)),
        text="Hello.",
        files=(("Für Ada.eml", size(FORWARDED)),),
    ),
    Odd(
        "a message forwarded in base64, which RFC 2046 forbids",
        joined("mixed", PLAIN, file("message/rfc822", "RnJvbTogYm9AZXhhbXBsZS5vcmcKCng=", "attachment")),
        text="Hello.",
        files=(("attachment-1.eml", 23),),
    ),
    Odd(
        "a message with international header fields as a file (RFC 6532)",
        joined("mixed", PLAIN, leaf("message/global", "", GLOBAL)),
        text="Hello.",
        files=(("Grüße.eml", size(GLOBAL)),),
    ),
    Odd(
        "a bounce that somebody forwards is a person's message",
        joined("mixed", PLAIN, leaf("message/rfc822", "", BOUNCED)),
        text="Hello.",
        files=(("Undeliverable.eml", size(BOUNCED)),),
    ),
    Odd(
        "Outlook with a logo in the signature and a file",
        joined(
            "mixed",
            joined(
                "related",
                joined("alternative", PLAIN, HTML),
                file(
                    'image/png; name="image001.png"',
                    PNG,
                    'inline; filename="image001.png"; size=8;\n\tcreation-date="Fri, 20 Nov 2026 09:00:00 GMT"',
                    "Content-Description: image001.png",
                    "Content-ID: <image001.png@01DC5A00.00000000>",
                ),
            ),
            file('application/pdf; name="Offer.pdf"', PDF, 'attachment; filename="Offer.pdf"; size=9', "Content-ID: <X@x>"),
        ),
        text="Hello.",
        files=(("image001.png", 8, "inline"), ("Offer.pdf", 9)),
    ),
    Odd(
        "Apple Mail: a file between two halves of the text, in the HTML alternative only",
        joined(
            "alternative",
            PLAIN,
            joined("mixed", HTML, file("application/pdf; name=Offer.pdf", PDF, "inline; filename=Offer.pdf"), HTML),
        ),
        text="Hello.",
        files=(("Offer.pdf", 9),),
    ),
    Odd(
        "a phone: a picture inside the text without any id, and a photo",
        joined(
            "mixed",
            PLAIN,
            file("image/jpeg; name=IMG_0001.jpg; x-apple-part-url=1", PNG, "inline; filename=IMG_0001.jpg"),
            file("image/heic; name=IMG_0002.HEIC", PNG, "attachment; filename=IMG_0002.HEIC"),
        ),
        text="Hello.",
        files=(("IMG_0001.jpg", 8, "inline"), ("IMG_0002.HEIC", 8)),
    ),
    Odd(
        "file names as programs of East Asia write them: several encoded words, folded, and 8-bit",
        joined(
            "mixed",
            PLAIN,
            file(
                "application/octet-stream;\n\tname*=GB18030''%B1%A8%BC%DB.pdf",
                PDF,
                'attachment;\n\tfilename="=?gb18030?B?sai82w==?=\n\t=?gb18030?B?LnBkZg==?="',
            ),
            file("application/pdf", PDF, 'attachment; filename="報價.pdf"'),
        ),
        text="Hello.",
        files=(("报价.pdf", 9), ("報價.pdf", 9)),
    ),
    Odd(
        "a text that is a file, a page that is a file, a card: named parts are no text",
        joined(
            "mixed",
            PLAIN,
            leaf("text/plain; name=notes.txt", "Content-Disposition: inline; filename=notes.txt", "", "one"),
            leaf("text/html", "Content-Disposition: attachment; filename=page.html", "", "<p>"),
            leaf("text/x-vcard; name=ada.vcf", "", "BEGIN:VCARD"),
        ),
        text="Hello.",
        files=(("notes.txt", 3), ("page.html", 3), ("ada.vcf", 11)),
    ),
    Odd(
        "a scanner: no text, one file, no subject",
        "From: scanner@harrowgate.example\nTo: me@aldermill.example\n"
        + joined("mixed", file('application/pdf; name="Scan 0001.pdf"', PDF, "attachment")),
        sender="scanner@harrowgate.example",
        files=(("Scan 0001.pdf", 9),),
    ),
    Odd(
        "a large file that its sender split or left elsewhere (RFC 2046 5.2)",
        joined(
            "mixed", PLAIN, leaf("message/external-body; access-type=URL; name=Plan.zip", "", "Content-Type: application/zip\n\n")
        ),
        text="Hello.",
        files=(("Plan.zip", size("Content-Type: application/zip\n\n")),),
    ),
]

CALENDAR = "BEGIN:VCALENDAR\nMETHOD:{0}\nBEGIN:VEVENT\nUID:1@harrowgate.example\nEND:VEVENT\nEND:VCALENDAR"


def calendar(method: str, *more: str) -> str:
    return leaf(f'text/calendar; charset="utf-8"; method={method}', *more, "", CALENDAR.format(method))


MEETINGS = [
    Odd(
        "an invitation of Outlook",
        "Subject: Site visit\nContent-Class: urn:content-classes:calendarmessage\n"
        + joined("alternative", PLAIN, HTML, calendar("REQUEST")),
        kind="meeting",
        subject="Site visit",
        text="Hello.",
        item_class="IPM.Schedule.Meeting.Request",
    ),
    Odd(
        "an invitation of Google: the calendar twice, once as a file",
        f"Return-Path: <calendar@example.org>\nFrom: {ADA}\nSender: Calendar <calendar@example.org>\nTo: {ME}\nReply-To: {ADA}\n"
        "Auto-Submitted: auto-generated\nSubject: Invitation: Site visit\n"
        + joined(
            "mixed",
            joined("alternative", PLAIN, HTML, calendar("REQUEST", "Content-Transfer-Encoding: 7bit")),
            file('application/ics; name="invite.ics"', "QkVHSU46VkNBTEVOREFS", 'attachment; filename="invite.ics"'),
        ),
        kind="meeting",
        pane="bulk",
        subject="Invitation: Site visit",
        text="Hello.",
        files=(("invite.ics", 15),),
    ),
    Odd(
        "an invitation of Apple: the calendar as the last alternative, with a name",
        joined(
            "alternative", PLAIN, joined("mixed", HTML, calendar("REQUEST", "Content-Disposition: inline; filename=iCal.ics"))
        ),
        kind="meeting",
        pane=None,
        text="Hello.",
        files=(("iCal.ics", size(CALENDAR.format("REQUEST"))),),
    ),
    Odd(
        "an answer that is nothing but a calendar (RFC 6047)",
        "Subject: Accepted: Site visit\n" + calendar("REPLY"),
        kind="meeting",
        subject="Accepted: Site visit",
    ),
    Odd(
        "an answer of Outlook",
        "Subject: Declined: Site visit\nContent-Class: urn:content-classes:calendarmessage\n"
        + joined("alternative", PLAIN, calendar("REPLY")),
        kind="meeting",
        subject="Declined: Site visit",
        text="Hello.",
        item_class="IPM.Schedule.Meeting.Resp.Neg",
    ),
    Odd(
        "a cancellation",
        "Subject: Canceled: Site visit\n" + joined("alternative", PLAIN, calendar("CANCEL")),
        kind="meeting",
        pane=None,
        subject="Canceled: Site visit",
        text="Hello.",
    ),
    Odd(
        "another time proposed",
        joined("alternative", PLAIN, calendar("COUNTER")),
        kind="meeting",
        pane="meeting",
        text="Hello.",
        item_class="IPM.Schedule.Meeting.Resp.Tent",
    ),
    Odd(
        "a person who attaches a calendar file writes a message, no invitation",
        joined("mixed", PLAIN, calendar("PUBLISH", 'Content-Disposition: attachment; filename="Fair.ics"')),
        text="Hello.",
        files=(("Fair.ics", size(CALENDAR.format("PUBLISH"))),),
    ),
]

STATUS = (
    "Reporting-MTA: dns; mx.aldermill.example\n\nFinal-Recipient: rfc822; gone@harrowgate.example\nAction: failed\nStatus: 5.1.1"
)
STATUS_PART = leaf("message/delivery-status", "", STATUS)
LOST = f"From: {ME}\nTo: gone@harrowgate.example\nSubject: Price list\n\nHere it is."
LOST_PART = leaf("message/rfc822", "", LOST)
LOST_HEAD = leaf("text/rfc822-headers", "", LOST.partition("\n\n")[0])

REPORTS = [
    Odd(
        "not delivered, by Exchange",
        "Return-Path: <>\nFrom: <postmaster@aldermill.example>\nTo: me@aldermill.example\nSubject: Undeliverable: Price list\n"
        "Auto-Submitted: auto-replied\nX-MS-Exchange-Message-Is-Ndr:\nContent-Language: en-US\n"
        + joined("report; report-type=delivery-status", joined("alternative", PLAIN, HTML), STATUS_PART, LOST_PART),
        sender="postmaster@aldermill.example",
        kind="bounce",
        subject="Undeliverable: Price list",
        text="Hello.",
        files=(("attachment-1.txt", size(STATUS)), ("Price list.eml", size(LOST))),
        item_class="REPORT.IPM.Note.NDR",
    ),
    Odd(
        "not delivered, by an Exchange of old: TNEF instead of a report",
        "From: System Administrator <postmaster@aldermill.example>\n"
        "To: me@aldermill.example\nSubject: Undeliverable: Price list\n"
        "Content-Class: urn:content-classes:dsn\n" + joined("mixed", PLAIN, file("application/ms-tnef; name=winmail.dat", TNEF)),
        sender="System Administrator <postmaster@aldermill.example>",
        kind="bounce",
        subject="Undeliverable: Price list",
        text="Hello.",
        files=(("winmail.dat", 5),),
    ),
    Odd(
        "not delivered, by Postfix",
        "Return-Path: <>\nFrom: MAILER-DAEMON@mx.aldermill.example (Mail Delivery System)\nTo: me@aldermill.example\n"
        "Subject: Undelivered Mail Returned to Sender\nAuto-Submitted: auto-replied\n"
        + joined(
            "report; report-type=delivery-status",
            leaf("text/plain; charset=us-ascii", "Content-Description: Notification", "", "Sorry."),
            STATUS_PART,
            LOST_PART,
        ),
        sender="Mail Delivery System <MAILER-DAEMON@mx.aldermill.example>",
        kind="bounce",
        subject="Undelivered Mail Returned to Sender",
        text="Sorry.",
        files=(("attachment-1.txt", size(STATUS)), ("Price list.eml", size(LOST))),
    ),
    Odd(
        "still trying, by Postfix",
        "Return-Path: <>\nFrom: MAILER-DAEMON@mx.aldermill.example (Mail Delivery System)\nTo: me@aldermill.example\n"
        "Subject: Delayed Mail (still being retried)\nAuto-Submitted: auto-replied\n"
        + joined("report; report-type=delivery-status", PLAIN, STATUS_PART, LOST_HEAD),
        sender="Mail Delivery System <MAILER-DAEMON@mx.aldermill.example>",
        kind="bounce",
        subject="Delayed Mail (still being retried)",
        text="Hello.",
        files=(("attachment-1.txt", size(STATUS)),),
    ),
    Odd(
        "not delivered, by Gmail: a page with a picture before the report",
        "Return-Path: <>\nFrom: Mail Delivery Subsystem <mailer-daemon@gmail.example>\nTo: me@aldermill.example\n"
        "Auto-Submitted: auto-replied\nX-Failed-Recipients: gone@harrowgate.example\nIn-Reply-To: <1@aldermill.example>\n"
        "Subject: Delivery Status Notification (Failure)\n"
        + joined(
            "report; report-type=delivery-status",
            joined(
                "related",
                joined("alternative", PLAIN, HTML),
                file('image/png; name="icon.png"', PNG, 'attachment; filename="icon.png"', "Content-ID: <icon.png>"),
            ),
            STATUS_PART,
            LOST_PART,
        ),
        sender="Mail Delivery Subsystem <mailer-daemon@gmail.example>",
        kind="bounce",
        subject="Delivery Status Notification (Failure)",
        text="Hello.",
        files=(("icon.png", 8, "inline"), ("attachment-2.txt", size(STATUS)), ("Price list.eml", size(LOST))),
    ),
    Odd(
        "not delivered, by Exim: only text",
        "Return-Path: <>\nFrom: Mail Delivery System <Mailer-Daemon@mx.aldermill.example>\nTo: me@aldermill.example\n"
        "X-Failed-Recipients: gone@harrowgate.example\nAuto-Submitted: auto-replied\nSubject: Mail delivery failed\n\nSorry.",
        sender="Mail Delivery System <Mailer-Daemon@mx.aldermill.example>",
        kind="bounce",
        subject="Mail delivery failed",
        text="Sorry.",
    ),
    Odd(
        "not delivered, by qmail: not even a MIME message",
        "Return-Path: <>\nFrom: MAILER-DAEMON@mx.aldermill.example\nTo: me@aldermill.example\nSubject: failure notice\n\nSorry.",
        sender="MAILER-DAEMON@mx.aldermill.example",
        kind="bounce",
        subject="failure notice",
        text="Sorry.",
    ),
    Odd(
        "not delivered, by a host that gives no address",
        "Return-Path: <>\nFrom: MAILER-DAEMON (Mail Delivery System)\nTo: me@aldermill.example\nSubject: Returned mail\n\nSorry.",
        sender=None,
        kind="bounce",
        subject="Returned mail",
        text="Sorry.",
    ),
    Odd(
        "read, by Outlook (RFC 8098)",
        "Subject: Read: Price list\nIn-Reply-To: <1@aldermill.example>\n"
        + joined(
            "report; report-type=disposition-notification",
            joined("alternative", PLAIN, HTML),
            leaf("message/disposition-notification", "", "Disposition: manual-action/MDN-sent-manually; displayed"),
        ),
        kind="receipt",
        subject="Read: Price list",
        text="Hello.",
        files=(("attachment-1.txt", 55),),
        item_class="REPORT.IPM.Note.IPNRN",
    ),
    Odd(
        "read, by an Exchange of old",
        "Content-Class: urn:content-classes:mdn\nSubject: Read: Price list\n" + PLAIN,
        kind="receipt",
        subject="Read: Price list",
        text="Hello.",
    ),
    Odd(
        "a report on encryption in transit, from a program to programs (RFC 8460)",
        "From: reports@example.org\nTo: me@aldermill.example\n"
        + joined(
            "report; report-type=tlsrpt", PLAIN, file("application/tlsrpt+gzip", PNG, "attachment; filename=report.json.gz")
        ),
        sender="reports@example.org",
        kind="bulk",
        text="Hello.",
        files=(("report.json.gz", 8),),
    ),
    Odd(
        "a complaint from a feedback loop (RFC 5965)",
        "From: <feedback@example.org>\nTo: me@aldermill.example\n"
        + joined(
            "report; report-type=feedback-report", PLAIN, leaf("message/feedback-report", "", "Feedback-Type: abuse"), LOST_PART
        ),
        sender="feedback@example.org",
        kind="bulk",
        text="Hello.",
        files=(("attachment-1.txt", 20), ("Price list.eml", size(LOST))),
    ),
]

REPLIES = [
    Odd(
        "out of office, by Exchange",
        f"Return-Path: <>\nFrom: {ADA}\nTo: {ME}\nSubject: Automatic reply: Price list\nIn-Reply-To: <1@aldermill.example>\n"
        "Auto-Submitted: auto-generated\nX-Auto-Response-Suppress: All\n"
        "X-MS-Exchange-Inbox-Rules-Loop: ada@harrowgate.example\n\nAway.",
        kind="auto_reply",
        subject="Automatic reply: Price list",
        text="Away.",
        item_class="IPM.Note.Rules.OofTemplate.Microsoft",
    ),
    Odd(
        "out of office, by an Exchange that says nothing but the empty return path",
        f"Return-Path: <>\nFrom: {ADA}\nTo: {ME}\nSubject: Out of Office: Price list\nX-Auto-Response-Suppress: All\n\nAway.",
        kind="auto_reply",
        subject="Out of Office: Price list",
        text="Away.",
    ),
    Odd(
        "vacation, by Gmail, which calls it bulk as well",
        f"From: {ADA}\nTo: {ME}\nSubject: Away Re: Price list\nIn-Reply-To: <1@aldermill.example>\nPrecedence: bulk\n"
        "Auto-Submitted: auto-replied\nX-Autoreply: yes\n" + joined("alternative", PLAIN, HTML),
        kind="auto_reply",
        subject="Away Re: Price list",
        text="Hello.",
    ),
    Odd(
        "vacation, by Gmail before it learned RFC 3834",
        f"From: {ADA}\nTo: {ME}\nPrecedence: bulk\nX-Autoreply: yes\n\nAway.",
        kind="auto_reply",
        text="Away.",
    ),
    Odd(
        "vacation, by Sieve (RFC 5230)",
        f"Return-Path: <>\nFrom: {ADA}\nTo: {ME}\nSubject: Auto: Price list\nX-Sieve: Filter\nPrecedence: bulk\n"
        "Auto-Submitted: auto-replied (vacation)\nIn-Reply-To: <1@aldermill.example>\n\nAway.",
        kind="auto_reply",
        subject="Auto: Price list",
        text="Away.",
    ),
    Odd(
        "vacation, by programs that made up a precedence",
        f"From: {ADA}\nTo: {ME}\nPrecedence: auto_reply\n\nAway.",
        kind="auto_reply",
        text="Away.",
    ),
    Odd(
        "a help desk that confirms",
        f"From: Support <support@harrowgate.example>\nTo: {ME}\n"
        "Subject: [#1201] We have your message\nIn-Reply-To: <1@aldermill.example>\n"
        "Auto-Submitted: auto-generated\nX-Auto-Response-Suppress: All\n\nThank you.",
        sender="Support <support@harrowgate.example>",
        kind="auto_reply",
        subject="[#1201] We have your message",
        text="Thank you.",
    ),
    Odd(
        "a person who only asks others not to answer by machine",
        "X-Auto-Response-Suppress: OOF, AutoReply\nAuto-Submitted: no\n" + PLAIN,
        text="Hello.",
    ),
]

LISTS = [
    Odd(
        "a newsletter with one-click unsubscription (RFC 8058)",
        "Return-Path: <bounce-1-me=aldermill.example@mail.pump-world.example>\nFrom: Pump World <news@pump-world.example>\n"
        f"To: <{ME}>\nSubject: This week in pumps\n"
        "List-Unsubscribe: <https://pump-world.example/u?1>, <mailto:u@pump-world.example>\n"
        "List-Unsubscribe-Post: List-Unsubscribe=One-Click\nFeedback-ID: 1:2:pumps\n" + joined("alternative", PLAIN, HTML),
        sender="Pump World <news@pump-world.example>",
        kind="bulk",
        subject="This week in pumps",
        text="Hello.",
    ),
    Odd(
        "a newsletter of pictures only, without any text",
        "From: news@pump-world.example\nTo: me@aldermill.example\nPrecedence: bulk\n"
        + leaf(
            "text/html; charset=utf-8",
            "",
            '<style>p{}</style><a href="https://pump-world.example/1"><img src="https://pump-world.example/1.png"></a>',
        ),
        sender="news@pump-world.example",
        kind="bulk",
        text="<https://pump-world.example/1>",
    ),
    Odd(
        "Mailman 2, which writes in its own name and adds a footer",
        "Return-Path: <pumps-bounces@lists.example.org>\n"
        "From: Ada Ashdown via Pumps <pumps@lists.example.org>\nTo: pumps@lists.example.org\n"
        f"Reply-To: {ADA}\nSubject: [Pumps] Seals\nX-BeenThere: pumps@lists.example.org\n"
        "X-Mailman-Version: 2.1.39\nPrecedence: list\n"
        "List-Id: For people with pumps <pumps.lists.example.org>\nList-Post: <mailto:pumps@lists.example.org>\n"
        "Errors-To: pumps-bounces@lists.example.org\nSender: Pumps <pumps-bounces@lists.example.org>\n"
        + joined("mixed", PLAIN, FOOTER),
        sender="Ada Ashdown via Pumps <pumps@lists.example.org>",
        others=("pumps@lists.example.org",),
        kind="bulk",
        subject="[Pumps] Seals",
        text="Hello.\n\n_____\nPumps mailing list",
    ),
    Odd(
        "Mailman 3, which leaves the author alone",
        f"From: {ADA}\nTo: pumps@lists.example.org\nMessage-ID-Hash: ABC\n"
        "X-Mailman-Version: 3.3.9\nArchived-At: <https://lists.example.org/1>\n"
        "List-Archive: <https://lists.example.org/>\nList-Owner: <mailto:pumps-owner@lists.example.org>\n\nHello.",
        others=("pumps@lists.example.org",),
        kind="bulk",
        text="Hello.",
    ),
    Odd(
        "a digest of Mailman: messages as parts, which say nothing of themselves",
        "From: pumps-request@lists.example.org\nTo: pumps@lists.example.org\n"
        "Subject: Pumps Digest, Vol 1, Issue 2\nPrecedence: list\n"
        + joined(
            "mixed",
            leaf("text/plain", "Content-Description: Pumps Digest", "", "Topics"),
            joined("digest", "\nFrom: a@example.org\nSubject: One\n\n1", "\nFrom: b@example.org\nSubject: One\n\n2"),
            FOOTER,
        ),
        sender="pumps-request@lists.example.org",
        others=("pumps@lists.example.org",),
        kind="bulk",
        subject="Pumps Digest, Vol 1, Issue 2",
        text="Topics\n\n_____\nPumps mailing list",
        files=(("One.eml", 38), ("One (2).eml", 38)),
    ),
    Odd(
        "a Google group",
        "Return-Path: <pumps+bncB1@groups.example>\n"
        "From: \"'Ada Ashdown' via Pumps\" <pumps@groups.example>\nTo: Pumps <pumps@groups.example>\n"
        f"Sender: pumps@groups.example\nX-Original-From: {ADA}\nReply-To: Ada Ashdown <ada@harrowgate.example>\n"
        "Precedence: list\nMailing-list: list pumps@groups.example; contact pumps+owners@groups.example\n"
        "List-ID: <pumps.groups.example>\nX-Google-Group-Id: 1\n\nHello.",
        sender="'Ada Ashdown' via Pumps <pumps@groups.example>",
        others=("Pumps <pumps@groups.example>",),
        kind="bulk",
        text="Hello.",
    ),
    Odd(
        "a distribution list inside a company leaves no trace",
        f"From: {ADA}\nTo: All of Sales <sales@aldermill.example>\n\nHello.",
        others=("All of Sales <sales@aldermill.example>",),
        text="Hello.",
    ),
    Odd(
        "a web shop's confirmation, which says that a program wrote it",
        "From: Shop <orders@shop.example>\nTo: me@aldermill.example\nSubject: Your order 4711\nAuto-Submitted: auto-generated\n"
        + HTML,
        sender="Shop <orders@shop.example>",
        kind="bulk",
        subject="Your order 4711",
        text="Hello.",
    ),
]

TABLE = [*PEOPLE, *FILES, *MEETINGS, *REPORTS, *REPLIES, *LISTS]


@pytest.mark.parametrize("odd", TABLE, ids=lambda odd: odd.id)
def test_odd_mail_has_the_right_people_class_and_files(odd: Odd) -> None:
    parsed = parse(odd.mime, item_class=odd.item_class)
    message = parsed.message
    assert (written(message.sender) if message.sender else None) == odd.sender
    assert tuple(written(person) for person in (*message.to, *message.cc)) == odd.others
    assert (message.automatic.kind if message.automatic else None) == odd.kind
    assert listed(message) == odd.files
    assert (message.subject, message.text) == (odd.subject, odd.text)
    assert [len(parsed.content(a.ref)) for a in message.attachments] == [a.size_bytes for a in message.attachments]


@pytest.mark.parametrize("odd", TABLE, ids=lambda odd: odd.id)
def test_the_sidebar_knows_from_the_header_what_it_can(odd: Odd) -> None:
    head = odd.mime.partition(b"\r\n\r\n")[0].decode("utf-8", "replace")
    automatic = classify(head, odd.item_class)
    assert (automatic.kind if automatic else None) == (odd.kind if odd.pane == "as kind" else odd.pane)


@pytest.mark.parametrize("odd", [odd for odd in TABLE if odd.item_class], ids=lambda odd: odd.id)
def test_odd_mail_is_recognised_where_a_mailbox_tells_no_class(odd: Odd) -> None:
    automatic = parse(odd.mime).message.automatic
    assert (automatic.kind if automatic else None) == odd.kind


def test_the_table_is_as_large_as_it_claims() -> None:
    print(f"odd mail: {len(TABLE)} messages")
    assert len({odd.id for odd in TABLE}) == len(TABLE) >= 60


# Message-ID


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ("Message-ID: <one@example.org>\nMessage-ID: <two@example.org>\n", "one@example.org"),
        ("Message-ID: <one@example.org> <two@example.org>\n", "one@example.org"),
        ("Message-Id:\n <one@example.org>\n", "one@example.org"),
        ("MESSAGE-ID: one@example.org\n", "one@example.org"),
        ("Message-ID: <one@example.org\n", "one@example.org"),
        ("Message-ID: <>\nMessage-ID: <two@example.org>\n", "two@example.org"),
        ("Message-ID:\nMessage-ID: <two@example.org>\n", "two@example.org"),
        ("Message-ID: <[20261120100000.1@harrowgate]>\n", "[20261120100000.1@harrowgate]"),
        ("Message-ID: <one two@example.org>\n", "onetwo@example.org"),
        ("X-Message-ID: <one@example.org>\nResent-Message-ID: <two@example.org>\n", None),
        ("", None),
    ],
)
def test_a_missing_or_doubled_message_id(fields: str, key: str | None) -> None:
    raw = f"From: {ADA}\n{fields}Subject: x\n\nHello.".encode()
    found = message_key(parse(raw).message.message_id, mailbox=ME, immutable_id="A1")
    assert found == key if key else found.startswith("ssi-")


@pytest.mark.parametrize("local", ["*" * 300, "%" * 300, "*%" * 200 + "x" * 200, "x" * 752])
def test_every_message_id_makes_a_key_that_c4c_can_hold_and_be_asked_for(local: str) -> None:
    key = message_key(f"<{local}@example.org>", mailbox=ME, immutable_id="A1")
    assert len(groupware_item_id(key)) <= 765
    assert key != message_key(f"<{local}x@example.org>", mailbox=ME, immutable_id="A1")


# File names

_names = st.one_of(
    st.text(), st.sampled_from(ALL), st.lists(st.sampled_from([" ", "/", ".", "\u202e", "\ufffe", "a"])).map("".join)
)


@given(st.lists(_names, min_size=1, max_size=5))
def test_c4c_keeps_a_file_name_as_it_is_so_that_a_file_that_is_there_is_known(names: list[str]) -> None:
    taken: dict[str, int] = {}
    for name in names:
        safe = unique_name(safe_name(f"{name}.csv"), taken)
        assert one_line(safe) == safe == safe_name(safe)
        assert safe.endswith(".csv")
    assert len(taken) == len(names)
