"""The protocol: a question means what it says, a failure is named by what to do about it, a write is sent once."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote

import pytest
from hypothesis import given, strategies as st

from server.c4c.edm import (
    any_of,
    as_time,
    can_ask_for,
    child,
    children,
    equals,
    etag,
    json_time,
    moment,
    text,
)
from server.c4c.odata import ODataClient, Read, Write, basic, entity
from server.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    NeedsReauth,
    NotFound,
    RateLimited,
    Rejected,
    SsiError,
    Transient,
    Unknown,
)
from simulator.world import Fault, Person, World
from tests.c4c.conftest import SERVICE, Tenant
from tests.contracts import contract

ONE_CONTACT = Read("ContactCollection", select=("ObjectID", "Email"), top=1, orderby="ObjectID")


def email_draft(key: str, **more: Any) -> dict[str, Any]:
    return {"Subject": "Test", "GroupwareItemID": key, **more}


# Literals


def test_quote_is_doubled_and_stays_inside_the_literal() -> None:
    assert equals("Email", "o'brien' or 1 eq 1") == "Email eq 'o''brien'' or 1 eq 1'"


@pytest.mark.parametrize("value", ["a*b@example.com", "*", "a\x00", "a\r\nb", "\ud800", "a\x7f", "\ufffe"])
def test_what_a_filter_cannot_mean_is_refused(value: str) -> None:
    assert not can_ask_for(value)
    with pytest.raises(InvalidInput):
        text(value)


@given(st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="*\ufffe\uffff"), max_size=50))
def test_literal_survives_the_url(value: str) -> None:
    target = Read("ContactCollection", filter=equals("Email", value)).target
    assert target.isascii()
    assert not set(target) & set(' \r\n"<>#')
    (condition,) = parse_qs(target.partition("?")[2])["$filter"]
    assert condition.removeprefix("Email eq '").removesuffix("'").replace("''", "'") == value


def test_many_values_are_joined_over_one_property() -> None:
    assert any_of("Email", ["a@x", "b@x"]) == "Email eq 'a@x' or Email eq 'b@x'"


def test_key_is_encoded_into_the_path() -> None:
    assert unquote(entity("EMailCollection", "0' or/?#1")) == "EMailCollection('0'' or/?#1')"
    assert not set(entity("EMailCollection", "a b?c#d")) & set(" ?#")


def test_times_go_out_in_utc_and_come_back_aware() -> None:
    at = datetime(2026, 11, 22, 10, 30, 15, tzinfo=timezone(timedelta(hours=2)))
    assert moment(at) == "datetimeoffset'2026-11-22T08:30:15Z'"
    assert moment(at.replace(microsecond=1500)) == "datetimeoffset'2026-11-22T08:30:15.0015000Z'"
    assert json_time(at) == "2026-11-22T08:30:15Z"
    assert as_time("/Date(1422997623532)/") == datetime(2015, 2, 3, 21, 7, 3, 532000, tzinfo=UTC)
    assert as_time("/Date(-1)/") == datetime(1969, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)
    assert as_time("2026-11-22T08:30:15") == at
    assert [as_time(v) for v in (None, "", "soon", "/Date(99999999999999999999)/", 5)] == [None] * 5
    for write in (moment, json_time):
        with pytest.raises(ValueError, match="zone"):
            write(datetime(2026, 11, 22))  # noqa: DTZ001


# Envelopes


def test_children_are_read_in_both_shapes() -> None:
    rows = [{"ID": "1"}, {"ID": "2"}]
    assert children({"A": rows}, "A") == children({"A": {"results": rows}}, "A") == rows
    assert [children(row, "A") for row in ({}, {"A": None}, {"A": {"__deferred": {}}}, {"A": "x"})] == [[]] * 4


def test_single_child_is_read_in_both_shapes() -> None:
    assert child({"A": {"ID": "1"}}, "A") == child({"A": {"results": {"ID": "1"}}}, "A") == {"ID": "1"}
    assert [child(row, "A") for row in ({}, {"A": None}, {"A": {"__deferred": {}}}, {"A": []})] == [None] * 4


@contextmanager
def answering(tenant: Tenant, *replies: tuple[int, dict[str, str], bytes]) -> Iterator[tuple[ODataClient, list[str]]]:
    """A client before a server that gives these answers in turn, for what C4C said once or no simulator would say."""
    waiting, seen = list(replies), list[str]()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            seen.append(f"{self.command} {self.path}")
            status, headers, body = waiting.pop(0)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), "Connection": "close", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_DELETE = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    client = ODataClient(
        tenant.gateway,
        f"http://127.0.0.1:{server.server_port}{SERVICE}/",
        authorize=basic("USER", "password"),
        slots=threading.BoundedSemaphore(4),
        needs_csrf=False,
        sleep=tenant.pauses.append,
    )
    try:
        yield client, seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def body(data: object) -> bytes:
    return json.dumps(data).encode()


ROW = {"ObjectID": "00163E20C98D1EE8A2F90338EDB5DD6E", "ID": "21106"}


@pytest.mark.parametrize("data", [{"results": [ROW]}, {"results": ROW}, ROW, [ROW], {"__count": "1209", "results": [ROW]}])
def test_every_envelope_c4c_is_known_for_is_read(tenant: Tenant, data: object) -> None:
    with answering(tenant, (200, {}, body({"d": data}))) as (client, _):
        assert client.ask(Read("ServiceRequestCollection")).rows == (ROW,)


def test_captured_list_is_read_with_its_etags(tenant: Tenant) -> None:
    captured = contract("c4c/captured/c4c_servicerequest_list.json").read_bytes()
    with answering(tenant, (200, {}, captured)) as (client, _):
        rows = client.ask(Read("ServiceRequestCollection")).rows
    assert len(rows) == 10
    assert etag(rows[0]) == "W/\"datetimeoffset'2018-07-30T04%3A13%3A49.1740120Z'\""


def test_captured_error_is_rejected_with_c4cs_sentence(tenant: Tenant) -> None:
    captured = contract("c4c/captured/c4c_error.json").read_bytes()
    with answering(tenant, (400, {}, captured)) as (client, _), pytest.raises(Rejected, match="Ungültigen Token an Position 24"):
        client.ask(Read("ServiceRequestCollection"))


@pytest.mark.parametrize("content", [b"", b"<html>", b"{}", b'{"d":', b'{"d": null}', b'{"d": {"results": [1]}}', b"[" * 5000])
def test_unreadable_answer_is_transient_to_a_read_and_unknown_to_a_write(tenant: Tenant, content: bytes) -> None:
    with answering(tenant, (200, {}, content), (201, {}, content)) as (client, _):
        with pytest.raises(Transient):
            client.ask(Read("ServiceRequestCollection"))
        with pytest.raises(Unknown):
            client.create("EMailCollection", {})


@pytest.mark.parametrize(
    ("status", "headers", "content", "of_read", "of_write"),
    [
        (401, {}, b"<html>", NeedsReauth, NeedsReauth),
        (403, {}, b"<html>", Forbidden, Rejected),
        (403, {}, body({"error": {"message": {"value": "Ihr Benutzer ist gesperrt"}}}), Forbidden, Rejected),
        (404, {}, b"<html>", NotFound, NotFound),
        (412, {}, b"", Conflict, Conflict),
        (400, {}, b"<html>", Rejected, Rejected),
        (400, {}, body({"error": {"message": {"value": "Record is locked by user SMITH"}}}), Transient, Transient),
        (500, {}, body({"error": {"message": {"value": "Der Datensatz ist gesperrt"}}}), Transient, Transient),
        (500, {}, b"<html>", Transient, Unknown),
        (502, {}, b"<html>", Transient, Unknown),
        (504, {}, b"", Transient, Unknown),
        (503, {"Retry-After": "60"}, b"", Transient, Transient),
        (429, {"Retry-After": "60"}, b"", RateLimited, RateLimited),
        (302, {"Location": "https://login.example.com/"}, b"", Transient, Unknown),
    ],
)
def test_status_is_translated_by_what_to_do(
    tenant: Tenant,
    status: int,
    headers: dict[str, str],
    content: bytes,
    of_read: type[SsiError],
    of_write: type[SsiError],
) -> None:
    with answering(tenant, (status, headers, content), (status, headers, content)) as (client, seen):
        with pytest.raises(SsiError) as read:
            client.ask(Read("ServiceRequestCollection"))
        with pytest.raises(SsiError) as write:
            client.create("EMailCollection", {})
    assert (type(read.value), type(write.value)) == (of_read, of_write)
    assert len(seen) == 2
    assert "SMITH" not in f"{read.value}{write.value}"
    assert "<" not in f"{read.value}{write.value}"


def test_c4cs_sentence_is_shown_in_one_line_and_not_endless(tenant: Tenant) -> None:
    said = body({"error": {"message": {"value": "No\r\nway \x00" + "x" * 1000}}})
    with answering(tenant, (400, {}, said)) as (client, _), pytest.raises(Rejected) as refused:
        client.ask(Read("ServiceRequestCollection"))
    assert refused.value.reason.startswith("No way xxx")
    assert len(refused.value.reason) == 300


@pytest.mark.parametrize(
    "following",
    [
        f"https://elsewhere.example.com{SERVICE}/LeadCollection?$skiptoken=2",
        f"http://127.0.0.1:1{SERVICE}/LeadCollection/?$skiptoken=2",
        "LeadCollection?$skiptoken=2",
    ],
)
def test_next_page_is_read_from_the_same_service_whatever_host_it_names(tenant: Tenant, following: str) -> None:
    pages = [body({"d": {"results": [ROW], "__next": following}}), body({"d": {"results": [ROW]}})]
    with answering(tenant, *((200, {}, page) for page in pages)) as (client, seen):
        assert len(list(client.rows(Read("LeadCollection")))) == 2
    assert [line.partition("?")[2] for line in seen] == ["$format=json", "$skiptoken=2"]
    assert seen[1].startswith(f"GET {SERVICE}/LeadCollection")


@pytest.mark.parametrize(
    "following", ["https://elsewhere.example.com/secret?x=1", "/secret?x=1", "../secret?x=1", "LeadCollection"]
)
def test_next_page_outside_the_service_is_not_read(tenant: Tenant, following: str) -> None:
    page = body({"d": {"results": [ROW], "__next": following}})
    with answering(tenant, (200, {}, page)) as (client, seen):
        with pytest.raises(Transient):
            list(client.rows(Read("LeadCollection")))
        assert len(seen) == 1


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("text/html", b"<html>"),
        ("multipart/mixed; boundary=b", b"--b--"),
        ("multipart/mixed; boundary=b", b"--b\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 200 OK\r\n\r\n{}"),
        ("application/json", b"{}"),
    ],
)
def test_batch_reply_without_its_parts_proves_nothing(tenant: Tenant, content_type: str, content: bytes) -> None:
    answer = (202, {"Content-Type": content_type}, content)
    with answering(tenant, answer, answer) as (client, _):
        with pytest.raises(Transient):
            client.batch([ONE_CONTACT])
        with pytest.raises(Unknown):
            client.changeset([Write("POST", "EMailCollection", {})])


# Against the simulator


def test_all_pages_are_read_and_no_row_twice(tenant: Tenant, world: World, me: Person) -> None:
    client = tenant.by_token(me)
    for number in range(120):
        client.create("EMailCollection", email_draft(f"<{number}@example.com>"))
    expanded = Read("EMailCollection", select=("ObjectID",), expand=("EMailNotes",), orderby="ObjectID")
    ids = [row["ObjectID"] for row in client.rows(expanded)]
    assert len(ids) == len(set(ids)) == len(world.crm.rows("EMailCollection"))


def test_password_needs_one_csrf_token_for_many_writes(tenant: Tenant, me: Person) -> None:
    client = tenant.by_password(me)
    for number in range(3):
        client.create("EMailCollection", email_draft(f"<{number}@example.com>"))
    client.batch([ONE_CONTACT])
    assert [f"{a.method} {a.path.removeprefix(SERVICE)} {a.status}" for a in tenant.calls()] == [
        "GET / 200",
        *["POST /EMailCollection 201"] * 3,
        "POST /$batch 202",
    ]


def test_expired_csrf_token_is_fetched_again_and_the_write_done_once(tenant: Tenant, world: World, me: Person) -> None:
    client = tenant.by_password(me)
    client.batch([ONE_CONTACT])
    world.clock_skew = timedelta(hours=1)
    client.create("EMailCollection", email_draft("<late@example.com>"))
    assert [a.status for a in tenant.calls()] == [200, 202, 403, 200, 201]
    assert len(list(world.saved_activities("<late@example.com>"))) == 1


def test_csrf_that_never_holds_ends(tenant: Tenant, world: World, me: Person) -> None:
    world.faults.append(Fault("c4c", "csrf", times=None))
    with pytest.raises(Rejected):
        tenant.by_password(me).create("EMailCollection", email_draft("<x@example.com>"))
    assert sum(a.method == "POST" for a in tenant.calls()) == 2


def test_many_threads_share_one_csrf_token(tenant: Tenant, world: World, me: Person) -> None:
    client = tenant.by_password(me)
    keys = [f"<{number}@example.com>" for number in range(8)]
    list(tenant.pool.map(lambda key: client.create("EMailCollection", email_draft(key)), keys))
    assert sum(a.method == "GET" for a in tenant.calls()) == 1
    assert {row["GroupwareItemID"] for row in world.saved_activities()} >= set(keys)


def test_wrong_password_needs_reauth(tenant: Tenant, me: Person) -> None:
    with pytest.raises(NeedsReauth):
        tenant.by_password(me, "wrong").ask(ONE_CONTACT)
    with pytest.raises(NeedsReauth):
        tenant.by_password(me, "wrong").batch([ONE_CONTACT])


def test_token_that_c4c_forgot_is_replaced_once(tenant: Tenant, world: World, me: Person) -> None:
    client = tenant.by_token(me)
    client.ask(ONE_CONTACT)
    world.c4c.tokens.clear()
    assert client.ask(ONE_CONTACT).rows
    assert [a.status for a in tenant.calls()] == [200, 401, 200]
    world.c4c.locked_users.add(me.user_id)
    with pytest.raises(NeedsReauth):
        client.ask(ONE_CONTACT)


@pytest.mark.parametrize("status", [429, 503])
def test_read_waits_as_long_as_c4c_asks(tenant: Tenant, world: World, me: Person, status: int) -> None:
    world.faults.append(Fault("c4c", "status", SERVICE, status=status, retry_after_s=1, times=2))
    assert tenant.by_token(me).ask(ONE_CONTACT).rows
    assert tenant.pauses == [1.0, 1.0]


def test_read_gives_up_when_the_pause_is_too_long_or_comes_again(tenant: Tenant, world: World, me: Person) -> None:
    client = tenant.by_token(me)
    world.faults.append(Fault("c4c", "status", SERVICE, status=429, retry_after_s=120))
    with pytest.raises(RateLimited) as limited:
        client.batch([ONE_CONTACT])
    assert limited.value.retry_after_s == 120
    assert tenant.pauses == []
    world.faults.append(Fault("c4c", "status", SERVICE, status=503, times=3))
    with pytest.raises(Transient):
        client.ask(ONE_CONTACT)
    assert len(tenant.pauses) == 2


@pytest.mark.parametrize("kind", ["drop", "acted_drop"])
def test_read_on_a_dead_connection_is_asked_once_more(tenant: Tenant, world: World, me: Person, kind: str) -> None:
    client = tenant.by_token(me)
    client.ask(ONE_CONTACT)
    world.faults.append(Fault("c4c", kind, SERVICE))
    assert client.batch([ONE_CONTACT]).results[0].rows
    world.faults.append(Fault("c4c", kind, SERVICE, times=2))
    with pytest.raises(Transient):
        client.ask(ONE_CONTACT)


@pytest.mark.parametrize("kind", ["status", "drop", "acted_drop", "html", "garbage"])
def test_write_is_never_sent_twice(tenant: Tenant, world: World, me: Person, kind: str) -> None:
    client = tenant.by_token(me)
    client.ask(ONE_CONTACT)
    world.faults.append(Fault("c4c", kind, "POST", status=503))
    with pytest.raises((Transient, Unknown)):
        client.create("EMailCollection", email_draft("<once@example.com>"))
    assert len(list(world.saved_activities("<once@example.com>"))) == (kind == "acted_drop")
    assert tenant.pauses == []


def test_old_etag_is_a_conflict_and_the_right_one_works(tenant: Tenant, world: World, me: Person) -> None:
    client = tenant.by_token(me)
    made = client.create("EMailCollection", email_draft("<etag@example.com>"))
    here = entity("EMailCollection", made["ObjectID"])
    client.change(Write("PATCH", here, {"Subject": "Second"}, if_match=etag(made)))
    with pytest.raises(Conflict):
        client.change(Write("PATCH", here, {"Subject": "Third"}, if_match=etag(made)))
    (row,) = world.saved_activities("<etag@example.com>")
    assert row["Subject"] == "Second"
    client.change(Write("DELETE", here))
    with pytest.raises(NotFound):
        client.change(Write("DELETE", here))


def test_batch_answers_in_order_and_one_bad_part_harms_no_other(tenant: Tenant, me: Person) -> None:
    good = Read("EmployeeBasicDataCollection", filter=equals("UserID", me.user_id), select=("UserID",))
    bad = Read("ContactCollection", filter=equals("NoSuchProperty", "x"))
    missing = Read("EMailCollection", key="0" * 32)
    answers = tenant.by_token(me).batch([bad, good, missing, good])
    kinds = [type(r.error) for r in answers.results]
    assert kinds == [Rejected, type(None), NotFound, type(None)]
    assert [r.rows[0]["UserID"] for r in answers.results if r.rows] == [me.user_id] * 2
    assert answers.requests == 1


def test_changeset_is_all_or_nothing(tenant: Tenant, world: World, me: Person) -> None:
    client = tenant.by_token(me)
    good = Write("POST", "EMailCollection", email_draft("<all@example.com>"))
    bad = Write("POST", "EMailCollection", email_draft("<all@example.com>", Direction="x"))
    with pytest.raises(Rejected):
        client.changeset([good, bad])
    assert not list(world.saved_activities("<all@example.com>"))
    results = client.changeset([good, good])
    assert len(results) == len(list(world.saved_activities("<all@example.com>"))) == 2


def test_subject_cannot_break_out_of_a_batch(tenant: Tenant, world: World, me: Person) -> None:
    subject = "--ejjeeffe0\r\nContent-Type: application/http\r\n\r\nDELETE EMailCollection HTTP/1.1\r\n\r\n\r\n--ejjeeffe0--"
    client = tenant.by_token(me)
    before = len(world.crm.rows("EMailCollection"))
    client.changeset([Write("POST", "EMailCollection", email_draft("<out@example.com>", Subject=subject))])
    assert len(world.crm.rows("EMailCollection")) == before + 1
    (row,) = world.saved_activities("<out@example.com>")
    answers = client.batch([Read("EMailCollection", key=row["ObjectID"]), ONE_CONTACT])
    assert answers.results[0].rows[0]["Subject"] == subject
    assert [len(result.rows) for result in answers.results] == [1, 1]


@pytest.mark.parametrize("value", ["o'brien@example.com", "a+b@example.com", "a&b%41#?=/;,@example.com", "ä€𝄞@example.com"])
@pytest.mark.parametrize("in_batch", [True, False])
def test_awkward_values_find_exactly_their_record(
    tenant: Tenant, world: World, me: Person, value: str, *, in_batch: bool
) -> None:
    (contact, *_) = world.crm.rows("ContactCollection").values()
    contact["Email"] = value
    read = Read("ContactCollection", filter=equals("Email", value), select=("ObjectID", "Email"))
    client = tenant.by_token(me)
    result = client.batch([read]).results[0] if in_batch else client.ask(read)
    assert [row["ObjectID"] for row in result.or_raise().rows] == [contact["ObjectID"]]


def test_no_more_calls_at_a_time_than_there_are_slots(tenant: Tenant, world: World, me: Person) -> None:
    slots = threading.BoundedSemaphore(1)
    client = ODataClient(
        tenant.gateway,
        tenant.url + SERVICE,
        authorize=basic(me.user_id, me.password),
        slots=slots,
        needs_csrf=False,
        sleep=tenant.pauses.append,
        pool=tenant.pool,
    )
    world.faults.append(Fault("c4c", "hang", SERVICE, seconds=0.05, times=3))
    answers = client.parallel([ONE_CONTACT] * 3)
    assert all(result.rows for result in answers.results)
    began = sorted(a.at - timedelta(milliseconds=a.duration_ms) for a in tenant.calls())
    ended = sorted(a.at for a in tenant.calls())
    assert all(end <= start + timedelta(milliseconds=2) for end, start in zip(ended, began[1:], strict=False))


def test_who_waits_for_a_token_keeps_nobody_from_a_slot(tenant: Tenant, me: Person) -> None:
    came, waits = threading.Event(), threading.Event()

    def late() -> dict[str, str]:
        came.set()
        waits.wait(30)
        raise Transient("The sign-in does not answer.")

    slots = threading.BoundedSemaphore(1)
    first, second = (
        ODataClient(
            tenant.gateway, tenant.url + SERVICE, authorize=one, slots=slots, needs_csrf=False, sleep=tenant.pauses.append
        )
        for one in (late, basic(me.user_id, me.password))
    )
    asked = tenant.pool.submit(first.ask, ONE_CONTACT)
    assert came.wait(30)
    try:
        assert second.ask(ONE_CONTACT).rows
    finally:
        waits.set()
    with pytest.raises(Transient):
        asked.result(30)


def test_time_that_c4c_measured_is_told(tenant: Tenant) -> None:
    reply = (200, {"c4c-odata-response-time": "2061 ms"}, body({"d": {"results": []}}))
    with answering(tenant, reply) as (client, _):
        client._pool = tenant.pool
        assert client.parallel([ONE_CONTACT]).server_ms == 2061
