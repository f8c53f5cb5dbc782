"""What a datagram tells about third parties, and how every field of one is read.

@see: L{skills.presence.detection.messages} for the shapes.
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

from skills.presence.core.errors import BadMessage
from skills.presence.core.plain import is_plain

MAX_RECORD: Final = 800
"""Bytes of a status record that is carried."""
MAX_NUMBER: Final = 2**53 - 1
"""Largest incarnation or sequence: what every JSON reader keeps exact."""
MAX_NODE: Final = 2**32 - 1
"""Largest node number."""
MAX_ITEMS: Final = 64
"""Items read from one datagram."""
MAX_SPAN: Final = 1e8
"""Seconds; longer spans are read as this."""

Number = tuple[int, int]
"""(incarnation, sequence); the larger is the newer."""


class Fresh(NamedTuple):
    """A member lives: it said this number C{age} seconds ago."""

    node: int
    number: Number
    age: float


class Suspect(NamedTuple):
    """C{by} accuses a member: a probe sent C{silent} seconds ago was not answered.  It had said
    the number C{age} seconds ago."""

    node: int
    number: Number
    by: int
    silent: float
    age: float


class Gone(NamedTuple):
    """C{by} gave a member up; spans as in L{Suspect}."""

    node: int
    number: Number
    by: int
    silent: float
    age: float


class Left(NamedTuple):
    """A member left by its own word."""

    node: int
    number: Number


class Status(NamedTuple):
    """A member's status record, made C{age} seconds ago or less."""

    node: int
    number: Number
    record: dict[str, Any]
    age: float


Item = Fresh | Suspect | Gone | Left | Status


# -- writing ------


def dump(value: Any) -> str:
    """@return: compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _spans(item: Suspect | Gone) -> tuple[float, float]:
    return round(item.silent, 1), round(item.age, 1)


def write_item(item: Item) -> list[Any]:
    """@return: the item as it stands in a datagram."""
    if isinstance(item, Fresh):
        return ["f", item.node, *item.number, round(item.age, 1)]
    if isinstance(item, Suspect):
        return ["s", item.node, *item.number, item.by, *_spans(item)]
    if isinstance(item, Gone):
        return ["g", item.node, *item.number, item.by, *_spans(item)]
    if isinstance(item, Left):
        return ["l", item.node, *item.number]
    return ["r", item.record, round(item.age, 1)]


def record_size(record: dict[str, Any]) -> int:
    """@return: bytes of a record in a datagram."""
    return len(dump(record).encode("utf-8", "surrogatepass"))


def item_size(item: Item) -> int:
    """@return: bytes an item takes in a datagram, at most, its comma included."""
    if isinstance(item, Status):
        return record_size(item.record) + 18
    return len(str(item.node)) + len(str(item.number)) + 44


# -- reading ------


def read_whole(value: object, most: int = MAX_NUMBER) -> int:
    """A whole number, 0 to C{most}.  @raise BadMessage: it is none."""
    if type(value) is not int or not 0 <= value <= most:
        raise BadMessage("a number in the presence datagram is none, or out of range")
    return value


def read_node(value: object) -> int:
    """A node number.  @raise BadMessage: it is none."""
    return read_whole(value, MAX_NODE)


def read_span(value: object) -> float:
    """Seconds.  @raise BadMessage: it is no span."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise BadMessage("a span in the presence datagram is none")
    return min(value, MAX_SPAN)


def read_array(value: object, most: int) -> list[Any]:
    """An array of at most C{most}.  @raise BadMessage: it is none."""
    if not isinstance(value, (list, tuple)) or len(value) > most:
        raise BadMessage("an array in the presence datagram is none, or too long")
    return list(value)


def read_number(value: object) -> Number:
    """(incarnation, sequence).  @raise BadMessage: it is none."""
    pair = read_array(value, 2)
    if len(pair) != 2:
        raise BadMessage("a number in the presence datagram is no pair")
    return read_whole(pair[0]), read_whole(pair[1])


_LENGTHS: Final = {"f": 5, "s": 7, "g": 7, "l": 4}


def read_record(record: object) -> tuple[int, Number]:
    """
    @return: whose record it is, and its number.
    @raise BadMessage: it does not say, or is over L{MAX_RECORD} bytes.
    """
    if not isinstance(record, dict) or not is_plain(record):
        raise BadMessage("a status record is no object, or not every reader of JSON takes it")
    try:
        size = record_size(record)
    except (TypeError, ValueError, RecursionError):
        raise BadMessage("a status record is no JSON") from None
    if size > MAX_RECORD:
        raise BadMessage("a status record is too long")
    return read_node(record.get("node")), (
        read_whole(record.get("inc")),
        read_whole(record.get("seq")),
    )


def read_item(value: object) -> Item | None:
    """
    @return: an item, or C{None} for a kind of a later version.
    @raise BadMessage: it is none.
    """
    parts = read_array(value, 8)
    kind = parts[0] if parts else None
    if kind == "r" and len(parts) >= 3:
        owner, stamp = read_record(parts[1])
        return Status(owner, stamp, parts[1], read_span(parts[2]))
    if kind in ("f", "s", "g", "l") and len(parts) >= _LENGTHS[kind]:
        owner, stamp = read_node(parts[1]), (read_whole(parts[2]), read_whole(parts[3]))
        if kind == "f":
            return Fresh(owner, stamp, read_span(parts[4]))
        if kind == "l":
            return Left(owner, stamp)
        accused = Suspect if kind == "s" else Gone
        return accused(owner, stamp, read_node(parts[4]), read_span(parts[5]), read_span(parts[6]))
    if isinstance(kind, str) and kind not in ("r", "f", "s", "g", "l"):
        return None
    raise BadMessage("an item in the presence datagram is malformed")
