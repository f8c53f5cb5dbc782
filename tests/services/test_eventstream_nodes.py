"""Publishing and subscribing between whole nodes, in simulated time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.protocol import Factory

from pilot.address import PORT_EVENT_STREAM
from pilot.errors import ConnectionRefused
from pilot.services.eventbroker import EventLimits
from pilot.services.eventstream import EventStreamFactory
from pilot.wire.eventstream import EventDecoder, encode_event
from tests.simulation.network import Faults
from tests.simulation.nodes import Recorder, World


class Client(Recorder):
    """A subscriber or publisher."""

    def send(self, topic: str, payload: str = "") -> Client:
        assert self.transport is not None
        self.transport.write(encode_event(topic.encode(), payload.encode()))
        return self

    @property
    def events(self) -> list[tuple[str, str]]:
        return [(e.topic.decode(), e.payload.decode()) for e in EventDecoder().feed(self.data)]


class Town:
    """A broker at bob, and others who know him."""

    def __init__(self, directory: Path, faults: Faults | None = None, **limits: Any) -> None:
        self.world = World(directory, seed=5, faults=faults)
        self.bob = self.world.start("bob")
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.factory = EventStreamFactory(
            self.world.internet,
            on_event=lambda name, data: self.events.append((name, data)),
            limits=EventLimits(**limits),
        )
        self.world.wait(self.bob.listen(PORT_EVENT_STREAM, self.factory))

    def friend(self, name: str) -> Any:
        node = self.world.start(name)
        self.world.introduce(node, self.bob)
        return node

    def connect(self, node: Any, topic: str | None = None) -> Client:
        factory = Factory.forProtocol(Client)
        client: Client = self.world.wait(node.dial("bob", PORT_EVENT_STREAM, factory))
        if topic is not None:
            subscribed = self.factory.broker.counters.subscribed
            client.send(topic)
            self.until(lambda: self.factory.broker.counters.subscribed > subscribed)
        return client

    def until(self, condition: Any, patience: float = 60.0) -> None:
        self.world.internet.until(condition, patience)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    town = Town(tmp_path)
    yield town
    town.world.close()


def test_from_one_node_to_another_and_to_itself(town: Town) -> None:
    alice = town.friend("alice")
    there, here = town.connect(alice, "status"), town.connect(town.bob, "*")
    town.connect(alice, "status").send("status", "online")
    town.connect(town.bob, "x").send("metrics", "1")
    town.until(lambda: len(here.events) == 2)
    assert there.events == [("status", "online")]
    assert sorted(here.events) == [("metrics", "1"), ("status", "online")]
    subscribed = [data for name, data in town.events if name == "pubsub.subscribed"]
    assert subscribed[0]["topic"] == "status"
    assert subscribed[0]["remote"] == str(there.transport.getHost())  # type: ignore[union-attr]


def test_a_switched_off_service_refuses(town: Town) -> None:
    alice = town.friend("alice")
    factory = Factory.forProtocol(Client)
    with pytest.raises(ConnectionRefused):
        town.world.wait(town.bob.dial(alice.own_address().node, PORT_EVENT_STREAM, factory))


def test_a_publisher_may_write_and_leave(town: Town) -> None:
    """Everything is on its way when it closes; all of it arrives."""
    alice = town.friend("alice")
    subscriber = town.connect(town.bob, "t")
    for number in range(20):
        brief = town.connect(alice)
        brief.send("t").send("t", str(number))
        brief.transport.loseConnection()  # type: ignore[union-attr]
        town.until(lambda: len(subscriber.events) > number)  # noqa: B023
    assert subscriber.events == [("t", str(number)) for number in range(20)]


def test_several_publishers_at_full_speed_over_a_bad_link(tmp_path: Path) -> None:
    """Every event arrives whole and once, those of each publisher in order."""
    town = Town(tmp_path, Faults(loss=0.02, duplicate=0.02, reorder=0.05))
    alice, carol = town.friend("alice"), town.friend("carol")
    subscriber = town.connect(carol, "t")
    publishers = [town.connect(node, "t") for node in (alice, alice, carol, town.bob)]
    for number in range(300):
        for which, publisher in enumerate(publishers):
            publisher.send("t", f"{which}:{number}")
    town.until(lambda: subscriber.data.count(b":") == 1200)
    for which in range(4):
        mine = [payload for _, payload in subscriber.events if payload[0] == str(which)]
        assert mine == [f"{which}:{number}" for number in range(300)]
    town.world.close()


def test_a_subscriber_that_stops_reading_holds_up_nobody(tmp_path: Path) -> None:
    """It loses events, then its connection; everybody else gets everything, and new ones come."""
    town = Town(tmp_path, patience=20.0)
    alice = town.friend("alice")
    slow, fast = town.connect(alice, "t"), town.connect(alice, "t")
    slow.transport.pauseProducing()  # type: ignore[union-attr]
    publisher = town.connect(town.bob, "t")
    payload = "x" * 4000
    count = 4000
    for number in range(count):
        publisher.send("t", f"{number:06}{payload}")
        if number % 50 == 49:
            sent = number + 1
            town.until(lambda: len(fast.data) == sent * (4006 + 7))  # noqa: B023
    assert [payload[:6] for _, payload in fast.events] == [f"{n:06}" for n in range(count)]
    assert town.factory.statistics()["dropped"] > 0
    other = town.connect(alice, "other")
    publisher.send("other", "1")
    town.until(lambda: other.events == [("other", "1")], patience=2.0)
    town.until(lambda: town.factory.statistics()["slow_cut"] == 1)
    assert town.factory.statistics()["queued_bytes"] == 0
    publisher.send("t", "after")
    town.until(lambda: fast.events[-1] == ("t", "after"))
    town.world.close()


def test_a_subscription_survives_hours_of_silence(town: Town) -> None:
    alice = town.friend("alice")
    subscriber, publisher = town.connect(alice, "t"), town.connect(alice, "x")
    town.world.internet.run(4 * 3600.0)
    publisher.send("t", "still there?")
    town.until(lambda: subscriber.events == [("t", "still there?")])


def test_half_a_header_is_closed_after_a_while(town: Town) -> None:
    alice = town.friend("alice")
    client = town.connect(alice)
    client.transport.write(b"\0\6sta")  # type: ignore[union-attr]
    town.until(lambda: client.ended is not None, patience=90.0)
    assert town.factory.statistics()["unfinished_cut"] == 1
