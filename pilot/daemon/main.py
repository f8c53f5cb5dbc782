"""The program C{pilot-daemon}: one node in the foreground until it is told to stop."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.usage import UsageError

from pilot.daemon.logs import start_logging
from pilot.daemon.options import DaemonOptions
from pilot.daemon.systemd import notify
from pilot.errors import PilotError

log = Logger()

PROGRAM = "pilot-daemon"

#: Exit status when the start failed, and when the command line made no sense.
FAILED, MISUSED = 1, 2

#: Seconds that everything together has to say goodbye in.
GOODBYE = 8.0


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the daemon.

    @param arguments: the command line without the program's name; None takes the process's.
    @return: exit status.
    """
    options = DaemonOptions()
    try:
        options.parseOptions(arguments)
    except UsageError as error:
        print(f"{PROGRAM}: {error}\nhint: {PROGRAM} --help lists all options", file=sys.stderr)
        return MISUSED
    settings = options.settings
    start_logging(sys.stderr, settings.log_level, settings.log_format)

    # Late: importing the reactor installs it, and a wrong command line should cost nothing.
    from twisted.internet import reactor

    from pilot.daemon.service import make_service

    return run(
        lambda: make_service(settings, reactor), reactor, as_json=settings.log_format == "json"
    )


def run(make: Any, reactor: Any, *, as_json: bool = False) -> int:
    """
    Start a service, run the reactor until it is stopped, stop the service.

    @param make: makes the service; its C{started} is a Deferred that tells how the start went.
    @param as_json: tell a failed start in the log instead of in a plain line.
    @return: exit status.
    """
    foreground = Foreground(reactor, as_json)
    reactor.callWhenRunning(foreground.start, make)
    reactor.addSystemEventTrigger("before", "shutdown", foreground.stop)
    reactor.run()
    return foreground.status


class Foreground:
    """
    A service's life in the foreground.

    @ivar status: the process's exit status.
    """

    def __init__(self, reactor: Any, as_json: bool) -> None:
        self.status = 0
        self._reactor = reactor
        self._as_json = as_json
        self._service: Any = None
        self._stopping = False

    def start(self, make: Any) -> None:
        """Make and start the service."""
        try:
            self._service = make()
            self._service.started.addCallbacks(self._ready, self._failed)
            self._service.startService()
        except Exception:
            self._failed(Failure())

    def stop(self) -> Deferred[Any]:
        """Stop the service; a part that hangs does not keep the process."""
        self._stopping = True
        notify("STOPPING=1")
        if self.status == 0:  # else the last line says why there was no start
            log.info("stopping")
        if self._service is None or not self._service.running:
            return maybeDeferred(lambda: None)
        goodbye: Deferred[Any] = maybeDeferred(self._service.stopService)
        goodbye.addTimeout(GOODBYE, self._reactor)
        return goodbye.addErrback(self._rude)

    def _ready(self, _: object) -> None:
        notify("READY=1")

    def _failed(self, reason: Failure) -> None:
        if self._stopping:
            return  # what was stopped half-way has not failed
        self.status = FAILED
        tell_failed_start(PROGRAM, reason, as_json=self._as_json)
        self._reactor.stop()

    def _rude(self, reason: Failure) -> None:
        log.failure("not everything could be stopped in order", reason)


def tell_failed_start(program: str, reason: Failure, *, as_json: bool = False) -> None:
    """Say in one line why there is no daemon; a fault of the program's own brings its traceback."""
    error = reason.value
    if isinstance(error, PilotError):
        message, hint = error.message, error.hint
    else:
        message, hint = str(error) or type(error).__name__, None
        if not isinstance(error, OSError):
            log.failure("the start failed in a way nobody foresaw", reason)
    if as_json:
        log.error("daemon start: {error}", error=message, hint=hint)
    else:
        ending = f" ({hint})" if hint else ""
        print(f"{program}: daemon start: {message}{ending}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
