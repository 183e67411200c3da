"""What a save holds that nobody is present for: whom it is linked to, which files go along, and whether it is wanted at all.

A person's own mark is a wish, whatever the message is. What a rule picks has to come from a person, not a program, and has to
have somebody on it who is neither a colleague nor on the blocklist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from server.domain.records import CARD_ORDER, RecordRef
from server.domain.sentences import rejected
from server.services import Deps, Principal
from server.services.context import Card, Item, look_up
from server.services.wishes import MAX_LINKS, Material, Wish
from server.store import Connection

PickedBy = Literal["mark", "auto", "thread"]
"""Why a message is saved with nobody present: its owner's hand, new mail of people we know, or a thread that is followed."""

_ORDER = {record_type: place for place, record_type in enumerate(CARD_ORDER)}


def wish_for_marked(deps: Deps, principal: Principal, connection: Connection, material: Material) -> Wish:
    """Return what is saved of a message that its owner marked.

    Raises: Rejected, with a code of ours, if nobody on it is known; Transient, Forbidden.
    """
    found = _who(deps, principal, connection, material)
    if found.cards:
        return _linked(principal, found.cards)
    if found.only_colleagues:
        raise rejected("only_colleagues")
    raise rejected("not_answered" if found.is_partial else "nobody_known")


def wish_by_rule(
    deps: Deps, principal: Principal, connection: Connection, material: Material, by: PickedBy, links: Sequence[RecordRef]
) -> Wish | None:
    """Return what is saved of a message that nobody marked, None if it is not to be.

    In a thread, one with somebody on it who is not known is linked as its first save was (`links`). Raises: Transient, Forbidden.
    """
    message = material.parsed.message
    if message.automatic is not None or message.sender is None or principal.profile.is_blocklisted(message.sender.address):
        return None
    found = _who(deps, principal, connection, material)
    if by == "auto" and not any(card.record.type in ("contact", "individual_customer") for card in found.cards):
        return None
    if found.cards:
        return _linked(principal, found.cards)
    return _wish(principal, links) if found.has_strangers else None


@dataclass(frozen=True, slots=True)
class _Found:
    """Who of C4C is on a message."""

    cards: tuple[Card, ...]
    has_strangers: bool  # somebody is on it who is neither a colleague nor known
    only_colleagues: bool  # or people who are never looked up
    is_partial: bool  # C4C did not answer for every kind of record


def _who(deps: Deps, principal: Principal, connection: Connection, material: Material) -> _Found:
    """Look the people on a message up by its header: no mail client says more. Raises: Transient, Forbidden."""
    head, message = material.head, material.parsed.message
    item = Item(
        id=head.ref,
        id_form="rest",
        mailbox=connection.mailbox,
        internet_message_id=head.message_id or message.message_id or "",
        conversation_id=head.conversation,
        subject=message.subject,
        sender=message.sender,
        to=message.to,
        cc=message.cc,
        item_class=head.item_class,
    )
    context = look_up(deps, principal, item, complete=True, anyway=True)
    if context.trouble is not None:
        raise context.trouble
    cards = tuple(card for card in context.cards if card.matched)
    is_partial = bool(set(context.failed) - {"activity"})
    return _Found(cards, bool(context.unknown), context.notice is not None and not context.unknown, is_partial)


def _linked(principal: Principal, cards: Sequence[Card]) -> Wish:
    """Link to all that was found, or to the first of the best kind (ssi-product.md 8, ruling 12), as the profile says."""
    if principal.profile.link_all:
        return _wish(principal, [card.record.ref for card in cards[:MAX_LINKS]])
    first = min(cards, key=lambda card: _ORDER.get(card.record.type, len(_ORDER)))
    return _wish(principal, [first.record.ref])


def _wish(principal: Principal, links: Sequence[RecordRef]) -> Wish:
    return Wish(tuple(links), attachments=None if principal.profile.save_attachments else ())
