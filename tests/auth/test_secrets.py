"""Sealed values open in their own place only, and the key that seals them is kept from other people."""

import base64
import stat
from pathlib import Path

import pytest

from server.auth.secrets import CannotOpen, FileKeys, Secrets, create_key_file, key_id, load_key_file
from server.errors import AlreadyExists, Conflict, InvalidInput

KEK = bytes(range(32))
PLACE = "tenant-a:row-1:credentials"
OLD_WRAPPED = bytes.fromhex(
    "012d2365a66d070073ff5399a2b1f7951aa0ecc80cfc9aab2b76ddcad2c171700256c25b15ebd4b48a1af25b371abf941f85d5a1fe84fd506190b4e88b83fca7eedf787dad"
)
OLD_SEALED = bytes.fromhex("0171311698b7b9d90efb613bd76f2c65ce04fb0e91d46b0b71ce017bdf2360e59881b83352653674b903")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return key_file(tmp_path / "key", KEK)


@pytest.fixture
def secrets(file: Path) -> Secrets:
    return Secrets(FileKeys(file))


def key_file(path: Path, *keys: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(b"\n".join(base64.urlsafe_b64encode(key) for key in keys))
    return path


def test_a_sealed_value_opens_in_its_own_place(secrets: Secrets) -> None:
    wrapped = secrets.new_data_key()
    for plaintext in (b"", b"refresh token", bytes(100_000)):
        assert secrets.open(wrapped, secrets.seal(wrapped, plaintext, context=PLACE), context=PLACE) == plaintext


@pytest.mark.parametrize(
    "place", ["tenant-b:row-1:credentials", "tenant-a:row-2:credentials", "tenant-a:row-1:payload", "tenant-a:row-1", ""]
)
def test_a_value_moved_elsewhere_does_not_open(place: str, secrets: Secrets) -> None:
    wrapped = secrets.new_data_key()
    sealed = secrets.seal(wrapped, b"refresh token", context=PLACE)
    with pytest.raises(CannotOpen):
        secrets.open(wrapped, sealed, context=place)


def test_another_tenants_key_does_not_open_it(secrets: Secrets) -> None:
    sealed = secrets.seal(secrets.new_data_key(), b"refresh token", context=PLACE)
    with pytest.raises(CannotOpen):
        secrets.open(secrets.new_data_key(), sealed, context=PLACE)


def test_no_changed_byte_goes_unnoticed(secrets: Secrets) -> None:
    wrapped = secrets.new_data_key()
    sealed = secrets.seal(wrapped, b"refresh token", context=PLACE)
    for at in range(len(sealed)):
        with pytest.raises(CannotOpen):
            secrets.open(wrapped, sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], context=PLACE)
        with pytest.raises(CannotOpen):
            secrets.open(wrapped, sealed[:at], context=PLACE)


def test_no_changed_byte_of_a_data_key_goes_unnoticed(secrets: Secrets, file: Path) -> None:
    wrapped = secrets.new_data_key()
    for at in range(len(wrapped)):
        with pytest.raises(CannotOpen):
            Secrets(FileKeys(file)).seal(wrapped[:at] + bytes([wrapped[at] ^ 1]) + wrapped[at + 1 :], b"x", context=PLACE)


def test_another_installation_cannot_open_it_and_is_told_why(secrets: Secrets, file: Path) -> None:
    wrapped = secrets.new_data_key()
    sealed = secrets.seal(wrapped, b"refresh token", context=PLACE)
    with pytest.raises(CannotOpen, match="another key"):
        Secrets(FileKeys(key_file(file.with_name("other"), bytes(32)))).open(wrapped, sealed, context=PLACE)
    assert Secrets(FileKeys(file)).open(wrapped, sealed, context=PLACE) == b"refresh token"


def test_the_same_text_is_never_sealed_to_the_same_bytes(secrets: Secrets) -> None:
    wrapped = secrets.new_data_key()
    assert len({secrets.seal(wrapped, b"x", context=PLACE) for _ in range(100)}) == 100


def test_a_keyed_hash_finds_the_same_text_again_within_one_tenant_only(secrets: Secrets, file: Path) -> None:
    wrapped, other = secrets.new_data_key(), secrets.new_data_key()
    found = secrets.keyed_hash(wrapped, "mara.lind@example.com")
    assert found == Secrets(FileKeys(file)).keyed_hash(wrapped, "mara.lind@example.com")
    assert len(found) == 16
    assert found not in {secrets.keyed_hash(wrapped, "mara.lind@example.org"), secrets.keyed_hash(other, "mara.lind@example.com")}


