"""Whole nodes with a real registry and a beacon, in memory and in simulated time."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from pilot.crypto.identity import Identity, verify
from pilot.node.node import PilotNode
from pilot.node.service import NodeService
from pilot.node.settings import NodeSettings
from pilot.registry.directory import Directory
from pilot.registry.server import RegistryFactory
from pilot.registry.store import MemoryStore
from tests.simulation.beacon import SimulatedBeacon
from tests.simulation.internet import SimulatedInternet
from tests.simulation.network import Faults, LossyNetwork

REGISTRY = ("10.9.0.1", 9000)
BEACON = ("10.9.0.1", 9001)


class World:
    """
    A registry, a beacon, and any number of nodes.

    @ivar internet: clock and TCP.
    @ivar network: UDP.
    """

    def __init__(self, directory: Path, seed: int = 0, faults: Faults | None = None) -> None:
        self.internet = SimulatedInternet()
        self.network = LossyNetwork(self.internet, seed, faults)
        self.beacon = SimulatedBeacon(self.network, BEACON)
        self.services: dict[str, NodeService] = {}
        self.events: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        self._files = directory
        self._seed = seed
        self._starts = 0
        self.start_registry()

    def start_registry(self) -> None:
        """A registry that knows nothing yet."""
        directory = Directory(self.internet.seconds(), verify)
        self.registry = RegistryFactory(self.internet, directory, MemoryStore())
        self.registry.start()
        self._registry_stopped = False
        self.internet.servers[REGISTRY] = self.registry

    def registry_dies(self, *, forgets: bool) -> None:
        """The registry is gone, and, if it C{forgets}, also what it knew."""
        del self.internet.servers[REGISTRY]
        self.internet.cut()
        if forgets:
            self.stop_registry()

    def stop_registry(self) -> None:
        """End the registry's own timers."""
        self._registry_stopped = True
        self.wait(self.registry.stop())

    def registry_returns(self) -> None:
        """The same registry listens again."""
        self.internet.servers[REGISTRY] = self.registry

    def start(self, name: str, **settings: Any) -> PilotNode:
        """Start a node, or start it again: its key and its trust are those of its name."""
        identity = Identity.from_seed(name.encode().ljust(32, b"."))
        self._starts += 1
        number = self._starts  # a restarted node comes back at another address
        address = f"10.0.{number}.1"
        events = self.events.setdefault(name, [])
        service = NodeService(
            self.internet,
            NodeSettings(
                registry=f"{REGISTRY[0]}:{REGISTRY[1]}",
                beacon=f"{BEACON[0]}:{BEACON[1]}",
                identity=Path(name),
                listen=f"{address}:4000",
                **{"endpoint": f"{address}:4000", "hostname": name, **settings},
            ),
            identity,
            self._files / f"{name}-trust.json",
            rng=random.Random(f"{name}{self._seed}{number}"),
            on_event=lambda event, data: events.append((event, data)),
            open_socket=lambda reactor, host, port: self.network.socket((host, port)),
        )
        self.services[name] = service
        service.startService()
        self.wait(service.started)
        return service.node

    def stop(self, name: str) -> None:
        """Stop a node cleanly."""
        self.wait(self.services[name].stopService())

    def crash(self, name: str) -> None:
        """A node is gone without a word."""
        service = self.services[name]
        self.network.crash(service.parts.tunnel.address)
        self.wait(service.stopService())

    def introduce(self, one: PilotNode, other: PilotNode) -> None:
        """Have two nodes trust each other."""
        other_id, one_id = other.own_address().node, one.own_address().node
        self.wait(one.handshake(other_id, "hello"))
        self.internet.until(lambda: other.parts.trust.pending())
        self.wait(other.approve(one_id))
        self.internet.until(lambda: one.parts.trust.is_trusted(other_id))

    def wait(self, deferred: Any, patience: float = 60.0) -> Any:
        """Let time pass until C{deferred} fires.  @return: its result; a failure is raised."""
        results: list[Any] = []
        if not isinstance(deferred, Deferred):
            deferred = Deferred.fromCoroutine(deferred)
        deferred.addBoth(results.append)
        self.internet.until(lambda: results, patience)
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]

    def close(self) -> None:
        """Stop everything; nothing may be left on the clock but what services leave behind."""
        for name, service in self.services.items():
            if service.running:
                self.stop(name)
        if not self._registry_stopped:
            self.stop_registry()
        self.internet.run(1.0)  # whatever is on the way arrives nowhere
        left = self.internet.getDelayedCalls()
        assert not left, left


class Recorder(Protocol):
    """Keeps what it receives and how it ends."""

    def __init__(self) -> None:
        self.data = b""
        self.ended: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.ended = reason


class RecorderFactory(Factory):
    """Builds L{Recorder}s and keeps them."""

    def __init__(self) -> None:
        self.built: list[Recorder] = []

    def buildProtocol(self, addr: Any) -> Recorder:
        self.built.append(Recorder())
        return self.built[-1]
