"""What a run of C{pilotctl} imports: it lives for milliseconds, so as little as possible."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.ctl.fakedaemon import FakeDaemon, echoing, error, reply

PROGRAM = """
import json, sys
before = set(sys.modules)
from pilot.ctl.main import main
status = main(sys.argv[1:])
print(json.dumps([status, sorted(set(sys.modules) - before)]))
"""

HEAVY = {
    "asyncio",
    "automat",
    "cryptography",
    "dataclasses",
    "hypothesis",
    "inspect",
    "msgspec",
    "orjson",
    "treq",
    "twisted",
    "zope",
}
"""Never, whatever the verb."""

UNWANTED = {
    "argparse",
    "difflib",
    "importlib.metadata",
    "pathlib",
    "socket",
    "subprocess",
    "typing",
}
"""Not for the verbs that do no more than ask the daemon one thing."""


def imported(*words: str) -> set[str]:
    """@return: the modules that a run imports."""
    run = subprocess.run(
        [sys.executable, "-S", "-c", PROGRAM, *words],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    status, modules = json.loads(run.stdout.splitlines()[-1])
    assert status in (0, 1), run.stderr
    return set(modules)


def answers(command: int, payload: bytes) -> list[tuple[int, bytes]]:
    """Any daemon's answers."""
    known = echoing()(command, payload)
    if known == [error(f"unknown command: 0x{command:02X}")] and command < 0x40:
        return [reply(command + 1, {"node_id": 2, "address": "0:0000.0000.0002"})]
    return known


@pytest.mark.parametrize(
    "words",
    [
        ["--json", "info"],
        ["info"],
        ["--json", "health"],
        ["health"],
        ["--json", "connections"],
        ["set-public"],
        ["clear-tags"],
        ["version"],
        ["config"],
    ],
    ids=" ".join,
)
def test_plain_verbs(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeDaemon(answers) as daemon:
        monkeypatch.setenv("PILOT_SOCKET", daemon.path)
        modules = imported(*words)
    assert not modules & (HEAVY | UNWANTED)
    families = {name for name in modules if name.startswith("pilot.ctl.")} - {
        "pilot.ctl.arguments",
        "pilot.ctl.call",
        "pilot.ctl.console",
        "pilot.ctl.main",
        "pilot.ctl.settings",
        "pilot.ctl.table",
        "pilot.ctl.values",
    }
    assert len(families) == 1, "one family of commands is imported, that of the verb"


@pytest.mark.parametrize(
    "words",
    [
        ["peers"],
        ["find", "node-b"],
        ["trust"],
        ["--json", "pending"],
        ["ping", "2", "--count", "1"],
        ["traceroute", "0:0000.0000.0002"],
        ["send", "2", "7", "--data", "x"],
        ["bench", "2", "0.01"],
        ["recv", "x"],
        ["listen", "6000", "--count", "1", "--timeout", "20ms"],
        ["daemon", "status"],
        ["lookup", "1"],
        ["network", "list"],
        ["network", "join", "1"],
        ["network", "role", "1", "2"],
        ["broadcast", "1", "hello"],
        ["completion", "bash"],
        ["context"],
        ["pign"],
    ],
    ids=" ".join,
)
def test_other_verbs(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """They need more of the standard library, and still nothing that is heavy."""
    monkeypatch.setenv("PILOT_REGISTRY", "127.0.0.1:1")
    if words == ["pign"]:
        words = ["--json", *words]
    with FakeDaemon(answers) as daemon:
        monkeypatch.setenv("PILOT_SOCKET", daemon.path)
        assert not imported(*words) & HEAVY
