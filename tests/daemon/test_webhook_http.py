"""Webhooks over real HTTP on loopback: good sinks, and every kind of bad one."""

from __future__ import annotations

import gzip
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from http.server import HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import pytest_twisted
from OpenSSL import SSL
from treq.testing import StubTreq
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import Clock, deferLater
from twisted.protocols.policies import WrappingFactory
from twisted.web.client import BrowserLikePolicyForHTTPS
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from zope.interface import implementer

from pilot.daemon import webhook_http
from pilot.daemon.webhook_http import HttpPoster
from pilot.daemon.webhooks import WebhookLimits, Webhooks
from pilot.registry.certificate import make_certificate

reactor: Any = _reactor
BODY = b'{"event_id":1}'


class Hook(Resource):
    """Answers as C{answer} says and records what came."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[tuple[bytes, bytes, bytes, dict[bytes, list[bytes]]]] = []
        self.answer: Callable[[Any], bytes | int] = lambda request: b"ok"

    def render(self, request: Any) -> bytes | int:
        headers = dict(request.requestHeaders.getAllRawHeaders())
        self.requests.append((request.method, request.uri, request.content.read(), headers))
        return self.answer(request)


@implementer(IOpenSSLClientConnectionCreator)
class Trusting:
    """Believes every certificate."""

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        return SSL.Connection(CertificateOptions().getContext(), None)


class Counting(WrappingFactory):
    """Counts connections, and can end them."""

    def __init__(self, hook: Hook) -> None:
        super().__init__(Site(hook))
        self.connections = 0

    def registerProtocol(self, p: Any) -> None:
        super().registerProtocol(p)
        self.connections += 1


class Server:
    """A sink on a port of its own, what it was asked, and how often it was connected to."""

    def __init__(self, tls: Any = None) -> None:
        self.hook = Hook()
        self._factory = Counting(self.hook)
        if tls is None:
            self.port = reactor.listenTCP(0, self._factory, interface="127.0.0.1")
        else:
            self.port = reactor.listenSSL(0, self._factory, tls, interface="127.0.0.1")
        self.host = f"127.0.0.1:{self.port.getHost().port}"
        self.url = f"http://{self.host}/hook?x=1"

    @property
    def connections(self) -> int:
        return self._factory.connections

    async def close(self) -> None:
        for protocol in list(self._factory.protocols):
            protocol.transport.abortConnection()
        stopping = self.port.stopListening()
        if stopping is not None:
            await stopping


@pytest_twisted.async_yield_fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    yield server
    await server.close()
    await settled()


@pytest_twisted.async_yield_fixture
async def poster() -> AsyncIterator[HttpPoster]:
    poster = HttpPoster(reactor)
    yield poster
    await poster.close()
    await settled()


async def settled() -> None:
    await deferLater(reactor, 0.02)  # for the ends of connections to be noticed


async def until(condition: Callable[[], Any]) -> None:
    for _ in range(500):
        if condition():
            return
        await deferLater(reactor, 0.01)
    raise AssertionError("it did not happen")


def post(poster: HttpPoster, url: str) -> Deferred[int]:
    posting = Deferred.fromCoroutine(poster.post(url, {"Content-Type": "application/json"}, BODY))
    return posting.addTimeout(5, reactor)


@pytest_twisted.ensureDeferred
async def test_events_arrive(server: Server) -> None:
    """A service with a real poster: in order, complete, over one connection."""
    webhooks = Webhooks(reactor, lambda: 7, server.url)
    webhooks.startService()
    for size in range(20):
        webhooks.emit("data.datagram", {"size": size, "dst_port": 5})
    webhooks.emit("node.deregistered")
    await webhooks.stopService()
    told = [json.loads(body) for _, _, body, _ in server.hook.requests]
    assert [event["event_id"] for event in told] == list(range(1, 22))
    assert [event.get("data", {}).get("size") for event in told] == [*range(20), None]
    method, uri, body, headers = server.hook.requests[0]
    assert (method, uri) == (b"POST", b"/hook?x=1")
    assert headers[b"Content-Type"] == [b"application/json"]
    assert headers[b"Content-Length"] == [str(len(body)).encode()]
    assert headers[b"Host"] == [server.host.encode()]
    assert b"Accept-Encoding" not in headers
    assert server.connections == 1
    await settled()


@pytest_twisted.ensureDeferred
async def test_a_dead_address(server: Server) -> None:
    """Nobody listens: counted, and the stop does not wait longer than it says."""
    await server.port.stopListening()
    limits = WebhookLimits(pause=0.1, replaced=0.05)
    webhooks = Webhooks(reactor, lambda: 7, server.url, limits=limits)
    webhooks.startService()
    webhooks.emit("x")
    await until(lambda: webhooks.counters["retries"])
    await webhooks.set_webhook("")
    assert webhooks.counters["abandoned"] + webhooks.counters["failed"] == 1
    await webhooks.stopService()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("status", [200, 204, 404, 500])
async def test_status(server: Server, poster: HttpPoster, status: int) -> None:
    """The status comes back, and the next post uses the connection again."""

    def answer(request: Request) -> bytes:
        request.setResponseCode(status)
        return b""

    server.hook.answer = answer
    assert await post(poster, server.url) == status
    assert await post(poster, server.url) == status
    assert server.connections == 1


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(server: Server, poster: HttpPoster, status: int) -> None:
    """Neither to the same host nor to another one."""

    def answer(request: Request) -> bytes:
        request.setResponseCode(status)
        request.setHeader(b"Location", b"/other")
        return b""

    server.hook.answer = answer
    assert await post(poster, server.url) == status
    assert [uri for _, uri, _, _ in server.hook.requests] == [b"/hook?x=1"]


@pytest_twisted.ensureDeferred
async def test_no_cookie_comes_back(server: Server, poster: HttpPoster) -> None:
    """A sink that sets a cookie with each answer fills no jar."""

    def answer(request: Any) -> bytes:
        request.addCookie(f"c{len(server.hook.requests)}", "x" * 1000)
        return b""

    server.hook.answer = answer
    for _ in range(3):
        await post(poster, server.url)
    assert not any(b"Cookie" in headers for _, _, _, headers in server.hook.requests)


@pytest_twisted.ensureDeferred
async def test_a_long_answer(server: Server, poster: HttpPoster) -> None:
    """Its status counts; the rest is cut off."""
    sent: list[int] = []
    cut: list[bool] = []

    def answer(request: Any) -> int:
        request.notifyFinish().addErrback(lambda _: cut.append(True))

        def more() -> None:
            if not cut:
                sent.append(65536)
                request.write(b"x" * 65536)
                reactor.callLater(0, more)

        more()
        return int(NOT_DONE_YET)

    server.hook.answer = answer
    assert await post(poster, server.url) == 200
    await until(lambda: cut)
    assert len(sent) < 1000


@pytest_twisted.ensureDeferred
async def test_an_answer_that_never_ends(
    server: Server, poster: HttpPoster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its status counts; then its connection is cut, and the next post takes another one."""
    monkeypatch.setattr(webhook_http, "BODY_TIMEOUT", 0.05)

    def answer(request: Any) -> int:
        request.write(b"x")
        return int(NOT_DONE_YET)

    server.hook.answer = answer
    assert await post(poster, server.url) == 200
    server.hook.answer = lambda request: b"ok"
    assert await post(poster, server.url) == 200
    assert server.connections == 2


