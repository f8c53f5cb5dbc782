"""Whole transfers over bad links: each byte arrives once, in order, or the stream says it failed.

Every seed draws a schedule of its own: sizes, dialect, links, programs, accidents.  A failure
names its seed; C{run_schedule(seed)} plays it again.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from pilot.stream.config import StreamConfig
from pilot.stream.events import CloseCause
from tests.simulation.stream_pair import End, LinkConfig, Pair

SUITE = 1200
SOAK = 6000
BATCH = 100

#: Virtual seconds after which a schedule counts as hung.
PATIENCE = 900.0

#: Unsent bytes above which a program waits before it writes more.
HIGH_WATER = 128 * 1024


class Numbers(random.Random):
    """Randomness whose first number, which becomes the initial sequence number, is given."""

    def __new__(cls, first: int, seed: int) -> Numbers:
        return super().__new__(cls)

    def __init__(self, first: int, seed: int) -> None:
        super().__init__(seed)
        self._first: int | None = first

    def getrandbits(self, k: int, /) -> int:
        """The given number first, random ones after."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return super().getrandbits(k)


@dataclass
class Program:
    """
    What sits on top of an end: writes C{data} in C{pieces}, reads C{expected} bytes, says goodbye.

    @ivar echo: writes back what it reads, instead of C{data}.
    @ivar early_end: ends its writing side at once, not when it has read everything.
    @ivar abort_at: resets the stream when it has read so many bytes.
    @ivar units: pieces must arrive as one segment each.
    """

    data: bytes
    expected: int
    pieces: list[int]
    echo: bool = False
    early_end: bool = True
    abort_at: int | None = None
    units: bool = False
    written: int = 0
    writes: int = 0
    said_goodbye: bool = False
    sent_units: list[bytes] = field(default_factory=list)

    def turn(self, end: End) -> None:
        """One turn of the reactor."""
        connection = end.connection
        assert connection is not None
        if not end.established or end.over:
            return
        if self.abort_at is not None and len(end.got) >= self.abort_at:
            connection.abort()
            return
        if self.echo:
            self.data = bytes(end.got)
        while self.written < len(self.data) and connection.unsent < HIGH_WATER:
            size = self.pieces[self.writes % len(self.pieces)]
            self.writes += 1
            piece = self.data[self.written : self.written + size]
            self.written += len(piece)
            if self.units:
                self.sent_units.append(piece)
                connection.write_unit(piece)
            else:
                connection.write(piece)
        all_written = self.written >= (self.expected if self.echo else len(self.data))
        all_read = len(end.got) >= self.expected
        if all_written and (self.early_end or all_read) and not self.said_goodbye:
            self.said_goodbye = True
            connection.close_write()
        if all_written and all_read and end.connection is not None:
            connection.close_read()


def draw_link(rng: random.Random) -> LinkConfig:
    """One direction of a link, good or bad."""
    base = rng.choice((0.0002, 0.002, 0.01, 0.04, 0.15))
    link = LinkConfig(delay=(base, base))
    if rng.random() < 0.5:
        link.delay = (base, base * rng.choice((1.05, 1.5, 3.0)))
    if rng.random() < 0.7:
        link.loss = rng.choice((0.005, 0.02, 0.05, 0.1, 0.2))
    if rng.random() < 0.4:
        link.duplicate = rng.choice((0.01, 0.1, 0.4))
    if rng.random() < 0.3:
        link.corrupt = rng.choice((0.01, 0.05))
    if rng.random() < 0.3:
        link.truncate = rng.choice((0.01, 0.05))
    if rng.random() < 0.4:
        link.spacing = rng.choice((0.00005, 0.00025, 0.001))
        if rng.random() < 0.5:
            link.queue = rng.choice((10, 25, 100))
    if rng.random() < 0.2:
        link.burst_loss = 0.005
    return link


@dataclass
class Schedule:
    """Everything that a seed decides."""

    pair: Pair
    near: Program
    far: Program
    lasting_outage: bool
    aborts: bool


