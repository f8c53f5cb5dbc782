"""Opening a connection: numbers, repetitions, refusals, and connections of the past."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot.stream.config import StreamConfig
from pilot.stream.connection import Connection, Segment
from pilot.stream.events import CloseCause, Closed, Established
from pilot.stream.opening import REFERENCE_AHEAD, initial_number, true_number
from pilot.wire.options import MAGIC
from tests.golden import golden
from tests.stream.wiring import ACK, FIN, RST, SYN, Duo, nothing

CONFIG = StreamConfig()


def dial(seed: int = 1, **options: bool) -> tuple[Connection, Segment]:
    connection = Connection.dial(CONFIG, 0.0, random.Random(seed), **options)
    (syn,) = connection.transmit(0.0)
    return connection, syn


def accept(syn: Segment, seed: int = 2, config: StreamConfig = CONFIG) -> Connection:
    return Connection.accept(config, 0.0, random.Random(seed), syn)


def request_times(connection: Connection, switch_after: int | None = None) -> list[float]:
    """@return: when requests leave, and last when the dial fails."""
    now, times = 0.0, [0.0]
    while not any(isinstance(event, Closed) for event in connection.take_events()):
        if switch_after == len(times):
            switch_after = None
            connection.path_switched(now)
        due = connection.deadline()
        assert due is not None
        now = due
        connection.wake(now)
        if connection.transmit(now):
            times.append(now)
    return [*times, now]


def test_both_ends_choose_numbers_that_nobody_can_guess() -> None:
    numbers = {dial(seed)[1].sequence for seed in range(50)}
    assert len(numbers) == 50
    assert len({accept(dial()[1], seed).transmit(0.0)[0].sequence for seed in range(50)}) == 50


def test_the_handshake_is_three_packets() -> None:
    duo = Duo()
    duo.settle()
    flags = [(name, segment.flags) for name, segment in duo.log]
    assert flags == [("near", SYN), ("far", SYN | ACK), ("near", ACK)]
    assert duo.heard("near", Established) == duo.heard("far", Established) == 1
    assert duo.near.dialect == duo.far.dialect == "modern"


def test_a_request_is_a_classic_request_with_an_offer_that_the_reference_ignores() -> None:
    _, syn = dial()
    assert (syn.flags, syn.acknowledgement, syn.window) == (SYN, 0, 512)
    assert syn.payload.startswith(MAGIC)
    assert dial(offer_modern=False)[1].payload == b""


def test_the_offer_is_answered_only_to_a_dialler_that_made_one() -> None:
    connection, syn = dial(offer_modern=False)
    acceptor = accept(syn)
    (answer,) = acceptor.transmit(0.0)
    assert answer.payload == b""
    assert acceptor.dialect == "classic"
    connection.segment_received(*answer, 0.1)
    assert connection.dialect == "classic"


def test_an_answer_without_an_offer_makes_the_connection_classic() -> None:
    """That is what a reference node says."""
    connection, syn = dial()
    connection.segment_received(SYN | ACK, 0, (syn.sequence + 1) & 0xFFFFFFFF, 512, b"", 0.1)
    assert connection.dialect == "classic"
    (third,) = connection.transmit(0.1)
    assert third == Segment(ACK, (syn.sequence + 1) & 0xFFFFFFFF, 1, 512, b"")


@given(garbage=st.binary(max_size=60))
def test_garbage_in_a_request_makes_the_connection_classic(garbage: bytes) -> None:
    _, syn = dial()
    assert accept(syn._replace(payload=garbage)).dialect == "classic"


def test_who_does_not_want_the_modern_dialect_neither_offers_nor_answers_it() -> None:
    plain = StreamConfig(offer_modern=False)
    connection = Connection.dial(plain, 0.0, random.Random(1))
    assert connection.transmit(0.0)[0].payload == b""
    _, syn = dial()
    assert accept(syn, config=plain).transmit(0.0)[0].payload == b""


def test_requests_are_repeated_on_the_golden_schedule() -> None:
    direct = golden("stream_rules")["syn_schedule"]["direct_only"]
    times = request_times(dial()[0])
    assert times[:-1] == direct["syn_at_s"]
    assert times[-1] == direct["timeout_at_s"]


def test_requests_through_the_relay_are_repeated_on_the_golden_schedule() -> None:
    rule = golden("stream_rules")["syn_schedule"]["with_beacon"]
    connection, _ = dial()
    times = request_times(connection, switch_after=4)
    assert times[:-1] == rule["direct_at_s"] + rule["relay_at_s"]
    assert times[-1] == rule["timeout_at_s"]
    assert connection.syn_transmissions == 7


def test_a_dial_that_nobody_answers_fails_as_such() -> None:
    duo = Duo()
    duo.sleep(60.0, nothing)
    closed = duo.closed("near")
    assert closed == Closed(CloseCause.TIMEOUT, "dial timeout")
    assert duo.near.deadline() is None


def test_a_refusal_ends_the_dial() -> None:
    connection, _ = dial()
    connection.segment_received(RST, 0, 0, 0, b"", 0.1)
    assert connection.take_events() == [Closed(CloseCause.REFUSED, "connection refused")]
    assert connection.transmit(0.2) == []


def test_a_reset_for_another_request_is_no_refusal() -> None:
    connection, syn = dial()
    connection.segment_received(RST | ACK, 0, (syn.sequence + 77) & 0xFFFFFFFF, 0, b"", 0.1)
    assert connection.state == "SYN_SENT"


def test_a_reset_may_follow_the_answer_at_once() -> None:
    """The reference does that when its accept queue is full."""
    connection, syn = dial()
    connection.segment_received(SYN | ACK, 0, (syn.sequence + 1) & 0xFFFFFFFF, 512, b"", 0.1)
    connection.segment_received(RST, 0, 0, 0, b"", 0.1)
    events = connection.take_events()
    assert events[0] == Established()
    assert isinstance(events[1], Closed) and events[1].cause is CloseCause.RESET


def test_a_repeated_request_gets_the_same_numbers_again() -> None:
    """Also later, when both sides have sent: the reference's numbers move, ours do not."""
    duo = Duo(modern=False).open()
    duo.near.write(b"some bytes")
    duo.far.write(b"others")
    duo.settle()
    first = [segment for name, segment in duo.log if segment.flags == SYN]
    assert not first
    syn = Segment(SYN, (duo.near._own_number) & 0xFFFFFFFF, 0, 512, b"")
    duo.log.clear()
    duo.far.segment_received(*syn, duo.now)
    duo.step()
    (answer,) = [segment for segment in duo.sent("far") if segment.flags & SYN]
    assert answer.sequence == duo.far._own_number
    assert answer.acknowledgement == (syn.sequence + 1) & 0xFFFFFFFF
    assert duo.near.state == "ESTABLISHED"
    assert duo.sent("near") or duo.step()  # and the dialler acknowledges it


