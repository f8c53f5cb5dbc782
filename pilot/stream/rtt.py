"""Round-trip times and the retransmission timeout that follows from them.

Whole nanoseconds and truncating divisions, so that the figures agree with the reference's to the
last digit (protocol notes, I{RTO}; golden vectors C{stream_rules.json}).
"""

from __future__ import annotations

NANO = 1_000_000_000
INITIAL_RTO = NANO  # before the first sample
MIN_RTO = NANO // 5
MAX_RTO = 10 * NANO
GRANULARITY = NANO // 100  # floor of four variations

#: Seconds for which the smallest round trip is believed; a path may become longer.
MIN_RTT_LIFE = 30.0


class RttEstimator:
    """
    Smoothed round-trip time of one connection.

    @ivar srtt_ns: smoothed round trip, nanoseconds; 0 before the first sample.
    @ivar rttvar_ns: its mean deviation, nanoseconds.
    @ivar rto_ns: timeout without backoff, nanoseconds.
    @ivar srtt: C{srtt_ns} in seconds.
    @ivar rttvar: C{rttvar_ns} in seconds.
    @ivar rto: C{rto_ns} in seconds.
    @ivar smallest: least round trip of the last half minute or so, seconds; infinite at first.
    @ivar latest: the last sample, seconds.
    """

    __slots__ = (
        "_candidate",
        "_smallest_since",
        "latest",
        "rto",
        "rto_ns",
        "rttvar",
        "rttvar_ns",
        "smallest",
        "srtt",
        "srtt_ns",
    )

    def __init__(self) -> None:
        self.srtt_ns = 0
        self.rttvar_ns = 0
        self.rto_ns = INITIAL_RTO
        self.srtt = self.rttvar = self.latest = 0.0
        self.rto = INITIAL_RTO / NANO
        self.smallest = self._candidate = float("inf")
        self._smallest_since = 0.0

    def sample_ns(self, sample: int) -> None:
        """Take one round trip, in nanoseconds."""
        srtt = self.srtt_ns
        if srtt:
            variation = self.rttvar_ns * 3 // 4 + abs(srtt - sample) // 4
            srtt = srtt * 7 // 8 + sample // 8
        else:
            srtt, variation = max(sample, 1), sample // 2
        self.srtt_ns = srtt
        self.rttvar_ns = variation
        self.rto_ns = min(max(srtt + max(GRANULARITY, 4 * variation), MIN_RTO), MAX_RTO)

    def sample(self, seconds: float, now: float) -> None:
        """Take one round trip that ended C{now}."""
        if seconds < 0.0:
            return
        self.sample_ns(int(seconds * NANO))
        self.srtt = self.srtt_ns / NANO
        self.rttvar = self.rttvar_ns / NANO
        self.rto = self.rto_ns / NANO
        self.latest = seconds
        if seconds < self._candidate:
            self._candidate = seconds
        if seconds <= self.smallest:
            self.smallest = seconds
        elif now - self._smallest_since > MIN_RTT_LIFE:
            # The least of the last span takes over from the least of the one before.
            self.smallest, self._candidate = self._candidate, seconds
            self._smallest_since = now
