"""Streams that are kept open for what is sent now and then: one a peer, over any node's C{dial}.

A letter goes out at once while there is a stream, and waits while one is being dialled.  A peer
that cannot be reached is left alone for a while: letters for it fail at once, so that whoever sends
them can turn to another.
"""

from __future__ import annotations

import random
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IAddress, IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pilot.address import Address
from pilot.errors import (
    ConnectionFailed,
    ConnectionReset,
    DialTimeout,
    PilotError,
    TimedOut,
)
from pilot.node.turnstile import Turnstile

log = Logger()

#: Dials under way at once, and dials a second, of everything that shares a turnstile.
DIALS_AT_ONCE = 4
DIAL_RATE = 8.0

Dial = Callable[[Address, int, Factory], Deferred[Any]]


@dataclass(frozen=True)
class KeptLimits:
    """
    What kept streams may cost.

    @ivar letters: of one peer that wait or are unanswered; one more is refused.
    @ivar bytes: of those; a letter that is alone is taken however large.
    @ivar total_letters: of all peers.
    @ivar total_bytes: of those.
    @ivar streams: open or being dialled; for one more the longest idle one is closed.
    @ivar unanswered: letters that one peer may be sent ahead of its answers.
    @ivar dial: seconds for one dial; a dead peer must not be in the way of others for longer.
    @ivar idle: seconds after which a stream that nothing was sent on is closed.
    @ivar patience: seconds that a peer may take for its next answer, or to take anything at all.
    @ivar slowest: bytes a second that a peer is expected to take, so that large letters get more
        time than that.
    @ivar first_rest: seconds, about, for which a peer is left alone after a failure; each further
        failure doubles them.
    @ivar longest_rest: the most that becomes of them.
    @ivar resting: peers whose failures are remembered.
    """

    letters: int = 256
    bytes: int = 4 * 1024 * 1024
    total_letters: int = 8192
    total_bytes: int = 64 * 1024 * 1024
    streams: int = 256
    unanswered: int = 64
    dial: float = 15.0
    idle: float = 60.0
    patience: float = 60.0
    slowest: float = 32 * 1024.0
    first_rest: float = 1.0
    longest_rest: float = 60.0
    resting: int = 4096


class Letter:
    """
    Something to send.

    @ivar data: the bytes of it.
    @ivar done: fires when it has arrived.
    """

    __slots__ = ("data", "done")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.done: Deferred[None] = Deferred()


class _NoRoom(ConnectionFailed):
    """All streams are in use."""


class _Rest(NamedTuple):
    until: float
    failures: int
    reason: str


