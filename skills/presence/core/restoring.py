"""After a restart: the directory from the disk, believed only once its agents are heard again."""

from __future__ import annotations

from skills.presence.core.history import UNKNOWN, History
from skills.presence.core.intake import Intake
from skills.presence.core.shared import Shared
from skills.presence.core.snapshot import decode_snapshot
from skills.presence.core.standing import Standing
from skills.presence.detection.reach import GONE


def restore(data: bytes, now: float, shared: Shared, standing: Standing, intake: Intake) -> None:
    """
    Take in what was persisted.  Its agents keep the status they had, with the confidence
    C{stale_view}, for one lease; who has not been heard by then is verified, not given up.
    """
    restored = decode_snapshot(data)
    shared.counters["restored"] += len(restored.entries)
    shared.counters["restored_broken"] += abs(restored.broken)
    down = max(0.0, shared.wall() - restored.saved) if restored.saved else 0.0
    directory = shared.directory
    for told in restored.entries:
        if told.node == shared.node_id or directory.get(told.node) is not None:
            continue
        entry = directory.admit(told.node, now)
        if entry is None:
            return
        intake.describe(now, entry, told.record)
        entry.number = told.number
        entry.heard = entry.claimed = now - told.age - down
        entry.since = now - told.lasted - down
        entry.status = told.status
        if told.reach == GONE:
            entry.reach = GONE
        entry.history = History()
        entry.history.add(now, UNKNOWN, told.status, "restored", told.number)
        directory.settle(entry)
        directory.touch(entry)
        if told.reach != GONE:
            standing.watch(entry, now)
