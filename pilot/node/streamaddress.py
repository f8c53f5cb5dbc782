"""The address of one end of a stream, as Twisted's C{getPeer} and C{getHost} give it."""

from __future__ import annotations

from twisted.internet.interfaces import IAddress
from zope.interface import implementer

from pilot.address import SocketAddress


@implementer(IAddress)
class PilotStreamAddress(SocketAddress):
    """
    A L{SocketAddress} that Twisted programs recognise.

    @ivar address: the node, an L{pilot.address.Address}.
    @ivar port: the virtual port.
    """

    __slots__ = ()

    @property
    def host(self) -> str:
        """The node's address as text; programs written for TCP log it."""
        return str(self.address)
