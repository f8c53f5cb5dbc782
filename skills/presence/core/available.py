"""The agents that may take work, by load: finding the least loaded looks at no others."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

from skills.presence.core.entry import Entry

UNKNOWN_LOAD: Final = 50
"""Where agents stand that do not tell their load: behind the idle, before the busy."""


def load_of(entry: Entry) -> int:
    """@return: its load in percent, or what stands for it."""
    return UNKNOWN_LOAD if entry.load is None else entry.load


class Available:
    """Entries by load, each in a row of its own load; an entry knows its C{spot} in the row."""

    __slots__ = ("_count", "_loads", "_rows")

    def __init__(self) -> None:
        self._rows: list[list[Entry]] = [[] for _ in range(101)]
        self._loads: dict[int, int] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, entry: Entry) -> None:
        """This entry may take work, with the load it has now."""
        self.take(entry)
        load = load_of(entry)
        row = self._rows[load]
        entry.spot = len(row)
        row.append(entry)
        self._loads[entry.node] = load
        self._count += 1

    def take(self, entry: Entry) -> None:
        """It may not, or has another load now."""
        if entry.spot < 0:
            return
        row = self._rows[self._loads.pop(entry.node)]
        last = row.pop()
        if last is not entry:
            row[entry.spot] = last
            last.spot = entry.spot
        entry.spot = -1
        self._count -= 1

    def by_load(self, rng: random.Random) -> Iterator[Entry]:
        """@return: all of them, the least loaded first, equals from a random one on."""
        for row in self._rows:
            if row:
                start = rng.randrange(len(row))
                for at in range(len(row)):
                    yield row[at - len(row) + start]
