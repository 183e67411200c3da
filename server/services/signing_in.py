"""Signing in to our own pages, and to the sidebar where the mail client cannot vouch for the person.

A person proves who they are at their C4C tenant's identity provider (OpenID Connect), or, where a tenant has none, with their
C4C user and password, which are tried at C4C and not kept. Either way the business user is resolved by C4C itself and has to be
one that an administrator set up. Then the browser gets a token, of which we keep the hash: a page session, which ends after a
while without use, after a day's work, by signing out, and at once when the person is disabled.

A sign-in elsewhere is a flow: what has to be kept until the browser comes back lies sealed in a row, found by the state and by
a secret of the very browser that began it, and is given out once. Mailboxes are connected by flows, too (`connecting`).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

from server.auth.flow import Begun, Person, SignInRefused as SignInRefused
from server.c4c import Me
from server.errors import Forbidden, NeedsReauth, NotFound, RateLimited, Rejected
from server.services import Deps, Principal, Tenant
from server.store import Flow, Purpose, Transaction, User

LIFE = timedelta(hours=8)
IDLE = timedelta(minutes=30)
FRESH = timedelta(minutes=15)
"""How long after signing in a person may change what opens a mailbox without doing it again."""
FLOW_LIFE = timedelta(minutes=10)
PANE_PREFIX = "ssi_"
_SEEN_EVERY = timedelta(minutes=1)
_PAGES = "pages"  # service of a flow that is no mailbox's


class Way(NamedTuple):
    """How the people of a tenant sign in."""

    kind: Literal["oidc", "password"]
    tenant: str  # its name
    id: str


class SignedIn(NamedTuple):
    token: str  # for the browser alone
    next_path: str
    max_age_s: int


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who is signed in to our pages."""

    principal: Principal
    authenticated_at: datetime
    is_fresh: bool  # signed in so lately that no new sign-in is needed for a change of credentials
    csrf_key: bytes = field(repr=False)


class ConnectRefused(Rejected):
    """A sign-in or a mailbox is refused. Whoever shows it has words for `code`, which `facts` fill in.

    `str()` is the technical cause, in English: for the person who looks at details.
    """

    def __init__(self, code: str, detail: str, **facts: str) -> None:
        super().__init__(detail)
        self.code = code
        self.facts: Mapping[str, str] = facts


def ways(deps: Deps, tenant: str | None) -> Way | None:
    """Return how people of this tenant sign in; of the only one there is, when none is named; None if one has to be named.

    Raises: NotFound for an unknown name.
    """
    with deps.store.transaction(reading=True) as tx:
        known = tx.tenants() if tenant is None else [tx.tenant(tenant)]
    if len(known) != 1:
        return None
    (found,) = known
    return Way("oidc" if found.c4c.oidc else "password", found.name, found.id)


def begin(deps: Deps, tenant: str, *, browser: str, redirect_uri: str, next_path: str, fresh: bool) -> str:
    """Return where the browser goes to sign in. `fresh`: even if it is signed in there, the person has to prove it anew.

    `redirect_uri` has to be this tenant's alone, or one tenant's provider could have another's answer brought to us as its own
    (RFC 9700 section 4.4).

    Raises: NotFound for an unknown tenant or one without a provider; Transient; SignInRefused.
    """
    found = _tenant(deps, tenant)
    if not found.c4c.oidc:
        raise NotFound("The tenant has no identity provider.")
    flow = deps.doors.identity_provider(found)
    scopes = found.c4c.oidc.get("scopes", ("openid", "profile"))
    begun = flow.begin(redirect_uri=redirect_uri, scopes=scopes, fresh=fresh)
    keep_flow(deps, begun, tenant_id=found.id, user_id=None, service=_PAGES, browser=browser, next_path=next_path)
    return begun.url


