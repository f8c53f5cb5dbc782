"""Calls to members that are not there: perhaps they are by now, and nobody else would notice."""

from __future__ import annotations

from typing import Final

from skills.presence.detection.members import Member
from skills.presence.detection.probing import Prober
from skills.presence.detection.reach import GONE
from skills.presence.detection.swarm import Swarm

FIRST_KNOCKS: Final = 8
KNOCKS: Final = 2
"""Calls in each period to members that never answered; more in the very first."""
GREETED: Final = 3
"""New members that are called at once; more wait for the next period."""
KNOCK_AGAIN: Final = 4.0
KNOCK_LIMIT: Final = 512.0
"""Periods between two calls to the same member that never answered: at first, doubling each time,
and at most."""
RECONNECT_LIMIT: Final = 30.0
"""Seconds between two calls to somebody given up, at most: a partition heals within them."""


class Outreach:
    """
    Calls those that never answered, ever less often, and one of those given up now and then.

    Nothing is concluded from silence here.
    """

    def __init__(self, swarm: Swarm, prober: Prober, now: float) -> None:
        self._swarm = swarm
        self._prober = prober
        self._ours: list[int] = []
        self._unmet = False
        self._knocks = FIRST_KNOCKS
        swarm.at(now + swarm.rng.random() * self._interval(), self._reconnect)

    def members_changed(self, now: float, ours: list[int], new: list[Member]) -> None:
        """These are ours to call, and some of them are new: a few are called at once."""
        self._ours = ours
        self._unmet = True
        if len(new) <= GREETED:
            for member in new:
                if member.state is None:
                    self._prober.call(now, member)

    def _present(self) -> list[Member]:
        members = (self._swarm.members.get(node) for node in self._ours)
        return [member for member in members if member is not None]

    def knock(self, now: float) -> None:
        """A period has passed: call some that never answered."""
        if not self._unmet:
            return
        swarm, period = self._swarm, self._swarm.profile.period
        unmet = [member for member in self._present() if member.state is None]
        self._unmet = bool(unmet)
        silent = [member for member in unmet if member.next_knock <= now]
        for member in swarm.rng.sample(silent, min(self._knocks, len(silent))):
            wait = min(KNOCK_AGAIN * 2.0 ** min(member.knocks, 16), KNOCK_LIMIT) * period
            member.knocks += 1
            member.next_knock = now + wait * (0.75 + swarm.rng.random() / 2.0)
            self._prober.call(now, member)
        self._knocks = KNOCKS

    def _interval(self) -> float:
        profile = self._swarm.profile
        return min(profile.reconnect * profile.period, RECONNECT_LIMIT)

    def _reconnect(self, now: float) -> None:
        """Call one of those given up."""
        swarm = self._swarm
        wait = self._interval() * (0.8 + 0.4 * swarm.rng.random())
        swarm.at(now + wait, self._reconnect)
        gone = [each for each in self._present() if each.state == GONE and not each.left]
        if gone:
            self._prober.call(now, swarm.rng.choice(gone))
