"""Selective acknowledgement of the classic stream: a list of blocks as the payload of an ACK.

There is no flag that tells such a list from data; L{decode_sack} decides by content as the
reference does, and a stream that can judge the blocks must do so as well.

@see: protocol notes, I{Selective acknowledgement}; golden vectors C{sack.json}.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from struct import error as StructError  # noqa: N812

from pilot.errors import WireError

MAGIC = b"SACK"
MAX_BLOCKS = 4

_LAYOUTS = tuple(Struct(f">4sB{2 * count}I") for count in range(MAX_BLOCKS + 1))


def encode_sack(blocks: Sequence[tuple[int, int]]) -> bytes:
    """
    @param blocks: (first byte, byte after the last) of each block, modulo 2**32; the first 4 count.
    @return: the payload; empty when there is no block.
    @raise WireError: a number outside 32 bits.
    """
    if not blocks:
        return b""
    edges = [edge for block in blocks[:MAX_BLOCKS] for edge in block]
    count = len(edges) // 2
    try:
        return _LAYOUTS[count].pack(MAGIC, count, *edges)
    except StructError as error:
        raise WireError(f"no SACK block: {error}") from None


def decode_sack(payload: bytes) -> tuple[tuple[int, int], ...] | None:
    """
    @return: the blocks, 1 to 4, or C{None} when C{payload} is data.  Surplus bytes are ignored; who
        is strict compares C{len(payload)} with C{5 + 8 * len(blocks)}.
    """
    if payload[:4] != MAGIC or len(payload) < 13:
        return None
    count = payload[4]
    if not 1 <= count <= MAX_BLOCKS or len(payload) < 5 + 8 * count:
        return None
    edges = _LAYOUTS[count].unpack_from(payload)[2:]
    return tuple(zip(edges[::2], edges[1::2], strict=True))
