"""The control socket as a service: opened last, closed first."""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from pilot.daemon.claimedport import ClaimedPort
from pilot.daemon.ipc import IpcServer
from pilot.daemon.socketfile import SocketFile

log = Logger()


class ControlSocketService(Service):
    """
    Serves L{IpcServer} on a Unix socket.

    Clients take the first answer as I{the node is registered}, so start it after that.
    """

    name = "control"

    def __init__(self, reactor: Any, path: str, server: IpcServer) -> None:
        self._reactor = reactor
        self._server = server
        self._file = SocketFile(path)
        self._port: ClaimedPort | None = None

    def startService(self) -> None:
        """
        Open the socket.

        @raise PilotError: it cannot be had, see L{SocketFile.claim}.
        """
        super().startService()
        listening = self._file.claim()
        self._port = ClaimedPort(listening, self._file.path, self._server, self._reactor)
        self._port.startListening()
        log.info("control socket open at {path}", path=self._file.path)

    def stopService(self) -> Deferred[None]:
        """Close the socket and its connections; remove the file if it is still ours."""
        super().stopService()
        self._file.remove()
        port, self._port = self._port, None
        closed: Deferred[None] | None = port.stopListening() if port else None
        self._server.close()
        return closed or succeed(None)
