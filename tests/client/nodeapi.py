"""Whole nodes in simulated time, asked from inside the daemon or over its control socket."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pilot.address import PORT_DATA_EXCHANGE, PORT_EVENT_STREAM
from pilot.client.remote import RemoteNode, connect_node
from pilot.daemon.ipc import IpcServer
from pilot.daemon.ipc_limits import IpcLimits
from pilot.node.node import PilotNode
from pilot.services.dataexchange import DataExchangeFactory
from pilot.services.eventstream import EventStreamFactory
from pilot.services.mailbox import Mailbox
from pilot.services.mailstore import MailLimits
from tests.services.mail import HandWorkers
from tests.simulation.nodes import World


class House:
    """A node with its services, and a control socket."""

    def __init__(
        self,
        street: Street,
        name: str,
        mail: MailLimits | None = None,
        limits: IpcLimits | None = None,
    ) -> None:
        world = self._world = street.world
        self.home = street.directory / name
        self.node: PilotNode = world.start(name)
        workers: Any = HandWorkers()
        self.exchange = DataExchangeFactory(
            Mailbox(self.home, workers, mail),
            world.internet,
            lambda *event: world.events[name].append(event),
            claims=self.node.parts.claims,
        )
        self.mail_port = world.wait(self.node.listen(PORT_DATA_EXCHANGE, self.exchange))
        self.events = EventStreamFactory(
            world.internet, on_event=lambda *event: world.events[name].append(event)
        )
        self.node.parts.taps.attach(self.events.broker)
        world.wait(self.node.listen(PORT_EVENT_STREAM, self.events))
        self.server = IpcServer(self.node, world.internet, limits)
        self.server.startFactory()
        self._socket = (f"/{name}.sock", 0)
        world.internet.servers[self._socket] = self.server
        self.clients: list[RemoteNode] = []

    def connect(self) -> RemoteNode:
        """@return: a program of its own."""
        internet: Any = self._world.internet
        internet.connectUNIX = lambda path, factory, timeout, checkPID: internet.connectTCP(
            path, 0, factory, timeout
        )
        client: RemoteNode = self._world.wait(connect_node(internet, self._socket[0]))
        self.clients.append(client)
        return client

    @property
    def inbox(self) -> list[str]:
        """What the messages in the inbox say, in the order they came."""
        try:
            paths = sorted((self.home / "inbox").iterdir(), key=lambda path: path.name[-30:])
        except FileNotFoundError:
            return []
        return [json.loads(path.read_bytes())["data"] for path in paths]

    def close(self) -> None:
        """Hang up on everybody."""
        for client in self.clients:
            client.close()
        self.server.close()
        self.server.stopFactory()


class Street:
    """
    Alice, who is asked, and Bob, who is her peer.

    @ivar asked: alice's node, or a program that reaches it through the daemon.
    """

    def __init__(self, directory: Path, *, remote: bool = False, **ways: Any) -> None:
        self.directory = directory
        self.world = World(directory, seed=11)
        self.alice = House(self, "alice", limits=ways.get("limits"))
        self.bob = House(self, "bob", mail=ways.get("mail"))
        self.world.introduce(self.alice.node, self.bob.node)
        self.asked: Any = self.alice.connect() if remote else self.alice.node
        self.wait, self.until, self.run = (
            self.world.wait,
            self.world.internet.until,
            self.world.internet.run,
        )

    def told(self, name: str, event: str) -> list[Any]:
        """@return: what a node's webhook heard of an event."""
        return [data for kind, data in self.world.events[name] if kind == event]

    def close(self) -> None:
        """Everybody goes home."""
        self.alice.close()
        self.bob.close()
        self.run(0.1)
        self.world.close()
