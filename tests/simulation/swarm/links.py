"""Links between simulated nodes, and the clocks and stalls of the nodes at their ends.

A message goes by one of two carriages.  A I{datagram} is lost, doubled or held back as the link
likes.  A I{stream} loses nothing: what the link lost is sent again after 0.4 s, 0.8 s, 1.6 s, ...,
arrives once and in order, and the sender learns whether it did.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from hashlib import blake2b
from statistics import NormalDist
from struct import Struct
from typing import Any

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from tests.simulation.swarm.rng import Draws, RngTree
from tests.simulation.swarm.scheduler import Call, HeapScheduler

#: Carriages.
STREAM, DATAGRAM = "stream", "datagram"

#: Unix seconds at which simulated time begins.
EPOCH = 1_795_000_000.0

_EVENT = Struct("<dqqq")
_inverse_normal = NormalDist().inv_cdf


@dataclass(frozen=True)
class LinkModel:
    """
    What a link does to a message.  Probabilities are per packet and direction.

    @ivar median: seconds on the way, the median of a log-normal distribution.
    @ivar sigma: its spread: standard deviation of the logarithm.
    @ivar loss: chance that a packet is lost for good.
    @ivar duplicate: chance that a datagram arrives twice.
    @ivar reorder: chance that a datagram is held back by up to C{held_back} seconds.
    @ivar bandwidth: bytes per second each node can send, or None for no limit.
    @ivar rto: seconds until a stream sends a lost packet again; doubles each time.
    @ivar give_up: seconds after which the sender on a stream is told that its message failed.
    """

    median: float = 0.080
    sigma: float = 0.5
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    held_back: float = 0.5
    bandwidth: float | None = None
    rto: float = 0.4
    give_up: float = 15.0


class Station:
    """
    A node's place in the network: its link end, its clocks and its stalls.

    Everything that happens to a node goes through here, so that a stalled node neither receives
    nor runs timers until it thaws, and then gets all of it in the order in which it came up.

    @ivar clock: what the node takes for its reactor's clock; seconds are monotonic.
    @ivar stalled: it stands still.
    @ivar gone: it has left the network for good.
    @ivar wall_offset: seconds its wall clock is wrong by; may be changed at any time.
    """

    __slots__ = (
        "_backlog",
        "_receive",
        "clock",
        "gone",
        "node_id",
        "scheduler",
        "stalled",
        "uplink_free",
        "wall_offset",
    )

    def __init__(
        self, scheduler: HeapScheduler, node_id: int, receive: Callable[[int, Any], object]
    ) -> None:
        self.scheduler, self.node_id = scheduler, node_id
        self.clock = NodeClock(self)
        self.wall_offset = 0.0
        self.stalled = self.gone = False
        self.uplink_free = 0.0
        self._receive = receive
        self._backlog: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

    def wall(self) -> float:
        """Unix seconds as this node's wall clock shows them."""
        return EPOCH + self.scheduler.now + self.wall_offset

    def happen(self, func: Callable[..., object], *args: Any) -> None:
        """Run something on the node, now or once it thaws; never once it is gone."""
        if self.gone:
            return
        if self.stalled:
            self._backlog.append((func, args))
        else:
            func(*args)

    def thaw(self) -> None:
        """Go on, with everything that came up meanwhile."""
        self.stalled = False
        backlog, self._backlog = self._backlog, []
        for func, args in backlog:
            self.happen(func, *args)

    def take(self, source: int, message: Any, done: Callable[[], None] | None) -> None:
        """A message has arrived; C{done} confirms it."""
        self._receive(source, message)
        if done is not None:
            done()


@implementer(IReactorTime)
class NodeClock:
    """
    One node's monotonic clock and timers.

    @ivar drift: how much faster than true time it runs; 1e-4 gains 0.1 ms each second.
    @ivar slept: seconds that the machine was suspended, which a monotonic clock does not count.
    """

    __slots__ = ("_start", "_station", "drift", "slept")

    def __init__(self, station: Station) -> None:
        self._station = station
        self._start = station.scheduler.now
        self.drift = self.slept = 0.0

    def seconds(self) -> float:
        """Monotonic seconds, as this node counts them."""
        true = self._station.scheduler.now
        if not self.drift and not self.slept:
            return true
        return self._start + (true - self._start - self.slept) * (1.0 + self.drift)

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: Any, **kw: Any
    ) -> Call:
        """As C{IReactorTime}; what comes due during a stall runs after it."""
        if kw:
            bare = callable

            def callable(*args: Any) -> object:
                return bare(*args, **kw)

        station = self._station
        return station.scheduler.callLater(
            delay / (1.0 + self.drift), station.happen, callable, *args
        )

    def getDelayedCalls(self) -> list[Call]:
        """The timers of all nodes: they share one scheduler."""
        return self._station.scheduler.getDelayedCalls()


