"""The peer table: bounded, so that it knows whom to forget first."""

from __future__ import annotations

from collections.abc import Iterator

from pilot.tunnel.core import Core
from pilot.tunnel.peer import Peer, Surroundings


class PeerTable:
    """Peers by node id."""

    def __init__(self, core: Core, surroundings: Surroundings) -> None:
        self._core = core
        self._surroundings = surroundings
        self._peers: dict[int, Peer] = {}
        #: Looked at for each batch that is sent.
        self.get = self._peers.get

    def __len__(self) -> int:
        return len(self._peers)

    def __iter__(self) -> Iterator[Peer]:
        return iter(list(self._peers.values()))

    def make(self, node_id: int) -> Peer | None:
        """@return: the entry of C{node_id}, new if need be; None if the table is full."""
        peer = self._peers.get(node_id)
        if peer is None:
            if len(self._peers) >= self._core.config.max_peers and not self._make_room():
                self._core.counters["peers_refused"] += 1
                self._core.incidents.note("peers_full", "the peer table is full")
                return None
            peer = self._peers[node_id] = Peer(self._core, self._surroundings, node_id)
        return peer

    def remove(self, peer: Peer) -> None:
        """Forget C{peer}, its sessions and its timer."""
        if self._peers.pop(peer.node_id, None) is not None:
            peer.stop()

    def clear(self) -> None:
        """Forget everybody."""
        for peer in self:
            self.remove(peer)

    def _make_room(self) -> bool:
        """Let go of whoever we have least use for: never proved a key, not sent to for longest."""

        def use(peer: Peer) -> tuple[bool, float]:
            return peer.ring.confirmed, peer.wanted_at

        spare = min(self._peers.values(), key=use)
        proved, wanted_at = use(spare)
        if proved and self._core.now() - wanted_at < self._core.config.idle_unkeyed:
            return False
        self._surroundings.remove(spare)
        return True
