"""The wheel alone is enough: what browsers and Outlook load comes from it, with no checkout beside it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VISIT = """
import re
from pathlib import Path
from server import wiring
from server.auth.secrets import create_key_file
from server.config import Settings
from server.services.notices import _catalogue
from server.store import Store
from server.web import create_app

create_key_file(Path("key"))
settings = Settings("sqlite:///ssi.sqlite", "https://ssi.example.com", key_file=Path("key"))
Store(settings.database_url).migrate()
app = create_app(wiring.build(settings), wiring.face(settings))
assert _catalogue()
client = app.test_client()
page = client.get("/sidebar").text
manifest = client.get("/manifest.xml").text
files = re.findall(r'(?:src|href)="(/static/[^"]+)"', page) + re.findall(r"https://ssi.example.com(/static/[^\\"]+)", manifest)
assert len(files) > 5, files
(release,) = re.findall(r'src="(/static/[^"]+/)js/main.js"', page)
files += [release + "vendor/msal-browser.min.js", release + "pages/pane-sign-in.js"]
files += ["/", "/privacy", "/sign-in"]
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
