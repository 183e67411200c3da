"""Judge from what really happened whether every save was carried out exactly once.

The Checker is told what people asked for and what they were answered, and reads the rest from the simulator's append-only log and
the rows that it names; it never looks into the product's database. What it holds against a history:

    at any time    a message has at most one activity, and never a second one, not even for a moment
                   no effect without somebody who asked for it; every file and every link at most once
                   "saved" is said, by an answer or by a mark, only when C4C has all of what was asked for
    when settled   whatever was promised is there, whole; the message carries the right mark, and all other categories
"""

import itertools
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from simulator.world import Event, Person, Row, World
from tests.exactly_one.letters import OWN_CATEGORY, Letter

SAVED = "Saved in SAP Cloud for Customer SSI"
MARK = " in SAP Cloud for Customer SSI"  # ends each name of a mark that tells the state of a save

SECOND_WRITER = "second writer"  # the actor of the simulator's fault of that name, who adds categories

Link = tuple[str, str]
"""What an activity shows of a link: ("party", number) or (code of the document's type, number)."""

_PARTIES = {
    "contact": ("ContactCollection", "ContactID"),
    "individual_customer": ("IndividualCustomerCollection", "CustomerID"),
    "account": ("CorporateAccountCollection", "AccountID"),
}
_DOCUMENTS = {
    "lead": ("LeadCollection", "64"),
    "opportunity": ("OpportunityCollection", "72"),
    "ticket": ("ServiceRequestCollection", "118"),
}
_FILES, _INVOLVED, _REFERENCES = "EMailAttachmentsCollection", "EMailInvolvedPartiesCollection", "EMailBTDReferenceCollection"

Outcome = Literal["lost", "refused", "accepted", "failed", "saved", "hidden"]
"""How a call was answered; "lost" is not at all, or in a way that promises nothing. "hidden": a colleague has saved it."""


def link_of(world: World, link: Mapping[str, str]) -> Link:
    """Return how the record of {"type", "id"} shows on an activity that is linked to it."""
    if link["type"] in _PARTIES:
        entity_set, number = _PARTIES[link["type"]]
        return "party", str(world.crm.rows(entity_set)[link["id"]][number])
    entity_set, code = _DOCUMENTS[link["type"]]
    return code, str(world.crm.rows(entity_set)[link["id"]]["ID"])


@dataclass(eq=False)
class Call:
    """One press of Save."""

    person: Person
    letter: Letter
    links: frozenset[Link]
    files: frozenset[str]
    at: int  # of the World's last event before it
    asked: int = 0  # by the checker's own count, as is `answered`
    answered: int | None = None
    outcome: Outcome = "lost"

    @property
    def wish(self) -> tuple[frozenset[Link], frozenset[str]]:
        return self.links, self.files

    @property
    def is_promised(self) -> bool:
        return self.outcome in ("saved", "accepted")


@dataclass
class Life:
    """An activity from its creation to its end, with what came into it."""

    id: str
    actor: str
    born: int  # the event's number
    ended: int | None = None
    ended_by: str = ""
    files: Counter[str] = field(default_factory=Counter)
    links: Counter[Link] = field(default_factory=Counter)
    odd_files: list[str] = field(default_factory=list)  # whose content is not the message's


@dataclass
class Tally:
    """What a report may quote."""

    saves: int = 0
    activities: int = 0
    losses: int = 0
    doubles: int = 0
    false_successes: int = 0  # said to be saved when it was not

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in vars(self).items())

    def taken(self) -> list[tuple[str, int]]:
        """Return the figures, and begin anew."""
        figures = list(vars(self).items())
        vars(self).update(dict.fromkeys(vars(self), 0))
        return figures


