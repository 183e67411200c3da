"""The error tree, by what the caller must do.

    SsiError
    ├── Transient            try again later; retry_after says when, if the peer told
    │   └── RateLimited      the same, because we were told to slow down
    ├── Unknown              the peer may have acted: look before any retry
    ├── NeedsReauth          a person must sign in again; retrying cannot help
    ├── CursorExpired        read everything anew
    ├── NotFound             it is not there (any more): plan again
    ├── Conflict             somebody else changed it: read, merge, plan again
    │   └── AlreadyExists    somebody else made it
    ├── Rejected             the peer refuses this item, and will again: tell why, go on with the others
    ├── InvalidInput         the caller sent something that cannot be meant
    └── Forbidden            this caller may not; the web layer answers 404 where existence is secret

Anything else that is raised is a fault of ours: it propagates, is logged once and becomes a 500 or a failed job.
Messages are for people: one sentence, without secrets. Of content they hold what was refused, if anything: they are shown, and
stored only sealed.
"""

from __future__ import annotations

from collections.abc import Mapping


class SsiError(Exception):
    """Root of everything the product raises on purpose. `str()` is one sentence for a person."""


class Transient(SsiError):
    """The peer could not answer now and did not act (or acting twice is harmless).

    `code` is "certificate" when it was not asked because its certificate is not trusted, "locked" when somebody else is
    changing what is to be changed, else "".
    """

    def __init__(self, detail: str, *, retry_after_s: float | None = None, code: str = "") -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s
        self.code = code


class RateLimited(Transient):
    """The peer asked for a pause; before `retry_after_s` nothing may be sent to it for this mailbox or tenant."""


class Unknown(SsiError):
    """A write was sent and its outcome is not known, e.g. the answer was cut or a 2xx came without a body."""


class NeedsReauth(SsiError):
    """Consent, password or token is no longer good.

    `connection` is the id of the Connection, None for the caller's own token; `claims` is the challenge that the new sign-in
    has to satisfy, None if there is none. `code` is "locked" when the account takes no password at all for now, else "".
    """

    def __init__(self, detail: str, *, connection: str | None = None, claims: str | None = None, code: str = "") -> None:
        super().__init__(detail)
        self.connection = connection
        self.claims = claims
        self.code = code


class CursorExpired(SsiError):
    """The peer no longer knows the cursor."""


class NotFound(SsiError):
    """The thing asked for does not exist for this caller."""


class Conflict(SsiError):
    """The thing changed since it was read."""


class AlreadyExists(Conflict):
    """The thing to be made is there already."""


class Rejected(SsiError):
    """The peer refuses this item for good; `reason` is the peer's or our own sentence, safe to show, but it may quote content.

    One of ours has a `code`, by which it is known in every language, and `facts` that it is filled in with: see
    `server.domain.sentences`. A peer's has none.
    """

    def __init__(self, reason: str, *, code: str = "", facts: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code
        self.facts = facts or {}


class InvalidInput(SsiError):
    """The request is wrong at `field`; `reason` says how to mend it."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class Forbidden(SsiError):
    """The caller is known and may not do this. `code` tells the front end which state to show."""

    def __init__(self, detail: str, *, code: str = "forbidden") -> None:
        super().__init__(detail)
        self.code = code
