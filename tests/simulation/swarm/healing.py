"""A swarm cut in two that writes on, and what becomes of it once the cut is gone."""

from __future__ import annotations

from typing import NamedTuple

from tests.simulation.swarm.gossip_field import GossipField
from tests.simulation.swarm.links import LinkModel
from tests.simulation.swarm.rng import RngTree

#: When the cut begins, how long it lasts, and how long its healing may take; seconds.
_BEGIN, _LENGTH, _PATIENCE = 60.0, 300.0, 120.0


class HealCase(NamedTuple):
    """
    @ivar loss: chance that a packet is lost.
    @ivar writes: writes (of different keys) on each side during the cut.
    """

    size: int
    loss: float = 0.0
    writes: int = 10
    seed: int = 1


class Healing(NamedTuple):
    """
    @ivar seconds: from the end of the cut until all nodes show the same.
    @ivar lost: writes that are not there then.
    @ivar undead: deleted keys that are.
    """

    seconds: float
    lost: int
    undead: int


def measure(case: HealCase) -> Healing:
    """Cut, write and delete on both sides, heal; @return: how that went."""
    tree = RngTree(case.seed).subtree("heal", *case)
    field = GossipField(
        case.size, tree, link=LinkModel(loss=case.loss), record=False, codec=case.size <= 100
    )
    chance, scheduler = tree.source("writers"), field.scheduler
    node_ids = chance.sample(sorted(field.nodes), case.size)
    sides = node_ids[: case.size // 2], node_ids[case.size // 2 :]
    field.network.partition(_BEGIN, _BEGIN + _LENGTH, sides[0])
    for number in range(4):
        field.nodes[node_ids[0]].set(f"doomed/{number}", "old")
    scheduler.run_until(_BEGIN + 1.0)
    for number, side in enumerate(sides):
        for half in range(2):
            field.nodes[chance.choice(side)].delete(f"doomed/{2 * number + half}")
        for write in range(case.writes):
            scheduler.advance(_LENGTH / 4 / case.writes)
            field.nodes[chance.choice(side)].set(f"side/{number}/{write}", write)
    end = _BEGIN + _LENGTH
    scheduler.run_until(end)
    field.run_until_agreed(end + _PATIENCE)
    seconds = scheduler.now - end
    shown = {register.key for register in field.nodes[1].replica.items()}
    wanted = {f"side/{side}/{write}" for side in range(2) for write in range(case.writes)}
    undead = sum(key.startswith("doomed/") for key in shown)
    return Healing(seconds, len(wanted - shown), undead)
