"""How a connection ends, in each dialect.

Modern: a FIN takes a place in the order of the bytes, is repeated like them, and ends one
direction.

Classic: a FIN ends both directions at once, is not ordered with the data, and its answer looks
like a FIN itself.  So ours waits until everything is acknowledged and the program reads no more;
the peer's is believed only when everything before it is here; and an answer is never answered.

@see: protocol notes, I{Closing}, I{How to behave}, I{The modern dialect}.
"""

from __future__ import annotations

from collections.abc import Callable

from pilot.stream.classic import Classic
from pilot.stream.config import StreamConfig
from pilot.stream.events import CloseCause, State
from pilot.stream.lifecycle import ILifecycle, Life
from pilot.stream.modern import Modern
from pilot.stream.receiving import Receiver
from pilot.stream.segment import Segment
from pilot.stream.sending import NEVER, Sender
from pilot.stream.sequence import MASK, unwrap
from pilot.wire.packet import FLAG_ACK, FLAG_FIN

#: Transmissions of a classic FIN.
FIN_TRIES = 5
#: How long acknowledgements may trail a classic FIN, seconds, and in round trips.
LATE_ACK = 1.0
LATE_ACK_TRIPS = 6
#: Least gap between questions for data that is missing before a classic FIN, seconds.
PULL_GAP = 0.1
#: How often to look whether the program has read the rest of a finished connection, seconds.
UNREAD_GAP = 1.0
#: Least gap between answers to repeated FINs, seconds.
ANSWER_GAP = 0.5

BreakOff = Callable[[CloseCause, str], None]


class OrderedClosing:
    """
    The ends of a modern connection.

    @ivar requested: the program has written its last byte.
    @ivar due: when L{wake} has something to do.
    """

    __slots__ = (
        "_break_off",
        "_config",
        "_dialect",
        "_discarded",
        "_fin_acknowledged",
        "_fin_position",
        "_life",
        "_machine",
        "_rx",
        "_tx",
        "due",
        "requested",
    )

    def __init__(
        self,
        config: StreamConfig,
        tx: Sender,
        rx: Receiver,
        dialect: Modern,
        machine: ILifecycle,
        life: Life,
        break_off: BreakOff,
    ) -> None:
        self._config = config
        self._tx = tx
        self._rx = rx
        self._dialect = dialect
        self._machine = machine
        self._life = life
        self._break_off = break_off
        self._discarded = 0
        self._fin_position: int | None = None
        self._fin_acknowledged = False
        self.requested = False
        self.due = NEVER

    @property
    def attention(self) -> bool:
        """@return: whether L{send} may have something to add."""
        return self.requested and self._fin_position is None

    def fin_received(self, flags: int, sequence: int, acknowledgement: int, now: float) -> None:
        """The peer ends its direction; its data up to there may still be missing."""
        rx = self._rx
        position = unwrap(sequence, rx.next)
        if rx.fin is None and rx.next <= position <= rx.next + rx.room:
            rx.fin = position
        rx.ack_now = True

    def check(self, now: float) -> None:
        """Notice what the last segments have completed."""
        rx, tx, machine = self._rx, self._tx, self._machine
        if rx.fin is not None and not self._dialect.fin_received and rx.next >= rx.fin:
            self._dialect.fin_received = 1
            rx.ack_now = True
            machine.peer_finished()
            self.linger(now)
        position = self._fin_position
        if position is not None and not self._fin_acknowledged and tx.flight.first > position:
            self._fin_acknowledged = True
            last = self._life.state == State.CLOSE_WAIT  # the peer, which ended first, lingers
            machine.finish_acknowledged()
            if last:
                self.due = now
            else:
                self.linger(now)
        if self.due <= now:
            self.wake(now)
        if not (self._fin_acknowledged and rx.discarding):
            return
        if not self._life.read_end_told:
            machine.reading_over()
            self.due = now + self._config.fin_timeout
            self._discarded = rx.discarded
        elif rx.discarded - self._discarded > rx.capacity:
            self._break_off(CloseCause.ABORTED, "the peer goes on sending to a closed stream")

    def linger(self, now: float) -> None:
        """The peer may still repeat what we have: stay and answer, for the full time anew."""
        if self._life.state == State.TIME_WAIT:
            self.due = now + self._config.time_wait

    def send(self, out: list[Segment], now: float) -> None:
        """Add our FIN as soon as all data has left."""
        tx = self._tx
        if self.requested and self._fin_position is None and not tx.outgoing.unsent:
            dialect = self._dialect
            self._fin_position = tx.flight.next
            tx.send_fin(out, now, dialect.number, dialect.window(), dialect.prefix(now))
            self._machine.finish()

    def wake(self, now: float) -> None:
        """The final wait is over: the peer was told, or it does not care."""
        if self.due > now:
            return
        if self._rx.received:
            self.due = now + UNREAD_GAP
        else:
            self.due = NEVER
            self._machine.lapse()

    def peer_left(self, now: float) -> bool:
        """
        The peer has forgotten the connection, or does not answer any more.

        @return: whether that is no loss, because all that is missing is the answer to our FIN.
        """
        unanswered = self._fin_position == self._tx.flight.first and not self._fin_acknowledged
        if self._dialect.fin_received and unanswered:
            self._fin_acknowledged = True
            self._machine.finish_acknowledged()
        if self._life.state != State.TIME_WAIT:
            return False
        self.due = now
        return True


