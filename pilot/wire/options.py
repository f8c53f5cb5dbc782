"""The options of the modern stream: the offer in a SYN, the block in front of later payloads.

Towards peers that do not know it the offer is invisible: the reference ignores the payload of a
SYN.

@see: protocol notes, I{The modern dialect}.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from pilot.errors import WireError

MAGIC = b"TXPM"
VERSION = 1

#: Most payload bytes that a packet of any kind can hold beside the block.
MAX_SEGMENT = 65_000
MAX_SCALE = 14
#: Ranges in one block.
MAX_BLOCKS = 32

# Bits of a block's first byte.  A set bit that is not listed makes the packet undecodable.
TIMES = 0x01
RANGES = 0x02
QUESTION = 0x04
EXTRA = 0x80

#: Bytes of a block that holds times only: what data and plain acknowledgements carry.
PLAIN_SIZE = 9

_TYPE_MAX_SEGMENT = 1
_TYPE_WINDOW_SCALE = 2
_TYPE_WINDOW = 3
_TYPE_TIMESTAMP = 4
_TYPE_ECHO = 5
_TYPE_ACK_DELAY = 6

pack_times = Struct(">BII").pack  # first byte, value, echo
unpack_times = Struct(">II").unpack_from  # at offset 1

_offer_fields = {
    _TYPE_MAX_SEGMENT: 2,
    _TYPE_WINDOW_SCALE: 1,
    _TYPE_WINDOW: 4,
    _TYPE_TIMESTAMP: 4,
    _TYPE_ECHO: 4,
    _TYPE_ACK_DELAY: 2,
}
_ranges = tuple(Struct(f">{2 * count}I") for count in range(MAX_BLOCKS + 1))


class Offer(NamedTuple):
    """
    What one end says of itself in its SYN or SYN-ACK.

    @ivar max_segment: largest piece of data it takes in one packet, bytes.
    @ivar scale: its window fields count units of C{2**scale} bytes.
    @ivar window: what it takes before its first acknowledgement, bytes.
    @ivar timestamp: its clock, microseconds modulo 2**32, from an arbitrary start.
    @ivar echo: the other's timestamp plus the time it was held; 0 in a SYN.
    @ivar ack_delay: how long it may hold an acknowledgement back, milliseconds.
    """

    max_segment: int
    scale: int
    window: int
    timestamp: int
    echo: int
    ack_delay: int


class Block(NamedTuple):
    """
    What begins the payload of a modern packet.

    @ivar value: timestamp of the sender.
    @ivar echo: timestamp it answers plus the time it was held; 0 for none.
    @ivar ranges: selectively acknowledged ranges, first byte and byte after the last.
    @ivar question: the sender asks for an acknowledgement.
    @ivar size: bytes of the block; the data follows.
    """

    value: int
    echo: int
    ranges: tuple[tuple[int, int], ...]
    question: bool
    size: int


def encode_offer(offer: Offer) -> bytes:
    """@return: the payload of a SYN or SYN-ACK."""
    values = (
        offer.max_segment,
        offer.scale,
        offer.window,
        offer.timestamp,
        offer.echo,
        offer.ack_delay,
    )
    parts = [MAGIC, bytes([VERSION])]
    for (kind, size), value in zip(_offer_fields.items(), values, strict=True):
        parts.append(bytes([kind, size]) + value.to_bytes(size, "big"))
    return b"".join(parts)


def decode_offer(payload: bytes) -> Offer | None:
    """
    @return: the offer, or None when C{payload} is none that can be understood: no magic, version
        0, a cut or repeated field, a field missing or with an impossible value.  A SYN with such a
        payload is a classic one.
    """
    if payload[:4] != MAGIC or len(payload) < 5 or payload[4] < 1:
        return None
    found: dict[int, int] = {}
    position = 5
    while position < len(payload):
        body = payload[position + 2 :]
        if len(payload) < position + 2 or len(body) < payload[position + 1]:
            return None
        kind, size = payload[position], payload[position + 1]
        if kind in _offer_fields:
            if size != _offer_fields[kind] or kind in found:
                return None
            found[kind] = int.from_bytes(body[:size], "big")
        position += 2 + size
    if len(found) != len(_offer_fields):
        return None
    offer = Offer(*(found[kind] for kind in _offer_fields))
    if not 1 <= offer.max_segment <= MAX_SEGMENT or offer.scale > MAX_SCALE:
        return None
    return offer


def encode_block(
    value: int, echo: int, ranges: list[tuple[int, int]] | tuple[()] = (), question: bool = False
) -> bytes:
    """@return: a block; at most L{MAX_BLOCKS} ranges."""
    first = TIMES | (RANGES if ranges else 0) | (QUESTION if question else 0)
    block = pack_times(first, value, echo)
    if ranges:
        edges = [edge for pair in ranges for edge in pair]
        block += bytes([len(ranges)]) + _ranges[len(ranges)].pack(*edges)
    return block


def decode_block(payload: bytes) -> Block:
    """
    @raise WireError: cut short, a bit set that has no meaning, or too many ranges.
    """
    if not payload:
        raise WireError("modern packet without a block")
    first = payload[0]
    if first & ~(TIMES | RANGES | QUESTION | EXTRA) or not first & TIMES:
        raise WireError(f"modern block of unknown form {first:#04x}")
    position = PLAIN_SIZE
    if len(payload) < position:
        raise WireError("modern block cut short")
    value, echo = unpack_times(payload, 1)
    ranges: tuple[tuple[int, int], ...] = ()
    if first & RANGES:
        if len(payload) <= position:
            raise WireError("modern block cut short")
        count = payload[position]
        position += 1
        if count > MAX_BLOCKS or len(payload) < position + 8 * count:
            raise WireError(f"modern block with {count} ranges")
        edges = _ranges[count].unpack_from(payload, position)
        ranges = tuple(zip(edges[::2], edges[1::2], strict=True))
        position += 8 * count
    if first & EXTRA:
        # Room for what later versions may have to say; the fields themselves are skipped.
        if len(payload) < position + 2:
            raise WireError("modern block cut short")
        position += 2 + int.from_bytes(payload[position : position + 2], "big")
        if len(payload) < position:
            raise WireError("modern block cut short")
    return Block(value, echo, ranges, bool(first & QUESTION), position)
