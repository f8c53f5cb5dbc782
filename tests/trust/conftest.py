"""Fixtures of the trust suite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.trust.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """An empty world, stopped afterwards."""
    world = World(tmp_path)
    yield world
    world.stop()
