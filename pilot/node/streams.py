"""All streams of a node: finds the one a packet belongs to, opens, accepts and forgets them."""

from __future__ import annotations

import random
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IProtocol, IProtocolFactory, IReactorTime
from twisted.logger import Logger

from pilot.address import Address
from pilot.errors import ConnectionFailed
from pilot.node.ports import PortLimits, PortTable, SynRate, TokenBucket
from pilot.node.streamaddress import PilotStreamAddress
from pilot.node.transport import StreamTransport
from pilot.stream.config import StreamConfig
from pilot.stream.connection import Connection, Segment
from pilot.stream.events import CloseCause, Closed
from pilot.tunnel.tunnel import Tunnel
from pilot.wire.packet import (
    FLAG_ACK,
    FLAG_RST,
    FLAG_SYN,
    PROTO_STREAM,
    RawPacket,
    encode_raw,
)

log = Logger()

#: Direct attempts of a dial before the beacon relays it (protocol notes, I{Relay fallback}).
DIRECT_ATTEMPTS = 3

#: Finished streams that are kept to answer late segments; the oldest are dropped first.
TIME_WAIT_LIMIT = 4096

#: Resets a second in answer to segments of streams that nobody knows.
STRAY_RESET_RATE = 50.0

_SYN_ACK = FLAG_SYN | FLAG_ACK

#: What the key of a stream is made of: its port, the peer's node id, the peer's port.
_Key = tuple[int, int, int]


