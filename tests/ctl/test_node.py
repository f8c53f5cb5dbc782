"""What this node says of itself: tables, extras, and answers that are not as they should be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilot.ctl.console import MAX_ROWS, table
from pilot.wire.ipc_extensions import Extension
from pilot.wire.ipcframes import Command
from tests.ctl.conftest import Run
from tests.ctl.fakedaemon import FakeDaemon, error, reply
from tests.ctl.transcripts import INFO

PEERS = [
    {"node_id": 2, "endpoint": "192.0.2.7:4000", "encrypted": True, "authenticated": True},
    {
        "node_id": 70000,
        "endpoint": "192.0.2.8:4000",
        "encrypted": False,
        "authenticated": False,
        "hostname": "node-\x1b[1mz",
        "tags": ["web", "api"],
    },
]

STREAM = {
    "id": 12345,
    "local_port": 49152,
    "remote_addr": "0:0000.0000.0002",
    "remote_port": 7,
    "state": "ESTABLISHED",
    "cong_win": 40960,
    "in_flight": 0,
    "srtt_ms": 12,
    "peer_recv_win": 1 << 21,
    "recv_win": 1 << 21,
}


@pytest.fixture
def saying(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Make a daemon that says this of itself."""

    def make(**facts: Any) -> FakeDaemon:
        daemon = FakeDaemon(lambda c, p: [reply(c + 1, {**INFO, **facts})])
        monkeypatch.setenv("PILOT_SOCKET", daemon.path)
        return daemon

    return make


def test_node_id_stands_beside_the_data_too(saying: Any, run: Run) -> None:
    """Scripts that look for C{.node_id} find it, and the data is where it was."""
    with saying():
        envelope = run("--json", "info").envelope
    assert envelope["node_id"] == envelope["data"]["node_id"] == 1
    assert envelope.keys() == {"status", "data", "node_id"}


def test_empty_lists_are_lists(saying: Any, run: Run) -> None:
    """Whatever the daemon puts there for nothing."""
    with saying(networks=None, peer_list=None, conn_list=7):
        data = run("--json", "info").data
        assert [data[key] for key in ("networks", "peer_list", "conn_list")] == [[], [], []]
        assert run("--json", "peers").data == {"peers": [], "total": 0}
        assert run("--json", "connections").data == {"connections": [], "total": 0}


def test_peers_have_addresses(saying: Any, run: Run) -> None:
    with saying(peer_list=PEERS):
        found = run("--json", "peers").data["peers"]
    assert [each["address"] for each in found] == ["0:0000.0000.0002", "0:0000.0001.1170"]
    assert found[1]["tags"] == ["web", "api"]


@pytest.mark.parametrize(
    ("query", "nodes"),
    [("7000", [70000]), ("0.2.7", [2]), ("NODE-", [70000]), ("api", [70000]), ("nothing", [])],
)
def test_search(saying: Any, run: Run, query: str, nodes: list[int]) -> None:
    """By node id and endpoint, and by hostname and tag where the daemon knows them."""
    with saying(peer_list=PEERS):
        data = run("--json", "peers", "--search", query).data
    assert [each["node_id"] for each in data["peers"]] == nodes
    assert data["total"] == len(nodes)


def test_members_of_a_swarm_are_a_plain_array(saying: Any, run: Run) -> None:
    """The one search whose JSON has no envelope, as published scripts expect of it."""
    members = [{**PEERS[0], "tags": ["swarm-kv"]}, {**PEERS[1], "tags": ["swarm-kv-2"]}]
    with saying(peer_list=members):
        printed = run("--json", "peers", "--search", "swarm:kv").out
        nobody = run("--json", "peers", "--search", "swarm:x").out
    assert [entry["address"] for entry in json.loads(printed)] == ["0:0000.0000.0002"]
    assert json.loads(nobody) == []


