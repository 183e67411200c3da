"""A key in Azure Key Vault wraps the data keys: what the vault is asked, what happens while it is away, and its rotation."""

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from server.auth.key_vault import VaultKey
from server.auth.secrets import CannotOpen, FileKeys, Secrets, create_key_file, key_id
from server.errors import InvalidInput, RateLimited, SsiError, Transient
from simulator.keyvault import CLIENT_ID, CLIENT_SECRET, TENANT
from simulator.world import Fault, World
from tests.vault import Cloud, opened

PLACE = "tenant-a:row-1:credentials"


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    with opened(World(), tmp_path) as cloud:
        yield cloud


@pytest.fixture
def forward(cloud: Cloud) -> Callable[..., None]:
    def forward(**span: float) -> None:
        cloud.world.clock_skew += timedelta(**span)

    return forward


def opens(secrets: Secrets, wrapped: bytes, sealed: bytes) -> bool:
    return secrets.open(wrapped, sealed, context=PLACE) == b"refresh token"


def test_what_one_process_sealed_another_opens_by_the_vault(cloud: Cloud) -> None:
    secrets = cloud.secrets()
    wrapped = secrets.new_data_key()
    sealed = secrets.seal(wrapped, b"refresh token", context=PLACE)
    assert opens(cloud.secrets(), wrapped, sealed)
    assert wrapped[:1] == b"\x02"
    assert cloud.vault.versions[0].name.encode() in wrapped
    assert {scope for scopes in cloud.tokens_asked for scope in scopes} == {"https://vault.example.com/.default"}


def test_the_vault_is_asked_once_in_five_minutes_for_a_data_key(cloud: Cloud, forward: Callable[..., None]) -> None:
    wrapped = cloud.secrets().new_data_key()
    secrets = cloud.secrets()
    before = len(cloud.asked())
    sealed = secrets.seal(wrapped, b"refresh token", context=PLACE)
    for _ in range(4):
        assert opens(secrets, wrapped, sealed)
        forward(minutes=1)
    assert cloud.asked()[before:] == ["GET key", "POST unwrapkey"]
    forward(minutes=2)
    assert opens(secrets, wrapped, sealed)
    assert cloud.asked()[before:] == ["GET key", "POST unwrapkey", "POST unwrapkey"]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("keyvault", "status", status=503, times=None),
        Fault("keyvault", "status", status=500, times=None),
        Fault("keyvault", "drop", times=None),
        Fault("keyvault", "html", times=None),
        Fault("keyvault", "garbage", times=None),
    ],
    ids=lambda fault: f"{fault.kind} {fault.status}",
)
def test_while_the_vault_is_away_all_goes_on_for_five_minutes_and_then_waits(
    cloud: Cloud, forward: Callable[..., None], fault: Fault
) -> None:
    secrets = cloud.secrets()
    wrapped = secrets.new_data_key()
    sealed = secrets.seal(wrapped, b"refresh token", context=PLACE)
    cloud.world.faults.append(fault)
    forward(minutes=4, seconds=50)
    assert opens(secrets, wrapped, sealed)
    forward(seconds=20)
    with pytest.raises(Transient):
        secrets.open(wrapped, sealed, context=PLACE)
    cloud.world.faults.clear()
    forward(seconds=6)
    assert opens(secrets, wrapped, sealed)


def test_a_vault_that_hangs_costs_one_deadline_and_others_do_not_wait_for_it_again(cloud: Cloud) -> None:
    wrapped = cloud.secrets().new_data_key()
    cloud.gateway.timeout_s = 0.3
    cloud.world.faults.append(Fault("keyvault", "hang", seconds=2, times=None))
    secrets = cloud.secrets()
    for _ in range(5):
        with pytest.raises(Transient):
            secrets.seal(wrapped, b"x", context=PLACE)
    assert len(cloud.world.requests("keyvault")) <= 12


