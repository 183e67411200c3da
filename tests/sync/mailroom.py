"""Sessions of the engine as far as messages go, and what the mailbox's owner and the post do between them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from email.message import EmailMessage
from email.utils import format_datetime
from itertools import count
from typing import Any

from server.domain.marks import FolderId, folder_names, names_for
from server.errors import Transient
from server.services import Deps, Principal, issues
from server.services.issues import Told
from server.store import Connection, MailboxSync
from server.sync import messages
from simulator.mime import read
from simulator.world import Person, Row, StoredMessage, World
from tests.api import Api
from tests.mail.google.remote import GoogleRemote
from tests.mail.remote import Remote

_numbers = count(1)


@dataclass
class Mailroom:
    """One person's mailbox: its sessions, one by one, and what lies in it."""

    deps: Deps
    me: Api
    remote: Remote
    refs: Mapping[FolderId, str] = field(default_factory=dict)  # of the folders, since a session made them

    @property
    def world(self) -> World:
        return self.me.world

    @property
    def person(self) -> Person:
        return self.me.person

    @property
    def principal(self) -> Principal:
        with self.deps.store.transaction(reading=True) as tx:
            (tenant,) = tx.tenants()
            (user,) = [user for user in tx.users(tenant.id) if self.person.email.lower() in user.mailboxes]
            found = tx.principal_of(user.id)
        assert found is not None
        return found

    @property
    def connection(self) -> Connection:
        with self.deps.store.transaction(reading=True) as tx:
            (connection,) = [c for c in tx.connections_of(self.principal.user.id) if c.state == "active"]
        return connection

    def set(self, **settings: Any) -> None:
        """Give the person's organization these settings."""
        organization = self.principal.organization
        profile = replace(organization.profile, **settings)
        with self.deps.store.transaction() as tx:
            tx.put_organization(
                organization.tenant_id, organization.name, organization.access_type, organization.admin_contact, profile
            )

    # Sessions

    def session(self, *, at: Deps | None = None) -> Mapping[str, int]:
        """Run a session to its end; return what it counts."""
        deps = at or self.deps
        sync = self.begin(deps)
        mailbox = deps.mailbox(self.connection)
        pages = [mailbox.changes(sync.cursor, folders=self.refs)]
        while not pages[-1].is_complete:
            pages.append(mailbox.changes(pages[-1].cursor, folders=self.refs))
        told = [change for page in pages for change in page.messages]
        try:
            counts = messages.handle(deps, self.principal, self.connection, mailbox, sync, told)
        except Transient:
            self._end(deps, sync, failures=sync.failures + 1)
            raise
        now = deps.now()
        first = sync.first_done_at or now
        self._end(deps, sync, failures=0, finished_at=now, first_done_at=first, cursor=pages[-1].cursor)
        return counts

    def begin(self, deps: Deps) -> MailboxSync:
        """Take the mailbox's session, its marks and folders ensured as the engine does it at first."""
        mailbox, principal = deps.mailbox(self.connection), self.principal
        with deps.store.transaction() as tx:
            tx.queue_session(self.connection, deps.now())
            (sync,) = [one for one in tx.take_sessions(deps.now(), 600, 100) if one.connection_id == self.connection.id]
        language = principal.user.language
        marks = mailbox.ensure_marks(
            names_for(mailbox.capabilities, language), known={m: ref for m, (ref, _) in sync.marks.items()}
        )
        folders = mailbox.ensure_folders(folder_names(language), known={f: ref for f, (ref, _) in sync.folders.items()})
        self.refs = {folder: one.ref for folder, one in folders.items()}
        kept = {
            "marks": {m: [c.ref, c.name] for m, c in marks.items()},
            "folders": {f: [c.ref, c.name] for f, c in folders.items()},
        }
        with deps.store.transaction() as tx:
            tx.keep_session(sync, deps.now(), 600, **kept)
        return replace(sync, marks={m: (c.ref, c.name) for m, c in marks.items()})

    def _end(self, deps: Deps, sync: MailboxSync, **values: Any) -> None:
        with deps.store.transaction() as tx:
            tx.end_session(sync, next_due_at=None, now=deps.now(), **values)

    # What its owner and others do

    def receive(
        self,
        sender: str,
        to: str = "",
        *,
        cc: str = "",
        place: str = "inbox",
        thread: StoredMessage | None = None,
        minutes_ago: float = 0,
        message_id: str = "",
        **headers: str,
    ) -> StoredMessage:
        """Let a message arrive or, with the place "sentitems", be sent."""
        number = next(_numbers)
        letter = EmailMessage()
        letter["From"], letter["To"], letter["Subject"] = sender, to or self.person.email, f"Letter {number}"
        letter["Date"] = format_datetime(self.world.now() - timedelta(minutes=minutes_ago))
        letter["Message-ID"] = message_id or f"<sync-{number}@letters.example>"
        if cc:
            letter["Cc"] = cc
        for name, value in headers.items():
            letter[name.replace("_", "-")] = value
        letter.set_content("Hello.")
        letter.add_attachment(b"%PDF-1.4 offer", maintype="application", subtype="pdf", filename="offer.pdf")
        message = self.remote.receive(letter.as_bytes(), hours_ago=minutes_ago / 60, place=place)
        if thread is not None:
            message.conversation_id = thread.conversation_id
        return message

    def mark(self, message: StoredMessage, *names: str) -> None:
        """Let the owner put the share mark, or these, on a message, beside what it carries."""
        share = names_for(self.deps.capabilities(self.connection.provider))["share"]
        self.remote.categorize(message, *message.categories, *(names or (share,)))

    def lay_in_emails(self, message: StoredMessage) -> None:
        """Let the owner move a message into the folder; at Gmail, what was sent stays in Sent whatever else it is in."""
        if self.person.access_type == "google" and self.remote.place_of(message) == "sentitems":
            self.mark(message)
        else:
            self.remote.move(message, self.refs["emails"])

    # What became of it

    def activities(self, message: StoredMessage) -> list[Row]:
        key = read(message.mime).text_of("Message-ID").strip("<>")
        return list(self.world.saved_activities(key))

    def only_activity(self, message: StoredMessage) -> Row:
        (row,) = self.activities(message)
        return row

    @property
    def issues(self) -> list[Told]:
        return issues.told(self.deps, self.principal)


def mailroom(deps: Deps, me: Api) -> Mailroom:
    """Open a person's mailbox, connected as by their first look at the sidebar."""
    me.preview("known_contact")
    kind: Callable[..., Remote] = GoogleRemote if me.person.access_type == "google" else Remote
    return Mailroom(deps, me, kind(me.world, me.host.vendor, me.person, revoke=lambda: None))
