"""Real processes on loopback: a rendezvous and daemons in a temporary home, and pilotctl."""

from __future__ import annotations

import contextlib
import importlib
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def load_demo() -> Any:
    """The demo's own way of running agents; what it shows to people also drives the tests."""
    sys.path.insert(0, str(_EXAMPLES))
    try:
        return importlib.import_module("demo")
    finally:
        sys.path.remove(str(_EXAMPLES))


demo = load_demo()


class Fleet:
    """A rendezvous and agents, each a process.

    @ivar registry: C{host:port} of the rendezvous's registry.
    @ivar rendezvous: its process.
    """

    def __init__(self, root: Path, stack: contextlib.ExitStack) -> None:
        self.root = root
        self.registry = f"127.0.0.1:{demo.free_ports(1, socket.SOCK_STREAM)[0]}"
        self.beacon = f"127.0.0.1:{demo.free_ports(1, socket.SOCK_DGRAM)[0]}"
        self._stack = stack

    def start_rendezvous(self, *flags: str) -> None:
        """Start the rendezvous and wait until it answers."""
        command = [
            str(demo.BIN / "twistd"),
            "--nodaemon",
            "--pidfile=",
            "pilot-rendezvous",
            "--registry-addr",
            self.registry,
            "--beacon-addr",
            self.beacon,
            "--store",
            str(self.root / "rendezvous.sqlite"),
            *flags,
        ]
        process = self._stack.enter_context(
            demo.running(command, demo.clean_environment(), self.root / "rendezvous.log")
        )
        demo.until("the rendezvous", lambda: demo.reachable(self.registry))
        self.rendezvous = process

    def agent(self, name: str, *flags: str) -> Any:
        """Start an agent's daemon and wait until it is registered.  @return: the agent."""
        agent = demo.Agent(name, self.root, self.registry, self.beacon)
        self.start(agent, *flags)
        return agent

    def start(self, agent: Any, *flags: str) -> None:
        """Start the daemon of an agent (again) and wait until it is registered."""
        log = agent.home / "daemon.log"
        agent.process = self._stack.enter_context(
            demo.running([*agent.daemon(), *flags], agent.environment, log)
        )
        agent.node_id = demo.until(f"{agent.name} registers", lambda: agent("info"))["node_id"]

    def introduce(self, one: Any, other: Any) -> None:
        """Have two agents trust each other."""
        one("handshake", str(other.node_id), "hello")
        demo.until("the request", lambda: other("pending")["pending"])
        other("approve", str(one.node_id))
        demo.until("trust", lambda: one("trust")["trusted"])


@contextlib.contextmanager
def fleet(root: Path) -> Iterator[Fleet]:
    """A fleet whose processes end with the block."""
    with contextlib.ExitStack() as stack:
        yield Fleet(root, stack)


@contextlib.contextmanager
def short_fleet() -> Iterator[Fleet]:
    """A fleet with a rendezvous, in a directory whose name leaves room for the names of sockets."""
    with tempfile.TemporaryDirectory(prefix="pilot-") as directory, fleet(Path(directory)) as net:
        net.start_rendezvous()
        yield net
