"""Mails that we owe people: that a mailbox can no longer be opened, or is not being synchronized, why, and where to mend it.

The row in the store is the truth. A mail whose outcome is not known is sent again, as is one whose worker died after it: better
twice than never, and both have the same Message-ID. What was mended meanwhile needs no mail, so the connection is looked at again
just before. Under Impersonation a person can mend no broken mailbox: their administrator is told, once for all with the same
cause. Otherwise an organization may want its administrator told of each, beside the person (`Profile.admins_told`).
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from server import logs
from server.errors import InvalidInput, Rejected, Transient, Unknown
from server.mail.smtp import Letter
from server.services import Deps, Principal, syncing
from server.services.connections import IMPERSONATION
from server.store import Connection, MailboxSync, Notice, Transaction

LEASE_S = 300.0  # for one mail; more than the longest sending takes
TOLD_FOR = timedelta(days=7)  # so long an administrator is not told the same cause again
PATHS = {"mailbox_broken": "/settings/sync/email", "sync_failing": "/settings/"}
"""Kind -> the page that shows what is wrong."""
FAILING = 10  # sessions in a row that failed, after which we write
FALLBACK = "en"

log = logs.get(__name__)


def take_due(deps: Deps, limit: int) -> list[Notice]:
    """Take the mails that are due the longest, at most so many; called by the worker, which then sends each."""
    with deps.store.transaction() as tx:
        return tx.take_notices(deps.now(), LEASE_S, limit)


def session_failed(tx: Transaction, session: MailboxSync, failures: int, code: str, now: datetime) -> None:
    """Owe the person a mail once so many sessions of their mailbox failed in a row. Call it where the failure is kept.

    The mail says why the last one did, as its row tells when the mail is sent; of that only the `code` is in the notice.
    """
    if failures == FAILING:
        tx.owe_notice(tx.connection(session.connection_id), "sync_failing", code, now)


def compose(notice: Notice, principal: Principal, mailbox: str, public_url: str, *, language: str = FALLBACK) -> list[Letter]:
    """Return the mails for one notice: to the person, to their administrator, or to both, each in the person's language."""
    if notice.kind == "mailbox_broken" and principal.organization.access_type == IMPERSONATION:
        variants = ["_impersonation"]
    else:
        variants = ["", "_admin"] if principal.profile.admins_told else [""]
    return [_composed(notice, variant, principal, mailbox, public_url, language) for variant in variants]


def _composed(notice: Notice, variant: str, principal: Principal, mailbox: str, public_url: str, language: str) -> Letter:
    texts, organization = _catalogue(), principal.organization
    form = texts.get(language, texts[FALLBACK])[notice.kind + variant]
    values = {
        "name": _one_line(principal.user.name),
        "mailbox": _one_line(mailbox),
        "organization": _one_line(organization.name),
        "reason": _one_line(notice.reason),
        "contact": _one_line(organization.admin_contact),
        "link": public_url + PATHS[notice.kind],
    }
    host = re.sub(r"[^A-Za-z0-9.-]", "-", urlsplit(public_url).hostname or "localhost")
    return Letter(
        message_id=f"notice-{notice.id}{'-admin' if variant == '_admin' else ''}@{host}",
        to=organization.admin_contact if variant else principal.user.email,
        subject=form["subject"],
        text="\n\n".join(paragraph.format_map(values) for paragraph in form["text"]) + "\n",
    )


def send(deps: Deps, notice: Notice) -> None:
    """Send a mail that was taken, unless nobody needs it any more.

    Raises: LeaseLost if the connection was mended while we worked, or another worker has the notice: theirs to note.
    """
    send_mail = deps.send_mail
    with deps.store.transaction(reading=True) as tx:
        principal, connection = tx.principal_of(notice.user_id), tx.connection(notice.connection_id)
        session = tx.session_of(connection.id)
        needless = _needless(notice, connection, session)
        if notice.kind == "mailbox_broken" and principal and principal.organization.access_type == IMPERSONATION:
            was_told = tx.was_told(notice, principal.organization.id, deps.now() - TOLD_FOR)
            needless = needless or ("The administrator was told." if was_told else "")
    if principal is None or send_mail is None or needless:
        with deps.store.transaction() as tx:
            why = "No mail server is set up." if principal else "The person is not enabled."
            tx.notice_dropped(notice, needless or why)
        return
    if notice.kind == "sync_failing" and session is not None:
        last = session if session.reason else replace(session, reason=notice.reason)  # another one may have begun meanwhile
        notice = replace(notice, reason=syncing.why(deps, principal, last))
    letters = compose(notice, principal, connection.mailbox, deps.public_url, language=principal.user.language)
    try:
        for letter in letters:
            send_mail(letter)
    except (Rejected, InvalidInput) as error:
        log.warning("notice refused", notice=notice.id, reason=str(error))
        _give_up(deps, notice, str(error))
    except (Transient, Unknown) as error:
        _put_off(deps, notice, str(error))
    else:
        with deps.store.transaction() as tx:
            tx.notice_sent(notice, deps.now())
        log.info("notice sent", notice=notice.id, kind=notice.kind)


def _needless(notice: Notice, connection: Connection, session: MailboxSync | None) -> str:
    """Return why nobody needs this mail; "" if somebody does."""
    if notice.kind == "sync_failing":
        if connection.state != "active" or session is None or session.suspended_at is not None:
            return "The connection changed meanwhile."
        return "" if session.failures >= FAILING else "Sessions go well again."
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
