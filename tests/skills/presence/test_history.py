"""The transitions of an agent."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from skills.presence.core.history import CAUSES, MOST, UNKNOWN, History
from tests.skills.presence.strategies import numbers, statuses


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(st.floats(0, 1e9), statuses, statuses, st.sampled_from(CAUSES), numbers),
        max_size=150,
    )
)
def test_the_last_hundred_are_kept_as_they_were(
    rows: list[tuple[float, str, str, str, tuple[int, int]]],
) -> None:
    history = History()
    for row in rows:
        history.add(*row)
    assert len(history) == min(len(rows), MOST)
    assert [tuple(each) for each in history.transitions()] == rows[-MOST:]


def test_as_json() -> None:
    history = History()
    history.add(1.0, UNKNOWN, "online", "joined", (7, 1))
    history.add(3.0, "online", "offline", "something new", (7, 2))
    assert history.as_json(5.0) == [
        {"ago": 4.0, "from": "unknown", "to": "online", "cause": "joined", "inc": 7, "seq": 1},
        {"ago": 2.0, "from": "online", "to": "offline", "cause": "other", "inc": 7, "seq": 2},
    ]
