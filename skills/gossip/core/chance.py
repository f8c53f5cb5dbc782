"""Where chance comes from: given, never fetched, so that a seed decides everything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Random(Protocol):
    """The part of C{random.Random} that a replica uses."""

    def random(self) -> float:
        """@return: 0 <= number < 1."""

    def getrandbits(self, k: int, /) -> int:
        """@return: C{k} random bits."""

    def sample(self, population: Sequence[T], k: int) -> list[T]:
        """@return: C{k} different elements."""

    def shuffle(self, x: Any) -> None:
        """Put a list into random order."""
