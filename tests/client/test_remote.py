"""A node at the other end of a control socket, on real sockets."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IConsumer, IListeningPort, IPushProducer, ITransport
from twisted.internet.protocol import Factory
from twisted.protocols.wire import Echo
from zope.interface.verify import verifyObject

from pilot.address import Address, SocketAddress
from pilot.client.remote import RemoteNode, connect_node
from pilot.errors import (
    AlreadyExists,
    ConnectionFailed,
    ConnectionRefused,
    InvalidArgument,
    NotFound,
    NotRunning,
    PilotError,
    PortInUse,
    RegistryError,
    TimedOut,
)
from pilot.interfaces import IPilotNode
from pilot.node.endings import StreamReset
from tests.client.remoteworld import (
    PATIENCE,
    HalfRecorder,
    Keep,
    Recorder,
    Remotes,
    SegmentRecorder,
    pause,
    reactor,
)


@pytest_twisted.async_yield_fixture
async def world(tmp_path: Path) -> AsyncIterator[Remotes]:
    remotes = Remotes(tmp_path)
    remotes.start("a")
    remotes.start("b")
    yield remotes
    await remotes.close()


async def pair(world: Remotes, kind: type[Recorder] = Recorder) -> tuple[Any, Any]:
    """A stream from a to b: the protocols of both ends."""
    a, b = await world.connect("a"), await world.connect("b")
    server = Keep(kind)
    await b.listen(5000, server)
    near = await a.dial(2, 5000, Keep(kind))
    return near, server.made[0] if server.made else await server.wait()


class TestSocket:
    @pytest_twisted.ensureDeferred
    async def test_it_is_private_and_gone_at_the_end(self, world: Remotes) -> None:
        assert stat.S_IMODE(os.stat(world.path("a")).st_mode) == 0o600
        await world.stop("a")
        assert not os.path.exists(world.path("a"))

    @pytest_twisted.ensureDeferred
    async def test_a_second_daemon_leaves_the_first_one_alone(self, world: Remotes) -> None:
        with pytest.raises(AlreadyExists, match="is active"):
            world.start("a")
        client = await world.connect("a")
        assert (await client.health())["status"] == "ok"

    @pytest_twisted.ensureDeferred
    async def test_nobody_there(self, world: Remotes, tmp_path: Path) -> None:
        with pytest.raises(NotRunning) as caught:
            await connect_node(reactor, str(tmp_path / "nothing"))
        assert caught.value.hint == "start it with: pilotctl daemon start"

    @pytest_twisted.ensureDeferred
    async def test_the_socket_is_found_like_pilotctl_finds_it(
        self, world: Remotes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PILOT_SOCKET", world.path("b"))
        client = await connect_node(reactor)
        world.clients.append(client)
        assert client.address == Address(0, 2)

    @pytest_twisted.ensureDeferred
    async def test_garbage_costs_its_own_connection_only(self, world: Remotes) -> None:
        client = await world.connect("a")
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(world.path("a"))
            raw.sendall(b"\xff" * 100)
            raw.setblocking(False)
            for _ in range(100):
                await pause(0.01)
                try:
                    assert raw.recv(100) == b""
                    break
                except BlockingIOError:
                    continue
            else:
                pytest.fail("not hung up on")
        assert (await client.health())["status"] == "ok"

    @pytest_twisted.ensureDeferred
    async def test_half_sent_frames_are_nobodys_problem(self, world: Remotes) -> None:
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(world.path("a"))
            raw.sendall(b"\x00\x00\x00\x09\x0d")
        client = await world.connect("a")
        assert (await client.health())["status"] == "ok"


class TestNode:
    @pytest_twisted.ensureDeferred
    async def test_it_provides_the_interface(self, world: Remotes) -> None:
        client = await world.connect("a")
        verifyObject(IPilotNode, client)
        assert client.extended
        assert client.address == Address(0, 1)

    @pytest_twisted.ensureDeferred
    async def test_resolving(self, world: Remotes) -> None:
        client = await world.connect("a")
        for target in ("node-b", "0:0000.0000.0002", "2", 2, Address(0, 2)):
            assert await client.resolve(target) == Address(0, 2)
        assert await client.resolve("self") == Address(0, 1)
        with pytest.raises(RegistryError, match='hostname "nobody" not found'):
            await client.resolve("nobody")

    @pytest_twisted.ensureDeferred
    async def test_questions(self, world: Remotes) -> None:
        client = await world.connect("a")
        assert (await client.info())["hostname"] == "node-a"
        assert await client.handshake(2, "please") == {"node_id": 2, "status": "sent"}
        assert world.node("a").calls == [("handshake", 2, "please")]
        assert (await client.approve(2))["status"] == "approved"
        assert await client.trusted() == [{"node_id": 2}]
        assert await client.pending() == []
        assert (await client.reject(3, "no"))["status"] == "rejected"
        assert (await client.untrust(2))["status"] == "revoked"
        with pytest.raises(NotFound, match="node 2 was not trusted"):
            await client.untrust(2)

    @pytest_twisted.ensureDeferred
    async def test_answers_to_many_questions_at_once(self, world: Remotes) -> None:
        client = await world.connect("a")
        questions = [client.resolve(f"node-{'ab'[n % 2]}") for n in range(500)]
        assert [(await question).node for question in questions] == [1, 2] * 250

    @pytest_twisted.ensureDeferred
    async def test_a_bounded_number_of_questions(self, world: Remotes) -> None:
        client = await world.connect("a")
        questions = [client.info() for _ in range(1025)]
        with pytest.raises(ConnectionFailed, match="too many requests"):
            await questions.pop()
        for question in questions:
            await question

    @pytest_twisted.ensureDeferred
    async def test_datagrams(self, world: Remotes) -> None:
        a, b = await world.connect("a"), await world.connect("b")
        heard: Deferred[tuple[SocketAddress, int, bytes]] = Deferred()
        stop = b.add_datagram_listener(lambda *what: heard.callback(what))
        await b.health()  # the daemon has heard by now that they are wanted
        await a.send_datagram("node-b", 9000, b"hi")
        source, port, data = await heard.addTimeout(PATIENCE, reactor)
        assert (source.address, port, data) == (Address(0, 1), 9000, b"hi")
        stop()
        stop()
        await a.send_datagram("node-b", 9000, b"unheard")
        with pytest.raises(ConnectionFailed, match="message too long"):
            await a.send_datagram(2, 9000, bytes(65438))

    @pytest_twisted.ensureDeferred
    async def test_without_a_listener_no_datagrams_travel(self, world: Remotes) -> None:
        client = await world.connect("b")
        seen: list[int] = []
        client._link.on_datagram = seen.append  # type: ignore[assignment]
        await (await world.connect("a")).send_datagram(2, 9000, b"hi")
        await pause(0.01)
        await client.health()
        assert seen == []

    @pytest_twisted.ensureDeferred
    async def test_the_daemon_goes_away(self, world: Remotes) -> None:
        near, _far = await pair(world)
        client = world.clients[0]
        gone: Deferred[None] = Deferred()
        client.on_disconnect = lambda: gone.callback(None)
        world.node("a").waiting["slow"] = Deferred()
        question = client.resolve("slow")
        await world.stop("a")
        with pytest.raises(NotRunning):
            await question
        assert isinstance(await near.end(), StreamReset)
        await gone
        with pytest.raises(NotRunning):
            await client.info()
        with pytest.raises(NotRunning):
            await client.send_datagram(2, 1, b"x")


class TestDialling:
    @pytest_twisted.ensureDeferred
    async def test_both_ways(self, world: Remotes) -> None:
        near, far = await pair(world)
        for interface in (ITransport, IConsumer, IPushProducer):
            verifyObject(interface, near.transport)
        assert near.transport.getPeer() == (Address(0, 2), 5000)
        assert far.transport.getHost() == (Address(0, 2), 5000)
        assert far.transport.getPeer().address == Address(0, 1)
        assert str(near.transport.getPeer()) == "0:0000.0000.0002:5000"
        near.transport.write(b"hello")
        assert await far.heard(5) == b"hello"
        far.transport.writeSequence([b"wor", b"ld"])
        assert await near.heard(5) == b"world"

    @pytest_twisted.ensureDeferred
    async def test_refused(self, world: Remotes) -> None:
        client = await world.connect("a")
        with pytest.raises(ConnectionRefused):
            await client.dial("node-b", 4999, Keep())
        with pytest.raises(ConnectionFailed, match="node not found"):
            await client.dial(99, 7, Keep())
        with pytest.raises(InvalidArgument, match="invalid port 70000"):
            await client.dial(2, 70000, Keep())

    @pytest_twisted.ensureDeferred
    async def test_taken_back(self, world: Remotes) -> None:
        """A dial that succeeds after nobody wants it any more leaves no stream behind."""
        a, b = await world.connect("a"), await world.connect("b")
        server = Keep()
        await b.listen(5000, server)
        real = world.node("a").dial
        slow: Deferred[Any] = Deferred()
        world.node("a").dial = lambda *what: slow.addCallback(  # type: ignore[method-assign]
            lambda _: real(*what)
        )
        dial = a.dial(2, 5000, Keep())
        await pause(0.01)
        dial.cancel()
        with pytest.raises(CancelledError):
            await dial
        slow.callback(None)
        far = await server.wait()
        assert isinstance(await far.end(), StreamReset)

    @pytest_twisted.ensureDeferred
    async def test_given_up(self, world: Remotes) -> None:
        client = await world.connect("a")
        world.node("a").waiting[2] = Deferred()
        with pytest.raises(TimedOut):
            await client.dial(2, 7, Keep(), timeout=0.01)
        world.node("a").waiting.pop(2).errback(PilotError("late"))

    @pytest_twisted.ensureDeferred
    async def test_a_factory_that_declines(self, world: Remotes) -> None:
        client, server = await world.connect("a"), Keep()
        await (await world.connect("b")).listen(5000, server)
        declining = Factory()
        declining.buildProtocol = lambda addr: None  # type: ignore[method-assign, assignment]
        with pytest.raises(ConnectionFailed, match="declined"):
            await client.dial(2, 5000, declining)
        far = await server.wait()
        assert isinstance(await far.end(), StreamReset)

    @pytest_twisted.ensureDeferred
    async def test_a_protocol_that_fails_to_start(
        self, world: Remotes, nothing_left_behind: list[Any]
    ) -> None:
        client, server = await world.connect("a"), Keep()
        await (await world.connect("b")).listen(5000, server)
        broken = Keep()
        broken.buildProtocol = lambda addr: 1 / 0  # type: ignore[method-assign, assignment, return-value]
        with pytest.raises(ConnectionFailed, match="failed to start"):
            await client.dial(2, 5000, broken)
        await (await server.wait()).end()
        nothing_left_behind.clear()


class TestListening:
    @pytest_twisted.ensureDeferred
    async def test_ports(self, world: Remotes) -> None:
        client, server = await world.connect("b"), Keep()
        port = await client.listen(5000, server)
        verifyObject(IListeningPort, port)
        assert port.getHost() == (Address(0, 2), 5000)
        with pytest.raises(PortInUse, match="port 5000 already bound"):
            await (await world.connect("b")).listen(5000, Keep())
        with pytest.raises(InvalidArgument):
            await client.listen(-1, Keep())
        await port.stopListening()
        assert server.stopped
        await port.stopListening()
        await client.listen(5000, Keep())

    @pytest_twisted.ensureDeferred
    async def test_a_free_one(self, world: Remotes) -> None:
        port = await (await world.connect("b")).listen(0, Keep())
        assert port.getHost().port >= 49152

    @pytest_twisted.ensureDeferred
    async def test_streams_outlive_their_port(self, world: Remotes) -> None:
        a, b, server = await world.connect("a"), await world.connect("b"), Keep()
        port = await b.listen(5000, server)
        near: Any = await a.dial(2, 5000, Keep())
        far = await server.wait() if not server.made else server.made[0]
        await far.made
        await port.stopListening()
        near.transport.write(b"still here")
        assert await far.heard(10) == b"still here"

    @pytest_twisted.ensureDeferred
    async def test_the_daemon_takes_the_ports_along(self, world: Remotes) -> None:
        server = Keep()
        await (await world.connect("b")).listen(5000, server)
        await world.stop("b")
        await pause(0.01)
        assert server.stopped


class TestEnds:
    @pytest_twisted.ensureDeferred
    async def test_what_was_written_arrives_before_the_end(self, world: Remotes) -> None:
        near, far = await pair(world)
        data = os.urandom(3_000_000)
        near.transport.write(data)
        near.transport.loseConnection()
        near.transport.write(b"too late")
        assert await far.heard(len(data)) == data
        assert isinstance(await far.end(), ConnectionDone)
        assert isinstance(await near.end(), ConnectionDone)

    @pytest_twisted.ensureDeferred
    async def test_an_abort_is_no_clean_end_for_either_side(self, world: Remotes) -> None:
        near, far = await pair(world)
        near.transport.abortConnection()
        near.transport.abortConnection()
        assert isinstance(await near.end(), ConnectionAborted)
        end = await far.end()
        assert isinstance(end, StreamReset)
        assert str(end) == "connection reset by peer"

    @pytest_twisted.ensureDeferred
    async def test_halves(self, world: Remotes) -> None:
        near, far = await pair(world, HalfRecorder)
        near.transport.write(b"question")
        near.transport.loseWriteConnection()
        await near.write_ended.addTimeout(PATIENCE, reactor)
        await far.read_ended.addTimeout(PATIENCE, reactor)
        assert far.data == b"question"
        far.transport.write(b"answer")
        far.transport.loseConnection()
        assert await near.heard(6) == b"answer"
        near.transport.loseConnection()
        assert isinstance(await near.end(), ConnectionDone)
        assert isinstance(await far.end(), ConnectionDone)

    @pytest_twisted.ensureDeferred
    async def test_a_program_that_dies_ends_its_streams(self, world: Remotes) -> None:
        _near, far = await pair(world)
        world.clients[0].close()
        assert isinstance(await far.end(), ConnectionDone)

    @pytest_twisted.ensureDeferred
    async def test_a_failing_protocol_costs_its_stream(
        self, world: Remotes, nothing_left_behind: list[Any]
    ) -> None:
        near, far = await pair(world)
        far.dataReceived = lambda data: 1 / 0
        near.transport.write(b"x")
        assert isinstance(await near.end(), StreamReset)
        assert isinstance(await far.end(), ConnectionAborted)
        nothing_left_behind.clear()

    @pytest_twisted.ensureDeferred
    async def test_idleness_is_told(self, world: Remotes) -> None:
        near, _far = await pair(world)
        idle: Deferred[None] = Deferred()
        world.clients[0].on_idle = lambda: idle.callback(None)
        near.transport.loseConnection()
        await idle.addTimeout(PATIENCE, reactor)


class TestPace:
    @pytest_twisted.ensureDeferred
    async def test_a_paused_reader_pauses_the_writers_producer(self, world: Remotes) -> None:
        near, far = await pair(world)
        far.transport.pauseProducing()
        producer = Producer(near.transport)
        near.transport.registerProducer(producer, True)
        producer.resumeProducing()
        await producer.paused.addTimeout(PATIENCE, reactor)
        await pause(0.05)
        stuck = producer.written
        assert stuck < 16 << 20
        assert far.data == b""
        far.transport.resumeProducing()
        await far.heard(stuck)
        producer.stop_at = producer.written
        near.transport.unregisterProducer()
        near.transport.loseConnection()
        assert isinstance(await far.end(), ConnectionDone)
        assert len(far.data) == producer.written

    @pytest_twisted.ensureDeferred
    async def test_one_stuck_stream_leaves_the_others_alone(self, world: Remotes) -> None:
        """Over one socket: neither its full window nor its unread data hold anything up."""
        a, b, server = await world.connect("a"), await world.connect("b"), Keep()
        await b.listen(5000, server)
        stuck: Any = await a.dial(2, 5000, Keep())
        far_stuck = server.made[0] if server.made else await server.wait()
        await far_stuck.made
        far_stuck.transport.pauseProducing()
        stuck.transport.write(bytes(8 << 20))
        free: Any = await a.dial(2, 5000, Keep())
        await pause(0.02)
        far_free = server.made[1]
        for _ in range(3):
            free.transport.write(bytes(100_000))
        await far_free.heard(300_000)
        assert (await a.health())["status"] == "ok"
        far_stuck.transport.resumeProducing()
        await far_stuck.heard(8 << 20)

    @pytest_twisted.ensureDeferred
    async def test_pull_producers(self, world: Remotes) -> None:
        near, far = await pair(world)
        near.transport.registerProducer(Pulled(near.transport, 200), False)
        await far.heard(200 * 10_000)
        near.transport.loseConnection()
        assert isinstance(await far.end(), ConnectionDone)

    @pytest_twisted.ensureDeferred
    async def test_two_producers_are_one_too_many(self, world: Remotes) -> None:
        near, _far = await pair(world)
        near.transport.registerProducer(Producer(near.transport), True)
        with pytest.raises(RuntimeError):
            near.transport.registerProducer(Producer(near.transport), True)

    @pytest_twisted.ensureDeferred
    async def test_segments_keep_their_boundaries(self, world: Remotes) -> None:
        near, far = await pair(world, SegmentRecorder)
        for size in (8, 100, 4096, 1):
            near.transport.write(bytes(size))
        await far.heard(4205)
        assert [len(chunk) for chunk in far.chunks] == [8, 100, 4096, 1]

    @pytest_twisted.ensureDeferred
    async def test_a_paused_protocol_hears_the_end_when_it_reads_on(self, world: Remotes) -> None:
        near, far = await pair(world)
        far.transport.pauseProducing()
        near.transport.write(b"last words")
        near.transport.loseConnection()
        await pause(0.05)
        assert not far.ended.called
        far.transport.resumeProducing()
        assert isinstance(await far.end(), ConnectionDone)
        assert far.data == b"last words"

    @pytest_twisted.ensureDeferred
    async def test_an_echo_of_megabytes(self, world: Remotes) -> None:
        a, b = await world.connect("a"), await world.connect("b")
        await b.listen(5000, Factory.forProtocol(Echo))
        near: Any = await a.dial(2, 5000, Keep())
        data = os.urandom(4 << 20)
        for start in range(0, len(data), 1 << 20):
            near.transport.write(data[start : start + (1 << 20)])
        assert await near.heard(len(data)) == data
        near.transport.loseConnection()
        await near.end()


class Producer:
    """Writes until it is paused, and again when it is resumed."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self.written = 0
        self.stop_at = 64 << 20
        self.paused: Deferred[None] = Deferred()
        self.going = False

    def resumeProducing(self) -> None:
        self.going = True
        while self.going and self.written < self.stop_at:
            self.written += 10_000
            self.transport.write(bytes(10_000))

    def pauseProducing(self) -> None:
        self.going = False
        if not self.paused.called:
            self.paused.callback(None)

    def stopProducing(self) -> None:
        self.going = False


class Pulled:
    """Writes one piece each time it is asked to."""

    def __init__(self, transport: Any, pieces: int) -> None:
        self.transport, self.pieces = transport, pieces

    def resumeProducing(self) -> None:
        if self.pieces:
            self.pieces -= 1
            self.transport.write(bytes(10_000))
        else:
            self.transport.unregisterProducer()

    def stopProducing(self) -> None: ...


def test_closing_before_connecting_does_nothing() -> None:
    RemoteNode(reactor).close()
