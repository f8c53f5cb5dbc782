"""Incoming messages: for which swarm each is, and whether it is taken at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilot.errors import PilotError
from skills.gossip.core.messages import VERSION

if TYPE_CHECKING:
    from pilot.address import Address
    from skills.gossip.shell.company import Company
    from skills.gossip.swarm import Swarm

PUSH, LEAVE = "gossip_push", "gossip_leave"


class Post:
    """
    Sorts messages.

    A message of version 2 names its swarm.  A push of version 1 does not: it is for the one swarm
    that its sender shares with us.  If there is none, or more than one, it goes to the inbox, where
    scripts and C{pilotctl gossip merge} find it.

    @ivar counts: messages C{taken}; pushes C{left} to the inbox; messages of C{strangers}, and for
        swarms that were not joined (C{elsewhere}), which are dropped.
    """

    def __init__(self, own: int, swarms: Mapping[str, Swarm], company: Company) -> None:
        self.counts: Counter[str] = Counter()
        self._own = own
        self._swarms = swarms
        self._company = company

    async def deliver(self, source: Address, document: dict[str, Any], size: int) -> bool:
        """
        As C{IPilotNode.claim_messages} wants it.

        @return: false: it is something for the inbox.
        """
        peer = source.node
        push = document.get("type") == PUSH
        name = named_swarm(document)
        if peer == self._own:
            return self._left() if push else True
        try:
            trusted = await self._company.trusts(peer)
        except PilotError:
            trusted = False
        if not trusted:
            self.counts["strangers"] += 1
            return self._left() if push else True
        if name is None:
            return self._unnamed(peer, document, size, push)
        swarm = self._swarms.get(name)
        if swarm is None:
            self.counts["elsewhere"] += 1
            return self._left() if push else True
        if document.get("type") == LEAVE:
            swarm.spoke.pop(peer, None)
        else:
            self._company.spoke(swarm, peer)
        return self._taken(swarm, peer, document, size)

    def _unnamed(self, peer: int, document: dict[str, Any], size: int, push: bool) -> bool:
        shared = self._company.shared(peer)
        if len(shared) == 1:
            return self._taken(shared[0], peer, document, size)
        if push:
            return self._left()
        self.counts["elsewhere"] += 1
        return True

    def _taken(self, swarm: Swarm, peer: int, document: dict[str, Any], size: int) -> bool:
        self.counts["taken"] += 1
        swarm.heard(peer, document, size)
        return True

    def _left(self) -> bool:
        self.counts["left"] += 1
        return False


def named_swarm(document: Mapping[str, Any]) -> str | None:
    """@return: the swarm that a message of version 2 names; C{None} for all others."""
    if document.get("type") == PUSH:
        extra = document.get("g")
        version = extra.get("v") if isinstance(extra, dict) else None
        if not isinstance(extra, dict) or type(version) is not int or version < VERSION:
            return None
        name = extra.get("swarm")
    else:
        name = document.get("swarm")
    return name if isinstance(name, str) else None
