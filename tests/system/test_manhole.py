"""The manhole of a real daemon, entered with the real ssh."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.exposition import read_exposition
from tests.system.fleet import Fleet, demo, fleet

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="needs OpenSSH"),
]

#: Seconds that anything may take.
PATIENCE = 20


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as running:
        running.start_rendezvous()
        yield running


def make_key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


class Screen:
    """A person at a terminal."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.process, self._terminal = os.forkpty()
        if self.process == 0:
            os.execvpe(command[0], command, environment)
        self.seen = ""

    def until(self, text: str) -> str:
        """@return: what appeared up to C{text} and not before."""
        end = time.monotonic() + PATIENCE
        while text not in self.seen:
            assert time.monotonic() < end, f"no {text!r} in {self.seen!r}"
            if select.select([self._terminal], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self._terminal, 65536).decode()
                except OSError:
                    raise AssertionError(f"gone, without {text!r}: {self.seen!r}") from None
        shown, _, self.seen = self.seen.partition(text)
        return shown

    def ask(self, line: str) -> str:
        """Type a line at the prompt.  @return: what was printed before the next prompt."""
        os.write(self._terminal, line.encode() + b"\r")
        self.until("\n")
        return self.until(">>> ").replace("\r", "")

    def leave(self) -> int:
        """@return: the exit status after Ctrl-D."""
        os.write(self._terminal, b"\x04")
        return self.ended()

    def ended(self) -> int:
        """@return: the exit status."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if select.select([self._terminal], [], [], 0.05)[0]:
                try:
                    os.read(self._terminal, 65536)
                except OSError:
                    break
        status = os.waitpid(self.process, 0)[1]
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(status)


@contextlib.contextmanager
def twistd(agent: Any, *flags: str) -> Iterator[None]:
    """An agent's daemon, under twistd; registered."""
    command = [str(demo.BIN / "twistd"), "--nodaemon", "--pidfile=", "pilot"]
    command += ["--listen", "127.0.0.1:0", "--hostname", agent.name, *flags]
    with demo.running(command, agent.environment, agent.home / "log") as process:
        agent.process = process
        agent.node_id = demo.until("it registers", lambda: agent("info"))["node_id"]
        yield


def run(
    command: list[str], environment: dict[str, str], typed: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=environment,
        input=typed,
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        check=False,
    )


def test_an_operator_looks_into_a_running_daemon(machine: Fleet, tmp_path: Path) -> None:
    key, strange = make_key(tmp_path / "key"), make_key(tmp_path / "strange")
    alice = demo.Agent("alice", tmp_path, machine.registry, machine.beacon)
    (alice.home / "authorized_keys").write_bytes(key.with_suffix(".pub").read_bytes())
    with twistd(alice, "--manhole", "0", "--metrics-port", "0"):
        look_in(machine, alice, key, strange)
        alice.process.send_signal(signal.SIGTERM)
        alice.process.wait(15)
    log = (alice.home / "log").read_text()
    assert "Traceback" not in log, log


