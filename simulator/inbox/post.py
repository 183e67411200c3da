"""Writing mail, and delivering it within the World: a copy in the sender's Sent Items and one in the inbox of each recipient
who has a mailbox. Hold the World's lock.
"""

from __future__ import annotations

import uuid
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, formataddr, getaddresses, make_msgid
from typing import Any

from flask import abort

from simulator import mime
from simulator.google.mail import gmail_id
from simulator.inbox.folders import ACTOR
from simulator.world import MailboxState, StoredMessage, World

Json = dict[str, Any]


def write(world: World, box: MailboxState, form: Json) -> StoredMessage:
    """Store what was written: as the draft of that id, as a new draft, or, when `send` is set, in Sent Items; then deliver it.

    `forward` is the id of a message whose files go along.
    """
    draft = box.find(str(form["id"])) if form.get("id") else None
    if draft is not None and not draft.is_draft:
        abort(409, "This message was sent")
    sending = bool(form.get("send"))
    message = draft or _new(box, StoredMessage(mime=b"", folder="", received_at=world.now(), conversation_id=uuid.uuid4().hex))
    source = draft or (box.find(str(form["forward"])) if form.get("forward") else None)
    files = mime.read(source.mime).attachments if source else []
    letter = _letter(world, box, form, files)
    recipients = _recipients(letter) if sending else set()
    if draft is not None and sending:
        box.left(draft)
    message.mime = letter.as_bytes()
    message.folder = box.folder("sentitems" if sending else "drafts").id
    message.is_draft, message.received_at = not sending, world.now()
    message.conversation_id = str(form.get("conversation_id") or message.conversation_id)
    box.messages[message.immutable_id] = message
    box.touch(message, world.now())
    if sending:
        world.happened(ACTOR, "send", box.owner.email, id=message.immutable_id)
        _deliver(world, message, _without_bcc(letter, message.mime), recipients)
    return message


def _new(box: MailboxState, message: StoredMessage) -> StoredMessage:
    """Give a message the ids that the mailbox's provider would: Google's are hexadecimal, and of one kind only."""
    if box.owner.access_type == "google":
        message.immutable_id = message.ews_id = gmail_id(message.immutable_id)
        message.conversation_id = gmail_id(message.conversation_id)
    return message


def _letter(world: World, box: MailboxState, form: Json, files: list[mime.Leaf]) -> EmailMessage:
    sender, letter = box.owner, EmailMessage(policy=SMTP)
    letter["From"] = formataddr((sender.name, sender.email))
    for field in ("To", "Cc", "Bcc"):
        pairs = [p for p in getaddresses([str(form.get(field.lower()) or "")]) if "@" in p[1]]
        if pairs:
            letter[field] = ", ".join(formataddr(pair) for pair in pairs)
    letter["Subject"] = " ".join(str(form.get("subject") or "").split())
    letter["Date"] = format_datetime(world.now())
    letter["Message-ID"] = make_msgid(domain=sender.email.rpartition("@")[2])
    letter.set_content(str(form.get("text") or ""))
    for file in files:
        kind, _, subtype = file.content_type.partition("/")
        placed: Json = {"disposition": "inline", "cid": f"<{file.content_id}>"} if file.inline and file.content_id else {}
        letter.add_attachment(file.content(), maintype=kind, subtype=subtype, filename=file.name, **placed)
    return letter


def _recipients(letter: EmailMessage) -> set[str]:
    fields = [str(letter[field]) for field in ("To", "Cc", "Bcc") if letter[field]]
    return {address.lower() for _, address in getaddresses(fields)} or abort(422, "A message needs a recipient")


def _deliver(world: World, sent: StoredMessage, raw: bytes, recipients: set[str]) -> None:
    for address in recipients & world.mailboxes.keys():
        to = world.mailboxes[address]
        copy = StoredMessage(raw, to.folder("inbox").id, world.now(), is_read=False)
        copy.conversation_id = sent.conversation_id
        _new(to, copy)
        to.messages[copy.immutable_id] = copy
        to.touch(copy, world.now())


def _without_bcc(letter: EmailMessage, raw: bytes) -> bytes:
    """What the recipients get: the same Message-ID, and nothing of the blind copies."""
    if letter["Bcc"] is None:
        return raw  # files of many megabytes are not encoded again
    del letter["Bcc"]
    return letter.as_bytes()
