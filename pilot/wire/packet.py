"""The packet: a header of 34 bytes and a payload, what every tunnel frame carries.

Two views of one format: L{Packet} with L{Address} objects for people, tools and tests, and
L{decode_raw} / L{encode_raw} for the path that every segment takes.

@see: protocol notes, I{The packet}; golden vectors C{packet.json}.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError  # noqa: N812
from typing import NamedTuple

from pilot.address import Address
from pilot.errors import WireError
from pilot.wire.checksum import SHORT, crc32, crc32_short

VERSION = 1

FLAG_SYN = 1
FLAG_ACK = 2
FLAG_FIN = 4
FLAG_RST = 8

PROTO_STREAM = 1
PROTO_DATAGRAM = 2
PROTO_CONTROL = 3

HEADER_SIZE = 34  # bytes
MAX_PAYLOAD = 65535  # bytes, by the width of the length field

_VERSION_BITS = VERSION << 4
_NO_CHECKSUM = bytes(4)  # what stands in the checksum's place while it is computed

# version and flags, protocol, payload length, source network and node, destination network and
# node, source port, destination port, sequence, acknowledgement, window, checksum
_unpack_header = Struct(">BBHHIHIHHIIHI").unpack_from
# the same up to the window, addresses packed already, then room for the checksum
_pack_header = Struct(">BBH6s6sHHIIH4x").pack
_new_tuple = tuple.__new__


class Packet(NamedTuple):
    """
    One packet.

    @ivar flags: 0..15, a sum of C{FLAG_*}.
    @ivar protocol: C{PROTO_*}; any other byte is legal and ignored by receivers.
    @ivar source: sender's address.
    @ivar destination: receiver's address.
    @ivar source_port: 0..65535.
    @ivar destination_port: 0..65535.
    @ivar sequence: modulo 2**32, in bytes of the stream.
    @ivar acknowledgement: modulo 2**32, in bytes of the stream.
    @ivar window: in segments of 4096 bytes; 0 means "no limit" to a reference sender.
    @ivar payload: 0..65535 bytes.
    """

    flags: int
    protocol: int
    source: Address
    destination: Address
    source_port: int
    destination_port: int
    sequence: int
    acknowledgement: int
    window: int
    payload: bytes


class RawPacket(NamedTuple):
    """L{Packet} with the addresses taken apart, as cheap to make as a tuple."""

    flags: int
    protocol: int
    source_network: int
    source_node: int
    destination_network: int
    destination_node: int
    source_port: int
    destination_port: int
    sequence: int
    acknowledgement: int
    window: int
    payload: bytes


def encode_raw(
    flags: int,
    protocol: int,
    source6: bytes,
    destination6: bytes,
    source_port: int,
    destination_port: int,
    sequence: int,
    acknowledgement: int,
    window: int,
    payload: bytes,
) -> bytes:
    """
    Encode one packet; the hot path.

    @param flags: only the low 4 bits reach the wire.
    @param source6: packed source address, 6 bytes (see L{Address.pack}).
    @param destination6: packed destination address, 6 bytes.
    @raise WireError: a payload over 65535 bytes, or a number outside its field.
    """
    try:
        header = _pack_header(
            _VERSION_BITS | flags & 15,
            protocol,
            len(payload),
            source6,
            destination6,
            source_port,
            destination_port,
            sequence,
            acknowledgement,
            window,
        )
    except StructError as error:
        raise _not_encodable(payload, error) from None
    checksum = crc32(header)
    header = header[:30]
    if payload:
        checksum = (crc32_short if len(payload) < SHORT else crc32)(payload, checksum)
    return header + checksum.to_bytes(4, "big") + payload


def decode_raw(data: bytes) -> RawPacket:
    """
    Decode one packet and verify it; the hot path.

    @param data: the packet; bytes after its payload are ignored, as the reference does.
    @raise WireError: too short, truncated, a wrong checksum, another version; in this order.
    """
    try:
        (
            first,
            protocol,
            length,
            source_network,
            source_node,
            destination_network,
            destination_node,
            source_port,
            destination_port,
            sequence,
            acknowledgement,
            window,
            checksum,
        ) = _unpack_header(data)
    except StructError:
        raise WireError(f"packet too short: {len(data)} bytes (min {HEADER_SIZE})") from None
    payload = data[34 : 34 + length]
    if len(payload) != length:
        raise WireError(f"packet truncated: have {len(data)} bytes, need {HEADER_SIZE + length}")
    computed = crc32(data[:30] + _NO_CHECKSUM)
    if length:
        computed = (crc32_short if length < SHORT else crc32)(payload, computed)
    if computed != checksum:
        raise WireError("checksum mismatch")
    if first >> 4 != VERSION:
        raise WireError(f"unsupported protocol version {first >> 4} (expected {VERSION})")
    # tuple.__new__ skips the keyword handling of the named tuple's own constructor.
    return _new_tuple(
        RawPacket,
        (
            first & 15,
            protocol,
            source_network,
            source_node,
            destination_network,
            destination_node,
            source_port,
            destination_port,
            sequence,
            acknowledgement,
            window,
            payload,
        ),
    )


def encode_packet(packet: Packet) -> bytes:
    """
    @return: the bytes of C{packet}.
    @raise WireError: a payload over 65535 bytes, or a number outside its field.
    """
    try:
        source, destination = packet.source.pack(), packet.destination.pack()
    except StructError as error:
        raise _not_encodable(packet.payload, error) from None
    return encode_raw(
        packet.flags,
        packet.protocol,
        source,
        destination,
        packet.source_port,
        packet.destination_port,
        packet.sequence,
        packet.acknowledgement,
        packet.window,
        packet.payload,
    )


def decode_packet(data: bytes | memoryview) -> Packet:
    """
    Decode one packet and verify it.

    @raise WireError: as L{decode_raw}.
    """
    raw = decode_raw(bytes(data))
    return Packet(
        raw.flags,
        raw.protocol,
        Address(raw.source_network, raw.source_node),
        Address(raw.destination_network, raw.destination_node),
        raw.source_port,
        raw.destination_port,
        raw.sequence,
        raw.acknowledgement,
        raw.window,
        raw.payload,
    )


def _not_encodable(payload: bytes, error: StructError) -> WireError:
    if len(payload) > MAX_PAYLOAD:
        return WireError(f"payload too large: {len(payload)} bytes (max {MAX_PAYLOAD})")
    return WireError(f"packet field out of range: {error}")
