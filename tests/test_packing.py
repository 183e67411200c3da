"""The pane's page and files come packed; what a person is told never does."""

import gzip

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from server.web.pages import asset_root
from tests.api import Api

STATIC = asset_root() / "static"
FILES = {"/static/js/sidebar.js": "js/sidebar.js", "/static/css/sidebar.css": "css/sidebar.css"}
GZIP = {"Accept-Encoding": "gzip, deflate, br"}


def get(client: FlaskClient, path: str, **headers: str) -> TestResponse:
    """Read the whole answer, so that its file is closed; a header's name has _ for -."""
    return client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()}, buffered=True)


@pytest.mark.parametrize("path", FILES)
def test_a_file_comes_packed_to_who_takes_it_so_and_plain_to_others(client: FlaskClient, path: str) -> None:
    content = (STATIC / FILES[path]).read_bytes()
    packed, plain = get(client, path, **GZIP), get(client, path)
    assert (packed.headers["Content-Encoding"], plain.headers.get("Content-Encoding")) == ("gzip", None)
    assert gzip.decompress(packed.data) == plain.data == content
    assert len(packed.data) < 2 / 3 * len(content)
    assert packed.headers["Content-Length"] == str(len(packed.data))
    assert "Accept-Encoding" in packed.headers["Vary"]
    assert "Accept-Encoding" in plain.headers["Vary"]
    refused = get(client, path, Accept_Encoding="gzip;q=0")
    assert refused.data == content


def test_a_file_that_the_client_has_is_not_sent_again_packed_or_not(client: FlaskClient) -> None:
    path = next(iter(FILES))
    tags = {get(client, path, **headers).headers["ETag"] for headers in ({}, GZIP)}
    assert len(tags) == 2
    for tag in tags:
        again = get(client, path, **GZIP, If_None_Match=tag)
        assert (again.status_code, again.data) == (304, b"")


def test_the_page_of_the_pane_comes_packed(client: FlaskClient) -> None:
    packed = get(client, "/sidebar", **GZIP)
    assert gzip.decompress(packed.data) == get(client, "/sidebar").data


def test_a_part_of_a_file_and_a_picture_come_as_they_are(client: FlaskClient) -> None:
    part = get(client, "/static/js/sidebar.js", **GZIP, Range="bytes=0-9")
    assert (part.status_code, part.headers.get("Content-Encoding")) == (206, None)
    assert part.data == (STATIC / "js/sidebar.js").read_bytes()[:10]
    assert "Content-Encoding" not in get(client, "/static/icons/icon-32.png", **GZIP).headers


def test_what_a_person_is_told_never_comes_packed(me: Api) -> None:
    for answer in (
        me.send("GET", "/me", headers=GZIP),
        me.send("POST", "/context", headers=GZIP, json={"item": me.item("known_contact")}),
        me.send("GET", "/openapi.json", headers=GZIP),
        me.send("GET", "/saves/" + "0" * 32, headers=GZIP),
    ):
        assert "Content-Encoding" not in answer.headers
