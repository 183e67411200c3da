"""The demo's letters: one for every kind of message that the product must handle, and ordinary mail around them.

A `Letter` is a `Mail` with the mailboxes and the folder it lies in. `cases()` names each kind ("known_contact", "bounce", ...)
and adds the C4C records that make it so; `bulk()` writes the rest of a mailbox. Nothing here is random but `bulk()`, which is
given its `rng`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count

from simulator.mime import File, Mail, Mailto, Part
from simulator.records import Names, Tenant
from simulator.world import Person, Row

IDN_DOMAIN = "bücherwurm.example".encode("idna").decode()
BLOCKLISTED_DOMAIN = "bargain-mailer.example"
"""Mail from here is on the demo Organization's blocklist."""

PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\n"
    b"trailer<</Root 1 0 R>>\n%%EOF\n"
)
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360f8cfc00000030101003e8ab7c60000000049454e44ae426082"
)
"""One pixel."""
SHEET = b"Position;Quantity;Price\r\n1;200;14.50\r\n2;80;9.90\r\n" * 20
HUGE_BLOCK = bytes(range(57)) * 1024
HUGE_TIMES = 26 * 1024 * 1024 // len(HUGE_BLOCK) + 1


Who = Person | Row | Mailto
"""Somebody who can write or receive: an employee, a C4C record with an address, or a bare name and address."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail and where it lies. A `case` belongs to the first of the mailboxes; `return_path` None: the sender's address."""

    mail: Mail
    mailboxes: tuple[Person, ...]
    case: str = ""
    folder: str = "inbox"  # a well-known name, or a display name
    item_class: str = "IPM.Note"
    categories: tuple[str, ...] = ()
    is_read: bool = True
    return_path: str | None = None


class Cast:
    """Who appears in the cases: the demo company's people and the C4C records that the cases need.

    `user` is whose mailbox has the cases, `teammate` has set up the product too, `colleague` has not, `no_mailbox` has none.
    """

    def __init__(self, tenant: Tenant, people: list[Person], pool: Names, start: datetime) -> None:
        self.tenant = tenant
        self.pool = pool
        self.start = start
        self.people = people
        self.user, self.teammate = people[:2]
        self.colleague, self.no_mailbox = people[-2:]
        self._minutes = count(20, 37)
        self._names = count(20)
        self._ids = count(1)
        self.domains = ("harrowgate-pumps.example", "lindenhof-technik.example", "quayside-foods.example")
        titles = ("Harrowgate Pumps Ltd", "Lindenhof Technik GmbH", "Quayside Foods plc")
        self.accounts = [tenant.account(title, f"info@{domain}") for title, domain in zip(titles, self.domains, strict=True)]
        self.known = self.contact(0)
        tenant.opportunity("Second production line", self.accounts[0], self.known)
        tenant.ticket("Seal of pump 7 leaks", self.accounts[0], self.known)

    def person_name(self) -> tuple[str, str]:
        """Return a first and a last name that no other part of the cast has."""
        number = next(self._names)
        return self.pool.first[number % 300], self.pool.last[(number * 3) % 300]

    def contact(self, account: int, email: str = "", *, first: str = "", last: str = "") -> Row:
        """Add a contact of one of the cast's accounts; without an address it gets one with a running number."""
        made_first, made_last = self.person_name()
        number = next(self._ids)
        email = email or f"contact{number:02d}@{self.domains[account]}"
        return self.tenant.contact(first or made_first, last or made_last, email, self.accounts[account])

    def customer(self, email: str) -> Row:
        return self.tenant.individual_customer(*self.person_name(), email)

    def mail(
        self,
        sender: Who,
        subject: str,
        text: str,
        *to: Who,
        cc: tuple[Who, ...] = (),
        html: str | None = None,
        files: tuple[File, ...] = (),
    ) -> Mail:
        """Write a mail to `to`, else to the user, half an hour older than the one before; its Message-ID has a running number."""
        who = mailto(sender)
        date = self.start - timedelta(minutes=next(self._minutes))
        message_id = f"<{next(self._ids):05d}.demo@{who[1].partition('@')[2].lower()}>"
        recipients, copies = tuple(map(mailto, to or (self.user,))), tuple(map(mailto, cc))
        return Mail(date, subject, who, recipients, copies, message_id=message_id, text=text, html=html, files=files)

    def case(self, name: str, mail: Mail, *mailboxes: Person, item_class: str = "IPM.Note", is_read: bool = True) -> Letter:
        """A named letter in these people's inboxes, without any in the user's."""
        return Letter(mail, mailboxes or (self.user,), name, item_class=item_class, is_read=is_read)


