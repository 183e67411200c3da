"""Who is calling, and their connection to a mailbox."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from server.errors import Forbidden, NeedsReauth
from server.services import Caller, Deps, Principal
from server.store import Connection


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

    On the first use, after consent was withdrawn, and when asked to do it `anew`, the caller's token is exchanged for one that
    lasts.

    Raises: NeedsReauth, Transient.
    """
    principal = caller.principal
    connection = own_connection(deps, principal)
    if connection is None:
        with deps.store.transaction() as tx:
            connection = tx.put_connection(principal.user, "graph", principal.user.email, caller.claims.tenant, deps.now())
    if connection.state == "suspended":
        contact = principal.organization.admin_contact
        raise NeedsReauth(f"Your mailbox connection is suspended. Ask your administrator, {contact}.", connection=connection.id)
    if anew or connection.credentials is None or connection.state == "needs_reauth":
        deps.vault.adopt(connection, caller.assertion, deps.mail_scopes)
        with deps.store.transaction(reading=True) as tx:
            connection = tx.connection(connection.id)
    return connection


def own_connection(deps: Deps, principal: Principal) -> Connection | None:
    """Return the caller's mailbox connection if there is one, without making it."""
    with deps.store.transaction(reading=True) as tx:
        return tx.connection_of(principal.user.id, "graph")


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
