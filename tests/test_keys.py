"""Keys are rotated while all goes on, by the real command and with the real product beside it, and whatever is killed."""

import base64
import json
import os
import secrets as randomness
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server import wiring
from server.auth.secrets import CannotOpen, FileKeys, Secrets, create_key_file, key_id, load_key_file
from server.config import Settings
from server.errors import InvalidInput
from server.services import Deps
from server.services.keys import check_keys, is_new_key_due, list_keys, rotate_keys
from server.store import C4CSettings
from server.web import create_app
from simulator import demo
from simulator.ports import Simulator
from simulator.world import Fault, World
from tests.api import Api
from tests.conftest import Command, new_database
from tests.figures import Count
from tests.processes import Installed, eventually
from tests.vault import Cloud, opened

C4C = C4CSettings(url="https://c4c.example.com/")
OLD, NEW, THIRD = b"oldoldol", b"newnewne", b"thirdthi"
both_databases = pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)
sqlite = pytest.mark.parametrize("installed", ["sqlite"], indirect=True)
with_soak = pytest.mark.parametrize("installed", ["sqlite", pytest.param("postgres", marks=pytest.mark.soak)], indirect=True)


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    """With a copy of the key file, for this test to change."""
    file = tmp_path / "key"
    file.touch(mode=0o600)
    file.write_bytes(settings.key_file.read_bytes())
    return replace(settings, key_file=file)


def rotate(deps: Deps, **options: Any) -> dict[str, int]:
    return rotate_keys(deps, settle_s=0, **options)


def add_tenants(deps: Deps, number: int) -> None:
    with deps.store.transaction() as tx:
        for n in range(number):
            key = deps.vault.new_data_key()
            tx.add_tenant(f"tenant {n} {randomness.token_hex(4)}", key, C4C, [], deps.now())


# The rule


@pytest.mark.parametrize(
    ("ids", "under", "due"),
    [
        ([OLD], [OLD], True),
        ([NEW, OLD], [OLD], False),  # prepared, or killed after the new key was added
        ([NEW, OLD], [NEW, OLD], False),  # killed between two tenants
        ([NEW, OLD], [NEW], False),  # killed before the old key was dropped
        ([THIRD, NEW, OLD], [NEW, OLD], False),
        ([NEW], [OLD, NEW], False),  # a vault, which has a new version
        ([OLD], [], False),  # protects nothing yet
    ],
)
def test_a_rotation_that_was_begun_is_finished_before_another_begins(ids: list[bytes], under: list[bytes], due: bool) -> None:
    assert is_new_key_due(ids, set(under)) is due


# Rotation


@both_databases
def test_after_a_rotation_everything_is_under_one_new_key_and_opens(deps: Deps, process: Callable[[], Deps], me: Api) -> None:
    add_tenants(deps, 3)
    (old,) = deps.vault.secrets.kek.ids
    assert rotate(deps) == {"tenants": 4, "rewrapped": 4, "retired": 1}
    (new,) = deps.vault.secrets.kek.ids
    assert new != old
    assert list_keys(deps) == [{"id": new.hex(), "tenants": 4, "in_use": True}]
    fresh = process()
    assert fresh.vault.secrets.kek.ids == (new,)
    check_keys(fresh.store, fresh.vault.secrets)
    assert me.get("/me").status_code == 200


@both_databases
def test_a_row_that_changed_meanwhile_is_not_overwritten(deps: Deps) -> None:
    with deps.store.transaction() as tx:
        ((tenant_id, wrapped),) = tx.wrapped_keys().items()
        assert tx.rewrap(tenant_id, wrapped, b"first")
        assert not tx.rewrap(tenant_id, wrapped, b"second")
        assert tx.wrapped_keys() == {tenant_id: b"first"}


