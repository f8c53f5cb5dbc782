"""C{pilot:} in endpoint strings.

Twisted asks every parser plugin for its prefix in every program that parses an endpoint string, so
nothing heavy is imported before one with ours is met.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import (
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.plugin import IPlugin
from zope.interface import implementer

if TYPE_CHECKING:
    from pilot.client.endpoints import PilotClientEndpoint, PilotServerEndpoint


@implementer(
    IPlugin, IStreamClientEndpointStringParserWithReactor, IStreamServerEndpointStringParser
)
class PilotParser:
    """
    C{pilot:80} listens; C{pilot:host=NAME:port=80}, C{pilot:NAME:80} and
    C{pilot:0:0000.0000.002A:80} dial.

    Both take C{daemon=/path/to.sock}, dialling also C{timeout=SECONDS}.
    """

    prefix = "pilot"

    def parseStreamServer(
        self, reactor: Any, *arguments: Any, **options: Any
    ) -> IStreamServerEndpoint:
        """@raise ValueError: the string makes no sense."""
        return self._server(reactor, *arguments, **options)

    def parseStreamClient(
        self, reactor: Any, *arguments: Any, **options: Any
    ) -> IStreamClientEndpoint:
        """@raise ValueError: the string makes no sense."""
        if len(arguments) + ("port" in options) == 3:  # an address holds a colon of its own
            arguments = (":".join(arguments[:2]), *arguments[2:])
        return self._client(reactor, *arguments, **options)

    def _server(self, reactor: Any, port: str, daemon: str | None = None) -> PilotServerEndpoint:
        from pilot.client.endpoints import PilotServerEndpoint

        return PilotServerEndpoint(reactor, _port(port), daemon)

    def _client(
        self,
        reactor: Any,
        host: str,
        port: str,
        daemon: str | None = None,
        timeout: str | None = None,
    ) -> PilotClientEndpoint:
        from pilot.client.endpoints import DEFAULT_TIMEOUT, PilotClientEndpoint

        if not host:
            raise ValueError("pilot: endpoint without a host")
        seconds = DEFAULT_TIMEOUT if timeout is None else _seconds(timeout)
        return PilotClientEndpoint(reactor, host, _port(port), daemon, seconds)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 0xFFFF):
        raise ValueError(f"{text!r} is no virtual port (0 to 65535)")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e9:
        raise ValueError(f"{text!r} is no number of seconds")
    return seconds
