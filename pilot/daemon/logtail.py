"""The last lines of the log, for an operator who looks in."""

from __future__ import annotations

from collections import deque

from twisted.logger import ILogObserver, LogEvent, PredicateResult
from zope.interface import implementer

from pilot.daemon.logs import LevelGate, event_text

#: Events that are remembered, and characters of one.
MAX_EVENTS, MAX_EVENT = 500, 4000


@implementer(ILogObserver)
class LogTail:
    """Remembers what is logged, at the level of the daemon's log."""

    def __init__(self, level: str) -> None:
        """@param level: the level at the start."""
        self._gate = LevelGate(level)
        self._events: deque[str] = deque(maxlen=MAX_EVENTS)

    @property
    def level(self) -> str:
        """Least severe level that is remembered."""
        return self._gate.level

    def __call__(self, event: LogEvent) -> None:
        """Remember an event."""
        if self._gate(event) is not PredicateResult.no:
            self._events.append(event_text(event)[:MAX_EVENT])

    def last(self, count: int) -> list[str]:
        """@return: the last events, oldest first."""
        return list(self._events)[-count:] if count > 0 else []
