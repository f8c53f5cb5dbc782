"""A swarm's files: torn, damaged, interrupted, on a full disk, and after a kill."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skills.gossip.core.journal import encode_record
from skills.gossip.core.restoring import Restored
from skills.gossip.shell import storage
from skills.gossip.shell.storage import (
    DAMAGED,
    DAMAGED_JOURNAL,
    JOURNAL,
    RETRY,
    SNAPSHOT,
    SNAPSHOT_AGE,
    SwarmStorage,
)
from tests.skills.gossip.shells import Net, network

TIME = "0190a1b2c3d40001"


def record(number: int, key: str = "") -> tuple[str, Any]:
    return ("register", [key or f"key-{number}", number, f"{number:016x}", 1, 0])


def values(restored: Restored) -> dict[str, Any]:
    return {key: register.value for key, register in restored.registers.items()}


class Book:
    """What a replica would hold: everything that was ever appended."""

    def __init__(self, path: Path, durability: str = "write") -> None:
        self.path = path
        self.held: dict[str, tuple[str, Any]] = {}
        self.durability = durability
        self.reopen()

    def reopen(self) -> Restored:
        self.storage = SwarmStorage(self.path, self.everything, durability=self.durability, now=0.0)
        restored = self.storage.open()
        self.held = {
            key: ("register", register.to_list()) for key, register in restored.registers.items()
        }
        return restored

    def everything(self) -> Iterable[tuple[str, Any]]:
        return list(self.held.values())

    def write(self, number: int, now: float = 0.0, *, urgent: bool = True) -> None:
        entry = record(number)
        self.held[entry[1][0]] = entry
        self.storage.append(now, [entry], urgent=urgent)


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    made = Book(tmp_path / "kv")
    yield made
    made.storage.discard()


def test_what_was_appended_is_there_again(book: Book) -> None:
    for number in range(5):
        book.write(number)
    assert values(book.reopen()) == {f"key-{number}": number for number in range(5)}
    assert book.storage.records == 5
    assert not book.storage.recovered
    assert (book.path / JOURNAL).stat().st_mode & 0o777 == 0o600
    assert book.path.stat().st_mode & 0o777 == 0o700


def test_a_journal_torn_anywhere_keeps_what_was_whole(book: Book) -> None:
    for number in range(3):
        book.write(number)
    whole = (book.path / JOURNAL).read_bytes()
    ends = [0]
    for number in range(3):
        ends.append(ends[-1] + len(encode_record(*record(number))))
    assert ends[-1] == len(whole)
    for cut in range(len(whole) + 1):
        (book.path / JOURNAL).write_bytes(whole[:cut])
        complete = sum(1 for end in ends[1:] if end <= cut)
        assert values(book.reopen()) == {f"key-{number}": number for number in range(complete)}
        assert bool(book.storage.recovered) == (cut not in ends)
        book.write(9)  # after the tear, where it can be read
        assert values(book.reopen())["key-9"] == 9
        book.storage.close(0.0)
        (book.path / SNAPSHOT).unlink(missing_ok=True)


def test_a_damaged_record_ends_the_journal(book: Book) -> None:
    for number in range(3):
        book.write(number)
    data = bytearray((book.path / JOURNAL).read_bytes())
    data[len(data) // 2] ^= 0x40
    (book.path / JOURNAL).write_bytes(data)
    assert values(book.reopen()) == {"key-0": 0}
    assert "torn" in book.storage.recovered[0]


def test_a_damaged_snapshot_is_set_aside(book: Book) -> None:
    book.write(1)
    book.storage.snapshot(0.0)
    book.write(2)
    data = bytearray((book.path / SNAPSHOT).read_bytes())
    data[-3] ^= 1
    (book.path / SNAPSHOT).write_bytes(data)
    assert values(book.reopen()) == {"key-2": 2}
    assert (book.path / DAMAGED).read_bytes() == bytes(data)
    assert DAMAGED in book.storage.recovered[0]


@pytest.mark.parametrize("name", [SNAPSHOT, JOURNAL])
def test_a_directory_in_place_of_a_file_is_set_aside(book: Book, name: str) -> None:
    book.write(1)
    if name == SNAPSHOT:
        book.storage.snapshot(1.0)
        book.write(2)
    else:
        book.storage.snapshot(1.0)
    book.storage._release()
    path = book.path / name
    path.unlink()
    path.mkdir()
    (path / "inside").write_text("kept")
    restored = book.reopen()
    assert values(restored) == ({"key-2": 2} if name == SNAPSHOT else {"key-1": 1})
    assert book.storage.error is None and "is kept as damaged" in book.storage.recovered[0]
    kept = DAMAGED if name == SNAPSHOT else DAMAGED_JOURNAL
    assert (book.path / kept / "inside").read_text() == "kept"
    book.write(3)
    assert "key-3" in values(book.reopen())


def test_a_snapshot_that_cannot_be_read_now_is_not_written_over(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    book.write(1)
    book.storage.snapshot(1.0)
    whole = (book.path / SNAPSHOT).read_bytes()
    book.storage._release()

    def fails(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", fails)
        assert values(book.reopen()) == {}
    book.storage.tick(RETRY)
    book.write(2, RETRY)
    book.storage.snapshot(RETRY)
    assert (book.path / DAMAGED).read_bytes() == whole
    assert values(book.reopen()) == {"key-2": 2}


def test_a_snapshot_begins_the_journal_anew(book: Book) -> None:
    for number in range(storage.SNAPSHOT_RECORDS):
        book.write(number, urgent=False)
    assert book.storage.snapshots == 0
    book.storage.tick(1.0)
    assert book.storage.snapshots == 1
    assert (book.path / JOURNAL).stat().st_size == 0
    assert len(values(book.reopen())) == storage.SNAPSHOT_RECORDS


def test_a_snapshot_is_written_when_there_was_something_for_a_while(book: Book) -> None:
    book.storage.tick(SNAPSHOT_AGE + 1)
    assert book.storage.snapshots == 0
    book.write(1, SNAPSHOT_AGE + 2)
    book.storage.tick(SNAPSHOT_AGE + 3)
    assert book.storage.snapshots == 1


def test_a_stop_between_snapshot_and_journal_changes_nothing(book: Book) -> None:
    """The journal still holds what the snapshot has: reading both comes to the same."""
    for number in (1, 2, 3):
        book.write(number)
    book.storage.append(0.0, [("gone", "key-2"), record(7, "key-1")], urgent=True)
    del book.held["key-2"]
    book.held["key-1"] = record(7, "key-1")
    journal = (book.path / JOURNAL).read_bytes()
    book.storage.snapshot(0.0)
    (book.path / JOURNAL).write_bytes(journal)
    assert values(book.reopen()) == {"key-1": 7, "key-3": 3}


@pytest.mark.parametrize("durability", ["write", "interval", "none"])
def test_writes_are_forced_to_the_disk_as_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durability: str
) -> None:
    forced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: forced.append("sync"))
    book = Book(tmp_path / "kv", durability)
    book.write(1, urgent=False)
    assert not forced
    book.write(2)
    assert len(forced) == (durability == "write")
    book.write(3, urgent=False)
    book.storage.tick(1.0)
    assert len(forced) == {"write": 2, "interval": 1, "none": 0}[durability]
    book.storage.tick(2.0)  # nothing new
    assert len(forced) == {"write": 2, "interval": 1, "none": 0}[durability]
    book.storage.discard()


class FullDisk:
    """Takes so many bytes more, in all, and then none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room = room
        self._write = os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, descriptor: int, data: Any) -> int:
        if self.room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self._write(descriptor, bytes(data)[: self.room])
        self.room -= written
        return written


