"""How questions about agents are answered: what is shown of an entry, and how sure we are of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from skills.presence.core.directory import Stranger
from skills.presence.core.entry import Entry
from skills.presence.core.finding import Finder, Query, Result
from skills.presence.core.history import UNKNOWN
from skills.presence.core.lifecycle import STALE
from skills.presence.core.shared import Shared
from skills.presence.core.status import OFFLINE, STATUSES
from skills.presence.core.watching import Watching
from skills.presence.detection.reach import FRESH, GONE, SUSPECT

DIRECT: Final = "direct"
HEARTBEAT: Final = "heartbeat"
GOSSIP: Final = "gossip"
STALE_VIEW: Final = "stale_view"
UNVERIFIED: Final = "unverified"
"""With C{suspect} the kinds of confidence: it answered us, it published to us, others say so, it
is late or accused, we doubt our own view, its name could not be verified."""


class Answers:
    """Reads the directory; changes nothing but soft claims."""

    def __init__(
        self,
        shared: Shared,
        watching: Watching,
        swarm_heard: Callable[[int], float | None],
        swarm_frozen: Callable[[], bool],
    ) -> None:
        """@param swarm_heard: when a member of the swarm was last known to live."""
        self._shared = shared
        self._watching = watching
        self._swarm_heard = swarm_heard
        self._swarm_frozen = swarm_frozen
        self._finder = Finder(shared.directory, shared.rng, self.age)

    # -- how sure ------------------------------------------------------------------------------

    def heard(self, entry: Entry) -> float:
        """@return: when there was last evidence that the agent lives."""
        if entry.swarm:
            return max(entry.heard, self._swarm_heard(entry.node) or entry.heard)
        return entry.heard

    def age(self, now: float, entry: Entry) -> float:
        """@return: seconds since there was last evidence that its claim stands."""
        if entry.own:
            return 0.0
        if entry.via:  # its coordinator tells changes only, and vouches for the rest
            return self._watching.age(now, entry.via)
        if entry.swarm:
            return now - self.heard(entry)
        return now - entry.claimed

    def confidence(self, now: float, entry: Entry) -> str:
        """@return: one of the kinds of confidence."""
        if entry.own:
            return DIRECT
        view = self._shared.view
        if entry.reach == GONE:
            return entry.means
        if entry.reach == STALE or (entry.via and self._watching.is_lost(entry.via)):
            return STALE_VIEW
        if not entry.via and self.heard(entry) < view.doubt_since:
            return STALE_VIEW
        if entry.reach == SUSPECT:
            frozen = self._swarm_frozen() if entry.swarm else view.frozen
            return STALE_VIEW if frozen else SUSPECT
        if not entry.modern and now - entry.claimed > entry.ttl:
            return SUSPECT
        return entry.means

    # -- what is shown -------------------------------------------------------------------------

    def show(self, now: float, entry: Entry) -> dict[str, Any]:
        """@return: an entry, see L{skills.presence.core.presence.PresenceCore.get}."""
        return {
            "node": entry.node,
            "hostname": entry.hostname,
            "addr": entry.address,
            "status": entry.status,
            "claim": entry.merged(now),
            "reach": FRESH if entry.own else entry.reach,
            "confidence": self.confidence(now, entry),
            "last_seen": 0.0 if entry.own else round(max(0.0, now - self.heard(entry)), 3),
            "since": round(max(0.0, now - entry.since), 3),
            "load": entry.load,
            "slots": entry.slots,
            "tags": list(entry.tags),
            "reason": entry.reason,
            "ttl": entry.ttl,
            "verified": True,
            "flapping": entry.flapping,
            "version": 2 if entry.modern else 1,
        }

    def show_stranger(self, now: float, stranger: Stranger) -> dict[str, Any]:
        """@return: the same of a record whose author could not be verified."""
        record = stranger.record
        return {
            "node": stranger.node,
            "hostname": record.hostname,
            "addr": record.address,
            "status": UNKNOWN,
            "claim": record.status,
            "reach": UNKNOWN,
            "confidence": UNVERIFIED,
            "last_seen": round(now - stranger.at, 3),
            "since": round(now - stranger.at, 3),
            "load": record.load,
            "slots": record.slots,
            "tags": list(record.tags),
            "reason": stranger.reason,
            "ttl": record.ttl,
            "verified": False,
            "flapping": False,
            "version": 1 if record.number is None else 2,
            "source": stranger.source,
        }

    def agents(
        self, now: float, status: Iterable[str], tags: Iterable[str], everybody: bool
    ) -> list[dict[str, Any]]:
        """@return: see L{skills.presence.core.presence.PresenceCore.agents}."""
        wanted, tagged = frozenset(status), frozenset(tags)
        if not wanted and not everybody:
            wanted = frozenset(STATUSES) - {OFFLINE}
        shown = [
            self.show(now, entry)
            for entry in self._shared.directory
            if (not wanted or entry.status in wanted) and tagged.issubset(entry.tags)
        ]
        if everybody:
            shown += [
                self.show_stranger(now, stranger)
                for stranger in self._shared.directory.strangers
                if tagged.issubset(stranger.record.tags)
            ]
        shown.sort(key=lambda agent: (agent["hostname"], agent["node"] or 0))
        return shown

    def explain(self, now: float, entry: Entry) -> dict[str, Any]:
        """@return: see L{skills.presence.core.presence.PresenceCore.explain}."""
        trail: list[dict[str, Any]] = [
            {
                "ago": round(now - step.at, 3),
                "what": step.what,
                "detail": step.detail,
                "evidence": step.evidence,
            }
            for step in entry.trail
        ]
        last = {"direct": "it answered us", "heartbeat": "it published its record to us"}
        via = f"coordinator {entry.via}" if entry.via else "the swarm"
        trail.append(
            {
                "ago": 0.0 if entry.own else round(max(0.0, now - self.heard(entry)), 3),
                "what": "last sign of life",
                "detail": "ourselves" if entry.own else last.get(entry.means, f"told by {via}"),
                "evidence": {},
            }
        )
        trail.sort(key=lambda step: -step["ago"])
        return {
            **self.show(now, entry),
            "inc": entry.number[0],
            "seq": max(entry.number[1], 0),
            "judged_by": "itself" if entry.own else via if entry.swarm or entry.via else "us",
            "script": entry.script if now < entry.script_until else None,
            "evidence": entry.evidence or {},
            "trail": trail,
        }

    # -- who is available ----------------------------------------------------------------------

    def entries(self, now: float, query: Query) -> list[Entry]:
        """@return: who would do, the best first.  @raise PresenceError: see L{Finder.find}."""
        return self._finder.find(now, query)

    def claim(self, now: float, entry: Entry) -> None:
        """Somebody is being sent there."""
        self._finder.claim(now, entry)

    def result(
        self, now: float, query: Query, chosen: list[Entry], failed: dict[int, str]
    ) -> Result:
        """@param failed: by node, why somebody that would have done was dropped after all."""
        directory = self._shared.directory
        agents = [self.show(now, entry) for entry in chosen]
        excluded: list[dict[str, Any]] = []
        if not agents:
            for entry, reason in self._finder.explain(now, query):
                why = failed.get(entry.node, reason)
                if why:
                    excluded.append({"node": entry.node, "hostname": entry.hostname, "reason": why})
            room = 100 - len(excluded)
            for stranger in directory.strangers[: max(room, 0)]:
                excluded.append(
                    {
                        "node": stranger.record.node,
                        "hostname": stranger.record.hostname,
                        "reason": f"unverified: {stranger.reason}",
                    }
                )
        return Result(agents, excluded, len(directory))
