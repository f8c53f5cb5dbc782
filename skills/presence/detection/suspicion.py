"""How long a suspicion lasts: formulas, and the state of one.

A suspicion ends in a verdict unless evidence of life comes in first.  It lasts long while there is
one accuser and shrinks as independent ones confirm (Lifeguard, arXiv 1707.00788).
"""

from __future__ import annotations

from math import log, log10
from typing import Final

CONFIRMATIONS: Final = 2
"""Independent accusers besides the first that bring a suspicion down to its shortest."""
LONGEST: Final = 6.0
"""Times the shortest that a suspicion lasts without confirmation.  More spares members whose only
accuser is sick; fewer gives members up sooner whom only one can reach."""
CREDIT: Final = 0.375
"""Share of the shortest suspicion that the silence I{before} the failed probe may stand for."""


UNCHECKED: Final = 0
CHECKING: Final = 1
CHECKED: Final = 2


def shortest(members: int, period: float) -> float:
    """
    @param members: how many take part, ourselves included.
    @param period: seconds between two probes.
    @return: seconds a confirmed suspicion lasts: C{4 * max(1, log10 N) * T}.  News needs
        C{log N} periods to reach everybody, and the accused must hear and answer.
    """
    return 4.0 * max(1.0, log10(max(members, 1))) * period


def witnesses(members: int) -> int:
    """
    @param members: how many take part, ourselves and the accused included.
    @return: how many confirmations a suspicion waits for: in a swarm of two or three there are
        fewer to be had.
    """
    return max(0, min(CONFIRMATIONS, members - 2))


def duration(confirmations: int, least: float, wanted: int = CONFIRMATIONS) -> float:
    """
    @param confirmations: independent accusers besides the first.
    @param least: what L{shortest} says.
    @param wanted: what L{witnesses} says.
    @return: seconds from L{LONGEST} times C{least} (none) down to C{least} (enough of them), on a
        logarithmic curve, so the first confirmation counts most.
    """
    if confirmations >= wanted:
        return least
    most = LONGEST * least
    return most - (most - least) * log(confirmations + 1) / log(wanted + 1)


def silent_since(probed: float, said: float, period: float, least: float) -> float:
    """
    Where the clock of a suspicion starts.

    A member that was probed late after its death has been silent for as long: that silence counts,
    which evens out how long the first probe took to come.  It counts from one period after the
    member's last sign (a living member says something every period), and only up to L{CREDIT}.

    @param probed: when the probe that failed was sent.
    @param said: when the last known number was said, as far as spans told us.
    @return: on the same clock, never after C{probed}.
    """
    return max(probed - CREDIT * least, min(probed, said + period))


class Suspicion:
    """
    A member is accused.

    @ivar probed: when the (first) probe that failed was sent: what was said before that does not
        speak against the accusation.
    @ivar since: where its clock starts, see L{silent_since}.
    @ivar accusers: node numbers, ours among them when we saw it ourselves.
    @ivar ours: when the first probe of our own that failed was sent, or C{None}.
    @ivar failed: when the latest probe of our own that failed was sent.
    @ivar checked: how far the last probe before the verdict is: L{UNCHECKED}, L{CHECKING} or
        L{CHECKED} (it failed too).
    """

    __slots__ = ("accusers", "checked", "failed", "ours", "probed", "since")

    def __init__(self, probed: float, since: float) -> None:
        self.probed = probed
        self.since = since
        self.accusers: list[int] = []
        self.ours: float | None = None
        self.failed = float("-inf")
        self.checked = UNCHECKED

    def accuse(self, by: int) -> bool:
        """@return: whether C{by} is one more independent accuser that matters."""
        if by in self.accusers or len(self.accusers) > CONFIRMATIONS:
            return False
        self.accusers.append(by)
        return True

    def expiry(self, least: float, wanted: int = CONFIRMATIONS) -> float:
        """@return: when the suspicion becomes a verdict, seconds on our clock."""
        return self.since + duration(len(self.accusers) - 1, least, wanted)
