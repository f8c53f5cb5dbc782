"""A small world for tunnels: a clock, a network, a registry, and whoever lives there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.simulation.beacon import SimulatedBeacon
from tests.simulation.network import Faults, LossyNetwork, SocketAddress
from tests.simulation.reference_tunnel import ReferencePeer
from tests.simulation.tunnels import SimulatedNode, SimulatedRegistry, run

BEACON: SocketAddress = ("203.0.113.9", 9001)


class World:
    """
    What a test plays with.

    @ivar sent: everything sent on the network: time, source, destination, data.
    """

    def __init__(self, seed: int = 0, faults: Faults | None = None, *, merge: bool = True) -> None:
        self.clock = Clock()
        self.network = LossyNetwork(self.clock, seed, faults, merge=merge)
        self.network.tap = self._tap
        self.registry = SimulatedRegistry()
        self.nodes: list[SimulatedNode] = []
        self.sent: list[tuple[float, SocketAddress, SocketAddress, bytes]] = []
        self.alter: Callable[[SocketAddress, SocketAddress, bytes], bytes | None] | None = None

    def _tap(self, source: SocketAddress, destination: SocketAddress, data: bytes) -> bytes | None:
        self.sent.append((self.clock.seconds(), source, destination, data))
        return data if self.alter is None else self.alter(source, destination, data)

    @staticmethod
    def address(node_id: int) -> SocketAddress:
        """@return: where a node lives unless told otherwise."""
        return (f"198.51.100.{node_id}", 4000)

    def node(
        self, node_id: int, address: SocketAddress | None = None, **options: Any
    ) -> SimulatedNode:
        """@return: a node of ours."""
        node = SimulatedNode(
            self.network, self.registry, node_id, address or self.address(node_id), **options
        )
        self.nodes.append(node)
        return node

    def reference(self, node_id: int, **options: Any) -> ReferencePeer:
        """@return: a node of the reference."""
        return ReferencePeer(self.network, self.registry, node_id, self.address(node_id), **options)

    def beacon(self) -> SimulatedBeacon:
        """@return: the beacon at L{BEACON}."""
        return SimulatedBeacon(self.network, BEACON)

    def crash(self, node: SimulatedNode) -> None:
        """End a node without a word to anybody."""
        self.network.crash(node.address)
        node.stop()

    def run(self, seconds: float) -> None:
        """Let time pass."""
        run(self.clock, seconds)

    def frames(self, magic: bytes, source: SocketAddress | None = None) -> list[bytes]:
        """@return: frames of one kind sent directly so far, by one sender or all."""
        return [
            data
            for _, sender, _, data in self.sent
            if data.startswith(magic) and source in (None, sender)
        ]

    def close(self) -> None:
        """Stop everybody; nothing may be left running."""
        for node in self.nodes:
            node.stop()
        self.clock.pump([1.0] * 3)  # what is on the way arrives nowhere, or is answered once more
        left = [call for call in self.clock.getDelayedCalls() if call.active()]
        assert not left, left


@pytest.fixture
def world() -> Iterator[World]:
    """A world without faults."""
    world = World()
    yield world
    world.close()


@pytest.fixture
def make_world() -> Iterator[Callable[..., World]]:
    """Worlds as a test wants them."""
    worlds: list[World] = []

    def make(*args: Any, **options: Any) -> World:
        worlds.append(World(*args, **options))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()
