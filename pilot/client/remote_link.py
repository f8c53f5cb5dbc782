"""The streams and ports that share one connection to a daemon."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.error import CannotListenError, ConnectError
from twisted.internet.interfaces import IListeningPort, IProtocol, IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pilot.address import Address
from pilot.client.remote_connection import DaemonError, IpcConnection
from pilot.client.remote_stream import RemoteStream, about
from pilot.errors import ConnectionFailed, NotRunning, PilotError
from pilot.node.streamaddress import PilotStreamAddress
from pilot.wire import ipc
from pilot.wire.ipc import Command, ConnId, encode_frame
from pilot.wire.ipc_extensions import (
    Claimed,
    Closed,
    CloseReason,
    Extension,
    Hello,
    HelloOk,
    WatchedEvent,
)

log = Logger()

#: Seconds that a daemon has to accept a connection.
CONNECT_TIMEOUT = 5.0

_DENIED = (1, 13)  # EPERM, EACCES


class RemoteLink:
    """
    Hands frames to the streams they belong to, and the socket's room out in turns.

    @ivar connection: what the frames travel on.
    @ivar open: whether it is there.
    @ivar extended: whether the daemon speaks our extensions; others cannot tell a reset from a
        clean end, and one stream that is not read holds up the others.
    @ivar on_datagram: told each datagram.
    @ivar on_claimed: told each message that this program claims.
    @ivar on_event: told each event that it watches.
    @ivar on_idle: called when the last stream has ended.
    @ivar on_disconnect: called when the connection ends.
    """

    def __init__(self, reactor: Any) -> None:
        self.connection = IpcConnection(reactor, self)
        self.open = False
        self.extended = False
        self.on_datagram: Callable[[ipc.RecvFrom], None] = lambda heard: None
        self.on_claimed: Callable[[Claimed], None] = lambda claimed: None
        self.on_event: Callable[[WatchedEvent], None] = lambda event: None
        self.on_idle: Callable[[], None] = lambda: None
        self.on_disconnect: Callable[[], None] = lambda: None
        self._reactor = reactor
        self._streams: dict[int, RemoteStream] = {}
        self._ports: dict[int, RemotePort] = {}
        self._wanting_room: dict[RemoteStream, None] = {}
        self._turn_due = False
        self._delivering: list[RemoteStream] = []
        self._unread: set[RemoteStream] = set()

    async def connect(self, path: str) -> Address:
        """
        Connect and find out what the daemon is.

        @return: the node's own address; number 0 before it is registered.
        @raise NotRunning: nobody answers there.
        """
        endpoint = UNIXClientEndpoint(self._reactor, path, timeout=CONNECT_TIMEOUT)
        try:
            await connectProtocol(endpoint, self.connection)
        except ConnectError as error:
            if getattr(error, "osError", None) in _DENIED:
                raise ConnectionFailed(f"may not open the control socket {path}") from error
            raise NotRunning(
                f"daemon is not running (no answer at {path})",
                hint="start it with: pilotctl daemon start",
            ) from error
        self.open = True
        try:
            reply = await self.hello(0)
        except DaemonError:
            return Address(0, 0)
        self.extended = True
        return HelloOk.decode(reply).address

    def hello(self, flags: int) -> Deferred[bytes]:
        """Say what this client wants.  @return: Deferred of the answer."""
        payload = Hello(flags=flags).encode()
        return self.connection.request(Extension.HELLO, payload, Extension.HELLO_OK)

    @property
    def is_idle(self) -> bool:
        """Whether no stream is open."""
        return not self._streams

    # -- opening -------------------------------------------------------------------------------

    def start(self, stream: RemoteStream, factory: IProtocolFactory) -> IProtocol:
        """
        Connect a new stream to a protocol.

        @raise ConnectionFailed: the factory gave none, or it failed; the stream is reset.
        """
        try:
            protocol = factory.buildProtocol(stream.getPeer())
            if protocol is not None:
                self._streams[stream.connection_id] = stream
                stream.start(protocol)
                return protocol
        except Exception as error:
            log.failure("protocol for {peer} failed to start", peer=str(stream.getPeer()))
            self._streams.pop(stream.connection_id, None)
            self.end(stream.connection_id)
            raise ConnectionFailed(f"protocol failed to start: {error}") from error
        self.end(stream.connection_id)
        raise ConnectionFailed("the factory declined the connection")

    def end(self, connection_id: int) -> None:
        """Reset a stream that nobody here knows."""
        command = Extension.ABORT if self.extended else Command.CLOSE
        self.send((encode_frame(command, ConnId(connection_id).encode()),))

    def serve(self, own: Address, port: int, factory: IProtocolFactory) -> RemotePort:
        """Take the streams that the daemon accepts on a port it has bound for us."""
        listening = self._ports[port] = RemotePort(self, PilotStreamAddress(own, port), factory)
        factory.doStart()
        return listening

    def unbind(self, port: int) -> Deferred[None]:
        """Free a port."""
        if self._ports.pop(port, None) is None or not self.extended or not self.open:
            return succeed(None)
        payload = ipc.Bind(port).encode()
        asked = self.connection.request(Extension.UNBIND, payload, Extension.UNBIND_OK)
        freed: Deferred[None] = asked.addCallbacks(lambda _: None, only_gone)
        return freed

    # -- what streams call ---------------------------------------------------------------------

    @property
    def blocked(self) -> bool:
        """Whether the socket takes no more for now."""
        return self.connection.blocked

    def send(self, parts: Iterable[bytes]) -> None:
        """Write frames that have no answer."""
        self.connection.send(parts)

    def send_about(self, stream: RemoteStream, command: int, otherwise: int | None = None) -> None:
        """Send a frame that names a stream; C{otherwise} is for daemons without extensions."""
        if command < Extension.HELLO or self.extended:
            self.send((about(command, stream),))
        elif otherwise is not None:
            self.send((about(otherwise, stream),))

    def hold_back(self, stream: RemoteStream, held: bool) -> None:
        """C{stream} wants no data for now, or wants it again."""
        if self.extended:
            self.send_about(stream, Extension.PAUSE if held else Extension.RESUME)
            return
        # Without extensions the only valve is the whole socket's.
        (self._unread.add if held else self._unread.discard)(stream)
        self._update_reading()

    def wait_for_room(self, stream: RemoteStream) -> None:
        """Have C{stream.flush} called when the socket takes more; soon, if it does already."""
        self._wanting_room[stream] = None
        if not self.blocked and not self._turn_due:
            self._turn_due = True
            self.later(self._take_turns)

    def later(self, call: Callable[[], None]) -> None:
        """Run C{call} in the next turn of the reactor."""
        self._reactor.callLater(0, call)

    def forget(self, stream: RemoteStream) -> None:
        """The daemon will not say anything more about C{stream}."""
        if self._streams.get(stream.connection_id) is stream:
            del self._streams[stream.connection_id]
        self._wanting_room.pop(stream, None)
        if stream in self._unread:
            self._unread.discard(stream)
            self._update_reading()
        if self.open and not self._streams:
            self.on_idle()

    def _update_reading(self) -> None:
        if self.open:
            transport = self.connection.transport
            (transport.pauseProducing if self._unread else transport.resumeProducing)()

    def _take_turns(self) -> None:
        self._turn_due = False
        for stream in list(self._wanting_room):
            if self.blocked or not self.open:
                return
            # What still waits after its turn is appended anew, behind the others.
            self._wanting_room.pop(stream, None)
            stream.flush()

    # -- what the connection calls -------------------------------------------------------------

    def pushed(self, command: int, payload: bytes) -> None:
        """A frame that is no answer."""
        if command == Command.RECV:
            stream = self._streams.get(int.from_bytes(payload[:4], "big"))
            if stream is not None and stream.received(payload[4:]):
                self._delivering.append(stream)
        elif command == Command.ACCEPT:
            self._accepted(ipc.Accept.decode(payload))
        elif command == Command.RECV_FROM:
            self.on_datagram(ipc.RecvFrom.decode(payload))
        elif command == Extension.CLAIMED:
            self.on_claimed(Claimed.decode(payload))
        elif command == Extension.EVENT:
            self.on_event(WatchedEvent.decode(payload))
        elif command == Extension.CLOSED:
            self._closed(Closed.decode(payload))
        elif command == Command.CLOSE_OK and not self.extended:
            self._closed(Closed(ConnId.decode(payload).conn_id, CloseReason.CLEAN, ""))
        elif command in (Extension.FINISH, Extension.PAUSE, Extension.RESUME):
            stream = self._streams.get(ConnId.decode(payload).conn_id)
            if stream is None:
                return
            if command == Extension.FINISH:
                stream.finished()
            else:
                stream.hold(command == Extension.PAUSE)

    def batch_ended(self) -> None:
        """One read's frames are all in."""
        delivering, self._delivering = self._delivering, []
        for stream in delivering:
            stream.deliver()

    def drained(self) -> None:
        """The socket takes more: every stream that waits gets its turn."""
        self._take_turns()

    def disconnected(self) -> None:
        """The connection is over."""
        self.open = False
        for stream in list(self._streams.values()):
            stream.daemon_lost()
        ports, self._ports = self._ports, {}
        for port in ports.values():
            port.lost()
        self.on_disconnect()

    def _accepted(self, accept: ipc.Accept) -> None:
        port = self._ports.get(accept.local_port)
        if port is None:
            self.end(accept.conn_id)
            return
        remote = PilotStreamAddress(accept.remote, accept.remote_port)
        stream = RemoteStream(self, accept.conn_id, port.getHost(), remote)
        with suppress(ConnectionFailed):  # logged, and the stream is on its way out
            self.start(stream, port.factory)

    def _closed(self, end: Closed) -> None:
        stream = self._streams.get(end.conn_id)
        if stream is not None:
            stream.closed(end)


@implementer(IListeningPort)
class RemotePort:
    """
    A virtual port that the daemon serves for this program.

    @ivar factory: makes the protocols of its streams.
    """

    def __init__(
        self, link: RemoteLink, address: PilotStreamAddress, factory: IProtocolFactory
    ) -> None:
        self.factory = factory
        self._link = link
        self._address = address
        self._listening = True

    def startListening(self) -> None:
        """It listens from the start; once stopped, only a new C{listen} brings it back."""
        if not self._listening:
            raise CannotListenError("pilot", self._address.port, OSError("the port was closed"))

    def stopListening(self) -> Deferred[None]:
        """Free the port; open streams go on."""
        if not self._listening:
            return succeed(None)
        self.lost()
        return self._link.unbind(self._address.port)

    def getHost(self) -> PilotStreamAddress:
        """@return: own address and the bound port."""
        return self._address

    def lost(self) -> None:
        """The daemon is gone, or the port is."""
        if self._listening:
            self._listening = False
            self.factory.doStop()


def only_gone(reason: Failure) -> None:
    """Pass over the failure of a request that was to clean up: the daemon has done it by going."""
    reason.trap(PilotError)
