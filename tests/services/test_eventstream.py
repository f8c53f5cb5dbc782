"""The broker behind its connections: the recorded cases, bad input, slow subscribers, limits."""

from __future__ import annotations

from typing import Any

import pytest

from pilot.wire.eventfilter import DROPPED, Interest, encode_interest
from pilot.wire.eventstream import encode_event
from tests.golden import golden
from tests.services.eventstreams import FakeStream, TestBroker

CASES = {each["case"]: each for each in golden("services_transcripts")["event_stream"]}


def hooks(case: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """@return: the events of a recorded case, without the ports of its run."""
    return bare([(name, data) for name, data in case["webhook"]])


def bare(events: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    def without_port(value: Any) -> Any:
        return value.rpartition(":")[0] if isinstance(value, str) and ":0" in value else value

    return [
        (name, {key: without_port(value) for key, value in data.items()}) for name, data in events
    ]


def hexed(value: Any) -> bytes:
    """@return: the bytes of a recorded reply; "nothing came" is none."""
    if isinstance(value, dict):
        return bytes.fromhex(value["hex"])
    return b"" if value == "nothing came" else bytes.fromhex(value)


class Recorded:
    """The cast of the recording: s on "status", w on "*", p a publisher."""

    def __init__(self) -> None:
        self.broker = TestBroker()
        self.status = self.broker.connect().send(bytes.fromhex(CASES["subscribe"]["sent_hex"]))
        self.subscribed = bare(self.broker.told())
        wildcard = bytes.fromhex(CASES["subscribe_wildcard"]["sent_hex"])
        self.wildcard = self.broker.connect().send(wildcard)
        self.subscribed_wildcard = bare(self.broker.told())
        self.publisher = self.broker.connect("status")
        self.broker.told()

    def publish(self, sent_hex: str) -> tuple[bytes, bytes, bytes]:
        for each in (self.status, self.wildcard, self.publisher):
            each.taken = b""
        self.publisher.send(bytes.fromhex(sent_hex))
        return self.status.taken, self.wildcard.taken, self.publisher.taken


@pytest.fixture
def cast() -> Recorded:
    return Recorded()


def test_subscribing_is_answered_by_nothing(cast: Recorded) -> None:
    assert cast.subscribed == hooks(CASES["subscribe"])
    assert cast.subscribed_wildcard == hooks(CASES["subscribe_wildcard"])
    assert cast.status.taken == cast.wildcard.taken == b""


@pytest.mark.parametrize(
    ("name", "status", "wildcard"),
    [
        ("publish", "subscriber_got", "wildcard_got"),
        ("publish_other_topic", "status_sub", "wildcard_got"),
        ("publish_empty_payload_ie_second_subscribe", "status_sub", "wildcard"),
        ("publish_topic_star", "status_sub", "wildcard"),
    ],
)
def test_who_gets_what(cast: Recorded, name: str, status: str, wildcard: str) -> None:
    """Byte-identical to what came in, and never back to where it came from."""
    case = CASES[name]
    sent = case.get("sent_hex", "000673746174757300000000")
    assert cast.publish(sent) == (hexed(case[status]), hexed(case[wildcard]), b"")
    assert bare(cast.broker.told()) == hooks(case)


def test_a_second_subscribe_is_a_publication(cast: Recorded) -> None:
    case = CASES["second_subscription_same_connection"]
    second = cast.broker.connect("one")
    cast.broker.told()
    second.publish("two")
    assert cast.wildcard.taken == bytes.fromhex(case["wildcard_saw"])
    cast.publisher.publish("two", "x")
    assert second.taken == hexed(case["after_publish_two_the_connection_got"])
    assert bare(cast.broker.told()) == hooks(case)


def test_a_prefix_is_a_literal_topic(cast: Recorded) -> None:
    case = CASES["glob_topic"]
    literal = cast.broker.connect(case["subscribed"])
    cast.publisher.publish("presence.status", "1")
    assert literal.taken == hexed(case["on_publish_presence_status"])
    cast.publisher.publish("presence.*", "2")
    assert literal.taken == hexed(case["on_publish_literal_presence_star"])


def test_a_subscription_with_a_payload_publishes_nothing(cast: Recorded) -> None:
    case = CASES["subscribe_with_payload"]
    cast.broker.connect().send(bytes.fromhex(case["sent_hex"]))
    assert cast.wildcard.taken == hexed(case["wildcard"])
    assert bare(cast.broker.told()) == hooks(case)


def test_the_empty_topic(cast: Recorded) -> None:
    case = CASES["empty_topic"]
    empty = cast.broker.connect().send(bytes.fromhex(case["sent_hex"]))
    assert bare(cast.broker.told()) == hooks({"webhook": case["webhook_on_subscribe"]})
    cast.publisher.publish("", "to-empty")
    assert empty.taken == hexed(case["empty_sub_got"])
    assert cast.wildcard.taken == hexed(case["wildcard_got"])
    assert bare(cast.broker.told()) == hooks({"webhook": case["webhook_on_publish"]})
    empty.hang_up()
    assert cast.broker.told() == case["webhook_on_close"]


def test_topics_of_any_bytes(cast: Recorded) -> None:
    case = CASES["non_utf8_topic"]
    odd = cast.broker.connect().send(encode_event(b"\xff\xfe"))
    cast.publisher.send(bytes.fromhex(case["got"]))
    assert odd.taken == bytes.fromhex(case["got"])
    assert bare(cast.broker.told()) == hooks(case)
    longest = cast.broker.connect("t" * 1024)
    cast.publisher.publish("t" * 1024, "long")
    assert len(longest.taken) == CASES["topic_1024"]["got"]


def test_byte_by_byte(cast: Recorded) -> None:
    stream = encode_event(b"bytes")
    slow = cast.broker.connect().send(*(stream[i : i + 1] for i in range(len(stream))))
    got = bytes.fromhex(CASES["byte_by_byte_subscribe"]["got"])
    cast.publisher.send(*(got[i : i + 1] for i in range(len(got))))
    assert slow.taken == got


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("topic_1025_length_only", b"\4\1"),
        ("subscribe_payload_16777217", b"\0\1t\1\0\0\1"),
        ("bad_publish_after_subscribe", b"\0\3bad\0\0\0\0" + b"\4\1"),
    ],
)
def test_impossible_lengths_end_the_connection(cast: Recorded, name: str, sent: bytes) -> None:
    """At once, without an answer; what came before counts, what comes after does not."""
    bad = cast.broker.connect().send(sent)
    assert (bad.taken, bad.ending) == (b"", "closed")
    told = [each for each in bare(cast.broker.told()) if each[0] != "pubsub.subscribed"]
    assert told == hooks(CASES[name])
    bad.publish("status", "late")
    bad.hang_up()
    assert cast.status.taken == b""
    assert cast.broker.told() == []
    assert cast.broker.figures["malformed"] == 1


