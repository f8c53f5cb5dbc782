from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot.address import Address
from pilot.errors import WireError
from pilot.wire import packet
from pilot.wire.packet import Packet, decode_packet, decode_raw, encode_packet, encode_raw
from tests.golden import golden
from tests.strategies import hostile, packets

VECTORS = golden("packet")


def from_fields(fields: dict[str, Any], payload: bytes) -> Packet:
    return Packet(
        fields["flags"],
        fields["protocol"],
        Address.parse(fields["src"]),
        Address.parse(fields["dst"]),
        fields["src_port"],
        fields["dst_port"],
        fields["seq"],
        fields["ack"],
        fields["window"],
        payload,
    )


@pytest.mark.parametrize("case", VECTORS["valid"], ids=lambda case: case["name"])
def test_golden_packets_both_ways(case: dict[str, Any]) -> None:
    value = from_fields(case["fields"], bytes.fromhex(case["fields"]["payload_hex"]))
    encoded = bytes.fromhex(case["hex"])
    assert encode_packet(value) == encoded
    assert decode_packet(encoded) == value
    assert int.from_bytes(encoded[30:34], "big") == case["checksum"]


@pytest.mark.parametrize("case", VECTORS["valid_large"], ids=lambda case: case["name"])
def test_golden_large_packets(case: dict[str, Any]) -> None:
    payload = bytes(7 * i % 256 for i in range(case["payload_length"]))
    value = from_fields(case["fields"], payload)
    encoded = encode_packet(value)
    assert len(encoded) == case["packet_length"]
    assert encoded[:64].hex() == case["first_64_bytes_hex"]
    assert hashlib.sha256(encoded).hexdigest() == case["packet_sha256"]
    assert decode_packet(encoded) == value


@pytest.mark.parametrize("case", VECTORS["invalid"], ids=lambda case: case["name"])
def test_golden_refusals_in_the_reference_order(case: dict[str, Any]) -> None:
    """The first check that fails decides, and says what the reference's log says."""
    for decode in (decode_packet, decode_raw):
        with pytest.raises(WireError) as caught:
            decode(bytes.fromhex(case["hex"]))
        assert caught.value.message == case["reference_error"]


@pytest.mark.parametrize("case", VECTORS["tolerated"], ids=lambda case: case["name"])
def test_bytes_after_the_payload_are_ignored(case: dict[str, Any]) -> None:
    value = from_fields(case["fields"], bytes.fromhex(case["fields"]["payload_hex"]))
    assert decode_packet(bytes.fromhex(case["hex"])) == value


def test_only_four_bits_of_the_flags_reach_the_wire() -> None:
    case = VECTORS["encode_flag_mask"]
    value = decode_packet(bytes.fromhex(case["hex"]))
    assert encode_packet(value._replace(flags=case["flags_given"])).hex() == case["hex"]


def test_a_payload_over_the_length_field_is_refused() -> None:
    value = decode_packet(bytes.fromhex(VECTORS["encode_flag_mask"]["hex"]))
    case = VECTORS["encode_error"]
    with pytest.raises(WireError) as caught:
        encode_packet(value._replace(payload=bytes(case["payload_length"])))
    assert caught.value.message == case["reference_error"]


@pytest.mark.parametrize(
    "change",
    [
        {"protocol": 256},
        {"source_port": 65536},
        {"destination_port": -1},
        {"sequence": 2**32},
        {"window": 65536},
        {"source": Address(65536, 0)},
        {"destination": Address(0, 2**32)},
    ],
    ids=str,
)
def test_numbers_outside_their_field_are_refused(change: dict[str, Any]) -> None:
    value = decode_packet(bytes.fromhex(VECTORS["encode_flag_mask"]["hex"]))
    with pytest.raises(WireError):
        encode_packet(value._replace(**change))


@given(packets)
def test_decoding_undoes_encoding(value: Packet) -> None:
    encoded = encode_packet(value)
    assert decode_packet(encoded) == decode_packet(memoryview(encoded)) == value


@given(packets)
def test_the_hot_path_is_the_same_format(value: Packet) -> None:
    encoded = encode_packet(value)
    raw = decode_raw(encoded)
    assert isinstance(raw, packet.RawPacket)
    assert (raw.source_network, raw.source_node) == value.source
    assert (raw.destination_network, raw.destination_node) == value.destination
    assert raw[:2] == value[:2]
    assert raw[6:] == value[4:]
    source, destination = value.source.pack(), value.destination.pack()
    assert encode_raw(value.flags, value.protocol, source, destination, *value[4:]) == encoded


@given(hostile(packets.map(encode_packet)))
def test_any_bytes_give_a_packet_or_a_wire_error(data: bytes) -> None:
    try:
        value = decode_packet(data)
    except WireError:
        return
    assert data.startswith(encode_packet(value))


@given(packets, st.data())
def test_every_flipped_bit_is_noticed(value: Packet, data: st.DataObject) -> None:
    encoded = bytearray(encode_packet(value))
    bit = data.draw(st.integers(0, 8 * len(encoded) - 1))
    encoded[bit // 8] ^= 1 << bit % 8
    with pytest.raises(WireError):
        decode_raw(bytes(encoded))


def test_the_reference_header_constants() -> None:
    assert (packet.FLAG_SYN, packet.FLAG_ACK, packet.FLAG_FIN, packet.FLAG_RST) == (1, 2, 4, 8)
    protocols = (packet.PROTO_STREAM, packet.PROTO_DATAGRAM, packet.PROTO_CONTROL)
    assert protocols == (1, 2, 3)
    assert (packet.HEADER_SIZE, packet.MAX_PAYLOAD) == (34, 65535)
