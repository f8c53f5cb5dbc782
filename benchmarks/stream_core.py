"""What one segment costs in the stream itself: no socket, no cipher, no reactor.

Run it as C{python benchmarks/stream_core.py}.  Two connections are wired back to back; every
figure is CPU time on one side only.  "sent" is the way out of a segment (cut from the buffer, put
under way) plus its share of the acknowledgement that settles it; "received" is its way in, plus
its share of taking the data and of building the acknowledgement.
"""

from __future__ import annotations

import random
from time import process_time

from pilot.stream.config import StreamConfig
from pilot.stream.connection import Connection, Segment
from pilot.wire.packet import FLAG_ACK

BATCH = 64  # segments between two acknowledgements
CHUNK = 65_536  # bytes in one write
SEGMENTS = 60_000


def connect(modern: bool, limit: int) -> tuple[Connection, Connection, float]:
    """@return: two connections past their handshake, and the time they believe in."""
    config = StreamConfig()
    now = 1000.0
    near = Connection.dial(config, now, random.Random(1), offer_modern=modern)
    (syn,) = near.transmit(now)
    far = Connection.accept(config, now, random.Random(2), syn)
    near.segment_limit = far.segment_limit = limit
    for segment in far.transmit(now):
        near.segment_received(*segment, now)
    for segment in near.transmit(now):
        far.segment_received(*segment, now)
    near.take_events()
    far.take_events()
    return near, far, now


def measure(modern: bool, limit: int, segments: int) -> tuple[float, float]:
    """@return: microseconds per segment sent and received."""
    near, far, now = connect(modern, limit)
    chunk = random.Random(3).randbytes(CHUNK)
    sent = received = 0.0
    count = 0
    while count < segments:
        now += 0.002
        start = process_time()
        while near.unsent < BATCH * limit:
            near.write(chunk)
        batch = near.transmit(now, BATCH)
        near.deadline()
        sent += process_time() - start
        count += len(batch)
        now += 0.001
        start = process_time()
        receive = far.segment_received
        for flags, sequence, acknowledgement, window, payload in batch:
            receive(flags, sequence, acknowledgement, window, payload, now)
        far.take_events()
        far.take_received()
        acks: list[Segment] = far.transmit(now)
        far.deadline()
        received += process_time() - start
        start = process_time()
        for ack in acks:
            near.segment_received(*ack, now)
        near.take_events()
        sent += process_time() - start
        assert all(segment.flags == FLAG_ACK for segment in batch)
    return sent / count * 1e6, received / count * 1e6


def main() -> None:
    """Print the table."""
    print(f"{'dialect':9}{'packet':>8}{'sent':>10}{'received':>10}   microseconds a segment")
    cases = ((True, 1130), (True, 16_384), (True, 65_000), (False, 1130), (False, 4096))
    for modern, limit in cases:
        count = SEGMENTS if limit < 10_000 else SEGMENTS // 10
        runs = [measure(modern, limit, count) for _ in range(3)]
        sent, received = min(run[0] for run in runs), min(run[1] for run in runs)
        name = "modern" if modern else "classic"
        print(f"{name:9}{limit:8}{sent:10.2f}{received:10.2f}")


if __name__ == "__main__":
    main()
