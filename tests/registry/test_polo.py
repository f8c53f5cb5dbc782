"""Scores: lowered by their owner, raised by others, within limits."""

from __future__ import annotations

import pytest

from pilot.registry.limits import Limits
from tests.registry.support import ADMIN, Answer, Desk


@pytest.fixture
def desk() -> Desk:
    desk = Desk(Limits(polo_raised_per_giver=10))
    desk.register(1, desk.caller("198.51.100.1"))
    desk.register(2, desk.caller("198.51.100.2"))
    return desk


def change(node: int, delta: object, **fields: object) -> Answer:
    return {"type": "update_polo_score", "node_id": node, "delta": delta, **fields}


def known(desk: Desk, node: int) -> object:
    """@return: a connection on which that node has signed something, from somewhere else."""
    caller = desk.caller("203.0.113.1")
    desk.signed(node, "heartbeat", caller, node_id=node)
    return caller


def test_a_submitter_pays_the_executor(desk: Desk) -> None:
    """What a reference daemon sends: a point off itself, the reward to the other."""
    caller = known(desk, 1)
    assert desk.ask(change(1, -1), caller)["polo_score"] == -1  # type: ignore[arg-type]
    assert desk.ask(change(2, 3), caller)["polo_score"] == 3  # type: ignore[arg-type]
    again = desk.restarted()
    assert again.ask({"type": "get_polo_score", "node_id": 2})["polo_score"] == 3


def test_nobody_praises_itself(desk: Desk) -> None:
    assert "cannot be raised" in desk.refusal(change(1, 1), known(desk, 1))  # type: ignore[arg-type]


def test_strangers_change_nothing(desk: Desk) -> None:
    for delta in (1, -1):
        assert "cannot be" in desk.refusal(change(1, delta), desk.caller("203.0.113.9"))


def test_nobody_takes_from_another(desk: Desk) -> None:
    assert "cannot be lowered" in desk.refusal(change(2, -1), known(desk, 1))  # type: ignore[arg-type]


def test_a_giver_has_a_limited_amount_a_day(desk: Desk) -> None:
    caller = known(desk, 1)
    desk.ask(change(2, 10), caller)  # type: ignore[arg-type]
    assert "too many polo points" in desk.refusal(change(2, 1), caller)  # type: ignore[arg-type]
    desk.now += 86_400
    desk.ask(change(2, 10), caller)  # type: ignore[arg-type]
    desk.directory.polo.sweep(desk.now + 86_400)
    assert not desk.directory.polo._given


def test_replacing_a_score_follows_the_same_rule(desk: Desk) -> None:
    caller = known(desk, 1)
    desk.ask(change(2, 5), caller)  # type: ignore[arg-type]
    replace = {"type": "set_polo_score", "node_id": 2, "polo_score": 1}
    assert "cannot be lowered" in desk.refusal(replace, caller)  # type: ignore[arg-type]
    assert desk.ask(replace, known(desk, 2))["polo_score"] == 1  # type: ignore[arg-type]


def test_the_administrator_may_do_anything_within_the_range(desk: Desk) -> None:
    asked = {"type": "set_polo_score", "node_id": 1, "polo_score": 1e6, "admin_token": ADMIN}
    assert desk.ask(asked)["polo_score"] == 1_000_000
    assert desk.ask(change(1, 5, admin_token=ADMIN))["polo_score"] == 1_000_000
    assert "out of range" in desk.refusal({**asked, "polo_score": 1_000_001})


@pytest.mark.parametrize("delta", [None, "5", True, 1_000_001, -1_000_000.5])
def test_odd_changes_are_refused(desk: Desk, delta: object) -> None:
    assert "delta" in desk.refusal(change(1, delta))
