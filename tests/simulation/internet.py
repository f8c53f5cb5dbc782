"""TCP in memory, on a clock that tests move: enough of a reactor for the registry's two sides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import IReactorTCP, ITransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

#: Seconds that bytes take from one end to the other.
LATENCY = 0.002


@implementer(IReactorTCP)
class SimulatedInternet(Clock):
    """A clock with C{connectTCP}; C{servers} says who listens where."""

    def __init__(self) -> None:
        super().__init__()
        self.rightNow = 1_795_000_000.0
        self.servers: dict[tuple[str, int], Any] = {}
        self.pipes: list[Pipe] = []
        self._port = 30_000

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> Connector:
        """Connect C{factory} to whoever listens there."""
        connector = Connector(self, factory)
        factory.doStart()
        factory.startedConnecting(connector)
        self.callLater(LATENCY, self._connect, (host, port), factory, connector)
        return connector

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """Serve C{factory}."""
        self.servers[interface or "127.0.0.1", port] = factory

    def _connect(self, where: tuple[str, int], factory: Any, connector: Connector) -> None:
        server = self.servers.get(where)
        if connector.stopped:
            return
        if server is None:
            factory.clientConnectionFailed(connector, Failure(ConnectionRefusedError()))
            return
        self._port += 1
        here = IPv4Address("TCP", "127.0.0.1", self._port)
        there = IPv4Address("TCP", *where)
        near, far = Pipe(self, here, there), Pipe(self, there, here)
        near.other, far.other = far, near
        self.pipes += [near, far]
        connector.pipe = near
        near.lost = lambda reason: factory.clientConnectionLost(connector, reason)
        accepted, made = server.buildProtocol(here), factory.buildProtocol(there)
        near.protocol, far.protocol = made, accepted
        accepted.makeConnection(far)
        made.makeConnection(near)

    def cut(self) -> None:
        """Every connection breaks now."""
        for pipe in self.pipes:
            pipe.end()
        self.pipes.clear()

    def run(self, seconds: float, step: float = 0.01) -> None:
        """Let time pass."""
        for _ in range(round(seconds / step)):
            self.advance(step)

    def until(self, condition: Callable[[], Any], patience: float = 60.0) -> Any:
        """Let time pass until C{condition} holds.  @return: what it gave."""
        end = self.seconds() + patience
        while not (held := condition()):
            assert self.seconds() < end, f"not within {patience} simulated seconds"
            self.advance(0.01)
        return held


class Connector:
    """One attempt to connect."""

    def __init__(self, internet: SimulatedInternet, factory: Any) -> None:
        self.stopped = False
        self.pipe: Pipe | None = None
        self._factory = factory

    def stopConnecting(self) -> None:
        """Give up."""
        self.stopped = True

    def disconnect(self) -> None:
        """Give up, or hang up."""
        self.stopped = True
        if self.pipe is not None:
            self.pipe.loseConnection()


@implementer(ITransport)
class Pipe:
    """One end of a connection."""

    disconnecting = False

    def __init__(self, internet: SimulatedInternet, host: IPv4Address, peer: IPv4Address) -> None:
        self.protocol: Any = None
        self.other: Pipe
        self.lost: Callable[[Failure], None] = lambda reason: None
        self.connected = True
        self._internet = internet
        self._host, self._peer = host, peer

    def write(self, data: bytes) -> None:
        """Send bytes."""
        if self.connected:
            self._internet.callLater(LATENCY, self.other.arrive, bytes(data))

    def writeSequence(self, data: list[bytes]) -> None:
        """Send several."""
        self.write(b"".join(data))

    def arrive(self, data: bytes) -> None:
        """Bytes are here."""
        if self.connected:
            self.protocol.dataReceived(data)

    def loseConnection(self) -> None:
        """Hang up, once everything written has arrived."""
        if not self.disconnecting:
            self.disconnecting = True
            self._internet.callLater(LATENCY, self.other.end)
            self._internet.callLater(LATENCY, self.end)

    abortConnection = loseConnection

    def end(self) -> None:
        """The connection is over."""
        if self.connected:
            self.connected = False
            reason = Failure(ConnectionDone())
            self.protocol.connectionLost(reason)
            self.lost(reason)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Nothing is ever in the way here."""

    def unregisterProducer(self) -> None:
        """Nothing was in the way."""

    def pauseProducing(self) -> None:
        """Nothing stops."""

    def resumeProducing(self) -> None:
        """Nothing stopped."""

    def stopProducing(self) -> None:
        """The reader is gone."""
        self.loseConnection()

    def setTcpNoDelay(self, enabled: bool) -> None:
        """There is no delay."""

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Nothing dies unnoticed."""

    def getPeer(self) -> IPv4Address:
        """The other end."""
        return self._peer

    def getHost(self) -> IPv4Address:
        """This end."""
        return self._host
