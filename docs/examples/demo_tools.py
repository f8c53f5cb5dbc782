"""What the demo is made of: agents as processes of their own, `pilotctl`, and patience."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent

Command = subprocess.Popen[str]


class StepFailed(Exception):
    """A step did not do what it promised."""


class Agent:
    """One daemon with a home of its own, and the command line that talks to it."""

    def __init__(self, name: str, root: Path, registry: str, beacon: str) -> None:
        self.name = name
        self.home = root / name
        self.home.mkdir()
        self.socket = self.home / "pilot.sock"
        self.environment = {
            **clean_environment(),
            "PILOT_HOME": str(self.home),
            "PILOT_SOCKET": str(self.socket),
            "PILOT_REGISTRY": registry,
            "PILOT_BEACON": beacon,
        }

    def daemon(self) -> list[str]:
        """The command that runs this agent's daemon in the foreground."""
        return [
            str(BIN / "pilot-daemon"),
            "--hostname",
            self.name,
            "--listen",
            "127.0.0.1:0",
            "--email",
            f"{self.name}@example.org",
        ]

    def start(self, *words: str) -> Command:
        """Start a pilotctl command and let it run."""
        return subprocess.Popen(
            [str(BIN / "pilotctl"), "--json", *words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *words: str, fails: bool = False) -> dict[str, Any]:
        """Run a pilotctl command and give its data (or its error, when it is meant to fail)."""
        return finished(self.start(*words), fails=fails)


def finished(command: Command, *, fails: bool = False) -> dict[str, Any]:
    """@return: the data of a command, or its error when it is meant to fail."""
    text = printed(command, fails=fails)
    return dict(json.loads(text.splitlines()[-1]) if fails else json.loads(text)["data"])


def printed(command: Command, *, fails: bool = False) -> str:
    """Wait for a command.  One that ends otherwise than expected fails the step.

    @return: what it printed, or what it complained about when it is meant to fail.
    """
    try:
        out, err = command.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        command.kill()
        raise StepFailed(f"{command.args} takes too long") from None
    if fails and command.returncode == 0:
        raise StepFailed(f"{command.args} should have been refused")
    if not fails and command.returncode != 0:
        raise StepFailed(f"{command.args}: {err.strip()}")
    return err if fails else out


def clean_environment() -> dict[str, str]:
    """The caller's environment without its own Pilot settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PILOT_")}


def free_ports(count: int, kind: socket.SocketKind) -> list[int]:
    """Ports on loopback that nobody uses right now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket(socket.AF_INET, kind)) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def running(
    command: list[str], environment: dict[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives as long as the block; its log is shown when the block fails."""
    with log.open("a") as output:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        yield process
    except BaseException:
        print(f"\n--- log of {' '.join(command[:2])}\n{log.read_text()[-3000:]}", file=sys.stderr)
        raise
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until(what: str, look: Any, patience: float = 15.0) -> Any:
    """Look again and again until there is something to see."""
    deadline = time.monotonic() + patience
    while True:
        with contextlib.suppress(StepFailed, OSError):
            seen = look()
            if seen:
                return seen
        if time.monotonic() > deadline:
            raise StepFailed(f"{what}: nothing after {patience:.0f} s")
        time.sleep(0.05)


def reachable(address: str) -> bool:
    """Whether somebody accepts connections there."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=1).close()
    return True


def say(step: str, result: str) -> None:
    """One line of the story."""
    print(f"  {step:<12} {result}", flush=True)
