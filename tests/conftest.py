"""What every test gets: a quiet home of its own, and a look at what it left behind."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

settings.register_profile(
    "suite",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("suite")


def pytest_collection_finish() -> None:
    """Spare the collection after each test the walk through everything that stays loaded."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the caller's own ~/.pilot, or hears its environment."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PILOT_HOME", str(tmp_path / ".pilot"))
    for name in ("PILOT_REGISTRY", "PILOT_BEACON", "PILOT_SOCKET", "PILOT_ADMIN_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[list[Failure]]:
    """Fail a test that leaves a timer running or an error that nobody handled.

    A test that expects a logged error takes the fixture and clears the list.
    """
    from twisted.internet import reactor

    failures: list[Failure] = []
    before = set(reactor.getDelayedCalls())  # type: ignore[attr-defined]

    def observe(event: dict[str, Any]) -> None:
        if "log_failure" in event:
            failures.append(event["log_failure"])

    globalLogPublisher.addObserver(observe)
    yield failures
    gc.collect()  # errors in dropped Deferreds surface here
    globalLogPublisher.removeObserver(observe)
    left = set(reactor.getDelayedCalls()) - before  # type: ignore[attr-defined]
    for call in left:
        call.cancel()
    assert not failures, failures
    assert not left, left
