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
    from twisted.python.failure import Failure

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

    def peers(*, fresh: bool = False) -> Deferred[list[dict[str, Any]]]:
        """
        Tell what the registry knows of every trusted peer, with or without a tunnel to it.

        It answers from memory, which this very call has refreshed in the background: call it as
        often as you like.  Up to a thousand peers nothing in it is older than a minute, as long as
        somebody asks at least every ten seconds.  What nobody has asked about for that long is
        waited for, a second at most; what comes later is in the next answer.

        @param fresh: wait, a second at most, for whatever is older than five seconds; for the
            moment in which something is about to change, not for every call.
        @return: Deferred of a list of C{{"node_id": int, "address": str, "hostname": str, "tags":
            [str], "public_key": str}} in the order of the node ids; the key is base64.  Whatever is
            not known is empty.
        """

    def tags() -> Deferred[list[str]]:
        """@return: Deferred of this node's own tags, as the registry has them."""

    def set_tags(tags: list[str]) -> Deferred[list[str]]:
        """
        Replace this node's tags, ten at most.

        @return: Deferred of the tags as stored: without C{#}, each once.
        """

    def send_message(target: Target, document: dict[str, Any] | str | bytes) -> Deferred[None]:
        """
        Send a message to the data exchange of C{target}: a dict as JSON, a text as TEXT, bytes as
        BINARY, 16 MiB at most.

        All messages to one address go over one stream, in order, which is kept open for a minute
        after the last one.  A peer that could not be reached is left alone for a while, and
        messages for it fail at once; when to try again is the caller's affair.

        @return: Deferred of C{None} when the peer has confirmed: the message is in its inbox, or
            was taken by whoever claimed it.  It fails with L{pilot.errors.MessageRefused} when the
            peer refused it, and with another C{PilotError} when nobody can tell whether it came.
        """

    def publish(target: Target, topic: str, payload: bytes) -> Deferred[None]:
        """
        Publish an event on the broker of C{target}, over a stream that is kept like that of
        L{send_message}.

        @return: Deferred of C{None} once the stream to the broker has it.  Brokers confirm nothing.
        """

    def subscribe(
        target: Target,
        topic: str,
        listener: Callable[[str, bytes], None],
        on_end: Callable[[Failure], None],
    ) -> Deferred[Callable[[], None]]:
        """
        Have C{listener(topic: str, payload: bytes)} called for events on the broker of C{target}.

        @param topic: a topic; C{*} for all; C{presence.*} for all that begin with C{presence.}.
        @param on_end: told once why there will be no more events, unless it was us who ended it.
            Nothing subscribes anew by itself.
        @return: Deferred of a callable without arguments that ends it.
        """

    def claim_messages(
        prefix: str, listener: Callable[[Address, dict[str, Any], int], bool | Deferred[bool]]
    ) -> Callable[[], None]:
        """
        Take certain messages instead of the inbox: TEXT and JSON messages of data exchange, of at
        most 64 KiB, that are a JSON object whose C{"type"} begins with C{prefix}.

        C{listener(source: Address, document: dict, size: int)} answers whether it has taken the
        message; only then its sender gets a confirmation.  What no listener takes, because it says
        no, raises, or says nothing for ten seconds, goes to the inbox as always.  Of several
        listeners, each is asked until one takes it, those inside the daemon first.  The same
        message may come twice if its sender saw no confirmation.

        @param prefix: 1 to 64 characters of C{A-Z a-z 0-9 . _ : -}.
        @param listener: C{source} is authenticated, own address for own messages; C{size} is in
            bytes.  The document is the listener's own.
        @return: a callable without arguments that ends it.
        @raise PilotError: no such prefix, or a daemon that cannot do it.
        """

    def watch_events(
        prefix: str, listener: Callable[[Address, str, bytes], None]
    ) -> Callable[[], None]:
        """
        Have C{listener(source: Address, topic: str, payload: bytes)} called for every event that is
        published on this node's own broker and whose topic begins with C{prefix}.

        Unlike L{subscribe} it tells who published: C{source} is authenticated, own address for
        local programs and for what L{announce} says.  An event is seen whether or not anybody is
        subscribed to it.  A program of its own that does not keep up loses events, and those of
        more than 1 MB.

        @param prefix: at most 1,024 bytes of UTF-8; C{""} for all.
        @return: a callable without arguments that ends it.
        @raise PilotError: no such prefix, or a daemon that cannot do it.
        """

    def announce(name: str, data: dict[str, Any], *, publish: bool = True) -> None:
        """
        Tell the operator's webhook that something has happened, and the subscribers of this node's
        broker with an event on the topic C{name} whose payload is C{data} as JSON.

        @param name: as in C{presence.changed}: 1 to 128 characters of C{a-z 0-9 . _ -}.
        @param data: JSON-ready, 64 KiB at most.
        @param publish: false to tell the webhook only.
        @raise PilotError: no such name, no such data, or a daemon that cannot do it.
        """

    def sign(domain: str, data: bytes) -> Deferred[bytes]:
        """
        Sign with the node's identity what can be mistaken for nothing else it signs: the Ed25519
        signature is over C{b"pilot-skill/" + domain + b"\\0" + data}.

        @param domain: what the signature is for, 1 to 64 characters of C{a-z 0-9 . _ / -}.
        @param data: 64 KiB at most.
        @return: Deferred of the signature, 64 bytes.
        @see: L{pilot.crypto.skillsignature}, which also checks them.
        """

    def public_key(node_id: int) -> Deferred[bytes]:
        """
        @return: Deferred of the Ed25519 key, 32 bytes, that the registry names for a node; own one
            included.  What was heard in the last minute is not asked again.  It fails with
            C{NotFound} for a node that does not exist, may not be seen, or has no key.
        """

    def tasks(request: dict[str, Any]) -> Deferred[dict[str, Any]]:
        """
        Do something with a task.

        @param request: C{{"op": "submit" | "accept" | "decline" | "execute" | "results", ...}}, as
            the reference page I{Control socket extensions} lists it.
        @return: Deferred of what C{pilotctl --json task ...} shows as data.
        """


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
