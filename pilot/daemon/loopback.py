"""The rendezvous of a machine whose daemons were told of none: joined, or started right here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from pilot.errors import AlreadyExists, PilotError, WireError
from pilot.registry.rendezvous import Rendezvous, RendezvousSettings
from pilot.wire.registry import FrameDecoder, encode_frame

log = Logger()

REGISTRY, BEACON = "127.0.0.1:9000", "127.0.0.1:9001"

#: Seconds that whoever listens there gets to show that it is a registry.
PATIENCE = 3.0


def default_store() -> Path:
    """
    @return: the database of the machine's own rendezvous.

    It belongs to the user and not to one agent, so C{PILOT_HOME} does not move it: whichever daemon
    runs the rendezvous, every node keeps its address.
    """
    return Path.home() / ".pilot" / "rendezvous.sqlite"


class LoopbackRendezvous:
    """
    Makes sure that there is a rendezvous on loopback.

    @ivar hosted: the one that runs in this process, or None while another one is joined.
    """

    def __init__(
        self,
        reactor: Any,
        registry: str = REGISTRY,
        beacon: str = BEACON,
        store: Path | None = None,
    ) -> None:
        self.registry = registry
        self.beacon = beacon
        self.hosted: Rendezvous | None = None
        self._reactor = reactor
        self._store = store

    async def ensure(self) -> None:
        """
        Join the rendezvous that answers, or start one.

        @raise AlreadyExists: something that is no registry listens there.
        @raise PilotError: it cannot be started.
        """
        if await self._answers():
            log.info("joined the rendezvous at {registry}", registry=self.registry)
            return
        store = self._store or default_store()
        store.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        rendezvous = Rendezvous(
            RendezvousSettings(
                registry_addr=self.registry, beacon_addr=self.beacon, store=str(store)
            ),
            self._reactor,
        )
        rendezvous.startService()
        try:
            await rendezvous.started
        except PilotError:
            await rendezvous.stopService()
            if await self._answers():  # another daemon was a moment faster
                log.info("joined the rendezvous at {registry}", registry=self.registry)
                return
            raise
        self.hosted = rendezvous
        log.info(
            "started a rendezvous in this daemon: registry {registry}, beacon {beacon},"
            " state in {store}",
            registry=self.registry,
            beacon=self.beacon,
            store=str(store),
        )

    async def stop(self) -> None:
        """Stop the one that runs here."""
        hosted, self.hosted = self.hosted, None
        if hosted is not None:
            await hosted.stopService()

    async def _answers(self) -> bool:
        host, _, port = self.registry.rpartition(":")
        endpoint = HostnameEndpoint(self._reactor, host, int(port), timeout=PATIENCE)
        try:
            probe = await connectProtocol(endpoint, _Probe())
        except ConnectError:
            return False
        try:
            await probe.answered.addTimeout(PATIENCE, self._reactor)
        except Exception:
            raise AlreadyExists(
                f"something that is no Pilot registry listens on {self.registry}",
                hint="stop it, or name a registry with --registry",
            ) from None
        finally:
            probe.leave()
        return True


class _Probe(Protocol):
    """Asks the one question that every registry answers to anybody."""

    def __init__(self) -> None:
        self.answered: Deferred[None] = Deferred()
        self._decoder = FrameDecoder()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(encode_frame({"type": "beacon_list"}))

    def dataReceived(self, data: bytes) -> None:
        try:
            frames = self._decoder.feed(data)
        except WireError:
            self.leave()
            return
        if frames and not self.answered.called:
            self.answered.callback(None)

    def leave(self) -> None:
        """Hang up."""
        if self.transport is not None:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.answered.called:
            self.answered.errback(reason)