class _Link:
    """What one direction between two nodes remembers."""

    __slots__ = ("carried", "last_arrival")

    def __init__(self) -> None:
        self.carried = 0
        self.last_arrival = 0.0


class Cut:
    """
    A stretch of time in which some nodes do not reach the others.

    @ivar side: the nodes on one side.
    @ivar one_way: only what leaves C{side} is lost; the rest gets in.
    """

    __slots__ = ("end", "one_way", "side", "start")

    def __init__(self, start: float, end: float, side: Collection[int], one_way: bool) -> None:
        self.start, self.end, self.side, self.one_way = start, end, frozenset(side), one_way

    def stops(self, source: int, destination: int, now: float) -> bool:
        """Whether a packet sent now does not get through."""
        if not self.start <= now < self.end:
            return False
        leaves, stays = source in self.side, destination in self.side
        return leaves and not stays if self.one_way else leaves != stays


class SwarmNetwork:
    """
    Carries messages between stations.

    @ivar link: the link between any two nodes without one of their own; may be changed at any time.
    @ivar counters: C{sent}, C{arrived}, C{lost}, C{duplicated}, C{retransmitted}, C{failed}, and
        C{bytes}, each counted per message.
    @ivar record: whether L{digest} follows the run; costs a microsecond a message.
    """

    def __init__(
        self,
        scheduler: HeapScheduler,
        rng: RngTree,
        link: LinkModel | None = None,
        *,
        record: bool = True,
    ) -> None:
        self.scheduler = scheduler
        self.link = link or LinkModel()
        self.counters: Counter[str] = Counter()
        self.record = record
        self._rng = rng
        self._stations: dict[int, Station] = {}
        self._links: dict[tuple[int, int], _Link] = {}
        self._own: dict[tuple[int, int], LinkModel] = {}
        self._cuts: list[Cut] = []
        self._log = blake2b(digest_size=16)

    # -- taking part ---------------------------------------------------------------------------

    def attach(self, node_id: int, receive: Callable[[int, Any], object]) -> Station:
        """
        Join the network.

        @param receive: called with the sender's node id and the message.
        @return: the node's station; it replaces one of the same id that has gone.
        """
        station = Station(self.scheduler, node_id, receive)
        self._stations[node_id] = station
        return station

    def detach(self, node_id: int) -> None:
        """The node crashes: nothing reaches it, and nothing of its own runs any more."""
        self._stations.pop(node_id).gone = True

    def station(self, node_id: int) -> Station | None:
        """@return: the station of a node that takes part."""
        return self._stations.get(node_id)

    # -- breaking things -----------------------------------------------------------------------

    def own_link(self, source: int, destination: int, link: LinkModel) -> None:
        """From C{source} to C{destination} (not back) this link counts."""
        self._own[source, destination] = link

    def partition(
        self, start: float, end: float, side: Collection[int], *, one_way: bool = False
    ) -> Cut:
        """Cut C{side} off from all others between these times; @return: the cut, C{end} movable."""
        cut = Cut(start, end, side, one_way)
        self._cuts.append(cut)
        return cut

    def stall(self, node_id: int, start: float, end: float, *, asleep: bool = False) -> None:
        """
        The node stands still between these times.

        @param asleep: the machine is suspended, so its monotonic clock stands still too.
        """
        self.scheduler.post(start, self._freeze, node_id)
        self.scheduler.post(end, self._thaw, node_id, end - start if asleep else 0.0)

    def _freeze(self, node_id: int) -> None:
        station = self._stations.get(node_id)
        if station is not None:
            station.stalled = True

    def _thaw(self, node_id: int, slept: float) -> None:
        station = self._stations.get(node_id)
        if station is not None:
            station.clock.slept += slept
            station.thaw()

    # -- carrying ------------------------------------------------------------------------------

    def digest(self) -> str:
        """@return: a hash over every message that arrived: when, where from, where to, its size."""
        return self._log.hexdigest()

    def send(
        self,
        source: int,
        destination: int,
        message: Any,
        *,
        carriage: str = STREAM,
        size: int = 0,
        done: Callable[[bool], None] | None = None,
    ) -> None:
        """
        Send a message on its way.

        @param message: bytes, or any object that nobody changes any more.
        @param size: its bytes, where it is not bytes itself.
        @param done: on a stream, told at the sender once whether the message arrived; never called
            for a datagram, whose fate nobody learns.
        """
        if isinstance(message, bytes):
            size = len(message)
        key = (source, destination)
        link = self._links.get(key)
        if link is None:
            link = self._links[key] = _Link()
        model = self._own.get(key, self.link) if self._own else self.link
        draws = self._rng.link(source, destination, link.carried)
        link.carried += 1
        counters = self.counters
        counters["sent"] += 1
        counters["bytes"] += size
        start = self.scheduler.now
        if model.bandwidth is not None:
            start = self._through_uplink(source, size / model.bandwidth)
        delay = model.median * math.exp(model.sigma * _inverse_normal(draws[0]))
        if carriage == STREAM:
            self._by_stream(key, message, size, start, delay, link, model, draws, done)
        else:
            self._by_datagram(key, message, size, start, delay, model, draws)

    def _through_uplink(self, source: int, seconds: float) -> float:
        """@return: when the last byte has left the sender."""
        station = self._stations.get(source)
        if station is None:
            return self.scheduler.now
        station.uplink_free = max(station.uplink_free, self.scheduler.now) + seconds
        return station.uplink_free

    def _by_datagram(
        self,
        key: tuple[int, int],
        message: Any,
        size: int,
        start: float,
        delay: float,
        model: LinkModel,
        draws: Draws,
    ) -> None:
        if draws[1] < model.loss or self._is_cut(key, start):
            self.counters["lost"] += 1
            return
        if draws[2] < model.reorder:
            delay += draws[3] * model.held_back
        self.scheduler.post(start + delay, self._arrive, key, message, size, None)
        if draws[4] < model.duplicate:
            self.counters["duplicated"] += 1
            again = start + delay + draws[5] * model.held_back
            self.scheduler.post(again, self._arrive, key, message, size, None)

    def _by_stream(
        self,
        key: tuple[int, int],
        message: Any,
        size: int,
        start: float,
        delay: float,
        link: _Link,
        model: LinkModel,
        draws: Draws,
        done: Callable[[bool], None] | None,
    ) -> None:
        losses = 0
        if draws[1] < model.loss:  # so many in a row, from one draw
            losses = int(math.log(draws[1]) / math.log(model.loss))
        sent, wait = start, model.rto
        while losses or self._is_cut(key, sent):
            if losses:
                losses -= 1
            self.counters["retransmitted"] += 1
            sent += wait
            wait *= 2.0
            if sent - start >= model.give_up:
                self._fail(key[0], start + model.give_up, done)
                return
        arrival = max(sent + delay, link.last_arrival)
        link.last_arrival = arrival
        outcome = None
        if done is not None:
            outcome = _Outcome(self, key, done, start + model.give_up, delay)
        self.scheduler.post(arrival, self._arrive, key, message, size, outcome)

    def _fail(self, source: int, when: float, done: Callable[[bool], None] | None) -> None:
        self.counters["failed"] += 1
        if done is not None:
            self.scheduler.post(when, self._tell, source, done, False)

    def _tell(self, source: int, done: Callable[[bool], None], arrived: bool) -> None:
        station = self._stations.get(source)
        if station is not None:
            station.happen(done, arrived)

    def _is_cut(self, key: tuple[int, int], now: float) -> bool:
        return bool(self._cuts) and any(cut.stops(*key, now) for cut in self._cuts)

    def _arrive(
        self, key: tuple[int, int], message: Any, size: int, outcome: _Outcome | None
    ) -> None:
        source, destination = key
        station = self._stations.get(destination)
        if station is None:
            self.counters["lost"] += 1
            if outcome is not None:
                outcome.fail()
            return
        self.counters["arrived"] += 1
        if self.record:
            self._log.update(_EVENT.pack(self.scheduler.now, source, destination, size))
        if station.stalled and outcome is not None:
            outcome.at_the_latest()
        station.happen(station.take, source, message, outcome and outcome.succeed)


class _Outcome:
    """What the sender of a stream message will hear, and hears once."""

    __slots__ = ("_back", "_done", "_key", "_network", "_patience")

    def __init__(
        self,
        network: SwarmNetwork,
        key: tuple[int, int],
        done: Callable[[bool], None],
        patience: float,
        back: float,
    ) -> None:
        self._network, self._key, self._patience, self._back = network, key, patience, back
        self._done: Callable[[bool], None] | None = done

    def succeed(self) -> None:
        """The receiver has taken it; the confirmation needs as long as the message did."""
        done, self._done = self._done, None
        if done is not None:
            network = self._network
            when = network.scheduler.now + self._back
            network.scheduler.post(when, network._tell, self._key[0], done, True)

    def fail(self) -> None:
        """Nobody is there."""
        done, self._done = self._done, None
        if done is not None:
            network = self._network
            when = max(self._patience, network.scheduler.now)
            network._fail(self._key[0], when, done)

    def at_the_latest(self) -> None:
        """The receiver stands still: it has failed unless it is taken in time."""
        network = self._network
        network.scheduler.post(max(self._patience, network.scheduler.now), self.fail)
