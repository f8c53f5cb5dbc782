"""The same node behind a daemon that does not know our extensions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.error import ConnectionAborted, ConnectionDone

from pilot.address import Address
from pilot.daemon import ipc
from pilot.daemon.ipc_client import IpcClient
from pilot.errors import ConnectionFailed
from pilot.wire.ipc_extensions import Extension
from tests.client.remoteworld import HalfRecorder, Keep, Recorder, Remotes, pause


class ClassicClient(IpcClient):
    """Answers our extensions as the reference does."""

    def __init__(self, *what: Any) -> None:
        super().__init__(*what)
        for command in Extension:
            self._commands.pop(command, None)


@pytest_twisted.async_yield_fixture
async def world(tmp_path: Path, monkeypatch: Any) -> AsyncIterator[Remotes]:
    monkeypatch.setattr(ipc, "IpcClient", ClassicClient)
    remotes = Remotes(tmp_path)
    remotes.start("a")
    remotes.start("b")
    yield remotes
    await remotes.close()


async def pair(world: Remotes, kind: type[Recorder] = Recorder) -> tuple[Any, Any]:
    a, b = await world.connect("a"), await world.connect("b")
    assert not a.extended and a.address == Address(0, 1)
    server = Keep(kind)
    await b.listen(5000, server)
    near = await a.dial(2, 5000, Keep(kind))
    return near, await server.wait()


@pytest_twisted.ensureDeferred
async def test_data_and_a_clean_end(world: Remotes) -> None:
    near, far = await pair(world)
    near.transport.write(bytes(3_000_000))
    near.transport.loseConnection()
    await far.heard(3_000_000)
    assert isinstance(await far.end(), ConnectionDone)
    assert isinstance(await near.end(), ConnectionDone)


@pytest_twisted.ensureDeferred
async def test_an_abort_can_only_close(world: Remotes) -> None:
    near, far = await pair(world)
    near.transport.abortConnection()
    assert isinstance(await near.end(), ConnectionAborted)
    assert isinstance(await far.end(), ConnectionDone)


@pytest_twisted.ensureDeferred
async def test_half_an_end_waits_for_the_other_half(world: Remotes) -> None:
    """A Close would cut off the answer."""
    near, far = await pair(world, HalfRecorder)
    near.transport.write(b"question")
    near.transport.loseWriteConnection()
    await far.heard(8)
    far.transport.write(b"answer")
    assert await near.heard(6) == b"answer"
    near.transport.loseConnection()
    assert isinstance(await near.end(), ConnectionDone)
    assert isinstance(await far.end(), ConnectionDone)


@pytest_twisted.ensureDeferred
async def test_what_is_not_read_is_not_hoarded(world: Remotes) -> None:
    near, far = await pair(world)
    far.transport.pauseProducing()
    near.transport.write(bytes(8 << 20))
    await pause(0.1)
    assert far.transport._held_bytes < 1 << 20
    far.transport.resumeProducing()
    await far.heard(8 << 20)


@pytest_twisted.ensureDeferred
async def test_a_closed_port_turns_streams_away(world: Remotes) -> None:
    """There is no command that frees a port: what still comes is closed."""
    a, b = await world.connect("a"), await world.connect("b")
    port = await b.listen(5000, Keep())
    await port.stopListening()
    near: Any = await a.dial(2, 5000, Keep())
    assert isinstance(await near.end(), ConnectionDone)


@pytest_twisted.ensureDeferred
async def test_datagrams_need_no_asking(world: Remotes) -> None:
    a, b = await world.connect("a"), await world.connect("b")
    heard: list[bytes] = []
    stop = b.add_datagram_listener(lambda source, port, data: heard.append(data))
    await a.send_datagram(2, 9000, b"hi")
    await pause(0.02)
    stop()
    assert heard == [b"hi"]


@pytest_twisted.ensureDeferred
async def test_what_only_our_daemon_can_do_is_said(world: Remotes) -> None:
    """At once, to whoever asks; messages and events need nothing of the daemon."""
    a = await world.connect("a")
    for ask in (
        lambda: a.claim_messages("x", lambda *_: True),
        lambda: a.watch_events("x", lambda *_: None),
        lambda: a.announce("x", {}),
    ):
        with pytest.raises(ConnectionFailed, match="no such command"):
            ask()
    for asked in (a.peers, a.tags, lambda: a.sign("x", b""), lambda: a.tasks({})):
        with pytest.raises(ConnectionFailed, match="no such command"):
            await asked()
