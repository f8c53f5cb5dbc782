"""Posting over HTTP to somebody who may be slow, hostile, or both.

Importing this module is dear; only a daemon that has a webhook pays for it.
"""

from __future__ import annotations

from typing import Any

import treq
from hyperlink import EncodedURL
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from pilot.daemon.webhook_url import is_link_local
from pilot.errors import ConnectionFailed

#: Seconds to connect.
CONNECT_TIMEOUT = 5.0

#: Seconds for the rest of an answer whose status is known.
BODY_TIMEOUT = 2.0

#: Seconds to close a connection politely.
CLOSE_TIMEOUT = 1.0

#: Bytes of an answer that are read, and thrown away, to use its connection again.
BODY_LIMIT = 65536

#: Seconds that an idle connection is kept.
IDLE_TIMEOUT = 30


class HttpPoster:
    """
    Posts one thing at a time; keeps the connection for the next.

    It follows no redirect, inflates nothing, keeps no cookie, checks the certificate of https, and
    hangs up on whoever sends a long answer.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._pool = HTTPConnectionPool(reactor)
        self._pool.maxPersistentPerHost = 1
        self._pool.cachedConnectionTimeout = IDLE_TIMEOUT
        self._endpoints = _Endpoints(reactor)
        self._agent = _PlainAgent(
            Agent.usingEndpointFactory(reactor, self._endpoints, pool=self._pool)
        )
        self._origin = b""

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> int:
        """
        @return: the status of the answer.
        @raise Exception: there was none, for whatever reason.
        """
        origin = URI.fromBytes(url.encode()).netloc
        if origin != self._origin:
            self._origin = origin
            await self.close()
        response: Any = await treq.post(
            _EncodedURL.from_text(url),
            headers=Headers({name: [value] for name, value in headers.items()}),
            data=body,
            agent=self._agent,
            allow_redirects=False,
            unbuffered=True,
        )
        rest = _Discarded()
        response.deliverBody(rest)
        try:
            ended = await rest.finished.addTimeout(BODY_TIMEOUT, self._reactor)
        except (CancelledError, TimeoutError):
            ended = False
        if not ended:
            self._endpoints.abort()
        return int(response.code)

    async def close(self) -> None:
        """Close the connection: politely, which over TLS takes two, or else without a word."""
        closed = self._pool.closeCachedConnections()
        try:
            await closed.addTimeout(CLOSE_TIMEOUT, self._reactor)
        except TimeoutError:
            self._endpoints.abort()


class _EncodedURL(EncodedURL):
    """A URL whose host is ASCII already; hyperlink takes IPv6 addresses for names in Unicode."""

    def to_uri(self) -> EncodedURL:
        return self


class _Discarded(Protocol):
    """
    An answer's body, on its way to nowhere.

    @ivar finished: Deferred of whether it ended; if not, it was too long.
    """

    def __init__(self) -> None:
        self.finished: Deferred[bool] = Deferred()
        self._left = BODY_LIMIT

    def dataReceived(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self._end(False)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end(True)

    def _end(self, ended: bool) -> None:
        if not self.finished.called:
            self.finished.callback(ended)


@implementer(IAgent)
class _PlainAgent:
    """
    An agent that treq finds nothing to inflate behind.

    Twisted's decoder unpacks each piece whole, and a small one may hold gigabytes.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        headers = headers or Headers()
        headers.removeHeader(b"Accept-Encoding")
        return self._agent.request(method, uri, headers, bodyProducer).addCallback(_as_it_is)


def _as_it_is(response: Any) -> Any:
    response.headers.removeHeader(b"Content-Encoding")
    return response


@implementer(IAgentEndpointFactory)
class _Endpoints:
    """Where connections come from; the last one can be cut, which Twisted's response cannot."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._policy = BrowserLikePolicyForHTTPS()
        self._last: Any = None

    def endpointForURI(self, uri: Any) -> Any:
        """@return: how to reach a host."""
        host = uri.host.decode()
        tcp = HostnameEndpoint(self._reactor, host, uri.port, CONNECT_TIMEOUT)
        endpoint: Any = _Endpoint(tcp, self._connected)
        if uri.scheme == b"https":
            endpoint = wrapClientTLS(self._policy.creatorForNetloc(uri.host, uri.port), endpoint)
        return endpoint

    def abort(self) -> None:
        """Cut the last connection, if it still stands; TLS has no say in it."""
        if self._last is not None:
            self._last.abortConnection()

    def _connected(self, protocol: Any) -> Any:
        self._last = protocol.transport
        peer = self._last.getPeer()
        if is_link_local(peer.host):
            # A name may lead where an address may not.
            self.abort()
            raise ConnectionFailed(f"webhook URL leads to the link-local address {peer.host}")
        return protocol


@implementer(IStreamClientEndpoint)
class _Endpoint:
    """A TCP endpoint that shows each connection to C{connected} first."""

    def __init__(self, tcp: Any, connected: Any) -> None:
        self._tcp = tcp
        self._connected = connected

    def connect(self, protocolFactory: Any) -> Deferred[IProtocol]:
        connecting: Deferred[IProtocol] = self._tcp.connect(protocolFactory)
        return connecting.addCallback(self._connected)
