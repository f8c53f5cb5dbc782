"""Keys are exchanged, lost, changed and renewed; packets get through, each once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilot.errors import ConnectionFailed
from pilot.tunnel.config import TunnelConfig
from tests.simulation.network import Faults, SocketAddress
from tests.tunnel.conftest import World

A, B = 7, 8


def drop_first(world: World, magic: bytes, count: int) -> None:
    """Lose the first frames of a kind."""
    left = count

    def alter(source: SocketAddress, destination: SocketAddress, data: bytes) -> bytes | None:
        nonlocal left
        if data.startswith(magic) and left:
            left -= 1
            return None
        return data

    world.alter = alter


def test_first_packets_wait_for_the_key_and_arrive_in_order(world: World) -> None:
    a, b = world.node(A), world.node(B)
    a.send(B, b"one", b"two")
    a.send(B, b"three")
    world.run(1)
    assert b.received == [(A, b"one"), (A, b"two"), (A, b"three")]
    assert a.state(B) == b.state(A) == "established"
    assert len(world.frames(b"PILA")) == 2, "one key frame each, and no more"
    assert a.named("tunnel.peer_added") == [{"peer_node_id": B, "endpoint": "198.51.100.8:4000"}]
    established = {"peer_node_id": B, "authenticated": True, "relay": False, "rekeyed": False}
    assert a.named("tunnel.established") == [established]
    assert b.batches >= 1


def test_both_directions_and_counters(world: World) -> None:
    a, b = world.node(A), world.node(B)
    a.send(B, b"ping")
    world.run(0.1)
    b.send(A, b"pong")
    world.run(0.1)
    assert a.received == [(B, b"pong")]
    sealed = sum(len(data) for data in world.frames(b"PILS", a.address))
    assert a.count("bytes_sent") == sealed + 136
    assert a.count("pkts_sent") == len(world.frames(b"PIL", a.address))
    assert a.count("tunnel_encryption_success") >= 1
    assert b.count("tunnel_encryption_failure") == 0
    (peer,) = a.tunnel.peers()
    assert peer["endpoint"] == "198.51.100.8:4000"
    assert peer["encrypted"] and peer["authenticated"] and not peer["relay"]


def test_simultaneous_open(world: World) -> None:
    """Both call at the same moment: two key frames are enough, and nothing is lost."""
    a, b = world.node(A), world.node(B)
    a.send(B, b"from a")
    b.send(A, b"from b")
    world.run(1)
    assert a.received == [(B, b"from b")] and b.received == [(A, b"from a")]
    assert len(world.frames(b"PILA")) == 2


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_lost_key_frames_are_repeated(world: World, lost: int) -> None:
    """By a timer of its own: no further packet is needed."""
    drop_first(world, b"PILA", lost)
    a, b = world.node(A), world.node(B)
    a.send(B, b"one")
    world.run(4)
    assert b.received == [(A, b"one")]


def test_a_lost_answer_is_made_good_by_the_one_who_knows(world: World) -> None:
    """B has the session and A has not: B's repeated key frame reaches A before A asks again."""
    a, b = world.node(A), world.node(B)

    def alter(source: SocketAddress, destination: SocketAddress, data: bytes) -> bytes | None:
        first = world.clock.seconds() < 0.3 and source == b.address
        return None if first and data.startswith(b"PILA") else data

    world.alter = alter
    a.send(B, b"one")
    world.run(2)
    assert b.received == [(A, b"one")]
    assert a.state(B) == b.state(A) == "established"


def test_stale_packets_are_not_delivered(world: World) -> None:
    """What waited longer than its sender is patient is dropped and counted."""
    a = world.node(A)
    world.registry.endpoints[B] = world.registry.endpoints[A]._replace(
        real_addr="198.51.100.8:4000"
    )
    a.send(B, b"stale")
    world.run(10)
    b = world.node(B)
    a.send(B, b"fresh")
    world.run(10)
    assert b.received == [(A, b"fresh")]
    assert a.count("queue_stale") == 1


def test_an_unanswered_call_ends(world: World) -> None:
    """Key frames stop, the queue is dropped; a new packet starts over."""
    a = world.node(A)
    world.registry.endpoints[B] = world.registry.endpoints[A]._replace(
        real_addr="198.51.100.8:4000"
    )
    a.send(B, b"one")
    world.run(30)
    assert a.state(B) == "lost"
    sent = len(world.frames(b"PILA"))
    assert 5 <= sent <= 8
    assert a.count("calls_unanswered") == 1
    assert a.count("queued_peers") == 0
    world.run(10)
    assert len(world.frames(b"PILA")) == sent
    a.send(B, b"two")
    assert len(world.frames(b"PILA")) == sent + 1


