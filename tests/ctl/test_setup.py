"""C{init}, C{config}, C{context}, C{version}: the file and what the program says of itself."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from pilot._version import __version__
from pilot.ctl import settings
from pilot.ctl.locking import Lock
from pilot.ctl.settings import Settings
from pilot.errors import PilotError, TimedOut
from tests.ctl.conftest import Run
from tests.ctl.transcripts import ENTRIES, Entry, differences, uses_json


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / ".pilot" / "config.json"


DIFFERENT = {
    "init-config-001": "the default registry is the rendezvous of this machine",
    "init-config-002": "the default registry is the rendezvous of this machine",
    "init-config-015": "a flag without its value is an error of its own",
    "init-config-020": "a damaged file is an error",
    "init-config-021": "a damaged file is not overwritten",
    "init-config-022": "without HOME the home directory of the account counts",
    "init-config-023": "another command",
    "init-config-024": "another command",
}


def test_session(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The recorded session with the configuration, one command after the other."""
    texts = {
        "<HOME>": str(tmp_path),
        "<REGISTRY>": "192.0.2.1:9000",
        "<BEACON>": "192.0.2.1:9001",
        "<SOCKET>": "/run/p.sock",
    }

    def filled(text: str) -> str:
        for name, value in texts.items():
            text = text.replace(name, value)
        return text

    entries = [each for each in ENTRIES if each["id"].startswith("init-config-")]
    assert len(entries) > 20
    for entry in entries:
        if entry["id"] in DIFFERENT:
            continue
        with monkeypatch.context() as patch:
            for name, value in entry.get("env", {}).items():
                patch.setenv(name, value)
            outcome = run(*map(filled, entry["args"]))
        check(entry, outcome.status, outcome.out, outcome.err, filled)


def check(entry: Entry, status: int, out: str, err: str, filled: object) -> None:
    assert callable(filled)
    assert status == entry["exit_code"], entry["id"]
    if not entry["exit_code"]:
        assert not differences(json.loads(filled(entry["stdout"])), json.loads(out)), entry["id"]
        assert uses_json(entry) or out.startswith("{\n  ")
    elif uses_json(entry):
        assert json.loads(err) == json.loads(entry["stderr"])
    else:
        assert err == entry["stderr"]


def test_init_without_addresses_leaves_the_choice_to_the_daemon(run: Run, config: Path) -> None:
    """The defaults are told and not written: a daemon would take them for a wish."""
    run("init", "--registry", "192.0.2.1:9000", "--hostname", "a", "--socket", "/x")
    data = run("--json", "init", "--hostname", "b").data
    assert data == {
        "config_path": str(config),
        "registry": "127.0.0.1:9000",
        "beacon": "127.0.0.1:9001",
        "socket": "/tmp/pilot.sock",
        "hostname": "b",
    }
    assert json.loads(config.read_text()) == {"hostname": "b"}


def test_secrets_are_for_the_owner(run: Run, config: Path) -> None:
    old = os.umask(0)
    try:
        run("config", "--set", "admin_token=secret")
    finally:
        os.umask(old)
    assert config.stat().st_mode & 0o777 == 0o600
    assert config.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("content", [b"{", b"[]", b"", b"\xff\xfe", b"[" * 100000])
def test_damaged_file(run: Run, config: Path, content: bytes) -> None:
    """It is an error for whoever needs it, and nobody overwrites it."""
    config.parent.mkdir(mode=0o700)
    config.write_bytes(content)
    for words in (
        ["config"],
        ["config", "--set", "a=b"],
        ["init"],
        ["info"],
        ["set-hostname", "x"],
    ):
        problem = run("--json", *words).problem
        assert problem["code"] == "internal" and str(config) in problem["message"]
        assert problem["hint"]
    assert config.read_bytes() == content


