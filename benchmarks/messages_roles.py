"""The parts of C{messages.py}, each a process: the rendezvous, daemons, a file over plain TLS."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path
from typing import Any

from stream_roles import tell
from twisted.internet import ssl
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import SSL4ServerEndpoint, TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import react
from twisted.protocols.basic import FileSender
from twisted.python.failure import Failure

from pilot.daemon.service import make_service
from pilot.daemon.settings import settle
from pilot.registry.certificate import make_certificate
from pilot.registry.rendezvous import Rendezvous, RendezvousSettings

_LENGTH = struct.Struct(">Q")
_STORED = b"stored"
_PIECE = 256 * 1024


def play(role: str, facts: dict[str, Any]) -> None:
    """Play C{role} until told to stop; the TLS sender ends when its file is stored."""
    react(_play, (role, facts))


async def _play(reactor: Any, role: str, facts: dict[str, Any]) -> None:
    stopped: Deferred[None] = Deferred()
    tell(await _ROLES[role](reactor, facts))
    if role != "tls-sender":
        await stopped


async def _rendezvous(reactor: Any, facts: dict[str, Any]) -> dict[str, Any]:
    service = Rendezvous(
        RendezvousSettings(registry_addr="127.0.0.1:0", beacon_addr="127.0.0.1:0"), reactor
    )
    service.startService()
    await service.started
    return {
        "registry": f"127.0.0.1:{service.registry_port}",
        "beacon": f"127.0.0.1:{service.beacon_port}",
    }


async def _daemon(reactor: Any, facts: dict[str, Any]) -> dict[str, Any]:
    """A whole daemon, put together as C{pilot-daemon} does; its environment names its home."""
    given = {"listen": "127.0.0.1:0", "public": True, "email": f"{facts['name']}@example.org"}
    service = make_service(settle(given, os.environ), reactor)
    reactor.addSystemEventTrigger(
        "before", "shutdown", lambda: Deferred.fromCoroutine(service.stopService())
    )
    service.startService()
    await service.started
    return {"address": str(service.node.own_address())}


class _Receiver(Protocol):
    """Writes one file, and answers when it is on disk, content and name."""

    _file: Any = None
    _left = 0

    def __init__(self, path: Path) -> None:
        self._path = path
        self._head = b""

    def dataReceived(self, data: bytes) -> None:
        if self._file is None:
            self._head += data
            if len(self._head) < _LENGTH.size:
                return
            (self._left,) = _LENGTH.unpack_from(self._head)
            self._file, data = self._path.open("wb", buffering=0), self._head[_LENGTH.size :]
        self._file.write(data)
        self._left -= len(data)
        if not self._left:
            os.fsync(self._file.fileno())
            _sync_directory(self._path.parent)
            assert self.transport is not None
            self.transport.write(_STORED)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._file is not None:
            self._file.close()


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def _tls_receiver(reactor: Any, facts: dict[str, Any]) -> dict[str, Any]:
    options, _ = make_certificate(time.time())
    factory = Factory.forProtocol(lambda: _Receiver(Path(facts["path"])))
    endpoint = SSL4ServerEndpoint(reactor, 0, options, interface="127.0.0.1")
    port = await endpoint.listen(factory)
    return {"port": port.getHost().port}


class _Sender(Protocol):
    """@ivar stored: Deferred of None when the receiver has answered."""

    def __init__(self) -> None:
        self.stored: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.stored.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.stored.called:
            self.stored.errback(reason)


async def _tls_sender(reactor: Any, facts: dict[str, Any]) -> dict[str, Any]:
    """Send the file.  Whom the certificate belongs to is not looked at: it is made for this run."""
    began = time.perf_counter()
    tcp = TCP4ClientEndpoint(reactor, "127.0.0.1", facts["port"])
    sender = await wrapClientTLS(ssl.CertificateOptions(), tcp).connect(
        Factory.forProtocol(_Sender)
    )
    path = Path(facts["path"])
    with path.open("rb") as file:
        sender.transport.write(_LENGTH.pack(path.stat().st_size))
        producer = FileSender()
        producer.CHUNK_SIZE = _PIECE
        await producer.beginFileTransfer(file, sender.transport)
        await sender.stored
    return {"seconds": time.perf_counter() - began}


_ROLES = {
    "rendezvous": _rendezvous,
    "daemon": _daemon,
    "tls-receiver": _tls_receiver,
    "tls-sender": _tls_sender,
}
