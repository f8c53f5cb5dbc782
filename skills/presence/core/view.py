"""Whether our own view is to be believed: before others are doubted, we doubt ourselves."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from skills.presence.detection.health import is_exodus

WINDOW: Final = 60.0
"""Seconds within which agents must go missing to count as lost at once: a heartbeat and the time it
takes to give somebody up."""
HOLD: Final = 60.0
"""Seconds after which we believe that most agents are gone indeed, if our own network is proved to
work all the while."""
LEAST: Final = 20.0
"""Seconds of doubt at least: those who are cut off get late one after the other."""
PROOF: Final = 30.0
"""How old, in seconds, such a proof may be."""
FEW: Final = 8
"""Agents below which it says nothing how many were heard lately."""
QUIET: Final = 0.15
"""Share of agents heard within half a heartbeat, below which we take ourselves for cut off.  It is
one half when all is well, so this is what is left when seven in ten are lost at once."""
COUNT_EVERY: Final = 1.0
"""Seconds between two counts of those heard lately, at least."""
STALL: Final = 5.0
"""Seconds by which a call must come too late to show that we stood still."""
JUMP: Final = 5.0
"""Seconds that wall time must gain on monotonic time to show that we slept."""


class View:
    """
    What we think of our own senses.

    @ivar doubt_since: evidence from before this moment may be outdated: we slept, stood still, or
        have just started.
    @ivar grace_until: until when nobody is judged.
    @ivar inbound: when anything last came in.
    """

    def __init__(self, now: float, lease: float) -> None:
        self._lease = lease
        self._causes: dict[str, float] = {}
        self._fresh: set[int] = set()
        self._missing: OrderedDict[int, float] = OrderedDict()
        self._believed_until = float("-inf")
        self._counted = float("-inf")
        self._hushed = False
        self._gap: float | None = None
        self.doubt_since = float("-inf")
        self.grace_until = now + lease
        self.inbound = now

    # -- doubts ------------------------------------------------------------------------------

    @property
    def cause(self) -> str:
        """The oldest reason for doubt, C{""} for none."""
        return next(iter(self._causes), "")

    @property
    def frozen(self) -> bool:
        """Whether nobody is given up for now, because most went missing at once."""
        return "exodus" in self._causes

    def stale_for(self, now: float) -> float:
        """@return: seconds since we doubt our view."""
        return now - self._causes[self.cause] if self._causes else 0.0

    def doubt(self, now: float, cause: str) -> bool:
        """@return: whether the view is stale from now on, and was not before."""
        before = bool(self._causes)
        self._causes.setdefault(cause, now)
        return not before

    def trust(self, cause: str) -> bool:
        """@return: whether with this reason the last doubt is gone."""
        return self._causes.pop(cause, None) is not None and not self._causes

    def grace(self, now: float) -> None:
        """Nobody is judged for one lease."""
        self.grace_until = max(self.grace_until, now + self._lease)

    def slept(self, now: float, wall: float) -> bool:
        """
        @param wall: unix seconds.
        @return: whether wall time has jumped ahead since the last call: monotonic clocks stand
            still while a machine sleeps.  A clock that was set looks the same; it costs a lease of
            patience, nothing else.
        """
        gap, before = wall - now, self._gap
        self._gap = gap
        return before is not None and gap - before > JUMP

    # -- losing most of them at once -----------------------------------------------------------

    def present(self, node: int) -> None:
        """An agent that we look after ourselves is there."""
        self._fresh.add(node)
        self._missing.pop(node, None)

    def missed(self, now: float, node: int) -> None:
        """It was there, and is late."""
        if node in self._fresh:
            self._fresh.discard(node)
            self._missing[node] = now

    def absent(self, node: int) -> None:
        """It said goodbye, or is not ours to look after."""
        self._fresh.discard(node)
        self._missing.pop(node, None)

    def exodus(self, now: float, quiet: Callable[[int], bool]) -> bool:
        """
        @param quiet: whether a node that is not late was not heard for half a heartbeat.
        @return: whether so many are missing that the fault is likely ours.  Those cut off at once
            get late one after the other; before most are late, most have become quiet.
        """
        if now < self._believed_until:
            return False
        if not self.frozen:
            while self._missing and now - next(iter(self._missing.values())) > WINDOW:
                self._missing.popitem(last=False)
        missing, fresh = len(self._missing), len(self._fresh)
        if is_exodus(missing, fresh):
            return True
        if missing < 2 or missing + fresh < FEW:
            return False
        if now - self._counted >= COUNT_EVERY:  # it takes a look at everybody
            self._counted = now
            recent = fresh - sum(map(quiet, self._fresh))
            self._hushed = recent < QUIET * (missing + fresh)
        return self._hushed

    def may_thaw(self, now: float, quiet: Callable[[int], bool]) -> bool:
        """@return: whether most are back, or our own network works although they are not."""
        if not self.exodus(now, quiet):
            return self.stale_for(now) >= LEAST
        if self.stale_for(now) >= HOLD and now - self.inbound <= PROOF:
            self._believed_until = now + 2 * WINDOW
            self._missing.clear()
            return True
        return False
