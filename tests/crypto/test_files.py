"""Files that are there whole, or as they were before."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pilot.crypto.files import write_atomically


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


def test_is_private_unless_told_otherwise(tmp_path: Path) -> None:
    """Whatever the umask, and whatever the file before had."""
    path = tmp_path / "secret"
    path.write_bytes(b"old")
    path.chmod(0o666)
    before = os.umask(0)
    try:
        write_atomically(path, b"new")
        assert mode(path) == 0o600
        write_atomically(path, b"new", mode=0o644)
        assert mode(path) == 0o644
    finally:
        os.umask(before)


def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is found out at the latest by fsync."""
    path = tmp_path / "state.json"
    write_atomically(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


def test_does_not_write_through_a_link_at_the_temporary_name(tmp_path: Path) -> None:
    """Whoever can write to the directory cannot redirect the secret."""
    target = tmp_path / "elsewhere"
    target.write_bytes(b"untouched")
    (tmp_path / f"secret.{os.getpid()}.tmp").symlink_to(target)
    with pytest.raises(OSError):
        write_atomically(tmp_path / "secret", b"secret")
    assert target.read_bytes() == b"untouched"
