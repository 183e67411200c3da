"""Hostile text in every field of the API and of a message: it stays text, and whoever is asked sees exactly the literal.

`payloads.ALL` goes through every text field of an item, of a wish and of the message itself. Proof is the World: C4C holds a
contact for each payload's address, and a lookup finds that one and no other; the access log holds no request and no part of a
batch beside the product's own; the activity has the text that was sent. What cannot be meant is refused as a Problem. Of the
tests in `parts` the ordinary run takes every second or third payload, which are of every kind, and --soak the others. How many
there were is told at the end of the run. Chromium is shown the payloads in tests/static/test_hostile_text.py; foreign ids are
tried in test_isolation.py.
"""

import base64
import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from werkzeug.test import TestResponse

from server.domain.marks import MARKS, is_reason_category, mark_of, merged
from server.domain.message import parse
from server.web import MAX_BODY_BYTES
from simulator.c4c.odata import SERVICE
from simulator.c4c.records import seed
from simulator.world import StoredMessage, World
from tests.api import Api, Item, activities, children, file_names
from tests.figures import Count
from tests.payloads import ALL

SAVED = MARKS["saved"].name
PROBLEM = {"type", "title", "status", "code", "detail", "request_id"}
SENTENCE = r"[A-Z].{8,400}\."
UNASKABLE = re.compile(r"[*\x00-\x1f\x7f-\x9f\ufffe\uffff]")  # C4C has a wildcard that nothing escapes, and no such characters
IS_NO_NAME = re.compile(r"[/\\\x00-\x1f\u202a-\u202e]|^\.{0,2}$")

# Everything that the product asks of vendors, for lookup and save; whatever else reaches them, a payload made.
OWN_CALLS = re.compile(
    rf"c4c POST (?:/sap/bc/sec/oauth2/token|{re.escape(SERVICE)}(?:\$batch|EMailCollection|EMailAttachmentsCollection))"
    r"|graph (?:GET|PATCH) /v1\.0/me/messages/[A-Za-z0-9_=+/-]+(?:/\$value)?"  # the log shows %2F as "/"
    r"|graph (?:GET|POST) /v1\.0/me/outlook/masterCategories|identity (?:GET|POST) /[\w./-]+"
)
OWN_PARTS = {
    f"GET {name}Collection"
    for name in ("Contact", "IndividualCustomer", "CorporateAccount", "Lead", "EmployeeBasicData", "Employee", "EMail")
}


def parts(count: int, usual: int = 1) -> pytest.MarkDecorator:
    """Run the test with `part` 0 to `count` - 1, every `count`-th payload each. The parts from `usual` on are for --soak."""
    marks = [() if part < usual else pytest.mark.soak for part in range(count)]
    return pytest.mark.parametrize("part", [pytest.param(part, marks=mark) for part, mark in enumerate(marks)])


def problem(response: TestResponse) -> dict[str, Any]:
    """The body of a refusal, which must have the one shape of errors and a sentence for a person."""
    assert response.content_type == "application/problem+json", response.text[:300]
    body: dict[str, Any] = response.json
    assert PROBLEM <= body.keys() <= PROBLEM | {"field", "retry_after_s", "save_id"}
    assert body["status"] == response.status_code
    assert re.fullmatch(SENTENCE, body["detail"], re.S), body["detail"]
    return body


def assert_nothing_but_our_calls(world: World) -> None:
    calls = [f"{call.vendor} {call.method} {call.path}" for call in world.requests()]
    assert [call for call in calls if not OWN_CALLS.fullmatch(call)] == []
    assert {part for call in world.requests("c4c") for part in call.parts} <= OWN_PARTS
    assert [call for call in world.requests() if call.status >= 400 and call.vendor != "graph"] == []


def assert_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    logged = capsys.readouterr().err
    assert "route=/api/" in logged
    assert not re.search(r"pwned|X-Injected|evil\.example|root: signed in|\x1b\]", logged)


# Lookup


def address_of(number: int) -> str:
    return f"{ALL[number]}@p{number}.example".strip()


