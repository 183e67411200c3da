"""Sealed values open in their own place only, and the key that seals them is kept from other people."""

import base64
import stat
from pathlib import Path

import pytest

from server.auth.secrets import CannotOpen, Secrets, create_key_file, load_key_file
from server.errors import AlreadyExists, InvalidInput

KEK = bytes(range(32))
PLACE = "tenant-a:row-1:credentials"


def test_a_sealed_value_opens_in_its_own_place() -> None:
    secrets = Secrets(KEK)
    wrapped = secrets.new_data_key()
    for plaintext in (b"", b"refresh token", bytes(100_000)):
        assert secrets.open(wrapped, secrets.seal(wrapped, plaintext, context=PLACE), context=PLACE) == plaintext


@pytest.mark.parametrize(
    "place", ["tenant-b:row-1:credentials", "tenant-a:row-2:credentials", "tenant-a:row-1:payload", "tenant-a:row-1", ""]
)
def test_a_value_moved_elsewhere_does_not_open(place: str) -> None:
    secrets = Secrets(KEK)
    wrapped = secrets.new_data_key()
    sealed = secrets.seal(wrapped, b"refresh token", context=PLACE)
    with pytest.raises(CannotOpen):
        secrets.open(wrapped, sealed, context=place)


def test_another_tenants_key_does_not_open_it() -> None:
    secrets = Secrets(KEK)
    sealed = secrets.seal(secrets.new_data_key(), b"refresh token", context=PLACE)
    with pytest.raises(CannotOpen):
        secrets.open(secrets.new_data_key(), sealed, context=PLACE)


def test_no_changed_byte_goes_unnoticed() -> None:
    secrets = Secrets(KEK)
    wrapped = secrets.new_data_key()
    sealed = secrets.seal(wrapped, b"refresh token", context=PLACE)
    for at in range(len(sealed)):
        with pytest.raises(CannotOpen):
            secrets.open(wrapped, sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], context=PLACE)
        with pytest.raises(CannotOpen):
            secrets.open(wrapped, sealed[:at], context=PLACE)


def test_no_changed_byte_of_a_data_key_goes_unnoticed() -> None:
    secrets = Secrets(KEK)
    wrapped = secrets.new_data_key()
    for at in range(len(wrapped)):
        with pytest.raises(CannotOpen):
            Secrets(KEK).seal(wrapped[:at] + bytes([wrapped[at] ^ 1]) + wrapped[at + 1 :], b"x", context=PLACE)


def test_another_installation_cannot_open_it_and_is_told_why() -> None:
    secrets = Secrets(KEK)
    wrapped = secrets.new_data_key()
    sealed = secrets.seal(wrapped, b"refresh token", context=PLACE)
    with pytest.raises(CannotOpen, match="another key"):
        Secrets(bytes(32)).open(wrapped, sealed, context=PLACE)
    assert Secrets(KEK).open(wrapped, sealed, context=PLACE) == b"refresh token"


def test_the_same_text_is_never_sealed_to_the_same_bytes() -> None:
    secrets = Secrets(KEK)
    wrapped = secrets.new_data_key()
    assert len({secrets.seal(wrapped, b"x", context=PLACE) for _ in range(100)}) == 100


def test_a_keyed_hash_finds_the_same_text_again_within_one_tenant_only() -> None:
    secrets = Secrets(KEK)
    wrapped, other = secrets.new_data_key(), secrets.new_data_key()
    found = secrets.keyed_hash(wrapped, "mara.lind@example.com")
    assert found == Secrets(KEK).keyed_hash(wrapped, "mara.lind@example.com")
    assert len(found) == 16
    assert found not in {secrets.keyed_hash(wrapped, "mara.lind@example.org"), secrets.keyed_hash(other, "mara.lind@example.com")}


def test_more_tenants_than_the_cache_holds_are_served_all_the_same() -> None:
    secrets = Secrets(KEK)
    keys = [secrets.new_data_key() for _ in range(300)]
    sealed = [secrets.seal(key, b"x", context=PLACE) for key in keys]
    assert {secrets.open(key, value, context=PLACE) for key, value in zip(keys, sealed, strict=True)} == {b"x"}


def test_no_key_is_shown() -> None:
    secrets = Secrets(KEK)
    secrets.seal(secrets.new_data_key(), b"x", context=PLACE)
    shown = repr(secrets) + str(secrets) + repr(secrets._unwrapped)
    assert repr(KEK)[2:-1] not in shown
    assert KEK.hex() not in shown
    assert "for_hashes" not in shown


def test_a_key_file_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "key"
    create_key_file(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    key = load_key_file(file)
    assert len(key) == 32
    with pytest.raises(AlreadyExists):
        create_key_file(file)
    assert load_key_file(file) == key
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


def test_two_key_files_differ(tmp_path: Path) -> None:
    create_key_file(tmp_path / "one")
    create_key_file(tmp_path / "two")
    assert load_key_file(tmp_path / "one") != load_key_file(tmp_path / "two")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644])
def test_a_key_file_that_others_may_open_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "key"
    create_key_file(file)
    file.chmod(mode)
    with pytest.raises(InvalidInput, match="others"):
        load_key_file(file)


@pytest.mark.parametrize(
    "text",
    [b"", b"short", base64.urlsafe_b64encode(bytes(31)), base64.urlsafe_b64encode(bytes(33)), b"\xff" * 43, b"a+b/" * 11],
    ids=["empty", "short", "31 bytes", "33 bytes", "not text", "other alphabet"],
)
def test_a_file_without_a_key_is_refused(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "key"
    file.touch(mode=0o600)
    file.write_bytes(text)
    with pytest.raises(InvalidInput) as refused:
        load_key_file(file)
    assert not text or text.decode("latin-1") not in str(refused.value)


def test_a_missing_key_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        load_key_file(tmp_path / "nowhere")


def test_a_key_of_another_length_seals_nothing() -> None:
    with pytest.raises(InvalidInput):
        Secrets(bytes(16))
