"""Who is available for work: the least loaded of those that are surely there and match.

The best two are taken at random in turn, so that many who ask at once do not all run to the one
with the least load, and whoever takes an agent leaves a soft claim on it for five seconds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from skills.presence.core.available import load_of
from skills.presence.core.directory import Directory
from skills.presence.core.entry import Entry
from skills.presence.core.errors import PresenceError
from skills.presence.core.lifecycle import STALE
from skills.presence.core.record import MAX_SLOTS, MAX_TAGS
from skills.presence.core.status import ONLINE
from skills.presence.detection.reach import GONE

CLAIM: Final = 5.0
"""Seconds of a soft claim: until the agent that got work says so itself."""
CLAIMS: Final = 10_000
"""Soft claims at once."""
REASONS: Final = 100
"""Agents whose exclusion is explained."""
MAX_LIMIT: Final = 1_000
FEW: Final = 512
"""Agents with all the tags up to which they are sorted; more are met in the order of load."""


@dataclass(frozen=True, slots=True)
class Query:
    """
    What is wanted of an agent.

    @ivar tags: all of these.
    @ivar min_slots: at least so many free slots; agents that do not say count as having one.
    @ivar max_age: seconds since its last sign of life, C{None}: one lease of its own.
    @ivar limit: how many agents to name.
    @ivar pick: take a soft claim of 5 s on each, so that a burst of lookups spreads.
    """

    tags: tuple[str, ...] = ()
    min_slots: int = 1
    max_age: float | None = None
    limit: int = 1
    pick: bool = False


class Result(NamedTuple):
    """
    @ivar agents: the best first, as C{PresenceCore.get} describes one.
    @ivar excluded: when C{agents} is empty, why: C{{"node","hostname","reason"}}, 100 at most.
    @ivar known: how many agents are known at all.
    """

    agents: list[dict[str, Any]]
    excluded: list[dict[str, Any]]
    known: int


def check_query(query: Query) -> None:
    """@raise PresenceError: something is out of range."""
    if not 1 <= query.limit <= MAX_LIMIT:
        raise PresenceError(f"the limit is out of 1..{MAX_LIMIT}")
    if not 0 <= query.min_slots <= MAX_SLOTS:
        raise PresenceError(f"slots are out of 0..{MAX_SLOTS}")
    if query.max_age is not None and not query.max_age > 0:
        raise PresenceError("the greatest age must be more than 0 seconds")
    if len(query.tags) > MAX_TAGS:
        raise PresenceError(f"at most {MAX_TAGS} tags can be asked for")


class Finder:
    """Looks for agents, and remembers whom it has just named."""

    def __init__(
        self,
        directory: Directory,
        rng: random.Random,
        age: Callable[[float, Entry], float],
    ) -> None:
        """@param age: seconds since the last sign that an agent's claim stands."""
        self._directory = directory
        self._rng = rng
        self._age = age
        self._claims: dict[int, list[float]] = {}

    def find(self, now: float, query: Query) -> list[Entry]:
        """
        @return: the best first, C{limit} at most.  Claimed ones come in only when the unclaimed
            do not suffice.
        @raise PresenceError: the query is out of range.
        """
        check_query(query)
        free: list[Entry] = []
        claimed: list[Entry] = []
        for entry in self._by_load(query.tags):
            if not self._suits(now, entry, query):
                continue
            if self._taken(now, entry):
                claimed.append(entry)
                continue
            free.append(entry)
            if len(free) > query.limit:  # one more than wanted: the last choice is of two as well
                break
        claimed.sort(key=lambda entry: len(self._claims.get(entry.node, ())))
        chosen: list[Entry] = []
        for pool in (free, claimed):
            while pool and len(chosen) < query.limit:
                chosen.append(pool.pop(self._rng.randrange(min(2, len(pool)))))
        if query.pick:
            for entry in chosen:
                self.claim(now, entry)
        return chosen

    def claim(self, now: float, entry: Entry) -> None:
        """Somebody has just been sent there."""
        if len(self._claims) >= CLAIMS:
            self._claims = {node: ends for node, ends in self._claims.items() if ends[-1] > now}
        if len(self._claims) < CLAIMS:
            self._claims.setdefault(entry.node, []).append(now + CLAIM)

    def explain(self, now: float, query: Query) -> list[tuple[Entry, str]]:
        """@return: who was not found and why, those with the rarest tag first."""
        reasons: dict[int, tuple[Entry, str]] = {}
        for entries in (self._directory.holders(query.tags), self._directory):
            for entry in entries:
                if len(reasons) >= REASONS:
                    return list(reasons.values())
                if not entry.own:
                    reasons[entry.node] = entry, self.objection(now, entry, query)
        return list(reasons.values())

    def objection(self, now: float, entry: Entry, query: Query) -> str:
        """@return: why an agent does not do, C{""} if it does."""
        if entry.own:
            return "it is this node"
        if entry.reach == GONE or entry.status != ONLINE:
            return f"it is {entry.status}" + (f": {entry.reason}" if entry.reason else "")
        if entry.reach == STALE:
            return "nothing was heard of it since we started"
        for tag in query.tags:
            if tag not in entry.tags:
                return f"it has no tag {tag}"
        if entry.flapping:
            return "it comes and goes too often"
        slots = 1 if entry.slots is None else entry.slots
        if entry.slots == 0:
            return "it has no free slot"
        if slots < query.min_slots:
            return f"it has {slots} free slots of {query.min_slots}"
        limit = entry.ttl if query.max_age is None else query.max_age
        age = self._age(now, entry)
        if age > limit:
            return f"its last sign of life is {age:.0f} s old, more than {limit:.0f} s"
        return ""

    def _suits(self, now: float, entry: Entry, query: Query) -> bool:
        """The same as L{objection}, without its words."""
        if entry.spot < 0 or entry.reach == STALE:
            return False
        for tag in query.tags:
            if tag not in entry.tags:
                return False
        if (1 if entry.slots is None else entry.slots) < query.min_slots:
            return False
        limit = entry.ttl if query.max_age is None else query.max_age
        return self._age(now, entry) <= limit

    def _by_load(self, tags: tuple[str, ...]) -> Iterable[Entry]:
        entries = self._directory.tagged(tags)
        if entries is None or len(entries) > FEW:
            return self._directory.available.by_load(self._rng)
        self._rng.shuffle(entries)
        entries.sort(key=load_of)
        return entries

    def _taken(self, now: float, entry: Entry) -> bool:
        ends = self._claims.get(entry.node)
        if ends is None:
            return False
        ends[:] = [end for end in ends if end > now]
        if not ends:
            del self._claims[entry.node]
            return False
        return len(ends) >= (1 if entry.slots is None else entry.slots)