def draw(seed: int) -> Schedule:
    """@return: the schedule of C{seed}."""
    rng = random.Random(seed)
    modern = rng.random() < 0.6
    there, back = draw_link(rng), draw_link(rng)
    lasting_outage = False
    if rng.random() < 0.25:
        begin = 1000.0 + rng.uniform(0.0, 1.5)
        length = rng.choice((0.2, 1.0, 5.0, 8.0, 500.0))
        lasting_outage = length > 5.0
        for link in rng.choice(([there], [back], [there, back])):
            link.outages.append((begin, begin + length))
    config = StreamConfig(
        receive_window=rng.choice((32, 256, 4096)) * 1024,
        idle_timeout=rng.choice((60.0, 120.0)),
    )
    pair = Pair(seed, there, back, config)
    near, far = pair.dialler, pair.acceptor
    near.offer_modern = modern
    near.segment_limit = far.segment_limit = rng.choice((300, 1130, 1130, 4096, 16000))
    for end in (near, far):
        if rng.random() < 0.3:
            end.rng = Numbers(rng.randrange(0xFFFFF000, 0x100000000), seed)
        if rng.random() < 0.25:
            end.read_pause = rng.choice((0.001, 0.05, 0.4))
    sizes = [rng.choice((0, 1, 700, 20_000, 150_000, 600_000)) for _ in range(2)]
    if near.read_pause or far.read_pause or near.segment_limit == 300:
        sizes = [min(size, 60_000) for size in sizes]
    shape = rng.choice(("one way", "echo", "both ways", "units"))
    if shape == "one way":
        sizes[1] = 0
    data = [rng.randbytes(size) for size in sizes]
    if rng.random() < 0.1 and sizes[0]:
        data[0] = (b"SACK\x01" + b"SACK\x02" + b"SACKSACK") * (sizes[0] // 18)
    pieces = [
        rng.choice(([65_536], [1, 10, 1000], [rng.randrange(1, 5000)], [100_000, 3]))
        for _ in range(2)
    ]
    if shape == "units":
        pieces = [[rng.randrange(1, 4000), rng.randrange(1, 4000)] for _ in range(2)]
    data = [d[:5000] if sum(p) / len(p) < 100 else d for d, p in zip(data, pieces, strict=True)]
    if shape == "echo":
        data[1] = data[0]
    programs = []
    for mine, theirs, cut in ((data[0], data[1], pieces[0]), (data[1], data[0], pieces[1])):
        program = Program(mine, len(theirs), cut, units=shape == "units")
        program.early_end = rng.random() < 0.7
        programs.append(program)
    if shape == "echo":
        programs[1].echo = True
        programs[1].data = b""
    if not (programs[0].early_end or programs[1].early_end):
        programs[0].early_end = True
    aborts = rng.random() < 0.1
    if aborts:
        victim = rng.choice(programs)
        victim.abort_at = rng.randrange(victim.expected + 1)
    near.on_turn, far.on_turn = programs[0].turn, programs[1].turn
    return Schedule(pair, programs[0], programs[1], lasting_outage, aborts)


def run_schedule(seed: int) -> Schedule:
    """Play the schedule of C{seed} and judge it."""
    schedule = draw(seed)
    pair, near, far = schedule.pair, schedule.near, schedule.far
    pair.dialler.dial()
    pair.run(
        PATIENCE,
        lambda: pair.dialler.over and (pair.acceptor.over or pair.acceptor.connection is None),
    )
    for end, program, other in (
        (pair.dialler, near, far),
        (pair.acceptor, far, near),
    ):
        if end.connection is None:
            assert pair.dialler.closed is not None and not pair.dialler.established
            continue
        what = f"seed {seed}: {end.closed}, {len(end.got)} of {program.expected} bytes"
        sent = other.data
        assert bytes(end.got) == sent[: len(end.got)], what
        assert end.closed is not None, f"hangs: {what}"
        whole = len(end.got) == program.expected
        if end.closed.cause is CloseCause.CLEAN or (end.read_end and not end.connection.received):
            assert whole, f"looks clean: {what}"
        if end.closed.cause is CloseCause.CLEAN:
            reader = pair.acceptor if end is pair.dialler else pair.dialler
            assert len(reader.got) >= program.written, f"looks delivered: {what}"
        else:
            excused = schedule.lasting_outage or schedule.aborts or not pair.dialler.established
            assert excused, f"fails: {what}"
        lookalike = other.data.startswith(b"SACK") and end.connection.dialect == "classic"
        if whole and other.units and not lookalike:
            assert end.units == other.sent_units, what
    return schedule


@pytest.mark.parametrize("first", range(0, SUITE, BATCH))
def test_every_byte_arrives_once_or_the_stream_says_that_it_failed(first: int) -> None:
    """Loss, duplicates, damage, outages, slow readers, resets: nothing wrong, no hang."""
    for seed in range(first, first + BATCH):
        run_schedule(seed)


@pytest.mark.soak
@pytest.mark.parametrize("first", range(100_000, 100_000 + SOAK, BATCH))
def test_more_schedules(first: int) -> None:
    """The same, for longer."""
    for seed in range(first, first + BATCH):
        run_schedule(seed)
