"""Reassembly: overlaps, gaps, floods, and what a selective acknowledgement says about them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot.stream.receiving import REORDER_LIMIT, WAITING_LIMIT, Receiver
from pilot.stream.sequence import MASK
from pilot.wire.sack import encode_sack
from tests.golden import golden

TEXT = bytes(range(256)) * 2

#: Golden cases in which the reference misbehaves, and where we differ on purpose.
DEFECTS = {
    "old segment ignored, partially new data ignored",
    "overlapping out-of-order segments merged only in report",
    "same start, longer segment dropped",
    "stale buffered segment after overlap",
    "sequence wrap, gap lost from the report (non-circular compare)",
}


def cases() -> list[dict[str, Any]]:
    return [
        case
        for case in golden("sack")["receiver_block_generation"]
        if case["name"] not in DEFECTS and "steps" in case
    ]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case["name"])
def test_the_golden_blocks_are_reported(case: dict[str, Any]) -> None:
    rx = Receiver(case["expected_seq"], 1 << 20)
    for step in case["steps"]:
        rx.segment(step["arrive_seq"], bytes(step["arrive_len"]))
        assert rx.next & MASK == step["ack_after"]
        assert encode_sack(rx.blocks(4)).hex() == step["sack_payload_hex"]
        assert len(rx.early) == step["ooo_buffered"]
        assert len(rx.received) == step["delivered_queue_len"]


segments = st.lists(
    st.tuples(st.integers(0, len(TEXT) - 1), st.integers(1, 60)), min_size=1, max_size=60
)


@given(segments=segments, first=st.sampled_from((1, 0xFFFFFF80, 0xFFFFFFFF)))
def test_any_cut_of_the_bytes_gives_the_bytes(segments: list[tuple[int, int]], first: int) -> None:
    """Overlapping, repeated, shifted pieces in any order: what a set would give."""
    rx = Receiver(first, 1 << 20)
    have: set[int] = set()
    for start, size in segments:
        data = TEXT[start : start + size]
        rx.segment((first + start) & MASK, data)
        have.update(range(start, start + len(data)))
        edge = next(i for i in range(len(TEXT) + 1) if i not in have)
        assert rx.next == first + edge
        assert b"".join(rx.received) == TEXT[:edge]
        beyond = {i for i in have if i > edge}
        covered: set[int] = set()
        previous = rx.next
        for left, right in rx.ranges:
            assert previous < left < right  # sorted, apart, beyond the hole
            previous = right
            covered.update(range(left - first, right - first))
        assert covered == beyond
        stored = {p - first: d for p, d in rx.early.items()}
        assert rx.early_bytes == sum(map(len, stored.values())) == len(beyond)
        assert all(data == TEXT[p : p + len(data)] for p, data in stored.items())


def test_a_segment_in_order_is_handed_over_as_it_is() -> None:
    rx = Receiver(100, 1 << 20)
    data = b"whole"
    rx.segment(100, data)
    assert rx.received[0] is data
    assert rx.pending == 1 and not rx.ack_now


def test_units_survive_reordering() -> None:
    rx = Receiver(0, 1 << 20)
    for start, data in ((5, b"fghij"), (10, b"kl"), (0, b"abcde")):
        rx.segment(start, data)
    assert rx.take() == [b"abcde", b"fghij", b"kl"]
    assert rx.buffered == 0 and rx.room == 1 << 20


def test_a_repeated_segment_is_acknowledged_at_once_and_counted() -> None:
    rx = Receiver(0, 1 << 20)
    rx.segment(0, b"abc")
    rx.acknowledged()
    rx.segment(0, b"abc")
    assert rx.ack_now and rx.repeated_segments == 1 and rx.received == [b"abc"]


def test_what_does_not_fit_is_refused_and_acknowledged() -> None:
    rx = Receiver(0, 10)
    rx.segment(0, bytes(10))
    rx.segment(10, b"x")
    assert rx.outside == 1 and rx.ack_now and rx.next == 10
    rx.segment(30, b"y")  # beyond the window
    assert rx.outside == 2 and not rx.ranges
    rx.take()
    rx.segment(10, b"x")
    assert rx.take() == [b"x"]


def test_with_patience_a_copy_is_taken_out_of_the_reserve() -> None:
    """A sender that knows no closed window would reset the stream after eight refusals."""
    rx = Receiver(0, 10)
    rx.patience, rx.reserve = 4, 5
    rx.segment(0, bytes(10))
    for _ in range(4):
        rx.segment(10, b"abcde")
    assert rx.next == 10 and rx.outside == 4
    rx.segment(10, b"abcde")
    assert rx.next == 15
    for _ in range(20):
        rx.segment(15, b"fghij")
    assert rx.next == 15  # the reserve is used up


def test_the_store_behind_holes_is_bounded() -> None:
    rx = Receiver(0, 1 << 22)
    for index in range(REORDER_LIMIT + 50):
        rx.segment(2 + 2 * index, b"x")
    assert len(rx.early) == REORDER_LIMIT
    assert rx.outside == 50


def test_a_flood_of_crumbs_is_joined_not_hoarded() -> None:
    rx = Receiver(0, 1 << 20)
    for index in range(3 * WAITING_LIMIT):
        rx.segment(index, b"x")
    assert len(rx.received) <= WAITING_LIMIT + 1
    assert b"".join(rx.take()) == b"x" * 3 * WAITING_LIMIT


def test_a_reader_that_has_gone_costs_no_memory_and_no_window() -> None:
    rx = Receiver(0, 100)
    rx.segment(0, bytes(60))
    rx.discard()
    for index in range(10):
        rx.segment(60 + 50 * index, bytes(50))
    assert rx.received == [] and rx.room == 100 and rx.discarded == 560


def test_nothing_is_taken_beyond_the_peers_end() -> None:
    rx = Receiver(0, 1 << 20)
    rx.fin = 5
    rx.segment(3, b"defghi")
    rx.segment(7, b"hij")
    rx.segment(0, b"abc")
    assert b"".join(rx.received) == b"abcde" and rx.finished
    assert rx.outside == 1


def test_the_newest_ranges_are_reported_first_when_not_all_fit() -> None:
    rx = Receiver(0, 1 << 20)
    for index in range(1, 41):
        rx.segment(100 * index, b"x")
    rx.acknowledged()
    rx.segment(301, b"y")
    rx.segment(601, b"z")
    news = rx.news_first(5)
    assert news[:2] == [(600, 602), (300, 302)]
    assert news[2:] == [(4000, 4001), (3900, 3901), (3800, 3801)]
    assert rx.news_first(100) == rx.blocks(100)
