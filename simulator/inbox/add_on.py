"""The Gmail add-on beside a message: what Google does between a person's click and the add-on's code.

The add-on runs in one of two ways, and the developer chooses. *Apps Script*: the page runs the real sources of `appsscript/` in a
worker (static/addon) and gets from here what Google would give them, that is the event, the person's ID token, the headers of
the open message and a way out to the server. *HTTP*: Google's servers are here; they send the event, with tokens of Google's and
of the person, to the product's endpoint. In both the page draws the answer. Sources: domain notes on Gmail, 1.1 to 1.4; the shape
of an event is that of @types/google-apps-script (Addons.EventObject) and of Google's page on event objects [G8][G9].

The product's server may be called and nothing else, so that this is no way out for other pages in the same browser.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from flask import Blueprint, Response, abort, jsonify, request

from simulator import mime
from simulator.google.identity import SCOPE, GoogleIdentity
from simulator.google.mail import gmail_id
from simulator.world import GetWorld, Person, StoredMessage

Json = dict[str, Any]

SOURCES = Path(__file__).parents[2] / "appsscript"
RUNS_FOR_S = 30.0  # one execution of a Workspace add-on, whatever it waits for
SCRIPT_ID = "1SsiSidebarSimulated-0000000000000000000000000000000000000"
USER_AGENT = f"Mozilla/5.0 (compatible; Google-Apps-Script; beanserver; +https://script.google.com; id: {SCRIPT_ID})"
PICTURES = frozenset({"image/png", "image/jpeg", "image/gif"})
TRIGGERS = ("homepage", "message", "compose")

_SERVER = re.compile(r'^const SERVER = "([^"]+)";', re.MULTILINE)  # what an installation fills in (`ssi manifest gmail`)
_OPENS_MESSAGES = re.compile(r"gmail\.addons\.current\.message\.(action|metadata|readonly)$")


@dataclass(frozen=True, slots=True)
class Project:
    """The add-on's project at Google: the script's sources as an administrator uploads them, and the manifest.

    An address of the product in them is the one in `const SERVER`; here it is that of the server that is asked for.
    """

    folder: Path

    def file(self, name: str, server: str) -> str:
        """Raises: FileNotFoundError."""
        main = (self.folder / "main.js").read_text(encoding="utf-8")
        found = _SERVER.search(main)
        assert found, "main.js does not say where the server is"
        return (self.folder / name).read_text(encoding="utf-8").replace(found[1], server)

    def manifest(self, server: str) -> Json:
        manifest: Json = json.loads(self.file("appsscript.json", server))
        return manifest

    @property
    def sources(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("*.js"))


@dataclass(frozen=True, slots=True)
class AddOn:
    """What the inbox needs to show the add-on: Google's tokens, the certificates that calls trust, and the script."""

    identity: GoogleIdentity
    trusted: Callable[[], ssl.SSLContext | bool]
    project: Project = field(default=Project(SOURCES))


@dataclass(frozen=True, slots=True)
class _Moment:
    """Where a person is in Gmail when an event happens, as the page tells it."""

    person: Person
    message: StoredMessage | None
    draft: Json | None  # "to", "cc" and "bcc", lists of addresses, while a message is written
    form_inputs: Json | None
    parameters: Json | None
    place: Json  # "locale", "time_zone", "offset_ms"


def blueprint(get_world: GetWorld, add_on: AddOn | None, server_url: Callable[[], str]) -> Blueprint:
    """Return the routes under /addon; `server_url` gives the product's origin, "" while there is none."""
    door = Blueprint("add_on", __name__, url_prefix="/addon")
    if add_on is not None:
        _serve_project(door, add_on.project, server_url)
        _serve_events(door, _Gmail(get_world, add_on, server_url))
    return door


