"""One client of the registry: its frames, its place in the order, its pauses and deadlines.

@see: protocol notes of the registry, I{Transport}.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IPushProducer,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from pilot.registry.callers import Caller
from pilot.registry.codec import FastFrameDecoder, encode_frame
from pilot.registry.extensions import NOTIFY
from pilot.registry.listening import plain_host
from pilot.registry.refusal import MASKED
from pilot.wire import registry_binary
from pilot.wire.framing import FramingError

if TYPE_CHECKING:
    from pilot.registry.server import RegistryFactory

_FAILED = encode_frame({"type": "error", "error": MASKED})
_BINARY_FAILED = registry_binary.ErrorMessage(MASKED).encode()


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """
    What one connection may do, and how many there may be.  Times are seconds.

    @ivar connections: open at once; more are closed as they come.
    @ivar accepted_per_second: new connections a second during the first C{accept_throttled}.
    @ivar read_deadline: for each next frame to arrive whole.
    @ivar write_deadline: for a client that does not read, before it is cut off.
    @ivar free: from its start, a connection's requests are not counted for this long.
    @ivar slow_above: requests a second, on average since the start; each waits C{slow_pause} then.
    @ivar close_above: requests a second; the connection is closed then.
    @ivar unsent_answers: answers that may wait for the disk before reading stops.
    """

    connections: int = 1_100_000
    accepted_per_second: int = 1000
    accept_throttled: float = 60.0
    read_deadline: float = 300.0
    write_deadline: float = 60.0
    free: float = 5.0
    slow_above: float = 100.0
    slow_pause: float = 0.01
    close_above: float = 500.0
    unsent_answers: int = 256


class _Answer:
    """An answer in its place in the order, until those before it are on their way."""

    __slots__ = ("data", "ready")

    def __init__(self, data: bytes, ready: bool) -> None:
        self.data = data
        self.ready = ready


@implementer(IPushProducer, IHalfCloseableProtocol)
class RegistryConnection(Protocol):
    """
    One client.

    Requests are carried out in the order of their arrival and answered in the same order.  An
    answer leaves when what the directory changed for it is saved.
    """

    factory: RegistryFactory
    transport: Any  # a transport that is a producer too, as those of TCP and TLS are
    caller: Caller

    # Defaults on the class keep ten thousand idle connections small.
    _decoder: FastFrameDecoder | registry_binary.FrameDecoder | None = None
    _head = b""
    _frames: deque[Any] | None = None  # not carried out yet; None in it is the end
    _unsent: deque[_Answer] | None = None
    _pause: IDelayedCall | None = None
    _stuck = False
    _deaf = False
    _ending = False
    _silent = False
    _requests = 0
    _since = 0.0  # what the present deadline counts from
    _opened = 0.0

    # -- from the transport ----------------------------------------------------------------------

    def connectionMade(self) -> None:
        """A client is there."""
        peer = self.transport.getPeer()
        host = plain_host(getattr(peer, "host", ""))
        self.caller = Caller(host, getattr(peer, "port", 0), self._push)
        self._since = self._opened = self.factory.clock.seconds()
        if self.factory.opened(self):
            self.transport.registerProducer(self, True)
        else:
            self._ending = True
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The client is gone."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self._ending = True
        self._frames = self._unsent = None
        # A client that has read its answer closes in order; one that was killed or cut off need
        # not have, and what it collected waits for it again.
        in_order = isinstance(reason.value, ConnectionDone) and not self._silent
        self.factory.closed(self, () if in_order else self.caller.collected)

    def dataReceived(self, data: bytes) -> None:
        """Take what arrived."""
        if self._ending:
            return
        if self._decoder is None:
            data = self._choose(self._head + data)
            if self._decoder is None:
                return
        try:
            frames: list[Any] = self._decoder.feed(data)
        except FramingError as error:
            self.factory.refused["frame"] += 1
            frames = [*error.frames, None]
        if frames:
            self._since = self.factory.clock.seconds()
            self._take(frames)

    def readConnectionLost(self) -> None:
        """The client says that it has no more requests; it may still read answers."""
        if not self._ending:
            self._take([None])

    def writeConnectionLost(self) -> None:
        """The client does not want our answers: L{connectionLost} follows."""

    def pauseProducing(self) -> None:
        """The client does not read as fast as it asks: stop listening to it."""
        self._stuck = True
        self._since = self.factory.clock.seconds()
        self._stop_listening()

    def resumeProducing(self) -> None:
        """The client has read."""
        self._stuck = False
        self._since = self.factory.clock.seconds()
        self._go_on()

    def stopProducing(self) -> None:
        """The connection ends: L{connectionLost} follows."""

    # -- from the factory ------------------------------------------------------------------------

    def check_deadlines(self, now: float) -> None:
        """End a connection that is silent, in the midst of a frame too, or does not read."""
        limits = self.factory.limits
        waited = now - self._since
        if self._ending or self._stuck:
            if waited > limits.write_deadline:
                self.factory.refused["write deadline"] += 1
                self.transport.abortConnection()
        elif self._unsent is None and self._frames is None and waited > limits.read_deadline:
            self.factory.refused["read deadline"] += 1
            self._silent = True
            self._end()

    # -- requests and answers --------------------------------------------------------------------

    def _choose(self, head: bytes) -> bytes:
        """Tell the protocols apart by the first bytes.  @return: what follows them."""
        self._head = head
        if len(head) < 4:
            return b""
        if not head.startswith(registry_binary.MAGIC):
            self._head, self._decoder = b"", FastFrameDecoder()
            return head
        if len(head) == 4:
            return b""
        if head[4] != registry_binary.VERSION:
            message = f"unsupported wire version {head[4]}"
            self.transport.write(registry_binary.ErrorMessage(message).encode())
            self._end()
            return b""
        self.caller.notify = None
        self._head, self._decoder = b"", registry_binary.FrameDecoder()
        return head[5:]

    def _take(self, frames: Sequence[Any]) -> None:
        if self._frames is None:
            self._frames = deque()
        self._frames.extend(frames)
        self._go_on()

    def _go_on(self) -> None:
        """Carry out what waits, as far as may be now; then listen again."""
        while self._frames and self._may_go_on():
            if self._frames[0] is None:
                self._end()
            elif self._fast_enough():
                self._carry_out(self._frames.popleft())
        if not self._frames:
            self._frames = None
            if self._deaf and self._may_go_on():
                self._deaf = False
                self.transport.resumeProducing()

    def _may_go_on(self) -> bool:
        if self._ending or self._stuck or self._pause is not None:
            return False
        return self._unsent is None or len(self._unsent) < self.factory.limits.unsent_answers

    def _fast_enough(self) -> bool:
        """@return: whether the next request may be carried out now; else it waits, or all ends."""
        limits = self.factory.limits
        age = self.factory.clock.seconds() - self._opened
        if age < limits.free:
            return True
        rate = (self._requests + 1) / age
        if rate > limits.close_above:
            self.factory.refused["rate"] += 1
            self._end()
            return False
        if rate > limits.slow_above:
            self._stop_listening()
            self._pause = self.factory.clock.callLater(limits.slow_pause, self._paused)
            return False
        return True

    def _stop_listening(self) -> None:
        self._deaf = True
        self.transport.pauseProducing()

    def _paused(self) -> None:
        self._pause = None
        if self._frames:
            self._carry_out(self._frames.popleft())
        self._go_on()

    def _carry_out(self, frame: Any) -> None:
        self._requests += 1
        if isinstance(frame, dict):
            data, last = self.factory.answer(frame, self.caller)
        else:
            kind, payload = frame
            data, last = self.factory.answer_binary(kind, payload, self.caller), False
        saved = self.factory.save()
        self._send(data, saved)
        self.factory.announce(saved)
        if last:
            self._end()

    def _send(self, data: bytes, saved: Deferred[None] | None) -> None:
        if saved is None and self._unsent is None:
            self.transport.write(data)
            return
        if self._unsent is None:
            self._unsent = deque()
        answer = _Answer(data, saved is None)
        self._unsent.append(answer)
        if len(self._unsent) >= self.factory.limits.unsent_answers:
            self._stop_listening()
        if saved is not None:
            saved.addCallbacks(
                self._saved, self._not_saved, callbackArgs=(answer,), errbackArgs=(answer,)
            )

    def _saved(self, _: None, answer: _Answer) -> None:
        answer.ready = True
        unsent = self._unsent
        if unsent is None:
            return  # the client is gone
        while unsent and unsent[0].ready:
            self.transport.write(unsent.popleft().data)
        if unsent:
            return
        self._unsent = None
        if self._ending:
            self._end()
        else:
            self._go_on()

    def _not_saved(self, _: Failure, answer: _Answer) -> None:
        json = isinstance(self._decoder, FastFrameDecoder)
        answer.data = _FAILED if json else _BINARY_FAILED
        self._saved(None, answer)

    def _end(self) -> None:
        """Close when all answers so far are sent."""
        self._ending = True
        self._frames = None
        self._since = self.factory.clock.seconds()
        if self._unsent is None:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def _push(self, event: str) -> None:
        if not self._ending:
            self.transport.write(encode_frame({"type": NOTIFY, "event": event}))
