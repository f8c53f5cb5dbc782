"""One overlay stream of a client of the control socket: bytes there, frames here."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from pilot.errors import TimedOut
from pilot.interfaces import ISegmentReceiver
from pilot.node.endings import StreamTimeout
from pilot.wire.ipc import Command, ConnId, encode_frame
from pilot.wire.ipc_extensions import Closed, CloseReason, Extension

if TYPE_CHECKING:
    from pilot.daemon.ipc_client import IpcClient
    from pilot.daemon.ipc_ports import BoundPort

#: Length, command and connection id: what stands before the data of a Recv frame.
_RECV_HEAD = Struct(">IBI")
_RECV_OVERHEAD = 5  # counted by the length field: the command and the connection id


@implementer(ISegmentReceiver, IPushProducer)
class IpcStream(Protocol):
    """
    Carries one stream between the overlay and the client that owns it.

    It starts silent: nothing of the stream reaches the client before the frame that announces it.
    As a producer it is the client seen from the overlay; paused, it means a full window.

    @ivar conn_id: the daemon's number of the stream.
    @ivar writable: whether C{send} still makes sense.
    @ivar port: the bound port that accepted it, None when it was dialled.
    """

    transport: Any

    def __init__(self, client: IpcClient) -> None:
        self.conn_id = 0
        self.writable = False
        self.port: BoundPort | None = None
        self._client: IpcClient | None = client
        self._extended = client.extended
        self._announced_at: float | None = None
        self._reading = False
        self._paused_by_client = False
        self._full = False
        self._overrun = 0
        self._end: bytes | None = None
        self._end_call: IDelayedCall | None = None
        self._feeding = False
        self._lost = False
        self._told = False

    # -- from the overlay ----------------------------------------------------------------------

    def connectionMade(self) -> None:
        """The stream is open."""
        self.conn_id = self.transport.connection_id
        self.transport.pauseProducing()
        self.transport.registerProducer(self, True)
        self.writable = self._feeding = True
        if self._client is not None:
            self._client.stream_opened(self)
            if self.port is not None:
                self.port.accepted(self)

    def segmentsReceived(self, segments: list[bytes]) -> None:
        """Pass each segment on as one frame, all of them in one write."""
        client = self._client
        if client is None or self._end is not None:
            return
        head, conn_id, parts = _RECV_HEAD.pack, self.conn_id, []
        for segment in segments:
            parts.append(head(_RECV_OVERHEAD + len(segment), Command.RECV, conn_id))
            parts.append(segment)
        client.write_parts(parts)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The stream is over."""
        self.writable = self._feeding = False
        self._lost = True
        client = self._client
        if client is not None:
            client.stream_lost(self)
            self._make_room(client)
            self._tell_end(*_close_reason(reason))
            self._done(client)

    # -- IPushProducer: the client's data, as the stream sees it -------------------------------

    def pauseProducing(self) -> None:
        """The peer's window is full."""
        self._full = True
        if self._extended and self._client is not None and self._announced_at is not None:
            self._client.push(encode_frame(Extension.PAUSE, ConnId(self.conn_id).encode()))

    def resumeProducing(self) -> None:
        """There is room again."""
        if not self._full:
            return
        self._full = False
        client = self._client
        if client is not None:
            if self._extended and self._announced_at is not None:
                client.push(encode_frame(Extension.RESUME, ConnId(self.conn_id).encode()))
            self._make_room(client)

    def stopProducing(self) -> None:
        """The stream takes no more; C{connectionLost} says the rest."""

    # -- from the client -----------------------------------------------------------------------

    def announced(self) -> None:
        """The client knows of the stream now, so it may hear from it."""
        client = self._client
        if client is None:
            return
        self._announced_at = client.clock.seconds()
        if self._full:
            self.pauseProducing()
        self.update_reading()
        if self._end is not None:
            self._send_end()

    def send(self, data: bytes) -> None:
        """Write to the stream what one Send frame held."""
        self.transport.write(data)
        if self._full and self._client is not None:
            self._overrun += len(data)
            if self._overrun > self._client.limits.stream_backlog:
                self._client.stall(self)

    def pause(self, paused: bool) -> None:
        """The client does not want this stream's data for now, or wants it again."""
        self._paused_by_client = paused
        self.update_reading()

    def update_reading(self) -> None:
        """Take data from the stream if its client can take it."""
        client = self._client
        reading = client is None or (
            self._announced_at is not None and not client.congested and not self._paused_by_client
        )
        if reading != self._reading:
            self._reading = reading
            if reading:
                self.transport.resumeProducing()
            else:
                self.transport.pauseProducing()

    def finish(self) -> None:
        """End the client's direction; the other one goes on."""
        if self.writable:
            self._stop_feeding()
            self.transport.loseWriteConnection()

    def close(self) -> None:
        """End the stream after what was sent on it; some client's Close."""
        self._let_go()
        if not self._extended:
            # The drivers wait for this frame and must not wait for the peer's good manners.
            self._tell_end(CloseReason.CLEAN, "")

    def abort(self) -> None:
        """Reset the stream."""
        self.writable = False
        self.transport.abortConnection()

    def orphan(self) -> None:
        """The client is gone: end the stream in its name."""
        client, self._client = self._client, None
        if client is not None:
            client.stream_lost(self)
            client.stream_done(self)
        if self._end_call is not None:
            self._end_call.cancel()
            self._end_call = None
        self._let_go()

    def _let_go(self) -> None:
        if self._lost:
            return
        self._stop_feeding()
        self.transport.loseConnection()
        if self._client is not None:
            self._make_room(self._client)
        # What still arrives is read and dropped, so that the peer's end can arrive, too.
        if not self._reading:
            self._reading = True
            self.transport.resumeProducing()

    def _stop_feeding(self) -> None:
        self.writable = False
        if self._feeding:
            self._feeding = False
            self.transport.unregisterProducer()

    def _make_room(self, client: IpcClient) -> None:
        self._overrun = 0
        client.unstall(self)

    # -- the end, told once --------------------------------------------------------------------

    def _tell_end(self, reason: CloseReason, text: str) -> None:
        if self._end is not None:
            return
        if self._extended:
            payload = Closed(self.conn_id, reason, text).encode()
            self._end = encode_frame(Extension.CLOSED, payload)
        else:
            self._end = encode_frame(Command.CLOSE_OK, ConnId(self.conn_id).encode())
        if self._announced_at is not None:
            self._send_end()

    def _send_end(self) -> None:
        client, announced_at = self._client, self._announced_at
        assert client is not None and announced_at is not None
        wait = announced_at + client.limits.grace - client.clock.seconds()
        if self._extended or wait <= 0:
            self._push_end()
        elif self._end_call is None:
            self._end_call = client.clock.callLater(wait, self._push_end)

    def _push_end(self) -> None:
        self._end_call = None
        client, end = self._client, self._end
        if client is not None and end is not None:
            client.push(end)
            self._told = True
            self._done(client)

    def _done(self, client: IpcClient) -> None:
        if self._lost and self._told:
            client.stream_done(self)


@implementer(IHalfCloseableProtocol)
class HalfClosingIpcStream(IpcStream):
    """The same for a client that can tell the end of one direction from the end of both."""

    _peer_finished = False

    def readConnectionLost(self) -> None:
        """The peer will send nothing more."""
        self._peer_finished = True
        if self._announced_at is not None:
            self._push_finish()

    def writeConnectionLost(self) -> None:
        """Our direction is over, as the client wanted."""

    def announced(self) -> None:
        """As in L{IpcStream}; an end of the peer's direction that came before is told now."""
        super().announced()
        if self._peer_finished:
            self._push_finish()

    def _push_finish(self) -> None:
        if self._client is not None and self._end is None:
            self._client.push(encode_frame(Extension.FINISH, ConnId(self.conn_id).encode()))


def _close_reason(reason: Failure) -> tuple[CloseReason, str]:
    error = reason.value
    if isinstance(error, ConnectionDone):
        return CloseReason.CLEAN, ""
    if isinstance(error, ConnectionAborted):
        return CloseReason.ABORTED, ""
    if isinstance(error, StreamTimeout | TimedOut):
        return CloseReason.TIMEOUT, str(error)
    return CloseReason.RESET, str(error)
