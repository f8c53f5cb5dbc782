"""Simulated time for thousands of nodes: a heap of calls.

C{twisted.internet.task.Clock} sorts all its calls at each C{callLater}, which costs milliseconds
once thousands are waiting; here a call costs a microsecond or two, whatever is waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

_Entry = tuple[float, int, Any, Any]

#: Below this many dead entries the heap is left as it is.
_WORTH_SWEEPING = 4_096


@implementer(IDelayedCall)
class Call:
    """One call that waits; see C{IDelayedCall}."""

    __slots__ = ("_args", "_func", "_kw", "_scheduler", "_sequence", "_state", "_when")

    def __init__(
        self,
        scheduler: HeapScheduler,
        when: float,
        func: Callable[..., object],
        args: tuple[Any, ...],
        kw: dict[str, Any],
    ) -> None:
        self._scheduler, self._when = scheduler, when
        self._func, self._args, self._kw = func, args, kw
        self._sequence = 0
        self._state = "waiting"

    def getTime(self) -> float:
        """When it is due, seconds."""
        return self._when

    def active(self) -> bool:
        """Whether it still waits."""
        return self._state == "waiting"

    def cancel(self) -> None:
        """Do not call.  @raise AlreadyCalled, AlreadyCancelled: there is nothing to cancel."""
        self._check()
        self._state = "cancelled"
        self._scheduler._dropped()

    def reset(self, secondsFromNow: float) -> None:
        """Call so many seconds from now instead."""
        self._move(self._scheduler.now + secondsFromNow)

    def delay(self, secondsLater: float) -> None:
        """Call so many seconds later than planned."""
        self._move(self._when + secondsLater)

    def _check(self) -> None:
        if self._state == "called":
            raise AlreadyCalled
        if self._state == "cancelled":
            raise AlreadyCancelled

    def _move(self, when: float) -> None:
        self._check()
        later, self._when = when >= self._when, when
        if not later:  # a later one is moved when its old time comes up
            self._scheduler._push(self)
            self._scheduler._dropped()


@implementer(IReactorTime)
class HeapScheduler:
    """
    Seconds that pass only when told to.

    Calls due at the same moment run in the order in which they were made.

    @ivar now: simulated seconds.
    @ivar calls: how many calls have run.
    """

    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        self.calls = 0
        self._heap: list[_Entry] = []
        self._sequence = 0
        self._dead = 0

    def seconds(self) -> float:
        """Simulated seconds."""
        return self.now

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: Any, **kw: Any
    ) -> Call:
        """Call C{callable} in C{delay} seconds; @return: what moves or cancels it."""
        assert delay >= 0, f"{delay} seconds from now is in the past"
        call = Call(self, self.now + delay, callable, args, kw)
        self._push(call)
        return call

    def post(self, when: float, func: Callable[..., object], *args: Any) -> None:
        """Call C{func} at C{when}; it cannot be taken back, and costs half of C{callLater}."""
        self._sequence += 1
        heappush(self._heap, (when, self._sequence, func, args))

    def getDelayedCalls(self) -> list[Call]:
        """What still waits behind C{callLater}."""
        return [
            call
            for _, number, call, args in self._heap
            if args is None and call._sequence == number and call.active()
        ]

    def step(self) -> bool:
        """Move on to the next call and run it; @return: whether there was one."""
        due = self._next_due()
        if due is None:
            return False
        self.now = max(self.now, due)
        self._run_first()
        return True

    def run_until(self, when: float) -> None:
        """Let time pass until C{when}, running all that is due up to then."""
        heap = self._heap
        while heap and heap[0][0] <= when:
            due = self._next_due()
            if due is None or due > when:
                break
            if due > self.now:
                self.now = due
            self._run_first()
        self.now = max(self.now, when)

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self.run_until(self.now + seconds)

    def run_while(self, condition: Callable[[], bool], until: float) -> bool:
        """
        Let time pass while C{condition} holds, at most until C{until}.

        @return: whether it ended because the condition no longer held.
        """
        while condition():
            due = self._next_due()
            if due is None or due > until:
                self.now = max(self.now, until)
                return False
            self.now = max(self.now, due)
            self._run_first()
        return True

    def _push(self, call: Call) -> None:
        self._sequence += 1
        call._sequence = self._sequence
        heappush(self._heap, (call._when, self._sequence, call, None))

    def _next_due(self) -> float | None:
        """When the first entry is due, once those that no longer count are out of the way."""
        heap = self._heap
        while heap:
            when, number, call, args = heap[0]
            if args is not None:
                return when
            if call._sequence != number or call._state != "waiting":
                heappop(heap)
                self._dead -= 1
            elif call._when > when:
                heappop(heap)
                self._push(call)
            else:
                return when
        return None

    def _run_first(self) -> None:
        _, _, what, args = heappop(self._heap)
        self.calls += 1
        if args is None:
            what._state = "called"
            what._func(*what._args, **what._kw)
        else:
            what(*args)

    def _dropped(self) -> None:
        """An entry of the heap no longer counts; sweep once half of them do not."""
        self._dead += 1
        if self._dead > _WORTH_SWEEPING and self._dead * 2 > len(self._heap):
            self._heap[:] = [
                entry
                for entry in self._heap
                if entry[3] is not None
                or (entry[2]._sequence == entry[1] and entry[2]._state == "waiting")
            ]
            heapify(self._heap)
            self._dead = 0
