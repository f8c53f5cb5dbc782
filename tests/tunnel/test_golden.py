"""The golden frames, answered frame by frame; where the reference is unsound, soundly."""

from __future__ import annotations

import random
from typing import Any

import pytest
from twisted.internet.task import Clock

from pilot.crypto.identity import Identity
from pilot.tunnel.tunnel import Endpoint, Tunnel
from pilot.wire.packet import RawPacket
from tests.golden import golden
from tests.simulation.network import LossyNetwork, SocketAddress
from tests.simulation.tunnels import SimulatedRegistry, run

VECTORS = golden("tunnel")
KEYS = VECTORS["keys"]
BEACON: SocketAddress = ("203.0.113.9", 9001)
HOME: SocketAddress = ("198.51.100.2", 4000)
FAR: SocketAddress = ("198.51.100.1", 4000)


class GoldenRandom(random.Random):
    """Gives the golden session key and nonce prefix of a node."""

    def __init__(self, who: str) -> None:
        super().__init__(0)
        self._keys = KEYS[who]

    def randbytes(self, n: int) -> bytes:
        """The X25519 private key."""
        return bytes.fromhex(self._keys["x25519_private"])

    def getrandbits(self, k: int, /) -> int:
        """The nonce prefix."""
        return int(self._keys["nonce_prefix"], 16)


class Golden:
    """Node b of the vectors, and a socket that plays everybody else."""

    def __init__(self, *, encrypt: bool = True, who: str = "b") -> None:
        self.clock = Clock()
        self.network = LossyNetwork(self.clock)
        self.registry = SimulatedRegistry()
        self.registry.keys[7] = bytes.fromhex(KEYS["a"]["ed25519_public"])
        self.packets: list[RawPacket] = []
        self.got: list[bytes] = []
        self.tunnel = Tunnel(
            self.clock,
            Identity.from_seed(bytes.fromhex(KEYS[who]["ed25519_seed"])),
            KEYS[who]["node_id"],
            self.network.socket(HOME),
            self.registry,
            encrypt=encrypt,
            rng=GoldenRandom(who),
            beacon=BEACON,
        )
        self.tunnel.packet_sink = lambda node_id, packet: self.packets.append(packet)
        self.tunnel.start()
        self.far = self.network.attach(FAR, self)

    def datagrams_received(self, data: bytes, size: int, addr: SocketAddress) -> None:
        """Keep what b sends to the far end."""
        self.got += [data[at : at + size] for at in range(0, len(data), size)]

    def batch_ended(self) -> None:
        """Nothing waits for this."""

    def feed(self, frame_hex: str, source: SocketAddress = FAR) -> list[bytes]:
        """@return: what b answers to a frame at once, its own pings left out."""
        self.got = []
        self.network.carry(bytes.fromhex(frame_hex), source, HOME)
        run(self.clock, 0.02)
        answers = [data for data in self.got if not data.startswith(b"PILS")]
        run(self.clock, 0.43)
        return answers

    def close(self) -> None:
        """Stop b."""
        self.tunnel.close()


@pytest.fixture
def b() -> Any:
    """Node b; its registry knows a only."""
    golden_b = Golden()
    yield golden_b
    golden_b.close()


def scenario(name: str) -> list[dict[str, Any]]:
    steps = next(s for s in VECTORS["scenarios"] if s["name"] == name)["steps"]
    assert isinstance(steps, list)
    return steps


def test_answers_of_an_encrypting_node(b: Golden) -> None:
    """Byte for byte what the reference answers, but for what is on purpose otherwise: a key frame
    that is repeated once our own may have got lost is answered again."""
    own_key = VECTORS["pila"][1]["frame_hex"]
    for step in scenario("b_encrypting_with_identity_a_registered"):
        answer = [data.hex() for data in b.feed(step["in_hex"])]
        if "identical PILA again" in step["in"]:
            assert answer == [own_key]
        else:
            assert answer[:1] == step["out_hex"], step["in"]
    (peer,) = b.tunnel.peers()
    assert peer["encrypted"] and peer["authenticated"]


def test_an_unregistered_node_gets_nothing(b: Golden) -> None:
    """The reference accepts it without authentication when it asks anonymously."""
    for step in scenario("b_encrypting_with_identity_node_unknown_to_registry"):
        assert b.feed(step["in_hex"]) == []
    assert b.tunnel.peers() == []


def test_a_node_in_the_clear_ignores_everything_sealed() -> None:
    b = Golden(encrypt=False)
    for step in scenario("b_not_encrypting"):
        assert b.feed(step["in_hex"]) == step["out_hex"] == []
    assert b.tunnel.peers() == []
    b.feed(VECTORS["pilt"]["frame_hex"])
    (peer,) = b.tunnel.peers()
    assert peer["node_id"] == 7 and not peer["encrypted"]
    assert b.tunnel.counters()["pkts_recv"] == 1
    b.close()


