"""The reactor a skill gets: its timers, ports and connections are its host's to take back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from twisted.application.internet import TimerService
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from zope.interface import directlyProvides, providedBy

from pilot.hosting.guard import Guard

#: Timers kept beyond those that were active when they were last counted.
_SLACK = 64


class GuardedReactor:
    """
    Everything the reactor does, for one run of a skill.

    A timer or a C{LoopingCall} that raises fails the skill, not the daemon.
    """

    def __init__(self, reactor: Any, guard: Guard) -> None:
        self._reactor = reactor
        self._guard = guard
        self._timers: set[IDelayedCall] = set()
        self._crowded = _SLACK
        # Ports and connectors, for as long as the reactor itself keeps them alive.
        self._sockets: WeakSet[Any] = WeakSet()
        self.seconds = reactor.seconds
        directlyProvides(self, providedBy(reactor))
        guard.hold(self._take_back)

    def callLater(
        self, delay: float, function: Callable[..., object], *args: Any, **kwargs: Any
    ) -> IDelayedCall:
        """Call C{function} in C{delay} seconds, unless the run is over by then."""
        if isinstance(function, LoopingCall):
            # It catches what its function raises and tells only the Deferred of start().
            self._watch_loop(function)
        timer: IDelayedCall

        def fire() -> None:
            self._timers.discard(timer)
            self._guard.call(function, *args, **kwargs)

        timer = self._reactor.callLater(delay, fire)
        if self._guard.closed:
            timer.cancel()
            return timer
        self._timers.add(timer)
        if len(self._timers) > self._crowded:
            self._timers = {timer for timer in self._timers if timer.active()}
            self._crowded = 2 * len(self._timers) + _SLACK
        return timer

    def getDelayedCalls(self) -> list[IDelayedCall]:
        """@return: the timers of this run."""
        return [timer for timer in self._timers if timer.active()]

    def callFromThread(self, function: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        """Call C{function} in the reactor's thread, unless the run is over by then."""
        self._reactor.callFromThread(self._guard.call, function, *args, **kwargs)

    def callWhenRunning(self, function: Callable[..., object], *args: Any, **kwargs: Any) -> Any:
        """Call C{function} once the reactor runs."""
        return self._reactor.callWhenRunning(self._guard.call, function, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._reactor, name)
        return self._kept(found) if name.startswith(("listen", "connect")) else found

    def watch_timers(self, service: Any) -> None:
        """Have the C{TimerService}s in a tree of services run on this reactor, watched."""
        if isinstance(service, TimerService):
            function, args, kwargs = service.call
            service.call = (self._guard.watch(function), args, kwargs)
            if service.clock is None:
                service.clock = self
        for child in getattr(service, "services", ()):
            self.watch_timers(child)

    def _watch_loop(self, loop: LoopingCall) -> None:
        if not getattr(loop.f, "pilot_watched", False):
            loop.f = self._guard.watch(loop.f)
            loop.f.pilot_watched = True  # type: ignore[attr-defined]  # so it is done once

    def _kept(self, make: Callable[..., Any]) -> Callable[..., Any]:
        def kept(*args: Any, **kwargs: Any) -> Any:
            made = make(*args, **kwargs)
            self._sockets.add(made)
            return made

        return kept

    def _take_back(self) -> Deferred[Any]:
        timers, self._timers = self._timers, set()
        for timer in timers:
            if timer.active():
                timer.cancel()
        closing = []
        for made in list(self._sockets):
            if hasattr(made, "stopListening"):
                if getattr(made, "connected", True):
                    closing.append(maybeDeferred(made.stopListening))
            elif getattr(made, "state", "") != "disconnected":
                made.disconnect()
        return DeferredList(closing, consumeErrors=True)
