"""The file of the control socket: never open to others, never taken from a living daemon.

A Unix socket's file outlives its process.  Whoever finds one must tell a stale file from a living
daemon's, and two daemons that start at the same moment must not take each other's.  So the socket
listens under a temporary name first and is then linked to its real one, which fails if anything is
there; a file that is there is asked, by connecting to it, before it is moved away.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
import stat
import sys
from contextlib import suppress
from typing import NamedTuple

from pilot.errors import AlreadyExists, ConnectionFailed, InvalidArgument

#: Connections that may wait for C{accept}.
BACKLOG = 128

#: Seconds a living daemon has to accept the probe; the kernel does it, so this is generous.
PROBE_TIMEOUT = 1.0

#: Longest path of a Unix socket, bytes: the kernel's field without its terminator.
MAX_PATH = 107 if sys.platform.startswith("linux") else 103

#: How often another start-up may come between before this one gives up.
_ATTEMPTS = 8

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV)


class _Mark(NamedTuple):
    """What tells one file from its successor of the same name."""

    device: int
    inode: int
    modified: int  # nanoseconds; the creation of a socket, which nobody writes to


class SocketFile:
    """
    One path, claimed for one listening socket.

    @ivar path: where clients connect.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._mark: _Mark | None = None

    def claim(self) -> socket.socket:
        """
        Listen on the path, mode 0600 from its first moment.

        A stale socket is taken over.  Missing directories are made, for the owner only.

        @return: the listening, non-blocking socket.
        @raise AlreadyExists: a daemon answers there, or something there is no socket.
        @raise InvalidArgument: the path is too long for a socket or cannot be written.
        """
        directory = os.path.dirname(self.path) or "."
        temporary = os.path.join(directory, f".{secrets.token_hex(4)}.tmp")
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            _check_length(self.path)
            _bind_private(listening, temporary)
            listening.listen(BACKLOG)
            listening.setblocking(False)
            try:
                self._put_in_place(temporary)
                self._mark = _mark(self.path)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(temporary)
        except OSError as error:
            listening.close()
            raise InvalidArgument(
                f"cannot open the control socket {self.path}: {error.strerror or error}",
                hint="choose another path with --socket",
            ) from error
        except BaseException:
            listening.close()
            raise
        return listening

    def remove(self) -> None:
        """Remove the file, if it is still the one that L{claim} made."""
        if self._mark is not None and _mark(self.path) == self._mark:
            with suppress(OSError):
                os.unlink(self.path)
        self._mark = None

    def _put_in_place(self, temporary: str) -> None:
        for _ in range(_ATTEMPTS):
            try:
                os.link(temporary, self.path)
                return
            except FileExistsError:
                self._make_room()
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                # A file system without hard links: the check and the move are two steps here.
                if os.path.lexists(self.path):
                    self._make_room()
                os.rename(temporary, self.path)
                return
        raise AlreadyExists(
            f"another daemon is starting on {self.path}", hint="wait for it, or stop it"
        )

    def _make_room(self) -> None:
        """Take a stale socket away.  @raise AlreadyExists: it is alive, or no socket."""
        found = _mark(self.path)
        if found is None:
            return
        if not stat.S_ISSOCK(os.lstat(self.path).st_mode):
            raise AlreadyExists(
                f"{self.path} exists and is not a socket",
                hint="remove it, or choose another path with --socket",
            )
        if is_alive(self.path):
            raise AlreadyExists(
                f"daemon is already running (socket {self.path} is active)",
                hint="stop it first with: pilotctl daemon stop",
            )
        aside = os.path.join(os.path.dirname(self.path) or ".", f".{secrets.token_hex(4)}.old")
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            return
        if _mark(aside) != found:
            # Another daemon replaced the stale file since it was probed: give its own back.
            with suppress(FileExistsError):
                os.link(aside, self.path)
        os.unlink(aside)


def is_alive(path: str) -> bool:
    """
    Ask whether somebody listens at C{path}.

    @return: False only when it is certain that nobody does.
    @raise ConnectionFailed: the path may not be asked.
    @raise InvalidArgument: the path is too long for a socket.
    """
    _check_length(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_TIMEOUT)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError, NotADirectoryError):
            return False
        except PermissionError as error:
            raise ConnectionFailed(
                f"{path} belongs to somebody else", hint="choose another path with --socket"
            ) from error
        except OSError:
            return True  # a full backlog, above all: somebody is there and busy
        return True


def _bind_private(listening: socket.socket, path: str) -> None:
    # The mask decides with which mode bind() makes the file; chmod would come a moment late.
    before = os.umask(0o177)
    try:
        listening.bind(path)
    finally:
        os.umask(before)


def _check_length(path: str) -> None:
    length = len(os.fsencode(path))
    if length > MAX_PATH:
        raise InvalidArgument(
            f"socket path of {length} bytes is too long (max {MAX_PATH}): {path}",
            hint="choose a shorter path with --socket",
        )


def _mark(path: str) -> _Mark | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return _Mark(found.st_dev, found.st_ino, found.st_mtime_ns)
