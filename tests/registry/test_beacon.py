"""The beacon: as the reference where that is sound, and bounded against forgers."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater

from pilot.errors import InvalidArgument, PortInUse
from pilot.registry.beacon import Beacon, BeaconSettings
from pilot.registry.relaytable import SYNC_NODES, BeaconLimits, RelayTable
from pilot.registry.rendezvous import Rendezvous, RendezvousSettings
from pilot.wire.beacon import Discover, DiscoverReply, PunchCommand, PunchRequest, Relay, Sync
from tests.golden import golden

A, B, C = ("127.0.0.1", 23151), ("127.0.0.1", 23152), ("198.51.100.7", 4000)

#: Steps of the transcript that are meant to differ, by what they do, with what each side gets.
DEVIATIONS = {
    # A node recorded at A: B may not have holes punched in its name, nor move it by asking.
    "punch request re-registers its sender: B claims node 7, so 7 moves to B's endpoint": ([], []),
    "after that, relay to 7 reaches B": (["060000000178"], []),
}


def test_the_reference_s_transcript() -> None:
    """With A configured as the peer whose lists it learns."""
    table = RelayTable(peers=[A])
    vectors = golden("beacon")
    for step in vectors["transcript"]:
        source = A if step["from"] == "A" else B
        sent: dict[Any, list[str]] = {A: [], B: []}
        for data, destination in table.received(bytes.fromhex(step["in_hex"]), source, 0.0):
            sent[destination].append(data.hex())
        wanted = DEVIATIONS.get(step["what"], (step["to_A_hex"], step["to_B_hex"]))
        assert (sent[A], sent[B]) == wanted, step["what"]
    counts = vectors["counts_at_end"]
    assert (len(table), table.remote_nodes) == (counts["local_nodes"], counts["gossip_nodes"])


def test_both_address_families() -> None:
    table = RelayTable()
    six, four = ("::1", 23153), ("::ffff:127.0.0.1", 23154)
    steps = golden("beacon")["ipv6"]
    for step, source in zip(steps, (six, four), strict=False):
        answers = table.received(bytes.fromhex(step["in_hex"]), source, 0.0)
        assert [(data.hex(), to) for data, to in answers] == [(step["out_hex"][0], source)]
    answers = table.received(bytes.fromhex(steps[2]["in_hex"]), six, 0.0)
    punched = {to: data.hex() for data, to in answers}
    assert punched == {
        six: steps[2]["to_ipv6_client_hex"][0],
        four: steps[2]["to_ipv4_client_hex"][0],
    }


def test_what_it_tells_peers() -> None:
    table = RelayTable(11)
    table.received(Discover(7).encode(), A, 0.0)
    assert table.gossip().hex() == golden("beacon")["gossip_emitted"]["hex"]


@given(st.binary(max_size=40) | st.binary(max_size=40).map(lambda b: b"\x05" + b))
def test_any_datagram_is_harmless(data: bytes) -> None:
    table = RelayTable(peers=[A])
    table.received(Discover(7).encode(), B, 0.0)
    for source in (A, B):
        table.received(data, source, 0.0)


class TestForgers:
    def test_strangers_tell_it_nothing(self) -> None:
        table = RelayTable(peers=[A])
        table.received(Sync(1, (5,)).encode(), B, 0.0)
        assert table.remote_nodes == 0

    def test_what_a_beacon_passed_on_goes_to_no_other(self) -> None:
        """Two that each believe the other has a node would never stop."""
        table = RelayTable(peers=[A, B])
        table.received(Sync(1, (5,)).encode(), A, 0.0)
        frame = Relay(1, 5, b"x").encode()
        assert table.received(frame, C, 0.0) == ((frame, A),)
        assert table.received(frame, B, 0.0) == ()
        assert table.received(frame, A, 0.0) == ()

    def test_what_peers_told_is_forgotten_unless_told_again(self) -> None:
        table = RelayTable(peers=[A])
        for now in (0.0, 20.0):
            table.received(Sync(1, (5,)).encode(), A, now)
        table.sweep_gossip(54.9)
        assert table.remote_nodes == 1
        table.sweep_gossip(55.0)
        assert table.remote_nodes == 0

    def test_what_former_peers_told_is_forgotten(self) -> None:
        table = RelayTable(peers=[A])
        table.received(Sync(1, (5,)).encode(), A, 0.0)
        table.peers = frozenset([B])
        table.sweep_gossip(1.0)
        assert table.remote_nodes == 0

    def test_a_node_that_comes_here_is_no_longer_remote(self) -> None:
        table = RelayTable(peers=[A])
        table.received(Sync(1, (5,)).encode(), A, 0.0)
        table.received(Discover(5).encode(), C, 0.0)
        assert table.remote_nodes == 0
        table.received(Sync(1, (5,)).encode(), A, 0.0)
        assert table.received(Relay(1, 5, b"x").encode(), B, 0.0)[0][1] == C

    def test_a_full_table_answers_nobody_new_and_does_not_fall_over(self) -> None:
        """A punch in the name of an unrecorded node for a recorded one ended the reference."""
        table = RelayTable(limits=BeaconLimits(nodes=1))
        table.received(Discover(7).encode(), A, 0.0)
        assert table.received(Discover(8).encode(), B, 0.0) == ()
        assert table.received(PunchRequest(8, 7).encode(), B, 0.0) == ()
        assert len(table.received(Discover(7).encode(), B, 0.0)) == 1

    def test_one_address_has_so_many_nodes(self) -> None:
        table = RelayTable(limits=BeaconLimits(nodes_per_host=2))
        for node in (1, 2, 3):
            table.received(Discover(node).encode(), C, 0.0)
        assert len(table) == 2
        for node in range(10, 20):
            assert table.received(Discover(node).encode(), A, 0.0)
        table.received(Discover(1).encode(), ("192.0.2.1", 1), 0.0)
        assert table.received(Discover(3).encode(), C, 0.0)
        assert not table.received(Discover(10).encode(), C, 0.0)
        assert table.received(Relay(0, 10, b"").encode(), C, 0.0)[0][1] == A

    def test_one_address_asks_so_often(self) -> None:
        """Relaying is not asking."""
        table = RelayTable(limits=BeaconLimits(questions_per_second=1.0, questions_at_once=2.0))
        asked = [bool(table.received(Discover(7).encode(), C, 0.0)) for _ in range(3)]
        assert asked == [True, True, False]
        assert table.received(Discover(8).encode(), A, 0.0)
        assert table.received(Relay(1, 7, b"x").encode(), C, 0.0)
        assert table.received(Discover(7).encode(), C, 1.0)
        assert not table.received(Discover(7).encode(), C, 1.5)

    def test_so_many_askers_are_remembered(self) -> None:
        table = RelayTable(limits=BeaconLimits(hosts=2))
        for n in range(5):
            table.received(Discover(n + 1).encode(), (f"192.0.2.{n}", 1), 0.0)
        assert len(table._questions) == 2
        table.sweep(61.0)
        assert not table._questions


def test_node_zero_is_answered_and_not_recorded() -> None:
    """Starting daemons ask before they have an id."""
    table = RelayTable()
    assert table.received(Discover(0).encode(), A, 0.0) == ((DiscoverReply(*A).encode(), A),)
    assert len(table) == 0
    assert table.received(PunchRequest(0, 0).encode(), A, 0.0) == ()


def test_silent_nodes_are_forgotten() -> None:
    table = RelayTable(limits=BeaconLimits(nodes_per_host=1))
    table.received(Discover(7).encode(), C, 0.0)
    table.received(Discover(7).encode(), C, 100.0)
    table.received(Relay(7, 7, b"").encode(), C, 300.0)
    table.sweep(399.9)
    assert len(table) == 1
    table.sweep(400.0)
    assert len(table) == 0
    assert table.received(Discover(8).encode(), C, 400.0)


def test_no_list_is_longer_than_a_datagram() -> None:
    table = RelayTable(1, limits=BeaconLimits(questions_at_once=1e6))
    for node in range(1, SYNC_NODES + 11):
        table.received(Discover(node).encode(), A, 0.0)
    assert len(table.gossip()) == 7 + 4 * SYNC_NODES <= 65_507
    assert table.counters["nodes not told"] == 10


class Peer(DatagramProtocol):
    """Somebody with a UDP socket."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.waiting: Deferred[bytes] | None = None

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        if self.waiting is not None:
            waiting, self.waiting = self.waiting, None
            waiting.callback(datagram)
        else:
            self.got.append(datagram)

    def next(self) -> Deferred[bytes]:
        waiting: Deferred[bytes] = Deferred()
        if self.got:
            waiting.callback(self.got.pop(0))
        else:
            self.waiting = waiting
        return waiting.addTimeout(5, reactor)  # type: ignore[arg-type]


