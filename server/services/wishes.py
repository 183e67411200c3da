"""What a user wishes of a save, whether that can be, and what goes into C4C by it. Rules only: nothing is read or written here.

A Wish is what the save dialog sends; Material is the message itself, read from the mailbox; a draft is both as C4C takes them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from server.c4c import ActivityDraft, Addressee, File, Known
from server.domain import message as mail
from server.domain.message import Address, Attachment, Parsed
from server.domain.records import PARTY_TYPES, Record, RecordRef
from server.errors import InvalidInput, Transient
from server.mail import MessageHead
from server.services import Deps, Principal
from server.store import SaveRequest

MAX_LINKS = 100
INLINE_BYTES = 3 * 1024 * 1024  # files up to this sum go along with the activity in one request


@dataclass(frozen=True, slots=True)
class Chosen:
    """An attachment to save, under its own or another name."""

    ref: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What a user wants saved. `attachments` None means all that are allowed; `subject` None means the message's own."""

    links: tuple[RecordRef, ...]
    subject: str | None = None
    attachments: tuple[Chosen, ...] | None = None
    include_eml: bool = False

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Wish:
        values: dict[str, Any] = json.loads(data)
        chosen = values["attachments"]
        return cls(
            links=tuple(RecordRef(**link) for link in values["links"]),
            subject=values["subject"],
            attachments=None if chosen is None else tuple(Chosen(**c) for c in chosen),
            include_eml=values["include_eml"],
        )


@dataclass(frozen=True, slots=True)
class Offered:
    """An attachment as the save dialog shows it; `reason` says why it cannot be saved."""

    attachment: Attachment
    allowed: bool
    reason: str | None


@dataclass(frozen=True, slots=True)
class Material:
    """The message itself, read from the mailbox. Whoever has it last closes it, which gives up its place among large ones."""

    head: MessageHead
    mime: bytes = field(repr=False)
    parsed: Parsed = field(repr=False)
    held: ExitStack = field(default_factory=ExitStack, repr=False)

    def close(self) -> None:
        self.held.close()

    def handed_over(self) -> Material:
        """Return the same for another owner: closing the old one has no effect any more."""
        return replace(self, held=self.held.pop_all())


@dataclass(frozen=True, slots=True)
class Picked:
    """A file to save, not decoded yet: `ref` names the attachment, None the message as a whole."""

    ref: str | None
    name: str
    content_type: str
    size_bytes: int

    def file(self, material: Material) -> File:
        content = material.mime if self.ref is None else material.parsed.content(self.ref)
        return File(self.name, self.content_type, content)


def offered(principal: Principal, attachment: Attachment) -> Offered:
    profile = principal.profile
    reason = profile.refusal(attachment.name, attachment.size_bytes)
    if reason is None and attachment.inline and attachment.size_bytes < profile.min_image_bytes:
        reason = "Small pictures inside the text are not saved."
    return Offered(attachment, reason is None, reason)


def eml_refusal(principal: Principal, material: Material) -> str | None:
    """Return why the message itself cannot be saved as a file."""
    too_large = len(material.mime) > principal.profile.max_file_bytes
    return "The message is too large to be saved as a file." if too_large else None


def check(principal: Principal, wish: Wish, material: Material) -> None:
    """Raises: InvalidInput if the wish cannot be met."""
    if len(wish.links) > MAX_LINKS:
        raise InvalidInput("links", f"At most {MAX_LINKS} records can be linked.")
    offers = {a.ref: offered(principal, a) for a in material.parsed.message.attachments}
    for chosen in wish.attachments or ():
        offer = offers.get(chosen.ref)
        if offer is None:
            raise InvalidInput("attachments", "The message has no such attachment.")
        reason = offer.reason or principal.profile.refusal(chosen.name or offer.attachment.name, offer.attachment.size_bytes)
        if reason:
            raise InvalidInput("attachments", reason)
    refusal = eml_refusal(principal, material)
    if wish.include_eml and refusal:
        raise InvalidInput("include_eml", refusal)


