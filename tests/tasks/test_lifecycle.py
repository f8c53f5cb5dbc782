"""The machine of a task: every status, every input, and nothing lost on the way to the disk."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot.tasks.document import NEW, Payment, TaskDocument
from pilot.tasks.errors import InvalidState
from pilot.tasks.lifecycle import (
    CREATED,
    ITask,
    News,
    heard,
    state_of,
    states,
    transition,
)
from tests.golden import golden

NOW = 1_795_170_918.25

FRESH = TaskDocument(
    "24e1abed-4373-35b7-e35b-f1460077184f",
    "Analyze",
    "2026-11-20T10:35:18Z",
    NEW,
    CREATED,
    "0:0000.0000.0001",
    "0:0000.0000.0002",
)

INPUTS: dict[str, Any] = {
    name: getattr(ITask, name)
    for name in vars(ITask)
    if not name.startswith("_") and name != "state_name"
}

TABLE = {
    ("new", "accept"): "accepted",
    ("new", "decline"): "declined",
    ("new", "lapse"): "cancelled",
    ("accepted", "stage"): "staged",
    ("accepted", "deliver"): "succeeded",
    ("staged", "execute"): "executing",
    ("staged", "expire"): "expired",
    ("staged", "deliver"): "succeeded",
    ("executing", "deliver"): "succeeded",
    ("sent_new", "hear_accepted"): "sent_accepted",
    ("sent_new", "hear_declined"): "sent_declined",
    ("sent_new", "hear_cancelled"): "sent_cancelled",
    ("sent_new", "hear_executing"): "sent_executing",
    ("sent_new", "hear_expired"): "sent_expired",
    ("sent_new", "hear_results"): "sent_completed",
    ("sent_accepted", "hear_executing"): "sent_executing",
    ("sent_accepted", "hear_expired"): "sent_expired",
    ("sent_accepted", "hear_results"): "sent_completed",
    ("sent_executing", "hear_results"): "sent_completed",
    ("sent_completed", "hear_succeeded"): "sent_succeeded",
}
"""Every change of state there is: (state, input) to state."""

REPEATED = {
    ("sent_accepted", "hear_accepted"),
    ("sent_executing", "hear_accepted"),
    ("sent_executing", "hear_executing"),
    ("sent_completed", "hear_accepted"),
    ("sent_completed", "hear_executing"),
    ("sent_completed", "hear_results"),
    ("sent_succeeded", "hear_accepted"),
    ("sent_succeeded", "hear_executing"),
    ("sent_succeeded", "hear_results"),
    ("sent_succeeded", "hear_succeeded"),
    ("sent_declined", "hear_declined"),
    ("sent_cancelled", "hear_cancelled"),
    ("sent_expired", "hear_accepted"),
    ("sent_expired", "hear_expired"),
}
"""News that are none: taken, and nothing changes."""


def reached(state: str) -> TaskDocument:
    """@return: a document that got to a state on the shortest way there is."""
    sent = state.startswith("sent_")
    paths = {("sent_new" if sent else "new"): FRESH}
    while state not in paths:
        for (before, happening), after in TABLE.items():
            if before in paths and after not in paths:
                news = News(NOW, "because", 3, (Payment(1, -1),))
                paths[after] = transition(paths[before], INPUTS[happening], news, sent=sent)
    return paths[state]


@pytest.mark.parametrize("state", states)
@pytest.mark.parametrize("happening", INPUTS)
def test_every_input_in_every_state(state: str, happening: str) -> None:
    """What the table lists happens, repetitions change nothing, and all else is refused by name."""
    before, sent = reached(state), state.startswith("sent_")
    news = News(NOW + 9, "now", 5, (Payment(2, -1),))
    if (state, happening) in TABLE:
        after = transition(before, INPUTS[happening], news, sent=sent)
        assert state_of(after, sent=sent) == TABLE[state, happening]
        assert after != before
    elif (state, happening) in REPEATED:
        assert transition(before, INPUTS[happening], news, sent=sent) == before
    else:
        with pytest.raises(InvalidState, match=before.status):
            transition(before, INPUTS[happening], news, sent=sent)


@given(st.booleans(), st.lists(st.tuples(st.sampled_from(sorted(INPUTS)), st.integers(0, 10**7))))
def test_a_task_goes_on_from_its_file_as_if_nothing_had_been(
    sent: bool, steps: list[tuple[str, int]]
) -> None:
    """Written and read between any two inputs or not: the same documents, the same refusals."""
    kept = stored = FRESH
    at = NOW
    for name, pause in steps:
        at += pause / 1000
        news = News(at, f"at <{at}>\u2028", 7, (Payment(4, -1), Payment(2, 12)))
        stored = TaskDocument.decode(stored.encode())
        try:
            kept = transition(kept, INPUTS[name], news, sent=sent)
        except InvalidState as error:
            with pytest.raises(InvalidState) as refused:
                transition(stored, INPUTS[name], news, sent=sent)
            assert refused.value.message == error.message
        else:
            stored = transition(stored, INPUTS[name], news, sent=sent)
        assert stored == kept


def test_times_are_measured_where_they_pass() -> None:
    """Idle to the answer, staged at the head of the queue, the rest from execution to results."""
    taken = transition(FRESH, ITask.accept, News(NOW + 4.5, number=1))
    assert (taken.accepted_at, taken.time_idle_ms) == ("2026-11-20T10:35:22Z", 4750)
    first = transition(taken, ITask.stage, News(NOW + 10))
    begun = transition(first, ITask.execute, News(NOW + 70.125))
    assert begun.time_staged_ms == 60_125
    done = transition(begun, ITask.deliver, News(NOW + 130.25))
    assert done.time_cpu_ms == 60_125
    assert done.completed_at == "2026-11-20T10:37:28Z"
    straight = transition(first, ITask.deliver, News(NOW + 11.5))
    assert (straight.time_staged_ms, straight.time_cpu_ms) == (1500, 0)


def test_a_clock_that_was_set_back_gives_no_negative_times() -> None:
    assert transition(FRESH, ITask.accept, News(NOW - 100)).time_idle_ms == 0


def test_refusals_say_what_the_reference_says() -> None:
    declined = reached("declined")
    with pytest.raises(InvalidState, match=f"^task {FRESH.task_id} is already DECLINED$"):
        transition(declined, ITask.accept, News(NOW))
    with pytest.raises(InvalidState, match=r"cannot receive results \(status: DECLINED\)$"):
        transition(declined, ITask.deliver, News(NOW))


@pytest.mark.parametrize("status", ["BANANA", "", "new", "COMPLETED", "STAGED", "SENT_NEW"])
def test_statuses_that_there_are_not(status: str) -> None:
    """Neither in a file nor from a peer."""
    with pytest.raises(InvalidState):
        state_of(FRESH._replace(status=status), sent=False)
    with pytest.raises(InvalidState):
        heard(status)


def test_every_file_of_the_reference_is_a_state() -> None:
    """All task files in the recorded life cycles stand for a state, and are written alike."""
    seen = set()
    for step in golden("task_lifecycle")["steps"]:
        for files in step.get("files_changed", {}).values():
            for path, content in files.items():
                if not path.endswith(".json") or content is None:
                    continue
                document = TaskDocument.decode(content.encode())
                assert document.encode().decode() == content
                if json.loads(content)["status"] != "BANANA":
                    seen.add(state_of(document, sent="/submitted/" in path))
    assert {"new", "accepted", "declined", "executing", "succeeded", "cancelled"} <= seen
    assert {"sent_new", "sent_accepted", "sent_executing", "sent_completed"} <= seen
