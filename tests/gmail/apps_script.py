"""The add-on's real sources, as they are deployed, in Node, before a server that says what a test wants."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from server.web.addon import addon_files

HERE = Path(__file__).parent
ORIGIN = "https://ssi.example.com"
TOKEN = "the person's ID token"
ACCESS = "the message's access token"
HEADERS = {"from": '"Jo Ba" <jo@north.example>', "to": "me@example.com", "cc": "", "subject": "<b>Offer</b> & more"}
MESSAGE_ID = "<1@north.example>"
MESSAGES = {"m1": {"accessToken": ACCESS, "message": {**HEADERS, "headers": {"Message-ID": MESSAGE_ID}}}}


@dataclass
class Scripted:
    """A server on 127.0.0.1 that gives these answers in turn and the last one for ever; None drops the connection."""

    url: str = ""
    answers: list[tuple[int, str] | None] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)

    def says(self, *answers: object) -> None:
        """Each is (status, body), None, or the JSON of a 200."""
        self.answers = [one if one is None or isinstance(one, tuple) else (200, json.dumps(one)) for one in answers]


@contextmanager
def listening() -> Iterator[Scripted]:
    scripted = Scripted()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            scripted.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            answer = scripted.answers.pop(0) if len(scripted.answers) > 1 else scripted.answers[0]
            if answer is None:
                self.close_connection = True
                return
            status, text = answer
            self.send_response(status)
            self.send_header("Location", "https://elsewhere.example/")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        scripted.url = f"http://127.0.0.1:{server.server_port}"
        yield scripted
        server.shutdown()


@dataclass(frozen=True)
class Called:
    answer: dict[str, Any]
    calls: list[dict[str, Any]]

    @property
    def card(self) -> dict[str, Any]:
        """The one card that a trigger pushed."""
        (step,) = self.answer["action"]["navigations"]
        return step["pushCard"]

    @property
    def text(self) -> str:
        """All words of the one card there is."""
        (step,) = (self.answer.get("action") or self.answer["renderActions"]["action"])["navigations"]
        return json.dumps(next(iter(step.values())), ensure_ascii=False)


@dataclass(frozen=True)
class Shim:
    """The add-on on Apps Script, for ORIGIN; its calls go to `server`."""

    folder: Path
    server: str
    node: subprocess.Popen[str]

    def __call__(
        self,
        call: str,
        event: dict[str, Any],
        *,
        token: str | None = TOKEN,
        messages: Mapping[str, Any] = MESSAGES,
        drops_after_ms: int = 10,
        dropped: str = "Address unavailable",
    ) -> Called:
        manifest = json.loads((self.folder / "appsscript.json").read_text())
        order = {
            "folder": str(self.folder),
            "call": call,
            "event": event,
            "around": {
                "identityToken": token,
                "urlFetchWhitelist": manifest["urlFetchWhitelist"],
                "messages": messages,
            },
            "server": self.server,
            "dropsAfterMs": drops_after_ms,
            "dropped": dropped,
        }
        assert self.node.stdin is not None
        assert self.node.stdout is not None
        self.node.stdin.write(json.dumps(order) + "\n")
        self.node.stdin.flush()
        line = self.node.stdout.readline()
        assert line, "Node ended; what it said is in the test's standard error"
        return Called(**json.loads(line))


@contextmanager
def node() -> Iterator[subprocess.Popen[str]]:
    """The process in which shims run."""
    command = ["node", HERE / "apps_script.mjs"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def deployed(folder: Path) -> Path:
    """Write the add-on for ORIGIN into a new folder, as an administrator does."""
    folder.mkdir()
    for name, text in addon_files("apps-script", ORIGIN, []).items():
        (folder / name).write_text(text)
    return folder
