"""Start a private PostgreSQL or Redis for the tests that need the real thing.

Each listens on a free loopback port only, keeps its data in a temporary directory and ends with the block at the latest; if the
tests are killed, the kernel ends it. Nothing of a service that already runs on the machine is used or touched.
"""

import glob
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

LOOPBACK = "127.0.0.1"


@contextmanager
def postgres(*, durable: bool = False, place: Path | None = None, port: int = 0) -> Iterator[str]:
    """Run a PostgreSQL; yield its SQLAlchemy URL. It is empty, unless it ran before in the same `place`, a folder that stays.

    `durable` keeps fsync on, for tests that kill it; without it the server trades safety on power loss for speed. The end of the
    block is an "immediate shutdown": nothing is written any more, and the next start in the place recovers as after a crash.
    """
    port = port or free_port()
    # PostgreSQL refuses to run as root, so root becomes the user that Debian's package made.
    identity = ["--reuid", "postgres", "--regid", "postgres", "--init-groups"] if os.geteuid() == 0 else []
    with ExitStack() as stack:
        directory = str(place or stack.enter_context(_passing()))
        if identity:
            shutil.chown(directory, "postgres", "postgres")
        data = Path(directory, "data")
        access = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        if not data.exists():
            subprocess.run(
                ["setpriv", *identity, newest_postgres("initdb"), "-D", data, *access],
                cwd=directory,
                check=True,
                capture_output=True,
            )
        settings = [f"listen_addresses={LOOPBACK}", f"unix_socket_directories={directory}"]
        if not durable:
            settings += ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]
        server = [newest_postgres("postgres"), "-D", data, "-p", port, *(f"--{setting}" for setting in settings)]
        ping = [newest_postgres("pg_isready"), "-q", "-h", LOOPBACK, "-p", str(port)]
        # SIGQUIT is its "immediate shutdown": at once, but its other processes and its shared memory go with it.
        with running(*identity, server=server, end=signal.SIGQUIT, is_ready=lambda: subprocess.run(ping).returncode == 0):
            yield f"postgresql+psycopg://postgres@{LOOPBACK}:{port}/postgres"


def _passing() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="ssi-postgres-", ignore_cleanup_errors=True)


@contextmanager
def redis(*, port: int = 0) -> Iterator[str]:
    """Run an empty Redis; yield its URL. The end of the block kills it."""
    port = port or free_port()
    with tempfile.TemporaryDirectory(prefix="ssi-redis-") as directory:
        storage = ["--dir", directory, "--save", "", "--appendonly", "no"]
        server = ["redis-server", "--bind", LOOPBACK, "--port", port, *storage]
        with running(server=server, end=signal.SIGKILL, is_ready=lambda: answers_ping(port)):
            yield f"redis://{LOOPBACK}:{port}/0"


def free_port() -> int:
    """Return a port that stays free until it is used, also while its server is down.

    None that the system gives to whoever asks for any, or to connections that go out: those begin at 32768 (ip(7)).
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with suppress(OSError), socket.create_server((LOOPBACK, port)):
            return port


def newest_postgres(program: str) -> str:
    found = glob.glob(f"/usr/lib/postgresql/*/bin/{program}")
    return max(found, key=lambda path: int(path.split("/")[4]))


@contextmanager
def running(*identity: str, server: list[object], end: signal.Signals, is_ready: Callable[[], bool]) -> Iterator[None]:
    """Run a server for the length of the block, once it is ready; `end` ends it, also when the tests are killed."""
    command = ["setpriv", *identity, "--pdeathsig", end.name.removeprefix("SIG"), *map(str, server)]
    with tempfile.TemporaryFile("w+") as log, subprocess.Popen(command, stdout=log, stderr=log, cwd="/") as process:
        try:
            deadline = time.monotonic() + 30
            while not is_ready():
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(f"{server[0]} did not start:\n{log.read()}")
                time.sleep(0.02)
            yield
        finally:
            process.send_signal(end)


def answers_ping(port: int) -> bool:
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
