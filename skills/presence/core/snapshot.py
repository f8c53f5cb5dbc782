"""The directory on disk: what is known survives a restart, but is not believed before it is heard.

JSON: C{{"v":1,"saved":UNIX,"entries":[ENTRY..]}}, entries as in
L{skills.presence.core.deltas}.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from skills.presence.core.deltas import Told, entry_text, read_entry
from skills.presence.core.entry import Entry
from skills.presence.core.errors import BadMessage, BadRecord

MAX_BYTES: Final = 32 * 1024 * 1024
"""Bytes of a snapshot that is read."""


class Restored(NamedTuple):
    """
    What was on the disk.

    @ivar entries: those that make sense.
    @ivar broken: how many do not; -1: nothing could be read at all.
    @ivar saved: unix time of the snapshot.
    """

    entries: list[Told]
    broken: int
    saved: float


def encode_snapshot(entries: Iterable[Entry], now: float, unix: float) -> bytes:
    """@return: those of the entries that have a record and are not our own, as JSON."""
    rows = [entry_text(entry, now) for entry in entries if entry.record and not entry.own]
    text = f'{{"v":1,"saved":{unix!r},"entries":[{",".join(rows)}]}}'
    return text.encode("utf-8", "surrogatepass")


def decode_snapshot(data: bytes) -> Restored:
    """Read as much as makes sense; nothing is raised whatever the data."""
    try:
        document: Any = json.loads(data) if len(data) <= MAX_BYTES else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or document.get("v") != 1:
        return Restored([], -1, 0.0)
    rows, saved = document.get("entries"), document.get("saved")
    told, broken = [], 0
    for row in rows if isinstance(rows, list) else []:
        try:
            told.append(read_entry(row))
        except (BadMessage, BadRecord):
            broken += 1
    if isinstance(saved, bool) or not isinstance(saved, (int, float)):
        saved = 0.0
    return Restored(told, broken, float(saved))