def test_what_comes_before_a_fault_is_published(cast: Recorded) -> None:
    bad = cast.broker.connect().send(
        encode_event(b"x") + encode_event(b"status", b"1") + b"\xff\xff"
    )
    assert bad.ending == "closed"
    assert cast.status.got() == [("status", "1")]


def test_publish_then_close(cast: Recorded) -> None:
    """As the command line does it, in one go."""
    case = CASES["publish_then_close"]
    brief = cast.broker.connect()
    brief.send(encode_event(b"status") + encode_event(b"status", b"bye"))
    brief.hang_up()
    assert cast.status.taken == bytes.fromhex(case["sub_got"])
    assert bare(cast.broker.told()) == hooks(case)


def test_the_end_of_a_subscriber(cast: Recorded) -> None:
    case = CASES["subscriber_close"]
    other = cast.broker.connect("status")
    cast.broker.told()
    cast.status.hang_up()
    assert bare(cast.broker.told()) == hooks({"webhook": case["webhook_on_close"]})
    cast.publisher.publish("status", "after")
    assert cast.status.taken == b""
    assert other.taken == bytes.fromhex(case["other_sub_got"])


def test_order_and_history(cast: Recorded) -> None:
    for number in range(CASES["order_200"]["received"]):
        cast.publisher.publish("status", str(number))
    late = cast.broker.connect("status")
    assert cast.status.got() == [("status", str(number)) for number in range(200)]
    assert late.taken == hexed(CASES["late_subscriber"]["got"])


def test_several_subscriptions_of_one_node() -> None:
    """Each connection is one subscription; a node with three gets what each of them asks for."""
    broker = TestBroker()
    mine = [broker.connect(topic) for topic in ("a", "b", "a", "*")]
    publisher = broker.connect("elsewhere")
    publisher.publish("a", "1").publish("b", "2")
    assert [each.got() for each in mine] == [
        [("a", "1")],
        [("b", "2")],
        [("a", "1")],
        [("a", "1"), ("b", "2")],
    ]
    assert broker.figures["delivered"] == 5


def test_events_of_one_topic_that_came_together_leave_in_one_write() -> None:
    """However many there are, a subscriber costs one write, of bytes that all of them share."""
    broker = TestBroker()
    writes: list[bytes] = []
    for _ in range(3):
        subscriber = broker.connect()
        subscriber.write = writes.append  # type: ignore[method-assign,assignment]
        subscriber.publish("t")
    events = [encode_event(b"t", str(number).encode()) for number in range(100)]
    broker.connect("t").send(b"".join(events))
    assert writes == [b"".join(events)] * 3
    assert writes[0] is writes[1] is writes[2]
    del writes[:]
    large = encode_event(b"t", bytes(100_000))
    broker.connect("t").send(large)
    assert all(each is large for each in writes)
    assert len(writes) == 3


