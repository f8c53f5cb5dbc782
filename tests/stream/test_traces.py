"""Recordings of the reference, played to our connections: we understand what it says."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from pilot.errors import WireError
from pilot.stream.config import StreamConfig
from pilot.stream.connection import Connection, Segment
from pilot.stream.events import Closed, Established, PeerFinished
from pilot.wire.packet import decode_raw
from pilot.wire.sack import encode_sack
from tests.golden import golden
from tests.stream.wiring import ACK, FIN, RST, SYN

_FLAGS = {"SYN": SYN, "ACK": ACK, "FIN": FIN, "RST": RST}

TRACES = {trace["name"]: trace for trace in golden("stream_traces")["traces"]}


class FirstNumber(Random):
    """Randomness that begins with a given initial sequence number."""

    first: int | None = None

    def getrandbits(self, k: int, /) -> int:
        """The given number, then random ones."""
        if self.first is not None:
            first, self.first = self.first, None
            return first
        return super().getrandbits(k)


def pattern(sequence: int, size: int) -> bytes:
    """@return: bytes that any segment with this number would carry."""
    return bytes((sequence + index) * 7 & 0xFF for index in range(size))


def segment_of(event: dict[str, Any]) -> Segment:
    """@return: the packet of a recorded line; data is made up where it was not recorded whole."""
    flags = sum(_FLAGS[name] for name in event["flags"].split("|") if name in _FLAGS)
    if "frame_hex" in event:
        raw = decode_raw(bytes.fromhex(event["frame_hex"])[4:])
        payload = raw.payload
    elif "sack" in event:
        payload = encode_sack([(left, right) for left, right in event["sack"]])
    else:
        payload = pattern(event["seq"], event["len"])
    return Segment(flags, event["seq"], event["ack"], event["win"], payload)


def play(name: str, source: str, **options: Any) -> tuple[Connection, bytes, list[Any]]:
    """Let the recorded packets of C{source} that arrived meet a connection of ours that accepts."""
    connection: Connection | None = None
    got = bytearray()
    events: list[Any] = []
    for event in TRACES[name]["events"]:
        now = 100.0 + event["t"]
        if event["dir"] != source or event.get("net") == "lost":
            continue
        segment = segment_of(event)
        if connection is None:
            if segment.flags != SYN:
                continue
            rng = FirstNumber(1)
            rng.first = 0x70000000
            connection = Connection.accept(StreamConfig(), now, rng, segment)
        else:
            number = (segment.acknowledgement + 0x70000000) & 0xFFFFFFFF
            if segment.flags & FIN or not segment.flags & ACK:
                number = segment.acknowledgement
            connection.segment_received(
                segment.flags,
                segment.sequence,
                number,
                segment.window,
                segment.payload,
                now,
            )
        events += connection.take_events()
        for piece in connection.take_received():
            got += piece
        connection.transmit(now)
    assert connection is not None
    return connection, bytes(got), events


@pytest.mark.parametrize(
    "name", ["transfer_1mb_clean", "transfer_1mb_loss5", "transfer_1mb_reorder"]
)
def test_a_recorded_transfer_arrives_whole(name: str) -> None:
    """A megabyte, with the reference's own losses, repetitions and changes of order."""
    connection, got, events = play(name, "A>B")
    assert got == pattern(1, 1_048_576)
    assert events == [Established(), PeerFinished()]
    assert connection.dialect == "classic"


def test_a_recorded_echo_ends_clean() -> None:
    connection, got, events = play("connect_echo_close", "A>B")
    assert got == b"hello"
    assert events == [Established(), PeerFinished()]
    assert connection.state == "TIME_WAIT"


def recorded_dial(name: str) -> tuple[Connection, list[Segment], list[Any]]:
    """Let the recorded answers of the reference R meet a connection of ours that dials like T."""
    sent: list[Segment] = []
    events: list[Any] = []
    recording = TRACES[name]["events"]
    opening = next(each for each in recording if each["dir"] == "T>R" and each["flags"] == "SYN")
    rng = FirstNumber(1)
    rng.first = 0x70000000
    base = (0x70000000 - opening["seq"]) & 0xFFFFFFFF
    connection = Connection.dial(StreamConfig(), 100.0, rng)
    sent += connection.transmit(100.0)
    for event in recording[recording.index(opening) :]:
        if event["dir"] != "R>T" or event["sport"] != opening["dport"]:
            continue
        if event["dport"] != opening["sport"]:
            continue
        now = 100.0 + event["t"]
        segment = segment_of(event)
        number = segment.acknowledgement
        if segment.flags & ACK:
            number = (number + base) & 0xFFFFFFFF
        connection.segment_received(
            segment.flags, segment.sequence, number, segment.window, segment.payload, now
        )
        events += connection.take_events()
        sent += connection.transmit(now)
    return connection, sent, events


def test_its_first_burst_and_repetitions_are_taken_once() -> None:
    """100,000 bytes, acknowledged by nobody in time, repeated by timer and by duplicates."""
    connection, _, events = recorded_dial("sender_initial_window_and_dup_acks")
    assert events[0] == Established()
    taken = b"".join(connection.take_received())
    assert taken and connection.statistics()["segs_recv"] * 4096 >= len(taken)
    assert connection.state == "ESTABLISHED"


def test_its_full_window_against_a_closed_one_is_taken() -> None:
    connection, _, _ = recorded_dial("window_zero_ignored")
    assert sum(map(len, connection.take_received())) >= 10 * 4096


def test_its_storm_of_fins_is_not_joined() -> None:
    connection, sent, _ = recorded_dial("fin_and_repeated_finack")
    assert not any(segment.flags & FIN for segment in sent)
    assert sum(segment.flags == ACK for segment in sent) < 6
    assert connection.state == "TIME_WAIT"


def test_what_it_sent_after_our_duplicates_completes_the_stream() -> None:
    """20,000 bytes that it had abandoned by closing, fetched piece by piece."""
    connection, sent, events = recorded_dial("fetch_data_after_fin")
    assert sum(map(len, connection.take_received())) == 20_000
    assert PeerFinished() in events
    assert sum(not segment.payload for segment in sent if segment.flags == ACK) >= 3


def test_data_of_its_program_that_looks_like_blocks_is_delivered() -> None:
    connection, _, _ = recorded_dial("data_that_looks_like_sack")
    taken = b"".join(connection.take_received())
    assert b"SACK" in taken


def test_its_keepalives_do_not_close_our_window_for_good() -> None:
    connection, _, events = recorded_dial("keepalive_idle")
    assert PeerFinished() in events
    assert not [event for event in events if isinstance(event, Closed)]
    assert connection.state == "TIME_WAIT"


@pytest.mark.parametrize("name", sorted(TRACES))
def test_no_recording_upsets_a_connection(name: str) -> None:
    """Every packet of every recording, whatever it was meant for, thrown at one of ours."""
    rng = Random(1)
    connection = Connection.dial(StreamConfig(), 100.0, rng)
    accepted: Connection | None = None
    for event in TRACES[name]["events"]:
        if event.get("proto") != 1 or "seq" not in event:
            continue
        now = 100.0 + event["t"]
        try:
            segment = segment_of(event)
        except WireError:
            continue  # a frame that was meant to be broken
        if accepted is None and segment.flags & (SYN | ACK) == SYN:
            accepted = Connection.accept(StreamConfig(), now, rng, segment)
        for each in (connection, accepted):
            if each is not None:
                each.segment_received(*segment, now)
                each.take_events()
                each.take_received()
                each.transmit(now)
                due = each.deadline()
                if due is not None and due <= now:
                    each.wake(now)
