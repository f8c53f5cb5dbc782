"""A client of the manhole in this process, on conch's client side."""

from __future__ import annotations

import struct
from typing import Any

from twisted.conch.ssh.channel import SSHChannel
from twisted.conch.ssh.common import NS
from twisted.conch.ssh.connection import SSHConnection
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.session import packRequest_pty_req
from twisted.conch.ssh.transport import SSHClientTransport
from twisted.conch.ssh.userauth import SSHUserAuthClient
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

#: Seconds that anything may take.
PATIENCE = 15


class SSHClient(SSHClientTransport):
    """
    One connection.

    @ivar ready: Deferred of None once it got in; it fails if it does not.
    @ivar ended: Deferred of None at the end.
    @ivar host_key: the server's, as bytes.
    @ivar said: why the server hung up.
    """

    def __init__(self, key: Key | None, password: bytes = b"", user: bytes = b"operator") -> None:
        self.ready: Deferred[None] = Deferred()
        self.ended: Deferred[None] = Deferred()
        self.host_key = b""
        self.said = b""
        self.tried: list[bytes] = []
        self._key, self._password, self._user = key, password, user

    def verifyHostKey(self, pubKey: bytes, fingerprint: str) -> Deferred[bool]:
        self.host_key = pubKey
        return succeed(True)

    def connectionSecure(self) -> None:
        self.connection = _Connection(self)
        self.requestService(_Auth(self._user, self.connection, self._key, self._password, self))

    def receiveError(self, reasonCode: int, description: bytes) -> None:
        self.said = description

    def connectionLost(self, reason: Any = None) -> None:
        super().connectionLost(reason)
        if not self.ready.called:
            self.ready.errback(Failure(PermissionError(self.said.decode())))
        self.ended.callback(None)

    async def open(self, request: str, command: bytes = b"", *, pty: bool = False) -> Channel:
        """Open a session with C{shell} or C{exec}."""
        channel = Channel(request, command, pty)
        self.connection.openChannel(channel)
        await bounded(channel.began)
        return channel

    async def run(self, command: str) -> tuple[str, int | None]:
        """@return: what a command says, and its exit status."""
        channel = await self.open("exec", command.encode())
        await bounded(channel.closed_)
        return channel.text, channel.status

    async def leave(self) -> None:
        """Hang up."""
        self.transport.loseConnection()  # type: ignore[union-attr]
        await bounded(self.ended)


class _Auth(SSHUserAuthClient):
    def __init__(
        self, user: bytes, connection: Any, key: Key | None, password: bytes, client: SSHClient
    ) -> None:
        super().__init__(user, connection)
        self._key, self._password, self._client = key, password, client

    def tryAuth(self, kind: bytes) -> Any:
        self._client.tried.append(kind)
        return super().tryAuth(kind)

    def getPublicKey(self) -> Key | None:
        return self._key.public() if self._key and not self.lastPublicKey else None

    def getPrivateKey(self) -> Deferred[Key]:
        return succeed(self._key) if self._key else fail(KeyError())

    def getPassword(self, prompt: bytes | None = None) -> Deferred[bytes] | None:
        return succeed(self._password) if self._password else None


class _Connection(SSHConnection):
    def __init__(self, client: SSHClient) -> None:
        super().__init__()
        self._client = client

    def serviceStarted(self) -> None:
        super().serviceStarted()
        self._client.ready.callback(None)


class Channel(SSHChannel):
    """One session; C{text} is what came."""

    name = b"session"

    def __init__(self, request: str, command: bytes, pty: bool) -> None:
        super().__init__()
        self.began: Deferred[None] = Deferred()
        self.closed_: Deferred[None] = Deferred()
        self.status: int | None = None
        self.received = b""
        self._request, self._command, self._pty = request.encode(), command, pty

    @property
    def text(self) -> str:
        """Everything that came so far."""
        return self.received.decode("utf-8", "replace")

    def channelOpen(self, data: bytes) -> None:
        if self._pty:
            asked = packRequest_pty_req(b"xterm", (24, 80, 0, 0), b"")
            self.conn.sendRequest(self, b"pty-req", asked, wantReply=True)
        extra = NS(self._command) if self._command else b""
        began = self.conn.sendRequest(self, self._request, extra, wantReply=True)
        began.addCallbacks(lambda _: self.began.callback(None), self.began.errback)

    def openFailed(self, reason: Any) -> None:
        self.began.errback(Failure(PermissionError(str(reason))))

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def request_exit_status(self, data: bytes) -> int:
        (self.status,) = struct.unpack(">L", data)
        return 1

    def closed(self) -> None:
        self.closed_.callback(None)

    def type(self, text: str) -> None:
        """Type a line."""
        self.write(text.encode() + b"\r")

    async def until(self, text: str, after: int = 0) -> str:
        """@return: what came, once C{text} is in what came C{after} so many bytes."""
        for _ in range(PATIENCE * 100):
            if text in self.received[after:].decode("utf-8", "replace"):
                return self.received[after:].decode("utf-8", "replace")
            await pause()
        raise AssertionError(f"no {text!r} in {self.text[after:]!r}")

    async def ask(self, line: str) -> str:
        """Type a line.  @return: what is printed up to the next prompt."""
        at = len(self.received)
        self.type(line)
        await self.until("\n", at)
        await self.until(">>> ", at + len(line))
        printed = self.received[at:].decode("utf-8", "replace").partition("\n")[2]
        return printed.replace("\r", "").removesuffix(">>> ")


async def connect(port: int, key: Key | None, **more: Any) -> SSHClient:
    """@return: a client that got in.  @raise PermissionError: it did not."""
    from twisted.internet import reactor

    point = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
    client = await connectProtocol(point, SSHClient(key, **more))
    await bounded(client.ready)
    return client


async def bounded(deferred: Deferred[Any]) -> Any:
    """Wait, but not for ever."""
    from twisted.internet import reactor

    return await deferred.addTimeout(PATIENCE, reactor)  # type: ignore[arg-type]


async def pause(seconds: float = 0.01) -> None:
    """Let others have a turn."""
    from twisted.internet import reactor

    await deferLater(reactor, seconds)  # type: ignore[arg-type]