def test_queue_limits(world: World) -> None:
    """64 packets a peer, the oldest makes room; a peer too many gets no queue."""
    config = TunnelConfig(queue_peers=3)
    a = world.node(A, config=config)
    endpoint = world.registry.endpoints[A]
    for node_id in range(100, 104):
        world.registry.endpoints[node_id] = endpoint._replace(real_addr=f"192.0.2.{node_id}:1")
        a.send(node_id, *(b"%d" % number for number in range(70)))
    assert a.count("queue_dropped") == 3 * 6
    assert a.count("queue_refused") == 1
    assert a.count("queued_peers") == 3


def test_unknown_node(world: World) -> None:
    """Nobody knows where it is: the caller is told, a packet is dropped."""
    a = world.node(A)
    failures: list[str] = []
    a.tunnel.ensure(99).addErrback(lambda f: failures.append(f.value.message))
    assert failures == ["node not found"] or "node not found" in failures[0]
    a.send(99, b"one")
    assert a.count("no_path") == 1
    assert a.count("queued_peers") == 0


def test_ensure_waits_for_the_registry_and_not_for_ever(world: World) -> None:
    a = world.node(A)
    world.registry.hangs = True
    failures: list[BaseException] = []
    for _ in range(2):
        a.tunnel.ensure(B).addErrback(lambda f: failures.append(f.value))
    world.run(30)
    assert [type(error) for error in failures] == [ConnectionFailed] * 2
    assert "no answer from the registry" in str(failures[0])


@pytest.mark.parametrize("bad", ["", "nowhere", "host.example:5", "0.0.0.0:5", "1.2.3.4:0"])
def test_ensure_refuses_what_is_no_endpoint(world: World, bad: str) -> None:
    a = world.node(A)
    world.registry.endpoints[B] = world.registry.endpoints[A]._replace(real_addr=bad)
    failures: list[BaseException] = []
    a.tunnel.ensure(B).addErrback(lambda f: failures.append(f.value))
    assert [type(error) for error in failures] == [ConnectionFailed]


def test_peer_restarts_with_a_new_key(world: World) -> None:
    """Whoever speaks first, the restarted peer is heard again within seconds."""
    a, b = world.node(A), world.node(B)
    a.send(B, b"before")
    world.run(1)
    world.crash(b)
    b = world.node(B, seed=99)
    b.send(A, b"back")
    world.run(1)
    assert a.received == [(B, b"back")]
    assert a.state(B) == "established"
    a.send(B, b"welcome")
    world.run(1)
    assert b.received == [(A, b"welcome")]
    assert a.named("tunnel.established")[-1]["rekeyed"] is True


def test_peer_restarts_and_keeps_quiet(world: World) -> None:
    """We go on in a session that it no longer has; it offers its new key at the first frame."""
    a, b = world.node(A), world.node(B)
    a.send(B, b"before")
    world.run(1)
    world.crash(b)
    b = world.node(B, seed=99)
    a.send(B, b"lost")
    world.run(1)
    a.send(B, b"heard")
    world.run(1)
    assert b.received == [(A, b"heard")]


def test_peer_restarts_elsewhere(world: World) -> None:
    """A new key from a new address moves the peer only once a sealed frame has come from there."""
    a, b = world.node(A), world.node(B)
    a.send(B, b"before")
    world.run(1)
    world.crash(b)
    b = world.node(B, ("198.51.100.8", 5555), seed=99)
    b.send(A, b"here I am")
    world.run(1)
    assert a.received == [(B, b"here I am")]
    assert a.tunnel.peers()[0]["endpoint"] == "198.51.100.8:5555"


def test_peer_moves_without_a_new_key(world: World) -> None:
    """A NAT picks another port: the next sealed frame moves the endpoint, a key frame does not."""
    a, b = world.node(A), world.node(B)
    a.send(B, b"one")
    world.run(1)
    world.network.nat(b.address, ("203.0.113.1", 7777))
    b.send(A, b"two")
    world.run(0.1)
    assert a.tunnel.peers()[0]["endpoint"] == "203.0.113.1:7777"
    a.send(B, b"three")
    world.run(0.1)
    assert b.received[-1] == (A, b"three")


