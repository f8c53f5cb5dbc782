"""Trust over the registry's real client and server on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import deferLater

from pilot.crypto.identity import Identity, verify
from pilot.errors import ConnectionFailed
from pilot.registry.client import RegistryClient
from pilot.registry.directory import Directory
from pilot.registry.server import RegistryFactory
from pilot.registry.store import MemoryStore
from pilot.trust.service import TrustService
from pilot.trust.store import TrustStore

reactor: Any = _reactor


class Loopback:
    """A registry and two private nodes that can only reach each other once it says where."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        known = Directory(reactor.seconds(), verify)
        self.registry = RegistryFactory(reactor, known, MemoryStore())
        self.port = reactor.listenTCP(0, self.registry, interface="127.0.0.1")
        self.registry.port = self.port
        self.registry.start()
        self.clients: dict[int, RegistryClient] = {}
        self.nodes: dict[int, TrustService] = {}

    async def node(self, seed: int) -> TrustService:
        identity = Identity.from_seed(bytes([seed]) * 32)
        address = f"127.0.0.1:{self.port.getHost().port}"
        client = RegistryClient(reactor, address, identity=identity)
        await client.register("127.0.0.1:4000")
        node_id = client.node_id
        assert node_id is not None
        self.clients[node_id] = client

        def send(target: int, data: bytes) -> Deferred[None]:
            return Deferred.fromCoroutine(self._carry(node_id, target, data))

        trust = self.nodes[node_id] = TrustService(
            reactor,
            TrustStore(self.directory / f"trust-{seed}.json"),
            identity,
            node_id,
            client,
            send_message=send,
        )
        trust.notify_supported = client.notified
        client.on_notify(trust.notified)
        trust.start()
        return trust

    async def _carry(self, source: int, target: int, data: bytes) -> None:
        await self.clients[source].resolve(target)
        if not self.nodes[target].allows(source, 444):
            await fail(ConnectionFailed("dial timeout"))
        self.nodes[target].message_received(source, data)

    async def stop(self) -> None:
        for trust in self.nodes.values():
            trust.stop()
        for client in self.clients.values():
            client.close()
        await self.port.stopListening()
        await self.registry.stop()
        await deferLater(reactor, 0.02)  # for the connections to notice


@pytest_twisted.async_yield_fixture
async def loopback(tmp_path: Path) -> AsyncIterator[Loopback]:
    net = Loopback(tmp_path)
    yield net
    await net.stop()


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await deferLater(reactor, 0.01)
    raise AssertionError("not in time")


@pytest_twisted.ensureDeferred
async def test_two_private_nodes_from_the_request_to_the_revocation(loopback: Loopback) -> None:
    """Our registry notifies, so every step is seconds shorter than any poll."""
    a, b = await loopback.node(1), await loopback.node(2)
    assert a.notify_supported
    assert (await a.handshake(b.node_id, "hi <there>"))["status"] == "sent"
    await until(lambda: len(b.pending()) == 1)
    assert b.pending()[0]["justification"] == "hi <there>"
    await b.approve(a.node_id)
    await until(lambda: a.is_trusted(b.node_id))
    pair = await loopback.clients[a.node_id].check_trust(b.node_id)
    assert pair["trusted"] is True
    await a.untrust(b.node_id)
    await until(lambda: not b.is_trusted(a.node_id))
    pair = await loopback.clients[b.node_id].check_trust(a.node_id)
    assert pair["trusted"] is False


@pytest_twisted.ensureDeferred
async def test_a_revocation_reaches_a_peer_that_cannot_be_dialled(
    loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = await loopback.node(1), await loopback.node(2)
    await a.handshake(b.node_id)
    await until(lambda: len(b.pending()) == 1)
    await b.approve(a.node_id)
    await until(lambda: a.is_trusted(b.node_id))

    async def unreachable(source: int, target: int, data: bytes) -> None:
        raise ConnectionFailed("dial timeout")

    loopback._carry = unreachable  # type: ignore[method-assign]
    monkeypatch.setattr("pilot.trust.incoming.DOUBT_DELAY", 0.05)
    await a.untrust(b.node_id)
    await until(lambda: not b.is_trusted(a.node_id))
