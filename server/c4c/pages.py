"""How lists that change while they are read are paged without loss: in the order in which records changed. Pure.

C4C has neither snapshots nor delta tokens. A $skip over the whole list would lose rows, because a record that changes
meanwhile leaves its place, and all behind it move up. So a page begins at the time of the last row that was seen, behind the
rows of that very time; what changed meanwhile comes again, at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from server.c4c.edm import as_text, as_time
from server.errors import InvalidInput

ORDER = "EntityLastChangedOn,ObjectID"


def object_id(row: Mapping[str, Any]) -> str:
    return as_text(row.get("ObjectID")).upper()


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a list in ORDER: behind `seen` rows of those that changed at `start` or later, the last of them `last`."""

    start: datetime | None = None  # None: the beginning
    seen: int = 0
    last: str = ""  # ObjectID, "" if it is not known

    @classmethod
    def read(cls, cursor: str) -> Position:
        """Raises: InvalidInput for a text that `cursor` did not write."""
        start, _, rest = cursor.partition("|")
        seen, _, last = rest.partition("|")
        moment = as_time(start)
        if not seen.isdecimal() or (start and moment is None):
            raise InvalidInput("after", "is not a cursor of this list")
        return cls(moment, int(seen), last)

    @property
    def cursor(self) -> str:
        return f"{self.start.isoformat() if self.start else ''}|{self.seen}|{self.last}"

    def behind(self, rows: Sequence[Mapping[str, Any]]) -> Position:
        """Return the place behind these rows, which begin at this one."""
        if not rows:
            return self
        changed = [as_time(row.get("EntityLastChangedOn")) for row in rows]
        at = changed[-1]
        if at is None or (at == self.start and changed[0] == at):
            return Position(self.start, self.seen + len(rows), object_id(rows[-1]))
        return Position(at, sum(one == at for one in changed), object_id(rows[-1]))
