"""One daemon an identity: two with one key would take each other's packets."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from pilot.errors import AlreadyExists


class LockFile:
    """A lock beside a file, held until released or until the process ends, however it ends."""

    def __init__(self, guarded: Path) -> None:
        """@param guarded: the file that one process at a time may use; it need not exist yet."""
        self._path = guarded.with_name(guarded.name + ".lock")
        self._guarded = guarded
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """
        Take the lock.

        @raise AlreadyExists: another process holds it.
        @raise OSError: the lock file cannot be made.
        """
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise AlreadyExists(
                f"another daemon uses the identity {self._guarded}",
                hint="stop it first, or give this one a home of its own with PILOT_HOME",
            ) from None
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go; the file stays, since removing it would race with whoever takes it next."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
