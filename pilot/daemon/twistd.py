"""What services need to behave under C{twistd}: its exit status, and our own log options."""

from __future__ import annotations

import atexit
import os
import sys
from typing import Any

from twisted.application.service import MultiService
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized
from twisted.python.failure import Failure

from pilot.daemon.logs import make_observer
from pilot.daemon.systemd import notify
from pilot.errors import PilotError

log = Logger()


class TwistdRoot(MultiService):
    """
    Holds one service whose C{started} tells how its start went.

    C{twistd} takes no notice of a start that fails after C{startService} has returned; this does:
    it logs the reason in one line, stops the reactor and has the process end with status 1.
    """

    def __init__(self, service: Any, reactor: Any, twistd: Any, given: dict[str, Any]) -> None:
        """
        @param twistd: C{twistd}'s own options, or None.
        @param given: our options as they were on the command line.
        """
        super().__init__()
        self._reactor = reactor
        self._twistd = twistd or {}
        self._given = given
        self._stopping = False
        service.started.addCallbacks(self._ready, self._failed)
        service.setServiceParent(self)

    def setServiceParent(self, parent: Any) -> None:
        """Join the application, and log as our own options say if they say anything."""
        super().setServiceParent(parent)
        own = [name for name in ("log-level", "log-format") if name in self._given]
        others = [name for name in ("logger", "logfile", "syslog") if self._twistd.get(name)]
        if own and not others and isinstance(parent, Componentized):
            level, style = self._given.get("log-level"), self._given.get("log-format")
            observer = make_observer(sys.stdout, level or "info", style or "text")
            parent.setComponent(ILogObserver, observer)

    def stopService(self) -> Any:
        """Tell the service manager, and stop everything."""
        self._stopping = True
        notify("STOPPING=1")
        return super().stopService()

    def _ready(self, _: object) -> None:
        notify("READY=1")

    def _failed(self, reason: Failure) -> None:
        if self._stopping:
            return
        error = reason.value
        if isinstance(error, PilotError):
            ending = f" ({error.hint})" if error.hint else ""
            log.error("start failed: {error}{hint}", error=error.message, hint=ending)
        else:
            log.failure("start failed", reason)
        atexit.register(_end_with, 1)
        self._reactor.callWhenRunning(self._reactor.stop)


def _end_with(status: int) -> None:
    """The last word on the exit status, after twistd has cleaned up behind itself."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
