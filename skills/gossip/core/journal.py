"""How a replica's records lie on disk: framed, so that a torn end costs only what was torn.

A record is 4 bytes of length, 4 bytes of CRC-32 over what follows, and C{[kind, data]} as JSON.  A
snapshot is a magic word followed by records, the last of which says how many there were.

@see: the page I{Gossip}, I{Files}.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from skills.gossip.core.errors import BadMessage

MAX_RECORD = 1024 * 1024  # bytes of JSON
SNAPSHOT_MAGIC = b"PGSS\x00\x01\r\n"
_END = "end"
_FRAME = Struct(">II")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Record(NamedTuple):
    """
    One entry.

    @ivar kind: one word.
    @ivar data: any JSON value.
    """

    kind: str
    data: Any


def encode_record(kind: str, data: Any) -> bytes:
    """
    @return: one record as it is appended.

    @raise BadMessage: it is no JSON, or beyond L{MAX_RECORD}.
    """
    try:
        body = _encode([kind, data])
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadMessage(f"a record cannot be stored: {error}") from None
    if len(body) > MAX_RECORD:
        raise BadMessage("a record is too large to be stored")
    return _FRAME.pack(len(body), crc32(body)) + body


def recover(data: bytes) -> tuple[list[Record], int]:
    """
    Read what a journal holds, up to the first record that is torn or damaged.

    @return: the records, and how many bytes they take: where the file is to be cut.
    """
    return _read(data, 0)


def encode_snapshot(records: Iterable[tuple[str, Any]]) -> bytes:
    """
    @return: the contents of a snapshot file.

    @raise BadMessage: a record cannot be stored.
    """
    parts = [SNAPSHOT_MAGIC]
    parts.extend(encode_record(kind, data) for kind, data in records)
    parts.append(encode_record(_END, len(parts) - 1))
    return b"".join(parts)


def decode_snapshot(data: bytes) -> list[Record]:
    """
    Read a snapshot file, all of it or nothing.

    @raise BadMessage: it is no snapshot, or not a whole one.
    """
    if not data.startswith(SNAPSHOT_MAGIC):
        raise BadMessage("this is no snapshot of a swarm")
    records, good = _read(data, len(SNAPSHOT_MAGIC))
    if good != len(data) or not records:
        raise BadMessage("the snapshot of a swarm is damaged")
    end = records.pop()
    if end != (_END, len(records)):
        raise BadMessage("the snapshot of a swarm is not complete")
    return records


def _read(data: bytes, at: int) -> tuple[list[Record], int]:
    records: list[Record] = []
    view = memoryview(data)
    while at + _FRAME.size <= len(data):
        length, checksum = _FRAME.unpack_from(data, at)
        end = at + _FRAME.size + length
        if length > MAX_RECORD or end > len(data):
            break
        body = view[at + _FRAME.size : end]
        if crc32(body) != checksum:
            break
        try:
            record = _decode(body)
        except (ValueError, RecursionError):
            break
        if type(record) is not list or len(record) != 2 or type(record[0]) is not str:
            break
        records.append(Record(record[0], record[1]))
        at = end
    return records, at