def test_a_full_disk_costs_durability_and_nothing_else(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    book.write(1)
    disk = FullDisk(monkeypatch, room=10)  # the next record is written in part
    book.write(2, now=100.0)
    book.write(3, now=101.0)
    assert book.storage.error == "No space left on device"
    assert book.storage.status()["state"] == "memory only"
    book.storage.tick(100.0 + RETRY)  # tried again, in vain
    assert book.storage.failures == 2
    assert (book.path / JOURNAL).read_bytes() == encode_record(*record(1))
    assert not (book.path / f"{SNAPSHOT}.new").exists()
    disk.room = 1 << 20
    book.storage.tick(101.0 + RETRY)  # not yet
    assert book.storage.error is not None
    book.storage.tick(100.0 + 2 * RETRY)
    assert book.storage.status()["state"] == "ok"
    book.write(4, now=200.0)
    assert values(book.reopen()) == {f"key-{number}": number for number in (1, 2, 3, 4)}


def test_a_directory_that_cannot_be_made_is_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / "kv").write_text("in the way")
    book = Book(tmp_path / "kv")
    assert book.storage.status()["state"] == "memory only"
    book.write(1)
    (tmp_path / "kv").unlink()
    book.storage.tick(RETRY + 1)
    assert book.storage.error is None
    assert values(book.reopen()) == {"key-1": 1}
    book.storage.discard()


