"""Puts a node together, starts it, stops it."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from pilot import _version
from pilot.address import PORT_HANDSHAKE, Address
from pilot.crypto.identity import Identity
from pilot.errors import ConnectionFailed, PilotError
from pilot.node.claims import Claims
from pilot.node.datagrams import Datagrams
from pilot.node.directory import PeerDirectory
from pilot.node.keptstreams import DIAL_RATE, DIALS_AT_ONCE
from pilot.node.messenger import Messenger
from pilot.node.networks import Networks
from pilot.node.node import PilotNode
from pilot.node.peers import KnownPeers
from pilot.node.ports import PortTable
from pilot.node.profile import Profile
from pilot.node.publishing import Publisher
from pilot.node.registration import Registration
from pilot.node.report import Report
from pilot.node.settings import NodeSettings
from pilot.node.streams import StreamTable
from pilot.node.taps import Taps
from pilot.node.turnstile import Turnstile
from pilot.registry.client import RegistryClient
from pilot.stream.config import StreamConfig
from pilot.trust.protocol import HandshakeFactory
from pilot.trust.service import TrustService
from pilot.trust.store import TrustStore
from pilot.tunnel.endpoints import (
    format_endpoint,
    is_private,
    lan_addresses,
    parse_endpoint,
    registered_address,
)
from pilot.tunnel.socket import DatagramSocket, UdpSocket
from pilot.tunnel.tunnel import Tunnel
from pilot.wire.packet import PROTO_DATAGRAM, PROTO_STREAM, RawPacket

log = Logger()

#: Seconds between looks whether memberships and port policies have changed.
NETWORKS_INTERVAL = 300.0

EventListener = Callable[[str, dict[str, Any] | None], None]


class NodeParts:
    """
    What a node is made of; each part knows the others only through what it was given.

    @ivar settings: what the node was told.
    @ivar identity: its key.
    @ivar registry: the client of the registry, signed in as this node.
    @ivar directory: what is known of peers.
    @ivar networks: memberships and port policies.
    @ivar profile: how the node is known to others.
    @ivar ports: the bound virtual ports.
    @ivar tunnel: the encrypted UDP tunnels.
    @ivar streams: the streams.
    @ivar datagrams: datagrams in and out.
    @ivar registration: the heartbeat.
    @ivar report: the info and health replies.
    @ivar peers: what is known of the trusted peers.
    @ivar messenger: messages to other nodes.
    @ivar publisher: events to other nodes' brokers.
    @ivar claims: who takes messages before they reach the inbox.
    @ivar taps: who watches the own broker.
    @ivar on_event: told what happens, for webhooks.
    @ivar tasks: does what is asked about tasks; None when nobody does.
    """

    settings: NodeSettings
    identity: Identity
    registry: RegistryClient
    directory: PeerDirectory
    networks: Networks
    profile: Profile
    ports: PortTable
    tunnel: Tunnel
    streams: StreamTable
    datagrams: Datagrams
    registration: Registration
    report: Report
    peers: KnownPeers
    messenger: Messenger
    publisher: Publisher
    claims: Claims
    taps: Taps
    on_event: EventListener
    tasks: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]] | None = None
    trust_or_none: TrustService | None = None

    @property
    def trust(self) -> TrustService:
        """Who may connect; asked for before the registration it is an error of the program."""
        assert self.trust_or_none is not None
        return self.trust_or_none


class NodeService(Service):
    """
    A node from its start to its end.

    @ivar node: the node; use it once C{started} has fired.
    @ivar started: Deferred of None when the node is registered and serves; it fails with the
        C{PilotError} that kept it from that.
    """

    name = "node"

    def __init__(
        self,
        reactor: Any,
        settings: NodeSettings,
        identity: Identity,
        trust_file: Path | None,
        *,
        rng: random.Random | None = None,
        on_event: EventListener = lambda name, data: None,
        open_socket: Callable[[Any, str, int], DatagramSocket] = UdpSocket,
    ) -> None:
        """
        Wire everything, open nothing.

        @param trust_file: where trust is kept; None forgets it at the end.
        @param open_socket: makes the tunnel's socket of reactor, host and port.
        @param on_event: told what happens (protocol notes, I{Events}): a name and its data.
        """
        self._reactor = reactor
        self._trust_file = trust_file
        self._on_event = on_event
        self._rng = rng or random.SystemRandom()
        self._endpoint = ""
        self._news_missed = False
        self._networks_known = False
        self._refreshing = LoopingCall(self._refresh_networks)
        self._refreshing.clock = reactor
        self.started: Deferred[None] = Deferred()
        self.parts = parts = NodeParts()
        self.node = PilotNode(parts)
        parts.settings = settings
        parts.identity = identity
        parts.registry = RegistryClient(
            reactor,
            settings.registry,
            identity=identity,
            tls_fingerprint=settings.registry_fingerprint or None,
            rng=self._rng,
        )
        parts.directory = PeerDirectory(reactor, parts.registry)
        parts.networks = Networks(parts.registry)
        parts.profile = Profile(parts.registry, hostname=settings.hostname, public=settings.public)
        parts.ports = PortTable(settings.limits, self._rng)
        host, port = _split(settings.listen)
        parts.tunnel = Tunnel(
            reactor,
            identity,
            0,
            open_socket(reactor, host, port),
            parts.directory,
            encrypt=settings.encrypt,
            rng=self._rng,
            on_event=on_event,
        )
        parts.streams = StreamTable(
            reactor,
            parts.tunnel,
            parts.ports,
            settings.limits,
            StreamConfig(
                keepalive=settings.keepalive,
                idle_timeout=settings.idle_timeout,
                time_wait=settings.time_wait,
            ),
            self._rng,
            admits=self._admits,
            allows=parts.networks.allows,
            on_event=on_event,
        )
        parts.datagrams = Datagrams(
            parts.tunnel,
            parts.ports,
            own_address=self.node.own_address,
            admits=self._admits,
            allows=parts.networks.allows,
            members=parts.networks.members,
            on_event=on_event,
        )
        parts.tunnel.packet_sink = self._packet_received
        parts.tunnel.batch_sink = parts.streams.batch_ended
        parts.registration = Registration(
            reactor,
            parts.registry,
            self._rng,
            settings.keepalive,
            register=self._register,
            after_beat=self._after_beat,
            after_return=self._after_return,
        )
        parts.report = Report(reactor, parts)
        parts.peers = KnownPeers(reactor, parts.directory, lambda: parts.trust.trusted())
        dials = Turnstile(reactor, at_once=DIALS_AT_ONCE, rate=DIAL_RATE)
        parts.messenger = Messenger(reactor, self.node, dials, self._rng)
        parts.publisher = Publisher(reactor, self.node, dials, self._rng)
        parts.claims = Claims(reactor)
        parts.taps = Taps(lambda: self.node.address)
        parts.on_event = on_event
        parts.report.sections["messages"] = parts.messenger.streams.statistics
        parts.report.sections["published"] = parts.publisher.streams.statistics
        parts.report.sections["claims"] = parts.claims.statistics

    # -- start and stop ------------------------------------------------------------------------

    def startService(self) -> None:
        """Start; C{started} tells how it went."""
        super().startService()
        Deferred.fromCoroutine(self._start()).chainDeferred(self.started)

    async def _start(self) -> None:
        parts, settings = self.parts, self.parts.settings
        parts.tunnel.start()
        # Any registry answers this to anybody: better to know soon when there is none.
        await parts.registry.request("beacon_list")
        parts.tunnel.beacon = await self._beacon_address()
        self._endpoint = await self._public_endpoint()
        await parts.registration.start()
        own = self.node.own_address()
        log.info(
            "registered as {address} at {registry}", address=str(own), registry=settings.registry
        )
        self._start_trust(own)
        for network in settings.networks:
            await self._join(network)
        self._refreshing.start(NETWORKS_INTERVAL)
        parts.registry.on_connected(self._reconnected)
        parts.tunnel.beacon_client.moved = self._moved
        self._on_event("node.registered", {"address": str(own), "endpoint": self._endpoint})

    def _start_trust(self, own: Address) -> None:
        parts, settings = self.parts, self.parts.settings
        parts.trust_or_none = trust = TrustService(
            self._reactor,
            TrustStore(self._trust_file),
            parts.identity,
            own.node,
            parts.registry,
            send_message=self._send_message,
            on_event=self._on_event,
            public=settings.public,
            auto_approve=settings.trust_auto_approve,
            poll_interval=settings.keepalive,
            drop_streams=parts.streams.drop_peer,
            drop_tunnel=self._drop_tunnel,
            wall_time=self._reactor.seconds,
            rng=self._rng,
        )
        parts.networks.members_changed = trust.networks_changed
        # A tunnel is made only with the key that the registry names, so trust hears of it first.
        parts.directory.key_seen = trust.key_seen
        parts.directory.tell_keys()
        parts.registry.on_notify(trust.notified)
        trust.notify_supported = parts.registry.notified
        parts.ports.bind(PORT_HANDSHAKE, HandshakeFactory(self._reactor, trust.message_received))
        trust.start()

    async def stopService(self) -> None:
        """Say goodbye to peers and registry, close the socket."""
        super().stopService()
        parts = self.parts
        if self._refreshing.running:
            self._refreshing.stop()
        if parts.trust_or_none is not None:
            parts.trust.stop()
        parts.peers.close()
        parts.messenger.streams.close()
        parts.publisher.streams.close()
        parts.streams.close()
        # A registry of this implementation keeps what belongs to a node that says goodbye.  Others
        # take it out of its networks for good, so there a member leaves without a word.
        keeps = parts.registry.notified or not parts.networks.own
        await parts.registration.stop(deregister=keeps)
        if keeps and parts.registration.started:
            self._on_event("node.deregistered", None)
        parts.registry.close()
        parts.tunnel.close()

    # -- registration --------------------------------------------------------------------------

    async def _register(self) -> None:
        parts = self.parts
        if parts.registration.started:
            self._endpoint = await self._public_endpoint()  # it may have moved meanwhile
        parts.tunnel.lan_addrs = tuple(lan_addresses(parts.tunnel.address[1]))
        await parts.registry.register(
            self._endpoint,
            owner=parts.settings.email,
            lan_addrs=parts.tunnel.lan_addrs,
            version=_version.__version__,
        )
        node_id = parts.registry.node_id
        assert node_id is not None
        if parts.trust_or_none is not None and parts.tunnel.node_id != node_id:
            log.warn("the registry gave this node another address: {node_id}", node_id=node_id)
            parts.trust.node_id = node_id
        parts.tunnel.registered(node_id)
        await parts.profile.restore()

    async def _beacon_address(self) -> tuple[str, int] | None:
        beacon = self.parts.settings.beacon
        if not beacon:
            return None
        literal = parse_endpoint(beacon)
        if literal is not None:
            return literal
        host, port = _split(beacon)
        try:
            return str(await self._reactor.resolve(host)), port
        except Exception as error:
            log.error("beacon {beacon} has no address: {error}", beacon=beacon, error=error)
            return None

    async def _public_endpoint(self) -> str:
        """Where others reach the socket, as far as that can be known from here."""
        settings, tunnel = self.parts.settings, self.parts.tunnel
        if settings.endpoint:
            return settings.endpoint
        if tunnel.beacon is not None:
            seen = await tunnel.discover()
            if seen is None:
                log.warn("the beacon {beacon} does not answer", beacon=settings.beacon)
            elif not is_private(format_endpoint(seen)):
                return format_endpoint(seen)
        return registered_address(format_endpoint(tunnel.address))

    def _moved(self, address: tuple[str, int]) -> None:
        log.info("the beacon sees this node at {address} now", address=format_endpoint(address))
        self.parts.registration.renew()

    def _reconnected(self) -> None:
        self._news_missed = True
        self.parts.registration.check_now()

    def _after_beat(self, answer: dict[str, Any]) -> None:
        trust = self.parts.trust
        trust.notify_supported = self.parts.registry.notified
        if isinstance(answer.get("time"), int):
            trust.registry_time(answer["time"])
        if self._news_missed:
            self._news_missed = False
            trust.poll()

    def _after_return(self) -> None:
        self._news_missed = False
        trust = self.parts.trust
        trust.notify_supported = self.parts.registry.notified
        trust.reregistered(self.parts.registry.node_id)
        trust.poll()
        self._on_event("node.reregistered", {"address": str(self.node.own_address())})

    async def _join(self, network: int) -> None:
        try:
            await self.parts.registry.join_network(network)
        except PilotError as error:
            log.warn("network {network}: {error}", network=network, error=error.message)
        else:
            self._on_event("network.auto_joined", {"network_id": network})

    async def _refresh_networks(self) -> None:
        networks = self.parts.networks
        before = networks.own
        try:
            await networks.refresh()
        except PilotError as error:
            log.debug("memberships not refreshed: {error}", error=error.message)
            return
        if self._networks_known:  # what this node did itself was noticed when it did it
            for network in sorted(networks.own - before):
                self._on_event("network.sync_joined", {"network_id": network})
            for network in sorted(before - networks.own):
                self._on_event("network.sync_left", {"network_id": network})
        self._networks_known = True

    # -- packets and trust ---------------------------------------------------------------------

    def _packet_received(self, node_id: int, packet: RawPacket) -> None:
        if packet.protocol == PROTO_STREAM:
            self.parts.streams.packet_received(node_id, packet)
        elif packet.protocol == PROTO_DATAGRAM:
            self.parts.datagrams.packet_received(node_id, packet)

    def _admits(self, node_id: int, port: int) -> bool:
        if node_id == self.parts.registry.node_id:
            return True
        trust = self.parts.trust_or_none
        return trust is not None and trust.allows(node_id, port)

    def _drop_tunnel(self, node_id: int) -> None:
        self.parts.directory.forget(node_id)
        self.parts.tunnel.forget(node_id)

    def _send_message(self, node_id: int, data: bytes) -> Deferred[None]:
        return Deferred.fromCoroutine(self._deliver(node_id, data))

    async def _deliver(self, node_id: int, data: bytes) -> None:
        message = _OneMessage(data)
        await self.node.dial(
            Address(0, node_id), PORT_HANDSHAKE, Factory.forProtocol(lambda: message)
        )
        await message.delivered


class _OneMessage(Protocol):
    """Writes one unit and closes; C{delivered} fires when it was acknowledged."""

    def __init__(self, data: bytes) -> None:
        self.delivered: Deferred[None] = Deferred()
        self._data = data

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.write_unit(self._data)
        transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if reason.check(ConnectionDone):
            self.delivered.callback(None)
        else:
            self.delivered.errback(Failure(ConnectionFailed(reason.getErrorMessage())))


def _split(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)
