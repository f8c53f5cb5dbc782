"""Failure detectors by the hundred: how soon the dead are noticed, and how often the living are
taken for dead.

Every leg of every exchange is lost independently, and nothing is sent again.  A stalled node stands
still for 30 periods and runs for 4, again and again; what came in meanwhile waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from skills.presence.detection.detector import Detector
from skills.presence.detection.messages import encode
from skills.presence.detection.profiles import LAN, Profile
from skills.presence.detection.reach import FRESH, GONE, SUSPECT, Effect, Frozen, Reach, Send
from tests.simulation.swarm.links import DATAGRAM, LinkModel, Station, SwarmNetwork
from tests.simulation.swarm.rng import RngTree
from tests.simulation.swarm.scheduler import HeapScheduler

STALLED_FOR, RUNS_FOR = 30, 4
"""Periods."""


class FieldNode:
    """A detector at its place in the network."""

    def __init__(self, arena: DetectorField, node_id: int, incarnation: int) -> None:
        self.arena = arena
        self.node_id = node_id
        self.station: Station = arena.network.attach(node_id, self._receive)
        self.started = arena.scheduler.now
        self._armed = float("inf")
        self._timer: Any = None
        self.detector = Detector(
            node_id,
            now=self.station.clock.seconds(),
            rng=arena.rng.source("detector", node_id, incarnation),
            profile=arena.profile,
            incarnation=incarnation,
        )

    def do(self, effects: Iterable[Effect]) -> None:
        """Carry out what the detector asks for, and have it called in time."""
        for effect in effects:
            if isinstance(effect, Send):
                self.arena.send(self.node_id, effect)
            else:
                self.arena.observe(self, effect)
        due = self.detector.deadline()
        if due is not None and due < self._armed:
            if self._timer is not None and self._timer.active():
                self._timer.cancel()
            self._armed = due
            wait = max(0.0, due - self.station.clock.seconds())
            self._timer = self.station.clock.callLater(wait, self._tick)

    def _tick(self) -> None:
        self._armed = float("inf")
        self.do(self.detector.on_timer(self.station.clock.seconds()))

    def _receive(self, source: int, message: Any) -> None:
        self.do(self.detector.on_message(self.station.clock.seconds(), source, message))


@dataclass
class Death:
    """
    One node's crash.

    @ivar first: seconds until anybody gave it up; C{nearly_all}: until 99 % of the sound had.
    """

    node_id: int
    when: float
    witnesses: set[int]
    seen_by: set[int] = field(default_factory=set)
    first: float | None = None
    nearly_all: float | None = None


class DetectorField:
    """
    A swarm, in which everybody trusts everybody unless C{trust} says whom a node trusts.

    @ivar false: how often a sound member was given up by anybody's own verdict, counted once in a
        suspicion's longest time; C{false_views}: by how many sound members' views.
    @ivar sample: every so many datagrams one is measured.
    """

    def __init__(
        self,
        count: int,
        *,
        seed: int = 1,
        loss: float = 0.0,
        stalled: float = 0.0,
        profile: Profile = LAN,
        median: float = 0.08,
        sample: int = 20,
        trust: Callable[[int], Collection[int]] | None = None,
    ) -> None:
        self.profile = profile
        self.rng = RngTree(seed)
        self.scheduler = HeapScheduler()
        link = LinkModel(median=median, loss=loss)
        self.network = SwarmNetwork(self.scheduler, self.rng, link, record=False)
        self.nodes: dict[int, FieldNode] = {}
        self.sick = set(range(1, round(count * stalled) + 1))
        self.deaths: dict[int, Death] = {}
        self.false = self.false_views = self.frozen = 0
        self.datagrams = self.measured = self.bytes = self.longest = 0
        self.reaches: list[tuple[float, int, Reach]] = []
        self.sample = sample
        self._counted: dict[int, float] = {}
        self._incarnations: dict[int, int] = {}
        self._trust = trust
        everybody = range(1, count + 1)
        for node_id in everybody:
            self.start(node_id, everybody)
        for node_id in everybody:  # they know each other from before
            node, now = self.nodes[node_id], self.scheduler.now
            for other in self.trusted(node_id, everybody):
                node.detector.alive(now, other, 1, 0)
        for node_id in self.sick:
            self._stall(node_id)

    def start(self, node_id: int, everybody: Iterable[int]) -> None:
        """A node starts, or starts again."""
        incarnation = self._incarnations[node_id] = self._incarnations.get(node_id, 0) + 1
        self.deaths.pop(node_id, None)
        for death in self.deaths.values():
            death.witnesses.discard(node_id)
        node = self.nodes[node_id] = FieldNode(self, node_id, incarnation)
        members = self.trusted(node_id, everybody)
        node.do(node.detector.members_changed(self.scheduler.now, members))

    def trusted(self, node_id: int, everybody: Iterable[int]) -> Collection[int]:
        """@return: whom a node trusts."""
        return list(everybody) if self._trust is None else self._trust(node_id)

    def frozen_nodes(self) -> list[int]:
        """@return: who doubts its own view now."""
        return [node_id for node_id, node in self.nodes.items() if node.detector.frozen]

    def crash(self, node_id: int) -> Death:
        """A node is no more."""
        self.network.detach(node_id)
        del self.nodes[node_id]
        witnesses = {  # who has not met it since its own start has nothing to notice
            other
            for other in self.settled(self.scheduler.now - 20 * self.profile.period)
            if self.nodes[other].detector.reach(node_id) in (FRESH, SUSPECT)
        }
        death = Death(node_id, self.scheduler.now, witnesses)
        self.deaths[node_id] = death
        return death

    def settled(self, before: float) -> list[int]:
        """@return: the sound members that started before, or were there from the beginning."""
        return [
            node_id
            for node_id, each in self.nodes.items()
            if node_id not in self.sick and (each.started <= before or not each.started)
        ]

    def run(self, periods: float) -> None:
        """Let time pass."""
        self.scheduler.advance(periods * self.profile.period)

    def _stall(self, node_id: int) -> None:
        period = self.profile.period
        draw = self.rng.source("stall", node_id).random()
        start = (20 + draw * (STALLED_FOR + RUNS_FOR)) * period
        for _ in range(200):
            self.network.stall(node_id, start, start + STALLED_FOR * period)
            start += (STALLED_FOR + RUNS_FOR) * period

    def send(self, source: int, effect: Send) -> None:
        """A datagram leaves."""
        self.datagrams += 1
        size = 0
        if self.datagrams % self.sample == 0:
            size = len(encode(effect.message))
            self.measured += 1
            self.bytes += size
            self.longest = max(self.longest, size)
        self.network.send(source, effect.peer, effect.message, carriage=DATAGRAM, size=size)

    def observe(self, node: FieldNode, effect: Effect) -> None:
        """A node tells what it thinks."""
        if isinstance(effect, Frozen):
            self.frozen += effect.frozen
        if not isinstance(effect, Reach):
            return
        now = self.scheduler.now
        self.reaches.append((now, node.node_id, effect))
        if effect.state != GONE or effect.cause == "left":
            return
        death = self.deaths.get(effect.node_id)
        if death is not None:
            if node.node_id in self.sick:
                return
            death.seen_by.add(node.node_id)
            if death.first is None:
                death.first = now - death.when
            if death.nearly_all is None:
                death.witnesses &= self.nodes.keys()
                if len(death.seen_by & death.witnesses) >= 0.99 * len(death.witnesses):
                    death.nearly_all = now - death.when
        elif effect.node_id not in self.sick and effect.inc == self._incarnations[effect.node_id]:
            if node.node_id not in self.sick:
                self.false_views += 1
            if now - self._counted.get(effect.node_id, -1e9) > 24 * self.profile.period:
                self._counted[effect.node_id] = now
                self.false += 1


def ring_neighbours(node: int, count: int) -> set[int]:
    """@return: the two nodes on either side of one, of nodes 1 to C{count} in a ring."""
    return {(node - 1 + step) % count + 1 for step in (-2, -1, 1, 2)}
