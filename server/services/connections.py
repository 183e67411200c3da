"""Who is calling, and their connection to a mailbox."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NamedTuple

from server import logs
from server.auth.identity import Claims
from server.errors import AlreadyExists, Forbidden, InvalidInput, NeedsReauth, RateLimited, Transient
from server.mail import Mailbox
from server.services import Caller, Deps, Principal
from server.services.signing_in import PANE_PREFIX, pane_caller
from server.store import Connection, Provider

log = logs.get(__name__)

IMPERSONATION: Final = "exchange_impersonation"
PROVIDERS: Mapping[str, Provider] = {
    "office365": "graph",
    "exchange_direct": "exchange",
    IMPERSONATION: "exchange",
    "google": "google",
}
"""Access type -> where its mailboxes are; under "user_choice" each person's own connection says it."""


C4C_USER = "c4c_user"  # code of Forbidden: C4C does not let the person in, whatever they ask for


class Refusal(NamedTuple):
    """Why a save failed."""

    code: str
    reason: str


def identify(deps: Deps, bearer: str) -> Caller:
    """Return who sends this token: a sign-in service's, or our own for a pane.

    Under Exchange Impersonation somebody who was never seen is found by the address in Entra's token, once; from then on only
    the id in it counts.

    Raises: NeedsReauth for a token that is not good; Forbidden with code `not_provisioned` for a person who is not set up,
    naming whom to ask where that is known, and with code `not_linked` for somebody of an Exchange server who has to say once who
    they are; Transient when the token cannot be checked right now.
    """
    if bearer.startswith(PANE_PREFIX):
        return _pane(deps, bearer)
    claims = deps.verifier.verify(bearer)
    with deps.store.transaction(reading=True) as tx:
        principal = tx.principal(claims.tenant, claims.subject)
        contact = None if principal else tx.admin_contact_for(claims.tenant)
    if principal is None and claims.service == "entra" and contact is not None:
        principal = _matched_by_address(deps, claims)
    if principal is None and claims.service == "exchange" and contact is not None:
        raise Forbidden("Say once who you are in SAP Cloud for Customer, by signing in there.", code="not_linked")
    if principal is None and contact is not None and claims.service != "exchange" and _is_expected(deps, claims):
        raise Forbidden("Your mailbox is not connected. Connect it in User Settings.", code="mailbox_not_connected")
    if principal is None:
        ask = f"your administrator, {contact}" if contact else "your administrator"
        raise Forbidden(f"You are not set up for SAP Cloud for Customer yet. Ask {ask}.", code="not_provisioned")
    return Caller(principal, claims, bearer)


def _is_expected(deps: Deps, claims: Claims) -> bool:
    """Say whether somebody with this address is set up, and only has to connect a mailbox: then the account is known, too."""
    with deps.store.transaction(reading=True) as tx:
        found = tx.unbound_users(claims.tenant, claims.email) if claims.email else []
        return any(all(c.state != "active" for c in tx.connections_of(user.id)) for user in found)


def _pane(deps: Deps, token: str) -> Caller:
    with deps.store.transaction(reading=True) as tx:
        principal, until = pane_caller(tx, token, deps.now())
    if principal is None:
        raise NeedsReauth("The sign-in of this sidebar is over. Please sign in again.")
    user = principal.user
    return Caller(principal, Claims("ssi", "", "", user.id, user.email, user.name, until), token)


def _matched_by_address(deps: Deps, claims: Claims) -> Principal | None:
    """Bind an identity to the one person it can be, if there is exactly one."""
    with deps.store.transaction() as tx:
        found = tx.unbound_users(claims.tenant, claims.email, access_type=IMPERSONATION) if claims.email else []
        if len(found) != 1 or tx.identity_owner(claims.tenant, claims.subject) is not None:
            return None
        (user,) = found
        tx.bind_identity(user.tenant_id, user.id, claims.tenant, claims.subject)
        tx.record("identity.match", deps.now(), tenant_id=user.tenant_id, user_id=user.id, issuer_tenant=claims.tenant)
        return tx.principal_of(user.id)


