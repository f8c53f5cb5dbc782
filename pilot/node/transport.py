"""One overlay stream as a Twisted transport: the shell around a sans-IO L{Connection}."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import (
    IConsumer,
    IDelayedCall,
    IHalfCloseableProtocol,
    IProducer,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    ITransport,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pilot.errors import ConnectionFailed, ConnectionRefused, DialTimeout
from pilot.interfaces import ISegmentReceiver
from pilot.node.endings import StreamReset, StreamTimeout
from pilot.node.producing import Feeding
from pilot.node.streamaddress import PilotStreamAddress
from pilot.stream.connection import Connection
from pilot.stream.events import CloseCause, Closed, Established, PeerFinished

if TYPE_CHECKING:
    from pilot.node.streams import StreamTable

log = Logger()

#: Bytes written but not yet sent at which a producer is paused, and at which it goes on.
HIGH_WATER = 512 * 1024
LOW_WATER = 128 * 1024

#: Segments that one stream may send before the others have their turn.
BURST = 256


@implementer(ITransport, IConsumer, IPushProducer)
class StreamTransport:
    """
    What a protocol on a virtual port writes to.

    It has the manners of a TCP transport: C{loseConnection} delivers what was written before it
    ends the stream, C{abortConnection} resets it, a registered producer is paused while the
    peer's window is full, and C{connectionLost} tells a clean end (C{ConnectionDone}) from a reset
    (L{StreamReset}).

    @ivar connection_id: number of this stream in the daemon, as C{pilotctl connections} shows it.
    @ivar connection: the protocol machine; its decisions, our hands.
    """

    def __init__(
        self,
        table: StreamTable,
        connection: Connection,
        connection_id: int,
        local: PilotStreamAddress,
        remote: PilotStreamAddress,
        factory: IProtocolFactory,
        *,
        inbound: bool,
        on_connected: Callable[[IProtocol], None] | None = None,
        on_failed: Callable[[Failure], None] | None = None,
    ) -> None:
        self.connection = connection
        self.connection_id = connection_id
        self.local = local
        self.remote = remote
        self.inbound = inbound
        self.touched = False
        self.disconnecting = False
        self.relay_tried = False
        self.connected = False
        # Bytes of the header that never change, packed once.
        self.local_packed = local.address.pack()
        self.remote_packed = remote.address.pack()
        self._table = table
        self._factory = factory
        self._on_connected = on_connected
        self._on_failed = on_failed
        self._protocol: Any = None
        self._wants_segments = False
        self._reading = True
        self._write_closed = False
        self._peer_finished = False
        self._feeding = Feeding()
        self._timer: IDelayedCall | None = None
        self._timer_due = 0.0
        self._ended = False
        self._released = False

    # -- what protocols call -------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Queue bytes; they leave at the end of this turn of the reactor."""
        if self._write_closed or not data:
            return
        self.connection.write(data)
        self._table.touch(self)
        if self.connection.unsent > HIGH_WATER:
            self._feeding.pause()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Queue several byte strings."""
        self.write(b"".join(data))

    def write_unit(self, data: bytes) -> None:
        """Queue bytes that must arrive as one segment, as the trust handshake demands."""
        if not self._write_closed:
            self.connection.write_unit(data)
            self._table.touch(self)

    def loseConnection(self) -> None:
        """Deliver what was written (a producer may finish first), then end the stream."""
        if self.disconnecting or self._ended:
            return
        self.disconnecting = True
        if self._feeding.producer is None:
            self._close_write()

    def dismiss(self) -> None:
        """Deliver what was written and end the stream, though a producer has more to say."""
        self._feeding.stop()
        self.loseConnection()

    def loseWriteConnection(self) -> None:
        """End our direction only.  A reference peer knows no halves: towards it the end waits."""
        if not self._write_closed:
            self._close_write()

    def abortConnection(self) -> None:
        """Reset the stream; whatever was not delivered yet is lost on both sides."""
        if self._ended:
            return
        self.connection.abort()
        self._table.touch(self)
        self._lose(Failure(ConnectionAborted()))

    def getPeer(self) -> PilotStreamAddress:
        """@return: address and port of the other end."""
        return self.remote

    def getHost(self) -> PilotStreamAddress:
        """@return: the address that was dialled, and our port."""
        return self.local

    # -- IConsumer: our producer writes to the stream ------------------------------------------

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Let C{producer} feed the stream at the peer's pace."""
        if self._ended:
            producer.stopProducing()
        else:
            self._feeding.register(producer, streaming, full=self.connection.unsent > HIGH_WATER)

    def unregisterProducer(self) -> None:
        """The producer is done."""
        self._feeding.unregister()
        if self.disconnecting and not self._write_closed:
            self._close_write()

    # -- IPushProducer: the stream feeds our protocol ------------------------------------------

    def pauseProducing(self) -> None:
        """Deliver nothing for now; the peer's window fills up."""
        self._reading = False

    def resumeProducing(self) -> None:
        """Deliver again."""
        if not self._reading and not self._ended:
            self._reading = True
            self._table.touch(self)

    def stopProducing(self) -> None:
        """The consumer of our data is gone."""
        self.loseConnection()

    def withdraw(self) -> None:
        """Whoever dialled has lost interest before there was an answer."""
        self._on_connected = self._on_failed = None
        self.abortConnection()

    # -- what the table calls ------------------------------------------------------------------

    def settle(self, now: float) -> None:
        """
        Bring the protocol and the peer up to date: deliver, notice the ends, send what may go.

        Called once for a stream that was touched, however many segments touched it.
        """
        self.touched = False
        if self._released:
            return
        connection = self.connection
        closed: Closed | None = None
        for event in connection.take_events():
            if isinstance(event, Established):
                self._established()
            elif isinstance(event, PeerFinished):
                self._peer_finished = True
                self._table.peer_finished(self)
            else:
                closed = event
        if self._reading and connection.received and not self._ended:
            self._deliver()
        if self._peer_finished and not connection.received:
            self._end_of_stream()
        segments = connection.transmit(now, BURST)
        if segments:
            self._table.send(self, segments)
            if len(segments) >= BURST:
                self._table.touch_later(self)
        if closed is None:
            for event in connection.take_events():
                if isinstance(event, Closed):
                    closed = event
        if closed is not None:
            self._closed(closed)
            return
        if connection.unsent <= LOW_WATER:
            self._feeding.resume()
        if self._ended:
            self._table.linger(self)
        self._arm(now)

    def release(self) -> None:
        """Let go of the timer and the protocol; the table has dropped this stream."""
        self._released = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if not self._ended:
            self._lose(Failure(StreamReset("the node stopped")))

    # -- the ends ------------------------------------------------------------------------------

    def _established(self) -> None:
        if self.connected or self._ended:
            return
        self.connected = True
        try:
            protocol = self._factory.buildProtocol(self.remote)
            if protocol is not None:
                self._protocol = protocol
                self._wants_segments = ISegmentReceiver.providedBy(protocol)
                protocol.makeConnection(self)
        except Exception:
            log.failure("protocol for {remote} failed to start", remote=str(self.remote))
            self._fail_dial(Failure())
            self.abortConnection()
            return
        if protocol is None:
            self._fail_dial(Failure(ConnectionFailed("the factory declined the connection")))
            self.abortConnection()
            return
        if self._on_connected is not None:
            on_connected, self._on_connected, self._on_failed = self._on_connected, None, None
            on_connected(protocol)

    def _deliver(self) -> None:
        segments = self.connection.take_received()
        if self.disconnecting and self._write_closed:
            return  # the program has said goodbye: read on its behalf, so that the peer can finish
        protocol = self._protocol
        try:
            if self._wants_segments:
                protocol.segmentsReceived(segments)
            else:
                protocol.dataReceived(segments[0] if len(segments) == 1 else b"".join(segments))
        except Exception:
            log.failure("protocol on {local} failed on data", local=str(self.local))
            self.abortConnection()

    def _end_of_stream(self) -> None:
        self._peer_finished = False
        protocol = self._protocol
        if protocol is None or self._ended:
            return
        if IHalfCloseableProtocol.providedBy(protocol) and not self.disconnecting:
            try:
                protocol.readConnectionLost()
            except Exception:
                log.failure("protocol on {local} failed at the end", local=str(self.local))
                self.abortConnection()
            return
        self._close_write()
        self._lose(Failure(ConnectionDone()))

    def _close_write(self) -> None:
        if not self._write_closed:
            self._write_closed = True
            self.connection.close_write()
            if self.disconnecting:
                self.connection.close_read()
            elif IHalfCloseableProtocol.providedBy(self._protocol):
                self._table.later(self._write_connection_lost)
            self._table.touch(self)

    def _write_connection_lost(self) -> None:
        if not self._ended and self._protocol is not None:
            IHalfCloseableProtocol(self._protocol).writeConnectionLost()

    def _closed(self, event: Closed) -> None:
        if not self.connected:
            self._fail_dial(Failure(_dial_error(event)))
        if not self._ended:
            self._lose(Failure(_end_reason(event)))
        self._table.forget(self, event)

    def _fail_dial(self, reason: Failure) -> None:
        if self._on_failed is not None:
            on_failed, self._on_connected, self._on_failed = self._on_failed, None, None
            on_failed(reason)

    def _lose(self, reason: Failure) -> None:
        """The protocol's life on this stream ends here; the connection may go on flushing."""
        self._ended = True
        self._write_closed = True
        self.disconnecting = True
        self._reading = True
        self.connection.close_read()
        self._feeding.stop()
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            try:
                protocol.connectionLost(reason)
            except Exception:
                log.failure("protocol on {local} failed at its end", local=str(self.local))

    # -- producers and the timer ---------------------------------------------------------------

    def _arm(self, now: float) -> None:
        # Deadlines mostly move away while data flows; the timer is left where it is and
        # looks again when it fires, which costs less than moving it with every segment.
        deadline = self.connection.deadline()
        if deadline is None:
            return
        if self._timer is not None:
            if deadline >= self._timer_due:
                return
            # Not moved: the reactor looks through all its timers to bring one forward.
            self._timer.cancel()
        self._timer_due = deadline
        self._timer = self._table.clock.callLater(max(0.0, deadline - now), self._wake)

    def _wake(self) -> None:
        self._timer = None
        now = self._table.clock.seconds()
        self.connection.wake(now)
        self._table.woken(self)


def _dial_error(event: Closed) -> Exception:
    if event.cause is CloseCause.REFUSED:
        return ConnectionRefused("connection refused")
    if event.cause is CloseCause.TIMEOUT:
        return DialTimeout("dial timeout")
    return ConnectionFailed(event.reason)


def _end_reason(event: Closed) -> Exception:
    if event.cause is CloseCause.CLEAN:
        return ConnectionDone()
    if event.cause is CloseCause.ABORTED:
        return ConnectionAborted()
    if event.cause is CloseCause.TIMEOUT:
        return StreamTimeout(event.reason)
    return StreamReset(event.reason)
