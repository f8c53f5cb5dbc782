"""A running daemon's node, for programs of their own: C{IPilotNode} over the control socket."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IProtocol, IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pilot.address import Address, SocketAddress
from pilot.client import places
from pilot.client.remote_connection import DaemonError
from pilot.client.remote_errors import data_of, meaning
from pilot.client.remote_interests import RemoteInterests
from pilot.client.remote_link import RemoteLink, only_gone
from pilot.client.remote_stream import RemoteStream
from pilot.errors import (
    AddressError,
    ConnectionFailed,
    InvalidArgument,
    NotRunning,
    PilotError,
    WireError,
)
from pilot.interfaces import IPilotNode
from pilot.node.announcing import encode_announcement
from pilot.node.keptstreams import DIAL_RATE, DIALS_AT_ONCE
from pilot.node.messenger import Messenger
from pilot.node.publishing import Publisher
from pilot.node.streamaddress import PilotStreamAddress
from pilot.node.subscribing import subscribe
from pilot.node.turnstile import Turnstile
from pilot.wire import ipc
from pilot.wire.eventstream import event_text
from pilot.wire.ipc import Command, ConnId, HandshakeSub, encode_frame, encode_json
from pilot.wire.ipc_extensions import WANTS_DATAGRAMS, Extension
from pilot.wire.jsontext import load

log = Logger()

#: Seconds to wait for an answer to a dial; the daemon itself gives up after 39.
DIAL_TIMEOUT = 60.0

#: Seconds to wait for an answer about a task: a dial, a large file, and the peer's answer.
TASK_TIMEOUT = 300.0

#: Largest datagram that fits one UDP packet with all its wrapping, bytes.
MAX_DATAGRAM = 65437

Target = Address | int | str
DatagramListener = Callable[[SocketAddress, int, bytes], None]


@implementer(IPilotNode)
class RemoteNode:
    """
    One connection to a daemon; get one with L{connect_node}.

    When the connection ends, so do its streams and ports; whoever wants to go on connects again.

    @ivar address: the node's own address on the backbone.
    @ivar on_idle: called whenever the last stream has ended and no dial is under way.
    @ivar on_disconnect: called once, when the connection has ended.
    @ivar dropped_datagrams: sent while the socket was full, and lost.
    """

    def __init__(self, reactor: Any) -> None:
        self.address: Address | None = None
        self.on_idle: Callable[[], None] = lambda: None
        self.on_disconnect: Callable[[], None] = lambda: None
        self.dropped_datagrams = 0
        self._link = RemoteLink(reactor)
        self._link.on_datagram = self._datagram
        self._link.on_idle = self._maybe_idle
        self._link.on_disconnect = self._disconnected
        self._interests = RemoteInterests(reactor, self._link, self._ask_node)
        rng = random.SystemRandom()
        dials = Turnstile(reactor, at_once=DIALS_AT_ONCE, rate=DIAL_RATE)
        self._messenger = Messenger(reactor, self, dials, rng)
        self._publisher = Publisher(reactor, self, dials, rng)
        self._dials = 0
        self._datagram_listeners: list[DatagramListener] = []

    async def open(self, path: str) -> None:
        """Connect to the daemon at C{path}; once."""
        address = await self._link.connect(path)
        if not self.extended:
            address = Address.parse(str((await self._ask(Command.INFO)).get("address")))
        self.address = address if address.node else None

    def close(self) -> None:
        """Hang up; the daemon closes this connection's streams and frees its ports."""
        self._messenger.streams.close()
        self._publisher.streams.close()
        self._link.connection.close()

    @property
    def extended(self) -> bool:
        """Whether the daemon speaks our extensions; see L{RemoteLink}."""
        return self._link.extended

    @property
    def is_idle(self) -> bool:
        """Whether no stream is open and no dial is under way."""
        return self._link.is_idle and not self._dials

    # -- names ---------------------------------------------------------------------------------

    def resolve(self, target: Target) -> Deferred[Address]:
        """@return: Deferred of the address of C{target}: address, number, hostname or "self"."""
        return Deferred.fromCoroutine(self._resolve(target))

    async def _resolve(self, target: Target) -> Address:
        if isinstance(target, Address):
            return target
        if isinstance(target, int):
            return Address(0, target)
        if target == "self":
            if self.address is None:
                raise ConnectionFailed("the node is not registered yet")
            return self.address
        try:
            return Address.parse(target)
        except AddressError:
            pass
        if target.isascii() and target.isdigit() and int(target) <= 0xFFFFFFFF:
            return Address(0, int(target))
        answer = await self._ask(Command.RESOLVE_HOSTNAME, ipc.encode_text(target))
        return Address.parse(str(answer.get("address")))

    # -- streams -------------------------------------------------------------------------------

    def dial(
        self, target: Target, port: int, factory: IProtocolFactory, timeout: float = DIAL_TIMEOUT
    ) -> Deferred[IProtocol]:
        """
        Open a stream.

        @param timeout: seconds for the dial; finding the target's address comes before.
        @return: Deferred of the connected protocol.  It fails with C{ConnectionRefused},
            C{DialTimeout} or another C{PilotError}.  Cancelling it takes the attempt back.
        """
        return Deferred.fromCoroutine(self._dial(target, port, factory, timeout))

    async def _dial(
        self, target: Target, port: int, factory: IProtocolFactory, timeout: float
    ) -> IProtocol:
        self._dials += 1
        try:
            address = await self._resolve(target)
            payload = _checked_port(lambda: ipc.Dial(address, port).encode(), port)
            reply = await self._request(
                Command.DIAL, payload, Command.DIAL_OK, timeout=timeout, late=self._too_late
            )
            stream = RemoteStream(
                self._link,
                ConnId.decode(reply).conn_id,
                PilotStreamAddress(self.address or Address(0, 0), 0),
                PilotStreamAddress(address, port),
            )
            return self._link.start(stream, factory)
        finally:
            self._dials -= 1
            self._maybe_idle()

    def _too_late(self, payload: bytes) -> None:
        """A dial that nobody waits for any more has succeeded: take it back."""
        self._link.end(ConnId.decode(payload).conn_id)

    def listen(self, port: int, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        Serve C{factory} on a virtual port; 0 takes a free one.

        @return: Deferred of the listening port; it fails with C{PortInUse}.
        """
        return Deferred.fromCoroutine(self._listen(port, factory))

    async def _listen(self, port: int, factory: IProtocolFactory) -> IListeningPort:
        payload = _checked_port(lambda: ipc.Bind(port).encode(), port)
        reply = await self._request(Command.BIND, payload, Command.BIND_OK)
        bound = ipc.BindOk.decode(reply).port
        return self._link.serve(self.address or Address(0, 0), bound, factory)

    # -- datagrams -----------------------------------------------------------------------------

    def send_datagram(self, target: Target, port: int, data: bytes) -> Deferred[None]:
        """
        Send one datagram.

        @return: Deferred of None once it was handed to the daemon; whether it leaves that, and
            whether it arrives, nobody tells.
        """
        return Deferred.fromCoroutine(self._send_datagram(target, port, data))

    async def _send_datagram(self, target: Target, port: int, data: bytes) -> None:
        address = await self._resolve(target)
        if len(data) > MAX_DATAGRAM:
            raise ConnectionFailed(
                f"message too long: {len(data)} bytes do not fit a datagram (max {MAX_DATAGRAM})"
            )
        payload = _checked_port(lambda: ipc.SendTo(address, port, data).encode(), port)
        if not self._link.open:
            raise NotRunning("the daemon closed the connection")
        if self._link.blocked:
            self.dropped_datagrams += 1
            return
        self._link.send((encode_frame(Command.SEND_TO, payload),))

    def add_datagram_listener(self, listener: DatagramListener) -> Callable[[], None]:
        """@return: a callable that ends the listening."""
        self._datagram_listeners.append(listener)
        if len(self._datagram_listeners) == 1:
            self._want_datagrams(WANTS_DATAGRAMS)

        def stop() -> None:
            if listener in self._datagram_listeners:
                self._datagram_listeners.remove(listener)
                if not self._datagram_listeners:
                    self._want_datagrams(0)

        return stop

    def _want_datagrams(self, flags: int) -> None:
        if self.extended and self._link.open:
            self._link.hello(flags).addErrback(only_gone)

    def _datagram(self, heard: ipc.RecvFrom) -> None:
        source = SocketAddress(heard.source, heard.source_port)
        for listener in list(self._datagram_listeners):
            try:
                listener(source, heard.destination_port, heard.data)
            except Exception:
                log.failure("datagram listener failed on port {port}", port=heard.destination_port)

    # -- trust, and looking in -----------------------------------------------------------------

    def info(self) -> Deferred[dict[str, Any]]:
        """@return: Deferred of the daemon's info reply."""
        return Deferred.fromCoroutine(self._ask(Command.INFO))

    def health(self) -> Deferred[dict[str, Any]]:
        """@return: Deferred of the daemon's health reply."""
        return Deferred.fromCoroutine(self._ask(Command.HEALTH))

    def handshake(self, node_id: int, justification: str = "") -> Deferred[dict[str, Any]]:
        """Ask C{node_id} for trust."""
        return self._trust(ipc.Handshake(HandshakeSub.REQUEST, node_id, justification))

    def approve(self, node_id: int) -> Deferred[dict[str, Any]]:
        """Grant what C{node_id} asked for."""
        return self._trust(ipc.Handshake(HandshakeSub.APPROVE, node_id))

    def reject(self, node_id: int, reason: str = "") -> Deferred[dict[str, Any]]:
        """Turn C{node_id} down."""
        return self._trust(ipc.Handshake(HandshakeSub.REJECT, node_id, reason))

    def untrust(self, node_id: int) -> Deferred[dict[str, Any]]:
        """Take trust in C{node_id} back."""
        return self._trust(ipc.Handshake(HandshakeSub.REVOKE, node_id))

    def pending(self) -> Deferred[list[dict[str, Any]]]:
        """@return: Deferred of the requests that wait for an answer."""
        return Deferred.fromCoroutine(self._list("pending", HandshakeSub.PENDING))

    def trusted(self) -> Deferred[list[dict[str, Any]]]:
        """@return: Deferred of the trusted peers."""
        return Deferred.fromCoroutine(self._list("trusted", HandshakeSub.TRUSTED))

    def _trust(self, request: ipc.Handshake) -> Deferred[dict[str, Any]]:
        return Deferred.fromCoroutine(self._ask(Command.HANDSHAKE, request.encode()))

    async def _list(self, name: str, sub: HandshakeSub) -> list[dict[str, Any]]:
        reply = await self._ask(Command.HANDSHAKE, ipc.Handshake(sub).encode())
        return list(reply.get(name) or [])

    # -- messages and events -------------------------------------------------------------------

    def send_message(
        self, target: Target, document: dict[str, Any] | str | bytes
    ) -> Deferred[None]:
        """@return: Deferred of None when the peer has confirmed the message."""
        return self._messenger.send(target, document)

    def publish(self, target: Target, topic: str, payload: bytes) -> Deferred[None]:
        """@return: Deferred of None once the stream to the broker has the event."""
        return self._publisher.publish(target, topic, payload)

    def subscribe(
        self,
        target: Target,
        topic: str,
        listener: Callable[[str, bytes], None],
        on_end: Callable[[Failure], None],
    ) -> Deferred[Callable[[], None]]:
        """@return: Deferred of a callable that ends the subscription."""
        return subscribe(self, target, topic, listener, on_end)

    def claim_messages(
        self,
        prefix: str,
        listener: Callable[[Address, dict[str, Any], int], bool | Deferred[bool]],
    ) -> Callable[[], None]:
        """@return: a callable that ends the claim."""
        self._must_be_extended()
        return self._interests.claim(
            prefix, lambda source, document, content: listener(source, document, len(content))
        )

    def watch_events(
        self, prefix: str, listener: Callable[[Address, str, bytes], None]
    ) -> Callable[[], None]:
        """@return: a callable that ends the watching."""
        self._must_be_extended()
        return self._interests.watch(
            prefix,
            lambda source, event: listener(source, event_text(event.topic), event.payload),
        )

    def announce(self, name: str, data: dict[str, Any], *, publish: bool = True) -> None:
        """Tell the webhook, and the subscribers of the node's broker."""
        self._must_be_extended()
        encode_announcement(name, data)  # so that whoever calls hears what is wrong with it
        asked = self._node_request("announce", name=name, data=data, publish=publish)
        asked.addErrback(_not_announced, name)

    # -- what the node is, knows and does ------------------------------------------------------

    def peers(self, *, fresh: bool = False) -> Deferred[list[dict[str, Any]]]:
        """@return: Deferred of what is known of the trusted peers."""
        return Deferred.fromCoroutine(self._peers(fresh))

    async def _peers(self, fresh: bool) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        more = True
        while more:
            after = found[-1]["node_id"] if found else -1
            answer = await self._ask_node("peers", after=after, fresh=fresh)
            found += answer["peers"]
            more = bool(answer["more"]) and bool(answer["peers"])
        return found

    def tags(self) -> Deferred[list[str]]:
        """@return: Deferred of the node's tags."""
        return self._node_request("tags").addCallback(lambda answer: list(answer["tags"]))

    def set_tags(self, tags: list[str]) -> Deferred[list[str]]:
        """@return: Deferred of the tags as stored."""
        asked = self._node_request("set_tags", tags=list(tags))
        return asked.addCallback(lambda answer: list(answer["tags"]))

    def sign(self, domain: str, data: bytes) -> Deferred[bytes]:
        """@return: Deferred of the signature, which holds for C{domain} only."""
        text = base64.b64encode(data).decode("ascii")
        asked = self._node_request("sign", domain=domain, data=text)
        return asked.addCallback(lambda answer: base64.b64decode(answer["signature"]))

    def public_key(self, node_id: int) -> Deferred[bytes]:
        """@return: Deferred of a node's Ed25519 key, 32 bytes."""
        asked = self._node_request("public_key", node_id=node_id)
        return asked.addCallback(lambda answer: base64.b64decode(answer["public_key"]))

    def tasks(self, request: dict[str, Any]) -> Deferred[dict[str, Any]]:
        """@return: Deferred of what became of the request."""

        async def ask() -> dict[str, Any]:
            self._must_be_extended()
            payload = encode_json(request)
            return data_of(await self._ask(Extension.TASK, payload, timeout=TASK_TIMEOUT))

        return Deferred.fromCoroutine(ask())

    def _node_request(self, op: str, **fields: Any) -> Deferred[dict[str, Any]]:
        return Deferred.fromCoroutine(self._ask_node(op, **fields))

    async def _ask_node(self, op: str, **fields: Any) -> dict[str, Any]:
        self._must_be_extended()
        return data_of(await self._ask(Extension.NODE, encode_json({"op": op, **fields})))

    def _must_be_extended(self) -> None:
        if not self._link.open:
            raise NotRunning("the daemon closed the connection")
        if not self.extended:
            raise ConnectionFailed(
                "this daemon has no such command",
                hint="it is another implementation's; start ours",
            )

    # -- requests ------------------------------------------------------------------------------

    async def _ask(self, command: int, payload: bytes = b"", **ways: Any) -> dict[str, Any]:
        reply = load(await self._request(command, payload, command + 1, **ways))
        if not isinstance(reply, dict):
            raise ConnectionFailed("the daemon's answer makes no sense")
        return reply

    async def _request(self, command: int, payload: bytes, expected: int, **ways: Any) -> bytes:
        try:
            return await self._link.connection.request(command, payload, expected, **ways)
        except DaemonError as error:
            raise meaning(error.message) from None

    def _disconnected(self) -> None:
        self._messenger.streams.close()
        self._publisher.streams.close()
        self.on_disconnect()

    def _maybe_idle(self) -> None:
        if self._link.open and self.is_idle:
            self.on_idle()


def connect_node(reactor: Any, path: str | None = None) -> Deferred[RemoteNode]:
    """
    Connect to a running daemon.

    @param path: its control socket; None looks where C{pilotctl} looks.
    @return: Deferred of the node; it fails with C{NotRunning} when nobody answers there.
    """

    async def connect() -> RemoteNode:
        node = RemoteNode(reactor)
        try:
            await node.open(path or places.socket_path())
        except BaseException:
            node.close()
            raise
        return node

    return Deferred.fromCoroutine(connect())


def _checked_port(encode: Callable[[], bytes], port: int) -> bytes:
    try:
        return encode()
    except WireError:
        raise InvalidArgument(f"invalid port {port}: expected 0 to 65535") from None


def _not_announced(reason: Failure, name: str) -> None:
    """Nobody waits for the outcome; that the daemon went away meanwhile is no mistake of ours."""
    if reason.check(PilotError):
        log.warn("{name} not announced: {error}", name=name, error=reason.getErrorMessage())
    else:
        log.failure("{name} not announced", reason, name=name)
