"""The clock: monotone, across restarts too, and put right by the swarm at a bounded rate."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skills.gossip.core.errors import BadMessage
from skills.gossip.core.hlc import (
    MAX_AHEAD,
    MAX_SAMPLES,
    SETTLING,
    HybridClock,
    format_hlc,
    hlc_at,
    hlc_time,
    parse_hlc,
    sample_offset,
)
from tests.skills.gossip.strategies import WALL, hlcs

HOUR = 3600.0


class Wall:
    """A wall clock that can be set."""

    def __init__(self, when: float = WALL) -> None:
        self.when = when

    def __call__(self) -> float:
        return self.when


walks = st.lists(
    st.one_of(
        st.tuples(st.just("stamp"), st.floats(0, 1)),
        st.tuples(st.just("pass"), st.floats(0, 1000)),
        st.tuples(st.just("jump"), st.floats(-86400, 86400)),
        st.tuples(st.just("restart"), st.floats(0, 1)),
        st.tuples(st.just("observe"), st.floats(-1000, 1000)),
    ),
    max_size=40,
)


@given(walks)
@settings(deadline=None)
def test_stamps_grow_whatever_the_wall_clock_does(walk: list[tuple[str, float]]) -> None:
    """
    Jumps, observed stamps and restarts from the durable bound never make one come back.

    Observed stamps count until the restart: what was kept of them is observed again after it.
    """
    wall = Wall()
    clock = HybridClock(wall)
    stored = own = last = ""
    for step, amount in walk:
        if step in ("pass", "jump"):
            wall.when = max(0.0, wall.when + amount)
        elif step == "restart":
            clock = HybridClock(wall, floor=stored)
            last = own
        elif step == "observe":
            other = hlc_at(max(0.0, wall.when + amount))
            if clock.observe(other):
                last = max(last, other)
        if step == "stamp":
            stamp = clock.stamp()
            stored = clock.take_reserve() or stored
            assert stamp > last
            assert stamp <= stored == clock.reserved
            assert clock.take_reserve() is None
            own = last = stamp


def test_observed_stamps_are_exceeded() -> None:
    """What is written after something was seen is newer than it."""
    clock = HybridClock(Wall())
    seen = hlc_at(WALL + 50)
    assert clock.observe(seen)
    assert clock.stamp() > seen


def test_the_durable_bound_is_renewed_seldom() -> None:
    """A thousand writes in a second take one record on disk, not a thousand."""
    wall = Wall()
    clock = HybridClock(wall)
    renewals = 0
    for _ in range(1000):
        wall.when += 0.001
        clock.stamp()
        renewals += clock.take_reserve() is not None
    assert renewals == 1


def test_stamps_follow_the_wall_clock() -> None:
    """They are readable as times, to the millisecond."""
    clock = HybridClock(Wall())
    assert abs(hlc_time(clock.stamp()) - WALL) < 0.002
    assert clock.reading() == hlc_at(WALL)


def test_a_stamp_too_far_ahead_does_not_touch_the_clock() -> None:
    """Not even by one."""
    clock = HybridClock(Wall())
    first = clock.stamp()
    assert not clock.observe("f" * 16)
    assert clock.is_future(hlc_at(WALL + MAX_AHEAD + 0.01))
    assert not clock.is_future(hlc_at(WALL + MAX_AHEAD))
    assert parse_hlc(clock.stamp()) == parse_hlc(first) + 1


@given(hlcs)
@settings(deadline=None)
def test_observing_is_total(hlc: str) -> None:
    """Every stamp is either believed and exceeded, or left alone."""
    clock = HybridClock(Wall())
    believed = clock.observe(hlc)
    assert believed != clock.is_future(hlc)
    assert not believed or clock.stamp() > hlc
    assert format_hlc(parse_hlc(hlc)) == hlc


@pytest.mark.parametrize("text", ["", "0", "g" * 16, "A" * 16, "0" * 17, "0" * 15 + "\n"])
def test_what_is_no_stamp_is_refused(text: str) -> None:
    """By the reader and as a floor."""
    with pytest.raises(BadMessage):
        parse_hlc(text)
    with pytest.raises(BadMessage):
        HybridClock(Wall(), floor=text or "x")


def test_a_wrong_clock_is_put_right_at_once_by_three_peers() -> None:
    """Two are not enough; the first set of three is applied whole."""
    wall = Wall(WALL + HOUR)
    clock = HybridClock(wall)
    clock.add_sample(1, -HOUR, 0.0)
    clock.add_sample(2, -HOUR, 0.0)
    clock.add_sample(2, -HOUR, 0.1)
    assert clock.corrected() == WALL + HOUR
    assert not clock.settled
    clock.add_sample(3, -HOUR, 0.2)
    assert clock.corrected() == WALL
    assert clock.settled


def test_one_liar_among_three_is_outvoted() -> None:
    """The median of two honest peers and a liar is honest."""
    clock = HybridClock(Wall())
    for peer, offset in ((1, 0.01), (2, 1e6), (3, 0.02)):
        clock.add_sample(peer, offset, 0.0)
    assert clock.offset == 0.02


def test_later_corrections_are_slewed() -> None:
    """A lying majority moves the clock by 60 s in an hour, however often it speaks."""
    wall = Wall()
    clock = HybridClock(wall)
    for peer in range(3):
        clock.add_sample(peer, 0.0, 0.0)
    wall.when += SETTLING
    clock.add_sample(0, 0.0, SETTLING)
    for second in range(1, 3601):
        wall.when += 1.0
        clock.add_sample(second % 3, 1e6, SETTLING + second)
    assert 59.0 < clock.offset <= 60.001


def test_the_first_peers_may_be_the_wrong_ones() -> None:
    """Soon after the start a better majority counts at once; later it would take days."""
    clock = HybridClock(wall := Wall())
    for peer in range(3):
        clock.add_sample(peer, HOUR, 0.0)
    assert clock.offset == HOUR
    wall.when += 30.0
    for peer in range(3, 10):
        clock.add_sample(peer, 0.0, 30.0)
    assert clock.offset == 0.0


def test_a_long_silence_earns_no_larger_step() -> None:
    """After a day without samples the next step is no more than 60 s."""
    wall = Wall()
    clock = HybridClock(wall)
    for peer in range(3):
        clock.add_sample(peer, 0.0, 0.0)
    wall.when += 86400.0
    for peer in range(3):
        clock.add_sample(peer, 1e6, 86400.0)
    assert clock.offset == 60.0


def test_a_wall_clock_that_was_set_is_corrected_at_once_again() -> None:
    """The node's own clock jumped back an hour, or it slept: the peers decide anew."""
    wall = Wall()
    clock = HybridClock(wall)
    for peer in range(3):
        clock.add_sample(peer, 0.0, 0.0)
    wall.when += 10.0 - HOUR
    for peer in range(3):
        clock.add_sample(peer, HOUR, 10.0)
    assert clock.corrected() == WALL + 10.0


def test_samples_are_bounded_and_age() -> None:
    """Thousands of peers cost 64 entries, and old samples do not vote."""
    clock = HybridClock(wall := Wall())
    for peer in range(1000):
        clock.add_sample(peer, 0.0, 0.0)
    assert len(clock._samples) == MAX_SAMPLES
    wall.when += 2 * HOUR
    clock.add_sample(1, 5.0, 2 * HOUR)
    assert clock.offset == 0.0
    assert len(clock._samples) == 1


def test_an_even_number_of_peers_does_not_make_the_clock_wander() -> None:
    """Between the two in the middle every offset is as good as another."""
    clock = HybridClock(Wall())
    for peer, offset in enumerate((-2.0, -1.0, 1.0)):
        clock.add_sample(peer, offset, 0.0)
    assert clock.offset == -1.0
    clock.add_sample(3, 2.0, 3600.0 * 0.5)
    assert clock.offset == -1.0


def test_a_sample_of_a_question_and_its_answer() -> None:
    """The time on the way cancels out when both ways take equally long."""
    assert sample_offset(WALL, WALL + 0.2, hlc_at(WALL + 5.1)) == pytest.approx(5.0, abs=0.002)
