"""The front end's modules, tested by Node's own test runner."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize("module", sorted(HERE.glob("*.test.js")), ids=lambda path: path.stem.partition(".")[0])
def test_modules(module: Path):
    environment = {**os.environ, "TZ": "Europe/Berlin"}
    done = subprocess.run(["node", "--test", module], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
