"""The HTTP face. `create_app(deps, face)` builds the whole application; nothing happens at import."""

from __future__ import annotations

import gzip
import secrets
import time
from typing import Any

from apiflask import APIFlask
from flask import Response, g, request
from flask.json.provider import DefaultJSONProvider
from flask_cors import CORS
from werkzeug.middleware.proxy_fix import ProxyFix

from server import logs
from server.services import Deps
from server.web import api, auth, dashboard, gmail, hooks, pages, problems, settings
from server.web.catalogue import Catalogue
from server.web.html import Html, office_policy
from server.wiring import Face

MAX_BODY_BYTES = 1024 * 1024
MAX_MEMBERS = 100  # of one object
JSON = ("/api/", "/gmail/")  # paths of what is answered to one caller alone
PACKED = ("text/html", "text/css", "text/javascript", "application/json")


def create_app(deps: Deps, face: Face) -> APIFlask:
    """Return the WSGI application."""
    # The types of APIFlask forget that Flask takes None: our files are served by server.web.pages.
    app = APIFlask(
        "server.web",
        title="SSI Sidebar",
        version="1",
        spec_path="/api/openapi.json",
        docs_path=None,
        static_folder=None,  # type: ignore[arg-type]
    )
    app.config.update(
        MAX_CONTENT_LENGTH=MAX_BODY_BYTES,
        VALIDATION_ERROR_DESCRIPTION="Refused before anything was written.",
        AUTO_404_RESPONSE=False,
        OPENAPI_VERSION="3.1.0",
    )
    app.security_schemes = {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
    app.json = _Json(app)
    app.url_map.merge_slashes = False
    if face.proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=face.proxies, x_proto=0)  # type: ignore[method-assign]
    problems.init_app(app)
    if face.cors_origins:
        _only_exactly(app, face.cors_origins)
        CORS(app, resources={r"/api/*": {"origins": list(face.cors_origins)}}, send_wildcard=False, supports_credentials=False)
    app.register_blueprint(api.blueprint(deps))
    app.register_blueprint(hooks.blueprint(deps))
    app.spec_processor(_as_it_is)
    files = pages.assets()
    catalogue = Catalogue.load()
    html = Html(face, catalogue, files.url)
    door = auth.Door(deps, face, html)
    app.register_blueprint(gmail.blueprint(deps, catalogue))
    app.register_blueprint(pages.blueprint(deps, face, html, files))
    app.register_blueprint(auth.blueprint(deps, face, html, door))
    app.register_blueprint(dashboard.blueprint(deps, html, door))
    app.register_blueprint(settings.blueprint(deps, face, html, door))
    _pack(app)
    _observe(app)
    _secure(app, face)
    return app


def _as_it_is(spec: Any) -> Any:
    """Mend what APIFlask describes by itself: a body may not be left out, paths hold ids, and every error is a Problem."""
    for call in (call for calls in spec["paths"].values() for call in calls.values()):
        if "requestBody" in call:
            call["requestBody"]["required"] = True
        for parameter in call.get("parameters", ()):
            if parameter["in"] == "path":
                parameter["schema"] |= api.IN_PATHS[parameter["name"]]
        for status, answer in call["responses"].items():
            if status >= "400":
                answer["content"].pop("application/json", None)
    return spec


class _Json(DefaultJSONProvider):
    """JSON in which what is nested too deeply, said twice, or no JSON at all (NaN) is an error of the sender."""

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        try:
            return super().loads(s, object_pairs_hook=_members, parse_constant=_refused, **kwargs)
        except RecursionError:
            raise ValueError("nested too deeply") from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object before each of its hundred thousand members is looked at, and one that two readers take differently."""
    if len(pairs) > MAX_MEMBERS:
        raise ValueError("too many members")
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a member is there twice")
    return members


def _refused(constant: str) -> None:
    raise ValueError("no JSON")


def _pack(app: APIFlask) -> None:
    """Send the pane's own page and files packed to who takes them so: a third of the bytes.

    Answers of the API and pages about a person never are, since the length of what is packed tells what it holds (the BREACH
    attack).
    """

    @app.after_request
    def _gzip(response: Response) -> Response:
        is_personal = request.path.startswith(JSON) or "no-store" in response.headers.get("Cache-Control", "")
        if is_personal or response.status_code != 200 or response.mimetype not in PACKED:
            return response
        response.vary.add("Accept-Encoding")
        if request.accept_encodings["gzip"] > 0:
            response.direct_passthrough = False
            response.set_data(gzip.compress(response.get_data(), mtime=0))
            response.content_encoding = "gzip"
            etag, _ = response.get_etag()
            if etag is not None:
                response.set_etag(etag, weak=True)  # of the same file, but not of the same bytes
        return response


def _observe(app: APIFlask) -> None:
    log = logs.get("server.web")

    @app.before_request
    def _begin() -> None:
        g.started = time.perf_counter()
        g.request_id = secrets.token_hex(8)
        logs.clear()
        logs.bind(request_id=g.request_id)

    @app.after_request
    def _end(response: Response) -> Response:
        response.headers["X-Request-Id"] = g.request_id
        if request.path.startswith(JSON):
            response.headers["Cache-Control"] = "no-store"
            took = round((time.perf_counter() - g.started) * 1000, 1)
            log.info("request", method=request.method, route=str(request.url_rule), status=response.status_code, ms=took)
        return response


def _only_exactly(app: APIFlask, origins: tuple[str, ...]) -> None:
    """Take back what flask-cors allows because it compares origins without case. Call it before flask-cors is set up."""

    @app.after_request
    def _compare(response: Response) -> Response:
        if response.headers.get("Access-Control-Allow-Origin", origins[0]) not in origins:
            for name in [name for name, _ in response.headers if name.startswith("Access-Control-")]:
                del response.headers[name]
        return response


def _secure(app: APIFlask, face: Face) -> None:
    """Set the headers that every answer carries, errors included."""
    headers = {
        "Content-Security-Policy": office_policy(face, f"'self' {' '.join(face.frame_ancestors)}"),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
        "Cross-Origin-Resource-Policy": "same-origin",
    }

    @app.after_request
    def _protect(response: Response) -> Response:
        response.headers.update(headers)
        if "policy" in g:  # a page for people is not the pane
            response.headers["Content-Security-Policy"] = g.policy
        if request.path == "/sidebar" or request.path.startswith("/static/"):  # which mail clients show in pages of theirs
            response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        return response
