"""The life of a connection as a machine: every path ends, and says so once."""

from __future__ import annotations

from typing import Any

import pytest
from automat import NoTransition
from hypothesis import given
from hypothesis import strategies as st

from pilot.stream.events import CloseCause, Closed, Established, PeerFinished, State
from pilot.stream.lifecycle import Life, lifecycle_machine

BROKEN = Closed(CloseCause.RESET, "broken")


def live(*inputs: str) -> Life:
    """@return: what a life that met these inputs looks like."""
    life = Life()
    machine: Any = lifecycle_machine(life)
    for name in inputs:
        if name == "end":
            machine.end(BROKEN)
        else:
            getattr(machine, name)()
    return life


@pytest.mark.parametrize(
    ("inputs", "state"),
    [
        (["dial"], State.SYN_SENT),
        (["dial", "answered"], State.ESTABLISHED),
        (["accept"], State.ESTABLISHED),
        (["accept", "finish"], State.FIN_WAIT),
        (["accept", "finish", "finish_acknowledged"], State.FIN_WAIT),
        (["accept", "finish", "finish_acknowledged", "peer_finished"], State.TIME_WAIT),
        (["accept", "finish", "peer_finished"], State.FIN_WAIT),
        (["accept", "finish", "peer_finished", "finish_acknowledged"], State.TIME_WAIT),
        (["accept", "peer_finished"], State.CLOSE_WAIT),
        (["accept", "peer_finished", "finish"], State.CLOSE_WAIT),
        (["accept", "peer_finished", "finish", "finish_acknowledged"], State.TIME_WAIT),
        (["accept", "both_finished"], State.TIME_WAIT),
        (["accept", "finish", "reading_over", "both_finished"], State.TIME_WAIT),
        (["accept", "both_finished", "lapse"], State.CLOSED),
        (["accept", "finish", "finish_acknowledged", "reading_over", "lapse"], State.CLOSED),
        (["dial", "end"], State.CLOSED),
    ],
    ids=" ".join,
)
def test_states_have_the_names_of_the_notes(inputs: list[str], state: str) -> None:
    assert live(*inputs).state == state


def test_opening_is_told() -> None:
    assert live("dial", "answered").events == [Established()]
    assert live("accept").events == [Established()]


@pytest.mark.parametrize(
    "inputs",
    [
        ["accept", "peer_finished", "finish", "finish_acknowledged", "lapse"],
        ["accept", "finish", "reading_over", "finish_acknowledged", "peer_finished", "lapse"],
        ["accept", "finish", "peer_finished", "finish_acknowledged", "lapse"],
        ["accept", "reading_over", "both_finished", "lapse"],
        ["dial", "answered", "both_finished", "lapse", "end"],
    ],
    ids=" ".join,
)
def test_a_clean_life_tells_each_end_once(inputs: list[str]) -> None:
    events = live(*inputs).events
    assert events == [Established(), PeerFinished(), Closed(CloseCause.CLEAN, "closed")]


@given(
    path=st.lists(
        st.sampled_from(
            ["finish", "finish_acknowledged", "peer_finished", "both_finished", "reading_over"]
        ),
        max_size=6,
    )
)
def test_a_life_can_be_broken_off_at_any_point(path: list[str]) -> None:
    life = Life()
    machine: Any = lifecycle_machine(life)
    machine.accept()
    for name in path:
        try:
            getattr(machine, name)()
        except NoTransition:  # an order of things that cannot be: refused before anything ran
            continue
    machine.end(BROKEN)
    machine.end(BROKEN)
    assert life.state == State.CLOSED
    assert life.events[-1] == BROKEN and life.events.count(BROKEN) == 1
    assert life.events.count(PeerFinished()) <= 1


def test_what_cannot_be_is_refused() -> None:
    for inputs in (["dial", "dial"], ["dial", "finish"], ["accept", "lapse"], ["answered"]):
        with pytest.raises(NoTransition):
            live(*inputs)
