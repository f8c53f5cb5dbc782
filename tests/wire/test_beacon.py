from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from pilot.errors import WireError
from pilot.wire.beacon import (
    Discover,
    DiscoverReply,
    Message,
    PunchCommand,
    PunchRequest,
    Relay,
    RelayDeliver,
    Sync,
    decode_message,
    is_message,
)
from pilot.wire.tunnel import AuthenticatedKeyExchange, decode_frame
from tests.golden import golden
from tests.strategies import beacon_messages, hostile

VECTORS = golden("beacon")
EXAMPLES = {case["name"]: bytes.fromhex(case["hex"]) for case in VECTORS["messages"]}
OTHER = 0xF2910004


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("discover", Discover(7)),
        ("discover_reply", DiscoverReply("203.0.113.5", 4000)),
        ("discover_reply_ipv6", DiscoverReply("2001:db8::1", 4000)),
        ("punch_request", PunchRequest(7, OTHER)),
        ("punch_command", PunchCommand("203.0.113.5", 4000)),
        ("relay", Relay(7, OTHER, EXAMPLES["relay"][9:])),
        ("relay_deliver", RelayDeliver(7, EXAMPLES["relay_deliver"][5:])),
        ("sync", Sync(11, (7, OTHER))),
    ],
)
def test_golden_messages_both_ways(name: str, message: Message) -> None:
    assert message.encode() == EXAMPLES[name]
    assert decode_message(EXAMPLES[name]) == message
    assert is_message(EXAMPLES[name])


def test_every_type_has_its_example() -> None:
    assert {data[0] for data in EXAMPLES.values()} == set(range(1, 8))


def test_relayed_frames_are_frames() -> None:
    wrapped = golden("tunnel")["beacon_wrapped"]
    for text in wrapped.values():
        message = decode_message(bytes.fromhex(text))
        assert isinstance(message, Relay | RelayDeliver)
        assert isinstance(decode_frame(message.frame), AuthenticatedKeyExchange)
        assert message.encode().hex() == text


IGNORED = ["one byte short", "not for a beacon", "shorter than its count"]


@pytest.mark.parametrize("step", VECTORS["transcript"], ids=lambda step: step["what"][:60])
def test_the_transcript_is_read_as_the_reference_read_it(step: dict[str, Any]) -> None:
    data = bytes.fromhex(step["in_hex"])
    if data[0] in (2, 4, 6):
        # Well-formed or not, a beacon has no use for these: they go the other way.
        return
    if any(words in step["what"] for words in IGNORED):
        with pytest.raises(WireError):
            decode_message(data)
    else:
        assert data.startswith(decode_message(data).encode())
    for text in step["to_A_hex"] + step["to_B_hex"]:
        assert decode_message(bytes.fromhex(text)).encode().hex() == text


def test_recorded_ipv6_messages() -> None:
    for step in VECTORS["ipv6"]:
        for name in ("out_hex", "to_ipv6_client_hex", "to_ipv4_client_hex"):
            for text in step.get(name, []):
                assert decode_message(bytes.fromhex(text)).encode().hex() == text


def test_gossip_as_the_reference_emits_it() -> None:
    assert Sync(11, (7,)).encode().hex() == VECTORS["gossip_emitted"]["hex"]


def test_ipv4_travels_as_ipv4() -> None:
    """On a dual-stack socket an IPv4 peer shows up as a mapped address; the wire never says so."""
    assert DiscoverReply("::ffff:127.0.0.1", 1).encode() == DiscoverReply("127.0.0.1", 1).encode()
    mapped = b"\x02\x10" + bytes(10) + b"\xff\xff\x7f\0\0\1" + b"\0\1"
    assert decode_message(mapped) == DiscoverReply("127.0.0.1", 1)


def test_an_interface_name_does_not_travel() -> None:
    assert decode_message(PunchCommand("fe80::1%eth0", 9).encode()) == PunchCommand("fe80::1", 9)


@pytest.mark.parametrize(
    "data",
    [
        "",
        "00",
        "08010203",
        "0f",
        "50494c50",
        "02",
        "0204",
        "02047f000001",
        "02047f00000100",
        "02057f000001000000",
        "0200",
        "02ff" + "00" * 300,
        "0410" + "00" * 17,
        "06000000",
        "070000000b00",
    ],
)
def test_what_is_no_message(data: str) -> None:
    with pytest.raises(WireError):
        decode_message(bytes.fromhex(data))


@pytest.mark.parametrize(
    "message",
    [
        Discover(2**32),
        DiscoverReply("localhost", 1),
        DiscoverReply("", 1),
        PunchCommand("127.0.0.1", 65536),
        PunchRequest(-1, 0),
        Relay(0, 2**32, b""),
        RelayDeliver(-1, b""),
        Sync(0, tuple(range(65536))),
        Sync(0, (2**32,)),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_fits_no_message(message: Message) -> None:
    with pytest.raises(WireError):
        message.encode()


@given(beacon_messages)
def test_decoding_undoes_encoding(message: Message) -> None:
    assert decode_message(message.encode()) == message
    assert decode_message(memoryview(message.encode())) == message


@given(hostile(beacon_messages.map(lambda message: message.encode())))
def test_any_bytes_give_a_message_or_a_wire_error(data: bytes) -> None:
    try:
        message = decode_message(data)
    except WireError:
        return
    assert decode_message(message.encode()) == message
    assert is_message(data)
