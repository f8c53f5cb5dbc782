"""The control socket from a Twisted program's side: requests, answers, pushes.

Answers carry no request ids: a reply belongs to the oldest waiting request of its kind, an Error to
the oldest of all (protocol notes, I{What clients assume}).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from twisted.internet import protocol
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pilot.errors import ConnectionFailed, NotRunning, TimedOut, WireError
from pilot.wire.ipc import Command, Error, FrameDecoder, encode_frame

log = Logger()

#: Requests that may wait for their answers at the same time.
MAX_WAITING = 1024

#: Seconds to wait for an answer; the slowest honest one, a dial of a dead node, takes 39.
REQUEST_TIMEOUT = 60.0


class DaemonError(ConnectionFailed):
    """The daemon answered a request with an error; the message is its text."""


class Listener(Protocol):
    """What a connection tells of the frames that answer nothing."""

    def pushed(self, command: int, payload: bytes) -> None:
        """A frame that is no answer."""

    def batch_ended(self) -> None:
        """All frames that one read brought were told."""

    def drained(self) -> None:
        """The socket takes more."""

    def disconnected(self) -> None:
        """The connection is over."""


class _Waiting:
    """A request that waits for its answer; without a C{deferred}, nobody waits any more."""

    __slots__ = ("deferred", "expected", "late", "timer")

    def __init__(self, expected: int, late: Callable[[bytes], None] | None) -> None:
        self.expected = expected
        self.late = late
        self.deferred: Deferred[bytes] | None = None
        self.timer: IDelayedCall | None = None


@implementer(IPushProducer)
class IpcConnection(protocol.Protocol):
    """
    One connection to a daemon.

    @ivar blocked: the socket takes no more for now; L{Listener.drained} follows.
    """

    transport: Any

    def __init__(self, clock: IReactorTime, listener: Listener) -> None:
        self.blocked = False
        self._clock = clock
        self._listener = listener
        self._decoder = FrameDecoder()
        self._waiting: deque[_Waiting] = deque()
        self._lost: NotRunning | None = None

    # -- requests ------------------------------------------------------------------------------

    def request(
        self,
        command: int,
        payload: bytes,
        expected: int,
        *,
        timeout: float = REQUEST_TIMEOUT,
        late: Callable[[bytes], None] | None = None,
    ) -> Deferred[bytes]:
        """
        @param expected: the command of the reply.
        @param late: takes the payload of a reply that comes after the timeout or a cancellation.
        @return: Deferred of the reply's payload.  It fails with L{DaemonError}, C{TimedOut}, or
            C{NotRunning} when the daemon goes away.
        """
        if self._lost is not None:
            return fail(self._lost)
        if len(self._waiting) >= MAX_WAITING:
            return fail(ConnectionFailed("too many requests wait for the daemon's answers"))
        waiting = _Waiting(expected, late)
        waiting.deferred = Deferred(lambda _: self._give_up(waiting, CancelledError()))
        waiting.timer = self._clock.callLater(
            timeout,
            lambda: self._give_up(waiting, TimedOut(f"no answer from the daemon in {timeout:g} s")),
        )
        self._waiting.append(waiting)
        self.transport.write(encode_frame(command, payload))
        return waiting.deferred

    def send(self, parts: Iterable[bytes]) -> None:
        """Write frames that have no answer."""
        if self._lost is None:
            self.transport.writeSequence(parts)

    def close(self) -> None:
        """End the connection after what was written."""
        if self._lost is None and self.transport is not None:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def _give_up(self, waiting: _Waiting, reason: Exception) -> None:
        # The request keeps its place: its answer will come and must not be taken for another's.
        deferred = self._settle(waiting)
        if deferred is not None:
            deferred.errback(reason)

    def _settle(self, waiting: _Waiting) -> Deferred[bytes] | None:
        if waiting.timer is not None and waiting.timer.active():
            waiting.timer.cancel()
        deferred, waiting.deferred, waiting.timer = waiting.deferred, None, None
        return deferred

    # -- IProtocol -----------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """The daemon has accepted."""
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        """Frames, or parts of some."""
        try:
            frames = self._decoder.feed(data)
        except WireError as error:
            log.error("the daemon's answers make no sense: {error}", error=error.message)
            self.transport.abortConnection()
            return
        pushed = self._listener.pushed
        for command, payload in frames:
            try:
                if not self._answered(command, payload):
                    pushed(command, payload)
            except WireError as error:
                log.error("the daemon's answers make no sense: {error}", error=error.message)
                self.transport.abortConnection()
                return
        self._listener.batch_ended()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The daemon has hung up, or we have."""
        self._lost = lost = NotRunning("the daemon closed the connection")
        waiting, self._waiting = self._waiting, deque()
        for one in waiting:
            deferred = self._settle(one)
            if deferred is not None:
                deferred.errback(lost)
        self._listener.disconnected()

    def _answered(self, command: int, payload: bytes) -> bool:
        if command == Command.RECV:
            return False  # by far the most frequent
        waiting = self._waiting
        if command == Command.ERROR:
            if waiting:
                self._finish(waiting.popleft(), DaemonError(Error.decode(payload).text))
            return True
        for one in waiting:
            if one.expected == command:
                waiting.remove(one)
                self._finish(one, payload)
                return True
        return False

    def _finish(self, waiting: _Waiting, answer: bytes | DaemonError) -> None:
        deferred = self._settle(waiting)
        if isinstance(answer, bytes):
            if deferred is not None:
                deferred.callback(answer)
            elif waiting.late is not None:
                waiting.late(answer)
        elif deferred is not None:
            deferred.errback(answer)

    # -- IPushProducer: all that is written to the socket --------------------------------------

    def pauseProducing(self) -> None:
        """The socket is full."""
        self.blocked = True

    def resumeProducing(self) -> None:
        """The socket is empty."""
        self.blocked = False
        self._listener.drained()

    def stopProducing(self) -> None:
        """The connection is going away; C{connectionLost} says the rest."""
