"""What a lookup and a save ask of C4C and of our database, counted; `./run bench` measures how long it takes."""

from simulator.world import World
from tests.api import Api, c4c_calls, children, file_names, link, numbers, only_activity, row_of
from tests.bench import growth
from tests.test_saves import with_files


def test_a_save_of_three_files_and_four_links_asks_c4c_twice(me: Api, world: World) -> None:
    """Why it cannot be once is said in tests/bench/save.py."""
    item = me.item("known_contact")
    message = me.message(item)
    message.mime = with_files(message.mime, {"offer.pdf": 20_000, "drawing.png": 30_000, "notes.txt": 40})
    contact = row_of(world, "ContactCollection", Email=item["from"]["address"])
    account = row_of(world, "CorporateAccountCollection", AccountID=contact["AccountID"])
    opportunity = row_of(world, "OpportunityCollection", Name="Second production line")
    ticket = row_of(world, "ServiceRequestCollection", Name="Seal of pump 7 leaks")
    linked = [("contact", contact), ("account", account), ("opportunity", opportunity), ("ticket", ticket)]
    before = len(c4c_calls(world))
    assert me.save(item, [link(kind, row) for kind, row in linked]).status_code == 201
    calls = c4c_calls(world, before)
    assert [(call.method, call.path.rpartition("/")[2]) for call in calls] == [("POST", "$batch"), ("POST", "EMailCollection")]
    saved = only_activity(world, item)
    assert file_names(world, saved) == ["drawing.png", "notes.txt", "offer.pdf"]
    assert {contact["ContactID"], account["AccountID"]} <= numbers(world, saved)
    assert {row["ID"] for row in children(world, saved, "references")} == {opportunity["ID"], ticket["ID"]}


def test_a_cold_lookup_costs_the_same_whatever_c4c_holds() -> None:
    """Bytes and parts of the request, rows of C4C's answer, steps of our database."""
    assert growth.cost(3_000) == growth.cost(300)
