"""Our classic dialect against a reference node as the notes describe it, over bad links.

The reference may lose data by itself (it closes without waiting, it gives up after eight tries);
then our side has to say so.  What it must never do is to show wrong bytes, or a clean end that is
none.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

import pytest

from pilot.stream.config import StreamConfig
from pilot.stream.events import CloseCause
from tests.simulation.reference import ReferenceEnd
from tests.simulation.stream_pair import End, Link, LinkConfig, World

SCHEDULES = 300
BATCH = 75
PATIENCE = 600.0

KIB = 1024


class Meeting:
    """One of ours and a reference node, with a link in each direction."""

    def __init__(
        self,
        seed: int,
        there: LinkConfig | None = None,
        back: LinkConfig | None = None,
        *,
        config: StreamConfig | None = None,
        limit: int = 4096,
    ) -> None:
        rng = random.Random(seed)
        self.world = World()
        self.there = Link(self.world, there or LinkConfig(), rng)
        self.back = Link(self.world, back or there or LinkConfig(), rng)
        self.ours = End(self.world, self.there, config or StreamConfig(), rng)
        self.ours.segment_limit = limit
        self.reference = ReferenceEnd(self.world, self.back)
        self.there.receive = self.reference.packet
        self.back.receive = self.ours.packet

    def open(self) -> float:
        """Have our end dial; @return: the time at which it was connected."""
        self.ours.dial()
        assert self.world.run(self.world.now + 60, lambda: self.ours.established)
        return self.world.now

    def run(self, seconds: float) -> None:
        """Let time pass until our end is over."""
        self.world.run(self.world.now + seconds, lambda: self.ours.over)

    def let_pass(self, seconds: float) -> None:
        """Let that much time pass."""
        self.world.run(self.world.now + seconds, lambda: False)


@dataclass
class Ours:
    """Our program: writes, reads what it expects, and closes or waits for the other to close."""

    data: bytes
    expected: int
    closes: bool
    written: bool = False

    def turn(self, end: End) -> None:
        """One turn of the reactor."""
        connection = end.connection
        assert connection is not None
        if not end.established or end.over:
            return
        if not self.written:
            self.written = True
            connection.write(self.data)
        if self.closes and len(end.got) >= self.expected:
            connection.close_write()
            connection.close_read()


def draw_link(rng: random.Random) -> LinkConfig:
    """A link that a reference node can be expected to survive, more or less."""
    base = rng.choice((0.001, 0.01, 0.04))
    link = LinkConfig(delay=(base, base * rng.choice((1.0, 1.0, 1.5))))
    link.loss = rng.choice((0.0, 0.01, 0.05, 0.1))
    link.duplicate = rng.choice((0.0, 0.0, 0.05))
    link.corrupt = rng.choice((0.0, 0.0, 0.01))
    link.spacing = rng.choice((0.0, 0.00025))
    return link


def run_schedule(seed: int) -> str:
    """Play and judge one schedule; @return: how it ended for us."""
    rng = random.Random(seed)
    config = StreamConfig(receive_window=rng.choice((64 * KIB, 4096 * KIB)))
    limit = rng.choice((700, 1130, 4096))
    meeting = Meeting(seed, draw_link(rng), draw_link(rng), config=config, limit=limit)
    ours, reference = meeting.ours, meeting.reference
    sizes = [rng.choice((0, 5, 3000, 60_000, 300_000)) for _ in range(2)]
    mine, theirs = rng.randbytes(sizes[0]), rng.randbytes(sizes[1])
    if rng.random() < 0.2:
        mine = b"SACK\x01" * (len(mine) // 5)
    we_close = rng.random() < 0.5
    if rng.random() < 0.2:
        ours.read_pause = rng.choice((0.01, 0.1))
    program = Ours(mine, len(theirs), we_close)
    ours.on_turn = program.turn
    if rng.random() < 0.5:
        ours.dial()
    else:
        reference.dial()
    goodbye_said = False

    def finished() -> bool:
        nonlocal goodbye_said
        if reference.state == "ESTABLISHED" and not goodbye_said and ours.connection is not None:
            if not (we_close or len(reference.got) >= len(mine)):
                return False
            goodbye_said = True
            reference.write(theirs)
            if not we_close:
                reference.close()
        return ours.over or (ours.connection is None and reference.reset)

    meeting.world.run(meeting.world.now + PATIENCE, finished)
    assert bytes(reference.got) == mine[: len(reference.got)], seed
    assert bytes(ours.got) == theirs[: len(ours.got)], seed
    if ours.connection is None:
        return "no dial"
    assert ours.closed is not None, f"hangs: seed {seed}, {ours.connection.statistics()}"
    if ours.closed.cause is CloseCause.CLEAN:
        assert len(ours.got) == len(theirs), seed
        assert len(reference.got) == len(mine), seed
    return ours.closed.cause.value


@pytest.mark.parametrize("first", range(0, SCHEDULES, BATCH))
def test_bytes_are_right_and_ends_are_true(first: int) -> None:
    """Most streams end clean; the others say what went wrong."""
    ends = [run_schedule(seed) for seed in range(first, first + BATCH)]
    assert ends.count("clean") >= 0.9 * BATCH, ends


def test_its_idea_of_a_clean_transfer_is_ours() -> None:
    meeting = Meeting(1)
    program = Ours(bytes(100_000), 50_000, True)
    meeting.ours.on_turn = program.turn
    meeting.ours.dial()
    meeting.let_pass(0.1)
    meeting.reference.write(bytes(50_000))
    meeting.run(60.0)
    assert meeting.ours.closed is not None
    assert meeting.ours.closed.cause is CloseCause.CLEAN
    assert len(meeting.reference.got) == 100_000 and meeting.reference.state == "TIME_WAIT"
    assert meeting.reference.retransmits == meeting.reference.fast_retransmits == 0


def test_the_end_is_quiet() -> None:
    """A reference node answers every FIN with a FIN; we do not, so there is no storm."""
    meeting = Meeting(1)
    meeting.ours.on_turn = Ours(b"bye", 0, True).turn
    meeting.ours.dial()
    meeting.run(60.0)
    packets = meeting.there.sent + meeting.back.sent
    meeting.let_pass(60.0)
    assert meeting.there.sent + meeting.back.sent == packets < 12


def test_data_that_looks_like_a_list_of_blocks_arrives() -> None:
    """Towards it we cut after the S; from it we look twice before we believe in blocks."""
    meeting = Meeting(2)
    mine = b"SACK\x01" + bytes(8) + b"and more"
    theirs = b"SACK\x02" + bytes(16)
    meeting.ours.on_turn = Ours(mine, len(theirs), True).turn
    meeting.ours.dial()
    meeting.let_pass(0.5)
    meeting.reference.write(theirs)
    meeting.run(60.0)
    assert bytes(meeting.reference.got) == mine
    assert bytes(meeting.ours.got) == theirs


@pytest.mark.parametrize("seed", range(12))
def test_what_it_abandoned_by_closing_is_fetched(seed: int) -> None:
    """It closes with data lost on the way and stops its timers; duplicates make it repeat them."""
    meeting = Meeting(seed, LinkConfig(delay=(0.01, 0.01), loss=0.2))
    theirs = random.Random(seed).randbytes(40_000)
    meeting.open()
    meeting.reference.write(theirs)
    meeting.world.run(meeting.world.now + 5, lambda: len(meeting.ours.got) >= 30_000)
    meeting.reference.close()
    meeting.run(200.0)
    closed = meeting.ours.closed
    assert closed is not None
    if meeting.ours.read_end:
        assert bytes(meeting.ours.got) == theirs
    else:
        assert closed.cause is not CloseCause.CLEAN


def fetch(seed: int) -> float:
    """@return: virtual seconds for 1 MiB from a reference sender, one packet in twenty lost."""
    meeting = Meeting(seed, LinkConfig(delay=(0.02, 0.02), loss=0.05, spacing=0.00025))
    theirs = random.Random(seed).randbytes(1024 * KIB)
    start = meeting.open()
    meeting.reference.write(theirs)
    meeting.world.run(start + 100, lambda: len(meeting.ours.got) >= len(theirs))
    assert bytes(meeting.ours.got) == theirs
    return meeting.world.now - start


def test_it_finds_its_losses_by_our_help_not_by_its_timer() -> None:
    """With selective acknowledgements alone it takes 4.9 seconds."""
    assert sum(fetch(seed) for seed in range(3)) / 3 < 3.0


def test_a_program_that_pauses_does_not_make_it_reset() -> None:
    """It takes no window for closed; one segment in a few seconds keeps it patient."""
    meeting = Meeting(3, config=StreamConfig(receive_window=64 * KIB, idle_timeout=1000.0))
    theirs = random.Random(3).randbytes(400_000)
    ours = meeting.ours
    ours.dial()
    meeting.let_pass(0.1)
    ours.reading = False
    meeting.reference.write(theirs)
    meeting.let_pass(60.0)
    assert ours.closed is None and not meeting.reference.reset
    ours.reading = True
    ours.touch()
    meeting.world.run(meeting.world.now + 60, lambda: len(ours.got) >= len(theirs))
    assert bytes(ours.got) == theirs


def test_its_program_may_pause_too() -> None:
    """It goes deaf altogether; we neither give up early nor flood it."""
    meeting = Meeting(4)
    mine = random.Random(4).randbytes(3_000_000)
    meeting.ours.on_turn = Ours(mine, 0, True).turn
    meeting.ours.dial()
    meeting.let_pass(0.05)
    meeting.reference.reading = False
    meeting.let_pass(12.0)
    assert meeting.ours.closed is None
    meeting.reference.resume()
    meeting.run(120.0)
    assert bytes(meeting.reference.got) == mine


def test_a_burst_fits_its_socket_buffer() -> None:
    """25 full segments fit; we send at most 16 back to back, also after a pause."""
    meeting = Meeting(5, LinkConfig(delay=(0.005, 0.005), spacing=0.00003))
    ours, carry = meeting.ours, meeting.there.carry
    bursts: Counter[float] = Counter()

    def count(data: bytes) -> None:
        bursts[meeting.world.now] += 1
        carry(data)

    meeting.there.carry = count  # type: ignore[method-assign]
    ours.dial()
    mine = random.Random(5).randbytes(2_000_000)
    for half in (mine[:1_000_000], mine[1_000_000:]):
        meeting.let_pass(3.0)
        assert ours.connection is not None
        ours.connection.write(half)
        ours.touch()
    meeting.world.run(meeting.world.now + 30, lambda: len(meeting.reference.got) >= len(mine))
    assert bytes(meeting.reference.got) == mine
    assert max(bursts.values()) == 16


def test_an_idle_stream_lives_as_long_as_both_nodes_do() -> None:
    """It answers no keepalive but acknowledges what it has already, which keeps both ends alive."""
    meeting = Meeting(6)
    meeting.ours.dial()
    meeting.let_pass(3600.0)
    assert meeting.ours.closed is None
    assert meeting.reference.state == "ESTABLISHED"


def test_a_node_that_died_is_noticed() -> None:
    meeting = Meeting(7)
    meeting.ours.dial()
    meeting.let_pass(1.0)
    meeting.there.receive = meeting.back.receive = lambda data: None
    meeting.run(200.0)
    assert meeting.ours.closed is not None
    assert meeting.ours.closed.cause is CloseCause.IDLE


def test_a_refusal_is_told() -> None:
    meeting = Meeting(8)
    meeting.reference.refuses = True
    meeting.ours.dial()
    meeting.run(10.0)
    assert meeting.ours.closed is not None
    assert meeting.ours.closed.cause is CloseCause.REFUSED


def test_a_stale_connection_of_a_reference_acceptor_is_replaced() -> None:
    """Same ports, other numbers: its answer acknowledges the past, so that ends first."""
    meeting = Meeting(9)
    first = meeting.ours
    first.dial()
    meeting.let_pass(0.5)
    assert first.connection is not None
    first.connection.write(b"old life")
    first.touch()
    meeting.let_pass(0.5)
    second = End(meeting.world, meeting.there, first.config, random.Random(99))
    meeting.back.receive = second.packet
    second.on_turn = Ours(b"new life", 0, False).turn
    second.dial()
    meeting.let_pass(5.0)
    # The reference node forgot the old connection at our reset and took the next request.
    assert second.established
    assert bytes(meeting.reference.got).endswith(b"old lifenew life")