def test_a_prepared_key_wraps_nothing_until_it_is_on_every_machine(deps: Deps, settings: Settings, tmp_path: Path) -> None:
    elsewhere = replace(settings, key_file=tmp_path / "elsewhere")
    shutil.copy2(settings.key_file, elsewhere.key_file)
    other = wiring.build(elsewhere)
    sealed = Sealed(deps)
    (old,) = deps.vault.secrets.kek.ids
    for _ in range(2):
        assert rotate(deps, prepare=True) == {"tenants": 1, "rewrapped": 0, "retired": 0}
    assert under(deps) == {old}
    assert len(load_key_file(settings.key_file)) == 2
    assert [(one["tenants"], one["in_use"]) for one in list_keys(deps)] == [(0, True), (1, True)]
    shutil.copy2(settings.key_file, elsewhere.key_file)
    assert rotate(deps) == {"tenants": 1, "rewrapped": 1, "retired": 1}
    assert sealed.opens(other, sealed.tenants[0])
    other.store.close()
    assert under(deps) == set(deps.vault.secrets.kek.ids)


def test_data_keys_that_change_places_open_nothing(deps: Deps, process: Callable[[], Deps]) -> None:
    add_tenants(deps, 1)
    with deps.store.transaction(reading=True) as tx:
        (one, other) = tx.wrapped_keys().items()
    sealed = deps.vault.seal(one[0], "row", "column", b"x")
    with deps.store.transaction() as tx:
        assert tx.rewrap(one[0], one[1], other[1])
        assert tx.rewrap(other[0], other[1], one[1])
    with pytest.raises(CannotOpen, match="changed or belongs to another place"):
        process().vault.open(one[0], "row", "column", sealed)


def test_a_tenant_that_is_made_during_a_rotation_is_not_left_behind(deps: Deps, process: Callable[[], Deps]) -> None:
    slow = process()
    key = slow.vault.new_data_key()  # wrapped by the old key, not stored yet

    def settle(_seconds: float) -> None:
        with slow.store.transaction() as tx:
            tx.add_tenant("late", key, C4C, [], slow.now())

    assert rotate(replace(deps, sleep=settle)) == {"tenants": 1, "rewrapped": 2, "retired": 1}
    fresh = process()
    assert len(check_keys(fresh.store, fresh.vault.secrets)) == 2


# Under load


class Load:
    """People who look up, seal and open all the time, in threads of several processes' Deps and at a real server's port."""

    def __init__(self) -> None:
        self.done, self.failures = 0, list[str]()
        self._stop = threading.Event()
        self._lock = threading.Lock()

    def run(self, act: Callable[[], bool]) -> None:
        while not self._stop.wait(0.05):  # all of them together somewhat less than 50 a second
            try:
                good = act()
                problem = "" if good else "refused"
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a failed request
                problem = repr(error)
            with self._lock:
                self.done += 1
                if problem:
                    self.failures.append(problem)

    @contextmanager
    def of(self, *acts: Callable[[], bool]) -> Iterator["Load"]:
        with ThreadPoolExecutor(len(acts)) as pool:
            running = [pool.submit(self.run, act) for act in acts]
            try:
                yield self
            finally:
                self._stop.set()
        for one in running:
            one.result()


@pytest.fixture
def installed(request: pytest.FixtureRequest, simulator: Simulator, tmp_path: Path) -> Iterator[Installed]:
    """An installation of this test's own, with real processes."""
    simulator.world = demo.small()
    simulator.provisioning()
    url = ""
    if request.param == "postgres":
        url = new_database(request.getfixturevalue("postgres_server"), f"keys_{randomness.token_hex(4)}")
    with Installed(simulator, tmp_path, url) as installed:
        yield installed


@pytest.fixture
def started(installed: Installed) -> Iterator[Callable[[], Deps]]:
    """Compose the product as a process does that starts now."""
    made: list[Deps] = []

    def start() -> Deps:
        made.append(wiring.build(Settings.from_environment(installed.environment)))
        return made[-1]

    yield start
    for deps in made:
        deps.background.shutdown()
        deps.store.close()


