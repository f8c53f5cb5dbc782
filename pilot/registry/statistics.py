"""What the registry counts, for its dashboard and its metrics.

@see: protocol notes of the registry, I{HTTP} and I{Prometheus metric names}.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from typing import NamedTuple

#: Upper bounds of the buckets of request durations, seconds; one more catches the rest.
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)

_HOUR = 3600.0
_DAY = 86_400.0


class Sample(NamedTuple):
    """The size of the registry at one time."""

    ts: int
    total_nodes: int
    online_nodes: int
    trust_links: int
    total_requests: int


class Durations:
    """
    A histogram.

    @ivar counts: per bucket, the last one without bound.
    @ivar total: seconds.
    """

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """Count one request."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds


class Statistics:
    """
    Counters since the start.

    @ivar started: Unix seconds.
    @ivar requests: by request type; types that do not exist count as one, C{unknown}.
    @ivar errors: likewise.
    @ivar durations: likewise.
    @ivar events: what happened (registrations, trust reports...), by the name of its metric.
    @ivar by_network: requests in the name of a member, by network.
    @ivar overheard: signed requests refused because the node is active elsewhere.
    @ivar moves_refused: unsigned registrations refused for the same reason.
    @ivar hourly: samples, the oldest first.
    @ivar daily: likewise.
    """

    __slots__ = (
        "by_network",
        "daily",
        "durations",
        "errors",
        "events",
        "hourly",
        "moves_refused",
        "overheard",
        "requests",
        "started",
    )

    def __init__(self, now: float) -> None:
        self.started = now
        self.requests: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.durations: dict[str, Durations] = {}
        self.events: Counter[str] = Counter()
        self.by_network: Counter[int] = Counter()
        self.overheard = 0
        self.moves_refused = 0
        self.hourly: deque[Sample] = deque(maxlen=24)
        self.daily: deque[Sample] = deque(maxlen=7)

    def sample(self, now: float, total: int, online: int, links: int) -> None:
        """Take the samples that are due."""
        for samples, period in ((self.hourly, _HOUR), (self.daily, _DAY)):
            if not samples or now - samples[-1].ts >= period:
                samples.append(Sample(int(now), total, online, links, self.requests.total()))

    def answered(self, kind: str, seconds: float, failed: bool) -> None:
        """A request of a known type, or C{unknown}, has its answer."""
        self.requests[kind] += 1
        if failed:
            self.errors[kind] += 1
        durations = self.durations.get(kind)
        if durations is None:
            durations = self.durations[kind] = Durations()
        durations.add(seconds)
