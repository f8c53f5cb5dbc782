"""Whatever arrives: bounded, counted, without an answer to strangers, and everybody else served."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilot.address import Address
from pilot.crypto.identity import Identity
from pilot.crypto.keys import KeyPair
from pilot.crypto.session import Session
from pilot.tunnel.config import TunnelConfig
from pilot.wire.packet import FLAG_ACK, PROTO_CONTROL, PROTO_DATAGRAM, encode_raw
from pilot.wire.tunnel import (
    AuthenticatedKeyExchange,
    KeyExchange,
    PlainFrame,
    SecureFrame,
    signed_bytes,
)
from tests.simulation.network import SocketAddress
from tests.simulation.tunnels import SimulatedNode
from tests.strategies import beacon_messages, frames
from tests.tunnel.conftest import World

A, B = 7, 8
MALLORY: SocketAddress = ("192.0.2.66", 6666)


def acquainted(world: World, config: TunnelConfig | None = None) -> tuple[SimulatedNode, ...]:
    """@return: two nodes with a tunnel between them."""
    a, b = world.node(A, config=config), world.node(B)
    a.send(B, b"hello")
    b.send(A, b"hello")
    world.run(1)
    assert a.state(B) == b.state(A) == "established"
    return a, b


def throw(world: World, node: SimulatedNode, *datagrams: bytes) -> None:
    """Have a stranger send datagrams to a node."""
    for datagram in datagrams:
        world.network.carry(datagram, MALLORY, node.address)
    world.run(0.02)


def to_mallory(world: World) -> list[bytes]:
    """@return: what the stranger got."""
    return [data for _, _, to, data in world.sent if to == MALLORY]


def still_talking(world: World, a: SimulatedNode, b: SimulatedNode) -> None:
    """Both directions work, at the old addresses."""
    token = b"%d" % len(world.sent)
    a.send(B, token)
    b.send(A, token)
    world.run(0.1)
    assert b.received[-1] == (A, token) and a.received[-1] == (B, token)
    assert a.tunnel.peers()[0]["endpoint"] == "198.51.100.8:4000"


def offer(
    node_id: int, identity: Identity, public: bytes, *, signed_as: int | None = None
) -> bytes:
    """@return: a key frame."""
    signature = identity.sign(signed_bytes(node_id if signed_as is None else signed_as, public))
    return AuthenticatedKeyExchange(node_id, public, identity.public_key, signature).encode()


# -- key frames --------------------------------------------------------------------------------


def test_forged_key_frames_change_nothing(world: World) -> None:
    """Wrong identity, wrong signature, somebody else's signature, a useless key: silence."""
    a, b = acquainted(world)
    stranger, public = Identity.from_seed(b"m" * 32), KeyPair(b"m" * 32, 0).public
    throw(
        world,
        a,
        offer(B, stranger, public),
        offer(B, b.identity, public, signed_as=9),
        offer(B, b.identity, public)[:-1] + b"\0",
        offer(B, b.identity, bytes(32)),
        offer(99, stranger, public),
        offer(A, a.identity, public),
    )
    assert to_mallory(world) == []
    assert a.count("identity_mismatch") == 1
    assert a.count("bad_signatures") == 2
    assert a.count("low_order") == 1
    assert a.count("identity_unknown") == 1
    assert a.count("own_frames") == 1
    still_talking(world, a, b)


def test_a_wrong_identity_is_refused_also_after_a_right_one(world: World) -> None:
    """The reference accepts any identity after the first genuine key frame."""
    a, b = acquainted(world)
    stranger = Identity.from_seed(b"m" * 32)
    for turn in range(5):
        throw(world, a, offer(B, stranger, KeyPair(bytes([turn]) * 32, 0).public))
        world.run(20)
    assert to_mallory(world) == []
    assert a.count("identity_mismatch") == 5
    still_talking(world, a, b)


def test_a_rotated_identity_is_believed_when_the_registry_confirms_it(world: World) -> None:
    a, b = acquainted(world)
    world.run(20)
    world.crash(b)
    fresh = Identity.from_seed(b"n" * 32)
    world.registry.keys[B] = fresh.public_key
    pair = KeyPair(b"p" * 32, 0)
    throw(world, a, offer(B, fresh, pair.public))
    assert a.count("identity_mismatch") == 0
    assert [data[:4] for data in to_mallory(world)] == [b"PILA", b"PILS"]


