"""The mail client's own JSON: what its page lists, opens and changes.

A mailbox is addressed by its owner's address, a message by its immutable id, a place (a folder, or a label at Google) by its id
or well-known name. What places and tags are, and what a person can do with them, differs by who hosts the mailbox: `folders`
and `labels`. The page polls one call, `GET /api/mailboxes/<address>`, with the revision it has seen; a change made by anybody
(the server by Graph, another tab) changes the revision. Messages that are sent stay in the World (`post`).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, abort, jsonify, request

from simulator import mime
from simulator.ews import ON_PREMISES
from simulator.google.mail import Gmail
from simulator.inbox import labels, post
from simulator.inbox.folders import ACTOR, Folders
from simulator.inbox.labels import Labels
from simulator.world import GetWorld, MailboxState, Person, StoredMessage, World

Json = dict[str, Any]
VENDORS = ("c4c", "exchange", "google", "google_identity", "graph", "identity", "smtp")
MAX_PREVIEW_BYTES = 1_000_000  # larger messages show no preview: decoding them would hold up the list


class Reader:
    """Messages taken apart, remembered until their bytes change: a list of hundreds is asked for every second."""

    def __init__(self) -> None:
        self._parsed: dict[str, tuple[bytes, mime.Parsed]] = {}

    def read(self, message: StoredMessage) -> mime.Parsed:
        raw = message.mime
        known = self._parsed.get(message.immutable_id)
        if known is None or known[0] is not raw:
            known = self._parsed[message.immutable_id] = (raw, mime.read(raw))
        return known[1]

    def row(self, message: StoredMessage) -> Json:
        """What the list shows of a message."""
        letter = self.read(message)
        small = len(message.mime) < MAX_PREVIEW_BYTES
        return {
            "id": message.immutable_id,
            "subject": _subject(letter),
            "from": _first(letter.addresses("From")),
            "to": _people(letter.addresses("To")),
            "received_at": message.received_at.isoformat(),
            "preview": " ".join((letter.body("text/plain") or "")[:400].split())[:160] if small else "",
            "has_attachments": any(not leaf.inline for leaf in letter.attachments),
            "categories": message.categories,
            "is_read": message.is_read,
            "is_draft": message.is_draft,
        }

    def detail(self, message: StoredMessage) -> Json:
        """Everything the message pane and the Office.js stand-in need, but for files and the body."""
        letter = self.read(message)
        sender = letter.addresses("Sender") or letter.addresses("From")
        return self.row(message) | {
            "sender": _first(sender),
            "cc": _people(letter.addresses("Cc")),
            "bcc": _people(letter.addresses("Bcc")),
            "date": letter.text_of("Date"),
            "internet_message_id": letter.text_of("Message-ID"),
            "conversation_id": message.conversation_id,
            "item_id": message.ews_id,
            "headers": letter.head,
            "text": letter.body("text/plain"),
            "has_html": letter.body("text/html") is not None,
            "attachments": [
                {
                    "path": leaf.path,
                    "name": leaf.name or leaf.content_type,
                    "size": leaf.size_bytes,
                    "content_type": leaf.content_type,
                    "content_id": leaf.content_id,
                    "inline": leaf.inline,
                }
                for leaf in letter.attachments
            ],
        }


def _subject(letter: mime.Parsed) -> str:
    return " ".join(letter.text_of("Subject").split())


def _people(pairs: list[mime.Mailto]) -> list[Json]:
    return [{"name": name, "address": address} for name, address in pairs]


def _first(pairs: list[mime.Mailto]) -> Json | None:
    return next(iter(_people(pairs)), None)


@dataclass(frozen=True, slots=True)
class _Clients:
    """The mailboxes of the World of the moment, each as its client shows it."""

    get_world: GetWorld
    gmail: Gmail

    @property
    def world(self) -> World:
        return self.get_world()

    def mailbox(self, address: str) -> MailboxState:
        return self.world.mailboxes.get(address.lower()) or abort(404, "There is no such mailbox")

    def of(self, box: MailboxState) -> Folders | Labels:
        if box.owner.access_type == "google":
            return Labels(self.world, box, self.gmail)
        return Folders(self.world, box)

    def message(self, address: str, ref: str) -> tuple[Folders | Labels, StoredMessage]:
        box = self.mailbox(address)
        with self.world.lock:
            return self.of(box), box.find(ref) or abort(404, "There is no such message")


def blueprint(
    get_world: GetWorld,
    gmail: Gmail,
    *,
    sidebar_url: Callable[[], str],
    mint_token: Callable[[Person], str],
    mint_identity_token: Callable[[Person, str], str] | None,
    has_add_on: bool,
) -> Blueprint:
    """Return the routes under /api."""
    api = Blueprint("mailboxes", __name__, url_prefix="/api")
    clients = _Clients(get_world, gmail)

    @api.get("/config")
    def config() -> Response:
        world = get_world()
        return jsonify(
            sidebar_url=sidebar_url(),
            has_add_on=has_add_on,
            vendors=sorted({*VENDORS, *world.latency, *(a.vendor for a in world.requests())}),
            mailboxes=[_owner(box.owner) for box in world.mailboxes.values()],
            label_colors=[{"name": name, "color": color} for name, color in labels.COLORS],
        )

    @api.post("/token")
    def token() -> Response:
        owner = clients.mailbox(_body()["mailbox"]).owner
        if owner.access_type in ON_PREMISES and not owner.connected:
            abort(403, "This person is known to their Exchange server alone")
        return jsonify(token=mint_token(owner))

    @api.post("/identity-token")
    def identity_token() -> Response:
        owner = clients.mailbox(_body()["mailbox"]).owner
        if mint_identity_token is None or owner.access_type not in ON_PREMISES:  # Microsoft 365 gives none any more
            abort(403, "Only an Exchange server of one's own gives identity tokens")
        return jsonify(token=mint_identity_token(owner, _body()["url"]))

    _add_reading(api, clients, Reader())
    _add_changes(api, clients)
    _add_categories(api, clients)
    return api


def _add_reading(api: Blueprint, clients: _Clients, reader: Reader) -> None:
    """Add what the page shows."""

    @api.get("/mailboxes/<address>")
    def view(address: str) -> Response | tuple[str, int]:
        box = clients.mailbox(address)
        with clients.world.lock:
            revision = _revision(box)
            if request.args.get("seen") == revision:
                return "", 204
            client = clients.of(box)
            place, found = client.open(request.args.get("folder", "inbox"))
            found.sort(key=lambda m: m.received_at, reverse=True)
            lasting = {"folder": place, "folders": client.places(), "categories": client.categories()}
            traits = [client.traits(m) for m in found]
        # Taking messages apart can be slow and needs no lock; a change meanwhile has another revision and is seen next time.
        rows = [reader.row(m) | more for m, more in zip(found, traits, strict=True)]
        return jsonify(revision=revision, messages=rows, **lasting)

    @api.get("/mailboxes/<address>/messages/<ref>")
    def message(address: str, ref: str) -> Response:
        client, found = clients.message(address, ref)
        return jsonify(reader.detail(found) | client.traits(found))

    @api.get("/mailboxes/<address>/messages/<ref>/mime")
    def eml(address: str, ref: str) -> Response:
        return Response(clients.message(address, ref)[1].mime, content_type="message/rfc822")

    @api.get("/mailboxes/<address>/messages/<ref>/html")
    def html(address: str, ref: str) -> Response:
        """The HTML body for a frame in which nothing runs; inline images are its only requests, and ours."""
        letter = reader.read(clients.message(address, ref)[1])
        body = letter.body("text/html") or abort(404)
        for leaf in letter.attachments:
            if leaf.content_id:
                body = body.replace(f"cid:{leaf.content_id}", f"attachments/{leaf.path}")
        policy = "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; sandbox allow-same-origin"
        return Response(body, content_type="text/html; charset=utf-8", headers={"Content-Security-Policy": policy})

    @api.get("/mailboxes/<address>/messages/<ref>/attachments/<path>")
    def attachment(address: str, ref: str, path: str) -> Response:
        letter = reader.read(clients.message(address, ref)[1])
        leaf = next((leaf for leaf in letter.attachments if leaf.path == path), None) or abort(404)
        response = Response(leaf.content(), content_type=leaf.content_type)
        response.headers["Content-Security-Policy"] = "sandbox"
        shown_in_body = leaf.inline and leaf.content_type.startswith("image/")
        response.headers.set("Content-Disposition", "inline" if shown_in_body else "attachment", filename=leaf.name)
        return response


def _add_changes(api: Blueprint, clients: _Clients) -> None:
    """Add what a person does to messages."""

    @api.post("/mailboxes/<address>/messages")
    def write(address: str) -> tuple[Response, int]:
        box = clients.mailbox(address)
        with clients.world.lock:
            written = post.write(clients.world, box, _body())
        return jsonify(id=written.immutable_id, item_id=written.ews_id), 201

    @api.post("/mailboxes/<address>/messages/<ref>/categories")
    def categorise(address: str, ref: str) -> Response:
        client, found = clients.message(address, ref)
        wish = _body()
        with clients.world.lock:
            return jsonify(categories=client.tag(found, wish.get("add", []), wish.get("remove", [])))

    @api.post("/mailboxes/<address>/messages/<ref>/read")
    def read(address: str, ref: str) -> Response:
        box, found = clients.mailbox(address), clients.message(address, ref)[1]
        world, is_read = clients.world, bool(_body()["is_read"])
        with world.lock:
            if found.is_read != is_read:
                found.is_read = is_read
                box.touch(found, world.now())
                world.happened(ACTOR, "read", address, id=found.immutable_id, is_read=is_read)
        return jsonify(is_read=is_read)

    @api.post("/mailboxes/<address>/messages/<ref>/move")
    def move(address: str, ref: str) -> Response:
        client, found = clients.message(address, ref)
        with clients.world.lock:
            place = client.move(found, _body()["folder"])
            return jsonify(folder=place, item_id=found.ews_id)

    @api.delete("/mailboxes/<address>/messages/<ref>")
    def delete(address: str, ref: str) -> tuple[str, int]:
        box, found = clients.mailbox(address), clients.message(address, ref)[1]
        with clients.world.lock:
            box.left(found)
            del box.messages[found.immutable_id]
            clients.world.happened(ACTOR, "delete", address, id=found.immutable_id)
        return "", 204


def _add_categories(api: Blueprint, clients: _Clients) -> None:
    """Add what a person does to the list of categories, or labels."""

    @api.post("/mailboxes/<address>/categories")
    def add(address: str) -> tuple[Response, int]:
        wish = _body()
        name = " ".join(str(wish["name"]).split()) or abort(422, "A name is needed")
        with clients.world.lock:
            return jsonify(clients.of(clients.mailbox(address)).create(name, str(wish.get("color", "none")))), 201

    @api.patch("/mailboxes/<address>/categories/<ref>")
    def change(address: str, ref: str) -> Response:
        wish = _body()
        with clients.world.lock:
            return jsonify(clients.of(clients.mailbox(address)).change(ref, wish.get("name"), wish.get("color")))

    @api.delete("/mailboxes/<address>/categories/<ref>")
    def remove(address: str, ref: str) -> tuple[str, int]:
        with clients.world.lock:
            clients.of(clients.mailbox(address)).remove(ref)
        return "", 204


def _body() -> Json:
    sent = request.get_json()
    return sent if isinstance(sent, dict) else abort(422, "A JSON object is needed")


def _owner(person: Person) -> Json:
    return {
        "address": person.email,
        "name": person.name,
        "access_type": person.access_type,
        "provisioned": person.provisioned,
        "language": person.language,
    }


def _revision(box: MailboxState) -> str:
    """Changes when anything shown changes; master categories and removals have no counter of their own."""
    shown = "|".join(f"{c.id}{c.name}{c.color}" for c in box.categories.values())
    return f"{box.change}-{len(box.messages)}-{len(box.folders)}-{zlib.crc32(shown.encode())}"
