"""The congestion window: how it grows, and which losses make it shrink."""

from __future__ import annotations

from itertools import pairwise

from pilot.stream.congestion import BETA, Congestion

SEGMENT = 1000
RTT = 0.1


def fresh(limit: int = 10_000_000) -> Congestion:
    return Congestion(10 * SEGMENT, limit, SEGMENT)


def one_round(congestion: Congestion, now: float, rtt: float = RTT) -> None:
    """A full window is sent and acknowledged."""
    window = congestion.window
    for _ in range(max(1, window // SEGMENT)):
        congestion.sampled(rtt)
        congestion.acked(SEGMENT, now, rtt, True)
    congestion.round_ended()


def test_slow_start_doubles_the_window_every_round() -> None:
    congestion = fresh()
    one_round(congestion, 0.0)
    assert congestion.window == 20 * SEGMENT


def test_a_window_that_nobody_uses_does_not_grow() -> None:
    congestion = fresh()
    congestion.acked(5000, 0.0, RTT, False)
    assert congestion.window == 10 * SEGMENT


def test_the_window_starts_with_two_segments_however_large_they_are() -> None:
    congestion = Congestion(40_960, 8_000_000, 65_000)
    assert congestion.window == 130_000


def test_the_limit_holds() -> None:
    congestion = fresh(limit=30 * SEGMENT)
    for _ in range(10):
        one_round(congestion, 0.0)
    assert congestion.window == 30 * SEGMENT


def test_slow_start_ends_when_a_queue_builds_up() -> None:
    congestion = fresh()
    for turn, rtt in enumerate((0.1, 0.1, 0.1, 0.13)):
        one_round(congestion, turn * 0.1, rtt)
    assert congestion.threshold == congestion.window
    before = congestion.window
    one_round(congestion, 0.5, 0.13)
    assert congestion.window < before * 1.3


def test_congestion_takes_a_third_and_cubic_returns_to_the_peak() -> None:
    congestion = fresh()
    for turn in range(5):
        one_round(congestion, turn * RTT)
    peak = congestion.window
    congestion.slow_down()
    assert congestion.window == congestion.threshold == int(peak * BETA)
    now, windows = 1.0, []
    while congestion.window < peak and now < 60:
        one_round(congestion, now)
        windows.append(congestion.window)
        now += RTT
    assert now < 60
    assert windows == sorted(windows)
    steps = [b - a for a, b in pairwise(windows)]
    assert steps[0] > steps[-2]  # concave: quick at first, careful near the peak


def test_a_second_event_before_the_peak_gives_way() -> None:
    congestion = fresh()
    for turn in range(5):
        one_round(congestion, turn * RTT)
    congestion.slow_down()
    congestion.slow_down()
    first_peak = congestion.window / BETA / BETA
    now = 1.0
    for _ in range(20):
        one_round(congestion, now)
        now += RTT
    assert congestion.window < first_peak


def test_stray_losses_without_a_queue_are_no_congestion() -> None:
    congestion = fresh()
    for _ in range(4):
        one_round(congestion, 0.0)
    congestion.sampled(RTT)
    congestion.acked(95 * SEGMENT, 0.0, RTT, True)
    congestion.lost(5 * SEGMENT)
    assert not congestion.is_congestion(RTT)


def test_losses_with_a_queue_are_congestion() -> None:
    congestion = fresh()
    congestion.sampled(RTT * 1.5)
    congestion.lost(SEGMENT)
    assert congestion.is_congestion(RTT)


def test_much_of_a_window_lost_is_congestion_even_without_a_queue() -> None:
    congestion = fresh()
    congestion.sampled(RTT)
    congestion.acked(30 * SEGMENT, 0.0, RTT, True)
    congestion.lost(10 * SEGMENT)
    assert congestion.is_congestion(RTT)


def test_with_nothing_measured_a_loss_counts() -> None:
    congestion = fresh()
    congestion.lost(SEGMENT)
    assert congestion.is_congestion(float("inf"))


def test_a_timeout_shrinks_the_window_and_a_second_one_to_the_least() -> None:
    congestion = fresh()
    for _ in range(4):
        one_round(congestion, 0.0)
    congestion.timed_out(False)
    assert congestion.window == 5 * SEGMENT
    congestion.timed_out(True)
    assert congestion.window == 2 * SEGMENT


def test_an_event_that_was_a_mistake_is_taken_back_once() -> None:
    congestion = fresh()
    for _ in range(4):
        one_round(congestion, 0.0)
    before, threshold = congestion.window, congestion.threshold
    congestion.slow_down()
    congestion.undo()
    assert (congestion.window, congestion.threshold) == (before, threshold)
    congestion.window //= 2
    congestion.undo()
    assert congestion.window == before // 2


def test_after_a_rest_the_window_is_halved_not_forgotten() -> None:
    congestion = fresh()
    for _ in range(5):
        one_round(congestion, 0.0)
    before = congestion.window
    congestion.rested()
    assert congestion.window == before // 2
    for _ in range(10):
        congestion.rested()
    assert congestion.window == 10 * SEGMENT
