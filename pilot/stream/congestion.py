"""How much may be under way: slow start, CUBIC, and a second look at what a loss means.

CUBIC takes every loss for congestion.  On a path that loses packets for other reasons it starves,
so a loss is judged first: it counts as congestion when round trips have grown with it (a queue
has built up) or when a good part of a whole window was lost (no queue, but a policer or a small
buffer).  Stray losses are repaired without slowing down.

@see: RFC 9438 (CUBIC), RFC 9406 (leaving slow start when the delay grows).
"""

from __future__ import annotations

BETA = 0.7  # what a congestion event leaves of the window
SCALE = 0.4  # CUBIC's C, segments per second cubed
RENO_GAIN = 3 * (1 - BETA) / (1 + BETA)

#: A queue is seen when the least round trip of a window exceeds the least ever by this factor...
QUEUE_FACTOR = 1.25
#: ...and by this much, seconds.
QUEUE_FLOOR = 0.0002
#: Part of a window that may be lost before it counts as congestion without a queue.
STRAY_LOSS = 0.15
#: Losses in a window, in segments, below which that part means nothing.
STRAY_COUNT = 6

#: Slow start ends when the least round trip of a window grew by an eighth, within these, seconds.
DELAY_STEP_MIN = 0.004
DELAY_STEP_MAX = 0.016
#: Round trips in a window, before its least one is believed.
ROUND_SAMPLES = 8


class Congestion:
    """
    The congestion window of one connection, in bytes.

    @ivar window: bytes that may be under way.
    @ivar threshold: slow start ends here.
    @ivar limit: the window never exceeds it.
    @ivar segment: bytes in a full segment.
    """

    __slots__ = (
        "_epoch",
        "_estimate",
        "_k",
        "_last_round_rtt",
        "_peak",
        "_prior",
        "_round_delivered",
        "_round_lost",
        "_round_rtt",
        "_round_samples",
        "_touched",
        "initial",
        "limit",
        "segment",
        "threshold",
        "window",
    )

    def __init__(self, initial: int, limit: int, segment: int) -> None:
        self.limit = limit
        self.initial = initial
        self.threshold = limit
        self.window = self.segment = 0
        self._touched = False
        self.resize(segment)
        self._peak = 0.0
        self._k = 0.0
        self._epoch: float | None = None
        self._estimate = 0.0
        self._prior: tuple[int, int, float] | None = None
        self._round_rtt = self._last_round_rtt = float("inf")
        self._round_samples = 0
        self._round_lost = self._round_delivered = 0

    def resize(self, segment: int) -> None:
        """Full segments now have C{segment} bytes."""
        self.segment = segment
        if not self._touched:
            self.window = max(self.initial, 2 * segment)

    @property
    def floor(self) -> int:
        """@return: the least window, bytes."""
        return 4 * self.segment

    def acked(self, size: int, now: float, srtt: float, limited: bool) -> None:
        """
        C{size} bytes have arrived.

        @param limited: whether the window is what kept us from sending more; a window that nobody
            uses must not grow.
        """
        self._round_delivered += size
        if not limited:
            self._epoch = None
            return
        self._touched = True
        window = self.window
        if window < self.threshold:
            self.window = min(window + size, self.limit)
            return
        segment = self.segment
        if self._epoch is None:
            self._epoch = now
            if window < self._peak:
                self._k = ((self._peak - window) / segment / SCALE) ** (1 / 3)
            else:
                self._k, self._peak = 0.0, float(window)
            self._estimate = float(window)
        elapsed = now - self._epoch + srtt
        target = self._peak + SCALE * (elapsed - self._k) ** 3 * segment
        gain = RENO_GAIN if self._estimate < self._peak else 1.0
        self._estimate += gain * segment * size / window
        if target > self._estimate:
            grown = window + max(0.0, min(target, 1.5 * window) - window) * size / window
        else:
            grown = self._estimate
        self.window = min(max(window, int(grown)), self.limit)

    def sampled(self, rtt: float) -> None:
        """One round trip was measured."""
        self._round_samples += 1
        if rtt < self._round_rtt:
            self._round_rtt = rtt

    def round_ended(self) -> None:
        """Everything that was under way when the round began has been answered for."""
        if (
            self.window < self.threshold
            and self._round_samples >= ROUND_SAMPLES
            and self._last_round_rtt < float("inf")
        ):
            last = self._last_round_rtt
            step = min(max(last / 8, DELAY_STEP_MIN), DELAY_STEP_MAX)
            if self._round_rtt >= last + step:
                self.threshold = self.window
        if self._round_samples:
            self._last_round_rtt = self._round_rtt
        self._round_rtt = float("inf")
        self._round_samples = 0
        self._round_lost = self._round_delivered = 0

    def lost(self, size: int) -> None:
        """C{size} bytes were found lost."""
        self._round_lost += size

    def is_congestion(self, smallest_rtt: float) -> bool:
        """@return: whether the losses of this round mean that the path is full."""
        rtt = self._round_rtt if self._round_samples else self._last_round_rtt
        if rtt == float("inf") or rtt > smallest_rtt * QUEUE_FACTOR + QUEUE_FLOOR:
            return True
        lost = self._round_lost
        return (
            lost > STRAY_COUNT * self.segment and lost > (lost + self._round_delivered) * STRAY_LOSS
        )

    def slow_down(self) -> None:
        """A congestion event, once a window."""
        self._touched = True
        window = self.window
        self._prior = (window, self.threshold, self._peak)
        # A window that did not reach the last peak makes room for a newcomer.
        self._peak = window * (1 + BETA) / 2 if window < self._peak else float(window)
        self.threshold = self.window = max(int(window * BETA), self.floor)
        self._epoch = None

    def timed_out(self, again: bool) -> None:
        """Nothing came back for a whole timeout; C{again} if the one before ended the same way."""
        self._touched = True
        window = self.window
        if not again:
            self._prior = (window, self.threshold, self._peak)
            self.threshold = max(int(window * BETA), self.floor)
            self._peak = float(window)
        self.window = min(window, 2 * self.segment if again else max(self.initial // 2, self.floor))
        self._epoch = None

    def undo(self) -> None:
        """The last event was a mistake: what seemed lost had only been late."""
        if self._prior is not None:
            window, self.threshold, self._peak = self._prior
            self.window = max(self.window, window)
            self._prior = None
            self._epoch = None

    def rested(self) -> None:
        """Nothing was under way for longer than a timeout: what is known of the path is stale."""
        start = max(self.initial, 2 * self.segment)
        if self.window > start:
            self.threshold = max(self.threshold, self.window * 3 // 4)
            self.window = max(start, self.window // 2)
        self._epoch = None