def finish(deps: Deps, *, browser: str, answer: Mapping[str, str], tenant: str) -> SignedIn:
    """Take the provider's answer, which came to the redirect address of the tenant with this id.

    Raises: ConnectRefused; SignInRefused; Forbidden for who is not set up; Transient.
    """
    flow = take_flow(deps, browser, answer.get("state", ""), user_id=None)
    with deps.store.transaction(reading=True) as tx:
        found = tx.tenant(flow.tenant_id)
    if flow.tenant_id != tenant or not found.c4c.oidc:
        raise unknown_flow()
    granted = deps.doors.identity_provider(found).finish(opened(deps, flow), answer)
    principal = _resolved(deps, found, _user_id_in(granted.person, found.c4c.oidc.get("user_claim", "sub")))
    return _signed_in(deps, principal, flow.next_path, via="oidc", authenticated_at=_authenticated_at(deps, granted.person))


def _user_id_in(person: Person, claim: str) -> str:
    """Return the UserID that a claim holds, "" if none can be meant.

    C4C's are ASCII; other letters may look like them, or become them in upper case. An unverified address says nothing.
    """
    claimed = person.address if claim == "email" else person.claims.get(claim)
    return claimed if isinstance(claimed, str) and claimed.isascii() else ""


def _authenticated_at(deps: Deps, person: Person) -> datetime:
    """Return when the person proved to be there; where the provider does not tell, too long ago for a change of credentials."""
    told, now = person.claims.get("auth_time"), deps.now()
    long_ago = now - FRESH - timedelta(seconds=1)
    return min(now, datetime.fromtimestamp(told, UTC)) if type(told) is int and 0 < told < 2**40 else long_ago


def by_password(deps: Deps, tenant: str, user: str, password: str, *, next_path: str) -> SignedIn:
    """Have C4C judge a user and password.

    Raises: NeedsReauth if they are wrong; NotFound for an unknown tenant, or one with a provider of its own; Forbidden for who is
    locked or not set up; Transient.
    """
    found = _tenant(deps, tenant)
    if found.c4c.oidc:
        raise NotFound("People of this tenant sign in at its identity provider.")
    wrong = NeedsReauth("SAP Cloud for Customer does not accept this user and password.")
    if not user.strip() or not password or ":" in user:  # which separates the two in Basic (RFC 7617)
        raise wrong
    place = f"{found.id}:{user.strip().lower()}"
    if not deps.tries.begin(place):
        raise RateLimited("Other people are signing in right now. Try again in a moment.", retry_after_s=5)
    try:
        me = deps.doors.c4c_by_password(found, user.strip(), password).who_am_i()
    except NeedsReauth as error:
        with deps.store.transaction() as tx:
            known = tx.user_by_c4c_id(found.id, user.strip())
            tx.record("pages.refused", deps.now(), tenant_id=found.id, user_id=known.id if known else None)
        raise wrong from error
    finally:
        deps.tries.end(place)
    principal = _known(deps, found, me.user_id)
    _check_user(principal, me)
    return _signed_in(deps, principal, next_path, via="password", authenticated_at=deps.now())


def visitor(deps: Deps, token: str) -> Visitor | None:
    """Return who is signed in with this token; None if nobody is, any more."""
    now, hashed = deps.now(), _hash(token)
    with deps.store.transaction(reading=True) as tx:
        session = tx.page_session(hashed, "pages", now)
        principal = None if session is None else tx.principal_of(session.user_id)
    if session is None or principal is None or now - session.seen_at > IDLE:
        return None
    if now - session.seen_at > _SEEN_EVERY:
        with deps.store.transaction() as tx:
            tx.see_page_session(hashed, now)
    is_fresh = now - session.authenticated_at <= FRESH
    return Visitor(principal, session.authenticated_at, is_fresh, hmac.digest(token.encode(), b"ssi csrf", hashlib.sha256))


def sign_out(deps: Deps, token: str) -> None:
    with deps.store.transaction() as tx:
        tx.end_page_session(_hash(token))


# The sidebar, where its person signed in by our own dialog


def pane_token(deps: Deps, visitor: Visitor, page_token: str) -> tuple[str, int]:
    """Return a token for the API, and for how many seconds it is good; signing out of the page session ends it, too."""
    token, user = PANE_PREFIX + secrets.token_urlsafe(32), visitor.principal.user
    _keep(deps, token, user, "pane", via="dialog", authenticated_at=visitor.authenticated_at, made_from=_hash(page_token))
    return token, int(LIFE.total_seconds())


