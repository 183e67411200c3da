"""Looking for secrets where none may be: what they can look like, and who overhears all that there are.

A `Tap` stands at the vendors' ports and learns each secret that passes there; a `Relay` stands before a real server of ours,
keeps every answer, and learns the cookies and tokens that we give out. What they know, `found` looks for in what was left behind.
"""

import base64
import html
import io
import json
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, quote_plus, urlsplit

import httpx
from werkzeug.test import Client, TestResponse
from werkzeug.wrappers import Request

from simulator.ports import Simulator
from simulator.serving import Port
from tests.processes import PATIENCE_S, PLAIN

Secret = str | bytes
Known = dict[Secret, str]
"""Secret -> its kind."""

SHORTEST = 8  # characters: what is shorter is found by chance
JWT = re.compile(rb"eyJ[\w-]{8,}\.eyJ")  # two parts of one; what only begins so is any JSON in base64, a cursor among others
COOKIE, FORM, PANE = "cookie", "form", "pane token"  # kinds that we give out ourselves, each to one place

_ASKED = frozenset({"code", "code_verifier", "client_secret", "refresh_token", "assertion", "token", "password"})
_ANSWERED = frozenset({"access_token", "refresh_token", "id_token"})
_CSRF = re.compile(rb'name="csrf" value="([0-9a-f]+)"')
_PANE = re.compile(rb'name="ssi-token" content="([^"]+)"')


def forms(secret: Secret) -> set[bytes]:
    """Return what a secret looks like in all encodings that something on its way may have given it."""
    raw = secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else secret
    shapes = {raw, raw.hex().encode(), raw.hex().upper().encode(), repr(raw)[2:-1].encode(), *_base64(raw)}
    shapes |= {(quoted := quote(raw, safe="")).encode(), re.sub("%..", lambda hit: hit[0].lower(), quoted).encode()}
    shapes |= {quote_plus(raw, safe="").encode(), quote(raw).encode()}
    if isinstance(secret, str):
        wide = secret.encode("utf-16-le", "surrogatepass")
        shapes |= {wide, secret.encode("utf-16-be", "surrogatepass"), *_base64(wide), wide.hex().encode()}
        texts = {secret, repr(secret)[1:-1], html.escape(secret), html.escape(secret).replace("&quot;", "&#34;")}
        texts |= {text.replace("&#x27;", "&#39;") for text in texts}
        texts |= {json.dumps(text, ensure_ascii=plain)[1:-1] for text in texts for plain in (True, False)}
        shapes |= {text.encode("utf-8", "surrogatepass") for text in texts}
    return {shape for shape in shapes if len(shape) >= SHORTEST}


def _base64(raw: bytes) -> Iterator[bytes]:
    """The middle of its base64, which is the same whatever stands before and behind it; a text has three."""
    for before in range(3):
        whole = base64.b64encode(bytes(before) + raw)
        end = len(whole) // 4 * 4 - (4 if (before + len(raw)) % 3 else 0)
        middle = whole[(0, 2, 3)[before] : end]
        yield middle
        yield middle.replace(b"+", b"-").replace(b"/", b"_")


def found(known: Mapping[Secret, str], places: Iterable[tuple[str, bytes]], *, but: Iterable[str] = ()) -> list[str]:
    """Return "kind in place" for each secret in each place, not counting these kinds."""
    starts: dict[bytes, list[tuple[bytes, str]]] = defaultdict(list)  # one pass over a place, however many secrets there are
    for secret, kind in known.items():
        if kind not in but and len(secret) >= SHORTEST:
            for shape in forms(secret):
                starts[shape[:SHORTEST]].append((shape, kind))
    hits: set[str] = set()
    for name, data in places:
        for at in range(len(data)):
            if data[at : at + SHORTEST] in starts:
                hits |= {f"{kind} in {name}" for shape, kind in starts[data[at : at + SHORTEST]] if data.startswith(shape, at)}
    return sorted(hits)


