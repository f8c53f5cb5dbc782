"""A status record: what an agent says of itself.

Version 1 is what the shell loop of the skill's page publishes; version 2 is the same object and
more behind it, so that readers of version 1 read both::

    {"hostname":"myagent","status":"online","timestamp":"2026-04-08T10:00:00Z","v":2,"node":45981,
     "addr":"0:0000.0000.B39D","inc":1775642400,"seq":7,"ttl":75,"since":1775642100,"load":20,
     "slots":3,"tags":["gpu"],"reason":"","sig":"BASE64"}

C{ttl} is the lease in seconds; C{since} is when the status began, by the owner's clock, and read
only against the owner's own C{timestamp}.  Unknown fields are kept and ignored.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from skills.presence.core.errors import BadRecord
from skills.presence.core.ordering import MAX_NUMBER, Number
from skills.presence.core.plain import is_plain
from skills.presence.core.status import STATUSES

MAX_RECORD: Final = 1000
"""Bytes of a record on the wire: one packet on every path known."""
MAX_OWN: Final = 800
"""Bytes of a record we make, which must fit beside other news in a datagram."""
MAX_TAGS: Final = 16
MAX_TAG: Final = 32
MAX_HOSTNAME: Final = 253
MAX_REASON: Final = 200
MAX_SLOTS: Final = 65_535
DEFAULT_TTL: Final = 75.0
"""Lease of a record that does not say, seconds: the page's loop sleeps 30."""
MIN_TTL: Final = 5.0
MAX_TTL: Final = 3600.0
MAX_SPAN: Final = 1e8
"""Seconds; longer spans are read as this."""

_TAG_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


@dataclass(frozen=True, slots=True)
class StatusRecord:
    """
    A record as read.

    @ivar node: whose it is, C{None} in version 1: whoever published it.
    @ivar number: (incarnation, sequence), C{None} in version 1.
    @ivar lasted: seconds the status lasted already when the record was made.
    @ivar document: the whole object; read only.
    @ivar signature: 64 bytes, or empty.
    """

    hostname: str
    status: str
    node: int | None = None
    number: Number | None = None
    address: str = ""
    ttl: float = DEFAULT_TTL
    lasted: float = 0.0
    load: int | None = None
    slots: int | None = None
    tags: tuple[str, ...] = ()
    reason: str = ""
    signature: bytes = b""
    document: dict[str, Any] = field(default_factory=dict)


# -- reading -----------------------------------------------------------------------------------


def parse(payload: bytes | str | dict[str, Any]) -> StatusRecord:
    """
    @param payload: what was published, or the object in it.
    @raise BadRecord: it is no record; whatever the payload, nothing else is raised.
    """
    document = payload if isinstance(payload, dict) else _load(payload)
    if not is_plain(document):
        raise BadRecord("the record holds what not every reader of JSON takes")
    hostname = _text(document, "hostname", MAX_HOSTNAME)
    status = document.get("status")
    if not isinstance(status, str) or status not in STATUSES:
        raise BadRecord("the status of a record is none of online, busy, away and offline")
    if document.get("v") is None or document.get("v") == 1:
        if not hostname:
            raise BadRecord("a record of version 1 must name its agent")
        return StatusRecord(hostname, status, document=document)
    _whole(document, "v", 2**31)  # later versions only add fields
    node = _whole(document, "node", 2**32 - 1)
    number = _whole(document, "inc", MAX_NUMBER), _whole(document, "seq", MAX_NUMBER)
    if not number[0]:
        raise BadRecord("a record's incarnation is 0")
    return StatusRecord(
        hostname,
        status,
        node,
        number,
        _text(document, "addr", 32),
        min(max(_span(document, "ttl", DEFAULT_TTL), MIN_TTL), MAX_TTL),
        _lasted(document),
        _optional(document, "load", 100),
        _optional(document, "slots", MAX_SLOTS),
        _tags(document),
        _text(document, "reason", MAX_REASON),
        _signature(document),
        document,
    )