def test_damaged_file_does_not_matter_where_it_is_not_needed(
    run: Run, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.parent.mkdir(mode=0o700)
    config.write_text("{")
    monkeypatch.setenv("PILOT_SOCKET", "/nonexistent")
    assert run("--json", "info").problem["code"] == "not_running"
    assert run("version").status == 0


def test_file_that_cannot_be_read_or_written(run: Run, config: Path) -> None:
    config.mkdir(parents=True)
    assert run("--json", "config").problem["code"] == "internal"
    config.rmdir()
    config.parent.rmdir()
    config.parent.write_text("in the way")
    assert run("--json", "config").status == 0
    assert run("--json", "config", "--set", "a=b").problem["code"] == "internal"


def test_writers_do_not_lose_each_others_keys(config: Path) -> None:
    """Many at once: every key is there in the end."""

    def write(number: int) -> None:
        Settings().save({f"key{number}": "x"})

    threads = [threading.Thread(target=write, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert json.loads(config.read_text()) == {f"key{n}": "x" for n in range(12)}


def test_lock_that_is_not_let_go(run: Run, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "LOCK_WAIT", 0.05)
    config.parent.mkdir(mode=0o700)
    with Lock(str(config) + ".lock", 1):
        assert run("--json", "config", "--set", "a=b").problem["code"] == "timeout"
        with pytest.raises(TimedOut), Lock(str(config) + ".lock", 0.03):
            pass
    assert run("--json", "config", "--set", "a=b").status == 0


def test_where_things_are(monkeypatch: pytest.MonkeyPatch, config: Path) -> None:
    """Environment before file before default; values of a wrong kind do not count."""
    assert Settings().socket == "/tmp/pilot.sock"
    assert Settings().registry == "127.0.0.1:9000"
    config.parent.mkdir(mode=0o700)
    config.write_text('{"socket": "~/s", "registry": 7, "admin_token": ""}')
    assert Settings().socket == os.path.expanduser("~/s")
    assert Settings().registry == "127.0.0.1:9000"
    monkeypatch.setenv("PILOT_SOCKET", "/env")
    monkeypatch.setenv("PILOT_REGISTRY", "env:1")
    assert (Settings().socket, Settings().registry) == ("/env", "env:1")
    monkeypatch.delenv("PILOT_HOME")
    assert Settings().home == os.path.expanduser("~/.pilot")
    monkeypatch.chdir(config.parent)
    monkeypatch.setenv("PILOT_HOME", "here")
    assert Settings().home == str(config.parent / "here")


def test_version(run: Run) -> None:
    """Bare text in both modes."""
    for words in (["version"], ["--json", "version"], ["--version"]):
        assert run(*words).out == __version__ + "\n"


def test_context(run: Run) -> None:
    """What programs find their way by: the shape of the reference, and every command."""
    data = run("--json", "context").data
    (twin,) = (json.loads(e["stdout"])["data"] for e in ENTRIES if e["id"] == "top-level-009")
    assert data["version"] == twin["version"]
    assert data["config_file"] == twin["config_file"]
    assert twin["error_codes"].keys() <= data["error_codes"].keys()
    assert twin["environment"].keys() <= data["environment"].keys()
    assert twin["global_flags"].keys() <= data["global_flags"].keys()
    for name, command in data["commands"].items():
        assert command.keys() == {"args", "description", "returns"}
        assert all(isinstance(each, str) for each in command["args"])
        if name in twin["commands"]:
            # Ours take at least what the reference's take, in the same places.
            ours, theirs = ([a for a in each["args"] if "--" not in a]
                            for each in (command, twin["commands"][name]))  # fmt: skip
            assert len(ours) == len(theirs), name
    assert json.loads(run("context").out) == data


def test_unexpected_trouble_is_told_and_not_dumped(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pilot.ctl.discovery.context", lambda call: 1 / 0)
    problem = run("--json", "context").problem
    assert problem["code"] == "internal" and "ZeroDivisionError" in problem["message"]
    monkeypatch.setenv("PILOT_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        run("context")


def test_failure_of_the_system(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(call: object) -> None:
        raise OSError(28, "No space left on device", "/somewhere")

    monkeypatch.setattr("pilot.ctl.discovery.context", fail)
    assert run("context").err == "error: /somewhere: No space left on device\n"


def test_errors_without_a_hint_have_none(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(call: object) -> None:
        raise PilotError("bad\x1b[31m")

    monkeypatch.setattr("pilot.ctl.discovery.context", fail)
    assert run("context").err == "error: bad\\x1b[31m\n"
    assert run("--json", "context").problem == {
        "status": "error",
        "code": "internal",
        "message": "bad\x1b[31m",
    }
