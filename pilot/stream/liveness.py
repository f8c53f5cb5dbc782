"""Whether the peer is still there: how long it may be silent, and when to ask it.

@see: protocol notes, I{Keepalive and idle close}, I{The modern dialect}.
"""

from __future__ import annotations

from enum import Enum

from pilot.stream.config import StreamConfig
from pilot.stream.sending import Sender


class Concern(Enum):
    """What the silence calls for."""

    NONE = "none"
    ASK = "ask"
    IDLE = "idle"
    STUCK = "stuck"


class Liveness:
    """
    What one connection knows of its peer's life.

    @ivar heard: when the peer was last heard.
    @ivar spoken: when we last sent anything.
    @ivar asked: when we last asked because of the silence.
    """

    __slots__ = ("_classic", "_config", "_tx", "asked", "heard", "spoken")

    def __init__(self, config: StreamConfig, tx: Sender, now: float) -> None:
        self._config = config
        self._tx = tx
        self._classic = False
        self.heard = self.spoken = self.asked = now

    def speaks_classic(self) -> None:
        """
        The peer may be a reference node.  It ends a stream on which I{it} has heard nothing, so
        what counts towards the next keepalive is our own silence.
        """
        self._classic = True

    def due(self) -> float:
        """@return: when the silence needs attention."""
        config = self._config
        keepalive = min(config.keepalive, config.idle_timeout / 2)
        again = self.asked + (config.idle_timeout - keepalive) / 4
        if self._classic:
            question = self.spoken + keepalive
            if self.asked > self.heard:
                question = min(question, again)
        else:
            question = self.heard + keepalive
            if self.asked >= self.heard:
                question = max(question, again)
        return min(self._end(), question)

    def _end(self) -> float:
        since = max(self.heard, self._tx.progress_at) if self._classic else self.heard
        return since + self._config.idle_timeout

    def concern(self, now: float) -> Concern:
        """@return: what to do about the silence at C{now}."""
        config, tx = self._config, self._tx
        if tx.flight.starts:
            stuck, silent = now - tx.progress_at, now - self.heard
            # With its window closed a peer may let nothing through for as long as it likes.
            blocked = stuck >= config.progress_limit and tx.max_segments > 1
            if blocked or min(stuck, silent) >= config.silence_limit:
                return Concern.STUCK
        if self._end() <= now:
            return Concern.IDLE
        return Concern.ASK if self.due() <= now else Concern.NONE
