"""Each counter is good once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot.crypto.replay import ReplayWindow
from tests.golden import golden

REFERENCE_SIZE = 256


def take(window: ReplayWindow, counter: int) -> bool:
    """@return: whether an authentic frame with this counter is accepted."""
    if not window.accepts(counter):
        return False
    window.mark(counter)
    return True


@pytest.mark.parametrize("case", golden("tunnel")["replay_window"], ids=lambda case: case["name"])
def test_golden_sequences(case: dict[str, Any]) -> None:
    """As the reference with its size, but for its quirk about counter 0."""
    window = ReplayWindow(REFERENCE_SIZE)
    for step in case["steps"]:
        expected = step.get("correct_accepted", step["accepted"])
        assert take(window, int(step["counter"])) is expected, step
        assert window.expected == int(step["highest_after"]) + 1


@given(
    st.integers(1, 70),
    st.lists(st.one_of(st.integers(0, 300), st.integers(2**64 - 40, 2**64 - 1)), max_size=80),
)
def test_equals_a_set_of_all_counters_seen(size: int, counters: list[int]) -> None:
    window, seen = ReplayWindow(size), set[int]()
    for counter in counters:
        highest = max(seen, default=0)
        assert take(window, counter) is (counter not in seen and counter > highest - size)
        if counter > highest - size:
            seen.add(counter)


def test_a_frame_that_is_only_looked_at_changes_nothing() -> None:
    """Forged frames are looked at, never marked."""
    window = ReplayWindow()
    take(window, 5)
    assert window.accepts(2**64 - 1)
    assert window.accepts(6)
    assert window.accepts(4)
    assert not window.accepts(5)


def test_memory_stays_small_whatever_the_gaps() -> None:
    window = ReplayWindow(64)
    for counter in range(0, 10**9, 10**6 + 7):
        take(window, counter)
        assert window._missing.bit_length() <= 64
