"""The classic dialect, packet by packet: what a reference node sees of us, and how we read it."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot.stream.classic import MAX_DUPLICATES, without_lookalikes
from pilot.stream.config import CLASSIC_REORDER_LIMIT, StreamConfig
from pilot.stream.connection import Connection, Segment
from pilot.stream.sequence import MASK
from pilot.wire.sack import decode_sack, encode_sack
from tests.stream.wiring import ACK, SYN, Duo

KIB = 1024


class Ours:
    """A dialled classic connection; the test plays the reference node, which begins with 0."""

    def __init__(self, config: StreamConfig | None = None, window: int = 512) -> None:
        self.now = 10.0
        self.connection = Connection.dial(config or StreamConfig(), self.now, random.Random(1))
        self.connection.segment_limit = 4096
        (syn,) = self.connection.transmit(self.now)
        self.first = (syn.sequence + 1) & MASK  # number of our first byte
        self.now += 0.02
        self.take(SYN | ACK, 0, self.first, window, b"")
        self.connection.take_events()
        assert len(self.transmit()) == 1

    def take(self, flags: int, sequence: int, number: int, window: int, payload: bytes) -> None:
        self.connection.segment_received(flags, sequence, number & MASK, window, payload, self.now)

    def data(self, sequence: int, payload: bytes, acked: int = 0) -> None:
        """A data segment, which acknowledges C{acked} of our bytes."""
        self.take(ACK, sequence, self.first + acked, 512, payload)

    def ack(self, acked: int, window: int = 512, payload: bytes = b"", sequence: int = 1) -> None:
        self.take(ACK, sequence, self.first + acked, window, payload)

    def transmit(self) -> list[Segment]:
        return self.connection.transmit(self.now)

    def sleep(self, seconds: float) -> list[Segment]:
        """Wake it whenever it wants, and return what it sent meanwhile."""
        end, out = self.now + seconds, []
        while (due := self.connection.deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.connection.wake(self.now)
            out += self.transmit()
        self.now = end
        return out


# -- sending -----------------------------------------------------------------------------------


def test_segments_have_4096_bytes_and_the_first_burst_is_ten() -> None:
    ours = Ours()
    ours.connection.write(bytes(100 * KIB))
    burst = ours.transmit()
    assert [len(segment.payload) for segment in burst] == [4096] * 10
    assert [segment.sequence for segment in burst] == [
        (ours.first + 4096 * index) & MASK for index in range(10)
    ]
    assert all((each.flags, each.acknowledgement, each.window) == (ACK, 1, 512) for each in burst)


def test_a_smaller_limit_of_the_path_is_kept() -> None:
    ours = Ours()
    ours.connection.segment_limit = 1130
    ours.connection.write(bytes(10 * KIB))
    assert {len(segment.payload) for segment in ours.transmit()[:-1]} == {1130}


@given(limits=st.lists(st.integers(200, 4096), min_size=2, max_size=6), seed=st.integers(0, 1000))
def test_a_segment_keeps_its_boundaries_for_ever(limits: list[int], seed: int) -> None:
    """Whatever happens to the limit and the acknowledgements: same number, same bytes."""
    rng = random.Random(seed)
    ours = Ours()
    ours.connection.write(bytes(60 * KIB))
    seen: dict[int, int] = {}
    for limit in limits:
        ours.connection.segment_limit = limit
        for segment in ours.transmit() + ours.sleep(rng.uniform(0.0, 2.0)):
            if segment.payload and segment.sequence != (ours.first - 1) & MASK:
                assert seen.setdefault(segment.sequence, len(segment.payload)) == len(
                    segment.payload
                )
        if seen and rng.random() < 0.7:
            start = rng.choice(list(seen))
            ours.ack((start - ours.first) & MASK)
    # ... and they lie end to end.
    offsets = sorted(((start - ours.first) & MASK, size) for start, size in seen.items())
    assert all(a + size == b for (a, size), (b, _) in pairwise(offsets))


def test_writes_of_one_turn_leave_together() -> None:
    ours = Ours()
    for word in (b"one ", b"two ", b"three"):
        ours.connection.write(word)
    (segment,) = ours.transmit()
    assert segment.payload == b"one two three"


def test_what_the_program_changes_after_writing_is_not_sent() -> None:
    ours = Ours()
    buffer = bytearray(b"before")
    ours.connection.write(buffer)
    buffer[:] = b"after!"
    assert [segment.payload for segment in ours.transmit()] == [b"before"]


def test_requests_do_not_wait_for_the_answer_to_the_last_one() -> None:
    """Some incomplete segments may be under way; only a flood of them waits for company."""
    ours = Ours()
    sent = []
    for _ in range(12):
        ours.connection.write(b"ping")
        sent.append(len(ours.transmit()))
    assert sent == [1] * 8 + [0] * 4
    ours.ack(4 * 8)
    (rest,) = ours.transmit()
    assert rest.payload == b"ping" * 4


def test_a_flood_of_crumbs_waits_40_ms_at_the_longest() -> None:
    ours = Ours()
    for _ in range(9):
        ours.connection.write(b"ping")
        ours.transmit()
    start = ours.now
    due = ours.connection.deadline()
    assert due == pytest.approx(start + 0.04)
    assert [segment.payload for segment in ours.sleep(0.05)] == [b"ping"]


def test_a_unit_travels_as_one_segment() -> None:
    ours = Ours()
    ours.connection.write(b"before")
    ours.connection.write_unit(bytes(9000))
    ours.connection.write(b"after")
    assert [len(segment.payload) for segment in ours.transmit()] == [6, 9000, 5]


def test_the_window_counts_segments() -> None:
    """5 segments of whatever size, not 5 times 4096 bytes."""
    ours = Ours(window=5)
    ours.connection.segment_limit = 500
    ours.connection.write(bytes(20 * KIB))
    assert len(ours.transmit()) == 5
    ours.ack(1000, window=5)
    assert len(ours.transmit()) == 2


@pytest.mark.parametrize("window", [0, 1])
def test_a_closed_window_lets_one_segment_out_and_its_repetition_is_the_probe(window: int) -> None:
    ours = Ours(window=window)
    ours.connection.write(bytes(20 * KIB))
    (only,) = ours.transmit()
    repeated = ours.sleep(8.0)
    assert len(repeated) >= 3
    assert {segment.sequence for segment in repeated} == {only.sequence}
    ours.ack(4096, window=window)
    assert len(ours.transmit()) == 1


def test_no_more_than_128_segments_are_out_since_it_stores_no_more_behind_a_hole() -> None:
    ours = Ours()
    ours.connection.segment_limit = 300
    ours.connection.write(bytes(1024 * KIB))
    out = len(ours.transmit())
    acked = most = 0
    for _ in range(12):
        ours.now += 0.02
        acked = out  # all of it at once, so that the window grows
        ours.ack(acked * 300)
        for _ in range(20):
            ours.now += 0.001
            out += len(ours.transmit())
            most = max(most, out - acked)
    assert most == CLASSIC_REORDER_LIMIT


def test_a_burst_has_at_most_16_segments() -> None:
    ours = Ours()
    ours.connection.write(bytes(8192 * KIB))
    out, bursts = 0, []
    for _ in range(12):
        ours.now += 0.02
        ours.ack(out * 4096)
        for _ in range(20):
            ours.now += 0.001
            bursts.append(len(ours.transmit()))
            out += bursts[-1]
    assert max(bursts) == 16
    ours.ack(out * 4096)
    ours.now += 1.0
    assert len(ours.transmit()) == 16
    ours.now += 0.0001
    assert len(ours.transmit()) < 4  # the next burst comes a little later
    ours.now += 0.02
    assert len(ours.transmit()) > 8


def test_a_segment_that_looks_like_a_list_of_blocks_is_cut_after_its_first_letter() -> None:
    ours = Ours()
    ours.connection.write(b"SACK\x01" + bytes(8))
    assert [segment.payload for segment in ours.transmit()] == [b"S", b"ACK\x01" + bytes(8)]


@given(
    payloads=st.lists(
        st.one_of(
            st.binary(max_size=20),
            st.builds(lambda rest: b"SACK" + rest, st.binary(max_size=40)),
        ),
        max_size=8,
    )
)
def test_no_lookalike_gets_through_and_no_byte_is_lost(payloads: list[bytes]) -> None:
    safe = without_lookalikes(payloads)
    assert b"".join(safe) == b"".join(payloads)
    assert all(decode_sack(payload) is None for payload in safe)


# -- acknowledging -----------------------------------------------------------------------------


def test_a_lone_segment_is_acknowledged_a_little_later_two_at_once() -> None:
    ours = Ours()
    ours.data(1, b"one")
    assert ours.transmit() == []
    (late,) = ours.sleep(0.02)
    assert (late.flags, late.acknowledgement, late.payload) == (ACK, 4, b"")
    ours.data(4, b"two")
    ours.data(7, b"three")
    (ack,) = ours.transmit()
    assert ack.acknowledgement == 12


def test_an_answer_carries_the_acknowledgement() -> None:
    ours = Ours()
    ours.data(1, b"ping")
    ours.connection.write(b"pong")
    (answer,) = ours.transmit()
    assert (answer.acknowledgement, answer.payload) == (5, b"pong")
    ours.ack(4)
    assert ours.sleep(1.0) == []


def test_an_acknowledgement_is_never_answered() -> None:
    ours = Ours()
    for _ in range(5):
        ours.ack(0)
        ours.ack(0, window=0)
    assert ours.transmit() == []


def test_each_early_segment_is_worth_a_plain_duplicate_beside_the_blocks() -> None:
    """Only payload-free acknowledgements count for a reference sender."""
    ours = Ours()
    ours.data(101, bytes(100))
    ours.data(301, bytes(100))
    blocks, *plain = ours.transmit()
    assert decode_sack(blocks.payload) == ((101, 201), (301, 401))
    assert [(each.acknowledgement, each.payload) for each in plain] == [(1, b"")] * 2


def test_arriving_at_a_further_hole_is_worth_three() -> None:
    ours = Ours()
    ours.data(101, bytes(100))
    ours.data(301, bytes(100))
    ours.transmit()
    ours.data(1, bytes(100))
    blocks, *plain = ours.transmit()
    assert blocks.acknowledgement == 201 and decode_sack(blocks.payload) == ((301, 401),)
    assert [(each.acknowledgement, each.payload) for each in plain] == [(201, b"")] * 3
    ours.data(201, bytes(100))
    assert [each.payload for each in ours.transmit()] == [b""]  # no hole left: one will do


def test_a_batch_of_early_segments_is_not_worth_a_storm() -> None:
    ours = Ours()
    for index in range(100):
        ours.data(101 + 100 * index, bytes(100))
    assert len(ours.transmit()) == 1 + MAX_DUPLICATES


def test_a_repeated_segment_is_acknowledged_at_once() -> None:
    """Our acknowledgement was lost; the peer waits."""
    ours = Ours()
    ours.data(1, b"abc")
    ours.sleep(1.0)
    ours.data(1, b"abc")
    assert [(each.acknowledgement, each.payload) for each in ours.transmit()] == [(4, b"")]
    assert ours.connection.take_received() == [b"abc"]


def test_large_segments_are_taken() -> None:
    ours = Ours()
    ours.data(1, bytes(65_469))
    assert len(ours.connection.take_received()[0]) == 65_469


def test_the_window_follows_what_the_program_has_read() -> None:
    ours = Ours(StreamConfig(receive_window=64 * KIB))
    ours.data(1, bytes(4096))
    ours.data(4097, bytes(4096))
    (ack,) = ours.transmit()
    assert ack.window == 14
    for index in range(2, 16):
        ours.data(1 + 4096 * index, bytes(4096))
    (full,) = ours.transmit()
    assert full.window == 1  # never 0, which means "no limit" to the reference


def test_a_window_that_opens_is_announced() -> None:
    """The reference never does; its sender would wait for ever."""
    ours = Ours(StreamConfig(receive_window=1024 * KIB))
    for index in range(256):
        ours.data(1 + 4096 * index, bytes(4096))
    assert ours.transmit()[-1].window == 1
    ours.now += 1.0
    assert len(ours.connection.take_received()) == 256
    (update,) = ours.transmit()
    assert update.window == 256


# -- reading blocks ----------------------------------------------------------------------------


def sent(count: int) -> Ours:
    """@return: ours, with that many segments of 1000 bytes under way."""
    ours = Ours()
    ours.connection.segment_limit = 1000
    ours.connection.write(bytes(1000 * count))
    assert len(ours.transmit()) == count
    return ours


def blocks(ours: Ours, *edges: tuple[int, int]) -> bytes:
    return encode_sack([((ours.first + a) & MASK, (ours.first + b) & MASK) for a, b in edges])


def test_a_hole_that_blocks_show_is_filled_at_once() -> None:
    ours = sent(10)
    ours.now += 0.05
    ours.ack(2000, payload=blocks(ours, (3000, 6000)))
    repeated = ours.transmit()
    assert [segment.sequence for segment in repeated] == [(ours.first + 2000) & MASK]
    assert ours.connection.received == []


def test_a_list_that_cannot_be_one_is_data() -> None:
    """Beyond what we ever sent, not beyond the number, empty, too long: then it is a program's."""
    ours = sent(10)
    for number, payload in (
        (2000, blocks(ours, (9000, 11_000))),
        (2000, blocks(ours, (2000, 3000))),
        (2000, blocks(ours, (4000, 4000))),
        (2000, blocks(ours, (5000, 4000))),
        (2000, blocks(ours, (3000, 4000)) + b"x"),
        (2000, b"SACK\x01" + bytes(7)),
        (2000, b"SACK\x05" + bytes(40)),
    ):
        before = b"".join(ours.connection.take_received())
        assert before == b"" or before.startswith(b"SACK")
        ours.ack(number, payload=payload, sequence=ours.connection._rx.next & MASK)
        assert ours.connection.received == [payload]