def in_c4c(world: World, numbers: range) -> dict[int, str]:
    """Have a contact for each of these payloads, which is its name and in its address, and no other; return their ObjectIDs."""
    world.crm.rows("ContactCollection").clear()
    rows = {
        number: seed(world, "ContactCollection", LastName=ALL[number], Name=ALL[number], Email=address_of(number))
        for number in numbers
    }
    return {number: row["ObjectID"] for number, row in rows.items()}


def hostile_item(item: Item, number: int) -> Item:
    payload, address = ALL[number], address_of(number)
    return {
        **item,
        "mailbox": payload,
        "internet_message_id": payload,
        "conversation_id": payload,
        "subject": payload,
        "from": {"name": payload, "address": address},
        "to": [{"name": payload, "address": address}, {"name": payload, "address": payload.replace("@", "")}],
        "cc": [{"name": payload, "address": ""}],
        "bcc": [{"name": payload, "address": address}],
        "headers": f"From: {payload} <{address}>\r\nSubject: {payload}\r\n{payload}: {payload}\r\n",
        "item_class": payload,
    }


@parts(3)
def test_a_lookup_asks_for_exactly_the_literal_whatever_the_item_says(
    me: Api, world: World, part: int, capsys: pytest.CaptureFixture[str]
) -> None:
    item = me.item("known_contact")
    found = 0
    tried = 0
    for start in range(part, len(ALL), 120):
        known = in_c4c(world, range(start, min(start + 120, len(ALL)), 3))
        tried += len(known)
        for number, object_id in known.items():
            context = me.context(hostile_item(item, number), anyway=True)
            payload, address = ALL[number], address_of(number)
            askable = not UNASKABLE.search(address)
            found += askable
            assert [card["id"] for card in context["cards"]] == ([object_id] if askable else []), payload
            assert context["save"]["state"] == "none", payload
            if askable:
                assert context["cards"][0]["title"] == payload.strip() or not payload.strip()
            else:
                assert context["unknown"] == [{"name": payload, "address": address, "verified": False}], payload
    assert_nothing_but_our_calls(world)
    assert [event for event in world.events("c4c") if event.kind in ("create", "update", "delete")] == []
    assert_not_logged(capsys)
    print(
        f"hostile lookups: {tried} of {len(ALL)} payloads in 13 fields, {found} found by their literal, the others not asked for"
    )
    assert len(ALL) >= 400
    assert found >= 90


@parts(2)
def test_a_hostile_id_never_becomes_another_path(me: Api, world: World, part: int, count: Count) -> None:
    item = me.item("known_contact")
    statuses: Counter[int] = Counter()
    for payload in ALL[part::2]:
        hostile = {**item, "id": payload}
        for path, body in (
            ("/context", {"item": hostile}),
            ("/saves", {"item": {**hostile, "id_form": "ews"}, "links": []}),
        ):
            response = me.post(path, body)
            statuses[response.status_code] += 1
            if response.status_code != 200 or path != "/context":
                assert problem(response)["status"] in (404, 422), (path, payload, response.text)
    assert_nothing_but_our_calls(world)
    assert list(world.events("c4c", "create")) == []
    count("hostile input: calls with a payload", sum(statuses.values()))
    print(f"hostile ids: {sum(statuses.values())} tries, statuses {dict(statuses)}")


@parts(3)
@pytest.mark.parametrize("place", ["save_id", "type", "id", "ref"])
def test_a_hostile_choice_is_refused(me: Api, world: World, place: str, part: int, count: Count) -> None:
    item = me.item("with_attachment_known_contact")
    statuses: Counter[int] = Counter()
    for payload in ALL[part :: 30 if place == "ref" else 3]:  # a ref is looked for in the message, which is read for it
        if place == "save_id":
            quoted = "".join(f"%{byte:02X}" for byte in payload.encode())
            responses = [me.get(f"/saves/{quoted}"), me.send("POST", f"/saves/{quoted}/retry")]
        elif place == "ref":
            responses = [me.save(item, attachments=[{"ref": payload}])]
        else:
            responses = [me.save(item, [{"type": "contact", "id": "0" * 32, place: payload}])]
        for response in responses:
            statuses[response.status_code] += 1
            body = problem(response)
            assert body["status"] in ((404, 405, 308) if place == "save_id" else (422,)), (payload, response.text)
            assert payload not in body["detail"] or len(payload) < 4, payload
    assert_nothing_but_our_calls(world)
    assert list(world.events("c4c", "create")) == []
    count("hostile input: calls with a payload", sum(statuses.values()))
    print(f"hostile {place}: {sum(statuses.values())} tries, statuses {dict(statuses)}")


