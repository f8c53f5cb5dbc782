"""The golden transcripts, replayed in order against a fresh registry."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pilot.wire.registry import encode_frame
from tests.golden import golden
from tests.registry.support import Server

Answer = dict[str, Any]

#: What differs between any two runs.
MOMENTS = {"time", "timestamp", "created", "created_at", "rotated_at", "last_seen"}
#: Lists whose order means nothing.
UNORDERED = {"networks", "beacons"}

ALREADY_IN_USE = "the id behind a name, possibly a private one, is nobody's business"
LIMITED = "what one node may give away is limited"
EVERY_BEAT = "every heartbeat is verified"
TWO_SIDES = "one side's word makes no trusted pair"
PUNCH_RULE = "a private endpoint is shown to those only who may resolve it"
DORMANT = "a node that left comes back as what it was, its networks included"
NO_TAKEOVER = "a known owner text does not give away its node"
KEY_BYTES = "a key is its bytes, however they are spelled"
KEY_TAKEN = "a key that belongs to another node cannot be rotated to"
NO_TIER_3 = "the enterprise tier is not offered"

#: Every answer that is meant to differ: session, number in its order, why, and the answer we give.
DEVIATIONS: dict[tuple[str, int], tuple[str, Answer]] = {
    ("raw-main", 60): (
        ALREADY_IN_USE,
        {"type": "error", "error": 'hostname "node-b" already in use'},
    ),
    ("raw-main", 95): (
        LIMITED,
        {"type": "error", "error": "too many polo points given (max 10000 in 86400 s)"},
    ),
    ("raw-main", 105): (
        EVERY_BEAT,
        {"type": "error", "error": "signature required for authenticated node"},
    ),
    ("raw-main", 106): (
        EVERY_BEAT,
        {
            "type": "error",
            "error": "invalid signature encoding: illegal base64 data at input byte 4",
        },
    ),
    ("raw-main", 115): (TWO_SIDES, {"type": "check_trust_ok", "trusted": False}),
    ("raw-main", 116): (TWO_SIDES, {"type": "check_trust_ok", "trusted": False}),
    ("raw-main", 117): (TWO_SIDES, {"type": "error", "error": "request failed"}),
    ("raw-main", 118): (TWO_SIDES, {"type": "error", "error": 'hostname "node-a" not found'}),
    ("raw-main", 147): (PUNCH_RULE, {"type": "error", "error": "request failed"}),
    ("raw-main", 237): (
        DORMANT,
        {
            "type": "list_nodes_ok",
            "nodes": [
                {
                    "address": "3:0003.0000.0001",
                    "hostname": "node-a",
                    "last_seen": None,
                    "node_id": 1,
                    "polo_score": 7,
                    "public": False,
                    "role": "owner",
                    "tags": ["web", "api"],
                    "task_exec": True,
                    "version": "v1.7.0",
                },
                {
                    "address": "3:0003.0000.0002",
                    "node_id": 2,
                    "offline": True,
                    "role": "member",
                },
            ],
        },
    ),
    ("raw-main", 239): (
        DORMANT,
        {
            "address": "0:0000.0000.0002",
            "hostname": "node-b",
            "networks": [0, 3],
            "node_id": 2,
            "polo_score": 0,
            "public": False,
            "public_key": "Kay64UG8yvCyLhqU000LxzYeUm0L/hLIl5S8kyKWbdc=",
            "type": "lookup_ok",
        },
    ),
    ("raw-main", 240): (
        NO_TAKEOVER,
        {
            "address": "0:0000.0000.0003",
            "network_id": 0,
            "node_id": 3,
            "observed_addr": "127.0.0.1:4200",
            "protocol_version": 1,
            "public_key": "7TI0snbUztpX1ZutFPuvWnc8DzGMmZ3jpg1TxaWzTAU=",
            "type": "register_ok",
        },
    ),
    ("raw-main", 241): (
        NO_TAKEOVER,
        {
            "address": "0:0000.0000.0001",
            "hostname": "node-a",
            "networks": [0, 1, 3],
            "node_id": 1,
            "polo_score": 7,
            "public": False,
            "public_key": "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=",
            "tags": ["web", "api"],
            "task_exec": True,
            "type": "lookup_ok",
            "version": "v1.7.0",
        },
    ),
    ("raw-main", 245): (
        KEY_BYTES,
        {
            "address": "0:0000.0000.0004",
            "network_id": 0,
            "node_id": 4,
            "observed_addr": "127.0.0.1:1",
            "protocol_version": 1,
            "public_key": "TmAIsBt05J442LETkr+szHtb/4bKIEjLsPeDYzph4t0=\n",
            "type": "register_ok",
        },
    ),
    ("raw-main", 246): (
        KEY_TAKEN,
        {"type": "error", "error": "invalid new_public_key: it belongs to another node"},
    ),
    ("raw-main", 247): (
        KEY_TAKEN,
        {
            "address": "0:0000.0000.0002",
            "network_id": 0,
            "node_id": 2,
            "observed_addr": "127.0.0.1:4100",
            "protocol_version": 1,
            "public_key": "Kay64UG8yvCyLhqU000LxzYeUm0L/hLIl5S8kyKWbdc=",
            "type": "register_ok",
        },
    ),
    ("raw-networks", 94): (
        NO_TIER_3,
        {
            "address": "0:0000.0000.0003",
            "networks": [0],
            "node_id": 3,
            "polo_score": 0,
            "public": False,
            "public_key": "bwCkEUR1UDXKknsG2zO3Jz03qVMWxzYyIr+sxOCXKk8=",
            "type": "lookup_ok",
        },
    ),
} | {
    ("raw-networks", number): (
        NO_TIER_3,
        {
            "type": "error",
            "error": f"enterprise feature: {kind} is not offered by this registry",
        },
    )
    for number, kind in (
        (85, "get_audit_log"),
        (86, "get_webhook"),
        (87, "get_webhook_dlq"),
        (88, "set_webhook"),
        (89, "get_idp_config"),
        (90, "get_audit_export"),
        (91, "get_provision_status"),
        (92, "set_external_id"),
        (93, "get_identity"),
        (95, "directory_status"),
        (96, "provision_network"),
        (97, "validate_token"),
        (98, "directory_sync"),
    )
}


def comparable(value: Any, member: str = "") -> Any:
    """Without what differs between runs; unordered lists in one order."""
    if isinstance(value, dict):
        return {k: None if k in MOMENTS else comparable(v, k) for k, v in value.items()}
    if isinstance(value, list):
        items = [comparable(item) for item in value]
        if member in UNORDERED:
            return sorted(items, key=lambda item: json.dumps(item, sort_keys=True))
        return items
    return value


@pytest.mark.parametrize("session", ["raw-main", "raw-networks"])
def test_a_session_is_answered_as_by_the_reference(session: str) -> None:
    """Each answer is the reference's, or the one listed above for a reason."""
    server = Server()
    client = server.connect()
    seen = set()
    for record in golden("registry_transcripts"):
        if record["session"] != session:
            continue
        number, request, wanted = record["seq"], record["request"], record["response"]
        if "raw_request_hex" in record and record["scenario"] == "raw_bad_frames":
            check_frame(server, record)
            continue
        if isinstance(request, str):
            continue  # tells what was done; test_connection does it
        if isinstance(request, list):
            client.send(b"".join(map(encode_frame, request)))
            assert comparable(client.answers()) == comparable(wanted), number
            continue
        seen.add((session, number))
        if (session, number) in DEVIATIONS:
            _why, ours = DEVIATIONS[session, number]
            assert comparable(ours) != comparable(wanted), (number, "no deviation")
            wanted = ours
        assert comparable(client.ask(request)) == comparable(wanted), number
    assert {key for key in DEVIATIONS if key[0] == session} <= seen


