"""Pages and files: the pane's shell, the manifest, the front end's files, health."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path

from flask import Blueprint, Response, render_template, send_from_directory, url_for

import server
from server.services import Deps
from server.web.problems import problem
from server.wiring import Face

COMMITTED_ORIGIN = "https://localhost:8400"
COMMITTED_CLIENT_ID = "00000000-0000-4000-8000-000000000001"
_WEEK_S = 7 * 24 * 3600


def asset_root() -> Path:
    """Return the folder that holds static/ and manifest.xml: inside the installed package, or beside it in a checkout."""
    package = Path(server.__file__).parent
    return package if (package / "static").is_dir() else package.parent


def blueprint(deps: Deps, face: Face) -> Blueprint:
    root = asset_root()
    bp = Blueprint("pages", __name__)

    @lru_cache(maxsize=256)
    def version(path: str) -> str:
        return hashlib.sha256((root / "static" / path).read_bytes()).hexdigest()[:12]

    def asset(path: str) -> str:
        return url_for("pages.static", path=path, v=version(path))

    @bp.get("/")
    def start() -> str:
        return render_template("start.html", asset=asset)

    @bp.get("/sidebar")
    def sidebar() -> Response:
        page = render_template("sidebar.html", office_js_url=face.office_js_url, asset=asset)
        return Response(page, headers={"Cache-Control": "no-cache"}, mimetype="text/html")

    @bp.get("/static/<path:path>")
    def static(path: str) -> Response:
        response = send_from_directory(root / "static", path)
        # Not immutable: modules import each other by plain names, so a new release must be seen within the hour.
        response.headers["Cache-Control"] = f"public, max-age={_WEEK_S if path.startswith('icons/') else 300}"
        return response

    @bp.get("/manifest.xml")
    def manifest() -> Response:
        return Response(manifest_for(face.public_url, face.client_id), mimetype="application/xml")

    @bp.get("/privacy")
    def privacy() -> str:
        return render_template("privacy.html", asset=asset, cache_s=face.cache_s, key_place=face.key_place)

    @bp.get("/healthz")
    def healthz() -> Response:
        return Response("ok\n", mimetype="text/plain")

    @bp.get("/readyz")
    def readyz() -> Response:
        if deps.store.is_ready():
            return Response("ready\n", mimetype="text/plain")
        return problem(503, "unavailable", "The database is not ready.")

    return bp


def manifest_for(public_url: str, client_id: str) -> str:
    """Return the committed manifest with this installation's origin and application id."""
    text = (asset_root() / "manifest.xml").read_text(encoding="utf-8")
    host = re.sub(r"^https?://", "", public_url)
    text = text.replace(COMMITTED_ORIGIN, public_url).replace(COMMITTED_ORIGIN.removeprefix("https://"), host)
    return text.replace(COMMITTED_CLIENT_ID, client_id or COMMITTED_CLIENT_ID)
