"""Finding a way to a node: what the registry says, the neighbourhood, the beacon's introduction.

@see: protocol notes, I{Reaching a peer}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from twisted.internet.defer import CancelledError, Deferred, fail, maybeDeferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.logger import Logger
from twisted.python.failure import Failure

from pilot.errors import ConnectionFailed, PilotError
from pilot.tunnel.core import Core
from pilot.tunnel.endpoints import (
    SocketAddress,
    format_endpoint,
    is_reachable,
    lan_match,
    parse_endpoint,
)
from pilot.tunnel.identities import IdentityCache
from pilot.tunnel.peer import Peer
from pilot.tunnel.peers import PeerTable
from pilot.tunnel.traversal import BeaconClient

log = Logger()


class Endpoint(NamedTuple):
    """
    Where the registry says a node is.

    @ivar real_addr: C{host:port}.
    @ivar lan_addrs: its addresses behind its own NAT.
    """

    real_addr: str
    lan_addrs: tuple[str, ...] = ()


class Directory(Protocol):
    """Whoever knows about nodes: the registry, remembered."""

    def resolve(self, node_id: int) -> Deferred[Endpoint]:
        """@return: Deferred of where C{node_id} is; it fails with a C{PilotError}."""

    def moved(self, node_id: int) -> None:
        """What is remembered of where C{node_id} is does not hold: ask again next time."""

    def identity_key(self, node_id: int) -> Deferred[bytes | None]:
        """@return: Deferred of its registered Ed25519 key, None if there is none."""


class Reaching:
    """
    Makes entries in the peer table for nodes that somebody wants to reach.

    @ivar neighbours: our own LAN endpoints; who shares their network is reached there.
    @ivar flush: called with a peer that a way was found to and whose packets need no key.
    """

    def __init__(
        self,
        core: Core,
        table: PeerTable,
        directory: Directory,
        identities: IdentityCache,
        beacon: BeaconClient,
        *,
        encrypt: bool,
    ) -> None:
        self.neighbours: tuple[str, ...] = ()
        self.flush: Callable[[Peer], None] = lambda peer: None
        self._core = core
        self._table = table
        self._directory = directory
        self._identities = identities
        self._beacon = beacon
        self._encrypt = encrypt
        self._waiting: dict[int, list[Deferred[None]]] = {}
        self._questions: dict[int, Deferred[Endpoint]] = {}
        self._closed = False

    def ensure(self, node_id: int) -> Deferred[None]:
        """
        See that there is a way to a node, and have its key on the way.

        @return: Deferred; it fails with C{ConnectionFailed} when nobody knows where the node is.
        """
        if node_id == self._core.node_id:
            return succeed(None)
        peer = self._table.get(node_id)
        if peer is not None and peer.ways.addr is not None:
            if self._encrypt and peer.ring.session is None:
                peer.life.wanted()
            if not peer.ways.verified and peer.ways.registered is None:
                # All we have is where a key frame came from, which anybody can have replayed.
                self.reach(peer, afresh=False)
            return succeed(None)
        if not self._core.node_id:
            return fail(ConnectionFailed("this node is not registered yet"))
        if self._closed or len(self._waiting) >= self._core.config.max_peers:
            return fail(ConnectionFailed(f"resolve node {node_id}: too many are looked for"))
        mine: Deferred[None] = Deferred()
        waiting = self._waiting.get(node_id)
        if waiting is not None:
            waiting.append(mine)
            return mine
        self._waiting[node_id] = [mine]
        if self._encrypt:
            # By the time the peer answers, its identity will be known.
            self._identities.ask(node_id, None, None, urgent=True)
        self._resolve(node_id).addCallback(self._found, node_id).addBoth(self._done, node_id)
        return mine

    def reach(self, peer: Peer, *, afresh: bool) -> None:
        """
        Look for a better way to a peer: ask the beacon to introduce us, the registry where it is.

        @param afresh: what was known before does not hold.
        """
        node_id = peer.node_id
        self._beacon.request_punch(node_id)
        if node_id in self._questions or self._closed:
            return
        if afresh:
            self._directory.moved(node_id)

        def found(endpoint: Endpoint) -> None:
            addr, _ = self._choose(endpoint)
            if addr is not None and self._table.get(node_id) is peer:
                peer.resolved(addr)

        # Nobody waits: what fails here fails again, and is reported, when somebody does.
        self._resolve(node_id).addCallback(found).addErrback(lambda _: None)

    def close(self) -> None:
        """Let go of the questions under way."""
        self._closed = True
        for question in list(self._questions.values()):
            question.cancel()

    def _resolve(self, node_id: int) -> Deferred[Endpoint]:
        question = maybeDeferred(self._directory.resolve, node_id)
        self._questions[node_id] = question
        question.addTimeout(self._core.config.resolve_deadline, self._core.clock)

        def answered(result: Any) -> Any:
            if self._questions.get(node_id) is question:
                del self._questions[node_id]
            return result

        return question.addBoth(answered)

    def _found(self, endpoint: Endpoint, node_id: int) -> None:
        if self._closed:
            raise ConnectionFailed(f"resolve node {node_id}: the tunnel is closed")
        addr, neighbour = self._choose(endpoint)
        if addr is None:
            raise ConnectionFailed(f"resolve {endpoint.real_addr or 'nothing'}: not an endpoint")
        known = self._table.get(node_id) is not None
        peer = self._table.make(node_id)
        if peer is None:
            raise ConnectionFailed(f"no room for node {node_id}: the peer table is full")
        peer.resolved(addr)
        if not known:
            data = {"peer_node_id": node_id, "endpoint": format_endpoint(addr)}
            self._core.emit("tunnel.peer_added", data)
        if not neighbour:
            self._beacon.request_punch(node_id)
        if self._encrypt and peer.ring.session is None:
            peer.life.wanted()
        else:
            self.flush(peer)

    def _done(self, result: Any, node_id: int) -> None:
        waiting = self._waiting.pop(node_id)
        if not isinstance(result, Failure):
            for deferred in waiting:
                deferred.callback(None)
            return
        error: BaseException | None = result.value
        if isinstance(error, DeferredTimeout | CancelledError):
            error = ConnectionFailed(f"resolve node {node_id}: no answer from the registry")
        elif not isinstance(error, PilotError):
            log.failure("node {node} not resolved", result, node=node_id)
            error = ConnectionFailed(f"resolve node {node_id}: {result.getErrorMessage()}")
        for deferred in waiting:
            deferred.errback(error)

    def _choose(self, endpoint: Endpoint) -> tuple[SocketAddress | None, bool]:
        """@return: the address to try, and whether it is a neighbour's."""
        neighbour = parse_endpoint(lan_match(self.neighbours, endpoint.lan_addrs))
        addr = neighbour or parse_endpoint(endpoint.real_addr)
        if addr is None or not is_reachable(addr):
            return None, False
        return addr, neighbour is not None
