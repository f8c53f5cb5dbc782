"""A registry without network or disk, and clients that know how to ask."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from pilot.crypto.identity import Identity, verify
from pilot.registry import dispatch
from pilot.registry.callers import Caller
from pilot.registry.connection import ConnectionLimits, RegistryConnection
from pilot.registry.directory import Directory
from pilot.registry.limits import DEFAULT_LIMITS, Limits
from pilot.registry.records import Change, Table
from pilot.registry.refusal import Refusal
from pilot.registry.server import RegistryFactory
from pilot.registry.store import MemoryStore, StoreFailed
from pilot.wire.registry import SIGNED_FIELDS, FrameDecoder, encode_frame, signing_text

START = 1_795_171_048.0
ADMIN = "admin-secret"

Answer = dict[str, Any]


def identity(number: int) -> Identity:
    """@return: always the same identity for the same number."""
    return Identity.from_seed(number.to_bytes(32, "big"))


def key_text(who: Identity) -> str:
    return base64.b64encode(who.public_key).decode()


def sign(who: Identity, request: Answer) -> Answer:
    """@return: the request with the signature that its type asks for."""
    names = SIGNED_FIELDS[request["type"]][1]
    signed = signing_text(request["type"], *(request[name] for name in names))
    return {**request, "signature": who.sign_text(signed)}


class Desk:
    """
    A directory, asked directly.

    @ivar now: Unix seconds; tests move it.
    """

    def __init__(
        self,
        limits: Limits = DEFAULT_LIMITS,
        *,
        admin_token: str = ADMIN,
        rows: Sequence[tuple[Table, Any, bytes]] = (),
        verify: Callable[[bytes, bytes, bytes], bool] = verify,
    ) -> None:
        self.now = START
        self.directory = Directory(
            self.now, verify, admin_token=admin_token, limits=limits, rows=rows
        )
        self.kept: dict[tuple[Table, Any], bytes] = {(t, k): v for t, k, v in rows}

    def caller(self, host: str = "198.51.100.7", port: int = 40000) -> Caller:
        """@return: a new connection."""
        return Caller(host, port)

    def ask(self, request: Answer, caller: Caller | None = None) -> Answer:
        """@raise Refusal: with the unmasked text."""
        caller = caller or self.caller()
        try:
            answer = dispatch.answer(self.directory, request, caller, self.now)
        finally:
            self.save()
        return json.loads(json.dumps(answer))  # as it travels: tuples are lists

    def refusal(self, request: Answer, caller: Caller | None = None) -> str:
        """@return: the unmasked text of the error that a request gets."""
        try:
            answer = self.ask(request, caller)
        except Refusal as error:
            return error.message
        raise AssertionError(f"granted: {answer}")

    def save(self) -> None:
        for table, key, value in self.directory.drain():
            if value is None:
                self.kept.pop((table, key), None)
            else:
                self.kept[table, key] = value

    def restarted(self, limits: Limits | None = None) -> Desk:
        """@return: a registry that has only what this one saved."""
        again = Desk(
            limits or self.directory.limits,
            rows=[(table, key, value) for (table, key), value in self.kept.items()],
        )
        again.now = self.now
        again.directory.sweep(self.now)
        again.save()
        return again

    def register(self, number: int, caller: Caller | None = None, **fields: Any) -> int:
        """@return: the node id that identity number C{number} has."""
        request = {"type": "register", "public_key": key_text(identity(number)), **fields}
        node_id = self.ask(request, caller)["node_id"]
        assert isinstance(node_id, int)
        return node_id

    def signed(self, number: int, kind: str, caller: Caller | None = None, **fields: Any) -> Answer:
        """Ask something signed by identity number C{number}."""
        return self.ask(sign(identity(number), {"type": kind, **fields}), caller)

    def sweep(self, seconds: float) -> None:
        """Let time pass, with the sweeps that belong to it."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + self.directory.limits.sweep_every)
            self.directory.sweep(self.now)
        self.save()


class SlowStore(MemoryStore):
    """
    A store whose commits are done when the test says so.

    @ivar commits: those that wait: changes and the Deferred to fire.
    """

    def __init__(self) -> None:
        self.commits: list[tuple[list[Change], Deferred[None]]] = []

    def commit(self, changes: Sequence[Change]) -> Deferred[None]:
        waiter: Deferred[None] = Deferred()
        self.commits.append((list(changes), waiter))
        return waiter

    def finish(self) -> None:
        """The oldest commit is done."""
        self.commits.pop(0)[1].callback(None)

    def fail(self) -> None:
        """The oldest commit failed."""
        self.commits.pop(0)[1].errback(StoreFailed("disk full"))

    def close(self) -> Deferred[None]:
        while self.commits:
            self.finish()
        return succeed(None)


class Server:
    """A whole server over transports in memory."""

    def __init__(
        self,
        *,
        admin_token: str = ADMIN,
        store: MemoryStore | None = None,
        limits: Limits = DEFAULT_LIMITS,
        connection_limits: ConnectionLimits | None = None,
    ) -> None:
        self.clock = Clock()
        self.clock.advance(START)
        self.directory = Directory(START, verify, admin_token=admin_token, limits=limits)
        self.directory.drain()
        self.factory = RegistryFactory(
            self.clock,
            self.directory,
            store or MemoryStore(),
            connection_limits or ConnectionLimits(),
        )

    def connect(self, host: str = "127.0.0.1", port: int = 40980) -> Client:
        """@return: a new connection."""
        return Client(self.factory, host, port)


class Client:
    """One connection to a L{Server}."""

    def __init__(self, factory: RegistryFactory, host: str, port: int) -> None:
        self.transport = _Transport(host, port)
        self.protocol: RegistryConnection = factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)
        self._decoder = FrameDecoder()

    def send(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def received(self) -> bytes:
        """@return: bytes that came since the last time."""
        data: bytes = self.transport.value()
        self.transport.clear()
        return data

    def answers(self) -> list[Answer]:
        """@return: answers that came since the last time."""
        return self._decoder.feed(self.received())

    def ask(self, request: Answer) -> Answer:
        """@return: the one answer."""
        self.send(encode_frame(request))
        (answer,) = self.answers()
        return answer

    @property
    def closed(self) -> bool:
        return bool(self.transport.disconnecting or self.transport.aborted)

    def hang_up(self, reason: type[Exception] = ConnectionDone) -> None:
        """The client goes."""
        self.protocol.connectionLost(Failure(reason()))


class _Transport(StringTransport):
    """Knows where the client is, and whether it was cut off."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", host, port))
        self.aborted = False

    def abortConnection(self) -> None:
        self.aborted = True
