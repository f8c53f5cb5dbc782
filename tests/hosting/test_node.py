"""The node and the reactor a skill gets."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorTCP, IReactorTime
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.interfaces import IMethod
from zope.interface.verify import verifyObject

from pilot.client.remote import RemoteNode
from pilot.hosting.guard import Guard
from pilot.hosting.node import GuardedNode
from pilot.hosting.reactor import GuardedReactor
from pilot.interfaces import IPilotNode, ISegmentReceiver
from tests.hosting.fakes import FakeNode


def guard() -> Guard:
    def unexpected(failure: Failure) -> None:
        raise AssertionError(failure)

    return Guard("servant", unexpected)


class Transport:
    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True


class Grumpy(Protocol):
    """Raises at whatever comes."""

    def dataReceived(self, data: bytes) -> None:
        raise RuntimeError("no")

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        self.reason = reason


def test_it_is_a_whole_node() -> None:
    """Whatever the interface lists is there, and leads to the real node."""
    reactor = MemoryReactorClock()
    proxy = GuardedNode(RemoteNode(reactor), guard())
    verifyObject(IPilotNode, proxy)

    class Recorder:
        def __getattr__(self, name: str) -> Any:
            asked.append(name)
            return lambda *args, **kwargs: Deferred()

    own = {"dial", "listen", "subscribe"}
    for name in IPilotNode.names(all=True):
        asked: list[str] = []
        found = getattr(GuardedNode(Recorder(), guard()), name)
        if IMethod.providedBy(IPilotNode[name]):
            wanted = IPilotNode[name].getSignatureInfo()["positional"]
            found(*(Grumpy for _ in wanted))
        assert asked == [name], name
    assert own < set(IPilotNode.names(all=True))
    with pytest.raises(AttributeError):
        _ = proxy.extended  # the skill is written for every node, so it sees no more than that


class TestStreams:
    def dialled(self, protocol: type[Protocol]) -> tuple[Guard, Any, Transport, list[Any]]:
        node, watched, transport = FakeNode(), guard(), Transport()
        got: list[Any] = []
        GuardedNode(node, watched).dial("bob", 80, Factory.forProtocol(protocol)).addCallback(
            got.append
        )
        ((factory, waiting),) = node.dialled
        outer = factory.buildProtocol(None)
        outer.makeConnection(transport)
        waiting.callback(outer)
        return watched, outer, transport, got

    def test_a_protocol_that_raises_loses_its_connection(
        self, nothing_left_behind: list[Failure]
    ) -> None:
        watched, outer, transport, (inner,) = self.dialled(Grumpy)
        assert isinstance(inner, Grumpy) and inner.transport is transport
        outer.dataReceived(b"hello")
        assert transport.aborted
        outer.connectionLost(Failure(ConnectionDone()))
        assert inner.reason.check(ConnectionDone)
        assert len(watched) == 0
        assert [each.type for each in nothing_left_behind] == [RuntimeError]
        nothing_left_behind.clear()

    def test_streams_end_with_the_run(self) -> None:
        watched, _, transport, _ = self.dialled(Protocol)
        watched.close()
        assert transport.aborted

    def test_what_a_protocol_can_do_is_seen(self) -> None:
        @implementer(ISegmentReceiver)
        class Segments(Protocol):
            def segmentsReceived(self, segments: list[bytes]) -> None:
                self.segments = segments

        _, outer, _, (inner,) = self.dialled(Segments)
        assert ISegmentReceiver.providedBy(outer)
        outer.segmentsReceived([b"a", b"b"])
        assert inner.segments == [b"a", b"b"]
        _, outer, _, _ = self.dialled(Protocol)
        assert not ISegmentReceiver.providedBy(outer)

    def test_no_protocol_no_connection(self, nothing_left_behind: list[Failure]) -> None:
        class Broken(Factory):
            def buildProtocol(self, addr: Any) -> Any:
                raise RuntimeError("no")

        class Choosy(Factory):
            def buildProtocol(self, addr: Any) -> Any:
                return None

        node, watched = FakeNode(), guard()
        proxy = GuardedNode(node, watched)
        opened: list[Any] = []
        for factory in (Broken(), Choosy(), Factory.forProtocol(Protocol)):
            proxy.listen(80, factory).addCallback(opened.append)
        assert [port.factory.buildProtocol(None) for port in node.ports[:2]] == [None, None]
        nothing_left_behind.clear()
        opened[2].stopListening()
        assert opened[2].getHost() == "here" and not node.ports[2].open and node.ports[0].open
        assert len(watched) == 2
        watched.close()
        assert not node.ports[0].open
        assert node.ports[2].factory.buildProtocol(None) is None


def test_listeners_that_were_ended_are_forgotten() -> None:
    node, watched = FakeNode(), guard()
    proxy = GuardedNode(node, watched)
    stops = [
        proxy.add_datagram_listener(print),
        proxy.watch_events("x", print),
        proxy.claim_messages("x", print),
    ]
    ends: list[Any] = []
    proxy.subscribe("bob", "x", print, ends.append).addCallback(stops.append)
    proxy.subscribe("bob", "y", print, ends.append)
    assert len(watched) == 5
    node.ends[1](Failure(ConnectionDone()))
    assert len(ends) == 1 and len(watched) == 4
    for stop in stops:
        stop()
        stop()
    assert len(watched) == 0 and len(node.listeners) == 1


class TestReactor:
    def test_it_looks_like_the_real_one(self) -> None:
        reactor: Any = MemoryReactorClock()
        reactor.callFromThread = lambda function, *args: function(*args)
        guarded: Any = GuardedReactor(reactor, guard())
        assert IReactorTime.providedBy(guarded) and IReactorTCP.providedBy(guarded)
        reactor.advance(3)
        assert guarded.seconds() == 3
        called: list[int] = []
        call = guarded.callLater(1, called.append, 1)
        guarded.callWhenRunning(called.append, 2)
        guarded.callFromThread(called.append, 3)
        assert guarded.getDelayedCalls() == [call]
        reactor.advance(1)
        for hook, args, kwargs in reactor.whenRunningHooks:
            hook(*args, **kwargs)
        assert sorted(called) == [1, 2, 3] and not guarded.getDelayedCalls()

    def test_its_sockets_are_closed_with_the_run(self) -> None:
        reactor, watched = MemoryReactorClock(), guard()
        guarded = GuardedReactor(reactor, watched)
        port = guarded.listenTCP(80, Factory())
        disconnected: list[int] = []
        connector = guarded.connectTCP("127.0.0.1", 80, ClientFactory())
        connector.disconnect = lambda: disconnected.append(1)
        stopped: list[int] = []
        port.stopListening = lambda: stopped.append(1)
        watched.close()
        assert stopped == disconnected == [1]

    def test_nothing_begins_after_the_end(self) -> None:
        reactor, watched = MemoryReactorClock(), guard()
        guarded = GuardedReactor(reactor, watched)
        watched.close()
        assert not guarded.callLater(1, print).active()
        assert not reactor.getDelayedCalls()
