"""A bound virtual port, as Twisted knows listening ports."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IListeningPort
from zope.interface import implementer

from pilot.node.streamaddress import PilotStreamAddress


@implementer(IListeningPort)
class ListeningPort:
    """What C{listen} gives: it tells its address and can be closed."""

    def __init__(
        self, address: PilotStreamAddress, start: Callable[[], Callable[[], None]]
    ) -> None:
        """@param start: binds the port and returns what frees it."""
        self._address = address
        self._start = start
        self._unbind: Callable[[], None] | None = None

    def startListening(self) -> None:
        """Bind the port.  @raise PortInUse: somebody else has it."""
        if self._unbind is None:
            self._unbind = self._start()

    def stopListening(self) -> Deferred[None]:
        """Free the port; open streams go on."""
        if self._unbind is not None:
            self._unbind()
            self._unbind = None
        return succeed(None)

    def getHost(self) -> PilotStreamAddress:
        """@return: own address and the bound port."""
        return self._address
