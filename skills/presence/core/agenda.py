"""What is due when: calls in the order of their time."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any


class Agenda:
    """
    A heap of calls.  None is ever cancelled: a call finds out for itself whether it still matters,
    and who enters one sees to it that there is at most one for each thing it looks after.
    """

    __slots__ = ("_heap", "_order")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0

    def __len__(self) -> int:
        return len(self._heap)

    def at(self, when: float, call: Callable[..., None], *args: Any) -> None:
        """Have C{call(now, *args)} made at C{when}."""
        self._order += 1
        heappush(self._heap, (when, self._order, call, args))

    def due(self) -> float | None:
        """@return: when the next call is due."""
        return self._heap[0][0] if self._heap else None

    def run(self, now: float) -> None:
        """Make the calls that are due; those they enter for now or earlier as well."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            _, _, call, args = heappop(heap)
            call(now, *args)

    def clear(self) -> None:
        """Nothing is due any more."""
        self._heap.clear()
