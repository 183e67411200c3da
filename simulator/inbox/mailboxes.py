"""The mail client's own JSON: what its page lists, opens and changes.

A mailbox is addressed by its owner's address, a message by its immutable id, a folder by its id or well-known name. The
page polls one call, `GET /api/mailboxes/<address>`, with the revision it has seen; a change made by anybody (the server by
Graph, another tab) changes the revision. Messages that are sent stay in the World: a copy in the sender's Sent Items and
one in the inbox of each recipient who has a mailbox.
"""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Callable
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, formataddr, getaddresses, make_msgid
from typing import Any

from flask import Blueprint, Response, abort, jsonify, request

from simulator import mime
from simulator.world import Category, Folder, GetWorld, MailboxState, Person, StoredMessage

Json = dict[str, Any]
ACTOR = "inbox"
VENDORS = ("c4c", "graph", "identity")
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
            "item_class": message.item_class,
        }

    def detail(self, message: StoredMessage) -> Json:
        """Everything the message pane and the Office.js stand-in need, but for files and the body."""
        letter = self.read(message)
        sender = letter.addresses("Sender") or letter.addresses("From")
        return self.row(message) | {
            "folder": message.folder,
            "sender": _first(sender),
            "cc": _people(letter.addresses("Cc")),
            "bcc": _people(letter.addresses("Bcc")),
            "date": letter.text_of("Date"),
            "internet_message_id": letter.text_of("Message-ID"),
            "conversation_id": message.conversation_id,
            "ews_id": message.ews_id,
            "rest_id": message.rest_id,
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


def blueprint(get_world: GetWorld, *, sidebar_url: Callable[[], str], mint_token: Callable[[Person], str]) -> Blueprint:
    """Return the routes under /api."""
    api = Blueprint("mailboxes", __name__, url_prefix="/api")
    reader = Reader()

    @api.get("/config")
    def config() -> Response:
        world = get_world()
        return jsonify(
            sidebar_url=sidebar_url(),
            vendors=sorted({*VENDORS, *world.latency, *(a.vendor for a in world.requests())}),
            mailboxes=[_owner(box.owner) for box in world.mailboxes.values()],
        )

    @api.post("/token")
    def token() -> Response:
        box = _mailbox(get_world, _body()["mailbox"])
        return jsonify(token=mint_token(box.owner))

    @api.get("/mailboxes/<address>")
    def view(address: str) -> Response | tuple[str, int]:
        box = _mailbox(get_world, address)
        with get_world().lock:
            revision = _revision(box)
            if request.args.get("seen") == revision:
                return "", 204
            folder = _folder(box, request.args.get("folder", "inbox"))
            folders = [_folder_json(box, f) for f in box.folders.values()]
            categories = [_category(c) for c in box.categories.values()]
            found = [m for m in box.messages.values() if m.folder == folder.id]
        found.sort(key=lambda m: m.received_at, reverse=True)
        # Taking messages apart can be slow and needs no lock; a change meanwhile has another revision and is seen next time.
        rows = [reader.row(m) for m in found]
        return jsonify(revision=revision, folder=folder.id, folders=folders, categories=categories, messages=rows)

    @api.get("/mailboxes/<address>/messages/<ref>")
    def message(address: str, ref: str) -> Response:
        return jsonify(reader.detail(_message(get_world, address, ref)[1]))

    @api.get("/mailboxes/<address>/messages/<ref>/mime")
    def eml(address: str, ref: str) -> Response:
        return Response(_message(get_world, address, ref)[1].mime, content_type="message/rfc822")

    @api.get("/mailboxes/<address>/messages/<ref>/html")
    def html(address: str, ref: str) -> Response:
        """The HTML body for a frame in which nothing runs; inline images are its only requests, and ours."""
        letter = reader.read(_message(get_world, address, ref)[1])
        body = letter.body("text/html") or abort(404)
        for leaf in letter.attachments:
            if leaf.content_id:
                body = body.replace(f"cid:{leaf.content_id}", f"attachments/{leaf.path}")
        policy = "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; sandbox allow-same-origin"
        return Response(body, content_type="text/html; charset=utf-8", headers={"Content-Security-Policy": policy})

    @api.get("/mailboxes/<address>/messages/<ref>/attachments/<path>")
    def attachment(address: str, ref: str, path: str) -> Response:
        letter = reader.read(_message(get_world, address, ref)[1])
        leaf = next((leaf for leaf in letter.attachments if leaf.path == path), None) or abort(404)
        response = Response(leaf.content(), content_type=leaf.content_type)
        response.headers["Content-Security-Policy"] = "sandbox"
        shown_in_body = leaf.inline and leaf.content_type.startswith("image/")
        response.headers.set("Content-Disposition", "inline" if shown_in_body else "attachment", filename=leaf.name)
        return response

    _add_changes(api, get_world)
    _add_categories(api, get_world)
    return api


def _add_changes(api: Blueprint, get_world: GetWorld) -> None:
    """Add what a person does to messages."""

    @api.post("/mailboxes/<address>/messages")
    def write(address: str) -> tuple[Response, int]:
        box = _mailbox(get_world, address)
        world = get_world()
        with world.lock:
            written = _written(get_world, box, _body())
            if not written.is_draft:
                _deliver(get_world, box, written)
        return jsonify(id=written.immutable_id, ews_id=written.ews_id, folder=written.folder), 201

    @api.post("/mailboxes/<address>/messages/<ref>/categories")
    def categorise(address: str, ref: str) -> Response:
        box, found = _message(get_world, address, ref)
        wish, world = _body(), get_world()
        with world.lock:
            removed = {str(name).casefold() for name in wish.get("remove", [])}
            names = [name for name in found.categories if name.casefold() not in removed]
            names += [n for n in wish.get("add", []) if n.casefold() not in {m.casefold() for m in names}]
            if names != found.categories:
                before, found.categories = found.categories, names
                box.touch(found, world.now())
                world.happened(ACTOR, "categories", address, id=found.immutable_id, before=before, after=list(names))
            return jsonify(categories=found.categories)

    @api.post("/mailboxes/<address>/messages/<ref>/read")
    def read(address: str, ref: str) -> Response:
        box, found = _message(get_world, address, ref)
        world, is_read = get_world(), bool(_body()["is_read"])
        with world.lock:
            if found.is_read != is_read:
                found.is_read = is_read
                box.touch(found, world.now())
                world.happened(ACTOR, "read", address, id=found.immutable_id, is_read=is_read)
        return jsonify(is_read=is_read)

    @api.post("/mailboxes/<address>/messages/<ref>/move")
    def move(address: str, ref: str) -> Response:
        box, found = _message(get_world, address, ref)
        world = get_world()
        with world.lock:
            target = _folder(box, _body()["folder"])
            _leave(box, found)
            source, found.folder = found.folder, target.id
            # The immutable id survives a move, the EWS and REST ids do not.
            found.ews_id = "AAMk/" + uuid.uuid4().hex + "+" + uuid.uuid4().hex[:12] + "="
            box.touch(found, world.now())
            world.happened(ACTOR, "move", address, id=found.immutable_id, before=source, after=target.id)
        return jsonify(folder=target.id, ews_id=found.ews_id)

    @api.delete("/mailboxes/<address>/messages/<ref>")
    def delete(address: str, ref: str) -> tuple[str, int]:
        box, found = _message(get_world, address, ref)
        with get_world().lock:
            _leave(box, found)
            del box.messages[found.immutable_id]
            get_world().happened(ACTOR, "delete", address, id=found.immutable_id)
        return "", 204


def _add_categories(api: Blueprint, get_world: GetWorld) -> None:
    """Add what a person does to the master list. As in Outlook, messages keep a name that was deleted from it."""

    @api.post("/mailboxes/<address>/categories")
    def add(address: str) -> tuple[Response, int]:
        box, wish, world = _mailbox(get_world, address), _body(), get_world()
        name = " ".join(str(wish["name"]).split()) or abort(422, "A category needs a name")
        with world.lock:
            if any(c.name.casefold() == name.casefold() for c in box.categories.values()):
                abort(409, "There is a category of this name")
            category = Category(str(uuid.uuid4()), name, _color(wish.get("color", "none")))
            box.categories[category.id] = category
            world.happened(ACTOR, "master_create", address, id=category.id, name=name, color=category.color)
        return jsonify(_category(category)), 201

    @api.patch("/mailboxes/<address>/categories/<ref>")
    def recolor(address: str, ref: str) -> Response:
        box, world = _mailbox(get_world, address), get_world()
        with world.lock:
            category = box.categories.get(ref) or abort(404)
            category.color = _color(_body()["color"])
            world.happened(ACTOR, "master_update", address, id=ref, name=category.name, color=category.color)
        return jsonify(_category(category))

    @api.delete("/mailboxes/<address>/categories/<ref>")
    def remove(address: str, ref: str) -> tuple[str, int]:
        box, world = _mailbox(get_world, address), get_world()
        with world.lock:
            category = box.categories.pop(ref, None) or abort(404)
            world.happened(ACTOR, "master_delete", address, id=ref, name=category.name)
        return "", 204


def _body() -> Json:
    sent = request.get_json()
    return sent if isinstance(sent, dict) else abort(422, "A JSON object is needed")


def _mailbox(get_world: GetWorld, address: str) -> MailboxState:
    return get_world().mailboxes.get(address.lower()) or abort(404, "There is no such mailbox")


def _message(get_world: GetWorld, address: str, ref: str) -> tuple[MailboxState, StoredMessage]:
    box = _mailbox(get_world, address)
    with get_world().lock:
        return box, box.find(ref) or abort(404, "There is no such message")


def _folder(box: MailboxState, ref: str) -> Folder:
    found = box.folders.get(ref) or next((f for f in box.folders.values() if f.well_known == ref), None)
    return found or abort(404, "There is no such folder")


def _color(value: str) -> str:
    known = {"none", *(f"preset{number}" for number in range(25))}
    return value if value in known else abort(422, "A colour is none or preset0 to preset24")


def _owner(person: Person) -> Json:
    return {
        "address": person.email,
        "name": person.name,
        "access_type": person.access_type,
        "provisioned": person.provisioned,
        "language": person.language,
    }


def _category(category: Category) -> Json:
    return {"id": category.id, "name": category.name, "color": category.color}


def _folder_json(box: MailboxState, folder: Folder) -> Json:
    inside = [m for m in box.messages.values() if m.folder == folder.id]
    unread = sum(not m.is_read for m in inside)
    return {"id": folder.id, "name": folder.name, "well_known": folder.well_known, "total": len(inside), "unread": unread}


def _revision(box: MailboxState) -> str:
    """Changes when anything shown changes; master categories and removals have no counter of their own."""
    shown = "|".join(f"{c.id}{c.name}{c.color}" for c in box.categories.values())
    return f"{box.change}-{len(box.messages)}-{len(box.folders)}-{zlib.crc32(shown.encode())}"


def _leave(box: MailboxState, message: StoredMessage) -> None:
    """Remember for delta queries that the message is no longer in its folder."""
    box.change += 1
    box.tombstones.append((box.change, message.folder, message.immutable_id))


def _written(get_world: GetWorld, box: MailboxState, form: Json) -> StoredMessage:
    """Store what was written: as the draft of that id, as a new draft, or, when `send` is set, in Sent Items.

    `forward` is the id of a message whose files go along.
    """
    world = get_world()
    draft = box.find(str(form["id"])) if form.get("id") else None
    if draft is not None and not draft.is_draft:
        abort(409, "This message was sent")
    sending = bool(form.get("send"))
    message = draft or StoredMessage(mime=b"", folder="", received_at=world.now(), conversation_id=uuid.uuid4().hex)
    if draft is not None and sending:
        _leave(box, draft)
    source = draft or (box.find(str(form["forward"])) if form.get("forward") else None)
    files = mime.read(source.mime).attachments if source else []
    message.mime = _mime(get_world, box.owner, form, files)
    message.folder = box.folder("sentitems" if sending else "drafts").id
    message.is_draft, message.received_at = not sending, world.now()
    message.conversation_id = str(form.get("conversation_id") or message.conversation_id)
    box.messages[message.immutable_id] = message
    box.touch(message, world.now())
    return message


def _mime(get_world: GetWorld, sender: Person, form: Json, files: list[mime.Leaf]) -> bytes:
    letter = EmailMessage(policy=SMTP)
    letter["From"] = formataddr((sender.name, sender.email))
    for field in ("To", "Cc", "Bcc"):
        pairs = [p for p in getaddresses([str(form.get(field.lower()) or "")]) if "@" in p[1]]
        if pairs:
            letter[field] = ", ".join(formataddr(pair) for pair in pairs)
    letter["Subject"] = " ".join(str(form.get("subject") or "").split())
    letter["Date"] = format_datetime(get_world().now())
    letter["Message-ID"] = make_msgid(domain=sender.email.rpartition("@")[2])
    letter.set_content(str(form.get("text") or ""))
    for file in files:
        kind, _, subtype = file.content_type.partition("/")
        letter.add_attachment(file.content(), maintype=kind, subtype=subtype, filename=file.name)
    return letter.as_bytes()


def _deliver(get_world: GetWorld, box: MailboxState, sent: StoredMessage) -> None:
    """Put a copy, with the same Message-ID and without Bcc, into the inbox of each recipient who has a mailbox."""
    world = get_world()
    letter = mime.read(sent.mime)
    addresses = {a.lower() for field in ("To", "Cc", "Bcc") for _, a in letter.addresses(field)}
    if not addresses:
        abort(422, "A message needs a recipient")
    world.happened(ACTOR, "send", box.owner.email, id=sent.immutable_id)
    for address in addresses & world.mailboxes.keys():
        to = world.mailboxes[address]
        copy = StoredMessage(_without_bcc(sent.mime), to.folder("inbox").id, world.now(), is_read=False)
        copy.conversation_id = sent.conversation_id
        to.messages[copy.immutable_id] = copy
        to.touch(copy, world.now())


def _without_bcc(raw: bytes) -> bytes:
    letter = message_from_bytes(raw, policy=SMTP)
    del letter["Bcc"]
    return letter.as_bytes()
