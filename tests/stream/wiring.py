"""Two connections wired back to back, for tests that look at single packets."""

from __future__ import annotations

import random
from collections.abc import Callable

from pilot.stream.config import StreamConfig
from pilot.stream.connection import Connection, Segment
from pilot.stream.events import Closed, Event
from pilot.wire.packet import FLAG_ACK, FLAG_FIN, FLAG_RST, FLAG_SYN

ACK, FIN, RST, SYN = FLAG_ACK, FLAG_FIN, FLAG_RST, FLAG_SYN

Filter = Callable[[Segment], bool]


def everything(segment: Segment) -> bool:
    """Let all packets pass."""
    return True


class Duo:
    """
    A dialling and an accepting connection and a clock.

    @ivar log: every packet that left, with the name of its sender.
    """

    def __init__(
        self, *, modern: bool = True, config: StreamConfig | None = None, limit: int = 1130
    ) -> None:
        self.config = config or StreamConfig()
        self.now = 1000.0
        self.limit = limit
        self.log: list[tuple[str, Segment]] = []
        self.events: dict[str, list[Event]] = {"near": [], "far": []}
        self.near = Connection.dial(self.config, self.now, random.Random(1), offer_modern=modern)
        self.near.segment_limit = limit
        self._far: Connection | None = None

    @property
    def far(self) -> Connection:
        """@return: the accepting end, once it exists."""
        assert self._far is not None
        return self._far

    def step(self, to_far: Filter = everything, to_near: Filter = everything) -> int:
        """Each end sends what it may, once; @return: how many packets left."""
        sent = 0
        for name, passes in (("near", to_far), ("far", to_near)):
            source = self.near if name == "near" else self._far
            if source is None:
                continue
            self.events[name] += source.take_events()
            segments = source.transmit(self.now)
            self.events[name] += source.take_events()
            sent += len(segments)
            for segment in segments:
                self.log.append((name, segment))
                if passes(segment):
                    self.deliver(name, segment)
        return sent

    def deliver(self, source: str, segment: Segment) -> None:
        """Hand a packet of C{source} to the other end."""
        if source == "far":
            self.near.segment_received(*segment, self.now)
        elif self._far is not None:
            self._far.segment_received(*segment, self.now)
        elif segment.flags == SYN:
            self._far = Connection.accept(self.config, self.now, random.Random(2), segment)
            self._far.segment_limit = self.limit

    def settle(self, to_far: Filter = everything, to_near: Filter = everything) -> None:
        """Exchange packets until nobody has anything to say."""
        for _ in range(10_000):
            if not self.step(to_far, to_near):
                return
        raise AssertionError("they never stop talking")

    def open(self) -> Duo:
        """Finish the handshake."""
        self.settle()
        assert self.near.state == self.far.state == "ESTABLISHED"
        self.log.clear()
        return self

    def sleep(
        self, seconds: float, to_far: Filter = everything, to_near: Filter = everything
    ) -> None:
        """Let time pass; both ends are woken when they asked for it, and speak."""
        end = self.now + seconds
        while True:
            ends = [each for each in (self.near, self._far) if each is not None]
            dues = [due for due in (each.deadline() for each in ends) if due is not None]
            if not dues or min(dues) > end:
                break
            self.now = max(self.now, min(dues))
            for each in ends:
                each.wake(self.now)
            self.settle(to_far, to_near)
        self.now = end

    def sent(self, name: str) -> list[Segment]:
        """@return: the packets that C{name} has sent since the log was cleared."""
        return [segment for source, segment in self.log if source == name]

    def closed(self, name: str) -> Closed | None:
        """@return: the final event of C{name}, if it has come."""
        found = [event for event in self.events[name] if isinstance(event, Closed)]
        assert len(found) <= 1
        return found[0] if found else None

    def heard(self, name: str, kind: type) -> int:
        """@return: how often C{name} was told an event of C{kind}."""
        return sum(isinstance(event, kind) for event in self.events[name])


def nothing(segment: Segment) -> bool:
    """Let no packet pass."""
    return False