def test_a_repeated_answer_is_acknowledged() -> None:
    """Our third packet may have been lost; the reference itself never does this."""
    duo = Duo()
    duo.settle(to_far=lambda segment: segment.flags == SYN)
    (answer,) = [segment for segment in duo.sent("far") if segment.flags & SYN]
    duo.log.clear()
    duo.near.segment_received(*answer, duo.now)
    duo.step()
    assert [segment.flags for segment in duo.sent("near")] == [ACK]


@pytest.mark.parametrize("modern", [True, False])
def test_a_request_with_another_number_is_a_new_connection(modern: bool) -> None:
    duo = Duo(modern=modern).open()
    own = duo.near._own_number
    assert not duo.far.is_new_syn(own, duo.now)
    assert duo.far.is_new_syn(own + 1, duo.now)


def test_the_same_number_much_later_is_a_new_connection_too() -> None:
    """A reference node begins with 0 every time, and with the same port after a restart."""
    duo = Duo(modern=False).open()
    own = duo.near._own_number
    assert not duo.far.is_new_syn(own, duo.now + 1.0)
    assert duo.far.is_new_syn(own, duo.now + 10.0)
    duo.far.segment_received(SYN, own, 0, 512, b"", duo.now + 10.0)
    (closed,) = duo.far.take_events()
    assert isinstance(closed, Closed) and closed.reason == "the peer has restarted"


