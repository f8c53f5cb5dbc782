"""Clients of a control socket that exists in memory only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from pilot.address import Address
from pilot.daemon.ipc import IpcServer
from pilot.daemon.ipc_limits import IpcLimits
from pilot.wire.ipc import Bind, Command, ConnData, ConnId, Dial, Error, FrameDecoder, encode_frame
from tests.daemon.fakenode import FakeNetwork, FakeNode

Frame = tuple[int, bytes]


class SocketTransport(StringTransport):
    """A client's socket whose reader may stop reading, as C{full} says."""

    full = False
    paused = False
    aborted = False

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.full and self.producer is not None and not self.paused:
            self.paused = True
            self.producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def unblock(self) -> None:
        self.full = False
        if self.paused:
            self.paused = False
            self.producer.resumeProducing()

    def abortConnection(self) -> None:
        self.aborted = True


class Client:
    """What a program on the other end of the socket sees."""

    def __init__(self, world: World, server: IpcServer) -> None:
        self.world = world
        self.protocol = server.buildProtocol(None)
        self.transport = SocketTransport()
        self.decoder = FrameDecoder()
        self.gone = False
        self.protocol.makeConnection(self.transport)

    def send(self, command: int, payload: bytes = b"") -> None:
        self.raw(encode_frame(command, payload))

    def raw(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def frames(self) -> list[Frame]:
        """What has arrived since the last look, after everything had its turn."""
        self.world.turn()
        data = self.transport.value()
        self.transport.clear()
        return self.decoder.feed(data)

    def ask(self, command: int, payload: bytes = b"") -> Frame:
        self.send(command, payload)
        (frame,) = self.frames()
        return frame

    def bind(self, port: int) -> None:
        assert self.ask(Command.BIND, Bind(port).encode()) == (
            Command.BIND_OK,
            Bind(port).encode(),
        )
        self.world.clock.advance(1)

    def dial(self, node: int, port: int) -> int:
        command, payload = self.ask(Command.DIAL, Dial(Address(0, node), port).encode())
        assert command == Command.DIAL_OK
        return ConnId.decode(payload).conn_id

    def accept(self) -> int:
        ((command, payload),) = self.frames()
        assert command == Command.ACCEPT
        return int.from_bytes(payload[2:6], "big")

    def write(self, conn_id: int, data: bytes) -> None:
        self.send(Command.SEND, ConnData(conn_id, data).encode())

    def close(self, conn_id: int) -> None:
        self.send(Command.CLOSE, ConnId(conn_id).encode())

    def hang_up(self) -> None:
        self.gone = True
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.world.turn()


class World:
    """Two nodes, a and b, each with a control socket."""

    def __init__(self, limits: IpcLimits | None = None) -> None:
        self.clock = Clock()
        self.network = FakeNetwork(self.clock)
        self.a = self.network.node("node-a")
        self.b = self.network.node("node-b")
        self.webhooks: list[str] = []
        self.servers = {node: self._server(node, limits) for node in (self.a, self.b)}

    def _server(self, node: FakeNode, limits: IpcLimits | None) -> IpcServer:
        async def set_webhook(url: str) -> None:
            self.webhooks.append(url)

        fake: Any = node
        server = IpcServer(fake, self.clock, limits, set_webhook=set_webhook)
        server.startFactory()
        return server

    def client(self, node: FakeNode) -> Client:
        return Client(self, self.servers[node])

    def pair(self, port: int = 5000) -> tuple[Client, Client, int, int]:
        """A client of a with a stream to a client of b: both, and their numbers of it."""
        a, b = self.client(self.a), self.client(self.b)
        b.bind(port)
        near = a.dial(2, port)
        far = b.accept()
        self.clock.advance(1)
        return a, b, near, far

    def turn(self) -> None:
        while any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()):
            self.clock.advance(0)


def error(text: str) -> Frame:
    return Command.ERROR, Error(1, text).encode()


def closed(conn_id: int) -> Frame:
    return Command.CLOSE_OK, ConnId(conn_id).encode()


def received(conn_id: int, data: bytes) -> Frame:
    return Command.RECV, ConnData(conn_id, data).encode()