class Sealed:
    """A value of each tenant, sealed before the keys are rotated."""

    def __init__(self, deps: Deps) -> None:
        with deps.store.transaction(reading=True) as tx:
            self.tenants = list(tx.wrapped_keys())
        self._values = {tenant: deps.vault.seal(tenant, "row", "column", tenant.encode()) for tenant in self.tenants}

    def opens(self, deps: Deps, tenant: str) -> bool:
        return deps.vault.open(tenant, "row", "column", self._values[tenant]) == tenant.encode()


@pytest.mark.soak
@with_soak
def test_three_rotations_under_load_fail_no_request(installed: Installed, started: Callable[[], Deps], count: Count) -> None:
    installed.serve(processes=2, SSI_CACHE_S="0", SSI_CONTEXT_DEADLINE_S="20")
    person = installed.simulator.world.people[0]
    item = installed.simulator.facts()["users"][0]["messages"][0]
    own = started()
    add_tenants(own, 20)
    sealed = Sealed(own)

    def look_up() -> bool:
        return installed.send(person, "POST", "/context", {"item": item}).status_code == 200

    def open_and_seal() -> bool:
        tenant = randomness.choice(sealed.tenants)
        new = own.vault.seal(tenant, "row", "other", b"x")
        fresh = started()
        good = sealed.opens(own, tenant) and fresh.vault.open(tenant, "row", "other", new) == b"x"
        fresh.store.close()
        return good

    before = load_key_file(installed.folder / "key")
    with Load().of(look_up, look_up, open_and_seal, open_and_seal) as load:
        for _ in range(3):
            done = json.loads(ssi(installed, "keys", "rotate", "--settle", "0.5", "--json"))
            assert done == {"tenants": 21, "rewrapped": 21, "retired": 1}
    assert load.failures == []
    assert load.done > 20
    count("keys: requests during three rotations", load.done)
    after = load_key_file(installed.folder / "key")
    assert (len(before), len(after), before == after) == (1, 1, False)


@pytest.mark.parametrize(
    ("installed", "at"),
    [
        ("sqlite", "the new key is there"),
        ("postgres", "some are rewrapped"),
        ("sqlite", "the old key is still there"),
    ],
    indirect=["installed"],
)
def test_a_rotation_that_is_killed_is_finished_by_the_next(installed: Installed, started: Callable[[], Deps], at: str) -> None:
    deps = started()
    add_tenants(deps, 100)
    sealed, file = Sealed(deps), installed.folder / "key"
    (old,) = FileKeys(file).ids
    reached = {
        "the new key is there": lambda: len(load_key_file(file)) == 2,
        "some are rewrapped": lambda: len(under(deps) - {old}) == 1,
        "the old key is still there": lambda: old not in under(deps),
    }
    with running(installed, "keys", "rotate", "--settle", "60") as process:
        eventually(reached[at])
        process.kill()
    new, left = FileKeys(file).ids
    assert left == old
    during = started()
    assert all(sealed.opens(during, tenant) for tenant in sealed.tenants)
    done = json.loads(ssi(installed, "keys", "rotate", "--settle", "0", "--json"))
    assert (done["tenants"], done["retired"]) == (101, 1)
    assert FileKeys(file).ids == (new,)
    assert under(deps) == {new}
    after = started()
    assert all(sealed.opens(after, tenant) and sealed.opens(deps, tenant) for tenant in sealed.tenants)


@sqlite
def test_of_two_rotations_at_once_one_does_it_and_the_other_says_so(
    installed: Installed, started: Callable[[], Deps], command: Command
) -> None:
    with running(installed, "keys", "rotate", "--settle", "60") as first:
        eventually(lambda: len(load_key_file(installed.folder / "key")) == 2)
        second = command(installed.environment, "keys", "rotate")
        assert (second.code, second.err) == (1, "ssi: The keys are being rotated by another process.\n")
        first.kill()
    third = command(installed.environment, "keys", "rotate", "--settle", "0")  # which takes up what was begun
    assert third.code == 0
    assert under(started()) == set(FileKeys(installed.folder / "key").ids)


