"""Agents that come and go too often to be relied on."""

from __future__ import annotations

from typing import Final

HALF_LIFE: Final = 300.0
"""Seconds in which a penalty halves."""
LIMIT: Final = 3.0
"""Penalty above which an agent flaps.  Each change between offline and not offline costs 1."""
CLEAN: Final = 600.0
"""Seconds without such a change after which a flapping agent counts as settled."""


class Flap:
    """
    The penalty of one agent; agents that never went have none.

    @ivar flapping: whether it changes too often.
    """

    __slots__ = ("_at", "_penalty", "flapping")

    def __init__(self, now: float) -> None:
        self._penalty = 0.0
        self._at = now
        self.flapping = False

    def penalty(self, now: float) -> float:
        """@return: what is left of it."""
        return float(self._penalty * 0.5 ** (max(0.0, now - self._at) / HALF_LIFE))

    def changed(self, now: float) -> bool:
        """
        The agent went, or came back.
        @return: whether it is flapping from now on, and was not before.
        """
        self._penalty = self.penalty(now) + 1.0
        self._at = now
        before, self.flapping = self.flapping, self.flapping or self._penalty > LIMIT
        return self.flapping and not before

    def clean_at(self) -> float:
        """@return: when it counts as settled, unless it changes again."""
        return self._at + CLEAN

    def settled(self, now: float) -> bool:
        """@return: whether it was flapping and is not any more."""
        if not self.flapping or now < self.clean_at():
            return False
        self.flapping = False
        return True
