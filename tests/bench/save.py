"""How long a save takes, and how often it asks C4C.

The fewest requests to C4C for one message with three attachments and four links are two, with the sign-in warm:

1. One $batch that reads. A save may not create before it has looked whether C4C has the message already: C4C has no key
   of ours that must be unique (GroupwareItemID is an ordinary property, c4c-odata.md section 2 "EMail"), and so cannot refuse a
   second create by itself; a colleague, another installation or an earlier try may have made the activity. The same
   request reads what the create needs and the pane does not know: the human ids of the four records, since parties and
   references are linked by PartyID and ID and not by ObjectID (section 2, "Creating an e-mail activity"), whether they
   still exist for this user, and the user's own employee for OwnerPartyID. `or` joins one property only and no filter
   reaches across sets (section 1, "Query options"), so that these are several questions; $batch carries them together.
2. One POST that writes. Deep insert takes the activity with all its children, links and files included (section 1,
   "URLs and formats"; section 2, "Creating an e-mail activity": children are creatable); nothing is left to be sent.

They cannot be one: the parts of a $batch do not see each other's answers, a changeset in it would be carried out whatever
the reads beside it find, and `$1` references between parts are unknown (section 1, "$batch": "[U]"). Three requests would be
needed for files that are too large for one request (`wishes.INLINE_BYTES`), which these are not.
"""

from __future__ import annotations

from simulator.mime import File
from tests.bench.figures import CannotMeasure, Figure, median
from tests.bench.product import Item, Product

ROUNDS = 40
FILE_BYTES = 200_000
FEWEST = 2


def measure(product: Product) -> list[Figure]:
    person = product.people[1]
    caller = product.caller(person)
    sender, links = _records(product)
    own: list[float] = []
    whole: list[float] = []
    for number in range(ROUNDS + 3):
        item = product.deliver(person, sender, _file(f"offer-{number}.pdf"))
        before = product.marker
        answer, took = caller.save(item, links[:1])
        if answer["state"] != "saved":
            raise CannotMeasure(f"A save ended as {answer['state']}: {answer['reason']}")
        if number >= 3:
            whole.append(took)
            own.append(took - sum(call.duration_ms for call in product.seen(since=before)))
    item = product.deliver(person, sender, *(_file(f"part-{number}.pdf", 20_000) for number in range(3)))
    before = product.marker
    caller.save(item, links)
    requests = product.seen("c4c", since=before)
    row = next(product.world.saved_activities(item["internet_message_id"].strip("<>")))
    files = product.world.crm.children("EMailAttachmentsCollection", row["ObjectID"])
    if len(files) != 3:
        raise CannotMeasure(f"The save brought {len(files)} files instead of 3.")
    return [
        Figure("save_p50_ms", median(whole), f"1 client, one file of {FILE_BYTES // 1000} kB, simulator without latency"),
        Figure("save_overhead_p50_ms", median(own), f"{ROUNDS} of these less the simulator's own time", limit=40),
        Figure("save_c4c_requests", len(requests), "C4C's access log; 3 files, 4 links; why 2: save.py", limit=FEWEST),
    ]


def _file(name: str, size: int = FILE_BYTES) -> File:
    return File(name, "application/pdf", bytes(range(200)), times=size // 200)


def _records(product: Product) -> tuple[Item, list[dict[str, str]]]:
    """A message from a contact who has an account, and four records to link: these two, an opportunity and a ticket."""
    person = product.people[1]
    caller = product.caller(person)
    crm = product.world.crm
    for item in product.items(person):
        cards = {card["type"]: card["id"] for card in caller.look_up(item)[0]["cards"]}
        if {"contact", "account"} <= cards.keys():
            links = [{"type": kind, "id": cards[kind]} for kind in ("contact", "account")]
            links += [
                {"type": kind, "id": next(iter(crm.rows(rows)))}
                for kind, rows in (("opportunity", "OpportunityCollection"), ("ticket", "ServiceRequestCollection"))
            ]
            return item, links
    raise CannotMeasure("The demo has no message from a known contact.")
