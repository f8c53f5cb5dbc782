"""In how many rounds of comparing alone does a swarm know an update?

All nodes take their round at the same moment, every leg takes the same time, and each is lost
independently and for good.  Pushing on news is switched off: this is the timer's part alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from skills.gossip.core.config import GossipConfig
from tests.simulation.swarm.gossip_field import GossipField, everybody, regular, star
from tests.simulation.swarm.links import DATAGRAM, LinkModel
from tests.simulation.swarm.rng import RngTree

#: Seconds between rounds; exact in binary, so that timers of this length are due on the dot.
_ROUND = 4.0

#: Rounds before the first update, in which the nodes get to know each other, and the most that one
#: update may take.
_WARM_UP, _PATIENCE = 3, 200

#: Who trusts whom, by name.
GRAPHS: dict[str, Callable[[int, RngTree], list[range] | list[list[int]]]] = {
    "full": lambda size, tree: everybody(size),
    "4-regular": lambda size, tree: regular(size, 4, tree),
    "8-regular": lambda size, tree: regular(size, 8, tree),
    "star": lambda size, tree: star(size),
}


class RoundsCase(NamedTuple):
    """
    @ivar loss: chance that a leg is lost.
    @ivar runs: updates measured, one after another in the same swarm.
    @ivar graph: who trusts whom, a key of L{GRAPHS}.
    """

    size: int
    fanout: int
    loss: float
    runs: int
    seed: int = 1
    graph: str = "full"


def rounds_config(fanout: int, size: int) -> GossipConfig:
    """@return: what leaves nothing but the comparing, with C{fanout} members each round."""
    return GossipConfig(
        push=False,
        interval=_ROUND,
        jitter=0.0,
        partners=fanout,
        hot_partners=fanout,
        replacements=0,
        heal=1e9,
        patience=_ROUND / 2,
        full_view=max(1024, size if size <= 1024 else 1024),
        silences=64,
        answering=1_000_000 if size > 1 else 1,
        full_comparison=1e9,
        peer_messages=1e6,
        peer_bytes=1e9,
    )


def measure(case: RoundsCase) -> list[int]:
    """@return: for each update the rounds until all nodes knew it."""
    tree = RngTree(case.seed).subtree("rounds", *case)
    trust = None
    if case.graph != "full":
        trust = GRAPHS[case.graph](case.size, tree)
    field = GossipField(
        case.size,
        tree,
        link=LinkModel(median=0.001, sigma=0.0, loss=case.loss),
        carriage=DATAGRAM,
        config=rounds_config(case.fanout, case.size),
        trust=trust,
        timers=False,
        record=False,
        codec=False,
    )
    writers = tree.source("writers")
    found: list[int] = []
    round_number = 0

    def one_round() -> None:
        nonlocal round_number
        round_number += 1
        field.scheduler.run_until(round_number * _ROUND)
        for node in field.nodes.values():
            node.turn(node.replica.on_timer)
        field.scheduler.run_until(round_number * _ROUND + 0.1)

    for _ in range(_WARM_UP):
        one_round()
    for run in range(case.runs):
        field.watch("update", run)
        field.nodes[writers.randint(1, case.size)].set("update", run)
        rounds = 0
        while len(field.informed) < case.size and rounds < _PATIENCE:
            one_round()
            rounds += 1
        found.append(rounds)
    return found