def test_replayed_key_frames_do_not_move_endpoints(world: World) -> None:
    """A captured key frame, sent from elsewhere, is answered at most; frames still go to B."""
    a, b = acquainted(world)
    captured = world.frames(b"PILA", b.address)[0]
    for _ in range(300):
        throw(world, a, captured)
    assert 1 <= len(to_mallory(world)) <= 8
    assert all(data.startswith(b"PILA") for data in to_mallory(world))
    assert a.count("answers_refused") > 0
    still_talking(world, a, b)


def test_a_stale_key_frame_does_not_break_the_tunnel(world: World) -> None:
    """From before the peer's restart, genuine and signed: tried out, not confirmed, forgotten."""
    a, b = acquainted(world)
    stale = world.frames(b"PILA", b.address)[0]
    world.crash(b)
    b = world.node(B, seed=99)
    b.send(A, b"back")
    world.run(1)
    for _ in range(8):
        throw(world, a, stale)
        still_talking(world, a, b)
        world.run(5)
    assert a.count("stale_keys") > 0


def test_a_stale_key_frame_as_the_first_thing_heard(world: World) -> None:
    """We take it for the peer, for want of better; the peer itself puts that right."""
    earlier, b = acquainted(world)
    stale = world.frames(b"PILA", b.address)[0]
    world.crash(earlier)
    world.crash(b)
    a, b = world.node(A, seed=70), world.node(B, seed=80)
    throw(world, a, stale)
    assert a.state(B) == "established"
    b.send(A, b"it is me")
    a.send(B, b"is it you?")
    world.run(2)
    assert a.received == [(B, b"it is me")]
    still_talking(world, a, b)


def test_a_call_is_not_led_astray_by_a_replayed_key_frame(world: World) -> None:
    """The only address we have is the replayer's; a call asks the registry all the same."""
    earlier, b = acquainted(world)
    captured = world.frames(b"PILA", b.address)[0]
    world.crash(earlier)
    a = world.node(A, seed=70)
    throw(world, a, captured)
    a.tunnel.ensure(B)
    a.send(B, b"is it you?")
    world.run(0.1)
    a.send(B, b"it is")
    world.run(0.1)
    assert b.received[-1] == (A, b"it is")
    still_talking(world, a, b)


def test_replayed_frames_of_an_old_session_stay_replays(world: World) -> None:
    """Key frame and sealed frames captured together, played again after any change: refused."""
    a, b = acquainted(world)
    b.send(A, *(b"secret order %d" % number for number in range(5)))
    world.run(0.1)
    captured = world.frames(b"PILA", b.address)[:1] + world.frames(b"PILS", b.address)
    got = len(a.received)

    def play() -> None:
        throw(world, a, *captured)
        assert len(a.received) == got

    play()
    world.run(3)
    play()
    world.crash(b)
    b = world.node(B, seed=99)
    b.send(A, b"restarted")
    world.run(1)
    got = len(a.received)
    play()  # while the old session fades
    world.run(30)
    play()  # after it is gone
    a.tunnel.forget(B)
    play()  # after B was forgotten altogether
    world.run(3)
    play()
    world.crash(a)
    a = world.node(A, seed=77)
    got = 0
    play()  # after our own restart


def test_a_flood_of_key_frames_from_unknown_nodes(world: World) -> None:
    """Lookups under way, entries and answers are bounded; a friend gets through all the same."""
    a, b = acquainted(world)
    world.registry.hangs = True
    stranger, public = Identity.from_seed(b"m" * 32), KeyPair(b"m" * 32, 0).public
    flood = [offer(1000 + number, stranger, public) for number in range(400)]
    asked = len(world.registry.asked)
    throw(world, a, *flood)
    assert len(world.registry.asked) - asked == TunnelConfig().lookups
    assert a.count("lookups_refused") == 400 - TunnelConfig().lookups
    still_talking(world, a, b)
    world.run(6)  # the lookups time out
    world.registry.hangs = False
    throw(world, a, *flood)
    assert len(a.tunnel.peers()) == 1
    assert to_mallory(world) == []
    still_talking(world, a, b)


def test_unknown_nodes_are_not_looked_up_again_and_again(world: World) -> None:
    a, _ = acquainted(world)
    stranger, public = Identity.from_seed(b"m" * 32), KeyPair(b"m" * 32, 0).public
    for _ in range(50):
        throw(world, a, offer(99, stranger, public))
    assert world.registry.asked.count(("identity_key", 99)) == 1
    assert a.count("identity_unknown") == 50