def test_a_list_is_read_whatever_its_sequence_number() -> None:
    ours = sent(10)
    ours.ack(2000, payload=blocks(ours, (3000, 6000)), sequence=4_000_000_000)
    assert len(ours.transmit()) == 1
    assert ours.connection.received == []


def test_acknowledgements_of_what_was_never_sent_are_not_believed() -> None:
    ours = sent(3)
    ours.ack(100_000)
    ours.ack(3000)
    assert ours.connection.statistics()["unacked"] == 0
    assert ours.sleep(20.0) == []


def test_old_acknowledgements_do_not_move_the_window_back() -> None:
    ours = sent(10)
    ours.ack(10_000, window=100)
    ours.ack(5000, window=1)
    ours.connection.write(bytes(10_000))
    assert len(ours.transmit()) == 10


def test_numbers_wrap() -> None:
    """Four gigabytes later the numbers begin anew; nobody notices."""
    duo = Duo(modern=False, limit=4096).open()
    for end in (duo.near, duo.far):
        assert end.state == "ESTABLISHED"
    base = duo.near._tx.flight.first
    jump = (1 << 32) - (base & MASK) - 10_000
    duo.near._tx.flight.first += jump
    duo.near._tx.flight.next += jump
    duo.far._rx.next += jump
    data = random.Random(5).randbytes(40_000)
    duo.near.write(data)
    duo.settle()
    assert b"".join(duo.far.take_received()) == data


def test_statistics_have_the_fields_of_the_notes() -> None:
    ours = sent(3)
    ours.data(1, b"abc")
    ours.data(10, b"xyz", acked=1000)
    ours.connection.take_events()
    statistics = ours.connection.statistics()
    assert set(statistics) == {
        "state",
        "cong_win",
        "ssthresh",
        "in_flight",
        "srtt_ms",
        "rttvar_ms",
        "unacked",
        "ooo_buf",
        "peer_recv_win",
        "recv_win",
        "in_recovery",
        "bytes_sent",
        "segs_sent",
        "bytes_recv",
        "segs_recv",
        "retransmits",
        "fast_retx",
        "sack_recv",
        "sack_sent",
        "dup_acks",
    }
    assert statistics["state"] == "ESTABLISHED"
    assert (statistics["bytes_sent"], statistics["segs_sent"]) == (3000, 3)
    assert (statistics["bytes_recv"], statistics["segs_recv"]) == (6, 2)
    assert (statistics["unacked"], statistics["in_flight"]) == (2, 2000)
    assert statistics["ooo_buf"] == 1
    assert statistics["peer_recv_win"] == 512 * 4096