def mailto(who: Who) -> Mailto:
    """The display name and address of a person, of a contact, individual customer or lead, or as given."""
    if isinstance(who, Person):
        return who.name, who.email
    if isinstance(who, tuple):
        return who
    if "ContactEMail" in who:
        return who["ContactName"], who["ContactEMail"]
    return who.get("FormattedName") or who["Name"], who["Email"]


def cases(cast: Cast) -> Iterator[Letter]:
    """Yield every kind of message the product must handle; most lie in the user's inbox."""
    yield from _who_is_it(cast)
    yield from _who_may_see_it(cast)
    yield from _how_it_is_addressed(cast)
    yield from _automatic(cast)
    yield from _what_it_carries(cast)
    yield from _together(cast)


def _who_is_it(cast: Cast) -> Iterator[Letter]:
    """Senders and recipients of every kind."""
    text = "Hello,\n\ncould you confirm the dates for the second lot?\n\nKind regards"
    yield cast.case("known_contact", cast.mail(cast.known, "Delivery dates for the second lot", text), is_read=False)
    shared = f"purchasing@{cast.domains[0]}"
    cast.contact(0, shared)
    cast.contact(1, shared)
    cast.customer(shared)
    yield cast.case("several_records", cast.mail(("Purchasing", shared), "Order 4711", "Please find our order below."))
    private = cast.customer("private.customer@example.net")
    yield cast.case("individual_customer", cast.mail(private, "Question about my invoice", "Which account do I pay to?"))
    office = ("Quayside Foods", f"info@{cast.domains[2]}")
    yield cast.case("account_only", cast.mail(office, "New opening hours", "We open at seven now."))
    lead = cast.tenant.lead(*cast.person_name(), "first.contact@willow-timber.example", "Willow Timber Ltd")
    yield cast.case("lead", cast.mail(lead, "Your stand at the fair", "We met at the fair and would like an offer."))
    stranger = (" ".join(cast.person_name()), "someone.new@unheard-of.example")
    yield cast.case("unknown_sender", cast.mail(stranger, "Request", "Do you ship to Norway?"), is_read=False)
    yield cast.case("ten_recipients", _ten_recipients(cast), cast.user, cast.teammate)


def _ten_recipients(cast: Cast) -> Mail:
    contacts = [cast.contact(n % 3) for n in range(4)]
    strangers = [(" ".join(cast.person_name()), f"guest{n}@unheard-of.example") for n in range(2)]
    to: tuple[Who, ...] = (cast.user, cast.teammate, *contacts, *strangers)
    cc: tuple[Who, ...] = (cast.customer("round.table@example.net"), cast.colleague)
    return cast.mail(cast.known, "Round table: agenda", "Dear all,\n\nthe agenda is below.", *to, cc=cc)


def _who_may_see_it(cast: Cast) -> Iterator[Letter]:
    """Mail that is nobody's business outside, and people who may not see what others see."""
    lunch = cast.mail(cast.colleague, "Canteen", "Lunch at twelve?", cc=(cast.no_mailbox,))
    yield cast.case("colleagues_only", lunch, cast.user, cast.colleague)
    bargains = ("Bargains", f"deals@{BLOCKLISTED_DOMAIN}")
    yield cast.case("blocklisted", cast.mail(bargains, "Last chance", "Everything must go."))
    hidden = cast.contact(1)
    cast.tenant.crm.visible_to[hidden["ObjectID"]] = frozenset({cast.teammate.user_id})
    both = (cast.user, cast.teammate)
    yield cast.case("restricted_contact", cast.mail(hidden, "Confidential offer", "As discussed.", *both), *both)
    aside = cast.mail(cast.known, "A word to your colleague", "Please call me.", cast.colleague)
    yield cast.case("not_set_up", aside, cast.colleague)


