"""Ends of classic connections: never lost data behind a clean face, never a storm."""

from __future__ import annotations

import pytest

from pilot.stream.config import StreamConfig
from pilot.stream.connection import Segment
from pilot.stream.events import CloseCause, Closed, PeerFinished
from pilot.stream.sequence import MASK
from tests.stream.test_classic import Ours
from tests.stream.wiring import ACK, FIN, RST, Duo, nothing


def fins(segments: list[Segment]) -> list[Segment]:
    return [segment for segment in segments if segment.flags & FIN]


def close(ours: Ours) -> None:
    """The program writes no more and reads no more."""
    ours.connection.close_write()
    ours.connection.close_read()


def ending(ours: Ours) -> Closed | None:
    found = [event for event in ours.connection.take_events() if isinstance(event, Closed)]
    return found[0] if found else None


# -- our FIN -----------------------------------------------------------------------------------


def test_the_fin_waits_until_everything_is_acknowledged() -> None:
    """The reference would drop whatever it has not got by then."""
    ours = Ours()
    ours.connection.write(bytes(3000))
    close(ours)
    (data,) = ours.transmit()
    assert not fins([data, *ours.sleep(0.5)])
    ours.ack(3000)
    (fin,) = ours.transmit()
    assert (fin.flags, fin.sequence, fin.window) == (FIN, (ours.first + 3000) & MASK, 0)
    assert ours.connection.state == "FIN_WAIT"


def test_the_fin_waits_until_the_program_reads_no_more() -> None:
    """A classic FIN ends both directions, so half-close must not reach the wire."""
    ours = Ours()
    ours.connection.write(b"request")
    ours.connection.close_write()
    ours.transmit()
    ours.ack(7)
    assert not fins(ours.transmit() + ours.sleep(50.0))
    ours.data(1, b"answer", acked=7)
    assert ours.connection.take_received() == [b"answer"]
    ours.connection.close_read()
    assert fins(ours.transmit())


def test_the_fin_is_repeated_a_few_times_and_then_let_go() -> None:
    ours = Ours()
    close(ours)
    sent = fins(ours.transmit() + ours.sleep(60.0))
    assert len(sent) == 5 and len(set(sent)) == 1
    clean = Closed(CloseCause.CLEAN, "closed")
    assert ours.connection.take_events() == [PeerFinished(), clean]


@pytest.mark.parametrize("flags", [FIN | ACK, ACK])
def test_the_answer_to_our_fin_ends_it_and_is_never_answered(flags: int) -> None:
    ours = Ours()
    close(ours)
    assert fins(ours.transmit())
    for _ in range(20):
        ours.take(flags, 1, ours.first + 1, 0, b"")
        assert not fins(ours.transmit())
    assert ours.connection.take_events() == [PeerFinished()]
    assert ours.connection.state == "TIME_WAIT"
    assert ours.sleep(9.0) == []
    ours.sleep(3.0)
    assert ending(ours) == Closed(CloseCause.CLEAN, "closed")


def test_the_program_hears_of_its_end_when_everything_has_arrived() -> None:
    """Not when the peer has answered the farewell, which may take long or never happen."""
    ours = Ours()
    ours.connection.write(b"all")
    close(ours)
    ours.transmit()
    assert ours.connection.take_events() == []
    ours.ack(3)
    ours.transmit()
    assert ours.connection.take_events() == [PeerFinished()]


# -- the peer's FIN ----------------------------------------------------------------------------


def test_a_fin_ends_both_directions_and_is_answered_with_one_plain_acknowledgement() -> None:
    ours = Ours()
    ours.data(1, b"bye")
    ours.take(FIN, 4, 0, 0, b"")
    assert ours.connection.take_events() == [PeerFinished()]
    assert ours.connection.take_received() == [b"bye"]
    (answer,) = ours.transmit()
    assert (answer.flags, answer.acknowledgement, answer.payload) == (ACK, 5, b"")
    assert ours.connection.state == "TIME_WAIT"


