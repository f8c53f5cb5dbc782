"""The table of streams: limits, finished streams, and streams that nobody knows any more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory
from zope.interface import implementer

from pilot.errors import ConnectionRefused
from pilot.node import streams
from pilot.node.ports import PortLimits
from pilot.node.transport import StreamReset
from pilot.services.echo import EchoFactory
from tests.simulation.nodes import Recorder, RecorderFactory, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def test_finished_streams_are_forgotten_in_time_and_number(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "TIME_WAIT_LIMIT", 4)
    alice = world.start("alice", public=True)
    bob = world.start("bob", public=True)
    world.wait(bob.listen(80, EchoFactory()))
    for _ in range(8):
        stream = world.wait(alice.dial("bob", 80, RecorderFactory()))
        stream.transport.loseConnection()
        world.internet.until(lambda stream=stream: stream.ended)
    world.internet.run(1.0)
    listed = len(alice.parts.streams.statistics()) + len(bob.parts.streams.statistics())
    assert 0 < listed <= 8
    assert alice.parts.streams.open_count() == bob.parts.streams.open_count() == 0
    world.internet.run(30.0)
    assert alice.parts.streams.statistics() == bob.parts.streams.statistics() == []


@pytest.mark.parametrize("limit", ["connections_per_port", "connections_total"])
def test_a_full_port_refuses_and_takes_the_next_when_one_has_left(world: World, limit: str) -> None:
    alice = world.start("alice", public=True)
    bob = world.start("bob", public=True, limits=PortLimits(**{limit: 2}))
    world.wait(bob.listen(80, EchoFactory()))
    first, _ = (world.wait(alice.dial("bob", 80, RecorderFactory())) for _ in range(2))
    with pytest.raises(ConnectionRefused):
        world.wait(alice.dial("bob", 80, RecorderFactory()))
    assert bob.parts.ports.refused[limit] == 1
    first.transport.loseConnection()
    world.internet.run(30.0)
    world.wait(alice.dial("bob", 80, RecorderFactory()))


def test_a_trusted_peer_hears_that_its_stream_is_forgotten(world: World) -> None:
    alice = world.start("alice", public=True)
    bob = world.start("bob", public=True)
    world.wait(bob.listen(80, EchoFactory()))
    stream = world.wait(alice.dial("bob", 80, RecorderFactory()))
    stream.transport.write(b"hello")
    world.internet.until(lambda: stream.data)
    (remembered,) = bob.parts.streams._by_id.values()
    bob.parts.streams._drop(remembered)
    remembered.release()
    stream.transport.write(b"are you there?")
    world.internet.until(lambda: stream.ended, patience=2.0)
    assert stream.ended is not None and stream.ended.check(StreamReset)


def test_a_node_that_stops_ends_streams_that_a_producer_still_feeds(world: World) -> None:
    """The echo service paces itself as its own producer, and never says that it is done."""
    alice = world.start("alice", public=True)
    bob = world.start("bob", public=True)
    world.wait(bob.listen(80, EchoFactory()))
    stream = world.wait(alice.dial("bob", 80, RecorderFactory()))
    stream.transport.write(b"hello")
    world.internet.until(lambda: stream.data)
    world.stop("bob")
    world.internet.until(lambda: stream.ended, patience=2.0)
    assert stream.ended is not None and stream.ended.check(ConnectionDone)


def test_the_goodbye_of_a_node_is_a_clean_end(world: World) -> None:
    """Its peer still acknowledges, and may have more to say, to a node that forgot the stream."""

    @implementer(IHalfCloseableProtocol)
    class Patient(Recorder):
        finished = False

        def readConnectionLost(self) -> None:
            self.finished = True

        def writeConnectionLost(self) -> None:
            """Of no interest here."""

    alice = world.start("alice", public=True)
    bob = world.start("bob", public=True)
    world.wait(bob.listen(80, EchoFactory()))
    stream = world.wait(alice.dial("bob", 80, Factory.forProtocol(Patient)))
    stream.transport.write(b"hello")
    world.internet.until(lambda: stream.data)
    bob.parts.streams.close()  # the node goes on saying goodbye to the registry
    world.internet.until(lambda: stream.finished, patience=2.0)
    stream.transport.write(b"and one more thing")
    world.internet.run(1.0)
    assert stream.ended is None


def test_one_stream_of_a_service_is_ended_from_outside(world: World) -> None:
    alice = world.start("alice", public=True)
    bob = world.start("bob", public=True)
    world.wait(bob.listen(80, EchoFactory()))
    stream = world.wait(alice.dial("bob", 80, RecorderFactory()))
    stream.transport.write(b"hello")
    (serving,) = bob.parts.streams._by_id.values()
    world.internet.until(lambda: stream.data)
    serving.dismiss()
    world.internet.until(lambda: stream.ended, patience=2.0)
    assert stream.data == b"hello"
    assert stream.ended is not None and stream.ended.check(ConnectionDone)


def test_a_dial_may_be_taken_back(world: World) -> None:
    alice = world.start("alice", public=True)
    bob = world.start("bob")
    world.wait(bob.dial("alice", 444, RecorderFactory()))  # now alice knows the way
    dial = alice.dial(2, 80, RecorderFactory())
    errors: list[object] = []
    dial.addErrback(lambda failure: errors.append(failure))
    world.internet.run(0.5)
    dial.cancel()
    world.internet.run(0.1)
    states = [entry["state"] for entry in alice.parts.streams.statistics()]
    assert errors and "SYN_SENT" not in states
