"""One node's copy of a swarm's shared state: the way in for a shell with a clock and a way to send.

Every call that needs time takes C{now}, seconds on the caller's monotonic clock, and returns
effects to carry out in order (L{skills.gossip.effects}).  The shell calls
L{SwarmReplica.on_timer} when L{SwarmReplica.deadline} has come; early and late are both harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from skills.gossip.config import GossipConfig
from skills.gossip.effects import Effect, PeerFacts
from skills.gossip.register import Register
from skills.gossip.restoring import Restored


class SwarmReplica:
    """
    A member of one swarm.

    @ivar name: the swarm.
    @ivar node_id: our own node number.
    """

    def __init__(
        self,
        name: str,
        node_id: int,
        *,
        now: float,
        wall: Callable[[], float],
        rng: Random,
        config: GossipConfig | None = None,
        incarnation: int,
        restored: Restored | None = None,
        trusts: Callable[[int], bool] | None = None,
    ) -> None:
        """
        @param now: seconds on the clock of all later calls.
        @param wall: unix seconds; may be wrong and may jump.
        @param rng: where chance comes from.
        @param incarnation: larger than at any earlier start of this node, at most 2**53.
        @param restored: what the journal held.
        @param trusts: whether a node met in gossip may be talked to, asked only above
            C{full_view} members; if left out, only what L{members_changed} brought is.
        """
        raise NotImplementedError

    def members_changed(
        self, now: float, trusted: Iterable[PeerFacts], *, total: int | None = None
    ) -> list[Effect]:
        """
        Who may be talked to: every trusted peer that carries the swarm's tag or spoke of it.

        @param trusted: the facts.  Above C{full_view} members a random sample of C{passive_view}
            is enough.  A tuple is kept as it is, so many replicas may share one.
        @param total: how many there are, if C{trusted} is a sample.
        """
        raise NotImplementedError

    def on_message(
        self, now: float, peer: int, document: dict[str, Any], size: int = 0
    ) -> list[Effect]:
        """
        A C{gossip_*} message came.

        @param peer: the node it came from, authenticated by its tunnel.
        @param document: the message; read, never changed.
        @param size: its bytes on the wire, for the peer's budget.
        """
        raise NotImplementedError

    def on_timer(self, now: float) -> list[Effect]:
        """Do what is due."""
        raise NotImplementedError

    def deadline(self) -> float | None:
        """@return: when to call L{on_timer}, or C{None} after L{leave}."""
        raise NotImplementedError

    def sent(self, now: float, peer: int) -> list[Effect]:
        """The peer has confirmed a message of a C{Send}."""
        raise NotImplementedError

    def send_failed(self, now: float, peer: int) -> list[Effect]:
        """The message of a C{Send} could not be delivered."""
        raise NotImplementedError

    def local_set(
        self, now: float, key: str, value: Any, *, replace: bool = False, ttl: float | None = None
    ) -> list[Effect]:
        """
        Write.  An object is merged into what is there, leaf by leaf, unless it shall C{replace} it.

        @param ttl: seconds until it deletes itself; it also goes when this node goes.
        @raise Refused: over a limit, or not ours to write.
        @raise BadMessage: no possible key or value.
        """
        raise NotImplementedError

    def local_delete(self, now: float, key: str) -> list[Effect]:
        """
        Delete a key with everything below it; nothing happens if there is nothing.

        @raise Refused: not ours to delete.
        @raise BadMessage: no possible key.
        """
        raise NotImplementedError

    def get(self, key: str) -> Any:
        """
        @return: the visible value at a key, an object for a prefix of deeper keys.
        @raise NotFound: there is nothing.
        """
        raise NotImplementedError

    def items(self, prefix: str = "") -> list[Register]:
        """@return: the live registers at and below a key, sorted by key."""
        raise NotImplementedError

    def document(self) -> dict[str, Any]:
        """@return: the visible document."""
        raise NotImplementedError

    def signed(self, now: float, key: str, hlc: str, signature: str) -> list[Effect]:
        """
        The signature that a C{Sign} asked for.

        @param signature: base64; empty: it could not be made, and nothing is written.
        """
        raise NotImplementedError

    def verified(self, now: float, register: Register, ok: bool) -> list[Effect]:
        """Whether the signature of a C{Verify} holds."""
        raise NotImplementedError

    def push_now(self, now: float, data: dict[str, Any] | None = None) -> list[Effect]:
        """Push to C{fanout} members in the shape of version 1: C{data}, or the whole live state."""
        raise NotImplementedError

    def sync(self, now: float, peer: int | None = None) -> list[Effect]:
        """
        Compare with a member at once (or with C{hot_partners}).  C{gossip.synced} or
        C{gossip.diverged} tells how it ended.

        @raise NotFound: no such member, or none at all.
        """
        raise NotImplementedError

    def survey(self, now: float) -> list[Effect]:
        """Ask all members for their roots, a few at a time, so that L{doctor} is up to date."""
        raise NotImplementedError

    def leave(self, now: float) -> list[Effect]:
        """Say good-bye; the replica does nothing more."""
        raise NotImplementedError

    def snapshot(self) -> tuple[tuple[str, Any], ...]:
        """@return: records that stand for everything a restart needs, to begin a journal anew."""
        raise NotImplementedError

    def status(self, now: float) -> dict[str, Any]:
        """@return: JSON-ready; see the page I{Gossip}."""
        raise NotImplementedError

    def members(self, now: float) -> list[dict[str, Any]]:
        """@return: one JSON-ready object per known member; see the page I{Gossip}."""
        raise NotImplementedError

    def doctor(self, now: float) -> dict[str, Any]:
        """@return: who differs, is skewed, silent or heard but not reached; see I{Gossip}."""
        raise NotImplementedError
