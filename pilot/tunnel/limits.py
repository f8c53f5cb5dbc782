"""What keeps hostile traffic cheap: a bucket of tokens, and a log that does not repeat itself."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

#: Seconds for which an incident of one kind is not logged again.
QUIET = 60.0


class TokenBucket:
    """So many at once, and one more every so often."""

    __slots__ = ("_at", "_capacity", "_rate", "_tokens")

    def __init__(self, rate: float, now: float, capacity: float | None = None) -> None:
        """
        @param rate: tokens per second.
        @param capacity: tokens at most, and at the start; a second's worth if not told.
        """
        self._rate = rate
        self._capacity = self._tokens = rate if capacity is None else capacity
        self._at = now

    def take(self, now: float) -> bool:
        """@return: whether there was a token left."""
        self._tokens = min(self._capacity, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class Incidents:
    """Logs each kind of incident once, then at most once a minute with the number left out."""

    def __init__(self, clock: IReactorTime, log: Logger) -> None:
        self._clock = clock
        self._log = log
        self._seen: dict[str, tuple[float, int]] = {}

    def note(self, kind: str, text: str, **fields: Any) -> None:
        """
        @param kind: one of a fixed few; what is counted together.
        @param text: a format, the values in C{fields}.
        """
        now = self._clock.seconds()
        last, left_out = self._seen.get(kind, (-QUIET, 0))
        if now - last < QUIET:
            self._seen[kind] = (last, left_out + 1)
            return
        self._seen[kind] = (now, 0)
        if left_out:
            text += " ({left_out} more since the last time)"
        self._log.warn(text, kind=kind, left_out=left_out, **fields)
