"""The only way into the core: effects out, one timer re-armed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall

from skills.presence.core.effects import Effect
from skills.presence.core.presence import PresenceCore

LONGEST: Final = 60.0
"""Seconds until the timer is called at most; that shows the core when wall time jumps."""
OVERDUE: Final = 1.0
"""Seconds after which a timer that did not come is replaced.  The reactor goes by wall time: when
that is set back, its timers are late."""


class Engine:
    """
    Drives one core.  What arrives after its end is ignored.

    @ivar core: for questions.
    """

    def __init__(
        self,
        core: PresenceCore,
        reactor: Any,
        monotonic: Callable[[], float],
        carry: Callable[[Effect], None],
    ) -> None:
        """
        @param monotonic: seconds, the clock of the core.
        @param carry: does what an effect asks for; called after the core has returned.
        """
        self.core = core
        self.now = monotonic
        self._reactor = reactor
        self._carry = carry
        self._effects: deque[Effect] = deque()
        self._carrying = self._closed = False
        self._timer: IDelayedCall | None = None
        self._at = float("inf")

    @property
    def closed(self) -> bool:
        """Whether it is over."""
        return self._closed

    def turn(self, step: Callable[..., list[Effect]], *args: Any, **kwargs: Any) -> None:
        """Call a method of the core with the time and C{args}, and do what it says."""
        if not self._closed:
            self.do(step(self.now(), *args, **kwargs))

    def do(self, effects: list[Effect]) -> None:
        """Do what a method of the core said."""
        self._effects.extend(effects)
        if self._carrying:
            return  # what an effect set off waits until those before it are done
        self._carrying = True
        try:
            while self._effects:
                self._carry(self._effects.popleft())
        finally:
            self._carrying = False
        self._arm()

    def close(self) -> None:
        """No more of it."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _arm(self) -> None:
        deadline = self.core.deadline()
        if deadline is None or self._closed:
            return
        now = self.now()
        deadline = min(deadline, now + LONGEST)
        if self._timer is not None:
            if now - OVERDUE < self._at <= deadline:
                return  # it comes early enough, and costs nothing when it is too early
            self._timer.cancel()
        self._at = max(deadline, now)
        self._timer = self._reactor.callLater(self._at - now, self._due)

    def _due(self) -> None:
        self._timer = None
        self.turn(self.core.on_timer)
