"""C{manhole}: which ssh is run, and whose key it believes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.ctl.conftest import Run
from tests.ctl.fakedaemon import FakeDaemon, echoing

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEVvnpxUcy4OEnj/WlSMKNrJZQjf9hmUcvFSaCUtmFoz"
OPEN = {"host": "127.0.0.1", "port": 6022, "fingerprint": "SHA256:abc", "host_key": KEY}


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    seen: list[list[str]] = []

    def become(program: str, words: list[str]) -> None:
        assert program == words[0]
        seen.append(words)
        raise FileNotFoundError

    monkeypatch.setattr(os, "execvp", become)
    return seen


def manhole(run: Run, monkeypatch: pytest.MonkeyPatch, section: Any, *words: str) -> Any:
    info = {} if section is None else {"manhole": section}
    with FakeDaemon(echoing({"node_id": 1, **info})) as daemon:
        monkeypatch.setenv("PILOT_SOCKET", daemon.path)
        return run(*words)


def test_ssh_is_told_everything(
    run: Run, monkeypatch: pytest.MonkeyPatch, became: list[list[str]], tmp_path: Path
) -> None:
    outcome = manhole(run, monkeypatch, OPEN, "manhole", "peers()", "--key", "my key")
    assert outcome.err.startswith("error: there is no ssh on this machine")
    (words,) = became
    assert words[:3] == ["ssh", "-p", "6022"]
    assert words[-5:] == ["-i", "my key", "--", "127.0.0.1", "peers()"]
    for option in ("StrictHostKeyChecking=yes", "GlobalKnownHostsFile=/dev/null"):
        assert option in words
    known = tmp_path / ".pilot" / "manhole_known_hosts"
    assert f'UserKnownHostsFile="{known}"' in words
    assert known.read_text() == f"pilot-manhole {KEY}\n"
    assert known.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("host", "target"), [("0.0.0.0", "127.0.0.1"), ("::", "::1")])
def test_a_program_is_told_the_words(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    became: list[list[str]],
    host: str,
    target: str,
) -> None:
    outcome = manhole(run, monkeypatch, {**OPEN, "host": host}, "--json", "manhole")
    assert outcome.data["command"][-2:] == ["--", target]
    assert outcome.data["fingerprint"] == "SHA256:abc" and outcome.data["port"] == 6022
    assert not became


def test_percent_signs_of_the_home_are_no_tokens(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PILOT_HOME", str(tmp_path / "50%h"))
    outcome = manhole(run, monkeypatch, OPEN, "--json", "manhole")
    (option,) = (word for word in outcome.data["command"] if word.startswith("UserKnownHosts"))
    assert option == f'UserKnownHostsFile="{tmp_path}/50%%h/manhole_known_hosts"'


def test_a_closed_manhole(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = manhole(run, monkeypatch, None, "--json", "manhole")
    assert outcome.problem["code"] == "not_found"
    assert "--manhole 6022" in outcome.problem["hint"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": "x"},
        {"host": 7},
        {"host_key": None},
        {"host_key": "ssh-rsa AAAA"},
        {"host_key": KEY + "\n* " + KEY},
        {"host_key": KEY + ",x"},
    ],
)
def test_an_answer_that_makes_no_sense(
    run: Run, monkeypatch: pytest.MonkeyPatch, became: list[list[str]], wrong: dict[str, Any]
) -> None:
    outcome = manhole(run, monkeypatch, {**OPEN, **wrong}, "--json", "manhole")
    assert outcome.problem["code"] == "connection_failed"
    assert not became
