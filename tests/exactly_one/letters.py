"""Messages under test: each has a Message-ID of its own and lies in the mailboxes of one or several people."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from simulator import demo
from simulator.world import Person, StoredMessage, World
from tests.api import Item
from tests.test_saves import with_files

OWN_CATEGORY = "Follow-up"  # the user's own, which must outlive every save

_numbers = itertools.count(1)  # ids that are never used twice, whatever the World


@dataclass(frozen=True)
class Letter:
    """A message and its copies. `files` are what a save of all attachments brings into C4C."""

    key: str  # its Message-ID without brackets
    refs: Mapping[str, str]  # mailbox address -> immutable id of the copy there
    files: Mapping[str, bytes] = field(repr=False)

    def item(self, world: World, person: Person) -> Item:
        """The message as Outlook describes it to this person."""
        return demo.item(world.mailbox(person.email), self.copy(world, person))

    def copy(self, world: World, person: Person) -> StoredMessage:
        return world.mailbox(person.email).messages[self.refs[person.email]]


def deliver(world: World, people: Sequence[Person], sizes: Mapping[str, int], *, case: str = "known_contact") -> Letter:
    """Put a message with files of these sizes, zero-filled, into the inboxes of these people."""
    owner, ref = world.cases[case]
    number = next(_numbers)
    key = f"exactly-{number:08d}@one.example"
    mime = with_files(world.mailbox(owner).messages[ref].mime, dict(sizes))
    mime = re.sub(rb"(?im)^message-id:[^\r\n]*", f"Message-ID: <{key}>".encode(), mime, count=1)
    refs = {}
    for place, person in enumerate(people):
        mailbox = world.mailbox(person.email)
        one = f"{number:024x}{place:08x}"
        message = StoredMessage(
            mime,
            mailbox.folder("inbox").id,
            world.now(),
            categories=[OWN_CATEGORY],
            immutable_id="AAkALg" + one,
            ews_id="AAMk/" + one + "=",
        )
        mailbox.messages[message.immutable_id] = message
        refs[person.email] = message.immutable_id
    return Letter(key, refs, {name: bytes(size) for name, size in sizes.items()})
