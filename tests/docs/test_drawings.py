"""The drawings in docs/state-machines.md are the machines."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pilot.stream.lifecycle import lifecycle_machine as stream_machine
from pilot.tunnel.lifecycle import lifecycle_machine as tunnel_machine
from skills.presence.core.lifecycle import lifecycle_machine as entry_machine

PAGE = Path(__file__).parents[2] / "docs" / "state-machines.md"


@pytest.mark.parametrize(
    ("title", "machine"),
    [
        ("A peer's tunnel", tunnel_machine),
        ("A stream", stream_machine),
        ("A presence entry", entry_machine),
    ],
)
def test_the_drawing_shows_every_change_of_state_and_no_other(title: str, machine: Any) -> None:
    section = PAGE.read_text().split(f"## {title}\n")[1].split("\n## ")[0]
    drawn = re.findall(r"^    (\w+) --> (\w+): (\w+)$", section, re.MULTILINE)
    changes = {
        (before.name, after.name, given)
        for before, given, after, _ in machine.__automat_automaton__.allTransitions()
        if before is not after
    }
    assert set(drawn) == changes
    assert len(drawn) == len(changes)
