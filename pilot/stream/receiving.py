"""The receiving half: puts segments in order, keeps what came early, and knows what to acknowledge.

A segment that arrives in order is handed over as it is; only overlaps are trimmed.  What came
early lies in a dictionary by position beside a sorted list of the ranges it covers, which is what
selective acknowledgements are made of.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from pilot.stream.sequence import HALF, MASK

#: Segments kept behind holes; more are dropped and not acknowledged.
REORDER_LIMIT = 8192
#: Ranges remembered as changed between two acknowledgements.
RECENT_LIMIT = 64
#: Received segments that wait for the program, before small ones are joined to save memory.
WAITING_LIMIT = 4096


class Receiver:
    """
    What one connection has received.

    @ivar next: position of the next byte expected; everything before it was delivered.
    @ivar received: segments in order that the program has not taken yet.
    @ivar buffered: bytes in it.
    @ivar early: segments beyond a hole, by position.
    @ivar early_bytes: bytes in them.
    @ivar ranges: sorted, disjoint C{[left, right]} that they cover.
    @ivar recent: right ends of the ranges that changed since the last acknowledgement.
    @ivar pending: segments that arrived since the last acknowledgement.
    @ivar ack_now: the peer should hear from us at once.
    @ivar capacity: bytes that may wait for the program and behind holes.
    @ivar fin: position of the peer's end, once known.
    @ivar discarding: the program has stopped reading.
    @ivar discarded: bytes thrown away for that reason.
    @ivar outside: segments refused for lack of room or for lying outside the window.
    @ivar reserve: bytes beyond C{capacity} for copies that came again and again.
    @ivar patience: copies that are refused before one is taken.
    """

    __slots__ = (
        "ack_now",
        "buffered",
        "capacity",
        "discarded",
        "discarding",
        "early",
        "early_bytes",
        "filled",
        "fin",
        "next",
        "outside",
        "patience",
        "pending",
        "ranges",
        "received",
        "recent",
        "refusals",
        "repeated_bytes",
        "repeated_segments",
        "reserve",
        "segments",
        "start",
        "stray",
    )

    def __init__(self, first: int, capacity: int) -> None:
        self.next = self.start = first
        self.received: list[bytes] = []
        self.buffered = 0
        self.early: dict[int, bytes] = {}
        self.early_bytes = 0
        self.ranges: list[list[int]] = []
        self.recent: list[int] = []
        self.pending = 0
        self.ack_now = False
        self.capacity = capacity
        self.fin: int | None = None
        self.discarding = False
        self.discarded = 0
        self.outside = 0
        self.refusals = 0
        self.patience = self.reserve = 0
        self.segments = 0
        self.repeated_segments = self.repeated_bytes = 0
        self.stray = 0  # early arrivals since the last acknowledgement
        self.filled = 0  # times a hole was filled since the last acknowledgement

    @property
    def room(self) -> int:
        """@return: bytes beyond C{next} that are welcome."""
        return max(self.capacity - self.buffered, 0)

    def segment(self, sequence: int, data: bytes) -> None:
        """
        Take one segment.

        @param sequence: number of its first byte, as on the wire.
        @param data: at least one byte.
        """
        self.segments += 1
        self.pending += 1
        if (sequence - self.next) & MASK or self.ranges or self.fin is not None:
            self._out_of_order(sequence, data)
        elif self.buffered < self.capacity:
            size = len(data)
            self.next += size
            if self.discarding:
                self.discarded += size
                return
            self.buffered += size
            self.received.append(data)
            if len(self.received) > WAITING_LIMIT:
                self._join()
        else:
            self._overfull(data)

    def take(self) -> list[bytes]:
        """@return: what arrived in order since the last call; it no longer fills the window."""
        received, self.received = self.received, []
        self.buffered = 0
        return received

    def discard(self) -> None:
        """The program has stopped reading: throw away what comes, and what is here."""
        self.discarding = True
        self.discarded += self.buffered
        self.received = []
        self.buffered = 0

    # -- out of order --------------------------------------------------------------------------

    def _out_of_order(self, sequence: int, data: bytes) -> None:
        self.ack_now = True
        start = self.next + (((sequence - self.next + HALF) & MASK) - HALF)
        end = start + len(data)
        fin = self.fin
        if fin is not None and end > fin:
            if start >= fin:
                self.outside += 1
                return
            data, end = data[: fin - start], fin
        if end <= self.next:
            self._repeated(data)
            return
        if start < self.next:
            self._repeated(data[: self.next - start])
            data = data[self.next - start :]
            start = self.next
        if start == self.next and not self.room:
            self._overfull(data)
        elif start >= self.next + self.room:
            self.outside += 1
        elif start == self.next:
            self._fill(data)
        else:
            self._keep(start, data)

    def _repeated(self, data: bytes) -> None:
        self.repeated_segments += 1
        self.repeated_bytes += len(data)

    def _overfull(self, data: bytes) -> None:
        """
        The next segment has come, but there is no room.

        A reference sender knows no closed window: it resets the stream when the eighth copy was not
        acknowledged.  So one of a few copies is taken, out of a reserve.
        """
        self.ack_now = True
        self.refusals += 1
        if self.refusals > self.patience and self.buffered < self.capacity + self.reserve:
            self.refusals = 0
            self._fill(data)
        else:
            self.outside += 1

    def _fill(self, data: bytes) -> None:
        """Data that continues where we are; what waited behind it may follow."""
        self.filled += 1
        ranges = self.ranges
        while ranges and ranges[0][0] <= self.next + len(data):
            left, right = ranges[0]
            keep = left - self.next
            if right < self.next + len(data):
                # Wholly inside the new segment: what is stored twice is dropped once.
                self._drop_range(left, right)
                del ranges[0]
                continue
            self._deliver(data[:keep])
            while self.next < right:
                stored = self.early.pop(self.next)
                self.early_bytes -= len(stored)
                self._deliver(stored)
            del ranges[0]
            return
        self._deliver(data)

    def _deliver(self, data: bytes) -> None:
        size = len(data)
        if not size:
            return
        self.next += size
        if self.discarding:
            self.discarded += size
        else:
            self.buffered += size
            self.received.append(data)

    def _drop_range(self, left: int, right: int) -> None:
        while left < right:
            stored = self.early.pop(left)
            self.early_bytes -= len(stored)
            left += len(stored)

    def _keep(self, start: int, data: bytes) -> None:
        """Store data beyond a hole, without what is stored already."""
        ranges, early = self.ranges, self.early
        self.stray += 1
        if len(early) >= REORDER_LIMIT:
            self.outside += 1
            return
        end = start + len(data)
        if ranges and start == ranges[-1][1]:  # continues the last range: by far the most common
            ranges[-1][1] = end
            early[start] = data
            self.early_bytes += len(data)
            self._changed(start, end)
            return
        # Cut the new data into the parts that no range covers yet.
        low = bisect_right(ranges, start, key=_left) - 1
        if low >= 0 and ranges[low][1] < start:
            low += 1
        low = max(low, 0)
        high = low
        left, right = start, end
        position = start
        while high < len(ranges) and ranges[high][0] <= end:
            begin, stop = ranges[high]
            if position < begin:
                self._store(position, data[position - start : begin - start])
            position = max(position, stop)
            left, right = min(left, begin), max(right, stop)
            high += 1
        if position < end:
            self._store(position, data[position - start :])
        elif high == low + 1 and ranges[low] == [left, right]:
            self._repeated(data)
        ranges[low:high] = [[left, right]]
        self._changed(start, right)

    def _store(self, position: int, data: bytes) -> None:
        self.early[position] = data
        self.early_bytes += len(data)

    def _changed(self, before: int, right: int) -> None:
        recent = self.recent
        if recent and (recent[-1] == before or len(recent) >= RECENT_LIMIT):
            recent[-1] = right
        else:
            recent.append(right)

    def _join(self) -> None:
        """Many small segments wait: keep their bytes, give up their boundaries."""
        joined = b"".join(self.received)
        self.received.clear()
        self.received.append(joined)

    # -- acknowledging -------------------------------------------------------------------------

    def blocks(self, count: int) -> list[tuple[int, int]]:
        """@return: at most C{count} ranges, as on the wire, lowest first (the classic order)."""
        return [(left & MASK, right & MASK) for left, right in self.ranges[:count]]

    def news_first(self, count: int) -> list[tuple[int, int]]:
        """@return: at most C{count} ranges, as on the wire, those that changed last first."""
        ranges = self.ranges
        if len(ranges) <= count:
            return [(left & MASK, right & MASK) for left, right in ranges]
        chosen: dict[int, None] = {}
        for right in reversed(self.recent):
            index = bisect_left(ranges, right, key=_right)
            if index < len(ranges):
                chosen[index] = None
        for index in range(len(ranges) - 1, -1, -1):
            if len(chosen) >= count:
                break
            chosen[index] = None
        picked = list(chosen)[:count]
        return [(ranges[i][0] & MASK, ranges[i][1] & MASK) for i in picked]

    def acknowledged(self) -> None:
        """The peer has just been told everything there is to tell."""
        self.pending = self.stray = self.filled = 0
        self.ack_now = False
        if self.recent:
            self.recent.clear()

    @property
    def total(self) -> int:
        """@return: bytes received, repetitions and what waits behind holes included."""
        return self.next - self.start + self.early_bytes + self.repeated_bytes

    @property
    def finished(self) -> bool:
        """@return: whether everything before the peer's end has arrived."""
        return self.fin is not None and self.next >= self.fin


def _left(item: list[int]) -> int:
    return item[0]


def _right(item: list[int]) -> int:
    return item[1]
