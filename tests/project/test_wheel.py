"""The wheel carries the product whole, and only the product."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The names of the files in a wheel built from this checkout with the locked build tool, without a network."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    (path,) = out.glob("ssi_sidebar-*.whl")
    return set(zipfile.ZipFile(path).namelist())


def test_wheel_holds_the_server_the_manifests_and_the_front_ends(wheel):
    sources = [*(ROOT / "server").rglob("*.py"), *(ROOT / "server").rglob("*.html")]
    front_end = [path for folder in ("static", "appsscript") for path in (ROOT / folder).rglob("*") if path.is_file()]
    assert {path.relative_to(ROOT).as_posix() for path in sources} <= wheel
    assert {f"server/{path.relative_to(ROOT).as_posix()}" for path in front_end} <= wheel
    assert "server/manifest.xml" in wheel


def test_wheel_holds_the_locked_file_that_browsers_load_from_npm_with_its_licence(wheel):
    assert {f"server/static/vendor/msal-browser.{end}" for end in ("min.js", "LICENSE.txt")} <= wheel
    locked = json.loads((ROOT / "package-lock.json").read_text())["packages"]["node_modules/@azure/msal-browser"]["version"]
    banner = (ROOT / "static/vendor/msal-browser.min.js").read_text()[:80]
    assert f"/*! @azure/msal-browser v{locked} " in banner


def test_wheel_holds_nothing_else(wheel):
    top = {name.split("/")[0] for name in wheel}
    assert {name for name in top if not name.endswith(".dist-info")} == {"server"}


def test_wheel_installs_the_command_and_carries_the_licence(wheel):
    assert {name.split("/", 1)[1] for name in wheel if ".dist-info/" in name} >= {"entry_points.txt", "licenses/LICENSE"}
