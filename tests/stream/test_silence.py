"""Streams on which nothing happens: they live as long as both ends do."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from pilot.stream.config import StreamConfig
from pilot.stream.connection import Connection
from pilot.stream.events import CloseCause, Closed
from pilot.stream.segment import Segment
from pilot.wire.packet import FLAG_ACK, FLAG_SYN

MASK = 0xFFFFFFFF
HOUR = 3600.0


class ReferenceEnd:
    """
    The silent end of a stream as the reference plays it: it acknowledges data, old or new, and
    answers nothing else; and it ends a stream on which it has heard nothing for two minutes.
    """

    def __init__(self, connection: Connection, deaf: Callable[[float], bool]) -> None:
        self._connection = connection
        self._deaf = deaf
        self._expected = 0
        self._heard = 0.0
        self.longest_silence = 0.0

    def take(self, segments: list[Segment], now: float) -> None:
        for flags, sequence, _, _, payload in segments:
            if self._deaf(now):
                continue
            self.longest_silence = max(self.longest_silence, now - self._heard)
            self._heard = now
            if flags & FLAG_SYN:
                self._expected = (sequence + 1) & MASK
                self._answer(FLAG_SYN | FLAG_ACK, 1000, now)
            elif payload:
                if sequence == self._expected:
                    self._expected = (sequence + len(payload)) & MASK
                self._answer(FLAG_ACK, 1001, now)

    def _answer(self, flags: int, sequence: int, now: float) -> None:
        self._connection.segment_received(flags, sequence, self._expected, 512, b"", now)


def live(until: float, deaf: Callable[[float], bool], written: bytes) -> tuple[Connection, float]:
    """@return: a connection after that long, or at its end; and the reference's longest silence."""
    connection = Connection.dial(StreamConfig(), 0.0, random.Random(1))
    peer = ReferenceEnd(connection, deaf)
    now, turns = 0.0, 0
    peer.take(connection.transmit(now), now)
    connection.write(written)
    while now < until and connection.state != "CLOSED":
        peer.take(connection.transmit(now), now)
        deadline = connection.deadline()
        if deadline is None:
            break
        now = max(now, deadline)
        connection.wake(now)
        turns += 1
    assert turns < 400 * until / HOUR
    return connection, peer.longest_silence


@pytest.mark.parametrize("written", [b"", b"\0\6status\0\0\0\0"], ids=["nothing", "something"])
def test_a_silent_stream_to_a_reference_node_lives_for_hours(written: bytes) -> None:
    """A bare acknowledgement is answered by no reference node, so it alone would not do."""
    connection, silence = live(8 * HOUR, lambda now: False, written)
    assert connection.state == "ESTABLISHED"
    assert not connection.received
    assert silence < 120


def test_it_survives_the_loss_of_keepalives() -> None:
    """One in ten is lost; the next one comes soon enough."""
    rng = random.Random(7)
    connection, _ = live(4 * HOUR, lambda now: now > 1 and rng.random() < 0.1, b"x")
    assert connection.state == "ESTABLISHED"


def test_a_peer_that_is_gone_is_noticed_after_two_minutes() -> None:
    connection, _ = live(HOUR, lambda now: now > 1, b"")
    assert connection.state == "CLOSED"
    (closed,) = [each for each in connection.take_events() if isinstance(each, Closed)]
    assert closed.cause is CloseCause.IDLE


def test_the_question_is_no_data_to_its_receiver() -> None:
    """Between two nodes of ours that talk classic, nothing of it reaches the program."""
    rng = random.Random(3)
    config = StreamConfig(offer_modern=False)
    one = Connection.dial(config, 0.0, rng)
    (syn,) = one.transmit(0.0)
    other = Connection.accept(config, 0.0, rng, syn)
    now = 0.0
    one.write(b"hello")
    while now < HOUR:
        for source, sink in ((one, other), (other, one)):
            for segment in source.transmit(now):
                sink.segment_received(*segment, now)
        dues = [each.deadline() for each in (one, other)]
        now = max(now, min(due for due in dues if due is not None))
        one.wake(now)
        other.wake(now)
    assert (one.state, other.state) == ("ESTABLISHED", "ESTABLISHED")
    assert other.take_received() == [b"hello"]
    assert one.take_received() == []