# Save


THREE_HUNDRED = [number for number in range(len(ALL)) if number % 10 not in (1, 4, 7)]  # of every kind


def word(text: str) -> str:
    """An encoded word (RFC 2047), which can hold any character."""
    return f"=?utf-8?B?{base64.b64encode(text.encode()).decode()}?="


def named(text: str) -> str:
    """The header of a file that is called so (RFC 2231)."""
    return "Content-Type: text/csv\r\nContent-Disposition: attachment; filename*=utf-8''" + "".join(
        f"%{byte:02X}" for byte in text.encode()
    )


def hostile_mail(number: int, name: str, raw: str) -> bytes:
    """A message that holds the payload wherever a message holds text; people's names are given, encoded and raw."""
    payload = ALL[number]
    body = base64.b64encode(f"{payload}\n".encode()).decode()
    line = re.sub(r"[\r\n]", " ", payload)
    return (
        f"From: {word(name)} <sender{number}@p{number}.example>\r\n"
        f"To: {word(name)} <to{number}@p{number}.example>, {raw} <raw{number}@p{number}.example>\r\n"
        f"Cc: {word(name)} <cc{number}@p{number}.example>\r\n"
        f"Subject: {word(payload)}\r\nMessage-ID: <{number}.{line}@p{number}.example>\r\n"
        f"X-Field: {line}\r\nDate: Fri, 20 Nov 2026 10:00:00 +0100\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/mixed; boundary="limit"\r\n\r\n'
        f"--limit\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n{body}\r\n"
        f"--limit\r\n{named(payload + '.csv')}\r\n\r\none\r\n--limit\r\n{named(payload + '.csv')}\r\n\r\ntwo\r\n"
        "--limit--\r\n"
    ).encode()


def delivered(me: Api, number: int) -> Item:
    """The hostile message in the person's inbox, under hostile categories of their own, as Outlook would describe it."""
    mailbox = me.world.mailbox(me.person.email)
    at = me.world.now() - timedelta(minutes=number)
    # The simulator's reader takes no line end in a name and no name that is not quoted; ours is shown them above.
    mime = hostile_mail(number, re.sub(r"[\r\n]", " ", ALL[number]), "Ada")
    message = StoredMessage(mime, mailbox.folder("inbox").id, at, categories=[ALL[number], "Private"])
    mailbox.messages[message.immutable_id] = message
    person = {"name": ALL[number], "address": f"sender{number}@p{number}.example"}
    return {"id": message.rest_id, "id_form": "rest", "mailbox": me.person.email, "subject": ALL[number], "from": person}


def seen(text: str) -> str:
    """What is left of a text without white space and characters that nobody can store: here nothing else may be changed."""
    return re.sub(r"[\s\x00-\x1f\x7f-\x9f\ufffe\uffff]", "", text)


def test_names_and_subjects_of_a_message_are_one_line_whatever_they_encode() -> None:
    for number, payload in enumerate(ALL):
        message = parse(hostile_mail(number, payload, re.sub(r"[\r\n]", " ", payload))).message
        for text in (message.subject, *(person.name for person in message.participants), *(a.name for a in message.attachments)):
            assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", text), payload
        assert seen(message.subject) == seen(payload)
        assert message.sender is not None
        assert message.sender.address == f"sender{number}@p{number}.example"


