"""Errands: again and again until done, one at a time a key."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from pilot.errors import ConnectionFailed, PilotError
from pilot.services.taskerrands import LONGEST_PAUSE, Errands
from pilot.tasks.errors import InvalidState


class Work:
    """Something that takes until a test says how it went."""

    def __init__(self) -> None:
        self.attempts: list[Deferred[None]] = []

    async def __call__(self) -> None:
        attempt: Deferred[None] = Deferred()
        self.attempts.append(attempt)
        await attempt

    def fail(self, error: Exception) -> None:
        self.attempts[-1].errback(error)


def result(told: Deferred[bool]) -> Any:
    results: list[Any] = []
    told.addBoth(results.append)
    return results[0] if results else None


def test_what_fails_is_tried_again_more_and_more_seldom() -> None:
    clock, work = Clock(), Work()
    errands = Errands(clock)
    told = errands.start("a", work)
    pauses = []
    for _ in range(12):
        work.fail(ConnectionFailed("away"))
        (call,) = clock.getDelayedCalls()
        pauses.append(call.getTime() - clock.seconds())
        clock.advance(pauses[-1])
    assert result(told) is False
    assert pauses[:3] == [2.0, 4.0, 8.0] and pauses[-1] == LONGEST_PAUSE
    work.attempts[-1].callback(None)
    assert len(errands) == 0 and len(work.attempts) == 13


def test_what_will_never_do_is_given_up(nothing_left_behind: list[Failure]) -> None:
    """Quietly if it is ours, with a word in the log if it is a mistake of the program."""
    clock, work = Clock(), Work()
    errands = Errands(clock)
    for error in (InvalidState("no"), PilotError("no"), ValueError("a mistake")):
        told = errands.start("a", work)
        work.fail(error)
        assert result(told) is False
    assert not clock.getDelayedCalls()
    assert [each.type for each in nothing_left_behind] == [ValueError]
    nothing_left_behind.clear()


def test_one_at_a_time_and_then_the_newest() -> None:
    clock, first, second, third = Clock(), Work(), Work(), Work()
    errands = Errands(clock)
    one, two, three = (errands.start("a", each) for each in (first, second, third))
    assert not second.attempts
    first.fail(ConnectionFailed("away"))
    assert result(one) is False and not second.attempts and len(third.attempts) == 1
    third.attempts[-1].callback(None)
    assert result(two) is True and result(three) is True
    assert len(errands) == 0


def test_a_new_word_does_not_wait_for_the_pause() -> None:
    clock, work = Clock(), Work()
    errands = Errands(clock)
    errands.start("a", work)
    work.fail(ConnectionFailed("away"))
    told = errands.start("a", work)
    assert len(work.attempts) == 2 and not clock.getDelayedCalls()
    work.attempts[-1].callback(None)
    assert result(told) is True


def test_stopping_ends_everything() -> None:
    clock, busy, waiting = Clock(), Work(), Work()
    errands = Errands(clock)
    errands.start("b", waiting)
    waiting.fail(ConnectionFailed("away"))
    told = [errands.start("a", busy), errands.start("a", busy)]
    errands.stop()
    assert [result(each) for each in told] == [False, False]
    assert result(errands.start("c", busy)) is False
    assert not clock.getDelayedCalls() and len(busy.attempts) == 1