# In Azure Key Vault


@pytest.fixture
def cloud(world: World, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """A vault that the product reaches by its name, as it would in Azure's network."""
    with opened(world, tmp_path) as cloud:
        monkeypatch.setattr(wiring, "_vault_key", lambda settings, _clock: cloud.key(settings.key_vault))
        yield cloud


def test_an_installation_moves_to_a_vault_and_outlives_five_minutes_without_it(
    cloud: Cloud, settings: Settings, world: World, simulator: Simulator, forward: Callable[..., None]
) -> None:
    both = wiring.build(replace(settings, key_vault=cloud.vault.address), now=world.now)
    assert rotate(both) == {"tenants": 1, "rewrapped": 1, "retired": 0}
    moved = replace(settings, key_vault=cloud.vault.address, key_file=None)
    deps = wiring.build(moved, now=world.now)
    me = Api(create_app(deps, wiring.face(moved)), simulator, world.people[0])
    assert (wiring.face(settings).key_place, wiring.face(moved).key_place) == ("file", "vault")
    item = me.item("several_records")
    assert me.post("/context", {"item": item}).status_code == 200
    world.faults.append(Fault("keyvault", "status", times=None))
    forward(minutes=4)
    assert me.post("/context", {"item": item}).status_code == 200
    forward(minutes=2)
    away = me.post("/context", {"item": item})
    assert (away.status_code, away.json["code"]) == (503, "unavailable")
    assert "Retry-After" in away.headers
    world.faults.clear()
    forward(seconds=6)
    assert me.post("/context", {"item": item}).status_code == 200
    for one in (both, deps):
        one.store.close()


def test_a_vault_without_the_packages_that_it_needs_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "server.auth.key_vault", raising=False)
    monkeypatch.setitem(sys.modules, "azure.keyvault.keys", None)
    with pytest.raises(InvalidInput, match=r"extra “azure” \(azure.keyvault.keys is not installed\)"):
        wiring.check(replace(settings, key_vault="https://ssi.vault.example.com/keys/ssi"))


def test_a_new_version_in_the_vault_takes_over_and_the_old_one_can_be_disabled(
    cloud: Cloud, settings: Settings, world: World
) -> None:
    vaulted = replace(settings, key_vault=cloud.vault.address)
    running = wiring.build(vaulted, now=world.now)
    rotate(running)
    sealed = Sealed(running)
    cloud.vault.rotate(cloud.now())
    deps = wiring.build(vaulted, now=world.now)
    assert [one["tenants"] for one in list_keys(deps)] == [0, 1]
    assert rotate(deps) == {"tenants": 1, "rewrapped": 1, "retired": 0}
    cloud.vault.versions[0].enabled = False
    assert rotate(deps) == {"tenants": 1, "rewrapped": 0, "retired": 0}
    assert sealed.opens(wiring.build(vaulted, now=world.now), sealed.tenants[0])
    assert sealed.opens(running, sealed.tenants[0])


# Refusing to start


def spoilt(file: Path, text: str, mode: int) -> Path:
    file.touch(mode)
    file.chmod(mode)
    file.write_text(text)
    return file


@sqlite
def test_without_its_keys_nothing_starts_and_the_reason_is_said(installed: Installed) -> None:
    folder = installed.folder
    create_key_file(folder / "other")
    (key,) = FileKeys(folder / "key").ids
    foreign = f"keys: the data of demo is under key {key.hex()}, which this installation does not have"
    starts = {
        ("serve", folder / "missing"): "key_file: cannot be read: No such file or directory",
        ("serve", folder / "other"): foreign,
        ("worker", folder / "other"): foreign,
    }
    with ExitStack() as stack:
        processes = {start: stack.enter_context(running(installed, start[0], SSI_KEY_FILE=str(start[1]))) for start in starts}
        for start, process in processes.items():
            assert (process.communicate(timeout=60)[1], process.returncode) == (f"ssi: {starts[start]}\n", 1)


