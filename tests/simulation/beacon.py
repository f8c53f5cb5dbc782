"""A beacon on the in-memory network, no more than nodes need of one."""

from __future__ import annotations

from pilot.errors import WireError
from pilot.wire.beacon import (
    Discover,
    DiscoverReply,
    PunchCommand,
    PunchRequest,
    Relay,
    RelayDeliver,
    decode_message,
)
from tests.simulation.network import LossyNetwork, SocketAddress


class SimulatedBeacon:
    """
    Answers, introduces and relays as the protocol notes say.

    @ivar nodes: where each node was seen.
    @ivar relayed: frames passed on.
    """

    def __init__(self, network: LossyNetwork, address: SocketAddress) -> None:
        self.nodes: dict[int, SocketAddress] = {}
        self.relayed = 0
        self.address = address
        self._socket = network.attach(address, self)

    def datagrams_received(self, data: bytes, size: int, addr: SocketAddress) -> None:
        """Take messages of nodes."""
        for at in range(0, len(data), size):
            try:
                self._message(decode_message(data[at : at + size]), addr)
            except WireError:
                continue

    def batch_ended(self) -> None:
        """Nothing waits for the end of a batch."""

    def _message(self, message: object, addr: SocketAddress) -> None:
        if isinstance(message, Discover):
            self.nodes[message.node_id] = addr
            self._socket.send(DiscoverReply(*addr).encode(), addr)
        elif isinstance(message, PunchRequest):
            self.nodes[message.requester] = addr
            target = self.nodes.get(message.target)
            if target is not None:
                self._socket.send(PunchCommand(*target).encode(), addr)
                self._socket.send(PunchCommand(*addr).encode(), target)
        elif isinstance(message, Relay) and message.destination in self.nodes:
            self.relayed += 1
            delivery = RelayDeliver(message.source, message.frame)
            self._socket.send(delivery.encode(), self.nodes[message.destination])
