"""Mails that we owe people: that a mailbox can no longer be opened, why, and where to mend it.

The row in the store is the truth. A mail whose outcome is not known is sent again, as is one whose worker died after it: better
twice than never, and both have the same Message-ID. What was mended meanwhile needs no mail, so the connection is looked at again
just before. Under Impersonation a person can mend nothing: their administrator is told, once for all with the same cause.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from server import logs
from server.errors import InvalidInput, Rejected, Transient, Unknown
from server.mail.smtp import Letter
from server.services import Deps, Principal
from server.services.connections import IMPERSONATION
from server.store import Connection, LeaseLost, Notice

LEASE_S = 300.0  # for one mail; more than the longest sending takes
TOLD_FOR = timedelta(days=7)  # so long an administrator is not told the same cause again
SETTINGS_PATH = "/settings/sync/email"
FALLBACK = "en"

log = logs.get(__name__)


def send_due(deps: Deps) -> int:
    """Send the mail that is due the longest, if any; return how many were worked on."""
    with deps.store.transaction() as tx:
        notice = tx.take_notice(deps.now(), LEASE_S)
    if notice is None:
        return 0
    with suppress(LeaseLost):  # the connection was mended while we worked, or another worker has the notice: theirs to note
        _send(deps, notice)
    return 1


def compose(notice: Notice, principal: Principal, mailbox: str, public_url: str, *, language: str = FALLBACK) -> Letter:
    """Return the mail for one notice: to the person, or to their administrator if only that one can mend it."""
    is_admins = principal.organization.access_type == IMPERSONATION
    texts = _catalogue()
    form = texts.get(language, texts[FALLBACK])[f"{notice.kind}_impersonation" if is_admins else notice.kind]
    organization = principal.organization
    values = {
        "name": _one_line(principal.user.name),
        "mailbox": _one_line(mailbox),
        "organization": _one_line(organization.name),
        "reason": _one_line(notice.reason),
        "contact": _one_line(organization.admin_contact),
        "link": public_url + SETTINGS_PATH,
    }
    host = re.sub(r"[^A-Za-z0-9.-]", "-", urlsplit(public_url).hostname or "localhost")
    return Letter(
        message_id=f"notice-{notice.id}@{host}",
        to=organization.admin_contact if is_admins else principal.user.email,
        subject=form["subject"],
        text="\n\n".join(paragraph.format_map(values) for paragraph in form["text"]) + "\n",
    )


def _send(deps: Deps, notice: Notice) -> None:
    """Raises: LeaseLost."""
    send_mail = deps.send_mail
    with deps.store.transaction(reading=True) as tx:
        principal, connection = tx.principal_of(notice.user_id), tx.connection(notice.connection_id)
        needless = _needless(notice, connection)
        if principal and principal.organization.access_type == IMPERSONATION:
            was_told = tx.was_told(notice, principal.organization.id, deps.now() - TOLD_FOR)
            needless = needless or ("The administrator was told." if was_told else "")
    if principal is None or send_mail is None or needless:
        _give_up(deps, notice, needless or ("No mail server is set up." if principal else "The person is not enabled."))
        return
    try:
        send_mail(compose(notice, principal, connection.mailbox, deps.public_url))
    except (Rejected, InvalidInput) as error:
        log.warning("notice refused", notice=notice.id, reason=str(error))
        _give_up(deps, notice, str(error))
    except (Transient, Unknown) as error:
        _put_off(deps, notice, str(error))
    else:
        with deps.store.transaction() as tx:
            tx.notice_sent(notice, deps.now())
        log.info("notice sent", notice=notice.id, kind=notice.kind)


def _needless(notice: Notice, connection: Connection) -> str:
    """Return why nobody needs this mail; "" if somebody does."""
    if connection.state != "needs_reauth" or connection.since != notice.since:
        return "The connection changed meanwhile."
    return ""


def _put_off(deps: Deps, notice: Notice, reason: str) -> None:
    now = deps.now()
    gives_up = now - notice.since > timedelta(seconds=deps.limits.give_up_after_s)
    log.warning("notice not sent", notice=notice.id, reason=reason, gives_up=gives_up)
    due = None if gives_up else now + timedelta(seconds=_backoff_s(notice.attempts))
    with deps.store.transaction() as tx:
        tx.notice_failed(notice, due, reason)


def _give_up(deps: Deps, notice: Notice, reason: str) -> None:
    with deps.store.transaction() as tx:
        tx.notice_failed(notice, None, reason)


def _backoff_s(attempts: int) -> float:
    return float(min(3600, 60 * 2 ** min(attempts, 6))) * (0.75 + random.random() / 2)  # noqa: S311 - spreads retries


def _one_line(text: str) -> str:
    return " ".join(text.split())


@cache
def _catalogue() -> Mapping[str, Any]:
    """Language -> kind -> {"subject", "text": paragraphs with places for values}."""
    texts: dict[str, Any] = json.loads(resources.files("server.services").joinpath("letters.json").read_text("utf-8"))
    return texts
