"""A machine's own rendezvous: the first daemon starts it, the others join."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.protocol import Factory, Protocol

from pilot.daemon.loopback import LoopbackRendezvous, default_store
from pilot.errors import AlreadyExists

reactor: Any = _reactor


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def places() -> tuple[str, str]:
    return (
        f"127.0.0.1:{free_port(socket.SOCK_STREAM)}",
        f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}",
    )


@pytest_twisted.ensureDeferred
async def test_the_first_starts_it_and_the_second_joins() -> None:
    registry, beacon = places()
    first = LoopbackRendezvous(reactor, registry, beacon)
    second = LoopbackRendezvous(reactor, registry, beacon)
    await first.ensure()
    await second.ensure()
    assert first.hosted is not None and second.hosted is None
    assert default_store().exists()
    await first.stop()
    await second.ensure()
    assert second.hosted is not None
    await second.stop()


@pytest_twisted.ensureDeferred
async def test_something_else_on_the_port_is_not_taken_for_a_registry(tmp_path: Path) -> None:
    class SaysHello(Protocol):
        def connectionMade(self) -> None:
            assert self.transport is not None
            self.transport.write(b"220 mail.example.org ESMTP\r\n")

    port = reactor.listenTCP(0, Factory.forProtocol(SaysHello), interface="127.0.0.1")
    registry = f"127.0.0.1:{port.getHost().port}"
    with pytest.raises(AlreadyExists, match="no Pilot registry"):
        await LoopbackRendezvous(reactor, registry, places()[1], tmp_path / "store").ensure()
    await port.stopListening()
