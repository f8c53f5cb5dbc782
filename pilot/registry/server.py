"""The registry over TCP: the directory, its store and all its clients.

@see: protocol notes of the registry, I{Transport}.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol as TypingProtocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from pilot.registry import binary, dispatch
from pilot.registry.callers import Caller
from pilot.registry.codec import encode_frame
from pilot.registry.connection import ConnectionLimits, RegistryConnection
from pilot.registry.directory import Directory
from pilot.registry.extensions import EVENT_HANDSHAKES
from pilot.registry.fields import Request
from pilot.registry.records import Letter
from pilot.registry.refusal import MASKED, Refusal, visible
from pilot.registry.store import IRegistryStore

log = Logger()

_DEFAULT_LIMITS = ConnectionLimits()


class AcceptingPort(TypingProtocol):
    """What a TCP port offers to hold connections back in the kernel's queue."""

    def stopReading(self) -> None:
        """Accept nobody for now."""

    def startReading(self) -> None:
        """Accept again."""


class RegistryFactory(Factory):
    """
    Serves one directory.

    @ivar directory: what the registry knows.
    @ivar store: where that is kept.
    @ivar connections: the open ones.
    @ivar refused: how often a client was turned away, by the name of the limit.
    @ivar port: where clients come in, once there is one.
    """

    noisy = False

    def __init__(
        self,
        clock: IReactorTime,
        directory: Directory,
        store: IRegistryStore,
        limits: ConnectionLimits = _DEFAULT_LIMITS,
    ) -> None:
        """@param clock: its C{seconds()} are Unix seconds."""
        self.clock = clock
        self.directory = directory
        self.store = store
        self.limits = limits
        self.connections: set[RegistryConnection] = set()
        self.refused: Counter[str] = Counter()
        self.port: AcceptingPort | None = None
        self._started = clock.seconds()
        self._second = 0
        self._accepted = 0
        self._accepting: IDelayedCall | None = None
        self._sweeping = LoopingCall(self._sweep)
        self._sweeping.clock = clock

    def start(self) -> None:
        """Begin to watch deadlines."""
        self._sweeping.start(self.directory.limits.sweep_every, now=True)

    async def stop(self) -> None:
        """Close every connection, and the store when everything is in it."""
        if self._sweeping.running:
            self._sweeping.stop()
        for connection in list(self.connections):
            connection.caller.collected = ()
            connection.transport.abortConnection()
        if self._accepting is not None:
            self._accepting.cancel()
            self._accepting = None
        self._save_aside()
        await self.store.close()

    # -- for connections -------------------------------------------------------------------------

    def opened(self, connection: RegistryConnection) -> bool:
        """@return: whether there is room for this connection."""
        if len(self.connections) >= self.limits.connections:
            self.refused["connections"] += 1
            return False
        self.connections.add(connection)
        return True

    def closed(self, connection: RegistryConnection, lost: Sequence[Letter]) -> None:
        """@param lost: letters that the client collected and probably did not get."""
        self.connections.discard(connection)
        self.directory.callers.gone(connection.caller)
        if lost:
            self.directory.mailboxes.put_back(lost)
            for node_id in {letter.to for letter in lost}:
                self.directory.notice(node_id)
            self._save_aside()

    def answer(self, request: Request, caller: Caller) -> tuple[bytes, bool]:
        """
        Carry out a request of the JSON protocol.

        @return: the frame that answers, and whether it is the last.
        """
        now = self.clock.seconds()
        kind = dispatch.kind_of(request)
        failed = False
        try:
            answer = dispatch.answer(self.directory, request, caller, now)
        except Refusal as error:
            failed = True
            answer = {"type": "error", "error": visible(error.message)}
        except Exception:
            # A fault of ours must not cost a client its connection, nor us the others.
            log.failure("request {kind} failed", kind=kind)
            failed = True
            answer = {"type": "error", "error": MASKED}
        self.directory.statistics.answered(kind, self.clock.seconds() - now, failed)
        return encode_frame(answer), request.get("type") == "subscribe_replication"

    def answer_binary(self, kind: int, payload: bytes, caller: Caller) -> bytes:
        """Carry out a request of the binary protocol.  @return: the frame that answers."""
        now = self.clock.seconds()
        try:
            name, answer, failed = binary.answer(self.directory, kind, payload, caller, now)
        except Exception:
            log.failure("binary request {kind} failed", kind=kind)
            name, answer, failed = dispatch.UNKNOWN, binary.failure(), True
        self.directory.statistics.answered(name, self.clock.seconds() - now, failed)
        return answer

    def save(self) -> Deferred[None] | None:
        """
        Save what requests have changed.

        @return: Deferred that fires, or fails, then; None when everything is saved already.
        """
        changes = self.directory.drain()
        if not changes:
            return None
        saved = self.store.commit(changes)
        return None if saved.called and not isinstance(saved.result, Failure) else saved

    def announce(self, saved: Deferred[None] | None) -> None:
        """
        Tell those who want to know of the letters that requests have left.

        @param saved: what L{save} returned; nobody is told before.
        """
        listeners = self.directory.take_notices()
        if listeners and saved is None:
            _push(listeners)
        elif listeners and saved is not None:
            saved.addCallback(lambda _: _push(listeners))

    def buildProtocol(  # type: ignore[override]  # the stub wants a factory of its own kind
        self, addr: IAddress | None
    ) -> RegistryConnection:
        """Take a connection in, at a bounded pace while everybody comes back after a restart."""
        now = self.clock.seconds()
        if now - self._started < self.limits.accept_throttled:
            self._throttle(now)
        connection = RegistryConnection()
        connection.factory = self
        return connection

    def _throttle(self, now: float) -> None:
        if int(now) != self._second:
            self._second, self._accepted = int(now), 0
        self._accepted += 1
        if (
            self._accepted >= self.limits.accepted_per_second
            and self.port is not None
            and self._accepting is None
        ):
            self.refused["accept pace"] += 1
            self.port.stopReading()
            self._accepting = self.clock.callLater(int(now) + 1 - now, self._accept_again)

    def _accept_again(self) -> None:
        self._accepting = None
        if self.port is not None:
            self.port.startReading()

    def _sweep(self) -> None:
        # An exception would end the sweeps for good.
        try:
            now = self.clock.seconds()
            for node in self.directory.sweep(now):
                log.debug("node {node_id} fell silent", node_id=node.id)
            self._save_aside()
            for connection in list(self.connections):
                connection.check_deadlines(now)
        except Exception:
            log.failure("sweeping failed")

    def _save_aside(self) -> None:
        """Save what no answer waits for; the store reports failures and tries again."""
        saved = self.save()
        self.announce(saved)
        if saved is not None:
            saved.addErrback(lambda _: None)


def _push(listeners: list[Caller]) -> None:
    for caller in listeners:
        if caller.notify is not None:
            caller.notify(EVENT_HANDSHAKES)