# -- slow subscribers --------------------------------------------------------------------------


def stalled(broker: TestBroker, topic: str = "t") -> FakeStream:
    """@return: a subscriber that takes one event and then nothing."""
    subscriber = broker.connect(topic)
    subscriber.room = 1
    return subscriber


def test_a_slow_subscriber_loses_the_oldest_and_holds_up_nobody() -> None:
    broker = TestBroker(queue_events=3)
    slow, fast, publisher = stalled(broker), broker.connect("t"), broker.connect("x")
    for number in range(8):
        publisher.publish("t", str(number))
    numbers = [("t", str(number)) for number in range(8)]
    assert fast.got() == numbers
    assert slow.got() == numbers[:1]
    assert broker.figures["dropped"] == 4
    assert broker.figures["dropped_bytes"] == 4 * len(encode_event(b"t", b"0"))
    slow.make_room(None)
    assert slow.got() == numbers[5:]
    assert broker.figures["queued_bytes"] == 0
    assert broker.figures["delivered"] == 8 + 1 + 3
    publisher.publish("t", "on time again")
    assert slow.got() == [("t", "on time again")]


def test_a_queue_is_bounded_in_bytes() -> None:
    """But one event is kept however large it is."""
    broker = TestBroker(queue_bytes=100)
    slow, publisher = stalled(broker), broker.connect("x")
    for number in range(5):
        publisher.publish("t", f"{number}" * 40)
    assert broker.figures["queued_bytes"] == 2 * 47
    publisher.publish("t", "L" * 1000)
    assert broker.figures["queued_bytes"] == 1007
    slow.taken = b""
    slow.make_room(None)
    assert slow.got() == [("t", "L" * 1000)]


def test_all_queues_together_are_bounded() -> None:
    """A subscriber for which there is no room loses its own events, not those of others."""
    broker = TestBroker(queued_bytes=200)
    first = stalled(broker)
    publisher = broker.connect("x")
    for number in range(3):
        publisher.publish("t", f"{number}" * 43)
    second = stalled(broker)
    for number in range(3, 6):
        publisher.publish("t", f"{number}" * 43)
    assert broker.figures["queued_bytes"] <= 200
    for slow in (first, second):
        slow.taken = b""
        slow.make_room(None)
    assert [payload[0] for _, payload in first.got()] == ["2", "3", "4", "5"]
    assert second.got() == []
    assert broker.figures["queued_bytes"] == 0


def test_the_queue_empties_at_the_pace_of_the_stream() -> None:
    broker = TestBroker()
    slow, publisher = stalled(broker), broker.connect("x")
    for number in range(100):
        publisher.publish("t", f"{number:05}" * 400)
    received = slow.got()
    while len(received) < 100:
        waiting = broker.figures["queued_bytes"]
        slow.make_room(1)
        received += slow.got()
        assert broker.figures["queued_bytes"] < waiting
    assert received == [("t", f"{number:05}" * 400) for number in range(100)]


def test_a_subscriber_that_takes_nothing_is_cut_off() -> None:
    broker = TestBroker(patience=30.0)
    slow, fast, publisher = stalled(broker), broker.connect("t"), broker.connect("x")
    publisher.publish("t", "1").publish("t", "2")
    broker.pass_time(29)
    assert not slow.ending
    broker.told()
    broker.pass_time(7)
    assert slow.ending == "reset"
    assert broker.figures["slow_cut"] == 1
    assert broker.figures["queued_bytes"] == 0
    assert [name for name, _ in broker.told()] == ["pubsub.unsubscribed"]
    publisher.publish("t", "3")
    assert fast.got() == [("t", "1"), ("t", "2"), ("t", "3")]
    assert not broker.clock.getDelayedCalls()


def test_a_subscriber_that_takes_a_little_now_and_then_stays() -> None:
    broker = TestBroker(patience=30.0, queue_events=2)
    slow, publisher = stalled(broker), broker.connect("x")
    for number in range(10):
        for _ in range(4):
            publisher.publish("t", str(number))
        broker.pass_time(20)
        slow.make_room(1)
    assert not slow.ending
    assert broker.figures["dropped"] > 0