def test_an_encrypting_node_refuses_packets_in_the_clear(b: Golden) -> None:
    b.feed(VECTORS["pilt"]["frame_hex"])
    assert b.packets == []
    assert b.tunnel.counters()["plain_refused"] == 1


@pytest.mark.parametrize("case", VECTORS["pila_rejected"], ids=lambda case: case["name"])
def test_refused_key_frames(b: Golden, case: dict[str, Any]) -> None:
    assert b.feed(case["frame_hex"]) == []
    assert all(not peer["encrypted"] for peer in b.tunnel.peers())
    counter = {
        "too_short": "malformed",
        "identity_unknown": "identity_unknown",
        "identity_mismatch": "identity_mismatch",
        "signature": "bad_signatures",
        "low_order_point": "low_order",
    }[case["reason"]]
    assert b.tunnel.counters()[counter] == 1


def test_tolerated_key_frames(b: Golden) -> None:
    for case in VECTORS["pila_tolerated"]:
        assert b.feed(case["frame_hex"]) == [bytes.fromhex(VECTORS["pila"][1]["frame_hex"])]


def test_golden_packets_are_delivered(b: Golden) -> None:
    b.feed(VECTORS["pila"][0]["frame_hex"])
    frames = [case for case in VECTORS["pils"] if case["direction"] == "a->b"]
    for case in frames:
        b.feed(case["frame_hex"])
    delivered = [packet.sequence for packet in b.packets]
    assert len(delivered) == len([c for c in frames if "control" not in c["name"]]) - 1
    # One is older than the window by then: its counter lies far behind the highest.
    assert b.tunnel.counters()["replays"] == 1


def test_refused_packets(b: Golden) -> None:
    b.feed(VECTORS["pila"][0]["frame_hex"])
    for case in VECTORS["pils_rejected"]:
        before = b.tunnel.counters()["tunnel_encryption_failure"]
        b.feed(case["frame_hex"])
        counted = b.tunnel.counters()["tunnel_encryption_failure"] - before
        assert counted == case["reference_failure_counter_increments"], case["name"]
        assert b.packets == []
    b.feed(VECTORS["pils_rejected_base"]["frame_hex"])
    assert b.tunnel.counters()["pkts_recv"] == 1


def test_the_queue_is_flushed_as_the_reference_flushes_it() -> None:
    """Key frame first, then the 64 youngest packets in order, counted from one."""
    expected = VECTORS["pending_queue"]
    b = Golden()
    b.registry.endpoints[7] = Endpoint(f"{FAR[0]}:{FAR[1]}")
    packet = bytes.fromhex(VECTORS["pilt"]["packet_hex"])
    b.tunnel.send(7, [packet + bytes([n]) for n in range(expected["sends_before_key"])])
    b.got = []
    run(b.clock, 0.45)
    b.got = []
    b.network.carry(bytes.fromhex(VECTORS["pila"][0]["frame_hex"]), FAR, HOME)
    run(b.clock, 0.1)
    assert [data[:4] for data in b.got[:3]] == [b"PILA", b"PILS", b"PILS"]
    counters = [int.from_bytes(data[12:20], "big") for data in b.got[1:65]]
    assert counters == list(range(expected["first_flushed_counter"], 65))
    assert b.tunnel.counters()["queue_dropped"] == 70 - expected["queued"]
    b.close()


def test_frames_inside_beacon_messages(b: Golden) -> None:
    """A relayed key frame is answered through the beacon, byte for byte."""
    wrapped = VECTORS["beacon_wrapped"]
    got: list[bytes] = []

    class Beacon:
        """Keeps what it is sent."""

        def datagrams_received(self, data: bytes, size: int, addr: SocketAddress) -> None:
            """Keep it."""
            got.extend(data[at : at + size] for at in range(0, len(data), size))

        def batch_ended(self) -> None:
            """Nothing waits for this."""

    b.network.attach(BEACON, Beacon())
    b.feed(wrapped["relay_deliver_of_that_frame_hex"], BEACON)
    answers = [data for data in got if data[0] == 5 and data[9:13] == b"PILA"]
    own_key = bytes.fromhex(VECTORS["pila"][1]["frame_hex"])
    assert answers[0] == b"\x05" + own_key[4:8] + (7).to_bytes(4, "big") + own_key


def test_the_other_side_wraps_its_key_frame_the_same() -> None:
    a = Golden(who="a")
    wrapped: list[bytes] = []
    a.network.tap = lambda source, to, data: (wrapped.append(data), data)[1]
    a.registry.endpoints[KEYS["b"]["node_id"]] = Endpoint("192.0.2.1:1")
    a.tunnel.ensure(KEYS["b"]["node_id"])
    a.tunnel.use_relay(KEYS["b"]["node_id"])
    assert VECTORS["beacon_wrapped"]["relay_of_pila_from_a_to_b_hex"] in [w.hex() for w in wrapped]
    run(a.clock, 0.1)
    a.close()
