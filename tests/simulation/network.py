"""A datagram network in memory: one seed and one clock decide everything.

Its sockets have the interface of L{pilot.tunnel.socket.UdpSocket}, so whole nodes run over it, as
many as one likes, in no time at all.  The same seed gives the same run, datagram for datagram.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from twisted.internet.task import Clock

from pilot.tunnel.socket import Receiver

SocketAddress = tuple[str, int]

#: What fits a UDP datagram over IPv4.
MAX_DATAGRAM = 65_507


@dataclass
class Faults:
    """
    What the network does to a datagram; each a probability, all of them at once.

    @ivar delay: seconds on the way, between these two; a spread reorders.
    @ivar reorder: chance of being held back by up to C{held_back} seconds more.
    @ivar truncate: chance of losing its end.
    """

    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0
    truncate: float = 0.0
    delay: tuple[float, float] = (0.005, 0.005)
    held_back: float = 0.1


@dataclass
class _Nat:
    """Lets in only what comes from where something was sent to."""

    inside: SocketAddress
    outside: SocketAddress
    contacted: set[SocketAddress] = field(default_factory=set)


class LossyNetwork:
    """
    Carries datagrams between the sockets attached to it.

    @ivar faults: may be changed at any time.
    @ivar merge: whether neighbouring datagrams of one sender arrive in one piece, as from a kernel
        with GRO.
    @ivar counters: C{carried}, C{lost}, C{duplicated}, C{corrupted}, C{truncated}, C{unreachable}.
    @ivar tap: called with source, destination and data of everything sent; what it returns is sent
        instead, nothing if that is None.
    """

    def __init__(
        self,
        clock: Clock,
        seed: int = 0,
        faults: Faults | None = None,
        *,
        merge: bool = True,
    ) -> None:
        self.clock = clock
        self.faults = faults or Faults()
        self.merge = merge
        self.counters: Counter[str] = Counter()
        self.tap: Callable[[SocketAddress, SocketAddress, bytes], bytes | None] | None = None
        self._rng = random.Random(seed)
        self._sockets: dict[SocketAddress, SimulatedSocket] = {}
        self._nats: dict[SocketAddress, _Nat] = {}
        self._outside: dict[SocketAddress, _Nat] = {}
        self._blocked: set[tuple[SocketAddress, SocketAddress]] = set()
        self._next_port = 40_000

    # -- taking part ---------------------------------------------------------------------------

    def socket(self, address: SocketAddress) -> SimulatedSocket:
        """@return: a socket for C{address}, silent until it is started; port 0 gets a free one."""
        host, port = address
        if not port:
            self._next_port += 1
            port = self._next_port
        return SimulatedSocket(self, (host, port))

    def attach(self, address: SocketAddress, receiver: Receiver) -> SimulatedSocket:
        """@return: a socket for C{address} that feeds C{receiver}."""
        socket = self.socket(address)
        socket.start(receiver)
        return socket

    def nat(self, inside: SocketAddress, outside: SocketAddress) -> None:
        """Put the socket at C{inside} behind a NAT that shows it as C{outside}."""
        self._nats[inside] = self._outside[outside] = _Nat(inside, outside)

    # -- breaking things -----------------------------------------------------------------------

    def block(self, source: SocketAddress, destination: SocketAddress) -> None:
        """Nothing gets from C{source} to C{destination} until L{heal}."""
        self._blocked.add((source, destination))

    def partition(self, here: SocketAddress, there: SocketAddress) -> None:
        """Nothing gets from one to the other until L{heal}."""
        self.block(here, there)
        self.block(there, here)

    def heal(self) -> None:
        """Everybody reaches everybody again."""
        self._blocked.clear()

    def crash(self, address: SocketAddress) -> None:
        """The socket at C{address} is gone, and with it whatever is on the way to it."""
        socket = self._sockets.pop(address, None)
        if socket is not None:
            socket.dead = True

    # -- carrying ------------------------------------------------------------------------------

    def carry(self, data: bytes, source: SocketAddress, destination: SocketAddress) -> None:
        """Send one datagram on its way, or do to it what the faults say."""
        if self.tap is not None:
            tapped = self.tap(source, destination, data)
            if tapped is None:
                return
            data = tapped
        if (source, destination) in self._blocked:
            self.counters["lost"] += 1
            return
        nat = self._nats.get(source)
        if nat is not None:
            nat.contacted.add(destination)
            source = nat.outside
        rng, faults = self._rng, self.faults
        for copy in range(1 + (rng.random() < faults.duplicate)):
            self.counters["duplicated"] += copy
            if rng.random() < faults.loss:
                self.counters["lost"] += 1
                continue
            delay = rng.uniform(*faults.delay)
            if rng.random() < faults.reorder:
                delay += rng.uniform(0.0, faults.held_back)
            self.clock.callLater(delay, self._arrive, self._damaged(data), source, destination)

    def _damaged(self, data: bytes) -> bytes:
        rng, faults = self._rng, self.faults
        if data and rng.random() < faults.corrupt:
            self.counters["corrupted"] += 1
            at = rng.randrange(len(data))
            data = data[:at] + bytes((data[at] ^ 1 << rng.randrange(8),)) + data[at + 1 :]
        if data and rng.random() < faults.truncate:
            self.counters["truncated"] += 1
            data = data[: rng.randrange(len(data))]
        return data

    def _arrive(self, data: bytes, source: SocketAddress, destination: SocketAddress) -> None:
        nat = self._outside.get(destination)
        if nat is not None:
            if source not in nat.contacted:
                self.counters["unreachable"] += 1
                return
            destination = nat.inside
        elif destination in self._nats and source in self._outside:
            self.counters["unreachable"] += 1  # an inner address, seen from elsewhere
            return
        socket = self._sockets.get(destination)
        if socket is None:
            self.counters["unreachable"] += 1
            return
        self.counters["carried"] += 1
        socket.take(data, source)


class SimulatedSocket:
    """
    One end of the network; see L{pilot.tunnel.socket.DatagramSocket}.

    @ivar dead: it has crashed: nothing leaves it any more.
    """

    receive_buffer = 8 << 20

    def __init__(self, network: LossyNetwork, address: SocketAddress) -> None:
        self.address = address
        self.counters: Counter[str] = Counter()
        self.dead = False
        self._network = network
        self._receiver: Receiver | None = None
        self._inbox: list[tuple[bytes, SocketAddress]] = []

    def start(self, receiver: Receiver) -> None:
        """Receive from now on.  @raise OSError: the address is taken."""
        if self._network._sockets.setdefault(self.address, self) is not self:
            raise OSError(f"{self.address} is taken")
        self._receiver = receiver

    def close(self) -> None:
        """Leave the network."""
        if self._network._sockets.get(self.address) is self:
            del self._network._sockets[self.address]
        self.dead = True

    def send(self, datagram: bytes, addr: SocketAddress) -> int:
        """Send one datagram."""
        if self.dead or len(datagram) > MAX_DATAGRAM:
            self.counters["send_lost"] += 1
            return 0
        self._network.carry(bytes(datagram), self.address, addr)
        return 1

    def send_batch(
        self, buffers: Sequence[bytes], parts: int, size: int, addr: SocketAddress
    ) -> int:
        """Send datagrams, cut as the kernel would cut them: every C{size} bytes."""
        whole = b"".join(buffers)
        count = len(buffers) // parts
        assert len(range(0, len(whole), size)) == count, "datagrams of different sizes in a batch"
        return sum(self.send(whole[at : at + size], addr) for at in range(0, len(whole), size))

    def take(self, data: bytes, source: SocketAddress) -> None:
        """A datagram has arrived."""
        if not self._inbox:
            self._network.clock.callLater(0, self._hand_over)
        self._inbox.append((data, source))

    def _hand_over(self) -> None:
        inbox, self._inbox = self._inbox, []
        if self.dead or self._receiver is None:
            return
        while inbox:
            data, source = inbox.pop(0)
            if not data:
                continue
            pieces = [data]
            while (
                self._network.merge
                and inbox
                and inbox[0][1] == source
                and 0 < len(inbox[0][0]) <= len(data) == len(pieces[-1])
                and len(pieces) < 64
                and len(data) * (len(pieces) + 1) < MAX_DATAGRAM
            ):
                pieces.append(inbox.pop(0)[0])
            self._receiver.datagrams_received(b"".join(pieces), len(data), source)
            if self.dead:
                return
        self._receiver.batch_ended()
