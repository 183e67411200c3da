"""A profile decides what may be looked up and which files may be saved."""

import json

import pytest

from server.domain.profile import MAX_FILE_BYTES, Profile
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
