"""Talking to a skill on this host, for short-lived programs: blocking calls, no Twisted.

Each running skill serves a Unix socket beside the daemon's: C{/tmp/pilot.sock} goes with
C{/tmp/pilot-presence.sock}.  Both sides write one JSON object a line.

@see: the page I{Write a skill}, I{The skill's socket}.
"""

from __future__ import annotations

# The C half of the socket module, as in L{pilot.client.framesocket}: the other half is slow to
# import.
import _socket
import errno
import select
import time
from collections import deque

from pilot.client import places
from pilot.errors import ConnectionFailed, InvalidArgument, NotRunning, PilotError, TimedOut
from pilot.wire.jsontext import dump, load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Any

CONNECT_TIMEOUT = 5.0
"""Seconds to wait for a skill that is too busy to accept."""

CALL_TIMEOUT = 60.0
"""Seconds to wait for the answer to a call, unless the caller says otherwise."""

LINE_LIMIT = 16 * 1024 * 1024
"""Bytes of the longest line a client takes."""

_READ_SIZE = 1 << 16
_LONGEST_WAIT = 3600.0  # poll() knows no infinity; the loop around it does


class SkillError(PilotError):
    """
    The skill said no.

    @ivar code: the machine-readable code of the skill's own error.
    """

    def __init__(self, message: str, *, code: str = "internal", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code  # type: ignore[misc]  # of this error, not of the class


class SkillClient:
    """
    A way to one skill; every call and every feed makes a connection of its own.

    @ivar name: the skill's.
    @ivar path: its socket.
    """

    __slots__ = ("name", "path")

    def __init__(self, name: str, socket_path: str | None = None) -> None:
        """@param socket_path: the daemon's control socket; None looks where C{pilotctl} looks."""
        self.name = name
        self.path = places.skill_socket(socket_path or places.socket_path(), name)

    def call(
        self,
        operation: str,
        arguments: dict[str, Any] | None = None,
        timeout: float | None = CALL_TIMEOUT,
    ) -> Any:
        """
        Ask, and wait for the answer.

        @param arguments: JSON-ready.
        @param timeout: seconds; None waits for ever.
        @return: a JSON value.
        @raise NotRunning: the skill does not run here.
        @raise SkillError: it refused.
        @raise ConnectionFailed: it went away, or its answer makes no sense.
        @raise TimedOut: it did not answer in time.
        """
        with _Line(self, timeout) as line:
            line.write({"call": operation, "arguments": arguments or {}})
            answer = line.read()
            if "result" not in answer:
                raise ConnectionFailed(f"the answer of the {self.name} skill makes no sense")
            return answer["result"]

    def feed(
        self,
        operation: str,
        arguments: dict[str, Any] | None = None,
        deadline: float | None = None,
    ) -> Iterator[dict[str, Any]]:
        """
        Follow a live feed.

        @param deadline: seconds after which it ends; None for never.
        @return: an iterator of C{{"event": {...}}} and C{{"dropped": n}}, the number of events lost
            because they were not read in time.  It ends at the deadline.
        @raise NotRunning: the skill does not run here.
        @raise SkillError: it refused, or the feed broke.
        @raise ConnectionFailed: it went away.
        """
        with _Line(self, deadline) as line:
            line.write({"feed": operation, "arguments": arguments or {}})
            while True:
                try:
                    yield line.read()
                except TimedOut:
                    return


class _Line:
    """One connection: a request, and the lines that answer it."""

    __slots__ = ("_client", "_end", "_lines", "_partial", "_poll", "_socket")

    def __init__(self, client: SkillClient, timeout: float | None) -> None:
        self._client = client
        self._end = None if timeout is None else time.monotonic() + timeout
        self._lines: deque[bytes] = deque()
        self._partial = bytearray()
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self._poll = select.poll()

    def __enter__(self) -> _Line:
        try:
            self._connect()
        except BaseException:
            self._socket.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()

    def write(self, request: dict[str, Any]) -> None:
        """Send one line."""
        rest = memoryview(dump(request) + b"\n")
        while rest:
            self._wait(select.POLLOUT)
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                continue
            except OSError:
                return  # it hung up; what it said before is still to be read

    def read(self) -> dict[str, Any]:
        """@return: the next line.  @raise SkillError: it is an error."""
        while not self._lines:
            self._wait(select.POLLIN)
            self._receive()
        message = load(self._lines.popleft())
        if not isinstance(message, dict):
            raise ConnectionFailed(f"the answer of the {self._client.name} skill makes no sense")
        error = message.get("error")
        if isinstance(error, dict):
            hint = error.get("hint")
            raise SkillError(
                str(error.get("message")),
                code=str(error.get("code") or "internal"),
                hint=str(hint) if hint else None,
            )
        return message

    def _receive(self) -> None:
        try:
            data = self._socket.recv(_READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or len(self._partial) > LINE_LIMIT:
            raise ConnectionFailed(
                f"the {self._client.name} skill hung up",
                hint="see the daemon's log",
            )
        *complete, rest = data.split(b"\n")
        if complete:
            complete[0] = bytes(self._partial) + complete[0]
            self._partial.clear()
            self._lines.extend(complete)
        self._partial += rest

    def _wait(self, events: int) -> None:
        self._poll.register(self._socket.fileno(), events)
        while True:
            left = _LONGEST_WAIT
            if self._end is not None:
                left = min(left, max(0.0, self._end - time.monotonic()))
            # Rounded up: a wait of half a millisecond must not become a busy loop.
            if self._poll.poll(int(left * 1000 + 0.999)):
                return
            if self._end is not None and time.monotonic() >= self._end:
                raise TimedOut(f"no answer from the {self._client.name} skill in time")

    def _connect(self) -> None:
        path, name = self._client.path, self._client.name
        self._socket.setblocking(False)
        give_up = time.monotonic() + CONNECT_TIMEOUT
        while True:
            try:
                self._socket.connect(path)
                return
            except BlockingIOError:  # its backlog is full
                if time.monotonic() >= give_up:
                    raise TimedOut(f"the {name} skill does not accept connections") from None
                time.sleep(0.01)
            except PermissionError:
                raise ConnectionFailed(
                    f"cannot open {path}: permission denied",
                    hint="the skill belongs to another user",
                ) from None
            except (OSError, ValueError) as error:
                # Python itself refuses a path that does not fit, without an error number.
                if getattr(error, "errno", None) in (None, errno.ENAMETOOLONG):
                    raise InvalidArgument(f"no possible socket path: {path!r}: {error}") from None
                raise NotRunning(
                    f"the {name} skill does not run here",
                    hint=f"start the daemon with --skill {name}, or run: twistd pilot-{name}",
                ) from None
