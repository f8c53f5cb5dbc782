"""The swarm's part in the directory: what the failure detector says is how its members stand.

Only peers that take part in the swarm are its members.  Whoever merely publishes heartbeats (a
shell loop, another implementation) never answers its probes, so those stay with the verification.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from skills.presence.core.effects import Datagram, Persist
from skills.presence.core.entry import Entry
from skills.presence.core.errors import PresenceError
from skills.presence.core.intake import Intake
from skills.presence.core.ordering import Number
from skills.presence.core.shared import Shared
from skills.presence.core.standing import Standing
from skills.presence.detection.detector import Detector
from skills.presence.detection.messages import decode, encode
from skills.presence.detection.reach import (
    FRESH,
    GONE,
    LEFT,
    SUSPECT,
    Frozen,
    Raised,
    Reach,
    Record,
    Send,
)
from skills.presence.detection.reach import Effect as SwarmEffect


class Membership:
    """Wraps the detector of one node."""

    def __init__(
        self,
        shared: Shared,
        standing: Standing,
        intake: Intake,
        detector: Detector,
        raised: Callable[[float], None],
        reached: Callable[[float, int, bool], None],
    ) -> None:
        """
        @param raised: called with now when our record has to be made anew.
        @param reached: called with now, a node, and whether it is there, when that has changed.
        """
        self._shared = shared
        self._standing = standing
        self._intake = intake
        self._raised = raised
        self._reached = reached
        self._doubt = ""
        self.detector = detector
        self.active = shared.config.swarm
        if self.active:
            shared.swarm_reach = detector.reach

    # -- what comes in -------------------------------------------------------------------------

    def members(self, now: float, nodes: list[int]) -> None:
        """These peers belong to our swarm."""
        if self.active:
            self._follow(now, self.detector.members_changed(now, nodes))
            records = (self.detector.record(node) for node in nodes)
            self._intake.recall(now, (record for record in records if record is not None))
            for node in nodes:
                self._claim(now, node)

    def _claim(self, now: float, node: int) -> None:
        """A coordinator may have been the first to tell of a member that we hear ourselves."""
        entry = self._shared.directory.get(node)
        if entry is not None and entry.via and self.detector.reach(node) == FRESH:
            entry.swarm, entry.via = True, 0
            self._standing.hear(now, entry, "gossip", "heard", record=False)

    def datagram(self, now: float, peer: int, data: bytes | dict[str, Any]) -> None:
        """@raise BadMessage: it is none."""
        if self.active:
            self._follow(now, self.detector.on_message(now, peer, decode(data)))

    def alive(self, now: float, node: int, number: Number | None = None) -> None:
        """Any other evidence that a node lives.  It concerns the swarm only if it takes part."""
        if self.active and self.detector.reach(node) is not None:
            inc, seq = number if number is not None else (None, None)
            self._follow(now, self.detector.alive(now, node, inc, seq))

    def connected(self, now: float) -> None:
        """Our own network works."""
        if self.active:
            self._follow(now, self.detector.connected(now))

    def hint(self, now: float, node: int) -> None:
        """Something looked wrong."""
        if self.active:
            self._follow(now, self.detector.hint(now, node))

    def excuse(self, now: float, node: int | None) -> None:
        """Nobody, or not that one, is to be accused for a while."""
        if self.active:
            self._follow(now, self.detector.excuse(now, node))

    def timer(self, now: float) -> None:
        """The deadline passed."""
        if self.active:
            self._follow(now, self.detector.on_timer(now))

    def deadline(self) -> float | None:
        """@return: when L{timer} wants to be called."""
        return self.detector.deadline() if self.active else None

    def leave(self, now: float) -> None:
        """Say goodbye."""
        if self.active:
            self._follow(now, self.detector.leave(now))
            self.active = False

    # -- our own record ------------------------------------------------------------------------

    def number(self) -> Number:
        """@return: the number of a new record of ours."""
        sequence = self.detector.next_sequence()
        return self.detector.incarnation, sequence

    def carry(self, now: float, record: dict[str, Any]) -> None:
        """Spread a new record of ours."""
        if not self.active:
            return
        if record["inc"] != self.detector.incarnation:
            return  # raised meanwhile: a newer record is being signed
        try:
            self._follow(now, self.detector.set_record(now, record))
        except PresenceError:
            self._shared.counters["records_not_carried"] += 1

    # -- what follows --------------------------------------------------------------------------

    def _follow(self, now: float, effects: Iterable[SwarmEffect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                self._shared.effects.append(Datagram(effect.peer, encode(effect.message)))
            elif isinstance(effect, Reach):
                self._reach(now, effect)
            elif isinstance(effect, Record):
                self._intake.gossiped(now, effect.record, effect.via)
            elif isinstance(effect, Frozen):
                self._frozen(now, effect)
            elif isinstance(effect, Raised):
                self._shared.effects.append(Persist("incarnation", str(effect.inc).encode()))
                self._raised(now)

    def _reach(self, now: float, reach: Reach) -> None:
        if reach.state in (FRESH, GONE):
            self._reached(now, reach.node_id, reach.state == FRESH)
        entry = self._shared.directory.get(reach.node_id)
        if entry is None or entry.own:
            return  # its record will find out how it stands
        if reach.cause == "removed":
            self._release(now, entry)
            return
        entry.swarm = True
        entry.via = 0
        self._shared.view.absent(entry.node)
        means = "direct" if reach.evidence.get("direct") else "gossip"
        if reach.state == FRESH:
            self._standing.hear(now, entry, means, reach.cause, record=True)
        elif reach.inc < entry.number[0]:
            self._shared.counters["old"] += 1  # said of a life that is over
        elif reach.state == SUSPECT:
            self._standing.accuse(now, entry, reach.evidence)
        elif reach.state == GONE and reach.cause == LEFT:
            self._standing.leave(now, entry)
        elif reach.state == GONE:
            self._standing.give_up(now, entry, reach.cause, reach.evidence)

    def _release(self, now: float, entry: Entry) -> None:
        """No member any more: from now on it is looked after as any other agent."""
        entry.swarm = False
        if entry.reach != GONE:
            self._standing.watch(entry, now)

    def _frozen(self, now: float, effect: Frozen) -> None:
        if effect.frozen:
            self._doubt = f"swarm {effect.cause}"
            self._standing.doubt(now, self._doubt)
        else:
            self._standing.trust(now, self._doubt)
