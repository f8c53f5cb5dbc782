"""The manhole's SSH: who gets in, and what a connection may ask for.

A connection may open sessions, and nothing else: no forwarding, no files, no agent.  Whoever does
not prove in time that he has one of the keys is cut off.

@see: the page I{Manhole}.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from struct import pack
from typing import Any

from twisted.conch.avatar import ConchUser
from twisted.conch.error import ConchError, IgnoreAuthentication
from twisted.conch.interfaces import IConchUser, ISession
from twisted.conch.ssh.connection import OPEN_RESOURCE_SHORTAGE, SSHConnection
from twisted.conch.ssh.factory import SSHFactory
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.session import SSHSession
from twisted.conch.ssh.transport import DISCONNECT_BY_APPLICATION, SSHServerTransport
from twisted.conch.ssh.userauth import SSHUserAuthServer
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.components import registerAdapter
from twisted.python.failure import Failure
from zope.interface import implementer

from pilot.daemon.manhole_keys import AuthorizedKeys, KeyChecker
from pilot.daemon.manhole_shell import Command, Pipe, terminal

log = Logger()

#: Connections at once, those that have not proved anything included; and sessions of all of them.
MAX_CONNECTIONS, MAX_SESSIONS = 16, 8

#: Keys that a connection may try.
MAX_ATTEMPTS = 6

#: Seconds from its beginning in which a connection must have proved itself.
LOGIN_PATIENCE = 30.0

#: Names for one session.
MakeNames = Callable[[], dict[str, Any]]


class _ConchLog(Logger):
    """Conch tells its story under the name of whatever class extends it; this keeps it conch's."""

    def __get__(self, instance: object, owner: type | None = None) -> Logger:
        return self

    def failure(self, format: str, *args: Any, **fields: Any) -> None:
        """Log a failure; that a client was denied what it asked for is none."""
        denied = sys.exc_info()[1]
        if isinstance(denied, ConchError):
            self.info("{what}: {why}", what=format, why=str(denied))
        else:
            super().failure(format, *args, **fields)


_conch_log = _ConchLog(namespace="twisted.conch")


class ManholeFactory(SSHFactory):
    """
    Serves the manhole.

    @ivar counters: C{logins}; and refused: C{failed} attempts to get in, C{crowded} connections and
        sessions beyond the limits, C{malformed} connections, C{silent} ones that proved nothing.
    @ivar clock: seconds and timers.
    @ivar connections: those that are open.
    @ivar sessions: how many are.
    """

    noisy = False
    _log = _conch_log

    def __init__(
        self,
        clock: Any,
        key: Key,
        authorized: AuthorizedKeys,
        make_names: MakeNames,
        greeting: Callable[[], str],
    ) -> None:
        """@param key: the own key, private half included."""
        self.counters: Counter[str] = Counter()
        self.clock = clock
        self.connections: set[_Transport] = set()
        self.sessions = 0
        self.make_names = make_names
        self.greeting = greeting
        self.portal = Portal(_Realm(self), [KeyChecker(authorized)])
        self.publicKeys = {key.sshType(): key.public()}
        self.privateKeys = {key.sshType(): key}
        self.primes = None
        self.protocol = _Transport
        self.services = {b"ssh-userauth": _Login, b"ssh-connection": _Connection}
        self._empty: list[Deferred[None]] = []

    def buildProtocol(self, addr: Any) -> Any:
        """@return: a protocol, or None, which closes the connection."""
        if len(self.connections) >= MAX_CONNECTIONS:
            self.counters["crowded"] += 1
            return None
        return super().buildProtocol(addr)

    def forget(self, connection: _Transport) -> None:
        """C{connection} is over."""
        self.connections.discard(connection)
        if not self.connections:
            waiting, self._empty = self._empty, []
            for one in waiting:
                one.callback(None)

    def close(self, patience: float) -> Deferred[None]:
        """
        Say goodbye to everybody.

        @param patience: seconds; then the connections that are left are cut.
        """
        closed: Deferred[None] = Deferred()
        if not self.connections:
            closed.callback(None)
            return closed
        self._empty.append(closed)
        for connection in list(self.connections):
            connection.sendDisconnect(DISCONNECT_BY_APPLICATION, b"the daemon stops")
        cut = self.clock.callLater(patience, self._cut)

        def done(result: None) -> None:
            if cut.active():
                cut.cancel()

        return closed.addCallback(done)

    def _cut(self) -> None:
        for connection in list(self.connections):
            connection.transport.abortConnection()


class _Transport(SSHServerTransport):
    """One connection."""

    factory: ManholeFactory
    transport: Any
    _log = _conch_log
    _patience: IDelayedCall | None = None

    def connectionMade(self) -> None:
        self.factory.connections.add(self)
        self._patience = self.factory.clock.callLater(LOGIN_PATIENCE, self._silent)
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        """What cannot be understood costs its connection, and a word in the log."""
        try:
            super().dataReceived(data)
        except Exception as error:
            self.factory.counters["malformed"] += 1
            name = type(error).__name__
            log.info("manhole: {peer} talks nonsense ({error})", peer=self.peer, error=name)
            self.transport.abortConnection()

    def receiveError(self, reasonCode: int, description: bytes) -> None:
        """The client says why it leaves; to conch that is an error, whatever it says."""
        log.debug("manhole: {peer} leaves: {why}", peer=self.peer, why=_text(description))

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.proven()
        super().connectionLost(reason)
        self.factory.forget(self)

    def proven(self) -> None:
        """It may stay."""
        if self._patience is not None and self._patience.active():
            self._patience.cancel()

    @property
    def peer(self) -> str:
        """Host and port of the other end."""
        address = self.transport.getPeer()
        return f"{address.host}:{address.port}"

    def _silent(self) -> None:
        self.factory.counters["silent"] += 1
        self.transport.abortConnection()