def _serve_project(door: Blueprint, project: Project, server_url: Callable[[], str]) -> None:
    @door.get("/manifest")
    def manifest() -> Response:
        """What Gmail knows of the add-on, from its manifest; "endpoints" are those of the HTTP runtime.

        Cards may lead to the tenant's C4C, too, whose pages are the inbox's here; `ssi manifest gmail` adds the real one.
        """
        whole = project.manifest(server_url())
        common, gmail = whole["addOns"]["common"], whole["addOns"]["gmail"]
        home = gmail.get("homepageTrigger") or common["homepageTrigger"]
        functions = (home, gmail["contextualTriggers"][0], gmail["composeTrigger"]["selectActions"][0])
        named = [function.get("runFunction") or function.get("onTriggerFunction") for function in functions]
        return jsonify(
            name=common["name"],
            sources=[f"/addon/sources/{name}" for name in project.sources],
            functions=dict(zip(TRIGGERS, named, strict=True)),
            endpoints={trigger: f"{server_url()}/gmail/{trigger}" for trigger in TRIGGERS},
            url_fetch_whitelist=whole["urlFetchWhitelist"],
            open_link_url_prefixes=[*common["openLinkUrlPrefixes"], f"{request.host_url}c4c/"],
            universal_actions=common.get("universalActions", []),
        )

    @door.get("/sources/<name>")
    def source(name: str) -> Response:
        if name not in project.sources:
            abort(404)
        return Response(project.file(name, server_url()), content_type="text/javascript; charset=utf-8")


def _serve_events(door: Blueprint, gmail: _Gmail) -> None:
    @door.post("/event")
    def event() -> Response:
        """What an execution of the script gets: its event, and what its services know."""
        moment = gmail.moment(_body())
        made = gmail.event(moment)
        token = made.get("gmail", {}).get("accessToken")
        opened = moment.message and {made["gmail"]["messageId"]: {"accessToken": token, "message": _headers(moment.message)}}
        return jsonify(event=made, identity_token=gmail.identity_token(moment.person), messages=opened or {})

    @door.post("/fetch")
    def fetch() -> Response:
        """Do as UrlFetchApp's servers: one call, no redirects, and an answer of any status."""
        wish = _body()
        headers = {**wish["headers"], "User-Agent": USER_AGENT}
        return jsonify(gmail.call(wish["method"], wish["url"], headers, wish["body"]))

    @door.post("/call")
    def call() -> Response:
        """Let the HTTP runtime send an event to an endpoint: body as of /addon/event, and its "url"."""
        wish = _body()
        moment = gmail.moment(wish)
        system = gmail.system_token(wish["url"])
        made = gmail.event(moment) | {"authorizationEventObject": gmail.authorization(moment.person, system)}
        headers = {"Authorization": f"Bearer {system}", "Content-Type": "application/json; charset=UTF-8"}
        return jsonify(gmail.call("POST", wish["url"], headers, json.dumps(made)))

    @door.get("/image")
    def image() -> Response:
        """Do as Google's image proxy: whoever reads a card asks Google for its pictures. It shows no SVG."""
        answer = gmail.ask("GET", request.args["url"], {}, "")
        kind = answer.headers.get("Content-Type", "") if answer is not None else ""
        if answer is None or answer.status_code != 200 or kind not in PICTURES:
            abort(404)
        return Response(answer.content, content_type=kind)


