"""The metrics: what they say, in which form, and what asking for them may cost."""

from __future__ import annotations

import os
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from pilot.daemon import metrics as metrics_module
from pilot.daemon.figures import MAX_SKILL_FIGURES, figures
from pilot.daemon.metrics import MetricsService
from pilot.daemon.processfigures import process_figures
from pilot.daemon.service import DaemonService
from pilot.errors import PortInUse
from pilot.exposition import Family, by_label, exposition, one
from tests.daemon.exposition import read_exposition
from tests.daemon.test_loopback import places
from tests.daemon.test_service import daemon, stopped

reactor: Any = _reactor


class Conversation(Protocol):
    """Sends bytes, collects the answer until the other end closes."""

    def __init__(self, request: bytes = b"") -> None:
        self._request = request
        self.received = b""
        self.ended: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(self._request)  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(self.received)


async def talk(port: int, request: bytes) -> bytes:
    point = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
    protocol: Any = await connectProtocol(point, Conversation(request))
    answer: bytes = await protocol.ended.addTimeout(10, reactor)
    return answer


def request(method: str, path: str, more: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}\r\n".encode()


def serve(*families: Family) -> tuple[MetricsService, int]:
    service = MetricsService(reactor, "127.0.0.1:0", lambda: families)
    service.startService()
    return service, service.statistics()["port"]


async def ended(service: MetricsService) -> None:
    await service.stopService()
    await deferLater(reactor, 0.02)


# -- the format --------------------------------------------------------------------------------

_WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(labels=st.dictionaries(_WORDS, st.floats(min_value=0)), help_line=_WORDS)
def test_whatever_is_labelled_reads_back(labels: dict[str, float], help_line: str) -> None:
    text = exposition([by_label("pilot_x_total", "counter", "what", labels, help_line)])
    found = read_exposition(text)
    unescaped = {
        re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], series[1][0][1]): value
        for series, value in found.items()
    }
    assert unescaped == pytest.approx(labels, rel=1e-12, nan_ok=True)


def test_numbers() -> None:
    shown = [
        one("x", "gauge", value) for value in (0, True, 1.5, float("inf"), 2**70, 1.79e9 + 0.5)
    ]
    last = [line.split()[1] for line in exposition(shown).splitlines() if line[0] != "#"]
    assert last == ["0", "1", "1.5", "+Inf", str(2**70), "1790000000.5"]


# -- the numbers -------------------------------------------------------------------------------


@pytest_twisted.async_yield_fixture
async def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DaemonService]:
    service = daemon(tmp_path / "a", places(), monkeypatch, **{"metrics-port": "127.0.0.1:0"})
    service.startService()
    try:
        await service.started
        yield service
    finally:
        await stopped(service)


@pytest_twisted.ensureDeferred
async def test_a_daemon_tells_its_numbers(running: DaemonService) -> None:
    """Over HTTP the same ones as in its info reply."""
    info = await running.node.info()
    assert info["metrics"]["host"] == "127.0.0.1"
    head, _, body = (await talk(info["metrics"]["port"], request("GET", "/metrics"))).partition(
        b"\r\n\r\n"
    )
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"Content-Type: text/plain; version=0.0.4; charset=utf-8" in head
    values = read_exposition(body.decode())
    assert values["pilot_registry_connected", ()] == 1
    assert values["pilot_ports", ()] == info["ports"] == len(running.node.parts.ports)
    assert values["pilot_build_info", (("version", info["version"]),)] == 1
    assert values["pilot_event_stream_subscriptions", ()] == 0
    assert values["pilot_event_stream_published_total", ()] == 0
    for section, state in (("webhook", "waiting"), ("claims", "claims"), ("messages", "streams")):
        assert values[f"pilot_{section}_{state}", ()] == info[section][state]
    assert values["pilot_metrics_refused_total", ()] == 0
    assert not any(name.startswith("pilot_metrics_port") for name, _ in values)


