"""Tunnels on the in-memory network, and a registry that answers, hangs or fails as it is told."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from pilot.address import Address
from pilot.crypto.identity import Identity
from pilot.errors import RegistryError, RegistryUnavailable
from pilot.tunnel.config import TunnelConfig
from pilot.tunnel.tunnel import Endpoint, Tunnel
from pilot.wire.packet import PROTO_DATAGRAM, RawPacket, encode_raw
from tests.simulation.network import LossyNetwork, SocketAddress


class SimulatedRegistry:
    """
    What the tunnel's directory knows.

    @ivar away: every question fails.
    @ivar hangs: no question is answered.
    @ivar asked: questions by kind and node.
    """

    def __init__(self) -> None:
        self.endpoints: dict[int, Endpoint] = {}
        self.keys: dict[int, bytes] = {}
        self.away = False
        self.hangs = False
        self.asked: list[tuple[str, int]] = []

    def resolve(self, node_id: int) -> Deferred[Endpoint]:
        """@return: Deferred of where a node registered."""
        self.asked.append(("resolve", node_id))
        if self.hangs:
            return Deferred()
        if self.away:
            return fail(RegistryUnavailable("the registry is away"))
        if node_id not in self.endpoints:
            return fail(RegistryError("node not found"))
        return succeed(self.endpoints[node_id])

    def moved(self, node_id: int) -> None:
        """What is remembered does not hold; nothing is remembered here."""

    def identity_key(self, node_id: int) -> Deferred[bytes | None]:
        """@return: Deferred of a node's identity key."""
        self.asked.append(("identity_key", node_id))
        if self.hangs:
            return Deferred()
        if self.away:
            return fail(RegistryUnavailable("the registry is away"))
        return succeed(self.keys.get(node_id))


class SimulatedNode:
    """
    A tunnel with somebody behind it who keeps what arrives.

    @ivar received: node ids and payloads, in order.
    @ivar packets: the packets they came in.
    @ivar events: what the tunnel raised.
    """

    def __init__(
        self,
        network: LossyNetwork,
        registry: SimulatedRegistry,
        node_id: int,
        address: SocketAddress,
        *,
        beacon: SocketAddress | None = None,
        encrypt: bool = True,
        config: TunnelConfig | None = None,
        seed: int | None = None,
        registered: bool = True,
    ) -> None:
        self.node_id = node_id
        self.address = address
        self.identity = Identity.from_seed(node_id.to_bytes(32, "big"))
        self.received: list[tuple[int, bytes]] = []
        self.packets: list[RawPacket] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.batches = 0
        self.socket = network.socket(address)
        self.tunnel = Tunnel(
            network.clock,
            self.identity,
            node_id,
            self.socket,
            registry,
            encrypt=encrypt,
            rng=random.Random(node_id if seed is None else seed),
            beacon=beacon,
            config=config,
            on_event=lambda name, data: self.events.append((name, data)),
        )
        self.tunnel.packet_sink = self._take
        self.tunnel.batch_sink = self._batch
        if registered:
            registry.endpoints[node_id] = Endpoint(f"{address[0]}:{address[1]}")
            registry.keys[node_id] = self.identity.public_key
        self.tunnel.start()

    def _take(self, node_id: int, packet: RawPacket) -> None:
        self.received.append((node_id, packet.payload))
        self.packets.append(packet)

    def _batch(self) -> None:
        self.batches += 1

    def packet(self, to: int, payload: bytes) -> bytes:
        """@return: a datagram packet from here to a node."""
        here, there = Address(0, self.node_id).pack(), Address(0, to).pack()
        return encode_raw(0, PROTO_DATAGRAM, here, there, 1, 2, 0, 0, 0, payload)

    def send(self, to: int, *payloads: bytes) -> None:
        """Send one packet for each payload."""
        self.tunnel.send(to, [self.packet(to, payload) for payload in payloads])

    def state(self, of: int) -> str:
        """@return: the state of the tunnel to a node; C{"none"} without an entry."""
        for peer in self.tunnel.peers():
            if peer["node_id"] == of:
                return str(peer["state"])
        return "none"

    def count(self, name: str) -> int:
        """@return: a counter."""
        return self.tunnel.counters().get(name, 0)

    def named(self, event: str) -> list[dict[str, Any]]:
        """@return: the data of all events of that name."""
        return [data for name, data in self.events if name == event]

    def stop(self) -> None:
        """Close the tunnel in good order."""
        self.tunnel.close()


def run(clock: Clock, seconds: float, step: float = 0.01) -> None:
    """Let time pass."""
    clock.pump([step] * round(seconds / step))
