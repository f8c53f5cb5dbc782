"""One member of a swarm, as we know it, and the words for what is believed and told of it."""

from __future__ import annotations

from enum import Enum

from skills.gossip.core.abuse import Conduct
from skills.gossip.core.config import GossipConfig

NEVER = float("-inf")


class Standing(Enum):
    """What we believe of a member."""

    UNKNOWN = "unknown"
    ONLINE = "online"
    FAILED = "failed"
    LEFT = "left"


class Member:
    """
    One member, as we know it.  Times are on our monotonic clock; minus infinity: never.

    @ivar node: its number.
    @ivar standing: what we believe.
    @ivar incarnation: the newest known, 0 if none.
    @ivar sequence: the newest known within it.
    @ivar since: when the standing changed.
    @ivar heard: last message from it.
    @ivar told: when it last confirmed a message of ours.
    @ivar undelivered: when a message to it last failed.
    @ivar unreached: since when nothing could be delivered to it; C{None} while that is possible.
    @ivar failures: messages in a row that could not be delivered.
    @ivar silences: messages in a row that wanted an answer and got none.
    @ivar proven: when it last showed version 2.
    @ivar greeted: when we last introduced ourselves.
    @ivar agreed: when its root was last ours.
    @ivar root: the root it last told, and when (C{root_at}), with the number of its registers.
    @ivar skew: seconds its clock was ahead of ours at the last exchange, C{None} if unknown.
    @ivar mismatches: exchanges in a row that did not end in agreement.
    @ivar diverged: whether that was told to the application.
    @ivar lagging: whether it said of itself that it was away for too long.
    @ivar nacked: when it last refused something of ours.
    @ivar version1: whether it sent a push without our additions, and none with them since.
    @ivar given: root of the state it was last given in the shape of version 1.
    @ivar given_at: ...and when.
    @ivar page: ...and with which page of it to go on.
    @ivar conduct: its budget.
    """

    __slots__ = (
        "agreed",
        "conduct",
        "count",
        "diverged",
        "failures",
        "given",
        "given_at",
        "greeted",
        "heard",
        "incarnation",
        "lagging",
        "mismatches",
        "nacked",
        "node",
        "page",
        "proven",
        "root",
        "root_at",
        "sequence",
        "silences",
        "since",
        "skew",
        "standing",
        "told",
        "undelivered",
        "unreached",
        "version1",
    )

    def __init__(self, node: int, now: float, config: GossipConfig) -> None:
        self.node = node
        self.standing = Standing.UNKNOWN
        self.incarnation = 0
        self.sequence = 0
        self.since = now
        self.heard = NEVER
        self.told = NEVER
        self.undelivered = NEVER
        self.unreached: float | None = None
        self.failures = 0
        self.silences = 0
        self.proven = NEVER
        self.greeted = NEVER
        self.agreed = NEVER
        self.root = ""
        self.root_at = NEVER
        self.count = 0
        self.skew: float | None = None
        self.mismatches = 0
        self.diverged = False
        self.lagging = False
        self.nacked = NEVER
        self.version1 = False
        self.given = ""
        self.given_at = NEVER
        self.page = 0
        self.conduct = Conduct(now, config)

    @property
    def usable(self) -> bool:
        """Whether it is worth talking to."""
        return self.standing is Standing.ONLINE or self.standing is Standing.UNKNOWN


class Change(Enum):
    """What happened to a member, for the application."""

    JOINED = "gossip.member_joined"
    LEFT = "gossip.member_left"
    FAILED = "gossip.member_failed"
