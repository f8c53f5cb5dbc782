"""One connection: the way into the stream for a shell that has a clock and a way to send.

The shell hands in what arrives (L{Connection.segment_received}, for a whole batch), then settles
once: takes events and data, and sends what L{Connection.transmit} gives it.  It calls
L{Connection.wake} when L{Connection.deadline} has come; early and late are both harmless.

@see: protocol notes, I{How a compatible implementation should behave} and I{The modern dialect}.
"""

from __future__ import annotations

from typing import Any, Protocol

from pilot.errors import InvalidArgument
from pilot.stream.classic import Classic
from pilot.stream.closing import ClassicClosing, OrderedClosing
from pilot.stream.config import LARGEST_SEGMENT, StreamConfig
from pilot.stream.events import CloseCause, Closed, Event, State
from pilot.stream.lifecycle import Life, lifecycle_machine
from pilot.stream.liveness import Concern, Liveness
from pilot.stream.modern import Modern
from pilot.stream.opening import (
    Accepting,
    Dialing,
    initial_number,
    offer_payload,
    true_number,
)
from pilot.stream.receiving import Receiver
from pilot.stream.segment import Segment
from pilot.stream.sending import NEVER, Sender
from pilot.stream.sequence import MASK, unwrap
from pilot.stream.statistics import figures
from pilot.wire.options import Offer, decode_offer
from pilot.wire.packet import FLAG_ACK, FLAG_FIN, FLAG_RST, FLAG_SYN

__all__ = ["Connection", "Segment"]

_SYN_ACK = FLAG_SYN | FLAG_ACK

#: Segments that make an acknowledgement due at once.
ACK_EVERY = 2
#: A timer that fires so much too late proves that the process stood still, seconds.
STANDSTILL = 1.0
#: Most packets that one call of L{Connection.transmit} gives unless asked for another number.
DEFAULT_LIMIT = 256


class Random(Protocol):
    """Where unpredictable numbers come from; C{random.Random} provides it."""

    def getrandbits(self, k: int, /) -> int:
        """@return: C{k} random bits."""


