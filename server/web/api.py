"""JSON for the pane. A view parses, calls one use case, and renders."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

from apiflask import APIBlueprint
from flask import Response, g, request
from werkzeug.exceptions import UnsupportedMediaType

from server.domain.records import RECORD_TYPES, RecordRef, RecordType
from server.errors import Forbidden, NeedsReauth, NotFound
from server.services import Caller, Deps, Principal, connections, context, issues, records, saving, syncing
from server.web import models as m
from server.web.catalogue import chosen
from server.web.limits import GRACE_S, Deadline, check_shape
from server.web.problems import problem, too_often
from server.web.throttle import Throttle, network

MAX_ISSUES = 50  # in one answer

_PROBLEMS = {
    400: "The body is not JSON.",
    401: "The token is missing or no longer good.",
    403: "The person is known but not set up.",
    404: "There is no such thing for this caller.",
    409: "A save was accepted, and failed: `save_id` names it. Or no session can begin, or a record changed: `code` says why.",
    413: "The body is too large.",
    415: "The body is not declared as JSON.",
    422: "Refused before anything was written.",
    429: "Too many calls; `retry_after_s` says when the next one is welcome.",
    503: "A service behind this one does not answer right now.",
}


IN_PATHS: Mapping[str, dict[str, Any]] = {
    "save_id": {"pattern": "^[0-9a-f]{32}$"},
    "record_id": {"pattern": "^[0-9A-Fa-f]{32}$"},
    "type": {"enum": list(RECORD_TYPES)},
}
"""What a variable of a path may be, for the description."""

_ASKING_C4C = frozenset({"api.search", "api.record"})
"""Calls that only read, and that cost as much as a lookup all the same."""

_BODY = (400, 413, 415, 422)
"""What may be wrong with a body."""


def _documented(*statuses: int) -> dict[int, Any]:
    content = {"application/problem+json": {"schema": _problem_schema()}}
    return {status: {"description": _PROBLEMS[status], "content": content} for status in (*statuses, 429)}


@cache
def _problem_schema() -> dict[str, Any]:
    return m.ProblemOut.model_json_schema()


def blueprint(deps: Deps) -> APIBlueprint:
    """Return the routes under /api."""
    bp = APIBlueprint("api", __name__, url_prefix="/api", tag="Pane")
    in_time = Deadline(deps.limits.context_deadline_s + GRACE_S).keep
    users, tenants = (Throttle(n, deps.now) for n in (deps.limits.user_calls_per_minute, deps.limits.tenant_calls_per_minute))
    strangers = Throttle(deps.limits.failed_sign_ins_per_minute, deps.now)

    @bp.before_request
    def _only_json() -> None:
        """What a form of another site could send is not taken, whatever it holds."""
        has_body = request.content_length or "Transfer-Encoding" in request.headers
        if has_body and not request.is_json:
            raise UnsupportedMediaType

    @bp.before_request
    def _only_known_people() -> Response | None:
        """Know who calls before anything of the body is read. A preflight carries no token."""
        if request.method == "OPTIONS":
            return None
        try:
            g.caller = in_time(partial(_identified, deps, request.headers.get("Authorization", "")))
        except (NeedsReauth, Forbidden):
            # Who shares the address of somebody who tries keys is not shut out: good tokens do not come here.
            wait_s = strangers.take(network(request.remote_addr))
            if wait_s:
                return too_often("Too many sign-ins from here failed.", wait_s)
            raise
        return None

    @bp.before_request
    def _not_too_often() -> Response | None:
        if request.method == "OPTIONS":
            return None
        is_light = request.method == "GET" and request.endpoint not in _ASKING_C4C
        principal, cost = _caller().principal, 0.1 if is_light else 1.0
        wait_s = users.take(principal.user.id, cost) or tenants.take(principal.tenant.id, cost)
        return too_often("That was very quick.", wait_s) if wait_s else None

    @bp.before_request
    def _only_flat_objects() -> None:
        if request.is_json and request.get_data():
            check_shape(request.get_json())

    @bp.get("/me")
    @bp.output(m.MeOut)
    @bp.doc(summary="Who am I, and which mailbox", security="bearer", responses=_documented(401, 403, 503))
    def me() -> m.MeOut:
        principal = _caller().principal
        connection = in_time(lambda: connections.own_connection(deps, principal))
        provider = connection.provider if connection else connections.provider_of(principal)
        return m.MeOut(
            user=m.PersonOut(name=principal.user.name, email=principal.user.email),
            tenant=principal.tenant.name,
            mailbox=m.MailboxOut(
                address=connection.mailbox if connection else principal.user.email,
                provider=provider,
                state=connection.state if connection else "not_connected",
                reason=connection.reason if connection else "",
            ),
            capabilities=sorted(deps.capabilities(provider)),
            admin_contact=principal.organization.admin_contact,
            settings=m.PaneSettings(
                leads_enabled=principal.profile.leads_enabled,
                max_file_bytes=principal.profile.max_file_bytes,
            ),
        )

    @bp.post("/context")
    @bp.input(m.ContextIn, arg_name="body")
    @bp.output(m.ContextOut)
    @bp.doc(summary="Who is on this message, and is it saved", security="bearer", responses=_documented(*_BODY, 401, 403, 503))
    def look_up(body: m.ContextIn) -> m.ContextOut:
        caller = _caller()
        if caller.principal.user.sidebar_seen_at is None:
            connections.sidebar_seen(deps, caller.principal)
        look_up = partial(
            context.look_up,
            deps,
            caller.principal,
            body.item.value(),
            mode=body.mode,
            complete=body.complete,
            refresh=body.refresh,
            anyway=body.anyway,
            waited_s=time.perf_counter() - g.started,
        )
        found = in_time(look_up)
        if found.notice is None:
            found = replace(found, notice=in_time(lambda: connections.trouble(deps, caller)))
        return m.context_out(found, (time.perf_counter() - g.started) * 1000)

    @bp.post("/link")
    @bp.input(m.LinkIn, arg_name="body")
    @bp.output(m.LinkOut)
    @bp.doc(
        summary="Bind an Exchange identity token to who signed in by the dialog",
        security="bearer",
        responses=_documented(*_BODY, 401, 403, 503),
    )
    def link(body: m.LinkIn) -> m.LinkOut:
        connections.link(deps, _caller(), body.token)
        return m.LinkOut()

    @bp.post("/saves/preview")
    @bp.input(m.PreviewIn, arg_name="body")
    @bp.output(m.PreviewOut)
    @bp.doc(summary="What a save would hold", security="bearer", responses=_documented(*_BODY, 401, 403, 404, 503))
    def preview(body: m.PreviewIn) -> m.PreviewOut:
        return m.preview_out(saving.preview(deps, _caller(), body.item.value()))

    @bp.post("/saves")
    @bp.input(m.SaveIn, arg_name="body")
    @bp.output(m.SaveOut, status_code=201)
    @bp.doc(
        summary="Save the message",
        description="201 saved now, 200 saved before, 202 accepted and not finished. The same message again is the same save.",
        security="bearer",
        responses={200: "Saved before", 202: "Accepted, not finished", **_documented(*_BODY, 401, 403, 404, 409, 503)},
    )
    def save(body: m.SaveIn) -> Any:
        return _answer(saving.accept(deps, _caller(), body.item.value(), body.wish(), follow_thread=body.follow_thread))

    @bp.get("/saves/<string(length=32):save_id>")
    @bp.output(m.SaveOut)
    @bp.doc(summary="State of a save", security="bearer", responses=_documented(401, 403, 404, 503))
    def save_state(save_id: str) -> m.SaveOut:
        principal = _caller().principal
        return m.save_out(in_time(lambda: saving.status(deps, principal, save_id)))

    @bp.post("/saves/<string(length=32):save_id>/retry")
    @bp.output(m.SaveOut)
    @bp.doc(
        summary="Try a save again",
        security="bearer",
        responses={202: "Accepted, not finished", **_documented(401, 403, 404, 409, 422, 503)},
    )
    def retry(save_id: str) -> Any:
        outcome = saving.retry(deps, _caller(), save_id)
        answer, status = _answer(outcome), 200
        return answer if isinstance(answer, Response) else (answer[0], 202 if answer[1] == 202 else status)

    @bp.get("/search")
    @bp.input(m.SearchIn, location="query", arg_name="query")
    @bp.output(m.SearchOut)
    @bp.doc(
        summary="Find records by name, e-mail address or telephone number",
        description="At most 50, the best first; `more` says that there are others. `failed` could not be asked for.",
        security="bearer",
        responses=_documented(401, 403, 422, 503),
    )
    def search(query: m.SearchIn) -> m.SearchOut:
        principal = _caller().principal
        find = partial(records.search, deps, principal, query.q, waited_s=time.perf_counter() - g.started)
        return m.search_out(in_time(find), principal.profile)

    @bp.get("/records/<string:type>/<string(length=32):record_id>")
    @bp.output(m.DetailOut)
    @bp.doc(summary="One record, and what belongs to it", security="bearer", responses=_documented(401, 403, 404, 503))
    def record(type: str, record_id: str) -> m.DetailOut:
        principal, ref = _caller().principal, RecordRef(_record_type(type), record_id)
        look = partial(records.detail, deps, principal, ref, waited_s=time.perf_counter() - g.started)
        return m.detail_out(in_time(look), principal.profile)

    @bp.post("/records/<string:type>")
    @bp.input(m.CreateIn, arg_name="body")
    @bp.output(m.RecordOut, status_code=201)
    @bp.doc(
        summary="Create a record",
        description="Of `values` each type takes and needs some:\n\n"
        + "\n".join(f"- {type}: {_form(type)}" for type in records.FORMS)
        + "\n\nThe same `key` again makes no second record. 503 `unknown_outcome`: it may be there, look before you try again.",
        security="bearer",
        responses=_documented(*_BODY, 401, 403, 404, 409, 503),
    )
    def create(type: str, body: m.CreateIn) -> m.RecordOut:
        principal = _caller().principal
        made = records.create(deps, principal, _record_type(type), body.given(), key=body.key)
        return m.record_out(made, principal.profile)

    @bp.get("/sync")
    @bp.output(m.SyncOut)
    @bp.doc(
        summary="What the sync engine is at",
        description="Causes and remedies are in the language of Accept-Language, else in the person's.",
        security="bearer",
        responses=_documented(401, 403, 503),
    )
    def sync_state() -> m.SyncOut:
        principal, language = _caller().principal, _language()
        return in_time(lambda: _sync(deps, principal, language))

    @bp.post("/sync")
    @bp.output(m.SyncOut, status_code=202)
    @bp.doc(
        summary="Force Sync",
        description="202: a session begins now, or right after the one under way. 409: none can; `code` says why.",
        security="bearer",
        responses={202: "A session begins", **_documented(401, 403, 409, 503)},
    )
    def force_sync() -> Any:
        principal = _caller().principal
        try:
            syncing.force(deps, principal)
        except syncing.CannotSync as error:
            return problem(409, error.code, str(error))
        return _sync(deps, principal, _language()), 202

    return bp


def _language() -> str:
    """Return in which language who asks reads, "" if they do not say."""
    return chosen(request.accept_languages, syncing.LANGUAGES)


def _sync(deps: Deps, principal: Principal, language: str) -> m.SyncOut:
    engine, total = syncing.engine(deps, principal, language=language), syncing.count_issues(deps, principal)
    told = issues.told(deps, principal, MAX_ISSUES, language=language) if total else []
    return m.sync_out(engine, total, told)


def _record_type(name: str) -> RecordType:
    """Raises: NotFound."""
    found = next((type for type in RECORD_TYPES if type == name), None)
    if found is None:
        raise NotFound("There is no such type of record.")
    return found


def _form(type: RecordType) -> str:
    return ", ".join(f"`{name}`" + (" (needed)" if name in records.NEEDED[type] else "") for name in records.FORMS[type])


def _answer(outcome: saving.Outcome) -> Any:
    state = outcome.request.state
    if state == "failed" or outcome.request.code == saving.CHANGE_REFUSED:
        return problem(409, "save_failed", outcome.request.reason, save_id=outcome.request.id)
    if state != "saved":
        return m.save_out(outcome), 202
    return m.save_out(outcome), 200 if outcome.was_saved_before else 201


def _caller() -> Caller:
    caller: Caller = g.caller
    return caller


def _identified(deps: Deps, authorization: str) -> Caller:
    """Return who calls. Raises: NeedsReauth, Forbidden, Transient."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise NeedsReauth("Sign in to use SAP Cloud for Customer here.")
    return connections.identify(deps, token.strip())
