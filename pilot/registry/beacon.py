"""The beacon: a UDP server that shows nodes where they are, punches holes and relays.

@see: protocol notes, I{The beacon protocol}.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.interfaces import IListeningPort, IReactorTime
from twisted.internet.protocol import DatagramProtocol, Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from pilot.errors import PilotError, RegistryError, RegistryUnavailable, WireError
from pilot.registry.codec import FastFrameDecoder, encode_frame
from pilot.registry.dialing import registry_endpoint, split_address
from pilot.registry.listening import listen, listening_address, plain_host
from pilot.registry.relaytable import BeaconLimits, RelayTable, UdpAddress

log = Logger()

MAX_DATAGRAM = 65_535
"""Bytes; Twisted cuts longer datagrams short without a word, at 8192 unless told otherwise."""

RECEIVE_BUFFER = 4 << 20
"""Bytes asked of the kernel for datagrams that wait."""

READ_AT_ONCE = 256 << 10
"""Bytes read before timers and other sockets have their turn."""

REGISTER_EVERY = 30.0
"""Seconds between two visits at the registry."""

REGISTER_TIMEOUT = 10.0
"""Seconds for one visit."""

ANSWER_LIMIT = 1 << 20
"""Bytes of the largest answer taken from a registry."""


@dataclass(frozen=True, slots=True)
class BeaconSettings:
    """
    @ivar listen: C{host:port} or C{:port}.
    @ivar beacon_id: 0 stands alone; others register and exchange their nodes.
    @ivar peers: other beacons, C{host:port} with IP addresses.
    @ivar registry: C{host:port} of the registry to find others through, or C{""}.
    """

    listen: str
    beacon_id: int = 0
    peers: tuple[str, ...] = ()
    registry: str = ""


class BeaconProtocol(DatagramProtocol):
    """Between a socket and a L{RelayTable}."""

    noisy = False

    def __init__(self, clock: IReactorTime, table: RelayTable) -> None:
        self._clock = clock
        self._table = table
        self._sendto: Any = None

    def startProtocol(self) -> None:
        """The socket is open."""
        handle = self.transport.getHandle()  # type: ignore[union-attr]
        # Straight to the socket: the transport's own way parses the address at each datagram.
        self._sendto = handle.sendto

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """A datagram came."""
        for data, destination in self._table.received(datagram, addr, self._clock.seconds()):
            self.send(data, destination)

    def send(self, data: bytes, destination: UdpAddress) -> None:
        """Send a datagram; what the network does not take is lost, as any datagram may be."""
        try:
            self._sendto(data, destination)
        except OSError:
            self._table.counters["not sent"] += 1


class Beacon(Service):
    """
    A beacon on one UDP port.

    @ivar table: what it knows.
    @ivar port: the UDP port it has, once it runs.
    """

    def __init__(
        self, reactor: Any, settings: BeaconSettings, limits: BeaconLimits | None = None
    ) -> None:
        """@raise InvalidArgument: an address makes no sense."""
        self._reactor = reactor
        self._settings = settings
        self._limits = limits or BeaconLimits()
        self._address = listening_address(settings.listen)
        peers = [split_address(peer) for peer in settings.peers]
        self.table = RelayTable(settings.beacon_id, peers, self._limits)
        self.port = 0
        self._protocol = BeaconProtocol(reactor, self.table)
        self._listening: IListeningPort | None = None
        self._periodic: list[LoopingCall] = []
        self._visit: Deferred[Any] | None = None

    def open(self) -> None:
        """
        Take the port.

        @raise PortInUse: somebody has it.
        """

        def take(port: int, interface: str) -> Any:
            return self._reactor.listenUDP(
                port, self._protocol, interface=interface, maxPacketSize=MAX_DATAGRAM
            )

        self._listening = listening = listen("beacon", self._settings.listen, take)
        listening.maxThroughput = READ_AT_ONCE
        self.port = listening.getHost().port
        try:
            listening.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        except OSError as error:
            log.debug("small receive buffer: {error}", error=error)

    def startService(self) -> None:
        """Serve; takes the port if that was not done before."""
        if self._listening is None:
            self.open()
        super().startService()
        self._every(self._limits.sweep_every, self._sweep)
        self._every(self._limits.gossip_every, self._gossip)
        if self._settings.beacon_id and self._settings.registry:
            self._every(REGISTER_EVERY, self._meet_others, now=True)

    def stopService(self) -> Deferred[None]:
        """@return: Deferred of C{None} when the port is free again."""
        super().stopService()
        for call in self._periodic:
            call.stop()
        self._periodic.clear()
        if self._visit is not None:
            self._visit.cancel()
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        listening, self._listening = self._listening, None
        if listening is not None:
            await _deferred(listening.stopListening())

    def _every(self, seconds: float, action: Any, *, now: bool = False) -> None:
        def guarded() -> None:
            # An exception would end the repetition for good.
            try:
                action()
            except Exception:
                log.failure("in the beacon")

        call = LoopingCall(guarded)
        call.clock = self._reactor
        call.start(seconds, now=now)
        self._periodic.append(call)

    def _sweep(self) -> None:
        self.table.sweep(self._reactor.seconds())

    def _gossip(self) -> None:
        self.table.sweep_gossip(self._reactor.seconds())
        if self.table.peers:
            message = self.table.gossip()
            for peer in self.table.peers:
                self._protocol.send(message, peer)

    def _meet_others(self) -> None:
        if self._visit is None:
            self._visit = Deferred.fromCoroutine(self._visit_registry())
            self._visit.addTimeout(REGISTER_TIMEOUT, self._reactor)
            self._visit.addErrback(self._not_met)
            self._visit.addCallback(self._visited)

    def _visited(self, _: object) -> None:
        self._visit = None

    def _not_met(self, failure: Failure) -> None:
        if self.running:
            log.warn("the beacon did not reach the registry: {error}", error=failure.value)

    async def _visit_registry(self) -> None:
        endpoint = registry_endpoint(self._reactor, self._settings.registry)
        conversation = await connectProtocol(endpoint, _Conversation())
        try:
            host = self._address[0]
            if host in ("", "0.0.0.0", "::"):
                host = plain_host(conversation.transport.getHost().host)
            where = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
            await conversation.ask(
                {"type": "beacon_register", "beacon_id": self.table.beacon_id, "addr": where}
            )
            answer = await conversation.ask({"type": "beacon_list"})
        finally:
            conversation.transport.abortConnection()
        self.table.peers = frozenset(self._others(answer))

    def _others(self, answer: dict[str, Any]) -> list[UdpAddress]:
        others = []
        beacons = answer.get("beacons")
        for entry in beacons if isinstance(beacons, list) else ():
            if isinstance(entry, dict) and entry.get("id") != self.table.beacon_id:
                try:
                    others.append(split_address(str(entry.get("addr", ""))))
                except PilotError:
                    log.debug("the registry lists a beacon without address: {entry}", entry=entry)
        return others


class _AnswerDecoder(FastFrameDecoder):
    __slots__ = ()

    limit = ANSWER_LIMIT


class _Conversation(Protocol):
    """Question and answer over one connection."""

    transport: Any

    def __init__(self) -> None:
        self._decoder = _AnswerDecoder()
        self._asked: Deferred[dict[str, Any]] | None = None

    def ask(self, message: dict[str, Any]) -> Deferred[dict[str, Any]]:
        """@return: Deferred of the answer."""
        self._asked = Deferred()
        self.transport.write(encode_frame(message))
        return self._asked

    def dataReceived(self, data: bytes) -> None:
        try:
            frames = self._decoder.feed(data)
        except WireError as error:
            self._answer(error)
            self.transport.abortConnection()
            return
        for frame in frames:
            error_text = frame.get("error")
            self._answer(RegistryError(error_text) if isinstance(error_text, str) else frame)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._answer(RegistryUnavailable(reason.getErrorMessage()))

    def _answer(self, result: dict[str, Any] | Exception) -> None:
        asked, self._asked = self._asked, None
        if asked is None or asked.called:
            return
        if isinstance(result, Exception):
            asked.errback(result)
        else:
            asked.callback(result)


async def _deferred(result: Any) -> None:
    if isinstance(result, Deferred):
        await result
