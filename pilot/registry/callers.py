"""Who is on the other end of a connection, as far as it has shown.

Reference daemons sign few of their requests and send the others over the same connection.  So a
connection is remembered with the nodes whose signature it has shown (it has I{proven} to be them)
and with those it registered without one (it I{claims} to be them).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from pilot.registry.limits import DEFAULT_LIMITS, Limits
from pilot.registry.records import Letter

_NONE: frozenset[int] = frozenset()


class Caller:
    """
    One connection.

    @ivar host: its source address, an IPv4 one in plain form.
    @ivar port: its source port.
    @ivar proven: ids of the nodes it has shown a valid signature of.
    @ivar claimed: ids of the nodes it registered without proof.
    @ivar wants_notice: ids of those nodes that asked to be told of their letters.
    @ivar proven_at: when it last showed a valid signature, Unix seconds.
    @ivar collected: letters in the latest answer, to be put back should it not arrive.
    """

    __slots__ = (
        "claimed",
        "collected",
        "host",
        "notify",
        "port",
        "proven",
        "proven_at",
        "wants_notice",
    )

    def __init__(self, host: str, port: int, notify: Callable[[str], None] | None = None) -> None:
        """@param notify: pushes an event to the client; None when the connection cannot."""
        self.host = host
        self.port = port
        self.notify = notify
        self.proven: set[int] | frozenset[int] = _NONE
        self.claimed: set[int] | frozenset[int] = _NONE
        self.wants_notice: set[int] | frozenset[int] = _NONE
        self.proven_at = 0.0
        self.collected: Sequence[Letter] = ()

    def is_known_as(self, node_id: int) -> bool:
        """@return: whether this connection proved or claims to be C{node_id}."""
        return node_id in self.proven or node_id in self.claimed


class Callers:
    """The open connections, by the nodes they have proven to be."""

    __slots__ = ("_by_node", "_limits")

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._by_node: dict[int, tuple[Caller, ...]] = {}

    def prove(self, caller: Caller, node_id: int, now: float) -> None:
        """C{caller} has just shown a signature of C{node_id}."""
        caller.proven_at = now
        if node_id in caller.proven or len(caller.proven) >= self._limits.nodes_per_caller:
            return
        caller.proven = {*caller.proven, node_id}
        self._by_node[node_id] = (*self._by_node.get(node_id, ()), caller)

    def claim(self, caller: Caller, node_id: int) -> None:
        """C{caller} has just registered C{node_id} without proof."""
        if len(caller.claimed) < self._limits.nodes_per_caller:
            caller.claimed = {*caller.claimed, node_id}

    def want_notice(self, caller: Caller, node_id: int) -> bool:
        """
        C{caller} asks to be told of the letters of C{node_id}.

        @return: whether it will be: it must have proven to be that node, and be able to listen.
        """
        if caller.notify is None or node_id not in caller.proven:
            return False
        caller.wants_notice = {*caller.wants_notice, node_id}
        return True

    def witness(self, node_id: int, host: str, caller: Caller, now: float) -> bool:
        """
        @param host: where the node is registered.
        @return: whether a connection from there other than C{caller} has proven to be the node
            and is active.
        """
        return any(
            other is not caller
            and other.host == host
            and now - other.proven_at <= self._limits.witness_active
            for other in self._by_node.get(node_id, ())
        )

    def listening(self, node_id: int) -> Iterator[Caller]:
        """@return: the connections to push the node's events to."""
        return (c for c in self._by_node.get(node_id, ()) if node_id in c.wants_notice)

    def gone(self, caller: Caller) -> None:
        """The connection is closed."""
        for node_id in caller.proven:
            left = tuple(c for c in self._by_node[node_id] if c is not caller)
            if left:
                self._by_node[node_id] = left
            else:
                del self._by_node[node_id]
        caller.proven = caller.claimed = caller.wants_notice = _NONE
