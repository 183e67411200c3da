"""Address fields are read as people and programs write them, and two spellings of one person are found to be the same."""

import time

import pytest
from hypothesis import given, strategies as st

from server.domain.addresses import Address, addresses_of, normalised, same_address, spellings, without_plus_tag


def read(value: str | bytes) -> list[tuple[str, str]]:
    block = b"To: " + (value.encode() if isinstance(value, str) else value) + b"\r\n\r\n"
    return [(person.name, person.address) for person in addresses_of(block, "To")]


@pytest.mark.parametrize(
    ("value", "people"),
    [
        ("ada@example.com", [("", "ada@example.com")]),
        ("<ada@example.com>", [("", "ada@example.com")]),
        ("Ada Lovelace <ada@example.com>", [("Ada Lovelace", "ada@example.com")]),
        ('"Lovelace, Ada" <ada@example.com>, b@example.com', [("Lovelace, Ada", "ada@example.com"), ("", "b@example.com")]),
        ('"Ada \\"the first\\" L." <ada@example.com>', [('Ada "the first" L.', "ada@example.com")]),
        ("=?utf-8?Q?Lovelace,_Ada?= <ada@example.com>", [("Lovelace, Ada", "ada@example.com")]),  # comma in an encoded word
        ("=?utf-8?B?w4RkYQ==?= =?utf-8?Q?_L=C3=B6we?= <ada@example.com>", [("Äda Löwe", "ada@example.com")]),
        ('"=?utf-8?Q?=C3=84da?=" <ada@example.com>', [("Äda", "ada@example.com")]),  # encoded inside quotes
        ("=?utf-8?Q?Ada_=3Cevil=40example.net=3E?= <ada@example.com>", [("Ada <evil@example.net>", "ada@example.com")]),
        ("Äda <ada@example.com>", [("Äda", "ada@example.com")]),
        (b"\xc4da <ada@example.com>", [("Äda", "ada@example.com")]),
        ('"ada@example.com" <ada@example.com>', [("", "ada@example.com")]),  # Outlook repeats the address
        ("'Ada L.' <ada@example.com>", [("Ada L.", "ada@example.com")]),
        ("ada@example.com (Ada Lovelace)", [("Ada Lovelace", "ada@example.com")]),
        ("Ada (from Sales) <ada@example.com>", [("Ada", "ada@example.com")]),
        ("Team: ada@example.com, Bob <b@example.com>;", [("", "ada@example.com"), ("Bob", "b@example.com")]),
        ("undisclosed-recipients:;", []),
        ("a@example.com; b@example.com", [("", "a@example.com"), ("", "b@example.com")]),  # Outlook's separator
        ("a@example.com,, ,b@example.com,", [("", "a@example.com"), ("", "b@example.com")]),
        ("Ada ada@example.com", [("Ada", "ada@example.com")]),
        ("ada @ example.com", [("", "ada@example.com")]),
        ("<ada@\r\n example.com>", [("", "ada@example.com")]),
        ("mailto:ada@example.com", [("", "ada@example.com")]),
        ("<mailto:ada@example.com>", [("", "ada@example.com")]),
        ("<@relay.example,@b.example:ada@example.com>", [("", "ada@example.com")]),
        ("<<ada@example.com>>", [("", "ada@example.com")]),
        ("Ada <ada@example.com", [("Ada", "ada@example.com")]),
        ('"Ada <ada@example.com>', [("Ada", "ada@example.com")]),
        ('"ada lovelace"@example.com', [("", '"ada lovelace"@example.com')]),
        ('<"a@b"@example.com>', [("", '"a@b"@example.com')]),
        ("ada@[192.0.2.1]", [("", "ada@[192.0.2.1]")]),
        ("ada+news@example.com", [("", "ada+news@example.com")]),
        ("info@bücher.example", [("", "info@bücher.example")]),
        ("Info <info@xn--bcher-kva.example>", [("Info", "info@xn--bcher-kva.example")]),
        ("用户@例え.example", [("", "用户@例え.example")]),
        ("MAILER-DAEMON", []),
        ("Ada </O=ORG/OU=X/CN=ADA>", []),  # a legacy Exchange name is no address
        ("Ada <>", []),
        ("@example.com", []),
        ("ada@", []),
        ("x" * 400 + "@example.com", []),
        ("", []),
    ],
)
def test_address_fields(value: str | bytes, people: list[tuple[str, str]]) -> None:
    assert read(value) == people


