"""What a coordinator tells those who watch its directory.

::

    {"type":"presence_watch","v":1,"x":NONCE,"epoch":"9f31c2aa","version":17}
        what have you got beyond that version?  epoch "" and version 0: everything.
    {"type":"presence_delta","v":1,"x":NONCE,"epoch":"9f31c2aa","from":17,"version":21,
     "agents":250,"more":false,"entries":[ENTRY..],"removed":[NODE..]}

    ENTRY: {"n":NODE,"k":[inc,seq],"s":STATUS,"w":REACH,"a":AGE,"d":LASTED,"c":CAUSE,"r":RECORD}

Deltas form a chain: each begins where the one before it ended, and the snapshot for a newcomer is
nothing but the chain from 0 on.  A gap shows itself as a C{from} beyond what one has; then one
asks anew.  AGE and LASTED are seconds by the coordinator's clock: since the last sign of life, and
since the status began.  The coordinator answers every C{presence_watch}, if only to say that
nothing is new; C{more} asks for the next one at once.
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

from skills.presence.core.entry import Entry
from skills.presence.core.errors import BadMessage, BadRecord
from skills.presence.core.history import UNKNOWN
from skills.presence.core.lifecycle import STALE
from skills.presence.core.ordering import MAX_NUMBER, Number
from skills.presence.core.record import MAX_SPAN, StatusRecord, parse
from skills.presence.core.status import STATUSES
from skills.presence.detection.reach import FRESH, GONE, SUSPECT

WATCH: Final = "presence_watch"
DELTA: Final = "presence_delta"
MOST: Final = 32
"""Entries in one delta: 40 KiB when every record is of the largest size."""
MAX_NODE: Final = 2**32 - 1


class Ask(NamedTuple):
    """Somebody watches, and has seen that much."""

    nonce: int
    epoch: str
    version: int


class Told(NamedTuple):
    """One entry as a coordinator sees it.  C{age} and C{lasted} in seconds."""

    node: int
    number: Number
    status: str
    reach: str
    age: float
    lasted: float
    cause: str
    record: StatusRecord


class Delta(NamedTuple):
    """A link of the chain."""

    nonce: int
    epoch: str
    since: int
    version: int
    agents: int
    more: bool
    entries: tuple[Told, ...]
    removed: tuple[int, ...]
    broken: int


# -- writing -----------------------------------------------------------------------------------


def write_ask(ask: Ask) -> dict[str, Any]:
    """@return: the document."""
    return {"type": WATCH, "v": 1, "x": ask.nonce, "epoch": ask.epoch, "version": ask.version}


def write_entry(entry: Entry, now: float) -> dict[str, Any]:
    """@return: an entry as it stands in a delta."""
    return {**_standing(entry, now), "r": json.loads(entry.record)}


def entry_text(entry: Entry, now: float) -> str:
    """@return: the same as JSON; its record is not taken apart for that."""
    head = json.dumps(_standing(entry, now), separators=(",", ":"))
    return f'{head[:-1]},"r":{entry.record.decode("utf-8", "surrogatepass")}}}'


def _standing(entry: Entry, now: float) -> dict[str, Any]:
    return {
        "n": entry.node,
        "k": entry.number,
        "s": entry.status,
        "w": entry.reach,
        "a": 0.0 if entry.own else round(now - entry.heard, 1),
        "d": round(now - entry.since, 1),
        "c": entry.history.last_cause() if entry.history is not None else UNKNOWN,
    }


# -- reading -----------------------------------------------------------------------------------


def _whole(value: object, most: int = MAX_NUMBER) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise BadMessage("a number in the presence message is none, or out of range")
    return value


def _span(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise BadMessage("a span in the presence message is none")
    return float(min(value, MAX_SPAN))


def _epoch(document: dict[str, Any]) -> str:
    epoch = document.get("epoch")
    if not isinstance(epoch, str) or len(epoch) > 32:
        raise BadMessage("the epoch of the presence message is no text")
    return epoch


def read_ask(document: dict[str, Any]) -> Ask:
    """@raise BadMessage: it is none."""
    return Ask(_whole(document.get("x")), _epoch(document), _whole(document.get("version")))


def read_entry(value: object) -> Told:
    """@raise BadMessage: it is none.  @raise BadRecord: the record in it is none."""
    if not isinstance(value, dict):
        raise BadMessage("an entry of the presence message is no object")
    number, record = value.get("k"), value.get("r")
    status, reach, cause = value.get("s"), value.get("w"), value.get("c")
    if not isinstance(number, (list, tuple)) or len(number) != 2 or not isinstance(record, dict):
        raise BadMessage("an entry of the presence message is malformed")
    if status not in STATUSES or reach not in (FRESH, SUSPECT, GONE, STALE):
        raise BadMessage("the status in an entry of the presence message is none")
    read = parse(record)
    node = _whole(value.get("n"), MAX_NODE)
    if read.node is not None and read.node != node:
        raise BadMessage("an entry of the presence message is of two nodes")
    return Told(
        node,
        (_whole(number[0]), _whole(number[1])),
        status,
        reach,
        _span(value.get("a")),
        _span(value.get("d")),
        cause if isinstance(cause, str) and len(cause) <= 32 else UNKNOWN,
        read,
    )


def read_delta(document: dict[str, Any]) -> Delta:
    """
    @return: with the entries that make sense; C{broken} counts the others.
    @raise BadMessage: it is none.
    """
    entries, removed = document.get("entries", []), document.get("removed", [])
    if not isinstance(entries, (list, tuple)) or not isinstance(removed, (list, tuple)):
        raise BadMessage("the entries of the presence message are no array")
    if len(entries) + len(removed) > 4 * MOST:
        raise BadMessage("the presence message is too long")
    told, broken = [], 0
    for each in entries:
        try:
            told.append(read_entry(each))
        except (BadMessage, BadRecord):
            broken += 1
    since, version = _whole(document.get("from")), _whole(document.get("version"))
    if since > version:
        raise BadMessage("the presence message goes backwards")
    return Delta(
        _whole(document.get("x")),
        _epoch(document),
        since,
        version,
        _whole(document.get("agents", 0)),
        document.get("more") is True,
        tuple(told),
        tuple(_whole(node, MAX_NODE) for node in removed),
        broken,
    )
