"""Something that is written to disk while it arrives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from pilot.services.arriving import Arriving
from pilot.services.shelf import NotStored
from pilot.services.workers import Stopped, Workers

log = Logger()


class Transfer:
    """
    A file or a message on its way to disk.  One job at a time writes what has come meanwhile.

    @param size: bytes that are to come.
    @param finish: stores it, when all of it is written.
    @param on_progress: called when some of it was written, or when it went wrong.
    @ivar backlog: bytes that have come and are not written yet: who brings more should wait.
    @ivar problem: why it cannot be stored; whatever else comes is thrown away.
    """

    def __init__(
        self,
        workers: Workers,
        arriving: Arriving,
        size: int,
        finish: Callable[[], Deferred[Path]],
        on_progress: Callable[[], None],
    ) -> None:
        self.backlog = 0
        self.problem: NotStored | None = None
        self._workers = workers
        self._arriving = arriving
        self._finish = finish
        self._on_progress = on_progress
        self._pieces: list[bytes] = []
        self._stored: Deferred[Path] | None = None
        self._abandoned = self._over = False
        self._busy = True
        workers.run(arriving.open, size).addBoth(self._written, 0)

    def write(self, data: bytes) -> None:
        """Add content."""
        if self.problem is None and not self._abandoned:
            self._pieces.append(data)
            self.backlog += len(data)
            self._step()

    def finish(self) -> Deferred[Path]:
        """
        It is complete.

        @return: Deferred of where it is, when that is durable; it fails with L{NotStored}.
        """
        stored: Deferred[Path] = Deferred()
        self._stored = stored
        self._step()
        return stored

    def abandon(self) -> None:
        """It will never be complete: leave nothing of it."""
        if self._stored is None:
            self._abandoned = True
            self._pieces.clear()
            self._step()

    def _step(self) -> None:
        """Begin what is to be done next, if nothing is being done."""
        if self._busy or self._over:
            return
        if self.problem is not None:
            if self._stored is not None:
                self._over = True
                self._stored.errback(Failure(self.problem))
        elif self._abandoned:
            self._over = True
            self._workers.run(self._arriving.discard).addErrback(self._failed).addErrback(
                lambda _: None
            )
        elif self._pieces:
            pieces, self._pieces = self._pieces, []
            self._busy = True
            job = self._workers.run(self._arriving.write, pieces)
            job.addBoth(self._written, sum(map(len, pieces)))
        elif self._stored is not None:
            self._busy = self._over = True
            self._finish().addErrback(self._failed).chainDeferred(self._stored)

    def _written(self, result: Failure | None, size: int) -> None:
        self._busy = False
        self.backlog -= size
        if isinstance(result, Failure):
            self._stopped(result)
            self.problem = as_not_stored(result)
            self._pieces.clear()
            self.backlog = 0
        self._step()
        if not self._abandoned:
            self._on_progress()

    def _failed(self, failure: Failure) -> Failure:
        self._stopped(failure)
        return Failure(as_not_stored(failure))

    def _stopped(self, failure: Failure) -> None:
        """There are no workers any more: clean up here."""
        if failure.check(Stopped):
            self._arriving.discard()


def as_not_stored(failure: Failure) -> NotStored:
    """@return: what a sender is told of a failure; a mistake of ours goes to the log."""
    error = failure.value
    if isinstance(error, NotStored):
        return error
    if isinstance(error, Stopped):
        return NotStored("the node is stopping")
    log.failure("mail could not be stored", failure)
    return NotStored("internal error")
