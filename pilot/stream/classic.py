"""The classic dialect: what the reference speaks, with the choices that interoperate best.

@see: protocol notes, I{The stream and datagram transport}, I{How to behave}.
"""

from __future__ import annotations

from pilot.stream.config import (
    CLASSIC_BURST,
    CLASSIC_REORDER_LIMIT,
    CLASSIC_SEGMENT,
    CLASSIC_WINDOW,
    StreamConfig,
)
from pilot.stream.receiving import Receiver
from pilot.stream.segment import Segment
from pilot.stream.sending import UNLIMITED, Sender
from pilot.stream.sequence import MASK, unwrap
from pilot.wire.packet import FLAG_ACK
from pilot.wire.sack import MAGIC, MAX_BLOCKS, decode_sack, encode_sack

#: How long a reference receiver holds an acknowledgement back, seconds.
REFERENCE_ACK_DELAY = 0.05
#: Plain acknowledgements that make a reference sender repeat its first missing segment.
DUPLICATES = 3
#: Plain acknowledgements sent for one batch of early segments at most.
MAX_DUPLICATES = 16
#: Copies of a segment that is refused for lack of room, before one is taken, and the room for them.
PATIENCE = 4
RESERVE = 256 * CLASSIC_SEGMENT
#: Free places at which a window that was (nearly) closed is announced as open again.
WORTH_TELLING = CLASSIC_WINDOW // 4

_SACK_SIZES = frozenset(5 + 8 * count for count in range(1, MAX_BLOCKS + 1))
_COUNTS = frozenset(bytes([count]) for count in range(1, MAX_BLOCKS + 1))
_LARGEST_SACK = max(_SACK_SIZES)


def without_lookalikes(payloads: list[bytes]) -> list[bytes]:
    """
    Cut what a reference receiver would take for a list of blocks, and swallow.

    @return: the same bytes; a segment that begins like such a list is cut after its first letter.
    """
    if not any(payload.startswith(MAGIC) for payload in payloads):
        return payloads
    safe: list[bytes] = []
    for payload in payloads:
        if payload.startswith(MAGIC) and payload[len(MAGIC) : len(MAGIC) + 1] in _COUNTS:
            safe.append(payload[:1])
            payload = payload[1:]
        safe.append(payload)
    return safe


