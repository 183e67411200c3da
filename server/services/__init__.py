"""Use cases. Each takes Deps and a Principal; the web, the command line and the worker are only ways to call them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from datetime import datetime
from threading import BoundedSemaphore
from typing import Literal, ParamSpec, Protocol, TypeVar

from server.auth import ExchangeLogin, TokenVault
from server.auth.flow import CodeFlow
from server.auth.identity import Claims, Verifier
from server.c4c import C4C, DeepLinks
from server.errors import Transient
from server.mail import Capability, Mailbox, MessageHead
from server.mail.smtp import Letter
from server.services.lookup_cache import LookupCache
from server.store import Connection, Principal as Principal, Provider as Provider, Store, Tenant as Tenant

P = ParamSpec("P")
T = TypeVar("T")

LARGE_AT_ONCE = 2
TRIES_AT_ONCE = 3  # of mailboxes, or passwords, at servers that may let us wait: fewer than there are threads for requests


@dataclass(frozen=True, slots=True)
class Limits:
    """Deadlines and bounds of the use cases, in seconds where not said otherwise."""

    context_deadline_s: float
    save_deadline_s: float
    lease_s: float
    unknown_settle_s: float
    max_lookup_addresses: int = 50  # a lookup asks for at most so many
    max_message_bytes: int = 80 * 1024 * 1024  # a larger message is refused; 25 MB files grow by a third in base64
    large_message_bytes: int = 4 * 1024 * 1024  # of messages beyond this only as many as `Deps.large` are in memory at once
    max_text_chars: int = 200_000  # longer texts are shortened visibly
    max_attempts: int = 8  # of a save that C4C keeps refusing because something changed meanwhile
    give_up_after_s: float = 24 * 3600  # a save that could not be carried out for so long fails
    card_deadline_s: float = 20.0  # after this a click in Gmail is answered, which gives up after 30 s (gmail.md 1.3)
    scan_lease_s: float = 300.0  # for one page of a scan
    user_calls_per_minute: int = 0  # 0: no limit
    tenant_calls_per_minute: int = 0
    failed_sign_ins_per_minute: int = 0  # from one network address


class ExchangeDoor(Protocol):
    """What is found out about an Exchange server before a login is kept."""

    def discover(self, address: str, login: ExchangeLogin) -> str:
        """Return the EWS URL of a mailbox. Raises: as server.mail.exchange.autodiscover.discover."""

    def scheme(self, url: str) -> Literal["ntlm", "basic"]:
        """Return how the server signs people in. Raises: Rejected if it is none that we can; Transient."""

    def is_listed(self, host: str) -> bool:
        """Say whether the operator listed the host by its name."""


class Tries:
    """Who is trying to open a mailbox right now. Thread-safe."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._lock = threading.Lock()
        self._under_way: set[str] = set()

    def begin(self, key: str) -> bool:
        """Take a place; False if there is none, or if this one has one."""
        with self._lock:
            if key in self._under_way or len(self._under_way) >= self._at_once:
                return False
            self._under_way.add(key)
            return True

    def end(self, key: str) -> None:
        with self._lock:
            self._under_way.discard(key)


class Background:
    """Threads for work that outlives its request. No tenant has more of them than its share, or one whose C4C answers nobody
    would keep the others' people waiting. Thread-safe.
    """

    def __init__(self, executor: Executor, share: int) -> None:
        self._executor, self._share = executor, share
        self._lock = threading.Lock()
        self._under_way: Counter[str] = Counter()

    def submit(self, tenant_id: str, work: Callable[P, T], *args: P.args, **options: P.kwargs) -> Future[T]:
        """Raises: Transient, if the tenant's share is under way."""
        with self._lock:
            if self._under_way[tenant_id] >= self._share:
                raise Transient("SAP Cloud for Customer is slow right now. Try again in a moment.", retry_after_s=1)
            self._under_way[tenant_id] += 1
        try:
            future = self._executor.submit(work, *args, **options)
        except RuntimeError:  # no thread can be had now, or no more
            self._ended(tenant_id)
            raise
        future.add_done_callback(lambda _: self._ended(tenant_id))
        return future

    def _ended(self, tenant_id: str) -> None:
        with self._lock:
            self._under_way[tenant_id] -= 1
            if not self._under_way[tenant_id]:
                del self._under_way[tenant_id]

    def shutdown(self) -> None:
        """Wait for what is under way and end."""
        self._executor.shutdown()


@dataclass(frozen=True, slots=True)
class Doors:
    """How people sign in elsewhere, and how a new key is tried before it is kept."""

    identity_provider: Callable[[Tenant], CodeFlow]  # a tenant's own
    c4c_by_password: Callable[[Tenant, str, str], C4C]  # as a user with this password
    flows: Mapping[str, CodeFlow]  # service of the wizard -> its sign-in
    flow_scopes: Mapping[str, tuple[str, ...]]  # what is asked for there
    mailbox_scopes: Mapping[Provider, tuple[str, ...]]  # what the mailbox then is used with
    try_mailbox: Callable[[Provider, str, str | ExchangeLogin], Mailbox]  # at an address, with an access token or a login
    exchange: ExchangeDoor
    consumer_domains: frozenset[str]  # of Microsoft's mailboxes for everybody


@dataclass(frozen=True, slots=True)
class Deps:
    """What use cases receive; built once, in wiring."""

    store: Store
    vault: TokenVault
    verifier: Verifier
    c4c: Callable[[Principal], C4C]  # C4C as that user
    mailbox: Callable[[Connection], Mailbox]
    pause_mailbox: Callable[[Connection, float], None]  # for so many seconds nobody asks it
    capabilities: Callable[[Provider], frozenset[Capability]]  # of the mailboxes there
    links: Callable[[Tenant], DeepLinks]  # where a tenant's records open
    now: Callable[[], datetime]
    sleep: Callable[[float], None]
    limits: Limits
    cache: LookupCache
    background: Background
    mail_scopes: tuple[str, ...]
    doors: Doors
    read_open: Callable[[str, str, str], MessageHead]  # the message open in Gmail: its id, the person's token, the message's
    public_url: str  # origin of our own pages, for links in mails
    hooks_url: str = ""  # origin where mail services reach us with notifications; "": none are ordered
    push_verifier: Verifier | None = None  # judges the tokens of Google's notifications; None: none are taken
    host_verifier: Verifier | None = None  # judges the tokens by which Google runs the add-on itself; None: it may not
    send_mail: Callable[[Letter], None] | None = None  # by the operator's mail server; None: there is none
    wake: Callable[[], None] = field(default=lambda: None)  # tells a dispatcher that a row is due; without one it is found
    tries: Tries = field(default_factory=lambda: Tries(TRIES_AT_ONCE))
    large: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(LARGE_AT_ONCE))
    """Places for large messages, which cost memory: a save holds one while it has such a message."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A Principal with the token it came with, which is needed once: to open the mailbox for later."""

    principal: Principal
    claims: Claims
    assertion: str = field(repr=False)
