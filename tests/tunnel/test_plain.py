"""Encryption switched off: packets in the clear, between nodes that both want it so."""

from __future__ import annotations

from pilot.wire.packet import PROTO_CONTROL, encode_raw
from pilot.wire.tunnel import PlainFrame
from tests.tunnel.conftest import World

A, B = 7, 8


def test_both_ways(world: World) -> None:
    """The called node learns the caller from its first packet."""
    a, b = world.node(A, encrypt=False), world.node(B, encrypt=False)
    a.send(B, b"one", b"two", b"of another size")
    world.run(0.1)
    b.send(A, b"three")
    world.run(0.1)
    assert b.received == [(A, b"one"), (A, b"two"), (A, b"of another size")]
    assert a.received == [(B, b"three")]
    assert world.frames(b"PIL") == world.frames(b"PILT")
    (peer,) = b.tunnel.peers()
    assert not peer["encrypted"] and not peer["authenticated"]
    assert b.named("tunnel.peer_added") == [{"peer_node_id": A, "endpoint": "198.51.100.7:4000"}]
    assert a.tunnel.counters()["bytes_sent"] == sum(
        len(data) for data in world.frames(b"PILT", a.address)
    )


def test_a_packet_does_not_move_a_peer(world: World) -> None:
    a, b = world.node(A, encrypt=False), world.node(B, encrypt=False)
    a.send(B, b"one")
    world.run(0.1)
    frame = PlainFrame(a.packet(B, b"two")).encode()
    world.network.carry(frame, ("192.0.2.66", 6666), b.address)
    world.run(0.1)
    assert b.tunnel.peers()[0]["endpoint"] == "198.51.100.7:4000"


def test_packets_of_nobody_of_ourselves_and_for_others_are_dropped(world: World) -> None:
    b = world.node(B, encrypt=False)
    other = world.node(9, encrypt=False, registered=False)
    for frame in (
        PlainFrame(b.packet(B, b"from b itself")),
        PlainFrame(b.packet(A, b"for a")),
        PlainFrame(other.packet(A, b"for a")),
        PlainFrame(bytes(33)),
        PlainFrame(bytes(60)),
    ):
        world.network.carry(frame.encode(), other.address, b.address)
    world.run(0.1)
    assert b.received == []
    assert b.tunnel.peers() == []


def test_pings_are_answered(world: World) -> None:
    a, b = world.node(A, encrypt=False), world.node(B, encrypt=False)
    a.send(B, b"open")
    world.run(0.1)
    ends = (bytes(2) + A.to_bytes(4, "big"), bytes(2) + B.to_bytes(4, "big"))
    a.tunnel.send(B, [encode_raw(0, PROTO_CONTROL, *ends, 9, 0, 1, 0, 0, b"ping")])
    world.run(0.1)
    assert len(world.frames(b"PILT", b.address)) == 1


def test_an_encrypting_node_and_one_in_the_clear_do_not_meet(world: World) -> None:
    """Neither falls back to the other's ways."""
    a, b = world.node(A), world.node(B, encrypt=False)
    a.send(B, b"sealed")
    b.send(A, b"in the clear")
    world.run(40)
    assert a.received == [] and b.received == []
    assert world.frames(b"PILT", a.address) == []
    assert a.count("plain_refused") == 1


def test_the_unknown_is_resolved(world: World) -> None:
    a = world.node(A, encrypt=False)
    failures: list[str] = []
    a.tunnel.ensure(99).addErrback(lambda f: failures.append(f.value.message))
    assert failures
    a.send(99, b"dropped")
    assert a.count("no_path") == 1