class Classic:
    """
    The classic dialect of one connection.

    @ivar sack_sent: blocks sent.
    @ivar sack_received: blocks received.
    @ivar duplicates: plain acknowledgements received that said nothing new.
    @ivar fin_position: where our FIN stands, once it was sent.
    @ivar fin_acknowledged: whether the peer has answered it.
    """

    name = "classic"
    ordered_fin = False

    __slots__ = (
        "_config",
        "_rx",
        "_told",
        "_tx",
        "duplicates",
        "fin_acknowledged",
        "fin_position",
        "peer_window",
        "sack_received",
        "sack_sent",
    )

    def __init__(self, config: StreamConfig, tx: Sender, rx: Receiver, window: int) -> None:
        """@param window: window field of the peer's SYN or SYN-ACK."""
        self._config = config
        self._tx = tx
        self._rx = rx
        self._told = CLASSIC_WINDOW  # window field of our last packet
        self.peer_window = window
        self.sack_sent = self.sack_received = self.duplicates = 0
        self.fin_position: int | None = None
        self.fin_acknowledged = False
        rx.patience, rx.reserve = PATIENCE, RESERVE
        tx.edge = UNLIMITED
        tx.burst = CLASSIC_BURST
        tx.strict_burst = True
        tx.guard = without_lookalikes
        tx.peer_delay = REFERENCE_ACK_DELAY
        self._window_received(window)

    def data_size(self, limit: int) -> int:
        """@return: bytes of data in a full segment, on a path whose packets hold C{limit}."""
        return min(limit, CLASSIC_SEGMENT)

    # -- receiving -----------------------------------------------------------------------------

    def receive(
        self, sequence: int, acknowledgement: int, window: int, payload: bytes, now: float
    ) -> None:
        """Take a packet whose flags are ACK alone."""
        tx = self._tx
        flight = tx.flight
        if payload:
            if len(payload) <= _LARGEST_SACK and payload.startswith(MAGIC):
                blocks = self._sack(acknowledgement, payload)
                if blocks is not None:
                    self.sack_received += len(blocks)
                    if tx.acknowledged(acknowledgement, blocks, now):
                        self._window_received(window)
                    return
            if (acknowledgement - flight.first) & MASK:
                if tx.acknowledged(acknowledgement, (), now):
                    self._window_received(window)
            elif window != self.peer_window:
                self._window_received(window)
            self._rx.segment(sequence, payload)
            return
        if self.fin_position is not None and acknowledgement == (self.fin_position + 1) & MASK:
            self.fin_acknowledged = True
            return
        if not (acknowledgement - flight.first) & MASK:
            self.duplicates += 1
        if tx.acknowledged(acknowledgement, (), now):
            self._window_received(window)

    def _window_received(self, window: int) -> None:
        # 0 is also what keepalives carry and what a full receiver says, which never says more:
        # one segment may be under way, and its repetition is the probe.
        self.peer_window = window
        self._tx.max_segments = max(1, min(window, CLASSIC_REORDER_LIMIT))

    def _sack(self, acknowledgement: int, payload: bytes) -> tuple[tuple[int, int], ...] | None:
        """@return: the blocks if the payload can be a list of them, or None for data."""
        if len(payload) not in _SACK_SIZES:
            return None
        blocks = decode_sack(payload)
        if blocks is None or len(payload) != 5 + 8 * len(blocks):
            return None
        flight = self._tx.flight
        position = unwrap(acknowledgement, flight.first)
        for left, right in blocks:
            begin, end = unwrap(left, position), unwrap(right, position)
            if not position < begin < end <= flight.next:
                return None
        return blocks

    # -- sending -------------------------------------------------------------------------------

    @property
    def number(self) -> int:
        """@return: acknowledgement number."""
        return self._rx.next & MASK

    def prefix(self, now: float) -> bytes:
        """@return: what stands in front of data."""
        return b""

    def window(self) -> int:
        """
        @return: window field.  Never 0: to a reference sender that means "no limit", while 1 makes
            it send one segment at a time.
        """
        self._told = window = min(max(self._rx.room // CLASSIC_SEGMENT, 1), CLASSIC_WINDOW)
        return window

    def acknowledge(self, now: float) -> list[Segment]:
        """
        @return: the packets that tell the peer what we have.  With a hole that is a list of blocks
            and, because a reference sender counts only plain duplicates, some of those.
        """
        rx = self._rx
        sequence, number, window = self._tx.flight.next & MASK, self.number, self.window()
        plain = Segment(FLAG_ACK, sequence, number, window, b"")
        if not rx.ranges:
            return [plain]
        blocks = rx.blocks(MAX_BLOCKS)
        self.sack_sent += len(blocks)
        duplicates = max(rx.stray, DUPLICATES if rx.filled else 0)
        return [
            Segment(FLAG_ACK, sequence, number, window, encode_sack(blocks)),
            *[plain] * min(duplicates, MAX_DUPLICATES),
        ]

    def pull(self, now: float, attempt: int) -> list[Segment]:
        """
        @param attempt: how often that was tried for this hole.
        @return: what makes a reference sender repeat its first missing segment once more.
        """
        first, *_ = self.acknowledge(now)
        number = (self._rx.next + attempt) & MASK
        blocks = [first._replace(acknowledgement=number)] * bool(first.payload)
        plain = first._replace(acknowledgement=number, payload=b"")
        # A number that is new to the peer begins its count, and does not count itself.
        fresh = 1 if attempt and not blocks else 0
        return blocks + [plain] * (DUPLICATES + fresh)

    def question(self, now: float) -> list[Segment]:
        """
        @return: a keepalive.  The reference answers no bare acknowledgement, so two nodes with
            nothing to say would take each other for dead; but it acknowledges data that it has
            already, without looking at it.
        """
        flight = self._tx.flight
        if flight.starts or self._rx.ranges:
            return self.acknowledge(now)
        old = (flight.first - 1) & MASK
        return [Segment(FLAG_ACK, old, self.number, self.window(), b"\0")]

    def worth_telling(self) -> bool:
        """@return: whether the peer must hear that there is room again."""
        return self._told < WORTH_TELLING and self._rx.room // CLASSIC_SEGMENT >= WORTH_TELLING

    @property
    def peer_room(self) -> int:
        """@return: last window of the peer, bytes."""
        return self.peer_window * CLASSIC_SEGMENT
