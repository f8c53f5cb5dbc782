"""Telling of transitions without ever telling too much.

Of one agent at most one event every two seconds, the last wins, and one a minute while it flaps.
More than fifty transitions within a second become a single C{presence.bulk}.  So whoever is
connected gets below fifty events a second, which is half of what brokers are known to carry.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Any, Final, NamedTuple

from skills.presence.core.effects import Change

PAUSE: Final = 2.0
"""Least seconds between two events of one agent."""
FLAP_PAUSE: Final = 60.0
"""The same while it flaps."""
BURST: Final = 50
"""Transitions in L{WINDOW} beyond which they are told together; also events told in it at most."""
WINDOW: Final = 1.0
HOLD: Final = 0.25
"""Seconds an event waits: a mass change shows itself before its first events are told singly."""
BULK_MOST: Final = 5.0
"""Seconds a mass change is collected at most."""
BULK_AGENTS: Final = 100
"""Agents named in a C{presence.bulk}."""
REMEMBERED: Final = 20_000
"""Agents whose last event is remembered."""


class Transition(NamedTuple):
    """A change of status of one agent, on its way to be told."""

    node: int
    hostname: str
    before: str
    after: str
    cause: str
    evidence: dict[str, Any]


class Reporter:
    """
    Transitions in, events out.

    @ivar dropped: by name, events that were not told because there were too many.
    @ivar merged: transitions that a later one of the same agent replaced.
    """

    def __init__(self) -> None:
        self._pending: dict[int, tuple[float, Transition]] = {}
        self._last: dict[int, float] = {}
        self._recent: deque[float] = deque(maxlen=BURST + 1)
        self._told: deque[float] = deque(maxlen=BURST)
        self._bulk_since: float | None = None
        self._bulk_until = 0.0
        self._due = float("inf")
        self.dropped: Counter[str] = Counter()
        self.merged = 0

    def transition(self, now: float, news: Transition, flapping: bool) -> None:
        """The status of an agent changed."""
        self._recent.append(now)
        if len(self._recent) > BURST and now - self._recent[0] <= WINDOW:
            if self._bulk_since is None:
                self._bulk_since = now
            self._bulk_until = now + WINDOW
        waiting = self._pending.get(news.node)
        if waiting is not None:
            self.merged += 1
            self._pending[news.node] = waiting[0], news._replace(before=waiting[1].before)
            return
        last = self._last.get(news.node, float("-inf"))
        due = max(now + HOLD, last + (FLAP_PAUSE if flapping else PAUSE))
        self._pending[news.node] = due, news
        self._due = min(self._due, due)

    def admits(self, now: float, name: str) -> bool:
        """@return: whether an event of another kind may be told now; it is counted if not."""
        if self._room(now):
            self._told.append(now)
            return True
        self.dropped[name] += 1
        return False

    def deadline(self) -> float | None:
        """@return: when L{flush} has something to tell."""
        if not self._pending:
            return None
        if self._bulk_since is not None:
            return min(self._bulk_until, self._bulk_since + BULK_MOST)
        if len(self._told) == BURST:
            return max(self._due, self._told[0] + WINDOW)
        return self._due

    def flush(self, now: float, version: int) -> list[Change]:
        """
        @param version: of the directory.
        @return: what is to be told now.
        """
        if self._bulk_since is not None:
            if now < min(self._bulk_until, self._bulk_since + BULK_MOST):
                return []
            self._bulk_since = None
            return self._bulk(now, version)
        if now < self._due:
            return []
        told = []
        for node, (due, news) in list(self._pending.items()):
            if due > now:
                continue
            if news.before == news.after:
                del self._pending[node]
            elif self._room(now):
                del self._pending[node]
                self._told.append(now)
                self._note(now, node)
                told.append(_changed(news, version))
        self._due = min((due for due, _ in self._pending.values()), default=float("inf"))
        return told

    def _room(self, now: float) -> bool:
        return len(self._told) < BURST or now - self._told[0] >= WINDOW

    def _bulk(self, now: float, version: int) -> list[Change]:
        moved = [news for _, news in self._pending.values() if news.before != news.after]
        self._pending.clear()
        self._due = float("inf")
        for news in moved:
            self._note(now, news.node)
        if len(moved) == 1:
            return [_changed(moved[0], version)]
        if not moved:
            return []
        return [
            Change(
                "presence.bulk",
                {
                    "count": len(moved),
                    "to": dict(Counter(news.after for news in moved)),
                    "agents": [
                        [news.hostname, news.node, news.before, news.after]
                        for news in moved[:BULK_AGENTS]
                    ],
                    "version": version,
                },
            )
        ]

    def _note(self, now: float, node: int) -> None:
        self._last.pop(node, None)  # so that the oldest stands first
        self._last[node] = now
        while self._last:
            oldest = next(iter(self._last))
            if len(self._last) <= REMEMBERED and now - self._last[oldest] < FLAP_PAUSE:
                break
            del self._last[oldest]


def _changed(news: Transition, version: int) -> Change:
    return Change(
        "presence.changed",
        {
            "node": news.node,
            "hostname": news.hostname,
            "from": news.before,
            "to": news.after,
            "cause": news.cause,
            "evidence": news.evidence,
            "version": version,
        },
    )
