"""What keeps others out of the pages: where one is sent after signing in, forms of other sites, cookies, headers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient

from server.web.auth import BROWSER, HOME, SESSION, own_path
from tests.web.browser import ORIGIN, SAME_SITE, SETTINGS, Browser

# Where one is sent

EVIL = "evil.example"
STARTS = [
    "",
    "/",
    "//",
    "///",
    "\\",
    "/\\",
    "\\/",
    "\\\\",
    "/.",
    "/..",
    "/%2f",
    "/%5c",
    "/%09",
    "\t",
    "\n",
    "\r\n",
    "\0",
    " ",
    "/ /",
]
STARTS += ["\u2028", "\u3000", "／", "⁄", "@", "/@", "?", "#", ":", "/;", "https:", "https://", "http:/", "HTTPS://", "//x@"]
STARTS += ["javascript:", "java\tscript:", "data:text/html,", "vbscript:", "ftp://", "file:///", "mailto:", "x:", "/settings//"]
ENDS = [
    EVIL,
    f"{EVIL}/settings/sync/email",
    f"{EVIL}%2fsettings",
    f"{EVIL}?/settings/",
    f"{EVIL}#/settings",
    "[::1]",
    "2130706433",
]
INSIDE = [
    "//",
    "\\",
    "\t",
    "\n",
    "\r\n",
    "\0",
    "%2f%2f",
    "%5c",
    "%0d%0aSet-Cookie:a=b",
    "?next=//evil",
    "#//evil",
    ":",
    "@",
    "..",
    ".",
]
INSIDE += ["%2e%2e", ";", "\u2028", "é", "‮", "<", '"', "'", "*", "&", "=", "+", "~", " ", "A", "_", "|", "^", "`", "{", "$", "!"]
HOSTILE = sorted(
    {start + end for start in STARTS for end in ENDS}
    | {f"/settings{inside}sync/email" for inside in INSIDE}
    | {f"/settings/sync{inside}" for inside in INSIDE}
    | {f"{inside}/settings/sync/email" for inside in INSIDE}
    | {
        "/",
        "/api/me",
        "/sign-out",
        "/sidebar",
        "/settingsx",
        "/pane-x",
        "/paneful/x",
        "settings/",
        "/settings/" + "a" * 300,
        "/settings\n",
    }
)


def test_one_is_sent_to_our_own_pages_only(client: FlaskClient) -> None:
    assert len(HOSTILE) >= 300
    assert {own_path(wanted) for wanted in HOSTILE} == {HOME}
    for good in (SETTINGS, "/settings/", f"{SETTINGS}/change/microsoft365", "/pane/sign-in"):
        assert own_path(good) == good
    for wanted in HOSTILE:
        page = client.get("/sign-in", query_string={"next": wanted}).text
        assert 'name="next" value="/settings/sync/email"' in page
        assert EVIL not in page


# Forms of other sites


BY_TOKEN = ("/api/", "/gmail/")  # where a token of the caller's counts, and no cookie


def changing(app: APIFlask) -> Iterator[str]:
    """The address of every route of the pages that changes something."""
    for rule in app.url_map.iter_rules():
        if "POST" in (rule.methods or set()) and not str(rule).startswith(BY_TOKEN):
            services = re.search(r"<any\(([\w, ]+)\):\w+>", str(rule))
            for service in services[1].split(", ") if services else [""]:
                yield re.sub(r"<[^>]+>", service, str(rule))


FOREIGN: list[dict[str, str]] = [
    {},
    {"Origin": "null"},
    {"Origin": "https://evil.example"},
    {"Origin": ORIGIN + ".evil.example", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "null", "Sec-Fetch-Site": "same-site"},
    {"Origin": "null", "Sec-Fetch-Site": "none"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
    {"Origin": ORIGIN.replace("https", "http")},
    {"Origin": ORIGIN + ":8443"},
    {"Sec-Fetch-Site": "cross-site"},
]


def test_no_form_of_another_site_changes_anything(app: APIFlask, anna: Browser) -> None:
    paths = sorted(path for path in changing(app) if not path.startswith("/hooks/"))  # there cookies mean nothing
    assert len(paths) >= 6
    token = anna.filled("Sign out")[1]["csrf"]
    for path in paths:
        for headers in FOREIGN:
            answer = anna.client.post(path, data={"csrf": token, "address": "a@b.example"}, headers=headers)
            assert answer.status_code == 403, (path, headers)
            assert "This did not come from our page" in answer.text
        for wrong in ("", "0" * 64, token[:-1], token + "0", "é"):
            answer = anna.client.post(path, data={"csrf": wrong}, headers=SAME_SITE)
            assert answer.status_code == 403, (path, wrong)
            assert "The page was open for too long" in answer.text
        for content_type in ("text/plain", "application/json", "multipart/form-data"):
            answer = anna.client.post(path, data=f"csrf={token}", content_type=content_type, headers=SAME_SITE)
            assert answer.status_code in (400, 403), (path, content_type)
    assert "Signed in as" in anna.open(SETTINGS).answer.text, "nobody was signed out"


def test_a_token_of_somebody_else_is_as_good_as_none(anna: Browser, browsers: Callable[..., Browser]) -> None:
    other = browsers(1)
    path, fields = anna.filled("Sign out")
    assert other.filled("Sign out")[1]["csrf"] != fields["csrf"]
    assert other.send(path, fields).answer.status_code == 403


@pytest.mark.parametrize("headers", [SAME_SITE, {"Origin": ORIGIN}, {"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin"}], ids=str)
def test_our_own_forms_are_known_whatever_a_browser_says_of_them(anna: Browser, headers: dict[str, str]) -> None:
    path, fields = anna.filled("Sign out")
    assert anna.send(path, fields, headers).answer.status_code == 200
    assert anna.open(SETTINGS).path == "/sign-in"


# Cookies, headers, errors


def cookies_set(answer: Any) -> dict[str, str]:
    return {header.partition("=")[0]: header for header in answer.headers.getlist("Set-Cookie")}


def test_cookies_are_of_this_host_alone_and_no_script_sees_them(client: FlaskClient, anna: Browser) -> None:
    flow = cookies_set(client.get("/sign-in"))[BROWSER]
    path, fields = anna.filled("Sign out")
    ended = cookies_set(anna.client.post(path, data=fields, headers=SAME_SITE))[SESSION]
    for cookie in (flow, ended):
        assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
        assert "Domain" not in cookie
    assert "Max-Age=600" in flow
    assert "Max-Age=0" in ended


def test_every_page_is_kept_nowhere_framed_by_nobody_and_runs_nothing_but_our_files(anna: Browser) -> None:
    for path in (
        "/sign-in?tenant=nobody",
        SETTINGS,
        f"{SETTINGS}/change",
        "/settings/nowhere",
        "/settings/",
        "/connect/google?state=x",
    ):
        answer = anna.client.get(path)
        policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["form-action"] == policy["script-src"] == policy["style-src"] == "'self'"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+=|javascript:", answer.text)


def test_a_page_about_a_person_is_not_packed(anna: Browser) -> None:
    assert "Content-Encoding" not in anna.client.get(SETTINGS, headers={"Accept-Encoding": "gzip"}).headers


def test_what_is_not_there_is_told_as_a_page_with_the_request_id(anna: Browser) -> None:
    answer = anna.open("/settings/nowhere").answer
    assert answer.status_code == 404
    assert anna.refusal == "There is nothing at this address"
    assert answer.headers["X-Request-Id"] in answer.text


def test_a_fault_of_ours_is_told_as_a_page_that_says_nothing_else(
    app: APIFlask, anna: Browser, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> str:
        raise ZeroDivisionError("CANARY-trace")

    app.view_functions["settings.overview"] = broken
    answer = anna.open(SETTINGS).answer
    assert answer.status_code == 500
    assert anna.refusal == "Something went wrong on our side"
    assert "CANARY" not in answer.text
    assert answer.headers["X-Request-Id"] in capsys.readouterr().err


def test_texts_of_others_reach_the_page_as_text(client: FlaskClient) -> None:
    hostile = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    page = client.get("/sign-in", query_string={"tenant": hostile, "next": hostile}).text
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;" in page