class Connection:
    """
    A reliable stream between two ends.

    @ivar syn_transmissions: connection requests sent.
    @ivar ignored: packets that made no sense in the state they met.
    """

    __slots__ = (
        "_accepting",
        "_ack_due",
        "_aside",
        "_clock_start",
        "_closing",
        "_config",
        "_dialect",
        "_dialing",
        "_early_fin",
        "_fast",
        "_flowing",
        "_life",
        "_limit",
        "_liveness",
        "_machine",
        "_own_number",
        "_rx",
        "_tx",
        "ignored",
        "syn_transmissions",
    )

    def __init__(self, config: StreamConfig, now: float, rng: Random) -> None:
        """Use L{dial} or L{accept}."""
        self._config = config
        self._own_number = initial_number(rng.getrandbits(32))
        self._clock_start = rng.getrandbits(32)
        self._tx = Sender(config, self._own_number + 1, now)
        self._rx = Receiver(0, config.receive_window)
        self._dialect: Classic | Modern | None = None
        self._closing: ClassicClosing | OrderedClosing | None = None
        self._dialing: Dialing | None = None
        self._accepting: Accepting | None = None
        self._life = Life()
        self._machine = lifecycle_machine(self._life)
        self._limit = config.segment_size
        self._liveness = Liveness(config, self._tx, now)
        self._flowing = False  # data may move
        self._fast = False  # ... and the peer is known to know
        self._aside: list[Segment] = []  # leaves first, whatever the state
        self._ack_due = NEVER
        self._early_fin: int | None = None
        self.ignored = 0
        self.syn_transmissions = 0

    @classmethod
    def dial(
        cls, config: StreamConfig, now: float, rng: Random, *, offer_modern: bool = True
    ) -> Connection:
        """
        Ask for a connection; the first L{transmit} gives the request.

        @param offer_modern: whether to offer the modern dialect, which a peer may decline.
        """
        connection = cls(config, now, rng)
        clock_start = connection._clock_start if offer_modern and config.offer_modern else None
        connection._dialing = Dialing(config, connection._own_number, clock_start, now)
        connection._machine.dial()
        return connection

    @classmethod
    def accept(cls, config: StreamConfig, now: float, rng: Random, syn: Segment) -> Connection:
        """
        Accept a request that has passed the gate; the first L{transmit} gives the answer.

        @param syn: the request.
        """
        connection = cls(config, now, rng)
        connection._accepting = Accepting(config, connection._own_number, syn.sequence)
        connection._open(syn.sequence, syn.window, decode_offer(syn.payload), now)
        connection._machine.accept()
        return connection

    def _open(self, number: int, window: int, offer: Offer | None, now: float) -> None:
        """Both numbers are known: choose the dialect, and let data flow."""
        config, tx, rx = self._config, self._tx, self._rx
        rx.next = rx.start = number + 1
        machine, life = self._machine, self._life
        if offer is not None and config.offer_modern:
            modern = Modern(config, tx, rx, offer, self._clock_start, now)
            self._dialect = modern
            self._closing = OrderedClosing(config, tx, rx, modern, machine, life, self._break_off)
        else:
            classic = Classic(config, tx, rx, window)
            self._dialect = classic
            self._liveness.speaks_classic()
            self._closing = ClassicClosing(config, tx, rx, classic, machine, life, self._break_off)
        self._resize()
        self._flowing = True

    # -- what arrives --------------------------------------------------------------------------

    def segment_received(
        self,
        flags: int,
        sequence: int,
        acknowledgement: int,
        window: int,
        payload: bytes,
        now: float,
    ) -> None:
        """
        Take one packet of this connection; fields as on the wire.

        What follows from it shows in the events, in L{received} and in the next L{transmit}.
        """
        if flags == FLAG_ACK and self._fast:
            self._liveness.heard = now
            self._dialect.receive(  # type: ignore[union-attr]
                sequence, acknowledgement, window, payload, now
            )
        else:
            self._control_received(flags, sequence, acknowledgement, window, payload, now)

    def _control_received(
        self,
        flags: int,
        sequence: int,
        acknowledgement: int,
        window: int,
        payload: bytes,
        now: float,
    ) -> None:
        """Everything but plain data and acknowledgements of an open connection."""
        if self._life.state == State.CLOSED:
            return
        if flags == FLAG_ACK and self._flowing:
            self._confirm(payload, now)
            assert self._dialect is not None and self._closing is not None
            self._dialect.receive(sequence, acknowledgement, window, payload, now)
            self._closing.linger(now)
        elif flags & _SYN_ACK == FLAG_SYN:
            self._request_received(sequence, payload, now)
        elif flags & FLAG_SYN:
            self._answer_received(sequence, acknowledgement, window, payload, now)
        elif flags & FLAG_FIN:
            self._fin_received(flags, sequence, acknowledgement, window, payload, now)
        elif flags & FLAG_RST:
            self._reset_received(flags, sequence, acknowledgement, now)
        elif flags & FLAG_ACK and self._dialing is not None:
            if acknowledgement == (self._own_number + 1) & MASK:
                self._dialing.hasten(now)
        else:
            self.ignored += 1

    def _confirm(self, payload: bytes, now: float) -> None:
        """The first packet after the handshake: the peer has our answer."""
        self._liveness.heard = now
        if self._life.state == State.TIME_WAIT:
            return
        self._fast = True
        sample = None if self._accepting is None else self._accepting.confirm(now)
        if isinstance(self._dialect, Modern):
            self._dialect.measure(payload, now)
        elif sample is not None:
            self._tx.rtt.sample(sample, now)

    def _request_received(self, sequence: int, payload: bytes, now: float) -> None:
        """The peer asks again: our answer was lost, or the peer has started anew."""
        accepting = self._accepting
        if accepting is None or sequence != accepting.peer:
            self.ignored += 1
        elif accepting.is_past(sequence, now):
            self._break_off(CloseCause.RESET, "the peer has restarted", silently=True)
        elif self._flowing:
            self._liveness.heard = now
            accepting.wanted = True
            offer = decode_offer(payload)
            if offer is not None and isinstance(self._dialect, Modern):
                self._dialect.hold(offer.timestamp, now)

    def _answer_received(
        self, sequence: int, acknowledgement: int, window: int, payload: bytes, now: float
    ) -> None:
        dialing = self._dialing
        expected = acknowledgement == (self._own_number + 1) & MASK
        if dialing is None:
            if self._accepting is None and self._flowing:
                self._rx.ack_now = True  # our third packet was lost
            else:
                self.ignored += 1
            return
        if not expected:
            # The peer believes in a connection of our past: end that, then ask again.
            self._aside = [Segment(FLAG_RST, 0, 0, 0, b"")]
            dialing.stale(now)
            return
        self._liveness.heard = now
        offer = decode_offer(payload)
        if offer is None:
            sequence = true_number(sequence)
        self._open(sequence, window, offer, now)
        if dialing.transmissions == 1 and self._dialect_is_classic():
            self._tx.rtt.sample(now - dialing.sent_at, now)
        self._rx.ack_now = True
        self._fast = True
        self._dialing = None
        if self._closing is not None:
            self._closing.requested = self._tx.closing
        self._machine.answered()
        if self._early_fin is not None and isinstance(self._closing, ClassicClosing):
            self._closing.fin_received(FLAG_FIN, self._early_fin, 0, now)

    def _fin_received(
        self,
        flags: int,
        sequence: int,
        acknowledgement: int,
        window: int,
        payload: bytes,
        now: float,
    ) -> None:
        closing, dialect = self._closing, self._dialect
        if closing is None or dialect is None:
            # A classic FIN is sent once, and may overtake the answer to our request.
            if not flags & FLAG_ACK:
                self._early_fin = sequence
            return
        self._liveness.heard = now
        if isinstance(dialect, Modern):
            length = dialect.data_length(payload)
            if length is None:
                return
            dialect.receive(sequence, acknowledgement, window, payload, now)
            sequence += length
        closing.fin_received(flags, sequence, acknowledgement, now)
        closing.linger(now)

    def _reset_received(self, flags: int, sequence: int, acknowledgement: int, now: float) -> None:
        if self._dialing is not None:
            if flags & FLAG_ACK and acknowledgement != (self._own_number + 1) & MASK:
                self.ignored += 1
            else:
                self._break_off(CloseCause.REFUSED, "connection refused", silently=True)
            return
        # The reference resets with zeros throughout; other numbers have to fit.
        rx = self._rx
        position = unwrap(sequence, rx.next)
        fits = rx.next <= position <= rx.next + rx.room + LARGEST_SEGMENT
        if not fits and (sequence or acknowledgement):
            self.ignored += 1
        elif self._closing is None or not self._closing.peer_left(now):
            self._break_off(CloseCause.RESET, "connection reset by peer", silently=True)

    def is_new_syn(self, sequence: int, now: float | None = None) -> bool:
        """
        @param sequence: number of a request for the ports of this connection.
        @return: whether it asks for a new connection and this one is a thing of the past.
        """
        accepting = self._accepting
        if accepting is None or self._life.state == State.CLOSED:
            return True
        return accepting.is_past(sequence, now)

    # -- what the program wants ----------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Queue bytes, any number of them.  What is written after L{close_write} is dropped."""
        if data and self._writable():
            # What the program may change later is copied now.
            self._tx.outgoing.append(data if type(data) is bytes else bytes(data))

    def write_unit(self, data: bytes) -> None:
        """
        Queue bytes that travel as one segment of their own.

        @raise InvalidArgument: more than 65,000 bytes.
        """
        if len(data) > LARGEST_SEGMENT:
            raise InvalidArgument(f"{len(data)} bytes do not fit one segment")
        if data and self._writable():
            self._tx.outgoing.append_unit(data)

    def _writable(self) -> bool:
        state = self._life.state
        if self._tx.closing or state == State.CLOSED:
            return False
        if state == State.TIME_WAIT:
            self._break_off(CloseCause.RESET, "the peer has closed the stream", silently=True)
            return False
        return True

    def close_write(self) -> None:
        """End our direction once everything written has left (modern) or arrived (classic)."""
        self._tx.closing = True
        if self._closing is not None:
            self._closing.requested = True

    def close_read(self) -> None:
        """The program reads no more; what still comes is taken and thrown away."""
        self._rx.discard()

    def abort(self) -> None:
        """Reset the stream: what has not arrived yet may never arrive."""
        if self._life.state == State.TIME_WAIT:
            self.close_read()  # everything has arrived; the peer may still have to be told
        else:
            self._break_off(CloseCause.ABORTED, "aborted")

    @property
    def received(self) -> list[bytes]:
        """@return: segments in order that were not taken yet; they fill the window."""
        return self._rx.received

    def take_received(self) -> list[bytes]:
        """@return: what arrived in order since the last call, one item a segment."""
        rx = self._rx
        taken = rx.take()
        if self._dialect is not None and self._dialect.worth_telling():
            rx.ack_now = True
        return taken

    def take_events(self) -> list[Event]:
        """@return: what happened since the last call."""
        if self._closing is not None and self._flowing:
            self._check(self._liveness.heard)
        life = self._life
        events = life.events
        if events:
            life.events = []
        return events

    # -- what leaves ---------------------------------------------------------------------------

    def transmit(self, now: float, limit: int = DEFAULT_LIMIT) -> list[Segment]:
        """
        @param limit: roughly the most packets to give; call again for the rest.
        @return: everything that may leave now.
        """
        out, self._aside = self._aside, []
        if self._flowing:
            self._transmit_flowing(out, now, limit)
        elif self._dialing is not None:
            dialing = self._dialing
            if dialing.wanted(now):
                out.append(dialing.request(now))
                self.syn_transmissions += 1
        if out:
            self._liveness.spoken = now
        return out

    def _transmit_flowing(self, out: list[Segment], now: float, limit: int) -> None:
        tx, rx, dialect, closing = self._tx, self._rx, self._dialect, self._closing
        assert dialect is not None and closing is not None
        if rx.fin is not None or closing.requested:
            self._check(now)
            if not self._flowing:
                return
        accepting = self._accepting
        if accepting is not None and accepting.wanted:
            self._reply(accepting, out, now)
        if tx.probes:
            tx.encourage(self._liveness.heard)
        told = False
        if rx.ranges and rx.ack_now:
            out += dialect.acknowledge(now)
            told = True
        if tx.outgoing.unsent or tx.flight.lost or tx.probe_wanted:
            before = len(out)
            tx.fill(out, now, limit, dialect.number, dialect.window(), dialect.prefix(now))
            told = told or len(out) > before
        if closing.attention:
            before = len(out)
            closing.send(out, now)
            told = told or (len(out) > before and dialect.ordered_fin)
        if tx.question_due:
            tx.question_due = False
            out += dialect.question(now)
            told = True
        if not told and rx.pending:
            told = rx.pending >= ACK_EVERY or self._ack_due <= now
            if told or rx.ack_now:
                out += dialect.acknowledge(now)
                told = True
            elif self._ack_due == NEVER:
                self._ack_due = now + self._config.ack_delay
        elif not told and rx.ack_now:
            out += dialect.acknowledge(now)
            told = True
        if told:
            rx.acknowledged()
            self._ack_due = NEVER

    def _reply(self, accepting: Accepting, out: list[Segment], now: float) -> None:
        """Answer the request; a repeated request gets the same answer."""
        payload = b""
        if isinstance(self._dialect, Modern):
            echo = self._dialect.echo(now)
            payload = offer_payload(self._config, now, self._clock_start, echo)
        out.append(accepting.reply(now, payload))

    def _check(self, now: float) -> None:
        closing = self._closing
        assert closing is not None
        closing.check(now)
        state = self._life.state
        if state == State.TIME_WAIT:
            self._fast = False
        elif state == State.CLOSED:
            self._flowing = self._fast = False

    def _dialect_is_classic(self) -> bool:
        return self._dialect is not None and not self._dialect.ordered_fin

    # -- time ----------------------------------------------------------------------------------

    def deadline(self) -> float | None:
        """@return: when to call L{wake}, or None while nothing is due."""
        if self._dialing is not None:
            return self._dialing.due
        closing = self._closing
        if closing is None or self._life.state == State.CLOSED:
            return None
        due = closing.due
        if self._flowing:
            due = min(due, self._tx.deadline(), self._ack_due, self._silence_due())
        return due if due != NEVER else None

    def _silence_due(self) -> float:
        return NEVER if self._life.state == State.TIME_WAIT else self._liveness.due()

    def wake(self, now: float) -> None:
        """
        Look at every timer; what follows leaves with the next L{transmit}.

        Much too late means that this process was stopped, not that the peer was silent: the time
        nobody looked is not held against it.
        """
        dialing = self._dialing
        if dialing is not None:
            if dialing.failed(now):
                self._break_off(CloseCause.TIMEOUT, "dial timeout", silently=True)
            return
        if self._closing is None:
            return
        late = now - (self.deadline() or now)
        if late > STANDSTILL:
            self._liveness.heard += late
            self._tx.stood_still(late)
        self._closing.wake(now)
        if self._life.state == State.CLOSED:
            self._flowing = self._fast = False
        if self._flowing:
            self._tx.wake(now)
            if self._life.state != State.TIME_WAIT:
                self._look_after(now)

    def _look_after(self, now: float) -> None:
        """The peer may be gone, or only have nothing to say."""
        concern = self._liveness.concern(now)
        if concern is Concern.ASK:
            self._liveness.asked = now
            assert self._dialect is not None
            self._aside += self._dialect.question(now)
        elif concern is Concern.STUCK:
            if self._closing is None or not self._closing.peer_left(now):
                self._break_off(CloseCause.TIMEOUT, "the peer does not acknowledge what was sent")
        elif concern is Concern.IDLE and self._dialect_is_classic():
            end = Segment(FLAG_FIN, self._tx.flight.next & MASK, 0, 0, b"")
            self._break_off(CloseCause.IDLE, "idle for too long", farewell=end)
        elif concern is Concern.IDLE:
            self._break_off(CloseCause.TIMEOUT, "the peer has fallen silent")

    def path_switched(self, now: float) -> None:
        """The shell sends the requests another way from now on, beginning with the last one."""
        if self._dialing is not None:
            self._dialing.path_switched(now)

    # -- the bitter end ------------------------------------------------------------------------

    def _break_off(
        self,
        cause: CloseCause,
        reason: str,
        *,
        silently: bool = False,
        farewell: Segment | None = None,
    ) -> None:
        """
        End it here.

        @param silently: do not tell the peer.
        @param farewell: what to tell it, instead of a reset.
        """
        if self._life.state == State.CLOSED and self._dialing is None and not self._flowing:
            return
        if not silently:
            self._aside = [farewell if farewell is not None else self._reset()]
        self._dialing = None
        self._flowing = self._fast = False
        self._tx.outgoing.clear()
        self._machine.end(Closed(cause, reason))

    def _reset(self) -> Segment:
        if self._dialect is None or not self._dialect.ordered_fin:
            return Segment(FLAG_RST, 0, 0, 0, b"")
        number = self._dialect.number
        return Segment(FLAG_RST | FLAG_ACK, self._tx.flight.next & MASK, number, 0, b"")

    # -- looking in ----------------------------------------------------------------------------

    @property
    def inbound(self) -> bool:
        """@return: whether the peer asked for the connection."""
        return self._accepting is not None

    @property
    def state(self) -> str:
        """@return: name of the state (L{State})."""
        return self._life.state

    @property
    def is_open(self) -> bool:
        """@return: whether it counts as open: neither over nor lingering."""
        return self._life.state not in (State.CLOSED, State.TIME_WAIT)

    @property
    def dialect(self) -> str:
        """@return: C{"classic"} or C{"modern"}; classic until the handshake is over."""
        return "classic" if self._dialect is None else self._dialect.name

    @property
    def unsent(self) -> int:
        """@return: bytes written that have not left for the first time."""
        return self._tx.outgoing.unsent

    @property
    def segment_limit(self) -> int:
        """@return: largest payload that a packet on this path should have."""
        return self._limit

    @segment_limit.setter
    def segment_limit(self, limit: int) -> None:
        self._limit = limit
        if self._dialect is not None:
            self._resize()

    def _resize(self) -> None:
        dialect, tx = self._dialect, self._tx
        assert dialect is not None
        tx.size = size = dialect.data_size(self._limit)
        tx.congestion.resize(size)
        if dialect.ordered_fin:
            tx.burst = max(2, self._config.burst // size)

    @property
    def congestion_limit(self) -> int:
        """@return: bytes that the congestion window never exceeds, for paths with a known limit."""
        return self._tx.congestion.limit

    @congestion_limit.setter
    def congestion_limit(self, limit: int) -> None:
        congestion = self._tx.congestion
        congestion.limit = max(limit, congestion.floor)
        congestion.window = min(congestion.window, congestion.limit)

    def statistics(self) -> dict[str, Any]:
        """@return: the figures of protocol notes, I{Statistics}, without numbers and addresses."""
        return figures(self._life.state, self._tx, self._rx, self._dialect)
