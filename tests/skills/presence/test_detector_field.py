"""Whole swarms of detectors, small and seeded: the bars of detection and of false alarms."""

from __future__ import annotations

from collections import Counter

import pytest

from skills.presence.detection import neighbours
from skills.presence.detection.neighbours import FOLLOWERS, RINGS, view
from skills.presence.detection.reach import FRESH, GONE
from tests.simulation.swarm.detection import DetectionCase, Row, measure
from tests.simulation.swarm.detector_field import DetectorField, ring_neighbours
from tests.simulation.swarm.links import LinkModel


def _first(row: Row) -> tuple[float, float]:
    """Mean and worst."""
    return sum(row.firsts) / len(row.firsts), max(row.firsts)


def test_a_death_among_ten() -> None:
    row = measure(DetectionCase(10, periods=50, deaths=24, spacing=60))
    mean, late = _first(row)
    assert row.false == 0
    assert mean <= 6.0 and late <= 10.0  # the worst of few, a little beyond the 99th percentile
    assert max(row.nearly_all) <= 12.0
    assert row.longest <= 1000


def test_a_death_among_a_hundred() -> None:
    row = measure(DetectionCase(100, loss=0.1, periods=20, deaths=20, spacing=4))
    mean, late = _first(row)
    assert row.false == 0
    assert mean <= 10.5 and late <= 15.0
    assert max(row.nearly_all) <= 16.0


def test_a_third_of_the_datagrams_lost() -> None:
    row = measure(DetectionCase(60, loss=0.3, periods=120))
    assert row.false == 0


def test_stalled_members_accuse_nobody() -> None:
    row = measure(DetectionCase(50, loss=0.1, stalled=0.1, periods=150))
    assert row.false == 0 and row.false_views == 0


def test_a_quiet_period_costs_a_probe_and_an_answer_each_way() -> None:
    row = measure(DetectionCase(30, periods=60))
    assert row.datagrams < 2.5 and row.size < 200


def test_the_same_seed_gives_the_same_run() -> None:
    case = DetectionCase(12, loss=0.2, periods=40, deaths=2, spacing=30, seed=5)
    assert measure(case) == measure(case)


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
    arena.run(30)
    large, small = arena.nodes[20].detector, [arena.nodes[node].detector for node in minority]
    assert all(large.reach(node) == GONE for node in minority)
    assert all(each.frozen for each in small)
    assert all(each.reach(node) != GONE for each in small for node in range(11, 31))
    cut.end = arena.scheduler.now
    arena.run(35)
    for node in range(1, 31):
        assert set(_views(arena, node)) == {FRESH}
    assert not arena.frozen_nodes()


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
    assert 3 in arena.frozen_nodes()
    assert all(arena.nodes[3].detector.reach(node) != GONE for node in range(1, 21) if node != 3)
    cut.end = arena.scheduler.now
    arena.run(35)
    assert not arena.frozen_nodes()
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


def test_trust_is_sparse_and_news_travels_all_the_same() -> None:
    """A ring in which each trusts two on either side: far members are known through others."""
    count = 16
    arena = DetectorField(count, trust=lambda node: ring_neighbours(node, count))
    arena.run(60)
    for node_id, node in arena.nodes.items():
        record = {"node": node_id, "inc": 1, "seq": node.detector.next_sequence()}
        node.do(node.detector.set_record(arena.scheduler.now, record))
    arena.run(60)
    for node in arena.nodes.values():
        known = [other for other in arena.nodes if node.detector.record(other) is not None]
        assert len(known) == count - 1
    arena.crash(5)
    arena.run(40)
    assert set(_views(arena, 5)) == {GONE}
    arena.start(5, arena.trusted(5, range(1, count + 1)))
    arena.run(45)
    assert set(_views(arena, 5)) == {FRESH}
    assert arena.false == 0


def test_nobody_probes_members_known_only_through_others() -> None:
    count = 12
    arena = DetectorField(count, trust=lambda node: ring_neighbours(node, count))
    arena.run(90)
    assert all(peer in ring_neighbours(source, count) for source, peer in arena.network._links)


def test_repair_finds_what_all_pushes_lost() -> None:
    """News that nobody was told arrives with the comparison."""
    arena = DetectorField(10)
    arena.run(20)
    arena.network.link = LinkModel(loss=1.0)
    node = arena.nodes[2]
    record = {"node": 2, "inc": 1, "seq": node.detector.next_sequence(), "status": "busy"}
    node.do(node.detector.set_record(arena.scheduler.now, record))
    arena.run(1.0)
    node.detector._swarm.rumors.drop(2)
    node.detector._swarm.rumors.carry(arena.scheduler.now, 800, 1)
    arena.network.link = LinkModel()
    arena.run(70)
    for other in range(1, 11):
        assert other == 2 or arena.nodes[other].detector.record(2) == record


def test_a_very_large_swarm_is_probed_by_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond so many members everybody is in contact with a few, and nobody is left out."""
    monkeypatch.setattr(neighbours, "WHOLE", 100)
    count = 300
    nodes = list(range(1, count + 1))
    views = {node: view(node, [other for other in nodes if other != node]) for node in nodes}
    assert max(map(len, views.values())) <= RINGS * FOLLOWERS
    viewed = Counter(other for each in views.values() for other in each)
    assert min(viewed[node] for node in nodes) >= RINGS * FOLLOWERS // 2
    reached = {1}
    edge = [1]
    for _ in range(4):  # news is everywhere in a few steps
        edge = sorted({b for a in edge for b in views[a]} - reached)
        reached.update(edge)
    assert len(reached) == count
