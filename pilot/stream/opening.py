"""How a connection is asked for: the request, its repetitions, and what its answer must say."""

from __future__ import annotations

from pilot.stream.config import CLASSIC_SEGMENT, CLASSIC_WINDOW, LARGEST_SEGMENT, StreamConfig
from pilot.stream.modern import MICRO, scale_for
from pilot.stream.segment import Segment
from pilot.stream.sequence import HALF, MASK
from pilot.wire.options import Offer, encode_offer
from pilot.wire.packet import FLAG_ACK, FLAG_SYN

_SYN_ACK = FLAG_SYN | FLAG_ACK

#: A request with the number of the old one, so long after the peer used the connection, means that
#: the peer has restarted: a reference node always begins with 0.  Seconds.
RESTART_AFTER = 3.0
#: Gap after the reset of a stale connection, before the next request may follow it, seconds.
STALE_PAUSE = 0.2
#: Least gap between requests that are repeated because the peer already talks, seconds.
EARLY_GAP = 0.1


#: Bytes that a reference acceptor may have sent before it repeats its answer: its first window.
REFERENCE_AHEAD = 12 * CLASSIC_SEGMENT


def true_number(number: int) -> int:
    """
    Find out with which number a classic acceptor began.

    A reference node begins with 0, but when it repeats its answer it says the number of the last
    byte it has sent, which would make us skip what it sent before.  That cannot be more than its
    first window, since we have acknowledged nothing yet.

    @param number: sequence number of its answer.
    """
    return 0 if number <= REFERENCE_AHEAD else number


def initial_number(random: int) -> int:
    """@return: an initial sequence number that L{true_number} leaves alone."""
    return random if random > REFERENCE_AHEAD else random + HALF


def classic_window(config: StreamConfig) -> int:
    """@return: window field of a SYN or SYN-ACK, which both dialects count in segments."""
    return max(1, min(config.receive_window // CLASSIC_SEGMENT, CLASSIC_WINDOW))


def offer_payload(config: StreamConfig, now: float, clock_start: int, echo: int = 0) -> bytes:
    """@return: the payload of a SYN, or of a SYN-ACK that answers C{echo}."""
    return encode_offer(
        Offer(
            max_segment=LARGEST_SEGMENT,
            scale=scale_for(config.receive_window),
            window=config.receive_window,
            timestamp=(int(now * MICRO) + clock_start) & MASK,
            echo=echo,
            ack_delay=int(config.ack_delay * 1000),
        )
    )


class Dialing:
    """
    Connection requests until one is answered.

    @ivar transmissions: requests sent so far.
    @ivar due: when the next one leaves, or the dial has failed.
    @ivar sent_at: when the last one left.
    """

    __slots__ = (
        "_config",
        "_early",
        "_intervals",
        "_number",
        "_offer",
        "due",
        "sent_at",
        "transmissions",
    )

    def __init__(self, config: StreamConfig, number: int, clock_start: int | None, now: float):
        """@param clock_start: start of our timestamps; None to offer no modern dialect."""
        self._config = config
        self._number = number
        self._offer = clock_start
        self._intervals = list(config.syn_intervals)
        self._early = False
        self.transmissions = 0
        self.due = self.sent_at = now

    def failed(self, now: float) -> bool:
        """@return: whether the last request was given its time, too."""
        return not self._intervals and self.due <= now

    def wanted(self, now: float) -> bool:
        """@return: whether a request should leave now."""
        return self._early or (self.due <= now and bool(self._intervals))

    def request(self, now: float) -> Segment:
        """@return: the next request; its fields never change, only its timestamp does."""
        self.transmissions += 1
        self.sent_at = now
        if self._early:
            self._early = False
        else:
            self.due = now + self._intervals.pop(0)
        payload = b""
        if self._offer is not None:
            payload = offer_payload(self._config, now, self._offer)
        return Segment(FLAG_SYN, self._number, 0, classic_window(self._config), payload)

    def path_switched(self, now: float) -> None:
        """The requests take another way from now on: the last one just did."""
        first, *rest = self._config.relay_intervals
        self.due = now + first
        self._intervals = rest

    def hasten(self, now: float) -> None:
        """The peer talks to us as if it had answered: its answer was lost, so ask once more."""
        if now - self.sent_at >= EARLY_GAP:
            self._early = True

    def stale(self, now: float) -> None:
        """The peer still holds an old connection, which we have just reset."""
        if self._intervals:
            self.due = now + STALE_PAUSE


class Accepting:
    """
    Answers to one connection request and its repetitions.

    @ivar wanted: an answer should leave.
    """

    __slots__ = ("_confirmed_at", "_number", "_replied_at", "_replies", "_window", "peer", "wanted")

    def __init__(self, config: StreamConfig, number: int, peer: int) -> None:
        """
        @param number: our initial sequence number.
        @param peer: that of the request.
        """
        self._number = number
        self._window = classic_window(config)
        self._replies = 0
        self._replied_at = 0.0
        self._confirmed_at: float | None = None
        self.peer = peer
        self.wanted = True

    def reply(self, now: float, payload: bytes) -> Segment:
        """@return: the answer, with the same numbers every time."""
        self.wanted = False
        self._replies += 1
        self._replied_at = now
        return Segment(_SYN_ACK, self._number, (self.peer + 1) & MASK, self._window, payload)

    def confirm(self, now: float) -> float | None:
        """
        The peer has our answer.

        @return: the round trip that this shows, seconds, or None.
        """
        if self._confirmed_at is not None:
            return None
        self._confirmed_at = now
        return now - self._replied_at if self._replies == 1 else None

    def is_past(self, sequence: int, now: float | None) -> bool:
        """
        @param sequence: number of another request for our ports.
        @return: whether it is no repetition, so that the connection is a thing of the past.
        """
        if sequence != self.peer:
            return True
        confirmed = self._confirmed_at
        return confirmed is not None and now is not None and now - confirmed > RESTART_AFTER