class Tap:
    """Overhears what passes at the vendors' ports: `known` has each secret that was given to them or by them."""

    def __init__(self) -> None:
        self.known: Known = {}
        self._lock = threading.Lock()

    @contextmanager
    def on(self, simulator: Simulator) -> Iterator["Tap"]:
        ports: list[Port] = [simulator.c4c, simulator.graph, simulator.identity, simulator.ews, simulator.google]
        before = [port._server.app for port in ports]
        for port, app in zip(ports, before, strict=True):
            port._server.app = self._tapped(app)
        try:
            yield self
        finally:
            for port, app in zip(ports, before, strict=True):
                port._server.app = app

    def learn(self, secret: Secret, kind: str) -> None:
        with self._lock:
            if secret:
                self.known.setdefault(secret, kind)
            if isinstance(secret, str) and secret.count(".") == 2:  # of a token, a part is enough
                self.known.setdefault(secret.rpartition(".")[2], f"signature of {kind}")

    def _tapped(self, app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
        def tapped(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            headers: list[tuple[str, str]] = []
            self._learn_asked(environ)

            def started(status: str, given: list[tuple[str, str]], *more: Any) -> Any:
                headers.extend(given)
                return start(status, given, *more)

            answer = app(environ, started)
            if not any("json" in value for name, value in headers if name.lower() == "content-type"):
                return answer
            body = b"".join(answer)
            self._learn_answered(body)
            return [body]

        return tapped

    def _learn_asked(self, environ: dict[str, Any]) -> None:
        scheme, _, credentials = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() == "bearer":
            self.learn(credentials, "access token")
        elif scheme.lower() == "basic":
            self.learn(base64.b64decode(credentials).decode().partition(":")[2], "password")
        if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = io.BytesIO(body)
            for name, value in parse_qsl(body.decode()):
                if name in _ASKED:
                    self.learn(value, name)

    def _learn_answered(self, body: bytes) -> None:
        try:
            said = json.loads(body)
        except ValueError:  # a fault's broken JSON
            return
        for name in _ANSWERED & (said.keys() if isinstance(said, dict) else set()):
            self.learn(said[name], name)


@dataclass(frozen=True)
class Answer:
    """What we answered. The cookies are not in it, which go to their own browser."""

    path: str
    status: int
    data: bytes = field(repr=False)  # head and body


class Relay:
    """Real servers of ours as an application for a test's browser: requests go to each of them in turn."""

    def __init__(self, tap: Tap, urls: list[str]) -> None:
        self.answers: list[Answer] = []
        self._tap, self._urls = tap, urls
        self._lock = threading.Lock()

    def test_client(self) -> Client:
        return Client(self, TestResponse)

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        asked = Request(environ)
        with self._lock:
            self._urls.append(self._urls.pop(0))
        headers = {name: value for name, value in asked.headers.items() if name not in ("Host", "Content-Length")}
        url = self._urls[0] + asked.full_path.rstrip("?")
        headers |= {"Accept-Encoding": "identity"}
        answer = httpx.request(asked.method, url, headers=headers, content=asked.get_data(), timeout=PATIENCE_S, **PLAIN)
        cookies = answer.headers.get_list("set-cookie")
        head = [(name, value) for name, value in answer.headers.multi_items() if name.lower() != "set-cookie"]
        with self._lock:
            self.answers.append(Answer(asked.path, answer.status_code, repr(head).encode() + b"\n" + answer.content))
        self._learn(asked, cookies, answer.content)
        kept = [*head, *(("set-cookie", cookie) for cookie in cookies)]
        start(f"{answer.status_code} {answer.reason_phrase}", [h for h in kept if h[0].lower() != "transfer-encoding"])
        return [answer.content]

    def _learn(self, asked: Request, cookies: list[str], body: bytes) -> None:
        for cookie in cookies:
            self._tap.learn(cookie.partition("=")[2].partition(";")[0], COOKIE)
        for code in parse_qs(urlsplit(asked.full_path).query).get("code", []):
            self._tap.learn(code, "code")
        for kind, pattern in ((FORM, _CSRF), (PANE, _PANE)):
            for hit in pattern.findall(body):
                self._tap.learn(hit.decode(), kind)

    def places(self) -> Iterator[tuple[str, bytes]]:
        return ((f"the answer {one.status} of {one.path}", one.data) for one in self.answers)
