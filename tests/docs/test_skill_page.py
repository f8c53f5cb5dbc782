"""The page about writing a skill shows the example as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pilot.client import skillcalls
from pilot.hosting import hosted, run, socket
from pilot.skills import RESERVED_OPTIONS

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "third_party_skill"
PAGE = (ROOT / "docs" / "howto" / "write-a-skill.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"<!-- (\S+) -->\n```\w+\n(.*?)```\n", PAGE, re.DOTALL)


def code_lines(path: str) -> int:
    lines = (EXAMPLE / path).read_text(encoding="utf-8").splitlines()
    return sum(1 for line in lines if line.strip())


@pytest.mark.parametrize(("path", "text"), SHOWN)
def test_every_block_is_a_file_of_the_example(path: str, text: str) -> None:
    assert text == (EXAMPLE / path).read_text(encoding="utf-8")


def test_no_file_is_left_out() -> None:
    files = {path.relative_to(EXAMPLE).as_posix() for path in EXAMPLE.rglob("*.py")}
    shown = {path for path, _ in SHOWN}
    assert shown == files - {"guestbook/__init__.py"} | {"pyproject.toml"}


def test_sixty_lines() -> None:
    assert code_lines("guestbook/service.py") + code_lines(SHOWN[0][0]) <= 60


def test_the_numbers() -> None:
    assert all(f"`{name}`" in PAGE for name in RESERVED_OPTIONS)
    assert (run.START_TIMEOUT, run.STOP_TIMEOUT) == (60, 3)
    assert (hosted.FIRST_DELAY, hosted.LONGEST_DELAY, hosted.HEALTHY_AFTER) == (1, 300, 600)
    assert hosted.MAX_STATISTICS == 64 << 10
    assert (socket.MAX_REQUEST, socket.MAX_ANSWER) == (1 << 20, 8 << 20)
    assert (socket.MAX_CLIENTS, socket.MAX_WAITING, socket.MAX_WAITING_BYTES) == (64, 1024, 1 << 20)
    assert socket.MAX_ANSWER < skillcalls.LINE_LIMIT
