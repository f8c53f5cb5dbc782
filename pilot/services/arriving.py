"""Mail on its way to disk, one thing at a time.

What arrives is written to a temporary file, outside the directories that other programs read; when
complete, it is synced and linked to its place.

Everything here blocks and belongs on a worker thread.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from pilot.services.filenames import stored_name
from pilot.services.localtime import rfc3339, stamp
from pilot.services.messagefile import message_name, write_message
from pilot.services.shelf import Shelf, not_stored
from pilot.services.spool import Spool


class Arriving:
    """
    One thing: L{open}, any number of L{write}, then it is given its place; or L{discard} at any
    time.  A step that raises has discarded it.

    @param spool: where it is until it is complete.
    @param shelf: where its place is.
    """

    def __init__(self, spool: Spool, shelf: Shelf) -> None:
        self._spool = spool
        self._shelf = shelf
        self._file: BinaryIO | None = None
        self._temporary: Path | None = None
        self._counted: int | None = None  # bytes counted on the shelf; None: it is not

    def open(self, size: int) -> None:
        """
        Begin.

        @param size: bytes that are to come.
        @raise NotStored: there is no room for them, or no way to store them.
        """
        with self._step("write"):
            self._shelf.begin(size)
            self._counted = 0
            self._shelf.ensure()
            self._file, self._temporary = self._spool.open()

    def write(self, pieces: Iterable[bytes]) -> None:
        """
        Add content.

        @raise NotStored: the disk or the quota is full, or worse.
        """
        assert self._file is not None
        with self._step("write"):
            for piece in pieces:
                self._count(len(piece))
                self._file.write(piece)

    def discard(self) -> None:
        """Leave nothing of it."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # what could not be written is still in its buffer
                self._file.close()
            self._file = None
        if self._temporary is not None:
            with contextlib.suppress(OSError):
                self._temporary.unlink()
            self._temporary = None
        if self._counted is not None:
            self._shelf.end(self._counted, stored=False)
            self._counted = None

    def _count(self, size: int) -> None:
        assert self._counted is not None
        self._shelf.grow(size)
        self._counted += size

    def _settle(self, name: Callable[[int], bytes]) -> Path:
        """
        Sync the content and give the file its place; its name is not durable yet.

        @param name: gives the n-th name to try.
        """
        assert self._file is not None and self._temporary is not None
        assert self._counted is not None
        with self._step("write"):
            self._file.flush()
            os.fsync(self._file.fileno())
            path = self._shelf.put(self._temporary, name)
        self._file.close()
        self._file = self._temporary = None
        self._shelf.end(self._counted, stored=True)
        self._counted = None
        return path

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.discard()
            raise not_stored(name, error) from None
        except BaseException:
            self.discard()
            raise


class ArrivingFile(Arriving):
    """
    A file.

    @param name: as sent.
    """

    def __init__(self, spool: Spool, shelf: Shelf, name: bytes) -> None:
        super().__init__(spool, shelf)
        self._name = name

    def finish(self, arrived: int) -> Path:
        """
        Store it; it is complete.

        @param arrived: nanoseconds since the epoch.
        @return: where it is, durably.
        @raise NotStored: it is nowhere.
        """
        path = self._settle(lambda copy: stored_name(self._name, stamp(arrived), copy))
        self._shelf.sync([path])
        return path


class ArrivingMessage(Arriving):
    """
    The record of a message: its content as JSON.

    @param kind: C{TEXT}, C{JSON} or C{BINARY}.
    @param sender: address, without port.
    """

    def __init__(self, spool: Spool, shelf: Shelf, kind: str, sender: str) -> None:
        super().__init__(spool, shelf)
        self._kind = kind
        self._sender = sender

    def place(self, content: BinaryIO, size: int, arrived: int, ordinal: int) -> Path:
        """
        Write the record and give it its place; its name is not durable yet.

        @param content: of the message, open at its start, C{size} bytes.
        @param arrived: nanoseconds since the epoch.
        @param ordinal: how many messages arrived before it in the same millisecond.
        """
        assert self._file is not None
        with self._step("write"):
            write_message(
                self._file,
                content,
                kind=self._kind,
                size=size,
                sender=self._sender,
                received_at=rfc3339(arrived),
            )
            self._count(self._file.tell())
        return self._settle(lambda copy: message_name(self._kind, stamp(arrived), ordinal + copy))


class ArrivingLargeMessage(ArrivingMessage):
    """A message too large to wait in memory: it waits in a file until its record can be written."""

    def finish(self, arrived: int, ordinal: int) -> Path:
        """
        Store it; it is complete.

        @return: its record, durably.
        @raise NotStored: it is nowhere.
        """
        assert self._file is not None
        record = ArrivingMessage(self._spool, self._shelf, self._kind, self._sender)
        try:
            with self._step("read"):
                size = self._file.tell()
                self._file.seek(0)
                record.open(0)
                path = record.place(self._file, size, arrived, ordinal)
            self._shelf.sync([path])
            return path
        finally:
            self.discard()
