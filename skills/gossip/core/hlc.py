"""Hybrid logical clock: close to the wall clock, never back, corrected by the swarm.

A stamp is 64 bits as 16 hex digits, so that it sorts as text: 48 bits of milliseconds since 1970
and a 16-bit counter.  The physical part follows B{corrected time}: this node's wall clock plus the
median of how far its peers' clocks are off, so that one node with a wrong clock is put right
instead of winning, or losing, every write.

After a restart stamps continue above every one given before, even if the wall clock went back: an
upper bound ahead of the stamps is kept on disk, and the clock starts above it.

@see: the page I{Gossip}, I{Time}.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from skills.gossip.core.errors import BadMessage

MAX_AHEAD = 60.0  # seconds; what is further ahead of corrected time is refused
RESERVE = 10.0  # seconds the durable upper bound lies ahead of the stamps
MIN_SAMPLES = 3  # distinct peers whose clocks are known before ours is corrected
MAX_SAMPLES = 64  # peers remembered; the one heard longest ago makes room
SAMPLE_LIFE = 3600.0  # seconds
SETTLING = 120.0  # seconds from the first correction in which better ones are applied at once
MAX_SLEW = 60.0 / 3600.0  # seconds of correction per second
MAX_STEP = 60.0  # seconds of correction at once, after any length of silence
JUMP = 2.0  # seconds by which wall and monotonic clock part: somebody has set the wall clock

_COUNTER_BITS = 16
_TOP = (1 << 64) - 1
_TEXT = re.compile(r"[0-9a-f]{16}")


class HybridClock:
    """
    The clock of one replica.

    @ivar wall: this node's own wall clock, seconds since 1970, uncorrected.
    @ivar offset: seconds by which corrected time is ahead of it.
    @ivar reserved: stamps up to this one may be given; what must be on disk (hex text).
    """

    __slots__ = (
        "_elapsed",
        "_free_until",
        "_last",
        "_news",
        "_reserved",
        "_samples",
        "_settled",
        "_slewed",
        "offset",
        "wall",
    )

    def __init__(self, wall: Callable[[], float], *, floor: str = "") -> None:
        """
        @param wall: seconds since 1970, may jump.
        @param floor: the last C{reserved} that was stored, or the largest stamp of a register
            that was, whichever is larger; C{""} at the very first start.
        @raise BadMessage: the floor is no stamp.
        """
        self.wall = wall
        self.offset = 0.0
        self._last = self._reserved = parse_hlc(floor) if floor else 0
        self._news = False
        self._samples: dict[int, tuple[float, float]] = {}  # peer -> (offset, when)
        self._settled = False
        self._free_until = 0.0
        self._slewed = 0.0
        self._elapsed: float | None = None  # wall minus monotonic, at the last sample

    def corrected(self) -> float:
        """@return: corrected time, seconds since 1970."""
        return self.wall() + self.offset

    def reading(self) -> str:
        """@return: corrected time in the form of a stamp.  It is no stamp: it can come twice."""
        return hlc_at(self.corrected())

    def stamp(self) -> str:
        """
        @return: a stamp larger than every one given or observed before.  Ask L{take_reserve}
            after it, and before the stamp leaves this node.
        """
        self._last = min(max(self._last + 1, _bits(self.corrected())), _TOP)
        # Renewed at half its length, so that a bound on its way to the disk holds nobody up.
        if self._last + _span(RESERVE / 2) > self._reserved:
            self._reserved = min(self._last + _span(RESERVE), _TOP)
            self._news = True
        return format_hlc(self._last)

    @property
    def reserved(self) -> str:
        """Upper bound of the stamps that may be given."""
        return format_hlc(self._reserved)

    def take_reserve(self) -> str | None:
        """@return: the bound to store now, once each time it has grown."""
        if not self._news:
            return None
        self._news = False
        return self.reserved

    def is_future(self, hlc: str) -> bool:
        """@return: whether a stamp lies more than 60 s ahead of corrected time."""
        return parse_hlc(hlc) >> _COUNTER_BITS > (self.corrected() + MAX_AHEAD) * 1000.0

    def observe(self, hlc: str) -> bool:
        """
        Take note of another's stamp: ours will be larger.

        @return: C{False}, and nothing else happens, if it lies too far ahead to be believed.
        """
        if self.is_future(hlc):
            return False
        self._last = max(self._last, parse_hlc(hlc))
        return True

    def add_sample(self, peer: int, offset: float, now: float) -> None:
        """
        A peer's clock was seen, and by how much it is ahead of ours.

        @param offset: its corrected time minus our C{wall()}, seconds (see L{sample_offset}).
        @param now: seconds, monotonic.
        """
        self._notice_jump(now)
        samples = self._samples
        samples.pop(peer, None)
        samples[peer] = (offset, now)
        if len(samples) > MAX_SAMPLES:
            del samples[next(iter(samples))]
        while samples:
            oldest = next(iter(samples))
            if now - samples[oldest][1] <= SAMPLE_LIFE:
                break
            del samples[oldest]
        if len(samples) < MIN_SAMPLES:
            return
        offsets = sorted(each for each, _when in samples.values())
        # With an even number the two in the middle are equally good: stay, or go to the nearer.
        low, high = offsets[(len(offsets) - 1) // 2], offsets[len(offsets) // 2]
        target = min(max(self.offset, low), high)
        if not self._settled:
            self._settled = True
            self._free_until = now + SETTLING
        if now < self._free_until:
            # The first three may all be wrong, or not put right yet themselves: more decide better.
            self.offset = target
        else:
            limit = min((now - self._slewed) * MAX_SLEW, MAX_STEP)
            self.offset += min(max(target - self.offset, -limit), limit)
        self._slewed = now

    @property
    def settled(self) -> bool:
        """Whether enough peers' clocks were seen to correct ours."""
        return self._settled

    def _notice_jump(self, now: float) -> None:
        """
        Forget what was measured against a wall clock that has been set since, or slept.

        Which of the two happened cannot be told here, so the peers decide: the next set of samples
        is applied at once, like the first.
        """
        apart = self.wall() - now
        if self._elapsed is not None and abs(apart - self._elapsed) > JUMP:
            self._samples.clear()
            self._settled = False
        self._elapsed = apart


def sample_offset(sent: float, received: float, reading: str) -> float:
    """
    How far a peer's clock is ahead, from one question and its answer.

    @param sent: our C{wall()} when the question left.
    @param received: our C{wall()} when the answer came.
    @param reading: the peer's corrected time, as in its answer.
    @return: seconds; off by half the difference of the two ways' durations.
    """
    return hlc_time(reading) - (sent + received) / 2.0


def parse_hlc(hlc: str) -> int:
    """
    @return: a stamp as a number.

    @raise BadMessage: it is not 16 lower-case hex digits.
    """
    if _TEXT.fullmatch(hlc) is None:
        raise BadMessage("a time is not 16 hex digits")
    return int(hlc, 16)


def format_hlc(number: int) -> str:
    """@return: the text of a stamp."""
    return f"{number:016x}"


def hlc_at(when: float) -> str:
    """@return: the smallest stamp of a time in seconds since 1970."""
    return format_hlc(_bits(when))


def hlc_time(hlc: str) -> float:
    """@return: the physical part of a stamp, seconds since 1970."""
    return (parse_hlc(hlc) >> _COUNTER_BITS) / 1000.0


def _bits(when: float) -> int:
    return min(max(0, int(when * 1000.0)) << _COUNTER_BITS, _TOP)


def _span(seconds: float) -> int:
    return int(seconds * 1000.0) << _COUNTER_BITS
