"""The modern dialect, between nodes of this implementation.

Every packet after the handshake begins its payload with a block of options, so that data and
acknowledgements cannot be confused, every acknowledgement shows a round trip, windows count bytes
and the FIN has its place in the order.

@see: protocol notes, I{The modern dialect}.
"""

from __future__ import annotations

from pilot.errors import WireError
from pilot.stream.config import LARGEST_SEGMENT, StreamConfig
from pilot.stream.receiving import Receiver
from pilot.stream.segment import Segment
from pilot.stream.sending import UNLIMITED, Sender
from pilot.stream.sequence import MASK, unwrap
from pilot.wire.options import (
    MAX_BLOCKS,
    PLAIN_SIZE,
    TIMES,
    Offer,
    decode_block,
    encode_block,
    pack_times,
    unpack_times,
)
from pilot.wire.packet import FLAG_ACK

MICRO = 1_000_000

#: Round trips beyond this are not believed, seconds.
LONGEST_RTT = 60.0


def scale_for(window: int) -> int:
    """@return: the least scale with which C{window} bytes fit the 16-bit field."""
    return max(window.bit_length() - 16, 0)


class Modern:
    """
    The modern dialect of one connection.

    @ivar malformed: packets whose block could not be read.
    """

    name = "modern"
    ordered_fin = True

    __slots__ = (
        "_clock_start",
        "_config",
        "_held",
        "_held_at",
        "_peer_max",
        "_peer_scale",
        "_rx",
        "_scale",
        "_told",
        "_tx",
        "asked",
        "duplicates",
        "fin_received",
        "malformed",
        "peer_window",
        "sack_received",
        "sack_sent",
    )

    def __init__(
        self,
        config: StreamConfig,
        tx: Sender,
        rx: Receiver,
        offer: Offer,
        clock_start: int,
        now: float,
    ) -> None:
        """
        @param offer: the peer's.
        @param clock_start: what our timestamps began with.
        """
        self._config = config
        self._tx = tx
        self._rx = rx
        self._clock_start = clock_start
        self._scale = scale_for(config.receive_window)
        self._peer_scale = offer.scale
        self._peer_max = offer.max_segment
        self._held = offer.timestamp  # the peer's timestamp that arrived last, and when
        self._held_at = now
        self._told = rx.next + rx.capacity  # right edge of the window that we announced last
        self.peer_window = offer.window >> offer.scale
        self.sack_sent = self.sack_received = self.duplicates = 0
        self.malformed = 0
        self.asked = False
        self.fin_received = 0
        tx.edge = tx.flight.first + offer.window
        tx.max_segments = UNLIMITED
        tx.peer_delay = offer.ack_delay / 1000
        tx.flight.overhead = PLAIN_SIZE
        if offer.echo:
            self._sample(offer.echo, now)

    def data_size(self, limit: int) -> int:
        """@return: bytes of data in a full segment, on a path whose packets hold C{limit}."""
        return max(1, min(limit - PLAIN_SIZE, self._peer_max, LARGEST_SEGMENT))

    # -- receiving -----------------------------------------------------------------------------

    def receive(
        self, sequence: int, acknowledgement: int, window: int, payload: bytes, now: float
    ) -> None:
        """Take a packet whose flags are ACK alone, or ACK and FIN."""
        size = len(payload)
        if size >= PLAIN_SIZE and payload[0] == TIMES:
            value, echo = unpack_times(payload, 1)
            blocks: tuple[tuple[int, int], ...] = ()
            start = PLAIN_SIZE
        else:
            try:
                value, echo, blocks, question, start = decode_block(payload)
            except WireError:
                self.malformed += 1
                return
            self.sack_received += len(blocks)
            if question:
                self.asked = True
                self._rx.ack_now = True
        self._held = value
        self._held_at = now
        tx = self._tx
        if (acknowledgement - tx.flight.first) & MASK or blocks:
            sent = self._sent_at(echo, now) if echo else None
            if tx.acknowledged(acknowledgement, blocks, now, sent):
                self._window_received(acknowledgement, window)
        elif window != self.peer_window:
            self._window_received(acknowledgement, window)
        if size > start:
            self._rx.segment(sequence, payload[start:])

    def data_length(self, payload: bytes) -> int | None:
        """@return: bytes of data behind the block, or None if the block cannot be read."""
        try:
            return len(payload) - decode_block(payload).size
        except WireError:
            self.malformed += 1
            return None

    def _window_received(self, acknowledgement: int, window: int) -> None:
        tx = self._tx
        self.peer_window = window
        edge = unwrap(acknowledgement, tx.flight.first) + (window << self._peer_scale)
        if edge > tx.edge:  # it never moves back; an old packet may say so
            tx.edge = edge
            tx.persist_due = None

    def _sent_at(self, echo: int, now: float) -> float | None:
        """@return: when the packet that the peer answers was sent, less the time it was held."""
        elapsed = (self._clock(now) - echo) & MASK
        seconds = elapsed / MICRO
        # Less than nothing: the peer has counted more time than it held the timestamp.
        return now - seconds if seconds < LONGEST_RTT else None

    def measure(self, payload: bytes, now: float) -> None:
        """The first packet after the handshake has come: it answers our SYN-ACK."""
        if len(payload) >= PLAIN_SIZE:
            self._sample(unpack_times(payload, 1)[1], now)

    def _sample(self, echo: int, now: float) -> None:
        sent = self._sent_at(echo, now)
        if sent is not None:
            self._tx.rtt.sample(now - sent, now)

    # -- sending -------------------------------------------------------------------------------

    def _clock(self, now: float) -> int:
        return (int(now * MICRO) + self._clock_start) & MASK

    def hold(self, timestamp: int, now: float) -> None:
        """C{timestamp} of the peer has just arrived; what leaves next answers it."""
        self._held = timestamp
        self._held_at = now

    def echo(self, now: float) -> int:
        """@return: the timestamp that we answer, plus the time we held it."""
        return (self._held + int((now - self._held_at) * MICRO)) & MASK or 1

    @property
    def number(self) -> int:
        """@return: acknowledgement number; the peer's FIN counts once all before it is here."""
        return (self._rx.next + self.fin_received) & MASK

    def prefix(self, now: float) -> bytes:
        """@return: what stands in front of data."""
        return pack_times(TIMES, self._clock(now), self.echo(now))

    def window(self) -> int:
        """@return: window field."""
        rx = self._rx
        units = rx.room >> self._scale
        self._told = rx.next + (units << self._scale)
        return units

    def acknowledge(self, now: float, question: bool = False) -> list[Segment]:
        """@return: the packet that tells the peer what we have."""
        rx = self._rx
        if rx.ranges or question:
            ranges = rx.news_first(MAX_BLOCKS)
            self.sack_sent += len(ranges)
            block = encode_block(self._clock(now), self.echo(now), ranges, question)
        else:
            block = self.prefix(now)
        sequence = self._tx.flight.next & MASK
        return [Segment(FLAG_ACK, sequence, self.number, self.window(), block)]

    def question(self, now: float) -> list[Segment]:
        """@return: an acknowledgement that the peer answers at once."""
        return self.acknowledge(now, True)

    def worth_telling(self) -> bool:
        """@return: whether the peer must hear that there is room again."""
        rx = self._rx
        return rx.next + rx.room - self._told >= rx.capacity // 4

    @property
    def peer_room(self) -> int:
        """@return: last window of the peer, bytes."""
        return self.peer_window << self._peer_scale
