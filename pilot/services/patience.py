"""How long a peer may keep a connection without doing its part.  No clock: the time comes in."""

from __future__ import annotations

from enum import Enum, auto


class Waiting(Enum):
    """Who has to do the next thing on a connection."""

    IDLE = auto()
    """Nobody: the peer may begin a frame."""
    FRAME = auto()
    """The peer has begun a frame and has to go on."""
    ANSWERS = auto()
    """The peer has to take what was sent to it."""
    DISK = auto()
    """We have to, which may take as long as it takes."""


class Patience:
    """
    The deadline of one connection.

    @param now: seconds on the caller's clock, here and everywhere.
    @param patience: seconds without any progress in a frame, or in taking answers or a goodbye.
    @param slowest: bytes a second that frames have to come with on average, after C{patience}.
    @param idle: seconds between two frames.
    @ivar waiting: for whom.
    """

    __slots__ = ("_began", "_got", "_idle", "_patience", "_since", "_slowest", "waiting")

    def __init__(self, now: float, *, patience: float, slowest: float, idle: float) -> None:
        self._patience, self._slowest, self._idle = patience, slowest, idle
        self.waiting = Waiting.IDLE
        self._since = now  # of the last progress, or of the last change of who has to do something
        self._began = now  # of frames that came without a pause, less the time they waited for us
        self._got = 0  # bytes since then

    def progress(self, size: int, now: float) -> None:
        """The peer has sent C{size} bytes."""
        self._since = now
        self._got += size

    def wait_for(self, waiting: Waiting, now: float) -> None:
        """Say who has to do the next thing."""
        if waiting is self.waiting:
            return
        if self.waiting is Waiting.IDLE:
            self._began, self._got = self._since, 0
        elif self.waiting is not Waiting.FRAME:
            self._began += now - self._since
        self.waiting = waiting
        self._since = now

    def deadline(self) -> float | None:
        """@return: when it has taken too long; C{None} if it cannot."""
        if self.waiting is Waiting.DISK:
            return None
        if self.waiting is Waiting.IDLE:
            return self._since + self._idle
        if self.waiting is Waiting.ANSWERS:
            return self._since + self._patience
        whole = self._began + self._patience + self._got / self._slowest
        return min(self._since + self._patience, whole)
