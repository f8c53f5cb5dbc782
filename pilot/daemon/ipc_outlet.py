"""What leaves for one client of the control socket, and what waits when it does not read."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from pilot.daemon.ipc_limits import IpcLimits


@implementer(IPushProducer)
class Outlet:
    """
    Writes frames to a client's socket, which says by way of this producer when it is full.

    @ivar blocked: the client does not read as fast as it is written to.
    @ivar owed: bytes of frames written since it stopped reading.
    """

    def __init__(
        self,
        limits: IpcLimits,
        refused: Counter[str],
        on_blocked: Callable[[], None],
        on_free: Callable[[], None],
    ) -> None:
        self.blocked = False
        self.owed = 0
        self._limits = limits
        self._refused = refused
        self._on_blocked = on_blocked
        self._on_free = on_free
        self._transport: Any = None
        self._datagrams: deque[tuple[bytes, str]] = deque()
        self._datagram_bytes = 0

    def open(self, transport: Any) -> None:
        """The client is connected."""
        self._transport = transport
        transport.registerProducer(self, True)

    def write(self, frame: bytes) -> None:
        """Write a frame that may not be lost; C{owed} bounds those that nobody reads."""
        self._transport.write(frame)
        if self.blocked:
            self.owed += len(frame)

    def write_datagram(self, frame: bytes, counter: str = "ipc_datagrams") -> None:
        """
        Write what may be lost; while the client does not read, the oldest that wait are.

        @param counter: counts it, should it be lost.
        """
        if not self.blocked:
            self._transport.write(frame)
            return
        self._datagrams.append((frame, counter))
        self._datagram_bytes += len(frame)
        while self._datagram_bytes > self._limits.datagram_backlog:
            lost, counter = self._datagrams.popleft()
            self._datagram_bytes -= len(lost)
            self._refused[counter] += 1

    def pauseProducing(self) -> None:
        """The socket is full."""
        self.blocked = True
        self._on_blocked()

    def resumeProducing(self) -> None:
        """The client has read all there was."""
        self.blocked = False
        self.owed = 0
        while self._datagrams and not self.blocked:
            frame, _ = self._datagrams.popleft()
            self._datagram_bytes -= len(frame)
            self._transport.write(frame)
        self._on_free()

    def stopProducing(self) -> None:
        """The connection is going away; its protocol hears of it."""
