"""Bad weather for whole nodes, by seed: a transfer arrives whole or fails, and never hangs."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from twisted.internet.error import ConnectionDone, ConnectionLost

from pilot.errors import ConnectionFailed
from tests.simulation.network import Faults
from tests.simulation.nodes import Recorder, RecorderFactory, World

#: Simulated seconds in which every schedule must have come to an end, one way or the other.
PATIENCE = 300.0


def weather(rng: random.Random) -> Faults:
    """Anything from a quiet day to a storm."""
    severity = rng.choice([0.0, 0.3, 1.0])
    return Faults(
        loss=rng.uniform(0.0, 0.15) * severity,
        duplicate=rng.uniform(0.0, 0.1) * severity,
        reorder=rng.uniform(0.0, 0.2) * severity,
        corrupt=rng.uniform(0.0, 0.05) * severity,
        truncate=rng.uniform(0.0, 0.05) * severity,
        delay=(0.001, rng.choice([0.002, 0.02, 0.1])),
    )


def transfer(seed: int, directory: Path) -> None:
    """Introduce two nodes, send a blob each way at once, and break things on the way."""
    rng = random.Random(seed)
    world = World(directory, seed)
    alice, bob = world.start("alice"), world.start("bob")
    world.introduce(alice, bob)
    world.network.faults = weather(rng)
    sink = RecorderFactory()
    world.wait(bob.listen(80, sink))
    there, back = rng.randbytes(rng.randrange(1, 300_000)), rng.randbytes(rng.randrange(1, 50_000))
    try:
        stream: Recorder = world.wait(alice.dial("bob", 80, RecorderFactory()), PATIENCE)
    except ConnectionFailed:
        world.close()
        return
    stream.transport.write(there)
    stream.transport.loseWriteConnection()
    world.internet.until(lambda: sink.built)
    sink.built[0].transport.write(back)
    mishap = rng.choice(["none", "partition", "crash", "registry", "rekey", "abort"])
    world.internet.run(rng.uniform(0.0, 1.0))
    if mishap == "partition":
        world.network.partition(alice.parts.tunnel.address, bob.parts.tunnel.address)
        world.internet.run(rng.uniform(1.0, 20.0))
        world.network.heal()
    elif mishap == "crash":
        world.crash("bob")
    elif mishap == "registry":
        world.registry_dies(forgets=False)
    elif mishap == "rekey":
        alice.parts.tunnel.forget(2)
    elif mishap == "abort":
        stream.transport.abortConnection()
    far = sink.built[0]
    world.internet.until(lambda: stream.ended and far.ended, PATIENCE)
    assert stream.ended is not None and far.ended is not None
    assert there.startswith(far.data) and back.startswith(stream.data)
    for end, data, whole in ((far, far.data, there), (stream, stream.data, back)):
        if end.ended is not None and end.ended.check(ConnectionDone):
            assert data == whole, "a clean end without all the data"
        else:
            assert end.ended is not None and end.ended.check(ConnectionLost)
    world.close()


@pytest.mark.parametrize("seed", range(100))
def test_a_transfer_arrives_whole_or_fails_with_a_reason(seed: int, tmp_path: Path) -> None:
    transfer(seed, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("first", range(1000, 3000, 20))
def test_many_more_transfers(first: int, tmp_path: Path) -> None:
    for seed in range(first, first + 20):
        home = tmp_path / str(seed)
        home.mkdir()
        transfer(seed, home)