class Checker:
    """Watches one World from the moment it is made. `seed` is named with each complaint. Thread-safe."""

    def __init__(self, world: World, *, seed: object = None, tally: Tally | None = None) -> None:
        self._world = world
        self._seed = seed
        self._read_to = len(world.log)
        self._calls: dict[str, list[Call]] = {}
        self._lives: dict[str, list[Life]] = {}
        self._by_id: dict[str, Life] = {}
        self._key_of: dict[str, str] = {}  # ObjectID -> message key
        self._letters: dict[str, Letter] = {}
        self._told = itertools.count()
        self._lock = threading.RLock()
        self._marked: dict[str, list[tuple[int, bool]]] = {}  # immutable id -> number, whether that event says "saved"
        self._added: dict[str, list[str]] = {}  # immutable id -> categories that another writer added
        self.tally = tally or Tally()

    # What the test tells

    def asked(
        self, person: Person, letter: Letter, links: Iterable[Mapping[str, str]], files: Iterable[str] | None = None
    ) -> Call:
        """Note that a person presses Save; `files` None means all."""
        wanted = frozenset(letter.files if files is None else files)
        shown = frozenset(link_of(self._world, link) for link in links)
        with self._lock:
            call = Call(person, letter, shown, wanted, self._world.log[-1].seq if self._world.log else 0, next(self._told))
            self._letters[letter.key] = letter
            self._calls.setdefault(letter.key, []).append(call)
            self.tally.saves += 1
        return call

    def answered(self, call: Call, status: int, body: Mapping[str, Any]) -> None:
        """Note the answer, and hold it against C4C as it is at this moment."""
        with self._lock:
            call.answered = next(self._told)
            call.outcome = _outcome(status, body)
            if call.outcome == "saved":
                self._read()
                missing = self._missing(call)
                if missing and self._rivals(call):
                    call.outcome = "accepted"  # what is saved is what the person wished at the same time
                elif missing:
                    self.tally.false_successes += 1
                    self._complain(call.letter, [f"answered {status} saved, but {missing}"])

    # What the checker says

    def check(self, *letters: Letter, settled: bool) -> None:
        """Fail if the history of these messages is not as it must be; `settled` when nothing is left to be done."""
        with self._lock:
            self._read()
            for letter in letters:
                doubles, lost = list(self._always(letter)), list(self._in_the_end(letter)) if settled else []
                self.tally.losses += bool(lost)
                self._complain(letter, doubles + lost)
                if settled:
                    self.tally.activities += len(self.living(letter))

    def is_settled(self, letter: Letter) -> bool:
        """Say whether everything that was promised is done; until then it may be under way."""
        with self._lock:
            self._read()
            return not any(self._in_the_end(letter))

    def is_void(self, call: Call) -> bool:
        """Say whether a promise is no longer owed: somebody deleted the activity, or the person wished something else instead.

        A wish replaces the same person's older one that is not fulfilled yet; of wishes at the same time any may be the newer.
        """
        if any(life.ended is not None and life.ended > call.at for life in self.lives(call.letter)):
            return True
        rivals = self._rivals(call) if call.outcome == "accepted" else []
        return any(one.is_promised and not self._missing(one) for one in rivals)

    def _rivals(self, call: Call) -> list[Call]:
        """Return the calls, later or at the same time, by which the same person wished something else."""
        others = (one for one in self._calls[call.letter.key] if one.person == call.person and one.wish != call.wish)
        return [one for one in others if one.answered is None or one.answered > call.asked]

    def living(self, letter: Letter) -> list[Life]:
        return [life for life in self.lives(letter) if life.ended is None]

    def lives(self, letter: Letter) -> list[Life]:
        with self._lock:
            self._read()
            return list(self._lives.get(letter.key, []))

    def _complain(self, letter: Letter, complaints: list[str]) -> None:
        assert not complaints, f"seed {self._seed}, message {letter.key}: " + "; ".join(complaints)

    def _always(self, letter: Letter) -> Iterator[str]:
        lives, calls = self._lives.get(letter.key, []), self._calls.get(letter.key, [])
        if len([life for life in lives if life.ended is None]) > 1 or _overlap(lives):
            self.tally.doubles += 1
            yield f"{len(lives)} activities"
        for life in lives:
            yield from self._unasked(life, [call for call in calls if call.outcome != "refused"])
            yield from (f"file {name} is there {n} times" for name, n in life.files.items() if n > 1)
            yield from (f"link {link} is there {n} times" for link, n in life.links.items() if n > 1)
            yield from (f"file {name} is not what was sent" for name in life.odd_files)
        for ref in letter.refs.values():
            for number, says_saved in self._marked.get(ref, ()):
                if says_saved and not any(life.born < number for life in lives):
                    yield "marked as saved before C4C had it"

    def _unasked(self, life: Life, calls: list[Call]) -> Iterator[str]:
        if not any(call.person.user_id == life.actor and call.at < life.born for call in calls):
            yield f"{life.actor} created an activity that nobody asked {life.actor} for"
        if extra := set(life.files) - {name for call in calls for name in call.files}:
            yield f"files that nobody chose: {extra}"
        if foreign := set(life.links) - {link for call in calls for link in call.links}:
            yield f"links that nobody chose: {foreign}"

    def _in_the_end(self, letter: Letter) -> Iterator[str]:
        for call in self._calls.get(letter.key, []):
            if call.is_promised and not self.is_void(call):
                if missing := self._missing(call):
                    yield f"promised to {call.person.user_id} ({call.outcome}), but {missing}"
                yield from self._badly_marked(letter, call.person)

    def _missing(self, call: Call) -> str:
        living = self.living(call.letter)
        if not living:
            return "C4C does not have it"
        life = living[0]
        if absent := call.files - set(life.files):
            return f"files are missing: {sorted(absent)}"
        if absent_links := call.links - set(life.links):
            return f"links are missing: {sorted(absent_links)}"
        return ""

    def _badly_marked(self, letter: Letter, person: Person) -> Iterator[str]:
        ref = letter.refs[person.email]
        message = self._world.mailbox(person.email).messages.get(ref)
        if message is None:
            return
        marks = [name for name in message.categories if name.endswith(MARK)]
        others = [name for name in message.categories if not name.endswith(MARK)]
        if marks != [SAVED] or others != [OWN_CATEGORY, *self._added.get(ref, ())]:
            yield f"the message of {person.user_id} carries {message.categories}"

    # What the World's log tells

    def _read(self) -> None:
        with self._world.lock:
            news = self._world.log[self._read_to :]
            self._read_to += len(news)
            for event in news:
                self._take(event)

    def _take(self, event: Event) -> None:
        detail, number = event.detail, event.seq
        match event.vendor, event.kind, detail.get("set"):
            case "c4c", "create", "EMailCollection":
                life = Life(detail["id"], event.actor, number)
                self._by_id[life.id] = life
                self._key_of[life.id] = detail["groupware_item_id"]
                self._lives.setdefault(detail["groupware_item_id"], []).append(life)
            case "c4c", "delete", "EMailCollection":
                if ended := self._by_id.get(detail["id"]):
                    ended.ended, ended.ended_by = number, event.actor
            case "c4c", "create", str(child):
                if parent := self._by_id.get(detail.get("parent", "")):
                    self._grow(parent, child, detail, self._world.crm.rows(child).get(detail["id"]))
            case "graph", "categories", _ if event.actor == SECOND_WRITER:
                self._added.setdefault(detail["id"], []).extend(detail["after"][len(detail["before"]) :])
            case "graph", "categories", _:
                self._marked.setdefault(detail["id"], []).append((number, SAVED in set(detail["after"]) - set(detail["before"])))

    def _grow(self, life: Life, child: str, detail: Mapping[str, Any], row: Row | None) -> None:
        if child == _FILES:
            name = detail["name"]
            life.files[name] += 1
            letter = self._letters.get(self._key_of[life.id])
            if row is not None and letter is not None and row["Binary"] != letter.files.get(name):
                life.odd_files.append(name)
        elif row is not None and child == _INVOLVED:
            life.links["party", str(row["PartyID"])] += 1
        elif row is not None and child == _REFERENCES:
            life.links[str(row["TypeCode"]), str(row["ID"])] += 1


def _overlap(lives: list[Life]) -> bool:
    """Say whether an activity was made while another one lived."""
    return any(
        one.born < other.born and (one.ended is None or other.born < one.ended)
        for one in lives
        for other in lives
        if one is not other
    )


def _outcome(status: int, body: Mapping[str, Any]) -> Outcome:
    if status in (200, 201):
        return "saved" if body.get("activity") else "hidden"
    if status == 202:
        return "accepted"
    if status == 409 and body.get("code") == "save_failed":
        return "failed"
    return "refused" if 400 <= status < 500 else "lost"
