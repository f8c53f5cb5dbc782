"""The two ends of an echo measurement, the same over every endpoint."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

CHUNK = 256 * 1024  # bytes a write


class EchoLoad(Protocol):
    """Sends C{total} bytes as fast as the transport takes them and waits until all came back.

    @ivar finished: Deferred of the seconds from the first byte sent to the last one received.
    """

    def __init__(self, total: int) -> None:
        self.finished: Deferred[float] = Deferred()
        self._to_send = self._to_receive = total
        self._chunk = bytes(range(256)) * (CHUNK // 256)
        self._paused = False
        self._began = 0.0

    def connectionMade(self) -> None:
        self._began = time.perf_counter()
        transport: Any = self.transport
        transport.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        assert self.transport is not None
        while self._to_send and not self._paused:
            piece = self._chunk[: self._to_send]
            self._to_send -= len(piece)
            self.transport.write(piece)

    def pauseProducing(self) -> None:
        self._paused = True

    def stopProducing(self) -> None:
        self._to_send = 0

    def dataReceived(self, data: bytes) -> None:
        self._to_receive -= len(data)
        if self._to_receive == 0:
            transport: Any = self.transport
            transport.unregisterProducer()
            self.finished.callback(time.perf_counter() - self._began)
            transport.loseConnection()

    def connectionLost(self, reason: Failure) -> None:
        if not self.finished.called:
            self.finished.errback(reason)


class EchoLoadFactory(Factory):
    """Builds L{EchoLoad} for one measurement after another."""

    def __init__(self, total: int) -> None:
        self.total = total

    def buildProtocol(self, addr: object) -> EchoLoad:
        return EchoLoad(self.total)


class Pinger(Protocol):
    """Sends a few bytes and waits for them."""

    _waiting: Deferred[None] | None = None

    def ping(self) -> Deferred[None]:
        """@return: Deferred of None when the echo is here."""
        self._waiting = Deferred()
        assert self.transport is not None
        self.transport.write(b"ping")
        return self._waiting

    def dataReceived(self, data: bytes) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)


async def measure(connect: Callable[[Factory], Deferred[Any]], total: int) -> float:
    """
    @param connect: connects the factory it is given, like C{endpoint.connect}.
    @return: seconds that an echo of C{total} bytes took.
    """
    protocol = await connect(EchoLoadFactory(total))
    return float(await protocol.finished)