def _how_it_is_addressed(cast: Cast) -> Iterator[Letter]:
    """Addresses that are spelled or written in ways that break naive readers."""
    domain, user = cast.domains[0], cast.user
    mixed = cast.contact(0, f"Mixed.Case@{domain.title()}")
    yield cast.case("mixed_case", cast.mail((mixed["Name"], mixed["Email"].lower()), "Samples", "The samples arrived."))
    lower = cast.contact(0, f"lower.case@{domain}")
    shouted = (lower["Name"], f"Lower.Case@{domain.upper()}")
    yield cast.case("mixed_case_header", cast.mail(shouted, "Samples, again", "All of them."))
    plus = cast.contact(2)
    tagged = (plus["Name"], plus["Email"].replace("@", "+offers@"))
    yield cast.case("plus_tag", cast.mail(tagged, "Offer wanted", "For 200 pieces."))
    idn = cast.contact(1, f"kontakt@{IDN_DOMAIN}", first="Jürgen", last="Größe")
    text = "Schöne Grüße!\n\nIhr Jürgen Größe 📦"
    yield cast.case("idn", cast.mail(idn, "Grüße aus München – Ähren, Öl & Übermaß", text))
    comma = cast.contact(0, first="Clara", last="Ashdown")
    sender = ("Ashdown, Clara (Purchasing)", comma["Email"])
    first, _, last = user.name.partition(" ")
    reader = (f"{last}, {first}", user.email)
    yield cast.case("comma_name", cast.mail(sender, "Contract, second draft", "See my comments.", reader))
    group = cast.mail(cast.known, "To all our suppliers", "Please note the new address.")
    yield cast.case("group_syntax", replace(group, to=(), raw=(("To", "undisclosed-recipients:;"),)))
    members = f"{comma['Email']}, {lower['Email']}, {user.email}"
    named = cast.mail(cast.known, "Project team", "Kick-off on Monday.")
    yield cast.case("group_named", replace(named, raw=(("To", f'"Project team": {members};'),)))
    bare = cast.mail(("", cast.known["Email"]), "No name given", "Sent from my phone", ("", user.email))
    yield cast.case("no_message_id", replace(bare, message_id=None))


def _automatic(cast: Cast) -> Iterator[Letter]:
    """Mail that no person wrote, and a meeting answer."""
    user, own = cast.user, cast.user.email.partition("@")[2]
    bounce = cast.mail(("Mail Delivery System", f"MAILER-DAEMON@{own}"), "Undeliverable: Price list", "")
    receipt = cast.mail(cast.known, "Read: Price list", "")
    absent = cast.mail(cast.known, "Automatic reply: Price list", "I am out of the office until Monday.")
    sent = cast.mail(user, "Price list", "Here is our price list.", ("", f"gone@{cast.domains[0]}"), cast.known)
    yield Letter(sent, (user,), "undelivered", folder="sentitems")
    automatic = ("Auto-Submitted", "auto-replied")
    bounce = replace(bounce, raw=(automatic,), root=_dsn(sent, own))
    yield replace(cast.case("bounce", bounce, item_class="REPORT.IPM.Note.NDR"), return_path="")
    yield cast.case("receipt", replace(receipt, root=_mdn(cast.known["Email"], sent)), item_class="REPORT.IPM.Note.IPNRN")
    absent = replace(absent, raw=(automatic, ("X-Auto-Response-Suppress", "All")))
    out = cast.case("out_of_office", absent, item_class="IPM.Note.Rules.OofTemplate.Microsoft")
    yield replace(out, return_path="")
    answer = cast.mail(cast.known, "Accepted: Site visit", "")
    answer = replace(answer, root=_calendar_reply(answer, user.email))
    yield cast.case("meeting_answer", answer, item_class="IPM.Schedule.Meeting.Resp.Pos")
    news = cast.mail(
        ("Pump World Weekly", "news@pump-world.example"),
        "Pump World Weekly 47",
        "This week in pumps.",
        html="<h1>This week in pumps</h1>",
    )
    lists = (
        ("List-Id", "Pump World Weekly <weekly.pump-world.example>"),
        ("List-Unsubscribe", "<https://pump-world.example/leave>, <mailto:leave@pump-world.example>"),
        ("Precedence", "bulk"),
    )
    yield replace(cast.case("newsletter", replace(news, raw=lists)), return_path="bounces@pump-world.example")


