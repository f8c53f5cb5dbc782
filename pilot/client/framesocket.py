"""Frames of the control socket over a blocking program's Unix socket, both ways at once.

@see: protocol notes, I{Local IPC protocol}, I{Framing}.
"""

from __future__ import annotations

# The C half of the socket module: the Python half is an eighth of what a short-lived program costs.
import _socket
import errno
import select
import time
from collections import deque

from pilot.errors import ConnectionFailed, InvalidArgument, NotRunning, TimedOut, WireError
from pilot.wire.ipcframes import FrameDecoder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_READ_SIZE = 1 << 18
_LONGEST_WAIT = 3600.0  # poll() knows no infinity; the loops around it do


class Disconnected(ConnectionFailed):
    """The daemon went away, or broke the protocol, while a program used it."""

    def __init__(self) -> None:
        super().__init__("daemon disconnected")


class Deadline:
    """
    A moment by which something has to be done.

    @param seconds: from now; C{None} for never.
    """

    __slots__ = ("_when",)

    def __init__(self, seconds: float | None) -> None:
        self._when = None if seconds is None else time.monotonic() + seconds

    @property
    def remaining(self) -> float | None:
        """Seconds left, never negative; C{None} when there is no end."""
        return None if self._when is None else max(0.0, self._when - time.monotonic())

    def over(self) -> bool:
        """@return: whether the moment has come."""
        return self.remaining == 0.0


class FrameSocket:
    """
    A connection to a daemon.  It reads while it writes, so that neither side blocks the other.

    @param path: the daemon's Unix socket.
    @param connect_timeout: seconds to wait for a daemon that is too busy to accept.
    @param on_frame: called with command and payload of each frame that comes.
    @raise NotRunning: no daemon behind the socket.
    @raise ConnectionFailed: the socket is not for this user.
    @ivar closed: whether it is over, whichever side ended it.
    @ivar unsent: bytes that the daemon has not taken yet.
    """

    def __init__(
        self, path: str, connect_timeout: float, on_frame: Callable[[int, bytes], None]
    ) -> None:
        self._socket = _connect(path, Deadline(connect_timeout))
        self._on_frame = on_frame
        self._poll = select.poll()
        self._output: deque[memoryview] = deque()
        self._decoder = FrameDecoder()
        self.closed = False
        self.unsent = 0

    def close(self) -> None:
        """Hang up.  What was written before is still carried out."""
        if not self.closed:
            self.closed = True
            self._socket.close()

    def turn(self, wait: float | None = 0.0, also: int | None = None) -> bool:
        """
        Write what the socket takes and read what is there, once.

        @param wait: seconds to wait for something to do; C{None} waits for ever.
        @param also: a file descriptor to watch for input as well.
        @return: whether C{also} can be read.
        @raise Disconnected: the daemon is gone.
        """
        if self.closed:
            raise Disconnected
        own, poll = self._socket.fileno(), self._poll
        poll.register(own, select.POLLIN | select.POLLOUT if self._output else select.POLLIN)
        if also is not None:
            poll.register(also, select.POLLIN)
        try:
            # Rounded up: a wait of half a millisecond must not become a busy loop.
            ready = poll.poll(
                None if wait is None else int(min(wait, _LONGEST_WAIT) * 1000 + 0.999)
            )
        finally:
            if also is not None:
                poll.unregister(also)
        other = False
        for descriptor, events in ready:
            if descriptor != own:
                other = True
                continue
            if events & select.POLLOUT:
                self._flush()
            if events & ~select.POLLOUT:
                self._read()
        return other

    def wait(self, done: Callable[[], bool], deadline: Deadline) -> None:
        """
        Take turns until C{done()} holds.

        @raise Disconnected: the daemon is gone.
        @raise TimedOut: it did not hold in time.
        """
        while not done():
            remaining = deadline.remaining
            self.turn(remaining)
            # Not before the turn: it takes what came while the program was busy.
            if remaining == 0.0 and not done():
                raise TimedOut("no answer from the daemon in time")

    def write(self, *buffers: bytes | memoryview) -> None:
        """
        Send now what the socket takes, and the rest while others wait.

        @param buffers: not copied, so they must not change.
        @raise Disconnected: the daemon is gone.
        """
        if self.closed:
            raise Disconnected
        for buffer in buffers:
            self._output.append(memoryview(buffer))
            self.unsent += len(buffer)
        self._flush()

    def _flush(self) -> None:
        output = self._output
        try:
            while output:
                sent = self._socket.send(output[0])
                self.unsent -= sent
                if sent < len(output[0]):
                    output[0] = output[0][sent:]
                    return
                output.popleft()
        except BlockingIOError:
            return
        except OSError:
            # The daemon hung up.  What it said before is still to be read; reading finds the end.
            output.clear()
            self.unsent = 0

    def _read(self) -> None:
        try:
            data = self._socket.recv(_READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            raise Disconnected
        try:
            frames = self._decoder.feed(data)
        except WireError:
            self.close()
            raise Disconnected from None
        for command, payload in frames:
            self._on_frame(command, payload)


def _connect(path: str, deadline: Deadline) -> _socket.socket:
    own = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    own.setblocking(False)
    try:
        while True:
            try:
                own.connect(path)
                return own
            except BlockingIOError:  # its backlog is full
                if deadline.over():
                    raise TimedOut(
                        f"the daemon behind {path} does not accept connections"
                    ) from None
                time.sleep(0.01)
    except PermissionError:
        own.close()
        raise ConnectionFailed(
            f"cannot open {path}: permission denied", hint="the daemon belongs to another user"
        ) from None
    except (OSError, ValueError) as error:
        own.close()
        # Python itself refuses a path that does not fit, without an error number.
        if getattr(error, "errno", None) in (None, errno.ENAMETOOLONG):
            raise InvalidArgument(f"no possible socket path: {path!r}: {error}") from None
        raise NotRunning(
            "daemon is not running", hint="start the daemon with: pilotctl daemon start"
        ) from None
    except TimedOut:
        own.close()
        raise