def picked(principal: Principal, wish: Wish, material: Material) -> list[Picked]:
    """Return the chosen files, with names that are unique among them."""
    offers = {a.ref: offered(principal, a) for a in material.parsed.message.attachments}
    chosen = wish.attachments
    if chosen is None:
        chosen = tuple(Chosen(ref) for ref, offer in offers.items() if offer.allowed)
    taken: dict[str, int] = {}
    files = []
    for choice in chosen:
        attachment = offers[choice.ref].attachment
        name = mail.unique_name(mail.safe_name(choice.name or "") or attachment.name, taken)
        files.append(Picked(choice.ref, name, attachment.content_type, attachment.size_bytes))
    if wish.include_eml:
        name = mail.unique_name(mail.message_file_name(material.parsed.message.subject, "message.eml"), taken)
        files.append(Picked(None, name, "message/rfc822", len(material.mime)))
    return files


def split(files: Sequence[Picked]) -> tuple[list[Picked], list[Picked]]:
    """Return the files that go along with the activity and those that are sent one by one."""
    inline: list[Picked] = []
    apart: list[Picked] = []
    size = 0
    for file in sorted(files, key=lambda f: f.size_bytes):
        if size + file.size_bytes <= INLINE_BYTES:
            inline.append(file)
            size += file.size_bytes
        else:
            apart.append(file)
    return inline, apart


def draft_of(
    deps: Deps,
    principal: Principal,
    wish: Wish,
    material: Material,
    found: Known,
    key: str,
    files: Sequence[Picked],
) -> ActivityDraft:
    message = material.parsed.message
    at = message.date or material.head.received_at or deps.now()
    outgoing = mail.is_outgoing(message, {principal.user.email})
    ordered = _in_order(found.records, wish.links)
    contact = next((r for r in ordered if r.type in ("contact", "individual_customer")), None)
    accounts = [r for r in ordered if r.type == "account"]
    return ActivityDraft(
        message_key=key,
        subject=wish.subject or message.subject or "(no subject)",
        direction="outgoing" if outgoing else "incoming",
        at=at,
        sender=_party(message.sender, ordered),
        to=tuple(_party(a, ordered) for a in message.to),
        cc=tuple(_party(a, ordered) for a in message.cc),
        owner_party=found.employee.party_id if found.employee else "",
        links=tuple(ordered),
        main_contact=contact.human_id if contact else "",
        main_account=accounts[-1].human_id if accounts else "",
        text=mail.text_for_activity(message, deps.limits.max_text_chars),
        files=tuple(file.file(material) for file in files),
    )


def _in_order(records: Sequence[Record], links: Sequence[RecordRef]) -> list[Record]:
    position = {ref: place for place, ref in enumerate(links)}
    return sorted(records, key=lambda r: position.get(r.ref, len(position)))


def _party(address: Address | None, records: Sequence[Record]) -> Addressee:
    if address is None:
        return Addressee("", "")
    keys = {mail.normalised(s) for s in mail.spellings(address.address)}
    for record in records:
        if record.type in PARTY_TYPES and keys & {mail.normalised(a) for a in record.addresses}:
            return Addressee(address.name, address.address, record.human_id)
    return Addressee(address.name, address.address)


# Why one failed


def sealed_reason(deps: Deps, request: SaveRequest, reason: str) -> bytes | None:
    """Return a reason that quotes somebody as it is kept; None if the vault is away: then our own sentence has to do."""
    try:
        return deps.vault.seal(request.tenant_id, _row(request), "said", reason.encode())
    except Transient:
        return None


def reason_of(deps: Deps, request: SaveRequest) -> str:
    """Return why a request failed or waits, for its user; "" if it does not."""
    if request.said is None:
        return request.reason
    try:
        return deps.vault.open(request.tenant_id, _row(request), "said", request.said).decode()
    except Transient:
        return request.reason


def _row(request: SaveRequest) -> str:
    return f"{request.user_id}/{request.save_id}"