def _dsn(lost: Mail, host: str) -> Part:
    """A delivery status notification (RFC 3464)."""
    recipient = lost.to[0][1]
    status = f"Reporting-MTA: dns;mx.{host}\n\nFinal-Recipient: rfc822;{recipient}\nAction: failed\nStatus: 5.1.1\n"
    head = f"From: {lost.sender[1]}\nTo: {recipient}\nSubject: {lost.subject}\nMessage-ID: {lost.message_id}\n"
    return Part(
        "multipart/report; report-type=delivery-status",
        (
            Part("text/plain; charset=us-ascii", f"Delivery to {recipient} failed: unknown user.\n"),
            Part("message/delivery-status", status),
            Part("text/rfc822-headers", head),
        ),
    )


def _mdn(reader: str, original: Mail) -> Part:
    """A message disposition notification (RFC 8098)."""
    status = (
        f"Final-Recipient: rfc822;{reader}\nOriginal-Message-ID: {original.message_id}\n"
        "Disposition: manual-action/MDN-sent-manually; displayed\n"
    )
    return Part(
        "multipart/report; report-type=disposition-notification",
        (Part("text/plain; charset=us-ascii", "Your message was read.\n"), Part("message/disposition-notification", status)),
    )


def _calendar_reply(mail: Mail, organizer: str) -> Part:
    """The answer to an invitation (RFC 5546, METHOD:REPLY)."""
    begins = mail.date.replace(microsecond=0) + timedelta(days=7)
    lines = (
        "BEGIN:VCALENDAR", "PRODID:-//SSI Sidebar//Demo//EN", "VERSION:2.0", "METHOD:REPLY", "BEGIN:VEVENT",
        "UID:site-visit@demo.example", f"DTSTAMP:{mail.date:%Y%m%dT%H%M%SZ}", f"DTSTART:{begins:%Y%m%dT%H%M%SZ}",
        f"DTEND:{begins + timedelta(hours=1):%Y%m%dT%H%M%SZ}", "SUMMARY:Site visit", f"ORGANIZER:mailto:{organizer}",
        f"ATTENDEE;PARTSTAT=ACCEPTED:mailto:{mail.sender[1]}", "END:VEVENT", "END:VCALENDAR",
    )  # fmt: skip
    return Part(
        "multipart/alternative",
        (Part("text/plain; charset=utf-8", ""), Part("text/calendar; charset=utf-8; method=REPLY", "\n".join(lines) + "\n")),
    )


def _what_it_carries(cast: Cast) -> Iterator[Letter]:
    """Attachments, hostile text, categories of the user's own."""
    pdf = File("Offer 2026-118.pdf", "application/pdf", PDF)
    text, page = "Hello,\n\nthe signed offer is attached.", "<p>Hello,</p><p>the signed offer is attached.</p>"
    signed = cast.mail(cast.known, "Signed offer", text, html=page, files=(pdf,))
    yield cast.case("with_attachment_known_contact", signed)
    files = (
        File("logo.png", "image/png", PNG, content_id="logo@demo.example"),
        pdf,
        replace(pdf, data=PDF + b"% second version\n"),
        File("Preisübersicht – März.csv", "text/csv", SHEET),
        File("setup.exe", "application/octet-stream", b"MZ" + bytes(500)),
        File("pixel.gif", "image/gif", b"GIF89a" + bytes(20)),
    )
    page = '<p>All files attached.</p><img src="cid:logo@demo.example">'
    everything = cast.mail(cast.contact(1), "Everything you asked for", "All files attached.", html=page, files=files)
    yield cast.case("attachments", everything)
    drawings = (File("drawings.zip", "application/zip", HUGE_BLOCK, HUGE_TIMES), File("list.csv", "text/csv", SHEET))
    yield cast.case("too_large", cast.mail(cast.known, "All drawings", "Rather large.", files=drawings))
    yield cast.case("hostile", _hostile(cast))
    mine = cast.case("own_category", cast.mail(cast.known, "Following up", "Any news?"))
    yield replace(mine, categories=("Follow-up", "Offer"))


