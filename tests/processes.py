"""The product in processes of its own, to be killed: `ssi serve` and `ssi worker` on a real port, in front of the simulator.

Leases and waiting times are short, so that a killed save is taken up again within seconds.
"""

import base64
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from server import wiring
from server.config import Settings
from server.services import provisioning
from simulator.ports import Simulator
from simulator.world import Person
from tests.services import free_port

PATIENCE_S = 30.0
PLAIN: dict[str, Any] = {"trust_env": False, "verify": False}  # plain http on loopback: no proxy, and no time for certificates
SHORT = {
    "SSI_LEASE_S": "1.5",
    "SSI_UNKNOWN_SETTLE_S": "1.0",
    "SSI_IDENTITY_TIMEOUT_S": "2.0",
    "SSI_POLL_S": "0.1",
    "SSI_THREADS": "4",
    "SSI_WORKER_THREADS": "1",
    "SSI_LOG_FORMAT": "text",
    "SSI_USER_CALLS_PER_MINUTE": "0",
}


def eventually(happens: Callable[[], Any], within_s: float = PATIENCE_S) -> Any:
    """Return the first true value of `happens`; fail after a while."""
    deadline = time.monotonic() + within_s
    while not (value := happens()):
        assert time.monotonic() < deadline, f"this did not happen within {within_s:.0f} s"
        time.sleep(0.05)
    return value


@dataclass
class Installed:
    """An installation and whatever of it runs. Use it as a context: what still runs at the end is killed.

    `database` is the URL of an empty database; without one it is SQLite in `folder`.
    """

    simulator: Simulator
    folder: Path
    database: str = ""
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self._running: list[subprocess.Popen[bytes]] = []
        key = self.folder / "key"
        key.write_text(base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())
        key.chmod(0o600)
        document = self.simulator.provisioning()
        self.environment = {
            **document["environment"],
            "SSI_DATABASE_URL": self.database or f"sqlite:///{self.folder / 'ssi.sqlite'}",
            "SSI_KEY_FILE": str(key),
            "SSI_PUBLIC_URL": f"http://127.0.0.1:{self.port}",
            **SHORT,
        }
        deps = wiring.build(Settings.from_environment(self.environment))
        deps.store.migrate()
        provisioning.provision(deps, document)
        deps.store.close()

    def __enter__(self) -> "Installed":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def serve(self, *, processes: int = 1, port: int = 0, **environment: str) -> None:
        """Start the server, or another one at this port; return when it answers."""
        port = port or self.port
        self._start("serve", "--port", str(port), "--processes", str(processes), **environment)
        eventually(lambda: self.answers(port))

    def work(self) -> None:
        """Start a worker of its own."""
        self._start("worker")

    def answers(self, port: int = 0) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(self.url("/readyz", port), **PLAIN).status_code == 200
        return False

    def url(self, path: str, port: int = 0) -> str:
        return f"http://127.0.0.1:{port or self.port}{path}"

    def shown(self) -> bytes:
        """What everybody on the machine can see of what runs: command lines, and with them here the environments."""
        pids = [process.pid for process in self._running]
        for pid in pids:
            pids += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return b"\0".join(Path(f"/proc/{pid}/{file}").read_bytes() for pid in pids for file in ("cmdline", "environ"))

    def send(self, person: Person, method: str, path: str, body: Any = None) -> httpx.Response:
        headers = {"Authorization": "Bearer " + self.simulator.bearer(person)}
        return httpx.request(
            method, self.url("/api" + path), headers=headers, json=body, timeout=PATIENCE_S, trust_env=False, verify=False
        )

    def kill(self) -> None:
        """SIGKILL everything at once, as a power cut would."""
        for process in self._running:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in self._running:
            process.wait(10)
        self._running.clear()

    def kill_web_worker(self) -> None:
        """SIGKILL the process that handles requests and does the jobs; gunicorn then starts another."""
        (pid,) = self._web_workers()
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: pid not in self._web_workers() and self._web_workers())

    def _web_workers(self) -> list[int]:
        (process,) = self._running
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def _start(self, *arguments: str, **environment: str) -> None:
        run = [sys.executable, "-c", "from server.cli import main; main()", *arguments]
        # The kernel ends it when the tests are killed.
        command = ["setpriv", "--pdeathsig", "KILL", *run]
        env = {"PATH": os.environ["PATH"], **self.environment, **environment}
        with (self.folder / "log").open("ab") as log:
            self._running.append(subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True))
