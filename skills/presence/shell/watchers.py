"""Who follows what happens here: programs on this host, and other nodes over a stream."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pilot.errors import PilotError
from skills.presence.core.effects import Change
from skills.presence.shell import questions

MOST: Final = 256
"""Watchers at once."""


class TooManyWatchers(PilotError):
    """There is no room for one more."""

    code = "internal"


class _Watcher:
    __slots__ = ("host", "matches", "send", "statuses")

    def __init__(
        self,
        host: str,
        statuses: tuple[str, ...],
        matches: Callable[[int], bool],
        send: Callable[[dict[str, Any]], None],
    ) -> None:
        self.host = host
        self.statuses = statuses
        self.matches = matches
        self.send = send


class Watchers:
    """
    Passes news on to those who want it.

    @ivar counters: C{told}, and how many were C{refused}.
    """

    def __init__(
        self,
        wall: Callable[[], float],
        node_of: Callable[[str], int | None],
        tags_of: Callable[[int], tuple[str, ...]],
    ) -> None:
        """
        @param node_of: gives the number of the node of that name, C{None} if it is not known.
        @param tags_of: gives the tags of an agent.
        """
        self.counters: Counter[str] = Counter()
        self._wall = wall
        self._node_of = node_of
        self._tags_of = tags_of
        self._watchers: list[_Watcher] = []

    def __len__(self) -> int:
        return len(self._watchers)

    def add(
        self, given: Mapping[str, Any], send: Callable[[dict[str, Any]], None]
    ) -> Callable[[], None]:
        """
        Have C{send} called with what happens to agents.

        @param given: C{host}, C{status}, C{tag} and C{swarm}, each to see only what matches.
        @return: ends it.
        @raise InvalidArgument: something in C{given} is malformed.
        @raise TooManyWatchers: there is no room.
        """
        wanted = questions.tags(given)

        def matches(node: int) -> bool:
            return not wanted or set(wanted) <= set(self._tags_of(node))

        host = questions.text(given, "host")
        watcher = _Watcher(host, questions.statuses(given), matches, send)
        if len(self._watchers) >= MOST:
            self.counters["refused"] += 1
            raise TooManyWatchers(f"{MOST} programs watch already")
        self._watchers.append(watcher)

        def end() -> None:
            if watcher in self._watchers:
                self._watchers.remove(watcher)

        return end

    def tell(self, change: Change) -> None:
        """Something happened."""
        if not self._watchers:
            return
        events = list(events_of(change, self._wall()))
        for watcher in list(self._watchers):
            for event in events:
                if self._wants(watcher, event):
                    self.counters["told"] += 1
                    watcher.send(event)

    def _wants(self, watcher: _Watcher, event: dict[str, Any]) -> bool:
        node = event.get("node_id")
        if node is None:
            return not watcher.host  # about our own view, or about many
        named = not watcher.host or watcher.host in (event["hostname"], str(node))
        if not named and self._node_of(watcher.host) != node:
            return False
        if watcher.statuses and event.get("to") not in watcher.statuses:
            return False
        return watcher.matches(node)


def events_of(change: Change, wall: float) -> Iterator[dict[str, Any]]:
    """
    @param wall: unix seconds.
    @return: what watchers are shown of it, flat: one event an agent, a mass change as far as it
        names agents, and then C{{"event":"bulk","count"}}.
    """
    name, data = change
    at = datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    kind = name.removeprefix("presence.")
    if kind == "changed":
        yield {
            "hostname": data["hostname"],
            "node_id": data["node"],
            "from": data["from"],
            "to": data["to"],
            "cause": data["cause"],
            "at": at,
            "event": kind,
        }
    elif kind == "bulk":
        for hostname, node, before, after in data["agents"]:
            yield {
                "hostname": hostname,
                "node_id": node,
                "from": before,
                "to": after,
                "cause": "bulk",
                "at": at,
                "event": "changed",
            }
        yield {"event": kind, "count": data["count"], "to": data["to"], "at": at}
    elif kind == "flapping":
        facts = {key: value for key, value in data.items() if key not in ("node", "hostname")}
        facts = {"hostname": data["hostname"], "node_id": data["node"], **facts}
        yield {**facts, "at": at, "event": kind}
    elif kind in ("view_stale", "view_ok"):
        yield {"event": kind, "cause": data["cause"], "at": at}