def check_frame(server: Server, record: dict[str, Any]) -> None:
    """One connection, one frame, as bytes."""
    client = server.connect()
    client.send(bytes.fromhex(record["raw_request_hex"]))
    if record["response"] is None:
        assert client.received() == b"", record["note"]
        assert client.closed, record["note"]
    else:
        assert client.answers() == [record["response"]], record["note"]
        if record["request"] != {"type": "subscribe_replication"}:
            assert not client.closed
    if "raw_response_hex" in record:
        again = server.connect()
        again.send(bytes.fromhex(record["raw_request_hex"]))
        assert again.received().hex() == record["raw_response_hex"]


def test_what_reference_daemons_do_works() -> None:
    """
    Two reference daemons through their day: every answer about trust is the reference's own.

    Only what is listed here differs, always because a node that said goodbye keeps what it was.
    """
    for session, different in (("daemons-1", DORMANT_SCENARIOS), ("daemons-2", set())):
        server = Server()
        client = server.connect()
        for record in golden("registry_transcripts"):
            request, wanted = record["request"], record["response"]
            if record["session"] != session or not isinstance(request, dict):
                continue
            answer = client.ask(request)
            if record["scenario"] in different:
                assert ("error" in answer) == ("error" in wanted), record["scenario"]
            elif record["scenario"] == "hostname" and "in use" in str(wanted):
                assert answer["error"] == 'hostname "bob-agent" already in use'
            elif record["scenario"] == "audit_log":
                assert "not offered" in answer["error"]
            else:
                assert comparable(answer) == comparable(wanted), (session, request)


