"""How long suspicions last."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skills.presence.detection.suspicion import (
    CONFIRMATIONS,
    CREDIT,
    LONGEST,
    Suspicion,
    duration,
    shortest,
    silent_since,
    witnesses,
)


@pytest.mark.parametrize(
    ("members", "period", "seconds"),
    [(0, 1.0, 4.0), (1, 1.0, 4.0), (10, 1.0, 4.0), (100, 2.0, 16.0), (1_000, 10.0, 120.0)],
)
def test_shortest_grows_with_the_logarithm(members: int, period: float, seconds: float) -> None:
    assert shortest(members, period) == pytest.approx(seconds)


def test_confirmations_shorten_it_the_first_most() -> None:
    lasts = [duration(count, 8.0) for count in range(4)]
    assert lasts[0] == LONGEST * 8.0
    assert lasts[CONFIRMATIONS] == lasts[3] == 8.0
    assert lasts[0] - lasts[1] > lasts[1] - lasts[2] > 0


def test_silence_before_the_probe_counts_up_to_a_limit() -> None:
    assert silent_since(100.0, 99.9, 1.0, 8.0) == 100.0  # just heard: from the probe on
    assert silent_since(100.0, 97.5, 1.0, 8.0) == 98.5  # one period after its last sign
    assert silent_since(100.0, 10.0, 1.0, 8.0) == 100.0 - CREDIT * 8.0
    assert silent_since(100.0, float("-inf"), 1.0, 8.0) == 100.0 - CREDIT * 8.0


@given(
    probed=st.floats(0, 1e6),
    ago=st.floats(0, 1e5),
    period=st.sampled_from([1.0, 2.0, 10.0]),
    members=st.integers(1, 10_000),
)
@settings(deadline=None)
def test_a_suspicion_never_ends_before_most_of_its_time_after_the_probe(
    probed: float, ago: float, period: float, members: int
) -> None:
    least = shortest(members, period)
    suspicion = Suspicion(probed, silent_since(probed, probed - ago, period, least))
    for by in range(5):
        suspicion.accuse(by)
    assert suspicion.expiry(least) >= probed + (1 - CREDIT) * least - 1e-6


def test_an_accuser_counts_once_and_not_too_many_do() -> None:
    suspicion = Suspicion(0.0, 0.0)
    assert suspicion.accuse(1) and not suspicion.accuse(1)
    assert suspicion.accuse(2) and suspicion.accuse(3)
    assert not suspicion.accuse(4)
    assert suspicion.accusers == [1, 2, 3]
    assert suspicion.expiry(8.0) == 8.0


def test_a_small_swarm_waits_for_no_more_accusers_than_it_has() -> None:
    """Three members leave one other witness, two leave none; six times as long would be idle."""
    assert [witnesses(members) for members in (1, 2, 3, 4, 100)] == [0, 0, 1, 2, 2]
    assert duration(0, 4.0, wanted=0) == 4.0
    assert duration(0, 4.0, wanted=1) == 24.0
    assert duration(1, 4.0, wanted=1) == duration(2, 4.0, wanted=2) == 4.0
    assert 4.0 < duration(1, 4.0, wanted=2) < 24.0
