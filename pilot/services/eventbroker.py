"""The broker of the event stream: who is subscribed to what, and what waits for whom.  No I/O.

An event is handled as the bytes it came in.  All events of one topic that arrived together go to
each subscriber in one write of one shared byte string, so what a subscriber costs hardly depends on
how many events there are, and nothing is encoded or copied for it.

A subscriber that does not keep up has a queue of its own, bounded in events and bytes.  A full
queue loses its oldest events, and a subscriber that takes nothing for too long is cut off.  Nobody
else notices, least of all the publisher.

@see: protocol notes, I{Event stream (1002)}.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from pilot.wire.eventfilter import DROPPED, Dropped, Interest, decode_interest
from pilot.wire.eventstream import WILDCARD, Event, encode_event, event_text

#: Bytes of queued events that are joined into one write.
FLUSH = 64 * 1024

#: Topics whose recipients are remembered between two changes of the subscriptions.
CACHED_ROUTES = 1024

EventListener = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True)
class EventLimits:
    """
    Bounds of one broker.

    @ivar queue_events: events that wait for one slow subscriber; then its oldest are lost.
    @ivar queue_bytes: the same in bytes.  The newest event is kept however large it is.
    @ivar queued_bytes: bytes that wait for all slow subscribers together; an event that waits for
        two counts twice.  A subscriber for which there is no room loses its oldest.
    @ivar patience: seconds after which a subscriber that has taken nothing is cut off.  What a
        stream has buffered in front of the queue must drain in this time.
    @ivar unfinished_bytes: bytes of half-sent events on all connections together; the connection
        that would pass it is closed.
    @ivar unfinished_time: seconds without a byte after which a half-sent event ends its connection.
    """

    queue_events: int = 4096
    queue_bytes: int = 4 * 1024 * 1024
    queued_bytes: int = 128 * 1024 * 1024
    patience: float = 30.0
    unfinished_bytes: int = 128 * 1024 * 1024
    unfinished_time: float = 60.0


@dataclass
class EventCounters:
    """
    What a broker has done since it started.

    @ivar subscribed: subscriptions made.
    @ivar published: events that publishers sent.
    @ivar published_bytes: their bytes, topics and lengths included.
    @ivar delivered: events handed to subscribers' streams; one that went to three counts three.
    @ivar delivered_bytes: their bytes.
    @ivar dropped: events that slow subscribers lost.
    @ivar dropped_bytes: their bytes.
    @ivar slow_cut: subscribers cut off because they took nothing.
    @ivar malformed: connections closed because of an impossible length.
    @ivar unfinished_cut: connections closed over a half-sent event.
    """

    subscribed: int = 0
    published: int = 0
    published_bytes: int = 0
    delivered: int = 0
    delivered_bytes: int = 0
    dropped: int = 0
    dropped_bytes: int = 0
    slow_cut: int = 0
    malformed: int = 0
    unfinished_cut: int = 0


class Subscription:
    """
    One connection's subscription, and what waits for it.

    @ivar topic: what it is subscribed to.
    @ivar interest: which topics of L{WILDCARD} it wants; C{None}: all.
    @ivar remote: address and port of the other end, for events.
    @ivar paused_at: since when its stream takes no more, in seconds; C{None} while it does.
    """

    __slots__ = (
        "_broker",
        "_lost",
        "_lost_bytes",
        "_queue",
        "_queued",
        "_write",
        "interest",
        "paused_at",
        "remote",
        "topic",
    )

    def __init__(
        self,
        broker: Broker,
        topic: bytes,
        interest: Interest | None,
        remote: str,
        write: Callable[[bytes], object],
    ) -> None:
        self.topic = topic
        self.interest = interest
        self.remote = remote
        self.paused_at: float | None = None
        self._broker = broker
        self._write = write
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._lost = self._lost_bytes = 0

    @property
    def waiting(self) -> int:
        """Events in the queue."""
        return len(self._queue)

    def deliver(self, frames: list[bytes], together: bytes) -> None:
        """
        Pass events on, or keep them.

        @param together: all of them joined.
        """
        if self.paused_at is None:
            counters = self._broker.counters
            counters.delivered += len(frames)
            counters.delivered_bytes += len(together)
            self._write(together)
        else:
            self._keep(frames)

    def pause(self, now: float) -> None:
        """The stream takes no more for now."""
        if self.paused_at is None:
            self.paused_at = now

    def resume(self) -> None:
        """The stream takes more again: first what waits, until it has enough."""
        self.paused_at = None
        if self._lost and self.interest is not None:
            self._write(encode_event(DROPPED, Dropped(self._lost, self._lost_bytes).encode()))
            self._lost = self._lost_bytes = 0
        queue, counters = self._queue, self._broker.counters
        while queue and self.paused_at is None:
            frames, size = [], 0
            while queue and size < FLUSH:
                frame = queue.popleft()
                frames.append(frame)
                size += len(frame)
            self._queued -= size
            self._broker.queued -= size
            counters.delivered += len(frames)
            counters.delivered_bytes += size
            self._write(b"".join(frames))

    def clear(self) -> None:
        """Nobody waits for these any more."""
        self._queue.clear()
        self._broker.queued -= self._queued
        self._queued = 0

    def _keep(self, frames: list[bytes]) -> None:
        broker, queue = self._broker, self._queue
        limits = broker.limits
        for frame in frames:
            size = len(frame)
            queue.append(frame)
            self._queued += size
            broker.queued += size
            while (
                len(queue) > limits.queue_events
                or (self._queued > limits.queue_bytes and len(queue) > 1)
                or (broker.queued > limits.queued_bytes and queue)
            ):
                self._lose()

    def _lose(self) -> None:
        size = len(self._queue.popleft())
        self._queued -= size
        self._broker.queued -= size
        self._lost += 1
        self._lost_bytes += size
        self._broker.counters.dropped += 1
        self._broker.counters.dropped_bytes += size


class Broker:
    """
    The subscriptions of one node, and the way of an event to them.

    @ivar limits: what it may cost.
    @ivar counters: what it has done.
    @ivar queued: bytes that wait for slow subscribers.
    @ivar tap: told address and port of every publisher, and what it has published; None: nobody.
    """

    def __init__(
        self, limits: EventLimits | None = None, on_event: EventListener | None = None
    ) -> None:
        """
        @param on_event: told C{pubsub.subscribed}, C{pubsub.published} and C{pubsub.unsubscribed}
            with the members of the protocol notes, I{Hooks}.
        """
        self.limits = EventLimits() if limits is None else limits
        self.counters = EventCounters()
        self.queued = 0
        self.tap: Callable[[str, list[Event]], None] | None = None
        self._on_event = on_event
        # The dicts are used as sets that keep the order of subscription.
        self._exact: dict[bytes, dict[Subscription, None]] = {}
        self._wildcard: dict[Subscription, None] = {}
        self._routes: dict[bytes, tuple[Subscription, ...]] = {}

    def subscribe(
        self, event: Event, remote: str, write: Callable[[bytes], object]
    ) -> Subscription:
        """
        Subscribe a connection to the topic of its first event.

        @param remote: address and port of its other end.
        @param write: hands bytes to its stream.
        """
        topic = event.topic
        interest = decode_interest(event.payload) if topic == WILDCARD else None
        subscription = Subscription(self, topic, interest, remote, write)
        self._subscribers(topic)[subscription] = None
        self._routes.clear()
        self.counters.subscribed += 1
        self._tell("pubsub.subscribed", subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """The connection is over; what waits for it is lost."""
        topic = subscription.topic
        subscribers = self._subscribers(topic)
        subscribers.pop(subscription, None)
        if not subscribers:
            self._exact.pop(topic, None)
        self._routes.clear()
        subscription.clear()
        if topic:  # the reference says nothing of the empty one
            self._tell("pubsub.unsubscribed", subscription)

    def publish(self, publisher: Subscription, events: list[Event]) -> None:
        """
        Pass events on to everybody who wants them, but for the connection they came from.

        @param events: in order, as they arrived together.
        """
        counters = self.counters
        counters.published += len(events)
        position, count = 0, len(events)
        while position < count:
            topic = events[position].topic
            frames = [events[position].frame]
            position += 1
            while position < count and events[position].topic == topic:
                frames.append(events[position].frame)
                position += 1
            together = frames[0] if len(frames) == 1 else b"".join(frames)
            counters.published_bytes += len(together)
            for subscription in self.route(topic):
                if subscription is not publisher:
                    subscription.deliver(frames, together)
        if self._on_event is not None:
            for event in events:
                self._on_event(
                    "pubsub.published",
                    {
                        "topic": event_text(event.topic),
                        "size": event.size,
                        "from": publisher.remote,
                    },
                )
        if self.tap is not None:
            self.tap(publisher.remote, events)

    def announce(self, remote: str, event: Event) -> None:
        """
        Pass on an event of this node itself, which has no connection; no hook is told of it.

        @param remote: own address and port.
        """
        frames, frame = [event.frame], event.frame
        self.counters.published += 1
        self.counters.published_bytes += len(frame)
        for subscription in self.route(event.topic):
            subscription.deliver(frames, frame)
        if self.tap is not None:
            self.tap(remote, [event])

    def route(self, topic: bytes) -> tuple[Subscription, ...]:
        """@return: who gets events on C{topic}: exact subscribers first, each in order."""
        found = self._routes.get(topic)
        if found is None:
            if len(self._routes) >= CACHED_ROUTES:
                self._routes.clear()
            found = self._routes[topic] = (
                *self._exact.get(topic, ()),
                *(each for each in self._wildcard if _wants(each.interest, topic)),
            )
        return found

    def subscriptions(self) -> list[Subscription]:
        """@return: every subscription, those of one topic together."""
        exact = [each for subscribed in self._exact.values() for each in subscribed]
        return [*exact, *self._wildcard]

    def statistics(self) -> dict[str, int]:
        """@return: the counters, and C{subscriptions}, C{topics} and C{queued_bytes} as of now."""
        counted = {each.name: getattr(self.counters, each.name) for each in fields(EventCounters)}
        exact = sum(map(len, self._exact.values()))
        return {
            "subscriptions": exact + len(self._wildcard),
            "topics": len(self._exact) + bool(self._wildcard),
            "queued_bytes": self.queued,
            **counted,
        }

    def _subscribers(self, topic: bytes) -> dict[Subscription, None]:
        return self._wildcard if topic == WILDCARD else self._exact.setdefault(topic, {})

    def _tell(self, name: str, subscription: Subscription) -> None:
        if self._on_event is not None:
            topic = event_text(subscription.topic)
            self._on_event(name, {"topic": topic, "remote": subscription.remote})


def _wants(interest: Interest | None, topic: bytes) -> bool:
    return interest is None or interest.wants(topic)
