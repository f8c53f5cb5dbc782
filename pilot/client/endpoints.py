"""Virtual ports as Twisted endpoints, for programs beside a running daemon."""

from __future__ import annotations

from typing import Any, cast

from twisted.application.internet import backoffPolicy
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import (
    IDelayedCall,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pilot.client.remote import RemoteNode, Target, connect_node
from pilot.errors import DialTimeout, PilotError
from pilot.node.streamaddress import PilotStreamAddress

log = Logger()

#: Seconds a dial may take when nobody says otherwise.
DEFAULT_TIMEOUT = 30.0

#: Seconds before the first attempt to bind a port anew after the daemon has gone, and at most.
FIRST_RETRY = 0.5
LAST_RETRY = 30.0


@implementer(IStreamClientEndpoint)
class PilotClientEndpoint:
    """
    Dials a virtual port of another node.

    The streams of one endpoint share one connection to the daemon, which is made for the first
    and closed after the last.
    """

    def __init__(
        self,
        reactor: Any,
        target: Target,
        port: int,
        daemon: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        """
        @param target: address, node id, hostname or C{"self"}.
        @param daemon: the daemon's control socket; None looks where C{pilotctl} looks.
        @param timeout: seconds that connecting may take in all.
        """
        self._reactor = reactor
        self._target = target
        self._port = port
        self._daemon = daemon
        self._timeout = timeout
        self._node: RemoteNode | None = None

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Open a stream.

        @return: Deferred of the connected protocol; it fails with a C{PilotError}.
        """
        connecting = Deferred.fromCoroutine(self._connect(protocolFactory))
        return connecting.addTimeout(self._timeout, self._reactor, self._too_slow)

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        node = self._node
        if node is None:
            node = await connect_node(self._reactor, self._daemon)
            if self._node is None:
                self._share(node)
            else:  # another dial of this endpoint was a moment faster
                node.close()
                node = self._node
        return await node.dial(self._target, self._port, factory, timeout=self._timeout)

    def _share(self, node: RemoteNode) -> None:
        def give_up() -> None:
            if self._node is node:
                self._node = None

        def close() -> None:
            give_up()
            node.close()

        self._node = node
        node.on_idle = close
        node.on_disconnect = give_up

    def _too_slow(self, result: Any, timeout: float) -> Any:
        if isinstance(result, Failure) and isinstance(result.value, CancelledError):
            raise DialTimeout(f"no connection within {timeout:g} s")
        return result


@implementer(IStreamServerEndpoint)
class PilotServerEndpoint:
    """
    Listens on a virtual port of the running daemon.

    What it listens with outlives the daemon: when that goes away, the port is bound again as soon
    as a daemon answers on the same control socket.
    """

    def __init__(self, reactor: Any, port: int, daemon: str | None = None) -> None:
        """
        @param port: virtual port; 0 takes a free one.
        @param daemon: the daemon's control socket; None looks where C{pilotctl} looks.
        """
        self._reactor = reactor
        self._port = port
        self._daemon = daemon

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        Serve a factory.

        @return: Deferred of the listening port; it fails with C{NotRunning} when there is no
            daemon, with C{PortInUse} when the port is taken.
        """
        return Deferred.fromCoroutine(self._listen(protocolFactory))

    async def _listen(self, factory: IProtocolFactory) -> IListeningPort:
        lasting = _LastingPort(self._reactor, self._daemon, factory)
        await lasting.bind(self._port)
        factory.doStart()
        return lasting


@implementer(IListeningPort)
class _LastingPort:
    """A bound port that is bound again whenever the daemon comes back."""

    def __init__(self, reactor: Any, daemon: str | None, factory: IProtocolFactory) -> None:
        self._reactor = reactor
        self._daemon = daemon
        self._factory = factory
        self._relay = _Relay(factory)
        self._node: RemoteNode | None = None
        self._listening: Any = None
        self._address: PilotStreamAddress | None = None
        self._open = True
        self._attempts = 0
        self._wait = backoffPolicy(FIRST_RETRY, LAST_RETRY)
        self._retry: IDelayedCall | None = None

    async def bind(self, port: int) -> None:
        """Bind the port at the daemon.  @raise PilotError: no daemon, or the port is taken."""
        node = await connect_node(self._reactor, self._daemon)
        try:
            listening = await node.listen(port, self._relay)
        except BaseException:
            node.close()
            raise
        if not self._open:
            node.close()
            return
        self._node, self._listening = node, listening
        self._address = cast(PilotStreamAddress, listening.getHost())
        node.on_disconnect = self._lost

    def startListening(self) -> None:
        """It listens from the start."""

    def stopListening(self) -> Deferred[None]:
        """
        Free the port.  Open streams go on; their connection to the daemon ends with the last.
        """
        if not self._open:
            return succeed(None)
        self._open = False
        self._factory.doStop()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        node, self._node = self._node, None
        if node is None:
            return succeed(None)
        node.on_idle = node.close
        return Deferred.fromCoroutine(self._leave(node, self._listening))

    async def _leave(self, node: RemoteNode, listening: Any) -> None:
        await listening.stopListening()
        if node.is_idle:
            node.close()

    def getHost(self) -> PilotStreamAddress:
        """@return: own address and the bound port."""
        assert self._address is not None  # nobody has this port before it was bound
        return self._address

    def _lost(self) -> None:
        self._node = None
        if self._open:
            port = self.getHost().port
            log.warn("the daemon went away; port {port} will be bound again", port=port)
            self._try_later()

    def _try_later(self) -> None:
        self._retry = self._reactor.callLater(self._wait(self._attempts), self._try)
        self._attempts += 1

    def _try(self) -> None:
        self._retry = None
        binding = Deferred.fromCoroutine(self.bind(self.getHost().port))
        binding.addCallbacks(self._back, self._not_yet)

    def _back(self, _: None) -> None:
        if self._open:
            log.info("port {port} is bound again", port=self.getHost().port)
            self._attempts = 0

    def _not_yet(self, reason: Failure) -> None:
        reason.trap(PilotError)
        if self._open:
            self._try_later()


class _Relay(Factory):
    """Passes connections on; starting and stopping is up to whoever outlives the daemon."""

    noisy = False

    def __init__(self, factory: IProtocolFactory) -> None:
        self._factory = factory

    def buildProtocol(self, addr: Any) -> Any:
        return self._factory.buildProtocol(addr)
