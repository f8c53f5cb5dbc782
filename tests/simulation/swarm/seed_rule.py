"""What the shell loop of the original skill page does with a swarm's writes.

Each round every node pushes its version and its whole state to three members; a receiver merges
(C{jq '.[0] * .[1]'}) only what comes with a higher version than its own, and takes that version
over.  Two writers with the same version therefore never learn of each other.
"""

from __future__ import annotations

import random
from typing import NamedTuple

#: Where versions are mixed, everybody has made one to so many updates before.
_MIXED = 5


class SeedOutcome(NamedTuple):
    """
    Where the rule leaves a swarm in which each node wrote one key of its own.

    @ivar known: share of (node, key) pairs that are known, 0 to 1.
    @ivar states: how many different states there are.
    """

    known: float
    states: int


def seed_rule(
    size: int, rng: random.Random, *, mixed: bool, rounds: int = 100, fanout: int = 3
) -> SeedOutcome:
    """
    Run the loop.

    @param mixed: the nodes begin with versions 1 to 5 at random; otherwise all with 1.
    """
    versions = [rng.randint(1, _MIXED) if mixed else 1 for _ in range(size)]
    states = [{node} for node in range(size)]  # keys do not collide, so a merge is a union
    for _ in range(rounds):
        sent = [(versions[node], set(states[node])) for node in range(size)]
        for node in range(size):
            others = rng.sample(range(size - 1), min(fanout, size - 1))
            for other in (peer + (peer >= node) for peer in others):
                version, state = sent[node]
                if version > versions[other]:
                    states[other] |= state
                    versions[other] = version
    known = sum(map(len, states)) / (size * size)
    return SeedOutcome(known, len({frozenset(state) for state in states}))