def test_fields_come_in_the_order_asked_for_and_as_often_as_they_are_there() -> None:
    block = "To: b@example.com\r\nFrom: a@example.com\r\nTO: c@example.com\r\nCc: b@example.com\r\nBcc: d@example.com\r\n"
    assert [p.address[0] for p in addresses_of(block)] == ["a", "b", "c", "b"]
    assert addresses_of(block, "Bcc") == (Address("", "d@example.com"),)
    assert addresses_of({"from": "a@example.com"}) == addresses_of([("From", "a@example.com")]) == (Address("", "a@example.com"),)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Ada@Example.COM", "ada@example.com"),
        (" ada@example.com\n", "ada@example.com"),
        ("info@bücher.example", "info@xn--bcher-kva.example"),
        ("info@BÜCHER.example", "INFO@XN--BCHER-KVA.example"),
        ("info@straße.example", "info@xn--strae-oqa.example"),  # IDNA 2008; the older standard took it for strasse.example
        ("info@例え。example", "info@例え.example"),
        ("u\u0308@example.com", "\u00fc@example.com"),
    ],
)
def test_spellings_of_one_address_are_the_same(a: str, b: str) -> None:
    assert same_address(a, b)
    assert same_address(b, a)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("ada+news@example.com", "ada@example.com"),
        ("info@straße.example", "info@strasse.example"),
        ("ada@example.com", "ada@example.org"),
        ("ada@good․example", "ada@good.example"),  # a character that only looks like a dot
        ("ada@x＠good.example", "ada@x@good.example"),
    ],
)
def test_other_addresses_are_not(a: str, b: str) -> None:
    assert not same_address(a, b)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("ada+news@example.com", "ada@example.com"),
        ("ada+a+b@example.com", "ada@example.com"),
        ("ada@example.com", "ada@example.com"),
        ("+4912345@example.com", "+4912345@example.com"),
        ('"a+b"@example.com', '"a+b"@example.com'),
        ("ada+news", "ada+news"),
    ],
)
def test_plus_tags_are_taken_off(address: str, expected: str) -> None:
    assert without_plus_tag(address) == expected


@pytest.mark.parametrize(
    ("address", "forms"),
    [
        ("ada@example.com", ("ada@example.com",)),
        (" Ada@Example.com", ("Ada@Example.com", "ada@example.com")),
        (
            "Ada+News@Example.com",
            ("Ada+News@Example.com", "ada+news@example.com", "Ada@Example.com", "ada@example.com"),
        ),
        ("info@bücher.example", ("info@bücher.example", "info@xn--bcher-kva.example")),
        ("info@xn--bcher-kva.example", ("info@xn--bcher-kva.example", "info@bücher.example")),
        (
            "I+x@Bücher.example",
            (
                *("I+x@Bücher.example", "i+x@bücher.example", "I@Bücher.example", "i@bücher.example"),
                *("i+x@xn--bcher-kva.example", "i@xn--bcher-kva.example"),
            ),
        ),
        ("info@xn--99999999.example", ("info@xn--99999999.example",)),  # no punycode
    ],
)
def test_spellings_are_listed_the_likeliest_first_and_none_twice(address: str, forms: tuple[str, ...]) -> None:
    assert spellings(address) == forms


@given(st.text(max_size=80))
def test_comparing_never_fails_and_is_stable(address: str) -> None:
    assert normalised(normalised(address)) == normalised(address)
    assert same_address(address, address.strip())
    forms = spellings(address)
    assert len(set(forms)) == len(forms) > 0
    assert forms[0] == address.strip()


_PIECES = st.sampled_from([*'a@.,;:<>()"\\ =?q_\r\n\t', "=?utf-8?q?", "?=", "ä", "b@c", "'", "[", "]", "mailto:"])


@given(st.lists(_PIECES, max_size=40).map("".join))
def test_every_address_that_is_read_can_be_used(value: str) -> None:
    for person in addresses_of({"To": value}, "To"):
        local, at, domain = person.address.rpartition("@")
        assert local
        assert at
        assert domain
        assert "\n" not in person.name + person.address
        assert addresses_of({"To": f"<{person.address}>"}, "To") == (Address("", person.address),)


def test_ten_thousand_recipients_are_read_quickly() -> None:
    started = time.process_time()
    assert len(read(", ".join(f'"Last, First {n}" <p{n}@example.com>' for n in range(10_000)))) == 10_000
    assert time.process_time() - started < 3