def test_a_flood_of_bad_signatures_is_rationed(world: World) -> None:
    """Each costs 70 microseconds to verify; so many a second, no more."""
    a, b = acquainted(world, TunnelConfig(verifications=20))
    for number in range(100):
        throw(world, a, offer(B, b.identity, number.to_bytes(32, "big"), signed_as=1))
    assert a.count("bad_signatures") < 75
    assert a.count("verifications_refused") > 25
    still_talking(world, a, b)


def test_a_registry_that_hangs_does_not_hold_up_anybody(world: World) -> None:
    """A key frame of an unknown node waits for the registry; known peers do not."""
    a, b = acquainted(world)
    c = world.node(9)
    world.registry.hangs = True
    c.tunnel._core.socket.send(offer(9, c.identity, KeyPair(b"c" * 32, 0).public), a.address)
    world.run(0.1)
    still_talking(world, a, b)


def test_a_known_key_serves_while_the_registry_is_away(world: World) -> None:
    """The peer restarts during the outage and is still recognised."""
    a, b = acquainted(world)
    world.registry.away = True
    world.run(700)
    world.crash(b)
    b = world.node(B, seed=99, registered=False)
    b.tunnel._identities._source.keys[A] = a.identity.public_key  # type: ignore[attr-defined]
    throw_from = offer(B, b.identity, KeyPair(b"q" * 32, 0).public)
    world.network.carry(throw_from, b.address, a.address)
    world.run(0.1)
    assert a.count("identity_unknown") == 0
    assert a.state(B) in ("rekeying", "established")


def test_nobody_is_accepted_unauthenticated_while_the_registry_is_away(world: World) -> None:
    """The reference would take the anonymous key exchange then."""
    a = world.node(A)
    world.registry.away = True
    public = KeyPair(b"m" * 32, 0).public
    throw(world, a, KeyExchange(99, public).encode())
    throw(world, a, offer(99, Identity.from_seed(b"m" * 32), public))
    assert a.tunnel.peers() == []
    assert to_mallory(world) == []


def test_anonymous_requests_are_answered_where_the_peer_is_known_to_be(world: World) -> None:
    """Not where the request came from; and not without end."""
    a, b = acquainted(world)
    before = len(world.frames(b"PILA", a.address))
    request = KeyExchange(B, KeyPair(b"m" * 32, 0).public).encode()
    for _ in range(30):
        throw(world, a, request)
    assert to_mallory(world) == []
    assert 1 <= len(world.frames(b"PILA", a.address)) - before <= 4
    still_talking(world, a, b)


def test_a_peer_that_changes_keys_without_end(world: World) -> None:
    """It is authentic, and still cannot make us keep more than a few sessions."""
    a, b = acquainted(world)
    for number in range(60):
        pair = KeyPair(number.to_bytes(32, "big"), 0)
        throw(world, a, offer(B, b.identity, pair.public))
        world.run(0.5)
    peer = a.tunnel._table.get(B)
    assert peer is not None
    assert len(peer.ring.sessions) <= 4
    assert len(a.tunnel._core.lanes) <= 64
    still_talking(world, a, b)


# -- sealed frames -----------------------------------------------------------------------------


def test_forged_and_altered_frames(world: World) -> None:
    """One forged frame with the highest counter kills a direction of the reference."""
    a, b = acquainted(world)
    genuine = world.frames(b"PILS", b.address)[-1]
    head = genuine[:12]
    for counter in (2**64 - 1, 2**63, 10, 11, 12, 13):
        throw(world, a, head + counter.to_bytes(8, "big") + bytes(80))
    for at in (5, 9, 15, 25, len(genuine) - 1):
        throw(world, a, genuine[:at] + bytes([genuine[at] ^ 1]) + genuine[at + 1 :])
    assert a.count("tunnel_encryption_failure") >= 8
    still_talking(world, a, b)


def test_replays_are_refused_and_told_of_sparingly(world: World) -> None:
    a, b = acquainted(world)
    genuine = world.frames(b"PILS", b.address)[-1]
    got = len(a.received)
    for _ in range(200):
        throw(world, a, genuine)
    assert len(a.received) == got
    assert a.count("replays") == 200
    events = a.named("security.nonce_replay")
    assert events[0] == {"peer_node_id": B, "counter": int.from_bytes(genuine[12:20], "big")}
    assert len(events) < 20
    assert a.tunnel.peers()[0]["endpoint"] == "198.51.100.8:4000"
    still_talking(world, a, b)


