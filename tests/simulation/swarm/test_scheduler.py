"""The heap of calls."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from tests.simulation.swarm.scheduler import HeapScheduler


def test_it_is_a_reactors_clock() -> None:
    """It provides what it says."""
    scheduler = HeapScheduler()
    verifyObject(IReactorTime, scheduler)
    verifyObject(IDelayedCall, scheduler.callLater(1, int))


def test_calls_run_in_order_of_time_then_of_making() -> None:
    """Equal times keep their order."""
    scheduler = HeapScheduler()
    ran: list[Any] = []
    for name, delay in (("c", 2), ("a", 1), ("b", 1)):
        scheduler.callLater(delay, ran.append, name)
    scheduler.post(1.0, ran.append, "posted")
    scheduler.advance(1.5)
    assert ran == ["a", "b", "posted"] and scheduler.seconds() == 1.5
    scheduler.advance(1)
    assert ran[-1] == "c"


def test_a_call_sees_the_time_it_was_due() -> None:
    """Also one that an earlier call made."""
    scheduler, seen = HeapScheduler(), []

    def again() -> None:
        seen.append(scheduler.seconds())
        scheduler.callLater(0.25, again)

    scheduler.callLater(0.25, again)
    scheduler.run_until(1.0)
    assert seen == [0.25, 0.5, 0.75, 1.0]


def test_cancelled_and_called_are_final() -> None:
    """As Twisted's own do."""
    scheduler = HeapScheduler()
    call, other = scheduler.callLater(1, int), scheduler.callLater(1, int)
    call.cancel()
    scheduler.advance(2)
    assert not other.active() and scheduler.calls == 1
    with pytest.raises(AlreadyCancelled):
        call.reset(1)
    with pytest.raises(AlreadyCalled):
        other.cancel()


def test_running_stops_when_the_condition_ends() -> None:
    """And says whether it was the condition."""
    scheduler = HeapScheduler()
    ran: list[Any] = []
    for when in range(10):
        scheduler.callLater(when, ran.append, when)
    assert scheduler.run_while(lambda: len(ran) < 4, until=100)
    assert scheduler.now == 3
    assert not scheduler.run_while(lambda: len(ran) < 40, until=100)
    assert scheduler.now == 100


def test_a_great_many_cancelled_calls_leave_nothing_behind() -> None:
    """They are swept out, long before they are due."""
    scheduler = HeapScheduler()
    for _ in range(50_000):
        scheduler.callLater(1_000, int).cancel()
    assert len(scheduler._heap) < 10_000
    assert scheduler.getDelayedCalls() == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["later", "cancel", "reset", "delay", "advance"]),
            st.integers(0, 8),
            st.integers(0, 20),
        ),
        max_size=60,
    )
)
def test_it_does_what_twisteds_clock_does(steps: list[tuple[str, int, int]]) -> None:
    """Any mixture of calls, moves and cancellations."""
    worlds: list[tuple[Any, list[int]]] = [(Clock(), []), (HeapScheduler(), [])]
    for clock, ran in worlds:
        calls = []
        for number, (what, which, tenths) in enumerate(steps):
            seconds = tenths / 8 + number / 1024  # no two at the same moment
            if what == "later":
                calls.append(clock.callLater(seconds, ran.append, number))
            elif what == "advance":
                for _ in range(10):
                    clock.advance(seconds / 8)
            elif calls and calls[which % len(calls)].active():
                call = calls[which % len(calls)]
                call.cancel() if what == "cancel" else getattr(call, what)(seconds)
        clock.advance(1_000)
        ran.append(sum(call.active() for call in calls))
    assert worlds[0][1] == worlds[1][1]
