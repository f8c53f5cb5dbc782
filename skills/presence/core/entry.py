"""What is known of one agent."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from skills.presence.core.flap import Flap
from skills.presence.core.history import History
from skills.presence.core.lifecycle import STALE, HasReach
from skills.presence.core.ordering import NEVER, Number
from skills.presence.core.record import DEFAULT_TTL
from skills.presence.core.status import OFFLINE, merge
from skills.presence.detection.reach import GONE

TRAIL: Final = 16
"""Steps kept of what led to the present verdict."""
HEARTBEAT: Final = 2.5
"""Leases are this many heartbeats."""


class Step(NamedTuple):
    """Something that led to a verdict: when, and what."""

    at: float
    what: str
    detail: str
    evidence: dict[str, Any]


class Entry(HasReach):
    """
    One agent.

    What it says of itself (its claim) and whether it can be reached are kept apart; C{status} is
    what follows from both.

    @ivar claim: what its newest record says.
    @ivar number: of that record, or newer evidence; see L{skills.presence.core.ordering}.
    @ivar record: that record as published, compact.
    @ivar modern: whether that record is of version 2.
    @ivar script: beside a record of version 2, what a shell loop on the same node says.
    @ivar script_until: until when that holds.
    @ivar reach: C{stale}, C{fresh}, C{suspect} or C{gone}.
    @ivar heard: when we last had evidence that the node lives.
    @ivar claimed: when we last had evidence that the claim stands.
    @ivar means: what the last evidence was: C{direct}, C{heartbeat} or C{gossip}.
    @ivar swarm: whether the swarm watches over it; otherwise we verify it ourselves.
    @ivar via: the coordinator it is known from, 0 when we know it first hand.
    @ivar status: the effective one.
    @ivar since: when that began.
    @ivar version: of the directory, when it last changed.
    @ivar spot: its place among the available ones, -1 when it is not.
    @ivar excused: until when it is not judged.
    @ivar watched: whether the agenda holds a call that looks whether it is late.
    """

    __slots__ = (
        "address",
        "claim",
        "claimed",
        "evidence",
        "excused",
        "flap",
        "heard",
        "history",
        "hostname",
        "load",
        "means",
        "modern",
        "node",
        "number",
        "own",
        "reason",
        "record",
        "script",
        "script_until",
        "since",
        "slots",
        "spot",
        "status",
        "swarm",
        "tags",
        "trail",
        "ttl",
        "version",
        "via",
        "watched",
    )

    def __init__(self, node: int, now: float) -> None:
        self.node = node
        self.hostname = self.address = self.reason = self.script = ""
        self.claim = self.status = OFFLINE
        self.number: Number = NEVER
        self.record = b""
        self.modern = self.own = self.swarm = self.watched = False
        self.reach = STALE
        self.means = "gossip"
        self.heard = self.claimed = self.since = now
        self.script_until = self.excused = float("-inf")
        self.ttl = DEFAULT_TTL
        self.load: int | None = None
        self.slots: int | None = None
        self.tags: tuple[str, ...] = ()
        self.via = self.version = 0
        self.spot = -1
        self.flap: Flap | None = None
        self.history: History | None = None
        self.evidence: dict[str, Any] | None = None
        self.trail: tuple[Step, ...] = ()

    @property
    def flapping(self) -> bool:
        """Whether it comes and goes too often."""
        return self.flap is not None and self.flap.flapping

    @property
    def patience(self) -> float:
        """Seconds without evidence after which it is late: 1.2 heartbeats, which are varied by a
        fifth, and five seconds on the way."""
        return 1.2 * self.ttl / HEARTBEAT + 5.0

    def merged(self, now: float) -> str:
        """@return: what the node says, a shell loop on it included."""
        if self.script and now < self.script_until:
            return merge((self.claim, self.script))
        return self.claim

    def effective(self, now: float) -> str:
        """@return: the status that follows from claim and reachability."""
        return OFFLINE if self.reach == GONE else self.merged(now)

    def note(
        self, now: float, what: str, detail: str = "", evidence: dict[str, Any] | None = None
    ) -> None:
        """Remember a step that led to the present verdict: in words, and as JSON."""
        if len(self.trail) >= TRAIL:
            self.trail = self.trail[1 - TRAIL :]
        self.trail = (*self.trail, Step(now, what, detail, evidence or {}))
