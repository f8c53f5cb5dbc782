"""A mailbox and connections to it, without threads, network or time of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from pilot.address import Address
from pilot.node.streamaddress import PilotStreamAddress
from pilot.services.dataexchange import DataExchange, DataExchangeFactory, ExchangeLimits
from pilot.services.mailbox import Mailbox
from pilot.services.mailstore import MailLimits
from pilot.services.workers import Stopped
from pilot.wire.dataexchange import Body, FrameReader

ALICE = Address(0, 1)

NOON = 1_795_190_436_544_900_000
"""Nanoseconds: 2026-11-20T16:00:36.5449 UTC."""


class HandWorkers:
    """Stands in for the threads: jobs run at once, or, while C{held}, one by one when told."""

    def __init__(self) -> None:
        self.held = False
        self.stopped = False
        self._jobs: list[Callable[[], None]] = []

    def run(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        if self.stopped:
            return fail(Stopped("stopping"))
        if not self.held:
            return maybeDeferred(function, *args)
        done: Deferred[Any] = Deferred()
        self._jobs.append(lambda: maybeDeferred(function, *args).chainDeferred(done))
        return done

    def one(self) -> bool:
        """Do one job.  @return: whether there was one."""
        if not self._jobs:
            return False
        self._jobs.pop(0)()
        return True

    def all(self) -> None:
        """Do all jobs, those that come up meanwhile too."""
        while self.one():
            pass

    def stop(self) -> Deferred[None]:
        self.all()
        self.stopped = True
        return succeed(None)


class Transport(StringTransport):
    """What a protocol writes to; C{full} makes it push back."""

    full = False
    aborted = False

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.full and self.streaming and self.producer is not None:
            self.producer.pauseProducing()

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()


class Connection:
    """One connection of a peer, as the peer sees it."""

    def __init__(self, post: PostOffice, peer: Address) -> None:
        self.transport = Transport(peerAddress=PilotStreamAddress(peer, 50000))  # type: ignore[no-untyped-call]
        protocol = post.factory.buildProtocol(self.transport.getPeer())
        assert protocol is not None
        self.protocol: DataExchange = protocol
        self._reader = FrameReader()
        self._answers: list[str] = []
        protocol.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        """The peer sends something."""
        self.protocol.dataReceived(data)

    @property
    def raw(self) -> bytes:
        """Everything that was answered since the last look."""
        data = self.transport.value()
        self.transport.clear()
        return data

    @property
    def answers(self) -> list[str]:
        """Texts of all answers so far."""
        self._reader.feed(self.raw)
        while (item := self._reader.next()) is not None:
            if isinstance(item, Body):
                self._answers.append(item.data.decode())
        return self._answers

    @property
    def closed(self) -> bool:
        """Whether our side has ended it."""
        return bool(self.transport.disconnecting)

    @property
    def paused(self) -> bool:
        """Whether our side does not read."""
        return bool(self.transport.producerState == "paused")

    def half_close(self) -> None:
        """The peer has sent everything."""
        self.protocol.readConnectionLost()

    def lose(self, error: Exception | None = None) -> None:
        """The connection ends, cleanly or not."""
        self.protocol.connectionLost(Failure(error or ConnectionDone()))


class PostOffice:
    """
    A mailbox with its service.

    @ivar wall: what the clock on the wall shows, in nanoseconds.
    @ivar events: what a webhook would be told.
    """

    def __init__(
        self,
        home: Path,
        limits: MailLimits | None = None,
        exchange: ExchangeLimits | None = None,
    ) -> None:
        self.home = home
        self.wall = NOON
        self.clock = Clock()
        self.workers = HandWorkers()
        self.events: list[tuple[str, dict[str, Any]]] = []
        workers: Any = self.workers
        self.mailbox = Mailbox(home, workers, limits, lambda: self.wall)
        self.factory = DataExchangeFactory(
            self.mailbox, self.clock, lambda name, data: self.events.append((name, data)), exchange
        )

    def connect(self, peer: Address = ALICE) -> Connection:
        """A peer connects."""
        return Connection(self, peer)

    def names(self, directory: str) -> list[str]:
        """Names of the files in a directory of the home."""
        try:
            return sorted(path.name for path in (self.home / directory).iterdir())
        except FileNotFoundError:
            return []

    @property
    def inbox(self) -> list[dict[str, Any]]:
        """The messages, by name of their file."""
        return [
            json.loads((self.home / "inbox" / name).read_bytes()) for name in self.names("inbox")
        ]

    def file(self, name: str) -> bytes:
        """@return: what a received file holds."""
        return (self.home / "received" / name).read_bytes()
