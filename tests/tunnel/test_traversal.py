"""The beacon: where we are seen, introductions through NATs, relaying, and the way back."""

from __future__ import annotations

from typing import Any

from pilot.tunnel.config import TunnelConfig
from pilot.tunnel.tunnel import Endpoint
from pilot.wire.beacon import DiscoverReply, PunchCommand, RelayDeliver
from tests.simulation.network import SocketAddress
from tests.simulation.tunnels import SimulatedNode
from tests.tunnel.conftest import BEACON, World

A, B = 7, 8
INNER_A, INNER_B = ("192.168.1.7", 4000), ("10.0.0.8", 4000)
OUTER_A, OUTER_B = ("203.0.113.1", 60001), ("203.0.113.2", 60002)


def chat(world: World, a: SimulatedNode, b: SimulatedNode, seconds: float) -> None:
    """Both say something twice a second."""
    for number in range(round(seconds * 2)):
        a.send(b.node_id, b"%d" % number)
        b.send(a.node_id, b"%d" % number)
        world.run(0.5)


def relayed(node: SimulatedNode, peer: int) -> bool:
    return any(entry["relay"] for entry in node.tunnel.peers() if entry["node_id"] == peer)


# -- where we are ------------------------------------------------------------------------------


def test_discovery_on_the_tunnel_socket_itself(world: World) -> None:
    """Before the registration, hence as node 0; two who ask get one answer."""
    world.beacon()
    a = world.node(0, beacon=BEACON, registered=False)
    world.network.nat(a.address, OUTER_A)
    seen: list[Any] = []
    a.tunnel.discover().addCallback(seen.append)
    a.tunnel.discover().addCallback(seen.append)
    world.run(0.1)
    assert seen == [OUTER_A, OUTER_A]
    assert a.tunnel.beacon_client.seen_at == OUTER_A


def test_discovery_repeats_and_gives_up(world: World) -> None:
    a = world.node(0, beacon=BEACON, registered=False)
    seen: list[Any] = []
    a.tunnel.discover().addCallback(seen.append)
    world.run(6)
    assert seen == [None]
    assert len(world.frames(b"\x01\0\0\0\0")) >= 5


def test_no_beacon_no_question(world: World) -> None:
    a = world.node(A)
    seen: list[Any] = []
    a.tunnel.discover().addCallback(seen.append)
    assert seen == [None]


def test_closing_ends_a_discovery(world: World) -> None:
    a = world.node(A, beacon=BEACON)
    seen: list[Any] = []
    a.tunnel.discover().addCallback(seen.append)
    a.stop()
    assert seen == [None]


def test_refreshes_before_a_nat_forgets_and_tells_of_a_move(world: World) -> None:
    world.beacon()
    a = world.node(A, beacon=BEACON)
    moves: list[SocketAddress] = []
    a.tunnel.beacon_client.moved = moves.append
    world.run(110)
    assert len(world.frames(b"\x01")) == 5
    assert moves == []
    world.network.nat(a.address, OUTER_A)
    world.run(30)
    assert moves == [OUTER_A]


def test_a_beacon_that_vanishes_and_returns(world: World) -> None:
    beacon = world.beacon()
    a = world.node(A, beacon=BEACON)
    world.network.crash(beacon.address)
    world.run(150)
    beacon = world.beacon()
    world.run(30)
    assert beacon.nodes == {A: a.address}


def test_a_beacon_that_is_learned_later(world: World) -> None:
    beacon = world.beacon()
    a = world.node(A)
    a.tunnel.beacon = BEACON
    world.run(0.1)
    assert beacon.nodes == {A: a.address}


# -- hole punching -----------------------------------------------------------------------------


def behind_nats(world: World) -> tuple[SimulatedNode, SimulatedNode]:
    """@return: two nodes that the registry knows by ports that no NAT forwards."""
    a = world.node(A, INNER_A, beacon=BEACON)
    b = world.node(B, INNER_B, beacon=BEACON)
    world.network.nat(INNER_A, OUTER_A)
    world.network.nat(INNER_B, OUTER_B)
    world.registry.endpoints[A] = Endpoint(f"{OUTER_A[0]}:4000")
    world.registry.endpoints[B] = Endpoint(f"{OUTER_B[0]}:4000")
    for node in (a, b):
        node.tunnel.beacon_client.start()
    world.run(0.1)
    return a, b


