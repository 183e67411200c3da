"""User Settings beside the mailbox's connection: Dashboard, Issues, Detailed Settings, Add-In Settings.

Each page takes its own forms, whose buttons are called `do`, and comes back to itself. What the organization locks is shown and
cannot be changed. All works without scripts: one keeps progress up to date, one puts times into the reader's zone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from apiflask import APIBlueprint
from flask import Response, g, jsonify, request
from werkzeug.exceptions import BadRequest

from server.domain.profile import MAX_BLOCKLISTED
from server.domain.records import CARD_FIELDS, CARD_ORDER, RECORD_TYPES
from server.domain.sentences import field_name
from server.errors import InvalidInput, NotFound
from server.services import Deps, Principal, issues, syncing, threads
from server.web.auth import Door, contact
from server.web.catalogue import Text
from server.web.html import Html, Refusal, go, refusal_of

Step = TypeVar("Step")

DASHBOARD = "/settings/"
ISSUES = "/settings/issues"
SYNC = "/settings/sync"
ADD_IN = "/settings/add-in"

SHOWN_ISSUES = 200  # on one page
KINDS = ("mailbox", "email", "contact", "account", "individual_customer")
"""Kinds of issues, in the order of the page."""

_PERSON_TYPES = {"contacts": "contact", "accounts": "account", "individual_customers": "individual_customer"}
_CHOICES = (*(f"{kind}_filter" for kind in _PERSON_TYPES), "conflict_winner", "deleting")
_SWITCHES = (
    *(f"{kind}_read_only" for kind in _PERSON_TYPES),
    *("contacts_home", "create_accounts", "save_marked", "auto_save", "follow_threads", "save_attachments"),
)
_READ: Mapping[str, Callable[[str], Any]] = {
    **dict.fromkeys(_CHOICES, str),
    "default_country": lambda text: text.strip().upper(),
    "link_all": lambda text: text == "all",
    "interval_min": lambda text: int(text) if text.strip().isdecimal() and len(text) < 10 else text,
    "blocklisted_domains": lambda text: tuple(text.splitlines()),
    "blocklisted_addresses": lambda text: tuple(text.splitlines()),
}
"""Setting -> its value in the text of a form. Switches have none: they are on if they are there."""


def blueprint(deps: Deps, html: Html, door: Door) -> APIBlueprint:
    """Return the routes under /settings that are not about connecting a mailbox."""
    bp = APIBlueprint("dashboard", __name__, enable_openapi=False)
    door.watch_settings(bp)
    html.take_errors(bp)

    @bp.get(DASHBOARD)
    def dashboard() -> Response:
        return dashboard_page()

    @bp.get(f"{DASHBOARD}progress")
    def progress() -> Response:
        """What the dashboard's script shows anew."""
        response = jsonify(words_of(html.text(), syncing.engine(deps, _principal(), language=html.text().language)))
        response.headers["Cache-Control"] = "no-store"
        return response

    @bp.post(DASHBOARD)
    def steer() -> Response:
        steps = {"force": syncing.force, "suspend": syncing.suspend, "resume": syncing.resume}
        try:
            _chosen(steps)(deps, _principal())
        except syncing.CannotSync as error:
            return dashboard_page(Refusal(error.code, {}, str(error), 409))
        return go(DASHBOARD)

    @bp.get(ISSUES)
    def list_issues() -> Response:
        return issues_page()

    @bp.post(ISSUES)
    def mend() -> Response:
        """Try an item again, or give an answer."""
        issue_id, do = request.form.get("id", ""), request.form.get("do", "")
        try:
            if do == "retry":
                issues.retry(deps, _principal(), issue_id)
            else:
                issues.answer(deps, _principal(), issue_id, do)
        except (NotFound, InvalidInput):  # mended or answered meanwhile
            return issues_page(Refusal("issue_gone", {}, "", 409))
        return go(ISSUES)

    @bp.get(SYNC)
    def details() -> Response:
        return sync_page()

    @bp.post(SYNC)
    def change_details() -> Response:
        steps = {"save": save_details, "unfollow": unfollow}
        return _chosen(steps)()

    def save_details() -> Response:
        settings = syncing.own_settings(_principal())
        entered: dict[str, Any] = {name: name in request.form for name in _SWITCHES}
        entered |= {name: read(request.form[name]) for name, read in _READ.items() if name in request.form}
        entered = {name: value for name, value in entered.items() if name in request.form or not settings[name].is_locked}
        try:
            syncing.change_settings(deps, _principal(), entered)
        except InvalidInput as error:
            typed = {name: settings[name]._replace(value=value) for name, value in entered.items()}
            return sync_page(refusal_of(error), settings | typed)
        return go(f"{SYNC}?saved=1")

    def unfollow() -> Response:
        threads.end(deps, _principal(), request.form.get("id", ""))
        return go(f"{SYNC}#threads")

    @bp.get(ADD_IN)
    def add_in() -> Response:
        return add_in_page()

    @bp.post(ADD_IN)
    def change_add_in() -> Response:
        principal = _principal()
        standard, settings = principal.organization.profile, syncing.own_settings(principal)
        chosen = {kind: tuple(f for f in fields if f"{kind}.{f}" in request.form) for kind, fields in CARD_FIELDS.items()}
        differing = {kind: names for kind, names in chosen.items() if names != standard.fields_of(kind)}
        entered: dict[str, Any] = {"leads_enabled": "leads_enabled" in request.form}
        entered["card_fields"] = {**standard.card_fields, **differing}
        entered = {name: value for name, value in entered.items() if not settings[name].is_locked}
        try:
            syncing.choose_language(deps, principal, request.form.get("language", ""))
            syncing.change_settings(deps, principal, entered)
        except InvalidInput as error:
            return add_in_page(refusal_of(error))
        return go(f"{ADD_IN}?saved=1")

    def dashboard_page(refusal: Refusal | None = None) -> Response:
        seen = syncing.overview(deps, _principal(), language=html.text().language)
        return page("dashboard.html", refusal, seen=seen, words=words_of(html.text(), seen.engine), contact=contact())

    def issues_page(refusal: Refusal | None = None) -> Response:
        total = syncing.count_issues(deps, _principal())
        language = html.text().language
        told = issues.told(deps, _principal(), SHOWN_ISSUES, language=language)
        groups = {kind: [one for one in told if one.kind == kind] for kind in KINDS}
        called = partial(field_name, language=language)
        return page("issues.html", refusal, groups=groups, total=total, shown=len(told), field_name=called)

    def sync_page(refusal: Refusal | None = None, settings: Mapping[str, syncing.Setting] | None = None) -> Response:
        principal = _principal()
        return page(
            "sync.html",
            refusal,
            settings=settings or syncing.own_settings(principal),
            profile=principal.organization.profile,
            threads=threads.followed(deps, principal),
            contact=contact(),
            max_entries=MAX_BLOCKLISTED,
        )

    def add_in_page(refusal: Refusal | None = None) -> Response:
        principal = _principal()
        return page(
            "add_in.html",
            refusal,
            settings=syncing.own_settings(principal),
            shown={kind: principal.profile.fields_of(kind) for kind in RECORD_TYPES},
            card_fields=CARD_FIELDS,
            first=CARD_ORDER,
            languages=syncing.LANGUAGES,
            chosen=principal.user.language or html.text().language,
            contact=contact(),
        )

    def page(template: str, refusal: Refusal | None, **values: Any) -> Response:
        is_saved = refusal is None and "saved" in request.args
        return html.page(template, refusal.status if refusal else 200, refusal=refusal, is_saved=is_saved, **values)

    return bp


def words_of(text: Text, engine: syncing.Engine) -> dict[str, Any]:
    """Return how far the session is, for the page, and for its script as JSON."""
    said = text.named("engine", engine.state, "")
    if engine.state == "running" and (engine.phase or engine.is_first):
        phase = text.named("phase", engine.phase, text.t("phase_other"))
        numbers = {"done": text.number(engine.done), "total": text.number(engine.total)}
        said = text.t("engine_phase", phase=phase, **numbers) if engine.total else f"{phase}."
        said = f"{said} {_left(text, engine.left_s)}" if engine.left_s is not None else said
    return {"progress": said, "state": engine.state, "done": engine.done, "total": max(1, engine.total)}


def _left(text: Text, seconds: float) -> str:
    if seconds < 90:
        return text.t("left_soon")
    if seconds < 5400:
        return text.t("left_minutes", minutes=round(seconds / 60))
    return text.t("left_hours", hours=round(seconds / 3600))


def _chosen(steps: Mapping[str, Step]) -> Step:
    """Return what the pressed button stands for. Raises: BadRequest."""
    step = steps.get(request.form.get("do", ""))
    if step is None:
        raise BadRequest
    return step


def _principal() -> Principal:
    principal: Principal = g.visitor.principal
    return principal
