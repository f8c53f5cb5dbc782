"""The control socket's frames, without what they hold: length, command byte, payload.

Apart from L{pilot.wire.ipc}, whose payloads they carry, for the sake of programs that live for
milliseconds: nothing here needs C{typing} or addresses at run time.

@see: protocol notes, I{Local IPC protocol}, I{Framing} and I{Command table}.
"""

from __future__ import annotations

from enum import IntEnum

from pilot.errors import WireError
from pilot.wire.framing import LENGTH, LengthPrefixedDecoder
from pilot.wire.jsontext import dump

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_FRAME = 1048576
"""Largest length a frame may announce, in bytes: one of command, the rest payload."""

MAX_SEND_DATA = MAX_FRAME - 5
"""Most bytes of data in one L{Command.SEND} or L{Command.RECV}."""

ERROR_CODE = 1
"""The only code that error frames carry."""


class Command(IntEnum):
    """The command byte.  Requests are odd and their replies follow, but for the first dozen."""

    BIND = 0x01
    BIND_OK = 0x02
    DIAL = 0x03
    DIAL_OK = 0x04
    ACCEPT = 0x05
    SEND = 0x06
    RECV = 0x07
    CLOSE = 0x08
    CLOSE_OK = 0x09
    ERROR = 0x0A
    SEND_TO = 0x0B
    RECV_FROM = 0x0C
    INFO = 0x0D
    INFO_OK = 0x0E
    HANDSHAKE = 0x0F
    HANDSHAKE_OK = 0x10
    RESOLVE_HOSTNAME = 0x11
    RESOLVE_HOSTNAME_OK = 0x12
    SET_HOSTNAME = 0x13
    SET_HOSTNAME_OK = 0x14
    SET_VISIBILITY = 0x15
    SET_VISIBILITY_OK = 0x16
    DEREGISTER = 0x17
    DEREGISTER_OK = 0x18
    SET_TAGS = 0x19
    SET_TAGS_OK = 0x1A
    SET_WEBHOOK = 0x1B
    SET_WEBHOOK_OK = 0x1C
    SET_TASK_EXEC = 0x1D
    SET_TASK_EXEC_OK = 0x1E
    NETWORK = 0x1F
    NETWORK_OK = 0x20
    HEALTH = 0x21
    HEALTH_OK = 0x22
    MANAGED = 0x23
    MANAGED_OK = 0x24


def encode_frame(command: int, payload: bytes = b"") -> bytes:
    """
    @param command: a L{Command}, or any other byte.
    @return: the whole frame.
    @raise WireError: a frame longer than L{MAX_FRAME}, over which the receiver would hang up.
    """
    length = 1 + len(payload)
    if length > MAX_FRAME:
        raise WireError(f"message too large: {length} bytes (max {MAX_FRAME})")
    return LENGTH.pack(length) + bytes((command,)) + payload


class FrameDecoder(LengthPrefixedDecoder[tuple[int, bytes]]):
    """
    The frames of one connection, either direction, as (command byte, payload); empty ones left out.

    C{feed(data)} raises L{pilot.wire.framing.FramingError}, a L{WireError}, at a length above
    L{MAX_FRAME}: close the connection, without an answer.
    """

    __slots__ = ()

    limit = MAX_FRAME

    def _decode(self, data: bytes, start: int, end: int, frames: list[tuple[int, bytes]]) -> None:
        if start != end:
            frames.append((data[start], data[start + 1 : end]))


def encode_json(value: Any) -> bytes:
    """
    The payload of a JSON reply.

    @return: compact UTF-8, members sorted by name, C{<}, C{>}, C{&}, U+2028 and U+2029 as escapes.
    @raise WireError: a value that JSON cannot express.
    """
    return dump(value)