class ClassicClosing:
    """
    The end of a classic connection.

    @ivar requested: the program has written its last byte.
    @ivar due: when L{wake} has something to do.
    """

    __slots__ = (
        "_answer",
        "_answered_at",
        "_break_off",
        "_config",
        "_dialect",
        "_fin_tries",
        "_gap_until",
        "_life",
        "_machine",
        "_peer_ended",
        "_pulled_next",
        "_pulls",
        "_resend",
        "_rx",
        "_tx",
        "due",
        "requested",
    )

    def __init__(
        self,
        config: StreamConfig,
        tx: Sender,
        rx: Receiver,
        dialect: Classic,
        machine: ILifecycle,
        life: Life,
        break_off: BreakOff,
    ) -> None:
        self._config = config
        self._tx = tx
        self._rx = rx
        self._dialect = dialect
        self._machine = machine
        self._life = life
        self._break_off = break_off
        self._answer = self._resend = False
        self._answered_at = float("-inf")
        self._fin_tries = 0
        self._gap_until: float | None = None
        self._pulled_next = -1
        self._pulls = 0
        self._peer_ended = False
        self.requested = False
        self.due = NEVER

    @property
    def attention(self) -> bool:
        """@return: whether L{send} may have something to add."""
        return self._answer or self._resend or self.requested or self._gap_until is not None

    # -- the peer's end ------------------------------------------------------------------------

    def fin_received(self, flags: int, sequence: int, acknowledgement: int, now: float) -> None:
        """The peer ends both directions."""
        rx = self._rx
        if acknowledgement and not flags & FLAG_ACK:
            self._tx.acknowledged(acknowledgement, (), now)
        if self._fin_tries and flags & FLAG_ACK:
            self._dialect.fin_acknowledged = True  # the answer to ours, which is never answered
            return
        position = unwrap(sequence, rx.next)
        if rx.fin is None and rx.next <= position <= rx.next + rx.capacity:
            rx.fin = position
            if position > rx.next:
                self._pulled_next = -1
                self._gap_until = self.due = now
        if not flags & FLAG_ACK and now - self._answered_at >= ANSWER_GAP:
            self._answer = True

    def check(self, now: float) -> None:
        """Notice what the last segments have completed."""
        rx, tx = self._rx, self._tx
        if self._life.state in (State.TIME_WAIT, State.CLOSED):
            return
        if self._dialect.fin_acknowledged:
            self._over(now)
        elif rx.fin is not None and rx.next >= rx.fin and not self._peer_ended:
            self._peer_ended = True
            self._gap_until = None
            if tx.outgoing.unsent:
                self._undelivered()
            elif tx.flight.starts:
                self.due = now + max(LATE_ACK, LATE_ACK_TRIPS * tx.rtt.srtt)
            else:
                self._over(now)
        elif self._peer_ended and not tx.flight.starts:
            self._over(now)

    def _over(self, now: float) -> None:
        self._machine.both_finished()
        self._resend = False
        self.linger(now)

    def linger(self, now: float) -> None:
        """The peer may still repeat what we have: stay and answer, for the full time anew."""
        if self._life.state == State.TIME_WAIT:
            self.due = now + self._config.time_wait

    def _undelivered(self) -> None:
        self._break_off(CloseCause.RESET, "the peer closed before it had taken everything")

    # -- our end -------------------------------------------------------------------------------

    def send(self, out: list[Segment], now: float) -> None:
        """Add our FIN, the answer to the peer's, and questions for what is missing before it."""
        tx, rx, dialect = self._tx, self._rx, self._dialect
        sequence = tx.flight.next & MASK
        if self._answer and rx.finished:
            self._answer = False
            self._answered_at = now
            number = ((rx.fin or 0) + 1) & MASK
            out.append(Segment(FLAG_ACK, sequence, number, dialect.window(), b""))
        if self._gap_until is not None and (self.due <= now or rx.next != self._pulled_next):
            self._pull(out, now)
        first = (
            self.requested
            and not self._fin_tries
            and not self._peer_ended
            and rx.discarding
            and not tx.outgoing.unsent
            and not tx.flight.starts
        )
        if first:
            dialect.fin_position = tx.flight.next
            self._machine.finish()
            self._machine.reading_over()
        if first or self._resend:
            self._resend = False
            self._fin_tries += 1
            self.due = now + min(tx.rtt.rto * (1 << (self._fin_tries - 1)), self._config.max_rto)
            # The reference does not look at the number; another one of ours need not wait for it.
            out.append(Segment(FLAG_FIN, sequence, dialect.number, 0, b""))

    def _pull(self, out: list[Segment], now: float) -> None:
        """
        Make a reference node, which has stopped its timers, repeat what we miss.

        It repeats its first missing segment at the third plain duplicate, but only once for an
        acknowledgement number.  If that did not help, a number inside the missing segment starts
        the count again; it settles nothing, since only segments covered whole are settled.
        """
        rx = self._rx
        if rx.next != self._pulled_next:
            self._pulled_next = rx.next
            self._pulls = 0
            self._gap_until = now + self._config.fin_gap_timeout
        out += self._dialect.pull(now, self._pulls)
        self._pulls += 1
        self.due = now + max(PULL_GAP, 2 * self._tx.rtt.srtt)

    # -- timers --------------------------------------------------------------------------------

    def wake(self, now: float) -> None:
        """Repeat what was not answered, or take the silence for what it is."""
        if self.due > now:
            return
        if self._life.state == State.TIME_WAIT:
            if self._rx.received:
                self.due = now + UNREAD_GAP
            else:
                self.due = NEVER
                self._machine.lapse()
        elif self._gap_until is not None:
            if self._gap_until <= now:
                self._break_off(
                    CloseCause.RESET, "the peer closed and what it had sent before did not arrive"
                )
        elif self._peer_ended:
            self._undelivered()
        elif self._fin_tries >= FIN_TRIES:
            self._over(now)  # everything was acknowledged; only the farewell was not answered
        elif self._fin_tries:
            self._resend = True
            self.due = NEVER

    def peer_left(self, now: float) -> bool:
        """
        The peer has forgotten the connection, or does not answer any more.

        @return: whether that is no loss, because both ends are done.
        """
        if self._life.state == State.TIME_WAIT:
            self.due = now
            return True
        return False
