"""./run and .ci/run, as far as one can tell without running everything they run."""

import importlib.metadata
import importlib.util
import os
import socket
import subprocess
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def run():
    """The script as a module."""
    loader = SourceFileLoader("run", str(ROOT / "run"))
    spec = importlib.util.spec_from_loader("run", loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def output(*arguments):
    return subprocess.run([ROOT / "run", *arguments], capture_output=True, text=True)


def test_without_a_command_run_explains_itself():
    result = output()
    assert result.returncode == 0
    assert all(f"./run {command}" in result.stdout for command in ("dev", "test", "check", "bench"))


def test_unknown_command_is_refused():
    result = output("frobnicate")
    assert (result.returncode, result.stdout) == (1, "")
    assert "no command 'frobnicate'" in result.stderr


def test_dev_refuses_a_taken_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = output("dev", "--json", "--port", str(port))
    assert (result.returncode, result.stdout) == (1, "")
    assert f"Port {port} is taken" in result.stderr


def test_missing_packages_are_named_without_root(run, monkeypatch, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SystemExit) as stopped:
        run.install_packages({"present": str(ROOT / "run"), "missing-one": "/nowhere/*", "missing-two": "/nowhere"})
    assert stopped.value.code == 1
    assert "apt-get install missing-one missing-two\n" in capsys.readouterr().err


def test_key_is_made_once_and_private(run, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "STATE", tmp_path)
    path = run.key_file()
    key = path.read_text()
    assert len(key.strip()) == 44
    assert path.stat().st_mode & 0o777 == 0o600
    assert run.key_file().read_text() == key


def test_work_is_done_again_only_when_its_source_changed(run, tmp_path):
    source, stamp = tmp_path / "lock", tmp_path / "stamp"
    source.write_text("one")
    seen = []
    for text in ("one", "one", "two"):
        source.write_text(text)
        with run.stamped(stamp, source) as done:
            seen.append(done)
    assert seen == [False, True, False]


def test_interrupted_work_is_done_again(run, tmp_path):
    source, stamp = tmp_path / "lock", tmp_path / "stamp"
    source.write_text("one")
    with pytest.raises(KeyboardInterrupt), run.stamped(stamp, source):
        raise KeyboardInterrupt
    with run.stamped(stamp, source) as done:
        assert not done


def test_what_browsers_load_from_npm_is_copied_and_follows_the_package(run, tmp_path, monkeypatch):
    source, vendor = tmp_path / "source.js", tmp_path / "vendor"
    monkeypatch.setattr(run, "VENDOR", vendor)
    monkeypatch.setattr(run, "VENDORED", {"copy.js": source})
    for text in ("one", "two"):
        source.write_text(text)
        run.copy_vendored()
        assert (vendor / "copy.js").read_text() == text


def test_ci_runs_the_checks_and_the_tests():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    calls = [line.split(" ||")[0] for line in script.read_text().splitlines() if line.startswith("./run ")]
    assert calls == ["./run check", "./run test"]


def test_ssi_command_is_installed():
    (command,) = importlib.metadata.entry_points(group="console_scripts", name="ssi")
    assert callable(command.load())
