"""What stands between a port, which lives long, and the World, which is new for each test."""

from simulator.google.identity import Grant, MessageGrant
from simulator.world import Person, World


class Holder:
    """Lends a vendor's app the World of the moment. A token is a person's address; that of an add-on's event,
    "address message".
    """

    world: World
    scopes: frozenset[str] = frozenset()

    def person_of(self, token: str) -> Person | None:
        return self.world.person(token)

    def grant(self, token: str) -> Grant | None:
        person = self.world.person(token)
        return Grant(person, self.scopes) if person else None

    def message_grant(self, token: str) -> MessageGrant | None:
        address, _, message = token.partition(" ")
        person = self.world.person(address)
        return MessageGrant(person, message) if person else None
