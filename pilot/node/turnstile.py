"""Lets callers through so many at a time, and so many a second."""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Turnstile:
    """
    Whoever wants to do something costly enters first, and leaves when it is done.

    @ivar inside: how many are through and have not left.
    """

    def __init__(self, clock: IReactorTime, *, at_once: int, rate: float) -> None:
        """
        @param at_once: most that are inside together; as many may come in one burst.
        @param rate: entries a second in the long run.
        """
        self.inside = 0
        self._clock = clock
        self._at_once = at_once
        self._interval = 1.0 / rate
        self._free_at = clock.seconds() - at_once * self._interval
        self._waiting: deque[Deferred[None]] = deque()
        self._timer: IDelayedCall | None = None

    def enter(self) -> Deferred[None]:
        """@return: Deferred of None when it is one's turn; cancel it to give that up."""
        turn: Deferred[None] = Deferred(self._give_up)
        self._waiting.append(turn)
        self._admit()
        return turn

    def leave(self) -> None:
        """One who has entered is done."""
        self.inside -= 1
        self._admit()

    def _give_up(self, turn: Deferred[None]) -> None:
        self._waiting.remove(turn)
        if not self._waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _admit(self) -> None:
        while self._waiting and self.inside < self._at_once and self._timer is None:
            now = self._clock.seconds()
            # A burst never exceeds what would have been allowed in the time since the last one.
            start = max(self._free_at, now - self._at_once * self._interval)
            if start + self._interval > now:
                self._timer = self._clock.callLater(start + self._interval - now, self._wake)
                return
            self._free_at = start + self._interval
            self.inside += 1
            self._waiting.popleft().callback(None)

    def _wake(self) -> None:
        self._timer = None
        self._admit()