def signing_bytes(document: dict[str, Any]) -> bytes:
    """
    @return: what the owner signs: the object without C{sig}, keys sorted, no blanks, in UTF-8.
    """
    unsigned = {key: value for key, value in document.items() if key != "sig"}
    text = json.dumps(unsigned, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def _load(payload: bytes | str) -> dict[str, Any]:
    if len(payload) > MAX_RECORD:
        raise BadRecord("the record is too long")
    try:
        document = json.loads(payload, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise BadRecord("the record is no JSON") from None
    if not isinstance(document, dict):
        raise BadRecord("the record is no JSON object")
    return document


def _no_number(_: str) -> float:
    raise ValueError


def _text(document: dict[str, Any], name: str, most: int) -> str:
    value = document.get(name, "")
    if not isinstance(value, str) or len(value) > most or not value.isprintable():
        # Not printable are control characters, which would reach a terminal, and half characters.
        raise BadRecord(f"the {name} of a record is no text, or too long")
    return value


def _whole(document: dict[str, Any], name: str, most: int) -> int:
    value = document.get(name)
    if type(value) is not int or not 0 <= value <= most:
        raise BadRecord(f"the {name} of a record is no number, or out of range")
    return value


def _optional(document: dict[str, Any], name: str, most: int) -> int | None:
    return None if document.get(name) is None else _whole(document, name, most)


def _span(document: dict[str, Any], name: str, default: float) -> float:
    value = document.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise BadRecord(f"the {name} of a record is no span")
    return float(min(value, MAX_SPAN))


def _lasted(document: dict[str, Any]) -> float:
    since, made = document.get("since"), document.get("timestamp")
    if type(since) is not int or not isinstance(made, str) or len(made) > 40:
        return 0.0
    try:
        moment = datetime.fromisoformat(made)
        unix = moment.timestamp() if moment.tzinfo is not None else 0.0
    except (ValueError, OverflowError):
        return 0.0
    return min(max(0.0, unix - min(max(since, 0), MAX_NUMBER)), MAX_SPAN)


def is_tag(value: object) -> bool:
    """@return: whether this may be a tag: 1 to 32 of a-z, 0-9 and the hyphen."""
    return isinstance(value, str) and 0 < len(value) <= MAX_TAG and _TAG_LETTERS.issuperset(value)


def _tags(document: dict[str, Any]) -> tuple[str, ...]:
    tags = document.get("tags", [])
    if not isinstance(tags, (list, tuple)) or len(tags) > MAX_TAGS or not all(map(is_tag, tags)):
        raise BadRecord("the tags of a record are none, or too many")
    return tuple(dict.fromkeys(tags))


def _signature(document: dict[str, Any]) -> bytes:
    text = document.get("sig", "")
    if text == "":
        return b""
    try:
        signature = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        signature = b""
    if len(signature) != 64:
        raise BadRecord("the signature of a record is none")
    return signature


# -- writing -----------------------------------------------------------------------------------


def dump(document: dict[str, Any]) -> bytes:
    """@return: the record as it is published."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def time_text(unix: float) -> str:
    """@return: C{2026-04-08T10:00:00Z}."""
    try:
        return datetime.fromtimestamp(int(unix), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):  # a clock beyond all calendars
        return "1970-01-01T00:00:00Z"


def compose(
    hostname: str,
    status: str,
    unix: float,
    node: int,
    number: Number,
    *,
    address: str = "",
    ttl: float = DEFAULT_TTL,
    since: float = 0.0,
    load: int | None = None,
    slots: int | None = None,
    tags: tuple[str, ...] = (),
    reason: str = "",
    room: int = MAX_OWN,
) -> dict[str, Any]:
    """
    Make a record of our own, the fields of version 1 first.

    @param since: unix time at which the status began.
    @param room: bytes it may take.  The reason, then the last tags are left out to fit.
    """
    document: dict[str, Any] = {
        "hostname": hostname,
        "status": status,
        "timestamp": time_text(unix),
        "v": 2,
        "node": node,
        "addr": address,
        "inc": number[0],
        "seq": number[1],
        "ttl": int(ttl) if ttl == int(ttl) else ttl,
        "since": max(0, int(since)),
    }
    if load is not None:
        document["load"] = load
    if slots is not None:
        document["slots"] = slots
    if tags:
        document["tags"] = list(tags[:MAX_TAGS])
    if reason:
        document["reason"] = reason
    while len(dump(document)) > room:
        if document.pop("reason", None) is None:
            if not document.get("tags"):
                break
            document["tags"].pop()
    return document


def with_signature(document: dict[str, Any], signature: bytes) -> dict[str, Any]:
    """@return: the record, signed."""
    return {**document, "sig": base64.b64encode(signature).decode("ascii")}


SIGNATURE_ROOM: Final = 97
"""Bytes a signature adds to a record."""
