"""Links, stalls and clocks."""

from __future__ import annotations

import statistics
from typing import Any

import pytest
from twisted.internet.interfaces import IReactorTime
from zope.interface.verify import verifyObject

from tests.simulation.swarm.links import DATAGRAM, STREAM, LinkModel, SwarmNetwork
from tests.simulation.swarm.rng import RngTree
from tests.simulation.swarm.scheduler import HeapScheduler


class Pair:
    """Two nodes, 1 and 2, and what each received: (when, source, message)."""

    def __init__(self, link: LinkModel | None = None, seed: int = 1) -> None:
        self.scheduler = HeapScheduler()
        self.network = SwarmNetwork(self.scheduler, RngTree(seed), link)
        self.got: dict[int, list[tuple[float, int, Any]]] = {1: [], 2: []}
        self.told: list[tuple[float, bool]] = []
        self.stations = {node: self.network.attach(node, self._taker(node)) for node in self.got}

    def _taker(self, node: int):  # type: ignore[no-untyped-def]
        return lambda source, message: self.got[node].append((self.scheduler.now, source, message))

    def send(self, message: object, carriage: str = STREAM) -> None:
        """From 1 to 2."""
        self.network.send(
            1,
            2,
            message,
            carriage=carriage,
            done=lambda arrived: self.told.append((self.scheduler.now, arrived)),
        )


def test_latency_has_the_median_of_the_model() -> None:
    """Log-normal: half of all messages are faster, a tenth takes nearly twice as long."""
    pair = Pair()
    for number in range(4_000):
        pair.send(number, DATAGRAM)
    pair.scheduler.run_until(60)
    delays = sorted(when for when, _, _ in pair.got[2])
    assert statistics.median(delays) == pytest.approx(0.080, rel=0.05)
    assert delays[3_600] == pytest.approx(0.080 * 1.898, rel=0.08)


def test_datagrams_get_lost_doubled_and_out_of_order() -> None:
    """As often as the model says, and nobody hears of it."""
    pair = Pair(LinkModel(loss=0.3, duplicate=0.2, reorder=0.5))
    for number in range(2_000):
        pair.scheduler.advance(0.01)
        pair.send(number, DATAGRAM)
    pair.scheduler.advance(60)
    numbers = [message for _, _, message in pair.got[2]]
    assert len(set(numbers)) / 2_000 == pytest.approx(0.7, abs=0.04)
    assert len(numbers) / len(set(numbers)) == pytest.approx(1.2, abs=0.04)
    assert numbers != sorted(numbers)
    assert pair.told == []


def test_streams_lose_nothing_and_keep_their_order() -> None:
    """What was lost comes later, and holds up what was sent after it."""
    pair = Pair(LinkModel(loss=0.3, give_up=1e9))
    for number in range(500):
        pair.scheduler.advance(0.05)
        pair.send(number)
    pair.scheduler.advance(600)
    assert [message for _, _, message in pair.got[2]] == list(range(500))
    assert [arrived for _, arrived in pair.told] == [True] * 500
    assert pair.network.counters["retransmitted"] / 500 == pytest.approx(0.43, abs=0.1)


def test_a_cut_holds_up_streams_and_swallows_datagrams() -> None:
    """A stream gets through after the cut; one that would take too long fails."""
    pair = Pair(LinkModel(give_up=15))
    pair.network.partition(0, 5, [2])
    pair.send("stream")
    pair.send("datagram", DATAGRAM)
    pair.scheduler.run_until(4)
    assert pair.got[2] == []
    pair.scheduler.run_until(20)
    assert [(message, 5 < when < 7) for when, _, message in pair.got[2]] == [("stream", True)]
    pair.network.partition(20, 100, [1])
    pair.told.clear()
    pair.send("too late")
    pair.scheduler.run_until(200)
    assert pair.told == [(35.0, False)] and len(pair.got[2]) == 1


def test_a_one_way_cut_lets_the_others_in() -> None:
    """Half detached: it hears and is not heard."""
    pair = Pair()
    pair.network.partition(0, 100, [1], one_way=True)
    pair.send("out", DATAGRAM)
    pair.network.send(2, 1, "in", carriage=DATAGRAM)
    pair.scheduler.run_until(10)
    assert pair.got[2] == [] and len(pair.got[1]) == 1


def test_a_stalled_node_gets_everything_when_it_thaws() -> None:
    """Messages and timers, in the order in which they came up."""
    pair = Pair()
    happened: list[tuple[str, float]] = []
    clock = pair.stations[2].clock
    verifyObject(IReactorTime, clock)
    clock.callLater(5, lambda: happened.append(("timer", pair.scheduler.now)))
    pair.network.stall(2, 1, 31)
    pair.scheduler.run_until(2)
    pair.send("late")
    pair.scheduler.run_until(30)
    assert pair.got[2] == [] and happened == []
    assert [arrived for _, arrived in pair.told] == [False]
    pair.scheduler.run_until(40)
    assert pair.got[2] == [(31, 1, "late")] and happened == [("timer", 31)]
    assert len(pair.told) == 1, "told once"


def test_clocks_go_their_own_way() -> None:
    """A wall clock may be wrong, a monotonic one may drift, and sleeps with its machine."""
    pair = Pair()
    one, two = pair.stations[1], pair.stations[2]
    one.wall_offset = -3600.0
    two.clock.drift = 0.01
    pair.network.stall(1, 100, 600, asleep=True)
    fired: list[float] = []
    two.clock.callLater(101, lambda: fired.append(pair.scheduler.now))
    pair.scheduler.run_until(1_000)
    assert two.wall() - one.wall() == 3600
    assert two.clock.seconds() == pytest.approx(1_010)
    assert one.clock.seconds() == pytest.approx(500)
    assert fired == [pytest.approx(100)]


def test_a_crashed_node_is_silent() -> None:
    """Nothing of its own runs any more, and its senders are told in the end."""
    pair = Pair()
    fired: list[int] = []
    pair.stations[2].clock.callLater(5, fired.append, 1)
    pair.network.detach(2)
    pair.send("nobody")
    pair.scheduler.run_until(100)
    assert fired == [] and pair.told == [(15.0, False)]


def test_a_narrow_uplink_delays() -> None:
    """Ten messages of a thousand bytes at a thousand bytes a second."""
    pair = Pair(LinkModel(bandwidth=1_000))
    for _ in range(10):
        pair.send(b"x" * 1_000)
    pair.scheduler.run_until(9.9)
    assert len(pair.got[2]) <= 9
    pair.scheduler.run_until(15)
    assert len(pair.got[2]) == 10


def test_the_luck_of_a_link_is_its_own() -> None:
    """More traffic elsewhere changes nothing here; another seed changes everything."""
    alone, busy, other = Pair(seed=7), Pair(seed=7), Pair(seed=8)
    for pair in (alone, busy, other):
        for number in range(20):
            pair.send(number)
            if pair is busy:
                pair.network.send(2, 1, number)
        pair.scheduler.run_until(60)
    assert alone.got[2] == busy.got[2] != other.got[2]
    assert alone.network.digest() != other.network.digest()


def test_sources_are_named_and_independent() -> None:
    """A name always gives the same numbers, and different names different ones."""
    tree = RngTree(3)
    assert tree.node(5).random() == RngTree(3).node(5).random()
    assert len({tree.node(n).random() for n in range(100)}) == 100
    assert tree.subtree("run", 1).seed != tree.subtree("run", 2).seed
    draws = [draw for n in range(500) for draw in tree.link(1, 2, n)]
    assert statistics.mean(draws) == pytest.approx(0.5, abs=0.02)
    assert min(draws) > 0 and max(draws) < 1
