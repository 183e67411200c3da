"""The whole product in process, in front of the simulator on real loopback ports, with a World of each test's own.

Time belongs to the World: product and vendors read the same clock, and tests move it (`forward`) instead of sleeping. What a
worker would do happens when a test calls `work`. The database is a copy of one that is set up once per session, which fits
every World because `demo.small()` is deterministic.
"""

import base64
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from apiflask import APIFlask
from flask.testing import FlaskClient
from xdist.scheduler import LoadScopeScheduling

from server import logs, wiring
from server.cli import main
from server.config import Settings
from server.services import Deps, provisioning
from server.web import create_app
from server.worker import Dispatcher
from simulator import demo
from simulator.ports import Simulator
from simulator.world import AccessType, World
from tests.api import Api
from tests.figures import Count, counter, tell
from tests.once import once
from tests.services import postgres


@dataclass(frozen=True)
class Installation:
    """Files of an installation on which `ssi migrate` and `ssi provision` were run."""

    database: Path
    key: Path


@pytest.fixture(scope="session", autouse=True)
def _logging() -> None:
    """Log to standard error, as every entry point of the product does."""
    logs.configure("text")


@pytest.fixture(scope="session", autouse=True)
def _once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with once(tmp_path_factory.mktemp("once")):
        yield


@pytest.fixture(scope="session")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with Simulator(demo.small(), tmp_path_factory.mktemp("simulator")) as simulator:
        yield simulator


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of an empty PostgreSQL; make databases of your own in it with `new_database`."""
    with postgres() as url:
        yield url


@pytest.fixture(scope="session")
def _postgres_template(postgres_server: str, _installations: Callable[[AccessType], Installation], simulator: Simulator) -> str:
    key, url = _installations("office365").key, new_database(postgres_server, "set_up")
    install(simulator, "office365", url, key)
    return "set_up"


@pytest.fixture
def postgres_copy(postgres_server: str, _postgres_template: str) -> str:
    return new_database(postgres_server, f"copy_{secrets.token_hex(4)}", template=_postgres_template)


def new_database(server: str, name: str, *, template: str = "template0") -> str:
    """Make a database and return its URL."""
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
    return server.rpartition("/")[0] + "/" + name


@pytest.fixture
def access_type(request: pytest.FixtureRequest) -> AccessType:
    """Where the first person's mailbox is; see `everywhere` of tests.api."""
    chosen: AccessType = getattr(request, "param", "office365")
    return chosen


@pytest.fixture
def world(simulator: Simulator, access_type: AccessType) -> World:
    """A fresh World behind the ports, in whose C4C the product's signing key is trusted."""
    simulator.world = world_with(access_type)
    simulator.provisioning()
    return simulator.world


def world_with(access_type: AccessType) -> World:
    world = demo.small()
    demo.rehome(world, world.people[0], access_type)
    return world


@pytest.fixture
def forward(world: World) -> Callable[..., None]:
    """Move the clock of product and vendors: forward(minutes=5)."""

    def forward(**span: float) -> None:
        world.clock_skew += timedelta(**span)

    return forward


