"""How long an update takes to reach a swarm, and how often its payload is sent.

The replicas run as they would: they push news at once, and compare on unsynchronised timers.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.simulation.swarm.gossip_field import GossipField
from tests.simulation.swarm.links import LinkModel
from tests.simulation.swarm.rng import RngTree

#: Seconds after which a swarm is quiet: nobody is hot any more.
_SETTLE = 40.0

#: Seconds after which an update is given up.
_PATIENCE = 300.0


class SpreadCase(NamedTuple):
    """
    @ivar loss: chance that a packet is lost.
    @ivar carriage: C{STREAM} or C{DATAGRAM}.
    @ivar runs: updates measured, one after another in the same swarm.
    """

    size: int
    loss: float
    carriage: str
    runs: int
    seed: int = 1


class Spread(NamedTuple):
    """
    One update.

    @ivar half: seconds until half of the nodes knew it.
    @ivar most: ...99 % of them.
    @ivar everyone: ...all; infinite if it never came so far.
    @ivar copies: how often its payload was sent, per node.
    """

    half: float
    most: float
    everyone: float
    copies: float


def measure(case: SpreadCase) -> list[Spread]:
    """@return: what became of each update."""
    tree = RngTree(case.seed).subtree("spread", *case)
    field = GossipField(
        case.size,
        tree,
        link=LinkModel(loss=case.loss),
        carriage=case.carriage,
        record=False,
        confirm=case.size <= 1_000 and case.carriage == "stream",
    )
    writers = tree.source("writers")
    return [one_update(field, writers.randint(1, case.size), run) for run in range(case.runs)]


def one_update(field: GossipField, writer: int, run: int) -> Spread:
    """Let a quiet swarm learn something; @return: how that went."""
    scheduler, size = field.scheduler, len(field.nodes)
    scheduler.advance(_SETTLE)
    start = scheduler.now
    field.watch("update", run)
    field.nodes[writer].set("update", run)
    whole = field.run_until_informed(start + _PATIENCE)
    times = sorted(when - start for when in field.informed.values())
    times += [float("inf")] * (size - len(times))
    scheduler.advance(5.0)  # what is still on its way counts as well
    copies = field.total("copies") / size
    last = times[-1] if whole else float("inf")
    return Spread(times[(size + 1) // 2 - 1], times[-(-size * 99 // 100) - 1], last, copies)