def test_an_answer_that_acknowledges_the_past_is_reset_before_asking_again() -> None:
    connection, syn = dial()
    connection.segment_received(SYN | ACK, 0, 999, 512, b"", 0.05)
    assert connection.transmit(0.05) == [Segment(RST, 0, 0, 0, b"")]
    due = connection.deadline()
    assert due is not None and 0.05 < due < 1.0  # the reset has a little time to arrive first
    connection.wake(due)
    (again,) = connection.transmit(due)
    assert (again.flags, again.sequence) == (SYN, syn.sequence)
    assert connection.state == "SYN_SENT"


def test_data_that_comes_before_the_answer_makes_us_ask_again_at_once() -> None:
    connection, syn = dial()
    number = (syn.sequence + 1) & 0xFFFFFFFF
    connection.segment_received(ACK, 1, number, 512, b"early", 0.3)
    (again,) = connection.transmit(0.3)
    assert again.flags == SYN
    connection.segment_received(ACK, 6, number, 512, b"more", 0.31)
    assert connection.transmit(0.31) == []  # not for every packet
    assert connection.deadline() == 1.0  # and the schedule has not moved


def test_a_moved_answer_of_a_reference_node_does_not_skip_what_it_sent() -> None:
    """It repeats its answer with the number of the last byte it sent; it began with 0."""
    connection, syn = dial()
    number = (syn.sequence + 1) & 0xFFFFFFFF
    connection.segment_received(SYN | ACK, 40_960, number, 512, b"", 0.1)
    connection.segment_received(ACK, 1, number, 512, b"first", 0.1)
    assert connection.take_received() == [b"first"]


@given(number=st.integers(0, 0xFFFFFFFF))
def test_our_own_numbers_are_never_taken_for_moved_ones(number: int) -> None:
    chosen = initial_number(number)
    assert 0 <= chosen <= 0xFFFFFFFF
    assert true_number(chosen) == chosen
    assert true_number(number) in (0, number)
    assert true_number(REFERENCE_AHEAD) == 0


def test_a_fin_that_overtakes_the_answer_is_remembered() -> None:
    connection, syn = dial()
    number = (syn.sequence + 1) & 0xFFFFFFFF
    connection.segment_received(FIN, 6, 0, 0, b"", 0.1)
    connection.segment_received(SYN | ACK, 0, number, 512, b"", 0.1)
    connection.segment_received(ACK, 1, number, 512, b"hello", 0.1)
    connection.take_events()
    assert connection.take_received() == [b"hello"]
    assert connection.state == "TIME_WAIT"


def test_what_is_written_before_the_answer_leaves_with_the_third_packet() -> None:
    connection, syn = dial()
    connection.write(b"request")
    connection.close_write()
    assert connection.transmit(0.1) == []
    connection.segment_received(SYN | ACK, 0, (syn.sequence + 1) & 0xFFFFFFFF, 512, b"", 0.1)
    (data,) = connection.transmit(0.1)
    assert (data.flags, data.payload) == (ACK, b"request")


def test_a_dial_that_is_aborted_is_taken_back_at_the_peer() -> None:
    connection, _ = dial()
    connection.abort()
    assert connection.take_events() == [Closed(CloseCause.ABORTED, "aborted")]
    assert connection.transmit(0.1) == [Segment(RST, 0, 0, 0, b"")]
    assert connection.deadline() is None


def test_a_request_with_odd_flags_is_none_of_an_open_connections_business() -> None:
    duo = Duo().open()
    for flags in range(16):
        if flags & (SYN | ACK) == SYN:
            duo.near.segment_received(flags, 5, 5, 5, b"", duo.now)
    assert duo.near.state == "ESTABLISHED"
