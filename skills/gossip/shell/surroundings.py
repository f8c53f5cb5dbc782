"""What all swarms of a node share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from skills.gossip.shell.proofs import Proofs

if TYPE_CHECKING:
    from pilot.interfaces import IPilotNode


class Surroundings:
    """
    The node, the clocks and the disk.

    @ivar node: provides L{IPilotNode}.
    @ivar node_id: its number.
    @ivar reactor: for timers.
    @ivar wall: unix seconds; may jump.
    @ivar now: monotonic seconds; what replicas call now.
    @ivar rng: where chance comes from.
    @ivar home: the directory of the skill.
    @ivar durability: when writes are forced to the disk.
    @ivar proofs: makes and checks signatures.
    @ivar tagged: whether this node carries the tag of a swarm.
    """

    def __init__(
        self,
        node: IPilotNode,
        *,
        reactor: Any,
        now: Callable[[], float],
        rng: Random,
        home: Path,
        durability: str,
        tagged: Callable[[str], bool],
    ) -> None:
        self.node = node
        self.node_id: int = node.address.node
        self.reactor = reactor
        self.wall: Callable[[], float] = reactor.seconds
        self.now = now
        self.rng = rng
        self.home = home
        self.durability = durability
        self.proofs = Proofs(node, now)
        self.tagged = tagged

    def path(self, swarm: str) -> Path:
        """@return: where the files of a swarm are."""
        return self.home / "swarms" / swarm

    def pause(self, seconds: float) -> Deferred[None]:
        """@return: Deferred that fires later."""
        return deferLater(self.reactor, seconds)
