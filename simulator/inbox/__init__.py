"""A web mail client over the World's mailboxes that hosts the sidebar as Outlook on the web does; to each mailbox it looks like
the client of whoever hosts it: Outlook, an Exchange server's Outlook on the web, or Gmail.

`/` is the client's page (static ES modules), `/api` its JSON, `/office.js` what the sidebar's page loads instead of
Microsoft's script, `/addon` what Google does for the Gmail add-on, which can stand in the sidebar's place, `/world` the back door
for tests and the developer bar, `/c4c/record` what a link into C4C opens.
A person's clicks change the World directly, as they would in a mailbox; nothing here is a vendor, so nothing is slow,
fails on demand or enters the access log. The misbehaviour of real hosts lives in the page (`static/host.js`).
"""

from __future__ import annotations

import mimetypes
from collections.abc import Callable
from urllib.parse import urlsplit

from flask import Flask, Response, jsonify, send_from_directory
from werkzeug.exceptions import HTTPException

from simulator.google.book import AddressBook
from simulator.google.discovery import Description
from simulator.google.mail import Gmail
from simulator.inbox import add_on as gmail_add_on, backdoor, contacts, mailboxes, records
from simulator.world import GetWorld, Person


def create_app(
    get_world: GetWorld,
    *,
    sidebar_url: Callable[[], str],
    mint_token: Callable[[Person], str],
    mint_identity_token: Callable[[Person, str], str] | None = None,
    gmail: Gmail | None = None,
    book_of: Callable[[Person], AddressBook] | None = None,
    turns: backdoor.Turns | None = None,
    add_on: gmail_add_on.AddOn | None = None,
) -> Flask:
    """Return the inbox's application.

    `sidebar_url` gives the address of the pane's page, asked anew for each page view, "" while there is no server;
    `mint_token` gives a token for the product's API for that person, what Office.auth.getAccessToken answers;
    `mint_identity_token` gives what getUserIdentityTokenAsync answers for a person whose mailbox is on an Exchange server and a
    pane at that address; without it nobody gets one. `gmail` is what answers at Google's port, so that both know the same of a
    label; without it the inbox has one of its own. `book_of` gives somebody's contacts at Google; without it there are none.
    `turns` are what the back door can let happen to a person. `add_on` is the Gmail add-on; without it there is the sidebar only.
    """
    # Windows and slim images know no type for modules; a browser refuses one that is not JavaScript.
    mimetypes.add_type("text/javascript", ".js")
    app = Flask(__name__, static_folder="static", static_url_path="/static")
    app.json.sort_keys = False  # type: ignore[attr-defined]  # Flask's default provider has it
    gmail = gmail or Gmail(Description("gmail.v1").palette)
    app.register_blueprint(
        mailboxes.blueprint(
            get_world,
            gmail,
            sidebar_url=sidebar_url,
            mint_token=mint_token,
            mint_identity_token=mint_identity_token,
            has_add_on=add_on is not None,
        )
    )
    app.register_blueprint(contacts.blueprint(get_world, book_of))
    app.register_blueprint(gmail_add_on.blueprint(get_world, add_on, lambda: _origin(sidebar_url())))
    app.register_blueprint(backdoor.blueprint(get_world, turns or {}))
    app.register_blueprint(records.blueprint(get_world))

    @app.get("/")
    def page() -> Response:
        response = send_from_directory(str(app.static_folder), "index.html")
        response.headers["Content-Security-Policy"] = _policy(sidebar_url())
        return response

    @app.get("/office.js")
    def office_js() -> Response:
        response = send_from_directory(str(app.static_folder), "office.js")
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        return response

    @app.after_request
    def always_fresh(response: Response) -> Response:
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    @app.errorhandler(HTTPException)
    def refuse(error: HTTPException) -> tuple[Response, int]:
        return jsonify(error=error.description), error.code or 500

    return app


def _policy(sidebar: str) -> str:
    """Let the page run its own scripts only, and frame only its own messages and the sidebar's origin."""
    framed = f"'self' {_origin(sidebar)}" if sidebar else "'self'"
    return (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; frame-ancestors 'self'; "
        f"frame-src {framed}"
    )


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""
