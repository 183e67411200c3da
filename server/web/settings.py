"""User Settings > Sync Settings > E-Mail Configuration: the state of one's mailbox, and the wizard that connects it.

Each step is a page of its own address, so going back and a second tab need nothing remembered here. What changes a connection
asks for a sign-in of the last minutes. A refusal is shown on the page where the person can go on from.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from apiflask import APIBlueprint
from flask import Response, g, jsonify, request
from werkzeug.exceptions import NotFound

from server.errors import InvalidInput, SsiError
from server.services import Deps, Principal, connecting
from server.web.auth import HOME, MAX_ENTRY, MAX_PASSWORD, Door, answer_of_provider, contact
from server.web.catalogue import Text
from server.web.html import Html, Refusal, go, refusal_of
from server.wiring import Face

CHANGE = f"{HOME}/change"
DONE = f"{HOME}/done"

_PLACES: dict[str, connecting.OAuthService] = {"microsoft": "microsoft365", "google": "google"}
"""Last part of a callback's address -> the service that sends people there."""

_ADDRESS = re.compile(r"[^\s@\x00-\x1f]+@[^\s@\x00-\x1f]+")
_LOGIN = re.compile(r"//.*@", re.DOTALL)
"""A login within an address, which is refused, and not shown again."""

_MAX_URL = 2048
_FIELDS = {
    "already_connected": "address",
    "domain_not_admitted": "address",
    "exchange_online": "address",
    "identity_taken": "address",
    "not_a_mailbox": "address",
    "other_account": "address",
    "wrong_account": "address",
    "password_refused": "password",
    "certificate": "url",
    "not_confirmed": "url",
    "server_not_found": "url",
    "server_unreachable": "url",
}
"""Refusal -> the field it is about."""

_WANTS_MORE = frozenset(
    {"password_refused", "account_locked", "certificate", "not_confirmed", "server_not_found", "server_unreachable"}
)
"""Refusals after which the extended login is open."""


class Entry(NamedTuple):
    """What was typed to sign in to Exchange, but for the password, which is never shown again."""

    address: str
    user: str = ""
    url: str = ""


