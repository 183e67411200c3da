"""The map of promises leads somewhere: each test it names exists, and each line tells a command that runs it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = [line for line in (ROOT / "docs" / "promises.md").read_text().splitlines() if re.match(r"\| \d+ \|", line)]
IN_SCOPE = {*range(1, 21), *range(22, 36), 37, 38, 39}
"""Promises of lookup, save, signing in, connecting a mailbox and synchronizing it."""


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_every_promise_of_what_is_built_is_on_the_map() -> None:
    assert {int(cells(row)[0]) for row in ROWS} >= IN_SCOPE


@pytest.mark.parametrize("row", ROWS, ids=lambda row: cells(row)[0])
def test_a_promise_leads_to_tests_that_exist_and_a_command(row: str) -> None:
    _, _, proof, command = cells(row)
    named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", proof)
    assert named, proof
    for path, name in named:
        source = (ROOT / path).read_text()
        assert not name or f"def {name}(" in source or f"{name} =" in source, f"{path} has no {name}"
    assert re.match(r"`\./run (test|bench)\b[^`]*`", command), command
    assert all((ROOT / path).exists() for path in re.findall(r"tests/[\w/.]+", command)), command
