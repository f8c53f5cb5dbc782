"""The control socket's server side: programs on this host use the node through it.

@see: protocol notes, I{Local IPC protocol}; the reference page I{Control socket extensions}.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from pilot.address import SocketAddress
from pilot.daemon.ipc_client import IpcClient
from pilot.daemon.ipc_limits import IpcLimits
from pilot.daemon.ipc_streams import IpcStream
from pilot.wire.ipc import Command, RecvFrom, encode_frame

if TYPE_CHECKING:
    from pilot.node.node import PilotNode

log = Logger()


class IpcServer(Factory):
    """
    Makes one L{IpcClient} a connection and holds what they share.

    @ivar node: what they all talk about.
    @ivar streams: the open streams that belong to some client, by number.
    @ivar refused: how often each named limit turned somebody away or dropped something.
    @ivar set_webhook: takes a checked URL, C{""} for none; None when there are no webhooks.
    @ivar tasks: does what a client asks about tasks; None when the service is switched off.
    """

    noisy = False

    def __init__(
        self,
        node: PilotNode,
        clock: IReactorTime,
        limits: IpcLimits | None = None,
        *,
        set_webhook: Callable[[str], Awaitable[None]] | None = None,
        tasks: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]] | None = None,
    ) -> None:
        self.node = node
        self.set_webhook = set_webhook
        self.tasks = tasks
        self.streams: dict[int, IpcStream] = {}
        self.refused: Counter[str] = Counter()
        self._clock = clock
        self._limits = limits or IpcLimits()
        self._clients: set[IpcClient] = set()
        self._stop_datagrams: Callable[[], None] | None = None

    def startFactory(self) -> None:
        """The socket is open."""
        self._stop_datagrams = self.node.add_datagram_listener(self._datagram)

    def stopFactory(self) -> None:
        """The socket is closed."""
        if self._stop_datagrams is not None:
            self._stop_datagrams()
            self._stop_datagrams = None

    def buildProtocol(self, addr: IAddress | None) -> IpcClient:
        """@return: the protocol of one client."""
        return IpcClient(self, self._clock, self._limits)

    def close(self) -> None:
        """Hang up on all clients; what they opened is closed in their names."""
        for client in list(self._clients):
            client.hang_up_now()

    def client_came(self, client: IpcClient) -> str | None:
        """@return: None, or why the client has to leave again."""
        if len(self._clients) >= self._limits.clients:
            self.refused["ipc_clients"] += 1
            return f"too many clients on the control socket (limit {self._limits.clients})"
        self._clients.add(client)
        return None

    def client_left(self, client: IpcClient) -> None:
        """A client's connection has ended."""
        self._clients.discard(client)

    def find_stream(self, conn_id: int) -> Any:
        """@return: the node's stream of that number, whoever's it is, or None."""
        return self.node.parts.streams.by_id(conn_id)

    def close_stream(self, conn_id: int) -> None:
        """End a stream that belongs to no client: a built-in service's, or a dial's."""
        stream = self.find_stream(conn_id)
        if stream is None:
            return
        if stream.connected:
            stream.dismiss()
        else:
            stream.abortConnection()

    def _datagram(self, source: SocketAddress, port: int, data: bytes) -> None:
        payload = RecvFrom(source.address, source.port, port, data).encode()
        frame = encode_frame(Command.RECV_FROM, payload)
        for client in list(self._clients):
            if client.wants_datagrams:
                client.push_datagram(frame)
