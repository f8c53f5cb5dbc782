"""What a verdict rests on, for people."""

from __future__ import annotations

from typing import Any

import pytest

from skills.presence.ctl.wording import in_words


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        (
            {"seq": 87, "silent": 2.799, "direct": False, "by": [2], "via": 0},
            "silent for 2.8 s, accused by node 2",
        ),
        (
            {"seq": 87, "silent": 20.0, "direct": True, "by": [1, 2, 4], "via": 4},
            "silent for 20.0 s, accused by us, node 2 and node 4, told by node 4",
        ),
        (
            {"silent": 51.0, "pings": 4, "asked": [5, 6], "confirmed": 1, "took": 5.1},
            "silent for 51.0 s, 4 pings of ours unanswered, 1 of 2 others had no answer either",
        ),
        ({"via": 9}, "told by node 9"),
        ({"number": [1, 2]}, ""),
        ({}, ""),
    ],
)
def test_words(evidence: dict[str, Any], words: str) -> None:
    assert in_words(evidence, 1) == words
