"""Sequence arithmetic, against the golden vectors and against itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot.stream.sequence import HALF, MASK, after, after_or_equal, unwrap
from tests.golden import golden


@pytest.mark.parametrize("case", golden("stream_rules")["sequence_compare"], ids=str)
def test_the_golden_comparisons_hold(case: dict[str, int]) -> None:
    assert after(case["a"], case["b"]) == case["a_after_b"]
    assert after_or_equal(case["a"], case["b"]) == case["a_after_or_equal_b"]


@given(near=st.integers(0, 1 << 40), distance=st.integers(-HALF, HALF - 1))
def test_a_number_off_the_wire_finds_back_to_its_position(near: int, distance: int) -> None:
    assert unwrap((near + distance) & MASK, near) == near + distance


@given(a=st.integers(0, MASK), b=st.integers(0, MASK))
def test_of_two_numbers_at_most_one_is_after_the_other(a: int, b: int) -> None:
    assert not (after(a, b) and after(b, a))
    assert after(a, b) <= after_or_equal(a, b)