@implementer(IPushProducer)
class KeptStream(Protocol):
    """
    A stream to one peer; subclasses know what the peer says.

    @cvar greeting: what is sent first.
    @cvar answered: whether the peer answers each letter.  If not, a letter has arrived as soon as
        the stream has it.
    @ivar full: the peer does not take any more for now.
    @ivar useful: whether any letter has arrived over it.
    """

    transport: Any
    greeting = b""
    answered = False

    def __init__(self, line: Line) -> None:
        self.full = False
        self.useful = False
        self.line = line

    def connectionMade(self) -> None:
        """The peer has accepted."""
        self.transport.registerProducer(self, True)
        if self.greeting:
            self.transport.write(self.greeting)
        self.line.opened(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The stream is over."""
        self.line.lost(self, reason)

    def pauseProducing(self) -> None:
        """The peer takes no more for now."""
        self.full = True

    def resumeProducing(self) -> None:
        """It does again."""
        self.full = False
        self.line.pump()

    def stopProducing(self) -> None:
        """The stream is over; C{connectionLost} says the rest."""

    def end(self) -> None:
        """Close it after what was sent."""
        self.transport.unregisterProducer()
        self.transport.loseConnection()


class Line:
    """The letters to one peer, and the stream they go over."""

    def __init__(self, streams: KeptStreams, peer: Address) -> None:
        self.peer = peer
        self._streams = streams
        self._stream: KeptStream | None = None
        self._dialling: Deferred[None] | None = None
        self._waiting: deque[Letter] = deque()
        self._unanswered: deque[Letter] = deque()
        self._bytes = 0
        self._moved_at = 0.0
        self._timer: IDelayedCall | None = None

    @property
    def idle(self) -> bool:
        """Whether the stream is open for nothing."""
        return self._stream is not None and not (self._waiting or self._unanswered)

    @property
    def unused(self) -> bool:
        """Whether there is neither a stream, nor one on its way, nor anything to send."""
        return (
            self._stream is None
            and self._dialling is None
            and not (self._waiting or self._unanswered)
        )

    def takes(self, size: int) -> bool:
        """@return: whether there is room for a letter of C{size} bytes."""
        limits, letters = self._streams.limits, len(self._waiting) + len(self._unanswered)
        return letters < limits.letters and (not letters or self._bytes + size <= limits.bytes)

    def add(self, data: bytes) -> Deferred[None]:
        """Send a letter as soon as it is its turn."""
        letter = Letter(data)
        if not self._waiting and not self._unanswered:
            self._moved_at = self._streams.clock.seconds()
        self._waiting.append(letter)
        self._bytes += len(data)
        self._streams.counted(1, len(data))
        if self._stream is not None:
            self.pump()
        elif self._dialling is None:
            self._dial()
        return letter.done

    # -- the stream ----------------------------------------------------------------------------

    def _dial(self) -> None:
        dialling = Deferred.fromCoroutine(self._open())
        if self._stream is None and not dialling.called:
            self._dialling = dialling
        dialling.addCallbacks(self._dialled, self._not_opened)

    async def _open(self) -> None:
        streams = self._streams
        await streams.turnstile.enter()
        try:
            streams.make_room()
            dialled = streams.dial(self.peer, streams.port, _OneStream(self))
            dialled.addTimeout(streams.limits.dial, streams.clock, self._too_slow)
            await dialled
        finally:
            streams.turnstile.leave()

    def _dialled(self, _: None) -> None:
        if self._dialling is not None:  # it was open, and is over already
            self._dialling = None
            self._streams.settled(self)

    def _not_opened(self, reason: Failure) -> None:
        self._dialling = None
        if reason.check(CancelledError):
            return
        error = reason.value
        if not isinstance(error, PilotError):
            log.failure("dial of {peer} failed", reason, peer=str(self.peer))
            error = ConnectionFailed("internal error")
        if not isinstance(error, _NoRoom):  # which is not the peer's doing
            self._streams.failed(self.peer, error.message)
        self._fail(self._waiting, error)
        self._streams.settled(self)

    def _too_slow(self, _: object, after: float) -> Failure:
        return Failure(DialTimeout(f"{self.peer} did not answer in {after:g} s"))

    def make_stream(self) -> KeptStream:
        """@return: the protocol of a new stream."""
        return self._streams.kind(self)

    def opened(self, stream: KeptStream) -> None:
        """The stream is there."""
        if self._streams.closed:
            stream.transport.abortConnection()
            return
        self._dialling, self._stream = None, stream
        self._moved_at = self._streams.clock.seconds()
        self.pump()

    def lost(self, stream: KeptStream, reason: Failure) -> None:
        """The stream is over, by whomever's doing."""
        if stream is not self._stream:
            return  # we had ended it
        self._let_go()
        text = f"the stream to {self.peer} ended before the answer: {reason.getErrorMessage()}"
        unanswered = bool(self._unanswered)
        self._fail(self._unanswered, ConnectionReset(text))
        if not stream.useful and (unanswered or self._waiting):
            self._streams.failed(self.peer, reason.getErrorMessage())
            self._fail(self._waiting, ConnectionReset(text))
        self._go_on()
        self._streams.settled(self)

    def _go_on(self) -> None:
        if self._waiting and self._stream is None and self._dialling is None:
            self._dial()

    def hang_up(self, error: PilotError | None = None) -> None:
        """
        End the stream.

        @param error: what all letters fail with; None when there are none.
        """
        stream, dialling = self._stream, self._dialling
        self._let_go()
        self._dialling = None
        if dialling is not None:
            dialling.cancel()
        if stream is not None and error is None:
            stream.end()
        elif stream is not None:
            stream.transport.abortConnection()
        if error is not None:
            self._fail(self._unanswered, error)
            self._fail(self._waiting, error)
        self._streams.settled(self)

    def _let_go(self) -> None:
        self._stream = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- the letters ---------------------------------------------------------------------------

    def pump(self) -> None:
        """Send what may be sent."""
        most = self._streams.limits.unanswered
        while (stream := self._stream) is not None and not stream.full:
            if not self._waiting or len(self._unanswered) >= most:
                break
            letter = self._waiting.popleft()
            stream.transport.write(letter.data)
            if stream.answered:
                self._unanswered.append(letter)
            else:
                self._arrived(stream, letter, None)
        if self._stream is not None:
            self._arm()

    def answer(self, stream: KeptStream, error: PilotError | None) -> None:
        """
        The peer has answered the oldest letter.

        @param error: None, or why the peer does not take it.
        """
        if stream is not self._stream:
            return
        if not self._unanswered:
            self.hang_up(ConnectionFailed(f"{self.peer} answers what it was not asked"))
            return
        self._arrived(stream, self._unanswered.popleft(), error)
        self.pump()

    def _arrived(self, stream: KeptStream, letter: Letter, error: PilotError | None) -> None:
        self._moved_at = self._streams.clock.seconds()
        if not stream.useful:
            stream.useful = True
            self._streams.succeeded(self.peer)
        self._count_out(letter)
        self._streams.counters["sent" if error is None else "refused"] += 1
        if error is None:
            letter.done.callback(None)
        else:
            letter.done.errback(error)

    def _fail(self, letters: deque[Letter], error: PilotError) -> None:
        failed = list(letters)
        letters.clear()
        for letter in failed:
            self._count_out(letter)
            self._streams.counters["failed"] += 1
        for letter in failed:
            letter.done.errback(error)

    def _count_out(self, letter: Letter) -> None:
        self._bytes -= len(letter.data)
        self._streams.counted(-1, -len(letter.data))

    # -- time ----------------------------------------------------------------------------------

    def _deadline(self) -> float:
        limits = self._streams.limits
        if self.idle:
            return self._moved_at + limits.idle
        return self._moved_at + limits.patience + self._bytes / limits.slowest

    def _arm(self) -> None:
        deadline, timer = self._deadline(), self._timer
        now = self._streams.clock.seconds()
        if timer is None:
            self._timer = self._streams.clock.callLater(max(0.0, deadline - now), self._look)
        elif timer.getTime() > deadline:
            timer.reset(max(0.0, deadline - now))

    def _look(self) -> None:
        self._timer = None
        if self._deadline() > self._streams.clock.seconds():
            self._arm()
        elif self.idle:
            self.hang_up()
        else:
            self._streams.failed(self.peer, "it stopped answering")
            self.hang_up(TimedOut(f"no answer from {self.peer}"))


class _OneStream(Factory):
    """Makes the one stream that was dialled."""

    noisy = False

    def __init__(self, line: Line) -> None:
        self._line = line

    def buildProtocol(self, addr: IAddress | None) -> KeptStream:
        """@return: its protocol."""
        return self._line.make_stream()


class KeptStreams:
    """
    All kept streams to one port.

    @ivar limits: what they may cost.
    @ivar counters: letters C{sent}, C{refused} (by the peer), C{failed}, C{turned_away} (the peer
        rests), C{overflowed} (no room).
    @ivar closed: there will be no more streams.
    """

    def __init__(
        self,
        clock: IReactorTime,
        dial: Dial,
        port: int,
        kind: Callable[[Line], KeptStream],
        turnstile: Turnstile,
        rng: random.Random,
        limits: KeptLimits | None = None,
    ) -> None:
        """
        @param dial: as C{IPilotNode.dial}.
        @param kind: makes the protocol of a stream.
        @param turnstile: in front of every dial.
        """
        self.clock = clock
        self.dial = dial
        self.port = port
        self.kind = kind
        self.turnstile = turnstile
        self.limits = limits or KeptLimits()
        self.counters: Counter[str] = Counter()
        self._rng = rng
        self._lines: dict[Address, Line] = {}
        self._resting: OrderedDict[Address, _Rest] = OrderedDict()
        self._letters = self._bytes = 0
        self.closed = False

    def send(self, peer: Address, data: bytes) -> Deferred[None]:
        """
        Send C{data} to C{peer}.

        @return: Deferred of None when it has arrived, as far as that shows; it fails with what the
            peer answered, with what the dial failed with, or with C{ConnectionFailed} when there is
            no room or the peer is being left alone.
        """
        if self.closed:
            return fail(ConnectionFailed("the node is stopping"))
        line = self._lines.get(peer)
        if line is None:
            rest = self._resting.get(peer)
            wait = 0.0 if rest is None else rest.until - self.clock.seconds()
            if rest is not None and wait > 0:
                self.counters["turned_away"] += 1
                return fail(
                    ConnectionFailed(
                        f"{peer} could not be reached a moment ago: {rest.reason}",
                        hint=f"it is tried again in {wait:.1f} s at the earliest",
                    )
                )
            line = Line(self, peer)
        limits, size = self.limits, len(data)
        if (
            not line.takes(size)
            or self._letters >= limits.total_letters
            or (self._letters and self._bytes + size > limits.total_bytes)
        ):
            self.counters["overflowed"] += 1
            return fail(ConnectionFailed(f"too much waits to be sent to {peer}"))
        # The most recently used is the last, so that the longest idle is found first.
        self._lines.pop(peer, None)
        self._lines[peer] = line
        return line.add(data)

    def close(self) -> None:
        """End everything; what has not arrived fails."""
        self.closed = True
        for line in list(self._lines.values()):
            line.hang_up(None if line.idle else ConnectionFailed("the node is stopping"))

    def statistics(self) -> dict[str, int]:
        """@return: the counters, and C{streams}, C{waiting} and C{resting} as of now."""
        now = self.clock.seconds()
        resting = sum(1 for rest in self._resting.values() if rest.until > now)
        names = ("sent", "refused", "failed", "turned_away", "overflowed")
        counted = {name: self.counters[name] for name in names}
        return {
            "streams": len(self._lines),
            "waiting": self._letters,
            "resting": resting,
            **counted,
        }

    # -- what lines call -----------------------------------------------------------------------

    def counted(self, letters: int, size: int) -> None:
        """There are so many letters and bytes more, or fewer."""
        self._letters += letters
        self._bytes += size

    def make_room(self) -> None:
        """
        See to it that one more stream may be opened.

        @raise ConnectionFailed: all of them are in use.
        """
        if len(self._lines) <= self.limits.streams:
            return
        for line in self._lines.values():
            if line.idle:
                line.hang_up()
                return
        self.counters["overflowed"] += 1
        raise _NoRoom("too many streams are in use")

    def settled(self, line: Line) -> None:
        """Something has ended: forget C{line} unless there is more to do for it."""
        if line.unused and self._lines.get(line.peer) is line:
            del self._lines[line.peer]

    def failed(self, peer: Address, reason: str) -> None:
        """C{peer} could not be reached, or answered nothing."""
        limits, rest = self.limits, self._resting.pop(peer, None)
        failures = 1 if rest is None else rest.failures + 1
        longest = min(limits.longest_rest, limits.first_rest * 2.0 ** min(failures - 1, 30))
        # Jitter, so that those who failed together do not come back together.
        until = self.clock.seconds() + longest * self._rng.uniform(0.5, 1.0)
        self._resting[peer] = _Rest(until, failures, reason)
        if len(self._resting) > limits.resting:
            self._resting.popitem(last=False)

    def succeeded(self, peer: Address) -> None:
        """C{peer} is there."""
        self._resting.pop(peer, None)