@parts(6, usual=2)
def test_a_hostile_message_is_saved_as_the_text_that_it_is(
    me: Api, world: World, part: int, capsys: pytest.CaptureFixture[str], count: Count
) -> None:
    me.save("known_contact")
    own_categories = {category.name for category in world.mailbox(me.person.email).categories.values()}
    files = 0
    for number in THREE_HUNDRED[part::6]:
        payload, item = ALL[number], delivered(me, number)
        before = len(list(world.saved_activities()))
        response = me.save(item, subject=payload)
        assert response.status_code == 201, (payload, response.text[:300])
        created = list(world.saved_activities())
        assert len(created) == before + 1, payload
        (activity,) = [row for row in created if row.get("MessageFromEmailURI") == f"sender{number}@p{number}.example"]
        assert seen(activity["Subject"])[:700] == seen(payload)[:700] or not seen(payload), payload
        name = seen(payload)
        name = name[1:-1] if re.fullmatch("'.*'", name) else name  # Outlook's quotation marks are not part of a name
        assert seen(activity.get("MessageFromName", ""))[:100] == name[:100], payload
        assert [seen(note["Text"]) for note in children(world, activity, "notes")] == [seen(payload)][: bool(seen(payload))], (
            payload
        )
        recipients = {row["EMailID"] for kind in ("to", "cc") for row in children(world, activity, kind)}
        assert recipients >= {f"{kind}{number}@p{number}.example" for kind in ("to", "cc")}, payload
        names = file_names(world, activity)
        files += len(names)
        assert len(names) == 2, payload
        assert [name for name in names if IS_NO_NAME.search(name)] == [], payload
        contents = sorted(row["Binary"] for row in children(world, activity, "files"))
        assert contents == [b"one", b"two"], payload
        assert sorted(me.categories(item)) == sorted({"Private", SAVED} | ({payload} if not is_ours(payload) else set())), payload
        assert activity["OwnerPartyID"] == me.person.employee_id, payload
        assert children(world, activity, "parties") == []
        assert children(world, activity, "references") == []
    assert_nothing_but_our_calls(world)
    assert {c.name for c in world.mailbox(me.person.email).categories.values()} == own_categories
    assert_not_logged(capsys)
    tried = len(THREE_HUNDRED[part::6])
    count("hostile input: messages saved with a payload in ten fields", tried)
    print(f"hostile saves: {tried} of {len(THREE_HUNDRED)} messages with a payload in 10 fields each, {files} files")


@parts(3)
def test_a_hostile_name_for_a_file_is_a_name(me: Api, world: World, part: int) -> None:
    """The person may rename files: to all payloads in turn, twenty in a save. A name of a type that is not allowed is refused."""
    me.learn_keys()
    item = me.item("known_contact")
    message = me.message(item)
    refused = 0
    for start in range(part, len(ALL), 60):
        chosen = [f"{payload[:200]}.csv" for payload in ALL[start : start + 60 : 3]]
        message.mime = with_many_files(start, len(chosen))
        assert me.save(item, attachments=[{"ref": str(n + 2), "name": name} for n, name in enumerate(chosen)]).status_code == 201
        (activity,) = [row for row in world.saved_activities() if row["GroupwareItemID"] == f"names-{start}@p.example"]
        names = [row["Name"] for row in children(world, activity, "files")]
        assert len(names) == len({name.casefold() for name in names}) == len(chosen)
        assert [name for name in names if IS_NO_NAME.search(name) or not name.endswith(".csv")] == []
        for name in (
            f"{payload[:200]}{end}" for payload in ALL[start : start + 60 : 21] for end in (".exe", ".csv/x.exe", ".exe. ")
        ):
            response = me.save(item, attachments=[{"ref": "2", "name": name}])
            assert problem(response)["field"] == "attachments", name
            refused += 1
    assert_nothing_but_our_calls(world)
    print(f"hostile file names: a third of {len(ALL)} saved, {refused} refused")


def with_many_files(number: int, count: int) -> bytes:
    parts = "".join(f"--limit\r\nContent-Type: text/csv; name=x{n}.csv\r\n\r\n{n}\r\n" for n in range(count))
    head = f"From: a@p.example\r\nMessage-ID: <names-{number}@p.example>\r\nSubject: Files\r\n"
    body = f'Content-Type: multipart/mixed; boundary="limit"\r\n\r\n--limit\r\n\r\nText\r\n{parts}--limit--\r\n'
    return (head + body).encode()


