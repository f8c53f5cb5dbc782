"""With peers that behave as the reference does, its faults included."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pilot.tunnel.config import TunnelConfig
from tests.simulation.network import Faults
from tests.tunnel.conftest import BEACON, World

A, G = 7, 8  # ours, the reference's


def test_we_call(world: World) -> None:
    a, g = world.node(A), world.reference(G)
    a.send(G, b"one", b"two")
    world.run(1)
    assert g.received == [(A, b"one"), (A, b"two")]
    g.send(A, b"back")
    world.run(1)
    assert a.received == [(G, b"back")]
    assert a.state(G) == "established"


def test_it_calls(world: World) -> None:
    a, g = world.node(A), world.reference(G)
    g.dial(A)
    g.send(A, b"one", b"two")
    world.run(1)
    assert a.received == [(G, b"one"), (G, b"two")]
    a.send(G, b"back")
    world.run(1)
    assert g.received == [(A, b"back")]


def test_both_call(world: World) -> None:
    a, g = world.node(A), world.reference(G)
    g.dial(A)
    g.send(A, b"from g")
    a.send(G, b"from a")
    world.run(1)
    a.send(G, b"again")
    g.send(A, b"again")
    world.run(1)
    assert (A, b"again") in g.received and (G, b"again") in a.received


def test_it_restarts_while_we_talk(world: World) -> None:
    """It swallows what we seal with the old key; we notice the silence and offer our key."""
    a, g = world.node(A), world.reference(G)
    a.send(G, b"one")
    world.run(1)
    world.network.crash(g.address)
    g = world.reference(G, seed=2)
    for number in range(30):
        a.send(G, b"%d" % number)
        world.run(0.5)
    assert g.received[-1] == (A, b"29")
    assert a.state(G) == "established"


def test_it_restarts_and_calls(world: World) -> None:
    a, g = world.node(A), world.reference(G)
    a.send(G, b"one")
    world.run(1)
    world.network.crash(g.address)
    g = world.reference(G, seed=2)
    g.dial(A)
    g.send(A, b"back")
    world.run(1)
    assert a.received == [(G, b"back")]
    a.send(G, b"two")
    world.run(1)
    assert g.received == [(A, b"two")]


def test_we_restart(world: World) -> None:
    """It goes on sealing for our dead self; we offer our new key when that cannot be opened."""
    a, g = world.node(A), world.reference(G)
    a.send(G, b"one")
    world.run(1)
    world.crash(a)
    a = world.node(A, seed=5)
    g.send(A, b"lost")
    world.run(1)
    g.send(A, b"heard")
    world.run(1)
    assert a.received == [(G, b"heard")]


def test_it_forgot_us_and_kept_its_key(world: World) -> None:
    """Its key frame looks like an old one to us.  The reference would never answer it."""
    a, g = world.node(A), world.reference(G)
    a.send(G, b"one")
    world.run(1)
    g.contexts.clear()
    g.endpoints.clear()
    g.dial(A)
    g.send(A, b"again")
    world.run(1)
    assert a.received == [(G, b"again")]
    a.send(G, b"two")
    world.run(1)
    assert g.received[-1] == (A, b"two")


def test_its_counters_start_over_with_each_key_frame(world: World) -> None:
    """It makes a new prefix and counts from one; what it sends next is no replay to us."""
    a, g = world.node(A), world.reference(G)
    a.send(G, b"open")
    world.run(1)
    for number in range(20):
        g.send(A, *(b"%d.%d" % (number, index) for index in range(5)))
        world.network.carry(world.frames(b"PILA", a.address)[0], a.address, g.address)
        world.run(0.1)
    assert len(a.received) == 100
    assert a.count("replays") == 0
    a.send(G, b"heard?")
    world.run(0.1)
    assert g.received[-1] == (A, b"heard?"), "our counter never goes back"


def test_we_renew_our_key(world: World) -> None:
    """It drops its old context at once: a few packets are lost, the tunnel is not."""
    config = TunnelConfig(renew_frames=100, silence=0.2)
    a, g = world.node(A, config=config), world.reference(G)
    for number in range(400):
        a.send(G, b"%d" % number)
        world.run(0.02)
    assert len(g.received) > 380
    assert g.received[-1] == (A, b"399")
    assert len({frame[8:40] for frame in world.frames(b"PILA", a.address)}) >= 3


def test_one_forged_frame_makes_it_deaf_and_we_notice(world: World) -> None:
    """Its window moves before the tag is checked.  It goes on talking, so there is no silence."""
    a, g = world.node(A), world.reference(G)
    a.send(G, b"one")
    world.run(1)
    genuine = world.frames(b"PILS", a.address)[-1]
    forged = genuine[:12] + bytes([255] * 8) + genuine[20:]
    world.network.carry(forged, ("192.0.2.66", 6666), g.address)
    for number in range(60):
        a.send(G, b"%d" % number)
        g.send(A, b"%d" % number)
        world.run(0.5)
    assert g.received[-1] == (A, b"59")
    assert a.count("deaf_peers") == 1
    assert len(a.received) == 60


def test_lost_key_frames(make_world: Callable[..., World]) -> None:
    """The reference has no timer for them; ours must do for both."""
    for seed in range(10):
        world = make_world(seed, Faults(loss=0.4))
        a, g = world.node(A), world.reference(G)
        for number in range(20):
            a.send(G, b"%d" % number)
            world.run(0.5)
        assert len(g.received) >= 3, seed
        world.network.faults = Faults()
        a.send(G, b"done")
        world.run(3)
        a.send(G, b"done")
        world.run(1)
        assert g.received[-1] == (A, b"done")


def test_a_changed_key_must_come_the_way_the_last_one_came(world: World) -> None:
    """After our restart it takes our key only through the beacon, where it got the last one; we try
    both ways when the first is not answered."""
    world.beacon()
    a = world.node(A, beacon=BEACON)
    g = world.reference(G, beacon=BEACON)
    world.run(0.1)
    a.send(G, b"direct")
    world.run(1)
    assert g.received == [(A, b"direct")]
    world.crash(a)
    a = world.node(A, beacon=BEACON, seed=5)
    world.run(0.1)
    # Something blocks the direct way for the first key frames only.
    a.tunnel.ensure(G)
    a.tunnel.use_relay(G)
    for number in range(20):
        a.send(G, b"%d" % number)
        world.run(0.5)
    assert g.received[-1] == (A, b"19")


@pytest.mark.parametrize("seed", range(5))
def test_restarts_of_both_in_bad_weather(make_world: Callable[..., World], seed: int) -> None:
    world = make_world(seed, Faults(loss=0.1, delay=(0.001, 0.02)))
    a, g = world.node(A), world.reference(G)
    for turn in range(6):
        if turn % 2:
            world.crash(a)
            a = world.node(A, seed=100 + turn)
        else:
            world.network.crash(g.address)
            g = world.reference(G, seed=100 + turn)
        for _ in range(80):
            a.send(G, b"turn %d" % turn)
            world.run(0.25)
        assert (A, b"turn %d" % turn) in g.received[-20:], turn