def test_peer_that_forgot_us_is_answered(world: World) -> None:
    """Trust was revoked there and the entry dropped: its new call is answered, traffic resumes."""
    a, b = world.node(A), world.node(B)
    a.send(B, b"one")
    world.run(1)
    b.tunnel.forget(A)
    assert b.state(A) == "none"
    b.send(A, b"again")
    world.run(1)
    assert a.received[-1] == (B, b"again")
    a.send(B, b"yes")
    world.run(1)
    assert b.received[-1] == (A, b"yes")


def test_renewal_loses_nothing(world: World) -> None:
    """Keys change in the middle of traffic both ways; every packet arrives, none twice."""
    config = TunnelConfig(renew_frames=300, silence=0.2)
    a, b = world.node(A, config=config), world.node(B, config=config)
    for number in range(600):
        a.send(B, b"a%d" % number)
        b.send(A, b"b%d" % number)
        world.run(0.01)
    world.run(1)
    assert b.received == [(A, b"a%d" % number) for number in range(600)]
    assert a.received == [(B, b"b%d" % number) for number in range(600)]
    assert len([e for e in a.named("tunnel.established") if e["rekeyed"]]) >= 2
    keys = {frame[8:40] for frame in world.frames(b"PILA")}
    assert len(keys) >= 4, "each renewal offers a new key"


def test_a_renewal_whose_answers_are_all_lost(world: World) -> None:
    """The peer has taken our new key and forgotten the old one; we must not go back to it."""
    config = TunnelConfig(renew_frames=40, silence=0.2, fade=1.0)
    a, b = world.node(A, config=config), world.node(B, config=TunnelConfig(fade=1.0))
    for number in range(15):
        a.send(B, b"%d" % number)
        world.run(0.1)

    def deaf(source: SocketAddress, destination: SocketAddress, data: bytes) -> bytes | None:
        return None if source == b.address else data

    world.alter = deaf
    for number in range(300):
        a.send(B, b"%d" % number)
        world.run(0.1)
    world.alter = None
    for number in range(50):
        a.send(B, b"%d" % number)
        b.send(A, b"%d" % number)
        world.run(0.1)
    assert a.received[-1] == (B, b"49") and b.received[-1] == (A, b"49")
    assert a.count("stale_keys") == b.count("stale_keys") == 0


def test_a_key_left_behind_comes_back(world: World) -> None:
    """It is met with a new key of our own, under which nothing can be replayed."""
    a, b = world.node(A), world.node(B)
    a.send(B, b"one")
    world.run(1)
    first_keys = {frame[8:40] for frame in world.frames(b"PILA", a.address)}
    world.crash(b)
    b = world.node(B, seed=99)
    b.send(A, b"two")
    world.run(30)
    world.crash(b)
    b = world.node(B)  # the seed of its first life, and so the key
    for number in range(60):
        a.send(B, b"%d" % number)
        b.send(A, b"%d" % number)
        world.run(0.5)
    assert a.received[-1] == (B, b"59") and b.received[-1] == (A, b"59")
    assert a.count("stale_keys") > 0
    assert {frame[8:40] for frame in world.frames(b"PILA", a.address)} > first_keys


def test_renewal_by_age(world: World) -> None:
    config = TunnelConfig(renew_after=30.0, silence=0.2)
    a, b = world.node(A, config=config), world.node(B)
    for _ in range(40):
        a.send(B, b"tick")
        world.run(1)
    assert len([e for e in a.named("tunnel.established") if e["rekeyed"]]) == 1
    assert len(b.received) == 40


def test_nonces_never_repeat(world: World) -> None:
    """Over restarts, renewals and forgetting: no key and nonce are ever used for two frames."""
    config = TunnelConfig(renew_frames=100, silence=0.2)
    a, b = world.node(A, config=config), world.node(B, config=config)
    for number in range(300):
        a.send(B, b"%d" % number)
        b.send(A, b"%d" % number)
        world.run(0.02)
        if number % 100 == 50:
            a.tunnel.forget(B)
        if number == 220:
            world.crash(b)
            b = world.node(B, config=config, seed=5)
    used = [data[4:20] + data[20:36] for data in world.frames(b"PILS")]
    assert len(set(used)) == len(used)
    nonces = [data[4:20] for data in world.frames(b"PILS")]
    assert len(set(nonces)) == len(nonces), "not even under different keys"


