"""Subscribes to a topic of some node's broker: one stream a subscription.

@see: protocol notes, I{Event stream (1002)}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from pilot.address import PORT_EVENT_STREAM, Address
from pilot.errors import ConnectionFailed, ConnectionReset
from pilot.interfaces import IPilotNode
from pilot.wire.eventfilter import (
    DROPPED,
    Interest,
    decode_dropped,
    encode_interest,
    is_pattern,
)
from pilot.wire.eventstream import WILDCARD, Event, EventDecoder, encode_event, event_text
from pilot.wire.framing import FramingError

log = Logger()

Listener = Callable[[str, bytes], object]
OnEnd = Callable[[Failure], object]


def subscribe(
    node: IPilotNode, target: Address | int | str, topic: str, listener: Listener, on_end: OnEnd
) -> Deferred[Callable[[], None]]:
    """
    What C{IPilotNode.subscribe} does.

    @return: Deferred of what ends the subscription; it fails as C{node.dial} does.
    """

    async def begin() -> Callable[[], None]:
        wanted = topic.encode("utf-8", "replace")
        # A topic that ends in .* is no wildcard to a broker of the reference: this subscribes to
        # everything, tells a broker that knows better, and keeps what has the prefix.
        interest = Interest([wanted]) if is_pattern(wanted) else None
        if interest is None:
            first = encode_event(wanted)
        else:
            first = encode_event(WILDCARD, encode_interest(interest))
        feed = _Feed(first, interest, listener, on_end)
        await node.dial(target, PORT_EVENT_STREAM, _OneFeed(feed))
        return feed.stop

    return Deferred.fromCoroutine(begin())


class _Feed(Protocol):
    """One subscription."""

    transport: Any

    def __init__(
        self, first: bytes, interest: Interest | None, listener: Listener, on_end: OnEnd
    ) -> None:
        self._first = first
        self._interest = interest
        self._listener = listener
        self._on_end = on_end
        self._decoder = EventDecoder()
        self._over = False

    def connectionMade(self) -> None:
        """Say what is wanted."""
        self.transport.write(self._first)

    def dataReceived(self, data: bytes) -> None:
        """Events, or parts of some."""
        broken = None
        try:
            events = self._decoder.feed(data)
        except FramingError as error:
            events, broken = error.frames, error.message
        for event in events:
            if self._over:
                return
            if self._interest is None or self._wanted(event, self._interest):
                try:
                    self._listener(event_text(event.topic), event.payload)
                except Exception:
                    log.failure("listener of {topic} failed", topic=event_text(event.topic))
        if broken is not None and not self._over:
            self._finish(ConnectionFailed(f"the broker's events make no sense: {broken}"))
            self.transport.abortConnection()

    def _wanted(self, event: Event, interest: Interest) -> bool:
        if interest.wants(event.topic):
            return True
        if event.topic == DROPPED:
            notice = decode_dropped(event.payload)
            if notice is not None:
                log.warn("missed {events} events: too slow for them", events=notice.events)
        return False

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The broker has ended it, or the way to it has."""
        if reason.check(ConnectionDone):
            self._finish(ConnectionFailed("the broker has ended the subscription"))
        else:
            self._finish(ConnectionReset(reason.getErrorMessage()))

    def stop(self) -> None:
        """End it; nothing is told any more."""
        if not self._over:
            self._over = True
            self.transport.loseConnection()

    def _finish(self, error: Exception) -> None:
        if not self._over:
            self._over = True
            try:
                self._on_end(Failure(error))
            except Exception:
                log.failure("what was to be told the end of a subscription failed")


class _OneFeed(Factory):
    """Makes the one stream that was dialled."""

    noisy = False

    def __init__(self, feed: _Feed) -> None:
        self._feed = feed

    def buildProtocol(self, addr: IAddress | None) -> _Feed:
        """@return: its protocol."""
        return self._feed
