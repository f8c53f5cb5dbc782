"""The sending half: what may leave when, and what has to leave again.

It joins the send buffer, the segments under way, the congestion window and the timers that guard
against silence.  It is the same in both dialects; they set its limits and put the words on the
wire.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from pilot.stream.config import StreamConfig
from pilot.stream.congestion import Congestion
from pilot.stream.flight import IN_FLIGHT, LOST, MAX_REORDER_FACTOR, Flight
from pilot.stream.outgoing import Outgoing
from pilot.stream.rtt import RttEstimator
from pilot.stream.segment import Segment
from pilot.stream.sequence import MASK, unwrap
from pilot.wire.packet import FLAG_ACK, FLAG_FIN

_FIN_ACK = FLAG_FIN | FLAG_ACK
_new_segment: Callable[..., Segment] = tuple.__new__  # without the keyword handling

UNLIMITED = 1 << 62
NEVER = float("inf")

#: Bytes of the congestion window that a segment takes up at least, however short it is.
LEAST_CHARGE = 256
#: Probes after silence, before the timer takes everything under way for lost.
TAIL_PROBES = 2
#: Least wait before a probe, beyond the peer's delay, seconds.
PROBE_FLOOR = 0.005
#: First and last gap between questions about a closed window, seconds.
PERSIST_MIN = 0.5
PERSIST_MAX = 30.0
#: A timeout noticed so much too late is given half as much again, seconds.
PAUSE = 0.02
#: Gap between bursts when nothing is known of the path, seconds.
BURST_GAP = 0.001


class Sender:
    """
    Everything that one connection has sent and still has to send.

    @ivar size: bytes of data in a full segment.
    @ivar edge: position at which the peer's window ends.
    @ivar max_segments: segments that may be outstanding.
    @ivar burst: segments that may leave back to back.
    @ivar strict_burst: whether no more may, even if as many were just acknowledged.
    @ivar guard: looks over payloads before they leave, and may cut them; None for no need.
    @ivar peer_delay: how long the peer may hold an acknowledgement back, seconds.
    @ivar progress_at: when the peer last acknowledged something new, or data first left.
    @ivar question_due: the peer's window has been closed for long enough to ask about it.
    @ivar probes: timeouts in a row without progress.
    @ivar closing: nothing more will be written, so that nothing has to wait for company.
    """

    __slots__ = (
        "_burst_at",
        "_config",
        "_credit",
        "_episode_end",
        "_excused",
        "_force",
        "_header",
        "_limited",
        "_persist_gap",
        "_recovery_end",
        "_round_end",
        "_short",
        "_tail_due",
        "_timer_base",
        "_undone",
        "burst",
        "closing",
        "congestion",
        "edge",
        "fast_repeats",
        "flight",
        "guard",
        "implausible",
        "max_segments",
        "outgoing",
        "peer_delay",
        "persist_due",
        "probe_wanted",
        "probes",
        "progress_at",
        "question_due",
        "rtt",
        "segments_sent",
        "size",
        "strict_burst",
        "timer_repeats",
    )

    def __init__(self, config: StreamConfig, first: int, now: float) -> None:
        self._config = config
        self.size = config.segment_size
        self.flight = Flight(first)
        self.outgoing = Outgoing()
        self.rtt = RttEstimator()
        self.congestion = Congestion(config.initial_window, config.congestion_limit, self.size)
        self.edge = first
        self.max_segments = UNLIMITED
        self.burst = max(2, config.burst // self.size)
        self.guard: Callable[[list[bytes]], list[bytes]] | None = None
        self.strict_burst = False
        self.peer_delay = 0.0
        self.closing = False
        self.progress_at = now
        self.probes = 0
        self.persist_due: float | None = None
        self.probe_wanted = False
        self.question_due = False
        self.segments_sent = self.timer_repeats = self.fast_repeats = self.implausible = 0
        self._persist_gap = 0.0
        self._timer_base = now
        self._force = 0  # segments that may leave whatever the windows say
        self._limited = False
        self._header = 0, 0, b""  # acknowledgement, window and prefix of what leaves now
        self._recovery_end = self._episode_end = self._round_end = first
        self._undone = 0
        self._excused = False
        self._short: deque[int] = deque()
        self._tail_due: float | None = None
        self._credit = 0.0
        self._burst_at = now - 1.0

    # -- acknowledgements ----------------------------------------------------------------------

    def acknowledged(
        self,
        number: int,
        blocks: tuple[tuple[int, int], ...],
        now: float,
        echo: float | None = None,
    ) -> bool:
        """
        The peer has said what it holds.

        @param number: its acknowledgement, as on the wire.
        @param blocks: its selective acknowledgements, as on the wire.
        @param echo: when the segment that it answers was sent, if it says so.
        @return: False for a number that is too old, or that was never sent, to be believed.
        """
        flight, rtt = self.flight, self.rtt
        position = unwrap(number, flight.first)
        if position < flight.first:
            return False
        if position > flight.next:
            self.implausible += 1
            return False
        delivered = flight.delivered
        spurious = flight.spurious
        smallest = rtt.smallest
        settled = 0
        advanced = position > flight.first
        if advanced:
            settled = flight.acknowledge(position, now, echo, smallest)
        for left, right in blocks:
            begin = unwrap(left, position)
            end = unwrap(right, position)
            if position < begin < end <= flight.next:
                flight.mark(begin, end, now, echo, smallest)
        fresh = flight.delivered - delivered
        if not (advanced or fresh):
            return True
        self.progress_at = self._timer_base = now
        self.probes = 0
        self._excused = False
        sample = flight.sample
        if echo is not None:
            sample = now - echo
        if sample is not None:
            flight.sample = None
            rtt.sample(sample, now)
            self.congestion.sampled(sample)
        self._credit += settled
        if flight.spurious != spurious:
            self._needless()
        if flight.suspicious:
            self.look_for_losses(now)
        charge = max(fresh, settled * LEAST_CHARGE)
        self.congestion.acked(charge, now, rtt.srtt, self._limited)
        if flight.first >= self._round_end:
            self._round_end = flight.next
            self.congestion.round_ended()
        return True

    def look_for_losses(self, now: float) -> None:
        """Judge what is under way by what has arrived."""
        flight, congestion = self.flight, self.congestion
        recovering = self.recovering
        lost = flight.find_losses(now, self.rtt.smallest, self.rtt.srtt, recovering)
        if not lost:
            return
        congestion.lost(lost)
        if not recovering:
            self._recovery_end = flight.next
            self._force = 1
            self.fast_repeats += 1
            self._undone = 0
        if flight.first >= self._episode_end and congestion.is_congestion(self.rtt.smallest):
            self._episode_end = flight.next
            congestion.slow_down()

    def _needless(self) -> None:
        """Repetitions proved needless: be slower to believe in a loss, and take the rest back."""
        flight = self.flight
        if flight.reorder_factor < MAX_REORDER_FACTOR:
            flight.reorder_factor += 1
        if not self._undone:
            self._undone = 1
            self._episode_end = flight.first
            self.congestion.undo()

    # -- sending -------------------------------------------------------------------------------

    def fill(
        self, out: list[Segment], now: float, limit: int, number: int, field: int, prefix: bytes
    ) -> None:
        """
        Add to C{out} what may leave now: repetitions first, then new data.

        @param limit: at most so many segments.
        @param number: acknowledgement number that they carry.
        @param field: window field that they carry.
        @param prefix: what their payloads begin with.
        """
        flight = self.flight
        self._header = number, field, prefix
        if self.probe_wanted and flight.starts:
            self._probe(out, now)
        if flight.lost:
            self._repeat(out, now, limit)
        if self.outgoing.unsent and not flight.lost and len(out) < limit:
            self._send_new(out, now, limit - len(out))

    def _probe(self, out: list[Segment], now: float) -> None:
        """Make the peer say what it has, by new data if there is any, else by old."""
        self.probe_wanted = False
        flight = self.flight
        if self.outgoing.unsent and self.edge > flight.next and not flight.lost:
            self._force = 1
            return
        find = flight.marks.rfind if self.probes == 1 else flight.marks.find
        index = find(IN_FLIGHT)
        if index >= 0:
            self.timer_repeats += 1
            self._again(out, index, now)

    def _repeat(self, out: list[Segment], now: float, limit: int) -> None:
        flight = self.flight
        window = self.congestion.window
        credit = self._burst_credit(now)
        index = flight.marks.find(LOST)
        while index >= 0 and len(out) < limit:
            if flight.pipe >= window or credit < 1.0:
                if not self._force:
                    break
                self._force -= 1
            credit -= 1.0
            self._again(out, index, now)
            index = flight.marks.find(LOST, index + 1)
        self._credit = max(credit, 0.0)

    def _again(self, out: list[Segment], index: int, now: float) -> None:
        flight = self.flight
        number, field, prefix = self._header
        payload = flight.payloads[index]
        sequence = flight.starts[index] & MASK
        flight.repeat(index, now)
        self._timer_base = now
        if payload is None:
            out.append(Segment(_FIN_ACK, sequence, number, field, prefix))
        else:
            data = payload[flight.overhead :]
            out.append(Segment(FLAG_ACK, sequence, number, field, prefix + data))

    def _send_new(self, out: list[Segment], now: float, limit: int) -> None:
        flight, outgoing, size = self.flight, self.outgoing, self.size
        number, field, prefix = self._header
        position = flight.next
        outstanding = len(flight.starts)
        if not outstanding and now - self._timer_base > self.rtt.rto:
            self.congestion.rested()
        credit = self._burst_credit(now)
        window = self.congestion.window
        # How many segments the congestion window has room for, and how many the peer.
        room = min(-((flight.pipe - window) // size), window // LEAST_CHARGE - outstanding)
        allowed = min(-((position - self.edge) // size), self.max_segments - outstanding)
        count = min(room, allowed, limit, int(credit))
        if count <= 0:
            self._limited = room <= min(allowed, 0)
            if allowed <= 0:
                if not outstanding and self.persist_due is None:
                    self._persist_gap = max(self.rtt.rto, PERSIST_MIN)
                    self.persist_due = now + self._persist_gap
                return
            if not self._force:
                return
            count = 1
            self._force = 0
        payloads = outgoing.cut(size, count, prefix, self._tail_may_leave(now))
        self._limited = outgoing.unsent > 0 and count == room
        if not payloads:
            return
        if self.guard is not None:
            payloads = self.guard(payloads)
        overhead = len(prefix)
        starts: list[int] = []
        for payload in payloads:
            starts.append(position)
            out.append(_new_segment(Segment, (FLAG_ACK, position & MASK, number, field, payload)))
            position += len(payload) - overhead
        if position - starts[-1] < size:
            self._short.append(position)
        flight.add(payloads, starts, position, now)
        self.segments_sent += len(payloads)
        self._credit = credit - len(payloads)
        self._timer_base = now
        self.persist_due = None
        if not outstanding:
            self.progress_at = now

    def _tail_may_leave(self, now: float) -> bool:
        """@return: whether an incomplete segment may leave without waiting for company."""
        short = self._short
        first = self.flight.first
        while short and short[0] <= first:
            short.popleft()
        if len(short) < self._config.short_segments or self.closing:
            self._tail_due = None
            return True
        if self._tail_due is None:
            self._tail_due = now + self._config.tail_delay
        elif self._tail_due <= now:
            self._tail_due = None
            return True
        return False

    def _burst_credit(self, now: float) -> float:
        """
        @return: segments that may leave back to back.  Time grants at most a burst.  An
            acknowledgement grants what it settles, which may be more if the peer can bear it.
        """
        credit, burst = self._credit, self.burst
        if credit < burst:
            credit = min(credit + burst * (now - self._burst_at) / self._burst_gap(), float(burst))
        elif self.strict_burst or now - self._burst_at > max(self.rtt.srtt, BURST_GAP):
            credit = float(burst)  # also when what was granted was not used at once
        self._burst_at = now
        self._credit = credit
        return credit

    def _burst_gap(self) -> float:
        """@return: seconds over which a whole burst is granted."""
        srtt = self.rtt.srtt
        if not srtt:
            return BURST_GAP
        return max(BURST_GAP, 0.8 * srtt * self.burst * self.size / self.congestion.window)

    def send_fin(
        self, out: list[Segment], now: float, number: int, field: int, prefix: bytes
    ) -> None:
        """End our direction with a FIN that takes a place in the order of the bytes."""
        flight = self.flight
        out.append(Segment(_FIN_ACK, flight.next & MASK, number, field, prefix))
        if not flight.starts:
            self.progress_at = now
        flight.add_fin(now)
        self._timer_base = now

    @property
    def recovering(self) -> bool:
        """@return: whether losses are being repaired."""
        return self.flight.first < self._recovery_end

    # -- timers --------------------------------------------------------------------------------

    @property
    def timeout(self) -> float:
        """@return: seconds of silence that the next timeout needs."""
        rtt, probes = self.rtt, self.probes
        if not rtt.srtt_ns:
            return min(rtt.rto * (1 << min(probes, 10)), self._config.max_rto)
        if probes < TAIL_PROBES:
            patience = max(2 * rtt.srtt, rtt.srtt + 4 * rtt.rttvar, PROBE_FLOOR)
            return min((patience + self.peer_delay) * (1 << probes), rtt.rto)
        return min(rtt.rto * (1 << min(probes - TAIL_PROBES, 10)), self._config.max_rto)

    def deadline(self) -> float:
        """@return: when L{wake} has something to do; infinite for never."""
        flight = self.flight
        due = NEVER
        if flight.starts:
            due = self._timer_base + self.timeout
            if flight.reorder_due is not None and flight.reorder_due < due:
                due = flight.reorder_due
        elif self.persist_due is not None:
            due = self.persist_due
        if (self.outgoing.unsent or flight.lost) and self._may_send():
            if self._credit < 1.0:
                due = min(due, self._burst_at + self._burst_gap() / self.burst)
            elif self._tail_due is not None and not flight.lost:
                due = min(due, self._tail_due)
        return due

    def _may_send(self) -> bool:
        """@return: whether the windows are open for what waits to be sent."""
        flight, window = self.flight, self.congestion.window
        if flight.pipe >= window or flight.lost:
            return flight.pipe < window
        places = min(self.max_segments, window // LEAST_CHARGE) - len(flight.starts)
        return self.edge > flight.next and places > 0

    def wake(self, now: float) -> None:
        """Look at the timers; what follows from them leaves with the next L{fill}."""
        flight = self.flight
        if flight.starts:
            if flight.reorder_due is not None and flight.reorder_due <= now:
                self.look_for_losses(now)
            due = self._timer_base + self.timeout
            if due > now:
                return
            if now - due > PAUSE and not self._excused:
                # We were busy elsewhere, and answers may wait unread: look at them first.
                self._excused = True
                self._timer_base += now - due + PAUSE / 2
            else:
                self._timed_out(now)
        elif self.persist_due is not None and self.persist_due <= now:
            self.question_due = True
            self._persist_gap = min(2 * self._persist_gap, PERSIST_MAX)
            self.persist_due = now + self._persist_gap

    def encourage(self, heard_at: float) -> None:
        """The peer was heard: after a long silence, ask again soon."""
        if self.probes > TAIL_PROBES + 1 and heard_at > self._timer_base:
            self.probes = TAIL_PROBES + 1

    def stood_still(self, late: float) -> None:
        """Nobody looked for C{late} seconds: the timers begin anew from where they were."""
        self._timer_base += late
        self.progress_at += late

    def _timed_out(self, now: float) -> None:
        flight = self.flight
        self._timer_base = now
        self._excused = False
        self.probes += 1
        if self.probes <= TAIL_PROBES and self.rtt.srtt_ns:
            self.probe_wanted = True
            return
        again = self.probes > TAIL_PROBES + 1
        flight.lose_all()
        self.congestion.timed_out(again)
        self._recovery_end = self._episode_end = flight.next
        self._undone = 0
        self._force = 1
        if flight.lost:
            self.timer_repeats += 1
