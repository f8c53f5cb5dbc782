"""Swarms too large to know: neighbours, a reserve, and shuffles between them."""

from __future__ import annotations

from random import Random

from skills.gossip.core.config import GossipConfig
from skills.gossip.core.effects import PeerFacts
from tests.skills.gossip.net import Swarm

#: Everything a large swarm does, in a small one.
CONFIG = GossipConfig(full_view=20, active_view=5, passive_view=12)


def large(count: int = 60, **options) -> Swarm:
    swarm = Swarm(count, know=False, config=CONFIG, **options)
    rng = Random(7)
    for node_id, node in swarm.nodes.items():
        known = rng.sample([each for each in swarm.nodes if each != node_id], 12)
        facts = [PeerFacts(each, True) for each in known]
        node.replica._rounds._trusts = lambda each: True
        node.do(
            lambda now, node=node, facts=facts: node.replica.members_changed(
                now, facts, total=count
            )
        )
    return swarm


def neighbours(swarm: Swarm) -> dict[int, set[int]]:
    return {
        node_id: set(node.replica._rounds.view.active)
        for node_id, node in swarm.nodes.items()
        if node.up
    }


def test_views_fill_stay_bounded_and_are_symmetric():
    swarm = large()
    swarm.run(60.0)
    views = neighbours(swarm)
    assert all(2 <= len(view) <= 5 for view in views.values())
    assert sum(map(len, views.values())) / len(views) > 4
    one_sided = [(a, b) for a, view in views.items() for b in view if a not in views[b]]
    assert len(one_sided) <= 2
    for node in swarm.nodes.values():
        assert len(node.replica._rounds.view.passive) <= 12


def test_news_reaches_all_through_neighbours():
    swarm = large()
    swarm.run(60.0)
    swarm.log.clear()
    swarm[1].set("k", 1)
    assert swarm.await_equal(15.0) <= 12.0
    copies = sum(1 for *_, d in swarm.log if d.get("e") or d.get("g", {}).get("e"))
    assert copies <= 3.5 * 60


def test_only_neighbours_are_talked_to_in_a_quiet_swarm():
    swarm = large()
    swarm.run(120.0)
    views = neighbours(swarm)
    swarm.log.clear()
    swarm.run(20.0)
    strangers = [
        (source, target)
        for _, source, target, document in swarm.log
        if document["type"] == "gossip_syn" and target not in views[source]
    ]
    assert len(strangers) <= len(swarm.log) / 20


def test_neighbours_that_die_are_replaced():
    swarm = large()
    swarm.run(60.0)
    for node_id in range(1, 60, 3):
        swarm[node_id].up = False
    swarm.run(120.0)
    views = neighbours(swarm)
    alive = {node_id for node_id, node in swarm.nodes.items() if node.up}
    assert sum(len(view & alive) for view in views.values()) / len(views) > 3.5
    swarm[2].set("k", 1)
    swarm.await_equal(15.0)


def test_a_partition_of_a_large_swarm_heals():
    swarm = large(40)
    swarm.run(60.0)
    swarm.cut = lambda source, target: (source <= 20) != (target <= 20)
    swarm[1].set("left", 1)
    swarm[30].set("right", 1)
    swarm.run(600.0)
    swarm.cut = lambda source, target: False
    assert swarm.await_equal(35.0) <= 35.0


def test_memory_of_members_stays_linear():
    swarm = large()
    swarm.run(300.0)
    for node in swarm.nodes.values():
        assert len(node.replica._desk.members.known) < 60


def test_a_swarm_that_grows_changes_over_and_back():
    swarm = Swarm(8, config=CONFIG)
    swarm.run(30.0)
    facts = [PeerFacts(each, True) for each in swarm.nodes]
    for node in swarm.nodes.values():
        node.do(lambda now, node=node: node.replica.members_changed(now, facts, total=1000))
    swarm.run(30.0)
    swarm[1].set("k", 1)
    swarm.await_equal(15.0)
    swarm.introduce()
    assert swarm[1].replica.status(swarm.now)["view"] is None
    swarm[1].set("k", 2)
    swarm.await_equal(15.0)
