"""Two bare connections over a bad link, in virtual time: no reactor, no sockets, one seed decides.

The shell around each connection does what the node does, one turn at a time: hand in what
arrived, take events and data, send, sleep until the deadline.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from pilot.errors import WireError
from pilot.stream.config import StreamConfig
from pilot.stream.connection import Connection, Segment
from pilot.stream.events import Closed, Established, PeerFinished
from pilot.wire.packet import FLAG_ACK, FLAG_RST, FLAG_SYN, PROTO_STREAM, decode_raw, encode_raw

#: Turns without progress of time after which a test fails: somebody wakes in vain, again and again.
STANDSTILL = 20_000

_ADDRESS = bytes(6)


@dataclass
class LinkConfig:
    """
    One direction of a link.

    @ivar delay: least and greatest time under way, seconds; packets with different times overtake
        one another.
    @ivar loss: probability that a packet vanishes.
    @ivar duplicate: probability that it arrives twice.
    @ivar corrupt: probability that a byte of it is changed.
    @ivar truncate: probability that its end is cut off.
    @ivar spacing: least distance between two packets, seconds; what comes faster queues up.
    @ivar queue: packets that may queue up.
    @ivar burst_loss: probability that everything vanishes for a twentieth of a second.
    @ivar outages: spans of time in which nothing passes.
    """

    delay: tuple[float, float] = (0.01, 0.01)
    loss: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    truncate: float = 0.0
    spacing: float = 0.0
    queue: int = 1_000_000
    burst_loss: float = 0.0
    outages: list[tuple[float, float]] = field(default_factory=list)


class World:
    """Virtual time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Have C{call} called at C{when}."""
        heapq.heappush(self._events, (max(when, self.now), next(self._order), call))

    def run(self, until: float, done: Callable[[], bool]) -> bool:
        """@return: whether C{done} came true before C{until}."""
        events = self._events
        busy = 0
        while events and events[0][0] <= until:
            if done():
                return True
            when, _, call = heapq.heappop(events)
            busy = busy + 1 if when <= self.now else 0
            assert busy < STANDSTILL, f"busy without end at {self.now}"
            self.now = when
            call()
        return done()


class Link:
    """One direction between two ends."""

    def __init__(self, world: World, config: LinkConfig, rng: random.Random) -> None:
        self.config = config
        self.sent = self.dropped = 0
        self._world = world
        self._rng = rng
        self._free_at = world.now
        self._losing_until = world.now
        self.receive: Callable[[bytes], None] = lambda data: None

    def carry(self, data: bytes) -> None:
        """Send one packet on its way."""
        config, rng, world = self.config, self._rng, self._world
        self.sent += 1
        if any(start <= world.now < stop for start, stop in config.outages):
            self.dropped += 1
            return
        if config.burst_loss and rng.random() < config.burst_loss:
            self._losing_until = world.now + 0.05
        if world.now < self._losing_until:
            self.dropped += 1
            return
        if config.spacing:
            waiting = (self._free_at - world.now) / config.spacing
            if waiting > config.queue:
                self.dropped += 1
                return
            self._free_at = max(self._free_at, world.now) + config.spacing
        start = max(self._free_at, world.now)
        for _ in range(1 + (rng.random() < config.duplicate)):
            if rng.random() < config.loss:
                self.dropped += 1
                continue
            carried = data
            if rng.random() < config.corrupt:
                spot = rng.randrange(len(carried))
                changed = carried[spot] ^ (1 << rng.randrange(8))
                carried = carried[:spot] + bytes([changed]) + carried[spot + 1 :]
            if rng.random() < config.truncate:
                carried = carried[: rng.randrange(len(carried))]
            arrival = start + rng.uniform(*config.delay)
            world.at(arrival, lambda carried=carried: self.receive(carried))  # type: ignore[misc]


class End:
    """
    One end: a connection, the shell around it and a small program on top.

    @ivar got: everything that the program has read.
    @ivar units: the same in the pieces in which it came.
    @ivar established: the connection was opened.
    @ivar read_end: C{PeerFinished} was heard.
    @ivar closed: the final event, if it has come.
    """

    def __init__(self, world: World, out: Link, config: StreamConfig, rng: random.Random) -> None:
        self.world = world
        self.out = out
        self.config = config
        self.rng = rng
        self.connection: Connection | None = None
        self.got = bytearray()
        self.units: list[bytes] = []
        self.established = self.read_end = False
        self.closed: Closed | None = None
        self.segment_limit: int | None = None
        self.offer_modern = True
        self.reading = True
        self.read_pause = 0.0
        self.on_turn: Callable[[End], None] = lambda end: None
        self._settling = False
        self._timer_at = float("inf")

    def dial(self) -> None:
        """Open a connection."""
        self._adopt(
            Connection.dial(self.config, self.world.now, self.rng, offer_modern=self.offer_modern)
        )

    def _adopt(self, connection: Connection) -> None:
        self.connection = connection
        if self.segment_limit is not None:
            connection.segment_limit = self.segment_limit
        self.touch()

    def packet(self, data: bytes) -> None:
        """A datagram has arrived."""
        try:
            raw = decode_raw(data)
        except WireError:
            return
        segment = Segment(raw.flags, raw.sequence, raw.acknowledgement, raw.window, raw.payload)
        if segment.flags & (FLAG_SYN | FLAG_ACK) == FLAG_SYN and self.connection is None:
            self._adopt(Connection.accept(self.config, self.world.now, self.rng, segment))
        if self.closed is not None:
            if segment.payload and segment.flags == FLAG_ACK:
                self._send([Segment(FLAG_RST, 0, 0, 0, b"")])  # as a node does for what it forgot
        elif self.connection is not None:
            self.connection.segment_received(*segment, self.world.now)
            self.touch()

    def touch(self) -> None:
        """Settle at the end of this turn."""
        if not self._settling:
            self._settling = True
            self.world.at(self.world.now, self._settle)

    def _settle(self) -> None:
        self._settling = False
        connection = self.connection
        assert connection is not None
        now = self.world.now
        self._events()
        if self.reading and connection.received:
            self.read()
        self.on_turn(self)
        segments = connection.transmit(now)
        self._send(segments)
        if len(segments) >= 256:
            self.touch()
        self._events()
        deadline = connection.deadline()
        if deadline is not None and deadline < self._timer_at:
            self._timer_at = deadline
            self.world.at(deadline, self._wake)

    def _send(self, segments: list[Segment]) -> None:
        for flags, sequence, acknowledgement, window, payload in segments:
            self.out.carry(
                encode_raw(
                    flags,
                    PROTO_STREAM,
                    _ADDRESS,
                    _ADDRESS,
                    1,
                    2,
                    sequence,
                    acknowledgement,
                    window,
                    payload,
                )
            )

    def read(self) -> None:
        """The program takes what is there."""
        assert self.connection is not None
        units = self.connection.take_received()
        self.units += units
        for unit in units:
            self.got += unit
        if self.read_pause:
            self.reading = False
            self.world.at(self.world.now + self.read_pause, self._read_on)

    def _read_on(self) -> None:
        self.reading = True
        self.touch()

    def _wake(self) -> None:
        self._timer_at = float("inf")
        assert self.connection is not None
        self.connection.wake(self.world.now)
        self.touch()

    def _events(self) -> None:
        assert self.connection is not None
        for event in self.connection.take_events():
            if isinstance(event, Established):
                self.established = True
            elif isinstance(event, PeerFinished):
                self.read_end = True
            else:
                assert self.closed is None, (self.closed, event)
                self.closed = event

    @property
    def over(self) -> bool:
        """@return: whether the connection has come to its end."""
        return self.closed is not None


class Pair:
    """A dialling end and an accepting end, and the two links between them."""

    def __init__(
        self,
        seed: int,
        there: LinkConfig | None = None,
        back: LinkConfig | None = None,
        config: StreamConfig | None = None,
        accept_config: StreamConfig | None = None,
    ) -> None:
        rng = random.Random(seed)
        self.rng = rng
        self.world = World()
        config = config or StreamConfig()
        self.there = Link(self.world, there or LinkConfig(), rng)
        self.back = Link(self.world, back or there or LinkConfig(), rng)
        self.dialler = End(self.world, self.there, config, rng)
        self.acceptor = End(self.world, self.back, accept_config or config, rng)
        self.there.receive = self.acceptor.packet
        self.back.receive = self.dialler.packet

    def run(self, seconds: float, done: Callable[[], bool]) -> bool:
        """@return: whether C{done} came true within C{seconds} of virtual time."""
        return self.world.run(self.world.now + seconds, done)