@dataclass(frozen=True, slots=True)
class _Gmail:
    """Google's servers, as far as they are between a click and the add-on's code."""

    get_world: GetWorld
    add_on: AddOn
    server_url: Callable[[], str]

    def moment(self, wish: Json) -> _Moment:
        box = self.get_world().mailboxes.get(str(wish["mailbox"]).lower()) or abort(404, "There is no such mailbox")
        if box.owner.access_type != "google":
            abort(409, "Only Gmail shows this add-on")
        message = box.find(wish["message"]) or abort(404, "There is no such message") if wish.get("message") else None
        place = {name: wish.get(name) for name in ("locale", "time_zone", "offset_ms")}
        return _Moment(box.owner, message, wish.get("draft"), wish.get("form_inputs"), wish.get("parameters"), place)

    def event(self, moment: _Moment) -> Json:
        """Return the event object; without language and time zone unless the manifest asks for them."""
        manifest = self._manifest()
        common: Json = {"hostApp": "GMAIL", "platform": "WEB"}
        if manifest["addOns"]["common"].get("useLocaleFromApp"):
            zone = {"id": moment.place["time_zone"], "offset": moment.place["offset_ms"]}
            common |= {"userLocale": moment.place["locale"], "timeZone": zone}
        common |= {"formInputs": moment.form_inputs} if moment.form_inputs else {}
        common |= {"parameters": moment.parameters} if moment.parameters else {}
        event: Json = {"commonEventObject": common}
        if moment.message is not None:
            message = gmail_id(moment.message.immutable_id)
            event["gmail"] = {"messageId": message, "threadId": gmail_id(moment.message.conversation_id)}
            if any(map(_OPENS_MESSAGES.search, manifest["oauthScopes"])):
                token = self.add_on.identity.mint_message_token(self.get_world(), moment.person, message)
                event["gmail"]["accessToken"] = token
        elif moment.draft is not None:
            tells = manifest["addOns"]["gmail"]["composeTrigger"].get("draftAccess") == "METADATA"
            event["gmail"] = {f"{name}Recipients": moment.draft[name] for name in ("to", "cc", "bcc")} if tells else {}
        return event

    def identity_token(self, person: Person) -> str | None:
        """ScriptApp.getIdentityToken(): None without the scope "openid", without an address unless the script may know it."""
        scopes = self._manifest()["oauthScopes"]
        if "openid" not in scopes:
            return None
        hidden = {} if f"{SCOPE}userinfo.email" in scopes else {"email": None, "email_verified": None}
        return self.add_on.identity.mint_id_token(self.get_world(), person, name=None, **hidden)

    def system_token(self, endpoint: str) -> str:
        return self.add_on.identity.mint_system_token(self.get_world(), endpoint)

    def authorization(self, person: Person, system_token: str) -> Json:
        """Return an event's authorizationEventObject, which the HTTP runtime alone has."""
        scopes = self._manifest()["oauthScopes"]
        short = [scope.removeprefix(SCOPE) for scope in scopes]
        return {
            "userOAuthToken": self.add_on.identity.mint_access_token(self.get_world(), person, scopes=short),
            "userIdToken": self.identity_token(person),
            "systemIdToken": system_token,
            "authorizedScopes": scopes,
        }

    def call(self, method: str, url: str, headers: dict[str, str], body: str) -> Json:
        """Return status, headers and text of the server's answer; status 0 when none came."""
        answer = self.ask(method, url, headers, body)
        if answer is None:
            return {"status": 0, "headers": {}, "text": "no answer came"}
        return {"status": answer.status_code, "headers": dict(answer.headers), "text": answer.text}

    def ask(self, method: str, url: str, headers: dict[str, str], body: str) -> httpx.Response | None:
        server = self.server_url()
        if not server or not url.startswith(f"{server}/"):
            abort(403, "Only the product's server is called from here")
        try:
            return httpx.request(
                method, url, headers=headers, content=body, timeout=RUNS_FOR_S, verify=self.add_on.trusted(), trust_env=False
            )
        except httpx.HTTPError:
            return None

    def _manifest(self) -> Json:
        return self.add_on.project.manifest(self.server_url())


def _headers(message: StoredMessage) -> Json:
    """What GmailApp tells of a message: header fields decoded, names as they were written."""
    letter = mime.read(message.mime)
    named = {name.lower(): letter.text_of(name) for name in ("From", "To", "Cc", "Subject")}
    return named | {"headers": {name: letter.text_of(name) for name in letter.fields}}


def _body() -> Json:
    sent = request.get_json()
    return sent if isinstance(sent, dict) else abort(422, "A JSON object is needed")
