"""A profile decides what may be looked up and which files may be saved."""

import json

import pytest

from server.domain.profile import MAX_FILE_BYTES, Profile, blocklisted
from server.domain.records import CARD_FIELDS
from server.errors import InvalidInput

PROFILE = Profile(blocklisted_domains=("Example.net", "münchen.example"), blocklisted_addresses=("Spam@example.com",))


def test_the_defaults_allow_the_usual_files_and_look_up_no_leads() -> None:
    profile = Profile()
    assert profile.refusal("Offer.PDF", 1000) is None
    assert not profile.leads_enabled
    assert not profile.is_blocklisted("ada@example.com")


@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [
        ("a.pdf", MAX_FILE_BYTES, None),
        ("a.pdf", MAX_FILE_BYTES + 1, "The file is larger than 25 MB."),
        ("setup.EXE", 1, "Files of type .exe may not be saved."),
        ("report.pdf.exe", 1, "Files of type .exe may not be saved."),
        ("a.unheard", 1, "Files of type .unheard are not allowed."),
        ("README", 1, "Files without an extension are not allowed."),
        ("trailing.", 1, "Files without an extension are not allowed."),
    ],
)
def test_a_refused_file_has_its_reason(name: str, size: int, reason: str | None) -> None:
    assert Profile().refusal(name, size) == reason


def test_what_is_prohibited_stays_so_even_if_it_is_allowed() -> None:
    assert Profile(allowed_extensions=("exe",)).refusal("a.exe", 1) == "Files of type .exe may not be saved."


@pytest.mark.parametrize(
    ("address", "blocked"),
    [
        ("ada@example.net", True),
        ("ADA@Mail.Example.NET", True),  # subdomains too
        ("ada@notexample.net", False),
        ("spam@EXAMPLE.com", True),
        ("ham@example.com", False),
        ("ada@example.net.example.org", False),
        ("example.net", True),
        ("", False),
    ],
)
def test_blocklists_hold_in_any_case(address: str, blocked: bool) -> None:
    assert PROFILE.is_blocklisted(address) is blocked


def test_a_profile_survives_json() -> None:
    assert Profile.from_json(json.loads(json.dumps(PROFILE.to_json()))) == PROFILE


def test_a_misspelt_setting_is_refused() -> None:
    with pytest.raises(InvalidInput, match="leads_enable:"):
        Profile.from_json({"leads_enable": True})


# What people choose for themselves


def test_what_a_person_chose_counts_only_where_it_is_unlocked() -> None:
    profile = Profile(unlocked=("auto_save",))
    assert profile.with_own({"auto_save": True, "contacts_filter": "all"}) == Profile(unlocked=("auto_save",), auto_save=True)
    assert Profile().with_own({"guard_share": 100}) == Profile()  # the organization's own, unless it says otherwise


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("contacts_filter", "yours"),
        ("conflict_winner", "luck"),
        ("deleting", "delete"),
        ("interval_min", 4),
        ("interval_min", 1441),
        ("interval_min", True),
        ("interval_min", "30"),
        ("guard_share", 0),
        ("max_people", 100_001),
        ("auto_save", "yes"),
        ("contacts_read_only", 1),
        ("card_fields", {"contact": ("phone", "shoe_size")}),
        ("card_fields", {"wish": ("phone",)}),
        ("card_fields", {"contact": ("account", "job_title", "phone", "mobile", "account")}),
        ("card_fields", {"contact": 7}),
        ("card_fields", ["contact"]),
        ("default_country", 49),
        ("blocklisted_domains", "example.net"),
        ("blocklisted_addresses", [1]),
        ("unlocked", "interval_min"),
        ("unlocked", ["interval"]),
    ],
)
def test_a_value_that_a_setting_cannot_have_is_refused_by_its_name(name: str, value: object) -> None:
    with pytest.raises(InvalidInput) as error:
        Profile.from_json({name: value})
    assert error.value.field == name


def test_of_what_a_person_chose_that_stands_which_can_be_had() -> None:
    chosen = {"interval_min": 1, "auto_save": True, "blocklisted_domains": 7, "card_fields": {"contact": ["gone"]}, "gone": 1}
    assert Profile().possible(chosen) == {"auto_save": True, "gone": 1}


def test_a_profile_of_other_values_comes_back_from_json_as_it_was() -> None:
    profile = Profile(interval_min=5, guard_items=1, card_fields={"contact": ("phone",)}, unlocked=("auto_save",))
    assert Profile.from_json(json.loads(json.dumps(profile.to_json()))) == profile


def test_what_a_person_blocks_is_blocked_beside_what_the_organization_does() -> None:
    profile = Profile(blocklisted_domains=("example.net",)).with_own({"blocklisted_domains": ["example.org", "example.net"]})
    assert profile.blocklisted_domains == ("example.net", "example.org")


def test_the_entries_of_a_blocklist_are_read_as_people_write_them() -> None:
    assert blocklisted("blocklisted_domains", [" Example.NET ", "", "@example.org", "example.net"]) == (
        "example.net",
        "example.org",
    )
    assert blocklisted("blocklisted_addresses", ["Ada@Example.net"]) == ("ada@example.net",)


@pytest.mark.parametrize(
    ("name", "entries"),
    [
        ("blocklisted_domains", ["localhost"]),
        ("blocklisted_domains", ["ada@example.net"]),
        ("blocklisted_domains", ["https://example.net"]),
        ("blocklisted_domains", ["a." * 200 + "example"]),
        ("blocklisted_addresses", ["example.net"]),
        ("blocklisted_addresses", ["a@b@example.net"]),
        ("blocklisted_addresses", [f"a{n}@example.net" for n in range(501)]),
    ],
)
def test_what_is_no_entry_of_a_blocklist_is_refused_by_its_name(name: str, entries: list[str]) -> None:
    with pytest.raises(InvalidInput) as refused:
        blocklisted(name, entries)
    assert refused.value.field == name


def test_a_card_shows_the_fields_of_its_type_unless_others_were_chosen() -> None:
    profile = Profile(card_fields={"contact": ("phone",), "lead": ()})
    assert [profile.fields_of(kind) for kind in ("contact", "lead")] == [("phone",), ()]
    assert profile.fields_of("account") == CARD_FIELDS["account"]
