"""Swarms of real replicas: one seed decides all, and small ones keep their bars."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time

import pytest

from tests.simulation.swarm import healing, idle, rounds, seed_rule, spread
from tests.simulation.swarm.gossip_field import GossipField, regular, star
from tests.simulation.swarm.links import DATAGRAM, STREAM, LinkModel
from tests.simulation.swarm.rng import RngTree

#: Prints what a run leaves; run in processes of their own.
PROGRAM = "from tests.simulation.swarm.test_gossip_field import story; print(story(1))"


def story(seed: int) -> str:
    """@return: the hash over all that was carried while a lossy swarm wrote, crashed and joined."""
    link = LinkModel(loss=0.1, duplicate=0.1, reorder=0.1)
    field = GossipField(12, seed, link=link)
    field.network.partition(12, 30, [1, 2, 3])
    field.network.stall(5, 8, 20)
    for number in range(20):
        field.scheduler.advance(2)
        writer = field.nodes[6 + number % 6]
        writer.set(f"key{number % 7}", {"number": number, "by": str(writer.node_id)})
    field.crash(4)
    field.join(4, field.nodes, incarnation=2)
    field.scheduler.advance(30)
    return field.network.digest()


def test_the_same_seed_is_the_same_run() -> None:
    """Message for message; and another seed is another run."""
    assert story(1) == story(1) != story(2)


def test_a_run_does_not_depend_on_pythons_hashes() -> None:
    """Processes with other string hashes see the same run."""
    told = []
    for hashes in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hashes}
        found = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=environment,
            cwd=os.getcwd(),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        told.append(found.stdout.strip())
    assert told == [story(1)] * 2


def test_messages_as_bytes_and_as_objects_tell_the_same() -> None:
    """Large swarms save themselves the encoding; nothing else differs."""
    shown = []
    for codec in (True, False):
        field = GossipField(10, seed=4, codec=codec)
        field.scheduler.run_until(8)
        for node in field.nodes.values():
            node.set(f"key/{node.node_id}", ["ä", 1.5, None, {"deep": True}])
        assert field.run_until_agreed(40)
        shown.append(field.nodes[1].replica.document())
    assert shown[0] == shown[1]
    assert len(shown[0]["key"]) == 10


def test_large_swarms_are_known_in_part() -> None:
    """Every node gets a sample, and still everybody learns an update."""
    field = GossipField(1_100, seed=5, record=False)
    assert max(len(node.replica.members(0.0)) for node in field.nodes.values()) <= 200
    field.scheduler.run_until(1)
    field.watch("key", 1)
    field.nodes[17].set("key", 1)
    assert field.run_until_informed(13)


def test_graphs_are_what_they_are_called() -> None:
    """Symmetric, and of the degree they say."""
    graph = regular(50, 4, RngTree(1))
    assert all(len(others) in (3, 4) for others in graph)
    assert all(here in graph[there - 1] for here in range(1, 51) for there in graph[here - 1])
    assert star(4) == [[2, 3, 4], [1], [1], [1]]


@pytest.mark.parametrize(("size", "loss", "most"), [(10, 0.0, 3.0), (10, 0.3, 4.2), (60, 0.1, 5.2)])
def test_comparing_alone_spreads_in_a_few_rounds(size: int, loss: float, most: float) -> None:
    """Within a round of what push-pull with three partners takes."""
    found = rounds.measure(rounds.RoundsCase(size, 3, loss, 200 // size))
    assert sum(found) / len(found) <= most


def test_an_update_spreads_in_time_and_with_few_copies() -> None:
    """A hundred nodes, a tenth of the packets lost."""
    (found,) = spread.measure(spread.SpreadCase(100, 0.1, STREAM, 1))
    assert found.half < 2 and found.everyone <= 10 and found.copies <= 3.5


def test_raw_legs_are_repaired() -> None:
    """Datagrams lost for good: the timer brings what the push did not."""
    found = spread.measure(spread.SpreadCase(20, 0.3, DATAGRAM, 2))
    assert max(one.everyone for one in found) < 60


@pytest.mark.parametrize(("size", "keys"), [(10, 0), (10, 500), (30, 0)])
def test_a_quiet_swarm_is_quiet(size: int, keys: int) -> None:
    """Whatever it holds, and however large it is."""
    assert 0 < idle.measure(idle.IdleCase(size, keys)) <= 1_024


def test_a_partition_heals() -> None:
    """Both sides wrote and deleted."""
    seconds, lost, undead = healing.measure(healing.HealCase(12))
    assert seconds <= 35 and not lost and not undead


def test_the_original_rule_loses_nearly_everything() -> None:
    """Equal versions never merge, and different ones hardly."""
    assert seed_rule.seed_rule(100, RngTree(1).source("x"), mixed=False) == (0.01, 100)
    assert seed_rule.seed_rule(100, RngTree(1).source("x"), mixed=True).known < 0.05


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_ten_thousand_nodes() -> None:
    """To the last node in one process: in two minutes and two gigabytes."""
    began = time.process_time()
    field = GossipField(10_000, seed=1, record=False)
    field.scheduler.run_until(2)
    start = field.scheduler.now
    field.watch("key", "value")
    field.nodes[1].set("key", "value")
    assert field.run_until_informed(start + 60)
    seconds = time.process_time() - began
    gibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{field.scheduler.now - start:.1f} s simulated, {seconds:.0f} s, {gibibytes:.2f} GiB")
    assert field.scheduler.now - start <= 10
    assert seconds < 120 and gibibytes < 2
