"""A task gets to its end whichever write a crash cuts short, on whichever side."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from pilot.crypto.files import write_atomically
from pilot.errors import PilotError
from pilot.tasks import store
from tests.services.taskworld import TaskWorld

STEPS = {"NEW": "accept", "ACCEPTED": "execute", "EXECUTING": "results"}

WRITES = 16
"""More than a whole life takes."""


class Crash:
    """
    The writes of both nodes; one of them fails.

    @param at: its number.
    @param after: whether the file is written nevertheless.
    """

    def __init__(self, at: int, *, after: bool) -> None:
        self._at = at
        self._after = after
        self.count = 0

    def __call__(self, path: Path, data: bytes) -> None:
        self.count += 1
        if self.count == self._at and not self._after:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        write_atomically(path, data)
        if self.count == self._at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


def insist(world: TaskWorld, name: str, **request: Any) -> None:
    """Ask once; what fails is followed by a restart of both daemons."""
    try:
        answer = world.ask(name, **request)
    except PilotError:
        answer = {}
    if answer.get("status") in (None, 400):
        for each in ("alice", "bob"):
            world.leave(each)
            world.serve(each, world.services[each].node)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, WRITES + 1))
def test_a_life_with_one_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, after: bool
) -> None:
    """The user repeats what failed, and that is all it takes; results and reward are there."""
    world = TaskWorld(tmp_path)
    try:
        world.pair()
        crash = Crash(at, after=after)
        monkeypatch.setattr(store, "write_atomically", crash)
        task_id, status = "", ""
        for _ in range(20):
            world.internet.run(3.0)
            task_id = task_id or common_task(world)
            if not task_id:
                insist(world, "alice", op="submit", target="2", task="x")
                continue
            status = world.received(task_id).status
            if status not in STEPS:
                break
            insist(world, "bob", op=STEPS[status], id=task_id, text="precious")
        world.internet.run(20.0, 0.1)
        assert (status, world.sent(task_id).status) == ("SUCCEEDED", "SUCCEEDED")
        result = world.path("alice") / "results" / f"{task_id}_result.txt"
        assert result.read_text() == "precious"
        # A payment that was made and could not be struck out is made again.
        assert world.scores()[0] in (-1, -2)
        assert not world.sent(task_id).owed and not world.received(task_id).untold
        assert world.files("alice").submitting.count() == 0
        assert crash.count < WRITES + 4
    finally:
        world.close()


def common_task(world: TaskWorld) -> str:
    """@return: the id of a task that both sides know, if there is one."""
    theirs = world.files("alice")
    known = {
        *(task_id for task_id, _ in theirs.submitted.changes()),
        *(task_id for task_id, _ in theirs.submitting.changes()),
    }
    mine = {task_id for task_id, _ in world.files("bob").received.changes()}
    return min(known & mine, default="")
