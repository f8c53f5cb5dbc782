"""Round-trip estimation, to the nanosecond where the reference can be compared."""

from __future__ import annotations

from typing import Any

import pytest

from pilot.stream.rtt import MIN_RTT_LIFE, NANO, RttEstimator
from tests.golden import golden


@pytest.mark.parametrize("case", golden("stream_rules")["rto"], ids=lambda case: case["name"])
def test_the_golden_timeouts_hold(case: dict[str, Any]) -> None:
    rtt = RttEstimator()
    for step in case["steps"]:
        rtt.sample_ns(step["sample_ns"])
        assert (rtt.srtt_ns, rtt.rttvar_ns, rtt.rto_ns) == (
            step["srtt_ns"],
            step["rttvar_ns"],
            step["rto_ns"],
        )


def test_before_the_first_sample_a_second_is_waited() -> None:
    assert RttEstimator().rto == 1.0


def test_seconds_follow_the_nanoseconds() -> None:
    rtt = RttEstimator()
    rtt.sample(0.1, 5.0)
    assert rtt.srtt == pytest.approx(0.1)
    assert rtt.rto == pytest.approx(rtt.rto_ns / NANO)


def test_a_time_that_ran_backwards_is_no_sample() -> None:
    rtt = RttEstimator()
    rtt.sample(-0.001, 5.0)
    assert rtt.srtt_ns == 0


def test_the_smallest_round_trip_is_forgotten_when_the_path_has_become_longer() -> None:
    rtt = RttEstimator()
    now = 0.0
    rtt.sample(0.01, now)
    while now < 3 * MIN_RTT_LIFE:
        now += 1.0
        rtt.sample(0.05, now)
    assert rtt.smallest == 0.05
