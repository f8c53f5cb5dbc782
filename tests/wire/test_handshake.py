from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given

from pilot.errors import WireError
from pilot.wire.handshake import (
    MAX_MESSAGE,
    REQUEST,
    TYPES,
    HandshakeMessage,
    decode_handshake,
    signed_text,
)
from tests.golden import golden
from tests.strategies import handshake_messages, hostile

SIGNATURES = golden("trust_signatures")
CASES = golden("trust_transcripts")["receiver_cases"]["cases"]
EMPTY = HandshakeMessage("", 0, "", "", "", "", 0)


@pytest.mark.parametrize("case", SIGNATURES["messages"], ids=lambda case: case["name"])
def test_golden_messages_both_ways(case: dict[str, Any]) -> None:
    """A U+FFFD written as an escape stands for a byte that was no UTF-8 in the sender's text."""
    encoded = bytes.fromhex(case["hex"])
    message = decode_handshake(encoded)
    if b"\\ufffd" in encoded:
        text = message.justification.replace("\ufffd", "\udcff")
        message = message._replace(justification=text)
    assert message.encode() == encoded == case["json_text"].encode("utf-8")
    assert hashlib.sha256(message.encode()).hexdigest() == case["replay_hash_sha256"]
    assert message.type in TYPES


def test_signed_texts() -> None:
    for case in SIGNATURES["messages"]:
        sender, receiver = map(int, case["signed_text"].split(":")[1:])
        assert signed_text(sender, receiver) == case["signed_text"].encode("ascii")
    assert signed_text(4294967295, 0) == b"handshake:4294967295:0"


REFUSED_HERE = {
    "timestamp as string",
    "timestamp with fraction",
    "timestamp as 1.0-style integer",
    "node_id -1",
    "node_id 4294967296",
    'node_id "79"',
    "node_id 79.0",
    "trailing garbage",
    "two documents in one segment",
    "JSON null",
    "JSON array",
    "not JSON",
}


def message_of_94(justification: str) -> str:
    """The long messages, of which the recording holds only the length."""
    message = HandshakeMessage(REQUEST, 94, "", justification, "", "", 1795171633)
    return message.encode().decode("utf-8")


@pytest.mark.parametrize(
    "case", [case for case in CASES if len(case["segments"]) == 1], ids=lambda case: case["name"]
)
def test_recorded_segments_are_read_as_by_the_reference(case: dict[str, Any]) -> None:
    """What the reference acted upon is read; what it could not parse is refused."""
    text = case["payload_utf8"]
    if text.endswith("bytes>"):
        length = 3000 if "3000" in case["name"] else 5000
        text = message_of_94("j" * length)
    if case["name"] in REFUSED_HERE or len(text) > MAX_MESSAGE:
        assert case["effect"] == "none"
        with pytest.raises(WireError):
            decode_handshake(text.encode("utf-8"))
        return
    message = decode_handshake(text.encode("utf-8"))
    if case["effect"] != "none":
        (nodes,) = case["effect"].values()
        assert [message.node_id] == nodes
    for record in case.get("pending_record", []):
        if "characters)" not in record["justification"]:
            assert message.justification == record["justification"]
        assert message.public_key == record["public_key"]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("{}", EMPTY),
        (' {"TyPe":"a","Node_ID":1} ', EMPTY._replace(type="a", node_id=1)),
        ('{"type":"a","TYPE":"b","type":"c"}', EMPTY._replace(type="c")),
        ('{"type":"a","type":null}', EMPTY._replace(type="a")),
        ('{"node_id":null,"timestamp":-1}', EMPTY._replace(timestamp=-1)),
        ('{"\u017fignature":"s"}', EMPTY._replace(signature="s")),
        ('{"public_\u212aey":"k"}', EMPTY._replace(public_key="k")),
        ('{"rea\ufb06on":"s","nodeid":7,"":1,"type ":"x"}', EMPTY),
        ('{"other":{"type":"x","node_id":[{}]}}', EMPTY),
        ('{"reason":"\\ud800"}', EMPTY._replace(reason="\ufffd")),
    ],
)
def test_lenience(document: str, expected: HandshakeMessage) -> None:
    assert decode_handshake(document.encode("utf-8")) == expected


@pytest.mark.parametrize(
    "document",
    [
        "",
        "{",
        '"x"',
        "true",
        "7",
        '{"type":1}',
        '{"type":1,"type":"a"}',
        '{"type":{}}',
        '{"reason":[]}',
        '{"node_id":true}',
        '{"node_id":1e0}',
        '{"timestamp":9223372036854775808}',
        '{"timestamp":NaN}',
        '{"other":NaN}',
        '{"other":' + "[" * 1000 + "]" * 1000 + "}",
        "\ufeff{}",
    ],
)
def test_strictness(document: str) -> None:
    with pytest.raises(WireError):
        decode_handshake(document.encode("utf-8"))


def test_the_longest_document() -> None:
    """One segment of a reference peer; what is longer would reach it in two and be dropped."""
    document = EMPTY.encode().ljust(MAX_MESSAGE)
    assert decode_handshake(document) == EMPTY
    with pytest.raises(WireError, match="too long"):
        decode_handshake(document + b" ")


def test_fields_stand_in_the_order_of_the_reference() -> None:
    assert list(json.loads(EMPTY.encode())) == list(HandshakeMessage._fields)


@given(handshake_messages)
def test_decoding_undoes_encoding(message: HandshakeMessage) -> None:
    assert decode_handshake(message.encode()) == message


@given(hostile(handshake_messages.map(HandshakeMessage.encode)))
def test_any_bytes_give_a_message_or_a_wire_error(data: bytes) -> None:
    try:
        message = decode_handshake(data)
    except WireError:
        return
    assert 0 <= message.node_id < 2**32
    assert json.loads(message.encode()) == message._asdict()
