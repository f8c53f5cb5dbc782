"""A client of the daemon's control socket for short-lived programs: blocking calls, no Twisted.

L{DaemonClient} speaks the control protocol over one Unix socket: requests with their replies,
streams, bound ports and datagrams, each call with a time limit of its own.  While it waits for
one thing it keeps whatever else arrives, and it reads while it writes, so that neither side blocks
the other.

Nothing heavy is imported: C{pilotctl} pays for this module on every call.

@see: protocol notes, I{Local IPC protocol}, above all I{What clients assume}.
"""

from __future__ import annotations

from collections import deque

from pilot.client.framesocket import Deadline, Disconnected, FrameSocket
from pilot.errors import ConnectionFailed, ConnectionReset, TimedOut, WireError
from pilot.wire.ipcframes import MAX_SEND_DATA, Command, encode_frame
from pilot.wire.jsontext import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

    from pilot.address import Address
    from pilot.wire.ipc import RecvFrom

CONNECT_TIMEOUT = 5.0
"""Seconds to wait for a daemon that is too busy to accept."""

REQUEST_TIMEOUT = 60.0
"""Seconds to wait for a reply.  The slowest honest one, a dial to a dead peer, takes 39 seconds."""

UNREAD_LIMIT = 64 * 1024 * 1024
"""Bytes a client keeps for streams that nobody reads; the stream that passes it is closed."""

DATAGRAM_LIMIT = 4096
"""Datagrams a client keeps for a program that does not take them; newer ones are dropped."""

BACKLOG_LIMIT = 256
"""Accepted streams a port keeps for a program that does not take them; newer ones are closed."""

_JOINED = 1 << 16  # bytes up to which copying beats a second system call

__all__ = ["DaemonClient", "DaemonError", "Deadline", "Disconnected", "Listener", "Stream"]


class DaemonError(ConnectionFailed):
    """The daemon refused a request.

    @ivar text: the daemon's own words; the message has C{daemon: } in front of them.
    """

    def __init__(self, text: str) -> None:
        super().__init__("daemon: " + text)
        self.text = text


class Stream:
    """
    One stream of the overlay, dialled or accepted.

    @ivar connection_id: the daemon's number of it.
    @ivar remote: address of the peer.
    @ivar remote_port: the peer's port.
    @ivar ended: whether nothing more will arrive; what came before can still be taken.
    @ivar writable: whether more can be sent.
    """

    __slots__ = (
        "_chunks",
        "_client",
        "_failure",
        "connection_id",
        "ended",
        "remote",
        "remote_port",
        "writable",
    )

    def __init__(self, client: DaemonClient, connection_id: int) -> None:
        self._client = client
        self._chunks: deque[bytes] = deque()
        self._failure: ConnectionFailed | None = None
        self.connection_id = connection_id
        self.remote: Address | None = None
        self.remote_port = 0
        self.ended = False
        self.writable = True

    def queue(self, data: bytes | memoryview) -> None:
        """
        Hand over data that goes out while the client waits, for whatever it waits.

        @param data: bytes; a view is not copied, so its buffer must not change.

        @raise ConnectionFailed: the stream is closed.
        """
        if not self.writable:
            raise self._failure or ConnectionFailed("write failed: connection closed")
        view = memoryview(data)
        for start in range(0, len(view), MAX_SEND_DATA):
            self._client._send_data(self, view[start : start + MAX_SEND_DATA])

    def send(self, data: bytes, timeout: float | None = None) -> None:
        """
        Send data of any length; returns once the daemon has taken all of it.  Whether the peer gets
        it, nothing tells.

        @raise ConnectionFailed: the stream is closed.
        @raise TimedOut: the daemon did not take everything in time; the rest stays queued.
        """
        self.queue(data)
        client = self._client
        client.wait(lambda: not client.unsent or not self.writable, timeout)
        if client.unsent:
            raise self._failure or ConnectionFailed("write failed: connection closed")

    @property
    def readable(self) -> bool:
        """Whether L{receive} would return or raise at once."""
        return bool(self._chunks) or self.ended or self._failure is not None

    def take(self) -> list[bytes]:
        """@return: what arrived since the last call, one item a received segment; no waiting."""
        chunks = list(self._chunks)
        self._chunks.clear()
        self._client._unread -= sum(map(len, chunks))
        return chunks

    def receive(self, timeout: float | None = None) -> bytes:
        """
        Wait for data.

        @param timeout: seconds; C{None} waits for ever.
        @return: one received segment, or nothing when the peer has ended the stream.
        @raise ConnectionReset: the stream broke.  Only a daemon that knows the extensions can tell.
        @raise ConnectionFailed: what was sent could not be, or the daemon is gone.
        @raise TimedOut: nothing came.
        """
        if not self._chunks:
            self._client.wait(lambda: self.readable, timeout)
        if self._chunks:
            chunk = self._chunks.popleft()
            self._client._unread -= len(chunk)
            return chunk
        if self._failure is not None:
            raise self._failure
        return b""

    def close(self) -> None:
        """Close the stream: everything queued still goes out, then the peer sees the end."""
        self._client._close_stream(self)


