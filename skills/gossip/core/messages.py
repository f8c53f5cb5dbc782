"""What members say to each other: JSON objects whose C{type} begins with C{gossip_}.

Every message has an C{encode} that gives the object to send, and L{decode} reads any of them.
Unknown fields are ignored.  What is decoded shares its values with the object it came from, which
is read-only from then on, and so is what C{encode} gave.

@see: the page I{Gossip}, I{Messages}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec

from skills.gossip.core import fields
from skills.gossip.core.document import look_up
from skills.gossip.core.errors import BadMessage
from skills.gossip.core.register import MAX_NODE, Register, split_key

VERSION = 2
PREFIX = "gossip_"
MAX_FRAME = 32 * 1024  # bytes of a message with state
MAX_SYN = 1000  # bytes of a syn: one segment on every known path
MAX_RECENT = 8
MAX_NEWS = 16
MAX_NODES = 64  # node ids in a shuffle

ALIVE, SUSPECT, GONE, LEFT = range(4)  # codes in liveness news


_compact = msgspec.json.Encoder().encode


class News(NamedTuple):
    """
    Liveness of a member.

    @ivar node: node id.
    @ivar inc: its incarnation.
    @ivar seq: its sequence number.
    @ivar code: L{ALIVE}, L{SUSPECT}, L{GONE} or L{LEFT}.
    """

    node: int
    inc: int
    seq: int
    code: int


class Push(NamedTuple):
    """
    C{gossip_push}: news, or the state of a sender.

    Version 1 knows only C{state}, C{version}, C{sender} and C{timestamp}.

    @ivar sender: as claimed; the authenticated peer is what counts.  C{""} if left out.
    @ivar version: grows with every push of the sender (version 2: milliseconds since 1970).
    @ivar state: live keys as a document; to a peer of version 1 all of them.
    @ivar timestamp: as it came, text or number as text; C{""} if left out.
    @ivar v: 1, or 2 if the fields below mean anything.
    @ivar swarm: its name.
    @ivar id: hex text, for logs.
    @ivar root: of the sender.
    @ivar n: registers the sender holds.
    @ivar entries: registers; their values travel in C{state} where they stand there.
    """

    sender: str
    version: int
    state: dict[str, Any]
    timestamp: str = ""
    v: int = 1
    swarm: str = ""
    id: str = ""
    root: str = ""
    n: int = 0
    entries: tuple[Register, ...] = ()

    def encode(self) -> dict[str, Any]:
        """@return: the object to send; C{timestamp} is left out when it is empty."""
        document: dict[str, Any] = {
            "type": "gossip_push",
            "version": self.version,
            "state": self.state,
            "sender": self.sender,
        }
        if self.timestamp:
            document["timestamp"] = self.timestamp
        if self.v >= VERSION:
            document["g"] = {
                "v": VERSION,
                "swarm": self.swarm,
                "id": self.id,
                "root": self.root,
                "n": self.n,
                "e": [_entry(each, self.state) for each in self.entries],
            }
        return document


class Syn(NamedTuple):
    """
    C{gossip_syn}: the beginning of an exchange.

    @ivar swarm: its name.
    @ivar x: id of the exchange, hex text; everything that belongs to it repeats it.
    @ivar sender: node id.
    @ivar inc: incarnation of the sender.
    @ivar hlc: corrected time of the sender.
    @ivar root: of the sender; under C{nonce}, if there is one.
    @ivar n: registers the sender holds.
    @ivar recent: (key hash, hlc) of what changed last, the newest first.
    @ivar news: liveness.
    @ivar nonce: 16 hex digits: compare everything under this key.
    @ivar lagging: the sender was away for so long that it does not vouch for what it holds.
    """

    swarm: str
    x: str
    sender: int
    inc: int
    hlc: str
    root: str
    n: int
    recent: tuple[tuple[str, str], ...] = ()
    news: tuple[News, ...] = ()
    nonce: str = ""
    lagging: bool = False

    def encode(self) -> dict[str, Any]:
        """@return: the object to send; news, then recent changes, give way to the hard cap."""
        document: dict[str, Any] = {
            "type": "gossip_syn",
            "v": VERSION,
            "swarm": self.swarm,
            "x": self.x,
            "sender": str(self.sender),
            "inc": self.inc,
            "hlc": self.hlc,
            "root": self.root,
            "n": self.n,
        }
        if self.nonce:
            document["nonce"] = self.nonce
        if self.lagging:
            document["lagging"] = True
        if self.recent or self.news:
            recent = [list(each) for each in self.recent[:MAX_RECENT]]
            news = [list(each) for each in self.news[:MAX_NEWS]]
            document["recent"], document["hb"] = recent, news
            while size_of(document) > MAX_SYN and (recent or news):
                (news or recent).pop()
        return document


class Ack(NamedTuple):
    """
    C{gossip_ack}: the answer to a syn.

    @ivar swarm: its name.
    @ivar x: the exchange.
    @ivar hlc: corrected time of the sender.
    @ivar root: of the sender; under the syn's C{nonce}, if it had one.
    @ivar n: registers the sender holds.
    @ivar same: the roots are equal; nothing below is set.
    @ivar entries: registers that the syn's list showed to be missing at its sender.
    @ivar want: key hashes of registers that the syn's list showed to be missing here; two digits
        stand for a whole bucket.
    @ivar buckets: the sums of the sender (L{skills.gossip.core.digest.Digest.pack}), or C{""}.
    """

    swarm: str
    x: str
    hlc: str
    root: str
    n: int
    same: bool = False
    entries: tuple[Register, ...] = ()
    want: tuple[str, ...] = ()
    buckets: str = ""

    def encode(self) -> dict[str, Any]:
        """@return: the object to send, without what is empty."""
        document: dict[str, Any] = {
            "type": "gossip_ack",
            "v": VERSION,
            "swarm": self.swarm,
            "x": self.x,
            "hlc": self.hlc,
            "root": self.root,
            "n": self.n,
        }
        if self.same:
            document["same"] = True
        if self.entries:
            document["e"] = [each.to_list() for each in self.entries]
        if self.want:
            document["want"] = list(self.want)
        if self.buckets:
            document["b"] = self.buckets
        return document


class Delta(NamedTuple):
    """
    C{gossip_delta}: registers, and wishes.

    @ivar swarm: its name.
    @ivar x: the exchange.
    @ivar entries: registers.
    @ivar want: key hashes of registers wished for; two digits stand for a whole bucket.
    @ivar have: (key hash, hlc) of what the sender holds in the buckets that differ, so that values
        travel only where they are missing.
    @ivar cursor: where the sender will go on, in its own words; up to 64 of C{0-9a-z:}.
    @ivar done: its sender sends no more registers in this exchange, unless they are wished for.
    """

    swarm: str
    x: str
    entries: tuple[Register, ...] = ()
    want: tuple[str, ...] = ()
    have: tuple[tuple[str, str], ...] = ()
    cursor: str = ""
    done: bool = False

    def encode(self) -> dict[str, Any]:
        """@return: the object to send, without what is empty.  L{pack} keeps it in a frame."""
        document: dict[str, Any] = {
            "type": "gossip_delta",
            "v": VERSION,
            "swarm": self.swarm,
            "x": self.x,
        }
        if self.entries:
            document["e"] = [each.to_list() for each in self.entries]
        if self.want:
            document["want"] = list(self.want)
        if self.have:
            document["have"] = [list(each) for each in self.have]
        if self.cursor:
            document["cursor"] = self.cursor
        document["done"] = self.done
        return document


class Nack(NamedTuple):
    """
    C{gossip_nack}: something was refused.

    @ivar swarm: its name.
    @ivar reason: one word: a quota, C{"future"}, C{"owner"}, C{"signature"}, C{"rate"}...
    @ivar keys: hashes of the keys it is about, perhaps not all of them.
    @ivar number: how many registers or messages it is about.
    @ivar x: the exchange, or C{""}.
    """

    swarm: str
    reason: str
    keys: tuple[str, ...] = ()
    number: int = 1
    x: str = ""

    def encode(self) -> dict[str, Any]:
        """@return: the object to send."""
        document: dict[str, Any] = {
            "type": "gossip_nack",
            "v": VERSION,
            "swarm": self.swarm,
            "reason": self.reason,
            "count": self.number,
        }
        if self.keys:
            document["keys"] = list(self.keys)
        if self.x:
            document["x"] = self.x
        return document


class Leave(NamedTuple):
    """
    C{gossip_leave}: the sender, or the member it speaks of, goes on purpose.

    @ivar swarm: its name.
    @ivar sender: node id of who leaves.
    @ivar inc: its incarnation.
    @ivar seq: its sequence number.
    """

    swarm: str
    sender: int
    inc: int
    seq: int = 0

    def encode(self) -> dict[str, Any]:
        """@return: the object to send."""
        return {
            "type": "gossip_leave",
            "v": VERSION,
            "swarm": self.swarm,
            "sender": str(self.sender),
            "inc": self.inc,
            "seq": self.seq,
        }


class Shuffle(NamedTuple):
    """
    C{gossip_shuffle}: members of a large swarm tell each other of members.

    @ivar swarm: its name.
    @ivar x: id of the question; the answer repeats it.
    @ivar nodes: node ids of members.
    @ivar ask: C{"sample"} wants a sample back, C{"join"} asks to be a neighbour, C{"accept"} and
        C{"drop"} answer that or end it, C{""} is an answer that wants nothing.
    """

    swarm: str
    x: str
    nodes: tuple[int, ...] = ()
    ask: str = ""

    def encode(self) -> dict[str, Any]:
        """@return: the object to send."""
        document: dict[str, Any] = {
            "type": "gossip_shuffle",
            "v": VERSION,
            "swarm": self.swarm,
            "x": self.x,
            "nodes": list(self.nodes),
        }
        if self.ask:
            document["ask"] = self.ask
        return document


ASKS = frozenset({"", "sample", "join", "accept", "drop"})

Message = Push | Syn | Ack | Delta | Nack | Leave | Shuffle


def decode(document: object) -> Message:
    """
    Read any message.

    @param document: what the JSON of a frame held; read, never changed.
    @raise BadMessage: it is no message, of no known type, or malformed in any part.
    """
    if type(document) is not dict:
        raise BadMessage("a message is not an object")
    kind = document.get("type")
    reader = _READERS.get(kind) if type(kind) is str else None
    if reader is None:
        raise BadMessage("a message of an unknown type")
    return reader(document)


def size_of(document: object) -> int:
    """@return: bytes of a JSON value, compact and in UTF-8."""
    return len(_compact(document))


def pack(
    registers: Iterable[Register], room: int, *, count: int = fields.MAX_ENTRIES
) -> tuple[list[Register], list[Register]]:
    """
    Fill a frame.

    @param registers: in the order in which they should go.
    @param room: bytes left for them; L{MAX_FRAME} minus the size of the message without them.
    @return: those that fit, and the others; the order is kept in both.
    """
    taken: list[Register] = []
    left: list[Register] = []
    for register in registers:
        if left or len(taken) >= count or register.size + 1 > room:
            left.append(register)
        else:
            room -= register.size + 1  # and a comma
            taken.append(register)
    return taken, left


def _entry(register: Register, state: dict[str, Any]) -> list[Any]:
    """
    A register in a push, without its value if a reader finds that in the state.

    The short form is told from the full one by its third element, which is a number.
    """
    parts = register.to_list()
    value = register.value
    if not register.deleted and value is not None:
        found = look_up(state, split_key(register.key))
        # By identity: True == 1 == 1.0, and an object in the state may have been grown by others.
        if found is value or (type(found) is type(value) and found == value and _simple(value)):
            del parts[1]
    return parts


def _simple(value: object) -> bool:
    return type(value) in (str, int, bool)


def _push(document: dict[str, Any]) -> Push:
    state = document.get("state")
    if type(state) is not dict:
        raise BadMessage("the state of a push is not an object")
    sender = fields.text_or_number(document.get("sender", ""), "sender")
    version = fields.version_number(document.get("version"))
    timestamp = fields.text_or_number(document.get("timestamp", ""), "timestamp")
    extra = document.get("g")
    if type(extra) is not dict or type(extra.get("v")) is not int or extra["v"] < VERSION:
        return Push(sender, version, state, timestamp)
    return Push(
        sender,
        version,
        state,
        timestamp,
        VERSION,
        fields.matched(extra, "swarm", fields.SWARM),
        fields.matched(extra, "id", fields.EXCHANGE),
        fields.matched(extra, "root", fields.HEX16),
        fields.number(extra, "n"),
        tuple(_pushed(each, state) for each in fields.items(extra, "e", fields.MAX_ENTRIES)),
    )


def _pushed(parts: object, state: dict[str, Any]) -> Register:
    if type(parts) is list and 4 <= len(parts) <= 5 and type(parts[2]) is int:
        key = parts[0]
        if type(key) is not str or len(key) > MAX_FRAME:
            raise BadMessage("the key of an entry is no text")
        value = look_up(state, split_key(key), _ABSENT)
        if value is _ABSENT:
            raise BadMessage("the value of an entry is not in the state")
        return Register.make(key, value, *parts[1:])
    return Register.from_list(parts)


_ABSENT = object()


def _syn(document: dict[str, Any]) -> Syn:
    _current(document)
    news = []
    for each in fields.items(document, "hb", MAX_NEWS):
        if type(each) is not list or len(each) != 4:
            raise BadMessage("liveness news is not a list of 4 numbers")
        node, inc, seq, code = map(fields.natural, each)
        if node > MAX_NODE or code > LEFT:
            raise BadMessage("liveness news is out of range")
        news.append(News(node, inc, seq, code))
    return Syn(
        fields.matched(document, "swarm", fields.SWARM),
        fields.matched(document, "x", fields.EXCHANGE),
        fields.node_id(document, "sender"),
        fields.number(document, "inc"),
        fields.matched(document, "hlc", fields.HEX16),
        fields.matched(document, "root", fields.HEX16),
        fields.number(document, "n"),
        fields.pairs(document, "recent", MAX_RECENT),
        tuple(news),
        fields.optional(document, "nonce", fields.HEX16),
        fields.flag(document, "lagging"),
    )


def _ack(document: dict[str, Any]) -> Ack:
    _current(document)
    return Ack(
        fields.matched(document, "swarm", fields.SWARM),
        fields.matched(document, "x", fields.EXCHANGE),
        fields.matched(document, "hlc", fields.HEX16),
        fields.matched(document, "root", fields.HEX16),
        fields.number(document, "n"),
        fields.flag(document, "same"),
        fields.registers(document),
        fields.names(document, "want", fields.WANT),
        fields.optional(document, "b", fields.PACKED_BUCKETS),
    )


def _delta(document: dict[str, Any]) -> Delta:
    _current(document)
    return Delta(
        fields.matched(document, "swarm", fields.SWARM),
        fields.matched(document, "x", fields.EXCHANGE),
        fields.registers(document),
        fields.names(document, "want", fields.WANT),
        fields.pairs(document, "have", fields.MAX_NAMES),
        fields.optional(document, "cursor", fields.CURSOR),
        fields.flag(document, "done"),
    )


def _nack(document: dict[str, Any]) -> Nack:
    _current(document)
    return Nack(
        fields.matched(document, "swarm", fields.SWARM),
        fields.matched(document, "reason", fields.REASON),
        fields.names(document, "keys", fields.HEX16),
        fields.natural(document.get("count", 1)),
        fields.optional(document, "x", fields.EXCHANGE),
    )


def _leave(document: dict[str, Any]) -> Leave:
    _current(document)
    return Leave(
        fields.matched(document, "swarm", fields.SWARM),
        fields.node_id(document, "sender"),
        fields.number(document, "inc"),
        fields.natural(document.get("seq", 0)),
    )


def _shuffle(document: dict[str, Any]) -> Shuffle:
    _current(document)
    ask = document.get("ask", "")
    if type(ask) is not str or ask not in ASKS:
        raise BadMessage('"ask" of a message has an unknown value')
    nodes = tuple(map(fields.natural, fields.items(document, "nodes", MAX_NODES)))
    if nodes and max(nodes) > MAX_NODE:
        raise BadMessage('"nodes" of a message holds something else than node ids')
    swarm = fields.matched(document, "swarm", fields.SWARM)
    return Shuffle(swarm, fields.matched(document, "x", fields.EXCHANGE), nodes, ask)


_READERS: dict[str, Callable[[dict[str, Any]], Message]] = {
    "gossip_push": _push,
    "gossip_syn": _syn,
    "gossip_ack": _ack,
    "gossip_delta": _delta,
    "gossip_nack": _nack,
    "gossip_leave": _leave,
    "gossip_shuffle": _shuffle,
}


def _current(document: dict[str, Any]) -> None:
    version = document.get("v")
    if type(version) is not int or version < VERSION:
        raise BadMessage("a message of a version that has no such message")