def test_silent_peer_is_looked_for_and_found(world: World) -> None:
    """A partition heals: the peers find each other without being asked."""
    a, b = world.node(A), world.node(B)
    a.send(B, b"before")
    world.run(1)
    world.network.partition(a.address, b.address)
    for _ in range(20):
        a.send(B, b"into the void")
        world.run(0.5)
    assert a.state(B) == "lost"
    assert ("resolve", B) in world.registry.asked[1:]
    world.network.heal()
    for _ in range(20):
        a.send(B, b"after")
        world.run(0.5)
    assert a.state(B) == b.state(A) == "established"
    assert b.received[-1] == (A, b"after")


def test_one_way_traffic_is_not_taken_for_silence(world: World) -> None:
    """Datagrams need no answer; a ping now and then gets one."""
    a, b = world.node(A), world.node(B)
    for _ in range(60):
        a.send(B, b"telemetry")
        world.run(0.5)
        assert a.state(B) != "lost"
    assert len(b.received) == 60
    assert len(world.frames(b"PILA")) == 2


def test_idle_peers_are_forgotten_and_cost_nothing_meanwhile(world: World) -> None:
    config = TunnelConfig(idle=100.0)
    a, b = world.node(A, config=config), world.node(B)
    a.send(B, b"one")
    world.run(20)
    sent = len(world.sent)
    world.run(70)
    assert len(world.sent) == sent, "an idle tunnel is silent"
    assert a.state(B) == "established"
    world.clock.pump([10.0] * 20)
    assert a.state(B) == "none"
    assert b.state(A) == "established"
    b.send(A, b"still there?")
    world.run(2)
    b.send(A, b"good")
    world.run(1)
    assert a.received[-1] == (B, b"good")


def test_the_table_is_bounded(world: World) -> None:
    """Peers that never proved a key make room; those that did are kept."""
    config = TunnelConfig(max_peers=4)
    a, b = world.node(A, config=config), world.node(B)
    a.send(B, b"one")
    world.run(1)
    endpoint = world.registry.endpoints[A]
    for node_id in range(100, 120):
        world.registry.endpoints[node_id] = endpoint._replace(real_addr=f"192.0.2.{node_id}:1")
        a.tunnel.ensure(node_id)
    assert len(a.tunnel.peers()) == 4
    assert a.state(B) == "established"
    a.send(B, b"two")
    world.run(1)
    assert b.received[-1] == (A, b"two")


def test_a_table_full_of_friends(world: World) -> None:
    """One that was not needed for a while makes room; if all are in use, the new one is refused."""
    config = TunnelConfig(max_peers=2)
    a = world.node(A, config=config)
    b, c, d = world.node(B), world.node(9), world.node(10)
    for node in (b, c):
        a.send(node.node_id, b"hello")
    world.run(1)
    failures: list[BaseException] = []
    a.tunnel.ensure(10).addErrback(lambda f: failures.append(f.value))
    assert [type(error) for error in failures] == [ConnectionFailed]
    assert a.count("peers_refused") == 1
    for _ in range(70):
        world.run(1)
        a.send(9, b"tick")
    a.send(10, b"hello")
    world.run(1)
    assert d.received == [(A, b"hello")]
    assert (a.state(B), a.state(9)) == ("none", "established")


def test_nobody_is_reached_before_the_registration(world: World) -> None:
    node = world.node(0, registered=False)
    failures: list[BaseException] = []
    node.tunnel.ensure(B).addErrback(lambda f: failures.append(f.value))
    assert "not registered" in str(failures[0])
    b, c = world.node(B), world.node(9)
    b.send(9, b"hello")
    world.run(0.1)
    for frame in (world.frames(b"PILA")[0], world.frames(b"PILS")[0]):
        world.network.carry(frame, c.address, node.address)
    world.run(0.1)
    assert node.tunnel.peers() == []


def test_closing_in_the_middle_of_everything(world: World) -> None:
    """Calls under way, packets waiting, packets to oneself: nothing is left behind."""
    a = world.node(A)
    world.registry.hangs = True
    failures: list[BaseException] = []
    a.tunnel.ensure(B).addErrback(lambda f: failures.append(f.value))
    a.send(9, b"waiting")
    a.send(A, b"to myself")
    a.stop()
    assert len(failures) == 1
    a.send(B, b"too late")
    a.tunnel.ensure(B).addErrback(lambda f: failures.append(f.value))
    assert len(failures) == 2


def test_a_new_number_makes_everybody_a_stranger(world: World) -> None:
    """The registry came back without its state and gave us another node id."""
    a, b = world.node(A), world.node(B)
    a.send(B, b"one")
    world.run(1)
    a.tunnel.registered(20)
    a.node_id = 20
    world.registry.endpoints[20] = world.registry.endpoints[A]
    world.registry.keys[20] = a.identity.public_key
    a.send(B, b"two")
    world.run(2)
    assert b.received == [(A, b"one"), (20, b"two")]


