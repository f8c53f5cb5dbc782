"""What a connection tells of itself, in the names of the control socket.

@see: protocol notes, I{Statistics}.
"""

from __future__ import annotations

from typing import Any

from pilot.stream.classic import Classic
from pilot.stream.modern import Modern
from pilot.stream.receiving import Receiver
from pilot.stream.sending import Sender


def figures(
    state: str, tx: Sender, rx: Receiver, dialect: Classic | Modern | None
) -> dict[str, Any]:
    """@return: one connection's figures; sizes in bytes, times in whole milliseconds."""
    flight, rtt, congestion = tx.flight, tx.rtt, tx.congestion
    return {
        "state": state,
        "cong_win": congestion.window,
        "ssthresh": congestion.threshold,
        "in_flight": flight.next - flight.first,
        "srtt_ms": rtt.srtt_ns // 1_000_000,
        "rttvar_ms": rtt.rttvar_ns // 1_000_000,
        "unacked": len(flight.starts),
        "ooo_buf": len(rx.early),
        "peer_recv_win": 0 if dialect is None else dialect.peer_room,
        "recv_win": rx.room,
        "in_recovery": tx.recovering,
        "bytes_sent": flight.next - flight.start,
        "segs_sent": tx.segments_sent,
        "bytes_recv": rx.total,
        "segs_recv": rx.segments,
        "retransmits": tx.timer_repeats,
        "fast_retx": tx.fast_repeats,
        "sack_recv": 0 if dialect is None else dialect.sack_received,
        "sack_sent": 0 if dialect is None else dialect.sack_sent,
        "dup_acks": 0 if dialect is None else dialect.duplicates,
    }
