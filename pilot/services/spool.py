"""Files that are not complete yet: in a directory of their own, and gone if they never are.

Everything here blocks and belongs on a worker thread; all of it may be called from several.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import threading
from pathlib import Path
from typing import BinaryIO

from pilot.services.shelf import ensure_directory

SUFFIX = ".part"

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


class Spool:
    """
    Makes temporary files, and removes those that a crash has left.

    A file in use is locked, so that another daemon with the same home leaves it alone.

    @param directory: on the same file system as the places the files will go to.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._ready = False

    def prepare(self) -> None:
        """
        Make the directory and remove what is left over, the first time.

        @raise OSError: that is not possible.
        """
        with self._lock:
            if not self._ready:
                ensure_directory(self.directory)
                for path in self.directory.glob(f"*{SUFFIX}"):
                    _remove_abandoned(path)
                self._ready = True

    def open(self) -> tuple[BinaryIO, Path]:
        """
        @return: a new file, readable and writable, its owner's alone, and where it is.
        @raise OSError: there cannot be one.
        """
        self.prepare()
        while True:
            path = self.directory / f"{os.getpid()}-{next(self._numbers)}{SUFFIX}"
            try:
                descriptor = os.open(path, _NEW, 0o600)
            except FileExistsError:
                continue
            except FileNotFoundError:
                ensure_directory(self.directory)
                continue
            with contextlib.suppress(OSError):  # some network file systems have no locks
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return open(descriptor, "w+b"), path


def _remove_abandoned(path: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        finally:
            os.close(descriptor)
