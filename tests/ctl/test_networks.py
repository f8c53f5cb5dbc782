"""Private networks: through the daemon, at the registry, and broadcasts."""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pilot.ctl.table import COMMANDS
from pilot.wire.ipcframes import Command
from pilot.wire.registry import encode_frame
from tests.ctl.conftest import Run
from tests.ctl.fakedaemon import FakeDaemon, Frame, error, reply
from tests.ctl.test_direct import Answer, FakeRegistry
from tests.ctl.test_transcripts import check_json, check_text
from tests.ctl.transcripts import ENTRIES, Entry, filled, uses_json, verb

GOVERNING = {each.name for each in COMMANDS if each.run.startswith("pilot.ctl.governing:")}

RECORDED = [
    entry
    for entry in ENTRIES
    if entry["id"].startswith("networks")
    and (verb(entry) in GOVERNING or "--node-id" in entry["args"])
]
"""What the reference's command line asked a registry, past the daemon."""

LOCAL = {"networks-067", "networks-077", "networks-078"}
"""Those that were refused before anything was asked."""

MEMBERS = {
    "type": "list_nodes_ok",
    "nodes": [
        {"node_id": 1, "address": "5:0005.0000.0001", "role": "owner", "public": True},
        {"node_id": 2, "address": "5:0005.0000.0002", "role": "member"},
        {"node_id": 3, "address": "5:0005.0000.0003", "offline": True, "role": "member"},
        {"node_id": 4, "address": "5:0005.0000.0004", "role": "member"},
    ],
}


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], FakeRegistry]]:
    """Starts a registry, the administrator's token at hand and no daemon about."""
    monkeypatch.setenv("PILOT_SOCKET", "/nonexistent/socket")
    monkeypatch.setenv("PILOT_ADMIN_TOKEN", "admin-secret")
    with contextlib.ExitStack() as stack:

        def make(answer: Answer) -> FakeRegistry:
            registry = stack.enter_context(FakeRegistry(answer))
            monkeypatch.setenv("PILOT_REGISTRY", registry.address)
            return registry

        yield make


def ok(request: dict[str, Any]) -> bytes:
    return encode_frame({"type": request["type"] + "_ok", "network_id": 5})


# The registry, asked directly.


def recorded_answer(entry: Entry) -> bytes:
    """@return: what the registry must have said, going by what was printed."""
    if entry["stderr"]:
        text = entry["stderr"].splitlines()[0]
        message = json.loads(text)["message"] if text.startswith("{") else text
        return encode_frame({"type": "error", "error": message.partition("registry: ")[2]})
    if uses_json(entry):
        return encode_frame(filled(json.loads(entry["stdout"])["data"]))
    if entry["stdout"].startswith("{"):
        return encode_frame(filled(json.loads(entry["stdout"])))
    given = dict(zip(entry["args"], entry["args"][1:], strict=False))
    facts = {"network_id": 1, "name": given.get("--name"), "enterprise": False, "role": "member"}
    return encode_frame({"type": "ok", **facts})


