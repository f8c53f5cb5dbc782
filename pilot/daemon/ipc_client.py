"""One client of the control socket: its frames in, its answers and pushes out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from pilot.address import Address
from pilot.daemon.ipc_interests import Interests
from pilot.daemon.ipc_limits import IpcLimits
from pilot.daemon.ipc_node import node_request
from pilot.daemon.ipc_outlet import Outlet
from pilot.daemon.ipc_ports import BoundPort, DialFactory
from pilot.daemon.ipc_replies import Place, ReplyLine
from pilot.daemon.ipc_requests import REQUESTS, answered_from_memory, error_text
from pilot.daemon.ipc_streams import HalfClosingIpcStream, IpcStream
from pilot.errors import PilotError, WireError
from pilot.wire import ipc
from pilot.wire.framing import FramingError
from pilot.wire.ipc import ERROR_CODE, Command, ConnId, FrameDecoder, encode_frame
from pilot.wire.ipc_extensions import (
    VERSION,
    WANTS_DATAGRAMS,
    Extension,
    Hello,
    HelloOk,
    Verdict,
)

if TYPE_CHECKING:
    from pilot.daemon.ipc import IpcServer

log = Logger()


class IpcClient(Protocol):
    """
    Works for one client until it hangs up; then closes what it has opened.

    @ivar extended: the client has said hello, so it understands the extensions.
    @ivar wants_datagrams: whether it is told the node's datagrams.
    """

    transport: Any

    def __init__(self, server: IpcServer, clock: IReactorTime, limits: IpcLimits) -> None:
        self.clock = clock
        self.limits = limits
        self.extended = False
        self.wants_datagrams = True
        self._server = server
        self._decoder = FrameDecoder()
        self._frames: deque[tuple[int, bytes]] = deque()
        self._broken = False
        self._working = False
        self._waiting = False
        self._gone = False
        self._outlet = Outlet(limits, server.refused, self._blocked, self._free)
        self._line = ReplyLine(self._outlet.write)
        self._loose = 0
        self._stalling: set[IpcStream] = set()
        self._streams: set[IpcStream] = set()
        self._ports: dict[int, BoundPort] = {}
        self._dials: set[Deferred[Any]] = set()
        self._interests = Interests(
            server.node, limits, server.refused, self.push, self._outlet.write_datagram
        )
        self._commands: dict[int, Callable[[bytes], None]] = {
            Command.SEND: self._send,
            Command.CLOSE: self._close,
            Command.DIAL: self._dial,
            Command.BIND: self._bind,
            Command.SEND_TO: self._send_to,
            Extension.HELLO: self._hello,
            Extension.ABORT: self._abort,
            Extension.FINISH: self._finish,
            Extension.PAUSE: self._pause,
            Extension.RESUME: self._resume,
            Extension.UNBIND: self._unbind,
            Extension.NODE: self._node,
            Extension.VERDICT: self._verdict,
        }

    # -- the socket ----------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """A client is here."""
        self._outlet.open(self.transport)
        refusal = self._server.client_came(self)
        if refusal is not None:
            self._outlet.write(_error_frame(refusal))
            self._hang_up()

    def dataReceived(self, data: bytes) -> None:
        """Bytes from the client."""
        if self._gone:
            return
        try:
            frames = self._decoder.feed(data)
        except FramingError as error:
            frames = error.frames
            self._broken = True
            self._server.refused["ipc_bad_frames"] += 1
            log.info("control client hung up on: {error}", error=error.message)
        self._frames.extend(frames)
        self._work()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The client hung up, or was hung up on."""
        # What it had said before still counts, in particular a Send and its Close.
        while self._frames and not self._gone:
            command, payload = self._frames.popleft()
            if command in (Command.SEND, Command.SEND_TO, Command.CLOSE):
                self._commands[command](payload)
        self._clean_up()
        self._server.client_left(self)

    def hang_up_now(self) -> None:
        """The daemon stops: end the connection without waiting for the client to read."""
        self._clean_up()
        self.transport.abortConnection()

    def _hang_up(self) -> None:
        """Write what is due, then end the connection."""
        self._clean_up()
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _clean_up(self) -> None:
        if self._gone:
            return
        self._gone = True
        self._frames.clear()
        for stream in list(self._streams):
            stream.orphan()
        for dial in list(self._dials):
            dial.cancel()
        for port in self._ports.values():
            port.close()
        self._interests.close()
        self._streams.clear()
        self._ports.clear()

    # -- frames in -----------------------------------------------------------------------------

    def _work(self) -> None:
        """Handle the frames that have come, until something says to wait."""
        if self._working:
            return
        self._working = True
        frames = self._frames
        try:
            while frames and not self._must_wait():
                command, payload = frames.popleft()
                self._handle(command, payload)
        finally:
            self._working = False
        if self._gone:
            return
        if frames:
            if not self._waiting:
                self._waiting = True
                self.transport.pauseProducing()
        elif self._broken:
            self._hang_up()
        elif self._waiting:
            self._waiting = False
            self.transport.resumeProducing()

    def _must_wait(self) -> bool:
        return (
            self._gone
            or bool(self._stalling)
            or len(self._line) + self._loose >= self.limits.requests_per_client
            or self._outlet.owed > self.limits.reply_backlog
        )

    def _go_on(self) -> None:
        if self._waiting and not self._gone and not self._must_wait():
            self._work()

    def _handle(self, command: int, payload: bytes) -> None:
        direct = self._commands.get(command)
        if command >= Extension.NODE and not self.extended:
            direct = None  # who has not said hello is talking to the reference
        try:
            if direct is not None:
                direct(payload)
            elif command in REQUESTS:
                self._ask(command, payload)
            else:
                self._line.push(_error_frame(f"unknown command: 0x{command:02X}"))
        except WireError as error:
            self._line.push(_error_frame(error.message))

    def _ask(self, command: int, payload: bytes) -> None:
        if answered_from_memory(command, payload):
            self._line.join_for_later(lambda place: self._work_on(command, payload, place))
        else:
            self._work_on(command, payload, self._line.join())

    def _work_on(self, command: int, payload: bytes, place: Place) -> None:
        self._answer_with(command + 1, REQUESTS[command](self._server, payload), place)

    def _answer_with(self, command: int, work: Coroutine[Any, Any, bytes], place: Place) -> None:
        done = Deferred.fromCoroutine(work)
        done.addCallback(lambda reply: self._answer(place, encode_frame(command, reply)))
        done.addErrback(self._refuse, place)

    def _answer(
        self, place: Place, frame: bytes, released: Callable[[], None] | None = None
    ) -> None:
        if not self._gone:
            self._line.answer(place, frame, released)
            self._go_on()

    def _refuse(self, reason: Failure, place: Place, prefix: str = "") -> None:
        if self._gone:
            return
        error = reason.value
        if isinstance(error, PilotError):
            text = error_text(error)
        else:
            log.failure("a control request failed", reason)
            text = "internal error"
        self._answer(place, _error_frame(prefix + text))

    # -- streams -------------------------------------------------------------------------------

    def _send(self, payload: bytes) -> None:
        conn_id, data = ipc.ConnData.decode(payload)
        stream = self._server.streams.get(conn_id)
        if stream is not None and stream.writable:
            if data:
                stream.send(data)
        elif not self.extended:
            if self._server.find_stream(conn_id) is None:
                text = f"connection {conn_id} not found"
            else:
                text = "send: connection not established"
            self._line.push(_error_frame(text))

    def _close(self, payload: bytes) -> None:
        conn_id = ipc.Close.decode(payload).conn_id
        place = self._line.join()
        stream = self._server.streams.get(conn_id)
        if stream is not None:
            stream.close()
        else:
            self._server.close_stream(conn_id)
        self._answer(place, encode_frame(Command.CLOSE_OK, ConnId(conn_id).encode()))

    def _dial(self, payload: bytes) -> None:
        address, port = ipc.Dial.decode(payload)
        place = self._line.join()
        if self.full():
            self._answer(place, _error_frame("too many open streams on this connection"))
            return
        dial: Deferred[Any] = self._server.node.dial(address, port, DialFactory(self))
        self._dials.add(dial)
        dial.addCallback(self._dialled, place)
        dial.addErrback(self._refuse, place)
        dial.addBoth(lambda _: self._dials.discard(dial))

    def _dialled(self, stream: IpcStream, place: Place) -> None:
        frame = encode_frame(Command.DIAL_OK, ConnId(stream.conn_id).encode())
        self._answer(place, frame, stream.announced)

    def _abort(self, payload: bytes) -> None:
        stream = self._own(payload)
        if stream is not None:
            stream.abort()

    def _finish(self, payload: bytes) -> None:
        stream = self._own(payload)
        if stream is not None:
            stream.finish()

    def _pause(self, payload: bytes) -> None:
        stream = self._own(payload)
        if stream is not None:
            stream.pause(True)

    def _resume(self, payload: bytes) -> None:
        stream = self._own(payload)
        if stream is not None:
            stream.pause(False)

    def _own(self, payload: bytes) -> IpcStream | None:
        stream = self._server.streams.get(ConnId.decode(payload).conn_id)
        return stream if stream in self._streams else None

    def new_stream(self) -> IpcStream | None:
        """@return: a protocol for one more stream, or None when there may be no more."""
        if self._gone or len(self._streams) >= self.limits.streams_per_client:
            self._server.refused["ipc_streams"] += 1
            return None
        return HalfClosingIpcStream(self) if self.extended else IpcStream(self)

    def full(self) -> bool:
        """@return: whether another dial might exceed the streams this client may have."""
        return len(self._streams) + len(self._dials) >= self.limits.streams_per_client

    def stream_opened(self, stream: IpcStream) -> None:
        """A stream has its number."""
        self._streams.add(stream)
        self._server.streams[stream.conn_id] = stream

    def stream_lost(self, stream: IpcStream) -> None:
        """A stream is over; the client may not know it yet."""
        self._server.streams.pop(stream.conn_id, None)

    def stream_done(self, stream: IpcStream) -> None:
        """A stream is over, and the client was told."""
        self._streams.discard(stream)

    def stall(self, stream: IpcStream) -> None:
        """C{stream} has too much to send: read no more until it has room."""
        self._stalling.add(stream)

    def unstall(self, stream: IpcStream) -> None:
        """C{stream} has room again."""
        if self._stalling:
            self._stalling.discard(stream)
            self._go_on()

    # -- ports ---------------------------------------------------------------------------------

    def _bind(self, payload: bytes) -> None:
        port = ipc.Bind.decode(payload).port
        place = self._line.join()
        if len(self._ports) >= self.limits.ports_per_client:
            self._server.refused["ipc_ports"] += 1
            self._answer(place, _error_frame("too many ports bound on this connection"))
            return
        bound = BoundPort(self)
        listening = self._server.node.listen(port, bound)
        listening.addCallback(self._bound, bound, place)
        listening.addErrback(self._refuse, place)

    def _bound(self, listening: Any, bound: BoundPort, place: Place) -> None:
        bound.listening = listening
        port = listening.getHost().port
        if self._gone:
            bound.close()
            return
        self._ports[port] = bound
        frame = encode_frame(Command.BIND_OK, ipc.BindOk(port).encode())
        self._answer(place, frame, bound.announced)

    def _unbind(self, payload: bytes) -> None:
        port = ipc.Bind.decode(payload).port
        bound = self._ports.pop(port, None)
        if bound is not None:
            bound.close()
        self._line.push(encode_frame(Extension.UNBIND_OK, ipc.BindOk(port).encode()))

    # -- datagrams -----------------------------------------------------------------------------

    def _send_to(self, payload: bytes) -> None:
        address, port, data = ipc.SendTo.decode(payload)
        self._loose += 1
        sending: Deferred[None] = self._server.node.send_datagram(address, port, data)
        sending.addErrback(self._not_sent)
        sending.addBoth(self._sent)

    def _sent(self, _: object) -> None:
        self._loose -= 1
        self._go_on()

    def _not_sent(self, reason: Failure) -> None:
        # Without a request to belong to, this frame may be taken for another's answer: clients
        # that have said hello are spared it.
        if not self.extended or not isinstance(reason.value, PilotError):
            self._refuse(reason, self._line.join(), "sendto: ")

    def push_datagram(self, frame: bytes) -> None:
        """Tell the client a datagram, if it can keep up."""
        if not self._gone:
            self._outlet.write_datagram(frame)

    # -- the rest ------------------------------------------------------------------------------

    def _node(self, payload: bytes) -> None:
        work = node_request(self._server.node, self._interests, payload)
        self._answer_with(Extension.NODE_OK, work, self._line.join())

    def _verdict(self, payload: bytes) -> None:
        self._interests.decided(Verdict.decode(payload))

    def _hello(self, payload: bytes) -> None:
        hello = Hello.decode(payload)
        self.extended = True
        self.wants_datagrams = bool(hello.flags & WANTS_DATAGRAMS)
        version, flags = min(hello.version, VERSION), hello.flags & WANTS_DATAGRAMS
        answer = HelloOk(version, flags, self._server.node.address or Address(0, 0))
        self._line.push(encode_frame(Extension.HELLO_OK, answer.encode()))

    # -- frames out ----------------------------------------------------------------------------

    @property
    def congested(self) -> bool:
        """Whether the client does not read as fast as it is written to."""
        return self._outlet.blocked

    def push(self, frame: bytes) -> None:
        """Write a frame that answers nothing."""
        if not self._gone:
            self._outlet.write(frame)

    def write_parts(self, parts: list[bytes]) -> None:
        """Write stream data; its stream is paused when the client does not keep up."""
        self.transport.writeSequence(parts)

    def _blocked(self) -> None:
        """The client does not read: hold back what can wait."""
        for stream in self._streams:
            stream.update_reading()

    def _free(self) -> None:
        """The client has read all there was."""
        for stream in list(self._streams):
            stream.update_reading()
        self._go_on()


def _error_frame(text: str) -> bytes:
    return encode_frame(Command.ERROR, ipc.Error(ERROR_CODE, text).encode())
