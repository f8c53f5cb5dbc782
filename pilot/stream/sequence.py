"""Sequence numbers: 32 bits on the wire, unbounded inside.

Inside the stream every position is a plain integer that only grows, so that comparing two of them
needs no care.  L{unwrap} lifts a number off the wire to the position it must mean.

@see: protocol notes, I{Sequence arithmetic}; golden vectors C{stream_rules.json}.
"""

from __future__ import annotations

MASK = 0xFFFFFFFF
HALF = 0x80000000


def after(a: int, b: int) -> bool:
    """@return: whether C{a} follows C{b} on the circle; neither does at a distance of 2**31."""
    return 0 < (a - b) & MASK < HALF


def after_or_equal(a: int, b: int) -> bool:
    """@return: whether C{a} is C{b} or follows it on the circle."""
    return (a - b) & MASK < HALF


def unwrap(wire: int, near: int) -> int:
    """
    @param wire: a number off the wire, modulo 2**32.
    @param near: a position that the number is less than 2**31 away from.
    @return: the position that C{wire} stands for.
    """
    return near + ((wire - near + HALF) & MASK) - HALF
