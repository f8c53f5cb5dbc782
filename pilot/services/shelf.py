"""A directory in which files appear whole, under names nobody has, up to a quota.

Everything here blocks and belongs on a worker thread; all of it may be called from several.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pilot.errors import PilotError

_MOST_COPIES = 10_000
_RACY = 1_000_000_000  # nanoseconds; a change so soon after a look may leave the same time behind
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}


class NotStored(PilotError):
    """
    Something could not be stored; the message says why, without any path of this machine.
    """


class Full(NotStored):
    """The quota is used up."""


class Shelf:
    """
    One such directory.

    @param directory: made, open to its owner only, when it is needed.
    @param noun: what the files are, for error messages.
    @param most_files: files it may hold, whoever put them there.
    @param most_bytes: bytes of all its files together.
    """

    def __init__(self, directory: Path, noun: str, most_files: int, most_bytes: int) -> None:
        self.directory = directory
        self._noun = noun
        self._most_files = most_files
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._files = self._bytes = 0  # in the directory at the last look, and put there since
        self._coming_files = self._coming_bytes = 0
        self._seen: tuple[int, int] | None = None  # time of the last look, change it saw

    def begin(self, size: int) -> None:
        """
        Count one more file that is on its way.

        @param size: how large it will be.  It is not reserved: room goes to who brings bytes, not
            to who announces them.
        @raise Full: it has no room.
        """
        with self._lock:
            self._check(1, size)
            self._coming_files += 1

    def grow(self, size: int) -> None:
        """
        Count more bytes of a file that is on its way.

        @raise Full: there is no room for them.
        """
        with self._lock:
            self._check(0, size)
            self._coming_bytes += size

    def end(self, size: int, *, stored: bool) -> None:
        """A file that was on its way, with C{size} bytes so far, has been put here, or never is."""
        with self._lock:
            self._coming_files -= 1
            self._coming_bytes -= size
            if stored:
                self._files += 1
                self._bytes += size

    def ensure(self) -> None:
        """
        Make the directory, if it is not there.

        @raise NotStored: that is not possible.
        """
        try:
            ensure_directory(self.directory)
        except OSError as error:
            raise not_stored("mkdir", error) from None

    def put(self, temporary: Path, name: Callable[[int], bytes]) -> Path:
        """
        Give a complete file its place.

        @param temporary: where it is; on the same file system.  It is gone afterwards.
        @param name: gives the n-th name to try.
        @return: where it is now.
        @raise OSError: it is where it was.
        """
        for copy in range(_MOST_COPIES):
            path = self.directory / os.fsdecode(name(copy))
            try:
                _move(temporary, path)
            except FileExistsError:
                continue
            return path
        raise FileExistsError(errno.EEXIST, "too many files of that name")

    def sync(self, paths: Sequence[Path]) -> None:
        """
        Make the names of new files durable, of all of them at once.

        @raise NotStored: that is not possible; then they are gone, for who sent them will be told
            that they are not stored, and send them again.
        """
        if not paths:
            return
        try:
            sync_directory(self.directory)
        except OSError as error:
            for path in paths:
                with contextlib.suppress(OSError):
                    path.unlink()
            raise not_stored("sync", error) from None

    def _check(self, files: int, size: int) -> None:
        if self._seen is None or (self._lacks(files, size) and self._changed()):
            self._look()
        lacking = self._lacks(files, size)
        if lacking:
            raise Full(lacking)

    def _lacks(self, files: int, size: int) -> str:
        if self._files + self._coming_files + files > self._most_files:
            return f"{self.directory.name} is full: {self._most_files} {self._noun}"
        if self._bytes + self._coming_bytes + size > self._most_bytes:
            return f"{self.directory.name} is full: no room for {size} more bytes"
        return ""

    def _changed(self) -> bool:
        """Whether somebody may have removed files since the last look."""
        assert self._seen is not None
        looked, change = self._seen
        try:
            now = os.stat(self.directory).st_mtime_ns
        except OSError:
            return True
        return now != change or looked - change < _RACY

    def _look(self) -> None:
        files = size = change = 0
        looked = time.time_ns()
        try:
            change = os.stat(self.directory).st_mtime_ns
            with os.scandir(self.directory) as entries:
                for entry in entries:
                    try:
                        if entry.is_file(follow_symlinks=False):
                            size += entry.stat(follow_symlinks=False).st_size
                            files += 1
                    except FileNotFoundError:
                        continue  # taken away while we look
        except OSError:
            pass  # no directory yet, or not ours: whoever writes to it finds out
        self._files, self._bytes, self._seen = files, size, (looked, change)


def ensure_directory(directory: Path) -> None:
    """
    Make a directory and those above it, open to their owner only, and durably.

    @raise OSError: that is not possible.
    """
    if directory.is_dir():
        return
    if not directory.parent.is_dir():
        ensure_directory(directory.parent)
    try:
        directory.mkdir(0o700)
    except FileExistsError:
        if not directory.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
        return
    sync_directory(directory.parent)


def sync_directory(directory: Path) -> None:
    """Wait until the names in a directory are on the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def not_stored(step: str, error: OSError) -> NotStored:
    """@return: what a sender is told: the step and the cause, and no path."""
    cause = os.strerror(error.errno) if error.errno else str(error.strerror or "failed")
    return NotStored(f"{step}: {cause[:1].lower()}{cause[1:]}")


def _move(temporary: Path, path: Path) -> None:
    """@raise FileExistsError: something has that name already."""
    try:
        os.link(temporary, path, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # A file system without links.  Nobody but us makes names of this form.
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, "exists") from None
        os.rename(temporary, path)
        return
    with contextlib.suppress(OSError):  # the next start removes it
        os.unlink(temporary)
