"""Pages for people: in their language, with a policy under which nothing but our own files works, and never kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from flask import Blueprint, Response, g, render_template, request
from werkzeug.exceptions import HTTPException

from server import errors
from server.services.signing_in import ConnectRefused, SignInRefused
from server.web.catalogue import Catalogue, Text
from server.web.problems import log
from server.wiring import Face

_UNSEEN = re.compile(r"(?![\t\n])[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

_FOR_ADMINS = frozenset(
    {
        "account_locked",
        "account_unusable",
        "already_connected",
        "c4c_user",
        "certificate",
        "consent_needed_admin",
        "domain_not_admitted",
        "exchange_online",
        "forbidden",
        "identity_taken",
        "issuer_mismatch",
        "mailbox_suspended",
        "no_rights",
        "not_a_mailbox",
        "not_confirmed",
        "not_offered",
        "not_provisioned",
        "server_unreachable",
        "setting_locked",
        "suspended",
        "token_refused",
        "wrong_account",
    }
)
"""Refusals that the person alone may not be able to mend: whom to ask is said with them."""


class Refusal(NamedTuple):
    """Why something did not happen, as the catalogue tells it: `code` chooses the texts, `facts` fill them in."""

    code: str
    facts: Mapping[str, str]
    detail: str  # technical cause, without secrets, shown behind "Details"
    status: int

    @property
    def needs_admin(self) -> bool:
        return self.code in _FOR_ADMINS


_STATUSES: tuple[tuple[type[errors.SsiError], int, str], ...] = (
    (errors.Transient, 503, "provider_away"),
    (errors.NeedsReauth, 401, "password_refused"),
    (errors.Forbidden, 403, "forbidden"),
    (errors.NotFound, 404, "not_found"),
    (errors.InvalidInput, 422, "invalid_entry"),
    (errors.SsiError, 422, "failed"),
)


def refusal_of(error: errors.SsiError) -> Refusal:
    """Return what to tell about an error of the product's tree."""
    status, code = next((status, code) for kind, status, code in _STATUSES if isinstance(error, kind))
    facts: Mapping[str, str] = {}
    if isinstance(error, ConnectRefused | SignInRefused):
        code, facts = error.code, error.facts
    elif isinstance(error, errors.Forbidden):
        code, facts = error.code, {"contact": getattr(error, "contact", "")}
    elif isinstance(error, errors.InvalidInput):
        facts = {"field": error.field, "reason": error.reason}
    return Refusal(code, facts, str(error), status)


def office_policy(face: Face, ancestors: str) -> str:
    """Return the policy of what holds Office.js, for a page that `ancestors` may frame."""
    office_origin = "/".join(face.office_js_url.split("/", 3)[:3])
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'self' {office_origin} https://ajax.aspnetcdn.com",
            "style-src 'self'",
            "img-src 'self' data:",
            f"connect-src 'self' {office_origin}",
            f"frame-src {office_origin} https://telemetryservice.firstpartyapps.oaspapps.com",
            "base-uri 'none'",
            "form-action 'self'",
            "object-src 'none'",
            f"frame-ancestors {ancestors}",
        )
    )


def visible(text: str) -> str:
    """Return somebody's text without characters that are not seen, or that turn the text around them; lines stay."""
    return _UNSEEN.sub("\ufffd", text)


def go(path: str) -> Response:
    """Send the browser on to a path of ours, to be got."""
    return Response(status=303, headers={"Location": path, "Cache-Control": "no-store"})


class Html:
    """Renders templates. One for the application; `asset` gives the address of a file of this release."""

    def __init__(self, face: Face, catalogue: Catalogue, asset: Callable[[str], str]) -> None:
        self._catalogue = catalogue
        self._asset = asset
        self._key_place = face.key_place
        self._ancestors = " ".join(face.pages_frame_ancestors) or "'none'"

    def policy(self) -> str:
        """Return what the page asked for may load. The dialog's pages are framed by nobody: a click there gives a token away."""
        ancestors = "'none'" if request.path.startswith("/pane/") else self._ancestors
        return (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
            f"form-action 'self'; object-src 'none'; frame-ancestors {ancestors}"
        )

    def text(self) -> Text:
        """Return the texts in the language of who asks."""
        return self._catalogue.text(request.accept_languages)

    def page(self, template: str, status: int = 200, *, is_personal: bool = True, **values: Any) -> Response:
        """Return a page. What `is_personal` is kept by nobody."""
        text = self.text()
        refusal: Refusal | None = values.get("refusal")
        if refusal is not None and "missing" in refusal.facts:
            values["refusal"] = refusal._replace(facts={**refusal.facts, "missing": _in_words(text, refusal.facts["missing"])})
        body = render_template(
            template,
            t=text.t,
            named=text.named,
            when=text.when,
            number=text.number,
            visible=visible,
            language=text.language,
            asset=self._asset,
            key_place=text.named("key_place", self._key_place, self._key_place),
            request_id=g.request_id,
            person=g.visitor.principal.user if g.get("visitor") else None,
            csrf=g.get("csrf", ""),
            **values,
        )
        g.policy = self.policy()
        response = Response(body, status, mimetype="text/html")
        response.headers["Content-Language"] = text.language
        response.vary.add("Accept-Language")
        response.headers["Cache-Control"] = "no-store" if is_personal else "no-cache"
        return response

    def leave(self, url: str, place: str) -> Response:
        """Send the browser to a sign-in service by a page that goes there by itself.

        A redirect will not do: Chromium applies form-action to every redirect that follows a form, and which services a
        sign-in passes through (one behind Microsoft's, an organization's own) cannot be listed here.
        """
        return self.page("leave.html", url=url, place=place)

    def refused(self, refusal: Refusal, *, contact: str = "", retry: str = "") -> Response:
        """Return the page that says why something did not happen; `retry` is the path of ours at which to try again."""
        return self.page("refused.html", refusal.status, refusal=refusal, contact=contact, retry=retry)

    def take_errors(self, bp: Blueprint) -> None:
        """Let everything that goes wrong in a blueprint be told as a page. The caller's contact is named where one is known."""

        def of_tree(error: errors.SsiError) -> Response:
            return self.refused(refusal_of(error), contact=_contact())

        def of_http(error: HTTPException) -> Response:
            status = error.code or 500
            code = re.sub(r"\W", "_", HTTPStatus(status).phrase.lower())
            response = self.refused(Refusal(code if status == 404 else "request_refused", {}, HTTPStatus(status).phrase, status))
            response.headers.extend((name, value) for name, value in error.get_headers() if name == "Allow")
            return response

        def of_ours(error: Exception) -> Response:
            log.error("request failed", exc_info=error)
            return self.refused(Refusal("fault", {}, "", 500), contact=_contact())

        bp.register_error_handler(HTTPException, of_http)
        bp.register_error_handler(errors.SsiError, of_tree)
        bp.register_error_handler(Exception, of_ours)


def _in_words(text: Text, scopes: str) -> str:
    """Return what permissions allow, of which a sign-in service gives the names, with commas."""
    names = scopes.split(",")
    return ", ".join(text.named("scope", re.sub(r"\W", "_", name), name) for name in names)


def _contact() -> str:
    return g.visitor.principal.organization.admin_contact if g.get("visitor") else ""
