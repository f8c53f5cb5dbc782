"""Mail from node to node: over streams in memory, and with real threads and a real disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater

from pilot.services.dataexchange import DataExchangeFactory, ExchangeLimits
from pilot.services.mailbox import Mailbox
from pilot.services.workers import Stopped, Workers
from pilot.wire.dataexchange import Body, Frame, FrameReader, encode_file_head
from tests.services.mail import HandWorkers
from tests.simulation.network import Faults
from tests.simulation.nodes import RecorderFactory, World


@pytest.fixture(params=[None, Faults(loss=0.05, duplicate=0.05)], ids=["clean", "lossy"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, seed=7, faults=request.param)
    yield world
    world.close()


def test_over_the_overlay(world: World, tmp_path: Path) -> None:
    """Messages, a file and a refusal on one stream; the sender is who the tunnel says it is."""
    alice, bob = world.start("alice"), world.start("bob")
    world.introduce(alice, bob)
    workers: Any = HandWorkers()
    events: list[tuple[str, dict[str, Any]]] = []
    factory = DataExchangeFactory(
        Mailbox(tmp_path / "bob", workers), world.internet, lambda *event: events.append(event)
    )
    world.wait(bob.listen(1001, factory))
    stream = world.wait(alice.dial(2, 1001, RecorderFactory()))
    content = bytes(range(256)) * 4000
    stream.transport.write(Frame(1, b"hello").encode())
    stream.transport.write(encode_file_head(b"large.bin", len(content)) + content)
    stream.transport.write(Frame(3, b"{}").encode())
    reader = FrameReader()
    answers: list[bytes] = []

    def complete() -> bool:
        reader.feed(stream.data)
        stream.data = b""
        while (item := reader.next()) is not None:
            if isinstance(item, Body):
                answers.append(item.data)
        return len(answers) == 3

    world.internet.until(complete, 300)
    assert answers == [b"ACK TEXT 5 bytes", b"ACK FILE 1024000 bytes", b"ACK JSON 2 bytes"]
    (file,) = (tmp_path / "bob" / "received").iterdir()
    assert file.read_bytes() == content
    assert events[0] == (
        "message.received",
        {"type": "TEXT", "from": "0:0000.0000.0001", "size": 5},
    )
    # A name that is refused ends the stream, and only that.
    stream.transport.write(bytes.fromhex("000000040000000500022e2e78"))
    world.internet.until(lambda: stream.ended, 60)
    again = world.wait(alice.dial(2, 1001, RecorderFactory()))
    again.transport.write(Frame(1, b"fire and forget").encode())
    again.transport.loseConnection()
    world.internet.until(lambda: len(events) == 4, 60)


class Sender(Protocol):
    """Collects answers."""

    def __init__(self, wanted: int) -> None:
        self.done: Deferred[list[bytes]] = Deferred()
        self._reader = FrameReader()
        self._answers: list[bytes] = []
        self._wanted = wanted

    def dataReceived(self, data: bytes) -> None:
        self._reader.feed(data)
        while (item := self._reader.next()) is not None:
            if isinstance(item, Body):
                self._answers.append(item.data)
        if len(self._answers) == self._wanted:
            self.done.callback(self._answers)


@pytest_twisted.ensureDeferred
async def test_with_threads_and_a_disk(tmp_path: Path) -> None:
    """The service does not care what carries it; here it is TCP."""
    clock: Any = reactor
    mailbox = Mailbox(tmp_path, Workers(reactor, "mail"))
    mailbox.startService()
    factory = DataExchangeFactory(mailbox, clock, limits=ExchangeLimits(pending_bytes=50_000))
    port = await TCP4ServerEndpoint(clock, 0, interface="127.0.0.1").listen(factory)
    senders = [
        await connectProtocol(
            TCP4ClientEndpoint(clock, "127.0.0.1", port.getHost().port), Sender(61)
        )
        for _ in range(4)
    ]
    content = bytes(1_000_000)
    for sender in senders:
        for number in range(30):
            sender.transport.write(Frame(1, b"%d" % number).encode())
        sender.transport.write(Frame(4, content, b"f").encode())
        for number in range(30, 60):
            sender.transport.write(Frame(2, bytes(70_000) + b"%d" % number).encode())
    for sender in senders:
        answers = await sender.done.addTimeout(60, clock)
        assert all(answer.startswith(b"ACK") for answer in answers)
        sender.transport.loseConnection()
    assert len(list((tmp_path / "inbox").iterdir())) == 240
    files = list((tmp_path / "received").iterdir())
    assert len(files) == 4 and {file.read_bytes() for file in files} == {content}
    while factory.connections:
        await deferLater(clock, 0.005)
    await port.stopListening()
    await mailbox.stopService()
    assert not list((tmp_path / "spool").iterdir())
    with pytest.raises(Stopped):
        await Workers(reactor, "x").stop().addCallback(lambda _: mailbox._workers.run(len, ""))


@pytest_twisted.ensureDeferred
async def test_stopping_waits_for_jobs() -> None:
    import threading

    clock: Any = reactor
    workers, go = Workers(reactor, "mail"), threading.Event()
    results: list[bool] = []
    workers.run(go.wait, 10).addCallback(results.append)
    stopped = workers.stop()
    clock.callLater(0.01, go.set)
    await stopped.addTimeout(10, clock)
    assert results == [True]
