"""The datagrams of presence: JSON objects of at most 1,000 bytes.

Each message carries its sender's number (incarnation, sequence), so each is evidence of life.
What is told about third parties are I{items}: small arrays that fit onto probes and answers.
Durations (C{age}, C{silent}) are seconds by the teller's own clock: spans travel, times do not.

::

    {"v":1,"k":"probe","n":[inc,seq],"x":7,"news":[ITEM...]}
    {"v":1,"k":"ack","n":[..],"x":7,"of":NODE,"s":[inc,seq],"news":[..]}     s: the number of NODE
    {"v":1,"k":"ask","n":[..],"x":7,"of":NODE,"s":[inc,seq],"news":[..]}     probe NODE for me
    {"v":1,"k":"nack","n":[..],"x":7,"of":NODE,"s":[inc,seq],"age":SECONDS,"able":true,"news":[..]}
    {"v":1,"k":"news","n":[..],"news":[..]}
    {"v":1,"k":"digest","n":[..],"x":7,"sums":BASE64}                        64 sums of 6 bytes
    {"v":1,"k":"list","n":[..],"x":7,"b":[BUCKET..],"at":NODE,"upto":NODE,"e":[[NODE,inc,seq,version]..]}
    {"v":1,"k":"delta","n":[..],"x":7,"news":[..],"want":[NODE..]}

    ITEM: ["f",NODE,inc,seq,age]             alive: it said that number AGE seconds ago
          ["s",NODE,inc,seq,BY,silent,age]   BY accuses it: a probe sent SILENT seconds ago failed
          ["g",NODE,inc,seq,BY,silent,age]   BY gave it up
          ["l",NODE,inc,seq]                 it left; nothing follows in this incarnation
          ["r",RECORD,age]                   its status record ("node", "inc" and "seq" inside)

@see: the page I{Presence}.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from skills.presence.core.errors import BadMessage
from skills.presence.detection.items import (
    MAX_ITEMS,
    Item,
    Number,
    dump,
    read_array,
    read_item,
    read_node,
    read_number,
    read_span,
    read_whole,
    write_item,
)

MAX_DATAGRAM: Final = 1000
"""Bytes of a datagram we make: one packet on every path known."""
MAX_ACCEPTED: Final = 2000
"""Bytes of a datagram we still read."""
BUCKETS: Final = 64
SUM_BYTES: Final = 6


class Probe(NamedTuple):
    """Are you there?  Answered with L{Ack} by everybody."""

    number: Number
    exchange: int
    news: tuple[Item, ...] = ()


class Ack(NamedTuple):
    """C{of} is there with number C{seen}: the sender itself, or whom it was asked to probe."""

    number: Number
    exchange: int
    of: int
    seen: Number
    news: tuple[Item, ...] = ()


class ProbeRequest(NamedTuple):
    """Please probe C{of} for me; C{seen} is the last number I know."""

    number: Number
    exchange: int
    of: int
    seen: Number
    news: tuple[Item, ...] = ()


class Nack(NamedTuple):
    """C{of} did not answer me either; I last know C{seen}, C{age} seconds old.  C{able} is
    false when I do not probe it at all."""

    number: Number
    exchange: int
    of: int
    seen: Number
    age: float
    able: bool
    news: tuple[Item, ...] = ()


class News(NamedTuple):
    """Items, fresh from the press."""

    number: Number
    news: tuple[Item, ...] = ()


class Digest(NamedTuple):
    """Sums over everybody the sender believes alive, by bucket; opens a repair."""

    number: Number
    exchange: int
    sums: tuple[int, ...]


class Listing(NamedTuple):
    """
    Everybody alive in C{buckets} with C{after} < node <= C{upto}: (node, number, version of the
    record).  A bucket that does not fit comes in several listings.
    """

    number: Number
    exchange: int
    buckets: tuple[int, ...]
    after: int
    upto: int
    entries: tuple[tuple[int, Number, int], ...]


class Delta(NamedTuple):
    """What the other end lacks, and of whom the sender wants to know more."""

    number: Number
    exchange: int
    news: tuple[Item, ...]
    want: tuple[int, ...] = ()


Message = Probe | Ack | ProbeRequest | Nack | News | Digest | Listing | Delta


# -- writing -----------------------------------------------------------------------------------


def encode(message: Message) -> bytes:
    """@return: the datagram."""
    document: dict[str, Any] = {"v": 1, "k": _KINDS[type(message)], "n": message.number}
    if not isinstance(message, News):
        document["x"] = message.exchange
    if isinstance(message, (Ack, ProbeRequest, Nack)):
        document["of"], document["s"] = message.of, message.seen
    if isinstance(message, Nack):
        document["age"], document["able"] = round(message.age, 1), message.able
    if isinstance(message, Digest):
        sums = b"".join(each.to_bytes(SUM_BYTES, "big") for each in message.sums)
        document["sums"] = base64.b64encode(sums).decode()
    elif isinstance(message, Listing):
        document["b"], document["at"], document["upto"] = (
            message.buckets,
            message.after,
            message.upto,
        )
        document["e"] = [[node, *number, version] for node, number, version in message.entries]
    elif message.news:
        document["news"] = [write_item(item) for item in message.news]
    if isinstance(message, Delta) and message.want:
        document["want"] = message.want
    return dump(document).encode("utf-8", "surrogatepass")


# -- reading -----------------------------------------------------------------------------------


def decode(data: bytes | str | dict[str, Any]) -> Message:
    """
    Read a datagram, or the object in it.
    @raise BadMessage: it is no presence message; any bytes give a message or this.
    """
    if not isinstance(data, dict):
        if len(data) > MAX_ACCEPTED:
            raise BadMessage("the presence datagram is too long")
        try:
            data = json.loads(data)
        except (ValueError, RecursionError):
            raise BadMessage("the presence datagram is no JSON") from None
        if not isinstance(data, dict):
            raise BadMessage("the presence datagram is no JSON object")
    if data.get("v") != 1:
        raise BadMessage("the presence datagram is of an unknown version")
    kind = data.get("k")
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise BadMessage("the presence datagram is of an unknown kind")
    return reader(data, read_number(data.get("n")))


def _news(data: dict[str, Any]) -> tuple[Item, ...]:
    items = [read_item(value) for value in read_array(data.get("news", []), MAX_ITEMS)]
    return tuple(item for item in items if item is not None)


def _exchange(data: dict[str, Any]) -> int:
    return read_whole(data.get("x"))


def _about(data: dict[str, Any]) -> tuple[int, Number]:
    return read_node(data.get("of")), read_number(data.get("s"))


def _read_digest(data: dict[str, Any], number: Number) -> Message:
    text = data.get("sums")
    try:
        sums = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        sums = b""
    if len(sums) != BUCKETS * SUM_BYTES:
        raise BadMessage("the sums of a digest are malformed")
    cut = (sums[at : at + SUM_BYTES] for at in range(0, len(sums), SUM_BYTES))
    return Digest(number, _exchange(data), tuple(int.from_bytes(each, "big") for each in cut))


def _read_listing(data: dict[str, Any], number: Number) -> Message:
    buckets = tuple(read_whole(value, BUCKETS - 1) for value in read_array(data.get("b"), BUCKETS))
    entries = []
    for value in read_array(data.get("e"), MAX_ITEMS):
        parts = read_array(value, 4)
        if len(parts) != 4:
            raise BadMessage("an entry of a listing is malformed")
        pair = (read_whole(parts[1]), read_whole(parts[2]))
        entries.append((read_node(parts[0]), pair, read_whole(parts[3])))
    after, upto = read_whole(data.get("at")), read_node(data.get("upto"))
    return Listing(number, _exchange(data), buckets, after, upto, tuple(entries))


def _read_delta(data: dict[str, Any], number: Number) -> Message:
    want = tuple(read_node(value) for value in read_array(data.get("want", []), MAX_ITEMS))
    return Delta(number, _exchange(data), _news(data), want)


def _read_nack(data: dict[str, Any], number: Number) -> Message:
    age, able = read_span(data.get("age")), data.get("able") is True
    return Nack(number, _exchange(data), *_about(data), age, able, _news(data))


_KINDS: Final[dict[type[Message], str]] = {
    Probe: "probe",
    Ack: "ack",
    ProbeRequest: "ask",
    Nack: "nack",
    News: "news",
    Digest: "digest",
    Listing: "list",
    Delta: "delta",
}

_READERS: Final[dict[str, Callable[[dict[str, Any], Number], Message]]] = {
    "probe": lambda data, number: Probe(number, _exchange(data), _news(data)),
    "ack": lambda data, number: Ack(number, _exchange(data), *_about(data), _news(data)),
    "ask": lambda data, number: ProbeRequest(number, _exchange(data), *_about(data), _news(data)),
    "nack": _read_nack,
    "news": lambda data, number: News(number, _news(data)),
    "digest": _read_digest,
    "list": _read_listing,
    "delta": _read_delta,
}
