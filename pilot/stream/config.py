"""What can be tuned about streams, each figure with its unit and its source."""

from __future__ import annotations

from dataclasses import dataclass

#: Unit of the classic window field, and the largest segment a reference peer sends, bytes.
CLASSIC_SEGMENT = 4096

#: Segments that a reference receiver stores behind a hole; more are dropped.
CLASSIC_REORDER_LIMIT = 128

#: Largest window that a reference receiver advertises, segments.
CLASSIC_WINDOW = 512

#: Full segments that fit the socket buffer of a reference receiver are 25; we stay below.
CLASSIC_BURST = 16

#: Largest segment that the header, encryption and relaying leave room for, bytes.
LARGEST_SEGMENT = 65_000


@dataclass(frozen=True)
class StreamConfig:
    """
    Settings of one stream.  Times are seconds, sizes bytes.

    @ivar segment_size: payload of the packets we send, until the shell knows better
        (C{Connection.segment_limit}); 1130 keeps a datagram at 1200 bytes.
    @ivar receive_window: what a peer may send before the program reads.
    @ivar initial_window: what is sent before the first acknowledgement; the reference's figure.
    @ivar congestion_limit: the congestion window never grows beyond; see
        C{Connection.congestion_limit}.
    @ivar burst: data that leaves back to back towards a modern peer.
    @ivar ack_delay: how long the acknowledgement of a lone segment waits for company.
    @ivar tail_delay: how long an incomplete segment waits for company at the longest.
    @ivar short_segments: incomplete segments under way before the next one has to wait.
    @ivar syn_intervals: gaps after each connection request; one request a gap.
    @ivar relay_intervals: the same after the path was switched to the relay.
    @ivar max_rto: the retransmission timer is not backed off beyond.
    @ivar silence_limit: a stream with data under way is given up after this long without a sound
        from the peer.  A reference node can be deaf for 15 seconds.
    @ivar progress_limit: the same when the peer is heard, but none of the data gets through.
    @ivar keepalive: silence after which the peer is asked (modern) or told (classic) that we live.
    @ivar idle_timeout: silence after which the stream is over.
    @ivar time_wait: how long a finished stream answers late segments.
    @ivar fin_timeout: how long a closed end waits for the other one.
    @ivar fin_gap_timeout: how long data missing before a classic FIN is asked for.
    @ivar offer_modern: whether to offer and accept the modern dialect.
    """

    segment_size: int = 1130
    receive_window: int = 4 * 1024 * 1024
    initial_window: int = 10 * CLASSIC_SEGMENT
    congestion_limit: int = 8 * 1024 * 1024
    burst: int = 256 * 1024
    ack_delay: float = 0.01
    tail_delay: float = 0.04
    short_segments: int = 8
    syn_intervals: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0)
    relay_intervals: tuple[float, ...] = (2.0, 4.0, 8.0, 8.0)
    max_rto: float = 4.0
    silence_limit: float = 30.0
    progress_limit: float = 60.0
    keepalive: float = 60.0
    idle_timeout: float = 120.0
    time_wait: float = 10.0
    fin_timeout: float = 60.0
    fin_gap_timeout: float = 5.0
    offer_modern: bool = True