@pytest_twisted.ensureDeferred
async def test_skills_are_shown_and_trusted_with_nothing(running: DaemonService) -> None:
    """A skill's report may hold anything; peers and other tables do not become labels."""
    report = {
        "name": "gossip",
        "state": "running",
        "failures": 2,
        "merged": 7,
        "rate": 0.5,
        "leader": True,
        "deep": {"inner": {"count": 3}},
        "peers": {"0:0000.0000.0002": 9, "42": 1},
        "members": [{"sent": 1}],
        "bad name": 1,
    }
    many = {"name": "many", "state": "failed", **{f"n{i}": i for i in range(1000)}}
    sections = running.node.parts.report.sections
    sections["skills"] = lambda: [report, many, "nonsense", {}]
    text = exposition(figures(running.node))
    values = read_exposition(text)
    assert values["pilot_skill_running", (("skill", "gossip"),)] == 1
    assert values["pilot_skill_running", (("skill", "many"),)] == 0
    assert values["pilot_skill_failures_total", (("skill", "gossip"),)] == 2
    own = {
        dict(labels)["name"]: value
        for (name, labels), value in values.items()
        if name == "pilot_skill_statistic" and dict(labels)["skill"] == "gossip"
    }
    assert own == {"merged": 7, "rate": 0.5, "leader": 1, "deep.inner.count": 3}
    assert text.count('skill="many",') == MAX_SKILL_FIGURES


def test_the_process() -> None:
    values = read_exposition(exposition(process_figures()))
    assert values["process_cpu_seconds_total", ()] > 0
    if os.path.isdir("/proc/self"):
        assert values["process_resident_memory_bytes", ()] > 1 << 20
        assert 0 < values["process_open_fds", ()] < values["process_max_fds", ()]
        assert abs(time.time() - values["process_start_time_seconds", ()]) < 86400


# -- the server --------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_methods_and_paths() -> None:
    service, port = serve(one("pilot_x", "gauge", 1, "An x."))
    page = b"# HELP pilot_x An x.\n# TYPE pilot_x gauge\npilot_x 1\n"
    head, _, body = (await talk(port, request("GET", "/metrics?x=1"))).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ") and body == page
    head, _, body = (await talk(port, request("HEAD", "/metrics"))).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ") and body == b""
    assert f"Content-Length: {len(page)}".encode() in head
    for path in ("/", "/metrics/", "/metrics/x", "/favicon.ico"):
        assert (await talk(port, request("GET", path))).startswith(b"HTTP/1.1 404 ")
    refused = await talk(port, request("POST", "/metrics", "Content-Length: 0\r\n"))
    assert refused.startswith(b"HTTP/1.1 405 ") and b"Allow: GET, HEAD" in refused
    await ended(service)


@pytest_twisted.ensureDeferred
async def test_nonsense_and_large_requests_end_their_connection() -> None:
    service, port = serve(one("pilot_x", "gauge", 1))
    for sent in (
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
        request("POST", "/metrics", "Content-Length: 99999999\r\n"),
        b"GET /metrics HTTP/1.1\r\n" + b"X: " + b"y" * 100_000,
    ):
        assert not (await talk(port, sent)).startswith(b"HTTP/1.1 200")
    assert (await talk(port, request("GET", "/metrics"))).startswith(b"HTTP/1.1 200")
    await ended(service)


@pytest_twisted.ensureDeferred
async def test_so_many_connections_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_module, "MAX_CONNECTIONS", 2)
    service, port = serve(one("pilot_x", "gauge", 1))
    point = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
    held: list[Any] = [await connectProtocol(point, Conversation()) for _ in range(2)]
    await deferLater(reactor, 0.02)
    assert await talk(port, b"") == b""
    assert service.refused == 1
    held[0].transport.loseConnection()
    await held[0].ended
    await deferLater(reactor, 0.02)
    assert (await talk(port, request("GET", "/metrics"))).startswith(b"HTTP/1.1 200")
    await ended(service)
    await held[1].ended.addTimeout(5, reactor)


@pytest_twisted.ensureDeferred
async def test_numbers_that_cannot_be_had_are_an_error_of_the_request_only(
    nothing_left_behind: list[Failure],
) -> None:
    def broken() -> list[Family]:
        raise ZeroDivisionError

    service = MetricsService(reactor, "127.0.0.1:0", broken)
    service.startService()
    answer = await talk(service.statistics()["port"], request("GET", "/metrics"))
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert nothing_left_behind.pop().check(ZeroDivisionError)
    await ended(service)


@pytest_twisted.ensureDeferred
async def test_a_port_in_use_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, port = serve()
    service = daemon(tmp_path / "a", places(), monkeypatch, **{"metrics-port": str(port)})
    service.startService()
    try:
        with pytest.raises(PortInUse, match=f"metrics cannot listen on 127.0.0.1:{port}"):
            await service.started
    finally:
        await stopped(service)
        await ended(first)
