"""A skill's streams: what its protocols raise costs them their own connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import alsoProvides, implementer

from pilot.hosting.guard import RAISED, Guard
from pilot.interfaces import ISegmentReceiver

log = Logger()


@implementer(IProtocolFactory)
class GuardedFactory:
    """
    Builds a skill's protocols for the node.

    @ivar inner: the skill's own factory.
    """

    def __init__(self, factory: IProtocolFactory, guard: Guard) -> None:
        self.inner = factory
        self._guard = guard

    def doStart(self) -> None:
        """A port was opened, or a dial has begun."""
        self.inner.doStart()

    def doStop(self) -> None:
        """It is over."""
        self.inner.doStop()

    def buildProtocol(self, addr: Any) -> GuardedProtocol | None:
        """@return: a guarded protocol; None when there is none, or making it failed."""
        if self._guard.closed:
            return None
        try:
            protocol: IProtocol | None = self.inner.buildProtocol(addr)
        except RAISED:
            log.failure("skill {skill} failed to build a protocol", skill=self._guard.name)
            return None
        return GuardedProtocol(protocol, self._guard) if protocol else None


@implementer(IProtocol)
class GuardedProtocol:
    """
    Stands before a skill's protocol.

    @ivar inner: the skill's own protocol, which talks to the real transport.
    """

    factory = None

    def __init__(self, inner: Any, guard: Guard) -> None:
        self.inner = inner
        self._guard = guard
        self._transport: Any = None
        self._forget: Callable[[], object] = lambda: None
        for interface in (ISegmentReceiver, IHalfCloseableProtocol):
            if interface.providedBy(inner):
                alsoProvides(self, interface)

    def makeConnection(self, transport: Any) -> None:
        """The connection is there."""
        self._transport = transport
        self._forget = self._guard.hold(transport.abortConnection)
        self._try(self.inner.makeConnection, transport)

    def dataReceived(self, data: bytes) -> None:
        """Some bytes."""
        self._try(self.inner.dataReceived, data)

    def segmentsReceived(self, segments: list[bytes]) -> None:
        """The peer's segments one by one."""
        self._try(self.inner.segmentsReceived, segments)

    def readConnectionLost(self) -> None:
        """The peer has ended its direction."""
        self._try(self.inner.readConnectionLost)

    def writeConnectionLost(self) -> None:
        """Our direction has ended."""
        self._try(self.inner.writeConnectionLost)

    def connectionMade(self) -> None:
        """Part of C{IProtocol}; the inner protocol calls its own."""

    def connectionLost(self, reason: Failure) -> None:
        """The connection is over; told even after the end of the run, so that waiters end."""
        self._forget()
        self._try(self.inner.connectionLost, reason)

    def logPrefix(self) -> str:
        """@return: what log lines are marked with."""
        return f"{self._guard.name}:{type(self.inner).__name__}"

    def _try(self, method: Callable[..., object], *args: Any) -> None:
        try:
            method(*args)
        except RAISED:
            log.failure(
                "skill {skill} failed in {protocol}; its connection is closed",
                skill=self._guard.name,
                protocol=type(self.inner).__name__,
            )
            self._transport.abortConnection()