def test_repeated_fins_are_answered_now_and_then() -> None:
    ours = Ours()
    answers = 0
    for _ in range(100):
        ours.take(FIN, 1, 0, 0, b"")
        answers += len(ours.transmit())
        ours.now += 0.01
    assert 1 <= answers <= 4


def test_a_fin_with_an_acknowledgement_is_never_answered() -> None:
    ours = Ours()
    for _ in range(10):
        ours.take(FIN | ACK, 1, ours.first, 0, b"")
        assert ours.transmit() == []
    assert ours.connection.state == "TIME_WAIT"


def test_payload_on_a_fin_is_no_data() -> None:
    ours = Ours()
    ours.take(FIN, 1, 0, 0, b"not delivered")
    ours.connection.take_events()
    assert ours.connection.take_received() == []


def test_data_missing_before_a_fin_is_asked_for_with_plain_duplicates() -> None:
    ours = Ours()
    ours.data(101, bytes(100))
    ours.take(FIN, 201, 0, 0, b"")
    assert ours.connection.take_events() == []
    asked = [segment for segment in ours.transmit() if segment.flags == ACK]
    assert sum(not segment.payload for segment in asked) >= 3
    assert {segment.acknowledgement for segment in asked} == {1}
    ours.data(1, bytes(100))
    assert ours.connection.take_events() == [PeerFinished()]
    assert sum(map(len, ours.connection.take_received())) == 200


def test_it_asks_again_with_another_number_since_the_peer_counts_once_for_each() -> None:
    ours = Ours()
    ours.take(FIN, 5001, 0, 0, b"")
    ours.transmit()
    asked = ours.sleep(1.0)
    numbers = [segment.acknowledgement for segment in asked]
    assert numbers == sorted(numbers) and 2 <= len(set(numbers)) <= 12
    assert all(numbers.count(number) >= 4 for number in set(numbers))
    assert max(numbers) < 100  # it acknowledges no segment that is not here


def test_data_that_never_comes_makes_the_end_a_reset() -> None:
    ours = Ours()
    ours.take(FIN, 5001, 0, 0, b"")
    ours.transmit()
    ours.sleep(6.0)
    closed = ending(ours)
    assert closed is not None and closed.cause is CloseCause.RESET
    assert "did not arrive" in closed.reason


def test_each_piece_that_comes_gives_the_rest_more_time() -> None:
    ours = Ours()
    ours.take(FIN, 10_001, 0, 0, b"")
    for index in range(10):
        ours.transmit()
        ours.sleep(3.0)
        assert ours.connection.state == "ESTABLISHED"
        ours.data(1 + 1000 * index, bytes(1000))
    assert ours.connection.take_events() == [PeerFinished()]


def test_a_peer_that_closes_before_it_took_everything_has_not_ended_clean() -> None:
    ours = Ours()
    ours.connection.write(bytes(200_000))
    ours.transmit()
    ours.take(FIN, 1, 0, 0, b"")
    closed = ending(ours)
    assert closed is not None and closed.cause is CloseCause.RESET


def test_an_acknowledgement_may_trail_the_fin() -> None:
    """The reference sends its delayed acknowledgement up to 40 ms after its FIN."""
    ours = Ours()
    ours.connection.write(b"one way")
    ours.transmit()
    ours.take(FIN, 1, 0, 0, b"")
    assert ours.connection.take_events() == []
    ours.now += 0.04
    ours.ack(7)
    assert ours.connection.take_events() == [PeerFinished()]


def test_without_that_acknowledgement_the_end_is_a_reset() -> None:
    ours = Ours()
    ours.connection.write(b"one way")
    ours.transmit()
    ours.take(FIN, 1, 0, 0, b"")
    ours.sleep(3.0)
    closed = ending(ours)
    assert closed is not None and closed.cause is CloseCause.RESET


def test_writing_to_a_peer_that_has_closed_is_an_error_not_a_silence() -> None:
    ours = Ours()
    ours.take(FIN, 1, 0, 0, b"")
    assert ours.connection.take_events() == [PeerFinished()]
    ours.connection.write(b"too late")
    closed = ending(ours)
    assert closed is not None and closed.cause is CloseCause.RESET


