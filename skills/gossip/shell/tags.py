"""The tags of the swarms among the node's own tags."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from pilot.errors import PilotError
from skills.gossip.shell.naming import tag_of

if TYPE_CHECKING:
    from pilot.interfaces import IPilotNode

log = Logger()

#: Tags a node may have.
MAX_TAGS = 10


class NoTagFree(PilotError):
    """The node has as many tags as it may have."""

    code = "invalid_argument"


class SwarmTags:
    """
    Adds and removes single tags; the others stay as they are.

    @ivar own: the node's tags as they were seen last.
    """

    def __init__(self, node: IPilotNode) -> None:
        self.own: tuple[str, ...] = ()
        self._node = node
        self._lock = DeferredLock()  # the tags are read, changed and written back as a whole
        self._complained: set[str] = set()

    def carries(self, swarm: str) -> bool:
        """@return: whether the node carries the tag of a swarm."""
        return tag_of(swarm) in self.own

    def add(self, swarm: str) -> Deferred[None]:
        """
        @return: Deferred that fails with L{NoTagFree}, or with another C{PilotError} when the
            registry cannot be asked.
        """
        return self._lock.run(lambda: Deferred.fromCoroutine(self._add(swarm)))

    def remove(self, swarm: str) -> Deferred[None]:
        """@return: Deferred that fails with C{PilotError} when the registry cannot be asked."""
        return self._lock.run(lambda: Deferred.fromCoroutine(self._remove(swarm)))

    async def keep(self, swarms: Iterable[str]) -> None:
        """Add what is missing, because somebody has set other tags; never fails."""
        for swarm in swarms:
            try:
                await self.add(swarm)
            except PilotError as error:
                if swarm not in self._complained:
                    self._complained.add(swarm)
                    log.warn(
                        "the tag of swarm {swarm} cannot be set, so that only members who know of"
                        " this node will find it: {error}",
                        swarm=swarm,
                        error=error.message,
                    )
            else:
                self._complained.discard(swarm)

    async def _add(self, swarm: str) -> None:
        tag, tags = tag_of(swarm), await self._look()
        if tag in tags:
            return
        if len(tags) >= MAX_TAGS:
            shown = " ".join(f"#{each}" for each in tags)
            raise NoTagFree(
                f"no tag is free for swarm {swarm}: this node has {shown}",
                hint="a node has ten tags at most; give one up with: pilotctl set-tags",
            )
        self.own = tuple(await self._node.set_tags([*tags, tag]))

    async def _remove(self, swarm: str) -> None:
        tag, tags = tag_of(swarm), await self._look()
        if tag in tags:
            self.own = tuple(await self._node.set_tags([each for each in tags if each != tag]))

    async def _look(self) -> list[str]:
        tags = list(await self._node.tags())
        self.own = tuple(tags)
        return tags
