"""The daemons that C{fleet.py} measures: how they are started, introduced, asked and followed."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pilot.client.blocking import DaemonClient
from pilot.client.skillcalls import SkillClient
from pilot.errors import PilotError
from pilot.wire.ipc import Handshake, HandshakeSub
from pilot.wire.ipcframes import Command

BIN = Path(sys.executable).parent
SWARM = "fleet"
TICK = os.sysconf("SC_CLK_TCK")


class Usage(NamedTuple):
    """
    What a process has taken so far.

    @ivar cpu: seconds of the processor.
    @ivar memory: resident megabytes.
    """

    cpu: float
    memory: float


def usage(pid: int) -> Usage:
    """@return: of a running process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    megabytes = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    return Usage((int(fields[11]) + int(fields[12])) / TICK, megabytes)


class Sample(NamedTuple):
    """
    What a daemon has done so far.

    @ivar when: monotonic seconds.
    @ivar cpu: seconds of the processor.
    @ivar memory: resident megabytes.
    @ivar wire: bytes of UDP payload, sent and received; C{packets}: datagrams.
    @ivar gossip: bytes of the gossip skill's messages, sent and received.
    @ivar presence: bytes of the presence skill's datagrams, sent only: others count what comes in.
    """

    when: float
    cpu: float
    memory: float
    wire: int
    packets: int
    gossip: int
    presence: int


class Daemon:
    """
    One daemon.

    @ivar node: its number in the network.
    @ivar process: it.
    """

    def __init__(self, name: str, root: Path, registry: str, beacon: str) -> None:
        self.name = name
        self.node = 0
        self.home = root / name
        self.home.mkdir()
        self.socket = str(self.home / "pilot.sock")
        self._client: DaemonClient | None = None
        self._skills = {each: SkillClient(each, self.socket) for each in ("gossip", "presence")}
        command = [
            *(str(BIN / "twistd"), "--nodaemon", "--pidfile=", "pilot"),
            *("--hostname", name, "--listen", "127.0.0.1:0", "--trust-auto-approve"),
            *("--skill", "presence:profile=lan", "--skill", f"gossip:swarm={SWARM}"),
        ]
        environment = clean_environment() | {
            "PILOT_HOME": str(self.home),
            "PILOT_SOCKET": self.socket,
            "PILOT_REGISTRY": registry,
            "PILOT_BEACON": beacon,
        }
        with (self.home / "log").open("w") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def ask(self, command: int, payload: bytes = b"") -> dict[str, Any]:
        """Ask the daemon."""
        if self._client is None:
            self._client = DaemonClient(self.socket)
        return self._client.request_json(command, payload)

    def call(self, skill: str, what: str, **arguments: Any) -> Any:
        """Ask a skill."""
        return self._skills[skill].call(what, arguments)

    def follow(self, skill: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        """@return: what a skill tells those who watch."""
        return self._skills[skill].feed("watch", arguments)

    def info(self) -> dict[str, Any]:
        """@return: the info reply."""
        return self.ask(Command.INFO)

    def trust(self, other: Daemon) -> None:
        """Ask another for trust, which it gives at once."""
        self.ask(Command.HANDSHAKE, Handshake(HandshakeSub.REQUEST, other.node, "fleet").encode())

    def trusted(self) -> int:
        """@return: how many trust it."""
        return len(self.ask(Command.HANDSHAKE, Handshake(HandshakeSub.TRUSTED).encode())["trusted"])

    def sample(self) -> Sample:
        """@return: what it has done so far."""
        # First, so that answering is not part of what is measured at the end.
        used, when = usage(self.process.pid), time.monotonic()
        info = self.info()
        gossip = self.call("gossip", "status", swarm=SWARM)
        presence = self.call("presence", "stats")
        return Sample(
            when,
            used.cpu,
            used.memory,
            info["bytes_sent"] + info["bytes_recv"],
            info["pkts_sent"] + info["pkts_recv"],
            gossip["sent_bytes"] + gossip["received_bytes"],
            presence["sent"]["datagram_bytes"],
        )


class Follower:
    """
    Notes when each of many daemons tells of something first.

    @ivar heard: monotonic seconds, by what it was about and the daemon's node.
    """

    def __init__(
        self, skill: str, about: Callable[[dict[str, Any]], Any], **arguments: Any
    ) -> None:
        """@param about: what an event is about; C{None} if it does not matter."""
        self.heard: dict[Any, dict[int, float]] = {}
        self._skill = skill
        self._about = about
        self._arguments = arguments
        self._news = threading.Condition()

    def follow(self, daemon: Daemon) -> None:
        """Listen to one, until it ends."""
        threading.Thread(target=self._listen, args=(daemon,), daemon=True).start()

    def _listen(self, daemon: Daemon) -> None:
        with contextlib.suppress(PilotError):
            for line in daemon.follow(self._skill, **self._arguments):
                now = time.monotonic()
                about = self._about(line.get("event", {}))
                if about is not None:
                    with self._news:
                        self.heard.setdefault(about, {}).setdefault(daemon.node, now)
                        self._news.notify_all()

    def wait(self, about: Any, count: int, patience: float) -> list[float]:
        """@return: when they heard it, sorted; fewer than C{count} when patience has ended."""
        with self._news:
            self._news.wait_for(lambda: len(self.heard.get(about, ())) >= count, patience)
            return sorted(self.heard.get(about, {}).values())


def clean_environment() -> dict[str, str]:
    """@return: ours, without the caller's own Pilot settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PILOT_")}


def free_port(kind: socket.SocketKind) -> int:
    """@return: a port on loopback that nobody uses right now."""
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def rendezvous(root: Path) -> tuple[subprocess.Popen[bytes], str, str]:
    """@return: a registry and beacon: the process and where both are."""
    registry = f"127.0.0.1:{free_port(socket.SOCK_STREAM)}"
    beacon = f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    command = [
        *(str(BIN / "twistd"), "--nodaemon", "--pidfile=", "pilot-rendezvous"),
        *("--registry-addr", registry, "--beacon-addr", beacon),
        *("--store", str(root / "rendezvous.sqlite")),
    ]
    with (root / "rendezvous.log").open("w") as log:
        process = subprocess.Popen(
            command, env=clean_environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    host, _, port = registry.rpartition(":")

    def answers() -> bool:
        socket.create_connection((host, int(port)), timeout=1).close()
        return True

    until("the rendezvous", answers)
    return process, registry, beacon


def until(what: str, look: Callable[[], Any], patience: float = 60.0, pause: float = 0.1) -> Any:
    """Look again and again until there is something to see."""
    deadline = time.monotonic() + patience
    while True:
        seen = None
        with contextlib.suppress(PilotError, OSError):
            seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: nothing after {patience:.0f} s")
        time.sleep(pause)
