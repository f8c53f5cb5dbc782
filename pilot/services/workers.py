"""Threads for work that blocks, so that a slow disk holds up nobody but who waits for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from pilot.errors import PilotError

P = ParamSpec("P")
T = TypeVar("T")

MOST_THREADS = 4
"""Jobs that run at once; a disk gains nothing from more."""


class Stopped(PilotError):
    """The service is stopping; the job was not begun."""


class Workers:
    """
    A thread pool of its own: the reactor's is where names are resolved, and must not fill up.

    @param reactor: where results come back to.
    @param name: of the threads.
    """

    def __init__(self, reactor: Any, name: str, most: int = MOST_THREADS) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(0, most, name)
        self._running = 0
        self._started = self._stopped = False
        self._waiting: list[Deferred[None]] = []

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """
        Call a function on a thread.

        @return: Deferred of what it returns or raises, or of L{Stopped}.
        """
        if self._stopped:
            return fail(Stopped("stopping"))
        if not self._started:
            self._started = True
            self._pool.start()
        self._running += 1
        job = deferToThreadPool(self._reactor, self._pool, function, *args, **kwargs)
        return job.addBoth(self._done)

    def stop(self) -> Deferred[None]:
        """@return: Deferred of C{None} when every job is done and the threads have ended."""
        self._stopped = True
        finished: Deferred[None] = Deferred()
        if self._running:
            self._waiting.append(finished)
        else:
            self._end()
            return succeed(None)
        return finished

    def _done(self, result: Any) -> Any:
        self._running -= 1
        if self._stopped and not self._running:
            self._reactor.callLater(0, self._end)
        return result

    def _end(self) -> None:
        if self._started:
            self._started = False
            self._pool.stop()
        waiting, self._waiting = self._waiting, []
        for finished in waiting:
            finished.callback(None)
