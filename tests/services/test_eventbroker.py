"""The broker's rules against a model of them, in any order of what can happen."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)

from pilot.services.eventbroker import CACHED_ROUTES, Broker, EventLimits
from pilot.wire.eventstream import Event, EventDecoder, encode_event

TOPICS = st.sampled_from([b"", b"a", b"b", b"a.x", b"a.*", b"*"])
LIMITS = EventLimits(queue_events=4, queue_bytes=60, queued_bytes=150)


def event(topic: bytes, payload: bytes = b"") -> Event:
    return Event(topic, encode_event(topic, payload))


class Reader:
    """A subscriber: what it should have been sent, and what it was."""

    def __init__(self, broker: Broker, topic: bytes) -> None:
        self.topic = topic
        self.got = b""
        self.owed: list[bytes] = []
        self.subscription: Any = broker.subscribe(event(topic), "", self.write)

    def write(self, data: bytes) -> None:
        self.got += data

    def wants(self, topic: bytes) -> bool:
        return self.topic in (topic, b"*")


class BrokerMachine(RuleBasedStateMachine):
    """
    Subscribers come, go, stop and go on; everybody publishes.

    Whatever happens, each subscriber gets a subsequence of what was published for it while it was
    subscribed, in order, at most once, nothing of its own, everything while it keeps up; and the
    queues stay within their bounds.
    """

    readers: Bundle[Reader] = Bundle("readers")

    @initialize()
    def start(self) -> None:
        self.broker = Broker(LIMITS)
        self.alive: list[Reader] = []
        self.number = 0

    @rule(target=readers, topic=TOPICS)
    def subscribe(self, topic: bytes) -> Reader:
        reader = Reader(self.broker, topic)
        self.alive.append(reader)
        return reader

    @rule(reader=consumes(readers))
    def unsubscribe(self, reader: Reader) -> None:
        self.broker.unsubscribe(reader.subscription)
        self.alive.remove(reader)

    @rule(reader=readers)
    def pause(self, reader: Reader) -> None:
        reader.subscription.pause(0.0)

    @rule(reader=readers)
    def resume(self, reader: Reader) -> None:
        reader.subscription.resume()
        assert reader.subscription.waiting == 0

    @rule(publisher=readers, topics=st.lists(TOPICS, min_size=1, max_size=8))
    def publish(self, publisher: Reader, topics: list[bytes]) -> None:
        events = []
        for topic in topics:
            self.number += 1
            events.append(event(topic, str(self.number).encode()))
            for reader in self.alive:
                if reader is not publisher and reader.wants(topic):
                    reader.owed.append(events[-1].frame)
        prompt = [each for each in self.alive if each.subscription.paused_at is None]
        before = {id(each): each.got for each in prompt}
        owed = {id(each): len(each.owed) for each in prompt}
        self.broker.publish(publisher.subscription, events)
        for each in prompt:
            fresh = each.got[len(before[id(each)]) :]
            count = len(EventDecoder().feed(fresh))
            assert fresh == b"".join(each.owed[owed[id(each)] - count :])
            wanted = [one for one in topics if each is not publisher and each.wants(one)]
            assert count == len(wanted)

    @invariant()
    def in_order_and_at_most_once(self) -> None:
        for reader in self.alive:
            owed = iter(reader.owed)
            assert all(got.frame in owed for got in EventDecoder().feed(reader.got))

    @invariant()
    def queues_are_bounded(self) -> None:
        queued = 0
        for reader in self.alive:
            assert reader.subscription.waiting <= LIMITS.queue_events
            queued += reader.subscription.waiting
        assert self.broker.queued <= LIMITS.queued_bytes
        assert (self.broker.queued == 0) == (queued == 0)

    @invariant()
    def every_event_is_accounted_for(self) -> None:
        figures = self.broker.statistics()
        assert figures["subscriptions"] == len(self.alive)
        wildcards = any(reader.topic == b"*" for reader in self.alive)
        topics = {reader.topic for reader in self.alive} - {b"*"}
        assert figures["topics"] == len(topics) + wildcards


TestBrokerMachine = BrokerMachine.TestCase
TestBrokerMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_recipients_come_in_the_order_of_the_protocol() -> None:
    """Exact subscribers in the order of their subscription, then those of everything."""
    broker = Broker()
    order: list[str] = []
    for name, topic in (("w1", b"*"), ("e1", b"t"), ("w2", b"*"), ("e2", b"t"), ("x", b"u")):
        broker.subscribe(event(topic), name, lambda _, name=name: order.append(name))
    publisher = broker.subscribe(event(b"p"), "p", order.append)
    broker.publish(publisher, [event(b"t", b"1")])
    assert order == ["e1", "e2", "w1", "w2"]


def test_publishers_cannot_fill_the_memory_with_topics() -> None:
    broker = Broker()
    publisher = broker.subscribe(event(b"p"), "p", bytes)
    for number in range(3 * CACHED_ROUTES):
        broker.publish(publisher, [event(str(number).encode())])
    assert len(broker._routes) <= CACHED_ROUTES
    assert broker.statistics()["topics"] == 1
