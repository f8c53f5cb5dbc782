"""Where the streams of a client of the control socket come from: its ports and its dials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IAddress, IDelayedCall, IListeningPort
from twisted.internet.protocol import Factory

from pilot.daemon.ipc_streams import IpcStream
from pilot.wire.ipc import Accept, Command, encode_frame

if TYPE_CHECKING:
    from pilot.daemon.ipc_client import IpcClient


class DialFactory(Factory):
    """Makes the protocol of one dialled stream."""

    noisy = False

    def __init__(self, client: IpcClient) -> None:
        self._client = client

    def buildProtocol(self, addr: IAddress | None) -> IpcStream | None:
        """@return: the stream's protocol, or None when its client is gone."""
        return self._client.new_stream()


class BoundPort(Factory):
    """
    A virtual port that a client serves.

    @ivar listening: the node's side of it, once there is one.
    """

    noisy = False

    def __init__(self, client: IpcClient) -> None:
        self.listening: IListeningPort | None = None
        self._client = client
        self._open = False
        self._unaccepted: list[IpcStream] = []
        self._opening: IDelayedCall | None = None

    def buildProtocol(self, addr: IAddress | None) -> IpcStream | None:
        """@return: the protocol of an accepted stream, or None to turn it away."""
        if len(self._unaccepted) >= self._client.limits.unaccepted_per_port:
            return None
        stream = self._client.new_stream()
        if stream is not None:
            stream.port = self
        return stream

    def accepted(self, stream: IpcStream) -> None:
        """C{stream} is open; the client is told as soon as it may be."""
        if self._open:
            self._accept(stream)
        else:
            self._unaccepted.append(stream)

    def announced(self) -> None:
        """The client has its BindOK."""
        if self._client.extended:
            self._begin()
        else:
            # Drivers throw away an Accept that arrives before they have noted the port.
            self._opening = self._client.clock.callLater(self._client.limits.grace, self._begin)

    def close(self) -> None:
        """Free the port; streams that were accepted go on."""
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        if self.listening is not None:
            self.listening.stopListening()
        unaccepted, self._unaccepted = self._unaccepted, []
        for stream in unaccepted:
            stream.orphan()

    def _begin(self) -> None:
        self._opening = None
        self._open = True
        unaccepted, self._unaccepted = self._unaccepted, []
        for stream in unaccepted:
            self._accept(stream)

    def _accept(self, stream: IpcStream) -> None:
        transport: Any = stream.transport
        host, peer = transport.getHost(), transport.getPeer()
        accept = Accept(host.port, stream.conn_id, peer.address, peer.port)
        self._client.push(encode_frame(Command.ACCEPT, accept.encode()))
        stream.announced()
