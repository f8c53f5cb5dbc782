"""The tunnel: packets go in for a node id and come out at that node, sealed on the way.

@see: protocol notes, I{Sending, and the peer table}, I{Every datagram on the tunnel socket}.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from pilot.crypto.identity import Identity
from pilot.crypto.session import Exhausted
from pilot.tunnel.config import TunnelConfig
from pilot.tunnel.core import Core, OnEvent
from pilot.tunnel.endpoints import SocketAddress, format_endpoint, is_loopback
from pilot.tunnel.identities import IdentityCache
from pilot.tunnel.inbound import SEAL_SIZE, Inbound
from pilot.tunnel.keying import Keying
from pilot.tunnel.peer import Peer
from pilot.tunnel.peers import PeerTable
from pilot.tunnel.queues import SendQueues
from pilot.tunnel.reaching import Directory, Endpoint, Reaching
from pilot.tunnel.socket import DatagramSocket
from pilot.tunnel.traversal import BeaconClient
from pilot.wire.packet import HEADER_SIZE, RawPacket
from pilot.wire.tunnel import MAGIC_PLAIN

__all__ = ["Directory", "Endpoint", "Tunnel"]

log = Logger()

#: Bytes that the beacon adds on the way to it.
RELAY_SIZE = 9

#: Datagrams on loopback, bytes; what the price of a packet calls for and the kernel still delivers
#: in one piece.  Only where the socket buffer holds some dozens of them.
LOOPBACK_DATAGRAM = 60_000
LOOPBACK_BUFFER = 64 * LOOPBACK_DATAGRAM
#: ...else this.
LOOPBACK_DATAGRAM_SMALL = 16_000


class Tunnel:
    """
    All tunnels of one node, over one socket.

    @ivar packet_sink: called with the peer's node id and each packet; the peer's seal covers it,
        its source is the peer and its destination is us.
    @ivar batch_sink: called after the packets of one turn.
    @ivar beacon_client: for what the beacon knows: where we are seen.
    """

    def __init__(
        self,
        clock: IReactorTime,
        identity: Identity,
        node_id: int,
        socket: DatagramSocket,
        directory: Directory,
        *,
        encrypt: bool = True,
        rng: random.Random | None = None,
        beacon: SocketAddress | None = None,
        lan_addrs: Sequence[str] = (),
        config: TunnelConfig | None = None,
        on_event: OnEvent | None = None,
    ) -> None:
        """
        Opens nothing yet.

        @param node_id: our own; 0 until L{registered} says which.
        @param encrypt: False speaks in the clear, to peers that do the same.
        @param rng: where keys come from; for tests.
        @param lan_addrs: our own LAN endpoints, to recognise neighbours by.
        """
        self._config = config = config or TunnelConfig()
        self._core = core = Core(
            clock,
            identity,
            socket,
            config,
            rng or random.SystemRandom(),
            on_event or (lambda name, data: None),
        )
        core.node_id, core.beacon = node_id, beacon
        self._clock = clock
        self._encrypt = encrypt
        self._counters = core.counters
        self._table = PeerTable(core, self)
        self._get_peer = self._table.get
        self._queues = SendQueues(config, core.counters)
        self._identities = IdentityCache(clock, directory, config, core.counters)
        self.beacon_client = BeaconClient(core, self._table, encrypt=encrypt)
        self._inbound = Inbound(
            core,
            self._table,
            Keying(core, self._table, self._identities),
            self.beacon_client,
            self,
            self.send,
            encrypt=encrypt,
        )
        self._reaching = Reaching(
            core, self._table, directory, self._identities, self.beacon_client, encrypt=encrypt
        )
        self._reaching.neighbours = tuple(lan_addrs)
        self._reaching.flush = self.flush
        self._to_self: list[bytes] = []
        self._self_call: IDelayedCall | None = None
        self._closed = False

    # -- life ----------------------------------------------------------------------------------

    @property
    def packet_sink(self) -> Callable[[int, RawPacket], None]:
        """Called with the peer's node id and each packet."""
        return self._inbound.packet_sink

    @packet_sink.setter
    def packet_sink(self, sink: Callable[[int, RawPacket], None]) -> None:
        self._inbound.packet_sink = sink

    @property
    def batch_sink(self) -> Callable[[], None]:
        """Called after the packets of one turn."""
        return self._inbound.batch_sink

    @batch_sink.setter
    def batch_sink(self, sink: Callable[[], None]) -> None:
        self._inbound.batch_sink = sink

    @property
    def node_id(self) -> int:
        """Our own, 0 before the registration."""
        return self._core.node_id

    @property
    def address(self) -> SocketAddress:
        """Where the socket is bound."""
        return self._core.socket.address

    @property
    def beacon(self) -> SocketAddress | None:
        """Our beacon's address."""
        return self._core.beacon

    @beacon.setter
    def beacon(self, address: SocketAddress | None) -> None:
        self._core.beacon = address
        for peer in self._table:
            peer.ways.aim()
        if self._core.node_id:
            self.beacon_client.start()

    @property
    def lan_addrs(self) -> tuple[str, ...]:
        """Our own LAN endpoints, to recognise neighbours by."""
        return self._reaching.neighbours

    @lan_addrs.setter
    def lan_addrs(self, endpoints: Sequence[str]) -> None:
        self._reaching.neighbours = tuple(endpoints)

    def start(self) -> None:
        """
        Open the socket.

        @raise OSError: the port is taken, or the address is not ours.
        """
        self._core.socket.start(self._inbound)
        if self._core.node_id:
            self.beacon_client.start()

    def registered(self, node_id: int) -> None:
        """
        The registry gave us this number.

        If it is another than before, all peers are strangers again.
        """
        if node_id != self._core.node_id:
            for peer in self._table:
                self.remove(peer)
            self._core.renamed(node_id)
        self.beacon_client.start()

    def discover(self) -> Deferred[SocketAddress | None]:
        """
        Ask the beacon where it sees this socket.

        @return: Deferred of the address, None if it does not say.
        """
        return self.beacon_client.discover()

    def close(self) -> None:
        """Forget everybody and close the socket."""
        self._closed = True
        self.beacon_client.close()
        for peer in self._table:
            self.remove(peer)
        self._identities.close()
        self._reaching.close()
        if self._self_call is not None:
            self._self_call.cancel()
            self._self_call = None
        self._core.socket.close()

    # -- sending -------------------------------------------------------------------------------

    def send(self, node_id: int, packets: list[bytes]) -> None:
        """
        Send encoded packets to a node; those of equal size together.

        While there is no key yet they wait, and whatever is needed to get one is started.
        """
        if not packets:
            return
        peer = self._get_peer(node_id)
        if (
            peer is None
            or (session := peer.ring.session) is None
            or (addr := peer.ways.addr) is None
        ):
            self._send_otherwise(node_id, peer, packets)
            return
        try:
            frames = session.seal(packets)
        except Exhausted:
            self._counters["sessions_exhausted"] += 1
            self.forget(node_id)
            self.send(node_id, packets)
            return
        if not peer.expecting:
            peer.expect()
        counters = self._counters
        counters["tunnel_encryption_success"] += len(packets)
        self._send_frames(packets, frames, SEAL_SIZE, peer.ways.wrap, addr)

    def _send_frames(
        self,
        packets: list[bytes],
        frames: list[bytes],
        overhead: int,
        wrap: bytes,
        addr: SocketAddress,
    ) -> None:
        """
        Hand frames to the socket, in groups that the kernel can cut apart again.

        @param frames: two buffers for each packet.
        @param overhead: bytes of a frame beyond its packet.
        """
        if wrap:
            frames[::2] = [wrap + header for header in frames[::2]]
            overhead += len(wrap)
        send = self._core.socket.send_batch
        sizes = list(map(len, packets))
        count, size = len(sizes), sizes[0]
        equal = sizes.count(size)
        if equal == count or (equal == count - 1 and sizes[-1] < size):
            groups = [(0, count)]
        else:
            groups = _groups(sizes)
        counters = self._counters
        for start, stop in groups:
            group = frames if stop - start == count else frames[2 * start : 2 * stop]
            taken = send(group, 2, sizes[start] + overhead, addr)
            if taken:
                counters["pkts_sent"] += taken
                counters["bytes_sent"] += (
                    (sizes[start] + overhead) * (taken - 1) + sizes[start + taken - 1] + overhead
                )

    def _send_otherwise(self, node_id: int, peer: Peer | None, packets: list[bytes]) -> None:
        """Packets to ourselves, in the clear, or to a peer that there is no key or no way for."""
        core = self._core
        if self._closed:
            return
        if node_id == core.node_id:
            self._send_to_self(packets)
        elif not self._encrypt and peer is not None and peer.ways.addr is not None:
            frames = [part for packet in packets for part in (MAGIC_PLAIN, packet)]
            self._send_frames(packets, frames, len(MAGIC_PLAIN), peer.ways.wrap, peer.ways.addr)
        elif self._queues.put(node_id, packets, core.now()):
            if peer is None or peer.ways.addr is None:
                self.ensure(node_id).addErrback(self._not_reached, node_id)
            else:
                peer.life.wanted()

    def _not_reached(self, failure: Failure, node_id: int) -> None:
        """What waited is dropped; whoever sent it will find out as from any silence."""
        self._counters["no_path"] += 1
        self._queues.drop(node_id)
        self._core.incidents.note("no_path", "{error}", error=failure.getErrorMessage())

    def _send_to_self(self, packets: list[bytes]) -> None:
        room = self._config.loopback_queue - len(self._to_self)
        if len(packets) > room:
            self._counters["loopback_dropped"] += len(packets) - room
            packets = packets[:room]
        self._to_self += packets
        if self._self_call is None:
            self._self_call = self._clock.callLater(0, self._deliver_to_self)

    def _deliver_to_self(self) -> None:
        self._self_call = None
        packets, self._to_self = self._to_self, []
        for packet in packets:
            self._inbound.deliver_own(packet)
        self._inbound.batch_ended()

    # -- reaching peers ------------------------------------------------------------------------

    def ensure(self, node_id: int) -> Deferred[None]:
        """
        See that there is a way to a node, and have its key on the way.

        @return: Deferred; it fails with C{ConnectionFailed} when nobody knows where the node is.
        """
        return self._reaching.ensure(node_id)

    def use_relay(self, node_id: int) -> None:
        """The direct way to a node does not work: have the beacon relay, if there is one."""
        peer = self._get_peer(node_id)
        if peer is not None:
            peer.use_relay()

    def forget(self, node_id: int) -> None:
        """Trust in a node is over: forget its endpoint, its keys, and what waits for it."""
        peer = self._get_peer(node_id)
        if peer is not None:
            self.remove(peer)
        self._queues.drop(node_id)
        self._identities.forget(node_id)

    # -- what peers ask of us (see L{pilot.tunnel.peer.Surroundings}) ----------------------------

    def flush(self, peer: Peer) -> None:
        """Send what waits for the peer's key."""
        packets = self._queues.take(peer.node_id, self._core.now())
        if packets:
            self.send(peer.node_id, packets)

    def drop_queue(self, peer: Peer) -> None:
        """Forget what waits for the peer's key."""
        self._queues.drop(peer.node_id)

    def reach(self, peer: Peer, *, afresh: bool) -> None:
        """Ask registry and beacon for a way to the peer."""
        self._reaching.reach(peer, afresh=afresh)

    def remove(self, peer: Peer) -> None:
        """Forget the peer."""
        self._queues.drop(peer.node_id)
        self._table.remove(peer)

    # -- looking in ----------------------------------------------------------------------------

    def segment_limit(self, node_id: int) -> int:
        """
        @return: bytes of payload that a packet to C{node_id} should have at most: what crosses the
            path in one datagram, or what pays best on loopback.
        """
        datagram = self._config.datagram
        peer = self._get_peer(node_id)
        on_loopback = node_id == self._core.node_id or (
            peer is not None
            and not peer.ways.relay
            and peer.ways.direct is not None
            and is_loopback(peer.ways.direct)
        )
        if on_loopback:
            roomy = self._core.socket.receive_buffer >= LOOPBACK_BUFFER
            datagram = max(datagram, LOOPBACK_DATAGRAM if roomy else LOOPBACK_DATAGRAM_SMALL)
        elif peer is not None and peer.ways.relay:
            datagram -= RELAY_SIZE
        return datagram - SEAL_SIZE - HEADER_SIZE

    def peers(self) -> list[dict[str, Any]]:
        """
        @return: one dict a peer: C{node_id}, C{endpoint} (C{""} if not known), C{encrypted},
            C{authenticated}, and of ours C{relay} and C{state}.
        """
        return [
            {
                "node_id": peer.node_id,
                "endpoint": format_endpoint(peer.ways.addr) if peer.ways.addr else "",
                "encrypted": peer.ring.session is not None,
                "authenticated": peer.ring.session is not None,
                "relay": peer.ways.relay,
                "state": peer.state,
            }
            for peer in self._table
        ]

    def counters(self) -> dict[str, int]:
        """@return: all counters by name; those of the info reply are always there."""
        return {
            **dict.fromkeys(INFO_COUNTERS, 0),
            **self._counters,
            **self._core.socket.counters,
            "queued_peers": len(self._queues),
        }


#: Counters that the info reply shows (protocol notes, I{Counters, info, events}).
INFO_COUNTERS = (
    "bytes_sent",
    "bytes_recv",
    "pkts_sent",
    "pkts_recv",
    "tunnel_encryption_success",
    "tunnel_encryption_failure",
)


def _groups(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """@return: runs of equal sizes, each with a smaller one behind it if there is one."""
    groups = []
    start, count = 0, len(sizes)
    while start < count:
        size, stop = sizes[start], start + 1
        while stop < count and sizes[stop] == size:
            stop += 1
        if stop < count and sizes[stop] < size:
            stop += 1
        groups.append((start, stop))
        start = stop
    return groups
