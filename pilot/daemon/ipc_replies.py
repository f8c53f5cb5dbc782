"""Answers in the order of their requests, whatever order the work is finished in.

Clients of the control socket match an answer to their oldest waiting request; there are no request
ids (protocol notes, I{What clients assume}).  So every request takes a place in line, and an
answer that is ready early waits for those in front of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class Place:
    """One request's place in line."""

    __slots__ = ("_at_head", "_frame", "_released")

    def __init__(self, at_head: Callable[[], None] | None) -> None:
        self._frame: bytes | None = None
        self._released: Callable[[], None] | None = None
        self._at_head = at_head


class ReplyLine:
    """The requests of one client that wait for their answers."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        """@param write: puts one whole frame on the client's socket."""
        self._write = write
        self._line: deque[Place] = deque()
        self._advancing = False

    def __len__(self) -> int:
        return len(self._line)

    def join(self) -> Place:
        """@return: a place behind all requests that wait now."""
        place = Place(None)
        self._line.append(place)
        return place

    def join_for_later(self, work: Callable[[Place], None]) -> None:
        """
        Take a place whose work begins when everything in front of it has been answered.

        For answers from memory: they tell the effects of the requests before them.
        """
        place = Place(lambda: work(place))
        self._line.append(place)
        self._advance()

    def answer(
        self, place: Place, frame: bytes, released: Callable[[], None] | None = None
    ) -> None:
        """
        Give the answer for a place; it is written as soon as those in front of it are.

        @param released: called right after the answer was written, for what may only follow it.
        """
        place._frame = frame
        place._released = released
        self._advance()

    def push(self, frame: bytes) -> None:
        """Write a frame that answers nothing, behind the answers to all requests so far."""
        self.answer(self.join(), frame)

    def _advance(self) -> None:
        # What a release sets off may answer the next place: the loop takes that up by itself.
        if self._advancing:
            return
        self._advancing = True
        line = self._line
        try:
            while line:
                place = line[0]
                if place._at_head is not None:
                    work, place._at_head = place._at_head, None
                    work()
                if place._frame is None:
                    return
                line.popleft()
                self._write(place._frame)
                if place._released is not None:
                    place._released()
        finally:
            self._advancing = False
