"""Where the directory's records are kept: an embedded SQLite database, or nowhere.

A request that changed something is answered when its change is on disk.  While one transaction is
being written the next changes gather, so under load many requests share one.  Writing happens on a
thread of its own; the reactor never waits for the disk.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import Interface, implementer

from pilot.errors import PilotError
from pilot.registry.records import Change, Key, Table

log = Logger()

#: Marks our databases among all others (SQLite's application id).
APPLICATION_ID = 0x50494C54

_COLUMNS = {
    Table.META: ("word TEXT PRIMARY KEY",),
    Table.NODE: ("id INTEGER PRIMARY KEY",),
    Table.CONSENT: ("node INTEGER", "peer INTEGER"),
    Table.LETTER: ("id INTEGER PRIMARY KEY",),
    Table.NETWORK: ("id INTEGER PRIMARY KEY",),
    Table.MEMBER: ("network INTEGER", "node INTEGER"),
    Table.INVITE: ("node INTEGER", "network INTEGER"),
}


class StoreFailed(PilotError):
    """The database cannot be opened, or a change could not be written."""


class IRegistryStore(Interface):
    """A durable set of rows, changed in batches of which each is written whole or not at all."""

    def rows() -> Iterator[tuple[Table, Any, bytes]]:
        """@return: iterator of (table, key, value); to be asked once, before any change."""

    def commit(changes: Sequence[Change]) -> Deferred[None]:
        """
        Write what changed.

        @param changes: list of L{Change}, later ones overruling earlier ones.
        @return: Deferred of C{None} when they would survive a power loss; it fails with
            L{StoreFailed}, and then they are written with the next changes.
        """

    def close() -> Deferred[None]:
        """@return: Deferred of C{None} when everything is written and the store is closed."""


@implementer(IRegistryStore)
class MemoryStore:
    """Keeps nothing: the registry starts empty each time."""

    def rows(self) -> Iterator[tuple[Table, Any, bytes]]:
        """@return: nothing."""
        return iter(())

    def commit(self, changes: Sequence[Change]) -> Deferred[None]:
        """@return: a Deferred that has fired."""
        return succeed(None)

    def close(self) -> Deferred[None]:
        """@return: a Deferred that has fired."""
        return succeed(None)


@implementer(IRegistryStore)
class SqliteStore:
    """
    One SQLite file in write-ahead mode, for this process alone.

    @ivar failures: transactions that could not be written so far.
    """

    def __init__(self, reactor: IReactorFromThreads, path: Path) -> None:
        """
        Open the database, making it if there is none.

        @raise StoreFailed: the file is no database of ours, damaged, or in use; it is left as it
            was.
        """
        self.failures = 0
        self._reactor = reactor
        self._path = path
        self._database = _opened(path)
        self._waiting: dict[tuple[Table, Key], bytes | None] = {}
        self._waiters: list[Deferred[None]] = []
        self._writing = False
        self._failing = False
        self._closing: Deferred[None] | None = None
        self._pool = ThreadPool(1, 1, "registry store")

    def rows(self) -> Iterator[tuple[Table, Any, bytes]]:
        """@raise StoreFailed: a table cannot be read."""
        try:
            for table in Table:
                for row in self._database.execute(f"SELECT * FROM {table.value}"):
                    *keys, value = row
                    if table is Table.META:
                        keys = [keys[0].decode()]
                    yield table, keys[0] if len(keys) == 1 else tuple(keys), value
        except (sqlite3.Error, ValueError) as error:
            raise _damaged(self._path, error) from error

    def commit(self, changes: Sequence[Change]) -> Deferred[None]:
        """Write what changed; see L{IRegistryStore}."""
        for table, key, value in changes:
            self._waiting[table, key] = value
        waiter: Deferred[None] = Deferred()
        self._waiters.append(waiter)
        if not self._writing:
            self._write()
        return waiter

    def close(self) -> Deferred[None]:
        """Write what is left and close; see L{IRegistryStore}."""
        self._closing = Deferred()
        closing = self._closing
        if not self._writing:
            if self._waiting:
                self._write()
            else:
                self._close()
        return closing

    def _write(self) -> None:
        if not self._pool.started:
            self._pool.start()
        changes, self._waiting = self._waiting, {}
        waiters, self._waiters = self._waiters, []
        self._writing = True
        writing = deferToThreadPool(self._reactor, self._pool, _transact, self._database, changes)
        writing.addCallbacks(
            self._written, self._failed, callbackArgs=(waiters,), errbackArgs=(changes, waiters)
        )
        writing.addErrback(lambda failure: log.failure("after a transaction", failure))

    def _written(self, _: None, waiters: list[Deferred[None]]) -> None:
        if self._failing:
            self._failing = False
            log.info("the registry's database can be written again: {path}", path=self._path)
        self._next(waiters, None)

    def _failed(
        self,
        failure: Failure,
        changes: dict[tuple[Table, Key], bytes | None],
        waiters: list[Deferred[None]],
    ) -> None:
        self.failures += 1
        if not self._failing:
            self._failing = True
            log.error(
                "the registry's database cannot be written: {path}: {error}",
                path=self._path,
                error=failure.value,
            )
        # What the rows are by now wins over what they were.
        self._waiting = changes | self._waiting
        self._next(waiters, StoreFailed(f"cannot write {self._path}: {failure.value}"))

    def _next(self, waiters: list[Deferred[None]], error: StoreFailed | None) -> None:
        self._writing = False
        for waiter in waiters:
            if error is None:
                waiter.callback(None)
            else:
                waiter.errback(error)
        if self._writing:
            return  # a waiter had more to write
        if self._waiters:
            self._write()
        else:
            self._close()

    def _close(self) -> None:
        closing, self._closing = self._closing, None
        if closing is None:
            return  # a waiter closed the store meanwhile
        if self._pool.started:
            self._pool.stop()
        try:
            self._database.close()
        except sqlite3.Error as error:
            log.error("closing {path}: {error}", path=self._path, error=error)
        closing.callback(None)


def _transact(database: sqlite3.Connection, changes: dict[tuple[Table, Key], bytes | None]) -> None:
    """Runs on the store's own thread."""
    try:
        database.execute("BEGIN IMMEDIATE")
        for (table, key), value in changes.items():
            keys = key if isinstance(key, tuple) else (key,)
            if value is None:
                where = " AND ".join(f"{column} = ?" for column in _names(table))
                database.execute(f"DELETE FROM {table.value} WHERE {where}", keys)
            else:
                marks = ", ".join("?" * (len(keys) + 1))
                database.execute(
                    f"INSERT OR REPLACE INTO {table.value} VALUES ({marks})",
                    (*keys, value.decode("utf-8")),
                )
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def _names(table: Table) -> list[str]:
    return [column.split()[0] for column in _COLUMNS[table]]


