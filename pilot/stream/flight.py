"""What is under way: the segments sent and not acknowledged yet, and which of them are lost.

Segments lie in parallel lists, ordered by position and without gaps, so that the common case (an
acknowledgement covers a run of them) is a bisection and a few slice deletions, whatever the
length of the run.  A segment keeps its boundaries for ever: it is repeated exactly as it was cut.

Losses are found the way of RACK (RFC 8985): what was sent before something that has arrived is
lost, at once while the path keeps the order, a little later on a path that was seen to change it.
"""

from __future__ import annotations

from bisect import bisect_left

IN_FLIGHT, ARRIVED, LOST = 0, 1, 2

#: Selectively acknowledged segments that prove a hole to be a loss (RFC 8985, DupThresh).
PROOF = 3
#: How far the reordering window may be widened by retransmissions that proved needless.
MAX_REORDER_FACTOR = 16
#: Rounding of a time that was computed by adding a difference of times, seconds.
CLOCK_ERROR = 1e-9
#: Rounding of a time that travelled as a timestamp, seconds.
ECHO_ERROR = 2e-6


class Flight:
    """
    The outstanding segments of one connection.  Positions are unwrapped.

    @ivar start: C{next} less the bytes of the program that were sent.
    @ivar first: everything before it is acknowledged.
    @ivar next: position of the next new byte.
    @ivar starts: position of each segment.
    @ivar payloads: payload of each segment as first sent; None stands for a FIN.
    @ivar sent: time of the last transmission of each.
    @ivar marks: C{IN_FLIGHT}, C{ARRIVED} (selectively acknowledged) or C{LOST}.
    @ivar tries: transmissions of each.
    @ivar overhead: bytes of each payload that are not data.
    @ivar pipe: bytes believed to be in the network.
    @ivar arrived: segments marked so.
    @ivar lost: segments marked so, which wait for their repetition.
    @ivar repeated: outstanding segments that were sent more than once.
    @ivar delivered: bytes known to have arrived since the beginning.
    @ivar sample: round trip that the last acknowledgement showed, seconds, or None.
    @ivar spurious: repetitions that proved needless.
    @ivar reorder_due: when the next segment becomes lost unless it arrives, or None.
    """

    __slots__ = (
        "_highest",
        "_newest_end",
        "_newest_rtt",
        "_newest_sent",
        "_reordering",
        "arrived",
        "delivered",
        "first",
        "lost",
        "marks",
        "next",
        "overhead",
        "payloads",
        "pipe",
        "reorder_due",
        "reorder_factor",
        "repeated",
        "sample",
        "sent",
        "spurious",
        "start",
        "starts",
        "tries",
    )

    def __init__(self, first: int) -> None:
        self.start = self.first = self.next = first
        self.starts: list[int] = []
        self.payloads: list[bytes | None] = []
        self.sent: list[float] = []
        self.marks = bytearray()
        self.tries = bytearray()
        self.overhead = 0
        self.pipe = 0
        self.arrived = self.lost = self.repeated = 0
        self.delivered = 0
        self.sample: float | None = None
        self.spurious = 0
        self.reorder_due: float | None = None
        self.reorder_factor = 1
        self._reordering = False
        self._newest_sent = float("-inf")
        self._newest_end = self._highest = first
        self._newest_rtt = 0.0

    # -- sending -------------------------------------------------------------------------------

    def add(self, payloads: list[bytes], starts: list[int], end: int, now: float) -> None:
        """New segments have left, the last one ends before C{end}."""
        self.pipe += end - self.next
        self.next = end
        self.starts += starts
        self.payloads += payloads
        count = len(payloads)
        self.sent += [now] * count
        self.marks += bytes(count)
        self.tries += b"\x01" * count

    def add_fin(self, now: float) -> None:
        """A FIN has left; it takes one number."""
        self.starts.append(self.next)
        self.payloads.append(None)
        self.sent.append(now)
        self.marks.append(IN_FLIGHT)
        self.tries.append(1)
        self.next += 1
        self.start += 1  # it is no byte of the program
        self.pipe += 1

    def repeat(self, index: int, now: float) -> None:
        """The segment at C{index} leaves once more."""
        if self.marks[index] == LOST:
            self.marks[index] = IN_FLIGHT
            self.lost -= 1
            self.pipe += self._size(index)
        tries = self.tries[index]
        if tries == 1:
            self.repeated += 1
        if tries < 255:
            self.tries[index] = tries + 1
        self.sent[index] = now

    def lose_all(self) -> None:
        """Nothing came back for a timeout: whatever has not arrived is taken for lost."""
        for index, mark in enumerate(self.marks):
            if mark == IN_FLIGHT:
                self.marks[index] = LOST
                self.lost += 1
        self.pipe = 0
        self.reorder_due = None

    # -- acknowledgements ----------------------------------------------------------------------

    def acknowledge(self, position: int, now: float, echo: float | None, smallest: float) -> int:
        """
        Everything before C{position} has arrived.

        @param position: between C{first} and C{next}.
        @param echo: when the segment that made the peer answer was sent, if it says so.
        @param smallest: least round trip known, seconds.
        @return: how many segments that settles.
        """
        starts = self.starts
        count = bisect_left(starts, position)
        end = starts[count] if count < len(starts) else self.next
        if end > position:
            count -= 1  # a segment covered in part stays whole
        self.first = position
        if count <= 0:
            return 0
        if not (self.arrived or self.lost or self.repeated):
            end = starts[count] if count < len(starts) else self.next
            size = end - starts[0]
            self.pipe -= size
            self.delivered += size
            sent = self.sent[count - 1]
            if sent >= self._newest_sent:
                self._newest_sent, self._newest_end = sent, end
                self._newest_rtt = now - sent
            if end > self._highest:
                self._highest = end
            self.sample = now - sent
        else:
            for index in range(count):
                if self.tries[index] > 1:
                    self.repeated -= 1
                if self.marks[index] == ARRIVED:
                    self.arrived -= 1
                else:
                    self._arrives(index, now, echo, smallest)
        del starts[:count]
        del self.payloads[:count]
        del self.sent[:count]
        del self.marks[:count]
        del self.tries[:count]
        return count

    def mark(self, left: int, right: int, now: float, echo: float | None, smallest: float) -> None:
        """The peer holds the bytes from C{left} to before C{right}, beyond a hole."""
        starts, marks = self.starts, self.marks
        begin = bisect_left(starts, left)
        stop = bisect_left(starts, right)
        if stop and (starts[stop] if stop < len(starts) else self.next) > right:
            stop -= 1
        if stop <= begin or marks.count(ARRIVED, begin, stop) == stop - begin:
            return
        for index in range(begin, stop):
            if marks[index] != ARRIVED:
                self._arrives(index, now, echo, smallest)
                marks[index] = ARRIVED
                self.arrived += 1

    def _size(self, index: int) -> int:
        starts = self.starts
        following = index + 1
        return (starts[following] if following < len(starts) else self.next) - starts[index]

    def _arrives(self, index: int, now: float, echo: float | None, smallest: float) -> None:
        size = self._size(index)
        end = self.starts[index] + size
        sent = self.sent[index]
        self.delivered += size
        if self.marks[index] == LOST:
            self.lost -= 1
            if self.tries[index] == 1:
                self._reordering = True  # it was late, not lost
        else:
            self.pipe -= size
        if self.tries[index] == 1:
            self.sample = now - sent
            if end > self._highest:
                self._highest = end
            elif self.marks[index] == IN_FLIGHT:
                self._reordering = True
        elif echo is not None:
            if echo < sent - ECHO_ERROR:
                # What arrived was sent before the repetition, which therefore was needless.
                self.spurious += 1
                self._reordering = True
                return
        elif now - sent < smallest:
            return  # too early to be an answer to the repetition
        if sent > self._newest_sent or (sent == self._newest_sent and end > self._newest_end):
            self._newest_sent, self._newest_end = sent, end
            self._newest_rtt = now - sent
        if end > self._highest:
            self._highest = end

    # -- losses --------------------------------------------------------------------------------

    @property
    def suspicious(self) -> bool:
        """@return: whether L{find_losses} could find anything."""
        return bool(
            self.starts and (self.arrived or self.repeated or self.sent[0] < self._newest_sent)
        )

    def find_losses(self, now: float, smallest: float, srtt: float, recovering: bool) -> int:
        """
        Mark what must be lost, given what has arrived.

        @return: bytes newly marked.  C{reorder_due} tells when to look again.
        """
        if self._reordering or not (recovering or self.arrived >= PROOF):
            patience = min(smallest / 4 * self.reorder_factor, srtt)
        else:
            patience = 0.0
        found = 0
        due: float | None = None
        marks, sent, starts, tries = self.marks, self.sent, self.starts, self.tries
        newest, newest_end, rtt = self._newest_sent, self._newest_end, self._newest_rtt
        index = marks.find(IN_FLIGHT)
        while index >= 0:
            when = sent[index]
            if when < newest or (when == newest and starts[index] < newest_end):
                left = when + rtt + patience
                if left <= now + CLOCK_ERROR:
                    marks[index] = LOST
                    self.lost += 1
                    size = self._size(index)
                    self.pipe -= size
                    found += size
                elif due is None or left < due:
                    due = left
            elif tries[index] == 1:
                break  # and whatever follows was sent later still
            index = marks.find(IN_FLIGHT, index + 1)
        self.reorder_due = due
        return found
