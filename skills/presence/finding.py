"""Who is available for work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


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