@pytest_twisted.ensureDeferred
async def test_over_real_sockets() -> None:
    """Two nodes learn where they are, are told to punch, and relay the largest datagram."""
    beacon = Beacon(reactor, BeaconSettings("127.0.0.1:0"))
    beacon.startService()
    one, two = Peer(), Peer()
    ports = [
        reactor.listenUDP(0, peer, interface="127.0.0.1", maxPacketSize=65535)  # type: ignore[attr-defined]
        for peer in (one, two)
    ]
    there = ("127.0.0.1", beacon.port)
    where = [port.getHost().port for port in ports]
    for number, peer in ((1, one), (2, two)):
        peer.transport.write(Discover(number).encode(), there)  # type: ignore[union-attr]
        assert await peer.next() == DiscoverReply("127.0.0.1", where[number - 1]).encode()
    one.transport.write(PunchRequest(1, 2).encode(), there)  # type: ignore[union-attr]
    assert await one.next() == PunchCommand("127.0.0.1", where[1]).encode()
    assert await two.next() == PunchCommand("127.0.0.1", where[0]).encode()
    frame = b"PILS" + bytes(65_000)
    one.transport.write(Relay(1, 2, frame).encode(), there)  # type: ignore[union-attr]
    assert await two.next() == b"\x06\x00\x00\x00\x01" + frame
    for port in ports:
        await port.stopListening()
    await beacon.stopService()
    assert not beacon.running