def test_trusted_members_of_a_swarm_need_no_tunnel(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script that asks who is in the swarm gets them all, before anything was sent."""
    trusted = [
        {"node_id": 7, "address": "0:0000.0000.0007", "hostname": "g", "tags": ["swarm-kv"]},
        {"node_id": 8, "address": "0:0000.0000.0008", "hostname": "h", "tags": []},
        {"node_id": 9, "address": "0:0000.0000.0009", "hostname": "i", "tags": ["swarm-kv"]},
    ]

    def answer(command: int, payload: bytes) -> list[Any]:
        if command == Extension.HELLO:
            return [(Extension.HELLO_OK, bytes((1, 0)) + bytes(6))]
        if command == Extension.NODE:
            after = json.loads(payload)["after"]
            page = [each for each in trusted if int(str(each["node_id"])) > after][:2]
            data = {"peers": page, "more": page[-1] is not trusted[-1]}
            return [reply(Extension.NODE_OK, {"status": "ok", "data": data})]
        tunnel = {"node_id": 9, "endpoint": "192.0.2.1:4000", "encrypted": True, "tags": []}
        return [reply(command + 1, {"peer_list": [tunnel]})]

    with FakeDaemon(answer) as daemon:
        monkeypatch.setenv("PILOT_SOCKET", daemon.path)
        found = json.loads(run("--json", "peers", "--search", "swarm:kv").out)
    assert [each["address"] for each in found] == ["0:0000.0000.0009", "0:0000.0000.0007"]
    assert [each["encrypted"] for each in found] == [True, False]


def test_peer_table(saying: Any, run: Run) -> None:
    """Columns stand under their titles, and nobody's name steers the terminal."""
    with saying(peer_list=PEERS):
        title, *rows = run("peers").out.splitlines()
    for column, cells in {
        "NODE ID": ["2", "70000"],
        "ENDPOINT": ["192.0.2.7:4000", "192.0.2.8:4000"],
        "ENCRYPTED": ["yes (AES-256-GCM)", "no"],
        "AUTH": ["yes (Ed25519)", "no"],
        "HOSTNAME": ["-", "node-\\x1b[1mz"],
    }.items():
        for row, cell in zip(rows, cells, strict=True):
            assert row[title.index(column) :].startswith(cell)


def test_connection_table(saying: Any, run: Run) -> None:
    with saying(conn_list=[STREAM, {**STREAM, "id": 1, "srtt_ms": 0.25, "state": "TIME_WAIT"}]):
        lines = run("connections").out.splitlines()
        overview = run("info").out.splitlines()
    assert lines[0] == "Active connections: 2" and lines[3].startswith("12345")
    for title, cells in {"SRTT": ["12ms", "0.25ms"], "CWND": ["40.0 KB"] * 2}.items():
        for row, cell in zip((lines[3], lines[5]), cells, strict=True):
            assert row[lines[2].index(title) :].startswith(cell)
    assert lines[4].startswith("      tx: 0 B ( segs)")
    assert "Active connections: 2" in overview and overview[-1].startswith("  1 ")


def test_long_tables_are_cut(saying: Any, run: Run) -> None:
    many = [{**STREAM, "id": number} for number in range(1000, 1000 + MAX_ROWS + 3)]
    with saying(conn_list=many):
        lines = run("connections").out.splitlines()
        assert run("--json", "connections").data["total"] == len(many)
    assert len(lines) == 3 + 2 * MAX_ROWS + 1
    assert lines[-1] == "... and 3 more (--json shows all)"
    assert table(("A",), (0,), []) == "A"


def test_other_states(saying: Any, run: Run) -> None:
    skills = [
        {"name": "gossip", "state": "running", "error": None},
        {"name": "presence", "state": "failed", "error": "no\x1b[31m"},
        7,
    ]
    with saying(
        skills=skills, encrypt=False, identity=False, networks=[{"network_id": 1, "address": "1:x"}]
    ):
        out = run("info").out
    assert "Encryption:  disabled" in out and "Identity:    ephemeral (not persisted)" in out
    assert "  Networks:    1\n    - network 1: 1:x\n" in out
    assert "  Skills:      2\n    - gossip: running\n    - presence: failed (no" in out
    assert "\x1b" not in out


def test_daemon_that_says_little(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fields that are missing are missing, and nothing breaks."""
    with FakeDaemon(lambda c, p: [reply(c + 1, {"uptime_secs": "?", "peers": True})]) as daemon:
        monkeypatch.setenv("PILOT_SOCKET", daemon.path)
        for words in (["info"], ["health"], ["peers"], ["connections"], ["trust"], ["pending"]):
            assert run(*words).status == 0
            assert run("--json", *words).envelope["status"] == "ok"
        assert run("--json", "find", "x").problem["code"] == "connection_failed"


def test_requests_that_are_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is the chain of who said what."""
    with FakeDaemon(lambda c, p: [error("no such luck")]) as daemon:
        monkeypatch.setenv("PILOT_SOCKET", daemon.path)
        for words, chain in {
            ("info",): "info: info",
            ("peers",): "info: info",
            ("health",): "health: health",
            ("set-private",): "set-private: set_visibility",
            ("clear-tags",): "clear-tags: set_tags",
            ("set-hostname", "x"): "set-hostname: set_hostname",
            ("deregister",): "deregister: deregister",
            ("trust",): "trust: trusted",
            ("pending",): "pending: pending",
            ("approve", "1"): "approve: approve",
            ("reject", "1"): "reject: reject",
            ("untrust", "1"): "untrust: revoke",
            ("handshake", "1"): "handshake: handshake",
            ("disconnect", "1"): "disconnect",
        }.items():
            problem = run("--json", *words).problem
            assert problem["code"] == "connection_failed"
            assert problem["message"] == f"{chain}: daemon: no such luck"
        problem = run("--json", "find", "x").problem
        assert problem["code"] == "not_found" and "no such luck" in problem["message"]


def test_hostname_is_remembered(saying: Any, run: Run, tmp_path: Path) -> None:
    """In the configuration, for the next start; cleared, it is forgotten."""
    config = tmp_path / ".pilot" / "config.json"
    with saying(hostname="alpha"):
        assert run("--json", "set-hostname", "alpha").data == {"hostname": "alpha", "node_id": 1}
    assert json.loads(config.read_text()) == {"hostname": "alpha"}
    with saying(hostname=""):
        assert run("clear-hostname").out == "hostname cleared\n"
    assert json.loads(config.read_text()) == {}


def test_already_trusted(saying: Any, run: Run) -> None:
    with saying(status="already_trusted"):
        assert run("--json", "handshake", "2").data["status"] == "already_trusted"
        assert run("handshake", "2").out == "node 2 is trusted already\n"


def test_justification_of_several_words(saying: Any, run: Run) -> None:
    """Nobody has to quote it."""
    with saying() as daemon:
        run("handshake", "2", "want", "to", "talk")
        run("handshake", "self")
    assert (Command.HANDSHAKE, b"\x01\0\0\0\x02want to talk") in daemon.received
    assert (Command.HANDSHAKE, b"\x01\0\0\0\x01") in daemon.received
