"""JSON frames at the speed of msgspec, with the manners of L{pilot.wire.registry}.

What msgspec refuses is given to the slower reader, which decides: it forgives what the reference
forgives (invalid UTF-8, lone surrogates) and refuses the rest.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from pilot.wire.framing import LENGTH
from pilot.wire.registry import FrameDecoder, decode_body
from pilot.wire.registry import encode_frame as encode_slowly

_encoder = msgspec.json.Encoder(order="sorted")
_decoder = msgspec.json.Decoder(dict[str, Any])
# Outside strings none of these occurs: <, >, & and the two line separators of Unicode.
_UNSAFE = re.compile(b"[<>&]|\xe2\x80[\xa8\xa9]")
_ESCAPES = {
    b"<": b"\\u003c",
    b">": b"\\u003e",
    b"&": b"\\u0026",
    b"\xe2\x80\xa8": b"\\u2028",
    b"\xe2\x80\xa9": b"\\u2029",
}


def encode_json(message: dict[str, Any]) -> bytes:
    """@return: compact JSON with sorted keys, escaped as the reference escapes."""
    try:
        body = _encoder.encode(message)
    except (msgspec.MsgspecError, ValueError, TypeError):
        return encode_slowly(message)[LENGTH.size :]
    return _UNSAFE.sub(lambda match: _ESCAPES[match.group()], body)


def encode_frame(message: dict[str, Any]) -> bytes:
    """@return: length and body."""
    body = encode_json(message)
    return LENGTH.pack(len(body)) + body


def decode_json(body: bytes) -> dict[str, Any]:
    """@raise WireError: malformed, or no object."""
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return decode_body(body)


class FastFrameDecoder(FrameDecoder):
    """The frames of one JSON connection."""

    __slots__ = ()

    def _decode(self, data: bytes, start: int, end: int, frames: list[dict[str, Any]]) -> None:
        frames.append(decode_json(data[start:end]))
