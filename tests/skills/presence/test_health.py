"""Doubting oneself before others."""

from __future__ import annotations

from skills.presence.detection.health import WORST, LocalHealth, is_exodus, is_unusual


def test_the_score_stays_between_its_ends() -> None:
    health = LocalHealth()
    health.better()
    assert health.score == 0
    for _ in range(20):
        health.worse()
    assert health.score == WORST
    for _ in range(WORST):
        health.better()
    assert health.score == 0


def test_ill_health_stretches_timeouts_up_to_the_limit() -> None:
    health = LocalHealth()
    assert health.stretch(0.5, 2.0) == 0.5
    health.worse()
    assert health.stretch(0.5, 2.0) == 1.0
    health.worse(5)
    assert health.stretch(0.5, 2.0) == 2.0
    assert health.quiet_after(1.0) == 9.0


def test_a_lossy_network_makes_us_look_twice() -> None:
    health = LocalHealth()
    assert health.looks == 1
    for at in range(64):
        health.probed(at % 2 == 0)
    assert health.looks == 2
    for _ in range(64):
        health.probed(True)
    assert health.looks == 1


def test_ill_health_makes_us_look_more_often() -> None:
    health = LocalHealth()
    health.worse(3)
    assert health.looks == 4


def test_when_too_many_are_missing() -> None:
    assert not is_exodus(1, 0)  # one of one: it may well be gone
    assert is_exodus(2, 1)
    assert not is_exodus(2, 2)
    assert is_exodus(51, 48) and not is_exodus(49, 50)
    assert is_unusual(2, 13) and not is_unusual(2, 14) and not is_unusual(1, 0)
