"""The drawing in docs/services/task-submit.md is the machine, its lists are the code's."""

from __future__ import annotations

import re
from pathlib import Path

from pilot.services import tasksubmit, taskworker
from pilot.tasks.document import STATUSES
from pilot.tasks.names import ALLOWED_TYPES
from pilot.wire.tasksubmit import MAX_FILE, MAX_PAYLOAD
from tests.tasks.test_lifecycle import TABLE

PAGE = (Path(__file__).parents[2] / "docs" / "services" / "task-submit.md").read_text()


def test_the_drawing_shows_every_change_of_state_and_no_other() -> None:
    drawn = re.findall(r"^    (\w+) --> (\w+): (\w+)$", PAGE, re.MULTILINE)
    assert set(drawn) == {(state, after, name) for (state, name), after in TABLE.items()}
    assert len(drawn) == len(TABLE)


def test_the_page_has_every_status_type_and_limit() -> None:
    for status in STATUSES:
        assert f"| `{status}` |" in PAGE
    listed = PAGE[PAGE.index("Types: ") :].partition("`.\n")[0]
    assert set(re.findall(r"\.\w+", listed)) == ALLOWED_TYPES
    for number in (MAX_FILE, MAX_PAYLOAD, taskworker.MAX_DESCRIPTION, taskworker.MAX_TASKS):
        assert f"{number:,}" in PAGE
    for pair in (
        (tasksubmit.MAX_STREAMS, tasksubmit.MAX_STREAMS_PER_PEER),
        (f"{tasksubmit.SILENCE:.0f} s", f"{tasksubmit.PATIENCE:.0f} s"),
    ):
        assert f"| {pair[0]}; {pair[1]} |" in PAGE
