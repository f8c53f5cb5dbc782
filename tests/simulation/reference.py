"""A reference node's end of a stream, as the protocol notes describe it, weaknesses included.

It is written from the notes alone, to play the other side in tests: what it does wrong, a real
peer does wrong, too.  Section numbers refer to the notes on the stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pilot.errors import WireError
from pilot.stream.rtt import NANO, RttEstimator
from pilot.stream.sequence import MASK, after
from pilot.wire.packet import (
    FLAG_ACK,
    FLAG_FIN,
    FLAG_RST,
    FLAG_SYN,
    PROTO_STREAM,
    RawPacket,
    decode_raw,
    encode_raw,
)
from pilot.wire.sack import decode_sack, encode_sack
from tests.simulation.stream_pair import Link, World

MSS = 4096
QUEUE = 512
REORDER = 128
MAX_CWND = 1_048_576
TRIES = 8
_ADDRESS = bytes(6)


@dataclass
class Unacked:
    """One segment under way."""

    sequence: int
    data: bytes
    sent_at: float
    tries: int = 1
    marked: bool = False


class ReferenceEnd:
    """
    One end.

    @ivar got: what its program has read.
    @ivar ended: its program has seen the end of the stream, clean or not.
    @ivar reset: the connection broke.
    @ivar reading: whether its program reads.
    """

    def __init__(self, world: World, out: Link) -> None:
        self.world = world
        self.out = out
        self.got = bytearray()
        self.reading = True
        self.refuses = False
        self.retransmits = self.fast_retransmits = 0
        self._blocked: list[RawPacket] = []
        self._life = 0
        self._fresh()

    def _fresh(self) -> None:
        """A connection of which nothing is known yet."""
        self._life += 1  # timers of the one before mean nothing any more
        self.state = "CLOSED"
        self.ended = self.reset = False
        self._inbox: list[bytes] = []
        self._outbox = bytearray()
        self._close_wanted = False
        self._expected = 0
        self._next = 0
        self._early: dict[int, bytes] = {}
        self._unacked: list[Unacked] = []
        self._last_ack = 0
        self._duplicates = 0
        self._cwnd = 10 * MSS
        self._ssthresh = MAX_CWND // 2
        self._peer_window = 0
        self._rtt = RttEstimator()
        self._rto = 1.0
        self._recovery: int | None = None
        self._guard: float | None = None
        self._ack_count = 0
        self._ack_timer = 0
        self._nagle_timer = 0
        self._probe_gap = 0.5
        self._probe_timer = 0
        self._active_at = self.world.now

    # -- the program ---------------------------------------------------------------------------

    def dial(self) -> None:
        """Open a connection."""
        self.state = "SYN_SENT"
        self._request(iter((1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0)))

    def _request(self, gaps: Iterator[float]) -> None:
        if self.state != "SYN_SENT":
            return
        gap = next(gaps, None)
        if gap is None:
            self.state, self.reset = "CLOSED", True
            return
        self._send(FLAG_SYN, 0, 0, QUEUE)
        self._after(gap, lambda: self._request(gaps))

    def write(self, data: bytes) -> None:
        """The program writes; what does not fit the window waits."""
        self._outbox += data
        self._pump()

    def close(self) -> None:
        """The program closes, once all it wrote has left (not: arrived)."""
        self._close_wanted = True
        self._pump()

    def resume(self) -> None:
        """The program reads on."""
        self.reading = True
        self._drain()

    # -- sending (7, 10, 11) -------------------------------------------------------------------

    def _window_open(self) -> bool:
        in_flight = sum(len(each.data) for each in self._unacked)
        window = self._cwnd
        if self._peer_window and self._peer_window < window:
            window = self._peer_window
        return in_flight < window

    def _pump(self) -> None:
        if self.state != "ESTABLISHED":
            return
        while len(self._outbox) >= MSS and self._window_open():
            self._segment(MSS)
        if 0 < len(self._outbox) < MSS and self._window_open():
            if not self._unacked:
                self._segment(len(self._outbox))
            elif not self._nagle_timer:
                self._nagle_timer = 1
                self._after(0.04, self._nagle_over)
        if self._outbox and not self._window_open() and not self._probe_timer:
            self._arm_probe()
        if self._close_wanted and not self._outbox:
            self._send(FLAG_FIN, self._next, 0, 0)
            self._wait()

    def _nagle_over(self) -> None:
        self._nagle_timer = 0
        if self.state == "ESTABLISHED" and self._outbox and self._window_open():
            self._segment(min(len(self._outbox), MSS))
        self._pump()

    def _arm_probe(self) -> None:
        self._probe_timer += 1
        mine = self._probe_timer

        def probe() -> None:
            if mine == self._probe_timer and self._outbox and self.state == "ESTABLISHED":
                self._send(FLAG_ACK, self._next, self._expected, self._free())
                self._probe_gap = min(2 * self._probe_gap, 30.0)
                self._arm_probe()

        self._after(self._probe_gap, probe)

    def _segment(self, size: int) -> None:
        data = bytes(self._outbox[:size])
        del self._outbox[:size]
        self._unacked.append(Unacked(self._next, data, self.world.now))
        sequence, self._next = self._next, (self._next + size) & MASK
        self._ack_count = 0
        self._ack_timer += 1
        self._active_at = self.world.now
        self._send(FLAG_ACK, sequence, self._expected, self._free(), data)

    def _tick(self) -> None:
        if self.state != "ESTABLISHED":
            return
        self._after(0.1, self._tick)
        now = self.world.now
        first = next((each for each in self._unacked if not each.marked), None)
        if first is None or now - first.sent_at <= self._rto:
            return
        if self._guard is not None and now - self._guard < self._rto:
            return
        if first.tries >= TRIES:
            self._send(FLAG_RST, 0, 0, 0)
            self._break()
            return
        self._again(first)
        self.retransmits += 1
        self._guard = now
        if self._recovery is None:
            self._ssthresh = max(self._cwnd // 2, MSS)
            self._cwnd = 10 * MSS
            self._recovery = self._next
            self._rto = min(2 * self._rto, 10.0)

    def _again(self, segment: Unacked) -> None:
        segment.tries += 1
        segment.sent_at = self.world.now
        self._send(FLAG_ACK, segment.sequence, self._expected, self._free(), segment.data)

    def _acknowledged(self, number: int, pure: bool) -> None:
        if number == 0 or after(self._last_ack, number):
            return
        if number == self._last_ack:
            if pure:
                self._duplicates += 1
                if self._duplicates == 3:
                    self.fast_retransmits += 1
                    first = next((each for each in self._unacked if not each.marked), None)
                    if first is not None:
                        self._again(first)
                    self._ssthresh = max(self._cwnd // 2, MSS)
                    self._cwnd = self._ssthresh + 3 * MSS
                elif self._duplicates > 3:
                    self._cwnd = min(self._cwnd + MSS, MAX_CWND)
            return
        acked = (number - self._last_ack) & MASK
        self._last_ack = number
        self._duplicates = 0
        self._guard = None
        self._probe_gap = 0.5
        self._probe_timer += 1
        if self._recovery is not None and not after(self._recovery, number):
            self._recovery = None
        rest = []
        for each in self._unacked:
            end = (each.sequence + len(each.data)) & MASK
            if after(end, number):
                rest.append(each)
            elif each.tries == 1 and not each.marked:
                self._rtt.sample_ns(int((self.world.now - each.sent_at) * NANO))
                self._rto = self._rtt.rto_ns / NANO
        for each in rest:
            each.marked = False
        self._unacked = rest
        if self._cwnd < self._ssthresh:
            self._cwnd += acked
        else:
            self._cwnd += max(1, MSS * acked // self._cwnd)
        self._cwnd = min(self._cwnd, MAX_CWND)
        if not rest and self._nagle_timer:
            self._nagle_over()

    # -- receiving (3, 8, 9, 11) ---------------------------------------------------------------

    def packet(self, data: bytes) -> None:
        """A datagram has arrived; while the worker is blocked it waits with all others."""
        try:
            raw = decode_raw(data)
        except WireError:
            return
        self._blocked.append(raw)
        del self._blocked[8192:]
        self._work()

    def _work(self) -> None:
        while self._blocked and not self._deaf():
            self._handle(self._blocked.pop(0))

    def _deaf(self) -> bool:
        return len(self._inbox) >= QUEUE and not self.reading

    def _handle(self, raw: RawPacket) -> None:
        flags = raw.flags
        if flags & (FLAG_SYN | FLAG_ACK) == FLAG_SYN:
            self._syn(raw)
        elif self.state == "CLOSED":
            return
        elif flags & FLAG_SYN:
            if self.state == "SYN_SENT":
                self._expected = (raw.sequence + 1) & MASK
                self._peer_window = raw.window * MSS
                self._next = 1
                self._open()
                self._send(FLAG_ACK, self._next, self._expected, self._free())
                self._pump()
        elif flags & FLAG_FIN:
            self._send(FLAG_FIN | FLAG_ACK, self._next, (raw.sequence + 1) & MASK, 0)
            self._wait()
        elif flags & FLAG_RST:
            self._break()
        elif flags & FLAG_ACK:
            self._segment_received(raw)

    def _syn(self, raw: RawPacket) -> None:
        if self.refuses:
            self._send(FLAG_RST, 0, 0, 0)
            return
        if self.state == "CLOSED":
            self._fresh()
            self._expected = (raw.sequence + 1) & MASK
            self._peer_window = raw.window * MSS
            self._next = 1
            self._send(FLAG_SYN | FLAG_ACK, 0, self._expected, QUEUE)
            self._open()
            self._pump()
        elif self.state != "CLOSED":
            self._send(FLAG_SYN | FLAG_ACK, (self._next - 1) & MASK, self._expected, self._free())

    def _open(self) -> None:
        self.state = "ESTABLISHED"
        self._active_at = self.world.now
        self._after(0.1, self._tick)
        self._after(15.0, self._sweep)

    def _segment_received(self, raw: RawPacket) -> None:
        self._active_at = self.world.now
        self._peer_window = raw.window * MSS
        payload = raw.payload
        self._acknowledged(raw.acknowledgement, not payload)
        blocks = decode_sack(payload)
        if blocks is not None:
            for each in self._unacked:
                end = each.sequence + len(each.data)
                if any(left <= each.sequence and end <= right for left, right in blocks):
                    each.marked = True
        elif payload and self.state == "ESTABLISHED":
            self._data(raw.sequence, payload)
        self._pump()

    def _data(self, sequence: int, payload: bytes) -> None:
        if sequence == self._expected:
            self._deliver(payload)
            while self._expected in self._early:
                self._deliver(self._early.pop(self._expected))
        elif after(sequence, self._expected) and len(self._early) < REORDER:
            self._early.setdefault(sequence, payload)
        if self._early:
            self._acknowledge()
            return
        self._ack_count += 1
        if self._ack_count >= 2:
            self._acknowledge()
        else:
            self._ack_timer += 1
            mine = self._ack_timer

            def late() -> None:
                if mine == self._ack_timer:
                    self._acknowledge()

            self._after(0.04, late)

    def _deliver(self, payload: bytes) -> None:
        self._expected = (self._expected + len(payload)) & MASK
        self._inbox.append(payload)
        self._drain()

    def _drain(self) -> None:
        if self.reading:
            for payload in self._inbox:
                self.got += payload
            self._inbox.clear()
        if self._blocked:
            self._after(0.0, self._work)

    def _acknowledge(self) -> None:
        self._ack_count = 0
        self._ack_timer += 1
        blocks: list[tuple[int, int]] = []
        for start in sorted(self._early):
            end = start + len(self._early[start])
            if blocks and start <= blocks[-1][1]:
                blocks[-1] = blocks[-1][0], max(end, blocks[-1][1])
            else:
                blocks.append((start, end))
        payload = encode_sack([(left, right & MASK) for left, right in blocks])
        self._send(FLAG_ACK, self._next, self._expected, self._free(), payload)

    # -- ends (12, 14) -------------------------------------------------------------------------

    def _sweep(self) -> None:
        if self.state != "ESTABLISHED":
            return
        self._after(15.0, self._sweep)
        idle = self.world.now - self._active_at
        if idle > 120.0:
            self._send(FLAG_FIN, self._next, 0, 0)
            self._wait()
        elif idle > 60.0:
            self._send(FLAG_ACK, self._next, self._expected, 0)

    def _wait(self) -> None:
        self.state = "TIME_WAIT"
        self.ended = True

    def _break(self) -> None:
        self.state = "CLOSED"
        self.ended = self.reset = True

    # -- helpers -------------------------------------------------------------------------------

    def _free(self) -> int:
        return max(QUEUE - len(self._inbox), 0)

    def _after(self, seconds: float, call: Callable[[], None]) -> None:
        life = self._life
        self.world.at(self.world.now + seconds, lambda: call() if life == self._life else None)

    def _send(
        self, flags: int, sequence: int, number: int, window: int, payload: bytes = b""
    ) -> None:
        self.out.carry(
            encode_raw(
                flags,
                PROTO_STREAM,
                _ADDRESS,
                _ADDRESS,
                1,
                2,
                sequence & MASK,
                number & MASK,
                window,
                payload,
            )
        )
