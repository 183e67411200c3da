"""The demo World holds what it says it holds: every case is there, is what its name says, and comes out the same again.

Messages are read back with Python's own e-mail package, not with the simulator's reader.
"""

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest

from simulator import demo, mime
from simulator.mail_cases import BLOCKLISTED_DOMAIN
from simulator.world import CONSUMERS, AccessType, Row, StoredMessage, World
from tests.contracts import contract

MEGABYTE = 1024 * 1024
RESERVED = re.compile(r"(\.example|(^|\.)example\.(com|net|org))$")


@pytest.fixture(scope="module")
def world() -> World:
    """Shared by the tests of this module, which only read it."""
    return demo.small()


@pytest.fixture(scope="module")
def full() -> World:
    return demo.build()


def stored(world: World, case: str) -> StoredMessage:
    mailbox, identifier = world.cases[case]
    return world.mailbox(mailbox).messages[identifier]


def parsed(world: World, case: str) -> EmailMessage:
    message = message_from_bytes(stored(world, case).mime, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def sender(world: World, case: str) -> str:
    return str(parsed(world, case)["From"].addresses[0].addr_spec)


def found(world: World, entity_set: str, address: str, field: str = "Email") -> list[Row]:
    """Who has exactly this address: C4C compares case and all."""
    return [row for row in world.crm.rows(entity_set).values() if row.get(field) == address]


def kinds(world: World, address: str) -> Counter[str]:
    sets = {"ContactCollection": "Email", "IndividualCustomerCollection": "Email", "CorporateAccountCollection": "Email"}
    sets |= {"LeadCollection": "ContactEMail", "EmployeeBasicDataCollection": "Email"}
    return Counter({name: n for name, field in sets.items() if (n := len(found(world, name, address, field)))})


# Who the mail is from


def test_senders_are_the_records_that_the_case_names(world: World) -> None:
    expected = {
        "known_contact": {"ContactCollection": 1},
        "several_records": {"ContactCollection": 2, "IndividualCustomerCollection": 1},
        "individual_customer": {"IndividualCustomerCollection": 1},
        "account_only": {"CorporateAccountCollection": 1},
        "lead": {"LeadCollection": 1},
        "unknown_sender": {},
        "colleagues_only": {"EmployeeBasicDataCollection": 1},
        "idn": {"ContactCollection": 1},
        "hostile": {"ContactCollection": 1},
        "restricted_contact": {"ContactCollection": 1},
    }
    assert {case: dict(kinds(world, sender(world, case))) for case in expected} == expected


def test_the_known_contact_has_an_account_and_business_with_us(world: World) -> None:
    contact = found(world, "ContactCollection", sender(world, "known_contact"))[0]
    related = world.crm.children("ContactIsContactPersonForCollection", contact["ObjectID"])
    assert [(r["AccountID"], r["ReverseMainIndicator"]) for r in related] == [(contact["AccountID"], True)]
    for entity_set, field in (
        ("OpportunityCollection", "PrimaryContactPartyID"),
        ("ServiceRequestCollection", "BuyerMainContactPartyID"),
    ):
        assert [r for r in world.crm.rows(entity_set).values() if r[field] == contact["ContactID"]]


def test_ten_recipients_are_ten_of_many_kinds(world: World) -> None:
    message = parsed(world, "ten_recipients")
    addresses = [a.addr_spec for a in (*message["To"].addresses, *message["Cc"].addresses)]
    assert len(set(addresses)) == 10
    assert {k for a in addresses for k in kinds(world, a)} == {
        "ContactCollection", "IndividualCustomerCollection", "EmployeeBasicDataCollection",
    }  # fmt: skip
    assert any(not kinds(world, a) for a in addresses)


def test_colleagues_only_has_nobody_from_outside(world: World) -> None:
    message = parsed(world, "colleagues_only")
    everybody = [a.addr_spec for field in ("From", "To", "Cc") for a in message[field].addresses]
    assert {a.partition("@")[2] for a in everybody} == {demo.OWN_DOMAIN}
    assert len(everybody) == 3


def test_blocklisted_mail_comes_from_the_blocklisted_domain(world: World) -> None:
    assert sender(world, "blocklisted").endswith("@" + BLOCKLISTED_DOMAIN)


def test_the_restricted_contact_is_hidden_from_one_reader_of_the_mail(world: World) -> None:
    user, teammate = world.people[:2]
    contact = found(world, "ContactCollection", sender(world, "restricted_contact"))[0]
    assert world.crm.visible_to[contact["ObjectID"]] == {teammate.user_id}
    assert [a.addr_spec for a in parsed(world, "restricted_contact")["To"].addresses] == [user.email, teammate.email]


# How it is addressed


def test_spelling_differs_between_header_and_c4c(world: World) -> None:
    for case in ("mixed_case", "mixed_case_header"):
        address = sender(world, case)
        assert not found(world, "ContactCollection", address)
        assert len([r for r in world.crm.rows("ContactCollection").values() if r["Email"].lower() == address.lower()]) == 1
    assert sender(world, "mixed_case").islower()
    assert not sender(world, "mixed_case_header").islower()
    local, _, domain = sender(world, "plus_tag").partition("@")
    assert "+" in local
    assert found(world, "ContactCollection", f"{local.partition('+')[0]}@{domain}")


def test_international_names_are_encoded_and_the_domain_is_an_a_label(world: World) -> None:
    message = parsed(world, "idn")
    address = message["From"].addresses[0]
    assert (address.display_name, address.domain[:4]) == ("Jürgen Größe", "xn--")
    assert address.domain.encode().decode("idna") == "bücherwurm.example"
    assert "ß" in message["Subject"]
    assert stored(world, "idn").mime.partition(b"\r\n\r\n")[0].isascii()


def test_a_comma_in_a_name_does_not_split_it(world: World) -> None:
    message = parsed(world, "comma_name")
    assert [a.display_name for a in message["From"].addresses] == ["Ashdown, Clara (Purchasing)"]
    assert [a.display_name.count(",") for a in message["To"].addresses] == [1]


def test_groups_are_written_as_groups(world: World) -> None:
    empty, named = parsed(world, "group_syntax")["To"], parsed(world, "group_named")["To"]
    assert [(g.display_name, len(g.addresses)) for g in empty.groups] == [("undisclosed-recipients", 0)]
    assert [(g.display_name, len(g.addresses)) for g in named.groups] == [("Project team", 3)]


def test_one_message_has_no_id_and_all_others_have_their_own(full: World) -> None:
    assert parsed(full, "no_message_id")["Message-ID"] is None
    for mailbox in full.mailboxes.values():
        ids = [mime.read(m.mime).text_of("Message-ID") for m in mailbox.messages.values()]
        assert {i for i, n in Counter(ids).items() if n > 1} <= {""}


# What no person wrote


@pytest.mark.parametrize(
    ("case", "item_class", "content_type"),
    [
        ("bounce", "REPORT.IPM.Note.NDR", "multipart/report"),
        ("receipt", "REPORT.IPM.Note.IPNRN", "multipart/report"),
        ("out_of_office", "IPM.Note.Rules.OofTemplate.Microsoft", "text/plain"),
        ("meeting_answer", "IPM.Schedule.Meeting.Resp.Pos", "multipart/alternative"),
        ("newsletter", "IPM.Note", "multipart/alternative"),
    ],
)
def test_automatic_mail_has_its_class_and_form(world: World, case: str, item_class: str, content_type: str) -> None:
    assert stored(world, case).item_class == item_class
    assert parsed(world, case).get_content_type() == content_type


def test_automatic_mail_says_so_in_its_header(world: World) -> None:
    assert parsed(world, "bounce")["Return-Path"] == "<>"
    assert parsed(world, "undelivered")["Date"].datetime < parsed(world, "bounce")["Date"].datetime
    assert [p.get_content_type() for p in parsed(world, "bounce").iter_parts()][1:] == [
        "message/delivery-status", "text/rfc822-headers",
    ]  # fmt: skip
    assert parsed(world, "receipt").get_param("report-type") == "disposition-notification"
    assert parsed(world, "out_of_office")["Auto-Submitted"] == "auto-replied"
    assert {"List-Id", "List-Unsubscribe", "Precedence"} <= set(parsed(world, "newsletter").keys())
    calendar = next(p for p in parsed(world, "meeting_answer").walk() if p.get_content_type() == "text/calendar")
    assert "PARTSTAT=ACCEPTED" in calendar.get_content()


def test_ordinary_mail_carries_no_mark_of_a_machine(world: World) -> None:
    for case in ("known_contact", "lead", "thread", "attachments", "too_large"):
        assert not {"Auto-Submitted", "Precedence", "List-Id"} & set(parsed(world, case).keys())
        assert stored(world, case).item_class == "IPM.Note"


# What it carries


def test_attachments_are_of_every_kind(world: World) -> None:
    files = [(p.get_filename(), p.get_content_disposition()) for p in parsed(world, "attachments").walk() if p.get_filename()]
    assert sorted(files) == sorted(
        [
            ("logo.png", "inline"), ("Offer 2026-118.pdf", "attachment"), ("Offer 2026-118.pdf", "attachment"),
            ("Preisübersicht – März.csv", "attachment"), ("setup.exe", "attachment"), ("pixel.gif", "attachment"),
        ]
    )  # fmt: skip
    image = next(p for p in parsed(world, "attachments").walk() if p.get_filename() == "logo.png")
    assert image["Content-ID"] == "<logo@demo.example>"
    first, second = (p.get_content() for p in parsed(world, "attachments").walk() if p.get_filename() == "Offer 2026-118.pdf")
    assert first != second
    assert b"filename*=utf-8''" in stored(world, "attachments").mime
    assert [p.get_filename() for p in parsed(world, "with_attachment_known_contact").iter_attachments()] == ["Offer 2026-118.pdf"]


def test_one_file_is_over_25_megabytes_and_written_only_when_read(world: World) -> None:
    sizes = {p.get_filename(): len(p.get_content()) for p in parsed(world, "too_large").iter_attachments()}
    assert 25 * MEGABYTE < sizes["drawings.zip"] < 27 * MEGABYTE
    assert {leaf.name: leaf.size_bytes for leaf in mime.read(stored(world, "too_large").mime).attachments}["drawings.zip"] == (
        sizes["drawings.zip"]
    )


def test_hostile_text_is_everywhere_and_survives(world: World) -> None:
    message = parsed(world, "hostile")
    contact = found(world, "ContactCollection", sender(world, "hostile"))[0]
    names = [p.get_filename() for p in message.walk() if p.get_filename()]
    texts = (message["Subject"], message["From"].addresses[0].display_name, names[0], contact["Name"])
    assert all("<" in text and "alert" in text for text in texts)


def test_a_users_own_categories_are_on_a_message_and_in_the_master_list(world: World) -> None:
    message = stored(world, "own_category")
    names = {c.name for c in world.mailbox(world.cases["own_category"][0]).categories.values()}
    assert message.categories
    assert set(message.categories) <= names


# What belongs together


def test_one_message_lies_in_two_mailboxes(world: World) -> None:
    wanted = parsed(world, "shared_message_id")["Message-ID"]
    holders = [
        box.owner for box in world.mailboxes.values() for m in box.messages.values()
        if mime.read(m.mime).text_of("Message-ID") == wanted
    ]  # fmt: skip
    assert [p.email for p in holders] == [p.email for p in world.people[:2]]


def test_a_thread_refers_to_itself_and_is_one_conversation(world: World) -> None:
    start, sent, last = (parsed(world, name) for name in ("thread_start", "thread_sent", "thread"))
    assert sent["In-Reply-To"] == start["Message-ID"]
    assert last["In-Reply-To"] == sent["Message-ID"]
    assert last["References"].split() == [start["Message-ID"], sent["Message-ID"]]
    assert len({stored(world, name).conversation_id for name in ("thread_start", "thread_sent", "thread")}) == 1
    assert stored(world, "thread_sent").folder == world.mailbox(world.people[0].email).folder("sentitems").id


# The whole


def test_every_case_of_the_full_world_is_in_the_small_one(full: World, world: World) -> None:
    assert set(full.cases) == set(world.cases)
    assert len(full.cases) >= 26


def test_the_full_world_is_of_the_size_that_was_asked_for(full: World) -> None:
    sizes = {name: len(rows) for name, rows in full.crm.sets.items()}
    asked = {
        "ContactCollection": 2000, "CorporateAccountCollection": 500, "IndividualCustomerCollection": 300, "LeadCollection": 200,
        "OpportunityCollection": 400, "ServiceRequestCollection": 300, "EMailCollection": 100, "AppointmentCollection": 100,
    }  # fmt: skip
    assert {name: n for name, n in asked.items() if sizes[name] < n} == {}
    provisioned = [p for p in full.people if p.provisioned and p.connected]
    elsewhere = ["exchange_direct", "exchange_impersonation", "google"]
    assert [p.access_type for p in provisioned] == ["office365"] * 6 + elsewhere
    counts = [len(full.mailbox(p.email).messages) for p in provisioned]
    assert min(counts) >= 85
    assert {p.language for p in full.people} == {"en", "de"}


def test_a_mailbox_at_google_has_googles_ids_and_no_item_classes(full: World) -> None:
    person = next(p for p in full.people if p.access_type == "google")
    items = demo.items(full, person)
    assert {(item["id_form"], item["item_class"]) for item in items} == {("gmail", "")}
    assert all(re.fullmatch("[0-9a-f]{16}", item["id"]) and item["headers"] for item in items)
    assert set(full.mailbox(person.email).categories) == {"Label_1", "Label_2", "Label_3"}


@pytest.mark.parametrize("access_type", ["exchange_direct", "exchange_impersonation", "google"])
def test_a_person_who_is_rehomed_keeps_every_message_and_case(access_type: AccessType) -> None:
    world = demo.small()
    person = world.people[0]
    messages, cases = list(world.mailbox(person.email).messages.values()), {case: stored(world, case) for case in world.cases}
    demo.rehome(world, person, access_type)
    assert all(a is b for a, b in zip(world.mailbox(person.email).messages.values(), messages, strict=True))
    assert all(stored(world, case) is message for case, message in cases.items())
    assert {item["mailbox"] for item in demo.items(world, person)} == {person.email}


def test_one_colleague_has_a_mailbox_but_is_not_set_up_and_one_has_none(full: World) -> None:
    with_mailbox, without = [p for p in full.people if not p.provisioned]
    assert full.cases["not_set_up"][0] == with_mailbox.email
    assert without.email not in full.mailboxes
    for person in (with_mailbox, without):
        assert found(full, "EmployeeBasicDataCollection", person.email)


def test_the_newcomers_have_a_mailbox_each_and_known_contacts_write_to_them(full: World) -> None:
    newcomers = [p for p in full.people if not p.connected]
    assert newcomers == full.people[-4:]
    assert [p.access_type for p in newcomers] == ["office365", "exchange_direct", "google", "office365"]
    assert [full.tenant_of(p) for p in newcomers] == [full.entra_tenant] * 3 + [CONSUMERS]
    assert [p.email.partition("@")[2] for p in newcomers] == [demo.OWN_DOMAIN] * 3 + [demo.CONSUMER_DOMAIN]
    known = {row["Email"].lower() for row in full.crm.rows("ContactCollection").values()}
    for person in newcomers:
        items = demo.items(full, person)
        assert len(items) == 20
        assert sum(item["from"]["address"].lower() in known for item in items) >= 5
        assert found(full, "BusinessUserCollection", person.email, "EmailURI")[0]["UserID"] == person.user_id


@pytest.mark.parametrize("seed", [20261122, 7])
def test_the_newcomers_change_nothing_for_those_who_were_there(seed: int) -> None:
    without, with_them = demo.small(seed), demo.small(seed, newcomers=True)
    assert with_them.people[:-4] == without.people
    assert with_them.cases == without.cases
    for address, mailbox in without.mailboxes.items():
        grown = with_them.mailbox(address)
        assert (list(grown.folders), list(grown.categories), grown.change) == (
            list(mailbox.folders),
            list(mailbox.categories),
            mailbox.change,
        )
        assert [(m.immutable_id, m.ews_id, m.conversation_id, m.change) for m in grown.messages.values()] == [
            (m.immutable_id, m.ews_id, m.conversation_id, m.change) for m in mailbox.messages.values()
        ]
    for name, rows in without.crm.sets.items():
        assert list(with_them.crm.sets[name])[: len(rows)] == list(rows)


def test_ids_of_the_full_world_are_unique(full: World) -> None:
    messages = [m for box in full.mailboxes.values() for m in box.messages.values()]
    for ids in ([m.immutable_id for m in messages], [m.rest_id for m in messages], [p.user_id for p in full.people]):
        assert len(ids) == len(set(ids))
    for entity_set, field in (
        ("ContactCollection", "ContactID"),
        ("CorporateAccountCollection", "AccountID"),
        ("LeadCollection", "ID"),
    ):
        rows = full.crm.rows(entity_set).values()
        assert len({r[field] for r in rows}) == len(rows)


def test_c4c_holds_mixed_case_duplicates_and_hidden_records(full: World) -> None:
    addresses = Counter(r["Email"].lower() for r in full.crm.rows("ContactCollection").values())
    assert sum(1 for n in addresses.values() if n > 1) > 20
    assert sum(1 for r in full.crm.rows("ContactCollection").values() if not r["Email"].islower()) > 100
    assert len(full.crm.visible_to) > 20


def test_all_addresses_are_at_reserved_domains(full: World) -> None:
    rows = [r for entity_set in full.crm.sets.values() for r in entity_set.values()]
    addresses = {v for r in rows for v in r.values() if isinstance(v, str) and re.fullmatch(r"[^@\s<>']+@[^@\s<>']+", v)}
    addresses |= {a for box in full.mailboxes.values() for m in box.messages.values() for a in written_addresses(m)}
    assert len(addresses) > 2000
    assert [a for a in addresses if not RESERVED.search(a.partition("@")[2].lower())] == []


def written_addresses(message: StoredMessage) -> Iterable[str]:
    parsed = mime.read(message.mime)
    return [address for field in ("From", "To", "Cc", "Bcc") for _, address in parsed.addresses(field)]


def test_two_worlds_are_equal_but_for_their_times() -> None:
    def essence(world: World) -> Any:
        rows = {name: list(rows) for name, rows in world.crm.sets.items()}
        names = [r["Name"] for r in world.crm.rows("ContactCollection").values()]
        messages = {
            a: [(m.immutable_id, m.ews_id, m.conversation_id, m.change) for m in b.messages.values()]
            for a, b in world.mailboxes.items()
        }
        categories = {a: list(b.categories) for a, b in world.mailboxes.items()}
        folders = {a: list(b.folders) for a, b in world.mailboxes.items()}
        return world.people, rows, names, messages, categories, folders, world.cases

    assert essence(demo.build()) == essence(demo.build())
    assert essence(demo.small(1)) != essence(demo.small(2))


def test_dates_lie_before_now_and_agree(full: World) -> None:
    now = full.now()
    for mailbox in full.mailboxes.values():
        for message in mailbox.messages.values():
            sent = mime.read(message.mime).fields["Date"].datetime
            assert timedelta() <= message.received_at - sent < timedelta(minutes=1)
            assert message.received_at <= now


# As an add-in sees it


def test_items_are_decoded_and_ready_to_post(world: World) -> None:
    user = world.people[0]
    items = {item["id"]: item for item in demo.items(world, user)}
    assert len(items) == len(world.mailbox(user.email).messages)
    item = items[stored(world, "comma_name").rest_id]
    assert set(item) == {
        "id", "id_form", "mailbox", "internet_message_id", "conversation_id", "subject", "from", "to", "cc", "bcc", "headers",
        "item_class",
    }  # fmt: skip
    assert (item["id_form"], item["mailbox"]) == ("rest", user.email)
    assert item["from"]["name"] == "Ashdown, Clara (Purchasing)"
    assert [r["address"] for r in item["to"]] == [user.email]
    assert items[stored(world, "no_message_id").rest_id]["internet_message_id"] == ""
    assert items[stored(world, "group_syntax").rest_id]["to"] == []
    assert items[stored(world, "thread_sent").rest_id]["headers"] == ""
    head = message_from_bytes(items[stored(world, "newsletter").rest_id]["headers"].encode(), policy=policy.default)
    assert head["Precedence"] == "bulk"


# MIME, written and read


def test_our_reader_and_pythons_agree(full: World) -> None:
    for name in sorted(set(full.cases) - {"too_large", "bounce", "receipt"}):
        ours, theirs = mime.read(stored(full, name).mime), parsed(full, name)
        assert theirs.defects == []
        assert ours.text_of("Subject") == theirs["Subject"]
        contents = [p.get_payload(decode=True) for p in theirs.walk() if not p.is_multipart()]
        assert [leaf.content() for leaf in ours.leaves] == contents


def test_reports_stay_closed_to_our_reader(full: World) -> None:
    types = [leaf.content_type for leaf in mime.read(stored(full, "bounce").mime).leaves]
    assert types == ["text/plain", "message/delivery-status", "text/rfc822-headers"]


# Names


def test_rows_use_names_of_the_real_metadata(full: World) -> None:
    tree = ET.parse(contract("c4c/c4codataapi.edmx"))
    space = {"e": "http://schemas.microsoft.com/ado/2008/09/edm"}
    types = {
        t.get("Name"): {p.get("Name") for p in t.findall("e:Property", space)} for t in tree.iterfind(".//e:EntityType", space)
    }
    sets = {s.get("Name"): str(s.get("EntityType")).rpartition(".")[2] for s in tree.iterfind(".//e:EntitySet", space)}
    wrong = {
        f"{name}.{field}"
        for name, rows in full.crm.sets.items()
        for row in rows.values()
        for field in row
        if field not in types[sets[name]]
    }
    assert wrong == set()