def blueprint(deps: Deps, face: Face, html: Html, door: Door) -> APIBlueprint:
    """Return the routes under /settings and /connect."""
    bp = APIBlueprint("settings", __name__, enable_openapi=False)
    door.watch_settings(bp, wants_fresh=_changes)
    html.take_errors(bp)

    @bp.get("/settings/<path:elsewhere>")
    def nowhere(elsewhere: str) -> Response:
        raise NotFound

    @bp.get(HOME)
    def overview() -> Response:
        seen = connecting.overview(deps, _principal())
        is_untold = "untold" in request.args and (seen.state, seen.service) == ("disconnected", "google")
        return html.page("email.html", overview=seen, words=_words(html.text(), seen), is_untold=is_untold)

    @bp.get(f"{HOME}/progress")
    def progress() -> Response:
        """What the success page's script shows anew. Texts are made here, where the catalogue is."""
        seen = connecting.overview(deps, _principal())
        response = jsonify(_words(html.text(), seen))
        response.headers["Cache-Control"] = "no-store"
        return response

    @bp.get(CHANGE)
    def choose() -> Response:
        seen = connecting.overview(deps, _principal())
        if seen.is_fixed and seen.choices:
            return go(f"{CHANGE}/{seen.choices[0]}")
        return html.page("choice.html", overview=seen)

    @bp.get(f"{CHANGE}/<any(microsoft365, google):service>")
    def at_provider(service: connecting.OAuthService) -> Response:
        return provider_page(service)

    @bp.post(f"{CHANGE}/<any(microsoft365, google):service>")
    def to_provider(service: connecting.OAuthService) -> Response:
        try:
            return leave(service)
        except SsiError as error:
            return provider_page(service, refusal_of(error))

    @bp.get("/connect/<any(microsoft, google):place>")
    def callback(place: str) -> Response:
        try:
            connecting.finish(deps, _principal(), _PLACES[place], browser=g.browser, answer=answer_of_provider())
        except SsiError as error:
            return provider_page(_PLACES[place], refusal_of(error))
        return go(DONE)

    @bp.get(f"{CHANGE}/exchange")
    def exchange() -> Response:
        seen, principal = connecting.overview(deps, _principal()), _principal()
        address = seen.address if seen.service == "exchange" else (principal.user.other_mailbox or principal.user.email)
        return exchange_page(Entry(address, url=seen.ews_url))

    @bp.post(f"{CHANGE}/exchange")
    def connect_exchange() -> Response:
        entry = Entry(*(request.form.get(name, "").strip() for name in Entry._fields))
        password = request.form.get("password", "")
        try:
            _check(entry, password)
            if connecting.exchange_or_outlook(deps, _principal(), entry.address) == "microsoft365":
                return leave("microsoft365", entry.address)
            connecting.connect_exchange(deps, _principal(), **entry._asdict(), password=password)
        except SsiError as error:
            return exchange_page(entry, refusal_of(error))
        return go(DONE)

    @bp.get(DONE)
    def done() -> Response:
        seen = connecting.overview(deps, _principal())
        if seen.state != "active":
            return go(HOME)
        return html.page("done.html", overview=seen, words=_words(html.text(), seen))

    @bp.get(f"{HOME}/disconnect")
    def ask_to_disconnect() -> Response:
        seen = connecting.overview(deps, _principal())
        is_connected = seen.state in ("active", "needs_reauth") and seen.service != "impersonation"
        return html.page("disconnect.html", overview=seen) if is_connected else go(HOME)

    @bp.post(f"{HOME}/disconnect")
    def disconnect() -> Response:
        was_told = connecting.disconnect(deps, _principal())
        return go(HOME if was_told else f"{HOME}?untold=1")

    def leave(service: connecting.OAuthService, address: str = "") -> Response:
        place = "google" if service == "google" else "microsoft"
        uri = f"{face.public_url}/connect/{place}"
        browser = door.browser()
        url = connecting.begin(deps, _principal(), service, browser=browser, redirect_uri=uri, address=address)
        return html.leave(url, place)

    def provider_page(service: connecting.OAuthService, refusal: Refusal | None = None) -> Response:
        seen = connecting.overview(deps, _principal())
        if service not in seen.choices and refusal is None:
            raise NotFound
        status = refusal.status if refusal else 200
        return html.page("provider.html", status, overview=seen, service=service, refusal=refusal, contact=contact())

    def exchange_page(entry: Entry, refusal: Refusal | None = None) -> Response:
        seen = connecting.overview(deps, _principal())
        if "exchange" not in seen.choices and refusal is None:
            raise NotFound
        is_extended = refusal is not None and (refusal.code in _WANTS_MORE or bool(entry.user or entry.url))
        return html.page(
            "exchange.html",
            refusal.status if refusal else 200,
            overview=seen,
            entry=entry._replace(url=_LOGIN.sub("//", entry.url)),
            refusal=refusal,
            field=_field(refusal, entry) if refusal else "",
            is_extended=is_extended,
            contact=contact(),
        )

    return bp


def _changes() -> bool:
    """Say whether the page asked for changes a connection: a browser left open is not enough to change where mail goes."""
    return request.path.startswith((CHANGE, f"{HOME}/disconnect"))


def _principal() -> Principal:
    principal: Principal = g.visitor.principal
    return principal


def _check(entry: Entry, password: str) -> None:
    """Raises: InvalidInput for what cannot be meant, before anybody is asked about it."""
    if not _ADDRESS.fullmatch(entry.address) or len(entry.address) > MAX_ENTRY:
        raise InvalidInput("address", "malformed")
    if len(entry.user) > MAX_ENTRY:
        raise InvalidInput("user", "too_long")
    if len(entry.url) > _MAX_URL:
        raise InvalidInput("url", "too_long")
    if len(password) > MAX_PASSWORD:
        raise InvalidInput("password", "too_long")


def _words(text: Text, seen: connecting.Overview) -> dict[str, Any]:
    """Return how far the first session is, and whether the sidebar called: for the pages, and for their script as JSON."""
    progress = seen.progress
    state = progress.state if progress else "done"
    if progress and state == "running":
        phase = text.named("phase", progress.phase, text.t("phase_other"))
        said = text.t("progress_running", phase=phase, done=progress.done, total=progress.total)
    else:
        said = text.t(f"progress_{state}")
    return {
        "progress": said,
        "state": state,
        "done": progress.done if progress else 1,
        "total": max(1, progress.total) if progress else 1,
        "sidebar": text.t("done_seen" if seen.sidebar_seen else "done_unseen"),
        "is_seen": seen.sidebar_seen,
    }


def _field(refusal: Refusal, entry: Entry) -> str:
    if refusal.code == "exchange_online" and entry.url:
        return "url"
    named: Any = refusal.facts.get("field", "")
    return named if named in (*Entry._fields, "password") else _FIELDS.get(refusal.code, "")
