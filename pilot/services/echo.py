"""Echo (port 7): whatever arrives goes back.  Ping, traceroute and bench live on it."""

from __future__ import annotations

from typing import cast

from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.internet.protocol import Factory, Protocol


class Echo(Protocol):
    """Sends back every byte, and stops reading while the peer does not take its own echo."""

    def connectionMade(self) -> None:
        # The transport paces itself: when its sending side is full it pauses its receiving side.
        cast(IConsumer, self.transport).registerProducer(cast(IPushProducer, self.transport), True)

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


class EchoFactory(Factory):
    """Serves L{Echo}."""

    noisy = False
    protocol = Echo
