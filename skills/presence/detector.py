"""Who is there: a sans-IO failure detector for members that need not all trust each other.

Signatures first; the effects are in L{skills.presence.reach}.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from skills.presence.messages import Message
from skills.presence.profiles import WAN, Profile
from skills.presence.reach import Effect


class Detector:
    """
    One node's view of its swarm.  Every method takes C{now} (seconds, monotonic) and returns
    what is to be done.

    @ivar incarnation: our own; raised only over a false claim about us (effect C{Raised}).
    @ivar sequence: our own; grows every period.
    @ivar frozen: whether verdicts are held.
    """

    incarnation: int
    sequence: int
    frozen: bool

    def __init__(
        self,
        node_id: int,
        *,
        now: float,
        rng: random.Random,
        profile: Profile = WAN,
        incarnation: int = 1,
    ) -> None: ...

    def members_changed(self, now: float, node_ids: Iterable[int]) -> list[Effect]:
        """These, and no others, are ours to probe (ourselves left out)."""
        raise NotImplementedError

    def on_message(self, now: float, peer: int, message: Message) -> list[Effect]:
        """A decoded datagram from an authenticated peer."""
        raise NotImplementedError

    def on_timer(self, now: float) -> list[Effect]:
        """The deadline passed.  Called early it does nothing; called late it doubts itself."""
        raise NotImplementedError

    def deadline(self) -> float | None:
        """@return: when L{on_timer} wants to be called; C{None} after a leave."""
        raise NotImplementedError

    def alive(
        self, now: float, node_id: int, inc: int | None = None, seq: int | None = None
    ) -> list[Effect]:
        """Any other authenticated evidence that a node lives, straight from itself."""
        raise NotImplementedError

    def connected(self, now: float) -> list[Effect]:
        """Proof that our own network works although no member spoke (registry, beacon)."""
        raise NotImplementedError

    def hint(self, now: float, node_id: int) -> list[Effect]:
        """Something looked wrong (reset, dial failure): verify at once, decide nothing."""
        raise NotImplementedError

    def excuse(self, now: float, node_id: int | None = None) -> list[Effect]:
        """No accusation of ours for one lease: of that node (rekey, path switch), or of anybody."""
        raise NotImplementedError

    def next_sequence(self) -> int:
        """@return: a sequence of our own never used before, for a new status record."""
        raise NotImplementedError

    def set_record(self, now: float, record: dict[str, Any]) -> list[Effect]:
        """
        Our own status record from now on: C{node}, C{inc}, C{seq} of ours, C{seq} from
        L{next_sequence}.  It is pushed at once and carried until the next.
        @raise PresenceError: it is not ours, older than the last, or over 800 bytes.
        """
        raise NotImplementedError

    def leave(self, now: float) -> list[Effect]:
        """Say goodbye to several members, which pass it on.  Nothing is sent afterwards."""
        raise NotImplementedError

    def reach(self, node_id: int) -> str | None:
        """@return: C{fresh}, C{suspect}, C{gone}, or C{None} for somebody unknown."""
        raise NotImplementedError

    def record(self, node_id: int) -> dict[str, Any] | None:
        """@return: the newest status record known of a node; read only."""
        raise NotImplementedError

    def statistics(self) -> dict[str, Any]:
        """@return: counters and levels, JSON ready."""
        raise NotImplementedError