def test_a_publisher_may_itself_be_slow() -> None:
    """It gets no events of its own, but those of others wait for it like for anybody."""
    broker = TestBroker()
    one, other = stalled(broker), broker.connect("t")
    other.publish("t", "1").publish("t", "2")
    one.publish("t", "mine")
    assert one.got() == [("t", "1")]
    one.make_room(None)
    assert one.got() == [("t", "2")]
    assert other.got() == [("t", "mine")]


def test_a_flood_costs_a_bounded_queue() -> None:
    broker = TestBroker()
    stalled(broker)
    publisher = broker.connect("x")
    burst = encode_event(b"t", b"x") * 10_000
    for _ in range(10):
        publisher.send(burst)
    assert broker.figures["published"] == 100_000
    assert broker.figures["queued_bytes"] == 4096 * len(encode_event(b"t", b"x"))


# -- half-sent events --------------------------------------------------------------------------


def test_a_half_sent_event_ends_its_connection_after_a_minute_of_silence() -> None:
    broker = TestBroker(unfinished_time=60.0)
    half = broker.connect().send(b"\0\6sta")
    for piece in (b"t", b"u", b"s"):
        broker.pass_time(50)
        half.send(piece)
    assert not half.ending
    broker.pass_time(71)
    assert half.ending == "closed"
    assert broker.figures["unfinished_cut"] == 1
    assert broker.figures["unfinished_bytes"] == 0
    assert not broker.clock.getDelayedCalls()


def test_a_whole_event_leaves_no_timer_behind() -> None:
    """An idle subscription costs nothing at all."""
    broker = TestBroker()
    broker.connect("t").send(b"\0\1").send(b"t\0\0\0\0")
    broker.pass_time(6)
    assert not broker.clock.getDelayedCalls()
    broker.pass_time(10_000)
    assert broker.figures["subscriptions"] == 1


def test_half_sent_events_are_bounded_together() -> None:
    """The connection that would pass the limit is closed; the others go on."""
    broker = TestBroker(unfinished_bytes=1000)
    head = b"\0\1t\0\0\3\xe8"
    first = broker.connect("t").send(head + bytes(500))
    second = broker.connect("t").send(head + bytes(600))
    assert (first.ending, second.ending) == ("", "closed")
    assert broker.figures["unfinished_bytes"] == 507
    first.send(bytes(500))
    assert broker.figures["unfinished_bytes"] == 0
    assert broker.figures["published"] == 1


# -- prefix subscriptions ----------------------------------------------------------------------


def filtered(broker: TestBroker, *patterns: str) -> FakeStream:
    declaration = encode_interest(Interest([pattern.encode() for pattern in patterns]))
    return broker.connect().send(encode_event(b"*", declaration))


def test_a_declared_prefix_is_filtered_here() -> None:
    broker = TestBroker()
    agents, all_of_it = filtered(broker, "presence.*", "exact"), broker.connect("*")
    publisher = broker.connect("x")
    for topic in ("presence.status", "presence.", "other", "exact", "presence.*", "*"):
        publisher.publish(topic, "1")
    assert [topic for topic, _ in agents.got()] == ["presence.status", "exact", "presence.*"]
    assert len(all_of_it.got()) == 6


def test_a_declaration_counts_only_on_the_wildcard() -> None:
    """The topic is what every other broker would go by."""
    broker = TestBroker()
    declaration = encode_interest(Interest([b"presence.*"]))
    exact = broker.connect().send(encode_event(b"status", declaration))
    broker.connect("x").publish("status", "1").publish("presence.status", "2")
    assert exact.got() == [("status", "1")]


def test_who_declared_a_prefix_is_told_what_was_dropped() -> None:
    """Where it happened, in front of what was kept; others would take the notice for an event."""
    broker = TestBroker(queue_events=2)
    knows, plain = filtered(broker, "t.*"), stalled(broker, "*")
    knows.room = 1
    publisher = broker.connect("x")
    for number in range(6):
        publisher.publish("t.x", str(number))
    for slow in (knows, plain):
        slow.taken = b""
        slow.make_room(None)
    notice = (DROPPED.decode(), '{"bytes":30,"events":3,"v":1}')
    assert knows.got() == [notice, ("t.x", "4"), ("t.x", "5")]
    assert plain.got() == [("t.x", "4"), ("t.x", "5")]
    publisher.publish("t.x", "6")
    assert knows.got() == [("t.x", "6")]


def test_figures() -> None:
    broker = TestBroker()
    broker.connect("a")
    broker.connect("*")
    broker.connect("b").publish("a", "1")
    size = len(encode_event(b"a", b"1"))
    figures = broker.figures
    assert (figures["subscriptions"], figures["topics"], figures["subscribed"]) == (3, 3, 3)
    assert (figures["published"], figures["published_bytes"]) == (1, size)
    assert (figures["delivered"], figures["delivered_bytes"]) == (2, 2 * size)
