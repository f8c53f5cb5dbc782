"""The turnstile: so many at once, so many a second, in the order they came."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from pilot.node.turnstile import Turnstile


def test_no_more_than_so_many_at_once() -> None:
    """Who leaves makes room for the next."""
    turnstile, entered = Turnstile(Clock(), at_once=2, rate=100), []
    for name in "abc":
        turnstile.enter().addCallback(lambda _, name=name: entered.append(name))
    assert entered == ["a", "b"]
    turnstile._clock.advance(1)  # type: ignore[attr-defined]
    assert entered == ["a", "b"]
    turnstile.leave()
    assert entered == ["a", "b", "c"]


def test_the_pace_holds_in_the_long_run() -> None:
    """A burst at first, then one by one, also after a rest."""
    clock, times = Clock(), []
    turnstile = Turnstile(clock, at_once=4, rate=8)

    def entered(_: None) -> None:
        times.append(clock.seconds())
        turnstile.leave()

    for _ in range(12):
        turnstile.enter().addCallback(entered)
    clock.pump([0.125] * 20)
    assert times[:4] == [0.0] * 4
    assert times[4:] == [0.125 * n for n in range(1, 9)]
    clock.advance(100)
    for _ in range(6):
        turnstile.enter().addCallback(entered)
    assert times[12:] == [times[12]] * 4
    clock.pump([0.125] * 2)
    assert len(times) == 18


def test_one_may_give_up() -> None:
    """It takes nobody's turn, and leaves no timer behind."""
    clock = Clock()
    turnstile = Turnstile(clock, at_once=1, rate=1)
    turnstile.enter()
    turnstile.leave()
    waiting: Deferred[None] = turnstile.enter()
    assert clock.getDelayedCalls()
    waiting.cancel()
    waiting.addErrback(lambda reason: reason.trap(CancelledError))
    assert not clock.getDelayedCalls()
    turnstile.enter()
    clock.advance(1)
    assert turnstile.inside == 1
