"""Chance and fairness: whom to talk to next.

Nothing here sorts or walks a whole membership for one choice: a swarm of ten thousand makes these
choices thousands of times a second in one process.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from skills.gossip.core.chance import Random

#: Tries per member wanted before a sample looks at everybody instead.
_TRIES = 4


class RoundRobin:
    """
    Everybody once in random order, then everybody again: no member waits longer than two rounds.
    """

    __slots__ = ("_left", "_rng", "_source")

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._source: Sequence[int] = ()
        self._left: list[int] = []

    def replace(self, source: Sequence[int], added: Collection[int]) -> None:
        """
        @param source: whom to go round from now on; kept, not copied, and not to be changed.
        @param added: those of them that are new, to be met in this round already.
        """
        if self._left:
            self._left.extend(added)
        self._source = source

    def next(self, usable: Callable[[int], bool]) -> int | None:
        """
        @param usable: whether a member may be chosen now; others lose their turn.
        @return: the next member, or C{None} if there is no usable one.
        """
        for _ in range(2):
            left = self._left
            while left:
                at = int(self._rng.random() * len(left))
                node = left[at]
                left[at] = left[-1]
                left.pop()
                if usable(node):
                    return node
            self._left = list(self._source)
        return None


def sample(
    rng: Random, source: Sequence[int], count: int, usable: Callable[[int], bool]
) -> list[int]:
    """
    @return: up to C{count} different usable members, each equally likely; all of them if there are
        no more.
    """
    size = len(source)
    chosen: list[int] = []
    if size > 2 * count:
        for _ in range(_TRIES * count):
            node = source[int(rng.random() * size)]
            if node not in chosen and usable(node):
                chosen.append(node)
                if len(chosen) == count:
                    return chosen
    usable_ones = [node for node in source if node not in chosen and usable(node)]
    missing = count - len(chosen)
    if len(usable_ones) > missing:
        usable_ones = rng.sample(usable_ones, missing)
    return chosen + usable_ones


class View:
    """
    A bounded acquaintance with a swarm too large to know: neighbours, and a reserve.

    Neighbours are symmetric: each has the other, because taking one is told to it, and so is
    letting one go.  The reserve is refreshed by samples of the neighbours' own views, so the graph
    of neighbours stays random and connected while members come and go.

    @ivar active: neighbours.
    @ivar passive: the reserve.
    """

    __slots__ = ("_active_size", "_passive_size", "_rng", "active", "passive")

    def __init__(self, rng: Random, active_size: int, passive_size: int) -> None:
        self._rng = rng
        self._active_size = active_size
        self._passive_size = passive_size
        self.active: list[int] = []
        self.passive: list[int] = []

    @property
    def short(self) -> bool:
        """Whether there is room for another neighbour."""
        return len(self.active) < self._active_size

    def know(self, node: int) -> None:
        """Put a member into the reserve; a random other one makes room if there is none."""
        if node in self.passive or node in self.active:
            return
        if len(self.passive) < self._passive_size:
            self.passive.append(node)
        else:
            self.passive[int(self._rng.random() * len(self.passive))] = node

    def befriend(self, node: int) -> None:
        """Make a member a neighbour; there is room."""
        if node not in self.active:
            self.active.append(node)
        if node in self.passive:
            self.passive.remove(node)

    def evict(self) -> int:
        """@return: a random neighbour, which is one no more."""
        node = self.active[int(self._rng.random() * len(self.active))]
        self.demote(node)
        return node

    def demote(self, node: int) -> None:
        """Move a neighbour to the reserve."""
        if node in self.active:
            self.active.remove(node)
            self.know(node)

    def forget(self, node: int) -> None:
        """Drop a member altogether."""
        if node in self.active:
            self.active.remove(node)
        if node in self.passive:
            self.passive.remove(node)

    def shown(self, neighbours: int = 3, reserve: int = 4) -> list[int]:
        """@return: the sample of this view that a shuffle carries."""
        active, passive = self.active, self.passive
        return self._rng.sample(active, min(neighbours, len(active))) + self._rng.sample(
            passive, min(reserve, len(passive))
        )
