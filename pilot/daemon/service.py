"""The composition root: a daemon is put together here, and only here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from pilot.address import PORT_DATA_EXCHANGE, PORT_ECHO, PORT_EVENT_STREAM, PORT_TASK_SUBMIT
from pilot.crypto.files import write_atomically
from pilot.crypto.identity import Identity, IdentityError, load_or_create_identity
from pilot.daemon.ipc import IpcServer
from pilot.daemon.ipc_service import ControlSocketService
from pilot.daemon.lockfile import LockFile
from pilot.daemon.loopback import LoopbackRendezvous
from pilot.daemon.settings import DaemonSettings, account_path
from pilot.daemon.skillsocket import socket_opener
from pilot.daemon.socketfile import is_alive
from pilot.daemon.webhooks import Webhooks
from pilot.errors import AlreadyExists, InvalidArgument, PilotError
from pilot.node.node import PilotNode
from pilot.node.ports import PortLimits
from pilot.node.service import NodeService
from pilot.node.settings import NodeSettings
from pilot.services.dataexchange import DataExchangeFactory
from pilot.services.echo import EchoFactory
from pilot.services.eventbroker import Broker
from pilot.services.eventstream import EventStreamFactory
from pilot.services.mailbox import Mailbox
from pilot.services.mailstore import MailLimits
from pilot.services.tasksubmit import TaskSubmitService
from pilot.services.workers import Workers
from pilot.skills import Chosen, SkillHost, choose, find_skills

if TYPE_CHECKING:
    from pilot.daemon.manhole import ManholeService

log = Logger()

#: Seconds between looks whether the machine's own rendezvous is still there.
LOOPBACK_INTERVAL = 10.0


class DaemonService(MultiService):
    """
    One daemon: a node, its built-in services, the control socket, and a rendezvous if need be.

    @ivar started: Deferred of None when everything serves; it fails with the C{PilotError} or
        C{OSError} that prevented it, and then nothing is left open.
    @ivar node: the node, once started.
    @ivar skills: its skills, once started; None when none are wanted.
    """

    name = "pilot"

    def __init__(
        self, settings: DaemonSettings, reactor: Any, loopback: LoopbackRendezvous | None = None
    ) -> None:
        """@param loopback: what to join or start when C{settings} name no registry."""
        super().__init__()
        self.started: Deferred[None] = Deferred()
        self._settings = settings
        self._reactor = reactor
        self._loopback = loopback or LoopbackRendezvous(reactor)
        self.skills: SkillHost | None = None
        self._broker: Broker | None = None
        self._nodes: NodeService | None = None
        self._lock: LockFile | None = None
        self._watching = LoopingCall(self._watch_loopback)
        self._watching.clock = reactor

    @property
    def node(self) -> PilotNode:
        """The node; there is none before the start."""
        assert self._nodes is not None
        return self._nodes.node

    def startService(self) -> None:
        """Start; C{started} tells how it went."""
        super().startService()
        Deferred.fromCoroutine(self._start()).chainDeferred(self.started)

    async def _start(self) -> None:
        settings = self._settings
        registry, beacon = settings.registry, settings.beacon
        if is_alive(settings.socket):
            raise AlreadyExists(
                f"another daemon answers on the control socket {settings.socket}",
                hint="stop it first, or give this one a socket of its own with PILOT_SOCKET",
            )
        # A mistake in a skill's name, or in an operator's keys, is told before anything is open.
        chosen = choose(settings.skills, find_skills()) if settings.skills else []
        manhole = self._manhole() if settings.manhole else None
        if settings.embedded:
            await self._loopback.ensure()
            registry, beacon = self._loopback.registry, self._loopback.beacon
        elif settings.registry_tls and not settings.registry_fingerprint:
            raise InvalidArgument(
                "TLS to the registry needs its certificate's fingerprint",
                hint="give --registry-fingerprint, the SHA-256 that the registry logs at its start",
            )
        identity = self._identity()
        # These two stand before the node, so that they stop after it: the webhook tells of its
        # end, and the mailbox finishes what the node's streams have brought.
        webhooks = Webhooks(self._reactor, self._node_id, settings.webhook)
        webhooks.setServiceParent(self)
        workers = Workers(self._reactor, "disk")
        mailbox = Mailbox(settings.home, workers, mail_limits(settings))
        mailbox.setServiceParent(self)
        self._nodes = nodes = NodeService(
            self._reactor,
            node_settings(settings, registry, beacon),
            identity,
            settings.identity and settings.identity.with_name("trust.json"),
            on_event=webhooks.emit,
        )
        nodes.node.parts.report.sections["webhook"] = webhooks.statistics
        nodes.setServiceParent(self)
        await nodes.started
        await self._open_services(nodes.node, webhooks, mailbox)
        tasks = await self._open_tasks(nodes.node, workers) if settings.task_submit else None
        if chosen:
            self._host(chosen, nodes.node)
        if settings.metrics_port:
            self._tell_metrics(nodes.node)
        if manhole is not None:
            manhole.look_into(nodes.node, self._broker, tasks, self.skills)
            nodes.node.parts.report.sections["manhole"] = manhole.statistics
            manhole.setServiceParent(self)
        server = IpcServer(
            nodes.node,
            self._reactor,
            set_webhook=webhooks.set_webhook,
            tasks=tasks.control if tasks is not None else None,
        )
        ControlSocketService(self._reactor, settings.socket, server).setServiceParent(self)
        if settings.embedded:
            self._watching.start(LOOPBACK_INTERVAL, now=False)

    async def _open_services(self, node: PilotNode, webhooks: Webhooks, mailbox: Mailbox) -> None:
        """Every built-in service that is not switched off, the task marketplace apart."""
        settings, sections = self._settings, node.parts.report.sections
        if settings.echo:
            await node.listen(PORT_ECHO, EchoFactory())
        if settings.data_exchange:
            exchange = DataExchangeFactory(
                mailbox, self._reactor, on_event=webhooks.emit, claims=node.parts.claims
            )
            sections["data_exchange"] = lambda: dict(exchange.statistics)
            await node.listen(PORT_DATA_EXCHANGE, exchange)
        if settings.event_stream:
            events = EventStreamFactory(self._reactor, on_event=webhooks.emit)
            self._broker = events.broker
            sections["event_stream"] = events.broker.statistics
            node.parts.taps.attach(events.broker)
            await node.listen(PORT_EVENT_STREAM, events)

    async def _open_tasks(self, node: PilotNode, workers: Workers) -> TaskSubmitService:
        tasks = TaskSubmitService(
            self._settings.home / "tasks", node, node.parts.registry, self._reactor, workers.run
        )
        tasks.setServiceParent(self)
        node.parts.tasks = tasks.control
        await node.listen(PORT_TASK_SUBMIT, tasks.factory)
        return tasks

    def _host(self, chosen: Chosen, node: PilotNode) -> None:
        settings, reactor = self._settings, self._reactor
        sockets = socket_opener(settings.socket, reactor)
        self.skills = SkillHost(chosen, settings.home, reactor, sockets, node)
        node.parts.report.sections["skills"] = self.skills.report
        self.skills.setServiceParent(self)

    def _tell_metrics(self, node: PilotNode) -> None:
        from pilot.daemon.figures import figures
        from pilot.daemon.metrics import MetricsService

        address = self._settings.metrics_port
        metrics = MetricsService(self._reactor, address, lambda: figures(node))
        node.parts.report.sections["metrics"] = metrics.statistics
        metrics.setServiceParent(self)

    def _manhole(self) -> ManholeService:
        from pilot.daemon.manhole import ManholeService

        settings = self._settings
        return ManholeService(
            self._reactor,
            settings.manhole,
            settings.home,
            settings.manhole_keys,
            settings.log_level,
        )

    def _node_id(self) -> int | None:
        return None if self._nodes is None else self._nodes.parts.registry.node_id

    async def _watch_loopback(self) -> None:
        """The daemon that ran the rendezvous may have left; then this one runs it from now on."""
        if self._loopback.hosted is None and not self.node.parts.registry.connected:
            try:
                await self._loopback.ensure()
            except PilotError as error:
                log.error("no rendezvous on this host: {error}", error=error.message)

    def _identity(self) -> Identity:
        path = self._settings.identity
        if path is None:
            log.warn("no identity file: this node gets a new address at every start")
            return Identity.generate()
        self._lock = LockFile(path)
        self._lock.acquire()
        try:
            identity, is_new = load_or_create_identity(path)
        except OSError as error:
            raise IdentityError(
                f"make identity {path}: {error.strerror or error}",
                hint="make room, or choose another file with --identity",
            ) from error
        if is_new:
            log.info("made an identity in {path}", path=str(path))
        if self._settings.email:
            account = json.dumps({"email": self._settings.email}, indent=2)
            write_atomically(account_path(path), account.encode())
        return identity

    async def stopService(self) -> None:
        """Close the control socket, say goodbye, and stop the rendezvous last."""
        if self._watching.running:
            self._watching.stop()
        for service in reversed(list(self)):
            await Deferred.fromCoroutine(_stop(service))
        self.running = 0
        await self._loopback.stop()
        if self._lock is not None:
            self._lock.release()


async def _stop(service: Any) -> None:
    stopping = service.stopService()
    if stopping is not None:
        await stopping


def mail_limits(settings: DaemonSettings) -> MailLimits:
    """@return: how much mail a daemon keeps."""
    return MailLimits(
        inbox_messages=settings.inbox_messages,
        inbox_bytes=settings.inbox_bytes,
        received_files=settings.received_files,
        received_bytes=settings.received_bytes,
    )


def node_settings(settings: DaemonSettings, registry: str, beacon: str) -> NodeSettings:
    """@return: what the node needs to know of a daemon's settings."""
    return NodeSettings(
        registry=registry,
        beacon=beacon,
        identity=settings.identity,
        listen=settings.listen,
        endpoint=settings.endpoint,
        registry_fingerprint=settings.registry_fingerprint,
        hostname=settings.hostname,
        email=settings.email,
        public=settings.public,
        encrypt=settings.encrypt,
        networks=settings.networks,
        trust_auto_approve=settings.trust_auto_approve,
        keepalive=settings.keepalive,
        idle_timeout=settings.idle_timeout,
        time_wait=settings.time_wait,
        limits=PortLimits(
            connections_per_port=settings.max_conns_per_port,
            connections_total=settings.max_conns_total,
            syn_rate=float(settings.syn_rate_limit),
            syn_rate_per_source=max(1.0, settings.syn_rate_limit / 2),
        ),
    )


def make_service(settings: DaemonSettings, reactor: Any) -> DaemonService:
    """Wire a daemon; nothing is opened before C{startService}."""
    return DaemonService(settings, reactor)
