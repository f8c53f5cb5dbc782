"""The examples of the event stream's page do what the page says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from pilot.address import PORT_EVENT_STREAM
from pilot.crypto.identity import Identity
from pilot.daemon.ipc import IpcServer
from pilot.daemon.ipc_service import ControlSocketService
from pilot.node.service import NodeService
from pilot.node.settings import NodeSettings
from pilot.registry.rendezvous import Rendezvous, RendezvousSettings
from pilot.services.eventbroker import EventLimits
from pilot.services.eventstream import EventStreamFactory
from tests.simulation.nodes import World

reactor: Any = installed

PAGE = (Path(__file__).parents[2] / "docs" / "services" / "event-stream.md").read_text()
CONSOLE = re.findall(r"^```console\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
PYTHON = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)

PATIENCE = 20.0


class Agent:
    """A node on loopback with a broker and a control socket, in this process."""

    def __init__(self, home: Path) -> None:
        settings = RendezvousSettings(registry_addr="127.0.0.1:0", beacon_addr="127.0.0.1:0")
        self._rendezvous = Rendezvous(settings, reactor)
        self._home = home
        self.broker = EventStreamFactory(reactor)

    async def start(self) -> None:
        self._rendezvous.startService()
        await self._rendezvous.started
        registry = f"127.0.0.1:{self._rendezvous.registry_port}"
        settings = NodeSettings(
            registry=registry, beacon="", identity=None, listen="127.0.0.1:0", public=True
        )
        self._nodes = NodeService(reactor, settings, Identity.generate(), None)
        self._nodes.startService()
        await self._nodes.started
        await self._nodes.node.listen(PORT_EVENT_STREAM, self.broker)
        self.socket = str(self._home / "s")
        self._control = ControlSocketService(
            reactor, self.socket, IpcServer(self._nodes.node, reactor)
        )
        self._control.startService()

    async def stop(self) -> None:
        for service in (self._control, self._nodes, self._rendezvous):
            stopping = service.stopService()
            if stopping is not None:
                await stopping
        await deferLater(reactor, 0.05)

    async def subscribed(self, count: int) -> None:
        """Wait for so many subscriptions to have been made."""
        for _ in range(int(PATIENCE / 0.01)):
            if self.broker.broker.counters.subscribed >= count:
                return
            await deferLater(reactor, 0.01)
        raise AssertionError("nobody subscribed")


@pytest.mark.parametrize("block", CONSOLE, ids=range(len(CONSOLE)))
@pytest_twisted.ensureDeferred
async def test_console(block: str, tmp_path: Path) -> None:
    """Each command gives the output below it; one in the background gives its at C{wait}."""
    if "jq" in block and shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    agent = Agent(tmp_path)
    await agent.start()
    environment = {
        **os.environ,
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "PILOT_SOCKET": agent.socket,
    }
    background: subprocess.Popen[str] | None = None

    def start(command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["/bin/sh", "-c", command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )

    def finish(process: subprocess.Popen[str]) -> str:
        with process:
            return process.communicate(timeout=PATIENCE)[0]

    try:
        for command, expected in re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", block, re.MULTILINE):
            if command.endswith(" &"):
                already = agent.broker.broker.counters.subscribed
                background = start(command.removesuffix(" &"))
                await agent.subscribed(already + 1)
                continue
            process = background if command == "wait" else start(command)
            assert process is not None
            assert await deferToThread(finish, process) == expected
    finally:
        if background is not None and background.poll() is None:
            background.kill()
            background.wait()
        await agent.stop()


def test_python(tmp_path: Path) -> None:
    """The subscriber gets what the publisher sends, on one node and on another."""
    names: dict[str, Any] = {}
    for block in PYTHON:
        exec(block, names)  # the page is ours
    world = World(tmp_path)
    alice, bob = world.start("alice"), world.start("bob")
    world.introduce(alice, bob)
    world.wait(bob.listen(PORT_EVENT_STREAM, EventStreamFactory(world.internet)))
    events: list[tuple[bytes, bytes]] = []

    def on_event(topic: bytes, payload: bytes) -> None:
        events.append((topic, payload))

    world.wait(names["subscribe"](alice, "bob", b"status", on_event))
    world.internet.run(0.1)
    for node in (alice, bob):
        done = Deferred.fromCoroutine(names["publish"](node, "bob", b"status", b"online"))
        world.wait(done)
    world.internet.until(lambda: len(events) == 2)
    assert events == [(b"status", b"online")] * 2
    world.close()


def test_limits() -> None:
    """The page names the limits in force."""
    limits = EventLimits()
    assert f"| {limits.queue_events:,}, or {limits.queue_bytes >> 20} MiB" in PAGE
    assert f"subscribers | {limits.queued_bytes >> 20} MiB" in PAGE
    assert f"takes nothing | {limits.patience:.0f} seconds" in PAGE
    assert f"all connections | {limits.unfinished_bytes >> 20} MiB" in PAGE
    assert f"further byte | {limits.unfinished_time:.0f} seconds" in PAGE


def test_figures() -> None:
    for name in EventStreamFactory(reactor).broker.statistics():
        assert f"`{name}`" in PAGE
