"""The drawing in docs/trust.md is the machine."""

from __future__ import annotations

import re
from pathlib import Path

from tests.trust.test_relation import TABLE

PAGE = Path(__file__).parents[2] / "docs" / "trust.md"


def test_the_drawing_shows_every_change_of_state_and_no_other() -> None:
    drawn = re.findall(r"^    (\w+) --> (\w+): (\w+)$", PAGE.read_text(), re.MULTILINE)
    changes = {
        (state, target, happening.__name__)
        for (state, happening), (target, _) in TABLE.items()
        if state != target
    }
    assert set(drawn) == changes
    assert len(drawn) == len(changes)
