"""Who is asked, and the simulator's mail client for the tests of it. A test module may have a `world` of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from flask import Flask, send_file
from flask.testing import FlaskClient
from playwright.sync_api import Browser, Playwright

from simulator import demo
from simulator.google import identity as google_identity
from simulator.inbox import create_app
from simulator.inbox.add_on import AddOn
from simulator.serving import Port
from simulator.world import Person, World
from tests.simulator.holder import Holder
from tests.simulator.inbox_page import ADD_IN, CHROMIUM, DIALOG, MSAL, PICTURES, SIGN_IN_SCRIPT, SIGNED_IN, Client


@pytest.fixture(scope="module")
def holder() -> Holder:
    return Holder()


@pytest.fixture(scope="module")
def port(app: Flask) -> Iterator[Port]:
    """A port for the vendor's app that the test module gives."""
    with Port(app) as port:
        yield port


@pytest.fixture
def world(holder: Holder) -> World:
    holder.world = demo.small()
    return holder.world


@pytest.fixture
def me(world: World) -> Person:
    return world.people[0]


@pytest.fixture
def client(world: World) -> FlaskClient:
    app = create_app(lambda: world, sidebar_url=lambda: "http://127.0.0.1:1/sidebar", mint_token=lambda p: f"token of {p.email}")
    return app.test_client()


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        pytest.fail(f"The browser tests need {CHROMIUM}; ./run test installs it")
    launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
    yield launched
    launched.close()


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Iterator[Client]:
    """One tab for all tests, since a new one costs a second; the World behind it is each test's own."""
    add_in = Flask("add-in")
    with ExitStack() as stack:
        pane = stack.enter_context(Port(add_in))
        context = stack.enter_context(browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce"))
        tab = Client(context.new_page(), "")
        google = google_identity.create_app(lambda: tab.world, public_url=lambda: "https://accounts.example.com")
        app = create_app(
            lambda: tab.world,
            sidebar_url=lambda: f"{pane.url}/sidebar",
            mint_token=lambda person: f"token of {person.email}",
            add_on=AddOn(google_identity.identity_of(google), lambda: True),
        )
        port = stack.enter_context(Port(app))
        add_in.add_url_rule("/sidebar", "sidebar", lambda: ADD_IN % port.url)
        add_in.add_url_rule("/dialog", "dialog", lambda: DIALOG % port.url)
        add_in.add_url_rule("/pane/sign-in", "signed_in", lambda: SIGNED_IN % port.url)
        add_in.add_url_rule("/pane-sign-in.js", "sign_in_script", lambda: send_file(SIGN_IN_SCRIPT))
        add_in.add_url_rule("/gmail/<what>", "gmail", lambda what: tab.endpoint.answer(what), methods=["POST"])
        add_in.add_url_rule("/pictures/<name>", "pictures", lambda name: PICTURES[name])
        tab.endpoint.url = pane.url
        add_in.add_url_rule("/msal.js", "msal", lambda: send_file(MSAL))
        tab.url = port.url
        yield tab


@pytest.fixture
def inbox(tab: Client, world: World) -> Iterator[Client]:
    tab.world, tab.errors = world, []
    tab.endpoint.calls, tab.endpoint.answers = [], {}
    yield tab
    for opened in set(tab.page.context.pages) - {tab.page}:
        opened.close()  # a dialog that is left would be used again by the next test's, by its name
    tab.page.goto("about:blank")
    assert tab.errors == []