def link(deps: Deps, caller: Caller, token: str) -> None:
    """Bind the Exchange identity token of a mail client to the person who signed in by the dialog there.

    Raises: Forbidden if it is somebody else's, or of a server that the tenant does not admit; InvalidInput for one that is not
    good, or another service's; Transient.
    """
    user = caller.principal.user
    try:
        claims = deps.verifier.verify(token)
    except NeedsReauth as error:  # it is not the caller's own that has to be renewed
        raise InvalidInput("token", str(error)) from error
    if claims.service != "exchange" or caller.claims.service != "ssi":
        raise InvalidInput("token", "Only an Exchange identity token is linked, to somebody who signed in by the dialog.")
    with deps.store.transaction() as tx:
        owner = tx.identity_owner(claims.tenant, claims.subject)
        if owner == user.id:
            return
        has_one = any(issuer == claims.tenant for issuer, _ in tx.identities_of(user.id))
        if owner is not None or has_one or not tx.admits(user.tenant_id, claims.tenant):
            contact = caller.principal.organization.admin_contact
            why = "Another mailbox of this server is linked to you." if has_one else "This mailbox belongs to somebody else here."
            raise Forbidden(f"{why} Ask your administrator, {contact}.", code="not_yours")
        tx.bind_identity(user.tenant_id, user.id, claims.tenant, claims.subject)
        tx.record("identity.link", deps.now(), tenant_id=user.tenant_id, user_id=user.id, issuer_tenant=claims.tenant)


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
        connection = _made(deps, caller, provider)
    if connection is None:
        raise not_connected(principal, "Your mailbox is not connected.")
    if connection.state == "suspended":
        contact = principal.organization.admin_contact
        raise NeedsReauth(f"Your mailbox connection is suspended. Ask your administrator, {contact}.", connection=connection.id)
    if connection.state == "disconnected":
        raise not_connected(principal, connection.reason or "Your mailbox is not connected.")
    if provider != "graph":
        if connection.state == "needs_reauth":
            raise not_connected(principal, connection.reason)
        return connection
    if anew or connection.credentials is None or connection.state == "needs_reauth":
        if not opens_by_sign_in(caller, connection):
            raise not_connected(principal, connection.reason or "Your mailbox is not connected.")
        deps.vault.adopt(connection, caller.assertion, deps.mail_scopes)
        with deps.store.transaction(reading=True) as tx:
            connection = tx.connection(connection.id)
    return connection


def _made(deps: Deps, caller: Caller, provider: Provider) -> Connection:
    """Make the connection of somebody whose own token, or whose organization's service account, opens the mailbox.

    A token opens its owner's mailbox alone, and an identity belongs to one user; an account that opens all does not tell whose
    each is. Raises: Forbidden.
    """
    user, claims, now = caller.principal.user, caller.claims, deps.now()
    try:
        with deps.store.transaction() as tx:
            address = user.email if provider == "graph" else user.other_mailbox or user.email
            connection = tx.put_connection(user, provider, address, claims.tenant, now)
            tx.set_connection_state(connection.id, "active", "", now)
            if provider != "graph":
                tx.claim_mailbox(connection, address, None)
                tx.queue_session(connection, now)
            return tx.connection(connection.id)
    except AlreadyExists as error:
        raise not_connected(caller.principal, str(error)) from error


def identity_of(connection: Connection) -> tuple[str, str] | None:
    """Return the identity (issuer's tenant, subject) of the account that a mailbox at Microsoft or Google was connected with."""
    provider, _, account = (connection.account_key or "").partition(":")
    if provider not in ("graph", "google"):
        return None
    if re.fullmatch("[0-9a-f]{16}", account):  # Graph's id of a personal account; its object id is the same, padded
        account = f"00000000-0000-0000-{account[:4]}-{account[4:]}"
    return connection.issuer_tenant, account


def opens_by_sign_in(caller: Caller, connection: Connection) -> bool:
    """Say whether the caller's own sign-in can be exchanged for a key to this mailbox: Entra's, of the very account that it is.

    No other service's token may reach Microsoft.
    """
    claims = caller.claims
    of_caller = (claims.tenant, claims.subject)
    return connection.provider == "graph" and claims.service == "entra" and identity_of(connection) in (None, of_caller)