def test_two_nodes_behind_nats_meet(world: World) -> None:
    """The beacon introduces them; key frames open both NATs and teach where the other one is."""
    beacon = world.beacon()
    a, b = behind_nats(world)
    a.send(B, b"hello")
    world.run(2)
    assert b.received == [(A, b"hello")]
    b.send(A, b"hi")
    world.run(1)
    assert a.received == [(B, b"hi")]
    assert beacon.relayed == 0
    assert a.tunnel.peers()[0]["endpoint"] == "203.0.113.2:60002"
    assert len(world.frames(b"PILP", INNER_A)) >= 3


def test_a_punch_command_is_obeyed_to_the_letter(world: World) -> None:
    world.beacon()
    a = world.node(A, beacon=BEACON)
    target = ("192.0.2.5", 555)
    world.network.carry(PunchCommand(*target).encode(), BEACON, a.address)
    world.run(0.1)
    sent = [data[:4] for _, source, to, data in world.sent if to == target]
    assert sent == [b"PILP", b"PILP", b"PILP", b"PILA"]


def test_punch_commands_of_others_or_to_nowhere_are_refused(world: World) -> None:
    world.beacon()
    a = world.node(A, beacon=BEACON)
    stranger = ("192.0.2.66", 9001)
    world.network.carry(PunchCommand("192.0.2.5", 555).encode(), stranger, a.address)
    for target in (("255.255.255.255", 5), ("224.0.0.1", 5), ("0.0.0.0", 5), ("192.0.2.5", 0)):
        world.network.carry(PunchCommand(*target).encode(), BEACON, a.address)
    world.run(0.1)
    assert world.frames(b"PILP") == []
    assert a.count("beacon_refused") == 1
    assert a.count("punches_refused") == 4


def test_punch_commands_are_rationed(world: World) -> None:
    world.beacon()
    a = world.node(A, beacon=BEACON)
    for number in range(200):
        world.network.carry(PunchCommand("192.0.2.5", 1 + number).encode(), BEACON, a.address)
    world.run(0.02)
    assert len(world.frames(b"PILP")) == 3 * 20


# -- the neighbourhood -------------------------------------------------------------------------


def test_neighbours_meet_on_their_own_network(world: World) -> None:
    world.beacon()
    a = world.node(A, ("192.168.1.7", 4000), beacon=BEACON)
    b = world.node(B, ("192.168.1.8", 4000), beacon=BEACON)
    world.registry.endpoints[B] = Endpoint("203.0.113.2:4000", ("10.9.9.9:1", "192.168.1.8:4000"))
    a.tunnel.lan_addrs = ("192.168.1.7:4000",)
    a.send(B, b"hello")
    world.run(1)
    assert b.received == [(A, b"hello")]
    assert a.tunnel.peers()[0]["endpoint"] == "192.168.1.8:4000"
    assert world.frames(b"\x03") == [], "no introduction was needed"


def test_false_neighbours_meet_through_the_beacon(world: World) -> None:
    """Two sites with the same private numbers mistake each other for neighbours."""
    world.beacon()
    a, b = behind_nats(world)
    world.registry.endpoints[B] = Endpoint("203.0.113.2:4000", ("192.168.1.99:4000",))
    a.tunnel.lan_addrs = ("192.168.1.7:4000",)
    for _ in range(20):
        a.send(B, b"hello")
        world.run(0.5)
    assert (A, b"hello") in b.received


# -- relaying ----------------------------------------------------------------------------------


def test_relay_after_direct_attempts_and_back_when_the_way_opens(world: World) -> None:
    beacon = world.beacon()
    a, b = world.node(A, beacon=BEACON), world.node(B, beacon=BEACON)
    world.network.partition(a.address, b.address)
    world.run(0.1)
    chat(world, a, b, 10)
    assert relayed(a, B) and relayed(b, A)
    assert (A, b"19") in b.received[-2:]
    assert a.tunnel.peers()[0]["endpoint"] == "203.0.113.9:9001"
    assert a.tunnel.segment_limit(B) == 1121
    world.network.heal()
    chat(world, a, b, 60)
    assert not relayed(a, B) and not relayed(b, A)
    before = beacon.relayed
    chat(world, a, b, 5)
    assert beacon.relayed == before
    assert b.received[-1] == (A, b"9")


