"""Content of mails and records, and secrets, are in no log and in no byte of the database, whatever happens to a save."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from apiflask import APIFlask

from server import logs
from simulator.c4c.odata import SERVICE
from simulator.world import Fault, World
from tests.api import Api, Item, link, only_activity, row_of

CREATE = "POST " + SERVICE + "EMailCollection"
SUBJECT, BODY, NAME, RECORD, FILE, EDITED = (
    f"CANARY-{kind}-4f1c9a" for kind in ("subject", "body", "name", "record", "file", "edited")
)
ADDRESS = "canary.address@canary-sender.example"
CANARIES = (SUBJECT, BODY, NAME, RECORD, FILE, EDITED, ADDRESS, "canary-sender.example", "Canary.Address", "CANARY")


@pytest.fixture
def item(me: Api, world: World) -> Item:
    """A message whose every part is a canary, from somebody whom C4C knows in another spelling."""
    given = me.item("known_contact")
    message = me.message(given)
    head = (
        f'From: "{NAME}" <{ADDRESS}>\r\nTo: {me.person.email}\r\nSubject: {SUBJECT}\r\n'
        f"Message-ID: {given['internet_message_id']}\r\nDate: Sun, 22 Nov 2026 09:30:00 +0000\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/mixed; boundary="limit"\r\n\r\n'
    )
    parts = (
        f"--limit\r\nContent-Type: text/plain\r\n\r\n{BODY}\r\n"
        f'--limit\r\nContent-Type: text/plain\r\nContent-Disposition: attachment; filename="{FILE}.txt"\r\n\r\n{BODY}\r\n'
        "--limit--\r\n"
    )
    message.mime = (head + parts).encode()
    contact = row_of(world, "ContactCollection", Email=given["from"]["address"])
    contact |= {"Name": RECORD, "FirstName": RECORD, "JobTitle": RECORD, "Email": ADDRESS.title()}
    return me.named(message.rest_id)


def contact_link(world: World) -> dict[str, str]:
    return link("contact", row_of(world, "ContactCollection", Name=RECORD))


def stored(database: str) -> bytes:
    """Every byte of the database, its journal included."""
    file = Path(database.removeprefix("sqlite:///"))
    parts = [file.with_name(file.name + suffix) for suffix in ("", "-wal", "-shm")]
    return b"".join(part.read_bytes() for part in parts if part.exists())


def secrets_of(me: Api, world: World) -> list[str]:
    return [
        *world.c4c.tokens,
        world.c4c.oauth_client_secret,
        world.client_secret,
        me.simulator.bearer(me.person).rpartition(".")[0],
        "PRIVATE KEY",
    ]


def go_through_everything(me: Api, world: World, item: Item, work: Callable[[], None], forward: Callable[..., None]) -> None:
    """Look up, preview, save: pending, unknown, failed, and at last saved; each with the dispatcher's share."""
    links = [contact_link(world)]
    wish: dict[str, Any] = {"subject": EDITED, "attachments": [{"ref": "2", "name": f"{EDITED}.txt"}], "include_eml": True}
    me.context(item)
    me.context(item, complete=True, refresh=True)
    me.preview(item)
    for fault in (
        Fault("c4c", "drop", "$batch"),
        Fault("c4c", "drop", CREATE),
        Fault("c4c", "part_status", CREATE, status=400),
        Fault("c4c", "html", CREATE),
        Fault("graph", "status", "PATCH", status=403),
    ):
        world.faults.append(fault)
        me.save(item, links, **wish)
        work()
        forward(minutes=1)
    me.post("/context", {"item": {**item, "id": ""}})
    world.faults.append(Fault("c4c", "drop", times=None))
    me.post("/context", {"item": item, "refresh": True})
    work()
    world.faults.clear()
    forward(minutes=5)
    work()
    me.save(item, links, **wish)
    work()


