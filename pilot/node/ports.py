"""Which virtual ports are bound, who may still connect, and which port a dial leaves from."""

from __future__ import annotations

import random
from collections import Counter, OrderedDict
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass

from twisted.internet.interfaces import IProtocolFactory

from pilot.address import EPHEMERAL_PORTS
from pilot.errors import ConnectionFailed, InvalidArgument, PortInUse


@dataclass(frozen=True)
class PortLimits:
    """
    What an incoming connection may cost (defaults: protocol notes, I{Stream constants}).

    @ivar connections_per_port: open inbound streams of one local port.
    @ivar connections_total: open streams of the node, dialled ones included.
    @ivar syn_rate: connection requests a second from everybody together (also the burst).
    @ivar syn_rate_per_source: the same from one node; half of the whole, so that one busy peer
        (a browser, say) is served and the others still get their turn.
    @ivar tracked_sources: nodes whose rate is remembered; the longest silent is forgotten first.
    @ivar listeners: bound ports.
    """

    connections_per_port: int = 1024
    connections_total: int = 4096
    syn_rate: float = 100.0
    syn_rate_per_source: float = 50.0
    tracked_sources: int = 4096
    listeners: int = 1024


class TokenBucket:
    """C{rate} tokens a second, at most C{rate} saved up; fractions are kept."""

    __slots__ = ("_rate", "_then", "_tokens")

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._tokens = max(1.0, rate)
        self._then = now

    def take(self, now: float) -> bool:
        """@return: whether there was a token, which is spent."""
        self._tokens = min(max(1.0, self._rate), self._tokens + (now - self._then) * self._rate)
        self._then = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class SynRate:
    """How fast connection requests may come, together and from one node."""

    def __init__(self, limits: PortLimits, now: float) -> None:
        self._limits = limits
        self._all = TokenBucket(limits.syn_rate, now)
        self._sources: OrderedDict[int, TokenBucket] = OrderedDict()

    def refusal(self, node_id: int, now: float) -> str | None:
        """
        Spend one request of C{node_id}.

        The node's own bucket comes first, so that a flood from one node does not use up
        what is left for the others.

        @return: None when it may pass, else the name of the exhausted bucket,
            C{"syn_rate_source"} or C{"syn_rate"}.
        """
        bucket = self._sources.get(node_id)
        if bucket is None:
            if len(self._sources) >= self._limits.tracked_sources:
                self._sources.popitem(last=False)
            bucket = self._sources[node_id] = TokenBucket(self._limits.syn_rate_per_source, now)
        self._sources.move_to_end(node_id)
        if not bucket.take(now):
            return "syn_rate_source"
        if not self._all.take(now):
            return "syn_rate"
        return None


class PortTable:
    """
    The bound ports of a node.

    @ivar refused: how often each named limit turned somebody away.
    """

    def __init__(self, limits: PortLimits, rng: random.Random) -> None:
        self._limits = limits
        self._rng = rng
        self._bound: dict[int, IProtocolFactory] = {}
        self._inbound: Counter[int] = Counter()
        self.refused: Counter[str] = Counter()

    def bind(self, port: int, factory: IProtocolFactory) -> Callable[[], None]:
        """
        Serve C{factory} on C{port}; 0 takes a free ephemeral port.

        @return: a callable that frees the port; calling it again does nothing.
        @raise PortInUse: somebody else has it.
        @raise ConnectionFailed: too many ports are bound.
        """
        if not 0 <= port <= 0xFFFF:
            raise InvalidArgument(f"invalid port {port}: expected 0 to 65535")
        if port in self._bound:
            raise PortInUse(f"port {port} already bound")
        if len(self._bound) >= self._limits.listeners:
            self.refused["listeners"] += 1
            raise ConnectionFailed(f"too many bound ports (limit {self._limits.listeners})")
        self._bound[port] = factory

        def unbind() -> None:
            if self._bound.get(port) is factory:
                del self._bound[port]

        return unbind

    def free_port(self, taken: Container[int] = ()) -> int:
        """
        Pick an ephemeral port, at random so that a restarted node does not meet its own past.

        @param taken: ports in use besides the bound ones.
        @raise ConnectionFailed: all are in use.
        """
        start = self._rng.randrange(len(EPHEMERAL_PORTS))
        for step in range(len(EPHEMERAL_PORTS)):
            port = EPHEMERAL_PORTS[(start + step) % len(EPHEMERAL_PORTS)]
            if port not in self._bound and port not in taken:
                return port
        raise ConnectionFailed("no ephemeral port is free")

    def factory(self, port: int) -> IProtocolFactory | None:
        """@return: what listens on C{port}, or None."""
        return self._bound.get(port)

    def admit(self, port: int, total: int) -> str | None:
        """
        Ask for one more inbound stream of C{port}; L{release} gives it back.

        @param total: streams open now.
        @return: None when it may come in, else the name of the limit that forbids it.
        """
        if self._inbound[port] >= self._limits.connections_per_port:
            refusal = "connections_per_port"
        elif total >= self._limits.connections_total:
            refusal = "connections_total"
        else:
            self._inbound[port] += 1
            return None
        self.refused[refusal] += 1
        return refusal

    def release(self, port: int) -> None:
        """An admitted stream of C{port} is over."""
        self._inbound[port] -= 1
        if self._inbound[port] <= 0:
            del self._inbound[port]

    def __len__(self) -> int:
        return len(self._bound)

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._bound))