def test_a_dial_may_ask_for_the_relay_at_once(world: World) -> None:
    world.beacon()
    a, b = world.node(A, beacon=BEACON), world.node(B, beacon=BEACON)
    world.network.partition(a.address, b.address)
    world.run(0.1)
    a.send(B, b"hello")
    a.tunnel.use_relay(B)
    world.run(0.5)
    assert b.received == [(A, b"hello")]
    assert relayed(b, A), "what came through the beacon goes back through it"
    assert b.named("tunnel.relay_activated") == [{"peer_node_id": A}]
    assert b.named("tunnel.established")[0]["relay"] is True
    assert a.named("tunnel.relay_activated") == [], "it was our own decision"


def test_without_a_beacon_nothing_is_relayed(world: World) -> None:
    a, b = world.node(A), world.node(B)
    a.send(B, b"hello")
    a.tunnel.use_relay(B)
    world.run(1)
    assert b.received == [(A, b"hello")]
    assert not relayed(a, B)


def test_an_established_way_that_breaks_is_replaced(world: World) -> None:
    """Nobody dials: the silence alone is enough."""
    world.beacon()
    a, b = world.node(A, beacon=BEACON), world.node(B, beacon=BEACON)
    world.run(0.1)
    chat(world, a, b, 2)
    world.network.partition(a.address, b.address)
    chat(world, a, b, 20)
    assert relayed(a, B) or relayed(b, A)
    assert (A, b"39") in b.received[-2:]
    assert (B, b"39") in a.received[-2:]


def test_a_way_that_works_in_one_direction_only(world: World) -> None:
    """B's frames reach A directly, A's do not reach B: A stays with the relay, without flapping."""
    world.beacon()
    a, b = world.node(A, beacon=BEACON), world.node(B, beacon=BEACON)
    world.network.block(a.address, b.address)
    world.run(0.1)
    chat(world, a, b, 30)
    got = len(b.received)
    chat(world, a, b, 60)
    assert relayed(a, B)
    assert len(b.received) - got > 110, "almost everything arrives"


def test_relay_activated_is_told_once(world: World) -> None:
    world.beacon()
    a, b = world.node(A, beacon=BEACON), world.node(B, beacon=BEACON)
    world.run(0.1)
    chat(world, a, b, 1)
    world.network.block(b.address, a.address)
    b.tunnel.use_relay(A)
    chat(world, a, b, 20)
    assert len(a.named("tunnel.relay_activated")) <= 1


def test_relayed_frames_must_be_of_the_one_they_are_relayed_for(world: World) -> None:
    world.beacon()
    a, b = world.node(A, beacon=BEACON), world.node(B, beacon=BEACON)
    world.run(0.1)
    chat(world, a, b, 1)
    frame = world.frames(b"PILA", b.address)[0]
    world.network.carry(RelayDeliver(99, frame).encode(), BEACON, a.address)
    world.network.carry(RelayDeliver(B, b"PILS").encode(), BEACON, a.address)
    world.network.carry(RelayDeliver(B, b"").encode(), BEACON, a.address)
    world.network.carry(RelayDeliver(B, b"garbage" * 20).encode(), BEACON, a.address)
    world.run(0.1)
    assert a.count("ignored") == 4
    assert not relayed(a, B)


def test_garbage_through_the_relay_does_not_switch_to_it(world: World) -> None:
    """Nor does a replayed key frame: only what opens proves anything."""
    world.beacon()
    a, b = world.node(A, beacon=BEACON), world.node(B, beacon=BEACON)
    world.run(0.1)
    chat(world, a, b, 1)
    offer = world.frames(b"PILA", b.address)[0]
    sealed = world.frames(b"PILS", b.address)[-1]
    for frame in (offer, sealed, sealed[:-1] + b"\0", sealed[:12] + bytes(40)):
        world.network.carry(RelayDeliver(B, frame).encode(), BEACON, a.address)
    world.run(0.5)
    assert not relayed(a, B)
    assert a.tunnel.peers()[0]["endpoint"] == "198.51.100.8:4000"


