"""When our own view is not to be believed: we stood still, are cut off, or lost most members."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from skills.presence.detection.health import is_exodus, is_unusual
from skills.presence.detection.members import Member
from skills.presence.detection.reach import FRESH, SUSPECT, Frozen
from skills.presence.detection.suspicion import LONGEST
from skills.presence.detection.swarm import Swarm

SILENCE: Final = "silence"
EXODUS: Final = "exodus"
STALL: Final = "stall"


class Doubt:
    """
    Freezes and thaws our verdicts.

    While frozen nobody is accused or given up by us.  At the thaw our suspicions are dropped and
    their members probed again, since what we concluded before is worth nothing.
    """

    def __init__(self, swarm: Swarm, verify: Callable[[float, Member], None]) -> None:
        self._swarm = swarm
        self._verify = verify
        self._lost: deque[float] = deque(maxlen=swarm.profile.most)
        self._since = 0.0
        self._settled_until = float("-inf")

    def inbound(self, now: float) -> None:
        """Something authenticated came in: our network works."""
        self._swarm.inbound = now
        if self._swarm.frozen == SILENCE:
            self._thaw(now)

    def stalled(self, now: float) -> None:
        """We ourselves stood still for a period or more: give everybody time, and us as well."""
        swarm = self._swarm
        swarm.grace_until = max(swarm.grace_until, now + swarm.profile.grace)
        swarm.inbound = now
        self._freeze(now, STALL)

    def tick(self, now: float) -> None:
        """A period has passed."""
        swarm = self._swarm
        if not swarm.frozen:
            if swarm.members.live and now - swarm.inbound > swarm.health.quiet_after(
                swarm.profile.period
            ):
                self._freeze(now, SILENCE)
        elif swarm.frozen == STALL:
            self._thaw(now)
        elif swarm.frozen == EXODUS:
            if not self._exodus(now):
                self._thaw(now)
            elif now - self._since > LONGEST * swarm.least() and swarm.inbound > self._since:
                # The rest has been talking to us all the time: they are gone indeed.
                self._settled_until = now + LONGEST * swarm.least()
                self._unfreeze("settled")

    def lost(self, now: float) -> None:
        """One of ours was given up."""
        self._lost.append(now)
        self.suspected(now)

    def suspected(self, now: float) -> None:
        """A member was accused or given up: are there too many at once?"""
        if not self._swarm.frozen and now >= self._settled_until and self._exodus(now):
            self._freeze(now, EXODUS)

    def hesitates(self, now: float) -> bool:
        """@return: whether unusually many are missing, so that a verdict had better wait."""
        return now >= self._settled_until and is_unusual(self._missing(now), self._fresh)

    def _exodus(self, now: float) -> bool:
        return is_exodus(self._missing(now), self._fresh)

    @property
    def _fresh(self) -> int:
        return self._swarm.members.our_fresh

    def _missing(self, now: float) -> int:
        """
        How many of ours are accused now, or were given up within a suspicion time (of the freeze).
        Whom we know only through others may never have been there.
        """
        swarm = self._swarm
        window = (self._since if swarm.frozen else now) - 2.0 * swarm.least()
        while self._lost and self._lost[0] < window:
            self._lost.popleft()
        return swarm.members.our_suspect + len(self._lost)

    def _freeze(self, now: float, cause: str) -> None:
        swarm = self._swarm
        self._since = now
        if not swarm.frozen:
            swarm.effects.append(Frozen(True, cause))
        swarm.frozen = cause
        swarm.counters["frozen_" + cause] += 1

    def _unfreeze(self, cause: str) -> None:
        self._swarm.frozen = ""
        self._swarm.effects.append(Frozen(False, cause))

    def _thaw(self, now: float) -> None:
        swarm = self._swarm
        swarm.inbound = now
        self._unfreeze("thawed")
        if not swarm.members.suspect:
            return
        for member in [each for each in swarm.members if each.state == SUSPECT]:
            swarm.members.move(member, FRESH)
            member.changed = now
            swarm.report(now, member, "thawed", 0, [])
            self._verify(now, member)