NAMES = {mark_id: mark.name for mark_id, mark in MARKS.items()}


def is_ours(category: str) -> bool:
    """Say whether the product may take this category off a message."""
    return mark_of(category, NAMES) is not None or is_reason_category(category)


def test_a_hostile_reason_cannot_break_out_of_its_category() -> None:
    for payload in ALL:
        *kept, mark, reason = merged([payload, "Private", SAVED], "error", payload, NAMES)
        assert (kept, mark) == (["Private"] if is_ours(payload) else [payload, "Private"], MARKS["error"].name)
        assert re.fullmatch(r"SSI: [^,;\r\n]{0,60}", reason), (payload, reason)


# Requests that cannot be meant


def whole_body(me: Api) -> dict[str, Any]:
    """A wish that names every member there is, on a message that the mailbox does not hold."""
    person = {"name": "Ada", "address": "ada@example.com"}
    item = {**me.item("known_contact"), "id": "AAMkAAAA=", "to": [person], "headers": "X: y"}
    links = [{"type": "contact", "id": "0" * 32}]
    return {"item": item, "subject": "x", "links": links, "attachments": [{"ref": "1", "name": "x"}], "include_eml": False}


WRONG: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 2**70, "", "x", [], [[]], [None], ["x"], {}, {"x": 1}, [{"address": ["x"]}], {"__proto__": 1},
    "x" * 1_001, "\x00", [{}] * 600,
)  # fmt: skip


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every member of a JSON value, by its path."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inner:
        yield (*path, key)
        yield from places(child, (*path, key))


def replaced(body: Any, path: tuple[str | int, ...], value: Any) -> Any:
    copy = json.loads(json.dumps(body))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return copy


@parts(3, usual=3)
def test_a_value_of_the_wrong_type_is_refused_by_the_name_of_its_member(me: Api, world: World, part: int) -> None:
    body = whole_body(me)
    requests = {"/saves": body, "/saves/preview": {"item": body["item"]}, "/context": {"item": body["item"], "mode": "read"}}
    statuses: Counter[int] = Counter()
    for path, whole in requests.items():
        for place in places(whole):
            if path != "/saves" and place[0] == "item" and len(place) > 1 and place[1] not in ("id", "from", "to"):
                continue  # the same model: what /saves refuses is not tried three times
            for wrong in WRONG[part::3]:
                response = me.post(path, replaced(whole, place, wrong))
                statuses[response.status_code] += 1
                if response.status_code == 200:
                    assert path == "/context"
                    continue
                refused = problem(response)
                assert response.status_code in (404, 409, 422), (path, place, wrong, response.text[:300])
                if response.status_code == 422 and (field := refused.get("field")):
                    named = ".".join(map(str, place))
                    assert field.startswith(named) or named.startswith(field), (path, place, wrong, field)
    assert list(world.events("c4c", "create")) == []
    assert_nothing_but_our_calls(world)
    print(f"wrong types: {sum(statuses.values())} tries, statuses {dict(statuses)}")


def test_a_member_that_is_missing_or_not_ours_is_refused(me: Api) -> None:
    body = whole_body(me)
    for place in places(body):
        container = replaced(body, place, None)
        inner = container
        for key in place[:-1]:
            inner = inner[key]
        if isinstance(inner, dict):
            for name in ("tenant_id", "user_id", "owner", "role", "__proto__", "constructor", ""):
                extra = json.loads(json.dumps(body))
                target = extra
                for key in place[:-1]:
                    target = target[key]
                target[name] = "x"
                assert problem(me.post("/saves", extra))["status"] == 422, (place, name)
    for name in ("item", "links"):
        assert problem(me.post("/saves", {key: value for key, value in body.items() if key != name}))["field"] == name


def deep(levels: int, opening: str = "[", closing: str = "]") -> bytes:
    return (opening * levels + "1" + closing * levels).encode()


