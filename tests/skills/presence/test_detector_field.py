"""Whole swarms of detectors, small and seeded: the bars of detection and of false alarms."""

from __future__ import annotations

import pytest

from skills.presence.reach import FRESH, GONE
from tests.simulation.swarm.detector_field import DetectorField, case
from tests.simulation.swarm.links import LinkModel


def test_a_death_among_ten() -> None:
    row = case(10, periods=50, deaths=24, spacing=60)
    mean, late = row.first
    assert row.false == 0
    assert mean <= 6.0 and late <= 9.0
    assert row.nearly_all <= mean + 2.0
    assert row.longest <= 1000


def test_a_death_among_a_hundred() -> None:
    row = case(100, loss=0.1, periods=20, deaths=20, spacing=4)
    mean, late = row.first
    assert row.false == 0
    assert mean <= 10.5 and late <= 13.0
    assert row.nearly_all <= mean + 2.0


def test_a_third_of_the_datagrams_lost() -> None:
    row = case(60, loss=0.3, periods=120)
    assert row.false == 0


def test_stalled_members_accuse_nobody() -> None:
    row = case(50, loss=0.1, stalled=0.1, periods=150)
    assert row.false == 0 and row.false_views == 0


def test_the_same_seed_gives_the_same_run() -> None:
    assert case(12, loss=0.2, periods=40, deaths=2, spacing=30, seed=5) == case(
        12, loss=0.2, periods=40, deaths=2, spacing=30, seed=5
    )


def _views(arena: DetectorField, node_id: int) -> list[str | None]:
    return [
        node.detector.reach(node_id)
        for other, node in sorted(arena.nodes.items())
        if other != node_id
    ]


def test_a_leave_is_seen_at_once_and_for_good() -> None:
    """Within two seconds by all, and no stale news brings the member back."""
    arena = DetectorField(40, loss=0.1)
    arena.run(30)
    node = arena.nodes[7]
    node.do(node.detector.leave(arena.scheduler.now))
    assert node.detector.deadline() is None
    arena.run(2)
    assert set(_views(arena, 7)) == {GONE}
    arena.run(60)
    assert set(_views(arena, 7)) == {GONE}
    causes = {each.cause for when, _, each in arena.reaches if each.node_id == 7 and when > 30}
    assert causes == {"left"}


def test_a_return_is_seen_at_once() -> None:
    """A higher incarnation is fresh everywhere within two seconds."""
    arena = DetectorField(40)
    arena.run(20)
    arena.crash(7)
    arena.run(30)
    assert set(_views(arena, 7)) == {GONE}
    arena.start(7, range(1, 41))
    arena.run(2)
    assert set(_views(arena, 7)) == {FRESH}
    assert arena.nodes[7].detector.statistics()["fresh"] == 39


def test_a_partition_heals() -> None:
    """The minority doubts its own view, the majority gives it up; both are whole soon after."""
    arena = DetectorField(30)
    arena.run(20)
    minority = range(1, 11)
    cut = arena.network.partition(arena.scheduler.now, 1e9, minority)
    arena.run(20)
    large, small = arena.nodes[20].detector, arena.nodes[5].detector
    assert all(large.reach(node) == GONE for node in minority)
    assert small.frozen and all(small.reach(node) != GONE for node in range(11, 31))
    cut.end = arena.scheduler.now
    arena.run(35)
    for node in range(1, 31):
        assert set(_views(arena, node)) == {FRESH}
    assert not any(node.detector.frozen for node in arena.nodes.values())


def test_a_node_that_stood_still_for_long_accuses_nobody_and_is_taken_back() -> None:
    arena = DetectorField(30)
    arena.run(20)
    arena.network.stall(4, 20.0, 80.0)
    arena.run(50)
    assert set(_views(arena, 4)) == {GONE}
    arena.run(20)
    assert set(_views(arena, 4)) == {FRESH}
    told = [each for _, node, each in arena.reaches if node == 4 and each.state == GONE]
    assert told == []


def test_a_node_cut_off_from_all_judges_nobody() -> None:
    arena = DetectorField(20)
    arena.run(20)
    cut = arena.network.partition(20.0, 1e9, [3])
    arena.run(60)
    assert arena.nodes[3].detector.frozen
    assert all(arena.nodes[3].detector.reach(node) != GONE for node in range(1, 21) if node != 3)
    cut.end = arena.scheduler.now
    arena.run(35)
    assert not arena.nodes[3].detector.frozen
    assert set(_views(arena, 3)) == {FRESH}


def test_a_link_dead_one_way_takes_nobody_down() -> None:
    """One does not hear another; helpers do, and the newer number refutes the accusation."""
    arena = DetectorField(20)
    arena.run(20)
    arena.network.own_link(5, 6, LinkModel(loss=1.0))
    arena.run(60)
    assert arena.false == 0
    assert set(_views(arena, 5)) == {FRESH}


@pytest.mark.parametrize("reorder", [0.3])
def test_late_and_doubled_datagrams_do_no_harm(reorder: float) -> None:
    arena = DetectorField(20)
    arena.network.link = LinkModel(reorder=reorder, held_back=3.0, duplicate=0.2)
    arena.run(150)
    assert arena.false == 0
