"""Two connections under any order of events that Hypothesis can think of."""

from __future__ import annotations

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pilot.stream.config import StreamConfig
from pilot.stream.connection import Connection, Segment
from pilot.stream.events import CloseCause, Closed, Event, PeerFinished
from pilot.wire.packet import FLAG_ACK, FLAG_SYN

ENDS = st.sampled_from(("near", "far"))
WINDOW = 48 * 1024


class Side:
    """One end, what its program wrote and read, and the packets on their way to it."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.written = bytearray()
        self.got = bytearray()
        self.events: list[Event] = []
        self.closed_write = False
        self.coming: list[Segment] = []

    @property
    def closed(self) -> Closed | None:
        found = [event for event in self.events if isinstance(event, Closed)]
        assert len(found) <= 1
        return found[0] if found else None

    @property
    def read_end(self) -> bool:
        ends = sum(isinstance(event, PeerFinished) for event in self.events)
        assert ends <= 1
        return ends == 1


class TwoEnds(RuleBasedStateMachine):
    """Writes, reads, closes, losses, repetitions, changes of order and of time, as they come."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 500.0
        self.sides = {"near": Side(), "far": Side()}
        self.aborted = False
        self.rng = random.Random(0)
        self.config = StreamConfig(receive_window=WINDOW)

    def other(self, name: str) -> Side:
        return self.sides["far" if name == "near" else "near"]

    @initialize(modern=st.booleans(), seed=st.integers(0, 1000))
    def dial(self, modern: bool, seed: int) -> None:
        self.rng = random.Random(seed)
        near = Connection.dial(self.config, self.now, self.rng, offer_modern=modern)
        near.segment_limit = 700
        self.sides["near"].connection = near

    def settle(self, name: str) -> None:
        side = self.sides[name]
        connection = side.connection
        if connection is None:
            return
        side.events += connection.take_events()
        self.other(name).coming += connection.transmit(self.now, 40)
        side.events += connection.take_events()

    def deliver(self, name: str, segment: Segment) -> None:
        side = self.sides[name]
        if side.connection is not None:
            side.connection.segment_received(*segment, self.now)
        elif segment.flags & (FLAG_SYN | FLAG_ACK) == FLAG_SYN:
            side.connection = Connection.accept(self.config, self.now, self.rng, segment)
            side.connection.segment_limit = 700

    # -- rules ---------------------------------------------------------------------------------

    @rule(name=ENDS, size=st.sampled_from((1, 50, 699, 700, 3000, 20_000)), unit=st.booleans())
    def write(self, name: str, size: int, unit: bool) -> None:
        side = self.sides[name]
        connection = side.connection
        if (
            connection is None
            or side.closed_write
            or connection.state
            not in (
                "SYN_SENT",
                "ESTABLISHED",
                "CLOSE_WAIT",
            )
        ):
            return
        data = self.rng.randbytes(size)
        side.written += data
        (connection.write_unit if unit else connection.write)(data)
        self.settle(name)

    @rule(name=ENDS)
    def read(self, name: str) -> None:
        side = self.sides[name]
        if side.connection is not None:
            for piece in side.connection.take_received():
                side.got += piece
            self.settle(name)

    @rule(name=ENDS, position=st.integers(0, 5))
    def arrive(self, name: str, position: int) -> None:
        coming = self.sides[name].coming
        if coming:
            self.deliver(name, coming.pop(min(position, len(coming) - 1)))
            self.settle(name)

    @rule(name=ENDS, most=st.integers(1, 40))
    def arrive_in_a_batch(self, name: str, most: int) -> None:
        coming = self.sides[name].coming
        batch = coming[:most]
        del coming[:most]
        for segment in batch:
            self.deliver(name, segment)
        self.settle(name)

    @rule(name=ENDS, position=st.integers(0, 5))
    def arrive_and_stay(self, name: str, position: int) -> None:
        coming = self.sides[name].coming
        if coming:
            self.deliver(name, coming[min(position, len(coming) - 1)])
            self.settle(name)

    @rule(name=ENDS, position=st.integers(0, 5))
    def get_lost(self, name: str, position: int) -> None:
        coming = self.sides[name].coming
        if coming:
            del coming[min(position, len(coming) - 1)]

    @rule(seconds=st.sampled_from((0.0005, 0.01, 0.1, 0.7)))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        for name, side in self.sides.items():
            if side.connection is not None:
                side.connection.wake(self.now)
                self.settle(name)

    @rule(name=ENDS)
    def say_goodbye(self, name: str) -> None:
        side = self.sides[name]
        if side.connection is not None and not side.closed_write:
            side.closed_write = True
            side.connection.close_write()
            self.settle(name)

    @precondition(lambda self: not self.aborted)
    @rule(name=ENDS, really=st.integers(0, 15))
    def abort(self, name: str, really: int) -> None:
        side = self.sides[name]
        if not really and side.connection is not None:
            self.aborted = True
            side.connection.abort()
            self.settle(name)

    # -- what must hold ------------------------------------------------------------------------

    @invariant()
    def bytes_are_right(self) -> None:
        for name, side in self.sides.items():
            assert self.other(name).written.startswith(side.got)

    @invariant()
    def ends_are_true(self) -> None:
        for name, side in self.sides.items():
            if side.connection is None:
                continue
            waiting = sum(map(len, side.connection.received))
            closed = side.closed
            clean = closed is not None and closed.cause is CloseCause.CLEAN
            if side.read_end or clean:
                assert len(side.got) + waiting == len(self.other(name).written)
            if closed is not None and not clean:
                assert self.aborted or closed.cause is not CloseCause.ABORTED

    @invariant()
    def memory_is_bounded(self) -> None:
        for side in self.sides.values():
            if side.connection is not None:
                held = sum(map(len, side.connection.received))
                assert held <= WINDOW + 256 * 4096 + 65_000

    def teardown(self) -> None:
        """From here on the link is good: everything arrives, or somebody has said why not."""
        for _ in range(4000):
            for name, side in self.sides.items():
                batch, side.coming = side.coming, []
                for segment in batch:
                    self.deliver(name, segment)
                if side.connection is not None:
                    side.connection.wake(self.now)
                    for piece in side.connection.take_received():
                        side.got += piece
                    if not side.closed_write:
                        side.closed_write = True
                        side.connection.close_write()
                    if len(side.got) == len(self.other(name).written):
                        side.connection.close_read()
                    self.settle(name)
            self.now += 0.05
            sides = self.sides.values()
            if all(side.connection is None or side.closed for side in sides):
                break
        else:
            raise AssertionError("they never come to an end")
        self.bytes_are_right()
        self.ends_are_true()


TestTwoEnds = TwoEnds.TestCase
TestTwoEnds.settings = settings(max_examples=250, stateful_step_count=50, deadline=None)
