"""Things that have to be done until they are done: telling a peer, paying a score.

What is to be done is written down in the tasks' documents; this only keeps trying.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from pilot.errors import ConnectionFailed, PilotError
from pilot.tasks.errors import TaskFileError

log = Logger()

#: Seconds between attempts: the first pause, and the longest.
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 300.0

Work = Callable[[], Coroutine[Any, Any, None]]


class Errands:
    """
    Runs at most one errand a key, again and again until it succeeds.

    An errand fails with C{ConnectionFailed} or C{TaskFileError} to be tried again; any other error
    ends it.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._running: dict[str, Deferred[None]] = {}
        self._waiting: dict[str, IDelayedCall] = {}
        self._next: dict[str, tuple[Work, list[Deferred[bool]]]] = {}
        self._stopped = False

    def __len__(self) -> int:
        return len(self._running) + len(self._waiting)

    def start(self, key: str, work: Work) -> Deferred[bool]:
        """
        Do something now, or right after what is being done for the key.

        @return: Deferred of whether the first attempt did it.
        """
        told: Deferred[bool] = Deferred()
        if self._stopped:
            told.callback(False)
        elif key in self._running:
            _, others = self._next.get(key, (work, []))
            self._next[key] = (work, [*others, told])
        else:
            waiting = self._waiting.pop(key, None)
            if waiting is not None:
                waiting.cancel()
            self._attempt(key, work, FIRST_PAUSE, [told])
        return told

    def stop(self) -> None:
        """Try nothing any more."""
        self._stopped = True
        for call in self._waiting.values():
            call.cancel()
        self._waiting.clear()
        for _, others in self._next.values():
            _tell(others, False)
        self._next.clear()
        for attempt in list(self._running.values()):
            attempt.cancel()

    def _attempt(
        self, key: str, work: Work, pause: float, told: list[Deferred[bool]] | None = None
    ) -> None:
        self._waiting.pop(key, None)
        attempt = Deferred.fromCoroutine(work())
        self._running[key] = attempt
        attempt.addBoth(self._ended, key, work, pause, told or [])

    def _ended(
        self,
        result: Failure | None,
        key: str,
        work: Work,
        pause: float,
        told: list[Deferred[bool]],
    ) -> None:
        del self._running[key]
        again = self._next.pop(key, None)
        if isinstance(result, Failure) and not self._stopped:
            if result.check(PilotError, CancelledError) is None:
                log.failure("errand {key} failed", result, key=key)
            elif again is None and result.check(ConnectionFailed, TaskFileError) is not None:
                later = min(2 * pause, LONGEST_PAUSE)
                call = self._clock.callLater(pause, self._attempt, key, work, later)
                self._waiting[key] = call
        if again is not None:
            self._attempt(key, again[0], FIRST_PAUSE, again[1])
        _tell(told, not isinstance(result, Failure))


def _tell(told: list[Deferred[bool]], done: bool) -> None:
    for each in told:
        if not each.called:
            each.callback(done)
