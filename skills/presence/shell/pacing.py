"""How much at once, and how often: limits that keep a bad day from becoming worse."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

SOURCES: Final = 4096
"""Sources whose pace is remembered."""


class Pace:
    """A token bucket.  @ivar refused: how often it was empty."""

    __slots__ = ("_at", "_burst", "_left", "_rate", "refused")

    def __init__(self, rate: float, burst: float) -> None:
        """
        @param rate: a second, in the long run.
        @param burst: at once.
        """
        self._rate, self._burst, self._left = rate, burst, burst
        self._at = float("-inf")
        self.refused = 0

    def take(self, now: float) -> bool:
        """@return: whether one more is allowed."""
        if self._at != float("-inf"):
            self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1.0:
            self.refused += 1
            return False
        self._left -= 1.0
        return True

    def wait(self, now: float) -> float:
        """@return: seconds until the next one is allowed."""
        left = min(self._burst, self._left + max(0.0, now - self._at) * self._rate)
        return max(0.0, (1.0 - left) / self._rate)


class SourcePaces:
    """A pace for each source.  @ivar refused: how often one of them was too fast."""

    def __init__(self, rate: float, burst: float) -> None:
        self._make: Callable[[], Pace] = lambda: Pace(rate, burst)
        self._paces: OrderedDict[int, Pace] = OrderedDict()
        self.refused = 0

    def take(self, now: float, source: int) -> bool:
        """@return: whether one more from that source is allowed."""
        pace = self._paces.get(source)
        if pace is None:
            pace = self._paces[source] = self._make()
            if len(self._paces) > SOURCES:
                self._paces.popitem(last=False)
        else:
            self._paces.move_to_end(source)
        if pace.take(now):
            return True
        self.refused += 1
        return False
