"""Event stream (port 1002): connections to the broker of this node.

The first event of a connection subscribes it, every later one is published; see
L{pilot.services.eventbroker} for what happens then.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IAddress, IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pilot.services.eventbroker import Broker, EventLimits, EventListener, Subscription
from pilot.wire.eventstream import Event, EventDecoder
from pilot.wire.framing import FramingError

log = Logger()

#: Seconds between two looks at connections that may have to be cut off, while there are any.
SWEEP = 5.0


@implementer(IPushProducer)
class EventStream(Protocol):
    """
    One connection: a subscriber, and a publisher if it likes.

    As a producer it is the broker seen from the stream: paused, events wait in its queue.
    """

    transport: Any

    def __init__(self, factory: EventStreamFactory) -> None:
        self._factory = factory
        self._decoder = EventDecoder()
        self._subscription: Subscription | None = None
        self._remote = ""
        self._over = False
        self._unfinished = 0
        self._heard = self._heard_at_sweep = 0
        self._silent_since = 0.0

    def connectionMade(self) -> None:
        """A peer has come; what it wants, its first event tells."""
        self._remote = str(self.transport.getPeer())
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        """Bytes of events."""
        if self._over:
            return
        decoder, factory = self._decoder, self._factory
        broken = ""
        try:
            events = decoder.feed(data)
        except FramingError as error:
            events, broken = error.frames, error.message
        if events:
            self._handle(events)
        if broken:
            factory.broker.counters.malformed += 1
            self._close(broken)
            return
        buffered = decoder.buffered
        if buffered != self._unfinished:
            factory.unfinished += buffered - self._unfinished
            self._unfinished = buffered
        if buffered:
            self._heard += len(data)
            factory.watch(self)
            if factory.unfinished > factory.broker.limits.unfinished_bytes:
                factory.broker.counters.unfinished_cut += 1
                self._close("too many bytes of unfinished events")

    def _handle(self, events: list[Event]) -> None:
        broker = self._factory.broker
        if self._subscription is None:
            self._subscription = broker.subscribe(events[0], self._remote, self.transport.write)
            del events[0]
        if events:
            broker.publish(self._subscription, events)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is over, and its subscription with it."""
        self._leave()

    # -- IPushProducer -------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """The peer does not take what it was sent: let events wait."""
        if self._subscription is not None:
            self._subscription.pause(self._factory.clock.seconds())
            self._factory.watch(self)

    def resumeProducing(self) -> None:
        """The peer takes more again."""
        if self._subscription is not None:
            self._subscription.resume()

    def stopProducing(self) -> None:
        """The stream is over; C{connectionLost} says the rest."""

    # -- the ends ------------------------------------------------------------------------------

    def examine(self, now: float) -> bool:
        """
        Cut the connection if it has held something up for too long.

        @return: whether to look at it again.
        """
        if self._over:
            return False
        counters, limits = self._factory.broker.counters, self._factory.broker.limits
        subscription = self._subscription
        paused_at = None if subscription is None else subscription.paused_at
        if paused_at is not None and now - paused_at >= limits.patience:
            counters.slow_cut += 1
            log.info("subscriber {remote} cut off: it takes nothing", remote=self._remote)
            self._leave()
            self.transport.abortConnection()
            return False
        if not self._unfinished or self._heard != self._heard_at_sweep:
            self._heard_at_sweep = self._heard
            self._silent_since = now
        elif now - self._silent_since >= limits.unfinished_time:
            counters.unfinished_cut += 1
            self._close("an event was never finished")
            return False
        return paused_at is not None or self._unfinished > 0

    def _close(self, why: str) -> None:
        log.info("event stream of {remote} closed: {why}", remote=self._remote, why=why)
        self._leave()
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _leave(self) -> None:
        if self._over:
            return
        self._over = True
        self._factory.forget(self)
        self._factory.unfinished -= self._unfinished
        self._unfinished = 0
        if self._subscription is not None:
            self._factory.broker.unsubscribe(self._subscription)


class EventStreamFactory(Factory):
    """
    Serves the event stream of one node.

    @ivar broker: its broker.
    @ivar clock: seconds and timers; a timer runs only while a connection holds something up.
    @ivar unfinished: bytes of half-sent events on all connections.
    """

    noisy = False

    def __init__(
        self,
        clock: IReactorTime,
        *,
        on_event: EventListener | None = None,
        limits: EventLimits | None = None,
    ) -> None:
        """@param on_event: told the three C{pubsub.} events, as L{Broker} says."""
        self.broker = Broker(limits, on_event)
        self.clock = clock
        self.unfinished = 0
        self._watched: dict[EventStream, None] = {}
        self._sweep_call: IDelayedCall | None = None

    def buildProtocol(self, addr: IAddress | None) -> EventStream:
        """@return: a protocol for one more connection."""
        return EventStream(self)

    def watch(self, connection: EventStream) -> None:
        """Look after C{connection} every now and then: it holds something up."""
        self._watched[connection] = None
        if self._sweep_call is None:
            self._sweep_call = self.clock.callLater(SWEEP, self._sweep)

    def forget(self, connection: EventStream) -> None:
        """C{connection} is over."""
        self._watched.pop(connection, None)
        if not self._watched and self._sweep_call is not None:
            self._sweep_call.cancel()
            self._sweep_call = None

    def statistics(self) -> dict[str, int]:
        """@return: figures of the broker, and C{unfinished_bytes}, for the daemon's reports."""
        return {**self.broker.statistics(), "unfinished_bytes": self.unfinished}

    def _sweep(self) -> None:
        self._sweep_call = None
        now = self.clock.seconds()
        for connection in list(self._watched):
            if not connection.examine(now):
                self._watched.pop(connection, None)
        if self._watched and self._sweep_call is None:
            self._sweep_call = self.clock.callLater(SWEEP, self._sweep)