def test_a_pause_that_the_vault_asks_for_is_kept(cloud: Cloud, forward: Callable[..., None]) -> None:
    wrapped = cloud.secrets().new_data_key()
    secrets = cloud.secrets()
    cloud.world.faults.append(Fault("keyvault", "status", match="unwrapkey", status=429, retry_after_s=20))
    with pytest.raises(RateLimited) as told:
        secrets.seal(wrapped, b"x", context=PLACE)
    assert told.value.retry_after_s == 20
    before = len(cloud.asked())
    forward(seconds=10)
    with pytest.raises(Transient):
        secrets.seal(wrapped, b"x", context=PLACE)
    assert len(cloud.asked()) == before
    forward(seconds=11)
    assert secrets.seal(wrapped, b"x", context=PLACE)


def test_a_vault_that_refuses_us_is_a_fault_of_the_installation(cloud: Cloud) -> None:
    wrapped = cloud.secrets().new_data_key()
    cloud.vault.permissions.remove("unwrapKey")
    with pytest.raises(CannotOpen, match="403"):
        cloud.secrets().seal(wrapped, b"x", context=PLACE)
    with pytest.raises(CannotOpen, match="403"):  # it could wrap, by the public key alone
        cloud.secrets().new_data_key()
    cloud.vault.permissions |= {"unwrapKey"}
    cloud.vault.permissions.remove("get")
    assert cloud.secrets().seal(wrapped, b"x", context=PLACE)
    cloud.vault.versions[0].enabled = False
    with pytest.raises(CannotOpen, match="403"):
        cloud.secrets().seal(wrapped, b"x", context=PLACE)
    cloud.vault.versions.clear()
    with pytest.raises(CannotOpen, match="404"):
        cloud.secrets().seal(wrapped, b"x", context=PLACE)


def test_no_changed_byte_of_a_wrapped_key_goes_unnoticed(cloud: Cloud) -> None:
    secrets = cloud.secrets()
    wrapped = secrets.new_data_key()
    sealed = secrets.seal(wrapped, b"refresh token", context=PLACE)
    for at in (0, 1, 8, 9, 10, 30, 41, 42, 60, len(wrapped) - 1):
        changed = wrapped[:at] + bytes([wrapped[at] ^ 1]) + wrapped[at + 1 :]
        with pytest.raises(CannotOpen):
            secrets.open(changed, sealed, context=PLACE)
    for length in (0, 1, 9, 10, 42, len(wrapped) - 1):
        with pytest.raises(CannotOpen):
            secrets.open(wrapped[:length], sealed, context=PLACE)


def test_the_newest_version_wraps_and_older_ones_open(cloud: Cloud, forward: Callable[..., None]) -> None:
    secrets = cloud.secrets()
    old = secrets.new_data_key()
    sealed = secrets.seal(old, b"refresh token", context=PLACE)
    cloud.vault.rotate(cloud.now())
    assert opens(cloud.secrets(), old, sealed)
    new = cloud.secrets().rewrap(old)
    assert cloud.vault.versions[1].name.encode() in new
    assert key_id(new) != key_id(old)
    assert opens(secrets, new, sealed)  # a process that has not heard of the new version
    forward(minutes=6)
    assert key_id(secrets.new_data_key()) == key_id(new)
    cloud.vault.versions[0].enabled = False
    assert opens(cloud.secrets(), new, sealed)


def test_an_address_with_a_version_stays_with_it(cloud: Cloud) -> None:
    first = cloud.vault.versions[0].name
    cloud.vault.rotate(cloud.now())
    wrapped = Secrets(cloud.key(f"{cloud.vault.address}/{first}"), clock=cloud.now).new_data_key()
    assert first.encode() in wrapped


