"""The node inside the daemon: everything an agent's program may ask of the overlay."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IListeningPort, IProtocol, IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pilot.address import Address, SocketAddress
from pilot.crypto.skillsignature import signed_bytes
from pilot.errors import (
    AddressError,
    ConnectionFailed,
    InvalidArgument,
    NotFound,
    PilotError,
    RegistryError,
)
from pilot.interfaces import IPilotNode
from pilot.node.announcing import encode_announcement
from pilot.node.listening import ListeningPort
from pilot.node.networks import member_ids
from pilot.node.streamaddress import PilotStreamAddress
from pilot.node.subscribing import subscribe
from pilot.wire.eventstream import event_text

if TYPE_CHECKING:
    from pilot.node.service import NodeParts

log = Logger()

#: Tags that the command of the control socket takes, fewer than a registry does.
COMMAND_TAGS = 3

#: What a caller may name a node by.
Target = Address | int | str

_T = TypeVar("_T")


@implementer(IPilotNode)
class PilotNode:
    """
    One agent on the overlay: the face of the parts that L{pilot.node.service} puts together.

    @ivar parts: those parts, for whoever must look deeper (control socket, metrics, manhole).
    """

    def __init__(self, parts: NodeParts) -> None:
        self.parts = parts

    def __repr__(self) -> str:
        profile, address = self.parts.profile, self.address
        return f"<PilotNode {address or 'not registered'} {profile.hostname}".rstrip() + ">"

    @property
    def address(self) -> Address | None:
        """Own address on the backbone; None before the registration."""
        node_id = self.parts.registry.node_id
        return None if node_id is None else Address(0, node_id)

    # -- names ---------------------------------------------------------------------------------

    def resolve(self, target: Target) -> Deferred[Address]:
        """
        Find the address of C{target}: an address, a node id, a hostname, or C{"self"}.

        @return: Deferred; it fails with C{RegistryError} for a name that does not exist or may
            not be seen.
        """
        return Deferred.fromCoroutine(self._resolve(target))

    async def _resolve(self, target: Target) -> Address:
        if isinstance(target, Address):
            return target
        if isinstance(target, int):
            return Address(0, target)
        if target == "self":
            return self.own_address()
        try:
            return Address.parse(target)
        except AddressError:
            pass
        if target.isascii() and target.isdigit() and int(target) <= 0xFFFFFFFF:
            return Address(0, int(target))
        if target == self.parts.profile.hostname:
            return self.own_address()
        answer = await self.resolve_hostname(target)
        try:
            return Address.parse(str(answer.get("address")))
        except AddressError as error:
            raise ConnectionFailed(f"the registry's answer makes no sense: {error}") from error

    def resolve_hostname(self, hostname: str) -> Deferred[dict[str, Any]]:
        """@return: Deferred of the registry's reply: node_id, address, public, hostname."""
        return self.parts.registry.resolve_hostname(hostname)

    def own_address(self) -> Address:
        """@raise ConnectionFailed: the node is not registered yet."""
        address = self.address
        if address is None:
            raise ConnectionFailed("the node is not registered yet")
        return address

    # -- streams and datagrams -----------------------------------------------------------------

    def dial(self, target: Target, port: int, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Open a stream to C{port} of C{target}.

        @return: Deferred of the protocol built by C{factory}; it fails with
            C{ConnectionRefused}, C{DialTimeout} or C{ConnectionFailed}.
        """
        return Deferred.fromCoroutine(self._dial(target, port, factory))

    async def _dial(self, target: Target, port: int, factory: IProtocolFactory) -> IProtocol:
        address = await self._resolve(target)
        if not 0 <= port <= 0xFFFF:
            raise InvalidArgument(f"invalid port {port}: expected 0 to 65535")
        if not self.parts.networks.allows(address.network, port):
            raise ConnectionFailed(f"port {port} not allowed by network {address.network} policy")
        await self.parts.tunnel.ensure(address.node)
        return await self.parts.streams.dial(self.own_address(), address, port, factory)

    def listen(self, port: int, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        Serve C{factory} on a virtual port; 0 takes a free one.

        @return: Deferred of the listening port; it fails with C{PortInUse}.
        """
        return Deferred.fromCoroutine(self._listen(port, factory))

    async def _listen(self, port: int, factory: IProtocolFactory) -> IListeningPort:
        chosen = port or self.parts.ports.free_port()
        listening = ListeningPort(
            PilotStreamAddress(self.own_address(), chosen),
            lambda: self.parts.ports.bind(chosen, factory),
        )
        listening.startListening()
        return listening

    def send_datagram(self, target: Target, port: int, data: bytes) -> Deferred[None]:
        """@return: Deferred of None once the datagram was handed to the tunnel."""
        return Deferred.fromCoroutine(self._send_datagram(target, port, data))

    async def _send_datagram(self, target: Target, port: int, data: bytes) -> None:
        address = await self._resolve(target)
        if not self.parts.networks.allows(address.network, port):
            raise ConnectionFailed(f"port {port} not allowed by network {address.network} policy")
        await self.parts.datagrams.send(address, port, data)

    def add_datagram_listener(
        self, listener: Callable[[SocketAddress, int, bytes], None]
    ) -> Callable[[], None]:
        """@return: a callable that ends the listening."""
        return self.parts.datagrams.listen(listener)

    # -- messages and events -------------------------------------------------------------------

    def send_message(
        self, target: Target, document: dict[str, Any] | str | bytes
    ) -> Deferred[None]:
        """@return: Deferred of None when the peer has confirmed the message."""
        return self.parts.messenger.send(target, document)

    def publish(self, target: Target, topic: str, payload: bytes) -> Deferred[None]:
        """@return: Deferred of None once the stream to the broker has the event."""
        return self.parts.publisher.publish(target, topic, payload)

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
        return self.parts.claims.claim(
            (prefix,),
            lambda source, document, content: listener(source, document, len(content)),
        )

    def watch_events(
        self, prefix: str, listener: Callable[[Address, str, bytes], None]
    ) -> Callable[[], None]:
        """@return: a callable that ends the watching."""
        return self.parts.taps.watch(
            (prefix,),
            lambda source, event: listener(source, event_text(event.topic), event.payload),
        )

    def announce(self, name: str, data: dict[str, Any], *, publish: bool = True) -> None:
        """Tell the webhook, and the subscribers of the own broker."""
        payload = encode_announcement(name, data)
        self.parts.on_event(name, data)
        if publish:
            self.parts.taps.announce(name, payload)

    # -- keys ----------------------------------------------------------------------------------

    def sign(self, domain: str, data: bytes) -> Deferred[bytes]:
        """@return: Deferred of the signature, which holds for C{domain} only."""
        return maybeDeferred(lambda: self.parts.identity.sign(signed_bytes(domain, data)))

    def public_key(self, node_id: int) -> Deferred[bytes]:
        """@return: Deferred of a node's Ed25519 key, 32 bytes."""
        return Deferred.fromCoroutine(self._public_key(node_id))

    async def _public_key(self, node_id: int) -> bytes:
        if node_id == self.parts.registry.node_id:
            return self.parts.identity.public_key
        try:
            key = (await self.parts.directory.recent(node_id)).public_key
        except RegistryError as error:
            raise NotFound(f"no key of node {node_id}: {error.message}") from None
        if key is None:
            raise NotFound(f"node {node_id} has no key")
        return key

    # -- tasks ---------------------------------------------------------------------------------

    def tasks(self, request: dict[str, Any]) -> Deferred[dict[str, Any]]:
        """@return: Deferred of what became of the request."""
        control = self.parts.tasks
        if control is None:
            return fail(no_tasks())
        return Deferred.fromCoroutine(_awaited(control(request)))

    # -- trust ---------------------------------------------------------------------------------

    def handshake(self, node_id: int, justification: str = "") -> Deferred[dict[str, Any]]:
        """Ask C{node_id} for trust."""
        return _deferred(self.parts.trust.handshake(node_id, justification))

    def approve(self, node_id: int) -> Deferred[dict[str, Any]]:
        """Grant what C{node_id} asked for."""
        return _deferred(self.parts.trust.approve(node_id))

    def reject(self, node_id: int, reason: str = "") -> Deferred[dict[str, Any]]:
        """Turn C{node_id} down."""
        return _deferred(self.parts.trust.reject(node_id, reason))

    def untrust(self, node_id: int) -> Deferred[dict[str, Any]]:
        """Take trust in C{node_id} back."""
        return _deferred(self.parts.trust.untrust(node_id))

    def pending(self) -> Deferred[list[dict[str, Any]]]:
        """@return: Deferred of the requests that wait for an answer."""
        return succeed(self.parts.trust.pending())

    def trusted(self) -> Deferred[list[dict[str, Any]]]:
        """@return: Deferred of the trusted peers."""
        return succeed(self.parts.trust.trusted())

    def peers(self, *, fresh: bool = False) -> Deferred[list[dict[str, Any]]]:
        """@return: Deferred of what is known of the trusted peers."""
        return self.parts.peers.peers(fresh=fresh)

    # -- looking in ----------------------------------------------------------------------------

    def info(self) -> Deferred[dict[str, Any]]:
        """@return: Deferred of the info reply; answered from memory, whatever the registry does."""
        return succeed(self.parts.report.info())

    def health(self) -> dict[str, Any]:
        """@return: the health reply."""
        return self.parts.report.health()

    # -- settings ------------------------------------------------------------------------------

    def set_hostname(self, hostname: str) -> Deferred[dict[str, Any]]:
        """@return: Deferred of the registry's reply; C{""} gives the hostname up."""
        return Deferred.fromCoroutine(self.parts.profile.set_hostname(hostname))

    def set_visibility(self, public: bool) -> Deferred[dict[str, Any]]:
        """@return: Deferred of the registry's reply."""
        return Deferred.fromCoroutine(self._set_visibility(public))

    async def _set_visibility(self, public: bool) -> dict[str, Any]:
        reply = await self.parts.profile.set_visibility(public)
        self.parts.trust.public = public
        return reply

    def tags(self) -> Deferred[list[str]]:
        """@return: Deferred of the own tags."""
        return Deferred.fromCoroutine(self._tags())

    async def _tags(self) -> list[str]:
        known = self.parts.profile.tags
        if known is None:  # an earlier run may have set some
            known = list((await self.parts.directory.lookup(self.own_address().node)).tags)
        return list(known)

    def set_tags(self, tags: list[str]) -> Deferred[list[str]]:
        """@return: Deferred of the tags as stored."""
        setting = Deferred.fromCoroutine(self.parts.profile.set_tags(tags))
        return setting.addCallback(lambda _: list(self.parts.profile.tags or ()))

    def replace_tags(self, tags: list[str]) -> Deferred[dict[str, Any]]:
        """
        What the control socket's command does, which takes fewer than the registry.

        @return: Deferred of the registry's reply, the tags as stored in it.
        """
        if len(tags) > COMMAND_TAGS:
            return fail(PilotError(f"maximum {COMMAND_TAGS} tags allowed"))
        return Deferred.fromCoroutine(self.parts.profile.set_tags(tags))

    def set_task_exec(self, enabled: bool) -> Deferred[dict[str, Any]]:
        """@return: Deferred of the registry's reply."""
        return Deferred.fromCoroutine(self.parts.profile.set_task_exec(enabled))

    def deregister(self) -> Deferred[dict[str, Any]]:
        """Have the registry forget this node until its next heartbeat."""
        return self.parts.registry.deregister()

    # -- private networks ----------------------------------------------------------------------

    def network_list(self) -> Deferred[dict[str, Any]]:
        """@return: Deferred of the registry's list of networks."""
        return self.parts.registry.list_networks()

    def network_join(self, network: int, token: str = "") -> Deferred[dict[str, Any]]:
        """Join a network.  @return: Deferred of the registry's reply."""
        return self._changing(lambda: self.parts.registry.join_network(network, token))

    def network_leave(self, network: int) -> Deferred[dict[str, Any]]:
        """Leave a network.  @return: Deferred of the registry's reply."""
        return self._changing(lambda: self.parts.registry.leave_network(network))

    def network_members(self, network: int) -> Deferred[dict[str, Any]]:
        """
        Ask who is in a network, and notice if this node has come in or left by somebody else's
        doing: that of the network's founder or an administrator.

        @return: Deferred of the registry's reply.
        """
        return Deferred.fromCoroutine(self._network_members(network))

    async def _network_members(self, network: int) -> dict[str, Any]:
        registry = self.parts.registry
        try:
            reply = await registry.list_nodes(network)
        except RegistryError:
            await self._belongs(network, False)
            raise
        await self._belongs(network, registry.node_id in member_ids(reply))
        return reply

    async def _belongs(self, network: int, belongs: bool) -> None:
        if network and belongs != (network in self.parts.networks.own):
            await self._refresh_networks()

    def network_invite(self, network: int, node_id: int) -> Deferred[dict[str, Any]]:
        """Invite a node.  @return: Deferred of the registry's reply."""
        return self.parts.registry.invite_to_network(network, node_id)

    def network_invites(self) -> Deferred[dict[str, Any]]:
        """@return: Deferred of the invitations this node has."""
        return self.parts.registry.poll_invites()

    def network_respond(self, network: int, accept: bool) -> Deferred[dict[str, Any]]:
        """Answer an invitation.  @return: Deferred of the registry's reply."""
        return self._changing(lambda: self.parts.registry.respond_invite(network, accept))

    def member_tags(self, network: int, node_id: int) -> Deferred[dict[str, Any]]:
        """@return: Deferred of the tags of one member, or of all for node 0."""
        return self.parts.registry.get_member_tags(network, node_id)

    def set_member_tags(
        self, network: int, node_id: int, tags: list[str]
    ) -> Deferred[dict[str, Any]]:
        """Replace the tags of a member.  @return: Deferred of the registry's reply."""
        return self.parts.registry.set_member_tags(network, node_id, tags)

    def _changing(
        self, request: Callable[[], Awaitable[dict[str, Any]]]
    ) -> Deferred[dict[str, Any]]:
        async def change() -> dict[str, Any]:
            reply = await request()
            await self._refresh_networks()
            return reply

        return Deferred.fromCoroutine(change())

    async def _refresh_networks(self) -> None:
        try:
            await self.parts.networks.refresh()
        except PilotError as error:
            log.warn("memberships not refreshed: {error}", error=error.message)


def no_tasks() -> PilotError:
    """@return: what to say when the task service is switched off."""
    return PilotError("this daemon takes no tasks", hint="start it without --no-tasksubmit")


async def _awaited(work: Awaitable[_T]) -> _T:
    return await work


def _deferred(work: Deferred[_T] | Coroutine[Any, Any, _T]) -> Deferred[_T]:
    return work if isinstance(work, Deferred) else Deferred.fromCoroutine(work)
