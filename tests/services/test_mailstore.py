"""Mail on disk, without a network: crashes, records, quotas under change."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot.services.localtime import rfc3339, stamp
from pilot.services.mailstore import MailLimits, MailStore, Message
from pilot.services.messagefile import read_inbox, write_message
from pilot.services.shelf import Full, Shelf
from pilot.wire.jsontext import dump
from tests.services.mail import NOON

CRASHING = Path(__file__).with_name("crashingstore.py")


def test_a_crash_between_any_two_steps_loses_nothing_that_was_confirmed(tmp_path: Path) -> None:
    """And leaves nothing half, and nothing for ever."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for step in range(1, 100):
        home = tmp_path / str(step)
        home.mkdir()
        run = subprocess.run(
            [sys.executable, "-S", str(CRASHING), str(home), str(step)],
            capture_output=True,
            text=True,
            env=environment,
            timeout=60,
        )
        stored = {line.removeprefix("stored ") for line in run.stdout.splitlines()}
        there = set()
        for path in home.glob("inbox/*"):
            record = json.loads(path.read_bytes())
            assert record["bytes"] == len(record["data"])
            there.add(record["data"])
        there |= {path.read_text() for path in home.glob("received/*")}
        assert stored <= there <= {"one", "two", "three", "x" * 100_000, "y" * 100_000}
        MailStore(home, MailLimits()).prepare()
        assert not list(home.glob("spool/*"))
        if run.returncode == 0:
            break
        assert run.returncode == 9, run.stderr
    assert step > 30 and len(stored) == 5


@given(
    content=st.binary(max_size=400) | st.text(max_size=200).map(str.encode),
    sender=st.text(max_size=30),
    kind=st.sampled_from(["TEXT", "JSON", "BINARY"]),
)
def test_records_are_what_one_would_write_in_memory(content: bytes, sender: str, kind: str) -> None:
    """Piece by piece, and still canonical."""
    out = io.BytesIO()
    write_message(
        out, io.BytesIO(content), kind=kind, size=len(content), sender=sender, received_at="now"
    )
    record = json.loads(out.getvalue())
    damaged = not _is_text(content)
    assert ("data_base64" in record) == damaged
    assert damaged or dump(record) == out.getvalue()
    assert list(record) == sorted(record)


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_characters_across_the_pieces_of_a_large_record() -> None:
    text = "aé" * 200_000 + "😀" * 100_000
    out = io.BytesIO()
    content = text.encode()
    write_message(
        out, io.BytesIO(content), kind="TEXT", size=len(content), sender="x", received_at="now"
    )
    assert json.loads(out.getvalue())["data"] == text


def test_times(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    for zone, expected in (
        ("UTC0", "2026-11-20T16:00:36Z"),
        ("<+0530>-5:30", "2026-11-20T21:30:36+05:30"),
        ("<-0330>3:30", "2026-11-20T12:30:36-03:30"),
    ):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        assert rfc3339(NOON) == expected
        assert stamp(NOON)[:15] == expected[:19].translate({ord("-"): "", ord(":"): ""}).replace(
            "T", "-"
        )
        assert stamp(NOON).endswith(".544"), "cut off, not rounded"
    monkeypatch.undo()
    time.tzset()


def test_a_batch_is_judged_message_by_message(tmp_path: Path) -> None:
    store = MailStore(tmp_path, MailLimits(inbox_bytes=400))
    outcomes = store.deliver(
        [Message("TEXT", b"x" * size, "me", NOON, n) for n, size in enumerate((100, 500, 101))]
    )
    assert isinstance(outcomes[0], Path) and isinstance(outcomes[2], Path)
    assert isinstance(outcomes[1], Full)
    assert [len(message.fields["data"]) for message in read_inbox(str(tmp_path / "inbox"))] == [
        100,
        101,
    ]


def test_a_full_shelf_is_not_searched_for_every_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only when its directory has changed since."""
    shelf = Shelf(tmp_path, "files", 1, 100)
    (tmp_path / "x").write_bytes(b"x")
    os.utime(tmp_path, (1, 1))
    looks = 0
    scandir = os.scandir

    def counting(path: Path) -> object:
        nonlocal looks
        looks += 1
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counting)
    for _ in range(10):
        with pytest.raises(Full, match="is full: 1 files"):
            shelf.begin(0)
    assert looks == 1
    (tmp_path / "x").unlink()
    shelf.begin(0)
    assert looks == 2
    with pytest.raises(Full):
        shelf.begin(0)
    shelf.end(0, stored=False)
    shelf.begin(0)
