"""Points in time as task files spell them: RFC 3339 in UTC."""

from __future__ import annotations

from datetime import UTC, datetime


def time_text(at: float, *, milliseconds: bool = False) -> str:
    """@param at: Unix time.  @return: C{2026-11-20T10:35:22Z}, cut off, not rounded."""
    moment = datetime.fromtimestamp(at, UTC)
    text = moment.isoformat(timespec="milliseconds" if milliseconds else "seconds")
    return text.removesuffix("+00:00") + "Z"


def parse_time(text: str) -> float | None:
    """@return: Unix time, if this is a time with its offset."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.timestamp() if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None