BODIES: dict[str, tuple[bytes, set[int]]] = {
    "10,000 levels of lists": (deep(10_000), {400, 422}),
    "10,000 levels of objects": (deep(10_000, '{"item":', "}"), {400, 422}),
    "10,000 levels inside a member": (b'{"links": [], "item": ' + deep(10_000) + b"}", {400, 422}),
    "500,000 levels that never end": (b"[" * 500_000, {400}),
    "900 levels": (b'{"links": [], "item": {"id": ' + deep(900) + b"}}", {400, 422}),
    "cut": (b'{"item": {"id": "x', {400}),
    "two values": (b"{}{}", {400}),
    "not a number": (b'{"item": NaN, "links": []}', {400}),
    "infinity": (b'{"item": -Infinity, "links": []}', {400}),
    "a number of 100,000 digits": (b'{"item": ' + b"9" * 100_000 + b"}", {400, 422}),
    "an exponent": (b'{"item": 1e999999}', {400, 422}),
    "UTF-16": ('{"item": {}}'.encode("utf-16"), {400, 422}),
    "UTF-32": ('{"item": {}}'.encode("utf-32"), {400, 422}),
    "a byte order mark": (b'\xef\xbb\xbf{"item": {}}', {400, 422}),
    "bytes that are no text": (b'{"item": "\xff\xfe"}', {400}),
    "half a character": (b'{"item": "\\ud800"}', {400, 422}),
    "a member twice": (b'{"item": {}, "links": [], "item": {}}', {400}),
    "70,000 members": (b"{" + b",".join(b'"m%d": 1' % n for n in range(70_000)) + b"}", {400}),
    "comments": (b'{"item": {} /* x */}', {400}),
    "XML": (b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "x">]><x>&a;</x>', {400}),
    "a NUL": (b"\x00", {400}),
    "1 MB of blanks": (b" " * MAX_BODY_BYTES, {400}),
    "one byte too many": (b" " * (MAX_BODY_BYTES + 1), {413}),
    "20 MB": (b"[" + b"1," * 10_000_000 + b"1]", {413}),
}


def test_a_body_made_to_hurt_is_refused_at_once(me: Api, world: World) -> None:
    for name, (body, statuses) in BODIES.items():
        for path in ("/context", "/saves", "/saves/preview"):
            response = me.send("POST", path, data=body, content_type="application/json")
            refused = problem(response)
            assert refused["status"] in statuses, (name, path, response.text[:300])
            assert not re.search("_schema|pydantic", refused["detail"]), (name, path, refused["detail"])
    assert world.requests("c4c") == world.requests("graph") == []
    print(f"bodies made to hurt: {len(BODIES)} at 3 addresses")


def test_a_body_is_nested_no_deeper_than_32_levels(me: Api) -> None:
    """The body itself is the first of them. What is deeper is refused for that, before anything in it is looked at."""
    for opening, closing in (("[", "]"), ('{"x":', "}"), ('[{"x":', "}]")):
        steps = 30 if len(opening) < 6 else 15  # those of the last make two levels
        for more, named in ((0, "item"), (1, "body"), (2, "body"), (200, "body")):
            body = b'{"links": [], "item": {"id":' + deep(steps + more, opening, closing) + b"}}"
            refused = problem(me.send("POST", "/saves", data=body, content_type="application/json"))
            assert (refused["status"], refused["field"].split(".")[0]) == (422, named), (opening, more)
            assert (named == "item") == ("nested more than 32 levels" not in refused["detail"])


def test_a_body_that_is_no_object_is_refused_in_words_for_people(me: Api) -> None:
    for body in ("[]", "null", "1", '"x"', "true", "[{}]"):
        for path in ("/context", "/saves", "/saves/preview", "/saves/" + "0" * 32 + "/retry"):
            refused = problem(me.send("POST", path, data=body, content_type="application/json"))
            assert (refused["status"], refused["detail"]) == (422, "The request must be one JSON object."), (path, body)
    assert me.send("POST", "/saves/" + "0" * 32 + "/retry", content_type="application/json").status_code == 404  # it needs none


