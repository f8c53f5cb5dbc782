"""The database: durable, exclusive, and never written over when it is not what it should be."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import DeferredList

from pilot.registry import store as store_module
from pilot.registry.records import Change, Table
from pilot.registry.store import SqliteStore, StoreFailed

ROWS = [
    Change(Table.META, "schema", b"1"),
    Change(Table.NODE, 1, b'{"id":1}'),
    Change(Table.CONSENT, (1, 4294967295), b"given"),
    Change(Table.LETTER, 7, '{"justification":"é"}'.encode()),
    Change(Table.MEMBER, (65535, 1), b"{}"),
    Change(Table.INVITE, (1, 2), b"{}"),
    Change(Table.NETWORK, 0, b"{}"),
]


def opened(path: Path) -> SqliteStore:
    return SqliteStore(reactor, path)  # type: ignore[arg-type]


@pytest_twisted.ensureDeferred
async def test_what_was_committed_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "registry.db"
    store = opened(path)
    assert list(store.rows()) == []
    await store.commit(ROWS)
    await store.commit([Change(Table.NODE, 1, b"new"), Change(Table.MEMBER, (65535, 1), None)])
    await store.close()
    again = opened(path)
    wanted = {(r.table, r.key): r.value for r in ROWS}
    wanted[Table.NODE, 1] = b"new"
    del wanted[Table.MEMBER, (65535, 1)]
    assert {(table, key): value for table, key, value in again.rows()} == wanted
    await again.close()


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    """It holds the tokens of networks."""
    path = tmp_path / "registry.db"
    opened(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest_twisted.ensureDeferred
async def test_commits_made_meanwhile_share_a_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    original = store_module._transact

    def counted(database: sqlite3.Connection, changes: Any) -> None:
        batches.append(len(changes))
        original(database, changes)

    monkeypatch.setattr(store_module, "_transact", counted)
    store = opened(tmp_path / "registry.db")
    await DeferredList([store.commit([Change(Table.NODE, n, b"{}")]) for n in range(50)])
    assert batches == [1, 49]
    assert len(list(store.rows())) == 50
    await store.close()


@pytest_twisted.ensureDeferred
async def test_closing_waits_for_what_is_under_way(tmp_path: Path) -> None:
    store = opened(tmp_path / "registry.db")
    commits = [store.commit([Change(Table.NODE, n, b"{}")]) for n in range(3)]
    await store.close()
    assert all(commit.called for commit in commits)
    again = opened(tmp_path / "registry.db")
    assert len(list(again.rows())) == 3
    await again.close()


@pytest_twisted.ensureDeferred
async def test_a_second_registry_on_the_same_file_is_refused(tmp_path: Path) -> None:
    store = opened(tmp_path / "registry.db")
    with pytest.raises(StoreFailed, match="in use by another process") as caught:
        opened(tmp_path / "registry.db")
    assert caught.value.hint
    await store.close()


@pytest.mark.parametrize(
    "content",
    [b'{"version":1}', b"SQLite format 3\x00" + b"\xff" * 4000, os.urandom(20_000)],
    ids=["json", "header", "noise"],
)
def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "registry.db"
    path.write_bytes(content)
    with pytest.raises(StoreFailed) as caught:
        opened(path)
    assert "nothing was changed" in (caught.value.hint or "")
    assert path.read_bytes() == content


def test_another_program_s_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE node (id INTEGER)")
    other.close()
    with pytest.raises(StoreFailed, match="is not a registry's database"):
        opened(path)
    check = sqlite3.connect(path)
    assert check.execute("SELECT name FROM sqlite_master").fetchall() == [("node",)]
    check.close()


@pytest_twisted.ensureDeferred
async def test_a_damaged_database_stops_the_start(tmp_path: Path) -> None:
    """Overwritten pages in the middle are found before anything is served or written."""
    path = tmp_path / "registry.db"
    store = opened(path)
    await store.commit([Change(Table.NODE, n, b"x" * 200) for n in range(500)])
    await store.close()
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8192] = b"\x55" * 8192
    path.write_bytes(content)
    with pytest.raises(StoreFailed, match="cannot be read"):
        list(opened(path).rows())


def test_a_path_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreFailed, match="cannot open"):
        opened(tmp_path / "file" / "registry.db")


@pytest_twisted.ensureDeferred
async def test_a_full_disk_fails_its_requests_and_is_got_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be written is written with the next change that can."""
    full = True
    original = store_module._transact

    def on_a_full_disk(database: sqlite3.Connection, changes: Any) -> None:
        if full:
            raise sqlite3.OperationalError("database or disk is full")
        original(database, changes)

    monkeypatch.setattr(store_module, "_transact", on_a_full_disk)
    store = opened(tmp_path / "registry.db")
    for value in (b"1", b"2"):
        with pytest.raises(StoreFailed, match="disk is full"):
            await store.commit([Change(Table.NODE, 1, value), Change(Table.NODE, 3, b"3")])
    assert store.failures == 2
    full = False
    await store.commit([Change(Table.NODE, 2, b"2")])
    assert {key: value for _, key, value in store.rows()} == {1: b"2", 2: b"2", 3: b"3"}
    await store.close()


@pytest_twisted.ensureDeferred
async def test_a_failed_transaction_leaves_nothing_half_done(tmp_path: Path) -> None:
    store = opened(tmp_path / "registry.db")
    bad = Change(Table.NODE, 2, b"\xff")  # no text: SQLite never sees it
    with pytest.raises(StoreFailed):
        await store.commit([Change(Table.NODE, 1, b"{}"), bad])
    assert list(store.rows()) == []
    await store.commit([Change(Table.NODE, 2, b"{}")])
    assert [key for _, key, _ in store.rows()] == [1, 2]
    await store.close()


KILLED = textwrap.dedent(
    """
    import os, sys
    from pathlib import Path
    from twisted.internet import reactor
    from pilot.registry.records import Change, Table
    from pilot.registry.store import SqliteStore

    store = SqliteStore(reactor, Path(sys.argv[1]))

    def commit(n):
        done = store.commit([Change(Table.NODE, n, b"{}"), Change(Table.LETTER, n, b"{}")])
        done.addCallback(lambda _: (print(n, flush=True), commit(n + 1)))

    reactor.callWhenRunning(commit, 1)
    reactor.run()
    """
)


def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Whatever number the process managed to print is there after kill -9, and whole."""
    path = tmp_path / "registry.db"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(40):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    acknowledged = 40 + len(process.stdout.read().splitlines())
    process.wait()
    process.stdout.close()
    store = opened(path)
    rows = {(table, key) for table, key, _ in store.rows()}
    store.close()
    nodes = sorted(key for table, key in rows if table is Table.NODE)
    assert nodes == list(range(1, len(nodes) + 1))
    assert acknowledged - 1 <= len(nodes) <= acknowledged + 1
    assert {(Table.LETTER, n) for n in nodes} <= rows
