"""A swarm on disk: a snapshot, and a journal of everything since.

The snapshot is replaced as a whole, then the journal begins anew.  If that is interrupted, the
journal's records are read over a snapshot that has them already, which changes nothing: they come
in their old order and end where the snapshot stands.

A disk that takes no more does not stop the swarm.  It runs on in memory, says so, and tries to
write everything anew by and by.

@see: the page I{Gossip}, I{Files}.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from twisted.logger import Logger

from skills.gossip.core.errors import BadMessage
from skills.gossip.core.journal import decode_snapshot, encode_record, encode_snapshot, recover
from skills.gossip.core.restoring import Restored
from skills.gossip.shell.files import replace_file, sync_directory, write_all

log = Logger()

SNAPSHOT, JOURNAL = "snapshot", "journal"
DAMAGED, DAMAGED_JOURNAL = "damaged", "damaged-journal"

#: Records, and seconds with any, after which a new snapshot is written.
SNAPSHOT_RECORDS, SNAPSHOT_AGE = 1000, 60.0

#: Seconds between attempts to write to a disk that has failed.
RETRY = 10.0

#: Gives the records that stand for everything.
Everything = Callable[[], Iterable[tuple[str, Any]]]


class SwarmStorage:
    """
    The files of one swarm.

    Times are C{now} of the caller, monotonic seconds.

    @ivar path: their directory.
    @ivar error: why nothing is written at the moment, or C{None}.
    @ivar records: of the journal, since the last snapshot.
    @ivar snapshots: written by this object.
    @ivar failures: how often the disk has failed.
    @ivar recovered: what was found wrong when the files were read, one line each.
    """

    def __init__(self, path: Path, everything: Everything, *, durability: str, now: float) -> None:
        """@param durability: one of C{skills.gossip.shell.options.DURABILITIES}."""
        self.path = path
        self.error: str | None = None
        self.records = 0
        self.snapshots = 0
        self.failures = 0
        self.recovered: list[str] = []
        self._everything = everything
        self._durability = durability
        self._snapshot_at = now
        self._retry_at = 0.0
        self._unsynced = False
        self._journal: int | None = None
        self._size = 0

    # -- reading -------------------------------------------------------------------------------

    def open(self) -> Restored:
        """
        Read what there is, cut off what is torn, and be ready to write.

        What cannot be read is set aside, not overwritten.
        """
        restored = Restored()
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._read_snapshot(restored)
            self._open_journal(restored)
        except OSError as error:
            self._failed(0.0, error)
        if restored.skipped:
            self.recovered.append(f"{restored.skipped} records made no sense")
        for what in self.recovered:
            log.warn("swarm files in {path}: {what}", path=str(self.path), what=what)
        return restored

    def _read_snapshot(self, restored: Restored) -> None:
        path = self.path / SNAPSHOT
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            self._set_aside(SNAPSHOT, DAMAGED, f"the snapshot: {error.strerror}")
            return
        try:
            records = decode_snapshot(data)
        except BadMessage as error:
            self._set_aside(SNAPSHOT, DAMAGED, error.message)
            return
        for record in records:
            restored.absorb(*record)

    def _set_aside(self, name: str, kept: str, reason: str) -> None:
        """
        Keep a file that cannot be read, or makes no sense, under another name: it may be the only
        copy of what is in it, and would be written over.
        """
        os.replace(self.path / name, self.path / kept)
        self.recovered.append(f"{reason}; it is kept as {kept}")

    def _open_journal(self, restored: Restored) -> None:
        try:
            self._journal, data = self._read_journal()
        except OSError as error:
            self._set_aside(JOURNAL, DAMAGED_JOURNAL, f"the journal: {error.strerror}")
            self._journal, data = self._read_journal()
        records, good = recover(data)
        for record in records:
            restored.absorb(*record)
        if good < len(data):
            self.recovered.append(f"{len(data) - good} bytes at the journal's end were torn")
            os.ftruncate(self._journal, good)
        self._size = good
        self.records = len(records)

    def _read_journal(self) -> tuple[int, bytes]:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        journal = os.open(self.path / JOURNAL, flags, 0o600)
        try:
            with open(journal, "rb", closefd=False) as file:
                return journal, file.read()
        except BaseException:
            os.close(journal)
            raise

    # -- writing -------------------------------------------------------------------------------

    def append(self, now: float, records: Iterable[tuple[str, Any]], *, urgent: bool) -> None:
        """
        Add records.

        @param urgent: a local write: on disk before this returns, if the operator wants that.
        """
        if self.error is not None:
            return  # the snapshot that ends the trouble will have them
        if self._journal is None:
            return
        pieces = [encode_record(kind, data) for kind, data in records]
        data = b"".join(pieces)
        try:
            write_all(self._journal, data)
            self._size += len(data)
            self.records += len(pieces)
            self._unsynced = True
            if urgent and self._durability == "write":
                self._sync()
        except OSError as error:
            self._failed(now, error)

    def tick(self, now: float) -> None:
        """Do what is due; to be called about once a second."""
        if self.error is not None:
            if now >= self._retry_at:
                self.snapshot(now)
            return
        try:
            self._sync()
        except OSError as error:
            self._failed(now, error)
            return
        due = self.records and now - self._snapshot_at >= SNAPSHOT_AGE
        if due or self.records >= SNAPSHOT_RECORDS:
            self.snapshot(now)

    def snapshot(self, now: float) -> None:
        """Write everything anew, and begin the journal anew."""
        self._snapshot_at = now
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            data = encode_snapshot(self._everything())
            # Whatever the durability: a journal may only go when what it held is safe elsewhere.
            replace_file(self.path / SNAPSHOT, data, sync=True)
            if self._journal is None:
                flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                self._journal = os.open(self.path / JOURNAL, flags, 0o600)
                sync_directory(self.path)
            os.ftruncate(self._journal, 0)
        except OSError as error:
            self._failed(now, error)
            return
        self._size = self.records = 0
        self._unsynced = False
        self.snapshots += 1
        if self.error is not None:
            log.info("the files in {path} are written again", path=str(self.path))
            self.error = None

    def close(self, now: float) -> None:
        """Write what is not written yet, and let go of the files."""
        if self.records or self.error is not None:
            self.snapshot(now)
        self._release()

    def discard(self) -> None:
        """Delete everything there is of the swarm."""
        self._release()
        shutil.rmtree(self.path, ignore_errors=True)

    def status(self) -> dict[str, Any]:
        """@return: JSON-ready: C{state} is C{"ok"} or C{"memory only"}."""
        return {
            "state": "ok" if self.error is None else "memory only",
            "error": self.error,
            "durability": self._durability,
            "journal_records": self.records,
            "journal_bytes": self._size,
            "snapshots": self.snapshots,
            "failures": self.failures,
            "recovered": list(self.recovered),
        }

    def _sync(self) -> None:
        if self._unsynced and self._journal is not None and self._durability != "none":
            os.fsync(self._journal)
        self._unsynced = False

    def _failed(self, now: float, error: OSError) -> None:
        self.failures += 1
        self._retry_at = now + RETRY
        reason = error.strerror or str(error)
        if self.error is None:
            log.error(
                "cannot write to {path}: {reason}; the swarm runs on in memory",
                path=str(self.path),
                reason=reason,
            )
        self.error = reason
        if self._journal is not None:
            try:  # a record that was written in part would hide what comes after it
                os.ftruncate(self._journal, self._size)
            except OSError:
                self._release()

    def _release(self) -> None:
        journal, self._journal = self._journal, None
        if journal is not None:
            os.close(journal)
