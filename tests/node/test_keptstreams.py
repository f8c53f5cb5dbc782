"""Kept streams: what they may cost, and how peers that fail are left alone."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from pilot.address import Address
from pilot.errors import (
    ConnectionFailed,
    ConnectionReset,
    DialTimeout,
    PilotError,
    TimedOut,
)
from pilot.node.keptstreams import KeptLimits, KeptStream, KeptStreams, Line
from pilot.node.turnstile import Turnstile

LIMITS = KeptLimits(
    letters=3,
    bytes=100,
    total_letters=8,
    total_bytes=1000,
    streams=2,
    unanswered=2,
    idle=60,
    patience=30,
)


class Answered(KeptStream):
    answered = True


class Transport(StringTransport):
    """Tells its protocol when it is told to end."""

    def loseConnection(self) -> None:
        super().loseConnection()
        self.protocol.connectionLost(Failure(ConnectionDone()))

    def abortConnection(self) -> None:
        self.loseConnection()

    protocol: Any = None


class Office:
    """Kept streams whose dials a test answers."""

    def __init__(self, kind: type[KeptStream] = Answered, limits: KeptLimits = LIMITS) -> None:
        self.clock = Clock()
        self.dials: list[tuple[Address, Any, Deferred[Any]]] = []
        self.streams = KeptStreams(
            self.clock,
            self._dial,
            1001,
            kind,
            Turnstile(self.clock, at_once=4, rate=8),
            random.Random(5),
            limits,
        )
        self.results: dict[str, Any] = {}

    def _dial(self, peer: Address, port: int, factory: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.dials.append((peer, factory, done))
        return done

    def send(self, node: int, text: str) -> str:
        def failed(reason: Failure) -> None:
            self.results[text] = reason.value

        sent = self.streams.send(Address(0, node), text.encode())
        sent.addCallback(lambda _: self.results.setdefault(text, "sent"))
        sent.addErrback(failed)
        return text

    def open(self, number: int = -1) -> tuple[Any, Transport]:
        """Answer a dial.  @return: the stream, and its transport."""
        _, factory, done = self.dials.pop(number)
        stream = factory.buildProtocol(None)
        transport = Transport()
        transport.protocol = stream
        stream.makeConnection(transport)
        done.callback(stream)
        return stream, transport

    def refuse(self, text: str = "connection refused") -> None:
        self.dials.pop()[2].errback(ConnectionFailed(text))


def test_one_dial_serves_all_that_waits() -> None:
    """And no more goes out ahead of its answers than is allowed."""
    office = Office()
    for text in ("a", "b", "c"):
        office.send(2, text)
    assert len(office.dials) == 1
    stream, transport = office.open()
    assert transport.value() == b"ab"
    stream.line.answer(stream, None)
    assert transport.value() == b"abc"
    assert office.results == {"a": "sent"}
    stream.line.answer(stream, PilotError("no"))
    stream.line.answer(stream, None)
    assert str(office.results.pop("b")) == "no"
    assert office.results == {"a": "sent", "c": "sent"}
    assert office.streams.statistics() == {
        "streams": 1,
        "waiting": 0,
        "resting": 0,
        "sent": 2,
        "refused": 1,
        "failed": 0,
        "turned_away": 0,
        "overflowed": 0,
    }


def test_queues_are_bounded() -> None:
    """In letters and bytes, for one peer and for all; a large letter alone is taken."""
    office = Office(limits=replace(LIMITS, streams=9))
    large = office.send(2, "x" * 500)
    over = office.send(2, "small")
    for peer in (3, 4):
        for number in range(3):
            office.send(peer, f"{peer}.{number}")
    assert "too much waits" in str(office.results[over])
    office.send(3, "fourth")
    assert "too much waits" in str(office.results["fourth"])
    office.send(5, "ninth")
    office.send(5, "tenth")
    assert "too much waits" in str(office.results["tenth"])
    assert large not in office.results
    assert office.streams.statistics()["overflowed"] == 3


def test_failures_are_followed_by_rest() -> None:
    """Longer each time, never longer than a minute, forgotten after a success."""
    office = Office()
    rests = []
    for attempt in range(9):
        office.send(2, f"try {attempt}")
        office.clock.advance(1)
        office.refuse()
        assert str(office.results[f"try {attempt}"]) == "connection refused"
        start = office.clock.seconds()
        while True:
            office.send(2, f"probe {attempt}")
            if office.dials:
                break
            assert "moment ago" in str(office.results.pop(f"probe {attempt}"))
            office.clock.advance(0.25)
        rests.append(office.clock.seconds() - start)
        if attempt < 8:
            office.clock.advance(1)
            office.refuse()
            start = office.clock.seconds()
            office.clock.advance(60)
    assert rests[0] <= 1
    assert all(rest <= 60.25 for rest in rests)
    assert rests[-1] >= 30
    stream, _ = office.open()
    stream.line.answer(stream, None)
    assert office.streams.statistics()["resting"] == 0


def test_dead_peers_are_not_in_the_way_for_long() -> None:
    """Four dials at once, fifteen seconds each at most."""
    office = Office(limits=replace(LIMITS, streams=9))
    for node in range(2, 7):
        office.send(node, f"to {node}")
    office.clock.advance(1)
    assert len(office.dials) == 4
    office.clock.advance(14.5)
    assert isinstance(office.results["to 2"], DialTimeout)
    assert len(office.results) == 4
    stream, _ = office.open()
    stream.line.answer(stream, None)
    assert office.results["to 6"] == "sent"


def test_a_lost_stream_takes_what_was_not_answered_with_it() -> None:
    """What was never sent goes over a new one, if the old one had been good for anything."""
    office = Office()
    for text in ("a", "b", "c"):
        office.send(2, text)
    stream, _ = office.open()
    stream.line.answer(stream, None)
    office.send(2, "d")
    stream.connectionLost(Failure(ConnectionDone()))
    assert isinstance(office.results["b"], ConnectionReset)
    assert isinstance(office.results["c"], ConnectionReset)
    assert "d" not in office.results
    _, transport = office.open()
    assert transport.value() == b"d"


def test_a_peer_that_accepts_and_hangs_up_is_a_failure() -> None:
    """Or it would be dialled for ever."""
    office = Office()
    for text in ("a", "b", "c"):
        office.send(2, text)
    stream, _ = office.open()
    stream.connectionLost(Failure(ConnectionDone()))
    assert len(office.results) == 3
    assert not office.dials
    office.send(2, "d")
    assert "moment ago" in str(office.results["d"])


def test_silence_ends_the_stream() -> None:
    """Half a minute without an answer: nobody knows what came, so all of it failed."""
    office = Office()
    office.send(2, "a")
    _, transport = office.open()
    office.clock.advance(29)
    assert not office.results
    office.clock.advance(2)
    assert isinstance(office.results["a"], TimedOut)
    assert transport.disconnecting
    assert not office.clock.getDelayedCalls()


def test_idle_streams_make_room() -> None:
    """The longest idle first; while all are in use, a further peer has to wait."""
    office = Office()
    pairs = []
    for node in (2, 3):
        office.send(node, f"to {node}")
        pairs.append(office.open())
    office.clock.advance(1)
    office.send(4, "too many")
    assert "in use" in str(office.results["too many"])
    assert office.streams.statistics()["resting"] == 0
    for stream, _ in pairs:
        stream.line.answer(stream, None)
    office.send(5, "now")
    assert pairs[0][1].disconnecting
    assert not pairs[1][1].disconnecting
    stream, _ = office.open()
    stream.line.answer(stream, None)
    office.clock.advance(61)
    assert pairs[1][1].disconnecting
    assert office.streams.statistics()["streams"] == 0
    assert not office.clock.getDelayedCalls()


def test_a_full_stream_is_waited_for() -> None:
    office = Office(KeptStream)
    office.send(2, "a")
    stream, transport = office.open()
    stream.pauseProducing()
    office.send(2, "b")
    assert transport.value() == b"a"
    stream.resumeProducing()
    assert transport.value() == b"ab"
    assert office.results == {"a": "sent", "b": "sent"}


def test_the_end_fails_what_has_not_arrived() -> None:
    """Waiting for a dial, for an answer, or new: all the same."""
    office = Office()
    office.send(2, "a")
    _, transport = office.open()
    office.send(3, "b")
    office.streams.close()
    office.send(4, "c")
    assert all(isinstance(error, ConnectionFailed) for error in office.results.values())
    assert len(office.results) == 3
    assert transport.disconnecting
    assert not office.clock.getDelayedCalls()


def test_answers_nobody_waits_for_end_the_stream() -> None:
    office = Office()
    office.send(2, "a")
    stream, transport = office.open()
    stream.line.answer(stream, None)
    stream.line.answer(stream, None)
    assert transport.disconnecting
    assert isinstance(stream.line, Line)