@pytest.mark.parametrize(
    ("source", "destination"), [(9, A), (B, 9), (A, A), (B, B), (0, A), (B, 0)]
)
def test_a_packet_must_be_from_its_sealer_and_to_us(
    world: World, source: int, destination: int
) -> None:
    """An authenticated peer could speak as anybody else otherwise."""
    a, b = acquainted(world)
    got = len(a.received)
    ends = Address(0, source).pack(), Address(0, destination).pack()
    b.tunnel.send(A, [encode_raw(0, PROTO_DATAGRAM, *ends, 1, 2, 0, 0, 0, b"forged")])
    world.run(0.1)
    assert len(a.received) == got
    assert a.count("foreign_packets") == 1
    still_talking(world, a, b)


def test_any_network_of_the_right_node_is_right(world: World) -> None:
    a, b = acquainted(world)
    ends = Address(5, B).pack(), Address(5, A).pack()
    b.tunnel.send(A, [encode_raw(0, PROTO_DATAGRAM, *ends, 1, 2, 0, 0, 0, b"in network 5")])
    world.run(0.1)
    assert a.received[-1] == (B, b"in network 5")


@pytest.mark.parametrize("packet", [b"", b"x", bytes(34), b"\x20" + bytes(40)])
def test_sealed_rubbish_is_dropped_and_its_counter_used(world: World, packet: bytes) -> None:
    a, b = acquainted(world)
    b.tunnel.send(A, [packet])
    world.run(0.1)
    assert a.count("bad_packets") == 1
    still_talking(world, a, b)


def test_frames_of_unknown_registered_nodes_are_answered_with_our_key_and_sparingly(
    world: World,
) -> None:
    """It may hold a key that we lost.  Whether it is the one it says is for the exchange to find
    out; unregistered ones get nothing."""
    a, _ = acquainted(world)
    world.registry.keys[50] = bytes(32)
    for _ in range(40):
        throw(world, a, SecureFrame(50, bytes(12), bytes(60)).encode())
        throw(world, a, SecureFrame(51, bytes(12), bytes(60)).encode())
    assert [data[:8] for data in to_mallory(world)] == [b"PILA" + A.to_bytes(4, "big")]
    world.registry.keys.update(dict.fromkeys(range(1000, 1400), bytes(32)))
    throw(
        world,
        a,
        *(SecureFrame(node_id, bytes(12), bytes(60)).encode() for node_id in range(1000, 1400)),
    )
    assert len(to_mallory(world)) <= 1 + TunnelConfig().strangers
    assert len(a.tunnel.peers()) == 1


def test_a_counter_near_the_end_gets_a_new_key(world: World) -> None:
    """Whatever happens, no counter is ever used twice under one key."""
    a, b = acquainted(world)
    peer = a.tunnel._table.get(B)
    assert peer is not None and peer.ring.session is not None
    peer.ring.session.sent = (1 << 48) - 2
    for number in range(10):
        a.send(B, b"%d" % number)
        world.run(0.5)
    assert b.received[-1] == (A, b"9")
    counters = [int.from_bytes(data[12:20], "big") for data in world.frames(b"PILS", a.address)]
    assert max(counters) == 1 << 48


# -- pings -------------------------------------------------------------------------------------


def control(a: SimulatedNode, flags: int, source_port: int, port: int, payload: bytes) -> bytes:
    ends = Address(3, a.node_id).pack(), Address(3, B if a.node_id == A else A).pack()
    return encode_raw(flags, PROTO_CONTROL, *ends, source_port, port, 41, 0, 9, payload)


def test_a_ping_is_answered_as_it_should_be(world: World) -> None:
    """From our primary address, to wherever it came from, with its payload."""
    a, g = world.node(A), world.reference(B)
    g.dial(A)
    world.run(1)
    ends = Address(3, B).pack(), Address(3, A).pack()
    ping = encode_raw(0, PROTO_CONTROL, *ends, 777, 0, 0xFFFFFFFF, 5, 9, b"echo me")
    g.send_packet(A, ping)
    world.run(0.1)
    pong = g.controls[-1]
    assert pong == (FLAG_ACK, PROTO_CONTROL, 0, A, 3, B, 0, 777, 0xFFFFFFFF, 0, 0, b"echo me")
    assert a.received == []