@pytest_twisted.ensureDeferred
async def test_a_taken_port_is_reported() -> None:
    beacon = Beacon(reactor, BeaconSettings("127.0.0.1:0"))
    beacon.startService()
    with pytest.raises(PortInUse, match="the beacon cannot listen"):
        Beacon(reactor, BeaconSettings(f"127.0.0.1:{beacon.port}")).startService()
    await beacon.stopService()


def test_odd_addresses_are_refused_before_anything_opens() -> None:
    for settings in (BeaconSettings("x"), BeaconSettings(":1", peers=("nowhere",))):
        with pytest.raises(InvalidArgument):
            Beacon(reactor, settings)


@pytest_twisted.ensureDeferred
async def test_beacons_find_each_other_through_a_registry() -> None:
    """And relay to each other's nodes."""
    rendezvous = Rendezvous(RendezvousSettings("127.0.0.1:0", "127.0.0.1:0"), reactor)
    rendezvous.startService()
    await rendezvous.started
    registry = f"127.0.0.1:{rendezvous.registry_port}"
    limits = BeaconLimits(gossip_every=0.05)
    beacons = []
    for number in (11, 12):
        settings = BeaconSettings("127.0.0.1:0", number, registry=registry)
        beacons.append(Beacon(reactor, settings, limits))
        beacons[-1].startService()
        await settled(lambda: known(rendezvous) == len(beacons))
    beacons[0]._meet_others()  # its next visit
    await settled(lambda: all(beacon.table.peers for beacon in beacons))
    node = Peer()
    port = reactor.listenUDP(0, node, interface="127.0.0.1")  # type: ignore[attr-defined]
    node.transport.write(Discover(7).encode(), ("127.0.0.1", beacons[0].port))  # type: ignore[union-attr]
    await node.next()
    await settled(lambda: beacons[1].table.remote_nodes == 1)
    relay = Relay(9, 7, b"hello").encode()
    node.transport.write(relay, ("127.0.0.1", beacons[1].port))  # type: ignore[union-attr]
    assert await node.next() == b"\x06\x00\x00\x00\x09hello"
    await port.stopListening()
    for beacon in beacons:
        await beacon.stopService()
    await rendezvous.stopService()


@pytest_twisted.ensureDeferred
async def test_a_beacon_outlives_its_registry() -> None:
    """It keeps the peers it had and tries again later."""
    settings = BeaconSettings("127.0.0.1:0", 11, peers=("127.0.0.1:1",), registry="127.0.0.1:1")
    beacon = Beacon(reactor, settings)
    beacon.startService()
    await settled(lambda: beacon._visit is None)
    assert beacon.table.peers == {("127.0.0.1", 1)}
    await beacon.stopService()


def known(rendezvous: Rendezvous) -> int:
    assert rendezvous.factory is not None
    directory = rendezvous.factory.directory
    return len(directory.beacons.listed(reactor.seconds()))  # type: ignore[attr-defined]


async def settled(condition: Any) -> None:
    """Wait, for five seconds at most, until C{condition()} holds."""
    for _ in range(500):
        if condition():
            return
        await deferLater(reactor, 0.01)  # type: ignore[arg-type]
    raise AssertionError("never happened")
