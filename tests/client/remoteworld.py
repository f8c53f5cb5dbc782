"""Two nodes with real control sockets, and protocols to hold streams against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from pilot.client.remote import RemoteNode, connect_node
from pilot.daemon.ipc import IpcServer
from pilot.daemon.ipc_service import ControlSocketService
from pilot.interfaces import ISegmentReceiver
from tests.daemon.fakenode import FakeNetwork, FakeNode

reactor: Any = installed

#: Seconds that anything here may take.
PATIENCE = 5.0


class Remotes:
    """Two fake nodes, a and b, each behind a real control socket."""

    def __init__(self, home: Path) -> None:
        self.network = FakeNetwork(reactor)
        self.home = home
        self.nodes = {name: self.network.node(f"node-{name}") for name in "ab"}
        self.servers: dict[str, IpcServer] = {}
        self.services: dict[str, ControlSocketService] = {}
        self.clients: list[RemoteNode] = []

    def path(self, name: str) -> str:
        return str(self.home / f"{name}.sock")

    def start(self, name: str) -> None:
        node: Any = self.nodes[name]
        self.servers[name] = IpcServer(node, reactor)
        service = ControlSocketService(reactor, self.path(name), self.servers[name])
        service.startService()
        self.services[name] = service

    async def stop(self, name: str) -> None:
        service = self.services.pop(name, None)
        if service is not None:
            await service.stopService()

    async def connect(self, name: str) -> RemoteNode:
        client = await connect_node(reactor, self.path(name)).addTimeout(PATIENCE, reactor)
        self.clients.append(client)
        return client

    async def close(self) -> None:
        for client in self.clients:
            client.close()
        await gatherResults([Deferred.fromCoroutine(self.stop(name)) for name in "ab"])
        await pause(0.02)

    def node(self, name: str) -> FakeNode:
        return self.nodes[name]


class Recorder(Protocol):
    """Keeps what it hears; C{ended} fires with the reason of the end."""

    transport: Any

    def __init__(self) -> None:
        self.data = b""
        self.chunks: list[bytes] = []
        self.made: Deferred[Recorder] = Deferred()
        self.ended: Deferred[Exception] = Deferred()
        self._waiting: list[tuple[int, Deferred[bytes]]] = []

    def connectionMade(self) -> None:
        self.made.callback(self)

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        self.chunks.append(data)
        for size, done in list(self._waiting):
            if len(self.data) >= size:
                self._waiting.remove((size, done))
                done.callback(self.data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(reason.value)

    def heard(self, size: int) -> Deferred[bytes]:
        """Fires when that many bytes have come in all."""
        done: Deferred[bytes] = Deferred()
        self._waiting.append((size, done))
        self.dataReceived(b"")
        self.chunks.pop()
        return done.addTimeout(PATIENCE, reactor)

    async def end(self) -> Exception:
        return await self.ended.addTimeout(PATIENCE, reactor)


@implementer(IHalfCloseableProtocol)
class HalfRecorder(Recorder):
    """The same, and it knows halves."""

    def __init__(self) -> None:
        super().__init__()
        self.read_ended: Deferred[None] = Deferred()
        self.write_ended: Deferred[None] = Deferred()

    def readConnectionLost(self) -> None:
        self.read_ended.callback(None)

    def writeConnectionLost(self) -> None:
        self.write_ended.callback(None)


@implementer(ISegmentReceiver)
class SegmentRecorder(Recorder):
    """The same, segment by segment."""

    def segmentsReceived(self, segments: list[bytes]) -> None:
        for segment in segments:
            self.dataReceived(segment)


class Keep(Factory):
    """Keeps the protocols it makes; C{next} fires with the next one that is connected."""

    noisy = False

    def __init__(self, protocol: type[Recorder] = Recorder) -> None:
        self.kind = protocol
        self.made: list[Recorder] = []
        self.next: Deferred[Recorder] = Deferred()
        self.stopped = False

    def buildProtocol(self, addr: Any) -> Recorder:
        protocol = self.kind()
        self.made.append(protocol)
        protocol.made.addCallback(self._connected)
        return protocol

    def _connected(self, protocol: Recorder) -> Recorder:
        waiting, self.next = self.next, Deferred()
        waiting.callback(protocol)
        return protocol

    async def wait(self) -> Recorder:
        return await self.next.addTimeout(PATIENCE, reactor)

    def stopFactory(self) -> None:
        self.stopped = True


def pause(seconds: float) -> Deferred[None]:
    return deferLater(reactor, seconds, lambda: None)