def test_a_service_says_that_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with network(tmp_path) as net:
        shell = net.shell(1)
        shell.join()
        disk = FullDisk(monkeypatch, room=0)
        answer = shell.call("set", key="a", value=1)
        assert answer["stored"] is False
        assert shell.kv.get("a") == 1
        assert shell.call("status")["storage"]["error"] == "No space left on device"
        disk.room = 1 << 20
        net.pass_time(RETRY + 2.0)
        assert shell.call("set", key="b", value=2)["stored"] is True
        shell.kill()
        shell.start()
        assert shell.kv.document() == {"a": 1, "b": 2}


def test_stamps_go_on_above_those_that_may_have_been_used(tmp_path: Path) -> None:
    with network(tmp_path) as net:
        shell = net.shell(1)
        shell.join()
        stamps = [shell.call("set", key="a", value=number)["hlc"] for number in range(3)]
        shell.kill()
        net.set_wall(-86400.0)
        shell.start()
        stamps.append(shell.call("set", key="a", value="later")["hlc"])
        assert stamps == sorted(set(stamps))


WRITER = """
import sys
from pathlib import Path
from skills.gossip.shell.storage import SwarmStorage

held = []
store = SwarmStorage(Path(sys.argv[1]), lambda: held, durability="write", now=0.0)
held += [("register", each.to_list()) for each in store.open().registers.values()]
number = len(held)
while True:
    entry = ("register", [f"key-{number}", "x" * 300, f"{number:016x}", 1, 0])
    held.append(entry)
    store.append(0.0, [entry], urgent=True)
    print(number, flush=True)  # confirmed
    if number % 50 == 49:
        store.snapshot(0.0)
    number += 1
"""


def test_kill_9_loses_nothing_that_was_confirmed(tmp_path: Path) -> None:
    path = tmp_path / "kv"
    for kill_after in (1, 48, 49, 75):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        try:
            confirmed = -1
            for _ in range(kill_after):
                confirmed = int(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGKILL)
            rest = process.communicate()[0].split()
        confirmed = int(rest[-1]) if rest else confirmed
        book = Book(path)
        assert set(book.held) >= {f"key-{number}" for number in range(confirmed + 1)}
        book.storage._release()


def test_a_roster_that_cannot_be_read_is_not_fatal(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    for content in ("", "[]", '{"swarms": {"A!": {}, "ok": {"fanout": "x"}}}', "\x00"):
        (tmp_path / "1" / "swarms.json").write_text(content)
        net = Net(tmp_path)
        shell = net.shell(1)
        assert not shell.service.swarms
        shell.stop()
        assert json.loads((tmp_path / "1" / "swarms.json").read_text())["incarnation"] > 0
