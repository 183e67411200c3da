"""Fixtures for the tests of server.auth: a fresh World behind one port, and an SQLite file of its own for each test."""

import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from server.store import Store
from simulator.world import Person, World
from tests.auth.house import House
from tests.auth.sign_in import Database, Line, SignIn


@pytest.fixture(scope="session")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    line = Line(tmp_path_factory.mktemp("authority"))
    with line.port, line.google_port:
        yield line


@pytest.fixture
def sign_in(line: Line) -> SignIn:
    line.world = World()
    line.world.people += [
        Person("Mara Lind", "mara.lind@example.com", "0b8e3f6a-2f5c-4c39-9d0e-6a1f0c2b7d11", "MLIND", "1001", "pw-1"),
        Person("Oki Tan", "oki.tan@example.com", "5d2c1a90-77aa-4b0e-8e61-3c9b5f4e2a22", "OTAN", "1002", "pw-2"),
    ]
    return SignIn(line.world, line.provider, line.port.url, line.google, line.google_port.url, line.gateway)


@pytest.fixture(scope="session")
def _empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("database") / "empty.sqlite"
    store = Store(f"sqlite:///{file}")
    store.migrate()
    store.close()
    return file


@pytest.fixture
def database(_empty_database: Path, tmp_path: Path) -> Iterator[Database]:
    file = tmp_path / "ssi.sqlite"
    shutil.copy(_empty_database, file)
    database = Database(file)
    yield database
    database.close()


@pytest.fixture
def house(sign_in: SignIn, database: Database) -> House:
    return House(sign_in, database)


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """All that any library logs at its most talkative, and all that we log, without the redaction that hides slips."""
    for module in ("server.auth", "server.auth.flow", "server.auth.identity", "server.auth.oauth"):
        # A logger that was used before keeps the processors it had then.
        monkeypatch.setattr(f"{module}.log", structlog.get_logger())
    caplog.set_level(logging.DEBUG)
    for name in ("msal", "authlib", "httpx", "httpcore", "sqlalchemy.engine", "alembic"):
        caplog.set_level(logging.DEBUG, logger=name)
    with capture_logs() as ours:
        yield lambda: caplog.text + repr([record.args for record in caplog.records]) + repr(ours)