def test_packets_to_oneself_stay_inside(world: World) -> None:
    """No key, no datagram, no recursion; also for a node that the registry hides."""
    a = world.node(A, registered=False)
    a.tunnel.ensure(A)
    a.send(A, b"one", b"two")
    assert a.received == [], "not while the sender is still at it"
    world.run(0.1)
    assert a.received == [(A, b"one"), (A, b"two")]
    assert world.sent == []
    assert a.tunnel.peers() == []
    assert a.tunnel.segment_limit(A) > 4096


def test_packets_to_oneself_are_bounded(world: World) -> None:
    a = world.node(A, config=TunnelConfig(loopback_queue=10))
    a.send(A, *(b"%d" % number for number in range(25)))
    world.run(0.1)
    assert len(a.received) == 10
    assert a.count("loopback_dropped") == 15


def test_batches_of_mixed_sizes(world: World) -> None:
    """Only equal sizes can be cut apart by the kernel; order and content hold for any."""
    a, b = world.node(A), world.node(B)
    a.send(B, b"open")
    world.run(1)
    sizes = [100, 100, 100, 7, 200, 200, 3, 3, 500, 501, 501, 500, 1]
    a.send(B, *(bytes([index]) * size for index, size in enumerate(sizes)))
    world.run(1)
    assert [len(payload) for _, payload in b.received[1:]] == sizes
    assert [payload[0] for _, payload in b.received[1:]] == list(range(len(sizes)))


def test_segment_limits(world: World) -> None:
    a, b = world.node(A), world.node(B, ("127.0.0.1", 4000))
    assert a.tunnel.segment_limit(99) == 1130
    a.send(B, b"one")
    b.send(A, b"one")
    world.run(1)
    assert a.tunnel.segment_limit(B) > 16_000, "a peer on loopback"
    assert b.tunnel.segment_limit(A) == 1130


@given(seed=st.integers(0, 2**32 - 1), merge=st.booleans())
@settings(max_examples=25)
def test_any_weather(seed: int, merge: bool) -> None:
    """Loss, duplication, reordering, corruption, truncation: each packet arrives at most once,
    unchanged; the tunnel comes up, and is up at the end."""
    faults = Faults(
        loss=0.2, duplicate=0.1, reorder=0.2, corrupt=0.05, truncate=0.05, delay=(0.001, 0.05)
    )
    world = World(seed, faults, merge=merge)
    config = TunnelConfig(renew_frames=120, silence=0.5)
    a, b = world.node(A, config=config), world.node(B, config=config)
    sent = []
    for number in range(200):
        sent.append(b"packet %d" % number)
        a.send(B, sent[-1])
        b.send(A, b"answer")
        world.run(
            0.05,
        )
    world.network.faults = Faults()
    a.send(B, b"done?")
    world.run(3)
    a.send(B, b"done")
    world.run(1)
    arrived = [payload for _, payload in b.received]
    assert len(set(arrived)) == len(arrived)
    assert set(arrived) <= {*sent, b"done?", b"done"}
    assert len(arrived) > 60
    assert arrived[-1] == b"done"
    world.close()


@pytest.mark.parametrize("seed", range(8))
def test_restarts_in_bad_weather(make_world: Callable[..., World], seed: int) -> None:
    """Both ends restart again and again while every fifth datagram is lost: they always recover."""
    world = make_world(seed, Faults(loss=0.2, duplicate=0.05, delay=(0.001, 0.03)))
    nodes = {A: world.node(A), B: world.node(B)}
    for turn in range(6):
        victim = (A, B)[turn % 2]
        world.crash(nodes[victim])
        nodes[victim] = world.node(victim, seed=1000 + turn)
        for _ in range(60):
            nodes[A].send(B, b"turn %d" % turn)
            nodes[B].send(A, b"turn %d" % turn)
            world.run(0.25)
        assert any(payload == b"turn %d" % turn for _, payload in nodes[A].received[-30:])
        assert any(payload == b"turn %d" % turn for _, payload in nodes[B].received[-30:])


def test_config_is_whole() -> None:
    """Every limit is a number above zero."""
    for field in dataclasses.fields(TunnelConfig):
        value = getattr(TunnelConfig(), field.name)
        assert value if not isinstance(value, tuple) else all(value), field.name