class _Login(SSHUserAuthServer):
    """Takes keys only, and only so many."""

    transport: _Transport
    _log = _conch_log
    attemptsBeforeDisconnect = MAX_ATTEMPTS - 1
    loginTimeout = int(LOGIN_PATIENCE)

    def serviceStarted(self) -> None:
        self.clock = self.transport.factory.clock
        super().serviceStarted()

    def tryAuth(self, kind: bytes, user: bytes, data: bytes) -> Deferred[Any]:
        """Try, and count what fails."""
        trying: Deferred[Any] = super().tryAuth(kind, user, data)
        return trying.addCallbacks(self._welcome, self._refuse, errbackArgs=(kind, user))

    def _welcome(self, result: Any) -> Any:
        transport = self.transport
        transport.proven()
        transport.factory.counters["logins"] += 1
        log.info(
            "manhole: {user} comes in from {peer} with the key {key}",
            user=_text(self.user),
            peer=transport.peer,
            key=result[1].key,
        )
        return result

    def _refuse(self, reason: Failure, kind: bytes, user: bytes) -> Failure:
        # Every client asks for "none" first, to hear what there is.
        if kind != b"none" and not reason.check(IgnoreAuthentication):
            self.transport.factory.counters["failed"] += 1
            log.warn(
                "manhole: {user} refused from {peer}: {method}: {why}",
                user=_text(user),
                peer=self.transport.peer,
                method=_text(kind),
                why=reason.getErrorMessage(),
            )
        return reason


class _Connection(SSHConnection):
    """What an operator asks for over a connection."""

    _log = _conch_log


@implementer(IRealm)
class _Realm:
    """Gives everybody who got in the same."""

    def __init__(self, factory: ManholeFactory) -> None:
        self._factory = factory

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        return IConchUser, _Operator(self._factory, avatarId.decode("ascii")), lambda: None


class _Operator(ConchUser):
    """
    Somebody who got in.

    @ivar key: fingerprint of the key that opened.
    """

    def __init__(self, factory: ManholeFactory, key: str) -> None:
        super().__init__()
        self.factory = factory
        self.key = key
        self.channelLookup[b"session"] = _Channel

    def lookupChannel(self, *request: Any) -> Any:
        """@return: a channel for one session.  @raise ConchError: there are too many."""
        if self.factory.sessions >= MAX_SESSIONS:
            self.factory.counters["crowded"] += 1
            raise ConchError(OPEN_RESOURCE_SHORTAGE, "too many sessions")
        return super().lookupChannel(*request)


class _Channel(SSHSession):
    """A session's channel, counted while it is open."""

    avatar: _Operator
    _log = _conch_log

    def channelOpen(self, specificData: bytes) -> None:
        self.avatar.factory.sessions += 1
        super().channelOpen(specificData)

    def closed(self) -> None:
        self.avatar.factory.sessions -= 1
        super().closed()


@implementer(ISession)
class _Session:
    """What a channel is used for: a prompt, a pipe, or one command."""

    def __init__(self, operator: _Operator) -> None:
        self._factory = operator.factory
        self._size: tuple[int, int] | None = None
        self._protocol: Any = None
        self._channel: Any = None

    def getPty(self, term: bytes, windowSize: Any, modes: Any) -> None:
        """There is a terminal: rows and columns come first."""
        self._size = windowSize[1], windowSize[0]

    def windowChanged(self, newWindowSize: Any) -> None:
        """The terminal has another size."""
        if self._size is not None and self._protocol is not None:
            self._protocol.terminalProtocol.terminalSize(newWindowSize[1], newWindowSize[0])

    def openShell(self, proto: Any) -> None:
        """A prompt at a terminal, or statements through a pipe."""
        names = self._factory.make_names()
        if self._size is None:
            self._begin(proto, Pipe(names, self._leave))
            return
        self._begin(proto, terminal(names, self._factory.greeting(), self._leave))
        self._protocol.terminalProtocol.terminalSize(*self._size)

    def execCommand(self, proto: Any, command: bytes) -> None:
        """One command; run in the next turn, so that the client hears first that it may."""
        source = command.decode("utf-8", "replace")
        self._size = None
        protocol = Command(self._factory.make_names(), self._leave, source)
        self._begin(proto, protocol)
        self._factory.clock.callLater(0, protocol.run)

    def eofReceived(self) -> None:
        """The client will send no more."""
        if self._size is None and self._protocol is not None:
            self._protocol.end_of_input()

    def closed(self) -> None:
        """The channel is gone."""
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connectionLost(Failure(ConnectionDone()))

    def _begin(self, proto: Any, protocol: Any) -> None:
        self._protocol, self._channel = protocol, proto.session
        protocol.makeConnection(_Wire(proto, self._leave))
        proto.makeConnection(_Outlet(protocol.dataReceived))

    def _leave(self, status: int) -> None:
        channel = self._channel
        if channel is not None and not channel.localClosed:
            channel.conn.sendRequest(channel, b"exit-status", pack(">L", status))
            channel.conn.sendEOF(channel)
            channel.conn.sendClose(channel)


registerAdapter(_Session, _Operator, ISession)


class _Wire:
    """The transport that a session's protocol writes to."""

    def __init__(self, proto: Any, leave: Callable[[int], object]) -> None:
        self.write = proto.write
        self._leave = leave

    def loseConnection(self) -> None:
        """End the session."""
        self._leave(0)


class _Outlet:
    """The transport that the channel's process protocol writes to: the session's protocol."""

    def __init__(self, take: Callable[[bytes], object]) -> None:
        self.write = take

    def loseConnection(self) -> None:
        """L{_Session.closed} says so to whom it concerns."""


def _text(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "replace")
