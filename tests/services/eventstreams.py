"""Connections to a broker in memory: what a test writes goes in, what comes out is kept."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from pilot.address import Address
from pilot.node.streamaddress import PilotStreamAddress
from pilot.services.eventbroker import EventLimits
from pilot.services.eventstream import EventStreamFactory
from pilot.wire.eventstream import EventDecoder, encode_event


class FakeStream:
    """
    The transport of one connection, which takes C{room} bytes and then pauses its producer.

    @ivar taken: what the broker wrote.
    @ivar ending: C{""}, C{"closed"} or C{"reset"}.
    """

    def __init__(self, broker: TestBroker, port: int) -> None:
        self.remote = PilotStreamAddress(Address(0, 1), port)
        self.taken = b""
        self.ending = ""
        self.room: int | None = None
        self._producer: Any = None
        self._paused = False
        self.protocol = broker.factory.buildProtocol(self.remote)
        self.protocol.makeConnection(self)

    # What the protocol calls.

    def getPeer(self) -> PilotStreamAddress:
        return self.remote

    def write(self, data: bytes) -> None:
        assert not self.ending
        self.taken += data
        if self.room is not None:
            self.room -= len(data)
            if self.room <= 0 and not self._paused:
                self._paused = True
                self._producer.pauseProducing()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None

    def loseConnection(self) -> None:
        assert self._producer is None, "the stream would wait for it"
        self.ending = "closed"

    def abortConnection(self) -> None:
        self.ending = "reset"
        self.protocol.connectionLost(Failure(ConnectionAborted()))

    # What a test calls.

    def send(self, *pieces: bytes) -> FakeStream:
        for piece in pieces:
            self.protocol.dataReceived(piece)
        return self

    def publish(self, topic: str, payload: str = "") -> FakeStream:
        return self.send(encode_event(topic.encode(), payload.encode()))

    def make_room(self, room: int | None) -> None:
        self.room = room
        if self._paused:
            self._paused = False
            self._producer.resumeProducing()

    def hang_up(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionDone()))

    def got(self) -> list[tuple[str, str]]:
        """@return: topics and payloads of the events that came since the last call."""
        events = EventDecoder().feed(self.taken)
        self.taken = b""
        return [(each.topic.decode(), each.payload.decode()) for each in events]


class TestBroker:
    """
    A broker with its factory.

    @ivar events: what it told the node.
    """

    __test__ = False

    def __init__(self, **limits: Any) -> None:
        self.clock = Clock()
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.factory = EventStreamFactory(
            self.clock,
            on_event=lambda name, data: self.events.append((name, data)),
            limits=EventLimits(**limits),
        )
        self._ports = iter(range(49152, 65536))

    def connect(self, subscribe: str | None = None) -> FakeStream:
        """@return: one more connection, subscribed if a topic is given."""
        stream = FakeStream(self, next(self._ports))
        if subscribe is not None:
            stream.publish(subscribe)
        return stream

    def told(self) -> list[tuple[str, dict[str, Any]]]:
        """@return: the events since the last call."""
        told, self.events[:] = list(self.events), []
        return told

    def pass_time(self, seconds: float) -> None:
        """Let time pass, a second a step."""
        self.clock.pump([1.0] * int(seconds))

    @property
    def figures(self) -> dict[str, int]:
        return self.factory.statistics()
