"""Work that nobody waits for: kept track of, so that it ends with the node and fails loudly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

log = Logger()


class Background:
    """Deferreds and delayed calls of one service."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._work: set[Deferred[Any]] = set()
        self._timers: set[IDelayedCall] = set()

    def watch(self, work: Deferred[Any]) -> None:
        """Let C{work} go on unattended; a failure that is no cancellation is logged."""
        self.own(work).addErrback(self._failed)

    def own(self, work: Deferred[Any]) -> Deferred[Any]:
        """Cancel C{work} when the service stops.  @return: C{work}."""
        self._work.add(work)

        def over(result: Any) -> Any:
            self._work.discard(work)
            return result

        return work.addBoth(over)

    def later(self, delay: float, call: Callable[[], None]) -> None:
        """Run C{call} after C{delay} seconds, unless the service stops first."""

        def due() -> None:
            self._timers.discard(timer)
            call()

        timer = self._clock.callLater(delay, due)
        self._timers.add(timer)

    def stop(self) -> None:
        """End everything."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        for work in list(self._work):
            work.cancel()

    def _failed(self, failure: Failure) -> None:
        if not isinstance(failure.value, CancelledError):
            log.failure("work on trust failed", failure)


def within(clock: IReactorTime, work: Deferred[Any], seconds: float) -> Deferred[Any]:
    """
    Wait for C{work}, but not for ever.  What comes later is dropped; C{work} goes on.

    @return: Deferred of the result of C{work}, failures included, or of None after C{seconds}.
    """
    waited: Deferred[Any] = Deferred()
    timer = clock.callLater(seconds, waited.callback, None)

    def over(result: Any) -> None:
        if timer.active():
            timer.cancel()
            waited.callback(result)
        elif isinstance(result, Failure):
            log.warn("failed, later than anybody waited: {error}", error=result.getErrorMessage())

    work.addBoth(over)
    return waited