def test_fins_that_cross_end_it_for_both() -> None:
    ours = Ours()
    close(ours)
    assert fins(ours.transmit())
    ours.take(FIN, 1, 0, 0, b"")
    ours.connection.take_events()
    assert ours.connection.state == "TIME_WAIT"
    (answer,) = ours.transmit()
    assert answer.flags == ACK


def test_a_fin_from_nowhere_near_is_ignored() -> None:
    ours = Ours()
    for sequence in (0x80000000, 0xF0000000, 1 << 30):
        ours.take(FIN, sequence, 0, 0, b"")
        ours.transmit()
    assert ours.connection.state == "ESTABLISHED"
    assert ending(ours) is None


# -- resets, silence ---------------------------------------------------------------------------


def test_a_reset_of_the_reference_has_no_numbers() -> None:
    ours = Ours()
    ours.take(RST, 0, 0, 0, b"")
    closed = ending(ours)
    assert closed == Closed(CloseCause.RESET, "connection reset by peer")


def test_a_reset_with_numbers_of_another_connection_is_ignored() -> None:
    ours = Ours()
    ours.connection.segment_received(RST, 0x77777777, 5, 0, b"", ours.now)
    assert ours.connection.state == "ESTABLISHED"
    assert ours.connection.ignored == 1


def test_an_abort_sends_one_reset_of_zeros() -> None:
    ours = Ours()
    ours.connection.write(bytes(50_000))
    ours.transmit()
    ours.connection.abort()
    ours.connection.abort()
    assert ours.transmit() == [Segment(RST, 0, 0, 0, b"")]
    assert ending(ours) == Closed(CloseCause.ABORTED, "aborted")
    assert ours.sleep(100.0) == [] and ours.connection.deadline() is None


def test_a_peer_that_falls_silent_with_data_under_way_is_given_up() -> None:
    """Not before 15 seconds: a busy reference node is deaf for so long."""
    ours = Ours()
    ours.connection.write(bytes(5000))
    ours.transmit()
    ours.sleep(20.0)
    assert ours.connection.state == "ESTABLISHED"
    sent = ours.sleep(20.0)
    assert sent[-1] == Segment(RST, 0, 0, 0, b"")
    closed = ending(ours)
    assert closed is not None and closed.cause is CloseCause.TIMEOUT


def test_an_idle_stream_ends_with_a_fin_after_the_configured_time() -> None:
    ours = Ours(StreamConfig(idle_timeout=40.0, keepalive=15.0))
    sent = ours.sleep(39.0)
    assert sent and not fins(sent)  # the peer is asked meanwhile
    sent = ours.sleep(2.0)
    assert len(fins(sent)) == 1
    closed = ending(ours)
    assert closed is not None and closed.cause is CloseCause.IDLE


def test_a_keepalive_carries_the_true_window_and_nothing_new() -> None:
    ours = Ours()
    (keepalive,) = ours.sleep(61.0)
    assert keepalive.flags == ACK and keepalive.window == 512
    assert keepalive.payload in (b"", b"\0")
    assert (keepalive.sequence + len(keepalive.payload)) & MASK == ours.first


def test_two_of_ours_that_talk_classic_close_in_peace() -> None:
    duo = Duo(modern=False).open()
    duo.near.write(bytes(10_000))
    duo.far.write(bytes(20_000))
    duo.settle()
    assert sum(map(len, duo.far.take_received())) == 10_000
    assert sum(map(len, duo.near.take_received())) == 20_000
    duo.log.clear()
    duo.near.close_write()
    duo.near.close_read()
    duo.sleep(0.1)
    duo.settle()
    assert duo.heard("near", PeerFinished) == duo.heard("far", PeerFinished) == 1
    duo.sleep(60.0)
    assert duo.closed("near") == duo.closed("far") == Closed(CloseCause.CLEAN, "closed")
    assert len(duo.log) <= 4


def test_a_lost_farewell_is_said_again() -> None:
    duo = Duo(modern=False).open()
    duo.near.close_write()
    duo.near.close_read()
    duo.step(to_far=nothing)
    duo.sleep(3.0)
    assert duo.far.state == "TIME_WAIT"