def test_what_a_key_file_wrapped_opens_beside_a_vault_and_moves_into_it(cloud: Cloud, tmp_path: Path) -> None:
    create_key_file(tmp_path / "key")
    before = Secrets(FileKeys(tmp_path / "key"))
    wrapped = before.new_data_key()
    sealed = before.seal(wrapped, b"refresh token", context=PLACE)
    with pytest.raises(CannotOpen, match="another key"):
        opens(cloud.secrets(), wrapped, sealed)
    both = cloud.secrets(FileKeys(tmp_path / "key"))
    assert opens(both, wrapped, sealed)
    moved = both.rewrap(wrapped)
    assert opens(cloud.secrets(), moved, sealed)
    with pytest.raises(CannotOpen, match="another key"):
        opens(before, moved, sealed)


def test_a_key_of_another_vault_is_known_as_such_without_asking(cloud: Cloud) -> None:
    wrapped = cloud.secrets().new_data_key()
    before = len(cloud.world.requests("keyvault"))
    with pytest.raises(CannotOpen, match="another key"):
        Secrets(cloud.key("https://other.vault.example.com/keys/ssi")).seal(wrapped, b"x", context=PLACE)
    assert len(cloud.world.requests("keyvault")) == before


def test_a_token_is_not_given_to_a_host_that_asks_for_one_of_another(cloud: Cloud) -> None:
    with pytest.raises(CannotOpen):
        Secrets(cloud.key("https://vault.stranger.example/keys/ssi")).new_data_key()
    assert len(cloud.world.requests("keyvault")) == 1
    assert cloud.tokens_asked == []


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ssi",
        "http://ssi.vault.example.com/keys/ssi",
        "https://ssi.vault.example.com/secrets/ssi",
        "https:///keys/x",
        "https://a@b/keys/x",
    ],
)
def test_an_address_that_is_no_keys_is_refused(cloud: Cloud, address: str) -> None:
    with pytest.raises(InvalidInput, match="identifier of a key"):
        VaultKey(address, cloud.gateway, credential=cloud)


def test_a_service_principal_of_the_environment_signs_in_through_the_same_gateway(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AZURE_AUTHORITY_HOST": cloud.vault.authority,
        "AZURE_TENANT_ID": TENANT,
        "AZURE_CLIENT_ID": CLIENT_ID,
        "AZURE_CLIENT_SECRET": CLIENT_SECRET,
    }.items():
        monkeypatch.setenv(name, value)
    secrets = Secrets(VaultKey(cloud.vault.address, cloud.gateway, clock=cloud.now))
    wrapped = secrets.new_data_key()
    assert secrets.seal(wrapped, b"x", context=PLACE)
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "another-secret")
    refused = Secrets(VaultKey(cloud.vault.address, cloud.gateway, clock=cloud.now))
    with pytest.raises(Transient, match="signing in to Azure failed") as told:
        refused.seal(wrapped, b"x", context=PLACE)
    assert "another-secret" not in str(told.value)


def test_no_key_and_no_token_is_logged_or_said(
    cloud: Cloud, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    raws: list[bytes] = []
    unwrap = VaultKey.unwrap
    monkeypatch.setattr(VaultKey, "unwrap", lambda self, wrapped: raws.append(unwrap(self, wrapped)) or raws[-1])
    said: list[str] = []
    with caplog.at_level(logging.DEBUG):
        secrets = cloud.secrets()
        wrapped = secrets.new_data_key()
        secrets.seal(wrapped, b"CANARY", context=PLACE)
        cloud.vault.permissions.clear()
        try:
            cloud.secrets().seal(wrapped, b"CANARY", context=PLACE)
        except (SsiError, CannotOpen) as error:
            said.append(repr(error))
    shown = caplog.text + "".join(said) + repr(secrets) + repr(secrets.kek)
    assert raws
    assert len(shown) > 100
    for token in cloud.vault.tokens:
        assert token not in shown
    for raw in raws:
        assert raw.hex() not in shown
        assert repr(raw)[2:-1] not in shown


def test_without_a_vault_nothing_of_azure_is_loaded() -> None:
    code = "import server.cli, sys; sys.exit(any(name.split('.')[0] == 'azure' for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
