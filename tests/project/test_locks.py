"""The locks say exactly which packages, and nothing about where a machine gets them from."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON_LOCKS = ["requirements.txt", "requirements-dev.txt"]


def pins(lock: str) -> dict[str, list[str]]:
    """Return name and version ("flask==3.1.3") with the lines that follow it."""
    entries: dict[str, list[str]] = {}
    for line in (ROOT / lock).read_text().splitlines():
        if line[0] not in " #":
            lines = entries[line.removesuffix(" \\")] = []
        elif line[0] == " ":
            lines.append(line.strip())
    return entries


def declared(extra: str | None = None) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] if extra is None else project["optional-dependencies"][extra]
    return {re.split(r"[\[<>=]", requirement)[0] for requirement in wanted}


def names(lock: str) -> set[str]:
    return {pin.split("==")[0] for pin in pins(lock)}


@pytest.mark.parametrize("lock", PYTHON_LOCKS)
def test_every_python_package_is_pinned_by_version_and_hash(lock):
    entries = pins(lock)
    assert entries
    for pin, lines in entries.items():
        assert re.fullmatch(r"[a-z0-9.-]+==[^=\s]+", pin)
        assert any(line.startswith("--hash=sha256:") for line in lines), pin


@pytest.mark.parametrize("lock", PYTHON_LOCKS)
def test_python_lock_names_no_address_and_no_option(lock):
    lines = (ROOT / lock).read_text().splitlines()
    assert [line for line in lines if line.startswith("-") or "://" in line or " @ " in line] == []


def test_locks_hold_what_pyproject_asks_for():
    assert declared() <= names("requirements.txt")
    assert declared() | declared("dev") <= names("requirements-dev.txt")


def test_tests_run_with_the_versions_that_ship():
    assert pins("requirements.txt").keys() <= pins("requirements-dev.txt").keys()


def test_node_lock_names_no_address_and_every_hash():
    lock = json.loads((ROOT / "package-lock.json").read_text())
    packages: dict[str, dict[str, Any]] = {name: entry for name, entry in lock["packages"].items() if name}
    assert packages
    for name, entry in packages.items():
        assert "resolved" not in entry, name
        assert entry["integrity"].startswith("sha512-"), name
        # where to give money is not where to fetch from
        assert "://" not in json.dumps({key: value for key, value in entry.items() if key != "funding"}), name


def test_there_is_no_other_lock():
    others = ["uv.lock", "pylock.toml", "poetry.lock", "Pipfile.lock", "yarn.lock", "pnpm-lock.yaml"]
    assert [name for name in others if (ROOT / name).exists()] == []