@pytest.fixture(scope="session")
def _installations(simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Callable[[AccessType], Installation]:
    @cache
    def installed(access_type: AccessType) -> Installation:
        folder = tmp_path_factory.mktemp("installation")
        made = Installation(folder / "ssi.sqlite", folder / "key")
        made.key.write_text(base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())
        made.key.chmod(0o600)
        install(simulator, access_type, f"sqlite:///{made.database}", made.key)
        return made

    return installed


@pytest.fixture
def _installation(_installations: Callable[[AccessType], Installation], access_type: AccessType) -> Installation:
    return _installations(access_type)


def install(simulator: Simulator, access_type: AccessType, database: str, key: Path) -> None:
    """Set a database up for the World that tests with this access type get; the World of the moment stays."""
    moment, simulator.world = simulator.world, world_with(access_type)
    document = simulator.provisioning()
    simulator.world = moment
    set_up(settings_of(database, key, document["environment"]), document)


def set_up(settings: Settings, document: dict[str, Any]) -> None:
    deps = wiring.build(settings)
    deps.store.migrate()
    provisioning.provision(deps, document)
    deps.store.close()
    engine = sa.create_engine(settings.database_url, poolclass=sa.NullPool)
    with engine.begin() as connection:  # reading everybody's addresses takes a while; see the fixture `scans`
        connection.exec_driver_sql("UPDATE address_scan SET next_due_at = NULL")
        connection.exec_driver_sql("UPDATE mailbox_sync SET next_due_at = NULL")  # nor does every test want a session


def settings_of(database: str, key: Path, environment: dict[str, str]) -> Settings:
    own = {"SSI_DATABASE_URL": database, "SSI_KEY_FILE": str(key), "SSI_PUBLIC_URL": "https://sidebar.example.com"}
    own |= {"SSI_HOOKS_URL": "off"}  # a test that wants notifications says so
    own |= {"SSI_USER_CALLS_PER_MINUTE": "0", "SSI_FAILED_SIGN_INS_PER_MINUTE": "0"}  # the World's clock may stand still
    return Settings.from_environment({**environment, **own})


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a set-up database of this test's own; parametrise it (indirect) with "postgres" to have that."""
    if getattr(request, "param", "sqlite") == "postgres":
        return str(request.getfixturevalue("postgres_copy"))
    shutil.copy(request.getfixturevalue("_installation").database, tmp_path / "ssi.sqlite")
    return f"sqlite:///{tmp_path / 'ssi.sqlite'}"


@pytest.fixture
def settings(_installation: Installation, database: str, world: World, simulator: Simulator) -> Settings:
    return settings_of(database, _installation.key, simulator.provisioning()["environment"])


@pytest.fixture
def process(settings: Settings, world: World) -> Iterator[Callable[..., Deps]]:
    """Compose the product as one process would; each call is another process on the same database.

    Keyword arguments replace limits, e.g. process(save_deadline_s=0.1).
    """
    made: list[Deps] = []

    def compose(**limits: Any) -> Deps:
        deps = wiring.build(settings, now=world.now)
        made.append(deps)
        return replace(deps, limits=replace(deps.limits, **limits))

    yield compose
    for deps in made:
        deps.background.shutdown()
        deps.store.close()


@pytest.fixture
def deps(process: Callable[..., Deps]) -> Deps:
    return process()


@pytest.fixture
def work(deps: Deps) -> Callable[[], None]:
    """Do what a worker finds due, until nothing is."""
    dispatcher = Dispatcher(deps, threads=0, poll_s=1)

    def work() -> None:
        while dispatcher.run_once():
            pass

    return work


@pytest.fixture
def scans(deps: Deps) -> None:
    """Have the addresses in C4C read into the spelling index at the next `work`, as after provisioning."""
    with deps.store._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE address_scan SET next_due_at = '2026-01-01'")


@pytest.fixture
def app(deps: Deps, settings: Settings) -> APIFlask:
    return create_app(deps, wiring.face(settings))


@pytest.fixture
def client(app: APIFlask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def api(deps: Deps, settings: Settings, app: APIFlask, simulator: Simulator) -> Callable[..., Api]:
    """Act as a person: api() is the first of the World's people, api(1) the second; `at` names another process."""

    def api(number: int = 0, *, at: Deps | None = None) -> Api:
        used = app if at is None else create_app(at, wiring.face(settings))
        return Api(used, simulator, simulator.world.people[number])

    return api


@pytest.fixture
def me(api: Callable[..., Api]) -> Api:
    return api()


@pytest.fixture
def colleague(api: Callable[..., Api]) -> Api:
    return api(1)


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it showed."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `ssi` here, without the second that a process takes to start: command(environment, "keys", "list").

    On SQLite only: connections to PostgreSQL would stay open, which otherwise end with the process.
    """

    def command(environment: dict[str, str], *arguments: object) -> Ended:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["ssi", *map(str, arguments)])
            try:
                with pytest.raises(SystemExit) as ended:
                    main()
            finally:
                logs.configure("text")  # the command line sets it for its process, which here goes on
        shown = capsys.readouterr()
        return Ended(int(ended.value.code or 0), shown.out, shown.err)

    return command


@pytest.fixture
def count(record_property: Callable[[str, Any], None]) -> Count:
    """Add to a figure ("section: name") that is told at the end of the run."""
    return counter(record_property)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    tell(terminalreporter)


class _Scheduling(LoadScopeScheduling):
    """Any test on any core, but all that share the browser tests' one running product on the same."""

    def _split_scope(self, nodeid: str) -> str:
        return "tests/browser" if nodeid.startswith("tests/browser/") else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return _Scheduling(config, log)
