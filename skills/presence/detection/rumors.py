"""News that is passed on: pushed once at once, then carried along on probes and their answers.

About a member there is one rumor with its status record and one about its life, the newest; while
it is accused there is one for each accuser.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import nsmallest
from math import ceil, log10
from typing import Final

from skills.presence.detection.items import Fresh, Item, Left, Status, Suspect, item_size

CARRIES: Final = 3
"""Times C{ceil(log10(N + 1))} that a rumor is carried along.  Fewer leave more members to be told
by repair, more are wasted on members that know."""
MOST: Final = 4_096
"""Rumors held; beyond that the oldest is dropped."""


def carries(members: int) -> int:
    """@return: how often a rumor is carried along among so many members."""
    return CARRIES * ceil(log10(members + 1))


_LIFE: Final = -1
_RECORD: Final = -2


class Rumor:
    """
    One piece of news.

    @ivar item: as it was when it was made.
    @ivar made: when that was; spans inside the item grow from then on.
    @ivar source: who told us, 0 for ourselves; it is not told back at once.
    @ivar sent: how often it was carried along.
    @ivar size: bytes it takes.
    @ivar key: what it is about: a member, and its life, its record or one of its accusers.
    """

    __slots__ = ("item", "key", "made", "sent", "size", "source")

    def __init__(self, item: Item, made: float, source: int) -> None:
        self.item = item
        self.made = made
        self.source = source
        self.sent = 0
        self.size = item_size(item)
        slot = _LIFE
        if isinstance(item, Status):
            slot = _RECORD
        elif isinstance(item, Suspect):
            slot = item.by
        self.key = item.node, slot

    def now(self, now: float) -> Item:
        """@return: the item with its spans grown to this moment."""
        return aged(self.item, now - self.made)


def aged(item: Item, by: float) -> Item:
    """@return: the item with its spans grown by so many seconds."""
    if isinstance(item, Left) or by <= 0.0:
        return item
    if isinstance(item, (Fresh, Status)):
        return item._replace(age=item.age + by)
    return item._replace(age=item.age + by, silent=item.silent + by)


class Rumors:
    """
    The queue of news.

    @ivar hot: rumors that wait to be pushed.
    @ivar dropped: rumors that fell out because there were too many.
    """

    __slots__ = ("_accusers", "_most", "_queue", "dropped", "hot")

    def __init__(self, most: int = MOST) -> None:
        self._queue: dict[tuple[int, int], Rumor] = {}
        self._accusers: dict[int, list[int]] = {}
        self._most = most
        self.hot: list[Rumor] = []
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, now: float, item: Item, source: int) -> None:
        """This is news; what it makes obsolete is none any more."""
        if isinstance(item, Suspect):
            self._queue.pop((item.node, _LIFE), None)
            accusers = self._accusers.setdefault(item.node, [])
            if item.by not in accusers:
                accusers.append(item.by)
        elif not isinstance(item, Status):
            self.drop(item.node)
        rumor = Rumor(item, now, source)
        self._queue.pop(rumor.key, None)
        if len(self._queue) >= self._most:
            self._remove(next(iter(self._queue)))
            self.dropped += 1
        self._queue[rumor.key] = rumor
        self.hot.append(rumor)
        if len(self.hot) > 2 * self._most:  # some of them are news no more
            self.hot = self.take_hot()

    def drop(self, node: int) -> None:
        """Nothing about that member's life is news any more."""
        self._queue.pop((node, _LIFE), None)
        for by in self._accusers.pop(node, ()):
            self._queue.pop((node, by), None)

    def take_hot(self) -> list[Rumor]:
        """@return: what is to be pushed now and still holds."""
        hot, self.hot = self.hot, []
        return [rumor for rumor in hot if self._queue.get(rumor.key) is rumor]

    def carry(self, now: float, room: int, limit: int) -> tuple[Item, ...]:
        """
        @param room: bytes left in the datagram.
        @param limit: how often a rumor is carried along.
        @return: items to carry along, those least often carried first.
        """
        if not self._queue:
            return ()
        items = []
        for rumor in nsmallest(32, self._queue.values(), key=lambda each: each.sent):
            if rumor.size > room:
                continue
            room -= rumor.size
            items.append(rumor.now(now))
            rumor.sent += 1
            if rumor.sent >= limit:
                self._remove(rumor.key)
        return tuple(items)

    def _remove(self, key: tuple[int, int]) -> None:
        del self._queue[key]
        node, by = key
        accusers = self._accusers.get(node)
        if accusers is not None and by in accusers:
            accusers.remove(by)
            if not accusers:
                del self._accusers[node]


def packed(items: Iterable[tuple[Item, int]], room: int) -> list[tuple[Item, ...]]:
    """
    @param items: with the bytes each takes.
    @param room: bytes of items in a datagram.
    @return: the items of one datagram after the other.
    """
    loads: list[tuple[Item, ...]] = []
    load: list[Item] = []
    left = room
    for item, size in items:
        if size > left and load:
            loads.append(tuple(load))
            load, left = [], room
        load.append(item)
        left -= size
    if load:
        loads.append(tuple(load))
    return loads
