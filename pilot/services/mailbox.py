"""The node's mailbox: what the service on port 1001 hands in, and is told about when it is safe.

Small messages that come close together are stored together, whoever sent them, so that they share
the wait for the disk.  Everything larger is on its way to disk while it arrives.

@see: the page I{Data exchange}.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from pilot.services.mailstore import MailLimits, MailStore, Message
from pilot.services.shelf import NotStored
from pilot.services.transfer import Transfer, as_not_stored
from pilot.services.workers import Stopped, Workers

MOST_TOGETHER = 64
"""Messages that one thread stores together."""

MOST_DELIVERIES = 3
"""Threads that store messages at once, so that their waits for the disk overlap.  One less than
there are, so that files do not wait for messages."""

_MILLISECOND = 1_000_000  # nanoseconds


class Mailbox(Service):
    """
    Stores messages and files.

    @param home: directory of the node's files.
    @param workers: where the disk is waited for.
    @param wall: nanoseconds since the epoch, for names and records.
    """

    name = "mailbox"

    def __init__(
        self,
        home: Path,
        workers: Workers,
        limits: MailLimits | None = None,
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store = MailStore(home.absolute(), limits or MailLimits())
        self._workers = workers
        self._wall = wall
        self._waiting: deque[tuple[Message, Deferred[Path]]] = deque()
        self._deliveries = 0
        self._last_moment = 0
        self._ordinal = 0

    def startService(self) -> None:
        """Remove what a crash has left behind."""
        super().startService()
        self._workers.run(self._store.prepare).addErrback(_ignore_stop)

    def stopService(self) -> Deferred[None]:
        """@return: Deferred of C{None} when nothing is under way any more."""
        super().stopService()
        return self._workers.stop()

    def deliver(self, kind: str, content: bytes, sender: str) -> Deferred[Path]:
        """
        Store a message.

        @param kind: C{TEXT}, C{JSON} or C{BINARY}.
        @param sender: address, without port.
        @return: Deferred of its record, when that is durable; it fails with L{NotStored}.
        """
        arrived, ordinal = self._moment()
        stored: Deferred[Path] = Deferred()
        self._waiting.append((Message(kind, content, sender, arrived, ordinal), stored))
        self._deliver()
        return stored

    def receive_message(
        self, kind: str, size: int, sender: str, on_progress: Callable[[], None]
    ) -> Transfer:
        """Take a message of C{size} bytes piece by piece; L{Transfer}."""
        message = self._store.message(kind, sender)

        def finish() -> Deferred[Path]:
            return self._workers.run(message.finish, *self._moment())

        return Transfer(self._workers, message, size, finish, on_progress)

    def receive_file(self, name: bytes, size: int, on_progress: Callable[[], None]) -> Transfer:
        """Take a file of C{size} bytes, sent as C{name}, piece by piece; L{Transfer}."""
        file = self._store.file(name)

        def finish() -> Deferred[Path]:
            return self._workers.run(file.finish, self._wall())

        return Transfer(self._workers, file, size, finish, on_progress)

    def _deliver(self) -> None:
        while self._waiting and self._deliveries < MOST_DELIVERIES:
            count = min(MOST_TOGETHER, len(self._waiting))
            batch = [self._waiting.popleft() for _ in range(count)]
            self._deliveries += 1
            job = self._workers.run(self._store.deliver, [message for message, _ in batch])
            job.addBoth(self._delivered, [stored for _, stored in batch])

    def _delivered(
        self, outcomes: list[Path | NotStored] | Failure, waiting: list[Deferred[Path]]
    ) -> None:
        self._deliveries -= 1
        if isinstance(outcomes, Failure):
            outcomes = [as_not_stored(outcomes)] * len(waiting)
        for stored, outcome in zip(waiting, outcomes, strict=True):
            if isinstance(outcome, NotStored):
                stored.errback(Failure(outcome))
            else:
                stored.callback(outcome)
        self._deliver()

    def _moment(self) -> tuple[int, int]:
        """@return: the time, and how many messages have come in this millisecond before."""
        now = self._wall()
        moment = now // _MILLISECOND
        self._ordinal = self._ordinal + 1 if moment == self._last_moment else 0
        self._last_moment = moment
        return now, self._ordinal


def _ignore_stop(failure: Failure) -> None:
    failure.trap(Stopped)
