"""Whom we probe next: everybody in turn, or a view of them in a swarm that is very large.

A view keeps the number of peers we are in contact with small (each costs a tunnel).  Every node
stands on several rings, in an order given by node numbers alone, and views those that follow it on
each; so each node is viewed by as many as it views, whatever its number, without a word being
exchanged, and the rings together spread news as well as random choice does.  Members outside the
view are still met, rarely: one that trusts nobody but us is in nobody else's view.
"""

from __future__ import annotations

import random
from heapq import nsmallest
from typing import Final

WHOLE: Final = 1_024
"""Members up to which everybody is in the view."""
RINGS: Final = 4
FOLLOWERS: Final = 8
"""How many that follow us on each ring are in our view."""
OUTSIDE_EVERY: Final = 4
"""One probe in so many goes to somebody outside the view."""


def place(node: int, ring: int) -> int:
    """@return: where a node stands on a ring, 0..2**32-1."""
    mixed = (node + ring * 0x9E3779B9) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 16)) * 0x45D9F3B) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 16)) * 0x45D9F3B) & 0xFFFFFFFF
    return mixed ^ (mixed >> 16)


def view(me: int, nodes: list[int]) -> list[int]:
    """@return: which of the nodes are in our view."""
    if len(nodes) <= WHOLE:
        return nodes
    chosen: set[int] = set()
    for ring in range(RINGS):
        here = place(me, ring)
        follows = [((place(node, ring) - here) & 0xFFFFFFFF, node) for node in nodes]
        chosen.update(node for _, node in nsmallest(FOLLOWERS, follows))
    return sorted(chosen)


class Round:
    """A shuffled round over the view, and a slow one over the rest."""

    __slots__ = ("_order", "_outside", "_rng", "_turns")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._order: list[int] = []
        self._outside: list[int] = []
        self._turns = 0

    def next(self, inside: list[int], everybody: list[int]) -> int | None:
        """@return: whom to probe, or C{None}: there is nobody."""
        self._turns += 1
        if len(everybody) > len(inside) and self._turns % OUTSIDE_EVERY == 0:
            if not self._outside:
                self._outside = list(everybody)
                self._rng.shuffle(self._outside)
            return self._outside.pop()
        if not self._order:
            self._order = list(inside)
            self._rng.shuffle(self._order)
        return self._order.pop() if self._order else None
