"""Nodes among each other: what an agent's program sees of the overlay, in simulated time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from zope.interface.verify import verifyObject

from pilot.address import Address, SocketAddress
from pilot.errors import (
    ConnectionFailed,
    ConnectionRefused,
    DialTimeout,
    PilotError,
    PortInUse,
    RegistryError,
)
from pilot.interfaces import IPilotNode
from pilot.node.transport import StreamReset
from pilot.services.echo import EchoFactory
from pilot.tunnel.endpoints import format_endpoint
from pilot.tunnel.tunnel import Endpoint
from tests.simulation.network import Faults
from tests.simulation.nodes import Recorder, RecorderFactory, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def pair(world: World) -> tuple[Any, Any]:
    alice, bob = world.start("alice"), world.start("bob")
    world.introduce(alice, bob)
    return alice, bob


def connect(world: World, node: Any, target: Any, port: int) -> Recorder:
    return world.wait(node.dial(target, port, RecorderFactory()))


def test_a_node_provides_what_programs_are_written_against(world: World) -> None:
    assert verifyObject(IPilotNode, world.start("alice"))


def test_strangers_get_silence_on_open_and_closed_ports_alike(world: World) -> None:
    alice, bob = world.start("alice", public=True), world.start("bob")
    world.wait(bob.listen(80, EchoFactory()))
    with pytest.raises(RegistryError):
        world.wait(alice.resolve("bob"))
    with pytest.raises(ConnectionFailed, match="resolve node 2"):
        world.wait(alice.dial(2, 80, RecorderFactory()))
    # Even one who knows the way, because bob has once come to it, hears nothing.
    connect(world, bob, 1, 444)
    for port in (80, 81):
        with pytest.raises(DialTimeout):
            world.wait(alice.dial(2, port, RecorderFactory()))
    assert bob.info().result["refused"]["untrusted"] > 0
    assert ("syn.rejected", {"src_node_id": 1, "src_addr": "0:0000.0000.0001", "dst_port": 80}) in (
        world.events["bob"]
    )


def test_trust_between_private_nodes_takes_less_than_a_second_after_the_approval(
    world: World,
) -> None:
    alice, bob = world.start("alice"), world.start("bob")
    world.wait(alice.handshake(2, "let me in"))
    world.internet.until(lambda: bob.parts.trust.pending(), patience=1.0)
    assert world.wait(bob.pending())[0]["justification"] == "let me in"
    world.wait(bob.approve(1))
    world.internet.until(lambda: alice.parts.trust.is_trusted(2), patience=1.0)
    assert world.wait(alice.resolve("bob")) == Address(0, 2)
    world.wait(bob.listen(80, EchoFactory()))
    stream = connect(world, alice, "bob", 80)
    stream.transport.write(b"hello")
    world.internet.until(lambda: stream.data == b"hello")


def test_every_way_of_naming_a_node_leads_to_it(world: World) -> None:
    alice, _ = pair(world)
    names = ["bob", "2", 2, "0:0000.0000.0002", Address(0, 2)]
    assert {world.wait(alice.resolve(name)) for name in names} == {Address(0, 2)}
    assert {world.wait(alice.resolve(name)) for name in ("self", "alice", 1)} == {Address(0, 1)}


def test_a_closed_port_refuses_and_a_bound_one_is_taken(world: World) -> None:
    alice, bob = pair(world)
    with pytest.raises(ConnectionRefused):
        world.wait(alice.dial("bob", 81, RecorderFactory()))
    listening = world.wait(bob.listen(81, EchoFactory()))
    with pytest.raises(PortInUse):
        world.wait(bob.listen(81, EchoFactory()))
    connect(world, alice, "bob", 81)
    world.wait(listening.stopListening())
    with pytest.raises(ConnectionRefused):
        world.wait(alice.dial("bob", 81, RecorderFactory()))


def test_a_megabyte_survives_a_bad_link_and_ends_cleanly(tmp_path: Path) -> None:
    faults = Faults(loss=0.03, duplicate=0.02, reorder=0.05, corrupt=0.01, truncate=0.005)
    world = World(tmp_path, seed=7, faults=faults)
    alice, bob = pair(world)
    sink = RecorderFactory()
    world.wait(bob.listen(80, sink))
    stream = connect(world, alice, "bob", 80)
    blob = bytes(range(256)) * 4096
    stream.transport.write(blob)
    stream.transport.loseConnection()
    world.internet.until(lambda: sink.built and sink.built[0].ended, patience=120)
    assert sink.built[0].data == blob
    assert sink.built[0].ended.check(ConnectionDone)
    world.internet.until(lambda: stream.ended)
    assert stream.ended.check(ConnectionDone)
    world.close()


def test_half_close_lets_the_other_direction_go_on(world: World) -> None:
    alice, bob = pair(world)

    class AnswersAtTheEnd(Recorder):
        def readConnectionLost(self) -> None:
            self.transport.write(b"you said " + self.data)
            self.transport.loseConnection()

        def writeConnectionLost(self) -> None:
            pass

    from twisted.internet.interfaces import IHalfCloseableProtocol
    from zope.interface import classImplements

    classImplements(AnswersAtTheEnd, IHalfCloseableProtocol)
    world.wait(bob.listen(80, Factory.forProtocol(AnswersAtTheEnd)))
    stream = world.wait(alice.dial("bob", 80, Factory.forProtocol(AnswersAtTheEnd)))
    stream.transport.write(b"everything")
    stream.transport.loseWriteConnection()
    world.internet.until(lambda: stream.data)
    assert stream.data == b"you said everything"


def test_an_aborted_stream_never_looks_like_a_clean_end(world: World) -> None:
    alice, bob = pair(world)
    sink = RecorderFactory()
    world.wait(bob.listen(80, sink))
    stream = connect(world, alice, "bob", 80)
    stream.transport.write(b"half a mess")
    world.internet.until(lambda: sink.built and sink.built[0].data)
    stream.transport.abortConnection()
    world.internet.until(lambda: sink.built[0].ended)
    assert sink.built[0].ended.check(StreamReset)
    assert stream.ended is not None and stream.ended.check(ConnectionAborted)


def test_a_producer_waits_while_the_peer_does_not_read(world: World) -> None:
    """A client that never reads costs its peer the window, and neither of them more memory."""
    alice, bob = pair(world)

    class NeverReads(Protocol):
        def connectionMade(self) -> None:
            self.transport.pauseProducing()

    class Producer:
        sent, paused = 0, False

        def resumeProducing(self) -> None:
            self.paused = False
            while not self.paused:
                stream.transport.write(bytes(65536))
                self.sent += 65536

        def pauseProducing(self) -> None:
            self.paused = True

        def stopProducing(self) -> None:
            self.paused = True

    world.wait(bob.listen(80, Factory.forProtocol(NeverReads)))
    stream = connect(world, alice, "bob", 80)
    producer = Producer()
    stream.transport.registerProducer(producer, True)
    producer.resumeProducing()
    world.internet.run(5.0)
    sent = producer.sent
    world.internet.run(20.0)
    assert producer.paused and producer.sent == sent
    assert sent < 16 << 20


def test_a_peer_that_restarts_with_new_keys_is_reached_again(world: World) -> None:
    """The old stream fails with a reason; new ones work from the restarted node and to it."""
    alice, bob = pair(world)
    world.wait(bob.listen(80, EchoFactory()))
    stream = connect(world, alice, "bob", 80)
    stream.transport.write(b"before")
    world.internet.until(lambda: stream.data == b"before")
    world.crash("bob")
    stream.transport.write(b"into the void")
    again = world.start("bob")
    world.wait(again.listen(80, EchoFactory()))
    world.internet.until(lambda: stream.ended, patience=60)
    assert stream.ended.check(StreamReset)
    fresh = connect(world, alice, "bob", 80)
    fresh.transport.write(b"after")
    world.internet.until(lambda: fresh.data == b"after")
    back = connect(world, again, "alice", 444)
    assert back.transport is not None


@pytest.mark.parametrize("forgets", [False, True])
def test_the_registry_may_die_and_return(world: World, forgets: bool) -> None:
    """Established peers talk on meanwhile; afterwards all is well, with its state or without."""
    alice, bob = pair(world)
    world.wait(bob.listen(80, EchoFactory()))
    connect(world, alice, "bob", 80)
    world.registry_dies(forgets=forgets)
    stream = connect(world, alice, Address(0, 2), 80)
    stream.transport.write(b"alone")
    world.internet.until(lambda: stream.data == b"alone")
    world.internet.run(30.0)
    if forgets:
        world.start_registry()
    else:
        world.registry_returns()
    world.internet.run(60.0)
    assert alice.parts.registration.connected and bob.parts.registration.connected
    carol = world.start("carol")
    world.introduce(carol, bob)
    late = connect(world, carol, "bob", 80)
    late.transport.write(b"hello")
    world.internet.until(lambda: late.data == b"hello")


def test_a_beacon_that_vanishes_does_not_stop_direct_peers(world: World) -> None:
    alice, bob = pair(world)
    world.wait(bob.listen(80, EchoFactory()))
    world.network.crash(world.beacon.address)
    world.internet.run(60.0)
    stream = connect(world, alice, "bob", 80)
    stream.transport.write(b"hello")
    world.internet.until(lambda: stream.data == b"hello")


def test_a_node_that_moves_behind_its_nat_is_found_at_its_new_place(world: World) -> None:
    alice, bob = world.start("alice", endpoint=""), world.start("bob", public=True)
    world.internet.run(1.0)
    inside = alice.parts.tunnel.address
    world.network.nat(inside, ("203.0.113.9", 7777))
    world.internet.run(60.0)
    alice_known = world.registry.directory.nodes.live[1].real_addr
    assert alice_known.endswith(":7777")
    world.introduce(alice, bob)
    stream = connect(world, alice, "bob", 444)
    assert stream.transport is not None


def test_a_blocked_path_is_bridged_by_the_relay(world: World) -> None:
    alice, bob = pair(world)
    world.wait(bob.listen(80, EchoFactory()))
    here, there = alice.parts.tunnel.address, bob.parts.tunnel.address
    for node_id, node in ((2, alice), (1, bob)):
        node.parts.tunnel.forget(node_id)
    world.network.partition(here, there)
    stream = connect(world, alice, "bob", 80)
    stream.transport.write(b"the long way")
    world.internet.until(lambda: stream.data == b"the long way")
    assert world.beacon.relayed > 0


def test_thousands_of_requests_are_limited_and_leave_others_alone(world: World) -> None:
    alice, bob = pair(world)
    carol = world.start("carol")
    world.introduce(carol, bob)
    world.wait(bob.listen(80, EchoFactory()))
    connect(world, alice, "bob", 80)
    attempts = [alice.dial("bob", 80, RecorderFactory()) for _ in range(2000)]
    world.internet.run(1.0)
    stream = connect(world, carol, "bob", 80)
    stream.transport.write(b"still here")
    world.internet.until(lambda: stream.data == b"still here")
    assert bob.info().result["refused"]["syn_rate_source"] > 1000
    for attempt in attempts:
        attempt.addErrback(lambda _: None)
        attempt.cancel()


def test_datagrams_reach_every_listener_of_a_trusted_node_only(world: World) -> None:
    alice, bob = pair(world)
    mallory = world.start("mallory", public=True)
    heard: list[tuple[SocketAddress, int, bytes]] = []
    stop = bob.add_datagram_listener(lambda *datagram: heard.append(datagram))
    world.wait(alice.send_datagram("bob", 5000, b"ahoy"))
    world.internet.until(lambda: heard)
    source, port, data = heard[0]
    assert (source.address, port, data) == (Address(0, 1), 5000, b"ahoy")
    with pytest.raises(ConnectionFailed):
        world.wait(mallory.send_datagram(2, 5000, b"psst"))
    with pytest.raises(ConnectionFailed, match="too"):
        world.wait(alice.send_datagram("bob", 5000, bytes(65436 + 2)))
    stop()
    world.wait(alice.send_datagram("bob", 5000, b"again"))
    world.internet.run(1.0)
    assert len(heard) == 1


def test_a_node_talks_to_itself_without_the_network(world: World) -> None:
    alice = world.start("alice")
    world.wait(alice.listen(80, EchoFactory()))
    carried = world.network.counters["carried"]
    stream = connect(world, alice, "self", 80)
    stream.transport.write(b"me, myself")
    world.internet.until(lambda: stream.data == b"me, myself")
    assert world.network.counters["carried"] == carried


def test_revoked_trust_ends_streams_and_shuts_the_door(world: World) -> None:
    alice, bob = pair(world)
    world.wait(bob.listen(80, EchoFactory()))
    stream = connect(world, alice, "bob", 80)
    world.wait(bob.untrust(1))
    world.internet.until(lambda: stream.ended, patience=60)
    world.internet.until(lambda: not alice.parts.trust.is_trusted(2), patience=60)
    with pytest.raises(ConnectionFailed):
        world.wait(alice.dial(2, 80, RecorderFactory()))


def test_a_node_carries_ten_tags_and_the_command_of_the_control_socket_sets_three(
    world: World,
) -> None:
    alice, _ = pair(world)
    ten = list("abcdefghij")
    assert world.wait(alice.set_tags(ten)) == ten
    with pytest.raises(PilotError, match="maximum 3 tags allowed"):
        world.wait(alice.replace_tags(ten[:4]))
    assert world.wait(alice.tags()) == ten
    assert world.wait(alice.replace_tags(ten[:3]))["tags"] == ten[:3]


def test_a_clean_stop_says_goodbye_and_a_restart_finds_everything_as_it_was(world: World) -> None:
    alice, bob = pair(world)
    assert world.wait(bob.set_tags(["#blue"])) == ["blue"]
    world.stop("bob")
    with pytest.raises(ConnectionFailed):
        world.wait(alice.dial("bob", 80, RecorderFactory()))
    again = world.start("bob")
    assert again.own_address() == Address(0, 2)
    assert again.parts.trust.is_trusted(1)
    world.wait(again.listen(80, EchoFactory()))
    stream = connect(world, alice, "bob", 80)
    stream.transport.write(b"welcome back")
    world.internet.until(lambda: stream.data == b"welcome back")


def test_the_report_adds_up(world: World) -> None:
    alice, bob = pair(world)
    world.wait(bob.listen(80, EchoFactory()))
    connect(world, alice, "bob", 80)
    facts = world.wait(alice.info())
    assert facts["node_id"] == 1 and facts["hostname"] == "alice"
    assert facts["peers"] == facts["authenticated_peers"] == 1
    assert facts["peer_list"][0]["address"] == "0:0000.0000.0002"
    assert [entry["state"] for entry in facts["conn_list"]].count("ESTABLISHED") == 1
    assert facts["networks"] is None and facts["registry_connected"]
    assert alice.health()["status"] == "ok"
    world.registry_dies(forgets=False)
    world.internet.run(1.0)
    assert not world.wait(alice.info())["registry_connected"]


def test_a_number_that_went_to_somebody_else_brings_no_trust(world: World) -> None:
    """A registry that lost its state numbers nodes anew; trust was given to a key."""
    for name in ("xavier", "yvonne", "zoe"):
        world.start(name)
    yvonne, zoe = (world.services[name].node for name in ("yvonne", "zoe"))
    world.introduce(yvonne, zoe)
    for name in ("xavier", "yvonne", "zoe"):
        world.stop(name)
    world.registry_dies(forgets=True)
    world.start_registry()
    yvonne, zoe, xavier = (world.start(name) for name in ("yvonne", "zoe", "xavier"))
    assert xavier.own_address().node == 3  # which was zoe's
    assert yvonne.parts.trust.is_trusted(3)
    world.wait(yvonne.listen(80, EchoFactory()))
    world.wait(xavier.handshake(1, "it is me"))
    world.internet.until(lambda: yvonne.parts.trust.pending(), patience=20.0)
    world.internet.run(10.0)
    assert not yvonne.parts.trust.is_trusted(3)
    assert not xavier.parts.trust.is_trusted(1)
    with pytest.raises(ConnectionFailed):
        world.wait(xavier.dial(1, 80, RecorderFactory()))


def test_a_stranger_with_a_trusted_number_does_not_pass_the_gate(world: World) -> None:
    for name in ("xavier", "yvonne", "zoe"):
        world.start(name)
    world.introduce(world.services["yvonne"].node, world.services["zoe"].node)
    for name in ("xavier", "yvonne", "zoe"):
        world.stop(name)
    world.registry_dies(forgets=True)
    world.start_registry()
    yvonne = world.start("yvonne", public=True)
    world.start("zoe")
    xavier = world.start("xavier")
    world.wait(yvonne.set_visibility(False))
    world.wait(yvonne.listen(80, EchoFactory()))
    xavier.parts.directory._endpoints[1] = (
        world.internet.seconds() + 1e6,
        Endpoint(format_endpoint(yvonne.parts.tunnel.address)),
    )
    with pytest.raises(DialTimeout):
        world.wait(xavier.dial(1, 80, RecorderFactory()), patience=90.0)
    assert not yvonne.parts.trust.is_trusted(3)
