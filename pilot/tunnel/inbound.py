"""What the socket brings: sealed packets first, then everything else that may stand in a datagram.

@see: protocol notes, I{Every datagram on the tunnel socket}.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct

from cryptography.exceptions import InvalidTag
from twisted.logger import Logger

from pilot.address import Address
from pilot.crypto.session import Exhausted, Forged, Lane, Replayed
from pilot.errors import WireError
from pilot.tunnel.core import RELAY, Core, Path
from pilot.tunnel.endpoints import SocketAddress, format_endpoint
from pilot.tunnel.keying import Keying
from pilot.tunnel.limits import TokenBucket
from pilot.tunnel.peer import PING_PORT, Surroundings
from pilot.tunnel.peers import PeerTable
from pilot.tunnel.traversal import BeaconClient
from pilot.wire.beacon import DELIVER_HEADER, TYPE_RELAY_DELIVER
from pilot.wire.packet import (
    FLAG_ACK,
    HEADER_SIZE,
    PROTO_CONTROL,
    RawPacket,
    decode_raw,
    encode_raw,
)
from pilot.wire.tunnel import MAGIC_AUTH, MAGIC_KEY, MAGIC_PLAIN, MAGIC_PUNCH, MAGIC_SECURE

log = Logger()

#: Bytes of a sealed frame without its packet: magic, node id, nonce, tag.
SEAL_SIZE = 36

_counter_at = Struct(">Q").unpack_from
_node_at = Struct(">I").unpack_from


def _nobody(node_id: int, packet: RawPacket) -> None:
    """Take packets while nobody else does."""


class Inbound:
    """
    Takes datagrams apart and hands their packets on.

    Its counters: C{pkts_recv}, C{bytes_recv} of what was handed on; C{bad_packets},
    C{foreign_packets} (source or destination are not the peer's and ours), C{replays},
    C{tunnel_encryption_failure}, C{lanes_refused}, C{plain_refused}, C{beacon_refused} (not from
    our beacon), C{pings_refused}, C{malformed}, C{ignored}.

    @ivar packet_sink: called with the peer's node id and each packet.
    @ivar batch_sink: called after the packets of one turn.
    """

    def __init__(
        self,
        core: Core,
        table: PeerTable,
        keying: Keying,
        beacon_client: BeaconClient,
        surroundings: Surroundings,
        send: Callable[[int, list[bytes]], None],
        *,
        encrypt: bool,
    ) -> None:
        """@param send: sends packets to a node."""
        self.packet_sink: Callable[[int, RawPacket], None] = _nobody
        self.batch_sink: Callable[[], None] = lambda: None
        self._core = core
        self._table = table
        self._keying = keying
        self._beacon_client = beacon_client
        self._surroundings = surroundings
        self._send = send
        self._encrypt = encrypt
        self._lanes = core.lanes
        self._counters = core.counters
        self._pongs: list[tuple[int, bytes]] = []
        self._replays = TokenBucket(1.0, core.now(), capacity=10.0)

    def datagrams_received(self, data: bytes, size: int, addr: SocketAddress) -> None:
        """
        Take datagrams of one sender; the hot path.

        @param data: one behind the other.
        @param size: where to cut: every C{size} bytes; the last may be shorter.
        """
        end = len(data)
        if size < SEAL_SIZE:
            for at in range(0, end, size):
                self._uncommon(data[at : at + size], addr)
            return
        rest = end % size
        if rest < SEAL_SIZE:
            end -= rest
        lanes, own, sink = self._lanes, self._core.node_id, self.packet_sink
        view = memoryview(data)  # ciphertexts are cut from it without a copy
        delivered = delivered_bytes = 0
        for at in range(0, end, size):
            lane = lanes.get(data[at : at + 12])
            if lane is None:
                self._uncommon(data[at : at + size], addr)
                continue
            (counter,) = _counter_at(data, at + 12)
            expected = lane.expected
            if counter != expected and not lane.accepts(counter):
                self._replayed(lane.node_id, counter)
                continue
            try:
                packet = lane.decrypt(data[at + 8 : at + 20], view[at + 20 : at + size], lane.aad)
            except InvalidTag:
                self._uncommon(data[at : at + size], addr)
                continue
            if counter == expected:
                lane.expected = counter + 1
            else:
                lane.mark(counter)
            if lane.seen_from is not addr and counter >= expected:
                self._came_from(lane, addr)
            try:
                raw = decode_raw(packet)
            except WireError:
                self._counters["bad_packets"] += 1
                continue
            node_id = lane.node_id
            if raw[3] != node_id or raw[5] != own:
                self._counters["foreign_packets"] += 1
                continue
            delivered += 1
            delivered_bytes += SEAL_SIZE + len(packet)
            try:
                if raw[1] == PROTO_CONTROL:
                    self._control(node_id, raw)
                else:
                    sink(node_id, raw)
            except Exception:
                log.failure("a packet of node {node} was not handled", node=node_id)
        if delivered:
            self._counters["pkts_recv"] += delivered
            self._counters["bytes_recv"] += delivered_bytes
        if 0 < rest < SEAL_SIZE:
            self._uncommon(data[end:], addr)

    def batch_ended(self) -> None:
        """One turn has brought everything it will."""
        pongs, self._pongs = self._pongs, []
        for node_id, pong in pongs:
            peer = self._table.get(node_id)
            if peer is not None and peer.ring.session is not None:
                # Not as a packet of ours, for which an answer would be expected in turn.
                peer.send_quietly(peer.ring.session, pong, peer.ways.current)
            else:
                self._send(node_id, [pong])
        self.batch_sink()

    def _came_from(self, lane: Lane, path: Path) -> None:
        """The newest frame of a lane came from there; mostly from where the last one came."""
        if lane.seen_from == path:
            lane.seen_from = path  # the same, but now also the same object
            return
        peer = self._table.get(lane.node_id)
        if peer is not None:
            peer.attend(lane, path)

    def _uncommon(self, datagram: bytes, addr: SocketAddress) -> None:
        """Everything but a frame in a lane that is known."""
        if not datagram:
            return
        if datagram[0] < 0x10:
            self._from_beacon(datagram, addr)
        else:
            self._frame(datagram, addr)

    def _from_beacon(self, datagram: bytes, addr: SocketAddress) -> None:
        if self._core.config.check_beacon_source and addr != self._core.beacon:
            self._counters["beacon_refused"] += 1
            return
        try:
            if datagram[0] != TYPE_RELAY_DELIVER:
                self._beacon_client.received(datagram)
                return
        except WireError:
            self._counters["malformed"] += 1
            return
        source, frame = datagram[1 : DELIVER_HEADER.size], datagram[DELIVER_HEADER.size :]
        # What is relayed in somebody's name is that node's own frame, or none.
        owner = frame[10:14] if frame.startswith(MAGIC_PLAIN) else frame[4:8]
        if len(frame) >= SEAL_SIZE and owner == source:
            self._frame(frame, RELAY)
        else:
            self._counters["ignored"] += 1

    def _frame(self, frame: bytes, path: Path) -> None:
        """Take one tunnel frame, whatever way it came."""
        magic = frame[:4]
        counters = self._counters
        try:
            if magic == MAGIC_PLAIN:
                self._plain(frame, path)
            elif not self._encrypt:
                counters["ignored"] += 1
            elif magic == MAGIC_SECURE:
                self._secure(frame, path)
            elif magic == MAGIC_AUTH:
                self._keying.offered(frame, path)
            elif magic == MAGIC_KEY:
                self._keying.asked(frame)
            else:
                counters["punches_received" if magic == MAGIC_PUNCH else "ignored"] += 1
        except WireError:
            counters["malformed"] += 1

    def _secure(self, frame: bytes, path: Path) -> None:
        """A sealed frame of a lane not known yet, or through the beacon: find the session."""
        if len(frame) < SEAL_SIZE:
            self._counters["malformed"] += 1
            return
        (node_id,) = _node_at(frame, 4)
        peer = self._table.get(node_id)
        if peer is None or not peer.ring.sessions:
            if peer is None or not peer.calling:
                self._keying.stranger(node_id, path)
            return
        lane = self._lanes.get(frame[:12])
        sessions = [lane.session] if lane is not None else []
        sessions += [
            s for s in reversed(peer.ring.sessions) if lane is None or s is not lane.session
        ]
        for session in sessions:
            try:
                packet, lane, newest = session.open(frame)
            except Forged:
                continue
            except Replayed as error:
                self._replayed(node_id, error.counter)
                return
            except Exhausted:
                self._counters["lanes_refused"] += 1
                return
            self._lanes[lane.head] = lane
            if newest and lane.seen_from is not path:
                self._came_from(lane, path)
            self._deliver(node_id, packet, SEAL_SIZE + len(packet))
            return
        self._counters["tunnel_encryption_failure"] += 1
        peer.offers.unopenable(path)

    def _plain(self, frame: bytes, path: Path) -> None:
        """A packet in the clear: only between nodes that both asked for it."""
        if self._encrypt:
            self._counters["plain_refused"] += 1
            self._core.incidents.note("plain", "a packet in the clear was refused")
            return
        packet = frame[4:]
        if len(packet) < HEADER_SIZE:
            self._counters["malformed"] += 1
            return
        (node_id,) = _node_at(packet, 6)
        if node_id in (0, self._core.node_id):
            self._counters["foreign_packets"] += 1
            return
        if not self._deliver(node_id, packet, len(frame)):
            return
        peer = self._table.get(node_id)
        if peer is None and (peer := self._table.make(node_id)) is not None:
            peer.ways.offered(path)
            where = self._core.beacon if path is RELAY else path
            data = {"peer_node_id": node_id, "endpoint": format_endpoint(where or path)}
            self._core.emit("tunnel.peer_added", data)
            self._surroundings.flush(peer)

    def _deliver(self, node_id: int, packet: bytes, size: int) -> bool:
        """@return: whether the packet was sound, and from and to whom it should be."""
        counters = self._counters
        try:
            raw = decode_raw(packet)
        except WireError:
            counters["bad_packets"] += 1
            return False
        if raw.source_node != node_id or raw.destination_node != self._core.node_id:
            counters["foreign_packets"] += 1
            return False
        counters["pkts_recv"] += 1
        counters["bytes_recv"] += size
        try:
            if raw.protocol == PROTO_CONTROL:
                self._control(node_id, raw)
            else:
                self.packet_sink(node_id, raw)
        except Exception:
            log.failure("a packet of node {node} was not handled", node=node_id)
        return True

    def deliver_own(self, packet: bytes) -> None:
        """Take a packet that we sent to ourselves."""
        self._deliver(self._core.node_id, packet, 0)

    def _control(self, node_id: int, raw: RawPacket) -> None:
        """
        Answer a ping, or take the answer to one of ours.

        Only what is no answer itself is answered, and never to port 0, lest two nodes keep
        answering each other.
        """
        if raw.flags & FLAG_ACK:
            peer = self._table.get(node_id)
            if peer is not None and raw.destination_port == PING_PORT:
                peer.pong(raw.sequence)
            return
        if raw.destination_port or not raw.source_port:
            return
        if len(self._pongs) >= self._core.config.pongs:
            self._counters["pings_refused"] += 1
            return
        pong = encode_raw(
            FLAG_ACK,
            PROTO_CONTROL,
            Address(0, self._core.node_id).pack(),
            Address(raw.source_network, raw.source_node).pack(),
            0,
            raw.source_port,
            raw.sequence,
            (raw.sequence + 1) & 0xFFFFFFFF,
            0,
            raw.payload,
        )
        self._pongs.append((node_id, pong))

    def _replayed(self, node_id: int, counter: int) -> None:
        self._counters["replays"] += 1
        if self._replays.take(self._core.now()):
            data = {"peer_node_id": node_id, "counter": counter}
            self._core.emit("security.nonce_replay", data)