def _hostile(cast: Cast) -> Mail:
    """Text that means something to a browser, a template, a filter, a spreadsheet or a file system."""
    first, last = "<img src=x onerror=alert(1)>", "{{7*7}}' or 1 eq 1 or Email eq '"
    sender = cast.contact(0, first=first, last=last)["Email"]
    return cast.mail(
        ('"><script>alert(1)</script>', sender),
        "</title><script>alert('subject')</script>${7*7}",
        "<script>alert('text')</script>\n=HYPERLINK(\"http://example.com\")",
        html="<script>alert('html')</script><p onclick=alert(2)>Click</p>",
        files=(File("<svg onload=alert(3)>..%2F..%2F'quote\".txt", "text/plain", b"harmless\r\n"),),
    )


def _together(cast: Cast) -> Iterator[Letter]:
    """Mail that belongs together: one for two mailboxes, and a thread."""
    both = (cast.user, cast.teammate)
    yield cast.case("shared_message_id", cast.mail(cast.known, "For both of you", "Please decide between you.", *both), *both)
    partner = cast.contact(2)
    last = cast.mail(partner, "Re: Trial run", "Tuesday is fine.")
    reply = cast.mail(cast.user, "Re: Trial run", "Would Tuesday suit you?", partner)
    first = cast.mail(partner, "Trial run", "When can we start?")
    ids = [m.message_id or "" for m in (first, reply)]
    yield cast.case("thread_start", first)
    yield Letter(replace(reply, references=(ids[0],)), (cast.user,), "thread_sent", folder="sentitems")
    yield cast.case("thread", replace(last, references=(ids[0], ids[1])), is_read=False)


TOPICS = {
    "en": (
        ("Quarterly figures", "Please find the figures below."),
        ("Visit next week", "Does Thursday morning suit you?"),
        ("Spare parts", "We need twelve seals of type B."),
        ("Change of address", "From Monday you reach us at the new site."),
        ("Complaint", "Two of the boxes arrived open."),
        ("Offer", "Could you quote for another 500 pieces?"),
    ),
    "de": (
        ("Angebot für Dichtungen", "Bitte senden Sie uns ein Angebot über 300 Stück."),
        ("Terminvorschlag", "Passt Ihnen Mittwoch um zehn?"),
        ("Rückfrage zur Rechnung", "Die Menge in Zeile 3 stimmt nicht."),
        ("Lieferschein fehlt", "Können Sie ihn noch einmal schicken?"),
        ("Grüße zum Jubiläum", "Herzlichen Glückwunsch zum Firmenjubiläum!"),
        ("Muster eingetroffen", "Die Muster sind heute angekommen."),
    ),
}


def bulk(cast: Cast, owner: Person, contacts: list[tuple[Row, Row]], letters: int, rng: random.Random) -> Iterator[Letter]:
    """Yield ordinary mail of the last weeks for one mailbox: mostly contacts, some strangers, colleagues and newsletters."""
    colleagues = [p for p in cast.people if p is not owner]
    folders = {"sent": "sentitems", "draft": "drafts", "deleted": "deleteditems"}
    for number in range(letters):
        subject, text = rng.choice(TOPICS[owner.language])
        body = f"{text}\n\n{rng.choice(('Kind regards', 'Viele Grüße', 'Best'))}"
        kind = rng.choices(("contact", "stranger", "colleague", "news", "sent", "draft", "deleted"), (50, 12, 9, 8, 14, 3, 4))[0]
        contact = rng.choice(contacts)[0]
        senders: dict[str, Who] = {
            "stranger": (f"{rng.choice(cast.pool.first)} {rng.choice(cast.pool.last)}", f"person{number}@unheard-of.example"),
            "colleague": rng.choice(colleagues),
            "news": ("Trade Letter", "letter@trade-letter.example"),
            "sent": owner,
            "draft": owner,
        }
        to = contact if kind in ("sent", "draft") else owner
        files = (File(f"Document {number}.pdf", "application/pdf", PDF),) if rng.random() < 0.2 else ()
        mail = cast.mail(senders.get(kind, contact), subject, body, to, files=files)
        raw = (("List-Id", "<letter.trade-letter.example>"), ("Precedence", "bulk")) if kind == "news" else ()
        mail = replace(mail, raw=raw, date=cast.start - timedelta(days=1, minutes=rng.randrange(60 * 24 * 60)))
        folder = folders.get(kind) or rng.choice(("inbox",) * 5 + ("Projects",))
        yield Letter(mail, (owner,), folder=folder, is_read=rng.random() < 0.7)