def test_sizes_beyond_any_message_are_refused_by_the_name_of_the_member(me: Api, world: World) -> None:
    item = me.item("known_contact")
    crowd = [{"name": "", "address": f"p{n}@example.com"} for n in range(10_000)]
    for change, field in (
        ({"to": crowd}, "item.to"),
        ({"cc": crowd}, "item.cc"),
        ({"bcc": crowd}, "item.bcc"),
        ({"subject": "x" * 900_000}, "item.subject"),
        ({"headers": "X: y\r\n" * 100_000}, "item.headers"),
        ({"from": {"name": "x" * 900_000, "address": "a@example.com"}}, "item.from.name"),
        ({"conversation_id": "x" * 900_000}, "item.conversation_id"),
        ({"item_class": "x" * 900_000}, "item.item_class"),
        ({"internet_message_id": "x" * 900_000}, "item.internet_message_id"),
        ({"id": "x" * 900_000}, "item.id"),
    ):
        for path in ("/context", "/saves", "/saves/preview"):
            body = {"item": {**item, **change}} | ({"links": []} if path == "/saves" else {})
            refused = problem(me.post(path, body))
            assert (refused["status"], refused["field"]) == (422, field), (path, field)
    assert problem(me.save(item, subject="x" * 1_000_000))["field"] == "subject"
    assert problem(me.save(item, [{"type": "contact", "id": f"{n:032X}"} for n in range(10_000)]))["field"] == "links"
    assert problem(me.save({**item, "to": crowd * 2}))["status"] in (413, 422)
    assert world.requests("c4c") == world.requests("graph") == []


def test_a_message_with_a_huge_subject_and_a_thousand_recipients_is_saved_with_what_c4c_can_hold(me: Api, world: World) -> None:
    item = me.item("known_contact")
    message = me.message(item)
    crowd = ",\r\n ".join(f"p{n}@example.com" for n in range(1_000))
    message.mime = (
        f"From: ada@harrowgate-pumps.example\r\nTo: {crowd}\r\nSubject: {'long ' * 60_000}\r\n"
        f"Message-ID: {item['internet_message_id']}\r\n\r\nText."
    ).encode()
    response = me.save(item)
    assert response.status_code == 201, response.text[:300]
    (activity,) = activities(world, item)
    assert len(activity["Subject"]) <= 765
    assert len(children(world, activity, "to")) == 1_000


JSON = {"Content-Type": "application/json"}
HEADERS: tuple[tuple[dict[str, str], int], ...] = (
    ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
    ({"Content-Type": "text/plain"}, 415),
    ({"Content-Type": "text/plain", "Transfer-Encoding": "chunked"}, 415),
    ({"Content-Type": "application/xml"}, 415),
    ({"Content-Type": "application/json; charset=utf-7"}, 422),
    ({**JSON, "Content-Encoding": "gzip"}, 422),
    ({**JSON, "Transfer-Encoding": "chunked"}, 400),
    ({**JSON, "X-HTTP-Method-Override": "DELETE"}, 422),
    ({**JSON, "Accept": "application/xml"}, 422),
    ({**JSON, "Expect": "100-continue"}, 422),
)


def test_headers_of_a_request_cannot_make_it_another_one(me: Api) -> None:
    for headers, status in HEADERS:
        response = me.send("POST", "/context", data=b'{"item": {}}', headers=headers)
        assert problem(response)["status"] == status, headers


def test_a_hostile_header_or_query_changes_no_answer(me: Api) -> None:
    names = (
        "Origin",
        "Referer",
        "User-Agent",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Request-Id",
        "Cookie",
        "Accept-Language",
    )
    for payload in ALL:
        text = re.sub(r"[\r\n\x00]", " ", payload).encode().decode("latin-1")
        response = me.send("GET", "/me", headers=dict.fromkeys(names, text), query_string={"x": payload, payload: "x"})
        assert response.status_code == 200, payload
        assert response.json["user"]["email"] == me.person.email
        assert response.headers["X-Request-Id"] != text
        assert "X-Injected" not in response.headers
    print(f"hostile headers and queries: {len(ALL)} payloads in {len(names) + 2} places")