def sidebar_seen(deps: Deps, principal: Principal) -> None:
    """Remember that the sidebar works for the person's connected mailbox, which the settings show.

    That is done beside the call that shows it, which waits for nobody who writes; what fails is done with the next one.
    """

    def fails(error: Transient) -> None:
        log.info("a first call is not noted yet", user=principal.user.id, reason=type(error).__name__)

    def note() -> None:
        try:
            connection = own_connection(deps, principal)
            if connection is not None and connection.state == "active":
                with deps.store.transaction() as tx:
                    tx.sidebar_seen(principal.user.id, deps.now())
        except Transient as error:
            fails(error)

    try:
        deps.background.submit(principal.tenant.id, note)
    except Transient as error:
        fails(error)


def trouble(deps: Deps, caller: Caller) -> str | None:
    """Return why the caller's mailbox cannot be used and what to do about it; None if nothing is wrong that they can see to."""
    principal, connection = caller.principal, own_connection(deps, caller.principal)
    if connection is None:
        by_itself = principal.organization.access_type == IMPERSONATION or provider_of(principal) == "graph"
        return None if by_itself else str(not_connected(principal, "Your mailbox is not connected."))
    mends_itself = connection.state == "needs_reauth" and opens_by_sign_in(caller, connection)
    if connection.state in ("active", "suspended") or mends_itself:
        return None
    return str(not_connected(principal, connection.reason))


def own_connection(deps: Deps, principal: Principal) -> Connection | None:
    """Return the caller's mailbox connection if there is one, without making it."""
    with deps.store.transaction(reading=True) as tx:
        connections = tx.connections_of(principal.user.id)
    wanted = PROVIDERS.get(principal.organization.access_type)
    found = [c for c in connections if c.provider == wanted or (wanted is None and c.provider in PROVIDERS.values())]
    in_use = [c for c in found if c.state != "disconnected"]
    ended = [c for c in found if c.state == "disconnected" and c.reason]  # without a reason, it was only ever tried
    return next(iter(in_use or ended), None)


def provider_of(principal: Principal) -> Provider:
    """Return where the mailbox of a person is who has not connected one yet."""
    return PROVIDERS.get(principal.organization.access_type, "graph")


@contextmanager
def asking_mailbox(deps: Deps, connection: Connection, caller: Caller | None = None) -> Iterator[Mailbox]:
    """Open a mailbox; should it not take what we hold, see to that, and should it ask for a pause, let nobody disturb it.

    Raises: NeedsReauth when a person is needed, which is noted on the connection unless the `caller`'s own sign-in mends it;
    Transient when it was just mended.
    """
    try:
        yield deps.mailbox(connection)
    except RateLimited as error:
        deps.pause_mailbox(connection, error.retry_after_s or 0.0)
        raise
    except NeedsReauth as error:
        is_noted = error.connection is not None
        if is_noted or (caller is not None and opens_by_sign_in(caller, connection)):
            raise
        deps.vault.refused(connection, error)
        raise Transient("The sign-in to the mailbox was renewed. Try again.", retry_after_s=1) from error


def way_out(connection: Connection, error: NeedsReauth) -> Refusal:
    """Return what to tell somebody whose save waits for a person."""
    if connection.provider == "graph":
        return Refusal("needs_sign_in", "Sign in again, then try again.")
    return Refusal("mailbox_not_connected", f"{error} Connect the mailbox in User Settings, then try again.")


def not_connected(principal: Principal, reason: str) -> Forbidden:
    """Say that the mailbox cannot be used and who can mend that: its owner, but for one that a service account opens."""
    organization = principal.organization
    step = "Connect it in User Settings."
    if organization.access_type == IMPERSONATION:
        step = f"Ask your administrator, {organization.admin_contact}."
    return Forbidden(f"{reason} {step}", code="mailbox_not_connected")


@contextmanager
def asking_c4c(principal: Principal) -> Iterator[None]:
    """Translate C4C's refusal of the user, which signing in again does not mend, into whom to ask.

    Raises: Forbidden.
    """
    try:
        yield
    except (NeedsReauth, Forbidden) as error:
        code = error.code if isinstance(error, Forbidden) else C4C_USER
        contact = principal.organization.admin_contact
        raise Forbidden(f"{error} Ask your administrator, {contact}.", code=code) from error
