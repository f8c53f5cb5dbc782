"""Port 444 as an ordinary Twisted protocol: one segment is read, nothing is written."""

from __future__ import annotations

import pytest
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from pilot.address import Address
from pilot.interfaces import ISegmentReceiver
from pilot.trust.protocol import PATIENCE, HandshakeFactory, HandshakeProtocol


@implementer(IAddress)
class Peer:
    def __init__(self, node_id: int) -> None:
        self.address = Address(0, node_id)
        self.port = 50000


class Port:
    """A listening port 444 and what came out of it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.heard: list[tuple[int, bytes]] = []
        self.factory = HandshakeFactory(self.clock, lambda *message: self.heard.append(message))

    def connect(self, node_id: int) -> tuple[HandshakeProtocol, StringTransport]:
        protocol = self.factory.buildProtocol(Peer(node_id))
        assert protocol is not None
        transport = StringTransport(peerAddress=Peer(node_id))
        protocol.makeConnection(transport)
        return protocol, transport


@pytest.fixture
def port() -> Port:
    return Port()


def test_it_receives_segments(port: Port) -> None:
    protocol, _ = port.connect(1)
    verifyObject(ISegmentReceiver, protocol)


def test_the_first_segment_is_the_message_and_nothing_is_answered(port: Port) -> None:
    protocol, transport = port.connect(1)
    protocol.segmentsReceived([b"one", b"two"])
    protocol.segmentsReceived([b"three"])
    assert port.heard == [(1, b"one")]
    assert transport.value() == b""
    assert not transport.disconnecting
    protocol.connectionLost(Failure(Exception()))
    assert port.clock.getDelayedCalls() == []


def test_a_silent_stream_is_given_up_after_ten_seconds(port: Port) -> None:
    protocol, transport = port.connect(1)
    port.clock.advance(PATIENCE - 0.1)
    assert not transport.disconnected
    port.clock.advance(0.1)
    assert transport.disconnected
    protocol.segmentsReceived([b"late"])
    assert port.heard == []
    assert port.factory.counters == {"silent": 1}


def test_a_sender_that_does_not_close_is_closed(port: Port) -> None:
    protocol, transport = port.connect(1)
    port.clock.advance(9)
    protocol.segmentsReceived([b"one"])
    port.clock.advance(9)
    assert not transport.disconnecting
    port.clock.advance(1)
    assert transport.disconnecting


def test_one_peer_has_few_streams(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilot.trust.protocol.MAX_STREAMS_PER_PEER", 2)
    first, _ = port.connect(1)
    port.connect(1)
    refused, transport = port.connect(1)
    assert transport.disconnected
    refused.segmentsReceived([b"no"])
    refused.connectionLost(Failure(Exception()))
    assert port.heard == []
    assert port.factory.counters == {"streams_of_peer_full": 1}
    port.connect(2)
    first.connectionLost(Failure(Exception()))
    _, transport = port.connect(1)
    assert not transport.disconnected


def test_all_peers_together_have_a_limit(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilot.trust.protocol.MAX_STREAMS", 3)
    protocols = [port.connect(node_id)[0] for node_id in range(3)]
    assert port.factory.buildProtocol(Peer(9)) is None
    assert port.factory.counters == {"streams_full": 1}
    protocols[0].connectionLost(Failure(Exception()))
    assert port.factory.buildProtocol(Peer(9)) is not None
