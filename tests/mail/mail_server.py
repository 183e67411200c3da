"""A mail server on loopback for the tests of one module, with TLS under an authority of its own."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import trustme

from server.mail.smtp import Smtp
from simulator.smtp import ACCOUNT, SmtpPort
from simulator.world import Person, World

WHO = Person("Ada Alder", "ada.alder@aldermill.example", "oid", "ADA", "E1", "secret")


@dataclass
class MailServer:
    """The simulator's mail server at both kinds of port; `world` is replaced by each test."""

    world: World
    tls: ssl.SSLContext  # of a client that trusts it
    submission: SmtpPort  # STARTTLS
    submissions: SmtpPort  # TLS from the first byte

    def client(self, *, timeout_s: float = 5, **how: Any) -> Smtp:
        """Return the product's sender; `how` replaces what it is made with."""
        at = ACCOUNT.user.replace("@", "%40")
        given = {
            "url": f"smtp://{at}@localhost:{self.submission.port}",
            "password": ACCOUNT.password,
            "sender": f"SSI Sidebar <{ACCOUNT.user}>",
            "ssl_context": self.tls,
            "now": lambda: datetime.now(UTC),
        }
        return Smtp(timeout_s=timeout_s, **{**given, **how})


def new_world() -> World:
    world = World()
    world.people.append(WHO)
    return world


@contextmanager
def serving() -> Iterator[MailServer]:
    authority = trustme.CA()
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(theirs)
    ours = ssl.create_default_context()
    authority.configure_trust(ours)
    made: list[MailServer] = []

    def world() -> World:
        return made[0].world

    with SmtpPort(world, tls=theirs) as submission, SmtpPort(world, tls=theirs, is_tls_at_once=True) as submissions:
        made.append(MailServer(new_world(), ours, submission, submissions))
        yield made[0]