def pane_caller(tx: Transaction, token: str, now: datetime) -> tuple[Principal | None, datetime]:
    """Return whose pane holds this token, if anybody's, and until when it is good."""
    session = tx.page_session(_hash(token), "pane", now)
    return (None, now) if session is None else (tx.principal_of(session.user_id), session.expires_at)


# Flows


def keep_flow(
    deps: Deps, begun: Begun, *, tenant_id: str, user_id: str | None, service: str, browser: str, next_path: str
) -> None:
    """Keep what a browser needs when it comes back with the state that it takes along."""
    state = _hash(begun.state)
    kept = deps.vault.seal(tenant_id, state.hex(), "flow", begun.kept.encode())
    flow = Flow(state, _hash(browser), tenant_id, user_id, service, kept, next_path, deps.now() + FLOW_LIFE)
    with deps.store.transaction() as tx:
        tx.add_flow(flow)


def take_flow(deps: Deps, browser: str, state: str, *, user_id: str | None) -> Flow:
    """Return what was kept for this state, browser and person, once. Raises: ConnectRefused, also when it has expired."""
    with deps.store.transaction() as tx:
        flow = tx.take_flow(_hash(state), _hash(browser), deps.now())
    if flow is None or flow.user_id != user_id:
        raise unknown_flow()
    return flow


def unknown_flow() -> ConnectRefused:
    return ConnectRefused("flow_unknown", "The state is unknown, has expired, was used, or belongs to another sign-in.")


def opened(deps: Deps, flow: Flow) -> str:
    return deps.vault.open(flow.tenant_id, flow.state_hash.hex(), "flow", flow.kept).decode()


# Internals


def _tenant(deps: Deps, name: str) -> Tenant:
    """Raises: NotFound."""
    with deps.store.transaction(reading=True) as tx:
        return tx.tenant(name)


def _resolved(deps: Deps, tenant: Tenant, user_id: str) -> Principal:
    """Return the person behind a business user, of whom C4C says that they are that user."""
    principal = _known(deps, tenant, user_id)
    try:
        me = deps.c4c(principal).who_am_i()
    except (NeedsReauth, Forbidden) as error:
        raise _not_as_user(principal, str(error)) from error
    _check_user(principal, me)
    return principal


def _known(deps: Deps, tenant: Tenant, user_id: str) -> Principal:
    with deps.store.transaction(reading=True) as tx:
        find = tx.user_by_email if "@" in user_id else tx.user_by_c4c_id
        user = find(tenant.id, user_id) if user_id else None
        principal = None if user is None else tx.principal_of(user.id)
        contacts = [organization.admin_contact for organization in tx.organizations(tenant.id)]
    if principal is None:
        ask = f"your administrator, {contacts[0]}" if contacts else "your administrator"
        raise Forbidden(f"You are not set up for SAP Cloud for Customer yet. Ask {ask}.", code="not_provisioned")
    return principal


def _check_user(principal: Principal, me: Me) -> None:
    if me.is_locked:
        raise _not_as_user(principal, "SAP Cloud for Customer says that your user is locked.")
    if me.user_id.upper() != principal.user.c4c_user_id:
        raise _not_as_user(principal, "SAP Cloud for Customer does not confirm your user.")


def _not_as_user(principal: Principal, why: str) -> Forbidden:
    return Forbidden(f"{why} Ask your administrator, {principal.organization.admin_contact}.", code="c4c_user")


def _signed_in(deps: Deps, principal: Principal, next_path: str, *, via: str, authenticated_at: datetime) -> SignedIn:
    token = secrets.token_urlsafe(32)
    _keep(deps, token, principal.user, "pages", via=via, authenticated_at=authenticated_at)
    return SignedIn(token, next_path, int(LIFE.total_seconds()))


def _keep(
    deps: Deps,
    token: str,
    user: User,
    purpose: Purpose,
    *,
    via: str,
    authenticated_at: datetime,
    made_from: bytes | None = None,
) -> None:
    now, until = deps.now(), deps.now() + LIFE
    with deps.store.transaction() as tx:
        tx.add_page_session(
            _hash(token), user, purpose, now, authenticated_at=authenticated_at, expires_at=until, made_from=made_from
        )
        tx.record(f"{purpose}.sign_in", now, tenant_id=user.tenant_id, user_id=user.id, via=via)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
