"""What other sites can have a person's browser do: nothing. The whole state is compared before and after.

Nor do they choose where somebody is sent after signing in, read a cookie, or find an answer of ours without its head.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from apiflask import APIFlask
from werkzeug.test import TestResponse

from server import wiring
from server.config import Settings
from server.services import Deps
from server.store.schema import metadata
from server.web import MAX_BODY_BYTES, create_app
from server.web.auth import BROWSER, HOME, SESSION
from simulator.world import World
from tests.figures import Count
from tests.web.browser import ORIGIN, SAME_SITE, SETTINGS, Browser
from tests.web.test_doors import BY_TOKEN, FOREIGN, HOSTILE, changing, cookies_set

CONTINUE = "Continue to your company's sign-in"
CRM = "https://my000001.crm.example.com"
CALLBACK = f"/sign-in/callback/{'0' * 32}"
KINDS = {
    "form": "application/x-www-form-urlencoded",
    "parts": "multipart/form-data; boundary=x",
    "plain": "text/plain",
}


def state(deps: Deps, world: World) -> dict[str, Any]:
    """Everything that somebody could change: all rows, and what happened at the vendors."""
    with deps.store._engine.connect() as connection:
        rows = {table.name: sorted(map(repr, connection.execute(table.select()))) for table in metadata.sorted_tables}
    return rows | {"vendors": len(world.log)}


# Forms of other sites


def test_what_another_site_sends_is_refused_and_changes_nothing(
    app: APIFlask, anna: Browser, deps: Deps, world: World, count: Count
) -> None:
    token, refused = anna.filled("Sign out")[1]["csrf"], 0
    before = state(deps, world)
    bodies = {
        "form": f"csrf={token}&address=a%40b.example&password=x",
        "parts": f'--x\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n{token}\r\n--x--\r\n',
        "plain": f"csrf={token}",
    }
    for path in sorted(changing(app)):
        status = 404 if path.startswith("/hooks/") else 403  # where cookies mean nothing, and nobody is awaited here
        for kind, body in bodies.items():
            for headers in FOREIGN:
                answer = anna.client.post(path, data=body, content_type=KINDS[kind], headers=headers)
                assert answer.status_code == status, (path, kind, headers)
                refused += 1
        for method in ("PUT", "PATCH", "DELETE"):
            answer = anna.client.open(path, method=method, data=bodies["form"], content_type=KINDS["form"], headers=SAME_SITE)
            assert answer.status_code in (status, 405), (method, path)
            refused += 1
    assert state(deps, world) == before
    count("web: cross-site posts refused", refused)


def test_the_api_takes_no_cookie_for_a_token(app: APIFlask, anna: Browser, deps: Deps, world: World, count: Count) -> None:
    before, refused = state(deps, world), 0
    for rule in app.url_map.iter_rules():
        if not str(rule).startswith(BY_TOKEN) or "POST" not in (rule.methods or set()):
            continue
        path = re.sub(r"<[^>]+>", "0" * 32, str(rule))
        for content_type in (*KINDS.values(), "application/json"):
            for headers in FOREIGN:
                answer = anna.client.post(path, data="{}", content_type=content_type, headers=headers)
                assert answer.status_code in (401, 415), (path, content_type)
                assert "Access-Control-Allow-Origin" not in answer.headers
                refused += 1
    assert state(deps, world) == before
    count("web: cross-site posts refused", refused)


def reading(app: APIFlask) -> Iterator[str]:
    """The address of everything of ours that is got, with values of which some exist."""
    for rule in app.url_map.iter_rules():
        if "GET" in (rule.methods or set()):
            choice = re.search(r"<any\(([\w, ]+)\):\w+>", str(rule))
            for value in choice[1].split(", ") if choice else ["0" * 32]:
                yield re.sub(r"<[^>]+>", value, str(rule))


def test_to_get_a_page_changes_nothing(app: APIFlask, anna: Browser, deps: Deps, world: World) -> None:
    paths = sorted(set(reading(app)))
    assert {"/sign-in", SETTINGS, CALLBACK, "/pane/sign-in", f"{SETTINGS}/disconnect", "/connect/google"} <= set(paths)
    before = state(deps, world)
    for path in paths:
        for query in ("", "?state=x&code=y", "?next=/settings/sync/email&fresh=1", "?disconnect=1&csrf=x"):
            assert anna.client.get(path + query, headers={"Sec-Fetch-Site": "cross-site"}).status_code < 500
            anna.client.head(path + query)
    assert state(deps, world) == before


# Where one is sent


def stays(answer: TestResponse) -> bool:
    """Whether an answer sends the browser nowhere, or to a page of ours, read as browsers read addresses."""
    location = answer.headers.get("Location", "")
    away = urlsplit(urljoin(f"{ORIGIN}/sign-in", location.replace("\\", "/").strip()))
    return f"{away.scheme}://{away.netloc}" == ORIGIN and not re.search(r"[\x00-\x20\\]|//", location)


def test_nowhere_else_is_one_sent_by_what_an_address_says(anna: Browser, deps: Deps, count: Count) -> None:
    csrf = _entry_token(anna)
    for wanted in HOSTILE:
        answer = anna.client.get("/sign-in", query_string={"next": wanted})
        assert (answer.status_code, answer.headers["Location"]) == (303, HOME), wanted
        fields = {"csrf": csrf, "tenant": "demo", "next": wanted}
        assert anna.client.post("/sign-in", data=fields, headers=SAME_SITE).status_code == 200
    for name in ("next", "return_to", "redirect_uri", "redirect", "url", "goto"):
        for path in ("/settings/", "/sign-in", CALLBACK, "/connect/google", f"{SETTINGS}/done", "/pane/sign-in"):
            for wanted in HOSTILE[::25]:
                assert stays(anna.client.get(path, query_string={name: wanted}))
                count("web: redirects tried", 1)
    for host in ("evil.example", "evil.example:443", "sidebar.example.com.evil.example"):
        headers = {"Host": host, "X-Forwarded-Host": host, "Forwarded": f"host={host}", "X-Original-URL": f"//{host}"}
        assert stays(anna.client.get("/settings/", headers=headers))
    with deps.store._engine.connect() as connection:
        kept = {row.next_path for row in connection.exec_driver_sql("SELECT next_path FROM flow")}
    assert kept == {HOME}
    count("web: redirects tried", 2 * len(HOSTILE) + 3)


def _entry_token(browser: Browser) -> str:
    stranger = Browser(browser.client.application, browser.simulator, browser.person)
    token: str = stranger.open("/sign-in").filled(CONTINUE)[1]["csrf"]
    browser.client.set_cookie(BROWSER, stranger.cookie(BROWSER))
    return token


@pytest.mark.parametrize("every", [40, pytest.param(1, marks=pytest.mark.soak)])
def test_after_a_whole_sign_in_one_is_at_a_page_of_ours(
    visitor: Callable[..., Browser], tenant: str, every: int, count: Count
) -> None:
    for wanted in HOSTILE[::every]:
        browser = visitor()
        browser.answer = browser.client.get("/sign-in", query_string={"next": wanted})
        path, fields = browser.filled(CONTINUE)
        browser.answer = browser.client.post(path, data={**fields, "next": wanted}, headers=SAME_SITE)
        back = urlsplit(browser.at_provider(browser.leaving()))
        assert f"{back.scheme}://{back.netloc}{back.path}" == f"{ORIGIN}/sign-in/callback/{tenant}"
        answer = browser.client.get(f"{back.path}?{back.query}&next=//evil.example")
        assert (answer.status_code, answer.headers["Location"]) == (303, HOME), wanted
        count("web: redirects tried", 1)


# Cookies and headers


def signed_in(browser: Browser) -> TestResponse:
    """Return the answer that gives a browser its session."""
    path, fields = browser.open(SETTINGS).filled(CONTINUE)
    browser.answer = browser.client.post(path, data=fields, headers=SAME_SITE)
    back = urlsplit(browser.at_provider(browser.leaving()))
    return browser.client.get(f"{back.path}?{back.query}")


def test_a_framed_page_gets_cookies_that_are_apart_for_each_site_that_frames_it(
    deps: Deps, settings: Settings, visitor: Callable[..., Browser]
) -> None:
    alone = signed_in(visitor())
    framed = create_app(deps, replace(wiring.face(settings), pages_frame_ancestors=(CRM,)))
    first = visitor()
    browser = Browser(framed, first.simulator, first.person)
    entry = browser.client.get("/sign-in")
    within = [cookies_set(entry)[BROWSER], cookies_set(signed_in(browser))[SESSION]]
    for cookie in (cookies_set(alone)[SESSION], *within):
        assert cookie.startswith("__Host-ssi")
        assert {"Secure", "HttpOnly", "Path=/"} <= set(cookie.split("; "))
        assert "Domain" not in cookie
    assert "SameSite=Lax" in cookies_set(alone)[SESSION]
    for cookie in within:
        assert {"SameSite=None", "Partitioned"} <= set(cookie.split("; "))
    assert f"frame-ancestors {CRM}" in entry.headers["Content-Security-Policy"]


def check_head(answer: TestResponse, *, is_page: bool) -> None:
    head, where = answer.headers, (answer.request.path, answer.status_code)
    assert head["X-Content-Type-Options"] == "nosniff", where
    assert int(re.findall(r"max-age=(\d+)", head["Strict-Transport-Security"])[0]) >= 31_536_000, where
    assert head["Referrer-Policy"] == "no-referrer", where
    policy = head["Content-Security-Policy"]
    assert "object-src 'none'" in policy, where
    assert "base-uri 'none'" in policy, where
    assert "frame-ancestors" in policy, where
    assert "unsafe" not in policy, where
    if is_page:
        assert head.get("Cache-Control") == "no-store", where


def test_every_route_and_every_error_has_its_head(
    app: APIFlask, anna: Browser, visitor: Callable[..., Browser], deps: Deps, count: Count
) -> None:
    answers = [who.client.get(path) for path in sorted(set(reading(app))) for who in (visitor(), anna)]
    entry = {"csrf": _entry_token(anna), "tenant": "demo", "user": "x", "password": "x"}
    own = anna.open(f"{SETTINGS}/change").filled("Continue to Microsoft")[1]
    answers += [
        anna.client.post("/sign-in", data={}),
        anna.client.post("/sign-in/password", data=entry, headers=SAME_SITE),
        anna.client.post("/sign-in", data={**entry, "tenant": "none"}, headers=SAME_SITE),
        anna.client.post("/sign-in", data="x" * (MAX_BODY_BYTES + 1), content_type=KINDS["form"], headers=SAME_SITE),
        anna.client.post(f"{SETTINGS}/change/google", data=own, headers=SAME_SITE),
        anna.client.get("/connect/google?state=x&state=y"),
        anna.client.get(f"{CALLBACK}?error=access_denied&state=x"),
        anna.client.get("/settings/nothing/here"),
        anna.client.delete(SETTINGS, headers=SAME_SITE, data=own),
        anna.client.put("/sign-in", headers=SAME_SITE, data=entry),
    ]
    with deps.store._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE organization SET access_type = 'pigeon'")
    answers += [anna.client.get(SETTINGS), anna.client.post(f"{SETTINGS}/disconnect", data=own, headers=SAME_SITE)]
    assert {200, 303, 400, 403, 404, 405, 413, 422, 500} <= {answer.status_code for answer in answers}
    for answer in answers:
        check_head(answer, is_page=answer.request.path.startswith(("/sign-in", "/settings", "/connect", "/pane")))
    count("web: heads of answers looked at", len(answers))
