"""The modern dialect: unambiguous blocks, byte windows, round trips, true half-close."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot.stream.config import StreamConfig
from pilot.stream.connection import Segment
from pilot.stream.events import CloseCause, Closed, PeerFinished
from pilot.stream.modern import scale_for
from pilot.wire.options import PLAIN_SIZE, TIMES, decode_block
from tests.stream.wiring import ACK, FIN, RST, Duo, nothing

KIB = 1024


def test_every_packet_after_the_handshake_begins_with_a_block() -> None:
    duo = Duo().open()
    duo.near.write(random.Random(1).randbytes(50_000))
    duo.settle()
    duo.near.close_write()
    duo.far.close_write()
    duo.settle()
    assert len(duo.log) > 45
    for _, segment in duo.log:
        assert decode_block(segment.payload).size <= len(segment.payload)


def test_data_carries_the_short_form_and_fits_the_path() -> None:
    duo = Duo(limit=1130).open()
    duo.near.write(bytes(10_000))
    duo.step()
    full = duo.sent("near")[0]
    assert full.payload[0] == TIMES
    assert len(full.payload) == 1130
    assert len(duo.far.take_received()[0]) == 1130 - PLAIN_SIZE


def test_program_data_that_looks_like_anything_arrives() -> None:
    duo = Duo().open()
    for data in (b"SACK\x01" + bytes(8), b"TXPM\x01", b"\x01" * 9, bytes([255]) * 40):
        duo.near.write_unit(data)
        duo.settle()
        assert duo.far.take_received() == [data]


def test_segments_may_be_as_large_as_the_path_and_the_peer_allow() -> None:
    duo = Duo(limit=65_009).open()
    duo.near.write(bytes(200_000))
    duo.settle()
    assert {len(piece) for piece in duo.far.take_received()} == {65_000, 5000}


@given(window=st.integers(1, 1 << 29))
def test_every_window_fits_its_field(window: int) -> None:
    assert window >> scale_for(window) <= 0xFFFF
    assert window < 1 << 16 or window >> (scale_for(window) - 1) > 0xFFFF


def test_windows_count_bytes_and_close() -> None:
    duo = Duo(config=StreamConfig(receive_window=64 * KIB)).open()
    duo.near.write(bytes(200 * KIB))
    for _ in range(20):
        duo.sleep(0.02)
    waiting = sum(map(len, duo.far.received))
    assert 64 * KIB <= waiting <= 64 * KIB + 1130  # one segment may begin inside and end outside
    assert duo.near.statistics()["peer_recv_win"] == 0
    duo.far.take_received()
    duo.settle()
    assert sum(map(len, duo.far.received)) >= 64 * KIB  # the update came by itself


def test_a_lost_window_update_is_asked_for() -> None:
    duo = Duo(config=StreamConfig(receive_window=64 * KIB)).open()
    duo.near.write(bytes(100 * KIB))
    for _ in range(20):
        duo.sleep(0.02)
    duo.far.take_received()
    duo.settle(to_near=nothing)
    assert not duo.far.received
    duo.log.clear()
    duo.sleep(3.0)
    assert sum(map(len, duo.far.received)) + 64 * KIB >= 99 * KIB
    assert any(decode_block(segment.payload).question for segment in duo.sent("near"))


def test_a_closed_window_is_asked_about_ever_less_often_but_does_not_end_the_stream() -> None:
    duo = Duo(config=StreamConfig(receive_window=64 * KIB)).open()
    duo.near.write(bytes(100 * KIB))
    duo.sleep(1.0)
    duo.log.clear()
    duo.sleep(1800.0)
    questions = [each for each in duo.sent("near") if decode_block(each.payload).question]
    assert 40 <= len(questions) <= 120
    assert duo.near.state == "ESTABLISHED"
    duo.far.take_received()
    duo.sleep(60.0)
    assert len(duo.far.received)


def test_each_acknowledgement_shows_a_round_trip_even_for_repetitions() -> None:
    duo = Duo().open()
    duo.near.write(b"x" * 100)
    duo.step(to_far=nothing)
    duo.now += 5.0  # the first copy is lost
    duo.near.wake(duo.now)
    duo.near.wake(duo.now + 0.05)
    duo.now += 0.05
    duo.step()
    duo.now += 0.03
    duo.far.wake(duo.now)
    duo.settle()
    assert duo.near.statistics()["srtt_ms"] < 50


def test_the_time_an_acknowledgement_was_held_back_is_not_counted() -> None:
    duo = Duo().open()
    for _ in range(20):
        duo.near.write(b"lone")
        duo.sleep(0.5)  # each lone segment is acknowledged late
    assert duo.near.statistics()["srtt_ms"] == 0
    assert duo.near._tx.rtt.smallest < 0.001


def test_a_needless_repetition_is_taken_back() -> None:
    """The answer was late, not lost: the echo tells, and the window returns to what it was."""
    duo = Duo().open()
    duo.near.write(bytes(30_000))
    held: list[Segment] = []
    duo.step(to_near=lambda segment: bool(held.append(segment)))
    duo.step(to_near=lambda segment: bool(held.append(segment)))
    window = duo.near.statistics()["cong_win"]
    duo.sleep(1.2, to_near=nothing)
    assert duo.near.statistics()["cong_win"] < window
    for segment in held:
        duo.near.segment_received(*segment, duo.now)
    assert duo.near.statistics()["cong_win"] >= window


def test_selective_acknowledgements_name_many_holes() -> None:
    duo = Duo().open()
    duo.near.write(bytes(36 * 1121))
    lost = iter(range(1000))
    duo.step(to_far=lambda segment: next(lost) % 2 == 1)
    duo.step(to_far=nothing)
    (ack,) = [each for each in duo.sent("far") if len(each.payload) > PLAIN_SIZE]
    assert len(decode_block(ack.payload).ranges) == 18
    assert duo.near.statistics()["sack_recv"] == 18


def test_half_close_is_true() -> None:
    """One direction ends, the other goes on for as long as it likes."""
    duo = Duo().open()
    duo.near.write(b"the request")
    duo.near.close_write()
    duo.settle()
    assert duo.heard("far", PeerFinished) == 1
    assert duo.near.state == "FIN_WAIT" and duo.far.state == "CLOSE_WAIT"
    assert duo.far.take_received() == [b"the request"]
    answer = random.Random(2).randbytes(300_000)
    duo.far.write(answer)
    got = b""
    while len(got) < len(answer):
        duo.sleep(0.01)
        got += b"".join(duo.near.take_received())
    assert got == answer
    assert duo.heard("near", PeerFinished) == 0
    duo.far.close_write()
    duo.settle()
    assert duo.heard("near", PeerFinished) == 1
    assert duo.closed("far") == Closed(CloseCause.CLEAN, "closed")
    assert duo.near.state == "TIME_WAIT"
    duo.sleep(11.0)
    assert duo.closed("near") == Closed(CloseCause.CLEAN, "closed")


def test_a_fin_waits_for_its_turn_in_the_order_of_the_bytes() -> None:
    duo = Duo().open()
    duo.near.write(bytes(3000))
    duo.near.close_write()
    lost = iter([False, True, True, True])
    duo.step(to_far=lambda segment: next(lost))
    duo.far.take_events()
    assert duo.far.state == "ESTABLISHED"
    duo.settle()
    assert duo.far.state == "CLOSE_WAIT"
    assert sum(map(len, duo.far.take_received())) == 3000


def test_a_lost_fin_is_repeated() -> None:
    duo = Duo().open()
    duo.near.close_write()
    duo.step(to_far=nothing)
    duo.sleep(1.0)
    assert duo.far.state == "CLOSE_WAIT"


def test_a_fin_may_carry_data() -> None:
    """We never send it so, but the format has a meaning for it."""
    duo = Duo().open()
    duo.near.write(b"last words")
    (segment,) = duo.near.transmit(duo.now)
    duo.far.segment_received(FIN | ACK, *segment[1:], duo.now)
    duo.far.take_events()
    assert duo.far.take_received() == [b"last words"]
    assert duo.far.state == "CLOSE_WAIT"


def test_a_packet_without_a_sound_block_is_dropped() -> None:
    duo = Duo().open()
    number = duo.near._tx.flight.next & 0xFFFFFFFF
    for payload in (b"", b"\x00", b"plain text", b"\x03" + bytes(8) + b"\x01", b"\x09" + bytes(12)):
        for flags in (ACK, ACK | FIN):
            duo.far.segment_received(flags, number, 0, 0, payload, duo.now)
    assert duo.far.received == [] and duo.far.state == "ESTABLISHED"
    assert duo.far._dialect.malformed == 10  # type: ignore[union-attr]


def test_a_reset_must_fit_or_be_all_zeros() -> None:
    duo = Duo().open()
    next_byte = duo.near._tx.flight.next
    duo.far.segment_received(RST | ACK, (next_byte - 50) & 0xFFFFFFFF, 77, 0, b"", duo.now)
    duo.far.segment_received(RST | ACK, (next_byte + (1 << 30)) & 0xFFFFFFFF, 7, 0, b"", duo.now)
    assert duo.far.state == "ESTABLISHED"
    duo.far.segment_received(RST | ACK, next_byte & 0xFFFFFFFF, 77, 0, b"", duo.now)
    assert duo.far.state == "CLOSED"
    other = Duo().open()
    other.near.segment_received(RST, 0, 0, 0, b"", other.now)
    assert other.near.state == "CLOSED"


def test_an_abort_reaches_the_peer_and_never_looks_clean() -> None:
    duo = Duo().open()
    duo.near.write(bytes(500))
    duo.settle()
    duo.near.abort()
    duo.settle()
    near, far = duo.closed("near"), duo.closed("far")
    assert near is not None and near.cause is CloseCause.ABORTED
    assert far is not None and far.cause is CloseCause.RESET
    assert duo.heard("far", PeerFinished) == 0


def test_an_idle_stream_lives_while_its_questions_are_answered() -> None:
    duo = Duo().open()
    duo.sleep(4 * 3600.0)
    assert duo.near.state == duo.far.state == "ESTABLISHED"
    assert len(duo.log) <= 4 * 60 * 4  # a question and an answer a minute each way


def test_a_peer_that_is_gone_is_noticed() -> None:
    duo = Duo().open()
    duo.sleep(119.0, nothing, nothing)
    assert duo.closed("near") is None
    duo.sleep(2.0, nothing, nothing)
    closed = duo.closed("near")
    assert closed == Closed(CloseCause.TIMEOUT, "the peer has fallen silent")


def test_data_that_is_not_acknowledged_ends_the_stream_after_half_a_minute() -> None:
    duo = Duo().open()
    duo.near.write(b"is anybody there?")
    duo.sleep(29.0, nothing, nothing)
    assert duo.closed("near") is None
    duo.sleep(10.0, nothing, nothing)
    closed = duo.closed("near")
    assert closed is not None and closed.cause is CloseCause.TIMEOUT
    assert 8 <= len([each for each in duo.sent("near") if len(each.payload) > 9]) <= 20
    assert duo.sent("near")[-1].flags & RST


def test_a_path_that_swallows_large_packets_only_is_noticed_too() -> None:
    duo = Duo().open()
    duo.near.write(bytes(5000))
    duo.near.close_write()
    small = lambda segment: len(segment.payload) < 200  # noqa: E731
    for _ in range(70):
        duo.far.write(b"still here")
        duo.sleep(1.0, small)
    closed = duo.closed("near")
    assert closed is not None and closed.cause is CloseCause.TIMEOUT


def test_a_peer_that_goes_on_sending_to_a_closed_stream_is_cut_off() -> None:
    duo = Duo(config=StreamConfig(receive_window=256 * KIB)).open()
    duo.near.close_write()
    duo.near.close_read()
    duo.settle()
    assert duo.heard("near", PeerFinished) == 1  # for our program it is over
    sent = 0
    while duo.closed("near") is None and sent < 100:
        duo.far.write(bytes(64 * KIB))
        duo.settle()
        duo.sleep(0.01)
        sent += 1
    assert 4 <= sent < 20
    far = duo.closed("far")
    assert far is not None and far.cause is CloseCause.RESET


def test_what_the_program_has_not_read_yet_delays_the_end() -> None:
    duo = Duo().open()
    duo.near.write(b"read me")
    duo.near.close_write()
    duo.far.close_write()
    duo.settle()
    duo.sleep(60.0)
    assert duo.closed("far") is None
    assert duo.far.take_received() == [b"read me"]
    duo.sleep(12.0)
    assert duo.closed("far") == Closed(CloseCause.CLEAN, "closed")


def test_time_in_which_nobody_looked_is_not_held_against_the_peer() -> None:
    """A laptop slept for an hour: the answers are still in the socket."""
    duo = Duo().open()
    duo.near.write(b"hello")
    duo.step()
    duo.now += 3600.0
    duo.near.wake(duo.now)
    assert duo.near.state == "ESTABLISHED"
    duo.settle()
    assert duo.near.statistics()["unacked"] == 0


def test_a_late_timer_first_lets_the_answers_in_that_wait() -> None:
    duo = Duo().open()
    duo.near.write(b"hello")
    duo.near.transmit(duo.now)
    due = duo.near.deadline()
    assert due is not None
    duo.near.wake(due + 0.3)
    assert duo.near.transmit(due + 0.3) == []
    again = duo.near.deadline()
    assert again is not None and again == pytest.approx(due + 0.31)
    duo.near.wake(again)
    assert len(duo.near.transmit(again)) == 1


def test_hostile_ranges_and_numbers_do_no_harm() -> None:
    duo = Duo().open()
    duo.near.write(bytes(20_000))
    duo.step(to_far=nothing)
    rng = random.Random(4)
    from pilot.wire.options import encode_block

    first = duo.near._tx.flight.first
    for _ in range(300):
        ranges = [
            (
                (first + rng.randrange(-5000, 40_000)) & 0xFFFFFFFF,
                (first + rng.randrange(-5000, 40_000)) & 0xFFFFFFFF,
            )
            for _ in range(rng.randrange(5))
        ]
        block = encode_block(rng.getrandbits(32), rng.getrandbits(32), ranges)
        number = (first + rng.randrange(-3, 3) * 10_000_000) & 0xFFFFFFFF
        duo.near.segment_received(
            ACK, rng.getrandbits(32), number, rng.getrandbits(16), block, duo.now
        )
        duo.near.transmit(duo.now)
        duo.now += 0.001
    assert duo.near.state == "ESTABLISHED"
    assert duo.near.statistics()["unacked"] > 0
