"""Failure detectors by the hundred: how soon the dead are noticed, and how often the living are
taken for dead.

Every leg of every exchange is lost independently, and nothing is sent again.  A stalled node stands
still for 30 periods and runs for 4, again and again; what came in meanwhile waits for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from skills.presence.detector import Detector
from skills.presence.messages import encode
from skills.presence.profiles import LAN, Profile
from skills.presence.reach import GONE, Effect, Frozen, Reach, Send
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
    A swarm in which everybody trusts everybody.

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
        everybody = range(1, count + 1)
        for node_id in everybody:
            self.start(node_id, everybody)
        for node_id in everybody:  # they know each other from before
            node, now = self.nodes[node_id], self.scheduler.now
            for other in everybody:
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
        node.do(node.detector.members_changed(self.scheduler.now, everybody))

    def crash(self, node_id: int) -> Death:
        """A node is no more."""
        self.network.detach(node_id)
        del self.nodes[node_id]
        settled = self.scheduler.now - 20 * self.profile.period
        sound = {
            other
            for other, each in self.nodes.items()
            if other not in self.sick and (each.started <= settled or not each.started)
        }
        death = Death(node_id, self.scheduler.now, sound)
        self.deaths[node_id] = death
        return death

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


@dataclass(frozen=True)
class Row:
    """
    One case of the table.

    @ivar node_periods: what the false positives are counted over.
    @ivar first: mean and 99th percentile of the first detection, periods; C{nearly_all}: mean of
        when 99 % of the sound members knew.
    @ivar size: bytes sent by a node in a period.
    """

    count: int
    loss: float
    stalled: float
    node_periods: int
    false: int
    false_views: int
    deaths: int
    first: tuple[float, float]
    nearly_all: float
    datagrams: float
    size: float
    longest: int

    def __str__(self) -> str:
        return (
            f"N={self.count:5} loss {self.loss:3.0%} stalled {self.stalled:3.0%}: "
            f"FP {self.false * 1e6 / max(1, self.node_periods):6.1f}/10^6 "
            f"({self.false} events, {self.false_views} views in {self.node_periods}); "
            f"first mean {self.first[0]:5.2f} p99 {self.first[1]:5.2f}, 99 % {self.nearly_all:5.2f}"
            f" ({self.deaths} deaths); {self.datagrams:.1f} datagrams, {self.size:.0f} B"
            f" a node-period, longest {self.longest}"
        )


def percentile(values: list[float], share: float) -> float:
    """@return: the smallest value that C{share} of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


def case(
    count: int,
    *,
    loss: float = 0.0,
    stalled: float = 0.0,
    periods: int = 200,
    deaths: int = 0,
    spacing: float = 0.0,
    seed: int = 1,
) -> Row:
    """
    @param periods: how long the swarm is watched, before the first crash.
    @param deaths: how many sound members then crash, one every C{spacing} periods; each starts
        again 40 periods later.
    """
    arena = DetectorField(count, seed=seed, loss=loss, stalled=stalled)
    everybody = range(1, count + 1)
    settle = 20
    arena.run(settle)
    arena.datagrams = arena.measured = arena.bytes = 0
    arena.run(periods)
    node_periods = count * periods
    datagrams, size = arena.datagrams, arena.bytes / max(1, arena.measured)
    rng = arena.rng.source("deaths")
    dead: list[Death] = []
    waiting: list[tuple[float, int]] = []
    while len(dead) < deaths or waiting:
        arena.run(spacing * (0.5 + rng.random()))
        node_periods += round(count * spacing)
        while waiting and waiting[0][0] <= arena.scheduler.now:
            arena.start(waiting.pop(0)[1], everybody)
        new = arena.scheduler.now - 20 * arena.profile.period
        sound = [
            node
            for node, each in arena.nodes.items()
            if node not in arena.sick and each.started <= new
        ]
        if len(dead) < deaths and len(sound) > 0.7 * (count - len(arena.sick)):
            death = arena.crash(rng.choice(sound))
            dead.append(death)
            waiting.append((arena.scheduler.now + 40 * arena.profile.period, death.node_id))
    firsts = [(death.first or float("inf")) / arena.profile.period for death in dead]
    alls = [(death.nearly_all or float("inf")) / arena.profile.period for death in dead]
    return Row(
        count,
        loss,
        stalled,
        node_periods,
        arena.false,
        arena.false_views,
        len(dead),
        (sum(firsts) / max(1, len(firsts)), percentile(firsts, 0.99)),
        sum(alls) / max(1, len(alls)),
        datagrams / max(1, count * periods),
        datagrams * size / max(1, count * periods),
        arena.longest,
    )


if __name__ == "__main__":
    options = [float(each) for each in sys.argv[1:]]
    print(
        case(
            int(options[0]),
            loss=options[1],
            stalled=options[2],
            periods=int(options[3]),
            deaths=int(options[4]),
            spacing=options[5],
            seed=int(options[6]),
        )
    )