@pytest.mark.parametrize("entry", RECORDED, ids=[entry["id"] for entry in RECORDED])
def test_transcript(entry: Entry, serve: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit status, streams, error codes, hints, texts and data agree with the reference's."""
    registry = serve(lambda request: recorded_answer(entry))
    token = entry.get("env", {}).get("PILOT_ADMIN_TOKEN", "")
    monkeypatch.setenv("PILOT_ADMIN_TOKEN", token)
    outcome = run(*entry["args"])
    assert outcome.status == entry["exit_code"], outcome
    check = check_json if uses_json(entry) else check_text
    check(entry["stdout"], outcome.out)
    check(entry["stderr"], outcome.err)
    assert len(registry.asked) == (entry["id"] not in LOCAL)
    assert all(request.get("admin_token", "") == token for request in registry.asked)


def test_the_transcripts_are_there() -> None:
    assert len(RECORDED) > 25 and {entry["id"] for entry in RECORDED} >= LOCAL


def test_what_the_registry_is_asked(serve: Any, run: Run) -> None:
    """Each request, field by field, as the registry's protocol has it."""
    registry = serve(ok)
    govern = {"network_id": 5, "admin_token": "admin-secret"}
    target = {**govern, "target_node_id": 9}
    asked = {
        "delete 5": {"type": "delete_network", **govern},
        "rename 5 crew": {"type": "rename_network", "name": "crew", **govern},
        "promote 5 9": {"type": "promote_member", **target},
        "demote 5 9": {"type": "demote_member", **target},
        "kick 5 9": {"type": "kick_member", **target},
        "role 5 9": {"type": "get_member_role", "network_id": 5, "target_node_id": 9},
        "policy 5": {"type": "get_network_policy", "network_id": 5},
        "policy 5 --allowed-ports 7,1001 --max-members 3": {
            "type": "set_network_policy",
            "allowed_ports": [7, 1001],
            "max_members": 3,
            **govern,
        },
        "policy 5 --allowed-ports= --description=": {
            "type": "set_network_policy",
            "allowed_ports": [],
            "description": "",
            **govern,
        },
        "join 5 --node-id 9 --token t": {
            "type": "join_network",
            "node_id": 9,
            "token": "t",
            **govern,
        },
    }
    for words, request in asked.items():
        assert run("network", *words.split()).status == 0
        assert registry.asked.pop() == request


def test_create(serve: Any, run: Run, tmp_path: Path) -> None:
    """Everything that can be said of a new network."""
    registry = serve(lambda request: encode_frame({"network_id": 5, "name": "n", "managed": True}))
    rules = tmp_path / "rules.json"
    rules.write_text('{"links": 1}')
    words = "--name n --node-id 3 --join-rule token --token t --network-admin-token a"
    out = run("network", "create", *words.split(), "--rules-file", str(rules)).out
    assert out == "created network 5: n (join_rule=token, enterprise=false, managed=true)\n"
    assert registry.asked.pop() == {
        "type": "create_network",
        "name": "n",
        "node_id": 3,
        "join_rule": "token",
        "token": "t",
        "network_admin_token": "a",
        "enterprise": False,
        "rules": '{"links": 1}',
        "admin_token": "admin-secret",
    }
    run("network", "create", "--name", "n", "--node-id", "3", "--rules", "{}", "--enterprise")
    request = registry.asked.pop()
    assert request["rules"] == "{}" and request["enterprise"] and request["join_rule"] == "open"


def test_the_founder_is_the_own_node(serve: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless somebody else is named, or no daemon tells."""
    registry = serve(ok)
    run("network", "create", "--name", "n")
    assert registry.asked.pop()["node_id"] == 0
    with FakeDaemon(daemon_of(7, says(MEMBERS))) as daemon:
        monkeypatch.setenv("PILOT_SOCKET", daemon.path)
        run("network", "create", "--name", "n")
        assert registry.asked.pop()["node_id"] == 7
        assert daemon.received[-1] == (Command.NETWORK, b"\x04\x00\x05"), "the daemon looks"
        run("network", "create", "--name", "n", "--node-id", "8")
        assert registry.asked.pop()["node_id"] == 8


def test_a_daemon_that_cannot_look_is_no_error(
    serve: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(ok)
    refusal = error("network members: registry: request failed")
    with FakeDaemon(daemon_of(7, lambda payload: refusal)) as daemon:
        monkeypatch.setenv("PILOT_SOCKET", daemon.path)
        assert run("network", "join", "5", "--node-id", "8").status == 0


@pytest.mark.parametrize(
    "words",
    [
        ["--join-rule", "friends"],
        ["--join-rule", "token"],
        ["--token", "t"],
        ["--join-rule", "open", "--token", "t"],
        ["--node-id", "x"],
        ["--rules-file", "/dev/zero"],
        ["--rules-file", "/"],
    ],
    ids=" ".join,
)
def test_a_network_that_would_be_another_than_meant(serve: Any, run: Run, words: list[str]) -> None:
    """A token without its rule would leave the network open, a rule without a token as well."""
    registry = serve(ok)
    problem = run("--json", "network", "create", "--name", "n", *words).problem
    assert problem["code"] == "invalid_argument"
    assert not registry.asked


def test_the_admin_token(
    serve: Any, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From the environment, else the configuration; without one nothing is asked."""
    registry = serve(ok)
    monkeypatch.setenv("PILOT_ADMIN_TOKEN", "")
    words = "create --name n|delete 5|rename 5 x|promote 5 9|demote 5 9|kick 5 9|join 5 --node-id 9"
    for each in [*words.split("|"), "policy 5 --max-members 1"]:
        assert run("--json", "network", *each.split()).problem["code"] == "auth_required"
    assert not registry.asked
    run("config", "--set", "admin_token=of the file")
    run("network", "delete", "5")
    assert registry.asked.pop()["admin_token"] == "of the file"
    monkeypatch.setenv("PILOT_ADMIN_TOKEN", "of the environment")
    run("network", "delete", "5")
    assert registry.asked.pop()["admin_token"] == "of the environment"


def test_no_list_is_null(serve: Any, run: Run) -> None:
    serve(lambda request: encode_frame({"type": "ok", "allowed_ports": None}))
    assert run("--json", "network", "policy", "5").data["allowed_ports"] == []


# Through the daemon.


def daemon_of(
    node_id: int, answer: Callable[[bytes], Frame] | None = None
) -> Callable[[int, bytes], list[Frame]]:
    """@return: answers of the daemon of a node; C{answer} has the word about networks."""

    def answers(command: int, payload: bytes) -> list[Frame]:
        if command == Command.INFO:
            return [reply(Command.INFO_OK, {"node_id": node_id})]
        if command == Command.HEALTH:
            return [reply(Command.HEALTH_OK, {"status": "ok"})]
        if command == Command.SEND_TO:
            return []
        assert command == Command.NETWORK and answer is not None
        return [answer(payload)]

    return answers


def says(value: Any) -> Callable[[bytes], Frame]:
    """@return: a daemon's answer to whatever is asked about networks."""
    return lambda payload: reply(Command.NETWORK_OK, value)


def test_an_invitation_has_its_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    invites = {"invites": [{"network_id": 3, "inviter_id": 1, "timestamp": 0}]}
    with FakeDaemon(daemon_of(1, says(invites))) as daemon:
        monkeypatch.setenv("PILOT_SOCKET", daemon.path)
        out = run("network", "invites").out.splitlines()
    assert out[0] == "NETWORK      INVITER      TIMESTAMP"
    assert out[1].startswith("3            1            19")
    assert "pilotctl network accept" in out[3]


def test_members_as_a_table(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who have left the registry are told apart; no blank stands at the end of a line."""
    with FakeDaemon(daemon_of(1, says(MEMBERS))) as daemon:
        monkeypatch.setenv("PILOT_SOCKET", daemon.path)
        out = run("network", "members", "5").out.splitlines()
    assert out[0] == "NODE ID      HOSTNAME             VERSION      PUBLIC"
    assert [line.split() for line in out[1:]] == [
        ["1", "-", "-", "public"],
        ["2", "-", "-", "private"],
        ["3", "-", "-", "offline"],
        ["4", "-", "-", "private"],
    ]


@pytest.mark.parametrize(
    ("words", "key"), [("list", "networks"), ("members 5", "nodes"), ("invites", "invites")]
)
def test_lists_that_are_empty(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: str, key: str
) -> None:
    for nothing in ({key: None}, {key: []}, {}):
        with FakeDaemon(daemon_of(1, says(nothing))) as daemon:
            monkeypatch.setenv("PILOT_SOCKET", daemon.path)
            assert run("--json", "network", *words.split()).data[key] == []
            assert run("network", *words.split()).out.count("\n") == 1


def test_nothing_to_accept(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = error("network respond-invite: registry: request failed")
    with FakeDaemon(daemon_of(1, lambda payload: refusal)) as daemon:
        monkeypatch.setenv("PILOT_SOCKET", daemon.path)
        problem = run("--json", "network", "accept", "3").problem
    assert problem["code"] == "connection_failed"
    assert problem["message"] == (
        "network accept: network respond-invite: daemon: "
        "network respond-invite: registry: request failed"
    )
    assert daemon.received == [(Command.NETWORK, b"\x07\x00\x03\x01")]


@pytest.mark.parametrize("words", [[], ["bogus"], ["lst"]], ids=["none", "bogus", "lst"])
def test_the_group(run: Run, words: list[str]) -> None:
    problem = run("--json", "network", *words).problem
    assert problem["code"] == "invalid_argument"
    assert problem["hint"].count("policy") == 1
    assert ("did you mean 'list'" in problem["hint"]) == (words == ["lst"])


# Broadcasts.


def test_broadcast(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the address that means all; those who are there and not the sender are counted."""
    with FakeDaemon(daemon_of(4, says(MEMBERS))) as daemon:
        monkeypatch.setenv("PILOT_SOCKET", daemon.path)
        data = run("--json", "broadcast", "5", "grüße", "--port", "6000").data
        text = run("broadcast", "5", "hi").out
    assert data == {
        "network_id": 5,
        "port": 6000,
        "message": "grüße",
        "bytes": 7,
        "recipients": 2,
    }
    assert text == "sent 2 bytes to port 1000 of 2 nodes\n"
    sent = [payload for command, payload in daemon.received if command == Command.SEND_TO]
    everybody = struct.pack(">HI", 5, 0xFFFFFFFF)
    assert sent == [
        everybody + struct.pack(">H", 6000) + "grüße".encode(),
        everybody + struct.pack(">H", 1000) + b"hi",
    ]


@pytest.mark.parametrize(
    "words", [["0", "x"], ["5", ""], ["5", "x", "--port", "70000"], ["x", "y"], ["5"]]
)
def test_broadcasts_that_cannot_be_meant(run: Run, words: list[str]) -> None:
    assert run("--json", "broadcast", *words).problem["code"] == "invalid_argument"


def test_only_members_broadcast(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry may show the members to anybody; nothing is sent all the same."""
    with FakeDaemon(daemon_of(7, says(MEMBERS))) as daemon:
        monkeypatch.setenv("PILOT_SOCKET", daemon.path)
        problem = run("--json", "broadcast", "5", "x").problem
    assert problem["code"] == "connection_failed" and "join 5" in problem["hint"]
    assert Command.SEND_TO not in [command for command, _ in daemon.received]


def test_a_broadcast_that_the_daemon_refuses(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = daemon_of(4, says(MEMBERS))

    def answers(command: int, payload: bytes) -> list[Frame]:
        if command == Command.SEND_TO:
            return [error("sendto: port 1000 not allowed by network 5 policy")]
        return usual(command, payload)

    with FakeDaemon(answers) as daemon:
        monkeypatch.setenv("PILOT_SOCKET", daemon.path)
        problem = run("--json", "broadcast", "5", "x").problem
    assert problem["code"] == "connection_failed"
    assert problem["message"].endswith("daemon: sendto: port 1000 not allowed by network 5 policy")
