"""What the manhole prints: tables that are lists, and views that are the objects themselves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot.daemon.logs import LevelGate, set_level
from pilot.daemon.logtail import MAX_EVENT, LogTail
from pilot.daemon.manhole_names import Skills
from pilot.daemon.manhole_tables import MAX_CELL, MAX_ROWS, Absent, Table, View, counted

ROWS = [{"name": "a", "count": 10, "on": True}, {"name": "", "count": 5, "on": False}]


def test_a_table_is_aligned_and_still_a_list() -> None:
    table = Table(ROWS, ("name", "count", "on"))
    assert repr(table) == "NAME  COUNT   ON\na        10  yes\n-         5   no"
    assert table[0] is ROWS[0] and [row["count"] for row in table] == [10, 5]
    assert repr(table[1:]) == "NAME  COUNT  ON\n-         5  no"
    assert repr(Table([], ("name",), empty="no names")) == "(no names)"


def test_long_tables_and_cells_are_cut() -> None:
    table = Table(({"n": "x" * 1000} for _ in range(MAX_ROWS + 7)), ("n",))
    lines = repr(table).splitlines()
    assert len(lines) == MAX_ROWS + 2 and lines[-1].startswith("... and 7 more rows")
    assert len(lines[1]) == MAX_CELL and lines[1].endswith("...")
    assert len(table) == MAX_ROWS + 7


_VALUES = st.none() | st.text() | st.integers() | st.floats() | st.lists(st.text(), max_size=3)


@given(st.lists(st.dictionaries(st.sampled_from("abc"), _VALUES), max_size=5))
def test_nothing_in_a_table_moves_a_cursor(rows: list[dict[str, Any]]) -> None:
    for line in repr(Table(rows, ("a", "b", "c"))).split("\n"):
        assert line.isprintable()


def test_a_view_is_the_object() -> None:
    class Live:
        def __init__(self) -> None:
            self.number = 1

        def double(self) -> int:
            return self.number * 2

    live = Live()
    view = View(live, lambda: f"number {live.number}", "Something live")
    view.number = 21
    assert (live.number, view.double(), repr(view)) == (21, 42, "number 21")
    assert view.live is live and view.__doc__ == "Something live"
    assert {"live", "double", "number"} <= set(dir(view))


def test_what_is_not_there_says_why() -> None:
    absent = Absent("it is off", "Something")
    assert repr(absent) == "(it is off)" and not absent and absent.__doc__ == "Something"


def test_counters_on_one_line() -> None:
    assert counted({"a": 1, "b": 0, "c\n": 2}) == "a 1, c\\n 2"
    assert counted({}) == "nothing counted yet"


def test_the_level_of_all_logs_is_set_at_once() -> None:
    from twisted.logger import LogLevel

    gate, tail = LevelGate("info"), LogTail("warn")
    event = {"log_namespace": "pilot.x", "log_format": "said", "log_time": 0.0}
    tail({**event, "log_level": LogLevel.info})
    assert tail.last(9) == []
    set_level("debug")
    assert gate.level == tail.level == "debug"
    tail({**event, "log_level": LogLevel.debug})
    tail({**event, "log_level": LogLevel.error, "log_format": "x" * (MAX_EVENT + 99)})
    first, second = tail.last(9)
    assert first.endswith("DEBUG pilot.x: said") and len(second) == MAX_EVENT
    assert tail.last(1) == [second] and tail.last(0) == []
    set_level("info")


def test_a_skill_is_its_running_service() -> None:
    service = SimpleNamespace(answer=42)
    facts = {"name": "runs", "agents": 3}
    runs = SimpleNamespace(service=service, error=None, state="running", report=lambda: facts)
    fails = SimpleNamespace(service=None, error="ValueError: no", state="failed")
    report = SimpleNamespace(sections={})
    node: Any = SimpleNamespace(parts=SimpleNamespace(report=report))
    skills = Skills(node, SimpleNamespace(hosted={"runs": runs, "fails": fails}))
    assert skills["runs"].live is service and skills["runs"].answer == 42
    assert repr(skills["runs"]) == "NAME    VALUE\nname    runs\nagents  3"
    assert list(skills) == ["runs", "fails"] and len(skills) == 2
    with pytest.raises(KeyError, match="no skill 'x'; there are: runs, fails"):
        skills["x"]
    with pytest.raises(LookupError, match="does not run: ValueError: no"):
        skills["fails"]
    rows = [{"name": "fails", "state": "failed", "failures": 2, "since": "", "error": "no"}]
    report.sections["skills"] = lambda: rows
    assert repr(skills).splitlines()[1].split() == ["fails", "failed", "2", "-", "no"]
    assert repr(Skills(node, None)) != "" and list(Skills(node, None)) == []