@pytest.mark.parametrize(
    ("text", "mode", "reason"),
    [
        (base64.urlsafe_b64encode(bytes(32)).decode(), 0o644, "may be read by others; allow only its owner (mode 0600)"),
        ("!garbage!", 0o600, "does not hold base64url text"),
        ("", 0o600, "is empty"),
    ],
)
def test_a_key_file_that_is_spoilt_is_refused_with_the_reason(
    settings: Settings, command: Command, text: str, mode: int, reason: str
) -> None:
    file = spoilt(settings.key_file.with_name("spoilt"), text, mode)
    environment = {"SSI_DATABASE_URL": settings.database_url, "SSI_KEY_FILE": str(file), "SSI_PUBLIC_URL": settings.public_url}
    ended = command(environment, "keys", "list")
    assert (ended.code, ended.out, ended.err) == (1, "", f"ssi: key_file: {reason}\n")


def test_a_key_that_fits_by_name_only_is_found_out(deps: Deps) -> None:
    with deps.store.transaction() as tx:
        ((tenant_id, wrapped),) = tx.wrapped_keys().items()
        assert tx.rewrap(tenant_id, wrapped, wrapped[:-1] + bytes([wrapped[-1] ^ 1]))
    with pytest.raises(InvalidInput, match="the data of demo does not open"):
        check_keys(deps.store, deps.vault.secrets)


def test_a_rotation_touches_nothing_while_a_tenants_key_is_missing(deps: Deps, settings: Settings, tmp_path: Path) -> None:
    create_key_file(tmp_path / "other")
    foreign = Secrets(FileKeys(tmp_path / "other")).new_data_key()
    with deps.store.transaction() as tx:
        tx.add_tenant("foreign", foreign, C4C, [], deps.now())
    with pytest.raises(InvalidInput, match="the data of foreign is under key"):
        rotate(deps)
    assert len(load_key_file(settings.key_file)) == 1
    assert {(one["id"], one["in_use"]) for one in list_keys(deps)} == {
        (deps.vault.secrets.kek.ids[0].hex(), True),
        (key_id(foreign).hex(), False),
    }


@sqlite
def test_the_list_shows_ids_and_numbers_and_no_key(installed: Installed, command: Command) -> None:
    plain, as_json = command(installed.environment, "keys", "list"), command(installed.environment, "keys", "list", "--json")
    (one,) = FileKeys(installed.folder / "key").ids
    assert plain.out == f"{one.hex()}\t1\n"
    assert as_json.out == json.dumps([{"id": one.hex(), "tenants": 1, "in_use": True}]) + "\n"


@pytest.mark.soak
@pytest.mark.parametrize("installed", ["sqlite", "postgres"], indirect=True)
def test_a_thousand_tenants_are_rewrapped_within_seconds(installed: Installed, started: Callable[[], Deps], count: Count) -> None:
    deps = started()
    add_tenants(deps, 1000)
    began = time.monotonic()
    assert rotate(deps)["rewrapped"] == 1001
    took = time.monotonic() - began
    count(f"keys: milliseconds for 1,000 tenants on {deps.store._engine.dialect.name}", round(took * 1000))
    assert took < 60


def under(deps: Deps) -> set[bytes]:
    """Ids of the keys by which the tenants' data keys are wrapped."""
    with deps.store.transaction(reading=True) as tx:
        return {key_id(wrapped) for wrapped in tx.wrapped_keys().values()}


def ssi(installed: Installed, *arguments: str) -> str:
    with running(installed, *arguments) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out


@contextmanager
def running(installed: Installed, *arguments: str, **changes: str) -> Iterator[subprocess.Popen[str]]:
    """Run `ssi`; the kernel ends it when the tests are killed."""
    command = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-c", "from server.cli import main; main()", *arguments]
    environment = {"PATH": os.environ["PATH"], **installed.environment, **changes}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()
