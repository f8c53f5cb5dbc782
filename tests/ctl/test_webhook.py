"""C{set-webhook} and C{clear-webhook}: the daemon, the configuration, and the order of the two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pilot.wire.ipcframes import Command
from tests.ctl.conftest import Run
from tests.ctl.fakedaemon import FakeDaemon, Frame, error, reply
from tests.ctl.test_transcripts import check_json, check_text
from tests.ctl.transcripts import ENTRIES, Entry, uses_json

URL = "http://127.0.0.1:9/hook"
REFUSED = "http://169.254.169.254/x"
WITHOUT_DAEMON = [
    entry
    for entry in ENTRIES
    if entry["id"].startswith("daemon-not-running") and "-webhook" in " ".join(entry["args"])
]


def accept(command: int, payload: bytes) -> list[Frame]:
    return [reply(command + 1, {"webhook": payload.decode()})]


def refuse(command: int, payload: bytes) -> list[Frame]:
    return [error("webhook URL cannot target link-local address 169.254.169.254")]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PILOT_SOCKET", str(tmp_path / "no-daemon"))
    path = tmp_path / ".pilot" / "config.json"
    path.parent.mkdir()
    path.write_text('{"hostname": "bob"}')
    return path


def saved(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.parametrize("entry", WITHOUT_DAEMON, ids=[entry["id"] for entry in WITHOUT_DAEMON])
def test_transcript_without_daemon(entry: Entry, run: Run, config: Path) -> None:
    """The recorded runs without a daemon."""
    outcome = run(*entry["args"])
    assert outcome.status == entry["exit_code"]
    check = check_json if uses_json(entry) else check_text
    check(entry["stdout"], outcome.out)
    check(entry["stderr"], outcome.err)


def test_there_are_transcripts() -> None:
    assert len(WITHOUT_DAEMON) == 4


def test_applied_and_saved(run: Run, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A running daemon is told, and the configuration keeps it with the rest that it holds."""
    with FakeDaemon(accept) as daemon:
        monkeypatch.setenv("PILOT_SOCKET", daemon.path)
        assert run("--json", "set-webhook", URL).data == {"webhook": URL, "applied": True}
        assert saved(config) == {"hostname": "bob", "webhook": URL}
        assert run("--json", "clear-webhook").data == {"webhook": "", "applied": True}
        assert saved(config) == {"hostname": "bob"}
        wanted = [(Command.SET_WEBHOOK, URL.encode()), (Command.SET_WEBHOOK, b"")]
        assert daemon.received == wanted


def test_refused_is_not_saved(run: Run, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the daemon refuses is an error and does not wait for its next start."""
    with FakeDaemon(refuse) as daemon:
        monkeypatch.setenv("PILOT_SOCKET", daemon.path)
        outcome = run("--json", "set-webhook", REFUSED)
        assert outcome.status == 1
        assert outcome.problem["code"] == "connection_failed"
        assert "link-local address 169.254.169.254" in outcome.problem["message"]
        assert run("set-webhook", REFUSED).err.startswith("error: set-webhook: ")
        assert run("clear-webhook").status == 1
    assert saved(config) == {"hostname": "bob"}


@pytest.mark.parametrize("url", [REFUSED, "http://", "https://a b/", "http://h:99999/"])
def test_refused_without_daemon(run: Run, config: Path, url: str) -> None:
    """Nobody runs who could refuse, so the command does."""
    outcome = run("--json", "set-webhook", url)
    assert outcome.status == 1
    assert outcome.problem["code"] == "invalid_argument"
    assert saved(config) == {"hostname": "bob"}


def test_daemon_that_hangs_up(run: Run, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows what the daemon did: an error, and nothing is saved."""

    def hang_up(command: int, payload: bytes) -> list[Frame]:
        daemon.hang_up()
        return []

    with FakeDaemon(hang_up) as daemon:
        monkeypatch.setenv("PILOT_SOCKET", daemon.path)
        assert run("set-webhook", URL).status == 1
    assert saved(config) == {"hostname": "bob"}


def test_damaged_configuration(run: Run, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is noticed before the daemon is told."""
    config.write_text("{")
    with FakeDaemon(accept) as daemon:
        monkeypatch.setenv("PILOT_SOCKET", daemon.path)
        assert run("set-webhook", URL).status == 1
        assert not daemon.received
    assert config.read_text() == "{"
