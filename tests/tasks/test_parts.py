"""Scores, names, times, the queue."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot.errors import InvalidArgument, WireError
from pilot.tasks.document import ACCEPTED, EXECUTING, NEW, Payment, TaskDocument
from pilot.tasks.names import check_file_type, file_type, is_task_id, result_name
from pilot.tasks.polo import admits, reward
from pilot.tasks.queue import TaskQueue, in_order
from pilot.tasks.times import parse_time, time_text
from tests.golden import golden
from tests.tasks.test_lifecycle import FRESH

_INT64 = st.integers(-(1 << 63), (1 << 63) - 1)


@pytest.mark.parametrize("row", golden("polo_scores")["rows"], ids=lambda row: str(row["reward"]))
def test_rewards_are_the_reference_s(row: dict[str, Any]) -> None:
    times = row["time_idle_ms"], row["time_staged_ms"], row["time_cpu_ms"]
    assert reward(*times) == row["reward"]


@given(_INT64, _INT64, _INT64)
def test_a_reward_is_a_small_positive_number(idle: int, staged: int, cpu: int) -> None:
    assert 1 <= reward(idle, staged, cpu) < 64


@pytest.mark.parametrize("row", golden("polo_scores")["gate"])
def test_the_gate_is_the_reference_s(row: dict[str, Any]) -> None:
    assert admits(row["submitter"], row["receiver"]) is row["accepted"]


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "../climbed", "a/b", "a\\b", "a\0", "a\n", "a.json", "é", "x" * 129, "a b"],
)
def test_ids_that_name_no_task(text: str) -> None:
    """Whatever could lead out of the directory, or hide in it."""
    assert not is_task_id(text)


@pytest.mark.parametrize("text", ["24e1abed-4373-35b7-e35b-f1460077184f", "zzz-first", "CON"])
def test_ids_that_name_a_task(text: str) -> None:
    assert is_task_id(text)


@pytest.mark.parametrize(
    ("filename", "stored"),
    [
        ("", "t_result.txt"),
        ("report.md", "t_report.md"),
        ("UP.PDF", "t_UP.PDF"),
        ("x/../../climbed.txt", "t_climbed.txt"),
        ("c:\\windows\\a.txt", "t_a.txt"),
        ("dir/", "t_result"),
        ("..", "t_.."),
        (".bashrc", "t_.bashrc"),
        ("a\0b\n.txt", "t_a%00b%0A.txt"),
        ("x" * 300 + ".parquet", "t_" + "x" * 245 + ".parquet"),
        ("é" * 200, "t_" + "é" * 126),
    ],
)
def test_where_a_result_is_kept(filename: str, stored: str) -> None:
    assert result_name("t", filename) == stored


@given(st.text(), st.from_regex(r"[0-9A-Za-z-]{1,128}", fullmatch=True))
def test_a_result_is_one_plain_file_whatever_it_is_called(filename: str, task_id: str) -> None:
    name = result_name(task_id, filename)
    assert "/" not in name and "\\" not in name and "\0" not in name
    assert len(name.encode()) <= 255
    assert name.startswith(task_id + "_")


def test_types_of_results() -> None:
    for name in ("a.md", "UP.PDF", "/x.py/b.safetensors", "a.tar.csv"):
        check_file_type(name)
    for name, suffix in (("x.py", ".py"), ("x.json", ".json"), ("/a.md/noext", ""), ("a.", ".")):
        assert file_type(name) == suffix
        with pytest.raises(InvalidArgument, match=f'^file type "{suffix}" not allowed for results'):
            check_file_type(name)


def test_times_are_spelled_like_the_reference_s() -> None:
    assert time_text(1_795_170_918.999) == "2026-11-20T10:35:18Z"
    assert time_text(1_795_170_918.75, milliseconds=True) == "2026-11-20T10:35:18.750Z"
    assert parse_time("2026-11-20T16:05:18.5+05:30") == 1_795_170_918.5
    for text in ("", "yesterday", "2026-11-20", "2026-11-20T10:35:18"):
        assert parse_time(text) is None


def test_tasks_are_done_in_the_order_of_their_acceptance() -> None:
    """Not of their ids; who was the first stays the first; those of other programs go by time."""
    queue = TaskQueue()
    assert queue.head is None
    numbers = [queue.next_number() for _ in range(2)]
    assert numbers == [1, 2]
    taken = FRESH._replace(status=ACCEPTED, accepted_at="2026-11-20T10:35:22Z")
    zzz = taken._replace(task_id="zzz", queue_number=1)
    aaa = taken._replace(task_id="aaa", queue_number=2)
    foreign = taken._replace(task_id="mmm", accepted_at="2026-11-20T10:35:23Z")
    older = taken._replace(task_id="nnn")
    for document in (aaa, zzz, foreign, older, FRESH):
        queue.update(document)
    assert queue.head == older
    order = [each.task_id for each in in_order([aaa, zzz, foreign, FRESH, older])]
    assert order == ["nnn", "mmm", "zzz", "aaa"]
    queue.update(zzz._replace(staged_at="2026-11-20T10:35:24Z"))
    assert queue.head is not None and queue.head.task_id == "zzz"
    queue.update(zzz._replace(status=EXECUTING))
    queue.remove("nnn")
    queue.remove("mmm")
    assert queue.head == aaa
    assert len(queue) == 1
    again = TaskQueue()
    again.update(aaa)
    assert again.next_number() == 3


_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
_COUNT = st.integers(-(1 << 63), (1 << 63) - 1)

documents = st.builds(
    TaskDocument,
    *[_TEXT] * 11,
    *[_COUNT] * 4,
    st.booleans(),
    st.lists(st.builds(Payment, _COUNT, _COUNT)).map(tuple),
)


@given(documents)
def test_a_file_tells_all_of_a_document(document: TaskDocument) -> None:
    assert TaskDocument.decode(document.encode()) == document


@given(st.binary())
def test_any_file_is_a_document_or_an_error(data: bytes) -> None:
    with contextlib.suppress(WireError):
        TaskDocument.decode(data)


@pytest.mark.parametrize("owed", ["[1]", "[[1]]", "[[1,2,3]]", '[["1",2]]', '"x"', "[[true,1]]"])
def test_debts_that_make_no_sense(owed: str) -> None:
    with pytest.raises(WireError):
        TaskDocument.decode(b'{"owed":%s}' % owed.encode())


def test_the_deadline_of_a_task_without_a_date() -> None:
    assert FRESH.accept_deadline == parse_time("2026-11-20T10:36:18Z")
    assert FRESH._replace(created_at="", status=NEW).accept_deadline is None
