"""Where a skill's own socket lies, and who may have it: one process at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred

from pilot.client.places import skill_socket
from pilot.daemon.claimedport import ClaimedPort
from pilot.daemon.socketfile import SocketFile, is_alive
from pilot.errors import AlreadyExists
from pilot.hosting.hosted import OpenSocket


def socket_opener(control: str, reactor: Any) -> OpenSocket:
    """
    @param control: the daemon's control socket; a skill's lies beside it.
    @return: what opens the socket of a skill.
    """

    def open_socket(name: str, factory: Any) -> Callable[[], Deferred[Any]]:
        path = skill_socket(control, name)
        file = SocketFile(path)
        try:
            listening = file.claim()
        except AlreadyExists as error:
            if not is_alive(path):
                raise
            raise AlreadyExists(
                f"the {name} skill runs here already (socket {path} is active)",
                hint="one is enough: inside the daemon, or as a process of its own",
            ) from error
        port = ClaimedPort(listening, path, factory, reactor)
        port.startListening()

        def close() -> Deferred[Any]:
            file.remove()
            return maybeDeferred(port.stopListening)

        return close

    return open_socket
