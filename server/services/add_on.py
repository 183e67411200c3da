"""The add-on in Gmail: who calls by it, which message is open there, and buttons that work once.

Google runs it in one of two ways. As a script, it calls with the person's ID token and tells what stands in the header of the
open message. By HTTP, Google itself calls, with a token of its own for exactly the address called, and hands over the person's
ID token and tokens to read the open message. Which way it is, the bearer token says, and nothing else. A message that is read
for somebody, or saved, is of the account that opened it, never of another that the person happened to connect.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from server.domain.addresses import addresses_of
from server.domain.message import normalised
from server.domain.mime import Headers
from server.errors import Forbidden, NeedsReauth, Transient
from server.mail import MessageHead
from server.services import Caller, Deps
from server.services.connections import asking_mailbox, identify, identity_of, own_connection
from server.services.context import Item
from server.store import Connection

Runtime = Literal["apps_script", "http"]

SCOPES_MISSING = "scopes_missing"  # code of Forbidden: the person has not allowed the add-on to see the open message
OTHER_ACCOUNT = "other_account"  # code of Forbidden: what is open is not of the mailbox that is connected


@dataclass(frozen=True, slots=True)
class OpenMessage:
    """The message that is open in Gmail, as the event names it; the tokens are Google's, to read it by."""

    id: str
    thread_id: str
    user_token: str = field(default="", repr=False)
    message_token: str = field(default="", repr=False)


def runtime_of(deps: Deps, bearer: str, address: str) -> Runtime:
    """Return how the add-on runs that calls this address with this token; Google's own token is judged here.

    Raises: NeedsReauth if it is Google's own and not good here; Transient.
    """
    verifier = deps.host_verifier
    if verifier is None or not verifier.is_meant(bearer):
        return "apps_script"
    if verifier.verify(bearer).tenant != address:
        raise NeedsReauth("The token was made for another address.")
    return "http"


def caller_of(deps: Deps, id_token: str) -> Caller:
    """Return whose ID token of Google's this is.

    Raises: NeedsReauth if it proves nobody; Forbidden, as `connections.identify`, for somebody who is not set up; Transient.
    """
    if deps.verifier.verify(id_token).service != "google":
        raise NeedsReauth("The sign-in is not one of Google's.")
    return identify(deps, id_token)


def has_account(caller: Caller, connection: Connection) -> bool:
    """Say whether the mailbox is that of the account that calls; of one connected long ago only the address is known."""
    claims = caller.claims
    if connection.provider != "google":
        return False
    if connection.account_key is None:
        return normalised(connection.mailbox) == normalised(claims.email)
    return identity_of(connection) == (claims.tenant, claims.subject)


def check_account(deps: Deps, caller: Caller) -> None:
    """Raises: Forbidden with OTHER_ACCOUNT if the connected mailbox is not the one that is open in Gmail."""
    connection = own_connection(deps, caller.principal)
    if connection is not None and not has_account(caller, connection):
        detail = f"You are in Gmail as {caller.claims.email}, but the connected mailbox is {connection.mailbox}."
        raise Forbidden(detail, code=OTHER_ACCOUNT)


def read_open(deps: Deps, caller: Caller, opened: OpenMessage) -> Item:
    """Return the open message by what its header says: read from the connected mailbox, else by the tokens of the event.

    Raises: Forbidden with SCOPES_MISSING if neither opens it; NotFound, Transient.
    """
    connection, has_tokens = own_connection(deps, caller.principal), bool(opened.user_token and opened.message_token)
    head: MessageHead | None = None
    if connection is not None and connection.state == "active" and has_account(caller, connection):
        try:
            with asking_mailbox(deps, connection, caller) as mailbox:
                head = mailbox.head(opened.id, "gmail")
        except (NeedsReauth, Transient):
            if not has_tokens:
                raise
    if head is None and not has_tokens:
        raise Forbidden("The add-on may not see which message is open.", code=SCOPES_MISSING)
    head = head or deps.read_open(opened.id, opened.user_token, opened.message_token)
    return item_of(opened, Headers(head.header), mailbox=caller.claims.email, header=head.header)


def item_of(opened: OpenMessage, headers: Headers, *, mailbox: str, header: str = "") -> Item:
    """Return a message of Gmail as use cases take it; `header` is its text as far as it is known."""
    return Item(
        id=opened.id,
        id_form="gmail",
        mailbox=mailbox,
        internet_message_id=headers.get("Message-ID"),
        conversation_id=opened.thread_id,
        subject=headers.text("Subject"),
        sender=next(iter(addresses_of(headers, "From")), None),
        to=addresses_of(headers, "To"),
        cc=addresses_of(headers, "Cc"),
        headers=header,
    )


def use_once(deps: Deps, nonce: str, expires_at: datetime) -> bool:
    """Note durably that a button which works once is being acted on; False if it was before. Raises: Transient."""
    with deps.store.transaction() as tx:
        return tx.use_action(nonce, expires_at)
