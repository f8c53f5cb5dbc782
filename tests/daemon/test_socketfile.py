"""Whose socket a path is: taken over when stale, never stolen, never more than a socket removed."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot.daemon import socketfile
from pilot.daemon.socketfile import MAX_PATH, SocketFile, is_alive
from pilot.errors import AlreadyExists, InvalidArgument


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "s")


@pytest.fixture
def listeners() -> Iterator[list[socket.socket]]:
    opened: list[socket.socket] = []
    yield opened
    for listener in opened:
        listener.close()


def stale(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)


def names(path: str) -> list[str]:
    return sorted(os.listdir(os.path.dirname(path)))


def test_only_the_owner_may_ever_open_it(
    path: str, listeners: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []
    link = os.link

    def spy(source: str, target: str) -> None:
        modes.append(stat.S_IMODE(os.lstat(source).st_mode))
        link(source, target)

    monkeypatch.setattr(os, "link", spy)
    old = os.umask(0)
    try:
        listeners.append(SocketFile(path).claim())
        assert os.umask(0) == 0  # left as it was found
    finally:
        os.umask(old)
    assert [*modes, stat.S_IMODE(os.lstat(path).st_mode)] == [0o600, 0o600]
    assert is_alive(path)
    assert names(path) == ["s"]


def test_a_stale_socket_is_taken_over(path: str, listeners: list[socket.socket]) -> None:
    stale(path)
    listeners.append(SocketFile(path).claim())
    assert is_alive(path)
    assert names(path) == ["s"]


def test_a_living_one_is_not(path: str, listeners: list[socket.socket]) -> None:
    first = SocketFile(path)
    listeners.append(first.claim())
    with pytest.raises(AlreadyExists, match="is active") as caught:
        SocketFile(path).claim()
    assert caught.value.hint == "stop it first with: pilotctl daemon stop"
    assert is_alive(path)
    assert names(path) == ["s"]


def test_one_too_busy_to_accept_is_alive(path: str, listeners: list[socket.socket]) -> None:
    busy = socket.socket(socket.AF_UNIX)
    listeners.append(busy)
    busy.bind(path)
    busy.listen(0)
    waiting = [socket.socket(socket.AF_UNIX) for _ in range(4)]
    for client in waiting:
        client.setblocking(False)
        try:
            client.connect(path)
        except BlockingIOError:
            break
    listeners += waiting
    with pytest.raises(AlreadyExists):
        SocketFile(path).claim()


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_what_is_no_socket_stays(path: str, kind: str) -> None:
    if kind == "file":
        Path(path).write_text("precious")
    elif kind == "directory":
        os.mkdir(path)
    else:
        os.symlink("/nowhere", path)
    with pytest.raises(AlreadyExists, match="is not a socket"):
        SocketFile(path).claim()
    assert os.path.lexists(path)
    assert names(path) == ["s"]


def test_removal_takes_only_what_was_made(path: str, listeners: list[socket.socket]) -> None:
    first = SocketFile(path)
    listener = first.claim()
    listener.close()
    second = SocketFile(path)
    listeners.append(second.claim())
    first.remove()
    assert is_alive(path)
    second.remove()
    second.remove()
    assert names(path) == []


def test_a_socket_that_comes_to_life_between_probe_and_removal_is_given_back(
    path: str, listeners: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two daemons find the same stale file; the slower one must not take the faster one's."""
    stale(path)
    rival = SocketFile(path)

    def late(asked: str) -> bool:
        monkeypatch.undo()
        listeners.append(rival.claim())
        return False  # what the probe had found before the rival came

    monkeypatch.setattr(socketfile, "is_alive", late)
    with pytest.raises(AlreadyExists):
        SocketFile(path).claim()
    assert is_alive(path)
    rival.remove()
    assert names(path) == []


def test_without_hard_links(
    path: str, listeners: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(source: str, target: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    stale(path)
    listeners.append(SocketFile(path).claim())
    assert is_alive(path)
    with pytest.raises(AlreadyExists):
        SocketFile(path).claim()
    assert names(path) == ["s"]


def test_missing_directories_are_made_for_the_owner(
    tmp_path: Path, listeners: list[socket.socket]
) -> None:
    path = tmp_path / "new" / "s"
    listeners.append(SocketFile(str(path)).claim())
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_path_too_long_says_so(tmp_path: Path) -> None:
    path = str(tmp_path / ("x" * MAX_PATH))
    with pytest.raises(InvalidArgument, match="is too long"):
        SocketFile(path).claim()
    with pytest.raises(InvalidArgument, match="is too long"):
        is_alive(path)
    assert os.listdir(tmp_path) == []


def test_a_path_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert not is_alive(str(tmp_path / "file" / "s"))
    with pytest.raises(InvalidArgument, match="cannot open the control socket") as caught:
        SocketFile(str(tmp_path / "file" / "s")).claim()
    assert caught.value.hint == "choose another path with --socket"