def look_in(machine: Fleet, alice: Any, key: Path, strange: Path) -> None:
    port = alice("info")["manhole"]["port"]
    bob = machine.agent("bob")
    machine.introduce(bob, alice)
    assert bob("ping", "alice", "--count", "1")["results"][0].get("rtt_ms")

    # Somebody without the key, and somebody with a password, stay outside.
    ssh = ["ssh", "-F", "none", "-p", str(port), "-o", "IdentitiesOnly=yes"]
    ssh += ["-o", f"UserKnownHostsFile={machine.root / 'known'}", "-o", "LogLevel=ERROR"]
    ssh += ["-o", "StrictHostKeyChecking=accept-new", "-o", "NumberOfPasswordPrompts=0"]
    for more in (["-i", str(strange)], ["-o", "PubkeyAuthentication=no"]):
        refused = run([*ssh, *more, "127.0.0.1", "peers()"], alice.environment)
        assert refused.returncode == 255
        assert "Permission denied (publickey)" in refused.stderr

    # At a terminal: tables, mistakes, results that come later, and a way out.
    screen = Screen([*ssh, "-i", str(key), "127.0.0.1"], alice.environment)
    screen.until(">>> ")
    peers = screen.ask("peers()")
    assert peers.splitlines()[0].split()[:3] == ["NODE", "ID", "HOSTNAME"]
    assert "bob" in peers and " 0x" not in peers
    assert "SyntaxError" in screen.ask("def f(:")
    assert "ZeroDivisionError" in screen.ask("1/0")
    os.write(screen._terminal, b"node.resolve('bob')\r")
    screen.until(f"node={bob.node_id})")
    screen.until(">>> ")
    assert screen.ask("node.parts.profile.hostname") == "'alice'\n"
    assert alice("info")["manhole"]["sessions"] == 1
    os.write(screen._terminal, b"import sys; sys.exit(5)\r")
    assert screen.ended() == 5

    # The daemon has noticed nothing; somebody who calls it by one command gets an exit status.
    assert alice("health")["status"] == "ok"
    assert bob("ping", "alice", "--count", "1")["results"][0].get("rtt_ms")
    one = run([*ssh, "-i", str(key), "127.0.0.1", "peers()[0]['hostname']"], alice.environment)
    assert (one.returncode, one.stdout) == (0, "'bob'\n")
    assert run([*ssh, "-i", str(key), "127.0.0.1", "1/0"], alice.environment).returncode == 1

    # pilotctl finds the port, and believes no other key.
    pilotctl = [str(demo.BIN / "pilotctl"), "manhole", "--key", str(key)]
    shown = run([*pilotctl, "trust"], alice.environment)
    assert shown.returncode == 0 and f"{bob.node_id}  trusted" in shown.stdout
    piped = run(pilotctl, alice.environment, "x = 6\nx * 7\n")
    assert (piped.returncode, piped.stdout) == (0, "42\n")
    screen = Screen(pilotctl, alice.environment)
    screen.until(">>> ")
    assert screen.ask("skills") == "(no skill runs here; start one with --skill)\n"
    assert screen.leave() == 0
    pinned = alice.home / "manhole_known_hosts"
    facts = alice("info")["manhole"]
    assert pinned.read_text() == f"pilot-manhole {facts['host_key']}\n"
    shown = run(["ssh-keygen", "-l", "-f", str(pinned)], alice.environment)
    assert facts["fingerprint"] in shown.stdout
    pinned.write_text(f"pilot-manhole {strange.with_suffix('.pub').read_text()}")
    told = alice("manhole", "--key", str(key))
    assert pinned.read_text() == f"pilot-manhole {facts['host_key']}\n"
    pinned.write_text(f"pilot-manhole {strange.with_suffix('.pub').read_text()}")
    denied = run([*told["command"], "1"], alice.environment)
    assert denied.returncode == 255

    # The metrics show the same numbers.
    where = f"127.0.0.1:{alice('info')['metrics']['port']}"
    with urllib.request.urlopen(f"http://{where}/metrics", timeout=PATIENCE) as page:
        values = read_exposition(page.read().decode())
    facts = alice("info")["manhole"]
    assert facts["failed"] >= 1
    assert values["pilot_manhole_failed_total", ()] == facts["failed"]
    assert values["pilot_trusted_nodes", ()] == 1
    assert values["process_resident_memory_bytes", ()] > 1 << 20


def test_no_manhole_is_said_in_one_line(machine: Fleet) -> None:
    alice = machine.agent("alice")
    shown = run([str(demo.BIN / "pilotctl"), "manhole"], alice.environment)
    assert shown.returncode == 1
    assert shown.stderr.splitlines() == [
        "error: the manhole of this daemon is not open",
        "hint:  start it with: pilotctl daemon start --manhole 6022",
    ]
