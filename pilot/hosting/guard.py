"""Between a skill and its host: no exception gets through, and nothing stays behind."""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutine
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from pilot.errors import PilotError

log = Logger()

#: What code of a skill may raise without its host being the worse for it: one that calls
#: C{sys.exit} ends itself only.
RAISED = (Exception, SystemExit)


class Guard:
    """
    Knows what one run of a skill holds, and catches what its callbacks raise.

    @ivar name: the skill's.
    @ivar closed: whether the run is over; then no callback is called any more.
    """

    def __init__(self, name: str, on_failure: Callable[[Failure], None]) -> None:
        """@param on_failure: told what a callback raised, or what its Deferred failed with."""
        self.name = name
        self.closed = False
        self._on_failure = on_failure
        self._held: dict[int, Callable[[], Any]] = {}
        self._numbers = count()

    def __len__(self) -> int:
        """@return: how many things are held."""
        return len(self._held)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """
        Call a callback of the skill.

        @return: what it returned, a coroutine as a Deferred; None when it raised or the run is
            over.  A Deferred never fails: it comes to None instead.
        """
        if self.closed:
            return None
        try:
            result = function(*args, **kwargs)
        except RAISED:
            self.fail(Failure())
            return None
        if iscoroutine(result):
            result = Deferred.fromCoroutine(result)
        if isinstance(result, Deferred):
            result.addErrback(self.fail)
        return result

    def watch(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """@return: C{function}, which also reports what it raises or its Deferred fails with."""

        def watched(*args: Any, **kwargs: Any) -> Any:
            try:
                result = function(*args, **kwargs)
            except RAISED:
                self.fail(Failure())
                raise
            if iscoroutine(result):
                result = Deferred.fromCoroutine(result)
            if isinstance(result, Deferred):
                result.addErrback(self._report_and_pass)
            return result

        return watched

    def fail(self, failure: Failure) -> None:
        """Something of the skill has failed."""
        if not self.closed:
            self._on_failure(failure)

    def hold(self, release: Callable[[], Any]) -> Callable[[], bool]:
        """
        Remember what has to be given back.

        @param release: gives it back; may return a Deferred.
        @return: a callable for when it was given back already, or is over; it tells whether it was
            still held.
        """
        number = next(self._numbers)
        self._held[number] = release
        return lambda: self._held.pop(number, None) is not None

    def close(self) -> Deferred[Any]:
        """@return: Deferred that fires when everything was given back."""
        self.closed = True
        waiting = []
        while self._held:
            _, release = self._held.popitem()
            try:
                result = release()
            except RAISED:
                self._complain(Failure())
                continue
            if isinstance(result, Deferred):
                waiting.append(result.addErrback(self._complain))
        return DeferredList(waiting)

    def _report_and_pass(self, failure: Failure) -> Failure:
        self.fail(failure)
        return failure

    def _complain(self, failure: Failure) -> None:
        # A node that is gone has taken its streams and ports with it, and says so.
        if not failure.check(PilotError):
            log.failure("taking back what skill {skill} held", failure, skill=self.name)