class Listener:
    """
    A bound virtual port.  It stays bound until the client closes: the protocol cannot unbind.

    @ivar port: the port.
    """

    __slots__ = ("_client", "_waiting", "port")

    def __init__(self, client: DaemonClient, port: int) -> None:
        self._client = client
        self._waiting: deque[Stream] = deque()
        self.port = port

    def poll(self) -> Stream | None:
        """@return: an accepted stream, if one waits."""
        return self._waiting.popleft() if self._waiting else None

    def accept(self, timeout: float | None = None) -> Stream:
        """
        Wait for a peer.

        @raise TimedOut: nobody came.
        """
        self._client.wait(lambda: bool(self._waiting), timeout)
        return self._waiting.popleft()


class DaemonClient:
    """
    A connection to a daemon.

    @param path: the daemon's Unix socket.
    @param connect_timeout: seconds to wait for a busy daemon.
    @raise NotRunning: no daemon behind the socket.
    @raise ConnectionFailed: the socket is not for this user.
    @ivar extended: whether daemon and client use the extensions; see L{hello}.
    @ivar datagram_refusal: why the daemon did not send a datagram, its latest word.  What it sees
        at once it says before it answers the next request.
    @ivar refused: streams, accepted streams and datagrams given up because of a limit.
    """

    def __init__(self, path: str, *, connect_timeout: float = CONNECT_TIMEOUT) -> None:
        self._link = FrameSocket(path, connect_timeout, self._frame_received)
        self._awaited: int | None = None  # the reply code that the running request waits for
        self._awaited_id: bytes | None = None  # and, of a Close, the connection it names
        self._reply: bytes | None = None
        self._error: str | None = None
        self._streams: dict[int, Stream] = {}
        self._listeners: dict[int, Listener] = {}
        self._datagrams: deque[RecvFrom] = deque()
        self._dialled: Stream | None = None
        self._last_sender: Stream | None = None
        self._unread = 0
        self.datagram_refusal: str | None = None
        self.extended = False
        self.refused = 0

    def __enter__(self) -> DaemonClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up: the daemon closes every stream and frees every port of this client.

        What was written before is still carried out.
        """
        self._link.close()

    # Requests.

    def request(
        self, command: int, payload: bytes = b"", *, timeout: float | None = REQUEST_TIMEOUT
    ) -> bytes:
        """
        Ask, and wait for the answer.

        @param command: a L{Command} that has a reply; replies have the next number.
        @return: payload of the reply.
        @raise DaemonError: the daemon refused.
        @raise Disconnected: it went away.
        @raise TimedOut: no answer in time.  The client is closed then, because a late answer could
            not be told from the answer to the next request.
        """
        self._expect(command, payload)
        try:
            self._link.write(encode_frame(command, payload))
            self.wait(lambda: self._awaited is None, timeout)
        except TimedOut:
            self.close()
            raise
        finally:
            self._awaited = None
        if self._reply is None:
            raise DaemonError(self._error or "")
        return self._reply

    def request_json(
        self, command: int, payload: bytes = b"", *, timeout: float | None = REQUEST_TIMEOUT
    ) -> dict[str, Any]:
        """L{request} for replies that are one JSON object."""
        reply = self.request(command, payload, timeout=timeout)
        try:
            value = load(reply)
        except WireError:
            value = None
        if not isinstance(value, dict):
            raise DaemonError("malformed reply")
        return value

    def hello(self, *, timeout: float | None = REQUEST_TIMEOUT) -> bool:
        """
        Offer the extensions; before the first stream, or it has none of them.

        @return: whether the daemon knows them.  Then a stream that breaks is told from one that
            ends, and datagrams stay away.
        """
        from pilot.wire.ipc_extensions import Extension, Hello

        try:
            self.request(Extension.HELLO, Hello().encode(), timeout=timeout)
        except DaemonError:
            return False
        self.extended = True
        return True

    # Streams.

    def dial(
        self, address: Address, port: int, *, timeout: float | None = REQUEST_TIMEOUT
    ) -> Stream:
        """
        Open a stream.

        @raise DaemonError: the peer, the registry or the daemon refused.
        @raise TimedOut: no answer within C{timeout} seconds.
        """
        from pilot.wire.ipc import Dial

        self.request(Command.DIAL, Dial(address, port).encode(), timeout=timeout)
        stream, self._dialled = self._dialled, None
        assert stream is not None
        stream.remote, stream.remote_port = address, port
        return stream

    def bind(self, port: int, *, timeout: float | None = REQUEST_TIMEOUT) -> Listener:
        """
        Listen on a virtual port, until the client closes.

        @raise DaemonError: the port is taken.
        """
        from pilot.wire.ipc import Bind

        listener = Listener(self, port)
        self._listeners[port] = listener  # before the reply: a peer may come right behind it
        try:
            self.request(Command.BIND, Bind(port).encode(), timeout=timeout)
        except Exception:
            del self._listeners[port]
            raise
        return listener

    def disconnect(self, connection_id: int, *, timeout: float | None = REQUEST_TIMEOUT) -> None:
        """Close any stream of the daemon; one that does not exist counts as closed."""
        self.request(Command.CLOSE, connection_id.to_bytes(4, "big"), timeout=timeout)

    # Datagrams.

    def send_datagram(self, address: Address, port: int, data: bytes) -> None:
        """Send one datagram.  A refusal by the daemon is no error: see L{datagram_refusal}."""
        from pilot.wire.ipc import SendTo

        self._link.write(encode_frame(Command.SEND_TO, SendTo(address, port, data).encode()))
        self.wait(lambda: not self.unsent, REQUEST_TIMEOUT)

    def receive_datagram(self, timeout: float | None = None) -> RecvFrom:
        """
        Wait for a datagram, to whatever port of this node.

        @raise TimedOut: none came.
        """
        self.wait(lambda: bool(self._datagrams), timeout)
        return self._datagrams.popleft()

    # The wire.

    @property
    def unsent(self) -> int:
        """Bytes that the daemon has not taken yet."""
        return self._link.unsent

    def turn(self, wait: float | None = 0.0, also: int | None = None) -> bool:
        """Write what the socket takes and read what is there, once; L{FrameSocket.turn}."""
        return self._link.turn(wait, also)

    def wait(self, done: Callable[[], bool], timeout: float | None) -> None:
        """
        Write and read until C{done()} holds.

        @raise Disconnected: the daemon is gone.
        @raise TimedOut: it did not hold within C{timeout} seconds.
        """
        self._link.wait(done, Deadline(timeout))

    def _expect(self, command: int, payload: bytes) -> None:
        self._awaited = command + 1
        self._awaited_id = payload[:4] if command == Command.CLOSE else None
        self._reply = self._error = None

    def _frame_received(self, command: int, payload: bytes) -> None:
        if command == Command.RECV:
            self._data_received(payload)
        elif command == self._awaited and self._awaited_id in (None, payload[:4]):
            self._reply, self._awaited = payload, None
            if command == Command.DIAL_OK:
                # At once, not in dial(): data, and even the end, may come right behind.
                connection_id = int.from_bytes(payload[:4], "big")
                self._dialled = self._streams[connection_id] = Stream(self, connection_id)
        elif command == Command.ERROR:
            self._error_received(payload[2:].decode("utf-8", "replace"))
        elif command == Command.CLOSE_OK:
            self._stream_ended(payload)
        elif command == Command.ACCEPT:
            self._accepted(payload)
        elif command == Command.RECV_FROM:
            self._datagram_received(payload)
        elif self.extended:
            self._extension_received(command, payload)
        # Anything else answers nobody and is thrown away, as every client does.

    def _data_received(self, payload: bytes) -> None:
        stream = self._streams.get(int.from_bytes(payload[:4], "big"))
        if stream is None or len(payload) == 4:
            return
        self._unread += len(payload) - 4
        stream._chunks.append(payload[4:])
        if self._unread > UNREAD_LIMIT:
            self.refused += 1
            self._close_stream(stream)
            stream._failure = ConnectionFailed(f"more than {UNREAD_LIMIT} bytes came unread")

    def _stream_ended(self, payload: bytes) -> None:
        stream = self._streams.pop(int.from_bytes(payload[:4], "big"), None)
        if stream is not None:
            stream.ended, stream.writable = True, False

    def _extension_received(self, command: int, payload: bytes) -> None:
        from pilot.wire.ipc_extensions import Closed, CloseReason, Extension

        if command == Extension.FINISH:
            stream = self._streams.get(int.from_bytes(payload[:4], "big"))
            if stream is not None:
                stream.ended = True
        elif command == Extension.CLOSED:
            try:
                closed = Closed.decode(payload)
            except WireError:
                return
            stream = self._streams.get(closed.conn_id)
            if stream is not None and closed.reason != CloseReason.CLEAN:
                reason = closed.text or f"connection {closed.reason.name.lower()}"
                stream._failure = stream._failure or ConnectionReset(reason)
            self._stream_ended(payload)

    def _accepted(self, payload: bytes) -> None:
        from pilot.wire.ipc import Accept

        try:
            accepted = Accept.decode(payload)
        except WireError:
            return
        stream = Stream(self, accepted.conn_id)
        stream.remote, stream.remote_port = accepted.remote, accepted.remote_port
        listener = self._listeners.get(accepted.local_port)
        if listener is None or len(listener._waiting) >= BACKLOG_LIMIT:
            self.refused += 1
            self._close_stream(stream)
            return
        self._streams[accepted.conn_id] = stream
        listener._waiting.append(stream)

    def _datagram_received(self, payload: bytes) -> None:
        from pilot.wire.ipc import RecvFrom

        if len(self._datagrams) >= DATAGRAM_LIMIT:
            self.refused += 1
            return
        try:
            self._datagrams.append(RecvFrom.decode(payload))
        except WireError:
            return

    def _error_received(self, text: str) -> None:
        # Errors carry no request number.  Those of Send and SendTo come unasked, and only their
        # wording keeps them from being taken for the answer to a request that happens to wait.
        unasked = text.startswith("send: ") or (
            text.startswith("connection ") and text.endswith(" not found")
        )
        if text.startswith("sendto: "):
            self.datagram_refusal = text
        elif self._awaited is not None and not unasked:
            self._error, self._awaited = text, None
        elif self._last_sender is not None:
            self._last_sender._failure = ConnectionFailed(f"write failed: {text}")

    def _send_data(self, stream: Stream, data: memoryview) -> None:
        head = (5 + len(data)).to_bytes(4, "big") + bytes((Command.SEND,))
        head += stream.connection_id.to_bytes(4, "big")
        self._last_sender = stream
        if len(data) <= _JOINED:
            self._link.write(head + bytes(data))
        else:
            self._link.write(head, data)

    def _close_stream(self, stream: Stream) -> None:
        self._streams.pop(stream.connection_id, None)
        self._unread -= sum(map(len, stream._chunks))
        stream._chunks.clear()
        if stream.writable:
            stream.ended, stream.writable = True, False
            if not self._link.closed:
                number = stream.connection_id.to_bytes(4, "big")
                self._link.write(encode_frame(Command.CLOSE, number))
