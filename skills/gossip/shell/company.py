"""Which trusted peers share which swarm with this node.

A peer is in a swarm if it carries the swarm's tag, or if it has named the swarm in a message of
version 2: its tag may be older news than its message.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from skills.gossip.core.effects import PeerFacts
from skills.gossip.shell.naming import tag_of

if TYPE_CHECKING:
    from skills.gossip.shell.surroundings import Surroundings
    from skills.gossip.swarm import Swarm

#: A peer that named a swarm counts as a member for so long without its tag, seconds.
SPOKE_LIFE = 600.0

#: A stranger's message has the trusted peers looked up again, at most so often, seconds.
LOOK_PAUSE = 1.0

#: Seconds between two looks that nobody has asked for, at most; and peers that may be looked at in
#: a second.  With few of them every look is in time, so that a new one is met at once.
LOOK_EVERY, LOOK_RATE = 5.0, 50


class Company:
    """
    The trusted peers.

    @ivar peers: them, as C{IPilotNode.peers} has them, by node.
    """

    def __init__(self, surroundings: Surroundings, swarms: Mapping[str, Swarm]) -> None:
        self.peers: dict[int, dict[str, Any]] = {}
        self._around = surroundings
        self._swarms = swarms
        self._looked_at = float("-inf")
        self._last: dict[str, list[PeerFacts]] = {}

    def look(self, *, fresh: bool = False) -> Deferred[None]:
        """
        Look who is trusted and what they carry, and tell the swarms.

        @param fresh: wait for the registry where what is known is a few seconds old.
        @return: Deferred that fails with C{PilotError} when the node cannot say.
        """
        self._looked_at = self._around.now()
        return self._around.node.peers(fresh=fresh).addCallback(self._seen)

    @property
    def is_look_due(self) -> bool:
        """Whether it is time to look by ourselves."""
        pause = min(LOOK_EVERY, len(self.peers) / LOOK_RATE)
        return self._around.now() - self._looked_at >= pause

    async def trusts(self, peer: int) -> bool:
        """@return: whether a peer is trusted; it may have become so this second."""
        if peer not in self.peers and self._around.now() - self._looked_at >= LOOK_PAUSE:
            await self.look()
        return peer in self.peers

    def spoke(self, swarm: Swarm, peer: int) -> None:
        """A trusted peer has named a swarm."""
        new = peer not in swarm.spoke
        swarm.spoke[peer] = self._around.now()
        if new:
            self._tell(swarm)

    def shared(self, peer: int) -> list[Swarm]:
        """@return: the joined swarms that a peer is in too."""
        return [swarm for swarm in self._swarms.values() if self._is_in(peer, swarm)]

    def joined(self, swarm: Swarm) -> None:
        """A swarm was joined: tell it what is known already."""
        self._last.pop(swarm.name, None)
        self._tell(swarm)

    def _seen(self, found: Iterable[dict[str, Any]]) -> None:
        self.peers = {
            entry["node_id"]: entry for entry in found if entry["node_id"] != self._around.node_id
        }
        for swarm in list(self._swarms.values()):
            self._tell(swarm)

    def _tell(self, swarm: Swarm) -> None:
        horizon = self._around.now() - SPOKE_LIFE
        for peer in [peer for peer, when in swarm.spoke.items() if when < horizon]:
            del swarm.spoke[peer]
        facts = [
            PeerFacts(peer, None, str(entry.get("hostname") or ""))
            for peer, entry in self.peers.items()
            if self._is_in(peer, swarm)
        ]
        if facts != self._last.get(swarm.name):
            self._last[swarm.name] = facts
            swarm.members_changed(facts)

    def _is_in(self, peer: int, swarm: Swarm) -> bool:
        entry = self.peers.get(peer)
        if entry is None:
            return False
        return peer in swarm.spoke or tag_of(swarm.name) in entry.get("tags", ())