def test_neither_logs_nor_database_hold_content_or_secrets(
    me: Api,
    world: World,
    item: Item,
    scans: None,
    work: Callable[[], None],
    forward: Callable[..., None],
    database: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    go_through_everything(me, world, item, work, forward)
    activity = only_activity(world, item)
    assert activity["Subject"] == EDITED  # it did go through
    logged, bytes_stored = "".join(capsys.readouterr()), stored(database)
    assert "/api/saves" in logged
    for canary in (*CANARIES, *secrets_of(me, world)):
        assert canary.lower() not in logged.lower(), canary
        assert canary.encode().lower() not in bytes_stored.lower(), canary
    assert me.person.email not in logged
    assert b"eyJ" not in bytes_stored  # no token in plain text


def test_the_search_would_find_them(database: str, capsys: pytest.CaptureFixture[str], me: Api, deps: Any) -> None:
    logs.get("test").warning(f"leak {SUBJECT}")
    with deps.store.transaction() as tx:
        tx.record("leak", deps.now(), tenant_id=None, user_id=None, leak=SUBJECT)
    assert SUBJECT in "".join(capsys.readouterr())
    assert SUBJECT.encode() in stored(database)


def test_what_c4c_says_of_a_refused_save_is_told_to_its_user_only(
    me: Api, world: World, item: Item, database: str, deps: Any
) -> None:
    world.faults.append(Fault("c4c", "part_status", CREATE, status=400, says=f"The subject {SUBJECT} is not allowed"))
    refused = me.save(item, [contact_link(world)])
    assert f"The subject {SUBJECT} is not allowed" in refused.json["detail"]
    assert SUBJECT in me.get(f"/saves/{refused.json['save_id']}").json["reason"]
    assert SUBJECT in me.context(item)["save"]["reason"]
    with deps.store.transaction(reading=True) as tx:
        assert [job.reason for job in tx.jobs(deps.now(), dead_only=True)] == ["It was refused."]
    assert SUBJECT.encode() not in stored(database)


def test_a_waiting_wish_is_sealed(me: Api, world: World, item: Item, database: str) -> None:
    world.faults.append(Fault("c4c", "drop", "$batch", times=None))
    assert me.save(item, [contact_link(world)], subject=EDITED).status_code == 202
    data = stored(database)
    assert EDITED.encode() not in data
    assert contact_link(world)["id"].encode() not in data


def test_a_fault_of_ours_is_logged_without_what_it_was_about(app: APIFlask, capsys: pytest.CaptureFixture[str]) -> None:
    @app.get("/broken")
    def broken() -> str:
        try:
            raise KeyError(SUBJECT)
        except KeyError as error:
            raise ValueError(f"{BODY} of {ADDRESS}") from error

    app.test_client().get("/broken")
    logged = capsys.readouterr().err
    assert "builtins.ValueError" in logged
    assert "builtins.KeyError" in logged
    assert "test_privacy.py" in logged
    assert not [canary for canary in CANARIES if canary in logged]


@pytest.mark.parametrize("fmt", ["json", "text"])
@pytest.mark.parametrize(
    "text", ["a\nforged", "a\r\nforged", "a\x1b[2Kforged", "a\u2028forged", "a\x00forged", "a\x85forged", "a\u202eforged"]
)
def test_no_value_can_forge_a_line(fmt: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(fmt)
    try:
        log = logs.get(f"test.{fmt}.{text!r}")
        log.info("event", value=text, nested=[text])
        log.info(text)
    finally:
        logs.configure("text")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.isprintable()
        assert not line.startswith("forged")


def test_what_looks_like_a_secret_is_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    try:
        log = logs.get("test.redaction")
        log.info(
            "event",
            access_token="CANARY-1",
            note="Bearer abcdefghijkl",
            mail="x@example.com",
            jwt="eyJhbGciOiJSUzI1NiJ9.eyJzdWIi.sig",
        )
        log.info("event", url="https://c4c.example.com/?$filter=Email%20eq%20'x%40example.com'", deep={"password": "CANARY-2"})
    finally:
        logs.configure("text")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["access_token"], first["note"], first["mail"], first["jwt"]) == (
        "[secret]",
        "Bearer [secret]",
        "[address]",
        "[token]",
    )
    assert "example.com'" not in second["url"]
    assert "CANARY" not in json.dumps(second)


def test_secrets_are_not_in_what_objects_say_of_themselves(me: Api, deps: Any, world: World) -> None:
    assert me.save("known_contact").status_code == 201
    with deps.store.transaction(reading=True) as tx:
        (tenant,) = tx.tenants()
        users = tx.users(tenant.id)
        connection = next(c for u in users if (c := tx.connection_of(u.id, "graph")))
    said = repr([tenant, users, connection, deps])
    for secret in (tenant.wrapped_key, tenant.c4c_secrets, connection.credentials):
        assert repr(secret) not in said
