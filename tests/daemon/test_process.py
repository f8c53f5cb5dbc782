"""Real daemons as processes: how they start, share a machine, stop, and come back after a crash."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.fleet import Fleet, demo, fleet

pytestmark = pytest.mark.system


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as running:
        running.start_rendezvous()
        yield running


def attempt(agent: Any, *flags: str, command: list[str] | None = None) -> Any:
    """Start another daemon that is expected to give up."""
    return subprocess.run(
        [*(command or agent.daemon()), *flags],
        env=agent.environment,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


def test_a_daemons_day(machine: Fleet, tmp_path: Path) -> None:
    agent = machine.agent("alice")
    assert stat.S_IMODE(os.stat(agent.socket).st_mode) == 0o600

    # A second one on its socket gives up in one line, and disturbs nobody.
    rival = attempt(agent, "--identity", str(tmp_path / "other" / "identity.json"))
    assert rival.returncode == 1
    last = rival.stderr.splitlines()[-1]
    assert last.startswith("pilot-daemon: daemon start: ") and str(agent.socket) in last
    assert "Traceback" not in rival.stderr
    assert agent("info")["node_id"] == agent.node_id

    # So does a second one with its key.
    twin = attempt(agent, "--socket", str(tmp_path / "twin.sock"))
    assert twin.returncode == 1
    assert "Traceback" not in twin.stderr
    assert agent("info")["node_id"] == agent.node_id

    # Killed, it leaves its socket behind; the next one takes it over and is the same node.
    agent.process.kill()
    agent.process.wait(10)
    assert agent.socket.exists()
    number = agent.node_id
    machine.start(agent)
    assert agent.node_id == number

    # Told to stop, it ends well and takes its socket along.
    agent.process.send_signal(signal.SIGTERM)
    assert agent.process.wait(15) == 0
    assert not agent.socket.exists()


def test_twistd_runs_the_same_daemon(machine: Fleet, tmp_path: Path) -> None:
    agent = demo.Agent("bob", tmp_path, machine.registry, machine.beacon)
    twistd = [str(demo.BIN / "twistd"), "--nodaemon", "--pidfile=", "pilot"]
    flags = ["--listen", "127.0.0.1:0", "--log-format", "json"]
    log = agent.home / "log"
    with demo.running([*twistd, *flags], agent.environment, log) as process:
        demo.until("bob registers", lambda: agent("info"))
        rival = attempt(
            agent, *flags, "--identity", str(tmp_path / "other" / "id.json"), command=twistd
        )
        assert rival.returncode == 1
        assert str(agent.socket) in rival.stdout
        process.send_signal(signal.SIGINT)
        process.wait(15)
    assert not agent.socket.exists()
    assert '"logger": "pilot.' in log.read_text()


def test_no_registry_is_told_in_one_line(tmp_path: Path) -> None:
    port = demo.free_ports(1, socket.SOCK_STREAM)[0]
    agent = demo.Agent("carol", tmp_path, f"127.0.0.1:{port}", f"127.0.0.1:{port}")
    ended = attempt(agent, "--endpoint", "127.0.0.1:4000")  # no beacon to be waited for
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("pilot-daemon: daemon start: ")
    assert f"127.0.0.1:{port}" in ended.stderr.splitlines()[-1]
    assert not agent.socket.exists()
