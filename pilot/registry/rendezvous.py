"""The rendezvous: registry, beacon and dashboard as one service.

It runs alone under C{twistd pilot-rendezvous} or inside a daemon.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from pilot.crypto.identity import verify
from pilot.errors import InvalidArgument, PilotError
from pilot.registry.beacon import Beacon, BeaconSettings
from pilot.registry.certificate import load_certificate, make_certificate
from pilot.registry.connection import ConnectionLimits
from pilot.registry.dashboard import make_site
from pilot.registry.directory import Directory
from pilot.registry.limits import DEFAULT_LIMITS, Limits
from pilot.registry.listening import listen, listening_address
from pilot.registry.server import RegistryFactory
from pilot.registry.store import IRegistryStore, MemoryStore, SqliteStore

log = Logger()

REGISTRY_PORT, BEACON_PORT = 9000, 9001


@dataclass(frozen=True, slots=True)
class RendezvousSettings:
    """
    What an operator may choose.

    @ivar registry_addr: C{host:port} or C{:port} of the registry, TCP; port 0 takes any.
    @ivar beacon_addr: likewise of the beacon, UDP.
    @ivar http: likewise of the dashboard; C{""} for none.
    @ivar store: path of the database; C{""} keeps nothing.
    @ivar admin_token: secret of the administrator; C{""} for none, and then nobody is one.
    @ivar dashboard_token: secret that shows networks on the dashboard; C{""} for none.
    @ivar tls: whether the registry speaks TLS.
    @ivar tls_cert: path of a PEM certificate; C{""} for a self-signed one made at each start.
    @ivar tls_key: path of its key.
    """

    registry_addr: str = f":{REGISTRY_PORT}"
    beacon_addr: str = f":{BEACON_PORT}"
    http: str = ""
    store: str = ""
    admin_token: str = ""
    dashboard_token: str = ""
    tls: bool = False
    tls_cert: str = ""
    tls_key: str = ""


class Rendezvous(MultiService):
    """
    Registry, beacon and dashboard.

    @ivar started: Deferred of C{None} when all of them serve; it fails with a C{PilotError} when
        one cannot, and then none does.
    @ivar registry_port: TCP port of the registry, once started.
    @ivar beacon_port: UDP port of the beacon, once started.
    @ivar http_port: TCP port of the dashboard, once started; 0 without one.
    @ivar fingerprint: of the certificate, for clients to pin; C{""} without TLS.
    @ivar factory: the registry's server, once started.
    """

    def __init__(
        self,
        settings: RendezvousSettings,
        reactor: Any,
        *,
        limits: Limits = DEFAULT_LIMITS,
        connection_limits: ConnectionLimits | None = None,
    ) -> None:
        """
        Open nothing yet.

        @raise InvalidArgument: the settings make no sense.
        """
        super().__init__()
        self.started: Deferred[None] = Deferred()
        self.registry_port = self.beacon_port = self.http_port = 0
        self.fingerprint = ""
        self.factory: RegistryFactory | None = None
        self._settings = settings
        self._reactor = reactor
        self._limits = limits
        self._connection_limits = connection_limits or ConnectionLimits()
        self._ports: list[Any] = []
        self._store: IRegistryStore | None = None
        for address in (settings.registry_addr, settings.http):
            if address:
                listening_address(address)
        if bool(settings.tls_cert) != bool(settings.tls_key):
            raise InvalidArgument("tls-cert and tls-key belong together: give both or none")
        self.beacon = Beacon(reactor, BeaconSettings(settings.beacon_addr))
        self._beacon_serves = False

    def startService(self) -> None:
        """
        Serve.

        What fails here fails L{started}; nothing is left open then.
        """
        super().startService()
        try:
            self._start()
        except PilotError:
            failure = Failure()
            closing = Deferred.fromCoroutine(self._close())
            closing.addErrback(lambda f: log.failure("closing", f))
            closing.addCallback(lambda _: self.started.errback(failure))
            return
        self.started.callback(None)

    def stopService(self) -> Deferred[Any]:
        """@return: Deferred that fires when everything is saved and closed."""
        stopping: Deferred[Any] = super().stopService()
        stopping.addCallback(lambda _: Deferred.fromCoroutine(self._close()))
        return stopping

    def _start(self) -> None:
        settings, now = self._settings, self._reactor.seconds()
        self._store = (
            SqliteStore(self._reactor, Path(settings.store)) if settings.store else MemoryStore()
        )
        directory = Directory(
            now,
            verify,
            admin_token=settings.admin_token,
            limits=self._limits,
            rows=self._store.rows(),
        )
        self.factory = factory = RegistryFactory(
            self._reactor, directory, self._store, self._connection_limits
        )
        port = self._listen("registry", settings.registry_addr, self._wrapped(factory))
        factory.port = port
        self.registry_port = port.getHost().port
        self.beacon.open()
        self.beacon_port = self.beacon.port
        self.beacon.setServiceParent(self)
        self._beacon_serves = True
        if settings.http:
            site = make_site(factory, self.beacon.table, settings.dashboard_token)
            self.http_port = self._listen("dashboard", settings.http, site).getHost().port
        factory.start()
        log.info(
            "rendezvous: registry on TCP port {registry}, beacon on UDP port {beacon},"
            " {nodes} nodes known",
            registry=self.registry_port,
            beacon=self.beacon_port,
            nodes=len(directory.nodes) + len(directory.nodes.dormant),
        )

    def _wrapped(self, factory: RegistryFactory) -> Any:
        settings = self._settings
        if not settings.tls:
            return factory
        if settings.tls_cert:
            certificate = load_certificate(Path(settings.tls_cert), Path(settings.tls_key))
        else:
            certificate = make_certificate(self._reactor.seconds())
        options, self.fingerprint = certificate
        log.info("registry certificate: SHA-256 {fingerprint}", fingerprint=self.fingerprint)
        return TLSMemoryBIOFactory(options, isClient=False, wrappedFactory=factory)

    def _listen(self, what: str, address: str, factory: Any) -> Any:
        def take(port: int, interface: str) -> Any:
            return self._reactor.listenTCP(port, factory, backlog=1024, interface=interface)

        listening = listen(what, address, take)
        self._ports.append(listening)
        return listening

    async def _close(self) -> None:
        ports, self._ports = self._ports, []
        for port in ports:
            await port.stopListening()
        if not self._beacon_serves:
            await self.beacon.stopService()
        store, self._store = self._store, None
        if self.factory is not None:
            await self.factory.stop()
        elif store is not None:
            await store.close()
