"""Task files: whole, durable, and nowhere else."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from pilot.tasks.document import ACCEPTED
from pilot.tasks.errors import TaskFileError
from pilot.tasks.store import TaskFolder, TaskStore, read_result
from tests.tasks.test_lifecycle import FRESH


def test_what_is_saved_is_there_again(tmp_path: Path) -> None:
    store = TaskStore(tmp_path / "tasks")
    store.received.save(FRESH)
    assert TaskStore(tmp_path / "tasks").received.load(FRESH.task_id) == FRESH
    path = tmp_path / "tasks" / "received" / f"{FRESH.task_id}.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert store.received.count() == 1
    store.received.remove(FRESH.task_id)
    store.received.remove(FRESH.task_id)
    assert store.received.load(FRESH.task_id) is None
    assert store.submitted.count() == 0


@pytest.mark.parametrize("task_id", ["../climbed", "", "..", "a/b", "/etc/passwd"])
def test_an_id_never_leads_anywhere_else(tmp_path: Path, task_id: str) -> None:
    store = TaskStore(tmp_path / "tasks")
    with pytest.raises(TaskFileError):
        store.received.save(FRESH._replace(task_id=task_id))
    with pytest.raises(TaskFileError):
        store.save_result(task_id, "a.txt", b"x")
    (tmp_path / "climbed.json").write_bytes(FRESH.encode())
    assert store.received.load(task_id) is None
    store.received.remove(task_id)
    assert sorted(os.listdir(tmp_path)) == ["climbed.json"]


def test_a_result_stays_in_its_directory(tmp_path: Path) -> None:
    store = TaskStore(tmp_path / "tasks")
    path = store.save_result("t", "x/../../climbed.txt", b"ABC")
    assert path == tmp_path / "tasks" / "results" / "t_climbed.txt"
    assert path.read_bytes() == b"ABC"


def test_only_changes_of_others_are_news(tmp_path: Path) -> None:
    """All files the first time, then what somebody else has changed, added, removed or spoilt."""
    folder = TaskFolder(tmp_path)
    other = TaskFolder(tmp_path)
    other.save(FRESH)
    (tmp_path / "notes.txt").write_text("no task")
    (tmp_path / "a.b.json").write_text("{}")
    assert list(folder.changes()) == [(FRESH.task_id, FRESH)]
    assert list(folder.changes()) == []
    folder.save(FRESH._replace(status=ACCEPTED))
    assert list(folder.changes()) == []
    other.save(FRESH._replace(task_description="another"))
    (tmp_path / "spoilt.json").write_text("{")
    found = dict(folder.changes())
    assert found["spoilt"] is None
    assert found[FRESH.task_id] is not None
    other.remove(FRESH.task_id)
    assert list(folder.changes()) == [(FRESH.task_id, None)]
    assert list(TaskFolder(tmp_path / "nowhere").changes()) == []


def test_a_full_disk_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = TaskFolder(tmp_path)
    folder.save(FRESH)

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(TaskFileError, match="cannot write the task file: no space left"):
        folder.save(FRESH._replace(status=ACCEPTED))
    with pytest.raises(TaskFileError, match="cannot write the results: no space left"):
        TaskStore(tmp_path / "t").save_result("t", "", b"x")
    assert folder.load(FRESH.task_id) == FRESH
    assert os.listdir(tmp_path / "t") == ["results"] or not os.listdir(tmp_path / "t")


def test_a_file_that_claims_another_id_is_not_believed(tmp_path: Path) -> None:
    folder = TaskFolder(tmp_path)
    (tmp_path / "mine.json").write_bytes(FRESH._replace(task_id="../../x").encode())
    found = folder.load("mine")
    assert found is not None and found.task_id == "mine"


def test_reading_a_user_s_file(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_bytes(b"12345")
    assert read_result(str(path), 5) == b"12345"
    with pytest.raises(TaskFileError, match="too large"):
        read_result(str(path), 4)
    missing = tmp_path / "nope.md"
    with pytest.raises(
        TaskFileError, match=f"^failed to read file: open {missing}: no such file or directory$"
    ):
        read_result(str(missing), 5)
