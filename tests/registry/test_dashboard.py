"""The dashboard: what it shows, and to whom."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from pilot.registry.dashboard import make_site, short
from pilot.registry.relaytable import RelayTable
from pilot.registry.site import MAX_BODY
from tests.golden import golden
from tests.registry.support import ADMIN, Server, SlowStore, identity, key_text, sign

#: What only the reference's enterprise tier counts.
ENTERPRISE = (
    "audit_events_total",
    "audit_exports_total",
    "audit_export_errors_total",
    "provisions_total",
    "idp_verifications_total",
    "rbac_pre_assignments_total",
    "idp_configured",
    "webhook_configured",
    "audit_export_active",
    "directory_synced_networks",
)


class Browser:
    """Asks the dashboard of a server."""

    def __init__(self, server: Server, host: str = "127.0.0.1") -> None:
        self.site = make_site(server.factory, RelayTable(), "dash-secret")
        self.host = host

    def open(self, method: str, path: str, headers: str = "", body: bytes = b"") -> Any:
        transport = StringTransport(peerAddress=IPv4Address("TCP", self.host, 1))
        transport.abortConnection = transport.loseConnection  # type: ignore[method-assign]
        channel = self.site.buildProtocol(None)
        channel.makeConnection(transport)
        request = f"{method} {path} HTTP/1.0\r\nHost: x\r\n{headers}\r\n"
        channel.dataReceived(request.encode() + body)
        self.transport = transport
        return transport

    def get(self, path: str, method: str = "GET", headers: str = "") -> tuple[int, Any, str]:
        """@return: status, headers, body."""
        data = self.open(method, path, headers).value().decode()
        head, _, body = data.partition("\r\n\r\n")
        status, *lines = head.split("\r\n")
        found = dict(line.split(": ", 1) for line in lines)
        return int(status.split()[1]), found, body

    def json(self, path: str) -> Any:
        status, _, body = self.get(path)
        assert status == 200
        return json.loads(body)


@pytest.fixture
def server() -> Server:
    """Three nodes, one of them in a network of its own, one pair."""
    server = Server()
    server.factory._sweep()
    client = server.connect()
    for number, fields in (
        (1, {"version": "v1.7.0", "hostname": "private-name"}),
        (2, {"version": "dev"}),
        (3, {}),
    ):
        request = {"type": "register", "public_key": key_text(identity(number)), **fields}
        client.ask(request)
    for a, b in ((1, 2), (2, 1)):
        client.ask(sign(identity(a), {"type": "report_trust", "node_id": a, "peer_id": b}))
    create = {"type": "create_network", "node_id": 1, "name": "net-one", "admin_token": ADMIN}
    client.ask(create)
    client.ask({"type": "lookup", "node_id": 99})
    return server


def test_statistics(server: Server) -> None:
    server.clock.advance(4)
    stats = Browser(server).json("/api/stats")
    assert {k: v for k, v in stats.items() if k not in ("hourly", "daily")} == {
        "total_nodes": 3,
        "active_nodes": 3,
        "total_trust_links": 1,
        "total_requests": 7,
        "uptime_secs": 4,
        "versions": {"v1.7.0": 1, "vdev": 1, "<1.7.0": 1},
    }
    assert stats["hourly"] == stats["daily"]
    assert stats["hourly"][0]["total_nodes"] == 0
    recorded = golden("registry_http")[0]["json"]
    assert stats.keys() == recorded.keys()
    assert stats["hourly"][0].keys() == recorded["hourly"][0].keys()


def test_samples_are_taken_by_the_hour_and_by_the_day(server: Server) -> None:
    server.factory.start()
    for _ in range(26 * 360):
        server.clock.advance(10)
    stats = Browser(server).json("/api/stats")
    assert (len(stats["hourly"]), len(stats["daily"])) == (24, 2)
    server.factory._sweeping.stop()


def test_networks_are_shown_to_who_has_the_token(server: Server) -> None:
    browser = Browser(server)
    for path in ("/api/stats", "/api/stats?token=", "/api/stats?token=wrong"):
        assert "networks" not in browser.json(path)
    shown = browser.json("/api/stats?token=dash-secret")["networks"]
    assert [(n["id"], n["members"], n["online"], n["trust_links"]) for n in shown] == [
        (0, 3, 3, 1),
        (1, 1, 1, 0),
    ]


def test_no_token_opens_nothing(server: Server) -> None:
    browser = Browser(server)
    browser.site = make_site(server.factory, RelayTable(), "")
    assert "networks" not in browser.json("/api/stats?token=")


def test_health(server: Server) -> None:
    """Heartbeats count: a long-running network is not empty."""
    client = server.connect()
    server.factory.start()
    for _ in range(10):
        for _ in range(6):
            server.clock.advance(10)
        client.ask(sign(identity(1), {"type": "heartbeat", "node_id": 1}))
    assert Browser(server).json("/healthz") == {
        "nodes_online": 1,
        "status": "ok",
        "uptime_seconds": 600,
        "version": "1.0",
    }
    server.factory._sweeping.stop()


def test_badges(server: Server) -> None:
    for name, label, count in (
        ("nodes", "online nodes", "3"),
        ("trust", "trust links", "1"),
        ("requests", "requests", "7"),
    ):
        status, headers, body = Browser(server).get(f"/api/badge/{name}")
        assert status == 200
        assert headers["Content-Type"] == "image/svg+xml"
        assert headers["Cache-Control"] == "no-cache, no-store, must-revalidate"
        assert f"{label}: {count}" in body
    assert [short(n) for n in (999, 1000, 1_250_000, 3 * 10**9)] == ["999", "1.0K", "1.2M", "3.0B"]


def test_the_page_names_nobody(server: Server) -> None:
    browser = Browser(server)
    for path in ("/", "/api/stats?token=dash-secret", "/metrics"):
        status, _, body = browser.get(path)
        assert status == 200
        assert "private-name" not in body


def test_what_is_not_there_is_not_found(server: Server) -> None:
    for path in ("/nope", "/debug/pprof/", "/api/nodes", "/%ff"):
        status, headers, body = Browser(server).get(path)
        assert (status, body) == (404, "404 page not found\n")
        assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["/metrics", "/api/snapshot"])
@pytest.mark.parametrize(
    ("host", "headers", "allowed"),
    [
        ("127.0.0.1", "", True),
        ("127.0.0.1", "X-Real-IP: 8.8.8.8\r\n", False),
        ("127.0.0.1", "X-Real-IP: 127.0.0.1\r\n", True),
        ("198.51.100.7", "", False),
        ("198.51.100.7", "X-Real-IP: 127.0.0.1\r\n", False),
    ],
)
def test_some_of_it_is_for_this_machine_only(
    server: Server, path: str, host: str, headers: str, allowed: bool
) -> None:
    method = "POST" if path == "/api/snapshot" else "GET"
    status, _, body = Browser(server, host).get(path, method, headers)
    assert (status, body == "Forbidden\n") == ((200, False) if allowed else (403, True))


class TestSnapshot:
    def test_it_is_posted(self, server: Server) -> None:
        status, _, body = Browser(server).get("/api/snapshot")
        assert (status, body) == (405, "Method not allowed\n")

    def test_it_answers_when_everything_is_saved(self) -> None:
        store = SlowStore()
        browser = Browser(Server(store=store))
        transport = browser.open("POST", "/api/snapshot")
        assert transport.value() == b""
        store.finish()
        recorded = golden("registry_http")[6]["json"]
        assert json.loads(transport.value().partition(b"\r\n\r\n")[2]) == recorded

    def test_it_says_when_that_fails(self) -> None:
        store = SlowStore()
        transport = Browser(Server(store=store)).open("POST", "/api/snapshot")
        store.fail()
        assert transport.value().startswith(b"HTTP/1.0 500")

    def test_nobody_is_answered_who_has_left(self) -> None:
        store = SlowStore()
        server = Server(store=store)
        site = make_site(server.factory, RelayTable(), "")
        channel = site.buildProtocol(None)
        channel.makeConnection(StringTransport(peerAddress=IPv4Address("TCP", "127.0.0.1", 1)))
        channel.dataReceived(b"POST /api/snapshot HTTP/1.0\r\n\r\n")
        channel.connectionLost(Failure(ConnectionDone()))
        store.finish()


def test_no_body_may_be_large(server: Server) -> None:
    headers = f"Content-Length: {MAX_BODY + 1}\r\n"
    transport = Browser(server).open("POST", "/healthz", headers, b"x" * 1000)
    assert transport.disconnecting
    assert not transport.value()


def test_metrics_have_the_reference_s_names(server: Server) -> None:
    """Every name that the reference exports and that applies here, with the same labels."""
    status, headers, body = Browser(server).get("/metrics")
    assert status == 200
    recorded = golden("registry_http")[3]
    assert headers["Content-Type"] == recorded["headers"]["Content-Type"]
    ours = {line.split()[2]: line for line in body.splitlines() if line.startswith("# TYPE")}
    theirs = {
        line.split()[2]: line for line in recorded["body_excerpt"] if line.startswith("# TYPE")
    }
    enterprise = {f"pilot_{name}" for name in ENTERPRISE}
    assert theirs.keys() - enterprise <= ours.keys()
    assert all(ours[name] == theirs[name] for name in theirs.keys() & ours.keys())
    for line in (
        'pilot_requests_total{type="register"} 3',
        'pilot_errors_total{type="lookup"} 1',
        'pilot_request_duration_seconds_bucket{type="register",le="0.0001"} 3',
        'pilot_request_duration_seconds_bucket{type="register",le="+Inf"} 3',
        'pilot_request_duration_seconds_count{type="register"} 3',
        "pilot_nodes_online 3",
        "pilot_trust_links 1",
        'pilot_network_members{network="net-one"} 1',
        'pilot_network_owners{network="net-one"} 1',
        'pilot_rbac_operations_total{op="kick"} 0',
    ):
        assert line in body.splitlines()


def test_strangers_make_no_labels(server: Server) -> None:
    client = server.connect()
    for n in range(50):
        client.ask({"type": f"made-up-{n}"})
    assert "made-up" not in Browser(server).get("/metrics")[2]


def test_the_numbers_of_many_nodes_are_not_counted_at_each_look() -> None:
    server = Server()
    client = server.connect("127.0.0.1")
    browser = Browser(server)
    for number in range(1, 1003):
        client.ask({"type": "register", "public_key": key_text(identity(number))})
        if number == 1001:
            assert browser.json("/api/stats")["total_nodes"] == 1001
    assert browser.json("/api/stats")["total_nodes"] == 1001
    server.clock.advance(1)
    assert browser.json("/api/stats")["total_nodes"] == 1002
