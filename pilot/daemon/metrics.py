"""The metrics: a daemon's numbers over HTTP, for Prometheus and whoever reads its format."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.protocols.policies import WrappingFactory
from twisted.web.http import INTERNAL_SERVER_ERROR, NOT_ALLOWED, NOT_FOUND, OK
from twisted.web.resource import Resource
from twisted.web.server import Request

from pilot.exposition import CONTENT_TYPE, Family, exposition
from pilot.registry.listening import listen
from pilot.registry.site import QuietSite

log = Logger()

PATH = b"/metrics"

#: Connections at once; one more is closed.
MAX_CONNECTIONS = 32

#: Seconds that a connection may be silent.
PATIENCE = 30

_PLAIN = "text/plain; charset=utf-8"


class MetricsService(Service):
    """
    Answers C{GET /metrics}.

    @ivar refused: connections closed because there were too many.
    """

    name = "metrics"

    def __init__(self, reactor: Any, address: str, collect: Callable[[], Iterable[Family]]) -> None:
        """
        @param address: C{host:port} to listen on.
        @param collect: gives the numbers, for each request anew.
        """
        self._reactor = reactor
        self._address = address
        self._factory = _Limited(_Page(collect), reactor)
        self._port: IListeningPort | None = None

    def startService(self) -> None:
        """
        Take the port.

        @raise PortInUse: it cannot be had.
        """
        super().startService()
        self._port = listen(
            "metrics",
            self._address,
            lambda port, host: self._reactor.listenTCP(port, self._factory, interface=host),
        )
        where = self.statistics()
        log.info("metrics on http://{host}:{port}/metrics", host=where["host"], port=where["port"])

    def stopService(self) -> Deferred[None] | None:
        """Close the port and every connection."""
        super().stopService()
        port, self._port = self._port, None
        closing: Deferred[None] | None = port.stopListening() if port else None
        self._factory.close()
        return closing

    @property
    def refused(self) -> int:
        """Connections that were closed because there were too many."""
        return self._factory.refused

    def statistics(self) -> dict[str, Any]:
        """@return: where it listens (C{host}, C{port}), and C{refused}."""
        host, port = "", 0
        if self._port is not None:
            address: Any = self._port.getHost()
            host, port = address.host, address.port
        return {"host": host, "port": port, "refused": self.refused}


class _Page(Resource):
    """The only page; a leaf, so that it sees every path."""

    isLeaf = True

    def __init__(self, collect: Callable[[], Iterable[Family]]) -> None:
        super().__init__()
        self._collect = collect

    def render(self, request: Request) -> bytes:
        """Answer a request, whatever its method and path."""
        if request.path != PATH:
            return _answer(request, NOT_FOUND, "404 page not found: see /metrics\n")
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader("Allow", "GET, HEAD")
            return _answer(request, NOT_ALLOWED, "405 method not allowed\n")
        try:
            text = exposition(self._collect())
        except Exception:  # one part that cannot count must not end the connection
            log.failure("the metrics cannot be collected")
            return _answer(request, INTERNAL_SERVER_ERROR, "500 see the daemon's log\n")
        return _answer(request, OK, text, CONTENT_TYPE)


def _answer(request: Request, code: int, text: str, kind: str = _PLAIN) -> bytes:
    body = text.encode()
    request.setResponseCode(code)
    request.setHeader("Content-Type", kind)
    request.setHeader("Content-Length", str(len(body)))
    request.setHeader("X-Content-Type-Options", "nosniff")
    return b"" if request.method == b"HEAD" else body


class _Limited(WrappingFactory):
    """
    So many connections and no more.

    @ivar refused: how many came beside them.
    """

    noisy = False

    def __init__(self, page: Resource, reactor: Any) -> None:
        super().__init__(QuietSite(page, timeout=PATIENCE, reactor=reactor))
        self.refused = 0

    def buildProtocol(self, addr: Any) -> Any:
        """@return: a protocol, or None, which closes the connection."""
        if len(self.protocols) >= MAX_CONNECTIONS:
            self.refused += 1
            return None
        return super().buildProtocol(addr)

    def close(self) -> None:
        """End every connection."""
        for protocol in list(self.protocols):
            protocol.transport.abortConnection()
