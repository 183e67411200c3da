"""The house: one for all tests of this folder in a process, since each takes a message of its own.

The proxies' addresses are the vendors' public ones, so whatever the vendors say about themselves leads through them.
"""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from simulator import demo
from simulator.ports import Simulator
from tests.conftest import _set_up, _settings
from tests.faults.house import SHORT, House, Process, Trap
from tests.faults.proxy import Proxy, Tls

_TOO_LARGE = "server.transport: too large an answer to a write is Rejected, though the remote acted"
_MEMORY = "server.transport: an answer is read up to 64 MB, and unpacked before its size is looked at"
_HANG = "server.store: waiting for PostgreSQL has no end"
_COMMIT = "server.services.saving: a commit that was made but not confirmed is taken for one that was not"
NOT_YET = {
    "create-100-mb-after": _TOO_LARGE,
    "attach-100-mb-after": _TOO_LARGE,
    "mime-garbage-before": "server.mail.graph: JSON is taken for a message",
    **{f"{step}-plain": _MEMORY for step in ("lookup", "message", "mime")},
    **{f"{step}-packed": _MEMORY for step in ("lookup", "c4c-sign-in", "keys", "message", "mime")},
    **{f"hang-{when}-promise": _HANG for when in ("before", "after", "mid")},
    **{f"commit-{number}": _COMMIT for number in (10, 11, 12)},
}
"""Tests of this folder that fail, by the end of their names, and what has to be mended."""


@pytest.fixture(scope="package")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    state, folder = tmp_path_factory.mktemp("vendors"), tmp_path_factory.mktemp("installation")
    with ExitStack() as stack:
        simulator = stack.enter_context(Simulator(demo.small(), state))
        tls = Tls(state / "ca" / "server.pem", simulator.ca_file)
        proxies = {}
        for name in ("c4c", "graph", "identity"):
            port = getattr(simulator, name)
            proxies[name] = stack.enter_context(Proxy(port.port, tls))
            port.url = proxies[name].url
        key = folder / "key"
        key.write_text("A" * 43 + "=")
        key.chmod(0o600)
        document = simulator.provisioning()
        settings = _settings(f"sqlite:///{folder / 'ssi.sqlite'}", key, document["environment"])
        _set_up(settings, document)
        house = House(simulator, settings, proxies, stack.enter_context(Trap()))
        stack.callback(house.close)
        yield house


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect what is known not to hold yet, and do not wait for it in the short run."""
    for item in items:
        for name, reason in NOT_YET.items():
            if item.nodeid.startswith("tests/faults/") and item.name.endswith(f"[{name}]"):
                item.add_marker(pytest.mark.xfail(reason=reason, strict=reason != _MEMORY))
                item.add_marker(pytest.mark.soak)


@pytest.fixture(autouse=True)
def _well(house: House) -> Iterator[None]:
    """Leave the house as it was found; nobody may ever have gone where a remote sent us."""
    yield
    house.lift()
    assert house.trap.caught == []


@pytest.fixture(scope="package")
def patient(house: House) -> Process:
    """A process with the usual deadlines that has done all this before: signed in, categories made, connections warm."""
    return warm(house.process())


@pytest.fixture(scope="package")
def hasty(house: House) -> Process:
    """The same with short deadlines."""
    return warm(house.process(**SHORT))


def warm(process: Process) -> Process:
    for _ in range(3):  # short deadlines may pass on a busy machine
        if process.api.save(process.house.message()).status_code == 201:
            break
    return process
