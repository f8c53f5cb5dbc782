"""Datagrams: one packet each, no promise of arrival (protocol notes, I{Datagrams})."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from twisted.logger import Logger

from pilot.address import Address, SocketAddress
from pilot.errors import ConnectionFailed, PilotError, RegistryError
from pilot.node.ports import PortTable
from pilot.tunnel.tunnel import Tunnel
from pilot.wire.packet import MAX_PAYLOAD, PROTO_DATAGRAM, RawPacket, encode_raw

log = Logger()

#: Largest datagram that fits one sealed, direct IPv4 UDP packet, bytes.
MAX_DATAGRAM = 65437

Listener = Callable[[SocketAddress, int, bytes], None]


class Datagrams:
    """
    Sends datagrams and hands out those that arrive.

    @ivar refused: incoming ones turned away, by reason.
    """

    def __init__(
        self,
        tunnel: Tunnel,
        ports: PortTable,
        *,
        own_address: Callable[[], Address],
        admits: Callable[[int, int], bool],
        allows: Callable[[int, int], bool],
        members: Callable[[int], Awaitable[Iterable[int]]],
        on_event: Callable[[str, dict[str, Any]], None],
    ) -> None:
        """
        @param admits: C{(node id, port)}: the trust gate.
        @param allows: C{(network, port)}: the port policy of a network.
        @param members: gives the node ids of a network; for broadcasts.
        """
        self.refused: Counter[str] = Counter()
        self._tunnel = tunnel
        self._ports = ports
        self._own_address = own_address
        self._admits = admits
        self._allows = allows
        self._members = members
        self._on_event = on_event
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call C{listener(source, port, data)} for each datagram.  @return: ends it when called."""
        self._listeners.append(listener)

        def stop() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return stop

    async def send(self, target: Address, port: int, data: bytes) -> None:
        """
        Send one datagram, or one to each other member when C{target} is a broadcast address.

        @raise ConnectionFailed: too long, no way to the peer, or a broadcast that is not allowed.
        """
        if len(data) > MAX_PAYLOAD:
            raise ConnectionFailed(
                f"marshal: payload too large: {len(data)} bytes (max {MAX_PAYLOAD})"
            )
        if len(data) > MAX_DATAGRAM:
            raise ConnectionFailed(
                f"message too long: {len(data)} bytes do not fit a datagram (max {MAX_DATAGRAM})"
            )
        source_port = self._ports.free_port()
        if not target.is_broadcast:
            await self._send_one(target, port, source_port, data)
            return
        for member in await self._broadcast_targets(target.network):
            try:
                await self._send_one(Address(target.network, member), port, source_port, data)
            except PilotError:
                continue  # a member that cannot be reached does not spoil it for the others

    async def _send_one(self, target: Address, port: int, source_port: int, data: bytes) -> None:
        await self._tunnel.ensure(target.node)
        packet = encode_raw(
            0,
            PROTO_DATAGRAM,
            self._own_address().pack(),
            target.pack(),
            source_port,
            port,
            0,
            0,
            0,
            data,
        )
        self._tunnel.send(target.node, [packet])

    async def _broadcast_targets(self, network: int) -> list[int]:
        if network == 0:
            raise ConnectionFailed("broadcast on backbone network is not permitted")
        own = self._own_address().node
        try:
            members = list(await self._members(network))
        except RegistryError as error:
            raise ConnectionFailed(f"list nodes for broadcast: registry: {error.message}") from None
        if own not in members:
            raise ConnectionFailed(
                f"broadcast denied: node {own} is not a member of network {network}"
            )
        return [member for member in members if member != own]

    def packet_received(self, node_id: int, packet: RawPacket) -> None:
        """Take one datagram packet from the tunnel."""
        if not packet.payload:
            return
        source = Address(packet.source_network, packet.source_node)
        port = packet.destination_port
        if not self._admits(node_id, port):
            self.refused["untrusted"] += 1
            self._on_event(
                "datagram.rejected",
                {"src_node_id": node_id, "src_addr": str(source), "dst_port": port},
            )
            return
        if not self._allows(packet.destination_network, port):
            self.refused["port_policy"] += 1
            network = packet.destination_network
            self._on_event(
                "datagram.port_rejected",
                {"src_node_id": node_id, "dst_port": port, "network": network},
            )
            return
        self._on_event(
            "data.datagram",
            {
                "src_addr": str(source),
                "src_port": packet.source_port,
                "dst_port": port,
                "size": len(packet.payload),
            },
        )
        sender = SocketAddress(source, packet.source_port)
        for listener in list(self._listeners):
            try:
                listener(sender, port, packet.payload)
            except Exception:
                log.failure("datagram listener failed on port {port}", port=port)
