"""What a node knows of its private networks, also when others decide about them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot.errors import RegistryError
from pilot.registry.networks import MEMBER
from pilot.registry.records import Network
from tests.simulation.nodes import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def test_who_asks_for_the_members_notices_what_others_have_decided(world: World) -> None:
    """An administrator puts a node into a network and out again; nobody tells the node."""
    alice = world.start("alice")
    networks = world.registry.directory.networks
    crew = Network(1, "crew", 0.0)
    networks.create(crew)
    networks.join(crew, 1, MEMBER)
    assert world.wait(alice.info())["networks"] is None
    reply = world.wait(alice.network_members(1))
    assert [each["node_id"] for each in reply["nodes"]] == [1]
    assert world.wait(alice.info())["networks"] == [
        {"network_id": 1, "address": "1:0001.0000.0001"}
    ]
    networks.leave(1, 1)
    with pytest.raises(RegistryError):
        world.wait(alice.network_members(1))
    assert world.wait(alice.info())["networks"] is None


def test_members_of_a_foreign_network_change_nothing(world: World) -> None:
    alice = world.start("alice")
    world.wait(alice.network_list())
    for network in (0, 7):
        with pytest.raises(RegistryError):
            world.wait(alice.network_members(network))
    assert world.wait(alice.info())["networks"] is None