DORMANT_SCENARIOS = {
    "daemon_reregisters_after_deregister",
    "restart_same_identity_graceful",
    "restart_same_identity_after_kill",
}


def test_signatures_of_the_reference_are_accepted() -> None:
    """One signed request of each type, as the reference accepted it, gets past the signature."""
    known = golden("registry_signatures")
    server = Server()
    client = server.connect()
    for name in "ABC":
        key = known["keys"][name]["public_key_b64"]
        client.ask({"type": "register", "public_key": key, "listen_addr": ":1"})
    for vector in known["vectors"]:
        answer = client.ask(vector["request"])
        assert "signature" not in answer.get("error", ""), vector["signed_text"]


def test_binary_exchanges_are_the_reference_s_byte_for_byte() -> None:
    """But for the clock, and for the heartbeat that is not verified there."""
    server = Server(admin_token="")
    json_client = server.connect()
    for request in BEFORE_BINARY:
        assert "error" not in json_client.ask(request)
    client, preamble = None, None
    for exchange in golden("registry_binary_transcripts")["exchanges"]:
        if client is None or client.closed or exchange["connection_preamble_hex"] != preamble:
            client, preamble = server.connect(), exchange["connection_preamble_hex"]
            client.send(bytes.fromhex(preamble))
        client.send(bytes.fromhex(exchange["raw_request_hex"]))
        got = client.received().hex()
        if exchange["note"].startswith("heartbeat node 1 zero signature"):
            assert bytes.fromhex(got)[7:] == b"signature verification failed"
            continue
        wanted = exchange["raw_response_hex"] or ""
        if exchange["response_type"] == "0x81" if "response_type" in exchange else False:
            got, wanted = blank_time(got), blank_time(wanted)
        assert got == wanted, exchange["note"]
        assert client.closed == ("outcome" in exchange or "then close" in exchange["note"])


def blank_time(frame: str) -> str:
    return frame[:10] + frame[26:]


BEFORE_BINARY = [
    {
        "type": "register",
        "public_key": "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=",
        "listen_addr": ":4000",
        "hostname": "node-a",
        "version": "v1.7.0",
        "lan_addrs": ["192.168.7.10:4000"],
    },
    {
        "type": "register",
        "public_key": "Kay64UG8yvCyLhqU000LxzYeUm0L/hLIl5S8kyKWbdc=",
        "listen_addr": ":4100",
    },
    *(
        record["request"]
        for record in golden("registry_transcripts")
        if record["session"] == "raw-misc" and record["scenario"] == "setup"
    ),
]
