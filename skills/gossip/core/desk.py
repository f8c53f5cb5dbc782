"""What the parts of a replica share: its registers and members, its way out, and what it counts."""

from __future__ import annotations

from collections import Counter
from typing import Any, Protocol

from skills.gossip.core.chance import Random
from skills.gossip.core.config import GossipConfig
from skills.gossip.core.effects import Effect, Event, Send
from skills.gossip.core.hlc import hlc_time, sample_offset
from skills.gossip.core.ledger import Ledger
from skills.gossip.core.member import NEVER, Member
from skills.gossip.core.members import Membership
from skills.gossip.core.messages import Nack

#: Pause between events about refusals.
REJECTED_PAUSE = 1.0
#: Key hashes named in a refusal.
NACK_KEYS = 16


class Encodes(Protocol):
    """A message."""

    def encode(self) -> dict[str, Any]:
        """@return: the object to send."""


class Desk:
    """
    @ivar name: the swarm.
    @ivar own: our node number.
    @ivar out: effects, in order, to be taken by the replica.
    @ivar synced: whether a partner has agreed with what we hold since we started or returned.
    @ivar lagging: whether we were away for so long that we do not vouch for what we hold.
    @ivar contact: unix seconds of the last contact with a member, 0 if there was none.
    @ivar hot_until: more partners are met until then.
    @ivar news_at: when something was last news to us.
    @ivar counts: what happened how often.
    """

    __slots__ = (
        "_rejected",
        "_rejected_at",
        "config",
        "contact",
        "counts",
        "hot_until",
        "lagging",
        "ledger",
        "members",
        "name",
        "news_at",
        "out",
        "own",
        "rng",
        "synced",
    )

    def __init__(
        self,
        name: str,
        own: int,
        *,
        config: GossipConfig,
        rng: Random,
        ledger: Ledger,
        members: Membership,
        now: float,
    ) -> None:
        self.name = name
        self.own = own
        self.config = config
        self.rng = rng
        self.ledger = ledger
        self.members = members
        self.out: list[Effect] = []
        self.synced = False
        self.lagging = False
        self.contact = 0.0
        self.hot_until = now + config.hot
        self.news_at = NEVER
        self.counts: Counter[str] = Counter()
        self._rejected = 0
        self._rejected_at = NEVER

    def send(self, peer: int, message: Encodes) -> None:
        """Order a message to be sent."""
        self.out.append(Send(peer, message.encode()))

    def event(self, name: str, **data: Any) -> None:
        """Tell the application."""
        self.out.append(Event(name, {"swarm": self.name, **data}))

    def token(self) -> str:
        """@return: an id for an exchange."""
        return f"{self.rng.getrandbits(32):08x}"

    def hot(self, now: float) -> bool:
        """@return: whether there was news or a mismatch lately."""
        return now < self.hot_until

    def warm(self, now: float) -> None:
        """There was news or a mismatch."""
        self.hot_until = now + self.config.hot

    def jittered(self, pause: float) -> float:
        """@return: about so many seconds."""
        return pause * (1.0 + self.config.jitter * (2.0 * self.rng.random() - 1.0))

    def agreed(self, now: float, member: Member, root: str, *, told: bool = False) -> None:
        """
        A member holds what we hold.

        @param told: the application asked to know.
        """
        member.agreed = member.root_at = now
        member.root = root
        member.count = len(self.ledger.map)
        member.mismatches = 0
        member.diverged = False
        if told or not self.synced:
            self.synced = True
            self.event("gossip.synced", peer=member.node, root=root)

    def differs(self, now: float, member: Member, root: str, count: int) -> None:
        """A member told a root that is not ours."""
        member.root, member.root_at, member.count = root, now, count

    def reject(self, now: float, peer: int, reason: str, key: str = "") -> None:
        """Count a refusal, and tell the application now and then."""
        self.counts[f"rejected_{reason}"] += 1
        self._rejected += 1
        if now - self._rejected_at >= REJECTED_PAUSE:
            self.event("gossip.rejected", peer=peer, reason=reason, key=key, count=self._rejected)
            self._rejected_at, self._rejected = now, 0

    def nack(self, now: float, member: Member, reason: str, keys: list[str], x: str = "") -> None:
        """Tell a member of version 2 what we refused, now and then."""
        if self.members.version2(member.node, now) and member.conduct.may_nack(now, self.config):
            number = max(1, len(keys))
            self.send(member.node, Nack(self.name, reason, tuple(keys[:NACK_KEYS]), number, x))

    def measure(self, now: float, member: Member, sent: float, reading: str) -> None:
        """
        An answer told the time.

        @param sent: our wall clock when the question left.
        """
        clock = self.ledger.clock
        wall = clock.wall()
        if 0.0 <= wall - sent <= self.config.patience:
            offset = sample_offset(sent, wall, reading)
            clock.add_sample(member.node, offset, now)
            member.skew = hlc_time(reading) - (sent + wall) / 2.0 - clock.offset
