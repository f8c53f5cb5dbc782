"""How soon detectors notice the dead, and how often they take the living for dead: the table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tests.simulation.swarm.detector_field import Death, DetectorField
from tests.simulation.swarm.table import FULL, NORMAL, QUICK, Job, Plan, Table, percentile

SETTLE = 20
"""Periods until the grace of the start is over."""
AGAIN = 40
"""Periods after which a crashed node starts again."""

#: Bar (e): periods until the first notices a death, mean and 99th percentile.
FIRST = {10: (6.0, 9.0), 100: (10.5, 13.0), 1_000: (14.0, 16.0)}
#: Bar (f): false alarms in 10^6 node-periods at N=100, by loss and share of stalled nodes.
FALSE = {(0.0, 0.0): 0.0, (0.1, 0.0): 0.0, (0.3, 0.0): 10.0, (0.1, 0.1): 5.0}


class DetectionCase(NamedTuple):
    """
    @ivar stalled: share of nodes that stand still most of the time.
    @ivar periods: how long the swarm is watched before the first crash.
    @ivar deaths: how many sound members then crash, one every C{spacing} periods.
    """

    size: int
    loss: float = 0.0
    stalled: float = 0.0
    periods: int = 200
    deaths: int = 0
    spacing: float = 10.0
    seed: int = 1


@dataclass(frozen=True)
class Row:
    """
    What was seen; times in periods.

    @ivar node_periods: what the false alarms are counted over.
    @ivar false: sound members given up by anybody; C{false_views}: how many sound members took
        that over.
    @ivar firsts: for each death, when the first noticed; C{nearly_all}: when 99 % of all knew.
    @ivar datagrams: sent by a node in a period, C{size}: their bytes; C{longest}: of one datagram.
    """

    node_periods: int
    false: int
    false_views: int
    firsts: list[float]
    nearly_all: list[float]
    datagrams: float
    size: float
    longest: int


def measure(case: DetectionCase) -> Row:
    """@return: what one swarm showed."""
    arena = DetectorField(case.size, seed=case.seed, loss=case.loss, stalled=case.stalled)
    period = arena.profile.period
    everybody = range(1, case.size + 1)
    arena.run(SETTLE)
    arena.datagrams = arena.measured = arena.bytes = 0
    arena.run(case.periods)
    node_periods = case.size * case.periods
    sent, size = arena.datagrams / max(1, node_periods), arena.bytes / max(1, arena.measured)
    rng = arena.rng.source("deaths")
    dead: list[Death] = []
    waiting: list[tuple[float, int]] = []
    while len(dead) < case.deaths or waiting:
        spell = case.spacing * (0.5 + rng.random())
        arena.run(spell)
        node_periods += round(len(arena.nodes) * spell)
        now = arena.scheduler.now
        while waiting and waiting[0][0] <= now:
            arena.start(waiting.pop(0)[1], everybody)
        sound = arena.settled(now - SETTLE * period)
        if len(dead) < case.deaths and len(sound) > 0.7 * (case.size - len(arena.sick)):
            death = arena.crash(rng.choice(sound))
            dead.append(death)
            waiting.append((now + AGAIN * period, death.node_id))
    firsts = [(death.first or math.inf) / period for death in dead]
    alls = [(death.nearly_all or math.inf) / period for death in dead]
    return Row(
        node_periods=node_periods,
        false=arena.false,
        false_views=arena.false_views,
        firsts=firsts,
        nearly_all=alls,
        datagrams=sent,
        size=sent * size,
        longest=arena.longest,
    )


def detection_plan(sizes: Sequence[int], effort: int, seed: int) -> Plan:
    """Deaths noticed, and false alarms."""
    deaths = {
        QUICK: {10: 30, 100: 20},
        NORMAL: {10: 100, 100: 60, 1_000: 30},
        FULL: {10: 400, 100: 400, 1_000: 200},
    }[effort]
    watched = {QUICK: 100, NORMAL: 2_000, FULL: 10_000}[effort]
    spacing = {10: 60.0, 100: 8.0, 1_000: 1.0}
    cases = [
        DetectionCase(size, loss, 0.0, 20, deaths[size], spacing[size], seed)
        for size in sorted(deaths)
        if size <= max(sizes)
        for loss in ((0.0, 0.1, 0.3) if size <= 100 else (0.0,))
    ]
    if max(sizes) >= 100:
        cases += [
            DetectionCase(100, loss, stalled, watched, 0, 0.0, seed) for loss, stalled in FALSE
        ]

    def judge(results: list[Row]) -> Table:
        rows: list[Sequence[str]] = []
        missed: list[str] = []
        for case, row in zip(cases, results, strict=True):
            name = f"N={case.size:,}, loss {case.loss:.0%}, stalled {case.stalled:.0%}"
            alarms = row.false * 1e6 / row.node_periods
            most = FALSE.get((case.loss, case.stalled), math.inf) if case.size == 100 else math.inf
            bad = alarms > most
            first = ""
            if row.firsts:
                mean, late = sum(row.firsts) / len(row.firsts), percentile(row.firsts, 0.99)
                first = f"{mean:.1f}, {late:.1f}"
                bars = FIRST[case.size] if case.loss < 0.3 else (math.inf, math.inf)
                if mean > bars[0] or late > bars[1]:
                    missed.append(f"(e) {name}: first notice after {first} periods")
                if len(row.firsts) != case.deaths or math.inf in row.nearly_all:
                    missed.append(f"(e) {name}: not everybody noticed each death")
            if bad:
                missed.append(f"(f) {name}: {alarms:.1f} false alarms in 10^6 node-periods")
            known = sum(row.nearly_all) / len(row.nearly_all) if row.nearly_all else 0.0
            rows.append(
                (
                    f"{case.size:,}",
                    f"{case.loss:.0%}",
                    f"{case.stalled:.0%}",
                    first,
                    f"{known:.1f}" if row.nearly_all else "",
                    f"{len(row.firsts)}",
                    f"{alarms:.1f} ({row.false_views})",
                    f"{row.node_periods:,}",
                    f"{row.datagrams:.1f}, {row.size:.0f}",
                )
            )
        head = (
            "N",
            "loss",
            "stalled",
            "first notice: mean, p99 periods",
            "99 % know",
            "deaths",
            "false alarms in 10^6 (views)",
            "node-periods",
            "datagrams, bytes a node-period",
        )
        return Table("Failure detection, period 1 s", head, rows, missed)

    jobs = [Job(measure, case, _weight(case)) for case in cases]
    return Plan("detection", jobs, judge)


def _weight(case: DetectionCase) -> float:
    periods = case.periods + case.deaths * case.spacing + AGAIN
    return case.size * periods * (1.0 + 12.0 * case.loss + 30.0 * case.stalled) / 5.0