def test_deliveries_of_anybody_but_the_beacon_are_refused(world: World) -> None:
    world.beacon()
    a, b = world.node(A, beacon=BEACON), world.node(B, beacon=BEACON)
    world.run(0.1)
    sealed: list[bytes] = []

    def catch(source: SocketAddress, destination: SocketAddress, data: bytes) -> bytes | None:
        if source == b.address and data.startswith(b"PILS"):
            sealed.append(data)
            return None
        return data

    chat(world, a, b, 1)
    before = len(a.received)
    world.alter = catch
    b.send(A, b"caught")
    world.run(0.1)
    world.network.carry(RelayDeliver(B, sealed[0]).encode(), ("192.0.2.66", 9001), a.address)
    world.network.carry(DiscoverReply("192.0.2.1", 5).encode(), ("192.0.2.66", 9001), a.address)
    world.run(0.1)
    assert len(a.received) == before
    assert a.count("beacon_refused") == 2
    assert a.tunnel.beacon_client.seen_at == a.address


def test_a_beacon_behind_a_balancer_may_be_let_in(world: World) -> None:
    """Its deliveries come from another address than its own; a setting allows that."""
    world.beacon()
    config = TunnelConfig(check_beacon_source=False)
    a = world.node(A, beacon=BEACON, config=config)
    reply = DiscoverReply("192.0.2.1", 5).encode()
    world.network.carry(reply, ("203.0.113.10", 9001), a.address)
    world.run(0.01)
    assert a.tunnel.beacon_client.seen_at == ("192.0.2.1", 5)


def test_in_the_clear_through_the_relay(world: World) -> None:
    world.beacon()
    a = world.node(A, beacon=BEACON, encrypt=False)
    b = world.node(B, beacon=BEACON, encrypt=False)
    world.network.partition(a.address, b.address)
    world.run(0.1)
    a.tunnel.ensure(B)
    a.tunnel.use_relay(B)
    a.send(B, b"one")
    world.run(0.1)
    b.send(A, b"two")
    world.run(0.1)
    assert b.received == [(A, b"one")]
    assert a.received == [(B, b"two")]


# -- with the reference ------------------------------------------------------------------------


def test_reference_peer_through_the_relay_only(world: World) -> None:
    world.beacon()
    a, g = world.node(A, beacon=BEACON), world.reference(B, beacon=BEACON)
    world.network.partition(a.address, g.address)
    world.run(0.1)
    for number in range(20):
        a.send(B, b"%d" % number)
        g.send(A, b"%d" % number)
        world.run(0.5)
    assert g.received[-1] == (A, b"19")
    assert a.received[-1] == (B, b"19")


def test_reference_peer_keeps_relaying_and_we_go_direct(world: World) -> None:
    """It never comes back from the relay; our answered probes show that the direct way works."""
    world.beacon()
    a, g = world.node(A, beacon=BEACON), world.reference(B, beacon=BEACON)
    world.network.partition(a.address, g.address)
    world.run(0.1)
    for number in range(20):
        a.send(B, b"%d" % number)
        world.run(0.5)
    world.network.heal()
    for number in range(120):
        a.send(B, b"%d" % number)
        g.send(A, b"%d" % number)
        world.run(0.5)
    assert A in g.relayed
    assert not relayed(a, B)
    assert g.received[-1] == (A, b"119")
    assert a.received[-1] == (B, b"119")


def test_reference_peer_that_took_our_last_key_through_the_relay(world: World) -> None:
    """After our restart it takes a new key that way only."""
    world.beacon()
    a, g = world.node(A, beacon=BEACON), world.reference(B, beacon=BEACON)
    world.network.partition(a.address, g.address)
    world.run(0.1)
    a.tunnel.ensure(B)
    a.tunnel.use_relay(B)
    a.send(B, b"first")
    world.run(2)
    assert g.received == [(A, b"first")]
    world.crash(a)
    world.network.heal()
    a = world.node(A, beacon=BEACON, seed=44)
    world.run(0.1)
    for number in range(20):
        a.send(B, b"%d" % number)
        world.run(0.5)
    assert g.received[-1] == (A, b"19")
