"""The page about what happens when names tests that there are."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "skills" / "behaviour.md").read_text(encoding="utf-8")


@cache
def defined_in(name: str) -> set[str]:
    """@return: the tests of a file below C{tests/}; none if there is no such file."""
    path = TESTS / name
    if not path.is_file():
        return set()
    return {
        each.name
        for each in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def mentioned() -> list[tuple[str, str]]:
    """@return: file and test, as the page names them: a file, then tests in it."""
    found, file = [], ""
    for word in re.findall(r"`([^`\s]+)`", PAGE):
        if word.endswith(".py"):
            file = word
        elif word.startswith("test_"):
            found.append((file, word))
    return found


def test_every_test_that_is_mentioned_exists() -> None:
    missing = [(file, test) for file, test in mentioned() if test not in defined_in(file)]
    assert not missing
    assert len(mentioned()) > 150


def test_every_condition_has_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    heads = [line for line in rows if line.endswith("| where it is tested |")]
    lines = [line for line in rows if line not in heads and not line.startswith("| --- ")]
    assert len(heads) == 6
    assert len(lines) > 40
    assert not [line for line in lines if not re.search(r"`test_\w+`", line)]


def test_the_example_at_the_top() -> None:
    file, test = re.findall(r"pytest tests/(\S+) -k (\w+)", PAGE)[0]
    assert test in defined_in(file)
