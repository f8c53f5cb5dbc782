"""What must last: the incarnation, the directory, what was chosen and what was set.

Each is a file of its own that is replaced as a whole, so that it is always an old or a new one.  A
disk that takes nothing stops nobody: presence runs on in memory and says so.
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

log = Logger()

INCARNATION: Final = "incarnation"
DIRECTORY: Final = "directory"
CHOICES: Final = "choices.json"
INTENTS: Final = "intents.json"
MOST: Final = 64 * 1024 * 1024
"""Bytes of the longest file that is read back."""
DAMAGED: Final = ".damaged"

InThread = Callable[[Callable[[], None]], "Deferred[None]"]


class Storage:
    """
    The files of the skill.

    @ivar error: why nothing is written at the moment, or C{None}.
    @ivar counters: C{written} files, and how often that C{failed}.
    """

    def __init__(self, home: Path, in_thread: InThread) -> None:
        """@param in_thread: runs a function that takes a while, elsewhere."""
        self.error: str | None = None
        self.counters: Counter[str] = Counter()
        self._home = home
        self._in_thread = in_thread
        self._writing: set[str] = set()
        self._next: dict[str, bytes] = {}
        self._turns: dict[str, int] = {}
        self._lock = threading.Lock()
        for name in (INCARNATION, DIRECTORY, CHOICES, INTENTS):
            for torn in home.glob(f".{name}.*"):  # we were killed while we wrote it
                with suppress(OSError):
                    torn.unlink()

    # -- reading -------------------------------------------------------------------------------

    def incarnation(self) -> int:
        """@return: the one that was stored last, 0 for none."""
        text = (self._read(INCARNATION) or b"").strip()
        if text.isdigit() and len(text) <= 16:
            return int(text)
        if text:
            self._set_aside(INCARNATION)
        return 0

    def directory(self) -> bytes | None:
        """@return: the directory that was stored last."""
        return self._read(DIRECTORY)

    def document(self, name: str) -> Any:
        """@return: a JSON value that was stored, C{None} for none."""
        data = self._read(name)
        if data is None:
            return None
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            self._set_aside(name)
            return None

    # -- writing -------------------------------------------------------------------------------

    def write(self, name: str, data: bytes) -> None:
        """Replace a file, now."""
        self._next.pop(name, None)
        try:
            self._replace(name, data, self._turn(name))
        except OSError as error:
            self._failed(name, error)
        else:
            self._written()

    def write_soon(self, name: str, data: bytes) -> None:
        """Replace a file without waiting; while one is under way only the newest waits."""
        if name in self._writing:
            self._next[name] = data
            return
        self._writing.add(name)
        turn = self._turn(name)
        writing = self._in_thread(lambda: self._replace(name, data, turn))
        writing.addCallbacks(lambda _: self._written(), lambda failure: self._lost(name, failure))
        writing.addBoth(lambda _: self._go_on(name))

    def write_document(self, name: str, value: Any) -> None:
        """Replace a file by a JSON value, now."""
        self.write(name, json.dumps(value, separators=(",", ":")).encode("utf-8"))

    def statistics(self) -> dict[str, Any]:
        """@return: JSON-ready."""
        return {"error": self.error, **self.counters}

    def _go_on(self, name: str) -> None:
        self._writing.discard(name)
        data = self._next.pop(name, None)
        if data is not None:
            self.write_soon(name, data)

    def _turn(self, name: str) -> int:
        turn = self._turns[name] = self._turns.get(name, 0) + 1
        return turn

    def _replace(self, name: str, data: bytes, turn: int) -> None:
        path = self._home / name
        fresh = self._home / f".{name}.{os.urandom(4).hex()}"
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with open(os.open(fresh, flags, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            with self._lock:
                if turn < self._turns[name]:  # a newer one was written in the meantime
                    fresh.unlink()
                else:
                    os.replace(fresh, path)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise

    def _read(self, name: str) -> bytes | None:
        path = self._home / name
        try:
            if path.stat().st_size > MOST:
                self._set_aside(name)
                return None
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            # It may be the only copy of what is in it, and would be written over.
            self._set_aside(name, error.strerror or str(error))
            return None

    def _set_aside(self, name: str, reason: str = "makes no sense") -> None:
        log.warn(
            "{file}: {reason}; it is kept as {kept}", file=name, reason=reason, kept=name + DAMAGED
        )
        self.counters["damaged"] += 1
        try:
            os.replace(self._home / name, self._home / (name + DAMAGED))
        except OSError as error:
            self._failed(name, error)

    def _written(self) -> None:
        self.counters["written"] += 1
        if self.error is not None:
            log.info("files are written again")
            self.error = None

    def _lost(self, name: str, failure: Any) -> None:
        failure.trap(OSError)
        self._failed(name, failure.value)

    def _failed(self, name: str, error: OSError) -> None:
        self.counters["failed"] += 1
        reason = error.strerror or str(error)
        if self.error is None:
            log.error("{file}: {reason}; presence runs on in memory", file=name, reason=reason)
        self.error = reason