@pytest.mark.parametrize(
    ("flags", "source_port", "port"), [(FLAG_ACK, 777, 0), (0, 0, 0), (FLAG_ACK, 0, 0), (0, 777, 5)]
)
def test_what_is_no_proper_ping_is_not_answered(
    world: World, flags: int, source_port: int, port: int
) -> None:
    """An answer to an answer would never end."""
    a, b = acquainted(world)
    world.run(5)
    before = len(world.frames(b"PILS", a.address))
    b.tunnel.send(A, [control(b, flags, source_port, port, b"")])
    world.run(1)
    assert len(world.frames(b"PILS", a.address)) == before


def test_pings_are_rationed_in_a_turn(world: World) -> None:
    a, b = acquainted(world)
    world.run(5)
    before = len(world.frames(b"PILS", a.address))
    b.tunnel.send(A, [control(b, 0, 777, 0, b"")] * 200)
    world.run(1)
    assert len(world.frames(b"PILS", a.address)) - before == TunnelConfig().pongs
    assert a.count("pings_refused") == 200 - TunnelConfig().pongs


# -- anything at all ---------------------------------------------------------------------------


def test_packets_in_the_clear_are_refused(world: World) -> None:
    a, b = acquainted(world)
    got = len(a.received)
    throw(world, a, PlainFrame(b.packet(A, b"injected")).encode())
    assert len(a.received) == got
    assert a.count("plain_refused") == 1


@given(datagram=st.one_of(st.binary(max_size=300), frames.map(lambda f: f.encode())))
@settings(max_examples=200)
def test_any_datagram_is_harmless(datagram: bytes) -> None:
    world = World()
    a, b = acquainted(world)
    throw(world, a, datagram)
    assert len(a.tunnel.peers()) == 1
    still_talking(world, a, b)
    world.close()


@given(message=beacon_messages, cut=st.integers(0, 40))
@settings(max_examples=100)
def test_any_message_of_the_beacon_is_harmless(message: object, cut: int) -> None:
    """Also when it is our own beacon that has gone mad."""
    world = World()
    world.network.attach(MALLORY, Sink())
    a, b = acquainted(world)
    a.tunnel.beacon = MALLORY
    data = message.encode()  # type: ignore[attr-defined]
    throw(world, a, data, data[:cut])
    still_talking(world, a, b)
    world.close()


class Sink:
    """Takes everything, keeps nothing."""

    def datagrams_received(self, data: bytes, size: int, addr: SocketAddress) -> None:
        """Nothing."""

    def batch_ended(self) -> None:
        """Nothing."""


@pytest.mark.parametrize("seed", range(3))
def test_a_storm_of_rubbish(world: World, seed: int) -> None:
    """Genuine frames cut, spliced and altered, a few thousand of them."""
    rng = random.Random(seed)
    a, b = acquainted(world)
    stock = [data for _, _, _, data in world.sent]
    for _ in range(300):
        batch = []
        for _ in range(10):
            data = bytearray(rng.choice(stock))
            for _ in range(rng.randrange(4)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            batch.append(bytes(data[: rng.randrange(len(data) + 1)]) + rng.choice((b"", b"\0")))
        throw(world, a, *batch)
    world.run(5)
    still_talking(world, a, b)
    assert len(a.tunnel.peers()) == 1
    assert a.count("queued_peers") == 0


def test_a_sink_that_fails_costs_one_packet(
    world: World, nothing_left_behind: list[object]
) -> None:
    """A fault above the tunnel does not end the reading."""
    a, b = acquainted(world)

    def broken(node_id: int, packet: object) -> None:
        raise RuntimeError("a bug upstairs")

    sink, a.tunnel.packet_sink = a.tunnel.packet_sink, broken
    b.send(A, b"one", b"two")
    world.run(0.1)
    a.tunnel.packet_sink = sink
    still_talking(world, a, b)
    assert len(nothing_left_behind) == 2
    nothing_left_behind.clear()


def test_sessions_are_bound_to_node_ids() -> None:
    """What B seals for A cannot be passed off as C's, even if C had the same key."""
    pair, other = KeyPair(b"1" * 32, 0), KeyPair(b"2" * 32, 5)
    frame = b"".join(Session(pair, B, other.public, A).seal([b"packet"]))
    renamed = frame[:4] + (9).to_bytes(4, "big") + frame[8:]
    with pytest.raises(Exception, match="wrong key"):
        Session(other, A, pair.public, 9).open(renamed)
