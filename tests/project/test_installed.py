"""The wheel alone is enough: what browsers and Outlook load comes from it, with no checkout beside it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VISIT = """
import re
from flask import Flask
from server.web.catalogue import Catalogue
from server.web.html import Html
from server.web.pages import assets, blueprint
from server.wiring import Face

face = Face("https://ssi.example.com", "", "https://office.example/office.js", (), (), cache_s=60, proxies=0, key_place="x")
app = Flask("server.web", static_folder=None)
own = assets()
app.register_blueprint(blueprint(None, face, Html(face, Catalogue.load(), own.url), own))
client = app.test_client()
page = client.get("/sidebar").text
manifest = client.get("/manifest.xml").text
files = re.findall(r'(?:src|href)="(/static/[^"]+)"', page) + re.findall(r"https://ssi.example.com(/static/[^\\"]+)", manifest)
assert len(files) > 5, files
print(*{client.get(file).status_code for file in files})
"""


def test_an_installed_wheel_serves_the_pane_and_the_manifest(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    installed = tmp_path / "installed"
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(installed)
    visit = [sys.executable, "-c", VISIT]
    done = subprocess.run(visit, cwd=installed, env={"PYTHONPATH": str(installed)}, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("200", "")
