"""Errors as RFC 9457 problems: one shape for everything that goes wrong, one clear sentence for the person.

This is the one place of the web that catches broadly: what is not of the product's error tree is a fault of ours, is logged
once with its trace, and is answered as a 500 that says nothing but the request id.
"""

from __future__ import annotations

import math
import re
from http import HTTPStatus
from typing import Any

from apiflask import APIFlask
from flask import Response, g, json
from werkzeug.exceptions import HTTPException

from server import errors, logs

log = logs.get(__name__)

_MENDED_BY_ONESELF = frozenset({"mailbox_not_connected", "not_linked", "other_account"})
"""Codes of what a person may not do yet; whether an administrator is needed for it, the text says."""

MAX_FIELD = 200  # characters of a member's path, of which the sender may have made up any part

_STATUSES: tuple[tuple[type[errors.SsiError], int, str], ...] = (
    (errors.RateLimited, 503, "busy"),
    (errors.Transient, 503, "unavailable"),
    (errors.Unknown, 503, "unknown_outcome"),
    (errors.NeedsReauth, 401, "needs_sign_in"),
    (errors.NotFound, 404, "not_found"),
    (errors.Conflict, 409, "conflict"),
    (errors.Rejected, 422, "rejected"),
    (errors.InvalidInput, 422, "invalid"),
    (errors.Forbidden, 403, "forbidden"),
)


def problem(status: int, code: str, detail: str, *, headers: dict[str, str] | None = None, **more: Any) -> Response:
    body = {
        "type": f"urn:ssi:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        "request_id": g.get("request_id", ""),
        **{name: value for name, value in more.items() if value is not None},
    }
    kept_by_nobody = {"Cache-Control": "no-store", **(headers or {})}
    return Response(json.dumps(body), status, kept_by_nobody, content_type="application/problem+json")


def too_often(what: str, wait_s: float) -> Response:
    """Say to a caller what was too much, and when the next call is welcome."""
    seconds = math.ceil(wait_s)
    detail = f"{what} Try again in {seconds} second{'s' if seconds > 1 else ''}."
    return problem(429, "too_often", detail, headers={"Retry-After": str(seconds)}, retry_after_s=seconds)


def init_app(app: APIFlask) -> None:
    """Register the handlers on an app."""

    @app.error_processor
    def _of_apiflask(error: Any) -> Response:
        return _invalid(error.detail)  # APIFlask raises errors of its own for input that does not validate, and for nothing else

    # After APIFlask's own, which the decorator has just set for every HTTPException.
    app.register_error_handler(HTTPException, _of_http)
    app.register_error_handler(errors.SsiError, _of_tree)
    app.register_error_handler(Exception, _of_ours)


def _of_tree(error: errors.SsiError) -> Response:
    status, code = next((s, c) for kind, s, c in _STATUSES if isinstance(error, kind))
    headers: dict[str, str] = {}
    more: dict[str, Any] = {}
    detail = str(error)
    if isinstance(error, errors.Transient):
        more["retry_after_s"] = error.retry_after_s
        headers["Retry-After"] = str(max(1, round(error.retry_after_s or 5)))
    if isinstance(error, errors.Forbidden):
        code, detail = error.code, with_contact(error)
    if isinstance(error, errors.NeedsReauth):
        headers["WWW-Authenticate"] = 'Bearer error="invalid_token"'
    if isinstance(error, errors.InvalidInput):
        more["field"], detail = error.field, error.reason
    return problem(status, code, detail, headers=headers, **more)


def with_contact(error: errors.Forbidden) -> str:
    """Return what an error says, and whom to ask, unless that is said or not known, or the person can mend it."""
    detail = str(error)
    if error.code in _MENDED_BY_ONESELF:
        return detail
    contact = g.caller.principal.organization.admin_contact if "caller" in g else ""
    return detail if contact in detail else f"{detail} Ask your administrator, {contact}."


def _of_http(error: HTTPException) -> Response:
    status = error.code or 500
    details = {
        400: "The request cannot be read as JSON.",
        404: "There is nothing at this address.",
        405: "This address does not take that method.",
        413: "The request is too large.",
        415: "The request must be JSON.",
    }
    headers = {name: value for name, value in error.get_headers() if name == "Allow"}
    return problem(status, _code(status), details.get(status, "The request was refused."), headers=headers)


def _of_ours(error: Exception) -> Response:
    log.error("request failed", exc_info=error)
    return problem(500, "internal", "Something went wrong on our side. Try again, and give the request id if it stays so.")


def _invalid(detail: Any) -> Response:
    """Say which member is the first that is wrong, by its path, and why; the value itself is never repeated."""
    place = next(iter(detail or {}), "")
    members = (detail or {}).get(place) or {}
    field = str(next(iter(members), ""))[:MAX_FIELD] if isinstance(members, dict) else ""
    reasons = members.get(field) if isinstance(members, dict) else members
    reason = str(reasons[0]) if isinstance(reasons, list) and reasons else "this address takes something else"
    reason = re.sub(r" or instance of \w+", "", reason[:1].lower() + reason[1:])  # the names of our classes help nobody
    reason = reason.replace("a valid dictionary", "an object").replace("a valid list", "a list")
    return problem(422, "invalid", f"The request is refused because of “{field}”: {reason}.", field=field or None)


def _code(status: int) -> str:
    return HTTPStatus(status).phrase.lower().replace(" ", "_").replace("-", "_")
