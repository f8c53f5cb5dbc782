"""Local time, as the names and the records of stored mail tell it."""

from __future__ import annotations

import time


def stamp(now: int) -> str:
    """
    @param now: nanoseconds since the epoch.
    @return: C{YYYYMMDD-HHMMSS.mmm}, local time, cut off, not rounded.
    """
    seconds, rest = divmod(now, 1_000_000_000)
    local = time.localtime(seconds)
    return f"{time.strftime('%Y%m%d-%H%M%S', local)}.{rest // 1_000_000:03d}"


def rfc3339(now: int) -> str:
    """
    @param now: nanoseconds since the epoch.
    @return: C{2026-11-20T16:00:36+05:30}, local time; C{Z} where that is UTC.
    """
    local = time.localtime(now // 1_000_000_000)
    offset = local.tm_gmtoff or 0
    hours, minutes = divmod(abs(offset) // 60, 60)
    zone = f"{'-' if offset < 0 else '+'}{hours:02d}:{minutes:02d}" if offset else "Z"
    return time.strftime("%Y-%m-%dT%H:%M:%S", local) + zone