@pytest_twisted.ensureDeferred
async def test_a_status_is_not_lost_with_the_patience(server: Server, poster: HttpPoster) -> None:
    """Cut while the body trickles: the event was taken, and is not sent twice."""

    def answer(request: Any) -> int:
        request.write(b"x")
        return int(NOT_DONE_YET)

    server.hook.answer = answer
    posting = post(poster, server.url)
    await until(lambda: server.hook.requests)
    await settled()
    posting.cancel()
    assert await posting == 200


@pytest_twisted.ensureDeferred
async def test_nothing_is_inflated(server: Server, poster: HttpPoster) -> None:
    """An answer that would unpack to more than the limit is an ordinary short one."""

    def answer(request: Any) -> bytes:
        request.setHeader(b"Content-Encoding", b"gzip")
        return gzip.compress(bytes(4 << 20))

    server.hook.answer = answer
    assert await post(poster, server.url) == 200
    assert await post(poster, server.url) == 200
    assert server.connections == 1


@pytest_twisted.ensureDeferred
async def test_silence_can_be_cut_short(server: Server, poster: HttpPoster) -> None:
    """Who takes a request and says nothing loses the connection."""
    server.hook.answer = lambda request: int(NOT_DONE_YET)
    posting = Deferred.fromCoroutine(poster.post(server.url, {}, BODY))
    with pytest.raises(Exception):  # noqa: B017  # Twisted's own, which one does not matter
        await posting.addTimeout(0.1, reactor)
    server.hook.answer = lambda request: b"ok"
    assert await post(poster, server.url) == 200
    assert server.connections == 2


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 \xff\r\n\r\n", b"\x00" * 70000]
)
async def test_no_http(poster: HttpPoster, answer: bytes) -> None:
    """Whatever else listens there is an error like any other."""

    class Other(Protocol):
        def dataReceived(self, data: bytes) -> None:
            assert self.transport is not None
            self.transport.write(answer)
            self.transport.loseConnection()

    port = reactor.listenTCP(0, Factory.forProtocol(Other), interface="127.0.0.1")
    with pytest.raises(Exception):  # noqa: B017
        await post(poster, f"http://127.0.0.1:{port.getHost().port}/")
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_certificate_nobody_vouches_for(poster: HttpPoster) -> None:
    """The event does not go to whoever happens to answer."""
    options, _ = make_certificate(time.time())
    server = Server(options)
    with pytest.raises(Exception):  # noqa: B017
        await post(poster, f"https://localhost:{server.port.getHost().port}/")
    assert not server.hook.requests
    await server.close()
    await settled()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("ending", ["close", "never"])
