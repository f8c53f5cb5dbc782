"""Doubting oneself: exodus, sleep, grace, and the life of an entry."""

from __future__ import annotations

import random

import pytest

from skills.presence.core.config import PresenceConfig
from skills.presence.core.entry import TRAIL, Entry
from skills.presence.core.lifecycle import life_of
from skills.presence.core.naming import KEPT_NO, PENDING, Naming
from skills.presence.core.shared import Shared
from skills.presence.core.view import HOLD, LEAST, WINDOW, View


def loud(node: int) -> bool:
    return False


def view_of(count: int) -> View:
    view = View(0.0, 75.0)
    for node in range(count):
        view.present(node)
    return view


def test_most_of_them_missing_at_once_are_our_own_fault() -> None:
    view = view_of(10)
    for node in range(5):
        view.missed(1.0, node)
    assert not view.exodus(1.0, loud)
    view.missed(1.0, 5)
    assert view.exodus(1.0, loud)
    view.present(0)
    assert not view.exodus(1.0, loud)


def test_those_missing_one_after_the_other_are_not() -> None:
    view = view_of(10)
    for node in range(8):
        view.missed(node * WINDOW, node)
        assert not view.exodus(node * WINDOW, loud)


def test_a_single_agent_is_judged() -> None:
    view = view_of(1)
    view.missed(1.0, 0)
    assert not view.exodus(1.0, loud)


def test_silence_of_all_others_shows_before_they_are_late() -> None:
    view = view_of(20)
    view.missed(1.0, 0)
    assert not view.exodus(1.0, lambda node: True)  # one may be missing
    view.missed(1.0, 1)
    assert view.exodus(1.0, lambda node: True)
    assert view.exodus(1.5, lambda node: node % 2 == 0)  # everybody is counted once a second
    assert not view.exodus(2.0, lambda node: node % 2 == 0)


def test_a_frozen_view_thaws_when_they_are_back_or_our_network_is_proved() -> None:
    view = view_of(10)
    for node in range(9):
        view.missed(0.0, node)
    assert view.doubt(0.0, "exodus") and view.frozen
    assert not view.may_thaw(5.0, loud)
    assert not view.may_thaw(HOLD + 40.0, loud)  # nothing came in for long: it may be us
    view.inbound = HOLD + 39.0
    assert view.may_thaw(HOLD + 40.0, loud)
    assert not view.exodus(HOLD + 41.0, loud)  # believed for a while
    other = view_of(10)
    for node in range(9):
        other.missed(0.0, node)
    other.doubt(0.0, "exodus")
    for node in range(9):
        other.present(node)
    assert not other.may_thaw(LEAST - 1, loud) and other.may_thaw(LEAST, loud)


def test_a_view_is_stale_while_any_doubt_is_left() -> None:
    view = View(0.0, 75.0)
    assert view.doubt(1.0, "stall")
    assert not view.doubt(2.0, "exodus")
    assert (view.cause, view.stale_for(5.0)) == ("stall", 4.0)
    assert not view.trust("stall") and view.cause == "exodus"
    assert view.trust("exodus") and view.cause == ""
    assert not view.trust("exodus")


def test_wall_time_that_runs_ahead_shows_a_sleep_and_one_set_back_does_not() -> None:
    view = View(0.0, 75.0)
    assert not view.slept(0.0, 1000.0)
    assert not view.slept(10.0, 1010.5)
    assert view.slept(11.0, 1011.5 + 3600.0)
    assert not view.slept(12.0, 1012.5 + 3600.0)
    assert not view.slept(13.0, 500.0)


# -- the life of an entry ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "happens", "after"),
    [
        ("stale", "hear", "fresh"), ("stale", "miss", "suspect"), ("stale", "give_up", "gone"),
        ("stale", "leave", "gone"), ("fresh", "hear", "fresh"), ("fresh", "miss", "suspect"),
        ("fresh", "give_up", "gone"), ("fresh", "leave", "gone"), ("suspect", "hear", "fresh"),
        ("suspect", "miss", "suspect"), ("suspect", "give_up", "gone"),
        ("suspect", "leave", "gone"), ("gone", "hear", "fresh"), ("gone", "miss", "gone"),
        ("gone", "give_up", "gone"), ("gone", "leave", "gone"),
    ],
)  # fmt: skip
def test_every_state_answers_every_input(before: str, happens: str, after: str) -> None:
    entry = Entry(1, 0.0)
    entry.reach = before
    getattr(life_of(entry), happens)()
    assert entry.reach == after


def test_claim_and_reachability_make_the_status() -> None:
    entry = Entry(1, 0.0)
    entry.claim, entry.reach = "busy", "suspect"
    assert entry.effective(1.0) == "busy"
    entry.reach = "gone"
    assert entry.effective(1.0) == "offline"
    entry.reach, entry.claim, entry.script, entry.script_until = "fresh", "online", "busy", 5.0
    assert (entry.effective(1.0), entry.effective(6.0)) == ("busy", "online")


def test_the_trail_of_an_entry_is_bounded() -> None:
    entry = Entry(1, 0.0)
    for step in range(100):
        entry.note(float(step), f"step {step}")
    assert len(entry.trail) == TRAIL and entry.trail[-1][1] == "step 99"


def test_a_fleet_comes_back_over_ten_milliseconds_an_agent_and_a_minute_at_most() -> None:
    shared = Shared(1, 0.0, lambda: 0.0, random.Random(1), PresenceConfig())
    assert [shared.spread(agents) for agents in (0, 500, 6000, 10_000)] == [0.0, 5.0, 60.0, 60.0]


# -- names -------------------------------------------------------------------------------------


def test_a_name_is_asked_for_once_and_the_answer_kept() -> None:
    tokens = iter(range(1, 10_000))
    naming = Naming(lambda: next(tokens))
    naming.facts([{"node_id": 1, "hostname": "known"}, {"node_id": "x"}, {}])
    assert naming.is_named(0.0, 1, "known") is True
    assert naming.is_named(0.0, 2, "") is True
    assert naming.is_named(0.0, 2, "known") is None
    answers: list[bool | None] = []
    (ask,) = naming.ask_name(0.0, 2, "known", lambda now, ok: answers.append(ok))
    assert naming.ask_name(1.0, 2, "known", lambda now, ok: answers.append(ok)) == []
    naming.answered(2.0, ask.token, False)  # type: ignore[union-attr]
    naming.answered(2.0, ask.token, True)  # type: ignore[union-attr]
    assert answers == [False]
    assert naming.is_named(3.0, 2, "known") is False
    assert naming.is_named(3.0 + KEPT_NO, 2, "known") is None


def test_questions_are_bounded() -> None:
    tokens = iter(range(1, 100_000))
    naming = Naming(lambda: next(tokens))
    for node in range(PENDING):
        assert naming.ask_name(0.0, node, "a", lambda now, ok: None)
    assert naming.ask_name(1.0, PENDING, "a", lambda now, ok: None) == []
    assert naming.refused == 1
    assert naming.ask_name(100.0, PENDING, "a", lambda now, ok: None)  # the oldest was given up
