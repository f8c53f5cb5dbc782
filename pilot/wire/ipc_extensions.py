"""Commands that our control socket understands beyond the reference's, and their payloads.

All of them are 0x40 or above, where the reference answers C{unknown command}: a client opens with
L{Extension.HELLO} and knows by the answer what it is talking to.  A daemon uses them only towards
a client that has said it.

@see: the reference page I{Control socket extensions}.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from struct import error as StructError  # noqa: N812
from typing import NamedTuple

from pilot.address import Address
from pilot.errors import WireError
from pilot.wire.eventstream import Event, EventDecoder
from pilot.wire.ipc import decode_text, encode_text

VERSION = 1
"""The version of this page; a higher one may only add commands and flags."""

WANTS_DATAGRAMS = 0x01
"""Flag of L{Hello}: push the node's datagrams to this client too."""


class Extension(IntEnum):
    """The command byte."""

    HELLO = 0x40
    HELLO_OK = 0x41
    CLOSED = 0x42
    ABORT = 0x43
    FINISH = 0x44
    PAUSE = 0x45
    RESUME = 0x46
    UNBIND = 0x47
    UNBIND_OK = 0x48
    TASK = 0x50
    TASK_OK = 0x51
    NODE = 0x60
    NODE_OK = 0x61
    CLAIMED = 0x62
    VERDICT = 0x63
    EVENT = 0x64


class CloseReason(IntEnum):
    """How a stream ended."""

    CLEAN = 0
    RESET = 1
    TIMEOUT = 2
    ABORTED = 3


class Hello(NamedTuple):
    """
    L{Extension.HELLO}.

    @ivar version: the highest version the client speaks.
    @ivar flags: what the client wants.
    """

    version: int = VERSION
    flags: int = 0

    def encode(self) -> bytes:
        """@return: the payload."""
        return bytes((self.version, self.flags))

    @classmethod
    def decode(cls, payload: bytes) -> Hello:
        """@raise WireError: too short, or version 0."""
        if len(payload) < 2 or not payload[0]:
            raise WireError("hello: missing version or flags")
        return cls(payload[0], payload[1])


class HelloOk(NamedTuple):
    """
    L{Extension.HELLO_OK}.

    @ivar version: the version that both use.
    @ivar flags: what the client wanted and will get.
    @ivar address: the node's own; all zero before it is registered.
    """

    version: int
    flags: int
    address: Address

    def encode(self) -> bytes:
        """@return: the payload."""
        return bytes((self.version, self.flags)) + self.address.pack()

    @classmethod
    def decode(cls, payload: bytes) -> HelloOk:
        """@raise WireError: too short, or version 0."""
        version, flags = Hello.decode(payload)
        return cls(version, flags, Address.unpack(payload[2:8]))


_CLOSED = Struct(">IB")


class Closed(NamedTuple):
    """
    L{Extension.CLOSED}.

    @ivar conn_id: the daemon's number of a stream.
    @ivar reason: a L{CloseReason}; what is unknown counts as a reset.
    @ivar text: the reason in words; may be empty.
    """

    conn_id: int
    reason: CloseReason
    text: str

    def encode(self) -> bytes:
        """@return: the payload."""
        return _CLOSED.pack(self.conn_id, self.reason) + encode_text(self.text)

    @classmethod
    def decode(cls, payload: bytes) -> Closed:
        """@raise WireError: too short."""
        try:
            conn_id, reason = _CLOSED.unpack_from(payload)
        except StructError:
            raise WireError("closed: too short") from None
        known = CloseReason(reason) if reason <= CloseReason.ABORTED else CloseReason.RESET
        return cls(conn_id, known, decode_text(payload[_CLOSED.size :]))


_CLAIMED = Struct(">I6s")
_VERDICT = Struct(">IB")
_ADDRESS_SIZE = 6


class Claimed(NamedTuple):
    """
    L{Extension.CLAIMED}.

    @ivar number: of the message; the L{Verdict} names it.
    @ivar source: who sent it.
    @ivar content: the message, a JSON object.
    """

    number: int
    source: Address
    content: bytes

    def encode(self) -> bytes:
        """@return: the payload."""
        return _CLAIMED.pack(self.number, self.source.pack()) + self.content

    @classmethod
    def decode(cls, payload: bytes) -> Claimed:
        """@raise WireError: too short."""
        try:
            number, source = _CLAIMED.unpack_from(payload)
        except StructError:
            raise WireError("claimed: too short") from None
        return cls(number, Address.unpack(source), payload[_CLAIMED.size :])


class Verdict(NamedTuple):
    """
    L{Extension.VERDICT}.

    @ivar number: of the message.
    @ivar taken: whether the client has taken it; if not, it goes to the inbox.
    """

    number: int
    taken: bool

    def encode(self) -> bytes:
        """@return: the payload."""
        return _VERDICT.pack(self.number, self.taken)

    @classmethod
    def decode(cls, payload: bytes) -> Verdict:
        """@raise WireError: too short."""
        try:
            number, taken = _VERDICT.unpack_from(payload)
        except StructError:
            raise WireError("verdict: too short") from None
        return cls(number, taken == 1)


class WatchedEvent(NamedTuple):
    """
    L{Extension.EVENT}.

    @ivar source: who published it.
    @ivar event: topic and payload, as they travel between nodes.
    """

    source: Address
    event: Event

    def encode(self) -> bytes:
        """@return: the payload."""
        return self.source.pack() + self.event.frame

    @classmethod
    def decode(cls, payload: bytes) -> WatchedEvent:
        """@raise WireError: too short, or not one whole event."""
        source = Address.unpack(payload[:_ADDRESS_SIZE])
        decoder = EventDecoder()
        events = decoder.feed(payload[_ADDRESS_SIZE:])
        if len(events) != 1 or decoder.buffered:
            raise WireError("event: not one whole event")
        return cls(source, events[0])
