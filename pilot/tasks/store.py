"""Task files below C{tasks/}: what was given to us, what we gave to others, and the results.

Every file is there whole or not at all, and durable when the call returns.  Everything here blocks:
documents are small enough to be written in passing, results belong on a worker thread.

@see: the page I{Task submit}, I{Task files}.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pilot.crypto.files import write_atomically
from pilot.errors import WireError
from pilot.tasks.document import TaskDocument
from pilot.tasks.errors import TaskFileError
from pilot.tasks.names import is_task_id, result_name

MAX_DOCUMENT = 32 * 1024 * 1024
"""Largest file, in bytes, that is read as a task document."""

_SUFFIX = ".json"


class TaskFolder:
    """
    One directory of task documents.

    @param path: made when it is needed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: dict[str, tuple[int, int]] = {}

    def load(self, task_id: str) -> TaskDocument | None:
        """@return: the document; C{None} if there is none that can be read."""
        if not is_task_id(task_id):
            return None
        path = self._file(task_id)
        try:
            if path.stat().st_size > MAX_DOCUMENT:
                return None
            found = TaskDocument.decode(path.read_bytes())
        except (OSError, WireError):
            return None
        # The name is what a task is found by: a file that says otherwise is not believed.
        return found._replace(task_id=task_id)

    def save(self, document: TaskDocument) -> None:
        """@raise TaskFileError: the document cannot be written; the file is as it was."""
        if not is_task_id(document.task_id):
            raise TaskFileError("invalid task id")
        path = self._file(document.task_id)
        try:
            _make(self.path)
            write_atomically(path, document.encode())
            self._seen[document.task_id] = _mark(path.stat())
        except OSError as error:
            raise _failed("write the task file", error) from None

    def remove(self, task_id: str) -> None:
        """Remove a document, if it is there."""
        if is_task_id(task_id):
            with contextlib.suppress(OSError):
                self._file(task_id).unlink()
            self._seen.pop(task_id, None)

    def count(self) -> int:
        """@return: how many documents there are."""
        return sum(1 for _ in self._names())

    def changes(self) -> Iterator[tuple[str, TaskDocument | None]]:
        """
        Look at what others have written since the last look, all of it the first time.

        @return: ids with their documents; C{None} for one that is gone or cannot be read.
        """
        gone = set(self._seen)
        for task_id, mark in list(self._names()):
            gone.discard(task_id)
            if self._seen.get(task_id) != mark:
                self._seen[task_id] = mark
                yield task_id, self.load(task_id)
        for task_id in gone:
            del self._seen[task_id]
            yield task_id, None

    def _names(self) -> Iterator[tuple[str, tuple[int, int]]]:
        try:
            with os.scandir(self.path) as entries:
                for entry in entries:
                    task_id = entry.name.removesuffix(_SUFFIX)
                    if entry.name.endswith(_SUFFIX) and is_task_id(task_id):
                        with contextlib.suppress(OSError):
                            yield task_id, _mark(entry.stat())
        except OSError:
            return

    def _file(self, task_id: str) -> Path:
        return self.path / (task_id + _SUFFIX)


class TaskStore:
    """
    All task directories.

    @ivar received: tasks that others gave to us.
    @ivar submitted: tasks that we gave to others.
    @ivar submitting: tasks on their way to others, whose answer is not known.
    """

    def __init__(self, path: Path) -> None:
        """@param path: C{~/.pilot/tasks}."""
        self.received = TaskFolder(path / "received")
        self.submitted = TaskFolder(path / "submitted")
        self.submitting = TaskFolder(path / "submitting")
        self._results = path / "results"

    def save_result(self, task_id: str, filename: str, content: bytes) -> Path:
        """
        Keep results, durably.

        @param filename: as the worker calls the file; empty for a text.
        @return: where they are.
        @raise TaskFileError: they cannot be kept.
        """
        if not is_task_id(task_id):
            raise TaskFileError("invalid task id")
        path = self._results / result_name(task_id, filename)
        try:
            _make(self._results)
            write_atomically(path, content)
        except OSError as error:
            raise _failed("write the results", error) from None
        return path


def read_result(path: str, limit: int) -> bytes:
    """
    @return: the content of a user's file.
    @raise TaskFileError: it cannot be read, or is longer than C{limit} bytes.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise TaskFileError(
            f"failed to read file: open {path}: {(error.strerror or 'failed').lower()}"
        ) from None
    if len(content) > limit:
        raise TaskFileError(f"file too large for results: {path} (max {limit} bytes)")
    return content


def _make(directory: Path) -> None:
    if directory.is_dir():
        return
    for each in (*reversed(directory.parents), directory):
        if not each.is_dir():
            each.mkdir(0o700, exist_ok=True)
            descriptor = os.open(each.parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _mark(found: os.stat_result) -> tuple[int, int]:
    return found.st_mtime_ns, found.st_size


def _failed(what: str, error: OSError) -> TaskFileError:
    return TaskFileError(f"cannot {what}: {(error.strerror or 'failed').lower()}")
