"""A person at the product's API, and a look at what the person's doings left in the World."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, get_args

import pytest
from apiflask import APIFlask
from werkzeug.test import TestResponse

from simulator import demo
from simulator.c4c.odata import SERVICE
from simulator.mime import read
from simulator.ports import Simulator
from simulator.world import Access, AccessType, Category, Fault, Person, Row, StoredMessage, World

Item = dict[str, Any]

everywhere = pytest.mark.parametrize(
    "access_type",
    [pytest.param(t, marks=pytest.mark.soak if t == "exchange_impersonation" else ()) for t in get_args(AccessType)],
    indirect=True,
)
"""Run a test with the first person's mailbox at each provider in turn; the colleague's stays at Microsoft 365.

Of the two ways to sign in to Exchange the ordinary run takes one; what is different, tests/test_mailboxes.py has in every run.
"""

CHILDREN = {
    "files": "EMailAttachmentsCollection",
    "parties": "EMailInvolvedPartiesCollection",
    "references": "EMailBTDReferenceCollection",
    "notes": "EMailNotesCollection",
    "to": "EMailToRecipientsCollection",
    "cc": "EMailCcRecipientsCollection",
}


@dataclass(frozen=True)
class Host:
    """What tests need to know of a provider of mailboxes: its name in the World, requests to hit, the names of our marks."""

    vendor: str
    read: str  # what a fault matches to hit the request that reads a message
    mark: str  # the same for the one that marks it
    saved: str = "Saved in SAP Cloud for Customer SSI"
    pending: str = "Pending in SAP Cloud for Customer SSI"
    error: str = "Error in SAP Cloud for Customer SSI"


EXCHANGE = Host("exchange", "/GetItem", "/UpdateItem")
HOSTS: dict[AccessType, Host] = {
    "office365": Host("graph", "/messages/", "PATCH"),
    "exchange_direct": EXCHANGE,
    "exchange_impersonation": EXCHANGE,
    "google": Host("google", "/messages", "/modify", "SAP E-Mails/Saved", "SAP E-Mails/Pending", "SAP E-Mails/Sync Error"),
}


@dataclass(frozen=True)
class Api:
    """Calls with the person's bearer token. Thread-safe."""

    app: APIFlask
    simulator: Simulator
    person: Person

    @property
    def world(self) -> World:
        return self.simulator.world

    def send(self, method: str, path: str, **options: Any) -> TestResponse:
        headers = {"Authorization": "Bearer " + self.simulator.bearer(self.person), **options.pop("headers", {})}
        return self.app.test_client().open("/api" + path, method=method, headers=headers, **options)

    def get(self, path: str) -> TestResponse:
        return self.send("GET", path)

    def post(self, path: str, body: Any = None) -> TestResponse:
        return self.send("POST", path, json=body)

    def learn_keys(self) -> None:
        """Have the process fetch the keys that it judges tokens by; on a busy machine its deadline may pass meanwhile."""
        for _ in range(3):
            if self.get("/me").status_code == 200:
                return
            self.world.clock_skew += timedelta(seconds=61)  # it does not ask again earlier

    def item(self, case: str) -> Item:
        """The message of a demo case as Outlook gives it to this person, who may hold another copy of it."""
        owner, ref = self.world.cases[case]
        message = self.world.mailbox(owner).messages[ref]
        if owner != self.person.email:
            message_id = read(message.mime).text_of("Message-ID")
            mine = self.world.mailbox(self.person.email).messages.values()
            message = next(one for one in mine if read(one.mime).text_of("Message-ID") == message_id)
        return self.named(message.rest_id)

    def named(self, rest_id: str) -> Item:
        mailbox = self.world.mailbox(self.person.email)
        message = mailbox.find(rest_id)
        assert message is not None
        return demo.item(mailbox, message)

    def message(self, item: Item) -> StoredMessage:
        found = self.world.mailbox(self.person.email).find(item["id"])
        assert found is not None
        return found

    def categories(self, item: Item) -> list[str]:
        return self.message(item).categories

    def categorize(self, item: Item, *names: str) -> None:
        """Give a message these categories and no others, as its owner does; where they are labels, those exist then."""
        mailbox = self.world.mailbox(self.person.email)
        if self.person.access_type == "google":
            known = {label.name for label in mailbox.categories.values()}
            for name in (name for name in names if name not in known):
                identifier = f"Label_{len(mailbox.categories) + 1}"
                mailbox.categories[identifier] = Category(identifier, name, "none")
        self.message(item).categories[:] = names
        mailbox.touch(self.message(item), self.world.now())

    @property
    def host(self) -> Host:
        return HOSTS[self.person.access_type]

    def fail(self, kind: str, at: Literal["read", "mark", ""] = "", **fault: Any) -> Fault:
        """Have the person's mailbox fail, once if not said otherwise."""
        match = {"read": self.host.read, "mark": self.host.mark, "": ""}[at]
        self.world.faults.append(Fault(self.host.vendor, kind, match, **fault))
        return self.world.faults[-1]

    def context(self, item: Item | str, **members: Any) -> dict[str, Any]:
        item = self.item(item) if isinstance(item, str) else item
        response = self.post("/context", {"item": item, **members})
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json
        return answer

    def preview(self, item: Item | str) -> dict[str, Any]:
        response = self.post("/saves/preview", {"item": self.item(item) if isinstance(item, str) else item})
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json
        return answer

    def save(self, item: Item | str, links: list[dict[str, str]] | None = None, **members: Any) -> TestResponse:
        item = self.item(item) if isinstance(item, str) else item
        return self.post("/saves", {"item": item, "links": links or [], **members})

    def linked_save(self, item: Item | str, **members: Any) -> TestResponse:
        """Save with links to everything that the lookup found, as the pane proposes."""
        return self.save(item, links_of(self.context(item, anyway=True)), **members)


def links_of(context: dict[str, Any]) -> list[dict[str, str]]:
    return [{"type": card["type"], "id": card["id"]} for card in context["cards"]]


def link(kind: str, row: Row) -> dict[str, str]:
    return {"type": kind, "id": row["ObjectID"]}


def key_of(item: Item) -> str:
    """GroupwareItemID of a message with a Message-ID."""
    return str(item["internet_message_id"]).strip("<>")


def activities(world: World, item: Item) -> list[Row]:
    return list(world.saved_activities(key_of(item)))


def only_activity(world: World, item: Item) -> Row:
    (row,) = activities(world, item)
    return row


def children(world: World, activity: Row, kind: str) -> list[Row]:
    """Rows of the activity: "files", "parties", "references", "notes", "to" or "cc"."""
    return world.crm.children(CHILDREN[kind], activity["ObjectID"])


def file_names(world: World, activity: Row) -> list[str]:
    return sorted(row["Name"] for row in children(world, activity, "files"))


def numbers(world: World, activity: Row) -> set[str]:
    """Human ids of all parties that the activity involves."""
    return {row["PartyID"] for row in children(world, activity, "parties")}


def row_of(world: World, kind: str, **values: str) -> Row:
    """The only row of a set with these values."""
    (found,) = [r for r in world.crm.rows(kind).values() if all(r.get(name) == value for name, value in values.items())]
    return found


def c4c_calls(world: World, since: int = 0) -> list[Access]:
    """Requests to C4C's data, in the order in which they arrived, without the sign-ins; `since` is an earlier length."""
    return [call for call in world.requests("c4c") if call.path.startswith(SERVICE)][since:]
