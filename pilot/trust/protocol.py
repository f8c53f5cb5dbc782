"""Port 444: one stream, one segment, one message, no answer.

@see: protocol notes, I{Messages on virtual port 444}.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from pilot.interfaces import ISegmentReceiver

#: Seconds for which a stream may stay open: until its message has come, and after it.
PATIENCE = 10.0

#: Streams open at the same time: of all peers, and of one.
MAX_STREAMS, MAX_STREAMS_PER_PEER = 256, 8


@implementer(ISegmentReceiver)
class HandshakeProtocol(Protocol):
    """Reads the first segment of a stream and never writes; the sender closes."""

    factory: HandshakeFactory
    _timer: IDelayedCall | None = None
    _heard = False

    def connectionMade(self) -> None:
        """Be patient, but not for ever."""
        self.node_id: int = self.transport.getPeer().address.node  # type: ignore[union-attr]
        if not self.factory.admit(self):
            self.transport.abortConnection()  # type: ignore[union-attr]
            return
        self._timer = self.factory.clock.callLater(PATIENCE, self._expired)

    def segmentsReceived(self, segments: list[bytes]) -> None:
        """Hand the first segment on; a message is never longer than one."""
        timer = self._timer
        if not self._heard and segments and timer is not None and timer.active():
            self._heard = True
            timer.reset(PATIENCE)
            self.factory.message_received(self.node_id, segments[0])

    def connectionLost(self, reason: Failure | None = None) -> None:
        """The sender is done."""
        if self._timer is not None:
            self.factory.release(self)
            if self._timer.active():
                self._timer.cancel()

    def _expired(self) -> None:
        if self._heard:
            self.transport.loseConnection()  # type: ignore[union-attr]
        else:
            self.factory.counters["silent"] += 1
            self.transport.abortConnection()  # type: ignore[union-attr]


class HandshakeFactory(Factory):
    """
    Serves port 444.

    @ivar message_received: takes the sender's node id and its message.
    @ivar counters: streams refused and given up, by reason.
    """

    noisy = False

    def __init__(self, clock: IReactorTime, message_received: Callable[[int, bytes], None]) -> None:
        self.clock = clock
        self.message_received = message_received
        self.counters: Counter[str] = Counter()
        self._open: Counter[int] = Counter()

    def buildProtocol(  # type: ignore[override]  # None declines, and we set the factory
        self, addr: IAddress | None
    ) -> HandshakeProtocol | None:
        """@return: a protocol, or None when too many streams are open."""
        if self._open.total() >= MAX_STREAMS:
            self.counters["streams_full"] += 1
            return None
        protocol = HandshakeProtocol()
        protocol.factory = self
        return protocol

    def admit(self, protocol: HandshakeProtocol) -> bool:
        """@return: whether this peer may have one more stream."""
        if self._open[protocol.node_id] >= MAX_STREAMS_PER_PEER:
            self.counters["streams_of_peer_full"] += 1
            return False
        self._open[protocol.node_id] += 1
        return True

    def release(self, protocol: HandshakeProtocol) -> None:
        """An admitted stream is over."""
        self._open[protocol.node_id] -= 1
        if self._open[protocol.node_id] <= 0:
            del self._open[protocol.node_id]
