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

    ITEM: ["f",NODE,inc,seq,age]          alive with that number, said AGE seconds ago
          ["s",NODE,inc,seq,BY,silent]    BY accuses it: a probe sent SILENT seconds ago failed
          ["g",NODE,inc,seq,BY,silent]    BY gave it up
          ["l",NODE,inc,seq]              it left; nothing follows in this incarnation
          ["r",RECORD,age]                its status record (with "node", "inc" and "seq" inside)

@see: the page I{Presence}.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

MAX_DATAGRAM: Final = 1000
"""Bytes of a datagram we make: one packet on every path known."""
MAX_ACCEPTED: Final = 2000
"""Bytes of a datagram we still read."""
MAX_RECORD: Final = 800
"""Bytes of a status record that is carried."""
MAX_NUMBER: Final = 2**53 - 1
"""Largest incarnation or sequence: what every JSON reader keeps exact."""
MAX_ITEMS: Final = 64
"""Items read from one datagram."""
MAX_SPAN: Final = 1e8
"""Seconds; longer spans are read as this."""
BUCKETS: Final = 64
SUM_BYTES: Final = 6

Number = tuple[int, int]
"""(incarnation, sequence); the larger is the newer."""


class Fresh(NamedTuple):
    """A member lives: it said this number C{age} seconds ago."""

    node: int
    number: Number
    age: float


class Suspect(NamedTuple):
    """C{by} accuses a member: a probe sent C{silent} seconds ago was not answered."""

    node: int
    number: Number
    by: int
    silent: float


class Gone(NamedTuple):
    """C{by} gave a member up, which has been silent for C{silent} seconds."""

    node: int
    number: Number
    by: int
    silent: float


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


def encode(message: Message) -> bytes:
    """@return: the datagram."""
    raise NotImplementedError


def decode(data: bytes | str | dict[str, Any]) -> Message:
    """
    Read a datagram, or the object in it.
    @raise BadMessage: it is no presence message; any bytes give a message or this.
    """
    raise NotImplementedError
