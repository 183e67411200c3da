"""A batch reply is read as C4C really writes it, and nothing inside it can pass for a part that is none."""

import json

import pytest
from hypothesis import given, strategies as st

from server.c4c.multipart import Part, Request, UnreadableBatch, read, written
from tests.contracts import contract

OUTER = "multipart/mixed; boundary=ejjeeffe0"


def captured(name: str, *, line_end: bytes) -> bytes:
    return contract(f"c4c/captured/{name}").read_bytes().replace(b"\r\n", b"\n").replace(b"\n", line_end)


def http(status: str, body: bytes, *, length: int | None = None, line_end: bytes = b"\r\n") -> bytes:
    """One section of a reply, without its delimiter."""
    declared = len(body) if length is None else length
    lines = (b"Content-Type: application/http", b"Content-Transfer-Encoding: binary", b"", b"HTTP/1.1 " + status.encode())
    lines += (b"Content-Type: application/json", b"Content-Length: %d" % declared, b"", body)
    return line_end.join(lines)


def reply(*sections: bytes, boundary: bytes = b"ejjeeffe0", line_end: bytes = b"\r\n") -> bytes:
    whole = b"".join(b"--" + boundary + line_end + section + line_end for section in sections)
    return whole + b"--" + boundary + b"--" + line_end


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_captured_reads_are_understood_in_order(line_end: bytes) -> None:
    first, second = read(OUTER, captured("c4c_batch_gets.multipart", line_end=line_end))
    assert isinstance(first, Part)
    assert isinstance(second, Part)
    assert (first.status, second.status) == (200, 200)
    assert json.loads(first.body)["d"]["results"][0]["ObjectID"] == "00163E20C9511ED7B6C53C069E784637"
    assert json.loads(second.body)["d"]["__count"] == "1209"


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_captured_changesets_are_lists_beside_the_reads(line_end: bytes) -> None:
    replies = read(OUTER, captured("c4c_batch_gets_and_posts.multipart", line_end=line_end))
    assert [isinstance(one, list) for one in replies] == [False, False, True, True]
    for changeset, expected in zip(replies[2:], ["TEST0000F44SD", "TEST0000F4SD"], strict=True):
        assert isinstance(changeset, list)
        (created,) = changeset
        assert created.status == 201
        assert "BO_VOCRootCollection" in created.headers["location"]
        assert json.loads(created.body)["d"]["results"]["Id"] == expected


def test_body_that_holds_the_boundary_is_one_body() -> None:
    evil = b'{"a": 1}\r\n--ejjeeffe0\r\n' + http("200 OK", b'{"forged": true}')
    honest = b'{"honest": true}'
    first, second = read(OUTER, reply(http("400 Bad Request", evil), http("200 OK", honest)))
    assert isinstance(first, Part)
    assert isinstance(second, Part)
    assert (first.status, first.body) == (400, evil)
    assert second.body == honest


@pytest.mark.parametrize("length", [0, 3, 5000])
def test_wrong_content_length_does_no_harm(length: int) -> None:
    first, second = read(OUTER, reply(http("200 OK", b'{"a":1}', length=length), http("200 OK", b"{}")))
    assert isinstance(first, Part)
    assert isinstance(second, Part)
    assert (first.body, second.body) == (b'{"a":1}', b"{}")


def test_part_without_body_is_read() -> None:
    (part,) = read(OUTER, reply(http("204 No Content", b"")))
    assert part == Part(204, {"content-type": "application/json", "content-length": "0"}, b"")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body>Maintenance</body></html>",
        b"--ejjeeffe0--",
        reply(http("200 OK", b"{}"))[:-20],
        reply(http("200 OK", b"{}")).replace(b"--ejjeeffe0--", b""),
        reply(b"Content-Type: application/http\r\n\r\nnot http at all"),
        reply(b"Content-Type: multipart/mixed\r\n\r\nno boundary"),
        reply(b"no colon here\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
        reply(b"Content-Type: application/http"),
        b"--other\r\n\r\n--other--",
    ],
    ids=range(10),
)
def test_what_is_no_complete_batch_is_refused_or_empty(body: bytes) -> None:
    try:
        replies = read(OUTER, body)
    except UnreadableBatch:
        return
    assert replies == []


@pytest.mark.parametrize("content_type", ["text/html", "", "multipart/mixed", "application/json; boundary=ejjeeffe0"])
def test_reply_that_is_not_multipart_is_refused(content_type: str) -> None:
    with pytest.raises(UnreadableBatch):
        read(content_type, reply(http("200 OK", b"{}")))


@given(st.binary(max_size=300))
def test_noise_is_refused(noise: bytes) -> None:
    try:
        replies = read(OUTER, b"--ejjeeffe0\r\n" + noise)
    except UnreadableBatch:
        return
    assert b"\n--ejjeeffe0--" in noise
    assert all(isinstance(reply, Part | list) for reply in replies)


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_any_bodies_survive(bodies: list[bytes]) -> None:
    assert [part.body for part in read(OUTER, reply(*(http("200 OK", body) for body in bodies)))] == bodies  # type: ignore[union-attr]


def test_batch_is_written_as_odata_has_it() -> None:
    gets = Request("GET", "ContactCollection?$top=1", {"Accept": "application/json"})
    post = Request("POST", "EMailCollection", {"Content-Type": "application/json"}, b'{"Subject":"x"}')
    lines = written([gets, [post]], "b").split(b"\r\n")
    assert lines[:9] == [
        b"--b",
        b"Content-Type: application/http",
        b"Content-Transfer-Encoding: binary",
        b"Content-Length: 69",
        b"",
        b"GET ContactCollection?$top=1 HTTP/1.1",
        b"Accept: application/json",
        b"",
        b"",
    ]
    assert b"Content-Type: multipart/mixed; boundary=changeset1-b" in lines
    assert b"Content-Length: 15" in lines
    assert lines[-2:] == [b"--b--", b""]


@pytest.mark.parametrize(
    "request_",
    [
        Request("GET", "X?$filter=a eq 'b'"),
        Request("GET", "X\r\nDELETE Y"),
        Request("GET", "X?ü"),
        Request("GET", "X", {"If-Match": "a\r\nX-Evil: 1"}),
        Request("GET\r\n", "X"),
    ],
)
def test_line_cannot_be_broken_out_of(request_: Request) -> None:
    with pytest.raises(ValueError, match=r"URL-encoded|control character"):
        written([request_], "b")
