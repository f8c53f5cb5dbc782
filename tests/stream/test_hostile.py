"""Peers that send anything at all: nothing is raised, nothing grows, nothing spins."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from pilot.stream.config import StreamConfig
from pilot.stream.connection import Connection, Segment
from pilot.stream.events import Closed
from pilot.wire.options import Offer, encode_block, encode_offer
from pilot.wire.packet import FLAG_ACK, FLAG_SYN
from pilot.wire.sack import encode_sack

WINDOW = 64 * 1024
MASK = 0xFFFFFFFF

distances = st.one_of(
    st.integers(-3, 3),
    st.integers(-5000, 80_000),
    st.sampled_from((1 << 31, (1 << 31) - 1, -(1 << 31), 1 << 30)),
)
blocks = st.builds(
    encode_block,
    st.integers(0, MASK),
    st.integers(0, MASK),
    st.lists(st.tuples(st.integers(0, MASK), st.integers(0, MASK)), max_size=4),
    st.booleans(),
)
payloads = st.one_of(
    st.just(b""),
    st.binary(max_size=30),
    st.integers(1, 3000).map(bytes),
    st.lists(st.tuples(st.integers(0, MASK), st.integers(0, MASK)), max_size=4).map(encode_sack),
    st.builds(lambda block, data: block + data, blocks, st.binary(max_size=400)),
)
packets = st.tuples(
    st.just("packet"),
    st.one_of(st.sampled_from((2, 2, 2, 6, 4, 3)), st.integers(0, 15)),
    distances,
    distances,
    st.one_of(st.sampled_from((0, 1, 512)), st.integers(0, 0xFFFF)),
    payloads,
)
deeds = st.tuples(
    st.sampled_from(
        ("wait", "wait long", "write", "read", "close", "close reading", "abort", "unit")
    )
)
scripts = st.lists(st.one_of(packets, packets, packets, deeds), max_size=40)

OFFER = encode_offer(Offer(1000, 3, WINDOW, 1, 0, 10))


def stranger(dialled: bool, modern: bool) -> tuple[Connection, float]:
    """@return: a connection past its handshake with somebody whom the script plays."""
    config = StreamConfig(receive_window=WINDOW)
    now = 50.0
    rng = random.Random(1)
    offer = OFFER if modern else b""
    if not dialled:
        syn = Segment(FLAG_SYN, 1000, 0, 16, offer)
        connection = Connection.accept(config, now, rng, syn)
        connection.transmit(now)
        return connection, now
    connection = Connection.dial(config, now, rng)
    (syn,) = connection.transmit(now)
    number = (syn.sequence + 1) & MASK
    connection.segment_received(FLAG_SYN | FLAG_ACK, 1_000_000, number, 16, offer, now)
    connection.transmit(now)
    return connection, now


@given(script=scripts, dialled=st.booleans(), modern=st.booleans())
def test_no_packet_upsets_a_connection(
    script: list[tuple[object, ...]], dialled: bool, modern: bool
) -> None:
    connection, now = stranger(dialled, modern)
    ends = 0
    for name, *values in script:
        if name == "packet":
            flags, near_next, near_sent, window, payload = values
            sequence = (connection._rx.next + near_next) & MASK  # type: ignore[operator]
            number = (connection._tx.flight.next + near_sent) & MASK  # type: ignore[operator]
            connection.segment_received(flags, sequence, number, window, payload, now)  # type: ignore[arg-type]
        elif name == "write":
            connection.write(bytes(5000))
        elif name == "unit":
            connection.write_unit(bytes(2000))
        elif name == "read":
            connection.take_received()
        elif name == "close":
            connection.close_write()
        elif name == "close reading":
            connection.close_read()
        elif name == "abort":
            connection.abort()
        else:
            now += 0.05 if name == "wait" else 7.0
            connection.wake(now)
        ends += sum(isinstance(event, Closed) for event in connection.take_events())
        assert len(connection.transmit(now)) < 300
        ends += sum(isinstance(event, Closed) for event in connection.take_events())
        held = sum(map(len, connection.received)) + connection._rx.early_bytes
        assert held <= WINDOW + 256 * 4096 + 70_000
        connection.statistics()
    assert ends <= 1
    assert (connection.state == "CLOSED") == (ends == 1)


@given(script=scripts, dialled=st.booleans(), modern=st.booleans())
def test_whatever_was_said_silence_ends_every_connection(
    script: list[tuple[object, ...]], dialled: bool, modern: bool
) -> None:
    """A peer that has gone after any conversation is noticed, without a busy loop."""
    connection, now = stranger(dialled, modern)
    for name, *values in script:
        if name == "packet":
            flags, near_next, near_sent, window, payload = values
            sequence = (connection._rx.next + near_next) & MASK  # type: ignore[operator]
            number = (connection._tx.flight.next + near_sent) & MASK  # type: ignore[operator]
            connection.segment_received(flags, sequence, number, window, payload, now)  # type: ignore[arg-type]
        elif name == "write":
            connection.write(bytes(5000))
        elif name == "close":
            connection.close_write()
        connection.take_events()
        connection.take_received()
        connection.transmit(now)
    connection.close_read()
    start, turns = now, 0
    while (due := connection.deadline()) is not None:
        now = max(now, due)
        connection.wake(now)
        connection.take_events()
        connection.transmit(now)
        turns += 1
        assert turns < 2000
        assert now - start < 1000.0
    assert connection.state == "CLOSED"
