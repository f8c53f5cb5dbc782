"""C{twistd pilot}: one node."""

from __future__ import annotations

from typing import Any

from pilot.daemon.options import DaemonOptions as Options
from pilot.daemon.twistd import TwistdRoot

__all__ = ["Options", "makeService"]


def makeService(options: Options, reactor: Any = None) -> TwistdRoot:
    """@return: the daemon's service, not started."""
    from pilot.daemon.service import make_service

    if reactor is None:
        from twisted.internet import reactor  # late: importing it installs it
    service = make_service(options.settings, reactor)
    return TwistdRoot(service, reactor, options.parent, options.given)
