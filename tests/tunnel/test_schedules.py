"""Random schedules of faults, crashes, partitions and forgetting.

Whatever happened, when it is over both ends hear each other again, and nothing came twice.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from pilot.tunnel.config import TunnelConfig
from tests.simulation.network import Faults
from tests.simulation.reference_tunnel import ReferencePeer
from tests.simulation.tunnels import SimulatedNode
from tests.tunnel.conftest import BEACON, World

A, B = 7, 8
SUITE = 60
SOAK = 3000


class Schedule:
    """One run, decided by its seed."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        faults = Faults(
            loss=rng.random() * 0.4,
            duplicate=0.1,
            reorder=rng.random() * 0.3,
            corrupt=rng.random() * 0.05,
            truncate=0.02,
            delay=(0.001, rng.random() * 0.1),
        )
        self.world = World(seed, faults, merge=rng.random() < 0.5)
        self.options: dict[str, Any] = {}
        if rng.random() < 0.6:
            self.world.beacon()
            self.options["beacon"] = BEACON
        self.other_is_reference = rng.random() < 0.4
        self.config = TunnelConfig(
            renew_frames=rng.choice([50, 200, 1 << 26]), silence=rng.choice([0.3, 3.0])
        )
        self.a: SimulatedNode = self.start(A)
        self.b: SimulatedNode | ReferencePeer = self.start(B)

    def start(self, node_id: int) -> Any:
        """@return: a node with new keys."""
        seed = self.rng.randrange(10**6)
        if node_id == B and self.other_is_reference:
            return self.world.reference(B, seed=seed, **self.options)
        return self.world.node(node_id, config=self.config, seed=seed, **self.options)

    def misfortune(self) -> None:
        """Now and then something happens."""
        world, luck = self.world, self.rng.random()
        if luck < 0.005:
            world.crash(self.a)
            self.a = self.start(A)
        elif luck < 0.01:
            if isinstance(self.b, ReferencePeer):
                world.network.crash(self.b.address)
            else:
                world.crash(self.b)
            self.b = self.start(B)
        elif luck < 0.02:
            world.network.partition(self.a.address, self.b.address)
        elif luck < 0.04:
            world.network.heal()
        elif luck < 0.045:
            self.a.tunnel.forget(B)
        elif luck < 0.05 and isinstance(self.b, SimulatedNode):
            self.b.tunnel.forget(A)

    def speak(self, text: bytes) -> None:
        """Both say something; a reference peer only if it knows us."""
        self.a.send(B, text)
        self.b.send(A, text)

    def run(self) -> None:
        """Trouble first, then twenty quiet seconds, then see."""
        for step in range(self.rng.randrange(100, 300)):
            self.speak(b"step %d" % step)
            self.misfortune()
            self.world.run(self.rng.choice([0.01, 0.05, 0.3]))
        self.world.network.heal()
        self.world.network.faults = Faults()
        for step in range(80):
            self.speak(b"calm %d" % step)
            self.world.run(0.25)
        last = {b"calm %d" % step for step in range(72, 80)}
        for node in (self.a, self.b):
            assert sum(payload in last for _, payload in node.received[-10:]) >= 5, node.node_id
        for node in (self.a, self.b):
            if isinstance(node, SimulatedNode):
                assert len(set(node.received)) == len(node.received), "something came twice"
                assert node.count("queued_peers") == 0
        self.world.close()


@pytest.mark.parametrize("seed", range(SUITE))
def test_schedule(seed: int) -> None:
    Schedule(seed).run()


@pytest.mark.soak
@pytest.mark.parametrize("batch", range(SUITE, SOAK, 100))
def test_many_schedules(batch: int) -> None:
    for seed in range(batch, batch + 100):
        Schedule(seed).run()
