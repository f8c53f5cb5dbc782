"""What every reader of JSON takes: unknown fields of a record are passed on to all of them."""

from __future__ import annotations

from math import isfinite
from typing import Any, Final

DEPTH: Final = 16
"""Levels of arrays and objects in a record."""
LARGEST: Final = 10**300
"""Whole numbers are below: beyond about 10^308 they fit no double."""


def is_plain(value: Any, depth: int = DEPTH) -> bool:
    """
    One agent's record travels beside those of others: what makes one reader refuse it would cost
    that reader all of them.

    @param value: as some JSON reader has returned it.
    @return: whether it holds nothing but finite numbers, and no more than C{depth} levels.
    """
    if isinstance(value, (str, bool)) or value is None:
        return True
    if isinstance(value, int):
        return -LARGEST < value < LARGEST
    if isinstance(value, float):
        return isfinite(value)
    if not depth:
        return False
    if isinstance(value, dict):
        return all(
            isinstance(key, str) and is_plain(each, depth - 1) for key, each in value.items()
        )
    if isinstance(value, (list, tuple)):
        return all(is_plain(each, depth - 1) for each in value)
    return False
