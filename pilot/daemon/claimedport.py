"""A Unix port on a socket that L{pilot.daemon.socketfile.SocketFile} has claimed."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import tcp, unix
from twisted.python.failure import Failure


class ClaimedPort(unix.Port):
    """A Unix port on a socket that listens already; it leaves the file to its owner."""

    def __init__(self, listening: socket.socket, path: str, factory: Any, reactor: Any) -> None:
        super().__init__(path.encode(), factory, reactor=reactor)
        self._factory = factory
        self._listening = listening

    def startListening(self) -> None:
        self._factory.doStart()
        self.socket = self._listening
        self.fileno = self._listening.fileno  # type: ignore[method-assign]  # as tcp.Port does
        self.connected = True
        self.numberAccepts = 100
        self.startReading()

    def connectionLost(self, reason: Failure) -> None:
        tcp.Port.connectionLost(self, reason)