def test_more_tenants_than_the_cache_holds_are_served_all_the_same(secrets: Secrets) -> None:
    keys = [secrets.new_data_key() for _ in range(300)]
    sealed = [secrets.seal(key, b"x", context=PLACE) for key in keys]
    assert {secrets.open(key, value, context=PLACE) for key, value in zip(keys, sealed, strict=True)} == {b"x"}


def test_no_key_is_shown(secrets: Secrets) -> None:
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
    assert [len(one) for one in key] == [32]
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


def test_what_was_stored_before_there_were_several_keys_still_opens(secrets: Secrets) -> None:
    assert secrets.open(OLD_WRAPPED, OLD_SEALED, context=PLACE) == b"refresh token"


def test_the_first_key_wraps_and_all_unwrap(tmp_path: Path, file: Path) -> None:
    new = bytes(range(1, 33))
    both = Secrets(FileKeys(key_file(tmp_path / "both", new, KEK)))
    assert both.open(OLD_WRAPPED, OLD_SEALED, context=PLACE) == b"refresh token"
    wrapped = both.rewrap(OLD_WRAPPED)
    assert (key_id(wrapped), key_id(OLD_WRAPPED)) == both.kek.ids
    only_new = Secrets(FileKeys(key_file(tmp_path / "new", new)))
    assert only_new.open(wrapped, OLD_SEALED, context=PLACE) == b"refresh token"
    with pytest.raises(CannotOpen, match="another key"):
        only_new.open(OLD_WRAPPED, OLD_SEALED, context=PLACE)
    with pytest.raises(CannotOpen, match="another key"):
        Secrets(FileKeys(file)).open(wrapped, OLD_SEALED, context=PLACE)


def test_a_process_that_runs_follows_the_file_and_forgets_nothing_that_it_needs(secrets: Secrets, file: Path) -> None:
    rotating = FileKeys(file)
    rotating.renew()
    wrapped = Secrets(rotating).rewrap(OLD_WRAPPED)
    assert rotating.retire({key_id(wrapped)}) == 1
    assert len(load_key_file(file)) == 1
    assert secrets.open(wrapped, OLD_SEALED, context=PLACE) == b"refresh token"
    assert secrets.open(OLD_WRAPPED, OLD_SEALED, context=PLACE) == b"refresh token"  # read from the database just before
    assert key_id(secrets.new_data_key()) == key_id(wrapped)
    with pytest.raises(CannotOpen, match="another key"):
        Secrets(FileKeys(file)).open(OLD_WRAPPED, OLD_SEALED, context=PLACE)


def test_a_key_that_something_is_wrapped_by_is_not_dropped(file: Path) -> None:
    keys = FileKeys(file)
    keys.renew()
    assert keys.retire({key_id(OLD_WRAPPED)}) == 0
    assert keys.ids == FileKeys(file).ids
    assert keys.ids[1] == key_id(OLD_WRAPPED)


def test_the_key_file_is_replaced_as_it_is_for_its_owner_and_where_it_is(tmp_path: Path, file: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    file.chmod(0o400)
    file.with_name("key.new").write_bytes(b"of a rotation that was killed")
    FileKeys(link).renew()
    assert link.is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o400
    assert len(load_key_file(file)) == 2
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["key", "link"]


def test_two_do_not_change_the_keys_at_once(file: Path) -> None:
    with FileKeys(file).rotation(), pytest.raises(Conflict, match="another process"), FileKeys(file).rotation():
        pass
    with FileKeys(file).rotation():
        pass


def test_a_key_file_that_is_spoilt_while_a_process_runs_stops_only_what_it_has_not_met(secrets: Secrets, file: Path) -> None:
    other = Secrets(FileKeys(key_file(file.with_name("other"), bytes(32))))
    file.chmod(0o644)
    assert secrets.open(OLD_WRAPPED, OLD_SEALED, context=PLACE) == b"refresh token"
    with pytest.raises(CannotOpen, match="read by others"):
        secrets.seal(other.new_data_key(), b"x", context=PLACE)