def _opened(path: Path) -> sqlite3.Connection:
    fresh = not path.exists() or path.stat().st_size == 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Ours alone from the first byte: it holds join tokens.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, stat.S_IRUSR | stat.S_IWUSR))
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise StoreFailed(f"cannot open the registry's database {path}: {error}") from error
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1.0)
    database.text_factory = bytes
    try:
        _prepare(database, path, fresh)
    except sqlite3.Error as error:
        database.close()
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (
            sqlite3.SQLITE_BUSY,
            sqlite3.SQLITE_LOCKED,
        ):
            raise StoreFailed(
                f"the registry's database {path} is in use by another process",
                hint="stop the other registry, or give this one a file of its own",
            ) from error
        raise _damaged(path, error) from error
    except StoreFailed:
        database.close()
        raise
    return database


def _prepare(database: sqlite3.Connection, path: Path, fresh: bool) -> None:
    # Exclusive: a second registry on the same file must fail at once, not take turns.
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    database.execute("PRAGMA journal_mode = WAL")
    # FULL syncs the log at every commit: an acknowledged change survives a power loss.
    database.execute("PRAGMA synchronous = FULL")
    database.execute("BEGIN IMMEDIATE")
    (mark,) = database.execute("PRAGMA application_id").fetchone()
    if fresh and mark == 0:
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        for table, columns in _COLUMNS.items():
            single = len(columns) == 1
            primary = "" if single else f", PRIMARY KEY ({', '.join(_names(table))})"
            database.execute(
                f"CREATE TABLE {table.value} ({', '.join(columns)}, value TEXT NOT NULL{primary})"
                + ("" if single else " WITHOUT ROWID")
            )
    elif mark != APPLICATION_ID:
        raise StoreFailed(
            f"{path} is not a registry's database",
            hint="give the registry a file of its own; this one was not touched",
        )
    database.execute("COMMIT")
    found = database.execute("PRAGMA quick_check").fetchone()[0]
    if found != b"ok":
        raise sqlite3.DatabaseError(found.decode("utf-8", "replace"))


def _damaged(path: Path, error: Exception) -> StoreFailed:
    return StoreFailed(
        f"the registry's database {path} cannot be read: {error}",
        hint="restore it from a backup, or move it (and its -wal and -shm files) away to start"
        " empty; nothing was changed",
    )
