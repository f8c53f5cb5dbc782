"""The segments under way: what an acknowledgement settles, and what counts as lost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot.stream.flight import ARRIVED, IN_FLIGHT, LOST, Flight
from tests.golden import golden

RTT = 0.1


def launch(flight: Flight, sizes: list[int], now: float) -> None:
    """Send segments of these sizes."""
    position = flight.next
    starts = []
    for size in sizes:
        starts.append(position)
        position += size
    flight.add([bytes(size) for size in sizes], starts, position, now)


def flying(*sizes: int, first: int = 1) -> Flight:
    flight = Flight(first)
    launch(flight, list(sizes), 0.0)
    return flight


def check(flight: Flight) -> None:
    """The books balance."""
    count = len(flight.starts)
    assert count == len(flight.payloads) == len(flight.sent)
    assert count == len(flight.marks) == len(flight.tries)
    ends = [*flight.starts[1:], flight.next][:count]
    sizes = [end - start for start, end in zip(flight.starts, ends, strict=True)]
    by_mark = dict.fromkeys((IN_FLIGHT, ARRIVED, LOST), 0)
    for size, mark in zip(sizes, flight.marks, strict=True):
        by_mark[mark] += size
    assert flight.pipe == by_mark[IN_FLIGHT]
    assert flight.arrived == flight.marks.count(ARRIVED)
    assert flight.lost == flight.marks.count(LOST)
    assert flight.repeated == sum(tries > 1 for tries in flight.tries)


def test_a_cumulative_acknowledgement_settles_what_it_covers_whole() -> None:
    flight = flying(100, 100, 100)
    assert flight.acknowledge(201, RTT, None, RTT) == 2
    assert (flight.first, flight.starts, flight.pipe) == (201, [201], 100)
    assert flight.delivered == 200
    assert flight.sample == RTT
    assert flight.acknowledge(250, RTT, None, RTT) == 0  # covered in part: stays whole
    assert flight.starts == [201] and flight.first == 250
    assert flight.acknowledge(301, RTT, None, RTT) == 1
    check(flight)


def test_repeated_segments_give_no_sample_of_their_own() -> None:
    flight = flying(100)
    flight.repeat(0, 1.0)
    flight.acknowledge(101, 1.1, None, RTT)
    assert flight.sample is None
    check(flight)


def test_three_segments_that_arrived_prove_the_hole_before_them() -> None:
    flight = flying(*[100] * 5)
    flight.mark(101, 201, RTT, None, RTT)
    assert flight.find_losses(RTT, RTT, RTT, False) == 0
    assert flight.reorder_due == pytest.approx(RTT * 1.25)
    flight.mark(101, 401, RTT, None, RTT)
    assert flight.find_losses(RTT, RTT, RTT, False) == 100
    assert flight.marks[0] == LOST and flight.marks[4] == IN_FLIGHT
    check(flight)


def test_a_lone_segment_that_arrived_gives_the_hole_a_little_time() -> None:
    flight = flying(100, 100)
    flight.mark(101, 201, RTT, None, RTT)
    assert flight.find_losses(RTT, RTT, RTT, False) == 0
    assert flight.find_losses(RTT * 1.3, RTT, RTT, False) == 100
    check(flight)


def test_on_a_path_that_changes_the_order_losses_are_believed_later() -> None:
    flight = flying(*[100] * 6)
    flight.mark(201, 301, RTT, None, RTT)
    flight.mark(101, 201, RTT, None, RTT)  # it was behind: the path changes the order
    flight.mark(301, 601, RTT, None, RTT)
    assert flight.find_losses(RTT, RTT, RTT, False) == 0
    assert flight.find_losses(RTT * 1.3, RTT, RTT, False) == 100


def test_a_lost_repetition_is_noticed_by_what_was_sent_after_it() -> None:
    flight = flying(*[100] * 5)
    flight.mark(101, 501, RTT, None, RTT)
    flight.find_losses(RTT, RTT, RTT, False)
    flight.repeat(0, RTT)
    launch(flight, [100, 100, 100], RTT + 0.01)
    flight.mark(501, 801, 2 * RTT + 0.01, None, RTT)
    assert flight.find_losses(2 * RTT + 0.01, RTT, RTT, True) == 100
    assert flight.marks[0] == LOST
    check(flight)


def test_an_answer_that_came_too_soon_is_no_answer_to_the_repetition() -> None:
    """The original was late; what left between it and the repetition is not lost by that."""
    flight = flying(100, 100)
    flight.repeat(0, 5.0)
    flight.acknowledge(101, 5.01, None, RTT)
    assert flight.find_losses(5.01, RTT, RTT, True) == 0


def test_an_echo_unmasks_a_needless_repetition() -> None:
    flight = flying(100, 100)
    flight.repeat(0, 5.0)
    flight.acknowledge(101, 5.2, 0.0, RTT)
    assert flight.spurious == 1
    flight.repeat(0, 6.0)
    flight.acknowledge(201, 6.1, 6.0, RTT)
    assert flight.spurious == 1


def test_after_a_timeout_everything_that_has_not_arrived_is_lost() -> None:
    flight = flying(*[100] * 4)
    flight.mark(201, 301, RTT, None, RTT)
    flight.lose_all()
    assert bytes(flight.marks) == bytes([LOST, LOST, ARRIVED, LOST])
    assert flight.pipe == 0
    check(flight)
    flight.acknowledge(401, 1.0, None, RTT)  # it had all arrived after all
    assert flight.delivered == 400 and flight.lost == 0
    check(flight)


def test_a_fin_takes_one_number() -> None:
    flight = flying(100)
    flight.add_fin(0.0)
    assert flight.next == 102 and flight.payloads[-1] is None
    flight.acknowledge(101, RTT, None, RTT)
    assert flight.starts == [101]
    flight.acknowledge(102, RTT, None, RTT)
    assert not flight.starts
    check(flight)


def test_a_segment_can_be_sent_very_often() -> None:
    flight = flying(10)
    for attempt in range(600):
        flight.repeat(0, float(attempt))
    check(flight)


@pytest.mark.parametrize("case", golden("sack")["sender_marking"], ids=lambda case: case["name"])
def test_the_golden_blocks_mark_what_they_cover_whole(case: dict[str, Any]) -> None:
    """The reference repeats the first unmarked segment; across the wrap it fails to mark."""
    base, size = case["base"], case["segment_len"]
    flight = flying(*[size] * case["segments"], first=base)
    for left, right in case["blocks"]:
        right = right if right > left else right + (1 << 32)
        flight.mark(left, right, RTT, None, RTT)
    unmarked = flight.marks.find(IN_FLIGHT)
    wanted = case["after_three_pure_dup_acks_retransmitted"]
    if wanted is None:
        assert unmarked < 0
    else:
        start, _, length = wanted[0].partition("+")
        assert flight.starts[unmarked] & 0xFFFFFFFF == int(start)
        assert int(length) == size
    check(flight)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 4), st.integers(1, 50)),
        st.tuples(st.just("ack"), st.integers(0, 400), st.just(0)),
        st.tuples(st.just("sack"), st.integers(0, 400), st.integers(1, 150)),
        st.tuples(st.just("judge"), st.booleans(), st.just(0)),
        st.tuples(st.just("repeat"), st.integers(0, 20), st.just(0)),
        st.tuples(st.just("timeout"), st.just(0), st.just(0)),
    ),
    max_size=40,
)


@given(steps=steps)
def test_the_books_balance_whatever_happens(steps: list[tuple[str, Any, Any]]) -> None:
    """Delivered bytes only grow, and once all is acknowledged they are what was sent."""
    flight = Flight(1)
    now = 0.0
    for what, a, b in steps:
        now += 0.03
        before = flight.delivered
        if what == "send":
            launch(flight, [b] * a, now)
        elif what == "ack":
            flight.acknowledge(min(flight.first + a, flight.next), now, None, 0.01)
        elif what == "sack":
            left = min(flight.first + 1 + a, flight.next)
            flight.mark(left, min(left + b, flight.next), now, None, 0.01)
        elif what == "judge":
            flight.find_losses(now, 0.02, 0.05, a)
        elif what == "repeat" and flight.starts:
            index = a % len(flight.starts)
            if flight.marks[index] != ARRIVED:
                flight.repeat(index, now)
        elif what == "timeout":
            flight.lose_all()
        assert flight.delivered >= before
        check(flight)
    flight.acknowledge(flight.next, now, None, 0.01)
    assert flight.delivered == flight.next - 1
    assert flight.pipe == 0 and not flight.starts
    check(flight)
