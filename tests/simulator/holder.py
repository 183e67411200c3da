"""What stands between a port, which lives long, and the World, which is new for each test."""

from simulator.google.identity import Grant
from simulator.world import Person, World


class Holder:
    """Lends a vendor's app the World of the moment. A token is a person's address."""

    world: World
    scopes: frozenset[str] = frozenset()

    def person_of(self, token: str) -> Person | None:
        return self.world.person(token)

    def grant(self, token: str) -> Grant | None:
        person = self.world.person(token)
        return Grant(person, self.scopes) if person else None
