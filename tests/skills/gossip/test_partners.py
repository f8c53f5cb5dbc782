"""Whom to talk to next."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from skills.gossip.core.partners import RoundRobin, View, sample


def anybody(_node: int) -> bool:
    return True


def test_a_round_meets_everybody_once():
    turns = RoundRobin(Random(1))
    turns.replace(tuple(range(50)), ())
    for _ in range(3):
        assert sorted(turns.next(anybody) for _ in range(50)) == list(range(50))


def test_rounds_differ_in_order():
    turns = RoundRobin(Random(1))
    turns.replace(tuple(range(50)), ())
    first = [turns.next(anybody) for _ in range(50)]
    assert [turns.next(anybody) for _ in range(50)] != first


def test_those_who_cannot_be_used_lose_their_turn():
    turns = RoundRobin(Random(1))
    turns.replace((1, 2, 3), ())
    assert {turns.next(lambda node: node == 2) for _ in range(5)} == {2}
    assert turns.next(lambda node: False) is None


def test_nobody_is_nobody():
    assert RoundRobin(Random(1)).next(anybody) is None


def test_a_newcomer_is_met_in_the_round_under_way():
    turns = RoundRobin(Random(1))
    turns.replace(tuple(range(10)), ())
    for _ in range(5):
        turns.next(anybody)
    turns.replace(tuple(range(11)), (10,))
    assert 10 in [turns.next(anybody) for _ in range(6)]


@given(
    seed=st.integers(0, 1000),
    size=st.integers(0, 40),
    count=st.integers(1, 8),
    barred=st.sets(st.integers(0, 40)),
)
@settings(deadline=None)
def test_a_sample_is_different_usable_members(seed, size, count, barred):
    source = tuple(range(size))
    chosen = sample(Random(seed), source, count, lambda node: node not in barred)
    assert len(set(chosen)) == len(chosen) == min(count, len(set(source) - barred))
    assert not set(chosen) & barred


def test_a_sample_is_fair():
    rng, seen = Random(3), Counter()
    for _ in range(4000):
        seen.update(sample(rng, tuple(range(20)), 3, lambda node: node != 0))
    assert set(seen) == set(range(1, 20))
    assert max(seen.values()) < 1.25 * min(seen.values())


def test_a_view_stays_within_its_bounds():
    view = View(Random(1), 4, 8)
    for node in range(100):
        view.know(node)
        if view.short:
            (candidate,) = sample(Random(node), view.passive, 1, anybody)
            view.befriend(candidate)
    assert len(view.active) == 4 and len(view.passive) == 8
    assert not set(view.active) & set(view.passive)


def test_a_neighbour_let_go_is_kept_in_reserve():
    view = View(Random(1), 4, 8)
    for node in range(4):
        view.befriend(node)
    assert not view.short
    node = view.evict()
    assert node in view.passive and view.short
    view.forget(node)
    assert node not in view.passive


def test_a_view_shows_a_few_of_each_kind():
    view = View(Random(1), 8, 64)
    for node in range(40):
        view.know(node)
    for node in range(8):
        view.befriend(node)
    shown = view.shown()
    assert len(shown) == 7 and len(set(shown) & set(range(8))) == 3
