"""Data exchange (port 1001): typed frames one way, one short answer for each the other way.

A frame is four bytes of type, four bytes of length, and the payload.  The payload of a
L{FrameType.FILE} begins with two bytes of name length and the name.  Nothing in a stream of frames
is ever longer than one may want to keep in memory, except payloads: L{FrameReader} gives those in
pieces.

@see: the page I{Data exchange}; golden vectors C{frames.json}.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import NamedTuple

from pilot.errors import WireError


class FrameType(IntEnum):
    """What a frame is.  Other numbers are legal, and ignored by whoever does not know them."""

    TEXT = 1
    BINARY = 2
    JSON = 3
    FILE = 4


MAX_PAYLOAD = 16 * 1024 * 1024
"""Largest payload, in bytes, that every receiver takes.  Ours take more for a file."""

MAX_FILE_PAYLOAD = 0xFFFFFFFF
"""Largest payload, in bytes, that the length field can announce."""

MAX_NAME = 255
"""Largest file name, in bytes."""

MAX_REPLY = 64 * 1024
"""Largest answer, in bytes, that a sender has to take; ours are a line."""

HEADER_SIZE = 8

_HEADER = Struct(">II")
_NAME_LENGTH = Struct(">H")
_FORBIDDEN = (b"..", b"/", b"\\")


class Head(NamedTuple):
    """
    A frame begins.

    @ivar kind: its type, a L{FrameType} or any other number of 32 bits.
    @ivar size: bytes of content that follow; of a file those after its name.
    @ivar name: of a file its name, which may be empty; C{None} if this is no file, or a file frame
        too short for the name it announces, whose whole payload then counts as content.
    """

    kind: int
    size: int
    name: bytes | None


class Body(NamedTuple):
    """
    Some of a frame's content.  Each head has at least one, if only to say that it is complete.

    @ivar data: the next bytes, perhaps none.
    @ivar last: whether the frame is complete with them.
    """

    data: bytes
    last: bool


class Frame(NamedTuple):
    """
    A whole frame.

    @ivar kind: its type.
    @ivar payload: its content; of a file the bytes after the name.
    @ivar name: as in L{Head}.
    """

    kind: int
    payload: bytes
    name: bytes | None = None

    def encode(self) -> bytes:
        """@raise WireError: too large for the wire, or a name that receivers refuse."""
        if self.name is not None:
            return encode_file_head(self.name, len(self.payload)) + self.payload
        return encode_head(self.kind, len(self.payload)) + self.payload


class FrameReader:
    """
    One direction of a connection, read frame by frame, content in pieces.

    Bytes go in with L{feed}; L{next} takes one thing at a time out of them, so that whoever reads
    may stop for a while in the midst of many frames.  It keeps no more than it was fed.

    @param message_limit: largest payload of a frame that is no file, in bytes.
    @param file_limit: largest payload of a file frame.
    """

    __slots__ = ("_at", "_buffer", "_file_limit", "_left", "_message_limit", "broken")

    def __init__(
        self, *, message_limit: int = MAX_PAYLOAD, file_limit: int = MAX_FILE_PAYLOAD
    ) -> None:
        self._message_limit = message_limit
        self._file_limit = file_limit
        self._buffer = b""
        self._at = 0
        self._left: int | None = None  # content still to come; None between two frames
        self.broken: str | None = None
        """Why the stream cannot be followed any further; every L{next} raises it again."""

    @property
    def buffered(self) -> int:
        """Bytes fed and not yet taken."""
        return len(self._buffer) - self._at

    @property
    def between(self) -> bool:
        """Whether the stream could end here without a frame being cut off."""
        return self._left is None and not self.buffered

    def feed(self, data: bytes) -> None:
        """Add the next bytes of the stream, any number of them."""
        self._buffer = self._buffer[self._at :] + data if self.buffered else data
        self._at = 0

    def next(self) -> Head | Body | None:
        """
        @return: what comes next; C{None} when that takes more bytes.
        @raise WireError: a frame that is too long, or a file name that is refused.
        """
        if self.broken is not None:
            raise WireError(self.broken)
        if self._left is not None:
            return self._body(self._left)
        try:
            head = self._head()
        except WireError as error:
            self.broken = error.message
            raise
        if head is not None:
            self._left = head.size
        return head

    def _body(self, left: int) -> Body | None:
        available = min(left, self.buffered)
        if left and not available:
            return None
        data = self._buffer[self._at : self._at + available]
        self._at += available
        self._left = left - available or None
        return Body(data, self._left is None)

    def _head(self) -> Head | None:
        if self.buffered < HEADER_SIZE:
            return None
        kind, length = _HEADER.unpack_from(self._buffer, self._at)
        limit = self._file_limit if kind == FrameType.FILE else self._message_limit
        if length > limit:
            raise WireError(f"frame too large: {length} bytes (max {limit})")
        at = self._at + HEADER_SIZE
        if kind != FrameType.FILE or length < _NAME_LENGTH.size:
            self._at = at
            return Head(kind, length, None)
        if len(self._buffer) < at + _NAME_LENGTH.size:
            return None
        (named,) = _NAME_LENGTH.unpack_from(self._buffer, at)
        size = length - _NAME_LENGTH.size - named
        if size < 0:
            self._at = at
            return Head(kind, length, None)
        if named > MAX_NAME:
            raise WireError(f"file name too long: {named} bytes (max {MAX_NAME})")
        at += _NAME_LENGTH.size
        if len(self._buffer) < at + named:
            return None
        name = self._buffer[at : at + named]
        check_name(name)
        self._at = at + named
        return Head(kind, size, name)


class Reply(NamedTuple):
    """
    A receiver's answer to one frame.

    @ivar ok: whether it is a confirmation.
    @ivar text: the whole answer.
    @ivar reason: of a refusal the part that says why, else empty.
    """

    ok: bool
    text: str
    reason: str = ""

    @classmethod
    def parse(cls, payload: bytes) -> Reply:
        """@return: the answer; whatever does not begin with C{ACK } counts as a refusal."""
        text = payload.decode("utf-8", "replace")
        if text.startswith("ACK "):
            return cls(True, text)
        return cls(False, text, text.partition(" save failed: ")[2] or text)


def decode_frame(data: bytes) -> tuple[Frame, int]:
    """
    Read the first frame of C{data}, for whoever has all of it.

    @return: the frame, and how many bytes of C{data} follow it.
    @raise WireError: it is incomplete, too long, or has a name that is refused.
    """
    reader = FrameReader(file_limit=MAX_PAYLOAD)
    reader.feed(data)
    head = reader.next()
    if not isinstance(head, Head):
        raise WireError("truncated frame header")
    body = reader.next()
    if not isinstance(body, Body) or not body.last:
        raise WireError("truncated frame payload")
    return Frame(head.kind, body.data, head.name), reader.buffered


def encode_head(kind: int, size: int) -> bytes:
    """
    @return: what comes before the C{size} bytes of a message.
    @raise WireError: more than L{MAX_PAYLOAD}, or no type of 32 bits.
    """
    if not 0 <= kind <= 0xFFFFFFFF:
        raise WireError(f"no frame type: {kind}")
    if not 0 <= size <= MAX_PAYLOAD:
        raise WireError(f"message too large: {size} bytes (max {MAX_PAYLOAD})")
    return _HEADER.pack(kind, size)


def encode_file_head(name: bytes, size: int) -> bytes:
    """
    @return: what comes before the C{size} bytes of a file.
    @raise WireError: more than the format can announce, or a name that receivers refuse.
    """
    if len(name) > MAX_NAME:
        raise WireError(f"file name too long: {len(name)} bytes (max {MAX_NAME})")
    check_name(name)
    limit = MAX_FILE_PAYLOAD - _NAME_LENGTH.size - len(name)
    if not 0 <= size <= limit:
        raise WireError(f"file too large: {size} bytes (max {limit})")
    length = _NAME_LENGTH.size + len(name) + size
    return _HEADER.pack(FrameType.FILE, length) + _NAME_LENGTH.pack(len(name)) + name


def encode_confirmation(kind: int, size: int) -> bytes:
    """@return: the answer to a frame of C{size} bytes of content that was handled."""
    text = f"ACK {type_name(kind)} {size} bytes".encode()
    return _HEADER.pack(FrameType.TEXT, len(text)) + text


def encode_refusal(kind: int, reason: str) -> bytes:
    """@return: the answer to a frame that could not be stored."""
    text = f"ERR {type_name(kind)} save failed: {reason}".encode("utf-8", "replace")[:MAX_REPLY]
    return _HEADER.pack(FrameType.TEXT, len(text)) + text


def type_name(kind: int) -> str:
    """@return: C{TEXT}, C{BINARY}, C{JSON}, C{FILE}, or C{UNKNOWN(n)}."""
    try:
        return FrameType(kind).name
    except ValueError:
        return f"UNKNOWN({kind})"


def check_name(name: bytes) -> None:
    """@raise WireError: it has a path separator, or two dots in a row, anywhere."""
    for part in _FORBIDDEN:
        if part in name:
            raise WireError(f"invalid file name: {part.decode()} is not allowed in it")
