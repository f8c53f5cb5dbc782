"""What may be asked of the presence core; nothing is changed but the soft claims of a search."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from skills.presence.core.answers import Answers
from skills.presence.core.directory import Stranger
from skills.presence.core.entry import Entry
from skills.presence.core.errors import UnknownAgent
from skills.presence.core.finding import Query, Result
from skills.presence.core.intake import Intake
from skills.presence.core.membership import Membership
from skills.presence.core.own import Own
from skills.presence.core.serving import Serving
from skills.presence.core.shared import Shared
from skills.presence.core.snapshot import encode_snapshot
from skills.presence.core.standing import Standing


class Inquiries:
    """The half of L{skills.presence.core.presence.PresenceCore} that only looks."""

    _shared: Shared
    _answers: Answers
    _intake: Intake
    _own: Own
    _serving: Serving
    _standing: Standing
    _swarm: Membership

    def own(self, now: float) -> dict[str, Any]:
        """@return: our own entry, and what each local agent says (C{"agents"})."""
        entry = self._shared.directory.get(self._shared.node_id)
        shown = self._answers.show(now, entry) if entry is not None else {}
        return {**shown, "agents": self._own.claims.as_json(now)}

    def get(self, now: float, host: str | int) -> dict[str, Any]:
        """
        @param host: hostname, address or node number.
        @return: C{{"node","hostname","addr","status","claim","reach","confidence","last_seen",
            "since","load","slots","tags","reason","ttl","verified","flapping","version"}};
            C{last_seen} in seconds by our clock, C{since} seconds the status lasts.
        @raise UnknownAgent: nobody of that name is known.
        """
        entry = self._named(host)
        if isinstance(entry, Entry):
            return self._answers.show(now, entry)
        return self._answers.show_stranger(now, entry)

    def agents(
        self,
        now: float,
        *,
        status: Iterable[str] = (),
        tags: Iterable[str] = (),
        everybody: bool = False,
    ) -> list[dict[str, Any]]:
        """
        @param status: only these; none: all but C{offline}.
        @param everybody: offline and unverified ones too.
        @return: as L{get}, by hostname.
        """
        return self._answers.agents(now, status, tags, everybody)

    def find(self, now: float, query: Query) -> Result:
        """
        Who is available for work; see L{skills.presence.core.finding}.
        @raise PresenceError: the query is out of range.
        """
        return self._answers.result(now, query, self._answers.entries(now, query), {})

    def explain(self, now: float, host: str | int) -> dict[str, Any]:
        """
        @return: as L{get}, with C{"inc"}, C{"seq"}, C{"judged_by"}, C{"evidence"} of the verdict,
            and C{"trail"}: what led to it, C{[{"ago","what","detail","evidence"}..]}, oldest first.
        @raise UnknownAgent: nobody of that name is known.
        """
        entry = self._named(host)
        if isinstance(entry, Entry):
            return self._answers.explain(now, entry)
        step = {"ago": round(now - entry.at, 3), "what": "unverified", "detail": entry.reason}
        trail = [{**step, "evidence": {"source": entry.source}}]
        return {**self._answers.show_stranger(now, entry), "evidence": {}, "trail": trail}

    def history(self, now: float, host: str | int) -> list[dict[str, Any]]:
        """
        @return: C{{"ago","from","to","cause","inc","seq"}}, oldest first, at most 100.
        @raise UnknownAgent: nobody of that name is known.
        """
        entry = self._named(host)
        history = entry.history if isinstance(entry, Entry) else None
        return history.as_json(now) if history is not None else []

    def view(self, now: float) -> dict[str, Any]:
        """@return: whether our view is to be believed: C{{"stale","cause","for"}}."""
        view = self._shared.view
        return {
            "stale": bool(view.cause),
            "cause": view.cause,
            "for": round(view.stale_for(now), 3),
        }

    def stats(self, now: float) -> dict[str, Any]:
        """@return: counters and levels, JSON ready."""
        shared, directory = self._shared, self._shared.directory
        by_status: dict[str, int] = {}
        for entry in directory:
            by_status[entry.status] = by_status.get(entry.status, 0) + 1
        return {
            "agents": len(directory),
            "status": by_status,
            "available": len(directory.available),
            "unverified": len(directory.strangers),
            "version": directory.version,
            "watchers": len(self._serving),
            "verifying": len(self._standing.verifier),
            "verifying_waiting": self._standing.verifier.waiting,
            "agents_refused": directory.refused,
            "questions_refused": self._intake.naming.refused,
            "events_dropped": dict(shared.reporter.dropped),
            "events_merged": shared.reporter.merged,
            "view": self.view(now),
            "counters": dict(shared.counters),
            "swarm": self._swarm.detector.statistics() if shared.config.swarm else None,
        }

    def snapshot(self, now: float) -> bytes:
        """@return: the directory for the disk, what C{restored} takes."""
        return encode_snapshot(self._shared.directory, now, self._shared.wall())

    def _named(self, host: str | int) -> Entry | Stranger:
        try:
            return self._shared.directory.named(host)
        except UnknownAgent:
            stranger = self._shared.directory.strange(host)
            if stranger is None:
                raise
            return stranger
