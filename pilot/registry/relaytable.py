"""What a beacon knows and decides: where nodes are, who may have what sent where.

The messages carry no proof of who sent them, so what can be done about forgery is little: limits
per source, tables that age, nothing learned from a beacon that was not configured, and no hole
punched in the name of a node that is recorded elsewhere.

@see: protocol notes, I{The beacon protocol}.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from pilot.errors import WireError
from pilot.wire.beacon import (
    MAX_SYNC_NODES,
    TYPE_RELAY,
    TYPE_RELAY_DELIVER,
    Discover,
    DiscoverReply,
    PunchCommand,
    PunchRequest,
    Sync,
    decode_message,
)

UdpAddress = tuple[str, int]

_RELAY_HEADER = 9  # bytes: type, source, destination
_RELAY = bytes((TYPE_RELAY,))
_DELIVER = bytes((TYPE_RELAY_DELIVER,))
#: Node ids that fit into one datagram.
SYNC_NODES = min(MAX_SYNC_NODES, 16_375)


@dataclass(frozen=True, slots=True)
class BeaconLimits:
    """
    Times are seconds.

    @ivar nodes: recorded at once; at the limit an unknown one is neither recorded nor answered.
    @ivar nodes_per_host: of those, from one source address; loopback is exempt.
    @ivar node_lasts: without a sign of life.
    @ivar sweep_every: how often the silent are looked for.
    @ivar gossip_every: how often peers are told of our nodes.
    @ivar gossip_lasts: what a peer told, without its telling it again.
    @ivar questions_per_second: discoveries and punch requests from one source address, on average.
    @ivar questions_at_once: the same, in a burst.
    @ivar hosts: source addresses whose questions are counted.
    """

    nodes: int = 100_000
    nodes_per_host: int = 10_000
    node_lasts: float = 300.0
    sweep_every: float = 60.0
    gossip_every: float = 10.0
    gossip_lasts: float = 35.0
    questions_per_second: float = 200.0
    questions_at_once: float = 2000.0
    hosts: int = 65_536


class RelayTable:
    """
    One beacon's state.

    @ivar beacon_id: 0 stands alone.
    @ivar counters: messages by what became of them.
    """

    __slots__ = (
        "_gossip",
        "_limits",
        "_nodes",
        "_per_host",
        "_questions",
        "_remote",
        "beacon_id",
        "counters",
        "peers",
    )

    def __init__(
        self,
        beacon_id: int = 0,
        peers: Iterable[UdpAddress] = (),
        limits: BeaconLimits | None = None,
    ) -> None:
        """@param peers: beacons to exchange lists with."""
        self.beacon_id = beacon_id
        self.peers: frozenset[UdpAddress] = frozenset(peers)
        self.counters: Counter[str] = Counter()
        self._limits = limits or BeaconLimits()
        self._nodes: dict[int, tuple[UdpAddress, float]] = {}  # the longest silent first
        self._per_host: Counter[str] = Counter()
        self._remote: dict[int, UdpAddress] = {}
        self._gossip: dict[UdpAddress, tuple[float, tuple[int, ...]]] = {}
        self._questions: dict[str, tuple[float, float]] = {}  # host: time, how many are left

    def __len__(self) -> int:
        return len(self._nodes)

    @property
    def remote_nodes(self) -> int:
        """How many nodes are known through other beacons only."""
        return len(self._remote)

    def received(
        self, data: bytes, source: UdpAddress, now: float
    ) -> tuple[tuple[bytes, UdpAddress], ...]:
        """
        Take a datagram.

        @return: the datagrams to send.
        """
        if data[:1] == _RELAY:
            return self._relay(data, source)
        try:
            message = decode_message(data)
        except WireError:
            self.counters["malformed"] += 1
            return ()
        if isinstance(message, Discover):
            return self._discover(message.node_id, source, now)
        if isinstance(message, PunchRequest):
            return self._punch(message, source, now)
        if isinstance(message, Sync):
            self._learn(message, source, now)
        else:
            self.counters["not for a beacon"] += 1
        return ()

    def gossip(self) -> bytes:
        """@return: the message that tells peers of our nodes."""
        nodes = tuple(self._nodes)
        if len(nodes) > SYNC_NODES:
            self.counters["nodes not told"] += len(nodes) - SYNC_NODES
            nodes = nodes[-SYNC_NODES:]  # those heard of last
        return Sync(self.beacon_id, nodes).encode()

    def sweep(self, now: float) -> None:
        """Forget who has not been heard of."""
        old = now - self._limits.node_lasts
        while self._nodes:
            node_id = next(iter(self._nodes))
            if self._nodes[node_id][1] > old:
                break
            self._forget(node_id)
        for host, (when, _) in list(self._questions.items()):
            if when <= now - 60.0:
                del self._questions[host]

    def sweep_gossip(self, now: float) -> None:
        """Forget what peers told that no longer say it, or are no longer peers."""
        for peer, (when, _) in list(self._gossip.items()):
            if when <= now - self._limits.gossip_lasts or peer not in self.peers:
                self._unlearn(peer)

    # -- messages --------------------------------------------------------------------------------

    def _relay(self, data: bytes, source: UdpAddress) -> tuple[tuple[bytes, UdpAddress], ...]:
        if len(data) < _RELAY_HEADER:
            self.counters["malformed"] += 1
            return ()
        destination = int.from_bytes(data[5:9], "big")
        node = self._nodes.get(destination)
        if node is not None:
            self.counters["relayed"] += 1
            return ((_DELIVER + data[1:5] + data[9:], node[0]),)
        beacon = self._remote.get(destination)
        # What came from a beacon does not go to another: two that each believe the other has the
        # node would pass it to and fro for ever.
        if beacon is None or source in self.peers:
            self.counters["no such node"] += 1
            return ()
        self.counters["passed on"] += 1
        return ((data, beacon),)

    def _discover(
        self, node_id: int, source: UdpAddress, now: float
    ) -> tuple[tuple[bytes, UdpAddress], ...]:
        # Node 0 is a node that does not know its id yet.
        if not self._may_ask(source, now) or (node_id and not self._record(node_id, source, now)):
            self.counters["refused"] += 1
            return ()
        self.counters["discovered"] += 1
        return ((DiscoverReply(*source[:2]).encode(), source),)

    def _punch(
        self, request: PunchRequest, source: UdpAddress, now: float
    ) -> tuple[tuple[bytes, UdpAddress], ...]:
        known = self._nodes.get(request.requester)
        if (
            not self._may_ask(source, now)
            or (known is not None and known[0] != source)
            or not request.requester
            or not self._record(request.requester, source, now)
        ):
            self.counters["refused"] += 1
            return ()
        target = self._nodes.get(request.target)
        if target is None:
            self.counters["no such node"] += 1
            return ()
        self.counters["punched"] += 1
        return (
            (PunchCommand(*target[0][:2]).encode(), source),
            (PunchCommand(*source[:2]).encode(), target[0]),
        )

    def _learn(self, sync: Sync, source: UdpAddress, now: float) -> None:
        if source not in self.peers:
            self.counters["refused"] += 1
            return
        self._unlearn(source)
        self._gossip[source] = (now, sync.nodes)
        for node_id in sync.nodes:
            if node_id not in self._nodes:
                self._remote[node_id] = source
        self.counters["learned"] += 1

    # -- tables ----------------------------------------------------------------------------------

    def _record(self, node_id: int, source: UdpAddress, now: float) -> bool:
        """@return: whether there was room."""
        host = source[0]
        known = self._nodes.pop(node_id, None)
        if known is None or known[0][0] != host:
            full = known is None and len(self._nodes) >= self._limits.nodes
            greedy = self._per_host[host] >= self._limits.nodes_per_host
            if full or (greedy and not _is_loopback(host)):
                if known is not None:
                    self._nodes[node_id] = known
                return False
            if known is not None:
                self._leave(known[0][0])
            self._per_host[host] += 1
            self._remote.pop(node_id, None)
        self._nodes[node_id] = (source, now)  # at the end: the order is that of time
        return True

    def _forget(self, node_id: int) -> None:
        source, _ = self._nodes.pop(node_id)
        self._leave(source[0])

    def _leave(self, host: str) -> None:
        self._per_host[host] -= 1
        if not self._per_host[host]:
            del self._per_host[host]

    def _unlearn(self, peer: UdpAddress) -> None:
        for node_id in self._gossip.pop(peer, (0.0, ()))[1]:
            if self._remote.get(node_id) == peer:
                del self._remote[node_id]

    def _may_ask(self, source: UdpAddress, now: float) -> bool:
        """@return: whether this address has not asked too much lately."""
        limits = self._limits
        when, left = self._questions.pop(source[0], (now, limits.questions_at_once))
        left += (now - when) * limits.questions_per_second
        left = min(limits.questions_at_once, left)
        self._questions[source[0]] = (now, max(0.0, left - 1.0))
        if len(self._questions) > limits.hosts:
            del self._questions[next(iter(self._questions))]
        return left >= 1.0


def _is_loopback(host: str) -> bool:
    return host.startswith(("127.", "::ffff:127.")) or host == "::1"
