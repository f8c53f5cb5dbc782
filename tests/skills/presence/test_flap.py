"""Agents that come and go, and how much is told of them."""

from __future__ import annotations

from skills.presence.core.finding import Query
from skills.presence.core.flap import CLEAN, Flap
from skills.presence.core.reporting import Reporter, Transition
from tests.skills.presence.world import World


def test_the_penalty_halves_in_five_minutes() -> None:
    flap = Flap(0.0)
    flap.changed(0.0)
    assert flap.penalty(300.0) == 0.5
    assert flap.penalty(600.0) == 0.25


def test_four_changes_at_once_are_too_many_and_four_in_an_hour_are_not() -> None:
    flap = Flap(0.0)
    assert [flap.changed(0.0) for _ in range(4)] == [False, False, False, True]
    assert flap.flapping
    slow = Flap(0.0)
    assert not any(slow.changed(900.0 * turn) for turn in range(20))


def test_ten_minutes_without_a_change_make_it_clean() -> None:
    flap = Flap(0.0)
    for _ in range(5):
        flap.changed(0.0)
    assert not flap.settled(CLEAN - 1)
    flap.changed(300.0)
    assert not flap.settled(CLEAN) and flap.flapping
    assert flap.settled(300.0 + CLEAN) and not flap.flapping


def change(node: int, before: str, after: str) -> Transition:
    return Transition(node, f"agent{node}", before, after, "heard", {})


def drained(reporter: Reporter, until: float) -> list[tuple[float, str]]:
    told, now = [], 0.0
    while (due := reporter.deadline()) is not None and due <= until:
        now = max(now, due)
        told += [(now, event.name) for event in reporter.flush(now, 1)]
    return told


def test_one_event_in_two_seconds_the_last_wins() -> None:
    reporter = Reporter()
    reporter.transition(0.0, change(1, "online", "busy"), False)
    first = reporter.flush(0.25, 1)
    assert [event.data["to"] for event in first] == ["busy"]
    reporter.transition(0.5, change(1, "busy", "away"), False)
    reporter.transition(0.9, change(1, "away", "online"), False)
    assert reporter.flush(2.2, 1) == []
    second = reporter.flush(2.25, 1)
    assert [(event.data["from"], event.data["to"]) for event in second] == [("busy", "online")]
    assert reporter.merged == 1 and reporter.deadline() is None


def test_there_and_back_again_is_not_told() -> None:
    reporter = Reporter()
    reporter.transition(0.0, change(1, "online", "busy"), False)
    reporter.transition(0.1, change(1, "busy", "online"), False)
    assert reporter.flush(5.0, 1) == [] and reporter.deadline() is None


def test_a_flapping_agent_is_told_of_once_a_minute() -> None:
    reporter = Reporter()
    told = 0
    for turn in range(240):
        reporter.transition(turn * 1.0, change(1, "online" if turn % 2 else "offline", "x"), True)
        told += len(reporter.flush(turn + 0.5, 1))
    assert told == 4


def test_fifty_in_a_second_are_told_singly_and_one_more_makes_a_bulk() -> None:
    reporter = Reporter()
    for node in range(50):
        reporter.transition(0.0, change(node, "offline", "online"), False)
    assert [name for _, name in drained(reporter, 10.0)] == ["presence.changed"] * 50
    reporter = Reporter()
    for node in range(51):
        reporter.transition(node * 0.001, change(node, "offline", "online"), False)
    told = drained(reporter, 10.0)
    assert [name for _, name in told] == ["presence.bulk"]


def test_a_mass_change_that_goes_on_is_told_every_five_seconds() -> None:
    reporter = Reporter()
    names: list[str] = []
    for step in range(2000):
        now = step * 0.01
        reporter.transition(now, change(step, "offline", "online"), False)
        names += [event.name for event in reporter.flush(now, 1)]
    assert 3 <= names.count("presence.bulk") <= 5
    assert names.count("presence.changed") <= 50  # before it showed itself


def test_never_more_than_fifty_events_in_a_second() -> None:
    reporter = Reporter()
    times: list[float] = []
    for step in range(600):
        now = step * 0.025  # forty a second, and flapping notices besides
        reporter.transition(now, change(step, "offline", "online"), False)
        times += [now] * reporter.admits(now, "presence.flapping")
        times += [now for _ in reporter.flush(now, 1)]
    for at in times:
        assert sum(1 for other in times if at <= other < at + 1.0) <= 50
    assert reporter.dropped["presence.flapping"] > 0


def test_a_flapping_agent_is_not_found_until_it_is_clean() -> None:
    world = World(1)
    world.add(1, "hub", serve=True, swarm=False)
    world.add(2, coordinators=("hub",), swarm=False, watch=False)
    world.trust()
    world.run(80)
    hub = world.nodes[1]
    for _ in range(4):
        world.nodes[2].call("set_intent", "offline")
        world.run(1.1)
        world.nodes[2].call("set_intent", "online")
        world.run(1.1)
    assert hub.presence.get(world.now, "agent2")["flapping"]
    result = hub.presence.find(world.now, Query())
    assert result.agents == []
    assert "comes and goes" in result.excluded[0]["reason"]
    assert hub.names("presence.flapping")[0]["flapping"] is True
    world.run(610)
    assert not hub.presence.get(world.now, "agent2")["flapping"]
    assert len(hub.presence.find(world.now, Query()).agents) == 1
    assert hub.names("presence.flapping")[-1]["flapping"] is False