class StreamTable:
    """
    The streams of one node.

    The tunnel hands in packets one by one and says when a batch is over; every stream that the
    batch touched is then settled once.

    @ivar refused: how often each named limit turned a connection request away.
    """

    def __init__(
        self,
        clock: IReactorTime,
        tunnel: Tunnel,
        ports: PortTable,
        limits: PortLimits,
        config: StreamConfig,
        rng: random.Random,
        *,
        admits: Callable[[int, int], bool],
        allows: Callable[[int, int], bool],
        on_event: Callable[[str, dict[str, Any]], None],
    ) -> None:
        """
        @param admits: C{(node id, port)}: whether the trust gate lets a stranger's request pass.
        @param allows: C{(network, port)}: the port policy of a network.
        @param on_event: told the webhook events of this layer (protocol notes, I{Events}).
        """
        self.clock = clock
        self.refused: Counter[str] = Counter()
        self._tunnel = tunnel
        self._ports = ports
        self._limits = limits
        self._config = config
        self._rng = rng
        self._admits = admits
        self._allows = allows
        self._on_event = on_event
        self._syn_rate = SynRate(limits, clock.seconds())
        self._stray_resets = TokenBucket(STRAY_RESET_RATE, clock.seconds())
        self._streams: dict[_Key, StreamTransport] = {}
        self._by_id: dict[int, StreamTransport] = {}
        self._local_ports: Counter[int] = Counter()
        self._lingering: OrderedDict[int, StreamTransport] = OrderedDict()
        self._last_id = 0
        self._touched: list[StreamTransport] = []
        self._flush_call: IDelayedCall | None = None
        self._in_batch = False
        self._closed = False
        self._now = 0.0

    # -- opening -------------------------------------------------------------------------------

    def dial(
        self, source: Address, target: Address, port: int, factory: IProtocolFactory
    ) -> Deferred[IProtocol]:
        """
        Open a stream.  The tunnel to the target must exist (L{Tunnel.ensure}).

        @return: Deferred of the connected protocol; it fails with C{ConnectionRefused},
            C{DialTimeout} or C{ConnectionFailed}.  Cancelling it takes the attempt back.
        """
        if len(self._by_id) >= self._limits.connections_total + TIME_WAIT_LIMIT:
            raise ConnectionFailed("too many open streams")
        local = PilotStreamAddress(source, self._ports.free_port(self._local_ports))
        remote = PilotStreamAddress(target, port)
        result: Deferred[IProtocol] = Deferred(lambda _: stream.withdraw())
        connection = Connection.dial(self._config, self.clock.seconds(), self._rng)
        stream = self._add(
            connection,
            local,
            remote,
            factory,
            inbound=False,
            on_connected=result.callback,
            on_failed=result.errback,
        )
        self.touch(stream)
        return result

    def _accept(self, node_id: int, packet: RawPacket) -> None:
        """A connection request.  The gate comes first: strangers get silence."""
        port = packet.destination_port
        source = Address(packet.source_network, packet.source_node)
        now = self.clock.seconds()
        if not self._admits(node_id, port):
            self.refused["untrusted"] += 1
            self._on_event(
                "syn.rejected",
                {"src_node_id": node_id, "src_addr": str(source), "dst_port": port},
            )
            return
        if not self._allows(packet.destination_network, port):
            self.refused["port_policy"] += 1
            network = packet.destination_network
            self._on_event(
                "syn.port_rejected",
                {"src_node_id": node_id, "dst_port": port, "network": network},
            )
            return
        exhausted = self._syn_rate.refusal(node_id, now)
        if exhausted is not None:
            self.refused[exhausted] += 1
            if exhausted == "syn_rate":
                self._on_event(
                    "security.syn_rate_limited",
                    {"src_addr": str(source), "src_port": packet.source_port},
                )
            return
        factory = self._ports.factory(port)
        if factory is None or self._ports.admit(port, self.open_count()) is not None:
            self._reset(packet)
            return
        host = Address(packet.destination_network, packet.destination_node)
        local = PilotStreamAddress(host, port)
        remote = PilotStreamAddress(source, packet.source_port)
        syn = Segment(
            packet.flags, packet.sequence, packet.acknowledgement, packet.window, packet.payload
        )
        connection = Connection.accept(self._config, now, self._rng, syn)
        stream = self._add(connection, local, remote, factory, inbound=True)
        facts = {
            "src_addr": str(source),
            "src_port": packet.source_port,
            "dst_port": port,
            "conn_id": stream.connection_id,
        }
        self._on_event("conn.syn_received", facts)
        self._on_event("conn.established", facts)
        self.touch(stream)

    def _add(
        self,
        connection: Connection,
        local: PilotStreamAddress,
        remote: PilotStreamAddress,
        factory: IProtocolFactory,
        **ways: Any,
    ) -> StreamTransport:
        self._last_id = self._last_id % 0xFFFFFFFF + 1
        connection.segment_limit = self._tunnel.segment_limit(remote.address.node)
        stream = StreamTransport(self, connection, self._last_id, local, remote, factory, **ways)
        self._streams[local.port, remote.address.node, remote.port] = stream
        self._by_id[stream.connection_id] = stream
        self._local_ports[local.port] += 1
        return stream

    # -- packets -------------------------------------------------------------------------------

    def packet_received(self, node_id: int, packet: RawPacket) -> None:
        """
        Take one stream packet from the tunnel.

        @param node_id: the peer whose tunnel it came through; the tunnel has checked that the
            packet's source says the same.
        """
        (
            flags,
            _protocol,
            _source_network,
            source_node,
            _destination_network,
            _destination_node,
            source_port,
            destination_port,
            sequence,
            acknowledgement,
            window,
            payload,
        ) = packet
        if not self._in_batch:
            self._in_batch = True
            self._now = self.clock.seconds()  # one look at the clock serves the whole batch
        stream = self._streams.get((destination_port, source_node, source_port))
        if stream is None:
            self._stray(node_id, packet)
            return
        if (
            flags & _SYN_ACK == FLAG_SYN
            and stream.inbound
            and stream.connection.is_new_syn(sequence, self._now)
        ):
            self._replace(stream, node_id, packet)
            return
        stream.connection.segment_received(
            flags, sequence, acknowledgement, window, payload, self._now
        )
        if not stream.touched:
            stream.touched = True
            self._touched.append(stream)

    def batch_ended(self) -> None:
        """The tunnel has handed in everything that one turn brought."""
        self._in_batch = False
        if self._touched:
            self._flush()

    def _stray(self, node_id: int, packet: RawPacket) -> None:
        """No stream knows this packet.  A peer that sends data to one we forgot is told so."""
        if self._closed:
            return  # an acknowledgement of our goodbye, for one: a reset would spoil the clean end
        flags = packet.flags
        if flags & _SYN_ACK == FLAG_SYN:
            self._accept(node_id, packet)
        elif (
            packet.payload
            and flags & FLAG_ACK
            and not flags & FLAG_RST  # nor a classic FIN, but that has no payload
            and self._admits(node_id, packet.destination_port)
            and self._stray_resets.take(self.clock.seconds())
        ):
            self._reset(packet)

    def _replace(self, stream: StreamTransport, node_id: int, packet: RawPacket) -> None:
        """The peer has restarted and picked the ports of a stream that it no longer knows."""
        self._drop(stream)
        stream.release()
        self._accept(node_id, packet)

    def _reset(self, packet: RawPacket) -> None:
        answer = encode_raw(
            FLAG_RST,
            PROTO_STREAM,
            Address(packet.destination_network, packet.destination_node).pack(),
            Address(packet.source_network, packet.source_node).pack(),
            packet.destination_port,
            packet.source_port,
            0,
            0,
            0,
            b"",
        )
        self._tunnel.send(packet.source_node, [answer])

    # -- turns ---------------------------------------------------------------------------------

    def touch(self, stream: StreamTransport) -> None:
        """Something changed about C{stream}: settle it at the end of this turn."""
        if not stream.touched:
            stream.touched = True
            self._touched.append(stream)
        if not self._in_batch and self._flush_call is None:
            self._flush_call = self.clock.callLater(0, self._flush_later)

    def touch_later(self, stream: StreamTransport) -> None:
        """C{stream} has more to send than one burst: give the others their turn first."""
        if not stream.touched:
            stream.touched = True
            self._touched.append(stream)
        if self._flush_call is None:
            self._flush_call = self.clock.callLater(0, self._flush_later)

    def woken(self, stream: StreamTransport) -> None:
        """A timer of C{stream} fired."""
        stream.settle(self.clock.seconds())

    def later(self, call: Callable[[], None]) -> None:
        """Run C{call} in the next turn of the reactor."""
        self.clock.callLater(0, call)

    def _flush_later(self) -> None:
        self._flush_call = None
        self._flush()

    def _flush(self) -> None:
        touched, self._touched = self._touched, []
        now = self.clock.seconds()
        for stream in touched:
            stream.settle(now)

    def send(self, stream: StreamTransport, segments: list[Segment]) -> None:
        """Put segments of C{stream} into packets and hand them to the tunnel as one batch."""
        source, destination = stream.local_packed, stream.remote_packed
        source_port, destination_port = stream.local.port, stream.remote.port
        packets = [
            encode_raw(
                flags,
                PROTO_STREAM,
                source,
                destination,
                source_port,
                destination_port,
                sequence,
                acknowledgement,
                window,
                payload,
            )
            for flags, sequence, acknowledgement, window, payload in segments
        ]
        node_id = stream.remote.address.node
        if not stream.connected and not stream.inbound:
            self._maybe_relay(stream, node_id)
        self._tunnel.send(node_id, packets)

    def _maybe_relay(self, stream: StreamTransport, node_id: int) -> None:
        if not stream.relay_tried and stream.connection.syn_transmissions > DIRECT_ATTEMPTS:
            stream.relay_tried = True
            self._tunnel.use_relay(node_id)
            stream.connection.path_switched(self.clock.seconds())

    # -- ends ----------------------------------------------------------------------------------

    def peer_finished(self, stream: StreamTransport) -> None:
        """The peer has closed its direction."""
        self._on_event("conn.fin", self._facts(stream))

    def forget(self, stream: StreamTransport, event: Closed) -> None:
        """The connection is over for good."""
        if event.cause is CloseCause.RESET:
            self._on_event("conn.rst", self._facts(stream))
        elif event.cause is CloseCause.IDLE:
            self._on_event("conn.idle_timeout", self._facts(stream))
        self._drop(stream)
        stream.release()

    def linger(self, stream: StreamTransport) -> None:
        """The program is done with C{stream}; it may have to answer late segments for a while."""
        if stream.connection.is_open or stream.connection_id not in self._by_id:
            return
        self._lingering[stream.connection_id] = stream
        if len(self._lingering) > TIME_WAIT_LIMIT:
            self.refused["time_wait"] += 1
            _, oldest = self._lingering.popitem(last=False)
            self._drop(oldest)
            oldest.release()

    def _drop(self, stream: StreamTransport) -> None:
        if self._by_id.pop(stream.connection_id, None) is None:
            return
        self._lingering.pop(stream.connection_id, None)
        self._streams.pop((stream.local.port, stream.remote.address.node, stream.remote.port), None)
        self._local_ports[stream.local.port] -= 1
        if not self._local_ports[stream.local.port]:
            del self._local_ports[stream.local.port]
        if stream.inbound:
            self._ports.release(stream.local.port)

    def close(self) -> None:
        """Say goodbye on every stream, forget them all, and answer nobody any more."""
        self._closed = True
        now = self.clock.seconds()
        for stream in list(self._by_id.values()):
            stream.dismiss()
            stream.settle(now)
        for stream in list(self._by_id.values()):
            self._drop(stream)
            stream.release()
        if self._flush_call is not None:
            self._flush_call.cancel()
            self._flush_call = None

    def drop_peer(self, node_id: int) -> None:
        """Trust in C{node_id} is over: so are its streams."""
        for stream in list(self._by_id.values()):
            if stream.remote.address.node == node_id:
                stream.abortConnection()

    # -- looking in ----------------------------------------------------------------------------

    def by_id(self, connection_id: int) -> StreamTransport | None:
        """@return: the stream of that number, or None."""
        return self._by_id.get(connection_id)

    def open_count(self) -> int:
        """@return: streams that are open or opening; finished ones do not count."""
        return len(self._by_id) - len(self._lingering)

    def statistics(self) -> list[dict[str, Any]]:
        """@return: one dict a stream, in the shape of C{conn_list}."""
        return [
            {
                "id": stream.connection_id,
                "local_port": stream.local.port,
                "remote_addr": str(stream.remote.address),
                "remote_port": stream.remote.port,
                **stream.connection.statistics(),
            }
            for stream in self._by_id.values()
        ]

    def _facts(self, stream: StreamTransport) -> dict[str, Any]:
        return {
            "remote_addr": str(stream.remote.address),
            "remote_port": stream.remote.port,
            "local_port": stream.local.port,
            "conn_id": stream.connection_id,
        }
