"""The life of a presence entry, as a state machine: how far an agent counts as reachable.

A machine is made for a single transition and dropped, since the entry itself knows its state: ten
thousand entries cost nothing, and a heartbeat of somebody fresh never comes here.

@see: drawn in C{docs/state-machines.md}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from automat import TypeMachineBuilder

from skills.presence.detection.reach import FRESH, GONE, SUSPECT

STALE = "stale"
"""Known from before we started; nothing was heard of it since."""


class HasReach:
    """What has a state: a L{skills.presence.core.entry.Entry}.  @ivar reach: its name."""

    __slots__ = ("reach",)

    reach: str


class IEntryLife(Protocol):
    """Everything that can happen to an entry."""

    def hear(self) -> None:
        "There is evidence that the agent lives."

    def miss(self) -> None:
        "The agent is late, or was accused."

    def give_up(self) -> None:
        "Verification has failed."

    def leave(self) -> None:
        "The owner itself says that it goes."


def _build() -> tuple[Callable[..., IEntryLife], dict[str, Any]]:
    builder = TypeMachineBuilder(IEntryLife, HasReach)
    stale = builder.state(STALE)
    fresh = builder.state(FRESH)
    suspect = builder.state(SUSPECT)
    gone = builder.state(GONE)
    states = (stale, fresh, suspect, gone)

    @stale.upon(IEntryLife.hear).to(fresh)
    @suspect.upon(IEntryLife.hear).to(fresh)
    @gone.upon(IEntryLife.hear).to(fresh)
    def heard(life: IEntryLife, entry: HasReach) -> None:
        entry.reach = FRESH

    fresh.upon(IEntryLife.hear).loop().returns(None)

    @stale.upon(IEntryLife.miss).to(suspect)
    @fresh.upon(IEntryLife.miss).to(suspect)
    def missed(life: IEntryLife, entry: HasReach) -> None:
        entry.reach = SUSPECT

    suspect.upon(IEntryLife.miss).loop().returns(None)
    gone.upon(IEntryLife.miss).loop().returns(None)

    # A swarm may decide before we ourselves missed anybody: its verdict needs no suspicion of ours.
    @fresh.upon(IEntryLife.give_up).to(gone)
    @suspect.upon(IEntryLife.give_up).to(gone)
    @fresh.upon(IEntryLife.leave).to(gone)
    @suspect.upon(IEntryLife.leave).to(gone)
    @stale.upon(IEntryLife.give_up).to(gone)
    @stale.upon(IEntryLife.leave).to(gone)
    def went(life: IEntryLife, entry: HasReach) -> None:
        entry.reach = GONE

    gone.upon(IEntryLife.give_up).loop().returns(None)
    gone.upon(IEntryLife.leave).loop().returns(None)

    return builder.build(), {state.name: state for state in states}


lifecycle_machine, _states = _build()


def life_of(entry: HasReach) -> IEntryLife:
    """@return: the machine of an entry, in the entry's own state; each input moves the entry."""
    return lifecycle_machine(entry, _states[entry.reach])
