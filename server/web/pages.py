"""Pages and files: the pane's shell, the manifest, the front end's files, health."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from flask import Blueprint, Response, render_template, send_from_directory, url_for
from werkzeug.exceptions import NotFound

import server
from server.services import Deps
from server.web.html import Html
from server.web.problems import problem
from server.wiring import Face

COMMITTED_ORIGIN = "https://localhost:8400"
COMMITTED_CLIENT_ID = "00000000-0000-4000-8000-000000000001"
_WEEK_S = 7 * 24 * 3600
_YEAR_S = 365 * 24 * 3600


def asset_root() -> Path:
    """Return the folder that holds static/ and manifest.xml: inside the installed package, or beside it in a checkout."""
    package = Path(server.__file__).parent
    return package if (package / "static").is_dir() else package.parent


@dataclass(frozen=True, slots=True)
class Assets:
    """The front end's files as they are now; `release` names them all together."""

    root: Path
    release: str

    def url(self, path: str) -> str:
        """Return the address under which a file of this release may be kept for ever."""
        return url_for("pages.released", release=self.release, path=path)


def assets() -> Assets:
    root = asset_root() / "static"
    return Assets(root, _release(root))


def blueprint(deps: Deps, face: Face, html: Html, files: Assets) -> Blueprint:
    bp = Blueprint("pages", __name__)

    @bp.get("/")
    def start() -> Response:
        return html.page("start.html", is_personal=False)

    @bp.get("/sidebar")
    def sidebar() -> Response:
        page = render_template("sidebar.html", office_js_url=face.office_js_url, asset=files.url)
        return Response(page, headers={"Cache-Control": "no-cache"}, mimetype="text/html")

    @bp.get("/static/<path:path>")
    def static(path: str) -> Response:
        """Files by their plain names, for the manifest's icons: clients keep them for a week."""
        response = _file(files.root, path)
        response.headers["Cache-Control"] = f"public, max-age={_WEEK_S}" if path.startswith("icons/") else "no-cache"
        return response

    @bp.get("/static/release-<string(length=12):release>/<path:path>")
    def released(release: str, path: str) -> Response:
        """Files of one release. Modules import each other by relative names, so a whole release is seen or none of it."""
        response = _file(files.root, path)
        is_current = release == files.release
        response.headers["Cache-Control"] = f"public, max-age={_YEAR_S}, immutable" if is_current else "no-store"
        return response

    @bp.get("/manifest.xml")
    def manifest() -> Response:
        return Response(manifest_for(face.public_url, face.client_id), mimetype="application/xml")

    @bp.get("/privacy")
    def privacy() -> Response:
        return html.page("privacy.html", is_personal=False, cache_s=face.cache_s)

    @bp.get("/healthz")
    def healthz() -> Response:
        return Response("ok\n", mimetype="text/plain")

    @bp.get("/readyz")
    def readyz() -> Response:
        if deps.store.is_ready():
            return Response("ready\n", mimetype="text/plain")
        return problem(503, "unavailable", "The database is not ready.")

    return bp


def _file(static: Path, path: str) -> Response:
    if path.endswith(".d.ts"):  # for those who read the source
        raise NotFound
    return send_from_directory(static, path)


def _release(static: Path) -> str:
    """Return what names the present state of all files together."""
    digest = hashlib.sha256()
    for file in sorted(path for path in static.rglob("*") if path.is_file()):
        digest.update(file.relative_to(static).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def manifest_for(public_url: str, client_id: str) -> str:
    """Return the committed manifest with this installation's origin and application id."""
    text = (asset_root() / "manifest.xml").read_text(encoding="utf-8")
    host = re.sub(r"^https?://", "", public_url)
    text = text.replace(COMMITTED_ORIGIN, public_url).replace(COMMITTED_ORIGIN.removeprefix("https://"), host)
    return text.replace(COMMITTED_CLIENT_ID, client_id or COMMITTED_CLIENT_ID)
