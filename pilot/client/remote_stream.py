"""One overlay stream as a Twisted transport, carried over a daemon's control socket."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from struct import Struct
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IProtocol,
    IPushProducer,
    ITransport,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pilot.interfaces import ISegmentReceiver
from pilot.node.endings import StreamReset, StreamTimeout
from pilot.node.producing import Feeding
from pilot.node.streamaddress import PilotStreamAddress
from pilot.wire.ipc import Command, ConnId, encode_frame
from pilot.wire.ipc_extensions import Closed, CloseReason, Extension

if TYPE_CHECKING:
    from pilot.client.remote_link import RemoteLink

log = Logger()

#: Most bytes of data in one frame: enough to make its cost vanish, little enough to share.
CHUNK = 64 * 1024

#: Bytes written but not yet on the socket at which a producer is paused, and at which it goes on.
HIGH_WATER = 256 * 1024
LOW_WATER = 64 * 1024

#: Bytes that may arrive for a paused protocol before the daemon is told to hold them back.
HELD_LIMIT = 64 * 1024

_SEND_HEAD = Struct(">IBI")
_SEND_OVERHEAD = 5  # counted by the length field: the command and the connection id


@implementer(ITransport, IConsumer, IPushProducer)
class RemoteStream:
    """
    What a protocol sees of a stream that its process dialled or accepted through the daemon.

    Same manners as L{pilot.node.transport.StreamTransport}: C{loseConnection} flushes,
    C{abortConnection} resets, producers are paused in both directions, a clean end is
    C{ConnectionDone} and nothing else is.

    @ivar connection_id: the daemon's number of the stream.
    @ivar disconnecting: whether the end of the stream has begun.
    """

    def __init__(
        self,
        link: RemoteLink,
        connection_id: int,
        local: PilotStreamAddress,
        remote: PilotStreamAddress,
    ) -> None:
        self.connection_id = connection_id
        self.disconnecting = False
        self._link = link
        self._local = local
        self._remote = remote
        self._protocol: IProtocol | None = None
        self._wants_segments = False
        self._half_closes = False
        # Towards the daemon.
        self._unsent: deque[bytes | memoryview] = deque()
        self._unsent_bytes = 0
        self._held_back = False
        self._write_closed = False
        self._write_ended: Callable[[], None] | None = None
        self._feeding = Feeding()
        # From the daemon.
        self._batch: list[bytes] = []
        self._reading = True
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._asked_to_pause = False
        self._peer_finished = False
        self._end: Exception | None = None
        self._ended = False

    def start(self, protocol: IProtocol) -> None:
        """Connect the protocol."""
        self._protocol = protocol
        self._wants_segments = ISegmentReceiver.providedBy(protocol)
        self._half_closes = IHalfCloseableProtocol.providedBy(protocol)
        protocol.makeConnection(self)

    # -- ITransport ----------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Queue bytes for the peer."""
        if self._write_closed or not data:
            return
        if not self._unsent and len(data) <= CHUNK and self._may_send():
            self._send(data)
            if self._feeding.asks:
                self._link.wait_for_room(self)
            return
        self._unsent.append(data)
        self._unsent_bytes += len(data)
        self.flush()
        if self._unsent_bytes > HIGH_WATER:
            self._feeding.pause()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Queue several byte strings."""
        self.write(b"".join(data))

    def write_unit(self, data: bytes) -> None:
        """Queue bytes; what fits one frame travels in one."""
        self.write(data)

    def loseConnection(self) -> None:
        """Deliver what was written (a producer may finish first), then end the stream."""
        if self.disconnecting or self._ended:
            return
        self.disconnecting = True
        if self._feeding.producer is None:
            self._close_write()

    def loseWriteConnection(self) -> None:
        """End our direction only."""
        if not self._write_closed:
            self._close_write()

    def abortConnection(self) -> None:
        """Reset the stream; whatever was not delivered yet is lost on both sides."""
        if self._ended or self._end is not None:
            return
        self._drop_unsent()
        self._write_closed = self.disconnecting = True
        self._link.send_about(self, Extension.ABORT, Command.CLOSE)
        self._finish(ConnectionAborted())

    def getPeer(self) -> PilotStreamAddress:
        """@return: address and port of the other end."""
        return self._remote

    def getHost(self) -> PilotStreamAddress:
        """@return: our address and port; port 0 when we dialled."""
        return self._local

    # -- IConsumer: our producer writes to the stream ------------------------------------------

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let C{producer} feed the stream at the peer's pace."""
        if self._ended:
            producer.stopProducing()
        else:
            self._feeding.register(producer, streaming, full=self._unsent_bytes > HIGH_WATER)

    def unregisterProducer(self) -> None:
        """The producer is done."""
        self._feeding.unregister()
        if self.disconnecting and not self._write_closed:
            self._close_write()

    # -- IPushProducer: the stream feeds our protocol ------------------------------------------

    def pauseProducing(self) -> None:
        """Deliver nothing for now."""
        self._reading = False

    def resumeProducing(self) -> None:
        """Deliver again."""
        if self._reading or self._ended:
            return
        self._reading = True
        if self._held or self._peer_finished or self._end is not None:
            self._link.later(self._catch_up)

    def stopProducing(self) -> None:
        """The consumer of our data is gone."""
        self.loseConnection()

    # -- what the link calls: towards the daemon -----------------------------------------------

    def hold(self, held: bool) -> None:
        """The daemon has no room for this stream, or has room again."""
        self._held_back = held
        if not held:
            self.flush()

    def flush(self) -> None:
        """Send what waits, as far as there is room."""
        unsent = self._unsent
        while unsent and self._may_send():
            data = unsent.popleft()
            if len(data) > CHUNK:
                view = memoryview(data)  # so that what is left is not copied at every step
                unsent.appendleft(view[CHUNK:])
                data = view[:CHUNK]
            self._unsent_bytes -= len(data)
            self._send(bytes(data))
        if not unsent and self._write_ended is not None:
            ended, self._write_ended = self._write_ended, None
            ended()
        if unsent and not self._held_back:
            self._link.wait_for_room(self)
        elif self._unsent_bytes <= LOW_WATER:
            self._feeding.resume()

    def _may_send(self) -> bool:
        return not self._held_back and not self._link.blocked

    def _send(self, data: bytes) -> None:
        head = _SEND_HEAD.pack(_SEND_OVERHEAD + len(data), Command.SEND, self.connection_id)
        self._link.send((head, data))

    def _close_write(self) -> None:
        self._write_closed = True
        self._write_ended = self._send_close if self.disconnecting else self._send_finish
        self.flush()

    def _send_close(self) -> None:
        self._link.send_about(self, Command.CLOSE)

    def _send_finish(self) -> None:
        # A daemon without halves hears nothing: its Close would end the direction that is open.
        self._link.send_about(self, Extension.FINISH, None)
        if self._half_closes:
            self._link.later(self._write_connection_lost)

    def _write_connection_lost(self) -> None:
        if not self._ended and self._protocol is not None:
            self._guarded(IHalfCloseableProtocol(self._protocol).writeConnectionLost)

    def _drop_unsent(self) -> None:
        self._unsent.clear()
        self._unsent_bytes = 0
        self._write_ended = None

    # -- what the link calls: from the daemon --------------------------------------------------

    def received(self, data: bytes) -> bool:
        """
        Take one segment; it is delivered at the end of the batch.

        @return: whether it is the first of its batch.
        """
        batch = self._batch
        batch.append(data)
        return len(batch) == 1

    def deliver(self) -> None:
        """Hand the batch to the protocol, or keep it while that does not want any."""
        batch, self._batch = self._batch, []
        if self._ended or not batch or (self.disconnecting and self._write_closed):
            return
        if self._reading and not self._held:
            self._pass_on(batch)
            return
        self._held += batch
        self._held_bytes += sum(map(len, batch))
        if self._held_bytes > HELD_LIMIT and not self._asked_to_pause:
            self._asked_to_pause = True
            self._link.hold_back(self, True)

    def finished(self) -> None:
        """The peer has closed its direction."""
        self.deliver()
        self._peer_finished = True
        self._catch_up()

    def closed(self, end: Closed) -> None:
        """The stream is over, as far as the daemon is concerned."""
        self.deliver()
        self._drop_unsent()
        self._finish(_end_reason(end))

    def daemon_lost(self) -> None:
        """The daemon is gone, and the stream with it."""
        self._drop_unsent()
        self._finish(StreamReset("the daemon closed the connection"))

    def _finish(self, reason: Exception) -> None:
        """Nothing more goes either way; the protocol learns it after the data it has not read."""
        self._end = reason
        self._link.forget(self)
        self._write_closed = True
        if self.disconnecting or not isinstance(reason, ConnectionDone):
            self._held.clear()
            self._reading = True
        self._link.later(self._catch_up)

    def _catch_up(self) -> None:
        """Deliver what was held, then the ends."""
        if self._ended or not self._reading:
            return
        if self._held:
            held, self._held, self._held_bytes = self._held, [], 0
            self._pass_on(held)
        if self._asked_to_pause and self._reading:
            self._asked_to_pause = False
            self._link.hold_back(self, False)
        if self._peer_finished or self._end is not None:
            self._tell_end()

    def _tell_end(self) -> None:
        if self._ended or not self._reading:
            return  # paused once more by what was held
        if self._end is not None:
            self._lose(self._end)
        elif self._half_closes and not self.disconnecting:
            self._peer_finished = False
            self._guarded(IHalfCloseableProtocol(self._protocol).readConnectionLost)
        else:
            # As over TCP: a protocol that knows no halves has lost its connection here.
            if not self.disconnecting:
                self.disconnecting = True
                self._close_write()
            self._lose(ConnectionDone())

    def _pass_on(self, segments: list[bytes]) -> None:
        protocol: Any = self._protocol
        if self._wants_segments:
            self._guarded(protocol.segmentsReceived, segments)
        else:
            data = segments[0] if len(segments) == 1 else b"".join(segments)
            self._guarded(protocol.dataReceived, data)

    def _lose(self, reason: Exception) -> None:
        self._ended = self.disconnecting = self._write_closed = True
        self._held.clear()
        self._feeding.stop()
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            failure = Failure(reason)
            self._guarded(protocol.connectionLost, failure)

    def _guarded(self, call: Callable[..., object], *args: object) -> None:
        try:
            call(*args)
        except Exception:
            log.failure("protocol of a stream to {remote} failed", remote=str(self._remote))
            self.abortConnection()


def _end_reason(end: Closed) -> Exception:
    if end.reason is CloseReason.CLEAN:
        return ConnectionDone()
    if end.reason is CloseReason.ABORTED:
        return ConnectionAborted()
    if end.reason is CloseReason.TIMEOUT:
        return StreamTimeout(end.text)
    return StreamReset(end.text)


def about(command: int, stream: RemoteStream) -> bytes:
    """@return: a frame that names a stream and says no more."""
    return encode_frame(command, ConnId(stream.connection_id).encode())
