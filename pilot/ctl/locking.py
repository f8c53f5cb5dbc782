"""A lock between processes of one user, on a file."""

from __future__ import annotations

import fcntl
import os
import time

from pilot.errors import TimedOut

_POLL = 0.02  # seconds


class Lock:
    """
    Hold a file's lock for the length of a C{with} block; it ends with the process at the latest.

    @param path: a file that exists for this alone; made when missing, never removed, because a
        removed lock file can be held by two.
    @param wait: seconds.
    @raise TimedOut: on entry, when another process keeps it.
    """

    def __init__(self, path: str, wait: float) -> None:
        self._path = path
        self._wait = wait
        self._descriptor = -1

    def __enter__(self) -> Lock:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        ends = time.monotonic() + self._wait
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= ends:
                    os.close(descriptor)
                    raise TimedOut(f"another pilotctl holds {self._path}") from None
                time.sleep(_POLL)
            except OSError:
                os.close(descriptor)
                raise
            else:
                self._descriptor = descriptor
                return self

    def __exit__(self, *details: object) -> None:
        os.close(self._descriptor)
