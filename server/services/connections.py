"""Who is calling, and their connection to a mailbox."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from server.errors import Forbidden, NeedsReauth, RateLimited, Transient
from server.mail import Mailbox
from server.services import Caller, Deps, Principal
from server.store import Connection, Provider

IMPERSONATION = "exchange_impersonation"
_PROVIDERS: Mapping[str, Provider] = {
    "office365": "graph",
    "exchange_direct": "exchange",
    IMPERSONATION: "exchange",
    "google": "google",
}
"""Access type -> where its mailboxes are; under "user_choice" each person's own connection says it."""


class Refusal(NamedTuple):
    """Why a save failed."""

    code: str
    reason: str


def identify(deps: Deps, bearer: str) -> Caller:
    """Return who sends this access token.

    Raises: NeedsReauth for a token that is not good; Forbidden with code `not_provisioned` for a person who is not set up,
    naming whom to ask where that is known; Transient when the token cannot be checked right now.
    """
    claims = deps.verifier.verify(bearer)
    with deps.store.transaction(reading=True) as tx:
        principal = tx.principal(claims.tenant, claims.subject)
        contact = None if principal else tx.admin_contact_for(claims.tenant)
    if principal is None:
        ask = f"your administrator, {contact}" if contact else "your administrator"
        raise Forbidden(f"You are not set up for SAP Cloud for Customer yet. Ask {ask}.", code="not_provisioned")
    return Caller(principal, claims, bearer)


def mailbox_connection(deps: Deps, caller: Caller, *, anew: bool = False) -> Connection:
    """Return the caller's mailbox connection, able to act later without them.

    At Microsoft 365, on the first use, after consent was withdrawn, and when asked to do it `anew`, the caller's token is
    exchanged for one that lasts. Other mailboxes are connected beforehand.

    Raises: NeedsReauth, Transient; Forbidden with code `mailbox_not_connected` where a new sign-in of the caller would not help.
    """
    principal = caller.principal
    connection = own_connection(deps, principal)
    provider = connection.provider if connection else provider_of(principal)
    is_ours_to_make = provider == "graph" and caller.claims.service == "entra"  # no other service's token may reach Microsoft
    if connection is None and (is_ours_to_make or principal.organization.access_type == IMPERSONATION):
        with deps.store.transaction() as tx:
            connection = tx.put_connection(principal.user, provider, principal.user.email, caller.claims.tenant, deps.now())
    if connection is None:
        raise not_connected("Your mailbox is not connected.")
    if connection.state == "suspended":
        contact = principal.organization.admin_contact
        raise NeedsReauth(f"Your mailbox connection is suspended. Ask your administrator, {contact}.", connection=connection.id)
    if provider != "graph":
        if connection.state == "needs_reauth":
            raise not_connected(connection.reason)
        return connection
    if anew or connection.credentials is None or connection.state == "needs_reauth":
        if caller.claims.service != "entra":  # no other service's token may reach Microsoft
            raise not_connected("Your mailbox is not connected.")
        deps.vault.adopt(connection, caller.assertion, deps.mail_scopes)
        with deps.store.transaction(reading=True) as tx:
            connection = tx.connection(connection.id)
    return connection


def own_connection(deps: Deps, principal: Principal) -> Connection | None:
    """Return the caller's mailbox connection if there is one, without making it."""
    with deps.store.transaction(reading=True) as tx:
        connections = tx.connections_of(principal.user.id)
    wanted = _PROVIDERS.get(principal.organization.access_type)
    return next((c for c in connections if wanted in (None, c.provider)), None)


def provider_of(principal: Principal) -> Provider:
    """Return where the mailbox of a person is who has not connected one yet."""
    return _PROVIDERS.get(principal.organization.access_type, "graph")


@contextmanager
def asking_mailbox(deps: Deps, connection: Connection) -> Iterator[Mailbox]:
    """Open a mailbox; should it not take what we hold, see to that, and should it ask for a pause, let nobody disturb it.

    Raises: NeedsReauth when a person is needed, which is noted on the connection unless their next call mends it; Transient when
    it was just mended.
    """
    try:
        yield deps.mailbox(connection)
    except RateLimited as error:
        deps.pause_mailbox(connection, error.retry_after_s or 0.0)
        raise
    except NeedsReauth as error:
        is_noted = error.connection is not None
        if is_noted or connection.provider == "graph":  # there the caller's own sign-in is exchanged anew
            raise
        deps.vault.refused(connection, error)
        raise Transient("The sign-in to the mailbox was renewed. Try again.", retry_after_s=1) from error


def way_out(connection: Connection, error: NeedsReauth) -> Refusal:
    """Return what to tell somebody whose save waits for a person."""
    if connection.provider == "graph":
        return Refusal("needs_sign_in", "Sign in again, then press Retry.")
    return Refusal("mailbox_not_connected", f"{error} The mailbox has to be connected again; then press Retry.")


def not_connected(reason: str) -> Forbidden:
    return Forbidden(f"{reason} The mailbox has to be connected again.", code="mailbox_not_connected")


@contextmanager
def asking_c4c(principal: Principal) -> Iterator[None]:
    """Translate C4C's refusal of the user, which signing in again does not mend, into whom to ask.

    Raises: Forbidden.
    """
    try:
        yield
    except (NeedsReauth, Forbidden) as error:
        code = error.code if isinstance(error, Forbidden) else "c4c_user"
        contact = principal.organization.admin_contact
        raise Forbidden(f"{error} Ask your administrator, {contact}.", code=code) from error
