"""Doubting oneself before others: local health, and when a whole view is not to be believed."""

from __future__ import annotations

from typing import Final

WORST: Final = 7
"""Local health 0 (well) to 7: the slowest we make ourselves."""
QUIET_PERIODS: Final = 3
"""Periods without anything coming in after which we take ourselves for cut off."""
LOOKBACK: Final = 16
"""Probes that the share of unanswered ones is taken over, about."""
LOSSY: Final = 0.3
"""Share of unanswered probes (loss of a sixth each way) beyond which a failure is looked at twice.
Lower sends fewer false accusations about, higher notices a death one period sooner."""
EXODUS: Final = 0.5
"""Share of the fresh members lost at once beyond which we doubt our view, not them."""

UNUSUAL: Final = 0.125
"""Share of them beyond which a verdict waits once more: a small side of a partition comes to
accuse more than half in that time, and then knows better."""


class LocalHealth:
    """
    How far we trust our own senses (Lifeguard's awareness).

    Unanswered probes whose helpers did not report either, and refutations of what others say about
    us, make it worse; each answered probe makes it better.

    @ivar score: 0..7.
    @ivar unanswered: share of our probes of late that had no direct answer in time.
    """

    __slots__ = ("score", "unanswered")

    def __init__(self) -> None:
        self.score = 0
        self.unanswered = 0.0

    def probed(self, answered: bool) -> None:
        """A probe had its direct answer in time, or not."""
        self.unanswered += ((not answered) - self.unanswered) / LOOKBACK

    @property
    def looks(self) -> int:
        """How many probes in a row must fail before we accuse."""
        return 1 + self.score + (self.unanswered > LOSSY)

    def worse(self, by: int = 1) -> None:
        """Something points at us rather than at others."""
        self.score = min(WORST, self.score + by)

    def better(self) -> None:
        """A probe was answered."""
        if self.score:
            self.score -= 1

    def stretch(self, seconds: float, limit: float) -> float:
        """@return: a timeout made longer by ill health, never beyond C{limit}."""
        return min(seconds * (1 + self.score), limit)

    def quiet_after(self, period: float) -> float:
        """@return: seconds of silence after which we take ourselves for cut off."""
        return (QUIET_PERIODS + self.score) * period


def is_exodus(lost: int, fresh: int) -> bool:
    """
    @param lost: members accused or given up within one suspicion time.
    @param fresh: members still fresh.
    @return: whether so many are missing that the fault is likely ours.
    """
    return lost >= 2 and lost > EXODUS * (lost + fresh)


def is_unusual(lost: int, fresh: int) -> bool:
    """@return: whether so many are missing that it is worth waiting whether more follow."""
    return lost >= 2 and lost > UNUSUAL * (lost + fresh)
