"""What one part of a node may ask of another, as zope interfaces.

It stands on the ground floor so that a skill, a service or the trust machinery can be written
against a node without importing one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IListeningPort, IProtocol, IProtocolFactory

    from pilot.address import Address, SocketAddress

    Target = Address | int | str


class IPilotNode(Interface):
    """
    An agent's view of the overlay.

    Two providers: the node inside the daemon (L{pilot.node.node.PilotNode}) and a client of a
    running daemon's Unix socket (L{pilot.client.remote.RemoteNode}).  A program written against
    this interface runs inside the daemon or as a process of its own.

    A C{target} is an L{pilot.address.Address}, a node id (C{int}) or a text: address, decimal node
    id, hostname, or C{"self"}.  Every Deferred fails with a L{pilot.errors.PilotError}.
    """

    address = Attribute(
        "Own L{pilot.address.Address} on the backbone, or None before registration."
    )

    def resolve(target: Target) -> Deferred[Address]:
        """@return: Deferred of the L{pilot.address.Address} that C{target} names."""

    def dial(target: Target, port: int, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Open a stream to C{port} of C{target} and connect a protocol built by C{factory} to it.

        @return: Deferred of the protocol, as L{twisted.internet.interfaces.IStreamClientEndpoint}.
        """

    def listen(port: int, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        Serve C{factory} on the virtual port.

        @return: Deferred of an L{twisted.internet.interfaces.IListeningPort}.
        """

    def send_datagram(target: Target, port: int, data: bytes) -> Deferred[None]:
        """
        Send one unreliable datagram.

        @return: Deferred of C{None} once it was handed to the tunnel.
        """

    def add_datagram_listener(
        listener: Callable[[SocketAddress, int, bytes], None],
    ) -> Callable[[], None]:
        """
        Have C{listener(source: SocketAddress, port: int, data: bytes)} called for every datagram
        that passes the trust gate.

        @return: a callable without arguments that ends it.
        """

    def info() -> Deferred[dict[str, Any]]:
        """@return: Deferred of a dict in the shape of the control socket's info reply."""

    def handshake(node_id: int, justification: str = "") -> Deferred[dict[str, Any]]:
        """
        Ask a node for trust.

        @return: Deferred of C{{"node_id": int, "status": "sent" | "already_trusted"}}.
        """

    def approve(node_id: int) -> Deferred[dict[str, Any]]:
        """@return: Deferred of C{{"node_id": int, "status": "approved"}}."""

    def reject(node_id: int, reason: str = "") -> Deferred[dict[str, Any]]:
        """@return: Deferred of C{{"node_id": int, "status": "rejected"}}."""

    def untrust(node_id: int) -> Deferred[dict[str, Any]]:
        """@return: Deferred of C{{"node_id": int, "status": "revoked"}}."""

    def pending() -> Deferred[list[dict[str, Any]]]:
        """@return: Deferred of a list of the requests that wait for an answer."""

    def trusted() -> Deferred[list[dict[str, Any]]]:
        """@return: Deferred of a list of trusted peers."""


class ISegmentReceiver(Interface):
    """
    A stream protocol that wants the peer's segments one by one.

    Provided by protocols for which boundaries matter: the control socket forwards each segment as a
    frame, the trust handshake reads exactly one.  Other protocols get C{dataReceived} with whatever
    one turn of the reactor brought.
    """

    def segmentsReceived(segments: list[bytes]) -> None:
        """
        @param segments: list of C{bytes}, one item a received segment, in order.
        """