async def test_tls(poster: HttpPoster, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    """Over https, too, a sink that hangs up and one that never ends cost one connection each."""
    monkeypatch.setattr(webhook_http, "BODY_TIMEOUT", 0.05)
    monkeypatch.setattr(BrowserLikePolicyForHTTPS, "creatorForNetloc", lambda *_: Trusting())
    options, _ = make_certificate(time.time())
    server = Server(options)
    ended: list[bool] = []

    def answer(request: Any) -> bytes | int:
        request.notifyFinish().addErrback(lambda _: ended.append(True))
        if ending == "close":
            request.setHeader(b"Connection", b"close")
            return b"ok"
        request.write(b"x")
        return int(NOT_DONE_YET)

    server.hook.answer = answer
    for _ in range(2):
        assert await post(poster, f"https://localhost:{server.port.getHost().port}/") == 200
    assert server.connections == 2
    if ending == "never":
        await until(lambda: len(ended) == 2)
    await poster.close()
    await server.close()
    await settled()


@pytest_twisted.ensureDeferred
async def test_a_name_may_not_lead_where_an_address_may_not(
    server: Server, poster: HttpPoster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address that was connected to is looked at before anything is sent."""
    monkeypatch.setattr(webhook_http, "is_link_local", lambda host: host == "127.0.0.1")
    with pytest.raises(Exception, match="link-local"):
        await post(poster, server.url)
    assert not server.hook.requests


@pytest_twisted.ensureDeferred
async def test_two_sinks_in_turn(server: Server, poster: HttpPoster) -> None:
    """The connection to the one before is not kept."""
    other = Server()
    for each in (server, other, server):
        assert await post(poster, each.url) == 200
    assert (server.connections, other.connections) == (2, 1)
    await other.close()
    await settled()


@pytest_twisted.ensureDeferred
async def test_an_address_in_brackets(poster: HttpPoster) -> None:
    hook = Hook()
    try:
        port = reactor.listenTCP(0, Site(hook), interface="::1")
    except Exception:
        pytest.skip("no IPv6 here")
    number = port.getHost().port
    assert await post(poster, f"http://[::1]:{number}/x") == 200
    assert hook.requests[0][3][b"Host"] == [f"[::1]:{number}".encode()]
    await poster.close()
    await port.stopListening()
    await settled()


@pytest_twisted.ensureDeferred
async def test_the_sink_of_the_page(poster: HttpPoster, capfd: Any) -> None:
    """The example of the reference page, on another port."""
    page = Path(__file__).parents[2] / "docs" / "reference" / "webhooks.md"
    (example,) = re.findall(r"```python\n(.+?)```", page.read_text(), re.DOTALL)
    code, last = example.rstrip().rsplit("\n", 1)
    assert last == 'HTTPServer(("127.0.0.1", 8080), Printer).serve_forever()'
    names: dict[str, Any] = {}
    exec(code, names)
    with HTTPServer(("127.0.0.1", 0), names["Printer"]) as sink:
        thread = Thread(target=sink.handle_request)
        thread.start()
        assert await post(poster, f"http://127.0.0.1:{sink.server_port}/pilot") == 204
        thread.join(5)
    assert capfd.readouterr().out == BODY.decode() + "\n"
    await settled()


def test_a_stub_of_treq(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way on an invented clock: what the sink refuses is not sent again."""
    hook = Hook()

    def answer(request: Request) -> bytes:
        request.setResponseCode(200 if len(hook.requests) == 1 else 410)
        return b"gone"

    hook.answer = answer
    stub = StubTreq(hook)

    def stubbed(url: Any, **options: Any) -> Any:
        del options["agent"]
        return stub.post(url, **options)

    monkeypatch.setattr(webhook_http.treq, "post", stubbed)
    clock: Any = Clock()
    webhooks = Webhooks(clock, lambda: 7, "http://sink.example/hook")
    webhooks.startService()
    webhooks.emit("x")
    webhooks.emit("y")
    for _ in range(10):
        clock.advance(0.1)
        stub.flush()
    assert [json.loads(body)["event"] for _, _, body, _ in hook.requests] == ["x", "y"]
    assert webhooks.counters == {"delivered": 1, "refused": 1}
